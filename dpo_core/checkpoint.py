"""Models on disk (chapter 14 opens them with transformers).

A model is a Hugging Face folder: `config.json` (LlamaForCausalLM), `model.safetensors` and the
tokenizer's files. Nothing is pickled. The weights' file also carries our recipe, the record of what
made them, in its metadata: that is the mark by which we know a folder as ours, and the reason why
weights and recipe can never belong to two different models. `recipe.json` and `metrics.jsonl`
beside it are for people and their tools; nothing here reads them.

Folders that others made are read as well: of any sizes that `ModelConfig` has, in any of four
precisions, in one file or in several with an index. What transformers would compute otherwise than
we do is refused by name.
"""

import hashlib
import json
import os
from dataclasses import asdict, fields, replace
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from dpo_core.model import OPTIONAL, REALS, SIZES, Llama, ModelConfig, RopeScaling
from dpo_core.storage import (
    StorageError,
    Workshop,
    json_bytes,
    parse_json,
    read_json,
    sync_folder,
    workshop,
)
from dpo_core.tokenizer import CharTokenizer, TextTokenizer, Tokenizer

SHIPPED = ("gen", "dpo")
WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"
INDEX = f"{WEIGHTS}.index.json"  # beside weights in several files: which name is in which
GENERATION = "generation_config.json"
VIEWS = ("recipe.json", "metrics.jsonl")
RECIPE = "dpo_core.recipe"  # the mark, in the metadata of the weights' file
FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"  # one matrix where they are tied
# what transformers 5 puts in the place of no post_processor when it saves a tokenizer
ADDS_NOTHING = {
    "type": "TemplateProcessing",
    "single": [{"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {},
}
UNREAD = ("rotary_emb.inv_freq",)  # old folders store it; the configuration says the same
VOCABULARY = CharTokenizer().vocab_size


class CheckpointError(StorageError):
    """A model folder that is missing, incomplete or unfit; the message names the fault."""


# ---------------------------------------------------------------- writing


def save_model(
    model: Llama,
    folder: str | Path,
    recipe: dict[str, Any] | None = None,
    tokenizer: Tokenizer | None = None,
) -> None:
    """Write a model folder, or replace the model in a folder of ours; other files in it stay.

    Args:
        recipe: what made the model (options, figures).
        tokenizer: of a real model, whose files are written beside it.

    Raises:
        StorageError: the folder cannot be written, or holds something that we did not write.
        FloatingPointError: a weight is NaN or infinite.
    """
    with workshop(folder, wait=60) as place:
        check_place(place.place, model.config, tokenizer)
        publish_model(place, model, recipe or {}, tokenizer=tokenizer)


def check_place(folder: Path, config: ModelConfig, tokenizer: Tokenizer | None = None) -> None:
    """See, before a long run, that a model of this shape can be put into a folder.

    Accepted are a folder that does not exist, an empty one, what a killed save left, and a model of
    ours of the same shape.

    Raises:
        CheckpointError: it is something else, or cannot be written; the message names it.
    """
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is a file; accepted is a new folder or a model of ours")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise CheckpointError(f"{folder} cannot be written")
    ours = static_files(config, tokenizer=tokenizer)
    for name in (*ours, *VIEWS, WEIGHTS):
        if os.path.lexists(folder / name) and not (folder / name).is_file():
            raise CheckpointError(f"{folder / name} is in the way: it is not a file")
    if (folder / WEIGHTS).exists():
        if read_recipe(folder) is None:
            raise CheckpointError(
                f"{folder} holds a model that was not written here; name another output"
            )
        if read_config(folder, any_vocabulary=config.vocab_size != VOCABULARY) != config:
            raise CheckpointError(f"{folder} holds a model of another shape; name another output")
        return
    for entry in sorted(folder.iterdir()):
        if not (entry.name in ours and entry.read_bytes() == ours[entry.name]):
            raise CheckpointError(
                f"{folder} has other files in it, {entry.name} first of all; "
                "accepted is a new folder or a model of ours"
            )


def publish_model(
    place: Workshop,
    model: Llama,
    recipe: dict[str, Any],
    metrics: bytes | None = None,
    tokenizer: Tokenizer | None = None,
) -> None:
    """Put a model into its folder; the weights and their recipe change in one step.

    The views go first and come back last, so that none ever stands beside other weights.

    Raises:
        FloatingPointError: a weight is NaN or infinite.
        OSError: the folder cannot be written; the model that stood there is still there.
    """
    # parameters, each once: where head and embedding are tied, only the embedding is stored
    weights = {name: t.detach().cpu().contiguous() for name, t in model.named_parameters()}
    metadata = {"format": "pt", RECIPE: json.dumps(recipe, ensure_ascii=False, allow_nan=False)}
    content = tensor_bytes(weights, metadata)
    folder = place.place
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)
    for name, text in static_files(model.config, model.lm_head.weight.dtype, tokenizer).items():
        if not (folder / name).exists() or (folder / name).read_bytes() != text:
            place.publish(text, folder / name)
    for name in VIEWS:
        place.remove(folder / name)
    place.publish(content, folder / WEIGHTS)
    place.publish(json_bytes(recipe), folder / "recipe.json")
    if metrics is not None:
        place.publish(metrics, folder / "metrics.jsonl")


def tensor_bytes(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> bytes:
    """Named tensors as the bytes of a safetensors file: the same content, the same bytes.

    Raises:
        FloatingPointError: a value is NaN or infinite; the message names the tensor.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise FloatingPointError(f"{name} is not finite; try a smaller learning rate")
    content = save(tensors, metadata)
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"] = metadata  # in our order: safetensors shuffles it
    text = json.dumps(header, ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[8 + size :]


def static_files(
    config: ModelConfig, dtype: torch.dtype = torch.float32, tokenizer: Tokenizer | None = None
) -> dict[str, bytes]:
    """The files of a model folder that depend on its shape, precision and tokenizer alone: what
    transformers reads. A model of another vocabulary than the book's, and without a tokenizer of
    its own, gets none, and no special tokens.
    """
    if tokenizer is None and config.vocab_size == VOCABULARY:
        tokenizer = CharTokenizer()
    own = isinstance(tokenizer, CharTokenizer)
    ids = {
        f"{name}_token_id": getattr(tokenizer, f"{name}_id", None) for name in ("pad", "bos", "eos")
    }
    special = {"pad_token": "P", "bos_token": "S", "eos_token": "E", "unk_token": "U"}
    scaling, kind = config.rope_scaling, str(dtype).removeprefix("torch.")
    contents: dict[str, Any] = {
        CONFIG: {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            **{name: getattr(config, name) for name in (*SIZES, *REALS)},
            **ids,
            "num_key_value_heads": config.num_key_value_heads,
            "head_dim": config.head_dim,
            "hidden_act": "silu",
            "attention_bias": False,
            "mlp_bias": False,
            "attention_dropout": 0.0,
            "tie_word_embeddings": config.tie_word_embeddings,
            "rope_scaling": {"rope_type": "llama3", **asdict(scaling)} if scaling else None,
            "dtype": kind,
            "torch_dtype": kind,
        }
    }
    if own:
        contents |= {
            GENERATION: {**ids, "do_sample": True, "max_new_tokens": 32},
            TOKENIZER: _tokenizer_json(tokenizer),
            "special_tokens_map.json": special,
            "tokenizer_config.json": {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "clean_up_tokenization_spaces": False,
                "model_max_length": config.max_position_embeddings,
                "padding_side": "left",
                **special,
            },
        }
    files = tokenizer.files if isinstance(tokenizer, TextTokenizer) else {}
    return {name: json_bytes(content) for name, content in contents.items()} | files


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
            "vocab": {character: index for index, character in enumerate(tokenizer.vocabulary)},
            "unk_token": "U",
        },
    }


# ---------------------------------------------------------------- reading


def model_folder(name: str | Path) -> Path:
    """The folder of a model: a path, or the shipped `gen` or `dpo`. A folder of that name wins."""
    if str(name) in SHIPPED and not Path(name).exists():
        return Path(str(files("dpo_core"))) / "pretrained" / f"{name}.model"
    return Path(name)


def load_pretrained(name: str) -> Llama:
    """A model that comes with the package: "gen" (after SFT) or "dpo"; float32, on the CPU.

    Raises:
        CheckpointError: another name.
    """
    if name not in SHIPPED:
        raise CheckpointError(f"no shipped model {name!r}; accepted are {', '.join(SHIPPED)}")
    return load_model(Path(str(files("dpo_core"))) / "pretrained" / f"{name}.model")


def load_model(
    folder: str | Path, dtype: torch.dtype = torch.float32, any_vocabulary: bool = False
) -> Llama:
    """Read a model folder: ours, or any LlamaForCausalLM; on the CPU.

    Args:
        dtype: of the weights in memory, whatever they are on disk; one of `FLOATS`.
        any_vocabulary: read a model whose ids are not the characters of this book as well; texts
            are for its own tokenizer to read (`open_model`).

    Raises:
        CheckpointError: the folder or a file is missing, truncated, or does not fit the other; the
            model is of a kind that this one is not; a weight is too large for `dtype`.
    """
    return read_model(folder, dtype, any_vocabulary)[0]


def read_model(
    folder: str | Path, dtype: torch.dtype = torch.float32, any_vocabulary: bool = False
) -> tuple[Llama, dict[str, Any]]:
    """A model and its recipe, which belong together; the recipe is empty if others made the model.

    Arguments and errors as in `load_model`.
    """
    if dtype not in FLOATS:
        accepted = ", ".join(map(str, FLOATS))
        raise CheckpointError(f"{folder}: dtype is {dtype!r:.60}; accepted are {accepted}")
    folder = Path(folder)
    config = read_config(folder, any_vocabulary)
    weights, metadata = _read_weights(folder, config)
    for name, tensor in weights.items():
        wider = torch.finfo(tensor.dtype).max > torch.finfo(dtype).max
        if wider and not torch.isfinite(tensor.to(dtype)).all():
            raise CheckpointError(f"{folder}: {name} has a value that is too large for {dtype}")
    with torch.device("meta"):  # no memory, and no random weights that would be thrown away
        model = Llama(config)
    # copies: what was read may be a view of the file
    own = {name: tensor.to(dtype, copy=True) for name, tensor in weights.items()}
    model.load_state_dict(own, assign=True)
    if config.tie_word_embeddings:
        model.lm_head.weight = model.model.embed_tokens.weight
    model.model.make_tables(config)
    return model.to(dtype).eval(), _recipe_of(metadata, folder / WEIGHTS) or {}


def open_model(
    folder: str | Path, dtype: torch.dtype = torch.float32
) -> tuple[Llama, Tokenizer, dict[str, Any]]:
    """Any model with the tokenizer that belongs to it, and its recipe: the book's, or a real one.

    Raises:
        CheckpointError: as `load_model`; a tokenizer that does not fit the weights.
        ValueError: a package that reads a real model's tokenizer is missing.
    """
    folder = Path(folder)
    tokenizer = read_tokenizer(folder)
    model, recipe = read_model(folder, dtype, not isinstance(tokenizer, CharTokenizer))
    return model, tokenizer, recipe


def read_tokenizer(folder: str | Path) -> Tokenizer:
    """The tokenizer of a model folder: the book's where it has the book's vocabulary, else its own.

    Raises:
        CheckpointError: it has more ids than the model, or ends a text otherwise than the model's
            configuration says.
    """
    folder = Path(folder)
    config = read_config(folder, any_vocabulary=True)
    if config.vocab_size == VOCABULARY:
        _check_tokenizer(folder, config)
        return CharTokenizer()
    try:
        tokenizer = TextTokenizer(folder)
    except ValueError as error:
        raise CheckpointError(str(error)) from None
    if tokenizer.vocab_size > config.vocab_size:
        raise CheckpointError(
            f"{folder}: the tokenizer has ids up to {tokenizer.vocab_size - 1}, the model a "
            f"vocabulary of {config.vocab_size}; accepted is a tokenizer of this model"
        )
    said = [_read_json(folder / n) for n in (CONFIG, GENERATION) if (folder / n).is_file()]
    ends = [stored["eos_token_id"] for stored in said if stored.get("eos_token_id") is not None]
    known = {end for one in ends for end in (one if isinstance(one, list) else [one])}
    if known and tokenizer.eos_id not in known:
        raise CheckpointError(
            f"{folder}: the tokenizer ends a text with {tokenizer.end!r:.40}, id "
            f"{tokenizer.eos_id}; the model's eos_token_id is {sorted(known, key=str)!r:.60}"
        )
    return tokenizer


def _read_weights(
    folder: Path, config: ModelConfig
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The weights by the names of `Llama.state_dict`, and the metadata of their file.

    Raises:
        CheckpointError: as `read_tensors`, of each file; an index that does not say where they are;
            a head that should be tied to the embedding, and is another.
    """
    shapes = dict(_shapes(config))
    if _in_several(folder):
        files = _weight_map(folder / INDEX, shapes)
    else:
        names = _names(folder / WEIGHTS) if config.tie_word_embeddings else ()
        files = dict.fromkeys((*shapes, *names), WEIGHTS)
    if config.tie_word_embeddings and HEAD in files:
        shapes[HEAD] = shapes[EMBEDDING]
    weights: dict[str, torch.Tensor] = {}
    for file in sorted({files[name] for name in shapes}):
        inside = {name: shape for name, shape in shapes.items() if files[name] == file}
        tensors, metadata = read_tensors(folder / file, inside, UNREAD)
        weights |= tensors
    if not config.tie_word_embeddings:
        return weights, metadata
    if not torch.equal(weights.setdefault(HEAD, weights[EMBEDDING]), weights[EMBEDDING]):
        raise CheckpointError(
            f"{folder}: {HEAD} is not {EMBEDDING}, though tie_word_embeddings is True; "
            "accepted is the same matrix, or none"
        )
    return weights, metadata


def _in_several(folder: Path) -> bool:
    """Whether the weights are in several files; of both, transformers takes the one file."""
    return not (folder / WEIGHTS).exists() and (folder / INDEX).is_file()


def _weight_map(path: Path, shapes: dict[str, tuple[int, ...]]) -> dict[str, str]:
    """Of each weight the name of its file, from an index.

    Raises:
        CheckpointError: the index is missing or no index, a weight is missing in it, or one too
            many, or a file is not one of this folder.
    """
    found = _read_json(path).get("weight_map")
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: weight_map is {found!r:.60}; accepted is a JSON object")
    for name, file in found.items():
        plain = isinstance(file, str) and file.isprintable() and Path(file).name == file
        if not plain or not file.endswith(".safetensors"):
            raise CheckpointError(
                f"{path}: {name!r:.80} is in {file!r:.80}; "
                "accepted are .safetensors files beside the index"
            )
    if missing := [name for name in shapes if name not in found]:
        raise CheckpointError(f"{path}: {missing[0]} is missing; needed is {shapes[missing[0]]}")
    extra = sorted(n for n in found.keys() - {*shapes, HEAD} if not n.endswith(UNREAD))
    if extra:
        raise CheckpointError(f"{path} has {extra[0]!r:.80}, which is not asked for")
    return {name: file for name, file in found.items() if not name.endswith(UNREAD)}


def read_recipe(folder: str | Path) -> dict[str, Any] | None:
    """The recipe in a model folder; None if the model is not of our making.

    Raises:
        CheckpointError: the weights' file is missing or damaged.
    """
    path = Path(folder) / WEIGHTS
    if _in_several(path.parent):
        return None  # we write one file
    return _recipe_of(read_tensors(path, {})[1], path)


def _recipe_of(metadata: dict[str, str], path: Path) -> dict[str, Any] | None:
    if RECIPE not in metadata:
        return None
    try:
        recipe = parse_json(metadata[RECIPE])
    except ValueError as error:
        raise CheckpointError(f"{path}: its recipe is not JSON: {error}") from None
    if not isinstance(recipe, dict):
        raise CheckpointError(f"{path}: its recipe is {recipe!r:.40}; accepted is a JSON object")
    return recipe


@lru_cache(maxsize=8)
def _shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """The shape of each weight of a model, without the memory that the model would take; of a head
    that is tied to the embedding, none.
    """
    with torch.device("meta"):
        one_layer = Llama(replace(config, num_hidden_layers=1))
    shapes = {}
    for name, tensor in one_layer.named_parameters():
        layers = range(config.num_hidden_layers) if ".layers.0." in name else range(1)
        shapes |= {name.replace(".layers.0.", f".layers.{i}."): tuple(tensor.shape) for i in layers}
    return shapes


def read_config(folder: Path, any_vocabulary: bool = False) -> ModelConfig:
    """The architecture in a model folder.

    What transformers would read otherwise than we do is refused: a size that is missing (it has
    defaults for Llama 1), another kind of position, biases. So is a tokenizer that is not ours,
    unless `any_vocabulary`.

    Raises:
        CheckpointError: no such folder, a missing file, or a setting that this model does not have.
    """
    if not folder.is_dir():
        shipped = ", ".join(SHIPPED)
        raise CheckpointError(
            f"no model folder {folder}; accepted are a folder or one of {shipped}"
        )
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file() and not (name == WEIGHTS and _in_several(folder)):
            raise CheckpointError(
                f"{folder} has no {name}; a model folder needs {CONFIG}, {WEIGHTS}"
            )
    path = folder / CONFIG
    stored = _read_json(path)
    if stored.get("model_type") != "llama":
        found = stored.get("model_type")
        raise CheckpointError(f"{path}: model_type is {found!r:.60}; accepted is 'llama'")
    rope = _read_rope(stored, path)
    numbers = {"rms_norm_eps": 1e-6, "rope_theta": 10_000.0, **stored, **rope}
    given = [name for name in OPTIONAL if stored.get(name) is not None]
    try:
        config = ModelConfig(
            **{name: _number(numbers, name, path, whole=True) for name in (*SIZES, *given)},
            **{name: _number(numbers, name, path) for name in REALS},
            rope_scaling=_read_scaling(stored, rope, path),
            tie_word_embeddings=stored.get("tie_word_embeddings", False),
        )
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from None
    fixed = {
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "layer_types": ["full_attention"] * config.num_hidden_layers,
        "is_causal": True,
        "partial_rotary_factor": None,
        "quantization_config": None,
    }
    for name, value in fixed.items():
        found = stored.get(name, value)
        same = found == value and type(found) is type(value)
        if not same and not (found is None and name == "layer_types"):
            raise CheckpointError(f"{path}: {name} is {found!r:.60}; accepted is {value!r:.60}")
    if not any_vocabulary:
        _check_tokenizer(folder, config)
    return config


def _read_rope(stored: dict[str, Any], path: Path) -> dict[str, Any]:
    """The settings of RoPE in a configuration, of which transformers knows two spellings.

    Raises:
        CheckpointError: a kind that this model does not have, or a setting that its kind has not.
    """
    rope: dict[str, Any] = {}
    for name in ("rope_parameters", "rope_scaling"):  # of two, transformers takes the second
        found = {} if stored.get(name) is None else stored[name]
        kind = _rope_type(found) if isinstance(found, dict) else None
        known = {"rope_type", "type", "rope_theta"}
        if kind == "llama3":
            known |= {field.name for field in fields(RopeScaling)}
        if kind not in ("default", "llama3") or not found.keys() <= known:
            raise CheckpointError(
                f"{path}: {name} is {found!r:.80}; "
                "accepted are rope_type 'default' with a rope_theta, and 'llama3'"
            )
        rope = found or rope
    return rope


def _rope_type(rope: dict[str, Any]) -> Any:
    return rope.get("rope_type", rope.get("type", "default"))


def _read_scaling(stored: dict[str, Any], rope: dict[str, Any], path: Path) -> RopeScaling | None:
    """How RoPE is stretched; raises CheckpointError, or ValueError if a number is out of range."""
    if _rope_type(rope) == "default":
        return None
    old = "original_max_position_embeddings"  # some have it outside, and transformers takes that
    rope = {old: stored.get("max_position_embeddings"), **rope}
    if stored.get(old, rope[old]) != rope[old]:
        raise CheckpointError(
            f"{path}: {old} is {stored[old]!r:.40} beside {rope[old]!r:.40} for RoPE; "
            "accepted is one number"
        )
    return RopeScaling(
        **{
            field.name: _number(rope, field.name, path, whole=field.type is int)
            for field in fields(RopeScaling)
        }
    )


def _read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a model folder; raises CheckpointError."""
    try:
        return read_json(path)
    except StorageError as error:
        raise CheckpointError(str(error)) from None


def _number(stored: dict[str, Any], name: str, path: Path, whole: bool = False) -> Any:
    """A finite number of a configuration.

    Raises:
        CheckpointError: it is missing, or something else.
    """
    if name not in stored:
        raise CheckpointError(f"{path} has no {name}")
    value = stored[name]
    kinds = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or abs(value) > 1e300:
        kind = "a whole number" if whole else "a number"
        raise CheckpointError(f"{path}: {name} is {value!r:.40}; accepted is {kind}")
    return value if whole else float(value)


def _check_tokenizer(folder: Path, config: ModelConfig) -> None:
    """The tokenizer in a model folder, if there is one, must be ours, in the order of ours.

    Raises:
        CheckpointError: it is another.
    """
    ours = _tokenizer_json(CharTokenizer())
    if config.vocab_size != len(ours["model"]["vocab"]):
        raise CheckpointError(
            f"{folder / CONFIG}: vocab_size is {config.vocab_size}; accepted is "
            f"{len(ours['model']['vocab'])}, the characters of this book's tokenizer"
        )
    if not (folder / TOKENIZER).exists():
        return
    stored = _read_json(folder / TOKENIZER)
    model = stored.get("model")
    if stored.get("post_processor") == ADDS_NOTHING:
        stored["post_processor"] = None
    parts = ("normalizer", "pre_tokenizer", "post_processor", "added_tokens")
    same = isinstance(model, dict) and model.get("type") == ours["model"]["type"]
    if not same or model.get("vocab") != ours["model"]["vocab"]:
        raise CheckpointError(
            f"{folder / TOKENIZER} has another vocabulary than this book's tokenizer"
        )
    for part in parts:
        if stored.get(part) != ours[part]:
            raise CheckpointError(
                f"{folder / TOKENIZER}: its {part} is not of this book's tokenizer"
            )


def read_tensors(
    path: Path, shapes: dict[str, tuple[int, ...]], unread: tuple[str, ...] = ()
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Named tensors from a safetensors file, on the CPU, and the file's metadata.

    Both come from one file, so they belong together whatever is written meanwhile.

    Args:
        shapes: what the file must hold, by name; {} reads the metadata alone.
        unread: endings of names that may stand there too, and are left alone.

    Raises:
        CheckpointError: the file is missing or damaged; a tensor is missing, one too many, of
            another shape or kind, NaN or infinite.
    """
    while True:
        before = _identity(path)
        try:
            tensors, metadata = _read_once(path, shapes, unread)
        except CheckpointError:
            if _identity(path) == before:
                raise
        else:
            # safe_open opens the path twice: once for the metadata, once for the tensors
            if _identity(path) == before:
                break
    for name, tensor in tensors.items():
        if tensor.dtype not in FLOATS:
            raise CheckpointError(f"{path}: {name} is {tensor.dtype}; accepted are real numbers")
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"{path}: {name} has a value that is NaN or infinite")
    return tensors, metadata


def _identity(path: Path) -> tuple[int, ...]:
    """What tells the file at a path from one that replaced it."""
    if not path.is_file():
        raise CheckpointError(f"{path.parent} has no {path.name}")
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def _read_once(
    path: Path, shapes: dict[str, tuple[int, ...]], unread: tuple[str, ...]
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if not shapes:
                return {}, metadata
            found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            for name, shape in shapes.items():
                if found.get(name) != shape:
                    what = found.get(name, "missing")
                    raise CheckpointError(f"{path}: {name} is {what}; needed is {shape}")
            if extra := sorted(n for n in found.keys() - shapes.keys() if not n.endswith(unread)):
                raise CheckpointError(f"{path} has {extra[0]}, which is not asked for")
            return {name: file.get_tensor(name) for name in shapes}, metadata
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from None


def _names(path: Path) -> list[str]:
    """The names of the tensors in a safetensors file; raises CheckpointError if it is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            return list(file.keys())
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> CheckpointError:
    said = "".join(c if c.isprintable() else "?" for c in str(error))  # it may quote the file
    return CheckpointError(f"{path} is damaged: {said}")


def fingerprint(model: Llama) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of all weights, in order of name."""
    return digest(model.state_dict())[:16]


def digest(tensors: dict[str, torch.Tensor]) -> str:
    """The SHA-256 of named tensors, in order of name."""
    total = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        total.update(name.encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        total.update(flat.view(torch.uint8).numpy().tobytes())
    return total.hexdigest()
