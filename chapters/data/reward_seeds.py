"""Which differences a reward model learns, over seeds and with more pairs, for chapter 5: writes reward_seeds.json.

    OMP_NUM_THREADS=1 python chapters/data/reward_seeds.py        (about 6 CPU-minutes)

Chapter 5's reward model, trained on pairs of the shipped base model's own answers, sampled labels, each pair used once,
in batches of 64; the seed draws pairs and order. It is measured on 8,000 fresh pairs: on those that differ in style
alone, and on those that differ in exactness alone, how often it orders them right, and its mean difference of rewards.
Every run is kept in build/reward_seeds/ as soon as it is whole, so that an interrupted command goes on where it stopped.
"""

import json
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from dpo_core import BookTask, load_pretrained
from dpo_core.evaluation import mean_interval, wilson
from dpo_core.preferences import on_policy_pairs
from dpo_core.reward import RewardModel, predict_rewards
from dpo_core.steps import reward_step
from dpo_core.storage import json_bytes
from dpo_core.task import judge
from dpo_core.training import LoopConfig, train

HERE = Path(__file__).resolve().parent
KEPT = HERE.parents[1] / "build" / "reward_seeds"
SIZES, SEEDS, BATCH, RATE, FRESH, REWARD = (
    (6_400, 51_200),
    (0, 1, 2),
    64,
    0.01,
    8_000,
    "style+exact",
)


def run(pairs: int, seed: int) -> dict:
    """One reward model, and how it orders fresh pairs of two kinds."""
    started, task, base = time.process_time(), BookTask(), load_pretrained("gen")
    made = {"reward": REWARD, "labels": "sampled", "progress": True}
    data = on_policy_pairs(base, task, pairs, seed=seed, **made)
    model = RewardModel(base)
    config = LoopConfig(steps=pairs // BATCH, learning_rate=RATE, optimizer="muon")
    train(model, data.batches(BATCH, seed=seed), reward_step, config, compile=False)
    fresh = on_policy_pairs(base, task, FRESH, seed=seed + 1_000, **made)
    columns = fresh.chosen, fresh.rejected
    scores = [predict_rewards(model, fresh.prompt, column).double().numpy() for column in columns]
    verdicts = [[judge(p, a) for p, a in zip(fresh.prompt, column)] for column in columns]
    kinds = [np.array([(int(v.style), int(v.exact)) for v in column]) for column in verdicts]
    result = {"pairs": pairs, "seed": seed}
    for name, own, other in (("style", 0, 1), ("exact", 1, 0)):
        ahead = kinds[0] - kinds[1]
        rows = (ahead[:, own] != 0) & (ahead[:, other] == 0)
        h = ((scores[0] - scores[1]) * ahead[:, own])[rows]  # seen from the better answer
        accuracy = wilson(int((h > 0).sum()), len(h))
        result[name] = {
            "accuracy": asdict(accuracy),
            "difference": asdict(mean_interval(h)),
            "rows": len(h),
        }
    result["cpu_seconds"] = round(time.process_time() - started, 1)
    return result


def main() -> None:
    """Run what is not kept yet, then write the file."""
    torch.set_num_threads(1)
    KEPT.mkdir(parents=True, exist_ok=True)
    runs = []
    for pairs in SIZES:
        for seed in SEEDS:
            kept = KEPT / f"{pairs}-{seed}.json"
            if not kept.exists():
                print(f"{pairs} pairs, seed {seed}")
                kept.write_bytes(json_bytes(run(pairs, seed)))
            runs.append(json.loads(kept.read_text(encoding="utf-8")))
    report = {
        "command": "OMP_NUM_THREADS=1 python chapters/data/reward_seeds.py",
        "torch": torch.__version__,
        "batch_size": BATCH,
        "learning_rate": RATE,
        "optimizer": "muon",
        "fresh": FRESH,
        "runs": runs,
    }
    path = HERE / "reward_seeds.json"
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {path.name}")


if __name__ == "__main__":
    main()
