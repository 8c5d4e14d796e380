"""What every training command shares: its checks before anything is written, the run, the folder.

It knows no single command.
"""

import os
import shutil
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dpo_core import checkpoint
from dpo_core.model import Llama
from dpo_core.reward import policy_of
from dpo_core.task import stream
from dpo_core.training import BatchAt, LoopConfig, LossStep, train

NOT_RECORDED = ("output", "device", "resume", "save_every")  # they do not shape the result


def run_training(
    options: Any,
    model: nn.Module,
    batch_at: BatchAt,
    loss_step: LossStep,
    recipe: dict[str, Any],
) -> None:
    """Train, then write the model folder with its recipe; the run state goes when the folder is
    there.

    `recipe` is what else shapes the result, such as the reference: a run with another one is not
    resumed.
    """
    output = Path(options.output)
    partial = partial_folder(output)
    record = {name: value for name, value in asdict(options).items() if name not in NOT_RECORDED}
    metrics = output.with_name(output.name + ".metrics.jsonl")
    history = train(
        model,
        batch_at,
        loss_step,
        loop_config(options),
        state_folder=partial,
        record={**record, **recipe},
        resume=options.resume,
        metrics_file=metrics,
    )
    recipe = {**record, **recipe, "torch": torch.__version__, "last": history[-1]}
    checkpoint.save_model(policy_of(model), output, recipe)
    shutil.rmtree(partial, ignore_errors=True)
    print(f"wrote {output}")


def partial_folder(output: Path) -> Path:
    """Where the state of an unfinished run is kept."""
    return output.with_name(output.name + ".partial")


def check_run(options: Any) -> None:
    """Find what is wrong with a run's options while nothing has been written.

    Raises:
        ValueError: a number out of its range, a place that cannot be written, an interrupted run in
            the way.
    """
    loop_config(options)
    stream("check", options.seed)
    if not Path(options.output).name:
        raise ValueError(f"output is {options.output!r}; accepted is the name of a folder")
    partial = partial_folder(Path(options.output))
    if partial.exists() and not options.resume:
        raise ValueError(
            f"{partial} holds an interrupted run; continue it with --resume, or remove the folder"
        )
    if options.resume and not partial.exists():
        raise ValueError(f"nothing to resume: there is no {partial}")
    checkpoint.check_place(options.output)


def loop_config(options: Any) -> LoopConfig:
    """The part of the options that the training loop takes.

    Raises:
        ValueError: a number out of its range.
    """
    if getattr(options, "batch_size", 1) < 1:
        raise ValueError(f"batch_size is {options.batch_size}; accepted are whole numbers from 1")
    names = [field.name for field in fields(LoopConfig) if hasattr(options, field.name)]
    return LoopConfig(**{name: getattr(options, name) for name in names})


def find_start(model: str) -> tuple[str, Path]:
    """The model that a training starts from, as it is recorded, and its folder.

    A name or a folder; where none is given ./gen.model, else the shipped gen.
    """
    start = model or ("gen.model" if Path("gen.model").is_dir() else "gen")
    folder = checkpoint.model_folder(start)
    print(
        "starting from "
        f"{'the shipped ' if start in checkpoint.SHIPPED and folder != Path(start) else ''}{start}"
    )
    return start, folder


def reference_record(folder: Path, reference: Llama, output: str) -> dict[str, Any]:
    """How a recipe names the reference; the path is relative, so that model and reference may move
    together.
    """
    beside = Path(output).absolute().parent
    recorded = os.path.relpath(folder.absolute(), beside)
    return {"reference": {"folder": recorded, "fingerprint": checkpoint.fingerprint(reference)}}
