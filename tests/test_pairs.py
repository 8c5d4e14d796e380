"""Preference pairs: labels, storage, batches, and the check at the start."""

import itertools
import json
from collections import Counter
from dataclasses import fields

import numpy as np
import pytest
import torch

from dpo_core.checkpoint import load_pretrained
from dpo_core.pairs import Pairs, check_same_start, content_hash, read_pairs, with_reference
from dpo_core.preferences import classic_pairs, label, on_policy_pairs
from dpo_core.sampling import TOKENIZER, generate, score
from dpo_core.task import ClassicTask, judge, make_task, stream
from dpo_core.theory import class_rewards
from toys import memoryless_model, small_model

GAPS = np.array([2.0, 1.0, 0.0, -1.0, -2.0])
SIGMOID = 1 / (1 + np.exp(-GAPS))


def ten_pairs(model=None) -> Pairs:
    prompts = [f"S{n}=" for n in range(10)]
    chosen, rejected = [f"{n}+0-0E" for n in range(10)], [f"{n}+1E" for n in range(10)]
    return with_reference(model or small_model(), prompts, chosen, rejected, [1.0] * 5 + [0.75] * 5)


def test_soft_labels_are_the_bradley_terry_probability_of_the_chosen():
    """σ(gap) by hand: .881, .731, .5; a swapped pair keeps its probability at least one half."""
    swap, probability, kept = label(GAPS, "soft", stream("test", 0))
    assert swap.tolist() == [False, False, False, True, True]
    assert probability == pytest.approx([0.880797, 0.731059, 0.5, 0.731059, 0.880797], abs=1e-6)
    assert kept.all()


def test_sampled_labels_are_drawn_with_the_bradley_terry_probability():
    """One draw a pair, hard afterwards: the share of unswapped pairs is σ(gap), for negative gaps too."""
    n = 20_000
    swap, probability, kept = label(np.repeat(GAPS, n), "sampled", stream("test", 0))
    assert (probability == 1).all() and kept.all()
    assert 1 - swap.reshape(-1, n).mean(1) == pytest.approx(SIGMOID, abs=0.012)


def test_deterministic_labels_let_the_better_answer_win_and_drop_ties():
    """A tie called a win teaches the policy its own noise."""
    swap, probability, kept = label(GAPS, "deterministic", stream("test", 0))
    assert swap.tolist() == [False, False, False, True, True]
    assert kept.tolist() == [True, True, False, True, True]
    assert (probability == 1).all()


def test_unknown_labels_are_named():
    """A misspelt kind of label must not fall through to another."""
    with pytest.raises(ValueError, match="'hard'; accepted are soft, sampled, deterministic"):
        label(GAPS, "hard", stream("test", 0))


@pytest.mark.parametrize("labels", ["soft", "sampled", "deterministic"])
@pytest.mark.parametrize("reward", ["style", "style+exact"])
def test_on_policy_pairs_say_what_the_judge_says(labels, reward):
    """Swapping the texts but not the label, pairing answers to different prompts, or judging by another reward."""
    base, task, n = load_pretrained("gen"), make_task("book"), 300
    made = on_policy_pairs(base, task, n, reward=reward, labels=labels, seed=1)
    worth = class_rewards(reward)
    gaps = []
    for prompt, chosen, rejected in zip(made.prompt, made.chosen, made.rejected):
        verdicts = judge(prompt, chosen), judge(prompt, rejected)
        gaps.append(
            worth[int(verdicts[0].style), int(verdicts[0].exact)]
            - worth[int(verdicts[1].style), int(verdicts[1].exact)]
        )
    gaps = np.array(gaps)
    if labels == "soft":
        assert made.preference_prob == pytest.approx(1 / (1 + np.exp(-gaps)))
        assert len(made) == n and (gaps >= 0).all() and (gaps == 0).any() and (gaps > 0).any()
    else:
        assert set(made.preference_prob) == {1.0}
        assert (gaps < 0).any() == (labels == "sampled")
        assert (len(made) < n and (gaps > 0).all()) == (labels == "deterministic")
    assert {len(getattr(made, field.name)) for field in fields(made)} == {len(made)}
    assert Counter(made.prompt) <= Counter(task.demonstrations(n, stream("pairs", 1))[0])
    fresh = score(base, made.prompt, made.chosen)
    assert torch.allclose(torch.tensor(made.ref_chosen_logps), fresh, atol=2e-5)


def test_every_kind_of_label_speaks_about_the_same_prompts():
    """Kinds of label are compared on the same pairs: a check that draws from their stream shifts all prompts by one."""
    made = {
        labels: on_policy_pairs(small_model(), make_task("book"), 20, labels=labels)
        for labels in ("soft", "sampled")
    }
    assert (
        made["soft"].prompt
        == made["sampled"].prompt
        == make_task("book").demonstrations(20, stream("pairs", 0))[0]
    )


def test_only_second_answers_are_drawn_at_the_temperatures_in_turn():
    """At temperature 0 a model that says E with 0.4 always says it second; the first keeps its own distribution."""
    base, n = memoryless_model({"E": 0.4, "1": 0.35, "2": 0.25}), 1000
    # all malformed, so nothing is swapped
    made = on_policy_pairs(base, make_task("book"), n, temperatures=(0.0, 1.0))
    assert set(made.rejected[::2]) == {"E"}
    assert made.rejected[1::2].count("E") / (n / 2) == pytest.approx(0.4, abs=0.07)
    assert made.chosen.count("E") / n == pytest.approx(0.4, abs=0.05)


def test_second_answers_are_answers_to_their_own_prompts():
    """Temperatures in turn, prompts out of turn: each answer goes to its neighbour's question."""
    base = small_model()
    # all malformed: nothing is swapped
    made = on_policy_pairs(base, make_task("book"), 12, temperatures=(0.0, 0.0, 0.0))
    assert (
        made.rejected == generate(base, made.prompt, temperature=0) and len(set(made.rejected)) > 3
    )


def test_no_two_draws_share_their_chance():
    """One seed for two temperatures, or for both answers: pairs that repeat each other."""
    base, half = memoryless_model({"E": 0.4, "1": 0.35, "2": 0.25}), 100
    # all malformed: nothing is swapped
    made = on_policy_pairs(base, make_task("book"), 2 * half, temperatures=(1.0, 1.0))
    draws = made.chosen[:half], made.rejected[::2], made.rejected[1::2]
    for one, other in itertools.combinations(draws, 2):
        # independent ones agree in a fifth of the rows
        assert np.mean([a == b for a, b in zip(one, other)]) < 0.5


def test_sampled_labels_do_not_follow_the_prompts():
    """Labels drawn with the numbers that drew the prompts: the question decides which answer wins."""
    base, n = memoryless_model({"E": 0.4, "1": 0.35, "2": 0.25}), 1000
    # all malformed: a coin each
    made = on_policy_pairs(base, make_task("book"), n, labels="sampled", temperatures=(0.0,))
    decided = np.array([a != b for a, b in zip(made.chosen, made.rejected)])
    # the second answer, which is always E
    swapped = np.array([text == "E" for text in made.chosen])
    chance = stream("pairs", 0).random(n)  # that of the prompts
    assert swapped[decided].mean() == pytest.approx(0.5, abs=0.08)
    assert abs(np.corrcoef(chance[decided], swapped[decided])[0, 1]) < 0.15


def test_pairs_are_a_pure_function_of_the_seed():
    """Reusing stored pairs is right only if making them again gives the same."""
    base, task = small_model(), make_task("book")
    first, again, other = (on_policy_pairs(base, task, 20, seed=seed) for seed in (0, 0, 1))
    assert first == again != other


def test_bad_settings_are_named_before_any_sampling():
    """A minute of sampling, then an error about a word, is a minute lost."""
    untouchable = None  # would fail at the first attribute
    for settings, message in (({"reward": "length"}, "'length'"), ({"labels": "hard"}, "'hard'")):
        with pytest.raises(ValueError, match=message):
            on_policy_pairs(untouchable, make_task("book"), 4, **settings)
    for make, task in ((on_policy_pairs, make_task("book")), (classic_pairs, ClassicTask())):
        with pytest.raises(ValueError, match="pairs is 0"):
            make(untouchable, task, 0)


def test_classic_pairs_prefer_a_right_expression_of_three_numbers_to_an_empty_answer():
    """The seed's pairs, as they were."""
    task = ClassicTask()
    made = classic_pairs(small_model(), task, 50)
    assert set(made.rejected) == {"E"} and set(made.preference_prob) == {1.0}
    assert made.prompt != classic_pairs(small_model(), task, 50, seed=1).prompt
    for prompt, chosen in zip(made.prompt, made.chosen):
        verdict = judge(prompt, chosen, task.tolerance)
        assert verdict.exact and verdict.style


def test_stored_pairs_come_back_exactly(tmp_path):
    """Log-probabilities printed to six digits would move step 0 away from ln 2."""
    made, path = ten_pairs(), tmp_path / "pairs.jsonl"
    made.write(path)
    assert read_pairs(path) == made
    assert list(tmp_path.iterdir()) == [path]
    # TRL's columns
    assert set(json.loads(path.read_text().splitlines()[0])) >= {"prompt", "chosen", "rejected"}


@pytest.mark.parametrize("damage", ["{", "[]", "3", '{"prompt": "S1="}', ""])
def test_a_damaged_line_is_named(tmp_path, damage):
    """A file cut in the middle of a line must not train on what is left of it."""
    path = tmp_path / "pairs.jsonl"
    ten_pairs().write(path)
    lines = path.read_text().splitlines()
    lines[3] = damage
    path.write_text("\n".join(lines))
    with pytest.raises(ValueError, match="line 4, is not a pair") as error:
        read_pairs(path)
    assert "\n" not in str(error.value)


def test_a_batch_holds_the_rows_it_was_asked_for():
    """Chosen and rejected exchanged, a mask over the prompt, or log-probabilities of other rows."""
    made = ten_pairs()
    batch = made.batch(np.array([7, 2]))
    assert batch["chosen_ids"].shape == batch["rejected_ids"].shape
    for i, row in enumerate((7, 2)):
        for kind in ("chosen", "rejected"):
            ids, mask = batch[f"{kind}_ids"][i], batch[f"{kind}_mask"][i]
            text = "".join("PSEU0123456789+-*/.:=_"[index] for index in ids)
            assert text.rstrip("P") == made.prompt[row] + getattr(made, kind)[row]
            assert "".join(c for c, m in zip(text, mask) if m) == getattr(made, kind)[row]
            assert batch[f"ref_{kind}_logps"][i] == pytest.approx(
                getattr(made, f"ref_{kind}_logps")[row]
            )
        assert batch["preference_prob"][i] == made.preference_prob[row]


def test_a_batch_keeps_the_beginning_and_the_end_of_every_row():
    """A rectangle cut to a width: from the left, short rows keep padding alone (TRL #3382); from the right, no E."""
    chosen, rejected = ["1" + "+1" * 55 + "E", "3+4E"], ["E", "4" + "-1" * 40 + "E"]
    batch = Pairs(["S56=", "S7="], chosen, rejected, [1.0] * 2, [0.0] * 2, [0.0] * 2).batch(
        np.arange(2)
    )
    for kind, texts in (("chosen", chosen), ("rejected", rejected)):
        for ids, mask, text in zip(batch[f"{kind}_ids"], batch[f"{kind}_mask"], texts):
            assert TOKENIZER.decode(ids[mask]) == text


def test_hard_labels_send_no_probabilities():
    """`preference_prob` of ones would forbid label smoothing."""
    made = ten_pairs()
    hard = Pairs(
        made.prompt,
        made.chosen,
        made.rejected,
        [1.0] * 10,
        made.ref_chosen_logps,
        made.ref_rejected_logps,
    )
    assert made.soft and not hard.soft
    assert "preference_prob" not in hard.batch(np.arange(3))


def test_batches_cover_an_epoch_once_and_are_pure():
    """A batch that depends on which batches came before cannot be resumed; sampling with replacement misses pairs."""
    made = ten_pairs()
    batch_at = made.batches(3, seed=5)

    def targets(step, source=batch_at):
        return [int(ids[1]) for ids in source(step)["chosen_ids"]]  # the digit after S

    epochs = [
        [target for step in range(3 * e, 3 * e + 3) for target in targets(step)] for e in range(4)
    ]
    for epoch in epochs:
        assert len(set(epoch)) == 9
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert len(set().union(*epochs)) == 10  # the one left out is another one each time
    assert [targets(step, made.batches(3, seed=5)) for step in (7, 2)] == [targets(7), targets(2)]
    assert [targets(step, made.batches(3, seed=6)) for step in range(3)] != [
        targets(step) for step in range(3)
    ]


def test_too_few_pairs_for_a_batch_are_named():
    """An epoch of no batches is a division by zero."""
    with pytest.raises(ValueError, match="10 pairs do not fill a batch of 11"):
        ten_pairs().batches(11, seed=0)


def test_a_policy_that_is_its_reference_passes_the_check():
    """The step-0 check must not trip over rounding."""
    model = small_model()
    check_same_start(model, ten_pairs(model))


@pytest.mark.parametrize("kind", ["chosen", "rejected"])
@pytest.mark.parametrize("row", [0, 6, 9])
def test_a_different_reference_is_found_and_its_first_pair_named(kind, row):
    """A reference computed on other texts, with dropout, or from another checkpoint (eric-mitchell #46)."""
    model = small_model()
    made = ten_pairs(model)
    getattr(made, f"ref_{kind}_logps")[row] += 2e-4
    getattr(made, f"ref_{kind}_logps")[9] += 1.0
    with pytest.raises(ValueError, match=rf"pair {row}, {kind} S{row}=") as error:
        check_same_start(model, made)
    assert "--allow-other-reference" in str(error.value)


def test_a_reference_that_is_not_a_number_is_found():
    """NaN is never greater than a tolerance."""
    model = small_model()
    made = ten_pairs(model)
    made.ref_chosen_logps[1] = float("nan")
    with pytest.raises(ValueError, match="pair 1"):
        check_same_start(model, made)


def test_content_hash_names_what_made_the_pairs():
    """Pairs of another reference or seed must not be reused; the order of the settings is no difference."""
    assert content_hash(seed=0, reference="a") == content_hash(reference="a", seed=0)
    assert len({content_hash(seed=s, reference=r) for s in (0, 1) for r in "ab"}) == 4
    assert len(content_hash(seed=0)) == 8
