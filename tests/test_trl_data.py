"""Files of pairs between the two: TRL reads ours through `datasets`, we read its formats, and which batches are equal."""

import json

import numpy as np
import pytest
import torch

pytest.importorskip("trl", reason="parity needs the `test` extra")

import datasets

from dpo_core.checkpoint import load_pretrained, model_folder
from dpo_core.pairs import Pairs, read_pairs
from dpo_core.preferences import population_pairs
from dpo_core.steps import dpo_step
from dpo_core.task import BookTask
from trl_side import our_gradients, quiet, trained, trainer_of

GEN, ROWS = str(model_folder("gen")), 16
TEMPLATE = (  # a prompt is S<number>=, an answer ends with E
    "{% for m in messages %}"
    "{% if m.role == 'user' %}{{ 'S' + m.content + '=' }}{% else %}{{ m.content + 'E' }}{% endif %}"
    "{% endfor %}"
)


@pytest.fixture(scope="module")
def reference():
    return load_pretrained("gen")


@pytest.fixture(scope="module")
def pairs(reference):
    """No answer of a pair begins like the other, so that an implicit prompt ends where it should."""
    many = population_pairs(reference, BookTask(), 4 * ROWS, labels="sampled", seed=0)
    rows = [i for i in range(len(many)) if many.chosen[i][0] != many.rejected[i][0]]
    return many.take(rows[:ROWS])


def question(prompt):
    return [{"role": "user", "content": prompt[1:-1]}]


def answer(text):
    return [{"role": "assistant", "content": text.removesuffix("E")}]


FORMATS = {
    "explicit prompt": lambda p, c, r: {"prompt": p, "chosen": c, "rejected": r},
    "implicit prompt": lambda p, c, r: {"chosen": p + c, "rejected": p + r},
    "conversational": lambda p, c, r: {
        "prompt": question(p),
        "chosen": answer(c),
        "rejected": answer(r),
    },
    "conversational, implicit prompt": lambda p, c, r: {
        "chosen": question(p) + answer(c),
        "rejected": question(p) + answer(r),
    },
    "with scores": lambda p, c, r: {
        "prompt": p,
        "chosen": c,
        "rejected": r,
        "score_chosen": 9.0,
        "score_rejected": 2.5,
    },
}


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def loaded(path):
    """The file as `datasets` reads it."""
    with quiet():
        return datasets.load_dataset(
            "json", data_files=str(path), split="train", cache_dir=str(path.parent / "cache")
        )


def their_batch(path, folder, conversational=False, **settings):
    """The first batch that DPOTrainer makes of a file, and the line of its step."""
    made = trainer_of(
        "dpo",
        GEN,
        loaded(path),
        folder,
        max_steps=1,
        chat_template=TEMPLATE * conversational,
        **settings,
    )
    line = trained(made)[0]
    return made.seen.batches[0], line


def assert_same(batch, ours):
    """The ids and the masks of both answers of every pair, in one order."""
    for half, side in enumerate(("chosen", "rejected")):
        rows = slice(half * ROWS, (half + 1) * ROWS)
        ids, mask = ours[f"{side}_ids"], ours[f"{side}_mask"]
        width = ids.shape[1]
        assert torch.equal(batch["input_ids"][rows, :width], ids)
        assert torch.equal(batch["completion_mask"][rows, :width].bool(), mask.bool())
        assert not batch["attention_mask"][rows, width:].any()


def test_datasets_reads_our_file(pairs, tmp_path):
    """Every column, to the last digit."""
    pairs.write(tmp_path / "ours.jsonl")
    found = loaded(tmp_path / "ours.jsonl")
    assert found.column_names == list(json.loads(pairs.text().splitlines()[0]))
    assert all(found[name][:] == getattr(pairs, name) for name in found.column_names)


def test_trl_makes_the_same_batch_of_our_file(pairs, reference, tmp_path):
    """Ids, masks, and the loss of the step."""
    pairs.write(tmp_path / "ours.jsonl")
    batch, line = their_batch(tmp_path / "ours.jsonl", tmp_path / "out")
    ours = pairs.batch(np.arange(ROWS))
    assert_same(batch, ours)
    loss, norm, _ = our_gradients(reference, dpo_step(0.25), ours)
    assert (loss, norm) == pytest.approx((line["loss"], line["grad_norm"]), rel=1e-5)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_of_trls_formats_is_one_batch_in_both(kind, pairs, reference, tmp_path):
    """Where the prompt ends and whether E is learnt: a format that is read otherwise trains on other tokens."""
    texts = zip(pairs.prompt, pairs.chosen, pairs.rejected)
    path = written(tmp_path / "theirs.jsonl", [FORMATS[kind](*row) for row in texts])
    found = read_pairs(path, reference)
    assert (found.prompt, found.chosen, found.rejected) == (
        pairs.prompt,
        pairs.chosen,
        pairs.rejected,
    )
    assert found.ref_chosen_logps == pytest.approx(pairs.ref_chosen_logps, abs=1e-5)
    batch, _ = their_batch(path, tmp_path / "out", "conversational" in kind)
    assert_same(batch, found.batch(np.arange(ROWS)))


def test_an_implicit_prompt_goes_too_far_there_where_answers_begin_alike(reference, tmp_path):
    """TRL's prompt is the longest common beginning (trl #6498): the ids are equal, the marked tokens are not."""
    row = {"chosen": "S54=27+27E", "rejected": "S54=28+27E"}
    path = written(tmp_path / "theirs.jsonl", [row, {"chosen": "S7=3+4E", "rejected": "S7=9+1E"}])
    batch, _ = their_batch(path, tmp_path / "out")
    found = read_pairs(path, reference)
    assert found.prompt[0] == "S54=" and found.chosen[0] == "27+27E"
    ours = found.batch(np.arange(2))
    assert torch.equal(batch["input_ids"][:2], ours["chosen_ids"])
    assert batch["completion_mask"].sum(-1).tolist() == [5, 4, 5, 4]  # 7+27E, 3+4E, 8+27E, 9+1E
    assert ours["chosen_mask"].sum(-1).tolist() == [6, 4]


def test_trl_passes_over_our_soft_labels_and_our_stored_reference(pairs, reference, tmp_path):
    """Columns that it does not know: a soft label is hard there, and log-probabilities are computed anew."""
    soft = Pairs(
        pairs.prompt,
        pairs.chosen,
        pairs.rejected,
        [0.7] * ROWS,
        [-99.0] * ROWS,
        [-9.0] * ROWS,
    )
    soft.write(tmp_path / "ours.jsonl")
    batch, line = their_batch(tmp_path / "ours.jsonl", tmp_path / "out")
    hard = pairs.batch(np.arange(ROWS))
    assert line["grad_norm"] == pytest.approx(
        our_gradients(reference, dpo_step(0.25), hard)[1], rel=1e-5
    )
    softer = {**hard, "preference_prob": torch.full((ROWS,), 0.7)}
    assert line["grad_norm"] > 2 * our_gradients(reference, dpo_step(0.25), softer)[1]
    assert "preference_prob" not in batch


def test_trls_own_precomputing_needs_our_two_columns_gone(pairs, tmp_path):
    """Same names, so it stops; without them it stores what our file held."""
    pairs.write(tmp_path / "ours.jsonl")
    with pytest.raises(ValueError, match="duplicated columns"):
        their_batch(tmp_path / "ours.jsonl", tmp_path / "out", precompute_ref_log_probs=True)
    data = loaded(tmp_path / "ours.jsonl").remove_columns(
        ["ref_chosen_logps", "ref_rejected_logps"]
    )
    made = trainer_of(
        "dpo", GEN, data, tmp_path / "out", max_steps=1, precompute_ref_log_probs=True
    )
    for name in ("ref_chosen_logps", "ref_rejected_logps"):
        assert made.train_dataset[name][:] == pytest.approx(getattr(pairs, name), abs=1e-5)


def test_an_answer_without_its_end_is_completed_there_and_refused_here(pairs, reference, tmp_path):
    """TRL appends E to texts; we ask, as an answer may have been cut."""
    rows = [
        {"prompt": p, "chosen": c.removesuffix("E"), "rejected": r}
        for p, c, r in zip(pairs.prompt, pairs.chosen, pairs.rejected)
    ]
    path = written(tmp_path / "theirs.jsonl", rows)
    batch, _ = their_batch(path, tmp_path / "out")
    assert_same(batch, pairs.batch(np.arange(ROWS)))
    with pytest.raises(ValueError, match="has no E at its end"):
        read_pairs(path, reference)


def test_a_long_answer_is_cut_there_in_silence_and_refused_here(pairs, reference, tmp_path):
    """max_length keeps the beginning: E goes first. Ours names the line."""
    rows = [
        FORMATS["explicit prompt"](p, c, r)
        for p, c, r in zip(pairs.prompt, pairs.chosen, pairs.rejected)
    ]
    path = written(tmp_path / "theirs.jsonl", rows)
    batch, _ = their_batch(path, tmp_path / "out", max_length=8)
    assert batch["input_ids"].shape[1] == 8
    whole = pairs.batch(np.arange(ROWS))["chosen_mask"].sum(-1)
    assert (batch["completion_mask"][:ROWS].sum(-1) < whole).any()
    rows[1]["chosen"] = "1+" * 70 + "1E"
    with pytest.raises(
        ValueError, match=r"line 2, is not a pair: prompt and chosen have \d+ tokens"
    ):
        read_pairs(written(tmp_path / "long.jsonl", rows), reference)
