"""What SFT and DPO of a real model cost: operations, bytes, GPUs, hours (chapter 13).

Arithmetic on a model's shape and a plan of training, before anything is run. Pure functions; it
needs no torch and reads no file.

Shapes: B sequences in a micro-batch, T positions of a sequence, V vocabulary, L layers, D width,
F width of the MLP, H query heads, G key and value heads, K width of a head. Operations (FLOPs) are
additions and multiplications, so a product with an m by n matrix is 2·m·n of them a token; only
matrix products count. Memory is in bytes, GB = 10⁹ bytes.

Where the formulas are from:
    6 N operations a token: Kaplan et al. 2020 (arXiv:2001.08361, section 2.1): a forward pass is
        2 N + 2·L·T·D, "the backwards pass (approximately twice the compute as the forwards pass)".
        (Its attention term is half of PaLM's, which is the one used here.)
    attention, and utilisation: Chowdhery et al. 2022 (PaLM, arXiv:2204.02311, appendix B):
        6 N + 12·L·H·K·T a token, whatever is computed a second time left out.
    16 bytes a parameter, and their sharding: Rajbhandari et al. 2020 (ZeRO, arXiv:1910.02054).
    activations: Korthikanti et al. 2022 (arXiv:2205.05198, section 4.1), adapted below.
    LoRA: Hu et al. 2021 (arXiv:2106.09685).
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

METHODS = ("sft", "dpo")
REFERENCES = ("none", "stored", "live")
SHARDINGS = ("none", "zero1", "zero2", "zero3")  # each shards what the one before it does
CHUNK = 1024  # positions whose logits are there at once when the head works in chunks
MOST_GPUS = 2**20

# bytes a parameter: weight, gradient, master copy of the weight, AdamW's two moments
PRECISIONS = {
    "fp32": (4, 4, 0, 8),
    "bf16-mixed": (2, 2, 4, 8),  # ZeRO's 2 + 2 + 12: master and moments in fp32
    "bf16": (2, 2, 0, 4),  # everything in bf16; torch's AdamW gives its moments the weights' type
}


@dataclass(frozen=True)
class Shape:
    """A Llama's dimensions, in the field names of Hugging Face's `LlamaConfig`."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    tie_word_embeddings: bool = False

    @property
    def query_width(self) -> int:
        """H·K."""
        return self.num_attention_heads * self.head_dim

    @property
    def key_width(self) -> int:
        """G·K, of the keys and of the values."""
        return self.num_key_value_heads * self.head_dim


def _shape(v: int, d: int, f: int, n: int, h: int, g: int, k: int, tied: bool = False) -> Shape:
    return Shape(v, d, f, n, h, g, k, tied)


# config.json of each on huggingface.co; held against litgpt's config.py, which copies them
PRESETS = {
    "book": _shape(22, 64, 64, 4, 4, 4, 16),
    "smollm2-135m": _shape(49_152, 576, 1536, 30, 9, 3, 64, tied=True),
    "tinyllama-1.1b": _shape(32_000, 2048, 5632, 22, 32, 4, 64),
    "llama-3.2-1b": _shape(128_256, 2048, 8192, 16, 32, 8, 64, tied=True),
    "llama-3.2-3b": _shape(128_256, 3072, 8192, 28, 24, 8, 128, tied=True),
    "llama-2-7b": _shape(32_000, 4096, 11_008, 32, 32, 32, 128),
    "mistral-7b": _shape(32_000, 4096, 14_336, 32, 32, 8, 128),
    "llama-3-8b": _shape(128_256, 4096, 14_336, 32, 32, 8, 128),
    "llama-2-13b": _shape(32_000, 5120, 13_824, 40, 40, 40, 128),
    "llama-2-70b": _shape(32_000, 8192, 28_672, 80, 64, 8, 128),
    "llama-3-70b": _shape(128_256, 8192, 28_672, 80, 64, 8, 128),
}


@dataclass(frozen=True)
class Gpu:
    """One GPU: dense bf16 operations a second (fp32 sums, no sparsity), bytes of memory."""

    flops: float
    memory: float


# NVIDIA's data sheets and white papers; where a sheet gives only the number "with sparsity", half
# of it. A data sheet's GB are taken as 10⁹ bytes; the driver shows up to 7 % more.
GPUS = {
    "a100-40": Gpu(312e12, 40e9),  # A100 data sheet: BFLOAT16 312 | 624 with sparsity
    "a100-80": Gpu(312e12, 80e9),
    "h100": Gpu(989.4e12, 80e9),  # H100 SXM data sheet: 1,979 with sparsity
    "h200": Gpu(989.4e12, 141e9),  # H200 SXM data sheet: the H100's 1,979 with sparsity
    "rtx-a6000": Gpu(154.8e12, 48e9),  # GA102 white paper: 154.8 | 309.6 with sparsity
    "rtx-4090": Gpu(165.2e12, 24e9),  # Ada white paper, appendix A: 165.2 | 330.4 with sparsity
    "rtx-5090": Gpu(209.5e12, 32e9),  # RTX Blackwell white paper: 209.5 | 419 with sparsity
}


@dataclass(frozen=True)
class Plan:
    """One training: its data, and how it is done.

    Attributes:
        method: sft (one sequence an example: prompt and `chosen`) or dpo (a pair of them).
        examples: examples or pairs in the data; `epochs` passes over them.
        prompt, chosen, rejected: tokens, with the padding that is computed.
        reference: none (SFT, and losses without one), stored (computed once, before training) or
            live (in memory beside the policy, one forward pass every time).
        share_prompt: a pair's prompt is computed once, not once for each answer.
        lora_rank: of adapters on the seven matrices of every layer; 0 trains all weights.
        precision: a key of `PRECISIONS`. The optimiser is AdamW.
        sharding: of `SHARDINGS`: moments and master; also gradients; also weights.
        checkpointing: keep only each layer's input, and compute the layer again for its gradient.
        fused_attention: no T by T matrix is kept (FlashAttention); else H of them a layer.
        chunked_head: logits of at most `CHUNK` positions at once.
        micro_batch: examples or pairs that one GPU computes at once.
    """

    method: str = "dpo"
    examples: int = 60_000
    epochs: int = 1
    prompt: int = 256
    chosen: int = 256
    rejected: int = 256
    reference: str = "live"
    share_prompt: bool = False
    lora_rank: int = 0
    precision: str = "bf16-mixed"
    sharding: str = "zero3"
    checkpointing: bool = False
    fused_attention: bool = True
    chunked_head: bool = False
    micro_batch: int = 1

    def __post_init__(self) -> None:
        for name, accepted in (
            ("method", METHODS),
            ("reference", REFERENCES),
            ("sharding", SHARDINGS),
            ("precision", tuple(PRECISIONS)),
        ):
            if getattr(self, name) not in accepted:
                raise ValueError(
                    f"unknown {name} {getattr(self, name)!r:.60}; accepted are "
                    + ", ".join(accepted)
                )

    @property
    def tokens(self) -> int:
        """Positions that an example (SFT) or a pair (DPO) puts through the model."""
        if self.method == "sft":
            return self.prompt + self.chosen
        prompts = self.prompt if self.share_prompt else 2 * self.prompt
        return prompts + self.chosen + self.rejected

    @property
    def attended(self) -> int:
        """Query-key products that an example or a pair needs, the masked half included.

        The square of the length for each sequence; with a shared prompt, the prompt's square once,
        and each answer against the prompt and itself.
        """
        if self.method == "sft":
            return (self.prompt + self.chosen) ** 2
        if not self.share_prompt:
            return (self.prompt + self.chosen) ** 2 + (self.prompt + self.rejected) ** 2
        answers = (self.chosen, self.rejected)
        return self.prompt**2 + sum(one * (self.prompt + one) for one in answers)


# ------------------------------------------------------------------------------- parameters


def linears(shape: Shape) -> dict[str, tuple[int, int]]:
    """The seven matrices of one layer: name -> (inputs, outputs)."""
    wide, inner = shape.hidden_size, shape.intermediate_size
    return {
        "q_proj": (wide, shape.query_width),
        "k_proj": (wide, shape.key_width),
        "v_proj": (wide, shape.key_width),
        "o_proj": (shape.query_width, wide),
        "gate_proj": (wide, inner),
        "up_proj": (wide, inner),
        "down_proj": (inner, wide),
    }


def layer_matrices(shape: Shape) -> int:
    """Weights in the matrices of one layer: 2·D·H·K + 2·D·G·K + 3·D·F."""
    return sum(inputs * outputs for inputs, outputs in linears(shape).values())


def parameters(shape: Shape) -> int:
    """All parameters: embedding, layers with two norms each, last norm, and the head if untied."""
    words = shape.vocab_size * shape.hidden_size
    layers = shape.num_hidden_layers * (layer_matrices(shape) + 2 * shape.hidden_size)
    return layers + shape.hidden_size + words * (1 if shape.tie_word_embeddings else 2)


def lora_parameters(shape: Shape, rank: int) -> int:
    """Parameters of adapters on every matrix of every layer: rank·(inputs + outputs) each."""
    return shape.num_hidden_layers * sum(rank * sum(size) for size in linears(shape).values())


# ------------------------------------------------------------------------------- operations


@dataclass(frozen=True)
class Flops:
    """Operations of one pass: products with weights; of queries with keys, and with values."""

    matrices: int = 0
    attention: int = 0

    @property
    def total(self) -> int:
        return self.matrices + self.attention

    def __add__(self, other: "Flops") -> "Flops":
        return Flops(self.matrices + other.matrices, self.attention + other.attention)

    def times(self, factor: int) -> "Flops":
        return Flops(self.matrices * factor, self.attention * factor)


@dataclass(frozen=True)
class Work:
    """The operations of a whole training, by pass."""

    forward: Flops
    backward: Flops
    reference: Flops
    recomputation: Flops

    @property
    def model(self) -> Flops:
        """What the mathematics asks for: all but what is computed a second time."""
        return self.forward + self.backward + self.reference


def forward_flops(shape: Shape, tokens: int, attended: int, rank: int = 0) -> Flops:
    """One forward pass over `tokens` positions with `attended` query-key products.

    2 operations a token for each weight in a matrix, the head at every position included, the
    embedding not (it is looked up); 4·L·H·K for each query-key pair: score, and weighted value.
    That is 2 N + 4·L·H·K·T a token, a third of PaLM's 6 N + 12·L·H·K·T. As there, a causal mask
    saves nothing; kernels that skip the masked half do half of the attention.
    """
    weights = shape.num_hidden_layers * layer_matrices(shape) + shape.vocab_size * shape.hidden_size
    weights += lora_parameters(shape, rank)
    return Flops(2 * weights * tokens, 4 * shape.num_hidden_layers * shape.query_width * attended)


def backward_flops(shape: Shape, tokens: int, attended: int, rank: int = 0) -> Flops:
    """The backward pass: twice the forward one, one product for the gradient of each factor.

    With LoRA a frozen matrix needs no gradient of its weights: one product instead of two. (The
    query, key and value matrices of the first layer, which need none for their input either, are
    not taken off; libraries that checkpoint compute it.)
    """
    forward = forward_flops(shape, tokens, attended)
    if not rank:
        return forward.times(2)
    adapters = 4 * lora_parameters(shape, rank) * tokens
    return Flops(forward.matrices + adapters, 2 * forward.attention)


def training_flops(shape: Shape, plan: Plan) -> Work:
    """The operations of a whole training.

    A live reference is one more forward pass every time, a stored one a forward pass over the data
    once. Checkpointing computes the layers, not the head, a second time.
    """
    forward = forward_flops(shape, plan.tokens, plan.attended, plan.lora_rank)
    backward = backward_flops(shape, plan.tokens, plan.attended, plan.lora_rank)
    frozen = forward_flops(shape, plan.tokens, plan.attended)
    head = Flops(2 * shape.vocab_size * shape.hidden_size * plan.tokens)
    again = forward + head.times(-1) if plan.checkpointing else Flops()
    seen = plan.examples * plan.epochs
    looks = {"none": 0, "stored": plan.examples, "live": seen}[plan.reference]
    return Work(forward.times(seen), backward.times(seen), frozen.times(looks), again.times(seen))


def hours(flops: float, gpus: int, peak: float, mfu: float) -> float:
    """Hours for `flops` model operations (`Work.model`) on GPUs of `peak` operations a second.

    `mfu`, the model FLOPs utilisation (PaLM, appendix B), is the share of the peak that goes into
    model operations; recomputing, communicating, padding and waiting all lower it. Published:
    PaLM 540B 46 % (section 4), Llama 3 405B 38 to 43 % (arXiv:2407.21783, table 4), MPT 760M to
    70B 36 to 64 % on A100 and 27 to 46 % on H100 (llm-foundry's benchmarks). Those are pretraining:
    full sequences, large batches. DPO runs lie lower: Tülu 3 (arXiv:2411.15124) at most 25 % (8B)
    and 18 % (70B), even if every sequence were as long as was allowed (tests/test_cost.py).
    """
    return flops / (gpus * peak * mfu) / 3600


def peak_flops(gpu: Gpu, precision: str) -> float:
    """Dense operations a second; for fp32 those of TF32, half of bf16 on every GPU in `GPUS`."""
    return gpu.flops / 2 if precision == "fp32" else gpu.flops


# ------------------------------------------------------------------------------- memory


@dataclass(frozen=True)
class Memory:
    """Bytes on one GPU at the worst moment of a step, the start of the backward pass, by part."""

    weights: float
    gradients: float
    moments: float
    master: float
    reference: float
    gathered: float
    activations: float
    logits: float

    @property
    def total(self) -> float:
        return sum(vars(self).values())

    @property
    def largest(self) -> str:
        """The name of the part that takes most."""
        return max(fields(self), key=lambda field: getattr(self, field.name)).name


def activation_elements(shape: Shape, tokens: int, rank: int = 0) -> int:
    """Numbers that one layer keeps for its backward pass, without H matrices of T by T.

    Korthikanti et al. count, in bytes of 2 and 1 for a GPT layer with dropout and F = 4·D:
    attention 11·D + 5·H·T a token (inputs of the query, key and value products 2·D, queries and
    keys 4·D, values 2·D, input of the output product 2·D, dropout mask D; softmax, its dropout
    mask and output 5·H·T), MLP 19·D, two LayerNorms 4·D. Without dropout, and in numbers instead
    of bytes, that is 16·D + H·T. For a Llama, derived here by the same rule:
        both norms: input and output of each, the output being what the products read     4·D
        queries, input of the output product                                              2·H·K
        keys, values                                                                      2·G·K
        SwiGLU: gate before and after SiLU, up, their product (GPT: two of F, not four)   4·F
    and the H·T numbers of the softmax only where attention is not fused. Left out, as there, is
    what is smaller by a factor D (norms' scales, log-sums). LoRA adds the rank of each adapter.
    """
    wide = 4 * shape.hidden_size + 2 * shape.query_width + 2 * shape.key_width
    return tokens * (wide + 4 * shape.intermediate_size + rank * len(linears(shape)))


def activation_bytes(shape: Shape, plan: Plan) -> int:
    """Bytes kept for the backward pass of one micro-batch, below the head.

    With checkpointing each layer's input, and one layer in full. Above the layers, input and
    output of the last norm.
    """
    tokens = plan.micro_batch * plan.tokens
    layer = activation_elements(shape, tokens, plan.lora_rank)
    if not plan.fused_attention:
        layer += plan.micro_batch * shape.num_attention_heads * plan.attended
    stream = tokens * shape.hidden_size
    kept = shape.num_hidden_layers * layer
    if plan.checkpointing:
        kept = shape.num_hidden_layers * stream + layer
    return (kept + 2 * stream) * PRECISIONS[plan.precision][0]


def logit_bytes(shape: Shape, plan: Plan) -> int:
    """Bytes of the logits, of their log-probabilities in fp32 and of the gradient of these."""
    tokens = plan.micro_batch * plan.tokens
    positions = min(tokens, CHUNK) if plan.chunked_head else tokens
    return positions * shape.vocab_size * (PRECISIONS[plan.precision][0] + 4 + 4)


def memory(shape: Shape, plan: Plan, gpus: int) -> Memory:
    """Bytes on each of `gpus` GPUs.

    ZeRO: a state that is sharded takes 1/gpus of its bytes. With weights sharded, one layer (or the
    embedding, if it is larger) is gathered in full while it is used. A live reference takes its
    weights; with LoRA it is the policy with its adapters off, and takes nothing. Not counted: the
    CUDA context, communication buffers, fragmentation.
    """
    weight, gradient, master, moments = PRECISIONS[plan.precision]
    everything = parameters(shape)
    adapters = lora_parameters(shape, plan.lora_rank)
    trained = adapters or everything
    stage = SHARDINGS.index(plan.sharding)
    states, gradients, weights = (gpus if stage >= least else 1 for least in (1, 2, 3))
    beside = plan.reference == "live" and not adapters
    unit = max(layer_matrices(shape), shape.vocab_size * shape.hidden_size)
    return Memory(
        weights=weight * (everything + adapters) / weights,
        gradients=gradient * trained / gradients,
        moments=moments * trained / states,
        master=master * trained / states,
        reference=weight * everything * beside / weights,
        gathered=weight * unit * (weights > 1),
        activations=activation_bytes(shape, plan),
        logits=logit_bytes(shape, plan),
    )


def gpus_needed(shape: Shape, plan: Plan, room: float) -> int | None:
    """The fewest GPUs with `room` bytes each that hold the training; None if no number does."""
    if memory(shape, plan, 1).total <= room:
        return 1
    low, high = 1, 2  # too few, perhaps enough
    while memory(shape, plan, high).total > room:
        if high >= MOST_GPUS or plan.sharding == "none":
            return None
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        enough = memory(shape, plan, middle).total <= room
        low, high = (low, middle) if enough else (middle, high)
    return high


# ------------------------------------------------------------------------------- config.json

SIZES = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers")
FAMILIES = ("llama", "mistral")


def shape_from_config(config: Mapping[str, Any]) -> Shape:
    """The shape that a Hugging Face config.json describes.

    Raises:
        ValueError: another architecture than Llama's, biases, or a size that is missing, no whole
            number or not positive.
    """
    family = config.get("model_type")
    if family not in FAMILIES:
        raise ValueError(f"model_type is {family!r:.60}; accepted are " + ", ".join(FAMILIES))
    for name in ("attention_bias", "mlp_bias"):
        if config.get(name):
            raise ValueError(f"{name} is {config[name]!r:.60}; accepted are models without biases")
    sizes = [_size(config, name) for name in SIZES]
    heads = _size(config, "num_attention_heads")
    pairs = _size(config, "num_key_value_heads", heads)
    width = _size(config, "head_dim", sizes[1] // heads)
    if heads % pairs:
        raise ValueError(f"num_attention_heads {heads} is no multiple of the {pairs} key heads")
    return Shape(*sizes, heads, pairs, width, bool(config.get("tie_word_embeddings", False)))


def _size(config: Mapping[str, Any], name: str, default: int | None = None) -> int:
    value = config.get(name)
    value = default if value is None else value
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**32:
        raise ValueError(f"{name} is {value!r:.40}; accepted are positive whole numbers")
    return value
