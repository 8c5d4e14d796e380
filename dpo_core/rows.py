"""Preference pairs as people's files have them, one row each, taken as they are (chapter 14).

A trainer wants its pairs in one form and refuses the rest. Whoever examines a file wants to see
what is there: a row with an empty answer, or with two different prompts, is read and told, not
refused. Only what is no preference pair at all is an error.

Formats are TRL's: a prompt of its own or the implicit one that both answers begin with, in texts or
in lists of messages; and the columns under which other trainers keep a prompt.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unicodedata import category, east_asian_width

from dpo_core.storage import parse_json, read_text

Message = dict[str, str]
Part = str | tuple[Message, ...]

MAX_FILE = 2**30  # bytes
LARGEST = 1e30  # of a number that a float32 can hold
SIDES = ("chosen", "rejected")
LOGPS = ("ref_chosen_logps", "ref_rejected_logps")
SCORES = (
    ("score_chosen", "score_rejected"),
    ("chosen_score", "rejected_score"),
    ("chosen-rating", "rejected-rating"),
    ("chosen_rating", "rejected_rating"),
)
SPEAKERS = {"human": "user", "gpt": "assistant"}  # ShareGPT's names of the roles
PROMPT_COLUMNS = ("prompt", "question", "instruction", "conversations")  # the first one counts
BOOK = re.compile(r"S-?[0-9]+(?:\.[0-9]+)?=")
TURNS = re.compile(
    r"\n\n(?:Human|Assistant):|<\|im_start\|>(?:user|assistant)\n|<\|(?:user|assistant)\|>\n?"
    r"|<\|start_header_id\|>(?:user|assistant)<\|end_header_id\|>\n\n"
    r"|<start_of_turn>(?:user|model)\n|### (?:Instruction|Response):\n"
)
ANSWERS = re.compile("ssistant|model|Response")


@dataclass(frozen=True)
class Row:
    """One preference pair. Prompt and answers are texts, or tuples of messages.

    Attributes:
        number: of its line, or its place in a JSON array; from 1.
        form: "text", "implicit text", "conversation" or "implicit conversation".
        column: where the prompt stood; "" for an implicit one.
        whole: the two answers as the file has them, an implicit prompt included.
        preference_prob: P(chosen is preferred); None where the row does not say.
        ref_logps: the reference's log-probabilities of chosen and rejected, if both are there.
        scores: what a judge gave chosen and rejected, if the row says.
    """

    number: int
    form: str
    column: str
    prompt: Part
    chosen: Part
    rejected: Part
    whole: tuple[Part, Part]
    preference_prob: float | None = None
    ref_logps: tuple[float, float] | None = None
    scores: tuple[float, float] | None = None

    @property
    def texts(self) -> tuple[str, str, str]:
        """Prompt, chosen and rejected as three texts."""
        return as_text(self.prompt), as_text(self.chosen), as_text(self.rejected)

    @property
    def book(self) -> bool:
        """True if it is a pair of this book: a prompt `S54=`, in texts."""
        return isinstance(self.prompt, str) and BOOK.fullmatch(self.prompt) is not None


def read_rows(path: str | Path) -> list[Row]:
    """The rows of a file of JSON lines, or of one JSON array of objects. Blank lines are none.

    Raises:
        StorageError: the file cannot be read.
        ValueError: there is no row, a row is no preference pair, or the rows have more than one
            format; the message names the line.
    """
    path, rows = Path(path), []
    for number, content in _objects(path):
        try:
            rows.append(row_of(content, number))
        except ValueError as error:
            raise ValueError(f"{path}, line {number}, is not a pair: {error}") from None
        first, last = rows[0], rows[-1]
        if (last.form, last.column) != (first.form, first.column):
            forms = [_format_in_words(row) for row in (first, last)]
            raise ValueError(
                f"{path} mixes formats: line {first.number} is {forms[0]}, line {number} is "
                f"{forms[1]}; accepted is one format a file"
            )
    if not rows:
        raise ValueError(f"{path} holds no pairs")
    return rows


def row_of(content: Any, number: int = 1) -> Row:
    """The preference pair that a JSON object holds, however unwise a pair it is.

    Raises:
        ValueError: it is none; the message says what was found and what is accepted.
    """
    if not isinstance(content, dict):
        raise ValueError(f"it holds {content!r:.40}; accepted is a JSON object")
    _refuse_others(content)
    whole = tuple(_part(content[side], side) for side in SIDES)
    if type(whole[0]) is not type(whole[1]):
        raise ValueError("one of chosen and rejected is a text, the other one messages")
    kind = "text" if isinstance(whole[0], str) else "conversation"
    column, prompt = _prompt(content)
    # a text beside conversations repeats what they begin with; TRL passes over it too
    given = column and (kind == "conversation" or isinstance(prompt, str))
    if given and isinstance(prompt, str) and kind == "conversation" and column == "prompt":
        given = _role(whole[0]) == "assistant"
        prompt = ({"role": "user", "content": prompt},)
    elif given and isinstance(prompt, str) and kind == "conversation":
        prompt = ({"role": "user", "content": prompt},)
    if column and not given and kind == "text":
        raise ValueError(f"{column} has messages, chosen is a text; accepted are two of a kind")
    if given:
        form, parts = kind, (prompt, *whole)
    else:
        form, column = f"implicit {kind}", ""
        parts = split_texts(*whole) if kind == "text" else _split_messages(*whole)
    return Row(number, form, column, *parts, whole, **_numbers(content))


def as_text(part: Part) -> str:
    """A prompt or an answer as one text; the only message of an assistant is its content."""
    if isinstance(part, str):
        return part
    if len(part) == 1 and part[0]["role"] == "assistant":
        return part[0]["content"]
    return "\n\n".join(f"{message['role']}: {message['content']}" for message in part)


def split_texts(chosen: str, rejected: str) -> tuple[str, str, str]:
    """Prompt, chosen and rejected of two texts that begin with the prompt.

    The prompt ends at the book's `=`, or where the last turn of an assistant begins that both have
    in common (`\\n\\nAssistant:` and other templates'); else with the last whole word in common
    after which both go on: of `The sky` and `The sky is blue` no prompt `The sk` is made
    (trl #6498).
    """
    alike = common_length(chosen, rejected)
    if (found := BOOK.match(chosen[:alike])) is not None:
        end = found.end()
    elif turns := [t for t in TURNS.finditer(chosen[:alike]) if ANSWERS.search(t.group())]:
        end = turns[-1].end()
    else:
        end = alike
        while end and not (_blank(chosen, end) and _blank(rejected, end)):
            end -= 1
        while end and chosen[end - 1].isspace():
            end -= 1
    return chosen[:end], chosen[end:], rejected[end:]


def cuts_a_word(row: Row) -> bool:
    """True if TRL's rule for an implicit prompt, the longest common beginning of both texts, ends
    inside a word (trl #6498). In scripts without spaces there is no such place.
    """
    if row.form != "implicit text" or row.book:
        return False
    chosen, rejected = row.whole
    end = common_length(chosen, rejected)
    if end == 0 or not _of_a_word(chosen[end - 1]):
        return False
    return any(_of_a_word(text[end]) for text in (chosen, rejected) if len(text) > end)


def asks_two_questions(row: Row) -> bool:
    """True if an implicit prompt is not the same one in chosen and in rejected: they part while
    somebody else than the assistant speaks.
    """
    if row.form == "implicit conversation":
        here = len(row.prompt)
        speakers = [side[here]["role"] for side in row.whole if len(side) > here]
        return any(speaker != "assistant" for speaker in speakers)
    if row.form == "implicit text":
        chosen, rejected = row.whole
        before = chosen[: common_length(chosen, rejected)]
        turns = [turn.group() for turn in TURNS.finditer(before)]
        if turns:
            return ANSWERS.search(turns[-1]) is None
        return not row.prompt and all(TURNS.search(text) or BOOK.match(text) for text in row.whole)
    return False


def common_length(one: Any, other: Any) -> int:
    """How many items two sequences have in common at their beginning."""
    shorter = min(len(one), len(other))
    if one[:shorter] == other[:shorter]:
        return shorter
    low, high = 0, shorter  # the first `low` are equal, the first `high` are not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if one[:middle] == other[:middle] else (low, middle)
    return low


def _objects(path: Path) -> Iterator[tuple[int, Any]]:
    """What the lines of a file hold, or the items of its JSON array, numbered from 1.

    Raises:
        StorageError: the file cannot be read.
        ValueError: a line is not JSON; the message names it.
    """
    if not path.exists():
        raise ValueError(f"no file {path}")
    text = read_text(path, limit=MAX_FILE)
    if text.lstrip().startswith("["):
        try:
            yield from enumerate(parse_json(text), start=1)
        except ValueError as error:
            raise ValueError(f"{path} is not a JSON array: {error}") from None
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                content = parse_json(line)
            except ValueError as error:
                raise ValueError(f"{path}, line {number}, is not JSON: {error}") from None
            yield number, content


def _refuse_others(content: dict[str, Any]) -> None:
    """Raises ValueError for an object that holds something else than a pair of texts."""
    if "completion" in content and "label" in content:
        raise ValueError(
            "it is a single judged answer (KTO's format); accepted are pairs of answers"
        )
    for name in ("image", "images", "video", "videos"):
        if content.get(name):
            raise ValueError(f"it has {name}; accepted are pairs of texts")
    for name in SIDES:
        if name not in content:
            columns = ", ".join(map(str, content)) or "none"
            raise ValueError(f"it has no {name}; its columns are {columns:.120}")


def _format_in_words(row: Row) -> str:
    return f"{row.form} with {row.column}" if row.column else row.form


def _prompt(content: dict[str, Any]) -> tuple[str, Part]:
    """The column that holds the prompt, and the prompt; "" and "" if there is none."""
    column = next((name for name in PROMPT_COLUMNS if content.get(name) is not None), "")
    if not column:
        return "", ""
    prompt, system = _part(content[column], column), content.get("system")
    if column == "instruction" and isinstance(content.get("input"), str) and content["input"]:
        prompt = f"{prompt}\n{content['input']}" if isinstance(prompt, str) else prompt
    if column != "prompt" and isinstance(system, str) and system:
        if isinstance(prompt, str):
            prompt = f"{system}\n\n{prompt}"
        else:
            prompt = ({"role": "system", "content": system}, *prompt)
    return column, prompt


def _part(value: Any, name: str) -> Part:
    """A text, or messages.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, dict):  # LLaMA-Factory's answers are single messages
        value = [value]
    if not isinstance(value, list):
        raise ValueError(f"{name} is {value!r:.60}; accepted is a text or a list of messages")
    return tuple(_message(message, name) for message in value)


def _message(message: Any, name: str) -> Message:
    """One message as role and content; tool calls are part of what is said."""
    if not isinstance(message, dict):
        raise ValueError(f"{name} has the message {message!r:.60}; accepted is a JSON object")
    role = message.get("role", message.get("from"))
    content = message.get("content", message.get("value"))
    if content is None and message.get("tool_calls"):
        content = str(message["tool_calls"])
    if isinstance(content, list):
        content = "".join(
            part["text"] if isinstance(part, dict) and isinstance(part.get("text"), str) else ""
            for part in content
        )
    if not isinstance(role, str) or not isinstance(content, str):
        raise ValueError(f"{name} has a message without a role and a content that are texts")
    return {"role": SPEAKERS.get(role, role), "content": content}


def _role(part: Part) -> str:
    return part[0]["role"] if part and not isinstance(part, str) else ""


def _split_messages(chosen: Part, rejected: Part) -> tuple[Part, Part, Part]:
    """Prompt, chosen and rejected of two conversations that begin alike; of two equal ones, the
    last message of an assistant is the answer.
    """
    end = common_length(chosen, rejected)
    if end == len(chosen) == len(rejected) and end and chosen[-1]["role"] == "assistant":
        end -= 1
    return chosen[:end], chosen[end:], rejected[end:]


def _numbers(content: dict[str, Any]) -> dict[str, Any]:
    """The columns that are numbers; what stands there and is none counts as absent."""
    found: dict[str, Any] = {"preference_prob": _number(content.get("preference_prob"))}
    logps = tuple(_number(content.get(name)) for name in LOGPS)
    found["ref_logps"] = None if None in logps else logps
    for names in SCORES:
        scores = tuple(_number(content.get(name)) for name in names)
        if None not in scores:
            found["scores"] = scores
    return found


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) >= LARGEST:
        return None
    return float(value)


def _blank(text: str, place: int) -> bool:
    return text[place : place + 1].isspace()


def _of_a_word(character: str) -> bool:
    """A letter or digit of a script that sets spaces between its words."""
    spaced = ord(character) < 0x0E00 and east_asian_width(character) not in "WF"
    return spaced and category(character)[0] in "LN"
