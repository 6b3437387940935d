"""Joint language modelling of encoder and decoder."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mrl.dialogues.collation import IGNORED, Interactions
from mrl.losses.memory_model import MemoryModel
from mrl.losses.output import LossOutput
from mrl.model import MemoryState
from mrl.recipes.supervised import JointConfig


def hide_tokens(batch: Interactions, share: float, special: Tensor, seed: int) -> Interactions:
    """Choose the encoder's [MASK] positions for a *global* batch: `share` of the words, at least one a row that has
    any, never a frame token (`special` ids)."""
    words = (batch.mask > 0) & ~torch.isin(batch.ids, special)
    draw = torch.rand(batch.ids.shape, generator=torch.Generator().manual_seed(seed))
    draw = draw.masked_fill(~words, 2.0)
    hidden = draw < share
    hidden |= (draw == draw.min(1, keepdim=True).values) & words & ~hidden.any(1, keepdim=True)
    batch.hidden = hidden if share > 0 else torch.zeros_like(hidden)
    return batch


def joint_counts(batch: Interactions) -> dict[str, int]:
    """What a global batch is divided by."""
    return {
        "ar": max(1, int((batch.labels[:, 1:] != IGNORED).sum())),
        "mlm": max(1, int(batch.hidden.sum())),
        "rows": len(batch),
    }


def joint_loss(
    model: MemoryModel, batch: Interactions, counts: dict[str, int], config: JointConfig, mask_token: int
) -> LossOutput:
    """Masked-token loss of the encoder and next-token loss of the decoder, which reads the encoder's outputs of the
    same (partly masked) text, detached, as its memory: one slot a token."""
    seen = batch.ids.masked_fill(batch.hidden, mask_token)
    encoded = model.encode(seen, batch.mask)
    metrics: dict[str, Tensor] = {}
    loss = encoded.layers.new_zeros(())
    if config.encoder_weight and bool(batch.hidden.any()):
        logits, wanted = model.mlm_logits(encoded.hidden[batch.hidden]), batch.ids[batch.hidden]
        mlm = F.cross_entropy(logits.float(), wanted, reduction="sum")
        loss = loss + config.encoder_weight * mlm / counts["mlm"]
        metrics |= {"mlm_loss": mlm.detach(), "mlm_right": (logits.argmax(-1) == wanted).sum(), "mlm_n": _n(wanted)}
    memory = corrupt(encoded.layers.detach(), batch, config, model.config.max_interaction_length)
    scored = batch.labels[:, 1:] != IGNORED
    targets = batch.labels[:, 1:][scored]
    out = model.decode(batch.ids, batch.mask, memory, logits_at=F.pad(scored, (0, 1)))
    ar = _answer_sum(out.logits, targets)
    loss = loss + config.decoder_weight * ar / counts["ar"]
    if out.aux_loss is not None:
        loss = loss + model.config.router_aux_loss_coef * out.aux_loss * len(batch) / counts["rows"]
    right = (out.logits.argmax(-1) == targets).sum()
    return LossOutput(loss, metrics | {"ar_loss": ar.detach(), "ar_right": right, "ar_n": _n(targets)})


def _n(x: Tensor) -> Tensor:
    return torch.tensor(x.numel(), device=x.device)


def _answer_sum(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy summed over targets; 0 (still part of the graph) where a share has none."""
    if targets.numel() == 0:
        return logits.float().sum()
    return F.cross_entropy(logits.float(), targets, reduction="sum")


def corrupt(layers: Tensor, batch: Interactions, config: JointConfig, longest: int) -> MemoryState:
    """What the decoder reads: encoder outputs [L, B, T, D] with noise and gaps by each row's own seed. These are drawn
    for `longest` tokens, so that a row's don't depend on how long its neighbours are."""
    readable = batch.mask.bool()
    if config.noise or config.hidden_share or config.blank_share:
        noise, keep, blank = _draws(batch, longest, layers.shape if config.noise else None)
        if noise is not None:
            layers = layers + config.noise * noise.to(layers)
        kept = readable & (keep.to(readable.device) >= config.hidden_share)
        kept = torch.where(kept.any(1, keepdim=True), kept, readable)
        layers = layers * (blank.to(layers.device) >= config.blank_share)[None, :, None, None]
        readable = kept
    return MemoryState(layers, readable)


def _draws(batch: Interactions, longest: int, shape: torch.Size | None) -> tuple[Tensor | None, Tensor, Tensor]:
    noise, keep, blank, tokens = [], [], [], batch.ids.shape[1]
    for seed in batch.noise.tolist():
        generator = torch.Generator().manual_seed(seed)
        blank.append(torch.rand((), generator=generator))
        keep.append(torch.rand(longest, generator=generator)[:tokens])
        if shape is not None:
            noise.append(torch.randn(shape[0], longest, shape[3], generator=generator)[:, :tokens])
    return (torch.stack(noise, 1) if noise else None), torch.stack(keep), torch.stack(blank)
