"""Models on disk (chapter 14 opens them with transformers).

A checkpoint is a Hugging Face folder: `config.json` (LlamaForCausalLM), `model.safetensors`, the
tokenizer's files, `generation_config.json`, and `recipe.json`, our own record of what made it.
Nothing is pickled. A folder is complete or absent: it is written beside its place and renamed into
it.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from dpo_core.model import Llama, ModelConfig
from dpo_core.tokenizer import CharTokenizer

SHIPPED = ("gen", "dpo")
MODEL_FILES = ("config.json", "model.safetensors")


class CheckpointError(ValueError):
    """A model folder that is missing, incomplete or unfit; the message names the fault."""


def check_place(folder: str | Path) -> None:
    """See, before a long run, that a model folder can be written there.

    Raises:
        CheckpointError: it cannot, or something else than a model folder is in its place.
    """
    with _folder_beside(Path(folder).absolute()):
        pass


@contextmanager
def replacing_folder(folder: str | Path) -> Iterator[Path]:
    """A new folder to fill, which takes the place of `folder` when the block ends without an error.

    Raises:
        CheckpointError: the place cannot be written, or holds something that is not a checkpoint.
    """
    folder = Path(folder).absolute()
    with _folder_beside(folder) as new:
        yield new
        old = folder.with_name(f".{folder.name}.old")
        if folder.exists():
            os.replace(folder, old)
        os.replace(new, folder)
        shutil.rmtree(old, ignore_errors=True)


def finish_replacement(folder: Path) -> None:
    """Undo a replacement that was killed between its two renames: the old folder comes back."""
    old = folder.absolute().with_name(f".{folder.absolute().name}.old")
    if old.is_dir() and not folder.exists():
        os.replace(old, folder)


@contextmanager
def _folder_beside(folder: Path) -> Iterator[Path]:
    """A new folder on the same disk, gone at the end unless it was renamed."""
    finish_replacement(folder)
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"{folder} is a file; accepted is a new folder or a model folder")
    if folder.exists() and any(folder.iterdir()) and not (folder / "config.json").exists():
        raise CheckpointError(
            f"{folder} has other files in it; accepted is a new folder or a model folder"
        )
    new = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(new, ignore_errors=True)  # what a killed run left
    try:
        new.mkdir(parents=True)
    except OSError as error:
        raise CheckpointError(f"cannot write {folder}: {error.strerror}") from None
    try:
        yield new
    finally:
        shutil.rmtree(new, ignore_errors=True)
        finish_replacement(folder)


def write_json(path: Path, content: Any) -> None:
    """Write readable JSON with a final newline."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def save_model(model: Llama, folder: str | Path, recipe: dict[str, Any] | None = None) -> None:
    """Write a complete model folder, or replace one, as a single step.

    Args:
        recipe: what made the model (options, figures), stored as `recipe.json`.

    Raises:
        CheckpointError: the folder cannot be written, or is something else than a model folder.
    """
    with replacing_folder(folder) as new:
        write_model(model, new)
        write_json(new / "recipe.json", recipe or {})


def write_model(model: Llama, folder: Path) -> None:
    """Write the Hugging Face files of `model` into an existing folder."""
    tokenizer = CharTokenizer()
    ids = {
        "pad_token_id": tokenizer.pad_id,
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": tokenizer.eos_id,
    }
    config = asdict(model.config)
    write_json(
        folder / "config.json",
        {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            **config,
            **ids,
            "num_key_value_heads": model.config.num_attention_heads,
            "head_dim": model.config.head_size,
            "hidden_act": "silu",
            "attention_bias": False,
            "mlp_bias": False,
            "attention_dropout": 0.0,
            "tie_word_embeddings": False,
            "rope_scaling": None,
            "dtype": "float32",
            "torch_dtype": "float32",
        },
    )
    write_json(folder / "generation_config.json", {**ids, "do_sample": True, "max_new_tokens": 32})
    special = {"pad_token": "P", "bos_token": "S", "eos_token": "E", "unk_token": "U"}
    write_json(folder / "tokenizer.json", _tokenizer_json(tokenizer))
    write_json(folder / "special_tokens_map.json", special)
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            "model_max_length": model.config.max_position_embeddings,
            "padding_side": "left",
            **special,
        },
    )
    weights = {
        name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()
    }
    save_tensors(weights, folder / "model.safetensors")


def save_tensors(tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Write named tensors as safetensors, readable by everybody."""
    save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(0o644)  # safetensors leaves them to their owner alone


def _tokenizer_json(tokenizer: CharTokenizer) -> dict[str, Any]:
    """Our tokenizer in the format of Hugging Face's `tokenizers`: characters, looked up."""
    added = [
        {
            "id": index,
            "content": character,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for index, character in enumerate(tokenizer.vocabulary[:4])
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"Regex": "."},
            "behavior": "Isolated",
            "invert": False,
        },
        "post_processor": None,
        "decoder": {"type": "Fuse"},  # without it decoding puts a space between characters
        "model": {
            "type": "WordLevel",
            "unk_token": "U",
            "vocab": {character: index for index, character in enumerate(tokenizer.vocabulary)},
        },
    }


def model_folder(name: str | Path) -> Path:
    """The folder of a model: a path, or the shipped `gen` or `dpo`. A folder of that name wins."""
    if str(name) in SHIPPED and not Path(name).exists():
        return Path(str(files("dpo_core"))) / "pretrained" / f"{name}.model"
    return Path(name)


def load_pretrained(name: str) -> Llama:
    """A model that comes with the package: "gen" (after SFT) or "dpo" (after DPO); float32, on the
    CPU.

    Raises:
        CheckpointError: another name.
    """
    if name not in SHIPPED:
        raise CheckpointError(f"no shipped model {name!r}; accepted are {', '.join(SHIPPED)}")
    return load_model(Path(str(files("dpo_core"))) / "pretrained" / f"{name}.model")


def load_model(folder: str | Path) -> Llama:
    """Read a model folder: ours, or any LlamaForCausalLM of this shape; float32, on the CPU.

    Raises:
        CheckpointError: the folder or a file is missing, truncated, or does not fit the other.
    """
    folder = Path(folder)
    finish_replacement(folder)
    config = read_config(folder)
    weights = read_tensors(folder / "model.safetensors")
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay where they are
        model = Llama(config)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    for name, shape in expected.items():
        found = tuple(weights[name].shape) if name in weights else "missing"
        if found != shape:
            raise CheckpointError(
                f"{folder / 'model.safetensors'}: {name} is {found}; config.json asks for {shape}"
            )
    if extra := sorted(weights.keys() - expected.keys()):
        raise CheckpointError(
            f"{folder / 'model.safetensors'} has {extra[0]}, which config.json does not ask for"
        )
    model.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    return model.eval()


def read_config(folder: Path) -> ModelConfig:
    """The architecture in a model folder.

    Raises:
        CheckpointError: no such folder, a missing file, or a setting that this model does not have.
    """
    if not folder.is_dir():
        raise CheckpointError(
            f"no model folder {folder}; accepted are a folder or one of {', '.join(SHIPPED)}"
        )
    for name in MODEL_FILES:
        if not (folder / name).is_file():
            raise CheckpointError(
                f"{folder} has no {name}; a model folder needs {' and '.join(MODEL_FILES)}"
            )
    path = folder / "config.json"
    stored = read_json(path)
    heads = stored.get("num_attention_heads")
    fixed = {
        "model_type": "llama",
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "num_key_value_heads": heads,
        "rope_scaling": None,
    }
    for name, value in fixed.items():
        if stored.get(name, value) != value:
            raise CheckpointError(f"{path}: {name} is {stored[name]!r}; accepted is {value!r}")
    rope = stored.get("rope_parameters") or stored
    if not isinstance(rope, dict) or rope.get("rope_type", "default") != "default":
        raise CheckpointError(
            f"{path}: rope_parameters are {rope!r}; accepted is the rope_type 'default'"
        )
    known = {name: stored[name] for name in ModelConfig.__dataclass_fields__ if name in stored}
    try:
        return ModelConfig(**{**known, "rope_theta": float(rope.get("rope_theta", 10_000.0))})
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: {error}") from None


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Named tensors from a safetensors file, on the CPU.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from None


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        CheckpointError: the file is missing or is not a JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds no JSON object")
    return content


def read_recipe(folder: Path) -> dict[str, Any]:
    """`recipe.json` of a model folder, or an empty record for a folder that has none."""
    return read_json(folder / "recipe.json") if (folder / "recipe.json").is_file() else {}


def fingerprint(model: Llama) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of all weights, in order of name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
