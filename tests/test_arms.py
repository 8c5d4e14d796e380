"""Arms of a comparison: seed by seed, by one yardstick, and never from too little."""

import builtins

import pytest

from dpo_core import arms, evaluation
from dpo_core.checkpoint import load_pretrained
from dpo_core.rl import checker
from dpo_core.task import BookTask


def run(name, seed, j, **more):
    found = {"J": j} | more
    return {"name": name, "seed": seed} | {
        key: {"value": value, "low": value - 0.1, "high": value + 0.1}
        for key, value in found.items()
    }


RUNS = [
    *(run("dpo", seed, j) for seed, j in enumerate((1.50, 1.70, 1.60))),
    *(run("sft", seed, j) for seed, j in enumerate((1.40, 1.65, 1.58))),
    *(run("worse once", seed, j) for seed, j in enumerate((1.40, 1.65, 1.61))),
]


def test_arms_are_compared_seed_by_seed():
    """Means would call an arm better that loses from one of its base models."""
    assert arms.gaps(RUNS, "dpo", "sft") == pytest.approx({0: 0.10, 1: 0.05, 2: 0.02})
    assert arms.beats(RUNS, "dpo", "sft") and not arms.beats(RUNS, "dpo", "sft", by=0.03)
    assert not arms.beats(RUNS, "dpo", "worse once")
    assert arms.arm_mean(RUNS, "dpo").value > arms.arm_mean(RUNS, "worse once").value


def test_the_interval_is_student_s():
    """With three seeds the normal interval is less than half as wide as it must be."""
    found = arms.interval([1.0, 2.0, 3.0])
    assert found.value == 2.0
    assert found.high - 2.0 == pytest.approx(4.3027 / 3**0.5, rel=1e-4)


def test_too_little_is_refused_by_name():
    for broken, words in (
        (RUNS[:2], "dpo has 2 seeds"),
        ([*RUNS, RUNS[0]], "dpo has 4 runs and 3 seeds"),
        (RUNS[3:], "dpo has 0 seeds"),
    ):
        with pytest.raises(ValueError, match=words):
            arms.values(broken, "dpo")
    other = [run("other", seed, 1.0) for seed in (0, 1, 3)]
    with pytest.raises(ValueError, match=r"dpo has the seeds \[0, 1, 2\], other \[0, 1, 3\]"):
        arms.gaps([*RUNS, *other], "dpo", "other")
    with pytest.raises(ValueError, match="2 seeds; accepted are 3 to 10"):
        arms.interval([1.0, 2.0])


def test_the_table_has_the_best_arm_on_top():
    table = arms.table(RUNS, {"sft": "imitation <b>", "dpo": "DPO"}, ("J",))
    lines = str(table).splitlines()
    assert [line.split()[0] for line in lines] == ["J", "DPO", "imitation"]
    assert lines[1].split()[1:] == ["1.600", "0.248"]
    assert len({len(line) for line in lines}) == 1
    shown = table._repr_html_()
    assert shown.index("DPO") < shown.index("imitation &lt;b&gt;")
    assert shown.count("<td>") == 4 and "<td>1.600</td><td>0.248</td>" in shown


def test_a_table_is_shown_where_there_is_a_notebook_and_printed_elsewhere(monkeypatch, capsys):
    table, shown = arms.table(RUNS, ["dpo"], ("J",)), []
    arms.show(table)
    assert capsys.readouterr().out == f"{table}\n"
    monkeypatch.setattr(builtins, "display", shown.append, raising=False)
    arms.show(table)
    assert shown == [table] and not capsys.readouterr().out


def test_j_is_reward_minus_beta_kl():
    """A J of its own draws would differ from the reward and the KL beside it."""
    gen, dpo, task = load_pretrained("gen"), load_pretrained("dpo"), BookTask()
    found = evaluation.evaluate(
        dpo, task, n=200, reference=gen, reward=checker(task, "style+exact"), beta=0.25
    )
    assert found["reward"].value == pytest.approx(found["style"].value + found["exact"].value)
    assert found["J"].value == pytest.approx(found["reward"].value - 0.25 * found["kl"].value)
    assert found["J"].low < found["J"].value < found["J"].high
    for broken in ({"reference": gen, "beta": 0.25}, {"reward": checker(task, "style"), "beta": 1}):
        with pytest.raises(ValueError, match="J needs a reference, a reward and beta"):
            evaluation.evaluate(dpo, task, n=10, **broken)
