"""The model's arithmetic between the products; RMSNorm and attention with gradients written by hand
(chapter 13).

Autograd would differentiate these two operation by operation and keep every intermediate result; by
hand one keeps what the gradient needs, and works in place. `plain_…` beside each is its definition,
in the notation of chapter 2. The compiler reads that one, since it derives and fuses the gradient
itself; a test holds the two equal.

Shapes: N tokens, D width, M width inside the MLP, B rows of W places, S places with the cache, H
heads of queries, G heads of keys and values, K width of a head.

Where a head of keys serves R = H/G heads of queries (grouped-query attention, Ainslie et al. 2023),
the R stand below one another in one matrix of R·W rows: no key is copied, and the gradient of a key
is summed over its queries by the product itself.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F

# torch's softmax takes as many numbers at once as a register holds, 16 with AVX-512; there a row of
# fewer costs ten times as much
VECTOR = 16


class Frame(NamedTuple):
    """What all layers share in one pass over a batch.

    Attention wants rows, everything else wants tokens. Where every place of every row holds a token
    a view leads from one to the other; where some are empty, lists of indices do.
    """

    cos: Tensor  # (N, (H+G)·K/2), the angle of each pair of coordinates, queries then keys
    sin: Tensor  # (N, (H+G)·K/2)
    bias: Tensor  # (RW, S) or (BG, RW, S): 0, or the smallest number where a query may not look
    rows: int  # B
    key_heads: int  # G
    # (B·(H+2G), W, 2): which half head of (N·(2H+4G), K/2) stands where
    to_rows: Tensor | None = None
    to_tokens: Tensor | None = None  # (N, H): which of (BHW, K) belongs to each token and head
    back: Tensor | None = None  # (N, 2H+4G): where in the rows each half head stands


# ---------------------------------------------------------------- RMSNorm


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x²) + eps) · weight, over the last dimension (Zhang & Sennrich 2019, eq. 4)."""
    if torch.compiler.is_compiling():
        return plain_rms_norm(x, weight, eps)
    return _RMSNorm.apply(x, weight, eps)


def plain_rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """The definition of `rms_norm`; half precision is normalised in float32."""
    wide = _wide(x)
    return weight * (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)).to(x.dtype)


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        wide = _wide(x)
        square = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_()  # (..., 1)
        scale = square.div_(x.shape[-1]).add_(eps).rsqrt_()
        unit = wide * scale
        ctx.save_for_backward(weight, unit, scale)
        return unit.to(x.dtype) * weight

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        # y = w·u, u = s·x, hence dx = s·(w·g - u·mean(w·g·u)); dw is the sum of g·u over tokens
        weight, unit, scale = ctx.saved_tensors
        product = _wide(grad) * unit
        mean = (product @ _wide(weight)).div_(-unit.shape[-1]).unsqueeze(-1)  # (..., 1)
        inside = torch.addcmul(_wide(grad * weight), unit, mean).mul_(scale)
        return inside.to(grad.dtype), product.flatten(0, -2).sum(0).to(weight.dtype), None


# ---------------------------------------------------------------- SwiGLU


def swiglu(x: Tensor) -> Tensor:
    """silu(gate) · up of (..., 2M), gate and up side by side (Shazeer 2020, eq. 6): (..., M).

    Autograd's own way back is as short as one by hand (chapter 13 counts both).
    """
    gate, up = x.chunk(2, dim=-1)
    return F.silu(gate) * up


# ---------------------------------------------------------------- attention


def qkv_weight(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """(HK, D) and twice (GK, D) as one, ((H+2G)·K, D), for one product instead of three.

    RoPE turns coordinate i of a head together with i + K/2. So the left halves of all heads of
    queries and keys come first, then their right halves: two blocks, each of one piece.
    """
    half = query.shape[0] // (2 * heads)  # K/2
    both = torch.cat((query, key)).unflatten(0, (-1, 2, half))  # (H+G, 2, K/2, D)
    return torch.cat((both.transpose(0, 1).flatten(0, 2), value))


def attend(qkv: Tensor, frame: Frame, heads: int) -> Tensor:
    """Causal attention of a batch with itself, between the projections.

    Args:
        qkv: (N, (H+2G)·K), what `qkv_weight` makes of the tokens: queries and keys, not yet turned
            by their positions, and values. May be overwritten.
        heads: H.

    Returns:
        (N, HK), each token's mixture of values.
    """
    if torch.compiler.is_compiling():
        return plain_attend(qkv, frame, heads)
    return _Attend.apply(qkv, frame, heads)


def plain_attend(qkv: Tensor, frame: Frame, heads: int) -> Tensor:
    """The definition of `attend`."""
    query, key, value = rows_of(turn(qkv, frame, heads), frame, heads)
    return tokens_of(mix(query, key, value, frame.bias), frame, heads)


def turn(qkv: Tensor, frame: Frame, heads: int) -> Tensor:
    """Turn each pair of coordinates of queries and keys by its token's angle; in place where no
    gradient is asked for.
    """
    if not qkv.requires_grad and not torch.compiler.is_compiling():
        return _turn_(qkv, frame, frame.sin)
    side, half = heads + frame.key_heads, _half(frame, heads)  # H+G, K/2
    # by half heads: the compiler cannot tell where they begin once the sizes are multiplied
    parts, cos, sin = (x.unflatten(1, (-1, half)) for x in (qkv, frame.cos, frame.sin))
    left, right, value = parts.split((side, side, 2 * frame.key_heads), dim=1)
    turned = torch.cat((left * cos - right * sin, right * cos + left * sin, value), dim=1)
    return turned.flatten(1)


def mix(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """softmax(query · key / sqrt(K) + bias) · value, (BG, RW, K) from (BG, RW, K) and twice
    (BG, S, K).

    Source: Vaswani et al. 2017, eq. 1.
    """
    return torch.bmm(_weights(query, key, bias), value)


def _weights(query: Tensor, key: Tensor, bias: Tensor) -> Tensor:
    # (BG, RW, S); the bias is the matrix that the products are added to
    scores = torch.baddbmm(bias, query, key.mT, alpha=query.shape[-1] ** -0.5)
    narrow = VECTOR - scores.shape[-1]
    if narrow > 0 and not torch.compiler.is_compiling():
        scores = F.pad(scores, (0, narrow), value=-torch.inf).softmax(-1)[..., :-narrow]
    else:
        scores = scores.softmax(-1)
    return scores.to(query.dtype)  # autocast makes it float32


def rows_of(qkv: Tensor, frame: Frame, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values in their places, head by head, from (N, (H+2G)·K).

    Returns:
        (BG, RW, K), (BG, W, K) and (BG, W, K).
    """
    batch, keys, half = frame.rows, frame.key_heads, _half(frame, heads)  # B, G, K/2
    if frame.to_rows is not None:
        parts = _Fill.apply(qkv.unflatten(1, (-1, half)), frame.to_rows, frame.back).flatten(2)
        query, key, value = parts.split((batch * heads, batch * keys, batch * keys))
        return query.reshape(batch * keys, -1, 2 * half), key, value
    places = (batch, qkv.shape[0] // batch)  # B, W
    side = (heads + keys) * half
    both, value = qkv.split((2 * side, 2 * keys * half), dim=1)
    both = both.reshape(*places, 2, heads + keys, half).permute(0, 3, 1, 2, 4)
    query, key = both.split((heads, keys), dim=1)  # (B, H, W, side, K/2), (B, G, W, side, K/2)
    value = value.reshape(*places, keys, 2 * half).transpose(1, 2)  # (B, G, W, K)
    return tuple(x.reshape(batch * keys, -1, 2 * half) for x in (query, key, value))


def tokens_of(mixed: Tensor, frame: Frame, heads: int) -> Tensor:
    """(N, HK) from (BG, RW, K): each token's heads side by side."""
    if frame.to_tokens is not None:
        return _Pick.apply(mixed.flatten(0, 1), frame.to_tokens).flatten(1)  # of (N, H, K)
    grid = mixed.view(frame.rows, heads, -1, mixed.shape[2])  # (B, H, W, K)
    return grid.transpose(1, 2).flatten(2).flatten(0, 1)


class _Fill(torch.autograd.Function):
    """Rows `index` of a matrix. None is taken twice but to fill a place that stays empty, where no
    gradient arises: so the gradient is a move as well, not a sum.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, index: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(back)
        return F.embedding(index, x.flatten(0, 1))

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None, None]:
        return F.embedding(ctx.saved_tensors[0], grad.reshape(-1, grad.shape[-1])), None, None


class _Pick(torch.autograd.Function):
    """Rows `index` of a matrix, none of them twice."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.rows = x.shape[0]
        return F.embedding(index, x)

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None]:
        rows = grad.new_zeros(ctx.rows, grad.shape[-1])
        return rows.index_copy(0, ctx.saved_tensors[0].flatten(), grad.flatten(0, 1)), None


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, qkv: Tensor, frame: Frame, heads: int) -> Tensor:
        _turn_(qkv, frame, frame.sin)
        query, key, value = rows_of(qkv, frame, heads)  # (BG, RW, K), (BG, W, K) twice
        weights = _weights(query, key, frame.bias)
        ctx.save_for_backward(query, key, value, weights)
        ctx.frame, ctx.heads = frame, heads
        return tokens_of(torch.bmm(weights, value), frame, heads)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None, None]:
        query, key, value, weights = ctx.saved_tensors
        frame, heads = ctx.frame, ctx.heads
        grad = _mixed_from(grad, query.shape, frame, heads)  # (BG, RW, K)
        sizes = [x.numel() for x in (query, key, value)]
        inside = query.new_empty(sum(sizes))  # the gradients of all three, in one piece
        of_query, of_key, of_value = map(
            torch.Tensor.view_as, inside.split(sizes), (query, key, value)
        )
        torch.bmm(weights.mT, grad, out=of_value)
        scores = torch.bmm(grad, value.mT)  # (BG, RW, W), by the weights
        scores = torch.ops.aten._softmax_backward_data(scores, weights, -1, scores.dtype)
        scores.mul_(query.shape[-1] ** -0.5)
        torch.bmm(scores, key, out=of_query)
        torch.bmm(scores.mT, query, out=of_key)
        qkv = _qkv_from(inside, frame, heads)  # (N, (H+2G)·K)
        _turn_(qkv, frame, -frame.sin)
        return qkv, None, None


def _turn_(qkv: Tensor, frame: Frame, sin: Tensor) -> Tensor:
    """`turn` in place; with -sin the way back, which is the way of the gradient."""
    side = sin.shape[1]
    left, right = qkv[:, :side], qkv[:, side : 2 * side]
    across = left * sin
    left.mul_(frame.cos).addcmul_(right, sin, value=-1)
    right.mul_(frame.cos).add_(across)
    return qkv


def _half(frame: Frame, heads: int) -> int:
    """K/2, half the width of a head."""
    return frame.cos.shape[1] // (heads + frame.key_heads)


def _mixed_from(grad: Tensor, shape: torch.Size, frame: Frame, heads: int) -> Tensor:
    """The gradient of `tokens_of`: (BG, RW, K) from (N, HK), zero in empty places."""
    if frame.to_tokens is not None:
        rows = grad.new_zeros(shape[0] * shape[1], shape[2])
        return rows.index_copy_(0, frame.to_tokens.flatten(), grad.reshape(-1, shape[2])).view(
            shape
        )
    grid = grad.reshape(frame.rows, -1, heads, shape[2])
    return grid.transpose(1, 2).reshape(shape)


def _qkv_from(inside: Tensor, frame: Frame, heads: int) -> Tensor:
    """The gradient of `rows_of`: (N, (H+2G)·K) from the gradients of its three results, one after
    the other in one piece.
    """
    batch, keys, half = frame.rows, frame.key_heads, _half(frame, heads)
    if frame.back is not None:
        return F.embedding(frame.back, inside.view(-1, half)).flatten(1)
    grid = inside.view(batch * (heads + 2 * keys), -1, 2, half)
    query, key, value = (
        x.unflatten(0, (batch, -1)) for x in grid.split((batch * heads, batch * keys, batch * keys))
    )  # (B, H, W, side, K/2), (B, G, W, side, K/2) twice
    both = torch.cat([x.permute(0, 2, 3, 1, 4) for x in (query, key)], dim=3)
    both, value = both.flatten(2), value.transpose(1, 2).flatten(2)  # (B, W, ...) each
    return torch.cat((both, value), dim=2).flatten(0, 1)


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
