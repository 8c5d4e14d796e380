"""The two models that come with the package: complete, small, and as good as the book says they are."""

import json
from pathlib import Path

import pytest

import dpo_core
from dpo_core.checkpoint import fingerprint, load_pretrained, read_recipe
from dpo_core.commands.parser import COMMANDS
from dpo_core.evaluation import evaluate, excess_nats
from dpo_core.sampling import generate
from dpo_core.task import judge, make_task
from dpo_core.theory import predicted_optimum

PRETRAINED = Path(dpo_core.__file__).parent / "pretrained"
TASK = make_task("book")
SEED = 20_000  # prompts that no recipe, chapter or report uses
N = 2000


def folder(name: str) -> Path:
    """The shipped folder, or a visible skip where it is not there yet."""
    path = PRETRAINED / f"{name}.model"
    if not path.is_dir():
        pytest.skip(f"{name}.model is not shipped yet: make models")
    return path


@pytest.fixture(scope="module")
def gen():
    folder("gen")
    return load_pretrained("gen")


@pytest.fixture(scope="module")
def gen_report(gen):
    return evaluate(gen, TASK, n=N, seed=SEED)


@pytest.fixture(scope="module")
def dpo_report(gen):
    folder("dpo")
    return evaluate(load_pretrained("dpo"), TASK, n=N, seed=SEED, reference=gen)


@pytest.mark.parametrize("name", ["gen", "dpo"])
def test_the_folder_is_complete_and_small(name):
    """A file left out of the package, or optimiser state shipped by mistake."""
    files = {path.name: path for path in folder(name).iterdir()}
    assert files.keys() == {
        "config.json",
        "generation_config.json",
        "metrics.jsonl",
        "model.safetensors",
        "recipe.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert sum(path.stat().st_size for path in files.values()) < 2_000_000
    assert sum(parameter.numel() for parameter in load_pretrained(name).parameters()) == 118_080


@pytest.mark.parametrize("name", ["gen", "dpo"])
def test_the_recipe_is_the_commands_default(name):
    """`make models` passes no options: a model trained with others cannot be made again."""
    recipe, options = read_recipe(folder(name)), COMMANDS[f"train-{name}"][0]()
    assert recipe, "recipe.json is empty: nobody knows what made these weights"
    assert recipe["seed"] == 0
    free = {
        "output",
        "device",
        "resume",
        "save_every",
        "model",
        "reference",
        "log_every",
        "threads",
        "compile",
    }
    # options that came after these models, at the values that leave a training as it was
    later = {"accumulate": 1, "precision": "float32", "checkpointing": False, "lora_rank": 0}
    recipe = {**later, **recipe}
    for option, value in vars(options).items():
        # neither given: the loss's own default, no file of pairs
        if option not in free and value not in (None, ""):
            assert recipe[option] == json.loads(json.dumps(value)), option


def test_dpo_was_trained_from_the_shipped_gen(gen):
    """A KL to another base model than the one beside it."""
    assert read_recipe(folder("dpo"))["reference"]["fingerprint"] == fingerprint(gen)


def reaches(estimate, target):
    """The interval does not lie below the target: a lucky or unlucky draw does not decide."""
    return estimate.high >= target


def within(estimate, target, points=0.03):
    return estimate.low - points <= target <= estimate.high + points


def test_gen_writes_as_its_authors_do(gen_report):
    """Calibration: shares of style and exactness within 3 points of the population's, for each length too."""
    assert gen_report["well_formed"].value > 0.99
    assert within(gen_report["style"], TASK.style)
    for name in ("exact", "two_number_exact", "three_number_exact"):
        assert within(gen_report[name], 1 - TASK.slip), name


def test_gen_stands_at_most_six_hundredths_above_the_entropy_floor(gen):
    """The loss has a floor that is known: below it means a leak, far above it a model half trained."""
    excess = excess_nats(gen, TASK, n=4000, seed=SEED)
    assert excess.low <= 0.06
    assert excess.high > 0


def test_gen_is_right_when_it_does_not_draw(gen):
    """Three careful authors outvote one who slips: the mode is a right answer, on all prompts but the rarest."""
    share = TASK.prompt_distribution
    answers = generate(gen, list(share), temperature=0)
    assert (
        sum(share[prompt] for prompt, text in zip(share, answers) if judge(prompt, text).exact)
        > 0.99
    )


def test_dpo_stands_where_the_closed_form_says(dpo_report):
    """Reward three numbers plus exact: style within 3 points of the optimum, and the shares that were promised."""
    recipe = read_recipe(folder("dpo"))
    optimum = predicted_optimum(TASK, recipe["reward"], recipe["beta"])
    assert recipe["reward"] == "style+exact"
    assert within(dpo_report["style"], optimum["style"])
    for name, target in (("style", 0.93), ("exact", 0.90), ("both", 0.84), ("well_formed", 0.995)):
        assert reaches(dpo_report[name], target), f"{name} is {dpo_report[name]}"


def test_dpo_has_left_its_reference_but_not_run_away(dpo_report):
    """KL of the optimum's size: 0 means that nothing was trained, 3 is over-optimisation."""
    recipe = read_recipe(folder("dpo"))
    optimum = predicted_optimum(TASK, recipe["reward"], recipe["beta"])
    assert 0.7 * optimum["kl"] < dpo_report["kl"].value < 2 * optimum["kl"]
