"""`dpo-core make-pairs`, and `train-dpo --pairs-file`: where pairs come from, and what is refused."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from dpo_core.checkpoint import read_recipe, save_model
from dpo_core.commands import train_dpo
from dpo_core.commands.parser import main
from dpo_core.pairs import read_pairs
from dpo_core.preferences import answers_of_authors, label, on_policy_pairs, population_pairs
from dpo_core.sampling import score
from dpo_core.task import judge, make_task, stream
from runs import killed_at
from toys import memoryless_model, small_model

TASK = make_task("book")
TRAIN = ["train-dpo", "--model", "gen", "--steps", "1", "--batch-size", "4", "--output", "a.model"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Every test in an empty folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lines(path="pairs.jsonl"):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def make(*arguments):
    return main(["make-pairs", "--model", "gen", "--pairs", "40", *arguments])


def write(rows, path="mine.jsonl"):
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def fails(arguments, capsys) -> str:
    assert main(arguments) == 2
    errors = capsys.readouterr().err
    assert len(errors.splitlines()) == 1 and errors.startswith("dpo-core")
    return errors


MINE = [{"prompt": f"S{n}=", "chosen": f"{n}+0E", "rejected": f"{n}+1E"} for n in range(8)]


def test_the_authors_answer_each_prompt_as_their_table_says():
    """A draw over the whole table, or over the neighbour's rows."""
    prompts = ["S54="] * 20_000
    drawn = Counter(answers_of_authors(TASK, prompts, stream("test", 0)))
    rates = {
        text: np.exp(logp)
        for (prompt, text), logp in TASK.log_conditional.items()
        if prompt == "S54="
    }
    assert drawn.keys() <= rates.keys()
    for text, rate in sorted(rates.items(), key=lambda item: -item[1])[:5]:
        assert drawn[text] / len(prompts) == pytest.approx(rate, abs=0.01)
    mixed = list(TASK.prompt_distribution) * 3
    for text in zip(mixed, answers_of_authors(TASK, mixed, stream("test", 1))):
        assert text in TASK.log_conditional


def test_population_pairs_are_two_texts_of_the_authors():
    """Both answers belong to the prompt; neither is the model's."""
    made = population_pairs(
        small_model(), TASK, 200, reward="exact", labels="deterministic", seed=3
    )
    for prompt, chosen, rejected in zip(made.prompt, made.chosen, made.rejected):
        assert {(prompt, chosen), (prompt, rejected)} <= TASK.log_conditional.keys()
        assert judge(prompt, chosen).exact and not judge(prompt, rejected).exact


@pytest.mark.parametrize("labels", ["sampled", "deterministic"])
def test_noise_turns_that_share_of_the_labels_round(labels):
    """Noise that draws a new label instead flips only half as many."""
    swap, _, _ = label(np.full(40_000, 2.0), labels, stream("test", 0), 0.3)
    right = 1 / (1 + np.exp(-2)) if labels == "sampled" else 1
    assert swap.mean() == pytest.approx(0.3 * right + 0.7 * (1 - right), abs=0.01)


def test_a_noisy_soft_label_is_its_expectation():
    """(1 - ε) q + ε (1 - q), by hand: 0.8 · 0.880797 + 0.2 · 0.119203."""
    _, probability, _ = label(np.array([2.0, -2.0, 0.0]), "soft", stream("test", 0), 0.2)
    assert probability == pytest.approx([0.728478, 0.728478, 0.5], abs=1e-6)


def test_another_sampler_answers_and_the_reference_scores():
    """Off-policy pairs whose log-probabilities are the sampler's start away from ln 2."""
    reference, sampler = small_model(), memoryless_model({"E": 0.5, "1": 0.5})
    made = on_policy_pairs(reference, TASK, 30, sampler=sampler)
    assert set("".join(made.chosen + made.rejected)) <= {"1", "E"}
    assert made.ref_chosen_logps == pytest.approx(
        score(reference, made.prompt, made.chosen).tolist(), abs=1e-4
    )


@pytest.mark.parametrize("source", ["population", "on-policy", "checker"])
def test_make_pairs_writes_trls_columns(source):
    """TRL reads JSON lines through `datasets` and looks for prompt, chosen, rejected."""
    assert make("--source", source) == 0
    datasets = pytest.importorskip("datasets")
    table = datasets.load_dataset(
        "json", data_files="pairs.jsonl", split="train", cache_dir="cache"
    )
    assert {"prompt", "chosen", "rejected"} <= set(table.column_names) and len(table) == len(
        lines()
    )
    assert (len(table) == 40) == (source != "checker")
    if source == "checker":
        for row in table:
            assert (
                judge(row["prompt"], row["chosen"]).exact
                and not judge(row["prompt"], row["rejected"]).exact
            )


def test_train_dpo_takes_what_make_pairs_made():
    """No pairs are made beside the file; the recipe names it, and not the options that made nothing."""
    assert make("--labels", "sampled", "--noise", "0.2") == 0
    assert main([*TRAIN, "--pairs-file", "pairs.jsonl", "--label-smoothing", "0.1"]) == 0
    recipe = read_recipe(Path("a.model"))
    assert (
        recipe["pairs_file"] == "pairs.jsonl"
        and recipe["pairs"] == 40
        and len(recipe["pairs_sha256"]) == 64
    )
    assert recipe["labels"] is None and recipe["reward"] is None
    assert main(["evaluate", "a.model", "--n", "20", "--json"]) == 0


def test_a_run_is_not_resumed_on_other_pairs(capsys, here):
    """Half a run on one file and half on another of the same name is a run that nobody described."""
    assert make() == 0
    arguments = [*TRAIN, "--pairs-file", "pairs.jsonl", "--save-every", "2", "--log-every", "1"]
    killed = train_dpo.run_training

    def stops(options, model, batch_at, *rest):
        return killed(options, model, killed_at(3, batch_at), *rest)

    patch = pytest.MonkeyPatch()
    patch.setattr(train_dpo, "run_training", stops)
    try:
        assert main([*arguments, "--steps", "4"]) == 130
    finally:
        patch.undo()
    rows = lines()
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in reversed(rows)))
    capsys.readouterr()
    assert "state of another run: pairs_sha256" in fails(
        [*arguments, "--steps", "4", "--resume"], capsys
    )
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main([*arguments, "--steps", "4", "--resume"]) == 0


def test_missing_log_probabilities_are_computed(capsys, here):
    """A file that knows only TRL's columns trains, with the start as reference."""
    write(MINE)
    assert main([*TRAIN, "--pairs-file", "mine.jsonl"]) == 0
    assert main(["evaluate", "a.model", "--n", "20", "--json"]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert "population" not in report and "predicted" not in report


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--source", "friends"], "'friends'; accepted are population, on-policy, checker"),
        (["--source", "checker", "--reward", "style"], "reward has no effect on source checker"),
        (["--source", "checker", "--labels", "sampled"], "labels has no effect on source checker"),
        (
            ["--source", "population", "--pair-temperatures", "1"],
            "pair_temperatures has no effect on source population",
        ),
        (["--noise", "0.5"], "noise is 0.5; accepted are finite numbers from 0 below 0.5"),
        (["--noise", "nan"], "noise is nan"),
        (["--pairs", "0"], "pairs is 0"),
        (["--reward", "length"], "'length'; accepted are"),
        (["--labels", "hard"], "'hard'; accepted are"),
        (["--output", "."], ". exists; name another file"),
        (["--output", ""], "accepted is the name of a folder or file"),
        (["--output", "a\nb"], "accepted is one line of text"),
        (["--model", "nowhere"], "no model folder nowhere"),
        (["--seed", "-1"], "seed is -1"),
        (["--device", "tpu"], "unknown device 'tpu'"),
        (["--pair-temperatures", "-1"], "pair_temperatures is -1.0"),
    ],
)
def test_bad_options_of_make_pairs(arguments, message, capsys, here):
    """One line, exit code 2, nothing written."""
    assert message in fails(["make-pairs", "--model", "gen", "--pairs", "40", *arguments], capsys)
    assert list(here.iterdir()) == []


def test_a_judge_without_an_opinion_writes_no_file(capsys, here):
    """All ties: an empty file would be trained on, or trip the next command."""
    save_model(memoryless_model({"E": 1.0}), here / "mute.model")
    before = list(here.iterdir())
    arguments = ["make-pairs", "--source", "checker", "--pairs", "40", "--model", "mute.model"]
    assert "all 40 are ties" in fails(arguments, capsys)
    assert list(here.iterdir()) == before


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "holds no pairs"),
        (
            [*MINE, {"prompt": "S1=", "chosen": "1E"}],
            "line 9, is not a pair: it has no rejected",
        ),
        ([*MINE, {**MINE[0], "chosen": 3}], "line 9"),
        ([*MINE, {**MINE[0], "rejected": "x"}], "unknown character 'x'"),
        ([*MINE, {**MINE[0], "rejected": "1" * 200}], "203 tokens; the model has 128 positions"),
        ([*MINE, {**MINE[0], "preference_prob": 2}], "preference_prob is 2; accepted is 0 to 1"),
        ([*MINE, {**MINE[0], "ref_chosen_logps": float("nan")}], "NaN is not a number of JSON"),
        (
            [*MINE, {**MINE[0], "ref_chosen_logps": -1.0, "ref_rejected_logps": -1.0}],
            "some lines have",
        ),
        ([{**row, "chosen": row["chosen"][:-1]} for row in MINE], "line 1, is not a pair: chosen"),
        ([{**MINE[0], "tools": [{"name": "f"}]}], "it has tools"),
        ([{**MINE[0], "images": ["a.png"]}], "it has images"),
        (
            [{**row, "ref_chosen_logps": -1e299, "ref_rejected_logps": -1.0} for row in MINE],
            "ref_chosen_logps is -1e+299",
        ),
        (MINE[:3], "3 pairs do not fill a batch of 4"),
        ([*MINE, "text"], "line 9"),
    ],
)
def test_bad_files_of_pairs(rows, message, capsys, here):
    """The line is named and nothing is written."""
    write(rows)
    before = sorted(here.rglob("*"))
    assert message in fails([*TRAIN, "--pairs-file", "mine.jsonl"], capsys)
    assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["--reward", "style"],
        ["--labels", "sampled"],
        ["--pairs", "64"],
        ["--pair-temperatures", "1"],
        ["--task", "classic"],
    ],
)
def test_options_that_made_no_pairs_are_refused_with_a_file(arguments, capsys, here):
    """A reward beside a file changes nothing, and would be recorded as if it had."""
    write(MINE)
    message = f"{arguments[0].strip('-').replace('-', '_')} has no effect on a file of pairs"
    assert message in fails([*TRAIN, "--pairs-file", "mine.jsonl", *arguments], capsys)
    assert not (here / "a.model").exists()


def test_smoothing_has_no_effect_on_a_file_of_soft_labels(capsys):
    """It would be refused in the middle of the first step otherwise, with half a run on disk."""
    assert make() == 0
    arguments = [*TRAIN, "--pairs-file", "pairs.jsonl", "--label-smoothing", "0.1"]
    assert "label_smoothing has no effect on soft labels" in fails(arguments, capsys)


def test_a_missing_file_is_named(capsys):
    assert "no file of pairs absent.jsonl" in fails(
        [*TRAIN, "--pairs-file", "absent.jsonl"], capsys
    )


def test_pairs_taken_by_rows_keep_their_columns():
    made = on_policy_pairs(small_model(), TASK, 6)
    part = made.take([4, 1])
    assert (
        part.prompt == [made.prompt[4], made.prompt[1]]
        and part.ref_rejected_logps[1] == made.ref_rejected_logps[1]
    )


def test_written_pairs_read_back(here):
    assert make("--source", "population") == 0
    assert len(read_pairs(here / "pairs.jsonl")) == 40
