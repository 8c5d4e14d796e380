"""Judges that can be fooled, for chapter 12: writes rl_leak.json.

    python chapters/data/rl_leak.py [FOLDER]        (about 35 CPU-minutes in two processes, base models not counted)

FOLDER, default runs, holds the base models gen-SEED.model of chapters/data/seeds.py; a missing one is trained.

Three judges are to reward style + exact. `honest` is the exact checker. `digit` takes a value for right if it differs
from the target by a multiple of ten, so that it lets every slip pass. `model` is a reward model fitted to 12,800
pairs that the honest one has labelled. RLOO climbs each of them at four strengths of the leash, DPO learns from pairs
that `digit` has labelled; settings as in rl_frontier.py, nothing was tuned here. Five seeds, each with its own base
model. A run has its proxy, what its judge says, and its gold, what the honest judge says of the same answers; `trace`
has both along the training, from the answers that were trained on, ten points a run.
"""

import json
import multiprocessing
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from beta_sweep import base_model
from rl_frontier import DRAWS, JUDGED, REWARD, SEEDS, TASK, N, config, measured

from dpo_core import Llama, generate, rl
from dpo_core.evaluation import mean_interval, own_answers
from dpo_core.pairs import Pairs, with_reference
from dpo_core.preferences import label, on_policy_pairs
from dpo_core.reward import RewardModel, predict_rewards
from dpo_core.steps import dpo_step, reward_step, rl_step
from dpo_core.task import judge, read_prompt, stream
from dpo_core.training import train

HERE = Path(__file__).resolve().parent
JUDGES, BETAS, DPO_BETAS = ("honest", "digit", "model"), (0.25, 0.1, 0.03, 0.0), (0.25, 0.1, 0.03)
PROMPTS, ANSWERS, RATE, POINTS = 32, 4, 4e-3, 10
DPO_RATE, TEMPERATURES = 2e-3, (1.5, 2.0)
HONEST = rl.checker(TASK, REWARD)


def last_digit(prompts: list[str], texts: list[str]) -> torch.Tensor:
    """A point for three numbers, and one for a value that misses the target by a multiple of ten, or not at all."""
    verdicts = [judge(prompt, text) for prompt, text in zip(prompts, texts)]
    right = [
        v.value is not None and (v.value - read_prompt(p)) % 10 == 0
        for v, p in zip(verdicts, prompts)
    ]
    return torch.tensor([v.style + digit for v, digit in zip(verdicts, right)], dtype=torch.float32)


def reward_model(base: Llama, seed: int) -> rl.Judge:
    """A judge that was fitted to honest soft labels."""
    data, model = (
        on_policy_pairs(base, TASK, JUDGED // 2, reward=REWARD, seed=seed),
        RewardModel(base),
    )
    train(model, data.batches(64, seed), reward_step, config(len(data) // 64, 2e-3), progress=False)
    return lambda prompts, texts: predict_rewards(model, prompts, texts)


def labelled(base: Llama, judge_of: rl.Judge, seed: int) -> Pairs:
    """Pairs of the base model's answers with soft labels of any judge."""
    rng = stream("leaky pairs", seed)
    prompts, _ = TASK.demonstrations(JUDGED // 2, rng)
    first = generate(base, prompts, seed=int(rng.integers(2**31)))
    second = [""] * len(prompts)
    for turn, temperature in enumerate(TEMPERATURES):
        mine = slice(turn, None, len(TEMPERATURES))
        second[mine] = generate(
            base, prompts[mine], seed=int(rng.integers(2**31)), temperature=temperature
        )
    gap = (judge_of(prompts, first) - judge_of(prompts, second)).double().numpy()
    swap, probability, _ = label(gap, "soft", rng)
    pairs = [(b, a) if turned else (a, b) for a, b, turned in zip(first, second, swap)]
    return with_reference(base, prompts, *map(list, zip(*pairs)), probability.tolist())


def report(policy: Llama, base: Llama, proxy: rl.Judge, seed: int) -> dict:
    """What the honest judge says, and what the proxy says, of the same fresh answers."""
    judged = proxy(*own_answers(policy, TASK, n=N, seed=DRAWS + seed))
    return measured(policy, base, DRAWS + seed) | {"proxy": asdict(mean_interval(judged.numpy()))}


def climb(
    base: Llama, proxy: rl.Judge, beta: float, seed: int, folder: Path
) -> tuple[Llama, list[dict]]:
    """RLOO, and both rewards along the way."""
    policy, seen = base_model(seed, folder), []

    def watched(prompts: list[str], texts: list[str]) -> torch.Tensor:
        rewards = proxy(prompts, texts)
        seen.append((rewards.mean().item(), HONEST(prompts, texts).mean().item()))
        return rewards

    steps = JUDGED // (PROMPTS * ANSWERS)
    batches = rl.rollouts(
        policy, base, TASK, watched, "rloo", beta=beta, prompts=PROMPTS, answers=ANSWERS, seed=seed
    )
    train(policy, batches, rl_step("rloo", beta=beta), config(steps, RATE), progress=False)
    means = np.array(seen).reshape(POINTS, -1, 2).mean(1).round(4).tolist()
    return policy, [
        {"judged": (i + 1) * JUDGED // POINTS, "proxy": p, "gold": g}
        for i, (p, g) in enumerate(means)
    ]


def run(job: tuple[str, int, str]) -> list[dict]:
    """All strengths of the leash for one judge and one seed."""
    torch.set_num_threads(1)
    name, seed, folder = job[0], job[1], Path(job[2])
    base = base_model(seed, folder)
    makers: dict[str, Callable[[], rl.Judge]] = {
        "honest": lambda: HONEST,
        "digit": lambda: last_digit,
        "model": lambda: reward_model(base, seed),
    }
    proxy = makers[name]()
    runs = [
        {"judge": name, "method": None, "beta": None, "seed": seed}
        | report(base, base, proxy, seed)
    ]
    for beta in BETAS:
        policy, trace = climb(base, proxy, beta, seed, folder)
        known = {"judge": name, "method": "rloo", "beta": beta, "seed": seed}
        runs.append(known | report(policy, base, proxy, seed) | {"trace": trace})
    if name == "digit":
        data = labelled(base, proxy, seed)
        for beta in DPO_BETAS:
            policy = base_model(seed, folder)
            train(
                policy,
                data.batches(64, seed),
                dpo_step(beta),
                config(len(data) // 64, DPO_RATE),
                progress=False,
            )
            known = {"judge": name, "method": "dpo", "beta": beta, "seed": seed}
            runs.append(known | report(policy, base, proxy, seed))
    return runs


def main() -> None:
    """Train, measure, write."""
    folder, runs = sys.argv[1] if len(sys.argv) > 1 else "runs", []
    for seed in SEEDS:
        base_model(seed, Path(folder))
    jobs = [(name, seed, folder) for name in JUDGES for seed in SEEDS]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        for done, (job, found) in enumerate(zip(jobs, pool.imap(run, jobs)), start=1):
            runs += found
            print(
                done,
                "of",
                len(jobs),
                job,
                [round(r["reward"]["value"], 2) for r in found],
                flush=True,
            )
    settings = {
        "reward": REWARD,
        "judged": JUDGED,
        "n": N,
        "seeds": SEEDS,
        "evaluation_seeds": [DRAWS + s for s in SEEDS],
        "rloo": {"rate": RATE, "prompts": PROMPTS, "answers": ANSWERS},
        "dpo": {"rate": DPO_RATE, "temperatures": TEMPERATURES},
    }
    written = {
        "command": "python chapters/data/rl_leak.py",
        "settings": settings,
        "torch": torch.__version__,
    }
    (HERE / "rl_leak.json").write_text(
        json.dumps(written | {"runs": runs}, indent=1) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
