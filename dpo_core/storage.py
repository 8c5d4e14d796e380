"""How files are written so that nothing is lost, whenever the machine stops (chapter 3).

What is on disk changes in one way only: a finished file takes the place of another by `os.replace`,
which the operating system does in one step. So whatever must hold together is *one* file: a model's
weights carry their recipe, a run's state carries weights, moments and metrics. A reader finds the
old file or the new one and never has anything to repair.

The finished file is made in a workshop: for OUTPUT, the folder OUTPUT.partial. A lock in it keeps a
second writer out; the operating system frees it when its owner ends, however it ends. What a killed
writer leaves in the workshop is overwritten by the next one. No folder is ever moved or emptied,
and a file that is not ours is neither replaced nor removed: the caller looks before it publishes.
"""

import errno
import json
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from filelock import FileLock, Timeout

LOCK, DRAFT, STATE, METRICS = "dpo-core.lock", "draft", "state.safetensors", "metrics.jsonl"
MAX_JSON = 64 * 2**20  # bytes of one JSON text; ours have some thousands
MAX_DIGITS = 300  # of a whole number; a float holds as many


class StorageError(ValueError):
    """A place that cannot be written, or a file that cannot be read; the message names it."""


class Workshop:
    """Where the files for one output are made, by one process at a time; made by `workshop`."""

    def __init__(self, place: Path, folder: Path) -> None:
        self.place, self.folder = place, folder
        self.state, self.metrics = folder / STATE, folder / METRICS

    def publish(self, content: bytes, target: Path, replace: bool = True) -> None:
        """Put a file into its place in one step, on the disk and not only on its way there.

        Raises:
            OSError: it cannot be written; what stood in its place still stands there.
            StorageError: with `replace=False`, something stands in its place.
        """
        draft = self.folder / DRAFT
        try:
            with draft.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            if replace:
                os.replace(draft, target)
            else:
                _take_free_place(draft, target)
            sync_folder(target.parent)
        except OSError as error:
            if error.errno:
                error.filename = error.filename or str(target)  # a full disk has no name of its own
            raise

    def remove(self, target: Path) -> None:
        """Remove a file of ours, if it is there."""
        target.unlink(missing_ok=True)
        sync_folder(target.parent)


@contextmanager
def workshop(output: str | Path, wait: float = 0.0) -> Iterator[Workshop]:
    """The workshop of an output, locked; it is gone at the end, unless it holds the state of a run.

    Symbolic links are followed: what is replaced is the file that the link leads to.

    Args:
        wait: seconds to wait for another writer.

    Raises:
        StorageError: the place cannot be written, another process is writing there, or a file or
            folder that is not ours stands where the workshop should be.
    """
    place = Path(os.path.realpath(output))
    if not place.name or not str(output) or any(ord(character) < 32 for character in str(output)):
        raise StorageError(f"output is {str(output)!r}; accepted is the name of a folder or file")
    folder = place.with_name(place.name + ".partial")
    _check_ours(folder)
    if os.path.ismount(place):
        raise StorageError(f"{output} is a mount point; accepted is a folder inside it")
    new = [parent for parent in folder.parents if not os.path.exists(parent)]
    lock, made = FileLock(folder / LOCK), Workshop(place, folder)
    try:
        try:
            _acquire(lock, folder, time.monotonic() + wait)
            sync_folder(folder.parent)
        except Timeout:
            raise StorageError(
                f"{output} is being written by another run, which holds {folder / LOCK}; "
                "wait for it, or name another output"
            ) from None
        except OSError as error:
            raise StorageError(f"cannot write {output}: {error.strerror}") from None
        yield made
    finally:
        if lock.is_locked:
            (folder / DRAFT).unlink(missing_ok=True)
            if not made.state.exists():
                made.metrics.unlink(missing_ok=True)
                (folder / LOCK).unlink(missing_ok=True)  # a waiting process sees that it is gone
            lock.release()
        for empty in (folder, *new):  # unless it holds a state, or what somebody put there
            with suppress(OSError):
                empty.rmdir()


def _acquire(lock: FileLock, folder: Path, deadline: float) -> None:
    """Take the lock of a workshop; its folder is made, again if it goes with another's end.

    Raises:
        Timeout: another process holds it.
        OSError: the folder cannot be made.
    """
    for attempt in range(100):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=max(0.0, deadline - time.monotonic()))
        except FileNotFoundError:  # its last user removed it a moment ago
            if attempt == 99:
                raise
        else:
            return


def _check_ours(folder: Path) -> None:
    """A workshop holds our lock, or nothing at all.

    Raises:
        StorageError: it is something else.
    """
    if not os.path.lexists(folder):
        return
    if folder.is_symlink() or not folder.is_dir():
        raise StorageError(f"{folder} is in the way: the files of a run are kept there")
    try:
        names = set(os.listdir(folder))
    except FileNotFoundError:  # its last user removed it a moment ago
        return
    if names and LOCK not in names:
        raise StorageError(f"{folder} is in the way: it holds {min(names)}, which is not of a run")


def _take_free_place(draft: Path, target: Path) -> None:
    """Move a file to a free place; a hard link, unlike a rename, replaces nothing."""
    try:
        os.link(draft, target)
    except OSError:  # something is there, or this disk has no hard links
        if os.path.lexists(target):
            raise StorageError(f"{target} exists; name another file, or remove it") from None
        os.replace(draft, target)
    else:
        draft.unlink()


def sync_folder(folder: Path) -> None:
    """See that the names in a folder are on the disk, where the system has a call for it."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network disks have none
            raise
    finally:
        os.close(descriptor)


# ---------------------------------------------------------------- reading what others wrote


def read_text(path: Path, limit: int = MAX_JSON) -> str:
    """The text of a UTF-8 file of at most `limit` bytes, a plain file or what a link leads to.

    Raises:
        StorageError: it is missing, too large, not a file, not UTF-8, or has a byte order mark.
    """
    if path.exists() and not path.is_file():  # a pipe or a device would be waited for
        raise StorageError(f"{path} is not a file")
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}") from None
    if len(content) > limit:
        raise StorageError(f"{path} has more than {limit} bytes")
    if content.startswith(b"\x1f\x8b"):
        raise StorageError(f"{path} is compressed (gzip); accepted is the file unpacked")
    if content.startswith(b"\xef\xbb\xbf"):
        raise StorageError(f"{path} begins with a byte order mark; save it as UTF-8 without one")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise StorageError(f"{path} is not UTF-8: byte {error.start} is wrong") from None


def parse_json(text: str | bytes, constants: bool = False) -> Any:
    """What a JSON text holds.

    Args:
        constants: take NaN and Infinity as well, which are no JSON and which Python's own writer,
            and so a log of transformers, writes all the same.

    Raises:
        ValueError: it is not JSON; NaN and Infinity, numbers beyond what a float holds and nesting
            beyond what Python reads are none.
    """
    constant = float if constants else _refuse_constant
    try:
        return json.loads(text, parse_constant=constant, parse_int=_whole, parse_float=_real)
    except RecursionError:
        raise ValueError("nested too deep") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at character {error.pos}") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")


def _whole(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits; accepted are {MAX_DIGITS}")
    return int(digits)


def _real(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"{digits:.40} is beyond the numbers that a float holds")
    return value


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        StorageError: the file cannot be read, or does not hold one JSON object.
    """
    text = read_text(path)
    try:
        content = parse_json(text)
    except ValueError as error:
        raise StorageError(f"{path} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise StorageError(f"{path} holds no JSON object")
    return content


def json_bytes(content: Any) -> bytes:
    """Readable JSON with a final newline.

    Raises:
        ValueError: NaN or an infinity, which JSON has not.
    """
    return (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
