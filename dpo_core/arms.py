"""One yardstick for all the models of a comparison (chapters 9 to 12).

A run is what one training reached: a dict with `name`, `seed` and estimates, each with `value`,
`low` and `high`, as `evaluation.evaluate` gives them and JSON keeps them. An arm is all runs of one
name, a run a seed. Two arms of the same seeds are compared seed by seed, since they share their
base model, their pairs and the prompts they are measured on.
"""

import builtins
import html
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Table:
    """Arms and what they measured: as text in columns, in a notebook as a table."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]  # a word, then numbers

    def __str__(self) -> str:
        lines = [self.head, *self.rows]
        width = max(len(line[0]) for line in lines)
        apart = [max(len(line[i]) for line in lines) + 2 for i in range(1, len(self.head))]
        return "\n".join(
            f"{word:<{width}}"
            + "".join(f"{cell:>{w}}" for cell, w in zip(cells, apart, strict=True))
            for word, *cells in lines
        )

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head, *rows = [[html.escape(cell) for cell in line] for line in (self.head, *self.rows)]
        lines = "".join(
            f'<tr><th scope="row">{word}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
            for word, *cells in rows
        )
        top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
        return (
            f'<table class="dataframe"><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table>'
        )


def table(
    runs: Sequence[Run],
    arms: Mapping[str, str] | Sequence[str] | None = None,
    measures: Sequence[str] = MEASURES,
) -> Table:
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
    return Table(
        ("", first, "±", *others),
        tuple(
            (word, *(f"{number:.3f}" for number in (mean.value, mean.high - mean.value, *rest)))
            for mean, word, rest in rows
        ),
    )


def show(shown: Table) -> None:
    """Show a table where there is a notebook to show it in; elsewhere print it."""
    getattr(builtins, "display", print)(shown)
