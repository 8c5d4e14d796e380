"""Twenty prompts kept out of the training, for chapter 3: writes held_out.json beside this file.

    OMP_NUM_THREADS=1 python chapters/data/held_out.py        (about 14 CPU-minutes)

The recipe of `train-gen` on the population without its texts of twenty prompts, drawn by the seed
from the targets that two numbers reach. Each network is then asked its unseen prompts, as many seen
ones beside them, and targets below and above all that the authors have; the base model of the same
seed, which has seen everything, is asked the same unseen prompts. The base models of seeds 1 and 2
are taken from the folder that the argument names (runs), or trained there.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict

import numpy as np
from recording import Recorder, base_model, folder_argument

from dpo_core import Llama, ModelConfig, generate, score
from dpo_core.evaluation import Estimate, mean_interval, wilson
from dpo_core.sampling import TOKENIZER
from dpo_core.steps import sft_step
from dpo_core.task import BookTask, judge, stream
from dpo_core.training import Batch, LoopConfig, train

SEEDS, HELD, STEPS, BATCH, RATE, WARMUP = (0, 1, 2), 20, 9_000, 128, 0.01, 100
ANSWERS, TEXTS, MARGIN = 200, 4_000, 20  # answers a prompt, texts of a kind, targets on each side
TASK = BookTask()
ROWS = {prompt: row for row, prompt in enumerate(TASK.prompt_distribution)}
TARGETS = [int(prompt[1:-1]) for prompt in ROWS]
PROMPT_OF = np.array([ROWS[prompt] for prompt in TASK.table.prompts])  # (N,)
CLASS_OF = 2 * TASK.table.style + TASK.table.exact  # (N,) in the order of class_rates


def prompts_of(targets: Sequence[int]) -> list[str]:
    return [f"S{target}=" for target in targets]


def held_targets(seed: int) -> list[int]:
    """The targets kept out of a training, in order."""
    reached = [t for t in TARGETS if -TASK.largest <= t <= 2 * TASK.largest]
    return sorted(stream("held-out", seed).choice(reached, HELD, replace=False).tolist())


def neighbours(held: Sequence[int]) -> list[int]:
    """For each unseen target the nearest seen one, none twice."""
    found: list[int] = []
    for target in held:
        free = [t for t in TARGETS if t not in held and t not in found]
        found.append(min(free, key=lambda t: abs(t - target)))
    return found


def seen_texts(held: Sequence[int]) -> np.ndarray:
    """The probability of each text of the table in the training, (N,)."""
    out = np.isin(PROMPT_OF, [ROWS[prompt] for prompt in prompts_of(held)])
    weights = np.where(out, 0.0, TASK.table.probability)
    return weights / weights.sum()


def drawer(weights: np.ndarray, seed: int) -> Callable[[int], np.ndarray]:
    """The rows of the table that a step of the training reads."""
    cumulative = np.cumsum(weights)

    def rows_at(step: int) -> np.ndarray:
        draws = stream("sft", seed, step).random(BATCH) * cumulative[-1]
        return np.searchsorted(cumulative, draws, side="right")

    return rows_at


def trained(rows_at: Callable[[int], np.ndarray], seed: int) -> Llama:
    table = TASK.table

    def batch_at(step: int) -> Batch:
        rows = rows_at(step)
        ids, mask = TOKENIZER.collate(
            [table.prompts[row] for row in rows], [table.completions[row] for row in rows]
        )
        return {"input_ids": ids, "completion_mask": mask}

    model = Llama(ModelConfig()).reset_parameters(seed)
    config = LoopConfig(STEPS, RATE, "muon", warmup=WARMUP, log_every=100)
    train(model, batch_at, sft_step, config, progress=False)
    return model


def written(model: Llama, targets: Sequence[int], seed: int) -> list[dict]:
    """What a network writes for each target, drawn and greedily, as the checker judges it."""
    prompts = prompts_of(targets)
    asked = [prompt for prompt in prompts for _ in range(ANSWERS)]
    draws = generate(model, asked, seed=seed)
    greedy = generate(model, prompts, temperature=0)
    found = []
    for i, (target, prompt) in enumerate(zip(targets, prompts)):
        verdicts = [judge(prompt, text) for text in draws[i * ANSWERS : (i + 1) * ANSWERS]]
        found.append(
            {
                "target": target,
                "exact": sum(v.exact for v in verdicts) / ANSWERS,
                "style": sum(v.style for v in verdicts) / ANSWERS,
                "well_formed": sum(v.well_formed for v in verdicts) / ANSWERS,
                # off by ten, as an author's slip is
                "ten_off": sum(
                    v.value is not None and abs(v.value - target) == 10 for v in verdicts
                )
                / ANSWERS,
                "greedy": greedy[i],
                "greedy_exact": judge(prompt, greedy[i]).exact,
            }
        )
    return found


def summary(found: Sequence[dict]) -> dict[str, dict]:
    """Means over prompts, and the greedy share, each with its interval."""
    names = ("exact", "style", "well_formed", "ten_off")
    shares = {name: asdict(mean_interval([row[name] for row in found])) for name in names}
    return shares | {"greedy": asdict(wilson(sum(r["greedy_exact"] for r in found), len(found)))}


def divergence(model: Llama, targets: Sequence[int]) -> dict:
    """KL(population || model) on these prompts, summed exactly over their texts: a mean over the
    prompts, and the mean for the texts of each class.
    """
    table = TASK.table
    where = [ROWS[prompt] for prompt in prompts_of(targets)]
    rows = np.flatnonzero(np.isin(PROMPT_OF, where))
    texts = [(table.prompts[row], table.completions[row]) for row in rows]
    logps = np.array([TASK.log_conditional[text] for text in texts])
    excess = logps - score(model, *map(list, zip(*texts))).double().numpy()
    weights = np.exp(logps)
    by_prompt = [(weights * excess)[PROMPT_OF[rows] == row].sum() for row in where]
    classes = [CLASS_OF[rows] == i for i in range(4)]
    by_class = [float(np.average(excess[of], weights=weights[of])) for of in classes]
    return {"excess": asdict(mean_interval(by_prompt)), "excess_by_class": by_class}


def by_views(
    model: Llama, rows_at: Callable[[int], np.ndarray], weights: np.ndarray, seed: int
) -> list[dict]:
    """The excess on three-number slips that the training never drew, and on those it drew."""
    table = TASK.table
    views = np.zeros(len(weights), dtype=int)
    for step in range(STEPS):
        np.add.at(views, rows_at(step), 1)
    slips = (CLASS_OF == 2) & (weights > 0)
    found = []
    for name, kind in (("never drawn", views == 0), ("drawn", views > 0)):
        rows = stream("views", seed).permutation(np.flatnonzero(slips & kind))[:TEXTS]
        texts = [(table.prompts[row], table.completions[row]) for row in rows]
        logps = score(model, *map(list, zip(*texts))).double().numpy()
        excess = np.array([TASK.log_conditional[text] for text in texts]) - logps
        share = Estimate(*[float((slips & kind).sum() / slips.sum())] * 3)
        found.append(
            {"name": name, "excess": asdict(mean_interval(excess)), "share": asdict(share)}
        )
    return found


def baselines(held: Sequence[int], weights: np.ndarray) -> list[dict]:
    """What answers the unseen prompts without arithmetic, computed from the training texts: a table
    of each prompt's likeliest text, the texts of the nearest seen target, any text at all.
    """
    table = TASK.table
    values = np.array([TARGETS[row] for row in PROMPT_OF])
    slip = np.array([-10 if "-" in text[1:].split("+")[0] else 10 for text in table.completions])
    values = values + np.where(table.exact, 0, slip)  # what each text evaluates to
    seen = [t for t in TARGETS if t not in held]
    nearest = [weights * (ROWS[f"S{_near(seen, t)}="] == PROMPT_OF) for t in held]
    found = [{"name": "table"} | _shares(held, [weights * 0] * len(held), values)]
    found.append({"name": "nearest"} | _shares(held, nearest, values))
    found.append({"name": "chance"} | _shares(held, [weights] * len(held), values))
    own = [TASK.table.probability * (ROWS[prompt] == PROMPT_OF) for prompt in prompts_of(held)]
    return [*found, {"name": "authors"} | _shares(held, own, values)]


def _near(seen: Sequence[int], target: int) -> int:
    return min(seen, key=lambda t: abs(t - target))


def _shares(targets: Sequence[int], mixes: Sequence[np.ndarray], values: np.ndarray) -> dict:
    """What a mix of texts, one for each target, scores; a mix of nothing answers nothing."""
    rows = []
    for target, mix in zip(targets, mixes):
        total = mix.sum()
        mix = mix / total if total > 0 else mix
        best = int(mix.argmax())
        rows.append(
            {
                "exact": float(mix[values == target].sum()),
                "style": float(mix[TASK.table.style].sum()),
                "well_formed": float(mix.sum()),
                "ten_off": float(mix[abs(values - target) == 10].sum()),
                "greedy_exact": bool(total > 0 and values[best] == target),
            }
        )
    return summary(rows)


def run(job: dict) -> dict:
    """One training without its twenty prompts, and everything measured on it."""
    seed = job["seed"]
    held = held_targets(seed)
    weights = seen_texts(held)
    rows_at = drawer(weights, seed)
    model = trained(rows_at, seed)
    below = range(min(TARGETS) - MARGIN, min(TARGETS))
    above = range(max(TARGETS) + 1, max(TARGETS) + 1 + MARGIN)
    found = written(model, [*below, *TARGETS, *above], seed)
    of = {row["target"]: row for row in found}
    arms = [
        {"name": name} | summary([of[target] for target in targets])
        for name, targets in (("below", below), ("above", above))
    ]
    for name, targets in (("unseen", held), ("seen", neighbours(held))):
        row = summary([of[target] for target in targets]) | divergence(model, targets)
        arms.append({"name": name} | row)
    full = base_model(seed, folder_argument())
    row = summary(written(full, held, seed)) | divergence(full, held)
    arms.append({"name": "everything"} | row)
    arms += baselines(held, weights) + by_views(model, rows_at, weights, seed)
    return {"held": held, "seen": neighbours(held), "targets": found, "arms": arms}


def main() -> None:
    """Run everything and write the file."""
    recorder = Recorder(__file__, jobs=len(SEEDS))
    runs = recorder.all(run, [{"seed": seed} for seed in SEEDS])
    recorder.write(
        {
            "settings": {
                "steps": STEPS,
                "batch_size": BATCH,
                "learning_rate": RATE,
                "optimizer": "muon",
                "warmup": WARMUP,
                "held_prompts": HELD,
                "answers_a_prompt": ANSWERS,
            },
            "runs": [arm | {"seed": run["seed"]} for run in runs for arm in run["arms"]],
            "networks": [{k: run[k] for k in ("seed", "held", "seen", "targets")} for run in runs],
        }
    )


if __name__ == "__main__":
    main()
