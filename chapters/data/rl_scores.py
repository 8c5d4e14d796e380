"""What the reward models of rl_leak.py know, for chapter 12: writes rl_scores.json.

    python chapters/data/rl_scores.py [FOLDER]        (about 3 CPU-minutes in two processes)

FOLDER, default runs, holds the base models gen-SEED.model; a missing one is trained.

The five reward models are made again, as rl_leak.py makes them. Each ranks 20,000 new pairs of its base model's
answers, ties left out; counted is how often it gives the better answer the higher score, over all pairs and by their
kind: of unlike style, both of two numbers, both of three.
"""

from dataclasses import asdict

from recording import Recorder, base_model, folder_argument
from rl_leak import SEEDS, reward_model
from rl_methods import REWARD, TASK

from dpo_core.evaluation import wilson
from dpo_core.preferences import on_policy_pairs
from dpo_core.task import judge

# pairs, and what their seeds are moved by: unlike those of any training
PAIRS, HELD_OUT = 20_000, 2000


def ranked(job: dict) -> dict:
    """The share of pairs that the reward model of a seed ranks right, by kind."""
    seed = job["seed"]
    base = base_model(seed, job["folder"])
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
    return {
        kind: asdict(wilson(sum(hits), len(hits))) | {"pairs": len(hits)}
        for kind, hits in counts.items()
    }


def main() -> None:
    """Fit, rank, write."""
    folder = folder_argument()
    for seed in SEEDS:
        base_model(seed, folder)
    recorder = Recorder(__file__, jobs=len(SEEDS))
    jobs = [{"seed": seed, "folder": folder} for seed in SEEDS]
    recorder.write({"seeds": recorder.all(ranked, jobs)})


if __name__ == "__main__":
    main()
