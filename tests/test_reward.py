"""Chapters 5 and 12: the reward model, against transformers, one by one, and in training."""

import math
import re

import numpy as np
import pytest
import torch

from dpo_core.model import Llama
from dpo_core.reward import RewardModel, predict_rewards
from dpo_core.steps import reward_step
from dpo_core.tokenizer import CharTokenizer
from dpo_core.training import LoopConfig, train
from runs import pairs, same_bits
from toys import SMALL, small_model

TOKENIZER = CharTokenizer()
PROMPTS = [f"S{n}=" for n in (54, -12, 7, 100, 54, -3)]
# of different lengths; one without its E
COMPLETIONS = ["27+27-0E", "1-13E", "E", "99+1E", "54", "0-1-2E"]


def scored_model(seed: int = 0) -> RewardModel:
    """A reward model whose head is not zero: rewards of order 1 that differ from text to text."""
    model = RewardModel(small_model(seed))
    with torch.no_grad():
        model.score.weight.copy_(
            torch.randn(1, SMALL.hidden_size, generator=torch.Generator().manual_seed(seed))
        )
    return model


@pytest.fixture(scope="module")
def parity():
    """Our reward model, and theirs with the same weights."""
    transformers = pytest.importorskip("transformers", reason="parity needs the `test` extra")
    ours = scored_model()
    config = transformers.LlamaConfig(
        vocab_size=22,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        rms_norm_eps=1e-6,
        pad_token_id=TOKENIZER.pad_id,
        num_labels=1,
    )
    theirs = transformers.LlamaForSequenceClassification(config).eval()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    return ours, theirs


def test_state_dict_is_that_of_a_sequence_classifier(parity):
    """A name of one's own for the head, or a bias: the export would be a step."""
    ours, theirs = (
        {name: tensor.shape for name, tensor in model.state_dict().items()} for model in parity
    )
    assert ours == theirs


@torch.no_grad()
def test_rewards_equal_those_of_transformers(parity):
    """The token before E, the last column of the batch, or the mean over tokens: each is another number."""
    ours, theirs = parity
    ids, mask = TOKENIZER.collate(PROMPTS, COMPLETIONS)
    expected = theirs(ids, attention_mask=(ids != TOKENIZER.pad_id).long()).logits
    assert expected.shape == (6, 1) and expected.std() > 0.5
    assert torch.allclose(ours(ids, mask), expected.squeeze(-1), atol=1e-5)


def batch_of(rows: int = 20, soft: bool = True) -> dict[str, torch.Tensor]:
    """The first pairs of the training runs; the reference's log-probabilities are taken out."""
    batch = pairs(soft).batch(np.arange(rows))
    return {name: tensor for name, tensor in batch.items() if not name.startswith("ref")}


def test_it_starts_at_reward_zero_and_loss_ln_2():
    """A random head prefers something before it has read a single preference."""
    model = RewardModel(small_model())
    assert predict_rewards(model, PROMPTS, COMPLETIONS).tolist() == [0.0] * 6
    total, count = reward_step(model, batch_of())["loss"]
    assert (total.item() / count, count) == (pytest.approx(math.log(2), abs=1e-6), 20)


def test_it_starts_at_the_weights_of_the_language_model():
    """A backbone that is drawn anew learns preferences from nothing; the vocabulary's head stays behind."""
    base = small_model()
    weights = RewardModel(base).state_dict()
    assert weights.keys() - {"score.weight"} == base.state_dict().keys() - {"lm_head.weight"}
    assert all(
        torch.equal(weights[f"model.{name}"], tensor)
        for name, tensor in base.model.state_dict().items()
    )
    assert all(parameter.requires_grad for parameter in RewardModel(base).parameters())


@torch.no_grad()
def test_the_reward_is_read_at_the_last_marked_token():
    """Off by one, the first marked token, or the end of the row; the gaps of a mask do not matter."""
    model = scored_model()
    ids = torch.tensor([TOKENIZER.encode("S54=27+27E11")])
    for marked, last in (
        ([4, 5, 6, 7, 8, 9], 9),
        ([4, 5, 6], 6),
        ([4], 4),
        ([5, 8], 8),
        ([11], 11),
        ([0], 0),
    ):
        mask = torch.zeros(1, 12)
        mask[0, marked] = 1
        expected = model.score(model.model(ids[:, : last + 1])[:, -1]).item()
        for kind in (mask, mask.bool(), mask.long(), 5 * mask):
            assert model(ids, kind).item() == pytest.approx(expected, abs=1e-5)


@torch.no_grad()
def test_the_reward_depends_on_prompt_and_answer_and_on_nothing_after_it():
    """An answer judged without its question; or one that is judged by its padding."""
    model = scored_model()
    ids, mask = TOKENIZER.collate(["S54="], ["27+27E"])
    plain = model(ids, mask).item()
    other = [TOKENIZER.collate(["S55="], ["27+27E"]), TOKENIZER.collate(["S54="], ["27-27E"])]
    assert all(abs(model(*batch).item() - plain) > 1e-3 for batch in other)
    for tail in ("P", "PPPP", "123"):
        longer = torch.cat((ids, torch.tensor([TOKENIZER.encode(tail)])), 1)
        unmarked = torch.cat((mask, torch.zeros(1, len(tail), dtype=torch.bool)), 1)
        assert model(longer, unmarked).item() == pytest.approx(plain, abs=1e-5)


@torch.no_grad()
def test_a_batch_is_its_rows_one_by_one():
    """One row's last position used for all, or padding that leaks."""
    model = scored_model()
    one_by_one = [model(*TOKENIZER.collate([p], [c])).item() for p, c in zip(PROMPTS, COMPLETIONS)]
    assert np.std(one_by_one) > 0.5
    together = model(*TOKENIZER.collate(PROMPTS, COMPLETIONS))
    assert together.shape == (6,) and together.tolist() == pytest.approx(one_by_one, abs=1e-5)
    for batch_size in (1, 4, 6, 1024):
        found = predict_rewards(model, PROMPTS, COMPLETIONS, batch_size=batch_size)
        assert found.dtype == torch.float32 and not found.requires_grad
        assert found.tolist() == pytest.approx(one_by_one, abs=1e-5)


def test_no_texts_no_rewards():
    """An empty list is a list."""
    assert predict_rewards(scored_model(), [], []).shape == (0,)


IDS, MASK = TOKENIZER.collate(["S5=", "S12="], ["5E", "6+6E"])


@pytest.mark.parametrize(
    "mask",
    [
        MASK[:, 1:],
        MASK[:1],
        MASK[0],
        MASK * torch.tensor([[True], [False]]),
        torch.zeros_like(MASK),
    ],
)
def test_a_mask_without_a_completion_or_of_another_shape_is_refused(mask):
    """The argmax of an empty mask is position 0: a reward of the letter S, in silence."""
    shapes = re.escape(
        f"completion_mask {tuple(mask.shape)} marks a completion in every row of input_ids (2, 8)"
    )
    with pytest.raises(ValueError, match=shapes):
        scored_model()(IDS, mask)


@pytest.mark.parametrize(
    ("prompts", "completions", "message"),
    [
        (["S5="], [], "1 prompts and 0 completions"),
        (["S5="], ["x"], "'x'"),
        (["S5=", "S6="], ["5E", ""], "completion"),
        ([""], ["5E"], "prompt"),
        (["S5="], ["1" * 80], "positions"),
    ],
)
def test_unfit_texts_are_named(prompts, completions, message):
    """Lists of different lengths would pair answers with the wrong prompts; an empty prompt asks nothing."""
    with pytest.raises(ValueError, match=message):
        predict_rewards(scored_model(), prompts, completions)


CONFIG = LoopConfig(steps=30, learning_rate=0.003, warmup=2, log_every=1)


def trained(base: Llama, **changes) -> tuple[RewardModel, list[dict[str, float]]]:
    model, batch = RewardModel(base), batch_of(soft=False)
    config = LoopConfig(**{**vars(CONFIG), **changes})
    return model, train(model, lambda step: batch, reward_step, config, progress=False)


def test_training_lowers_the_loss_and_leaves_the_language_model_alone():
    """Weights that are shared with the base would train the very policy that is to be judged."""
    base = small_model()
    model, lines = trained(base)
    assert (
        lines[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
        and lines[0]["rewards/accuracies"] == 0.5
    )
    assert lines[-1]["loss"] < 0.8 * math.log(2)
    assert lines[-1]["rewards/accuracies"] > 0.7 and lines[-1]["rewards/margins"] > 0.1
    assert same_bits(base, small_model())
    moved = model.state_dict()
    assert moved["score.weight"].abs().max() > 0
    assert not any(
        torch.equal(moved[f"model.{name}"], tensor)
        for name, tensor in base.model.state_dict().items()
    )


@pytest.mark.parametrize("pieces", [3, 20])
def test_accumulated_pieces_equal_one_batch(pieces):
    """Pieces of 7, 7 and 6 pairs: a mean of their means, or a count of answers in place of pairs."""
    whole, one = trained(small_model(), steps=3)
    parts, many = trained(small_model(), steps=3, accumulate=pieces)
    for line, other in zip(one, many):
        numbers = line.keys() - {"seconds"}
        assert {k: line[k] for k in numbers} == pytest.approx(
            {k: other[k] for k in numbers}, rel=2e-4, abs=1e-5
        )
    for a, b in zip(whole.parameters(), parts.parameters()):
        assert torch.allclose(a, b, atol=2e-4)
