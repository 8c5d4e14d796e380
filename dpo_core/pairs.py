"""Preference pairs: made once, written once as JSON lines, and reused (chapters 5, 9 and 10).

A line has TRL's columns `prompt`, `chosen`, `rejected`, and ours: `preference_prob` and the two
reference log-probabilities, so that training needs no reference model at hand.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpo_core.model import Llama
from dpo_core.sampling import TOKENIZER, score
from dpo_core.task import stream


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
        """The pairs of the given rows as tensors for `steps.dpo_step`; hard labels have no
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


TRL_COLUMNS = ("prompt", "chosen", "rejected")


def pairs_of_file(path: Path, reference: Llama) -> Pairs:
    """Read pairs from JSON lines with TRL's columns `prompt`, `chosen`, `rejected`, of whatever
    origin.

    `preference_prob` is 1 where a line has none. Reference log-probabilities are taken from the
    file if every line has both, and computed if no line has any.

    Raises:
        ValueError: a line is not a pair, has only some of the columns, or does not fit the model;
            no pairs at all; or no chosen answer ends in E. The message names the line.
    """
    logps = ("ref_chosen_logps", "ref_rejected_logps")
    if not path.is_file():
        raise ValueError(f"no file of pairs {path}")
    columns: dict[str, list] = {name: [] for name in (*TRL_COLUMNS, "preference_prob", *logps)}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            for name, value in pair_of_line(line, reference.config.max_position_embeddings).items():
                columns[name].append(value)
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path}, line {number}, is not a pair with {', '.join(TRL_COLUMNS)}: {error}"
            ) from None
    texts = [columns[name] for name in TRL_COLUMNS]
    if not texts[0]:
        raise ValueError(f"{path} holds no pairs")
    if not any(text.endswith("E") for text in columns["chosen"]):
        raise ValueError(
            f"{path}: no chosen answer ends in E, so nothing teaches the model to stop"
        )
    counts = {len(columns[name]) for name in logps}
    if counts == {len(texts[0])}:
        return Pairs(**columns)
    if counts != {0}:
        raise ValueError(f"{path}: some lines have {' and '.join(logps)}, some have not")
    return with_reference(reference, *texts, columns["preference_prob"], progress=True)


def pair_of_line(line: str, positions: int) -> dict[str, str | float]:
    """The columns of one line.

    Raises:
        ValueError: it is no pair that a model with that many positions can read.
    """
    row = json.loads(line)
    found: dict[str, str | float] = {}
    for name in TRL_COLUMNS:
        text = row.get(name)
        if not isinstance(text, str) or not text:
            raise ValueError(f"{name} is {text!r}; accepted is a text")
        found[name] = text
    for name in ("chosen", "rejected"):
        length = len(TOKENIZER.encode(found["prompt"] + found[name]))
        if length > positions:
            raise ValueError(
                f"prompt and {name} have {length} tokens; the model has {positions} positions"
            )
    found["preference_prob"] = float(row.get("preference_prob", 1.0))
    if not 0 <= found["preference_prob"] <= 1:
        raise ValueError(f"preference_prob is {found['preference_prob']}; accepted is 0 to 1")
    for name in ("ref_chosen_logps", "ref_rejected_logps"):
        if name in row:
            found[name] = float(row[name])
            if not math.isfinite(found[name]):
                raise ValueError(f"{name} is {found[name]}; accepted are finite numbers")
    return found
