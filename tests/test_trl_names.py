"""The map of names (chapters/data/names.json): what can be looked up here is there under that name."""

import dataclasses
import inspect
import json
import re

import pytest

pytest.importorskip("trl", reason="parity needs the `test` extra")

import transformers
import trl

import sources
from dpo_core.commands.train_dpo import TrainDpo
from dpo_core.pairs import Pairs
from dpo_core.steps import _preference_sums, dpo_step
from dpo_core.training import LoopConfig

NAMES = json.loads((sources.CHAPTERS / "data" / "names.json").read_text(encoding="utf-8"))
OTHERS = ("LLaMA-Factory", "open-instruct", "Axolotl")


def fields_of(*kinds):
    return {field.name for kind in kinds for field in dataclasses.fields(kind)}


def test_our_names_are_options_columns_or_metrics():
    """An option that is renamed makes the map lie."""
    metrics = inspect.getsource(dpo_step) + inspect.getsource(_preference_sums)
    known = fields_of(TrainDpo, LoopConfig, Pairs)
    ours = [row["dpo_core"] for row in NAMES["rows"] if row["dpo_core"]]
    assert len(set(ours)) == len(ours)
    for name in ours:
        assert name in known or f'"{name}"' in metrics, name


def test_trls_names_are_settings_or_metrics_of_its_version():
    known = fields_of(trl.DPOConfig, trl.ModelConfig, trl.ScriptArguments)
    source = inspect.getsource(trl.DPOTrainer)
    assert NAMES["versions"]["TRL"]["version"] == trl.__version__
    for name in (row["TRL"] for row in NAMES["rows"] if row["TRL"]):
        assert name in known or f'["{name}"]' in source, name


def test_trls_defaults_are_those_of_the_map(tmp_path):
    """The chapter holds the others' against them."""
    config = trl.DPOConfig(output_dir=str(tmp_path), use_cpu=True, activation_checkpointing=False)
    for name, value in NAMES["versions"]["TRL"]["defaults"].items():
        found = getattr(config, name)
        assert (found[0] if isinstance(found, list) else found) == value


def test_names_taken_over_from_transformers_are_its_own():
    """LLaMA-Factory inherits TrainingArguments; Axolotl logs what TRL logs."""
    known = fields_of(transformers.TrainingArguments)
    assert NAMES["versions"]["transformers"]["version"] == transformers.__version__
    inherited = [row["LLaMA-Factory"] for row in NAMES["rows"]]
    inherited = [cell["name"] for cell in inherited if cell and cell["in"] == "transformers"]
    assert len(inherited) > 5 and set(inherited) <= known
    for row in NAMES["rows"]:
        if row["Axolotl"] and row["Axolotl"]["in"] == "trl":
            assert row["Axolotl"]["name"] == row["TRL"]


@pytest.mark.parametrize("project", OTHERS)
def test_each_name_has_a_file_and_a_commit(project):
    """A name without its source cannot be looked up again."""
    version = NAMES["versions"][project]
    assert re.fullmatch(r"[0-9a-f]{40}", version["commit"])
    assert (
        re.fullmatch(r"2026-\d\d-\d\d", version["date"]) and version["repository"].count("/") == 1
    )
    used = {row[project]["in"] for row in NAMES["rows"] if row[project]}
    assert used == set(version["files"])


def test_rows_are_of_one_form():
    for row in NAMES["rows"]:
        assert list(row) == ["dpo_core", "TRL", *OTHERS]
        assert sum(value is not None for value in row.values()) >= 2
