"""Chapter 4: from logits to a draw, and from draws to completions."""

import math
from collections import Counter

import numpy as np
import pytest
import torch

from dpo_core.sampling import draw, generate, in_batches, next_token_probs, score
from dpo_core.tokenizer import CharTokenizer
from toys import memoryless_model, small_model

MODEL = small_model()
PROMPTS = [f"S{n}=" for n in (5, -12, 54, 5, 100, 7, -3, 54, 0)]
LOGITS = torch.tensor([[0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]]).log()


@pytest.mark.parametrize(
    ("settings", "first_row"),
    [
        ({}, [0.4, 0.3, 0.2, 0.1]),
        ({"temperature": 0}, [1, 0, 0, 0]),
        ({"temperature": 0.5}, [16 / 30, 9 / 30, 4 / 30, 1 / 30]),  # p² renormalised
        ({"top_k": 2}, [4 / 7, 3 / 7, 0, 0]),
        ({"top_k": 9}, [0.4, 0.3, 0.2, 0.1]),
        ({"top_p": 0.35}, [1, 0, 0, 0]),
        # 0.4 falls short of 0.5, so the second token is needed
        ({"top_p": 0.5}, [4 / 7, 3 / 7, 0, 0]),
        ({"top_p": 0.65}, [4 / 7, 3 / 7, 0, 0]),
        ({"top_p": 0.75}, [4 / 9, 3 / 9, 2 / 9, 0]),
        ({"top_p": 1.0}, [0.4, 0.3, 0.2, 0.1]),
        ({"top_k": 3, "top_p": 0.5}, [4 / 7, 3 / 7, 0, 0]),
        ({"top_k": 1, "top_p": 0.95}, [1, 0, 0, 0]),
        # the mass is counted after the temperature
        ({"temperature": 0.5, "top_p": 0.6}, [16 / 25, 9 / 25, 0, 0]),
    ],
)
def test_next_token_distribution_by_hand(settings, first_row):
    """Top-p that drops the token which crosses p, truncation without renormalising, rows sorted but not unsorted."""
    found = next_token_probs(LOGITS, **settings)
    assert found[0].tolist() == pytest.approx(first_row, abs=1e-6)
    assert found[1].flip(0).tolist() == pytest.approx(first_row, abs=1e-6)


@pytest.mark.parametrize("temperature", [1e-45, 1e-30, 1e-4])
def test_temperature_near_zero_is_greedy(temperature):
    """Dividing logits by 1e-45 gives inf - inf = NaN, and NaN an index outside the vocabulary."""
    assert torch.equal(next_token_probs(LOGITS, temperature), next_token_probs(LOGITS, 0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -0.1}, "temperature is -0.1"),
        ({"temperature": math.inf}, "temperature is inf"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"top_k": 0}, "top_k is 0"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_p": 1.1}, "top_p is 1.1"),
        ({"top_p": math.nan}, "top_p is nan"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
    ],
)
def test_settings_out_of_range_are_named(settings, message):
    """top_p = 0 keeps no token at all; a negative temperature prefers the worst."""
    with pytest.raises(ValueError, match=message):
        generate(MODEL, ["S5="], **settings)


def test_draw_is_the_inverse_of_the_cumulative_sum():
    """Bounds by hand: a token owns [F(before), F(after)); one of probability 0 owns nothing."""
    p = torch.tensor([0.0, 0.25, 0.0, 0.75, 0.0])
    u = torch.tensor([0.0, 0.2499, 0.25, 0.5, 0.99999994])
    assert draw(p.expand(5, -1), u).tolist() == [1, 1, 3, 3, 3]


def test_draw_stays_inside_the_vocabulary_when_rounding_loses_mass():
    """Probabilities that sum to 0.9999999 in float32, and the largest u below 1."""
    p = torch.full((1, 22), 1 / 22)
    p[0, -1] -= 1e-6
    assert draw(p, torch.tensor([1 - 2**-24])).item() == 21


def test_draw_frequencies_match_the_probabilities():
    """20,000 draws: a chi-square with 3 degrees of freedom beyond 20 would be chance of 2 in 10,000."""
    p, n = torch.tensor([0.1, 0.2, 0.3, 0.4]), 20_000
    u = torch.rand(n, generator=torch.Generator().manual_seed(0))
    counts = draw(p.expand(n, -1), u).bincount(minlength=4)
    assert ((counts - n * p) ** 2 / (n * p)).sum() < 20


def test_generated_tokens_follow_the_models_distribution():
    """A model that draws E half of the time and digits otherwise: lengths are geometric, digits as given."""
    model = memoryless_model({"E": 0.5, "1": 0.3, "2": 0.2})
    completions = generate(model, ["S5="] * 20_000, seed=1)
    lengths = Counter(len(text) for text in completions)
    for length in (1, 2, 3):
        assert lengths[length] / 20_000 == pytest.approx(0.5**length, abs=0.012)
    written = Counter("".join(completions))
    assert set(written) == set("E12")
    assert written["1"] / (written["1"] + written["2"]) == pytest.approx(0.6, abs=0.015)


def test_greedy_decoding_follows_the_largest_logit():
    """An independent loop: no cache, no padding, no batch."""
    tokenizer = CharTokenizer()
    for prompt, found in zip(PROMPTS, generate(MODEL, PROMPTS, temperature=0, max_new_tokens=8)):
        ids = tokenizer.encode(prompt)
        with torch.no_grad():
            for _ in range(8):
                ids.append(int(MODEL(torch.tensor([ids]))[0, -1].argmax()))
                if ids[-1] == tokenizer.eos_id:
                    break
        assert found == tokenizer.decode(ids)[len(prompt) :]


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.7}, {"top_k": 3}, {"top_p": 0.8}])
def test_draws_do_not_depend_on_the_batch_size(settings):
    """One stream of chance shared by the rows of a batch makes an evaluation depend on memory."""
    whole = generate(MODEL, PROMPTS, seed=3, max_new_tokens=12, **settings)
    assert len(set(whole)) > 3
    for batch_size in (1, 2, 4):
        assert (
            generate(MODEL, PROMPTS, seed=3, max_new_tokens=12, batch_size=batch_size, **settings)
            == whole
        )


def test_a_longer_list_begins_with_the_same_completions():
    """Row i's chance must not depend on how many rows follow."""
    whole = generate(MODEL, PROMPTS * 3, seed=5, max_new_tokens=12)
    for n in (1, 4, len(PROMPTS)):
        assert generate(MODEL, (PROMPTS * 3)[:n], seed=5, max_new_tokens=12) == whole[:n]


def test_a_prompt_that_occurs_twice_is_answered_twice():
    """Reading each distinct prompt once must not copy its answer; nor must a seed repeat another's."""
    same = generate(MODEL, ["S5="] * 40, seed=0, max_new_tokens=12)
    assert len(set(same)) > 10
    assert generate(MODEL, ["S5="] * 40, seed=1, max_new_tokens=12) != same
    assert generate(MODEL, ["S5="] * 40, seed=0, max_new_tokens=12) == same


def test_completions_stop_at_the_first_e_or_at_the_limit():
    """Text after E is noise of a row that waits for the others."""
    completions = generate(MODEL, PROMPTS * 10, seed=0, max_new_tokens=6, temperature=3.0)
    assert any(text.endswith("E") and len(text) < 6 for text in completions)
    assert any("E" not in text for text in completions)
    for text in completions:
        assert len(text) <= 6
        assert "E" not in text[:-1]
        assert text.endswith("E") or len(text) == 6


def test_generate_leaves_the_callers_random_state_alone():
    """Sampling in the middle of a training would otherwise change the training."""
    torch.manual_seed(0)
    np.random.seed(0)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    generate(MODEL, PROMPTS, max_new_tokens=4)
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == numpy_before).all()


@pytest.mark.parametrize(
    ("prompts", "message"),
    [(["S5=", ""], "empty prompt"), (["S5 ="], "' '"), (["S" + "1" * 80 + "="], "positions")],
)
def test_unfit_prompts_are_named(prompts, message):
    """Unknown characters, nothing to read, and more than the model can hold."""
    with pytest.raises(ValueError, match=message):
        generate(MODEL, prompts)


def test_no_prompts_no_completions():
    """An empty list is a list."""
    assert generate(MODEL, []) == []
    assert score(MODEL, [], []).shape == (0,)


def test_score_is_the_sum_of_token_log_probabilities():
    """An independent loop, one text and one token at a time: padding, order and batch size change nothing."""
    tokenizer = CharTokenizer()
    completions = ["5+0E", "1-13E", "E", "2+3", "100E", "", "3*2+1E", "27+27-0E", "0E"]
    expected = []
    with torch.no_grad():
        for prompt, completion in zip(PROMPTS, completions):
            ids, total = tokenizer.encode(prompt), 0.0
            for token in tokenizer.encode(completion):
                total += math.log(MODEL(torch.tensor([ids]))[0, -1].double().softmax(-1)[token])
                ids.append(token)
            expected.append(total)
    for batch_size in (1, 4, 1024):
        found = score(MODEL, PROMPTS, completions, batch_size=batch_size)
        assert found.tolist() == pytest.approx(expected, abs=2e-5)


def test_score_in_closed_form():
    """log(0.3² · 0.2 · 0.5) for 112E under a model without memory."""
    model = memoryless_model({"E": 0.5, "1": 0.3, "2": 0.2})
    found = score(model, ["S5=", "S-77="], ["112E", "E"])
    assert found.tolist() == pytest.approx(
        [math.log(0.3 * 0.3 * 0.2 * 0.5), math.log(0.5)], abs=1e-5
    )


@pytest.mark.parametrize(
    ("prompts", "completions", "message"),
    [
        (["S5="], [], "1 prompts and 0 completions"),
        ([""], ["1E"], "empty prompt"),
        (["S5="], ["x"], "'x'"),
    ],
)
def test_score_names_unfit_texts(prompts, completions, message):
    """Lists of different lengths would pair answers with the wrong prompts."""
    with pytest.raises(ValueError, match=message):
        score(MODEL, prompts, completions)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_in_batches_gives_the_value_of_every_row_in_order(batch_size):
    """A last batch that is dropped when it is short, rows in another order, or prompts marked as completions."""
    prompts, completions = (
        ["S5=", "S-12=", "S7=", "S100=", "S0="],
        ["5E", "1-13E", "E", "99+1E", ""],
    )
    sizes = []

    def value(ids, mask):
        assert ids.shape == mask.shape and not torch.is_grad_enabled()
        sizes.append(len(ids))
        return (ids > 0).sum(-1) + 100.0 * mask.sum(-1)

    found = in_batches(
        value, prompts, completions, torch.device("cpu"), batch_size=batch_size, progress=False
    )
    assert found.tolist() == [len(p + c) + 100.0 * len(c) for p, c in zip(prompts, completions)]
    assert sizes == [min(batch_size, 5 - start) for start in range(0, 5, batch_size)]


def test_in_batches_of_nothing_calls_nothing():
    """An empty list is a list; lists of different lengths are not a shorter one."""
    cpu = torch.device("cpu")
    assert in_batches(None, [], [], cpu, batch_size=4, progress=False).shape == (0,)
    with pytest.raises(ValueError, match="2 prompts and 1 completions; they must pair up"):
        in_batches(None, ["S5=", "S6="], ["5E"], cpu, batch_size=4, progress=False)


def test_padding_stays_finite_where_autocast_rounds_to_bfloat16():
    """The smallest float32 is -inf in bfloat16: a padded row saw nothing, and made NaN of every answer."""
    with torch.autocast("cpu", torch.bfloat16):
        answers = generate(small_model(), ["S7=", "S107=", "S-12="], max_new_tokens=4)
    assert len(answers) == 3
