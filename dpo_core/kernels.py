"""The model's arithmetic between the products; RMSNorm and attention with gradients written by hand
(chapter 13).

Autograd would differentiate these two operation by operation and keep every intermediate result; by
hand one keeps what the gradient needs, and works in place. `plain_…` beside each is its definition,
in the notation of chapter 2. The compiler reads that one, since it derives and fuses the gradient
itself; a test holds the two equal.

Shapes: N tokens, D width, M width inside the MLP, B rows of W places, S places with the cache, H
heads, K width of a head (D = H·K).
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

    cos: Tensor  # (N, D), the angle of each pair of a token's coordinates, queries then keys
    sin: Tensor  # (N, D)
    bias: Tensor  # (W, S) or (BH, W, S): 0, or the smallest number where a query may not look
    rows: int  # B
    to_rows: Tensor | None = None  # (3, BH, W, 2): which half head of (6NH, K/2) stands where
    to_tokens: Tensor | None = None  # (N, H): which of (BHW, K) belongs to each token and head
    back: Tensor | None = None  # (N, 6H): where in the rows each half head stands


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
    """Three (D, D) matrices as one, (3D, D), for one product instead of three.

    RoPE turns coordinate i of a head together with i + K/2. So the left halves of all heads of
    queries and keys come first, then their right halves: two blocks, each of one piece.
    """
    both = torch.stack((query, key)).unflatten(1, (heads, 2, -1))  # (2, H, 2, K/2, D)
    return torch.cat((both.permute(2, 0, 1, 3, 4).flatten(0, 3), value))


def attend(qkv: Tensor, frame: Frame, heads: int) -> Tensor:
    """Causal attention of a batch with itself, between the projections.

    Args:
        qkv: (N, 3D), what `qkv_weight` makes of the tokens: queries and keys, not yet turned by
            their positions, and values. May be overwritten.

    Returns:
        (N, D), each token's mixture of values.
    """
    if torch.compiler.is_compiling():
        return plain_attend(qkv, frame, heads)
    return _Attend.apply(qkv, frame, heads)


def plain_attend(qkv: Tensor, frame: Frame, heads: int) -> Tensor:
    """The definition of `attend`."""
    query, key, value = rows_of(turn(qkv, frame, heads), frame, heads).unbind(0)
    return tokens_of(mix(query, key, value, frame.bias), frame, heads)


def turn(qkv: Tensor, frame: Frame, heads: int) -> Tensor:
    """Turn each pair of coordinates of queries and keys by its token's angle; in place where no
    gradient is asked for.
    """
    if not qkv.requires_grad and not torch.compiler.is_compiling():
        return _turn_(qkv, frame, frame.sin)
    half = qkv.shape[1] // (6 * heads)  # K/2
    # by half heads: the compiler cannot tell where they begin once the sizes are multiplied
    parts, cos, sin = (x.unflatten(1, (-1, half)) for x in (qkv, frame.cos, frame.sin))
    left, right, value = parts.chunk(3, dim=1)  # (N, 2H, K/2) each
    turned = torch.cat((left * cos - right * sin, right * cos + left * sin, value), dim=1)
    return turned.flatten(1)


def mix(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """softmax(query · key / sqrt(K) + bias) · value: (BH, W, K) from (BH, W, K), (BH, S, K) twice.

    Source: Vaswani et al. 2017, eq. 1.
    """
    return torch.bmm(_weights(query, key, bias), value)


def _weights(query: Tensor, key: Tensor, bias: Tensor) -> Tensor:
    # (BH, W, S); the bias is the matrix that the products are added to
    scores = torch.baddbmm(bias, query, key.mT, alpha=query.shape[-1] ** -0.5)
    narrow = VECTOR - scores.shape[-1]
    if narrow > 0 and not torch.compiler.is_compiling():
        scores = F.pad(scores, (0, narrow), value=-torch.inf).softmax(-1)[..., :-narrow]
    else:
        scores = scores.softmax(-1)
    return scores.to(query.dtype)  # autocast makes it float32


def rows_of(qkv: Tensor, frame: Frame, heads: int) -> Tensor:
    """(3, BH, W, K) from (N, 3D): queries, keys and values in their places, head by head."""
    half = qkv.shape[1] // (6 * heads)  # K/2
    if frame.to_rows is not None:
        parts = qkv.unflatten(1, (6 * heads, half))
        return _Fill.apply(parts, frame.to_rows, frame.back).flatten(3)
    places = (frame.rows, qkv.shape[0] // frame.rows)  # B, W
    both, value = qkv.split((4 * heads * half, 2 * heads * half), dim=1)
    both = both.reshape(*places, 2, 2, heads, half)  # (B, W, side, 2, H, K/2)
    both = both.permute(3, 0, 4, 1, 2, 5)  # (2, B, H, W, side, K/2)
    value = value.reshape(1, *places, heads, 2, half).transpose(2, 3)  # (1, B, H, W, side, K/2)
    return torch.cat((both, value)).flatten(4).flatten(1, 2)


def tokens_of(mixed: Tensor, frame: Frame, heads: int) -> Tensor:
    """(N, D) from (BH, W, K): each token's heads side by side."""
    if frame.to_tokens is not None:
        return _Pick.apply(mixed.flatten(0, 1), frame.to_tokens).flatten(1)  # of (N, H, K)
    return mixed.unflatten(0, (frame.rows, heads)).transpose(1, 2).flatten(2).flatten(0, 1)


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
        rows = rows_of(qkv, frame, heads)  # (3, BH, W, K)
        weights = _weights(rows[0], rows[1], frame.bias)
        ctx.save_for_backward(rows, weights)
        ctx.frame, ctx.heads = frame, heads
        return tokens_of(torch.bmm(weights, rows[2]), frame, heads)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None, None]:
        rows, weights = ctx.saved_tensors
        frame, heads, (query, key, value) = ctx.frame, ctx.heads, rows
        grad = _mixed_from(grad, rows.shape[1:], frame, heads)  # (BH, W, K)
        inside = torch.empty_like(rows)
        torch.bmm(weights.mT, grad, out=inside[2])
        scores = torch.bmm(grad, value.mT)  # (BH, W, W), by the weights
        scores = torch.ops.aten._softmax_backward_data(scores, weights, -1, scores.dtype)
        scores.mul_(query.shape[-1] ** -0.5)
        torch.bmm(scores, key, out=inside[0])
        torch.bmm(scores.mT, query, out=inside[1])
        qkv = _qkv_from(inside, frame, heads)  # (N, 3D)
        _turn_(qkv, frame, -frame.sin)
        return qkv, None, None


def _turn_(qkv: Tensor, frame: Frame, sin: Tensor) -> Tensor:
    """`turn` in place; with -sin the way back, which is the way of the gradient."""
    left, right, _ = qkv.chunk(3, dim=1)
    across = left * sin
    left.mul_(frame.cos).addcmul_(right, sin, value=-1)
    right.mul_(frame.cos).add_(across)
    return qkv


def _mixed_from(grad: Tensor, shape: torch.Size, frame: Frame, heads: int) -> Tensor:
    """The gradient of `tokens_of`: (BH, W, K) from (N, D), zero in empty places."""
    if frame.to_tokens is not None:
        rows = grad.new_zeros(shape[0] * shape[1], shape[2])
        return rows.index_copy_(0, frame.to_tokens.flatten(), grad.reshape(-1, shape[2])).view(
            shape
        )
    grid = grad.reshape(frame.rows, shape[1], heads, shape[2])
    return grid.transpose(1, 2).reshape(shape)


def _qkv_from(inside: Tensor, frame: Frame, heads: int) -> Tensor:
    """The gradient of `rows_of`: (N, 3D) from (3, BH, W, K)."""
    half = inside.shape[-1] // 2
    if frame.back is not None:
        return F.embedding(frame.back, inside.view(-1, half)).flatten(1)
    places = (frame.rows, inside.shape[2])
    grid = inside.view(3, frame.rows, heads, places[1], 2, half)
    both = grid[:2].permute(1, 3, 4, 0, 2, 5).flatten(2)  # (B, W, 2D)
    value = grid[2].transpose(1, 2).flatten(2)  # (B, W, D)
    return torch.cat((both, value), dim=2).flatten(0, 1)


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
