"""The seed project's setting, run once for chapter 9: writes classic.json beside this file.

    OMP_NUM_THREADS=1 python chapters/data/classic.py        (about 3 CPU-minutes)

A base model of two decimals and four operators, trained on all tokens (seed 0, a short run). From it, DPO
on the seed's pairs (a right expression of three numbers against an empty answer) at the seed's learning
rate: with beta 1.0 and with beta 0.1, and with beta 1.0 under the seed's wrong loss mask. `commands` in
the result are the commands as typed; every share is measured on the same 1,000 prompts (evaluation seed 9).
"""

import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path

import torch

from dpo_core import evaluation, load_model, score, sequence_logps
from dpo_core.commands import parser
from dpo_core.sampling import TOKENIZER
from dpo_core.steps import dpo_step
from dpo_core.task import ClassicTask, stream
from dpo_core.training import LoopConfig, train

HERE = Path(__file__).resolve().parent
GEN = (
    "train-gen --task classic --loss-on all --optimizer muon --learning-rate 0.01 --batch-size 64 "
    "--steps 1200 --seed 0 --output gen.model --save-every 0"
)
DPO = (
    "train-dpo --task classic --model gen.model --beta {beta} --optimizer adamw --learning-rate 1e-4 "
    "--batch-size 64 --steps {steps} --pairs {pairs} --seed 0 --output dpo.model --save-every 0"
)
BETAS, STEPS = (1.0, 0.1), (50, 300)


def measure(model):
    """What the model writes at temperature 1, and its mean log-probabilities of 256 of the seed's pairs."""
    task = ClassicTask()
    shares = evaluation.evaluate(model, task, n=1000, seed=9)
    prompts, chosen = task.demonstrations(256, stream("classic", 9), numbers=3)
    return {
        **{name: asdict(shares[name]) for name in ("well_formed", "style", "exact")},
        "logps/chosen": float(score(model, prompts, chosen).mean()),
        "logps/rejected": float(score(model, prompts, ["E"] * len(prompts)).mean()),
    }


def run(command):
    """Run one command; a failure ends the script."""
    if parser.main(command.split()) != 0:
        raise SystemExit(f"failed: dpo-core {command}")
    return f"dpo-core {command}"


def wrong_mask_batches(reference, task, batch_size=64):
    """The pairs' batches with the tokens that the seed's mask counts: too much of the prompt, in short rows most.

    The seed's rows are left-padded to one width and masked from the left edge over the prompt's length, so the
    last (width - row length) tokens of the prompt stay. Right-padded rows with those tokens marked have the same
    log-probabilities; the very first token, which nothing real predicts, is left out here.
    """

    def rows(prompts, answers, width):
        ids, _ = TOKENIZER.collate(prompts, answers)
        ids = torch.nn.functional.pad(ids, (0, width - ids.shape[1]), value=TOKENIZER.pad_id)
        position = torch.arange(width)
        prompt = torch.tensor([len(p) for p in prompts])[:, None]
        length = torch.tensor([len(p) + len(a) for p, a in zip(prompts, answers)])[:, None]
        return ids, (position >= (prompt - (width - length)).clamp(min=1)) & (position < length)

    def batch_at(step):
        prompts, chosen = task.demonstrations(batch_size, stream("pairs", 0, step), numbers=3)
        width = max(len(p) + len(c) for p, c in zip(prompts, chosen))
        batch = {}
        for kind, answers in (("chosen", chosen), ("rejected", ["E"] * batch_size)):
            ids, mask = rows(prompts, answers, width)
            with torch.no_grad():
                batch[f"ref_{kind}_logps"] = sequence_logps(reference(ids), ids, mask)
            batch |= {f"{kind}_ids": ids, f"{kind}_mask": mask}
        return batch

    return batch_at


def main():
    """Train, measure, write."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        commands = [run(GEN)]
        gen = load_model("gen.model")
        runs = [{"beta": None, "mask": None, "steps": 0, **measure(gen)}]
        for beta in BETAS:
            for steps in STEPS:
                commands.append(run(DPO.format(beta=beta, steps=steps, pairs=64 * steps)))
                runs.append(
                    {
                        "beta": beta,
                        "mask": "right",
                        "steps": steps,
                        **measure(load_model("dpo.model")),
                    }
                )
        for steps in STEPS:
            model = load_model("gen.model")
            train(
                model,
                wrong_mask_batches(gen, ClassicTask()),
                dpo_step(1.0),
                LoopConfig(steps=steps, learning_rate=1e-4),
            )
            runs.append({"beta": 1.0, "mask": "wrong", "steps": steps, **measure(model)})
        os.chdir(HERE)
    report = {"commands": commands, "torch": torch.__version__, "runs": runs}
    (HERE / "classic.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
