"""What training costs: the formulas against the library, against torch's own counts, and against published runs.

A published run is compared at a utilisation that was fixed before any of them was computed: 0.3 to 0.6, where more
than nine in ten of the MPT benchmarks lie (all: 26 to 64 %, 760M to 70B parameters, A100 and H100, bf16;
github.com/mosaicml/llm-foundry, scripts/train/benchmarking). Nothing is fitted to a run; the runs outside the range
stand here as such.
"""

import dataclasses
import json
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dpo_core import cost
from dpo_core.commands.parser import main
from dpo_core.cost import GPUS, PRESETS, Plan, Shape
from dpo_core.model import Llama, ModelConfig

PRETRAINING = (0.30, 0.60)  # the utilisation that is expected of a pretraining
GIB = 2**30
CONFIGS = (
    ModelConfig(),
    ModelConfig(hidden_size=48, num_attention_heads=3, intermediate_size=80, num_hidden_layers=2),
    ModelConfig(vocab_size=301, hidden_size=32, num_attention_heads=2, num_hidden_layers=7),
    ModelConfig(num_attention_heads=6, hidden_size=48, num_key_value_heads=2, head_dim=16),
    ModelConfig(vocab_size=301, num_key_value_heads=1, tie_word_embeddings=True),
)


def shape_of(config: ModelConfig) -> Shape:
    """The shape of a model: the same numbers under the same names."""
    return Shape(**{name: getattr(config, name) for name in Shape.__dataclass_fields__})


def sft(tokens: int, **rest) -> Plan:
    """Next-token training on one sequence of a length: a step of pretraining."""
    return Plan("sft", 1, prompt=0, chosen=tokens, reference="none", **rest)


def flops_per_token(shape: Shape, length: int) -> float:
    """Model operations a token, forward and backward, in sequences of a length."""
    return cost.training_flops(shape, sft(length)).model.total / length


def test_the_arithmetic_needs_no_torch():
    """A question about a model that this machine could never hold should not wait for torch."""
    forbid = "import sys; sys.modules['torch'] = None; import dpo_core.cost"
    subprocess.run([sys.executable, "-c", forbid], check=True)


# ---------------------------------------------------------------- against the library


@pytest.mark.parametrize("config", CONFIGS)
def test_parameters_are_those_of_the_model(config):
    """Biases, a forgotten norm, or a head counted twice."""
    counted = sum(parameter.numel() for parameter in Llama(config).parameters())
    assert cost.parameters(shape_of(config)) == counted


def test_the_books_shape_is_the_default_configuration():
    assert shape_of(ModelConfig()) == PRESETS["book"]


@pytest.mark.parametrize("name", PRESETS)
def test_parameters_of_a_preset_are_transformers(name):
    """Grouped keys, tied embeddings; and a digit mistyped in a preset shows in the names' billions."""
    transformers = pytest.importorskip("transformers")
    shape = PRESETS[name]
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**dataclasses.asdict(shape)))
    assert cost.parameters(shape) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("name", "published"),  # the counts that huggingface.co shows beside the weights
    [
        ("smollm2-135m", 134_515_008),
        ("tinyllama-1.1b", 1_100_048_384),
        ("llama-2-7b", 6_738_415_616),
        ("mistral-7b", 7_241_732_096),
        ("llama-3.2-1b", 1_235_814_400),
        ("llama-3.2-3b", 3_212_749_824),
        ("llama-3-8b", 8_030_261_248),
        ("llama-2-13b", 13_015_864_320),
        ("llama-2-70b", 68_976_648_192),
        ("llama-3-70b", 70_553_706_496),
    ],
)
def test_parameters_of_a_preset_are_the_published_ones(name, published):
    assert cost.parameters(PRESETS[name]) == published


def counted_flops(run) -> int:
    """What torch's counter sees; attention by its products, in whatever way the model computes it."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize(("batch", "length"), [(3, 17), (1, 64)])
def test_forward_is_2n_and_backward_4n_with_attention(config, batch, length):
    """Exactly: no product is left out, none counted twice; the embedding is looked up, not multiplied."""
    model, ids = Llama(config), torch.zeros(batch, length, dtype=torch.long)
    plan = Plan("sft", batch, prompt=5, chosen=length - 5, reference="none")
    work = cost.training_flops(shape_of(config), plan)
    assert counted_flops(lambda: model(ids)) == work.forward.total
    assert counted_flops(lambda: model(ids).sum().backward()) == work.model.total


def test_grouped_keys_cost_less_in_the_matrices_and_nothing_less_in_attention():
    """Held against transformers' Llama, whose queries share their keys in twos."""
    transformers = pytest.importorskip("transformers")
    shape = Shape(90, 48, 80, 3, 6, 2, 8)
    config = transformers.LlamaConfig(**dataclasses.asdict(shape), attn_implementation="eager")
    model, ids = transformers.LlamaForCausalLM(config), torch.zeros(2, 20, dtype=torch.long)
    work = cost.training_flops(shape, Plan("sft", 2, prompt=9, chosen=11, reference="none"))
    # transformers computes the angles of RoPE with a product of K/2 by 1 by T for each row
    angles = 2 * 2 * 20 * shape.head_dim // 2
    seen = counted_flops(lambda: model(ids).logits.sum().backward())
    assert 0 <= seen - work.model.total <= angles


class Adapted(nn.Module):
    """A frozen matrix and a trainable product of two thin ones beside it."""

    def __init__(self, frozen: nn.Linear, rank: int) -> None:
        super().__init__()
        self.frozen = frozen
        self.down = nn.Linear(frozen.in_features, rank, bias=False)
        self.up = nn.Linear(rank, frozen.out_features, bias=False)

    def forward(self, x):
        return self.frozen(x) + self.up(self.down(x))


@pytest.mark.parametrize("rank", [1, 4])
def test_lora_takes_a_third_of_the_matrices_operations_away(rank):
    """2 N instead of 4 N on the way back, 6 for each weight of an adapter; counted by torch in transformers' Llama,
    whose matrices are modules that an adapter can replace.
    """
    transformers = pytest.importorskip("transformers")
    shape = Shape(30, 64, 64, 3, 4, 4, 16)
    config = transformers.LlamaConfig(**dataclasses.asdict(shape), attn_implementation="eager")
    model = transformers.LlamaForCausalLM(config).requires_grad_(False)
    for name, module in list(model.model.layers.named_modules()):
        if isinstance(module, nn.Linear):
            parent, _, child = name.rpartition(".")
            setattr(model.model.layers.get_submodule(parent), child, Adapted(module, rank))
    # as peft does for checkpointing: the first layer's input has a gradient too
    model.model.embed_tokens.register_forward_hook(lambda *seen: seen[-1].requires_grad_())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained == cost.lora_parameters(shape, rank)
    ids = torch.zeros(2, 24, dtype=torch.long)
    plan = Plan("sft", 2, prompt=0, chosen=24, reference="none", lora_rank=rank)
    work = cost.training_flops(shape, plan)
    angles = 2 * 2 * 24 * shape.head_dim // 2  # transformers' product for RoPE, see above
    seen = counted_flops(lambda: model(ids).logits.sum().backward())
    assert 0 <= seen - work.model.total <= angles


def test_checkpointing_computes_the_layers_once_more_and_not_the_head():
    config = ModelConfig(num_hidden_layers=2)
    model, ids = Llama(config), torch.zeros(1, 16, dtype=torch.long)
    plain, again = (
        cost.training_flops(shape_of(config), sft(16, checkpointing=on)) for on in (False, True)
    )
    assert plain.model == again.model and plain.recomputation.total == 0
    layers = counted_flops(lambda: model.model(ids))
    assert again.recomputation.total == layers


def kept_bytes(model, ids) -> int:
    """Bytes that autograd keeps of a forward pass below the head, each piece of memory once."""
    own = {t.untyped_storage().data_ptr() for t in [*model.parameters(), *model.buffers()]}
    kept = {}

    def pack(tensor):
        memory = tensor.untyped_storage()
        if memory.data_ptr() not in own:
            kept[memory.data_ptr()] = memory.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        stream = model.model(ids)
    assert stream.requires_grad
    return sum(kept.values())


@pytest.mark.parametrize("config", CONFIGS)
def test_activations_are_what_autograd_keeps(config):
    """Between the fused count less a fifth and the plain one and a third.

    The library computes norms and rotations in several steps, each of which keeps a little more than
    the ideal that the formula counts; and it may or may not keep the T by T weights.
    """
    batch, length = 8, 32
    measured = kept_bytes(Llama(config), torch.zeros(batch, length, dtype=torch.long))
    fused, plain = (
        cost.activation_bytes(
            shape_of(config),
            sft(length, precision="fp32", micro_batch=batch, fused_attention=on),
        )
        for on in (True, False)
    )
    assert 0.8 * fused < measured < 1.33 * plain


# ---------------------------------------------------------------- against published formulas and figures


def test_operations_are_palms_6n_and_12lhkt():
    """PaLM, appendix B: 6 N + 12·L·H·Q·T a token; here N without the embedding, which is looked up."""
    shape, length = PRESETS["llama-2-7b"], 4096
    n = cost.parameters(shape) - shape.vocab_size * shape.hidden_size
    palm = 6 * n + 12 * 32 * 32 * 128 * length
    assert flops_per_token(shape, length) == pytest.approx(palm, rel=1e-4)  # the norms' weights


@pytest.mark.parametrize(
    ("s", "b", "h", "a"), [(2048, 1, 12_288, 96), (2048, 4, 6144, 64), (512, 2, 64, 4)]
)
def test_activations_are_korthikantis_less_dropout_and_plus_swiglu(s, b, h, a):
    """Korthikanti et al. 2022, eq. 1: a layer keeps s·b·h·(34 + 5·a·s/h) bytes; each difference is named."""
    layer = Shape(1, h, 4 * h, 1, a, a, h // a)
    ours = 2 * (cost.activation_elements(layer, s * b) + b * a * s * s)
    dropout = (
        2 * s * b * h + 3 * a * s * s * b
    )  # masks of a byte, and the softmax after its dropout
    swiglu = 2 * (4 - 2) * 4 * s * b * h  # four numbers of the width F, where GELU keeps two
    assert ours + dropout - swiglu == s * b * h * 34 + 5 * a * s * s * b


@pytest.mark.parametrize(
    ("sharding", "published"), [("none", 120), ("zero1", 31.4), ("zero2", 16.6), ("zero3", 1.9)]
)
def test_bytes_are_zeros(sharding, published):
    """Rajbhandari et al. 2020, figure 1: 7.5 billion parameters, 64 GPUs, GB of model states."""
    shape = dataclasses.replace(PRESETS["llama-2-7b"], vocab_size=124_967)
    assert cost.parameters(shape) == pytest.approx(7.5e9, rel=1e-6)
    held = cost.memory(shape, sft(1, sharding=sharding), 64)
    states = held.weights + held.gradients + held.moments + held.master
    assert states / 1e9 == pytest.approx(published, abs=0.05)


# GPT-3's width, layers and heads; F so that the three matrices are as large as GPT's two
GPT_3 = Shape(50_257, 12_288, 32_768, 96, 96, 96, 128, tie_word_embeddings=True)


def test_lora_on_gpt_3_takes_its_weights_and_little_else():
    """Hu et al. 2021, section 4.2: 350 GB with LoRA. Their 1.2 TB without it are not ours.

    Full training takes 16 bytes a parameter, 2.8 TB. 1.2 TB are 6.9 bytes a parameter, which no
    account of Adam gives and which the paper does not explain; "up to 2/3" less is not 8 times.
    """
    assert cost.parameters(GPT_3) == pytest.approx(175e9, rel=0.005)
    full, lora = (
        sum(dataclasses.astuple(cost.memory(GPT_3, sft(1, lora_rank=rank, sharding="none"), 1))[:4])
        for rank in (0, 4)
    )
    assert lora / 1e9 == pytest.approx(350, rel=0.01)
    assert full / 1e9 == pytest.approx(2800, rel=0.01)
    assert full / 1.2e12 == pytest.approx(2.33, abs=0.01)


def test_more_gpus_free_what_the_sharded_states_took():
    """torchtitan, Llama 3.1 8B, FSDP: 77.0 GiB on 8 GPUs, 62.0 on 128 (82.4, 67.0 uncompiled).

    The difference is free of activations, whose checkpointing is another one there: a measurement of
    16 bytes a parameter. benchmarks/llama3_h100_202412_torchtitan.md, tables 1 and 3.
    """
    few, many = (cost.memory(PRESETS["llama-3-8b"], sft(8192), gpus).total for gpus in (8, 128))
    for published in (77.0 - 62.0, 82.4 - 67.0):
        assert (few - many) / GIB == pytest.approx(published, rel=0.10)


def test_a_long_sequence_takes_a_fifth_less_than_torchtitan_measured():
    """Llama 3.1 8B, one sequence of 32,768 a GPU, full checkpointing, FSDP on 8: 83.9 GiB (table 2 there).

    Ours is 18 % less. It leaves out buffers, fragmentation and that run's float8 copies; how much each is
    the table does not say.
    """
    plan = sft(32_768, checkpointing=True)
    ours = cost.memory(PRESETS["llama-3-8b"], plan, 8).total / GIB
    assert ours / 83.9 == pytest.approx(0.82, abs=0.01)


def test_tinyllama_fits_with_the_micro_batch_that_it_had_and_not_with_twice_as_much():
    """16k tokens a GPU on A100-40GB, no checkpointing, fused cross-entropy, 16 GPUs (its README)."""
    fit, too_much = (
        cost.gpus_needed(
            PRESETS["tinyllama-1.1b"],
            sft(2048, micro_batch=rows, chunked_head=True),
            GPUS["a100-40"].memory,
        )
        for rows in (8, 16)
    )
    assert fit is not None and fit <= 16
    assert too_much is None


# ---------------------------------------------------------------- against published runs

LLAMA_65B = Shape(32_000, 8192, 22_016, 80, 64, 64, 128)
RUNS = {  # shape, length, tokens, GPU hours, GPU, and the utilisation that we say it had
    # Llama 2 model card (github.com/meta-llama/llama): 2 T tokens, A100-80GB, "Time (GPU hours)"
    "Llama 2 7B": (PRESETS["llama-2-7b"], 4096, 2e12, 184_320, "a100-80", 0.445),
    "Llama 2 13B": (PRESETS["llama-2-13b"], 4096, 2e12, 368_640, "a100-80", 0.421),
    "Llama 2 70B": (PRESETS["llama-2-70b"], 4096, 2e12, 1_720_320, "a100-80", 0.460),
    # Touvron et al. 2023 (arXiv:2302.13971), table 15: 1.4 T tokens, A100-80GB
    "LLaMA 65B": (LLAMA_65B, 2048, 1.4e12, 1_022_362, "a100-80", 0.495),
    # Llama 3 model card (github.com/meta-llama/llama3): "15T+" tokens, H100-80GB
    "Llama 3 70B": (PRESETS["llama-3-70b"], 8192, 15e12, 6.4e6, "h100", 0.317),
    # README of github.com/jzhang38/TinyLlama: 3,456 GPU hours for 300 B tokens
    "TinyLlama": (PRESETS["tinyllama-1.1b"], 2048, 300e9, 3456, "a100-40", 0.565),
    # torchtitan's table 1, a second on one GPU: 5,762 tokens; 6,667 compiled
    "torchtitan": (PRESETS["llama-3-8b"], 8192, 5762 * 3600, 1, "h100", 0.337),
    "torchtitan, compiled": (PRESETS["llama-3-8b"], 8192, 6667 * 3600, 1, "h100", 0.390),
    # Llama 3 model card: outside, see below
    "Llama 3 8B": (PRESETS["llama-3-8b"], 8192, 15e12, 1.3e6, "h100", 0.188),
}


def utilisation(name: str) -> float:
    shape, length, tokens, gpu_hours, gpu, _ = RUNS[name]
    return flops_per_token(shape, length) * tokens / (gpu_hours * 3600 * GPUS[gpu].flops)


@pytest.mark.parametrize("name", RUNS)
def test_published_gpu_hours_are_ours_at_a_plausible_utilisation(name):
    """All but one lie in the range that was fixed beforehand, so our hours are theirs within its width.

    Llama 3 8B took more than 1.5 times the hours that the range allows; the 70B of the same card,
    with the same tokens, does not. The card does not say what else its hours contain.
    """
    found, (low, high) = utilisation(name), PRETRAINING
    assert found == pytest.approx(RUNS[name][-1], abs=0.001)
    assert (low <= found <= high) == (name != "Llama 3 8B")


@pytest.mark.parametrize(
    ("name", "published"),
    [("TinyLlama", 0.56), ("torchtitan", 0.33), ("torchtitan, compiled", 0.39)],
)
def test_the_utilisation_that_a_run_reports_is_the_one_that_we_compute(name, published):
    """Same time, same GPU: this is a check of the operations alone, nothing is free in it."""
    assert utilisation(name) == pytest.approx(published, abs=0.01)


def test_llama_65b_takes_21_days():
    """Section 2.4 there: 380 tokens a second and GPU on 2,048 GPUs, "approximately 21 days"."""
    tokens = 1.4e12
    mfu = 380 * flops_per_token(LLAMA_65B, 2048) / GPUS["a100-80"].flops
    flops = tokens * flops_per_token(LLAMA_65B, 2048)
    assert cost.hours(flops, 2048, GPUS["a100-80"].flops, mfu) / 24 == pytest.approx(21, abs=0.2)
    assert PRETRAINING[0] < mfu < PRETRAINING[1]


@pytest.mark.parametrize(
    ("name", "pairs", "gpus", "took", "at_most"),
    [("llama-3-8b", 271_409, 8, 10, 0.251), ("llama-3-70b", 334_302, 64, 19, 0.183)],
)
def test_dpo_runs_lie_below_the_range_of_pretraining(name, pairs, gpus, took, at_most):
    """Tülu 3 (arXiv:2411.15124): 10 hours on 8 H100 for 8B, 19 hours on 64 for 70B; one epoch, 2,048 tokens.

    Lengths are not published; even with every sequence as long as was allowed, the utilisation is
    below the range, so that hours at 0.4 would be too few. Reference log-probabilities were stored.
    """
    plan = Plan("dpo", pairs, prompt=1024, chosen=1024, rejected=1024, reference="stored")
    flops = cost.training_flops(PRESETS[name], plan).model.total
    found = flops / (gpus * took * 3600 * GPUS["h100"].flops)
    assert found == pytest.approx(at_most, abs=0.001) and found < PRETRAINING[0]


def test_zephyrs_hours_are_ours_if_its_sequences_were_full():
    """Tunstall et al. 2023 (arXiv:2310.16944, section 4): 16 A100, bf16, "typically took 2-4 hours".

    Three epochs of 61,135 pairs with a live reference. Full sequences of 1,024 tokens take 2.1 to 4.1
    hours in the range, half as long ones 1.0 to 2.0: the run cannot tell a slow GPU from padding.
    """
    for tokens, expected in ((1024, (2.06, 4.11)), (512, (1.01, 2.02))):
        half = tokens // 2
        plan = Plan("dpo", 61_135, 3, prompt=half, chosen=half, rejected=half)
        flops = cost.training_flops(PRESETS["mistral-7b"], plan).model.total
        found = [cost.hours(flops, 16, GPUS["a100-80"].flops, mfu) for mfu in PRETRAINING[::-1]]
        assert found == pytest.approx(expected, abs=0.01)


# ---------------------------------------------------------------- what the options do


def test_a_shared_prompt_is_computed_once():
    """P + C + R tokens a pair instead of 2·P + C + R; each answer still sees prompt and itself."""
    twice = Plan(prompt=100, chosen=20, rejected=30)
    once = dataclasses.replace(twice, share_prompt=True)
    assert (twice.tokens, once.tokens) == (250, 150)
    assert twice.attended - once.attended == 100**2 + 100 * (20 + 30)


def test_a_stored_reference_is_computed_once_and_takes_no_memory():
    """With one epoch it saves memory alone; in the third it has saved two forward passes of three."""
    live, stored = (Plan(epochs=3, reference=kind) for kind in ("live", "stored"))
    shape = PRESETS["smollm2-135m"]
    passes = [cost.training_flops(shape, plan).reference.total for plan in (live, stored)]
    assert passes[0] == 3 * passes[1] == cost.training_flops(shape, live).forward.total
    held = [cost.memory(shape, plan, 1).reference for plan in (live, stored)]
    assert held == [2 * cost.parameters(shape), 0]


def test_with_lora_the_reference_is_the_policy_without_its_adapters():
    held = cost.memory(PRESETS["llama-3-8b"], Plan(lora_rank=8), 1)
    assert held.reference == 0 and held.moments == 8 * cost.lora_parameters(
        PRESETS["llama-3-8b"], 8
    )


@pytest.mark.parametrize("precision", cost.PRECISIONS)
@pytest.mark.parametrize("sharding", cost.SHARDINGS)
def test_the_fewest_gpus_hold_it_and_one_fewer_does_not(precision, sharding):
    """A search that stops one too late, or that promises what has no room."""
    shape, room = PRESETS["tinyllama-1.1b"], 12e9
    plan = Plan(precision=precision, sharding=sharding)
    least = cost.gpus_needed(shape, plan, room)
    for gpus in range(1, least or 50):
        assert cost.memory(shape, plan, gpus).total > room
    assert least is None or cost.memory(shape, plan, least).total <= room
    assert {"none": least is None, "zero3": least is not None}.get(sharding, True)


@pytest.mark.parametrize(
    ("less", "part"),
    [
        ({"checkpointing": True}, "activations"),
        ({"chunked_head": True}, "logits"),
        ({"precision": "bf16"}, "moments"),
        ({"lora_rank": 16}, "gradients"),
        ({"share_prompt": True}, "activations"),
    ],
)
def test_each_saving_saves_in_its_part(less, part):
    """An option that changes nothing."""
    plan = Plan(micro_batch=4, sharding="none")
    before, after = (
        cost.memory(PRESETS["llama-2-7b"], one, 1)
        for one in (plan, dataclasses.replace(plan, **less))
    )
    assert getattr(after, part) < getattr(before, part)


@pytest.mark.parametrize("name", ["method", "reference", "sharding", "precision"])
def test_a_plan_of_unknown_words_is_refused(name):
    with pytest.raises(ValueError, match=f"unknown {name} 'all'"):
        Plan(**{name: "all"})


# ---------------------------------------------------------------- the command


def config_of(**changes) -> dict:
    return {
        "model_type": "llama",
        "vocab_size": 100,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        **changes,
    }


def test_a_config_leaves_out_what_follows_from_the_rest():
    """Older files name neither the keys' heads nor the width of one."""
    assert cost.shape_from_config(config_of()) == Shape(100, 32, 64, 2, 4, 4, 8)
    given = config_of(num_key_value_heads=2, head_dim=16, tie_word_embeddings=True)
    assert cost.shape_from_config(given) == Shape(100, 32, 64, 2, 4, 2, 16, True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "gpt2"}, "model_type is 'gpt2'; accepted are llama, mistral"),
        ({"model_type": None}, "model_type is None"),
        ({"attention_bias": True}, "attention_bias is True"),
        ({"hidden_size": None}, "hidden_size is None"),
        ({"hidden_size": "wide"}, "hidden_size is 'wide'"),
        ({"vocab_size": -1}, "vocab_size is -1"),
        ({"num_attention_heads": 0}, "num_attention_heads is 0"),
        ({"num_attention_heads": 64}, "head_dim is 0"),
        ({"num_key_value_heads": 3}, "no multiple of the 3 key heads"),
    ],
)
def test_a_config_that_is_no_llamas_is_one_line(changes, message, tmp_path, capsys):
    """A file from the network, or of another model."""
    (tmp_path / "config.json").write_text(json.dumps(config_of(**changes)))
    assert main(["cost", str(tmp_path)]) == 2
    errors = capsys.readouterr().err
    assert message in errors and len(errors.splitlines()) == 1


def test_a_folder_and_a_preset_of_one_shape_cost_the_same(capsys, tmp_path, monkeypatch):
    """The shipped model has the book's shape; a folder of a preset's name is the preset, unless it has a config."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "book").mkdir()
    for name in ("gen", "book"):
        assert main(["cost", name, "--json"]) == 0
    reports = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert reports[0] == reports[1]
    (tmp_path / "book" / "config.json").write_text(json.dumps(config_of()))
    assert main(["cost", "book", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["shape"]["hidden_size"] == 32


def test_the_report_is_json_that_adds_up(capsys):
    """Scripts read it: one object; its hours are its operations by the peak that it names."""
    assert main("cost llama-3-8b --gpus 8 --checkpointing --mfu 0.5 --json".split()) == 0
    report = json.loads(capsys.readouterr().out)
    flops, held = report["flops"], report["memory"]
    passes = ("forward", "backward", "reference", "recomputation")
    assert flops["all"] == sum(sum(flops[name].values()) for name in passes)
    parts = [size for name, size in held.items() if name not in ("all", "largest")]
    assert held["all"] == pytest.approx(sum(parts)) and held[held["largest"]] == max(parts)
    assert report["hours"] == pytest.approx(
        flops["model"] / (8 * 0.5 * report["peak_flops"] * 3600)
    )
    assert report["fits"] and report["gpus_needed"] == 3


def test_the_table_is_in_units_that_people_use(capsys):
    assert main("cost llama-3-8b --lora-rank 16 --gpu rtx-4090 --checkpointing".split()) == 0
    printed = capsys.readouterr().out
    assert "8.03 G parameters, 41.9 M of them trained" in printed
    assert "the largest part is weights: 87% of it" in printed
    assert "at least 1, with 21.6 GB each to fill" in printed
    assert max(map(len, printed.splitlines())) <= 110


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--sharding none", "does not fit: with sharding none, no number of GPUs"),
        ("--gpus 2", "does not fit on 2"),
        ("--micro-batch 1000", "does not fit: with sharding zero3, no number of GPUs"),
    ],
)
def test_what_does_not_fit_is_said_and_takes_no_time(arguments, said, capsys):
    """Hours of a run that cannot begin."""
    assert main(f"cost llama-3-8b {arguments}".split()) == 0
    printed = capsys.readouterr().out
    assert said in printed and "time  " not in printed


def test_a_gpu_by_numbers_is_that_gpu(capsys):
    """fp32 runs in TF32, at half the rate."""
    for arguments in ("--gpu a100-40", "--gpu-tflops 312 --gpu-memory 40"):
        assert main(f"cost tinyllama-1.1b {arguments} --precision fp32 --json".split()) == 0
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert first == second and first["peak_flops"] == 156e12
