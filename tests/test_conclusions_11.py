"""What chapter 11 concludes from its recording fails where the runs say something else.

The cells that load the recording and those that conclude are taken from the chapter and run on the stored file, then on
files in which two arms are exchanged, an arm, a baseline or a seed is missing, or all seeds are the same one.
"""

import ast
import copy
import json

import matplotlib
import pytest

import sources
from dpo_core import arms

DATA = sources.CHAPTERS / "data"
(CHAPTER,) = [path for path in sources.chapters() if path.stem.startswith("11")]
CODE = [cell.source for cell in sources.cells(CHAPTER) if cell.kind == "code"]
STORED = json.loads((DATA / "family_labels.json").read_text(encoding="utf-8"))
KINDS = ("soft", "sampled", "deterministic")
# in the chapter's order: its imports, the names of the losses, the recording, and what is concluded
CELLS = ("import copy", "toy = Problem(", 'Path("data/family_labels.json")', "# concluded")


@pytest.fixture(scope="module")
def known():
    """The chapter's namespace before it comes to the recording."""
    matplotlib.use("Agg")
    namespace: dict = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(sources.CHAPTERS))
        for opening in CELLS[:2]:
            exec(compile(cells(opening)[0], opening, "exec"), namespace)
    return namespace


def cells(opening):
    """The sources of the code cells with this in them."""
    found = [source for source in CODE if opening in source]
    assert found, opening
    return found


def conclude(known, stored, folder, monkeypatch):
    """Run the cells that load the recording, then those that conclude from it."""
    (folder / "data").mkdir()
    (folder / "data" / "family_labels.json").write_text(json.dumps(stored), encoding="utf-8")
    monkeypatch.chdir(folder)
    namespace = dict(known)
    for opening in CELLS[2:]:
        for source in cells(opening):
            exec(compile(source, opening, "exec"), namespace)
    return namespace


def with_runs(change, kinds=KINDS):
    """The recording with the runs of these kinds of label changed."""
    stored = copy.deepcopy(STORED)
    stored["runs"] = [
        run
        for kind in KINDS
        for run in (change if kind in kinds else list)(
            [run for run in stored["runs"] if run["labels"] == kind]
        )
    ]
    return stored


def exchanged(one, other):
    names = {one: other, other: one}
    return lambda runs: [{**run, "name": names.get(run["name"], run["name"])} for run in runs]


def without(name):
    return lambda runs: [run for run in runs if run["name"] != name]


def without_seed(seed):
    return lambda runs: [run for run in runs if run["seed"] != seed]


def one_seed(runs):
    return [{**run, "seed": 0} for run in runs]


def fails(known, stored, folder, monkeypatch):
    with pytest.raises((AssertionError, ValueError, KeyError, IndexError)):
        conclude(known, stored, folder, monkeypatch)


def claims():
    """The comparisons that the chapter asserts, as it has them."""
    found: dict = {}
    for source in cells("CLAIMS"):
        for node in ast.parse(source).body:
            if isinstance(node, ast.Assign) and "CLAIMS" in ast.unparse(node.targets[0]):
                value = ast.literal_eval(node.value)
                slot = getattr(node.targets[0], "slice", None)
                found |= value if slot is None else {ast.literal_eval(slot): value}
    return [(kind, *pair) for kind, pairs in found.items() for pair in pairs]


def test_the_recording_carries_the_conclusions(known, tmp_path, monkeypatch):
    conclude(known, STORED, tmp_path, monkeypatch)


def test_every_kind_of_label_is_held_against_imitation_of_its_own_file():
    """Guards against a table of losses without the naive baseline."""
    assert {kind for kind, *pair in claims() if "sft" in pair} == set(KINDS)


@pytest.mark.parametrize("claim", claims(), ids=" ".join)
def test_an_inequality_is_that_of_the_runs_and_fails_when_its_arms_are_exchanged(
    claim, known, tmp_path, monkeypatch
):
    kind, one, other = claim
    runs = [run for run in STORED["runs"] if run["labels"] == kind] + STORED["best_of_n"]
    assert arms.beats(runs, one, other)
    if one.startswith("best of") or other.startswith("best of"):
        stored = copy.deepcopy(STORED)  # its answers are worth no more than the base model's
        for run in stored["best_of_n"]:
            run["J"]["value"] += -1.0 if one.startswith("best of") else 1.0
    else:
        stored = with_runs(exchanged(one, other), [kind])
    fails(known, stored, tmp_path, monkeypatch)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "change",
    [without("sft"), without("base"), without("sigmoid"), without_seed(2), one_seed],
    ids=["no imitation", "no base model", "no DPO", "a seed missing", "all of one seed"],
)
def test_nothing_is_concluded_without(change, kind, known, tmp_path, monkeypatch):
    fails(known, with_runs(change, [kind]), tmp_path, monkeypatch)


def test_nothing_is_concluded_without_best_of_n(known, tmp_path, monkeypatch):
    fails(known, STORED | {"best_of_n": []}, tmp_path, monkeypatch)


def test_the_settings_shown_are_the_best_of_those_tried():
    """A setting chosen on the reported draws, or a loss given fewer tries than another."""
    tried: dict = {}
    for t in STORED["tries"]:
        tried.setdefault((t["labels"], t["name"]), []).append((t["J"]["value"], t["setting"]))
    assert {len(of) for of in tried.values()} == {4}
    for run in STORED["runs"]:
        if run["name"] != "base":
            assert run["setting"] == max(tried[run["labels"], run["name"]])[1]
