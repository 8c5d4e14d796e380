"""A run that was cut and resumed is the run that was never cut: weights, moments, schedule, metrics."""

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from dpo_core.checkpoint import CheckpointError, load_model
from dpo_core.steps import sft_step
from dpo_core.training import train
from runs import RUNS, run, same_bits, sft_batch
from toys import small_model


def killed_at(step, batch_at):
    """The batches of a run that is interrupted when it asks for those of `step`."""

    def batches(index):
        if index == step:
            raise KeyboardInterrupt
        return batch_at(index)

    return batches


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("kill", [5, 11])
def test_a_resumed_run_ends_in_the_same_bits(name, kill, tmp_path):
    """Moments, schedule, step count, metrics or data order that start anew."""
    (whole_folder := tmp_path / "whole").mkdir()
    (cut_folder := tmp_path / "cut").mkdir()
    whole = small_model()
    history = run(name, whole, folder=whole_folder)
    with pytest.raises(KeyboardInterrupt):
        run(name, small_model(), folder=cut_folder, batch_at=killed_at(kill, RUNS[name][0]))
    assert json.loads((cut_folder / "state" / "state.json").read_text())["step"] == kill // 4 * 4
    resumed = small_model(seed=9)  # other weights: all must come from the state
    history_too = run(name, resumed, folder=cut_folder, resume=True)
    assert same_bits(whole, resumed)
    assert not same_bits(whole, small_model())

    def without_seconds(lines):
        return [
            {name: value for name, value in line.items() if name != "seconds"} for line in lines
        ]

    assert without_seconds(history_too) == without_seconds(history)
    files = [
        [json.loads(line) for line in (f / "metrics.jsonl").read_text().splitlines()]
        for f in (whole_folder, cut_folder)
    ]
    assert without_seconds(files[0]) == without_seconds(files[1])
    assert [line["step"] for line in files[1]] == [2, 4, 6, 8, 10, 12]
    seconds = [line["seconds"] for line in files[1]]
    assert seconds == sorted(seconds)


def test_resuming_a_finished_run_changes_nothing(tmp_path):
    """A run killed between its last step and its model folder has its last state: no step may be added."""
    model = small_model()
    run("sft, muon", model, folder=tmp_path)
    again = small_model(seed=9)
    history = run("sft, muon", again, folder=tmp_path, resume=True)
    assert same_bits(model, again) and len(history) == 6


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    """The folder of a run that stopped at step 4."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.raises(KeyboardInterrupt):
        run("sft, muon", small_model(), folder=folder, batch_at=killed_at(6, sft_batch))
    return folder


def test_a_run_state_is_a_model_that_loads(state):
    """One can look at a run that is still going."""
    assert load_model(state / "state").config == small_model().config


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"learning_rate": 0.02}, "learning_rate"),
        ({"steps": 13}, "steps"),
        ({"warmup": 4}, "warmup"),
    ],
)
def test_the_state_of_another_run_is_refused(state, changes, named):
    """Half a run at one learning rate and half at another is a run that nobody described."""
    with pytest.raises(CheckpointError, match="state of another run") as error:
        run("sft, muon", small_model(), folder=state, resume=True, **changes)
    assert named in str(error.value) and "\n" not in str(error.value)


def test_another_record_is_refused(state):
    """The task, the seed, the start: what the loop does not know still shapes the run."""
    _, _, config = RUNS["sft, muon"]
    with pytest.raises(CheckpointError, match="seed was 0, now 1"):
        train(
            small_model(),
            sft_batch,
            sft_step,
            config,
            state_folder=state / "state",
            record={"seed": 1},
            resume=True,
        )


def test_nothing_to_resume(tmp_path):
    """Starting afresh in silence would overwrite what was to be continued."""
    with pytest.raises(CheckpointError, match="nothing to resume"):
        run("sft, muon", small_model(), folder=tmp_path, resume=True)


@pytest.mark.parametrize(
    "name", ["state.json", "model.safetensors", "optimizer.safetensors", "config.json"]
)
@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_damaged_state_names_the_file(state, tmp_path, name, damage):
    """A traceback of the JSON or safetensors library does not say which file to look at."""
    copy = tmp_path / "state"
    copy.mkdir()
    for file in (state / "state").iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    if damage == "missing":
        (copy / name).unlink()
    else:
        (copy / name).write_bytes((copy / name).read_bytes()[:40])
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")) as error:
        run("sft, muon", small_model(), folder=tmp_path, resume=True)
    assert "\n" not in str(error.value)


def test_a_state_without_a_part_is_named(state, tmp_path):
    """A truncated record that ends in a KeyError, or moments that silently begin anew."""
    folder = tmp_path / "state"
    shutil.copytree(state / "state", folder)
    stored = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(
        json.dumps({k: v for k, v in stored.items() if k != "history"})
    )
    with pytest.raises(CheckpointError, match=r"state\.json has no history"):
        run("sft, muon", small_model(), folder=tmp_path, resume=True)
    (folder / "state.json").write_text(json.dumps(stored))
    moments = load_file(folder / "optimizer.safetensors")
    save_file(
        {name: value for name, value in moments.items() if not name.startswith("0.0.")},
        folder / "optimizer.safetensors",
    )
    with pytest.raises(CheckpointError, match="lacks the moments"):
        run("sft, muon", small_model(), folder=tmp_path, resume=True)


def test_a_run_may_be_resumed_with_another_save_every(tmp_path):
    """How often a state is kept does not shape the result."""
    with pytest.raises(KeyboardInterrupt):
        run(
            "sft, muon", small_model(), folder=tmp_path, batch_at=killed_at(5, RUNS["sft, muon"][0])
        )
    resumed = small_model(seed=9)
    run("sft, muon", resumed, folder=tmp_path, resume=True, save_every=6)
    (tmp_path / "whole").mkdir()
    run("sft, muon", whole := small_model(), folder=tmp_path / "whole")
    assert same_bits(whole, resumed)
