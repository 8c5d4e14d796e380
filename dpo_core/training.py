"""The one training loop of the book (chapters 3, 9 and 12): SFT, DPO, reward models and
reinforcement learning.

Three decisions carry it. A loss step returns (sum, count) and the loop divides once by the whole
step's count, so one big batch and several accumulated pieces give the same number. The data of a
step is a pure function of its index, so resuming needs no iterator state. Everything that a step
changes is in the run state, so a resumed run ends in the same bits.
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dpo_core.losses import bradley_terry_loss, kto_loss, preference_loss, sequence_logps
from dpo_core.model import Llama
from dpo_core.optim import OPTIMIZERS, learning_rate_factor, make_optimizers
from dpo_core.progress import progress_bar
from dpo_core.run_state import RunState

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


def sft_step(model: Llama, batch: Batch) -> Sums:
    """Next-token loss on the marked tokens, in nats a token; also in nats a completion.

    Needs `input_ids` (B, T) and `completion_mask` (B, T).
    """
    # (B,)
    logps = sequence_logps(model(batch["input_ids"]), batch["input_ids"], batch["completion_mask"])
    nats = -logps.sum()
    return {
        "loss": (nats, batch["completion_mask"].sum()),
        "nats_per_completion": (nats.detach(), len(logps)),
    }


def dpo_step(
    beta: float, loss_type: str = "sigmoid", label_smoothing: float = 0.0, **options: float | None
) -> LossStep:
    """The loss of a batch of pairs, by DPO or a relative of it, with the metrics of TRL's names.

    The step needs `chosen_ids`, `rejected_ids` (B, T), `chosen_mask`, `rejected_mask` (B, T),
    `ref_chosen_logps`, `ref_rejected_logps` (B,), and may have `preference_prob` (B,). A tie counts
    half in `rewards/accuracies`. `options` are those of `preference_loss`.

    Raises:
        ValueError: a setting that `preference_loss` does not take; now, not at the first step.
    """
    settings = {"beta": beta, "loss_type": loss_type, "label_smoothing": label_smoothing, **options}
    lengths = {"chosen_lengths": torch.ones(1), "rejected_lengths": torch.ones(1)}
    preference_loss(*[torch.full((1,), -1.0)] * 4, **lengths, **settings)

    def step(model: Llama, batch: Batch) -> Sums:
        ids, mask = _both_answers(batch)  # (2B, T)
        chosen_logps, rejected_logps = sequence_logps(model(ids), ids, mask).chunk(2)  # (B,) each
        chosen_lengths, rejected_lengths = mask.sum(-1).chunk(2)
        losses, chosen_rewards, rejected_rewards = preference_loss(
            chosen_logps,
            rejected_logps,
            batch["ref_chosen_logps"],
            batch["ref_rejected_logps"],
            chosen_lengths=chosen_lengths,
            rejected_lengths=rejected_lengths,
            preference_prob=batch.get("preference_prob"),
            **settings,
        )
        logps = {"logps/chosen": chosen_logps.detach(), "logps/rejected": rejected_logps.detach()}
        return _preference_sums(losses, chosen_rewards, rejected_rewards, **logps)

    return step


def kto_step(
    beta: float, desirable_weight: float = 1.0, undesirable_weight: float = 1.0
) -> LossStep:
    """The KTO loss of a batch of single answers; metrics have the names of TRL's KTOTrainer.

    The step needs `input_ids`, `completion_mask` (B, T), `ref_logps` (B,), `desirable` (B,) bool,
    and, for the
    reference point, each prompt with the answer to another one: `kl_ids`, `kl_mask` (B, T'),
        `kl_ref_logps` (B,).
    The reference point is the mean log-ratio of these, at least 0, over what one call sees: with
    `accumulate` each piece has its own.

    Raises:
        ValueError: a setting that `kto_loss` does not take; now, not at the first step.
    """
    settings = {
        "beta": beta,
        "desirable_weight": desirable_weight,
        "undesirable_weight": undesirable_weight,
    }
    kto_loss(torch.zeros(1), torch.zeros(1), torch.ones(1, dtype=torch.bool), kl=0.0, **settings)

    def step(model: Llama, batch: Batch) -> Sums:
        desirable = batch["desirable"]
        with torch.no_grad():
            # (B,)
            other_logps = sequence_logps(model(batch["kl_ids"]), batch["kl_ids"], batch["kl_mask"])
            point = (other_logps - batch["kl_ref_logps"]).mean().clamp(min=0)
        # (B,)
        logps = sequence_logps(
            model(batch["input_ids"]), batch["input_ids"], batch["completion_mask"]
        )
        losses, rewards = kto_loss(logps, batch["ref_logps"], desirable, kl=point, **settings)
        metrics = {
            "rewards/chosen": rewards[desirable],
            "rewards/rejected": rewards[~desirable],
            "logps/chosen": logps[desirable].detach(),
            "logps/rejected": logps[~desirable].detach(),
            "kl": point[None],
        }
        return {"loss": (losses.sum(), len(losses))} | {
            k: (v.sum(), len(v)) for k, v in metrics.items() if len(v)
        }

    return step


def reward_step(model: nn.Module, batch: Batch) -> Sums:
    """The Bradley-Terry loss of a reward model on a batch of pairs (Ouyang et al. 2022, eq. 1).

    `model(ids, completion_mask)` gives (B,) rewards, as `dpo_core.reward.RewardModel` does. The
    batch is that of `dpo_step`; its reference log-probabilities are not read.
    """
    chosen_rewards, rejected_rewards = model(*_both_answers(batch)).chunk(2)  # (B,) each
    losses = bradley_terry_loss(chosen_rewards - rejected_rewards, batch.get("preference_prob"))
    return _preference_sums(losses, chosen_rewards.detach(), rejected_rewards.detach())


def _both_answers(batch: Batch) -> tuple[Tensor, Tensor]:
    """Chosen rows, then rejected ones, (2B, T) ids and mask: one forward pass serves both."""
    return tuple(
        torch.cat((batch[f"chosen_{name}"], batch[f"rejected_{name}"])) for name in ("ids", "mask")
    )


def _preference_sums(
    losses: Tensor, chosen_rewards: Tensor, rejected_rewards: Tensor, **more: Tensor
) -> Sums:
    margins = chosen_rewards - rejected_rewards
    metrics = {
        "rewards/chosen": chosen_rewards,
        "rewards/rejected": rejected_rewards,
        "rewards/margins": margins,
        "rewards/accuracies": (margins > 0).float() + 0.5 * (margins == 0).float(),
        **more,
    }
    return {"loss": (losses.sum(), len(losses))} | {
        k: (v.sum(), len(v)) for k, v in metrics.items()
    }


def train(
    model: nn.Module,
    batch_at: BatchAt,
    loss_step: LossStep,
    config: LoopConfig,
    *,
    state_folder: Path | None = None,
    record: dict[str, Any] | None = None,
    resume: bool = False,
    metrics_file: Path | None = None,
    progress: bool = True,
) -> list[dict[str, float]]:
    """Train `model` in place, on the device it is on.

    Args:
        batch_at: the batch of a step, 0 … steps - 1; must be a pure function of the index.
        loss_step: (model, batch) -> named (sum, count) pairs; "loss" is minimised.
        state_folder: where the run state goes every `save_every` steps, and comes from on `resume`.
        record: what else names this run (task, seed, …); a state with another record is not
            resumed.
        metrics_file: JSON lines, one every `log_every` steps; each number is a mean over those
            steps.
        progress: show a bar.

    Returns:
        The lines of the metrics.

    Raises:
        CheckpointError: nothing to resume, or the state of another run.
        FloatingPointError: loss or gradient is not finite; the message names the step. The last
            state stays.
    """
    device = next(model.parameters()).device
    optimizers = make_optimizers(model, config.optimizer, config.learning_rate)
    shaping = {name: value for name, value in asdict(config).items() if name != "save_every"}
    run = RunState(model, optimizers, {**(record or {}), **shaping})
    if resume:
        run.load(state_folder)
    # loading makes new ones
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    peaks = [group["lr"] for group in groups]
    if metrics_file is not None:
        metrics_file.write_text("".join(map(_json_line, run.history)), encoding="utf-8")
    window: dict[str, list[float]] = {}  # sums and counts since the last line
    started, seconds_before = time.perf_counter(), run.seconds
    model.train()
    with progress_bar(total=config.steps, initial=run.step, unit="step", shown=progress) as bar:
        while run.step < config.steps:
            factor = learning_rate_factor(run.step, config.steps, config.warmup)
            for group, peak in zip(groups, peaks, strict=True):
                group["lr"] = peak * factor
            batch = {name: tensor.to(device) for name, tensor in batch_at(run.step).items()}
            sums: dict[str, list[float]] = {}
            for piece in _pieces(batch, config.accumulate):
                result = loss_step(model, piece)
                result["loss"][0].backward()
                _add(
                    sums,
                    {
                        name: (float(total.detach()), float(count))
                        for name, (total, count) in result.items()
                    },
                )
            gradients = [p.grad for p in model.parameters() if p.grad is not None]
            # the one division, by the whole step's count
            torch._foreach_div_(gradients, sums["loss"][1])
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
            if not math.isfinite(sums["loss"][0] + float(norm)):
                raise FloatingPointError(
                    f"loss or gradient at step {run.step} is not finite; "
                    "try a smaller learning rate"
                )
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
            run.step += 1
            run.seconds = seconds_before + time.perf_counter() - started
            _add(window, {**sums, "grad_norm": (float(norm), 1.0)})
            bar.update()
            if run.step % config.log_every == 0 or run.step == config.steps:
                means = {name: total / count for name, (total, count) in window.items()}
                line = {
                    "step": run.step,
                    **means,
                    "learning_rate": config.learning_rate * factor,
                    "seconds": run.seconds,
                }
                window = {}
                run.history.append(line)
                bar.set_postfix({name: f"{line[name]:.3f}" for name in ON_THE_BAR if name in line})
                if metrics_file is not None:
                    with metrics_file.open("a", encoding="utf-8") as lines:
                        lines.write(_json_line(line))
            if config.save_every and state_folder is not None and run.step % config.save_every == 0:
                run.save(state_folder)
    model.eval()
    return run.history


def _pieces(batch: Batch, count: int) -> Iterator[Batch]:
    split = {name: tensor.tensor_split(count) for name, tensor in batch.items()}
    for index in range(count):
        yield {name: parts[index] for name, parts in split.items()}


def _add(sums: dict[str, list[float]], new: dict[str, Sequence[float]]) -> None:
    for name, (total, count) in new.items():
        old_total, old_count = sums.get(name, (0.0, 0.0))
        sums[name] = [old_total + total, old_count + count]


def _json_line(entry: dict[str, float]) -> str:
    rounded = {
        name: value if isinstance(value, int) else float(f"{value:.6g}")
        for name, value in entry.items()
    }
    return json.dumps(rounded) + "\n"
