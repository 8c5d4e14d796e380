"""The command under torchrun, as its users start it: a process that dies, bad input, Ctrl-C."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
import torch

from dpo_core.checkpoint import load_model
from dpo_core.commands.parser import main

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX signals")

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
GEN = "train-gen --steps 200 --batch-size 5 --log-every 5 --save-every 10 --device cpu".split()
SECONDS = 300  # on a busy machine


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Every test in an empty folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def start(count, *arguments):
    """Several processes of the command; nothing of them is left when the test ends."""
    command = [*TORCHRUN, "--nproc-per-node", str(count), "-m", "dpo_core", *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def ended(run):
    """The exit code, and what the command itself said on standard error, a line each."""
    try:
        _, error = run.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGKILL)
        raise
    return run.returncode, [line for line in error.splitlines() if line.startswith("dpo-core")]


def wait_for(path, run):
    end = time.monotonic() + SECONDS
    while not path.exists():
        assert run.poll() is None and time.monotonic() < end, run.communicate()[1]
        time.sleep(0.02)


def worker(run, rank):
    """The process of that rank."""
    children = psutil.Process(run.pid).children(recursive=True)
    return next(child for child in children if child.environ().get("RANK") == str(rank))


def left(folder):
    """What a run that was cut can be continued from."""
    return folder / "a.model.partial" / "state.safetensors"


@pytest.mark.parametrize(
    ("rank", "sharding"),
    [(1, "fsdp"), pytest.param(0, "ddp", marks=pytest.mark.slow)],
)
def test_a_process_that_dies_ends_all_and_the_run_goes_on_alone(rank, sharding, here):
    """The others wait for ever, say nothing, or leave half a state."""
    run = start(2, *GEN, "--output", "a.model", "--sharding", sharding)
    wait_for(left(here), run)
    worker(run, rank).send_signal(signal.SIGKILL)
    code, lines = ended(run)
    assert code and len(lines) == 1, lines
    assert "the run has lost one of its processes" in lines[0]
    assert f"--resume continues {here / 'a.model.partial'}" in lines[0]
    assert main([*GEN, "--output", "a.model", "--resume"]) == 0
    assert main([*GEN, "--output", "b.model"]) == 0
    ours, whole = (load_model(here / name).state_dict() for name in ("a.model", "b.model"))
    for name, weight in whole.items():
        assert torch.allclose(
            ours[name], weight, atol=1e-2
        )  # 200 steps of Muon from random weights


def test_bad_input_is_said_once(here):
    """As often as there are processes."""
    code, lines = ended(start(2, *GEN, "--output", "a.model", "--batch-size", "1"))
    assert code and lines == [
        "dpo-core train-gen: error: batch_size is 1; accepted with 2 processes are whole numbers from 2"
    ]
    assert not list(here.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train-gen", "--steps", "x"], "argument --steps: 'x' is not a whole number"),
        (["make-pairs"], "make-pairs is the work of one process"),
        (["train-dpo", "--model", "none"], "no model folder none"),
    ],
)
def test_every_kind_of_fault_is_said_once(arguments, message, here):
    """Options that no process understands, commands that only one may run, files that are missing."""
    code, lines = ended(start(2, *arguments))
    assert code and len(lines) == 1 and message in lines[0], lines


@pytest.mark.slow
def test_ctrl_c_is_answered_once(here):
    """A line, or a traceback, of each process."""
    run = start(2, *GEN, "--output", "a.model", "--steps", "100000")
    wait_for(left(here), run)
    os.killpg(run.pid, signal.SIGINT)
    code, lines = ended(run)
    assert code and len(lines) == 1
    assert "interrupted; --resume continues" in lines[0]


@pytest.mark.slow
def test_a_process_that_is_told_to_end_ends_all(here):
    """A scheduler that takes a machine back."""
    run = start(3, *GEN, "--output", "a.model", "--steps", "100000", "--sharding", "fsdp")
    wait_for(left(here), run)
    worker(run, 2).send_signal(signal.SIGTERM)
    code, lines = ended(run)
    assert code and len(lines) == 1 and "--resume continues" in lines[0], lines
