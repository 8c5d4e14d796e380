"""What chapter 3 concludes from its stored runs fails where the runs say something else.

The cells that draw a conclusion are taken from the chapter and run on the stored file, and then on files in which two
arms are exchanged, or an arm or a seed is missing.
"""

import copy
import json
import math
from pathlib import Path

import numpy as np
import pytest

import sources
from dpo_core import BookTask, arms
from dpo_core.plotting import COLORS, figure

(CHAPTER,) = (path for path in sources.chapters() if path.stem.startswith("03"))
DATA = CHAPTER.parent / "data"
HELD, SHORT = "held_out.json", "sft_optimizers.json"


def cell(opening):
    """The source of the first code cell that has `opening` in it."""
    code = [cell.source for cell in sources.cells(CHAPTER) if cell.kind == "code"]
    return next(source for source in code if opening in source)


def exchanged(one, other):
    """A change of the runs: two arms with each other's names."""
    names = {one: other, other: one}
    return lambda runs: [{**run, "name": names.get(run["name"], run["name"])} for run in runs]


def without(key, value):
    return lambda runs: [run for run in runs if run[key] != value]


def conclude(opening, name, change, folder):
    """Run the cells of the chapter that have `opening` on the stored file, changed."""
    stored = json.loads((DATA / name).read_text(encoding="utf-8"))
    stored["runs"] = change(copy.deepcopy(stored["runs"]))
    (folder / "data").mkdir()
    (folder / "data" / name).write_text(json.dumps(stored), encoding="utf-8")
    task = BookTask()
    weights = np.array(list(task.prompt_distribution.values()))
    known = {"json": json, "Path": Path, "arms": arms, "np": np, "math": math, "task": task}
    known |= {"prompt_entropy": float(-(weights * np.log(weights)).sum()), "texts": lambda _: []}
    known |= {"COLORS": COLORS, "figure": figure, "table": task.table}
    for source in map(cell, opening):
        exec(compile(source, name, "exec"), known)


CHAPTER_CELLS = {  # the cells that conclude, by a piece of each; a later one needs what an earlier one made
    "masks": (SHORT, ["masks = {"]),
    "optimisers": (SHORT, ["masks = {", "names = {"]),
    "unseen": (HELD, ["WHO = {"]),
    "beyond": (HELD, ["WHO = {", 'for side in ("below"']),
    "rim": (HELD, ["WHO = {", "rim, unseen = "]),
    "stored": (HELD, ["WHO = {", 'for new, old in (("never drawn"']),
}


@pytest.mark.parametrize("what", CHAPTER_CELLS)
def test_the_stored_runs_carry_the_conclusion(what, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name, opening = CHAPTER_CELLS[what]
    conclude(opening, name, lambda runs: runs, tmp_path)


PLANTED = [
    ("masks", exchanged("muon", "muon_all")),
    ("masks", without("name", "muon_all")),
    ("masks", without("seed", 2)),
    ("optimisers", exchanged("muon", "adamw_0.003")),
    ("optimisers", without("name", "adamw_0.01")),
    ("unseen", exchanged("unseen", "nearest")),
    ("unseen", exchanged("unseen", "above")),
    ("unseen", exchanged("everything", "chance")),
    ("unseen", exchanged("table", "seen")),
    ("unseen", exchanged("authors", "below")),
    *[("unseen", without("name", arm)) for arm in ("unseen", "everything", "nearest", "chance")],
    ("unseen", without("name", "table")),
    ("unseen", without("seed", 0)),
    ("beyond", exchanged("below", "seen")),
    ("beyond", exchanged("above", "everything")),
    ("beyond", without("name", "above")),
    ("rim", exchanged("unseen", "everything")),
    ("rim", exchanged("authors", "below")),
    ("stored", exchanged("never drawn", "drawn")),
    ("stored", exchanged("unseen", "everything")),
    ("stored", without("name", "drawn")),
]


@pytest.mark.parametrize(("what", "change"), PLANTED)
def test_other_runs_do_not(what, change, tmp_path, monkeypatch):
    """Guards against assertions that would let any result pass."""
    monkeypatch.chdir(tmp_path)
    name, opening = CHAPTER_CELLS[what]
    with pytest.raises((AssertionError, ValueError)):
        conclude(opening, name, change, tmp_path)


def test_the_recording_keeps_its_prompts_out():
    """Every network has its own twenty; none of the figures of a seen prompt is an unseen one's."""
    networks = json.loads((DATA / HELD).read_text(encoding="utf-8"))["networks"]
    targets = [int(prompt[1:-1]) for prompt in BookTask().prompt_distribution]
    for net in networks:
        assert len(set(net["held"])) == 20 and set(net["held"]) <= set(targets)
        assert not set(net["held"]) & set(net["seen"])
        assert {at["target"] for at in net["targets"]} > set(targets)
    assert len({tuple(net["held"]) for net in networks}) == len(networks) == 3
