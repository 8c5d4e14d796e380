"""The checks of chapter 11: two margins, a ceiling, the exponential loss, and where any loss stops."""

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
