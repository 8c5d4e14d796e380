"""The lab: the parts of the site that are alive. Two models to ask, one to train, a loss to take into one's hands.

Chapters and pages place a part with a comment, `<!-- lab: ask -->`; Jupyter and a code host show nothing there. What a
part says stands in lab/PART.html in both languages; lab/page is what the page runs, lab/engine what its worker runs.
All of it, the shipped models and what is known of the population go to the site's `lab` folder, once for both editions.
"""

import json
import re
import shutil
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from book.editions import Edition
from dpo_core.task import BookTask

LAB = Path(__file__).parent / "lab"
PRETRAINED = LAB.parents[1] / "dpo_core" / "pretrained"
PARTS = ("ask", "train", "loss")
MARK = re.compile(rf"<!-- lab: ({'|'.join(PARTS)}) -->")
MODEL_FILES = (
    *("config.json", "model.safetensors", "generation_config.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
)


def with_lab(text: str, edition: Edition, now: bool = False) -> str:
    """The Markdown `text` with each part of the lab where its comment stands.

    `now` lets a part begin as soon as it is seen; otherwise it loads its models when it is used.
    """
    return MARK.sub(lambda match: part(match[1], edition, now), text)


def part(name: str, edition: Edition, now: bool = False) -> str:
    """One part of the lab as HTML without blank lines, so that Markdown leaves it alone."""

    def say(en: str, zh: str) -> str:
        return {"en": en, "zh": zh}[edition.lang]

    html = _templates().get_template(f"{name}.html").render(say=say, now=now)
    return re.sub(r"\n\s*", "\n", html).strip()


@cache
def _templates() -> Environment:
    return Environment(
        loader=FileSystemLoader(LAB), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )


def write_lab(folder: Path) -> None:
    """Write what the parts load: scripts, models, pairs, and what is known of the population."""
    for name in ("page", "engine", "vendor"):
        shutil.copytree(LAB / name, folder / name)
    shutil.copy(LAB / "pairs.json", folder)
    for model in ("gen.model", "dpo.model"):
        (folder / "models" / model).mkdir(parents=True)
        for name in MODEL_FILES:
            shutil.copy(PRETRAINED / model / name, folder / "models" / model)
    (folder / "world.json").write_text(json.dumps(world()), encoding="utf-8")


def world() -> dict:
    """The population's prompts with its rates by class, and what dpo.model was trained for."""
    task = BookTask()
    recipe = json.loads((PRETRAINED / "dpo.model" / "recipe.json").read_text(encoding="utf-8"))
    rows = zip(task.prompt_distribution.items(), task.class_rates, strict=True)
    return {
        "dpo": {name: recipe[name] for name in ("reward", "beta")},
        "prompts": [
            {"target": prompt[1:-1], "probability": p, "rates": rates.flatten().tolist()}
            for (prompt, p), rates in rows
        ],
    }
