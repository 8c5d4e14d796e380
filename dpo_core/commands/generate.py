"""Let a model answer.

dpo-core generate dpo 54 -12 --n 3
"""

import json
from dataclasses import dataclass

from dpo_core import checkpoint
from dpo_core.commands.options import (
    Options,
    count,
    device,
    option,
    pick_device,
    seed,
    threads,
)
from dpo_core.commands.recipe import task_of
from dpo_core.sampling import generate
from dpo_core.task import judge, make_prompt
from dpo_core.threads import use_threads
from dpo_core.tokenizer import CharTokenizer

MOST = 1_000_000  # answers


@dataclass(frozen=True)
class Generate(Options):
    """Let a model answer prompts; each line is an answer, and of the book's models what the checker
    says of it.
    """

    model: str = option("gen", "a folder, gen or dpo", positional=True)
    prompts: list[str] = option(
        [], "targets (54, -12) or prompts (S54=); of a real model questions", positional=True
    )
    n: int = count(1, "answers per prompt", high=100_000)
    temperature: float = option(1.0, "0 is greedy decoding", low=0, high=1000)
    top_k: int = count(0, "draw from the k most probable tokens; 0 from all", low=0)
    top_p: float = option(
        1.0, "draw from the smallest set of tokens with this mass", above=0, high=1
    )
    max_new_tokens: int = count(32, "longest answer, in tokens")
    seed: int = seed("of the draws")
    device: str = device()
    threads: int = threads()


def run(options: Generate) -> None:
    """Run `dpo-core generate`.

    Raises:
        ValueError: bad input.
    """
    answers = options.n * len(options.prompts)
    if answers > MOST:
        raise ValueError(f"n times prompts is {answers}; accepted are at most {MOST} answers")
    model, tokenizer, recipe = checkpoint.open_model(checkpoint.model_folder(options.model))
    book = isinstance(tokenizer, CharTokenizer)
    asked = [make_prompt(text) if book else tokenizer.prompt(text) for text in options.prompts]
    prompts = [prompt for prompt in asked for _ in range(options.n)]
    tolerance = task_of(recipe).tolerance
    use_threads(options.threads)
    completions = generate(
        model.to(pick_device(options.device)),
        prompts,
        temperature=options.temperature,
        top_k=options.top_k or None,
        top_p=options.top_p,
        max_new_tokens=options.max_new_tokens,
        seed=options.seed,
        tokenizer=tokenizer,
    )
    for row, (prompt, completion) in enumerate(zip(prompts, completions)):
        if not book:
            answer = completion.removesuffix(tokenizer.end)
            print(f"{options.prompts[row // options.n]}\t{json.dumps(answer, ensure_ascii=False)}")
            continue
        verdict = judge(prompt, completion, tolerance)
        finding = (
            "exact" if verdict.exact else "not exact" if verdict.well_formed else "not well formed"
        )
        print(f"{prompt}{completion}\t{finding}")
