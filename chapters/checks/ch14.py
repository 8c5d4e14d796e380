"""The checks of chapter 14: a boundary, a closed set, a beta, labels and batches for TRL, a rank, an average, four logs."""

import tempfile
from dataclasses import replace

import torch

from checks import exercise, expect, function, number
from data.small_words import make_words
from dpo_core import cost
from dpo_core.checkpoint import read_tokenizer
from dpo_core.losses import preference_loss
from dpo_core.tabular import Problem, optimal_policy, random_problems


@exercise("14.1")
def a_prompt_that_ends_too_late(answer):
    """Prompts that end well and prompts that do not, under the chapter's own tokenizer."""
    answer = function(answer)
    with tempfile.TemporaryDirectory() as place:
        words = read_tokenizer(make_words(f"{place}/words"))
    for prompt, text in (
        ("Is the sky", " blue?"),
        ("Is the sky ", "blue?"),
        ("Is the sk", "y blue?"),
        (words.prompt("Tea or coffee?"), "Tea, please."),
    ):
        alone, joined = words.encode(prompt), words.encode(prompt + text)
        right = joined[: len(alone)] != alone
        found = answer(words, prompt, text)
        expect(
            isinstance(found, bool),
            "The result is True or False.",
            "结果应是 True 或 False。",
        )
        expect(
            found == right,
            f"With the prompt {prompt[-12:]!r} and the answer {text!r} it is {right}.",
            f"提示是 {prompt[-12:]!r}、回答是 {text!r} 时，应为 {right}。",
        )


@exercise("14.2")
def why_a_closed_set_is_enough(answer):
    """The optimum, renormalised within some answers, for several problems; rewards outside play no part."""
    answer = function(answer)
    for seed, beta, keep in ((0, 0.5, [0, 2, 3]), (1, 2.0, [5, 1]), (2, 0.25, [4])):
        ref_logps, reward = (part[0] for part in random_problems(1, 6, seed))
        whole = optimal_policy(Problem(ref_logps, reward), beta)
        right = whole[keep] - whole[keep].logsumexp(-1)
        outside = [k for k in range(6) if k not in keep]
        hidden = reward.clone()
        hidden[outside] = float("nan")
        found = answer(ref_logps.clone(), reward.clone(), beta, list(keep))
        expect(
            isinstance(found, torch.Tensor) and found.shape == right.shape,
            f"For {len(keep)} answers the result is a tensor of {len(keep)} log-probabilities.",
            f"{len(keep)} 个回答，结果应是 {len(keep)} 个对数概率的张量。",
        )
        expect(
            abs(found.exp().sum() - 1) < 1e-9,
            "Within the set the probabilities must add up to 1.",
            "在集合里，概率加起来应是 1。",
        )
        expect(
            (found - right).abs().max() < 1e-9,
            f"Not the optimum within the set at beta {beta}: mind the sign and the place of beta.",
            f"β={beta} 时，这不是集合里的最优解：看看 β 的位置和正负号。",
        )
        blind = answer(ref_logps.clone(), hidden, beta, list(keep))
        expect(
            (blind - right).abs().max() < 1e-9,
            "The rewards outside the set have been looked at.",
            "看了集合外面的奖励。",
        )


@exercise("14.3")
def the_beta_that_a_model_has_lived_by(answer):
    """The inverse of the optimum's share, on several shares and betas."""
    answer = function(answer)
    for p, beta in ((0.25, 0.5), (0.6, 2.0), (0.05, 0.1)):
        raised = p * 2.718281828459045 ** (1 / beta)
        q = raised / (raised + 1 - p)
        found = number(answer(p, q))
        expect(
            abs(found * beta - 1) > 1e-6 or beta == 1,
            "That is 1 / beta.",
            "这是 1/β。",
        )
        expect(
            abs(found - beta) < 1e-6,
            f"From {p} to {q:.4f} the optimum of beta {beta} goes; yours is {found:.4f}.",
            f"从 {p} 到 {q:.4f}，是 β={beta} 的最优解；你的是 {found:.4f}。",
        )


@exercise("14.4")
def soft_labels_for_trl(answer):
    """The mean hard loss of the copies is the soft loss, for several probabilities."""
    answer = function(answer)
    logps = {"12+3E": -4.0, "9+6E": -7.5}
    for copies, prob in ((10, 0.7), (4, 0.25), (2, 0.5), (5, 1.0)):
        row = {"prompt": "S15=", "chosen": "12+3E", "rejected": "9+6E", "preference_prob": prob}
        given = dict(row)
        found = answer(row, copies)
        expect(row == given, "The row that was given has changed.", "传进来的那一行被改动了。")
        expect(
            isinstance(found, list) and len(found) == copies,
            f"The answer is a list of {copies} rows.",
            f"应返回 {copies} 行的列表。",
        )
        for one in found:
            expect(
                isinstance(one, dict) and set(one) == {"prompt", "chosen", "rejected"},
                "A row has prompt, chosen and rejected, and no other column.",
                "每行有 prompt、chosen、rejected，没有别的列。",
            )
            expect(
                one["prompt"] == "S15=" and {one["chosen"], one["rejected"]} == set(logps),
                "The texts of a row are those that were given, in one order or the other.",
                "每行的文本就是原来的，只是两个回答可以对调。",
            )
        kept = sum(one["chosen"] == "12+3E" for one in found)
        expect(
            prob == 0.5 or kept != copies - round(copies * prob),
            "Turned the wrong way: chosen keeps its place in a share preference_prob of the rows.",
            "对调反了：chosen 留在原位的行，份额应是 preference_prob。",
        )
        sides = (
            torch.tensor([logps[one[side]] for one in found], dtype=torch.float64)
            for side in ("chosen", "rejected")
        )
        zeros = torch.zeros(copies, dtype=torch.float64)
        hard = preference_loss(*sides, zeros, zeros, beta=0.5)[0].mean()
        one = torch.tensor([logps["12+3E"]]).double(), torch.tensor([logps["9+6E"]]).double()
        label = torch.tensor([prob], dtype=torch.float64)
        soft = preference_loss(*one, zeros[:1], zeros[:1], beta=0.5, preference_prob=label)[0]
        expect(
            abs(hard - soft.mean()) < 1e-9,
            f"With probability {prob} and {copies} copies the mean of the hard losses is not the soft loss.",
            f"概率 {prob}、{copies} 份时，硬标签损失的平均不等于软标签损失。",
        )


@exercise("14.5")
def one_batch_three_numbers(answer):
    """64 = 2 · 8 · 4; 78 and 79 steps."""
    expect(
        isinstance(answer, tuple | list) and len(answer) == 3,
        "The answer is a tuple of three numbers.",
        "答案是三个数的元组。",
    )
    pieces, ours, theirs = map(number, answer)
    expect(pieces != 32, "There are four devices as well.", "还有四个设备。")
    expect(
        pieces == 8,
        "2 pairs times pieces times 4 GPUs is 64.",
        "2 对乘累积次数乘 4 块 GPU 等于 64。",
    )
    expect(ours == 78, "We leave an incomplete batch out.", "凑不满的一批，我们舍去。")
    expect(
        theirs == 79,
        "TRL takes the 8 pairs that are left over.",
        "剩下的 8 个偏好对，TRL 也走一步。",
    )


@exercise("14.6")
def which_rank_pays_for_itself(answer):
    """The largest power of two that a card of 24 GB has room for, counted."""
    expect(
        isinstance(answer, tuple | list) and len(answer) == 2,
        "The answer is a pair: the rank, and the share.",
        "答案是一对数：秩和份额。",
    )
    rank, share = map(number, answer)
    shape, room = cost.PRESETS["llama-3-8b"], 0.9 * cost.GPUS["rtx-4090"].memory
    plan = cost.Plan(
        "dpo", 60_000, 1, 512, 512, 512, "stored",
        lora_rank=1, sharding="none", checkpointing=True, chunked_head=True,
    )  # fmt: skip
    fits = [
        r
        for r in (2**k for k in range(11))
        if cost.memory(shape, replace(plan, lora_rank=r), 1).total <= room
    ]
    expect(
        rank != 2 * max(fits),
        "That fits into 24 GB, of which 0.9 is yours.",
        "24 GB 里只有 0.9 归你用。",
    )
    expect(
        rank == max(fits),
        f"Rank {rank:g} is not the largest that fits.",
        f"{rank:g} 不是放得下的最大的秩。",
    )
    right = cost.lora_parameters(shape, max(fits)) / cost.parameters(shape)
    expect(
        abs(share / right - 1) < 0.01,
        "The share: the adapters' parameters by the model's.",
        "份额：适配器的参数除以全模型的参数。",
    )


@exercise("14.7")
def undo_the_average(answer):
    """N n_r / sum of all n: the average over ranks, undone."""
    answer = function(answer)
    for counts in ([1, 3], [4, 4, 4], [5, 0, 2, 1], [7]):
        given = list(counts)
        found = [number(answer(counts, rank)) for rank in range(len(counts))]
        expect(counts == given, "The counts have changed.", "传进来的个数被改动了。")
        sums = [2.0 * n + rank for rank, n in enumerate(counts)]
        means = [total / n if n else 0.0 for total, n in zip(sums, counts)]
        average = sum(f * mean for f, mean in zip(found, means)) / len(counts)
        wanted = sum(t for t, n in zip(sums, counts) if n) / sum(counts)
        expect(
            len(set(counts)) > 1 or all(abs(f - 1) < 1e-9 for f in found),
            f"Where all counts are equal the average is right already: {counts}.",
            f"个数都相等时，平均本来就对：{counts}。",
        )
        expect(
            abs(average - wanted) < 1e-9,
            f"With counts {counts} the averaged gradient is {average / wanted:.3g} times the right one.",
            f"个数是 {counts} 时，平均后的梯度是应有的 {average / wanted:.3g} 倍。",
        )
        expect(
            all(abs(f) < 1e-9 for f, n in zip(found, counts) if not n),
            "A rank without tokens has nothing to give.",
            "没有词元的 rank 没有可以贡献的。",
        )


@exercise("14.8")
def four_logs(answer):
    """Over-optimisation, reference, loss and fine."""
    words = {"fine", "reference", "loss", "overdone"}
    expect(
        isinstance(answer, (tuple, list)) and len(answer) == 4 and set(answer) == words,
        'Four words, each once: "fine", "reference", "loss", "overdone".',
        '四个词，每个用一次："fine"、"reference"、"loss"、"overdone"。',
    )
    expect(
        answer[1] == "reference",
        "Look at the first lines: where training begins, every reward is 0.",
        "看第一行：训练开始的地方，奖励都是 0。",
    )
    expect(
        answer[2] == "loss",
        "Compute log(1 + exp(-margin)) for each last line; one loss lies below it.",
        "对每个最后一行算 log(1 + exp(-间隔))：有一个损失比它小。",
    )
    expect(
        answer[0] == "overdone",
        "Where did chosen go while the accuracy stood at 1?",
        "准确率已经是 1，chosen 去了哪里？",
    )
