"""Say what SFT or DPO of a real model costs, before it is run.

dpo-core cost llama-3-8b --examples 60000 --prompt 200 --chosen 300 --rejected 300
dpo-core cost llama-3-8b --lora-rank 16 --sharding none --gpu rtx-4090 --checkpointing
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dpo_core import cost
from dpo_core.checkpoint import CONFIG, CheckpointError, model_folder
from dpo_core.commands.options import Options, count, option, refuse_changed
from dpo_core.cost import GPUS, PRECISIONS, PRESETS, SHARDINGS, Gpu, Plan, Shape
from dpo_core.storage import read_json

NO_EFFECT = {"sft": ("rejected", "reference", "share_prompt"), "dpo": ()}
PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z", "Y")


@dataclass(frozen=True)
class Cost(Options):
    """Say what SFT or DPO of a real model costs: operations, memory, GPUs, hours."""

    model: str = option(
        "", f"one of {', '.join(PRESETS)}; or a folder with a config.json", positional=True
    )
    method: str = option("dpo", "sft or dpo", choices=cost.METHODS)
    examples: int = count(60_000, "examples (sft) or pairs (dpo)", high=10**13)
    epochs: int = count(1, "passes over the data", high=1000)
    prompt: int = count(256, "tokens of a prompt, padding included", low=0)
    chosen: int = count(256, "tokens of a chosen answer, of the only one in sft")
    rejected: int = count(256, "tokens of a rejected answer")
    share_prompt: bool = option(False, "compute a pair's prompt once, not once for each answer")
    reference: str = option(
        "live",
        "live (in memory, computed in every epoch) or stored (computed once, before training)",
        choices=("live", "stored"),
    )
    lora_rank: int = count(0, "of adapters on all seven matrices of a layer; 0: none", low=0)
    precision: str = option(
        "bf16-mixed",
        "bf16-mixed (master weights and moments in fp32), bf16 or fp32",
        choices=tuple(PRECISIONS),
    )
    sharding: str = option(
        "zero3",
        "what the GPUs share out: none, zero1 (AdamW's state), zero2 (gradients too) or zero3 "
        "(weights too; FSDP)",
        choices=SHARDINGS,
    )
    micro_batch: int = count(1, "examples or pairs that a GPU computes at once")
    checkpointing: bool = option(False, "compute each layer a second time, keep its input only")
    attention: str = option(
        "fused", "fused (no T by T matrix is kept) or plain", choices=("fused", "plain")
    )
    chunked_head: bool = option(False, f"logits of at most {cost.CHUNK} positions at once")
    gpu: str = option("h100", ", ".join(GPUS), choices=tuple(GPUS))
    gpu_tflops: float = option(
        0.0, "dense bf16 TFLOP/s of another GPU; 0: as --gpu", low=0, high=1e6
    )
    gpu_memory: float = option(0.0, "GB of another GPU; 0: as --gpu", low=0, high=1e6)
    gpus: int = count(0, "GPUs; 0: as few as hold it", low=0, high=cost.MOST_GPUS)
    usable: float = option(0.9, "share of a GPU's memory that is ours to fill", above=0, high=1)
    mfu: float = option(
        0.4,
        "share of the peak that goes into the model's operations; pretraining reports 0.3 to 0.6, "
        "DPO less",
        low=0.001,
        high=1,
    )
    json: bool = option(False, "print one JSON object")


def run(options: Cost) -> None:
    """Run `dpo-core cost`.

    Raises:
        ValueError: bad input.
    """
    refuse_changed(options, NO_EFFECT[options.method], f"method {options.method}")
    for name in ("gpu_tflops", "gpu_memory"):
        if 0 < getattr(options, name) < 0.001:
            raise ValueError(f"{name} is {getattr(options, name)}; accepted are 0 or from 0.001")
    report = estimate(options, find_shape(options.model))
    if options.json:
        print(json.dumps(report, allow_nan=False))
    else:
        print("\n".join(lines(options, report)))


def find_shape(name: str) -> Shape:
    """The shape of a preset, or of the model in a folder. A model folder of a preset's name wins.

    Raises:
        ValueError: neither, or a config.json that is no Llama's.
    """
    if name in PRESETS and not (Path(name) / CONFIG).exists():
        return PRESETS[name]
    folder = model_folder(name)
    if not name or not folder.is_dir():
        raise CheckpointError(
            f"no model {name!r:.60}; accepted are a folder or one of {', '.join(PRESETS)}"
        )
    path = folder / CONFIG
    if not path.is_file():
        raise CheckpointError(f"{folder} has no {CONFIG}")
    try:
        return cost.shape_from_config(read_json(path))
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from None


def plan_of(options: Cost) -> Plan:
    """The plan that the options describe."""
    return Plan(
        method=options.method,
        examples=options.examples,
        epochs=options.epochs,
        prompt=options.prompt,
        chosen=options.chosen,
        rejected=options.rejected,
        reference=options.reference if options.method == "dpo" else "none",
        share_prompt=options.share_prompt,
        lora_rank=options.lora_rank,
        precision=options.precision,
        sharding=options.sharding,
        checkpointing=options.checkpointing,
        fused_attention=options.attention == "fused",
        chunked_head=options.chunked_head,
        micro_batch=options.micro_batch,
    )


def estimate(options: Cost, shape: Shape) -> dict[str, Any]:
    """Everything that the command knows, as JSON can hold it."""
    plan = plan_of(options)
    named = GPUS[options.gpu]
    gpu = Gpu(options.gpu_tflops * 1e12 or named.flops, options.gpu_memory * 1e9 or named.memory)
    room, peak = gpu.memory * options.usable, cost.peak_flops(gpu, plan.precision)
    work = cost.training_flops(shape, plan)
    least = cost.gpus_needed(shape, plan, room)
    most = 1 if plan.sharding == "none" else cost.MOST_GPUS
    gpus = options.gpus or least or most
    held = cost.memory(shape, plan, gpus)
    fits = held.total <= room
    busy = work.model.total + work.recomputation.total
    utilisation = options.mfu * busy / work.model.total
    if utilisation > 1:
        highest = work.model.total / busy
        raise ValueError(
            f"mfu is {options.mfu}; with what is recomputed, accepted are at most {highest:.2f}"
        )
    hours = cost.hours(work.model.total, gpus, peak, options.mfu)
    adapters = cost.lora_parameters(shape, plan.lora_rank)
    return {
        "shape": asdict(shape),
        "plan": asdict(plan),
        "parameters": cost.parameters(shape),
        "trained_parameters": adapters or cost.parameters(shape),
        "tokens": plan.tokens * plan.examples * plan.epochs,
        "flops": asdict(work) | {"model": work.model.total, "all": busy},
        "memory": asdict(held) | {"all": held.total, "largest": held.largest},
        "room": room,
        "gpus_needed": least,
        "gpus": gpus,
        "fits": fits,
        "peak_flops": peak,
        "hours": hours if fits else None,
        "gpu_hours": hours * gpus if fits else None,
        "hardware_utilisation": utilisation,
    }


def lines(options: Cost, report: dict[str, Any]) -> list[str]:
    """The report for people."""
    what = {"sft": "examples", "dpo": "pairs"}[options.method]
    passes = "" if options.epochs == 1 else f" x {options.epochs} epochs"
    return [
        f"{'model':15}{options.model}, {human(report['parameters'])} parameters, "
        f"{human(report['trained_parameters'])} of them trained",
        f"{'data':15}{options.examples:,} {what}{passes}, {human(report['tokens'])} tokens",
        "",
        *flops_table(report["flops"]),
        "",
        *memory_table(report),
        "",
        *verdict(options, report),
    ]


def flops_table(flops: dict[str, Any]) -> list[str]:
    """Operations by pass, and the sum."""
    rows = [("FLOP", "matrices", "attention", "all")]
    for name, kinds in flops.items():
        if isinstance(kinds, dict) and kinds["matrices"]:
            numbers = kinds["matrices"], kinds["attention"], sum(kinds.values())
            rows.append((name, *(human(number) for number in numbers)))
    rows.append(("all", "", "", human(flops["all"])))
    return [f"{name:15}{one:>10}{two:>11}{all_:>10}" for name, one, two, all_ in rows]


def memory_table(report: dict[str, Any]) -> list[str]:
    """Memory by part, the sum, and the sentence which part is the largest."""
    held, everything = report["memory"], report["memory"]["all"]
    parts = {name: size for name, size in held.items() if name not in ("all", "largest") and size}
    rows = [
        f"{name:15}{human(size, 'B'):>10}{size / everything:>7.0%}" for name, size in parts.items()
    ]
    largest = held["largest"]
    return [
        f"memory of each of {report['gpus']:,} GPUs",
        *rows,
        f"{'all':15}{human(everything, 'B'):>10}",
        f"the largest part is {largest}: {parts[largest] / everything:.0%} of it",
    ]


def verdict(options: Cost, report: dict[str, Any]) -> list[str]:
    """How many GPUs, and how long."""
    room, least, gpus = human(report["room"], "B"), report["gpus_needed"], report["gpus"]
    if least is None:
        return [
            f"does not fit: with sharding {options.sharding}, no number of GPUs with {room} each "
            "has room for it"
        ]
    found = f"{'GPUs':15}at least {least:,}, with {room} each to fill"
    if not report["fits"]:
        return [found, f"does not fit on {gpus:,}"]
    speed = human(report["peak_flops"], "FLOP/s")
    busy = f" ({report['hardware_utilisation']:.0%} with what is recomputed)"
    span, sum_of_all = in_words(report["hours"]), f"{report['gpu_hours']:,.3g} GPU hours"
    return [
        found,
        f"{'time':15}{span} on {gpus:,}, {sum_of_all}, at {options.mfu:.0%} of {speed}"
        + busy * options.checkpointing,
    ]


def human(number: float, unit: str = "") -> str:
    """A number with three digits and the prefix of its thousands: 1.23 G."""
    power = 0
    while number >= 999.5 and power < len(PREFIXES) - 1:
        number, power = number / 1000, power + 1
    digits = 0 if number >= 99.95 or not power else 1 if number >= 9.995 else 2
    return f"{number:,.{digits}f} {PREFIXES[power]}{unit}".rstrip()


def in_words(hours: float) -> str:
    """A time in the unit that a reader would use."""
    units = {"years": 365.25 * 24, "days": 24, "hours": 1, "minutes": 1 / 60, "seconds": 1 / 3600}
    unit = next((unit for unit, length in units.items() if hours >= 2 * length), "seconds")
    return f"{hours / units[unit]:,.1f} {unit}"
