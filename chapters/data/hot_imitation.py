"""Imitation of the hot pairs, ties dropped, on the footing of dpo_arms.py, for chapters 9 and 12: writes hot_imitation.json.

    OMP_NUM_THREADS=1 python chapters/data/hot_imitation.py [FOLDER]        (about 1 CPU-minute in two processes)

The baseline on the same file for the arms called hot: their base models, pairs and updates, and a learning rate chosen
among the same three on the TUNING draws of seed 0. `most` says how high such imitation can end: the reward of the
winners, less beta times the KL that their shares of the four classes cost at the least.
"""

import dpo_arms
import numpy as np
from recording import Recorder, folder_argument

from dpo_core import judge

NAME = "imitation, hot, no ties"
dpo_arms.ARMS[NAME] = ("hot", True, {"loss_type": "imitation"})


def run(job: dict) -> dict:
    """One training of this arm; a worker imports this file, and with it the arm's name."""
    return dpo_arms.run(job)


def most(seed: int, folder: str) -> dict:
    """The reward of the winners, and a J that no policy with the winners' shares exceeds."""
    data = dpo_arms.pairs_of(seed, "hot", dpo_arms.COUNT, True, folder)
    found = np.zeros((2, 2))
    for prompt, answer in zip(data.prompt, data.chosen):
        verdict = judge(prompt, answer)
        found[int(verdict.style), int(verdict.exact)] += 1 / len(data)
    style, right = dpo_arms.TASK.style, 1 - dpo_arms.TASK.slip
    base = np.outer((1 - style, style), (1 - right, right))
    kl = float((found * np.log(np.maximum(found, 1e-12) / base)).sum())
    reward = float(found[1].sum() + found[:, 1].sum())
    return {"seed": seed, "reward": reward, "kl": kl, "J": reward - dpo_arms.BETA * kl}


def main() -> None:
    """Tune, train, measure, write."""
    folder = folder_argument()
    recorder = Recorder(__file__, len(dpo_arms.RATES) + len(dpo_arms.SEEDS) - 1)
    known = {"name": NAME, "steps": dpo_arms.STEPS, "folder": folder}
    first = [known | {"seed": 0, "rate": rate} for rate in dpo_arms.RATES]
    runs = recorder.all(run, first)
    tuning = {run["rate"]: run["tuning"] for run in runs}
    rate = max(tuning, key=tuning.get)
    later = [known | {"seed": seed, "rate": rate} for seed in dpo_arms.SEEDS if seed != 0]
    runs = [run for run in runs if run["rate"] == rate] + recorder.all(run, later)
    recorder.write(
        {
            "tuning": tuning,
            "rate": rate,
            "most": [most(seed, folder) for seed in dpo_arms.SEEDS],
            "runs": [{k: v for k, v in r.items() if k not in ("folder", "steps")} for r in runs],
        }
    )


if __name__ == "__main__":
    main()
