"""A Llama in plain torch (chapter 2). It knows nothing of training, sampling or devices.

Parameter names and arithmetic are those of Hugging Face's `LlamaForCausalLM` (rotate-half RoPE,
pre-norm RMSNorm, SwiGLU, no biases), so a state dict of one is a state dict of the other. What the
book's model does without and larger ones have is here too: fewer heads of keys than of queries,
heads of any width, RoPE stretched over longer texts, one matrix at both ends.

The residual stream is a list of tokens, (N, D): all but attention treats each token alone. Only
attention needs rows, and a `Layout` says where in them the tokens stand. So a batch may hold no
padding at all, and two answers may share one prompt (`dpo_core.packing`). The arithmetic that takes
the time is in `dpo_core.kernels`.

Shapes: B batch, T positions of this call, S positions with the cache, V vocabulary, H heads of
queries, G heads of keys and values (R = H/G queries share one), K width of a head, D width (of the
book's model H·K, and G = H), N tokens, W places in a row.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

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

SIZES = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers"),
    *("num_attention_heads", "max_position_embeddings"),
)
REALS = ("rope_theta", "rms_norm_eps")
OPTIONAL = ("num_key_value_heads", "head_dim")  # sizes that follow from others if they are not set
# beyond the largest models there are: a slip of the finger is named before memory is asked for
LARGEST = {
    "vocab_size": 2**20,
    "hidden_size": 2**16,
    "intermediate_size": 2**18,
    "num_hidden_layers": 2**10,
    "num_attention_heads": 2**10,
    "num_key_value_heads": 2**10,
    "head_dim": 2**10,
    "max_position_embeddings": 2**20,
    "original_max_position_embeddings": 2**20,
}


def _check_numbers(config: object, whole: Iterable[str], real: Iterable[str]) -> None:
    """Raises ValueError if a field is not a positive number of its kind."""
    for kind, types, names in (("whole numbers", int, whole), ("numbers", (int, float), real)):
        for name in names:
            value = getattr(config, name)
            if isinstance(value, bool) or not isinstance(value, types):
                raise ValueError(f"{name} is {value!r:.40}; accepted are {kind}")
            if not 0 < value <= LARGEST.get(name, 1e30):
                limit = f" up to {LARGEST[name]}" if name in LARGEST else ""
                raise ValueError(f"{name} is {value!r:.40}; accepted are positive numbers{limit}")


@dataclass(frozen=True)
class RopeScaling:
    """RoPE stretched over longer texts as in Llama 3.1, Hugging Face's rope_type "llama3"; its
    names, and the values of Llama 3.1.

    Attributes:
        factor: the slowest turns are slowed down by it, the fastest not at all.
        low_freq_factor: slowest are those that turn no more often than this in the old length.
        high_freq_factor: fastest are those that turn at least so often.
        original_max_position_embeddings: the old length, in tokens.

    Raises:
        ValueError: a number that is not positive, a factor below 1, or low not below high.
    """

    factor: float = 8.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position_embeddings: int = 8192

    def __post_init__(self) -> None:
        real = ("factor", "low_freq_factor", "high_freq_factor")
        _check_numbers(self, ("original_max_position_embeddings",), real)
        if self.factor < 1:
            raise ValueError(f"factor is {self.factor}; accepted are numbers from 1")
        if self.low_freq_factor >= self.high_freq_factor:
            raise ValueError(
                f"low_freq_factor is {self.low_freq_factor}; accepted are numbers below "
                f"high_freq_factor, {self.high_freq_factor}"
            )


@dataclass(frozen=True)
class ModelConfig:
    """The architecture, in the field names of Hugging Face's `LlamaConfig`.

    Attributes:
        num_key_value_heads: G; None stands for as many as heads of queries.
        head_dim: K; None stands for hidden_size / num_attention_heads.
        rope_scaling: of Llama 3.1 and later; None is plain RoPE.
        tie_word_embeddings: whether the head is the embedding, one matrix for both.

    Raises:
        ValueError: a size is below 1, the heads do not divide the width, the heads of keys do not
            divide those of queries, or a head is of odd width.
    """

    vocab_size: int = 22
    hidden_size: int = 64
    intermediate_size: int = 64
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    max_position_embeddings: int = 128
    rope_theta: float = 10_000.0
    rms_norm_eps: float = 1e-6
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    rope_scaling: RopeScaling | None = None
    tie_word_embeddings: bool = False

    def __post_init__(self) -> None:
        _check_numbers(self, SIZES, REALS)
        heads, given = self.num_attention_heads, self.head_dim
        if self.hidden_size % heads or (given is None and self.hidden_size % (2 * heads)):
            raise ValueError(
                f"hidden_size {self.hidden_size} is not an even multiple of "
                f"num_attention_heads {heads}; RoPE turns pairs of coordinates"
            )
        # a frozen dataclass sets its own fields so; replace() hands them on as they are here
        if given is None:
            object.__setattr__(self, "head_dim", self.hidden_size // heads)
        if self.num_key_value_heads is None:
            object.__setattr__(self, "num_key_value_heads", heads)
        _check_numbers(self, OPTIONAL, ())
        if self.head_dim % 2:
            raise ValueError(f"head_dim is {given}; accepted are even numbers")
        if heads % self.num_key_value_heads:
            raise ValueError(
                f"num_key_value_heads is {self.num_key_value_heads}; accepted are divisors of "
                f"num_attention_heads, {heads}"
            )
        if not isinstance(self.tie_word_embeddings, bool):
            found = f"{self.tie_word_embeddings!r:.40}"
            raise ValueError(f"tie_word_embeddings is {found}; accepted are True and False")
        if not isinstance(self.rope_scaling, RopeScaling | None):
            raise ValueError(f"rope_scaling is {self.rope_scaling!r:.40}; needed is a RopeScaling")


class KVCache:
    """The keys and values of all positions so far, a pair of (B, G, S, K) tensors a layer.

    They stand in larger tensors, so that a new position seldom costs a copy of the earlier ones.
    """

    def __init__(self) -> None:
        self.room: dict[int, tuple[Tensor, Tensor]] = {}  # (B, G, at least S, K) each
        self.filled: dict[int, int] = {}
        self.projections: dict[int, Tensor] = {}  # of each layer, made once for a whole answer

    @property
    def length(self) -> int:
        """S, how many positions are stored (padding included)."""
        return self.filled.get(0, 0)

    @property
    def layers(self) -> dict[int, tuple[Tensor, Tensor]]:
        """What is stored: keys and values, (B, G, S, K) each, of every layer."""
        return {
            i: (k[:, :, : self.filled[i]], v[:, :, : self.filled[i]])
            for i, (k, v) in self.room.items()
        }

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Append (B, G, T, K) keys and values to one layer and return all of them, (B, G, S, K)."""
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


def rope_frequencies(size: int, theta: float, scaling: RopeScaling | None = None) -> Tensor:
    """theta^(-2i/size), the angle in radians by which each token turns coordinate pair i.

    With `scaling` the slow ones are slowed down, so that more positions fit into the turn that they
    have learnt: one that turns low_freq_factor times or less in the old length is divided by
    `factor`, one that turns high_freq_factor times or more is left alone, and between these two the
    share that is left alone grows evenly. Source: the code of Llama 3.1, `apply_scaling`.

    Returns:
        (size/2,) float32.
    """
    frequency = theta ** (-torch.arange(0, size, 2, dtype=torch.float32) / size)  # (size/2,)
    if scaling is None:
        return frequency
    turns = scaling.original_max_position_embeddings * frequency / (2 * math.pi)
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    kept = ((turns - low) / (high - low)).clamp(0, 1)
    return kept * frequency + (1 - kept) * frequency / scaling.factor


def rope_tables(
    positions: int, size: int, theta: float, scaling: RopeScaling | None = None
) -> tuple[Tensor, Tensor]:
    """cos and sin of the angle m·theta^(-2i/size) for position m and coordinate pair i; with
    `scaling`, see `rope_frequencies`.

    Source: Su et al. 2021 (RoFormer), eq. 15; the halves layout is Hugging Face's.

    Returns:
        Two (positions, size) float32 tables; the second half of the columns repeats the first.
    """
    frequency = rope_frequencies(size, theta, scaling)  # (size/2,)
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
    """Causal self-attention with rotary positions: H heads of queries over G of keys and values
    (grouped-query attention, Ainslie et al. 2023; with G = H multi-head attention).
    """

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.heads = layer, config.num_attention_heads
        width, queries = config.hidden_size, self.heads * config.head_dim  # D, HK
        keys = config.num_key_value_heads * config.head_dim  # GK
        self.q_proj = nn.Linear(width, queries, bias=False)
        self.k_proj = nn.Linear(width, keys, bias=False)
        self.v_proj = nn.Linear(width, keys, bias=False)
        self.o_proj = nn.Linear(queries, width, bias=False)

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
        qkv = F.linear(x, weight)  # (N, (H+2G)·K)
        if cache is None:
            mixed = attend(qkv, frame, self.heads)
            return self.o_proj(mixed if read is None else mixed.index_select(0, read))
        query, *both = rows_of(turn(qkv, frame, self.heads), frame, self.heads)  # (BG, RT, K)
        both = (x.unflatten(0, (frame.rows, -1)) for x in both)  # (B, G, T, K) each
        key, value = cache.extend(self.layer, *both)  # (B, G, S, K) each
        mixed = mix(query, key.flatten(0, 1), value.flatten(0, 1), frame.bias)
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


def half_heads(heads: int, key_heads: int) -> tuple[Tensor, Tensor]:
    """The half heads of a token in the order of `kernels.qkv_weight`, by their names and back.

    Returns:
        (H+2G, 2): which of the 2H+4G is the left and which the right half of each head: of queries,
        then keys, then values; and (2H+4G, 4): of each of them, how many heads its own kind has,
        how many there are of the kinds before, which of its kind it is, and which half.
    """
    both = torch.arange(2 * (heads + key_heads)).view(2, -1).T
    value = torch.arange(2 * key_heads).view(-1, 2) + 2 * (heads + key_heads)
    half_head = torch.cat((both, value))
    names = [
        (own, before, head, half)
        for own, before in ((heads, 0), (key_heads, heads), (key_heads, heads + key_heads))
        for head in range(own)
        for half in range(2)
    ]
    return half_head, torch.tensor(names)[half_head.flatten().argsort()]


class Backbone(nn.Module):
    """Embedding, layers and last norm: everything below the vocabulary head."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads, self.key_heads = config.num_attention_heads, config.num_key_value_heads
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            Block(config, layer) for layer in range(config.num_hidden_layers)
        )
        self.program: Callable[..., Tensor] | None = None  # `stream`, compiled
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.checkpointing = False  # keep only what goes into a layer, and compute it again
        self.make_tables(config)

    def make_tables(self, config: ModelConfig) -> None:
        """What follows from the sizes alone: the angles of RoPE and the order of half heads."""
        turns = (config.head_dim, config.rope_theta, config.rope_scaling)
        cos, sin = rope_tables(config.max_position_embeddings, *turns)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        half_head, which = half_heads(self.heads, self.key_heads)
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
        if self.checkpointing and cache is None and torch.is_grad_enabled():
            for layer in earlier:
                x = checkpoint(layer, x, frame, use_reentrant=False)
            return self.norm(checkpoint(last, x, frame, None, read, use_reentrant=False))
        for layer in earlier:
            x = layer(x, frame, cache)
        return self.norm(last(x, frame, cache, read))

    def frame(self, layout: Layout) -> Frame:
        """What the layers share when they look at a batch that stands so; the same for each model
        of this size.
        """
        (batch, width), heads, keys = layout.token.shape, self.heads, self.key_heads
        if layout.hidden.shape[-1] > len(self.cos) and layout.place is None:
            raise ValueError(f"{layout.hidden.shape[-1]} positions; the model has {len(self.cos)}")
        # not -inf: a row that sees nothing stays finite, also where autocast rounds to bfloat16
        types = (torch.bfloat16, self.cos.dtype)
        smallest = max(torch.finfo(kind).min for kind in types)
        bias = torch.zeros_like(layout.hidden, dtype=self.cos.dtype)
        bias = bias.masked_fill(layout.hidden, smallest)
        if bias.dim() == 4:
            bias = bias.expand(-1, heads, -1, -1).reshape(batch * keys, -1, bias.shape[-1])
        elif heads > keys:
            bias = bias.repeat(heads // keys, 1)  # (RW, S)
        half = self.cos.shape[1] // 2
        tables = (table[:, :half].repeat(1, heads + keys) for table in (self.cos, self.sin))
        cos, sin = (table.index_select(0, layout.positions) for table in tables)
        frame = Frame(cos, sin, bias, batch, keys)
        if layout.place is None:
            return frame
        half_head, which = self.half_head, self.which  # (H+2G, 2); (2H+4G, 4)
        first = layout.token * len(which)  # (B, W)
        to_rows = torch.cat(
            [
                (first[:, None, :, None] + kind[:, None]).flatten(0, 1)  # (BH, W, 2) or (BG, W, 2)
                for kind in half_head.split((heads, keys, keys))
            ]
        )
        # a head's place: W to a head, H or G heads to a row, B rows to each of the three
        row, place = layout.place // width, layout.place  # (N,) each
        to_tokens = (place + row * ((heads - 1) * width))[:, None]
        to_tokens = to_tokens + torch.arange(0, heads * width, width, device=place.device)
        own, before, head, side = which.T  # (2H+4G,) each
        shift = 2 * width * (batch * before + head) + side
        back = (row[:, None] * (2 * width * (own - 1))).add_(2 * place[:, None]).add_(shift)
        return frame._replace(to_rows=to_rows, to_tokens=to_tokens, back=back)


class Llama(nn.Module):
    """The language model: ids in, logits of the next token out."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Backbone(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

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
