"""The checks of chapter 5: odds along a path, how many comparisons, the gradient of the fit, and when there is one scale."""

import torch

from checks import Wrong, exercise, expect, function, number, tensor


@exercise("5.1")
def along_the_path(answer):
    """Odds 3 and 2 make 6, and 6 / 7."""
    value = number(answer)
    expect(
        abs(value - 6) > 1e-6,
        "Those are the odds; the probability is odds / (1 + odds).",
        "这是胜负比；概率是胜负比除以（1 + 胜负比）。",
    )
    expect(0 < value < 1, "A probability lies between 0 and 1.", "概率在 0 和 1 之间。")
    expect(
        abs(value - 0.5) > 5e-3,
        "Probabilities do not multiply along the path; the odds do.",
        "沿着路径相乘的不是概率，是胜负比。",
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
        "这是比例 q 的区间；这里要的是对数胜负比的区间。",
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
