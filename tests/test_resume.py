"""A run that was cut and resumed is the run that was never cut: weights, moments, schedule, metrics."""

import json
from contextlib import contextmanager

import pytest
import torch
from safetensors.torch import load_file

from dpo_core import training
from dpo_core.checkpoint import CheckpointError, tensor_bytes
from dpo_core.run_state import MARK, _hash
from dpo_core.steps import sft_step
from dpo_core.storage import LOCK, workshop
from dpo_core.training import train
from runs import RUNS, killed_at, run, same_bits, sft_batch, state_file, stored_progress
from toys import small_model


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
    assert stored_progress(cut_folder)["step"] == kill // 4 * 4
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
        [json.loads(line) for line in metrics_file(f).read_text().splitlines()]
        for f in (whole_folder, cut_folder)
    ]
    assert without_seconds(files[0]) == without_seconds(files[1])
    assert [line["step"] for line in files[1]] == [2, 4, 6, 8, 10, 12]
    seconds = [line["seconds"] for line in files[1]]
    assert seconds == sorted(seconds)


def metrics_file(folder):
    return state_file(folder).with_name("metrics.jsonl")


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
    message = "seed was 0, now 1"
    with workshop(state / "a.model") as place, pytest.raises(CheckpointError, match=message):
        train(
            small_model(), sft_batch, sft_step, config, place=place, record={"seed": 1}, resume=True
        )


def test_nothing_to_resume(tmp_path):
    """Starting afresh in silence would overwrite what was to be continued."""
    with pytest.raises(CheckpointError, match="nothing to resume"):
        run("sft, muon", small_model(), folder=tmp_path, resume=True)


def resumed(folder, content):
    """What resuming from a state of that content says."""
    state_file(folder).parent.mkdir(exist_ok=True)
    state_file(folder).write_bytes(content)
    state_file(folder).with_name(LOCK).touch()
    with pytest.raises(CheckpointError) as error:
        run("sft, muon", small_model(), folder=folder, resume=True)
    assert "\n" not in str(error.value) and str(state_file(folder)) in str(error.value)
    return str(error.value)


def test_a_state_that_is_cut_at_any_place_is_damaged(state, tmp_path):
    """A traceback of the safetensors library does not say which file to look at."""
    content = state_file(state).read_bytes()
    for keep in (0, 7, 8, 40, 400, len(content) // 2, len(content) - 1):
        assert "damaged" in resumed(tmp_path, content[:keep])


def test_a_state_with_one_other_bit_is_damaged(state, tmp_path):
    """Other weights, another step or other moments than those that were saved together."""
    content = state_file(state).read_bytes()
    for at in (*range(100, len(content), len(content) // 40), content.index(b'\\"step\\": 4') + 10):
        other = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        resumed(tmp_path, other)


def rewritten(state, change):
    """A state whose progress was changed by somebody who also made the hash fit."""
    tensors = load_file(state_file(state))
    progress = stored_progress(state)
    text = change(progress)
    text = text if isinstance(text, str) else json.dumps(progress)
    return tensor_bytes(tensors, {MARK: text, "hash": _hash(tensors, text)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.update(step=13), "step is 13; accepted is 0 to 12"),
        (lambda p: p.update(step=-1), "step is -1"),
        (lambda p: p.update(step=4.0), "step is 4.0"),
        (lambda p: p.update(step=True), "step is True"),
        (lambda p: p.update(seconds="long"), "seconds is 'long'"),
        (lambda p: p.update(threads=0), "threads is 0"),
        (lambda p: p.update(history=[{"step": "one"}]), "history"),
        (lambda p: p.update(history=[3]), "does not describe a run"),
        (lambda p: p.update(history={}), "history"),
        (lambda p: p.pop("history"), "does not describe a run"),
        (lambda p: p.update(record=[]), "record"),
        (lambda p: p.update(torch="1.0"), "torch was '1.0'"),
        (lambda p: p.pop("device") and None, "does not describe a run: 'device'"),
        (lambda p: p.update(torch=None), "device or torch"),
        (lambda p: p.update(threads=257), "threads is 257; accepted is 1 to 256"),
        (lambda p: p.update(history=[{"\ud800": 1.0}]), "cannot be written down"),
        (lambda p: '{"seconds": 1e400}', "beyond the numbers"),
        (lambda p: "[1]", "no JSON object"),
        (lambda p: p.update(device="cuda"), "device was 'cuda', now 'cpu'"),
        (lambda p: "[" * 100_000, "nested too deep"),
        (lambda p: '{"step": NaN}', "NaN"),
        (lambda p: '{"step": ' + "9" * 5000 + "}", "digits"),
    ],
)
def test_a_state_that_describes_no_run_is_refused(state, tmp_path, change, message):
    """A record that ends in a KeyError, a schedule that runs backwards, a run that never ends."""
    assert message in resumed(tmp_path, rewritten(state, change))


def test_moments_that_are_missing_or_of_another_shape_are_named(state, tmp_path):
    """Moments that silently begin anew."""
    tensors, text = load_file(state_file(state)), json.dumps(stored_progress(state))
    name = next(n for n in tensors if n.startswith("optimizer.0.") and n.endswith("velocity"))
    for change, message in (
        (lambda t: t.pop(name), f"{name} is missing"),
        (lambda t: t.update({name: torch.zeros(3)}), f"{name} is (3,)"),
        (lambda t: t.update(extra=torch.zeros(3)), "has extra"),
    ):
        other = dict(tensors)
        change(other)
        content = tensor_bytes(other, {MARK: text, "hash": _hash(other, text)})
        assert message in resumed(tmp_path, content)


def test_a_run_goes_on_with_the_threads_that_it_began_with(state, tmp_path, capsys):
    """Sums are split among threads; on another number of them the last bits may differ."""
    content = rewritten(state, lambda p: p.update(threads=2))
    state_file(tmp_path).parent.mkdir()
    state_file(tmp_path).write_bytes(content)
    state_file(tmp_path).with_name(LOCK).touch()
    before = torch.get_num_threads()
    try:
        run("sft, muon", small_model(), folder=tmp_path, resume=True)
        assert torch.get_num_threads() == 2
        assert capsys.readouterr().err == "continuing with 2 threads, as the run began\n"
        state_file(tmp_path).write_bytes(content)
        with pytest.raises(CheckpointError, match="made with 2 threads, now 3 are asked for"):
            run("sft, muon", small_model(), folder=tmp_path, resume=True, threads=3)
    finally:
        torch.set_num_threads(before)


def test_a_run_goes_on_compiled_as_it_began_or_not_at_all(tmp_path, monkeypatch, capsys):
    """Compiled layers round otherwise: to go on without them would end in other bits."""
    asked, there = [], True

    @contextmanager
    def compiled(model, wanted):
        asked.append(wanted)
        yield wanted and there

    monkeypatch.setattr(training, "compiled", compiled)
    with pytest.raises(KeyboardInterrupt):
        batches = killed_at(5, RUNS["sft, muon"][0])
        run("sft, muon", small_model(), folder=tmp_path, batch_at=batches, compile=True)
    assert stored_progress(tmp_path)["compiled"] is True
    there = False
    with pytest.raises(CheckpointError, match="nothing compiles here"):
        run("sft, muon", small_model(), folder=tmp_path, resume=True)
    there = True
    assert capsys.readouterr().err == ""
    run("sft, muon", small_model(), folder=tmp_path, resume=True, compile=False)
    assert "continuing with compiled layers, as the run began" in capsys.readouterr().err
    assert asked == [True, True, True]


def test_a_last_update_that_breaks_the_weights_is_an_error(tmp_path):
    """The loss of the next step would say so, and there is none."""
    plain = torch.optim.AdamW.step

    def infinite(self, *arguments, **rest):
        plain(self, *arguments, **rest)
        for group in self.param_groups:
            group["params"][0].data.fill_(torch.inf)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", infinite)
        for folder in (None, tmp_path):
            with pytest.raises(FloatingPointError, match=r"not finite|NaN or infinite"):
                run("sft, muon", small_model(), folder=folder, steps=1, save_every=4, log_every=1)
    assert not state_file(tmp_path).exists()


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
