"""Preference pairs: made once, written once as JSON lines, and reused (chapters 5, 9 and 10).

A line has TRL's columns `prompt`, `chosen`, `rejected`, and ours: `preference_prob` and the two
reference log-probabilities, so that training needs no reference model at hand.
"""

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpo_core.model import Llama
from dpo_core.rows import BOOK, LARGEST, LOGPS, MAX_FILE, split_texts
from dpo_core.sampling import TOKENIZER, score
from dpo_core.storage import parse_json, read_text, workshop
from dpo_core.task import make_prompt, read_prompt, stream
from dpo_core.tokenizer import CharTokenizer, Tokenizer


@dataclass(frozen=True)
class Pairs:
    """N preference pairs, column by column; `preference_prob` is P(chosen is preferred).

    The texts are read by `tokenizer`, the book's unless `read_by` named another.
    """

    tokenizer = TOKENIZER  # no column, so no field

    prompt: list[str]
    chosen: list[str]
    rejected: list[str]
    preference_prob: list[float]
    ref_chosen_logps: list[float]
    ref_rejected_logps: list[float]

    def __len__(self) -> int:
        return len(self.prompt)

    @cached_property
    def soft(self) -> bool:
        """True if some label is a probability below 1."""
        return any(probability != 1 for probability in self.preference_prob)

    def take(self, rows: Sequence[int] | np.ndarray) -> "Pairs":
        """The pairs of the given rows, in that order."""
        columns = ([getattr(self, field.name)[row] for row in rows] for field in fields(Pairs))
        return Pairs(*columns).read_by(self.tokenizer)

    def read_by(self, tokenizer: Tokenizer) -> "Pairs":
        """The same pairs, for a model with this tokenizer."""
        if tokenizer is self.tokenizer:
            return self
        other = Pairs(*(getattr(self, field.name) for field in fields(Pairs)))
        other.__dict__["tokenizer"] = tokenizer  # as `cached_property` does in a frozen class
        return other

    def batch(self, rows: np.ndarray) -> dict[str, Tensor]:
        """The pairs of the given rows as tensors for `steps.dpo_step`; hard labels have no
        `preference_prob`.
        """
        ids, mask, lengths = (part[:, rows] for part in self.tokens)
        width = int(lengths.max())  # one for both
        ids = ids.long()
        names = ["ref_chosen_logps", "ref_rejected_logps"] + ["preference_prob"] * self.soft
        numbers = {name: torch.tensor([getattr(self, name)[r] for r in rows]) for name in names}
        return {
            "chosen_ids": ids[0, :, :width],
            "rejected_ids": ids[1, :, :width],
            "chosen_mask": mask[0, :, :width],
            "rejected_mask": mask[1, :, :width],
            **numbers,
        }

    @cached_property
    def tokens(self) -> tuple[Tensor, Tensor, Tensor]:
        """Ids, int32, and completion mask of the chosen answers and of the rejected, (2, N, T), and
        their lengths with the prompt, (2, N).
        """
        ids, mask = self.tokenizer.collate(self.prompt * 2, self.chosen + self.rejected)
        # a row ends where its answer ends
        places = torch.arange(1, ids.shape[1] + 1)
        lengths = torch.where(mask, places, 0).amax(-1)
        halves = (2, len(self))
        return ids.int().unflatten(0, halves), mask.unflatten(0, halves), lengths.view(halves)

    def batches(self, batch_size: int, seed: int) -> Callable[[int], dict[str, Tensor]]:
        """The batch of a step: every epoch in a new order, its last incomplete batch left out.

        Raises:
            ValueError: fewer pairs than a batch needs.
        """
        per_epoch = len(self) // batch_size
        if per_epoch == 0:
            raise ValueError(
                f"{len(self)} pairs do not fill a batch of {batch_size}; "
                f"accepted is at most {len(self)}"
            )

        @lru_cache(maxsize=1)
        def order(epoch: int) -> np.ndarray:
            return stream("order", seed, epoch).permutation(len(self))

        def batch_at(step: int) -> dict[str, Tensor]:
            epoch, position = divmod(step, per_epoch)
            return self.batch(order(epoch)[position * batch_size : (position + 1) * batch_size])

        return batch_at

    def text(self) -> bytes:
        """JSON lines, one pair each."""
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        rows = (dict(zip(columns, values)) for values in zip(*columns.values()))
        return "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows).encode()

    def write(self, path: str | Path) -> None:
        """Write a new file of JSON lines, complete or not at all.

        Raises:
            StorageError: something stands in its place (that is no fault if it is the same file).
            ValueError: a log-probability is NaN or infinite.
        """
        content = self.text()
        with workshop(path, wait=60) as place:
            if place.place.is_file() and place.place.read_bytes() == content:
                return
            place.publish(content, place.place, replace=False)


def content_hash(**settings: Any) -> str:
    """Eight hexadecimal digits that name a set of pairs: a hash of everything that made it."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]


def with_reference(
    reference: Llama,
    prompts: list[str],
    chosen: list[str],
    rejected: list[str],
    preference_prob: list[float],
    progress: bool = False,
    tokenizer: Tokenizer = TOKENIZER,
) -> Pairs:
    """Pairs with their log-probabilities under the reference."""
    texts = (prompts * 2, chosen + rejected)
    logps = score(reference, *texts, tokenizer=tokenizer, progress=progress).tolist()
    columns = (preference_prob, logps[: len(prompts)], logps[len(prompts) :])
    return Pairs(prompts, chosen, rejected, *columns).read_by(tokenizer)


def hash_of_bytes(content: bytes) -> str:
    """Eight hexadecimal digits that name the content of a file."""
    return hashlib.sha256(content).hexdigest()[:8]


def check_same_start(
    policy: Llama, data: Pairs, tolerance: float = 1e-4, sample: int | None = 1024
) -> None:
    """A fresh DPO run starts at its reference: both must give the first pairs the same
    log-probabilities.

    Raises:
        ValueError: they do not; the message names the first pair that differs.
    """
    n = len(data) if sample is None else min(len(data), sample)
    texts = (data.prompt[:n] * 2, data.chosen[:n] + data.rejected[:n])
    logps = score(policy, *texts, tokenizer=data.tokenizer).tolist()
    for row in range(n):
        for kind, text, ours, theirs in (
            ("chosen", data.chosen[row], logps[row], data.ref_chosen_logps[row]),
            ("rejected", data.rejected[row], logps[n + row], data.ref_rejected_logps[row]),
        ):
            # of a long answer the last digits depend on what else is in its batch
            if not abs(ours - theirs) <= tolerance * max(1, abs(theirs) / 100):
                raise ValueError(
                    f"pair {row}, {kind} {data.prompt[row]}{text}: log-probability {ours:.4f} "
                    f"under the policy, {theirs:.4f} under the reference; a fresh run needs them "
                    f"equal to {tolerance:g} (--allow-other-reference for experiments)"
                )


# ---------------------------------------------------------------- files: ours, TRL's, somebody's

TEXTS = ("prompt", "chosen", "rejected")
CUT = 32  # an answer without E has at least as many tokens: it was cut while it was drawn


def read_pairs(
    path: Path, reference: Llama | None = None, tokenizer: Tokenizer = TOKENIZER
) -> Pairs:
    """Read pairs from JSON lines: what `Pairs.write` wrote, or TRL's columns, of whatever origin.

    A line has `prompt`, `chosen` and `rejected`, as texts or as conversations of one question and
    one answer; or `chosen` and `rejected` alone that begin with the prompt, as TRL's implicit
    prompts do. `preference_prob` is 1 where a line has none. Reference log-probabilities are taken
    from the file, where every line has both and each is the reference's; where no line has any,
    they are computed. Other columns are passed over.

    Args:
        reference: the model behind the log-probabilities; without it the file must have them.
        tokenizer: the model's. With one that is not the book's, prompts and answers are any texts;
            conversations may have several turns, and go through the chat template.

    Raises:
        StorageError: the file cannot be read.
        ValueError: a line is not a pair, or does not fit the model or the other lines; there are no
            pairs, or all of them are the same one. The message names the line.
    """
    positions = reference.config.max_position_embeddings if reference is not None else None
    columns: dict[str, list] = {name: [] for name in (*TEXTS, "preference_prob", *LOGPS)}
    forms: list[str] = []
    for number, line in enumerate(_lines(path), start=1):
        try:
            found = pair_of_line(line, positions, tokenizer)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}, is not a pair: {error}") from None
        forms.append(found.pop("form"))
        if forms[-1] != forms[0]:
            raise ValueError(
                f"{path} mixes formats: line 1 is {forms[0]}, line {number} is {forms[-1]}; "
                "accepted is one format a file"
            )
        for name, value in found.items():
            columns[name].append(value)
    texts = [columns[name] for name in TEXTS]
    if not texts[0]:
        raise ValueError(f"{path} holds no pairs")
    if len(texts[0]) > 1 and len(set(zip(*texts))) == 1:
        raise ValueError(f"{path}: all {len(texts[0])} pairs are the same one")
    counts = {len(columns[name]) for name in LOGPS}
    if counts not in ({0}, {len(texts[0])}):
        raise ValueError(f"{path}: some lines have {' and '.join(LOGPS)}, some have not")
    if counts != {0}:
        data = Pairs(**columns).read_by(tokenizer)
        if reference is not None:
            try:
                check_same_start(reference, data, sample=None)
            except ValueError as error:
                raise ValueError(
                    f"{path} was scored by another model than the reference: {error}"
                ) from None
        return data
    if reference is None:
        raise ValueError(f"{path} has no {' and '.join(LOGPS)}")
    probs = columns["preference_prob"]
    return with_reference(reference, *texts, probs, progress=True, tokenizer=tokenizer)


def _lines(path: Path) -> list[str]:
    """The lines of a file; only a newline ends one, and a blank last line is none.

    Raises:
        StorageError: the file cannot be read.
        ValueError: it is one JSON array.
    """
    if not path.exists():
        raise ValueError(f"no file of pairs {path}")
    text = read_text(path, limit=MAX_FILE)
    if text.lstrip().startswith("["):
        raise ValueError(f"{path} is a JSON array; accepted are JSON lines, an object a line")
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    while lines and not lines[-1].strip():
        lines.pop()
    return lines


def pair_of_line(
    line: str, positions: int | None = None, tokenizer: Tokenizer = TOKENIZER
) -> dict[str, str | float]:
    """The columns of one line, checked, and its `form`, by the words of `rows.Row`.

    Args:
        positions: how many tokens a model can read.
        tokenizer: the model's.

    Raises:
        ValueError: it is no pair that such a model can learn from.
    """
    row = parse_json(line)
    if not isinstance(row, dict):
        raise ValueError(f"it holds {row!r:.40}; accepted is a JSON object with {', '.join(TEXTS)}")
    found: dict[str, str | float] = dict(zip(TEXTS, _texts(row, tokenizer)))
    for name in ("chosen", "rejected"):
        _check_answer(name, found["prompt"], found[name], positions, tokenizer)
    found["preference_prob"] = (
        _number(row, "preference_prob", 0.0, 1.0) if "preference_prob" in row else 1.0
    )
    for name in LOGPS:
        if name in row:
            found[name] = _number(row, name, -math.inf, 0.0)
    kind = "conversation" if isinstance(row["chosen"], list) else "text"
    found["form"] = kind if "prompt" in row else f"implicit {kind}"
    return found


def _texts(row: dict[str, Any], tokenizer: Tokenizer) -> tuple[str, str, str]:
    """Prompt, chosen and rejected of a line, in the form that the tokenizer reads: the book's, or
    a text with its beginning and two answers with their ends.

    Raises:
        ValueError: a column is missing or of another kind; the message says what to do.
    """
    if "completion" in row and "label" in row:
        raise ValueError(
            "it is a single judged answer (KTO's format); accepted are pairs of answers"
        )
    for name in ("tools", "image", "images", "video", "videos"):
        if row.get(name):
            raise ValueError(f"it has {name}, which no model of ours reads; remove the column")
    for name in ("chosen", "rejected"):
        if name not in row:
            raise ValueError(f"it has no {name}")
    if isinstance(row["chosen"], list):
        return _conversations(row, tokenizer)
    texts = [row.get(name) for name in TEXTS]
    book = isinstance(tokenizer, CharTokenizer)
    if "prompt" not in row and all(isinstance(text, str) for text in texts[1:]):
        texts = split_texts(*texts[1:])
        if not texts[0] or (book and not BOOK.fullmatch(texts[0])):
            begin = "one S<target>=" if book else "the same words"
            raise ValueError(f"it has no prompt, and its answers do not begin with {begin}")
    for name, text in zip(TEXTS, texts):
        if not isinstance(text, str) or not text:
            raise ValueError(f"{name} is {text!r:.60}; accepted is a text")
    if book:
        read_prompt(texts[0])
        return tuple(texts)
    prompt = texts[0] if texts[0].startswith(tokenizer.begin) else tokenizer.begin + texts[0]
    return prompt, *map(tokenizer.answer, texts[1:])


def _conversations(row: dict[str, Any], tokenizer: Tokenizer) -> tuple[str, str, str]:
    """TRL's conversational format, in the form that the tokenizer reads; for the book's, one
    question and one answer.

    Raises:
        ValueError: it has more turns, another speaker, or something else than messages.
    """
    book = isinstance(tokenizer, CharTokenizer)
    asked = row.get("prompt", [])
    sides = []
    for name in ("chosen", "rejected"):
        both = (
            [*asked, *row[name]] if isinstance(asked, list) and isinstance(row[name], list) else []
        )
        messages = [m if isinstance(m, dict) else {} for m in both]
        if any(m.get("tool_calls") for m in messages):
            raise ValueError(f"{name} calls tools; accepted of messages are texts")
        roles = [m.get("role") for m in messages]
        texts = all(isinstance(m.get("content"), str) for m in messages)
        if book and (roles != ["user", "assistant"] or not texts):
            raise ValueError(
                f"prompt and {name} are not one message of a user and one of an assistant; "
                "accepted of conversations are those of one turn"
            )
        if len(roles) < 2 or roles[-1] != "assistant" or not texts:
            raise ValueError(
                f"prompt and {name} are {len(roles)} messages; "
                "accepted are texts, the last of them an assistant's, after at least one other"
            )
        sides.append([{"role": m["role"], "content": m["content"]} for m in messages])
    if sides[0][:-1] != sides[1][:-1]:
        raise ValueError("chosen and rejected answer different prompts")
    first = sides[0][0]["content"]
    prompt = make_prompt(first) if book else tokenizer.prompt(sides[0][:-1])
    return prompt, *(tokenizer.answer(side[-1]["content"]) for side in sides)


def _check_answer(
    name: str, prompt: str, answer: str, positions: int | None, tokenizer: Tokenizer
) -> None:
    """Raises ValueError if an answer is none to its prompt, or does not fit into a model."""
    if answer.startswith(prompt):
        raise ValueError(f"{name} repeats the prompt {prompt:.60}; accepted is the answer alone")
    tokens = len(tokenizer.encode(prompt + answer))
    if positions is not None and tokens > positions:
        raise ValueError(
            f"prompt and {name} have {tokens} tokens; the model has {positions} positions"
        )
    head, end, rest = answer.partition(tokenizer.end)
    if rest:
        raise ValueError(f"{name} goes on after its first {tokenizer.end}: {answer!r:.60}")
    if not end and len(head) < CUT:
        raise ValueError(
            f"{name} {answer!r:.60} has no E at its end; nothing would teach the model to stop"
        )


def _number(row: dict[str, Any], name: str, low: float, high: float) -> float:
    """Raises ValueError unless the value is a finite number of the range."""
    value = row[name]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not low <= value <= high or not abs(value) < LARGEST:
        limits = f"{low:g} to {high:g}" if math.isfinite(low) else f"finite numbers up to {high:g}"
        raise ValueError(f"{name} is {value!r:.40}; accepted is {limits}")
    return float(value)
