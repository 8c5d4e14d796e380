"""What chapter 12 concludes fails where the stored runs say something else.

The cells that draw a conclusion are taken from the chapter and run on the stored files, then on files in which two
arms, two KL terms or two budgets are exchanged, a seed is missing, or an arm is gone.
"""

import copy
import json

import matplotlib
import pytest

import sources

DATA = sources.CHAPTERS / "data"
(CHAPTER,) = [path for path in sources.chapters() if path.stem.startswith("12")]
FILES = ("rl_ends", "rl_frontier", "seeds", "rl_leak", "rl_scores")
LEASH = ("from dpo_core import BookTask", "task, REWARD, BETA = BookTask()", "TERMS = {")
BUDGET = ("stored = json.loads", "def seeds(runs, name)", "trained = json.loads")
VERDICT = ("few, twice = ", "def paired(one, other")
FORKS = ("end_of = dict(end_J)",)
LEAKS = (
    "leaky = json.loads",
    "def shown(judge, beta",
    "ranks = json.loads",
    "gold = {judge: np.mean",
)
ALL = (*LEASH, *BUDGET, *VERDICT, "once = [run for run", *FORKS, *LEAKS)


def conclude(monkeypatch, folder, change=lambda files: None, cells=ALL):
    """Run the cells of the chapter in their order, on the stored files, changed."""
    matplotlib.use("Agg")
    files = {name: json.loads((DATA / f"{name}.json").read_text("utf-8")) for name in FILES}
    change(files)
    (folder / "data").mkdir()
    for name, content in files.items():
        (folder / "data" / f"{name}.json").write_text(json.dumps(content), "utf-8")
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(sources.CHAPTERS))
    code = [cell.source for cell in sources.cells(CHAPTER) if cell.kind == "code"]
    namespace: dict = {}
    for opening in cells:
        (source,) = [source for source in code if opening in source]
        exec(compile(source, opening, "exec"), namespace)


def exchange(panel, one, other):
    """Two arms of rl_frontier exchange their names."""
    names = {one: other, other: one}

    def change(files):
        for run in files["rl_frontier"][panel]:
            run["method"] = names.get(run["method"], run["method"])

    return change


def turn(method):
    """The two KL terms of a method exchange their ends."""

    def change(files):
        ends = files["rl_ends"]["ends"]
        ends[method], ends[f"{method}_ratio"] = ends[f"{method}_ratio"], ends[method]

    return change


def drop(panel, method):
    def change(files):
        runs = files["rl_frontier"][panel]
        files["rl_frontier"][panel] = [run for run in runs if run["method"] != method]

    return change


def one_seed(files):
    for run in files["rl_frontier"]["equal_answers"]:
        run["seed"] = 0


def more_for_less(files):
    """The recipe's models and those of the small budget exchange their results."""
    small = [run for run in files["rl_frontier"]["equal_answers"] if run["method"] == "dpo"]
    for run, seed in zip(small, files["seeds"]["seeds"]):
        for name in ("style", "exact", "kl"):
            run[name], seed["dpo"][name] = copy.deepcopy(seed["dpo"][name]), run[name]


def ceiling(files):
    """The recipe comes no further than twice the small budget."""
    for seed in files["seeds"]["seeds"]:
        seed["dpo"]["exact"]["value"] -= 0.06


def fooled_for_honest(files):
    """The judge that can be fooled and the honest one exchange their names."""
    names = {"honest": "digit", "digit": "honest"}
    for run in files["rl_leak"]["runs"]:
        run["judge"] = names.get(run["judge"], run["judge"])


def proxy_for_gold(files):
    for run in files["rl_leak"]["runs"]:
        run["proxy"], run["reward"] = run["reward"], run["proxy"]
        for point in run.get("trace", []):
            point["proxy"], point["gold"] = point["gold"], point["proxy"]


def no_hole(files):
    """Without a leash gold holds on one seed."""
    for run in files["rl_leak"]["runs"]:
        if (run["judge"], run["beta"], run["seed"]) == ("digit", 0.0, 3):
            run["reward"]["value"] += 0.4


def easy_pairs(files):
    for seed in files["rl_scores"]["seeds"]:
        seed["three"], seed["two"] = seed["two"], seed["three"]


def free_kl(files):
    for end in files["rl_ends"]["ends"].values():
        end["kl"] = 0.0


def test_the_stored_runs_carry_the_conclusions(monkeypatch, tmp_path):
    conclude(monkeypatch, tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        turn("dr_grpo"),
        turn("grpo"),
        turn("dapo"),
        free_kl,
        exchange("equal_answers", "dpo", "online_dpo"),
        exchange("tried", "dpo", "online_dpo"),
        exchange("equal_answers", "reinforce", "online_dpo"),
        exchange("equal_answers", "grpo", "dr_grpo"),
        exchange("equal_seconds", "dpo", "rejection"),
        drop("equal_answers", "online_dpo"),
        drop("equal_answers", "best_of_n"),
        drop("equal_seconds", "dpo"),
        one_seed,
        more_for_less,
        ceiling,
        lambda files: files["seeds"]["seeds"].pop(),
        lambda files: files["rl_ends"]["ends"].pop("dapo_ratio"),
        fooled_for_honest,
        proxy_for_gold,
        no_hole,
        easy_pairs,
    ],
    ids=[
        "Dr. GRPO's terms",
        "GRPO's terms",
        "DAPO's terms",
        "a KL that costs nothing",
        "offline for online",
        "offline for online in the tuning",
        "online for REINFORCE",
        "Dr. GRPO for GRPO",
        "rejection for DPO in 40 seconds",
        "no online arm",
        "no best of n",
        "no second budget",
        "all of one seed",
        "the recipe for the small budget",
        "a ceiling",
        "a seed of the recipe missing",
        "an end missing",
        "the fooled judge for the honest one",
        "proxy for gold",
        "one seed that holds",
        "three numbers for two",
    ],
)
def test_other_runs_do_not(monkeypatch, tmp_path, change):
    """Guards against assertions that would let any result pass."""
    with pytest.raises((AssertionError, ValueError, KeyError, IndexError)):
        conclude(monkeypatch, tmp_path, change)
