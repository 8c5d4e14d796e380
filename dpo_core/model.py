"""A Llama in plain torch (chapter 2). It knows nothing of training, sampling or devices.

Parameter names and arithmetic are those of Hugging Face's `LlamaForCausalLM` (rotate-half RoPE,
pre-norm RMSNorm, SwiGLU, no biases), so a state dict of one is a state dict of the other.

Shapes: B batch, T positions of this call, S positions with the cache, V vocabulary, H heads,
K width of a head, D width (D = H·K).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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
    """The keys and values of all positions so far, a pair of (B, H, S, K) tensors a layer."""

    def __init__(self) -> None:
        self.layers: dict[int, tuple[Tensor, Tensor]] = {}

    @property
    def length(self) -> int:
        """S, how many positions are stored (padding included)."""
        return self.layers[0][0].shape[2] if self.layers else 0

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Append (B, H, T, K) keys and values to one layer and return all of them, (B, H, S, K)."""
        if layer in self.layers:
            old_key, old_value = self.layers[layer]
            key, value = torch.cat((old_key, key), dim=2), torch.cat((old_value, value), dim=2)
        self.layers[layer] = key, value
        return key, value

    def select(self, rows: Tensor) -> None:
        """Keep the given rows of the batch, in that order: (B',) int64, repeats allowed."""
        self.layers = {i: (k[rows], v[rows]) for i, (k, v) in self.layers.items()}


class RMSNorm(nn.Module):
    """x / sqrt(mean(x²) + eps) · weight, over the last dimension (Zhang & Sennrich 2019, eq. 4)."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        scale = torch.rsqrt(x.float().square().mean(-1, keepdim=True) + self.eps)
        return self.weight * (x.float() * scale).to(x.dtype)


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
        self.layer, self.heads, self.head_size = layer, config.num_attention_heads, config.head_size
        width = config.hidden_size
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.o_proj = nn.Linear(width, width, bias=False)

    def forward(
        self,
        x: Tensor,
        cos: Tensor,
        sin: Tensor,
        hidden: Tensor | None,
        cache: KVCache | None,
    ) -> Tensor:
        """`hidden` is True where a query must not look: (T, S) or (B, 1, T, S)."""
        batch, length, width = x.shape
        heads = (batch, length, self.heads, self.head_size)
        query = self.q_proj(x).view(heads).transpose(1, 2)  # (B, H, T, K)
        key = self.k_proj(x).view(heads).transpose(1, 2)  # (B, H, T, K)
        value = self.v_proj(x).view(heads).transpose(1, 2)  # (B, H, T, K)
        query, key = apply_rope(query, cos, sin), apply_rope(key, cos, sin)
        if cache is not None:
            key, value = cache.extend(self.layer, key, value)  # (B, H, S, K)
        scores = query @ key.transpose(-1, -2) * self.head_size**-0.5  # (B, H, T, S)
        if hidden is not None:
            # the smallest number, not -inf: a row that sees nothing stays finite
            scores = scores.masked_fill(hidden, torch.finfo(scores.dtype).min)
        mixed = scores.softmax(-1) @ value  # (B, H, T, K)
        return self.o_proj(mixed.transpose(1, 2).reshape(batch, length, width))


class MLP(nn.Module):
    """SwiGLU: down(silu(gate(x)) · up(x)) (Shazeer 2020, eq. 6)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    """One layer: attention, then the MLP, each added to the residual stream."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.self_attn = Attention(config, layer)
        self.mlp = MLP(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, hidden: Tensor | None, cache: KVCache | None
    ) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, hidden, cache)
        return x + self.mlp(self.post_attention_layernorm(x))


class Backbone(nn.Module):
    """Embedding, layers and last norm: everything below the vocabulary head."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            Block(config, layer) for layer in range(config.num_hidden_layers)
        )
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        cos, sin = rope_tables(config.max_position_embeddings, config.head_size, config.rope_theta)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, cache: KVCache | None = None
    ) -> Tensor:
        """The residual stream after the last norm, (B, T, D); arguments as in `Llama.forward`."""
        batch, length = input_ids.shape
        total = length + (cache.length if cache is not None else 0)  # S
        if total > len(self.cos):
            raise ValueError(f"{total} positions; the model has {len(self.cos)}")
        rows = torch.arange(total - length, total, device=input_ids.device)  # (T,)
        hidden = torch.arange(total, device=input_ids.device) > rows[:, None]  # (T, S): the future
        cos, sin = self.cos[rows], self.sin[rows]  # (T, K)
        if attention_mask is not None:
            if attention_mask.shape != (batch, total):
                raise ValueError(
                    f"attention_mask is {tuple(attention_mask.shape)}; needed is {(batch, total)}"
                )
            real = attention_mask.bool()
            hidden = hidden | ~real[:, None, None, :]  # (B, 1, T, S): the future and the padding
            # positions count real tokens only, so left padding moves nothing
            positions = (real.cumsum(-1) - 1).clamp(min=0)[:, -length:]  # (B, T)
            cos, sin = self.cos[positions][:, None], self.sin[positions][:, None]  # (B, 1, T, K)
        x = self.embed_tokens(input_ids)  # (B, T, D)
        for layer in self.layers:
            x = layer(x, cos, sin, hidden, cache)
        return self.norm(x)


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
        return self.lm_head(self.model(input_ids, attention_mask, cache))
