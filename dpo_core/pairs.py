"""Preference pairs: made once, written once as JSON lines, and reused (chapters 5, 9 and 10).

A line has TRL's columns `prompt`, `chosen`, `rejected`, and ours: `preference_prob` and the two
reference log-probabilities, so that training needs no reference model at hand.
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpo_core.evaluation import class_rewards
from dpo_core.model import Llama
from dpo_core.sampling import TOKENIZER, generate, score
from dpo_core.task import ClassicTask, Task, judge, stream

LABELS = ("soft", "sampled", "deterministic")


@dataclass(frozen=True)
class Pairs:
    """N preference pairs, column by column; `preference_prob` is P(chosen is preferred)."""

    prompt: list[str]
    chosen: list[str]
    rejected: list[str]
    preference_prob: list[float]
    ref_chosen_logps: list[float]
    ref_rejected_logps: list[float]

    def __len__(self) -> int:
        return len(self.prompt)

    @cached_property
    def soft(self) -> bool:
        """True if some label is a probability below 1."""
        return any(probability != 1 for probability in self.preference_prob)

    def take(self, rows: Sequence[int] | np.ndarray) -> "Pairs":
        """The pairs of the given rows, in that order."""
        return Pairs(*([getattr(self, field.name)[row] for row in rows] for field in fields(Pairs)))

    def batch(self, rows: np.ndarray) -> dict[str, Tensor]:
        """The pairs of the given rows as tensors for `training.dpo_step`; hard labels have no
        `preference_prob`.
        """
        prompts = [self.prompt[r] for r in rows]
        answers = [self.chosen[r] for r in rows] + [self.rejected[r] for r in rows]
        ids, mask = TOKENIZER.collate(prompts * 2, answers)  # one width for both
        names = ["ref_chosen_logps", "ref_rejected_logps"] + ["preference_prob"] * self.soft
        numbers = {name: torch.tensor([getattr(self, name)[r] for r in rows]) for name in names}
        n = len(rows)
        return {
            "chosen_ids": ids[:n],
            "rejected_ids": ids[n:],
            "chosen_mask": mask[:n],
            "rejected_mask": mask[n:],
            **numbers,
        }

    def batches(self, batch_size: int, seed: int) -> Callable[[int], dict[str, Tensor]]:
        """The batch of a step: every epoch in a new order, its last incomplete batch left out.

        Raises:
            ValueError: fewer pairs than a batch needs.
        """
        per_epoch = len(self) // batch_size
        if per_epoch == 0:
            raise ValueError(
                f"{len(self)} pairs do not fill a batch of {batch_size}; "
                f"accepted is at most {len(self)}"
            )

        def batch_at(step: int) -> dict[str, Tensor]:
            epoch, position = divmod(step, per_epoch)
            order = stream("order", seed, epoch).permutation(len(self))
            return self.batch(order[position * batch_size : (position + 1) * batch_size])

        return batch_at

    def write(self, path: Path) -> None:
        """Write JSON lines, complete or not at all."""
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        part = path.with_name(path.name + ".part")
        try:
            with part.open("w", encoding="utf-8") as lines:
                for values in zip(*columns.values()):
                    lines.write(json.dumps(dict(zip(columns, values))) + "\n")
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)


def read_pairs(path: Path) -> Pairs:
    """Read what `Pairs.write` wrote.

    Raises:
        ValueError: a line is not a pair; the message names the line.
    """
    names = [field.name for field in fields(Pairs)]
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            rows.append([row[name] for name in names])
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path}, line {number}, is not a pair with {', '.join(names)}: {error!r}"
            ) from None
    return Pairs(*map(list, zip(*rows))) if rows else Pairs([], [], [], [], [], [])


def content_hash(**settings: Any) -> str:
    """Eight hexadecimal digits that name a set of pairs: a hash of everything that made it."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]


def label(
    gap: np.ndarray, labels: str, rng: np.random.Generator, noise: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Turn reward gaps into labels under the Bradley-Terry model, P(first preferred) = σ(gap).

    Args:
        gap: (N,) reward of the first answer minus that of the second.
        labels: "soft" keeps the probability; "sampled" draws once from it; "deterministic" lets the
            better answer always win and has no label for a tie.
        noise: the share of labels that are turned round. A soft label becomes its expectation over
            that.

    Returns:
        swap: (N,) bool, the second answer is the chosen one.
        probability: (N,) float64, P(chosen is preferred).
        kept: (N,) bool, False where there is no label.

    Raises:
        ValueError: another kind of label, or a noise outside 0 to below 0.5.
    """
    if not 0 <= noise < 0.5:
        raise ValueError(f"noise is {noise}; accepted is 0 to below 0.5")
    probability = 1 / (1 + np.exp(-gap))
    probability = probability + noise * (1 - 2 * probability)
    everything = np.ones(len(gap), dtype=bool)
    if labels == "soft":
        return gap < 0, np.maximum(probability, 1 - probability), everything
    if labels == "sampled":
        return rng.random(len(gap)) >= probability, np.ones(len(gap)), everything
    if labels == "deterministic":
        flipped = rng.random(len(gap)) < noise if noise else ~everything
        return (gap < 0) ^ flipped, np.ones(len(gap)), gap != 0
    raise ValueError(f"unknown labels {labels!r}; accepted are {', '.join(LABELS)}")


def on_policy_pairs(
    reference: Llama,
    task: Task,
    count: int,
    *,
    reward: str = "style+exact",
    labels: str = "soft",
    temperatures: Sequence[float] = (1.0,),
    noise: float = 0.0,
    sampler: Llama | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Pairs:
    """Two answers of the reference to each of `count` prompts, labelled by the reward of their
    class.

    The first answer is drawn at temperature 1, the second at `temperatures` in turn. Which pairs
    are drawn does not move the minimiser of the DPO loss with soft or sampled labels, as long as
    every answer can occur; higher temperatures show more of the mistakes that the reference makes
    rarely.

    Ties between answers of one class stay in (soft labels call them 1/2); a deterministic judge has
    no label for them, so it returns fewer pairs.

    Args:
        noise: the share of labels that are turned round.
        sampler: who answers, if not the reference; the log-probabilities beside a pair are the
            reference's.

    Raises:
        ValueError: an unknown reward or kind of label, a noise out of its range, or a count below
            1.
    """
    if count < 1 or not temperatures:
        raise ValueError(
            f"pairs is {count}, temperatures {temperatures}; accepted is at least one of each"
        )
    # a bad setting is named before the sampling
    label(np.zeros(1), labels, stream("check", seed), noise)
    class_rewards(reward)
    author, rng = sampler or reference, stream("pairs", seed)
    prompts, _ = task.demonstrations(count, rng)
    first, second = rng.integers(2**31, size=2).tolist()
    answers = generate(author, prompts, seed=first, progress=progress) + [""] * count
    for turn, temperature in enumerate(temperatures):
        mine = slice(turn, count, len(temperatures))
        draws = generate(
            author, prompts[mine], seed=second + turn, temperature=temperature, progress=progress
        )
        answers[count + turn :: len(temperatures)] = draws
    pair = prompts, answers[:count], answers[count:]
    return judged_pairs(
        reference, task, *pair, rng, reward=reward, labels=labels, noise=noise, progress=progress
    )


def judged_pairs(
    reference: Llama,
    task: Task,
    prompts: list[str],
    first: list[str],
    second: list[str],
    rng: np.random.Generator,
    *,
    reward: str,
    labels: str,
    noise: float = 0.0,
    progress: bool = False,
) -> Pairs:
    """Pairs of two answers to each prompt, labelled by the reward of their class; without a label,
    left out.
    """
    rewards, count, answers = class_rewards(reward), len(prompts), first + second
    verdicts = [judge(p, a, task.tolerance) for p, a in zip(prompts * 2, answers)]
    worth = np.array([rewards[int(v.style), int(v.exact)] for v in verdicts])
    swap, probability, kept = label(worth[:count] - worth[count:], labels, rng, noise)
    chosen = [answers[i + count if swap[i] else i] for i in np.flatnonzero(kept)]
    rejected = [answers[i if swap[i] else i + count] for i in np.flatnonzero(kept)]
    prompts = [prompts[i] for i in np.flatnonzero(kept)]
    return with_reference(
        reference, prompts, chosen, rejected, probability[kept].tolist(), progress
    )


def classic_pairs(
    reference: Llama, task: ClassicTask, count: int, *, seed: int = 0, progress: bool = False
) -> Pairs:
    """The seed project's pairs: a right three-number expression against an empty answer.

    Raises:
        ValueError: a count below 1.
    """
    if count < 1:
        raise ValueError(f"pairs is {count}; accepted are whole numbers from 1")
    prompts, chosen = task.demonstrations(count, stream("pairs", seed), numbers=3)
    return with_reference(reference, prompts, chosen, ["E"] * count, [1.0] * count, progress)


def with_reference(
    reference: Llama,
    prompts: list[str],
    chosen: list[str],
    rejected: list[str],
    preference_prob: list[float],
    progress: bool = False,
) -> Pairs:
    """Pairs with their log-probabilities under the reference."""
    logps = score(reference, prompts * 2, chosen + rejected, progress=progress).tolist()
    return Pairs(
        prompts, chosen, rejected, preference_prob, logps[: len(prompts)], logps[len(prompts) :]
    )


def check_same_start(
    policy: Llama, data: Pairs, tolerance: float = 1e-4, sample: int = 1024
) -> None:
    """A fresh DPO run starts at its reference: both must give the first pairs the same
    log-probabilities.

    Raises:
        ValueError: they do not; the message names the first pair that differs.
    """
    n = min(len(data), sample)
    logps = score(policy, data.prompt[:n] * 2, data.chosen[:n] + data.rejected[:n]).tolist()
    for row in range(n):
        for kind, text, ours, theirs in (
            ("chosen", data.chosen[row], logps[row], data.ref_chosen_logps[row]),
            ("rejected", data.rejected[row], logps[n + row], data.ref_rejected_logps[row]),
        ):
            if not abs(ours - theirs) <= tolerance:
                raise ValueError(
                    f"pair {row}, {kind} {data.prompt[row]}{text}: log-probability {ours:.4f} "
                    f"under the policy, {theirs:.4f} under the reference; a fresh run needs them "
                    f"equal to {tolerance:g} (--allow-other-reference for experiments)"
                )
