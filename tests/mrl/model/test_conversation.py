"""A flat conversation is split at its turns: earlier ones go to memory, the last is decoded, whatever the padding."""

import pytest
import torch

from mrl.model import ReactiveConfig, ReactiveForCausalLM, Sampling
from mrl.model.conversation import chat_template, join_rows, take_rows, turn_indices

BOS, EOS, Q, A, T = 2, 3, 5, 6, 7
FIRST = [BOS, Q, 10, 11, A, 12, EOS]
SECOND = [BOS, Q, 20, T, 21, A, 22, 23, EOS]
OPEN = [BOS, Q, 30, 31, A]


@pytest.fixture(scope="module")
def model() -> ReactiveForCausalLM:
    torch.manual_seed(0)
    sizes = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 48, "memory_slots": 5}
    return ReactiveForCausalLM(ReactiveConfig(**sizes)).eval()


def padded(rows: list[list[int]], side: str) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, rows))
    left = side == "left"
    ids = [[0] * (width - len(r)) + r if left else r + [0] * (width - len(r)) for r in rows]
    mask = [[0] * (width - len(r)) + [1] * len(r) if left else [1] * len(r) + [0] * (width - len(r)) for r in rows]
    return torch.tensor(ids), torch.tensor(mask)


def test_turns_are_counted_from_their_query_tokens():
    ids = torch.tensor([FIRST + OPEN, [9, 9, *FIRST, Q, 30, A]])
    turn = turn_indices(ids, torch.ones_like(ids), ReactiveConfig().frame)
    assert turn[0].tolist() == [0] * 7 + [1] * 5
    assert turn[1].tolist() == [0] * 9 + [1] * 3  # text before the first turn belongs to it; [Q] alone opens a turn


def test_rows_are_picked_and_joined_without_padding():
    ids, mask = padded([[8, 9], [10, 11, 12]], "left")
    right, right_mask, columns = take_rows(ids, mask.bool())
    assert right[right_mask.bool()].tolist() == [8, 9, 10, 11, 12]
    assert right_mask.tolist() == [[1, 1, 0], [1, 1, 1]]
    assert columns[0, :2].tolist() == [1, 2]
    joined, joined_mask, _ = join_rows(ids, mask, torch.tensor([[20], [21]]), None)
    assert joined[joined_mask.bool()].tolist() == [8, 9, 20, 10, 11, 12, 21]


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_batch_of_different_conversations_equals_explicit_writes(model, side):
    rows = [FIRST + SECOND + OPEN, OPEN, SECOND + OPEN, [40, 41, 42]]
    ids, mask = padded(rows, side)
    with torch.no_grad():
        flat = model(ids, mask).logits
        for row, earlier in enumerate([[FIRST, SECOND], [], [SECOND], []]):
            state = model.initial_state(1)
            for turn in earlier:
                state = model.write(state, torch.tensor([turn]))
            last = OPEN if row < 3 else rows[3]
            expected = model.decode(torch.tensor([last]), None, state).logits[0]
            real = mask[row].nonzero().squeeze(1)
            torch.testing.assert_close(flat[row, real[-len(last) :]], expected, atol=1e-5, rtol=1e-5)
            assert (flat[row, real[: -len(last)]] == 0).all()
            if side == "right":
                torch.testing.assert_close(flat[row, -1], expected[-1], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(model(ids).logits, flat)  # without a mask, padding is told by its token


def test_labels_count_in_the_last_turn_only(model):
    ids = torch.tensor([FIRST + SECOND])
    with torch.no_grad():
        state = model.write(model.initial_state(1), torch.tensor([FIRST]))
        expected = model.decode(torch.tensor([SECOND]), None, state, labels=torch.tensor([SECOND])).loss
        torch.testing.assert_close(model(ids, labels=ids).loss, expected)


@pytest.mark.parametrize("side", ["left", "right"])
def test_generate_equals_answering_with_explicit_memory(model, side):
    rows = [FIRST + SECOND + OPEN, OPEN]
    ids, mask = padded(rows, side)
    options = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    cached = model.generate(ids, attention_mask=mask, **options)
    slow = model.generate(ids, attention_mask=mask, use_cache=False, **options)
    if side == "left":  # without a cache, transformers appends to the padding of right-padded rows
        assert torch.equal(cached, slow)
    for row, earlier in enumerate([[FIRST, SECOND], []]):
        state = model.initial_state(1)
        for turn in earlier:
            state = model.write(state, torch.tensor([turn])).detach()
        answers = model.generate_answers(
            torch.tensor([OPEN]), None, state, max_new_tokens=8, forced=None, stop=(), sampling=Sampling(temperature=0)
        )
        assert cached[row, ids.shape[1] :].tolist() == answers.ids[0].tolist()


def test_a_cached_answer_writes_no_turn_twice(model, monkeypatch):
    writes = []
    write = type(model).write
    monkeypatch.setattr(type(model), "write", lambda self, *args: writes.append(1) or write(self, *args))
    ids = torch.tensor([FIRST + SECOND + OPEN])
    model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False, eos_token_id=None)
    assert len(writes) == 2


def test_generate_beams_and_several_answers_share_the_memory_of_their_prompt(model):
    ids, mask = padded([FIRST + SECOND + OPEN, OPEN], "left")
    options = {"attention_mask": mask, "max_new_tokens": 5, "eos_token_id": None, "pad_token_id": 0}
    greedy = model.generate(ids, do_sample=False, **options)
    sampled = model.generate(ids, do_sample=True, top_k=1, num_return_sequences=3, **options)
    assert torch.equal(sampled, greedy.repeat_interleave(3, 0))

    def log_likelihood(rows: torch.Tensor) -> torch.Tensor:
        whole = torch.cat([mask, torch.ones(2, 5, dtype=torch.long)], 1)
        with torch.no_grad():
            scores = model(rows, whole).logits[:, -6:-1].log_softmax(-1)
        return scores.gather(2, rows[:, -5:, None]).sum((1, 2))

    beams = model.generate(ids, do_sample=False, num_beams=8, **options)
    assert (log_likelihood(beams) >= log_likelihood(greedy) - 1e-4).all()


def test_a_padding_token_that_ends_turns_is_not_taken_for_padding(model, monkeypatch):
    ids = torch.tensor([FIRST + OPEN])
    with torch.no_grad():
        expected = model(ids, torch.ones_like(ids)).logits
        monkeypatch.setattr(model.config, "pad_token_id", EOS)
        torch.testing.assert_close(model(ids).logits, expected)


def test_a_stateless_model_reads_the_whole_history():
    torch.manual_seed(0)
    plain = ReactiveForCausalLM(
        ReactiveConfig(vocab_size=60, hidden_size=32, num_hidden_layers=2, memory_slots=0)
    ).eval()
    ids = torch.tensor([FIRST + OPEN])
    with torch.no_grad():
        torch.testing.assert_close(plain(ids).logits, plain.decode(ids).logits)
        moved = plain(torch.tensor([[BOS, Q, 55, 11, A, 12, EOS, *OPEN]])).logits
    assert not torch.allclose(plain(ids).logits[0, -1], moved[0, -1])
    assert plain.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=3, do_sample=False).shape[1] <= 15


def test_the_chat_template_renders_turn_tokens():
    import jinja2

    config = ReactiveConfig(query_token="<ask>")
    environment = jinja2.Environment(extensions=["jinja2.ext.loopcontrols"])
    source = chat_template(config).replace("{%- generation -%}", "").replace("{%- endgeneration -%}", "")
    template = environment.from_string(source)
    talk = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hello", "think": "greet"},
        {"role": "user", "content": "bye"},
    ]
    text = template.render(messages=talk, add_generation_prompt=True)
    assert text == "[BOS]<ask>be brief\nhi[T]greet[A]hello[EOS][BOS]<ask>bye[A]"
    assert template.render(messages=talk[1:2], add_generation_prompt=True, enable_thinking=True) == "[BOS]<ask>hi[T]"
