"""Two short training runs, one of each kind, that the tests of the loop start, cut and resume."""

from dataclasses import replace

import torch

from dpo_core.pairs import Pairs, with_reference
from dpo_core.steps import dpo_step, sft_step
from dpo_core.task import BookTask, stream
from dpo_core.tokenizer import CharTokenizer
from dpo_core.training import LoopConfig, train
from toys import small_model

TASK = BookTask()


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


def run(name, model, *, batch_at=None, loss_step=None, resume=False, folder=None, **changes):
    """One of RUNS, with changes; its state and metrics go into `folder`."""
    batches, step, config = RUNS[name]
    metrics = folder / "metrics.jsonl" if folder else None
    return train(
        model,
        batch_at or batches,
        loss_step or step,
        replace(config, **changes),
        progress=False,
        state_folder=folder / "state" if folder else None,
        record={"seed": 0},
        resume=resume,
        metrics_file=metrics,
    )


def same_bits(one, other) -> bool:
    """True if two models agree in every bit of every weight."""
    return all(
        torch.equal(a, b)
        for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    )
