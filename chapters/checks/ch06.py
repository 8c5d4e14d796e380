"""The checks of chapter 6: an optimum and its height, a beta for a share, an estimator of KL, token rewards, best-of-4,
a rarer style, four reports."""

import math

import torch

from checks import Wrong, close, exercise, expect, function, number, tensor


@exercise("6.1")
def optimum_and_height(answer):
    """(0.2 e^2 / Z, 0.5 log Z) with Z = 0.8 + 0.2 e^2."""
    if not isinstance(answer, (tuple, list)) or len(answer) != 2:
        raise Wrong("Give two numbers: the probability, then V.", "要给两个数：先概率，后 V。")
    share, height = map(number, answer)
    total = 0.8 + 0.2 * math.exp(2)
    expect(
        0 < share < 1,
        "A probability is between 0 and 1; divide by Z.",
        "概率在 0 和 1 之间：要除以 Z。",
    )
    expect(
        abs(share - 0.8 / total) > 2e-3,
        "That is the first answer; its reward is 0.",
        "这是第一个回答，它的奖励是 0。",
    )
    expect(
        abs(share - 1 / (1 + math.exp(-2))) > 2e-3,
        "The reference is missing: multiply by 0.8 and 0.2.",
        "漏了参考策略：要分别乘上 0.8 和 0.2。",
    )
    expect(
        abs(share - 0.2 * math.exp(0.5) / (0.8 + 0.2 * math.exp(0.5))) > 2e-3,
        "The reward is divided by beta, not multiplied.",
        "奖励要除以 β，不是乘。",
    )
    expect(
        abs(share - 0.2 * math.exp(2) / total) < 2e-3,
        "The probability: 0.2 times e², divided by Z.",
        "概率是 0.2 乘 e²，再除以 Z。",
    )
    expect(
        abs(height - math.log(total)) > 2e-3,
        "That is log Z; V is beta times as much.",
        "这是 log Z；V 还要乘 β。",
    )
    expect(
        abs(height - total) > 2e-3,
        "That is Z; take its logarithm, times beta.",
        "这是 Z；取对数，再乘 β。",
    )
    close(
        height,
        0.5 * math.log(total),
        "V is beta times the logarithm of Z.",
        "V 等于 β 乘 log Z。",
        within=2e-3,
    )


@exercise("6.2")
def beta_for_a_share(answer):
    """1 / log 21."""
    beta = number(answer)
    expect(beta > 0, "beta is above 0: the odds must grow.", "β 要大于 0：几率应当变大。")
    expect(abs(beta - math.log(21)) > 0.01, "That is 1/beta.", "这是 1/β。")
    expect(
        abs(beta - 1 / math.log(9)) > 5e-3,
        "That would be right for a reference at 50 %; it stands at 30 %.",
        "参考策略的比例若是 50%，这个答案才对；这里是 30%。",
    )
    share = 0.3 * math.exp(1 / beta) / (0.3 * math.exp(1 / beta) + 0.7) if beta > 0.01 else 1.0
    close(
        share,
        0.9,
        f"With this beta the share is {share:.3f}.",
        f"这个 β 得到的比例是 {share:.3f}。",
        within=2e-3,
    )


@exercise("6.3")
def estimate_never_negative(answer):
    """exp(d) - 1 - d with d = log pi_ref - log pi, on the samples of pi."""
    k3 = function(answer)
    policy, ref = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.3, 0.5]], dtype=torch.float64)
    # one of each answer; weighted by the policy, the mean is exact
    values = tensor(k3(policy.log(), ref.log()), (3,))
    expect((values >= 0).all(), "Some of your values are negative.", "你的结果里有负数。")
    exact, turned = (policy * (policy / ref).log()).sum(), (ref * (ref / policy).log()).sum()
    found = (policy * values).sum()
    expect(
        abs(found - turned) > 1e-6 and abs((ref * values).sum() - turned) > 1e-6,
        "That estimates the other direction: the samples come from the policy.",
        "这估计的是另一个方向的 KL：样本是从策略抽的。",
    )
    close(
        found,
        exact,
        f"On average your values give {found:.3f} where the KL is {exact:.3f}.",
        f"你的结果平均是 {found:.3f}，而 KL 是 {exact:.3f}。",
        within=1e-9,
    )


@exercise("6.4")
def rewards_of_tokens(answer):
    """The penalty at every token of the answer, the reward at its last one."""
    token_rewards = function(answer)
    generator = torch.Generator().manual_seed(6)
    logps, ref_logps = -torch.rand(2, 3, 6, generator=generator, dtype=torch.float64)
    mask = torch.tensor([[0, 0, 1, 1, 1, 0], [0, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]]).bool()
    reward = torch.tensor([1.0, 0.0, 2.0], dtype=torch.float64)
    found = tensor(
        token_rewards(logps.clone(), ref_logps.clone(), mask.clone(), reward.clone(), 0.5), (3, 6)
    )
    expect(
        (found[~mask] == 0).all(),
        "Something stands outside the answer: prompt and padding get 0.",
        "回答以外有不是 0 的数：提示和填充的位置都应是 0。",
    )
    ratio = ((logps - ref_logps) * mask).sum(1)
    whole = reward - 0.5 * ratio
    expect(
        not torch.allclose(found.sum(1), reward + 0.5 * ratio),
        "The penalty has the wrong sign.",
        "惩罚的符号反了。",
    )
    expect(
        not torch.allclose(found.sum(1), reward - 0.5 * ratio / mask.sum(1)),
        "The penalties of the tokens add up; do not divide by their number.",
        "各词元的惩罚要相加，不要除以词元数。",
    )
    expect(
        not torch.allclose(found.sum(1), reward * mask.sum(1) - 0.5 * ratio),
        "The reward is paid once, at the last token.",
        "奖励只在最后一个词元给一次。",
    )
    expect(
        torch.allclose(found.sum(1), whole),
        "A row should add up to the reward minus beta times the log-ratio.",
        "一行加起来，应等于奖励减去 β 倍的对数比。",
    )
    first = mask & (mask.int().cumsum(1) == 1)
    expect(
        torch.allclose(found[first], (-0.5 * (logps - ref_logps))[first]),
        "The reward belongs to the last token of the answer, not to another.",
        "奖励应加在回答的最后一个词元上，不是别处。",
    )


@exercise("6.5")
def price_of_best_of_four(answer):
    """(1 - 0.7^4, the KL between (0.7599, 0.2401) and (0.3, 0.7))."""
    if not isinstance(answer, (tuple, list)) or len(answer) != 2:
        raise Wrong("Give two numbers: the share, then the KL.", "要给两个数：先比例，后 KL。")
    share, spent = map(number, answer)
    best = 1 - 0.7**4
    turned = 0.3 * math.log(0.3 / best) + 0.7 * math.log(0.7 / (1 - best))
    expect(
        abs(share - 0.7**4) > 2e-3,
        "That is the share of no: all four fail.",
        "这是得「否」的比例：四个都没抽中。",
    )
    expect(
        abs(share - 0.3**4) > 2e-3,
        "One yes among the four is enough.",
        "四个里有一个「是」就够了。",
    )
    expect(
        share <= 1,
        "A share is at most 1; the four draws can say yes together.",
        "比例不超过 1：几个「是」可以同时抽到。",
    )
    close(
        share,
        best,
        "It is a no only if all four draws are.",
        "四个都是「否」，留下的才是「否」。",
        within=2e-3,
    )
    expect(
        abs(spent - math.log(4) + 3 / 4) > 2e-3,
        "That is the quoted formula, which is only an upper bound here.",
        "这是通行的公式，在这里只是上界。",
    )
    expect(
        abs(spent - turned) > 2e-3,
        "That is the other direction: average over best-of-n.",
        "方向反了：要按 best-of-n 的分布取平均。",
    )
    expect(
        abs(spent - best * math.log(best / 0.3)) > 2e-3,
        "The term of the no is missing.",
        "漏了「否」的那一项。",
    )
    exact = best * math.log(best / 0.3) + (1 - best) * math.log((1 - best) / 0.7)
    expect(
        abs(spent - exact / math.log(2)) > 2e-3,
        "That is in bits; KL is measured in nats.",
        "这是以比特计的；KL 以奈特计。",
    )
    close(
        spent,
        exact,
        "The KL has two terms, share times log-ratio, for yes and for no.",
        "KL 有两项，「是」「否」各一项，都是比例乘对数比。",
        within=2e-3,
    )


@exercise("6.6")
def a_rarer_style(answer):
    """The tilted share of 0.1 at beta 0.5, and the KL between the two shares."""
    if not isinstance(answer, (tuple, list)) or len(answer) != 2:
        raise Wrong("Give two numbers: the share, then the KL.", "要给两个数：先比例，后 KL。")
    share, spent = map(number, answer)
    odds = math.exp(2) / 9
    best = odds / (1 + odds)
    exact = best * math.log(best / 0.1) + (1 - best) * math.log((1 - best) / 0.9)
    turned = 0.1 * math.log(0.1 / best) + 0.9 * math.log(0.9 / (1 - best))
    expect(
        abs(share - 0.76) > 5e-3,
        "That is the world of the chapter; here the reference has 0.1.",
        "这是正文里的那个世界；这里参考策略的比例是 0.1。",
    )
    expect(
        abs(share - odds) > 5e-3,
        "Those are the odds; turn them into a share.",
        "这是几率，还要换成比例。",
    )
    expect(
        abs(share - 0.1 * math.exp(0.5) / (0.1 * math.exp(0.5) + 0.9)) > 5e-3,
        "The reward is divided by beta, not multiplied.",
        "奖励要除以 β，不是乘。",
    )
    close(
        share,
        best,
        "The odds of 0.1, times e².",
        "0.1 换成几率，再乘 e²。",
        within=2e-3,
    )
    expect(
        abs(spent - turned) > 2e-3,
        "That is the other direction: average over the optimum.",
        "方向反了：要按最优解取平均。",
    )
    expect(
        abs(spent - best * math.log(best / 0.1)) > 2e-3,
        "The term of the two-number answers is missing.",
        "漏了写两个数的那一项。",
    )
    close(
        spent,
        exact,
        "The KL has two terms, share times log-ratio.",
        "KL 有两项，都是比例乘对数比。",
        within=2e-3,
    )


@exercise("6.7")
def which_report_is_wrong(answer):
    """B is over the frontier; C is the optimum of beta 0.8."""
    if not isinstance(answer, (tuple, list)) or len(answer) != 3:
        raise Wrong(
            "Give three things: a letter, a letter, a number.",
            "要给三样：两个字母，一个数。",
        )
    wrong, best, beta = answer
    for letter in (wrong, best):
        expect(
            isinstance(letter, str) and letter in "ABCD" and len(letter) == 1,
            "The reports are called A, B, C and D.",
            "报告只有 A、B、C、D 四份。",
        )
    expect(
        wrong in "BC",
        "That report lies under the frontier: it may be poor, but it is possible.",
        "那份报告在前沿下面：也许不好，但有可能。",
    )
    expect(
        wrong == "B",
        "That report lies on the frontier, where optima are.",
        "那份报告在前沿上，那里都是最优解。",
    )
    expect(
        best == "C",
        "An optimum lies on the frontier, not under it and not over it.",
        "最优解在前沿上，不在下面，也不在上面。",
    )
    expect(
        abs(number(beta) - 1 / 0.8) > 0.05,
        "That is one over beta.",
        "这是 β 的倒数。",
    )
    expect(
        abs(number(beta) - 0.8) < 0.05,
        "Compare the KL of `optimal_policy(toy, b)` with 0.260.",
        "拿 `optimal_policy(toy, b)` 的 KL 与 0.260 比一比。",
    )
