"""The checks of chapter 3: entropy, the price of a wrong belief, the floor of data, and one vote for each answer."""

import math

import torch

from checks import close, exercise, expect, function, number


@exercise("3.1")
def entropy_by_hand(answer):
    """Shares 1/2, 1/4, 1/8, 1/8: 1.75 bits."""
    value = number(answer)
    expect(
        abs(value - 1.75) > 0.01,
        "That is the entropy in bits. A nat uses the natural logarithm.",
        "这是以比特计的熵。奈特要用自然对数。",
    )
    expect(
        abs(value - math.log(4)) > 0.005,
        "That would be four answers with equal shares; count the authors.",
        "四种回答一样多才是这个数；数一数各有几位作者。",
    )
    close(
        value,
        1.75 * math.log(2),
        "Average the surprises over the eight authors, each weighing one eighth.",
        "对八位作者的惊讶求平均，每人占八分之一。",
        within=0.006,
    )


@exercise("3.2")
def price_of_optimism(answer):
    """KL between the true coin, 0.25, and the believed one, 0.10."""
    value = number(answer)
    right, reverse = _kl(0.25, 0.10), _kl(0.10, 0.25)
    expect(
        abs(value - reverse) > 6e-4,
        "Right formula, wrong direction: the data (0.25) do the averaging.",
        "公式对，方向反了：按数据（0.25）求平均。",
    )
    expect(
        abs(value - right - _entropy(0.25)) > 6e-4,
        "That is a cross-entropy; take off the entropy of the data.",
        "这是交叉熵，还要减去数据的熵。",
    )
    expect(
        value >= 0,
        "No model stands below the floor: a KL divergence is never negative.",
        "没有模型低于下界：KL 散度不会是负数。",
    )
    close(
        value,
        right,
        "Average log(true / believed) over slipped and careful answers, weighted as in the data.",
        "把 log（真实 / 以为）对失误和没失误的回答求平均，权重按数据来。",
        within=6e-4,
    )


def _kl(p, q):
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


def _entropy(p):
    return -(p * math.log(p) + (1 - p) * math.log(1 - p))


@exercise("3.3")
def floor_of_any_data(answer):
    """Conditional entropy from counts."""
    count_floor = function(answer)
    close(
        count_floor([("a", "x"), ("b", "y"), ("c", "y")]),
        0.0,
        "Each prompt here has one answer only, so the floor is 0. Do you take the shares within a prompt?",
        "这里每个提示只有一种回答，没什么可猜，下界是 0。比例是在同一提示之内算的吗？",
    )
    close(
        count_floor([("a", "x"), ("a", "y")]),
        math.log(2),
        "One prompt with two equal answers: the floor is log 2 nats.",
        "一个提示，两种回答各一次：下界是 log 2 奈特。",
    )
    pairs = [("a", "x")] * 3 + [("a", "y")] + [("b", "x")] * 4
    close(
        count_floor(pairs),
        4 / 8 * _entropy(0.25),
        "Three x and one y for prompt a, four x for prompt b: half of the pairs have an entropy of 0.562. "
        "Every pair in the list counts once, repeated ones too.",
        "提示 a 有三个 x、一个 y，提示 b 有四个 x：列表里有一半，熵是 0.562。重复的项，每次都算。",
    )


@exercise("3.4")
def one_answer_one_vote(answer):
    """(sum of mean surprises, number of answers); pieces add up to the whole."""
    answer_step = function(answer)
    weight = torch.linspace(-1, 1, 22 * 22).sin().view(22, 22).clone().requires_grad_()
    model = lambda ids: weight[ids]  # noqa: E731  a network that looks at one token: (B, T) -> (B, T, 22)
    ids = torch.tensor(
        [
            [1, 11, 20, 7, 14, 8, 2, 0, 0],
            [1, 5, 20, 5, 2, 0, 0, 0, 0],
            [1, 9, 8, 20, 6, 11, 14, 6, 2],
        ]
    )
    # where the answers begin and end
    first, last = torch.tensor([[3], [3], [4]]), torch.tensor([[7], [5], [9]])
    mask = (torch.arange(9) >= first) & (torch.arange(9) < last)
    batch = {"input_ids": ids, "completion_mask": mask}
    result = answer_step(model, batch)
    expect(
        isinstance(result, dict)
        and isinstance(result.get("loss"), tuple)
        and len(result["loss"]) == 2,
        'Return {"loss": (sum, count)}.',
        '返回 {"loss": (sum, count)}。',
    )
    total, count = result["loss"]
    expect(
        isinstance(total, torch.Tensor) and total.requires_grad,
        "The sum must be a tensor that gradients flow through; do not detach it or turn it into a number.",
        "总和必须是能传梯度的张量，别用 detach，也别转成数。",
    )
    logps = weight.detach().log_softmax(-1)[ids[:, :-1], ids[:, 1:]]
    means = torch.stack([-row[marked].mean() for row, marked in zip(logps, mask[:, 1:])])
    loss = float(total.detach()) / float(count)
    expect(
        loss > 0,
        "A surprise is positive: minus the log-probability.",
        "惊讶是正的：对数概率要取负号。",
    )
    by_token = -float(logps[mask[:, 1:]].mean())
    expect(
        abs(loss - by_token) > 1e-4,
        "Here every token weighs the same; that is sft_step.",
        "这样每个词元分量相同，那就是 sft_step。",
    )
    close(
        loss,
        means.mean(),
        "sum / count should be the mean over answers of each answer's mean surprise a token.",
        "sum / count 应是：先对每个回答自己的词元求平均惊讶，再对各个回答求平均。",
        within=1e-4,
    )
    pieces = [
        answer_step(model, dict(zip(batch, (ids[part], mask[part]))))["loss"]
        for part in (slice(0, 1), slice(1, 3))
    ]
    both = float(sum(piece[0].detach() for piece in pieces)) / float(
        sum(piece[1] for piece in pieces)
    )
    close(
        both,
        means.mean(),
        "Cut into a piece of one answer and a piece of two, the batch gives another loss. "
        "Return the sum over answers, and how many answers there are.",
        "切成一个回答的一块和两个回答的一块，损失就变了。返回各回答之和，以及回答的个数。",
        within=1e-4,
    )


@exercise("3.5")
def four_curves(answer):
    """Mismatched prompts, all tokens, a mask that begins late, nats a token."""
    expect(isinstance(answer, str), "The answer is a text of four letters.", "答案是四个字母。")
    letters = answer.strip().lower()
    expect(
        sorted(letters) == list("abcd"),
        "Four letters, each once: what was the matter at 10.15, at 10.60, at 4.08, at 0.92?",
        "四个字母各用一次：10.15、10.60、4.08、0.92 各是哪种毛病？",
    )
    expect(
        letters[3] == "b",
        "Which of the four divides a loss by about six?",
        "四种毛病里，哪一种会让数小到约六分之一？",
    )
    expect(
        letters[2] == "d",
        "4.08 lies below the floor. What was left out of the count?",
        "4.08 比下界还低。少算了什么？",
    )
    expect(
        letters == "cadb",
        "H(Y) is 10.14, H(X, Y) is 10.59: which of them belongs to counting the prompt?",
        "H(Y) 是 10.14，H(X, Y) 是 10.59：提示也计入时，该是哪一个？",
    )


@exercise("3.6")
def authors_who_try_harder(answer):
    """Slips of 0.05: 0.95 exact, a floor of 5.37, and KL of the new coin to the old, 0.14."""
    expect(
        isinstance(answer, (tuple, list)) and len(answer) == 3,
        "The answer is three numbers.",
        "答案是三个数。",
    )
    exact, floor, above = map(number, answer)
    without_slips = 5.736 - _entropy(0.25)
    close(
        exact,
        0.95,
        "A perfect imitator slips as often as its authors.",
        "学得一丝不差，失误也和作者一样多。",
        within=0.006,
    )
    expect(
        abs(floor - 5.736 - _entropy(0.05)) > 0.02,
        "The old yes or no is still in the floor; take it off first.",
        "原来那份「失误与否」的熵还在里面，要先减掉。",
    )
    expect(
        abs(floor - without_slips) > 0.02,
        "That is the floor of authors who never slip; add what the new slips cost.",
        "这是从不失误的作者的下界，还要加上新的失误带来的熵。",
    )
    close(
        floor,
        without_slips + _entropy(0.05),
        "The floor loses the entropy of the old coin and gains that of the new one.",
        "下界减去旧硬币的熵，加上新硬币的熵。",
        within=0.006,
    )
    expect(
        abs(above - _kl(0.25, 0.05)) > 0.006,
        "Right formula, wrong direction: the new authors do the averaging.",
        "公式对，方向反了：按新作者求平均。",
    )
    expect(
        abs(above - (5.736 - floor)) > 0.006,
        "The old model's loss is not the old floor: other authors write the texts now.",
        "旧模型的损失不是旧的下界：写文本的人已经换了。",
    )
    close(
        above,
        _kl(0.05, 0.25),
        "The excess is KL(new coin || old coin).",
        "高出的部分是 KL（新硬币 || 旧硬币）。",
        within=0.006,
    )
