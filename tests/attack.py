"""What the fuzzers throw: nasty words, nasty JSON, bytes with a few changes; and how a case is judged.

Every case is a pure function of (kind, seed), so a failure is run again by its seed alone, and a long
run is cut into ranges of seeds.
"""

import contextlib
import copy
import io
import json
import os
import signal
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dpo_core.commands.parser import main

# cases of each kind in CI: 10,000 in all; `make test-slow` runs a hundred times as many
CASES = {
    "commands": 3500,
    "recipes": 1000,
    "states": 700,
    "models": 1300,
    "pairs": 3500,
}
PART = 50  # parts of the long run for each kind


def generator(kind: str, seed: int) -> np.random.Generator:
    """The random numbers of one case."""
    return np.random.default_rng([zlib.crc32(kind.encode()), seed])


def pick(rng: np.random.Generator, pool: Any) -> Any:
    """One of a sequence, as it is (numpy's `choice` would make an array of it)."""
    return pool[int(rng.integers(len(pool)))]


# ---------------------------------------------------------------- words

NUMBERS = (
    *"0 -0 1 2 3 7 -1 1.5 .5 5. 1e3 1e308 -1e308 1e-308 1e-320 1e-50 1e400 -1e400 1e99999".split(),
    *"nan NaN inf -inf infinity 0x10 1_0 + - . e 1e +5 --5 1,2 True None null 1/2 0.5 0.999".split(),
    *"255 256 257 4294967295 4294967296 2147483648 9223372036854775808 100000000".split(),
    *("９", "１２", "٣", "²", "½", "Ⅷ", " 5", "5 ", "5\n", "\n5", "5\0", "", " ", "- 5"),
    *("9" * 30, "9" * 31, "9" * 5000, "1" * 100_000 + "x", "0." + "1" * 5000, "1e" + "9" * 50),
)
NAMES = (
    *"gen dpo mute.model gen.model file home fifo missing link loop dead . .. / // ~ - -- -x".split(),
    *"/dev/null /dev/zero /dev/full /dev/stdin /proc/self/maps /proc /proc/self/mem /dev/fd/99".split(),
    *"file/below missing/below home/ mute.model/ ./mute.model home/../mute.model = --= @file".split(),
    *"%s %(prog)s {} * $HOME a'b a\"b x\\y pairs.jsonl one.jsonl CON .partial q S54= 54 S5x=".split(),
    *("", " ", "a\nb", "a\rb", "a\tb", "a\x1b[31mb", "a\x7f", "a\x9b31m", "a\u2028b", "a\u0085b"),
    *("\udc80", "a\ud800b", "\0", "é", "模型", "👩\u200d👩", "\ufeffgen", "a\u202eb", "\u3000"),
    *("a" * 255, "a" * 256, "a" * 5000, "a/" * 3000, "模" * 200, "x" * 100_000),
)
TARGETS = (
    *"54 -12 0 -0 3.25 S54= S-3.25= S54 54= S5x= 007 1e3 1/3 +5 -- - = S= E SE= 54E 5 4".split(),
    *("", " 54", "５４", "S５=", "1" * 60, "1" * 200, "1" * 5000, "S" + "1" * 5000 + "=", "5\n"),
    *("\ud800", "a\u2028b", "__import__('os')", "S1=" * 40, "0." + "0" * 5000 + "1"),
)

# ---------------------------------------------------------------- JSON

RAW = {  # what `json.dumps` does not write
    "@raw:0@": "1e400",
    "@raw:1@": "NaN",
    "@raw:2@": "-Infinity",
    "@raw:3@": "9" * 5000,
    "@raw:4@": "[" * 100_000 + "]" * 100_000,
    "@raw:5@": '{"a":' * 100_000 + "1" + "}" * 100_000,
    "@raw:6@": '{"a": 1, "a": 2}',
    "@raw:7@": "-1e400",
}
VALUES = (
    *(None, True, False, 0, 1, -1, 2, 22, 64, 1.5, -0.5, 0.0, -0.0, 1e308, -1e308, 1e-320, 1e-300),
    *(2**31, 2**32, 2**63, -(2**63), 2**64, 10**30, 10**400, -(10**400), 1e30, -1e30, -1e299),
    *(
        "",
        "x",
        "book",
        "classic",
        "E",
        "S54=",
        "1",
        "true",
        "\ud800",
        "a\nb",
        "a\u2028b",
        "\x1b[31m",
    ),
    *(
        "模型",
        "９",
        "x" * 100_000,
        "\0",
        "NaN",
        "../../../etc",
        "gen",
        "sigmoid",
        "silu",
        "default",
    ),
    *([], {}, [[]], [1], [1, 2], ["x"], {"a": 1}, {"role": "user"}, [None], [[[[[[]]]]]], {"": {}}),
    *RAW,
)


def text_of(value: Any) -> str:
    """JSON, with the raw texts put in."""
    text = json.dumps(value)
    for name, raw in RAW.items():
        text = text.replace(f'"{name}"', raw)
    return text


def places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """The path of every part of a JSON value."""
    yield path
    if isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(part, (*path, key))


def changed(rng: np.random.Generator, value: Any, changes: int = 1) -> Any:
    """A copy of a JSON value with other parts, parts that are gone, and parts that are new."""
    value = json.loads(json.dumps(value))
    for _ in range(changes):
        path = pick(rng, list(places(value)))
        new, kind = copy.deepcopy(pick(rng, VALUES)), rng.random()
        if not path:
            if kind < 0.3:
                return new
            continue
        at = value
        for key in path[:-1]:
            at = at[key]
        if kind < 0.15:
            del at[path[-1]]
        elif kind < 0.25 and isinstance(at, dict):
            at[f"{path[-1]}{pick(rng, ('_', ' ', '2'))}"] = new
        elif kind < 0.35:
            at[path[-1]] = pick(rng, ([at[path[-1]]], {"a": at[path[-1]]}, str(at[path[-1]])))
        else:
            at[path[-1]] = new
    return value


def damaged(rng: np.random.Generator, content: bytes) -> bytes:
    """Bytes with a few changes, a cut, something put in, or another encoding."""
    data, kind = bytearray(content), rng.random()
    if kind < 0.5:
        for _ in range(int(rng.integers(1, 5))):
            if data:
                data[int(rng.integers(len(data)))] = int(rng.integers(256))
    elif kind < 0.65:
        data = data[: int(rng.integers(len(data) + 1))]
    elif kind < 0.8:
        start = int(rng.integers(len(data) + 1))
        extra = (b"\0", b"\n", b"\r\n", b"\xe2\x80\xa8", b"\xc2\x85", b"\xff", b"{", b'"', b"NaN")
        data[start:start] = pick(rng, extra)
    elif kind < 0.9:
        start, end = sorted(int(i) for i in rng.integers(len(data) + 1, size=2))
        del data[start:end]
    else:
        text = content.decode("utf-8", "replace")
        encodings = ("utf-16", "utf-8-sig", "utf-32-le", "cp1252")
        data = text.encode(pick(rng, encodings), "replace")
        data = pick(rng, (data, b"\x1f\x8b" + content, b"[" + content + b"]", content + b"\n\n"))
    return bytes(data)


# ---------------------------------------------------------------- the verdict


@contextlib.contextmanager
def in_time(seconds: float = 10.0) -> Iterator[None]:
    """Raises AssertionError in what computes or waits for too long."""

    def late(number: int, frame: Any) -> None:
        raise AssertionError(f"it hangs ({signal.Signals(number).name})")

    timers = {
        (signal.ITIMER_VIRTUAL, signal.SIGVTALRM): seconds,
        (signal.ITIMER_REAL, signal.SIGALRM): 12 * seconds,  # whatever else the machine does
    }
    before = {number: signal.signal(number, late) for _, number in timers}
    for (timer, _), limit in timers.items():
        signal.setitimer(timer, limit)
    try:
        yield
    finally:
        for timer, number in timers:
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])


def tree(folder: Path) -> dict[str, tuple]:
    """What is in a folder: relative path -> kind and size, without opening anything."""
    found = {}
    for place, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = os.path.join(place, name)
            status = os.lstat(path)
            found[path[len(str(folder)) + 1 :]] = status.st_mode, status.st_size
    return found


def one_line(text: str) -> None:
    """Raises AssertionError unless a text is one line that a terminal can show."""
    assert text.isprintable(), f"control characters: {text!r:.300}"
    assert text and len(text) < 1500, f"{len(text)} characters: {text:.300}"


def outcome(arguments: list[str], folder: Path | None = None) -> int:
    """The exit code of a command line, which keeps its promises.

    0 (or 1, of a doctor who found something), or 2 with one line on standard error and nothing new
    in `folder`; no exception, no hang.
    """
    before = tree(folder) if folder else None
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors), in_time():
        try:
            code = main(arguments)
        except SystemExit as error:
            code = error.code
    said = errors.getvalue()
    if code == 2:
        assert said.startswith("dpo-core") and said.endswith("\n") and said.count("\n") == 1, said
        one_line(said[:-1])
        assert folder is None or tree(folder) == before, "it wrote something"
    else:
        found = code == 1 and arguments[:1] == ["doctor"]
        assert code == 0 or found, f"exit code {code}: {said!r:.300}"
        bare = [w for w in ("NaN", "Infinity") if not any(w in argument for argument in arguments)]
        assert "Traceback" not in said and not any(w in out.getvalue() for w in bare)
    return code
