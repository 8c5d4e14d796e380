"""The checks of chapter 13: a predicted gain, a hasty trick, the size of a run, and a width that keeps a GPU busy."""

import torch
from torch.nn import functional as F

from checks import Wrong, exercise, expect, function, number
from dpo_core import cost, load_pretrained
from dpo_core.losses import preference_loss, sequence_logps
from dpo_core.packing import pack
from dpo_core.preferences import population_pairs
from dpo_core.task import BookTask

HASTY = ("joint", "packed", "shared", "answers", "sorted")


def hasty_loss(model, pairs, tricks):
    """The mean DPO loss of `pairs` (beta 0.25), by any of the tricks in HASTY; one of them is wrong."""
    unknown = sorted(set(tricks) - set(HASTY))
    if unknown:
        raise ValueError(f"unknown tricks {unknown}; accepted are {', '.join(HASTY)}")
    rows = torch.arange(len(pairs))
    batch = pairs.batch(rows.numpy())
    if "sorted" in tricks:
        rows = pairs.tokens[2].amax(0).argsort(stable=True)
        batch |= {
            name: values[rows] for name, values in batch.items() if name.endswith(("ids", "mask"))
        }
    ids, mask = (
        [batch[f"{side}_{name}"] for side in ("chosen", "rejected")] for name in ("ids", "mask")
    )
    with torch.no_grad():
        if "shared" in tricks:
            logps = _shared(model, torch.stack(ids, 1), torch.stack(mask, 1))
        elif "joint" in tricks:
            logps = _rows(model, torch.cat(ids), torch.cat(mask), tricks).chunk(2)
        else:
            logps = [_rows(model, *side, tricks) for side in zip(ids, mask)]
        ref = batch["ref_chosen_logps"], batch["ref_rejected_logps"]
        return preference_loss(*logps, *ref, beta=0.25)[0].mean().item()


def _rows(model, ids, mask, tricks):
    if not {"packed", "answers"} & set(tricks):
        return sequence_logps(model(ids), ids, mask)
    return _packed(model, pack(ids, mask), ids.shape, "answers" in tricks)


def _packed(model, packed, shape, answers):
    states = model.model(packed.input_ids, packed.layout)
    if answers:
        logits = model.lm_head(states[packed.source])
    else:
        logits = model.lm_head(states)[packed.source]
    logps = -F.cross_entropy(logits, packed.target, reduction="none")
    *rows, length = shape
    grid = logps.new_zeros(torch.Size(rows).numel() * (length - 1))
    return grid.index_put((packed.entry,), logps).view(*rows, length - 1).sum(-1)


def _shared(model, ids, mask):
    return _packed(model, pack(ids, mask), ids.shape, True).unbind(1)


def _two(answer):
    if not isinstance(answer, (tuple, list)) or len(answer) != 2:
        raise Wrong("Two values are asked for, in a tuple.", "要两个值，放在一个元组里。")
    return answer


@exercise("13.1")
def predict_a_gain(answer):
    """Five tensors and two calls against three and one."""
    gain = function(answer)
    machines = [
        (n, {"overhead": o, "bandwidth": w})
        for n, o, w in ((64_000, 4e-6, 9e10), (10**6, 3e-6, 5e10))
    ]
    for n, machine in machines:
        found, move = number(gain(n, machine)), 4 * n / machine["bandwidth"]

        def of(calls, tensors, calls_after, tensors_after, size=1.0, machine=machine, move=move):
            fee = machine["overhead"]
            return (calls * fee + tensors * move * size) / (
                calls_after * fee + tensors_after * move * size
            )

        right = of(2, 5, 1, 3)
        expect(
            abs(found - 1 / right) > 1e-3, "That is after over before.", "这是后比前，要前比后。"
        )
        expect(
            abs(found - of(0, 5, 0, 3)) > 1e-3,
            "Every call pays the overhead as well.",
            "每次调用还要付启动开销。",
        )
        expect(
            abs(found - of(2, 5, 1, 3, 0.25)) > 1e-3,
            "A float32 number has 4 bytes.",
            "一个 float32 数占 4 字节。",
        )
        expect(
            abs(found - of(2, 4, 1, 3)) > 1e-3 and abs(found - of(2, 3, 1, 2)) > 1e-3,
            "The product reads two tensors: up, and what silu has written.",
            "乘法要读两个张量：up，和 silu 写出来的那个。",
        )
        expect(
            abs(found - right) < 1e-6,
            "Before: two calls, five tensors. After: one call, and three tensors.",
            "融合前：两次调用，五个张量；融合后：一次调用，三个张量。",
        )
    expect(
        abs(number(gain(1, machines[0][1])) - 2) < 0.01,
        "For a tiny tensor only the number of calls counts.",
        "张量极小时，只看调用几次。",
    )


@exercise("13.2")
def find_the_hasty_trick(answer):
    """Sorting, which leaves the reference's log-probabilities where they were."""
    name, moved = _two(answer)
    expect(name in HASTY, "The name is one of HASTY.", "名字是 HASTY 里的一个。")
    moved = number(moved)
    gen = load_pretrained("gen")
    pairs = population_pairs(gen, BookTask(), 64, labels="sampled", seed=0)
    right = hasty_loss(gen, pairs, {"sorted"}) - hasty_loss(gen, pairs, set())
    expect(
        name == "sorted",
        "This one moves the loss by rounding alone.",
        "它让损失变动的，只有舍入那一点。",
    )
    expect(
        abs(moved + right) > 2e-3 * abs(right),
        "The sign is turned round: with the trick, minus without.",
        "符号反了：要用开着的减不开的。",
    )
    expect(
        abs(moved - right) < 2e-3 * abs(right),
        "The name is right; the difference is that of the mean loss over all 64 pairs.",
        "名字对了；差值要用 64 个偏好对的平均损失来算。",
    )


@exercise("13.3")
def size_a_run(answer):
    """What dpo_core.cost says."""
    gpus, hours = map(number, _two(answer))
    shape, card = cost.PRESETS["llama-3-8b"], cost.GPUS["h100"]

    def plan(**changes):
        settings = {
            "prompt": 400,
            "chosen": 500,
            "rejected": 500,
            "reference": "stored",
            "micro_batch": 4,
        }
        return cost.Plan("dpo", 120_000, **{"epochs": 2, **settings, **changes})

    def time_of(count, mfu=0.2, **changes):
        flops = cost.training_flops(shape, plan(**changes)).model.total
        return cost.hours(flops, count, card.flops, mfu)

    right = cost.gpus_needed(shape, plan(), 0.9 * card.memory)
    expect(
        gpus != cost.gpus_needed(shape, plan(micro_batch=1), 0.9 * card.memory),
        "Four pairs are computed at once.",
        "每次算四个偏好对。",
    )
    expect(
        gpus == right,
        "The fewest GPUs whose 0.9 of 80 GB hold weights, states, activations and logits.",
        "最少的 GPU 数：每个 80 GB 的 0.9，要装下权重、状态、激活值和 logits。",
    )
    near = [abs(hours / time_of(right, **other) - 1) < 2e-3 for other in (
        {"mfu": 0.4}, {"epochs": 1}, {"reference": "live"}, {"reference": "none"})]  # fmt: skip
    expect(not near[0], "DPO's utilisation here is 0.2.", "这里的利用率是 0.2。")
    expect(not near[1], "There are two epochs.", "要训练两轮。")
    expect(
        not near[2],
        "The reference is stored: one pass over the data, not one in each epoch.",
        "参考值是存好的：只把数据过一遍，不是每轮一遍。",
    )
    expect(
        not near[3],
        "What is stored was computed once: count that pass as well.",
        "存好的数也是算出来的，那一遍也要计入。",
    )
    expect(
        abs(hours / time_of(right) - 1) < 2e-3,
        "Hours are model FLOPs over GPUs, peak, 0.2 and 3600.",
        "小时数是模型运算量除以 GPU 数、峰值、0.2 和 3600。",
    )


@exercise("13.4")
def how_wide_a_model(answer):
    """2nR/(n-R) rounded up; and one row's share of the peak."""
    width, share = map(number, _two(answer))
    expect(
        width != 591,
        "That is for endless tokens; here there are 4,096, and the matrix counts too.",
        "这是词元无穷多的情形；这里有 4,096 个，矩阵也要搬。",
    )
    expect(width != 296, "Both the input and the output are moved.", "输入要搬，输出也要搬。")
    expect(
        width == 637,
        "Solve nD/(2n + D) = P/W for D, and round up.",
        "由 nD/(2n + D) = P/W 解出 D，向上取整。",
    )
    expect(share < 1, "A share lies below 1.", "比例小于 1。")
    expect(
        abs(share - 0.0033847) < 3e-5,
        "One row: 2 D² operations, 2 (2 D + D²) bytes; divide by P/W.",
        "一行：运算 2 D²，字节 2 (2 D + D²)；再除以 P/W。",
    )
