"""The anatomy of DPO training, from three seeds, for chapter 9: writes anatomy.json beside this file.

    python chapters/data/anatomy.py [FOLDER]        (about 18 CPU-minutes in two processes, base models not counted)

FOLDER, default runs, holds the base models gen-SEED.model of chapters/data/seeds.py; a missing one is trained.
Each seed has its own base model, pairs and order of pairs. The reward is style+exact. Every run is 300 updates of 64
pairs; a deterministic judge has no label for ties, so its pairs are fewer and used more often.

The grid (labels by learning rate) is traced: at the steps TRACED it is measured on TRACE draws, on held-out pairs
whose answers differ in reward, and by summing the probability of every text that an author can write for PROMPTS.
The remedies start from the run with deterministic labels at 3e-4 and change one thing each. Early stopping takes the
step of that run with the highest J on the TRACE draws; everything is reported on the REPORT draws.
"""

import copy
import json
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, fields
from itertools import product
from pathlib import Path

import numpy as np
import torch
from beta_sweep import base_model

from dpo_core import evaluation, judge
from dpo_core.model import Llama
from dpo_core.pairs import Pairs
from dpo_core.preferences import on_policy_pairs
from dpo_core.sampling import score
from dpo_core.steps import dpo_step
from dpo_core.tabular import log_partition
from dpo_core.task import BookTask, read_prompt, stream
from dpo_core.theory import class_problem, class_rewards, predicted_optimum
from dpo_core.training import LoopConfig, train

HERE = Path(__file__).resolve().parent
SEEDS, REWARD, BETA, BATCH, STEPS = (0, 1, 2), "style+exact", 0.25, 64, 300
TRACED = (25, 50, 75, 100, 150, 200)  # besides the first step and the last
COUNT, HELD_OUT = 19_200, 1_000
HOT = (1.5, 2.0)  # temperatures of second answers in the runs called hot
# draws that choose, and draws that are reported
N_TRACE, TRACE, N_REPORT, REPORT = 1_000, 900, 2_000, 901
TASK = BookTask()
PROMPTS = list(dict.fromkeys(TASK.demonstrations(12, stream("mass", 0))[0]))[:3]
GRID = [(labels, rate) for labels in ("soft", "deterministic") for rate in (1e-4, 3e-4, 1e-3)]
# name: what differs from deterministic labels, DPO at beta 0.25 and a learning rate of 3e-4
REMEDIES = {
    "beta": {"beta": 1.0},
    # about the share of these labels that Bradley-Terry judges would turn
    "smoothing": {"label_smoothing": 0.25},
    "sft": {"loss_type": "sigmoid_sft"},
    # its target is 4 nats: what a point of reward is worth at 0.25
    "ipo": {"loss_type": "ipo_sum", "beta": 0.125},
    "hot": {"pairs": "hot deterministic"},
    "soft+hot": {"pairs": "hot soft"},
}


def decided(data: Pairs) -> Pairs:
    """What a deterministic judge makes of soft pairs: ties have no label, and the better answer always wins."""
    rows = [row for row, probability in enumerate(data.preference_prob) if probability > 0.5]
    columns = {
        field.name: [getattr(data, field.name)[row] for row in rows] for field in fields(Pairs)
    }
    return Pairs(**columns | {"preference_prob": [1.0] * len(rows)})


def kind(prompt: str, completion: str) -> str:
    """Which sort of text an answer is; `right` and `slip` are texts of the authors."""
    verdict = judge(prompt, completion)
    if (prompt, completion) in TASK.log_conditional:
        return "right" if verdict.exact else "slip"
    if not verdict.well_formed:
        return "malformed"
    if verdict.exact:
        return "new right"
    return "new by ten" if abs(verdict.value - read_prompt(prompt)) == 10 else "new otherwise"


def own(policy: Llama, base: Llama, n: int, seed: int) -> dict:
    """What a policy's own answers show, with 95 % intervals."""
    prompts, answers = evaluation.own_answers(policy, TASK, n=n, seed=seed)
    verdicts = [judge(prompt, answer) for prompt, answer in zip(prompts, answers)]
    logps = score(policy, prompts, answers).double().numpy()
    gaps = logps - score(base, prompts, answers).double().numpy()
    rewards = class_rewards(REWARD)
    reward = np.array([rewards[int(v.style), int(v.exact)] for v in verdicts])
    kinds = [kind(prompt, answer) for prompt, answer in zip(prompts, answers)]
    report = {
        name: evaluation.shares(verdicts)[name]
        for name in ("style", "exact", "both", "well_formed")
    }
    report |= {"kl": evaluation.mean_interval(gaps), "entropy": evaluation.mean_interval(-logps)}
    report |= {
        "reward": evaluation.mean_interval(reward),
        "J": evaluation.mean_interval(reward - BETA * gaps),
    }
    report["unwritten"] = evaluation.wilson(sum(k not in ("right", "slip") for k in kinds), n)
    counts = {
        name: kinds.count(name) / n
        for name in ("slip", "new right", "new by ten", "new otherwise", "malformed")
    }
    return {name: asdict(estimate) for name, estimate in report.items()} | {"kinds": counts}


def on_pairs(policy: Llama, held_out: Pairs) -> dict:
    """The metrics of training on pairs that were not trained on; a tie counts half."""
    logps = score(policy, held_out.prompt * 2, held_out.chosen + held_out.rejected).double().numpy()
    chosen, rejected = np.split(logps, 2)
    ref_chosen, ref_rejected = (
        np.array(held_out.ref_chosen_logps),
        np.array(held_out.ref_rejected_logps),
    )
    h = BETA * (chosen - ref_chosen - rejected + ref_rejected)
    accuracy = float((h > 0).mean() + 0.5 * (h == 0).mean())
    means = {
        "logps/chosen": chosen,
        "logps/rejected": rejected,
        "displacement": chosen - ref_chosen,
        "margin": h,
    }
    return {name: float(values.mean()) for name, values in means.items()} | {"accuracy": accuracy}


def full_measure(policy: Llama, base: Llama, held_out: Pairs, n: int, seed: int) -> dict:
    """Own answers, held-out pairs, and the exact mass on the authors' texts for PROMPTS, [style][exact]."""
    mass = evaluation.written_mass(policy, TASK, PROMPTS).mean(0)
    return own(policy, base, n, seed) | on_pairs(policy, held_out) | {"mass": mass.tolist()}


def run(
    base: Llama,
    data: Pairs,
    seed: int,
    change: dict,
    watch: Callable[[int, Llama], None] = lambda step, policy: None,
) -> tuple[Llama, dict]:
    """One training; `watch` sees the policy before each batch. Returns the policy and its last training metrics."""
    settings = {"beta": BETA, "learning_rate": 3e-4} | change
    config = LoopConfig(steps=STEPS, learning_rate=settings.pop("learning_rate"), log_every=50)
    policy, batch_at = copy.deepcopy(base), data.batches(BATCH, seed)

    def watched(step: int) -> dict:
        watch(step, policy)
        return batch_at(step)

    history = train(policy, watched, dpo_step(**settings), config, progress=False)
    return policy, {
        name: history[-1][name] for name in ("loss", "rewards/margins", "rewards/accuracies")
    }


def make_pairs(
    base: Llama, seed: int, temperatures: tuple[float, ...] = (1.0,)
) -> dict[str, Pairs]:
    """The pairs of a seed, with both kinds of label."""
    soft = on_policy_pairs(base, TASK, COUNT, reward=REWARD, temperatures=temperatures, seed=seed)
    return {"soft": soft, "deterministic": decided(soft)}


def make_held_out(base: Llama, seed: int) -> Pairs:
    """Pairs for measuring; nobody trains on them."""
    return decided(on_policy_pairs(base, TASK, HELD_OUT, reward=REWARD, seed=seed + 500))


def finished(
    name: str, change: dict, data: Pairs, base: Llama, held_out: Pairs, policy: Llama, last: dict
) -> dict:
    """One entry of the report."""
    print(name, change, last, flush=True)
    found = full_measure(policy, base, held_out, N_REPORT, REPORT)
    return {"name": name, **change, "used_pairs": len(data), "last": last, **found}


def traced_run(
    base: Llama, data: Pairs, seed: int, change: dict, held_out: Pairs, start: dict
) -> tuple[Llama, dict, list[dict], dict[int, Llama]]:
    """One training, what it showed on the way, and the policies of the way."""
    trace, states = [start], {}

    def watch(step: int, policy: Llama) -> None:
        if step in (*TRACED, STEPS):
            trace.append({"step": step, **full_measure(policy, base, held_out, N_TRACE, TRACE)})
            states[step] = copy.deepcopy(policy)

    policy, last = run(base, data, seed, change, watch)
    watch(STEPS, policy)
    return policy, last, trace, states


def grid(seed: int, folder: Path) -> dict:
    """Labels by learning rate, traced, and early stopping."""
    base = base_model(seed, folder)
    pairs, held_out, runs = make_pairs(base, seed), make_held_out(base, seed), []
    start = {"step": 0, **full_measure(base, base, held_out, N_TRACE, TRACE)}
    for labels, rate in GRID:
        change, data = {"learning_rate": rate}, pairs[labels]
        policy, last, trace, states = traced_run(base, data, seed, change, held_out, start)
        runs.append(
            {**finished(labels, change, data, base, held_out, policy, last), "trace": trace}
        )
        if (labels, rate) == ("deterministic", 3e-4):
            best = max(trace[1:], key=lambda point: point["J"]["value"])["step"]
            runs.append(
                {**finished("stop", change, data, base, held_out, states[best], {}), "step": best}
            )
    turned = float(np.mean([1 - q for q in pairs["soft"].preference_prob if q > 0.5]))
    return {
        "turned": turned,
        "predicted_displacement": predicted_displacement(held_out),
        "runs": runs,
    }


def remedies(seed: int, folder: Path) -> dict:
    """One change each."""
    base, runs = base_model(seed, folder), []
    held_out = make_held_out(base, seed)
    pairs = make_pairs(base, seed) | {
        f"hot {name}": data for name, data in make_pairs(base, seed, HOT).items()
    }
    for name, change in REMEDIES.items():
        settings = {key: value for key, value in change.items() if key != "pairs"}
        data = pairs[change.get("pairs", "deterministic")]
        runs.append(finished(name, change, data, base, held_out, *run(base, data, seed, settings)))
    return {"runs": runs}


def one_part(job: tuple[int, str], folder: Path) -> dict:
    """Half of a seed's runs."""
    torch.set_num_threads(1)
    seed, part = job
    return {"grid": grid, "remedies": remedies}[part](seed, folder)


def predicted_displacement(held_out: Pairs) -> float:
    """The mean of (r - V) / beta over the chosen answers: by how much the optimum moves their log-probability."""
    values = BETA * log_partition(class_problem(TASK, REWARD), BETA)
    value_of, rewards = (
        dict(zip(TASK.prompt_distribution, values.tolist())),
        class_rewards(REWARD),
    )
    verdicts = [judge(prompt, answer) for prompt, answer in zip(held_out.prompt, held_out.chosen)]
    gaps = [
        rewards[int(v.style), int(v.exact)] - value_of[p] for v, p in zip(verdicts, held_out.prompt)
    ]
    return float(np.mean(gaps) / BETA)


def rounded(value):
    """Six significant digits, everywhere inside."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def main() -> None:
    """Train, measure, write."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs")
    for seed in SEEDS:
        base_model(seed, folder)  # trained here if it is missing, not in two processes at once
    jobs = list(product(SEEDS, ("grid", "remedies")))
    with ProcessPoolExecutor(2) as pool:
        parts = dict(zip(jobs, pool.map(one_part, jobs, [folder] * len(jobs))))
    seeds = []
    for seed in SEEDS:
        whole = {"seed": seed, **parts[seed, "grid"]}
        whole["runs"] = whole["runs"] + parts[seed, "remedies"]["runs"]
        seeds.append(whole)
    report = {
        "command": "python chapters/data/anatomy.py",
        "settings": {
            "reward": REWARD,
            "beta": BETA,
            "batch_size": BATCH,
            "steps": STEPS,
            "pairs": COUNT,
            "optimizer": "adamw",
            "hot_temperatures": HOT,
            "prompts": PROMPTS,
            "n_trace": N_TRACE,
            "trace_seed": TRACE,
            "n_report": N_REPORT,
            "report_seed": REPORT,
        },
        "torch": torch.__version__,
        "predicted": predicted_optimum(TASK, REWARD, BETA),
        "seeds": seeds,
    }
    (HERE / "anatomy.json").write_text(
        json.dumps(rounded(report), indent=1) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
