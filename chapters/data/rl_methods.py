"""Preferences and reinforcement learning on one reward, for chapter 12: writes rl_methods.json.

    python chapters/data/rl_methods.py [FOLDER]        (about 40 CPU-minutes in two processes)

FOLDER, default runs, holds the base models gen-SEED.model; a missing one is trained.

Every arm may have the exact checker judge 25,600 answers. The reward is style + exact, the leash beta 0.25; J is
reward - beta KL. Four settings of each arm are tried from base model 0 with random numbers of their own and measured on
draws of their own; the one of the highest J is run from three seeds, each with its own base model, and measured on
other draws. All arms but recipe have the same optimiser, warm-up and bound on the gradient. They differ in updates,
since they use an answer once, or twice where a setting says so, in batches of their own.

dpo draws pairs from the base model once, with soft labels, and goes once over them; dpo_51200, dpo_102400 and
dpo_192000 are the same setting with as many judged answers, not tuned again. imitation is fine-tuned on the chosen
answers of the file that dpo has at the same setting. recipe is `dpo-core train-dpo`: 192,000 judged answers, another
warm-up and no bound; of seed 0 it is the shipped model. online_dpo has the policy in training draw its pairs. rm_ppo
has the judge label 12,800 pairs, fits a reward model to them, and lets PPO draw 25,600 answers that the reward model
scores. rejection is trained on one of the best of n answers of the base model, best_of_n trains nothing and keeps one
of the best of n, outside the budget. grpo, dr_grpo and dapo have k3 in the loss, those in `_ratio` have ratio_k3.
"""

from copy import deepcopy
from dataclasses import asdict
from functools import lru_cache

import numpy as np
import torch
from recording import Recorder, base_model, folder_argument

from dpo_core import Llama, evaluation, generate, load_pretrained, rl, tabular
from dpo_core.pairs import Pairs
from dpo_core.preferences import on_policy_pairs
from dpo_core.reward import RewardModel, policy_of, predict_rewards
from dpo_core.sampling import TOKENIZER
from dpo_core.steps import dpo_step, reward_step, rl_step, sft_step
from dpo_core.task import BookTask, judge, stream
from dpo_core.theory import class_problem, predicted_optimum, predicted_shares
from dpo_core.training import LoopConfig, train

TASK, REWARD, BETA = BookTask(), "style+exact", 0.25
JUDGE = rl.checker(TASK, REWARD)
JUDGED, BUDGETS, BATCH, N = 25_600, (51_200, 102_400, 192_000), 64, 4000
SEEDS, TUNING_SEED, TUNING_DRAWS, DRAWS = (0, 1, 2), 100, 900, 400
RATES, TEMPERATURES = (2e-3, 4e-3), ((1.0,), (1.5, 2.0))
RECIPE = {"rate": 2e-3, "temperatures": (1.5, 2.0), "warmup": 20, "bound": 1e9}


def every(**values: tuple) -> list[dict]:
    """All settings: each rate with each value of the one other number that is tried."""
    ((name, tried),) = values.items()
    return [{"rate": rate, name: value} for rate in RATES for value in tried]


GROUPED = [setting | {"answers": 4} for setting in every(prompts=(32, 64))]
SINGLE = [setting | {"answers": 1} for setting in every(prompts=(128, 256))]
CRITIC = [setting | {"prompts": 256, "answers": 1} for setting in every(epochs=(1, 2))]
SETTINGS = {
    "dpo": every(temperatures=TEMPERATURES),
    "imitation": every(temperatures=TEMPERATURES),
    "online_dpo": every(temperatures=TEMPERATURES),
    "reinforce": SINGLE,
    "rloo": GROUPED,
    "grpo": GROUPED,
    "grpo_ratio": GROUPED,
    "dr_grpo": GROUPED,
    "dr_grpo_ratio": GROUPED,
    "dapo": GROUPED,
    "dapo_ratio": GROUPED,
    "ppo": CRITIC,
    "rm_ppo": CRITIC,
    "rejection": every(n=(4, 8)),
    "best_of_n": [{"n": n} for n in (2, 4, 8, 16)],
}


def config(steps: int, rate: float, warmup: int = 10, bound: float = 1.0) -> LoopConfig:
    """The loop of every arm: Muon, a short warm-up, the gradient held to length 1."""
    return LoopConfig(
        steps=steps,
        learning_rate=rate,
        optimizer="muon",
        warmup=warmup,
        max_grad_norm=bound,
        log_every=steps,
    )


@lru_cache(maxsize=1)
def pairs(seed: int, number: int, temperatures: tuple[float, ...], folder: str) -> Pairs:
    """Pairs of the base model's answers, the same for every arm that has them."""
    base = base_model(seed % TUNING_SEED, folder)
    return on_policy_pairs(base, TASK, number, reward=REWARD, temperatures=temperatures, seed=seed)


def dpo(base, policy, seed, judged, folder, *, rate, temperatures, warmup=10, bound=1.0) -> None:
    """DPO on pairs of the base model's answers, each used once."""
    data = pairs(seed, judged // 2, tuple(temperatures), folder)
    loop = config(len(data) // BATCH, rate, warmup, bound)
    train(policy, data.batches(BATCH, seed), dpo_step(BETA), loop, progress=False)


def imitation(base, policy, seed, judged, folder, *, rate, temperatures) -> None:
    """Fine-tuning on the chosen answers of dpo's pairs."""
    data = pairs(seed, judged // 2, tuple(temperatures), folder)
    fine_tune(policy, data.prompt, data.chosen, seed, rate)


def fine_tune(policy: Llama, prompts: list[str], texts: list[str], seed: int, rate: float) -> None:
    """Once over the answers, in an order of the seed."""
    order = stream("order", seed).permutation(len(prompts))

    def batch_at(step: int) -> dict:
        rows = order[step * BATCH : (step + 1) * BATCH]
        ids, mask = TOKENIZER.collate([prompts[r] for r in rows], [texts[r] for r in rows])
        return {"input_ids": ids, "completion_mask": mask}

    train(policy, batch_at, sft_step, config(len(prompts) // BATCH, rate), progress=False)


def online_dpo(base, policy, seed, judged, folder, *, rate, temperatures) -> None:
    """DPO on pairs that the policy in training draws, new ones for every update; the reference stays the base."""

    def batch_at(step: int) -> dict:
        number = int(stream("online", seed, step).integers(2**31))
        data = on_policy_pairs(
            base,
            TASK,
            BATCH,
            reward=REWARD,
            temperatures=temperatures,
            sampler=policy,
            seed=number,
        )
        return data.batch(np.arange(BATCH))

    loop = config(judged // (2 * BATCH), rate)
    train(policy, batch_at, dpo_step(BETA), loop, progress=False)


def policy_gradient(
    base, policy, seed, judged, *, method, rate, prompts, answers, epochs=1, judged_by=JUDGE
) -> None:
    """A method of `dpo_core.rl`; a name that ends in `_ratio` has ratio_k3 in its loss."""
    name, kl_term = method.removesuffix("_ratio"), "ratio_k3" if "_ratio" in method else "k3"
    model = rl.ActorCritic(policy) if name == "ppo" else policy
    batches = rl.rollouts(
        model,
        base,
        TASK,
        judged_by,
        name,
        beta=BETA,
        prompts=prompts,
        answers=answers,
        epochs=epochs,
        seed=seed,
    )
    loop = config(judged // (prompts * answers) * epochs, rate)
    train(model, batches, rl_step(name, beta=BETA, kl_term=kl_term), loop, progress=False)


def rm_ppo(base, policy, seed, judged, folder, **setting) -> dict:
    """A reward model fitted to judged pairs, and PPO on its scores."""
    data, model = pairs(seed, judged // 2, (1.0,), folder), RewardModel(base)
    loop = config(len(data) // BATCH, RATES[0])
    train(model, data.batches(BATCH, seed), reward_step, loop, progress=False)
    held_out = on_policy_pairs(
        base, TASK, 2000, reward=REWARD, labels="deterministic", seed=seed + 1000
    )
    scores = predict_rewards(model, held_out.prompt * 2, held_out.chosen + held_out.rejected)
    better, worse = scores.view(2, -1)

    def scorer(prompts: list[str], texts: list[str]) -> torch.Tensor:
        return predict_rewards(model, prompts, texts)

    policy_gradient(base, policy, seed, judged, method="ppo", judged_by=scorer, **setting)
    return {"reward_model_right": (better > worse).float().mean().item()}


def winners(base: Llama, n: int, count: int, seed: int, purpose: str) -> tuple[list, list]:
    """`count` prompts and one of the best of `n` answers to each."""
    rng = stream(purpose, seed)
    prompts, _ = TASK.demonstrations(count, rng)
    asked = [prompt for prompt in prompts for _ in range(n)]
    drawn = generate(base, asked, seed=int(rng.integers(2**31)))
    # the draws of a prompt are exchangeable: the first of equals will do
    best = JUDGE(asked, drawn).view(count, n).argmax(-1)
    return prompts, [drawn[row * n + int(k)] for row, k in enumerate(best)]


def rejection(base, policy, seed, judged, folder, *, rate, n) -> None:
    """Fine-tuning on the best of n."""
    prompts, texts = winners(base, n, judged // n, seed, "rejection")
    fine_tune(policy, prompts, texts, seed, rate)


def best_of_n(base: Llama, n: int, draws: int) -> dict:
    """The best of n, measured; its KL, which no network gives, from the closed form."""
    prompts, texts = winners(base, n, N, draws, "best of n")
    spent = predicted_shares(TASK, tabular.best_of_n(class_problem(TASK, REWARD), n))["kl"]
    found = evaluation.shares([judge(*text, TASK.tolerance) for text in zip(prompts, texts)])
    report = {name: asdict(estimate) for name, estimate in found.items()}
    worth = asdict(evaluation.mean_interval(JUDGE(prompts, texts).numpy()))
    J = {part: value - BETA * spent for part, value in worth.items()}
    return report | {"reward": worth, "kl": dict.fromkeys(worth, spent), "J": J}


OWN = {
    "dpo": dpo,
    "imitation": imitation,
    "online_dpo": online_dpo,
    "rm_ppo": rm_ppo,
    "rejection": rejection,
}


def run(job: dict) -> dict:
    """One training and what it reached."""
    name, setting, seed, folder = job["name"], job["setting"], job["seed"], job["folder"]
    draws = TUNING_DRAWS if seed == TUNING_SEED else DRAWS + seed
    base = base_model(seed % TUNING_SEED, folder)
    if name == "best_of_n":
        return best_of_n(base, setting["n"], draws)
    policy, found = deepcopy(base), None
    if name == "recipe" and seed == 0:
        policy = load_pretrained("dpo")
    elif name.startswith("dpo") or name == "recipe":
        dpo(base, policy, seed, job["judged"], folder, **setting)
    elif name in OWN:
        found = OWN[name](base, policy, seed, job["judged"], folder, **setting)
    elif name != "base":
        policy_gradient(base, policy, seed, job["judged"], method=name, **setting)
    report = evaluation.evaluate(
        policy_of(policy), TASK, n=N, seed=draws, reference=base, reward=JUDGE, beta=BETA
    )
    return (found or {}) | {key: asdict(estimate) for key, estimate in report.items()}


def main() -> None:
    """Tune, train, measure, write."""
    folder = folder_argument()
    for seed in SEEDS:
        base_model(seed, folder)
    tuning = sum(map(len, SETTINGS.values()))
    reported = len(SEEDS) * (len(SETTINGS) + len(BUDGETS) + 2)
    recorder = Recorder(__file__, jobs=tuning + reported)

    def jobs(name: str, setting: dict, judged: int, seeds: tuple[int, ...]) -> list[dict]:
        known = {"name": name, "setting": setting, "judged": judged, "folder": folder}
        return [known | {"seed": seed} for seed in seeds]

    tried = recorder.all(
        run,
        [
            job
            for name, settings in SETTINGS.items()
            for setting in settings
            for job in jobs(name, setting, JUDGED, (TUNING_SEED,))
        ],
    )
    best = {
        name: max((t for t in tried if t["name"] == name), key=lambda t: t["J"]["value"])["setting"]
        for name in SETTINGS
    }
    wanted = jobs("base", {}, 0, SEEDS)
    for name, setting in best.items():
        wanted += jobs(name, setting, JUDGED, SEEDS)
    for judged in BUDGETS:
        wanted += jobs(f"dpo_{judged}", best["dpo"], judged, SEEDS)
    wanted += jobs("recipe", RECIPE, BUDGETS[-1], SEEDS)
    recorder.write(
        {
            "reward": REWARD,
            "beta": BETA,
            "judged": JUDGED,
            "n": N,
            "tuning": {"seed": TUNING_SEED, "evaluation_seed": TUNING_DRAWS},
            "reporting": {"seeds": SEEDS, "evaluation_seeds": [DRAWS + seed for seed in SEEDS]},
            "predicted": predicted_optimum(TASK, REWARD, BETA),
            "tried": tried,
            "runs": recorder.all(run, wanted),
        }
    )


if __name__ == "__main__":
    main()
