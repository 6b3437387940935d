"""Dialogues as memory episodes, by hand."""

import pyarrow as pa
import pytest

from data.sources.arrow_types import to_rows
from data.sources.batches import Batch
from data.sources.carried_facts import mark
from data.sources.json_exact import rows_to_batch
from data.sources.messages import BadRows, MessageOptions
from data.sources.to_episodes import InteractionsConfig, to_interactions
from pipeline.errors import InputError


def said(*turns: str) -> list[dict[str, str]]:
    """Messages from `role: text`."""
    return [dict(zip(("role", "content"), turn.split(": ", 1), strict=True)) for turn in turns]


def episodes(batch: pa.RecordBatch, config: InteractionsConfig) -> pa.RecordBatch:
    options = MessageOptions(think="split", last_turn="cut")
    return to_interactions(Batch(batch, "here", range(1, len(batch) + 1)), config, options, BadRows())


def rows(batch: pa.RecordBatch, steps: int, windows: str = "first") -> list[dict]:
    return episodes(batch, InteractionsConfig(steps=steps, windows=windows)).to_pylist()


def test_messages_become_exchanges():
    messages = said(
        "system: Be kind.", "user: Hi", "user: I am Ann.", "assistant: <think>a name</think> Hello", "user: Who am I?",
        "assistant: Ann.", "assistant: Of course.", "user: Bye",
    )  # fmt: skip
    greeted = said("assistant: Welcome!", "user: Tea?", "assistant: Yes.")
    batch = pa.RecordBatch.from_pydict({"messages": [messages, greeted], "topic": ["names", "tea"]})
    (row,) = rows(batch, 1)
    assert (row["query"], row["answer"], row["think"]) == ("Be kind.\nHi\nI am Ann.", "Hello", "a name")
    (later,) = row["interactions"]
    assert (later["query"], later["answer"]) == ("Who am I?", "Ann.\nOf course.")
    assert row["topic"] == "names"
    assert "messages" not in row


def test_every_row_has_exactly_the_steps_asked_for():
    turns = [{"query": f"q{i}", "answer": f"a{i}", "facts": [f"a{i}"], "distance": 1} for i in range(1, 8)]
    batch = pa.RecordBatch.from_pylist([{"query": "q0", "answer": "a0", "interactions": turns, "id": 5}])
    (first,) = rows(batch, 2)
    assert [first["query"], *(t["query"] for t in first["interactions"])] == ["q0", "q1", "q2"]
    assert first["interactions"][0]["facts"] == ["a1"]
    both = rows(batch, 2, "all")
    assert [row["query"] for row in both] == ["q0", "q3"]
    assert [row["id"] for row in both] == [5, 5]
    assert rows(batch, 8) == []


def test_what_an_answer_takes_from_earlier_turns_is_marked():
    turns = [
        ("A table at Little Hunan in San Jose, please.", "For how many?"),
        ("Two people. Make it 5:15 pm.", "When?"),
        ("On March 1st.", "Little Hunan on March 1st at 5:15 pm for 2. Is San Jose right?"),
        ("Yes. And is it dear?", "The price is $34. Anything else?"),
        ("I live in San Jose, is Little Hunan near?", "You said San Jose, so yes. It's $34 at Hunan."),
    ]
    first, *rest = [{"query": q, "answer": a} for q, a in turns]
    batch = pa.RecordBatch.from_pylist([{**first, "interactions": rest}])
    config = InteractionsConfig(steps=4, facts="carried")
    (row,) = episodes(batch, config).to_pylist()
    found = [(turn["facts"], turn["distance"]) for turn in (row, *row["interactions"])]
    assert found == [
        ([], 0),
        ([], 0),
        (["Little Hunan", "5:15 pm", "San Jose"], 2),  # March 1st is in the query; 2 was never said as a number
        ([], 0),
        (["$34"], 1),  # San Jose and Hunan are in the query
    ]


@pytest.mark.parametrize(
    ("told", "asked", "answer", "facts"),
    [
        ("The ferry goes on Tuesday at 14:25.", "When does it go?", "On Tuesday at 14:25.", ["Tuesday at 14:25"]),
        ("See you Tuesday. Dinner is 14:25.", "When?", "Tuesday at 14:25.", ["Tuesday", "14:25"]),
        ("Clara works as a piano tuner.", "What does Clara do?", "Clara is a piano tuner.", ["piano tuner"]),
        ("The red car stands in a garage.", "Which car is it?", "The red one.", ["red"]),
        ("Max is a vet, I live in Ulm.", "What is he and where do I live?", "A vet. You live in Ulm.", ["vet", "Ulm"]),
        ("I rented a car.", "How much is it?", "The car is $57.", []),  # a number answers, and nobody said it before
        ("I rented a car.", "Can I have it now?", "The car is ready.", []),  # yes or no
        ("Is a vet expensive?", "What is Max?", "A vet.", []),  # nobody stated it
        ("I am Clara.", "Good morning!", "Hello Clara!", []),
        ("I am Clara.", "I have to go now.", "Thank you, Clara.", []),
        ("I am Clara.", "Who am I?", "Hello. It's Clara.", ["Clara"]),
        ("The price is 40.", "Where is it?", "There's a shop.", []),
    ],
)
def test_marks_are_what_a_person_would_mark(told, asked, answer, facts):
    *_, turn = mark([{"query": told, "answer": "Okay."}, {"query": asked, "answer": answer}])
    assert turn["facts"] == facts


def test_an_empty_list_of_facts_is_a_mark():
    turns = [{"query": "I am Ann.", "answer": "Hm."}, {"query": "Who am I?", "answer": "Ann.", "facts": []}]
    assert mark(turns)[1]["facts"] == []


def test_facts_that_are_given_stay():
    turns = [{"query": "Who is Bo?", "answer": "Ann told Bo.", "facts": ["sister"], "distance": 1}]
    batch = pa.RecordBatch.from_pylist([{"query": "Bo is Ann's sister.", "answer": "Ann?", "interactions": turns}])
    (row,) = episodes(batch, InteractionsConfig(steps=1, facts="carried")).to_pylist()
    assert row["interactions"][0]["facts"] == ["sister"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "no dialogue"}, "interactions needs rows with messages"),
        ({"messages": said("user: How many?", "assistant: I see.", "tool: 42", "assistant: 42.")}, "here:1: .*tools"),
        ({"messages": said("user: How many?")}, "here:1: .*assistant"),
        ({"messages": said("user: How many?", "clerk: 42")}, r"here:1: messages\[1\]: the role 'clerk'"),
    ],
)
def test_what_is_no_dialogue_is_refused(row, message):
    with pytest.raises(InputError, match=message):
        rows(pa.RecordBatch.from_pylist([row]), 1)


def test_facts_keep_their_spellings_and_are_texts_where_none_has():
    turn = {"query": "Who?", "answer": "Smith", "facts": [["Dr. Smith", "Smith"], "7"], "distance": 1}
    plain = {"query": "q", "answer": "a", "facts": ["a"]}
    given = rows_to_batch([{**plain, "interactions": [turn]}], ["f:1"])
    batch = episodes(given, InteractionsConfig(steps=1, facts="carried"))
    (row,) = to_rows(batch)
    assert row["interactions"][0]["facts"] == [["Dr. Smith", "Smith"], "7"]
    assert row["facts"] == ["a"]
    texts = episodes(rows_to_batch([{**plain, "interactions": [plain]}], ["f:1"]), InteractionsConfig(steps=1))
    assert texts.schema.field("facts").type == pa.list_(pa.string())
    assert set(texts.schema.names) == set(batch.schema.names)


def test_what_a_row_says_of_its_facts_is_kept_and_what_is_left_out_is_counted():
    told, asked = (
        {"query": "I live in Oslo", "answer": "ok"},
        {"query": "Where?", "answer": "That is Oslo.", "facts": []},
    )
    marked = mark([told, asked])
    assert [turn["facts"] for turn in marked] == [[], []], "an empty list says that there are none"
    assert mark([told, {**asked, "facts": None}])[1]["facts"] == ["Oslo"]
    bad = BadRows()
    batch = pa.RecordBatch.from_pylist([{**told, "interactions": [{**told, "answer": ""}]}])
    options = MessageOptions(think="split", last_turn="cut")
    assert len(to_interactions(Batch(batch, "here", [1]), InteractionsConfig(steps=1), options, bad)) == 0
    assert bad.counts == {"with a turn without words": 1}
