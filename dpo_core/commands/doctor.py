"""Find what is wrong with a file of preference pairs, or with a run (chapter 14).

dpo-core doctor data pairs.jsonl --model gen
dpo-core doctor run dpo.model/metrics.jsonl --data pairs.jsonl
"""

import io
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from typing import Any

from dpo_core import checkpoint
from dpo_core.commands.options import Options, count, option, refuse_changed
from dpo_core.doctor import Finding, Report
from dpo_core.doctor_data import Reader, data_report, reference_report, texts_for
from dpo_core.doctor_run import LOSS_TYPES, read_log, run_report
from dpo_core.rows import Row, read_rows
from dpo_core.sampling import score
from dpo_core.storage import workshop

KINDS = ("data", "run")
OF_DATA, OF_RUN = ("model", "max_length", "scored", "picture"), ("data", "loss_type", "beta")
SHOWN = 12  # rows or steps of a finding that are printed; all of them are in the JSON
MAX_LENGTH = 1024  # TRL 1.16's default


@dataclass(frozen=True)
class Doctor(Options):
    """Find what is wrong with a file of preference pairs, or with a run. Exit code 0: nothing was
    found, 1: something was, 2: it cannot be read.
    """

    kind: str = option(
        "data",
        "data (a file of pairs) or run (a log of a training)",
        choices=KINDS,
        positional=True,
    )
    file: str = option(
        "",
        "data: JSON lines, or a JSON array; run: metrics.jsonl of this book, trainer_state.json "
        "of TRL, or a folder with one of them",
        positional=True,
    )
    model: str = option("", "of data: the model to be trained, a folder, gen or dpo")
    max_length: int = count(MAX_LENGTH, "of data: tokens that a trainer keeps of prompt and answer")
    scored: int = count(1000, "of data: rows that the model scores, spread over the file", low=0)
    picture: str = option("", "of data: a PNG file to draw the lengths into")
    data: str = option("", "of a run: the pairs that it was trained on")
    loss_type: str = option(
        "",
        "of a run: its loss, where no recipe.json beside it says; TRL's default is sigmoid",
        choices=("", *LOSS_TYPES),
    )
    beta: float = option(
        None, "of a run: its beta, where no recipe.json beside it says", low=1e-6, high=1e6
    )
    json: bool = option(False, "print one JSON object")


def run(options: Doctor) -> int:
    """Run `dpo-core doctor`; returns the exit code: 0 for nothing found, 1 for findings.

    Raises:
        ValueError: bad input, or a file that cannot be read.
    """
    refuse_changed(options, OF_RUN if options.kind == "data" else OF_DATA, f"doctor {options.kind}")
    report = examine_data(options) if options.kind == "data" else examine_run(options)
    if options.json:
        print(json.dumps(as_json(options, report), allow_nan=False))
    else:
        print("\n".join(lines(options, report)))
    return 1 if report.findings else 0


def examine_data(options: Doctor) -> Report:
    """The report on a file of pairs.

    Raises:
        ValueError: it cannot be read, or the model cannot.
    """
    if options.picture and os.path.lexists(options.picture):
        raise ValueError(f"{options.picture} exists; name another file, or remove it")
    if not options.model:
        refuse_changed(options, ("max_length", "scored"), "doctor data without a model")
        rows = read_rows(options.file)
        report = data_report(rows)
    else:
        folder = checkpoint.model_folder(options.model)
        reader = checkpoint.read_tokenizer(folder)
        model = checkpoint.load_model(folder, any_vocabulary=True)
        rows = read_rows(options.file)
        positions = model.config.max_position_embeddings
        report = data_report(
            rows, reader, end=reader.end, limit=options.max_length, positions=positions
        )
        readable = [row for row in rows if _fits(row, reader, positions)]
        if chosen := _spread(readable, options.scored):
            texts = list(zip(*(texts_for(row, reader) for row in chosen)))
            prompts, answers = texts[0] * 2, texts[1] + texts[2]
            logps = score(model, prompts, answers, tokenizer=reader, progress=True).tolist()
            more = reference_report(chosen, list(zip(logps, logps[len(chosen) :])))
            report = Report(report.facts | more.facts, report.findings + more.findings)
    if options.picture:
        draw(options.picture, rows)
    return report


def _fits(row: Row, reader: Reader, positions: int) -> bool:
    """True if the model can score a row: its tokens are known, they fit, and there is a prompt."""
    try:
        prompt, *answers = texts_for(row, reader)
        tokens = [len(reader.encode(prompt)) + len(reader.encode(answer)) for answer in answers]
    except ValueError:
        return False
    return bool(prompt) and all(answers) and max(tokens) <= positions


def _spread(rows: Sequence[Row], count: int) -> list[Row]:
    """At most `count` of the rows, at equal distances."""
    if len(rows) <= count:
        return list(rows)
    return [rows[place * len(rows) // count] for place in range(count)]


def examine_run(options: Doctor) -> Report:
    """The report on a run.

    Raises:
        ValueError: the log cannot be read, or the pairs cannot.
    """
    log = read_log(options.file)
    given = {"loss_type": options.loss_type or None, "beta": options.beta}
    log = replace(log, **{name: value for name, value in given.items() if value is not None})
    return run_report(log, read_rows(options.data) if options.data else ())


def as_json(options: Doctor, report: Report) -> dict[str, Any]:
    """The report as one JSON object."""
    return {
        "file": options.file,
        "kind": options.kind,
        "facts": report.facts,
        "findings": [as_object(options, finding) for finding in report.findings],
    }


def as_object(options: Doctor, finding: Finding) -> dict[str, Any]:
    """A finding as JSON has it; `rows` of a file, `steps` of a run."""
    where = "rows" if options.kind == "data" else "steps"
    return {"name": finding.name, "what": finding.what, where: finding.where} | asdict(finding.kind)


def lines(options: Doctor, report: Report) -> list[str]:
    """The report for people: facts, then each finding."""
    found = len(report.findings)
    said = {0: "nothing found", 1: "1 finding"}.get(found, f"{found} findings")
    return [
        *(f"{name.replace('_', ' '):16} {in_words(fact)}" for name, fact in report.facts.items()),
        "",
        f"{options.file}: {said}",
        *(line for finding in report.findings for line in told(options, finding)),
    ]


def told(options: Doctor, finding: Finding) -> list[str]:
    """One finding in five lines."""
    where = "row" if options.kind == "data" else "step"
    count, kind = len(finding.where), finding.kind
    numbers = ", ".join(map(str, finding.where[:SHOWN]))
    more = f" and {count - SHOWN} more" * (count > SHOWN)
    places = f" ({where}{'s' * (count > 1)} {numbers}{more})" * bool(count)
    return [
        "",
        f"{finding.name}{places}",
        f"    what     {finding.what}",
        f"    why      {kind.why}",
        f"    do       {kind.advice}",
        f"    chapter  {kind.chapter}",
    ]


def in_words(fact: Any) -> str:
    """A fact in one line; a share with its interval."""
    if isinstance(fact, dict) and "low" in fact:
        number = f"{fact['value']:.3f} (95 % interval {fact['low']:.3f} to {fact['high']:.3f})"
        return f"{number}, {fact['pairs']} repeated pairs" if "pairs" in fact else number
    if isinstance(fact, dict):
        return "; ".join(
            f"{name} {in_words(value) if isinstance(value, dict) else f'{value:g}'}"
            for name, value in fact.items()
        )
    return "not known" if fact is None else f"{fact:.6g}" if isinstance(fact, float) else str(fact)


def draw(path: str, rows: Sequence[Row]) -> None:
    """Write a new PNG: how long chosen and rejected are, in characters.

    Raises:
        StorageError: it cannot be written, or something stands in its place.
        ValueError: matplotlib is not there.
    """
    try:  # the chapters' package, not the library's
        drawing = import_module("matplotlib.figure")
    except ImportError:
        raise ValueError("picture needs the package matplotlib") from None
    figure = drawing.Figure(figsize=(6.4, 3.4), layout="constrained")
    axes = figure.subplots()
    lengths = [[len(row.texts[side]) for row in rows] for side in (1, 2)]
    longest = max(map(max, lengths))
    axes.hist(
        lengths, bins=min(40, longest + 1), range=(0, longest + 1), label=["chosen", "rejected"]
    )
    axes.set(xlabel="characters of an answer", ylabel="rows")
    axes.legend(frameon=False)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    with workshop(path) as place:
        place.publish(content.getvalue(), place.place, replace=False)
