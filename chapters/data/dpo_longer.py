"""Longer trainings with DPO, and where their pairs look, for chapter 9: writes dpo_longer.json beside this file.

    OMP_NUM_THREADS=1 python chapters/data/dpo_longer.py [FOLDER]        (about 10 CPU-minutes in two processes)

FOLDER, default runs, is that of dpo_arms.py, whose base models and measurements these are. Soft labels, beta 0.25,
96,000 pairs, each used once in batches of 64. `shipped` is the recipe of the shipped model, and in seed 0 that model;
`longer` differs from it in the temperature of the second answers alone.
"""

import copy

from dpo_arms import (
    BATCH,
    BETA,
    N_REPORT,
    REPORT,
    SEEDS,
    TEMPERATURES,
    held_out_of,
    measure,
    pairs_of,
)
from recording import Recorder, base_model, folder_argument

from dpo_core import load_pretrained
from dpo_core.steps import dpo_step
from dpo_core.training import LoopConfig, train

COUNT, STEPS = 96_000, 1_500
# name: second answers, optimizer, learning rate
RUNS = {
    "longer": ("soft", "muon", 2e-3),
    "shipped": ("hot", "muon", 2e-3),
}


def run(job: dict) -> dict:
    """One training and what it reached."""
    seed, name, folder = job["seed"], job["name"], job["folder"]
    base = policy = base_model(seed, folder)
    if name == "shipped" and seed == 0:
        policy = load_pretrained("dpo")
    else:
        kind, optimizer, rate = RUNS[name]
        data, policy = pairs_of(seed, kind, job["pairs"], False, folder), copy.deepcopy(base)
        config = LoopConfig(steps=job["steps"], learning_rate=rate, optimizer=optimizer)
        train(policy, data.batches(BATCH, seed), dpo_step(BETA), config, progress=False)
    return measure(policy, base, held_out_of(seed, folder), N_REPORT, REPORT)


def main() -> None:
    """Train, measure, write."""
    folder = folder_argument()
    jobs = [
        {"name": name, "seed": seed, "folder": folder, "pairs": COUNT, "steps": STEPS}
        for seed in SEEDS
        for name in RUNS
    ]
    recorder = Recorder(__file__, len(jobs))
    runs = recorder.all(run, jobs)
    recorder.write(
        {
            "settings": {
                "beta": BETA,
                "batch_size": BATCH,
                "steps": STEPS,
                "pairs": COUNT,
                "runs": RUNS,
                "temperatures": TEMPERATURES,
                "n_report": N_REPORT,
                "report_seed": REPORT,
            },
            "runs": [{k: v for k, v in r.items() if k not in ("folder", "steps")} for r in runs],
        }
    )


if __name__ == "__main__":
    main()
