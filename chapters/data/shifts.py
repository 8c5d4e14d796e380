"""What a wrong shift of the labels does to a training, for chapter 1: writes shifts.json beside this file.

    OMP_NUM_THREADS=1 python chapters/data/shifts.py        (about 4 CPU-minutes)

Chapter 3's recipe, 600 steps, with the label of position t taken from position t + shift, for shifts 0, 1 and 2. The
loss counts the same tokens as always, those of the completion, where such a label exists; writing is the usual loop,
which takes what the last position says for the next token. Every run is kept in build/shifts/ as soon as it is whole,
so that an interrupted command goes on where it stopped.
"""

import json
import time
from dataclasses import asdict
from pathlib import Path

import torch
from torch.nn import functional as F

from dpo_core.evaluation import evaluate, own_answers
from dpo_core.model import Llama, ModelConfig
from dpo_core.sampling import TOKENIZER
from dpo_core.steps import Sums
from dpo_core.storage import json_bytes
from dpo_core.task import BookTask, stream
from dpo_core.training import Batch, LoopConfig, LossStep, train

HERE = Path(__file__).resolve().parent
KEPT = HERE.parents[1] / "build" / "shifts"
SHIFTS, SEEDS, BATCH, STEPS, WARMUP, RATE, ANSWERS = (0, 1, 2), (0, 1, 2), 128, 600, 50, 0.01, 2000


def shifted_step(shift: int) -> LossStep:
    """SFT whose label at position t is the token at t + `shift`; 1 is right."""

    def step(model: Llama, batch: Batch) -> Sums:
        ids, mask = batch["input_ids"], batch["completion_mask"]
        logits = model(ids)[:, : ids.shape[1] - shift]  # (B, T - shift, V)
        labels, counts = ids[:, shift:], mask[:, shift:]
        losses = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
        return {"loss": ((losses * counts).sum(), counts.sum())}

    return step


def run(shift: int, seed: int, task: BookTask) -> dict:
    """One training, what its loss was at the end, and what it writes."""

    def batch_at(step: int) -> Batch:
        prompts, completions = task.demonstrations(BATCH, stream("sft", seed, step))
        ids, mask = TOKENIZER.collate(prompts, completions)
        return {"input_ids": ids, "completion_mask": mask}

    model = Llama(ModelConfig()).reset_parameters(seed)
    config = LoopConfig(STEPS, RATE, "muon", warmup=WARMUP, log_every=20)
    started = time.process_time()
    history = train(model, batch_at, shifted_step(shift), config, compile=False)
    cpu_seconds = time.process_time() - started
    report = evaluate(model, task, n=ANSWERS, seed=seed)
    prompts, completions = own_answers(model, task, n=6, seed=seed, temperature=1.0)
    return {
        "shift": shift,
        "seed": seed,
        "nats_per_token": round(history[-1]["loss"], 4),
        "well_formed": asdict(report["well_formed"]),
        "exact": asdict(report["exact"]),
        "examples": [prompt + completion for prompt, completion in zip(prompts, completions)],
        "cpu_seconds": round(cpu_seconds, 1),
    }


def main() -> None:
    """Run what is not kept yet, then write the file."""
    torch.set_num_threads(1)
    KEPT.mkdir(parents=True, exist_ok=True)
    runs = []
    for seed in SEEDS:
        for shift in SHIFTS:
            kept = KEPT / f"{shift}-{seed}-{STEPS}.json"
            if not kept.exists():
                print(f"shift {shift}, seed {seed}")
                kept.write_bytes(json_bytes(run(shift, seed, BookTask())))
            runs.append(json.loads(kept.read_text(encoding="utf-8")))
    result = {
        "command": "OMP_NUM_THREADS=1 python chapters/data/shifts.py",
        "torch": torch.__version__,
        "steps": STEPS,
        "batch_size": BATCH,
        "learning_rate": RATE,
        "optimizer": "muon",
        "answers": ANSWERS,
        "runs": runs,
    }
    path = HERE / "shifts.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {path.name}")


if __name__ == "__main__":
    main()
