"""Writes the conformance cases: python -m tests.conformance.make_cases

What a case expects is computed here from its formula, by `math` alone: no tensor, no automatic
gradient, nothing of dpo_core or TRL. Derivatives are written out by hand; tests/test_conformance.py
holds them against differences of the formulas.
"""

import json
import math
from fractions import Fraction
from pathlib import Path

HERE = Path(__file__).parent
BOOK = HERE.parents[1] / "chapters" / "data" / "loss_cases.json"
FOUR = ("policy_chosen_logps", "policy_rejected_logps", "ref_chosen_logps", "ref_rejected_logps")
LICENCE = "MIT; the expected values may be copied freely"


# ---------------------------------------------------------------- losses of a pair


def log_sigmoid(x):
    """log σ(x) without overflow on either side."""
    return -math.log1p(math.exp(-x)) if x >= 0 else x - math.log1p(math.exp(x))


def sigmoid(x):
    return math.exp(log_sigmoid(x))


def _logistic(h, wrong):
    """Cross-entropy of σ(h) to a label that is wrong with this probability, and its derivative."""
    loss = -(1 - wrong) * log_sigmoid(h) - wrong * log_sigmoid(-h)
    return loss, -(1 - wrong) * sigmoid(-h) + wrong * sigmoid(h)


def pair_loss(case):
    """(loss, d loss / d policy_chosen, d loss / d policy_rejected) by the formula of the paper."""
    pc, pr, rc, rr = (case[name] for name in FOUR)
    beta, kind = case["beta"], case["loss_type"]
    nc, nr = case.get("chosen_length", 1), case.get("rejected_length", 1)
    wrong = 1 - case["preference_prob"] if "preference_prob" in case else 0.0
    wrong = case.get("label_smoothing", wrong)
    m = (pc - rc) - (pr - rr)
    if kind == "sigmoid":
        loss, slope = _logistic(beta * m, wrong)
        return loss, beta * slope, -beta * slope
    if kind == "robust":
        h = beta * m
        loss = (-(1 - wrong) * log_sigmoid(h) + wrong * log_sigmoid(-h)) / (1 - 2 * wrong)
        slope = (-(1 - wrong) * sigmoid(-h) - wrong * sigmoid(h)) / (1 - 2 * wrong)
        return loss, beta * slope, -beta * slope
    if kind == "hinge":
        slope = -beta if beta * m < 1 else 0.0
        return max(0.0, 1 - beta * m), slope, -slope
    if kind == "ipo":
        gap = m - 1 / (2 * beta)
        return gap**2, 2 * gap, -2 * gap
    if kind == "ipo_mean":
        gap = (pc - rc) / nc - (pr - rr) / nr - 1 / (2 * beta)
        return gap**2, 2 * gap / nc, -2 * gap / nr
    if kind == "sigmoid_norm":
        loss, slope = _logistic(beta * ((pc - rc) / nc - (pr - rr) / nr), wrong)
        return loss, beta * slope / nc, -beta * slope / nr
    if kind == "simpo":
        loss, slope = _logistic(beta * (pc / nc - pr / nr - case["gamma_beta_ratio"]), wrong)
        return loss, beta * slope / nc, -beta * slope / nr
    if kind == "orpo":
        a, b = pc / nc, pr / nr
        h = (a - math.log(-math.expm1(a))) - (b - math.log(-math.expm1(b)))
        loss, slope = -a - beta * log_sigmoid(h), -beta * sigmoid(-h)
        return loss, (slope / -math.expm1(a) - 1) / nc, -slope / -math.expm1(b) / nr
    raise ValueError(f"no formula for {kind}")


def kto_losses(case):
    """Losses of single answers and d loss / d policy, by h = β (log π - log π_ref - z)."""
    losses, slopes = [], []
    rows = zip(case["policy_logps"], case["ref_logps"], case["desirable"], strict=True)
    for policy, ref, desirable in rows:
        sign = 1.0 if desirable else -1.0
        weight = case["desirable_weight" if desirable else "undesirable_weight"]
        p = sigmoid(sign * case["beta"] * (policy - ref - case["kl"]))
        losses.append(weight * (1 - p))
        slopes.append(-weight * sign * case["beta"] * p * (1 - p))
    return losses, slopes


def expect_pair(case):
    loss, chosen, rejected = pair_loss(case)
    return {"loss": loss, "grad_chosen": chosen, "grad_rejected": rejected}


def title(en, zh):
    return {"en": en, "zh": zh}


def loss_cases():
    cases = []

    def add(name, en, zh, four, by_hand, conventions=None, **settings):
        settings = {"beta": 0.1, "loss_type": "sigmoid"} | settings
        case = {"id": name, "title": title(en, zh), "by_hand": by_hand, **settings}
        case |= dict(zip(FOUR, map(float, four), strict=True))
        case["expect"] = expect_pair(case)
        if conventions:
            case["conventions"] = [
                {k: v for k, v in c.items() if k != "as"}
                | {"expect": expect_pair({**case, **c["as"]})}
                for c in conventions
            ]
        cases.append(case)

    ln3 = math.log(3)
    add(
        "start-ln2",
        "ln 2 at the start",
        "起点的损失是 ln 2",
        (-12, -30, -12, -30),
        "policy = reference, so h = 0: loss ln 2, slope 1/2 (eric-mitchell #46)",
    )
    add(
        "reference-margin",
        "the reference has a margin of its own",
        "参考模型自己有差距",
        (-10, -14, -12, -11),
        "h = 0.1 * (2 - (-3)) = 0.5",
    )
    add(
        "beta-scale-1",
        "beta scales margin and gradient: 1",
        "beta 同时缩放间隔与梯度：1",
        (-10, -14, -12, -11),
        "h = 5",
        beta=1.0,
    )
    add(
        "beta-scale-2",
        "beta scales margin and gradient: 0.01",
        "beta 同时缩放间隔与梯度：0.01",
        (-10, -14, -12, -11),
        "h = 0.05",
        beta=0.01,
    )
    add(
        "lost-by-200",
        "h = -200: finite, gradient -beta",
        "h = -200：有限，梯度为 -beta",
        (-250, -50, -50, -50),
        "log sigma(-200) = -200 to the last digit; log(sigmoid(x)) is -inf in float32",
        beta=1.0,
    )
    add(
        "won-by-200",
        "h = 200: loss e^-200, gradient almost 0",
        "h = 200：损失 e^-200，梯度几乎为 0",
        (-50, -250, -50, -50),
        "e^-200 = 1.4e-87",
        beta=1.0,
    )
    add(
        "soft-label",
        "soft label 0.8",
        "软标签 0.8",
        (-4, -5, -4, -5 + ln3),
        "h = ln 3, sigma = 3/4: loss 0.8 ln(4/3) + 0.2 ln 4, slope 3/4 - 0.8",
        beta=1.0,
        preference_prob=0.8,
    )
    add(
        "soft-half",
        "soft label 1/2 at the start: no gradient",
        "软标签 1/2 在起点：梯度为 0",
        (-4, -5, -4, -5),
        "ln 2, slope 1/2 - 1/2",
        beta=1.0,
        preference_prob=0.5,
    )
    ignored = {
        "name": "no smoothing",
        "of": "trl",
        "as": {"label_smoothing": 0.0},
        "why": "TRL 1.16 ignores label_smoothing with loss_type sigmoid",
    }
    add(
        "cdpo",
        "label smoothing 0.1 (cDPO)",
        "标签平滑 0.1（cDPO）",
        (-10, -14, -12, -11),
        "0.9 of the loss at h = 0.5, 0.1 of the loss at h = -0.5",
        [ignored],
        label_smoothing=0.1,
    )
    add(
        "robust",
        "label smoothing 0.1, debiased (robust DPO)",
        "标签平滑 0.1，去偏（robust DPO）",
        (-10, -14, -12, -11),
        "(0.9 l(h) - 0.1 l(-h)) / 0.8",
        loss_type="robust",
        label_smoothing=0.1,
    )
    by_length = {
        "name": "mean over tokens",
        "of": "trl",
        "as": {"loss_type": "ipo_mean"},
        "why": "TRL divides each log-ratio by its answer's length before squaring (trl #1265, "
        "#1677); the paper's eq. 17 does not",
    }
    add(
        "ipo",
        "IPO: sum over the tokens, or mean",
        "IPO：对词元求和，还是取平均",
        (-10, -14, -12, -11),
        "m = 5, target 1/(2 * 0.5) = 1: (5 - 1)^2 = 16; with 4 and 6 tokens 2/4 + 3/6 = 1, loss 0",
        [by_length],
        beta=0.5,
        loss_type="ipo",
        chosen_length=4,
        rejected_length=6,
    )
    add(
        "ipo-past-target",
        "IPO pulls back a margin past its target",
        "IPO 把超过目标的间隔拉回来",
        (-10, -14, -12, -11),
        "m = 5, target 2.5: gradient +5 on the chosen answer; by tokens 2/2 + 3/2 = 2.5, loss 0",
        [by_length],
        beta=0.2,
        loss_type="ipo",
        chosen_length=2,
        rejected_length=2,
    )
    add(
        "hinge-active",
        "hinge below its margin",
        "hinge：间隔以内",
        (-10, -14, -12, -11),
        "1 - 0.5 = 0.5",
        loss_type="hinge",
    )
    add(
        "hinge-idle",
        "hinge beyond its margin",
        "hinge：间隔以外",
        (-10, -14, -12, -11),
        "1 - 5 < 0: nothing",
        loss_type="hinge",
        beta=1.0,
    )
    add(
        "sum-not-mean",
        "the log-probability of an answer is a sum",
        "回答的对数概率是求和",
        (-8, -2, -12, -3),
        "lengths 8 and 2: m = 4 - 1 = 3 (trl #789, eric-mitchell #40, minimind #298)",
        chosen_length=8,
        rejected_length=2,
    )
    add(
        "length-normalised-dpo",
        "length-normalised DPO",
        "按长度归一的 DPO",
        (-8, -2, -12, -3),
        "4/8 - 1/2 = 0: ln 2",
        loss_type="sigmoid_norm",
        beta=5.0,
        chosen_length=8,
        rejected_length=2,
    )
    add(
        "simpo",
        "SimPO: means, a margin, no reference",
        "SimPO：取平均，有间隔，无参考",
        (-8, -4, -90, -1),
        "-1 - (-2) - 0.5 = 0.5, times 2: h = 1",
        loss_type="simpo",
        beta=2.0,
        gamma_beta_ratio=0.5,
        chosen_length=8,
        rejected_length=2,
    )
    add(
        "orpo",
        "ORPO: odds of the mean probability of a token",
        "ORPO：按词元平均概率算几率",
        (8 * math.log(0.5), 2 * math.log(0.25), -90, -1),
        "odds 1 and 1/3: h = ln 3; loss ln 2 + beta ln(4/3)",
        loss_type="orpo",
        beta=0.5,
        chosen_length=8,
        rejected_length=2,
    )
    add(
        "identical-answers",
        "identical answers: ln 2 whatever the policy",
        "两个回答相同：损失总是 ln 2",
        (-7, -7, -9, -9),
        "m = 0; the two gradients cancel in the weights",
    )
    add(
        "tie",
        "a tie is a label of 1/2",
        "平局就是标签 1/2",
        (-10, -14, -12, -11),
        "the mean of the losses at h = 0.5 and -0.5",
        preference_prob=0.5,
    )
    add(
        "both-fall",
        "both answers fall, the margin grows",
        "两个回答都下降，间隔却变大",
        (-20, -40, -12, -11),
        "log-ratios -8 and -29: m = 21 (eric-mitchell #8)",
    )
    for case in json.loads(BOOK.read_text(encoding="utf-8"))["losses"]:
        name = "book-" + "-".join(case["name"].replace(",", "").split())
        if name in ("book-start", "book-worked-example"):
            continue  # the same as above
        options = {k: case[k] for k in ("preference_prob", "label_smoothing") if k in case}
        conventions = [ignored] if "label_smoothing" in options else None
        add(
            name,
            f"chapter 8: {case['name']}",
            f"第 8 章的手算例子：{case['name']}",
            [case[n][1] for n in FOUR],
            case["by_hand"],
            conventions,
            beta=case["beta"],
            **options,
        )
    broken = (
        (
            "nan-policy",
            "NaN in, not a number out",
            "输入 NaN，结果不可有限",
            ("NaN", -14, -12, -11),
        ),
        (
            "impossible-chosen",
            "a chosen answer of probability 0",
            "chosen 的概率为 0",
            ("-Infinity", -14, -12, -11),
        ),
        (
            "impossible-everywhere",
            "probability 0 under both models",
            "两个模型下概率都为 0",
            ("-Infinity", -14, "-Infinity", -11),
        ),
    )
    for name, en, zh, four in broken:
        cases.append(
            {
                "id": name,
                "title": title(en, zh),
                "loss_type": "sigmoid",
                "beta": 0.1,
                "by_hand": "-log sigma(-inf) = inf, and inf - inf is NaN: a finite loss would hide it",
                **{
                    n: v if isinstance(v, str) else float(v)
                    for n, v in zip(FOUR, four, strict=True)
                },
                "expect": {"not_finite": True, "may_refuse": True},
            }
        )
    return cases


def kto_cases():
    base = {
        "beta": 0.5,
        "desirable": [True, False],
        "desirable_weight": 1.0,
        "undesirable_weight": 1.0,
    }
    rows = (
        ("kto", "KTO at reference point 0", "KTO：参考点为 0", {"kl": 0.0}),
        (
            "kto-reference-point",
            "KTO: the reference point moves both",
            "KTO：参考点同时移动两边",
            {"kl": 2.0},
        ),
        (
            "kto-weights",
            "KTO: weights of the two kinds",
            "KTO：两类回答的权重",
            {"kl": 1.0, "undesirable_weight": 1.5},
        ),
    )
    cases = []
    for name, en, zh, more in rows:
        case = {
            "id": name,
            "title": title(en, zh),
            **base,
            **more,
            "by_hand": "log-ratios 2 and -3; weight * sigma(-h), weight * sigma(h) with h = 0.5 (ratio - kl)",
            "policy_logps": [-10.0, -14.0],
            "ref_logps": [-12.0, -11.0],
        }
        losses, slopes = kto_losses(case)
        cases.append({**case, "expect": {"losses": losses, "grads": slopes}})
    return cases


# ---------------------------------------------------------------- rows under a table of probabilities

# ids: 0 pad, 1 begin, 2 end, 3 "a", 4 "b". Row i: the distribution of the token after token i.
POLICY = [
    ["1/5", "1/5", "1/5", "1/5", "1/5"],
    ["1/16", "1/16", "1/8", "1/2", "1/4"],
    ["3/4", "1/16", "1/16", "1/16", "1/16"],
    ["1/16", "1/16", "1/4", "1/8", "1/2"],
    ["1/16", "1/16", "1/2", "1/4", "1/8"],
]
REFERENCE = [
    ["1/5", "1/5", "1/5", "1/5", "1/5"],
    ["1/16", "1/16", "1/8", "1/4", "1/2"],
    ["3/4", "1/16", "1/16", "1/16", "1/16"],
    ["1/16", "1/16", "1/8", "1/4", "1/2"],
    ["1/16", "1/16", "1/4", "1/8", "1/2"],
]


def row_terms(row, table):
    """[(token before, token, log-probability)] of the marked tokens of a row; table may alternate."""
    tables = table if isinstance(table[0][0], list) else [table]
    ids = row["ids"]
    return [
        (ids[t - 1], ids[t], math.log(Fraction(tables[(t - 1) % len(tables)][ids[t - 1]][ids[t]])))
        for t in range(1, len(ids))
        if row["mask"][t]
    ]


def row_logp(row, table):
    return math.fsum(term[2] for term in row_terms(row, table))


def row(ids, prompt):
    return {"ids": ids, "mask": [0] * prompt + [1] * (len(ids) - prompt)}


def logps_cases():
    cases = []

    def add(name, en, zh, rows, by_hand, table=POLICY, **more):
        cases.append(
            {
                "id": name,
                "title": title(en, zh),
                "by_hand": by_hand,
                "pad_id": 0,
                "probabilities": table,
                "rows": rows,
                **more,
                "expect": {"logps": [row_logp(r, table) for r in rows]},
            }
        )

    add(
        "shift-by-one",
        "token t is predicted from token t - 1",
        "第 t 个词元由第 t - 1 个预测",
        [row([1, 3, 4, 2], 1)],
        "p(a|S) p(b|a) p(end|b) = 1/2 * 1/2 * 1/2 (minimind #621)",
    )
    add(
        "prompt-not-counted",
        "the prompt does not count",
        "提示不计入",
        [row([1, 3, 3, 4, 2], 3)],
        "p(b|a) p(end|b) = 1/4 (OpenRLHF #294)",
    )
    add(
        "first-answer-token",
        "the first token of the answer counts",
        "回答的第一个词元要计入",
        [row([1, 4, 3], 2)],
        "p(a|b) = 1/4, and nothing else",
    )
    add(
        "end-counts",
        "the end token counts",
        "结束词元要计入",
        [row([1, 3, 2], 2)],
        "p(end|a) = 1/4 (trl #734)",
    )
    add(
        "only-end",
        "an answer that is only its end",
        "回答只有结束词元",
        [row([1, 2], 1)],
        "p(end|S) = 1/8",
    )
    add(
        "padding-not-counted",
        "padding does not count",
        "填充不计入",
        [row([1, 3, 4, 2], 1), row([1, 2], 1), row([1, 3, 3, 3, 4, 2], 2)],
        "1/8, 1/8, 1/8 * 1/8 * 1/2 * 1/2, whatever stands beside them in the batch (minimind #298)",
    )
    add(
        "pad-is-end",
        "the end counts where it is the pad token too",
        "结束词元兼作填充时仍要计入",
        [row([1, 3, 4, 2], 1), row([1, 2], 1)],
        "1/8 and 1/8; a mask by `id != pad` loses the end (trl #6357)",
        pad_id=2,
    )
    add(
        "mask-inside",
        "a gap in the mask",
        "掩码中间有空档",
        [{"ids": [1, 3, 4, 4, 2], "mask": [0, 1, 0, 0, 1]}],
        "p(a|S) p(end|b) = 1/4",
    )
    flipped = [POLICY[0], POLICY[1], POLICY[2], POLICY[4], POLICY[3]]
    add(
        "positions-left-padding",
        "positions count from the first real token",
        "位置从第一个真正的词元数起",
        [row([1, 3, 4, 3, 2], 1), row([1, 4, 2], 1)],
        "from an odd place of the text the rows of a and b are exchanged; a left-padded row whose "
        "places count the padding reads the wrong ones (trl #6800)",
        [POLICY, flipped],
    )
    half = [["1/2", "1/2"], ["1/2", "1/2"]]
    add(
        "long-sum-bfloat16",
        "a sum of 600 tokens, logits in bfloat16",
        "600 个词元求和，logits 为 bfloat16",
        [row([0] * 601, 1)],
        "600 ln(1/2) = -415.89; logits are 0, exact in bfloat16, but a running sum in bfloat16 stands "
        "still once its steps are too small",
        half,
        dtype="bfloat16",
        tolerance=1e-4,
    )
    return cases


def softmax_gradient(coefficient, terms, table, grad):
    """Add coefficient * d log p / d table of the marked tokens, for logits = table."""
    for before, token, _ in terms:
        for index, p in enumerate(table[before]):
            grad[before][index] += coefficient * ((index == token) - float(Fraction(p)))


def step_expected(case, weights=None):
    """Loss of one optimiser step and its gradient with respect to the policy's table of logits."""
    policy = case["policy"]
    grad = [[0.0] * len(policy) for _ in policy]
    if case["objective"] == "sft":
        terms = [row_terms(r, policy) for r in case["rows"]]
        counts = [len(t) for t in terms]
        weights = weights or [1 / sum(counts)] * len(terms)
        loss = 0.0
        for weight, t in zip(weights, terms):
            loss -= weight * math.fsum(x[2] for x in t)
            softmax_gradient(-weight, t, policy, grad)
        return {"loss": loss, "grad": grad}
    weights = weights or [1 / len(case["pairs"])] * len(case["pairs"])
    loss = 0.0
    for weight, pair in zip(weights, case["pairs"]):
        chosen, rejected = pair["chosen"], pair["rejected"]
        four = [row_logp(r, t) for t in (policy, case["reference"]) for r in (chosen, rejected)]
        value, slope, _ = pair_loss(
            {**dict(zip(FOUR, four)), "beta": case["beta"], "loss_type": "sigmoid"}
        )
        loss += weight * value
        softmax_gradient(weight * slope, row_terms(chosen, policy), policy, grad)
        softmax_gradient(-weight * slope, row_terms(rejected, policy), policy, grad)
    return {"loss": loss, "grad": grad}


def step_cases():
    pairs = [
        {"chosen": row([1, 3, 4, 2], 1), "rejected": row([1, 4, 4, 4, 2], 1)},
        {"chosen": row([1, 3, 2], 2), "rejected": row([1, 3, 4, 3, 2], 2)},
        {"chosen": row([1, 4, 2], 1), "rejected": row([1, 2], 1)},
    ]
    same = [{"chosen": row([1, 3, 2], 1), "rejected": row([1, 3, 2], 1)}]
    prompted = [{"chosen": row([1, 3, 3, 4, 2], 3), "rejected": row([1, 3, 3, 2], 3)}]
    base = {"pad_id": 0, "policy": POLICY, "reference": REFERENCE, "beta": 0.5}
    cases = []

    def add(name, en, zh, by_hand, **more):
        case = {"id": name, "title": title(en, zh), "by_hand": by_hand, **base, **more}
        cases.append({**case, "expect": step_expected(case)})
        return cases[-1]

    add(
        "step-one-batch",
        "a DPO step of three pairs",
        "一步 DPO，三个偏好对",
        "the mean over the pairs",
        objective="dpo",
        pairs=pairs,
        micro_batches=[[0, 1, 2]],
    )
    uneven = add(
        "step-uneven-accumulation",
        "two micro-batches, of two pairs and of one",
        "两个小批：两对与一对",
        "each pair weighs 1/3, however they are cut (transformers #35856)",
        objective="dpo",
        pairs=pairs,
        micro_batches=[[0, 1], [2]],
    )
    uneven["conventions"] = [
        {
            "name": "mean of means",
            "of": "trl",
            "expect": step_expected(uneven, [0.25, 0.25, 0.5]),
            "why": "the Trainer that DPOTrainer stands on divides each micro-batch's mean by their number, so "
            "the pair that is alone weighs 1/2",
        }
    ]
    add(
        "step-identical",
        "identical answers move nothing",
        "两个回答相同：权重不动",
        "ln 2, and a gradient of exactly 0",
        objective="dpo",
        pairs=same,
        micro_batches=[[0]],
    )
    add(
        "step-prompt-untouched",
        "the prompt's tokens get no gradient",
        "提示的词元没有梯度",
        "nothing that only the prompt reads has a gradient: the row of the begin token is 0",
        objective="dpo",
        pairs=prompted,
        micro_batches=[[0]],
    )
    rows = [row([1, 3, 4, 3, 4, 2], 1), row([1, 2], 1)]
    add(
        "sft-uneven-accumulation",
        "imitation: micro-batches of 5 tokens and of 1",
        "模仿：5 个词元与 1 个词元的小批",
        "total nats / 6 tokens, not the mean of two means (transformers #35856)",
        objective="sft",
        rows=rows,
        micro_batches=[[0], [1]],
    )
    return cases


# ---------------------------------------------------------------- rows of text

CHAR = {c: i for i, c in enumerate("PSEU0123456789+-*/.:=_")}
BPE = {"<pad>": 0, "</s>": 1, "a": 2, "b": 3, "c": 4, " ": 5, "ab": 6, "bc": 7}


def spelled(vocabulary, prompt, answer):
    """Ids and mask of a prompt and an answer that are given token by token."""
    return row([vocabulary[t] for t in (*prompt, *answer)], len(prompt))


def tokens_cases():
    cases = []

    def sides(vocabulary, prompt, chosen, rejected, others=None):
        return {
            "boundary": len(prompt),
            "chosen": spelled(vocabulary, prompt, chosen),
            "rejected": spelled(vocabulary, prompt if others is None else others, rejected),
        }

    def add(name, en, zh, data, by_hand, expect, conventions=None, tokenizer="char", **more):
        case = {
            "id": name,
            "title": title(en, zh),
            "by_hand": by_hand,
            "tokenizer": tokenizer,
            "row": data,
            **more,
            "expect": expect,
        }
        cases.append(case | ({"conventions": conventions} if conventions else {}))

    def messages(question, answer):
        return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]

    a, b = "27+27E", "30+24E"
    plain = sides(CHAR, "S54=", a, b)
    prefix = "the longest common prefix of the two texts is taken for the prompt"
    add(
        "explicit-prompt",
        "an explicit prompt",
        "显式提示",
        {"prompt": "S54=", "chosen": a, "rejected": b},
        "four prompt tokens, then the answer with one end",
        plain,
    )
    add(
        "implicit-prompt",
        "an implicit prompt",
        "隐式提示",
        {"chosen": "S54=" + a, "rejected": "S54=" + b},
        "both begin with S54=",
        plain,
    )
    add(
        "implicit-prompt-shared-digit",
        "an implicit prompt; the answers begin alike",
        "隐式提示，两个回答开头相同",
        {"chosen": "S54=27+27E", "rejected": "S54=20+34E"},
        "the answer begins after the =, not after the 2 (trl #6498)",
        sides(CHAR, "S54=", "27+27E", "20+34E"),
        [
            {
                "name": "common prefix",
                "of": "trl",
                "expect": sides(CHAR, "S54=2", "7+27E", "0+34E"),
                "why": prefix
                + "; the sigmoid loss is the same, a loss that divides by lengths is not",
            }
        ],
    )
    add(
        "conversation",
        "a conversation",
        "对话格式",
        {
            "prompt": messages("54", "")[:1],
            "chosen": messages("", "27+27")[1:],
            "rejected": messages("", "30+24")[1:],
        },
        "the template writes S54= and ends each answer",
        plain,
    )
    add(
        "conversation-implicit",
        "a conversation, the prompt within both",
        "对话格式，提示在两边之内",
        {"chosen": messages("54", "27+27"), "rejected": messages("54", "30+24")},
        "the user's turn is the prompt",
        plain,
    )
    add(
        "end-missing",
        "answers without their end",
        "回答缺结束词元",
        {"prompt": "S54=", "chosen": "27+27", "rejected": "30+24"},
        "the end is added and counted, or the row is refused (trl #734)",
        plain | {"may_refuse": True},
    )
    twice = sides(CHAR, "S54=", "27+27EE", "30+24EE")
    add(
        "end-twice",
        "a template that ends what has an end",
        "模板给已有结尾的回答再加结尾",
        {
            "prompt": messages("54", "")[:1],
            "chosen": messages("", a)[1:],
            "rejected": messages("", b)[1:],
        },
        "one end, or the row is refused (unsloth #3228)",
        plain | {"may_refuse": True},
        [
            {
                "name": "as the template writes it",
                "of": "trl",
                "expect": twice,
                "why": "the template is applied and its text is not looked at: both answers end twice",
            }
        ],
    )
    add(
        "empty-answer",
        "a rejected answer that is only its end",
        "rejected 只有结束词元",
        {"prompt": "S54=", "chosen": a, "rejected": "E"},
        "one token counts",
        sides(CHAR, "S54=", a, "E"),
    )
    add(
        "unequal-prompts",
        "two answers to different questions",
        "两个回答的问题不同",
        {"chosen": messages("54", "27+27"), "rejected": messages("55", "30+25")},
        "no pair: to be refused",
        {"refuse": True},
    )
    cut = sides(CHAR, "S54=", "27+2", "27+2")
    add(
        "cut-to-the-same",
        "answers that are the same once they are cut",
        "截断之后两个回答相同",
        {"prompt": "S54=", "chosen": "27+27E", "rejected": "27+26E"},
        "eight tokens leave 27+2 twice: nothing to learn, and no end; to be refused or dropped",
        {"refuse": True},
        [
            {
                "name": "cut without a word",
                "of": "trl",
                "expect": cut,
                "why": "the collator cuts each row at max_length; the pair stays, costs ln 2 and has no gradient",
            }
        ],
        max_length=8,
    )
    joint = "prompt and answer are encoded as one text, and the answer begins where it parts from the prompt alone"
    add(
        "no-merge",
        "BPE: nothing merges over the boundary",
        "BPE：边界处没有合并",
        {"prompt": "c", "chosen": "ab", "rejected": "ba"},
        "c | ab, c | b a",
        sides(BPE, ["c"], ["ab", "</s>"], ["b", "a", "</s>"]),
        tokenizer="bpe",
    )
    add(
        "merge-one",
        "BPE: one answer would merge with the prompt",
        "BPE：一个回答会与提示合并",
        {"prompt": "ca", "chosen": "bc", "rejected": "cb"},
        "the prompt is c a whatever comes after: that is what the model reads when it is asked",
        sides(BPE, ["c", "a"], ["bc", "</s>"], ["c", "b", "</s>"]),
        [
            {
                "name": "joint encoding",
                "of": "trl",
                "expect": sides(BPE, ["c"], ["ab", "c", "</s>"], ["a", "c", "b", "</s>"]),
                "why": joint,
            }
        ],
        tokenizer="bpe",
    )
    add(
        "merge-both",
        "BPE: both answers would merge with the prompt",
        "BPE：两个回答都会与提示合并",
        {"prompt": "ca", "chosen": "b", "rejected": "bb"},
        "c a | b, c a | b b",
        sides(BPE, ["c", "a"], ["b", "</s>"], ["b", "b", "</s>"]),
        [
            {
                "name": "joint encoding",
                "of": "trl",
                "expect": sides(BPE, ["c"], ["ab", "</s>"], ["ab", "b", "</s>"]),
                "why": joint,
            }
        ],
        tokenizer="bpe",
    )
    add(
        "one-text-begins-the-other",
        "implicit prompt: one text begins the other",
        "隐式提示：一个文本是另一个的开头",
        {"chosen": "ca b", "rejected": "ca"},
        "nothing says where an answer begins; c is no prompt (trl #6498)",
        {"refuse": True},
        tokenizer="bpe",
    )
    return cases


KINDS = {
    "loss": loss_cases,
    "kto": kto_cases,
    "logps": logps_cases,
    "step": step_cases,
    "tokens": tokens_cases,
}


def made():
    """Every file's content, by its name."""
    return {
        f"{kind}.json": json.dumps(
            {"format": 1, "kind": kind, "licence": LICENCE, "tolerance": 1e-5, "cases": cases()},
            ensure_ascii=False,
            indent=1,
            allow_nan=False,
        )
        + "\n"
        for kind, cases in KINDS.items()
    }


def main():
    """Write the files beside this one."""
    for name, text in made().items():
        (HERE / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
