"""How many threads: the idle cores, unless somebody says otherwise."""

import os
import subprocess
import sys

import psutil
import pytest
import torch

from dpo_core import threads
from dpo_core.commands.parser import main


@pytest.mark.parametrize(
    ("busy", "cores", "expected"),
    [
        ([0.0, 3.0], {0, 1}, 2),
        ([100.0, 2.0], {0, 1}, 1),
        ([50.0, 5.0], {0, 1}, 1),
        ([100.0, 100.0], {0, 1}, 1),
        ([0.0] * 64, set(range(64)), threads.MOST),
        ([100.0] * 60 + [0.0] * 4, {61, 62}, 2),  # a container: only its own cores count
    ],
)
def test_as_many_threads_as_cores_are_idle(busy, cores, expected, monkeypatch):
    """Beside another busy process two threads spin against it, and take several times as long as one."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(psutil, "cpu_percent", lambda interval, percpu: busy)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: cores, raising=False)
    assert threads.use_threads() == torch.get_num_threads() == expected


def test_the_reader_overrides_the_choice(monkeypatch):
    """A number that is asked for and not taken."""
    monkeypatch.setattr(psutil, "cpu_percent", lambda **_: pytest.fail("nothing to choose"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(5)
    assert threads.use_threads() == 5  # torch read the variable when it was loaded: leave it alone
    assert threads.use_threads(3) == torch.get_num_threads() == 3
    torch.set_num_threads(5)
    assert threads.use_threads() == 3  # a command in a notebook keeps what the reader asked for
    with pytest.raises(ValueError, match="threads is -1"):
        threads.use_threads(-1)


def test_a_command_takes_the_number_it_is_given(tmp_path, monkeypatch):
    """--threads that changes nothing."""
    monkeypatch.chdir(tmp_path)
    assert main(["generate", "gen", "54", "--threads", "2"]) == 0
    assert torch.get_num_threads() == 2


def test_importing_the_library_sets_nothing():
    """A side effect of an import is found by nobody."""
    script = (
        "import torch; n = torch.get_num_threads(); import dpo_core.threads, dpo_core.training; "
    )
    script += "assert torch.get_num_threads() == n"
    subprocess.run([sys.executable, "-c", script], check=True)
