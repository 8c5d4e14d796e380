"""Leashes in the loss, followed as far as 25,600 judged answers lead, for chapter 12: writes rl_leash.json.

    python chapters/data/rl_leash.py [FOLDER]        (about 6 CPU-minutes in two processes)

FOLDER, default runs, holds the base models gen-SEED.model; a missing one is trained.

The best setting of an arm may be one that stops before its end. Here GRPO, Dr. GRPO and DAPO, each with k3 and with
ratio_k3, have one setting for all: of those tried in rl_methods.py the one with the most updates and the higher rate.
Three seeds, each with its own base model; measured on the draws of rl_methods.py.
"""

from recording import Recorder, base_model, folder_argument
from rl_methods import BETA, JUDGED, REWARD, SEEDS, N, run

SETTING = {"rate": 4e-3, "prompts": 32, "answers": 4}
ARMS = ("dr_grpo", "dr_grpo_ratio", "grpo", "grpo_ratio", "dapo", "dapo_ratio")


def main() -> None:
    """Train, measure, write."""
    folder = folder_argument()
    for seed in SEEDS:
        base_model(seed, folder)
    known = {"setting": SETTING, "judged": JUDGED, "folder": folder}
    jobs = [known | {"name": name, "seed": seed} for name in ARMS for seed in SEEDS]
    recorder = Recorder(__file__, jobs=len(jobs))
    runs = recorder.all(run, jobs)
    settings = {"reward": REWARD, "beta": BETA, "judged": JUDGED, "n": N, "setting": SETTING}
    recorder.write({"settings": settings, "runs": runs})


if __name__ == "__main__":
    main()
