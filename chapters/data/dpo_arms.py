"""DPO, imitation and the remedies on one footing, with what happens on the way, for chapter 9: writes dpo_arms.json.

    OMP_NUM_THREADS=1 python chapters/data/dpo_arms.py [FOLDER]        (about 15 CPU-minutes in two processes)

FOLDER, default runs, holds the base models gen-SEED.model (a missing one is trained) and keeps the pairs.
A seed has its base model, one file of soft pairs, and what a deterministic judge makes of that file; in the arms
called hot, the same with hotter second answers. Every arm makes 300 updates of 64 with AdamW. Its learning rate is
one of three, by J on the TUNING draws of seed 0; a run that stops early takes the step by its seed's TUNING draws.
All is reported on the REPORT draws. chapters/data/dpo_longer.py has the longer runs.

The runs of DPO with soft and with deterministic labels are measured at the steps TRACED, at all three rates and
in all seeds: on the TUNING draws, on held-out pairs, and by summing the probability of every text that an author can
write for PROMPTS.
"""

import copy
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from pathlib import Path

import numpy as np
from recording import Recorder, base_model, folder_argument

from dpo_core import evaluation, judge
from dpo_core.model import Llama
from dpo_core.pairs import Pairs, read_pairs
from dpo_core.preferences import on_policy_pairs
from dpo_core.sampling import score
from dpo_core.steps import dpo_step, sft_step
from dpo_core.tabular import log_partition
from dpo_core.task import BookTask, read_prompt, stream
from dpo_core.theory import class_problem, class_rewards, predicted_optimum
from dpo_core.training import LoopConfig, train

SEEDS, RATES, REWARD, BETA = (0, 1, 2), (1e-4, 3e-4, 1e-3), "style+exact", 0.25
BATCH, STEPS, TRACED = 64, 300, (10, 25, 50, 75, 100, 150, 200)
COUNT, HELD_OUT = 19_200, 1_000
TEMPERATURES = {"soft": (1.0,), "hot": (1.5, 2.0)}  # of the second answers, in turn
N_TUNING, TUNING, N_REPORT, REPORT = 1_000, 900, 2_000, 901
TASK = BookTask()
PROMPTS = list(dict.fromkeys(TASK.demonstrations(12, stream("mass", 0))[0]))[:3]
# name: pairs, whether ties are dropped and the better answer always wins, and what the loss is
ARMS = {
    "dpo soft": ("soft", False, {}),
    "dpo deterministic": ("soft", True, {}),
    "beta 0.1": ("soft", True, {"beta": 0.1}),
    "beta 1": ("soft", True, {"beta": 1.0}),
    # about the share of these labels that Bradley-Terry judges would turn
    "smoothing": ("soft", True, {"label_smoothing": 0.25}),
    "sft term": ("soft", True, {"loss_type": "sigmoid_sft"}),
    # its target is 4 nats: what a point of reward is worth at 0.25
    "ipo": ("soft", True, {"loss_type": "ipo_sum", "beta": 0.125}),
    "hot": ("hot", True, {}),
    "hot soft": ("hot", False, {}),
    "imitation": ("soft", False, {"loss_type": "imitation"}),
    "imitation, no ties": ("soft", True, {"loss_type": "imitation"}),
}
WATCHED = ("dpo soft", "dpo deterministic")
KEPT = (
    "step",
    "J",
    "kl",
    "entropy",
    "exact",
    "unwritten",
    "mass",
)  # of what is measured on the way


def decided(data: Pairs) -> Pairs:
    """What a deterministic judge makes of soft pairs: ties have no label, the better answer always wins."""
    rows = [row for row, probability in enumerate(data.preference_prob) if probability > 0.5]
    left = data.take(rows)
    return Pairs(left.prompt, left.chosen, left.rejected, [1.0] * len(rows),
                 left.ref_chosen_logps, left.ref_rejected_logps)  # fmt: skip


@cache
def pairs_of(seed: int, kind: str, count: int, deterministic: bool, folder: str) -> Pairs:
    """The pairs of a seed, kept in the folder."""
    path = Path(folder) / f"pairs-{seed}-{kind}-{count}.jsonl"
    if not path.exists():
        base = base_model(seed, folder)
        options = {"reward": REWARD, "temperatures": TEMPERATURES[kind], "seed": seed}
        on_policy_pairs(base, TASK, count, **options).write(path)
    data = read_pairs(path)
    return decided(data) if deterministic else data


@cache
def held_out_of(seed: int, folder: str) -> Pairs:
    """Pairs for measuring, ties included; nobody trains on them."""
    base = base_model(seed, folder)
    return on_policy_pairs(base, TASK, HELD_OUT, reward=REWARD, seed=seed + 500)


def kind_of(prompt: str, completion: str) -> str:
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
    """What a policy's own answers show; the shares, reward, KL and J are those of `evaluation.evaluate`."""
    prompts, answers = evaluation.own_answers(policy, TASK, n=n, seed=seed)
    verdicts = [judge(prompt, answer) for prompt, answer in zip(prompts, answers)]
    logps = score(policy, prompts, answers).double().numpy()
    gaps = logps - score(base, prompts, answers).double().numpy()
    worth = np.array([class_rewards(REWARD)[int(v.style), int(v.exact)] for v in verdicts])
    kinds = [kind_of(prompt, answer) for prompt, answer in zip(prompts, answers)]
    found = {k: evaluation.shares(verdicts)[k] for k in ("style", "exact", "both", "well_formed")}
    means = {"kl": gaps, "entropy": -logps, "reward": worth, "J": worth - BETA * gaps}
    found |= {name: evaluation.mean_interval(values) for name, values in means.items()}
    found["unwritten"] = evaluation.wilson(sum(k not in ("right", "slip") for k in kinds), n)
    names = ("slip", "new right", "new by ten", "new otherwise", "malformed")
    shares = {name: kinds.count(name) / n for name in names}
    return {name: asdict(estimate) for name, estimate in found.items()} | {"kinds": shares}


def forward_kl(policy: Llama, base: Llama, n: int, seed: int) -> dict:
    """KL(reference || policy), over the reference's own answers."""
    prompts, answers = evaluation.own_answers(base, TASK, n=n, seed=seed)
    gaps = score(base, prompts, answers).double() - score(policy, prompts, answers).double()
    return asdict(evaluation.mean_interval(gaps.numpy()))


def on_pairs(policy: Llama, held_out: Pairs) -> dict:
    """By how much the answers of held-out pairs moved, and the metrics of training where their rewards differ."""
    logps = score(policy, held_out.prompt * 2, held_out.chosen + held_out.rejected).double()
    before = np.array(held_out.ref_chosen_logps + held_out.ref_rejected_logps)
    chosen, rejected = np.split(logps.numpy() - before, 2)
    differ = np.array(held_out.preference_prob) > 0.5
    h = BETA * (chosen - rejected)[differ]
    return {
        "moved": {"chosen": asdict(evaluation.mean_interval(chosen)),
                  "rejected": asdict(evaluation.mean_interval(rejected)),
                  "both": asdict(evaluation.mean_interval((chosen + rejected) / 2))},
        "displacement": float(chosen[differ].mean()),
        "margin": float(h.mean()),
        "accuracy": float((h > 0).mean() + 0.5 * (h == 0).mean()),
    }  # fmt: skip


def measure(policy: Llama, base: Llama, held_out: Pairs, n: int, seed: int) -> dict:
    """Own answers, held-out pairs, and the exact mass on the authors' texts for PROMPTS, [style][exact]."""
    mass = evaluation.written_mass(policy, TASK, PROMPTS).mean(0)
    return own(policy, base, n, seed) | on_pairs(policy, held_out) | {"mass": mass.tolist()}


def trained(base: Llama, job: dict, watch: Callable[[int, Llama], None]) -> tuple[Llama, int]:
    """One training of an arm; `watch` sees the policy before each batch. The policy and its number of pairs."""
    kind, deterministic, loss = ARMS[job["name"]]
    data = pairs_of(job["seed"], kind, COUNT, deterministic, job["folder"])
    policy, batch_at = copy.deepcopy(base), data.batches(BATCH, job["seed"])
    imitates = loss.get("loss_type") == "imitation"

    def watched(step: int) -> dict:
        watch(step, policy)
        batch = batch_at(step)
        if imitates:
            return {"input_ids": batch["chosen_ids"], "completion_mask": batch["chosen_mask"]}
        return batch

    step = sft_step if imitates else dpo_step(**{"beta": BETA} | loss)
    config = LoopConfig(steps=job["steps"], learning_rate=job["rate"], log_every=50)
    train(policy, watched, step, config, progress=False)
    watch(job["steps"], policy)
    return policy, len(data)


def run(job: dict) -> dict:
    """One training and what it reached; a watched arm's way too, and where early stopping would have ended."""
    seed, folder = job["seed"], job["folder"]
    base, held_out = base_model(seed, folder), held_out_of(seed, folder)
    traced, states = [], {}

    def watch(step: int, policy: Llama) -> None:
        if job["name"] in WATCHED and step in (0, *TRACED, job["steps"]):
            traced.append({"step": step, **measure(policy, base, held_out, N_TUNING, TUNING)})
            states[step] = copy.deepcopy(policy)

    policy, pairs = trained(base, job, watch)
    found = {"pairs": pairs, "tuning": own(policy, base, N_TUNING, TUNING)["J"]["value"]}
    found |= measure(policy, base, held_out, N_REPORT, REPORT)
    found["forward_kl"] = forward_kl(policy, base, N_REPORT, REPORT)
    if traced:
        found["trace"] = [{name: point[name] for name in KEPT} for point in traced]
    if job["name"] == "dpo deterministic":
        best = max(traced[1:], key=lambda point: point["J"]["value"])
        stopped = measure(states[best["step"]], base, held_out, N_REPORT, REPORT)
        found["stopped"] = {"step": best["step"], "tuning": best["J"]["value"], **stopped}
    return found


def untrained(job: dict) -> dict:
    """The base model of a seed."""
    base = base_model(job["seed"], job["folder"])
    held_out = held_out_of(job["seed"], job["folder"])
    return {"pairs": 0, **measure(base, base, held_out, N_REPORT, REPORT)}


def predicted_displacement(held_out: Pairs) -> float:
    """The mean of (r - V) / beta over chosen answers that won: how far the optimum moves their log-probability."""
    values = BETA * log_partition(class_problem(TASK, REWARD), BETA)
    value_of = dict(zip(TASK.prompt_distribution, values.tolist()))
    won = decided(held_out)
    verdicts = [judge(prompt, answer) for prompt, answer in zip(won.prompt, won.chosen)]
    rewards = [class_rewards(REWARD)[int(v.style), int(v.exact)] for v in verdicts]
    return float(np.mean([r - value_of[p] for r, p in zip(rewards, won.prompt)]) / BETA)


def arms_of(runs: list[dict], rates: dict[str, float]) -> list[dict]:
    """The runs that are compared: each arm at its rate, and deterministic DPO stopped early."""
    kept = [r for r in runs if r["rate"] == rates[r["name"]]]
    stopped = [
        {
            "name": "early stop",
            "seed": r["seed"],
            "rate": r["rate"],
            "pairs": r["pairs"],
            **r["stopped"],
        }
        for r in runs
        if r["name"] == "dpo deterministic" and r["rate"] == rates["early stop"]
    ]
    return [{k: v for k, v in r.items() if k not in ("trace", "stopped")} for r in kept] + stopped


def main(seeds: tuple[int, ...] = SEEDS, steps: int = STEPS) -> None:
    """Train, measure, write."""
    folder = folder_argument()
    later = [s for s in seeds if s != 0]
    tuned = [(name, 0, rate) for name in ARMS for rate in RATES]
    grid = [(name, seed, rate) for seed in later for name in WATCHED for rate in RATES]
    rest = len(later) * (len(ARMS) - len(WATCHED))
    ends = [{"name": "base", "seed": seed, "folder": folder, "pairs": 0} for seed in seeds]
    recorder = Recorder(__file__, len(tuned) + len(grid) + rest + len(ends))
    jobs = [
        {"name": name, "seed": seed, "rate": rate, "steps": steps, "folder": folder}
        for name, seed, rate in tuned + grid
    ]
    runs = recorder.all(run, jobs)
    first = [r for r in runs if r["seed"] == 0]
    tuning = {name: {r["rate"]: r["tuning"] for r in first if r["name"] == name} for name in ARMS}
    tuning["early stop"] = {r["rate"]: r["stopped"]["tuning"] for r in first if "stopped" in r}
    rates = {name: max(found, key=found.get) for name, found in tuning.items()}
    runs += recorder.all(run, [
        {"name": name, "seed": seed, "rate": rates[name], "steps": steps, "folder": folder}
        for seed in later for name in ARMS if name not in WATCHED
    ])  # fmt: skip
    ends = recorder.all(untrained, ends)
    soft = [pairs_of(seed, "soft", COUNT, False, folder).preference_prob for seed in seeds]
    grid = [{k: v for k, v in r.items() if k != "stopped"} for r in runs if r["name"] in WATCHED]
    everything = {
        "settings": {
            "reward": REWARD, "beta": BETA, "batch_size": BATCH, "steps": steps, "pairs": COUNT,
            "optimizer": "adamw", "rates": RATES, "temperatures": TEMPERATURES, "prompts": PROMPTS,
            "n_tuning": N_TUNING, "tuning_seed": TUNING, "n_report": N_REPORT, "report_seed": REPORT,
        },
        "predicted": predicted_optimum(TASK, REWARD, BETA),
        "tuning": tuning,
        "rates": rates,
        # the share of labels that Bradley-Terry judges would turn, and the chosen answer at the optimum
        "turned": [float(np.mean([1 - q for q in labels if q > 0.5])) for labels in soft],
        "predicted_displacement": [predicted_displacement(held_out_of(s, folder)) for s in seeds],
        "runs": [
            {k: v for k, v in r.items() if k not in ("folder", "steps")}
            for r in arms_of(runs, rates) + ends
        ],
        "grid": [{k: v for k, v in r.items() if k not in ("folder", "steps")} for r in grid],
    }  # fmt: skip
    recorder.write(everything)


if __name__ == "__main__":
    main()
