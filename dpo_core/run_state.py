"""The state of an unfinished training run, on disk (chapter 3): what `--resume` continues from."""

import json
from pathlib import Path
from typing import Any

import torch

from dpo_core import checkpoint
from dpo_core.checkpoint import CheckpointError
from dpo_core.model import Llama


class RunState:
    """A training run between two steps: all that the next step depends on.

    On disk it is a folder: `config.json` and `model.safetensors` (a model that loads as any other),
    `optimizer.safetensors`, and `state.json` with the step, the metrics so far and the run's record.
    """

    def __init__(self, model: Llama, optimizers: list[torch.optim.Optimizer], record: dict[str, Any]) -> None:
        self.model, self.optimizers, self.record = model, optimizers, record
        self.step = 0
        self.seconds = 0.0
        self.history: list[dict[str, float]] = []

    def save(self, folder: Path) -> None:
        """Write the state, or replace the one in `folder`, as a single step."""
        moments = {
            f"{index}.{parameter}.{name}": value.detach().cpu().contiguous()
            for index, optimizer in enumerate(self.optimizers)
            for parameter, entries in optimizer.state_dict()["state"].items()
            for name, value in entries.items()
        }
        with checkpoint.replacing_folder(folder) as new:
            checkpoint.write_model(self.model, new)
            checkpoint.save_tensors(moments, new / "optimizer.safetensors")
            progress = {"step": self.step, "seconds": self.seconds, "history": self.history}
            checkpoint.write_json(new / "state.json", {**progress, "record": self.record})

    def load(self, folder: Path | None) -> None:
        """Continue from a saved state.

        Raises:
            CheckpointError: there is no state, it is damaged, or it belongs to a run with other options.
        """
        if folder is not None:
            checkpoint.finish_replacement(folder)
        if folder is None or not folder.is_dir():
            raise CheckpointError(f"nothing to resume: no run state in {folder}")
        stored = checkpoint.read_json(folder / "state.json")
        if missing := {"step", "seconds", "history", "record"} - stored.keys():
            raise CheckpointError(f"{folder / 'state.json'} has no {min(missing)}")
        ours, theirs = json.loads(json.dumps(self.record)), stored["record"]
        for name in sorted(ours.keys() | theirs.keys()):
            if ours.get(name) != theirs.get(name):
                was, now = theirs.get(name), ours.get(name)
                raise CheckpointError(f"{folder} is the state of another run: {name} was {was!r}, now {now!r}")
        self.model.load_state_dict(checkpoint.load_model(folder).state_dict())
        moments = checkpoint.read_tensors(folder / "optimizer.safetensors")
        for index, optimizer in enumerate(self.optimizers):
            state: dict[int, dict[str, torch.Tensor]] = {}
            for key, value in moments.items():
                owner, parameter, name = key.split(".", 2)
                if int(owner) == index:
                    state.setdefault(int(parameter), {})[name] = value
            if len(state) != sum(len(group["params"]) for group in optimizer.param_groups):
                raise CheckpointError(f"{folder / 'optimizer.safetensors'} lacks the moments of some parameters")
            optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
        self.step, self.seconds, self.history = stored["step"], stored["seconds"], stored["history"]
