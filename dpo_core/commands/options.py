"""How a command declares its options, and the checks that commands share.

An option is a field of a frozen dataclass, the only source of what the parser accepts, what the
help says and what a checkpoint records. Its range stands in the declaration and is checked when the
dataclass is made, so a command never sees an option that is out of it.
"""

import dataclasses
import math
from typing import Any
from unicodedata import category

import torch

from dpo_core.optim import OPTIMIZERS
from dpo_core.parallel import SHARDINGS
from dpo_core.preferences import LABELS
from dpo_core.theory import REWARDS
from dpo_core.training import default_device

NOT_SHOWN = ("Cc", "Cs", "Zl", "Zp")  # control characters, surrogates, ends of lines
COMPILE = {"auto": None, "yes": True, "no": False}
MANY = 10_000_000  # steps; a bound for what is counted, so that a slip of the finger has a name


def option(
    default: Any,
    help: str,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    above: float = -math.inf,
    below: float = math.inf,
    choices: tuple[str, ...] = (),
    positional: bool = False,
) -> Any:
    """A field of an options dataclass.

    Args:
        low, high: the smallest and the largest number accepted.
        above, below: the same where the end itself is not accepted.
        choices: the words accepted, if not any text.
        positional: given by its place on the command line, not by its name.
    """
    made = (
        {"default_factory": lambda: default} if isinstance(default, list) else {"default": default}
    )
    rules = {"low": low, "high": high, "above": above, "below": below, "choices": choices}
    return dataclasses.field(**made, metadata={"help": help, "positional": positional, **rules})


def count(default: int, help: str, low: int = 1, high: int = MANY) -> Any:
    """An option that counts something."""
    return option(default, help, low=low, high=high)


def seed(of: str) -> Any:
    """The option `seed`; torch's generator for the CPU tells only 32 bits apart."""
    return option(0, of, low=0, high=2**32 - 1)


def device() -> Any:
    """The option `device`."""
    return option("auto", "auto (CUDA when it is there), cpu or cuda")


def threads() -> Any:
    """The option `threads`."""
    return option(
        0, "threads to compute with; 0 takes the cores that are idle at the start", low=0, high=256
    )


def compile_layers() -> Any:
    """The option `compile` of a training."""
    return option(
        "auto",
        "compile the layers: auto (where the run is long enough to end sooner), yes or no",
        choices=tuple(COMPILE),
    )


def sharding() -> Any:
    """The option `sharding` of a training."""
    return option(
        None,
        "of a run under torchrun: ddp (each process holds the whole model; the default there) or "
        "fsdp (each holds a part)",
        choices=SHARDINGS,
    )


def reward() -> Any:
    """The option `reward`."""
    return option(
        "style+exact",
        "what the judge likes: style (three numbers), exact, or style+exact",
        choices=REWARDS,
    )


def labels() -> Any:
    """The option `labels` of pairs."""
    return option(
        "soft",
        "soft (Bradley-Terry probabilities), sampled (draws from them) or deterministic",
        choices=LABELS,
    )


def pair_temperatures() -> Any:
    """The option `pair_temperatures`."""
    text = "of the pairs' second answers, in turn; first ones: 1"
    return option((1.5, 2.0), text, low=0, high=1000)


def optimizer() -> Any:
    """The option `optimizer` of a training."""
    return option("muon", "muon or adamw", choices=OPTIMIZERS)


def resume() -> Any:
    """The option `resume` of a training."""
    return option(False, "continue the run whose state is in OUTPUT.partial")


class Options:
    """The base of every command's options."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            check(field.name, getattr(self, field.name), field.metadata)


def check(name: str, value: Any, rules: Any) -> None:
    """Hold the value of an option against its declaration.

    Raises:
        ValueError: it is out of its range, no number, none of the accepted words, or a text that
            cannot be written down in one line.
    """
    if isinstance(value, list | tuple):
        for one in value:
            check(name, one, rules)
    elif isinstance(value, str):
        if rules["choices"] and value not in rules["choices"]:
            accepted = ", ".join(rules["choices"])
            raise ValueError(f"unknown {name} {value!r:.60}; accepted are {accepted}")
        if any(category(character) in NOT_SHOWN for character in value):
            raise ValueError(f"{name} is {value!r:.60}; accepted is one line of text in UTF-8")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        low, high, above, below = (rules[end] for end in ("low", "high", "above", "below"))
        if not (low <= value <= high and above < value < below and abs(value) < math.inf):
            raise ValueError(f"{name} is {value}; accepted are {in_words(value, rules)}")


def in_words(value: float, rules: Any) -> str:
    """The range of an option as a message says it."""
    kind = "whole numbers" if isinstance(value, int) else "finite numbers"
    words = {"low": "from", "above": "above", "high": "to", "below": "below"}
    ends = [
        f"{word} {int(rules[end]) if rules[end] == int(rules[end]) else rules[end]}"
        for end, word in words.items()
        if abs(rules[end]) < math.inf
    ]
    return " ".join([kind, *ends])


def refuse_changed(options: Any, names: tuple[str, ...], cause: str) -> None:
    """An option that has no effect is an error.

    Raises:
        ValueError: one of the named options is not at its default.
    """
    for name in names:
        if getattr(options, name) != getattr(type(options)(), name):
            raise ValueError(f"{name} has no effect on {cause}")


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
    if device.type not in ("cpu", "cuda") or (device.type == "cpu" and device.index):
        raise ValueError(f"unknown device {name!r:.60}; accepted are auto, cpu, cuda, cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device {name!r} is not there: torch sees {torch.cuda.device_count()} GPUs; "
            "accepted is cpu"
        )
    return device
