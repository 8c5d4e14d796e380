"""A recorded experiment goes on where it was stopped, loses nothing, and is written by one process."""

import json
import sys

import pytest

import sources

sys.path.append(str(sources.CHAPTERS / "data"))
import recording

JOBS = [{"name": "double", "seed": seed} for seed in range(3)]


def double(job):
    return {"J": 2 * job["seed"]}


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "trial.py"
    path.write_text("# a script\n", encoding="utf-8")
    return path


def begun(script, jobs=JOBS):
    """A recording that was stopped after `jobs`: what is left is its journal."""
    recorder = recording.Recorder(str(script), len(jobs))
    for job in jobs:
        key = json.dumps(job, sort_keys=True)
        recorder._append({"job": key, "result": {"J": -1, "cpu_seconds": 6.0}})
    recorder.lock.release()
    return script.with_suffix(".partial")


def test_a_stopped_recording_goes_on(script):
    """Jobs that are done are not done again; the rest is; the file appears whole and the journal goes."""
    begun(script, JOBS[:2])
    recorder = recording.Recorder(str(script), 3)
    runs = recorder.all(double, JOBS)
    assert [run["J"] for run in runs] == [-1, -1, 4]
    assert not script.with_suffix(".json").exists()
    recorder.write({"runs": runs, "limit": float("inf")})
    found = json.loads(script.with_suffix(".json").read_text(encoding="utf-8"))
    assert [run["J"] for run in found["runs"]] == [-1, -1, 4] and found["limit"] is None
    assert found["cpu_minutes"] >= 0.2 and found["command"].endswith("trial.py")
    assert not script.with_suffix(".partial").exists()


def test_a_line_that_was_cut_off_is_no_result(script):
    """A machine that stops in the middle of a line leaves half of one."""
    journal = begun(script)
    journal.write_text(journal.read_text(encoding="utf-8")[:-9], encoding="utf-8")
    recorder = recording.Recorder(str(script), 3)
    assert len(recorder.done) == 2
    recorder._append({"job": "x", "result": {}})  # a line of its own again
    lines = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 4 and lines[-1] == {"job": "x", "result": {}}


@pytest.mark.parametrize("content", ["not ours\n", "not ours", "{}\n", "{}\n{", "[1]\n[2]\n"])
def test_a_journal_of_something_else_is_named_and_left_alone(script, content):
    journal = script.with_suffix(".partial")
    journal.write_text(content, encoding="utf-8")
    with pytest.raises(SystemExit, match=r"trial.partial is not of this version"):
        recording.Recorder(str(script), 3)
    assert journal.read_text(encoding="utf-8") == content


def test_another_version_of_the_script_does_not_go_on(script):
    """Results of two versions in one file."""
    begun(script)
    script.write_text("# another\n", encoding="utf-8")
    with pytest.raises(SystemExit, match=r"remove it to begin anew"):
        recording.Recorder(str(script), 3)


def test_two_processes_do_not_record_at_once(script):
    first = recording.Recorder(str(script), 3)
    with pytest.raises(SystemExit, match=r"trial.py is being recorded by another process"):
        recording.Recorder(str(script), 3)
    first.lock.release()
