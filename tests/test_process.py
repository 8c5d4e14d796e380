"""The command as a process: full disks, Ctrl-C, streams that are closed, full or of another encoding."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from attack import one_line, outcome, tree
from dpo_core.checkpoint import fingerprint, load_model, read_model, save_model
from dpo_core.commands.parser import main
from dpo_core.storage import Workshop
from toys import memoryless_model

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX streams, signals and limits")

COMMAND = [sys.executable, "-m", "dpo_core"]
GEN = "train-gen --steps 6 --batch-size 4 --log-every 1 --save-every 2 --device cpu".split()
DPO = "train-dpo --steps 2 --batch-size 4 --pairs 16 --log-every 1 --save-every 0".split()


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Every test in an empty folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ---------------------------------------------------------------- a small full disk


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The model that GEN makes, and how many bytes it takes to make it."""
    folder = tmp_path_factory.mktemp("whole")
    assert main([*GEN, "--output", str(folder / "a.model")]) == 0
    return load_model(folder / "a.model")


def train_where_space_is_short(folder, whole, make_space):
    """One training that may fail, then one that may not: the old model, one line, no litter."""
    before = tree(folder)
    old = fingerprint(load_model(folder / "a.model")) if (folder / "a.model").exists() else None
    code = outcome([*GEN, "--output", str(folder / "a.model")])
    state = folder / "a.model.partial" / "state.safetensors"
    if code == 2:
        if (folder / "a.model" / "model.safetensors").exists():
            model, recipe = read_model(folder / "a.model")
            assert fingerprint(model) == (fingerprint(whole) if recipe else old)
        else:
            assert old is None
        litter = {name for name in tree(folder).keys() - before.keys() if "a.model/" not in name}
        assert state.exists() or not litter - {"a.model"}, litter
        assert not list(folder.rglob("draft"))
    make_space()
    resume = ["--resume"] * state.exists()
    assert outcome([*GEN, "--output", str(folder / "a.model"), *resume]) == 0
    assert fingerprint(load_model(folder / "a.model")) == fingerprint(whole)
    assert [path.name for path in folder.iterdir()] == ["a.model"]
    return code


@pytest.mark.parametrize("before", [False, True], ids=["new", "replaced"])
def test_a_training_on_a_full_disk_ends_in_one_line_and_loses_nothing(here, whole, before):
    """A disk that is full at any of the writes of a run: SafetensorError, litter, or half a model."""
    folder, codes = here / "disk", []
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4k,mode=700", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root can mount a small disk")

    def resize(kilobytes):
        size = f"remount,size={kilobytes}k"
        subprocess.run(["mount", "-o", size, str(folder)], check=True)

    try:
        for room in (4, 8, 20, 60, 200, 500, 700, 1000, 1200, 1500, 1600, 2000, 2600, 4000):
            resize(20_000)
            for path in folder.iterdir():
                shutil.rmtree(path)
            if before:
                save_model(SHIPPED_SHAPE, folder / "a.model")
            used = sum(os.stat(path).st_blocks for path in folder.rglob("*")) // 2
            resize(used + room)
            codes.append(train_where_space_is_short(folder, whole, lambda: resize(20_000)))
    finally:
        subprocess.run(["umount", str(folder)], check=True)
    assert codes[0] == 2 and codes[-1] == 0 and codes.count(2) > 5


SHIPPED_SHAPE = load_model(
    os.path.join(os.path.dirname(sys.modules["dpo_core"].__file__), "pretrained", "gen.model")
)


@pytest.mark.parametrize("before", [False, True], ids=["new", "replaced"])
def test_a_limit_on_the_size_of_files_is_one_line_and_loses_nothing(here, whole, before):
    """The same where nobody may mount a disk: a write that stops in the middle."""
    resource = pytest.importorskip("resource")
    codes = []
    for number, limit in enumerate((0, 100, 3000, 100_000, 490_000, 900_000, 10**7)):
        folder = here / str(number)
        folder.mkdir()
        if before:
            save_model(SHIPPED_SHAPE, folder / "a.model")
        child = os.fork()
        if child == 0:
            code = 99
            try:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
                free = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))  # noqa: E731
                code = train_where_space_is_short(folder, whole, free)
            finally:
                os._exit(code)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    assert codes[0] == 2 and codes[-1] == 0 and set(codes) == {0, 2}


# ---------------------------------------------------------------- Ctrl-C


@pytest.fixture(autouse=True)
def ctrl_c_is_heard():
    """In the background of a shell script (`make test &`) it is not, nor by what is started there."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def long(steps):
    """GEN with more steps than it has taken when it is interrupted, and few enough to be resumed to the end."""
    return [*GEN[:1], "--steps", str(steps), *GEN[3:]]


def interrupted(process) -> str:
    """What a process says to Ctrl-C: one line, exit code 130."""
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, (process.returncode, errors)
    assert errors.startswith("dpo-core") and errors.count("\n") == 1, errors
    one_line(errors[:-1])
    return errors


def start(arguments):
    return subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def wait_for(condition, process):
    """Wait until a condition holds, or the process has ended."""
    while not condition() and process.poll() is None:
        time.sleep(0.002)


def keeps_its_promise(said, arguments, here):
    """--resume goes through where it was promised; elsewhere nothing is left."""
    if "--resume continues" in said:
        assert main([*arguments, "--resume"]) == 0
    elif not (here / "gen.model").exists():
        assert list(here.iterdir()) == []


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="needs /proc")
@pytest.mark.parametrize("library", ["libtorch_cpu", "_multiarray_umath", "_psutil"])
def test_ctrl_c_while_the_libraries_are_loaded_is_one_line(here, library):
    """Seconds in which Ctrl-C gave a traceback from inside torch, or nothing at all."""
    process = start(GEN)

    def loaded():
        with open(f"/proc/{process.pid}/maps") as maps:
            return library in maps.read()

    wait_for(loaded, process)
    said = interrupted(process)
    assert "nothing was begun" in said or "nothing to resume" in said
    assert list(here.iterdir()) == []


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "lines", [0, 1, pytest.param(2, marks=SLOW), 3, pytest.param(60, marks=SLOW)]
)
def test_ctrl_c_promises_what_resume_keeps(here, lines):
    """Before the first state, at it, between two states: --resume is promised only if it then works."""
    arguments = long(steps=lines + 120)
    process = start(arguments)
    metrics = here / "gen.model.partial" / "metrics.jsonl"

    def written():
        return metrics.exists() and metrics.read_bytes().count(b"\n") >= lines

    wait_for(written, process)
    said = interrupted(process)
    assert lines < 3 or "--resume continues" in said
    keeps_its_promise(said, arguments, here)


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(60))
def test_ctrl_c_at_any_moment_is_one_line(here, moment):
    """From the first import to the last file, every 50 milliseconds; a finished run may come through."""
    arguments = [*GEN[:1], "--steps", "40", *GEN[3:]]
    process = start(arguments)
    time.sleep(0.3 + 0.05 * moment)
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    if process.returncode == 0:
        assert errors == "" and load_model(here / "gen.model")
        return
    assert process.returncode == 130 and errors.count("\n") == 1 and "Traceback" not in errors
    resume = ["--resume"] * ("--resume continues" in errors)
    assert main([*arguments, *resume]) == 0  # whatever was left is no hindrance
    assert [path.name for path in here.iterdir()] == ["gen.model"]


def test_ctrl_c_at_any_write_of_a_run_promises_what_resume_keeps(here, monkeypatch, capsys):
    """The state goes last: a run that is interrupted while it writes its model is finished by --resume."""
    made, promised = [], 0
    for moment in range(100):
        left = iter(range(moment))

        def interrupting(real, left=left):
            def call(*arguments, **rest):
                if next(left, None) is None:
                    raise KeyboardInterrupt
                return real(*arguments, **rest)

            return call

        with monkeypatch.context() as patch:
            for name in ("publish", "remove"):
                patch.setattr(Workshop, name, interrupting(getattr(Workshop, name)))
            code = main(GEN)
        errors = capsys.readouterr().err
        if code == 0:
            break
        assert code == 130 and errors.count("\n") == 1
        if "--resume continues" in errors:
            promised += 1
            assert main([*GEN, "--resume"]) == 0
        else:
            assert "nothing to resume" in errors and not (here / "gen.model.partial").exists()
            assert main(GEN) == 0
        made.append(fingerprint(load_model(here / "gen.model")))
        assert [path.name for path in here.iterdir()] == ["gen.model"]
        shutil.rmtree(here / "gen.model")
        capsys.readouterr()
    assert len(set(made)) == 1 and 10 < promised < len(made) < 99


# ---------------------------------------------------------------- streams


def shell(command, **environment):
    """A command line of the shell, `dpo` standing for ours."""
    words = " ".join(f"'{word}'" for word in COMMAND)
    return subprocess.run(
        ["sh", "-c", command.replace("dpo", f"exec {words}", 1)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=300,
    )


def no_reader(arguments, **environment):
    """A command whose standard output is a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        return subprocess.run(
            [*COMMAND, *arguments],
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
            timeout=300,
        )
    finally:
        os.close(writer)


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-", ">/dev/full", "2>/dev/full"])
def test_a_training_ends_well_whatever_its_streams_are(here, closed):
    """A closed stream's number is given to the next file that is opened: the weights."""
    if "/dev/full" in closed and not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    done = shell(f"dpo {' '.join(GEN)} {closed}")
    assert (done.returncode, done.stderr) == (0, "")
    assert load_model(here / "gen.model") and [p.name for p in here.iterdir()] == ["gen.model"]
    metrics = (here / "gen.model" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in metrics] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_training_whose_output_nobody_reads_is_finished_all_the_same(here, unbuffered):
    """The first line that it said ended it, with exit code 0 and no model."""
    save_model(memoryless_model({"E": 0.5, "1": 0.5}), here / "gen.model")
    done = no_reader(DPO, PYTHONUNBUFFERED=unbuffered)
    assert (done.returncode, done.stderr) == (0, "")
    assert load_model(here / "dpo.model")


def test_answers_that_nobody_reads_are_no_fault(here):
    """`| head` ends in a BrokenPipeError, or in exit code 120 from Python's own last flush."""
    done = no_reader(["generate", "gen", "54", "--n", "3"])
    assert (done.returncode, done.stderr) == (0, "")


def test_answers_that_cannot_be_written_are_one_line(here):
    """A full disk behind standard output, and exit code 0 with no answers in the file."""
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    done = shell("dpo generate gen 54 >/dev/full")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "No space left" in done.stderr


@pytest.mark.parametrize("closed", ["2>&-", "2>/dev/full"])
def test_a_fault_that_nobody_can_read_has_its_exit_code(here, closed):
    """An error on the way to say what the error is."""
    if "/dev/full" in closed and not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    assert shell(f"dpo generate nowhere 54 {closed}").returncode == 2


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_name_that_the_terminal_cannot_show_is_escaped(here, encoding):
    """UnicodeEncodeError after the training."""
    done = shell(
        f"dpo {' '.join(GEN)} --output 模型.model", PYTHONIOENCODING=encoding, LC_ALL="C.UTF-8"
    )
    assert done.returncode == 0 and load_model(here / "模型.model")


def test_a_fault_that_the_terminal_cannot_show_is_escaped():
    """UnicodeEncodeError in place of the fault."""
    done = shell("dpo generate 没有 54", PYTHONIOENCODING="ascii", LC_ALL="C.UTF-8")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
