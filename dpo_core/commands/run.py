"""What every training command shares: its checks before anything is written, the run, the folder.

It knows no single command.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dpo_core import checkpoint, parallel
from dpo_core.commands.options import COMPILE
from dpo_core.lora import merge_adapters
from dpo_core.model import Llama, ModelConfig
from dpo_core.pairs import LOGPS, TEXTS, Pairs
from dpo_core.progress import say
from dpo_core.reward import policy_of
from dpo_core.storage import STATE, Workshop, workshop
from dpo_core.threads import use_threads
from dpo_core.tokenizer import Tokenizer
from dpo_core.training import BatchAt, LoopConfig, LossStep, metrics_text, train

# what does not shape the result, or has its place in the run's state
NOT_RECORDED = ("output", "device", "resume", "save_every", "threads", "compile", "sharding")


@contextmanager
def training_place(
    options: Any, config: ModelConfig, *sources: Path, tokenizer: Tokenizer | None = None
) -> Iterator[Workshop]:
    """The locked workshop of a run, once everything is seen to be fit for it; nothing is written
    yet.

    Args:
        config: the shape of the model that will be written.
        sources: folders that the run reads, which it may not write over.
        tokenizer: of a real model, written beside it.

    Raises:
        ValueError: a number out of its range; a place that cannot be written, holds something that
            is not ours, or is in use; a run that was interrupted there, or none where one is to be
            resumed; options that do not go with the number of processes.
    """
    loop_config(options)
    check_processes(options)
    output = Path(os.path.realpath(options.output))
    for source in sources:
        if Path(os.path.realpath(source)) == output:
            raise ValueError(f"output is {options.output}, from which the run starts; name another")
    folder = output.with_name(output.name + ".partial")
    parallel.kept(folder / STATE)
    if parallel.rank():  # the first process looks, and writes
        parallel.from_first(lambda: None)
        use_threads(options.threads)
        yield Workshop(output, folder)
        return
    with ExitStack() as stack:
        found: list[Workshop] = []
        enter = partial(stack.enter_context, _checked_place(options, config, tokenizer))
        parallel.from_first(lambda: found.append(enter()))  # a fault ends the others, too
        yield found[0]


@contextmanager
def _checked_place(
    options: Any, config: ModelConfig, tokenizer: Tokenizer | None
) -> Iterator[Workshop]:
    with workshop(options.output) as place:
        if place.state.exists() and not options.resume:
            raise ValueError(
                f"{place.folder} holds an interrupted run; continue it with --resume, "
                "or remove the folder"
            )
        if options.resume and not place.state.exists():
            raise ValueError(f"nothing to resume: there is no run state in {place.folder}")
        checkpoint.check_place(place.place, config, tokenizer)
        use_threads(options.threads)
        yield place


def run_training(
    options: Any,
    model: nn.Module,
    batch_at: BatchAt,
    loss_step: LossStep,
    recipe: dict[str, Any],
    place: Workshop,
    tokenizer: Tokenizer | None = None,
    drawing: bool = False,
) -> None:
    """Train, then write the model with its recipe and metrics; the run's state goes last. Adapters
    are merged.

    `recipe` is what else shapes the result, such as the reference: a run with another one is not
    resumed. A kill at any moment before the state is gone leaves a run that `--resume` finishes.

    Args:
        drawing: whether `batch_at` reads `model`, as rollouts do.
    """
    record = {name: value for name, value in asdict(options).items() if name not in NOT_RECORDED}
    source = {"reference": recipe.get("reference", {}).get("fingerprint")}  # not where it lies
    parallel.same_everywhere("what a run starts from", {**recipe, **source})
    history = train(
        model,
        batch_at,
        loss_step,
        loop_config(options),
        place=place,
        record={**record, **recipe},
        resume=options.resume,
        threads=options.threads,
        compile=COMPILE[getattr(options, "compile", "no")],  # rollouts have too many shapes
        sharding=(options.sharding or parallel.SHARDINGS[0]) if parallel.joined() else None,
        drawing=drawing,
    )
    last = {name: value for name, value in history[-1].items() if name != "seconds"}
    recipe = {**record, **recipe, "torch": str(torch.__version__), "last": last}
    policy = merge_adapters(policy_of(model))

    def publish() -> None:
        # a run is long: who knows what came here
        checkpoint.check_place(place.place, policy.config, tokenizer)
        metrics = metrics_text(history).encode()
        checkpoint.publish_model(place, policy, recipe, metrics, tokenizer)
        place.remove(place.state)

    parallel.from_first(publish)
    say(f"wrote {options.output}")


def check_processes(options: Any) -> None:
    """Hold the options against the number of processes.

    Raises:
        ValueError: a sharding and no processes, fewer rows than processes, or an option that
            several processes do not have.
    """
    if not parallel.joined():
        if options.sharding:
            raise ValueError(
                "sharding has no effect on one process; start several with torchrun "
                "--nproc-per-node N -m dpo_core"
            )
        return
    count = parallel.ranks()
    name, rows = "batch_size", getattr(options, "batch_size", None)
    if rows is None:
        name = "prompts times answers, over minibatches,"
        rows = options.prompts * options.answers // options.minibatches
    if rows < count:
        raise ValueError(
            f"{name} is {rows}; accepted with {count} processes are whole numbers from {count}"
        )
    if getattr(options, "compile", "no") == "yes" and count > 1:
        raise ValueError("compile yes has no effect on several processes; accepted are auto and no")
    if options.device.startswith("cuda:") and count > 1:
        raise ValueError(
            f"device is {options.device}; accepted with {count} processes are auto, cpu and cuda, "
            "of which each process takes one"
        )
    names = set(vars(options)) - {"output", "threads"}
    parallel.same_everywhere("the options", {name: vars(options)[name] for name in names})


def pairs_of_first(make: Callable[[], Pairs], tokenizer: Tokenizer) -> Pairs:
    """The pairs that the first process makes or reads, in all of them: one writer, one set of
    scores.
    """
    if not parallel.joined():
        return make()
    columns = (*TEXTS, "preference_prob", *LOGPS)

    def made() -> dict[str, list]:
        pairs = make()
        return {name: getattr(pairs, name) for name in columns}

    return Pairs(**parallel.from_first(made)).read_by(tokenizer)


def loop_config(options: Any) -> LoopConfig:
    """The part of the options that the training loop takes.

    Raises:
        ValueError: numbers that do not go together.
    """
    names = [field.name for field in fields(LoopConfig) if hasattr(options, field.name)]
    return LoopConfig(**{name: getattr(options, name) for name in names})


def find_start(model: str) -> tuple[str, Path]:
    """The model that a training starts from, as it is recorded, and its folder.

    A name or a folder; where none is given ./gen.model, else the shipped gen.
    """
    start = model or ("gen.model" if os.path.lexists("gen.model") else "gen")
    folder = checkpoint.model_folder(start)
    shipped = start in checkpoint.SHIPPED and folder != Path(start)
    say(f"starting from {'the shipped ' if shipped else ''}{start}")
    return start, folder


def reference_record(folder: Path, reference: Llama, output: str) -> dict[str, Any]:
    """How a recipe names the reference.

    The path is relative, so that model and reference may move together; on another drive, absolute.
    """
    beside = Path(os.path.realpath(output)).parent
    try:
        recorded = os.path.relpath(os.path.realpath(folder), beside)
    except ValueError:  # Windows: no relative path leads to another drive
        recorded = os.path.realpath(folder)
    return {"reference": {"folder": recorded, "fingerprint": checkpoint.fingerprint(reference)}}
