"""Several processes on a GPU against one: NCCL with one process, gloo with two that share the card. About 5 minutes.

    python tests/parallel_cuda.py                 on a machine with one GPU or more

Prints a line for each run, with how far its weights are from those of one process, and ends with exit code 1 if one
is too far. With as many GPUs as processes, NCCL is what they talk over; two that share a card are refused with fsdp,
which needs NCCL (with gloo it ended with signal 11).
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parent.parent
CLOSE = 1e-5  # float32, in which a GPU adds in another order
RUNS = {
    "gen": "train-gen --steps 20 --batch-size 7",
    "dpo": "train-dpo --steps 12 --batch-size 7 --pairs-file {here}/pairs.jsonl",
    "rl": "train-rl --steps 4 --prompts 5 --answers 3",
    "ppo": "train-rl --method ppo --steps 4 --prompts 5 --answers 3",
}
EVERY = "--device cuda --log-every 2 --save-every 0 --output"


def run(here, name, output, count=0, sharding=""):
    """The seconds that a run took; with a count, under torchrun."""
    command = [sys.executable, "-m"]
    if count:
        command += ["torch.distributed.run", "--standalone", "--nproc-per-node", str(count), "-m"]
    arguments = RUNS[name].format(here=here).split()
    more = ["--sharding", sharding] if count else []
    started = time.perf_counter()
    done = subprocess.run(
        [*command, "dpo_core", *arguments, *EVERY.split(), str(here / output), *more],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=120,
        cwd=here,
    )
    if done.returncode:
        print(done.stdout[-500:], done.stderr[-3000:])
    assert not done.returncode, f"{name} with {count} processes, {sharding}"
    return time.perf_counter() - started


def apart(here, one, other):
    """The largest difference of two models' weights."""
    ours, theirs = (load_file(here / name / "model.safetensors") for name in (one, other))
    return max(float((ours[name] - theirs[name]).abs().max()) for name in theirs)


def main():
    """Every run by one process, by one over NCCL and by two, with both shardings."""
    print(
        f"torch {torch.__version__}, {torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    )
    bad = 0
    with TemporaryDirectory() as folder:
        here = Path(folder)
        make = "make-pairs --pairs 64 --device cuda --output"
        subprocess.run(
            [sys.executable, "-m", "dpo_core", *make.split(), str(here / "pairs.jsonl")],
            check=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for name in RUNS:
            run(here, name, f"{name}.one")
            several = ((2, "ddp"), (2, "fsdp")) if torch.cuda.device_count() > 1 else ((2, "ddp"),)
            for count, sharding in ((1, "ddp"), (1, "fsdp"), *several):
                output = f"{name}.{count}.{sharding}"
                try:
                    seconds = run(here, name, output, count, sharding)
                    distance = apart(here, output, f"{name}.one")
                except (AssertionError, subprocess.TimeoutExpired) as error:
                    print(f"{name:4} {count} {sharding:4} FAILED {error}", flush=True)
                    bad += 1
                    continue
                bad += distance > CLOSE
                verdict = "ok" if distance <= CLOSE else "TOO FAR"
                print(
                    f"{name:4} {count} {sharding:4} {distance:.1e} {seconds:5.1f} s {verdict}",
                    flush=True,
                )
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
