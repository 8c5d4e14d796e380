"""What chapter 12 concludes fails where the stored runs say something else.

The cells that draw a conclusion are taken from the chapter and run on the stored files, then on files in which two
arms, two KL terms or two budgets are exchanged, a seed is missing, or an arm is gone.
"""

import copy

import pytest

import conclusions
import sources

(CHAPTER,) = [path for path in sources.chapters() if path.stem.startswith("12")]
FILES = ("rl_ends", "rl_methods", "rl_leash", "rl_leak", "rl_scores", "dpo_arms", "hot_imitation")
CELLS = (  # a line of each, in the chapter's order
    "from dpo_core import BookTask",
    "task, REWARD, BETA = BookTask()",
    "classes = class_problem",
    "stored = json.loads",
    "MEASURED = ",
    "COUNTS = ",
    "# concluded from the arms",
    "# concluded of the price",
    "tried = stored",
    "# concluded of the tuning",
    "ends = json.loads",
    "far = json.loads",
    "# concluded of the ends",
    "leaky = json.loads",
    "# concluded of the judges",
    "# concluded of the honest judge",
    "ranks = json.loads",
    "ahead = first[0]",
    "traces = {}",
)


def conclude(monkeypatch, folder, change=lambda files: None):
    conclusions.conclude(CHAPTER, FILES, CELLS, monkeypatch, folder, change)


def exchange(one, other, panel="runs", file="rl_methods"):
    """Two arms exchange their names."""
    names = {one: other, other: one}

    def change(files):
        for run in files[file][panel]:
            run["name"] = names.get(run["name"], run["name"])

    return change


def turn(method):
    """The two KL terms of a method exchange their ends."""

    def change(files):
        ends = files["rl_ends"]["ends"]
        ends[method], ends[f"{method}_ratio"] = ends[f"{method}_ratio"], ends[method]

    return change


def drop(name):
    def change(files):
        runs = files["rl_methods"]["runs"]
        files["rl_methods"]["runs"] = [run for run in runs if run["name"] != name]

    return change


def without_seed(name, seed):
    def change(files):
        runs = files["rl_methods"]["runs"]
        gone = [run for run in runs if (run["name"], run["seed"]) == (name, seed)]
        files["rl_methods"]["runs"] = [run for run in runs if run not in gone]

    return change


def one_seed(files):
    for run in files["rl_methods"]["runs"]:
        run["seed"] = 0


def level(one, other):
    """In one seed the first arm does no better than the second."""

    def change(files):
        runs = {(run["name"], run["seed"]): run for run in files["rl_methods"]["runs"]}
        runs[one, 1]["J"] = copy.deepcopy(runs[other, 1]["J"])

    return change


def better_setting_left_out(files):
    """Another of the settings that were tried had the highest J."""
    worst = min(
        (run for run in files["rl_methods"]["tried"] if run["name"] == "dpo"),
        key=lambda run: run["J"]["value"],
    )
    worst["J"]["value"] += 0.3


def not_so_far(files):
    """At the furthest setting GRPO with the ratio is as at its best one."""
    best = {run["seed"]: run for run in files["rl_methods"]["runs"] if run["name"] == "grpo_ratio"}
    for run in files["rl_leash"]["runs"]:
        if run["name"] == "grpo_ratio":
            run["J"], run["kl"] = best[run["seed"]]["J"], best[run["seed"]]["kl"]


def chapter_9_says_less(files):
    for run in files["dpo_arms"]["runs"]:
        if run["name"] == "sft term":
            run["J"]["value"] -= 0.1


def imitation_says_more(files):
    for run in files["hot_imitation"]["runs"]:
        run["J"]["value"] += 0.1


def another_footing(files):
    """The leash in the loss was tried at a setting that is not RLOO's."""
    for run in files["rl_methods"]["runs"]:
        if run["name"] == "rloo":
            run["setting"]["answers"] = 8


def free_and_better(files):
    """Without a leash the honest judge's policy does not go far, on one seed."""
    for run in files["rl_leak"]["runs"]:
        if (run["judge"], run["beta"], run["seed"]) == ("honest", 0.0, 2):
            run["kl"]["value"] = 1.0


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


CHANGES = {
    "Dr. GRPO's terms": turn("dr_grpo"),
    "GRPO's terms": turn("grpo"),
    "DAPO's terms": turn("dapo"),
    "a KL that costs nothing": free_kl,
    "an end missing": lambda files: files["rl_ends"]["ends"].pop("dapo_ratio"),
    "offline for online": exchange("dpo", "online_dpo"),
    "imitation for DPO": exchange("dpo", "imitation"),
    "the base model for imitation": exchange("base", "imitation"),
    "RLOO for Dr. GRPO": exchange("rloo", "dr_grpo_ratio"),
    "k3 for the ratio, in the runs": exchange("dr_grpo", "dr_grpo_ratio"),
    "k3 for the ratio, as far as it goes": exchange("dapo", "dapo_ratio", file="rl_leash"),
    "k3 for the ratio, without a division": exchange("dr_grpo", "dr_grpo_ratio", file="rl_leash"),
    "one that never goes far": not_so_far,
    "k3 for the ratio, in the tuning": exchange("grpo", "grpo_ratio", "tried"),
    "few for many": exchange("dpo", "dpo_192000"),
    "no online arm": drop("online_dpo"),
    "no imitation": drop("imitation"),
    "no base model": drop("base"),
    "no best of n": drop("best_of_n"),
    "no recipe": drop("recipe"),
    "no second budget": drop("dpo_51200"),
    "a seed missing": without_seed("dpo", 2),
    "a seed of the recipe missing": without_seed("recipe", 1),
    "all of one seed": one_seed,
    "online no better once": level("online_dpo", "dpo"),
    "a leash in the loss as good once": level("grpo", "rloo"),
    "a ceiling": level("dpo_192000", "dpo"),
    "a better setting left out": better_setting_left_out,
    "chapter 9 says less": chapter_9_says_less,
    "imitation of hot pairs says more": imitation_says_more,
    "a leash in the loss on another footing": another_footing,
    "the honest judge without a leash stays near": free_and_better,
    "the fooled judge for the honest one": fooled_for_honest,
    "proxy for gold": proxy_for_gold,
    "one seed that holds": no_hole,
    "three numbers for two": easy_pairs,
}


def test_the_stored_runs_carry_the_conclusions(monkeypatch, tmp_path):
    conclude(monkeypatch, tmp_path)


@pytest.mark.parametrize("name", CHANGES)
def test_other_runs_do_not(monkeypatch, tmp_path, name):
    """Guards against assertions that would let any result pass."""
    with pytest.raises((AssertionError, ValueError, KeyError, IndexError)):
        conclude(monkeypatch, tmp_path, CHANGES[name])
