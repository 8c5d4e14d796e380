"""Parity with transformers: a saved folder is a LlamaForCausalLM, and the other way round."""

import json

import pytest
import torch

from dpo_core.checkpoint import CheckpointError, load_model, load_pretrained, save_model
from dpo_core.losses import sequence_logps
from dpo_core.model import Llama, ModelConfig
from dpo_core.sampling import generate
from dpo_core.tokenizer import VOCABULARY, CharTokenizer
from toys import SMALL, random_ids, small_model

transformers = pytest.importorskip("transformers", reason="parity needs the `test` extra")
TOKENIZER = CharTokenizer()
PROMPTS = [f"S{n}=" for n in (54, -12, 7, 100, 0, -3)]
ODD = ModelConfig(
    hidden_size=24,
    intermediate_size=40,
    num_hidden_layers=3,
    num_attention_heads=2,
    max_position_embeddings=40,
    rope_theta=500.0,
    rms_norm_eps=1e-3,
)
MODELS = {
    "random": lambda: small_model(),
    "odd sizes": lambda: small_model(config=ODD),
    "shipped gen": lambda: load_pretrained("gen"),
}


@pytest.fixture(scope="module", params=MODELS)
def pair(request, tmp_path_factory):
    """One of our models, and what transformers makes of its folder."""
    ours = MODELS[request.param]()
    folder = tmp_path_factory.mktemp("parity") / "a.model"
    save_model(ours, folder)
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True
    )
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return ours, theirs.eval(), folder


@torch.no_grad()
def test_logits_are_equal(pair):
    """RoPE layout, norm epsilon, θ or activation: each differs by far more than rounding."""
    ours, theirs, _ = pair
    ids = random_ids((4, 36))
    assert type(theirs).__name__ == "LlamaForCausalLM" and theirs.dtype == torch.float32
    assert (ours(ids) - theirs(ids).logits).abs().max() < 1e-5 * max(1.0, ours(ids).abs().max())


@torch.no_grad()
def test_logits_of_left_padded_rows_are_equal(pair):
    """With the positions that transformers' own `generate` computes from the mask."""
    ours, theirs, _ = pair
    ids, mask = TOKENIZER.pad([TOKENIZER.encode(p + "1+2") for p in PROMPTS], side="left")
    positions = (mask.long().cumsum(-1) - 1).clamp(min=0)
    expected = theirs(ids, attention_mask=mask.long(), position_ids=positions).logits
    assert (ours(ids, mask) - expected)[mask].abs().max() < 1e-5 * max(
        1.0, expected[mask].abs().max()
    )


def test_greedy_generation_is_equal(pair):
    """End to end: their tokenizer, their left padding, their cache, their stopping at E."""
    ours, theirs, folder = pair
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(PROMPTS, padding=True, return_tensors="pt", return_token_type_ids=False)
    written = theirs.generate(**batch, do_sample=False, max_new_tokens=12)[
        :, batch["input_ids"].shape[1] :
    ]
    texts = [text.split("E")[0] for text in tokenizer.batch_decode(written)]
    assert texts == [
        text.split("E")[0] for text in generate(ours, PROMPTS, temperature=0, max_new_tokens=12)
    ]


@torch.no_grad()
def test_log_probabilities_equal_their_loss(pair):
    """Their labels mask with -100 and shift inside; the mean times the count is our sum."""
    ours, theirs, _ = pair
    ids, mask = TOKENIZER.collate(PROMPTS[:1], ["27+27E"])
    loss = theirs(ids, labels=ids.masked_fill(~mask, -100)).loss
    assert sequence_logps(ours(ids), ids, mask).item() == pytest.approx(-6 * loss.item(), rel=1e-5)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """Our tokenizer as transformers reads it."""
    folder = tmp_path_factory.mktemp("tokenizer") / "a.model"
    save_model(small_model(), folder)
    return transformers.AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize(
    "text",
    [
        "S54=27+27E",
        "S-3.25=-1.25-2*1E",
        "PPS5=",
        "EEE",
        "SSEEPP",
        "S1=1E" * 5,
        "U",
        VOCABULARY,
        "",
        "12_:=*/",
    ],
)
def test_ids_and_strings_are_equal(tokenizer, text):
    """Specials added at the ends, spaces between characters (tokenizers #636), or specials swallowed by decoding."""
    ids = tokenizer.encode(text)
    assert ids == TOKENIZER.encode(text)
    assert tokenizer.decode(ids) == text == TOKENIZER.decode(ids)
    assert tokenizer(text)["input_ids"] == ids
    kept = [index for index in ids if index > 3]
    assert tokenizer.decode(ids, skip_special_tokens=True) == TOKENIZER.decode(kept)


def test_special_tokens_and_sizes_are_equal(tokenizer):
    """A trainer reads pad and end from here; a pad that is E drops E from the loss (TRL #734)."""
    found = (
        tokenizer.pad_token_id,
        tokenizer.bos_token_id,
        tokenizer.eos_token_id,
        tokenizer.unk_token_id,
    )
    assert found == (TOKENIZER.pad_id, TOKENIZER.bos_id, TOKENIZER.eos_id, TOKENIZER.unk_id)
    assert (len(tokenizer), tokenizer.model_max_length) == (22, SMALL.max_position_embeddings)
    assert tokenizer.get_vocab() == {character: index for index, character in enumerate(VOCABULARY)}


def test_padding_is_on_the_left(tokenizer):
    """Generation from a right-padded prompt continues the padding."""
    batch = tokenizer(["S5=", "S-12="], padding=True, return_tensors="pt")
    ids, mask = TOKENIZER.pad([TOKENIZER.encode("S5="), TOKENIZER.encode("S-12=")], side="left")
    assert torch.equal(batch["input_ids"], ids) and torch.equal(
        batch["attention_mask"], mask.long()
    )


def test_unknown_characters_become_u_there(tokenizer):
    """Theirs cannot raise: the id must be that of U, never that of a digit."""
    assert tokenizer.encode("5x٣ 4") == [9, 3, 3, 3, 8]


def test_state_dict_names_are_theirs():
    """A checkpoint *is* a LlamaForCausalLM folder: exporting is not a step."""
    config = transformers.LlamaConfig(
        vocab_size=22,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=128,
    )
    theirs = transformers.LlamaForCausalLM(config).state_dict()
    ours = Llama(ModelConfig()).state_dict()
    assert {name: tensor.shape for name, tensor in ours.items()} == {
        n: t.shape for n, t in theirs.items()
    }


def their_model(**changes):
    sizes = {
        "vocab_size": 22,
        "hidden_size": 24,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 48,
        "initializer_range": 0.3,
    }
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**{**sizes, **changes})).eval()


@torch.no_grad()
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 300.0}},
        {"rms_norm_eps": 1e-2},
    ],
)
def test_our_loader_reads_what_transformers_saved(tmp_path, changes):
    """θ has moved to `rope_parameters` in their version 5: reading the default in its place is silent."""
    theirs = their_model(**changes)
    theirs.save_pretrained(tmp_path / "theirs")
    ours, ids = load_model(tmp_path / "theirs"), random_ids((3, 40))
    expected = theirs(ids).logits
    assert (ours(ids) - expected).abs().max() < 1e-5 * max(1.0, expected.abs().max())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attention_bias": True}, "attention_bias is True; accepted is False"),
        ({"mlp_bias": True}, "mlp_bias is True; accepted is False"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'; accepted is 'silu'"),
        ({"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}}, "linear"),
    ],
)
def test_a_llama_of_another_shape_is_refused(tmp_path, changes, message):
    """What this model does not have must not be read as if it were not there."""
    their_model(**changes).save_pretrained(tmp_path / "theirs")
    with pytest.raises(CheckpointError, match=message):
        load_model(tmp_path / "theirs")


GONE = object()
ROPES = (
    {"rope_type": "default"},
    {"type": "default"},
    {"rope_type": "default", "rope_theta": 300.0},
    {"type": "default", "rope_theta": 300},
    {"rope_theta": 300.0},
    {"rope_type": "default", "type": "linear", "factor": 2.0},
    {"rope_type": "linear", "factor": 2.0},
    {"type": "linear", "factor": 2.0},
    {"type": "linear", "rope_theta": 300.0, "factor": 2.0},
    {"rope_type": "default", "type": "linear"},
    {"rope_type": "linear", "type": "default", "factor": 2.0},
    {"type": "dynamic", "factor": 2.0},
    {"rope_type": "yarn", "factor": 2.0},
    {"rope_type": "default", "partial_rotary_factor": 0.5},
    {"rope_type": "default", "original_max_position_embeddings": 16},
    {"rope_type": "default", "factor": 4.0},
    {"rope_type": None},
    {"rope_type": "default", "rope_theta": None},
    {"rope_type": "mrope", "mrope_section": [2, 2, 2]},
    {"full_attention": {"rope_type": "default", "rope_theta": 300.0}},
    {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    {
        "type": "llama3",
        "factor": 4,
        "low_freq_factor": 1,
        "high_freq_factor": 2,
        "original_max_position_embeddings": 16,
        "rope_theta": 50.0,
    },
    {},
    [],
    None,
    "default",
    False,
)
TABLE = {
    "as it is": {},
    **{
        f"{place}: {rope}{more}": {**dict.fromkeys(PLACES, GONE), place: rope, **more}
        for PLACES in [("rope_theta", "rope_parameters", "rope_scaling")]
        for place in PLACES[1:]
        for rope in ROPES
        for more in ({}, {"rope_theta": 500.0})
    },
    **{
        f"rope_scaling {one} beside rope_parameters {two}": {
            "rope_scaling": one,
            "rope_parameters": two,
        }
        for one in ROPES[:4] + ROPES[6:8] + ({}, None)
        for two in ROPES[:4] + ROPES[6:8] + ({}, None)
    },
    **{
        f"{name} is {value}": {name: value}
        for name, values in {
            "rope_theta": (300, 300.0, None, 1e6, "300", True),
            "partial_rotary_factor": (None, 1.0, 0.5),
            "original_max_position_embeddings": (None, 16),
            "head_dim": (None, 12, 6, 24, 0, True),
            "num_key_value_heads": (None, 2, 1, 0),
            "num_attention_heads": (2, 1, 4, None),
            "tie_word_embeddings": (None, True, False),
            "attention_bias": (None, True, False, 0),
            "mlp_bias": (None, True, False),
            "hidden_act": ("silu", "swish", "gelu", None),
            "rms_norm_eps": (1e-6, 1e-5, 1, 0, 0.5, None, "1e-5"),
            "max_position_embeddings": (48, 16, 4096),
            "sliding_window": (None, 4),
            "attention_dropout": (0.0, 0.5, None),
            "pretraining_tp": (1, 2),
            "layer_types": (["full_attention"] * 2, ["sliding_attention"] * 2),
            "dtype": ("float32", "bfloat16", "float16", None, "int8"),
            "torch_dtype": ("float32", "bfloat16", None),
            "architectures": (None, [], ["LlamaModel"], ["MistralForCausalLM"], "x"),
            "model_type": ("mistral", None, "Llama"),
            "use_cache": (False, None),
            "attn_implementation": ("eager",),
            "attention_multiplier": (2.0,),
            "logits_scaling": (2.0,),
            "logit_scale": (2.0,),
            "residual_multiplier": (2.0,),
            "embedding_multiplier": (2.0,),
            "final_logit_softcapping": (1.0,),
            "transformers_version": ("4.30.0", None),
            "quantization_config": (None, {"quant_method": "fp8"}),
            "auto_map": ({},),
            "is_causal": (True, False, None),
            "unknown": (1, {"a": [1]}, "x"),
        }.items()
        for value in values
    },
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder that transformers saved; its configuration is not the default in any number."""
    folder = tmp_path_factory.mktemp("table") / "theirs"
    their_model(
        rope_parameters={"rope_type": "default", "rope_theta": 700.0}, rms_norm_eps=1e-3
    ).save_pretrained(folder)
    return folder, json.loads((folder / "config.json").read_text())


def equal_or_refused(folder, config):
    """True if both read a folder and compute the same; False if we refuse it.

    Raises:
        AssertionError: we read it, and they do not, or otherwise.
    """
    (folder / "config.json").write_text(json.dumps(config))
    try:
        ours = load_model(folder)
    except CheckpointError as error:
        assert "\n" not in str(error)
        return False
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = random_ids((2, min(40, ours.config.max_position_embeddings)))
    with torch.no_grad():
        expected, found = theirs(ids).logits, ours(ids)
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()
    return True


TABLE["layers that look back a little"] = {
    "layer_types": ["sliding_attention"] * 2,
    "sliding_window": 4,
}
TABLE["layers that look back wholly"] = {"layer_types": ["full_attention"] * 2}
HARMLESS = {"use_cache is None", "rms_norm_eps is 1"}  # their types refuse it; it has no effect
READ = {
    "as it is",
    "rope_parameters: {'type': 'default'}{}",
    "rope_parameters: {'rope_theta': 300.0}{'rope_theta': 500.0}",
    "rope_scaling: {'type': 'default', 'rope_theta': 300}{}",
    "rope_scaling: None{'rope_theta': 500.0}",
    "num_key_value_heads is None",
    "head_dim is None",
    "max_position_embeddings is 16",
    "dtype is bfloat16",
    "unknown is x",
}


@pytest.mark.parametrize("kind", TABLE)
def test_a_configuration_is_read_as_transformers_reads_it_or_refused(saved, kind):
    """A spelling that they know and we pass over gives other logits without a word."""
    folder, config = saved
    edited = {name: v for name, v in {**config, **TABLE[kind]}.items() if v is not GONE}
    if kind in HARMLESS:
        (folder / "config.json").write_text(json.dumps(edited))
        assert load_model(folder)
    else:
        assert equal_or_refused(folder, edited) or kind not in READ


def test_a_configuration_without_one_of_its_settings_is_read_alike_or_refused(saved):
    """A default of theirs that is not ours."""
    folder, config = saved
    missing = {
        name: equal_or_refused(folder, {n: v for n, v in config.items() if n != name})
        for name in config
    }
    assert not missing["num_attention_heads"] and not missing["hidden_size"]
    assert missing["num_key_value_heads"] and missing["tie_word_embeddings"]
