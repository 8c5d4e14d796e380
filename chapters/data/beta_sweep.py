"""DPO at six strengths of the leash and with three kinds of label, from three seeds, for chapter 7: beta_sweep.json.

    python chapters/data/beta_sweep.py [FOLDER]        (about 30 CPU-minutes, base models not counted)

FOLDER, default runs, holds the base models gen-SEED.model of chapters/data/seeds.py; a missing one is trained.
Each seed has its own base model, pairs and order of pairs. The reward is 1 for three numbers and 0 otherwise. Pairs
are made as for the shipped model: first answer at temperature 1, second at 1.5 and 2.0 in turn. Every pair is
used once, except with deterministic labels: ties have no label, so fewer pairs are used more often.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from dpo_core import evaluation, load_model
from dpo_core.commands import parser
from dpo_core.pairs import Pairs
from dpo_core.preferences import LABELS, on_policy_pairs
from dpo_core.progress import progress_bar
from dpo_core.steps import dpo_step
from dpo_core.task import BookTask
from dpo_core.theory import predicted_optimum
from dpo_core.training import LoopConfig, train

HERE = Path(__file__).resolve().parent
SEEDS, BETAS = (0, 1, 2), (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
REWARD, COUNT, BATCH, TEMPERATURES = "style", 24_000, 64, (1.5, 2.0)
CONFIG = LoopConfig(steps=COUNT // BATCH, learning_rate=2e-3, optimizer="muon", log_every=25)
N, EVALUATION_SEED = 4000, 300  # fresh draws, not those of any tuning


def base_model(seed: int, folder: Path):
    """The base model of a seed, trained where it is not there yet."""
    path = folder / f"gen-{seed}.model"
    if not path.exists() and parser.main(f"train-gen --seed {seed} --output {path}".split()) != 0:
        raise SystemExit(f"could not train {path}")
    return load_model(path)


def measure(
    seed: int, labels: str, beta: float, folder: Path, task: BookTask, pairs: Pairs, config=CONFIG
) -> dict:
    """One training and what it reached; the last line of its metrics is kept beside."""
    reference, policy = base_model(seed, folder), base_model(seed, folder)
    history = train(policy, pairs.batches(BATCH, seed), dpo_step(beta), config, progress=False)
    shares = evaluation.evaluate(policy, task, n=N, seed=EVALUATION_SEED, reference=reference)
    setting = {"seed": seed, "labels": labels, "beta": beta, "pairs": len(pairs)}
    last = {
        name: history[-1][name]
        for name in ("loss", "rewards/margins", "rewards/accuracies", "logps/chosen")
    }
    return setting | {name: asdict(estimate) for name, estimate in shares.items()} | {"last": last}


def main() -> None:
    """Train, measure, write."""
    folder, task, runs = Path(sys.argv[1] if len(sys.argv) > 1 else "runs"), BookTask(), []
    with progress_bar(
        total=len(SEEDS) * len(LABELS) * len(BETAS), unit="training", shown=True
    ) as bar:
        for seed in SEEDS:
            for labels in LABELS:
                base = base_model(seed, folder)
                pairs = on_policy_pairs(
                    base,
                    task,
                    COUNT,
                    reward=REWARD,
                    labels=labels,
                    temperatures=TEMPERATURES,
                    seed=seed,
                )
                for beta in BETAS:
                    runs.append(measure(seed, labels, beta, folder, task, pairs))
                    bar.update()
    report = {
        "command": "python chapters/data/beta_sweep.py",
        "settings": {
            "reward": REWARD,
            "pair_temperatures": TEMPERATURES,
            "batch_size": BATCH,
            "n": N,
            "evaluation_seed": EVALUATION_SEED,
        }
        | asdict(CONFIG),
        "torch": torch.__version__,
        "predicted": {f"{beta:g}": predicted_optimum(task, REWARD, beta) for beta in BETAS},
        "runs": runs,
    }
    report["settings"]["max_grad_norm"] = None  # infinite, which JSON cannot say
    (HERE / "beta_sweep.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
