"""Texts to ids and back: the tokenizer of the book (chapter 1), and those of real models (14).

In the book's one character is one token. The vocabulary is fixed, so an id means the same thing in
every checkpoint: `P` pads, `S` starts a text, `E` ends it, `U` is reserved for a character that the
vocabulary lacks; `encode` names such a character and stops.
"""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from dpo_core.storage import parse_json

VOCABULARY = "PSEU0123456789+-*/.:=_"
TOKENIZER_JSON, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
CHAT_TEMPLATE = "chat_template.jinja"
# what a trained model takes over from the one it began as
TOKENIZER_FILES = (
    *(TOKENIZER_JSON, TOKENIZER_CONFIG, CHAT_TEMPLATE),
    *("special_tokens_map.json", "added_tokens.json", "generation_config.json"),
)


class CharTokenizer:
    """A bijection between the characters of `VOCABULARY` and the ids 0 … 21.

    >>> CharTokenizer().encode("S54=27+27E")
    [1, 9, 8, 20, 6, 11, 14, 6, 11, 2]
    """

    def __init__(self) -> None:
        self.vocabulary = VOCABULARY
        self.vocab_size = len(VOCABULARY)
        self._id_of = {character: index for index, character in enumerate(VOCABULARY)}
        self.pad_id, self.bos_id, self.eos_id, self.unk_id = (self._id_of[c] for c in "PSEU")
        self.end = "E"
        self._id_of_byte = np.full(256, -1)
        self._id_of_byte[np.frombuffer(VOCABULARY.encode(), np.uint8)] = range(self.vocab_size)

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, one per character.

        Raises:
            ValueError: a character is not in the vocabulary; the message names it.
        """
        try:
            return [self._id_of[character] for character in text]
        except KeyError as error:
            raise ValueError(
                f"unknown character {error.args[0]!r} in {text!r:.60}; accepted are {VOCABULARY}"
            ) from None

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids` (a list or a 1-D tensor), one character per id; nothing is skipped.

        Raises:
            ValueError: an id is outside 0 … vocab_size - 1.
        """
        ids = [int(index) for index in ids]
        for index in ids:
            if not 0 <= index < self.vocab_size:
                raise ValueError(f"unknown id {index}; accepted are 0 to {self.vocab_size - 1}")
        return "".join(self.vocabulary[index] for index in ids)

    def pad(self, rows: Sequence[Sequence[int]], side: str = "right") -> tuple[Tensor, Tensor]:
        """Stack rows of different lengths into one rectangle.

        Returns:
            input_ids: (B, T) int64, `T` the longest row, the rest filled with `P`.
            attention_mask: (B, T) bool, True on the tokens that were there before.

        Raises:
            ValueError: no rows, or `side` is neither "left" nor "right".
        """
        return pad_rows(rows, self.pad_id, side)

    def collate(self, prompts: Sequence[str], completions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Prompt and completion pairs as right-padded rows with a loss mask.

        Returns:
            input_ids: (B, T) int64.
            completion_mask: (B, T) bool, True exactly on the completion's tokens (its `E`
                included).

        Raises:
            ValueError: an unknown character, or lists of different lengths.
        """
        texts = [
            prompt + completion for prompt, completion in zip(prompts, completions, strict=True)
        ]
        if not texts:
            raise ValueError("no rows to pad; at least one is needed")
        ids = self._id_of_byte[np.frombuffer("".join(texts).encode("latin-1", "replace"), np.uint8)]
        if (ids < 0).any():
            for text in texts:
                self.encode(text)  # names the character
        lengths = torch.tensor([len(text) for text in texts])[:, None]  # (B, 1)
        positions = torch.arange(int(lengths.max()))  # (T,)
        input_ids = torch.full((len(texts), len(positions)), self.pad_id)
        input_ids[positions < lengths] = torch.from_numpy(ids)
        prompt_lengths = torch.tensor([len(prompt) for prompt in prompts])[:, None]
        return input_ids, (positions >= prompt_lengths) & (positions < lengths)

    def decode_all(self, ids: Tensor) -> list[str]:
        """The texts of the rows of (B, T) ids, each up to its first `E`, which is included."""
        characters = np.frombuffer(self.vocabulary.encode(), np.uint8)
        rows = characters[ids.cpu().numpy()].tobytes().decode()
        width, texts = ids.shape[1], []
        for start in range(0, len(rows), width):
            head, end, _ = rows[start : start + width].partition("E")
            texts.append(head + end)
        return texts

    def prompt(self, asked: str | list[dict[str, str]]) -> str:
        """The prompt of a target, or of one message that holds it: `S54=` of `54`.

        Raises:
            ValueError: more messages than one, or not of a user.
        """
        if isinstance(asked, list):
            if [message.get("role") for message in asked] != ["user"]:
                raise ValueError(f"{len(asked)} messages; accepted is one, of a user")
            asked = asked[0]["content"]
        return asked if asked.startswith("S") or asked.endswith("=") else f"S{asked}="

    def answer(self, text: str) -> str:
        """An answer with its end."""
        return text if text.endswith("E") else text + "E"


# ---------------------------------------------------------------- real models


class Tokenizer(Protocol):
    """What a tokenizer is to this library: the methods that the book's and a real model's share.

    Texts are whole: a prompt ends where the answer begins, and an answer carries its end, `E` or
    `<|im_end|>`, as text. The methods are documented in `CharTokenizer`.
    """

    vocab_size: int
    pad_id: int
    eos_id: int
    end: str

    def encode(self, text: str) -> list[int]: ...
    def decode(self, ids: Iterable[int]) -> str: ...
    def pad(self, rows: Sequence[Sequence[int]], side: str = "right") -> tuple[Tensor, Tensor]: ...
    def collate(
        self, prompts: Sequence[str], completions: Sequence[str]
    ) -> tuple[Tensor, Tensor]: ...
    def decode_all(self, ids: Tensor) -> list[str]: ...
    def prompt(self, asked: str | list[dict[str, str]]) -> str: ...
    def answer(self, text: str) -> str: ...


class TextTokenizer:
    """The tokenizer of a real model: its `tokenizer.json`, read by Hugging Face's `tokenizers`.

    Special tokens are written out in texts (`<|im_start|>`), become their ids, and are kept when
    ids become a text. Nothing is added to a text but by `prompt`, which applies the model's chat
    template.

    Attributes:
        end: the text that ends an answer, the tokenizer's end-of-sequence token.
        begin: what the tokenizer puts before a text by itself, such as `<|begin_of_text|>`; "" if
            nothing.
        files: the content of the tokenizer's files by name, to be put beside a trained model.
    """

    def __init__(self, folder: str | Path) -> None:
        """Read the tokenizer of a model folder.

        Raises:
            ValueError: a file is missing or damaged, there is no end token, or a package that
                reads it is not installed; the message names it.
        """
        tokenizers = _needed("tokenizers", "the tokenizer of a real model")
        folder = Path(folder)
        self.files = {
            n: (folder / n).read_bytes() for n in TOKENIZER_FILES if (folder / n).exists()
        }
        if TOKENIZER_JSON not in self.files:
            raise ValueError(f"{folder} has no {TOKENIZER_JSON}; a real model is read with its own")
        try:
            self._tokenizer = tokenizers.Tokenizer.from_buffer(self.files[TOKENIZER_JSON])
        except Exception as error:  # the package raises bare Exceptions
            said = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(f"{folder / TOKENIZER_JSON} is no tokenizer: {said:.200}") from None
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        ids = self._tokenizer.get_vocab(with_added_tokens=True)
        self.vocab_size = max(ids.values()) + 1
        self._config = self._read_config(folder)
        self.end = self._special("eos_token") or ""
        if self.end not in ids:
            raise ValueError(
                f"{folder / TOKENIZER_CONFIG}: eos_token is {self.end!r:.40}; "
                f"accepted is a token of {TOKENIZER_JSON}"
            )
        self.eos_id = ids[self.end]
        self.bos_id = ids.get(self._special("bos_token") or "")
        # padding is masked: where a model has no token for it, any will do
        self.pad_id = ids.get(self._special("pad_token") or self.end, self.eos_id)
        with_added, plain = (
            self._tokenizer.encode("a", add_special_tokens=added).ids for added in (True, False)
        )
        before = len(with_added)
        while before and with_added[before - len(plain) : before] != plain:
            before -= 1  # what stands behind the text is no beginning
        self.begin = self.decode(with_added[: before - len(plain)]) if before else ""
        self._template = self._read_template(folder)

    def encode(self, text: str) -> list[int]:
        """The ids of `text`; a special token that is written out in it is its id."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`, special tokens included.

        Bytes that are no whole character become U+FFFD, so not every list of ids comes back from
        its text.
        """
        return self._tokenizer.decode([int(index) for index in ids], skip_special_tokens=False)

    def pad(self, rows: Sequence[Sequence[int]], side: str = "right") -> tuple[Tensor, Tensor]:
        """As `CharTokenizer.pad`."""
        return pad_rows(rows, self.pad_id, side)

    def collate(self, prompts: Sequence[str], completions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Prompt and completion pairs as right-padded rows with a loss mask.

        A row begins with the prompt's own ids, always: the model sees nothing else when it is
        asked. Where the tokenizer would join the prompt's end and the answer's beginning into one
        token, the answer is encoded apart.

        Returns:
            input_ids: (B, T) int64; completion_mask: (B, T) bool, as `CharTokenizer.collate`.

        Raises:
            ValueError: lists of different lengths, or no rows.
        """
        texts = [p + c for p, c in zip(prompts, completions, strict=True)]
        heads, wholes = (
            [row.ids for row in self._tokenizer.encode_batch(list(part), add_special_tokens=False)]
            for part in (prompts, texts)
        )
        rows = [
            whole if whole[: len(head)] == head else head + self.encode(completion)
            for head, whole, completion in zip(heads, wholes, completions)
        ]
        input_ids, real = self.pad(rows)
        lengths = torch.tensor([len(head) for head in heads])[:, None]
        return input_ids, real & (torch.arange(input_ids.shape[1]) >= lengths)

    def decode_all(self, ids: Tensor) -> list[str]:
        """The texts of the rows of (B, T) ids, each up to its first end token, that included."""
        rows = ids.tolist()
        ends = (row.index(self.eos_id) + 1 if self.eos_id in row else len(row) for row in rows)
        return [self.decode(row[:end]) for row, end in zip(rows, ends)]

    def prompt(self, asked: str | list[dict[str, str]]) -> str:
        """The prompt of a question, or of messages with `role` and `content`, by the chat template,
        up to where the answer begins; without a template, a text as it is.

        Raises:
            ValueError: the template fails, or there is none for messages.
        """
        if self._template is None:
            if isinstance(asked, str):
                return asked if asked.startswith(self.begin) else self.begin + asked
            raise ValueError("this model has no chat template; accepted is a prompt as a text")
        messages = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
        special = {n: self._special(n) or "" for n in ("bos_token", "eos_token", "pad_token")}
        try:
            return self._template.render(messages=messages, add_generation_prompt=True, **special)
        except Exception as error:  # a template is a program: it may raise anything
            said = str(error) or type(error).__name__
            raise ValueError(f"the chat template fails on {asked!r:.80}: {said:.200}") from None

    def answer(self, text: str) -> str:
        """An answer with its end."""
        return text if text.endswith(self.end) else text + self.end

    def _read_config(self, folder: Path) -> dict[str, Any]:
        try:
            config = parse_json(self.files.get(TOKENIZER_CONFIG, b"{}"))
        except ValueError as error:
            raise ValueError(f"{folder / TOKENIZER_CONFIG} is not JSON: {error}") from None
        if not isinstance(config, dict):
            raise ValueError(f"{folder / TOKENIZER_CONFIG} holds no JSON object")
        return config

    def _special(self, name: str) -> str | None:
        """The text of a special token, which stands there bare or in an object."""
        found = self._config.get(name)
        found = found.get("content") if isinstance(found, dict) else found
        return found if isinstance(found, str) else None

    def _read_template(self, folder: Path) -> Any:
        """The chat template, ready to be rendered in a sandbox, as transformers does it; None if
        the model has none.
        """
        found = self._config.get("chat_template")
        if CHAT_TEMPLATE in self.files:  # of two, transformers takes the file
            found = self.files[CHAT_TEMPLATE].decode("utf-8", "replace")
        if isinstance(found, list):  # several, by name
            named = {one.get("name"): one.get("template") for one in found if isinstance(one, dict)}
            found = named.get("default")
        if found is None:
            return None
        jinja2 = _needed("jinja2.sandbox", "the chat template of a model")

        def refuse(message: str) -> None:
            raise ValueError(message)

        sandbox = jinja2.ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        sandbox.globals["raise_exception"] = refuse
        sandbox.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
        sandbox.filters["tojson"] = lambda x, indent=None: json.dumps(
            x, ensure_ascii=False, indent=indent
        )
        try:
            return sandbox.from_string(str(found))
        except Exception as error:
            raise ValueError(f"{folder}: its chat template is none: {error}") from None


def _needed(package: str, for_what: str) -> ModuleType:
    """An optional package or a module of it; raises ValueError if it is not installed."""
    try:
        return import_module(package)
    except ImportError:
        name = package.partition(".")[0]
        raise ValueError(
            f"{for_what} needs the package {name}: pip install 'dpo-from-zero[real]'"
        ) from None


def pad_rows(
    rows: Sequence[Sequence[int]], pad_id: int, side: str = "right"
) -> tuple[Tensor, Tensor]:
    """`CharTokenizer.pad` with any id for padding."""
    if side not in ("left", "right"):
        raise ValueError(f"side is {side!r}; accepted are 'left' and 'right'")
    if not rows:
        raise ValueError("no rows to pad; at least one is needed")
    lengths = torch.tensor([len(row) for row in rows])[:, None]  # (B, 1)
    width = int(lengths.max())
    positions = torch.arange(width)  # (T,)
    attention_mask = positions < lengths if side == "right" else positions >= width - lengths
    input_ids = torch.full((len(rows), width), pad_id)
    input_ids[attention_mask] = torch.tensor(
        [index for row in rows for index in row], dtype=torch.long
    )
    return input_ids, attention_mask
