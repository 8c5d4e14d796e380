"""Preferences and reinforcement learning on one reward, for chapter 12: writes rl_frontier.json.

    python chapters/data/rl_frontier.py [FOLDER]        (about 70 CPU-minutes in two processes, base models not counted)

FOLDER, default runs, holds the base models gen-SEED.model of chapters/data/seeds.py; a missing one is trained.

Every method may have the exact checker judge 25,600 answers. The reward is style + exact, the leash beta 0.25. Four
settings of each are tried from base model 0 with random numbers of their own (seed 100) and measured on draws of their
own; the one with the highest objective, mean reward minus beta times KL, is then run from five seeds, each with its own
base model, and measured on other draws. `equal_seconds` is the same setting, from the same seeds, with as many answers
as fit into 40 CPU-seconds of one thread (drawing, judging, scoring and training; loading and measuring do not count).

dpo draws 12,800 pairs and trains once over them, with soft labels; online_dpo has the policy in training draw them, 64
pairs for every update. rm_ppo has the same pairs judged, fits a reward
model to them, and lets PPO draw as many answers again, which the reward model scores. rejection draws n answers to a
prompt from the base model and is trained on one of the best; best_of_n keeps one of the best at every prompt and
trains nothing.
"""

import json
import multiprocessing
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from multiprocessing.pool import Pool
from pathlib import Path

import numpy as np
import torch
from beta_sweep import base_model

from dpo_core import Llama, evaluation, generate, rl, score, tabular
from dpo_core.evaluation import mean_interval
from dpo_core.optim import make_optimizers
from dpo_core.preferences import on_policy_pairs
from dpo_core.reward import RewardModel, policy_of, predict_rewards
from dpo_core.sampling import TOKENIZER
from dpo_core.steps import dpo_step, reward_step, rl_step, sft_step
from dpo_core.task import BookTask, judge, stream
from dpo_core.theory import class_problem, predicted_optimum, predicted_shares
from dpo_core.training import LoopConfig, train

HERE = Path(__file__).resolve().parent
TASK, REWARD, BETA = BookTask(), "style+exact", 0.25
JUDGED, SECONDS, N = 25_600, 40.0, 4000
SEEDS, TUNING_SEED, TUNING_DRAWS, DRAWS = (0, 1, 2, 3, 4), 100, 900, 400
RATES, TEMPERATURES = (2e-3, 4e-3), ((1.0,), (1.5, 2.0))
SETTINGS = {
    "dpo": [{"rate": rate, "temperatures": t} for rate in RATES for t in TEMPERATURES],
    "online_dpo": [{"rate": rate, "temperatures": t} for rate in RATES for t in TEMPERATURES],
    "reinforce": [{"rate": rate, "prompts": n, "answers": 1} for rate in RATES for n in (128, 256)],
    "rloo": [{"rate": rate, "prompts": n, "answers": 4} for rate in RATES for n in (32, 64)],
    "grpo": [{"rate": rate, "prompts": n, "answers": 4} for rate in RATES for n in (32, 64)],
    "dr_grpo": [{"rate": rate, "prompts": n, "answers": 4} for rate in RATES for n in (32, 64)],
    "ppo": [
        {"rate": rate, "prompts": 256, "answers": 1, "epochs": epochs}
        for rate in RATES
        for epochs in (1, 2)
    ],
    "rm_ppo": [
        {"rate": rate, "prompts": 256, "answers": 1, "epochs": epochs}
        for rate in RATES
        for epochs in (1, 2)
    ],
    "rejection": [{"rate": rate, "n": n} for rate in RATES for n in (4, 8)],
    "best_of_n": [{"n": n} for n in (2, 4, 8, 16)],
}


def config(steps: int, rate: float) -> LoopConfig:
    """The loop of every method: Muon, a short warm-up, the gradient held to length 1."""
    return LoopConfig(
        steps=steps,
        learning_rate=rate,
        optimizer="muon",
        warmup=10,
        max_grad_norm=1.0,
        log_every=steps,
    )


def dpo(
    base: Llama,
    policy: Llama,
    seed: int,
    judged: int,
    *,
    rate: float,
    temperatures: tuple[float, ...],
) -> dict:
    """DPO on pairs of the base model's answers."""
    data = on_policy_pairs(
        base, TASK, judged // 2, reward=REWARD, temperatures=temperatures, seed=seed
    )
    train(
        policy,
        data.batches(64, seed),
        dpo_step(BETA),
        config(len(data) // 64, rate),
        progress=False,
    )
    return {"drawn": judged, "modules": [policy]}


def online_dpo(
    base: Llama,
    policy: Llama,
    seed: int,
    judged: int,
    *,
    rate: float,
    temperatures: tuple[float, ...],
) -> dict:
    """DPO on pairs that the policy in training draws, 64 new ones for every update; the reference stays the base."""

    def batch_at(step: int) -> dict:
        number = int(stream("online", seed, step).integers(2**31))
        data = on_policy_pairs(
            base, TASK, 64, reward=REWARD, temperatures=temperatures, sampler=policy, seed=number
        )
        return data.batch(np.arange(64))

    train(policy, batch_at, dpo_step(BETA), config(judged // 128, rate), progress=False)
    return {"drawn": judged, "modules": [policy, base]}


def policy_gradient(
    base: Llama,
    policy: Llama,
    seed: int,
    judged: int,
    *,
    method: str,
    rate: float,
    prompts: int,
    answers: int,
    epochs: int = 1,
    judge: rl.Judge | None = None,
) -> dict:
    """A method of `dpo_core.rl`, judged by the checker unless another judge is given."""
    model = rl.ActorCritic(policy) if method == "ppo" else policy
    batches = rl.rollouts(
        model,
        base,
        TASK,
        judge or rl.checker(TASK, REWARD),
        method,
        beta=BETA,
        prompts=prompts,
        answers=answers,
        epochs=epochs,
        seed=seed,
    )
    steps = judged // (prompts * answers) * epochs
    train(model, batches, rl_step(method, beta=BETA), config(steps, rate), progress=False)
    return {"drawn": judged, "modules": [model, base]}


def rm_ppo(base: Llama, policy: Llama, seed: int, judged: int, **setting: float) -> dict:
    """A reward model fitted to judged pairs, and PPO on its scores."""
    data = on_policy_pairs(base, TASK, judged // 2, reward=REWARD, seed=seed)
    model = RewardModel(base)
    train(model, data.batches(64, seed), reward_step, config(len(data) // 64, 2e-3), progress=False)
    held_out = on_policy_pairs(
        base, TASK, 2000, reward=REWARD, labels="deterministic", seed=seed + 1000
    )
    gaps = predict_rewards(model, held_out.prompt * 2, held_out.chosen + held_out.rejected).view(
        2, -1
    )
    found = policy_gradient(
        base,
        policy,
        seed,
        judged,
        method="ppo",
        **setting,
        judge=lambda prompts, texts: predict_rewards(model, prompts, texts),
    )
    right = (gaps[0] > gaps[1]).float().mean().item()
    return found | {
        "drawn": 2 * judged,
        "reward_model_right": right,
        "modules": [*found["modules"], model],
    }


def winners(
    base: Llama, n: int, count: int, seed: int, purpose: str
) -> tuple[list[str], list[str]]:
    """`count` prompts and one of the best of `n` answers to each."""
    rng = stream(purpose, seed)
    prompts, _ = TASK.demonstrations(count, rng)
    drawn = generate(
        base, [prompt for prompt in prompts for _ in range(n)], seed=int(rng.integers(2**31))
    )
    rewards = rl.checker(TASK, REWARD)([prompt for prompt in prompts for _ in range(n)], drawn)
    # the draws of a prompt are exchangeable: the first of equals will do
    best = rewards.view(count, n).argmax(-1)
    return prompts, [drawn[row * n + int(k)] for row, k in enumerate(best)]


def rejection(base: Llama, policy: Llama, seed: int, judged: int, *, rate: float, n: int) -> dict:
    """Fine-tuning on the best of n."""
    prompts, texts = winners(base, n, judged // n, seed, "rejection")
    order = stream("order", seed).permutation(len(prompts))

    def batch_at(step: int) -> dict:
        rows = order[step * 64 : (step + 1) * 64]
        ids, mask = TOKENIZER.collate([prompts[r] for r in rows], [texts[r] for r in rows])
        return {"input_ids": ids, "completion_mask": mask}

    train(policy, batch_at, sft_step, config(len(prompts) // 64, rate), progress=False)
    return {"drawn": judged, "modules": [policy]}


METHODS: dict[str, Callable[..., dict]] = {
    "dpo": dpo,
    "online_dpo": online_dpo,
    "rm_ppo": rm_ppo,
    "rejection": rejection,
}


def held_bytes(modules: list[torch.nn.Module]) -> int:
    """Weights of all models that a training step holds, the gradients and the moments of the one that is trained."""
    trained = modules[0]
    for parameter in trained.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizers = make_optimizers(trained, "muon", 1e-9)
    for optimizer in optimizers:
        optimizer.step()
    moments = [
        m
        for o in optimizers
        for state in o.state.values()
        for m in state.values()
        if torch.is_tensor(m)
    ]
    weights = {id(p): p for module in modules for p in module.parameters()}.values()
    tensors = [*weights, *[p.grad for p in trained.parameters()], *moments]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def measured(policy: Llama, base: Llama, draws: int) -> dict:
    """Shares, reward, KL and objective of a policy on fresh draws, with intervals."""
    prompts, texts = evaluation.own_answers(policy, TASK, n=N, seed=draws)
    shares = evaluation.shares([judge(*text) for text in zip(prompts, texts)])
    rewards = rl.checker(TASK, REWARD)(prompts, texts).numpy()
    gaps = (score(policy, prompts, texts) - score(base, prompts, texts)).numpy()
    values = {"reward": rewards, "kl": gaps, "objective": rewards - BETA * gaps}
    return {name: asdict(e) for name, e in shares.items()} | {
        k: asdict(mean_interval(v)) for k, v in values.items()
    }


def best_of_n(base: Llama, n: int, seed: int, draws: int) -> dict:
    """The best of n, measured; its KL, which no network gives, from the closed form."""
    prompts, texts = winners(base, n, N, draws, "best of n")
    law = predicted_shares(TASK, tabular.best_of_n(class_problem(TASK, REWARD), n))
    shares = evaluation.shares([judge(*text) for text in zip(prompts, texts)])
    rewards = mean_interval(rl.checker(TASK, REWARD)(prompts, texts).numpy())
    objective = {part: value - BETA * law["kl"] for part, value in asdict(rewards).items()}
    kl = dict.fromkeys(("value", "low", "high"), law["kl"])
    found = {"reward": asdict(rewards), "kl": kl, "objective": objective}
    return {name: asdict(estimate) for name, estimate in shares.items()} | found


def run(job: dict) -> dict:
    """One training and what it reached."""
    torch.set_num_threads(1)
    method, setting, seed, folder = job["method"], job["setting"], job["seed"], Path(job["folder"])
    draws = TUNING_DRAWS if seed == TUNING_SEED else DRAWS + seed
    base = base_model(0 if seed == TUNING_SEED else seed, folder)
    known = {name: job[name] for name in ("method", "setting", "seed", "judged")}
    if method == "best_of_n":
        return known | best_of_n(base, setting["n"], seed, draws)
    policy = base_model(0 if seed == TUNING_SEED else seed, folder)
    train_by = METHODS.get(method, policy_gradient)
    extra = {} if method in METHODS else {"method": method}
    started = time.process_time()
    found = train_by(base, policy, seed, job["judged"], **extra, **setting)
    seconds, modules = time.process_time() - started, found.pop("modules")
    report = measured(policy_of(policy), base, draws)
    return (
        known
        | {"cpu_seconds": round(seconds, 1), "held_bytes": held_bytes(modules)}
        | found
        | report
    )


def all_of(pool: Pool, jobs: list[dict]) -> list[dict]:
    """The results of the jobs, in their order; a line is shown as each comes in."""
    results = []
    for result in pool.imap(run, jobs):
        results.append(result)
        shown = {name: round(result[name]["value"], 3) for name in ("reward", "kl", "objective")}
        print(
            len(results),
            "of",
            len(jobs),
            result["method"],
            result["setting"],
            result["seed"],
            shown,
            result.get("cpu_seconds"),
            flush=True,
        )
    return results


def longer(method: str, reported: list[dict]) -> int:
    """How many answers fit into SECONDS, by the cost of an answer in the reported runs; whole batches."""
    seconds = np.mean([r["cpu_seconds"] for r in reported if r["method"] == method])
    return max(1, round(JUDGED * SECONDS / seconds / 512)) * 512


def main() -> None:
    """Tune, train, measure, write."""
    folder = sys.argv[1] if len(sys.argv) > 1 else "runs"
    for seed in SEEDS:
        base_model(seed, Path(folder))
    fixed = {"judged": JUDGED, "folder": folder}
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        tried = all_of(
            pool,
            [
                {"method": m, "setting": s, "seed": TUNING_SEED, **fixed}
                for m, settings in SETTINGS.items()
                for s in settings
            ],
        )
        best = {
            m: max((t for t in tried if t["method"] == m), key=lambda t: t["objective"]["value"])[
                "setting"
            ]
            for m in SETTINGS
        }
        reported = all_of(
            pool,
            [
                {"method": m, "setting": best[m], "seed": seed, **fixed}
                for m in SETTINGS
                for seed in SEEDS
            ],
        )
        equal = all_of(
            pool,
            [
                {
                    "method": m,
                    "setting": best[m],
                    "seed": seed,
                    **fixed,
                    "judged": longer(m, reported),
                }
                for m in SETTINGS
                if m != "best_of_n"
                for seed in SEEDS
            ],
        )
    report = {
        "command": "python chapters/data/rl_frontier.py",
        "settings": {
            "reward": REWARD,
            "beta": BETA,
            "judged": JUDGED,
            "seconds": SECONDS,
            "n": N,
            "tuning": {"seed": TUNING_SEED, "evaluation_seed": TUNING_DRAWS},
            "reporting": {"seeds": SEEDS, "evaluation_seeds": [DRAWS + seed for seed in SEEDS]},
        },
        "torch": torch.__version__,
        "predicted": predicted_optimum(TASK, REWARD, BETA),
        "tried": tried,
        "equal_answers": reported,
        "equal_seconds": equal,
    }
    (HERE / "rl_frontier.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
