"""Four short trainings for chapter 3: two optimisers, and the loss on answers or on all tokens.

    OMP_NUM_THREADS=1 python chapters/data/sft_optimizers.py        writes sft_optimizers.json beside it

Every run: BookTask, seed 0 for weights and data, batch 128, 600 steps, warm-up 50, cosine to 0. About two CPU-minutes.
"""

import json
import time
from dataclasses import asdict
from pathlib import Path

import torch

from dpo_core.evaluation import excess_nats, mean_interval
from dpo_core.losses import sequence_logps
from dpo_core.model import Llama, ModelConfig
from dpo_core.sampling import TOKENIZER
from dpo_core.steps import sft_step
from dpo_core.task import BookTask, stream
from dpo_core.training import Batch, LoopConfig, train

SEED, BATCH, STEPS, WARMUP, LOG_EVERY, FRESH = 0, 128, 600, 50, 20, 4000
RUNS = (  # name, optimiser, peak of the learning rate, tokens in the loss
    ("muon", "muon", 0.01, "completion"),
    ("adamw_0.003", "adamw", 0.003, "completion"),
    ("adamw_0.01", "adamw", 0.01, "completion"),
    ("muon_all", "muon", 0.01, "all"),
)


def prompt_mask(ids: torch.Tensor, completion_mask: torch.Tensor) -> torch.Tensor:
    """True on the prompt's tokens that something predicts: all but `S`."""
    mask = (ids != TOKENIZER.pad_id) & ~completion_mask
    mask[:, 0] = False
    return mask


def run(name: str, optimizer: str, learning_rate: float, loss_on: str, task: BookTask) -> dict:
    """One training and what it reached on fresh texts, in nats."""

    def batch_at(step: int) -> Batch:
        ids, mask = TOKENIZER.collate(*task.demonstrations(BATCH, stream("sft", SEED, step)))
        if loss_on == "all":
            mask = mask | prompt_mask(ids, mask)
        return {"input_ids": ids, "completion_mask": mask}

    model = Llama(ModelConfig()).reset_parameters(SEED)
    config = LoopConfig(STEPS, learning_rate, optimizer, warmup=WARMUP, log_every=LOG_EVERY)
    started = time.process_time()
    history = train(model, batch_at, sft_step, config)
    cpu_seconds = time.process_time() - started
    ids, mask = TOKENIZER.collate(*task.demonstrations(FRESH, stream("evaluate", SEED)))
    with torch.no_grad():
        prompt_nats = -sequence_logps(model(ids), ids, prompt_mask(ids, mask))
    return {
        "name": name,
        "optimizer": optimizer,
        "learning_rate": learning_rate,
        "loss_on": loss_on,
        "step": [int(line["step"]) for line in history],
        "nats": [round(line["nats_per_completion"], 4) for line in history],
        "excess_nats": asdict(excess_nats(model, task, n=FRESH, seed=SEED)),
        "prompt_nats": asdict(mean_interval(prompt_nats.numpy())),
        "cpu_seconds": round(cpu_seconds, 1),
    }


def main() -> None:
    """Run everything and write the file."""
    torch.set_num_threads(1)
    task = BookTask()
    result = {
        "command": "OMP_NUM_THREADS=1 python chapters/data/sft_optimizers.py",
        "torch": torch.__version__,
        "seed": SEED,
        "batch_size": BATCH,
        "steps": STEPS,
        "warmup": WARMUP,
        "fresh_texts": FRESH,
        "runs": [run(*settings, task) for settings in RUNS],
    }
    path = Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {path.name}")


if __name__ == "__main__":
    main()
