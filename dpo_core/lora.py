"""Low-rank adapters (chapter 14): train a few numbers of a large model, and merge them afterwards.

A matrix W of a layer becomes W + (alpha/r)·B·A, and only A and B are trained (Hu et al. 2021,
section 4.1). B begins at zero, so the model begins as it was. The sum is computed where the weight
is read: the model's own code does not know of it, and a merged model computes the same numbers.

Shapes: O rows and I columns of a matrix, r the rank.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from dpo_core.model import Llama
from dpo_core.randomness import torch_generator

# all seven matrices of a layer
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class Adapter(nn.Module):
    """W -> W + (alpha/r)·B·A, with A (r, I) drawn at random and B (O, r) zero at first."""

    def __init__(self, weight: Tensor, rank: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__()
        rows, columns = weight.shape
        bound = 1 / math.sqrt(columns)  # as a linear layer of torch begins, and LoRA's own code
        first = (torch.rand((rank, columns), generator=generator) * 2 - 1) * bound
        self.A = nn.Parameter(first.to(weight))
        self.B = nn.Parameter(weight.new_zeros(rows, rank))
        self.scale = alpha / rank
        self.on = True

    def forward(self, weight: Tensor) -> Tensor:
        """(O, I) from (O, I)."""
        return torch.addmm(weight, self.B, self.A, alpha=self.scale) if self.on else weight


def add_adapters(
    model: Llama, rank: int, alpha: float | None = None, seed: int = 0, targets: tuple = TARGETS
) -> Llama:
    """Give the layers' matrices adapters, and let nothing else be trained; the model itself.

    Args:
        rank: r; at most the smaller side of every matrix.
        alpha: None takes 2·rank, a usual choice.
        seed: of the random A.
        targets: the names of the matrices that get one.

    Raises:
        ValueError: a rank out of its range, an alpha that is not above 0, a target that is no
            matrix of a layer, or a model that has adapters already.
    """
    alpha = 2.0 * rank if alpha is None else alpha
    if unknown := [name for name in targets if name not in TARGETS] or not targets:
        raise ValueError(f"unknown targets {unknown!r:.60}; accepted are {', '.join(TARGETS)}")
    found = [module for name, module in model.named_modules() if name.rpartition(".")[2] in targets]
    largest = min(min(module.weight.shape) for module in found)
    if not 1 <= rank <= largest:
        raise ValueError(f"rank is {rank}; accepted are whole numbers from 1 to {largest}")
    if not 0 < alpha < math.inf:
        raise ValueError(f"alpha is {alpha}; accepted are finite numbers above 0")
    if adapters(model):
        raise ValueError("the model has adapters already; merge them first")
    model.requires_grad_(False)
    generator = torch_generator(seed)
    for module in found:
        adapter = Adapter(module.weight, rank, alpha, generator)
        # unsafe: what it is given is what it gives back, in shape and kind
        parametrize.register_parametrization(module, "weight", adapter, unsafe=True)
    return model


def adapters(model: nn.Module) -> list[Adapter]:
    """The adapters of a model, in the order of its matrices."""
    return [module for module in model.modules() if isinstance(module, Adapter)]


@contextmanager
def adapters_off(model: nn.Module) -> Iterator[None]:
    """The model as it was before it had adapters: the reference, without a second copy of it."""
    mine = [adapter for adapter in adapters(model) if adapter.on]
    for adapter in mine:
        adapter.on = False
    try:
        yield
    finally:
        for adapter in mine:
            adapter.on = True


@torch.no_grad()
def merge_adapters(model: Llama) -> Llama:
    """Put the adapters into the matrices, which then are plain again and trained; the model itself.

    A model without adapters stays as it is.
    """
    for module in list(model.modules()):
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
    return model.requires_grad_(True)
