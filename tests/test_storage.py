"""Nothing is lost: at whatever moment the process dies, whoever else writes, whatever stands in the way."""

import json
import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

import crashes
from dpo_core import checkpoint, storage
from dpo_core.checkpoint import (
    CheckpointError,
    check_place,
    fingerprint,
    load_model,
    read_model,
    save_model,
)
from dpo_core.commands.parser import main
from dpo_core.storage import StorageError, parse_json, read_text, workshop
from runs import RUNS, pairs, run, same_bits
from toys import small_model

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
OLD, NEW = small_model(seed=1), small_model(seed=2)


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything in a folder: relative path -> content, None for folders."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


# ---------------------------------------------------------------- kills


@pytest.mark.parametrize("before", [None, OLD], ids=["new", "replaced"])
def test_a_save_killed_at_any_call_loses_nothing(tmp_path, before):
    """The old model or the new one, with its own recipe; and the next save goes through."""
    recipes = {fingerprint(model): {"name": name} for model, name in ((OLD, "old"), (NEW, "new"))}
    folder, seen = tmp_path / "a.model", set()
    if before is not None:
        save_model(before, folder, {"name": "old"})
    for _ in crashes.points(lambda: save_model(NEW, folder, {"name": "new"})):
        try:
            model, recipe = read_model(folder)
        except CheckpointError:
            assert before is None  # an old model is never in doubt
            seen.add(None)
            assert not (folder / "model.safetensors").exists()
        else:
            seen.add(recipe["name"])
            assert recipe == recipes[fingerprint(model)]
            if (folder / "recipe.json").exists():  # what people read belongs to what is there
                assert json.loads((folder / "recipe.json").read_text()) == recipe
        check_place(folder, NEW.config)  # the next save is not refused
    assert seen == {"new", "old" if before is not None else None}
    save_model(OLD, folder, {"name": "old"})
    assert fingerprint(load_model(folder)) == fingerprint(OLD)
    assert {path.name for path in tmp_path.iterdir()} == {"a.model"}  # no litter


def test_after_each_killed_save_the_next_one_is_whole(tmp_path):
    """What a killed writer leaves, the next writer trips over."""
    for n, _ in enumerate(crashes.points(lambda: save_model(NEW, tmp_path / "a.model", {}))):
        save_model(OLD, tmp_path / "a.model", {"n": n})
        model, recipe = read_model(tmp_path / "a.model")
        assert same_bits(model, OLD) and recipe == {"n": n}
        assert {path.name for path in tmp_path.iterdir()} == {"a.model"}
    assert n > 20


@pytest.mark.parametrize("name", RUNS)
def test_a_run_killed_at_any_call_resumes_to_the_same_bits(tmp_path, name):
    """Every call of a whole run, its states and their replacement: then --resume, or a fresh start."""
    short = {"steps": 12, "save_every": 6, "log_every": 6}
    expected = small_model()
    run(name, expected, **short)

    def trained():
        run(name, small_model(), folder=tmp_path, **short)

    resumed = 0
    for _ in crashes.points(trained):
        model = small_model()
        state = tmp_path / "a.model.partial" / "state.safetensors"
        if state.exists():
            run(name, model, folder=tmp_path, resume=True, **short)
            resumed += 1
            state.unlink()
        else:
            run(name, model, folder=tmp_path, **short)
            state.unlink()
        assert same_bits(model, expected)
    assert resumed > 5


def test_pairs_killed_at_any_call_are_whole_or_absent(tmp_path):
    """A file that ends in the middle of a line, or a draft that is taken for it."""
    data, path = pairs(), tmp_path / "a.jsonl"
    for _ in crashes.points(lambda: data.write(path)):
        assert not path.exists() or path.read_bytes() == data.text()
        data.write(path)
        assert path.read_bytes() == data.text()
        path.unlink()
    assert list(tmp_path.iterdir()) == []


COMMAND = [
    *(sys.executable, "-m", "dpo_core", "train-gen", "--output", "a.model", "--steps", "40"),
    *("--batch-size", "4", "--log-every", "1", "--save-every", "1", "--device", "cpu"),
]


@pytest.mark.slow
def test_a_command_killed_at_random_moments_ends_in_the_same_bits(tmp_path):
    """Fifty kills of the real process, wherever they fall: --resume where a state is, else again."""
    subprocess.run([*COMMAND, "--output", "whole.model"], cwd=tmp_path, check=True)
    kills, wait = 0, 2.0
    while not (tmp_path / "a.model" / "model.safetensors").exists() and kills < 50:
        state = tmp_path / "a.model.partial" / "state.safetensors"
        process = subprocess.Popen([*COMMAND, *["--resume"] * state.exists()], cwd=tmp_path)
        try:
            process.wait(timeout=wait + 0.037 * kills)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
    state = tmp_path / "a.model.partial" / "state.safetensors"
    if state.exists():
        subprocess.run([*COMMAND, "--resume"], cwd=tmp_path, check=True)
    for name in ("model.safetensors", "recipe.json"):
        ours, theirs = (tmp_path / m / name for m in ("a.model", "whole.model"))
        assert ours.read_bytes() == theirs.read_bytes()
    assert not (tmp_path / "a.model.partial").exists()


# ---------------------------------------------------------------- several at once


def _write(folder: Path, seed: int, saves: int) -> None:
    model = small_model(seed)
    for _ in range(saves):
        save_model(model, folder, {"fingerprint": fingerprint(model)})


def test_a_model_replaced_while_it_is_opened_is_read_whole(tmp_path, monkeypatch):
    """safe_open opens the file twice: the recipe of one model came with the weights of the next."""
    old, new = (tmp_path / name for name in ("old.model", "new.model"))
    _write(old, 1, 1)
    _write(new, 2, 1)
    opened = checkpoint.safe_open

    class Replaced:
        """The metadata of a file, and the tensors of the one that took its place."""

        def __init__(self, path, framework):
            with opened(path, framework=framework) as file:
                self.found = file.metadata()
            if (new / path.name).exists():
                os.replace(new / path.name, path)
            self.file = opened(path, framework=framework)

        def __enter__(self):
            self.file.__enter__()
            return self

        def __exit__(self, *error):
            return self.file.__exit__(*error)

        def metadata(self):
            return self.found

        def __getattr__(self, name):
            return getattr(self.file, name)

    monkeypatch.setattr(checkpoint, "safe_open", Replaced)
    model, recipe = read_model(old)
    assert (
        recipe
        == {"fingerprint": fingerprint(model)}
        == {"fingerprint": fingerprint(small_model(2))}
    )


def test_two_writers_and_a_reader_never_see_half_a_model(tmp_path):
    """A reader that repairs while a writer is at work destroys the writer's result; so does a second writer."""
    folder, fork = tmp_path / "a.model", multiprocessing.get_context("fork")
    _write(folder, 1, 1)
    writers = [fork.Process(target=_write, args=(folder, seed, 12)) for seed in (1, 2)]
    for writer in writers:
        writer.start()
    reads, seen = 0, set()
    while any(writer.is_alive() for writer in writers) or reads < 20:
        model, recipe = read_model(folder)
        assert recipe == {"fingerprint": fingerprint(model)}
        seen.add(recipe["fingerprint"])
        reads += 1
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert len(seen) == 2 and {path.name for path in tmp_path.iterdir()} == {"a.model"}


def test_a_second_run_on_one_output_is_refused_by_name(tmp_path):
    """Two runs that save in turn leave a state of neither."""
    with workshop(tmp_path / "a.model"):
        message = r"a\.model is being written by another run"
        with pytest.raises(StorageError, match=message), workshop(tmp_path / "a.model"):
            pass
        code = subprocess.run(COMMAND, cwd=tmp_path, capture_output=True, text=True)
        assert code.returncode == 2 and "another run" in code.stderr
        assert len(code.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_a_dead_process_is_free(tmp_path):
    """A lock file that outlives its owner blocks every later run."""
    child = os.fork()
    if child == 0:
        manager = workshop(tmp_path / "a.model")
        manager.__enter__()
        os._exit(9)
    os.waitpid(child, 0)
    assert (tmp_path / "a.model.partial" / storage.LOCK).exists()
    with workshop(tmp_path / "a.model"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_waiting_writer_gets_its_turn(tmp_path):
    """The lock's file is removed with its folder while somebody waits for it."""
    child = os.fork()
    if child == 0:
        with workshop(tmp_path / "a"):
            time.sleep(0.5)
        os._exit(0)
    while not (tmp_path / "a.partial" / storage.LOCK).exists():
        time.sleep(0.01)
    time.sleep(0.05)
    with workshop(tmp_path / "a", wait=20) as place:
        place.publish(b"x", place.place)
    os.waitpid(child, 0)
    assert tree(tmp_path) == {"a": b"x"}


# ---------------------------------------------------------------- what is not ours


def somebodys(folder: Path) -> None:
    """Places that hold somebody's work, each under a name that an output might have."""
    project = folder / "project"
    (project / "src").mkdir(parents=True)
    (project / "config.json").write_text("{}")
    (project / "src" / "main.py").write_text("print()")
    (folder / "config").mkdir()
    (folder / "config" / "config.json").write_text('{"model_type": "llama"}')
    foreign = folder / "foreign.model"
    save_model(OLD, foreign)
    strip_mark(foreign)
    (folder / "file").write_text("mine")
    (folder / "link").symlink_to("file")
    os.mkfifo(folder / "pipe")
    (folder / "q.partial").mkdir()
    (folder / "q.partial" / "letter").write_text("mine")
    (folder / "r.partial").write_text("mine")
    (folder / "s.partial").mkdir()
    (folder / "s.partial" / "state.safetensors").write_bytes(b"mine")
    (folder / ".t.old").mkdir()
    (folder / ".t.old" / "letter").write_text("mine")
    (folder / ".t.new").write_text("mine")
    (folder / "t.part").write_text("mine")


def strip_mark(folder: Path) -> None:
    """Make a model of ours one that somebody else saved."""
    from safetensors.torch import load_file, save_file

    save_file(load_file(folder / "model.safetensors"), folder / "model.safetensors")


REFUSED = ["project", "config", "foreign.model", "file", "link", "pipe", "q", "r", "s", "/dev/null"]


def contents(folder: Path) -> dict[str, bytes | None]:
    """As `tree`, without waiting for what stands in a pipe."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        if path.is_file()
        else (b"link" if path.is_symlink() else None)
        for path in sorted(folder.rglob("*"))
    }


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_ours_is_neither_replaced_nor_removed(tmp_path, name, monkeypatch, capsys):
    """`--output proj` with somebody's config.json in it deleted all of proj."""
    somebodys(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(StorageError) as error:
        save_model(NEW, tmp_path / name)
    named = {"link": "file"}.get(name, name.split("/")[-1])  # what the link leads to
    assert named in str(error.value) and "\n" not in str(error.value)
    assert contents(tmp_path) == before
    monkeypatch.chdir(tmp_path)
    assert main(["train-gen", "--steps", "1", "--output", name]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["project", "file", "link", "pipe", "q", "r", "/dev/null"])
def test_pairs_replace_nothing_at_all(tmp_path, name, monkeypatch, capsys):
    """make-pairs replaced any file, link, pipe or device."""
    somebodys(tmp_path)
    before = contents(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(["make-pairs", "--pairs", "8", "--output", name]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    with pytest.raises(StorageError):
        pairs().write(tmp_path / name)
    assert contents(tmp_path) == before


def test_names_that_were_once_ours_are_left_alone(tmp_path):
    """A user's own `.t.old`, `.t.new` and `t.part` were moved or deleted."""
    somebodys(tmp_path)
    before = contents(tmp_path)
    save_model(NEW, tmp_path / "t")
    assert {n: c for n, c in contents(tmp_path).items() if not n.startswith("t/")} == {
        **before,
        "t": None,
    }


@pytest.mark.parametrize("name", ["recipe.json", "metrics.jsonl", "generation_config.json"])
def test_what_stands_where_a_file_of_a_model_goes_is_named_before_the_run(tmp_path, name):
    """A folder or a pipe of that name was found after the training, or waited for."""
    save_model(OLD, tmp_path / "a.model")
    (tmp_path / "a.model" / name).unlink(missing_ok=True)
    for make in (os.mkdir, os.mkfifo):
        make(tmp_path / "a.model" / name)
        with pytest.raises(CheckpointError, match=f"{name} is in the way"):
            check_place(tmp_path / "a.model", OLD.config)
        (os.rmdir if make is os.mkdir else os.unlink)(tmp_path / "a.model" / name)


def test_files_that_somebody_put_beside_a_model_stay(tmp_path):
    """Notes about a model, or another model inside its folder."""
    folder = tmp_path / "a.model"
    save_model(OLD, folder)
    (folder / "notes.txt").write_text("mine")
    save_model(NEW, folder / "inner.model")
    save_model(NEW, folder)
    assert (folder / "notes.txt").read_text() == "mine"
    assert same_bits(load_model(folder), NEW) and same_bits(load_model(folder / "inner.model"), NEW)


def test_a_model_of_another_shape_is_not_replaced(tmp_path):
    """Its files cannot all change in one step; a reader between two of them would find neither model."""
    from dpo_core.model import Llama, ModelConfig

    save_model(OLD, tmp_path / "a.model")
    with pytest.raises(CheckpointError, match="another shape"):
        save_model(Llama(ModelConfig()).reset_parameters(0), tmp_path / "a.model")
    assert same_bits(load_model(tmp_path / "a.model"), OLD)


def test_the_start_of_a_run_is_not_its_output(tmp_path, monkeypatch, capsys):
    """A run that writes over its own reference cannot be evaluated, or made again."""
    monkeypatch.chdir(tmp_path)
    save_model(OLD, tmp_path / "a.model")
    for output in ("a.model", "./a.model/", "again"):
        (tmp_path / "again").unlink(missing_ok=True)
        (tmp_path / "again").symlink_to("a.model")
        assert main(["train-dpo", "--model", "a.model", "--output", output]) == 2
        assert "from which the run starts" in capsys.readouterr().err


# ---------------------------------------------------------------- places


def test_a_link_to_a_folder_is_followed(tmp_path):
    """`--output link` replaced the link, or failed after the training."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "a.model").symlink_to("disk/a.model")
    for model in (OLD, NEW):
        save_model(model, tmp_path / "a.model")
        assert same_bits(load_model(tmp_path / "disk" / "a.model"), model)
    assert (tmp_path / "a.model").is_symlink()
    assert {path.name for path in (tmp_path / "disk").iterdir()} == {"a.model"}


def test_an_output_on_another_disk_works(tmp_path):
    """A rename from one disk to another fails, after the whole training."""
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second disk here")
    other = shared / f"dpo-core-test-{os.getpid()}"
    try:
        (tmp_path / "a.model").symlink_to(other)
        save_model(OLD, tmp_path / "a.model")
        assert same_bits(load_model(other), OLD)
    finally:
        for path in other.glob("*"):
            path.unlink()
        other.rmdir()


def test_a_mount_point_is_refused_before_anything_is_done(tmp_path, monkeypatch):
    """The files beside it are on another disk."""
    monkeypatch.setattr(os.path, "ismount", lambda path: str(path) == str(tmp_path / "volume"))
    with pytest.raises(StorageError, match="mount point; accepted is a folder inside it"):
        save_model(OLD, tmp_path / "volume")
    save_model(OLD, tmp_path / "volume" / "a.model")


def test_a_full_disk_costs_nothing(tmp_path, monkeypatch):
    """The write fails in the middle: one line, the old model, no litter."""
    save_model(OLD, tmp_path / "a.model", {"name": "old"})
    before = tree(tmp_path)

    def full(descriptor):
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_model(NEW, tmp_path / "a.model")
    monkeypatch.undo()
    assert same_bits(load_model(tmp_path / "a.model"), OLD)
    assert tree(tmp_path)["a.model/model.safetensors"] == before["a.model/model.safetensors"]
    assert {path.name for path in tmp_path.iterdir()} == {"a.model"}


def test_files_follow_the_umask(tmp_path):
    """Weights that all may read although the user's umask says otherwise."""
    before = os.umask(0o077)
    try:
        save_model(OLD, tmp_path / "a.model")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "a.model").iterdir()}
    assert set(modes.values()) == {0o600}


def test_what_is_written_reaches_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    """A power cut after the rename leaves an empty file under the right name."""
    calls, sync, exchange = [], os.fsync, os.replace

    def synced(descriptor):
        calls.append("file" if stat.S_ISREG(os.fstat(descriptor).st_mode) else "folder")
        sync(descriptor)

    def exchanged(*places):
        calls.append("exchange")
        exchange(*places)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", exchanged)
    with workshop(tmp_path / "a") as place:
        calls.clear()
        place.publish(b"x", place.place)
    assert calls == ["file", "exchange", "folder"]


# ---------------------------------------------------------------- reading


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe", "is not UTF-8: byte 0"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b"\x1f\x8b\x08", "compressed"),
        (b"x" * 30, "more than 20 bytes"),
    ],
)
def test_a_file_that_is_no_text_is_named(tmp_path, content, message):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(StorageError, match=message) as error:
        read_text(tmp_path / "a.json", limit=20)
    assert "a.json" in str(error.value)


def test_a_pipe_is_not_waited_for(tmp_path):
    """A command that hangs says nothing at all."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StorageError, match="is not a file"):
        read_text(tmp_path / "pipe")


@pytest.mark.parametrize(
    "text", ["", "{", "NaN", "[Infinity]", "[" * 100_000, "9" * 5000, '{"a": -Infinity}', "{} {}"]
)
def test_what_is_not_json_is_a_value_error_of_one_line(text):
    """JSON nested 100,000 deep, or numbers of 5,000 digits, end in other errors."""
    with pytest.raises(ValueError) as error:
        parse_json(text)
    assert "\n" not in str(error.value) and len(str(error.value)) < 200


@pytest.mark.parametrize("parents", ["", "one/two/"])
@pytest.mark.parametrize("call", ["mkdir", "acquire"])
def test_a_place_that_is_left_early_leaves_nothing(tmp_path, monkeypatch, call, parents):
    """Ctrl-C, or a full disk, between the making of the workshop and the work in it."""
    owner = Path if call == "mkdir" else storage.FileLock
    plain = getattr(owner, call)
    for error in (KeyboardInterrupt, OSError(28, "full")):

        def stops(self, *arguments, error=error, **rest):
            plain(self, *arguments, **rest)
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(owner, call, stops)
            with (
                pytest.raises((KeyboardInterrupt, StorageError)),
                workshop(tmp_path / f"{parents}a.model"),
            ):
                pass
        assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_refused_leaves_no_new_folders(tmp_path):
    """`--resume --output new/a.model` said that there is nothing to resume, and left `new`."""
    with pytest.raises(ValueError), workshop(tmp_path / "one" / "two" / "a.model"):
        raise ValueError
    assert list(tmp_path.iterdir()) == []
