"""Chapters 4 and 9: shares with intervals, KL, and the closed form that training is held against."""

import math
from collections import defaultdict

import numpy as np
import pytest
import torch

from dpo_core.evaluation import (
    entropy,
    evaluate,
    excess_nats,
    mean_interval,
    own_answers,
    shares,
    wilson,
    written_mass,
)
from dpo_core.sampling import generate
from dpo_core.tabular import optimal_policy, random_policies
from dpo_core.task import BookTask, ClassicTask, judge, make_task, stream
from dpo_core.theory import (
    class_problem,
    class_rewards,
    predicted_entropy,
    predicted_optimum,
    predicted_shares,
)
from toys import memoryless_model, small_model

TASK = make_task("book")


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # the worked examples of Newcombe 1998, table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (10, 10, 1 - 0.2775, 1.0),
    ],
)
def test_wilson_equals_published_values(successes, n, low, high):
    """The normal approximation gives [0, 0] for 0 of 20; a z of 1.64 or 2.58 another level."""
    found = wilson(successes, n)
    assert found.value == successes / n
    assert (found.low, found.high) == pytest.approx((low, high), abs=6e-5)


def test_wilson_covers_95_percent():
    """Exact binomial coverage, averaged over p: an interval that forgets a term covers less."""
    n = 60
    intervals = [wilson(k, n) for k in range(n + 1)]
    coverage = []
    for p in np.linspace(0.02, 0.98, 97):
        covered = [k for k, e in enumerate(intervals) if e.low <= p <= e.high]
        coverage.append(sum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in covered))
    assert np.mean(coverage) == pytest.approx(0.95, abs=0.01)
    assert min(coverage) > 0.85


def test_mean_interval_covers_95_percent():
    """A standard deviation in place of the standard error covers always; ddof and z are seen in the share."""
    rng = np.random.default_rng(0)
    hits = [
        e.low <= 3 <= e.high
        for e in (mean_interval(rng.normal(3, 2, size=100)) for _ in range(4000))
    ]
    assert np.mean(hits) == pytest.approx(0.947, abs=0.012)


def test_mean_interval_by_hand():
    """1, 2, 3: mean 2, standard error 1/√3."""
    found = mean_interval([1, 2, 3])
    assert (found.value, found.high - 2, 2 - found.low) == pytest.approx(
        (2, 1.959964 / 3**0.5, 1.959964 / 3**0.5)
    )


@pytest.mark.parametrize(
    "call",
    [
        lambda: wilson(0, 0),
        lambda: wilson(3, 2),
        lambda: wilson(-1, 2),
        lambda: mean_interval([1.0]),
        lambda: mean_interval([]),
    ],
)
def test_intervals_of_nothing_are_refused(call):
    """0 / 0 in a report reads as a share."""
    with pytest.raises(ValueError, match="at least"):
        call()


def test_shares_by_hand():
    """Shares of all answers, and exactness among the answers of each length: denominators differ."""
    texts = ["2+3E", "2+4E", "1+4E", "1+1+3E", "9+9+9E", "5E", "5+", "E"]
    report = shares([judge("S5=", text) for text in texts])
    values = {name: estimate.value for name, estimate in report.items()}
    assert values == pytest.approx(
        {
            "well_formed": 6 / 8,
            "exact": 4 / 8,
            "style": 2 / 8,
            "both": 1 / 8,
            "two_number_exact": 2 / 3,
            "three_number_exact": 1 / 2,
        }
    )
    assert report["both"] == wilson(1, 8)
    assert "three_number_exact" not in shares([judge("S5=", "2+3E")])


def enumerated(task: BookTask, reward, beta: float) -> dict[str, float]:
    """The optimum text by text: p(y|x) e^{r/β} / Z(x) over every text of the population."""
    table = task.table
    index = {prompt: row for row, prompt in enumerate(task.prompt_distribution)}
    prompt_of = np.array([index[prompt] for prompt in table.prompts])
    marginal = np.bincount(prompt_of, weights=table.probability)
    p = table.probability / marginal[prompt_of]
    weight = p * np.exp(reward(table) / beta)
    optimum = weight / np.bincount(prompt_of, weights=weight)[prompt_of]
    joint = marginal[prompt_of] * optimum
    return {
        "style": joint[table.style].sum(),
        "exact": joint[table.exact].sum(),
        "both": joint[table.style & table.exact].sum(),
        "kl": (joint * np.log(optimum / p)).sum(),
    }


REWARDS = {
    "style": lambda table: table.style.astype(float),
    "exact": lambda table: table.exact.astype(float),
    "style+exact": lambda table: table.style.astype(float) + table.exact,
}


@pytest.mark.parametrize("beta", [0.1, 0.25, 1.0, 5.0])
@pytest.mark.parametrize("reward", REWARDS)
def test_predicted_optimum_equals_the_sum_over_all_texts(reward, beta):
    """Tilting the averages in place of each prompt's own rates, or a KL in the other direction."""
    found, expected = predicted_optimum(TASK, reward, beta), enumerated(TASK, REWARDS[reward], beta)
    assert found == pytest.approx(expected, abs=1e-9)


def test_predicted_optimum_has_its_limits():
    """β → ∞ leaves the population as it is; β → 0 takes the best class and stays finite."""
    loose, tight = (
        predicted_optimum(TASK, "style+exact", 1e6),
        predicted_optimum(TASK, "style+exact", 1e-3),
    )
    assert loose == pytest.approx({"style": 0.3, "exact": 0.75, "both": 0.225, "kl": 0}, abs=1e-5)
    assert tight["both"] == pytest.approx(1, abs=1e-9) and tight["kl"] < 5


def test_a_population_with_an_empty_class_is_tilted_too():
    """Nobody slips: the slipped class has rate 0, and 0 · log 0 is 0, not NaN."""
    careful = BookTask(slip=0.0, largest=4, largest_third=2)
    found = predicted_optimum(careful, "style", 0.5)
    assert found["exact"] == pytest.approx(1) and found["both"] == pytest.approx(found["style"])
    assert found["style"] > 0.3 and math.isfinite(found["kl"]) and found["kl"] > 0


def test_class_rewards_by_hand():
    """`[style, exact]`: transposing the two exchanges what the judge likes."""
    assert class_rewards("style").tolist() == [[0, 0], [1, 1]]
    assert class_rewards("exact").tolist() == [[0, 1], [0, 1]]
    assert class_rewards("style+exact").tolist() == [[0, 1], [1, 2]]
    with pytest.raises(ValueError, match="'length'; accepted are style, exact"):
        class_rewards("length")


@pytest.mark.parametrize("reward", REWARDS)
def test_class_problem_is_the_population_summed_over_texts(reward):
    """Classes [style, exact] read column by column exchange what is long and what is right."""
    problem, table = class_problem(TASK, reward), TASK.table
    rates = {prompt: [0.0] * 4 for prompt in TASK.prompt_distribution}
    rewards = [0.0] * 4
    for prompt, p, style, exact, r in zip(
        table.prompts, table.probability, table.style, table.exact, REWARDS[reward](table)
    ):
        rates[prompt][2 * style + exact] += p
        rewards[2 * style + exact] = r
    found = problem.ref_logps.exp()
    assert found.dtype == torch.float64 and problem.reward.shape == found.shape == (len(rates), 4)
    for row, judged, of_prompt in zip(
        found.tolist(), problem.reward.tolist(), rates.values(), strict=True
    ):
        assert row == pytest.approx([rate / sum(of_prompt) for rate in of_prompt], abs=1e-12)
        assert judged == rewards
    with pytest.raises(ValueError, match="'length'; accepted are style, exact"):
        class_problem(TASK, "length")


def test_predicted_shares_are_averages_over_the_populations_prompts():
    """A plain mean over prompts in place of the weighted one; a KL of the population to the policy."""
    prompts = TASK.prompt_distribution
    rates = class_problem(TASK, "style").ref_logps
    # empty classes stay empty
    policy = (rates + random_policies(len(prompts), 4, seed=0)).log_softmax(-1)
    expected = {"style": 0.0, "exact": 0.0, "both": 0.0, "kl": 0.0}
    for weight, row, ref in zip(prompts.values(), policy.tolist(), rates.tolist(), strict=True):
        for index, (logp, ref_logp) in enumerate(zip(row, ref)):
            style, exact = divmod(index, 2)
            share = weight * math.exp(logp)
            expected["style"] += share * style
            expected["exact"] += share * exact
            expected["both"] += share * style * exact
            expected["kl"] += share * (logp - ref_logp) if share else 0.0
    assert 0.1 < expected["kl"] < 1
    assert predicted_shares(TASK, policy) == pytest.approx(expected, abs=1e-9)


def test_predicted_shares_of_the_population_are_its_rates():
    """The population itself: 30 % long, 75 % right, unrelated, and no distance."""
    found = predicted_shares(TASK, class_problem(TASK, "exact").ref_logps)
    assert found == pytest.approx({"style": 0.3, "exact": 0.75, "both": 0.225, "kl": 0}, abs=1e-9)


@pytest.mark.parametrize("beta", [0.0, -1.0, math.nan])
def test_predicted_optimum_refuses_a_beta_that_is_not_positive(beta):
    """exp(r / 0) is infinite; a negative β asks for the worst."""
    with pytest.raises(ValueError, match="beta is"):
        predicted_optimum(TASK, "style", beta)


def test_measured_kl_equals_its_closed_form():
    """Two models without memory: KL a token times the expected length 1/p(E). The other direction is 1.6 times it."""
    p, q = {"E": 0.5, "1": 0.4, "2": 0.1}, {"E": 0.5, "1": 0.1, "2": 0.4}
    p["1"], p["2"] = 0.45, 0.05
    expected = 2 * sum(p[c] * math.log(p[c] / q[c]) for c in p)
    report = evaluate(memoryless_model(p), TASK, n=4000, reference=memoryless_model(q))
    assert report["kl"].low < expected < report["kl"].high
    assert report["kl"].high - report["kl"].low < 0.15 * expected


def test_kl_to_itself_is_zero():
    """Scores of two forward passes that differ (padding, dtype) would read as distance."""
    model = small_model()
    kl = evaluate(model, TASK, n=100, reference=model)["kl"]
    assert (kl.value, kl.low, kl.high) == (0, 0, 0)


def test_kl_at_another_temperature_is_refused():
    """Answers drawn at temperature 0.5 are not draws of the model whose KL is asked for."""
    with pytest.raises(ValueError, match=r"temperature is 0.5"):
        evaluate(small_model(), TASK, n=10, temperature=0.5, reference=small_model())
    with pytest.raises(ValueError, match="n is 1"):
        evaluate(small_model(), TASK, n=1)


def test_the_temperature_reaches_the_draws():
    """A setting that is checked, and then not passed on: the report says greedy and means drawn."""
    model = memoryless_model({"5": 0.6, "E": 0.4})
    assert evaluate(model, TASK, n=300)["well_formed"].value == pytest.approx(0.6, abs=0.1)
    # 555…, without an end
    assert evaluate(model, TASK, n=300, temperature=0)["well_formed"].value == 0


def test_answers_are_judged_with_the_tolerance_of_their_task(monkeypatch):
    """The classic targets are rounded to cents: a judge without tolerance calls most products wrong."""
    task, n = ClassicTask(), 200
    _, answers = task.demonstrations(n, stream("evaluate", 0))
    monkeypatch.setattr("dpo_core.evaluation.generate", lambda *_, **__: answers)
    assert evaluate(small_model(), task, n=n)["exact"].value == 1
    assert (
        sum(
            judge(p, a).exact
            for p, a in zip(task.demonstrations(n, stream("evaluate", 0))[0], answers)
        )
        < 0.9 * n
    )


def test_evaluation_is_a_pure_function_of_the_seed():
    """Figures in a report must be the same when measured again."""
    model = small_model()
    assert evaluate(model, TASK, n=60, seed=4) == evaluate(model, TASK, n=60, seed=4)


def test_another_seed_is_another_sample():
    """A seed that is not passed on: three runs of a report agree to the last digit."""
    model, other = small_model(), small_model(seed=1)
    kls = [evaluate(model, TASK, n=20, seed=seed, reference=other)["kl"] for seed in (0, 1)]
    excesses = [excess_nats(model, TASK, n=20, seed=seed) for seed in (0, 1)]
    assert kls[0] != kls[1] and excesses[0] != excesses[1]


def test_excess_of_a_uniform_model_by_hand():
    """A model that knows nothing pays ln 22 a token: the excess is that, less the floor."""
    model = small_model()
    with torch.no_grad():
        model.lm_head.weight.zero_()
    found = excess_nats(model, TASK, n=3000)
    lengths = defaultdict(float)
    for completion, p in zip(TASK.table.completions, TASK.table.probability):
        lengths[len(completion)] += p
    expected = math.log(22) * sum(length * p for length, p in lengths.items()) - TASK.entropy
    assert found.low < expected < found.high
    assert found.high - found.low < 0.3


def test_own_answers_are_those_that_evaluate_judges():
    """A second draw with other chance in it: entropy and shares of one report would be of different answers."""
    model = small_model()
    prompts, answers = own_answers(model, TASK, n=60, seed=4)
    assert shares([judge(p, a) for p, a in zip(prompts, answers)]) == evaluate(
        model, TASK, n=60, seed=4
    )
    assert prompts == TASK.demonstrations(60, stream("evaluate", 4))[0]


def test_entropy_equals_its_closed_form():
    """A model without memory: entropy of a token times expected length 1/p(E). In bits it is 1.44 times that."""
    p = {"E": 0.5, "1": 0.45, "2": 0.05}
    expected = 2 * -sum(share * math.log(share) for share in p.values())
    model = memoryless_model(p)
    found = entropy(model, *own_answers(model, TASK, n=4000))
    assert found.low < expected < found.high
    assert found.high - found.low < 0.1 * expected


def test_entropy_of_a_certain_model_is_zero():
    """It writes E and nothing else."""
    model = memoryless_model({"E": 1.0})
    assert entropy(model, *own_answers(model, TASK, n=20)).value == pytest.approx(0, abs=1e-5)


def test_written_mass_by_hand():
    """Four authors' texts on one prompt; a model without memory gives each the product of its characters."""
    tiny = BookTask(style=0.5, slip=0.25, slip_size=1, largest=1, largest_third=0)
    p = {"0": 0.2, "1": 0.2, "2": 0.1, "+": 0.2, "-": 0.1, "E": 0.2}
    texts = {
        (False, True): ("1+1E",),
        (False, False): ("1+2E",),
        (True, True): ("1+1+0E", "1+1-0E"),
        (True, False): ("1+2+0E", "1+2-0E"),
    }
    assert {text for prompt, text in tiny.log_conditional if prompt == "S2="} == {
        t for ts in texts.values() for t in ts
    }
    found = written_mass(memoryless_model(p), tiny, ["S2=", "S-1=", "S2="])
    for (style, exact), of_class in texts.items():
        expected = sum(math.prod(p[character] for character in text) for text in of_class)
        assert found[0, int(style), int(exact)] == pytest.approx(expected, rel=1e-4)
    assert (
        found.shape == (3, 2, 2) and (found[0] == found[2]).all() and (found[1] != found[0]).any()
    )
    assert found.sum((1, 2)).max() < 0.05  # nearly everything goes to texts that no author writes


def test_written_mass_and_samples_agree():
    """The rest, 1 - sum, is the share of a model's answers that no author writes."""
    tiny = BookTask(style=0.5, slip=0.25, slip_size=1, largest=1, largest_third=0)
    model = memoryless_model({"1": 0.35, "+": 0.35, "E": 0.3})
    mass = written_mass(model, tiny, ["S2="]).sum()
    prompts = ["S2="] * 4000
    written = [(p, a) in tiny.log_conditional for p, a in zip(prompts, generate(model, prompts))]
    estimate = wilson(sum(written), len(written))
    assert 0.01 < estimate.low < mass < estimate.high


def test_written_mass_refuses_a_prompt_of_nobody():
    """A sum over no text reads as a mass of zero."""
    with pytest.raises(ValueError, match="'S777='"):
        written_mass(small_model(), TASK, ["S4=", "S777="])


def test_predicted_entropy_is_that_of_all_texts():
    """The entropy between the classes alone, or a plain mean over prompts."""
    classes = class_problem(TASK, "style+exact")
    assert predicted_entropy(TASK, classes.ref_logps) == pytest.approx(TASK.entropy, abs=1e-9)
    optimum = optimal_policy(classes, 0.25)
    index = {prompt: row for row, prompt in enumerate(TASK.prompt_distribution)}
    gain = (optimum - classes.ref_logps).exp().tolist()  # π*/p of each class
    expected = 0.0
    for prompt, text, p, style, exact in zip(
        TASK.table.prompts,
        TASK.table.completions,
        TASK.table.probability,
        TASK.table.style,
        TASK.table.exact,
    ):
        factor = gain[index[prompt]][2 * int(style) + int(exact)]
        expected -= p * factor * (TASK.log_conditional[prompt, text] + math.log(factor))
    assert predicted_entropy(TASK, optimum) == pytest.approx(expected, abs=1e-9)


def test_predicted_entropy_with_an_empty_class():
    """Nobody slips: 0 · log 0 is 0, not NaN."""
    careful = BookTask(slip=0.0, largest=4, largest_third=2)
    assert predicted_entropy(careful, class_problem(careful, "style").ref_logps) == pytest.approx(
        careful.entropy
    )
