"""Answering: the distribution that is sampled from, reproducible draws, rows that end, streaming, bad input."""

import logging

import pytest
import torch

from mrl.losses.answer_log_probs import answer_log_probs
from mrl.model import Dialogue, MemoryState, ReactiveConfig, ReactiveForCausalLM, Sampling, generation
from mrl.model.decoding import PRODUCTS_FROM, read_once
from mrl.model.sampling import adjust, draw

BOS, EOS, Q, A, T = 2, 3, 5, 6, 7
GREEDY = Sampling(temperature=0)
MIXED = [
    Sampling(),
    Sampling(temperature=0.7, top_k=5),
    Sampling(temperature=1.5, top_p=0.6),
    Sampling(temperature=0.9, top_k=12, top_p=0.8),
]


@pytest.fixture(scope="module")
def model() -> ReactiveForCausalLM:
    torch.manual_seed(0)
    sizes = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 48, "memory_slots": 5}
    return ReactiveForCausalLM(ReactiveConfig(**sizes, max_interaction_length=48, initial_state_std=1.0)).eval()


def queries(rows: int, length: int = 7) -> torch.Tensor:
    words = torch.randint(8, 60, (rows, length), generator=torch.Generator().manual_seed(rows))
    words[:, 0], words[:, 1] = BOS, Q
    return words


def slow_distribution(logits: list[float], sampling: Sampling) -> list[float]:
    """Probabilities by the definitions, one token after the other."""
    weights = [2.718281828459045 ** (x / sampling.temperature) for x in logits]
    order = sorted(range(len(weights)), key=lambda token: -weights[token])
    if sampling.top_k:
        order = order[: sampling.top_k]
    total, kept, reached = sum(weights[token] for token in order), [], 0.0
    for token in order:
        if reached >= sampling.top_p:
            break
        kept.append(token)
        reached += weights[token] / total
    total = sum(weights[token] for token in kept)
    return [weights[token] / total if token in kept else 0.0 for token in range(len(weights))]


@pytest.mark.parametrize("sampling", MIXED, ids=str)
def test_filters_follow_their_definitions_and_draws_follow_the_distribution(sampling):
    torch.manual_seed(3)
    logits = 2 * torch.randn(1, 20)
    expected = torch.tensor(slow_distribution(logits[0].tolist(), sampling))
    torch.testing.assert_close(adjust(logits, sampling).softmax(-1)[0], expected, atol=1e-5, rtol=1e-4)
    heights = (torch.arange(20000) + 0.5) / 20000
    tokens, log_probs = draw(logits.expand(20000, -1), heights, sampling)
    share = torch.bincount(tokens, minlength=20) / 20000
    torch.testing.assert_close(share, expected, atol=2e-4, rtol=0)
    torch.testing.assert_close(log_probs.exp(), expected[tokens], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("sampling", [GREEDY, *MIXED], ids=str)
def test_answers_carry_the_log_probs_of_the_distribution_they_were_drawn_from(model, sampling):
    state, ids = model.initial_state(seeds=[4, 5]), queries(2)
    answers = model.generate_answers(ids, None, state, max_new_tokens=8, seeds=[1, 2], stop=(), sampling=sampling)
    assert answers.ids[:, 0].tolist() == [A, A]
    assert not answers.sampled[:, 0].any()
    for place in range(1, 8):
        with torch.no_grad():  # without a cache: the whole prefix again for every token
            logits = model.decode(torch.cat([ids, answers.ids[:, :place]], 1), None, state).logits[:, -1]
        for row in range(2):
            token = answers.ids[row, place].item()
            if sampling.greedy:
                assert token == logits[row].argmax().item()
            probability = slow_distribution(logits[row].tolist(), Sampling() if sampling.greedy else sampling)[token]
            assert answers.log_probs[row, place].exp().item() == pytest.approx(probability, rel=1e-3)


@pytest.mark.parametrize("read", ["cross", "joint"])
@pytest.mark.parametrize("forced", ["answer", "auto", None])
def test_several_answers_to_a_query_are_those_to_the_query_said_several_times(read, forced, monkeypatch):
    torch.manual_seed(0)
    sizes = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 48, "memory_slots": 5}
    config = ReactiveConfig(**sizes, max_interaction_length=48, initial_state_std=1.0, memory_read=read)
    model, ids = ReactiveForCausalLM(config).eval(), queries(3)
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    state, samples = model.initial_state(seeds=[1, 2, 3]), torch.tensor([3, 1, 4])
    row = torch.arange(3).repeat_interleave(samples)
    options = {"max_new_tokens": 6, "max_think_tokens": 4, "forced": forced, "seeds": list(range(8))}
    slow = model.generate_answers(ids[row], mask[row], state.rows(row), **options)
    read_rows, prefill = [], generation.prefill
    monkeypatch.setattr(
        generation, "prefill", lambda *given, **more: read_rows.append(len(given[1])) or prefill(*given, **more)
    )
    fast = model.generate_answers(ids, mask, state, samples=samples, **options)
    assert read_rows == [3], "a query is read once"
    assert (slow.ids[0] != slow.ids[1]).any()
    for name in ("ids", "mask", "sampled", "finished", "thought", "words_from", "cut"):
        assert torch.equal(getattr(fast, name), getattr(slow, name)), name
    torch.testing.assert_close(fast.log_probs, slow.log_probs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("samples", [[1, 0, 2], [2, 2]])
def test_counts_of_answers_that_dont_fit_are_refused(model, samples):
    with pytest.raises(ValueError, match="samples must be 3 counts"):
        model.generate_answers(queries(3), None, model.initial_state(3), samples=torch.tensor(samples))


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(top_k=30)], ids=str)
def test_an_answer_depends_neither_on_padding_nor_on_its_neighbours(model, sampling):
    ids, state = queries(4), model.initial_state(seeds=[1, 2, 3, 4])
    lengths = [7, 3, 5, 2]
    right, left = torch.zeros_like(ids), torch.zeros_like(ids)
    right_mask, left_mask = torch.zeros_like(ids), torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        right[row, :length] = left[row, 7 - length :] = ids[row, :length]
        right_mask[row, :length] = left_mask[row, 7 - length :] = 1
    options = {"max_new_tokens": 10, "sampling": sampling}
    seeds = [11, 12, 13, 14]
    first = model.generate_answers(right, right_mask, state, seeds=seeds, **options)
    other = model.generate_answers(left, left_mask, state, seeds=seeds, **options)
    assert torch.equal(first.ids, other.ids)
    torch.testing.assert_close(first.log_probs, other.log_probs)
    for row, length in enumerate(lengths):
        alone = model.generate_answers(
            ids[row : row + 1, :length], None, state.rows(slice(row, row + 1)), seeds=seeds[row : row + 1], **options
        )
        said = int(alone.mask.sum())
        assert first.mask[row].sum() == said
        assert torch.equal(first.ids[row, :said], alone.ids[0, :said])
        torch.testing.assert_close(first.log_probs[row, :said], alone.log_probs[0, :said], atol=1e-4, rtol=0)


def test_draws_repeat_with_their_seeds_or_generator(model):
    ids, state = queries(2), model.initial_state(seeds=[1, 2])

    def answer(**source) -> list[list[int]]:
        return model.generate_answers(ids, None, state, max_new_tokens=12, stop=(), **source).ids.tolist()

    assert answer(seeds=[1, 2]) == answer(seeds=[1, 2]) != answer(seeds=[1, 3])
    assert answer(seeds=[1, 2])[0] == answer(seeds=[1, 3])[0]
    first, second = (answer(generator=torch.Generator().manual_seed(8)) for _ in range(2))
    assert first == second
    with pytest.raises(ValueError, match="1 sampling seeds for 2 rows"):
        answer(seeds=[1])


def test_rows_that_have_ended_stop_costing(model, monkeypatch):
    rows, fed = 16, []
    step = generation.step
    monkeypatch.setattr(generation, "step", lambda *args: fed.append(args[1].shape[0]) or step(*args))
    ends = tuple(range(8, 20))  # a fifth of the vocabulary, so that rows end at different times
    ids, state = queries(rows), model.initial_state(seeds=range(rows))
    answers = model.generate_answers(ids, None, state, max_new_tokens=40, seeds=list(range(rows)), stop=ends)
    lengths = answers.mask.sum(1)
    assert answers.finished.all()
    assert fed == sorted(fed, reverse=True)
    assert fed[-1] < rows / 2
    assert sum(fed) < 0.7 * rows * len(fed)
    assert len(fed) <= int(lengths.max())  # nothing runs after the last row has ended
    for row in range(rows):
        said = answers.ids[row, : lengths[row]].tolist()
        assert said[-1] in ends
        assert not set(said[1:-1]) & set(ends)
        assert (answers.ids[row, lengths[row] :] == 0).all()
        assert (answers.log_probs[row, lengths[row] :] == 0).all()


def test_an_answer_ends_at_the_interaction_limit(model):
    ids, mask = queries(2, 45), torch.ones(2, 45, dtype=torch.long)
    mask[1, 40:] = 0
    answers = model.generate_answers(ids, mask, model.initial_state(1), max_new_tokens=20, stop=())
    assert answers.mask.sum(1).tolist() == [3, 8]
    assert not answers.finished.any()


def test_the_first_token_can_be_forced_chosen_or_free(model):
    ids, state = queries(3), model.initial_state(1)

    def first(forced) -> list[int]:
        answers = model.generate_answers(ids, None, state, max_new_tokens=1, forced=forced, sampling=GREEDY)
        return answers.ids[:, 0].tolist()

    with torch.no_grad():
        logits = model.decode(ids, None, state).logits[:, -1]
    assert first("answer") == [A] * 3
    assert first("think") == [T] * 3
    assert first(None) == logits.argmax(-1).tolist()
    assert first("auto") == [T if row[T] > row[A] else A for row in logits]


def test_a_thought_has_a_limit_of_its_own_and_leaves_the_answer_its_room(model):
    rows, length = 64, torch.tensor([7, 38, 42] + [7] * 61)
    ids, mask = queries(rows, 42), (torch.arange(42) < length[:, None]).long()
    limits = torch.where(length == 42, 3, 4)  # half of 48 - 42 is kept for the answer
    answers = model.generate_answers(
        ids, mask, model.initial_state(1), max_new_tokens=5, max_think_tokens=3, forced="think",
        seeds=list(range(rows)), stop=(),
    )  # fmt: skip
    assert 0 < int(answers.cut.sum()) < rows
    for row in range(rows):
        said = answers.ids[row, : int(answers.mask[row].sum())].tolist()
        end = said.index(A)
        assert said[0] == T
        assert len(said) == min(end + 5, 48 - int(length[row]))
        assert answers.thought[row] == end <= limits[row]
        assert bool(answers.cut[row]) == (end == limits[row])
        assert answers.sampled[row].tolist()[: len(said)] == [
            place > 0 and not (place == end and bool(answers.cut[row])) for place in range(len(said))
        ]


def test_an_end_inside_a_thought_is_a_cut_thought_without_an_answer(model):
    ends = [t for t in range(60) if t != A]
    options = {"max_new_tokens": 4, "forced": "think", "seeds": [1, 2], "stop": ends}
    answers = model.generate_answers(queries(2), None, model.initial_state(1), **options)
    assert answers.finished.all()
    assert answers.cut.all()
    assert answers.mask.sum(1).tolist() == answers.thought.tolist() == [2, 2]


def test_to_think_is_drawn_in_proportion_and_scored_so(model):
    rows = 400
    ids, state = queries(1).expand(rows, -1), model.initial_state(seeds=[1]).expand(rows)
    answers = model.generate_answers(ids, None, state, max_new_tokens=2, forced="auto", seeds=list(range(rows)))
    with torch.no_grad():
        both = model.decode(ids[:1], None, state.rows(slice(0, 1))).logits[0, -1, [A, T]].log_softmax(-1)
    thinks = answers.ids[:, 0] == T
    torch.testing.assert_close(answers.log_probs[:, 0], both[thinks.long()], atol=1e-5, rtol=0)
    assert abs(float(thinks.float().mean()) - float(both[1].exp())) < 0.08, "three standard errors"
    assert answers.sampled[:, 0].all()


class Words:
    """A tokenizer of words w8, w9, ... with the turn tokens under the ids it is given."""

    def __init__(self, **turn_tokens: int):
        self.turn_tokens = {"[Q]": Q, "[A]": A, "[T]": T, **turn_tokens}

    def convert_tokens_to_ids(self, token: str) -> int:
        return self.turn_tokens.get(token, 1)

    def __call__(self, text: str, add_special_tokens: bool = True, split_special_tokens=False) -> dict:
        return {"input_ids": [int(word[1:]) for word in text.split()]}

    def decode(self, ids: list[int], skip_special_tokens: bool = False) -> str:
        return " ".join(f"w{token}" for token in ids if token >= 8)


def test_streaming_yields_the_answer_first_and_updates_memory_afterwards(model):
    state = model.initial_state(1)
    talk, pieces = model.interact(Words(), "w30 w31", state, max_new_tokens=9, sampling=GREEDY), []
    while True:
        try:
            pieces.append(next(talk))
        except StopIteration as end:
            after = end.value
            break
    query = torch.tensor([[BOS, Q, 30, 31]])
    answers = model.generate_answers(query, None, state, max_new_tokens=9, sampling=GREEDY)
    assert "".join(pieces) == Words().decode(answers.ids[0].tolist())
    assert len(pieces) > 2
    expected = model.write(state, torch.cat([query, answers.ids[:, : int(answers.mask.sum())]], 1))
    torch.testing.assert_close(after.slots, expected.slots)


def test_what_is_typed_stays_text_and_answers_are_greedy(model, tokenizer, monkeypatch):
    asked = []

    original = generation.prefill

    def watched(model, ids, *rest, **named):
        asked.append(ids[0].tolist())
        return original(model, ids, *rest, **named)

    monkeypatch.setattr(generation, "prefill", watched)
    talks = [Dialogue(model, tokenizer) for _ in range(2)]
    said = ["".join(talk.ask("who [A] Ann", max_new_tokens=6)) for talk in talks]
    assert said[0] == said[1], "no chance in it"
    assert asked[0].index(A) == len(asked[0]) - 1, "a marker that somebody types ends no question"


def test_a_dialogue_keeps_its_state_and_an_abandoned_answer_leaves_it(model):
    dialogue = Dialogue(model, Words())
    before = dialogue.state
    next(iter(dialogue.ask("w30", max_new_tokens=5)))
    assert dialogue.state is before
    list(dialogue.ask("w30", max_new_tokens=5, think="always"))
    assert not torch.equal(dialogue.state.slots, before.slots)
    with pytest.raises(ValueError, match="think is True; choose one of never, auto, always"):
        list(dialogue.ask("w30", think=True))


def test_a_thought_is_streamed_on_a_line_before_the_answer_and_written_with_it(model):
    state, talk = model.initial_state(1), []
    options = {"max_new_tokens": 4, "max_think_tokens": 3, "sampling": GREEDY}
    dialogue = Dialogue(model, Words(), state)
    talk = "".join(dialogue.ask("w30 w31", think="always", **options))
    query = torch.tensor([[BOS, Q, 30, 31]])
    answers = model.generate_answers(query, None, state, forced="think", **options)
    said = answers.ids[0, : int(answers.mask.sum())].tolist()
    thought, answer = said[: said.index(A)], said[said.index(A) :]
    assert talk == f"{Words().decode(thought)}\n{Words().decode(answer)}"
    expected = model.write(state, torch.tensor([[*query[0].tolist(), *said]]))
    torch.testing.assert_close(dialogue.state.slots, expected.slots)


def test_bad_questions_are_refused_in_words(model):
    state = model.initial_state(1)

    def ask(query: str, tokenizer: Words | None = None, memory: MemoryState = state) -> list[str]:
        return list(model.interact(tokenizer or Words(), query, memory, max_new_tokens=2))

    with pytest.raises(ValueError, match="query is empty"):
        ask("  ")
    with pytest.raises(ValueError, match="query of 49 tokens leaves no room.*max_interaction_length 48"):
        ask(" ".join(["w9"] * 47))
    with pytest.raises(ValueError, match=r"the tokenizer has \[A\] as 1, the model's configuration as 6"):
        ask("w9", Words(**{"[A]": 1}))
    with pytest.raises(ValueError, match=r"shape \[2, 1, 4, 32\] doesn't fit.*\[2, 1, 5, 32\]"):
        ask("w9", memory=MemoryState(torch.zeros(2, 1, 4, 32)))
    with pytest.raises(ValueError, match="row without a token"):
        model.generate_answers(queries(2), torch.tensor([[1] * 7, [0] * 7]), state)
    with pytest.raises(ValueError, match="leaves no room"):
        model.generate_answers(queries(1, 48), None, state)
    for shape in ((3, 1, 5, 32), (2, 3, 5, 32), (2, 1, 5, 16)):
        with pytest.raises(ValueError, match="doesn't fit this model"):
            model.write(MemoryState(torch.zeros(shape)), queries(2))
    with pytest.raises(ValueError, match=r"give MemoryState\(slots\)"):
        model.write(state.slots, queries(2))
    half = MemoryState(state.slots, torch.tensor([[True, False, True, False, True]]))
    for use in (model.write, lambda memory, ids: model.generate_answers(ids, None, memory)):
        with pytest.raises(ValueError, match="hidden slots can only be decoded"):
            use(half, queries(1))


@pytest.mark.parametrize(("values", "words"), [({"temperature": -1}, "positive"), ({"top_k": -1}, "positive")])
def test_sampling_without_meaning_is_refused(values, words):
    with pytest.raises(ValueError, match=words):
        Sampling(**values)
    with pytest.raises(ValueError, match="top_p is 0"):
        Sampling(top_p=0)


def test_an_earlier_turn_over_the_limit_is_cut_with_a_warning(model, monkeypatch):
    warned = []
    logger = logging.getLogger("mrl.model.conversation")
    monkeypatch.setattr(type(logger), "warning_once", lambda _, message: warned.append(message), raising=False)
    long, last = [BOS, Q, *[9] * 50, A, 10, EOS], [BOS, Q, 11, A]
    with torch.no_grad():
        flat = model(torch.tensor([long + last])).logits[0, -1]
        state = model.write(model.initial_state(1), torch.tensor([long[:48]]))
        expected = model.decode(torch.tensor([last]), None, state).logits[0, -1]
    torch.testing.assert_close(flat, expected)
    assert warned == ["an earlier turn of 55 tokens is cut to max_interaction_length 48"]


def test_a_checkpoint_of_another_shape_is_refused(model, tmp_path):
    model.save_pretrained(tmp_path)
    with pytest.raises(RuntimeError, match="(?i)mismatch"):
        ReactiveForCausalLM.from_pretrained(tmp_path, hidden_size=64)


def test_answers_follow_every_way_of_changing_the_weights():
    torch.manual_seed(0)
    sizes = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 48, "memory_slots": 5}
    model = ReactiveForCausalLM(ReactiveConfig(**sizes)).eval()
    ids, state = queries(2), model.initial_state(seeds=[1, 2])

    def check() -> None:
        answers = model.generate_answers(ids, None, state, max_new_tokens=4, seeds=[5, 6], stop=())
        with torch.no_grad():
            said, scored = (answers.ids, answers.mask), answers.sampled
            scores = answer_log_probs(model, (ids, torch.ones_like(ids)), said, scored, state)
        torch.testing.assert_close(answers.log_probs[scored], scores.log_probs, atol=1e-5, rtol=0, check_dtype=False)

    check()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    model.decode(ids, None, state, labels=ids).loss.backward()
    optimizer.step()
    check()
    model.load_state_dict({name: 1.1 * value for name, value in model.state_dict().items()})
    check()
    model.lm_head.weight.data.mul_(0.5)
    check()
    model.model.decoder[0].attention_norm.weight = torch.nn.Parameter(torch.full((32,), 2.0))
    check()
    model.double()
    state = state.to(dtype=torch.double)
    check()


@pytest.mark.parametrize("masked", [False, True])
def test_many_rows_read_what_each_row_reads_by_itself(masked):
    torch.manual_seed(0)
    rows = PRODUCTS_FROM + 3
    # Of what is kept only the first columns are in use, and two query heads share a key.
    query, history = torch.randn(rows, 2, 2, 8), torch.randn(2, rows, 2, 9, 8)
    keys, values = history[..., 1:6, :].unbind()
    mask = torch.zeros(rows, 1, 1, 5)
    mask[::2, ..., :2] = float("-inf")
    shown = mask if masked else None
    together = read_once(query, keys, values, shown)
    for row in range(rows):
        score = torch.einsum("gqd,gcd->gqc", query[row], keys[row]) * 8**-0.5
        score = score + mask[row] if masked else score
        torch.testing.assert_close(together[row], score.softmax(-1) @ values[row], atol=1e-5, rtol=1e-5)
