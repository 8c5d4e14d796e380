"""Where pairs come from, and what each kind teaches, from three seeds, for chapter 10: writes pair_sources.json.

    OMP_NUM_THREADS=1 python chapters/data/pair_sources.py [FOLDER]        (about 12 CPU-minutes in two processes)

FOLDER, default runs, holds the base models gen-SEED.model and the early models early-SEED.model; a missing one is
trained. Each seed has its own base model, pairs and order of pairs. Every file of pairs is used twice, with the same
number of updates: by `dpo`, and by `sft`, which imitates its chosen answers alone. Muon at 2e-3, batches of 64,
settings of chapter 9; one setting each, nothing was tuned. Every run has J of its experiment's reward and beta, and
stands beside its base model.

labels     reward style, beta 0.5: sampled labels; deterministic with ties dropped; with ties kept, imitation only
noise      the sampled labels with a share of them turned round
source     reward exact, beta 0.25: population, on-policy, an early worse model, and the checker (deterministic)
negatives  the checker's chosen answers against a far-off answer, and against one that is not well formed
length     reward exact, sampled, beta 0.5: all pairs; pairs whose shorter winners were mostly lost; balanced again
amount     reward style+exact, sampled, beta 0.25: 400, 1600, 6400 pairs, as many updates, or one epoch
iterate    reward style, soft labels, beta 1: three rounds of fresh pairs, reference moved or fixed
"""

import copy
from dataclasses import asdict
from functools import cache
from pathlib import Path

import numpy as np
import torch
from recording import Recorder, base_model, folder_argument

from dpo_core import evaluation
from dpo_core.checkpoint import load_model, save_model
from dpo_core.model import Llama, ModelConfig
from dpo_core.pairs import Pairs, with_reference
from dpo_core.preferences import on_policy_pairs, population_pairs
from dpo_core.rl import checker
from dpo_core.sampling import TOKENIZER, generate
from dpo_core.steps import dpo_step, sft_step
from dpo_core.task import BookTask, judge, stream
from dpo_core.training import LoopConfig, train

SEEDS, TUNING_SEED, COUNT, BATCH, STEPS, RATE = (0, 1, 2), 3, 6400, 64, 100, 2e-3
N, EVALUATION_SEED = 2000, 700
KEEP_SHORTER, NOISE, AMOUNTS = 0.25, (0.2, 0.4), (400, 1600)
YARDSTICK = {  # of each experiment: reward and beta
    "labels": ("style", 0.5),
    "noise": ("style", 0.5),
    "source": ("exact", 0.25),
    "negatives": ("exact", 0.25),
    "length": ("exact", 0.5),
    "amount": ("style+exact", 0.25),
    "iterate": ("style", 1.0),
}
EARLY_STEPS = 500
TASK, CAREFUL = BookTask(), BookTask(slip=0.0)


def measure(
    policy: Llama, reference: Llama, yardstick: tuple[str, float], task: BookTask = TASK
) -> dict[str, dict]:
    """Shares, KL, J, tokens an answer, and the share of wrong answers that no author writes."""
    reward, beta = yardstick
    draws = {"n": N, "seed": EVALUATION_SEED}
    worth = {"reference": reference, "reward": checker(task, reward), "beta": beta}
    report = evaluation.evaluate(policy, task, **worth, **draws)
    prompts, answers = evaluation.own_answers(policy, task, **draws)
    texts = list(zip(prompts, answers))
    new = sum(not judge(*text).exact and text not in task.log_conditional for text in texts)
    report["new"] = evaluation.wilson(new, N)
    report["tokens"] = evaluation.mean_interval([len(a) for a in answers])
    return {name: asdict(estimate) for name, estimate in report.items()}


def chosen_of(pairs_at):
    """The batches of a file of pairs without its rejected answers."""

    def batch_at(step: int) -> dict[str, torch.Tensor]:
        batch = pairs_at(step)
        return {"input_ids": batch["chosen_ids"], "completion_mask": batch["chosen_mask"]}

    return batch_at


def fit(start: Llama, data: Pairs, method: str, beta: float, seed: int, steps: int):
    """A copy of `start` trained on the pairs by DPO or on their chosen answers, and its last metrics."""
    policy, pairs_at = copy.deepcopy(start), data.batches(min(BATCH, len(data)), seed)
    warmup = min(20, steps // 2)
    config = LoopConfig(steps=steps, learning_rate=RATE, optimizer="muon", warmup=warmup)
    if method == "dpo":
        batch_at, step = pairs_at, dpo_step(beta)
    else:
        batch_at, step = chosen_of(pairs_at), sft_step
    return policy, train(policy, batch_at, step, config, compile=False, progress=False)[-1]


def hard(soft: Pairs, swap: np.ndarray) -> Pairs:
    """The pairs with the marked ones turned round, and every label 1."""
    turn = {"chosen": "rejected", "rejected": "chosen"}
    columns = {"prompt": soft.prompt, "preference_prob": [1.0] * len(soft)}
    for side, other in turn.items():
        for name in ("{}", "ref_{}_logps"):
            one, two = getattr(soft, name.format(side)), getattr(soft, name.format(other))
            columns[name.format(side)] = [b if s else a for a, b, s in zip(one, two, swap)]
    return Pairs(**columns)


def sampled(soft: Pairs, seed: int, noise: float = 0.0) -> Pairs:
    """One draw from every soft label, turned round with probability `noise`."""
    q = np.array(soft.preference_prob)
    return hard(soft, stream("labels", seed).random(len(soft)) >= q + noise * (1 - 2 * q))


def decided(soft: Pairs) -> Pairs:
    """Deterministic labels, ties dropped."""
    rows = np.flatnonzero(np.array(soft.preference_prob) > 0.5)
    return hard(soft.take(rows), np.zeros(len(rows), dtype=bool))


def negatives(base: Llama, near: Pairs, kind: str) -> Pairs:
    """The chosen answers of `near` against worse ones than theirs: `far`, `malformed`."""
    if kind == "far":  # the answer to somebody else's prompt
        rejected = near.chosen[1:] + near.chosen[:1]
    else:  # the right answer without its last number
        rejected = [answer.rstrip("E0123456789") + "E" for answer in near.chosen]
    return with_reference(base, near.prompt, near.chosen, rejected, [1.0] * len(near))


def by_length(data: Pairs) -> np.ndarray:
    """1 where the chosen answer has more numbers than the rejected one, -1 where fewer, else 0."""
    numbers = [
        [judge(p, a).numbers for p, a in zip(data.prompt, getattr(data, side))]
        for side in ("chosen", "rejected")
    ]
    return np.sign(np.subtract(*numbers))


@cache
def early_model(seed: int) -> Llama:
    """A model that has only begun to learn, from authors who never slip: its mistakes are inability."""
    path = Path(folder_argument()) / f"early-{seed}.model"
    if path.exists():
        return load_model(path)

    def batch_at(step: int) -> dict[str, torch.Tensor]:
        ids, mask = TOKENIZER.collate(*CAREFUL.demonstrations(128, stream("early", seed, step)))
        return {"input_ids": ids, "completion_mask": mask}

    model = Llama(ModelConfig()).reset_parameters(seed)
    config = LoopConfig(steps=EARLY_STEPS, learning_rate=0.01, optimizer="muon", warmup=50)
    train(model, batch_at, sft_step, config, compile=False, progress=False)
    save_model(model, path)
    return model


@cache
def drawn(seed: int, reward: str, source: str = "on-policy") -> Pairs:
    """6,400 comparisons with soft labels."""
    base = base_model(seed, folder_argument())
    if source == "population":
        return population_pairs(base, TASK, COUNT, reward=reward, seed=seed)
    sampler = early_model(seed) if source == "other" else None
    return on_policy_pairs(base, TASK, COUNT, reward=reward, sampler=sampler, seed=seed)


def thinned(seed: int, name: str) -> Pairs:
    """The files of `length`."""
    every = sampled(drawn(seed, "exact"), seed)
    if name == "all":
        return every
    order, chance = by_length(every), stream("kept", seed).random(COUNT)
    skewed = every.take(np.flatnonzero((order >= 0) | (chance < KEEP_SHORTER)))
    if name == "skewed":
        return skewed
    order = by_length(skewed)
    drop = set(np.flatnonzero(order > 0)[: (order > 0).sum() - (order < 0).sum()])
    return skewed.take([row for row in range(len(skewed)) if row not in drop])


def file_of(experiment: str, name: str, seed: int) -> Pairs:
    """The pairs that a run is trained on."""
    reward, _ = YARDSTICK[experiment]
    if experiment == "length":
        return thinned(seed, name)
    if experiment == "negatives" or name == "checker":
        near = decided(drawn(seed, "exact"))
        base = base_model(seed, folder_argument())
        return near if name == "checker" else negatives(base, near, name)
    if experiment == "source":
        return drawn(seed, reward, name)
    soft = drawn(seed, reward)
    if experiment == "noise":
        return sampled(soft, seed, float(name))
    if experiment == "amount":
        return sampled(soft, seed).take(range(int(name.split()[0])))
    if name == "kept":
        return hard(soft, np.zeros(COUNT, dtype=bool))
    return sampled(soft, seed) if name == "sampled" else decided(soft)


def against(policy: Llama, base: Llama) -> list[list[int]]:
    """Answers of the policy beside the base model's: pairs counted by (more, as many, fewer numbers) and (better,
    as good, worse)."""
    prompts, own = evaluation.own_answers(policy, TASK, n=N, seed=EVALUATION_SEED)
    other = generate(base, prompts, seed=EVALUATION_SEED + 1)
    table = [[0] * 3 for _ in range(3)]
    for prompt, one, two in zip(prompts, own, other):
        a, b = judge(prompt, one), judge(prompt, two)
        table[1 - int(np.sign(a.numbers - b.numbers))][1 - (a.exact - b.exact)] += 1
    return table


def one_run(job: dict) -> dict:
    """Train by one method on one file, measure."""
    experiment, name, method, seed = (job[k] for k in ("experiment", "file", "method", "seed"))
    base = base_model(seed, folder_argument())
    if method == "base":
        return measure(base, base, YARDSTICK[experiment])
    data = file_of(experiment, name, seed)
    steps = len(data) // BATCH if name.endswith("once") else STEPS
    policy, last = fit(base, data, method, YARDSTICK[experiment][1], seed, steps)
    found = {"pairs": len(data), "steps": steps} | measure(policy, base, YARDSTICK[experiment])
    if method == "dpo":
        found["accuracy"] = last["rewards/accuracies"]
    if experiment == "length":
        found["against_base"] = against(policy, base)
    return found


def iterate(job: dict) -> dict:
    """Three rounds from fresh pairs: reference moved with the policy, kept fixed, or imitation."""
    seed, arm, rounds = job["seed"], job["name"], []
    policy = base = base_model(seed, folder_argument())
    for number in range(1, 4):
        reference, draw = base if arm == "fixed" else policy, 1000 * seed + number
        made = {"reward": "style", "sampler": policy, "seed": draw}
        data = on_policy_pairs(reference, TASK, 60 * BATCH, **made)
        if arm == "imitation":
            data = sampled(data, draw)
        policy, _ = fit(policy, data, "sft" if arm == "imitation" else "dpo", 1.0, seed, 60)
        rounds.append(measure(policy, base, YARDSTICK["iterate"]))
    return {"rounds": rounds}


def dispatch(job: dict) -> dict:
    return iterate(job) if job["experiment"] == "iterate" else one_run(job)


def job_list() -> list[dict]:
    """Every run of every seed."""
    files = {
        "labels": ["sampled", "kept", "dropped"],
        "noise": [f"{noise:g}" for noise in NOISE],
        "source": ["population", "on-policy", "other", "checker"],
        "negatives": ["far", "malformed"],
        "length": ["all", "skewed", "balanced"],
        "amount": ["6400", *(f"{n}{o}" for n in AMOUNTS for o in ("", " once"))],
    }
    jobs = []
    for seed in SEEDS:
        for experiment, names in files.items():
            made = {"experiment": experiment, "seed": seed}
            jobs.append({**made, "name": "base", "file": "", "method": "base"})
            for name in names:
                # imitation does not see the rejected answers; ties kept have no better answer for DPO to be sure of
                methods = {"negatives": ["dpo"]}.get(experiment, ["dpo", "sft"])
                for method in ["sft"] if name == "kept" else methods:
                    jobs.append(
                        {**made, "name": f"{name} {method}", "file": name, "method": method}
                    )
        arms = ("moved", "fixed", "imitation")
        jobs += [{"experiment": "iterate", "name": arm, "seed": seed} for arm in arms]
    return jobs


def main() -> None:
    """Train, measure, write."""
    for seed in SEEDS:
        early_model(seed)  # once, before two processes ask for it
    jobs = job_list()
    recorder = Recorder(__file__, len(jobs))
    runs = recorder.all(dispatch, jobs)
    settings = {
        "batch_size": BATCH,
        "pairs": COUNT,
        "steps": STEPS,
        "optimizer": "muon",
        "learning_rate": RATE,
        "n": N,
        "evaluation_seed": EVALUATION_SEED,
        "keep_shorter": KEEP_SHORTER,
        "seeds": SEEDS,
        "yardstick": YARDSTICK,
        "early_steps": EARLY_STEPS,
    }
    kept = {name: [run for run in runs if run["experiment"] == name] for name in YARDSTICK}
    recorder.write({"settings": settings, **kept})


if __name__ == "__main__":
    main()
