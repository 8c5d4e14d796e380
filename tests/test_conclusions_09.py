"""What chapter 9 concludes from its stored runs fails where the runs say something else.

The cells that draw a conclusion are taken from the chapter and run on the stored file, then on files in which two arms
are exchanged, an arm, a baseline or a seed is missing, or all seeds are the same one.
"""

import copy
import json
import math
from pathlib import Path

import numpy as np
import pytest

import sources
from dpo_core import arms, tabular
from dpo_core.task import BookTask
from dpo_core.theory import class_problem, predicted_optimum, predicted_shares

(CHAPTER,) = [path for path in sources.chapters() if path.stem.startswith("09")]
CODE = [cell.source for cell in sources.cells(CHAPTER) if cell.kind == "code"]
DATA = sources.CHAPTERS / "data"
STORED = json.loads((DATA / "dpo_arms.json").read_text(encoding="utf-8"))
SHIPPED = json.loads((DATA / "seeds.json").read_text(encoding="utf-8"))
CLOSED, LOADED, NAMED = "ref_probs, worth =", 'Path("data/dpo_arms.json")', 'runs = stored["runs"]'
CONCLUDED = {  # the cells that conclude, by a line in them
    "anatomy": ["# concluded from the grid"],
    "causes": ["# concluded of every run"],
    "remedies": ["# concluded from the arms", 'assert arms.beats(runs, "hot soft", "dpo soft")'],
    "recipe": ["# concluded of the shipped recipe"],
}


def source(opening):
    (found,) = [text for text in CODE if opening in text]
    return found


@pytest.fixture(scope="module")
def known():
    """What the chapter has computed when it comes to its stored runs."""
    task = BookTask()
    theory = predicted_optimum(task, "style+exact", 0.25)
    known = {
        "np": np, "math": math, "json": json, "Path": Path, "arms": arms, "tabular": tabular,
        "predicted_shares": predicted_shares, "task": task, "beta": 0.25, "theory": theory,
        "classes": class_problem(task, "style+exact"), "NAMES": ("style", "exact", "both", "kl", "reward", "J"),
    }  # fmt: skip
    exec(compile(source(CLOSED), "closed forms", "exec"), known)
    return known


def conclude(known, part, stored, folder, monkeypatch, recipe=SHIPPED):
    """Run the cells that load the stored runs, then those that conclude."""
    (folder / "data").mkdir()
    for name, content in (("dpo_arms", stored), ("seeds", recipe)):
        (folder / "data" / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    monkeypatch.chdir(folder)
    namespace = dict(known)
    for opening in (LOADED, NAMED, *CONCLUDED[part]):
        exec(compile(source(opening), opening, "exec"), namespace)


def changed(key, change):
    return {**STORED, key: change(copy.deepcopy(STORED[key]))}


def exchanged(one, other, by="name"):
    names = {one: other, other: one}
    return lambda runs: [{**run, by: names.get(run[by], run[by])} for run in runs]


def without(value, by="name"):
    return lambda runs: [run for run in runs if run[by] != value]


def one_seed(runs):
    return [{**run, "seed": 0} for run in runs]


MISTAKES = [
    ("anatomy", "grid", exchanged("dpo soft", "dpo deterministic")),
    ("anatomy", "grid", exchanged(3e-4, 1e-3, "rate")),
    ("anatomy", "grid", exchanged(3e-4, 1e-4, "rate")),
    ("anatomy", "grid", without(2, "seed")),
    ("remedies", "runs", exchanged("imitation, no ties", "dpo soft")),
    ("remedies", "runs", exchanged("imitation, no ties", "imitation")),
    ("remedies", "runs", exchanged("imitation, no ties", "sft term")),
    ("remedies", "runs", exchanged("dpo soft", "dpo deterministic")),
    ("remedies", "runs", exchanged("early stop", "ipo")),
    ("remedies", "runs", exchanged("base", "dpo deterministic")),
    ("remedies", "runs", without("imitation, no ties")),
    ("remedies", "runs", without("imitation")),
    ("remedies", "runs", without("base")),
    ("remedies", "runs", without(1, "seed")),
    ("remedies", "runs", one_seed),
    ("recipe", "runs", without("imitation, no ties")),
    ("recipe", "runs", without("sft term")),
    ("recipe", "runs", one_seed),
    ("causes", "grid", lambda runs: [{**run, "forward_kl": run["kl"]} for run in runs]),
    ("causes", "grid", lambda runs: []),
]


@pytest.mark.parametrize("part", CONCLUDED)
def test_the_stored_runs_carry_the_conclusion(part, known, tmp_path, monkeypatch):
    conclude(known, part, STORED, tmp_path, monkeypatch)


@pytest.mark.parametrize(("part", "key", "change"), MISTAKES)
def test_other_runs_do_not(part, key, change, known, tmp_path, monkeypatch):
    """Guards against assertions that would let any result pass."""
    with pytest.raises((AssertionError, ValueError, KeyError)):
        conclude(known, part, changed(key, change), tmp_path, monkeypatch)


def test_another_recipe_does_not(known, tmp_path, monkeypatch):
    """Guards against a shipped model that is praised whatever it reached: here its base model stands in its place."""
    swapped = {
        "seeds": [
            {**entry, "dpo": entry["base"] | {"kl": {"value": 0.0}}} for entry in SHIPPED["seeds"]
        ]
    }
    two = {"seeds": SHIPPED["seeds"][:2]}
    for name, recipe in (("swapped", swapped), ("two", two)):
        (tmp_path / name).mkdir()
        with pytest.raises(AssertionError):
            conclude(known, "recipe", STORED, tmp_path / name, monkeypatch, recipe)


def test_the_end_of_imitation_without_ties(known):
    """Guards against a remedy praised beside a baseline that nobody computed: style .671, exact .953, KL .461, J 1.508."""
    end = known["ends"]["imitation, no ties"]
    found = [round(float(end[name]), 3) for name in ("style", "exact", "kl", "J")]
    assert found == [0.671, 0.953, 0.461, 1.508]
