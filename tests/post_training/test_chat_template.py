"""A template is read, and shown to write role and content of every turn, before any row is rendered."""

import pytest

from pipeline.errors import InputError
from post_training.chat import ChatEncoder
from post_training.chat_template import CheckedTemplate, read_template
from post_training.policy import PolicyConfig, load_policy
from post_training.rows import Conversation
from tests.post_training import toy

HASHES = "{% for m in messages %}{{ '### ' + m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
TOOLS = (
    "{% if tools %}{% for t in tools %}{{ t.function.name }} {% endfor %}{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% if m.tool_calls %}{% for c in m.tool_calls %}{{ c.function.name }}{{ c.function.arguments | tojson }}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
)


def checked(template: str) -> CheckedTemplate:
    tokenizer = toy.tokenizer()
    tokenizer.chat_template = template
    return CheckedTemplate(tokenizer)


def test_a_template_is_jinja_or_a_file_and_nothing_else(tmp_path, start):
    file = tmp_path / "chat.jinja"
    file.write_text(HASHES)
    assert read_template(str(file)) == HASHES == read_template(HASHES)
    assert read_template(None) is None
    _, tokenizer, _ = load_policy(PolicyConfig(name=str(start)), str(file))
    assert tokenizer.chat_template == HASHES
    (tmp_path / "empty.jinja").write_text("chatml")
    for name in ("chatml", str(tmp_path / "missing.jinja"), str(tmp_path), str(tmp_path / "empty.jinja")):
        with pytest.raises(InputError, match="chat_template"):
            read_template(name)


@pytest.mark.parametrize("template", [toy.CHATML, HASHES, TOOLS])
def test_templates_that_show_everything_pass(template):
    checked(template).require(["system", "user", "tool"])


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ 'chatml' }}", "content of user"),
        ("{% for m in messages %}{{ m['role'] }}: hello\n{% endfor %}", "content of user"),
        ("{% for m in messages %}{{ m['content'] }}<|im_end|>{% endfor %}", "alike"),
        ("{% for m in messages[1:] %}{{ m.role }}{{ m.content }}{% endfor %}", "content of user"),
        ("{{ messages[-1].role }}{{ messages[-1].content }}", "content of user"),
        ("{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}", "of assistant"),
        ("{% for m in messages %}{{ m.no.such.thing }}{% endfor %}", "can't render"),
    ],
)
def test_templates_that_lose_something_are_refused(template, said):
    with pytest.raises(InputError, match=said):
        checked(template)


def test_what_only_some_rows_have_is_tried_when_it_comes():
    plain = checked(
        "{% for m in messages if m.role in ('user', 'assistant') %}{{ m.role }}:{{ m.content }}\n{% endfor %}"
    )
    plain.require(["user", "assistant"])
    for feature in ("system", "tool", "developer", "tool_calls", "tools"):
        with pytest.raises(InputError, match=r"chat_template"):
            plain.require([feature])
    checked(TOOLS).require(["system", "developer", "tool", "tool_calls", "tools"])
    tokenizer = toy.tokenizer()
    with pytest.raises(InputError, match="tools"):
        ChatEncoder(tokenizer).encode([Conversation(toy.rows(1)[0]["messages"], tools=[{"type": "function"}])], False)


@pytest.mark.parametrize(
    ("template", "ends"),
    [
        (toy.CHATML, True),
        # EOS between the turns only: the short last answer must not be taken for the template's tail
        (
            "{% for m in messages %}{% if not loop.first %}<|im_end|>{% endif %}{{ m.role }}: {{ m.content }}"
            "{% endfor %}",
            False,
        ),
        (HASHES, False),
    ],
)
def test_every_conversation_ends_with_its_answer_and_one_eos(template, ends):
    tokenizer = toy.tokenizer()
    tokenizer.chat_template = template
    encoder = ChatEncoder(tokenizer)
    assert encoder.template.writes_eos is ends
    messages = [{"role": "user", "content": "say red"}, {"role": "assistant", "content": "no"}]
    (row,) = encoder.encode([Conversation(messages)], False)
    text = tokenizer.decode(row.ids)
    assert text.rstrip("\n").endswith("<|im_end|>")
    assert text.replace("\n", "").replace("<|im_end|>", "").endswith("no")
    assert row.ids[-1] == row.labels[-1] == tokenizer.eos_token_id != row.ids[-2]
