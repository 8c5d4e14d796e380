"""Checks of the exercise of chapter 0."""

import math

from checks import Wrong, exercise, expect, number


@exercise("0.1")
def loss_of_one_pair(answer):
    number(answer)
    wrong = {
        -math.log(1 / (1 + math.exp(-2))): (
            "Take the difference of the gains times beta.",
            "两个涨幅之差，还要乘上 beta。",
        ),
        math.log(1 + math.exp(1)): (
            "Chosen minus rejected, not the other way round.",
            "是 chosen 减 rejected，不是反过来。",
        ),
        1.0: (
            "That is the margin; the loss is -log(sigmoid(margin)).",
            "这是间隔；损失是 -log(sigmoid(间隔))。",
        ),
        1 / (1 + math.exp(-1)): (
            "That is sigmoid(margin); take -log of it.",
            "这是 sigmoid(间隔)，还要取 -log。",
        ),
    }
    for value, texts in wrong.items():
        if abs(answer - value) < 0.002:
            raise Wrong(*texts)
    expect(
        abs(answer - 0.313) < 0.002,
        "Gains first: each log-probability minus that of the reference.",
        "先算涨幅：各自的对数概率减去参考策略给的。",
    )
