"""Every equality of the derivation holds on twenty random instances and more, and every assertion of one can fail.

Cells tagged `proof` assert an identity on INSTANCES random instances drawn from SEED; they need nothing but the
chapter's first code cell, the cells tagged `setup`, and the proof cells before them. Here they run again with other
seeds, and then with each of the planted errors of tests/planted.
"""

import ast
import traceback
from dataclasses import replace
from functools import cache

import pytest

import sources
from planted import planted

FEWEST_INSTANCES = 20
FEWEST_PROOFS = 3
SEED = "SEED = 0"
NUMBERED = {int(path.stem[:2]): path for path in sources.chapters()}


def tagged(cell, tag):
    return cell.kind == "code" and tag in cell.metadata.get("tags", [])


def proves(cell):
    """Whether a cell proves an identity; what a chapter concludes of its runs is the business of test_conclusions_*."""
    return tagged(cell, "proof") and not cell.source.startswith("# concluded")


def plan(cells):
    """The cells that proofs need, in order: the first code cell, those tagged `setup`, and the proofs."""
    code = [cell for cell in cells if cell.kind == "code"]
    return code[:1] + [cell for cell in code[1:] if tagged(cell, "setup") or proves(cell)]


def run(source, name, namespace):
    """Execute one cell; tracebacks know it as `name`."""
    exec(compile(source, name, "exec"), namespace)


def assertions(source):
    """The lines of every assert statement of a cell, in order, each as a range."""
    found = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Assert)]
    return [
        range(node.lineno, node.end_lineno + 1)
        for node in sorted(found, key=lambda node: node.lineno)
    ]


def failed_assertion(source, name, namespace):
    """Which assert statement (0, 1, ...) of `source` fails; None if all hold. Any other exception is raised."""
    try:
        run(source, name, namespace)
    except AssertionError as error:
        lines = [
            frame.lineno
            for frame in traceback.extract_tb(error.__traceback__)
            if frame.filename == name
        ]
        hit = [
            number for number, span in enumerate(assertions(source)) if lines and lines[-1] in span
        ]
        if hit:
            return hit[-1]
        raise
    return None


def survey(cells, entries):
    """Run a chapter's proofs with each planted error in turn.

    Returns:
        outcomes: what became of each entry, by its name: the (cell, assertion) that failed, or a complaint.
        unfailed: the (cell, assertion) pairs that no entry fails.
    """
    steps, outcomes, everything = plan(cells), {}, set()
    proofs = [cell for cell in steps if proves(cell)]
    for name, old, _ in entries:
        if (times := sum(cell.source.count(old) for cell in proofs)) != 1:
            outcomes[name] = f"occurs {times} times in the proof cells: {old!r}"
    namespace = {"__name__": "__main__"}
    for cell in steps:
        if proves(cell):
            everything |= {(cell.number, number) for number in range(len(assertions(cell.source)))}
            for name, old, new in entries:
                if name in outcomes or old not in cell.source:
                    continue
                try:
                    failed = failed_assertion(
                        cell.source.replace(old, new), f"<{cell.where}>", dict(namespace)
                    )
                    outcomes[name] = (
                        "no assertion noticed it" if failed is None else (cell.number, failed)
                    )
                except Exception as error:
                    outcomes[name] = (
                        f"{type(error).__name__}, where an assertion should fail: {error}"
                    )
        run(cell.source, f"<{cell.where}>", namespace)
    return outcomes, everything - set(outcomes.values())


@cache
def surveyed(chapter):
    return survey(sources.cells(NUMBERED[chapter]), planted(chapter))


# Chapters that draw instances. A proof cell of another chapter checks a result, not an identity: tests/test_conclusions_*.
PROVED = [
    chapter
    for chapter, path in NUMBERED.items()
    if any(SEED in cell.source for cell in plan(sources.cells(path)))
]
CHAPTERS = pytest.mark.parametrize("chapter", PROVED)
ENTRIES = [(chapter, entry[0]) for chapter in PROVED for entry in planted(chapter)]


@pytest.fixture(autouse=True)
def like_a_kernel(monkeypatch):
    monkeypatch.chdir(sources.CHAPTERS)
    monkeypatch.setenv("MPLBACKEND", "Agg")


def test_the_chapters_of_the_derivation_have_proofs():
    assert {5, 6, 7, 8} & set(NUMBERED) <= set(PROVED)


def few_instances(cells):
    """The proofs that neither name INSTANCES nor read or make a tensor with that many entries along a dimension."""
    namespace, found = {"__name__": "__main__"}, []
    for cell in plan(cells):
        run(cell.source, f"<{cell.where}>", namespace)
        names = {node.id for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Name)}
        shapes = [getattr(namespace.get(name), "shape", ()) for name in names]
        sizes = [size for shape in shapes if isinstance(shape, tuple) for size in shape]
        # with both tags it is a case by hand
        proof = proves(cell) and not tagged(cell, "setup")
        if proof and "INSTANCES" not in names and max(sizes, default=0) < namespace["INSTANCES"]:
            found.append(cell.where)
    assert namespace["INSTANCES"] >= FEWEST_INSTANCES
    return found


@cache
def few_instances_drawn_from(chapter, seed):
    """`few_instances` of a chapter whose instances come from another seed than the page's."""
    cells = sources.cells(NUMBERED[chapter])
    assert sum(cell.source.count(SEED) for cell in plan(cells)) == 1, (
        f"one line of a setup cell reads {SEED}"
    )
    return few_instances(
        [replace(cell, source=cell.source.replace(SEED, f"SEED = {seed}")) for cell in cells]
    )


@CHAPTERS
def test_a_proof_has_twenty_instances(chapter):
    """Guards against an identity that is shown on one lucky example."""
    cells = sources.cells(NUMBERED[chapter])
    assert sum(proves(cell) for cell in cells) >= FEWEST_PROOFS
    assert few_instances_drawn_from(chapter, seed=1) == []


@CHAPTERS
@pytest.mark.parametrize("seed", [1, 2])
def test_proofs_hold_for_other_seeds(chapter, seed):
    """Guards against a tolerance that fits the instances of the page."""
    few_instances_drawn_from(chapter, seed=seed)


@pytest.mark.parametrize(
    ("chapter", "name"), ENTRIES, ids=[f"{chapter}-{name}" for chapter, name in ENTRIES]
)
def test_a_planted_error_fails_an_assertion(chapter, name):
    assert isinstance(outcome := surveyed(chapter)[0][name], tuple), outcome


@CHAPTERS
def test_every_assertion_of_a_proof_can_fail(chapter):
    """Guards against an assert that no wrong formula fails; the pairs are (cell, assertion)."""
    assert surveyed(chapter)[1] == set()


# ---------------------------------------------------------------- the tests' own tests

SAMPLE = [
    ("import math", []),
    ("SEED = 0\nINSTANCES = 20\nxs = [SEED + n for n in range(INSTANCES)]", ["setup"]),
    ("raise RuntimeError", []),
    (
        "double = [2 * x for x in xs]\nassert double == [x + x for x in xs]\nassert len(double) > 0",
        ["proof"],
    ),
    ("assert sum(double) == 2 * sum(xs)", ["proof"]),
]


def sample():
    return [
        sources.Cell("99_sample.py", n, "code", text, {"tags": tags})
        for n, (text, tags) in enumerate(SAMPLE, 1)
    ]


def test_a_proof_on_one_example_is_found():
    """The sample's proofs read lists: no tensor of theirs has twenty entries."""
    assert few_instances(sample()) == ["99_sample.py, cell 4", "99_sample.py, cell 5"]


def test_the_survey_finds_what_fails_and_what_cannot():
    entries = [
        ("triple", "2 * x for", "3 * x for"),
        ("sum", "2 * sum", "3 * sum"),
        ("harmless", "len(double) > 0", "len(double) >= 0"),
        ("crash", "double = [2 * x", "double = [1 / 0 * x"),
        ("absent", "nothing like it", ""),
        ("ambiguous", "assert", "assert not"),
    ]
    outcomes, unfailed = survey(sample(), entries)
    assert outcomes["triple"] == (4, 0) and outcomes["sum"] == (5, 0)
    assert outcomes["harmless"] == "no assertion noticed it"
    assert "ZeroDivisionError" in outcomes["crash"]
    assert "occurs 0 times" in outcomes["absent"] and "occurs 3 times" in outcomes["ambiguous"]
    assert unfailed == {(4, 1)}
