"""Scores trainers on the conformance cases: python -m tests.conformance [--adapter module:Class]

A case is `pass` (what it expects), `convention` (what a named convention gives, explained in the
case), `fail`, or `not asked` (the adapter has no method for its kind). The cases' form and the
adapter's methods are described in README.md beside this file.
"""

import argparse
import importlib
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
KINDS = ("loss", "kto", "logps", "step", "tokens")
DEFAULT = ("tests.conformance.adapters:DpoCore", "tests.conformance.adapters:Trl")


class Refused(Exception):
    """What an adapter raises where its trainer refuses a row or a number. ValueError means the same."""


class NotAsked(Exception):
    """What an adapter raises for a case that its trainer has no code for."""


@dataclass(frozen=True)
class Result:
    """How one adapter did on one case."""

    case: str
    title: dict
    adapter: str
    status: str  # pass, convention, fail, not asked
    difference: float | None  # the largest, of numbers
    note: str


def read_cases(kinds=KINDS):
    """Every case, with its kind and tolerance; numbers that JSON lacks are read from their names."""
    cases = []
    for kind in kinds:
        content = json.loads((HERE / f"{kind}.json").read_text(encoding="utf-8"))
        for case in content["cases"]:
            numbers = {
                k: float(v) for k, v in case.items() if v in ("NaN", "Infinity", "-Infinity")
            }
            cases.append({"kind": kind, "tolerance": content["tolerance"], **case, **numbers})
    return cases


def difference(found, expected):
    """The largest relative difference of two nested answers; inf where they differ in form."""
    if isinstance(expected, dict):
        if not isinstance(found, dict) or set(expected) - set(found):
            return math.inf
        return max((difference(found[k], v) for k, v in expected.items()), default=0.0)
    if isinstance(expected, list):
        if not isinstance(found, (list, tuple)) or len(found) != len(expected):
            return math.inf
        return max((difference(f, e) for f, e in zip(found, expected)), default=0.0)
    if isinstance(expected, int):  # an id, a mark, a boundary
        return 0.0 if found == expected else math.inf
    if not isinstance(found, (int, float)) or not math.isfinite(found):
        return math.inf
    return abs(found - expected) / max(1.0, abs(expected))


def wanted(expect):
    """What an expectation says of the answer itself."""
    return {k: v for k, v in expect.items() if k not in ("refuse", "may_refuse", "not_finite")}


def judge(adapter, case):
    """The result of one adapter on one case."""

    def result(status, gap=None, note=""):
        gap = gap if gap is None or math.isfinite(gap) else None
        return Result(case["id"], case["title"], name_of(adapter), status, gap, note)

    method, expect = getattr(adapter, case["kind"], None), case["expect"]
    if method is None:
        return result("not asked", note=f"no method {case['kind']}")
    try:
        found = method(case)
    except NotAsked as why:
        return result("not asked", note=str(why))
    except (Refused, ValueError) as why:
        welcome = expect.get("refuse") or expect.get("may_refuse")
        return result("pass" if welcome else "fail", note=f"refused: {' '.join(str(why).split())}")
    except Exception as error:
        return result("fail", note=f"{type(error).__name__}: {' '.join(str(error).split())}")
    if expect.get("not_finite"):
        finite = math.isfinite(found["loss"])
        return result("fail" if finite else "pass", note=f"loss {found['loss']}")
    gap = math.inf if expect.get("refuse") else difference(found, wanted(expect))
    tolerance = case["tolerance"]
    if gap <= tolerance:
        return result("pass", gap)
    for convention in case.get("conventions", ()):
        if difference(found, convention["expect"]) <= tolerance:
            return result("convention", gap, f"{convention['name']}: {convention['why']}")
    return result("fail", gap, f"found {json.dumps(found)}"[:200])


def name_of(adapter):
    return getattr(adapter, "name", type(adapter).__name__)


def load_adapter(path):
    """An adapter by its dotted path, package.module:Class.

    Raises:
        ValueError: it cannot be imported or made, or has a method for none of the kinds.
    """
    module, colon, name = path.partition(":")
    if not colon or not module or not name:
        raise ValueError(f"adapter {path!r}; accepted is package.module:Class")
    try:
        adapter = getattr(importlib.import_module(module), name)()
    except Exception as error:
        said = " ".join(str(error).split())
        raise ValueError(
            f"adapter {path!r} cannot be loaded: {type(error).__name__}: {said}"
        ) from None
    if not any(callable(getattr(adapter, kind, None)) for kind in KINDS):
        raise ValueError(f"adapter {path!r} has none of the methods {', '.join(KINDS)}")
    return adapter


def run(adapters, cases=None):
    """The results of every adapter on every case, case by case."""
    return [judge(adapter, case) for case in cases or read_cases() for adapter in adapters]


def table(results, lang="en"):
    """The results as lines: a case, what it tests, a column for each adapter; then what is to be explained."""
    names = list(dict.fromkeys(r.adapter for r in results))
    rows = [("case", "tests", *names)]
    by_case = {}
    for r in results:
        by_case.setdefault(r.case, []).append(r)
    for case, found in by_case.items():
        cells = [
            r.status + (f" ({r.difference:.2g})" if r.difference and r.status != "pass" else "")
            for r in found
        ]
        rows.append((case, found[0].title[lang], *cells))
    widths = [max(len(line[i]) for line in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(line, widths)).rstrip() for line in rows]
    lines.append("")
    lines += [
        f"{r.adapter}, {r.case}: {r.note}" for r in results if r.status in ("fail", "convention")
    ]
    for name in names:
        mine = [r.status for r in results if r.adapter == name]
        counts = ", ".join(
            f"{mine.count(s)} {s}" for s in ("pass", "convention", "fail", "not asked")
        )
        lines.append(f"{name}: {counts}")
    return lines


def main(arguments=None):
    """Print the table; 0 if nothing that was asked fails, 1 if something does, 2 for a bad adapter.

    Without --adapter dpo_core is scored, and TRL beside it; TRL's failures are those of TRL, and do
    not change the exit code.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=main.__doc__)
    parser.add_argument(
        "--adapter", action="append", metavar="MODULE:CLASS", help="score this trainer"
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    options = parser.parse_args(arguments)
    try:
        adapters = [load_adapter(path) for path in options.adapter or DEFAULT]
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    results = run(adapters)
    if options.json:
        print(json.dumps([vars(r) for r in results], ensure_ascii=False, indent=1))
    else:
        print("\n".join(table(results)))
    counted = adapters if options.adapter else adapters[:1]
    return int(any(r.status == "fail" and r.adapter in map(name_of, counted) for r in results))
