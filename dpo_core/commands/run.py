"""What every training command shares: its checks before anything is written, the run, the folder.

It knows no single command.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dpo_core import checkpoint
from dpo_core.commands.options import COMPILE
from dpo_core.lora import merge_adapters
from dpo_core.model import Llama, ModelConfig
from dpo_core.progress import say
from dpo_core.reward import policy_of
from dpo_core.storage import Workshop, workshop
from dpo_core.threads import use_threads
from dpo_core.tokenizer import Tokenizer
from dpo_core.training import BatchAt, LoopConfig, LossStep, metrics_text, train

# what does not shape the result, or has its place in the run's state
NOT_RECORDED = ("output", "device", "resume", "save_every", "threads", "compile")


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
            resumed.
    """
    loop_config(options)
    output = Path(os.path.realpath(options.output))
    for source in sources:
        if Path(os.path.realpath(source)) == output:
            raise ValueError(f"output is {options.output}, from which the run starts; name another")
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
) -> None:
    """Train, then write the model with its recipe and metrics; the run's state goes last. Adapters
    are merged.

    `recipe` is what else shapes the result, such as the reference: a run with another one is not
    resumed. A kill at any moment before the state is gone leaves a run that `--resume` finishes.
    """
    record = {name: value for name, value in asdict(options).items() if name not in NOT_RECORDED}
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
    )
    last = {name: value for name, value in history[-1].items() if name != "seconds"}
    recipe = {**record, **recipe, "torch": str(torch.__version__), "last": last}
    policy = merge_adapters(policy_of(model))
    # a run is long: who knows what came here
    checkpoint.check_place(place.place, policy.config, tokenizer)
    checkpoint.publish_model(place, policy, recipe, metrics_text(history).encode(), tokenizer)
    place.remove(place.state)
    say(f"wrote {options.output}")


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
