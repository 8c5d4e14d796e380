"""The checks of chapter 4: top-p, the work of a cache, Wilson's interval, KL token by token."""

import torch

from checks import close, exercise, expect, function, number, tensor


@exercise("4.1")
def top_p_by_hand(answer):
    """0.45 of 0.85."""
    answer = number(answer)
    expect(
        abs(answer - 0.45) > 1e-3, "Divide by the sum of what you kept.", "还要除以留下部分的总和。"
    )
    expect(
        abs(answer - 0.45 / 0.70) > 1e-3,
        "Two tokens have 0.70, which does not reach 0.75.",
        "两个词元只有 0.70，还没到 0.75。",
    )
    expect(
        abs(answer - 0.45 / 0.75) > 1e-3,
        "Divide by the mass that is kept, not by the threshold.",
        "除数是留下的总和，不是门槛。",
    )
    close(
        answer,
        0.45 / 0.85,
        "Three tokens stay; divide the first by their sum.",
        "留下三个词元，用第一个除以它们的和。",
        within=1e-3,
    )


@exercise("4.2")
def token_positions(answer):
    """15900, 820, 592."""
    expect(
        isinstance(answer, (tuple, list)) and len(answer) == 3,
        "The answer is three numbers.",
        "答案是三个数。",
    )
    a, b, c = map(number, answer)
    expect(
        a not in (795, 1190) and b not in (41, 42),
        "There are 20 answers, not one.",
        "回答有 20 个，不是一个。",
    )
    expect(
        a != 20 * (30 * 12 + 30 * 31 // 2),
        "(a) The first token is drawn after the prompt alone: 12, 13, … positions.",
        "(a) 第一个词元只读提示就能抽：依次是 12、13……个位置。",
    )
    expect(
        a == 15_900, "(a) Add 12 + 13 + … + 41 for one answer.", "(a) 一个回答是 12 + 13 + … + 41。"
    )
    expect(
        b != 20 * (12 + 30),
        "(b) The last token of an answer is drawn, but not read.",
        "(b) 回答的最后一个词元抽出来就行，不必读。",
    )
    expect(
        b == 820,
        "(b) Each answer reads the prompt and all of its tokens but the last.",
        "(b) 每个回答要读提示，再读除最后一个以外的词元。",
    )
    expect(
        c != 12 + 29,
        "(c) Sharing spares the prompt; every answer still reads its own tokens.",
        "(c) 共用省的是提示，每个回答自己的词元还得各读各的。",
    )
    expect(
        c == 592,
        "(c) The prompt once, then 29 positions for each answer.",
        "(c) 提示读一次，再加每个回答 29 个位置。",
    )


@exercise("4.3")
def answers_without_a_fault(answer):
    """The first whole number above 99 z² = 380.3."""
    answer = number(answer)
    expect(answer == int(answer), "The number of prompts is a whole number.", "提示的个数是整数。")
    expect(
        answer != 380,
        "At 380 the lower bound is still just below 0.99.",
        "380 时下界还差一点不到 0.99。",
    )
    expect(
        answer > 380,
        "Too few: Wilson's lower bound is n / (n + z²).",
        "太少了：Wilson 的下界是 n / (n + z²)。",
    )
    expect(
        answer == 381,
        "Fewer are enough: solve n / (n + z²) > 0.99.",
        "用不着这么多：解 n / (n + z²) > 0.99。",
    )


@exercise("4.4")
def kl_by_token(answer):
    """Exact KL at every fork that leads to a completion token, summed."""
    by_token = function(answer)
    generator = torch.Generator().manual_seed(0)
    p, q = 2 * torch.randn(2, 2, 5, 4, generator=generator)  # B = 2, T = 5, V = 4
    mask = torch.tensor([[False, False, True, True, False], [False, False, False, True, True]])
    mine = tensor(by_token(p, q, mask), (2,))

    def forks(first, second):
        log_first, log_second = first.log_softmax(-1), second.log_softmax(-1)
        return (log_first.exp() * (log_first - log_second)).sum(-1)  # (2, 5)

    def same(expected):
        return torch.allclose(mine, expected, atol=1e-4)

    shifted = (forks(p, q)[:, :-1] * mask[:, 1:]).sum(-1)
    expect(
        not same((forks(q, p)[:, :-1] * mask[:, 1:]).sum(-1)),
        "This is KL(Q || P): weight by the probabilities of P.",
        "这是 KL(Q || P)：应该用 P 的概率加权。",
    )
    expect(
        not same((forks(p, q) * mask).sum(-1)),
        "Off by one: row t of the logits predicts token t + 1.",
        "错了一格：logits 的第 t 行预测的是第 t + 1 个词元。",
    )
    expect(
        not same(shifted / mask.sum(-1)),
        "Add the forks; do not divide by the number of tokens.",
        "把各岔口加起来，不要除以词元数。",
    )
    expect(
        not same(forks(p, q)[:, :-1].sum(-1)),
        "Only forks of completion tokens count: use the mask.",
        "只算回答的词元：要用掩码。",
    )
    expect(
        not same(shifted.sum().expand(2)),
        "One number for each sequence, not for the batch.",
        "每条序列一个数，不要把整个批次加在一起。",
    )
    expect(
        same(shifted),
        "At a fork KL is the sum over the vocabulary of p times (log p minus log q).",
        "一个岔口上的 KL，是对词表求和：p 乘以（log p 减 log q）。",
    )


@exercise("4.5")
def fair_baseline(answer):
    """pass@3 of the base model, 1 - 0.25³, and pass@1 of theirs, 0.6."""
    expect(
        isinstance(answer, (tuple, list)) and len(answer) == 2,
        "The answer is two numbers.",
        "答案是两个数。",
    )
    base, theirs = map(number, answer)
    expect(
        max(base, theirs) <= 1,
        "Give shares between 0 and 1, not percentages.",
        "请用 0 到 1 之间的比例，不要用百分数。",
    )
    expect(
        abs(base - 0.75) > 0.002,
        "0.75 is one try; by their protocol the base model has three.",
        "0.75 是只抽一次；照他们的办法，基座模型可以抽三次。",
    )
    close(
        base,
        1 - 0.25**3,
        "All three of the base model fail with probability 0.25³.",
        "基座模型三个全错的概率是 0.25³。",
        within=0.002,
    )
    expect(
        abs(theirs - 0.936 / 3) > 0.002,
        "Three tries do not triple the share: failures multiply.",
        "抽三次不等于比例变三倍：该相乘的是答错的概率。",
    )
    close(
        theirs,
        0.6,
        "If one answer fails with probability f, all three fail with f³ = 0.064.",
        "设单个答错的概率是 f，三个全错就是 f³ = 0.064。",
        within=0.003,
    )


@exercise("4.6")
def two_forks(answer):
    """Squares, divided by their sum: 0.9 and 0.155."""
    expect(
        isinstance(answer, (tuple, list)) and len(answer) == 2,
        "The answer is two numbers: exact, then three numbers.",
        "答案是两个数：先正确的，后三个数的。",
    )
    exact, style = map(number, answer)
    expect(
        abs(exact - 0.75**2) > 0.006 and abs(style - 0.30**2) > 0.006,
        "Squared, yes; now divide by the sum of both squares at the fork.",
        "平方对了，还要除以这个岔口上两个平方的和。",
    )
    close(
        exact,
        0.9,
        "At the fork of the slip: 0.75² against 0.25².",
        "失误的岔口上，是 0.75² 对 0.25²。",
        within=0.006,
    )
    close(
        style,
        0.09 / 0.58,
        "At the fork of the style: 0.30² against 0.70².",
        "风格的岔口上，是 0.30² 对 0.70²。",
        within=0.006,
    )
