"""A row says a pair, in any of the formats of preference data, or it is refused with its place."""

import pytest

from data.sources.messages import BadRow
from data.sources.pairs import rows

USER, ANSWER = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
SYSTEM = {"role": "system", "content": "s"}


def pair_row(row):
    return rows.pair_row(row, "f:7")


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"prompt": [SYSTEM, USER]}, [SYSTEM, USER]),  # what only `prompt` has is kept
        ({"prompt": [USER]}, [USER]),
        ({"prompt": "q"}, [USER]),
        ({}, [USER]),
        ({"prompt": None, "system": "s"}, [SYSTEM, USER]),
        ({"prompt": "q", "system": "s"}, [SYSTEM, USER]),
    ],
)
def test_the_prompt_of_a_pair(row, prompt):
    rejected = {"role": "assistant", "content": "b"}
    pair = pair_row({"chosen": [USER, ANSWER], "rejected": [USER, rejected], **row})
    assert (pair.prompt, pair.chosen, pair.rejected) == (prompt, [ANSWER], [rejected])
    if row.get("prompt"):
        assert pair_row({**row, "chosen": "a", "rejected": "b"}) == pair  # the answers alone


def test_longer_beginnings_join_and_contradictions_are_refused():
    second = {"role": "user", "content": "q2"}
    chosen, rejected = [USER, ANSWER, second, ANSWER], [USER, ANSWER, second, {"role": "assistant", "content": "b"}]
    for prompt in ([USER], [USER, ANSWER, second], [SYSTEM, USER], "q"):
        pair = pair_row({"prompt": prompt, "chosen": chosen, "rejected": rejected})
        assert pair.prompt == ([SYSTEM] if prompt[0] == SYSTEM else []) + [USER, ANSWER, second]
    with pytest.raises(BadRow, match="prompt is not"):
        pair_row({"prompt": "something else", "chosen": chosen, "rejected": rejected})
    with pytest.raises(BadRow, match="user's"):
        pair_row({"chosen": [USER, ANSWER, USER], "rejected": [USER, ANSWER]})
