"""The file of pairs of real_theory.py, once more, for chapter 14: writes real_file.json.

    python chapters/data/real_file.py [FOLDER]        (about 13 CPU-minutes in two processes)

FOLDER, default build/real/SmolLM2-135M-Instruct, is what `make real` makes. The recorded arm `pairs` of
real_theory.json saw 384 pairs once, each with one drawn label, in 24 updates of 16, and ended farther from the optimum
than it began. Three arms, each of which differs from it in one thing:

    imitation   the loss: fine-tuning on the chosen answers of the same file
    soft        the labels: of the same pairs the probability that chosen wins, not the one draw
    longer      the number of updates: four passes over the file instead of one, the schedule of the rate with it

What was claimed before these trainings (R as in real_theory.py, J at beta 0.5):

 1. The labels' noise is to blame: soft leaves R below 1, and below that of pairs.
 2. Imitation of the file ends with a lower J than DPO on it.
 3. More passes learn the noise: longer leaves a larger R than pairs.
"""

import argparse
import json
import math
from importlib.metadata import version
from pathlib import Path

import torch
from real_theory import (
    BETA,
    FOLDER,
    PAIRS_BATCH,
    PAIRS_STEPS,
    RATE,
    drawn_pairs,
    ends,
    loop,
    pair_batches,
    rows,
)
from recording import Recorder

from dpo_core import load_model
from dpo_core.steps import dpo_step, sft_step
from dpo_core.training import train

PASSES = {"imitation": 1, "soft": 1, "longer": 4}


def has_e(text: str) -> float:
    return float("e" in text.split("<|")[0].lower())


def run(job: dict) -> dict:
    """One arm on the file."""
    folder, name = job["folder"], job["name"]
    model = load_model(folder, any_vocabulary=True)
    pairs = drawn_pairs(PAIRS_STEPS * PAIRS_BATCH, seed=0)
    texts = [[pair["chosen"], pair["rejected"]] for pair in pairs]
    ids, mask = rows(folder, [pair["prompt"] for pair in pairs], texts)
    config = loop(PAIRS_STEPS * PASSES[name], RATE)
    if name == "imitation":

        def batch_at(step: int) -> dict[str, torch.Tensor]:
            now = slice(step * PAIRS_BATCH, (step + 1) * PAIRS_BATCH)
            return {"input_ids": ids[now, 0], "completion_mask": mask[now, 0]}

        lines = train(model, batch_at, sft_step, config, compile=False, progress=False)
    else:
        gaps = [has_e(pair["chosen"]) - has_e(pair["rejected"]) for pair in pairs]
        wins = torch.tensor([1 / (1 + math.exp(-gap)) for gap in gaps])
        labels = wins if name == "soft" else None
        batches = pair_batches(model, ids, mask, PAIRS_BATCH, labels)
        lines = train(model, batches, dpo_step(BETA), config, compile=False, progress=False)
    return {"losses": [line["loss"] for line in lines], **ends(model, folder)}


def main() -> None:
    """Run, or go on with, the jobs, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", default=FOLDER)
    folder = parser.parse_args().folder
    jobs = [{"name": name, "folder": folder} for name in ("longer", "imitation", "soft")]
    recorder = Recorder(__file__, jobs=len(jobs))
    runs = recorder.all(run, jobs)
    recorder.write(
        {
            "model": json.loads((Path(folder) / "source.json").read_text(encoding="utf-8")),
            "versions": {name: version(name) for name in ("tokenizers",)},
            "settings": {"rate": RATE, "batch": PAIRS_BATCH, "updates": PAIRS_STEPS}
            | {"passes": PASSES, "seed": 0},
            "beta": BETA,
            "runs": runs,
        }
    )


if __name__ == "__main__":
    main()
