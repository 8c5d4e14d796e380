"""Folders that are complete or absent, and damage that is named."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from dpo_core import checkpoint
from dpo_core.checkpoint import (
    CheckpointError,
    fingerprint,
    load_model,
    load_pretrained,
    read_model,
    save_model,
)
from toys import random_ids, small_model

MODEL = small_model()
ROOT = Path(__file__).resolve().parent.parent
FILES = {
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "recipe.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
}


@pytest.fixture
def folder(tmp_path):
    """A saved model."""
    save_model(MODEL, tmp_path / "a.model", {"seed": 0})
    return tmp_path / "a.model"


def names(path):
    return {entry.name for entry in path.iterdir()}


def test_a_saved_model_comes_back_in_every_bit(folder):
    """Weights rounded on the way, or RoPE tables read from the file in place of the configuration."""
    model = load_model(folder)
    assert model.config == MODEL.config and not model.training
    assert all(
        torch.equal(a, b)
        for a, b in zip(model.state_dict().values(), MODEL.state_dict().values(), strict=True)
    )
    with torch.no_grad():
        assert torch.equal(model(random_ids((2, 9))), MODEL(random_ids((2, 9))))
    assert fingerprint(model) == fingerprint(MODEL) != fingerprint(small_model(seed=1))


def test_a_folder_has_all_files_and_nothing_lies_beside_it(folder, tmp_path):
    """A temporary folder forgotten beside every checkpoint."""
    assert names(folder) == FILES
    assert names(tmp_path) == {"a.model"}
    assert json.loads((folder / "recipe.json").read_text()) == {"seed": 0}


def test_saving_again_replaces_model_and_recipe(folder, tmp_path):
    """A recipe or metrics that belong to other weights."""
    (folder / "metrics.jsonl").write_text("{}")
    save_model(small_model(seed=1), folder, {"seed": 1})
    assert names(folder) == FILES and names(tmp_path) == {"a.model"}
    model, recipe = read_model(folder)
    assert fingerprint(model) == fingerprint(small_model(seed=1)) and recipe == {"seed": 1}
    assert json.loads((folder / "recipe.json").read_text()) == {"seed": 1}


def test_the_same_model_is_the_same_bytes(tmp_path):
    """Files that differ although nothing does cannot be compared, nor kept under version control."""
    script = (
        "import sys; sys.path[:0] = ['tests']; from toys import small_model; "
        "from dpo_core import save_model; save_model(small_model(), sys.argv[1], {'b': 1, 'a': 2})"
    )
    for name in ("one", "two"):
        subprocess.run([sys.executable, "-c", script, tmp_path / name], check=True, cwd=ROOT)
    for name in FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_nothing_is_pickled(folder):
    """A pickle runs code when it is opened; safetensors starts with the length of a JSON header."""
    for path in folder.iterdir():
        content = path.read_bytes()
        with pytest.raises(
            (pickle.UnpicklingError, ValueError, IndexError, KeyError, EOFError, AttributeError)
        ):
            pickle.loads(content)  # our own file, to see that it is none
        if path.suffix == ".json":
            json.loads(content)
    header = (folder / "model.safetensors").read_bytes()[8:9]
    assert header == b"{"


def edit_config(**changes):
    def damage(folder):
        config = json.loads((folder / "config.json").read_text())
        config.update(changes)
        (folder / "config.json").write_text(json.dumps(config))

    return damage


def edit_tokenizer(change):
    def damage(folder):
        stored = json.loads((folder / "tokenizer.json").read_text())
        change(stored)
        (folder / "tokenizer.json").write_text(json.dumps(stored))

    return damage


def edit_text(name, old, new):
    def damage(folder):
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    return damage


def edit_weights(change):
    def damage(folder):
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors")

    return damage


def cut(name, keep):
    def damage(folder):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * keep)])

    return damage


HEAD = "lm_head.weight"
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
DAMAGE = {
    "no config": (lambda f: (f / "config.json").unlink(), "has no config.json"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "has no model.safetensors"),
    "empty config": (cut("config.json", 0), r"config\.json is not"),
    "truncated config": (cut("config.json", 0.5), r"config\.json is not"),
    "binary config": (
        lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"),
        r"config\.json is not",
    ),
    "config is a list": (lambda f: (f / "config.json").write_text("[]"), "holds no JSON object"),
    "empty weights": (cut("model.safetensors", 0), r"model\.safetensors is damaged"),
    "truncated weights": (cut("model.safetensors", 0.7), r"model\.safetensors is damaged"),
    "truncated header": (cut("model.safetensors", 0.01), r"model\.safetensors is damaged"),
    "tensor missing": (edit_weights(lambda w: w.pop(HEAD)), "lm_head.weight is missing"),
    "tensor too many": (edit_weights(lambda w: w.update(extra=torch.ones(1))), "has extra"),
    "wrong shape": (
        edit_weights(lambda w: w.update({HEAD: torch.ones(22, 8)})),
        r"lm_head.weight is \(22, 8\)",
    ),
    "another vocabulary": (
        edit_config(vocab_size=23),
        "vocab_size is 23; accepted is 22",
    ),
    "more layers": (edit_config(num_hidden_layers=3), "layers.2"),
    "fewer layers": (edit_config(num_hidden_layers=1), "layers.1"),
    "another model": (edit_config(model_type="gpt2"), "model_type is 'gpt2'; accepted is 'llama'"),
    "grouped queries": (edit_config(num_key_value_heads=1), r"k_proj.weight is \(16, 16\)"),
    "no divisor": (edit_config(num_key_value_heads=3), "accepted are divisors of num_attention"),
    "another width of a head": (edit_config(head_dim=4), r"q_proj.weight is \(16, 16\)"),
    "a head of odd width": (edit_config(head_dim=5), "head_dim is 5; accepted are even numbers"),
    "biases": (edit_config(attention_bias=True), "attention_bias is True"),
    "tied": (edit_config(tie_word_embeddings=True), "lm_head.weight is not model.embed"),
    "tied to null": (edit_config(tie_word_embeddings=None), "tie_word_embeddings is None"),
    "another activation": (edit_config(hidden_act="gelu"), "hidden_act is 'gelu'"),
    "odd heads": (
        edit_config(num_attention_heads=3, num_key_value_heads=3),
        "num_attention_heads 3",
    ),
    "negative size": (edit_config(hidden_size=-16), "hidden_size is -16"),
    "fractional size": (edit_config(hidden_size=16.5), "hidden_size is 16.5"),
    "float size": (edit_config(num_hidden_layers=2.0), "num_hidden_layers is 2.0"),
    "size is a word": (edit_config(hidden_size="wide"), r"config\.json"),
    "size is null": (edit_config(hidden_size=None), r"config\.json"),
    "stretched positions": (
        edit_config(rope_scaling={"type": "linear", "factor": 2.0}),
        "rope_scaling",
    ),
    "another rope": (
        edit_config(rope_parameters={"rope_theta": 1e4, "rope_type": "yarn", "factor": 2.0}),
        "rope_parameters is .*yarn.*; accepted are rope_type 'default' with a rope_theta, and 'llama3'",
    ),
    "llama3 without a number": (
        edit_config(rope_parameters={"rope_theta": 1e4, "rope_type": "llama3"}),
        "has no factor",
    ),
    "llama3 the wrong way round": (
        edit_config(rope_scaling={**LLAMA3, "low_freq_factor": 4.0}),
        "low_freq_factor is 4.0; accepted are numbers below high_freq_factor, 4.0",
    ),
    "llama3 that shrinks": (edit_config(rope_scaling={**LLAMA3, "factor": 0.5}), "factor is 0.5"),
    "llama3 with a word": (edit_config(rope_scaling={**LLAMA3, "factor": "8"}), "factor is '8'"),
    "llama3 with more": (edit_config(rope_scaling={**LLAMA3, "beta_fast": 1}), "rope_scaling is"),
    "two old lengths": (
        edit_config(rope_scaling=LLAMA3, original_max_position_embeddings=64),
        "original_max_position_embeddings is 64 beside 32",
    ),
    "rope is a word": (edit_config(rope_parameters="default"), "rope_parameters"),
    "half a rope": (
        edit_config(rope_scaling={"rope_type": "default"}, rope_parameters={"rope_type": "yarn"}),
        "rope_parameters is",
    ),
    "looks ahead": (edit_config(is_causal=False), "is_causal is False; accepted is True"),
    "short memory": (edit_config(layer_types=["sliding_attention"] * 2), "layer_types is"),
    "another special token": (
        edit_tokenizer(lambda t: t["added_tokens"][1].update(content="<s>")),
        "its added_tokens is not",
    ),
    "another order": (
        edit_tokenizer(lambda t: t["model"]["vocab"].update({"0": 5, "1": 4})),
        "another vocabulary",
    ),
    "beyond a float": (edit_text("config.json", "1e-06", "1e400"), "beyond the numbers"),
    "a whole number of 400 digits": (edit_text("config.json", "1e-06", "9" * 400), "400 digits"),
    "not finite": (edit_weights(lambda w: w[HEAD].fill_(torch.nan)), "lm_head.weight has a value"),
    "whole numbers": (edit_weights(lambda w: w.update({HEAD: w[HEAD].int()})), "torch.int32"),
    "complex": (edit_weights(lambda w: w.update({HEAD: w[HEAD].cfloat()})), "torch.complex64"),
    "theta is a word": (edit_config(rope_theta="large"), r"config\.json"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named_in_one_line(folder, kind):
    """A library's traceback, or worse: a model that loads and computes something else."""
    damage, message = DAMAGE[kind]
    damage(folder)
    with pytest.raises(CheckpointError, match=message) as error:
        load_model(folder)
    assert "\n" not in str(error.value) and str(folder) in str(error.value)


@pytest.mark.parametrize("place", ["nowhere", "a.model/config.json"])
def test_a_folder_that_is_none(folder, place):
    """The message says what is accepted: a folder or a shipped name."""
    with pytest.raises(
        CheckpointError, match=r"no model folder .*; accepted are a folder or one of gen, dpo"
    ):
        load_model(folder.parent / place)


def test_unknown_shipped_name():
    """`load_pretrained` takes names only: a path there is a mistake."""
    with pytest.raises(CheckpointError, match="'base'; accepted are gen, dpo"):
        load_pretrained("base")


def test_a_folder_named_gen_comes_before_the_shipped_model(tmp_path, monkeypatch):
    """A reader's own model of that name must not be passed over in silence."""
    monkeypatch.chdir(tmp_path)
    assert checkpoint.model_folder("gen").name == "gen.model"
    save_model(MODEL, "gen")
    assert checkpoint.model_folder("gen") == checkpoint.Path("gen")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_weights_of_another_precision_are_read_as_float32(folder, dtype):
    """A model saved in bfloat16 elsewhere must not run in bfloat16 here."""
    weights = {
        name: tensor.to(dtype) for name, tensor in load_file(folder / "model.safetensors").items()
    }
    save_file(weights, folder / "model.safetensors")
    assert {tensor.dtype for tensor in load_model(folder).state_dict().values()} == {torch.float32}


def test_loading_leaves_the_callers_random_numbers_alone(tmp_path):
    """A model that is built before its weights are read draws random ones first."""
    save_model(MODEL, tmp_path / "m")
    before = torch.get_rng_state()
    load_model(tmp_path / "m")
    assert torch.equal(before, torch.get_rng_state())
