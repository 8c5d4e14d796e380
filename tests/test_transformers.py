"""Parity with transformers: a saved folder is a LlamaForCausalLM, and the other way round."""

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
        ({"num_key_value_heads": 1}, "num_key_value_heads"),
        ({"tie_word_embeddings": True}, "tie_word_embeddings"),
        ({"attention_bias": True}, "attention_bias"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"head_dim": 16}, "head_dim is 16; accepted is 12"),
        ({"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}}, "linear"),
    ],
)
def test_a_llama_of_another_shape_is_refused(tmp_path, changes, message):
    """What this model does not have must not be read as if it were not there."""
    their_model(**changes).save_pretrained(tmp_path / "theirs")
    with pytest.raises(CheckpointError, match=message):
        load_model(tmp_path / "theirs")
