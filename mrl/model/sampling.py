"""From logits to tokens: temperature, top-k, top-p, and a draw that is reproducible row by row."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Think = Literal["never", "auto", "always"]
"""Whether an answer begins with a thought: never, where the model finds that likelier, always."""
Forced = Literal["answer", "auto", "think"]
FORCED: dict[Think, Forced] = {"never": "answer", "auto": "auto", "always": "think"}
"""What `generate_answers` calls that."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are drawn. temperature 0 is greedy; top_k 0 and top_p 1 filter nothing.

    Raises ValueError for values without a meaning.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self):
        if self.temperature < 0:
            raise ValueError(f"temperature is {self.temperature}; it must be 0 (greedy) or positive")
        if self.top_k < 0:
            raise ValueError(f"top_k is {self.top_k}; it must be 0 (off) or positive")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}; it must lie in (0, 1]")

    @property
    def greedy(self) -> bool:
        """No randomness; log-probs are then those of the model itself (temperature 1, nothing filtered)."""
        return self.temperature == 0


def adjust(logits: Tensor, sampling: Sampling) -> Tensor:
    """fp32 logits [..., V] of the distribution that is sampled from: tempered, then filtered (-inf).

    top-k keeps all tokens that tie with the k-th; top-p keeps the fewest most likely tokens whose sum reaches p.
    """
    logits = logits.float()
    if sampling.greedy:
        return logits
    if sampling.temperature != 1:
        logits = logits / sampling.temperature
    if 0 < sampling.top_k < logits.shape[-1]:
        least = logits.topk(sampling.top_k, dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < least, float("-inf"))
    if sampling.top_p < 1:
        ordered, order = logits.sort(dim=-1, descending=True, stable=True)
        probability = ordered.softmax(-1)
        beyond = probability.cumsum(-1) - probability >= sampling.top_p
        beyond[..., 0] = False  # a first token of probability 1 may round to more than p
        logits = logits.masked_fill(beyond.gather(-1, order.argsort(-1)), float("-inf"))
    return logits


def only(logits: Tensor, tokens: Sequence[int]) -> Tensor:
    """Logits [..., V] with every token ruled out but the given ones."""
    kept, index = torch.full_like(logits, float("-inf")), list(tokens)
    kept[..., index] = logits[..., index]
    return kept


def draw(logits: Tensor, uniform: Tensor | None, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """Tokens [B] and their log-probs [B] from logits [B, V]; uniform [B] in [0, 1) decides (unused when greedy).

    Inverts the cumulative distribution: one number per row and token, so a row's answer depends neither on its
    neighbours in the batch nor on rows that have already left it.
    """
    probability = adjust(logits, sampling).softmax(-1)
    if sampling.greedy:
        chosen, token = probability.max(-1)
        return token, chosen.log()
    if uniform is None:
        raise ValueError("draw needs a random number for every row, unless the sampling is greedy")
    ladder = probability.cumsum(-1)
    # Slightly below the top rung, lest rounding lets the search run off the end; zero-width rungs are never hit.
    height = uniform[:, None] * (ladder[:, -1:] * (1 - 1e-6))
    token = torch.searchsorted(ladder, height, right=True)
    return token.squeeze(1), probability.gather(1, token).log().squeeze(1)


def uniforms(
    rows: int, steps: int, generator: torch.Generator | None, seeds: list[int] | None, device: torch.device
) -> Tensor:
    """Random numbers [rows, steps] for `draw`: by row seed, from a generator, or from the global one."""
    if seeds is not None:
        if len(seeds) != rows:
            raise ValueError(f"{len(seeds)} sampling seeds for {rows} rows")
        drawn = [torch.rand(steps, generator=torch.Generator().manual_seed(int(seed) % 2**63)) for seed in seeds]
        return torch.stack(drawn).to(device)
    source = "cpu" if generator is None else generator.device
    return torch.rand(rows, steps, generator=generator, device=source).to(device)
