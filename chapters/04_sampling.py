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
# > **In this chapter.** You will be able to turn logits into answers in four ways, to say what a KV cache saves, to judge an answer without running it, to put an honest interval around a share, to estimate pass@k without bias, and to measure in nats how far apart two samplers are. You need [chapter 2](02_llama.ipynb) (the model) and [chapter 3](03_sft.ipynb) (its data, entropy), and you should know what a standard deviation is. 50 minutes to read, 25 seconds to run.
#
# A model gives a probability to every text. A probability is not yet an answer, and an answer is not yet a good one. This chapter draws answers from `gen`, the model of chapter 3, and judges them. Then it asks the question that this small world allows: the rates of the authors are known, so has the model learnt them?

# %% [markdown] lang="zh"
# > **本章。** 读完后，你能用四种办法把 logits 变成回答；说清 KV 缓存省了什么；不执行回答就判定对错；给一个比例配上靠得住的区间；无偏地估计 pass@k；用奈特量出两个采样器相距多远。需要先读[第 2 章](02_llama.ipynb)（模型）和[第 3 章](03_sft.ipynb)（数据与熵），并知道什么是标准差。阅读约 50 分钟，运行约 25 秒。
#
# 模型给每段文本一个概率。有了概率，还没有回答；有了回答，也不等于答得好。这一章先从第 3 章的模型 `gen` 里抽出回答，再来评判。然后问一个只有在小世界里才问得出的问题：作者的各种比率都是已知的，模型学到了吗？

# %%
import ast
import math
from collections import Counter
from itertools import product

import numpy as np
import torch

from checks import check
from dpo_core import BookTask, CharTokenizer, KVCache, generate, judge, load_pretrained, score, sequence_logps, use_threads
from dpo_core.commands.parser import main
from dpo_core.evaluation import evaluate, excess_nats, mean_interval, shares, wilson
from dpo_core.plotting import COLORS, figure, points
from dpo_core.sampling import draw, next_token_probs
from dpo_core.task import EXPRESSION_GRAMMAR, stream
from dpo_core.training import default_device

use_threads()
device = default_device()
torch.set_grad_enabled(False)  # nothing is trained in this chapter
gen = load_pretrained("gen").to(device)
task, tokenizer = BookTask(), CharTokenizer()

# %% [markdown] lang="en"
# ## From logits to a token
# After reading a text, the model returns logits: one real number $\ell_i$ for each token $i$ of the vocabulary. Softmax turns them into probabilities $p_i$. *Decoding* is choosing the next token from them. A *temperature* $\tau$, a number above 0, divides the logits first:
#
# $$p_i(\tau)=\frac{e^{\ell_i/\tau}}{\sum_j e^{\ell_j/\tau}}=\frac{p_i^{1/\tau}}{\sum_j p_j^{1/\tau}}.$$
#
# The second form says what it does: every probability is raised to the power $1/\tau$, then all are divided by their sum. With $\tau$ below 1 the large ones gain; above 1 the differences shrink. As $\tau$ falls to 0, all mass moves to the largest logit. That limit is *greedy decoding*; in the code it is `temperature=0`.
#
# Two more settings cut off the tail. *Top-k* keeps the $k$ most probable tokens ([Fan et al. 2018](https://arxiv.org/abs/1805.04833)). *Top-p* goes down from the most probable token and stops as soon as the mass kept reaches a threshold ([Holtzman et al. 2020](https://arxiv.org/abs/1904.09751)): many tokens stay where the model is undecided, few where it is sure. In both cases what is kept is divided by its sum.
#
# Take four tokens with probabilities 0.4, 0.3, 0.2 and 0.1. At $\tau=1/2$ the powers are squares: 0.16, 0.09, 0.04, 0.01, with sum 0.30. Top-k with $k=2$ keeps 0.4 and 0.3, with sum 0.7. Top-p with threshold 0.8: one token has 0.4, two have 0.7, three have 0.9; three stay.

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
# 拿四个词元来算，概率是 0.4、0.3、0.2、0.1。$\tau=1/2$ 就是取平方：0.16、0.09、0.04、0.01，总和 0.30。top-k 取 $k=2$，留下 0.4 和 0.3，总和 0.7。top-p 的门槛取 0.8：一个词元有 0.4，两个有 0.7，三个有 0.9，所以留三个。

# %%
four = torch.tensor([[0.4, 0.3, 0.2, 0.1]], dtype=torch.float64)  # (1, 4)
by_hand = [
    ({"temperature": 1.0}, [0.4, 0.3, 0.2, 0.1]),
    ({"temperature": 0.5}, [16 / 30, 9 / 30, 4 / 30, 1 / 30]),
    ({"temperature": 0.0}, [1.0, 0.0, 0.0, 0.0]),
    ({"top_k": 2}, [4 / 7, 3 / 7, 0.0, 0.0]),
    ({"top_p": 0.8}, [4 / 9, 3 / 9, 2 / 9, 0.0]),
]
for setting, expected in by_hand:
    probs = next_token_probs(four.log(), **setting)  # (1, 4)
    assert torch.allclose(probs, torch.tensor([expected], dtype=torch.float64))
    print(f"{setting!s:20}", "  ".join(f"{p:.3f}" for p in probs[0].tolist()))

# %% [markdown] lang="en"
# ## From a random number to a token
# To draw from such a distribution, lay the probabilities end to end on the line from 0 to 1. The first token owns the stretch from 0 to 0.4, the second from there to 0.7, the third to 0.9, the fourth to 1. Draw a number $u$ between 0 and 1, all equally likely, and take the token on whose stretch it falls. For example, $u=0.55$ gives the second. A stretch is hit as often as it is long. In the words of the code: the first token whose cumulative probability exceeds $u$. The method is called inverse-CDF sampling.
#
# Now all chance is in $u$. Whoever keeps the $u$ can repeat the draw.

# %% [markdown] lang="zh"
# ## 从随机数到词元
# 怎样按概率抽？把各个概率首尾相接，铺在 0 到 1 的线段上。第一个词元占 0 到 0.4，第二个接着到 0.7，第三个到 0.9，第四个到 1。在 0 到 1 之间均匀地取一个数 $u$，落在谁的一段上，就抽中谁；比如 $u=0.55$，抽中第二个。一段有多长，被抽中的机会就有多大。换成代码的说法：从头累加概率，总和第一次超过 $u$ 时轮到的那个词元。这叫逆 CDF 采样（inverse-CDF sampling；CDF 是累积分布函数）。
#
# 这样一来，运气全在 $u$ 里。留着 $u$，就能把同一次抽签再来一遍。

# %%
assert draw(four, torch.tensor([0.55])).item() == 1  # ids count from 0
evenly = (torch.arange(1000) + 0.5) / 1000  # 1000 numbers, one in each thousandth of the line
assert draw(four.expand(1000, -1), evenly).bincount().tolist() == [400, 300, 200, 100]

uniform = torch.rand(20_000, generator=torch.Generator().manual_seed(0))
counts = draw(four.expand(20_000, -1), uniform).bincount().tolist()
for p, count in zip(four[0].tolist(), counts):
    estimate = wilson(count, 20_000)  # a 95 % interval; how it is made is explained below
    print(f"{p:.1f}  {estimate}")
    assert estimate.low < p < estimate.high

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
    for u in uniform.to(device):
        logits = gen(torch.tensor([ids], device=device))[:, -1]  # (1, V): the last position predicts what comes next
        ids.append(int(draw(next_token_probs(logits), u[None])))
        if ids[-1] == tokenizer.eos_id:
            break
    return tokenizer.decode(ids[start:])


uniform = torch.rand((3, 32), generator=torch.Generator().manual_seed(0))  # the numbers of generate(seed=0)
slow = [generate_slowly("S54=", u) for u in uniform]
assert slow == generate(gen, ["S54="] * 3, seed=0)
print(slow)

# %% [markdown] lang="en"
# The library's `generate` gives the same three answers and reads far less. Our loop sends the whole text through the model for every new token. But attention is causal (chapter 2): no position sees what stands after it, so the keys and values of earlier positions come out the same every time. A *KV cache* keeps them, one key and one value for each layer and position. Then only the new token goes through the layers, and its query meets the stored keys.
#
# Count work in *token-positions*: one token going through the layers once. With a prompt of $m$ tokens and an answer of $a$ tokens, the loop without a cache does $W_{\mathrm{all}}$ of them, the loop with one does $W_{\mathrm{cache}}$:
#
# $$W_{\mathrm{all}}=a\,m+\frac{a(a-1)}{2},\qquad W_{\mathrm{cache}}=m+a-1.$$
#
# For `S54=` and `27+27E` we have $m=4$, $a=6$: 39 against 9. (The last token, `E`, is drawn but never read.) The next cell counts what really goes through the model.

# %% [markdown] lang="zh"
# 库里的 `generate` 给出同样三个回答，读的东西却少得多。我们的循环每抽一个词元，都要把整段文本再送进模型一次。可注意力是因果的（第 2 章）：任何位置都看不到自己后面，所以前面各位置的键和值，每次算出来都一样。**KV 缓存**（KV cache）把它们存下来，每层每个位置各存一个键、一个值。这样，只有新词元要走一遍各层，再拿它的查询去和存下的键相比。
#
# 工作量按**词元位置**（token-position）数：一个词元走一遍各层，算一个。提示有 $m$ 个词元，回答有 $a$ 个词元，不用缓存的循环要做 $W_{\mathrm{all}}$ 个，用缓存的做 $W_{\mathrm{cache}}$ 个：
#
# $$W_{\mathrm{all}}=a\,m+\frac{a(a-1)}{2},\qquad W_{\mathrm{cache}}=m+a-1$$
#
# `S54=` 配 `27+27E`，$m=4$，$a=6$：39 比 9。（最后一个词元 `E` 抽出来就完事了，不必再读。）下面的代码数一数真正进了模型的有多少。

# %%
calls = []  # the size of the input at each call of the model


def token_positions(run):
    """How many token-positions `run` sends through the model."""
    calls.clear()
    with gen.register_forward_pre_hook(lambda module, inputs: calls.append(inputs[0].numel())):
        run()
    return sum(calls)


for u, answer in zip(uniform, slow):
    m, a = 4, len(answer)
    without = token_positions(lambda: generate_slowly("S54=", u))
    assert without == a * m + a * (a - 1) // 2
assert 6 * 4 + 6 * 5 // 2 == 39 and 4 + 6 - 1 == 9
with_cache = token_positions(lambda: generate(gen, ["S54="]))  # the first of the three answers
assert with_cache == 4 + len(slow[0]) - 1
print(slow[0], token_positions(lambda: generate_slowly("S54=", uniform[0])), with_cache)

# %% alt_en="Token-positions against the number of answer tokens, from 1 to 40. The curve without a cache bends upwards to 940. The line with a cache rises to 43 and looks flat beside it. Counted points lie on both curves." alt_zh="横轴是回答的词元数，从 1 到 40；纵轴是词元位置数。不用缓存的曲线越升越陡，到 940；用缓存的直线只升到 43，相比之下几乎是平的。数出来的点都落在线上。"
def read_step_by_step(length, cache):
    """Send 4 tokens, then one more at a time, through the model; `length` new tokens are predicted."""
    ids = torch.full((1, 4 + length), tokenizer.encode("7")[0], device=device)
    for end in range(4, 4 + length):
        if cache is None:
            gen(ids[:, :end])
        else:
            gen(ids[:, cache.length : end], cache=cache)


lengths, line = [1, 5, 10, 20, 30, 40], np.arange(1, 41)
without = [token_positions(lambda: read_step_by_step(a, None)) for a in lengths]
with_cache = [token_positions(lambda: read_step_by_step(a, KVCache())) for a in lengths]

fig, ax = figure(height=3.0)
ax.plot(line, 4 * line + line * (line - 1) / 2, color=COLORS["theory"])
ax.plot(line, 4 + line - 1, color=COLORS["theory"])
ax.plot(lengths, without, "^", color=COLORS["baseline"], label=r"$W_{\mathrm{all}}$")
ax.plot(lengths, with_cache, "o", color=COLORS["ref"], label=r"$W_{\mathrm{cache}}$")
ax.set(xlabel="$a$", ylabel="$W$")
ax.legend()
assert (without[-1], with_cache[-1]) == (940, 43)

# %% [markdown] lang="en"
# **Figure 4.1.** Token-positions $W$ for an answer of $a$ tokens after a prompt of $m=4$. Without a cache (triangles) the work grows with the square of the answer's length, with one (circles) along a straight line: 940 against 43 at $a=40$. Points are counted, lines are the two formulas.

# %% [markdown] lang="zh"
# **图 4.1** 提示长 $m=4$ 时，回答 $a$ 个词元要处理的词元位置数 $W$。不用缓存（三角），工作量随回答长度的平方增长；用缓存（圆点），只沿直线增长：$a=40$ 时是 940 比 43。点是数出来的，线是两个公式。

# %% [markdown] lang="en"
# The cache must not change the result. It does not: the logits at every position agree. What the cache costs is memory, and a new token still compares its query with every stored key.

# %% [markdown] lang="zh"
# 缓存不该改变结果，也确实没有改变：每个位置的 logits 都对得上。代价是内存；而且新词元的查询仍要和存下的每个键比一遍。

# %%
ids = torch.tensor([tokenizer.encode("S54=27+27E")], device=device)  # (1, 10)
cache = KVCache()
parts = [gen(ids[:, :4], cache=cache)] + [gen(ids[:, t : t + 1], cache=cache) for t in range(4, 10)]
cached, uncached = torch.cat(parts, dim=1), gen(ids)  # (1, 10, V) each
assert (cached - uncached).abs().max() < 1e-4

# %% [markdown] lang="en"
# ## Many prompts at once
# A processor handles many rows at once better than one after the other. Prompts differ in length, a batch is a rectangle, so short rows are padded. In training the padding stood on the right. Here it stands on the left: the next token is appended at the right end of every row, and there it must follow the prompt's last token, not a `P`. The attention mask hides the padding, and positions count real tokens only. So each row gets the logits that it would get alone.

# %% [markdown] lang="zh"
# ## 一次处理许多提示
# 处理器同时算许多行，比一行一行算划算。提示有长有短，批次却是个矩形，短的要填充。训练时填在右边，这里要填在左边：下一个词元总接在每行最右端，它前面应该是提示的最后一个词元，而不是 `P`。注意力掩码把填充遮住，位置只数真正的词元。于是每一行得到的 logits，和它单独一行时一样。

# %%
prompts = ["S7=", "S54=", "S-12="]
ids, mask = tokenizer.pad([tokenizer.encode(prompt) for prompt in prompts], side="left")
print([tokenizer.decode(row) for row in ids])
together = gen(ids.to(device), mask.to(device))[:, -1]  # (3, V)
alone = [gen(torch.tensor([tokenizer.encode(prompt)], device=device))[:, -1] for prompt in prompts]
assert (together - torch.cat(alone)).abs().max() < 1e-4

# %% [markdown] lang="en"
# Often one wants many answers to one prompt. `generate` reads each distinct prompt of a batch once and copies its cache to all rows that begin with it. A row that has written its `E` is left out of the batch soon after: once three in ten are done, the others go on without them. And every row owns its random numbers: they depend on the seed, the row and the longest length allowed, not on the batch. So the same seed gives the same answers, whatever the batch size.

# %% [markdown] lang="zh"
# 同一个提示常常要抽许多回答。一个批次里，`generate` 对每个不同的提示只读一次，再把缓存复制给所有以它开头的行。写出 `E` 的行不久就退出批次：每当十行里有三行写完，剩下的就单独往下写。每一行还有自己的随机数，只取决于种子、行号和允许的最大长度，与批次无关。所以种子相同，回答就相同，批次多大都一样。

# %%
many, _ = task.demonstrations(1000, stream("chapter 4", 0))
token_positions(lambda: generate(gen, many, seed=1))
prompts_read, steps = calls[0], calls[1:]
assert prompts_read == len(set(many)) * max(map(len, many))
assert steps[0] == 1000 and steps == sorted(steps, reverse=True) and steps[-1] < 300  # who is done drops out
print(len(many), len(set(many)), prompts_read, 1000 * max(map(len, many)))

answers = generate(gen, many, seed=1)
assert answers == generate(gen, many, seed=1, batch_size=300)
assert answers[:10] == generate(gen, many[:10], seed=1, batch_size=1)

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
# Python's `eval` would compute the value in one line. It is never called in this book, because an answer is text from outside and `eval` executes it. A model whose vocabulary has letters can write `__import__('os')` and whatever follows. Ours has four letters and needs none of them to write `9**9**9`, a number of 369,693,100 digits; the program would do nothing else until it has them. `eval` also accepts texts that are no expressions here, such as `1_0+44`, and it computes in floating point, where 0.1 + 0.2 is not 0.3. The cell parses such texts without executing them: Python would take each, the checker takes none.

# %% [markdown] lang="zh"
# Python 的 `eval` 一行就能算出值，但本书从不调用它：回答是外来的文本，而 `eval` 会执行它。词表里有字母的模型写得出 `__import__('os')`，后面接什么都行。我们的词表只有四个字母，可写 `9**9**9` 一个也用不着。这个数有 369,693,100 位，算完之前，程序别的什么也做不了。`eval` 还会接受这里不算表达式的写法，比如 `1_0+44`；它用浮点数计算，那里 0.1 + 0.2 不等于 0.3。下面只解析、不执行这几段文本：Python 都认，判分程序都不认。

# %%
for text in ("__import__('os').getcwd()", "9**9**9", "1_0+44", "+54", "54//1"):
    ast.parse(text, mode="eval")  # builds a syntax tree, executes nothing; raises if Python would not take the text
    assert not judge("S54=", text + "E").well_formed
assert set("9**9**9") | set("1_0+44") <= set(tokenizer.vocabulary)
assert math.floor(9**9 * math.log10(9)) + 1 == 369_693_100
assert 0.1 + 0.2 != 0.3 and judge("S0.3=", "0.1+0.2E").exact

# %% [markdown] lang="en"
# `judge` checks the text against the grammar, then walks through it once with a list of terms. `+` and `-` append a term; `*` and `/` change the last one. Nothing more is needed for precedence: `60-2*3` gives the list 60, then 60 and -2, then 60 and -6, and the sum is 54. Numbers are exact fractions, so nothing is rounded. A division by zero is well formed but has no value. The hand-made cases below have one trap each.

# %% [markdown] lang="zh"
# `judge` 先拿文本去对文法，再从头到尾走一遍，手里拿一张项的清单。遇到 `+`、`-`，添一项；遇到 `*`、`/`，改最后一项。先乘除后加减，这样就够了：`60-2*3` 的清单先是 60，再是 60 和 -2，再是 60 和 -6，加起来是 54。所有的数都是精确的分数，没有舍入。除以零也算格式正确，只是没有值。下面这些例子是手工出的，每个都有一处陷阱。

# %%
cases = [  # prompt, completion, then well formed, how many numbers, exact
    ("S54=", "60-2*3E", True, 3, True), ("S54=", "27+37E", True, 2, False), ("S54=", "50--4E", True, 2, True),
    ("S-12=", "-5-7E", True, 2, True), ("S54=", "027+27E", False, 0, False), ("S54=", "27+27", False, 0, False),
    ("S54=", "27+27EE", False, 0, False), ("S54=", "E", False, 0, False), ("S1=", "1/3*3E", True, 3, True),
    ("S54=", "54/0E", True, 2, False), ("S54=", "54.0E", True, 1, True), ("S54=", "27+-+27E", False, 0, False),
]  # fmt: skip
for prompt, completion, *expected in cases:
    v = judge(prompt, completion)
    assert [v.well_formed, v.numbers, v.exact] == expected
    print(f"{prompt:6}{completion:10} {v.well_formed!s:6} {v.numbers}  {v.value!s:5} {v.exact}")

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
# Let $\theta$, a number between 0 and 1, be the true share, $k$ the number of successes in $n$ independent draws, and $\hat\theta=k/n$ the estimate. Its standard deviation is $\sqrt{\theta(1-\theta)/n}$. A *95 % confidence interval* is a recipe that makes two bounds out of $k$ and $n$ such that, over many repetitions, they enclose $\theta$ in 95 % of the cases. The promise is about the recipe, not about the one interval in hand.
#
# The *normal interval* puts the estimate into the standard deviation: $\hat\theta\pm z\sqrt{\hat\theta(1-\hat\theta)/n}$, with $z=1.96$. For 0 successes in 20 it runs from 0 to 0: certain that the true share is 0, after 20 draws. [Wilson 1927](https://doi.org/10.1080/01621459.1927.10502953) keeps every $\theta$ that could have produced the estimate, that is, from which it lies at most $z$ of *that* $\theta$'s standard deviations away:
#
# $$(\hat\theta-\theta)^2\le z^2\,\frac{\theta(1-\theta)}{n}.$$
#
# For 0 in 20, with $z^2=3.84$: $\theta^2\le 0.192\,\theta(1-\theta)$. Divide by $\theta$ and collect: $\theta\le 0.192/1.192=0.161$. In general the bounds are the two roots of a quadratic equation:
#
# $$\frac{\hat\theta+\dfrac{z^2}{2n}\pm z\sqrt{\dfrac{\hat\theta(1-\hat\theta)}{n}+\dfrac{z^2}{4n^2}}}{1+\dfrac{z^2}{n}}.$$

# %% [markdown] lang="zh"
# 设真实的比例是 $\theta$，介于 0 和 1 之间；独立抽 $n$ 次，成功 $k$ 次，估计值是 $\hat\theta=k/n$，它的标准差是 $\sqrt{\theta(1-\theta)/n}$。所谓 **95% 置信区间**（confidence interval），是由 $k$ 和 $n$ 算出上下界的一种做法：反复抽样，其中 95% 的次数能把 $\theta$ 包住。它担保的是做法，不是手上这一个区间。
#
# **正态区间**把估计值代进标准差：$\hat\theta\pm z\sqrt{\hat\theta(1-\hat\theta)/n}$，$z=1.96$。20 次里成功 0 次，区间就是从 0 到 0：才抽 20 次，就断定真值是 0。[Wilson 1927](https://doi.org/10.1080/01621459.1927.10502953) 换了个问法：哪些 $\theta$ 抽得出这样的估计值？估计值离 $\theta$ 不超过 $z$ 个标准差的，都留下，而标准差用**这个** $\theta$ 来算：
#
# $$(\hat\theta-\theta)^2\le z^2\,\frac{\theta(1-\theta)}{n}$$
#
# 20 次成功 0 次，$z^2=3.84$：$\theta^2\le 0.192\,\theta(1-\theta)$。两边除以 $\theta$，移项，得 $\theta\le 0.192/1.192=0.161$。一般情形下，上下界是一个二次方程的两个根：
#
# $$\frac{\hat\theta+\dfrac{z^2}{2n}\pm z\sqrt{\dfrac{\hat\theta(1-\hat\theta)}{n}+\dfrac{z^2}{4n^2}}}{1+\dfrac{z^2}{n}}$$

# %%
def normal_interval(k, n, z=1.96):
    half = z * math.sqrt(k / n * (1 - k / n) / n)
    return k / n - half, k / n + half


for k in (0, 15):
    estimate, (low, high) = wilson(k, 20), normal_interval(k, 20)
    print(f"{k:2} / 20   normal [{low:.3f}, {high:.3f}]   wilson [{estimate.low:.3f}, {estimate.high:.3f}]")
    for theta in (estimate.low, estimate.high):  # both bounds solve the equation
        assert math.isclose((k / 20 - theta) ** 2, 1.96**2 * theta * (1 - theta) / 20, rel_tol=1e-3, abs_tol=1e-12)
assert round(wilson(0, 20).high, 3) == 0.161 and normal_interval(0, 20) == (0, 0)

# %% [markdown] lang="en"
# Which recipe keeps its promise? Fix $\theta$, draw 20,000 samples of $n=50$, and count how often the interval encloses $\theta$. This share is the *coverage*. As $k$ has only 51 possible values, it can also be computed exactly, by adding the binomial probabilities of those $k$ whose interval encloses $\theta$.

# %% [markdown] lang="zh"
# 哪种做法说话算数？定下 $\theta$，抽 20,000 组样本，每组 $n=50$，数一数区间有多少次包住了 $\theta$。这个比例叫**覆盖率**（coverage）。$k$ 只有 51 种可能，所以覆盖率也能精确算出：区间包得住 $\theta$ 的那些 $k$，把它们的二项概率加起来。

# %%
bounds = {
    "normal": np.array([normal_interval(k, 50) for k in range(51)]),
    "wilson": np.array([(wilson(k, 50).low, wilson(k, 50).high) for k in range(51)]),
}  # (51, 2) each: low and high for every k


def coverage(name, theta, k):
    """Is theta (R, 1) inside the interval of k (R, ...)? (R, ...) bool."""
    return (bounds[name][k, 0] <= theta) & (theta <= bounds[name][k, 1])


some = np.array([[0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99]]).T  # (12, 1)
draws = stream("chapter 4", 2).binomial(50, some, size=(12, 20_000))
simulated = {name: coverage(name, some, draws).mean(1) for name in bounds}  # (12,) each

theta, k = np.linspace(0.5, 0.99, 491)[:, None], np.arange(51)[None]
binomial = np.array([math.comb(50, i) for i in range(51)]) * theta**k * (1 - theta) ** (50 - k)  # (491, 51)
exact = {name: (binomial * coverage(name, theta, k)).sum(1) for name in bounds}  # (491,) each
for name in bounds:
    print(name, {float(t): round(float(c), 2) for t, c in zip(some[:, 0], simulated[name]) if t in (0.75, 0.98)})
    assert all(abs(np.interp(t, theta[:, 0], exact[name]) - c) < 0.02 for t, c in zip(some[:, 0], simulated[name]))

# %% alt_en="Coverage of the two intervals for samples of 50 against the true share, from 0.5 to 0.99. Wilson's interval stays between 0.89 and 0.99 with saw teeth around 0.95. The normal interval falls steeply beyond 0.9, to 0.64 at 0.98. Simulated points lie on the exact lines." alt_zh="样本量为 50 时两种区间的覆盖率，横轴是真实比例，从 0.5 到 0.99。Wilson 区间在 0.89 到 0.99 之间，绕着 0.95 呈锯齿状。正态区间过了 0.9 急剧下跌，0.98 处只有 0.64。模拟的点落在精确的线上。"
fig, ax = figure()
style = {"normal": ("^", "baseline", r"$\hat\theta(1-\hat\theta)$"), "wilson": ("o", "ref", r"$\theta(1-\theta)$")}
for name, (marker, color, label) in style.items():
    ax.plot(theta[:, 0], exact[name], color=COLORS["theory"], linewidth=1)
    ax.plot(some[:, 0], simulated[name], marker, color=COLORS[color], label=label)
ax.axhline(0.95, color=COLORS["ref"], linewidth=1, linestyle=":")
ax.set(xlabel=r"$\theta$", ylabel=r"$\Pr$", ylim=(0.35, 1.01))
ax.legend(loc="lower left")
at = dict(zip(some[:, 0].tolist(), range(12)))
assert abs(simulated["wilson"][at[0.75]] - 0.95) < 0.01 and abs(simulated["wilson"][at[0.98]] - 0.92) < 0.01
assert abs(simulated["normal"][at[0.98]] - 0.64) < 0.015
assert exact["wilson"].min() > 0.89 and exact["wilson"].mean() > 0.945

# %% [markdown] lang="en"
# **Figure 4.2.** The probability that a 95 % interval from $n=50$ draws encloses $\theta$. Triangles: the normal interval, which at $\theta=0.98$ misses in more than a third of the samples (coverage 0.64). Circles: Wilson's, 0.92 there and 0.95 at $\theta=0.75$. Points are simulated, lines exact. The teeth come from $k$ being a whole number.

# %% [markdown] lang="zh"
# **图 4.2** 抽 $n=50$ 次得到的 95% 区间包住 $\theta$ 的概率。三角是正态区间，$\theta=0.98$ 时有三分之一以上的样本包不住（覆盖率 0.64）；圆点是 Wilson 区间，那里是 0.92，$\theta=0.75$ 时是 0.95。点是模拟，线是精确值。锯齿来自 $k$ 只能取整数。

# %% [markdown] lang="en"
# A good model is right almost always, and there the normal interval fails. [Brown et al. 2001](https://doi.org/10.1214/ss/1009213286) study many recipes and recommend Wilson's or Jeffreys' for small $n$; where this book counts successes among a model's answers, it uses Wilson's. With 2,000 answers at $\theta=0.75$ it reaches about 0.019 to each side. Half of that takes four times as many answers.

# %% [markdown] lang="zh"
# 好模型几乎总是答对，正态区间偏偏在那里失灵。[Brown et al. 2001](https://doi.org/10.1214/ss/1009213286) 比较了许多做法，$n$ 较小时推荐 Wilson 区间或 Jeffreys 区间。凡是数一个模型的回答里成功几次，本书配的都是 Wilson 区间。$\theta=0.75$ 时抽 2,000 个回答，区间向两边各伸出约 0.019；想减半，回答就要多到四倍。

# %%
for n, half_width in ((2000, 0.019), (8000, 0.0095)):
    estimate = wilson(3 * n // 4, n)
    assert abs((estimate.high - estimate.low) / 2 - half_width) < 1e-4
assert wilson(1000, 1000).low < 0.997  # for exercise 4.3

# %% [markdown] lang="en"
# ## The model against its authors
# Now the model. Draw 2,000 prompts from the population, one answer to each at temperature 1, judge them, count.

# %% [markdown] lang="zh"
# ## 模型与它的作者
# 轮到模型了。从作者群体里抽 2,000 个提示，每个在温度 1 下抽一个回答，逐个评判，再统计。

# %%
chance = stream("evaluate", 4)
prompts, _ = task.demonstrations(2000, chance)
answers = generate(gen, prompts, seed=int(chance.integers(2**31)))
report = shares([judge(p, a) for p, a in zip(prompts, answers)])
known = {"well_formed": 1, "exact": 1 - task.slip, "style": task.style}
known |= {"two_number_exact": 1 - task.slip, "three_number_exact": 1 - task.slip}
for name, rate in known.items():
    print(f"{name:19} population {rate:.2f}   model {report[name]}")
    assert abs(report[name].value - rate) < 0.04 and report[name].low - 0.02 < rate < report[name].high + 0.02
assert report == evaluate(gen, task, n=2000, seed=4)  # the library's evaluate is these lines
excess = excess_nats(gen, task, seed=4)
print(f"{'excess_nats':19} {excess}")
assert -0.03 < excess.value < 0.06

# %% [markdown] lang="en"
# `style` is the share of three-number answers. Every rate of the authors lies inside the model's interval or within 0.02 of it, for short and long answers separately too. The last line is the loss on fresh texts minus the entropy floor of chapter 3: what is left to learn, in nats an answer.
#
# Note what the model is not: it is not right all the time. It was asked to imitate people who slip, and it slips as often as they do. We call a model *faithful to its data* when the shares of its answers at temperature 1 are those of the population that wrote the data. (*Calibrated*, a word of the field, is another thing: of all that is claimed with probability $p$, a share $p$ comes true.)
#
# An average can hide errors that cancel. So ask prompt by prompt. For a target $t$, let $s(t)$ be the share of three-number texts among the population's answers to it. In the middle it is close to 0.30. At the ends it rises. Take $t=98$. With two numbers up to 49 there is one way to mean it, $49+49$, among 5,000 choices of two numbers and a sign. With a third number up to 9 there are 56 ways among 100,000: for $c=0,\dots,9$ added, $c+1$ pairs have the sum $98-c$, which makes 55, and $49+49-0$ is one more. By Bayes' rule
#
# $$s(98)=\frac{0.3\cdot\frac{56}{100000}}{0.3\cdot\frac{56}{100000}+0.7\cdot\frac{1}{5000}}=0.545.$$
#
# Above 98 and below -49 two numbers do not reach, and $s(t)=1$. `class_rates` holds these shares for every prompt.

# %% [markdown] lang="zh"
# `style` 是三个数的回答所占的比例。作者的每项比率都在模型的区间里，或离区间不到 0.02；长短回答分开看，也是如此。最后一行是新文本上的损失减去第 3 章的熵下界，即每个回答还剩多少奈特没学到。
#
# 请注意，模型并不是每次都对。它学的是一群会失误的人，于是失误得和他们一样多。如果一个模型在温度 1 下回答的各种比例，正是写数据的那群人的比例，就说它**忠于数据**（faithful to its data）。（通行的术语「校准」，calibrated，说的是另一回事：凡是以概率 $p$ 预测的事，其中恰有 $p$ 这么大的比例成真。）
#
# 平均数会让此高彼低的误差互相抵消，所以要一个提示一个提示地问。对目标 $t$，记 $s(t)$ 为作者群体的回答里三个数的占比。中间的目标，$s(t)$ 在 0.30 附近；到了两端就升高。看 $t=98$：两个数最大是 49，能想到的只有 $49+49$ 一种，而两个数加一个符号共有 5,000 种选法。添上不超过 9 的第三个数，就有 56 种，出自 100,000 种选法：加上 $c=0,\dots,9$ 时，和为 $98-c$ 的数对有 $c+1$ 个，共 55 种；再算上 $49+49-0$。由贝叶斯公式，
#
# $$s(98)=\frac{0.3\cdot\frac{56}{100000}}{0.3\cdot\frac{56}{100000}+0.7\cdot\frac{1}{5000}}=0.545$$
#
# 大于 98 或小于 -49 的目标，两个数够不着，$s(t)=1$。每个提示的这些比例，都存在 `class_rates` 里。

# %%
names = list(task.prompt_distribution)  # 166 prompts, in order of target
style_share = dict(zip(names, task.class_rates[:, 1].sum(1)))  # s(t)
assert round(style_share["S98="], 3) == round(0.3 * 56e-5 / (0.3 * 56e-5 + 0.7 / 5000), 3) == 0.545
assert all(abs(style_share[f"S{t}="] - 0.3) < 0.012 for t in range(-40, 91))
assert style_share["S99="] == style_share["S-50="] == 1

asked = names[::3]  # every third target
answers = generate(gen, [prompt for prompt in asked for _ in range(320)], seed=4)
judged = {p: [judge(p, a) for a in answers[320 * i : 320 * (i + 1)]] for i, p in enumerate(asked)}
measured = {p: wilson(sum(v.style for v in judged[p]), 320) for p in asked}
missing = [p for p in asked if not measured[p].low <= style_share[p] <= measured[p].high]
print(f"{len(asked)} intervals, {len(missing)} without s(t):", *missing)

long = [p for p in names if len(p) == len("S100=") and p[1] != "-"]  # targets of three digits
rare = sum(task.prompt_distribution[p] for p in long)
right = np.mean([v.exact for p in asked if p in long for v in judged[p]])
print(f"{rare:.5f}  {rare * 9000 * 128:.0f} of {9000 * 128}  exact {right:.2f}")  # 9000 steps of 128 texts
assert 0.05 < right < 0.15 and abs(rare - 0.00036) < 1e-6

# %% alt_en="Share of three-number answers against the target, from -58 to 107. The line of the population is 1 below -49, falls to 0.3, stays there, and rises to 1 above 98. The model's points follow it, but lie below it at the outermost targets, far below at the last three, above 100." alt_zh="三个数的回答占比随目标的变化，目标从 -58 到 107。作者群体的线在 -49 以下为 1，随后降到 0.3 并保持平直，98 以上升到 1。模型的点沿着线走，只是到最边上的目标偏低，最右边三个超过 100 的目标低得多。"
fig, ax = figure()
ax.plot([int(p[1:-1]) for p in names], list(style_share.values()), color=COLORS["theory"], label="$s(t)$")
points(ax, [int(p[1:-1]) for p in asked], [measured[p] for p in asked], "ref", r"$\hat s(t)$")
ax.set(xlabel="$t$", ylabel="$s$", ylim=(0, 1.05))
ax.legend(loc="upper center")
usual = [p for p in asked if -50 < int(p[1:-1]) < 98]
assert max(abs(measured[p].value - style_share[p]) for p in usual) < 0.15
assert sum(p in usual for p in missing) <= 5

# %% [markdown] lang="en"
# **Figure 4.3.** Share $s$ of three-number answers by target $t$. Line: the population. Points: the model, 320 answers to each of 56 prompts, with 95 % intervals. The model has learnt not only a rate but where it changes. Away from the ends nearly every interval contains the line. The model goes astray where it has seen little: targets of three digits are 0.036 % of the texts, some 400 of the 1,152,000 that it was trained on. There only about one answer in ten is exact.

# %% [markdown] lang="zh"
# **图 4.3** 各目标 $t$ 上三个数的回答占比 $s$。线是作者群体；点是模型，56 个提示各 320 个回答，附 95% 区间。模型学到的不只是一个比率，还有比率在哪里变。除了两端，几乎每个区间都含有线上的值。见得少的地方它就走样：三位数的目标只占文本的 0.036%，训练用的 1,152,000 段里约有 400 段；在那里，十个回答大约只有一个正确。

# %% [markdown] lang="en"
# ## One right answer among k
# Is one right answer in ten a failure? It depends on how often one may ask. **pass@k** is the probability that at least one of $k$ answers to a prompt is right, averaged over prompts ([Chen et al. 2021](https://arxiv.org/abs/2107.03374)). If each answer is right with probability $e$, all $k$ fail with probability $(1-e)^k$. The authors have $e=0.75$ at every prompt: pass@1 is 0.75 and pass@4 is 0.996.
#
# For a model $e$ is not known. Draw $n$ answers, at least $k$ of them, and let $c$ be right. To put $c/n$ in the place of $e$ is too low on average, because $(1-e)^k$ is convex: its mean over the luck of $c$ lies above its value at the mean. Ask instead which share of all choices of $k$ among the $n$ answers contains a right one. That is right on average, whatever $e$ is:
#
# $$\mathrm{pass@}k=1-(1-e)^k,\qquad\mathrm{estimate}=1-\binom{n-c}{k}\Big/\binom{n}{k}.$$
#
# By hand, one right answer among four, and $k=2$: of the six pairs of answers three contain the right one, so the estimate is 1/2. Putting 1/4 in the place of $e$ gives $1-(3/4)^2=0.4375$.

# %% [markdown] lang="zh"
# ## k 个里至少一个正确
# 十个里只对一个，算失败吗？要看可以问几次。**pass@k** 是这样一个概率：对一个提示抽 $k$ 个回答，其中至少一个正确；再对提示取平均（[Chen et al. 2021](https://arxiv.org/abs/2107.03374)）。若每个回答正确的概率都是 $e$，$k$ 个全错的概率就是 $(1-e)^k$。作者群体在每个提示上 $e=0.75$：pass@1 是 0.75，pass@4 是 0.996。
#
# 模型的 $e$ 却不知道。抽 $n$ 个回答（不少于 $k$ 个），其中 $c$ 个正确。直接用 $c/n$ 代替 $e$，平均下来偏低，因为 $(1-e)^k$ 是凸函数：$c$ 有大有小，函数值的平均高于平均处的函数值。换个问法：从 $n$ 个里挑 $k$ 个，所有挑法当中，含有正确回答的占多少？不管 $e$ 是多少，这个比例平均起来不偏不倚：
#
# $$\mathrm{pass@}k=1-(1-e)^k,\qquad\mathrm{estimate}=1-\binom{n-c}{k}\Big/\binom{n}{k}$$
#
# 手算：四个回答里对一个，$k=2$。两两一组共六组，含有正确回答的是三组，估计值是 1/2。拿 1/4 代替 $e$，得到的却是 $1-(3/4)^2=0.4375$。

# %%
def pass_at(k, n, c):
    return 1 - math.comb(n - c, k) / math.comb(n, k)


assert pass_at(2, 4, 1) == 1 / 2 and 1 - (3 / 4) ** 2 == 0.4375
assert round(1 - 0.25**4, 3) == 0.996
n = 12
for k, e in product(range(1, n + 1), (0.01, 0.1, 0.5, 0.75, 0.99)):
    chance = [math.comb(n, c) * e**c * (1 - e) ** (n - c) for c in range(n + 1)]
    average = sum(p * pass_at(k, n, c) for c, p in enumerate(chance))
    put_in = sum(p * (1 - (1 - c / n) ** k) for c, p in enumerate(chance))
    assert math.isclose(average, 1 - (1 - e) ** k)  # right on average
    assert k == 1 or put_in < average - 1e-12  # too low

middle = [sum(v.exact for v in judged[p]) for p in asked if -50 < int(p[1:-1]) < 98]
edge = {p: sum(v.exact for v in judged[p]) for p in asked if p in long}
for name, counts in [("middle", middle), *((p, [c]) for p, c in edge.items())]:
    passed = {k: np.mean([pass_at(k, 320, c) for c in counts]) for k in (1, 4, 16, 64)}
    print(f"{name:7}", *(f"pass@{k} {share:.3f}" for k, share in passed.items()))
    assert passed[4] > 0.99 if name == "middle" else passed[1] < 0.2 and passed[64] > 0.9
assert list(edge) == ["S101=", "S104=", "S107="]

# %% [markdown] lang="en"
# Away from the ends four answers are enough for the model as for the authors: pass@4 is above 0.99. At the three outermost targets of the figure fewer than one answer in five is right, but of 64 answers one is, with probability above 0.9. What a model seldom writes, it can still write; a judge who may read many answers finds it. [Chapter 10](10_data.ipynb) asks what training on such finds is worth.

# %% [markdown] lang="zh"
# 除了两端，模型同作者一样，四个回答就够了：pass@4 高于 0.99。图上最右边的三个目标，答对的不到五分之一；可抽上 64 个，里面有对的，概率就高于 0.9。很少写出来，不等于写不出来；裁判肯多看几个，就找得到。拿这样找到的回答去训练值不值，[第 10 章](10_data.ipynb)再问。

# %% [markdown] lang="en"
# ## What temperature shows
# The same weights, decoded greedily:

# %% [markdown] lang="zh"
# ## 温度照出什么
# 同样的权重，换成贪心解码：

# %%
greedy = shares([judge(p, c) for p, c in zip(prompts, generate(gen, prompts, temperature=0))])
print("exact", greedy["exact"])
print("style", greedy["style"])
assert greedy["exact"].value > 0.99 and greedy["style"].value < 0.02

# %% [markdown] lang="en"
# Now it is right nearly always and writes almost no third number. Where have the slips and the three-number authors gone? Look at two forks in the answers to `S54=`. After `27+`, the next digit mostly decides between care and a slip: `2` leads to 27, `3` to 37. After `27+2`, the next digit decides the style: `7` completes the sum, any other digit needs a third number.

# %% [markdown] lang="zh"
# 几乎全对了，第三个数也几乎不写了。失误和写三个数的作者哪里去了？看 `S54=` 的回答里的两个岔口。写到 `27+`，是细心还是失误，大体由下一位决定：`2` 通向 27，`3` 通向 37。写到 `27+2`，下一位决定风格：`7` 把和凑齐，别的数字都还缺第三个数。

# %%
def next_of_population(prompt, written):
    """What the authors write next, as {character: probability}."""
    mass = Counter()
    for (p, text), logp in task.log_conditional.items():
        if p == prompt and text.startswith(written):
            mass[text[len(written)]] += math.exp(logp)
    return {character: m / mass.total() for character, m in mass.items()}


def next_of_model(text, temperature=1.0):
    ids = torch.tensor([tokenizer.encode(text)], device=device)
    return next_token_probs(gen(ids)[:, -1], temperature)  # (1, V)


for written, shown in (("27+", "23"), ("27+2", "78")):
    authors, model = next_of_population("S54=", written), next_of_model("S54=" + written)[0].tolist()
    for c in shown:
        print(f"{written:4} {c}  population {authors[c]:.2f}  model {model[tokenizer.encode(c)[0]]:.2f}")
        assert abs(authors[c] - model[tokenizer.encode(c)[0]]) < 0.1
    assert max(authors, key=authors.get) == shown[0] == tokenizer.decode([int(np.argmax(model))])

# %%
fork = next_of_population("S54=", "27+2")
assert sum(p < 0.03 for p in fork.values()) == 9 and abs(1 - fork["7"] - 0.17) < 0.005
at_fork = Counter()
for (prompt, text), logp in task.log_conditional.items():
    if prompt == "S54=" and text.startswith("27+2"):
        at_fork[judge(prompt, text).style] += math.exp(logp)
assert abs(at_fork[True] / at_fork.total() - 0.2) < 1e-6

# %% [markdown] lang="en"
# At the first fork slips are the minority. At the second the other style is: of the authors who have come so far every fifth writes a third number (0.20), and all digits but `7` together have 0.17, none of them above 0.03. Greedy decoding follows the largest branch at every fork, so it hardly ever slips and hardly ever needs a third number. **Sampling at temperature 1 shows the population; greedy decoding shows what is in the majority, fork by fork.** The slips that the model has learnt are a minority at their forks, and do not show.
#
# Is the greedy answer the most probable one? It need not be. Let the first token be `A` with probability 0.6 or `B` with 0.4; after `A` two endings are equally likely, after `B` there is only one. Greedy decoding writes `A` and ends with a text of probability 0.3. The most probable text begins with `B` and has 0.4. *Beam search* looks further: it keeps the $k$ most probable beginnings at every step, and here $k=2$ finds `B`.
#
# In our world the question has an exact answer. For the authors we add up the 210,000 texts. For the network we search: no text is more probable than its beginning, so it is enough to go on with those beginnings that are more probable than the whole greedy answer.

# %% [markdown] lang="zh"
# 第一个岔口上，失误是少数。第二个岔口上，另一种风格是少数：写到这里的作者，有五分之一要写第三个数（0.20）；`7` 以外的数字加起来只有 0.17，没有一个超过 0.03。贪心解码在每个岔口都走最大的一支，所以几乎不失误，也几乎不需要第三个数。**温度 1 的采样照出整个群体，贪心解码照出每个岔口上的多数。** 模型学来的失误，在自己的岔口上是少数，所以看不到。
#
# 贪心解码写出的，是概率最大的回答吗？不一定。设第一个词元是 `A`，概率 0.6，或者是 `B`，概率 0.4；`A` 后面有两种结尾，机会均等，`B` 后面只有一种。贪心解码写 `A`，最后得到的文本，概率是 0.3；概率最大的文本以 `B` 开头，有 0.4。**束搜索**（beam search）看得远一些：每一步都留下概率最大的 $k$ 个开头；这里 $k=2$ 就能找到 `B`。
#
# 在我们的世界里，这个问题有精确的答案。作者群体的 210,000 段文本，加一加就行。网络则要搜索：一段文本的概率，不会大于它的开头，所以只需接着写那些比整个贪心回答还要可能的开头。

# %%
tree = {"": {"A": 0.6, "B": 0.4}, "A": {"x": 0.5, "y": 0.5}, "B": {"z": 1.0}}


def beam(width):
    """The best text of two tokens that a beam of this width finds, and its probability."""
    kept = {"": 1.0}
    for _ in range(2):
        longer = {text + c: p * q for text, p in kept.items() for c, q in tree[text].items()}
        kept = dict(sorted(longer.items(), key=lambda item: -item[1])[:width])
    return next(iter(kept.items()))


assert beam(1) == ("Ax", 0.3) and beam(2) == ("Bz", 0.4)  # width 1 is greedy decoding

# %%
mass, branch = Counter(), {}  # of every beginning; the largest branch behind it
for (prompt, text), logp in task.log_conditional.items():
    for end in range(len(text) + 1):
        mass[prompt, text[:end]] += math.exp(logp)
for (prompt, text), m in mass.items():
    if text and m > mass[prompt, branch.get((prompt, text[:-1]), "none")]:
        branch[prompt, text[:-1]] = text
likeliest, greedy_of_authors = Counter(), {}
for (prompt, _), logp in task.log_conditional.items():
    likeliest[prompt] = max(likeliest[prompt], math.exp(logp))
for prompt in names:
    text = ""
    while not text.endswith("E"):
        text = branch[prompt, text]
    greedy_of_authors[prompt] = text
on_top = [
    math.isclose(mass[p, text], likeliest[p]) for p, text in greedy_of_authors.items()
]
print("authors: greedy is a most probable answer at", sum(on_top), "of", len(on_top))
assert len(on_top) == 166 and all(on_top)

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
ratio = np.median([math.exp(best[p][0] - logp) for p, logp in zip(names, greedy_logps)])
top = [math.isclose(mass[p, best[p][1]], likeliest[p]) for p in names if p not in long]
exact_share = np.mean([judge(p, best[p][1]).exact for p in names if p not in long])
print(f"network: {same} of {len(names)}, ratio {ratio:.2f}, exact {exact_share:.2f}")
assert same < len(names) / 2 and 1 < ratio < 1.2 and exact_share > 0.99
assert np.mean(top) > 0.9  # the network's likeliest answer is one of the authors' likeliest

# %% [markdown] lang="en"
# For the authors greedy decoding ends at a most probable answer at all 166 prompts (many answers tie). For the network it does so at fewer than half of them. It misses by little: at the typical prompt the most probable answer is less than 1.2 times as probable as the greedy one. Nor would a search for it show anything else: at targets of one or two digits more than 99 % of these answers are right as well, and more than 90 % of them are among those that tie for first place with the authors.
#
# How should the shares move between? The authors can be redrawn at any temperature as well, exactly: the probability of every beginning of an answer is known, hence the distribution of what they write next, and $\tau$ applies to it as to the model's.

# %% [markdown] lang="zh"
# 作者群体按贪心解码，在全部 166 个提示上，写出的都是概率最大的回答（许多回答并列最大）。网络却不到一半。不过差得很少：在典型的提示上，概率最大的回答，概率不到贪心回答的 1.2 倍。真去搜索，看到的也不会有什么不同：只要目标不是三位数，这样的回答也有 99% 以上是对的，90% 以上就是作者那里并列第一的那些。
#
# 介于两者之间，比例该怎么变？作者群体也能换个温度重抽，而且算得精确：回答的每一种开头，概率都已知，于是接下来写什么，分布也已知，$\tau$ 照样用得上。

# %%
table, distribution = task.table, task.prompt_distribution
row_of = {prompt: row for row, prompt in enumerate(distribution)}
prompt_row = np.array([row_of[prompt] for prompt in table.prompts])  # (N,)
mass_of_prompt = np.array(list(distribution.values()))[prompt_row]  # (N,)
tokens = tokenizer.pad([tokenizer.encode(completion) for completion in table.completions])[0].numpy()  # (N, 8)


def population_at(temperature):
    """log p(completion | prompt), (N,), of authors whose every next token is redrawn at this temperature."""
    logp, parent, mass = np.zeros(len(prompt_row)), prompt_row, mass_of_prompt
    beginning = prompt_row
    for column in tokens.T:
        beginning = beginning * tokenizer.vocab_size + column  # one number for each beginning of an answer
        _, first, node = np.unique(beginning, return_index=True, return_inverse=True)
        new_mass = np.bincount(node, weights=table.probability)[node]
        power = (new_mass / mass) ** (1 / temperature)
        total = np.bincount(parent[first], weights=power[first])[parent]  # over the branches of one fork
        logp += np.log(power / total)
        parent, mass = node, new_mass
    return logp


assert np.allclose(population_at(1), [task.log_conditional[text] for text in zip(table.prompts, table.completions)])

# %% alt_en="Two panels against temperature from 0 to 2. Left: the share of exact answers falls from 1.0 at temperature 0 through 0.75 at 1. Right: the share of three-number answers rises from 0 through 0.3 at 1 to above 0.7 at 2. The model's points lie on the population's lines, except near temperature 2, where they fall below, most of all on the left." alt_zh="两幅图，横轴都是温度，从 0 到 2。左图：答案正确的比例从温度 0 的 1.0 降到温度 1 的 0.75。右图：三个数的回答占比从 0 升起，温度 1 时 0.3，温度 2 时超过 0.7。模型的点落在作者群体的线上，只有温度接近 2 时低于线，左图尤其明显。"
curve = []
for temperature in (line := np.linspace(0.05, 2, 27)):
    p = mass_of_prompt * np.exp(population_at(temperature))
    curve.append((p[table.exact].sum(), p[table.style].sum()))
at, sampled, written = [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 2], [], {}
for temperature in at:
    completions = generate(gen, prompts[:1500], temperature=temperature, seed=5)
    sampled.append(shares([judge(p, c) for p, c in zip(prompts, completions)]))
    written[temperature] = list(zip(prompts, completions))

fig, axes = figure(columns=2, height=3.0)
for i, (ax, name, symbol) in enumerate(zip(axes, ("exact", "style"), "es")):
    ax.plot(line, [both[i] for both in curve], color=COLORS["theory"])
    points(ax, at, [s[name] for s in sampled], "ref")
    ax.set(xlabel=r"$\tau$", ylabel=f"${symbol}$", ylim=(-0.03, 1.03))
    for temperature, s in zip(at[1:6], sampled[1:6]):
        assert abs(np.interp(temperature, line, [both[i] for both in curve]) - s[name].value) < 0.05
exact = [s["exact"].value for s in sampled]
assert exact == sorted(exact, reverse=True) and exact[-1] < curve[-1][0] - 0.05

# %% [markdown] lang="en"
# **Figure 4.4.** Share $e$ of exact answers and share $s$ of three-number answers against the temperature $\tau$. Lines: the population redrawn at $\tau$, computed. Points: the model, 1,500 answers each. Up to 1.25 they agree within 0.05. At 2 the model falls below on the left.

# %% [markdown] lang="zh"
# **图 4.4** 答案正确的比例 $e$、三个数的回答占比 $s$ 随温度 $\tau$ 的变化。线是按 $\tau$ 重抽的作者群体，由计算得出；点是模型，每点 1,500 个回答。到 1.25 为止，两者相差不超过 0.05。到 2 时，左图的模型掉到线下。

# %% [markdown] lang="en"
# Why does it fall below at 2? Temperature lifts every small probability, also the tiny ones that the model gives to texts that no author writes. If that is the reason, such texts must be frequent at 2, and the other answers must lie on the line. Both hold.

# %% [markdown] lang="zh"
# 到 2 时为什么掉到线下？温度会抬高所有的小概率；有些文本没有哪个作者会写，模型却给它们留了一点点概率，这点概率也跟着抬高。假如原因就在这里，那么到 2 时，这样的文本应该很多，而其余的回答应该还在线上。两条都成立。

# %%
stray = {}
for temperature in (1, 2):
    rows = written[temperature]
    others = [judge(*row).exact for row in rows if row in task.log_conditional]
    stray[temperature] = wilson(len(rows) - len(others), len(rows))
    print(f"temperature {temperature}: written by no author {stray[temperature]}")
others = wilson(sum(others), len(others))
print(f"exact at 2 among the others {others}, on the line {curve[-1][0]:.3f}")
assert stray[1].value < 0.02 and stray[2].value > 0.15
assert others.low - 0.02 < curve[-1][0] < others.high + 0.02

# %% [markdown] lang="en"
# So a sentence such as “the model is right in 75 % of cases” says little without the temperature. The weights behind both ends of the left panel are the same.

# %% [markdown] lang="zh"
# 所以，不说明温度，「模型有 75% 答对」这种话没有多少内容。左图两头用的是同一套权重。

# %% [markdown] lang="en"
# ## How far apart are two samplers
# Temperature 0.7 and temperature 1 make two samplers out of one model. How different are they? From chapter 6 on, the answer limits how far training may move a model. The measure is the KL divergence ([Kullback & Leibler 1951](https://doi.org/10.1214/aoms/1177729694)). For two distributions $P$ and $Q$ over the same outcomes $y$
#
# $$\mathrm{KL}(P\,\|\,Q)=\sum_y P(y)\log\frac{P(y)}{Q(y)}=\mathbb{E}_{y\sim P}\bigl[\log P(y)-\log Q(y)\bigr].$$
#
# With the natural logarithm the unit is the *nat*. It is 0 when $P=Q$, else above 0. And it has a direction: outcomes are drawn from the first, $P$. Chapter 3 met it with the data as $P$ and the model as $Q$; now both are samplers.
#
# Three outcomes by hand: $P=(0.5,0.25,0.25)$, $Q=(0.8,0.1,0.1)$. Take the two equal outcomes together: $\mathrm{KL}(P\,\|\,Q)=0.5\log\frac{0.5}{0.8}+0.5\log\frac{0.25}{0.1}=-0.235+0.458=0.223$, and $\mathrm{KL}(Q\,\|\,P)=0.8\log\frac{0.8}{0.5}+0.2\log\frac{0.1}{0.25}=0.376-0.183=0.193$. If $Q$ gives 0 to something that $P$ draws, as top-k does, $\mathrm{KL}(P\,\|\,Q)$ is infinite.
#
# For one next token the sum has 22 terms, so the exact value is at hand, and an estimate can be held against it: draw tokens from $P$ and average $\log P-\log Q$. Below, $P$ is the first token after `S54=` at temperature 0.7 and $Q$ the same at 1.

# %% [markdown] lang="zh"
# ## 两个采样器相距多远
# 同一个模型，温度 0.7 和温度 1 是两个采样器。它们差多少？从第 6 章起，训练能把模型推开多远，就靠这个差别来限制。量它的是 KL 散度（KL divergence，[Kullback & Leibler 1951](https://doi.org/10.1214/aoms/1177729694)）。设 $P$、$Q$ 是同一批结果 $y$ 上的两个分布，
#
# $$\mathrm{KL}(P\,\|\,Q)=\sum_y P(y)\log\frac{P(y)}{Q(y)}=\mathbb{E}_{y\sim P}\bigl[\log P(y)-\log Q(y)\bigr]$$
#
# 对数取自然对数，单位就是**奈特**（nat）。$P=Q$ 时为 0，否则大于 0。它有方向：$y$ 从前一个分布 $P$ 里抽。第 3 章见过它，那里 $P$ 是数据，$Q$ 是模型；这里两个都是采样器。
#
# 用三个结果手算：$P=(0.5,0.25,0.25)$，$Q=(0.8,0.1,0.1)$。相同的两项合在一起算：$\mathrm{KL}(P\,\|\,Q)=0.5\log\frac{0.5}{0.8}+0.5\log\frac{0.25}{0.1}=-0.235+0.458=0.223$，而 $\mathrm{KL}(Q\,\|\,P)=0.8\log\frac{0.8}{0.5}+0.2\log\frac{0.1}{0.25}=0.376-0.183=0.193$。如果 $P$ 会抽到的某个结果，$Q$ 给了 0（top-k 就会这样），$\mathrm{KL}(P\,\|\,Q)$ 就是无穷大。
#
# 只看下一个词元，求和不过 22 项，精确值算得出来，正好用来检验估计：从 $P$ 里抽词元，对 $\log P-\log Q$ 求平均。下面 $P$ 是 `S54=` 之后的第一个词元在温度 0.7 下的分布，$Q$ 是温度 1 下的。

# %%
def kl(p, q):
    """KL(p || q) in nats of two rows of probabilities, both above 0 where p is."""
    kept = p > 0
    return float((p[kept] * (p[kept] / q[kept]).log()).sum())


p, q = torch.tensor([0.5, 0.25, 0.25]), torch.tensor([0.8, 0.1, 0.1])
assert [round(x, 3) for x in (0.5 * math.log(0.5 / 0.8), 0.5 * math.log(0.25 / 0.1), kl(p, q))] == [-0.235, 0.458, 0.223]
assert [round(x, 3) for x in (0.8 * math.log(0.8 / 0.5), 0.2 * math.log(0.1 / 0.25), kl(q, p))] == [0.376, -0.183, 0.193]
assert kl(p, p) == 0 and kl(p, next_token_probs(q[None].log(), top_k=1)[0]) == math.inf
p, q = next_of_model("S54=", 0.7)[0], next_of_model("S54=", 1.0)[0]
for name, (first, second) in {"KL(0.7 || 1)": (p, q), "KL(1 || 0.7)": (q, p)}.items():
    uniform = torch.rand(5000, generator=torch.Generator().manual_seed(2)).to(device)
    drawn = draw(first.expand(5000, -1), uniform)
    estimate = mean_interval((first[drawn].log() - second[drawn].log()).cpu())
    print(f"{name}  exact {kl(first, second):.3f}   estimate {estimate}")
    assert estimate.low - 0.005 < kl(first, second) < estimate.high + 0.005

# %% [markdown] lang="en"
# A whole answer has too many outcomes for the sum, but the mean needs only draws. The log-probability of an answer is the sum over its tokens; at temperature $\tau$ every row of logits is divided by $\tau$ first. `score` does this for $\tau=1$. Prompts come from the population, so the result is an average over prompts, in nats an answer. The population redrawn at both temperatures gives a value to hold it against.

# %% [markdown] lang="zh"
# 整个回答的可能太多，没法一一求和；求平均却只要抽样。一个回答的对数概率，是各词元的对数概率之和；温度为 $\tau$ 时，每一行 logits 先除以 $\tau$。`score` 做的是 $\tau=1$ 的情形。提示抽自作者群体，所以结果是对提示的平均，单位是每个回答多少奈特。让作者群体在这两个温度下重抽，也能算出一个精确值，拿来对照。

# %%
def answer_logps(prompts, completions, temperature):
    """log p(completion | prompt), (N,), in nats, when every token is drawn at this temperature."""
    ids, mask = tokenizer.collate(prompts, completions)
    ids, mask = ids.to(device), mask.to(device)
    return sequence_logps(gen(ids) / temperature, ids, mask).cpu()


for first, second in ((0.7, 1.0), (1.0, 0.7)):
    completions = generate(gen, prompts, temperature=first, seed=6)
    gaps = answer_logps(prompts, completions, first) - answer_logps(prompts, completions, second)
    estimate = mean_interval(gaps)
    of_authors = population_at(first), population_at(second)
    exact = (mass_of_prompt * np.exp(of_authors[0])) @ (of_authors[0] - of_authors[1])
    print(f"KL({first} || {second})  population {exact:.3f}   model {estimate}")
    assert estimate.low - 0.02 < exact < estimate.high + 0.02
assert torch.allclose(answer_logps(prompts, completions, 1.0), score(gen, prompts, completions), atol=1e-4)

# %% [markdown] lang="en"
# ## On the command line
# `dpo-core` does what this chapter did. The first command draws answers and judges each; the second prints the table of shares above, from the same prompts and the same seed; `--temperature 0` makes both greedy.
#
# ```bash
# dpo-core generate gen 54 -12 --n 2
# dpo-core evaluate gen --n 2000 --seed 4
# ```

# %% [markdown] lang="zh"
# ## 命令行
# 这一章做的事，`dpo-core` 都能做。第一条命令抽回答并逐个评判；第二条用同样的提示、同样的种子，打印上面那张比例表；加上 `--temperature 0`，两条都换成贪心解码。
#
# ```bash
# dpo-core generate gen 54 -12 --n 2
# dpo-core evaluate gen --n 2000 --seed 4
# ```

# %%
assert main(["generate", "gen", "54", "-12", "--n", "2"]) == 0

# %% [markdown] lang="en"
# > **What the toy hides.** A sum can be checked. A summary or a piece of advice cannot; people judge it, or another model does. A model as a judge is cheap and biased: [Zheng et al. 2023](https://arxiv.org/abs/2306.05685) describe a liking for the answer in a certain position and for the longer one. No interval contains such an error. More answers make it narrower around the wrong number. Real answers have hundreds of tokens: greedy decoding then tends to repeat itself ([Holtzman et al. 2020](https://arxiv.org/abs/1904.09751)), and the cache can outgrow the model. The first Llama of 7B, with 32 layers, width 4,096 and 2 bytes a number, keeps 524,288 bytes for each position, 2 GiB for a row of 4,096 positions: 7 such rows take more than its weights; [Kwon et al. 2023](https://arxiv.org/abs/2309.06180) manage it in pages, as an operating system does.
#
# > **To remember.** Logits become probabilities, a number $u$ becomes a token, and a cache saves rereading without changing the answer. A share is a random number: give it an interval, and near 0 or 1 give it Wilson's. Sampling at temperature 1 shows the population that wrote the data, greedy decoding the majority at every fork. pass@k says what $k$ tries are worth. $\mathrm{KL}(P\,\|\,Q)$, in nats, is the mean of $\log P-\log Q$ over draws from $P$.

# %% [markdown] lang="zh"
# > **玩具没告诉你的。** 算式可以检查，摘要和建议没有判分程序，只能由人来评，或由另一个模型来评。让模型当裁判便宜，但有偏差：[Zheng et al. 2023](https://arxiv.org/abs/2306.05685) 写到，它会偏爱放在某个位置的回答，也偏爱长的。这种误差，任何区间都不包含；抽得再多，也只是在错的数字周围越收越窄。真实的回答有几百个词元：贪心解码容易翻来覆去说同样的话（[Holtzman et al. 2020](https://arxiv.org/abs/1904.09751)），缓存则会比模型还占内存。最初的 7B Llama 有 32 层，宽 4,096，每个数 2 字节，每个位置要存 524,288 字节，一行 4,096 个位置就是 2 GiB：7 行下来，已经超过它的全部权重；[Kwon et al. 2023](https://arxiv.org/abs/2309.06180) 像操作系统那样按页来管理它。
#
# > **记住。** logits 变成概率，一个数 $u$ 变成一个词元；缓存省去重读，不改变回答。比例是随机数，要配区间；靠近 0 或 1 时，用 Wilson 的区间。温度 1 的采样照出写数据的群体，贪心解码照出每个岔口上的多数。抽 $k$ 次值多少，由 pass@k 来说。$\mathrm{KL}(P\,\|\,Q)$ 以奈特计，是从 $P$ 里抽样时 $\log P-\log Q$ 的平均。

# %%
assert 2 * 32 * 4096 * 2 == 524_288 and 524_288 * 4096 == 2 * 2**30  # keys and values, layers, width, bytes
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
# (a) and (b) are the two formulas, 20 times. In (c) only the answers' own positions are multiplied by 20. The last token of an answer is not read.
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
# (a) 和 (b) 就是那两个公式，各乘 20。(c) 里只有回答自己的位置乘 20。回答的最后一个词元不必读。
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
# Put $\hat\theta=1$ into the inequality of the text: $(1-\theta)^2\le z^2\theta(1-\theta)/n$. Divide by $1-\theta$.
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
# 把 $\hat\theta=1$ 代进正文的不等式：$(1-\theta)^2\le z^2\theta(1-\theta)/n$。两边除以 $1-\theta$。
#
# </details>

# %% tags=["exercise"]
answer_4_3 = ...  # a whole number
check("4.3", answer_4_3)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# $1-\theta\le z^2\theta/n$ gives the lower bound $\theta=n/(n+z^2)$. It exceeds 0.99 when $n>99z^2=380.3$. A thousand answers without a fault do not prove 99.7 %.
#
# ```python
# answer_4_3 = math.floor(99 * 1.96**2) + 1
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 由 $1-\theta\le z^2\theta/n$ 得下界 $\theta=n/(n+z^2)$。要它大于 0.99，须 $n>99z^2=380.3$。连对一千个，也还证明不了 99.7%。
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
    """KL(P || Q) of each sequence, (B,), summed over the forks of its completion tokens."""
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
# ## References
# - [Brown et al. 2001](https://doi.org/10.1214/ss/1009213286): coverage of intervals for a share.
# - [Chen et al. 2021](https://arxiv.org/abs/2107.03374): pass@k and its unbiased estimate.
# - [Fan et al. 2018](https://arxiv.org/abs/1805.04833): top-k sampling.
# - [Holtzman et al. 2020](https://arxiv.org/abs/1904.09751): top-p sampling, and what greedy decoding does to long texts.
# - [Kullback & Leibler 1951](https://doi.org/10.1214/aoms/1177729694): the divergence that bears their names.
# - [Kwon et al. 2023](https://arxiv.org/abs/2309.06180): the memory of the KV cache.
# - [Wilson 1927](https://doi.org/10.1080/01621459.1927.10502953): the interval.
# - [Zheng et al. 2023](https://arxiv.org/abs/2306.05685): models as judges.

# %% [markdown] lang="zh"
# ## 参考文献
# - [Brown et al. 2001](https://doi.org/10.1214/ss/1009213286)：各种比例区间的覆盖率。
# - [Chen et al. 2021](https://arxiv.org/abs/2107.03374)：pass@k 及其无偏估计。
# - [Fan et al. 2018](https://arxiv.org/abs/1805.04833)：top-k 采样。
# - [Holtzman et al. 2020](https://arxiv.org/abs/1904.09751)：top-p 采样，以及贪心解码会把长文本写成什么样。
# - [Kullback & Leibler 1951](https://doi.org/10.1214/aoms/1177729694)：以两人命名的散度。
# - [Kwon et al. 2023](https://arxiv.org/abs/2309.06180)：KV 缓存的内存。
# - [Wilson 1927](https://doi.org/10.1080/01621459.1927.10502953)：区间的出处。
# - [Zheng et al. 2023](https://arxiv.org/abs/2306.05685)：让模型当裁判。
