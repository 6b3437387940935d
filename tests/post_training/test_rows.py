"""A row says a conversation or a pair, or it is refused with its place."""

import pytest

from data.sources.messages import BadRow
from post_training.rows import conversation_row

USER, ANSWER = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
SYSTEM = {"role": "system", "content": "s"}


def conversation(row, last_turn=False, drop_old_thoughts=False):
    return conversation_row(row, "f:7", last_turn=last_turn, drop_old_thoughts=drop_old_thoughts)


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        (None, "f:7: has no messages"),
        ([], "f:7: messages is empty"),
        ('[{"role": "user"}]', "f:7: messages is a text"),
        ([{"from": "human", "value": "q"}], "sharegpt"),
        ([USER, {"role": "assistant", "content": None}], r"messages\[1\]: content of the assistant is null"),
        ([USER, {"role": "gpt", "content": "a"}], "'gpt'"),
        ([USER, ANSWER, USER], "user's"),
        ([USER, {"role": "assistant", "content": " "}], "empty"),
    ],
)
def test_rows_that_say_no_conversation(messages, said):
    with pytest.raises(BadRow, match=said):
        conversation({"messages": messages})


def test_a_call_needs_no_words_and_nulls_of_the_table_are_nothing():
    calling = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f"}}], "name": None}
    made = conversation({"messages": [USER, calling], "tools": '[{"type": "function"}]', "chat_template_kwargs": None})
    assert made.messages[1] == {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f"}}]}
    assert made.tools == [{"type": "function"}]
    assert made.features == {"user", "assistant", "tool_calls", "tools"}


def test_what_stands_before_the_trained_turns():
    assert conversation({"messages": [USER, ANSWER, USER, ANSWER]}).untrained == 0
    assert conversation({"messages": [USER, ANSWER, USER, ANSWER]}, last_turn=True).untrained == 3
    made = conversation({"prompt": "q", "completion": "a", "system": "s"})
    assert (made.messages, made.untrained) == ([SYSTEM, USER, ANSWER], 2)
    assert conversation({"messages": [SYSTEM, USER, ANSWER], "system": "s"}).messages == [SYSTEM, USER, ANSWER]
    with pytest.raises(BadRow, match="say two things"):
        conversation({"messages": [SYSTEM, USER, ANSWER], "system": "other"})


def test_old_thoughts_go_and_the_last_one_stays():
    thinking = {"role": "assistant", "content": "<think>\nhm\n</think>\na", "reasoning_content": "hm"}
    made = conversation({"messages": [USER, thinking, USER, thinking]}, last_turn=True, drop_old_thoughts=True)
    assert [m["content"] for m in made.messages] == ["q", "a", "q", thinking["content"]]
    assert "reasoning_content" not in made.messages[1]
