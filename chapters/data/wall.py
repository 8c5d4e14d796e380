"""What pairs and demonstrations do for a model that has only begun to learn, for chapter 10: writes wall.json.

    OMP_NUM_THREADS=1 python chapters/data/wall.py [FOLDER]        (about 9 CPU-minutes in two processes)

From the early model of pair_sources.py, which authors who never slip have taught for 500 updates: four arms under one
schedule of 150 updates of 64 pairs or texts, warmed up and decaying once, the data drawn afresh every 30 updates.

dpo 0.1, dpo 1   pairs of one right and one wrong answer of the current policy, the reference moved with it
imitation        the right answers of such pairs alone
demonstrations   texts of the authors

Three rates are tried for each arm on a fourth early model, which is used for nothing else; the rate that gives the
most right answers at temperature 1 is the arm's. Each end is measured as in pair_sources.py, J with reward exact and
beta 0.2 from the early model, and by how many of 256 answers to each prompt are right.
"""

import copy
from dataclasses import asdict

import numpy as np
import torch
from pair_sources import (
    BATCH,
    CAREFUL,
    EARLY_STEPS,
    EVALUATION_SEED,
    SEEDS,
    N,
    chosen_of,
    early_model,
    measure,
)
from recording import Recorder

from dpo_core import evaluation
from dpo_core.model import Llama
from dpo_core.pairs import Pairs
from dpo_core.preferences import on_policy_pairs
from dpo_core.sampling import TOKENIZER, generate, score
from dpo_core.steps import dpo_step, sft_step
from dpo_core.task import judge, stream
from dpo_core.training import LoopConfig, train

TUNING_SEED, ROUNDS, UPDATES, ASKED, DRAWS = 3, 5, 30, 4096, 256
YARDSTICK, RATES = ("exact", 0.2), (4e-4, 2e-3, 1e-2)
ARMS = {"dpo 0.1": 0.1, "dpo 1": 1.0, "imitation": None, "demonstrations": None}  # beta


def right_of(policy: Llama) -> dict[str, str]:
    """How many of 256 answers to each of the population's prompts are exact, and exact with three numbers."""
    prompts = list(CAREFUL.prompt_distribution)
    answers = generate(policy, prompts * DRAWS, seed=EVALUATION_SEED + 2)
    verdicts = [judge(*text) for text in zip(prompts * DRAWS, answers)]
    marks = np.array([[v.exact, v.exact and v.style] for v in verdicts])
    exact, both = marks.reshape(DRAWS, len(prompts), 2).sum(0).T
    return {name: " ".join(map(str, column)) for name, column in (("exact", exact), ("both", both))}


def look(policy: Llama, early: Llama, held_out: Pairs) -> dict:
    """Right answers, greedy and sampled, and how often the implicit reward orders unseen comparisons."""
    logps = score(policy, held_out.prompt * 2, held_out.chosen + held_out.rejected)
    stored = torch.tensor(held_out.ref_chosen_logps + held_out.ref_rejected_logps)
    gain = (logps - stored).view(2, -1)
    ordered = ((gain[0] > gain[1]).double() + 0.5 * (gain[0] == gain[1]).double()).numpy()
    draws = {"n": N, "seed": EVALUATION_SEED}
    greedy = evaluation.evaluate(policy, CAREFUL, temperature=0, **draws)["exact"]
    exact = evaluation.evaluate(policy, CAREFUL, **draws)["exact"]
    ordered = evaluation.mean_interval(ordered)
    return {"greedy": asdict(greedy), "exact": asdict(exact), "held_out": asdict(ordered)}


def one_run(job: dict) -> dict:
    """150 updates under one schedule; the data are drawn afresh every 30."""
    seed, arm, early = job["seed"], job["name"], early_model(job["seed"])
    policy, beta, looks, state = copy.deepcopy(early), ARMS.get(arm), [], {}
    judged = {"reward": "exact", "labels": "deterministic"}
    held_out = on_policy_pairs(early, CAREFUL, 2000, seed=900 + seed, **judged)

    def batch_at(step: int) -> dict[str, torch.Tensor]:
        number, place = divmod(step, UPDATES)
        if place == 0:
            draw = 1000 * seed + number
            if number and job["part"] == "report":
                looks.append(look(policy, early, held_out))
            if arm == "demonstrations":
                size = UPDATES * BATCH
                ids, mask = TOKENIZER.collate(*CAREFUL.demonstrations(size, stream("more", draw)))
                rows = [slice(at, at + BATCH) for at in range(0, size, BATCH)]
                batches = [{"input_ids": ids[r], "completion_mask": mask[r]} for r in rows]
                state["at"] = batches.__getitem__
            else:
                data = on_policy_pairs(policy, CAREFUL, ASKED, seed=draw, **judged)
                if (
                    len(data) >= BATCH or not state
                ):  # a policy that is hardly ever right goes on with its last file
                    pairs_at = data.batches(BATCH, draw)
                    state["at"] = pairs_at if beta else chosen_of(pairs_at)
        return state["at"](place)

    lines = []
    if arm != "start":
        steps, step = ROUNDS * UPDATES, dpo_step(beta) if beta else sft_step
        config = LoopConfig(
            steps=steps, learning_rate=job["rate"], optimizer="muon", log_every=UPDATES
        )
        lines = train(policy, batch_at, step, config, compile=False, progress=False)
    looks.append(look(policy, early, held_out))
    found = measure(policy, early, YARDSTICK, CAREFUL) | looks[-1]
    if job["part"] == "report":
        found["right"] = right_of(policy)
    return found | {
        "looks": looks,
        "accuracies": [line.get("rewards/accuracies") for line in lines],
    }


def main() -> None:
    """Choose the rates, train, measure, write."""
    for seed in (*SEEDS, TUNING_SEED):
        early_model(seed)  # once, before two processes ask for it
    tried = [
        {"part": "try", "name": arm, "seed": TUNING_SEED, "rate": rate}
        for arm in ARMS
        for rate in RATES
    ]
    recorder = Recorder(__file__, len(tried) + len(SEEDS) * (len(ARMS) + 1))
    tried = recorder.all(one_run, tried)
    best = {"start": None}
    for arm in ARMS:
        mine = [run for run in tried if run["name"] == arm]
        best[arm] = max(mine, key=lambda run: run["exact"]["value"])["rate"]
    jobs = [
        {"part": "report", "name": arm, "seed": seed, "rate": rate}
        for seed in SEEDS
        for arm, rate in best.items()
    ]
    runs = recorder.all(one_run, jobs)
    settings = {
        "batch_size": BATCH,
        "optimizer": "muon",
        "n": N,
        "evaluation_seed": EVALUATION_SEED,
        "seeds": SEEDS,
        "tuning_seed": TUNING_SEED,
        "yardstick": YARDSTICK,
        "early_steps": EARLY_STEPS,
        "asked": ASKED,
        "rounds": ROUNDS,
        "updates": UPDATES,
        "draws": DRAWS,
        "rates": RATES,
    }
    recorder.write({"settings": settings, "runs": runs, "tried": tried})


if __name__ == "__main__":
    main()
