"""The checks of chapter 12: advantages, where k3 ends, RLOO's loss, what clipping stops, a leaky judge, four leashes, few
answers to a prompt.
"""

import math

import torch

from checks import Wrong, exercise, expect, function, number, tensor


@exercise("12.1")
def advantages_by_hand(answer):
    """2 minus the mean of 1, 1, 0; and (2 - 1) over the standard deviation of all four."""
    if not isinstance(answer, (tuple, list)) or len(answer) != 2:
        raise Wrong("Two numbers are asked for, in a tuple.", "要两个数，放在一个元组里。")
    rloo, grpo = number(answer[0]), number(answer[1])
    expect(
        abs(rloo - 1) > 1e-3,
        "RLOO's baseline leaves the answer itself out.",
        "RLOO 的基线不算自己。",
    )
    expect(abs(rloo - 1.2247) > 1e-3, "The order is RLOO, then GRPO.", "次序是先 RLOO，后 GRPO。")
    expect(abs(rloo - 4 / 3) < 1e-3, "The others earned 1, 1 and 0.", "其余三个得 1、1、0。")
    expect(abs(grpo - 1) > 1e-3, "GRPO divides by the standard deviation.", "GRPO 还要除以标准差。")
    expect(
        abs(grpo - math.sqrt(2)) > 1e-3,
        "The standard deviation has n - 1 in its denominator here.",
        "这里的标准差，分母是 n - 1。",
    )
    expect(
        abs(grpo - 1.2247) < 1e-3,
        "2 less the mean of all four, over the square root of 2/3.",
        "2 减四个的平均，再除以 2/3 的平方根。",
    )


@exercise("12.2")
def where_k3_ends(answer):
    """The larger root of μ² - 1.5 μ + 0.35, and β p / (μ - 1)."""
    share = number(answer)
    expect(
        abs(share - 0.7599) > 2e-3,
        "That is the optimum of the objective, the leash in the reward.",
        "这是目标的最优解，是绳子在奖励里时的答案。",
    )
    expect(
        abs(share - 1.211) > 2e-3,
        "That is mu; put it into the formula.",
        "这是 μ，再代回公式。",
    )
    expect(abs(share - 0.289) > 2e-3, "That is the share of no.", "这是「否」的比例。")
    expect(
        0 < share < 1,
        "A share lies between 0 and 1; mu exceeds the larger reward.",
        "比例在 0 和 1 之间；μ 要大于较大的那个奖励。",
    )
    expect(
        abs(share - 0.7110) < 1.5e-3,
        "The two probabilities, beta times reference over mu less reward, sum to 1.",
        "两个概率都是 β 乘参考概率、再除以 μ 减奖励，加起来是 1。",
    )


@exercise("12.3")
def the_loss_of_rloo(answer):
    """Value and gradient of -A log π, the leash in A and nothing flowing through it."""
    loss = function(answer)
    generator = torch.Generator().manual_seed(3)
    logps, ref_logps = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64) - 6
    rewards = torch.randint(0, 3, (5, 3), generator=generator).double()
    logps.requires_grad_()
    value = tensor(loss(logps, ref_logps, rewards, 0.25))
    expect(
        value.dim() == 0,
        "Return one number: the mean over all answers.",
        "返回一个数：对所有回答取平均。",
    )
    net = (rewards - 0.25 * (logps - ref_logps)).detach()
    advantage = net - (net.sum(1, keepdim=True) - net) / 2
    expect(value.requires_grad, "No gradient reaches logps.", "没有梯度传到 logps。")
    (slope,) = torch.autograd.grad(value, logps)
    right = -advantage / logps.numel()
    expect(
        not torch.allclose(slope, -right),
        "The sign is turned round: a loss goes down.",
        "符号反了：损失是要往下走的。",
    )
    expect(
        not torch.allclose(slope, right * logps.numel()),
        "Take the mean, not the sum.",
        "要取平均，不是求和。",
    )
    expect(
        not torch.allclose(slope, right * 2 / 3),
        "The baseline includes the answer itself.",
        "基线把自己也算进去了。",
    )
    bare = rewards - (rewards.sum(1, keepdim=True) - rewards) / 2
    expect(
        not torch.allclose(slope, -bare / logps.numel()),
        "The leash is missing from the advantage.",
        "优势里少了绳子。",
    )
    expect(
        torch.allclose(slope, right),
        "The gradient should be minus the advantage, per answer: the advantage is a number, not a function of logps.",
        "对每个回答，梯度应是负的优势：优势只当作数，不随 logps 变。",
    )


@exercise("12.4")
def where_the_gradient_is_zero(answer):
    """Against autograd, on ratios and advantages of both signs."""
    stopped = function(answer)
    old = torch.zeros(6, dtype=torch.float64)
    logps = torch.tensor([1.3, 0.7, 1.3, 0.7, 1.1, 0.9], dtype=torch.float64).log()
    advantage = torch.tensor([1.0, 1.0, -1.0, -1.0, 1.0, -1.0], dtype=torch.float64)
    found = tensor(stopped(logps, old, advantage, 0.2), shape=(6,))
    expect(
        found.dtype == torch.bool,
        "Return a tensor of True and False.",
        "返回由 True 和 False 组成的张量。",
    )
    said = found.tolist()
    right = [True, False, False, True, False, False]
    expect(
        said != [not x for x in right],
        "True where nothing pulls, not where something does.",
        "不再拉的地方才是 True。",
    )
    expect(
        said != [True, True, True, True, False, False],
        "A ratio outside the interval still pulls if A asks for its return.",
        "比值出了区间，只要 A 要它回来，就还在拉。",
    )
    expect(
        said != [False, True, True, False, False, False],
        "The two signs of A are exchanged.",
        "A 的正负弄反了。",
    )
    expect(
        said == right,
        "A good answer stops above 1 + clip, a bad one below 1 - clip.",
        "好回答停在 1 + clip 以上，坏回答停在 1 - clip 以下。",
    )
    shifted = tensor(stopped(logps - 4, old - 4, advantage, 0.2), shape=(6,)).tolist()
    expect(
        shifted == right,
        "The ratio is of probabilities: exponentiate the difference of logps and old_logps.",
        "比值是概率之比：logps 与 old_logps 相减再取指数。",
    )
    wide = tensor(stopped(logps, old, advantage, 0.5), shape=(6,)).tolist()
    expect(
        not any(wide),
        "With clip = 0.5 all of these ratios are inside.",
        "clip = 0.5 时，这些比值都在区间里。",
    )


@exercise("12.5")
def a_leaky_judge(answer):
    """Odds 3 to 1, times e to (1 - 1/2) over 0.25."""
    share = number(answer)
    expect(
        abs(share - 0.9939) > 1e-3,
        "That is what an honest judge leads to.",
        "这是诚实的裁判会得到的。",
    )
    expect(
        abs(share - 0.75) > 1e-3,
        "That is the base model's share: a judge that lets every slip pass.",
        "这是基座模型的比例，相当于裁判每次失误都放过。",
    )
    expect(
        abs(share - 22.17) > 0.1,
        "Those are the odds; make a share of them.",
        "这是几率，还要化成比例。",
    )
    expect(
        abs(share - 0.8318) > 1e-3,
        "The tilt is the exponential of the difference of rewards over beta.",
        "倾斜的倍数，是奖励之差除以 β 再取指数。",
    )
    expect(
        abs(share - 0.9568) < 1e-3,
        "On average a slip earns 1/2 and a right value 1.",
        "平均下来，失误得 1/2，算对得 1。",
    )


@exercise("12.6")
def four_leashes(answer):
    """The curves end at 1, 0.841, 0.786 and 0.919."""
    if not isinstance(answer, dict) or set(answer) != set("ABCD"):
        raise Wrong(
            "A dict is asked for, with the letters A, B, C and D.",
            "要一个字典，键是字母 A、B、C、D。",
        )
    said = {letter: str(name) for letter, name in answer.items()}
    names = {"reward", "k1", "k3", "twice"}
    expect(
        set(said.values()) == names,
        "Each of reward, k1, k3 and twice belongs to one curve.",
        "reward、k1、k3、twice 各对应一条曲线。",
    )
    expect(
        said["A"] == "k1",
        "One leash does not pull at all: its curve runs towards 1.",
        "有一根绳子一点也不拉：它的曲线奔向 1。",
    )
    expect(
        said["D"] == "reward",
        "The optimum at beta = 0.5 has 0.919 of the best answer.",
        "β = 0.5 的最优解里，最好的回答占 0.919。",
    )
    expect(
        said["B"] == "k3" and said["C"] == "twice",
        "The KL turned round ends at 0.841; a leash that counts twice is beta = 1.",
        "方向相反的 KL 停在 0.841；扣两遍，等于 β = 1。",
    )


@exercise("12.7")
def two_answers_or_four(answer):
    """The optimum for β K / (K - 1): odds 3 to 7, times e and e^1.5."""
    if not isinstance(answer, (tuple, list)) or len(answer) != 2:
        raise Wrong("Two shares are asked for, in a tuple.", "要两个比例，放在一个元组里。")
    two, four = number(answer[0]), number(answer[1])
    expect(
        abs(two - 0.7599) > 2e-3 or abs(four - 0.7599) > 2e-3,
        "That is the optimum for beta itself; the group's mean takes part of the reward back.",
        "这是 β 本身的最优解；组内平均把一部分奖励拿了回去。",
    )
    expect(
        abs(two - 0.6576) > 2e-3 or abs(four - 0.5381) > 2e-3,
        "The order is K = 2, then K = 4.",
        "次序是先 K = 2，后 K = 4。",
    )
    expect(
        max(two, four) < 0.76,
        "The reward's part becomes shorter, so the leash is tighter, not longer.",
        "变短的是奖励那一份，所以绳子更紧，不是更长。",
    )
    expect(
        abs(two - 0.5381) < 2e-3,
        "K = 2: the odds 3 to 7, times the exponential of (1 - 1/2) over 0.5.",
        "K = 2：几率 3 比 7，乘上 (1 - 1/2) 除以 0.5 的指数。",
    )
    expect(
        abs(four - 0.6576) < 2e-3,
        "K = 4: the odds 3 to 7, times the exponential of (1 - 1/4) over 0.5.",
        "K = 4：几率 3 比 7，乘上 (1 - 1/4) 除以 0.5 的指数。",
    )
