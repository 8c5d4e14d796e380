"""The doctor: every planted fault is found by its name and no other, and clean files are silent."""

import copy
import json
import math

import numpy as np
import pytest

from dpo_core import load_pretrained
from dpo_core.checkpoint import model_folder, save_model
from dpo_core.commands.parser import main
from dpo_core.doctor import KINDS
from dpo_core.doctor_data import data_report, label_noise, reference_report
from dpo_core.doctor_run import LOSS_TYPES, Log, read_log, run_report, start_loss
from dpo_core.family import FAMILY
from dpo_core.pairs import read_pairs
from dpo_core.preferences import on_policy_pairs, population_pairs
from dpo_core.rows import read_rows, row_of, split_texts
from dpo_core.storage import parse_json
from dpo_core.task import make_task
from toys import small_model

WORDS = "sky sea tree river stone cloud bird road lamp house song field"
ANSWERS = [
    ("It is blue on clear days.", "It is always green at night."),
    ("Most of its water is salt.", "Nobody has ever seen its water, really."),
    ("They take up water by their roots.", "They eat small stones in the evening."),
    ("Rain and springs feed it.", "Lamps feed it, as everybody knows."),
    ("Heat and pressure made it.", "A baker made it on Monday morning."),
    ("Droplets of water make it white.", "Wool makes it white."),
    ("Its wings give it lift.", "Its beak pulls it upwards all day."),
    ("The Romans built it well.", "Fish built it."),
    ("Its wire glows when current flows.", "It burns cold soup."),
    ("Its walls carry the roof.", "Its roof carries the walls, they say."),
    ("It has three verses.", "It has minus three verses."),
    ("Wheat grows there in summer.", "Ice grows there in summer."),
]


def text_rows():
    """Explicit prompts and answers, as texts."""
    return [
        {"prompt": f"Tell me about the {word}.", "chosen": f" {chosen}", "rejected": f" {rejected}"}
        for word, (chosen, rejected) in zip(WORDS.split(), ANSWERS)
    ]


def said(role, content):
    return {"role": role, "content": content}


def conversations(system=False):
    """Explicit prompts in messages; with a system message, as Orca's pairs have it."""
    start = [said("system", "You are a helpful assistant.")] if system else []
    return [
        {
            "prompt": [*start, said("user", row["prompt"])],
            **{side: [said("assistant", row[side].strip())] for side in ("chosen", "rejected")},
        }
        for row in text_rows()
    ]


def ultrafeedback():
    """The binarized form: a text beside whole conversations, and scores."""
    return [
        {
            "prompt": row["prompt"],
            "chosen": [said("user", row["prompt"]), said("assistant", row["chosen"].strip())],
            "rejected": [said("user", row["prompt"]), said("assistant", row["rejected"].strip())],
            "messages": [],
            "score_chosen": 8.5,
            "score_rejected": 3.0,
        }
        for row in text_rows()
    ]


def dialogues(turns=1):
    """Implicit prompts as hh-rlhf writes them; with two turns, the first one shared."""
    before = "\n\nHuman: Hello!\n\nAssistant: Good day. What is it?" * (turns - 1)
    return [
        {
            side: f"{before}\n\nHuman: {row['prompt']}\n\nAssistant:{row[side]}"
            for side in ("chosen", "rejected")
        }
        for row in map(apart, text_rows())
    ]


def apart(row):
    """Two answers that differ from their first word on."""
    return row | {"chosen": " Well." + row["chosen"], "rejected": " No." + row["rejected"]}


def orca():
    """The columns system and question."""
    return [
        {
            "system": "You are a helpful assistant.",
            "question": r["prompt"],
            **{side: r[side].strip() for side in ("chosen", "rejected")},
        }
        for r in text_rows()
    ]


def llama_factory():
    """ShareGPT's messages, with the two answers beside them."""
    return [
        {
            "conversations": [{"from": "human", "value": row["prompt"]}],
            **{side: {"from": "gpt", "value": row[side]} for side in ("chosen", "rejected")},
        }
        for row in text_rows()
    ]


def chinese():
    """A script without spaces: no word can be cut in it."""
    return [
        {
            side: f"问：{row['prompt']}答：天{text}。"
            for side, text in (("chosen", "空"), ("rejected", "气"))
        }
        for row in text_rows()
    ]


def ended():
    """Texts that carry their end token."""
    return [
        row | {side: row[side] + "</s>" for side in ("chosen", "rejected")} for row in text_rows()
    ]


CLEAN = {
    "texts": text_rows,
    "texts with end tokens": ended,
    "conversations": conversations,
    "conversations with a system message": lambda: conversations(system=True),
    "UltraFeedback's columns": ultrafeedback,
    "hh-rlhf's dialogues": dialogues,
    "dialogues of two turns": lambda: dialogues(2),
    "Orca's columns": orca,
    "LLaMA-Factory's columns": llama_factory,
    "Chinese": chinese,
}


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def names(report):
    return [finding.name for finding in report.findings]


@pytest.mark.parametrize("form", CLEAN)
def test_clean_files_of_all_formats_are_silent(form, tmp_path, capsys):
    """A doctor who finds something in every file is read by nobody."""
    path = written(tmp_path / "a.jsonl", CLEAN[form]())
    assert data_report(read_rows(path)).findings == ()
    assert main(["doctor", "data", str(path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["findings"] == [] and report["facts"]["rows"] == 12


def test_a_json_array_is_read_like_lines(tmp_path):
    """The same rows, numbered by their place."""
    path = tmp_path / "a.json"
    path.write_text(json.dumps(text_rows(), indent=1))
    assert [row.texts for row in read_rows(path)] == [
        (row["prompt"], row["chosen"], row["rejected"]) for row in text_rows()
    ]


@pytest.mark.parametrize("labels", ["soft", "sampled", "deterministic"])
@pytest.mark.parametrize("reward", ["style", "exact", "style+exact"])
@pytest.mark.parametrize("source", ["on-policy", "hot", "population"])
def test_pairs_of_this_book_are_silent(labels, reward, source, tmp_path):
    """Copies, equal answers and turned labels that chance makes; three numbers, longer by design."""
    base, task, given = load_pretrained("gen"), make_task("book"), {"reward": reward, "seed": 5}
    if source == "population":
        made = population_pairs(base, task, 1500, labels=labels, **given)
    else:
        given["temperatures"] = (1.5, 2.0) if source == "hot" else (1.0,)
        made = on_policy_pairs(base, task, 1500, labels=labels, **given)
    made.write(tmp_path / "a.jsonl")
    assert names(data_report(read_rows(tmp_path / "a.jsonl"))) == []


def with_row(rows, number, **changes):
    rows = copy.deepcopy(rows)
    rows[number - 1] |= changes
    return rows


def turned(row):
    return {**row, "chosen": row["rejected"], "rejected": row["chosen"]}


def longer():
    """Thirty-six pairs; in all but two the chosen answer is the longer one."""
    rows = []
    for number in range(36):
        row = copy.deepcopy(text_rows()[number % 12])
        row["prompt"] += f" Part {number}."
        short, long = sorted((row["chosen"], row["rejected"]), key=len)
        more = " And there is more to say of it." * (number % 3 + 1)
        row |= {"chosen": long + more, "rejected": short}
        rows.append(row if number not in (4, 20) else turned(row))
    return rows


BOOK = [{"prompt": f"S{n}=", "chosen": f"{n}+0E", "rejected": f"{n - 1}+0E"} for n in range(20, 32)]
PLANTED = {  # what was planted: (name of the finding, rows that have it, the file)
    "one equal pair": (
        "identical",
        [3],
        with_row(text_rows(), 3, rejected=text_rows()[2]["chosen"]),
    ),
    "an empty answer": ("empty", [5], with_row(text_rows(), 5, rejected="")),
    "an answer of blanks": ("empty", [5], with_row(text_rows(), 5, chosen=" \n")),
    "an answer that is its end alone": ("empty", [2], with_row(BOOK, 2, rejected="E")),
    "another question": (
        "unequal-prompts",
        [4],
        with_row(
            ultrafeedback(), 4, rejected=[said("user", "Who?"), said("assistant", "I do not know.")]
        ),
    ),
    "another question in a dialogue": (
        "unequal-prompts",
        [4],
        with_row(dialogues(), 4, rejected="\n\nHuman: Who?\n\nAssistant: No. I do not know."),
    ),
    "no prompt": ("no-prompt", [6], with_row(text_rows(), 6, prompt="")),
    "the user answers": (
        "roles",
        [2],
        with_row(conversations(), 2, rejected=[said("user", "Ice.")]),
    ),
    "the prompt again": (
        "prompt-repeated",
        [7, 8],
        [
            row | {side: row["prompt"] + row[side] for side in ("chosen", "rejected")}
            if number in (7, 8)
            else row
            for number, row in enumerate(text_rows(), 1)
        ],
    ),
    "the prompt's messages again": (
        "prompt-repeated",
        [1],
        with_row(
            conversations(),
            1,
            chosen=[*conversations()[0]["prompt"], said("assistant", "Yes.")],
        ),
    ),
    "a prompt that ends inside a word": (
        "prompt-split",
        [9],
        with_row(
            dialogues(),
            9,
            chosen="\n\nHuman: How?\n\nAssistant: They",
            rejected="\n\nHuman: How?\n\nAssistant: Thus",
        ),
    ),
    "a space at the prompt's end": (
        "boundary",
        [1, 2],
        [
            {"prompt": r["prompt"] + " ", **{s: r[s].strip() for s in ("chosen", "rejected")}}
            if number < 3
            else r
            for number, r in enumerate(text_rows(), 1)
        ],
    ),
    "an end that is missing": ("eos-missing", [10], with_row(ended(), 10, rejected=" No end.")),
    "a rejected side without ends": (
        "eos-missing",
        list(range(1, 13)),
        [row | {"chosen": row["chosen"] + "<|im_end|>"} for row in text_rows()],
    ),
    "an answer of the book without E": ("eos-missing", [3], with_row(BOOK, 3, chosen="22+0")),
    "two ends": ("eos-double", [11], with_row(ended(), 11, chosen=" Two ends.</s></s>")),
    "text after E": ("eos-double", [1], with_row(BOOK, 1, chosen="20+0E+1")),
    "an end in a message": (
        "eos-double",
        [12],
        with_row(conversations(), 12, chosen=[said("assistant", "Wheat grows there.<|im_end|>")]),
    ),
    "half a character": ("characters", [2], with_row(text_rows(), 2, chosen=" Salt \ud83d")),
    "a replacement character": ("characters", [2], with_row(text_rows(), 2, chosen=" Sal\ufffd")),
    "a NUL": ("characters", [7], with_row(conversations(), 7, chosen=[said("assistant", "W\0gs")])),
    "exchanged scores": ("scores", [8], with_row(ultrafeedback(), 8, score_chosen=1.5)),
    "a label above one": ("label-range", [2], with_row(text_rows(), 2, preference_prob=1.25)),
    "chosen is longer": ("length", [], longer()),
    "a copy": ("duplicates", [13, 14], [*text_rows(), text_rows()[3], text_rows()[3]]),
    "a turned copy": ("contradictions", [5, 13], [*text_rows(), turned(text_rows()[4])]),
    "soft labels that disagree": (
        "contradictions",
        [5, 13],
        [row | {"preference_prob": 0.8} for row in [*text_rows(), turned(text_rows()[4])]],
    ),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_found_by_name_and_alone(fault, tmp_path, capsys):
    """Its name, its rows, a reason, advice and a chapter; exit code 1."""
    name, where, rows = PLANTED[fault]
    path = written(tmp_path / "a.jsonl", rows)
    assert main(["doctor", "data", str(path), "--json"]) == 1
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert (finding["name"], finding["rows"]) == (name, where)
    assert finding["why"] and finding["advice"] and 1 <= finding["chapter"] <= 14
    assert main(["doctor", "data", str(path)]) == 1
    assert f"\n{name}" in capsys.readouterr().out


def test_soft_labels_that_say_the_same_do_not_contradict(tmp_path):
    """0.8 for one answer and 0.2 for the other one are one opinion."""
    rows = [row | {"preference_prob": 0.8} for row in text_rows()]
    rows.append(turned(rows[4]) | {"preference_prob": 0.2})
    assert names(data_report(read_rows(written(tmp_path / "a.jsonl", rows)))) == []


def test_label_noise_is_that_which_was_planted():
    """A fifth of the labels turned round; every pair twice."""
    rows, flips, rng = [], 0, np.random.default_rng(0)
    for number in range(4000):
        row = {"prompt": f"Q{number // 2}", "chosen": "yes", "rejected": "no"}
        wrong = rng.random() < 0.2
        flips += wrong
        rows.append(row_of(turned(row) if wrong else row, number + 1))
    noise = label_noise(rows)
    assert noise["pairs"] == 2000
    assert noise["low"] < flips / 4000 < noise["high"] and noise["high"] - noise["low"] < 0.04


# ---------------------------------------------------------------- with a model


class Pieces:
    """A tokenizer of words with the space before them; a space at the end of a text stands alone."""

    def encode(self, text):
        return [hash(word) for word in text.replace(" ", "\n ").split("\n") if word]


def test_boundaries_and_cuts_are_looked_for_with_the_models_tokenizer(tmp_path):
    """`Tell me ` and `more`: three tokens together, ` more` among them, that the prompt does not begin."""
    rows = [row_of(row, n) for n, row in enumerate(text_rows(), 1)]
    assert names(data_report(rows, Pieces())) == []
    glued = [*rows, row_of({"prompt": "Tell me", "chosen": "more", "rejected": " less"}, 13)]
    found = data_report(glued, Pieces())
    assert [(f.name, f.where) for f in found.findings] == [("boundary", (13,))]
    cut = data_report(rows, Pieces(), limit=5)
    assert [f.name for f in cut.findings] == ["identical-after-truncation"]
    assert cut.findings[0].where == tuple(range(1, 13))
    assert names(data_report(rows, Pieces(), limit=8)) in ([], ["identical-after-truncation"])
    long = data_report(rows, Pieces(), positions=10)
    assert "too-long" in names(long) and long.facts["unit"] == "tokens"


def test_the_reference_says_how_much_a_run_has_to_turn():
    """By hand: two of four are right; the others lack 1 and 3 nats."""
    rows = [row_of(row, n) for n, row in enumerate(text_rows()[:4], 1)]
    report = reference_report(rows, [(-1.0, -2.0), (-1.0, -1.5), (-3.0, -2.0), (-5.0, -2.0)])
    assert report.facts["already_right"]["value"] == 0.5
    assert report.facts["median_to_turn"] == 2.0 and not report.findings


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    """Sixty pairs of the book, scored by the shipped model."""
    path = tmp_path_factory.mktemp("ours") / "pairs.jsonl"
    on_policy_pairs(load_pretrained("gen"), make_task("book"), 60, seed=3).write(path)
    return path


def test_a_file_scored_by_another_model_is_found(ours, tmp_path, capsys):
    """The log-probabilities of gen, and dpo as the model to be trained; with gen all is well."""
    assert main(["doctor", "data", str(ours), "--model", "gen", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)["facts"]
    assert facts["scored"] == 60 and facts["unit"] == "tokens"
    assert main(["doctor", "data", str(ours), "--model", "dpo", "--json"]) == 1
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert finding["name"] == "reference-mismatch" and len(finding["rows"]) > 50
    save_model(small_model(), tmp_path / "small.model")
    assert main(["doctor", "data", str(ours), "--model", str(tmp_path / "small.model")]) == 1


def test_a_file_of_words_is_not_for_the_books_model(tmp_path, capsys):
    """Every row is named; nothing is scored, and no traceback."""
    path = written(tmp_path / "a.jsonl", text_rows())
    assert main(["doctor", "data", str(path), "--model", "gen", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)["findings"]
    assert [f["name"] for f in found] == ["not-in-vocabulary"] and len(found[0]["rows"]) == 12


def test_answers_cut_alike_are_found_in_a_file_of_the_book(tmp_path, capsys):
    """Nine of the tokens kept, and the difference in the tenth."""
    rows = with_row(BOOK, 4, chosen="20+3+0-0E", rejected="20+3+0-1E")
    path = str(written(tmp_path / "a.jsonl", rows))
    assert main(["doctor", "data", path, "--model", "gen"]) == 0
    capsys.readouterr()
    assert main(["doctor", "data", path, "--model", "gen", "--max-length", "9", "--json"]) == 1
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert (finding["name"], finding["rows"]) == ("identical-after-truncation", [4])


def test_the_lengths_can_be_drawn(ours, tmp_path):
    """A PNG, once; what stands there is not replaced."""
    picture = tmp_path / "lengths.png"
    assert main(["doctor", "data", str(ours), "--picture", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert main(["doctor", "data", str(ours), "--picture", str(picture)]) == 2


# ---------------------------------------------------------------- runs


def curve(steps=30, loss="sigmoid", start=None, beta=0.1, first=1, **changes):
    """The log of a healthy run as TRL writes it: hard labels, all pairs alike."""
    lines = []
    for number in range(steps):
        progress = number / steps
        chosen, rejected = 0.3 * progress, -1.2 * progress
        margin = chosen - rejected
        lines.append(
            {
                "step": first + 10 * number,
                "epoch": progress,
                "loss": math.log1p(math.exp(-margin)) + 0.03 * progress,
                "grad_norm": 3.0 - progress,
                "learning_rate": 5e-7 * (1 - progress),
                "rewards/chosen": chosen,
                "rewards/rejected": rejected,
                "rewards/margins": margin,
                "rewards/accuracies": 0.0 if number == 0 else 0.6 + 0.2 * progress,
                "logps/chosen": -120.0 + chosen / beta,
                "logps/rejected": -130.0 + rejected / beta,
                "mean_token_accuracy": 0.6,
            }
        )
    return [*lines, {"step": lines[-1]["step"], "train_loss": 0.5, "train_runtime": 12.0}]


def trainer_state(path, lines):
    """As transformers writes it, NaN included."""
    path.write_text(json.dumps({"best_metric": None, "global_step": 9, "log_history": lines}))
    return str(path)


def changed(where, lines=None, **changes):
    """The curve with changes in some of its lines; a change may be a function of the line."""
    lines = copy.deepcopy(lines or curve())
    for number in range(len(lines) - 1)[where]:
        for name, value in changes.items():
            lines[number][
                name.replace("_", "/", 1) if name.startswith(("rewards", "logps")) else name
            ] = value(lines[number]) if callable(value) else value
    return lines


ALL, LATE, FIRST = slice(None), slice(15, None), slice(0, 1)


def falling(to, accuracy, rejected):
    """A run whose chosen reward falls to `to`, rejected's to `rejected`."""
    lines = curve()
    for number, line in enumerate(lines[:-1]):
        progress = number / 29
        line |= {"rewards/chosen": to * progress, "rewards/rejected": rejected * progress}
        line["rewards/margins"] = line["rewards/chosen"] - line["rewards/rejected"]
        line["logps/chosen"] = -120 + line["rewards/chosen"] / 0.1
        line["loss"] = math.log1p(math.exp(-line["rewards/margins"])) + 0.02 * progress
        line["rewards/accuracies"] = accuracy * min(1.0, 2 * progress)
    return lines


BAD_RUNS = {
    "a doubled first loss": ("start", [1], changed(FIRST, loss=2 * math.log(2))),
    "a first loss that is low": ("start", [1], changed(FIRST, loss=0.61)),
    "a start far off": (
        "reference-mismatch",
        [1],
        changed(
            FIRST,
            rewards_chosen=-0.8,
            rewards_rejected=-0.9,
            rewards_margins=0.1,
            rewards_accuracies=0.6,
            loss=0.65,
        ),
    ),
    "a start far off, ten steps a line": (
        "reference-mismatch",
        [10],
        changed(
            FIRST,
            curve(first=10),
            rewards_chosen=-2.0,
            rewards_rejected=-2.1,
            rewards_margins=0.1,
            rewards_accuracies=0.6,
        ),
    ),
    "NaN": ("not-finite", list(range(151, 292, 10)), changed(LATE, loss=math.nan)),
    "an infinite reward": (
        "not-finite",
        [151],
        changed(slice(15, 16), rewards_chosen=math.inf, rewards_margins=math.inf),
    ),
    "a gradient that stays NaN": (
        "not-finite",
        list(range(151, 292, 10)),
        changed(LATE, grad_norm=math.nan),
    ),
    "an accuracy above 1": (
        "impossible",
        list(range(151, 292, 10)),
        changed(LATE, rewards_accuracies=1.5),
    ),
    "a log-probability above 0": ("impossible", [151], changed(slice(15, 16), logps_chosen=2.0)),
    "a negative loss": ("impossible", [151], changed(slice(15, 16), loss=-0.5)),
    "all right, and a negative margin": (
        "impossible",
        [41],
        changed(
            slice(4, 5),
            rewards_accuracies=1.0,
            rewards_chosen=-0.2,
            rewards_rejected=0.1,
            rewards_margins=-0.3,
            loss=0.9,
        ),
    ),
    "margins of the wrong sign": (
        "margins",
        list(range(11, 292, 10)),
        changed(slice(1, None), rewards_margins=lambda line: -line["rewards/margins"]),
    ),
    "a loss of another beta": (
        "loss-and-margins",
        list(range(61, 292, 10)),
        changed(slice(6, None), loss=lambda x: 0.8 * math.log1p(math.exp(-x["rewards/margins"]))),
    ),
    "chosen falls with rejected": ("displacement", [291], falling(-2.0, 0.8, -4.0)),
    "every pair is right, and chosen falls": (
        "over-optimisation",
        [291],
        falling(-1.5, 1.0, -9.0),
    ),
    "a learning rate of pretraining": ("learning-rate", [], changed(ALL, learning_rate=3e-4)),
    "a learning rate of nothing": (
        "learning-rate",
        [],
        changed(ALL, learning_rate=lambda line: 1e-10 * (400 - line["step"]) / 400),
    ),
    "nothing is learnt": (
        "not-learning",
        [1, 291],
        changed(
            ALL, loss=math.log(2), rewards_chosen=0.0, rewards_rejected=0.0, rewards_margins=0.0
        ),
    ),
    "the loss goes up": (
        "diverging",
        [291],
        changed(LATE, loss=1.4, rewards_chosen=-0.2, rewards_rejected=0.2, rewards_margins=-0.4),
    ),
}


@pytest.mark.parametrize("fault", BAD_RUNS)
def test_a_fault_of_a_run_is_found_by_name_and_alone(fault, tmp_path, capsys):
    """TRL's log; its name, its steps; exit code 1, and JSON without NaN."""
    name, where, lines = BAD_RUNS[fault]
    path = trainer_state(tmp_path / "trainer_state.json", lines)
    assert main(["doctor", "run", path, "--json"]) == 1
    text = capsys.readouterr().out
    (finding,) = parse_json(text)["findings"]
    assert (finding["name"], finding["steps"]) == (name, where)
    assert main(["doctor", "run", path]) == 1


def test_every_kind_of_fault_is_planted_somewhere():
    """A check that no test can wake."""
    planted = {name for name, *_ in (*PLANTED.values(), *BAD_RUNS.values())}
    elsewhere = {"identical-after-truncation", "not-in-vocabulary", "too-long", "beta"}
    assert planted | elsewhere == set(KINDS)


GOOD_RUNS = {
    "TRL's log": curve(),
    "ten steps a line": curve(first=10),
    "float16's scaler": changed(slice(3, 4), grad_norm=math.inf),
    "accuracies of one": falling(-0.05, 1.0, -5.0),
    "a small fall": falling(-0.09, 0.8, -0.3),
    "three lines": curve(steps=3),
    "a start in bfloat16": changed(
        FIRST,
        rewards_chosen=0.02,
        rewards_rejected=-0.01,
        rewards_margins=0.03,
        rewards_accuracies=0.6,
    ),
    "evaluations between": [
        *curve(),
        {"step": 300, "eval_loss": 0.5, "eval_rewards/accuracies": 0.7},
    ],
    "supervised fine-tuning": [
        {"step": n, "loss": 2.0 - n / 50, "learning_rate": 2e-4} for n in range(1, 30)
    ],
}


@pytest.mark.parametrize("run", GOOD_RUNS)
def test_a_healthy_run_is_silent(run, tmp_path):
    """The same numbers, where they are no fault."""
    path = trainer_state(tmp_path / "trainer_state.json", GOOD_RUNS[run])
    report = run_report(read_log(path))
    assert report.findings == () and report.facts["lines"] > 0
    assert main(["doctor", "run", path]) == 0


@pytest.mark.parametrize("name", ["gen", "dpo"])
def test_the_shipped_runs_are_silent(name, capsys):
    """Muon at 2e-3, soft labels, beta 0.25: a small model's own recipe, known from its folder."""
    assert main(["doctor", "run", str(model_folder(name)), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)["facts"]
    assert name == "gen" or (facts["beta"], facts["loss_type"]) == (0.25, "sigmoid")


@pytest.mark.parametrize(
    ("loss", "beta", "start"),
    [
        ("sigmoid", None, math.log(2)),
        ("robust", 0.1, math.log(2)),
        ("hinge", 0.5, 1.0),
        ("ipo", 0.1, 25.0),
        ("ipo", None, None),
        ("kto", 0.1, 0.5),
        ("apo_zero", 0.1, 1.0),
        ("bco_pair", 0.1, 2 * math.log(2)),
        ("sppo_hard", 0.1, 50.0),
        ("simpo", 2.0, None),
        ("sigmoid_sft", 0.1, None),
    ],
)
def test_the_loss_at_the_start_is_known_beforehand(loss, beta, start):
    """By hand, and label smoothing changes none of it."""
    for smoothing in (0.0, 0.1):
        found = start_loss(loss, beta, {"label_smoothing": smoothing})
        assert found == (None if start is None else pytest.approx(start))


@pytest.mark.parametrize("loss", LOSS_TYPES)
def test_every_loss_begins_where_it_must(loss, tmp_path):
    """A log of that loss that begins there is silent; twice as much is found, where it is known."""
    beta = {"sigmoid_norm": 5.0, "simpo": 5.0}.get(loss, 0.1)
    begin = start_loss(loss, beta, {})
    for factor, found in ((1, []), (2, ["start"])):
        lines = curve(beta=beta)
        for number, line in enumerate(lines[:-1]):
            line["loss"] = (begin or 1.0) * (factor if number == 0 else 1 - number / 100)
        path = trainer_state(tmp_path / f"{factor}.json", lines)
        log = read_log(path)
        report = run_report(Log(log.lines, loss, beta, hard=False))
        assert names(report) == (found if begin is not None else [])
    assert loss not in FAMILY or (begin is None) == (
        not FAMILY[loss].reference or loss == "sigmoid_sft"
    )


@pytest.mark.parametrize(
    ("loss", "beta", "found"),
    [
        ("sigmoid", 5.0, True),
        ("sigmoid", 0.05, False),
        ("sigmoid_norm", 5.0, False),
        ("simpo", 0.1, True),
    ],
)
def test_a_beta_belongs_to_its_loss(loss, beta, found):
    """Five on a mean over tokens is a recipe, on a sum it is none."""
    lines = tuple(line for line in changed(slice(1, None), loss=0.69) if "loss" in line)
    report = run_report(Log(lines, loss, beta, hard=False))
    assert ("beta" in names(report)) == found


def test_the_pairs_tell_a_stale_reference(tmp_path):
    """The pairs were scored by a model under which chosen has -20; the run begins at -120."""
    rows = [
        row_of(row | {"ref_chosen_logps": -20.0 - n, "ref_rejected_logps": -25.0}, n)
        for n, row in enumerate(text_rows())
    ]
    log = read_log(trainer_state(tmp_path / "a.json", curve()))
    assert names(run_report(log, rows)) == ["reference-mismatch"]
    near = [
        row_of(row | {"ref_chosen_logps": -115.0 - n, "ref_rejected_logps": -125.0}, n)
        for n, row in enumerate(text_rows())
    ]
    assert names(run_report(log, near)) == []


def test_a_run_of_trl_on_the_shipped_model_is_silent(tmp_path):
    """Twenty steps of DPOTrainer, its own trainer_state.json; and the same log with a fault."""
    datasets, trl = pytest.importorskip("datasets"), pytest.importorskip("trl")
    transformers = pytest.importorskip("transformers")
    folder = model_folder("gen")
    made = on_policy_pairs(load_pretrained("gen"), make_task("book"), 160, labels="sampled", seed=7)
    data = datasets.Dataset.from_dict(
        {name: getattr(made, name) for name in ("prompt", "chosen", "rejected")}
    )
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    config = trl.DPOConfig(
        output_dir=str(tmp_path / "trl"),
        max_steps=20,
        per_device_train_batch_size=8,
        learning_rate=1e-3,
        beta=0.25,
        logging_steps=1,
        bf16=False,
        gradient_checkpointing=False,
        report_to=[],
        use_cpu=True,
        save_strategy="steps",
        save_steps=20,
        disable_tqdm=True,
    )
    trainer = trl.DPOTrainer(
        model=model, args=config, train_dataset=data, processing_class=tokenizer
    )
    trainer.train()
    log = tmp_path / "trl" / "checkpoint-20" / "trainer_state.json"
    assert main(["doctor", "run", str(log), "--beta", "0.25", "--loss-type", "sigmoid"]) == 0
    assert main(["doctor", "run", str(log.parent), "--loss-type", "hinge"]) == 1


# ---------------------------------------------------------------- what cannot be read


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("", "holds no pairs"),
        ('{"prompt": "a"', "line 1, is not JSON"),
        ('{"prompt": "a", "chosen": "b"}', "line 1, is not a pair: it has no rejected"),
        ('{"prompt": "a", "completion": "b", "label": true}', "KTO's format"),
        ('{"prompt": "a", "chosen": "b", "rejected": null}', "rejected is None"),
        ('{"prompt": "a", "chosen": "b", "rejected": ["c"]}', "rejected has the message 'c'"),
        ("[1, 2]", "it holds 1"),
        ('{"image": "x", "prompt": "a", "chosen": "b", "rejected": "c"}', "it has image"),
        (
            '{"prompt": "a", "chosen": " b", "rejected": " c"}\n{"chosen": "a b", "rejected": "a c"}',
            "mixes formats: line 1 is text with prompt, line 2 is implicit text",
        ),
        ('{"question": "q", "response_0": "a", "response_1": "b"}', "its columns are question,"),
    ],
)
def test_a_file_that_holds_no_pairs_is_refused_in_one_line(content, named, tmp_path, capsys):
    """Exit code 2, the line and what is wrong with it."""
    path = tmp_path / "a.jsonl"
    path.write_text(content)
    assert main(["doctor", "data", str(path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and named in captured.err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["data", "missing.jsonl"], "no file missing.jsonl"),
        (["run", "missing.json"], "no log missing.json"),
        (["both", "a.jsonl"], "unknown kind 'both'; accepted are data, run"),
        (["data", "a.jsonl", "--beta", "0.1"], "beta has no effect on doctor data"),
        (["run", "a.json", "--model", "gen"], "model has no effect on doctor run"),
        (
            ["data", "a.jsonl", "--max-length", "5"],
            "max_length has no effect on doctor data without",
        ),
        (["run", "a.json", "--loss-type", "dpo"], "unknown loss_type 'dpo'"),
        (["run", "pairs.jsonl"], "is no log: no line has a step and a loss"),
        (["run", "words"], "is no log"),
        (["data"], "file"),
    ],
)
def test_what_cannot_be_examined_is_named(arguments, named, tmp_path, monkeypatch, capsys):
    """One line, exit code 2."""
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "pairs.jsonl", text_rows())
    (tmp_path / "words").write_text("no log at all")
    try:
        code = main(["doctor", *arguments])
    except SystemExit as left:
        code = left.code
    error = capsys.readouterr().err
    assert code == 2 and error.count("\n") == 1 and named in error


def test_a_prompt_that_nobody_wrote_down_ends_at_a_word():
    """trl #6498: the common beginning of these two is `The sky is b`."""
    assert split_texts("The sky is blue", "The sky is black") == ("The sky is", " blue", " black")
    assert split_texts("S54=27+27E", "S54=27+28E") == ("S54=", "27+27E", "27+28E")


def test_NaN_is_read_where_it_is_asked_for_only():
    """JSON has none; transformers writes it."""
    assert math.isnan(parse_json('{"a": NaN}', constants=True)["a"])
    with pytest.raises(ValueError, match="NaN is not a number of JSON"):
        parse_json('{"a": NaN}')


def test_reading_a_file_agrees_with_the_strict_reader(ours):
    """The same texts and numbers as `Pairs` wrote."""
    strict, loose = read_pairs(ours), read_rows(ours)
    assert [row.texts for row in loose] == list(zip(strict.prompt, strict.chosen, strict.rejected))
    assert [row.preference_prob for row in loose] == strict.preference_prob
