"""How a command declares its options, and the checks that commands share.

An option is a field of a frozen dataclass, the only source of what the parser accepts, what the
help says and what a checkpoint records.
"""

import dataclasses
import os
from pathlib import Path
from typing import Any

import torch

from dpo_core.training import default_device


def option(default: Any, help: str, **rest: Any) -> Any:
    """A field of an options dataclass with its help text; `rest` goes to argparse."""
    make = (
        {"default_factory": lambda: default} if isinstance(default, list) else {"default": default}
    )
    return dataclasses.field(**make, metadata={"help": help, **rest})


def refuse_changed(options: Any, names: tuple[str, ...], cause: str) -> None:
    """An option that has no effect is an error.

    Raises:
        ValueError: one of the named options is not at its default.
    """
    for name in names:
        if getattr(options, name) != getattr(type(options)(), name):
            raise ValueError(f"{name} has no effect on {cause}")


def check_file_place(path: Path) -> None:
    """See, before a long run, that a file can be written there.

    Raises:
        ValueError: it cannot, or something else than a file is in its place.
    """
    if not path.name or path.is_dir():
        raise ValueError(f"output is {str(path)!r}; accepted is the name of a file")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise ValueError(f"cannot write {path}: {path.parent} is no folder that can be written")


def pick_device(name: str) -> torch.device:
    """`auto`, `cpu`, `cuda` or `cuda:N` as a torch device.

    Raises:
        ValueError: another name, or CUDA where this torch sees none.
    """
    if name == "auto":
        return default_device()
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"unknown device {name!r}; accepted are auto, cpu, cuda, cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device {name!r} is not there: torch sees {torch.cuda.device_count()} GPUs; "
            "accepted is cpu"
        )
    return device
