"""A model goes to TRL, learns there, comes back, learns here and goes again: nothing is lost, nothing of others replaced."""

import hashlib
import shutil

import numpy as np
import pytest
import torch

pytest.importorskip("trl", reason="parity needs the `test` extra")

import transformers

from dpo_core import checkpoint
from dpo_core.checkpoint import CheckpointError, load_model, load_pretrained, save_model
from dpo_core.commands.parser import main
from dpo_core.pairs import with_reference
from dpo_core.preferences import population_pairs
from dpo_core.reward import RewardModel
from dpo_core.steps import dpo_step
from dpo_core.task import BookTask
from dpo_core.tokenizer import VOCABULARY, CharTokenizer
from dpo_core.training import train
from toys import random_ids, small_model
from trl_side import GROUPED, opened, our_loop, quiet, trained, trainer_of

STEPS, ROWS = 3, 16
TEXTS = ("S54=27+27E", "S-3=1-4E", VOCABULARY)


@pytest.fixture(scope="module")
def pairs():
    return population_pairs(
        load_pretrained("gen"), BookTask(), STEPS * ROWS, labels="sampled", seed=0
    )


@pytest.fixture(scope="module", params=["shipped gen", "random, grouped heads"])
def roads(request, pairs, tmp_path_factory):
    """Ours -> theirs -> ours -> theirs; the folders of the four stations, and the models as they were in memory."""
    place = tmp_path_factory.mktemp("roads")
    ours = load_pretrained("gen") if "gen" in request.param else small_model(0, GROUPED, scale=4.0)
    save_model(ours, place / "0.ours")
    made = trainer_of(
        "dpo", str(place / "0.ours"), columns(pairs), place / "1.trl", max_steps=STEPS
    )
    trained(made)
    made.save_model()
    again = load_model(place / "1.trl")
    batches = [pairs.batch(np.arange(i * ROWS, (i + 1) * ROWS)) for i in range(STEPS)]
    train(again, batches.__getitem__, dpo_step(0.25), our_loop("dpo", STEPS), progress=False)
    save_model(again, place / "2.ours")
    last = trainer_of("dpo", str(place / "2.ours"), columns(pairs), place / "3.trl", max_steps=1)
    trained(last)
    last.save_model()
    return place, {"0.ours": ours, "1.trl": made.model, "2.ours": again, "3.trl": last.model}


def columns(pairs):
    return {name: getattr(pairs, name) for name in ("prompt", "chosen", "rejected")}


@torch.no_grad()
def logits_of(model, ids):
    found = model.eval()(ids)
    return found if torch.is_tensor(found) else found.logits


def test_logits_are_equal_at_every_station(roads):
    """What was in memory, what we read and what transformers reads."""
    place, models = roads
    ids, before = random_ids((4, 30)), None
    for name, model in models.items():
        expected = logits_of(model, ids)
        for read in (load_model(place / name), opened(place / name)):
            assert (logits_of(read, ids) - expected).abs().max() < 1e-5 * expected.abs().max()
        assert before is None or (expected - before).abs().max() > 1e-3  # each has learnt something
        before = expected


def test_weights_and_names_are_equal_to_the_bit(roads):
    """Reading and writing is no place for rounding; tied weights stay one matrix."""
    place, models = roads
    for name, model in models.items():
        expected, found = model.state_dict(), load_model(place / name).state_dict()
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[n], found[n]) for n in expected)
        stored = checkpoint.read_config(place / name)
        assert stored == load_model(place / "0.ours").config


def test_the_tokenizer_is_the_same_at_every_station(roads):
    place, models = roads
    for name in models:
        with quiet():
            tokenizer = transformers.AutoTokenizer.from_pretrained(place / name)
        for text in TEXTS:
            assert tokenizer(text)["input_ids"] == CharTokenizer().encode(text)
            assert tokenizer.decode(CharTokenizer().encode(text)) == text
        special = (tokenizer.pad_token, tokenizer.bos_token, tokenizer.eos_token)
        assert special == ("P", "S", "E")


@pytest.mark.parametrize("bos", [False, True])
def test_a_tokenizer_saved_by_transformers_is_ours_unless_it_adds_tokens(tmp_path, bos):
    """transformers 5 saves a template in place of none; one that puts S before every text is another tokenizer."""
    save_model(load_pretrained("gen"), tmp_path / "a.model")
    with quiet():
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            tmp_path / "a.model", add_bos_token=bos
        )
    tokenizer.save_pretrained(tmp_path / "a.model")
    assert tokenizer("5")["input_ids"] == ([1, 9] if bos else [9])
    if not bos:
        assert load_model(tmp_path / "a.model")
        return
    with pytest.raises(CheckpointError, match="its post_processor is not of this book's tokenizer"):
        load_model(tmp_path / "a.model")


def test_the_recipe_ends_where_another_trainer_writes(roads):
    """Our mark says how the weights were made; TRL's folder must not carry that of its start."""
    place, _ = roads
    marked = {
        name: checkpoint.read_recipe(place / name) is not None
        for name in ("0.ours", "1.trl", "2.ours", "3.trl")
    }
    assert marked == {"0.ours": True, "1.trl": False, "2.ours": True, "3.trl": False}


@pytest.fixture
def from_trl(pairs, tmp_path, monkeypatch):
    """A folder of TRL with a checkpoint in it, and a file of pairs, in the working directory."""
    monkeypatch.chdir(tmp_path)
    made = trainer_of(
        "dpo",
        str(checkpoint.model_folder("gen")),
        columns(pairs),
        "trl.out",
        max_steps=2,
        save_strategy="steps",
        save_steps=2,
    )
    trained(made)
    made.save_model()
    some = pairs.take(range(ROWS))
    texts = (some.prompt, some.chosen, some.rejected, some.preference_prob)
    with_reference(load_model("trl.out"), *texts).write("pairs.jsonl")
    return tmp_path


TRAIN = "train-dpo --model {} --output {} --pairs-file pairs.jsonl --steps 2 --batch-size 8 --save-every 0 --log-every 1"


def test_the_command_continues_from_trls_folder_and_from_its_checkpoint(from_trl, capsys):
    """A checkpoint holds an optimiser's state as a pickle beside the weights: it is left alone."""
    for start in ("trl.out", "trl.out/checkpoint-2"):
        output = f"{start.replace('/', '-')}.model"
        assert main(TRAIN.format(start, output).split()) == 0
        assert checkpoint.read_recipe(output)["model"] == start
        assert type(opened(output)).__name__ == "LlamaForCausalLM"
    capsys.readouterr()


def test_trls_folder_is_never_an_output_of_ours(from_trl, capsys):
    """A folder that others wrote is refused in one line, and not a byte of it changes."""
    files = sorted(path for path in (from_trl / "trl.out").rglob("*") if path.is_file())
    before = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    assert main(TRAIN.format("gen", "trl.out").split()) == 2
    message = capsys.readouterr().err
    assert "trl.out holds a model that was not written here; name another output" in message
    assert sorted(p for p in (from_trl / "trl.out").rglob("*") if p.is_file()) == files
    assert [hashlib.sha256(path.read_bytes()).hexdigest() for path in files] == before


def test_trl_writes_over_a_folder_of_ours_and_takes_its_mark_away(pairs, tmp_path):
    """The other way there is no guard: name another output_dir. What stays behind says nothing of the weights."""
    folder = tmp_path / "mine.model"
    save_model(load_pretrained("gen"), folder, {"steps": 1})
    made = trainer_of("dpo", str(folder), columns(pairs), folder, max_steps=1)
    trained(made)
    made.save_model()
    assert checkpoint.read_recipe(folder) is None
    with pytest.raises(CheckpointError, match="not written here"):
        save_model(load_pretrained("gen"), folder)


def test_a_reward_model_goes_there_and_back(pairs, tmp_path):
    """Ours as a LlamaForSequenceClassification: names and numbers are its own; as a language model it is refused."""
    base = load_pretrained("gen")
    with quiet():
        theirs = transformers.AutoModelForSequenceClassification.from_pretrained(
            checkpoint.model_folder("gen"), num_labels=1
        )
    made = trainer_of("reward", theirs, columns(pairs), tmp_path / "rm", max_steps=STEPS)
    trained(made)
    made.save_model()
    ours = RewardModel(base)
    ours.load_state_dict(made.model.state_dict())
    with quiet():
        read = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "rm")
    ids, mask = CharTokenizer().collate(pairs.prompt[:8], pairs.chosen[:8])
    with torch.no_grad():
        expected = read(ids, attention_mask=(ids != 0).long()).logits.squeeze(-1)
        assert (ours(ids, mask) - expected).abs().max() < 1e-5
    with pytest.raises(CheckpointError, match=r"lm_head\.weight"):
        load_model(tmp_path / "rm")


def test_a_folder_cut_short_while_it_was_copied_is_named(from_trl):
    """Weights without their configuration, or half of them: no traceback of a reader's."""
    shutil.copytree("trl.out", "cut")
    weights = from_trl / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        load_model("cut")
