"""The state of an unfinished training run, on disk (chapter 3): what `--resume` continues from."""

import hashlib
import json
import math
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dpo_core.checkpoint import CheckpointError, digest, read_tensors, tensor_bytes
from dpo_core.optim import MOMENTS
from dpo_core.parallel import Alone, local, own_rows, sharded_as, whole
from dpo_core.progress import say
from dpo_core.storage import Workshop, parse_json
from dpo_core.threads import MANY

MARK = "dpo_core.state"


class RunState:
    """A training run between two steps: all that the next step depends on.

    On disk it is one safetensors file, so its parts belong to one step: the weights of everything
    that is trained, the optimisers' moments, and in its metadata the step, the metrics so far, the
    run's record and what else decides the last bits. A hash over all of it shows damage and edits.

    Of several processes the first writes and reads it, in the form that one process writes, so that
    any number of them may continue: their sums have other last bits. The others call `save` and
    `load` at the same time.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizers: list[torch.optim.Optimizer],
        record: dict[str, Any],
        team: Alone | None = None,
    ) -> None:
        self.model, self.optimizers, self.record = model, optimizers, record
        self.team = team or Alone(model)
        self.step = 0
        self.seconds = 0.0
        self.compiled = False  # whether the layers are, which moves the last bits
        self.history: list[dict[str, float | None]] = []

    def save(self, place: Workshop) -> None:
        """Write the state, or replace the one before, in one step.

        Raises:
            FloatingPointError: a weight or a moment is not finite; the state before stays.
        """
        tensors: dict[str, torch.Tensor] = {}

        def take(name: str, tensor: torch.Tensor) -> None:
            full = whole(tensor.detach())
            if self.team.first:
                tensors[name] = full.cpu().contiguous()

        for name, parameter in self.model.named_parameters():
            take(f"model.{name}", parameter)
        for index, optimizer in enumerate(self.optimizers):
            for parameter, entries in optimizer.state_dict()["state"].items():
                for name, value in entries.items():
                    take(f"optimizer.{index}.{parameter}.{name}", value)
        self.team.from_first(lambda: self._write(place, tensors))

    def _write(self, place: Workshop, tensors: dict[str, torch.Tensor]) -> None:
        progress = {
            "step": self.step,
            "seconds": self.seconds,
            "history": self.history,
            "record": self.record,
            **self._machine(),
        }
        text = json.dumps(progress, ensure_ascii=False, allow_nan=False)
        place.publish(
            tensor_bytes(tensors, {MARK: text, "hash": _hash(tensors, text)}), place.state
        )

    def load(self, place: Workshop, steps: int, threads: int = 0) -> None:
        """Continue from a saved state, with the number of threads that it was made with.

        Args:
            steps: of the whole run.
            threads: a number that was asked for; 0 if none was.

        Raises:
            CheckpointError: there is no state, it is damaged or edited, or it belongs to a run with
                other options, or to another device or version of torch, whose last bits differ.
                With another number of processes they do, too, and nothing is said.
        """
        tensors: dict[str, torch.Tensor] = {}

        def read() -> dict[str, Any]:
            stored, found = self._read(place.state, steps, threads)
            tensors.update(found)
            return stored

        stored = self.team.from_first(read)
        if stored["ranks"] == self.team.ranks and stored["threads"] != torch.get_num_threads():
            say(f"continuing with {stored['threads']} threads, as the run began", sys.stderr)
            torch.set_num_threads(stored["threads"])
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                full = self.team.send(tensors.get(f"model.{name}"), parameter)
                local(parameter).copy_(own_rows(full[None], parameter)[0])
        for index, optimizer in enumerate(self.optimizers):
            state: dict[int, dict[str, torch.Tensor]] = {}
            for number, parameter in enumerate(_parameters(optimizer)):
                for name in MOMENTS[type(optimizer).__name__]:
                    like = torch.zeros(()) if name == "step" else parameter
                    full = self.team.send(tensors.get(f"optimizer.{index}.{number}.{name}"), like)
                    if full is not None:
                        state.setdefault(number, {})[name] = sharded_as(full, like)
            optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
        self.step, self.seconds, self.history, self.compiled = (
            stored[name] for name in ("step", "seconds", "history", "compiled")
        )

    def _read(
        self, path: Path, steps: int, threads: int
    ) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """What a state says of its run, and its tensors; arguments and errors of `load`."""
        if not path.exists():
            raise CheckpointError(f"nothing to resume: no run state in {path.parent}")
        tensors, metadata = read_tensors(path, self._shapes())
        text = metadata.get(MARK)
        if text is None or _hash(tensors, text) != metadata.get("hash"):
            raise CheckpointError(f"{path} is damaged, or was changed after it was written")
        try:
            stored = parse_json(text)
            self._check(stored, steps)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise CheckpointError(f"{path} does not describe a run: {error}") from None
        self._compare(path, stored)
        if threads not in (0, stored["threads"]) and stored["ranks"] == self.team.ranks:
            raise CheckpointError(
                f"{path} was made with {stored['threads']} threads, now {threads} are asked for; "
                "the last bits may differ, so leave the number out"
            )
        return stored, tensors

    def _machine(self) -> dict[str, Any]:
        """What decides the last bits of a step, apart from the run's own record."""
        device = next(self.model.parameters()).device.type
        return {
            "threads": torch.get_num_threads(),
            "compiled": self.compiled,
            "ranks": self.team.ranks,
            "device": device,
            "torch": str(torch.__version__),
        }

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """The tensors of a state of this run."""
        shapes = {f"model.{n}": tuple(t.shape) for n, t in self.model.named_parameters()}
        for index, optimizer in enumerate(self.optimizers):
            for number, parameter in enumerate(_parameters(optimizer)):
                for name in MOMENTS[type(optimizer).__name__]:
                    shape = () if name == "step" else tuple(parameter.shape)
                    shapes[f"optimizer.{index}.{number}.{name}"] = shape
        return shapes

    @staticmethod
    def _check(stored: Any, steps: int) -> None:
        """Raises one of the errors that `load` catches if the parts are not what `save` writes."""
        if not isinstance(stored, dict):
            raise TypeError("it is no JSON object")
        stored.setdefault("ranks", 1)  # what one process wrote before there were several
        step, seconds, threads = stored["step"], stored["seconds"], stored["threads"]
        if type(step) is not int or not 0 <= step <= steps:
            raise ValueError(f"step is {step!r:.40}; accepted is 0 to {steps}")
        if type(seconds) is not float or not (math.isfinite(seconds) and seconds >= 0):
            raise ValueError(f"seconds is {seconds!r:.40}; accepted are finite numbers from 0")
        if type(threads) is not int or not 1 <= threads <= MANY:
            raise ValueError(f"threads is {threads!r:.40}; accepted is 1 to {MANY}")
        ranks = stored["ranks"]
        if type(ranks) is not int or ranks < 1:
            raise ValueError(f"ranks is {ranks!r:.40}; accepted are whole numbers from 1")
        if type(stored["compiled"]) is not bool:
            raise TypeError("compiled is neither true nor false")
        if not all(isinstance(stored[name], str) for name in ("device", "torch")):
            raise TypeError("device or torch is of another kind")
        if not isinstance(stored["history"], list) or not isinstance(stored["record"], dict):
            raise TypeError("history or record is of another kind")
        for line in stored["history"]:
            if not all(value is None or type(value) in (int, float) for value in line.values()):
                raise TypeError("a line of history holds something else than numbers")
            if not all(name.isprintable() for name in line):
                raise ValueError("a line of history has a name that cannot be written down")

    def _compare(self, path: Path, stored: dict[str, Any]) -> None:
        """Raises CheckpointError if the state is of another run, or would go on in other bits."""
        taken_over = ("threads", "compiled", "ranks")
        machine = {n: value for n, value in self._machine().items() if n not in taken_over}
        ours = json.loads(json.dumps({**self.record, **machine}))
        theirs = {**stored["record"], **{name: stored[name] for name in machine}}
        for name in sorted(ours.keys() | theirs.keys()):
            if ours.get(name) != theirs.get(name):
                was, now = theirs.get(name), ours.get(name)
                raise CheckpointError(
                    f"{path} is the state of another run: {name} was {was!r:.80}, now {now!r:.80}"
                )


def _parameters(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _hash(tensors: dict[str, torch.Tensor], text: str) -> str:
    return hashlib.sha256((digest(tensors) + text).encode()).hexdigest()
