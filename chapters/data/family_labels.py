"""Every loss of the family on the same pairs, with three kinds of label, from three seeds, for chapter 11.

    python chapters/data/family_labels.py [FOLDER]        (about 45 CPU-minutes in two processes; writes family_labels.json)

FOLDER, default runs, holds the base models gen-SEED.model; a missing one is trained. Each seed has its own base model,
pairs and order of pairs; within a seed and a kind of label all losses see the same pairs in the same order. Labels are
soft, sampled, or deterministic with ties dropped; the fewer pairs are used more often, since every run has as many
updates. Every arm is given four settings on a tuning draw of base model 0: half, once, twice and four times the middle
beta of LOSSES, and imitation of the chosen answers, which has no beta, half, once, twice and four times the learning
rate 5e-4. The one of the highest J = reward - 0.25 KL is trained again from three seeds and measured on other draws.
Beside them: the base model, and the best of n of its answers, whose KL is that of the closed form.

KTO has the same answers, unpaired: chosen ones desirable, rejected ones not. AdamW at 1e-3 is common to all losses; it
was the best of five settings (AdamW 3e-4, 1e-3; Muon 5e-4, 1e-3, 2e-3) that were tried once with sigmoid at beta 0.25,
sampled labels, seed 0, on the prompts of the tuning.
"""

from copy import deepcopy
from dataclasses import asdict, replace
from functools import lru_cache

import numpy as np
import torch
from recording import Recorder, base_model, folder_argument

from dpo_core import Llama, evaluation, generate, rl, tabular
from dpo_core.pairs import Pairs
from dpo_core.preferences import LABELS, on_policy_pairs
from dpo_core.sampling import TOKENIZER, score
from dpo_core.steps import dpo_step, kto_step, sft_step
from dpo_core.task import BookTask, judge, stream
from dpo_core.theory import class_problem, predicted_optimum, predicted_shares
from dpo_core.training import LoopConfig, train

SEEDS, REWARD, LEASH, TASK = (0, 1, 2), "style+exact", 0.25, BookTask()
COUNT, BATCH, TEMPERATURES = 9600, 64, (1.5, 2.0)
CONFIG = LoopConfig(steps=COUNT // BATCH, learning_rate=1e-3, log_every=30)
TUNING_PAIRS, TUNING_DRAWS, TUNING_N = 10, 500, 1500
DRAWS, N = 501, 3000  # fresh draws, not those of the tuning
TIMES = (0.5, 1.0, 2.0, 4.0)  # the settings, in middle values
MIDDLE_RATE, BEST_OF = 5e-4, (2, 4, 8)
JUDGE = rl.checker(TASK, REWARD)
LOSSES = {  # name: (loss_type, the middle beta, other options)
    "sigmoid": ("sigmoid", 0.25, {}),
    "cdpo": ("sigmoid", 0.25, {"label_smoothing": 0.1}),
    "robust": ("robust", 0.25, {"label_smoothing": 0.1}),
    "exo_pair": ("exo_pair", 0.25, {"label_smoothing": 0.1}),
    "hinge": ("hinge", 0.25, {}),
    "slic": ("slic", 0.25, {}),
    "discopop": ("discopop", 0.25, {}),
    "ipo_sum": ("ipo_sum", 0.06, {}),
    "ipo": ("ipo", 0.4, {}),
    "sigmoid_norm": ("sigmoid_norm", 1.5, {}),
    "simpo": ("simpo", 2.0, {}),
    "orpo": ("orpo", 1.0, {}),
    "sigmoid_sft": ("sigmoid_sft", 0.25, {}),
    "nca_pair": ("nca_pair", 0.25, {}),
    "bco_pair": ("bco_pair", 0.25, {}),
    "sppo_hard": ("sppo_hard", 0.12, {}),
    "apo_zero": ("apo_zero", 0.25, {}),
    "apo_down": ("apo_down", 0.25, {}),
    "kto": ("kto", 0.25, {}),
}


HARD_ONLY = ("cdpo", "robust", "kto")  # two soften the labels themselves; KTO takes good and bad


def single_answers(pairs: Pairs, reference, seed: int):
    """The batches of KTO: the pairs' answers one by one, and each prompt with the answer before it in the list."""
    order = stream("unpaired", seed).permutation(2 * len(pairs))
    prompts = [(pairs.prompt * 2)[i] for i in order]
    answers = [(pairs.chosen + pairs.rejected)[i] for i in order]
    other = answers[-1:] + answers[:-1]
    logps = torch.tensor(pairs.ref_chosen_logps + pairs.ref_rejected_logps)[torch.from_numpy(order)]
    desirable, other_logps = torch.from_numpy(order < len(pairs)), score(reference, prompts, other)

    def batch_at(step: int) -> dict[str, torch.Tensor]:
        rows = np.arange(step * 2 * BATCH, (step + 1) * 2 * BATCH) % len(prompts)
        asked = [prompts[row] for row in rows]
        ids, mask = TOKENIZER.collate(asked, [answers[row] for row in rows])
        kl_ids, kl_mask = TOKENIZER.collate(asked, [other[row] for row in rows])
        return {
            "input_ids": ids,
            "completion_mask": mask,
            "ref_logps": logps[rows],
            "desirable": desirable[rows],
            "kl_ids": kl_ids,
            "kl_mask": kl_mask,
            "kl_ref_logps": other_logps[rows],
        }

    return batch_at


def imitation(pairs: Pairs, seed: int):
    """The batches of fine-tuning on the chosen answers."""
    batch_at = pairs.batches(BATCH, seed)

    def chosen_at(step: int) -> dict[str, torch.Tensor]:
        batch = batch_at(step)
        return {"input_ids": batch["chosen_ids"], "completion_mask": batch["chosen_mask"]}

    return chosen_at


@lru_cache(maxsize=2)
def pairs_of(base: int, labels: str, seed: int, folder: str) -> Pairs:
    """The pairs of a seed: answers of its base model."""
    return on_policy_pairs(
        base_model(base, folder),
        TASK,
        COUNT,
        reward=REWARD,
        labels=labels,
        temperatures=TEMPERATURES,
        seed=seed,
    )


def measured(model: Llama, reference: Llama, pairs: Pairs, n: int, draws: int) -> dict:
    """What an arm reached, and how far the pairs' own answers have moved, each with its interval."""
    found = evaluation.evaluate(
        model, TASK, n=n, seed=draws, reference=reference, reward=JUDGE, beta=LEASH
    )
    some = pairs.take(range(min(1000, len(pairs))))
    for side in ("chosen", "rejected"):
        logps = score(model, some.prompt, getattr(some, side)).numpy()
        moved = logps - np.array(getattr(some, f"ref_{side}_logps"))
        found[f"{side}_ratio"] = evaluation.mean_interval(moved)
    return {name: asdict(estimate) for name, estimate in found.items()}


def trained(job: dict) -> dict:
    """One training, from the base model and on the pairs that the job names, and what it reached."""
    tuning, folder = "seed" not in job, folder_argument()
    base, seed = (0, TUNING_PAIRS) if tuning else (job["seed"], job["seed"])
    n, draws = (TUNING_N, TUNING_DRAWS) if tuning else (N, DRAWS)
    pairs, reference = pairs_of(base, job["labels"], seed, folder), base_model(base, folder)
    policy, name, config = deepcopy(reference), job["name"], CONFIG
    if name == "base":
        return measured(policy, reference, pairs, n, draws)
    if name == "sft":
        batch_at, step = imitation(pairs, seed), sft_step
        config = replace(CONFIG, learning_rate=job["setting"])
    elif name == "kto":
        batch_at, step = single_answers(pairs, reference, seed), kto_step(job["setting"])
    else:
        loss_type, _, options = LOSSES[name]
        batch_at, step = pairs.batches(BATCH, seed), dpo_step(job["setting"], loss_type, **options)
    last = train(policy, batch_at, step, config, progress=False)[-1]
    found = measured(policy, reference, pairs, n, draws) | {"used_pairs": len(pairs)}
    return found | ({"kl_estimate": last["kl"]} if "kl" in last else {})


def best_of_n(job: dict) -> dict:
    """The best of n answers of the base model; the KL is the closed form's, which no sample gives."""
    n, rng = job["setting"], stream("best of n", job["seed"])
    prompts, _ = TASK.demonstrations(N, rng)
    asked = [prompt for prompt in prompts for _ in range(n)]
    seed = int(rng.integers(2**31))
    drawn = generate(base_model(job["seed"], folder_argument()), asked, seed=seed)
    rewards = JUDGE(asked, drawn).view(N, n)
    texts = [drawn[row * n + int(k)] for row, k in enumerate(rewards.argmax(-1))]
    kl = predicted_shares(TASK, tabular.best_of_n(class_problem(TASK, REWARD), n))["kl"]
    worth = rewards.amax(-1).double().numpy()
    found = evaluation.shares([judge(*text, TASK.tolerance) for text in zip(prompts, texts)])
    found |= {
        "kl": evaluation.Estimate(kl, kl, kl),
        "reward": evaluation.mean_interval(worth),
        "J": evaluation.mean_interval(worth - LEASH * kl),
    }
    return {name: asdict(estimate) for name, estimate in found.items()}


def settings_of(name: str) -> list[float]:
    """The four settings of an arm."""
    middle = MIDDLE_RATE if name == "sft" else LOSSES[name][1]
    return [round(times * middle, 6) for times in TIMES]


def main() -> None:
    """Tune, train, measure, write."""
    folder = folder_argument()
    for seed in SEEDS:
        base_model(seed, folder)  # trained here if it is missing, not in two processes at once
    arms = [
        (labels, name)
        for labels in LABELS
        for name in (*LOSSES, "sft")
        if labels != "soft" or name not in HARD_ONLY
    ]
    total = len(arms) * (len(TIMES) + len(SEEDS)) + len(SEEDS) * (len(LABELS) + len(BEST_OF))
    recorder = Recorder(__file__, total)
    tries = recorder.all(
        trained,
        [
            {"labels": labels, "name": name, "setting": setting}
            for labels, name in arms
            for setting in settings_of(name)
        ],
    )
    best = {}
    for labels, name in arms:
        mine = [t for t in tries if (t["labels"], t["name"]) == (labels, name)]
        best[labels, name] = max(mine, key=lambda t: t["J"]["value"])["setting"]
    runs = recorder.all(
        trained,
        [
            {"labels": labels, "name": name, "setting": best.get((labels, name)), "seed": seed}
            for labels in LABELS
            for seed in SEEDS
            for name in ("base", *LOSSES, "sft")
            if name == "base" or (labels, name) in best
        ],
    )
    drawn = recorder.all(
        best_of_n,
        [{"name": f"best of {n}", "setting": n, "seed": seed} for n in BEST_OF for seed in SEEDS],
    )
    recorder.write(
        {
            "settings": {
                "reward": REWARD,
                "leash": LEASH,
                "pairs": COUNT,
                "batch_size": BATCH,
                "pair_temperatures": TEMPERATURES,
                "n": N,
                "evaluation_seed": DRAWS,
                "tuning": {"pairs": TUNING_PAIRS, "evaluation_seed": TUNING_DRAWS, "n": TUNING_N},
            }
            | asdict(CONFIG),
            "losses": {
                name: {"loss_type": kind, "middle_beta": middle, **options}
                for name, (kind, middle, options) in LOSSES.items()
            },
            "predicted": predicted_optimum(TASK, REWARD, LEASH),
            "tries": [
                {key: t[key] for key in ("labels", "name", "setting", "style", "exact", "kl", "J")}
                for t in tries
            ],
            "runs": runs,
            "best_of_n": drawn,
        }
    )


if __name__ == "__main__":
    main()
