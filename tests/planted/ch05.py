"""Planted errors of chapter 5: the standard error, Bradley-Terry's forms, the fit, the judges, the labels."""

PLANTED = [
    # two answers
    ("the slope of the log-odds turned over", "rise, 1 / (ratio * (1 - ratio)))", "rise, ratio * (1 - ratio))"),
    ("the slope not squared", "se_squared = rise**2 * ratio", "se_squared = rise * ratio"),
    ("one over the wins alone", "1 / won + 1 / lost, se_squared", "1 / won, se_squared"),
    # the model
    ("the loser in the numerator", "many_P, strength[:, :, None] /", "many_P, strength[:, None, :] /"),
    ("the transpose forgotten", "many_P + many_P.mT, torch", "many_P + many_P, torch"),
    (
        "the difference of rewards turned round",
        "truth[:, :, None] - truth[:, None, :])",
        "truth[:, None, :] - truth[:, :, None])",
    ),
    (
        "odds added along a path",
        "many_odds[:, :, :, None] * many_odds[:, None, :, :]",
        "many_odds[:, :, :, None] + many_odds[:, None, :, :]",
    ),
    ("a constant for each answer", "10 * torch.randn(INSTANCES, 1,", "10 * torch.randn(INSTANCES, ANSWERS,"),
    # the sigmoid from Gumbel noise
    (
        "a density that lacks a factor",
        "density = torch.exp(-g) * torch.exp(-torch.exp(-g))",
        "density = torch.exp(-torch.exp(-g))",
    ),
    (
        "the substitution without its derivative",
        "torch.trapezoid(torch.exp(-t * slope), t)",
        "torch.trapezoid(t * torch.exp(-t * slope), t)",
    ),
    ("the sign of the difference in the sigmoid", "1 / (1 + torch.exp(-d[:, 0]))", "1 / (1 + torch.exp(d[:, 0]))"),
    # gradient and fit
    (
        "expected wins minus wins",
        "gradient, (counts - expected_wins).sum(-1)",
        "gradient, (expected_wins - counts).sum(-1)",
    ),
    ("all comparisons counted as wins", "(counts - expected_wins).sum(-1))", "(played - expected_wins).sum(-1))"),
    ("the fit of exchanged labels", "fit(counts), best", "fit(counts.mT), best"),
    (
        "expected losses in place of wins",
        "(played * preference_probs(best)).sum(-1)",
        "(played * preference_probs(best).mT).sum(-1)",
    ),
    ("the truth compared without centring", "(fitted - centred).abs()", "(fitted - truth).abs()"),
    (
        "the truth of exchanged labels, uneven pairs",
        "tabular.comparisons(truth, pairs)",
        "tabular.comparisons(-truth, pairs)",
    ),
    # curvature
    (
        "the slope of sigma lacks a factor",
        "torch.sigmoid(anywhere) * torch.sigmoid(-anywhere)",
        "torch.sigmoid(anywhere)",
    ),
    ("the sign of the second derivatives", "-second_derivatives(anywhere, counts)", "second_derivatives(anywhere, counts)"),
    ("the weight counts the wins alone", "many_K = curvature(anywhere, counts)", "many_K = curvature(anywhere, counts / 2)"),
    ("differences not squared", "(v[:, i] - v[:, j]) ** 2", "(v[:, i] - v[:, j])"),
    ("no flat direction", "eigenvalues[:, 0].abs() < 1e-9", "eigenvalues[:, 0] > 1e-3"),
    ("two flat directions", "eigenvalues[:, 1] > 1)", "eigenvalues[:, 1] < 1e-9)"),
    ("islands with a bridge", "block_diag(torch.ones(3, 3), torch.ones(3, 3))", "ones(6, 6)"),
    (
        "three islands",
        "block_diag(torch.ones(3, 3), torch.ones(3, 3))",
        "block_diag(torch.ones(2, 2), torch.ones(2, 2), torch.ones(2, 2))",
    ),
    # intervals
    ("a loss adds no slope", "(1 - chance) * if_lost, torch", "0 * if_lost, torch"),
    ("the variance of wins alone", "+ (1 - chance) * if_lost**2)", "+ 0 * if_lost**2)"),
    ("the slope's variance is that of one comparison", "variance = games * (", "variance = ("),
    ("the curvature at other rewards", "curvature(best, counts), rtol", "curvature(anywhere, counts), rtol"),
    ("the covariance added, two answers", "D[:, 1, 1] - 2 * D[:, 0, 1]", "D[:, 1, 1] + 2 * D[:, 0, 1]"),
    ("the covariance counted once", "own[:, -1:] - 2 * covariance[:, :, -1]", "own[:, -1:] - covariance[:, :, -1]"),
    # three routes
    ("the loss is the sum, not the mean", "-log_likelihood(anywhere, counts) / 3_000", "-log_likelihood(anywhere, counts)"),
    (
        "descent with winners and losers exchanged",
        "tabular.bradley_terry_nll(r, counts), start",
        "tabular.bradley_terry_nll(r, counts.mT), start",
    ),
    (
        "a regression on the losses",
        "features, observed = edges[:, :-1], counts[:, i, j] / games",
        "features, observed = edges[:, :-1], counts[:, j, i] / games",
    ),
    # judges
    ("the flip counted once", "one_way = (1 - epsilon) * torch", "one_way = torch"),
    ("a random answer counted as wrong", "torch.sigmoid(d) + 0.1 / 2", "torch.sigmoid(d) + 0.1"),
    ("the log-odds of the other answer", "of_pair[:, 1], torch.logit(share)", "of_pair[:, 1], torch.logit(1 - share)"),
    ("the slope at zero counts the flip once", "rise, 1 - 2 * epsilon)", "rise, 1 - epsilon)"),
    ("the fit falls as the difference grows", "torch.linspace(-20, 20, 401)", "torch.linspace(20, -20, 401)"),
    ("the cap turned over", "limit = ((1 - epsilon) / epsilon).log()", "limit = (epsilon / (1 - epsilon)).log()"),
    ("the cap counts the flip twice", "limit = ((1 - epsilon) / epsilon)", "limit = ((1 - 2 * epsilon) / epsilon)"),
    ("a cap too high", "limit = ((1 - epsilon) / epsilon)", "limit = (1 / epsilon)"),
    ("the odds of a flipping judge multiply", "(epsilon, True)", "(epsilon, False)"),
    ("the whole way is its first step", "middle - low, high - low)", "middle - low, high - middle)"),
    ("more flips than half", "(epsilon, True)", "(1.5 * epsilon, True)"),
    ("KL in the other direction", "tabular.kl(*shares)", "tabular.kl(*shares[::-1])"),
    ("G squared without its 2", "by_coin = 2 * played", "by_coin = played"),
    ("a mixture of equal groups", "SEED + 100).reward", "SEED).reward"),
    ("odds added over the detour and the way", "over - direct[:, :, None, :]", "over + direct[:, :, None, :]"),
    ("the way back in place of the way", "over - direct[:, :, None, :]", "over - direct.mT[:, :, None, :]"),
    ("the order of losses", "mixture.sum(-1).argsort(-1)", "mixture.sum(-2).argsort(-1)"),
    # labels
    ("the label of the other answer", "pair_loss(q, h), bradley_terry_loss(h, q)", "pair_loss(1 - q, h), bradley_terry_loss(h, q)"),
    (
        "the draw with the wrong probability",
        "drawn = q * bradley_terry_loss(h, one)",
        "drawn = (1 - q) * bradley_terry_loss(h, one)",
    ),
    ("KL of the labels in the other direction", "coin_kl = q * (q / said).log()", "coin_kl = said * (said / q).log()"),
    ("the best margin is q", "pair_loss(q, torch.logit(q)), entropy", "pair_loss(q, q), entropy"),
    ("the floor reached everywhere", "pair_loss(q, h) > entropy", "pair_loss(q, h) < entropy + 1e-9"),
    ("the chance of the other outcome", "chance * small[:, winner, loser]", "chance * small[:, loser, winner]"),
]
