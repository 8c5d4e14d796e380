"""What closes the gap between DPO on the network and the predicted optimum, for chapter 9: writes dpo_gap.json.

    python chapters/data/dpo_gap.py        (about 20 CPU-minutes)

Every run starts from the shipped base model, with soft labels, beta 0.25, batches of 64, seed 0. Runs differ in
the number of pairs, in how often each is used, in the temperatures of the second answers, and in the optimiser.
"""

import json
from dataclasses import asdict, fields
from pathlib import Path

import torch

from dpo_core import evaluation, generate, judge, load_pretrained
from dpo_core.pairs import Pairs, check_same_start
from dpo_core.preferences import on_policy_pairs
from dpo_core.steps import dpo_step
from dpo_core.task import BookTask, stream
from dpo_core.theory import predicted_optimum
from dpo_core.training import LoopConfig, train

HERE = Path(__file__).resolve().parent
BETA, BATCH, SEED, MOST = 0.25, 64, 0, 96_000
N, EVALUATION_SEED = 4000, 200
ODD = set("PSU*/.:=_")  # characters that no author puts into an answer
RUNS = {  # temperatures of the second answers, in turn: (pairs, steps, optimizer, learning rate)
    (1.0,): [
        (24_000, 750, "adamw", 3e-4),
        (48_000, 750, "adamw", 3e-4),
        (MOST, 1500, "adamw", 3e-4),
        (MOST, 1500, "muon", 2e-3),
    ],
    (1.5,): [(MOST, 1500, "adamw", 3e-4), (MOST, 1500, "muon", 2e-3)],
    (1.75,): [(MOST, 1500, "muon", 2e-3)],
    (2.0,): [(MOST, 1500, "adamw", 3e-4), (MOST, 1500, "muon", 2e-3)],
    (1.5, 2.0): [(MOST, 1500, "muon", 2e-3)],  # the recipe of the shipped model
}


def first(data: Pairs, count: int) -> Pairs:
    """The first `count` pairs."""
    return Pairs(*(getattr(data, field.name)[:count] for field in fields(Pairs)))


def measure(data: Pairs, steps: int, optimizer: str, learning_rate: float, task: BookTask) -> dict:
    """One training from the shipped base model and what it reached."""
    reference, policy = load_pretrained("gen"), load_pretrained("gen")
    check_same_start(policy, data)
    config = LoopConfig(steps=steps, learning_rate=learning_rate, optimizer=optimizer)
    train(policy, data.batches(BATCH, SEED), dpo_step(BETA), config)
    shares = evaluation.evaluate(policy, task, n=N, seed=EVALUATION_SEED, reference=reference)
    prompts, _ = task.demonstrations(400, stream("malformed", SEED))
    answers = zip(prompts, generate(policy, prompts, seed=SEED))
    malformed = [
        prompt + answer for prompt, answer in answers if not judge(prompt, answer).well_formed
    ]
    odd = sum(bool(ODD & set(a[:-1] + b[:-1])) for a, b in zip(data.chosen, data.rejected))
    report = {name: asdict(estimate) for name, estimate in shares.items()} | {"odd_pairs": odd}
    return report | ({"malformed": malformed[:4]} if shares["well_formed"].value < 0.9 else {})


def main() -> None:
    """Train, measure, write."""
    task, runs = BookTask(), []
    for temperatures, settings in RUNS.items():
        data = on_policy_pairs(
            load_pretrained("gen"), task, MOST, temperatures=temperatures, seed=SEED, progress=True
        )
        for count, steps, optimizer, learning_rate in settings:
            setting = {
                "pairs": count,
                "steps": steps,
                "epochs": steps * BATCH / count,
                "optimizer": optimizer,
                "learning_rate": learning_rate,
                "pair_temperatures": temperatures,
            }
            runs.append(
                setting | measure(first(data, count), steps, optimizer, learning_rate, task)
            )
            print(
                json.dumps(
                    {k: v["value"] if isinstance(v, dict) else v for k, v in runs[-1].items()}
                ),
                flush=True,
            )
    report = {
        "settings": {
            "beta": BETA,
            "batch_size": BATCH,
            "seed": SEED,
            "n": N,
            "evaluation_seed": EVALUATION_SEED,
        },
        "torch": torch.__version__,
        "predicted": predicted_optimum(task, "style+exact", BETA),
        "runs": runs,
    }
    (HERE / "dpo_gap.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
