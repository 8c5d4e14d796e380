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
# > **In this chapter.** You will be able to say, before you change a line of code, how much the change will save: by counting operations and bytes, and by knowing three numbers of your machine. You will see where the time of a DPO step goes, which tricks pay and which lose, and how time and memory grow with the model. At the end the same arithmetic sizes a run on GPUs that you do not have yet. You need the model of [chapter 2](02_llama.ipynb) and the step of [chapter 9](09_dpo.ipynb). 50 minutes to read, 20 seconds to run.

# %% [markdown] lang="zh"
# > **本章。** 读完后，你能在改代码之前就说出这一改能快多少：数一数运算和字节，再加上机器的三个数，就够了。你会看到一步 DPO 的时间花在哪里，哪些办法划算，哪些反而更慢，时间和内存又怎样随模型变大。最后，用同一套算术，给还没到手的 GPU 估算一次训练。需要[第 2 章](02_llama.ipynb)的模型和[第 9 章](09_dpo.ipynb)的训练步。阅读 50 分钟，运行 20 秒。

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
from dpo_core.plotting import COLORS, INK, figure
from dpo_core.preferences import population_pairs

# %% [markdown] lang="en"
# ## Three numbers of a machine
# Optimising usually begins with an idea and ends with a stopwatch. Here the order is another one: first a prediction, then the stopwatch. A prediction that comes true says that we know why the code is fast. One that fails says where to look.
#
# What does a processor do when torch calls an operation? Three things, and each takes time. It finds the right code and sets up the result: the **overhead**, $o$, the same for large tensors and small ones. It moves numbers between memory and registers: $M$ bytes at a **bandwidth** of $W$ bytes a second. It computes: $F$ additions and multiplications (FLOPs) at a **peak** of $P$ a second. Moving and computing overlap, so that the slower of the two counts:
#
# $$t=o+\max\Big(\frac{F}{P},\;\frac{M}{W}\Big).$$
#
# This is the **roofline** ([Williams et al. 2009](https://doi.org/10.1145/1498765.1498785)) with an entrance fee. By hand, on a machine with $P=100$ GFLOP/s, $W=100$ GB/s and $o=4$ microseconds: a product of 1,000 tokens of width 64 with a matrix of $64\times 64$ has $2\cdot 1000\cdot 64\cdot 64=8.2$ MFLOP and touches $4\cdot(64\,000+64\,000+4096)=0.53$ MB: 82 microseconds of computing hide 5 of moving. Adding two such tensors has 0.064 MFLOP and 0.77 MB: 0.6 against 8. Adding two single numbers takes 4, all of it overhead.

# %% [markdown] lang="zh"
# ## 机器的三个数
# 优化往往从一个点子开始，到一只秒表结束。这里换个次序：先预测，再掐表。预测对了，说明我们知道它为什么快；预测错了，也就知道该往哪里看。
#
# torch 每调用一个运算，处理器要做三件事，件件花时间。先找到该用的代码，备好放结果的地方：这是**启动开销**（overhead），记作 $o$，张量再小也要付。再把数在内存和寄存器之间搬来搬去：$M$ 个字节，每秒搬 $W$ 个，$W$ 叫**带宽**（bandwidth）。最后是算：$F$ 次加法和乘法（FLOP），每秒最多 $P$ 次，$P$ 叫**峰值**（peak）。搬和算可以同时进行，所以只看慢的那个：
#
# $$t=o+\max\Big(\frac{F}{P},\;\frac{M}{W}\Big)$$
#
# 这就是**屋顶线**（roofline；[Williams et al. 2009](https://doi.org/10.1145/1498765.1498785)），外加一张门票。手算一遍，设机器的 $P=100$ GFLOP/s，$W=100$ GB/s，$o=4$ 微秒：1,000 个词元，宽度 64，乘一个 $64\times 64$ 的矩阵，运算量 $2\cdot 1000\cdot 64\cdot 64=8.2$ MFLOP，读写的内存 $4\cdot(64\,000+64\,000+4096)=0.53$ MB：算要 82 微秒，搬只要 5 微秒，藏在后面看不见。两个这样的张量相加，0.064 MFLOP，0.77 MB：算 0.6 微秒，搬 8 微秒。两个数相加，要 4 微秒，全是启动开销。

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
    (2 * 1000 * 64 * 64, 4 * (64_000 + 64_000 + 4096), 82),
    (64_000, 12 * 64_000, 8),
    (1, 12, 0),
):
    took = op_seconds(flops, moved, by_hand) * 1e6
    print(f"{flops / 1e6:6.3f} MFLOP {moved / 1e6:6.3f} MB {took:5.1f} us")
    assert round(took - 4) == stated

# %% [markdown] lang="en"
# Now the machine that runs this page. The peak comes from a product of two large matrices, the bandwidth from an addition of tensors that fit into the processor's cache (what does not fit comes from memory, several times slower), the overhead from a chain of tiny multiplications with its gradient. The clock counts this process's own CPU seconds, so that a busy neighbour disturbs less.

# %% [markdown] lang="zh"
# 再看正在运行本页的这台机器。峰值用两个大矩阵的乘积来量；带宽用一次加法来量，张量放得进处理器的缓存（放不进的要从内存取，慢好几倍）；启动开销用一长串极小的乘法来量，连同求梯度。计时只算本进程自己用掉的 CPU 时间，旁边有别的程序在跑，影响也小些。

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
assert 1e5 < machine["overhead"] * machine["bandwidth"] < 1e6

# %% alt_en="Roofline, both axes logarithmic: FLOP per byte from 0.05 to 40 against GFLOP per second. A solid line rises and turns flat near 90; a dashed one, memory, turns later; a dotted one is the machine of this page. The three products of the layers lie on the flat roof at the right. Scores and mix lie below it. rope, residual, rms_norm and swiglu lie along the slope or below it; softmax lies far under the roof." alt_zh="屋顶线图，两轴都是对数：横轴每字节的运算数，从 0.05 到 40；纵轴 GFLOP 每秒。实线先上升，到 90 左右变平；虚线是内存，更靠右才变平；点线是正在运行本页的机器。各层的三个乘积落在右边的平顶上；scores 和 mix 在它下面；rope、residual、rms_norm、swiglu 沿着斜坡或在斜坡下面；softmax 远在屋顶之下。"
fig, axes = figure(width=6.8, height=4.0)
at = np.geomspace(0.05, 40, 200)
for which, rate, style, color in (
    (machine, "bandwidth", "-", COLORS["theory"]),
    (machine, "from_memory", "--", COLORS["theory"]),
    (here, "bandwidth", ":", INK),
):
    roof = np.minimum(which["peak"], at * which[rate])
    label = rate if which is machine else "here"
    axes.plot(at, roof / 1e9, style, color=color, label=label)
axes.set(xscale="log", yscale="log", xlabel="FLOP / byte", ylabel="GFLOP / s")
axes.legend(loc="upper left", fontsize=8)
for op in machine["operations"]:
    if op["flops"]:
        x, y = op["flops"] / op["bytes"], op["flops"] / op["seconds"] / 1e9
        product = op["name"] in ("qkv", "o_proj", "gate_up", "lm_head")
        kind = "policy" if product else "rejected"
        axes.plot(x, y, "o", color=COLORS[kind], markersize=5)
        shift = {"qkv": (4, 6), "o_proj": (-34, 6)}.get(op["name"], (4, -10))
        axes.annotate(op["name"], (x, y), shift, textcoords="offset points", size=8)

# %% [markdown] lang="en"
# **Figure 13.1.** Operations of the book's step, in their own shapes (about a thousand tokens of width 64), under the roof of the machine that recorded them. Solid: cache; dashed: memory; dotted: the machine that ran this page. The products with weights reach more than four fifths of the peak. What has few FLOPs a byte stays below a quarter of it, whoever writes it, and softmax below a sixteenth.

# %% [markdown] lang="zh"
# **图 13.1** 本书训练步里的各种运算，按实际形状（约一千个词元，宽度 64）测得，画在记录数据的那台机器的屋顶下。实线是缓存，虚线是内存，点线是运行本页的机器。与权重相乘的几个乘积，达到峰值的五分之四以上；每字节运算少的，谁来写都到不了四分之一；softmax 不到十六分之一。

# %%
peak, share = machine["peak"], {}
for op in machine["operations"]:
    share[op["name"]] = op["flops"] / op["seconds"] / peak
assert min(share[name] for name in ("qkv", "o_proj", "gate_up")) > 0.8
assert max(share[name] for name in ("rope", "residual", "rms_norm", "swiglu")) < 0.25
assert share["softmax"] < 0.06

# %% [markdown] lang="en"
# One call costs as much as some hundred thousand multiplications. In a model of width 64 that is no small change: the overhead is the first thing that a large model hides from its owner.
#
# ## Count, then predict
# torch lets us look over its shoulder: a *dispatch mode* sees every operation, those of the backward pass included. Fifteen lines count what it does. A view moves nothing and pays the entrance fee alone.

# %% [markdown] lang="zh"
# 调用一次，够做几十万次乘法。模型宽度只有 64，这可不是小钱；大模型最先替主人遮住的，就是这笔开销。
#
# ## 先数，再预测
# torch 允许旁观：*派发模式*（dispatch mode）能看到每一个运算，反向传播的也在内。十五行代码就能把它做的事数清。视图（view）什么也不搬，只付门票。

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
# Now four ways to compute one DPO step on one batch of 64 pairs. The first is chapter 9's, as one would write it down: rows padded to one length, a forward pass for the chosen answers and one for the rejected. The second puts both into one pass. The third leaves out the **padding**: the residual stream becomes a list of tokens, and only attention sees rows. The fourth lets both answers of a pair **share their prompt**.

# %% [markdown] lang="zh"
# 下面用四种写法算同一步 DPO，同一批 64 个偏好对。第一种照第 9 章直写：各行填充到一样长，chosen 前向一次，rejected 再前向一次。第二种把两者放进同一次前向。第三种去掉**填充**：残差流变成一列词元，只有注意力还要看行。第四种让一对里的两个回答**共用提示**。

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
# A row that holds two answers needs a mask of its own. Each token may look at itself, back along its own answer, and at the prompt; never at the other answer. And each answer counts its positions from the end of the prompt, so that RoPE sees what it would see in a row of its own. On the first pair of the batch:

# %% [markdown] lang="zh"
# 一行里放两个回答，就要有自己的掩码：每个词元可以看自己，可以沿着本回答往回看，也可以看提示，就是不能看另一个回答。两个回答的位置都从提示末尾数起，这样 RoPE 看到的，同各占一行时一样。取批次里的第一对来看：

# %%
one = pack(*(part[:1] for part in beside))
print(pairs.prompt[0], pairs.chosen[0], pairs.rejected[0])
print("position ", *one.layout.positions.tolist())
for row in one.layout.hidden[0, 0]:
    print("".join("." if hidden else "#" for hidden in row.tolist()))
twice = pack(*(torch.cat([side[:1] for side in part]) for part in (ids, mask)))
prompt, answers = len(pairs.prompt[0]), len(pairs.chosen[0] + pairs.rejected[0])
assert len(twice.input_ids) == 2 * prompt + answers
assert len(twice.input_ids) - len(one.input_ids) >= prompt

# %% [markdown] lang="en"
# Before you run the next cell: four counts, four predictions. Which step will gain most?

# %% [markdown] lang="zh"
# 运行下面之前先想一想：四种写法，四次计数，四个预测。哪一步赚得最多？

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
# One pass for both saves calls and nothing else. Packing and sharing save tokens, so FLOPs, and bytes with them. Then the measurement, and first of all the question whether it is still the same step: same loss to 1e-6, same gradient to 1e-5 of its largest entry. A trick that fails this is not a trick.

# %% [markdown] lang="zh"
# 合成一次前向，省的是调用次数，别的没有。去掉填充、共用提示，省的是词元，也就省了运算，连带省了字节。接着测量。先问：算的还是同一步吗？损失相差不到 1e-6，梯度相差不到最大分量的 1e-5。过不了这一关的，不算提速。

# %%
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
assert took["shared"] < 0.85 * took["two_passes"]
assert took["shared"] < took["joint"]

# %% [markdown] lang="en"
# ## Where the time goes
# A profile answers before any idea comes. The next picture holds two: the step as chapters 2 and 9 write it, with a reference model beside the policy, and the library's step after all the tricks of this chapter.

# %% [markdown] lang="zh"
# ## 时间花在哪里
# 还没有点子的时候，性能剖析（profile）就能给出答案。下图有两份：一份照第 2 章和第 9 章的写法，策略旁边还摆着参考模型；另一份是用上本章全部办法之后，库里的训练步。

# %% alt_en="Two horizontal bars of stacked shares, plain and library. Plain, more than twice as long: products (mm, bmm) about a third, softmax about a fifth, then mul and add, cat and copy, and the rest. Library: products more than half, softmax about a twentieth, the rest small pieces." alt_zh="两条横条，各段是各类运算的份额：plain 和 library。plain 长出一倍多：乘积（mm、bmm）约三分之一，softmax 约五分之一，其次是 mul 和 add、cat 和 copy，以及其余。library：乘积过半，softmax 约二十分之一，其余都是小块。"
GROUPS = {
    "mm": ("mm", "bmm", "baddbmm", "addmm"),
    "softmax": ("_softmax", "_softmax_backward_data", "_log_softmax"),
    "mul, add": ("mul", "add", "mul_", "add_", "div", "neg", "pow", "sum", "silu"),
    "cat, copy": ("cat", "copy_", "index_select", "index_copy_"),
}
profile, shares = recorded["profile"], {}
for name, found in profile.items():
    share = {op: part for op, part, _ in found["operations"]}
    of = {group: sum(share.get(op, 0) for op in ops) for group, ops in GROUPS.items()}
    shares[name] = of
    shares[name]["..."] = 1 - sum(shares[name].values())
fig, axes = figure(width=6.8, height=2.4)
colors = [COLORS[c] for c in ("policy", "rejected", "chosen", "baseline", "ref")]
for row, name in enumerate(("library", "plain")):
    left = 0
    for (group, part), color in zip(shares[name].items(), colors):
        width = 1e3 * part * profile[name]["seconds"]
        axes.barh(row, width, left=left, color=color, label=group if row else None)
        left += width
axes.set(yticks=(0, 1), yticklabels=("library", "plain"), xlabel="ms")
axes.legend(fontsize=8, ncols=5, loc="lower center", bbox_to_anchor=(0.5, 1.0))
assert 2 < profile["plain"]["seconds"] / profile["library"]["seconds"] < 2.5

# %% [markdown] lang="en"
# **Figure 13.2.** Milliseconds of one step of 64 pairs, by kind of operation (`...` is all the rest). In the plain step only about a third goes into products, the work that the mathematics asks for. Softmax alone takes about a fifth, though it has less than a hundredth of the FLOPs.

# %% [markdown] lang="zh"
# **图 13.2** 64 个偏好对的一步要多少毫秒，按运算种类分（`...` 是其余的）。照直写的那一步，乘积只占三分之一左右，数学真正要求的只有它。光是 softmax 就占约五分之一，它的运算量还不到百分之一。

# %%
for name, parts in shares.items():
    print(name, {group: round(part, 2) for group, part in parts.items()})
softmax_flops = 5 * 24 * 64 * 4 * 13**2  # five a number; 16 times forward, 8 back
assert softmax_flops < recorded["ledger"]["entries"]["stored"]["before"]["flops"] / 100
assert 0.25 < shares["plain"]["mm"] < 0.45 < shares["library"]["mm"]
assert shares["plain"]["softmax"] > 0.12 and shares["library"]["softmax"] < 0.10
assert profile["plain"]["calls"] > 2.5 * profile["library"]["calls"]

# %% [markdown] lang="en"
# ## The ledger
# Each trick is one change, and each stands on the one before it:
#
# | name | what changes | what it saves |
# |---|---|---|
# | `stored` | the reference's log-probabilities are read, not computed | one forward pass of four parts |
# | `joint` | both answers in one pass | calls |
# | `wide` | rows of softmax filled up to 16 places | nothing; it adds work |
# | `packed` | no padding | tokens: FLOPs and bytes |
# | `shared` | the prompt once a pair | tokens |
# | `answers` | the head only where an answer's token is predicted | FLOPs of the head |
# | `half` | RoPE on two halves, without a turned copy | bytes |
# | `by_hand` | RMSNorm and attention with a gradient of their own | calls and bytes |
# | `fused` | one call of AdamW for all parameters | calls |
# | `compiled` | torch writes the layers anew, one loop where there were many | calls and bytes |
#
# Beside them stand tricks that are no rung of this ladder, and some that lose: `sorted` (batches of pairs of similar length, still padded), larger batches, `sdpa` (torch's fused attention), `torch_norm` (`F.rms_norm`), `chunked` (the head piece by piece), `bfloat16`. `chapters/data/fast.py` counted each of them as we did, predicted, compared loss and gradient, and then timed before and after in turn, in 15 rounds: median of the ratios, and the range of the middle four fifths.

# %% [markdown] lang="zh"
# ## 账本
# 每个办法只改一处，而且都建立在前一个之上：
#
# | 名字 | 改什么 | 省什么 |
# |---|---|---|
# | `stored` | 参考策略的对数概率直接读，不再算 | 四份前向里的一份 |
# | `joint` | 两个回答合成一次前向 | 调用 |
# | `wide` | softmax 的行补到 16 个位置 | 什么也不省，还多了活 |
# | `packed` | 去掉填充 | 词元：运算和字节 |
# | `shared` | 一对只算一遍提示 | 词元 |
# | `answers` | 只在要预测回答词元的地方算输出头 | 输出头的运算 |
# | `half` | RoPE 分两半算，不另做转过的副本 | 字节 |
# | `by_hand` | RMSNorm、注意力自带手写的梯度 | 调用和字节 |
# | `fused` | 所有参数只调用一次 AdamW | 调用 |
# | `compiled` | torch 重写各层，许多个循环并成一个 | 调用和字节 |
#
# 旁边还有一些，不是这架梯子的一级，其中几样反而更慢：`sorted`（长度相近的放进一批，仍旧填充）、更大的批次、`sdpa`（torch 的融合注意力）、`torch_norm`（`F.rms_norm`）、`chunked`（输出头分块算）、`bfloat16`。`chapters/data/fast.py` 照上面的办法逐个计数、预测、核对损失和梯度，然后前后两种写法轮流计时 15 轮：取比值的中位数，以及中间五分之四的范围。

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

# %%
exact = {name: one for name, one in entries.items() if name != "bfloat16"}
assert all(one["loss_difference"] < 1e-6 for one in exact.values())
assert all(one["gradient_difference"] < 1e-5 for one in exact.values())
assert 2.3 < ledger["all_eager"] < 3.6
assert ledger["all_eager"] < ledger["all_compiled"] < 4.5

# %% alt_en="Measured gain against predicted gain, with the diagonal and a grey band of a quarter on both sides; left from 0.75 to 1.95, right the crowd around 1 enlarged. Most of the twenty points lie on or near the diagonal: stored, joint, packed, shared_long and the two batch sizes among them. wide lies far above it; compiled lies lowest below it; bfloat16, chunked_22 and both of sdpa lie below 1." alt_zh="实测增益对预测增益，画有对角线和上下各四分之一的灰带；左图从 0.75 到 1.95，右图把 1 附近的一群放大。二十个点大多在对角线上或附近，包括 stored、joint、packed、shared_long 和两种批次大小。wide 远在对角线上方；compiled 在下方最远处；bfloat16、chunked_22 和两个 sdpa 在 1 以下。"
fig, panels = figure(columns=2, width=8.4, height=4.4)
line = np.array([0.75, 1.95])
LEFT = ("sdpa_packed", "wide", "packed", "shared")  # labels that stand to the left
for panel, (low, high) in zip(panels, ((0.75, 1.95), (0.96, 1.16))):
    band = line / 1.25, line * 1.25
    panel.fill_between(line, *band, color=COLORS["ref"], alpha=0.15)
    panel.plot(line, line, color=COLORS["theory"])
    panel.axhline(1, color=INK, linewidth=0.8)
    panel.set(xlim=(low, high), ylim=(low, high), xlabel="predicted")
    for name, one in entries.items():
        color = COLORS["policy" if name in ledger["ladder"] else "baseline"]
        x, y = one["predicted"], one["measured"]
        panel.plot([x, x], [one["low"], one["high"]], color=color, linewidth=1)
        panel.plot(x, y, "o", color=color, markersize=4)
        inside = low < x < high and low < y < high
        crowd = 0.96 < x < 1.16 and 0.96 < y < 1.16  # those have the right panel
        if inside and crowd == (panel is panels[1]):
            at, side = ((-4, -3), "right") if name in LEFT else ((4, 3), "left")
            panel.annotate(name, (x, y), at, textcoords="offset points", ha=side, size=8)
panels[0].set(ylabel="measured")
assert len(entries) == 20

# %% [markdown] lang="en"
# **Figure 13.3.** The ledger: gain predicted from counts and three numbers, against gain measured. Blue: the ladder; orange: beside it. On the diagonal the prediction is right; the band is a quarter on either side; the right panel enlarges what lies around 1. Most predictions are within a tenth.

# %% [markdown] lang="zh"
# **图 13.3** 账本：由计数和三个数预测的增益，对实测的增益。蓝色是梯子上的各级，橙色是旁边的。落在对角线上，预测就对了；灰带是上下各四分之一；右图放大 1 附近。多数预测相差不到一成。

# %%
off = {}
for name, one in entries.items():
    ratio = one["predicted"] / one["measured"]
    off[name] = max(ratio, 1 / ratio)
assert sum(factor < 1.1 for factor in off.values()) > len(off) / 2
large = {name for name in ledger["ladder"] if entries[name]["measured"] > 1.12}
assert {"stored", "shared", "wide"} <= large <= {"stored", "shared", "wide", "packed"}
missed = {name for name, factor in off.items() if factor > 1.25}
assert missed <= {"wide", "sdpa_packed", "compiled"}

# %% [markdown] lang="en"
# Together the tricks make the step about three times as fast. None of them does it alone; it is a product of many small gains. All but one of the large ones leave work undone: a stored reference, no padding, a prompt read once. (The exception is `wide`; see below.) How much sharing saves depends on the data. For random prompts of 96 tokens before answers of 16 (`shared_long`), it is more than 1.4 on top of everything else. (A stored reference costs one pass over the data beforehand; with one epoch of training that is the same forward pass, done earlier. It pays from the second use on.)
#
# The absolute prediction is another matter: the formula explains about half of the measured milliseconds. Real operations find their operands in a worse place than a benchmark's, copies run across rows, and Python stands between the calls. What is missing is missing before and after, and the ratio stays.
#
# **Where the prediction has the wrong sign: `wide`.** Thirteen places become 16: more bytes, four more calls a layer, and a predicted gain of 0.99: a small loss. The measurement says a gain, and no small one. The count knows nothing of exponentials, and softmax is made of them. Here is what one number of a softmax costs on the recording machine, by the length of its row:

# %% [markdown] lang="zh"
# 这些办法合起来，一步快到原来的三倍左右。没有哪一个单独做得到，靠的是许多小增益相乘。增益大的几个，除了一个，都是把活儿省掉不干：参考策略的数存好，不算填充，提示只读一遍。（例外是 `wide`，见下文。）共用提示能省多少，要看数据：随机的 96 个词元的提示，接 16 个词元的回答（`shared_long`），其余都做完以后，它还有 1.4 倍以上。（存好的参考，要事先把数据过一遍；只训练一轮的话，是把同一次前向提前做了，从第二次用到才开始赚。）
#
# 绝对时间是另一回事：公式只解释了实测毫秒数的一半左右。真实的运算，操作数不像基准测试里那样近在手边；复制要跨行；调用之间还隔着 Python。缺的这部分，前后都缺，比值就还站得住。
#
# **预测连方向都错了的，是 `wide`。** 十三个位置补成 16 个：字节多了，每层多调用四次，预测 0.99，略亏；实测却是赚的，而且不少。计数不认得指数函数，而 softmax 全是指数。记录数据的那台机器上，softmax 里一个数要花多久，看它所在的行有多长：

# %%
softmax, tokens = machine["softmax"], ledger["tokens"]
print({int(columns): f"{1e9 * took:.2f} ns" for columns, took in softmax.items()})
print(tokens)
assert softmax["13"] > 5 * softmax["16"]
layers, heads, width = 4, 4, tokens["padded"] // 128  # rows of both answers, padded
before = layers * heads * 128 * width**2 * softmax["13"]
after = layers * heads * 128 * width * 16 * softmax["16"]
one = entries["wide"]
saved = (before - after) / one["seconds"][0]
corrected = 1 / (1 / one["predicted"] - saved)
print(f"softmax saves {saved:.0%}; corrected prediction {corrected:.2f}")
assert width == 13 and round(one["predicted"], 2) == 0.99 and one["measured"] > 1.1
assert one["after"]["calls"] - one["before"]["calls"] == 4 * layers
assert 0.9 < corrected / one["measured"] < 1.1

# %% [markdown] lang="en"
# A vector register of this processor holds 16 numbers. Rows shorter than that go through the slow path, one exponential after another: more than five times dearer a number. Padded rows of this batch have 13 places; with three empty ones more, the slow path is gone. With that in the count the prediction is right to a tenth. Nobody had looked at softmax; a prediction that missed led us to it.

# %% [markdown] lang="zh"
# 这颗处理器的一个向量寄存器装 16 个数。行比它短，就走慢路，指数一个一个地算，每个数贵五倍以上。这一批填充后的行有 13 个位置，再空出三个，慢路就没有了。把这一条算进去，预测就准到一成以内。谁也没有留意过 softmax；是一次落空的预测，把我们引到了这里。

# %% [markdown] lang="en"
# ## A gradient written by hand
# Autograd differentiates RMSNorm operation by operation: square, mean, square root, two products, and for each a way back. Derive it once as a whole. With $s=(\overline{x^2}+\epsilon)^{-1/2}$ and $u=s\,x$, the output is $y=w\odot u$. A change of $x$ changes $u$ directly and through $s$, and $\partial s/\partial x_j=-s^3x_j/D$. With $g$ the gradient that arrives at $y$,
#
# $$\frac{\partial\mathcal{L}}{\partial x}=s\,\Big(w\odot g-u\cdot\overline{w\odot g\odot u}\Big),\qquad\frac{\partial\mathcal{L}}{\partial w}=\sum_{\text{tokens}}g\odot u,$$
#
# where the bar is the mean over the $D$ coordinates. Only $u$ and $s$ need be kept.

# %% [markdown] lang="zh"
# ## 手写的梯度
# autograd 对 RMSNorm 是一个运算一个运算地求导：平方、平均、开方、两次乘法，每一个都要往回走一趟。不如整个推一遍。记 $s=(\overline{x^2}+\epsilon)^{-1/2}$，$u=s\,x$，输出是 $y=w\odot u$。$x$ 一变，$u$ 直接跟着变，还经由 $s$ 变一次，而 $\partial s/\partial x_j=-s^3x_j/D$。传到 $y$ 的梯度记作 $g$，则
#
# $$\frac{\partial\mathcal{L}}{\partial x}=s\,\Big(w\odot g-u\cdot\overline{w\odot g\odot u}\Big),\qquad\frac{\partial\mathcal{L}}{\partial w}=\sum_{\text{词元}}g\odot u$$
#
# 上面的横线表示对 $D$ 个坐标取平均。要留着的，只有 $u$ 和 $s$。

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
# In the library the same is done in place where it can be, and for attention as well (`dpo_core/kernels.py`; `plain_...` beside each is its definition, and tests hold the two equal). We had written one for SwiGLU, too. Here it is. What do they save?

# %% [markdown] lang="zh"
# 库里做的是同一件事，能原地算的就原地算，注意力也一样（`dpo_core/kernels.py`；每个旁边的 `plain_...` 是它的定义，测试保证两者相等）。SwiGLU 的手写梯度我们也写过，就是下面这个。它们各省多少？

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
assert ours[0] < plain[0] and ours[1] < 0.75 * plain[1]
hand, plain = totals["swiglu by hand"], totals["swiglu"]
assert 0.8 < hand[0] / plain[0] < 1.3 and 0.8 < hand[1] / plain[1] < 1.3

# %% [markdown] lang="en"
# RMSNorm moves a third fewer bytes. SwiGLU by hand saves nothing: written plainly it is already three operations, and autograd's way back is as short. (We measured it after having written it. The count would have told us before; it is gone from the library.) What is left brings about 1.1 to the step, since most of its time goes into products.
#
# A compiler derives and fuses such gradients by itself ([Ansel et al. 2024](https://doi.org/10.1145/3620665.3640366)), and reads the plain definition. Our prediction for it is a best case: everything between two products becomes one loop, and nothing is written in vain. It promises a third and a tenth comes, because the products stay as they are and packing, loss and optimiser are not compiled. It also takes more than ten seconds before it starts: a run of a few hundred steps is over sooner without it, and `dpo-core` decides by the length of the run.

# %% [markdown] lang="zh"
# RMSNorm 搬的字节少了三分之一。手写的 SwiGLU 什么也没省：直写本来就只有三个运算，autograd 往回走的路一样短。（我们是写完了才去测的；先数一数，早就知道了。库里已经删掉。）剩下的合起来，整步快到约 1.1 倍，因为时间大半在乘积上。
#
# 编译器会自己推导、融合这类梯度（[Ansel et al. 2024](https://doi.org/10.1145/3620665.3640366)），读的就是 plain 的定义。我们对它的预测按最好的情形算：两个乘积之间的一切并成一个循环，不白写一个数。预测能快三分之一，实测只快一成，因为乘积还是那些乘积，拼装、损失和优化器也没有编译。它开跑之前还要十几秒：只跑几百步的训练，不编译反而先结束，`dpo-core` 按训练的长短来决定。

# %%
assert 1.25 < entries["compiled"]["predicted"] < 1.45
assert 1.04 < entries["compiled"]["measured"] < 1.2
assert entries["compiled"]["compile_seconds"] > 10
assert round(entries["by_hand"]["measured"], 1) == 1.1

# %% [markdown] lang="en"
# ## Those that lose
# - **`answers`.** With 22 tokens in the vocabulary the head is 1 % of the FLOPs, and more than three quarters of all tokens are answers. Nothing gained, nothing lost, as predicted.
# - **`torch_norm`.** On this processor `F.rms_norm` performs the very same operations as our plain one.
# - **`sdpa`.** Fused attention keeps no matrix of scores. That saves memory where rows are long ([Dao et al. 2022](https://arxiv.org/abs/2205.14135)). With 13 places it loses, whether with the built-in causal mask (`sdpa_padded`) or with the mask of a shared prompt (`sdpa_packed`): its blocks are made for rows of hundreds. Mind the baseline: before `wide` it would have passed for a gain.
# - **`sorted`.** It pays, more than 1.1; but packing does the same and more without choosing batches by length, which would tie a batch's content to it. On top of sorting, packing brings almost nothing.
# - **Larger batches.** 64 pairs at once against four times 16 are 1.8 times as fast: overhead again. From 64 to 256 it is 1.3. But the batch is part of the recipe, and a larger one makes fewer updates out of the same data.
# - **`chunked`.** Computing the head in pieces costs a second forward pass and many calls. With 22 tokens it loses. See below what it is for.
# - **`bfloat16`.** Products twice as fast, and the step slower; the second reading below says why.

# %% [markdown] lang="zh"
# ## 反而更慢的
# - **`answers`。** 词表只有 22 个词元，输出头占运算的 1%，而四分之三以上的词元就是回答。不赚不赔，同预测一样。
# - **`torch_norm`。** 在这种处理器上，`F.rms_norm` 做的运算和我们的 plain 版一模一样。
# - **`sdpa`。** 融合注意力不保存分数矩阵，行长的时候省内存（[Dao et al. 2022](https://arxiv.org/abs/2205.14135)）。只有 13 个位置时，它更慢，用自带的因果掩码（`sdpa_padded`）如此，用共用提示的掩码（`sdpa_packed`）也如此：它按块计算，块是为几百个位置的行准备的。当心拿什么作基准：在 `wide` 之前比，它会被当成增益。
# - **`sorted`。** 划算，1.1 倍以上；但去掉填充做到的不比它少，又不必按长度挑批次，免得批次的内容跟长度绑在一起。排过序再去填充，几乎没有增益。
# - **更大的批次。** 一次 64 对，比四次 16 对快到 1.8 倍，又是启动开销的缘故；从 64 到 256，是 1.3 倍。可批次大小是训练配方的一部分，批次大了，同样的数据更新的次数就少了。
# - **`chunked`。** 输出头分块算，要多一次前向，还多许多次调用。词表是 22 时，它更慢；它的用处见下文。
# - **`bfloat16`。** 乘积快一倍，整步却慢了；原因见后面的第二遍再读。

# %%
e = entries
assert abs(e["answers"]["measured"] - 1) < 0.06
assert abs(e["answers"]["predicted"] - 1) < 0.02
config = cost.PRESETS["book"]
inside = config.num_hidden_layers * cost.layer_matrices(config)
assert round(config.vocab_size * 64 / (inside + config.vocab_size * 64), 2) == 0.01
assert tokens["answers"] > 0.75 * tokens["shared"]
assert e["torch_norm"]["before"] == e["torch_norm"]["after"]
assert max(e[f"sdpa_{name}"]["measured"] for name in ("padded", "packed")) < 0.97
assert e["sdpa_padded"]["measured"] * e["wide"]["measured"] > 1
assert 1.1 < e["sorted"]["measured"] < 1.25
assert abs(e["packed_beside_sorted"]["measured"] - 1) < 0.08
assert round(e["batch_64"]["measured"], 1) == 1.8
assert round(e["batch_256"]["measured"], 1) == 1.3
assert e["chunked_22"]["measured"] < 0.95 and e["bfloat16"]["measured"] < 1
assert e["shared_long"]["measured"] > 1.4
for name in ledger["ladder"][:-1]:
    explained = e[name]["seconds_predicted"][1] / e[name]["seconds"][1]
    assert 0.35 < explained < 0.75

# %% [markdown] lang="en"
# ## The head, from 22 tokens to 151,936
# A real vocabulary changes the account. The logits of $N$ tokens are $N\cdot V$ numbers; their log-probabilities are as many, and their gradient. For 512 tokens and the 151,936 entries of a Qwen vocabulary, in float32, that is 0.31 GB three times over, whatever the model's width. In chunks of 64 tokens, each chunk's logits are forgotten at once and computed again for the gradient ([Wijmans et al. 2024](https://arxiv.org/abs/2411.09009) go all the way). The FLOPs rise from three products to four; the logits' memory falls to an eighth.

# %% [markdown] lang="zh"
# ## 输出头：词表从 22 到 151,936
# 换成真实的词表，账就变了。$N$ 个词元的 logits 有 $N\cdot V$ 个数，对数概率又是这么多，梯度再来一份。512 个词元，Qwen 的词表 151,936 项，用 float32，每份 0.31 GB，一共三份，同模型多宽无关。要是每 64 个词元算一块，logits 用完就丢，求梯度时再算一遍（[Wijmans et al. 2024](https://arxiv.org/abs/2411.09009) 做得更彻底）：运算从三次乘积变成四次，logits 占的内存降到八分之一。

# %% alt_en="Two panels over the vocabulary from 22 to 151,936, logarithmic. Left, milliseconds: two rising curves; chunked lies more than ten times above whole at 22 and less than twice above it from the middle on. Right, peak memory in MB: whole rises to about a thousand; chunked rises with it to a quarter of that, then falls below two hundred." alt_zh="两幅小图，横轴是词表大小，从 22 到 151,936，对数。左图毫秒数：两条上升的曲线；chunked 在 22 处比 whole 高十倍以上，从中间起高出不到一倍。右图内存峰值 MB：whole 升到约一千；chunked 先跟着升到它的四分之一左右，最后落到两百以下。"
sweep = recorded["head"]["sweep"]
fig, panels = figure(columns=2, width=7.0, height=3.0)
sizes = [row["vocabulary"] for row in sweep]
for name, color in (("whole", "policy"), ("chunked", "chosen")):
    color, of = COLORS[color], [row[name] for row in sweep]
    took = [1e3 * one["seconds"] for one in of]
    panels[0].plot(sizes, took, "o-", color=color, label=name)
    panels[0].plot(sizes, [1e3 * one["predicted"] for one in of], ":", color=color)
    panels[1].plot(sizes[2:], [one["peak"] / 1e6 for one in of[2:]], "o-", color=color)
for panel, unit in zip(panels, ("ms", "MB")):
    panel.set(xscale="log", yscale="log", xlabel="$V$", ylabel=unit)
panels[0].legend(fontsize=8)
assert sizes == [22, 256, 2_048, 16_384, 49_152, 151_936]

# %% [markdown] lang="en"
# **Figure 13.4.** The head with its loss and gradient, 512 tokens of width 64: at once (blue) and in chunks of 64 (green). Left: time, dotted as predicted. Right: peak memory. At the size of a real vocabulary the head of this small model would take twenty times as long as all its layers, or more, and a gigabyte. The prediction is too low: large tensors come fresh from the operating system, page by page, and the count does not know that. In the middle chunks save little memory; our guess is that the process keeps small blocks that it has freed.

# %% [markdown] lang="zh"
# **图 13.4** 输出头连同损失和梯度，512 个词元，宽度 64：一次算完（蓝），每块 64 个（绿）。左：时间，点线是预测。右：内存峰值。用真实大小的词表，这个小模型的输出头要花全部各层二十倍以上的时间，占近一个 GB。预测偏低：大张量的内存要向操作系统一页一页地新领，计数不知道这回事。词表中等大小时，分块省不了多少内存；我们猜是进程把释放的小块留在了手里。

# %%
last = sweep[-1]
assert round(4 * 512 * last["vocabulary"] / 1e9, 2) == 0.31
assert last["whole"]["peak"] > 4 * last["chunked"]["peak"]
assert all(row["chunked"]["peak"] > 0.6 * row["whole"]["peak"] for row in sweep[3:5])
assert 2.5 < last["whole"]["peak"] / (4 * 512 * last["vocabulary"]) < 3.6
assert abs(last["chunked"]["flops"] / last["whole"]["flops"] - 4 / 3) < 0.01
layers_seconds = ledger["step"]["fused"] * 512 / tokens["shared"]  # for 512 tokens
assert last["whole"]["seconds"] > 20 * layers_seconds
assert 0.7e9 < last["whole"]["peak"] < 1.3e9
assert sweep[0]["chunked"]["seconds"] > 7 * sweep[0]["whole"]["seconds"]
assert last["chunked"]["seconds"] < 2 * last["whole"]["seconds"]

# %% [markdown] lang="en"
# ## How it grows
# Double one dimension and leave the others alone: what happens to the time? The count says it for the FLOPs. The formula says more: as long as overhead and bytes rule, time grows less than the FLOPs. Below, next-token training of random weights on 16 rows of 16 tokens, width 64, four layers; each row of the table varies one of these. An exponent of 1 means: twice as large, twice as dear; 2 means four times.

# %% [markdown] lang="zh"
# ## 怎样变大
# 一个维度加倍，其余不动，时间会怎样？运算量数一数就知道。公式说得更多：只要还是启动开销和字节说了算，时间就长得比运算量慢。下面用随机权重做下一个词元的训练，16 行，每行 16 个词元，宽度 64，四层；表里每行只变其中一项。指数是 1：大一倍，贵一倍；是 2：贵到四倍。

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
assert max(gaps) < 0.25 and np.mean(gaps) < 0.12
for axis in ("batch", "length", "width"):
    assert fitted[axis][0][2] < fitted[axis][0][0] - 0.3  # small: less than FLOPs
assert all(abs(ends[1][2] - ends[1][0]) < 0.3 for ends in fitted.values())

# %% alt_en="Five curves over the factor by which size has grown, logarithmic, one for each axis: batch, length, width, depth, vocabulary. Points are measured milliseconds, lines the prediction, below the points by a factor of one to two and parallel to them. Depth is straight from the start; batch and width start flat and steepen; length is the steepest together with width." alt_zh="五组曲线，横轴是放大的倍数，对数：batch、length、width、depth、vocabulary 各一组。点是实测的毫秒数，线是预测，比点低一到两倍，走向平行。depth 从头就是直线；batch 和 width 先平后陡；length 和 width 最陡。"
fig, axes = figure(width=6.8, height=4.0)
for (axis, points), color in zip(growth.items(), colors[:4] + [COLORS["theory"]]):
    scale = [point["size"] / points[0]["size"] for point in points]
    seen, guess = ([1e3 * p[k] for p in points] for k in ("seconds", "predicted"))
    axes.plot(scale, seen, "o", color=color, label=axis)
    axes.plot(scale, guess, color=color)
axes.set(xscale="log", yscale="log", xlabel="size / smallest size", ylabel="ms")
axes.legend(fontsize=8)
ratios = [p["seconds"] / p["predicted"] for points in growth.values() for p in points]
assert min(ratios) > 0.9 and np.median(ratios) < 2.2 and max(ratios) < 3

# %% [markdown] lang="en"
# **Figure 13.5.** Time of one step against the size of one dimension (smallest 4 rows, 8 places, width 32, 1 layer, 22 tokens): points measured, lines predicted. The prediction is too low, as a rule by a factor of up to two, and bends where the measurement bends.

# %% [markdown] lang="zh"
# **图 13.5** 一步的时间随某一个维度的大小变化（最小处：4 行，8 个位置，宽度 32，1 层，22 个词元）：点是实测，线是预测。预测偏低，一般在一倍以内；该弯的地方，弯得一样。

# %% [markdown] lang="en"
# Small models are all overhead: from 32 to 128 in width the FLOPs grow with an exponent near 2, the time with less than 1. Large ones approach the count. With the length the exponent keeps rising, because attention is quadratic in it; memory that is kept for the backward pass follows. That is why the count alone suffices for a model of billions, and why it misleads here.

# %% [markdown] lang="zh"
# 小模型全是启动开销：宽度从 32 到 128，运算量的指数接近 2，时间的却不到 1。大模型渐渐向运算量靠拢。对长度的指数一路上升，因为注意力是长度的平方；留给反向传播的内存也跟着升。所以几十亿参数的模型，只数运算就够了；在这里只数运算，就会看错。

# %%
assert fitted["width"][0][0] > 1.85
assert fitted["width"][0][2] < 1 < 1.6 < fitted["width"][1][2]
assert fitted["length"][1][2] > 1.3 and exponent(growth["length"][-3:], "saved") > 1.3

# %% [markdown] lang="en"
# ## Against TRL
# A ratio against oneself flatters. `make bench` runs the same model, pairs and settings through TRL, checks that loss and gradient agree, and times both in turn on one thread. Its result is stored with the book: DPO with precomputed reference at least 1.8 times as many pairs a CPU-second, 2.3 compiled; SFT at least 1.4; sampling at least 1.5 against transformers' `generate`. TRL is built for models of billions of parameters (7B is 60 thousand times ours), where its overhead vanishes; the comparison says that small models need other code, not that TRL is slow. On a GPU this model is nearly all overhead: our step uses less than a hundredth of the peak. One run of the same bench on an H200, in float32 and in bfloat16, is stored as well. There DPO and SFT run 1.3 to 1.8 times as fast as TRL, compiled 2 to 3 times. We have not profiled it there; fewer calls is our guess.

# %% [markdown] lang="zh"
# ## 同 TRL 比
# 自己同自己比，总是好看。`make bench` 让 TRL 用同样的模型、偏好对和设置来跑，先核对损失和梯度，再在一个线程上轮流计时。结果随书保存：参考值事先算好的 DPO，每 CPU 秒处理的偏好对至少是它的 1.8 倍，编译后 2.3 倍；SFT 至少 1.4 倍；采样同 transformers 的 `generate` 比，至少 1.5 倍。TRL 是为几十亿参数的模型写的（7B 是我们的 6 万倍），在那里它的开销不值一提；这个比较只说明小模型要用另一种写法，不说明 TRL 慢。在 GPU 上，这个模型几乎只剩开销：我们的一步用不到峰值的百分之一。同一测试在一块 H200 上也各跑过一次，float32 和 bfloat16 两种精度，结果一并存着。在那里，DPO 和 SFT 的速度是 TRL 的 1.3 到 1.8 倍，编译后是 2 到 3 倍。在那里我们没有做剖析；猜想是因为调用少了。

# %%
bench = json.loads(Path("data/bench.json").read_text(encoding="utf-8"))
least = {"dpo_vs_trl_precomputed": 1.8, "sft_vs_trl": 1.4, "sampling_vs_generate": 1.5}
for name, bound in least.items():
    eager, fast = bench["eager"][name], bench["compiled"][name]
    print(f"{name:24} eager {eager:.2f}  compiled {fast:.2f}")
    assert bench["eager"][name] > bound
assert bench["compiled"]["dpo_vs_trl_precomputed"] > 2.3
for precision in ("float32", "bfloat16"):
    text = Path(f"data/bench_cuda_{precision}.json").read_text(encoding="utf-8")
    for engine, low, high in (("eager", 1.3, 1.8), ("compiled", 2.0, 3.0)):
        on_gpu = json.loads(text)[engine]
        trained = [on_gpu[name] for name in on_gpu if "_vs_trl" in name]
        assert len(trained) == 3 and low < min(trained) < max(trained) < high
        assert on_gpu["matmul_share"] < 0.01
assert round(7e9 / sum(p.numel() for p in gen.parameters()), -4) == 60_000

# %% [markdown] lang="en"
# ## The same arithmetic for a model that you do not have
# At width 4096 the entrance fee is nothing and almost all the time goes into products. So one number remains: the share of the peak that goes into the model's own FLOPs, the **model FLOPs utilisation**, MFU ([Chowdhery et al. 2022](https://arxiv.org/abs/2204.02311)). With $N$ parameters in matrices, $L$ layers of $H$ heads of width $K$, and sequences of $T$ tokens, training costs a token
#
# $$6N+12\,L\,H\,K\,T$$
#
# FLOPs: two for each weight forward, four backward ([Kaplan et al. 2020](https://arxiv.org/abs/2001.08361)), and attention. Hours are FLOPs over GPUs, peak and MFU. Does it hold? Take published runs, their tokens and GPU hours, and compute what MFU they must have had. A plausible one, fixed before looking, lies between 0.3 and 0.6.

# %% [markdown] lang="zh"
# ## 手上没有的模型，用同一套算术
# 宽度到了 4096，门票可以不计，时间几乎全在乘积上。于是只剩一个数：峰值里有几成用在模型自己的运算上，叫**模型 FLOPs 利用率**（model FLOPs utilisation，MFU；[Chowdhery et al. 2022](https://arxiv.org/abs/2204.02311)）。矩阵里有 $N$ 个参数，$L$ 层，每层 $H$ 个头，头宽 $K$，序列长 $T$ 个词元，训练一个词元要
#
# $$6N+12\,L\,H\,K\,T$$
#
# 次运算：每个权重前向两次、反向四次（[Kaplan et al. 2020](https://arxiv.org/abs/2001.08361)），再加上注意力。小时数就是运算量除以 GPU 数、峰值和 MFU。这样算，准不准？取几次公开的训练，用它们的词元数和 GPU 小时反推 MFU。合理的范围，没看之前就定好：0.3 到 0.6。

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
# Six of seven lie in the range. Llama 2's model card gives hours that ask for 0.42 to 0.46 ([Touvron et al. 2023, Llama 2](https://arxiv.org/abs/2307.09288)). TinyLlama's authors report 56 % themselves, torchtitan's 33 %: there the count is checked with nothing left free ([Zhang et al. 2024](https://arxiv.org/abs/2401.02385), [Liang et al. 2024](https://arxiv.org/abs/2410.06511)). Llama 3 8B is outside, at 0.19; its card does not say what else its hours contain, and we do not adjust the range to it.
#
# Memory is counted in the same way. Mixed precision with AdamW holds 16 bytes a parameter: weight and gradient in 2 bytes each, and in 4 each a master copy and two moments. ZeRO's paper gives 7.5 billion parameters on 64 GPUs: 120 GB each unsharded, 31.4 with the optimiser's state shared out, 16.6 with the gradients, 1.9 with everything ([Rajbhandari et al. 2020](https://arxiv.org/abs/1910.02054)). LoRA's paper says that GPT-3 takes 350 GB with adapters ([Hu et al. 2021](https://arxiv.org/abs/2106.09685)); ours is 2 bytes for each of 175 billion frozen weights.

# %% [markdown] lang="zh"
# 七次里有六次落在范围内。Llama 2 的模型卡给出的小时数，要求 0.42 到 0.46（[Touvron et al. 2023, Llama 2](https://arxiv.org/abs/2307.09288)）。TinyLlama 的作者自报 56%，torchtitan 自报 33%：这两处没有任何可调的数，检验的就是运算量本身（[Zhang et al. 2024](https://arxiv.org/abs/2401.02385)、[Liang et al. 2024](https://arxiv.org/abs/2410.06511)）。Llama 3 8B 在范围之外，只有 0.19；它的模型卡没有说那些小时里还包含什么，我们也不为它去改范围。
#
# 内存也照样数。混合精度加 AdamW，每个参数 16 字节：权重和梯度各 2 字节，主副本和两个矩各 4 字节。ZeRO 的论文举了 75 亿参数、64 个 GPU 的例子：不分片每个 120 GB；优化器状态分片后 31.4；梯度也分片，16.6；全部分片，1.9（[Rajbhandari et al. 2020](https://arxiv.org/abs/1910.02054)）。LoRA 的论文说 GPT-3 加上适配器要 350 GB（[Hu et al. 2021](https://arxiv.org/abs/2106.09685)）；我们算出来的，就是 1750 亿个冻结的权重，每个 2 字节。

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
assert 175e9 * weight == 350e9
assert abs(120 - 7.5 * 16) < 1e-9

# %% [markdown] lang="en"
# DPO itself does worse than pretraining. Tülu 3 reports 10 hours on 8 H100 for its 8B model and 19 hours on 64 for 70B ([Lambert et al. 2024](https://arxiv.org/abs/2411.15124)). Its lengths are not published; were every sequence as long as was allowed, 2,048 tokens, the utilisation would be 0.25 and 0.18. With shorter ones it is lower still. Padding, short batches, the reference's pass and generation between rounds all eat from it. So plan a DPO run with 0.2, not with 0.4, and with the tricks above in mind: most of the ledger's large entries are about work that need not be done, and those do not shrink with the model's size.
#
# The calculator is a command:
#
# ```text
# dpo-core cost llama-3-8b --examples 60000 --prompt 200 --chosen 300 --rejected 300 --mfu 0.2
# dpo-core cost llama-3-8b --lora-rank 16 --sharding none --gpu rtx-4090 --checkpointing
# ```

# %% [markdown] lang="zh"
# DPO 还不如预训练。Tülu 3 报告：8B 的模型用 8 个 H100 跑了 10 小时，70B 用 64 个跑了 19 小时（[Lambert et al. 2024](https://arxiv.org/abs/2411.15124)）。序列长度没有公布；就算每条都有允许的 2,048 个词元那么长，利用率也只有 0.25 和 0.18，短一些就更低。填充、小批次、参考策略那一次前向，都从里面扣。所以 DPO 要按 0.2 来估，不要按 0.4；也要记着上面的办法：账本里增益大的，多半是把不必干的活省掉，这些不会因为模型大就变小。
#
# 这套算术做成了命令：
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
# ## ⋆ Half precision, where it pays
# This processor multiplies bfloat16 numbers twice as fast as float32, in the step's own small shapes too. Yet the step becomes slower: every product's inputs are first rounded into new tensors, one more call and one more walk through memory for each; softmax and norms stay in float32; and by then the products are only half of the time. Wider models pay the conversion once for more FLOPs. And it is not free of error: the gradient moves by half a percent of its largest entry, where all the other tricks move it by a millionth.

# %% [markdown] lang="zh"
# ## ⋆ 半精度，在哪里才划算
# 这颗处理器算 bfloat16 的乘积，比 float32 快一倍，训练步里那些小形状也一样。整步却慢了：每个乘积的输入要先舍入成新张量，多一次调用，多走一遍内存；softmax 和归一化仍用 float32；何况到了这一步，乘积只占一半左右的时间。模型更宽，转换一次能换来更多的运算，才划算。它还有误差：梯度的变化是最大分量的千分之五，其他办法只有百万分之一。

# %%
for row in recorded["precision"]:
    rates = [row["flops"] / row[kind] / 1e9 for kind in ("float32", "bfloat16")]
    print(row["shape"], *(f"{rate:6.0f} GFLOP/s" for rate in rates))
    assert rates[1] > 1.4 * rates[0]
one = entries["bfloat16"]
assert one["measured"] < 1 and one["after"]["calls"] > one["before"]["calls"]
assert 1e-3 < one["gradient_difference"] < 1e-2
assert all(entry["gradient_difference"] < 2e-6 for entry in exact.values())
assert 0.4 < shares["library"]["mm"] < 0.65

# %% [markdown] lang="en"
# ## ⋆ Two cores: two threads or two processes
# Two cores can share each operation (threads), or share the batch (processes that average their gradients). An operation of ten microseconds is hardly worth a meeting: threads spend much of their time waiting for each other, spinning. Processes meet once a step, over half a megabyte of gradient; predicted gain: 2. Pairs a wall second on two cores, three rounds in turn:

# %% [markdown] lang="zh"
# ## ⋆ 两个核：两个线程，还是两个进程
# 两个核可以分担每一个运算（线程），也可以分担批次（进程，各算各的，再把梯度平均）。一个运算只有十来微秒，不值得碰一次头：线程有许多时间耗在互相空转等待上。进程一步只碰一次头，交换半 MB 的梯度；预测增益是 2。两个核上每秒（实际时间）处理多少对，轮流三次：

# %%
workers, speed = recorded["workers"], {}
for when, runs in workers.items():
    for name in ("one", "threads", "processes"):
        speed[when, name] = np.median([run["pairs_per_second"] for run in runs[name]])
        print(f"{when:5}{name:10}{speed[when, name]:6.0f} pairs/s")
alone = speed["idle", "one"]
assert 1 < speed["idle", "threads"] / alone < 1.5
assert max(1.3 * alone, speed["idle", "threads"]) < speed["idle", "processes"]
assert all(run["cpu"] > 1.8 for run in workers["idle"]["threads"])
assert speed["busy", "threads"] < speed["busy", "one"] / 3
assert speed["busy", "processes"] > 0.6 * speed["busy", "one"]

# %% [markdown] lang="en"
# Two threads keep both cores busy all the time and gain less than a half; two processes gain more. They stay below 2: a step waits for the slower of them, and both cores share a cache and a memory (we have not measured which counts more). Beside a busy program (`busy`) two threads fall below a third of what one thread does: the one that waits, spinning, takes the core from the other that works. Processes merely slow down. `use_threads` therefore looks for idle cores first, and `torchrun` comes in chapter 14.

# %% [markdown] lang="zh"
# 两个线程让两个核一直满载，却快不到一半；两个进程快得更多。它们也到不了 2：一步要等慢的那个，两个核又共用缓存和内存（哪个影响更大，我们没有量过）。旁边要是还有别的程序在忙（`busy`），两个线程连一个线程的三分之一都做不到：空等的占着核，干活的反而上不去。进程只是慢一些。所以 `use_threads` 会先看有几个核空着；`torchrun` 见第 14 章。

# %% [markdown] lang="en"
# > **What the toy hides.** A GPU's overhead is of the same size, some microseconds a call, and its peak is ten thousand times ours: the ridge of the roof lies at 295 FLOPs a byte for an H100, not at 1. So what is a product-bound model here is memory-bound there, unless width and batch are in the thousands. A model of 7B does not fit beside its gradients and moments on one card, so the tricks that count there are of memory: sharding, checkpointing, chunked heads, fused attention over thousands of tokens. Between machines the network is a fourth number. And long chats have prompts ten times as long as answers, or the other way round; the count tells which trick is yours.

# %% [markdown] lang="zh"
# > **玩具没告诉你的。** GPU 的启动开销也差不多，一次调用几微秒，峰值却是我们的一万倍：H100 屋顶的拐点在每字节 295 次运算，不是 1。所以在这里卡在乘积上的模型，到那里会卡在内存上，除非宽度和批次都上千。7B 的模型，加上梯度和矩，一张卡放不下，那里要紧的办法都是省内存：分片、检查点重算、输出头分块、几千个词元的融合注意力。机器之间，网络是第四个数。长对话的提示有时比回答长十倍，有时反过来；该用哪个办法，数一数就知道。

# %%
h100 = cost.GPUS["h100"].flops / 3.35e12  # its memory moves 3.35 TB a second
assert round(h100) == 295 and 0.5 < machine["peak"] / machine["bandwidth"] < 2
assert 5e3 < cost.GPUS["h100"].flops / machine["peak"] < 3e4

# %% [markdown] lang="en"
# > **To remember.** Count operations, bytes and calls; three numbers of the machine turn them into a prediction; then measure, and hold loss and gradient equal. The largest gains are work not done. Where the prediction fails there is something to learn. For a model of billions one number is left, the utilisation, and for DPO it is nearer 0.2 than 0.4.

# %% [markdown] lang="zh"
# > **记住。** 数运算、字节和调用；用机器的三个数把它们变成预测；再去测量，并保证损失和梯度不变。最大的增益，来自没有干的活。预测落空的地方，总有东西可学。到了几十亿参数，只剩一个数，利用率；对 DPO 来说，它离 0.2 更近，离 0.4 更远。

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
def predicted_gain(n, machine):
    ...


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
assert 1e-5 < abs(all_tricks - plain_loss) < 0.1

# %% [markdown] lang="en"
# ### Exercise 13.2 · One of these tricks is wrong
# ★★☆ · 15 minutes
#
# A colleague has written `hasty_loss(model, pairs, tricks)`: the DPO loss of some pairs, where `tricks` is any set of names from `HASTY`. With none the loss is right; with all of them it is off, and training would still run. One of the tricks alone is guilty. Find it, and by how much it moves the loss, without looking into `checks`. Give a tuple: (name, loss with it minus loss without), to three digits.
#
# <details><summary>Hint</summary>
#
# Switch them on one at a time. Rounding moves a float32 loss by some 1e-7, and an error by more. Use `gen` and `pairs` of this chapter, all 64.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 13.2 · 有一个办法是错的
# ★★☆ · 15 分钟
#
# 同事写了一个 `hasty_loss(model, pairs, tricks)`：算若干偏好对的 DPO 损失，`tricks` 是 `HASTY` 里任意几个名字的集合。一个都不开，损失是对的；全开就不对了，训练却照样跑得起来。出错的只有一个。不看 `checks` 里的代码，把它找出来，并说出它让损失变了多少。写成元组：（名字，开它时的损失减去不开时的损失），后一个准确到三位有效数字。
#
# <details><summary>提示</summary>
#
# 一次只开一个。float32 的损失，舍入只会变动 1e-7 左右，错误就不止了。用本章的 `gen` 和 `pairs`，64 对全用上。
#
# </details>

# %% tags=["exercise"]
answer_13_2 = ...  # (name, difference)
check("13.2", answer_13_2)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# `sorted` is guilty: it puts the rows in order of length and leaves the reference's log-probabilities where they were, so that each pair is held against another pair's reference. All shapes fit. The loss rises by 0.08, and training would bring it down again. Chapter 8's test catches it as well: a policy that still equals its reference must have the loss $\ln 2$.
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
# 出错的是 `sorted`：它把各行按长度排了序，参考策略的对数概率却留在原处，于是每一对对照的，都是别的对的参考值。形状样样对得上；损失高了 0.08，训练一跑，照样往下降。第 8 章的检验也能抓住它：策略还等于参考策略的时候，损失必须是 $\ln 2$。
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
# 要用 DPO 训练 Llama 3 8B：120,000 个偏好对，两轮；提示 400 个词元，回答 500 个，每个 GPU 一次算四对。参考策略的对数概率存好，什么都不重算，全部分片（`zero3`），精度 `bf16-mixed`。GPU 是 H100，显存的 0.9 归你用，利用率 0.2。至少要几个 GPU？用这么多，要几小时？写成元组。
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
# Six GPUs, and five and a half hours. With one pair at a time three would hold it: twice as many are there for the activations of three more pairs. Checkpointing would be the cheaper way.
#
# ```python
# plan = cost.Plan("dpo", 120_000, 2, prompt=400, chosen=500, rejected=500, reference="stored", micro_batch=4)
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
# 六个 GPU，五个半小时。一次只算一对，三个就装得下：多出来的一倍，只为多放三对的激活值。用检查点重算更省钱。
#
# ```python
# plan = cost.Plan("dpo", 120_000, 2, prompt=400, chosen=500, rejected=500, reference="stored", micro_batch=4)
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
# $n$ tokens of width $D$ times a $D\times D$ matrix, everything in 2 bytes, each tensor read or written once. An H100 computes 989.4 TFLOP/s and moves 3.35 TB/s. From which width on does computing take longer than moving, for 4,096 tokens? And what if there is only one token, as in sampling one answer at a time? Give a tuple: the least whole $D$, and for one token the share of the peak that is reached at $D=4096$ (leave the overhead aside).
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
# $n$ 个宽 $D$ 的词元，乘一个 $D\times D$ 的矩阵，都用 2 字节，每个张量只读或只写一遍。H100 每秒算 989.4 TFLOP，搬 3.35 TB。4,096 个词元时，从多宽开始，算比搬慢？要是只有一个词元，就像一次只采样一个回答那样呢？写成元组：最小的整数 $D$；以及一个词元、$D=4096$ 时，能达到峰值的几成（不计启动开销）。
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
# With $R=P/W=295.3$ the condition $nD/(2n+D)\ge R$ gives $D\ge 2nR/(n-R)$, 637 here: below it the tensor cores wait for memory however many tokens there are (twice $R$ is the least for endless ones). One token reaches 0.34 % of the peak: the matrix is read for a single row. That is why sampling is done in batches.
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
# 记 $R=P/W=295.3$，条件 $nD/(2n+D)\ge R$ 给出 $D\ge 2nR/(n-R)$，这里是 637：比它窄，词元再多，张量核心也要等内存（词元无穷多时，下限是 $R$ 的两倍）。只有一个词元，只到峰值的 0.34%：整个矩阵读一遍，只为一行。所以采样要成批地做。
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
# - [Rajbhandari et al. 2020](https://arxiv.org/abs/1910.02054): ZeRO, figure 1. [Hu et al. 2021](https://arxiv.org/abs/2106.09685): LoRA, section 4.2.
# - [Touvron et al. 2023, Llama 2](https://arxiv.org/abs/2307.09288): Llama 2; hours in its model card. [Zhang et al. 2024](https://arxiv.org/abs/2401.02385): TinyLlama; hours and utilisation in its README. [Liang et al. 2024](https://arxiv.org/abs/2410.06511): torchtitan; its repository's benchmarks.
# - [Lambert et al. 2024](https://arxiv.org/abs/2411.15124): Tülu 3, with the hours of its DPO.

# %% [markdown] lang="zh"
# ## 参考文献
# - [Williams et al. 2009](https://doi.org/10.1145/1498765.1498785)：屋顶线。
# - [Dao et al. 2022](https://arxiv.org/abs/2205.14135)：FlashAttention，会数字节的注意力。
# - [Ansel et al. 2024](https://doi.org/10.1145/3620665.3640366)：`torch.compile`。
# - [Wijmans et al. 2024](https://arxiv.org/abs/2411.09009)：从不写出 logits 的交叉熵。
# - [Kaplan et al. 2020](https://arxiv.org/abs/2001.08361)：2.1 节，每个参数每个词元六次运算。[Chowdhery et al. 2022](https://arxiv.org/abs/2204.02311)：附录 B，模型 FLOPs 利用率。
# - [Rajbhandari et al. 2020](https://arxiv.org/abs/1910.02054)：ZeRO，图 1。[Hu et al. 2021](https://arxiv.org/abs/2106.09685)：LoRA，4.2 节。
# - [Touvron et al. 2023, Llama 2](https://arxiv.org/abs/2307.09288)：Llama 2，小时数在模型卡里。[Zhang et al. 2024](https://arxiv.org/abs/2401.02385)：TinyLlama，小时数和利用率在它的 README 里。[Liang et al. 2024](https://arxiv.org/abs/2410.06511)：torchtitan，数据在仓库的基准测试里。
# - [Lambert et al. 2024](https://arxiv.org/abs/2411.15124)：Tülu 3，附有 DPO 用的小时数。
