"""A process that dies at the n-th call which touches the file system, as a power cut would have it.

`points(action)` forks a child for n = 0, 1, 2, … in which the n-th call kills the process before it is
made; for a write, also one that dies half-way. It ends with the child that comes through.
"""

import builtins
import io
import os
import pathlib
from collections.abc import Callable, Iterator

CALLS = ("replace", "rename", "link", "unlink", "remove", "mkdir", "rmdir", "fsync", "open")
KILLED = 137


class DyingWriter(io.BufferedWriter):
    """A file whose writes are points at which the process may die, before or in the middle."""

    def __init__(self, raw, die):
        super().__init__(raw)
        self.die = die

    def write(self, content):
        self.die()
        half = len(content) // 2
        super().write(content[:half])
        self.flush()
        self.die()
        return half + super().write(content[half:])


def points(action: Callable[[], None]) -> Iterator[int]:
    """Run `action` in children that die at the 0th, 1st, 2nd … touch of the disk; yields each n.

    Between two children the caller looks at what is left. The last number is that of the child which
    lived. An exception in a child is one in the caller.
    """
    moment = 0
    while True:
        child = os.fork()
        if child == 0:
            _arm(moment)
            code = 1
            try:
                action()
                code = 0
            finally:
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, KILLED), f"the child failed at point {moment}, exit code {code}"
        yield moment
        if code == 0:
            return
        moment += 1


def _arm(moment: int) -> None:
    """Let the process die at the `moment`-th call."""
    left = iter(range(moment))

    def die():
        if next(left, None) is None:
            os._exit(KILLED)

    def dying(function):
        def call(*arguments, **rest):
            die()
            return function(*arguments, **rest)

        return call

    for name in CALLS:
        setattr(os, name, dying(getattr(os, name)))
    plain = builtins.open

    def open_dying(path, mode="r", *arguments, **rest):
        if mode != "wb":
            return plain(path, mode, *arguments, **rest)
        die()
        return DyingWriter(io.FileIO(path, "w"), die)

    pathlib.Path.open = lambda self, mode="r", *a, **k: open_dying(self, mode, *a, **k)
