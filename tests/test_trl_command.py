"""TRL's own command line on our model and our files: a YAML file of the chapter's table, without a network."""

import json
import math
import os
import subprocess
import sys
from importlib import import_module

import pytest
import yaml

pytest.importorskip("trl", reason="parity needs the `test` extra")

from data.trl_settings import settings_of, trl_arguments
from dpo_core.checkpoint import load_model, load_pretrained, model_folder
from dpo_core.preferences import population_pairs
from dpo_core.task import BookTask
from trl_side import TRAINERS, trained, trainer_of

GEN, STEPS, ROWS = str(model_folder("gen")), 3, 16
JUDGE = "def length(completions, **_):\n    return [float(len(text)) for text in completions]\n"


@pytest.fixture(scope="module")
def pairs():
    return population_pairs(
        load_pretrained("gen"), BookTask(), STEPS * ROWS, labels="sampled", seed=0
    )


def rows_of(kind, pairs):
    """The columns that a trainer reads."""
    if kind == "sft":
        return {"prompt": pairs.prompt, "completion": pairs.chosen}
    names = ("prompt",) if kind == "grpo" else ("prompt", "chosen", "rejected")
    return {name: getattr(pairs, name) for name in names}


@pytest.fixture
def here(tmp_path):
    """A working directory with a file of rewards in it, as GRPO's dotted path needs."""
    (tmp_path / "judge.py").write_text(JUDGE)
    return tmp_path


def configured(kind, pairs, here):
    """Writes `kind`.yaml and its data; returns the name of the file."""
    columns = rows_of(kind, pairs)
    if kind == "dpo":
        pairs.write(here / "dpo.jsonl")  # our own file, with all its columns
    else:
        rows = (dict(zip(columns, values)) for values in zip(*columns.values()))
        (here / f"{kind}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = trl_arguments(kind, f"{kind}.out", max_steps=STEPS)
    settings |= {"model_name_or_path": GEN, "save_strategy": "steps", "save_steps": STEPS}
    settings |= {"datasets": [{"path": "json", "data_files": f"{kind}.jsonl"}]}
    settings |= {"reward_funcs": ["judge.length"]} if kind == "grpo" else {}
    (here / f"{kind}.yaml").write_text(yaml.safe_dump(settings))
    return f"{kind}.yaml"


def run(kind, pairs, here):
    """`trl kind --config kind.yaml` in a process of its own; returns the lines of its trainer_state.json."""
    command = [
        sys.executable,
        "-m",
        "trl.cli.main",
        kind,
        "--config",
        configured(kind, pairs, here),
    ]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(here / "home")}
    done = subprocess.run(
        command, cwd=here, env=environment, capture_output=True, text=True, timeout=1800
    )
    assert done.returncode == 0, done.stderr[-2000:]
    state = json.loads(
        (here / f"{kind}.out" / f"checkpoint-{STEPS}" / "trainer_state.json").read_text()
    )
    assert state["global_step"] == STEPS
    return [line for line in state["log_history"] if "loss" in line]


def as_from_python(kind, pairs, here):
    """The same run by the trainer's class."""
    judge = {"reward_funcs": length} if kind == "grpo" else {}
    return trained(
        trainer_of(kind, GEN, rows_of(kind, pairs), here / "python", max_steps=STEPS, **judge)
    )


def length(completions, **_):
    """What judge.py says."""
    return [float(len(text)) for text in completions]


@pytest.mark.parametrize(
    "kind",
    ["dpo", "grpo", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("sft", "reward"))],
)
def test_the_command_does_what_the_class_does(kind, pairs, here):
    """Same seed, same table: every number of every step, but the time that it took."""
    found, expected = run(kind, pairs, here), as_from_python(kind, pairs, here)
    assert len(found) == len(expected) == STEPS
    for line, other in zip(found, expected):
        assert line.keys() == other.keys()
        for name in line.keys() - {"step_time"}:
            assert line[name] == pytest.approx(other[name], rel=1e-5, abs=1e-6), name
    assert not math.isclose(found[0]["loss"], found[-1]["loss"], rel_tol=1e-6)
    if kind != "reward":
        assert load_model(here / f"{kind}.out").config == load_pretrained("gen").config


@pytest.mark.parametrize("kind", TRAINERS)
def test_the_command_reads_every_setting_of_the_table(kind, pairs, here, monkeypatch):
    """An unknown name in the YAML file would stop it; a number written as 5e-4 is a text to YAML, and is read."""
    monkeypatch.chdir(here)
    configured(kind, pairs, here)
    parser = import_module(f"trl.scripts.{kind}").make_parser(prog=f"trl {kind}")
    parsed = parser.parse_args_and_config(["--config", f"{kind}.yaml"], fail_with_unknown_args=True)
    training = parsed[1]
    for name, (value, *_) in settings_of(kind).items():
        assert getattr(training, name) == value
    with pytest.raises((ValueError, SystemExit)):
        parser.parse_args_and_config(
            ["--config", f"{kind}.yaml", "--betta", "1"], fail_with_unknown_args=True
        )
