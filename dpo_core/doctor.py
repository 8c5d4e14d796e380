"""What is wrong with a file of preference pairs, or with a run (chapter 14).

A finding is a fault: what, where, why it matters, which chapter explains it, what to do. The checks
are in doctor_data.py and doctor_run.py; here stands what they have in common, and the table of all
faults that they know. A finding interrupts somebody's work, so a check that cannot be sure stays
silent; what each one takes for sure stands in its docstring.
"""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Finding:
    """One fault.

    Attributes:
        name: of the kind of fault, a key of `KINDS`.
        what: the fault in words and numbers.
        where: the rows (numbers of lines) or the steps that have it; empty if it is in the whole.
    """

    name: str
    what: str
    where: tuple[int, ...] = ()

    @property
    def kind(self) -> "Kind":
        """Why it matters, where it is explained, what to do."""
        return KINDS[self.name]


@dataclass(frozen=True)
class Report:
    """What was found, and the facts beside it."""

    facts: dict[str, Any] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Kind:
    """What all findings of a name have in common; `chapter` of this book explains it."""

    chapter: int
    why: str
    advice: str


KINDS = {
    # of data
    "identical": Kind(
        8,
        "the two rewards are equal whatever the policy does: the loss stays at ln 2, the gradient "
        "is zero",
        "remove these rows, or take them to be ties",
    ),
    "identical-after-truncation": Kind(
        8,
        "what tells the two answers apart is cut off, so the policy sees a pair of equal answers",
        "raise the maximal length, or remove these rows",
    ),
    "empty": Kind(
        9,
        "against an empty answer the policy learns to write something, not to write better",
        "remove these rows, or put a real answer there",
    ),
    "unequal-prompts": Kind(
        7,
        "the partition function Z(x) cancels between two answers to one prompt only; here the loss "
        "compares what cannot be compared",
        "pair answers to the same prompt",
    ),
    "no-prompt": Kind(
        8,
        "the two answers have no beginning in common and no prompt of their own: what they answer "
        "is unknown, and a trainer takes the prompt to be empty",
        "add a column prompt",
    ),
    "roles": Kind(
        8,
        "the loss trains what the answer's messages say, and these are not the assistant's",
        "let each answer begin with a message of the assistant",
    ),
    "prompt-repeated": Kind(
        8,
        "the model reads the prompt twice, and the copy is trained on as part of the answer",
        "leave the prompt out of chosen and rejected, or leave out the column prompt",
    ),
    "prompt-split": Kind(
        8,
        "TRL takes the longest common beginning for the prompt; inside a word, the tokens at the "
        "boundary are others than the model sees when it answers (trl #6498)",
        "write the prompt into a column of its own",
    ),
    "boundary": Kind(
        8,
        "the tokens of prompt and answer together do not begin with the tokens of the prompt: the "
        "loss mask is off by a token, or the model is trained on a prompt that it never meets",
        "let the prompt end without a space, and the answer begin with it",
    ),
    "eos-missing": Kind(
        8,
        "an answer without its end token does not teach the model to stop; where only one side has "
        "it, the end itself becomes what is preferred",
        "end every answer with the end token, or none where the trainer adds it",
    ),
    "eos-double": Kind(
        8,
        "what follows an end token is never sampled, yet it is in the loss",
        "keep one end token; in conversations the template writes it",
    ),
    "characters": Kind(
        1,
        "such characters are what a broken conversion leaves; tokenizers refuse them, or spend "
        "several tokens on each",
        "convert the texts again, as UTF-8",
    ),
    "not-in-vocabulary": Kind(
        1,
        "the model cannot read these rows",
        "use the model that they were written for, or remove them",
    ),
    "too-long": Kind(
        2,
        "the model has no positions for them: a trainer cuts them, or the model computes nonsense",
        "remove these rows, or cut the answers yourself and look at what is left",
    ),
    "length": Kind(
        10,
        "the cheapest way to prefer chosen is then to write more, and the policy will",
        "pair answers of like length, or measure win rates with length controlled",
    ),
    "duplicates": Kind(
        10,
        "a pair that occurs again counts again, and in a held-out part it is not held out",
        "keep one of each",
    ),
    "contradictions": Kind(
        5,
        "the labels of one pair say opposite things, more often than doubt would make them",
        "find out which is right; where both are, one label between 0 and 1 says so",
    ),
    "scores": Kind(
        5,
        "the judge's own scores prefer the other answer: the columns are exchanged, or the labels "
        "come from somewhere else",
        "exchange the answers of these rows, or remove them",
    ),
    "label-range": Kind(
        5,
        "preference_prob is the probability that chosen is preferred, between 0 and 1",
        "repair these labels",
    ),
    # of data and of runs
    "reference-mismatch": Kind(
        8,
        "implicit rewards are distances from the reference; measured from another model they are "
        "not zero where training begins, and the leash holds the policy somewhere else",
        "compute the reference's log-probabilities with the model that training starts from, on "
        "the same tokens and in the same precision",
    ),
    # of runs
    "start": Kind(
        8,
        "a policy that still equals its reference has a loss that is known beforehand: ln 2 for "
        "DPO, at every beta and for every file",
        "look for a doubled sum, a mask, exchanged columns or another loss before training longer",
    ),
    "not-finite": Kind(
        8,
        "from the first number that is not finite on, no weight can be trusted",
        "start again before that step: logsigmoid instead of log(sigmoid), bfloat16 instead of "
        "float16, a smaller learning rate",
    ),
    "impossible": Kind(
        8,
        "no model can have this value: the number is not what its name says",
        "look at how the metric is computed, and averaged over processes and pieces",
    ),
    "margins": Kind(
        8,
        "the margin is the chosen reward minus the rejected one, and means keep differences",
        "look for columns exchanged, or metrics that are averaged over other rows",
    ),
    "loss-and-margins": Kind(
        8,
        "by Jensen's inequality the mean of -log sigmoid(margin) is at least its value at the mean "
        "margin; a loss below that is not the loss of these margins",
        "see whether loss and rewards use the same beta, labels and rows",
    ),
    "displacement": Kind(
        9,
        "the margin grows because rejected falls faster than chosen falls; the probability goes to "
        "answers that nobody compared",
        "read samples; then fewer steps, a larger beta, an SFT term, or pairs of the model's own "
        "answers",
    ),
    "over-optimisation": Kind(
        9,
        "every pair is ranked right, and the policy still moves on, away from the chosen answers "
        "too: what is learnt now is the file's noise",
        "stop earlier, take a larger beta or a smaller learning rate, and judge samples, not the "
        "accuracy",
    ),
    "learning-rate": Kind(
        9,
        "published recipes train all weights of a language model with DPO at 8e-8 to 1e-5, "
        "adapters at up to 1e-4",
        "start at 5e-7 for all weights, at 5e-6 for adapters",
    ),
    "beta": Kind(
        9,
        "beta means nothing without its loss: sums over tokens take hundredths to tenths, means "
        "over tokens take whole numbers",
        "see whether the loss sums or averages over tokens, and take a beta of such a recipe",
    ),
    "not-learning": Kind(
        9,
        "loss and margin stand still",
        "see that weights are trained at all, and that the learning rate is not zero",
    ),
    "diverging": Kind(
        9,
        "the policy ranks its own training pairs worse than the reference did",
        "take a smaller learning rate or a longer warm-up",
    ),
}
