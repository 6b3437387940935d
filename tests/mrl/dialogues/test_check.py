"""What is counted of dialogues before anything is trained on them, row by row."""

import pytest

from mrl.dialogues import check
from mrl.dialogues.check import Finding, check_dialogues
from mrl.dialogues.dataset import Conversation, parse_row


def dialogue(*turns: tuple) -> Conversation:
    """From (query, answer, marks?) of each turn."""
    rows = [{"query": q, "answer": a, **(marks[0] if marks else {})} for q, a, *marks in turns]
    return Conversation(parse_row({**rows[0], "interactions": rows[1:]}, "f:7"), "f:7")


TOLD = ("Ann has a cat", "noted", {"facts": []})
CHAT = ("nice day", "yes", {"facts": []})


@pytest.mark.parametrize(
    ("turns", "counted"),
    [
        ([TOLD, CHAT, ("what?", "a cat", {"facts": ["cat"]})], {check.DERIVED: 1}),
        ([TOLD, CHAT, ("what?", "a cat", {"facts": ["cat"], "distance": 2})], {check.GIVEN: 1}),
        ([TOLD, CHAT, ("what?", "a cat", {"facts": ["cat"], "distance": 1})], {check.DIFFERENT: 1}),
        ([TOLD, CHAT, ("what?", "an owl", {"facts": ["owl"]})], {check.UNKNOWN: 1}),
        ([TOLD, CHAT, ("who?", "You haven't told me.")], {check.UNTOLD: 1}),
        ([TOLD, ("what?", "a dog", {"facts": ["cat"]})], {check.ABSENT: 1, check.DERIVED: 1, check.UNREWARDABLE: 1}),
        ([TOLD, ("what?", "a cat", {"facts": ["cat", ["dog", "hound"]], "distance": 1})],
         {check.ABSENT: 1, check.GIVEN: 1}),
        ([("hello", "hi"), ("bye", "bye")], {check.UNREWARDABLE: 2}),
        ([("hello", "hi")], {check.UNREWARDABLE: 1, check.SINGLE: 1}),
    ],
)  # fmt: skip
def test_each_fault_has_its_count(turns, counted):
    assert {what: n for what, n in check_dialogues([dialogue(*turns)]).items() if n} == counted


def test_faults_have_their_places():
    findings: list[Finding] = []
    check_dialogues(
        [dialogue(TOLD, ("what?", "a dog", {"facts": ["cat"]}), ("and?", "a cat", {"facts": ["cat"], "distance": 1}))],
        findings,
    )
    assert findings == [
        Finding("f:7, turn 2", "the answer doesn't say its fact 'cat'"),
        Finding("f:7, turn 3", "distance is 1, but its facts were last said 2 turns before"),
    ]
