"""What more demonstrations do for the early model of data_decides.py, for chapter 10: writes more_demonstrations.json.

    python chapters/data/more_demonstrations.py        (about 3 CPU-minutes in three processes)

The same training as that of the early model, seed by seed, with 900 updates in place of 500: about as many
CPU-seconds more as five rounds of pairs take. Measured on the same draws.
"""

import json
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict

import torch
from data_decides import CAREFUL, EVALUATION_SEED, HERE, SEEDS, N, early_model

from dpo_core import evaluation

STEPS = 900


def longer(seed: int) -> dict:
    """One training and what it reached, greedy and sampled."""
    torch.set_num_threads(1)
    model = early_model(seed, STEPS)
    draws = {"n": N, "seed": EVALUATION_SEED}
    greedy = evaluation.evaluate(model, CAREFUL, temperature=0, **draws)["exact"]
    sampled = evaluation.evaluate(model, CAREFUL, **draws)["exact"]
    return {"seed": seed, "greedy": asdict(greedy), "exact": asdict(sampled)}


def main() -> None:
    """Train, measure, write."""
    with ProcessPoolExecutor(len(SEEDS)) as pool:
        runs = list(pool.map(longer, SEEDS))
    report = {
        "command": "python chapters/data/more_demonstrations.py",
        "steps": STEPS,
        "torch": torch.__version__,
        "runs": runs,
    }
    (HERE / "more_demonstrations.json").write_text(
        json.dumps(report, indent=1) + "\n", encoding="utf-8"
    )
    print(runs, file=sys.stderr)


if __name__ == "__main__":
    main()
