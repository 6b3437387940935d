"""Three operators with hand-written gradients, where PyTorch's own cost most on a CPU.

Measured with one thread of an AVX512-BF16 CPU: the gradient of PyTorch's causal attention in bf16 takes 2 to 6 times as
long as plain matrix products, and an RMSNorm of single operators reads its input eight times.
"""

from typing import Any

import torch

_STORED_LOGITS_BYTES = 256 * 2**20


class _CausalProducts(torch.autograd.Function):
    """Causal attention by batched matrix products: [count, heads, length, dim] each, all in one 16-bit type."""

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
        length = query.shape[2]
        query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
        future = torch.full((length, length), float("-inf"), dtype=query.dtype).triu_(1)
        weights = torch.softmax((query * scale @ key.transpose(2, 3)).add_(future), dim=-1)
        ctx.save_for_backward(query, key, value, weights)
        ctx.scale = scale
        return weights @ value

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        query, key, value, weights = ctx.saved_tensors
        grad = grads[0].contiguous()
        grad_value = weights.transpose(2, 3) @ grad
        # d softmax: weights * (d - sum(d * weights)), with sums in fp32 inside the operator
        grad_scores = torch._softmax_backward_data(grad @ value.transpose(2, 3), weights, -1, weights.dtype)
        grad_query = (grad_scores @ key).mul_(ctx.scale)
        grad_key = (grad_scores.transpose(2, 3) @ query).mul_(ctx.scale)
        return grad_query, grad_key, grad_value, None


LONGEST_BY_PRODUCTS = 1024
"""Above this length the stored weights (count * heads * length² numbers) cost more than they save."""


def causal_products(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None) -> torch.Tensor:
    """Causal attention of [count, heads, length, dim] with fewer heads for key and value where they are grouped."""
    repeats = query.shape[1] // key.shape[1]
    if repeats > 1:
        key, value = key.repeat_interleave(repeats, dim=1), value.repeat_interleave(repeats, dim=1)
    return _CausalProducts.apply(query, key, value, scale if scale is not None else query.shape[-1] ** -0.5)


class _RootMeanSquareNorm(torch.autograd.Function):
    """x / rms(x) * weight in fp32, returned in the type that the matrix products after it want."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, eps: float, dtype: torch.dtype) -> torch.Tensor:
        wide = x.float()
        inverse = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        normed = wide * inverse
        ctx.save_for_backward(normed, weight, inverse)
        ctx.dtype = x.dtype
        return (normed * weight).to(dtype)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        normed, weight, inverse = ctx.saved_tensors
        grad = grads[0].float()
        product = grad * normed
        grad_weight = product.flatten(0, -2).sum(dim=0)
        # sum(grad * weight * normed) / dim, per row
        along = (product @ weight[:, None].float()).div_(normed.shape[-1])
        grad_x = (grad * weight).addcmul_(normed, along, value=-1).mul_(inverse)
        return grad_x.to(ctx.dtype), grad_weight.to(weight.dtype), None, None


def root_mean_square_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """RMSNorm over the last dimension; under autocast the result already has autocast's type."""
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    with torch.autocast(device, enabled=False):
        return _RootMeanSquareNorm.apply(x, weight, eps, dtype)


class _LabelLogProbs(torch.autograd.Function):
    """log p(label) of each row, and whether the label is the likeliest token, without keeping all logits at once.

    Matrix products take blocks of many rows, because each of them reads or writes as much as the whole `weight`; what
    is done with single logits takes pieces of few rows, because these stay in the cache.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, block: int, piece: int
    ) -> Any:
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        narrow_hidden, narrow_weight = hidden.to(dtype), weight.to(dtype)
        log_probs = torch.empty(len(labels), dtype=torch.float32, device=hidden.device)
        normalisers = torch.empty_like(log_probs)
        top = torch.empty(len(labels), dtype=torch.bool, device=hidden.device)
        keep = hidden.requires_grad or weight.requires_grad
        keep &= len(labels) * len(weight) * narrow_weight.element_size() <= _STORED_LOGITS_BYTES
        kept = []
        with torch.autocast(device, enabled=False):
            for first in range(0, len(labels), block):
                logits = narrow_hidden[first : first + block] @ narrow_weight.T
                for start in range(0, len(logits), piece):
                    rows = slice(first + start, min(first + start + piece, first + block))
                    wide = logits[start : start + piece].float()
                    chosen = wide.gather(1, labels[rows, None])[:, 0]
                    normalisers[rows] = wide.logsumexp(dim=1)
                    log_probs[rows] = chosen - normalisers[rows]
                    top[rows] = chosen >= wide.amax(dim=1)
                if keep:
                    kept.append(logits)
        ctx.save_for_backward(narrow_hidden, narrow_weight, labels, normalisers)
        ctx.kept, ctx.block, ctx.piece, ctx.types = kept, block, piece, (hidden.dtype, weight.dtype)
        ctx.mark_non_differentiable(top)
        return log_probs, top

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        grad = grads[0]
        hidden, weight, labels, normalisers = ctx.saved_tensors
        grad_hidden = torch.empty_like(hidden)
        grad_weight = torch.zeros(weight.shape, dtype=torch.float32, device=weight.device)
        kept, ctx.kept = ctx.kept, []
        for index, first in enumerate(range(0, len(labels), ctx.block)):
            block = slice(first, first + ctx.block)
            logits = kept[index] if kept else hidden[block] @ weight.T
            for start in range(0, len(logits), ctx.piece):
                rows = slice(first + start, min(first + start + ctx.piece, first + ctx.block))
                # d log p(label) / d logits = onehot(label) - p
                slope = logits[start : start + ctx.piece].float().sub_(normalisers[rows, None]).exp_()
                slope.mul_(-grad[rows, None]).scatter_add_(1, labels[rows, None], grad[rows, None].to(slope.dtype))
                logits[start : start + ctx.piece] = slope
            grad_hidden[block] = logits @ weight
            if weight.dtype == grad_weight.dtype:
                grad_weight.addmm_(logits.T, hidden[block])
            else:
                grad_weight += logits.T @ hidden[block]
        return grad_hidden.to(ctx.types[0]), grad_weight.to(ctx.types[1]), None, None, None


def label_log_probs(
    hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """fp32 log-probability of `labels` [n] under softmax(hidden [n, dim] @ weight.T [dim, vocabulary]), top-1 hits."""
    piece_size, block_size = (2**19, 2**25) if hidden.device.type == "cpu" else (2**26, 2**26)  # in logits
    piece = max(16, piece_size // weight.shape[0])
    return _LabelLogProbs.apply(hidden, weight, labels, max(piece, block_size // weight.shape[0]), piece)
