"""When the layers are compiled, and that nobody fails for want of a compiler (chapter 13).

`torch.compile` writes C++ (on CUDA, Triton) for the layers and their gradient: one loop where there
were several, and no intermediate results in memory. It takes ten to thirty seconds for each width
of a row, so a short run is over sooner without it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import nn

from dpo_core.model import Backbone
from dpo_core.progress import say

# Multiplications of a weight and a token from which compiling pays. The book's base model has
# 1.9e12: compiling its widths takes 4 to 8 s and saves some 40 s on one thread, 30 s on two. Its
# DPO run is a seventh of that and has more widths: 20 to 40 s for less than 10 s.
WORTH = 1.5e12


def worth_compiling(model: nn.Module, tokens: float) -> bool:
    """Whether a training that reads so many tokens ends sooner with compiled layers."""
    inside = sum(
        parameter.numel()
        for backbone in backbones(model)
        for parameter in backbone.layers.parameters()
        if parameter.dim() == 2
    )
    return inside * tokens >= WORTH


def backbones(model: nn.Module) -> list[Backbone]:
    """The layers of each language model inside a model."""
    return [module for module in model.modules() if isinstance(module, Backbone)]


@contextmanager
def compiled(model: nn.Module, wanted: bool = True) -> Iterator[bool]:
    """Compile the layers of a model for as long as the context lasts.

    Yields:
        True if they are; False if that is not wanted, or there is no compiler, which is said once.
    """
    on = wanted and can_compile(next(model.parameters()).device.type)
    parts = [part for part in backbones(model) if on and not part.compiled]
    _set(parts, on)
    try:
        yield on
    finally:
        _set(parts, False)


def follow(model: nn.Module, other: nn.Module) -> None:
    """Have the layers of a model compiled exactly while those of another are."""
    on = all(part.compiled for part in backbones(other))
    _set([part for part in backbones(model) if part.compiled != on], on)


def _set(parts: list[Backbone], on: bool) -> None:
    for part in parts:  # all sizes are fixed but the number of tokens, which `Backbone` marks
        part.program = torch.compile(part.stream, dynamic=False) if on else None


@cache
def can_compile(device: str) -> bool:
    """Whether this machine compiles: tried once, with two operations and their gradient."""
    # in this process: on two cores a pool of workers costs more memory and processes than it saves
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    try:
        x = torch.ones(2, device=device, requires_grad=True)
        torch.compile(lambda x: x.exp() * 2)(x).sum().backward()
    except Exception as error:  # whatever is missing, the run goes on without it
        reason = (str(error) or type(error).__name__).strip().splitlines()[0]
        say(f"going on without a compiler: {reason:.200}")
        return False
    return True
