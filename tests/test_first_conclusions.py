"""What chapters 1, 5 and 7 conclude from stored runs fails where the runs say something else.

The cells that draw the conclusion are taken from the chapter and run on the stored file, then on files in which two
arms are exchanged, an arm or a seed is missing, or all seeds are the same one. (Chapters 9 to 12 have tests of theirs.)
"""

import copy
import json
import math
from pathlib import Path

import numpy as np
import pytest

import sources

DATA = sources.CHAPTERS / "data"
CHAPTERS = {path.stem[:2]: path for path in sources.chapters()}


def cells(chapter, opening, count):
    """The sources of the `count` code cells from the first that has the line `opening`."""
    code = [cell.source for cell in sources.cells(CHAPTERS[chapter]) if cell.kind == "code"]
    first = next(i for i, source in enumerate(code) if opening in source)
    return code[first : first + count]


def relabelled(runs, name, one, other):
    """The runs with the two arms exchanged."""
    names = {one: other, other: one}
    return [{**run, name: names.get(run[name], run[name])} for run in runs]


def without(runs, name, value):
    return [run for run in runs if run[name] != value]


def one_seed(runs):
    return [{**run, "seed": 0} for run in runs]


SHIFTS = ("01", 'Path("data/shifts.json")', "shifts.json")
REWARDS = ("05", 'Path("data/reward_seeds.json")', "reward_seeds.json")
STORED = [  # chapter, what its cell has, the file, and what is done to the runs
    (*SHIFTS, lambda runs: relabelled(runs, "shift", 0, 1)),
    (*SHIFTS, lambda runs: relabelled(runs, "shift", 1, 2)),
    (*SHIFTS, lambda runs: without(runs, "shift", 2)),
    (*SHIFTS, lambda runs: without(runs, "seed", 2)),
    (*SHIFTS, one_seed),
    (*REWARDS, lambda runs: relabelled(runs, "pairs", 6_400, 51_200)),
    (*REWARDS, lambda runs: without(runs, "pairs", 51_200)),
    (*REWARDS, lambda runs: [r | {"style": r["exact"], "exact": r["style"]} for r in runs]),
    (*REWARDS, one_seed),
]


def conclude(chapter, opening, name, change, folder):
    """Run the cell of a chapter on the stored file, changed."""
    stored = json.loads((DATA / name).read_text(encoding="utf-8"))
    stored["runs"] = change(copy.deepcopy(stored["runs"]))
    (folder / "data").mkdir()
    (folder / "data" / name).write_text(json.dumps(stored), encoding="utf-8")
    (source,) = cells(chapter, opening, 1)
    exec(compile(source, name, "exec"), {"json": json, "Path": Path})


@pytest.mark.parametrize(("chapter", "opening", "name"), sorted({entry[:3] for entry in STORED}))
def test_the_stored_runs_carry_the_conclusion(chapter, opening, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    conclude(chapter, opening, name, lambda runs: runs, tmp_path)


@pytest.mark.parametrize(("chapter", "opening", "name", "change"), STORED)
def test_other_runs_do_not(chapter, opening, name, change, tmp_path, monkeypatch):
    """Guards against assertions that would let any result pass."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises((AssertionError, ValueError)):
        conclude(chapter, opening, name, change, tmp_path)


def weigh(change_sweep=lambda runs: runs, change_bases=lambda bases: bases):
    """Chapter 7's cells on J, on the stored sweep, changed."""
    sweep = json.loads((DATA / "beta_sweep.json").read_text(encoding="utf-8"))
    half = json.loads((DATA / "beta_half.json").read_text(encoding="utf-8"))
    sweep["runs"], half["bases"] = change_sweep(sweep["runs"]), change_bases(half["bases"])
    betas = sorted({run["beta"] for run in sweep["runs"]})
    predicted = {"style": [sweep["predicted"][f"{b:g}"]["style"] for b in betas]}
    known = {"sweep": sweep, "half": half, "BETAS": betas, "predicted": predicted}
    namespace = known | {"math": math, "np": np}
    for source in cells("07", "starts = {run", 3):
        exec(compile(source, "chapter 7", "exec"), namespace)


def test_the_sweep_carries_the_conclusion():
    weigh()


@pytest.mark.parametrize(
    ("sweep", "bases"),
    [
        (lambda r: relabelled(r, "labels", "soft", "sampled"), None),
        (lambda r: relabelled(r, "labels", "soft", "deterministic"), None),
        (lambda r: relabelled(r, "beta", 2.0, 4.0), None),
        (lambda r: [{**run, "kl": {"value": 0.0}} for run in r], None),
        (None, lambda b: [{**base, "style": {"value": 0.25}} for base in b]),
        (None, lambda b: [{**base, "style": {"value": 0.35}} for base in b]),
    ],
    ids=["soft is sampled", "soft is hard", "betas", "KL is free", "low bases", "high bases"],
)
def test_another_sweep_does_not(sweep, bases):
    with pytest.raises(AssertionError):
        weigh(sweep or (lambda runs: runs), bases or (lambda rows: rows))
