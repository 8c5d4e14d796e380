"""Planted errors of chapter 5: the standard error, Bradley-Terry's forms, the fit, the judges, the labels."""

PLANTED = [
    # two answers
    ("the slope of the log-odds turned over", "slope, 1 / (q * (1 - q)))", "slope, q * (1 - q))"),
    ("the slope not squared", "slope**2 * q * (1 - q) / (won + lost)", "slope * q * (1 - q) / (won + lost)"),
    ("one over the wins alone", "1 / won + 1 / lost, se_squared", "1 / won, se_squared"),
    # the model
    ("the loser in the numerator", "share = truth.exp()[:, :, None] /", "share = truth.exp()[:, None, :] /"),
    ("the transpose forgotten", "p + p.mT, torch.ones_like(p)", "p + p, torch.ones_like(p)"),
    (
        "the difference of rewards turned round",
        "truth[:, :, None] - truth[:, None, :])",
        "truth[:, None, :] - truth[:, :, None])",
    ),
    (
        "odds added along a path",
        "odds[:, :, :, None] * odds[:, None, :, :]",
        "odds[:, :, :, None] + odds[:, None, :, :]",
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
        "torch.exp(-t * (1 + torch.exp(-d))), t)",
        "t * torch.exp(-t * (1 + torch.exp(-d))), t)",
    ),
    (
        "the sign of the difference in the sigmoid",
        "1 / (1 + torch.exp(-delta[:, 0]))",
        "1 / (1 + torch.exp(delta[:, 0]))",
    ),
    # gradient and curvature
    (
        "the slope of log sigma is sigma",
        "(logsigmoid(z).sum(), z)[0], 1 - torch.sigmoid(z))",
        "(logsigmoid(z).sum(), z)[0], torch.sigmoid(z))",
    ),
    ("expected wins minus wins", "slope, (counts - expected).sum(-1)", "slope, (expected - counts).sum(-1)"),
    ("all comparisons counted as wins", "(counts - expected).sum(-1))", "(n - expected).sum(-1))"),
    ("the slope of sigma lacks a factor", "torch.sigmoid(z) * torch.sigmoid(-z)", "torch.sigmoid(z)"),
    ("the sign of the Laplacian's edges", "K, a.sum(-1).diag_embed() - a)", "K, a.sum(-1).diag_embed() + a)"),
    ("the weight lacks the loser's probability", "a = expected * tabular.preference_probs(at).mT", "a = expected"),
    ("differences not squared", "(v[:, i] - v[:, j]) ** 2", "(v[:, i] - v[:, j])"),
    ("no flat direction", "flatness[:, 0].abs() < 1e-9", "flatness[:, 0] > 1e-3"),
    ("two flat directions", "flatness[:, 1] > 1)", "flatness[:, 1] < 1e-9)"),
    ("islands with a bridge", "block_diag(torch.ones(3, 3), torch.ones(3, 3))", "ones(6, 6)"),
    (
        "three islands",
        "block_diag(torch.ones(3, 3), torch.ones(3, 3))",
        "block_diag(torch.ones(2, 2), torch.ones(2, 2), torch.ones(2, 2))",
    ),
    # three routes
    ("the loss is the sum, not the mean", "-log_likelihood(at, counts) / 3_000", "-log_likelihood(at, counts)"),
    (
        "descent with winners and losers exchanged",
        "tabular.bradley_terry_nll(r, counts), torch.zeros",
        "tabular.bradley_terry_nll(r, counts.mT), torch.zeros",
    ),
    (
        "features without their minus",
        "torch.eye(ANSWERS)[i] - torch.eye(ANSWERS)[j]",
        "torch.eye(ANSWERS)[i] + torch.eye(ANSWERS)[j]",
    ),
    (
        "expected losses in place of wins",
        "(n * tabular.preference_probs(newton)).sum(-1)",
        "(n * tabular.preference_probs(newton).mT).sum(-1)",
    ),
    (
        "the truth compared without centring, all pairs equal",
        "comparisons(truth, uniform))[0] - centred)",
        "comparisons(truth, uniform))[0] - truth)",
    ),
    (
        "the truth of exchanged labels, uneven pairs",
        "tabular.comparisons(truth, uneven)",
        "tabular.comparisons(-truth, uneven)",
    ),
    # intervals
    ("a loss adds no slope", "(1 - win) * if_lost, torch", "0 * if_lost, torch"),
    ("the variance of wins alone", "+ (1 - win) * if_lost**2)", "+ 0 * if_lost**2)"),
    ("the slope's variance is that of one comparison", "variance = games * (", "variance = ("),
    ("the curvature at other rewards", "curvature(newton, counts), rtol", "curvature(at, counts), rtol"),
    ("the covariance added, two answers", "D[:, 1, 1] - 2 * D[:, 0, 1]", "D[:, 1, 1] + 2 * D[:, 0, 1]"),
    ("the covariance counted once", "own[:, -1:] - 2 * C[:, :, -1]", "own[:, -1:] - C[:, :, -1]"),
    # judges
    ("the flip counted once", "return epsilon + (1 - 2 * epsilon)", "return epsilon + (1 - epsilon)"),
    ("the odds without the logarithm", "(share / (1 - share)).log()[:, 0]", "(share / (1 - share))[:, 0]"),
    ("the slope at zero counts the flip once", "slope, 1 - 2 * epsilon)", "slope, 1 - epsilon)"),
    ("the fit falls as the difference grows", "torch.linspace(-20, 20, 401)", "torch.linspace(20, -20, 401)"),
    ("the cap turned over", "cap = ((1 - epsilon) / epsilon).log()", "cap = (epsilon / (1 - epsilon)).log()"),
    ("the cap counts the flip twice", "cap = ((1 - epsilon) / epsilon)", "cap = ((1 - 2 * epsilon) / epsilon)"),
    ("a cap too high", "cap = ((1 - epsilon) / epsilon)", "cap = (1 / epsilon)"),
    ("the odds of a flipping judge multiply", "surplus(epsilon) > 0", "surplus(epsilon).abs() < 1e-9"),
    ("the whole way is its first step", "middle - low, high - low)", "middle - low, high - middle)"),
    ("more flips than half", "surplus(epsilon) > 0", "surplus(1.5 * epsilon) > 0"),
    ("a random answer counted as wrong", "torch.sigmoid(gap) + 0.1 / 2", "torch.sigmoid(gap) + 0.1"),
    (
        "KL in the other direction",
        "tabular.kl(*coins(observed, fitted_share))",
        "tabular.kl(*coins(fitted_share, observed))",
    ),
    ("G squared without its 2", "misfit(counts), 2 * (games", "misfit(counts), (games"),
    ("a mixture of equal groups", "SEED + 100).reward", "SEED).reward"),
    (
        "odds added over the detour and the way",
        "None, :, :] - log_odds[:, :, None, :])",
        "None, :, :] + log_odds[:, :, None, :])",
    ),
    (
        "the way back in place of the way",
        "None, :, :] - log_odds[:, :, None, :])",
        "None, :, :] - log_odds.mT[:, :, None, :])",
    ),
    ("the order of losses", "mixture.sum(-1).argsort(-1)", "mixture.sum(-2).argsort(-1)"),
    # labels
    (
        "the draw with the wrong probability",
        "drawn = q * bradley_terry_loss(h, one)",
        "drawn = (1 - q) * bradley_terry_loss(h, one)",
    ),
    ("the second term with the sign of the first", "(1 - q) * logsigmoid(-h)", "(1 - q) * logsigmoid(h)"),
    ("KL of the labels in the other direction", "coins(q, torch.sigmoid(h))", "coins(torch.sigmoid(h), q)"),
    ("the best margin is q", "bradley_terry_loss(torch.log(q / (1 - q)), q)", "bradley_terry_loss(q, q)"),
    ("the floor reached everywhere", "bradley_terry_loss(h, q) > entropy", "bradley_terry_loss(h, q) < entropy + 1e-9"),
    ("the chance of the other outcome", "chance * small[:, winner, loser]", "chance * small[:, loser, winner]"),
]
