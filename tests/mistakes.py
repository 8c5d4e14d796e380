"""Plausible mistakes for every exercise: what a reader who misunderstood one thing would answer.

tests/test_exercises.py gives each to the exercise's check, which must call it wrong in words of its own. An entry is
(what went wrong, the answer), at least three for an exercise. The answer is one of

    12                             the value itself: a number, a string, a tensor, a function
    Edit("[:, 1:]", "[:, :-1]")    the solution's code with one piece replaced, for answers that are code
    Crash("twelve")                an answer about which only the exception's name can be said

    MISTAKES["1.1"] = [
        ("forgets E", 9),
        ("counts numbers, not characters", 3),
        ("gives the text back", "S54=27+27E"),
    ]

Values that are long to write are made by small functions above their chapter's entries.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Edit:
    """The solution with `old` replaced by `new`, wherever it stands."""

    old: str
    new: str

    def apply(self, solution):
        if self.old not in solution:
            raise LookupError(f"the solution does not contain {self.old!r}")
        return solution.replace(self.old, self.new)


@dataclass(frozen=True)
class Crash:
    """A mistake that may be reported by its exception alone."""

    answer: object


MISTAKES = {}

# ---------------------------------------------------------------- chapter 0

MISTAKES["0.1"] = [
    ("forgets beta", math.log(1 + math.exp(-2))),
    ("subtracts chosen from rejected", math.log(1 + math.exp(1))),
    ("stops at the margin", 1.0),
    ("stops at the probability", 1 / (1 + math.exp(-1))),
    ("forgets the reference", math.log(1 + math.exp(-0.5 * 4))),
    ("adds the gains", math.log(1 + math.exp(2))),
]

# ---------------------------------------------------------------- chapter 1

MISTAKES["1.1"] = [
    ("takes a digit for its id", [1, 8, 20, 9, 15, 1, 2]),
    ("forgets E", [1, 12, 20, 13, 15, 5]),
    ("confuses + and -", [1, 12, 20, 13, 14, 5, 2]),
    ("counts ids from 1", [2, 13, 21, 14, 16, 6, 3]),
    ("gives the text back", "S8=9-1E"),
]
MISTAKES["1.2"] = [
    ("counts padding against real tokens", 3 / 27),
    ("gives the number of cells", 3),
    ("counts the prompt as well", 14 / 30),
    ("gives the share that is real", 0.9),
]
MISTAKES["1.3"] = [
    ("marks from the left edge, as if padded on the right", Edit("width - completion_lengths", "torch.tensor(prompt_lengths)")),
    ("leaves E out", Edit("torch.arange(width) >=", "torch.arange(1, width + 1) % width >=")),
    ("starts one token late", Edit(">=", ">")),
    ("marks prompt and completion", Edit("torch.tensor(lengths) - torch.tensor(prompt_lengths)", "torch.tensor(lengths)")),
]
MISTAKES["1.4"] = [
    ("does not shift the mask", Edit("~completion_mask[:, 1:]", "~completion_mask[:, :-1]")),
    ("does not shift the ids", Edit("input_ids[:, 1:]", "input_ids[:, :-1]")),
    ("masks the completion instead", Edit("~completion_mask", "completion_mask")),
    ("fills with the padding id", Edit("-100", "0")),
]
MISTAKES["1.5"] = [
    ("leaves the slips out", 0.6),
    ("lets every slip add a digit", 0.85),
    ("gives the new mean", 6.9),
    ("counts the third number without its sign", 0.35),
    ("takes the new rates for the change", 1.3),
]
MISTAKES["1.6"] = [
    ("exchanges the two that lack a token", "2314"),
    ("takes the padding for the missing end", "4213"),
    ("takes the early mask for the late one", "1342"),
    ("uses one line twice", "4332"),
    ("writes a number", 4312),
]

# ---------------------------------------------------------------- chapter 2

MISTAKES["2.1"] = [
    ("leaves the weight out", [0.2, 1, 1, 1.4]),
    ("divides by the root of the sum", [0.5, 0.5, 1, 7]),
    ("forgets the root", [0.2, 0.2, 0.4, 2.8]),
    ("subtracts the mean first, as LayerNorm does", [-8.08, 0.23, 0.46, 11.55]),
    ("gives one number", 5),
]
MISTAKES["2.2"] = [
    ("shrinks the keys only", 105_792),
    ("saves in one layer only", 111_936),
    ("makes the matrices 16 by 16", 87_360),
    ("drops keys and values altogether", 85_312),
    ("changes nothing", 118_080),
]
MISTAKES["2.3"] = [
    ("turns backwards", Edit("* sin", "* -sin")),
    ("adds where it should subtract", Edit("a * cos - b * sin", "a * cos + b * sin")),
    ("pairs halves", Edit("x[:, 0::2], x[:, 1::2]", "x.chunk(2, dim=-1)")),
    ("leaves the results in halves", Edit("return turned", "return torch.cat((turned[:, 0::2], turned[:, 1::2]), -1)")),
    ("turns in place", Edit("torch.empty_like(x)", "x")),
]
MISTAKES["2.4"] = [
    ("lets the groups alternate", Edit("repeat_interleave(copies, dim=1)", "repeat(1, copies, 1, 1)")),
    ("forgets the scale", Edit(" / math.sqrt(query.shape[-1])", "")),
    ("forgets the mask", Edit(".masked_fill(hidden, -math.inf)", "")),
    ("hides the past instead", Edit("masked_fill(hidden,", "masked_fill(~hidden,")),
    ("takes the softmax over the queries", Edit("softmax(-1)", "softmax(-2)")),
]
MISTAKES["2.5"] = [
    ("forgets the mask", [1 / 8] * 8),
    ("does not let a position look at itself", [1 / 6] * 6 + [0, 0]),
    ("takes zero scores for zero weights", [0] * 8),
    ("looks at itself alone", [0] * 6 + [1, 0]),
    ("stops at position 6", [1 / 7] * 7),
]
MISTAKES["2.6"] = [
    ("exchanges the two faults of positions", "1342"),
    ("takes the fault at every position for the missing mask", "4213"),
    ("takes A for another gate", "2314"),
    ("uses one fault twice", "4311"),
    ("writes a number", 4312),
]

# ---------------------------------------------------------------- chapter 3

MISTAKES["3.1"] = [
    ("gives bits", 1.75),
    ("takes four equal shares", 1.386),
    ("forgets the minus sign", -1.213),
    ("adds up and does not average", 9.70),
    ("uses the logarithm to base ten", 0.527),
]
MISTAKES["3.2"] = [
    ("turns the direction round", 0.072),
    ("forgets to take off the entropy", 0.655),
    ("subtracts two entropies", 0.237),
    ("gives the entropy", 0.562),
    ("forgets the careful answers", 0.229),
    ("gets the sign wrong", -0.092),
]
MISTAKES["3.3"] = [
    ("takes the entropy of pairs", Edit("/ of_prompt[prompt]", "/ len(pairs)")),
    ("takes the entropy of prompts", Edit("together[prompt, answer] / of_prompt", "1 / len(pairs) * of_prompt")),
    ("counts a repeated pair once", Edit("for prompt, answer in pairs]", "for prompt, answer in together]")),
    ("forgets the minus sign", Edit("return -sum", "return sum")),
    ("adds up and does not average", Edit(" / len(pairs)", "")),
    ("uses bits", Edit("math.log(", "math.log2(")),
]
MISTAKES["3.4"] = [
    ("gives every token one vote", Edit("(nats, len(ids))", "(-logps.sum(), mask.sum())")),
    ("does not divide by the length", Edit("logps / mask.sum(1)", "logps")),
    ("returns a mean and a count of one", Edit("(nats, len(ids))", "(nats / len(ids), 1)")),
    ("divides by the number of tokens", Edit("(nats, len(ids))", "(nats, mask.sum())")),
    ("divides by the width", Edit("mask.sum(1)", "mask.shape[1]")),
    ("forgets the minus sign", Edit("-(logps", "(logps")),
    ("returns the loss alone", Edit("(nats, len(ids))", "nats / len(ids)")),
    ("cuts the gradient", Edit("(nats, len(ids))", "(nats.detach(), len(ids))")),
]
MISTAKES["3.5"] = [
    ("confuses the two floors above ten", "acdb"),
    ("takes the late mask for nats a token", "cabd"),
    ("thinks that the prompt lowers the loss", "cdab"),
    ("reads the letters as the order of the mistakes", "bdac"),
    ("gives one letter", "c"),
]
MISTAKES["3.6"] = [
    ("believes that the model stays as it is", (0.75, 5.37, 0.14)),
    ("adds the new slips to the old ones", (0.95, 5.93, 0.14)),
    ("takes the slips off altogether", (0.95, 5.17, 0.14)),
    ("turns the direction round", (0.95, 5.37, 0.225)),
    ("compares two floors", (0.95, 5.37, 0.364)),
    ("forgets the third number", (0.95, 5.37)),
]

# ---------------------------------------------------------------- chapter 4

MISTAKES["4.1"] = [
    ("does not divide", 0.45),
    ("stops one token early", 0.45 / 0.70),
    ("divides by the threshold", 0.45 / 0.75),
    ("keeps a token too many", 0.45 / 0.95),
    ("gives percent", 52.9),
]
MISTAKES["4.2"] = [
    ("counts one answer", (795, 41, 41)),
    ("reads the last token too", (15_900, 840, 612)),
    ("starts after the first token", (20 * (30 * 12 + 30 * 31 // 2), 820, 592)),
    ("shares the answers as well", (15_900, 820, 41)),
    ("does not share", (15_900, 820, 820)),
    ("reads the final length at every step", (20 * 30 * 42, 820, 592)),
    ("gives two numbers", (15_900, 820)),
]
MISTAKES["4.3"] = [
    ("rounds down", 380),
    ("uses the rule of three", 299),
    ("believes the normal interval", 1),
    ("forgets to round", 99 * 1.96**2),
    ("squares nothing", 195),
    ("says a thousand to be safe", 1000),
]
MISTAKES["4.4"] = [
    ("does not shift", Edit("completion_mask[:, 1:]", "completion_mask[:, :-1]")),
    ("turns the direction round", Edit("p.exp() * (p - q)", "q.exp() * (q - p)")),
    ("takes the mean over tokens", Edit("[:, 1:]).sum(-1)", "[:, 1:]).sum(-1) / completion_mask.sum(-1)")),
    ("forgets the mask", Edit("forks * completion_mask[:, 1:]", "forks")),
    ("adds the batch up", Edit("completion_mask[:, 1:]).sum(-1)", "completion_mask[:, 1:]).sum().expand(2)")),
    ("forgets softmax", Edit(".log_softmax(-1)", "")),
]
MISTAKES["4.5"] = [
    ("keeps one try for the base model", (0.75, 0.6)),
    ("divides by the number of tries", (0.984, 0.312)),
    ("gives percentages", (98.4, 60)),
    ("takes their share for one answer", (0.984, 0.936)),
    ("multiplies successes", (0.75**3, 0.6)),
    ("gives the failures", (0.984, 0.4)),
]
MISTAKES["4.6"] = [
    ("does not divide by the sum", (0.5625, 0.09)),
    ("multiplies by the temperature", (0.375, 0.15)),
    ("takes roots", (0.634, 0.396)),
    ("gives the slips", (0.1, 0.155)),
    ("copies what was measured", (0.85, 0.02)),
    ("gives one number", 0.9),
]

# ---------------------------------------------------------------- chapter 9

MISTAKES["9.1"] = [
    ("forgets the base rate", 1 / (1 + math.exp(-2))),
    ("multiplies by beta", 0.3 * math.exp(0.5) / (0.3 * math.exp(0.5) + 0.7)),
    ("does not normalise", 0.3 * math.exp(2)),
    ("adds the reward to the share", 0.3 + 0.5),
    ("gives percent", 76),
]
MISTAKES["9.2"] = [
    ("thinks that the winner gains", 1.39),
    ("gives the implicit reward", -0.696),
    ("takes the ratio, not its logarithm", 0.249),
    ("divides log Z by beta once more", -2.78),
]
MISTAKES["9.3"] = [
    ("multiplies 0 by log 0", Edit("torch.xlogy(1 - q, 1 - q)", "(1 - q) * (1 - q).log()")),
    ("takes the first term alone", Edit(" + torch.xlogy(1 - q, 1 - q)", "")),
    ("adds up", Edit(".mean()", ".sum()")),
    ("counts in bits", Edit(".mean()", ".mean() / math.log(2)")),
    ("forgets the minus", Edit("-(torch", "(torch")),
]
MISTAKES["9.4"] = [
    ("forgets the log-probabilities", Edit("answers, logps = answers[::-1], logps[::-1]", "answers = answers[::-1]")),
    ("swaps with the probability of keeping", Edit(">= probability", "< probability")),
    ("keeps the soft label", Edit("*answers, 1.0, *logps", "*answers, probability, *logps")),
    ("swaps nothing", Edit("answers[::-1], logps[::-1]", "answers, logps")),
    ("forgets the seed", Edit("default_rng(seed)", "default_rng()")),
]
MISTAKES["9.5"] = [
    ("gives the slopes of the logits", (1, 0, 2)),
    ("averages without the probabilities", (0, -1, 1)),
    ("exchanges rejected and third", (-0.2, 0.8, -1.2)),
    ("multiplies by the probability", (-0.08, -0.24, 0.32)),
    ("lets the chosen answer gain", (0.2, -0.8, 1.2)),
    ("gives one number", -0.2),
]
MISTAKES["9.6"] = [
    ("counts in bits", (0.3052 / math.log(2), 0.7374 / math.log(2))),
    ("forgets the minus", (-0.3052, -0.7374)),
    ("takes the entropy of the reference", (1.0297, 0.7374)),
    ("gives the KL", (0.3052, 0.4322)),
    ("weighs with the reference", (0.3052, 1.8214)),
    ("gives one number", 0.3052),
]
MISTAKES["9.7"] = [
    ("exchanges the two", (0.51, 1.0)),
    ("takes the base model", (0.3, 0.51)),
    ("forgets that two winners can tie", (1.0, 0.42)),
    ("keeps the base rate with the ties", (1.0, 0.3)),
    ("gives one number", 1.0),
]
MISTAKES["9.8"] = [
    ("trusts the accuracy", ("fine", "rate", "labels", "pairs")),
    ("thinks that a small KL is a low rate", ("pairs", "fine", "labels", "rate")),
    ("takes the fallen chosen answer for the pairs", ("labels", "rate", "pairs", "fine")),
    ("names one twice", ("pairs", "rate", "labels", "labels")),
    ("gives one name", "pairs"),
]
MISTAKES["9.9"] = [
    ("takes the authors of the chapter", (0.959, 0.994, 1.639)),
    ("multiplies by beta", (0.125, 0.562, 0.6)),
    ("exchanges the two", (0.982, 0.858, 1.294)),
    ("gives the reward", (0.8585, 0.9820, 1.8405)),
    ("forgets beta before log Z", (0.8585, 0.9820, 5.175)),
    ("does not normalise", (5.46, 27.3, 1.294)),
    ("gives the shares alone", (0.8585, 0.9820)),
]

# ---------------------------------------------------------------- chapter 7

MISTAKES["7.1"] = [
    ("forgets beta", (math.log(1.25), 0.8 - 1)),
    ("forgets the minus of the loss", (-math.log(1.5), -1 / 6)),
    ("exchanges the answers", (math.log(3), -1 / 3)),
    ("differentiates with respect to h", (math.log(1.5), -1 / 3)),
    ("gets the sign of the derivative wrong", (math.log(1.5), 1 / 6)),
    ("gives the derivative for the rejected answer", (math.log(1.5), 0.167)),
    ("gives the loss alone", math.log(1.5)),
]
MISTAKES["7.2"] = [
    ("takes the true reference", (0.91867, 0.0)),
    ("does not normalise", (1.478, 0.039)),
    ("multiplies by beta", (0.2 * math.exp(0.5) / (0.2 * math.exp(0.5) + 0.3 + 0.5 * math.exp(-0.5)), 0.039)),
    ("gives the KL", (0.8008, 0.0790)),
    ("turns the KL round", (0.8008, 0.5 * 0.0578)),
    ("gives the probability alone", 0.8008),
]
MISTAKES["7.3"] = [
    ("forgets the losses", Edit("(wins + wins.T) * predictions", "wins * predictions")),
    ("forgets the mean", Edit(" / wins.sum()", "")),
    ("forgets beta in front", Edit("by_logit = beta * (", "by_logit = (")),
    ("forgets beta inside", Edit("gaps(beta * (features @ theta))", "gaps(features @ theta)")),
    ("gets the sign wrong", Edit("features.T @ by_logit", "-(features.T @ by_logit)")),
    ("stops at the logits", Edit("features.T @ by_logit", "by_logit")),
    ("takes the label for the prediction", Edit("- wins).sum(-1)", "- wins.T).sum(-1)")),
]
MISTAKES["7.4"] = [
    ("forgets beta", Edit("beta * (target - ref_logps)", "target - ref_logps")),
    ("divides by beta", Edit("beta * (target - ref_logps)", "(target - ref_logps) / beta")),
    ("forgets the reference", Edit("(target - ref_logps)", "target")),
    ("turns the pair round", Edit("(target - ref_logps)", "(ref_logps - target)")),
    ("lets the likelier answer always win", Edit("torch.sigmoid(gaps(beta * (target - ref_logps)))", "(gaps(target - ref_logps) > 0).double()")),
    ("gives the rewards", Edit("torch.sigmoid(gaps(beta * (target - ref_logps)))", "beta * (target - ref_logps)")),
]
MISTAKES["7.5"] = [
    ("keeps the old reference", Edit("toy.ref_logps.flip(0)", "toy.ref_logps")),
    ("throws the ties away", Edit("(rare.ref_logps, rare.ref_logps)", "(rare.ref_logps, rare.ref_logps, distinct=True)")),
    ("watches the rejected answer", Edit("judged.sum(1)", "judged.sum(0)")),
    ("draws pairs uniformly", Edit("tabular.independent_pairs(rare.ref_logps, rare.ref_logps)", "tabular.uniform_pairs(3)")),
    ("searches the wrong way", Edit("< 0 else", "> 0 else")),
]
MISTAKES["7.6"] = [
    ("takes a falling loss for health", {"A": "right", "B": "reference", "C": "exchanged", "D": "deterministic"}),
    ("does not look at the start", {"A": "deterministic", "B": "right", "C": "exchanged", "D": "reference"}),
    ("does not look at the reward", {"A": "deterministic", "B": "reference", "C": "right", "D": "exchanged"}),
    ("uses a word twice", {"A": "deterministic", "B": "reference", "C": "right", "D": "right"}),
    ("gives a list", ["deterministic", "reference", "exchanged", "right"]),
]

# ---------------------------------------------------------------- chapter 6

MISTAKES["6.1"] = [
    ("gives the other answer", (0.351, 0.412)),
    ("forgets the reference", (0.881, 0.412)),
    ("multiplies by beta", (0.292, 0.061)),
    ("gives log Z", (0.649, 0.823)),
    ("gives Z", (0.649, 2.278)),
    ("gives one number", 0.649),
    ("does not normalise", (1.478, 0.412)),
]
MISTAKES["6.2"] = [
    ("gives 1/beta", 3.045),
    ("forgets the base rate", 0.455),
    ("takes probabilities for odds", 1 / math.log(3)),
    ("turns the sign round", -0.328),
    ("works in percent", 32.8),
]
MISTAKES["6.3"] = [
    ("gives the log-ratio", Edit("log_u.exp() - 1 - log_u", "-log_u")),
    ("turns the direction round", Edit("ref_logps - logps", "logps - ref_logps")),
    ("forgets the 1", Edit("log_u.exp() - 1 - log_u", "log_u.exp() - log_u")),
    ("squares", Edit("log_u.exp() - 1 - log_u", "log_u**2 / 2")),
    ("takes the mean", Edit("log_u.exp() - 1 - log_u", "(log_u.exp() - 1 - log_u).mean()")),
]
MISTAKES["6.4"] = [
    ("rewards the last column", Edit("(mask * torch.arange(mask.shape[1])).argmax(1)", "-1")),
    ("rewards the first token", Edit("(mask * torch.arange(mask.shape[1])).argmax(1)", "mask.int().argmax(1)")),
    ("charges the prompt", Edit(" * mask\n", "\n")),
    ("turns the sign round", Edit("-beta *", "beta *")),
    ("takes the mean over tokens", Edit(" * mask\n", " * mask / mask.sum(1, keepdim=True)\n")),
    ("forgets beta", Edit("-beta *", "-")),
    ("pays at every token", Edit("given[torch.arange(len(reward)), last] += reward", "given += mask * reward[:, None]")),
]
MISTAKES["6.5"] = [
    ("takes the quoted formula", (0.760, 0.636)),
    ("turns the KL round", (0.760, 0.470)),
    ("forgets the no", (0.760, 0.706)),
    ("gives the share of no", (0.240, 0.449)),
    ("wants four times yes", (0.0081, 0.449)),
    ("adds the four chances", (1.2, 0.449)),
    ("works in bits", (0.760, 0.648)),
    ("gives one number", 0.760),
]
MISTAKES["6.6"] = [
    ("keeps the old world", (0.760, 0.449)),
    ("gives the odds", (0.821, 0.408)),
    ("multiplies by beta", (0.155, 0.408)),
    ("turns the KL round", (0.451, 0.294)),
    ("forgets the second term", (0.451, 0.679)),
    ("works in bits", (0.451, 0.588)),
    ("gives one number", 0.451),
]
MISTAKES["6.7"] = [
    ("takes the poor report for the wrong one", ("A", "C", 0.8)),
    ("exchanges the two", ("C", "B", 0.8)),
    ("takes what is far below for an optimum", ("B", "A", 0.8)),
    ("gives one over beta", ("B", "C", 1.25)),
    ("takes the beta of the text", ("B", "C", 0.5)),
    ("forgets the beta", ("B", "C")),
]

# ---------------------------------------------------------------- chapter 5

MISTAKES["5.1"] = [
    ("multiplies the probabilities", 0.75 * 2 / 3),
    ("gives the odds", 6),
    ("adds the odds", 5 / 6),
    ("takes the mean of the two shares", (0.75 + 2 / 3) / 2),
    ("gives percent", 85.7),
]
MISTAKES["5.2"] = [
    ("rounds down", 682),
    ("forgets to round", 1.96**2 / (0.25**2 * 0.09)),
    ("takes the interval of the share", 6),
    ("takes 0.25 for the whole width", 2732),
    ("takes an even pair", 246),
    ("forgets the square", 88),
    ("takes the even pair of the text", 385),
]
MISTAKES["5.3"] = [
    ("expected wins minus wins", Edit("wins - games * prob", "games * prob - wins")),
    ("counts only the wins as comparisons", Edit("games = wins + wins.mT", "games = wins")),
    ("adds up the columns", Edit(".sum(-1)", ".sum(0)")),
    ("divides by the number of comparisons", Edit(".sum(-1)", ".sum(-1) / wins.sum()")),
    ("turns the differences round", Edit("reward[:, None] - reward[None, :]", "reward[None, :] - reward[:, None]")),
    ("forgets the sum", Edit(".sum(-1)", "")),
]
MISTAKES["5.4"] = [
    ("only asks that everyone has lost", Edit("reached.all()", "((wins > 0).any(0)).all()")),
    ("only asks that everyone has won and lost", Edit("reached.all()", "((wins > 0).any(0) & (wins > 0).any(1)).all()")),
    ("forgets the direction of the arrows", Edit("(wins > 0) |", "(wins + wins.mT > 0) |")),
    ("takes one step only", Edit("range(answers)", "range(0)")),
    ("stops after two steps", Edit("range(answers)", "range(1)")),
]
MISTAKES["5.5"] = [
    ("keeps the old judge", (0.614, 0.641)),
    ("leaves out the ties", (0.182, 0.720)),
    ("works in bits", (0.705, 0.720)),
    ("lets ties be right", (0.488, 0.941)),
    ("halves the rewards", (0.654, 0.583)),
    ("exchanges the two", (0.720, 0.488)),
    ("gives one number", 0.488),
]
MISTAKES["5.6"] = [
    ("takes noise for flips", ("flips", "threshold", "noise")),
    ("sees a threshold in the bend", ("noise", "flips", "threshold")),
    ("takes the slope for a swap", ("swapped", "threshold", "flips")),
    ("takes the diagonal for a sure judge", ("noise", "sure", "flips")),
    ("invents a name", ("noise", "threshold", "cap")),
    ("gives two names", ("noise", "threshold")),
]

# ---------------------------------------------------------------- chapter 8

MISTAKES["8.1"] = [
    ("starts after the first answer token", math.log(0.5 * 0.25 * 0.8)),
    ("forgets E", math.log(0.2 * 0.5 * 0.25)),
    ("counts the prompt", math.log(0.1 * 0.5 * 0.2 * 0.5 * 0.25 * 0.8)),
    ("gives the probability", 0.02),
    ("takes the mean", math.log(0.02) / 4),
    ("forgets the minus", -math.log(0.02)),
    ("takes the decimal logarithm", math.log10(0.02)),
]
MISTAKES["8.2"] = [
    ("does not shift", Edit("logits[:, :-1].transpose(1, 2), labels[:, 1:]", "logits.transpose(1, 2), labels")),
    ("shifts the wrong way", Edit("logits[:, :-1].transpose(1, 2), labels[:, 1:]", "logits[:, 1:].transpose(1, 2), labels[:, :-1]")),
    ("forgets the minus", Edit("-surprise", "surprise")),
    ("takes the mean", Edit("-surprise.sum(-1)", "-surprise.sum(-1) / (labels != -100).sum(-1)")),
    ("takes the mean of the row", Edit("surprise.sum(-1)", "surprise.mean(-1)")),
    ("adds the batch up", Edit("surprise.sum(-1)", "surprise.sum()")),
    ("forgets which dimension is the vocabulary", Edit(".transpose(1, 2)", "")),
]
MISTAKES["8.3"] = [
    ("tries one case without padding", Edit("(HAND, padded)", "(HAND,)")),
    ("compares with the wrong value", Edit("math.log(1 / 8)", "math.log(1 / 4)")),
    ("is too lenient", Edit("1e-6", "10")),
    ("turns the verdict round", Edit("return any", "return not any")),
    ("asks that all cases fail", Edit("any(", "all(")),
    ("returns what it was given", Edit("return any", "return logps or any")),
]
MISTAKES["8.4"] = [
    ("keeps every other row", Edit("(beta * (policy_logps - ref_logps)).chunk(2)", "(beta * (policy_logps - ref_logps)).view(-1, 2).T")),
    ("keeps log(sigmoid)", Edit("F.logsigmoid(chosen_rewards - rejected_rewards)", "torch.log(torch.sigmoid(chosen_rewards - rejected_rewards))")),
    ("adds an epsilon", Edit("F.logsigmoid(chosen_rewards - rejected_rewards)", "torch.log(torch.sigmoid(chosen_rewards - rejected_rewards) + 1e-8)")),
    ("swaps chosen and rejected", Edit("chosen_rewards - rejected_rewards", "rejected_rewards - chosen_rewards")),
    ("forgets the reference", Edit("(policy_logps - ref_logps)", "policy_logps")),
    ("forgets beta", Edit("beta * ", "")),
    ("adds up", Edit(".mean()", ".sum()")),
    ("takes no mean", Edit(".mean()", "")),
]
MISTAKES["8.5"] = [
    ("counts all 48 tokens", (4.8, 0.2)),
    ("divides", (0.1 / 47, 0.1 / 47 * 23)),
    ("thinks nothing changes", (0.1, 0.1)),
    ("forgets the second width", (4.7, 0.1)),
    ("turns the ratio round", (4.7, 0.1 * 23 / 47)),
    ("gives one number", 4.7),
]
MISTAKES["8.6"] = [
    ("takes the slow run for the right one", {"A": 13, "B": 10, "C": 9, "D": 0}),
    ("takes the flat loss for the pieces", {"A": 10, "B": 13, "C": 0, "D": 9}),
    ("takes the flat loss for a slow one", {"A": 9, "B": 10, "C": 0, "D": 13}),
    ("uses a number twice", {"A": 13, "B": 13, "C": 0, "D": 9}),
    ("gives a list", [13, 10, 0, 9]),
]

# ---------------------------------------------------------------- chapter 11

MISTAKES["11.1"] = [
    ("gives the margins", (0.4, math.log(9))),
    ("takes a certain label for IPO", (5.0, math.log(9) / 0.1)),
    ("exchanges the two", (math.log(9) / 0.1, 4.0)),
    ("takes 2q - 1", (8.0, math.log(9) / 0.1)),
    ("takes the decimal logarithm", (4.0, math.log10(9) / 0.1)),
    ("gives one of them", 4.0),
]
MISTAKES["11.2"] = [
    ("gives 1 - epsilon", 1 / (1 + math.exp(-3))),
    ("forgets the denominator", math.exp(-3)),
    ("takes the margin for epsilon", 3.0),
    ("takes the slope of the sigmoid", 0.0452),
]
MISTAKES["11.3"] = [
    ("doubles", 1.0),
    ("thinks nothing changes", 0.5),
    ("gives the factor", 2.0),
    ("takes the square", 0.125),
]
MISTAKES["11.4"] = [
    ("takes the greatest", Edit("argmin", "argmax")),
    ("forgets the pair turned round", Edit(" + (1 - q[:, None]) * loss(-h)", "")),
    ("does not turn it round", Edit("loss(-h)", "loss(h)")),
    ("exchanges the labels", Edit("cost = q[:, None] * loss(h) + (1 - q[:, None]) * loss(-h)",
                                  "cost = (1 - q[:, None]) * loss(h) + q[:, None] * loss(-h)")),
    ("returns the place", Edit("h[cost.argmin(-1)]", "cost.argmin(-1)")),
    ("returns the cost", Edit("h[cost.argmin(-1)]", "cost.min(-1).values")),
    ("averages over the labels", Edit("cost.argmin(-1)", "cost.mean(0).argmin(-1)")),
]  # fmt: skip
MISTAKES["11.5"] = [
    ("takes the token for the sum", Edit('"C": "ipo", "D": "ipo_sum"', '"C": "ipo_sum", "D": "ipo"')),
    ("gives DPO an end", Edit('"B": "sigmoid", "C": "ipo"', '"B": "ipo", "C": "sigmoid"')),
    ("forgets that h is beta m", Edit('"A": "hinge", "B"', '"A": "cdpo", "B"')),
    ("exchanges hinge and cdpo", {"A": "cdpo", "B": "sigmoid", "C": "ipo", "D": "ipo_sum", "E": "hinge"}),
    ("exchanges hinge and IPO", {"A": "ipo_sum", "B": "sigmoid", "C": "ipo", "D": "hinge", "E": "cdpo"}),
    ("gives a list", ["hinge", "sigmoid", "ipo", "ipo_sum", "cdpo"]),
    ("gives the levels", {"A": 10, "B": math.inf, "C": 30, "D": 5, "E": 22}),
]
MISTAKES["11.6"] = [
    ("starts from one half", Edit("math.log(0.4 / 0.6) + ", "")),
    ("forgets beta", Edit("margins / 0.5", "margins")),
    ("multiplies by beta", Edit("margins / 0.5", "margins * 0.5")),
    ("takes the other answer for the better one", Edit("0.4 / 0.6", "0.6 / 0.4")),
    ("takes a certain judge for IPO", Edit("0.8 - 0.5, 1.0", "0.5, 1.0")),
    ("takes the label for the margin", Edit("math.log(0.8 / 0.2), 0.8 - 0.5, 1.0", "0.8, 0.8, 0.8")),
    ("gives the margins", (math.log(4), 0.3, 1.0)),
]  # fmt: skip

# ---------------------------------------------------------------- chapter 10

MISTAKES["10.1"] = [
    ("forgets the pairs of two", 0.32 / (1 + math.exp(-2))),
    ("lets the better answer always win", 0.36),
    ("counts one order only", 0.04 + 0.16 / (1 + math.exp(-2))),
    ("gives the winning probability", 1 / (1 + math.exp(-2))),
    ("gives the base model's share", 0.2),
]
MISTAKES["10.2"] = [
    ("gives the share of right labels", 0.9),
    ("takes the reward for the tilt", 0.3 * math.log(9) / (0.3 * math.log(9) + 0.7)),
    ("forgets the base model", 9 / 10.5),
    ("takes a reward of 1", 0.3 * math.e / (0.3 * math.e + 0.7)),
    ("does not normalise", 2.7),
]
MISTAKES["10.3"] = [
    ("turns the sign round", Edit("wins[long, short] / wins[short, long]", "wins[short, long] / wins[long, short]")),
    ("forgets the logarithm", Edit("math.log(", "(")),
    ("keeps equal lengths", Edit("long > short", "long >= short")),
    ("names the longer first", Edit("(short, long): math", "(long, short): math")),
    ("throws all lengths together", Edit("(len(c), len(r))", "(4 + 2 * (len(c) > len(r)), 4 + 2 * (len(c) < len(r)))")),
    ("leaves out two steps", Edit("if long > short", "if long == short + 2")),
]
MISTAKES["10.4"] = [
    ("drops equal lengths", Edit(", *equal", "")),
    ("takes the larger size", Edit("min(", "max(")),
    ("draws with replacement", Edit("replace=False", "replace=True")),
    ("takes the first ones", Edit("rng.choice(group, size, replace=False)", "group[:size]")),
    ("loses the order", Edit("sorted([*kept[0], *kept[1], *equal])", "[*kept[0], *kept[1], *equal]")),
    ("forgets the seed", Edit("default_rng(seed)", "default_rng()")),
]
MISTAKES["10.5"] = [
    ("takes learning by heart for certainty", {"A": "few", "B": "no ties", "C": "noise", "D": "skewed"}),
    ("takes style for the only sign", {"A": "no ties", "B": "skewed", "C": "noise", "D": "few"}),
    ("takes a small accuracy for few pairs", {"A": "no ties", "B": "noise", "C": "few", "D": "skewed"}),
    ("gives one cause twice", {"A": "no ties", "B": "few", "C": "noise", "D": "few"}),
    ("leaves one out", {"A": "no ties", "B": "few", "C": "noise"}),
]
MISTAKES["10.6"] = [
    ("forgets beta", Edit("** (1 / beta)", "")),
    ("multiplies by beta", Edit("** (1 / beta)", "** beta")),
    ("turns the filter round", Edit("(1 / kept)", "kept")),
    ("gives the odds", Edit("odds / (1 + odds)", "odds")),
    ("forgets the pairs of two long answers", Edit("long_wins = p**2 + p * (1 - p)", "long_wins = p * (1 - p)")),
    ("forgets what was lost", Edit("kept * p * (1 - p)", "p * (1 - p)")),
    ("exchanges the two", Edit("return odds / (1 + odds), long_wins / (long_wins + short_wins)",
                               "return long_wins / (long_wins + short_wins), odds / (1 + odds)")),
]  # fmt: skip

# ---------------------------------------------------------------- chapter 12

MISTAKES["12.1"] = [
    ("includes the answer itself", (1.0, 1.2247)),
    ("forgets the standard deviation", (4 / 3, 1.0)),
    ("divides by n", (4 / 3, math.sqrt(2))),
    ("exchanges the two", (1.2247, 4 / 3)),
    ("subtracts nothing", (2.0, 2.0)),
    ("gives one of them", 4 / 3),
]
MISTAKES["12.2"] = [
    ("gives the optimum of the objective", 0.3 * math.exp(2) / (0.3 * math.exp(2) + 0.7)),
    ("gives lambda", 1.21098),
    ("gives the share of no", 0.289),
    ("takes the smaller root", 0.5 * 0.3 / (0.28902 - 1)),
    ("forgets beta", 0.3 / 0.21098),
]
MISTAKES["12.3"] = [
    ("turns the sign round", Edit("-(advantage.detach() * logps)", "(advantage.detach() * logps)")),
    ("lets the gradient through the advantage", Edit("advantage.detach()", "advantage")),
    ("includes the answer itself", Edit("(net.sum(1, keepdim=True) - net) / (K - 1)", "net.mean(1, keepdim=True)")),
    ("forgets the leash", Edit("rewards - beta * (logps - ref_logps)", "rewards")),
    ("ties the leash the wrong way round", Edit("(logps - ref_logps)", "(ref_logps - logps)")),
    ("leaves out along the prompts", Edit("net.sum(1, keepdim=True) - net) / (K - 1)",
                                          "net.sum(0, keepdim=True) - net) / (len(net) - 1)")),
    ("sums", Edit(".mean()", ".sum()")),
    ("returns a number an answer", Edit(".mean()", "")),
]  # fmt: skip
MISTAKES["12.4"] = [
    ("looks at the interval alone", Edit("torch.where(advantages > 0, ratio > 1 + clip, ratio < 1 - clip)",
                                         "(ratio - 1).abs() > clip")),
    ("exchanges the signs", Edit("advantages > 0", "advantages < 0")),
    ("says where it pulls", Edit("torch.where(", "~torch.where(")),
    ("takes the difference for the ratio", Edit("(logps - old_logps).exp()", "logps - old_logps")),
    ("forgets the old policy", Edit("(logps - old_logps).exp()", "logps.exp()")),
    ("takes 0.2 whatever clip is", Edit("torch.where(advantages > 0, ratio > 1 + clip, ratio < 1 - clip)",
                                        "torch.where(advantages > 0, ratio > 1.2, ratio < 0.8)")),
]  # fmt: skip
MISTAKES["12.5"] = [
    ("takes the judge for honest", 3 * math.exp(4) / (3 * math.exp(4) + 1)),
    ("thinks nothing happens", 0.75),
    ("gives the odds", 3 * math.exp(2)),
    ("multiplies by 1/2 over beta", 0.75 * 2 / 1.75),
    ("forgets to divide by beta", 3 * math.exp(0.5) / (3 * math.exp(0.5) + 1)),
    ("forgets the base model", math.exp(2) / (math.exp(2) + 1)),
]
MISTAKES["12.6"] = [
    ("takes the highest for the right one", {"A": "reward", "B": "k3", "C": "twice", "D": "k1"}),
    ("takes the KL turned round for two leashes", {"A": "k1", "B": "twice", "C": "k3", "D": "reward"}),
    ("takes k3 for the right one", {"A": "k1", "B": "reward", "C": "twice", "D": "k3"}),
    ("names one of them twice", {"A": "k1", "B": "k3", "C": "k3", "D": "reward"}),
    ("gives the names alone", ("k1", "k3", "twice", "reward")),
]
MISTAKES["12.7"] = [
    ("thinks that K does not matter", Edit("(1 - 1 / K) / 0.5", "1 / 0.5")),
    ("loosens the leash", Edit("(1 - 1 / K) / 0.5", "K / (K - 1) / 0.5")),
    ("exchanges the two", (0.6576, 0.5381)),
    ("gives the odds", Edit("return odds / (1 + odds)", "return odds")),
    ("forgets beta", Edit("(1 - 1 / K) / 0.5", "(1 - 1 / K)")),
]


# ---------------------------------------------------------------- chapter 13

MISTAKES["13.1"] = [
    ("turns the ratio round", Edit("return before / after", "return after / before")),
    ("forgets the overhead", Edit("2 * machine[\"overhead\"] +", "0 +")),
    ("forgets it on both sides", Edit("machine[\"overhead\"]", "0")),
    ("counts numbers, not bytes", Edit("4 * n", "n")),
    ("has the product read one tensor", Edit("5 * 4", "4 * 4")),
    ("writes what lies between after all", Edit("3 * 4", "4 * 4")),
    ("gives a number", 2.0),
]
MISTAKES["13.2"] = [
    ("guesses the packing", ("packed", 0.0821)),
    ("finds the trick, not the difference", Edit("(guilty, moved[guilty])", "(guilty, plain)")),
    ("subtracts the wrong way round", Edit("(guilty, moved[guilty])", "(guilty, -moved[guilty])")),
    ("gives the name alone", "sorted"),
    ("sums instead of averaging", Edit("moved[guilty])", "64 * moved[guilty])")),
]
MISTAKES["13.3"] = [
    ("takes the utilisation of pretraining", Edit("h100_card.flops, 0.2", "h100_card.flops, 0.4")),
    ("forgets the second epoch", Edit("120_000, 2,", "120_000, 1,")),
    ("keeps the reference in memory", Edit('reference="stored"', 'reference="live"')),
    ("computes one pair at once", Edit("micro_batch=4", "micro_batch=1")),
    ("forgets the reference's pass", Edit('reference="stored"', 'reference="none"')),
    ("fills all of the memory", Edit("0.9 * h100_card.memory", "h100_card.memory")),
    ("gives seconds", Edit("h100_card.flops, 0.2))", "h100_card.flops, 0.2) * 3600)")),
]
MISTAKES["13.4"] = [
    ("has endless tokens", Edit("2 * n * ridge / (n - ridge)", "2 * ridge")),
    ("moves the input alone", Edit("2 * n * ridge / (n - ridge)", "ridge")),
    ("rounds down", Edit("np.ceil", "np.floor")),
    ("gives the intensity", Edit(") / ridge", ")")),
    ("exchanges the two", Edit("(least_width, one_token)", "(one_token, least_width)")),
]
MISTAKES["14.2"] = [
    ("multiplies by beta", Edit("reward[keep] / beta", "reward[keep] * beta")),
    ("does not renormalise", Edit(".log_softmax(-1)", "")),
    ("takes the reward off", Edit("ref_logps[keep] + reward", "ref_logps[keep] - reward")),
    ("looks outside", Edit("(ref_logps[keep] + reward[keep] / beta)", "(ref_logps + reward / beta).log_softmax(-1)[keep]")),
    ("gives all answers", Edit("ref_logps[keep] + reward[keep] / beta", "ref_logps + reward / beta")),
]
MISTAKES["14.3"] = [
    ("forgets the inverse", Edit("return 1 / math.log", "return math.log")),
    ("takes shares for odds", Edit("q / (1 - q) / (p / (1 - p))", "q / p")),
    ("turns the two round", Edit("q / (1 - q) / (p / (1 - p))", "p / (1 - p) / (q / (1 - q))")),
]
MISTAKES["14.4"] = [
    ("turns the wrong ones round", Edit('copies * row["preference_prob"]', 'copies * (1 - row["preference_prob"])')),
    ("keeps all as they are", Edit("[one] * kept + [turned] * (copies - kept)", "[one] * copies")),
    ("keeps the soft label", Edit('("prompt", "chosen", "rejected")}', '("prompt", "chosen", "rejected", "preference_prob")}')),
    ("gives one row too few", Edit("(copies - kept)", "(copies - kept - 1)")),
    ("turns prompts round as well", Edit('"rejected": one["chosen"]}', '"rejected": one["prompt"]}')),
]
MISTAKES["14.5"] = [
    ("forgets the GPUs", (32, 78, 79)),
    ("forgets the last batch", (8, 78, 78)),
    ("gives TRL's steps to both", (8, 79, 79)),
    ("divides by the batch of one GPU", (8, 2500, 2500)),
    ("gives one number", 8),
]
MISTAKES["14.7"] = [
    ("leaves the average of means as it is", Edit("len(counts) * counts[rank] / sum(counts)", "1.0")),
    ("forgets the number of ranks", Edit("len(counts) * counts[rank]", "counts[rank]")),
    ("forgets its own count", Edit("counts[rank] / sum(counts)", "1 / sum(counts)")),
    ("turns it upside down", Edit("len(counts) * counts[rank] / sum(counts)", "sum(counts) / (len(counts) * max(1, counts[rank]))")),
    ("weighs by the largest count", Edit("sum(counts)", "max(counts)")),
]
MISTAKES["14.1"] = [
    ("asks for the opposite", Edit("!= alone", "== alone")),
    ("compares the whole", Edit("joined[: len(alone)] != alone", "joined == alone")),
    ("always warns", Edit("joined[: len(alone)] != alone", "True")),
    ("looks at the last character", Edit("joined[: len(alone)] != alone", 'prompt.endswith(" ")')),
    ("gives the ids", Edit("joined[: len(alone)] != alone", "joined")),
]
MISTAKES["14.6"] = [
    ("fills all of the memory", Edit("0.9 * cost", "1.0 * cost")),
    ("takes the smallest", Edit("int(max(fits))", "int(min(fits))")),
    ("gives the share in percent", Edit("share)", "100 * share)")),
    ("takes the other card", Edit("rtx-4090", "h100")),
    ("gives the rank alone", 64),
]
MISTAKES["14.8"] = [
    ("takes accuracy 1 for health", ("fine", "reference", "loss", "overdone")),
    ("exchanges loss and reference", ("overdone", "loss", "reference", "fine")),
    ("takes D for the loss", ("overdone", "reference", "fine", "loss")),
    ("gives a word twice", ("overdone", "reference", "loss", "loss")),
    ("gives one word", "fine"),
]
