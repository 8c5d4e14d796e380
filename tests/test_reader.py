"""`--as-a-reader` of chapters/conftest.py, on cells that run well once: it finds what goes wrong the second time."""

import os
import re
import subprocess
import sys

import nbformat
import pytest

import sources
from book.notebooks import ENVIRONMENT, ROOT

BAR = """
from dpo_core.progress import progress_bar

with progress_bar(range(3), shown=True) as bar:
    assert not bar.disable and list(bar) == [0, 1, 2]
assert "notebook" in type(bar).__mro__[1].__module__
"""
ENVIRONS = f"import os\nassert not {set(ENVIRONMENT)} & os.environ.keys() and 'BOOK_LANG' not in os.environ"
CELLS = {  # name -> (source, tags, whether it passes)
    "nothing special": ("x = 1\nprint(x)", [], True),
    "a bar, as Jupyter shows it": (BAR, [], True),
    "the environment of a reader": (ENVIRONS, [], True),
    "a name made from itself": ("x = x + 1\nassert x == 2", [], False),
    "another number": ("counted = globals().get('counted', 0) + 1\nprint(counted)", [], False),
    "a time": (
        "from time import perf_counter\nprint(perf_counter())",
        ["nbval-ignore-output"],
        True,
    ),
    "a file that exists": ("from pathlib import Path\nPath('made').mkdir()", [], False),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Run the cells under `pytest`, with the environment that tests/conftest.py leaves behind."""
    folder = tmp_path_factory.mktemp("chapters")
    cells = [
        nbformat.v4.new_code_cell(source, metadata={"tags": tags})
        for source, tags, _ in CELLS.values()
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "01_twice.ipynb")
    text = (sources.CHAPTERS / "conftest.py").read_text(encoding="utf-8")
    (folder / "conftest.py").write_text(text, encoding="utf-8")
    settings = "[pytest]\naddopts = --nbval --nbval-current-env\n"
    (folder / "pytest.ini").write_text(settings, encoding="utf-8")

    def pytest_run(*options):
        command = [sys.executable, "-m", "pytest", "-p", "nbval.plugin", "-p", "no:cacheprovider"]
        environment = {**os.environ, **ENVIRONMENT, "BOOK_LANG": "en", "PYTHONPATH": str(ROOT)}
        environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # nbval alone
        done = subprocess.run(
            [*command, "-vv", "--color=no", *options, "."],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
        )
        return done.stdout + done.stderr

    return pytest_run


def test_each_cell_runs_twice_with_bars_and_default_threads(run):
    output = run("--nbval-lax", "--as-a-reader")
    found = dict(re.findall(r"01_twice\S+::Cell (\d+) (PASSED|FAILED)", output))
    expected = {
        str(i): "PASSED" if good else "FAILED" for i, (*_, good) in enumerate(CELLS.values())
    }
    assert found == expected, output
    assert "the second time that this cell runs: Cell execution caused an exception" in output
    assert "the second time that this cell runs it prints\n2\ninstead of\n1" in output


def test_a_reader_s_threads_are_not_compared_digit_by_digit(run):
    assert "--as-a-reader needs --nbval-lax" in run("--as-a-reader")
