"""Two short training runs, one of each kind, that the tests of the loop start, cut and resume."""

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import safe_open

from dpo_core.pairs import Pairs, with_reference
from dpo_core.run_state import MARK
from dpo_core.steps import dpo_step, sft_step
from dpo_core.storage import workshop
from dpo_core.task import make_task, stream
from dpo_core.tokenizer import CharTokenizer
from dpo_core.training import LoopConfig, train
from toys import small_model

TASK = make_task("book")


def sft_batch(step: int, rows: int = 6) -> dict[str, torch.Tensor]:
    """The demonstrations of a step."""
    ids, mask = CharTokenizer().collate(*TASK.demonstrations(rows, stream("test", 0, step)))
    return {"input_ids": ids, "completion_mask": mask}


def pairs(soft: bool = True) -> Pairs:
    """Twenty pairs whose reference is the small model."""
    prompts, chosen = TASK.demonstrations(20, stream("test", 1))
    _, rejected = TASK.demonstrations(20, stream("test", 2))
    return with_reference(small_model(), prompts, chosen, rejected, [0.8 if soft else 1.0] * 20)


RUNS = {
    "sft, muon": (
        sft_batch,
        sft_step,
        LoopConfig(
            steps=12, learning_rate=0.01, optimizer="muon", warmup=3, log_every=2, save_every=4
        ),
    ),
    "dpo, adamw": (
        pairs().batches(4, seed=0),
        dpo_step(0.25),
        LoopConfig(steps=12, learning_rate=0.003, warmup=3, log_every=2, save_every=4),
    ),
}


def run(
    name,
    model,
    *,
    batch_at=None,
    loss_step=None,
    resume=False,
    threads=0,
    compile=None,
    folder=None,
    **changes,
):
    """One of RUNS, with changes; its state and metrics go into `folder`/a.model.partial."""
    batches, step, config = RUNS[name]
    with workshop(folder / "a.model") if folder else nullcontext() as place:
        return train(
            model,
            batch_at or batches,
            loss_step or step,
            replace(config, **changes),
            progress=False,
            place=place,
            record={"seed": 0},
            resume=resume,
            threads=threads,
            compile=compile,
        )


def state_file(folder: Path) -> Path:
    """Where `run` keeps its state."""
    return folder / "a.model.partial" / "state.safetensors"


def stored_progress(folder: Path) -> dict:
    """The step, metrics and record in the state of a run."""
    with safe_open(state_file(folder), framework="pt") as file:
        return json.loads(file.metadata()[MARK])


def killed_at(step, batch_at):
    """The batches of a run that is interrupted when it asks for those of `step`."""

    def batches(index):
        if index == step:
            raise KeyboardInterrupt
        return batch_at(index)

    return batches


def same_bits(one, other) -> bool:
    """True if two models agree in every bit of every weight."""
    return all(
        torch.equal(a, b)
        for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    )
