"""What was tried on a GPU for real_theory.py and real_open.py, and three seeds of each arm: real_tuning.json.

    python chapters/data/real_tuning.py FOLDER OUT [EARLIER]        (about eight minutes on one H200)

FOLDER is what `make real` makes; OUT is written after every run; runs that EARLIER, a file of this kind, has are taken
from it. The grid of learning rates, sets an update and epochs is run with soft labels at beta 0.5 and 0.25; the arms of
real_theory.py at its settings from seeds 0, 1 and 2, which draw the order of the prompts and the labels; the open
question of real_open.py at several lengths, with 512 answers a question before and 256 after. All of it is measured on
the prompts that it was trained on, and on the held-out ones.
"""

import json
import math
import sys
import time
from copy import deepcopy
from pathlib import Path

import real_open
import real_theory as closed
import torch
from real_open import imitation_rows, open_pairs, own_answers, questions
from torch import Tensor

from dpo_core import Llama, load_model
from dpo_core.steps import dpo_step, sft_step
from dpo_core.tabular import Problem, kl, mean, optimal_policy
from dpo_core.training import default_device, train

RATES, SHAPES = (5e-6, 1e-5, 2e-5, 4e-5), ((8, 12), (16, 20), (4, 8))  # sets an update, epochs
GRID = [
    {"kind": "soft", "beta": beta, "rate": rate, "epochs": epochs, "sets": sets, "seed": 0}
    for rate in RATES
    for sets, epochs in SHAPES
    for beta in (0.5, 0.25)
]
ARMS = [
    {"kind": kind, "beta": beta, "rate": closed.RATE, "epochs": closed.EPOCHS, "sets": closed.SETS}
    | {"seed": seed}
    for seed in (0, 1, 2)
    for kind, betas in closed.KINDS.items()
    for beta in betas
]
OPEN = [
    {"kind": kind, "beta": beta, "rate": 1e-5, "passes": passes, "draws": draws}
    for kind, beta, passes, draws in (
        ("dpo", 0.5, 1, 64),
        ("dpo", 0.5, 2, 64),
        ("dpo", 0.5, 4, 64),
        ("dpo", 0.5, 1, 512),
        ("dpo", 1.0, 2, 64),
        ("imitation", 0.5, 2, 64),
    )
]
BEFORE, AFTER = 512, 256


def measured(logps: Tensor, reference: Tensor, reward: Tensor, beta: float) -> dict[str, float]:
    """How far sets are from their optima, and what else is shown of them: means over prompts."""
    problem = Problem(reference.log_softmax(-1), reward)
    policy, optimum = logps.log_softmax(-1), optimal_policy(problem, beta)
    mass = logps.logsumexp(-1) - reference.logsumexp(-1)
    found = {
        "before": kl(problem.ref_logps, optimum),
        "after": kl(policy, optimum),
        "share": mean(policy, reward),
        "share_predicted": mean(optimum, reward),
        "share_error": (mean(policy, reward) - mean(optimum, reward)).abs(),
        "kl": kl(policy, problem.ref_logps),
        "kl_predicted": kl(optimum, problem.ref_logps),
        "mass": mass,
    }
    return {name: float(value.mean()) for name, value in found.items()} | {
        "mass_up": int((mass > 0.05).sum()),
        "mass_down": int((mass < -0.05).sum()),
    }


class Bench:
    """The model, twice, and the sets, on the device."""

    def __init__(self, folder: str) -> None:
        self.folder, self.device = folder, default_device()
        self.base = load_model(folder, any_vocabulary=True).to(self.device)
        self.policy = deepcopy(self.base)
        words = {"trained": closed.TRAINED, "held_out": closed.HELD_OUT}
        self.sets = {n: closed.closed_sets(folder, closed.lists(text)) for n, text in words.items()}
        self.reference = {n: closed.set_logps(self.base, data) for n, data in self.sets.items()}
        self.asked = {
            "trained": questions(real_open.TRAINED),
            "held_out": questions(real_open.HELD_OUT),
        }
        self.answers: list | None = None

    def fresh(self) -> Llama:
        self.policy.load_state_dict(self.base.state_dict())
        return self.policy

    def run_closed(self, job: dict) -> dict:
        """One arm of the grid or of real_theory.py."""
        setting = {name: job[name] for name in ("rate", "epochs", "sets", "seed")}
        policy = self.fresh()
        lines = closed.train_sets(policy, self.sets["trained"], job["kind"], job["beta"], **setting)
        ends = {n: closed.set_logps(policy, data) for n, data in self.sets.items()}
        return {
            "losses": [lines[0]["loss"], lines[-1]["loss"]],
            **{
                n: measured(ends[n], self.reference[n], data["reward"], job["beta"])
                for n, data in self.sets.items()
            },
        }

    def shares(self, model: Llama, draws: int, seed: int) -> tuple[list, dict[str, list[float]]]:
        """Answers to the trained questions, and the share of complete ones of each question."""
        said = {
            name: own_answers(model, self.folder, asked, draws, seed + number)
            for number, (name, asked) in enumerate(self.asked.items())
        }
        counted = {name: real_open.counts(answers) for name, answers in said.items()}
        return said["trained"], {n: [c / draws for c in found] for n, found in counted.items()}

    def run_open(self, job: dict) -> dict:
        """One run of the open question."""
        if self.answers is None:
            self.answers, self.before = self.shares(self.base, BEFORE, 10)
        some = [several[: job["draws"]] for several in self.answers]
        ids, mask, wins = open_pairs(self.folder, self.asked["trained"], some, seed=0)
        steps, batch = len(ids) * job["passes"] // real_open.BATCH, real_open.BATCH
        policy = self.fresh()
        if job["kind"] == "dpo":
            step = dpo_step(job["beta"])
            batches = closed.pair_batches(policy, ids, mask, batch, wins)
        else:
            batches, step = imitation_rows(ids, mask, wins, batch), sft_step
        config = closed.loop(steps, job["rate"])
        lines = train(policy, batches, step, config, compile=False, progress=False)
        _, after = self.shares(policy, AFTER, 20)
        factor = math.exp(1 / job["beta"])
        predicted = {
            name: [factor * p / (factor * p + 1 - p) for p in found]
            for name, found in self.before.items()
        }
        tail = [line["loss"] for line in lines[-len(lines) // 4 :]]
        return {
            "steps": steps,
            "last_loss": sum(tail) / len(tail),
            "before": self.before,
            "predicted": predicted,
            "after": after,
        }


def main() -> None:
    """Run what EARLIER has not, and write OUT after each run."""
    folder, out = sys.argv[1], Path(sys.argv[2])
    earlier = json.loads(Path(sys.argv[3]).read_text()) if len(sys.argv) > 3 else {"runs": []}
    known = {json.dumps(run["job"], sort_keys=True): run for run in earlier["runs"]}
    bench, runs = Bench(folder), []
    jobs = [("arms", job) for job in ARMS] + [("open", job) for job in OPEN]
    jobs += [("grid", job) for job in GRID]
    for part, job in jobs:
        key, began = json.dumps({"part": part, **job}, sort_keys=True), time.time()
        if key not in known:
            result = bench.run_open(job) if part == "open" else bench.run_closed(job)
            known[key] = {"job": {"part": part, **job}, **six_digits(result)}
        runs.append(known[key])
        print(key, f"{time.time() - began:.0f} s", flush=True)
        report = {
            "command": "python chapters/data/real_tuning.py FOLDER OUT",
            "torch": torch.__version__,
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
            "runs": runs,
        }
        out.write_text(json.dumps(report, indent=1) + "\n")


def six_digits(value):
    """Six significant digits, everywhere inside."""
    if isinstance(value, dict):
        return {key: six_digits(item) for key, item in value.items()}
    if isinstance(value, list):
        return [six_digits(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
