"""What chapter 10 concludes from its stored runs fails where the runs say something else.

The chapter's cells run once on the stored files, without those that draw, train or ask the reader. Then each cell that
concludes runs again, on runs in which two arms are exchanged, or an arm or a seed is missing.
"""

import copy
import sys

import pytest

import sources

CHAPTER = next(path for path in sources.chapters() if path.stem.startswith("10"))
LEFT_OUT = "figure(2", "fig, axes", "TemporaryDirectory"
# each conclusion: where its runs stand, a line of its cell, and arms that must not change places
CONCLUSIONS = [
    ("labels", '("kept sft", "sampled dpo"),', ("sampled dpo", "sampled sft")),
    ("labels", '("kept sft", "sampled dpo"),', ("kept sft", "sampled dpo")),
    ("labels", '("kept sft", "sampled dpo"),', ("base", "dropped dpo")),
    ("source", 'for name in ("population", "on-policy", "checker"):', ("other dpo", "other sft")),
    (
        "source",
        'for name in ("population", "on-policy", "checker"):',
        ("checker sft", "checker dpo"),
    ),
    (
        "source",
        'for name in ("population", "on-policy", "checker"):',
        ("on-policy dpo", "population dpo"),
    ),
    ("source", 'for name in ("population", "on-policy", "checker"):', ("base", "on-policy dpo")),
    ("negatives", '("checker sft", "far dpo"),', ("far dpo", "malformed dpo")),
    ("negatives", '("checker sft", "far dpo"),', ("far dpo", "far dpo, lost")),
    ("noise", 'f"{epsilon} dpo", f"{epsilon} sft"', ("0.2 dpo", "0.2 sft")),
    ("noise", 'f"{epsilon} dpo", f"{epsilon} sft"', ("0.4 sft", "base")),
    ("length", 'arms.beats(runs["length"], "all dpo", "skewed dpo")', ("all dpo", "skewed dpo")),
    (
        "length",
        'arms.beats(runs["length"], "all dpo", "skewed dpo")',
        ("skewed dpo", "balanced dpo"),
    ),
    ("length", 'arms.beats(runs["length"], "all dpo", "skewed dpo")', ("all sft", "base")),
    ("amount", '("6400 sft", "6400 dpo"),', ("6400 sft", "6400 dpo")),
    ("amount", '("6400 sft", "6400 dpo"),', ("1600 once dpo", "1600 dpo")),
    ("amount", '("6400 sft", "6400 dpo"),', ("base", "400 dpo")),
    ("amount", '("6400 sft", "6400 dpo"),', ("400 sft", "400 dpo")),
    ("iterate", 'run["J3"] =', ("moved 3", "fixed 3")),
    ("iterate", 'run["J3"] =', ("fixed 1", "imitation 1")),
    ("reach", '("sft 5", "demonstrations 5"),', ("sft 5", "demonstrations 5")),
    ("reach", '("sft 5", "demonstrations 5"),', ("sft 5", "gentle 5")),
    ("reach", '("sft 5", "demonstrations 5"),', ("sft 5", "start")),
    ("reach", '("sft 5", "demonstrations 5"),', ("start", "dpo 5")),
    ("finals", '("start", "dpo 1", "both@64"),', ("imitation", "demonstrations")),
    ("finals", '("start", "dpo 1", "both@64"),', ("demonstrations", "start")),
    ("finals", '("start", "dpo 1", "both@64"),', ("start", "dpo 1")),
]
BASELINES = [  # without these nothing may be concluded
    ("labels", '("kept sft", "sampled dpo"),', "sampled sft"),
    ("labels", '("kept sft", "sampled dpo"),', "base"),
    ("source", 'for name in ("population", "on-policy", "checker"):', "checker sft"),
    ("source", 'for name in ("population", "on-policy", "checker"):', "base"),
    ("noise", 'f"{epsilon} dpo", f"{epsilon} sft"', "0.2 sft"),
    ("length", 'arms.beats(runs["length"], "all dpo", "skewed dpo")', "skewed sft"),
    ("length", 'arms.beats(runs["length"], "all dpo", "skewed dpo")', "base"),
    ("amount", '("6400 sft", "6400 dpo"),', "6400 sft"),
    ("amount", '("6400 sft", "6400 dpo"),', "base"),
    ("iterate", 'run["J3"] =', "imitation 2"),
    ("reach", '("sft 5", "demonstrations 5"),', "start"),
    ("reach", '("sft 5", "demonstrations 5"),', "sft 5"),
    ("finals", '("start", "dpo 1", "both@64"),', "start"),
]


def code():
    """The cells that run here: neither drawn, nor trained, nor asked."""
    for cell in sources.cells(CHAPTER):
        tags = cell.metadata.get("tags", [])
        wanted = cell.kind == "code" and not {"exercise", "nbval-ignore-output"} & set(tags)
        if wanted and not any(mark in cell.source for mark in LEFT_OUT):
            yield cell.source


@pytest.fixture(scope="module")
def chapter():
    """The namespace of the chapter after its cells; they read the stored files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(sources.CHAPTERS)
        patch.setattr(sys, "path", [str(sources.CHAPTERS), *sys.path])
        namespace = {"__name__": "__main__"}
        for number, source in enumerate(code()):
            if number == 1:
                base = namespace["load_pretrained"]("gen")
                own = namespace["on_policy_pairs"](base, namespace["BookTask"](), 200, seed=10)
                namespace |= {"base": base, "own": own}
            exec(compile(source, f"cell {number}", "exec"), namespace)
        yield namespace


def conclude(chapter, place, line, change):
    """Run the cell that has the line, on changed runs; then put the runs back."""
    (source,) = [source for source in code() if line in source]
    runs = chapter[place] if place in ("reach", "finals") else chapter["runs"][place]
    kept = copy.deepcopy(runs)
    try:
        runs[:] = change(copy.deepcopy(kept))
        exec(compile(source, line, "exec"), chapter)
    finally:
        runs[:] = kept


def exchanged(runs, one, other):
    names = {one: other, other: one}
    return [{**run, "name": names.get(run["name"], run["name"])} for run in runs]


@pytest.mark.parametrize(("place", "line"), sorted({entry[:2] for entry in CONCLUSIONS}))
def test_the_stored_runs_carry_the_conclusion(chapter, place, line):
    conclude(chapter, place, line, lambda runs: runs)


@pytest.mark.parametrize(("place", "line", "arms"), CONCLUSIONS)
def test_exchanged_arms_do_not(chapter, place, line, arms):
    """Guards against assertions that would let any result pass."""
    with pytest.raises((AssertionError, ValueError)):
        conclude(chapter, place, line, lambda runs: exchanged(runs, *arms))


@pytest.mark.parametrize(("place", "line", "arm"), BASELINES)
def test_without_a_baseline_nothing_is_concluded(chapter, place, line, arm):
    with pytest.raises((AssertionError, ValueError)):
        conclude(chapter, place, line, lambda runs: [run for run in runs if run["name"] != arm])


@pytest.mark.parametrize(("place", "line"), sorted({entry[:2] for entry in BASELINES}))
def test_two_seeds_are_too_few(chapter, place, line):
    with pytest.raises((AssertionError, ValueError)):
        conclude(chapter, place, line, lambda runs: [run for run in runs if run["seed"] < 2])
