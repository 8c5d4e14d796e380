"""Planted errors of chapter 12: the policy gradient, its baselines, its leash, and its link to DPO, each gone wrong."""

PLANTED = [
    # the policy gradient
    ("the reward without the leash", "net[..., None] * push).sum(1), exact)",
     "problem.reward[..., None] * push).sum(1), exact)"),
    ("the draws not weighted by the policy", "(p[..., None] * net[..., None]", "(net[..., None]"),
    ("the KL turned round", "exact = slope(objective(logits.log_softmax(-1), problem, beta[:, 0]))",
     "exact = slope(mean(logits.log_softmax(-1), problem.reward) - beta[:, 0] * kl(problem.ref_logps, logits.log_softmax(-1)))"),
    # baselines
    ("the others divided by all", "- drawn) / (K - 1)", "- drawn) / K"),
    ("the answer itself among the others", "(drawn.sum(-1, keepdim=True) - drawn)", "drawn.sum(-1, keepdim=True)"),
    ("the mean of all thought to be unbiased", "(1 - 1 / K) * exact)  # shorter", "exact)  # shorter"),
    ("another method of the library", '"leave_one_out").view_as', '"group").view_as'),
    # DPO seen from here
    ("the margin with the wrong sign", "gap - h)\n", "gap + h)\n"),
    ("the pairs not weighted", "(weight[..., None] * (gap - h)", "((gap - h)"),
    ("beta forgotten in DPO's pull", "by_hand = beta[..., None] * (", "by_hand = ("),
    ("the label turned round", "assert torch.equal((gap - h).sign(), (gap.sigmoid()",
     "assert torch.equal((gap - h).sign(), (-gap.sigmoid()"),
    # the leash
    ("k1 thought to pull", 'assert torch.allclose(pulls["k1"], torch.zeros_like(exact))',
     'assert torch.allclose(pulls["k1"], slope(kl(logps, problem.ref_logps)))'),
    ("k2 thought to be turned round", 'pulls["k2"], slope(kl(logps, problem.ref_logps))',
     'pulls["k2"], slope(kl(problem.ref_logps, logps))'),
    ("k3 thought to pull at the same KL", 'pulls["k3"], slope(kl(problem.ref_logps, logps))',
     'pulls["k3"], slope(kl(logps, problem.ref_logps))'),
    ("k3 thought to end at the optimum", "end = other_optimum(problem, beta).exp()", "end = optimal_policy(problem, beta).exp()"),
    ("the first fork sees the reference beyond", "ahead = mean(second, worth).detach()", "ahead = mean(second_ref, worth)"),
    ("the ratio left out of the loss", 'logps.detach(), problem.ref_logps, "ratio_k3")',
     'logps.detach(), problem.ref_logps, "k3")'),
    ("the ratio thought to change nothing", 'slope((p * both).sum(-1)), pulls["k2"]', 'slope((p * both).sum(-1)), pulls["k3"]'),
    ("the ends of the two terms exchanged", '(("k3", other_optimum), ("ratio_k3", optimal_policy))',
     '(("k3", optimal_policy), ("ratio_k3", other_optimum))'),
    ("the later penalty heard by the first fork", "gained = whole.detach().exp()", "gained = whole.exp()"),
    ("the forks thought to be one choice", "(solve(answers, beta) - whole.flatten(1))",
     "(whole.flatten(1) - whole.flatten(1))"),
    # ratios
    ("the sign of a loss", "for_now, -exact)", "for_now, exact)"),
    ("the ratio forgotten", "(logps - wander).exp() * advantage", "logps * advantage"),
    ("the ratio upside down", "(wander.exp() * (logps - wander).exp()", "(wander.exp() * (wander - logps).exp()"),
]  # fmt: skip
