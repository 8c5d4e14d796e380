"""What the scripts of recorded experiments share: jobs in two processes, a bar, going on after an interruption.

    recorder = Recorder(__file__, jobs=60)
    runs = recorder.all(run, [{"name": "dpo", "seed": 0}, ...])
    recorder.write({"settings": ..., "runs": runs})

`run` takes one job, a dict of what JSON can say, and returns a dict. A job that is done is a line of NAME.partial
beside the script; a script that is started again takes it from there. NAME.json is written when all is whole, and then
NAME.partial goes.
"""

import hashlib
import json
import math
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from dpo_core import Llama, load_model, load_pretrained
from dpo_core.commands import parser
from dpo_core.progress import progress_bar
from dpo_core.storage import sync_folder

Run = Callable[[dict], dict]
PROCESSES = 2


@cache
def base_model_of(seed: int, folder: str) -> Llama:
    path = Path(folder) / f"gen-{seed}.model"
    if not path.exists() and parser.main(f"train-gen --seed {seed} --output {path}".split()) != 0:
        raise SystemExit(f"could not train {path}")
    return load_model(path)


def base_model(seed: int, folder: str | Path = "runs") -> Llama:
    """The base model of a seed: the shipped one for seed 0, the others trained by its recipe where they are missing."""
    return load_pretrained("gen") if seed == 0 else base_model_of(seed, str(folder))


def folder_argument() -> str:
    """The folder of the base models: the script's argument, or runs."""
    return sys.argv[1] if len(sys.argv) > 1 else "runs"


class Recorder:
    """One recording; `jobs` is the number of all jobs, for the bar."""

    def __init__(self, script: str, jobs: int) -> None:
        self.script, self.total = Path(script), jobs
        self.journal = self.script.with_suffix(".partial")
        source = hashlib.sha256(self.script.read_bytes()).hexdigest()
        self.head = {"script": source, "torch": torch.__version__}
        self.done: dict[str, dict] = {}
        self.lock = FileLock(self.script.with_suffix(".lock"))  # held until this process ends
        try:
            self.lock.acquire(timeout=0)
        except Timeout:
            raise SystemExit(f"{self.script.name} is being recorded by another process") from None
        self._take_up()
        self.bar = progress_bar(total=jobs, unit="job", shown=True)

    def _take_up(self) -> None:
        """Read what an earlier run has done. A line that it was killed in writing is no result."""
        text = self.journal.read_text(encoding="utf-8") if self.journal.exists() else ""
        *lines, torn = text.split("\n")
        try:
            head, *found = map(json.loads, lines) if lines else (self.head,)
            self.done = {line["job"]: line["result"] for line in found}
        except (ValueError, KeyError, TypeError):
            head = None
        if head != self.head or (not lines and not json.dumps(self.head).startswith(torn)):
            raise SystemExit(
                f"{self.journal.name} is not of this version of {self.script.name} and of torch; "
                "remove it to begin anew"
            )
        if torn:
            self.journal.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        if not lines:
            self._append(self.head)

    def _append(self, line: dict) -> None:
        with self.journal.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def all(self, run: Run, jobs: list[dict]) -> list[dict]:
        """The results of the jobs, in their order: each the job itself and what `run` returned."""
        keys = [json.dumps(job, sort_keys=True) for job in jobs]
        self.bar.update(sum(key in self.done for key in keys))
        todo = [(key, run, job) for key, job in zip(keys, jobs) if key not in self.done]
        if todo:
            context = multiprocessing.get_context("spawn")
            with context.Pool(min(PROCESSES, len(todo)), torch.set_num_threads, (1,)) as pool:
                for key, result in pool.imap_unordered(timed, todo):
                    self.done[key] = result
                    self._append({"job": key, "result": result})
                    self.bar.update()
        return [job | self.done[key] for key, job in zip(keys, jobs)]

    def write(self, report: dict) -> None:
        """Write NAME.json whole, with what made it; what was kept to go on from is no longer needed."""
        self.bar.close()
        whole = {
            "command": f"python chapters/data/{self.script.name}",
            "torch": torch.__version__,
            "python": platform.python_version(),
            "cpu_minutes": round(sum(r["cpu_seconds"] for r in self.done.values()) / 60, 1),
            **rounded(report),
        }
        place = self.script.with_suffix(".json")
        part = place.with_name(f".{place.name}.new")
        with part.open("w", encoding="utf-8") as file:
            file.write(json.dumps(whole, indent=1, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, place)
        sync_folder(place.parent)
        self.journal.unlink()
        self.lock.release()


def timed(task: tuple[str, Run, dict]) -> tuple[str, dict]:
    """One job in its process, with its CPU seconds."""
    key, run, job = task
    started = time.process_time()
    result = run(job)
    return key, result | {"cpu_seconds": round(time.process_time() - started, 1)}


def rounded(value):
    """Six significant digits, everywhere inside; an infinite limit is none."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    if not isinstance(value, float):
        return value
    return float(f"{value:.6g}") if math.isfinite(value) else None
