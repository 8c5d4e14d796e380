"""Theory against a real language model, on its own free answers, for chapter 14: writes real_open.json.

    python chapters/data/real_open.py [FOLDER] [--quick]        (about 30 CPU-minutes in two processes)

FOLDER, default build/real/SmolLM2-135M-Instruct, is what `make real` makes; `--quick` goes through every kind of job in
a few steps, prints, and writes nothing.

The model is asked to answer in one short sentence, and may write 24 tokens. The reward is 1 if it came to its end by
then. Its own answers at temperature 1 make the pairs, neighbours of one question, with soft labels: half of DRAWS
pairs a question. open is DPO on them; open_imitation is fine-tuned on the chosen answers of the same pairs, in the same
number of updates. The share of complete answers is measured on DRAWS answers of each question before, and on as
many after.

What was claimed before the first of these trainings: the mean share after DPO lies within 0.05 of the mean over the
questions of p e^(1/beta) / (p e^(1/beta) + 1 - p), with p the share before. Against: a larger difference. On a GPU the
claim had failed before this run was made (real_tuning.json, learning rate 1e-5): shares went part of the way, and with
more passes the loss itself rose. Of three rates the one was taken here whose loss was the lowest after one pass (TRIED);
nothing was chosen by the shares.
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from real_theory import END_ID, FOLDER, chat, loop, pair_batches, rows_of_ids, set_logps, tokenizer
from torch import Tensor

from dpo_core import Llama, load_model
from dpo_core.model import KVCache
from dpo_core.sampling import draw, next_token_probs
from dpo_core.steps import dpo_step, sft_step
from dpo_core.task import stream
from dpo_core.training import train

TRAINED = """Why is the sky blue?|What is a friend?|What do cats like?|What is the sea?|Why do we sleep?
What is a river?|Why do birds sing?|What is music?|What is a dream?|Why do we laugh?|What is a garden?
What do dogs like?|What is snow?|Why do leaves fall?|What is a map?|What is love?"""
HELD_OUT = """What is a mountain?|Why do we cry?|What is a book?|What do children like?|What is rain?
What is a game?|Why do we read?|What is the moon?"""
ARMS, BETA = ("open", "open_imitation"), 0.5
DRAWS, TOKENS, BATCH, RATE, STEPS = 64, 24, 16, 3e-6, 64
TRIED = {3e-6: 0.679, 1e-5: 0.688, 3e-5: 0.745}  # rate: mean loss of the last five of 32 updates
TOGETHER = 4  # questions that are answered at once


def questions(text: str) -> list[str]:
    return [part for line in text.splitlines() for part in line.split("|")]


def open_prompt(question: str) -> str:
    return chat("Answer in one short sentence.", question)


@torch.no_grad()
def own_answers(
    model: Llama, folder: str, asked: list[str], draws: int, seed: int
) -> list[list[list[int]]]:
    """`draws` answers to each question, as ids, at temperature 1; an end token where one came."""
    device, found = model.lm_head.weight.device, []
    for first in range(0, len(asked), TOGETHER):
        some = asked[first : first + TOGETHER]
        prompts = [tokenizer(folder).encode(open_prompt(question)).ids for question in some]
        width = max(map(len, prompts))
        ids = torch.tensor([[END_ID] * (width - len(p)) + p for p in prompts], device=device)
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
        cache, row = KVCache(), torch.arange(len(some), device=device).repeat_interleave(draws)
        logits, mask = model(ids, mask, cache)[row, -1], mask[row]
        cache.select(row)
        uniform = stream("draws", seed, first).random((len(row), TOKENS))
        said = torch.full((len(row), TOKENS), END_ID, device=device)
        left = torch.arange(len(row), device=device)  # the rows that still write
        for place, u in enumerate(torch.from_numpy(uniform).to(device).T):
            token = draw(next_token_probs(logits), u[left])
            said[left, place] = token
            stay = (token != END_ID).nonzero().squeeze(-1)
            if place + 1 == TOKENS or not len(stay):
                break
            left, token, mask = left[stay], token[stay], mask[stay]
            cache.select(stay)
            mask = torch.cat((mask, mask.new_ones(len(left), 1)), 1)
            logits = model(token[:, None], mask, cache)[:, -1]
        answers = [up_to_end(one) for one in said.tolist()]
        found += [answers[k : k + draws] for k in range(0, len(answers), draws)]
    return found


def up_to_end(ids: list[int]) -> list[int]:
    return ids[: ids.index(END_ID) + 1] if END_ID in ids else ids


def complete(answer: list[int]) -> bool:
    """What the open question's reward is 1 for: the answer came to its end."""
    return answer[-1] == END_ID


def open_pairs(
    folder: str, asked: list[str], answers: list[list[list[int]]], seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Ids and mask, (N, 2, T), of neighbouring answers as pairs, shuffled, and their soft labels."""
    pairs = [
        (tokenizer(folder).encode(open_prompt(question)).ids, [several[k], several[k + 1]])
        for question, several in zip(asked, answers)
        for k in range(0, len(several) - 1, 2)
    ]
    pairs = [pairs[i] for i in stream("open", seed).permutation(len(pairs))]
    ids, mask = rows_of_ids([p for p, _ in pairs], [a for _, a in pairs])
    reward = torch.tensor([[float(complete(a)) for a in two] for _, two in pairs])
    return ids, mask, torch.sigmoid(reward[:, 0] - reward[:, 1])


def imitation_rows(ids: Tensor, mask: Tensor, wins: Tensor, batch: int) -> Callable:
    """Batches of `sft_step`: of each pair an answer that is drawn as the chosen one."""
    drawn = torch.from_numpy(stream("imitated", 0).random(len(wins))) >= wins
    each = torch.arange(len(ids))

    def batch_at(step: int) -> dict[str, Tensor]:
        now = torch.arange(step * batch, (step + 1) * batch) % len(ids)
        which = (each[now], drawn.long()[now])
        return {"input_ids": ids[which], "completion_mask": mask[which]}

    return batch_at


def counts(answers: list[list[list[int]]]) -> list[int]:
    return [sum(map(complete, several)) for several in answers]


def log_ratios(
    model: Llama, base: Llama, folder: str, asked: list[str], answers: list[list[list[int]]]
) -> list[float]:
    """Mean log π - log π_ref over answers of the model's own, a number for each question."""
    prompts = [tokenizer(folder).encode(open_prompt(question)).ids for question in asked]
    ids, mask = rows_of_ids(prompts, answers)
    gap = set_logps(model, {"ids": ids, "mask": mask}, 1) - set_logps(
        base, {"ids": ids, "mask": mask}, 1
    )
    return gap.mean(1).tolist()


# ---------------------------------------------------------------- the jobs


def run_open_base(job: dict) -> dict:
    """The reference's own answers to some questions, as ids."""
    model = load_model(job["folder"], any_vocabulary=True)
    asked = questions(globals()[job["questions"]])
    return {"answers": own_answers(model, job["folder"], asked, job["draws"], job["seed"])}


def run_open(job: dict, answers: list) -> dict:
    """One arm on the open questions, from pairs of the reference's answers."""
    folder = job["folder"]
    base = load_model(folder, any_vocabulary=True)
    model, asked = load_model(folder, any_vocabulary=True), questions(TRAINED)
    ids, mask, wins = open_pairs(folder, asked, answers, seed=0)
    config = loop(job["steps"], job["rate"])
    if job["name"] == "open":
        batches, step = pair_batches(model, ids, mask, BATCH, wins), dpo_step(job["beta"])
    else:
        batches, step = imitation_rows(ids, mask, wins, BATCH), sft_step
    lines = train(model, batches, step, config, compile=False, progress=False)
    other = questions(HELD_OUT)
    said = own_answers(model, folder, asked, job["draws"], seed=20)
    return {
        "losses": [line["loss"] for line in lines],
        "trained": counts(said),
        "held_out": counts(own_answers(model, folder, other, job["draws"], seed=21)),
        "log_ratios": log_ratios(model, base, folder, asked, [several[:8] for several in said]),
        "said": [tokenizer(folder).decode(several[0]) for several in said],
    }


def main() -> None:
    """Run, or go on with, the jobs, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", default=FOLDER)
    parser.add_argument("--quick", action="store_true", help="a few steps of each kind, printed")
    options = parser.parse_args()
    folder, quick = options.folder, options.quick
    given = {"folder": folder, "draws": 2 if quick else DRAWS}
    asked = [{"questions": "TRAINED", "seed": 10}, {"questions": "HELD_OUT", "seed": 11}]
    bases = [{"name": "open_base", **which, **given} for which in asked]
    training = {"rate": RATE, "steps": 1 if quick else STEPS}
    arms = [{"name": name, "beta": BETA, **training, **given} for name in ARMS]
    if quick:
        answers = [run_open_base(job)["answers"] for job in bases]
        for job in arms:
            began = time.time()
            found = run_open(job, answers[0])
            print(job["name"], found["losses"], f"{time.time() - began:.0f} s", flush=True)
        return
    from recording import Recorder

    recorder = Recorder(__file__, jobs=len(bases) + len(arms))
    trained, held_out = (done["answers"] for done in recorder.all(run_open_base, bases))
    decode = tokenizer(folder).decode
    recorder.write(
        {
            "model": json.loads((Path(folder) / "source.json").read_text(encoding="utf-8")),
            "settings": {"beta": BETA, "rate": RATE, "batch": BATCH, "steps": STEPS}
            | {
                "draws": DRAWS,
                "tokens": TOKENS,
                "tried": {str(rate): loss for rate, loss in TRIED.items()},
            },
            "questions": {"trained": questions(TRAINED), "held_out": questions(HELD_OUT)},
            "base": {
                "trained": counts(trained),
                "held_out": counts(held_out),
                "said": [decode(several[0]) for several in trained],
            },
            "runs": recorder.all(partial(run_open, answers=trained), arms),
        }
    )


if __name__ == "__main__":
    main()
