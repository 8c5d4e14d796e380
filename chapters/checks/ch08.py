"""The checks of chapter 8: a log-probability by hand, labels, a test for tests, a repaired loss,
a beta that undoes a bug, and which exhibit a curve has."""

import math

import torch
from torch.nn import functional as F

from checks import Wrong, close, exercise, expect, function, number, tensor


@exercise("8.1")
def one_log_probability(answer):
    """ln 0.02."""
    answer = number(answer)
    expect(
        abs(answer - 0.02) > 1e-3,
        "That is the probability; take its logarithm.",
        "这是概率，还要再取对数。",
    )
    expect(
        abs(answer + math.log(0.02)) > 1e-3, "A log-probability is negative.", "对数概率是负的。"
    )
    expect(
        abs(answer - math.log(0.5 * 0.25 * 0.8)) > 1e-3,
        "The token 3 belongs to the answer; it is predicted after S7=.",
        "词元 3 也是回答里的，它在读完 S7= 时预测。",
    )
    expect(abs(answer - math.log(0.2 * 0.5 * 0.25)) > 1e-3, "E counts too.", "E 也要算。")
    expect(
        abs(answer - math.log(0.001)) > 1e-3,
        "The prompt is given; leave its tokens out.",
        "提示是给定的，它的词元不要算。",
    )
    expect(
        abs(answer - math.log(0.02) / 4) > 1e-3, "The sum, not the mean.", "是求和，不是求平均。"
    )
    expect(
        abs(answer - math.log10(0.02)) > 1e-3,
        "Nats: the natural logarithm.",
        "单位是奈特，用自然对数。",
    )
    close(
        answer,
        math.log(0.02),
        "Add the logarithms of the four probabilities that speak about answer tokens.",
        "说到回答词元的概率有四个，把它们的对数加起来。",
        within=6e-3,
    )


@exercise("8.2")
def from_labels(answer):
    """Three rows of different lengths, one without any answer."""
    logps_from_labels = function(answer)
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(3, 6, 7, generator=generator, dtype=torch.float64)
    ids = torch.randint(7, (3, 6), generator=generator)
    mask = torch.tensor(
        [[0, 0, 1, 1, 1, 0], [0, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0]], dtype=torch.bool
    )
    labels = ids.masked_fill(~mask, -100)
    before = labels.clone()
    found = tensor(logps_from_labels(logits, labels), (3,))
    expect(
        torch.equal(labels, before),
        "Your function changes the labels that it was given; work on a copy.",
        "你的函数改动了传进来的标签；请在副本上做。",
    )
    tokens = logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None]).squeeze(-1)
    right = (tokens * mask[:, 1:]).sum(-1)
    same = (logits.log_softmax(-1).gather(-1, ids[..., None]).squeeze(-1) * mask).sum(-1)

    def is_(other):
        return torch.allclose(found, other, atol=1e-6, equal_nan=True)

    expect(
        not is_(-right),
        "The cross-entropy is minus the log-probability.",
        "交叉熵是对数概率的相反数。",
    )
    expect(
        not is_(same),
        "Position t speaks about token t + 1: shift the labels against the logits.",
        "位置 t 说的是词元 t + 1：标签与 logits 要错开一位。",
    )
    expect(
        not found.isnan().any(),
        "A row without any answer token has log-probability 0, not nan: add, do not average.",
        "一行里一个回答词元也没有，对数概率就是 0，不是 nan：要用求和，不要用求平均。",
    )
    expect(
        not is_(right / mask.sum(-1).clamp(min=1)),
        "The sum over the tokens, not the mean.",
        "要对词元求和，不是求平均。",
    )
    expect(
        is_(right),
        "For some rows the sum of the counted log-probabilities comes out otherwise.",
        "有几行，计入的对数概率加起来不对。",
    )


def _suspects():
    """(name, function of (logits, ids, mask), is it wrong?)"""

    def tokens(logits, ids):
        return logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None]).squeeze(-1)

    def by_cross_entropy(logits, ids, mask):
        labels = ids.masked_fill(mask == 0, -100)
        return -F.cross_entropy(
            logits[:, :-1].transpose(1, 2), labels[:, 1:], reduction="none"
        ).sum(-1)

    def padding_too(logits, ids, mask):
        return (tokens(logits, ids) * (mask.cumsum(-1) > 0)[:, 1:]).sum(-1)

    return [
        ("the right one", lambda x, i, m: (tokens(x, i) * m[:, 1:]).sum(-1), False),
        ("the right one, by cross-entropy", by_cross_entropy, False),
        (
            "no shift",
            lambda x, i, m: (x.log_softmax(-1).gather(-1, i[..., None]).squeeze(-1) * m).sum(-1),
            True,
        ),
        ("a mask that is not shifted", lambda x, i, m: (tokens(x, i) * m[:, :-1]).sum(-1), True),
        (
            "the prompt counted",
            lambda x, i, m: (tokens(x, i) * (m.flip(1).cumsum(1).flip(1) > 0)[:, 1:]).sum(-1),
            True,
        ),
        (
            "E left out",
            lambda x, i, m: (tokens(x, i) * (m[:, 1:] * F.pad(m[:, 2:], (0, 1)))).sum(-1),
            True,
        ),
        ("a mean", lambda x, i, m: (tokens(x, i) * m[:, 1:]).sum(-1) / m[:, 1:].sum(-1), True),
        ("padding counted", padding_too, True),
        (
            "logits for log-probabilities",
            lambda x, i, m: (x[:, :-1].gather(-1, i[:, 1:, None]).squeeze(-1) * m[:, 1:]).sum(-1),
            True,
        ),
    ]


CHINESE = {
    "the right one": "正确的写法",
    "the right one, by cross-entropy": "用交叉熵写的正确写法",
    "no shift": "没有移位",
    "a mask that is not shifted": "掩码没有移位",
    "the prompt counted": "把提示算进去",
    "E left out": "丢了 E",
    "a mean": "求平均",
    "padding counted": "把填充算进去",
    "logits for log-probabilities": "把 logits 当成对数概率",
}


@exercise("8.3")
def a_test_that_catches(answer):
    """Two right functions must pass, seven wrong ones must not."""
    is_wrong = function(answer)
    for name, logps, wrong in _suspects():
        verdict = is_wrong(logps)
        expect(
            isinstance(verdict, bool)
            or getattr(verdict, "dtype", None) is torch.bool
            or type(verdict).__name__ == "bool_",
            "Return True or False.",
            "请返回 True 或 False。",
        )
        if wrong:
            expect(
                verdict, f"Your test lets this pass: {name}.", f"你的测试放过了：{CHINESE[name]}。"
            )
        else:
            expect(not verdict, f"Your test rejects {name}.", f"你的测试错怪了：{CHINESE[name]}。")


@exercise("8.4")
def a_repaired_loss(answer):
    """Four pairs of known margins, and one hopeless pair."""
    repaired_loss = function(answer)
    # three chosen, three rejected
    ref = torch.tensor([-4.0, -6.0, -5.0, -9.0, -3.0, -8.0], dtype=torch.float64)
    policy = ref + torch.tensor([2.0, -1.0, 0.5, -2.0, 1.0, 0.0], dtype=torch.float64)
    margins = 0.5 * torch.tensor([4.0, -2.0, 0.5], dtype=torch.float64)
    right = F.softplus(-margins)
    found = repaired_loss(policy, ref, 0.5)
    tensor(found)
    expect(
        found.shape != (3,),
        "Return the mean over the pairs, one number.",
        "请返回各对的平均损失，一个数。",
    )
    tensor(found, ())

    def is_(value):
        return abs(float(found) - float(value)) < 1e-9

    alternating = F.softplus(-0.5 * ((policy - ref)[::2] - (policy - ref)[1::2])).mean()
    expect(
        not is_(alternating),
        "The first pair is row 0 with row B, not row 0 with row 1.",
        "第一对是第 0 行与第 B 行，不是第 0 行与第 1 行。",
    )
    expect(
        not is_(F.softplus(margins).mean()),
        "The margin is chosen minus rejected.",
        "间隔是 chosen 减 rejected。",
    )
    expect(
        not is_(right.sum()), "The mean over the pairs, not the sum.", "要对各对求平均，不是求和。"
    )
    expect(not is_(F.softplus(-2 * margins).mean()), "Multiply by beta.", "要乘 beta。")
    expect(
        is_(right.mean()),
        "For three pairs with margins 2, -1 and 0.25 the mean loss comes out otherwise.",
        "拿间隔是 2、-1、0.25 的三对来试，平均损失不对。",
    )
    lost = torch.tensor([-2000.0, 0.0], requires_grad=True)
    loss = repaired_loss(lost, torch.zeros(2), 0.1)
    expect(
        bool(loss.isfinite()),
        "At a margin of -200 the loss is infinite: σ has been rounded to 0 there.",
        "间隔是 -200 时，损失成了无穷大：σ 在那里舍入成了 0。",
    )
    close(
        loss,
        200.0,
        "At a margin of -200 the loss is 200.",
        "间隔是 -200 时，损失是 200。",
        within=1e-3,
    )
    (gradient,) = torch.autograd.grad(loss, lost)
    close(
        gradient[0],
        -0.1,
        "At a margin of -200 the gradient is -beta.",
        "间隔是 -200 时，梯度是 -beta。",
        within=1e-6,
    )


@exercise("8.5")
def a_beta_that_undoes_a_bug(answer):
    """(0.1 · 47, 0.1 · 47 / 23)."""
    if not isinstance(answer, (tuple, list)) or len(answer) != 2:
        raise Wrong("Two numbers are asked for, in a tuple.", "要两个数，放在一个元组里。")
    beta, later = number(answer[0]), number(answer[1])
    expect(
        beta > 0.1,
        "The mean divides, so beta must be larger to act as 0.1.",
        "求平均要除，所以 β 得比 0.1 大，才能相当于 0.1。",
    )
    expect(
        abs(beta - 4.8) > 2e-2,
        "The first of the 48 tokens is not predicted.",
        "48 个词元里，第一个不用预测。",
    )
    expect(
        abs(beta - 4.7) < 2e-2,
        "Multiply 0.1 by the number of columns that the mean divides by.",
        "0.1 乘以求平均时所除的列数。",
    )
    expect(
        later > 0.1,
        "A narrower batch divides by less: the same setting acts as a larger beta.",
        "批次窄了，除得少了：同样的设置，相当于更大的 β。",
    )
    expect(
        abs(later - 4.7 / 23) < 2e-3,
        "At 24 tokens the mean divides by 23.",
        "24 个词元时，求平均除的是 23。",
    )


@exercise("8.6")
def which_exhibit(answer):
    """A 13, B 10, C 0, D 9."""
    if not isinstance(answer, dict) or set(answer) != set("ABCD"):
        raise Wrong("A number is asked for each of A, B, C, D.", "A、B、C、D 各要一个号码。")
    expect(
        set(answer.values()) == {0, 9, 10, 13},
        "Each of 0, 9, 10 and 13 is used once.",
        "0、9、10、13 各用一次。",
    )
    expect(
        answer["B"] == 10,
        "Two pieces, summed: at what loss does such a run start?",
        "两块相加：这样的训练，损失从多少起步？",
    )
    expect(
        answer["A"] == 13,
        "Whose loss stays at ln 2 while its policy moves?",
        "哪一次，策略在动，损失却停在 ln 2？",
    )
    expect(
        answer["C"] == 0,
        "Two runs start and end at the same loss. Beta twice makes the slope smaller: which of them is slower?",
        "有两次，损失的起点和终点都相同。乘两次 β，斜率就小：哪一次更慢？",
    )
