"""The pairs that the lab's training learns from: `python -m book.lab_pairs` writes book/lab/pairs.json.

Two answers of the shipped gen.model to each prompt, as `train-dpo` draws them (the second one hotter, so that rare
mistakes are seen), but not yet judged: reward and labels are the reader's choice, in the page.
"""

import hashlib
import json
from pathlib import Path

from dpo_core import generate, load_pretrained
from dpo_core.commands.train_dpo import TrainDpo
from dpo_core.task import make_task, stream

PAIRS, SEED = 6400, 0  # 200 steps of 32
LONGEST = 13  # characters of a prompt and its answer; the authors write no more
PLACE = Path(__file__).parent / "lab" / "pairs.json"
WEIGHTS = Path(__file__).parents[1] / "dpo_core" / "pretrained" / "gen.model" / "model.safetensors"


def main() -> None:
    """Draw the answers and write the file."""
    model, temperatures = load_pretrained("gen"), TrainDpo().pair_temperatures
    rng = stream("lab", SEED)
    prompts, _ = make_task("book").demonstrations(PAIRS + PAIRS // 8, rng)
    first, *hotter = rng.integers(2**31, size=1 + len(temperatures)).tolist()
    answers = generate(model, prompts, seed=first, progress=True)
    others = [
        generate(model, prompts[turn :: len(temperatures)], temperature=temperature, seed=seed)
        for turn, (temperature, seed) in enumerate(zip(temperatures, hotter, strict=True))
    ]
    rows = [
        [prompt[1:-1], one, others[i % len(others)][i // len(others)]]
        for i, (prompt, one) in enumerate(zip(prompts, answers, strict=True))
    ]
    short = [row for row in rows if len(row[0]) + 2 + max(map(len, row[1:])) <= LONGEST]
    print(f"{len(rows) - len(short)} of {len(rows)} pairs have a text over {LONGEST} characters")
    report = {
        "command": "python -m book.lab_pairs",
        "seed": SEED,
        "temperatures": [1.0, *temperatures],
        "weights_sha256": hashlib.sha256(WEIGHTS.read_bytes()).hexdigest(),
        "longest": LONGEST,
        "pairs": short[:PAIRS],
    }
    PLACE.write_text(json.dumps(report, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
