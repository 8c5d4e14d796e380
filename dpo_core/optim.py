"""Optimisers and the learning-rate schedule (chapter 3)."""

import math
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from dpo_core.parallel import all_rows, local, own_rows

OPTIMIZERS = ("muon", "adamw")
MOMENTS = {"Muon": ("velocity",), "AdamW": ("step", "exp_avg", "exp_avg_sq")}  # of a parameter


def orthogonalise(matrices: Tensor, rounds: int = 5) -> Tensor:
    """Push the singular values of each matrix towards 1.

    Those above about 0.2 % of the matrix's norm end between 0.68 and 1.21; smaller ones stay
    behind.

    A quintic Newton-Schulz iteration with the coefficients of Jordan et al. 2024 ("Muon"). In
    float32: bfloat16 products, the usual choice on GPUs, are slow on most CPUs.

    Args:
        matrices: (N, R, C), a stack of matrices of one shape.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    wide = matrices.shape[-2] <= matrices.shape[-1]
    x = matrices if wide else matrices.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)  # no singular value above 1
    for _ in range(rounds):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide else x.mT


class Muon(torch.optim.Optimizer):
    """Momentum whose step is orthogonalised, for the matrices inside the layers.

    Source: Jordan et al. 2024. Matrices of one shape are orthogonalised in one batch. A step of a
    (R, C) matrix is scaled by sqrt(max(1, R/C)). Where several processes share the
    matrices (`dpo_core.parallel`), each keeps its rows of the momentum and orthogonalises all.
    """

    def __init__(self, matrices: Iterable[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One update; a parameter without a gradient is left alone."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for matrix in group["params"]:
                if matrix.grad is not None:
                    by_shape[matrix.shape].append(matrix)
            for (rows, columns), matrices in by_shape.items():
                gradient = torch.stack([local(matrix.grad) for matrix in matrices])  # (N, R, C)
                velocity = torch.stack(
                    [
                        local(self.state[m].setdefault("velocity", torch.zeros_like(m)))
                        for m in matrices
                    ]
                )
                velocity.lerp_(gradient, 1 - group["momentum"])
                nesterov = gradient.lerp(velocity, group["momentum"])
                update = orthogonalise(all_rows(nesterov, matrices[0]))
                update = own_rows(update, matrices[0]) * max(1, rows / columns) ** 0.5
                for matrix, new_velocity, delta in zip(matrices, velocity, update):
                    local(self.state[matrix]["velocity"]).copy_(new_velocity)
                    local(matrix).sub_(delta, alpha=group["lr"])


def make_optimizers(
    model: nn.Module, name: str, learning_rate: float
) -> list[torch.optim.Optimizer]:
    """The optimisers of one training run, together covering every parameter that is trained once.

    `adamw` is AdamW for everything (Loshchilov & Hutter 2019, no weight decay). `muon` is Muon for
    the matrices inside the layers and AdamW, at 0.3 times the learning rate, for embedding, head
    and norms.

    Raises:
        ValueError: an unknown name.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"unknown optimizer {name!r}; accepted are {', '.join(OPTIMIZERS)}")
    adamw = {"betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.0, "fused": True}
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    if name == "adamw":
        return [torch.optim.AdamW(trained.values(), lr=learning_rate, **adamw)]
    inside = {id(p): p for n, p in trained.items() if ".layers." in n and p.dim() == 2}
    rest = [p for p in trained.values() if id(p) not in inside]
    muon = Muon(inside.values(), learning_rate)
    if not rest:  # adapters stand inside the layers
        return [muon]
    return [muon, torch.optim.AdamW(rest, lr=0.3 * learning_rate, **adamw)]


def learning_rate_factor(step: int, steps: int, warmup: int) -> float:
    """The schedule at `step` as a share of the peak: linear warm-up, cosine to 0 at `steps`."""
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return 0.5 * (1 + math.cos(math.pi * progress))
