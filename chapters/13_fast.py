# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown] lang="en"
# # 13 Making it fast

# %% [markdown] lang="zh"
# # 13 让它快起来

# %% [markdown] lang="en"
# > **In this chapter.** You will be able to say, before you change a line of code, about how much the change will save: by counting calls, operations and bytes, and by knowing three numbers of your machine. You will see where the time of a DPO step goes, which tricks pay and which lose, and how time and memory grow with the model. At the end the same arithmetic sizes a run on GPUs that you do not have yet. You need the model of [chapter 2](02_llama.ipynb) and the step of [chapter 9](09_dpo.ipynb). 30 minutes to read, and 14 more for the sections marked ⋆; 20 seconds to run.

# %% [markdown] lang="zh"
# > **本章。** 读完后，你能在改代码之前就大致说出这一改能快多少：数一数调用、运算和字节，再加上机器的三个数，就够了。你会看到一步 DPO 的时间花在哪里，哪些办法划算，哪些反而更慢，时间和内存又怎样随模型变大。最后，用同一套算术，给还没到手的 GPU 估算一次训练。需要[第 2 章](02_llama.ipynb)的模型和[第 9 章](09_dpo.ipynb)的训练步。阅读 30 分钟，带 ⋆ 的几节另需 14 分钟；运行 20 秒。

# %%
import json
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from checks import check
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from dpo_core import BookTask, cost, kernels, load_pretrained, use_threads
from dpo_core.losses import preference_loss, sequence_logps
from dpo_core.packing import completion_logps, pack
from dpo_core.plotting import COLORS, INK, figure, picture
from dpo_core.preferences import population_pairs

# %% [markdown] lang="en"
# ## Three numbers of a machine
# Optimising usually begins with an idea and ends with a stopwatch. Here a prediction comes first. A prediction that comes true says that we know why the code is fast. One that fails says where to look.
#
# When torch calls an operation, three things take time. The processor finds the right code and sets up the result: the **overhead**, $o$, the same for large tensors and small ones. It moves numbers between memory and the place where it computes: $M$ bytes at a **bandwidth** of $W$ bytes a second. It computes: $F$ additions and multiplications of floating-point numbers (FLOPs) at a **peak** of $P$ a second. Moving and computing overlap, so that the slower of the two counts:
#
# $$t=o+\max\Big(\frac{F}{P},\;\frac{M}{W}\Big)\tag{13.1}.$$
#
# This is the **roofline** ([Williams et al. 2009](https://doi.org/10.1145/1498765.1498785)) with an entrance fee. By hand, on a machine with $P=100$ GFLOP/s (a G is a billion), $W=100$ GB/s and $o=4$ µs (millionths of a second), with numbers of 4 bytes:
#
# | operation | FLOPs | bytes | computing | moving | $t$ |
# |---|---|---|---|---|---|
# | 1,000 tokens of width 64 times a matrix, $64\times 64$ | $2\cdot 1000\cdot 64\cdot 64$ | $4\cdot(64\,000+4096+64\,000)$ | 82 µs | 5 µs | 86 µs |
# | adding two tensors of 1,000 tokens | $64\,000$ | $4\cdot 3\cdot 64\,000$ | 0.6 µs | 8 µs | 12 µs |
# | adding two single numbers | 1 | $4\cdot 3$ | 0 µs | 0 µs | 4 µs |
#
# Each row waits for something else.

# %% [markdown] lang="zh"
# ## 机器的三个数
# 优化往往从一个点子开始，到一只秒表结束。这里先预测，再掐表。预测对了，说明我们知道代码为什么快；预测错了，也就知道该往哪里看。
#
# torch 每调用一个运算，处理器要做三件事，件件花时间。先找到该用的代码，备好放结果的地方：这是**启动开销**（overhead），记作 $o$，张量再小也要付。再把数在内存和运算单元之间搬来搬去：$M$ 个字节，每秒搬 $W$ 个，$W$ 叫**带宽**（bandwidth）。最后是算：$F$ 次浮点数的加法和乘法（FLOP），每秒最多 $P$ 次，$P$ 叫**峰值**（peak）。搬和算可以同时进行，所以只看慢的那个：
#
# $$t=o+\max\Big(\frac{F}{P},\;\frac{M}{W}\Big)\tag{13.1}$$
#
# 这就是**屋顶线**（roofline；[Williams et al. 2009](https://doi.org/10.1145/1498765.1498785)），外加 $o$ 这张门票。手算一遍，设机器的 $P=100$ GFLOP/s（G 是十亿），$W=100$ GB/s，$o=4$ µs（百万分之一秒），每个数占 4 字节：
#
# | 运算 | FLOP | 字节 | 算 | 搬 | $t$ |
# |---|---|---|---|---|---|
# | 1,000 个宽 64 的词元，乘一个 $64\times 64$ 的矩阵 | $2\cdot 1000\cdot 64\cdot 64$ | $4\cdot(64\,000+4096+64\,000)$ | 82 µs | 5 µs | 86 µs |
# | 两个 1,000 词元的张量相加 | $64\,000$ | $4\cdot 3\cdot 64\,000$ | 0.6 µs | 8 µs | 12 µs |
# | 两个数相加 | 1 | $4\cdot 3$ | 0 µs | 0 µs | 4 µs |
#
# 第一行等的是算，第二行等的是搬，第三行只等启动。

# %% tags=["setup"]
use_threads(1)
recorded = json.loads(Path("data/fast.json").read_text(encoding="utf-8"))


def op_seconds(flops, moved, machine):
    """What one operation takes, by three numbers of a machine."""
    rate = machine["bandwidth"] if moved <= machine["cache"] else machine["from_memory"]
    return machine["overhead"] + max(flops / machine["peak"], moved / rate)


# %%
by_hand = {"peak": 100e9, "bandwidth": 100e9, "overhead": 4e-6, "cache": 1e9}
for flops, moved, stated in (
    (2 * 1000 * 64 * 64, 4 * (64_000 + 4096 + 64_000), (82, 5, 86)),
    (64_000, 4 * 3 * 64_000, (0.6, 8, 12)),
    (1, 4 * 3, (0, 0, 4)),
):
    total = op_seconds(flops, moved, by_hand)
    parts = flops / by_hand["peak"], moved / by_hand["bandwidth"], total
    print(*(f"{1e6 * part:5.1f} us" for part in parts))
    for part, told in zip(parts, stated):
        assert round(1e6 * part, 0 if told >= 1 else 1) == told

# %% [markdown] lang="en"
# Now the machine that runs this page. The peak comes from a product of two large matrices, the bandwidth from adding tensors that fit into the processor's cache (a small, fast memory of its own), the overhead from a chain of tiny multiplications with its gradient. The clock counts this process's own CPU seconds, so that a busy neighbour disturbs less.

# %% [markdown] lang="zh"
# 再看正在运行本页的这台机器。峰值用两个大矩阵的乘积来量；带宽用一次加法来量，张量放得进处理器的缓存（cache，处理器自带的一小块快内存）；启动开销用一长串极小的乘法来量，连同求梯度。计时只算本进程自己用掉的 CPU 时间，旁边有别的程序在跑，影响也小些。


# %%
def seconds(work, calls=20, rounds=5):
    """CPU seconds of one call of `work`: the least of some rounds."""
    work()
    found = []
    for _ in range(rounds):
        started = time.process_time()
        for _ in range(calls):
            work()
        found.append((time.process_time() - started) / calls)
    return min(found)


def chain(length=100):
    """As many multiplications of eight numbers, and as many again for the gradient."""
    x = torch.ones(8, requires_grad=True)
    for _ in range(length):
        x = x * 1.0001
    x.sum().backward()


# %%
square, (a, b, c) = torch.randn(512, 512), torch.randn(3, 2**17)
large = torch.randn(3, 2**23)
here = {
    "peak": 2 * 512**3 / seconds(lambda: square @ square),
    "bandwidth": 12 * 2**17 / seconds(lambda: torch.add(a, b, out=c), 100),
    "from_memory": 12 * 2**23 / seconds(lambda: torch.add(*large[:2], out=large[2]), 2),
    "overhead": seconds(chain, 10) / 200,
    "cache": recorded["machine"]["cache"],
}
machine = recorded["machine"]  # where the long measurements below were made
for which in (here, machine):
    assert which["overhead"] * which["peak"] > 20_000  # FLOPs that one call costs
    assert which["bandwidth"] > which["from_memory"] / 2
assert 1e5 < machine["overhead"] * machine["peak"] < 1e6
assert round(machine["bandwidth"] / machine["from_memory"]) == 3
print(machine["processor"], machine["torch"], machine["cores"])

# %% [markdown] lang="en"
# What takes minutes was measured once, by `chapters/data/fast.py`, on one core of the machine that the cell names; `machine` holds its three numbers. Every result below that is not marked as live is that machine's; yours will have others. One call costs it as much time as several hundred thousand FLOPs: in a model of width 64 no small change, and the first thing that a large model hides from its owner. What does not fit into its cache comes from memory, three times slower.

# %% [markdown] lang="zh"
# 要跑几分钟的测量，由 `chapters/data/fast.py` 一次录好，用的是上面打印的那台机器的一个核；`machine` 里存着它的三个数。下文的结果，凡没有注明是当场测的，都出自那台机器，换一台就是另一组数。在它上面，调用一次的时间够做几十万次运算。模型宽度只有 64，这笔开销不能忽略；模型一大，它就看不见了。放不进缓存的，要从内存取，速度只有三分之一。


# %%
SHIFT = {
    "qkv": (4, 6),
    "o_proj": (-20, -14),
    "residual": (-40, 11),
    "rms_norm": (-18, 7),
    "cross_entropy": (-26, 8),
}


def operations(axes, say):
    """The measured operations: products in one colour, the others in another."""
    products = say("products with weights", "与权重相乘")
    for kind, word in (
        ("policy", products),
        ("rejected", say("all else", "其余的运算")),
    ):
        axes.plot([], [], "o", color=COLORS[kind], markersize=5, label=word)
    for op in machine["operations"]:
        if op["flops"]:
            x, y = op["flops"] / op["bytes"], op["flops"] / op["seconds"] / 1e9
            product = op["name"] in ("qkv", "o_proj", "gate_up", "lm_head")
            kind = "policy" if product else "rejected"
            axes.plot(x, y, "o", color=COLORS[kind], markersize=5)
            shift = SHIFT.get(op["name"], (4, -10))
            axes.annotate(op["name"], (x, y), shift, textcoords="offset points", size=8)


# %% tags=["figure"] alt_en="Roofline, both axes logarithmic: FLOP per byte from 0.05 to 40 against GFLOP per second. A solid line rises and turns flat near 100; a dashed one, memory, turns later; a dotted one is the machine of this page. The three products of the layers lie on the flat roof at the right. Scores and mix lie below it. rope, rms_norm and swiglu lie below the slope, residual a little above it; softmax lies farthest under the roof." alt_zh="屋顶线图，两轴都是对数：横轴每字节的运算数，从 0.05 到 40；纵轴 GFLOP 每秒。实线先上升，到 100 左右变平；虚线是内存，更靠右才变平；点线是正在运行本页的机器。各层的三个乘积落在右边的平顶上；scores 和 mix 在它下面；rope、rms_norm、swiglu 在斜坡下面，residual 略高出斜坡；softmax 离屋顶最远。"
@picture
def roofline(say):
    fig, axes = figure(width=6.8, height=4.0)
    at = np.geomspace(0.05, 40, 200)
    cached = say("recorded, from the cache", "存下的测量，从缓存读")
    memory = say("recorded, from memory", "存下的测量，从内存读")
    now = say("this machine, from the cache", "这台机器，从缓存读")
    for which, rate, style, color, label in (
        (machine, "bandwidth", "-", COLORS["theory"], cached),
        (machine, "from_memory", "--", COLORS["theory"], memory),
        (here, "bandwidth", ":", INK, now),
    ):
        roof = np.minimum(which["peak"], at * which[rate]) / 1e9
        axes.plot(at, roof, style, color=color, label=label)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel=say(
            "operations for each byte moved (FLOP)",
            "每搬一个字节，做多少次运算（FLOP）",
        ),
        ylabel=say("operations a second (GFLOP/s)", "每秒运算次数（GFLOP/s）"),
    )
    operations(axes, say)
    axes.legend(loc="lower right", fontsize=8)


# %% [markdown] lang="en"
# **Figure 13.1.** Operations in the sizes of the book's step (1,000 tokens of width 64), under the roof of the machine that recorded them. Solid: from the cache; dashed: from memory; dotted: the machine that ran this page. Blue, products with weights: the layers' reach about nine tenths of the peak, the head's with 22 columns less than half. Red, all else (FLOPs counted by hand where torch counts none): below one FLOP a byte nothing gets to a quarter of the peak, and softmax stays below a tenth of even its own roof.

# %% [markdown] lang="zh"
# **图 13.1** 各种运算，大小同本书的训练步（1,000 个词元，宽度 64），画在记录数据的那台机器的屋顶下。实线：数在缓存里；虚线：数在内存里；点线：正在运行本页的机器。蓝色是与权重相乘的乘积：各层的达到峰值的九成左右，输出头只有 22 列，不到一半。红色是其余（torch 不数运算量的，由我们手数）：每字节不到一次运算的，都到不了峰值的四分之一；softmax 连自己头上的屋顶也够不到十分之一。

# %% tags=["proof"] checked_en="Checked: what the caption says of the points." checked_zh="已验证：图注里关于这些点的话。"
peak, share, roof = machine["peak"], {}, {}
for op in machine["operations"]:
    reached = op["flops"] / op["seconds"]
    share[op["name"]] = reached / peak
    if op["flops"]:
        limit = op["flops"] / op["bytes"] * machine["bandwidth"]
        roof[op["name"]] = reached / min(peak, limit)
    if 0 < op["flops"] < op["bytes"]:
        assert reached < peak / 4
assert 0.87 < min(share[name] for name in ("qkv", "o_proj", "gate_up")) < 0.95
assert share["lm_head"] < 0.5
assert roof["softmax"] < 0.1 and min(roof, key=roof.get) == "softmax"

# %% [markdown] lang="en"
# ## Count, then predict
# torch lets us look over its shoulder: a **dispatch mode** sees every operation, those of the backward pass included. A dozen lines count what they do. A view (the same numbers in another shape) moves nothing and pays the entrance fee alone. FLOPs are counted for matrix products only; to every other operation the counter gives a zero, as if it did nothing but move. That zero will be missed at softmax.

# %% [markdown] lang="zh"
# ## 先数，再预测
# torch 允许旁观：**派发模式**（dispatch mode）能看到每一个运算，反向传播的也在内。十来行代码就能数清它们做了什么。视图（view，同一批数换个形状）什么也不搬，只付门票。运算量只数矩阵乘积；别的运算一律记零，好像它们只搬不算。到了 softmax，缺的就是这一笔。


# %% tags=["setup"]
class Counter(TorchDispatchMode):
    """Notes each operation that torch performs: name, FLOPs, bytes read and written."""

    def __init__(self):
        super().__init__()
        self.ops = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        tensors = [x for x in tree_leaves((args, kwargs, result)) if torch.is_tensor(x)]
        moved = sum(x.numel() * x.element_size() for x in tensors)
        count = flop_registry.get(func.overloadpacket)
        flops = count(*args, **kwargs, out_val=result) if count else 0
        moved = 0 if func.is_view else moved
        self.ops.append((func.overloadpacket.__name__, flops, moved))
        return result


def ops_of(work):
    """What `work` does, once everything has been made that it makes the first time."""
    work()
    with Counter() as counter:
        work()
    return counter.ops


# %% [markdown] lang="en"
# Now four ways to compute one DPO step, loss and gradient, on one batch of 64 pairs. All four use the library's layers; they differ in the shape of the batch. The first is the formula taken literally: rows padded to one length, a forward pass for the chosen answers and one for the rejected. The second puts both into one pass. The third leaves out the **padding**, and each answer's last token, whose logits nobody asks for: the residual stream becomes a list of tokens, and only attention sees rows. The fourth lets both answers of a pair **share their prompt** (and the first tokens of the answers, where these are the same).

# %% [markdown] lang="zh"
# 下面用四种写法算同一步 DPO：同一批 64 个偏好对，求损失和梯度。四种都用库里的层，不同的只是批次的形状。第一种是朴素写法，照公式来：各行填充到一样长，chosen 前向一次，rejected 再前向一次。第二种把两者放进同一次前向。第三种去掉**填充**，也去掉每个回答的最后一个词元（它后面该是什么，没有谁要问）：残差流变成一列词元，只有注意力还要看行。第四种让同一个偏好对的两个回答**共用提示**（回答开头相同的词元，也一并共用）。

# %% tags=["setup"]
gen = load_pretrained("gen")
pairs = population_pairs(gen, BookTask(), 64, labels="sampled", seed=0)
batch = pairs.batch(np.arange(64))
SIDES = ("chosen", "rejected")
ids, mask = ([batch[f"{side}_{name}"] for side in SIDES] for name in ("ids", "mask"))


def step(chosen, rejected):
    """Loss and gradient, from two (64,) log-probabilities."""
    ref = batch["ref_chosen_logps"], batch["ref_rejected_logps"]
    gen.zero_grad()
    loss = preference_loss(chosen, rejected, *ref, beta=0.25)[0].mean()
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten() for p in gen.parameters()])


# %% tags=["setup"]
def rows(ids, mask):
    return sequence_logps(gen(ids), ids, mask)


def tokens_alone(ids, mask):
    """The same without padding; (64, 2) where ids are (64, 2, T) and share a prompt."""
    return completion_logps(gen, ids, mask).sum(-1)


apart = [torch.cat(part) for part in (ids, mask)]  # ids and mask, (128, T)
beside = [torch.stack(part, 1) for part in (ids, mask)]  # (64, 2, T)
WAYS = {
    "two_passes": lambda: step(rows(ids[0], mask[0]), rows(ids[1], mask[1])),
    "joint": lambda: step(*rows(*apart).chunk(2)),
    "packed": lambda: step(*tokens_alone(*apart).chunk(2)),
    "shared": lambda: step(*tokens_alone(*beside).unbind(1)),
}

# %% [markdown] lang="en"
# A row that holds two answers needs a mask of its own. Each token may look at itself, back along its own answer, and at the prompt; never at the other answer. And each answer counts its positions from the end of the prompt, so that RoPE sees what it would see in a row of its own. On the first pair of the batch (`#`: may look, `.`: may not):

# %% [markdown] lang="zh"
# 一行里放两个回答，就要有自己的掩码：每个词元可以看自己，可以沿着本回答往回看，也可以看提示，就是不能看另一个回答。两个回答的位置都从提示末尾数起，这样 RoPE 看到的，同各占一行时一样。拿批次里的第一个偏好对来看（`#` 能看，`.` 不能看）：

# %%
one = pack(*(part[:1] for part in beside))
print(pairs.prompt[0], pairs.chosen[0], pairs.rejected[0])
print("position ", *one.layout.positions.tolist())
for row in one.layout.hidden[0, 0]:
    print("".join("." if hidden else "#" for hidden in row.tolist()))
twice = pack(*(torch.cat([side[:1] for side in part]) for part in (ids, mask)))
prompt, answers = len(pairs.prompt[0]), len(pairs.chosen[0] + pairs.rejected[0])
assert len(twice.input_ids) == 2 * prompt + answers - 2  # nothing reads the last ones
assert len(twice.input_ids) - len(one.input_ids) >= prompt

# %% [markdown] lang="en"
# A **gain** is the time before over the time after.
#
# > **Before you run it.** Four counts, four predictions. Which of the changes saves calls, and which saves work?
#
# <details><summary>Answer</summary>
#
# One pass for both answers saves calls and hardly anything else. Packing and sharing leave tokens out, and with them FLOPs and bytes.
#
# </details>

# %% [markdown] lang="zh"
# **增益**指改之前的时间除以改之后的时间。
#
# > **先猜一猜。** 四种写法，四次计数，四个预测。哪些改动省的是调用，哪些省的是运算？
#
# <details><summary>答案</summary>
#
# 合成一次前向，省的是调用次数，别的几乎没有。去掉填充、共用提示，省的是词元，也就省了运算，连带省了字节。
#
# </details>

# %%
counted = {name: ops_of(work) for name, work in WAYS.items()}
predicted = {
    name: sum(op_seconds(flops, moved, here) for _, flops, moved in ops)
    for name, ops in counted.items()
}
for name, ops in counted.items():
    flops, moved = (sum(op[k] for op in ops) for k in (1, 2))
    print(f"{name:11}{len(ops):6} calls{flops / 1e9:7.3f} GFLOP{moved / 1e6:6.0f} MB")
order = list(WAYS)
for before, after in pairwise(order):
    assert predicted[after] < predicted[before]
assert len(counted["joint"]) < 0.65 * len(counted["two_passes"])
work_of = {name: sum(op[1] for op in ops) for name, ops in counted.items()}
assert work_of["packed"] < 0.9 * work_of["joint"]
assert work_of["shared"] < 0.85 * work_of["packed"]

# %% [markdown] lang="en"
# Then the measurement, and first of all the question whether it is still the same step: the same loss to 1e-6, the same gradient to 1e-5 of its largest entry. What fails this is no faster step but another one. The gains that the cell prints are live, each over the way before, from a few rounds; the ledger below has more.

# %% [markdown] lang="zh"
# 接着测量。先问：算的还是同一步吗？损失相差不到 1e-6，梯度相差不到最大分量的 1e-5。过不了这一关的，不是更快的一步，而是另外一步。单元格打印的增益是当场测的，每一种都同前一种比；只测了几轮，后面的账本轮数更多。

# %% tags=["nbval-ignore-output"]
results = {name: work() for name, work in WAYS.items()}
loss, gradient = results["two_passes"]
for other_loss, other in results.values():
    assert abs(other_loss - loss) < 1e-6
    assert (other - gradient).abs().max() < 1e-5 * gradient.abs().max()
took = {name: [] for name in WAYS}
for turn in range(6):
    for name in order[:: (-1) ** turn]:  # in turn: a busy moment hits them all
        took[name].append(seconds(WAYS[name], calls=2, rounds=1))
took = {name: min(values) for name, values in took.items()}
for before, after in pairwise(order):
    guess, seen = (of[before] / of[after] for of in (predicted, took))
    print(f"{after:8}predicted {guess:.2f}  measured {seen:.2f}")
assert took["shared"] < 0.85 * took["two_passes"]
assert took["shared"] < took["joint"]

# %% [markdown] lang="en"
# ## Where the time goes
# Which operations deserve a thought at all? A **profile** tells: torch notes how much time it spends inside each kind of operation. The next picture holds two: the step as chapters 2 and 8 write it, with a reference model beside the policy, and the library's step, with every change of this chapter but compiling.
#
# > **Before you run it.** Nearly all of the FLOPs are products of matrices. What share of the plain step's time do they take?
#
# <details><summary>Answer</summary>
#
# Little more than a third. Softmax, with less than a hundredth of the FLOPs, takes more than a fifth.
#
# </details>

# %% [markdown] lang="zh"
# ## 时间花在哪里
# 哪些运算值得动脑筋？**性能剖析**（profile）能回答：torch 记下每一类运算里面各花了多少时间。下图有两份：一份照第 2 章和第 8 章的写法，策略旁边还摆着参考模型；另一份是库里的训练步，本章的改动除了编译全都用上。
#
# > **先猜一猜。** 运算量几乎全在矩阵乘法里。朴素写法的一步，它占多少时间？
#
# <details><summary>答案</summary>
#
# 三分之一多一点。softmax 的运算量不到百分之一，却占了五分之一以上的时间。
#
# </details>

# %%
GROUPS = {
    "mm": ("mm", "bmm", "baddbmm", "addmm"),
    "softmax": ("_softmax", "_softmax_backward_data", "_log_softmax"),
    "mul, add": ("mul", "add", "mul_", "add_", "div", "neg", "pow", "sum", "silu"),
    "cat, copy": ("cat", "copy_", "index_select", "index_copy_"),
}
profile, shares = recorded["profile"], {}
whole = recorded["ledger"]["step"]
spent = {"plain": whole["plain"], "library": whole["fused"]}
for name, found in profile.items():
    share = {op: part for op, part, _ in found["operations"]}
    of = {group: sum(share.get(op, 0) for op in ops) for group, ops in GROUPS.items()}
    shares[name] = of | {"...": 1 - sum(of.values())}
colors = [COLORS[c] for c in ("policy", "rejected", "chosen", "baseline", "ref")]
assert 3 < spent["plain"] / spent["library"] < 3.4


# %% tags=["figure"] alt_en="Two horizontal bars of stacked shares, plain and library. Plain, a little over three times as long: products (mm, bmm) about a third, softmax about a fifth, then mul and add, cat and copy, and the rest. Library: products more than half, softmax about a twentieth, the rest small pieces." alt_zh="两条横条，各段是各类运算的份额：plain 和 library。plain 有三倍多长：乘积（mm、bmm）约三分之一，softmax 约五分之一，其次是 mul 和 add、cat 和 copy，以及其余。library：乘积过半，softmax 约二十分之一，其余都是小块。"
@picture
def where_the_time_goes(say):
    fig, axes = figure(width=6.8, height=2.6)
    names = say(
        ["products", "softmax", "sums and factors", "copies", "the rest"],
        ["矩阵乘法", "softmax", "逐元素加减乘", "搬动", "其余"],
    )
    for row, name in enumerate(("library", "plain")):
        left = 0
        for part, color, label in zip(shares[name].values(), colors, names):
            width = 1e3 * part * spent[name]
            axes.barh(row, width, left=left, color=color, label=label if row else None)
            left += width
    axes.set_yticks((0, 1), say(["library", "plain"], ["程序库", "朴素写法"]))
    axes.set_xlabel(say("milliseconds a step", "一步用的毫秒数"))
    axes.legend(fontsize=8, ncols=5, loc="lower center", bbox_to_anchor=(0.5, 1.0))


# %% [markdown] lang="en"
# **Figure 13.2.** Milliseconds of one step of 64 pairs, by kind of operation (shares from a profile, times of whole steps from the ledger below). In the plain step little more than a third goes into products, the work that the mathematics asks for. Softmax takes more than a fifth, though it has less than a hundredth of the FLOPs.

# %% [markdown] lang="zh"
# **图 13.2** 64 个偏好对的一步要多少毫秒，按运算种类分（份额来自剖析，整步的时间来自下面的账本）。朴素写法的那一步，乘积只占三分之一多一点，而数学真正要求的只有它。光是 softmax 就占五分之一以上，它的运算量还不到百分之一。

# %%
for name, parts in shares.items():
    print(name, {group: round(part, 2) for group, part in parts.items()})
softmax_flops = 5 * 24 * 64 * 4 * 13**2  # five a number; 16 times forward, 8 back
assert softmax_flops < recorded["ledger"]["entries"]["stored"]["before"]["flops"] / 100
assert 1 / 3 < shares["plain"]["mm"] < 0.4 and 0.2 < shares["plain"]["softmax"] < 0.25
assert shares["library"]["mm"] > 0.5 and round(shares["library"]["softmax"], 2) == 0.05

# %% [markdown] lang="en"
# ## The ledger
# Each trick is one change, and each stands on the one before it:
#
# | name | what changes | what it saves |
# |---|---|---|
# | `stored` | the reference's log-probabilities are read, not computed | the reference's forward pass, a quarter of the FLOPs |
# | `joint` | both answers in one pass | calls |
# | `wide` | rows of softmax filled up to 16 places | nothing; it adds work |
# | `packed` | no padding, no last token | tokens: FLOPs and bytes |
# | `shared` | the prompt once a pair | tokens |
# | `answers` | the head only where an answer's token is predicted | FLOPs of the head |
# | `last` | the last layer's output and MLP there too | FLOPs, bytes |
# | `half` | RoPE on two halves, without a turned copy | bytes |
# | `by_hand` | RMSNorm and attention with a gradient of their own | calls and bytes |
# | `fused` | one call of AdamW for all parameters | calls |
# | `compiled` | torch writes the layers anew, one loop where there were many | calls and bytes |
#
# Beside them stand others, and some that lose: `sorted` (batches of pairs of similar length, still padded), larger batches, `sdpa` (torch's fused attention), `torch_norm` (`F.rms_norm`), `chunked` (the head piece by piece), `bfloat16`.
#
# `chapters/data/fast.py` counted each as we did, predicted, and compared loss and gradient: all agree as closely as ours above, but for `bfloat16`. Then it timed before and after in turn, in 15 rounds (7 where a round has many batches). Printed are the median of the rounds' ratios and the range of their middle four fifths. In another order of the ladder the gains would be others.

# %% [markdown] lang="zh"
# ## 账本
# 每个办法只改一处，而且都建立在前一个之上：
#
# | 名字 | 改什么 | 省什么 |
# |---|---|---|
# | `stored` | 参考策略的对数概率直接读，不再算 | 参考策略的前向，占运算量的四分之一 |
# | `joint` | 两个回答合成一次前向 | 调用 |
# | `wide` | softmax 的行补到 16 个位置 | 什么也不省，还多了活 |
# | `packed` | 去掉填充和最后一个词元 | 词元：运算和字节 |
# | `shared` | 一个偏好对只算一遍提示 | 词元 |
# | `answers` | 只在要预测回答词元的地方算输出头 | 输出头的运算 |
# | `last` | 最后一层的输出投影和 MLP 也只算那里 | 运算和字节 |
# | `half` | RoPE 分两半算，不另做转过的副本 | 字节 |
# | `by_hand` | RMSNorm、注意力自带手写的梯度 | 调用和字节 |
# | `fused` | 所有参数只调用一次 AdamW | 调用 |
# | `compiled` | torch 重写各层，许多个循环并成一个 | 调用和字节 |
#
# 旁边还有一些，其中几样反而更慢：`sorted`（长度相近的放进一批，仍旧填充）、更大的批次、`sdpa`（torch 的融合注意力）、`torch_norm`（`F.rms_norm`）、`chunked`（输出头分块算）、`bfloat16`。
#
# `chapters/data/fast.py` 照上面的办法逐个计数、预测、核对损失和梯度：除了 `bfloat16`，都同前面一样吻合。然后前后两种写法轮流计时 15 轮（一轮有许多批次的，7 轮）。打印的是各轮比值的中位数，以及中间五分之四的范围。梯子换个次序，各级的增益就不同。

# %%
ledger = recorded["ledger"]
entries = ledger["entries"]


def saving(one):
    """Calls, GFLOP and MB, before and after."""
    if "before" not in one:
        return ""
    (a, b, c), (d, e, f) = (one[side].values() for side in ("before", "after"))
    return f"{a:7}{d:6} {b / 1e9:7.2f}{e / 1e9:6.2f} {c / 1e6:6.0f}{f / 1e6:5.0f}"


print(f"{'':21}predicted, measured    calls         GFLOP         MB")
for name in ledger["ladder"] + ledger["beside"]:
    one = entries[name]
    gains = f"{one['predicted']:5.2f} {one['measured']:5.2f}"
    print(f"{name:21}{gains} [{one['low']:.2f}, {one['high']:.2f}]{saving(one)}")
print(f"all {ledger['all_eager']:.1f}, compiled {ledger['all_compiled']:.1f}")

# %% tags=["proof"] checked_en="Checked: loss and gradient unchanged, and the factors of the whole ladder." checked_zh="已验证：损失和梯度不变，以及整架梯子的倍数。"
exact = {name: one for name, one in entries.items() if name != "bfloat16"}
assert all(one["loss_difference"] < 1e-6 for one in exact.values())
assert all(one["gradient_difference"] < 1e-5 for one in exact.values())
assert round(ledger["all_eager"], 1) == 3.2 and round(ledger["all_compiled"], 1) == 4.0
flops = [entries["stored"][side]["flops"] for side in ("before", "after")]
assert abs(flops[1] / flops[0] - 0.75) < 0.001

# %%
assert len(entries) == 21
by_gain = sorted(entries, key=lambda name: entries[name]["measured"])


def key_of_marks(axes, say):
    """What hollow and filled marks mean, and the two colours."""
    hollow = {"color": INK, "markerfacecolor": "none", "markersize": 7}
    axes.plot([], [], "o", **hollow, label=say("predicted", "预测"))
    for kind, word in (
        ("policy", say("measured, on the ladder", "实测，梯子上的")),
        ("baseline", say("measured, beside it", "实测，旁边的")),
    ):
        axes.plot([], [], "o-", color=COLORS[kind], markersize=4, label=word)


# %% tags=["figure"] alt_en="A row for each of the twenty-one tricks, ordered by measured gain, on an axis of gains from 0.7 to 2.3. A hollow mark is the prediction, with a grey bar from a quarter below to a quarter above; a filled mark is the measurement, with its interval. Every filled mark lies on the grey bar of its row, most of them close to the hollow one." alt_zh="二十一种办法各占一行，按实测的增益排序，横轴是增益，从 0.7 到 2.3。空心的点是预测，左右各四分之一画成灰条；实心的点是实测，附区间。每一行的实心点都落在自己的灰条上，多数紧挨着空心点。"
@picture
def ledger_page(say):
    fig, axes = figure(width=6.6, height=6.2)
    for row, name in enumerate(by_gain):
        one = entries[name]
        color = COLORS["policy" if name in ledger["ladder"] else "baseline"]
        guess, seen = one["predicted"], one["measured"]
        quarter = [guess / 1.25, guess * 1.25]
        axes.plot(quarter, [row, row], color=COLORS["ref"], alpha=0.25, linewidth=7)
        axes.plot(guess, row, "o", color=INK, markerfacecolor="none", markersize=7)
        axes.plot([one["low"], one["high"]], [row, row], color=color, linewidth=1.5)
        axes.plot(seen, row, "o", color=color, markersize=4)
    key_of_marks(axes, say)
    axes.axvline(1, color=INK, linewidth=0.8)
    axes.legend(fontsize=8, loc="lower right")
    axes.set_yticks(range(len(by_gain)), by_gain)
    axes.set_xlabel(say("gain: how many times as fast", "增益：快到几倍"))
    axes.set_ylabel(say("trick", "办法"))


# %% [markdown] lang="en"
# **Figure 13.3.** The ledger: gain predicted from counts and three numbers (hollow; grey: a quarter less to a quarter more), and gain measured (filled: the median; line: the middle four fifths of the rounds). Blue: the ladder; orange: beside it. Sixteen of the twenty-one predictions are within a tenth, all within a quarter. The laziest prediction, that nothing changes, is within a tenth eight times.

# %% [markdown] lang="zh"
# **图 13.3** 账本：由计数和三个数预测的增益（空心点；灰条从少四分之一到多四分之一），和实测的增益（实心点是中位数，横线是各轮的中间五分之四）。蓝色是梯子上的各级，橙色是旁边的。二十一个预测里，十六个相差不到一成，全部不到四分之一。要是偷懒，一律预测「没有变化」，相差不到一成的只有八个。

# %% tags=["proof"] checked_en="Checked: how far the predictions are off, and the numbers of the next paragraphs." checked_zh="已验证：预测差多少，以及下面几段的数字。"
off, lazy = {}, {}
for name, one in entries.items():
    ratio = one["predicted"] / one["measured"]
    off[name] = max(ratio, 1 / ratio)
    lazy[name] = max(one["measured"], 1 / one["measured"])
within = [sum(factor < 1.1 for factor in of.values()) for of in (off, lazy)]
assert within == [16, 8] and max(off.values()) < 1.25
large = {name for name in ledger["ladder"][:-1] if entries[name]["measured"] > 1.15}
assert large == {"stored", "wide", "packed", "shared"}
assert max(entries[name]["measured"] for name in ledger["ladder"]) < 1.5
assert round(entries["shared_long"]["measured"], 1) == 1.6
for name in ledger["ladder"][:-1]:
    explained = entries[name]["seconds_predicted"][1] / entries[name]["seconds"][1]
    assert 0.4 < explained < 0.6

# %% [markdown] lang="en"
# Together the tricks make the step a little over three times as fast, and four times with compiled layers; none of them does it alone. Before compiling, four rungs gain more than 1.15, and all but `wide` leave work undone: a stored reference, no padding, a prompt read once.
#
# How much such a trick saves depends on the data. With random prompts of 96 tokens before answers of 16 (`shared_long`), sharing gains 1.6 on top of everything else. A stored reference costs a pass over the data beforehand: in a single epoch it only does the same work earlier, and it pays from the second on.
#
# The absolute prediction is another matter: equation 13.1 explains between two fifths and three fifths of the measured milliseconds. Operands lie farther away than in a benchmark, copies run across rows, Python stands between the calls; which counts most, we have not measured. It is missing before and after, so that the ratio nearly survives.
#
# **Where the prediction has the wrong sign: `wide`.** Thirteen places become 16: more bytes, four more calls a layer, and hence a predicted gain of 0.99, a small loss. The measured median is 1.21, a gain. What does the count leave out? It has a zero for softmax, which it takes for mere moving. Here is what one number of a softmax costs on the recording machine, by the length of its row:

# %% [markdown] lang="zh"
# 这些办法合起来，一步快到原来的三倍多一点，再编译，到四倍；没有哪一个单独做得到。编译之前，梯子上有四级的增益在 1.15 以上，除了 `wide`，都是少算：参考策略的对数概率存好，不算填充，提示只读一遍。
#
# 这样的办法能省多少，要看数据。随机的 96 个词元的提示，接 16 个词元的回答（`shared_long`），其余都做完以后，共用提示还能快到 1.6 倍。存好的参考，要事先把数据过一遍：只训练一轮的话，不过是同样的活提前干了，从第二轮起才赚。
#
# 绝对时间是另一回事：实测的毫秒数，式 13.1 只解释了五分之二到五分之三。在完整的一步里，要用的数不像基准测试里那样就在缓存里；复制的数东一块西一块；调用之间还隔着 Python。哪一条最要紧，我们没有量过。缺的这部分，前后都缺，比值就大致站得住。
#
# **预测连方向都错了的：`wide`。** 十三个位置补成 16 个：字节多了，每层多调用四次，于是预测 0.99，略亏。实测的中位数是 1.21，是赚的。计数漏掉了什么？它给 softmax 记的是零，当它只搬不算。记录数据的那台机器上，softmax 里一个数要花多久，看它所在的行有多长：

# %%
softmax, tokens = machine["softmax"], ledger["tokens"]
print({int(columns): f"{1e9 * took:.2f} ns" for columns, took in softmax.items()})
print(tokens)
assert softmax["13"] > 10 * softmax["16"]
layers, heads, width = 4, 4, tokens["padded"] // 128  # rows of both answers, padded
before = layers * heads * 128 * width**2 * softmax["13"]
after = layers * heads * 128 * width * 16 * softmax["16"]
one = entries["wide"]
saved = (before - after) / one["seconds"][0]
corrected = 1 / (1 / one["predicted"] - saved)
print(f"softmax saves {saved:.0%}; corrected prediction {corrected:.2f}")
assert width == 13 and one["after"]["calls"] - one["before"]["calls"] == 4 * layers
assert [round(one[key], 2) for key in ("predicted", "measured")] == [0.99, 1.21]
assert one["low"] > 1 and 0.9 < corrected / one["measured"] < 1.1

# %% [markdown] lang="en"
# A vector register of this processor holds 16 numbers. In a shorter row torch looks for the maximum and adds up the sum one number after another, on what [its source](https://github.com/pytorch/pytorch/blob/main/aten/src/ATen/cpu/vec/functional_base.h) itself calls the slow path: each number costs more than ten times as much. Padded rows of this batch have 13 places; with three empty ones more, the slow path is gone. With the forward pass's part of that in the count, the prediction is right to a tenth.
#
# The profile had shown that softmax is dear; the prediction shows that calls, bytes and FLOPs cannot be why.

# %% [markdown] lang="zh"
# 这颗处理器的一个向量寄存器装 16 个数。行比它短，torch 找最大值、求和，就一个数一个数地来，走的是[源码](https://github.com/pytorch/pytorch/blob/main/aten/src/ATen/cpu/vec/functional_base.h)里自己注明的慢路（slow path），每个数贵十倍以上。这一批填充后的行有 13 个位置，再空出三个，慢路就没有了。把前向里的这一份算进去，预测就准到一成以内。
#
# 剖析早就显出 softmax 太贵；预测则说明，原因不在调用、字节和运算量上。

# %% [markdown] lang="en"
# ## ⋆ No gain, or at a price
# - **`compiled`.** Compiling takes about 20 seconds; at what it saves a step that comes back after some four thousand steps. So `dpo-core` decides by the length of the run.
# - **`answers`, `last`.** With 22 tokens in the vocabulary the head is 1 % of the products, and more than four fifths of the tokens read are asked for a prediction anyway. The last layer's part is larger, and still only 1.01 was predicted; nothing shows.
# - **`torch_norm`.** Here `F.rms_norm` is as many calls and bytes as our plain one.
# - **`sdpa`.** Fused attention keeps no matrix of scores. That saves memory where rows are long ([Dao et al. 2022](https://arxiv.org/abs/2205.14135)). Here rows have 13 (`sdpa_padded`) or 18 places (`sdpa_packed`), and it loses; our guess is that its blocks are made for hundreds. Mind the baseline: held against the step before `wide`, it would have come out a little ahead.
# - **`sorted`.** It gains 1.13. But packing saves that too, and does not tie a batch's content to its length; on top of sorting it still brings 1.08, for the answers' last tokens.
# - **Larger batches.** 64 pairs at once are 1.8 times as fast as four times 16: overhead again. From 64 to 256 it is 1.3. But the batch is part of the recipe, and a larger one makes fewer updates out of the same data.
# - **`chunked`.** Computing the head in pieces costs a second forward pass of the head, and many calls. With 22 tokens it loses; what it is for, the second reading on the head says.
# - **`bfloat16`.** Products in half precision are nearly twice as fast, and the step is slower; a second reading below.

# %% [markdown] lang="zh"
# ## ⋆ 不赚的，和有代价的
# - **`compiled`。** 编译要花 20 秒左右，照每一步省下的时间，大约四千步才收得回来。所以 `dpo-core` 看训练有多长，再决定编不编译。
# - **`answers`、`last`。** 词表只有 22 个词元，输出头占乘积的 1%，何况读进来的词元，五分之四以上本来就要问它后面是什么。最后一层的份额大一些，预测也只有 1.01；实测看不出来。
# - **`torch_norm`。** 在这种处理器上，`F.rms_norm` 的调用次数和搬的字节，同我们的朴素写法一样多。
# - **`sdpa`。** 融合注意力不保存分数矩阵，行长的时候省内存（[Dao et al. 2022](https://arxiv.org/abs/2205.14135)）。这里的行只有 13 个（`sdpa_padded`）或 18 个位置（`sdpa_packed`），它更慢；我们猜，它的分块是为几百个位置准备的。当心拿什么作基准：同 `wide` 之前的那一步比，它会显得略赚一点。
# - **`sorted`。** 快到 1.13 倍。可去掉填充，这一份也省了，又不会把批次的内容同长度绑在一起；排过序再去，还有 1.08 倍，省的是各个回答的最后一个词元。
# - **更大的批次。** 一次算 64 个偏好对，速度是分四次、每次 16 个的 1.8 倍，又是启动开销的缘故；从 64 到 256，是 1.3 倍。可批次大小是训练配方的一部分，批次大了，同样的数据更新的次数就少了。
# - **`chunked`。** 输出头分块算，输出头要多一次前向，还多许多次调用。词表是 22 时，它更慢；它的用处，见后面讲输出头的第二遍再读。
# - **`bfloat16`。** 半精度的乘积快了近一倍，整步却慢了；见后面的第二遍再读。

# %% tags=["proof"] checked_en="Checked: seconds of compiling, and steps until they come back." checked_zh="已验证：编译的秒数，以及多少步收得回来。"
compiling, whole = entries["compiled"]["compile_seconds"], ledger["step"]
assert 15 < compiling < 25
assert 3_500 < compiling / (whole["fused"] - whole["compiled"]) < 4_500

# %% tags=["proof"] checked_en="Checked: each line of the list." checked_zh="已验证：上面逐条。"
e = entries
assert abs(e["answers"]["measured"] - 1) < 0.02
assert abs(e["answers"]["predicted"] - 1) < 0.02
assert (
    abs(e["last"]["measured"] - 1) < 0.02 and round(e["last"]["predicted"], 2) == 1.01
)
config = cost.PRESETS["book"]
inside = config.num_hidden_layers * cost.layer_matrices(config)
assert round(config.vocab_size * 64 / (inside + config.vocab_size * 64), 2) == 0.01
assert tokens["answers"] > 0.8 * tokens["shared"] and tokens["width"] == 18
assert e["torch_norm"]["before"] == e["torch_norm"]["after"]
assert max(e[f"sdpa_{name}"]["measured"] for name in ("padded", "packed")) < 0.9
assert 1 < e["sdpa_padded"]["measured"] * e["wide"]["measured"] < 1.1
assert round(e["sorted"]["measured"], 2) == 1.13
assert round(e["packed_beside_sorted"]["measured"], 2) == 1.08
assert round(e["batch_64"]["measured"], 1) == 1.8
assert round(e["batch_256"]["measured"], 1) == 1.3
assert e["chunked_22"]["measured"] < 0.9 and e["bfloat16"]["measured"] < 0.95

# %% [markdown] lang="en"
# ## ⋆ A gradient written by hand
# Autograd differentiates RMSNorm operation by operation: square, mean, square root, two products, and for each a way back. Derive it once as a whole. For one token of width $D$, with $s=(\overline{x^2}+\epsilon)^{-1/2}$ and $u=s\,x$, the output is $y=w\odot u$. The coordinate $x_j$ reaches the output on two roads: directly, through $u_j$, and through $s$, which every coordinate shares, with $\partial s/\partial x_j=-s^3x_j/D$. With $g$ the gradient that arrives at $y$, *add the two roads*:
#
# $$\frac{\partial\mathcal{L}}{\partial x_j}=s\,w_jg_j-\frac{s^3x_j}{D}\sum_iw_ig_ix_i.$$
#
# *Put $u/s$ for $x$*, and write a bar for the mean over the $D$ coordinates:
#
# $$\frac{\partial\mathcal{L}}{\partial x}=s\,\Big(w\odot g-u\cdot\overline{w\odot g\odot u}\Big),\qquad\frac{\partial\mathcal{L}}{\partial w}=\sum_{\text{tokens}}g\odot u.$$
#
# Of all that the forward pass computes, only $u$ and $s$ need be kept.

# %% [markdown] lang="zh"
# ## ⋆ 手写的梯度
# autograd 对 RMSNorm 是一个运算一个运算地求导：平方、平均、开方、两次乘法，每一个都要往回走一趟。不如整个推一遍。取一个宽 $D$ 的词元，记 $s=(\overline{x^2}+\epsilon)^{-1/2}$，$u=s\,x$，输出是 $y=w\odot u$。分量 $x_j$ 到输出有两条路：一条直接经过 $u_j$；另一条经过各分量共用的 $s$，而 $\partial s/\partial x_j=-s^3x_j/D$。传到 $y$ 的梯度记作 $g$，**两条路相加**：
#
# $$\frac{\partial\mathcal{L}}{\partial x_j}=s\,w_jg_j-\frac{s^3x_j}{D}\sum_iw_ig_ix_i$$
#
# **把 $x$ 换成 $u/s$**，用横线表示对 $D$ 个分量取平均：
#
# $$\frac{\partial\mathcal{L}}{\partial x}=s\,\Big(w\odot g-u\cdot\overline{w\odot g\odot u}\Big),\qquad\frac{\partial\mathcal{L}}{\partial w}=\sum_{\text{词元}}g\odot u$$
#
# 前向算出来的东西里，要留着的只有 $u$ 和 $s$。


# %%
class Norm(torch.autograd.Function):
    """RMSNorm with the gradient derived above."""

    @staticmethod
    def forward(ctx, x, w, eps):
        s = (x.square().mean(-1, keepdim=True) + eps).rsqrt()
        ctx.save_for_backward(w, s * x, s)
        return w * (s * x)

    @staticmethod
    def backward(ctx, g):
        w, u, s = ctx.saved_tensors
        mean = (w * g * u).mean(-1, keepdim=True)
        return s * (w * g - u * mean), (g * u).sum(0), None


x, w, g = (torch.randn(*size).double() for size in ((1000, 64), (64,), (1000, 64)))
gradients = []
for norm in (kernels.plain_rms_norm, Norm.apply, kernels.rms_norm):
    parts = x.clone().requires_grad_(), w.clone().requires_grad_()
    gradients.append(torch.autograd.grad((norm(*parts, 1e-6) * g).sum(), parts))
for found in gradients[1:]:
    assert all(torch.allclose(a, b, rtol=1e-10) for a, b in zip(found, gradients[0]))

# %% [markdown] lang="en"
# In the library the same is done in place where it can be, and for attention as well (`dpo_core/kernels.py`; `plain_...` beside each is its definition, tests hold the two equal, and the compiler reads the plain one). We had written one for SwiGLU, too. Here it is. Before you run the second cell: which of the two saves anything?

# %% [markdown] lang="zh"
# 库里做的是同一件事，能原地算的就原地算，注意力也一样（`dpo_core/kernels.py`；每个旁边的 `plain_...` 是它的定义，测试保证两者相等，编译器读的是 plain 版）。SwiGLU 的手写梯度我们也写过，就是下面这个。运行第二个单元格之前，猜一猜：两个里哪一个真能省？


# %%
class Gated(torch.autograd.Function):
    """SwiGLU with a gradient of its own: gate and up side by side in x."""

    @staticmethod
    def forward(ctx, x):
        gate, up = x.chunk(2, dim=-1)
        swish = torch.nn.functional.silu(gate)
        ctx.save_for_backward(x, swish)
        return swish * up

    @staticmethod
    def backward(ctx, g):
        x, swish = ctx.saved_tensors
        gate, up = x.chunk(2, dim=-1)
        left = torch.ops.aten.silu_backward(g * up, gate)
        return torch.cat((left, g * swish), dim=-1)


# %%
x, w = torch.randn(1000, 128), torch.ones(128)


def back_and_forth(function):
    """One kernel with its gradient."""
    leaf = x.clone().requires_grad_()
    function(leaf).sum().backward()


PARTS = {
    "rms_norm": lambda a: kernels.rms_norm(a, w, 1e-6),
    "plain_rms_norm": lambda a: kernels.plain_rms_norm(a, w, 1e-6),
    "swiglu by hand": Gated.apply,
    "swiglu": kernels.swiglu,
}
totals = {}
for name, function in PARTS.items():
    ops = ops_of(lambda function=function: back_and_forth(function))
    totals[name] = len(ops), sum(op[2] for op in ops)
    print(f"{name:15} {totals[name][0]:3} calls {totals[name][1] / 1e6:6.2f} MB")
ours, plain = totals["rms_norm"], totals["plain_rms_norm"]
assert ours[0] < plain[0] and 0.6 < ours[1] / plain[1] < 0.72
hand, plain = totals["swiglu by hand"], totals["swiglu"]
assert 0.95 < hand[0] / plain[0] < 1.1 and 0.95 < hand[1] / plain[1] < 1.1

# %% [markdown] lang="en"
# RMSNorm moves a third fewer bytes. SwiGLU by hand saves nothing: written plainly it is already three operations, and autograd's way back is as short. (We measured it after having written it; the count would have told us before. It is gone from the library.) What is left gains 1.1 (`by_hand` in the ledger), and could not gain much more: over half of the time goes into products.
#
# A compiler derives and fuses such gradients by itself ([Ansel et al. 2024](https://doi.org/10.1145/3620665.3640366)). Our prediction for `compiled` is a best case: everything between two products becomes one loop, packing and loss included, and nothing is written in vain. It promises 1.41, and 1.24 comes; packing and loss, for one thing, are not compiled in the library. And one must read what a compiler writes. Our first layers looked up half heads by a flat list; to find its place in it, the program divided two whole numbers for every single number it moved. With the same list as a table, a row for each token, it moves eight numbers at once.

# %% [markdown] lang="zh"
# RMSNorm 搬的字节少了三分之一。手写的 SwiGLU 什么也没省：朴素写法本来就只有三个运算，autograd 往回走的路一样短。（我们是写完了才去测的；先数一数，早就知道了。库里已经删掉。）剩下的两个合起来，整步快到 1.1 倍（账本里的 `by_hand`）；时间一半以上在乘积上，所以这两个再快，整步也快不了多少。
#
# 编译器会自己推导、融合这类梯度（[Ansel et al. 2024](https://doi.org/10.1145/3620665.3640366)）。我们对 `compiled` 的预测按最好的情形算：两个乘积之间的一切并成一个循环，拼装和损失也在内，不白写一个数。预测 1.41，实测 1.24；别的不说，库里的拼装和损失就没有编译。编译器写出来的东西，也得读一读。我们最初的写法，是用一列下标去取各个词元的半个头；程序为了算出读到了第几个下标，每搬一个数都要做一次整数除法。把这列下标排成表，一个词元一行，它就八个数一起搬了。

# %% tags=["proof"] checked_en="Checked: the numbers of the last two paragraphs." checked_zh="已验证：上面两段的数字。"
assert round(entries["by_hand"]["measured"], 1) == 1.1
assert shares["library"]["mm"] > 0.5
one = entries["compiled"]
assert [round(one[key], 2) for key in ("predicted", "measured")] == [1.41, 1.24]

# %% [markdown] lang="en"
# ## ⋆ Half precision: faster products, a slower step
# This processor multiplies bfloat16 numbers 1.7 to 2.3 times as fast as float32, in the step's own small shapes too. Twice the peak for the products alone would make the whole step about 1.4 times as fast. (The ledger's prediction takes float32's peak for both.) Measured is a loss.
#
# The obvious culprit is the rounding: every product's inputs are first written into new tensors. Count it. One such tensor costs 8 µs, and a product of 64 by 64 saves 37. That cannot be all. A short profile, which is not stored, puts most of the loss on softmax and its gradient: in mixed precision they are several times slower. We have not looked into why.
#
# So measure before you believe in a peak; in a wider model, where a conversion buys more FLOPs, the answer may be another. And the change is not free of error: the gradient moves by half a percent of its largest entry, where all the other tricks move it by less than a millionth.

# %% [markdown] lang="zh"
# ## ⋆ 半精度：乘积快了，整步慢了
# 这颗处理器算 bfloat16 的乘积，速度是 float32 的 1.7 到 2.3 倍，训练步里那些小形状也一样。只把乘积的峰值加倍，整步就该快到 1.4 倍左右。（账本里的预测，两边都用 float32 的峰值。）实测却是亏的。
#
# 最先想到的是舍入：每个乘积的输入，都要先写成新张量。数一数：写一个这样的张量要 8 µs，一个 64 乘 64 的乘积省下 37。不可能都怪它。做一次简短的剖析（没有存下来），亏的大半在 softmax 和它的梯度上：混合精度下，它们慢了好几倍。原因我们没有细查。
#
# 所以，相信峰值之前先量一量；模型更宽，一次转换换来的运算更多，结论可能就不同。何况它还有误差：梯度的变化是最大分量的千分之五，其他办法都不到百万分之一。

# %%
for row in recorded["precision"]:
    rates = [row["flops"] / row[kind] / 1e9 for kind in ("float32", "bfloat16")]
    print(row["shape"], *(f"{rate:6.0f} GFLOP/s" for rate in rates))
    assert 1.65 < rates[1] / rates[0] < 2.35
small = recorded["precision"][1]
assert small["shape"] == [1000, 64, 64] and round(1e6 * small["cast"]) == 8
assert round(1e6 * (small["float32"] - small["bfloat16"])) == 37
one = entries["bfloat16"]
before, after = one["seconds_predicted"]
doubled = before / (after - one["after"]["flops"] / machine["peak"] / 2)
assert one["measured"] < 1 and round(doubled, 1) == 1.4
assert 0.005 < one["gradient_difference"] < 0.006
assert all(entry["gradient_difference"] < 1e-6 for entry in exact.values())

# %% [markdown] lang="en"
# ## ⋆ Two cores: two threads or two processes
# Two cores can share each operation (threads), or share the batch (processes that average their gradients). An operation of ten microseconds is hardly worth a meeting; processes meet once a step, over half a megabyte of gradient. The prediction for them is a gain of 2. Pairs a wall second on two cores, medians of three rounds in turn, first with the machine to ourselves (`idle`), then beside a program that keeps one core busy (`busy`):

# %% [markdown] lang="zh"
# ## ⋆ 两个核：两个线程，还是两个进程
# 两个核可以分担每一个运算（线程），也可以分担批次（进程，各算各的，再把梯度平均）。一个运算只有十来微秒，不值得为它同步一次；进程一步只同步一次，交换半 MB 的梯度。对进程，预测的增益是 2。两个核上每秒（实际时间）处理多少个偏好对，三轮交替，取中位数：先是机器全归我们（`idle`），再是旁边有个程序占满一个核（`busy`）：

# %%
workers, speed = recorded["workers"], {}
for when, runs in workers.items():
    for name in ("one", "threads", "processes"):
        speed[when, name] = np.median([run["pairs_per_second"] for run in runs[name]])
        print(f"{when:5}{name:10}{speed[when, name]:6.0f} pairs/s")
alone = speed["idle", "one"]
assert round(speed["idle", "threads"] / alone, 1) == 1.3
assert round(speed["idle", "processes"] / alone, 1) == 1.6
assert all(run["cpu"] > 1.9 for run in workers["idle"]["threads"])
assert all(run["cpu"] < 0.95 for run in workers["idle"]["processes"])
assert speed["busy", "threads"] < speed["busy", "one"] / 3
assert abs(speed["busy", "processes"] / speed["busy", "one"] - 1) < 0.1
assert 0.4e6 < 4 * sum(p.numel() for p in gen.parameters()) < 0.5e6

# %% [markdown] lang="en"
# Two threads keep both cores busy all the time and gain 1.3; most of what is missing, we take it, they spend waiting for each other, spinning. Two processes gain 1.6. They stay below 2: a step waits for the slower of them (each core is idle for some of the time), and the two share a cache and a memory. We have not measured which counts more.
#
# Beside a busy neighbour a second process gains nothing, and two threads fall below a third of what one does. Our reading: the thread that waits, spinning, takes the core from the one that works. `use_threads` therefore looks for idle cores first, and `torchrun` comes in chapter 14.

# %% [markdown] lang="zh"
# 两个线程让两个核一直满载，只快到 1.3 倍；少掉的那些，我们想大半耗在了互相空转等待上。两个进程快到 1.6 倍。它们也到不了 2：一步要等慢的那个（每个核都有一部分时间闲着），两个核又共用缓存和内存。哪个影响更大，我们没有量过。
#
# 旁边有程序在忙的时候，多一个进程什么也赚不到，两个线程则连一个线程的三分之一都做不到。我们的理解是：空等的线程占着核，干活的反而上不去。所以 `use_threads` 会先看有几个核空着；`torchrun` 见第 14 章。

# %% [markdown] lang="en"
# ## ⋆ The head, from 22 tokens to 151,936
# A real vocabulary changes the account. The logits of $N$ tokens are $N\cdot V$ numbers; their log-probabilities are as many, and so is their gradient. For 512 tokens and the 151,936 entries of a small Qwen's vocabulary, in float32, that is 0.31 GB three times over, whatever the model's width.
#
# The way out: 64 tokens at a time, each chunk's logits forgotten at once and computed again for the gradient ([Wijmans et al. 2024](https://arxiv.org/abs/2411.09009) go all the way and never write them). Where there were three products there are four; the logits' memory falls to an eighth.

# %% [markdown] lang="zh"
# ## ⋆ 输出头：词表从 22 到 151,936
# 换成真实的词表，账就变了。$N$ 个词元的 logits 有 $N\cdot V$ 个数，对数概率又是这么多，梯度再来一份。512 个词元，小号 Qwen 的词表 151,936 项，用 float32，每份 0.31 GB，一共三份，同模型多宽无关。
#
# 出路是每 64 个词元算一块，logits 用完就丢，求梯度时再算一遍（[Wijmans et al. 2024](https://arxiv.org/abs/2411.09009) 做得更彻底，从头到尾不写出来）。原来三次乘积，现在四次；logits 占的内存降到八分之一。

# %%
sweep = recorded["head"]["sweep"]
sizes = [row["vocabulary"] for row in sweep]
assert sizes == [22, 256, 2_048, 16_384, 49_152, 151_936]


# %% tags=["figure"] alt_en="Two panels over the vocabulary from 22 to 151,936, logarithmic. Left, milliseconds: two rising curves; chunked lies more than ten times above whole at 22 and less than twice above it from the middle on. Right, peak memory in MB: whole rises to about a thousand; chunked rises with it to a quarter of that, then falls below two hundred." alt_zh="两幅小图，横轴是词表大小，从 22 到 151,936，对数。左图毫秒数：两条上升的曲线；chunked 在 22 处比 whole 高十倍以上，从中间起高出不到一倍。右图内存峰值 MB：whole 升到约一千；chunked 先跟着升到它的四分之一左右，最后落到两百以下。"
@picture
def heads(say):
    fig, panels = figure(columns=2, width=7.0, height=3.0)
    labels = say(("in one piece", "in chunks"), ("一整块", "分块"))
    for name, color, label in zip(("whole", "chunked"), ("policy", "chosen"), labels):
        color, of = COLORS[color], [row[name] for row in sweep]
        took = [1e3 * one["seconds"] for one in of]
        guess = [1e3 * one["predicted"] for one in of]
        panels[0].plot(sizes, took, "o-", color=color, label=label)
        panels[0].plot(sizes, guess, ":", color=color)
        panels[1].plot(
            sizes[2:], [one["peak"] / 1e6 for one in of[2:]], "o-", color=color
        )
    units = say(
        ("time (ms)", "memory at the peak (MB)"), ("时间（ms）", "内存峰值（MB）")
    )
    for panel, unit in zip(panels, units):
        panel.set(xscale="log", yscale="log", ylabel=unit)
        panel.set_xlabel(say("tokens in the vocabulary", "词表里的词元数"))
    panels[0].plot([], [], ":", color=INK, label=say("predicted", "预测"))
    panels[0].legend(fontsize=8)


# %% [markdown] lang="en"
# **Figure 13.4.** The head with its loss and gradient, 512 tokens of width 64, by the size of the vocabulary: at once (blue) and in chunks of 64 (green). Left: time; dotted, the prediction, too low by up to four times. Right: peak memory. At the right end chunks take 1.8 times as long and a sixth of the memory.

# %% [markdown] lang="zh"
# **图 13.4** 输出头连同损失和梯度，512 个词元，宽度 64，横轴是词表大小：一次算完（蓝），每块 64 个（绿）。左：时间，点线是预测，偏低，最多差到四倍。右：内存峰值。在最右端，分块花的时间是 1.8 倍，内存是六分之一。

# %%
last = sweep[-1]
assert round(4 * 512 * last["vocabulary"] / 1e9, 2) == 0.31
ways = [last[name] for name in ("whole", "chunked")]
assert round(ways[1]["seconds"] / ways[0]["seconds"], 1) == 1.8
assert round(ways[0]["peak"] / ways[1]["peak"]) == 6
assert round(ways[0]["peak"] / (4 * 512 * last["vocabulary"]), 1) == 3.0
assert abs(ways[1]["flops"] / ways[0]["flops"] - 4 / 3) < 0.01
assert all(row["chunked"]["peak"] > 0.7 * row["whole"]["peak"] for row in sweep[2:5])
rest = ledger["step"]["fused"] * 512 / tokens["shared"]  # a whole step, for 512 tokens
assert ways[0]["seconds"] > 40 * rest and 0.9e9 < ways[0]["peak"] < 1e9
both = [row[name] for row in sweep for name in ("whole", "chunked")]
too_low = [one["seconds"] / one["predicted"] for one in both]
assert min(too_low) > 1.5 and max(too_low) < 4
assert sweep[0]["chunked"]["seconds"] > 10 * sweep[0]["whole"]["seconds"]
assert last["chunked"]["seconds"] < 2 * last["whole"]["seconds"]

# %% [markdown] lang="en"
# With such a vocabulary the head of our small model would take more than forty times as long as a whole step of the book's on as many tokens, and almost a gigabyte. In the middle of the range chunks save little memory. Our guess is that the process keeps blocks that it has freed, and that only the largest go back to the system at once.

# %% [markdown] lang="zh"
# 词表这么大，同样多的词元，光是我们这个小模型的输出头，花的时间就是本书一整步的四十倍以上，还要占近一个 GB。词表中等大小时，分块省不了多少内存。我们猜，释放的内存块还留在进程手里，只有最大的才马上还给系统。

# %% [markdown] lang="en"
# ## ⋆ Memory, on one GPU and on many
# Bytes can be counted as FLOPs are. Mixed precision with AdamW holds 16 bytes a parameter: weight and gradient in 2 bytes each, and in 4 each a master copy and two moments. Several GPUs can share these out instead of each holding all (**sharding**). ZeRO's paper does the sum for 7.5 billion parameters on 64 GPUs ([Rajbhandari et al. 2020](https://arxiv.org/abs/1910.02054)), and the cell finds its four numbers:
#
# | shared out | nothing | optimiser's state | and gradients | and weights |
# |---|---|---|---|---|
# | GB a GPU | 120 | 31.4 | 16.6 | 1.9 |

# %% [markdown] lang="zh"
# ## ⋆ 内存：一个 GPU，许多 GPU
# 字节可以同运算一样数。混合精度加 AdamW，每个参数 16 字节：权重和梯度各 2 字节，主副本和两个矩各 4 字节。有几个 GPU，就可以把这些分开存放，不必人手一份（**分片**，sharding）。ZeRO 的论文拿 75 亿参数、64 个 GPU 算过这笔账（[Rajbhandari et al. 2020](https://arxiv.org/abs/1910.02054)），单元格算出了它的四个数：
#
# | 分片的内容 | 不分片 | 优化器状态 | 再加梯度 | 再加权重 |
# |---|---|---|---|---|
# | 每个 GPU 的 GB 数 | 120 | 31.4 | 16.6 | 1.9 |

# %%
weight, gradient, master, moments = cost.PRECISIONS["bf16-mixed"]
assert (weight, gradient, master, moments) == (2, 2, 4, 8)
for shared_out, kept, stated in (
    (0, weight + gradient + master + moments, 120),
    (master + moments, weight + gradient, 31.4),
    (master + moments + gradient, weight, 16.6),
    (master + moments + gradient + weight, 0, 1.9),
):
    each = 7.5 * (kept + shared_out / 64)  # GB on each of 64 GPUs
    print(f"{each:6.1f} GB")
    assert abs(each - stated) < 0.05

# %% [markdown] lang="en"
# ## How it grows
# Double one dimension and leave the others alone: what happens to the time? For the FLOPs the count says it.
#
# > **Before you run it.** From width 32 to 128 the FLOPs grow with an exponent near 2. And the time?
#
# <details><summary>Answer</summary>
#
# With less than 1: as long as overhead and bytes rule, time grows less than the FLOPs. Only large models approach the count.
#
# </details>
#
# Below, next-token training of random weights (forward and backward) on 16 rows of 16 tokens, width 64, four layers, 22 tokens in the vocabulary; each row of the table varies one of these. It shows exponents: 1 means twice as large, twice as dear; 2 means four times. `small` are the first three sizes of a series, `large` the last three; `guess` is the prediction, `kept` the memory that is kept for the backward pass.

# %% [markdown] lang="zh"
# ## 怎样变大
# 一个维度加倍，其余不动，时间会怎样？运算量数一数就知道。
#
# > **先猜一猜。** 宽度从 32 到 128，运算量的指数接近 2。时间呢？
#
# <details><summary>答案</summary>
#
# 不到 1：只要还是启动开销和字节说了算，时间就长得比运算量慢。模型大了，才会向运算量靠拢。
#
# </details>
#
# 下面用随机权重做下一个词元的训练（前向加反向）：16 行，每行 16 个词元，宽度 64，四层，词表 22；表里每行只变其中一项。表中是指数：指数是 1，大一倍，贵一倍；是 2，贵到四倍。`small` 取一组里最小的三个，`large` 取最大的三个；`guess` 是预测，`kept` 是为反向传播留着的内存。


# %%
def exponent(points, key):
    """The slope of log(key) over log(size), through `points`, by least squares."""
    x, y = (np.log([point[k] for point in points]) for k in ("size", key))
    return np.polyfit(x, y, 1)[0]


growth, fitted = recorded["growth"], {}
print(f"{'':12}{'small':>24}{'large':>24}")
print(f"{'':12}" + f"{'FLOP':>8}{'guess':>8}{'time':>8}" * 2 + f"{'kept':>8}")
for axis, points in growth.items():
    ends = points[:3], points[-3:]
    keys = ("flops", "predicted", "seconds")
    fitted[axis] = [[exponent(end, key) for key in keys] for end in ends]
    numbers = "".join(f"{number:8.2f}" for end in fitted[axis] for number in end)
    print(f"{axis:12}{numbers}{exponent(points[-3:], 'saved'):8.2f}")
gaps = [abs(end[1] - end[2]) for ends in fitted.values() for end in ends]
assert max(gaps) < 0.2
for axis in ("batch", "length", "width"):
    assert fitted[axis][0][2] < fitted[axis][0][0] - 0.3  # small: less than FLOPs
assert all(abs(ends[1][2] - ends[1][0]) < 0.3 for ends in fitted.values())

# %%
ratios = [p["seconds"] / p["predicted"] for points in growth.values() for p in points]
assert round(min(ratios), 1) == 1.1 and round(max(ratios), 1) == 2.1
middle = {"batch": 16, "length": 16, "width": 64, "depth": 4, "vocabulary": 22}
same = [p["seconds"] for a in growth for p in growth[a] if p["size"] == middle[a]]
assert [round(1e3 * of(same), 1) for of in (min, max)] == [7.5, 10.0] and len(same) == 5
axes_names = {
    "batch": ("rows in a batch", "批次的行数"),
    "length": ("length of an answer", "回答的长度"),
    "width": ("width of the model", "模型的宽度"),
    "depth": ("layers", "层数"),
    "vocabulary": ("vocabulary", "词表"),
}


# %% tags=["figure"] alt_en="Five curves over the factor by which size has grown, logarithmic, one for each axis: batch, length, width, depth, vocabulary. Points are measured milliseconds, lines the prediction, below the points by a factor of one to two and parallel to them. Depth is straight from the start; batch and width start flat and steepen; length is the steepest together with width." alt_zh="五组曲线，横轴是放大的倍数，对数：batch、length、width、depth、vocabulary 各一组。点是实测的毫秒数，线是预测，比点低一到两倍，走向平行。depth 从头就是直线；batch 和 width 先平后陡；length 和 width 最陡。"
@picture
def grown(say):
    fig, axes = figure(width=6.8, height=4.0)
    for (axis, row), color in zip(growth.items(), [*colors[:4], COLORS["theory"]]):
        scale = [point["size"] / row[0]["size"] for point in row]
        seen, guess = ([1e3 * p[k] for p in row] for k in ("seconds", "predicted"))
        axes.plot(scale, seen, "o", color=color, label=say(*axes_names[axis]))
        axes.plot(scale, guess, color=color)
    axes.set(xscale="log", yscale="log")
    axes.plot([], [], "o", color=INK, label=say("measured", "实测"))
    axes.plot([], [], color=INK, label=say("predicted", "预测"))
    axes.set_xlabel(say("size, as a multiple of the smallest", "规模，是最小的几倍"))
    axes.set_ylabel(say("milliseconds a step", "一步用的毫秒数"))
    axes.legend(fontsize=8)


# %% [markdown] lang="en"
# **Figure 13.5.** Time of one step against the size of one dimension, as a multiple of the smallest (4 rows, 8 places, width 32, 1 layer, 22 tokens). Points: measured; lines: predicted, too low by 1.1 to 2.1 times. The setting of the middle, 16 rows of 16 tokens, is in all five series: five times the same, it took from 7.5 to 10.0 ms. So far may a single point be trusted.

# %% [markdown] lang="zh"
# **图 13.5** 一步的时间随某一个维度的大小变化，横轴是最小尺寸（4 行，8 个位置，宽度 32，1 层，22 个词元）的倍数。点是实测；线是预测，实测是它的 1.1 到 2.1 倍。中间那个设置（16 行，每行 16 个词元）五组里都有：同一件事测了五次，结果在 7.5 到 10.0 ms 之间。单独一个点，只能信到这个程度。

# %% [markdown] lang="en"
# Small models are all overhead: from 32 to 128 in width the FLOPs grow with an exponent near 2, the time with less than 1. Depth is the exception, since twice as many layers are twice as many calls. Large models approach the count. With the length the exponent keeps rising, because attention is quadratic in it; the memory for the backward pass follows.
#
# So a count of FLOPs alone is enough for a model of billions, and misleads here. The exponents of equation 13.1 are never off by more than 0.2.

# %% [markdown] lang="zh"
# 小模型全是启动开销：宽度从 32 到 128，运算量的指数接近 2，时间的却不到 1。深度是例外，因为层数加倍，调用也加倍。大模型渐渐向运算量靠拢。对长度的指数一路上升，因为注意力是长度的平方；留给反向传播的内存也跟着升。
#
# 所以几十亿参数的模型，只数运算就够了；在这里只数运算，就会看错。式 13.1 的指数同实测相差都不超过 0.2。

# %% tags=["proof"] checked_en="Checked: the exponents that the text names." checked_zh="已验证：正文提到的指数。"
assert fitted["width"][0][0] > 1.85
assert fitted["width"][0][2] < 1 < 1.6 < fitted["width"][1][2]
assert all(end[2] > 0.9 for end in fitted["depth"])
assert fitted["length"][0][2] < 0.6 and fitted["length"][1][2] > 1.5
assert exponent(growth["length"][-3:], "saved") > 1.5

# %% [markdown] lang="en"
# ## Against TRL
# A ratio against oneself flatters. `make bench` runs the same model, pairs and settings through TRL 1.16 (at its defaults, but for the precision and gradient checkpointing), and sampling through transformers' `generate`; it checks that loss and gradient agree, and times all in turn: CPU seconds of one thread, or wall seconds on a GPU. The results are stored with the book. How many times as fast are we? The columns are DPO with a stored reference, DPO with a live one, SFT, and sampling; `eager` is torch as it comes, in `compiled` our layers are compiled and theirs are not.

# %% [markdown] lang="zh"
# ## 同 TRL 比
# 自己同自己比，总是好看。`make bench` 让 TRL 1.16 用同样的模型、偏好对和设置来跑（除了精度和梯度检查点，都用它的默认值），采样则用 transformers 的 `generate`；先核对损失和梯度，再轮流计时：CPU 上算一个线程的 CPU 秒，GPU 上算实际的秒。结果随书保存。我们快到几倍？各列依次是参考值存好的 DPO、参考模型在旁边的 DPO、SFT、采样；`eager` 是 torch 原样跑，`compiled` 那几行，我们的层编译了，对方的没有。

# %%
TRAINED = ("dpo_vs_trl_precomputed", "dpo_vs_trl_live", "sft_vs_trl")
bench = {}
for name in ("bench", "bench_cuda_float32", "bench_cuda_bfloat16"):
    bench[name] = json.loads(Path(f"data/{name}.json").read_text(encoding="utf-8"))
    versions = bench[name]["machine"]
    print(*(versions[key] for key in ("device", "dtype", "torch", "trl")))
    for engine in ("eager", "compiled"):
        of = [bench[name][engine][key] for key in TRAINED]
        if engine == "eager":
            of.append(bench[name][engine]["sampling_vs_generate"])
        print(f"{engine:10}", *(f"{ratio:5.2f}" for ratio in of))
        assert versions["trl"] == "1.16.0"
        if name == "bench":
            low, high = (2.1, 2.9) if engine == "eager" else (2.6, 3.5)
            assert low < min(of) and max(of) < high
        else:
            assert min(of) > 1.3
            assert max(of) < 1.8 if engine == "eager" else min(of) > 2
            assert bench[name][engine]["matmul_share"] < 1e-3
            assert bench[name]["matmul"]["share_of_trl"]["max"] < 1e-3
spread = bench["bench"]["spread"]["eager"]
least = [spread[key]["min"] for key in (*TRAINED, "sampling_vs_generate")]
assert round(min(least), 1) == 1.7
assert round(7e9 / sum(p.numel() for p in gen.parameters()), -4) == 60_000

# %% [markdown] lang="en"
# On the recording CPU our side is more than twice as fast, and with compiled layers two and a half to three and a half times. These are medians; single eager rounds go down to 1.7, in sampling. On an H200 it is less, and over twice as fast with compiled layers; but those rows were recorded before the last changes to the layers and to packing, which made our side faster on the CPU. So compare within a machine, not across.
#
# TRL is built for models of billions of parameters (7B is 60 thousand times ours), where an overhead per call counts for little. The comparison says that small models need other code, not that TRL is slow. On the GPU less than a thousandth of the peak goes into products, ours or theirs. We have not profiled it there; fewer calls is our guess.

# %% [markdown] lang="zh"
# 在记录数据的 CPU 上，我们快到两倍多，编译以后是两倍半到三倍半。这些都是中位数；不编译的，单独一轮低的只有 1.7，那是采样。在 H200 上少一些，编译以后才到两倍以上；不过那几行是在改动各层和拼装的写法之前记录的，这些改动让我们在 CPU 上更快了。所以只在同一台机器内比，不要跨机器比。
#
# TRL 是为几十亿参数的模型写的（7B 是我们的 6 万倍），在那里，每次调用的开销算不了什么。这个比较只说明小模型要用另一种写法，不说明 TRL 慢。在 GPU 上，用在乘积上的还不到峰值的千分之一，两边都是。在那里我们没有做剖析；猜想是我们的调用少。

# %% [markdown] lang="en"
# ## The same arithmetic for a model that you do not have
# At width 4096, with thousands of tokens at once, the entrance fee is small beside the products. What is not a product goes into one number: the share of the peak that serves the model's own FLOPs, the **model FLOPs utilisation**, MFU ([Chowdhery et al. 2022](https://arxiv.org/abs/2204.02311)). With $N$ parameters in matrices, $L$ layers of $H$ heads of width $K$, and sequences of $T$ tokens, training costs a token
#
# $$6N+12\,L\,H\,K\,T$$
#
# FLOPs: two for each weight forward, four backward ([Kaplan et al. 2020](https://arxiv.org/abs/2001.08361)), and attention. Hours are FLOPs over GPUs, peak and MFU.
#
# Does it hold? Take published runs, their tokens and GPU hours, and compute what MFU they must have had. The plausible range was fixed before looking: 0.3 to 0.6, where most of [MosaicML's benchmarks](https://github.com/mosaicml/llm-foundry/tree/main/scripts/train/benchmarking) lie.

# %% [markdown] lang="zh"
# ## 手上没有的模型，用同一套算术
# 宽度到了 4096，一次几千个词元，门票同乘积相比就很小了。不是乘积的，都并进一个数：峰值里有几成用在模型自己的运算上，叫**模型 FLOPs 利用率**（model FLOPs utilisation，MFU；[Chowdhery et al. 2022](https://arxiv.org/abs/2204.02311)）。矩阵里有 $N$ 个参数，$L$ 层，每层 $H$ 个头，头宽 $K$，序列长 $T$ 个词元，训练一个词元要
#
# $$6N+12\,L\,H\,K\,T$$
#
# 次运算：每个权重前向两次、反向四次（[Kaplan et al. 2020](https://arxiv.org/abs/2001.08361)），再加上注意力。小时数就是运算量除以 GPU 数、峰值和 MFU。
#
# 这样算，准不准？取几次公开的训练，用它们的词元数和 GPU 小时反推 MFU。合理的范围，没看之前就定好：0.3 到 0.6，[MosaicML 的基准测试](https://github.com/mosaicml/llm-foundry/tree/main/scripts/train/benchmarking)大多落在里面。


# %%
def per_token(shape, length):
    """Model FLOPs of training on one token."""
    plan = cost.Plan("sft", 1, prompt=0, chosen=length, reference="none")
    return cost.training_flops(shape, plan).model.total / length


RUNS = {  # model, length, tokens, GPU hours, GPU, MFU to two digits
    "Llama 2 7B": ("llama-2-7b", 4096, 2e12, 184_320, "a100-80", 0.44),
    "Llama 2 13B": ("llama-2-13b", 4096, 2e12, 368_640, "a100-80", 0.42),
    "Llama 2 70B": ("llama-2-70b", 4096, 2e12, 1_720_320, "a100-80", 0.46),
    "Llama 3 70B": ("llama-3-70b", 8192, 15e12, 6.4e6, "h100", 0.32),
    "Llama 3 8B": ("llama-3-8b", 8192, 15e12, 1.3e6, "h100", 0.19),
    "TinyLlama": ("tinyllama-1.1b", 2048, 300e9, 3456, "a100-40", 0.56),
    "torchtitan 8B": ("llama-3-8b", 8192, 5762 * 3600, 1, "h100", 0.34),
}
for name, (model, length, tokens_seen, hours, gpu, stated) in RUNS.items():
    flops = per_token(cost.PRESETS[model], length) * tokens_seen
    mfu = flops / (hours * 3600 * cost.GPUS[gpu].flops)
    print(f"{name:14}{flops:10.2e} FLOP{hours:12,.0f} h  MFU {mfu:.3f}")
    assert abs(mfu - stated) < 0.006 and (0.3 < mfu < 0.6) == (name != "Llama 3 8B")

# %% [markdown] lang="en"
# Six of seven lie in the range. Llama 2's hours ask for 0.42 to 0.46 ([Touvron et al. 2023, Llama 2](https://arxiv.org/abs/2307.09288)). TinyLlama's authors report 56 % themselves, torchtitan's 33 %: there nothing is left free, and the count itself is checked ([Zhang et al. 2024](https://arxiv.org/abs/2401.02385), [Liang et al. 2024](https://arxiv.org/abs/2410.06511)). Llama 3 8B is outside, at 0.19, though the 70B of the same [model card](https://github.com/meta-llama/llama3/blob/main/MODEL_CARD.md) is inside. The card does not say what else its hours contain, and we do not adjust the range to it.
#
# Memory can be counted in the same way; a second reading above does it.

# %% [markdown] lang="zh"
# 七次里有六次落在范围内。Llama 2 的小时数，要求 0.42 到 0.46（[Touvron et al. 2023, Llama 2](https://arxiv.org/abs/2307.09288)）。TinyLlama 的作者自报 56%，torchtitan 自报 33%：这两处没有任何可调的数，检验的就是运算量本身（[Zhang et al. 2024](https://arxiv.org/abs/2401.02385)、[Liang et al. 2024](https://arxiv.org/abs/2410.06511)）。Llama 3 8B 在范围之外，只有 0.19，而同一张[模型卡](https://github.com/meta-llama/llama3/blob/main/MODEL_CARD.md)上的 70B 在里面。模型卡没有说那些小时里还包含什么，我们也不为它去改范围。
#
# 内存也可以照样数，见前面的第二遍再读。

# %% [markdown] lang="en"
# And DPO? Tülu 3 reports 10 hours on 8 H100 for its 8B model and 19 hours on 64 for 70B ([Lambert et al. 2024](https://arxiv.org/abs/2411.15124)). Its lengths are not published; were every sequence as long as was allowed, 2,048 tokens, the utilisation would be 0.25 and 0.18. With shorter ones it is lower still.
#
# Two runs of one recipe are no law, but they say on which side to err: plan a DPO run with 0.2, not with 0.4. And keep the ledger in mind. Most of its large entries are about work that need not be done, and that does not shrink with the model's size.
#
# The calculator is a command; the second line counts LoRA, small trainable matrices beside frozen weights ([Hu et al. 2021](https://arxiv.org/abs/2106.09685)):
#
# ```text
# dpo-core cost llama-3-8b --examples 60000 --prompt 200 --chosen 300 --rejected 300 --mfu 0.2
# dpo-core cost llama-3-8b --lora-rank 16 --sharding none --gpu rtx-4090 --checkpointing
# ```

# %% [markdown] lang="zh"
# DPO 呢？Tülu 3 报告：8B 的模型用 8 个 H100 跑了 10 小时，70B 用 64 个跑了 19 小时（[Lambert et al. 2024](https://arxiv.org/abs/2411.15124)）。序列长度没有公布；就算每条都有允许的 2,048 个词元那么长，利用率也只有 0.25 和 0.18，短一些就更低。
#
# 同一份配方的两次训练，算不上定律，但至少告诉我们该往哪边留余地：DPO 要按 0.2 来估，不要按 0.4。也要记着账本：增益大的，多半是把不必干的活省掉，这些活不会因为模型大就变少。
#
# 这套算术做成了命令；第二行算的是 LoRA，权重冻结，只在旁边训练一些小矩阵（[Hu et al. 2021](https://arxiv.org/abs/2106.09685)）：
#
# ```text
# dpo-core cost llama-3-8b --examples 60000 --prompt 200 --chosen 300 --rejected 300 --mfu 0.2
# dpo-core cost llama-3-8b --lora-rank 16 --sharding none --gpu rtx-4090 --checkpointing
# ```

# %%
for model, count, gpus, hours, stated in (
    ("llama-3-8b", 271_409, 8, 10, 0.25),
    ("llama-3-70b", 334_302, 64, 19, 0.18),
):
    plan = cost.Plan(
        "dpo", count, prompt=1024, chosen=1024, rejected=1024, reference="stored"
    )
    work = cost.training_flops(cost.PRESETS[model], plan).model.total
    mfu = work / (gpus * hours * 3600 * cost.GPUS["h100"].flops)
    print(f"{model:12}{work:10.2e} FLOP  MFU at most {mfu:.2f}")
    assert abs(mfu - stated) < 0.005 and mfu < 0.3

# %% [markdown] lang="en"
# > **What the toy hides.** A GPU's overhead is of the same size, some microseconds a call, and its peak is ten thousand times ours: the ridge, where the slope meets the flat roof, lies at 295 FLOPs a byte for an H100, not at 1. A model that is bound by products here is bound by memory there, unless it is many hundreds wide and sees thousands of tokens at once (exercise 13.4). A model of 7B with gradients and moments does not fit on one card of 80 GB, so the tricks that count are of memory: sharding, computing activations again (gradient checkpointing), chunked heads, fused attention. Between machines the network is a fourth number. And long chats may have prompts ten times as long as answers, or the other way round; the count tells which trick is yours.

# %% [markdown] lang="zh"
# > **玩具没告诉你的。** GPU 的启动开销也差不多，一次调用几微秒，峰值却是我们的一万倍：斜坡与平顶相接的拐点，H100 在每字节 295 次运算，不是 1。所以在这里卡在乘积上的模型，到那里会卡在内存上，除非宽度有好几百，一次又有几千个词元（练习 13.4）。7B 的模型加上梯度和矩，80 GB 的一张卡放不下，那里要紧的办法都是省内存：分片、重算激活值（梯度检查点）、输出头分块、融合注意力。机器之间，网络是第四个数。长对话的提示有时比回答长十倍，有时反过来；该用哪个办法，数一数就知道。

# %% tags=["proof"] checked_en="Checked: FLOPs a byte, here and on an H100." checked_zh="已验证：这里和 H100 上，每个字节配多少次运算。"
h100 = cost.GPUS["h100"].flops / 3.35e12  # its memory moves 3.35 TB a second
assert round(h100) == 295 and round(machine["peak"] / machine["bandwidth"]) == 1
assert round(cost.GPUS["h100"].flops / machine["peak"], -3) == 10_000
assert 7e9 * sum(cost.PRECISIONS["bf16-mixed"]) > cost.GPUS["h100"].memory == 80e9

# %% [markdown] lang="en"
# > **To remember.** Count calls, operations and bytes; three numbers of the machine turn them into a prediction; then measure, and hold loss and gradient equal. Most of the largest gains are work not done. Where the prediction fails there is something to learn. For a model of billions one number is left, the utilisation, and in the DPO runs that we could check it is nearer 0.2 than 0.4.

# %% [markdown] lang="zh"
# > **记住。** 数调用、运算和字节；用机器的三个数把它们变成预测；再去测量，并保证损失和梯度不变。最大的几个增益，多半来自没有干的活。预测落空的地方，说明有什么没有数到。到了几十亿参数，只剩一个数，利用率；我们核对得到的 DPO 训练里，它离 0.2 更近，离 0.4 更远。

# %% [markdown] lang="en"
# ## Exercises

# %% [markdown] lang="zh"
# ## 练习

# %% [markdown] lang="en"
# ### Exercise 13.1 · Predict a gain
# ★★☆ · 10 minutes
#
# SwiGLU, forward only: `silu(gate)` and then a product with `up`. Write `predicted_gain(n, machine)`: how many times faster one fused operation would be than the two, for tensors of `n` float32 numbers that fit into the cache. Count what each operation reads and writes. The FLOPs are too few to matter; `machine` has `"overhead"` (seconds) and `"bandwidth"` (bytes a second).
#
# <details><summary>Hint</summary>
#
# The first reads one tensor and writes one; the second reads two and writes one. The fused one never writes what lies between.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 13.1 · 预测一次增益
# ★★☆ · 10 分钟
#
# SwiGLU，只看前向：先算 `silu(gate)`，再乘 `up`。写一个 `predicted_gain(n, machine)`：张量有 `n` 个 float32 数，放得进缓存，两个运算融合成一个，会快到几倍？数一数每个运算读多少、写多少。运算量太小，不用管；`machine` 里有 `"overhead"`（秒）和 `"bandwidth"`（每秒字节数）。
#
# <details><summary>提示</summary>
#
# 第一个读一个张量，写一个；第二个读两个，写一个。融合以后，中间那个不用写。
#
# </details>


# %% tags=["exercise"]
def predicted_gain(n, machine): ...


check("13.1", predicted_gain)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# Five tensors move, 4 bytes a number, and two fees are paid; fused it is three tensors and one fee. Between 1.67 for large tensors and 2 for tiny ones.
#
# ```python
# def predicted_gain(n, machine):
#     before = 2 * machine["overhead"] + 5 * 4 * n / machine["bandwidth"]
#     after = machine["overhead"] + 3 * 4 * n / machine["bandwidth"]
#     return before / after
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 两个运算一共搬五个张量，每个数 4 字节，付两张门票；融合后搬三个，付一张。张量大，增益趋于 1.67；极小，趋于 2。
#
# ```python
# def predicted_gain(n, machine):
#     before = 2 * machine["overhead"] + 5 * 4 * n / machine["bandwidth"]
#     after = machine["overhead"] + 3 * 4 * n / machine["bandwidth"]
#     return before / after
# ```
#
# </details>

# %% tags=["setup"]
from checks.ch13 import HASTY, hasty_loss

plain_loss, all_tricks = (hasty_loss(gen, pairs, on) for on in ((), HASTY))
print(*HASTY)
assert round(all_tricks - plain_loss, 2) == 0.08

# %% [markdown] lang="en"
# ### Exercise 13.2 · One of these tricks is wrong
# ★★☆ · 15 minutes
#
# A colleague has written `hasty_loss(model, pairs, tricks)`: the DPO loss of some pairs, where `tricks` is any set of names from `HASTY`. With none the loss is right; with all of them it is off, and training would still run. One of the tricks alone is guilty. Find it, and by how much it moves the loss, without looking into `checks`. Give a tuple: (name, loss with it minus loss without), to three digits.
#
# <details><summary>Hint</summary>
#
# Switch them on one at a time. Rounding moves a float32 loss by some 1e-7; an error moves it by more. Use `gen` and `pairs` of this chapter, all 64.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 13.2 · 有一个办法是错的
# ★★☆ · 15 分钟
#
# 同事写了一个 `hasty_loss(model, pairs, tricks)`：算一批偏好对的 DPO 损失，`tricks` 是从 `HASTY` 里任取几个名字组成的集合。一个都不开，损失是对的；全开就不对了，训练却照样跑得起来。出错的只有一个。不看 `checks` 里的代码，把它找出来，并说出它让损失变了多少。写成元组：（名字，开它时的损失减去不开时的损失），后一个准确到三位有效数字。
#
# <details><summary>提示</summary>
#
# 一次只开一个。float32 的损失，舍入只带来 1e-7 左右的变动，错误就不止了。用本章的 `gen` 和 `pairs`，64 个偏好对全用上。
#
# </details>

# %% tags=["exercise"]
answer_13_2 = ...  # (name, difference)
check("13.2", answer_13_2)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# `sorted` is guilty: it puts the rows in order of length and leaves the reference's log-probabilities where they were, so that each pair is held against another pair's reference. All shapes fit. The loss rises by 0.08, and training would bring it down again. [Chapter 8](08_tensors.ipynb)'s test catches it as well: a policy that still equals its reference must have the loss $\ln 2$.
#
# ```python
# plain = hasty_loss(gen, pairs, set())
# moved = {name: hasty_loss(gen, pairs, {name}) - plain for name in HASTY}
# guilty = max(moved, key=lambda name: abs(moved[name]))
# answer_13_2 = (guilty, moved[guilty])
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 出错的是 `sorted`：它把各行按长度排了序，参考策略的对数概率却留在原处，于是每个偏好对用的都是别人的参考值。形状样样吻合；损失高了 0.08，训练一跑，照样往下降。[第 8 章](08_tensors.ipynb)的检验也能抓住它：策略还等于参考策略的时候，损失必须是 $\ln 2$。
#
# ```python
# plain = hasty_loss(gen, pairs, set())
# moved = {name: hasty_loss(gen, pairs, {name}) - plain for name in HASTY}
# guilty = max(moved, key=lambda name: abs(moved[name]))
# answer_13_2 = (guilty, moved[guilty])
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 13.3 · Size a run
# ★★☆ · 15 minutes
#
# You want to train Llama 3 8B with DPO on 120,000 pairs, two epochs; prompts of 400 tokens, answers of 500, four pairs at once on a GPU. The reference's log-probabilities are stored, nothing is recomputed, everything is sharded (`zero3`), precision is `bf16-mixed`. The GPUs are H100, of whose memory 0.9 is yours; utilisation 0.2. How many GPUs at least, and how many hours on that many? Give a tuple.
#
# <details><summary>Hint</summary>
#
# `cost.Plan`, then `cost.gpus_needed`, `cost.training_flops(...).model.total` and `cost.hours`. Stored log-probabilities cost a pass too, once.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 13.3 · 估一次训练
# ★★☆ · 15 分钟
#
# 要用 DPO 训练 Llama 3 8B：120,000 个偏好对，两轮；提示 400 个词元，回答 500 个，每个 GPU 一次算四个偏好对。参考策略的对数概率存好，什么都不重算，全部分片（`zero3`），精度 `bf16-mixed`。GPU 是 H100，显存的 0.9 归你用，利用率 0.2。至少要几个 GPU？用这么多，要几小时？写成元组。
#
# <details><summary>提示</summary>
#
# 先写 `cost.Plan`，再用 `cost.gpus_needed`、`cost.training_flops(...).model.total` 和 `cost.hours`。对数概率存起来，也要先算一遍。
#
# </details>

# %% tags=["exercise"]
answer_13_3 = ...  # (GPUs, hours)
check("13.3", answer_13_3)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# Six GPUs, and five and a half hours. With one pair at a time three would hold it; the others are there for the activations of three more pairs. To compute the activations again (`checkpointing=True`) would do with three as well, at the price of one more forward pass.
#
# ```python
# lengths = {"prompt": 400, "chosen": 500, "rejected": 500}
# plan = cost.Plan("dpo", 120_000, 2, **lengths, reference="stored", micro_batch=4)
# shape, h100_card = cost.PRESETS["llama-3-8b"], cost.GPUS["h100"]
# fewest = cost.gpus_needed(shape, plan, 0.9 * h100_card.memory)
# flops = cost.training_flops(shape, plan).model.total
# answer_13_3 = (fewest, cost.hours(flops, fewest, h100_card.flops, 0.2))
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 六个 GPU，五个半小时。一次只算一个偏好对，三个就装得下；另外三个，只为多放三个偏好对的激活值。把激活值重算一遍（`checkpointing=True`），也只要三个，代价是多一次前向。
#
# ```python
# lengths = {"prompt": 400, "chosen": 500, "rejected": 500}
# plan = cost.Plan("dpo", 120_000, 2, **lengths, reference="stored", micro_batch=4)
# shape, h100_card = cost.PRESETS["llama-3-8b"], cost.GPUS["h100"]
# fewest = cost.gpus_needed(shape, plan, 0.9 * h100_card.memory)
# flops = cost.training_flops(shape, plan).model.total
# answer_13_3 = (fewest, cost.hours(flops, fewest, h100_card.flops, 0.2))
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 13.4 · How wide must a model be?
# ★★★ · 15 minutes
#
# $n$ tokens of width $D$ times a $D\times D$ matrix, every number in 2 bytes, each tensor read or written once. An H100 computes 989.4 TFLOP/s and moves 3.35 TB/s. From which width on does computing take longer than moving, for 4,096 tokens? And what if there is only one token, as in sampling one answer at a time? Give a tuple: the least whole $D$, and for one token the share of the peak that is reached at $D=4096$ (leave the overhead aside).
#
# <details><summary>Hint</summary>
#
# $F=2nD^2$ and $M=2\,(2nD+D^2)$. Set $F/P=M/W$ and solve for $D$. The share is $(F/P)/(M/W)$ where moving takes longer.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 13.4 · 模型要多宽
# ★★★ · 15 分钟
#
# $n$ 个宽 $D$ 的词元，乘一个 $D\times D$ 的矩阵，每个数占 2 字节，每个张量只读一遍或只写一遍。H100 每秒算 989.4 TFLOP，搬 3.35 TB。4,096 个词元时，从多宽开始，算比搬慢？要是只有一个词元，就像一次只采样一个回答那样呢？写成元组：最小的整数 $D$；以及一个词元、$D=4096$ 时，能达到峰值的几成（不计启动开销）。
#
# <details><summary>提示</summary>
#
# $F=2nD^2$，$M=2\,(2nD+D^2)$。令 $F/P=M/W$，解出 $D$。搬比算慢的时候，比例是 $(F/P)/(M/W)$。
#
# </details>

# %% tags=["exercise"]
answer_13_4 = ...  # (least D, share of the peak)
check("13.4", answer_13_4)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# With $R=P/W=295.3$ the condition $nD/(2n+D)\ge R$ gives $D\ge 2nR/(n-R)$, 637 here: in a narrower model the processor waits for memory. More tokens help little: for endless ones the bound is still $2R$, 591. One token reaches 0.34 % of the peak: the matrix is read for a single row. That is why sampling is done in batches.
#
# ```python
# ridge, n = 989.4e12 / 3.35e12, 4096
# least_width = int(np.ceil(2 * n * ridge / (n - ridge)))
# one_token = 2 * 4096**2 / (2 * (2 * 4096 + 4096**2)) / ridge
# answer_13_4 = (least_width, one_token)
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 记 $R=P/W=295.3$，条件 $nD/(2n+D)\ge R$ 给出 $D\ge 2nR/(n-R)$，这里是 637：再窄，处理器就要等内存。词元再多也帮不了多少：无穷多时，下限仍是 $2R$，即 591。只有一个词元，只到峰值的 0.34%：整个矩阵读一遍，只为一行。所以采样要成批地做。
#
# ```python
# ridge, n = 989.4e12 / 3.35e12, 4096
# least_width = int(np.ceil(2 * n * ridge / (n - ridge)))
# one_token = 2 * 4096**2 / (2 * (2 * 4096 + 4096**2)) / ridge
# answer_13_4 = (least_width, one_token)
# ```
#
# </details>

# %% [markdown] lang="en"
# ## References
# - [Williams et al. 2009](https://doi.org/10.1145/1498765.1498785): the roofline.
# - [Dao et al. 2022](https://arxiv.org/abs/2205.14135): FlashAttention, attention that counts its bytes.
# - [Ansel et al. 2024](https://doi.org/10.1145/3620665.3640366): `torch.compile`.
# - [Wijmans et al. 2024](https://arxiv.org/abs/2411.09009): a cross-entropy that never writes its logits.
# - [Kaplan et al. 2020](https://arxiv.org/abs/2001.08361): section 2.1, six FLOPs a parameter and token. [Chowdhery et al. 2022](https://arxiv.org/abs/2204.02311): appendix B, model FLOPs utilisation.
# - [Rajbhandari et al. 2020](https://arxiv.org/abs/1910.02054): ZeRO, figure 1. [Hu et al. 2021](https://arxiv.org/abs/2106.09685): LoRA.
# - [Touvron et al. 2023, Llama 2](https://arxiv.org/abs/2307.09288): Llama 2; hours in table 2. [Zhang et al. 2024](https://arxiv.org/abs/2401.02385): TinyLlama; hours and utilisation in its README. [Liang et al. 2024](https://arxiv.org/abs/2410.06511): torchtitan; its repository's benchmarks.
# - [Lambert et al. 2024](https://arxiv.org/abs/2411.15124): Tülu 3, with the hours of its DPO.

# %% [markdown] lang="zh"
# ## 参考文献
# - [Williams et al. 2009](https://doi.org/10.1145/1498765.1498785)：屋顶线。
# - [Dao et al. 2022](https://arxiv.org/abs/2205.14135)：FlashAttention，会数字节的注意力。
# - [Ansel et al. 2024](https://doi.org/10.1145/3620665.3640366)：`torch.compile`。
# - [Wijmans et al. 2024](https://arxiv.org/abs/2411.09009)：从不写出 logits 的交叉熵。
# - [Kaplan et al. 2020](https://arxiv.org/abs/2001.08361)：2.1 节，每个参数每个词元六次运算。[Chowdhery et al. 2022](https://arxiv.org/abs/2204.02311)：附录 B，模型 FLOPs 利用率。
# - [Rajbhandari et al. 2020](https://arxiv.org/abs/1910.02054)：ZeRO，图 1。[Hu et al. 2021](https://arxiv.org/abs/2106.09685)：LoRA。
# - [Touvron et al. 2023, Llama 2](https://arxiv.org/abs/2307.09288)：Llama 2，小时数在表 2。[Zhang et al. 2024](https://arxiv.org/abs/2401.02385)：TinyLlama，小时数和利用率在它的 README 里。[Liang et al. 2024](https://arxiv.org/abs/2410.06511)：torchtitan，数据在仓库的基准测试里。
# - [Lambert et al. 2024](https://arxiv.org/abs/2411.15124)：Tülu 3，附有 DPO 用的小时数。
