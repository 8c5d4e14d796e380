"""The checks of chapter 9: optima by hand, who loses and who gains, floor, sampled labels, entropy, baselines, reports."""

import math

import numpy as np
import torch

from checks import Wrong, exercise, expect, function, number
from dpo_core.pairs import Pairs


@exercise("9.1")
def optimum_by_hand(answer):
    """The tilted share .3 e^2 / (.3 e^2 + .7)."""
    value = number(answer)
    expect(
        0 < value < 1,
        "A share is between 0 and 1; divide by the sum of the products.",
        "比例在 0 和 1 之间：要除以各乘积之和。",
    )
    expect(
        abs(value - 1 / (1 + math.exp(-2))) > 2e-3,
        "The base model's 30 % is missing: multiply each class by its share.",
        "漏了基座的 30%：每一类都要乘上它原来的比例。",
    )
    expect(
        abs(value - 0.3 * math.exp(0.5) / (0.3 * math.exp(0.5) + 0.7)) > 2e-3,
        "The reward is divided by beta, not multiplied.",
        "奖励要除以 β，不是乘。",
    )
    expect(
        abs(value - 0.76) < 3e-3,
        "Multiply each class's share by e to the reward over beta, then divide by the sum.",
        "每一类的比例乘以 e 的（奖励除以 β）次方，再除以总和。",
    )


@exercise("9.2")
def who_loses(answer):
    """-log Z of the toy."""
    value = number(answer)
    change = math.log(0.07459727 / 0.3)
    expect(
        abs(value + change) > 0.02,
        "Right in size, wrong in sign: does 0.3 become more or less?",
        "大小对，符号反了：0.3 是变大还是变小？",
    )
    expect(
        abs(value - 0.5 * change) > 0.02,
        "That is the implicit reward; divide it by beta to get nats.",
        "这是隐式奖励；换成奈特，还要除以 β。",
    )
    expect(
        abs(value - change) < 0.02,
        "Take the logarithm of the new probability over the old one.",
        "取新概率与旧概率之比的对数。",
    )


@exercise("9.3")
def floor_under_the_loss(answer):
    """The mean binary entropy, in nats; 0 for hard labels."""
    label_floor = function(answer)
    tie, sure, hard = (torch.tensor([q, q], dtype=torch.float64) for q in (0.5, 0.9, 1.0))
    hardest = label_floor(hard)
    expect(
        not math.isnan(float(hardest)),
        "With q = 1 your function gives nan: 0 times log 0 has to count as 0.",
        "q = 1 时你的函数给出 nan：0 乘 log 0 要算作 0。",
    )
    expect(abs(number(hardest)) < 1e-9, "Hard labels have no floor but 0.", "硬标签的下界就是 0。")
    value = number(label_floor(tie))
    expect(
        abs(value - 1) > 1e-6,
        "Those are bits; the loss is in nats.",
        "这是比特；损失的单位是奈特。",
    )
    expect(
        abs(value - 2 * math.log(2)) > 1e-6,
        "Take the mean over the pairs, not the sum.",
        "要对各对取平均，不是求和。",
    )
    expect(
        abs(value - math.log(2)) < 1e-6,
        "For ties the floor is ln 2: both terms of line 8 count.",
        "平局的下界是 ln 2：第 8 行的两项都要算。",
    )
    entropy = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    expect(
        abs(number(label_floor(sure)) - entropy) < 1e-6,
        "For q = 0.9 the floor is the entropy of a 0.9 coin.",
        "q = 0.9 时，下界是一枚 0.9 硬币的熵。",
    )


@exercise("9.4")
def draws_from_soft_labels(answer):
    """Hard labels drawn from soft ones; texts and log-probabilities change places together."""
    sample, count = function(answer), 4_000
    soft = Pairs(
        [f"S{i}=" for i in range(count)],
        ["3+1+0E"] * count,
        ["4+9E"] * count,
        [0.5, 0.9] * (count // 2),
        [-8.0] * count,
        [-4.0] * count,
    )
    result = sample(soft, 0)
    if not isinstance(result, Pairs):
        raise Wrong("Return a Pairs.", "应返回一个 Pairs。")
    expect(
        len(result) == count and result.prompt == soft.prompt,
        "Every pair stays, ties too, in the old order.",
        "每一对都留着，平局也留，顺序不变。",
    )
    expect(
        all(label == 1 for label in result.preference_prob),
        "After the draw the labels are 1.0.",
        "抽过之后，标签都是 1.0。",
    )
    kept = np.array([text == "3+1+0E" for text in result.chosen])
    expect(
        (np.array([text == "4+9E" for text in result.rejected]) == kept).all(),
        "A pair has lost one of its two answers.",
        "有的偏好对，两个回答丢了一个。",
    )
    rates = kept[0::2].mean(), kept[1::2].mean()
    expect(
        abs(rates[0] - 0.5) < 0.06 and abs(rates[1] - 0.9) < 0.04,
        f"Labels 0.5 and 0.9 stay in {rates[0]:.2f} and {rates[1]:.2f} of the pairs.",
        f"标签为 0.5 和 0.9 的，保持不变的比例是 {rates[0]:.2f} 和 {rates[1]:.2f}。",
    )
    logps = np.array([result.ref_chosen_logps, result.ref_rejected_logps])
    expect(
        (logps[0] == np.where(kept, -8, -4)).all() and (logps[1] == np.where(kept, -4, -8)).all(),
        "The reference log-probabilities belong to the answers; they change places with them.",
        "参考对数概率是跟着回答走的，要一起对调。",
    )
    again = sample(soft, 0)
    expect(
        again.chosen == result.chosen,
        "The same seed should give the same pairs.",
        "同一个种子应得到同样的结果。",
    )
    expect(
        sample(soft, 1).chosen != result.chosen,
        "Another seed should give another draw.",
        "换一个种子，抽签结果应当不同。",
    )


def _several(answer, count):
    """The numbers of a tuple."""
    if not isinstance(answer, (tuple, list)) or len(answer) != count:
        raise Wrong(f"A tuple of {count} numbers is asked for.", f"要一个含 {count} 个数的元组。")
    return [number(value) for value in answer]


@exercise("9.5")
def who_gains(answer):
    """phi minus its mean, 1.2."""
    chosen, rejected, third = _several(answer, 3)
    expect(
        (chosen, rejected, third) != (1, 0, 2),
        "Those are the logits' slopes; the softmax subtracts their mean.",
        "这是 logits 的导数；softmax 还要减去它们的平均。",
    )
    expect(
        rejected <= chosen + 1e-9,
        "The order is chosen, rejected, third.",
        "顺序是 chosen、rejected、第三个。",
    )
    expect(
        abs((chosen - rejected) - 1) < 1e-3 and abs((third - chosen) - 1) < 1e-3,
        "All three subtract the same number: the differences are those of phi.",
        "三个减去的是同一个数：彼此之差就是 φ 之差。",
    )
    expect(
        abs(chosen) > 1e-3,
        "Weigh phi with the probabilities before you average.",
        "求 φ 的平均，要按概率加权。",
    )
    expect(
        abs(chosen + 0.2) < 1e-3,
        "Each slope is phi minus the mean of phi under the policy.",
        "每个导数等于 φ 减去策略下 φ 的平均。",
    )


@exercise("9.6")
def entropy_and_cross_entropy(answer):
    """0.3052 and 0.7374 nats."""
    entropy, crossed = _several(answer, 2)
    expect(
        entropy >= 0 and crossed >= 0,
        "Mind the minus: both are means of something positive.",
        "别漏了负号：两个都是正数的平均。",
    )
    expect(
        abs(entropy - 0.3052 / math.log(2)) > 2e-3,
        "Those are bits; nats are asked for.",
        "这是比特；要的是奈特。",
    )
    expect(
        abs(entropy - 1.0297) > 2e-3, "That is the entropy of the reference.", "这是参考策略的熵。"
    )
    expect(
        abs(entropy - 0.3052) < 2e-3,
        "The entropy is the mean of -log of the optimum under the optimum.",
        "熵是在最优解下，-log π* 的平均。",
    )
    expect(
        abs(crossed - 0.4322) > 2e-3,
        "That is the difference of the two, the KL.",
        "这是两者之差，即 KL。",
    )
    expect(
        abs(crossed - 0.7374) < 2e-3,
        "The answers come from the optimum: weigh -log of the reference with the optimum.",
        "回答是从最优解抽的：对 -log π_ref，要按最优解的概率加权。",
    )


@exercise("9.7")
def the_fair_baseline(answer):
    """Imitation of the winners: 1 without ties, 1 - .7^2 with them."""
    untied, tied = _several(answer, 2)
    expect(
        abs(untied - 0.51) > 1e-3,
        "That is with the ties kept; on the file itself every pair has a winner.",
        "这是留着平局的结果；文件里的每一对都分了胜负。",
    )
    expect(
        abs(untied - 1) < 1e-3,
        "Without ties: can an answer of two numbers ever be the chosen one?",
        "丢掉平局以后，写两个数的回答还当得上 chosen 吗？",
    )
    expect(
        abs(tied - 0.42) > 1e-3,
        "The ties between two answers of three numbers are winners too.",
        "两个回答都写三个数的平局，也要算。",
    )
    expect(
        abs(tied - 0.51) < 1e-3,
        "With ties the chosen answer is the better of two draws: when has it two numbers?",
        "留着平局，chosen 就是两次抽样里较好的那个：什么时候它只写两个数？",
    )


@exercise("9.8")
def four_reports(answer):
    """A leaks outside the pairs, B has not arrived, C has labels without an end."""
    names = ("fine", "labels", "rate", "pairs")
    given = list(answer) if isinstance(answer, (tuple, list)) else []
    if sorted(map(str, given)) != sorted(names):
        raise Wrong(
            "Give the four names in a tuple, each once, in the order of A, B, C, D.",
            "要一个元组，四个名字各用一次，按 A、B、C、D 的顺序。",
        )
    a, b, c, d = given
    expect(
        c == "labels",
        "In C the margin is far above 1.14: what kind of label rewards that?",
        "C 的间隔远超 1.14：什么样的标签会一直奖励它？",
    )
    expect(
        b == "rate",
        "In B the margin is too small: that run has not arrived.",
        "B 的间隔太小：这一次还没有走到。",
    )
    expect(
        (a, d) == ("pairs", "fine"),
        "A and D win their pairs alike; look at the KL, where the optimum has 1.26.",
        "A 和 D 在偏好对上一样好；看 KL，最优解是 1.26。",
    )


@exercise("9.9")
def other_authors(answer):
    """Each share tilted by e^4, and J = beta log Z: 0.8585, 0.9820, 1.2938."""
    style, exact, objective = _several(answer, 3)
    tilt = math.exp(4)
    three, right = 0.1 * tilt + 0.9, 0.5 * tilt + 0.5
    expect(
        abs(style - 0.959) > 2e-3 and abs(exact - 0.994) > 2e-3,
        "Those are the authors of the chapter; the rates have changed.",
        "那是本章的作者；这里的比例变了。",
    )
    expect(
        0 < style < 1 and 0 < exact < 1,
        "Shares are between 0 and 1; divide by the sum of the products.",
        "比例在 0 和 1 之间：要除以各乘积之和。",
    )
    expect(
        abs(style - 0.1 * tilt / three) < 3e-3,
        "One in ten writes three numbers: tilt 0.1 by e to the 1/β, as in exercise 9.1.",
        "十个里有一个写三个数：0.1 乘 e 的 1/β 次方再归一，同练习 9.1。",
    )
    expect(
        abs(exact - 0.5 * tilt / right) < 3e-3,
        "One in two slips: tilt 0.5 by e to the 1/β.",
        "两个里有一个失误：0.5 乘 e 的 1/β 次方再归一。",
    )
    expect(
        abs(objective - (style + exact)) > 5e-3,
        "That is the reward alone; J subtracts β times the KL.",
        "这只是奖励；J 还要减去 β 倍的 KL。",
    )
    expect(
        abs(objective - math.log(three * right)) > 2e-2,
        "That is log Z; multiply it by β.",
        "这是 log Z，还要乘 β。",
    )
    expect(
        abs(objective - 0.25 * math.log(three * right)) < 5e-3,
        "J of the optimum is β log Z, and Z is the product of two sums.",
        "最优解的 J 等于 β log Z，Z 是两个和的乘积。",
    )
