"""The command line, from a random model to a report, on settings that take seconds."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from dpo_core.checkpoint import load_model, read_recipe, save_model
from dpo_core.commands.parser import COMMANDS, main
from dpo_core.policy_gradient import METHODS
from toys import memoryless_model

GEN = "train-gen --steps 12 --batch-size 8 --log-every 3 --save-every 6 --warmup 2".split()
DPO = (
    "train-dpo --steps 12 --batch-size 4 --log-every 3 --save-every 6 --warmup 2 --pairs 16".split()
)
RL = "train-rl --steps 12 --prompts 4 --answers 2 --log-every 3 --save-every 6 --warmup 2".split()
TRAININGS = {
    "train-gen": GEN,
    "train-dpo": DPO,
    "train-rl": RL,
    "train-rl, with a critic": [*RL, "--method", "ppo"],
}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Every test in an empty folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """`train-gen`, then `train-dpo`, as a reader types them."""
    folder = tmp_path_factory.mktemp("trained")
    before = os.getcwd()
    os.chdir(folder)
    assert main(GEN) == 0 and main(DPO) == 0
    os.chdir(before)
    return folder


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_two_trainings_leave_models_metrics_and_pairs(trained):
    """Nothing half-made beside them: no run state, no temporary folder."""
    found = names(trained)
    assert [n for n in found if ".pairs-" not in n] == ["dpo.model", "gen.model"]
    assert len(found) == 3
    assert len(lines(next(trained.glob("dpo.model.pairs-*.jsonl")))) == 16
    for model in ("gen.model", "dpo.model"):
        assert load_model(trained / model).config.hidden_size == 64


def test_metrics_are_json_lines_with_the_fields_names(trained):
    """Names that TRL's users know, one line every `log_every` steps."""
    gen, dpo = (
        lines(trained / "gen.model/metrics.jsonl"),
        lines(trained / "dpo.model/metrics.jsonl"),
    )
    assert [line["step"] for line in gen] == [line["step"] for line in dpo] == [3, 6, 9, 12]
    assert {"loss", "nats_per_completion", "learning_rate", "grad_norm", "seconds"} <= gen[0].keys()
    wanted = {
        "rewards/chosen",
        "rewards/rejected",
        "rewards/margins",
        "rewards/accuracies",
        "logps/chosen",
        "logps/rejected",
        "loss",
    }
    assert wanted <= dpo[0].keys()
    assert gen[-1]["loss"] < gen[0]["loss"]
    assert dpo[0]["loss"] == pytest.approx(0.693, abs=0.01)


def test_the_recipe_records_what_shaped_the_model(trained):
    """A checkpoint whose learning rate nobody knows cannot be made again; paths and devices shape nothing."""
    for name, options, given in (
        (
            "gen.model",
            COMMANDS["train-gen"][0],
            {"steps": 12, "batch_size": 8, "seed": 0, "optimizer": "muon"},
        ),
        (
            "dpo.model",
            COMMANDS["train-dpo"][0],
            {"steps": 12, "pairs": 16, "beta": 0.25, "model": "gen.model"},
        ),
    ):
        recipe = read_recipe(trained / name)
        fields = {field.name for field in dataclasses.fields(options)}
        assert (
            fields - {"output", "device", "resume", "save_every", "threads", "compile", "sharding"}
            <= recipe.keys()
        )
        assert not {"output", "device", "resume"} & recipe.keys()
        assert given.items() <= recipe.items()


@pytest.mark.parametrize(
    ("local", "arguments", "first_line"),
    [
        (True, [], "starting from gen.model"),
        (False, [], "starting from the shipped gen"),
        (True, ["--model", "gen"], "starting from the shipped gen"),
    ],
)
def test_train_dpo_says_first_what_it_starts_from(local, arguments, first_line, capsys, here):
    """A forgotten ./gen.model, or one that is not found, changes every result without a word."""
    if local:
        save_model(memoryless_model({"E": 0.2, "1": 0.8}), here / "gen.model")
    assert main([*DPO, "--steps", "1", "--batch-size", "4", *arguments]) == 0
    assert capsys.readouterr().out.splitlines()[0] == first_line


def test_train_dpo_reuses_the_pairs_of_the_same_options_only(capsys, here):
    """Pairs made by another seed or reference, reused because the file is there."""
    quick = [*DPO, "--steps", "1"]
    assert main(quick) == 0
    (first,) = here.glob("*.pairs-*.jsonl")
    stamp = first.stat().st_mtime_ns
    assert main([*quick, "--learning-rate", "0.001"]) == 0
    assert list(here.glob("*.pairs-*.jsonl")) == [first] and first.stat().st_mtime_ns == stamp
    assert main([*quick, "--seed", "1"]) == 0
    assert len(list(here.glob("*.pairs-*.jsonl"))) == 2


@pytest.mark.parametrize("method", METHODS)
def test_train_rl_leaves_a_model_its_metrics_and_its_reference(method, capsys, here):
    """A model that cannot be evaluated against where it came from; a critic's weights among the policy's."""
    assert main([*RL, "--method", method, "--output", "rl.model"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "starting from the shipped gen",
        "wrote rl.model",
    ]
    assert names(here) == ["rl.model"]
    metrics = lines(here / "rl.model/metrics.jsonl")[0].keys()
    assert {"reward", "kl", "objective", "length", "loss", "grad_norm"} <= metrics
    recipe = read_recipe(here / "rl.model")
    assert (recipe["method"], recipe["beta"], recipe["answers"]) == (method, 0.25, 2)
    assert main(["evaluate", "rl.model", "--n", "40", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["kl"]["value"] < 0.5
    assert ("predicted" in report) == METHODS[method].kl_in_reward  # GRPO's leash is another one


def test_train_rl_uses_the_term_and_the_clip_that_are_named(here):
    """Options that reach the recipe and not the loss."""
    dapo, weights = [*RL, "--method", "dapo"], []
    for changes in ([], ["--kl-term", "ratio_k3"], ["--epochs", "2", "--clip-high", "0.001"]):
        assert main([*dapo, *changes, "--learning-rate", "0.02", "--output", "a.model"]) == 0
        recipe = read_recipe(here / "a.model")
        assert recipe["kl_term"] == ("ratio_k3" if "ratio_k3" in changes else "k3")
        assert recipe["clip_high"] == (0.001 if "0.001" in changes else None)
        weights.append((here / "a.model/model.safetensors").read_bytes())
    assert len(set(weights)) == 3
    assert lines(here / "a.model/metrics.jsonl")[-1]["clip_ratio"] > 0


def test_a_slash_at_the_end_of_the_output_changes_nothing(here):
    """Completion in the shell adds it: the pairs must not land inside the folder that is to be replaced."""
    assert main([*DPO, "--steps", "1", "--output", "a.model/"]) == 0
    assert [name.split("-")[0] for name in names(here)] == ["a.model", "a.model.pairs"]


def test_generate_prints_an_answer_and_a_finding_for_each_draw(capsys, here):
    """n answers a prompt, in order; a bare target becomes a prompt, negative ones too."""
    assert main(["generate", "gen", "54", "-12", "S7=", "--n", "3", "--temperature", "0"]) == 0
    printed = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [text.split("=")[0] for text, _ in printed] == ["S54"] * 3 + ["S-12"] * 3 + ["S7"] * 3
    assert all(text.endswith("E") for text, _ in printed)
    # greedy answers of the shipped model are right
    assert {finding for _, finding in printed} == {"exact"}
    assert names(here) == []


def test_generate_depends_on_its_seed_alone(capsys):
    """The same command must print the same answers."""
    printed = []
    for seed in ("0", "0", "1"):
        main(["generate", "gen", "54", "--n", "8", "--seed", seed])
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1] != printed[2]


@pytest.mark.parametrize("name", ["gen.model", "dpo.model"])
def test_evaluate_prints_one_json_object_with_the_agreed_keys(trained, capsys, name):
    """Scripts read it: one object and nothing else on standard output."""
    assert main(["evaluate", str(trained / name), "--n", "40", "--seed", "3", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    for key in ("well_formed", "exact", "style"):
        assert report[key].keys() == {"value", "low", "high"}
        assert 0 <= report[key]["low"] <= report[key]["value"] <= report[key]["high"] <= 1
    if name == "gen.model":
        assert report["population"] == pytest.approx({"exact": 0.75, "style": 0.30})
        assert report["entropy_floor"] == pytest.approx(5.736, abs=1e-3)
        assert "kl" not in report
    else:
        assert report["kl"].keys() == {"value", "low", "high"}
        assert report["predicted"].keys() == {"style", "exact", "both", "kl"}
        assert "population" not in report


@pytest.mark.parametrize(
    ("command", "predicted"),
    [
        ("train-dpo --labels sampled --pairs 32 --batch-size 16", True),
        ("train-dpo --labels sampled --pairs 32 --batch-size 16 --label-smoothing 0.1", False),
        ("train-dpo --loss-type ipo --pairs 32 --batch-size 16", False),
        ("train-rl --prompts 4", True),
        # without a leash there is no optimum to predict, and no error
        ("train-rl --prompts 4 --beta 0", False),
    ],
)
def test_evaluate_predicts_where_theory_knows_the_end_of_the_run(command, predicted, capsys, here):
    """A prediction of DPO's optimum beside a run of another loss; a model without a leash that cannot be measured."""
    command = (
        f"{command} --model gen --steps 2 --warmup 1 --log-every 1 --output a.model --device cpu"
    )
    assert main(command.split()) == 0
    capsys.readouterr()
    assert main(["evaluate", "a.model", "--n", "20", "--json", "--device", "cpu"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert ("predicted" in report) == predicted and "population" not in report


def test_evaluate_measures_the_kl_to_the_recorded_reference_only(trained, capsys, here):
    """A reference whose weights have changed since gives a KL to something else."""
    dpo = str(trained / "dpo.model")
    assert (
        main(["evaluate", dpo, "--n", "40", "--json", "--reference", str(trained / "gen.model")])
        == 0
    )
    named = json.loads(capsys.readouterr().out)["kl"]
    assert main(["evaluate", dpo, "--n", "40", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kl"] == named
    # without its gen.model
    save_model(load_model(dpo), here / "dpo.model", read_recipe(trained / "dpo.model"))
    assert main(["evaluate", "dpo.model", "--n", "40", "--json"]) == 0
    captured = capsys.readouterr()
    assert "kl" not in json.loads(captured.out)
    assert "--reference" in captured.err


def test_evaluate_prints_a_table_without_json(trained, capsys):
    """Shares with their intervals, for people."""
    assert main(["evaluate", str(trained / "gen.model"), "--n", "40"]) == 0
    printed = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "95 % interval" in printed["exact"] and "population" in printed


def test_the_classic_setting_runs_from_end_to_end(capsys, here):
    """The seed's own task is one option away, and its models are judged by its own tolerance."""
    assert main([*GEN, "--task", "classic"]) == 0
    assert main([*DPO, "--task", "classic", "--beta", "1"]) == 0
    pairs = lines(next(here.glob("*.pairs-*.jsonl")))
    assert {pair["rejected"] for pair in pairs} == {"E"}
    assert main(["evaluate", "dpo.model", "--n", "10", "--json"]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert "population" not in report and "predicted" not in report and "kl" in report


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_names_every_command_and_says_what_it_does(flag, capsys, monkeypatch):
    """A percent sign in what a command says of itself ended this in a traceback."""
    monkeypatch.setenv("COLUMNS", "1000")
    with pytest.raises(SystemExit) as exit_code:
        main([flag])
    assert exit_code.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    for name, (options, _) in COMMANDS.items():
        assert f" {name} {' '.join(options.__doc__.split())}" in shown


@pytest.mark.parametrize("command", COMMANDS)
def test_help_lists_every_option_with_its_default(command, capsys, monkeypatch):
    """An option without help, or a default that the help states differently."""
    monkeypatch.setenv("COLUMNS", "1000")  # argparse breaks lines at hyphens
    with pytest.raises(SystemExit) as exit_code:
        main([command, "--help"])
    assert exit_code.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    for field in dataclasses.fields(COMMANDS[command][0]):
        flag = (
            field.name if field.metadata.get("positional") else "--" + field.name.replace("_", "-")
        )
        assert flag in shown
        assert " ".join(field.metadata["help"].split()) in shown
        if (
            not field.metadata.get("positional")
            and field.type is not bool
            and field.default not in ("", None)
        ):
            assert f"(default: {field.default})" in shown


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "dpo_core", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("command", TRAININGS)
def test_a_killed_run_resumes_to_the_same_bits(command, here):
    """SIGKILL at an arbitrary step, `--resume`, and the weights of the run that was never killed."""
    # a step of train-rl takes long enough for the kill to fall among few of them
    steps, save = (24, 6) if command.startswith("train-rl") else (48, 12)
    arguments = [*TRAININGS[command], *f"--steps {steps} --save-every {save} --output".split()]
    assert main([*arguments, "whole.model"]) == 0
    process = start(*arguments, "cut.model")
    state = here / "cut.model.partial" / "state.safetensors"
    while not state.exists() and process.poll() is None:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stderr.close()
    assert state.exists() and not (here / "cut.model").exists()
    assert main([*arguments, "cut.model"]) == 2  # an interrupted run is not overwritten
    assert main([*arguments, "cut.model", "--resume"]) == 0
    weights = [
        (here / name / "model.safetensors").read_bytes() for name in ("whole.model", "cut.model")
    ]
    assert weights[0] == weights[1]
    metrics = [
        [
            {k: v for k, v in line.items() if k != "seconds"}
            for line in lines(here / n / "metrics.jsonl")
        ]
        for n in ("whole.model", "cut.model")
    ]
    assert metrics[0] == metrics[1] and len(metrics[0]) == steps // 3
    assert not (here / "cut.model.partial").exists()


def test_python_m_dpo_core_is_the_command():
    """Exit codes and messages reach the shell."""
    process = start("generate", "gen", "five")
    _, errors = process.communicate()
    assert process.returncode == 2
    assert errors.splitlines() == [errors.strip()] and "'five'" in errors
