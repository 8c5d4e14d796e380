"""The state of an unfinished training run, on disk (chapter 3): what `--resume` continues from."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dpo_core import checkpoint
from dpo_core.checkpoint import CheckpointError
from dpo_core.reward import policy_of

BESIDE = "beside.safetensors"


class RunState:
    """A training run between two steps: all that the next step depends on.

    On disk it is a folder: `config.json` and `model.safetensors` (a model that loads as any other),
    `optimizer.safetensors`, and `state.json` with the step, the metrics so far and the run's
    record. What is trained beside the language model, PPO's critic, is in `beside.safetensors`.
    """

    def __init__(
        self, model: nn.Module, optimizers: list[torch.optim.Optimizer], record: dict[str, Any]
    ) -> None:
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
            checkpoint.write_model(policy_of(self.model), new)
            if beside := self._beside():
                checkpoint.save_tensors(
                    {name: t.cpu().contiguous() for name, t in beside.items()}, new / BESIDE
                )
            checkpoint.save_tensors(moments, new / "optimizer.safetensors")
            progress = {"step": self.step, "seconds": self.seconds, "history": self.history}
            checkpoint.write_json(new / "state.json", {**progress, "record": self.record})

    def load(self, folder: Path | None) -> None:
        """Continue from a saved state.

        Raises:
            CheckpointError: there is no state, it is damaged, or it belongs to a run with other
                options.
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
                raise CheckpointError(
                    f"{folder} is the state of another run: {name} was {was!r}, now {now!r}"
                )
        policy_of(self.model).load_state_dict(checkpoint.load_model(folder).state_dict())
        if beside := self._beside():
            stored_beside = checkpoint.read_tensors(folder / BESIDE)
            if stored_beside.keys() != beside.keys():
                raise CheckpointError(
                    f"{folder / BESIDE} does not hold what is trained beside the language model"
                )
            self.model.load_state_dict(stored_beside, strict=False)
        moments = checkpoint.read_tensors(folder / "optimizer.safetensors")
        for index, optimizer in enumerate(self.optimizers):
            state: dict[int, dict[str, torch.Tensor]] = {}
            for key, value in moments.items():
                owner, parameter, name = key.split(".", 2)
                if int(owner) == index:
                    state.setdefault(int(parameter), {})[name] = value
            if len(state) != sum(len(group["params"]) for group in optimizer.param_groups):
                raise CheckpointError(
                    f"{folder / 'optimizer.safetensors'} lacks the moments of some parameters"
                )
            optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
        self.step, self.seconds, self.history = stored["step"], stored["seconds"], stored["history"]

    def _beside(self) -> dict[str, torch.Tensor]:
        """The weights that are not the language model's, by name."""
        if policy_of(self.model) is self.model:
            return {}
        return {
            name: t for name, t in self.model.state_dict().items() if not name.startswith("policy.")
        }
