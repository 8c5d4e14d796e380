"""How pytest runs the chapters: on the CPU with one thread, and within a budget of CPU time.

nbval starts one kernel for each notebook and reaps it after the last cell; what the kernel used is then
in this process's account of its children. CPU time, not wall time: a busy machine does not fail a chapter.

With `--as-a-reader` (and `--nbval-lax`; `make test-reader`) a chapter runs as it does in Jupyter: progress bars,
as many threads as the library chooses, both languages. And each code cell runs twice in a row, as a reader's
finger does: it must not fail, nor print something else.
"""

import os
import sys

import pytest
from nbval.plugin import NbCellError

from book.notebooks import ENVIRONMENT

BUDGET = {  # CPU-seconds of a chapter, by its number: start of the kernel and imports included
    0: 60,
    1: 25,
    2: 25,
    3: 80,
    4: 25,
    5: 40,
    6: 40,
    7: 40,
    8: 40,
    9: 120,
    10: 60,
    11: 60,
    12: 60,
    13: 40,
    14: 60,
}
# a chapter fails above this many times its budget
FACTOR = float(os.environ.get("CPU_FACTOR", "2"))
USED = pytest.StashKey[float]()
BAR = "application/vnd.jupyter.widget-view+json"
AGAIN = "the second time that this cell runs"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--as-a-reader",
        action="store_true",
        help="run the chapters as a reader does: bars, default threads, each code cell twice",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Strict runs compare with what the CPU printed, one thread; `--nbval-lax` takes the machine as it is."""
    if config.getoption("as_a_reader"):
        if not config.getoption("nbval_lax"):
            raise pytest.UsageError("--as-a-reader needs --nbval-lax: threads change last digits")
        for name in (*ENVIRONMENT, "BOOK_LANG"):  # tests/conftest.py may have set them
            os.environ.pop(name, None)
    elif not config.getoption("nbval_lax"):
        os.environ.update(ENVIRONMENT)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item):
    """With `--as-a-reader`, run a cell that has passed once more, in the same kernel."""
    result = yield
    if item.config.getoption("as_a_reader"):
        first = printed(item.test_outputs)
        try:
            item.runtest()
        except NbCellError as error:
            error.args = (f"{AGAIN}: {error}",)
            raise
        second = printed(item.test_outputs)
        if first != second and "nbval-ignore-output" not in item.cell.metadata.get("tags", []):
            item.raise_cell_error(f"{AGAIN} it prints\n{second}\ninstead of\n{first}")
    return result


def printed(outputs: list) -> str:
    """What a cell printed and showed as text; neither progress bars nor complaints, which go to stderr."""
    shown = []
    for output in outputs:
        if output.output_type == "stream" and output.name == "stdout":
            shown.append(output.text)
        elif BAR not in output.get("data", {}):
            shown.append(output.get("data", {}).get("text/plain", ""))
    return "\n".join(shown).rstrip()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item):
    """Note where the account stands before a notebook's first cell starts the kernel."""
    if USED not in item.parent.stash:
        item.parent.stash[USED] = cpu_seconds_of_children()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None):
    """Read the account after a notebook's last cell has ended the kernel."""
    result = yield
    last = nextitem is None or nextitem.parent is not item.parent
    if last and not item.config.getoption("as_a_reader"):  # where threads wait, they spin
        used = cpu_seconds_of_children() - item.parent.stash[USED]
        budget = BUDGET[int(item.path.name.split("_")[0])]
        if used > FACTOR * budget:
            limit = f"its budget is {budget}, the limit {FACTOR:g} times that (a slow machine: CPU_FACTOR=4)"
            pytest.fail(f"{item.path.name} used {used:.1f} CPU-seconds; {limit}", pytrace=False)
    return result


def cpu_seconds_of_children() -> float:
    """CPU time of the ended children of this process and of theirs; 0 on Windows, which keeps no such account."""
    if sys.platform == "win32":
        return 0.0
    import resource

    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
