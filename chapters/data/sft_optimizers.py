"""Short trainings for chapter 3: two optimisers, and the loss on answers or on all tokens.

    OMP_NUM_THREADS=1 python chapters/data/sft_optimizers.py        (about 5 CPU-minutes)

Writes sft_optimizers.json beside it. Every run: the book's population, batch 128, 600 steps,
warm-up 50, cosine to 0. Runs of one seed begin with the same weights and see the same texts.
"""

from dataclasses import asdict

import torch
from recording import Recorder

from dpo_core.evaluation import excess_nats, mean_interval
from dpo_core.losses import sequence_logps
from dpo_core.model import Llama, ModelConfig
from dpo_core.sampling import TOKENIZER
from dpo_core.steps import sft_step
from dpo_core.task import BookTask, stream
from dpo_core.training import Batch, LoopConfig, train

SEEDS, BATCH, STEPS, WARMUP, LOG_EVERY, FRESH = (0, 1, 2), 128, 600, 50, 20, 4_000
ARMS = {  # optimiser, peak of the learning rate, tokens in the loss
    "muon": ("muon", 0.01, "completion"),
    "adamw_0.003": ("adamw", 0.003, "completion"),
    "adamw_0.01": ("adamw", 0.01, "completion"),
    "muon_all": ("muon", 0.01, "all"),
}


def prompt_mask(ids: torch.Tensor, completion_mask: torch.Tensor) -> torch.Tensor:
    """True on the prompt's tokens that something predicts: all but `S`."""
    mask = (ids != TOKENIZER.pad_id) & ~completion_mask
    mask[:, 0] = False
    return mask


def run(job: dict) -> dict:
    """One training and what it reached on fresh texts, in nats."""
    (optimizer, learning_rate, loss_on), seed = ARMS[job["name"]], job["seed"]
    task = BookTask()

    def batch_at(step: int) -> Batch:
        ids, mask = TOKENIZER.collate(*task.demonstrations(BATCH, stream("sft", seed, step)))
        if loss_on == "all":
            mask = mask | prompt_mask(ids, mask)
        return {"input_ids": ids, "completion_mask": mask}

    model = Llama(ModelConfig()).reset_parameters(seed)
    config = LoopConfig(STEPS, learning_rate, optimizer, warmup=WARMUP, log_every=LOG_EVERY)
    history = train(model, batch_at, sft_step, config, compile=False, progress=False)
    ids, mask = TOKENIZER.collate(*task.demonstrations(FRESH, stream("evaluate", seed)))
    with torch.no_grad():
        prompt_nats = -sequence_logps(model(ids), ids, prompt_mask(ids, mask))
    return {
        "optimizer": optimizer,
        "learning_rate": learning_rate,
        "loss_on": loss_on,
        "step": [int(line["step"]) for line in history],
        "nats": [round(line["nats_per_completion"], 4) for line in history],
        "excess": asdict(excess_nats(model, task, n=FRESH, seed=seed)),
        "prompt_nats": asdict(mean_interval(prompt_nats.numpy())),
    }


def main() -> None:
    """Run everything and write the file."""
    jobs = [{"name": name, "seed": seed} for name in ARMS for seed in SEEDS]
    recorder = Recorder(__file__, jobs=len(jobs))
    runs = recorder.all(run, jobs)
    settings = {"steps": STEPS, "batch_size": BATCH, "warmup": WARMUP, "fresh_texts": FRESH}
    recorder.write({"settings": settings, "runs": runs})


if __name__ == "__main__":
    main()
