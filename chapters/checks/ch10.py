"""The checks of chapter 10: the winners' share, a leash made of noise, lengths in a file, whose curve, another filter."""

import math

from checks import Wrong, exercise, expect, function, number
from dpo_core.pairs import Pairs


def file_of_pairs(longer, shorter, equal):
    """Pairs of which so many were won by the longer answer, by the shorter one, or are of equal length."""
    texts = (
        [("1+1+1E", "1+1E")] * longer + [("2+2E", "2+2+2E")] * shorter + [("3+3E", "4+4E")] * equal
    )
    texts = texts[::2] + texts[1::2]
    n = len(texts)
    chosen, rejected = (list(side) for side in zip(*texts))
    return Pairs([f"S{i}=" for i in range(n)], chosen, rejected, [1.0] * n, [-1.0] * n, [-2.0] * n)


@exercise("10.1")
def winners_share(answer):
    """p² + 2 p (1 - p) σ(2)."""
    value, win = number(answer), 1 / (1 + math.exp(-2))
    expect(
        abs(value - 0.32 * win) > 2e-3,
        "Two answers with three numbers make a pair too.",
        "两个都写三个数的，也算在内。",
    )
    expect(
        abs(value - 0.36) > 2e-3,
        "That judge is deterministic; this one prefers three numbers with 0.881.",
        "那是确定性裁判；这一个选三个数的概率是 0.881。",
    )
    expect(
        abs(value - (0.04 + 0.16 * win)) > 2e-3,
        "A pair of one each can be drawn in two orders.",
        "两类各一个的对，有两种抽法。",
    )
    expect(
        abs(value - (0.04 + 0.32 * win)) < 2e-3,
        "Add up the cases: both, and one each times the winning probability.",
        "把各种情形加起来：两个都是，再加上两类各一个的乘胜率。",
    )


@exercise("10.2")
def leash_of_noise(answer):
    """0.3 · 9 / (0.3 · 9 + 0.7)."""
    value = number(answer)
    expect(0 < value < 1, "A share lies between 0 and 1.", "比例在 0 与 1 之间。")
    expect(
        abs(value - 0.9) > 5e-3,
        "0.9 is how often the better answer wins, not how often it is written.",
        "0.9 是好的一方赢的比例，不是写它的比例。",
    )
    expect(
        abs(value - 2.7 / 3.4) < 3e-3,
        "The odds of winning, 0.9 to 0.1, multiply the odds of writing, 0.3 to 0.7.",
        "写它的几率 0.3 比 0.7，要乘上获胜的几率 0.9 比 0.1。",
    )


def three_lengths():
    """Pairs of answers of 4, 6 and 8 characters, thinned as in the chapter: 40 to 10 for each two lengths, and ties."""
    short, middle, long = "1+1E", "1+1+1E", "1+1+1+1E"
    texts = [(middle, short), (long, middle), (long, short)]
    texts = texts * 40 + [pair[::-1] for pair in texts] * 10 + [(middle, middle)] * 7
    texts += [("11+11+1111E", "1E")] * 3  # the shorter never won
    n = len(texts)
    chosen, rejected = (list(side) for side in zip(*(texts[::2] + texts[1::2])))
    return Pairs([f"S{i}=" for i in range(n)], chosen, rejected, [1.0] * n, [-1.0] * n, [-2.0] * n)


@exercise("10.3")
def lengths_in_a_file(answer):
    """log(longer / shorter) for each two lengths, equal lengths and one-sided ones left out."""
    odds = function(answer)
    for data, wanted in (
        (file_of_pairs(40, 10, 30), {(4, 6): math.log(4)}),
        (three_lengths(), {key: math.log(4) for key in ((4, 6), (6, 8), (4, 8))}),
    ):
        value = odds(data)
        if not isinstance(value, dict):
            raise Wrong("Return a dictionary.", "应返回一个字典。")
        expect(
            not any(key[::-1] in value for key in wanted),
            "The key is (shorter, longer).",
            "键是 (短, 长)。",
        )
        expect(
            all(short != long for short, long in value),
            "Pairs of equal length do not count.",
            "一样长的不计。",
        )
        expect(
            set(value) == set(wanted),
            "One entry for each two lengths of which both have won.",
            "两种长度各有胜场的，才列一项，一项也不能少。",
        )
        for key, log_odds in wanted.items():
            found = number(value[key])
            expect(
                abs(found + log_odds) > 1e-6,
                "The sign is turned round: here the longer answers win.",
                "符号反了：这里是长的赢得多。",
            )
            expect(
                abs(found - 4) > 1e-6,
                "That is the odds; take the logarithm.",
                "这是几率，还要取对数。",
            )
            expect(
                abs(found - log_odds) < 1e-6,
                "40 longer winners and 10 shorter ones: log 4.",
                "长的赢 40，短的赢 10：应是 log 4。",
            )
    expect(
        odds(file_of_pairs(10, 10, 3)) == {(4, 6): 0.0},
        "Where both win equally often the entry is 0.",
        "两边赢得一样多，这一项应是 0。",
    )


@exercise("10.4")
def balance(answer):
    """As many longer winners as shorter ones; a random subset, in the old order."""
    balanced = function(answer)
    for counts in ((40, 10, 30), (5, 20, 4)):
        data = file_of_pairs(*counts)
        result = balanced(data, 0)
        if not isinstance(result, Pairs):
            raise Wrong("Return a Pairs.", "应返回一个 Pairs。")
        gaps = [len(c) - len(r) for c, r in zip(result.chosen, result.rejected)]
        longer, shorter, equal = (
            sum(gap > 0 for gap in gaps),
            sum(gap < 0 for gap in gaps),
            gaps.count(0),
        )
        expect(
            longer == shorter,
            f"The longer answer wins {longer} pairs, the shorter one {shorter}.",
            f"长的赢 {longer} 对，短的赢 {shorter} 对。",
        )
        expect(equal == counts[2], "Pairs of equal length stay.", "一样长的对要留着。")
        expect(longer == min(counts[:2]), "Drop no more pairs than needed.", "不要多丢。")
        places = [data.prompt.index(prompt) for prompt in result.prompt]
        expect(places == sorted(places), "Keep the order of the file.", "顺序不要变。")
        expect(len(set(places)) == len(places), "Some pairs occur twice.", "有的对出现了两次。")
    data = file_of_pairs(40, 10, 30)
    expect(
        balanced(data, 0) == balanced(data, 0),
        "The same seed should give the same pairs.",
        "同一个种子应得到同样的结果。",
    )
    expect(
        balanced(data, 0) != balanced(data, 1),
        "Another seed should drop other pairs: draw at random.",
        "换一个种子，丢的应当不同：要随机。",
    )


@exercise("10.5")
def whose_curve(answer):
    """A: no ties, B: few, C: noise, D: skewed."""
    names = {"no ties", "few", "noise", "skewed"}
    if not isinstance(answer, dict) or set(answer) != set("ABCD"):
        raise Wrong(
            "Answer with a dictionary whose keys are A, B, C and D.",
            "用字典作答，键是 A、B、C、D。",
        )
    expect(
        set(answer.values()) == names,
        "Each of the four names belongs to one run.",
        "四个名称，每个恰好对应一次训练。",
    )
    expect(
        answer["A"] == "no ties",
        "Nearly every pair of A is ordered, at the largest KL: which labels allow that?",
        "A 的偏好对几乎都排对了，KL 又最大：什么样的标签才做得到？",
    )
    expect(
        answer["C"] == "noise",
        "C orders its pairs no better than a coin and hardly moved: which file has little to learn?",
        "C 排偏好对和抛硬币差不多，几乎没有动：哪份文件可学的最少？",
    )
    expect(
        answer["D"] == "skewed",
        "In D exactness grew far above the base model's: what did its judge look at?",
        "D 的正确率比基座模型高出许多：它的裁判看的是什么？",
    )


@exercise("10.6")
def another_filter(answer):
    """Odds times (1 / kept)^(1 / beta); chosen long: p² + p(1 - p) of what is left."""
    predicted = function(answer)
    for p, kept, beta in ((0.3, 0.5, 1.0), (0.3, 0.25, 0.5), (0.6, 0.1, 2.0), (0.2, 1.0, 0.5)):
        found = predicted(p, kept, beta)
        if not isinstance(found, (tuple, list)) or len(found) != 2:
            raise Wrong("Return two numbers: DPO, imitation.", "应返回两个数：DPO，模仿。")
        dpo, sft = map(number, found)
        odds = p / (1 - p) * kept ** (-1 / beta)
        long_wins, short_wins = p, (1 - p) * (1 - p + kept * p)
        wanted = odds / (1 + odds), long_wins / (long_wins + short_wins)
        expect(
            max(abs(dpo - wanted[1]), abs(sft - wanted[0])) > 1e-6 or kept == 1,
            "The two are exchanged: DPO first.",
            "两个数的顺序反了：DPO 在前。",
        )
        expect(
            abs(dpo - wanted[0]) < 1e-6,
            f"DPO, p = {p}, kept = {kept}, beta = {beta}: multiply the odds of writing a long answer "
            "by e to the reward over beta.",
            f"DPO，p = {p}，kept = {kept}，beta = {beta}：写长回答的几率要乘上 e 的（奖励除以 beta）次方。",
        )
        expect(
            abs(sft - wanted[1]) < 1e-6,
            f"Imitation, p = {p}, kept = {kept}: count the pairs that are left, and those among them "
            "whose chosen answer is long.",
            f"模仿，p = {p}，kept = {kept}：数一数留下来的偏好对，其中 chosen 是长的有多少。",
        )
