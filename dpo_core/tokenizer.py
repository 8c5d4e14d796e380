"""Characters to ids and back: the tokenizer of the book (chapter 1).

One character is one token. The vocabulary is fixed, so an id means the same thing in every
checkpoint: `P` pads, `S` starts a text, `E` ends it, `U` is
reserved for a character that the vocabulary lacks; `encode` names such a character and stops.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch

VOCABULARY = "PSEU0123456789+-*/.:=_"


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

    def pad(
        self, rows: Sequence[Sequence[int]], side: str = "right"
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Stack rows of different lengths into one rectangle.

        Returns:
            input_ids: (B, T) int64, `T` the longest row, the rest filled with `P`.
            attention_mask: (B, T) bool, True on the tokens that were there before.

        Raises:
            ValueError: no rows, or `side` is neither "left" nor "right".
        """
        if side not in ("left", "right"):
            raise ValueError(f"side is {side!r}; accepted are 'left' and 'right'")
        if not rows:
            raise ValueError("no rows to pad; at least one is needed")
        lengths = torch.tensor([len(row) for row in rows])[:, None]  # (B, 1)
        width = int(lengths.max())
        positions = torch.arange(width)  # (T,)
        attention_mask = positions < lengths if side == "right" else positions >= width - lengths
        input_ids = torch.full((len(rows), width), self.pad_id)
        input_ids[attention_mask] = torch.tensor(
            [index for row in rows for index in row], dtype=torch.long
        )
        return input_ids, attention_mask

    def collate(
        self, prompts: Sequence[str], completions: Sequence[str]
    ) -> tuple[torch.Tensor, torch.Tensor]:
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

    def decode_all(self, ids: torch.Tensor) -> list[str]:
        """The texts of the rows of (B, T) ids, each up to its first `E`, which is included."""
        characters = np.frombuffer(self.vocabulary.encode(), np.uint8)
        rows = characters[ids.cpu().numpy()].tobytes().decode()
        width, texts = ids.shape[1], []
        for start in range(0, len(rows), width):
            head, end, _ = rows[start : start + width].partition("E")
            texts.append(head + end)
        return texts
