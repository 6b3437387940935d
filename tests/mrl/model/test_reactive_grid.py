"""Every variant of the model does everything: one test over the whole grid."""

import itertools

import pytest
import torch

from mrl.losses.answer_log_probs import answer_log_probs
from mrl.model import Answers, MemoryHistory, MemoryState, ReactiveConfig, ReactiveForCausalLM, Sampling, join_rows
from mrl.model.configuration_reactive import GATE_ACTIVATIONS, GATE_SCOPES, GATES, MEMORY_VARIANTS
from mrl.model.decoding import prefill, step

HEADS = {"mha": (4, 4), "gqa": (4, 2), "mqa": (4, 1), "sqa": (2, 2)}
GATINGS = list(itertools.product(GATES, GATE_ACTIVATIONS, GATE_SCOPES))
BODIES = list(itertools.product(HEADS, (0, 4), (False, True)))  # heads, experts, tied
# Every memory variant with every gating and with every body; what isn't crossed is walked through alongside.
GRID = [
    *((v, GATINGS[i], BODIES[5 * i % 16]) for v in MEMORY_VARIANTS for i in range(20)),
    *((v, GATINGS[(3 * i + 1) % 20], BODIES[i]) for v in MEMORY_VARIANTS for i in range(16)),
]


def small_model(**changes) -> ReactiveForCausalLM:
    torch.manual_seed(0)
    sizes = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 48, "memory_slots": 5}
    return ReactiveForCausalLM(ReactiveConfig(**{**sizes, "max_interaction_length": 48, **changes})).eval()


def tokens(*shape: int) -> torch.Tensor:
    return torch.randint(8, 60, shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("index", range(len(GRID)), ids=["-".join(map(str, (v, *g, *b))) for v, g, b in GRID])
def test_variant_writes_reads_learns_and_answers(index):
    variant, (gate, activation, scope), (heads, experts, tied) = GRID[index]
    model = small_model(
        memory_variant=variant,
        gate=gate,
        gate_activation=activation,
        gate_scope=scope,
        num_query_heads=HEADS[heads][0],
        num_key_value_heads=HEADS[heads][1],
        num_experts=experts,
        tie_word_embeddings=tied,
        initial_state="learned" if index % 2 else "normal",
        initial_weights="mimetic" if index % 4 > 1 else "normal",
        memory_groups=2 if index % 3 == 0 else 1,
        copy_window=3 if index % 2 and gate != "off" and activation == "sigmoid" else 0,
    )
    turns, mask = tokens(3, 2, 9), torch.ones(3, 2, 9, dtype=torch.long)
    mask[0, 1, 5:] = 0
    check_writes(model, turns, mask)
    check_gradients(model, turns, mask)
    check_answers(model, tokens(3, 7), index)
    check_low_precision(model, turns)


def test_the_grid_crosses_every_variant_with_every_gating_and_every_body():
    assert len({(v, g) for v, g, _ in GRID}) == 4 * len(GATINGS) == 80
    assert len({(v, b) for v, _, b in GRID}) == 4 * len(BODIES) == 64


def check_writes(model, turns, mask):
    start = model.initial_state(seeds=[3, 1, 2])
    with torch.no_grad():
        by_hand = [start]
        for turn in range(2):
            by_hand.append(model.write(by_hand[-1], turns[:, turn], mask[:, turn]))
        history = model.unroll(start, turns, mask)
        torch.testing.assert_close(history.slots, MemoryHistory.stack(by_hand).slots, atol=1e-5, rtol=1e-5)
        alone = model.write(start.rows(slice(1)), turns[:1, 0])
        torch.testing.assert_close(alone.slots, by_hand[1].slots[:, :1], atol=1e-5, rtol=1e-5)


def check_gradients(model, turns, mask):
    history = model.unroll(model.initial_state(seeds=[3, 1, 2]), turns, mask)
    rows = history.after(torch.tensor([1, 2] * 3), torch.tensor([0, 0, 1, 1, 2, 2]))
    output = model.decode(turns.flatten(0, 1), None, rows, labels=turns.flatten(0, 1))
    output.loss.backward()
    quiet = {name for name, p in model.named_parameters() if p.requires_grad and p.grad is None}
    assert quiet == {name for name, _ in model.named_parameters() if "mlm_head" in name or "encoder_norm" in name}
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    assert sum(len(part) for part in model.parts().values()) == len(list(model.parameters()))
    model.zero_grad()


def check_answers(model, queries, index):
    state = model.initial_state(seeds=[3, 1, 2])
    mask = torch.ones_like(queries)
    mask[1, 4:] = 0
    sampling = Sampling(temperature=0.8, top_k=20 if index % 2 else 0)
    answers = model.generate_answers(queries, mask, state, max_new_tokens=12, seeds=[1, 2, 3], sampling=sampling)
    with torch.no_grad():
        scored = answers.sampled
        again = answer_log_probs(model, (queries, mask), (answers.ids, answers.mask), scored, state, sampling)
        torch.testing.assert_close(again.log_probs, answers.log_probs[scored], atol=1e-5, rtol=0)
        check_cache(model, queries, mask, answers, state)


def check_cache(model, queries: torch.Tensor, mask: torch.Tensor, answers: Answers, state: MemoryState):
    _, cache = prefill(model, queries, mask, state)
    ids, whole_mask, _ = join_rows(queries, mask, answers.ids, None)
    full = model.decode(ids, whole_mask, state).logits
    for place in range(answers.ids.shape[1]):
        logits = step(model, answers.ids[:, place], cache)
        rows = torch.arange(3)
        torch.testing.assert_close(logits, full[rows, mask.sum(1) + place], atol=1e-4, rtol=0)


def check_low_precision(model, turns):
    model.to(torch.bfloat16)
    state = model.initial_state(1)
    with torch.no_grad():
        state = model.write(state, turns[:1, 0])
        assert state.dtype == torch.bfloat16
        assert model.decode(turns[:1, 1], None, state).logits.isfinite().all()
    answers = model.generate_answers(turns[:1, 1], None, state, max_new_tokens=4)
    assert answers.log_probs.isfinite().all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hidden_size": 30}, "num_attention_heads"),
        ({"num_key_value_heads": 3}, "no multiple"),
        ({"gate": "open"}, "choose one of off"),
        ({"memory_groups": 3}, "must divide"),
        ({"num_experts": 2, "num_experts_per_token": 3}, "1..num_experts"),
    ],
)
def test_contradictory_configurations_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        small_model(**changes)


def test_gradient_checkpointing_changes_nothing():
    model = small_model().train()
    turns = tokens(2, 2, 9)

    def loss() -> torch.Tensor:
        history = model.unroll(model.initial_state(2), turns)
        memory = history.after(torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, 1, 1]))
        return model.decode(turns.flatten(0, 1), None, memory, labels=turns.flatten(0, 1)).loss

    plain = torch.autograd.grad(loss(), model.model.embedding.weight)[0]
    model.gradient_checkpointing_enable()
    torch.testing.assert_close(torch.autograd.grad(loss(), model.model.embedding.weight)[0], plain)


def test_gradients_reach_the_first_write_through_all_later_ones():
    model = small_model()
    start = model.initial_state(1).slots.requires_grad_()
    history = model.unroll(MemoryState(start), tokens(1, 6, 9))
    model.decode(tokens(1, 5), None, history[-1], labels=tokens(1, 5)).loss.backward()
    assert start.grad.abs().sum() > 0


def test_ended_dialogues_keep_their_memory():
    model = small_model()
    turns, mask = tokens(2, 2, 9), torch.ones(2, 2, 9, dtype=torch.long)
    mask[1, 1] = 0
    with torch.no_grad():
        history = model.unroll(model.initial_state(2), turns, mask)
        before, after = history[1].slots, history[2].slots
        assert torch.equal(after[:, 1], before[:, 1])
        assert not torch.equal(after[:, 0], before[:, 0])
        assert torch.equal(model.write(history[1], turns[:, 1], mask[:, 1]).slots[:, 1], before[:, 1])


def test_logits_at_chosen_positions_are_those_of_the_full_pass():
    model, ids = small_model(), tokens(2, 9)
    chosen = torch.rand(2, 9) < 0.5
    state = model.initial_state(1)
    full = model.decode(ids, None, state).logits
    assert torch.allclose(model.decode(ids, None, state, logits_at=chosen).logits, full[chosen], atol=1e-6)
    labels = ids.masked_fill(~chosen, -100)
    loss = torch.nn.functional.cross_entropy(full[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    torch.testing.assert_close(model.decode(ids, None, state, labels=labels).loss, loss)


def test_too_long_or_left_padded_interactions_are_refused():
    model = small_model()
    with pytest.raises(ValueError, match="max_interaction_length"):
        model.write(model.initial_state(1), tokens(1, 49))
    with pytest.raises(ValueError, match="right-padded"):
        model.decode(tokens(1, 4), torch.tensor([[0, 1, 1, 1]]), model.initial_state(1))


def test_a_model_without_memory_refuses_a_state():
    with pytest.raises(ValueError, match="memory_slots 0"):
        small_model(memory_slots=0).decode(tokens(1, 4), None, small_model().initial_state(1))
