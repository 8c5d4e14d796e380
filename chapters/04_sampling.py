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
# # 4 Sampling and judging

# %% [markdown] lang="zh"
# # 4 采样与评判

# %% [markdown] lang="en"
# > **In this chapter.** You will be able to turn logits into answers in four ways, to write `generate` with its KV cache, to judge an answer without running it, to put an honest interval around a share, to measure in nats how far apart two samplers are, and to estimate pass@k without bias. You need [chapter 2](02_llama.ipynb) (the model) and [chapter 3](03_sft.ipynb) (its data, entropy), and you should know what a standard deviation is. 36 minutes to read, and 12 more for the sections marked ⋆; 25 seconds to run.
#
# A model gives a probability to every text. A probability is not yet an answer, and an answer is not yet a good one. This chapter draws answers from `gen`, the model of chapter 3, and judges them. Then it asks the question that this small world allows: the rates of the authors are known, so has the model learnt them?

# %% [markdown] lang="zh"
# > **本章。** 读完后，你能用四种办法把 logits 变成回答；写出带 KV 缓存的 `generate`；不执行回答就判定对错；给一个比例配上靠得住的区间；用奈特量出两个采样器相距多远；无偏地估计 pass@k。需要先读[第 2 章](02_llama.ipynb)（模型）和[第 3 章](03_sft.ipynb)（数据与熵），并知道什么是标准差。阅读 36 分钟，带 ⋆ 的几节另需 12 分钟；运行 25 秒。
#
# 模型给每段文本一个概率。有了概率，还没有回答；有了回答，也不等于答得好。这一章先从第 3 章的模型 `gen` 里抽出回答，再来评判。然后问一个只有在小世界里才问得出的问题：作者的各种比率都是已知的，模型学到了吗？

# %%
import ast
import math
import re
from collections import Counter
from fractions import Fraction
from itertools import product

import numpy as np
import torch
from checks import check

from dpo_core import BookTask, CharTokenizer, KVCache, generate, judge
from dpo_core import load_pretrained, score, sequence_logps, use_threads
from dpo_core.commands.parser import main
from dpo_core.evaluation import evaluate, excess_nats, mean_interval, shares, wilson
from dpo_core.plotting import COLORS, arrow, box, diagram, figure, picture, points
from dpo_core.sampling import draw, next_token_probs
from dpo_core.task import EXPRESSION_GRAMMAR, evaluate_expression, stream
from dpo_core.training import default_device

# %%
use_threads()
device = default_device()
torch.set_grad_enabled(False)  # nothing is trained in this chapter
gen = load_pretrained("gen").to(device)
task, tokenizer = BookTask(), CharTokenizer()

# %% [markdown] lang="en"
# ## From logits to a token
# After reading a text, the model returns logits: one real number $\ell_i$ for each token $i$ of the vocabulary. Softmax turns them into probabilities $p_i$. **Decoding** is choosing the next token from them. A **temperature** $\tau$, a number above 0, divides the logits first:
#
# $$p_i(\tau)=\frac{e^{\ell_i/\tau}}{\sum_j e^{\ell_j/\tau}}=\frac{p_i^{1/\tau}}{\sum_j p_j^{1/\tau}}.$$
#
# The second form says what it does: every probability is raised to the power $1/\tau$, then all are divided by their sum. With $\tau$ below 1 the large ones gain; above 1 the differences shrink. As $\tau$ falls to 0, all mass moves to the largest logit. That limit is **greedy decoding**; in the code it is `temperature=0`.
#
# Two more settings cut off the tail. **Top-k** keeps the $k$ most probable tokens ([Fan et al. 2018](https://arxiv.org/abs/1805.04833)). **Top-p** goes down from the most probable token and stops as soon as the mass kept reaches a threshold ([Holtzman et al. 2020](https://arxiv.org/abs/1904.09751)): many tokens stay where the model is undecided, few where it is sure. In both cases what is kept is divided by its sum.
#
# > **Before you run it.** Four tokens have the probabilities 0.4, 0.3, 0.2 and 0.1. What becomes of them at $\tau=1/2$, with top-k at $k=2$, with top-p at 0.8?
#
# <details><summary>Answer</summary>
#
# At $\tau=1/2$ they are squared, 0.16, 0.09, 0.04, 0.01, and divided by the sum, 0.30. Top-k keeps 0.4 and 0.3, with sum 0.7. Top-p: one token has 0.4, two have 0.7, three have 0.9; three stay.
#
# </details>

# %% [markdown] lang="zh"
# ## 从 logits 到词元
# 读完一段文本，模型给出 logits：词表里每个词元 $i$ 对应一个实数 $\ell_i$。softmax 把它们变成概率 $p_i$。按这些概率选出下一个词元，叫**解码**（decoding）。**温度**（temperature）$\tau$ 是大于 0 的数；在 softmax 之前，先把各个 logits 都除以 $\tau$：
#
# $$p_i(\tau)=\frac{e^{\ell_i/\tau}}{\sum_j e^{\ell_j/\tau}}=\frac{p_i^{1/\tau}}{\sum_j p_j^{1/\tau}}$$
#
# 看第二个式子就明白它在做什么：每个概率都取 $1/\tau$ 次方，再除以总和。$\tau$ 小于 1，大的更大；大于 1，差距缩小。$\tau$ 降到 0 时，概率全部归到最大的 logit 上，这个极限叫**贪心解码**（greedy decoding），代码里写作 `temperature=0`。
#
# 另外两种设置用来切掉尾巴。**top-k** 只留概率最大的 $k$ 个词元（[Fan et al. 2018](https://arxiv.org/abs/1805.04833)）。**top-p** 从概率最大的词元数起，留下的概率一达到门槛就停（[Holtzman et al. 2020](https://arxiv.org/abs/1904.09751)）：模型拿不定主意时留得多，有把握时留得少。两种办法最后都要除以留下部分的总和。
#
# > **先猜一猜。** 四个词元的概率是 0.4、0.3、0.2、0.1。$\tau=1/2$ 时变成多少？top-k 取 $k=2$ 呢？top-p 的门槛取 0.8 呢？
#
# <details><summary>答案</summary>
#
# $\tau=1/2$ 就是取平方：0.16、0.09、0.04、0.01，再除以总和 0.30。top-k 留下 0.4 和 0.3，总和 0.7。top-p：一个词元有 0.4，两个有 0.7，三个有 0.9，所以留三个。
#
# </details>


# %%
def probabilities(logits, temperature=1.0, top_k=None, top_p=1.0):
    """What the next token is drawn from; logits and result are (V,)."""
    if temperature == 0:
        return (logits == logits.max()).to(logits.dtype)
    p = (logits / temperature).softmax(-1)
    ordered, order = p.sort(descending=True)
    before = ordered.cumsum(-1) - ordered  # the mass of all that are more probable
    keep = (before < top_p) & (torch.arange(len(p)) < (top_k or len(p)))
    kept = torch.zeros_like(p).scatter(-1, order, ordered * keep)
    return kept / kept.sum()


# %%
four = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
by_hand = [
    ({"temperature": 1.0}, [0.4, 0.3, 0.2, 0.1]),
    ({"temperature": 0.5}, [16 / 30, 9 / 30, 4 / 30, 1 / 30]),
    ({"temperature": 0.0}, [1.0, 0.0, 0.0, 0.0]),
    ({"top_k": 2}, [4 / 7, 3 / 7, 0.0, 0.0]),
    ({"top_p": 0.8}, [4 / 9, 3 / 9, 2 / 9, 0.0]),
]
for setting, expected in by_hand:
    found = probabilities(four.log(), **setting)
    print(f"{setting!s:20}", "  ".join(f"{p:.3f}" for p in found.tolist()))
    assert torch.allclose(found, torch.tensor(expected, dtype=torch.float64))
    assert torch.allclose(found, next_token_probs(four.log()[None], **setting)[0])

# %% tags=["proof"] checked_en="Checked on fifty random rows of logits, with all settings at once: our function and the library's agree." checked_zh="在五十行随机的 logits 上验证，几种设置同时开启：我们的函数与程序库的结果相同。"
some_logits = 3 * torch.randn(50, 22, generator=torch.Generator().manual_seed(0))
for temperature, top_k, top_p in product(
    (0, 0.7, 1, 2), (None, 3, 22), (0.5, 0.9, 1.0)
):
    settings = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    mine = torch.stack([probabilities(row, **settings) for row in some_logits])
    assert torch.allclose(mine, next_token_probs(some_logits, **settings), atol=1e-6)

# %% [markdown] lang="en"
# ## From a random number to a token
# To draw from such a distribution, lay the probabilities end to end on the line from 0 to 1. The first token owns the stretch from 0 to 0.4, the second from there to 0.7, the third to 0.9, the fourth to 1. Draw a number $u$ between 0 and 1, all equally likely, and take the token on whose stretch it falls. For example, $u=0.55$ gives the second. A stretch is hit as often as it is long. The method is called **inverse-CDF sampling**: the first token whose cumulative probability exceeds $u$.
#
# Now all chance is in $u$. Whoever keeps the $u$ can repeat the draw.

# %% [markdown] lang="zh"
# ## 从随机数到词元
# 怎样按概率抽？把各个概率首尾相接，铺在 0 到 1 的线段上。第一个词元占 0 到 0.4，第二个接着到 0.7，第三个到 0.9，第四个到 1。在 0 到 1 之间均匀地取一个数 $u$，落在谁的一段上，就抽中谁；比如 $u=0.55$，抽中第二个。一段有多长，被抽中的机会就有多大。这叫**逆 CDF 采样**（inverse-CDF sampling；CDF 是累积分布函数）：从头累加概率，总和第一次超过 $u$ 时，就是轮到的那个词元。
#
# 这样一来，运气全在 $u$ 里。留着 $u$，就能把同一次抽签再来一遍。


# %%
def pick(p, u):
    """The first token whose cumulative probability exceeds u."""
    return int((p.cumsum(-1) <= u).sum())


assert pick(four, 0.55) == 1  # ids count from 0
evenly = (torch.arange(1000) + 0.5) / 1000  # one number in each thousandth of the line
picked = Counter(pick(four, u) for u in evenly)
print([picked[token] for token in range(4)])
assert [picked[token] for token in range(4)] == [400, 300, 200, 100]
assert draw(four.expand(1000, -1), evenly).tolist() == [pick(four, u) for u in evenly]

# %% [markdown] lang="en"
# ## The loop, and what it wastes
# An answer is drawn token by token: read what there is, draw, append, until `E` is drawn.

# %% [markdown] lang="zh"
# ## 生成循环，以及它的浪费
# 回答是一个词元一个词元抽出来的：读一遍已有的文本，抽一个，接在后面，直到抽中 `E`。


# %%
def generate_slowly(prompt, uniform):
    """One answer; the whole text is read again for every new token."""
    ids = tokenizer.encode(prompt)
    start = len(ids)
    for u in uniform:
        logits = gen(torch.tensor([ids], device=device))[0, -1]  # (V,)
        ids.append(pick(probabilities(logits.cpu().double()), u))
        if ids[-1] == tokenizer.eos_id:
            break
    return tokenizer.decode(ids[start:])


def chances(count, longest=32, seed=0):
    """A row of random numbers for each answer, as the library draws them."""
    return torch.rand((count, longest), generator=torch.Generator().manual_seed(seed))


slow = [generate_slowly("S54=", u) for u in chances(3)]
print(slow)
assert slow == generate(gen, ["S54="] * 3, seed=0)

# %% [markdown] lang="en"
# Our loop sends the whole text through the model for every new token. But attention is causal (chapter 2): no position sees what stands after it, so the keys and values of earlier positions come out the same every time. A **KV cache** keeps them, one key and one value for each layer and position. Then only the new token goes through the layers, and its query meets the stored keys.
#
# Count work in *token-positions*: one token going through the layers once. With a prompt of $m$ tokens and an answer of $a$ tokens, the loop without a cache does $W_{\mathrm{all}}$ of them, the loop with one does $W_{\mathrm{cache}}$:
#
# $$W_{\mathrm{all}}=a\,m+\frac{a(a-1)}{2},\qquad W_{\mathrm{cache}}=m+a-1\tag{4.2}.$$
#
# For `S54=` and `27+27E` we have $m=4$, $a=6$: 39 against 9. (The last token, `E`, is drawn but never read.)
#
# > **Before you run it.** An answer of 40 tokens to the same prompt: how many token-positions without a cache, how many with one?
#
# <details><summary>Answer</summary>
#
# $40\cdot 4+40\cdot 39/2=940$ without, $4+39=43$ with one.
#
# </details>

# %% [markdown] lang="zh"
# 我们的循环每抽一个词元，都要把整段文本再送进模型一次。可注意力是因果的（第 2 章）：任何位置都看不到自己后面，所以前面各位置的键和值，每次算出来都一样。**KV 缓存**（KV cache）把它们存下来，每层每个位置各存一个键、一个值。这样，只有新词元要走一遍各层，再拿它的查询去和存下的键相比。
#
# 工作量按*词元位置*（token-position）数：一个词元走一遍各层，算一个。提示有 $m$ 个词元，回答有 $a$ 个词元，不用缓存的循环要做 $W_{\mathrm{all}}$ 个，用缓存的做 $W_{\mathrm{cache}}$ 个：
#
# $$W_{\mathrm{all}}=a\,m+\frac{a(a-1)}{2},\qquad W_{\mathrm{cache}}=m+a-1\tag{4.2}$$
#
# `S54=` 配 `27+27E`，$m=4$，$a=6$：39 比 9。（最后一个词元 `E` 抽出来就完事了，不必再读。）
#
# > **先猜一猜。** 同一个提示，回答长 40 个词元。不用缓存要处理多少词元位置？用缓存呢？
#
# <details><summary>答案</summary>
#
# 不用是 $40\cdot 4+40\cdot 39/2=940$，用是 $4+39=43$。
#
# </details>

# %%
calls = []  # the size of the input at each call of the model


def token_positions(run):
    """How many token-positions `run` sends through the model."""
    calls.clear()
    note = lambda module, inputs: calls.append(inputs[0].numel())  # noqa: E731
    with gen.register_forward_pre_hook(note):
        run()
    return sum(calls)


def read_step_by_step(length, cache):
    """Send 4 tokens, then one more at a time; `length` new tokens are predicted."""
    ids = torch.full((1, 4 + length), tokenizer.encode("7")[0], device=device)
    for end in range(4, 4 + length):
        if cache is None:
            gen(ids[:, :end])
        else:
            gen(ids[:, cache.length : end], cache=cache)


# %%
for u, answer in zip(chances(3), slow):
    m, a = 4, len(answer)
    counted = token_positions(lambda: generate_slowly("S54=", u))
    assert counted == a * m + a * (a - 1) // 2
assert 6 * 4 + 6 * 5 // 2 == 39 and 4 + 6 - 1 == 9
lengths = [1, 5, 10, 20, 30, 40]
works = {
    name: [token_positions(lambda: read_step_by_step(a, cache())) for a in lengths]
    for name, cache in (("without", lambda: None), ("with", KVCache))
}
print(works)
assert works["without"] == [4 * a + a * (a - 1) // 2 for a in lengths]
assert works["with"] == [4 + a - 1 for a in lengths]
assert works["without"][-1] == 40 * 4 + 40 * 39 / 2 == 940 and works["with"][-1] == 43


# %% tags=["figure"] alt_en="Token-positions against the length of the answer, from 1 to 40 tokens. The curve without a cache bends upwards to 940. The line with a cache rises to 43 and looks flat beside it. Counted points lie on both curves." alt_zh="横轴是回答的长度，从 1 到 40 个词元；纵轴是词元位置数。不用缓存的曲线越升越陡，到 940；用缓存的直线只升到 43，相比之下几乎是平的。数出来的点都落在线上。"
@picture
def work_of_an_answer(say):
    _, axes = figure(height=3.2)
    a = np.arange(1, 41)
    axes.plot(a, 4 * a + a * (a - 1) / 2, color=COLORS["theory"])
    axes.plot(a, 4 + a - 1, color=COLORS["theory"])
    axes.plot(lengths, works["without"], "^", color=COLORS["baseline"])
    axes.plot(lengths, works["with"], "o", color=COLORS["ref"])
    axes.text(
        29,
        610,
        say("without a cache", "不用缓存"),
        color=COLORS["baseline"],
        ha="right",
    )
    axes.text(40, 80, say("with a cache", "用缓存"), color=COLORS["ref"], ha="right")
    axes.set(
        xlabel=say("tokens of the answer", "回答的词元数"),
        ylabel=say("token-positions", "词元位置数"),
    )


# %% [markdown] lang="en"
# **Figure 4.1.** Token-positions for an answer after a prompt of 4 tokens. Without a cache the work grows with the square of the answer's length, with one along a straight line: 940 against 43 at 40 tokens. Points are counted, lines are equation 4.2.

# %% [markdown] lang="zh"
# **图 4.1** 提示长 4 个词元时，一个回答要处理多少词元位置。不用缓存，工作量随回答长度的平方增长；用缓存，只沿直线增长：40 个词元时是 940 比 43。点是数出来的，线由式 4.2 算出。

# %% [markdown] lang="en"
# The cache must not change the result. It does not: the logits at every position agree. What the cache costs is memory, and a new token still compares its query with every stored key.

# %% [markdown] lang="zh"
# 缓存不该改变结果，也确实没有改变：每个位置的 logits 都对得上。代价是内存；而且新词元的查询仍要和存下的每个键比一遍。

# %%
ids = torch.tensor([tokenizer.encode("S54=27+27E")], device=device)  # (1, 10)
cache = KVCache()
parts = [gen(ids[:, :4], cache=cache)]
parts += [gen(ids[:, t : t + 1], cache=cache) for t in range(4, 10)]
cached, uncached = torch.cat(parts, dim=1), gen(ids)  # (1, 10, V) each
print(f"largest difference {(cached - uncached).abs().max():.0e}")
assert (cached - uncached).abs().max() < 1e-4

# %% [markdown] lang="en"
# ## Many prompts at once
# A processor handles many rows at once better than one after the other. Prompts differ in length, a batch is a rectangle, so short rows are padded. In training the padding stood on the right. Here it stands on the left: the next token is appended at the right end of every row, and there it must follow the prompt's last token, not a `P`. The attention mask hides the padding, and positions count real tokens only. So each row gets the logits that it would get alone.
#
# This is `generate`, whole: pad on the left, read the prompts into the cache, then draw one token for each row and read just these, until all rows have their `E`.

# %% [markdown] lang="zh"
# ## 一次处理许多提示
# 处理器同时算许多行，比一行一行算划算。提示有长有短，批次却是个矩形，短的要填充。训练时填在右边，这里要填在左边：下一个词元总接在每行最右端，它前面应该是提示的最后一个词元，而不是 `P`。注意力掩码把填充遮住，位置只数真正的词元。于是每一行得到的 logits，和它单独一行时一样。
#
# 完整的 `generate` 就是下面这些：在左边填充，把提示读进缓存；然后每行抽一个词元，只读这一个；直到各行都写出 `E`。


# %%
def generate_here(model, prompts, temperature=1.0, longest=32, seed=0):
    """One answer to each prompt."""
    rows = [tokenizer.encode(prompt) for prompt in prompts]
    ids, mask = (x.to(device) for x in tokenizer.pad(rows, side="left"))  # (N, T)
    cache, written = KVCache(), []
    for u in chances(len(prompts), longest, seed).to(device).T:  # (N,) numbers
        logits = model(ids, mask, cache)[:, -1]  # (N, V): what follows the last token
        token = draw(next_token_probs(logits, temperature), u)  # (N,)
        written.append(token)
        ids = token[:, None]  # the cache has all the rest
        mask = torch.cat((mask, mask.new_ones(len(rows), 1)), dim=1)
        if (torch.stack(written) == tokenizer.eos_id).any(0).all():
            break
    return tokenizer.decode_all(torch.stack(written, dim=1))  # each up to its E


print(generate_here(gen, ["S7=", "S54=", "S-12="]))
some_prompts, _ = task.demonstrations(200, stream("chapter 4", 3))
for temperature in (0, 1):
    library = generate(gen, some_prompts, temperature=temperature, seed=7)
    assert generate_here(gen, some_prompts, temperature, seed=7) == library

# %% tags=["proof"] checked_en="Checked: beside longer prompts, padded on the left, each prompt gets the logits that it gets alone." checked_zh="已验证：同更长的提示放在一起、左边填充之后，每个提示得到的 logits 和单独去问时一样。"
three = ["S7=", "S54=", "S-12="]
rows, row_mask = tokenizer.pad(
    [tokenizer.encode(prompt) for prompt in three], side="left"
)
together = gen(rows.to(device), row_mask.to(device))[:, -1]  # (3, V)
singly = [torch.tensor([tokenizer.encode(prompt)], device=device) for prompt in three]
assert (together - torch.cat([gen(row)[:, -1] for row in singly])).abs().max() < 1e-4

# %% [markdown] lang="en"
# ## ⋆ What the library's generate saves besides
# Often one wants many answers to one prompt. The library's `generate` reads each distinct prompt of a batch once and copies its cache to all rows that begin with it. A row that has written its `E` is left out of the batch soon after: once three in ten are done, the others go on without them. And every row owns its random numbers: they depend on the seed, the row and the longest length allowed, not on the batch. So the same seed gives the same answers, whatever the batch size.

# %% [markdown] lang="zh"
# ## ⋆ 程序库的 generate 还省在哪里
# 同一个提示常常要抽许多回答。一个批次里，程序库的 `generate` 对每个不同的提示只读一次，再把缓存复制给所有以它开头的行。写出 `E` 的行不久就退出批次：每当十行里有三行写完，剩下的就单独往下写。每一行还有自己的随机数，只取决于种子、行号和允许的最大长度，与批次无关。所以种子相同，回答就相同，批次多大都一样。

# %%
many, _ = task.demonstrations(1000, stream("chapter 4", 0))
token_positions(lambda: generate(gen, many, seed=1))
prompts_read, sizes = calls[0], calls[1:]
each_its_own = 1000 * max(map(len, many))
print(len(many), len(set(many)), prompts_read, each_its_own)
assert prompts_read == len(set(many)) * max(map(len, many))
assert sizes[0] == 1000 and sizes[-1] < 300  # who is done drops out
assert sizes == sorted(sizes, reverse=True)
thousand = generate(gen, many, seed=1)
assert thousand == generate(gen, many, seed=1, batch_size=300)
assert thousand[:10] == generate(gen, many[:10], seed=1, batch_size=1)

# %% [markdown] lang="en"
# The four numbers: prompts, distinct prompts, token-positions spent on them, token-positions if each row read its own. One caution. With another batch size sums are rounded in another order, and the logits move in their last digits. A draw changes if its $u$ lies that close to the end of a stretch. Among these 1,000 answers none did.

# %% [markdown] lang="zh"
# 四个数依次是：提示数、不同的提示数、读它们用去的词元位置数，以及每行各读各的所需的词元位置数。有一点要当心：批次大小一变，求和时舍入的次序就变，logits 的最后几位会动。要是某个 $u$ 恰好离一段的端点那么近，抽签结果就会变。这 1,000 个回答里一次也没有。

# %% [markdown] lang="en"
# ## A judge that only reads
# Is `60-2*3` a right answer to `S54=`? The checker decides three things about an answer: whether it is an expression, how many numbers it has, and whether its exact value is the target. What an expression is stands in a written grammar, so that two people who disagree can look it up. A bar means or, braces mean any number of times, brackets mean at most once.

# %% [markdown] lang="zh"
# ## 只读不执行的裁判
# `60-2*3` 算不算 `S54=` 的正确回答？判分程序要判定三件事：它是不是表达式，含几个数，精确的值是否等于目标。什么叫表达式，由一份写明的文法规定，两个人意见不合，翻文法就是。竖线表示或者，花括号表示重复任意次，方括号表示至多一次。

# %%
print(EXPRESSION_GRAMMAR)

# %% [markdown] lang="en"
# The checker holds the text against the grammar, then walks through it once with a list of terms. `+` and `-` append a term; `*` and `/` change the last one. Nothing more is needed for precedence: `60-2*3` gives the list 60, then 60 and -2, then 60 and -6, and the sum is 54. Numbers are exact fractions, so nothing is rounded. The text is read and never executed (⋆ the next section says why).

# %% [markdown] lang="zh"
# 判分程序先拿文本去对文法，再从头到尾走一遍，手里拿一张项的清单。遇到 `+`、`-`，添一项；遇到 `*`、`/`，改最后一项。先乘除后加减，这样就够了：`60-2*3` 的清单先是 60，再是 60 和 -2，再是 60 和 -6，加起来是 54。所有的数都是精确的分数，没有舍入。文本只读，从不执行（为什么，见带 ⋆ 的下一节）。

# %%
NUMBER = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?"


def value_of(text):
    """The exact value of an expression; None if it is none, or divides by zero."""
    if not re.fullmatch(rf"{NUMBER}(?:[-+*/]{NUMBER})*", text):
        return None
    terms, operator = [], "+"
    for number, following in re.findall(rf"({NUMBER})([-+*/]?)", text):
        number = Fraction(number)
        if operator == "/" and number == 0:
            return None
        if operator in "+-":
            terms.append(number if operator == "+" else -number)
        else:
            terms[-1] *= number if operator == "*" else 1 / number
        operator = following
    return sum(terms)


print(value_of("60-2*3"), value_of("1/3*3"), value_of("0.1+0.2"), value_of("6/0"))
assert value_of("60-2*3") == 54 and value_of("0.1+0.2") == Fraction(3, 10)

# %%
cases = [  # prompt, completion, then well formed, how many numbers, exact
    ("S54=", "60-2*3E", True, 3, True), ("S54=", "27+37E", True, 2, False),
    ("S-12=", "-5-7E", True, 2, True), ("S54=", "50--4E", True, 2, True),
    ("S54=", "027+27E", False, 0, False), ("S54=", "27+27", False, 0, False),
    ("S54=", "27+27EE", False, 0, False), ("S54=", "E", False, 0, False),
    ("S1=", "1/3*3E", True, 3, True), ("S54=", "54/0E", True, 2, False),
    ("S54=", "54.0E", True, 1, True), ("S54=", "27+-+27E", False, 0, False),
]  # fmt: skip
print("prompt  answer     well formed  numbers  value  exact")
for prompt, completion, *expected in cases:
    v = judge(prompt, completion)
    print(f"{prompt:7} {completion:10} {v.well_formed!s:12} {v.numbers:<8}", end=" ")
    print(f"{v.value!s:6} {v.exact}")
    assert [v.well_formed, v.numbers, v.exact] == expected
    if v.well_formed:
        assert value_of(completion[:-1]) == v.value

# %% tags=["proof"] checked_en="Checked on 2,000 texts of the authors and on 2,000 strings of random characters: our walk and the library's agree." checked_zh="在作者的 2,000 段文本和 2,000 串随机字符上验证：我们的走法与程序库的结果相同。"
rng = stream("chapter 4", 4)
_, of_authors = task.demonstrations(2000, rng)
noise = ["".join(rng.choice(list("0123+-*/."), 5)) for _ in range(2000)]
for text in [completion[:-1] for completion in of_authors] + noise:
    try:
        expected = evaluate_expression(text)[1]
    except ValueError:
        expected = None
    assert value_of(text) == expected

# %% [markdown] lang="en"
# ## ⋆ Why nothing is executed
# Python's `eval` would compute the value in one line. It is never called in this book, because an answer is text from outside and `eval` executes it. A model whose vocabulary has letters can write `__import__('os')` and whatever follows. Ours has four letters and needs none of them to write `9**9**9`, a number of 369,693,100 digits; the program would do nothing else until it has them.
#
# `eval` also accepts texts that are no expressions here, such as `1_0+44`, and it computes in floating point, where 0.1 + 0.2 is not 0.3. The cell parses such texts without executing them: Python would take each, the checker takes none.

# %% [markdown] lang="zh"
# ## ⋆ 为什么什么也不执行
# Python 的 `eval` 一行就能算出值，但本书从不调用它：回答是外来的文本，而 `eval` 会执行它。词表里有字母的模型写得出 `__import__('os')`，后面接什么都行。我们的词表只有四个字母，可写 `9**9**9` 一个也用不着。这个数有 369,693,100 位，算完之前，程序别的什么也做不了。
#
# `eval` 还会接受这里不算表达式的写法，比如 `1_0+44`；它用浮点数计算，那里 0.1 + 0.2 不等于 0.3。下面只解析、不执行这几段文本：Python 都认，判分程序都不认。

# %%
for text in ("__import__('os').getcwd()", "9**9**9", "1_0+44", "+54", "54//1"):
    ast.parse(
        text, mode="eval"
    )  # a syntax tree, executed by nobody; raises if Python refuses
    assert not judge("S54=", text + "E").well_formed
assert set("9**9**9") | set("1_0+44") <= set(tokenizer.vocabulary)
assert math.floor(9**9 * math.log10(9)) + 1 == 369_693_100
assert 0.1 + 0.2 != 0.3 and judge("S0.3=", "0.1+0.2E").exact

# %% [markdown] lang="en"
# ## A share is a random number
# A model is asked 50 times and is right 38 times. Is it right 76 % of the time? Ask again, and the count is another. The next cell asks the population itself, which is right with probability 0.75, eight times 50 answers.

# %% [markdown] lang="zh"
# ## 比例是随机数
# 问模型 50 次，对了 38 次，能说它的正确率是 76% 吗？再问一轮，数目又不同。下面去问作者群体本身，它答对的概率就是 0.75；问八轮，每轮 50 个回答。

# %%
assert 38 / 50 == 0.76
repeats = stream("chapter 4", 1).binomial(50, 1 - task.slip, size=8) / 50
print(repeats)
assert repeats.max() - repeats.min() >= 0.1

# %% [markdown] lang="en"
# Let $p$ be the true share, $n$ the number of independent draws, and $\hat p$ the share of successes among them, the estimate. Its standard deviation is $\sqrt{p(1-p)/n}$. A **95 % confidence interval** is a recipe that makes two bounds out of the data such that, over many repetitions, they enclose $p$ in 95 % of the cases. The promise is about the recipe, not about the one interval in hand.
#
# The *normal interval* puts the estimate into the standard deviation: $\hat p\pm z\sqrt{\hat p(1-\hat p)/n}$, with $z=1.96$.
#
# > **Before you run it.** What does it say after 0 successes in 20 draws?
#
# <details><summary>Answer</summary>
#
# It runs from 0 to 0: certain that the true share is 0, after 20 draws.
#
# </details>
#
# [Wilson 1927](https://doi.org/10.1080/01621459.1927.10502953) asks the other way round: which $p$ could have produced this estimate? He keeps every $p$ from which the estimate lies at most $z$ of *that* $p$'s standard deviations away:
#
# $$(\hat p-p)^2\le z^2\,\frac{p(1-p)}{n}\tag{4.3}.$$
#
# For 0 in 20, with $z^2=3.84$: $p^2\le 0.192\,p(1-p)$. Divide by $p$ and collect: $p\le 0.192/1.192=0.161$. In general the bounds are the two roots of a quadratic equation, which the function solves.

# %% [markdown] lang="zh"
# 设真实的比例是 $p$；独立抽 $n$ 次，其中成功的比例 $\hat p$ 就是估计值，它的标准差是 $\sqrt{p(1-p)/n}$。所谓 **95% 置信区间**（confidence interval），是由数据算出上下界的一种做法：反复抽样，其中 95% 的次数能把 $p$ 包住。它担保的是做法，不是手上这一个区间。
#
# *正态区间*把估计值代进标准差：$\hat p\pm z\sqrt{\hat p(1-\hat p)/n}$，$z=1.96$。
#
# > **先猜一猜。** 抽 20 次，成功 0 次，它怎么说？
#
# <details><summary>答案</summary>
#
# 区间从 0 到 0：才抽 20 次，就断定真值是 0。
#
# </details>
#
# [Wilson 1927](https://doi.org/10.1080/01621459.1927.10502953) 换了个问法：哪些 $p$ 抽得出这样的估计值？估计值离 $p$ 不超过 $z$ 个标准差的，都留下，而标准差用*这个* $p$ 来算：
#
# $$(\hat p-p)^2\le z^2\,\frac{p(1-p)}{n}\tag{4.3}$$
#
# 20 次成功 0 次，$z^2=3.84$：$p^2\le 0.192\,p(1-p)$。两边除以 $p$，移项，得 $p\le 0.192/1.192=0.161$。一般情形下，上下界是一个二次方程的两个根，函数解的就是它。

# %%
Z = 1.96


def normal_interval(successes, n):
    estimate = successes / n
    half = Z * math.sqrt(estimate * (1 - estimate) / n)
    return estimate - half, estimate + half


def wilson_interval(successes, n):
    """The two roots p of (estimate - p)² = z² p (1 - p) / n."""
    estimate, extra = successes / n, Z**2 / n
    middle = estimate + extra / 2
    half = math.sqrt(extra * estimate * (1 - estimate) + extra**2 / 4)
    return (middle - half) / (1 + extra), (middle + half) / (1 + extra)


# %%
print("          normal           Wilson")
for successes in (0, 15, 20):
    both = normal_interval(successes, 20), wilson_interval(successes, 20)
    print(f"{successes:2} of 20 ", *(f"[{low:.3f}, {high:.3f}] " for low, high in both))
    library = wilson(successes, 20)
    assert np.allclose(both[1], (library.low, library.high), atol=1e-4)
assert f"{wilson_interval(0, 20)[1]:.3f}" == "0.161" and normal_interval(0, 20) == (
    0,
    0,
)

# %% [markdown] lang="en"
# Which recipe keeps its promise? Fix $p$, draw 20,000 samples of $n=50$, and count how often the interval encloses $p$. This share is the **coverage**. As the number of successes has only 51 possible values, it can also be computed exactly: add the binomial probabilities of those whose interval encloses $p$.

# %% [markdown] lang="zh"
# 哪种做法说话算数？定下 $p$，抽 20,000 组样本，每组 $n=50$，数一数区间有多少次包住了 $p$。这个比例叫**覆盖率**（coverage）。成功次数只有 51 种可能，所以覆盖率也能精确算出：区间包得住 $p$ 的那些次数，把它们的二项概率加起来。

# %%
bounds = {
    name: np.array([interval(count, 50) for count in range(51)])
    for name, interval in (("normal", normal_interval), ("Wilson", wilson_interval))
}  # (51, 2) each: low and high for every count


def enclosed(name, p, count):
    """Whether p lies inside the interval of so many successes."""
    return (bounds[name][count, 0] <= p) & (p <= bounds[name][count, 1])


tried = np.array([0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99])
fine, count = np.linspace(0.5, 0.99, 491)[:, None], np.arange(51)
ways = np.array([math.comb(50, i) for i in count])
binomial = ways * fine**count * (1 - fine) ** (50 - count)  # (491, 51)
samples = stream("chapter 4", 2).binomial(50, tried[:, None], size=(12, 20_000))
simulated, computed = {}, {}
for name in bounds:
    simulated[name] = enclosed(name, tried[:, None], samples).mean(1)  # (12,)
    computed[name] = (binomial * enclosed(name, fine, count)).sum(1)  # (491,)
    exactly = np.interp(tried, fine[:, 0], computed[name])
    assert np.abs(exactly - simulated[name]).max() < 0.02

# %%
at = {share: place for place, share in enumerate(tried.tolist())}
for name, found in simulated.items():
    print(f"{name:7} at 0.75: {found[at[0.75]]:.2f}   at 0.98: {found[at[0.98]]:.2f}")
assert abs(simulated["Wilson"][at[0.75]] - 0.95) < 0.01
assert abs(simulated["Wilson"][at[0.98]] - 0.92) < 0.01
assert abs(simulated["normal"][at[0.98]] - 0.64) < 0.015
assert computed["Wilson"].min() > 0.89 and computed["Wilson"].mean() > 0.945


# %% tags=["figure"] alt_en="Coverage of the two intervals for samples of 50 against the true share, from 0.5 to 0.99. Wilson's interval stays between 0.89 and 0.99 with saw teeth around the promised 0.95. The normal interval falls steeply beyond 0.9, to 0.64 at 0.98. Simulated points lie on the exact lines." alt_zh="样本量为 50 时两种区间的覆盖率，横轴是真实比例，从 0.5 到 0.99。Wilson 区间在 0.89 到 0.99 之间，绕着说好的 0.95 呈锯齿状。正态区间过了 0.9 急剧下跌，0.98 处只有 0.64。模拟的点落在精确的线上。"
@picture
def who_keeps_the_promise(say):
    _, axes = figure(height=3.6)
    for name, mark, color in (("normal", "^", "baseline"), ("Wilson", "o", "ref")):
        axes.plot(fine[:, 0], computed[name], color=COLORS["theory"], linewidth=1)
        axes.plot(tried, simulated[name], mark, color=COLORS[color])
    axes.axhline(0.95, color=COLORS["theory"], linewidth=1, linestyle=":")
    axes.text(0.5, 0.975, say("promised: 0.95", "说好的：0.95"), color=COLORS["theory"])
    word = say("normal interval", "正态区间")
    axes.text(0.955, 0.65, word, color=COLORS["baseline"], ha="right")
    word = say("Wilson's interval", "Wilson 区间")
    axes.text(0.86, 0.985, word, color=COLORS["ref"], ha="right")
    axes.set(
        xlabel=say("true share", "真实的比例"),
        ylabel=say("coverage", "覆盖率"),
        ylim=(0.35, 1.03),
    )


# %% [markdown] lang="en"
# **Figure 4.2.** How often a 95 % interval from 50 draws encloses the true share. The normal interval (triangles) misses in more than a third of the samples at a share of 0.98; there its coverage is 0.64. Wilson's (circles) has 0.92 there and 0.95 at 0.75. Points are simulated, lines exact; the teeth come from the count being a whole number.

# %% [markdown] lang="zh"
# **图 4.2** 抽 50 次得到的 95% 区间，有多少次包住真实的比例。比例为 0.98 时，正态区间（三角）有三分之一以上的样本包不住，覆盖率只有 0.64；Wilson 区间（圆点）在那里是 0.92，在 0.75 处是 0.95。点是模拟，线是精确值；锯齿来自次数只能取整数。

# %% [markdown] lang="en"
# A good model is right almost always, and there the normal interval fails. [Brown et al. 2001](https://doi.org/10.1214/ss/1009213286) study many recipes and recommend Wilson's or Jeffreys' for small $n$; where this book counts successes among a model's answers, it uses Wilson's. With 2,000 answers at $p=0.75$ it reaches about 0.019 to each side. Half of that takes four times as many answers.

# %% [markdown] lang="zh"
# 好模型几乎总是答对，正态区间偏偏在那里失灵。[Brown et al. 2001](https://doi.org/10.1214/ss/1009213286) 比较了许多做法，$n$ 较小时推荐 Wilson 区间或 Jeffreys 区间。凡是数一个模型的回答里成功几次，本书配的都是 Wilson 区间。$p=0.75$ 时抽 2,000 个回答，区间向两边各伸出约 0.019；想减半，回答就要多到四倍。

# %%
for n, half_width in ((2000, 0.019), (8000, 0.0095)):
    low, high = wilson_interval(3 * n // 4, n)
    assert abs((high - low) / 2 - half_width) < 1e-4
assert wilson(1000, 1000).low < 0.997  # for exercise 4.3

# %% [markdown] lang="en"
# ## The model against its authors
# Now the model. Draw 2,000 prompts from the population, one answer to each at temperature 1, judge them, count.

# %% [markdown] lang="zh"
# ## 模型与它的作者
# 轮到模型了。从作者群体里抽 2,000 个提示，每个在温度 1 下抽一个回答，逐个评判，再统计。

# %%
rng = stream("evaluate", 4)
prompts, _ = task.demonstrations(2000, rng)
answers = generate(gen, prompts, seed=int(rng.integers(2**31)))
report = shares([judge(*pair) for pair in zip(prompts, answers)])
known = {"well_formed": 1, "exact": 1 - task.slip, "style": task.style}
known |= {"two_number_exact": 1 - task.slip, "three_number_exact": 1 - task.slip}
print(f"{'':18} authors  model")
for name, rate in known.items():
    print(f"{name:18} {rate:7.2f}  {report[name]}")
    assert abs(report[name].value - rate) < 0.04
    assert report[name].low - 0.02 < rate < report[name].high + 0.02
assert report == evaluate(
    gen, task, n=2000, seed=4
)  # the library's evaluate is these lines
excess = excess_nats(gen, task, seed=4)
print(f"{'excess_nats':18} {0:7.2f}  {excess}")
assert -0.03 < excess.value < 0.06

# %% [markdown] lang="en"
# `style` is the share of three-number answers. Every rate of the authors lies inside the model's interval or within 0.02 of it, for short and long answers separately too. The last line is the loss on fresh texts minus the entropy floor of chapter 3: what is left to learn, in nats an answer.
#
# Note what the model is not: it is not right all the time. It was asked to imitate people who slip, and it slips as often as they do. We call a model **faithful to its data** when the shares of its answers at temperature 1 are those of the population that wrote the data. (*Calibrated*, a word of the field, is another thing: of all that is predicted with probability $p$, a share $p$ comes true.)
#
# An average can hide errors that cancel, so ask prompt by prompt. In the middle of the range, authors write three numbers in about three answers of ten. Towards the ends two numbers reach a target in fewer and fewer ways, so the share rises; above 98 and below -49 they do not reach it at all, and the share is 1. `class_rates` holds the authors' share for every prompt.

# %% [markdown] lang="zh"
# `style` 是三个数的回答所占的比例。作者的每项比率都在模型的区间里，或离区间不到 0.02；长短回答分开看，也是如此。最后一行是新文本上的损失减去第 3 章的熵下界，即每个回答还剩多少奈特没学到。
#
# 请注意，模型并不是每次都对。它学的是一群会失误的人，于是失误得和他们一样多。如果一个模型在温度 1 下回答的各种比例，正是写数据的那群人的比例，就说它**忠于数据**（faithful to its data）。（通行的术语「校准」，calibrated，说的是另一回事：凡是以概率 $p$ 预测的事，其中恰有 $p$ 这么大的比例成真。）
#
# 平均数会让此高彼低的误差互相抵消，所以要一个提示一个提示地问。目标在中间，作者的回答十个里大约有三个写三个数。越靠两端，用两个数凑出目标的办法越少，三个数的比例就升高；大于 98 或小于 -49，两个数根本够不着，比例就是 1。每个提示的作者比例，都存在 `class_rates` 里。

# %%
names = list(task.prompt_distribution)  # 166 prompts, in order of target
style_share = dict(zip(names, task.class_rates[:, 1].sum(1)))
assert all(abs(style_share[f"S{t}="] - 0.3) < 0.012 for t in range(-40, 91))
assert style_share["S99="] == style_share["S-50="] == 1

asked = names[::3]  # every third target
replies = generate(gen, [prompt for prompt in asked for _ in range(320)], seed=4)
judged = {
    prompt: [judge(prompt, reply) for reply in replies[320 * i : 320 * (i + 1)]]
    for i, prompt in enumerate(asked)
}
measured = {p: wilson(sum(v.style for v in judged[p]), 320) for p in asked}
missing = [
    p for p in asked if not measured[p].low <= style_share[p] <= measured[p].high
]
print(f"{len(asked)} intervals, {len(missing)} without the authors' share:", *missing)
usual = [p for p in asked if -50 < int(p[1:-1]) < 98]
assert max(abs(measured[p].value - style_share[p]) for p in usual) < 0.15
assert sum(p in usual for p in missing) <= 5

# %%
long = [p for p in names if len(p) == len("S100=") and p[1] != "-"]  # three digits
rare = sum(task.prompt_distribution[p] for p in long)
texts_read = 9000 * 128  # steps, texts of a step
right = np.mean([v.exact for p in asked if p in long for v in judged[p]])
print(f"{rare:.5f} of the texts: {rare * texts_read:.0f}; exact {right:.2f}")
assert texts_read == 1_152_000 and abs(rare * texts_read - 400) < 50
assert 0.05 < right < 0.15 and abs(rare - 0.00036) < 1e-6


# %% tags=["figure"] alt_en="Share of three-number answers against the target, from -58 to 107. The line of the authors is 1 below -49, falls to 0.3, stays there, and rises to 1 above 98. The model's points follow it, but lie below it at the outermost targets, far below at the last three, above 100." alt_zh="三个数的回答占比随目标的变化，目标从 -58 到 107。作者群体的线在 -49 以下为 1，随后降到 0.3 并保持平直，98 以上升到 1。模型的点沿着线走，只是到最边上的目标偏低，最右边三个超过 100 的目标低得多。"
@picture
def style_by_target(say):
    _, axes = figure(height=3.6)
    target = [int(prompt[1:-1]) for prompt in names]
    axes.plot(target, list(style_share.values()), color=COLORS["theory"])
    points(axes, target[::3], [measured[prompt] for prompt in asked], "ref")
    axes.text(-38, 0.9, say("the authors", "作者群体"), color=COLORS["theory"])
    axes.text(-20, 0.45, say("the model", "模型"), color=COLORS["ref"])
    axes.set(
        xlabel=say("target", "目标"),
        ylabel=say("share of three numbers", "三个数的占比"),
        ylim=(0, 1.05),
    )


# %% [markdown] lang="en"
# **Figure 4.3.** Share of three-number answers by target. Line: the authors. Points: the model, 320 answers to each of 56 prompts, with 95 % intervals. The model has learnt not only a rate but where it changes. It goes astray where it has seen little: targets of three digits are 0.036 % of the texts, some 400 of the 1,152,000 that it was trained on. There only about one answer in ten is exact.

# %% [markdown] lang="zh"
# **图 4.3** 各目标上三个数的回答占比。线是作者群体；点是模型，56 个提示各 320 个回答，附 95% 区间。模型学到的不只是一个比率，还有比率在哪里变。见得少的地方它就走样：三位数的目标只占文本的 0.036%，训练用的 1,152,000 段里约有 400 段；在那里，十个回答大约只有一个正确。

# %% [markdown] lang="en"
# <!-- lab: ask -->
#
# ## ⋆ One point of the line, by hand
# Where does the authors' line come from? Take the target 98. With two numbers up to 49 there is one way to mean it, $49+49$, among 5,000 choices of two numbers and a sign. With a third number up to 9 there are 56 ways among 100,000: for $c=0,\dots,9$ added, $c+1$ pairs have the sum $98-c$, which makes 55, and $49+49-0$ is one more. By Bayes' rule the share of three numbers, $s(98)$, is
#
# $$s(98)=\frac{0.3\cdot\frac{56}{100000}}{0.3\cdot\frac{56}{100000}+0.7\cdot\frac{1}{5000}}=0.545.$$

# %% [markdown] lang="zh"
# <!-- lab: ask -->
#
# ## ⋆ 手算线上的一点
# 作者的那条线是怎么来的？看目标 98。两个数最大是 49，能想到的只有 $49+49$ 一种，而两个数加一个符号共有 5,000 种选法。添上不超过 9 的第三个数，就有 56 种，出自 100,000 种选法：加上 $c=0,\dots,9$ 时，和为 $98-c$ 的两个数有 $c+1$ 种，共 55 种；再算上 $49+49-0$。由贝叶斯公式，三个数的占比 $s(98)$ 是
#
# $$s(98)=\frac{0.3\cdot\frac{56}{100000}}{0.3\cdot\frac{56}{100000}+0.7\cdot\frac{1}{5000}}=0.545$$

# %%
by_bayes = 0.3 * 56e-5 / (0.3 * 56e-5 + 0.7 / 5000)
print(f"{style_share['S98=']:.3f}")
assert round(style_share["S98="], 3) == round(by_bayes, 3) == 0.545

# %% [markdown] lang="en"
# ## What greedy decoding shows
# The same weights, decoded greedily.
#
# > **Before you run it.** At temperature 1 the model slips in a quarter of its answers and writes three numbers in three of ten. What are these shares when it takes the most probable token every time?
#
# <details><summary>Answer</summary>
#
# Both nearly vanish. The slip and the third number are minorities at the tokens that decide about them.
#
# </details>

# %% [markdown] lang="zh"
# ## 贪心解码照出什么
# 同样的权重，换成贪心解码。
#
# > **先猜一猜。** 温度 1 时，模型的回答里四分之一有失误，十分之三写三个数。如果每次都取最可能的词元，这两个比例变成多少？
#
# <details><summary>答案</summary>
#
# 两样几乎都没有了。决定失误与否、写不写第三个数的那个词元上，它们都是少数。
#
# </details>

# %%
greedy_answers = generate(gen, prompts, temperature=0)
greedy = shares([judge(*pair) for pair in zip(prompts, greedy_answers)])
print("exact", greedy["exact"])
print("style", greedy["style"])
assert greedy["exact"].value > 0.99 and greedy["style"].value < 0.02

# %% [markdown] lang="en"
# Now it is right nearly always and writes almost no third number. Where have the slips and the three-number authors gone? An answer is a path through a tree: at each fork the next token is chosen. Here are the forks behind `S54=27+`, with the authors' shares and the model's.

# %% [markdown] lang="zh"
# 几乎全对了，第三个数也几乎不写了。失误和写三个数的作者哪里去了？一个回答，就是在一棵树上走一条路：每到一个岔口，选下一个词元。`S54=27+` 之后有几个岔口，下面是作者在那里的比例，以及模型的。


# %%
def next_of_population(prompt, written):
    """What the authors write next, as {character: probability}."""
    mass = Counter()
    for (x, y), logp in task.log_conditional.items():
        if x == prompt and y.startswith(written):
            mass[y[len(written)]] += math.exp(logp)
    return {character: each / mass.total() for character, each in mass.items()}


def next_of_model(text, temperature=1.0):
    ids = torch.tensor([tokenizer.encode(text)], device=device)
    return next_token_probs(gen(ids)[:, -1].cpu(), temperature)[0]  # (V,)


FORKS = {"27+": "23", "27+2": "7", "27+3": "7", "27+27": "E"}
authors = {written: next_of_population("S54=", written) for written in FORKS}
print("after  next  authors  model")
for written, shown in FORKS.items():
    model = next_of_model("S54=" + written)
    for token in shown:
        ours, theirs = authors[written][token], float(model[tokenizer.encode(token)[0]])
        print(f"{written:6} {token:5} {ours:7.2f} {theirs:6.2f}")
        assert abs(ours - theirs) < 0.1
    largest = max(authors[written], key=authors[written].get)
    assert largest == shown[0] == tokenizer.decode([int(model.argmax())])


# %%
CHILDREN = {
    "27+": ("27+2", "27+3"),
    "27+2": ("27+27", "27+2…"),
    "27+3": ("27+37", "27+3…"),
    "27+27": ("27+27E", "27+27±…"),
}
edges = {}
for written, children in CHILDREN.items():
    split = [authors[written][child[-1]] for child in children if child[-1] != "…"]
    for child, share in zip(children, [*split, 1 - sum(split)]):
        edges[written, child] = share


# %% tags=["figure"] alt_en="A tree of answers to S54= from 27+ on. First fork: 2 with 0.66, 3 with 0.29. After 2: 7 with 0.83, another digit with 0.17. After 3: 7 with 0.62, another digit with 0.38. After 27+27: E with 0.96, a third number with 0.04. The path 2, 7, E is drawn in blue: greedy decoding takes the largest branch each time. The other ends are a slip and a third number." alt_zh="S54= 的回答从 27+ 起的树。第一个岔口：2 有 0.66，3 有 0.29。2 之后：7 有 0.83，别的数字 0.17。3 之后：7 有 0.62，别的数字 0.38。27+27 之后：E 有 0.96，第三个数 0.04。2、7、E 这条路画成蓝色：贪心解码每次都走最大的一支。其余的尽头是失误和第三个数。"
@picture
def tree_of_answers(say):
    _, axes = diagram(width=6.8, height=3.5)
    third = say("third number", "第三个数")
    places = {
        "27+": (0.6, 1.75, ""), "27+2": (2.2, 2.7, ""), "27+3": (2.2, 0.9, ""),
        "27+27": (3.9, 2.7, ""), "27+2…": (3.9, 1.85, third),
        "27+37": (3.9, 1.0, say("slip", "失误")), "27+3…": (3.9, 0.2, third),
        "27+27E": (5.9, 2.7, say("exact", "正确")), "27+27±…": (5.9, 1.85, third),
    }  # fmt: skip
    nodes = {}
    for written, (x, y, word) in places.items():
        color = COLORS["policy" if written in "27+27E" else "ref"]
        nodes[written] = box(axes, x, y, written, color=color)
        axes.text(x, y + 0.32, word, color=color, ha="center", fontsize=9.5)
    for (written, child), share in edges.items():
        color = COLORS["policy" if child in "27+27E" else "ref"]
        arrow(axes, nodes[written], nodes[child], f"{share:.2f}", color=color)


# %% [markdown] lang="en"
# **Figure 4.4.** The answers to `S54=` that begin with `27+`, and the authors' share of each branch (what is missing at the first fork begins with 1 or 4). Blue: greedy decoding, which takes the largest branch at every fork and so ends at an exact answer of two numbers.

# %% [markdown] lang="zh"
# **图 4.4** `S54=` 的回答中以 `27+` 开头的那些，以及各分支在作者那里的比例（第一个岔口没有画出的，以 1 或 4 开头）。蓝色是贪心解码：每个岔口都走最大的一支，于是走到一个正确的两数回答。

# %% [markdown] lang="en"
# At the first fork the slip is in the minority. At the second the other style is: of the authors who have come so far every fifth writes a third number (0.20), and all digits but `7` together have 0.17, none of them above 0.03.
#
# So **sampling at temperature 1 shows the population; greedy decoding shows what is in the majority, fork by fork.** The slips that the model has learnt are a minority at their forks, and do not show. A sentence such as “the model is right in 75 % of cases” says little without the temperature.

# %% [markdown] lang="zh"
# 第一个岔口上，失误是少数。第二个岔口上，另一种风格是少数：写到这里的作者，有五分之一要写第三个数（0.20）；`7` 以外的数字加起来只有 0.17，没有一个超过 0.03。
#
# 所以，**温度 1 的采样照出整个群体，贪心解码照出每个岔口上的多数。** 模型学来的失误，在自己的岔口上是少数，所以看不到。不说明温度，「模型有 75% 答对」这种话没有多少内容。

# %%
fork = authors["27+2"]
assert sum(share < 0.03 for share in fork.values()) == 9
assert abs(1 - fork["7"] - 0.17) < 0.005
at_fork = Counter()
for (x, y), logp in task.log_conditional.items():
    if x == "S54=" and y.startswith("27+2"):
        at_fork[judge(x, y).style] += math.exp(logp)
assert abs(at_fork[True] / at_fork.total() - 0.2) < 1e-6

# %% [markdown] lang="en"
# ## ⋆ Is the greedy answer the most probable one?
# It need not be. Let the first token be `A` with probability 0.6 or `B` with 0.4; after `A` two endings are equally likely, after `B` there is only one. Greedy decoding writes `A` and ends with a text of probability 0.3. The most probable text begins with `B` and has 0.4. **Beam search** looks further: it keeps the $k$ most probable beginnings at every step, and here $k=2$ finds `B`.
#
# In our world the question has an exact answer. For the authors we add up the 210,000 texts. For the network we search: no text is more probable than its beginning, so it is enough to go on with those beginnings that are more probable than the whole greedy answer.

# %% [markdown] lang="zh"
# ## ⋆ 贪心解码写出的，是概率最大的回答吗？
# 不一定。设第一个词元是 `A`，概率 0.6，或者是 `B`，概率 0.4；`A` 后面有两种结尾，机会均等，`B` 后面只有一种。贪心解码写 `A`，最后得到的文本，概率是 0.3；概率最大的文本以 `B` 开头，有 0.4。**束搜索**（beam search）看得远一些：每一步都留下概率最大的 $k$ 个开头；这里 $k=2$ 就能找到 `B`。
#
# 在我们的世界里，这个问题有精确的答案。作者群体的 210,000 段文本，加一加就行。网络则要搜索：一段文本的概率，不会大于它的开头，所以只需接着写那些比整个贪心回答还要可能的开头。

# %%
tree = {"": {"A": 0.6, "B": 0.4}, "A": {"x": 0.5, "y": 0.5}, "B": {"z": 1.0}}


def beam(width):
    """The best text of two tokens that a beam of this width finds."""
    kept = {"": 1.0}
    for _ in range(2):
        longer = {
            text + token: share * probability
            for text, share in kept.items()
            for token, probability in tree[text].items()
        }
        kept = dict(sorted(longer.items(), key=lambda item: -item[1])[:width])
    return next(iter(kept.items()))


print(beam(1), beam(2))
assert beam(1) == ("Ax", 0.3) and beam(2) == ("Bz", 0.4)  # width 1 is greedy decoding

# %%
mass, branch = Counter(), {}  # of every beginning; the largest branch behind it
for (x, y), logp in task.log_conditional.items():
    for end in range(len(y) + 1):
        mass[x, y[:end]] += math.exp(logp)
for (x, text), share in mass.items():
    if text and share > mass[x, branch.get((x, text[:-1]), "none")]:
        branch[x, text[:-1]] = text
likeliest = Counter()
for (x, _), logp in task.log_conditional.items():
    likeliest[x] = max(likeliest[x], math.exp(logp))
on_top = 0
for prompt in names:
    text = ""
    while not text.endswith("E"):
        text = branch[prompt, text]
    on_top += math.isclose(mass[prompt, text], likeliest[prompt])
print("authors: greedy is a most probable answer at", on_top, "of", len(names))
assert len(names) == 166 and on_top == 166


# %%
def most_probable(prompts, greedy):
    """{prompt: (log-probability, answer)}: the model's likeliest answers, exactly."""
    best = dict(zip(prompts, zip(score(gen, prompts, greedy).tolist(), greedy)))
    beginnings = [(prompt, "", 0.0) for prompt in prompts]
    while beginnings:
        rows = [tokenizer.encode(prompt + text) for prompt, text, _ in beginnings]
        parts = [x.to(device).split(1024) for x in tokenizer.pad(rows, side="left")]
        logits = torch.cat([gen(*part)[:, -1] for part in zip(*parts)]).cpu()
        longer = []
        for (prompt, text, so_far), row in zip(beginnings, logits.log_softmax(-1)):
            totals = so_far + row
            for token in (totals > best[prompt][0] + 1e-4).nonzero()[:, 0].tolist():
                found = prompt, text + tokenizer.decode([token]), totals[token].item()
                if token != tokenizer.eos_id:
                    longer.append(found)
                elif found[2] > best[prompt][0]:
                    best[prompt] = found[2], found[1]
        beginnings = longer
    return best


# %%
of_model = generate(gen, names, temperature=0)
best = most_probable(names, of_model)
same = sum(best[prompt][1] == answer for prompt, answer in zip(names, of_model))
greedy_logps = score(gen, names, of_model).tolist()
ratios = [math.exp(best[x][0] - logp) for x, logp in zip(names, greedy_logps)]
short = [x for x in names if x not in long]
top = [math.isclose(mass[x, best[x][1]], likeliest[x]) for x in short]
exact_share = np.mean([judge(x, best[x][1]).exact for x in short])
print(f"network: greedy is the most probable answer at {same} of {len(names)}")
print(f"ratio of the two {np.median(ratios):.2f}, exact {exact_share:.2f}")
assert same < len(names) / 2 and 1 < np.median(ratios) < 1.2 and exact_share > 0.99
assert np.mean(top) > 0.9  # the network's likeliest is one of the authors' likeliest

# %% [markdown] lang="en"
# For the authors greedy decoding ends at a most probable answer at all 166 prompts (many answers tie). For the network it does so at fewer than half of them. It misses by little: at the typical prompt the most probable answer is less than 1.2 times as probable as the greedy one. Nor would a search for it show anything else: at targets of one or two digits more than 99 % of these answers are right as well, and more than 90 % of them are among those that tie for first place with the authors.

# %% [markdown] lang="zh"
# 作者群体按贪心解码，在全部 166 个提示上，写出的都是概率最大的回答（许多回答并列最大）。网络却不到一半。不过差得很少：在典型的提示上，概率最大的回答，概率不到贪心回答的 1.2 倍。真去搜索，看到的也不会有什么不同：只要目标不是三位数，这样的回答也有 99% 以上是对的，90% 以上就是作者那里并列第一的那些。

# %% [markdown] lang="en"
# ## How far apart are two samplers
# Temperature 0.7 and temperature 1 make two samplers out of one model. How different are they? From chapter 6 on, the answer limits how far training may move a model. The measure is the KL divergence ([Kullback & Leibler 1951](https://doi.org/10.1214/aoms/1177729694)). For two distributions $P$ and $Q$ over the same outcomes $y$
#
# $$\mathrm{KL}(P\,\|\,Q)=\sum_y P(y)\log\frac{P(y)}{Q(y)}=\mathbb{E}_{y\sim P}\bigl[\log P(y)-\log Q(y)\bigr].$$
#
# It is 0 when $P=Q$, else above 0. And it has a direction: outcomes are drawn from the first, $P$. Chapter 3 met it with the data as $P$ and the model as $Q$; now both are samplers.
#
# Three outcomes by hand: $P=(0.5,0.25,0.25)$, $Q=(0.8,0.1,0.1)$. Take the two equal outcomes together: $\mathrm{KL}(P\,\|\,Q)=0.5\log\frac{0.5}{0.8}+0.5\log\frac{0.25}{0.1}=-0.235+0.458=0.223$, and $\mathrm{KL}(Q\,\|\,P)=0.8\log\frac{0.8}{0.5}+0.2\log\frac{0.1}{0.25}=0.376-0.183=0.193$. If $Q$ gives 0 to something that $P$ draws, as top-k does, $\mathrm{KL}(P\,\|\,Q)$ is infinite.

# %% [markdown] lang="zh"
# ## 两个采样器相距多远
# 同一个模型，温度 0.7 和温度 1 是两个采样器。它们差多少？从第 6 章起，训练能把模型推开多远，就靠这个差别来限制。量它的是 KL 散度（KL divergence，[Kullback & Leibler 1951](https://doi.org/10.1214/aoms/1177729694)）。设 $P$、$Q$ 是同一批结果 $y$ 上的两个分布，
#
# $$\mathrm{KL}(P\,\|\,Q)=\sum_y P(y)\log\frac{P(y)}{Q(y)}=\mathbb{E}_{y\sim P}\bigl[\log P(y)-\log Q(y)\bigr]$$
#
# $P=Q$ 时为 0，否则大于 0。它有方向：$y$ 从前一个分布 $P$ 里抽。第 3 章见过它，那里 $P$ 是数据，$Q$ 是模型；这里两个都是采样器。
#
# 用三个结果手算：$P=(0.5,0.25,0.25)$，$Q=(0.8,0.1,0.1)$。相同的两项合在一起算：$\mathrm{KL}(P\,\|\,Q)=0.5\log\frac{0.5}{0.8}+0.5\log\frac{0.25}{0.1}=-0.235+0.458=0.223$，而 $\mathrm{KL}(Q\,\|\,P)=0.8\log\frac{0.8}{0.5}+0.2\log\frac{0.1}{0.25}=0.376-0.183=0.193$。如果 $P$ 会抽到的某个结果，$Q$ 给了 0（top-k 就会这样），$\mathrm{KL}(P\,\|\,Q)$ 就是无穷大。


# %%
def kl(p, q):
    """KL(p || q) in nats of two rows of probabilities."""
    drawn = p > 0
    return float((p[drawn] * (p[drawn] / q[drawn]).log()).sum())


P, Q = torch.tensor([0.5, 0.25, 0.25]), torch.tensor([0.8, 0.1, 0.1])
print(f"KL(P || Q) {kl(P, Q):.3f}, KL(Q || P) {kl(Q, P):.3f}")
terms = 0.5 * math.log(0.5 / 0.8), 0.5 * math.log(0.25 / 0.1), kl(P, Q)
assert [round(term, 3) for term in terms] == [-0.235, 0.458, 0.223]
terms = 0.8 * math.log(0.8 / 0.5), 0.2 * math.log(0.1 / 0.25), kl(Q, P)
assert [round(term, 3) for term in terms] == [0.376, -0.183, 0.193]
assert kl(P, P) == 0 and kl(P, probabilities(Q.log(), top_k=1)) == math.inf

# %% [markdown] lang="en"
# A whole answer has too many outcomes for the sum, but the mean needs only draws: draw from $P$ and average $\log P-\log Q$. Try that first on one next token, where the sum has 22 terms and the exact value is at hand. Here $P$ is the first token after `S54=` at temperature 0.7 and $Q$ the same at 1.

# %% [markdown] lang="zh"
# 整个回答的可能太多，没法一一求和；求平均却只要抽样：从 $P$ 里抽，对 $\log P-\log Q$ 求平均。先在一个词元上试，那里求和不过 22 项，精确值算得出来。下面 $P$ 是 `S54=` 之后的第一个词元在温度 0.7 下的分布，$Q$ 是温度 1 下的。

# %%
sharp, plain = next_of_model("S54=", 0.7), next_of_model("S54=", 1.0)
u = torch.rand(5000, generator=torch.Generator().manual_seed(2))
print("              exact  estimate")
for name, (p, q) in {"0.7 || 1": (sharp, plain), "1 || 0.7": (plain, sharp)}.items():
    drawn = draw(p.expand(5000, -1), u)
    estimate = mean_interval(p[drawn].log() - q[drawn].log())
    print(f"KL({name})   {kl(p, q):.3f}  {estimate}")
    assert estimate.low - 0.005 < kl(p, q) < estimate.high + 0.005

# %% [markdown] lang="en"
# Now whole answers. The log-probability of an answer is the sum over its tokens; at temperature $\tau$ every row of logits is divided by $\tau$ first. `score` does this for $\tau=1$. Prompts come from the population, so the result is an average over prompts, in nats an answer.

# %% [markdown] lang="zh"
# 再看整个回答。一个回答的对数概率，是各词元的对数概率之和；温度为 $\tau$ 时，每一行 logits 先除以 $\tau$。`score` 做的是 $\tau=1$ 的情形。提示抽自作者群体，所以结果是对提示的平均，单位是每个回答多少奈特。


# %%
def answer_logps(prompts, completions, temperature):
    """log p(completion | prompt), (N,), every token drawn at this temperature."""
    ids, mask = (x.to(device) for x in tokenizer.collate(prompts, completions))
    return sequence_logps(gen(ids) / temperature, ids, mask).cpu()


of_model_kl = {}
for first, second in ((0.7, 1.0), (1.0, 0.7)):
    drawn = generate(gen, prompts, temperature=first, seed=6)
    logps = [answer_logps(prompts, drawn, each) for each in (first, second)]
    of_model_kl[first, second] = mean_interval(logps[0] - logps[1])
    print(f"KL({first} || {second})  {of_model_kl[first, second]}")
assert torch.allclose(logps[0], score(gen, prompts, drawn), atol=1e-4)
assert all(0.15 < found.value < 0.3 for found in of_model_kl.values())

# %% [markdown] lang="en"
# ## ⋆ Temperatures in between
# How do the shares move between greedy decoding and temperature 1? The authors can be redrawn at any temperature, exactly. The probability of every beginning of an answer is known, hence the distribution of what they write next, and $\tau$ applies to it as to the model's.
#
# `population_at` walks through all 210,000 texts together, one token at a time. To know which texts still share their beginning, it gives each beginning a number: that of the beginning before it, times 22, plus the new token.

# %% [markdown] lang="zh"
# ## ⋆ 介于两者之间的温度
# 从贪心解码到温度 1，比例是怎么变的？作者群体也能换个温度重抽，而且算得精确：回答的每一种开头，概率都已知，于是接下来写什么，分布也已知，$\tau$ 照样用得上。
#
# `population_at` 让全部 210,000 段文本一起往前走，一次一个词元。哪些文本到此为止还是同一个开头，要分得清，所以给每种开头编一个号：前一个开头的号乘 22，再加上新词元。

# %%
table, distribution = task.table, task.prompt_distribution
row_of = {prompt: row for row, prompt in enumerate(distribution)}
prompt_row = np.array([row_of[prompt] for prompt in table.prompts])  # (N,)
mass_of_prompt = np.array(list(distribution.values()))[prompt_row]  # (N,)
encoded = [tokenizer.encode(completion) for completion in table.completions]
columns = tokenizer.pad(encoded)[0].numpy().T  # (8, N)


def population_at(temperature):
    """log p(completion | prompt), (N,), of authors redrawn at this temperature."""
    logp, parent, mass_before = np.zeros(len(prompt_row)), prompt_row, mass_of_prompt
    number = prompt_row
    for column in columns:
        number = number * tokenizer.vocab_size + column  # one for each beginning
        _, first, node = np.unique(number, return_index=True, return_inverse=True)
        mass_now = np.bincount(node, weights=table.probability)[node]
        power = (mass_now / mass_before) ** (1 / temperature)
        fork = np.bincount(parent[first], weights=power[first])[parent]
        logp += np.log(power / fork)
        parent, mass_before = node, mass_now
    return logp


# %%
every_text = zip(table.prompts, table.completions)
assert np.allclose(
    population_at(1), [task.log_conditional[text] for text in every_text]
)
temperatures = np.linspace(0.05, 2, 27)
curve = {"exact": [], "style": []}
for temperature in temperatures:
    weight = mass_of_prompt * np.exp(population_at(temperature))
    curve["exact"].append(weight[table.exact].sum())
    curve["style"].append(weight[table.style].sum())

# %%
settings = [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 2]
sampled, written_at = [], {}
for temperature in settings:
    drawn = generate(gen, prompts[:1500], temperature=temperature, seed=5)
    written_at[temperature] = list(zip(prompts, drawn))
    sampled.append(shares([judge(*pair) for pair in written_at[temperature]]))
for name, line in curve.items():
    for temperature, found in zip(settings[1:6], sampled[1:6]):
        theory = np.interp(temperature, temperatures, line)
        assert abs(theory - found[name].value) < 0.05
exact_by_heat = [found["exact"].value for found in sampled]
assert exact_by_heat == sorted(exact_by_heat, reverse=True)
half = sampled[settings.index(0.5)]  # for exercise 4.6
assert abs(half["exact"].value - 0.85) < 0.03
assert abs(half["style"].value - 0.02) < 0.015


# %% tags=["figure"] alt_en="Two panels against temperature from 0 to 2. Left: the share of exact answers falls from 1.0 at temperature 0 through 0.75 at 1. Right: the share of three-number answers rises from 0 through 0.3 at 1 to above 0.7 at 2. The model's points lie on the authors' lines, except near temperature 2, where they fall below, most of all on the left." alt_zh="两幅图，横轴都是温度，从 0 到 2。左图：答案正确的比例从温度 0 的 1.0 降到温度 1 的 0.75。右图：三个数的回答占比从 0 升起，温度 1 时 0.3，温度 2 时超过 0.7。模型的点落在作者群体的线上，只有温度接近 2 时低于线，左图尤其明显。"
@picture
def from_greedy_to_hot(say):
    _, panels = figure(columns=2, width=7.6, height=3.4)
    labels = say(
        ("share of exact answers", "share of three numbers"), ("正确率", "三个数的占比")
    )
    for axes, name, label in zip(panels, curve, labels):
        axes.plot(temperatures, curve[name], color=COLORS["theory"])
        points(axes, settings, [found[name] for found in sampled], "ref")
        axes.set(xlabel=say("temperature", "温度"), ylabel=label, ylim=(-0.03, 1.03))
    word = say("the authors", "作者群体")
    panels[0].text(2.0, 0.74, word, color=COLORS["theory"], ha="right")
    word = say("the model", "模型")
    panels[0].text(1.9, 0.48, word, color=COLORS["ref"], ha="right")


# %% [markdown] lang="en"
# **Figure 4.5.** Shares against the temperature. Lines: the authors redrawn, computed. Points: the model, 1,500 answers each. Up to 1.25 they agree within 0.05. At 2 the model falls below on the left.

# %% [markdown] lang="zh"
# **图 4.5** 各项比例随温度的变化。线是重抽的作者群体，由计算得出；点是模型，每点 1,500 个回答。到 1.25 为止，两者相差不超过 0.05。到 2 时，左图的模型掉到线下。

# %% [markdown] lang="en"
# Why does it fall below at 2? Temperature lifts every small probability, also the tiny ones that the model gives to texts that no author writes. If that is the reason, such texts must be frequent at 2, and the other answers must lie on the line. Both hold. And the KL of the section before has an exact value for the authors, which the model's estimate meets.

# %% [markdown] lang="zh"
# 到 2 时为什么掉到线下？温度会抬高所有的小概率；有些文本没有哪个作者会写，模型却给它们留了一点点概率，这点概率也跟着抬高。假如原因就在这里，那么到 2 时，这样的文本应该很多，而其余的回答应该还在线上。两条都成立。上一节的 KL，对作者群体也有精确值，模型的估计与它相符。

# %%
stray = {}
for temperature in (1, 2):
    pairs = written_at[temperature]
    others = [judge(*pair).exact for pair in pairs if pair in task.log_conditional]
    stray[temperature] = wilson(len(pairs) - len(others), len(pairs))
    print(f"temperature {temperature}: written by no author {stray[temperature]}")
others = wilson(sum(others), len(others))
print(f"exact at 2 among the others {others}, on the line {curve['exact'][-1]:.3f}")
assert stray[1].value < 0.02 and stray[2].value > 0.15
assert others.low - 0.02 < curve["exact"][-1] < others.high + 0.02
for (first, second), estimate in of_model_kl.items():
    logps = population_at(first), population_at(second)
    kl_of_authors = (mass_of_prompt * np.exp(logps[0])) @ (logps[0] - logps[1])
    print(f"KL({first} || {second})  authors {kl_of_authors:.3f}   model {estimate}")
    assert estimate.low - 0.02 < kl_of_authors < estimate.high + 0.02

# %% [markdown] lang="en"
# ## ⋆ On the command line
# `dpo-core` does what this chapter does. The first command draws answers and judges each; the second prints the table of shares above, from the same prompts and the same seed; `--temperature 0` makes both greedy.
#
# ```bash
# dpo-core generate gen 54 -12 --n 2
# dpo-core evaluate gen --n 2000 --seed 4
# ```

# %% [markdown] lang="zh"
# ## ⋆ 命令行
# 这一章做的事，`dpo-core` 都能做。第一条命令抽回答并逐个评判；第二条用同样的提示、同样的种子，打印上面那张比例表；加上 `--temperature 0`，两条都换成贪心解码。
#
# ```bash
# dpo-core generate gen 54 -12 --n 2
# dpo-core evaluate gen --n 2000 --seed 4
# ```

# %%
assert main(["generate", "gen", "54", "-12", "--n", "2"]) == 0

# %% [markdown] lang="en"
# ## One right answer among k
# Above 100 only one answer in ten was right. Is that a failure? It depends on how often one may ask. **pass@k** is the probability that at least one of $k$ answers to a prompt is right, averaged over prompts ([Chen et al. 2021](https://arxiv.org/abs/2107.03374)). If each answer is right with probability $e$, all $k$ fail with probability $(1-e)^k$. The authors have $e=0.75$ at every prompt: pass@1 is 0.75 and pass@4 is 0.996.
#
# For a model $e$ is not known. Draw $n$ answers, at least $k$ of them, and let $c$ be right. To put $c/n$ in the place of $e$ is too low on average, because $(1-e)^k$ is convex: its mean over the luck of $c$ lies above its value at the mean. Ask instead which share of all choices of $k$ among the $n$ answers contains a right one. That is right on average, whatever $e$ is:
#
# $$\mathrm{pass@}k=1-(1-e)^k,\qquad\mathrm{estimate}=1-\binom{n-c}{k}\Big/\binom{n}{k}.$$
#
# By hand, one right answer among four, and $k=2$: of the six pairs of answers three contain the right one, so the estimate is 1/2. Putting 1/4 in the place of $e$ gives $1-(3/4)^2=0.4375$.

# %% [markdown] lang="zh"
# ## k 个里至少一个正确
# 目标大于 100 时，十个回答里只对一个。算失败吗？要看可以问几次。**pass@k** 是这样一个概率：对一个提示抽 $k$ 个回答，其中至少一个正确；再对提示取平均（[Chen et al. 2021](https://arxiv.org/abs/2107.03374)）。若每个回答正确的概率都是 $e$，$k$ 个全错的概率就是 $(1-e)^k$。作者群体在每个提示上 $e=0.75$：pass@1 是 0.75，pass@4 是 0.996。
#
# 模型的 $e$ 却不知道。抽 $n$ 个回答（不少于 $k$ 个），其中 $c$ 个正确。直接用 $c/n$ 代替 $e$，平均下来偏低，因为 $(1-e)^k$ 是凸函数：$c$ 有大有小，函数值的平均高于平均处的函数值。换个问法：从 $n$ 个里挑 $k$ 个，所有挑法当中，含有正确回答的占多少？不管 $e$ 是多少，这个比例平均起来不偏不倚：
#
# $$\mathrm{pass@}k=1-(1-e)^k,\qquad\mathrm{estimate}=1-\binom{n-c}{k}\Big/\binom{n}{k}$$
#
# 手算：四个回答里对一个，$k=2$。两两一组共六组，含有正确回答的是三组，估计值是 1/2。拿 1/4 代替 $e$，得到的却是 $1-(3/4)^2=0.4375$。


# %%
def pass_at(k, n, c):
    return 1 - math.comb(n - c, k) / math.comb(n, k)


print(pass_at(2, 4, 1), 1 - (3 / 4) ** 2)
assert pass_at(2, 4, 1) == 1 / 2 and 1 - (3 / 4) ** 2 == 0.4375
assert round(1 - 0.25**4, 3) == 0.996

# %% tags=["proof"] checked_en="Checked for twelve answers, every k and five values of e: the estimate is right on average, the one with c/n put in is too low." checked_zh="在十二个回答、每个 k、五个 e 值上验证：这个估计平均起来恰好，代入 c/n 的平均偏低。"
n = 12
for k, e in product(range(1, n + 1), (0.01, 0.1, 0.5, 0.75, 0.99)):
    luck = [math.comb(n, c) * e**c * (1 - e) ** (n - c) for c in range(n + 1)]
    average = sum(share * pass_at(k, n, c) for c, share in enumerate(luck))
    put_in = sum(share * (1 - (1 - c / n) ** k) for c, share in enumerate(luck))
    assert math.isclose(average, 1 - (1 - e) ** k)
    assert k == 1 or put_in < average - 1e-12

# %% [markdown] lang="en"
# > **Before you run it.** `S104=` is answered right about once in ten draws. How likely is it that 64 draws contain a right answer?
#
# <details><summary>Answer</summary>
#
# With $e=0.1$ it is $1-0.9^{64}=0.999$.
#
# </details>

# %% [markdown] lang="zh"
# > **先猜一猜。** `S104=` 大约抽十次对一次。抽 64 次，里面有对的，概率多大？
#
# <details><summary>答案</summary>
#
# 按 $e=0.1$ 算，是 $1-0.9^{64}=0.999$。
#
# </details>

# %%
assert round(1 - 0.9**64, 3) == 0.999
groups = {"middle": usual} | {prompt: [prompt] for prompt in asked if prompt in long}
tries = [1, 2, 4, 8, 16, 32, 64]
passed = {}
for name, group in groups.items():
    right_ones = [sum(v.exact for v in judged[prompt]) for prompt in group]
    passed[name] = [np.mean([pass_at(k, 320, c) for c in right_ones]) for k in tries]
    print(f"{name:7}", *(f"@{k} {share:.2f} " for k, share in zip(tries, passed[name])))
assert list(groups) == ["middle", "S101=", "S104=", "S107="]
assert passed["middle"][tries.index(4)] > 0.99
for prompt in list(groups)[1:]:
    assert passed[prompt][0] < 0.2 and passed[prompt][-1] > 0.9


# %% tags=["figure"] alt_en="The probability of at least one right answer against the number of tries, from 1 to 64. The authors' line and the model's points for the middle targets start at 0.75 and reach 1 by four tries. Three targets above 100 start below 0.2 and climb above 0.9 by 64 tries." alt_zh="至少一个正确的概率随次数的变化，次数从 1 到 64。作者群体的线、模型在中间目标上的点，都从 0.75 出发，四次就到 1。三个大于 100 的目标从 0.2 以下出发，到 64 次升到 0.9 以上。"
@picture
def seldom_is_not_never(say):
    _, axes = figure(height=3.4)
    line = [1 - 0.25**k for k in tries]
    axes.plot(tries, line, color=COLORS["theory"])
    axes.plot(tries, passed["middle"], "o", color=COLORS["ref"])
    style = {"color": COLORS["policy"], "fontsize": 10}
    places = ((5.2, 0.66, "right"), (17.0, 0.785, "left"), (8.6, 0.24, "left"))
    for (prompt, found), mark, place in zip(list(passed.items())[1:], "s^v", places):
        axes.plot(tries, found, f"{mark}:", color=COLORS["policy"], linewidth=1)
        word = say("target ", "目标 ") + prompt.strip("S=")
        axes.text(*place[:2], word, ha=place[2], **style)
    word = say(
        "authors (line), model on middle targets (dots)",
        "作者群体（线），模型在中间的目标上（圆点）",
    )
    axes.text(2.2, 1.04, word, color=COLORS["ref"])
    axes.set_xscale("log", base=2)
    axes.set_xticks(tries, tries)
    axes.set(
        xlabel=say("answers to a prompt", "一个提示抽几个回答"),
        ylabel=say("one or more are exact", "至少一个正确的概率"),
        xlim=(0.85, 75),
        ylim=(0, 1.12),
    )


# %% [markdown] lang="en"
# **Figure 4.6.** pass@k, estimated from 320 answers a prompt. Line: the authors. Circles: the model at targets that two numbers reach. The three prompts above 100 start below 0.2; with 64 tries each is above 0.9.

# %% [markdown] lang="zh"
# **图 4.6** pass@k，由每个提示的 320 个回答估计。线是作者群体；圆点是模型在两个数够得着的目标上。三个大于 100 的提示从 0.2 以下出发，抽 64 次，每个都高于 0.9。

# %% [markdown] lang="en"
# Away from the ends four answers are enough for the model as for the authors: pass@4 is above 0.99. At the three outermost targets a single answer is seldom right, and of 64 one nearly always is. What a model seldom writes, it can still write; a judge who may read many answers finds it. [Chapter 10](10_data.ipynb) asks what training on such finds is worth.

# %% [markdown] lang="zh"
# 除了两端，模型同作者一样，四个回答就够了：pass@4 高于 0.99。最右边的三个目标，单个回答很少对，抽 64 个，里面几乎总有对的。很少写出来，不等于写不出来；裁判肯多看几个，就找得到。拿这样找到的回答去训练值不值，[第 10 章](10_data.ipynb)再问。

# %% [markdown] lang="en"
# > **What the toy hides.** A sum can be checked. A summary or a piece of advice cannot; people judge it, or another model does. A model as a judge is cheap and biased: [Zheng et al. 2023](https://arxiv.org/abs/2306.05685) describe a liking for the answer in a certain position and for the longer one. No interval contains such an error. More answers make it narrower around the wrong number.
# >
# > Real answers have hundreds of tokens: greedy decoding then tends to repeat itself ([Holtzman et al. 2020](https://arxiv.org/abs/1904.09751)), and the cache can outgrow the model. The first Llama of 7B, with 32 layers, width 4,096 and 2 bytes a number, keeps 2 GiB for a row of 4,096 positions; seven such rows take more than its weights. [Kwon et al. 2023](https://arxiv.org/abs/2309.06180) manage it in pages, as an operating system does.
#
# > **To remember.** Logits become probabilities, a number $u$ becomes a token, and a cache saves rereading without changing the answer. A share is a random number: give it an interval, and near 0 or 1 give it Wilson's. Sampling at temperature 1 shows the population that wrote the data, greedy decoding the majority at every fork. $\mathrm{KL}(P\,\|\,Q)$, in nats, is the mean of $\log P-\log Q$ over draws from $P$. pass@k says what $k$ tries are worth.

# %% [markdown] lang="zh"
# > **玩具没告诉你的。** 算式可以检查，摘要和建议没有判分程序，只能由人来评，或由另一个模型来评。让模型当裁判便宜，但有偏差：[Zheng et al. 2023](https://arxiv.org/abs/2306.05685) 写到，它会偏爱放在某个位置的回答，也偏爱长的。这种误差，任何区间都不包含；抽得再多，也只是在错的数字周围越收越窄。
# >
# > 真实的回答有几百个词元：贪心解码容易翻来覆去说同样的话（[Holtzman et al. 2020](https://arxiv.org/abs/1904.09751)），缓存则会比模型还占内存。最初的 7B Llama 有 32 层，宽 4,096，每个数 2 字节，一行 4,096 个位置要存 2 GiB；七行下来，已经超过它的全部权重。[Kwon et al. 2023](https://arxiv.org/abs/2309.06180) 像操作系统那样按页来管理它。
#
# > **记住。** logits 变成概率，一个数 $u$ 变成一个词元；缓存省去重读，不改变回答。比例是随机数，要配区间；靠近 0 或 1 时，用 Wilson 的区间。温度 1 的采样照出写数据的群体，贪心解码照出每个岔口上的多数。$\mathrm{KL}(P\,\|\,Q)$ 以奈特计，是从 $P$ 里抽样时 $\log P-\log Q$ 的平均。抽 $k$ 次值多少，由 pass@k 来说。

# %% tags=["proof"] checked_en="Checked: what the cache and the weights of that Llama take." checked_zh="已验证：那个 Llama 的缓存和权重各占多少。"
a_position = 2 * 32 * 4096 * 2  # keys and values, layers, width, bytes
assert a_position * 4096 == 2 * 2**30
layer = 4 * 4096**2 + 3 * 4096 * 11_008 + 2 * 4096  # as in chapter 2; an MLP of 11,008
all_weights = 2 * 32_000 * 4096 + 32 * layer + 4096  # a vocabulary of 32,000
assert round(all_weights / 1e9, 1) == 6.7
assert 6 * 2 * 2**30 < 2 * all_weights < 7 * 2 * 2**30  # in bytes: 6 rows, 7 rows

# %% [markdown] lang="en"
# ## Exercises

# %% [markdown] lang="zh"
# ## 练习

# %% [markdown] lang="en"
# ### Exercise 4.1 · Top-p by hand
# ★☆☆ · 5 minutes
#
# Five tokens have probabilities 0.45, 0.25, 0.15, 0.10 and 0.05. With top-p at a threshold of 0.75, how probable is the first token?
#
# <details><summary>Hint</summary>
#
# Add from the left until the sum reaches the threshold. Then divide by what you kept.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 4.1 · 手算 top-p
# ★☆☆ · 5 分钟
#
# 五个词元的概率是 0.45、0.25、0.15、0.10、0.05。top-p 的门槛取 0.75，第一个词元的概率变成多少？
#
# <details><summary>提示</summary>
#
# 从左往右加，加到够门槛为止，再除以留下的总和。
#
# </details>

# %% tags=["exercise"]
answer_4_1 = ...  # a number
check("4.1", answer_4_1)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# Two tokens have 0.70, which is short of 0.75; three have 0.85. The first gets 0.45 of 0.85.
#
# ```python
# answer_4_1 = 0.45 / (0.45 + 0.25 + 0.15)
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 两个词元有 0.70，还不到 0.75；三个有 0.85。第一个分到 0.85 里的 0.45。
#
# ```python
# answer_4_1 = 0.45 / (0.45 + 0.25 + 0.15)
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 4.2 · Count the work
# ★★☆ · 10 minutes
#
# One prompt of 12 tokens, 20 answers to it, each 30 tokens long. How many token-positions go through the model (a) without a cache, each answer by itself; (b) with a cache, each answer by itself; (c) with a cache, the prompt read once for all? Answer with three whole numbers.
#
# <details><summary>Hint</summary>
#
# (a) and (b) are equation 4.2, 20 times. In (c) only the answers' own positions are multiplied by 20. The last token of an answer is not read.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 4.2 · 数工作量
# ★★☆ · 10 分钟
#
# 一个提示长 12 个词元，要抽 20 个回答，每个长 30 个词元。模型要处理多少词元位置？(a) 不用缓存，各抽各的；(b) 用缓存，各抽各的；(c) 用缓存，提示只读一次。请给出三个整数。
#
# <details><summary>提示</summary>
#
# (a) 和 (b) 就是式 4.2，各乘 20。(c) 里只有回答自己的位置乘 20。回答的最后一个词元不必读。
#
# </details>

# %% tags=["exercise"]
answer_4_2 = (..., ..., ...)  # (a), (b), (c)
check("4.2", answer_4_2)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# Without a cache an answer costs 30·12 + 30·29/2 = 795 token-positions, with one 12 + 29 = 41. Reading the prompt once costs 12, and 20 answers cost 29 each.
#
# ```python
# answer_4_2 = (20 * (30 * 12 + 30 * 29 // 2), 20 * (12 + 29), 12 + 20 * 29)
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 不用缓存，一个回答要 30·12 + 30·29/2 = 795 个词元位置；用缓存，12 + 29 = 41 个。提示只读一次要 12 个，20 个回答各要 29 个。
#
# ```python
# answer_4_2 = (20 * (30 * 12 + 30 * 29 // 2), 20 * (12 + 29), 12 + 20 * 29)
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 4.3 · How many without a fault
# ★★☆ · 10 minutes
#
# A model answers $n$ prompts and makes no mistake. From which $n$ on does Wilson's interval lie above 0.99 as a whole? Take $z=1.96$.
#
# <details><summary>Hint</summary>
#
# Put $\hat p=1$ into equation 4.3: $(1-p)^2\le z^2p(1-p)/n$. Divide by $1-p$.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 4.3 · 要连对多少个
# ★★☆ · 10 分钟
#
# 模型答了 $n$ 个提示，一个没错。$n$ 至少多大，Wilson 区间才整个高于 0.99？取 $z=1.96$。
#
# <details><summary>提示</summary>
#
# 把 $\hat p=1$ 代进式 4.3：$(1-p)^2\le z^2p(1-p)/n$。两边除以 $1-p$。
#
# </details>

# %% tags=["exercise"]
answer_4_3 = ...  # a whole number
check("4.3", answer_4_3)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# $1-p\le z^2p/n$ gives the lower bound $p=n/(n+z^2)$. It exceeds 0.99 when $n>99z^2=380.3$. A thousand answers without a fault do not prove 99.7 %.
#
# ```python
# answer_4_3 = math.floor(99 * 1.96**2) + 1
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 由 $1-p\le z^2p/n$ 得下界 $p=n/(n+z^2)$。要它大于 0.99，须 $n>99z^2=380.3$。连对一千个，也还证明不了 99.7%。
#
# ```python
# answer_4_3 = math.floor(99 * 1.96**2) + 1
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 4.4 · KL, token by token
# ★★★ · 25 minutes
#
# The estimate of $\mathrm{KL}(P\,\|\,Q)$ for answers averages $\log P-\log Q$ at the tokens that were drawn. At every fork one could instead put in the exact KL of the two next-token distributions. The mean is the same (the chain rule of KL), the interval is narrower. Write the function that does it for a batch: logits of $P$ and of $Q$, each (B, T, V), where row $t$ predicts token $t+1$, and a mask (B, T) that is True on the completion's tokens. It returns (B,): for each sequence the sum, over completion tokens, of the KL at the fork where the token was drawn.
#
# <details><summary>Hint</summary>
#
# `log_softmax` turns logits into log-probabilities. The fork of the token at position $t+1$ is row $t$ of the logits, so the last row goes and the mask loses its first column.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 4.4 · 逐词元的 KL
# ★★★ · 25 分钟
#
# 估计整个回答的 $\mathrm{KL}(P\,\|\,Q)$，是在抽到的词元上对 $\log P-\log Q$ 求平均。其实在每个岔口，都可以换成两个下一词元分布之间精确的 KL。平均值不变（KL 的链式法则），区间更窄。请写一个函数，一次算一个批次：给出 $P$ 和 $Q$ 的 logits，形状都是 (B, T, V)，第 $t$ 行预测第 $t+1$ 个词元；还有掩码 (B, T)，在回答的词元上为 True。返回 (B,)，每条序列一个数：回答的每个词元都是在一个岔口上抽出来的，把这些岔口上的 KL 加起来。
#
# <details><summary>提示</summary>
#
# `log_softmax` 把 logits 变成对数概率。位置 $t+1$ 上的词元，岔口是 logits 的第 $t$ 行；所以 logits 去掉最后一行，掩码去掉第一列。
#
# </details>


# %% tags=["exercise"]
def kl_by_token(p_logits, q_logits, completion_mask):
    """KL(P || Q) of each sequence, (B,), summed over its completion tokens."""
    ...


check("4.4", kl_by_token)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# ```python
# def kl_by_token(p_logits, q_logits, completion_mask):
#     p, q = p_logits[:, :-1].log_softmax(-1), q_logits[:, :-1].log_softmax(-1)  # (B, T-1, V)
#     forks = (p.exp() * (p - q)).sum(-1)  # (B, T-1)
#     return (forks * completion_mask[:, 1:]).sum(-1)
# ```
#
# The answers must still be drawn from $P$: the forks that are reached depend on it.
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# ```python
# def kl_by_token(p_logits, q_logits, completion_mask):
#     p, q = p_logits[:, :-1].log_softmax(-1), q_logits[:, :-1].log_softmax(-1)  # (B, T-1, V)
#     forks = (p.exp() * (p - q)).sum(-1)  # (B, T-1)
#     return (forks * completion_mask[:, 1:]).sum(-1)
# ```
#
# 回答仍要从 $P$ 里抽：会走到哪些岔口，由它决定。
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 4.5 · The fair baseline
# ★★☆ · 10 minutes
#
# A report says: “Our model solves 93.6 % of the prompts, the base model only 75 %.” A footnote says that their model wrote three answers to each prompt, and a prompt counted as solved if one of them was right; the base model wrote one. Every prompt is equally hard. Give two numbers: what does the base model reach by their protocol, and how often is a single answer of their model right?
#
# <details><summary>Hint</summary>
#
# Both are pass@3 and pass@1 of one $e$. The first goes from $e$ to pass@3, the second back.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 4.5 · 公平的基线
# ★★☆ · 10 分钟
#
# 一份报告写道：「我们的模型解出 93.6% 的提示，基座模型只有 75%。」脚注里说：他们的模型对每个提示写三个回答，有一个正确就算解出；基座模型只写一个。各个提示一样难。请给出两个数：照他们的办法，基座模型能到多少？他们的模型，单独一个回答正确的概率是多少？
#
# <details><summary>提示</summary>
#
# 都是同一个 $e$ 的 pass@3 和 pass@1。第一个由 $e$ 算 pass@3，第二个倒过来。
#
# </details>

# %% tags=["exercise"]
answer_4_5 = (..., ...)  # the base model by their protocol, one answer of theirs
check("4.5", answer_4_5)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# The base model reaches $1-0.25^3=0.984$, more than theirs. A single answer of theirs fails with probability $(1-0.936)^{1/3}=0.4$, so it is right with 0.6: their training made the model worse. A comparison needs the same number of tries on both sides.
#
# ```python
# answer_4_5 = (1 - 0.25**3, 1 - (1 - 0.936) ** (1 / 3))
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 基座模型能到 $1-0.25^3=0.984$，比他们的还高。他们的模型单个回答答错的概率是 $(1-0.936)^{1/3}=0.4$，所以正确的概率是 0.6：训练反而把模型变差了。要比较，两边抽的次数得一样。
#
# ```python
# answer_4_5 = (1 - 0.25**3, 1 - (1 - 0.936) ** (1 / 3))
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 4.6 · Two forks at half the temperature
# ★★☆ · 15 minutes
#
# Take authors with two forks and no more: at one they slip with probability 0.25, at the other they write a third number with probability 0.30, each decided by one token. What are the shares of exact and of three-number answers at $\tau=0.5$? Then run `evaluate(gen, task, n=2000, temperature=0.5)`. One of your two predictions is nearly right, the other several times too high. Which, and why?
#
# <details><summary>Hint</summary>
#
# At $\tau=0.5$ the probabilities of a fork are squared and divided by their sum.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 4.6 · 温度减半，两个岔口
# ★★☆ · 15 分钟
#
# 设作者只有两个岔口：一个岔口上，以概率 0.25 失误；另一个岔口上，以概率 0.30 写第三个数；都由一个词元决定。$\tau=0.5$ 时，答案正确的比例和三个数的比例各是多少？然后运行 `evaluate(gen, task, n=2000, temperature=0.5)`。两个预测里，一个差不多，另一个高出好几倍。是哪个？为什么？
#
# <details><summary>提示</summary>
#
# $\tau=0.5$ 时，一个岔口上的各个概率取平方，再除以总和。
#
# </details>

# %% tags=["exercise"]
answer_4_6 = (..., ...)  # exact, three numbers
check("4.6", answer_4_6)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# 0.90 and 0.16. Measured are about 0.85 and 0.02. The slip is decided nearly as supposed, at one fork between two digits. The third number is not: at the fork behind `27+2` it begins with any of nine digits, 0.17 together and none above 0.03 (Figure 4.4). Squaring nine small pieces leaves far less than squaring their sum.
#
# ```python
# def squared(share):
#     return share**2 / (share**2 + (1 - share) ** 2)
#
#
# answer_4_6 = (squared(0.75), squared(0.30))
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 0.90 和 0.16。实测约为 0.85 和 0.02。失误差不多如题中所设，在一个岔口上由两个数字之一决定。第三个数却不是：在 `27+2` 之后的岔口，它可以由九个数字中的任何一个开头，合起来 0.17，没有一个超过 0.03（图 4.4）。九个小块各自平方，剩下的比整块平方少得多。
#
# ```python
# def squared(share):
#     return share**2 / (share**2 + (1 - share) ** 2)
#
#
# answer_4_6 = (squared(0.75), squared(0.30))
# ```
#
# </details>

# %% [markdown] lang="en"
# ## References
# - [Brown et al. 2001](https://doi.org/10.1214/ss/1009213286), *Interval Estimation for a Binomial Proportion*: coverage of intervals for a share.
# - [Chen et al. 2021](https://arxiv.org/abs/2107.03374), *Evaluating Large Language Models Trained on Code*: pass@k and its unbiased estimate.
# - [Fan et al. 2018](https://arxiv.org/abs/1805.04833), *Hierarchical Neural Story Generation*: top-k sampling.
# - [Holtzman et al. 2020](https://arxiv.org/abs/1904.09751), *The Curious Case of Neural Text Degeneration*: top-p sampling, and what greedy decoding does to long texts.
# - [Kullback & Leibler 1951](https://doi.org/10.1214/aoms/1177729694), *On Information and Sufficiency*: the divergence that bears their names.
# - [Kwon et al. 2023](https://arxiv.org/abs/2309.06180), *Efficient Memory Management for Large Language Model Serving with PagedAttention*: the memory of the KV cache.
# - [Wilson 1927](https://doi.org/10.1080/01621459.1927.10502953), *Probable Inference, the Law of Succession, and Statistical Inference*: the interval.
# - [Zheng et al. 2023](https://arxiv.org/abs/2306.05685), *Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena*: models as judges.

# %% [markdown] lang="zh"
# ## 参考文献
# - [Brown et al. 2001](https://doi.org/10.1214/ss/1009213286)，*Interval Estimation for a Binomial Proportion*：各种比例区间的覆盖率。
# - [Chen et al. 2021](https://arxiv.org/abs/2107.03374)，*Evaluating Large Language Models Trained on Code*：pass@k 及其无偏估计。
# - [Fan et al. 2018](https://arxiv.org/abs/1805.04833)，*Hierarchical Neural Story Generation*：top-k 采样。
# - [Holtzman et al. 2020](https://arxiv.org/abs/1904.09751)，*The Curious Case of Neural Text Degeneration*：top-p 采样，以及贪心解码会把长文本写成什么样。
# - [Kullback & Leibler 1951](https://doi.org/10.1214/aoms/1177729694)，*On Information and Sufficiency*：以两人命名的散度。
# - [Kwon et al. 2023](https://arxiv.org/abs/2309.06180)，*Efficient Memory Management for Large Language Model Serving with PagedAttention*：KV 缓存的内存。
# - [Wilson 1927](https://doi.org/10.1080/01621459.1927.10502953)，*Probable Inference, the Law of Succession, and Statistical Inference*：区间的出处。
# - [Zheng et al. 2023](https://arxiv.org/abs/2306.05685)，*Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena*：让模型当裁判。
