"""What chapter 9 concludes from its stored runs fails where the runs say something else.

The cells that draw a conclusion are taken from the chapter and run on the stored files, then on files in which two arms
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
NAMES = ("dpo_arms", "hot_imitation", "dpo_longer", "seeds")
STORED = {name: json.loads((DATA / f"{name}.json").read_text(encoding="utf-8")) for name in NAMES}
TABLE, CLOSED = "def table(", "ref_probs, worth ="
LOADED = ('Path("data/dpo_arms.json")', 'Path("data/dpo_longer.json")', "by_run = {}")
CONCLUDED = {  # the cell that concludes, by a line in it
    "arms": "# concluded from the arms",
    "less": "# concluded of what helps less",
    "one by one": "# concluded of the arms, one by one",
    "longer": "# concluded of the longer runs",
    "recipe": "# concluded of the shipped recipe",
    "anatomy": "# concluded from the grid",
    "ruined": "# concluded of the ruined runs",
    "causes": "# concluded of every run",
    "reports": "# concluded of exercise 9.8",
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
        "classes": class_problem(task, "style+exact"),
    }  # fmt: skip
    for opening in (TABLE, CLOSED):
        exec(compile(source(opening), opening, "exec"), known)
    return known


def conclude(known, part, folder, monkeypatch, **changed):
    """Run the cells that load the stored runs, then the one that concludes."""
    (folder / "data").mkdir()
    for name, content in (STORED | changed).items():
        (folder / "data" / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    monkeypatch.chdir(folder)
    namespace = dict(known)
    for opening in (*LOADED, CONCLUDED[part]):
        exec(compile(source(opening), opening, "exec"), namespace)


def exchanged(one, other, by="name"):
    names = {one: other, other: one}
    return lambda runs: [{**run, by: names.get(run[by], run[by])} for run in runs]


def without(value, by="name"):
    return lambda runs: [run for run in runs if run[by] != value]


def shifted(runs, by):
    """As if every run had reached more, or less."""
    return [{**run, "J": {part: value + by for part, value in run["J"].items()}} for run in runs]


def one_seed(runs):
    return [{**run, "seed": 0} for run in runs]


def its_base(runs):
    """What the DPO models are measured as, if their base models stand in their place."""
    return [{**run, "dpo": run["base"] | {"kl": {"value": 0.0}}} for run in runs]


def base_model(runs):
    """As if the longer trainings had left the base models where they were."""
    (start,) = [
        run for run in STORED["dpo_arms"]["runs"] if (run["name"], run["seed"]) == ("base", 0)
    ]
    return [{**run, **{k: start[k] for k in ("J", "exact", "unwritten")}} for run in runs]


MISTAKES = [  # what is concluded, from which file, which list in it, how it is changed
    ("arms", "dpo_arms", "runs", exchanged("imitation, no ties", "dpo soft")),
    ("arms", "dpo_arms", "runs", exchanged("imitation, no ties", "imitation")),
    ("arms", "dpo_arms", "runs", exchanged("imitation, no ties", "sft term")),
    ("arms", "dpo_arms", "runs", exchanged("dpo soft", "dpo deterministic")),
    ("arms", "dpo_arms", "runs", exchanged("early stop", "ipo")),
    ("arms", "dpo_arms", "runs", exchanged("base", "dpo deterministic")),
    ("arms", "dpo_arms", "runs", without("imitation, no ties")),
    ("arms", "dpo_arms", "runs", without("imitation")),
    ("arms", "dpo_arms", "runs", without("base")),
    ("arms", "dpo_arms", "runs", without(1, "seed")),
    ("arms", "dpo_arms", "runs", one_seed),
    ("arms", "dpo_arms", "runs", exchanged("hot soft", "ipo")),
    ("arms", "hot_imitation", "runs", lambda runs: []),
    ("arms", "hot_imitation", "runs", without(1, "seed")),
    ("arms", "hot_imitation", "runs", lambda runs: shifted(runs, 0.1)),
    ("arms", "hot_imitation", "runs", lambda runs: shifted(runs, -0.1)),
    ("less", "dpo_arms", "runs", exchanged("beta 1", "early stop")),
    ("less", "dpo_arms", "runs", exchanged("dpo soft", "beta 1")),
    ("less", "dpo_arms", "runs", exchanged("dpo soft", "imitation")),
    ("less", "dpo_arms", "runs", without("base")),
    ("less", "hot_imitation", "runs", lambda runs: []),
    ("one by one", "hot_imitation", "runs", lambda runs: shifted(runs, 0.1)),
    ("recipe", "hot_imitation", "most", lambda ends: [{**end, "J": 1.6} for end in ends]),
    ("recipe", "hot_imitation", "most", lambda ends: ends[:2]),
    ("one by one", "dpo_arms", "runs", exchanged("hot soft", "sft term")),
    ("one by one", "dpo_arms", "runs", exchanged("smoothing", "hot soft")),
    ("one by one", "dpo_arms", "runs", without("early stop")),
    ("longer", "dpo_longer", "runs", exchanged("longer", "shipped")),
    ("longer", "dpo_longer", "runs", without("longer")),
    ("longer", "dpo_longer", "runs", without(2, "seed")),
    ("longer", "dpo_longer", "runs", one_seed),
    ("longer", "dpo_longer", "runs", base_model),
    ("longer", "dpo_arms", "runs", exchanged("base", "dpo deterministic")),
    ("longer", "dpo_arms", "runs", without("sft term")),
    ("longer", "dpo_arms", "runs", without("imitation, no ties")),
    ("longer", "dpo_arms", "runs", without(0, "seed")),
    ("recipe", "dpo_arms", "runs", without("imitation, no ties")),
    ("recipe", "dpo_arms", "runs", without("sft term")),
    ("recipe", "dpo_arms", "runs", one_seed),
    ("recipe", "seeds", "seeds", its_base),
    ("recipe", "seeds", "seeds", without(2, "seed")),
    ("recipe", "dpo_longer", "runs", exchanged("longer", "shipped")),
    ("anatomy", "dpo_arms", "grid", exchanged("dpo soft", "dpo deterministic")),
    ("anatomy", "dpo_arms", "grid", exchanged(3e-4, 1e-3, "rate")),
    ("anatomy", "dpo_arms", "grid", exchanged(3e-4, 1e-4, "rate")),
    ("anatomy", "dpo_arms", "grid", without(2, "seed")),
    ("ruined", "dpo_arms", "grid", exchanged("dpo soft", "dpo deterministic")),
    ("ruined", "dpo_arms", "grid", exchanged(3e-4, 1e-3, "rate")),
    ("causes", "dpo_arms", "grid", lambda runs: [{**r, "forward_kl": r["kl"]} for r in runs]),
    ("causes", "dpo_arms", "grid", lambda runs: []),
    ("reports", "dpo_arms", "grid", exchanged("dpo soft", "dpo deterministic")),
    ("reports", "dpo_longer", "runs", exchanged("longer", "shipped")),
]  # fmt: skip


@pytest.mark.parametrize("part", CONCLUDED)
def test_the_stored_runs_carry_the_conclusion(part, known, tmp_path, monkeypatch):
    conclude(known, part, tmp_path, monkeypatch)


@pytest.mark.parametrize(("part", "file", "key", "change"), MISTAKES)
def test_other_runs_do_not(part, file, key, change, known, tmp_path, monkeypatch):
    """Guards against assertions that would let any result pass, and a recipe praised whatever it reached."""
    content = {**STORED[file], key: change(copy.deepcopy(STORED[file][key]))}
    with pytest.raises((AssertionError, ValueError, KeyError)):
        conclude(known, part, tmp_path, monkeypatch, **{file: content})


def test_the_two_longer_runs_differ_in_one_thing():
    """Guards against a verdict on temperatures from runs that differ in more than that."""
    settings = STORED["dpo_longer"]["settings"]
    (longer, *rest), (shipped, *others) = settings["runs"]["longer"], settings["runs"]["shipped"]
    assert rest == others and settings["temperatures"] == {"soft": [1.0], "hot": [1.5, 2.0]}
    assert (longer, shipped) == ("soft", "hot")
    for name in ("beta", "batch_size", "report_seed", "n_report"):  # one footing with the arms
        assert settings[name] == STORED["dpo_arms"]["settings"][name]


def test_the_end_of_imitation_without_ties(known):
    """Guards against a remedy praised beside a baseline that nobody computed: style .671, exact .953, KL .461, J 1.508."""
    end = known["ends"]["imitation, no ties"]
    found = [round(float(end[name]), 3) for name in ("style", "exact", "kl", "J")]
    assert found == [0.671, 0.953, 0.461, 1.508]
