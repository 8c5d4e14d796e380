"""Every loss of the family on the same pairs, from three seeds, for chapter 11: writes family_runs.json.

    python chapters/data/family_runs.py [FOLDER]        (about 25 CPU-minutes in two processes, base models not counted)

FOLDER, default runs, holds the base models gen-SEED.model of chapters/data/seeds.py; a missing one is trained.
Each seed has its own base model, pairs and order of pairs; within a seed all losses see the same pairs in the same
order. Labels are sampled. A loss is given three values of beta, half, once and twice the value in LOSSES, and a
fourth beyond where the best of them is the largest or the smallest, on pairs and prompts of a tuning draw; that of
the highest J = reward - 0.25 KL is trained again on the reported draws.
KTO has the same answers, unpaired: chosen ones desirable, rejected ones not. `sft` imitates the chosen answers.
AdamW at 1e-3 is common to all; it was the best of five settings (AdamW 3e-4, 1e-3; Muon 5e-4, 1e-3, 2e-3) that were
tried once with sigmoid at beta 0.25 on seed 0, on the prompts of the tuning.
"""

import json
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import lru_cache
from itertools import repeat
from pathlib import Path

import numpy as np
import torch
from beta_sweep import base_model

from dpo_core import evaluation
from dpo_core.pairs import Pairs
from dpo_core.preferences import on_policy_pairs
from dpo_core.sampling import TOKENIZER, score
from dpo_core.steps import dpo_step, kto_step, sft_step
from dpo_core.task import BookTask, judge, stream
from dpo_core.theory import class_rewards, predicted_optimum
from dpo_core.training import LoopConfig, train

HERE = Path(__file__).resolve().parent
SEEDS, REWARD, LEASH = (0, 1, 2), "style+exact", 0.25
COUNT, BATCH, TEMPERATURES = 9600, 64, (1.5, 2.0)
CONFIG = LoopConfig(steps=COUNT // BATCH, learning_rate=1e-3, log_every=30)
TUNING = {"base": 0, "pairs_seed": 10, "n": 1500, "evaluation_seed": 500}
N, EVALUATION_SEED = 3000, 501  # fresh draws, not those of the tuning
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


def single_answers(pairs: Pairs, reference, seed: int):
    """The batches of KTO: the pairs' answers one by one, and each prompt with the answer before it in the list."""
    order = stream("unpaired", seed).permutation(2 * len(pairs))
    prompts = [(pairs.prompt * 2)[i] for i in order]
    answers = [(pairs.chosen + pairs.rejected)[i] for i in order]
    other = answers[-1:] + answers[:-1]
    logps = torch.tensor(pairs.ref_chosen_logps + pairs.ref_rejected_logps)[torch.from_numpy(order)]
    desirable, other_logps = torch.from_numpy(order < len(pairs)), score(reference, prompts, other)

    def batch_at(step: int) -> dict[str, torch.Tensor]:
        rows = slice(step * 2 * BATCH, (step + 1) * 2 * BATCH)
        ids, mask = TOKENIZER.collate(prompts[rows], answers[rows])
        kl_ids, kl_mask = TOKENIZER.collate(prompts[rows], other[rows])
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


def measure(model, reference, task: BookTask, pairs: Pairs, n: int, seed: int) -> dict:
    """Shares, KL, J, and how far the pairs' own answers have moved, each with its interval."""
    prompts, answers = evaluation.own_answers(model, task, n=n, seed=seed)
    verdicts = [judge(prompt, answer, task.tolerance) for prompt, answer in zip(prompts, answers)]
    ratios = (score(model, prompts, answers) - score(reference, prompts, answers)).numpy()
    worth = np.array([class_rewards(REWARD)[int(v.style), int(v.exact)] for v in verdicts])
    report = evaluation.shares(verdicts) | {"kl": evaluation.mean_interval(ratios)}
    report |= {
        "reward": evaluation.mean_interval(worth),
        "J": evaluation.mean_interval(worth - LEASH * ratios),
    }
    report["tokens"] = evaluation.mean_interval([len(answer) for answer in answers])
    for side in ("chosen", "rejected"):
        texts, before = getattr(pairs, side)[:1000], getattr(pairs, f"ref_{side}_logps")[:1000]
        report[f"{side}_ratio"] = evaluation.mean_interval(
            score(model, pairs.prompt[:1000], texts).numpy() - before
        )
    return {name: asdict(estimate) for name, estimate in report.items()}


def run(
    name: str, beta: float | None, folder: Path, base: int, seed: int, n: int, prompts: int
) -> dict:
    """One training from the base model `base` on the pairs of `seed`, and what it reached."""
    task, pairs = BookTask(), sampled(base, seed, folder)
    reference, policy = base_model(base, folder), base_model(base, folder)
    if name == "sft":
        batch_at, step = imitation(pairs, seed), sft_step
    elif name == "kto":
        batch_at, step = single_answers(pairs, reference, seed), kto_step(beta)
    else:
        loss_type, _, options = LOSSES[name]
        batch_at, step = pairs.batches(BATCH, seed), dpo_step(beta, loss_type, **options)
    last = train(policy, batch_at, step, CONFIG, progress=False)[-1]
    report = {"name": name, "beta": beta, "seed": seed} | measure(
        policy, reference, task, pairs, n, prompts
    )
    print(
        name,
        beta,
        seed,
        *(f"{key} {report[key]['value']:.3f}" for key in ("style", "exact", "kl", "J")),
        flush=True,
    )
    return report | ({"kl_estimate": last["kl"]} if "kl" in last else {})


@lru_cache(maxsize=1)
def sampled(base: int, seed: int, folder: Path) -> Pairs:
    """The pairs of a seed: answers of the base model `base`."""
    settings = {"reward": REWARD, "labels": "sampled", "temperatures": TEMPERATURES, "seed": seed}
    return on_policy_pairs(base_model(base, folder), BookTask(), COUNT, **settings)


def tune(name: str, folder: Path) -> list[dict]:
    """The tries of one loss, best first."""
    middle = LOSSES[name][1]
    tries, betas = [], [0.5 * middle, middle, 2 * middle]
    while betas:
        tries.append(run(name, round(betas.pop(0), 6), folder, *(TUNING[key] for key in TUNING)))
        tries.sort(key=lambda t: -t["J"]["value"])
        if len(tries) == 3 and tries[0]["beta"] != middle:
            betas.append(tries[0]["beta"] ** 2 / middle)
    return tries


def report(name: str, beta: float | None, folder: Path, seed: int) -> dict:
    """One of the runs that the chapter shows."""
    return run(name, beta, folder, seed, seed, N, EVALUATION_SEED)


def main() -> None:
    """Tune, train, measure, write."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs")
    for seed in SEEDS:
        # trained here, where it is missing, and not in two processes at once
        base_model(seed, folder)
    with ProcessPoolExecutor(2, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        tries = dict(zip(LOSSES, pool.map(tune, LOSSES, repeat(folder))))
        best = {name: of[0]["beta"] for name, of in tries.items()} | {"sft": None}
        jobs = [(name, beta, folder, seed) for seed in SEEDS for name, beta in best.items()]
        runs = list(pool.map(report, *zip(*jobs)))
    written = {
        "command": "python chapters/data/family_runs.py",
        "settings": {
            "reward": REWARD,
            "labels": "sampled",
            "leash": LEASH,
            "pairs": COUNT,
            "batch_size": BATCH,
            "pair_temperatures": TEMPERATURES,
            "n": N,
            "evaluation_seed": EVALUATION_SEED,
            "tuning": TUNING,
        }
        | asdict(CONFIG)
        | {"max_grad_norm": None},  # infinite, which JSON cannot say
        "losses": {
            name: {"loss_type": kind, "middle_beta": middle, **options}
            for name, (kind, middle, options) in LOSSES.items()
        },
        "torch": torch.__version__,
        "predicted": predicted_optimum(BookTask(), REWARD, LEASH),
        "tries": [
            {key: t[key] for key in ("name", "beta", "style", "exact", "kl", "J")}
            for of in tries.values()
            for t in of
        ],
        "runs": runs,
    }
    (HERE / "family_runs.json").write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
