"""One yardstick for all the models of a comparison (chapters 9 to 12).

A run is what one training reached: a dict with `name`, `seed` and estimates, each with `value`,
`low` and `high`, as `evaluation.evaluate` gives them and JSON keeps them. An arm is all runs of one
name, a run a seed. Two arms of the same seeds are compared seed by seed, since they share their
base model, their pairs and the prompts they are measured on.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from dpo_core.evaluation import Estimate

Run = Mapping[str, Any]
MEASURES = ("J", "reward", "kl", "style", "exact", "both", "well_formed")
FEWEST = 3  # seeds, below which nothing is concluded
# the 97.5 % quantile of Student's distribution with 2, 3, ... degrees of freedom (Student 1908)
STUDENT = (4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622)


def values(runs: Iterable[Run], arm: str, measure: str = "J") -> dict[int, float]:
    """What an arm measured, by seed.

    Raises:
        ValueError: no such arm, fewer than three seeds, or two runs of one seed.
    """
    of = [(run["seed"], float(run[measure]["value"])) for run in runs if run["name"] == arm]
    found = dict(of)
    if len(found) != len(of):
        raise ValueError(f"{arm} has {len(of)} runs and {len(found)} seeds; needed is one of each")
    if len(found) < FEWEST:
        raise ValueError(f"{arm} has {len(found)} seeds; a conclusion needs at least {FEWEST}")
    return found


def interval(numbers: Sequence[float]) -> Estimate:
    """A mean over seeds with its 95 % interval by Student's distribution.

    Raises:
        ValueError: fewer than three numbers, or more than the table has.
    """
    if not FEWEST <= len(numbers) < FEWEST + len(STUDENT):
        raise ValueError(
            f"{len(numbers)} seeds; accepted are {FEWEST} to {FEWEST + len(STUDENT) - 1}"
        )
    mean = float(np.mean(numbers))
    half = STUDENT[len(numbers) - FEWEST] * np.std(numbers, ddof=1) / math.sqrt(len(numbers))
    return Estimate(mean, mean - float(half), mean + float(half))


def arm_mean(runs: Iterable[Run], arm: str, measure: str = "J") -> Estimate:
    """The mean of an arm over its seeds, with its interval; errors as in `values`."""
    return interval(list(values(runs, arm, measure).values()))


def gaps(runs: Sequence[Run], one: str, other: str, measure: str = "J") -> dict[int, float]:
    """By how much the first arm lies above the second, seed by seed.

    Raises:
        ValueError: as in `values`, or the arms have not the same seeds.
    """
    first, second = values(runs, one, measure), values(runs, other, measure)
    if first.keys() != second.keys():
        raise ValueError(f"{one} has the seeds {sorted(first)}, {other} {sorted(second)}")
    return {seed: first[seed] - second[seed] for seed in first}


def beats(runs: Sequence[Run], one: str, other: str, measure: str = "J", by: float = 0.0) -> bool:
    """Whether the first arm lies above the second by more than `by` in every seed; errors as in
    `gaps`.
    """
    return min(gaps(runs, one, other, measure).values()) > by


def table(
    runs: Sequence[Run],
    arms: Mapping[str, str] | Sequence[str] | None = None,
    measures: Sequence[str] = MEASURES,
) -> str:
    """A row for each arm, the highest of the first measure on top: means over seeds, the first
    measure with half its interval.

    Args:
        arms: which, and by which word they are called; all under their names if None.
    """
    names = arms if arms is not None else list(dict.fromkeys(run["name"] for run in runs))
    called = names if isinstance(names, Mapping) else {name: name for name in names}
    first, *others = measures
    rows = []
    for arm, word in called.items():
        mean = arm_mean(runs, arm, first)
        rest = [np.mean(list(values(runs, arm, measure).values())) for measure in others]
        rows.append((mean, word, rest))
    rows.sort(key=lambda row: -row[0].value)
    width = max(len(word) for word in called.values())
    lines = [" " * width + f"{first:>8}{'±':>6}" + "".join(f"{name:>13}" for name in others)]
    for mean, word, rest in rows:
        numbers = "".join(f"{number:13.3f}" for number in rest)
        lines.append(f"{word:<{width}}{mean.value:8.3f}{mean.high - mean.value:6.3f}{numbers}")
    return "\n".join(lines)
