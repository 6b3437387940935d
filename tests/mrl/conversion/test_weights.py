"""A converted model computes what the causal one does while its memory is empty, and reads what it keeps."""

import pytest
import torch
from transformers import (
    Gemma2Config,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

from mrl.conversion.weights import reactive_from_causal, require_supported
from mrl.model import MemoryState, ReactiveForCausalLM, Sampling
from mrl.model.memory import keep_surprising, occupied
from pipeline.errors import InputError
from tests.mrl.conversion.toy import HEADER, MEMORY, READERS, SIZES, causal, opened, tokens


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        (LlamaConfig, {"tie_word_embeddings": True}),
        (LlamaConfig, {"attention_bias": True, "tie_word_embeddings": False}),
        (Qwen2Config, {"tie_word_embeddings": False}),
        (MistralConfig, {"sliding_window": None, "rms_norm_eps": 1e-5}),
    ],
)
@pytest.mark.parametrize("reader", READERS)
@torch.no_grad()
def test_an_empty_memory_changes_no_logit_and_one_that_is_read_apart_none_at_the_start(kind, more, reader):
    source = causal(kind, **more)
    model = reactive_from_causal(source, **MEMORY, **READERS[reader]).eval()
    ids = tokens(2, 20)
    expected = source(ids).logits
    torch.testing.assert_close(model(ids).logits, expected, atol=1e-5, rtol=0)
    empty, full = model.initial_state(2), model.write(model.initial_state(2), tokens(2, 48, seed=8))
    assert bool(occupied(full.slots).all())
    prompt, mask = ids[:, :9], torch.tensor([[1] * 9, [1] * 4 + [0] * 5])
    for state in (empty, full):
        difference = (model.decode(ids, None, state).logits - expected).abs().max()
        if state is full and "joint" in reader:
            assert difference > 1e-2
            continue
        assert difference < 1e-5
        said = model.generate_answers(
            prompt, mask, state, forced=None, sampling=Sampling(temperature=0), max_new_tokens=6, stop=()
        ).ids  # fmt: skip
        for row, length in enumerate(mask.sum(1).tolist()):
            whole = torch.cat([prompt[row, :length], said[row]])[None]
            assert torch.equal(source(whole).logits[0, length - 1 : -1].argmax(-1), said[row])


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (Gemma2Config(), "model_type gemma2"),
        (Qwen3Config(), "model_type qwen3 .its attention norms queries and keys"),
        (MistralConfig(sliding_window=16), "sliding-window"),
        (Qwen2Config(use_sliding_window=True, sliding_window=16, max_window_layers=1), "sliding-window"),
        (LlamaConfig(mlp_bias=True), "mlp_bias"),
        (LlamaConfig(hidden_act="gelu"), "hidden_act gelu"),
        (LlamaConfig(head_dim=32, hidden_size=64, num_attention_heads=4), "head_dim 32"),
        (
            LlamaConfig(rope_parameters={"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}),
            "rope_type linear",
        ),
    ],
)
def test_parts_that_the_decoder_lacks_are_refused_by_name(config, said):
    with pytest.raises(InputError, match=said):
        require_supported(config, "model.name: x")


def test_the_most_surprising_tokens_are_kept_in_order_and_the_oldest_go():
    states = torch.arange(1.0, 6.0).view(1, 1, 5, 1)
    surprise = torch.tensor([[0.0, 3.0, 1.0, 2.0, 9.0]])
    mask = torch.tensor([[1, 1, 1, 1, 0]])
    once = keep_surprising(torch.zeros(1, 1, 3, 1), states, surprise, mask, share=0.5)
    assert once.flatten().tolist() == [0.0, 2.0, 4.0]
    twice = keep_surprising(once, 10 * states, surprise, mask, share=0.5)
    assert twice.flatten().tolist() == [4.0, 20.0, 40.0]
    silent = keep_surprising(twice, states, surprise, torch.zeros_like(mask), share=0.5)
    assert torch.equal(silent, twice)
    assert keep_surprising(twice, states, surprise, mask, share=1.0).flatten().tolist() == [2.0, 3.0, 4.0]


@torch.no_grad()
def test_slots_are_read_as_tokens_that_stand_at_position_zero():
    # The plain reference: the first layer's attention over slots and tokens, written out; places learnt something.
    source = causal(rope_theta=5000.0, attention_bias=True)
    model = reactive_from_causal(source, **MEMORY).eval()
    place = torch.nn.init.normal_(model.model.decoder[0].slot_reader.place)
    written, ids = tokens(1, 9, seed=1), tokens(1, 5, seed=2)
    state = model.write(model.initial_state(1), written)
    layer, x = model.model.decoder[0], model.model.embed(ids)
    attention = source.model.layers[0].self_attn
    normed = layer.attention_norm(torch.cat([state.slots[0][:, occupied(state.slots)[0]], x], dim=1))[0]
    kept = normed.shape[0] - ids.shape[1]
    query, key, value = (getattr(attention, f"{n}_proj")(normed).unflatten(-1, (-1, 8)) for n in "qkv")
    position = torch.tensor([0] * kept + list(range(ids.shape[1])))
    angle = position[:, None] * 5000.0 ** -(torch.arange(0, 8, 2) / 8)
    cos, sin = (f(angle).repeat(1, 2)[:, None] for f in (torch.cos, torch.sin))
    query, key = (p * cos + torch.cat([-p[..., 4:], p[..., :4]], -1) * sin for p in (query, key))
    key[:kept] += place[-kept:]
    expected = torch.empty(ids.shape[1], 4, 8)
    for token in range(ids.shape[1]):
        for head in range(4):
            seen = kept + token + 1
            share = (key[:seen, head // 2] @ query[kept + token, head] / 8**0.5).softmax(0)
            expected[token, head] = share @ value[:seen, head // 2]
    mask = occupied(state.slots)[:, None, None]
    got = layer._joint_attention(x, model.model.table(5, x), state.slots[0], mask)[0]
    torch.testing.assert_close(got, attention.o_proj(expected.flatten(1)), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_memory_matters_and_one_token_at_a_time_is_the_same(pair):
    _, model = pair
    state = model.write(model.initial_state(2), tokens(2, 9, seed=1), torch.tensor([[1] * 9, [1] * 4 + [0] * 5]))
    assert occupied(state.slots).sum(1).tolist() == [3, 1]
    ids, mask = tokens(2, 6, seed=2), torch.tensor([[1] * 6, [1] * 3 + [0] * 3])
    answers = model.generate_answers(ids, mask, state, forced=None, sampling=Sampling(temperature=0), max_new_tokens=8)
    for row, length in enumerate(mask.sum(1).tolist()):
        said = answers.ids[row, : int(answers.mask[row].sum())]
        whole = torch.cat([ids[row, :length], said])[None]
        logits = model.decode(whole, None, state.rows(slice(row, row + 1))).logits[0, length - 1 : -1]
        assert torch.equal(logits.argmax(-1), said)
        empty = model.decode(whole).logits[0, length - 1 : -1]
        assert (logits - empty).abs().max() > 1e-3


@pytest.mark.parametrize("reader", ["joint", "cross in one layer"])
@pytest.mark.parametrize("encoder", ["own", "shared", "none"])
@torch.no_grad()
def test_unrolling_is_writing_one_by_one(encoder, reader):
    model = opened(reactive_from_causal(causal(), **MEMORY | {"encoder": encoder}, **READERS[reader]).eval())
    ids, mask = tokens(2, 3, 7), torch.ones(2, 3, 7, dtype=torch.long)
    mask[0, 1, 4:] = 0
    mask[1, 2] = 0
    state, history = model.initial_state(2), model.unroll(model.initial_state(2), ids, mask)
    for turn in range(3):
        state = model.write(state, ids[:, turn], mask[:, turn])
        torch.testing.assert_close(history[turn + 1].slots, state.slots)


@torch.no_grad()
def test_whose_states_are_kept():
    source = causal()
    shared, none, own = (
        reactive_from_causal(source, **MEMORY | {"encoder": kind, "kept_share": 1.0, "memory_slots": 24}).eval()
        for kind in ("shared", "none", "own")
    )
    first, second = tokens(1, 7, seed=1), tokens(1, 5, seed=2)
    before = shared.write(shared.initial_state(1), first)
    # The first interaction is read with an empty memory, so all three keep the same; a copy goes on doing so.
    for model in (none, own):
        torch.testing.assert_close(model.write(model.initial_state(1), first).slots, before.slots)
    after = shared.write(before, second).slots
    torch.testing.assert_close(own.write(before, second).slots, after)
    inputs = []
    hooks = [layer.register_forward_pre_hook(lambda _, args: inputs.append(args[0])) for layer in none.model.decoder]
    none.decode(second, None, before)
    for hook in hooks:
        hook.remove()
    kept = none.write(before, second).slots[:, :, -5:]
    torch.testing.assert_close(kept, torch.stack(inputs))
    assert (kept - after[:, :, -5:]).abs().max() > 1e-3


def test_memory_parts_learn_while_the_original_weights_are_frozen():
    model = reactive_from_causal(causal(), **MEMORY | {"encoder": "own"})
    parts = model.parts()
    for name in ("decoder", "embedding"):
        for parameter in parts[name]:
            parameter.requires_grad_(False)
    history = model.unroll(model.initial_state(1), tokens(1, 2, 7))
    ids = tokens(1, 6, seed=4)
    model.decode(ids, None, history[2], labels=ids).loss.backward()
    assert len(parts["memory_cross_attention"]) == 2 * SIZES["num_hidden_layers"]
    assert all(float(p.grad.abs().sum()) > 0 for p in parts["memory_cross_attention"])
    # What enters the last layer is what is kept of it, so its own weights and the norm behind it have no say.
    learning = [n for n, p in model.model.encoder[:-1].named_parameters() if p.grad is None or not p.grad.abs().sum()]
    assert learning == []
    assert all(p.grad is None for name in ("decoder", "embedding") for p in parts[name])


def test_the_gradient_of_an_answer_reaches_the_write(pair):
    _, model = pair
    history = model.unroll(model.initial_state(1), tokens(1, 2, 7))
    state = history[2]
    state.slots.retain_grad()
    ids = tokens(1, 6, seed=4)
    model.decode(ids, None, state, labels=ids).loss.backward()
    assert model.model.embedding.weight.grad.abs().sum() > 0
    assert state.slots.grad.abs().amax((0, 1, 3))[-4:].min() > 0
    model.zero_grad()


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("keep", ["surprise", "learned"])
def test_states_that_share_their_tokens_are_those_that_writes_leave_and_read_and_learn_alike(reader, keep):
    memory = {**MEMORY, **READERS[reader], "memory_keep": keep, "memory_slots": 11}
    model = reactive_from_causal(causal(LlamaConfig), **memory).eval()
    if model.config.encoder == "none":
        pytest.skip("what is written depends on what was: there is no history of tokens")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if any(part in name for part in ("place", "gate", "token_worth")):
                torch.nn.init.normal_(parameter, std=0.5)
    turns, mask = tokens(2, 3 * 7).view(2, 3, 7), torch.ones(2, 3, 7, dtype=torch.long)
    mask[1, 1, 4:] = 0
    begun = model.write(model.initial_state(2), tokens(2, 5, seed=3), torch.tensor([[1] * 5, [0] * 5]))
    for start in (model.initial_state(2), begun):
        history = model.unroll(start, turns, mask)
        states = [start]
        for turn in range(3):
            states.append(model.write(states[-1], turns[:, turn], mask[:, turn]))
        for each, expected in enumerate(states):
            torch.testing.assert_close(history[each].slots, expected.slots)
            torch.testing.assert_close(history.slots[each], expected.slots)
        writes, rows, ids = torch.tensor([0, 3, 2, 1]), torch.tensor([1, 0, 1, 0]), tokens(4, 6, seed=4)
        shared = history.after(writes, rows)
        assert len(shared) == 4
        laid_out = MemoryState(torch.stack([states[w].slots[:, r] for w, r in zip(writes, rows, strict=True)], 1))
        assert shared.shape == laid_out.shape
        assert torch.equal(shared.filled, laid_out.filled)
        found = []
        for state in (shared, laid_out):
            model.zero_grad()
            model.decode(ids, None, state, labels=ids).loss.backward(retain_graph=True)
            found.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
        assert found[0].keys() == found[1].keys()
        for name, gradient in found[0].items():
            torch.testing.assert_close(gradient, found[1][name], atol=1e-5, rtol=1e-4, msg=name)
        assert not any("token_worth" in name for name in found[0]), "what to keep isn't learnt from what is read"
        said = [
            model.generate_answers(
                ids,
                torch.ones_like(ids),
                state,
                forced=None,
                sampling=Sampling(temperature=0),
                max_new_tokens=4,
                stop=(),
            ).ids
            for state in (shared, laid_out)
        ]
        assert torch.equal(*said)


@torch.no_grad()
def test_what_is_kept_follows_what_a_token_is_worth():
    plain = reactive_from_causal(causal(LlamaConfig), **MEMORY).eval()
    model = reactive_from_causal(causal(LlamaConfig), **MEMORY, memory_keep="learned").eval()
    ids = tokens(1, 12)
    before = plain.write(plain.initial_state(1), ids)
    assert torch.equal(model.write(model.initial_state(1), ids).slots, before.slots)
    middle = plain.encode(ids).layers[1, 0]
    worst = plain.encode(ids).surprise[0].argmin()
    model.model.token_worth.weight.copy_(100 * middle[worst])
    kept = model.write(model.initial_state(1), ids).slots[1, 0]
    assert not any(torch.equal(slot, middle[worst]) for slot in before.slots[1, 0])
    assert any(torch.equal(slot, middle[worst]) for slot in kept)


@torch.no_grad()
def test_a_rendered_conversation_is_split_at_the_user_header_and_survives_saving(pair, tmp_path):
    _, model = pair
    model.save_pretrained(tmp_path)
    again = ReactiveForCausalLM.from_pretrained(tmp_path).eval()
    first, last = tokens(1, 6, seed=5), tokens(1, 4, seed=6)
    header = torch.tensor([HEADER])
    system = tokens(1, 3, seed=7)
    flat = torch.cat([system, header, first, header, last], dim=1)
    state = model.write(model.initial_state(1), torch.cat([system, header, first], dim=1))
    expected = model.decode(torch.cat([header, last], dim=1), None, state).logits
    for each in (model, again):
        torch.testing.assert_close(each(flat).logits[:, -7:], expected)
    padded = torch.cat([torch.zeros(1, 2, dtype=torch.long), flat], dim=1)
    out = again.generate(padded, attention_mask=(padded > 0).long(), do_sample=False, max_new_tokens=3)
    assert out[0, padded.shape[1]] == expected[0, -1].argmax()


THINK, THINK_END, ANSWER = [4, 7, 5, 6], [2, 1], [4, 7, 5]


def plainly(model, state, prompt, *, think, words):
    """Greedy, from the whole text each time: a thought of at most `think` tokens (None: no thought), then words."""
    said = [*(ANSWER if think is None else THINK)]

    def more():
        ids = torch.tensor([[*prompt, *said]])
        said.append(int(model.decode(ids, None, state).logits[0, -1].argmax()))

    if think is not None:
        for _ in range(think):
            more()
            if said[-2:] == THINK_END:
                break
        else:
            said += THINK_END
    for _ in range(words):
        more()
        if said[-1] == 3:
            break
    return said


@pytest.mark.parametrize("think", [None, 3])
@torch.no_grad()
def test_markers_of_several_tokens_stand_around_thought_and_answer(pair, think):
    _, model = pair
    state = model.write(model.initial_state(3), tokens(3, 9, seed=1))
    ids, mask = tokens(3, 6, seed=2), torch.tensor([[1] * 6, [1] * 3 + [0] * 3, [1] * 5 + [0]])
    answers = model.generate_answers(
        ids, mask, state, forced="answer" if think is None else "think", max_think_tokens=3, max_new_tokens=5,
        sampling=Sampling(temperature=0),
    )  # fmt: skip
    for row, length in enumerate(mask.sum(1).tolist()):
        expected = plainly(model, state.rows(slice(row, row + 1)), ids[row, :length].tolist(), think=think, words=4)
        said = answers.ids[row, : int(answers.mask[row].sum())].tolist()
        assert said == expected
        begin = int(answers.words_from[row])
        assert begin == (3 if think is None else int(answers.thought[row]) + 2)
        chosen = answers.sampled[row, : len(said)].tolist()
        marks = set(range(len(ANSWER if think is None else THINK))) | ({begin - 2, begin - 1} if think else set())
        assert [i for i, free in enumerate(chosen) if not free] == sorted(marks)


@torch.no_grad()
def test_a_thought_may_be_chosen_in_place_of_the_first_word(pair):
    _, model = pair
    state, ids = model.initial_state(1), tokens(200, 5, seed=9)
    options = {"max_think_tokens": 3, "max_new_tokens": 5, "seeds": list(range(200))}
    answers = model.generate_answers(ids, None, state, forced="auto", sampling=Sampling(temperature=50.0), **options)
    thinks = answers.ids[:, 3] == 6
    assert 0 < int(thinks.sum()) < 20
    assert torch.equal(answers.thought > 0, thinks)
    assert bool(answers.sampled[:, 3].all())  # the choice is the model's, the header before it isn't
    assert not bool(answers.sampled[:, :3].any())
    assert torch.equal(model.config.frame.words_from(answers.ids), answers.words_from)
