"""Judges that can be fooled, for chapter 12: writes rl_leak.json.

    python chapters/data/rl_leak.py [FOLDER]        (about 30 CPU-minutes in two processes)

FOLDER, default runs, holds the base models gen-SEED.model; a missing one is trained.

Three judges are to reward style + exact. `honest` is the exact checker. `digit` takes a value for right if it differs
from the target by a multiple of ten, so that it lets every slip pass. `model` is a reward model fitted to 12,800
pairs that the honest one has labelled. RLOO climbs each of them at four strengths of the leash, DPO learns from pairs
that `digit` has labelled; settings as in rl_methods.py, nothing was tuned here. Five seeds, each with its own base
model. A run has its proxy, what its judge says, and its gold, what the honest judge says of the same answers; `trace`
has both along the training, from the answers that were trained on, ten points a run.
"""

from copy import deepcopy
from dataclasses import asdict
from functools import lru_cache

import numpy as np
import torch
from recording import Recorder, base_model, folder_argument
from rl_methods import DRAWS, JUDGED, REWARD, TASK, N, config

from dpo_core import Llama, evaluation, generate, rl
from dpo_core.evaluation import mean_interval, own_answers
from dpo_core.pairs import Pairs, with_reference
from dpo_core.preferences import label, on_policy_pairs
from dpo_core.reward import RewardModel, predict_rewards
from dpo_core.steps import dpo_step, reward_step, rl_step
from dpo_core.task import judge, read_prompt, stream
from dpo_core.training import train

JUDGES, BETAS, DPO_BETAS = ("honest", "digit", "model"), (0.25, 0.1, 0.03, 0.0), (0.25, 0.1, 0.03)
SEEDS, PROMPTS, ANSWERS, RATE, POINTS = (0, 1, 2, 3, 4), 32, 4, 4e-3, 10
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
    data = on_policy_pairs(base, TASK, JUDGED // 2, reward=REWARD, seed=seed)
    model = RewardModel(base)
    train(model, data.batches(64, seed), reward_step, config(len(data) // 64, 2e-3), progress=False)
    return lambda prompts, texts: predict_rewards(model, prompts, texts)


@lru_cache(maxsize=1)
def judge_of(name: str, seed: int, folder: str) -> rl.Judge:
    """The judge of that name, for a base model's seed."""
    if name == "model":
        return reward_model(base_model(seed, folder), seed)
    return {"honest": HONEST, "digit": last_digit}[name]


@lru_cache(maxsize=1)
def labelled(name: str, seed: int, folder: str) -> Pairs:
    """Pairs of the base model's answers with soft labels of any judge."""
    base, rng = base_model(seed, folder), stream("leaky pairs", seed)
    prompts, _ = TASK.demonstrations(JUDGED // 2, rng)
    first = generate(base, prompts, seed=int(rng.integers(2**31)))
    second = [""] * len(prompts)
    for turn, temperature in enumerate(TEMPERATURES):
        mine = slice(turn, None, len(TEMPERATURES))
        second[mine] = generate(
            base, prompts[mine], seed=int(rng.integers(2**31)), temperature=temperature
        )
    proxy = judge_of(name, seed, folder)
    gap = (proxy(prompts, first) - proxy(prompts, second)).double().numpy()
    swap, probability, _ = label(gap, "soft", rng)
    pairs = [(b, a) if turned else (a, b) for a, b, turned in zip(first, second, swap)]
    return with_reference(base, prompts, *map(list, zip(*pairs)), probability.tolist())


def climb(base: Llama, policy: Llama, proxy: rl.Judge, beta: float, seed: int) -> list[dict]:
    """RLOO; returned are both rewards along the way."""
    seen = []

    def watched(prompts: list[str], texts: list[str]) -> torch.Tensor:
        rewards = proxy(prompts, texts)
        seen.append((rewards.mean().item(), HONEST(prompts, texts).mean().item()))
        return rewards

    steps = JUDGED // (PROMPTS * ANSWERS)
    batches = rl.rollouts(
        policy, base, TASK, watched, "rloo", beta=beta, prompts=PROMPTS, answers=ANSWERS, seed=seed
    )
    train(policy, batches, rl_step("rloo", beta=beta), config(steps, RATE), progress=False)
    means = np.array(seen).reshape(POINTS, -1, 2).mean(1).tolist()
    return [
        {"judged": (i + 1) * JUDGED // POINTS, "proxy": p, "gold": g}
        for i, (p, g) in enumerate(means)
    ]


def run(job: dict) -> dict:
    """One strength of the leash for one judge and one seed; without a method, the base model."""
    name, seed, beta, folder = job["judge"], job["seed"], job["beta"], job["folder"]
    base, proxy = base_model(seed, folder), judge_of(name, seed, folder)
    policy, found = deepcopy(base), {}
    if job["method"] == "rloo":
        found["trace"] = climb(base, policy, proxy, beta, seed)
    elif job["method"] == "dpo":
        data = labelled(name, seed, folder)
        loop = config(len(data) // 64, DPO_RATE)
        train(policy, data.batches(64, seed), dpo_step(beta), loop, progress=False)
    draws = {"n": N, "seed": DRAWS + seed}
    report = evaluation.evaluate(
        policy, TASK, **draws, reference=base, reward=HONEST, beta=beta or 0.0
    )
    report["proxy"] = mean_interval(proxy(*own_answers(policy, TASK, **draws)).numpy())
    return found | {key: asdict(estimate) for key, estimate in report.items()}


def main() -> None:
    """Train, measure, write."""
    folder = folder_argument()
    for seed in SEEDS:
        base_model(seed, folder)
    jobs = []
    for name in JUDGES:
        for seed in SEEDS:
            ways = [(None, None), *(("rloo", beta) for beta in BETAS)]
            ways += [("dpo", beta) for beta in DPO_BETAS] * (name == "digit")
            known = {"judge": name, "seed": seed, "folder": folder}
            jobs += [known | {"method": method, "beta": beta} for method, beta in ways]
    recorder = Recorder(__file__, jobs=len(jobs))
    settings = {
        "reward": REWARD,
        "judged": JUDGED,
        "n": N,
        "seeds": SEEDS,
        "evaluation_seeds": [DRAWS + seed for seed in SEEDS],
        "rloo": {"rate": RATE, "prompts": PROMPTS, "answers": ANSWERS},
        "dpo": {"rate": DPO_RATE, "temperatures": TEMPERATURES},
    }
    recorder.write({"settings": settings, "runs": recorder.all(run, jobs)})


if __name__ == "__main__":
    main()
