"""Where pairs come from, and what each kind teaches, from three seeds, for chapter 10: writes data_decides.json.

    python chapters/data/data_decides.py [FOLDER]        (about 16 CPU-minutes in three processes)

FOLDER, default runs, holds the base models gen-SEED.model of chapters/data/seeds.py; a missing one is trained.
Each seed has its own base model, pairs and order of pairs. Nearly every experiment trains twice from the same pairs:
`dpo`, and `sft`, which imitates the chosen answers alone, with the same number of updates. Muon at 2e-3, batches
of 64 pairs, settings of chapter 9; nothing was tuned here, but for the learning rate of `gentle` in `reach`.

labels     reward style, beta 0.5: sampled labels; deterministic with ties dropped; imitation also with ties kept
noise      the sampled labels with a share of them turned round
source     reward exact, beta 0.25: population, on-policy, an early worse model, and the checker (deterministic)
negatives  the checker's chosen answers against a far-off answer, and against one that is not well formed
length     reward exact, sampled, beta 0.5: all pairs; pairs whose shorter winners were mostly lost; balanced again
amount     reward style+exact, sampled, beta 0.25: 400, 1600, 6400 pairs, as many updates, or one epoch
iterate    reward style, soft labels, beta 1: three rounds of fresh pairs, reference moved or fixed
reach      from an early model of authors who never slip: five rounds of checker-ranked pairs, against demonstrations
"""

import copy
import json
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from itertools import repeat
from pathlib import Path

import numpy as np
import torch
from beta_sweep import base_model

from dpo_core import evaluation
from dpo_core.model import Llama, ModelConfig
from dpo_core.pairs import Pairs, with_reference
from dpo_core.preferences import on_policy_pairs, population_pairs
from dpo_core.sampling import TOKENIZER, score
from dpo_core.steps import dpo_step, sft_step
from dpo_core.task import BookTask, judge, stream
from dpo_core.training import LoopConfig, train

HERE = Path(__file__).resolve().parent
SEEDS, COUNT, BATCH, STEPS = (0, 1, 2), 6400, 64, 100
N, EVALUATION_SEED = 2000, 700
KEEP_SHORTER, NOISE, AMOUNTS = 0.25, (0.2, 0.4), (400, 1600)
EARLY_STEPS, ROUNDS, ASKED = 500, 5, 4096
WAYS = (  # of reach: name, method, beta, learning rate
    ("dpo", "dpo", 0.1, 2e-3),
    ("gentle", "dpo", 1.0, 4e-4),
    ("sft", "sft", 0, 2e-3),
    ("demonstrations", "sft", 0, 2e-3),
)
TASK, CAREFUL = BookTask(), BookTask(slip=0.0)


def fit(
    start: Llama,
    data: Pairs,
    method: str,
    beta: float,
    seed: int,
    steps: int = STEPS,
    rate: float = 2e-3,
):
    """A copy of `start` trained on the pairs by DPO or on their chosen answers, and the last line of its metrics."""
    policy, pairs_at = copy.deepcopy(start), data.batches(min(BATCH, len(data)), seed)

    def chosen_at(step: int) -> dict[str, torch.Tensor]:
        batch = pairs_at(step)
        return {"input_ids": batch["chosen_ids"], "completion_mask": batch["chosen_mask"]}

    config = LoopConfig(
        steps=steps, learning_rate=rate, optimizer="muon", warmup=min(20, steps // 2)
    )
    batch_at, step = (pairs_at, dpo_step(beta)) if method == "dpo" else (chosen_at, sft_step)
    return policy, train(policy, batch_at, step, config, progress=False)[-1]


def measure(policy: Llama, reference: Llama, task: BookTask = TASK) -> dict:
    """Shares, KL, tokens an answer, and the share of wrong answers that no author writes."""
    report = evaluation.evaluate(policy, task, n=N, seed=EVALUATION_SEED, reference=reference)
    prompts, answers = evaluation.own_answers(policy, task, n=N, seed=EVALUATION_SEED)
    texts = list(zip(prompts, answers))
    new = sum(not judge(*text).exact and text not in task.log_conditional for text in texts)
    report |= {
        "new": evaluation.wilson(new, N),
        "tokens": evaluation.mean_interval([len(a) for a in answers]),
    }
    return {name: asdict(estimate) for name, estimate in report.items()}


def both(
    base: Llama, data: Pairs, beta: float, seed: int, name: str, methods=("dpo", "sft"), steps=STEPS
) -> list[dict]:
    """Train by each method, measure."""
    runs = []
    for method in methods:
        policy, last = fit(base, data, method, beta, seed, steps)
        accuracy = {"accuracy": last["rewards/accuracies"]} if method == "dpo" else {}
        runs.append(
            {
                "seed": seed,
                "name": name,
                "method": method,
                "beta": beta,
                "pairs": len(data),
                "steps": steps,
            }
            | accuracy
            | measure(policy, base)
        )
        print(
            seed,
            name,
            method,
            {n: round(runs[-1][n]["value"], 3) for n in ("style", "exact", "kl")},
            flush=True,
        )
    return runs


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


def early_model(seed: int, steps: int = EARLY_STEPS) -> Llama:
    """A model that has only begun to learn, from authors who never slip: its mistakes are inability."""

    def batch_at(step: int) -> dict[str, torch.Tensor]:
        ids, mask = TOKENIZER.collate(*CAREFUL.demonstrations(128, stream("early", seed, step)))
        return {"input_ids": ids, "completion_mask": mask}

    model = Llama(ModelConfig()).reset_parameters(seed)
    config = LoopConfig(steps=steps, learning_rate=0.01, optimizer="muon", warmup=50)
    train(model, batch_at, sft_step, config, progress=False)
    return model


def reach(early: Llama, seed: int) -> list[dict]:
    """Rounds of pairs from the current policy, against as many updates on demonstrations."""
    held_out = on_policy_pairs(
        early, CAREFUL, 2000, reward="exact", labels="deterministic", seed=900 + seed
    )

    def report(policy: Llama, name: str, number: int, accuracy: float | None, steps: int) -> dict:
        logps = score(policy, held_out.prompt * 2, held_out.chosen + held_out.rejected)
        gain = (logps - torch.tensor(held_out.ref_chosen_logps + held_out.ref_rejected_logps)).view(
            2, -1
        )
        right = ((gain[0] > gain[1]).double() + 0.5 * (gain[0] == gain[1]).double()).numpy()
        greedy = evaluation.evaluate(policy, CAREFUL, n=N, seed=EVALUATION_SEED, temperature=0)[
            "exact"
        ]
        found = measure(policy, early, CAREFUL) | {
            "greedy": asdict(greedy),
            "held_out": asdict(evaluation.mean_interval(right)),
        }
        print(
            seed,
            "reach",
            name,
            number,
            round(greedy.value, 3),
            round(found["exact"]["value"], 3),
            flush=True,
        )
        return {
            "seed": seed,
            "name": name,
            "round": number,
            "accuracy": accuracy,
            "steps": steps,
        } | found

    runs = [report(early, "start", 0, None, 0)]
    for name, method, beta, rate in WAYS:
        policy = early
        for number in range(1, ROUNDS + 1):
            draw = 1000 * seed + number
            if name == "demonstrations":
                prompts, answers = CAREFUL.demonstrations(
                    2 * 30 * BATCH, stream("more", seed, number)
                )
                data = Pairs(
                    prompts, answers, answers, [1.0] * len(prompts), *[[0.0] * len(prompts)] * 2
                )
            else:
                data = on_policy_pairs(
                    policy, CAREFUL, ASKED, reward="exact", labels="deterministic", seed=draw
                )
            policy, last = fit(policy, data, method, beta or 1.0, draw, 30, rate)
            runs.append(report(policy, name, number, last.get("rewards/accuracies"), 30))
    return runs


def iterate(base: Llama, seed: int) -> list[dict]:
    """Three rounds from fresh pairs: reference moved with the policy, kept fixed, and imitation."""
    runs = []
    for name, method in (("moved", "dpo"), ("fixed", "dpo"), ("imitation", "sft")):
        policy = base
        for number in range(1, 4):
            reference = base if name == "fixed" else policy
            data = on_policy_pairs(
                reference,
                TASK,
                60 * BATCH,
                reward="style",
                sampler=policy,
                seed=1000 * seed + number,
            )
            if method == "sft":
                data = sampled(data, 1000 * seed + number)
            policy, _ = fit(policy, data, method, 1.0, seed, 60)
            runs.append({"seed": seed, "name": name, "round": number} | measure(policy, base))
            print(seed, "iterate", name, number, round(runs[-1]["style"]["value"], 3), flush=True)
    return runs


def experiments(seed: int, folder: Path) -> dict[str, list[dict]]:
    """All experiments of one seed."""
    torch.set_num_threads(1)
    base, found = base_model(seed, folder), {}
    early = early_model(seed)
    found["reach"] = reach(early, seed)
    styles = on_policy_pairs(base, TASK, COUNT, reward="style", seed=seed)
    kept = hard(styles, np.zeros(COUNT, dtype=bool))
    found["labels"] = both(base, sampled(styles, seed), 0.5, seed, "sampled")
    found["labels"] += both(base, kept, 0.5, seed, "kept", ("sft",))
    found["labels"] += both(base, decided(styles), 0.5, seed, "dropped")
    found["noise"] = [
        run
        for noise in NOISE
        for run in both(base, sampled(styles, seed, noise), 0.5, seed, f"{noise:g}")
    ]
    own = on_policy_pairs(base, TASK, COUNT, reward="exact", seed=seed)
    checked = decided(own)
    written = population_pairs(base, TASK, COUNT, reward="exact", seed=seed)
    other = on_policy_pairs(base, TASK, COUNT, reward="exact", sampler=early, seed=seed)
    sources = {"population": written, "on-policy": own, "other": other, "checker": checked}
    found["source"] = [
        run for name, data in sources.items() for run in both(base, data, 0.25, seed, name)
    ]
    found["negatives"] = []
    for kind in ("far", "malformed"):
        found["negatives"] += both(base, negatives(base, checked, kind), 0.25, seed, kind, ("dpo",))
    every = sampled(own, seed)
    order, chance = by_length(every), stream("kept", seed).random(COUNT)
    skewed = every.take(np.flatnonzero((order >= 0) | (chance < KEEP_SHORTER)))
    order = by_length(skewed)
    drop = set(np.flatnonzero(order > 0)[: (order > 0).sum() - (order < 0).sum()])
    balanced = skewed.take([row for row in range(len(skewed)) if row not in drop])
    found["length"] = [
        run
        for name, data in (("all", every), ("skewed", skewed), ("balanced", balanced))
        for run in both(base, data, 0.5, seed, name)
    ]
    full = sampled(on_policy_pairs(base, TASK, COUNT, seed=seed), seed)
    found["amount"] = both(base, full, 0.25, seed, "6400")
    for count in AMOUNTS:
        part = full.take(range(count))
        found["amount"] += both(base, part, 0.25, seed, f"{count}")
        found["amount"] += both(base, part, 0.25, seed, f"{count} once", ("dpo",), count // BATCH)
    found["iterate"] = iterate(base, seed)
    return found


def main() -> None:
    """Train, measure, write."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs")
    with ProcessPoolExecutor(len(SEEDS)) as pool:
        parts = list(pool.map(experiments, SEEDS, repeat(folder)))
    report = {
        "command": "python chapters/data/data_decides.py",
        "settings": {
            "batch_size": BATCH,
            "pairs": COUNT,
            "steps": STEPS,
            "optimizer": "muon",
            "learning_rate": 2e-3,
            "n": N,
            "evaluation_seed": EVALUATION_SEED,
            "keep_shorter": KEEP_SHORTER,
            "seeds": SEEDS,
            "early_steps": EARLY_STEPS,
            "asked": ASKED,
        },
        "torch": torch.__version__,
        **{name: [run for part in parts for run in part[name]] for name in parts[0]},
    }
    (HERE / "data_decides.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
