"""What chapter 10 concludes from its stored runs fails where the runs say something else.

The chapter's cells run once on the stored files, without those that draw, train or ask the reader. Then each cell that
concludes runs again, on runs in which two arms are exchanged, or an arm or a seed is missing.
"""

import copy
import sys

import pytest

import sources

CHAPTER = next(path for path in sources.chapters() if path.stem.startswith("10"))
LEFT_OUT = ("TemporaryDirectory",)
LINES = {  # a line of the cell that concludes, and where its runs stand
    "labels": 'lead = arms.gaps(runs["labels"], "sampled dpo", "sampled sft")',
    "source": 'lead = arms.gaps(runs["source"], "on-policy dpo", "population dpo")',
    "negatives": '("checker sft", "malformed dpo"),',
    "noise": 'for epsilon in ("0.2", "0.4"):',
    "length": "cured = arms.gaps(length,",
    "amount": '("1600 once dpo", "1600 once sft"),',
    "iterate": 'start = [run | {"J3": run["reward"]}',
    "finals": '("demonstrations", "start", "J"),',
    "finals@k": 'arms.beats(finals, "start", "dpo 1", "both@64")',
}
CONCLUSIONS = [  # arms that must not change places
    ("labels", ("sampled dpo", "sampled sft")),
    ("labels", ("kept sft", "sampled dpo")),
    ("labels", ("dropped sft", "sampled dpo")),
    ("labels", ("sampled sft", "base")),
    ("labels", ("base", "dropped dpo")),
    ("source", ("other dpo", "other sft")),
    ("source", ("checker sft", "checker dpo")),
    ("source", ("population sft", "population dpo")),
    ("source", ("base", "on-policy dpo")),
    ("source", ("base", "other dpo")),
    ("negatives", ("far dpo", "malformed dpo")),
    ("negatives", ("checker sft", "checker dpo")),
    ("noise", ("0.2 dpo", "0.2 sft")),
    ("noise", ("0.4 dpo", "0.4 sft")),
    ("noise", ("0.4 sft", "base")),
    ("length", ("all dpo", "skewed dpo")),
    ("length", ("skewed dpo", "balanced dpo")),
    ("length", ("skewed dpo", "skewed sft")),
    ("length", ("all sft", "base")),
    ("amount", ("6400 sft", "6400 dpo")),
    ("amount", ("1600 once dpo", "1600 dpo")),
    ("amount", ("1600 once dpo", "1600 once sft")),
    ("amount", ("base", "400 dpo")),
    ("amount", ("400 sft", "400 dpo")),
    ("iterate", ("moved", "fixed")),
    ("iterate", ("fixed", "imitation")),
    ("finals", ("imitation", "demonstrations")),
    ("finals", ("demonstrations", "start")),
    ("finals", ("imitation", "dpo 1")),
    ("finals", ("start", "dpo 0.1")),
    ("finals@k", ("imitation", "start")),
    ("finals@k", ("start", "dpo 1")),
]
BASELINES = [  # without these nothing may be concluded
    ("labels", "sampled sft"),
    ("labels", "base"),
    ("source", "checker sft"),
    ("source", "base"),
    ("negatives", "checker sft"),
    ("noise", "0.2 sft"),
    ("noise", "base"),
    ("length", "skewed sft"),
    ("length", "base"),
    ("amount", "6400 sft"),
    ("amount", "1600 once sft"),
    ("amount", "base"),
    ("iterate", "imitation"),
    ("finals", "start"),
    ("finals", "imitation"),
    ("finals@k", "start"),
]


def code():
    """The cells that run here: neither drawn, nor trained, nor asked."""
    for cell in sources.cells(CHAPTER):
        tags = cell.metadata.get("tags", [])
        left_out = {"exercise", "figure", "nbval-ignore-output"} & set(tags)
        wanted = cell.kind == "code" and not left_out
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


def stored_runs(chapter, place):
    """The list of runs that a conclusion is drawn from; the negatives' rivals stand among those of `source`."""
    if place.startswith("finals"):
        return chapter["finals"]
    return chapter["runs"][place]


def conclude(chapter, place, change):
    """Run the cell that concludes, on changed runs; then put the runs back."""
    (source,) = [source for source in code() if LINES[place] in source]
    places = ("source", "negatives") if place == "negatives" else (place,)
    lists = [stored_runs(chapter, name) for name in places]
    kept = copy.deepcopy(lists)
    try:
        changed = change(
            [run | {"of": i} for i, runs in enumerate(lists) for run in copy.deepcopy(runs)]
        )
        for i, runs in enumerate(lists):
            runs[:] = [run for run in changed if run["of"] == i]
        exec(compile(source, place, "exec"), chapter)
    finally:
        for runs, before in zip(lists, kept, strict=True):
            runs[:] = before


def exchanged(runs, one, other):
    names = {one: other, other: one}
    return [{**run, "name": names.get(run["name"], run["name"])} for run in runs]


@pytest.mark.parametrize("place", LINES)
def test_the_stored_runs_carry_the_conclusion(chapter, place):
    conclude(chapter, place, lambda runs: runs)


@pytest.mark.parametrize(("place", "arms"), CONCLUSIONS)
def test_exchanged_arms_do_not(chapter, place, arms):
    """Guards against assertions that would let any result pass."""
    with pytest.raises((AssertionError, ValueError)):
        conclude(chapter, place, lambda runs: exchanged(runs, *arms))


@pytest.mark.parametrize(("place", "arm"), BASELINES)
def test_without_a_baseline_nothing_is_concluded(chapter, place, arm):
    with pytest.raises((AssertionError, ValueError)):
        conclude(chapter, place, lambda runs: [run for run in runs if run["name"] != arm])


@pytest.mark.parametrize("place", LINES)
def test_two_seeds_are_too_few(chapter, place):
    with pytest.raises((AssertionError, ValueError)):
        conclude(chapter, place, lambda runs: [run for run in runs if run["seed"] < 2])


def test_a_lead_that_the_seeds_dispute_is_not_claimed(chapter):
    """On sampled labels DPO leads in two seeds of three: were it ahead in all, the text would have to say so."""

    def ahead(runs):
        for run in runs:
            if run["name"] == "sampled dpo":
                run["J"]["value"] += 0.05
        return runs

    with pytest.raises(AssertionError):
        conclude(chapter, "labels", ahead)
