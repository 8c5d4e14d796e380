"""Let a model answer.

dpo-core generate dpo 54 -12 --n 3
"""

from dataclasses import dataclass

from dpo_core import checkpoint
from dpo_core.commands.options import option, pick_device
from dpo_core.sampling import generate
from dpo_core.task import judge, make_prompt, make_task


@dataclass(frozen=True)
class Generate:
    """Let a model answer prompts; each line is an answer and what the checker says of it."""

    model: str = option("gen", "a folder, gen or dpo", positional=True)
    prompts: list[str] = option([], "targets (54, -12) or prompts (S54=)", positional=True)
    n: int = option(1, "answers per prompt")
    temperature: float = option(1.0, "0 is greedy decoding")
    top_k: int = option(0, "draw from the k most probable tokens; 0 from all")
    top_p: float = option(1.0, "draw from the smallest set of tokens with this mass")
    max_new_tokens: int = option(32, "longest answer, in tokens")
    seed: int = option(0, "of the draws")
    device: str = option("auto", "auto (CUDA when it is there), cpu or cuda")


def run(options: Generate) -> None:
    """Run `dpo-core generate`.

    Raises:
        ValueError: bad input.
    """
    if options.n < 1:
        raise ValueError(f"n is {options.n}; accepted are whole numbers from 1")
    prompts = [make_prompt(prompt) for prompt in options.prompts for _ in range(options.n)]
    folder = checkpoint.model_folder(options.model)
    model = checkpoint.load_model(folder).to(pick_device(options.device))
    tolerance = make_task(checkpoint.read_recipe(folder).get("task", "book")).tolerance
    completions = generate(
        model,
        prompts,
        temperature=options.temperature,
        top_k=options.top_k or None,
        top_p=options.top_p,
        max_new_tokens=options.max_new_tokens,
        seed=options.seed,
    )
    for prompt, completion in zip(prompts, completions):
        verdict = judge(prompt, completion, tolerance)
        finding = (
            "exact" if verdict.exact else "not exact" if verdict.well_formed else "not well formed"
        )
        print(f"{prompt}{completion}\t{finding}")
