"""Chapter 2: the Llama's invariances, each of which a common bug breaks."""

import pytest
import torch

from dpo_core.model import KVCache, Llama, ModelConfig, apply_rope, rope_tables
from dpo_core.tokenizer import CharTokenizer
from toys import SMALL, random_ids, small_model

MODEL = small_model()


@torch.no_grad()
def logits(ids, mask=None, cache=None):
    return MODEL(ids, mask, cache)


def test_a_later_token_changes_no_earlier_logits():
    """Causality: a mask off by one lets position t see token t + 1, and training finds a loss of zero."""
    ids = random_ids((1, 10))
    before = logits(ids)
    for changed in range(10):
        other = ids.clone()
        other[0, changed] = ids[0, changed] % 21 + 1
        after = logits(other)
        assert torch.equal(before[:, :changed], after[:, :changed])
        # every later position sees it
        assert (before[:, changed:] - after[:, changed:]).abs().amax(-1).min() > 1e-4


def test_rope_scores_depend_on_the_distance_alone():
    """Angles that do not grow linearly, or halves paired wrongly, tie scores to absolute positions."""
    cos, sin = (table.double() for table in rope_tables(128, 8, 10_000.0))
    query, key = torch.randn(
        2, 1, 1, 1, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )

    def dot(m, n):
        rows = (
            apply_rope(query, cos[m : m + 1], sin[m : m + 1]),
            apply_rope(key, cos[n : n + 1], sin[n : n + 1]),
        )
        return float((rows[0] * rows[1]).sum())

    for distance in (0, 1, 5, -3):
        assert dot(10, 10 - distance) == pytest.approx(dot(100, 100 - distance), abs=1e-4)
    assert abs(dot(10, 9) - dot(10, 5)) > 0.01


def test_rope_keeps_lengths_and_turns_the_first_pair_by_one_radian_a_position():
    """A sign slip in the rotation, or a frequency of 1/θ where 1 is right."""
    cos, sin = rope_tables(4, 8, 10_000.0)
    x = torch.zeros(1, 1, 4, 8)
    x[..., 0] = 1.0
    turned = apply_rope(x, cos, sin)[0, 0]
    positions = torch.arange(4.0)
    assert torch.allclose(turned[:, 0], positions.cos(), atol=1e-6)
    # pair (i, i + K/2), counter-clockwise
    assert torch.allclose(turned[:, 4], positions.sin(), atol=1e-6)
    assert torch.allclose(turned.norm(dim=-1), torch.ones(4), atol=1e-6)


def test_the_order_of_the_prompt_matters():
    """Without positions attention is a bag of tokens: S54= and S45= would read the same."""
    tokenizer = CharTokenizer()
    a, b = (logits(torch.tensor([tokenizer.encode(text)]))[0, -1] for text in ("S54=", "S45="))
    assert (a - b).abs().max() > 0.01


def test_a_left_padded_row_equals_the_row_alone():
    """Padding that is attended to, or that shifts some of the positions and not the others (TRL #6800: 34 nats)."""
    short, long = random_ids((1, 4), seed=1), random_ids((1, 9), seed=2)
    ids = torch.cat((torch.cat((torch.zeros(1, 5, dtype=torch.long), short), 1), long))
    mask = torch.tensor([[0] * 5 + [1] * 4, [1] * 9])
    both = logits(ids, mask)
    assert torch.allclose(both[:1, 5:], logits(short), atol=1e-5)
    assert torch.allclose(both[1:], logits(long), atol=1e-5)
    assert (logits(ids)[:1, 5:] - logits(short)).abs().max() > 0.01  # the mask is what does it


def test_a_right_padded_row_equals_the_row_alone():
    """No real token looks to its right, so training needs no mask; one that does would see P."""
    short = random_ids((1, 4), seed=1)
    padded = torch.cat((short, torch.zeros(1, 5, dtype=torch.long)), 1)
    mask = torch.tensor([[1] * 4 + [0] * 5])
    assert torch.allclose(logits(padded)[:, :4], logits(short), atol=1e-5)
    assert torch.allclose(logits(padded, mask)[:, :4], logits(short), atol=1e-5)


def test_padding_alone_stays_finite():
    """A softmax over nothing but -inf is NaN, and NaN spreads to every row through the gradient."""
    ids = random_ids((2, 5))
    mask = torch.tensor([[0] * 5, [1] * 5])
    assert logits(ids, mask).isfinite().all()


def test_a_batch_equals_its_rows():
    """Rows that leak into each other: a norm or a softmax over the wrong axis."""
    ids = random_ids((6, 11))
    together = logits(ids)
    alone = torch.cat([logits(row[None]) for row in ids])
    assert torch.allclose(together, alone, atol=1e-6 * together.abs().max())


@pytest.mark.parametrize("left", [0, 3])
@pytest.mark.parametrize("chunks", [(1,) * 9, (4, 1, 4), (8, 1)])
def test_cached_logits_equal_uncached(left, chunks):
    """Positions that start at 0 again with each call, or a causal mask of the wrong corner."""
    ids = random_ids((2, 9), seed=3)
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[0, :left] = False
    whole, cache, start, parts = logits(ids, mask), KVCache(), 0, []
    for size in chunks:
        parts.append(logits(ids[:, start : start + size], mask[:, : start + size], cache))
        start += size
        assert cache.length == start
    cached = torch.cat(parts, 1)
    assert torch.allclose(cached[0, left:], whole[0, left:], atol=1e-5)
    assert torch.allclose(cached[1], whole[1], atol=1e-5)


def test_a_cache_that_outgrows_its_room_forgets_nothing():
    """Room is made in steps; what stood in the smaller room must stand in the larger one."""
    ids, cache = random_ids((2, 40), seed=6), KVCache()
    parts = [logits(ids[:, t : t + 1], cache=cache) for t in range(40)]
    assert torch.allclose(torch.cat(parts, 1), logits(ids), atol=1e-5)
    assert cache.layers[1][0].shape == (2, 2, 40, 8)


def test_selected_cache_rows_continue_as_their_originals():
    """Reading a shared prompt once: a cache whose rows are permuted on one side only answers for another prompt."""
    ids, step = random_ids((3, 5), seed=4), random_ids((4, 1), seed=5)
    rows = torch.tensor([2, 0, 2, 1])
    cache = KVCache()
    logits(ids, cache=cache)
    cache.select(rows)
    assert torch.allclose(
        logits(step, cache=cache), logits(torch.cat((ids[rows], step), 1))[:, -1:], atol=1e-5
    )


def test_the_books_model_has_118080_parameters():
    """Tied embeddings, biases or a forgotten projection; the tables of RoPE are no parameters."""
    model = Llama(ModelConfig())
    assert sum(parameter.numel() for parameter in model.parameters()) == 118_080
    width, inner = 64, 64
    layer = 4 * width * width + 3 * width * inner + 2 * width
    assert 2 * 22 * width + 4 * layer + width == 118_080
    assert sum(tensor.numel() for tensor in model.state_dict().values()) == 118_080


def test_reset_is_a_pure_function_of_the_seed():
    """Weights drawn from the global generator differ with whatever ran before."""
    first = Llama(SMALL).reset_parameters(1).state_dict()
    torch.rand(3)
    again, other = (
        Llama(SMALL).reset_parameters(1).state_dict(),
        Llama(SMALL).reset_parameters(2).state_dict(),
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    matrices = [name for name in first if first[name].dim() == 2]
    assert not any(torch.equal(first[name], other[name]) for name in matrices)
    assert all((first[name] == 1).all() for name in first.keys() - set(matrices))
    spread = torch.cat([first[name].flatten() for name in matrices]).std()
    assert spread == pytest.approx(0.02, rel=0.05)


def test_a_fresh_model_is_nearly_uniform():
    """An initial loss far from ln 22 = 3.09 nats means a scale gone wrong."""
    with torch.no_grad():
        logps = Llama(ModelConfig()).reset_parameters(0)(random_ids((8, 12))).log_softmax(-1)
    assert -logps.mean() == pytest.approx(3.09, abs=0.05)


def test_more_positions_than_the_model_has():
    """Indexing the tables past their end, or reading the last row again, gives nonsense without an error."""
    whole = logits(random_ids((1, 64)))
    # the last one is usable
    assert torch.allclose(logits(random_ids((1, 64)), torch.ones(1, 64)), whole, atol=1e-5)
    with pytest.raises(ValueError, match="65 positions; the model has 64"):
        logits(random_ids((1, 65)))
    cache = KVCache()
    logits(random_ids((1, 60)), cache=cache)
    with pytest.raises(ValueError, match="65 positions"):
        logits(random_ids((1, 5)), cache=cache)


def test_a_mask_of_another_shape_is_refused():
    """A mask of the new tokens alone would broadcast over the cached ones."""
    cache = KVCache()
    logits(random_ids((2, 4)), cache=cache)
    with pytest.raises(ValueError, match=r"\(2, 1\); needed is \(2, 5\)"):
        logits(random_ids((2, 1)), torch.ones(2, 1), cache)


def test_an_id_outside_the_vocabulary_is_refused():
    """Out-of-range ids must not wrap around."""
    with pytest.raises(IndexError):
        logits(torch.tensor([[22]]))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"hidden_size": 0}, "hidden_size is 0"),
        ({"num_hidden_layers": -1}, "num_hidden_layers is -1"),
        ({"num_attention_heads": 3}, "num_attention_heads 3"),
        ({"hidden_size": 12, "num_attention_heads": 4}, "even multiple"),
        ({"rope_theta": float("nan")}, "rope_theta is nan"),
    ],
)
def test_impossible_sizes_are_refused(sizes, message):
    """Heads of odd width cannot be rotated in pairs; the error must come before any tensor is made."""
    with pytest.raises(ValueError, match=message):
        ModelConfig(**sizes)
