"""Drawing completions from a model, and scoring completions under it (chapter 4).

Shapes: N prompts, B rows of one batch, T positions, V vocabulary.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dpo_core.model import KVCache, Llama
from dpo_core.packing import completion_logps
from dpo_core.progress import progress_bar
from dpo_core.randomness import torch_generator
from dpo_core.tokenizer import CharTokenizer, Tokenizer

TOKENIZER = CharTokenizer()
MOST_LOGITS = 2**27  # of one batch that nobody gave a size: half a gigabyte in float32
DENSE = 0.7  # a batch of which no more still write is copied without the others


def next_token_probs(
    logits: Tensor, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Tensor:
    """The distribution that the next token is drawn from.

    Args:
        logits: (B, V).
        temperature: divides the logits; 0 is greedy decoding (all mass on the largest logit).
        top_k: keep the k most probable tokens (Fan et al. 2018).
        top_p: keep the smallest set of most probable tokens whose mass reaches p (Holtzman et al.
            2020).

    Returns:
        (B, V) probabilities.

    Raises:
        ValueError: temperature below 0, top_k below 1, or top_p outside (0, 1].
    """
    if not 0 <= temperature < float("inf"):
        raise ValueError(f"temperature is {temperature}; accepted are finite numbers from 0")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k is {top_k}; accepted are whole numbers from 1")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p is {top_p}; accepted is above 0, up to 1")
    if temperature == 0:
        return torch.zeros_like(logits).scatter(-1, logits.argmax(-1, keepdim=True), 1.0)
    # differences to the largest logit: a temperature close to 0 sends them to -inf, never to NaN
    probs = ((logits - logits.amax(-1, keepdim=True)) / max(temperature, 1e-30)).softmax(-1)
    if top_k is None and top_p is None:
        return probs
    ordered, order = probs.sort(-1, descending=True)
    keep = torch.ones_like(ordered, dtype=torch.bool)
    if top_k is not None:
        keep[:, top_k:] = False
    if top_p is not None:
        keep &= ordered.cumsum(-1) - ordered < top_p  # the mass before a token is still short of p
        keep[:, 0] = True  # also where p is so small that it rounds to 0
    kept = torch.zeros_like(probs).scatter(-1, order, ordered * keep)
    return kept / kept.sum(-1, keepdim=True)


def draw(probs: Tensor, uniform: Tensor) -> Tensor:
    """Inverse-CDF sampling: the first token whose cumulative probability exceeds u.

    Args:
        probs: (B, V), rows summing to 1.
        uniform: (B,) numbers in [0, 1).

    Returns:
        (B,) int64 token ids, never one of probability 0.
    """
    cumulative = probs.double().cumsum(-1)
    # in float64 u · total stays below the total, so the index stays inside the vocabulary
    return torch.searchsorted(
        cumulative, uniform[:, None] * cumulative[:, -1:], right=True
    ).squeeze(-1)


def _refuse_nan(values: Tensor) -> None:
    """Raises FloatingPointError if a model computed NaN: finite weights may be too large."""
    if values.isnan().any():
        raise FloatingPointError("the model computes NaN; its weights are too large")


@torch.no_grad()
def generate(
    model: Llama,
    prompts: Sequence[str],
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    max_new_tokens: int = 32,
    seed: int = 0,
    batch_size: int | None = None,
    tokenizer: Tokenizer = TOKENIZER,
    progress: bool = False,
) -> list[str]:
    """One completion for each prompt, its end (`E`) included where the model wrote one.

    The chance in row i depends on (seed, i, max_new_tokens) alone, not on `batch_size` or the
    device, so a longer list of prompts begins with the same completions. A prompt that occurs many
    times is read once a batch.

    Raises:
        ValueError: an unknown character, an empty prompt, a setting out of its range, or more
            positions than the model has.
        FloatingPointError: the model computes NaN.
    """
    for name, value in (("max_new_tokens", max_new_tokens), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}; accepted are whole numbers from 1")
    if not all(prompts):
        raise ValueError("an empty prompt; accepted is S<target>=, such as S54=")
    ids_of = {prompt: tokenizer.encode(prompt) for prompt in dict.fromkeys(prompts)}
    longest, limit = max(map(len, ids_of.values()), default=0), model.config.max_position_embeddings
    if longest + max_new_tokens > limit:
        raise ValueError(
            f"a prompt of {longest} tokens and {max_new_tokens} new ones; "
            f"the model has {limit} positions"
        )
    batch_size = batch_size or _rows(model, longest)
    generator = torch_generator(seed)
    uniform = torch.rand((len(prompts), max_new_tokens), generator=generator)  # (N, max_new_tokens)
    device = next(model.parameters()).device
    completions: list[str] = []
    for start in progress_bar(range(0, len(prompts), batch_size), "sampling", shown=progress):
        batch = prompts[start : start + batch_size]
        distinct = {prompt: row for row, prompt in enumerate(dict.fromkeys(batch))}
        ids, mask = tokenizer.pad([ids_of[prompt] for prompt in distinct], side="left")
        cache, mask = KVCache(), mask.to(device)
        logits = model(ids.to(device), mask, cache)[:, -1]  # (distinct, V)
        rows = torch.tensor([distinct[prompt] for prompt in batch], device=device)
        written = torch.full((len(batch), max_new_tokens), tokenizer.eos_id, device=device)
        left = torch.arange(len(batch), device=device)  # the rows that are still computed
        writes = torch.ones(len(batch), dtype=torch.bool, device=device)  # of these, who writes
        for position, u in enumerate(uniform[start : start + batch_size].to(device).T):
            probs = next_token_probs(logits, temperature, top_k, top_p)
            _refuse_nan(probs)
            if position == 0:  # what the reading left for each prompt, once for each of its rows
                probs, mask = probs[rows], mask[rows]
                cache.select(rows)
            token = draw(probs, u[left])  # (left,)
            written[left, position] = token
            writes = (token != tokenizer.eos_id) & writes
            count = int(writes.sum())
            if count == 0 or position + 1 == max_new_tokens:
                break
            if count <= DENSE * len(left):
                stay = writes.nonzero().squeeze(-1)
                left, token, mask, writes = left[stay], token[stay], mask[stay], writes[stay]
                cache.select(stay)
            mask = torch.cat((mask, mask.new_ones(len(left), 1)), dim=1)
            logits = model(token[:, None], mask, cache)[:, -1]
        completions += tokenizer.decode_all(written[:, : position + 1])
    return completions


def _rows(model: Llama, longest: int) -> int:
    """How many rows of so many tokens make a batch."""
    return max(1, min(1024, MOST_LOGITS // (model.config.vocab_size * max(1, longest))))


def score(
    model: Llama,
    prompts: Sequence[str],
    completions: Sequence[str],
    *,
    batch_size: int | None = None,
    tokenizer: Tokenizer = TOKENIZER,
    progress: bool = False,
) -> Tensor:
    """log p(completion | prompt) of each pair of texts, (N,) float32 on the CPU, in nats.

    Args:
        batch_size, tokenizer: as in `generate`.

    Raises:
        ValueError: an unknown character, an empty prompt, or lists of different lengths.
    """

    def logps(ids: Tensor, mask: Tensor) -> Tensor:
        return completion_logps(model, ids, mask).sum(-1)

    device = next(model.parameters()).device
    if batch_size is None:  # an answer has at least as many bytes as tokens, but for one of its end
        longest = max((len((p + c).encode()) for p, c in zip(prompts, completions)), default=0)
        batch_size = _rows(model, longest)
    how = {"batch_size": batch_size, "tokenizer": tokenizer, "progress": progress}
    return in_batches(logps, prompts, completions, device, **how)


@torch.no_grad()
def in_batches(
    value: Callable[[Tensor, Tensor], Tensor],
    prompts: Sequence[str],
    completions: Sequence[str],
    device: torch.device,
    *,
    batch_size: int,
    tokenizer: Tokenizer = TOKENIZER,
    progress: bool = False,
) -> Tensor:
    """`value(input_ids, completion_mask)`, a number for each row, of all pairs of texts: (N,) on
    the CPU.

    Raises:
        ValueError: an unknown character, an empty prompt, a text too long for the model, lists of
            different lengths, or a batch size below 1.
    """
    if len(prompts) != len(completions):
        raise ValueError(
            f"{len(prompts)} prompts and {len(completions)} completions; they must pair up"
        )
    if not all(prompts):
        raise ValueError("an empty prompt; accepted is S<target>=, such as S54=")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; accepted are whole numbers from 1")
    values = [torch.empty(0)]
    for start in progress_bar(range(0, len(prompts), batch_size), "scoring", shown=progress):
        rows = slice(start, start + batch_size)
        ids, mask = tokenizer.collate(prompts[rows], completions[rows])
        values.append(value(ids.to(device), mask.to(device)).cpu())
        _refuse_nan(values[-1])
    return torch.cat(values)
