"""The scripts of chapter 14's recorded run, on a model small enough for a test."""

import sys

import pytest
import torch

import sources
from dpo_core import Llama, ModelConfig
from dpo_core.tabular import Problem, kl, optimal_policy, preference_probs

sys.path.insert(0, str(sources.CHAPTERS / "data"))
import real_open
import real_theory as theory


def policies(model, data):
    return theory.set_logps(model, data).log_softmax(-1)


@pytest.fixture
def data():
    """Four prompts of three tokens, eight answers of one or two tokens each, half of them rewarded."""
    generator = torch.Generator().manual_seed(0)
    prompts = torch.randint(3, 20, (4, 1, 3), generator=generator).expand(-1, 8, -1)
    answers = torch.stack([torch.randperm(16, generator=generator)[:8] + 3 for _ in range(4)])
    ids = torch.cat((prompts, answers[..., None], torch.full((4, 8, 2), 2)), -1)
    ids[:, 1::2, 4] = 1  # the full stop
    mask = torch.zeros_like(ids)
    mask[..., 3:5] = 1
    mask[:, 1::2, 5] = 1
    reward = (torch.arange(4) % 2).double().repeat_interleave(2).expand(4, -1)
    return {"ids": ids, "mask": mask, "reward": reward}


@pytest.fixture
def model():
    config = ModelConfig(vocab_size=20, hidden_size=32, intermediate_size=32, num_hidden_layers=2)
    return Llama(config).reset_parameters(0)


@pytest.mark.parametrize("kind", ["soft", "deterministic", "imitation"])
def test_each_arm_ends_where_theory_says(model, data, kind):
    """Soft labels at the closed form, deterministic ones beyond it, imitation at the chosen answers' own shares."""
    reference = policies(model, data)
    best = optimal_policy(Problem(reference, data["reward"]), 0.5)
    lines = theory.train_sets(model, data, kind, 0.5, rate=3e-3, epochs=60, sets=2)
    policy = policies(model, data)
    gone = kl(policy, best).mean() / kl(reference, best).mean()
    if kind == "soft":
        assert lines[0]["loss"] == pytest.approx(0.693147, abs=1e-5)
        assert gone < 0.02
    elif kind == "deterministic":
        share, predicted = ((p.exp() * data["reward"]).sum(-1).mean() for p in (policy, best))
        assert share > predicted + 0.05
    else:
        wins = theory.preferred(data["reward"], "soft", None)
        assert kl(policy, theory.chosen_weights(wins).log()).mean() < 0.05 < kl(policy, best).mean()


def test_sampled_labels_are_soft_ones_in_the_mean():
    """Also: a pair and its reverse are labelled once, and the weights of the chosen answers add up to one."""
    reward = torch.tensor([[0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0]], dtype=torch.float64)
    soft = theory.preferred(reward, "soft", None)
    draws = [theory.preferred(reward, "sampled", theory.stream("t", 0, k)) for k in range(2000)]
    assert set(torch.cat(draws).unique().tolist()) == {0.0, 1.0}
    assert (torch.cat(draws).mean(0) - soft).abs().max() < 0.05
    first, second = theory.ANSWERS
    assert torch.equal(soft, preference_probs(reward)[:, first, second])
    weights = theory.chosen_weights(soft)
    assert weights.sum().item() == pytest.approx(1)
    assert weights[0, 2] > weights[0, 0]


def test_the_prompts_are_as_many_as_said_and_held_out_words_are_new():
    trained, held_out = theory.lists(theory.TRAINED), theory.lists(theory.HELD_OUT)
    assert (len(trained), len(held_out)) == (32, 10)
    assert all(len(set(words)) == 4 for words in trained + held_out)
    assert not {w for words in trained for w in words} & {w for words in held_out for w in words}
    asked = real_open.questions(real_open.TRAINED), real_open.questions(real_open.HELD_OUT)
    assert [len(set(questions)) for questions in asked] == [16, 8] and not set(asked[0]) & set(
        asked[1]
    )


def test_drawn_pairs_follow_bradley_terry():
    pairs = theory.drawn_pairs(6400, seed=0)
    assert len({pair["prompt"] for pair in pairs[:32]}) == 32  # prompts in turn
    assert all(pair["chosen"] != pair["rejected"] for pair in pairs)
    mixed = [p for p in pairs if ("e" in word(p["chosen"])) != ("e" in word(p["rejected"]))]
    won = sum("e" in word(pair["chosen"]) for pair in mixed) / len(mixed)
    assert won == pytest.approx(0.731, abs=0.025)


def word(answer):
    """The word of an answer, without its end."""
    return answer.lower().removesuffix(theory.END).strip(" .")


def test_an_answer_ends_at_its_first_end_token():
    assert real_open.up_to_end([5, 6, 2, 2]) == [5, 6, 2] and real_open.complete([5, 6, 2])
    assert real_open.up_to_end([5, 6]) == [5, 6] and not real_open.complete([5, 6])


def test_free_answers_of_a_batch_are_those_of_each_question_alone(model, monkeypatch):
    """Guards against left padding that moves positions, and against rows that are mixed up when some have ended."""
    asked = {"a": [5, 6, 7], "b": [8], "c": [9, 10, 11, 12]}
    encode = {name: type("E", (), {"ids": ids}) for name, ids in asked.items()}
    fake = type("T", (), {"encode": staticmethod(encode.get)})
    monkeypatch.setattr(real_open, "tokenizer", lambda folder: fake)
    monkeypatch.setattr(real_open, "open_prompt", lambda question: question)
    monkeypatch.setattr(real_open, "TOKENS", 8)
    uniform = theory.stream("fixed", 0).random((3 * 20, 8))

    class Fixed:
        def __init__(self, first):
            self.first = first

        def random(self, size):
            return uniform[self.first * 20 : self.first * 20 + size[0]]

    monkeypatch.setattr(real_open, "stream", lambda purpose, seed, first: Fixed(first))
    monkeypatch.setattr(real_open, "TOGETHER", 3)
    together = real_open.own_answers(model, "", list(asked), 20, 0)
    monkeypatch.setattr(real_open, "TOGETHER", 1)
    assert real_open.own_answers(model, "", list(asked), 20, 0) == together
    lengths = {len(answer) for answers in together for answer in answers}
    assert len(lengths) > 3 and all(len(answers) == 20 for answers in together)
