"""What the reward models of rl_leak.py know, for chapter 12: writes rl_scores.json.

    python chapters/data/rl_scores.py [FOLDER]        (about 3 CPU-minutes, base models not counted)

FOLDER, default runs, holds the base models gen-SEED.model of chapters/data/seeds.py; a missing one is trained.

The five reward models are made again, as rl_leak.py makes them. Each ranks 20,000 new pairs of its base model's
answers, ties left out; counted is how often it gives the better answer the higher score, over all pairs and by their
kind: of unlike style, both of two numbers, both of three.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import torch
from beta_sweep import base_model
from rl_frontier import REWARD, SEEDS, TASK
from rl_leak import reward_model

from dpo_core.evaluation import wilson
from dpo_core.preferences import on_policy_pairs
from dpo_core.progress import progress_bar
from dpo_core.task import judge

HERE = Path(__file__).resolve().parent
# pairs, and what their seeds are moved by: unlike those of any training
PAIRS, HELD_OUT = 20_000, 2000


def ranked(seed: int, folder: Path) -> dict:
    """The share of pairs that the reward model of a seed ranks right, by kind."""
    base = base_model(seed, folder)
    score = reward_model(base, seed)
    data = on_policy_pairs(
        base, TASK, PAIRS, reward=REWARD, labels="deterministic", seed=seed + HELD_OUT
    )
    right = (score(data.prompt, data.chosen) > score(data.prompt, data.rejected)).tolist()
    counts: dict[str, list[bool]] = {"all": right, "unlike": [], "two": [], "three": []}
    for prompt, *answers, hit in zip(data.prompt, data.chosen, data.rejected, right):
        numbers = {judge(prompt, answer).numbers for answer in answers}
        kind = {(2,): "two", (3,): "three", (2, 3): "unlike"}.get(tuple(sorted(numbers)))
        if kind:  # a pair with another kind of answer counts in `all` alone
            counts[kind].append(hit)
    return {"seed": seed} | {
        kind: asdict(wilson(sum(hits), len(hits))) | {"pairs": len(hits)}
        for kind, hits in counts.items()
    }


def main() -> None:
    """Fit, rank, write."""
    torch.set_num_threads(1)
    folder, found = Path(sys.argv[1] if len(sys.argv) > 1 else "runs"), []
    with progress_bar(total=len(SEEDS), unit="model", shown=True) as bar:
        for seed in SEEDS:
            found.append(ranked(seed, folder))
            bar.update()
    report = {
        "command": "python chapters/data/rl_scores.py",
        "torch": torch.__version__,
        "seeds": found,
    }
    (HERE / "rl_scores.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
