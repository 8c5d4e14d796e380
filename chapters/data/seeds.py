"""Both trainings of the shipped models from three seeds, for chapter 9: writes seeds.json beside this file.

    python chapters/data/seeds.py [FOLDER]        (about 30 CPU-minutes; FOLDER, default runs, keeps the models)

Seed 0 is the recipe of the shipped models. Nothing is chosen among the seeds: the spread is what is reported.
A model that is already in FOLDER is not trained again.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from dpo_core import evaluation, load_model
from dpo_core.commands import parser
from dpo_core.task import BookTask

HERE = Path(__file__).resolve().parent
SEEDS = (0, 1, 2)
N, EVALUATION_SEED = 2000, 100  # fresh prompts, not those of any tuning


def run(command: str) -> None:
    """Run one command; a failure ends the script."""
    if parser.main(command.split()) != 0:
        raise SystemExit(f"failed: dpo-core {command}")


def train_and_measure(seed: int, folder: Path, task: BookTask) -> dict:
    """Train base and DPO model of one seed where they are not there yet, and measure both."""
    gen, dpo = folder / f"gen-{seed}.model", folder / f"dpo-{seed}.model"
    if not gen.exists():
        run(f"train-gen --seed {seed} --output {gen}")
    if not dpo.exists():
        run(f"train-dpo --seed {seed} --model {gen} --output {dpo}")
    base, policy = load_model(gen), load_model(dpo)
    excess = evaluation.excess_nats(base, task, n=N, seed=EVALUATION_SEED)
    measured = {
        "base": {
            **evaluation.evaluate(base, task, n=N, seed=EVALUATION_SEED),
            "excess_nats": excess,
        },
        "dpo": evaluation.evaluate(policy, task, n=N, seed=EVALUATION_SEED, reference=base),
    }
    return {
        "seed": seed,
        **{who: {k: asdict(v) for k, v in r.items()} for who, r in measured.items()},
    }


def main() -> None:
    """Train, measure, write."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs")
    task = BookTask()
    report = {
        "commands": ["dpo-core train-gen --seed SEED", "dpo-core train-dpo --seed SEED"],
        "torch": torch.__version__,
        "n": N,
        "evaluation_seed": EVALUATION_SEED,
        "seeds": [train_and_measure(seed, folder, task) for seed in SEEDS],
    }
    (HERE / "seeds.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
