"""Conversations of every shape: converted as the options say, or refused with their place."""

import pickle

import pytest

from data.sources.messages import BadRow, BadRows, MessageOptions, conversation_of, parse_messages, parse_tools

CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": None}}}


def said(*turns: str) -> list[dict]:
    """Messages from `role: text`."""
    return [dict(zip(("role", "content"), turn.split(": ", 1), strict=True)) for turn in turns]


def parsed(*turns: object, **options) -> list[dict]:
    messages = said(*turns) if turns and isinstance(turns[0], str) else list(turns)
    return parse_messages(messages, "f.jsonl:7", MessageOptions(**options))


def test_plain_conversations_stay_as_they_are():
    messages = said("system: Be kind.", "user: q", "assistant: a", "user: more", "assistant:  b ")
    assert parsed(*messages) == messages
    assert parsed({"role": "user", "content": "q", "name": None}, *said("assistant: a")) == said(
        "user: q", "assistant: a"
    )


def test_content_of_text_parts_is_joined_and_null_beside_tool_calls_is_empty():
    parts = {"role": "user", "content": [{"type": "text", "text": "one "}, "two", {"text": "!"}]}
    calls = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    answered = [*said("tool: 3"), *said("tool: 4"), *said("assistant: a")]
    assert parsed(parts, calls, *answered) == [
        *said("user: one two!"),
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        *answered,
    ]


def test_neighbours_of_one_role_are_one_message_unless_they_say_who_they_are():
    assert parsed("user: a", "user: b", "assistant: c", "assistant: d") == said("user: a\nb", "assistant: c\nd")
    named = [{**m, "name": n} for m, n in zip(said("user: a", "user: b"), "xy", strict=True)]
    assert parsed(*named, *said("assistant: c")) == [*named, *said("assistant: c")]
    two = [{"role": "assistant", "content": "", "tool_calls": [CALL]}] * 2
    assert parsed(*said("user: a"), *two, last_turn="keep")[1]["tool_calls"] == [CALL, CALL]


def test_sharegpt_is_read_by_its_option_alone():
    row = {
        "conversations": [
            {"from": "system", "value": "s"},
            {"from": "human", "value": "q"},
            {"from": "gpt", "value": "a"},
        ]
    }
    wanted = said("system: s", "user: q", "assistant: a")
    options = MessageOptions(conversations="sharegpt")
    assert conversation_of(row, "f:1", options) == conversation_of({"messages": row["conversations"]}, "f:1", options)
    assert conversation_of(row, "f:1", options) == wanted
    with pytest.raises(BadRow, match="f:1: has no messages .* set conversations: sharegpt"):
        conversation_of(row, "f:1")
    with pytest.raises(BadRow, match=r"messages\[0\] has from and value; set conversations: sharegpt"):
        conversation_of({"messages": row["conversations"]}, "f:1")
    with pytest.raises(BadRow, match="leave out conversations: sharegpt"):
        conversation_of({"messages": wanted}, "f:1", options)


def test_thoughts_are_split_off_or_kept_by_option():
    marked = said("user: q", "assistant: <think>\nhm </think>\n\na")
    keyed = [*said("user: q"), {"role": "assistant", "content": "a", "reasoning_content": "hm"}]
    split = [*said("user: q"), {"role": "assistant", "content": "a", "think": "hm"}]
    assert parsed(*marked, think="split") == parsed(*keyed, think="split") == split
    assert parsed(*marked) == marked
    assert parsed(*keyed) == keyed
    assert "think" not in parsed("user: q", "assistant: a", think="split")[1]
    assert parsed("user: <think> is a mark", "assistant: a", think="split") == said(
        "user: <think> is a mark", "assistant: a"
    )
    with pytest.raises(BadRow, match="opens <think> and never closes it"):
        parsed("user: q", "assistant: <think> on and on", think="split")


def test_the_last_turn_is_the_assistant_s():
    open_end = said("user: q", "assistant: a", "user: bye")
    with pytest.raises(BadRow, match=r"f\.jsonl:7: the last turn is the user's .* last_turn: cut"):
        parsed(*open_end)
    assert parsed(*open_end, last_turn="cut") == open_end[:2]
    assert parsed(*open_end, last_turn="keep") == open_end
    assert parsed("user: q", last_turn="keep") == said("user: q")


@pytest.mark.parametrize(
    ("value", "reason", "message"),
    [
        ('[{"role": "user"}]', "no list", "messages is a text"),
        (None, "no list", "messages is NoneType"),
        ([], "empty", "messages is empty"),
        (["hi"], "no object", r"messages\[0\] is no object \(hi\)"),
        (said("clerk: x"), "role", r"messages\[0\]: the role 'clerk' is unknown"),
        (said("developer: x", "user: q", "assistant: a"), "role", "the role 'developer' is unknown"),
        ([{"content": "x"}], "role", "the role None"),
        ([{"role": 5, "content": "x"}], "role", "the role 5"),
        ([{"role": "user", "content": 5}], "content", "content is a int"),
        ([{"role": "user", "content": {"text": "x"}}], "content", "content is a dict"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}], "parts", "'image_url'"),
        ([{"role": "user", "content": [{"type": "image", "text": "x"}]}], "parts", "'image'"),
        ([{"role": "user", "content": None}], "no content", "content of the user is null"),
        (
            [*said("user: q"), {"role": "assistant", "content": " "}],
            "no content",
            r"messages\[1\]: .*assistant is empty",
        ),
        ([*said("user: q"), {"role": "assistant", "content": None, "tool_calls": []}], "no content", "is null"),
        (said("system: s", "user: q"), "no answer", "no message is the assistant's"),
        ([{"role": "user", "content": "x", "tool_calls": [CALL]}], "tool calls", "only the assistant calls tools"),
        ([*said("user: q"), {"role": "assistant", "tool_calls": ["x"]}], "tool calls", "no list of calls"),
        ([*said("user: q"), {"role": "assistant", "tool_calls": "x"}], "tool calls", "no list of calls"),
        (said("user: q", "tool: 3", "assistant: a"), "tool order", "follows no call"),
    ],
)
def test_what_is_no_conversation_is_refused_with_its_place_or_counted(value, reason, message):
    with pytest.raises(BadRow, match=r"^f\.jsonl:7: .*" + message) as refused:
        parse_messages(value, "f.jsonl:7")
    assert refused.value.reason == reason
    assert pickle.loads(pickle.dumps(refused.value)).reason == reason
    bad = BadRows("drop")
    assert bad.attempt(lambda: parse_messages(value, "f.jsonl:7")) is None
    assert bad.counts == {reason: 1}
    with pytest.raises(BadRow):
        BadRows("refuse").attempt(lambda: parse_messages(value, "f.jsonl:7"))


def test_roles_can_be_given_other_names():
    messages = said("developer: x", "user: q", "assistant: a")
    assert parsed(*messages, roles={"developer": "system"}) == said("system: x", "user: q", "assistant: a")
    with pytest.raises(ValueError, match="'boss' is not one of"):
        MessageOptions(roles={"developer": "boss"})


def test_tools_are_lists_or_json_of_them():
    tools = [{"type": "function", "function": {"name": "add"}}]
    assert (
        parse_tools(tools, "f:1") == parse_tools('[{"type": "function", "function": {"name": "add"}}]', "f:1") == tools
    )
    assert parse_tools(None, "f:1") is None
    assert parse_tools([], "f:1") is None
    for bad in ("[", {"name": "add"}, ["add"], [{}], 5):
        with pytest.raises(BadRow, match="f:1: tools"):
            parse_tools(bad, "f:1")
