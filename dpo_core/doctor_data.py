"""The checks of a file of preference pairs (chapter 14)."""

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Protocol
from unicodedata import category

from dpo_core.doctor import Finding, Report
from dpo_core.evaluation import wilson
from dpo_core.rows import Row, as_text, asks_two_questions, common_length, cuts_a_word
from dpo_core.task import judge

END_TOKENS = (
    "</s>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|end|>",
    "<eos>",
    "<end_of_turn>",
)
CUT = 32  # tokens; an answer of this book without E that is as long was cut while it was drawn
LENGTH_SHARE = 0.65  # of pairs; below, being longer is a habit of good answers
LENGTH_PAIRS = 20  # a smaller file cannot show a bias


class Reader(Protocol):
    """What the checks of data need of a tokenizer (dpo_core.tokenizer has two)."""

    def encode(self, text: str) -> list[int]: ...


def data_report(
    rows: Sequence[Row],
    reader: Reader | None = None,
    *,
    end: str = "",
    limit: int | None = None,
    positions: int | None = None,
) -> Report:
    """Facts and findings of a file of pairs.

    Args:
        reader: the model's tokenizer; without one, lengths are in characters, and what only tokens
            show is not looked for. The rows of this book need none: a character is a token.
        end: the text of the model's end token; "" looks for those of common models.
        limit: tokens of prompt and answer that a trainer keeps, from the start on.
        positions: tokens that the model can read at once.
    """
    same = [row for row in rows if row.chosen == row.rejected]
    empty = [row for row in rows if _is_empty(row) and row.chosen != row.rejected]
    ended = [row for row in rows if row.book and "E" in _answers(row) and row not in empty]
    if len(rows) < 100 or len(ended) > 0.01 * len(rows):  # a model may draw E at once, now and then
        empty += ended
    apart = {row.number for row in (*same, *empty)}
    whole = [row for row in rows if row.number not in apart]  # rows that can have another fault
    same = [row for row in same if row.preference_prob != 0.5]
    if len(same) <= _room(_expected_equal(rows)):
        same = []
    ends = (end,) if end else END_TOKENS
    found = [
        _found("identical", same, "chosen and rejected are the same"),
        _found("empty", sorted(empty, key=lambda row: row.number), "an answer has no text"),
        *_check_prompts(whole),
        *_check_ends(whole, ends),
        _found("characters", filter(_is_odd, rows), "a character is none that people write"),
        _check_scores(whole),
        _found("label-range", filter(_is_no_label, rows), "preference_prob is not within 0 to 1"),
        *_check_repeats(whole),
        _check_length(whole),
    ]
    if reader is not None or all(row.book for row in rows):
        found += _check_tokens(whole, reader or _Characters(), limit, positions)
    else:
        found.append(_check_spaces(whole))
    return Report(_data_facts(rows, reader), tuple(one for one in found if one))


def _found(name: str, rows: Iterable[Row], what: str) -> Finding | None:
    """A finding with its rows, or None where there is none."""
    numbers = tuple(row.number for row in rows)
    return Finding(name, what, numbers) if numbers else None


class _Characters:
    """A tokenizer whose tokens are characters: that of the book, for texts of any kind."""

    def encode(self, text: str) -> list[int]:
        return [ord(character) for character in text]


def _answers(row: Row) -> tuple[str, str]:
    return row.texts[1:]


def _is_empty(row: Row) -> bool:
    return any(not text.strip() for text in _answers(row))


def _is_odd(row: Row) -> bool:
    """Half of a surrogate pair, U+FFFD, or a control character that is no white space."""
    return any(_odd(c) for text in row.texts for c in text if c < " " or c > "~")


def _odd(character: str) -> bool:
    kind = category(character)
    return character == "\ufffd" or kind == "Cs" or (kind == "Cc" and not character.isspace())


def _is_no_label(row: Row) -> bool:
    return row.preference_prob is not None and not 0 <= row.preference_prob <= 1


def _check_prompts(rows: Sequence[Row]) -> list[Finding | None]:
    """Prompts that differ, lack, stand in the answer again, or end where no prompt ends."""
    unequal = [row for row in rows if asks_two_questions(row)]
    apart = {row.number for row in unequal}
    rest = [row for row in rows if row.number not in apart]
    alone = [row for row in rest if not row.texts[0].strip()]
    repeated = [row for row in rest if _repeats_prompt(row)]
    told = {row.number for row in (*alone, *repeated)}
    speaks = [r for r in rest if not isinstance(r.chosen, str) and r.number not in told]
    roles = [r for r in speaks if any(p[0]["role"] != "assistant" for p in (r.chosen, r.rejected))]
    return [
        _found("unequal-prompts", unequal, "chosen and rejected answer different prompts"),
        _found("no-prompt", alone, "there is no prompt"),
        _found("prompt-repeated", repeated, "an answer begins with the prompt"),
        _found("roles", roles, "an answer begins with somebody else than the assistant"),
        _found(
            "prompt-split",
            (row for row in rest if row.number not in told and cuts_a_word(row)),
            "the longest common beginning of chosen and rejected ends inside a word",
        ),
    ]


def _repeats_prompt(row: Row) -> bool:
    """An answer that begins with the whole prompt, of at least three characters; in conversations,
    with the prompt's messages. A question taken up in a sentence of an assistant is none.
    """
    if row.form.startswith("implicit"):
        return False
    if isinstance(row.prompt, str):
        prompt = row.prompt.strip()
        return len(prompt) > 2 and any(a.lstrip().startswith(prompt) for a in _answers(row))
    length = len(row.prompt)
    return length > 0 and any(part[:length] == row.prompt for part in (row.chosen, row.rejected))


def _check_ends(rows: Sequence[Row], ends: Sequence[str]) -> list[Finding | None]:
    """End tokens that stand twice, or in some answers and not in others.

    Texts without any are left to the trainer, which adds them (TRL does). An answer of this book
    needs its `E`, unless it was cut while it was drawn. In conversations the template writes the
    end, so that one in a message is a second one.
    """
    double, missing, tokens = [], [], set()
    for row in rows:
        if row.book:
            heads = [answer.partition("E") for answer in _answers(row)]
            double += [row] * any(rest for _, _, rest in heads)
            missing += [row] * any(not mark and len(head) < CUT for head, mark, _ in heads)
    others = [row for row in rows if not row.book]
    for row in others:
        stripped = [answer.rstrip() for answer in _answers(row)]
        found = [next((end for end in ends if one.endswith(end)), "") for one in stripped]
        many = isinstance(row.chosen, tuple)
        if any(
            end and (many or one.removesuffix(end).rstrip().endswith(end))
            for one, end in zip(stripped, found)
        ):
            double.append(row)
        tokens |= set(found) - {""}
    if tokens:
        for row in others:
            bare = [not answer.rstrip().endswith(tuple(tokens)) for answer in _answers(row)]
            missing += [row] * (any(bare) and isinstance(row.chosen, str))
    named = ", ".join(sorted(tokens)) or "E"
    return [
        _found("eos-missing", missing, f"an answer does not end with {named}, where others do"),
        _found("eos-double", double, f"an answer has text after its end token, or {named} twice"),
    ]


def _check_scores(rows: Sequence[Row]) -> Finding | None:
    worse = [row for row in rows if row.scores and row.scores[0] < row.scores[1]]
    scored = sum(row.scores is not None for row in rows)
    return _found("scores", worse, f"rejected has the higher score; {scored} rows have scores")


def _check_repeats(rows: Sequence[Row]) -> list[Finding | None]:
    """Rows that occur twice, and pairs whose labels disagree.

    Where few answers are possible, the same row is drawn twice by chance. If the two answers of a
    prompt were drawn apart, rows of one prompt would agree in both as often as the product of how
    often they agree in each. Copies are a finding where there are far more (`_room`).

    With soft labels, rows of one pair contradict each other where their probabilities differ by
    more than 0.05. With hard labels, two rows of one pair disagree with probability at most 1/2
    where each label is a draw (see `label_noise`). They contradict each other where they disagree
    more often than that, or where nothing but copying makes pairs occur again.
    """
    together: dict[tuple, list[Row]] = defaultdict(list)
    for row in rows:
        prompt, chosen, rejected = row.texts
        together[prompt, *sorted((chosen, rejected))].append(row)
    groups = [group for group in together.values() if len(group) > 1]
    copies, opposite = [], []
    for group in groups:
        seen = Counter()
        for row in group:
            copies += [row] * (seen[row.texts] > 0)
            seen[row.texts] += 1
        if any(_disagree(group[0], row) for row in group[1:]):
            opposite += group
    by_chance = _expected_copies(rows)
    repeats = sum(math.comb(len(group), 2) for group in groups)
    copied = sum(n * (n - 1) // 2 for n in Counter(row.texts for row in rows).values())
    bound = _room(by_chance)
    hard = all(row.preference_prob in (None, 1.0) for row in rows)
    if hard and repeats <= 4 * bound:
        disagreeing, pairs = _disagreements(groups)
        opposite = opposite if pairs and wilson(disagreeing, pairs).low > 0.5 else []
    rows_of = sorted(opposite, key=lambda row: row.number)
    return [
        _found("duplicates", copies, "the row has occurred before")
        if copied > bound and copies
        else None,
        _found("contradictions", rows_of, "another row has the same two answers, turned round"),
    ]


def _disagree(one: Row, other: Row) -> bool:
    """True if two rows of one pair say different things of the same answer."""
    labels = [1.0 if row.preference_prob is None else row.preference_prob for row in (one, other)]
    if one.texts[1] != other.texts[1]:
        labels[1] = 1 - labels[1]
    return abs(labels[0] - labels[1]) > 0.05


def _expected_copies(rows: Sequence[Row]) -> float:
    """How many pairs of equal rows chance alone makes, if chosen and rejected are drawn apart.

    Equal rows themselves are left out of the estimate, lest copies explain themselves.
    """

    def twins(keys: Iterable[Any]) -> int:
        return sum(n * (n - 1) // 2 for n in Counter(keys).values())

    texts = [row.texts for row in rows]
    both, prompt = twins(texts), twins(text[0] for text in texts)
    if prompt == both:
        return 0.0
    chosen, rejected = (
        (twins((text[0], text[side]) for text in texts) - both) / (prompt - both) for side in (1, 2)
    )
    return chosen * rejected * prompt


def _expected_equal(rows: Sequence[Row]) -> float:
    """How many rows of this book have two equal answers by chance: as often as the chosen answer of
    one row is the rejected one of another row of its prompt. Rows that are turned copies of each
    other are left out of the estimate; in texts of other kinds, chance makes none.
    """
    texts = [row.texts for row in rows if row.book and row.chosen != row.rejected]
    prompts = Counter(prompt for prompt, _, _ in texts)
    chosen = Counter((prompt, text) for prompt, text, _ in texts)
    rejected = Counter((prompt, text) for prompt, _, text in texts)
    whole = Counter(texts)
    crossed = sum(n * rejected[key] for key, n in chosen.items())
    crossed -= sum(n * whole[prompt, no, yes] for (prompt, yes, no), n in whole.items())
    twos = sum(n * (n - 1) for n in prompts.values())
    return len(rows) * crossed / twos if twos else 0.0


def _room(by_chance: float) -> float:
    """How many are not too many where chance makes so many: three times as many, and five standard
    deviations; none where chance makes none.
    """
    return 3 * by_chance + 5 * math.sqrt(by_chance)


def _disagreements(groups: Sequence[Sequence[Row]]) -> tuple[int, int]:
    """How many of the disjoint twos of labels of one pair disagree, and how many twos there are."""
    twos = [two for group in groups for two in zip(group[::2], group[1::2])]
    return sum(a.texts[1] != b.texts[1] for a, b in twos), len(twos)


def label_noise(rows: Sequence[Row]) -> dict[str, float] | None:
    """The share of hard labels that are turned round, from pairs that occur more than once.

    Let every label be turned round with probability e, whatever the pair. Two labels of one pair
    disagree if exactly one of them is: with probability d = 2 e (1 - e). Solved for e below 1/2,

        e = (1 - sqrt(1 - 2 d)) / 2.

    d is the share of disjoint twos of rows of one pair that disagree, so that the trials are
    independent and Wilson's interval holds; e grows with d, and its interval is that of d, carried
    over. Labels that are drawn from a doubt (Bradley-Terry) disagree as well: then d is the mean of
    2 p (1 - p), and e the noise that would explain as much.

    Returns:
        `value`, `low`, `high`, and `pairs`, the number of twos; None with soft labels, or if no
        pair occurs twice.
    """
    if any(row.preference_prob not in (None, 1.0) for row in rows):
        return None
    together: dict[tuple, list[Row]] = defaultdict(list)
    for row in rows:
        prompt, chosen, rejected = row.texts
        if chosen != rejected:
            together[prompt, *sorted((chosen, rejected))].append(row)
    disagreeing, pairs = _disagreements([g for g in together.values() if len(g) > 1])
    if not pairs:
        return None
    share = wilson(disagreeing, pairs)

    def turned(d: float) -> float:
        return (1 - math.sqrt(max(0.0, 1 - 2 * d))) / 2

    return {
        "value": turned(share.value),
        "low": turned(share.low),
        "high": turned(share.high),
        "pairs": pairs,
    }


def _check_length(rows: Sequence[Row]) -> Finding | None:
    """Chosen answers that are the longer ones: of at least 20 pairs of unlike length, surely more
    than 65 %, and by more than a twentieth of their length.

    In this book the number of numbers is what judges prefer by design; there, answers are compared
    with others of as many numbers.
    """
    lengths = [tuple(map(len, _answers(row))) for row in rows if not row.book or _like(row)]
    unlike = [(chosen, rejected) for chosen, rejected in lengths if chosen != rejected]
    longer = sum(chosen > rejected for chosen, rejected in unlike)
    if len(unlike) < LENGTH_PAIRS:
        return None
    share = wilson(longer, len(unlike))
    chosen, rejected = (statistics.fmean(side) for side in zip(*unlike))
    if share.low <= LENGTH_SHARE or chosen <= 1.05 * rejected:
        return None
    return Finding(
        "length",
        f"chosen is the longer answer in {share.value:.0%} of the pairs of unlike length "
        f"({share.low:.0%} to {share.high:.0%}): a judge of length alone would be right as often",
    )


def _like(row: Row) -> bool:
    """True if both answers have as many numbers."""
    return len({judge(row.prompt, answer).numbers for answer in _answers(row)}) == 1


def texts_for(row: Row, reader: Reader) -> tuple[str, str, str]:
    """Prompt, chosen and rejected as a tokenizer reads them: conversations by its chat template.

    Raises:
        ValueError: the template fails.
    """
    if isinstance(row.prompt, str) or not hasattr(reader, "prompt"):
        return row.texts
    prompt = reader.prompt(list(row.prompt))
    return prompt, *(reader.answer(as_text(part)) for part in (row.chosen, row.rejected))


def _check_tokens(
    rows: Sequence[Row], reader: Reader, limit: int | None, positions: int | None
) -> list[Finding | None]:
    """Boundaries that tokens cross, characters that have no token, and rows that are too long or
    equal where they are cut.
    """
    crossed, unread, cut, long, why = [], [], [], [], ""
    for row in rows:
        try:
            prompt, *answers = texts_for(row, reader)
            head = reader.encode(prompt)
            tokens = [reader.encode(prompt + answer) for answer in answers]
        except ValueError as error:  # an unknown character, or a chat template that fails or lacks
            why = why or str(error)
            unread.append(row)
            continue
        whole = isinstance(row.prompt, str) or hasattr(reader, "prompt")
        if whole and any(one[: len(head)] != head for one in tokens):
            crossed.append(row)
        kept = min(limit or math.inf, positions or math.inf)
        if common_length(*tokens) >= kept:
            cut.append(row)
        elif positions and max(map(len, tokens)) > positions:
            long.append(row)
    return [
        _found("boundary", crossed, "a token holds the prompt's end and the answer's beginning"),
        _found("not-in-vocabulary", unread, f"the model cannot read the row: {why}"),
        _found("too-long", long, f"prompt and answer have more than {positions} tokens"),
        _found(
            "identical-after-truncation",
            cut,
            f"the answers do not differ in the {limit or positions} tokens that are kept",
        ),
    ]


def _check_spaces(rows: Sequence[Row]) -> Finding | None:
    """Prompts that end with a space before a word: nearly every tokenizer joins the two."""
    crossed = [
        row
        for row in rows
        if row.form == "text" and row.prompt.endswith((" ", "\t"))
        if any(answer[:1].isalpha() for answer in _answers(row))
    ]
    what = "the prompt ends with the space that belongs to the answer's first word"
    return _found("boundary", crossed, what)


def reference_report(rows: Sequence[Row], logps: Sequence[tuple[float, float]]) -> Report:
    """What a model says of pairs before it is trained on them.

    Args:
        logps: log p(chosen) and log p(rejected) of each row under the model, in nats.

    Returns:
        Facts: the share of pairs that it ranks right as it is, and what a run has to turn, the
        median distance in nats of the others. A finding where the file's own reference
        log-probabilities are another model's, by more than a hundredth of a nat and a thousandth.
    """
    margins = [chosen - rejected for chosen, rejected in logps]
    wrong = [-margin for margin in margins if margin <= 0]
    share = wilson(len(margins) - len(wrong), len(margins))
    facts = {
        "scored": len(margins),
        "already_right": {"value": share.value, "low": share.low, "high": share.high},
        "median_margin": statistics.median(margins),
        "median_to_turn": statistics.median(wrong) if wrong else 0.0,
    }
    other = [
        row
        for row, ours in zip(rows, logps)
        if row.ref_logps
        and any(abs(a - b) > 0.01 + 0.001 * abs(a) for a, b in zip(ours, row.ref_logps))
    ]
    what = "the file's reference log-probabilities are not this model's"
    found = _found("reference-mismatch", other, what)
    return Report(facts, (found,) if found else ())


def _data_facts(rows: Sequence[Row], reader: Reader | None) -> dict[str, Any]:
    """Counts, lengths, labels."""
    lengths: dict[str, list[int]] = {"prompt": [], "chosen": [], "rejected": []}
    for row in rows:
        try:
            texts = row.texts if reader is None else texts_for(row, reader)
            counts = [len(text if reader is None else reader.encode(text)) for text in texts]
        except ValueError:
            continue
        for name, count in zip(lengths, counts):
            lengths[name].append(count)
    unlike = [pair for pair in zip(lengths["chosen"], lengths["rejected"]) if pair[0] != pair[1]]
    facts: dict[str, Any] = {
        "rows": len(rows),
        "prompts": len({row.texts[0] for row in rows}),
        "format": rows[0].form + (f", prompt in {rows[0].column}" if rows[0].column else ""),
        "labels": "hard" if all(r.preference_prob in (None, 1.0) for r in rows) else "soft",
        "unit": "characters" if reader is None else "tokens",
        "lengths": {name: _spread(values) for name, values in lengths.items() if values},
    }
    if unlike:
        share = wilson(sum(chosen > rejected for chosen, rejected in unlike), len(unlike))
        facts["length_judge"] = {"value": share.value, "low": share.low, "high": share.high}
    if noise := label_noise(rows):
        facts["label_noise"] = noise
    if scored := [row.scores for row in rows if row.scores]:
        facts["score_ties"] = sum(chosen == rejected for chosen, rejected in scored)
    return facts


def _spread(values: Sequence[int]) -> dict[str, float]:
    """Median, 95 % quantile and maximum."""
    ordered = sorted(values)
    return {
        "median": statistics.median(ordered),
        "p95": ordered[min(len(ordered) - 1, math.ceil(0.95 * len(ordered)) - 1)],
        "max": ordered[-1],
    }
