"""Theory against a real language model, on closed sets of answers, for chapter 14: writes real_theory.json.

    python chapters/data/real_theory.py [FOLDER] [--jobs N] [--quick]        (about 55 CPU-minutes in two processes)

FOLDER, default build/real/SmolLM2-135M-Instruct, is what `make real` makes. `--jobs N` records the first N jobs alone;
`--quick` goes through every kind of job in a few steps, prints, and writes nothing. What is asked of the model's own
free answers is in real_open.py.

A prompt names four words and asks for one; its answers are the four words, each with and without a full stop, and the
end token belongs to an answer: eight complete answers, whose probabilities are computed exactly. The reward is 1 for a
word with the letter e. The 42 lists were taken from 72 that were tried: in each the answers hold at least 0.35 of the
model's mass, and the rewarded words 0.12 to 0.88 of that. What is compared with theory is renormalised over the set;
the set's mass is reported beside it. Trained are 32 prompts, held out 10.

The arms differ in one thing: beta, or the kind of label, or the loss. An update sees SETS prompts and, of each, all 28
pairs of answers: the expected loss under soft labels; one Bradley-Terry draw a pair, a new one each time, under sampled
labels; the better always wins, and equals count half, under deterministic ones. imitation is fine-tuned on the chosen
answers of the same pairs. pairs and trl see a file of pairs instead, each once, with one drawn label each: the same
pairs in the same order, by dpo_core and by TRL's DPOTrainer.

What was claimed before the first of these trainings, and what would have counted against it. R is what is left of the distance to
the optimum: the mean over the 32 trained prompts of KL(π || π*) within the set, after training over before.

 1. pi* is where DPO goes. Soft labels: R below 0.05 at each beta. Against: an arm at 0.05 or more.
 2. The share of rewarded words, prompt by prompt, is the predicted one: mean |measured - predicted| below 0.05.
 3. A larger beta holds the model closer: KL(π || π_ref) within the set falls from beta to beta, and lies within a fifth
    of the closed form's.
 4. What the reward does not tell apart keeps its proportions: the share of answers with a full stop, given the word,
    moves by less than 0.05 on average.
 5. Sampled labels have the same optimum: R below 0.25, above that of soft labels.
 6. Deterministic labels do not stop at pi*: the share of rewarded words ends above the predicted one, at each beta.
 7. Imitation ends at the chosen answers' own distribution, which knows no reference: nearer to that than to pi*, and
    with a lower J at beta 0.5 than DPO.
 8. The loss says nothing of the set's mass: it moves, by more than 0.05 nats on most prompts, and not in one direction
    for all arms. Against: a mass that stays.
 9. The chosen answers' log-probability falls, as in chapter 9, in most arms. Against: it rises in most.
10. Held-out prompts are not in the loss. They come nearer to their own optima, but not half of the way.
11. dpo_core and TRL are the same program: the loss of each step equal to 1e-3, both ends within 0.01 nats.

After these were written the learning rate, the sets of an update and the epochs were chosen on a GPU, by R at beta 0.5:
that is, on the trained prompts and against the closed form (real_tuning.json, which has three seeds of each arm too).
"""

import argparse
import json
import math
import time
from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from dpo_core import Llama, load_model
from dpo_core.losses import preference_loss
from dpo_core.optim import learning_rate_factor
from dpo_core.packing import completion_logps
from dpo_core.steps import dpo_step
from dpo_core.tabular import preference_probs
from dpo_core.task import stream
from dpo_core.training import LoopConfig, train

FOLDER = "build/real/SmolLM2-135M-Instruct"
TRAINED = """red, blue, black, pink|green, yellow, gold, brown|silver, copper, gold, iron|cat, dog, horse, mouse
apple, orange, banana, fig|Germany, Norway, Sweden, Poland|Egypt, Kenya, China, India|guitar, violin, trumpet, drum
Monday, Tuesday, Wednesday, Friday|March, June, April, December|king, queen, prince, lord|north, south, east, west
train, car, plane, ship|river, lake, ocean, pond|eye, nose, hand, foot|farmer, baker, cook, butcher
Venus, Jupiter, Saturn, Mercury|love, hate, joy, fear|gold, diamond, ruby, pearl|English, French, Spanish, German
eagle, hawk, crow, owl|snake, frog, lizard, turtle|pepper, salt, sugar, honey|rain, snow, wind, thunder
morning, noon, evening, night|pen, pencil, brush, chalk|sword, bow, spear, axe|day, night, week, month
Peter, John, Mary, Helen|wool, silk, cotton, leather|church, temple, school, bank|yes, no, maybe, never"""
HELD_OUT = """tiger, lion, bear, wolf|Greece, Italy, France, Spain|summer, winter, spring, autumn|knife, fork, spoon, plate
mountain, valley, desert, forest|math, science, history, art|circle, square, triangle, oval|paper, stone, wood, glass
soldier, pilot, sailor, spy|brother, sister, father, son"""

BETAS = (0.25, 0.5, 1.0, 2.0)
BETA = 0.5  # of the arms that have one beta
RATE, WARMUP, EPOCHS, SETS = 1e-5, 4, 12, 8
KINDS = {  # of label, or imitation; the betas of each
    "soft": BETAS,
    "imitation": (BETA,),
    "deterministic": BETAS,
    "sampled": BETAS,
}
PAIRS_BATCH, PAIRS_STEPS = 16, 24
END, END_ID = "<|im_end|>", 2
ANSWERS = torch.triu_indices(8, 8, 1)  # (2, 28): all pairs of a set


def lists(text: str) -> list[list[str]]:
    """The lists of words in one of the texts above."""
    return [part.split(", ") for line in text.splitlines() for part in line.split("|")]


def chat(system: str, user: str, lead: str = "") -> str:
    """A prompt in the model's chat template, and the words that its answer begins with."""
    turns = (("system", system), ("user", user))
    text = "".join(f"<|im_start|>{role}\n{content}{END}\n" for role, content in turns)
    return f"{text}<|im_start|>assistant\n{lead}"


def choice_prompt(words: list[str]) -> str:
    named = f"{', '.join(words[:-1])} or {words[-1]}"
    return chat("Answer with one word.", f"Choose one: {named}.", "I choose the word:")


def answers_of(words: list[str]) -> list[str]:
    """The eight complete answers to the prompt with these words."""
    return [f" {word}{stop}{END}" for word in words for stop in ("", ".")]


def rewards_of(words: list[str]) -> list[float]:
    """1 for an answer whose word has the letter e."""
    return [float("e" in word.lower()) for word in words for _ in range(2)]


@lru_cache(maxsize=1)
def tokenizer(folder: str) -> Tokenizer:
    return Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))


def rows(folder: str, prompts: list[str], answers: list[list[str]]) -> tuple[Tensor, Tensor]:
    """Ids and completion mask of K answers to each prompt, (B, K, T), padded on the right."""
    encode = tokenizer(folder).encode
    said = [[encode(answer).ids for answer in several] for several in answers]
    return rows_of_ids([encode(prompt).ids for prompt in prompts], said)


def rows_of_ids(asked: list[list[int]], said: list[list[list[int]]]) -> tuple[Tensor, Tensor]:
    """`rows` of prompts and answers that are ids already."""
    length = max(len(p) + len(a) for p, several in zip(asked, said) for a in several)
    ids = torch.full((len(asked), len(said[0]), length), END_ID)
    mask = torch.zeros_like(ids)
    for row, (prompt, several) in enumerate(zip(asked, said)):
        for k, answer in enumerate(several):
            ids[row, k, : len(prompt) + len(answer)] = torch.tensor(prompt + answer)
            mask[row, k, len(prompt) : len(prompt) + len(answer)] = 1
    return ids, mask


def closed_sets(folder: str, words: list[list[str]]) -> dict[str, Tensor]:
    """Ids and mask of the answers to all prompts, (P, 8, T), and their rewards, (P, 8)."""
    ids, mask = rows(folder, list(map(choice_prompt, words)), list(map(answers_of, words)))
    reward = torch.tensor(list(map(rewards_of, words)), dtype=torch.float64)
    return {"ids": ids, "mask": mask, "reward": reward}


@torch.no_grad()
def set_logps(model: Llama, data: dict[str, Tensor], batch: int = 8) -> Tensor:
    """log π(answer | prompt) of every answer in every set, (P, 8) float64 on the CPU."""
    device = model.lm_head.weight.device
    pieces = zip(data["ids"].split(batch), data["mask"].split(batch))
    logps = [completion_logps(model, i.to(device), m.to(device)).sum(-1).cpu() for i, m in pieces]
    return torch.cat(logps).double()


# ---------------------------------------------------------------- training on closed sets


def preferred(reward: Tensor, kind: str, rng: np.random.Generator) -> Tensor:
    """Of each pair of a set, the probability that its first answer is preferred: (P, 28)."""
    first, second = ANSWERS
    soft = preference_probs(reward)[:, first, second]
    if kind == "soft":
        return soft
    if kind == "sampled":
        return torch.from_numpy(rng.random(soft.shape) < soft.numpy()).double()
    gap = reward[:, first] - reward[:, second]
    return 0.5 * (1 + gap.sign())


def chosen_weights(preference: Tensor) -> Tensor:
    """How often each answer is the chosen one of a pair drawn uniformly, (P, 8)."""
    first, second = ANSWERS.to(preference.device)
    weights = preference.new_zeros(len(preference), 8)
    weights = weights.index_add(1, first, preference).index_add(1, second, 1 - preference)
    return weights / len(first)


def set_step(beta: float | None) -> Callable:
    """The loss of a batch of sets: of DPO, over all pairs; without a beta, of imitation."""

    def step(model: Llama, batch: dict[str, Tensor]) -> dict:
        logps = completion_logps(model, batch["ids"], batch["mask"]).sum(-1)  # (B, 8)
        weights = chosen_weights(batch["preferred"])
        if beta is None:
            losses = -(weights * logps).sum(-1)
        else:
            first, second = ANSWERS
            policy, reference = logps, batch["ref_logps"]
            four = (policy[:, first], policy[:, second], reference[:, first], reference[:, second])
            losses, _, _ = preference_loss(
                *(part.flatten() for part in four),
                beta=beta,
                preference_prob=batch["preferred"].flatten(),
            )
        chosen = (weights * logps.detach()).sum(-1)
        return {
            "loss": (losses.sum(), losses.numel()),
            "logps/chosen": (chosen.sum(), len(chosen)),
        }

    return step


def loop(steps: int, rate: float, warmup: int = WARMUP) -> LoopConfig:
    return LoopConfig(steps=steps, learning_rate=rate, warmup=warmup, log_every=1)


def train_sets(
    model: Llama,
    data: dict[str, Tensor],
    kind: str,
    beta: float,
    *,
    rate: float,
    epochs: int,
    sets: int,
    seed: int = 0,
) -> list[dict]:
    """DPO, or imitation for the kind "imitation", on all pairs of the sets; the loop's lines."""
    reference = set_logps(model, data).float()
    size = len(data["ids"]) // sets

    def batch_at(step: int) -> dict[str, Tensor]:
        order = stream("sets", seed, step // size).permutation(len(data["ids"]))
        now = torch.from_numpy(order[step % size * sets : (step % size + 1) * sets])
        labels = "soft" if kind == "imitation" else kind
        wins = preferred(data["reward"][now], labels, stream("labels", seed, step))
        return {
            "ids": data["ids"][now],
            "mask": data["mask"][now],
            "ref_logps": reference[now],
            "preferred": wins.float(),
        }

    step = set_step(None if kind == "imitation" else beta)
    return train(model, batch_at, step, loop(size * epochs, rate), compile=False, progress=False)


# ---------------------------------------------------------------- training on a file of pairs


def drawn_pairs(count: int, seed: int) -> list[dict[str, str]]:
    """A file of pairs: prompts in turn, two different answers of a set, one drawn label."""
    words, rng = lists(TRAINED), stream("pairs", seed)
    pairs: list[dict[str, str]] = []
    while len(pairs) < count:
        for which in rng.permutation(len(words)):
            texts, reward = answers_of(words[which]), rewards_of(words[which])
            i, j = rng.choice(8, 2, replace=False)
            if rng.random() >= 1 / (1 + math.exp(reward[j] - reward[i])):
                i, j = j, i
            prompt = choice_prompt(words[which])
            pairs.append({"prompt": prompt, "chosen": texts[i], "rejected": texts[j]})
    return pairs[:count]


def pair_batches(
    model: Llama, ids: Tensor, mask: Tensor, batch: int, wins: Tensor | None = None
) -> Callable[[int], dict[str, Tensor]]:
    """Batches of `dpo_step` in the order of the rows, (N, 2, T); the model is their reference.

    `wins`, (N,), are soft labels.
    """
    logps = set_logps(model, {"ids": ids, "mask": mask}, batch).float()

    def batch_at(step: int) -> dict[str, Tensor]:
        now = torch.arange(step * batch, (step + 1) * batch) % len(ids)
        both = {
            "chosen_ids": ids[now, 0],
            "rejected_ids": ids[now, 1],
            "chosen_mask": mask[now, 0],
            "rejected_mask": mask[now, 1],
            "ref_chosen_logps": logps[now, 0],
            "ref_rejected_logps": logps[now, 1],
        }
        return both if wins is None else both | {"preference_prob": wins[now].float()}

    return batch_at


def train_by_trl(folder: str, pairs: list[dict], rate: float, batch: int) -> tuple[list, dict]:
    """TRL's DPOTrainer on the pairs, each once, in their order, with our optimiser and schedule.

    Returns:
        the loss of each step, and the trained weights by the names of `Llama.state_dict`.
    """
    import tempfile

    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    steps = len(pairs) // batch
    adamw = torch.optim.AdamW(
        model.parameters(), lr=rate, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        adamw, lambda step: learning_rate_factor(step, steps, WARMUP)
    )
    with tempfile.TemporaryDirectory() as place:
        trainer = DPOTrainer(
            model=model,
            args=DPOConfig(
                output_dir=place,
                beta=BETA,
                precompute_ref_log_probs=True,
                per_device_train_batch_size=batch,
                max_steps=steps,
                max_grad_norm=1e9,
                train_sampling_strategy="sequential",
                bf16=False,
                gradient_checkpointing=False,
                logging_steps=1,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                use_cpu=True,
            ),
            train_dataset=Dataset.from_list(pairs),
            processing_class=AutoTokenizer.from_pretrained(folder),
            optimizers=(adamw, schedule),
        )
        trainer.train()
        losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    return losses, model.state_dict()


# ---------------------------------------------------------------- the jobs


def start(folder: str) -> tuple[Llama, dict[str, Tensor]]:
    """The model as it comes, and the trained prompts' sets."""
    return load_model(folder, any_vocabulary=True), closed_sets(folder, lists(TRAINED))


def ends(model: Llama, folder: str) -> dict:
    """What is kept of a model: the log-probability of every answer of every set."""
    return {
        "trained": set_logps(model, closed_sets(folder, lists(TRAINED))).tolist(),
        "held_out": set_logps(model, closed_sets(folder, lists(HELD_OUT))).tolist(),
    }


def run(job: dict) -> dict:
    """One arm on closed sets."""
    folder, name = job["folder"], job["name"]
    model, data = start(folder)
    if name == "base":
        return ends(model, folder)
    if name in ("pairs", "trl"):
        pairs = drawn_pairs(job["steps"] * PAIRS_BATCH, seed=0)
        if name == "trl":
            losses, weights = train_by_trl(folder, pairs, job["rate"], PAIRS_BATCH)
            model.load_state_dict(weights)
            return {"losses": losses, **ends(model, folder)}
        texts = [[pair["chosen"], pair["rejected"]] for pair in pairs]
        ids, mask = rows(folder, [pair["prompt"] for pair in pairs], texts)
        batches = pair_batches(model, ids, mask, PAIRS_BATCH)
        config = loop(job["steps"], job["rate"])
        lines = train(model, batches, dpo_step(BETA), config, compile=False, progress=False)
    else:
        setting = {"rate": job["rate"], "epochs": job["epochs"], "sets": SETS, "seed": 0}
        lines = train_sets(model, data, name, job["beta"], **setting)
    return {"losses": [line["loss"] for line in lines], **ends(model, folder)}


def plan(folder: str, quick: bool) -> list[dict]:
    """All jobs; what can best be spared stands at the end."""
    epochs, steps = (1, 2) if quick else (EPOCHS, PAIRS_STEPS)
    arms = [(kind, beta) for kind, betas in KINDS.items() for beta in betas[: 1 if quick else None]]
    whole = {"folder": folder, "rate": RATE}
    return [
        {"name": "base", "folder": folder},
        *({"name": n, "beta": BETA, **whole, "steps": steps} for n in ("trl", "pairs")),
        *({"name": kind, "beta": beta, **whole, "epochs": epochs} for kind, beta in arms),
    ]


def main() -> None:
    """Run, or go on with, the jobs, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", default=FOLDER)
    parser.add_argument("--jobs", type=int, default=None, help="only the first N")
    parser.add_argument("--quick", action="store_true", help="a few steps of each kind, printed")
    options = parser.parse_args()
    jobs = plan(options.folder, options.quick)[: options.jobs]
    if options.quick:
        for job in jobs:
            began = time.time()
            losses = run(job).get("losses")
            print(job["name"], job.get("beta"), losses, f"{time.time() - began:.0f} s", flush=True)
        return
    from recording import Recorder

    recorder = Recorder(__file__, jobs=len(jobs))
    base, *arms = recorder.all(run, jobs)
    recorder.write(
        {
            "model": json.loads((Path(options.folder) / "source.json").read_text(encoding="utf-8")),
            "versions": {name: version(name) for name in ("transformers", "trl", "tokenizers")},
            "settings": {"rate": RATE, "warmup": WARMUP, "epochs": EPOCHS, "sets": SETS}
            | {"pairs_batch": PAIRS_BATCH, "pairs_steps": PAIRS_STEPS, "seed": 0},
            "beta": BETA,
            "words": {"trained": lists(TRAINED), "held_out": lists(HELD_OUT)},
            "base": {"trained": base["trained"], "held_out": base["held_out"]},
            "runs": arms,
        }
    )


if __name__ == "__main__":
    main()
