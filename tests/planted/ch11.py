"""Planted errors of chapter 11: wrong stops, wrong ends, and losses taken for each other."""

PLANTED = [
    # where the pulls balance
    ("the label for the margin", "rests = STOPS[name](labels20)", "rests = labels20"),
    # other shapes of the same margin
    ("IPO tilted by reward", "(problems.ref_logps + rate20 / 0.5)", "(problems.ref_logps + problems.reward / 0.5)"),
    ("another beta", "tabular.optimal_policy(problems, 0.5)", "tabular.optimal_policy(problems, 1.0)"),
    ("another share of flips than robust is told", "0.1 * library(", "0.2 * library("),
    # by the token
    ("the whole log-ratio", "(found20 - problems.ref_logps) / sizes20", "found20 - problems.ref_logps"),
    ("a reference in SimPO", "(problems.reward / 0.5).log_softmax(-1)", "optimum20"),
    # an opinion on each answer
    ("losers weighed as winners", "(1 - shares) * push", "shares * push"),
    ("one draw in place of two", "density20 = 2 * problems", "density20 = problems"),
    ("a density for a classifier", "torch.logit(rate20)).exp()", "(2 * rate20).log()).exp()"),
    ("another loss for KTO", 'library("apo_zero", one20, other20)', 'library("bco_pair", one20, other20)'),
]  # fmt: skip
