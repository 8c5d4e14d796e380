"""A Llama in plain torch (chapter 2). It knows nothing of training, sampling or devices.

Parameter names and arithmetic are those of Hugging Face's `LlamaForCausalLM` (rotate-half RoPE,
pre-norm RMSNorm, SwiGLU, no biases), so a state dict of one is a state dict of the other.

The residual stream is a list of tokens, (N, D): all but attention treats each token alone. Only
attention needs rows, and a `Layout` says where in them the tokens stand. So a batch may hold no
padding at all, and two answers may share one prompt (`dpo_core.packing`). The arithmetic that takes
the time is in `dpo_core.kernels`.

Shapes: B batch, T positions of this call, S positions with the cache, V vocabulary, H heads,
K width of a head, D width (D = H·K), N tokens, W places in a row.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dpo_core.kernels import (
    Frame,
    attend,
    mix,
    qkv_weight,
    rms_norm,
    rows_of,
    swiglu,
    tokens_of,
    turn,
)
from dpo_core.randomness import torch_generator

# beyond the largest models there are: a slip of the finger is named before memory is asked for
LARGEST = {
    "vocab_size": 2**20,
    "hidden_size": 2**16,
    "intermediate_size": 2**18,
    "num_hidden_layers": 2**10,
    "num_attention_heads": 2**10,
    "max_position_embeddings": 2**20,
}


@dataclass(frozen=True)
class ModelConfig:
    """The architecture, in the field names of Hugging Face's `LlamaConfig`.

    Raises:
        ValueError: a size is below 1, or the heads do not divide the width into even parts.
    """

    vocab_size: int = 22
    hidden_size: int = 64
    intermediate_size: int = 64
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    max_position_embeddings: int = 128
    rope_theta: float = 10_000.0
    rms_norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            whole = self.__dataclass_fields__[name].type is int
            if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
                kind = "whole numbers" if whole else "numbers"
                raise ValueError(f"{name} is {value!r:.40}; accepted are {kind}")
            if not 0 < value <= LARGEST.get(name, 1e30):
                limit = f" up to {LARGEST[name]}" if name in LARGEST else ""
                raise ValueError(f"{name} is {value!r:.40}; accepted are positive numbers{limit}")
        if self.hidden_size % (2 * self.num_attention_heads):
            raise ValueError(
                f"hidden_size {self.hidden_size} is not an even multiple of "
                f"num_attention_heads {self.num_attention_heads}; RoPE turns pairs of coordinates"
            )

    @property
    def head_size(self) -> int:
        """K, the width of one attention head."""
        return self.hidden_size // self.num_attention_heads


class KVCache:
    """The keys and values of all positions so far, a pair of (B, H, S, K) tensors a layer.

    They stand in larger tensors, so that a new position seldom costs a copy of the earlier ones.
    """

    def __init__(self) -> None:
        self.room: dict[int, tuple[Tensor, Tensor]] = {}  # (B, H, at least S, K) each
        self.filled: dict[int, int] = {}
        self.projections: dict[int, Tensor] = {}  # of each layer, made once for a whole answer

    @property
    def length(self) -> int:
        """S, how many positions are stored (padding included)."""
        return self.filled.get(0, 0)

    @property
    def layers(self) -> dict[int, tuple[Tensor, Tensor]]:
        """What is stored: keys and values, (B, H, S, K) each, of every layer."""
        return {
            i: (k[:, :, : self.filled[i]], v[:, :, : self.filled[i]])
            for i, (k, v) in self.room.items()
        }

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Append (B, H, T, K) keys and values to one layer and return all of them, (B, H, S, K)."""
        start = self.filled.get(layer, 0)
        end = self.filled[layer] = start + key.shape[2]
        if layer not in self.room or end > self.room[layer][0].shape[2]:
            wider = (*key.shape[:2], end + 8, key.shape[3])
            room = key.new_empty(wider), value.new_empty(wider)
            if start:
                for new, old in zip(room, self.room[layer], strict=True):
                    new[:, :, :start] = old[:, :, :start]
            self.room[layer] = room
        keys, values = self.room[layer]
        keys[:, :, start:end], values[:, :, start:end] = key, value
        return keys[:, :, :end], values[:, :, :end]

    def select(self, rows: Tensor) -> None:
        """Keep the given rows of the batch, in that order: (B',) int64, repeats allowed."""
        self.room = {
            i: (k.index_select(0, rows), v.index_select(0, rows)) for i, (k, v) in self.room.items()
        }


class RMSNorm(nn.Module):
    """x / sqrt(mean(x²) + eps) · weight, over the last dimension (Zhang & Sennrich 2019, eq. 4)."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, self.eps)


def rope_tables(positions: int, size: int, theta: float) -> tuple[Tensor, Tensor]:
    """cos and sin of the angle m·theta^(-2i/size) for position m and coordinate pair i.

    Source: Su et al. 2021 (RoFormer), eq. 15; the halves layout is Hugging Face's.

    Returns:
        Two (positions, size) float32 tables; the second half of the columns repeats the first.
    """
    frequency = theta ** (-torch.arange(0, size, 2, dtype=torch.float32) / size)  # (size/2,)
    # (positions, size/2)
    angle = torch.outer(torch.arange(positions, dtype=torch.float32), frequency)
    angle = torch.cat((angle, angle), dim=-1)  # (positions, size)
    return angle.cos(), angle.sin()


def apply_rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each coordinate pair (i, i + K/2) of `x` (B, H, T, K) by its position's angle.

    `cos` and `sin` are rows of `rope_tables`, (T, K) or (B, 1, T, K).
    """
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-right, left), dim=-1) * sin


class Attention(nn.Module):
    """Causal multi-head self-attention with rotary positions."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.heads = layer, config.num_attention_heads
        width = config.hidden_size
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.o_proj = nn.Linear(width, width, bias=False)

    def forward(
        self,
        x: Tensor,
        frame: Frame,
        cache: KVCache | None = None,
        read: Tensor | None = None,
    ) -> Tensor:
        """(N, D) from (N, D): what each token gathers from the tokens it may look at; only for the
        tokens `read`, (A,), if given.
        """
        if cache is None or self.layer not in cache.projections:
            three = (self.q_proj.weight, self.k_proj.weight, self.v_proj.weight)
            weight = qkv_weight(*three, self.heads)
            if cache is not None:
                cache.projections[self.layer] = weight
        else:
            weight = cache.projections[self.layer]
        qkv = F.linear(x, weight)  # (N, 3D)
        if cache is None:
            mixed = attend(qkv, frame, self.heads)
            return self.o_proj(mixed if read is None else mixed.index_select(0, read))
        rows = rows_of(turn(qkv, frame, self.heads), frame, self.heads)  # (3, BH, T, K)
        query, key, value = rows.unflatten(1, (frame.rows, self.heads))  # (B, H, T, K) each
        key, value = cache.extend(self.layer, key, value)  # (B, H, S, K)
        mixed = mix(query.flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1), frame.bias)
        return self.o_proj(tokens_of(mixed, frame, self.heads))


class MLP(nn.Module):
    """SwiGLU: down(silu(gate(x)) · up(x)) (Shazeer 2020, eq. 6)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        both = F.linear(x, torch.cat((self.gate_proj.weight, self.up_proj.weight)))  # (N, 2M)
        return self.down_proj(swiglu(both))


class Block(nn.Module):
    """One layer: attention, then the MLP, each added to the residual stream."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.self_attn = Attention(config, layer)
        self.mlp = MLP(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self,
        x: Tensor,
        frame: Frame,
        cache: KVCache | None = None,
        read: Tensor | None = None,
    ) -> Tensor:
        mixed = self.self_attn(self.input_layernorm(x), frame, cache, read)
        x = (x if read is None else x.index_select(0, read)) + mixed
        return x + self.mlp(self.post_attention_layernorm(x))


class Layout(NamedTuple):
    """Where the N tokens of a batch stand: B rows of W places.

    A row may hold several texts, or branches of one: `hidden` says who may look at whom, and
    `positions` what position each token believes to have.
    """

    positions: Tensor  # (N,) int64
    hidden: Tensor  # (W, S) or (B, 1, W, S) bool, True where a query must not look
    token: Tensor  # (B, W) int64, the token in each place; any, where the place is empty
    place: Tensor | None = None  # (N,) int64, the place of each token among B·W; None if all do


def grid_layout(
    input_ids: Tensor, attention_mask: Tensor | None = None, cache: KVCache | None = None
) -> Layout:
    """The layout of (B, T) ids where every place holds a token; arguments as in `Llama.forward`.

    Raises:
        ValueError: a mask of another shape.
    """
    batch, length = input_ids.shape
    total = length + (cache.length if cache is not None else 0)  # S
    rows = torch.arange(total - length, total, device=input_ids.device)  # (T,)
    hidden = torch.arange(total, device=input_ids.device) > rows[:, None]  # (T, S): the future
    positions = rows.expand(batch, length)
    if attention_mask is not None:
        if attention_mask.shape != (batch, total):
            raise ValueError(
                f"attention_mask is {tuple(attention_mask.shape)}; needed is {(batch, total)}"
            )
        real = attention_mask.bool()
        hidden = hidden | ~real[:, None, None, :]  # (B, 1, T, S): the future and the padding
        # positions count real tokens only, so left padding moves nothing
        positions = (real.cumsum(-1) - 1).clamp(min=0)[:, -length:]  # (B, T)
    return Layout(positions.reshape(-1), hidden, torch.zeros_like(input_ids))


def half_heads(heads: int) -> tuple[Tensor, Tensor]:
    """The half heads of a token in the order of `kernels.qkv_weight`, by their names and back.

    Returns:
        (3, H, 2): which of the 6H is the left or right half of a head of queries, keys, values;
        and (6H, 3): of each of the 6H, which of the three it belongs to, which head, which half.
    """
    both = torch.arange(4 * heads).view(2, 2, heads).permute(1, 2, 0)
    value = torch.arange(4 * heads, 6 * heads).view(1, heads, 2)
    half_head = torch.cat((both, value))
    names = torch.cartesian_prod(torch.arange(3), torch.arange(heads), torch.arange(2))
    return half_head, names[half_head.flatten().argsort()]


class Backbone(nn.Module):
    """Embedding, layers and last norm: everything below the vocabulary head."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            Block(config, layer) for layer in range(config.num_hidden_layers)
        )
        self.program: Callable[..., Tensor] | None = None  # `stream`, compiled
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        cos, sin = rope_tables(config.max_position_embeddings, config.head_size, config.rope_theta)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        half_head, which = half_heads(self.heads)
        self.register_buffer("half_head", half_head, persistent=False)
        self.register_buffer("which", which, persistent=False)

    @property
    def compiled(self) -> bool:
        """True while `dpo_core.compilation` has the layers compiled."""
        return self.program is not None

    def forward(
        self,
        input_ids: Tensor,
        layout: Layout | Frame | None = None,
        cache: KVCache | None = None,
        read: Tensor | None = None,
    ) -> Tensor:
        """The residual stream after the last norm.

        Args:
            input_ids: (N,) int64, the tokens of `layout`; without a layout (B, T), as in
                `Llama.forward`.
            layout: where they stand, or what `frame` made of that.
            cache: keys and values of earlier positions; extended in place.
            read: (A,) int64, which of the tokens will be read; the last layer works for these
                alone. Needs a layout, and no cache.

        Returns:
            (N, D), or (A, D) of the tokens `read`, or (B, T, D) without a layout.

        Raises:
            ValueError: more positions than the model has.
            IndexError: an id outside the vocabulary.
        """
        if layout is None:
            layout = grid_layout(input_ids, None, cache)
            return self(input_ids.reshape(-1), layout, cache).view(*input_ids.shape, -1)
        frame = layout if isinstance(layout, Frame) else self.frame(layout)
        if cache is not None or not self.compiled:
            return self.stream(input_ids, frame, cache, read)
        # one program for any number of tokens; another width or number of rows gets its own
        for tensor in (input_ids, frame.cos, frame.sin, frame.to_tokens, frame.back, read):
            if tensor is not None:
                torch._dynamo.mark_dynamic(tensor, 0)
        return self.program(input_ids, frame, None, read)

    def stream(
        self, input_ids: Tensor, frame: Frame, cache: KVCache | None, read: Tensor | None
    ) -> Tensor:
        """`forward` on tokens whose frame is known; what is compiled (`dpo_core.compilation`)."""
        x = self.embed_tokens(input_ids)
        *earlier, last = self.layers
        for layer in earlier:
            x = layer(x, frame, cache)
        return self.norm(last(x, frame, cache, read))

    def frame(self, layout: Layout) -> Frame:
        """What the layers share when they look at a batch that stands so; the same for each model
        of this size.
        """
        (batch, width), heads = layout.token.shape, self.heads
        if layout.hidden.shape[-1] > len(self.cos) and layout.place is None:
            raise ValueError(f"{layout.hidden.shape[-1]} positions; the model has {len(self.cos)}")
        # not -inf: a row that sees nothing stays finite, also where autocast rounds to bfloat16
        types = (torch.bfloat16, self.cos.dtype)
        smallest = max(torch.finfo(kind).min for kind in types)
        bias = torch.zeros_like(layout.hidden, dtype=self.cos.dtype)
        bias = bias.masked_fill(layout.hidden, smallest)
        if bias.dim() == 4:
            bias = bias.expand(-1, heads, -1, -1).flatten(0, 1)  # (BH, W, S)
        half = self.cos.shape[1] // 2
        tables = (table[:, :half].repeat(1, 2 * heads) for table in (self.cos, self.sin))
        cos, sin = (table.index_select(0, layout.positions) for table in tables)  # (N, D) each
        frame = Frame(cos, sin, bias, batch)
        if layout.place is None:
            return frame
        half_head, which = self.half_head, self.which  # (3, H, 2); (6H, 3)
        first = layout.token * (6 * heads)  # (B, W)
        to_rows = first[:, None, :, None] + half_head[:, None, :, None]  # (3, B, H, W, 2)
        # a head's place: W to a head, H heads to a row, B rows to each of the three
        head = layout.place + layout.place // width * ((heads - 1) * width)  # (N,), the first one
        to_tokens = head[:, None] + torch.arange(0, heads * width, width, device=head.device)
        step = torch.tensor((2 * batch * heads * width, 2 * width, 1), device=head.device)
        back = 2 * head[:, None] + (which * step).sum(1)  # (N, 6H)
        return frame._replace(to_rows=to_rows.flatten(1, 2), to_tokens=to_tokens, back=back)


class Llama(nn.Module):
    """The language model: ids in, logits of the next token out."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Backbone(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def reset_parameters(self, seed: int) -> "Llama":
        """Draw every matrix from N(0, 0.02²), set every norm to one; the same seed, the same
        weights.
        """
        generator = torch_generator(seed)
        with torch.no_grad():
            for parameter in self.parameters():
                if parameter.dim() == 1:
                    parameter.fill_(1.0)
                else:
                    draw = torch.randn(parameter.shape, generator=generator) * 0.02
                    parameter.copy_(draw)
        return self

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, cache: KVCache | None = None
    ) -> Tensor:
        """Logits of the token after each position.

        Args:
            input_ids: (B, T) int64.
            attention_mask: (B, S), nonzero on real tokens; None means that no row is padded on the
                left (padding on the right needs no mask: no real token looks to its right).
            cache: keys and values of earlier positions; extended in place.

        Returns:
            (B, T, V) logits.

        Raises:
            ValueError: more positions than the model has, or a mask of another shape.
            IndexError: an id outside the vocabulary.
        """
        layout = grid_layout(input_ids, attention_mask, cache)
        states = self.model(input_ids.reshape(-1), layout, cache)  # (B·T, D)
        return self.lm_head(states).view(*input_ids.shape, -1)
