"""Planted errors of chapter 6: the other direction, the token tree, the two routes, V, the ends of beta, best-of-n."""

PLANTED = [
    # reward alone
    (
        "a mean above its largest term",
        "assert ((rivals * r).sum(-1) < r.amax(-1))",
        "assert ((rivals * r).sum(-1) > r.amax(-1))",
    ),
    ("all weight on the worst", "one_hot(r.argmax(-1), 6)", "one_hot(r.argmin(-1), 6)"),
    # the leash
    ("a policy that keeps to the support", "(kl(problem.ref_logps, cut) ==", "(kl(cut, problem.ref_logps) =="),
    ("the price of what is kept", "-(1 - ref[:, 0]).log())", "-ref[:, 0].log())"),
    ("the price as a share", "-(1 - ref[:, 0]).log())", "ref[:, 0])"),
    # the other direction of KL
    (
        "half the probabilities",
        "swapped, lam = other_direction(ref, r, beta)",
        "swapped, lam = (x / 2 for x in other_direction(ref, r, beta))",
    ),
    ("lambda without beta", "lam[:, 0], (swapped * r).sum(-1) + beta[:, 0]", "lam[:, 0], (swapped * r).sum(-1)"),
    ("the optimum of the other direction", "other_optimum(problem, beta)", "optimal_policy(problem, beta)"),
    (
        "the direction of the objective",
        "kl(problem.ref_logps, z.log_softmax(-1))",
        "kl(z.log_softmax(-1), problem.ref_logps)",
    ),
    # the leash, token by token
    ("one token's ratio", "[..., None] + (second - second_ref)", "[..., None] - (second - second_ref)"),
    ("forks weighted by the reference", "(first.exp() * kl(second", "(first_ref.exp() * kl(second"),
    ("a mean over forks", "(first.exp() * kl(second, second_ref)).sum(-1)", "kl(second, second_ref).mean(-1)"),
    # the multiplier
    ("beta multiplies the reward", "tilted = ref * torch.exp(r / beta)", "tilted = ref * torch.exp(r * beta)"),
    ("Z dropped", "star = tilted / Z", "star = tilted"),
    ("the 1 of the derivative dropped", "slope, beta * Z.log() - beta)", "slope, beta * Z.log())"),
    ("the reference in place of the optimum", "at_star = star.clone()", "at_star = ref.clone()"),
    (
        "an answer that the reference never writes",
        "optimal_policy(Problem(cut, r), beta).exp() > 0",
        "optimal_policy(problem, beta).exp() > 0",
    ),
    ("convex in place of concave", "assert (gap > 0)", "assert (gap < 0)"),
    ("the worse of the two for their mean", "- (J(a) + J(b)) / 2", "- torch.minimum(J(a), J(b))"),
    (
        "the gap without its half",
        "assert torch.allclose(gap, beta[:, 0] / 2 *",
        "assert torch.allclose(gap, beta[:, 0] *",
    ),
    ("the other side of the midpoint", "(b * (b / halfway).log())", "(halfway * (halfway / b).log())"),
    ("the reference is best", "assert (J(star) > J(rivals)", "assert (J(ref) > J(rivals)"),
    # completing the KL
    (
        "beta missing before the KL",
        "(rivals * r).sum(-1) - beta[:, 0] * kl(rivals.log(), p",
        "(rivals * r).sum(-1) - kl(rivals.log(), p",
    ),
    ("beta left behind", "torch.exp(r / beta).log() - ratio", "torch.exp(r).log() - ratio"),
    ("Z dropped from the numerator", "(Z * star / rivals).log()", "(star / rivals).log()"),
    (
        "the KL to the reference",
        "(beta * Z.log())[:, 0] - beta[:, 0] * kl(rivals.log(), star.log())",
        "(beta * Z.log())[:, 0] - beta[:, 0] * kl(rivals.log(), problem.ref_logps)",
    ),
    (
        "the KL turned round",
        "[:, 0] - beta[:, 0] * kl(rivals.log(), star.log())",
        "[:, 0] - beta[:, 0] * kl(star.log(), rivals.log())",
    ),
    ("the height without beta", "J(star), (beta * Z.log())[:, 0]", "J(star), Z.log()[:, 0]"),
    (
        "the gap in the other direction",
        "beta[:, 0] * (rivals * (rivals / star)",
        "beta[:, 0] * (star * (star / rivals)",
    ),
    ("the gap without beta", "misses = beta[:, 0] * (", "misses = ("),
    # Gibbs' inequality
    ("the logarithm above its tangent", "pieces = u - 1 - u.log()", "pieces = u.log() - u + 1"),
    ("the ratio upside down", "u = star / rivals", "u = rivals / star"),
    ("the free sum is not free", "(rivals * (u - 1)).sum(-1), torch.zeros", "(rivals * u).sum(-1), torch.zeros"),
    ("the wrong one averages", "(rivals * pieces).sum(-1)", "(star * pieces).sum(-1)"),
    (
        "another policy has a KL of zero too",
        "kl(star.log(), optimal_policy(problem, beta))",
        "kl(star.log(), optimal_policy(problem, 2 * beta))",
    ),
    ("left-out answers cost nothing", "third + left_out, kl_of_short", "third, kl_of_short"),
    ("the free sum, answers left out", "(there - 1)).sum(-1), -left_out)", "(there - 1)).sum(-1), 0 * left_out)"),
    # V
    ("log Z taken for V", "V = beta[:, 0] * log_partition(problem, beta)", "V = log_partition(problem, beta)"),
    ("V below the mean", "((ref * r).sum(-1) < V).all()", "((ref * r).sum(-1) > V).all()"),
    ("the bound's sign", "r.amax(-1) + beta[:, 0] * (ref * best)", "r.amax(-1) - beta[:, 0] * (ref * best)"),
    ("the bound without beta", "r.amax(-1) + beta[:, 0] * (ref * best)", "r.amax(-1) + (ref * best)"),
    ("the root of beta", "r.amax(-1) + beta[:, 0] * (ref * best)", "r.amax(-1) + beta[:, 0] ** 0.5 * (ref * best)"),
    (
        "the best answers, under the reference twice",
        "floor - beta[:, 0] * (star * best)",
        "floor - beta[:, 0] * (ref * best)",
    ),
    ("the bound from above", "assert (floor < V)", "assert (floor > V)"),
    ("log Z of equal rewards", "(beta[:, 0] * log_partition(flat, beta) - 3)", "(log_partition(flat, beta) - 3)"),
    ("beta missing under the log-ratio", "(r - V[:, None]) / beta)", "r - V[:, None])"),
    ("what is above the average gains", "(star < ref)[between]", "(star > ref)[between]"),
    ("better than average gains", "r > V[:, None])", "r > (ref * r).sum(-1, keepdim=True))"),
    ("the constant is lost", "log_partition(lifted, beta), V + 5", "log_partition(lifted, beta), V"),
    (
        "the constant for one answer only",
        "optimal_policy(lifted, beta), star.log()",
        "optimal_policy(Problem(problem.ref_logps, r + 5 * best), beta), star.log()",
    ),
    # derivatives
    ("V rises with beta", "dV, -kl(star", "dV, kl(star"),
    (
        "the KL turned round in the slope",
        "assert torch.allclose(dV, -kl(star.log(), problem.ref_logps))",
        "assert torch.allclose(dV, -kl(problem.ref_logps, star.log()))",
    ),
    ("the slope not divided by beta", "(V - (star * r).sum(-1)) / beta[:, 0])", "V - (star * r).sum(-1))"),
    (
        "the second moment for the variance",
        "spread = (star * r**2).sum(-1) - (star * r).sum(-1) ** 2",
        "spread = (star * r**2).sum(-1)",
    ),
    (
        "the reference's variance",
        "spread = (star * r**2).sum(-1) - (star * r)",
        "spread = (ref * r**2).sum(-1) - (ref * r)",
    ),
    ("the half forgotten", "variance / (2 * large)", "variance / large"),
    # the ends of beta
    ("ties shared equally", "top / p_max)", "top.sign() / top.sign().sum(-1, keepdim=True))"),
    ("the KL of the end has no logarithm", "(1 / p_max[:, 0]).log()", "1 / p_max[:, 0]"),
    ("the other end", "optimal_policy(problem, 1e12)", "optimal_policy(problem, 1e-2)"),
    ("the mean not taken off", "r - (ref * r).sum(-1, keepdim=True), atol", "r, atol"),
    # the frontier
    ("the KL of the optimum with Z's sign turned", "reward_at - Z.log()[:, 0]", "reward_at + Z.log()[:, 0]"),
    ("the KL of the optimum without s", "nats_at = inverse[:, 0] * reward_at", "nats_at = reward_at"),
    ("flatter than the lower price", "(prices[:-1] * less_kl - 1e-12", "(prices[1:] * less_kl - 1e-12"),
    ("steeper than the higher price", "prices[1:] * less_kl + 1e-12", "prices[:-1] * less_kl + 1e-12"),
    ("slope one over beta", "dr / dkl, beta)", "dkl / dr, beta)"),
    ("the KL rises without s", "dkl[:, 0], spread / beta[:, 0]", "dkl[:, 0], spread"),
    ("the lines lose their slope", "heights_at[:, None, :] + prices * top_kl", "heights_at[:, None, :] + top_kl"),
    ("the lines fall", "heights_at + prices * rival_kl", "heights_at - prices * rival_kl"),
    ("a nat paid twice", "heights_at + prices * rival_kl", "heights_at + 2 * prices * rival_kl"),
    ("the lines for rivals forget V", "= heights_at + prices * rival_kl", "= 0 * heights_at + prices * rival_kl"),
    ("the shortfall without its price", "rival_reward[..., None], prices * apart", "rival_reward[..., None], apart"),
    ("rivals above the lines", "(rival_reward[..., None] < lines)", "(rival_reward[..., None] > lines)"),
    # best of n
    ("the other way round", "best_of(3, ref, tied.reward), listed", "best_of(3, ref, -tied.reward), listed"),
    ("one draw fewer", "best_of(3, ref, tied.reward), listed", "best_of(2, ref, tied.reward), listed"),
    ("the last of the triple", "values.argmax(-1)", "(values.argmax(-1) * 0 + 2)"),
    ("the best of two", "best_of_n(tied, 3)", "best_of_n(tied, 2)"),
    # its KL
    ("the bound taken too low", "bound = math.log(n) - (n - 1) / n", "bound = math.log(n) - 1"),
    (
        "n - 1 without its n",
        "abs(exactly - (math.log(n) - (n - 1) / n))",
        "abs(exactly - (math.log(n) - (n - 1)))",
    ),
    ("log n alone", "abs(exactly - (math.log(n) - (n - 1) / n))", "abs(exactly - math.log(n))"),
    ("n times p", "exp(), 1 - (1 - p) ** n", "exp(), n * p"),
    ("all must succeed", "exp(), 1 - (1 - p) ** n)", "exp(), p**n)"),
    ("the integral without its n", "allclose(integral, -1 / powers[:, 0]", "allclose(integral, -1 / powers[:, 0] ** 2"),
    ("the limit of the other answer", "limit = -p.log()", "limit = -(1 - p).log()"),
    ("twice the limit", "limit = -p.log()", "limit = -2 * p.log()"),
    ("more draws, less KL", "(spends.diff(dim=0) >= -1e-12)", "(spends.diff(dim=0) <= 1e-12)"),
    ("above the limit", "(spends <= limit + 1e-12)", "(spends >= limit + 1e-12)"),
    # classes
    (
        "rewards differ within a class",
        "whole = Problem(of_texts, class_reward @ member.T)",
        "whole = Problem(of_texts, torch.cat((r, -r), -1))",
    ),
    (
        "the classes forget the reference",
        "totals = Problem((whole.ref_logps.exp() @ member).log(), class_reward)",
        "totals = Problem((whole.ref_logps.exp() @ member).log() * 0, class_reward)",
    ),
    (
        "equal shares within a class",
        "assert torch.allclose(best_whole - best_totals @ member.T, inside)",
        "assert torch.allclose(best_whole - best_totals @ member.T, inside * 0 - math.log(4))",
    ),
    ("the KL turned round between classes", "kl(best_totals, totals.ref_logps)", "kl(totals.ref_logps, best_totals)"),
    ("the reference's odds forgotten", "share = p * odds / (p * odds + 1 - p)", "share = odds / (odds + 1)"),
    ("beta multiplies the odds", "odds = torch.exp(1 / beta[:, 0])", "odds = torch.exp(beta[:, 0])"),
    ("log-odds grow by beta", "torch.logit(p) + 1 / beta[:, 0]", "torch.logit(p) + beta[:, 0]"),
    (
        "the best of four without its inverse",
        "matched = 1 / (torch.logit(1 - (1 - p) ** 4) - torch.logit(p))",
        "matched = torch.logit(1 - (1 - p) ** 4) - torch.logit(p)",
    ),
    # rejection sampling
    (
        "beta multiplies in the acceptance",
        "accept = torch.exp((r - r.amax(-1, keepdim=True)) / beta)",
        "accept = torch.exp((r - r.amax(-1, keepdim=True)) * beta)",
    ),
    ("the rate without the best reward", "rate, Z[:, 0] * torch.exp(-r.amax(-1) / beta[:, 0])", "rate, Z[:, 0]"),
    ("the rate from V without beta", "torch.exp(-(r.amax(-1) - V) / beta[:, 0])", "torch.exp(-(r.amax(-1) - V))"),
    (
        "the rate with beta times the KL",
        "torch.exp(-kl(star.log(), problem.ref_logps) -",
        "torch.exp(-beta[:, 0] * kl(star.log(), problem.ref_logps) -",
    ),
    (
        "the rate with half the KL",
        "torch.exp(-kl(star.log(), problem.ref_logps) -",
        "torch.exp(-kl(star.log(), problem.ref_logps) / 2 -",
    ),
    ("the bound taken for the rate", "problem.ref_logps) - slack)", "problem.ref_logps))"),
    ("the slack without beta", "- (star * r).sum(-1)) / beta[:, 0]  # never", "- (star * r).sum(-1))  # never"),
    (
        "weights not divided by their sum",
        "(ref * weights * r**2).sum(-1) / (ref * weights).sum(-1)",
        "(ref * weights * r**2).sum(-1)",
    ),
]
