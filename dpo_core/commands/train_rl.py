"""Train a model by reinforcement learning on judged answers of its own (chapter 12).

dpo-core train-rl --method rloo        writes ./rl.model
"""

from dataclasses import dataclass, replace

from dpo_core import checkpoint, rl
from dpo_core.commands.options import (
    Options,
    count,
    device,
    optimizer,
    option,
    pick_device,
    refuse_changed,
    resume,
    reward,
    seed,
    sharding,
    threads,
)
from dpo_core.commands.run import find_start, reference_record, run_training, training_place
from dpo_core.policy_gradient import KL_TERMS, METHODS
from dpo_core.reward import ActorCritic
from dpo_core.steps import rl_step
from dpo_core.task import make_task

MOST_ROWS = 16_384  # answers of one rollout, which are held in memory with their gradients


@dataclass(frozen=True)
class TrainRl(Options):
    """Train a model by reinforcement learning on its own answers, judged by the exact checker."""

    model: str = option(
        "", "start and reference: a folder, gen or dpo; default ./gen.model, else the shipped gen"
    )
    output: str = option("rl.model", "model folder to write")
    method: str = option("rloo", f"the method: {', '.join(METHODS)}", choices=tuple(METHODS))
    reward: str = reward()
    beta: float = option(0.25, "weight of the KL leash", low=0, high=1e6)
    prompts: int = count(32, "prompts per rollout", high=16_384)
    answers: int = count(4, "answers to each prompt of a rollout", high=16_384)
    epochs: int = count(1, "times that a rollout is used", high=1000)
    minibatches: int = count(1, "updates that each use is cut into", high=16_384)
    clip: float = option(
        None,
        "a ratio this far from 1, on the wanted side, pulls no more (default: 0.2)",
        above=0,
        below=1,
    )
    clip_high: float = option(
        None,
        "the same above 1, where it differs (default: 0.28 for dapo, else clip)",
        above=0,
        high=1e6,
    )
    kl_term: str = option(
        "k3",
        f"of methods with the leash in the loss: {', '.join(KL_TERMS)}",
        choices=KL_TERMS,
    )
    lam: float = option(None, "of ppo's generalised advantages (default: 0.95)", low=0, high=1)
    value_weight: float = option(
        None, "of the critic's loss in ppo (default: 0.5)", low=0, high=1e6
    )
    steps: int = count(400, "updates")
    learning_rate: float = option(2e-3, "peak of the schedule", above=0, high=100)
    warmup: int = count(10, "updates until the peak", low=0)
    optimizer: str = optimizer()
    max_grad_norm: float = option(
        1.0, "gradients longer than this are shortened to it", above=0, high=1e6
    )
    seed: int = seed("of the prompts and of the answers")
    device: str = device()
    threads: int = threads()
    sharding: str = sharding()
    log_every: int = count(10, "updates per line of the metrics, OUTPUT/metrics.jsonl")
    save_every: int = count(100, "updates between run states, OUTPUT.partial; 0 keeps none", low=0)
    resume: bool = resume()


def run(options: TrainRl) -> None:
    """Run `dpo-core train-rl`.

    Raises:
        ValueError: bad input, before anything is written.
    """
    task, on = make_task("book"), pick_device(options.device)
    judge = rl.checker(task, options.reward)
    method = METHODS[options.method]
    unused = (
        (() if method.clipped else ("clip", "clip_high"))
        + (("kl_term",) if method.kl_in_reward else ())
        + (() if method.baseline is None else ("lam", "value_weight"))
    )
    refuse_changed(options, unused, f"method {options.method!r}")
    rows = options.prompts * options.answers
    if rows > MOST_ROWS:
        raise ValueError(
            f"prompts times answers is {rows}; accepted are at most {MOST_ROWS} answers a rollout"
        )
    given = {
        name: getattr(options, name)
        for name in ("clip", "clip_high", "value_weight")
        if getattr(options, name) is not None
    }
    loss_step = rl_step(options.method, beta=options.beta, kl_term=options.kl_term, **given)
    if options.save_every % (updates := options.epochs * options.minibatches):
        raise ValueError(
            f"save_every is {options.save_every}; "
            f"accepted are multiples of {updates} updates, a rollout"
        )
    start, folder = find_start(options.model)
    options = replace(options, model=start)
    policy, reference = (checkpoint.load_model(folder).to(on) for _ in range(2))
    model = ActorCritic(policy) if options.method == "ppo" else policy
    batch_at = rl.rollouts(
        model,
        reference,
        task,
        judge,
        options.method,
        beta=options.beta,
        prompts=options.prompts,
        answers=options.answers,
        seed=options.seed,
        epochs=options.epochs,
        minibatches=options.minibatches,
        **({} if options.lam is None else {"lam": options.lam}),
    )
    recipe = reference_record(folder, reference, options.output)
    with training_place(options, policy.config, folder) as place:
        run_training(options, model, batch_at, loss_step, recipe, place, drawing=True)
