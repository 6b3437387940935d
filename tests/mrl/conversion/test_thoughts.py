"""`<think>` of a converted model that never saw it: four tokens behind the answer's header, and six end a thought."""

import pytest
import torch

from mrl.losses.answer_log_probs import answer_log_probs
from mrl.model import MemoryState, Sampling
from mrl.recipes.model import ModelConfig
from mrl.talk.session import Session
from mrl.talk.speaker import Speaker
from mrl.training.model_io import load_reactive
from tests.mrl.conversion.toy import chat_tokenizer, opened

READERS = [{}, {"memory_read": "cross", "layers": [0]}]
THOUGHT, WORDS = 4, 5


@pytest.fixture
def tokenizer():
    return chat_tokenizer(thoughts=False)


@pytest.fixture(params=READERS, ids=str)
def speaker(request, convert) -> Speaker:
    model, tokenizer = load_reactive(ModelConfig(path=str(convert(**request.param))))
    speaker = Speaker(opened(model), tokenizer, max_new_tokens=WORDS, max_think_tokens=THOUGHT)
    begin, end = (tokenizer.convert_tokens_to_ids(list(marks)) for marks in (["<", "think", ">", "\n"], "\n"))
    assert speaker.frame.think == (*speaker.frame.answer, *begin)
    assert speaker.frame.think_end == (*end, begin[0], tokenizer.convert_tokens_to_ids("/"), *begin[1:])
    return speaker


@torch.no_grad()
def inclined(speaker: Speaker, message: str, state: MemoryState, by: float) -> None:
    """Make the first token of `<think>` likelier than any other as a first word (or less likely, by < 0)."""
    ids = torch.tensor([[*speaker.prompt(message), *speaker.frame.answer]])
    hidden = speaker.model.decode(ids, None, state).hidden[0, -1]
    head = speaker.model.lm_head.weight
    head[speaker.frame.think[speaker.frame.common]] = by * hidden


@pytest.mark.parametrize("wants", [True, False])
def test_auto_leaves_the_choice_to_the_model(speaker, wants):
    session, frame = Session(speaker), speaker.frame
    list(session.ask("a alpha"))
    state = session.state
    inclined(speaker, "b beta", state, 10.0 if wants else -10.0)
    shown = list(session.ask("b beta", "auto"))
    reply = session.turns[-1].reply
    assert all(reply.think.startswith(r.think) and reply.answer.startswith(r.answer) for r in shown), "no half marker"
    marker = frame.think if wants else frame.answer
    assert reply.ids[: len(marker)] == marker
    assert session.turns[-1].ids == (*speaker.prompt("b beta"), *reply.ids)
    prompt = session.turns[-1].ids[: -len(reply.ids)]
    options = {"max_new_tokens": WORDS, "max_think_tokens": THOUGHT, "sampling": Sampling(temperature=0)}
    forced = speaker.model.generate_answers(
        torch.tensor([prompt]), None, state, forced="think" if wants else "answer", **options
    )
    assert forced.ids[0, : int(forced.mask.sum())].tolist() == list(reply.ids)
    shown = "".join(speaker.model.interact(
        speaker.tokenizer, "b beta", state, think="auto", max_new_tokens=WORDS, max_think_tokens=THOUGHT
    ))  # fmt: skip
    parts = frame.parts(list(reply.ids))
    assert bool(parts[0]) == wants
    thought, words = (speaker.tokenizer.decode(part, skip_special_tokens=True) for part in parts)
    assert shown == ("\n".join((thought, words)) if thought and words else thought + words)


def test_a_drawn_thought_is_scored_where_it_was_chosen_and_nowhere_else(speaker):
    model, frame = speaker.model, speaker.frame
    state = model.initial_state(1)
    inclined(speaker, "b beta", state, 1.0)
    prompt = torch.tensor([speaker.prompt("b beta")]).expand(64, -1)
    sampling = Sampling(temperature=8.0)
    answers = model.generate_answers(
        prompt, None, state, forced="auto", sampling=sampling, seeds=list(range(64)), max_new_tokens=WORDS,
        max_think_tokens=THOUGHT,
    )  # fmt: skip
    thinks = frame.thinks(answers.ids)
    assert 0 < int(thinks.sum()) < 64
    assert torch.equal(answers.thought > 0, thinks)
    lead, marker = frame.common, len(frame.think)
    assert bool(answers.sampled[:, lead].all()), "the choice is the model's"
    assert not bool(answers.sampled[:, :lead].any())
    assert not bool(answers.sampled[thinks, lead + 1 : marker].any()), "the rest of the marker isn't"
    again = answer_log_probs(
        model, (prompt, torch.ones_like(prompt)), (answers.ids, answers.mask), answers.sampled,
        state.expand(64), sampling, decided=True,
    )  # fmt: skip
    torch.testing.assert_close(again.log_probs, answers.log_probs[answers.sampled], atol=1e-4, rtol=0)
    # A thought takes THOUGHT tokens at most, and its end marker stands behind them whole.
    for row in thinks.nonzero().flatten().tolist():
        length = int(answers.thought[row])
        assert marker <= length <= marker + THOUGHT
        said = answers.ids[row, : int(answers.mask[row].sum())].tolist()
        if length + len(frame.think_end) <= len(said):
            assert tuple(said[length : length + len(frame.think_end)]) == frame.think_end
