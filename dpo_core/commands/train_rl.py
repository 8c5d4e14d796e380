"""Train a model by reinforcement learning on judged answers of its own (chapter 12).

dpo-core train-rl --method rloo        writes ./rl.model
"""

from dataclasses import dataclass, replace

from dpo_core import checkpoint, rl
from dpo_core.commands.options import option, pick_device
from dpo_core.commands.run import check_run, find_start, reference_record, run_training
from dpo_core.policy_gradient import METHODS
from dpo_core.reward import ActorCritic
from dpo_core.steps import rl_step
from dpo_core.task import BookTask


@dataclass(frozen=True)
class TrainRl:
    """Train a model by reinforcement learning on its own answers, judged by the exact checker."""

    model: str = option(
        "", "start and reference: a folder, gen or dpo; default ./gen.model, else the shipped gen"
    )
    output: str = option("rl.model", "model folder to write")
    method: str = option("rloo", f"the method: {', '.join(METHODS)}")
    reward: str = option(
        "style+exact", "what the judge likes: style (three numbers), exact, or style+exact"
    )
    beta: float = option(0.25, "weight of the KL leash")
    prompts: int = option(32, "prompts per rollout")
    answers: int = option(4, "answers to each prompt of a rollout")
    epochs: int = option(1, "times that a rollout is used")
    minibatches: int = option(1, "updates that each use is cut into")
    clip: float = option(
        None, "a ratio this far from 1, on the wanted side, pulls no more (default: 0.2)"
    )
    lam: float = option(None, "of ppo's generalised advantages (default: 0.95)")
    value_weight: float = option(None, "of the critic's loss in ppo (default: 0.5)")
    steps: int = option(400, "updates")
    learning_rate: float = option(2e-3, "peak of the schedule")
    warmup: int = option(10, "updates until the peak")
    optimizer: str = option("muon", "muon or adamw")
    max_grad_norm: float = option(1.0, "gradients longer than this are shortened to it")
    seed: int = option(0, "of the prompts and of the answers")
    device: str = option("auto", "auto (CUDA when it is there), cpu or cuda")
    log_every: int = option(10, "updates per line of the metrics file, OUTPUT.metrics.jsonl")
    save_every: int = option(100, "updates between run states, OUTPUT.partial; 0 keeps none")
    resume: bool = option(False, "continue the run whose state is in OUTPUT.partial")


def run(options: TrainRl) -> None:
    """Run `dpo-core train-rl`.

    Raises:
        ValueError: bad input, before anything is written.
    """
    task, device = BookTask(), pick_device(options.device)
    judge = rl.checker(task, options.reward)
    method = METHODS.get(options.method)
    if method is not None:  # an unknown one is named below
        for name, has_effect in (
            ("clip", method.clipped),
            ("lam", method.baseline is None),
            ("value_weight", method.baseline is None),
        ):
            if getattr(options, name) is not None and not has_effect:
                raise ValueError(f"{name} has no effect on method {options.method!r}")
    given = {
        name: getattr(options, name)
        for name in ("clip", "value_weight")
        if getattr(options, name) is not None
    }
    loss_step = rl_step(options.method, beta=options.beta, **given)
    if options.save_every % (updates := max(1, options.epochs * options.minibatches)):
        raise ValueError(
            f"save_every is {options.save_every}; "
            f"accepted are multiples of {updates} updates, a rollout"
        )
    start, folder = find_start(options.model)
    options = replace(options, model=start)
    policy, reference = (checkpoint.load_model(folder).to(device) for _ in range(2))
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
    check_run(options)
    run_training(
        options, model, batch_at, loss_step, reference_record(folder, reference, options.output)
    )
