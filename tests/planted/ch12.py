"""Planted errors of chapter 12: the policy gradient, its baselines, its leash, and its link to DPO, each gone wrong."""

PLANTED = [
    # the policy gradient
    ("the reward without the leash", "net[..., None] * push).sum(1), climb)",
     "many.reward[..., None] * push).sum(1), climb)"),
    ("the draws not weighted by the policy", "(p[..., None] * net[..., None]", "(net[..., None]"),
    ("the KL turned round", "climb = slope(objective(logps, many, strength[:, 0]))",
     "climb = slope(mean(logps, many.reward) - strength[:, 0] * kl(many.ref_logps, logps))"),
    # baselines
    ("the mean of all thought to be unbiased", '("group", 1 - 1 / 3)', '("group", 1)'),
    ("the mean of the others thought to shorten", '("leave_one_out", 1)', '("leave_one_out", 1 - 1 / 3)'),
    ("the mean of all for that of the others", '(("leave_one_out", 1)', '(("group", 1)'),
    # DPO seen from here
    ("the margin with the wrong sign", "gap - h)\n", "gap + h)\n"),
    ("the pairs not weighted", "(weight[..., None] * (gap - h)", "((gap - h)"),
    ("beta forgotten in DPO's pull", "push_of_dpo = strength[..., None] * (", "push_of_dpo = ("),
    ("the label turned round", "assert torch.equal((gap - h).sign(), (gap.sigmoid()",
     "assert torch.equal((gap - h).sign(), (-gap.sigmoid()"),
    # the leash
    ("the estimates of the KL turned round", "kl_estimate(logps, many.ref_logps, name)",
     "kl_estimate(many.ref_logps, logps, name)"),
    ("k1 thought to pull", 'found["k1"], torch.zeros_like(climb)', 'found["k1"], slope(kl(logps, many.ref_logps))'),
    ("k2 thought to be turned round", 'found["k2"], slope(kl(logps, many.ref_logps))',
     'found["k2"], slope(kl(many.ref_logps, logps))'),
    ("k3 thought to pull at the same KL", 'found["k3"], slope(kl(many.ref_logps, logps))',
     'found["k3"], slope(kl(logps, many.ref_logps))'),
    ("the ratio thought to change nothing", 'found["ratio_k3"], found["k2"]', 'found["ratio_k3"], found["k3"]'),
    ("the ratio left out of the loss", 'logps.detach(), many.ref_logps, "ratio_k3")',
     'logps.detach(), many.ref_logps, "k3")'),
    ("k3 thought to end at the optimum", "rests = other_optimum(many, strength).exp()",
     "rests = optimal_policy(many, strength).exp()"),
    # forks
    ("the first fork sees the reference beyond", "ahead_of = mean(leaf, worth).detach()",
     "ahead_of = mean(leaf_ref, worth)"),
    ("the ends of the two terms exchanged", '(("k3", other_optimum), ("ratio_k3", optimal_policy))',
     '(("k3", optimal_policy), ("ratio_k3", other_optimum))'),
    ("the later penalty heard by the first fork", "worth_it = both.detach().exp()", "worth_it = both.exp()"),
    ("the forks thought to be one choice", "- both.flatten(1))", "- optimal_policy(nine, strength))"),
    # ratios
    ("the sign of a loss", "fresh, -climb)", "fresh, climb)"),
    ("the ratio forgotten", "(logps - stale).exp() * above_mean", "logps * above_mean"),
    ("the ratio upside down", "(stale.exp() * (logps - stale).exp()", "(stale.exp() * (stale - logps).exp()"),
    # the small world of exercise 12.7
    ("the leash thought not to be tightened", "small_world(2) - 0.538", "small_world(2) - 0.760"),
]  # fmt: skip
