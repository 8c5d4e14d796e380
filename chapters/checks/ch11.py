"""The checks of chapter 11: margins, a ceiling, losses of one's own, five curves, and a judge who slips."""

import math

import torch

from checks import Wrong, exercise, expect, function, number, tensor


@exercise("11.1")
def two_margins(answer):
    """(q - 1/2)/β and log(q/(1-q))/β."""
    if not isinstance(answer, (tuple, list)) or len(answer) != 2:
        raise Wrong("Two numbers are asked for, in a tuple.", "要两个数，放在一个元组里。")
    ipo, dpo = number(answer[0]), number(answer[1])
    expect(
        abs(ipo - 0.4) > 1e-6 and abs(dpo - math.log(9)) > 0.05,
        "These are margins h; m is the margin over beta.",
        "这是间隔 h；m 是间隔除以 β。",
    )
    expect(
        abs(ipo - 5) > 1e-6,
        "That is 1/(2 beta), where IPO rests with a deterministic label; here q is 0.9.",
        "这是 1/(2β)，是确定性标签下 IPO 的停处；这里 q 是 0.9。",
    )
    expect(not abs(dpo - 4) < 0.05, "The order is IPO, then DPO.", "次序是先 IPO，后 DPO。")
    expect(abs(ipo - 4) < 0.01, "IPO rests at beta m = q - 1/2.", "IPO 停在 βm = q - 1/2 处。")
    expect(
        abs(dpo - 21.97) < 0.05,
        "DPO rests at beta m = log of q over 1 - q, the natural logarithm.",
        "DPO 停在 βm = log(q/(1 - q)) 处，取自然对数。",
    )


@exercise("11.2")
def a_ceiling(answer):
    """σ(-3)."""
    epsilon = number(answer)
    expect(abs(epsilon - 0.9526) > 1e-3, "That is 1 - epsilon.", "这是 1 - ε。")
    expect(
        abs(epsilon - math.exp(-3)) > 5e-4,
        "Nearly: e to the -3 is epsilon over 1 - epsilon.",
        "差一点：e 的 -3 次方等于 ε 除以 1 - ε。",
    )
    expect(
        abs(epsilon - 0.0474) < 5e-4,
        "Solve log((1 - epsilon)/epsilon) = 3.",
        "解 log((1 - ε)/ε) = 3。",
    )


@exercise("11.3")
def the_exponential_loss(answer):
    """Half of DPO's beta."""
    beta = number(answer)
    expect(
        abs(beta - 1) > 1e-6,
        "Right factor, wrong way: the margin is half as large at the same beta.",
        "倍数对，方向反了：β 相同时，它的间隔只有一半。",
    )
    expect(
        abs(beta - 0.5) > 1e-6,
        "At the same beta it ends at half the log-ratio differences.",
        "β 相同时，它停在一半的对数比之差处。",
    )
    expect(
        abs(beta - 0.25) < 1e-6,
        "h is half the logit, and the log-ratios differ by h over beta.",
        "h 是 logit 的一半，对数比之差是 h 除以 β。",
    )


@exercise("11.4")
def where_it_stops(answer):
    """Against closed forms: the logit, half of it, q - 1/2, and the hinge's 1."""
    stop = function(answer)
    q = torch.tensor([0.6, 0.75, 0.9], dtype=torch.float64)
    logit = torch.log(q / (1 - q))
    softplus = torch.nn.functional.softplus
    for loss, right in (
        (lambda h: softplus(-h), logit),
        (lambda h: torch.exp(-h), logit / 2),
        (lambda h: (h - 0.5) ** 2, q - 0.5),
        (lambda h: torch.relu(1 - h), torch.ones(3)),
    ):
        found = tensor(stop(loss, q), shape=(3,)).double()
        expect(
            not (found.abs() < 1e-9).all(),
            "At 0 the mean cost still falls: the greatest, or another label's, was taken.",
            "在 0 处平均代价还在降：取成了最大的，或用错了标签。",
        )
        expect(
            (found < 19.9).all(),
            "It runs to the end of the grid: the pair turned round has probability 1 - q and margin -h.",
            "一直跑到网格尽头：反过来的那一对，概率是 1 - q，间隔是 -h。",
        )
        expect(
            (found - right).abs().max() < 2e-3,
            "Another margin has a lower mean cost, or this is not a margin.",
            "还有平均代价更低的间隔，或者这不是间隔。",
        )


@exercise("11.5")
def whose_curve(answer):
    """The levels: 10, none, 30, 5, 21.97."""
    right = {"A": "hinge", "B": "sigmoid", "C": "ipo", "D": "ipo_sum", "E": "cdpo"}
    if not isinstance(answer, dict) or set(answer) != set(right):
        raise Wrong(
            "A dictionary is asked for, with the letters A to E.", "要一个字典，键是字母 A 到 E。"
        )
    if not all(isinstance(name, str) for name in answer.values()):
        raise Wrong("The values are names of losses.", "值是损失的名字。")
    if set(answer.values()) != set(right.values()):
        raise Wrong("Each of the five losses made one curve.", "五种损失各有一条曲线。")
    expect(
        answer["B"] == "sigmoid",
        "One curve never levels off: whose pull never ends?",
        "有一条一直不停：谁的拉力没有尽头？",
    )
    expect(
        not (answer["C"] == "ipo_sum" and answer["D"] == "ipo"),
        "With six tokens, 1/(2 beta) a token is six times as much in the sum.",
        "六个词元，每个词元 1/(2β)，加起来是六倍。",
    )
    expect(
        not (answer["E"] == "hinge" and answer["A"] == "cdpo"),
        "Margins are h = beta m: a level of 10 is h = 1.",
        "间隔 h = βm：停在 10，就是 h = 1。",
    )
    expect(
        answer == right,
        "Work out m for each loss first: h over beta, and for ipo six times 1/(2 beta).",
        "先算出每种损失的 m：h 除以 β；ipo 是六倍的 1/(2β)。",
    )


@exercise("11.6")
def a_judge_who_slips(answer):
    """σ(log(0.4/0.6) + h/0.5) for h = log 4, 0.3, 1."""
    if not isinstance(answer, (tuple, list)) or len(answer) != 3:
        raise Wrong("Three numbers are asked for, in a tuple.", "要三个数，放在一个元组里。")
    found = [number(value) for value in answer]
    margins = [math.log(4), 0.3, 1.0]
    right = [1 / (1 + 1.5 * math.exp(-h / 0.5)) for h in margins]

    def near(other):
        return all(abs(a - b) < 2e-3 for a, b in zip(found, other))

    expect(
        not near([1 / (1 + math.exp(-h / 0.5)) for h in margins]),
        "These start from one half; the reference writes the better answer with 0.4.",
        "这是从一半出发的；参考策略写好的那个，概率是 0.4。",
    )
    expect(
        not near([1 / (1 + 1.5 * math.exp(-h)) for h in margins]),
        "The difference of log-ratios is h over beta.",
        "对数比之差是 h 除以 β。",
    )
    expect(
        not near([1 / (1 + math.exp(-h / 0.5) / 1.5) for h in margins]),
        "The better answer is the one that the reference writes less often.",
        "好的那个，是参考策略写得少的那个。",
    )
    expect(
        not (abs(found[1] - 1 / (1 + 1.5 * math.exp(-1))) < 2e-3),
        "IPO stops at q - 1/2; one half is where a certain judge would send it.",
        "IPO 停在 q - 1/2；停在二分之一，那是裁判总是肯定的时候。",
    )
    expect(
        near(right),
        "Add h over beta to the log-odds of the reference, log(0.4/0.6); h is log 4, 0.3 and 1.",
        "把 h 除以 β 加到参考策略的对数几率 log(0.4/0.6) 上；h 是 log 4、0.3 和 1。",
    )
