"""TRL's four trainers beside ours: on the same model and rows, the first step has the same loss and the same gradient."""

import math

import numpy as np
import pytest
import torch

pytest.importorskip("trl", reason="parity needs the `test` extra")

from data.trl_settings import trl_arguments
from dpo_core.checkpoint import load_model, load_pretrained, model_folder, save_model
from dpo_core.packing import completion_logps
from dpo_core.pairs import with_reference
from dpo_core.policy_gradient import METHODS, advantages
from dpo_core.preferences import population_pairs
from dpo_core.reward import RewardModel
from dpo_core.sampling import TOKENIZER
from dpo_core.steps import dpo_step, live_reference, reward_step, rl_step, sft_step
from dpo_core.task import BookTask, judge
from toys import small_model
from trl_side import GROUPED, opened, our_gradients, their_reward_model, trained, trainer_of

ROWS = 16
CLOSE = 1e-5


@pytest.fixture(scope="module", params=["shipped gen", "random, grouped heads"])
def folders(request, tmp_path_factory):
    """The folders of a policy and of another reference, of one shape."""
    if request.param == "shipped gen":
        return str(model_folder("gen")), str(model_folder("dpo"))
    place = tmp_path_factory.mktemp("grouped")
    for seed, name in enumerate(("policy.model", "reference.model")):
        save_model(small_model(seed, GROUPED, scale=4.0), place / name)
    return str(place / "policy.model"), str(place / "reference.model")


@pytest.fixture(scope="module")
def rows():
    """Prompts, chosen and rejected answers of unequal lengths."""
    pairs = population_pairs(load_pretrained("gen"), BookTask(), ROWS, labels="sampled", seed=0)
    return {name: getattr(pairs, name) for name in ("prompt", "chosen", "rejected")}


def close(ours, theirs):
    """Loss and gradient norm, equal in five digits."""
    loss, norm, gradients = ours
    assert loss == pytest.approx(theirs["loss"], rel=CLOSE, abs=CLOSE)
    assert norm == pytest.approx(theirs["grad_norm"], rel=CLOSE, abs=CLOSE)
    return gradients


def same_gradients(ours, theirs, tolerance=CLOSE):
    """Every weight's gradient, by name; relative to the largest of all."""
    assert theirs.keys() == ours.keys()
    largest = max(gradient.abs().max() for gradient in ours.values())
    for name, gradient in ours.items():
        assert (gradient - theirs[name]).abs().max() < tolerance * largest, name


def scored(folder, rows):
    """The pairs with the log-probabilities of a reference."""
    texts = (rows["prompt"], rows["chosen"], rows["rejected"])
    return with_reference(load_model(folder), *texts, [1.0] * len(rows["prompt"]))


# ---------------------------------------------------------------- DPO


@pytest.mark.parametrize(
    ("loss_type", "more"),
    [
        ("sigmoid", {}),
        (
            "ipo",
            {},
        ),  # TRL divides by the answer's tokens; the paper's is our ipo_sum, which it has not
        ("hinge", {}),
        ("sigmoid_norm", {}),
        ("robust", {"label_smoothing": 0.1}),
        ("apo_zero", {}),
    ],
)
def test_a_dpo_step_is_theirs(folders, rows, tmp_path, loss_type, more):
    """Policy and reference differ, so that the loss is not ln 2 and no term is zero."""
    policy, reference = folders
    made = trainer_of(
        "dpo",
        policy,
        rows,
        tmp_path,
        ref_model=opened(reference),
        max_steps=1,
        loss_type=[loss_type],
        **more,
    )
    line = trained(made)[0]
    data, ours = scored(reference, rows), load_model(policy)
    step, batch = dpo_step(0.25, loss_type, **more), data.batch(np.arange(ROWS))
    same_gradients(close(our_gradients(ours, step, batch), line), made.seen.gradients[0])
    sums = step(ours, batch)
    for name in ("logps/chosen", "logps/rejected"):
        assert float(sums[name][0] / sums[name][1]) == pytest.approx(line[name], rel=CLOSE)
    if loss_type not in ("ipo", "sigmoid_norm"):  # ours are of the score that beta multiplies there
        for name in ("rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies"):
            assert float(sums[name][0] / sums[name][1]) == pytest.approx(line[name], rel=1e-4)


def test_the_papers_ipo_is_not_theirs(folders, rows, tmp_path):
    """Guards against reading one name as the other: sums and means of tokens are far apart."""
    policy, reference = folders
    batch = scored(reference, rows).batch(np.arange(ROWS))
    losses = [
        our_gradients(load_model(policy), dpo_step(0.25, kind), batch)[0]
        for kind in ("ipo", "ipo_sum")
    ]
    assert abs(losses[0] - losses[1]) > 0.01 * max(losses)


def test_a_fresh_start_is_ln_2_on_both_sides_but_for_the_accuracy(folders, rows, tmp_path):
    """Their reference is the start, read again from its folder. A tie is no win there, half a win here."""
    policy, _ = folders
    made = trainer_of("dpo", policy, rows, tmp_path, max_steps=1)
    line = trained(made)[0]
    batch = scored(policy, rows).batch(np.arange(ROWS))
    ours = load_model(policy)
    for step in (dpo_step(0.25), live_reference(dpo_step(0.25), load_model(policy))):
        found = our_gradients(ours, step, batch)
        assert found[0] == pytest.approx(math.log(2), abs=1e-6)
        same_gradients(close(found, line), made.seen.gradients[0])
        total, count = step(ours, batch)["rewards/accuracies"]
        assert total / count == 0.5 and line["rewards/accuracies"] == 0.0


def test_without_a_reference_model_theirs_is_read_from_the_path(folders, rows, tmp_path):
    """A policy that was changed in memory, or a folder that was overwritten, gives another reference than one thinks."""
    policy = opened(folders[0])
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(1.1)
    ours = load_model(folders[0])
    ours.load_state_dict(policy.state_dict())
    line = trained(trainer_of("dpo", policy, rows, tmp_path, max_steps=1))[0]
    assert line["loss"] != pytest.approx(math.log(2), abs=1e-3)
    batch = scored(folders[0], rows).batch(np.arange(ROWS))
    close(our_gradients(ours, dpo_step(0.25), batch), line)


def test_label_smoothing_on_sigmoid_has_no_effect_there(folders, rows, tmp_path):
    """TRL 1.16 takes the setting and passes over it: our cDPO is not theirs; robust reads it on both sides."""
    policy, reference = folders
    lines = []
    for smoothing in (0.0, 0.3):
        made = trainer_of(
            "dpo",
            policy,
            rows,
            tmp_path,
            ref_model=opened(reference),
            max_steps=1,
            label_smoothing=smoothing,
        )
        lines.append(trained(made)[0])
    assert lines[0]["loss"] == lines[1]["loss"]
    batch = scored(reference, rows).batch(np.arange(ROWS))
    ours = [
        our_gradients(load_model(policy), dpo_step(0.25, "sigmoid", e), batch)[0] for e in (0, 0.3)
    ]
    assert ours[0] == pytest.approx(lines[0]["loss"], rel=CLOSE)
    assert abs(ours[1] - ours[0]) > 1e-3


def test_sigmoid_sft_is_their_sum_of_two_losses_where_chosen_answers_are_of_one_length(
    folders, rows, tmp_path
):
    """Their SFT term is a mean over the batch's tokens, ours of each answer's mean: equal only where lengths are."""
    policy, reference = folders
    length = max(set(map(len, rows["chosen"])), key=list(map(len, rows["chosen"])).count)
    kept = [row for row in range(ROWS) if len(rows["chosen"][row]) == length]
    assert len(kept) >= 3
    even = {name: [column[row] for row in kept] for name, column in rows.items()}
    found = {}
    for kind, data in (("even", even), ("uneven", rows)):
        made = trainer_of(
            "dpo",
            policy,
            data,
            tmp_path,
            ref_model=opened(reference),
            max_steps=1,
            loss_type=["sigmoid", "sft"],
            loss_weights=[1.0, 0.5],
        )
        batch = scored(reference, data).batch(np.arange(len(data["prompt"])))
        step = dpo_step(0.25, "sigmoid_sft", sft_weight=0.5)
        found[kind] = our_gradients(load_model(policy), step, batch)[0], trained(made)[0]["loss"]
    assert found["even"][0] == pytest.approx(found["even"][1], rel=CLOSE)
    assert abs(found["uneven"][0] - found["uneven"][1]) > 1e-3


# ---------------------------------------------------------------- SFT


@pytest.mark.parametrize("pieces", [1, 4])
def test_an_sft_step_is_theirs(folders, rows, tmp_path, pieces):
    """A mean over all answer tokens of the step: a mean of the pieces' means differs (transformers #35856)."""
    data = {"prompt": rows["prompt"], "completion": rows["chosen"]}
    made = trainer_of(
        "sft",
        folders[0],
        data,
        tmp_path,
        max_steps=1,
        per_device_train_batch_size=ROWS // pieces,
        gradient_accumulation_steps=pieces,
    )
    line = trained(made)[0]
    ids, mask = TOKENIZER.collate(*data.values())
    found = our_gradients(
        load_model(folders[0]), sft_step, {"input_ids": ids, "completion_mask": mask}
    )
    same_gradients(close(found, line), made.seen.gradients[0])


def test_sft_on_whole_texts_is_another_loss(folders, rows, tmp_path):
    """Without a prompt column TRL learns the prompt as well: ours with the prompt's tokens marked, the first one not."""
    data = {"text": [p + c for p, c in zip(rows["prompt"], rows["chosen"])]}
    made = trainer_of("sft", folders[0], data, tmp_path, max_steps=1)
    line = trained(made)[0]
    ids, _ = TOKENIZER.pad([TOKENIZER.encode(text) for text in data["text"]])
    marked = ids != TOKENIZER.pad_id
    marked[:, 0] = False
    batch = {"input_ids": ids, "completion_mask": marked}
    same_gradients(
        close(our_gradients(load_model(folders[0]), sft_step, batch), line), made.seen.gradients[0]
    )


# ---------------------------------------------------------------- reward model


def test_a_step_of_the_reward_model_is_theirs(folders, rows, tmp_path):
    """Same head: the score is read at the last token before the padding, which is the answer's E."""
    theirs = their_reward_model(folders[0])
    ours = RewardModel(load_model(folders[0]))
    assert not ours.score.weight.any() and theirs.score.weight.any()
    ours.score.load_state_dict(theirs.score.state_dict())
    assert theirs.state_dict().keys() == ours.state_dict().keys()
    made = trainer_of("reward", theirs, rows, tmp_path, max_steps=1)
    line = trained(made)[0]
    batch = scored(folders[0], rows).batch(np.arange(ROWS))
    found = our_gradients(ours, reward_step, batch)
    assert found[0] != pytest.approx(math.log(2), abs=1e-4)
    # a weight's gradient is a difference of large terms here: rounding moves single ones by 2e-5
    same_gradients(close(found, line), made.seen.gradients[0], tolerance=1e-4)
    sums = reward_step(ours, batch)
    for name, other in (("rewards/margins", "margin"), ("rewards/accuracies", "accuracy")):
        assert float(sums[name][0] / sums[name][1]) == pytest.approx(line[other], rel=1e-4)


def test_from_a_head_of_zeros_both_begin_at_ln_2(folders, rows, tmp_path):
    """Ours begins there; theirs draws the head, and begins where the draw says."""
    theirs = their_reward_model(folders[0])
    torch.nn.init.zeros_(theirs.score.weight)
    made = trainer_of("reward", theirs, rows, tmp_path, max_steps=1)
    line = trained(made)[0]
    batch = scored(folders[0], rows).batch(np.arange(ROWS))
    found = our_gradients(RewardModel(load_model(folders[0])), reward_step, batch)
    assert found[0] == pytest.approx(math.log(2), abs=1e-6)
    same_gradients(close(found, line), made.seen.gradients[0])


# ---------------------------------------------------------------- GRPO


def near_enough(prompts, completions, **_):
    """A reward with several values, so that no group is of one kind; of special tokens it knows nothing."""
    texts = [text.translate(dict.fromkeys(map(ord, "PSEU"))) for text in completions]
    verdicts = [judge(prompt, text + "E") for prompt, text in zip(prompts, texts)]
    return [float(v.exact) + 0.5 * v.style + 0.1 * len(t) for v, t in zip(verdicts, texts)]


def our_rollout(batch, models, answers, method):
    """Our batch for `rl_step`, of the prompts and answers that TRL drew, group by group: TRL mixes the rows.

    Args:
        models: the policy and the reference.
    """
    prompts, completions = (
        [
            TOKENIZER.decode(row[m.bool()])
            for row, m in zip(batch[f"{part}_ids"], batch[f"{part}_mask"])
        ]
        for part in ("prompt", "completion")
    )
    order = sorted(range(len(prompts)), key=lambda row: (prompts[row], row))
    prompts, completions = ([texts[row] for row in order] for texts in (prompts, completions))
    assert all(len(set(prompts[i : i + answers])) == 1 for i in range(0, len(prompts), answers))
    ids, mask = TOKENIZER.collate(prompts, completions)
    with torch.no_grad():
        logps = [completion_logps(model, ids, mask) for model in models]
    rewards, how = torch.tensor(near_enough(prompts, completions)), METHODS[method]
    groups = rewards.unflatten(0, (-1, answers))
    return order, {
        "input_ids": ids,
        "completion_mask": mask,
        "old_logps": logps[0],
        "ref_logps": logps[1],
        "rewards": rewards,
        "advantages": advantages(groups, how.baseline, how.scale).flatten(),
    }


@pytest.mark.parametrize(
    ("method", "settings", "kl_term"),
    [
        ("grpo", {}, "ratio_k3"),
        ("grpo", {"use_bias_correction_kl": False}, "k3"),
        ("dapo", {"loss_type": "dapo", "epsilon_high": 0.28}, "ratio_k3"),
    ],
)
def test_a_grpo_step_on_their_own_answers_is_theirs(
    folders, rows, tmp_path, method, settings, kl_term
):
    """TRL draws and judges; its answers go through our advantages, our leash and our loss."""
    made = trainer_of(
        "grpo",
        folders[0],
        {"prompt": rows["prompt"]},
        tmp_path,
        reward_funcs=near_enough,
        max_steps=1,
        # a P in an answer, which only the random model writes: see the test of the padding's row
        generation_kwargs={"suppress_tokens": [TOKENIZER.pad_id]},
        **settings,
    )
    assert made.beta == 0.25
    with (
        torch.no_grad()
    ):  # their reference is the start; the policy is moved, so that the leash pulls
        start = load_model(folders[0])
        for parameter in made.model.parameters():
            parameter.mul_(1.1)
    policy = load_model(folders[0])
    policy.load_state_dict(made.model.state_dict())
    line = trained(made)[0]
    batch, answers = made.seen.batches[0], trl_arguments("grpo", "")["num_generations"]
    order, rolled = our_rollout(batch, (policy, start), answers, method)
    assert (rolled["advantages"] - batch["advantages"][order]).abs().max() < 1e-5
    assert rolled["advantages"].abs().max() > 0.5
    step = rl_step(method, beta=0.25, kl_term=kl_term)
    found = our_gradients(policy, step, rolled)
    same_gradients(close(found, line), made.seen.gradients[0])
    other = rl_step(method, beta=0.25, kl_term={"k3": "ratio_k3", "ratio_k3": "k3"}[kl_term])
    with pytest.raises(AssertionError):  # not on every gradient, if on the loss
        same_gradients(our_gradients(policy, other, rolled)[2], made.seen.gradients[0])


def test_their_embedding_of_the_padding_gets_no_gradient(folders):
    """transformers makes it a row that never learns: a P that stands in a text as a token learns here, not there."""
    theirs, ours = opened(folders[0]), load_model(folders[0])
    ids = torch.tensor([TOKENIZER.encode("S5=1P2E")])
    theirs(ids).logits.square().sum().backward()
    ours(ids).square().sum().backward()
    found, expected = (m.model.embed_tokens.weight.grad for m in (ours, theirs))
    gaps = (found - expected).abs().amax(-1) / found.abs().max()
    assert gaps[TOKENIZER.pad_id] > 1e-3 and gaps[1:].max() < CLOSE


def test_their_judge_does_not_see_the_end_token(folders, rows, tmp_path):
    """`completions` come without special tokens: an answer that was cut off looks like one that ended."""
    texts = []

    def reward(prompts, completions, completion_ids, **_):
        texts.extend(zip(completions, completion_ids))
        return [0.0] * len(prompts)

    made = trainer_of(
        "grpo", folders[0], {"prompt": rows["prompt"]}, tmp_path, reward_funcs=reward, max_steps=1
    )
    trained(made)
    assert len(texts) == ROWS and not any("E" in text for text, _ in texts)
    assert any(ids[-1] == TOKENIZER.eos_id for _, ids in texts)
