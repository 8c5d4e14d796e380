"""Why does DPO at beta 0.5 end below its prediction in beta_sweep.json? For chapter 7: writes beta_half.json.

    python chapters/data/beta_half.py [FOLDER]        (about 10 CPU-minutes, base models not counted)

Soft labels, three seeds, all else as in beta_sweep.py but for one thing at a time: three times the pairs and steps;
or both answers of a pair drawn at temperature 1. Beside it the base models' own share of three-number answers,
measured on many answers, because the prediction takes the population's.
"""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import torch
from beta_sweep import (
    CONFIG,
    COUNT,
    EVALUATION_SEED,
    HERE,
    REWARD,
    SEEDS,
    TEMPERATURES,
    base_model,
    measure,
)

from dpo_core import evaluation
from dpo_core.preferences import on_policy_pairs
from dpo_core.task import BookTask

BETA, BASE_N = 0.5, 20_000
CHANGES = {"three times the pairs": (3, TEMPERATURES), "temperature 1": (1, (1.0,))}


def main() -> None:
    """Train, measure, write."""
    folder, task, runs, bases = (
        Path(sys.argv[1] if len(sys.argv) > 1 else "runs"),
        BookTask(),
        [],
        [],
    )
    for seed in SEEDS:
        base = base_model(seed, folder)
        shares = evaluation.evaluate(base, task, n=BASE_N, seed=EVALUATION_SEED)
        bases.append({"seed": seed, "n": BASE_N, "style": asdict(shares["style"])})
        for change, (times, temperatures) in CHANGES.items():
            pairs = on_policy_pairs(
                base, task, times * COUNT, reward=REWARD, temperatures=temperatures, seed=seed
            )
            config = replace(CONFIG, steps=times * CONFIG.steps)
            runs.append(
                {"change": change} | measure(seed, "soft", BETA, folder, task, pairs, config)
            )
            print(seed, bases[-1]["style"]["value"], change, runs[-1]["style"]["value"], flush=True)
    report = {
        "command": "python chapters/data/beta_half.py",
        "torch": torch.__version__,
        "runs": runs,
        "bases": bases,
    }
    (HERE / "beta_half.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
