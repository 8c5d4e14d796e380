"""Folders of real Llamas: every kind that is read is computed as transformers computes it, and all else is refused."""

import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from safetensors.torch import load_file, save_file

from dpo_core.checkpoint import CheckpointError, load_model, read_recipe, save_model
from dpo_core.commands.parser import main
from dpo_core.compilation import can_compile, compiled
from dpo_core.model import KVCache, Llama, ModelConfig, RopeScaling, rope_frequencies
from dpo_core.packing import completion_logps
from dpo_core.sampling import generate, score
from test_packing import assert_equal, batches, gradients
from toys import SMALL, random_ids, small_model

SIZES = {
    "vocab_size": 61,
    "hidden_size": 48,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "max_position_embeddings": 96,
    "initializer_range": 0.3,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 40.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 48,
}
KINDS = {
    "one head of keys for three": {"num_key_value_heads": 2},
    "one head of keys for all": {"num_key_value_heads": 1},
    "narrow heads": {"head_dim": 4},
    "wide heads": {"head_dim": 16, "num_key_value_heads": 3},
    "tied": {"tie_word_embeddings": True},
    "another theta": {"rope_parameters": {"rope_type": "default", "rope_theta": 50.0}},
    "llama3": {"rope_parameters": LLAMA3},
    "all of it": {
        "num_key_value_heads": 2,
        "head_dim": 12,
        "tie_word_embeddings": True,
        "rope_parameters": LLAMA3,
        "rms_norm_eps": 1e-3,
    },
}


def their_model(**changes):
    transformers = pytest.importorskip("transformers", reason="parity needs the `test` extra")
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**{**SIZES, **changes})).eval()
    with torch.no_grad():  # norms that are all ones would hide which one is which
        for name, parameter in model.named_parameters():
            if name.endswith("norm.weight"):
                parameter.uniform_(0.5, 1.5)
    return model


def read_by_transformers(folder, dtype=torch.float32):
    transformers = pytest.importorskip("transformers", reason="parity needs the `test` extra")
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, output_loading_info=True
    )
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return model.eval()


IDS = torch.randint(0, 61, (3, 90), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def assert_same_logits(ours, theirs, ids=IDS, tolerance=1e-4):
    expected = theirs(ids).logits
    assert (ours(ids) - expected).abs().max() < tolerance * expected.abs().max()


def change(folder, name="config.json", /, **settings):
    stored = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**stored, **settings}))


# ---------------------------------------------------------------- every kind


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_read_as_transformers_reads_it_and_written_back(tmp_path, kind):
    """Keys given to the wrong queries, a width that is not D / H, a head that is drawn at random because the file has
    none, turns that are slowed down where they should not be.
    """
    theirs = their_model(**KINDS[kind])
    theirs.save_pretrained(tmp_path / "theirs")
    ours = load_model(tmp_path / "theirs", any_vocabulary=True)
    assert_same_logits(ours, theirs)
    save_model(ours, tmp_path / "ours", {"seed": 0})
    again = read_by_transformers(tmp_path / "ours")
    assert_same_logits(ours, again)
    assert again.config.tie_word_embeddings is ours.config.tie_word_embeddings
    back = load_model(tmp_path / "ours", any_vocabulary=True)
    assert back.config == ours.config and read_recipe(tmp_path / "ours") == {"seed": 0}
    assert torch.equal(back(IDS), ours(IDS))
    save_model(back, tmp_path / "ours", {"seed": 1})  # a model of ours, of the same shape


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_left_padding_and_the_cache_change_nothing(tmp_path, kind):
    """A cache that holds a key for each head of queries, or a bias for the wrong rows of a group."""
    theirs = their_model(**KINDS[kind])
    theirs.save_pretrained(tmp_path / "theirs")
    ours, ids = load_model(tmp_path / "theirs", any_vocabulary=True), IDS[:, :20]
    mask = torch.ones(3, 20, dtype=torch.bool)
    mask[0, :7] = mask[1, :1] = False
    positions = (mask.long().cumsum(-1) - 1).clamp(min=0)
    expected = theirs(ids, attention_mask=mask.long(), position_ids=positions).logits
    cache, parts = KVCache(), []
    for start, end in ((0, 11), (11, 12), (12, 20)):
        parts.append(ours(ids[:, start:end], mask[:, :end], cache))
    for found in (ours(ids, mask), torch.cat(parts, 1)):
        assert (found - expected)[mask].abs().max() < 1e-4 * expected[mask].abs().max()
    keys, _ = cache.layers[1]
    assert keys.shape == (3, ours.config.num_key_value_heads, 20, ours.config.head_dim)


def test_tied_embeddings_are_one_matrix_in_memory_and_on_disk(tmp_path):
    """Two copies that start equal drift apart with the first step of training."""
    model = small_model(config=replace(SMALL, tie_word_embeddings=True))
    save_model(model, tmp_path / "a.model")
    assert "lm_head.weight" not in load_file(tmp_path / "a.model" / "model.safetensors")
    model = load_model(tmp_path / "a.model")
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(random_ids((2, 5))).log_softmax(-1)[..., 3].sum().backward()
    optimizer.step()
    assert torch.equal(model.lm_head.weight, model.model.embed_tokens.weight)
    save_model(model, tmp_path / "a.model")
    theirs = read_by_transformers(tmp_path / "a.model")
    assert theirs.lm_head.weight.data_ptr() == theirs.model.embed_tokens.weight.data_ptr()
    assert_same_logits(model, theirs, random_ids((2, 9)))


# ---------------------------------------------------------------- positions


@pytest.mark.parametrize("size", [8, 16, 64])
@pytest.mark.parametrize(
    "changes",
    [{}, {"factor": 32.0}, {"low_freq_factor": 1.5, "high_freq_factor": 2.0}, {"rope_theta": 5e5}],
)
def test_stretched_turns_are_theirs(size, changes):
    """A wavelength taken for a frequency, or the share that is kept growing the wrong way."""
    transformers = pytest.importorskip("transformers", reason="parity needs the `test` extra")
    rope = {**LLAMA3, **changes}
    config = transformers.LlamaConfig(head_dim=size, rope_parameters=dict(rope))
    expected, factor = transformers.modeling_rope_utils.ROPE_INIT_FUNCTIONS["llama3"](config)
    scaling = RopeScaling(**{name: rope[name] for name in RopeScaling.__dataclass_fields__})
    found = rope_frequencies(size, rope["rope_theta"], scaling)
    assert factor == 1.0 and torch.allclose(found, expected, rtol=1e-5)
    assert torch.equal(rope_frequencies(size, 50.0), rope_frequencies(size, 50.0, None))


@pytest.mark.parametrize("theta", ["inside", "outside", "both", "neither"])
@pytest.mark.parametrize("place", ["rope_scaling", "rope_parameters"])
@pytest.mark.parametrize("kind", ["default", "llama3"])
@pytest.mark.parametrize("word", ["type", "rope_type"])
def test_both_spellings_of_rope_are_read_as_transformers_reads_them(
    tmp_path, theta, place, kind, word
):
    """θ stands at the top in folders of version 4, among RoPE's settings in those of version 5."""
    their_model().save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text())
    del stored["rope_parameters"]
    rope = {word: kind, **({n: v for n, v in LLAMA3.items() if "rope" not in n})}
    rope = rope if kind == "llama3" else {word: kind}
    rope |= {"rope_theta": 300.0} if theta in ("inside", "both") else {}
    stored |= {"rope_theta": 500.0} if theta in ("outside", "both") else {}
    (tmp_path / "config.json").write_text(json.dumps({**stored, place: rope}))
    ours = load_model(tmp_path, any_vocabulary=True)
    wanted = {"inside": 300.0, "both": 300.0, "outside": 500.0, "neither": 10_000.0}
    assert ours.config.rope_theta == wanted[theta]
    assert (ours.config.rope_scaling is None) == (kind == "default")
    assert_same_logits(ours, read_by_transformers(tmp_path))


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["tied", "all of it", "wide heads"])
def test_half_precision_on_disk_is_read_as_float32_or_as_asked(tmp_path, stored, kind):
    """The numbers are the file's, to the last bit; what is computed with them is as good as the memory's type."""
    their_model(**KINDS[kind]).to(stored).save_pretrained(tmp_path / "theirs")
    ours = load_model(tmp_path / "theirs", any_vocabulary=True)
    assert {p.dtype for p in ours.parameters()} == {torch.float32}
    assert_same_logits(ours, read_by_transformers(tmp_path / "theirs"))
    half = load_model(tmp_path / "theirs", stored, any_vocabulary=True)
    for name, parameter in half.named_parameters():
        assert parameter.dtype == stored
        assert torch.equal(parameter.float(), ours.get_parameter(name))
    assert_same_logits(half, read_by_transformers(tmp_path / "theirs"), tolerance=0.1)
    save_model(half, tmp_path / "ours")
    kept = load_file(tmp_path / "ours" / "model.safetensors").values()
    assert {tensor.dtype for tensor in kept} == {stored}
    assert json.loads((tmp_path / "ours/config.json").read_text())["dtype"] == str(stored)[6:]


def test_a_weight_that_the_asked_precision_cannot_hold_is_named(tmp_path):
    """An infinity that arises while loading is as bad as one in the file."""
    save_model(small_model(), tmp_path / "a.model")
    weights = load_file(tmp_path / "a.model/model.safetensors")
    weights["model.norm.weight"][3] = 1e6
    save_file(weights, tmp_path / "a.model/model.safetensors")
    assert load_model(tmp_path / "a.model", torch.bfloat16)
    with pytest.raises(CheckpointError, match=r"model.norm.weight has .* too large for torch.floa"):
        load_model(tmp_path / "a.model", torch.float16)
    with pytest.raises(CheckpointError, match=r"dtype is torch.int8; accepted are torch.float32"):
        load_model(tmp_path / "a.model", torch.int8)


@pytest.fixture
def shards(tmp_path):
    """A model in several files, as transformers splits it."""
    theirs = their_model(**KINDS["all of it"])
    theirs.save_pretrained(tmp_path / "theirs", max_shard_size="20KB")
    assert len(list((tmp_path / "theirs").glob("model-*.safetensors"))) > 2
    return theirs, tmp_path / "theirs"


def test_several_files_with_an_index_are_one_model(shards, tmp_path):
    theirs, folder = shards
    ours = load_model(folder, any_vocabulary=True)
    assert_same_logits(ours, theirs)
    assert read_recipe(folder) is None
    with pytest.raises(CheckpointError, match="has other files in it"):
        save_model(ours, folder)
    save_model(ours, tmp_path / "ours")
    assert_same_logits(ours, read_by_transformers(tmp_path / "ours"))


NORM = "model.norm.weight"


def edit_map(**changes):
    def damage(folder):
        path = folder / "model.safetensors.index.json"
        stored = json.loads(path.read_text())
        stored["weight_map"] |= changes
        stored["weight_map"] = {n: f for n, f in stored["weight_map"].items() if f is not None}
        path.write_text(json.dumps(stored))

    return damage


def edit_shard(change):
    def damage(folder):
        stored = json.loads((folder / "model.safetensors.index.json").read_text())
        path = folder / stored["weight_map"][NORM]
        weights = load_file(path)
        change(weights)
        save_file(weights, path)

    return damage


SHARD_DAMAGE = {
    "no weights at all": (
        lambda f: (f / "model.safetensors.index.json").unlink(),
        "has no model.safetensors",
    ),
    "index is cut": (
        lambda f: (f / "model.safetensors.index.json").write_text('{"weight'),
        "index.json is not JSON",
    ),
    "index without a map": (
        lambda f: (f / "model.safetensors.index.json").write_text('{"weight_map": [1]}'),
        r"weight_map is \[1\]; accepted is a JSON object",
    ),
    "a file elsewhere": (edit_map(**{NORM: "../theirs/a.safetensors"}), "files beside the index"),
    "a pickle": (edit_map(**{NORM: "pytorch_model.bin"}), "accepted are .safetensors files"),
    "a number for a file": (edit_map(**{NORM: 3}), "is in 3; accepted are"),
    "a file that is not there": (edit_map(**{NORM: "b.safetensors"}), "has no b.safetensors"),
    "missing in the index": (edit_map(**{NORM: None}), "model.norm.weight is missing; needed is"),
    "one too many in the index": (edit_map(extra="a.safetensors"), "has 'extra', which is not"),
    "missing in its file": (edit_shard(lambda w: w.pop(NORM)), "model.norm.weight is missing"),
    "one too many in a file": (
        edit_shard(lambda w: w.update(extra=torch.ones(1))),
        "has extra, which is not asked for",
    ),
    "wrong shape": (
        edit_shard(lambda w: w.update({NORM: torch.ones(3)})),
        r"model.norm.weight is \(3,\); needed is \(48,\)",
    ),
    "not finite": (edit_shard(lambda w: w[NORM].fill_(torch.inf)), "NaN or infinite"),
    "whole numbers": (edit_shard(lambda w: w.update({NORM: w[NORM].int()})), "torch.int32"),
}


@pytest.mark.parametrize("kind", SHARD_DAMAGE)
def test_damage_to_one_of_several_files_is_named_in_one_line(shards, kind):
    """As strict as with one file: nothing is drawn at random because no file had it."""
    damage, message = SHARD_DAMAGE[kind]
    damage(shards[1])
    with pytest.raises(CheckpointError, match=message) as error:
        load_model(shards[1], any_vocabulary=True)
    assert "\n" not in str(error.value) and str(shards[1]) in str(error.value)


def test_stored_tables_of_rope_and_a_second_copy_of_a_tied_head_are_passed_over(tmp_path):
    """Old folders hold the frequencies, of each layer or once; some hold both ends of a tied model."""
    theirs = their_model(**KINDS["all of it"])
    theirs.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights["model.rotary_emb.inv_freq"] = torch.full((6,), torch.nan)
    weights["model.layers.1.self_attn.rotary_emb.inv_freq"] = torch.ones(6)
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    save_file(weights, tmp_path / "model.safetensors")
    ours = load_model(tmp_path, any_vocabulary=True)
    assert_same_logits(ours, theirs)
    assert ours.lm_head.weight is ours.model.embed_tokens.weight
    weights["lm_head.weight"][3, 3] += 1  # transformers would not tie them
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="though tie_word_embeddings is True"):
        load_model(tmp_path, any_vocabulary=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"attention_bias": True}, "attention_bias is True; accepted is False"),
        ({"mlp_bias": True}, "mlp_bias is True; accepted is False"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'; accepted is 'silu'"),
        ({"quantization_config": {"quant_method": "fp8"}}, "quantization_config is .*fp8"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling is .*linear"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, "yarn.*accepted are rope_type"),
        ({"num_key_value_heads": 4}, "num_key_value_heads is 4; accepted are divisors of .*, 6"),
        ({"head_dim": 7}, "head_dim is 7; accepted are even numbers"),
        ({"model_type": "mistral"}, "model_type is 'mistral'; accepted is 'llama'"),
    ],
)
def test_what_this_model_is_not_is_refused_by_name(tmp_path, settings, message):
    their_model().save_pretrained(tmp_path)
    change(tmp_path, **settings)
    with pytest.raises(CheckpointError, match=message) as error:
        load_model(tmp_path, any_vocabulary=True)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "command",
    ["train-rl --model theirs --steps 1", "make-pairs --source on-policy --model theirs"],
)
def test_commands_that_speak_the_books_characters_refuse_another_vocabulary(
    tmp_path, monkeypatch, capsys, command
):
    """Ids of one vocabulary read in another are nonsense that looks like a result."""
    monkeypatch.chdir(tmp_path)
    their_model().save_pretrained("theirs")
    with pytest.raises(CheckpointError, match="vocab_size is 61; accepted is 22"):
        load_model("theirs")
    assert main(command.split()) != 0
    said = capsys.readouterr()
    assert "vocab_size is 61; accepted is 22" in said.err and "Traceback" not in said.err


# ---------------------------------------------------------------- one model, every path

GROUPED = ModelConfig(
    hidden_size=24,
    intermediate_size=40,
    num_hidden_layers=2,
    num_attention_heads=6,
    num_key_value_heads=2,
    head_dim=8,
    max_position_embeddings=64,
    rope_scaling=RopeScaling(original_max_position_embeddings=32),
    tie_word_embeddings=True,
)
MODEL = small_model(3, GROUPED).double()


@settings(max_examples=40, deadline=None)
@given(batches())
def test_packed_rows_of_grouped_heads_are_plain_rows(batch):
    """Places of keys counted as if there were as many heads as of queries."""
    ids, mask = batch
    if mask.any():
        assert_equal(MODEL, ids, mask)
    else:
        assert completion_logps(MODEL, ids, mask).abs().max() == 0


def test_compiled_grouped_heads_give_the_same():
    if not can_compile("cpu"):
        pytest.skip("no compiler here")
    model, ids = small_model(1, GROUPED, scale=4.0), random_ids((8, 9)).view(4, 2, 9)
    ids[:, 1, :4] = ids[:, 0, :4]
    mask = (torch.arange(9) > 3).expand(4, 2, 9)
    eager = completion_logps(model, ids, mask)
    expected = gradients(model, eager)
    with compiled(model) as on:
        assert on
        fast = completion_logps(model, ids, mask)
        found = gradients(model, fast)
    assert (fast - eager).abs().max() < 1e-5 * max(1.0, float(eager.detach().abs().max()))
    for name, gradient in expected.items():
        assert (found[name] - gradient).abs().max() < 1e-5 * max(1.0, gradient.abs().max()), name


def test_grouped_heads_write_as_transformers_writes(tmp_path):
    """Batched sampling with a cache whose rows are permuted, thinned out and padded on the left."""
    transformers = pytest.importorskip("transformers", reason="parity needs the `test` extra")
    model, prompts = small_model(5, GROUPED), [f"S{n}=" for n in (54, -12, 7, 100, 0, -3)]
    save_model(model, tmp_path / "a.model")
    theirs = read_by_transformers(tmp_path / "a.model")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "a.model")
    batch = tokenizer(prompts, padding=True, return_tensors="pt", return_token_type_ids=False)
    written = theirs.generate(**batch, do_sample=False, max_new_tokens=12)
    texts = tokenizer.batch_decode(written[:, batch["input_ids"].shape[1] :])
    ours = generate(model, prompts, temperature=0, max_new_tokens=12)
    assert [text.split("E")[0] for text in texts] == [text.split("E")[0] for text in ours]
    alone = [generate(model, [p], temperature=0, max_new_tokens=12)[0] for p in prompts]
    assert alone == ours
    whole = torch.cat([score(model, [p], [t]) for p, t in zip(prompts, ours, strict=True)])
    assert torch.allclose(score(model, prompts, ours), whole, atol=1e-4)


def test_grouped_heads_keep_fewer_numbers():
    """The point of it: the projections and the cache shrink with the heads of keys."""
    model, cache = Llama(GROUPED).reset_parameters(0), KVCache()
    model(random_ids((3, 5)), cache=cache)
    shapes = {
        name: tuple(p.shape) for name, p in model.model.layers[0].self_attn.named_parameters()
    }
    assert shapes == {
        "q_proj.weight": (48, 24),
        "k_proj.weight": (16, 24),
        "v_proj.weight": (16, 24),
        "o_proj.weight": (24, 48),
    }
    assert cache.layers[0][0].shape == cache.layers[0][1].shape == (3, 2, 5, 8)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"num_key_value_heads": 0}, "num_key_value_heads is 0"),
        ({"num_key_value_heads": 3}, "num_key_value_heads is 3; accepted are divisors"),
        ({"num_key_value_heads": 8}, "num_key_value_heads is 8; accepted are divisors"),
        ({"num_key_value_heads": 2.0}, "num_key_value_heads is 2.0; accepted are whole numbers"),
        ({"head_dim": 5}, "head_dim is 5; accepted are even numbers"),
        ({"head_dim": True}, "head_dim is True; accepted are whole numbers"),
        ({"tie_word_embeddings": 1}, "tie_word_embeddings is 1; accepted are True and False"),
        ({"rope_scaling": {"factor": 8.0}}, "rope_scaling is .*; needed is a RopeScaling"),
        ({"hidden_size": 66, "head_dim": 16}, "multiple of num_attention_heads 4"),
    ],
)
def test_impossible_settings_are_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig(**sizes)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"factor": 0.5}, "factor is 0.5; accepted are numbers from 1"),
        ({"factor": float("nan")}, "factor is nan"),
        ({"low_freq_factor": 4.0}, "low_freq_factor is 4.0; accepted are numbers below"),
        ({"high_freq_factor": "4"}, "high_freq_factor is '4'; accepted are numbers"),
        ({"original_max_position_embeddings": 8.5}, "is 8.5; accepted are whole numbers"),
    ],
)
def test_impossible_stretches_are_refused(numbers, message):
    with pytest.raises(ValueError, match=message):
        RopeScaling(**numbers)


def test_settings_that_say_what_holds_anyway_change_nothing():
    """A folder names them, a program leaves them out: the same shape, the same place to save to."""
    assert ModelConfig() == ModelConfig(num_key_value_heads=4, head_dim=16)
    assert ModelConfig().num_key_value_heads == 4 and ModelConfig().head_dim == 16
