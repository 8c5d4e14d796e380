"""Chapter 1: strings to ids and back, padding, and the mask that says what is learnt."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dpo_core.checkpoint import save_model
from dpo_core.tokenizer import VOCABULARY, CharTokenizer
from toys import small_model

TOKENIZER = CharTokenizer()
texts = st.text(alphabet=VOCABULARY, max_size=40)


@given(texts, texts)
def test_encode_is_a_homomorphism(x, y):
    """A token that spans characters would make the ids of prompt + completion differ from the two encoded alone."""
    assert TOKENIZER.encode(x) + TOKENIZER.encode(y) == TOKENIZER.encode(x + y)


@given(texts)
def test_decode_inverts_encode(text):
    """Decoders that skip special tokens or insert spaces lose the text; a tensor decodes as a list does."""
    ids = TOKENIZER.encode(text)
    assert TOKENIZER.decode(ids) == text
    assert TOKENIZER.decode(torch.tensor(ids)) == text


@given(st.lists(st.integers(0, 21)))
def test_encode_inverts_decode(ids):
    """Two characters with one id, or one with two, would break the bijection."""
    assert TOKENIZER.encode(TOKENIZER.decode(ids)) == ids


def test_ids_are_the_seeds_ids():
    """A reordered vocabulary makes every stored checkpoint speak gibberish."""
    assert VOCABULARY == "PSEU0123456789+-*/.:=_"
    assert (TOKENIZER.pad_id, TOKENIZER.bos_id, TOKENIZER.eos_id, TOKENIZER.unk_id) == (0, 1, 2, 3)
    assert TOKENIZER.vocab_size == 22
    assert TOKENIZER.encode("S54=27+27E") == [1, 9, 8, 20, 6, 11, 14, 6, 11, 2]


@pytest.mark.parametrize("text", ["S5 4=", "s54=", "27×27", "２", "٣", "5\n"])
def test_unknown_character_is_named(text):
    """A silent U in place of an unknown character trains on a text that nobody wrote."""
    culprit = next(character for character in text if character not in VOCABULARY)
    with pytest.raises(ValueError) as error:
        TOKENIZER.encode(text)
    assert repr(culprit) in str(error.value)
    assert VOCABULARY in str(error.value)


@pytest.mark.parametrize("index", [-1, 22, 1000])
def test_id_outside_the_vocabulary_is_named(index):
    """Python's negative index would decode -1 as the last character."""
    with pytest.raises(ValueError, match=f"unknown id {index}"):
        TOKENIZER.decode([1, index])


@pytest.mark.parametrize(
    ("side", "ids", "mask"),
    [
        ("right", [[1, 9, 2], [8, 0, 0]], [[1, 1, 1], [1, 0, 0]]),
        ("left", [[1, 9, 2], [0, 0, 8]], [[1, 1, 1], [0, 0, 1]]),
    ],
)
def test_pad_fills_one_side_and_marks_the_rest(side, ids, mask):
    """Padding on the wrong side puts P between prompt and completion."""
    found_ids, found_mask = TOKENIZER.pad([[1, 9, 2], [8]], side=side)
    assert found_ids.tolist() == ids and found_ids.dtype == torch.int64
    assert (
        found_mask.tolist() == [[bool(m) for m in row] for row in mask]
        and found_mask.dtype == torch.bool
    )


def test_mask_marks_positions_not_the_padding_character():
    """A mask computed as `ids != pad` hides a P that the text itself contains."""
    _, mask = TOKENIZER.pad([TOKENIZER.encode("SP=")])
    assert mask.all()


def test_pad_names_bad_input():
    """An empty list has no width; a misspelt side must not fall through to the right."""
    with pytest.raises(ValueError, match="no rows"):
        TOKENIZER.pad([])
    with pytest.raises(ValueError, match="'middle'"):
        TOKENIZER.pad([[1]], side="middle")


@given(st.lists(st.tuples(texts.filter(bool), texts), min_size=1, max_size=5))
def test_completion_mask_covers_the_completion_and_nothing_else(pairs):
    """Prompt tokens or padding in the loss, or the last E left out (TRL #734)."""
    prompts, completions = zip(*pairs)
    input_ids, mask = TOKENIZER.collate(prompts, completions)
    for row, (prompt, completion) in enumerate(pairs):
        width = input_ids.shape[1]
        gap = width - len(prompt) - len(completion)
        assert TOKENIZER.decode(input_ids[row]) == prompt + completion + "P" * gap
        assert (
            mask[row].tolist() == [False] * len(prompt) + [True] * len(completion) + [False] * gap
        )


def test_collate_worked_example():
    """The E of the completion is learnt: a model that never saw it marked never stops."""
    input_ids, mask = TOKENIZER.collate(["S54=", "S-1="], ["27+27E", "E"])
    assert [TOKENIZER.decode(row) for row in input_ids] == ["S54=27+27E", "S-1=EPPPPP"]
    assert mask.int().tolist() == [[0, 0, 0, 0, 1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 1, 0, 0, 0, 0, 0]]


def test_collate_refuses_lists_of_different_lengths():
    """`zip` without strict would drop the last prompt in silence."""
    with pytest.raises(ValueError):
        TOKENIZER.collate(["S1=", "S2="], ["1E"])


def test_stored_tokenizer_has_the_same_vocabulary(tmp_path):
    """A tokenizer.json written from another list would give transformers other ids than ours."""
    save_model(small_model(), tmp_path / "m")
    stored = json.loads((tmp_path / "m" / "tokenizer.json").read_text())
    assert stored["model"]["vocab"] == {
        character: index for index, character in enumerate(VOCABULARY)
    }
    special = {entry["content"]: entry["id"] for entry in stored["added_tokens"]}
    assert special == {"P": 0, "S": 1, "E": 2, "U": 3}
