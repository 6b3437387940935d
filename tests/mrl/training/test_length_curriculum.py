"""The length curriculum grows with recall."""

import json
import random

import pytest

from mrl.dialogues.dataset import Conversation, parse_row
from mrl.dialogues.tokenization import encode_dialogues
from mrl.training.length_curriculum import LengthCurriculum, LengthCurriculumConfig
from pipeline.errors import InputError
from tests.mrl.conftest import episode


@pytest.fixture
def data(tokenizer):
    rng = random.Random(0)
    rows = [Conversation(parse_row(episode(rng, steps), ""), "") for steps in [1] * 6 + [2] * 6 + [5] * 6]
    return encode_dialogues(rows, tokenizer, max_length=24)


def test_steps_double_up_to_the_longest_dialogue(data):
    lessons = LengthCurriculum(data, LengthCurriculumConfig(start=1), 4, seed=0)
    assert lessons.steps == [1, 2, 4, 5]
    assert LengthCurriculum(data, LengthCurriculumConfig(start=None), 4, seed=0).steps == [5]
    assert LengthCurriculum(data, LengthCurriculumConfig(longest=3), 4, seed=0).steps == [1, 2, 3]


def test_a_lesson_has_its_own_lengths_and_longer_dialogues_cut_where_something_is_asked(data):
    lessons = LengthCurriculum(data, LengthCurriculumConfig(start=1), 4, seed=0)
    # Five steps state three facts first, so their first two turns ask nothing; two steps ask in the second and third.
    assert set(lessons.members[0]) == set(range(12))
    assert set(lessons.members[1]) == set(range(6, 12))
    assert set(lessons.members[2]) == set(range(12, 18))
    batch, present = lessons.batch(0)
    assert present
    assert batch.ids.shape[1] == 2
    assert batch.asks.any(1).all()


def test_the_next_lesson_opens_at_the_threshold_and_not_before(data):
    lessons = LengthCurriculum(data, LengthCurriculumConfig(threshold=0.9, smoothing=0.5, min_steps=2), 4, seed=0)
    assert not lessons.observe(10, 10), "one step is too few"
    assert not lessons.observe(6, 10), "0.8"
    assert lessons.observe(10, 10), "0.9"
    assert (lessons.at, lessons.spent) == (1, 0)
    late = LengthCurriculum(data, LengthCurriculumConfig(threshold=1.0, min_steps=1, max_steps=3), 4, seed=0)
    assert [late.observe(0, 10) for _ in range(3)] == [False, False, True]


def test_lessons_go_on_where_they_were(data):
    config = LengthCurriculumConfig(replay_fraction=0.5, min_steps=1, threshold=0.5)
    lessons = LengthCurriculum(data, config, 4, seed=0)
    for step in range(5):
        lessons.batch(step)
        lessons.observe(1, 1)
    state = json.loads(json.dumps(lessons.state_dict()))
    again = LengthCurriculum(data, config, 4, seed=0)
    again.load_state_dict(state)
    for step in range(5, 15):
        a, b = lessons.batch(step)[0], again.batch(step)[0]
        assert a.ids.equal(b.ids)
        assert a.seeds.equal(b.seeds)
    with pytest.raises(ValueError, match="lessons had"):
        LengthCurriculum(data, LengthCurriculumConfig(start=2), 4, seed=0).load_state_dict(state)


def test_dialogues_of_no_lesson_are_counted_and_none_at_all_is_refused(data, tokenizer, caplog):
    lessons = LengthCurriculum(data, LengthCurriculumConfig(start=1, longest=2), 4, seed=0)
    assert lessons.left_out == 6, "those of five steps ask nothing in their first three turns"
    assert "6 of 18 dialogues are in no lesson" in caplog.text
    talk = [{"query": "Ann has tea", "answer": "noted", "interactions": [{"query": "so", "answer": "noted"}]}] * 3
    asked = {**talk[0], "interactions": [{"query": "what has Ann", "answer": "tea", "distance": 1}] * 4}
    rows = [Conversation(parse_row(row, ""), "") for row in (*talk, asked)]
    silent = encode_dialogues(rows, tokenizer, max_length=24)
    silent.asks[:] = False
    with pytest.raises(InputError, match="in none of the 4 dialogues is anything asked"):
        LengthCurriculum(silent, LengthCurriculumConfig(), 4, seed=0)
