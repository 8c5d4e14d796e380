"""The one training loop of the book (chapters 3, 9 and 12): SFT, DPO, reward models and
reinforcement learning.

Three decisions carry it. A loss step returns (sum, count) and the loop divides once by the whole
step's count, so one big batch and several accumulated pieces give the same number. The data of a
step is a pure function of its index, so resuming needs no iterator state. Everything that a step
changes is in the run state, so a resumed run ends in the same bits.
"""

import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dpo_core.checkpoint import CheckpointError
from dpo_core.compilation import compiled, worth_compiling
from dpo_core.optim import OPTIMIZERS, learning_rate_factor, make_optimizers
from dpo_core.parallel import Alone, Team, add, joined
from dpo_core.progress import progress_bar, say
from dpo_core.run_state import RunState
from dpo_core.storage import Workshop

Batch = dict[str, Tensor]  # every tensor has the rows of the batch as its first dimension
Sums = dict[str, tuple[Tensor, int | Tensor]]  # name -> (sum, count); "loss" is differentiated
BatchAt = Callable[[int], Batch]
LossStep = Callable[[nn.Module, Batch], Sums]
ON_THE_BAR = ("loss", "nats_per_completion", "rewards/margins", "rewards/accuracies")


def default_device() -> torch.device:
    """CUDA when it is there, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class LoopConfig:
    """How to train, apart from model, data and loss.

    Raises:
        ValueError: a number out of its range; the message names it.
    """

    steps: int
    learning_rate: float
    optimizer: str = "adamw"
    warmup: int = 20  # steps until the peak of the learning rate
    # gradients longer than this (L2, all parameters) are shortened to it
    max_grad_norm: float = math.inf
    accumulate: int = 1  # pieces that a step's batch is cut into
    log_every: int = 20  # steps per line of the metrics
    save_every: int = 0  # steps between run states; 0 keeps none

    def __post_init__(self) -> None:
        for name in ("steps", "accumulate", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{name} is {getattr(self, name)}; accepted are whole numbers from 1"
                )
        for name in ("warmup", "save_every"):
            if getattr(self, name) < 0:
                raise ValueError(
                    f"{name} is {getattr(self, name)}; accepted are whole numbers from 0"
                )
        for name in ("learning_rate", "max_grad_norm"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; accepted are numbers above 0")
        if self.learning_rate == math.inf:
            raise ValueError("learning_rate is inf; accepted are finite numbers above 0")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(
                f"unknown optimizer {self.optimizer!r}; accepted are {', '.join(OPTIMIZERS)}"
            )
        # so that no line of the metrics straddles a saved state
        if self.save_every % self.log_every:
            raise ValueError(
                f"save_every is {self.save_every}; "
                f"accepted are multiples of log_every, {self.log_every}"
            )


def train(
    model: nn.Module,
    batch_at: BatchAt,
    loss_step: LossStep,
    config: LoopConfig,
    *,
    place: Workshop | None = None,
    record: dict[str, Any] | None = None,
    resume: bool = False,
    threads: int = 0,
    compile: bool | None = None,
    sharding: str | None = None,
    drawing: bool = False,
    progress: bool = True,
) -> list[dict[str, float | None]]:
    """Train `model` in place, on the device it is on.

    Args:
        batch_at: the batch of a step, 0 … steps - 1; must be a pure function of the index.
        loss_step: (model, batch) -> named (sum, count) pairs; "loss" is minimised.
        place: where the run state goes every `save_every` steps and after the last one, and comes
            from on `resume`; also the metrics, JSON lines, one every `log_every` steps, each number
            a mean over those steps.
        record: what else names this run (task, seed, …); a state with another record is not
            resumed.
        threads: the number of torch's threads that a resumed run must have had; 0 takes what it
            had.
        compile: compile the layers (`dpo_core.compilation`); None does so where the run is long
            enough to end sooner, judged by the size of its first batch. A resumed run does as it
            did before.
        sharding: of `parallel.SHARDINGS`, how the processes that have joined share the work (each
            calls this function with the same arguments); None trains alone. With several no layer
            is compiled, and the first process alone reads and writes `place`.
        drawing: whether `batch_at` reads `model`, as rollouts do.
        progress: show a bar.

    Returns:
        The lines of the metrics.

    Raises:
        CheckpointError: nothing to resume, the state of another run, or one that was compiled
            where nothing compiles.
        ValueError: a batch has nothing to learn from, a resumed run has no place, or there are no
            processes to share with.
        FloatingPointError: loss, gradient or weights are not finite; the message names the step or
            the weights. The last state stays.
    """
    if sharding is not None and not joined():
        raise ValueError(f"sharding {sharding!r:.60} needs processes that have joined (torchrun)")
    team = Team(model, loss_step, sharding, drawing) if sharding else Alone(model, loss_step)
    optimizers = make_optimizers(team.model, config.optimizer, config.learning_rate)
    shaping = {
        name: None if value == math.inf else value  # JSON has no infinity
        for name, value in asdict(config).items()
        if name != "save_every"
    }
    run = RunState(team.model, optimizers, {**(record or {}), **shaping}, team)
    if resume:
        if place is None:
            raise ValueError("resume needs a place, the workshop that holds the run's state")
        run.load(place, config.steps, threads)
        if compile is not None and compile != run.compiled and sharding is None:
            how = "with" if run.compiled else "without"
            say(f"continuing {how} compiled layers, as the run began", sys.stderr)
        compile = run.compiled

    def batch_of(step: int) -> Batch:
        if drawing:
            team.gather()
        return batch_at(step)

    first = batch_of(run.step) if run.step < config.steps else {}
    if sharding is not None:
        compile = False
    elif compile is None:
        texts = sum(tensor.numel() for name, tensor in first.items() if name.endswith("ids"))
        compile = worth_compiling(model, texts * config.steps)
    # loading makes new ones
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    peaks = [group["lr"] for group in groups]
    if place is not None and team.first:
        place.metrics.write_text(metrics_text(run.history), encoding="utf-8")
    window: dict[str, list[float]] = {}  # sums and counts since the last line
    started, seconds_before = time.perf_counter(), run.seconds
    model.train()
    team.model.train()
    seen = progress and team.first
    with (
        compiled(model, compile) as is_compiled,
        progress_bar(total=config.steps, initial=run.step, unit="step", shown=seen) as bar,
    ):
        if resume and is_compiled != compile:
            raise CheckpointError("the run began with compiled layers, and nothing compiles here")
        run.compiled = is_compiled
        while run.step < config.steps:
            factor = learning_rate_factor(run.step, config.steps, config.warmup)
            for group, peak in zip(groups, peaks, strict=True):
                group["lr"] = peak * factor
            sums = team.learn(first or batch_of(run.step), config.accumulate)
            first = {}
            if not sums["loss"][1] > 0:
                raise ValueError(
                    f"the batch of step {run.step} has nothing to learn from: its loss counts 0"
                )
            gradients, count = team.gradients(), sums["loss"][1]
            norm = team.norm(gradients) / count
            shorter = min(1.0, config.max_grad_norm / (norm + 1e-6))
            # the one division, by the whole step's count
            torch._foreach_mul_(gradients, shorter / count)
            if not math.isfinite(sums["loss"][0] + norm):
                raise FloatingPointError(
                    f"loss or gradient at step {run.step} is not finite; "
                    "try a smaller learning rate"
                )
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
            run.step += 1
            run.seconds = seconds_before + time.perf_counter() - started
            add(window, {**sums, "grad_norm": (norm, 1.0)})
            bar.update()
            if run.step % config.log_every == 0 or run.step == config.steps:
                means = {name: _finite(total / count) for name, (total, count) in window.items()}
                line = {
                    "step": run.step,
                    **means,
                    "learning_rate": config.learning_rate * factor,
                    "seconds": run.seconds,
                }
                window = {}
                run.history.append(line)
                shown = [name for name in ON_THE_BAR if line.get(name) is not None]
                bar.set_postfix({name: f"{line[name]:.3f}" for name in shown})
                if place is not None and team.first:
                    with place.metrics.open("a", encoding="utf-8") as lines:
                        lines.write(metrics_text([line]))
            due = run.step % max(1, config.save_every) == 0 or run.step == config.steps
            if place is not None and config.save_every and due:
                run.save(place)
    for name in team.bad_weights():  # the loss of the next step would have said so
        raise FloatingPointError(
            f"the last update made {name} NaN or infinite; try a smaller learning rate"
        )
    team.finish()
    model.eval()
    return run.history


def _finite(value: float) -> float | None:
    """A number that JSON has, or None."""
    return value if math.isfinite(value) else None


def metrics_text(history: list[dict[str, float | None]]) -> str:
    """Metrics as JSON lines, six digits a number; null stands for what is not finite."""
    lines = [
        {name: float(f"{v:.6g}") if isinstance(v, float) else v for name, v in entry.items()}
        for entry in history
    ]
    return "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)
