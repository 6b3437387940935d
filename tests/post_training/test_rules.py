"""What a row becomes and what the model must learn: labels, turn ends, new tokens, packing, preferences."""

import math

import pytest
import torch
from torch.nn import functional as F

from data.sources.messages import BadRow
from data.sources.pairs.rows import pair_row
from pipeline.errors import InputError
from post_training.chat import IGNORED, ChatEncoder, Encoded
from post_training.operators import _LabelLogProbs, causal_products, label_log_probs, root_mean_square_norm
from post_training.policy import PolicyConfig, add_special_tokens, agree_on_turn_end, load_policy
from post_training.ragged import lay_end_to_end
from post_training.rows import Conversation
from tests.post_training import toy

CHAT = [
    {"role": "user", "content": "say red"},
    {"role": "assistant", "content": "red"},
    {"role": "user", "content": "say blue"},
    {"role": "assistant", "content": "blue"},
]
# As many published templates do it: a line break after the last end of turn.
WITH_TAIL = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def encode(tokenizer, conversations: list[list[dict]], *, assistant_only: bool) -> list[Encoded]:
    return ChatEncoder(tokenizer).encode([Conversation(c) for c in conversations], assistant_only)


@pytest.mark.parametrize("assistant_only", [True, False])
@pytest.mark.parametrize("template", [toy.CHATML, WITH_TAIL])
def test_the_end_of_the_turn_is_learnt_even_where_it_is_the_pad_token(assistant_only, template):
    tokenizer = toy.tokenizer(pad_is_eos=True)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    tokenizer.chat_template = template
    if assistant_only and template is WITH_TAIL:
        with pytest.raises(InputError, match="generation"):
            encode(tokenizer, [CHAT], assistant_only=True)
        return
    (row,) = encode(tokenizer, [CHAT], assistant_only=assistant_only)
    assert row.ids[-1] == row.labels[-1] == tokenizer.eos_token_id
    assert row.ids.count(tokenizer.eos_token_id) == 4


def test_only_the_assistants_words_and_their_ends_are_labels():
    tokenizer = toy.tokenizer()
    (row,) = encode(tokenizer, [CHAT], assistant_only=True)
    trained = [token for token, label in zip(row.ids, row.labels, strict=True) if label != IGNORED]
    assert tokenizer.decode(trained) == "red<|im_end|>blue<|im_end|>"
    assert all(label in (token, IGNORED) for token, label in zip(row.ids, row.labels, strict=True))
    (whole,) = encode(tokenizer, [CHAT], assistant_only=False)
    assert whole.labels == whole.ids == row.ids


def test_the_end_token_becomes_likelier_in_training_when_pad_and_end_are_one(tmp_path):
    """The mistake that this guards against trains a model that never stops."""
    model, tokenizer = toy.model(), toy.tokenizer(pad_is_eos=True)
    rows = encode(tokenizer, [CHAT[:2], CHAT], assistant_only=True)
    width = max(len(r.ids) for r in rows)
    ids = torch.tensor([r.ids + [tokenizer.pad_token_id] * (width - len(r.ids)) for r in rows])
    labels = torch.tensor([r.labels + [IGNORED] * (width - len(r.ids)) for r in rows])
    mask = torch.tensor([[1] * len(r.ids) + [0] * (width - len(r.ids)) for r in rows])
    place = len(rows[0].ids) - 2  # predicts the first row's final token
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

    def chance() -> float:
        logits = model(input_ids=ids, attention_mask=mask).logits
        return float(logits[0, place].softmax(-1)[tokenizer.eos_token_id])

    before = chance()
    model(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
    optimizer.step()
    assert chance() > before


@pytest.mark.parametrize("tied", [True, False])
def test_new_tokens_start_from_the_mean_of_the_old_rows(tied):
    tokenizer = toy.tokenizer()
    torch.manual_seed(0)
    model = toy.model(len(tokenizer))
    if not tied:
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
        model.config.tie_word_embeddings = False
    old = [layer.weight.detach().clone() for layer in (model.get_input_embeddings(), model.get_output_embeddings())]
    new = add_special_tokens(model, tokenizer, ["<think>", "</think>"])
    assert tokenizer.convert_ids_to_tokens(new) == ["<think>", "</think>"]
    assert tokenizer.encode("<think>") == [new[0]]
    for layer, before in zip((model.get_input_embeddings(), model.get_output_embeddings()), old, strict=True):
        assert torch.equal(layer.weight[: len(before)], before)
        for row in new:
            torch.testing.assert_close(layer.weight[row], before.mean(dim=0))
    assert add_special_tokens(model, tokenizer, ["<think>"]) == []  # known already: nothing moves


def test_a_loaded_policy_agrees_on_its_tokens_and_takes_the_yamls_template(tmp_path):
    folder = toy.save(tmp_path / "toy")
    model, tokenizer, _ = load_policy(PolicyConfig(name=str(folder), special_tokens=["<think>", "</think>"]), WITH_TAIL)
    assert tokenizer.chat_template == WITH_TAIL
    for config in (model.config, model.generation_config):
        assert (config.eos_token_id, config.pad_token_id) == (tokenizer.eos_token_id, tokenizer.pad_token_id)
    assert model.get_input_embeddings().weight.shape[0] == len(tokenizer)
    with pytest.raises(InputError, match="there is no folder"):
        load_policy(PolicyConfig(name="./missing"), None)
    with pytest.raises(InputError, match="eos_token"):
        agree_on_turn_end(model, tokenizer, eos="<|never|>")


def documents(lengths: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Padded ids, mask and labels (the first two tokens of each aren't labels)."""
    torch.manual_seed(1)
    width = max(lengths)
    ids = torch.full((len(lengths), width), 2)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, IGNORED)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(3, 300, (length,))
        mask[row, :length] = 1
        labels[row, 2:length] = ids[row, 2:length]
    return ids, mask, labels


def alone(model, ids, mask, labels) -> list[torch.Tensor]:
    """Log-probabilities of each document's labels, one document at a time through the plain model."""
    found = []
    for row in range(len(ids)):
        n = int(mask[row].sum())
        logits = model(input_ids=ids[row : row + 1, :n]).logits[0, :-1].float().log_softmax(-1)
        wanted = labels[row, 1:n]
        kept = wanted != IGNORED
        found.append(logits[kept].gather(1, wanted[kept, None])[:, 0])
    return found


@pytest.mark.parametrize("lengths", [(3, 17, 5, 5, 40), (6,), (9, 9, 9)])
def test_documents_laid_end_to_end_score_as_they_do_alone(lengths):
    ids, mask, labels = documents(lengths)
    plain = toy.model()
    expected = torch.cat(alone(plain, ids, mask, labels))
    model = toy.model()
    assert lay_end_to_end(model)
    padded = model(input_ids=ids, attention_mask=mask, labels=labels, fused_lm_head=True).log_probs
    kept = labels[:, 1:] != IGNORED
    torch.testing.assert_close(padded[kept], expected, atol=2e-5, rtol=1e-4)
    # The same documents packed into one row: no document sees its neighbour.
    flat_ids = torch.cat([row[m.bool()] for row, m in zip(ids, mask, strict=True)])[None]
    flat_labels = torch.cat([row[m.bool()] for row, m in zip(labels, mask, strict=True)])[None]
    positions = torch.cat([torch.arange(n) for n in lengths])[None]
    packed = model(input_ids=flat_ids, position_ids=positions, labels=flat_labels, fused_lm_head=True).log_probs
    kept = flat_labels[:, 1:] != IGNORED
    torch.testing.assert_close(packed[kept], expected, atol=2e-5, rtol=1e-4)


def test_gradients_end_to_end_are_those_of_the_documents_alone():
    ids, mask, labels = documents((4, 11, 7))
    plain, ragged = toy.model(), toy.model()
    lay_end_to_end(ragged)
    total = sum(len(x) for x in alone(plain, ids, mask, labels))
    (-torch.cat(alone(plain, ids, mask, labels)).sum() / total).backward()
    scores = ragged(input_ids=ids, attention_mask=mask, labels=labels, fused_lm_head=True).log_probs
    (-scores[labels[:, 1:] != IGNORED].sum() / total).backward()
    for (name, a), (_, b) in zip(plain.named_parameters(), ragged.named_parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad, atol=1e-5, rtol=1e-3, msg=name)


def test_operators_have_the_values_and_gradients_of_plain_ones():
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 4, 9, 8, requires_grad=True) for _ in range(3))
    ours = causal_products(query, key, value, None)
    plain = F.scaled_dot_product_attention(query, key, value, is_causal=True)
    torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-5)
    up = torch.randn_like(plain)
    for a, b in zip(
        torch.autograd.grad(ours, (query, key, value), up),
        torch.autograd.grad(plain, (query, key, value), up),
        strict=True,
    ):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
    x, weight = torch.randn(5, 16, requires_grad=True), torch.randn(16, requires_grad=True)
    a, b = root_mean_square_norm(x, weight, 1e-6), F.rms_norm(x, (16,), weight, 1e-6)
    torch.testing.assert_close(a, b)
    up = torch.randn_like(a)
    for g, h in zip(torch.autograd.grad(a, (x, weight), up), torch.autograd.grad(b, (x, weight), up), strict=True):
        torch.testing.assert_close(g, h, atol=1e-5, rtol=1e-4)
    hidden, table = torch.randn(7, 16, requires_grad=True), torch.randn(30, 16, requires_grad=True)
    labels = torch.randint(0, 30, (7,))
    ours, top = label_log_probs(hidden, table, labels)
    logits = hidden @ table.T
    plain = logits.log_softmax(-1).gather(1, labels[:, None])[:, 0]
    torch.testing.assert_close(ours, plain)
    assert torch.equal(top, logits.argmax(-1) == labels)
    for g, h in zip(
        torch.autograd.grad(ours.sum(), (hidden, table)), torch.autograd.grad(plain.sum(), (hidden, table)), strict=True
    ):
        torch.testing.assert_close(g, h, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("stored", [2**20, 0])
@pytest.mark.parametrize(("block", "piece"), [(4, 2), (5, 3), (3, 4), (100, 2)])
def test_blocks_and_pieces_of_rows_leave_probabilities_and_gradients_as_they_are(monkeypatch, block, piece, stored):
    monkeypatch.setattr("post_training.operators._STORED_LOGITS_BYTES", stored)
    torch.manual_seed(0)
    hidden, table = torch.randn(11, 16, requires_grad=True), torch.randn(30, 16, requires_grad=True)
    labels, weights = torch.randint(0, 30, (11,)), torch.rand(11)
    ours, top = _LabelLogProbs.apply(hidden, table, labels, block, piece)
    logits = hidden @ table.T
    plain = logits.log_softmax(-1).gather(1, labels[:, None])[:, 0]
    torch.testing.assert_close(ours, plain)
    assert torch.equal(top, logits.argmax(-1) == labels)
    mine = torch.autograd.grad(ours @ weights, (hidden, table))
    for g, h in zip(mine, torch.autograd.grad(plain @ weights, (hidden, table)), strict=True):
        torch.testing.assert_close(g, h, atol=1e-5, rtol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        narrow, _ = _LabelLogProbs.apply(hidden, table, labels, block, piece)
    for g, h in zip(torch.autograd.grad(narrow @ weights, (hidden, table)), mine, strict=True):
        assert g.dtype == torch.float32
        assert (g - h).norm() < 0.02 * h.norm()


def test_a_preference_pair_is_its_shared_beginning_and_two_ends():
    tokenizer = toy.tokenizer()
    (row,) = toy.pairs(1)
    pair = pair_row(row, "row")
    assert pair.prompt == row["prompt"]
    assert pair_row({"chosen": row["chosen"], "rejected": row["rejected"]}, "row") == pair
    encoded = ChatEncoder(tokenizer).encode_pair(pair)
    for ids, messages in ((encoded.chosen, row["chosen"]), (encoded.rejected, row["rejected"])):
        text = tokenizer.decode(encoded.prompt + ids)
        assert text.startswith(f"<|im_start|>user\n{messages[0]['content']}<|im_end|>")
        assert tokenizer.decode(ids) == messages[1]["content"] + "<|im_end|>"
    assert all(encoded.chosen_scored)
    with pytest.raises(BadRow, match="no prompt"):
        pair_row({"chosen": "one", "rejected": "two"}, "row")


def test_a_loss_without_weights_is_the_logarithm_of_the_vocabulary():
    """Hand value: uniform logits give log(vocabulary) for every label, whatever lies beside it."""
    model = toy.model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    lay_end_to_end(model)
    ids, mask, labels = documents((5, 8))
    scores = model(input_ids=ids, attention_mask=mask, labels=labels, fused_lm_head=True).log_probs
    kept = scores[labels[:, 1:] != IGNORED]
    torch.testing.assert_close(kept, torch.full_like(kept, -math.log(320)))
