"""Make the notebooks: each chapters/NN_name.py, executed, becomes the NN_name.ipynb beside it.

    python -m book.notebooks              all chapters (`make chapters`)
    python -m book.notebooks 01 09        these chapters; a number, a name or a path
    python -m book.notebooks --check      execute nothing: has every notebook the cells of its source?

The .py is what people edit; the .ipynb is stored executed, so that a code host shows results and nbval has something
to compare with. Both are under version control, so a notebook is a function of its source and of what its cells print:
ids come from the cells' text, and whatever changes from run to run (times, widget state, the interpreter's version) is
left out. Executing twice gives the same bytes, and an edit changes only the cells that it touches.
"""

import argparse
import base64
import hashlib
import os
import re
import struct
import sys
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = ROOT / "chapters"

CELL_KEYS = {"lang", "free", "alt_en", "alt_zh", "checked_en", "checked_zh", "tags"}
NOTEBOOK_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"file_extension": ".py", "mimetype": "text/x-python", "name": "python"},
}
# What a cell may rely on, here and under nbval: the CPU, one thread (so that sums round alike), no bars in the output.
ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "",
    "MKL_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "TQDM_DISABLE": "1",
}
CELL_SECONDS = 600


class ChapterError(Exception):
    """A chapter cannot become a notebook; the message is the report for its author."""


def sources(folder=CHAPTERS):
    """The chapters' sources, in the book's order."""
    return sorted(Path(folder).glob("[0-9][0-9]_*.py"))


# ---------------------------------------------------------------- from source to cells


def read_source(path):
    """The notebook that `path` describes, without outputs: its cells, with stable ids and the book's metadata."""
    parsed = jupytext.read(path, fmt="py:percent")
    seen, cells = {}, []
    for number, cell in enumerate(parsed.cells, 1):
        metadata = {
            key: value for key, value in cell.metadata.items() if key != "lines_to_next_cell"
        }
        if unknown := sorted(metadata.keys() - CELL_KEYS):
            raise ChapterError(
                f"{Path(path).name}, cell {number}: unknown metadata {', '.join(unknown)} "
                f"(known: {', '.join(sorted(CELL_KEYS))})"
            )
        make = getattr(nbformat.v4, f"new_{cell.cell_type}_cell")
        identity = cell_id(cell.cell_type, cell.source, seen)
        cells.append(make(cell.source, id=identity, metadata=metadata))
    return nbformat.v4.new_notebook(cells=cells, metadata=NOTEBOOK_METADATA)


def cell_id(kind, source, seen):
    """An id that depends on the cell alone, so that editing one cell leaves the others' ids as they are.

    `seen` counts equal cells met before: ids must differ within a notebook.
    """
    text = f"{kind}\n{source}"
    seen[text] = seen.get(text, -1) + 1
    return hashlib.sha256(f"{seen[text]}\n{text}".encode()).hexdigest()[:12]


def first_line(cell):
    """How a report names a cell: the first line that says something."""
    return next((line.strip() for line in cell.source.splitlines() if line.strip()), "(empty)")


def out_of_sync(source, stored):
    """What `source` (from read_source) and `stored` (a notebook) disagree about, a line each; none if nothing."""

    def content(cell):
        return cell.cell_type, cell.get("id"), cell.source, dict(cell.metadata)

    faults = []
    if stored.metadata != NOTEBOOK_METADATA:
        faults.append("the notebook's metadata is not the book's")
    for number, (ours, theirs) in enumerate(zip(source.cells, stored.cells, strict=False), 1):
        if content(ours) != content(theirs):
            faults.append(f"cell {number} differs, first of all: {first_line(ours)}")
            break
    if len(source.cells) != len(stored.cells):
        faults.append(
            f"{len(source.cells)} cells in the source, {len(stored.cells)} in the notebook"
        )
    return faults


# ---------------------------------------------------------------- from cells to outputs


def kernel_environment():
    """The environment of a chapter's kernel: ENVIRONMENT, this checkout's dpo_core before any other, both languages."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    inherited = {name: value for name, value in os.environ.items() if name != "BOOK_LANG"}
    return {**inherited, **ENVIRONMENT, "PYTHONPATH": path}


def execute(notebook, folder, on_cell=lambda cell, number: None):
    """Run `notebook` in place, in `folder`. Raises ChapterError with a report on the first cell that fails."""
    running = [0, None]

    def begins(cell, cell_index):
        running[:] = cell_index + 1, cell
        on_cell(cell, cell_index + 1)

    client = NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=CELL_SECONDS,
        # it warns about its own sockets, on every start
        extra_arguments=["--IPKernelApp.log_level=ERROR"],
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        coalesce_streams=True,
        store_widget_state=False,
        on_cell_execute=begins,
    )
    try:
        client.execute(env=kernel_environment())
    except CellExecutionError as error:
        raise ChapterError(report(*running, f"{error.ename}: {error.evalue}")) from None
    except CellTimeoutError:
        raise ChapterError(report(*running, f"no answer within {CELL_SECONDS} s")) from None
    except DeadKernelError:
        raise ChapterError(report(*running, "the kernel died")) from None
    return notebook


def report(number, cell, fault):
    """Which cell, which of its lines, what happened: the block that an author reads."""
    if cell is None:
        return f"  {fault}"
    lines = [f"  cell {number}: {first_line(cell)}"]
    for output in cell.get("outputs", []):
        if output.output_type == "error":
            trace = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(output.traceback))
            if arrow := re.search(r"^-+> *(\d+) (.*)$", trace, re.MULTILINE):
                lines.append(f"  line {arrow[1]}: {arrow[2].strip()}")
    return "\n".join([*lines, *(f"  {line}" for line in fault.splitlines())])


def tidy(notebook):
    """Drop, in place, what differs from run to run. Returns what the cells wrote to stderr, as (cell, text)."""
    notebook.metadata = nbformat.from_dict(NOTEBOOK_METADATA)
    complaints = []
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict(
            {k: v for k, v in cell.metadata.items() if k in CELL_KEYS}
        )
        kept = []
        for output in cell.get("outputs", []):
            if output.output_type == "stream" and output.name == "stderr":
                complaints.append((cell, output.text))
                continue
            if "data" in output:
                lang = {k: v for k, v in output.metadata.items() if k == "lang"}
                output.metadata = nbformat.from_dict(lang)
                if "image/png" in output.data:
                    png = without_text(base64.b64decode(output.data["image/png"]))
                    output.data["image/png"] = base64.b64encode(png).decode()
            kept.append(output)
        if cell.cell_type == "code":
            cell.outputs = kept
    return complaints


def without_text(png):
    """`png` (bytes) without the chunks that name the program, its version and the time: the picture alone."""
    kept, at = [png[:8]], 8
    while at < len(png):
        size = 12 + struct.unpack(">I", png[at : at + 4])[0]
        if png[at + 4 : at + 8] not in (b"tEXt", b"zTXt", b"iTXt", b"tIME"):
            kept.append(png[at : at + size])
        at += size
    return b"".join(kept)


# ---------------------------------------------------------------- the command


def update(path, on_cell=lambda cell, number: None):
    """Execute the source at `path` and store its notebook if that changed. Returns (changed, complaints)."""
    notebook = execute(read_source(path), path.parent, on_cell)
    complaints = tidy(notebook)
    nbformat.validate(notebook)
    target, text = path.with_suffix(".ipynb"), nbformat.writes(notebook) + "\n"
    if target.exists() and target.read_text(encoding="utf-8") == text:
        return False, complaints
    draft = target.with_suffix(".ipynb.tmp")  # a killed run leaves the old notebook whole
    draft.write_text(text, encoding="utf-8")
    draft.replace(target)
    return True, complaints


def check(path):
    """What is wrong between the source at `path` and its notebook, one line each, without executing anything."""
    target = path.with_suffix(".ipynb")
    if not target.exists():
        return ["there is no notebook yet"]
    return out_of_sync(read_source(path), nbformat.read(target, as_version=4))


def select(names, folder):
    """The sources that `names` mean: a number, the beginning of a name, a path; all when there are none."""
    found = sources(folder)
    if not names:
        return found
    chosen = []
    for name in names:
        stem = name.zfill(2) if name.isdigit() else Path(name).stem
        matches = [path for path in found if path.stem == stem or path.stem.startswith(f"{stem}_")]
        if not matches:
            raise LookupError(
                f"no chapter {name}; there are: {', '.join(path.stem for path in found) or 'none'}"
            )
        chosen += [path for path in matches if path not in chosen]
    return sorted(chosen)


def main(arguments=None, folder=CHAPTERS):
    """Returns the exit code: 0, or 1 when a chapter fails or is out of sync, or 2 for an unknown chapter."""
    parser = argparse.ArgumentParser(
        prog="python -m book.notebooks", description="Execute chapters into notebooks."
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="a chapter: 03, 03_sft or chapters/03_sft.py"
    )
    parser.add_argument(
        "--check", action="store_true", help="compare notebooks with sources; execute nothing"
    )
    options = parser.parse_args(arguments)
    try:
        chosen = select(options.names, folder)
    except LookupError as error:
        print(error, file=sys.stderr)
        return 2
    sound = check_all(chosen) if options.check else update_all(chosen)
    return 0 if sound else 1


def check_all(paths):
    """Report the sources that are not what their notebooks hold. Returns whether there are none."""
    sound = True
    for path in paths:
        try:
            faults = check(path)
        except ChapterError as error:
            faults = [error]
        if faults:
            sound = False
            lines = [
                f"{path.name} is not what its notebook holds",
                *faults,
                "`make chapters` renews it",
            ]
            print("\n  ".join(map(str, lines)), file=sys.stderr)
    return sound


def update_all(paths):
    """Execute the sources, under a progress bar, and report the ones that fail. Returns whether there are none."""
    sound = True
    # None: shown in a terminal, whatever TQDM_DISABLE says
    with tqdm(paths, unit="chapter", disable=None) as bar:
        for path in bar:
            try:
                changed, complaints = update(
                    path, lambda _, n, at=path.stem: bar.set_postfix_str(f"{at}, cell {n}")
                )
            except ChapterError as error:
                sound = False
                bar.write(
                    f"\n{path.name} fails; its notebook stays as it was\n{error}\n", file=sys.stderr
                )
                continue
            bar.write(f"{path.stem}: {'written' if changed else 'unchanged'}")
            for cell, text in complaints:
                bar.write(
                    f"  wrote to stderr, which is not stored: {first_line(cell)}\n    {text.strip()}"
                )
    return sound


if __name__ == "__main__":
    sys.exit(main())
