"""The checks of chapter 7: a pair by hand, a wrong reference, a gradient through features, labels that undo beta,
where the chosen answer stops falling, and four curves."""

import math

import torch

from checks import Wrong, exercise, expect, function, number, tensor
from dpo_core import tabular


def two(answer):
    """The two numbers of an answer that is a pair of them."""
    if not isinstance(answer, (tuple, list)) or len(answer) != 2:
        raise Wrong("Two numbers are asked for, in a tuple.", "要两个数，放在一个元组里。")
    return number(answer[0]), number(answer[1])


@exercise("7.1")
def one_pair_by_hand(answer):
    """-log σ(log 2), and β (σ(log 2) - 1); two decimals are enough."""
    loss, derivative = two(answer)
    expect(
        abs(loss + math.log(0.8)) > 5e-3,
        "Beta is missing: h is beta times the difference of the log-ratios.",
        "漏了 β：h 是 β 乘两个对数比之差。",
    )
    expect(
        loss > 0,
        "A loss of this kind is positive: minus the logarithm of a probability.",
        "这种损失总是正数：它是概率的对数取负。",
    )
    expect(
        abs(loss - math.log(3)) > 5e-3,
        "That is the loss with the two answers exchanged.",
        "这是把两个回答对调之后的损失。",
    )
    expect(
        abs(loss - math.log(1.5)) < 5e-3,
        "The loss is minus log sigma(h), and h = log 2.",
        "损失是 -log σ(h)，其中 h = log 2。",
    )
    expect(
        abs(derivative + 1 / 3) > 5e-3,
        "That is the derivative with respect to h; one factor is missing.",
        "这是对 h 的导数；还差一个因子。",
    )
    expect(
        derivative < 0,
        "Right pair, wrong direction: more log-probability for the chosen answer lowers the loss.",
        "符号反了：chosen 的对数概率升高，损失就下降。",
    )
    expect(
        abs(derivative + 1 / 6) < 5e-3,
        "The derivative is beta times (sigma(h) - 1).",
        "导数是 β 乘（σ(h) - 1）。",
    )


@exercise("7.2")
def the_wrong_post(answer):
    """The stored reference, tilted, and beta times its KL from the optimum."""
    first, lost = two(answer)
    expect(
        abs(first - 0.919) > 3e-3,
        "That is the optimum for the true reference; the loss never saw it.",
        "这是真正的参考策略下的最优解；可是损失从没见过那个参考策略。",
    )
    expect(
        0 < first < 1,
        "A probability: divide the product by the sum of the three.",
        "要的是概率：乘积还要除以三个乘积之和。",
    )
    expect(
        abs(first - 0.8008) < 2e-3,
        "Tilt the stored reference: 0.2, 0.3, 0.5 times e to the reward over beta.",
        "给存下的参考策略加权：0.2、0.3、0.5 各乘 e 的 r/β 次方。",
    )
    expect(
        abs(lost - 0.0790) > 2e-3,
        "That is the KL; the shortfall has a factor beta.",
        "这是 KL；差额还要乘 β。",
    )
    expect(
        abs(lost - 0.0395) < 1e-3,
        "The shortfall is beta times KL(result || optimum), in this order.",
        "差额是 β 乘 KL（结果相对最优解），次序别反。",
    )


@exercise("7.3")
def gradient_through_features(answer):
    """Against autograd, on random features and counts, and with one feature for each answer."""
    gradient = function(answer)
    generator = torch.Generator().manual_seed(0)
    for features in (torch.randn(5, 3, generator=generator).double(), torch.eye(4).double()):
        answers, width = features.shape
        theta = torch.randn(width, generator=generator).double()
        wins = (
            torch.randint(0, 9, (answers, answers), generator=generator).double().fill_diagonal_(0)
        )
        ref = torch.randn(answers, generator=generator).double().log_softmax(-1)
        leaf = theta.clone().requires_grad_()
        tabular.dpo_loss((ref + features @ leaf).log_softmax(-1), ref, wins, 0.3).backward()
        result, right = tensor(gradient(theta, features, wins, 0.3), (width,)).double(), leaf.grad
        ratio = (result @ right / (right @ right)).item()
        if (result - ratio * right).abs().max() < 1e-6 and abs(ratio - 1) > 1e-6:
            expect(
                abs(ratio + 1) > 1e-6,
                "Right but for the sign: prediction minus label.",
                "只差一个正负号：预测减标签。",
            )
            expect(
                abs(ratio - wins.sum()) > 1e-3,
                "Divide by the sum of the table: the loss is a mean.",
                "要除以表的总和：损失是平均值。",
            )
            raise Wrong(
                "The direction is right; a factor is off. Where does beta stand?",
                "方向对，只差一个倍数：β 该放在哪里？",
            )
        expect(
            (result - right).abs().max() < 1e-6,
            "Not what autograd finds; try features that are the unit matrix first.",
            "与自动求导不符；先拿单位矩阵当 features 试试。",
        )


@exercise("7.4")
def labels_that_undo_beta(answer):
    """Minimise the loss on the labels at three strengths, and look where it ends."""
    labels_for = function(answer)
    target, ref = tabular.random_policies(2, 4, seed=0)
    for beta in (0.2, 1.0, 3.0):
        labels = tensor(labels_for(target, ref, beta), (4, 4)).double()
        expect(
            ((labels >= 0) & (labels <= 1)).all(),
            "A label is a probability, from 0 to 1.",
            "标签是概率，在 0 到 1 之间。",
        )
        expect(
            (labels + labels.T - 1).abs().max() < 1e-6,
            "Entries [i, j] and [j, i] must add up to 1.",
            "[i, j] 与 [j, i] 之和应为 1。",
        )
        wins = tabular.uniform_pairs(4) * labels
        end = tabular.minimise(lambda s: tabular.dpo_loss(s.log_softmax(-1), ref, wins, beta), ref)  # noqa: B023
        miss = (end.log_softmax(-1) - target).abs().max().item()
        expect(
            miss < 1e-5,
            f"With beta = {beta:g} DPO on these labels ends elsewhere; the log-probabilities are off by {miss:.2f}.",
            f"β = {beta:g} 时，用这些标签做 DPO，终点不是 target；对数概率差 {miss:.2f}。",
        )


@exercise("7.5")
def where_the_good_answer_is_rare(answer):
    """The beta at which the mean log-ratio of chosen answers changes its sign; two decimals."""
    beta = number(answer)
    expect(
        beta > 0,
        "Beta is positive.",
        "β 是正数。",
    )
    expect(
        abs(beta - 1.0017) > 6e-3,
        "That is the turn for the old reference, 0.5, 0.3, 0.2; here the best answer is the rarest.",
        "这是原先的参考策略（0.5、0.3、0.2）的转折处；这里最好的回答最少见。",
    )
    expect(
        abs(beta - 0.5574) > 6e-3,
        "That is the turn when pairs of equal answers are thrown away; here they are kept.",
        "这是扔掉相同回答时的转折处；这里相同的也留着。",
    )
    expect(
        abs(beta - 1.3104) < 6e-3,
        "At this beta the average chosen answer still moves. Set half of the mean m equal to the forward KL.",
        "在这个 β 处，chosen 平均起来还在动。让 m 平均值的一半等于正向 KL。",
    )


@exercise("7.6")
def four_curves(answer):
    """A deterministic labels, B another reference, C exchanged, D as it should be."""
    words = {"right", "deterministic", "exchanged", "reference"}
    if not isinstance(answer, dict) or set(answer) != set("ABCD"):
        raise Wrong("A word is asked for each of A, B, C, D.", "A、B、C、D 各要一个词。")
    expect(
        set(answer.values()) == words,
        f"Each of these words is used once: {', '.join(sorted(words))}.",
        f"这几个词各用一次：{'、'.join(sorted(words))}。",
    )
    expect(
        answer["B"] == "reference",
        "At the first step the loss must be ln 2, if the loss is given the policy that training starts from.",
        "给损失的若是训练的起点，第一步的损失就该是 ln 2。",
    )
    expect(
        answer["A"] == "deterministic",
        "Which labels leave the loss without a minimum? Its curve does not come to rest.",
        "哪一种标签下，损失没有最小值？它的曲线停不下来。",
    )
    expect(
        answer["C"] == "exchanged",
        "Look at the mean reward: one of the two learns the opposite of what the reward says.",
        "看平均奖励：这两次里，有一次学的与奖励正好相反。",
    )
