"""From padded rows to tokens: no padding, a shared prompt once, logits where they are needed
(chapter 13).

A batch comes as rectangles, since rectangles can be cut and sent. In the book's, a fifth of the
places hold padding, both answers of a pair repeat their prompt, and a loss asks only for the
answers' log-probabilities. `completion_logps` computes just these.

Shapes: B rows, K answers to one prompt, T positions, V vocabulary, N tokens, W places of a packed
row, A tokens that are asked for.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dpo_core.kernels import VECTOR, Frame
from dpo_core.losses import check_mask, token_logps
from dpo_core.model import Layout, Llama


class Packed(NamedTuple):
    """The tokens of a batch, where they stand, and which log-probabilities are asked for."""

    input_ids: Tensor  # (N,) int64
    layout: Layout | Frame
    source: Tensor  # (A,) the token whose logits predict each one that is asked for
    target: Tensor  # (A,) its id
    entry: Tensor  # (A,) where its log-probability belongs, among B·K·(T-1)


def completion_logps(
    model: nn.Module, input_ids: Tensor, completion_mask: Tensor, packed: Packed | None = None
) -> Tensor:
    """log p(token t+1 | tokens ≤ t) of the completions' tokens; 0 everywhere else.

    It equals `losses.token_logps(model(input_ids), input_ids)` where the mask is set. Summed over
    the last dimension it is `losses.sequence_logps`, log π(y|x) of Rafailov et al. 2023, eq. 7.

    Args:
        model: a Llama; any other module gets whole rows, (B, T), and must give (B, T, V) logits.
        input_ids: (B, T) int64, or (B, K, T): K answers to one prompt, which is then read once.
        completion_mask: of the same shape, nonzero on the completion's tokens, `E` included.
        packed: what `packed_for` made of them for a model of the same size, if it is known.

    Returns:
        (B, T-1) or (B, K, T-1), in nats, in float32 or better.

    Raises:
        ValueError: the shapes do not fit, the first token is marked (nothing predicts it), or the
            rows are longer than the model has positions.
    """
    if not isinstance(model, Llama):
        check_mask(input_ids, completion_mask)
        return _logps_of_rows(model, input_ids, completion_mask)
    *rows, length = input_ids.shape
    positions = model.config.max_position_embeddings
    if length > positions:
        raise ValueError(f"{length} positions; the model has {positions}")
    packed = packed or packed_for(model, input_ids, completion_mask)
    grid = model.lm_head.weight.new_zeros(math.prod(rows) * (length - 1))
    if not len(packed.target):  # nothing is asked for; a zero that a gradient can flow through
        return (grid + model.lm_head.weight[:0].sum()).view(*rows, length - 1)
    states = model.model(packed.input_ids, packed.layout, read=packed.source)  # (A, D)
    logits = model.lm_head(states)  # (A, V)
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    logps = -F.cross_entropy(logits, packed.target, reduction="none")  # (A,)
    return grid.to(logps.dtype).index_put((packed.entry,), logps).view(*rows, length - 1)


def packed_for(model: Llama, input_ids: Tensor, completion_mask: Tensor) -> Packed:
    """`pack`, and what the layers of this model make of the layout."""
    packed = pack(input_ids, completion_mask, even=model.model.compiled)
    return packed._replace(layout=model.model.frame(packed.layout))


def _logps_of_rows(model: nn.Module, input_ids: Tensor, completion_mask: Tensor) -> Tensor:
    """`completion_logps` by its definition: all first answers, then all second ones, each a row."""
    if input_ids.dim() == 2:
        logps = token_logps(model(input_ids), input_ids)
        return logps.masked_fill(~completion_mask[:, 1:].bool(), 0.0)
    ids, mask = (x.transpose(0, 1).flatten(0, 1) for x in (input_ids, completion_mask))
    logps = _logps_of_rows(model, ids, mask)  # (K·B, T-1)
    return logps.unflatten(0, (input_ids.shape[1], -1)).transpose(0, 1)


def pack(input_ids: Tensor, completion_mask: Tensor, even: bool = False) -> Packed:
    """The tokens that the marked ones depend on, each once.

    Answers to one prompt stand in one row and share what they begin with: the prompt, and the first
    tokens of their own if these are the same. Arguments and errors as in `completion_logps`.

    Args:
        even: make the rows one place wider where their width is odd; fewer widths, fewer programs
            to compile.
    """
    if input_ids.dim() not in (2, 3):
        raise ValueError(
            f"input_ids {tuple(input_ids.shape)} do not fit; needed is (B, T) or (B, K, T)"
        )
    check_mask(input_ids, completion_mask)
    if input_ids.dim() == 2:
        input_ids, completion_mask = input_ids[:, None], completion_mask[:, None]
    ids, mask = input_ids.reshape(-1), completion_mask.bool()
    rows, answers, length = mask.shape
    column = torch.arange(length, device=ids.device)  # (T,)
    # (B, K): the tokens before the last mark; it is predicted, and nothing reads it
    last = torch.where(mask, column, 0).amax(-1)
    start = torch.zeros_like(last)  # (B, K): the first token that an answer has for itself
    if answers > 1:
        same = (input_ids == input_ids[:, :1]).all(1)  # (B, T)
        start[:, 1:] = torch.minimum(same.cumprod(-1).sum(-1), last.amin(-1))[:, None]
    real = (column >= start[..., None]) & (column < last[..., None])  # (B, K, T)
    taken = real.flatten().nonzero().squeeze(1)  # (N,), each token's among B·K·T, row after row
    answer, position = taken // length, taken % length  # (N,) each; the answer among B·K
    row = answer // answers
    tokens = torch.arange(len(taken), device=ids.device)  # (N,)
    counts = real.flatten(1).sum(1)  # (B,)
    place = tokens - (counts.cumsum(0) - counts)[row]  # (N,), within the row
    width = max([VECTOR, *counts.tolist()])  # W
    width += even and width % 2
    place = row * width + place  # among B·W
    token = ids.new_zeros(rows * width).index_copy(0, place, tokens).view(rows, width)
    hidden = torch.ones(width, width, dtype=torch.bool, device=ids.device).triu(1)  # the future
    if answers > 1:
        shared = position < start[:, -1][row]  # (N,)
        branch = torch.where(shared, 0, answer % answers + 1)
        branch = ids.new_full((rows * width,), -1).index_copy(0, place, branch).view(rows, 1, width)
        other = (branch != 0) & (branch != branch.mT)  # (B, W, W)
        hidden = (hidden | other)[:, None]  # (B, 1, W, W)
    # what predicts a mark stands before it in its own answer, or in what all share
    number = torch.zeros_like(ids).index_copy(0, taken, tokens)  # (BKT,)
    asked = mask.flatten().nonzero().squeeze(1)  # (A,), each mark's among B·K·T
    answer = asked // length
    own = asked % length > start.flatten()[answer]
    before = torch.where(own, asked, asked - answer % answers * length) - 1
    return Packed(
        input_ids=ids.index_select(0, taken),
        layout=Layout(position, hidden, token, place),
        source=number.index_select(0, before),
        target=ids.index_select(0, asked),
        entry=asked - answer - 1,
    )
