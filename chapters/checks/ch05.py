"""The checks of chapter 5: odds along a path, how many comparisons, the gradient of the fit, when there is one scale,
a sharper judge, and three judges to tell apart."""

import math

import torch

from checks import Wrong, exercise, expect, function, number, tensor


@exercise("5.1")
def along_the_path(answer):
    """Odds 3 and 2 make 6, and 6 / 7."""
    value = number(answer)
    expect(
        abs(value - 6) > 1e-6,
        "Those are the odds; the probability is odds / (1 + odds).",
        "这是几率；概率是几率除以（1 + 几率）。",
    )
    expect(0 < value < 1, "A probability lies between 0 and 1.", "概率在 0 和 1 之间。")
    expect(
        abs(value - 0.5) > 5e-3,
        "Probabilities do not multiply along the path; the odds do.",
        "沿着路径相乘的不是概率，是几率。",
    )
    expect(
        abs(value - 6 / 7) < 5e-3,
        "Wins over losses for each step, then the product, then back to a probability.",
        "每一步用胜的次数除以负的次数，相乘，再换回概率。",
    )


@exercise("5.2")
def how_many_comparisons(answer):
    """The least n with 1.96^2 / (n · 0.09) at most 0.0625."""
    value = number(answer)
    expect(value == int(value), "Comparisons come in whole numbers.", "比较的次数是整数。")
    expect(
        value != 682,
        "With 682 the interval is still a little too wide.",
        "682 次还差一点，区间仍然稍宽。",
    )
    expect(
        value not in (5, 6),
        "That is the interval of the share q; here it is that of the log-odds.",
        "这是比例 q 的区间；这里要的是对数几率的区间。",
    )
    expect(
        value not in (2731, 2732),
        "0.25 is the reach to each side, not the whole width.",
        "0.25 是区间向一边伸出的长度，不是整个宽度。",
    )
    expect(
        value == 683,
        "Solve 1.96 · SE = 0.25 for n, with q = 0.9 in the formula of SE.",
        "由 1.96 · SE = 0.25 解出 n，SE 的公式里取 q = 0.9。",
    )


@exercise("5.3")
def wins_minus_expected_wins(answer):
    """Against autograd, on a table with a diagonal."""
    slope_of = function(answer)
    generator = torch.Generator().manual_seed(5)
    reward = torch.randn(4, generator=generator, dtype=torch.float64, requires_grad=True)
    wins = torch.randint(1, 9, (4, 4), generator=generator).double()
    total = (wins * torch.nn.functional.logsigmoid(reward[:, None] - reward[None, :])).sum()
    (slope,) = torch.autograd.grad(total, reward)
    value = tensor(slope_of(reward.detach(), wins), (4,))
    expect(value.isfinite().all(), "There are values that are no numbers.", "有的值不是数。")
    expect(
        not torch.allclose(value, -slope),
        "Right in size, wrong in sign: L rises where an answer won more than expected.",
        "大小对，符号反了：回答胜得比该胜的多，提高它的奖励，L 应当上升。",
    )
    expect(
        not torch.allclose(value, slope / wins.sum()),
        "That is the gradient of the mean; L is a sum.",
        "这是平均值的梯度；L 是总和，不除以次数。",
    )
    expect(
        abs(value.sum()) < 1e-6,
        "The components of the gradient add up to 0: a constant changes nothing.",
        "梯度各分量之和应当是 0：奖励都加一个常数，L 不变。",
    )
    expect(
        torch.allclose(value, slope),
        "For each answer: its wins, minus its games times the probability of winning them.",
        "对每个回答：胜的次数，减去比的次数与胜的概率之积，再对各个对手求和。",
    )


TABLES = {  # name: (table, whether exactly one finite fit exists, up to a constant)
    "one comparison each way": ([[0, 1], [1, 0]], True),
    "an answer that never lost": ([[0, 5, 5], [0, 0, 5], [0, 5, 0]], False),
    "an answer that never won": ([[0, 5, 5], [5, 0, 5], [0, 0, 0]], False),
    "a circle": ([[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0]], True),
    "two islands": ([[0, 2, 0, 0], [1, 0, 0, 0], [0, 0, 0, 2], [0, 0, 1, 0]], False),
    "a pair that never lost to the other pair": (
        [[0, 2, 3, 3], [1, 0, 3, 3], [0, 0, 0, 2], [0, 0, 1, 0]],
        False,
    ),
    "a ladder": ([[0, 3, 3], [0, 0, 3], [0, 0, 0]], False),
}
NAMES_ZH = {
    "one comparison each way": "两个回答各胜一次",
    "an answer that never lost": "有一个回答从没输过",
    "an answer that never won": "有一个回答从没胜过",
    "a circle": "四个回答兜成一圈",
    "two islands": "两座互不相连的岛",
    "a pair that never lost to the other pair": "两个回答从没输给另外两个",
    "a ladder": "排成一列、前面的总胜后面的",
}


@exercise("5.4")
def is_there_a_scale(answer):
    """Seven tables, and a long circle for the number of steps."""
    has_scale = function(answer)
    for name, (table, finite) in TABLES.items():
        value = has_scale(torch.tensor(table, dtype=torch.float64))
        if not isinstance(value, bool) and not (
            isinstance(value, torch.Tensor) and value.numel() == 1
        ):
            raise Wrong("Return True or False.", "应返回 True 或 False。")
        expect(
            bool(value) == finite,
            f"For {name} the answer is {finite}.",
            f"{NAMES_ZH[name]}时，应返回 {finite}。",
        )
    ring = torch.roll(torch.eye(12, dtype=torch.float64), 1, dims=1)
    expect(
        has_scale(ring),
        "In a circle of twelve answers every one is reached, if one follows the arrows far enough.",
        "十二个回答兜成一圈，沿着箭头走得够远，谁都走得到。",
    )


@exercise("5.5")
def a_sharper_judge(answer):
    """The mean entropy and the mean probability of the likelier label, at differences 0, 2, 4."""
    if not isinstance(answer, (tuple, list)) or len(answer) != 2:
        raise Wrong(
            "Give two numbers: the floor of the loss, then the ceiling of the agreement.",
            "要给两个数：先是损失的下界，再是一致率的上限。",
        )
    floor, ceiling = map(number, answer)
    shares = (0.4417, 0.4797, 0.0785)
    likelier = [1 / (1 + math.exp(-d)) for d in (0, 2, 4)]
    entropies = [-(p * math.log(p) + (1 - p) * math.log(1 - p)) for p in likelier]
    lowest = sum(share * h for share, h in zip(shares, entropies))
    highest = sum(share * p for share, p in zip(shares, likelier))
    expect(
        abs(floor - 0.614) > 2e-3 and abs(ceiling - 0.641) > 2e-3,
        "That is the world of the chapter; here the differences are 0, 2 and 4.",
        "这是正文里的那个世界；这里的差是 0、2、4。",
    )
    expect(
        abs(floor - lowest / math.log(2)) > 2e-3,
        "That floor is in bits; the loss takes natural logarithms.",
        "这个下界是以比特计的；损失用的是自然对数。",
    )
    expect(
        abs(floor - (lowest - shares[0] * entropies[0])) > 2e-3,
        "The ties are missing in the floor: their label is a coin, which costs ln 2.",
        "下界里漏了平局：平局的标签是抛硬币，要付 ln 2。",
    )
    expect(
        abs(floor - lowest) < 2e-3,
        "The floor: for each difference the entropy of the label, weighted by the share of pairs.",
        "下界：每种差算出标签的熵，再按所占比例加权平均。",
    )
    expect(
        abs(ceiling - (highest - shares[0] * 0.5 + shares[0])) > 2e-3,
        "On ties nobody can do better than a coin: they count half.",
        "平局谁也强不过硬币：只能算一半。",
    )
    expect(
        abs(ceiling - highest) < 2e-3,
        "The ceiling: for each difference the probability of the likelier label, weighted.",
        "上限：每种差取较可能的标签的概率，再加权平均。",
    )


JUDGES = ("flips", "noise", "threshold", "swapped", "sure")


@exercise("5.6")
def which_judge_is_which(answer):
    """Straight with half the slope, flat and then right, capped: noise, threshold, flips."""
    if not isinstance(answer, (tuple, list)) or len(answer) != 3:
        raise Wrong(
            "Give three names, for judges 1, 2 and 3.", "要给三个名字，依次是裁判 1、2、3。"
        )
    for name in answer:
        expect(
            isinstance(name, str) and name in JUDGES,
            f"The names are {', '.join(JUDGES)}.",
            f"名字只有 {'、'.join(JUDGES)}。",
        )
    first, second, third = answer
    expect(
        "swapped" not in answer,
        "Swapped columns turn every difference round; no curve falls.",
        "两列放反，每个差都要变号；图里没有往下走的线。",
    )
    expect(
        "sure" not in answer,
        "If the better answer always won, no finite difference would fit.",
        "好的总胜，就没有有限的差合得上。",
    )
    expect(
        first == "noise",
        "Judge 1 shrinks small and large differences alike. Who does that?",
        "裁判 1 把小的差、大的差缩成同样的倍数。谁会这样？",
    )
    expect(
        second == "threshold",
        "Judge 2 sees nothing of small differences and gets large ones right. Who does that?",
        "裁判 2 看不见小的差，大的差却判得准。谁会这样？",
    )
    expect(
        third == "flips",
        "Judge 3 caps large differences, near log 4. Who does that?",
        "裁判 3 给大的差封了顶，在 log 4 附近。谁会这样？",
    )
