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
# # 2 A Llama from scratch

# %% [markdown] lang="zh"
# # 2 从零写一个 Llama

# %% [markdown] lang="en"
# > **In this chapter.** You will write a Llama in some fifty lines of plain torch, follow one row of ids through it to its scores, compute attention and RoPE by hand, count every parameter, and say why it *is* a Llama: its logits equal those of Hugging Face's implementation but for rounding. You need [chapter 1](01_strings.ipynb), matrix products, and sine and cosine. 29 minutes to read, and 4 more for the section marked ⋆; 10 seconds to run.

# %% [markdown] lang="zh"
# > **本章。** 读完后，你能用五十来行普通的 torch 代码写出一个 Llama；能跟着一行编号穿过它，一直走到分数；能手算注意力和 RoPE，能数清每一个参数；还能说出凭什么说它就是 Llama：它的 logits 与 Hugging Face 的实现相等，只差舍入。需要读过[第 1 章](01_strings.ipynb)，会矩阵乘法，还记得正弦和余弦。阅读 29 分钟，带 ⋆ 的一节另需 4 分钟；运行 10 秒。

# %%
import json
import math
from pathlib import Path
from unittest.mock import patch

import torch
from checks import check
from checks.ch02 import symptoms
from data.llama_plan import plan
from data.llama_reference import loud_model

from dpo_core import CharTokenizer, KVCache, load_pretrained
from dpo_core.model import apply_rope, grid_layout, rope_tables
from dpo_core.plotting import COLORS, INK, figure, picture
from dpo_core.training import default_device

# %% [markdown] lang="en"
# ## A function from ids to scores
# A language model is a function. In go the ids of a text so far. Out come 22 numbers, one for each token of the vocabulary: the larger the number, the more likely the token comes next. These numbers are called **logits**. They become probabilities by the **softmax**: exponentiate, then divide by the sum,
#
# $$p_v=\frac{e^{z_v}}{\sum_{u}e^{z_u}},$$
#
# where $z_v$ is the logit of token $v$ and $p_v$ its probability. Try it on three logits: $\ln 6$, $\ln 3$, $0$ become $6$, $3$, $1$, and after the division $0.6$, $0.3$, $0.1$. Adding one number to all logits changes nothing, for it cancels in the fraction.
#
# This chapter opens the function. Chapter 3 will train one; we borrow the result, so that what we see inside has a meaning. The letters for sizes are those of the library:
#
# | letter | counts | in our model |
# |---|---|---|
# | $B$ | rows of the batch | any |
# | $T$ | positions in a row | up to 128 |
# | $V$ | tokens in the vocabulary | 22 |
# | $D$ | numbers that describe one position: the *width* | 64 |
# | $H$ | attention heads | 4 |
# | $K$ | width of one head, $D=H\cdot K$ | 16 |
# | $M$ | width inside the MLP | 64 |
#
# $V$, $D$, $H$, $K$ and $M$ are not learnt; somebody chose them before training began. Such a choice is called a **hyper-parameter**.
#
# We give the model the row `S54=27+2` and print the two most probable next tokens after each of its eight.
#
# > **Before you run it.** After which token is the model surest of the next one: after `=`, after the `7` of 27, or after the last `2`?
#
# <details><summary>Answer</summary>
#
# After the `7`. A sum must go on with `+`, since 27 is not yet 54. After `=` many first digits are right. After the last `2` only `7` completes the sum; but authors slip, and some write a third number.
#
# </details>

# %% [markdown] lang="zh"
# ## 从编号到分数的函数
# 语言模型是一个函数。输入是一段文本到目前为止的编号，输出是 22 个数，词表里每个词元一个：数越大，下一个就越可能是它。这些数叫 **logits**。要变成概率，用 **softmax**：先取指数，再除以总和，
#
# $$p_v=\frac{e^{z_v}}{\sum_{u}e^{z_u}}$$
#
# 其中 $z_v$ 是词元 $v$ 的 logit，$p_v$ 是它的概率。拿三个 logits 试试：$\ln 6$、$\ln 3$、$0$，取指数得 $6$、$3$、$1$，相除得 $0.6$、$0.3$、$0.1$。给所有 logits 加上同一个数，结果不变，因为它在分子分母里约掉了。
#
# 这一章就把这个函数拆开。模型到第 3 章才训练，这里先借一个训练好的来用，这样里面看到的东西才有意义。表示大小的字母与程序库一致：
#
# | 字母 | 数的是什么 | 我们的模型 |
# |---|---|---|
# | $B$ | 批次的行数 | 任意 |
# | $T$ | 一行的位置数 | 最多 128 |
# | $V$ | 词表的词元数 | 22 |
# | $D$ | 描述一个位置用几个数，即*宽度* | 64 |
# | $H$ | 注意力头数 | 4 |
# | $K$ | 一个头的宽度，$D=H\cdot K$ | 16 |
# | $M$ | MLP 内部的宽度 | 64 |
#
# $V$、$D$、$H$、$K$、$M$ 不是学出来的，是训练开始之前由人选定的。这样选定的数叫**超参数**（hyper-parameter）。
#
# 喂给它一行 `S54=27+2`，每读完一个词元，就看它觉得下一个最可能是哪两个。
#
# > **先猜一猜。** 读到哪里，模型对下一个词元最有把握：读完 `=`，读完 27 的 `7`，还是读完最后的 `2`？
#
# <details><summary>答案</summary>
#
# 读完 `7`。27 还不到 54，后面只能接 `+`。读完 `=`，许多数字开头都行得通。读完最后的 `2`，要凑够数只能写 `7`；可是作者会失误，也有人还要写第三个数。
#
# </details>

# %%
torch.set_grad_enabled(False)  # nothing is trained here
device, tokenizer = default_device(), CharTokenizer()
gen = load_pretrained("gen").to(device)


def rows(*texts):
    ids = [tokenizer.encode(text) for text in texts]
    return torch.tensor(ids, device=device)  # (B, T)


def gap(a, b):
    """The largest difference between two tensors."""
    return (a - b).abs().max().item()


text = "S54=27+2"
ids = rows(text)
logits = gen(ids)  # (B, T, V)
probs = logits.softmax(-1)
for t in range(8):
    best = [f"{tokenizer.decode([v])} {p:.2f}" for p, v in zip(*probs[0, t].topk(2))]
    print(f"{text[: t + 1]:9}", *best, sep="  ")

# %% tags=["proof"] checked_en="Checked: the softmax by hand; a constant added to all logits; what the text says of this row." checked_zh="已验证：手算的 softmax；给所有 logits 加同一个数；正文关于这一行的说法。"
shares = torch.tensor([6.0, 3.0, 1.0]).log().softmax(-1)
assert gap(shares, torch.tensor([0.6, 0.3, 0.1])) < 1e-6
assert logits.shape == (1, 8, 22)
assert (probs.sum(-1) - 1).abs().max() < 1e-5
assert gap((logits + 5).softmax(-1), probs) < 1e-5
token_7, plus = (tokenizer.encode(c)[0] for c in "7+")
assert probs[0, 7].argmax() == token_7 and probs[0, 7].max() > 0.5
assert probs[0, 5, plus] > 0.95 and probs[0, 3].max() < 0.5
assert probs[0].amax(-1).argmax() == 5

# %% [markdown] lang="en"
# The first three lines mean nothing: the model was trained to write completions, never prompts. After `S54=` it spreads its bets. After `S54=27` it is almost sure of `+`, and at the end it puts most of its probability on `7`.
#
# ## The residual stream
# Before the parts, the plan. Inside, each position carries a vector of $D$ numbers. It begins as a row of a table: token 9 gets row 9. This look-up is the **embedding**. The vector then passes through four layers, or **blocks**, and each block adds to it twice. Nothing is ever overwritten. This running sum is called the **residual stream** ([Elhage et al. 2021](https://transformer-circuits.pub/2021/framework/index.html)): every part reads from it and adds its finding to it. At the end a last matrix turns $D$ numbers into $V$ logits.

# %% [markdown] lang="zh"
# 前三行没有意义：模型只学过写回答，没学过写提示。读到 `S54=`，它四处下注。读到 `S54=27`，它几乎认定是 `+`；到了末尾，它把大部分概率给了 `7`。
#
# ## 残差流
# 先看图纸，再看部件。在模型内部，每个位置带着一个向量，有 $D$ 个数。它最初是一张表里的一行：编号 9 的词元，取第 9 行。这一步查表叫**嵌入**（embedding）。向量随后穿过四层，每一层也叫一个**块**（block），往上加两次，从不覆盖旧的。这个不断累加的和，叫**残差流**（residual stream，[Elhage et al. 2021](https://transformer-circuits.pub/2021/framework/index.html)）：每个部件都从里面读，再把算出的东西加回去。最后用一个矩阵把 $D$ 个数变成 $V$ 个 logits。


# %% tags=["figure"] alt_en="Two columns, read upwards. Left, the whole model: token ids, embedding, four blocks, RMSNorm, output matrix, logits. Right, one block enlarged: a vertical line, the residual stream; a branch through RMSNorm, queries keys and values, RoPE, mask and softmax, mixing of values, back to a plus sign; a second branch through RMSNorm, gate and up, down, back to a plus sign. Each box has its shape." alt_zh="两列，从下往上读。左：整个模型，依次是词元编号、嵌入、四个块、RMSNorm、输出矩阵、logits。右：放大的一个块，一条竖线是残差流；一条支路经过 RMSNorm，查询、键、值，RoPE，掩码和 softmax，混合各个值，回到一个加号；第二条支路经过 RMSNorm，gate 和 up，down，回到一个加号。每个方框里写着形状。"
drawn = picture(plan)

# %% [markdown] lang="en"
# **Figure 2.1.** The whole model on the left; on the right one of its four blocks, opened, with the shape that leaves each part. Read both upwards. A block adds to the stream twice: what attention reads from other positions, and what the MLP works out at each position alone.
#
# The sections that follow write these boxes one after the other, from the inside out. What we need of the library is the trained numbers. They come as a dictionary from names to tensors: the two tables at the ends, the last norm, and the rest in the blocks:

# %% [markdown] lang="zh"
# **图 2.1** 左边是整个模型；右边把四个块里的一个拆开，每个部件标着它输出的形状。两边都从下往上读。一个块往残差流里加两次：一次是注意力从别的位置读来的，一次是 MLP 在每个位置上独自算出来的。
#
# 下面几节由里到外，把这些方框一个个写出来。从程序库里只借一样东西：训练好的数。它们装在一本字典里，从名字查到张量：头尾两张表，最后一个 norm，其余的都在各个块里：

# %%
parameters = gen.state_dict()


def layer_of(parameters, i):
    """The parameters of block i, by their names inside the block."""
    start = f"model.layers.{i}."
    names = [name for name in parameters if name.startswith(start)]
    return {name.removeprefix(start): parameters[name] for name in names}


first = layer_of(parameters, 0)
for name, tensor in [*parameters.items()][:1] + [*first.items()]:
    print(f"{name:34} {tuple(tensor.shape)}")
table = parameters["model.embed_tokens.weight"]  # (V, D)
assert torch.equal(gen.model.embed_tokens(ids), table[ids])
one_hot = torch.eye(22, device=device)[ids]  # (B, T, V)
assert gap(one_hot @ table, table[ids]) < 1e-6

# %% [markdown] lang="en"
# The first line is the embedding, and the last assertion says what a look-up is to a mathematician: a product with a row that is one in a single place and zero elsewhere (*one-hot*).
#
# ## RMSNorm: one size for every vector
# A running sum grows: in our model, from the embedding to the last block, to more than ten times its length. A part that reads it wants to see a direction, not a size that differs from block to block. So each part looks at the stream through **RMSNorm** ([Zhang & Sennrich 2019](https://arxiv.org/abs/1910.07467)): divide the vector by the root of the mean of its squares, then multiply each coordinate by a learnt weight,
#
# $$\mathrm{RMSNorm}(x)=w\odot\frac{x}{\sqrt{\frac1D\sum_{i=1}^{D}x_i^2+\varepsilon}},$$
#
# where $w$ has $D$ numbers, $\odot$ multiplies coordinate by coordinate, and $\varepsilon=10^{-6}$ keeps a zero vector from dividing by zero.
#
# By hand, with $w=1$: take $x=(1,-1,7,7)$. The squares are 1, 1, 49, 49; their mean is 25; its root is 5. The result is $(0.2,-0.2,1.4,1.4)$. Ten times $x$ gives the same. In code it is one line.

# %% [markdown] lang="zh"
# 第一行就是嵌入。最后一条断言说的是，在数学上查表是什么：拿一行独热（one-hot）向量，也就是只有一格为一、其余全为零的一行，去乘这张表。
#
# ## RMSNorm：把向量缩放到同样大小
# 一路累加，向量会越来越长：在我们的模型里，从嵌入到最后一个块，长到十倍以上。读它的部件要看的是方向；大小各层不一，只会添乱。所以每个部件都透过 **RMSNorm**（[Zhang & Sennrich 2019](https://arxiv.org/abs/1910.07467)）去看残差流：先求各坐标平方的平均数，开方，拿它去除整个向量；再逐坐标乘上学出来的权重，
#
# $$\mathrm{RMSNorm}(x)=w\odot\frac{x}{\sqrt{\frac1D\sum_{i=1}^{D}x_i^2+\varepsilon}}$$
#
# 其中 $w$ 有 $D$ 个数，$\odot$ 是逐坐标相乘，$\varepsilon=10^{-6}$ 防止零向量除以零。
#
# 取 $w=1$，手算 $x=(1,-1,7,7)$：平方是 1、1、49、49，平均 25，开方得 5，结果是 $(0.2,-0.2,1.4,1.4)$。把 $x$ 放大十倍，结果不变。写成代码，一行就够。


# %%
def rms_norm(x, weight, eps=1e-6):
    return weight * x / (x.square().mean(-1, keepdim=True) + eps).sqrt()


x, ones = torch.tensor([1.0, -1.0, 7.0, 7.0]), torch.ones(4)
assert gap(rms_norm(x, ones), torch.tensor([0.2, -0.2, 1.4, 1.4])) < 1e-6
assert gap(rms_norm(10 * x, ones), rms_norm(x, ones)) < 1e-6
stream = table[ids]  # (B, T, D)
library = gen.model.layers[0].input_layernorm(stream)
ours = rms_norm(stream, first["input_layernorm.weight"])
assert gap(ours, library) < 1e-5

# %% [markdown] lang="en"
# The last line is the pattern of this chapter: our version, the library's version, and the gap between them.
#
# ## Attention: reading from other positions
# To continue `S54=27+2` one must know the 4 and the 7, and they stand at other positions. **Attention** is how one position reads from others. Each position makes three vectors of width $K$ from its own: a **query** $q$ (what I look for), a **key** $k$ (what I can be found by) and a **value** $v$ (what I hand over).
#
# The score of position $t$ for position $j$ is the dot product $q_t\cdot k_j$. A softmax over all $j\le t$ turns scores into weights $a_{tj}$, and position $t$ receives the weighted mean $o_t$ of the values ([Vaswani et al. 2017](https://arxiv.org/abs/1706.03762)):
#
# $$a_{tj}=\frac{e^{q_t\cdot k_j/\sqrt K}}{\sum_{i\le t}e^{q_t\cdot k_i/\sqrt K}},\qquad o_t=\sum_{j\le t}a_{tj}\,v_j.$$
#
# The root is there because a sum of $K$ products of independent numbers of size 1 has size about $\sqrt K$. With the root, such scores have one size in heads of any width; without it, the wider the head, the nearer the softmax comes to all-or-nothing.
#
# By hand: three positions of width 2, $x_0=(1,0)$, $x_1=(0,1)$, $x_2=(1,1)$. Keys and values are the vectors themselves. The queries are $q_0=\sqrt2\,(0,\ln2)$, $q_1=\sqrt2\,(\ln3,0)$, $q_2=\sqrt2\,(\ln3,\ln2)$, so that $\sqrt K=\sqrt2$ cancels.
#
# - Position 0 sees itself only: weight 1, result $(1,0)$.
# - Position 1 has scores $\ln3$ and $0$. Exponentiated: 3 and 1. Weights $\frac34,\frac14$; result $(\frac34,\frac14)$.
# - Position 2 has scores $\ln3$, $\ln2$, $\ln6$. Exponentiated: 3, 2, 6, in all 11. The result is $\frac{3}{11}(1,0)+\frac{2}{11}(0,1)+\frac{6}{11}(1,1)=(\frac{9}{11},\frac{8}{11})$.
#
# As code: score, hide what must not be seen, softmax. `hidden` is a table of $(T,T)$ truth values, true where $j>t$; a score of $-\infty$ becomes weight 0.

# %% [markdown] lang="zh"
# 最后一行是这一章的套路：我们写的一份，程序库的一份，再看两者相差多少。
#
# ## 注意力：从别的位置读
# 要续写 `S54=27+2`，得知道前面的 4 和 7，可它们在别的位置上。**注意力**（attention）就是一个位置向别的位置读取的办法。每个位置由自己的向量生出三个宽为 $K$ 的向量：**查询**（query）$q$，我要找什么；**键**（key）$k$，凭什么找到我；**值**（value）$v$，找到了我给什么。
#
# 位置 $t$ 给位置 $j$ 打的分，是内积 $q_t\cdot k_j$。对所有 $j\le t$ 做 softmax，分数变成权重 $a_{tj}$；位置 $t$ 收到的，是各个值的加权平均 $o_t$（[Vaswani et al. 2017](https://arxiv.org/abs/1706.03762)）：
#
# $$a_{tj}=\frac{e^{q_t\cdot k_j/\sqrt K}}{\sum_{i\le t}e^{q_t\cdot k_i/\sqrt K}},\qquad o_t=\sum_{j\le t}a_{tj}\,v_j$$
#
# 为什么要除以根号？取 $K$ 对互相独立、大小为 1 的数，每对相乘，再加起来，和的大小约为 $\sqrt K$。除以根号，不管头有多宽，这样的分数都一样大；要是不除，头越宽，softmax 就越接近非此即彼。
#
# 手算一遍。三个位置，宽度为 2：$x_0=(1,0)$，$x_1=(0,1)$，$x_2=(1,1)$。键和值就取向量本身。查询取 $q_0=\sqrt2\,(0,\ln2)$，$q_1=\sqrt2\,(\ln3,0)$，$q_2=\sqrt2\,(\ln3,\ln2)$，好让 $\sqrt K=\sqrt2$ 约掉。
#
# - 位置 0 只看得到自己：权重 1，结果 $(1,0)$。
# - 位置 1 的分数是 $\ln3$ 和 $0$，取指数得 3 和 1，权重 $\frac34$、$\frac14$，结果 $(\frac34,\frac14)$。
# - 位置 2 的分数是 $\ln3$、$\ln2$、$\ln6$，取指数得 3、2、6，合计 11。结果是 $\frac{3}{11}(1,0)+\frac{2}{11}(0,1)+\frac{6}{11}(1,1)=(\frac{9}{11},\frac{8}{11})$。
#
# 写成代码：打分，遮住不许看的，做 softmax。`hidden` 是一张 $(T,T)$ 的真假表，在 $j>t$ 处为真；分数改成 $-\infty$，权重就是 0。


# %%
def look(q, k, hidden):
    """The weights of each position: (..., T, T) from (..., T, K) queries and keys."""
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    return scores.masked_fill(hidden, -math.inf).softmax(-1)


x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])  # (3, 2)
ln2, ln3 = math.log(2), math.log(3)
q = math.sqrt(2) * torch.tensor([[0, ln2], [ln3, 0], [ln3, ln2]])
future = torch.ones(3, 3).triu(1).bool()  # above the diagonal: j > t
a = look(q, x, future)
print(a)
by_hand = torch.tensor([[1, 0], [3 / 4, 1 / 4], [9 / 11, 8 / 11]])
assert gap(a @ x, by_hand) < 1e-6

# %% tags=["proof"] checked_en="Checked on random queries and keys of width 4 to 256: without the root the largest of eight weights grows towards 1, with it it stays." checked_zh="在宽 4 到 256 的随机查询和键上验证：不除以根号，八个权重里最大的一个越来越接近 1；除以根号，它不变。"
largest = []  # of eight weights, on average: without the root, with it
for width in (4, 16, 64, 256):
    generator = torch.Generator().manual_seed(0)
    queries, keys = torch.randn(2, 16_000, width, generator=generator)
    raw = (queries * keys).sum(-1).view(2000, 8)
    assert abs(raw.std() / math.sqrt(width) - 1) < 0.05
    scaled = raw / math.sqrt(width)
    largest.append([z.softmax(-1).amax(-1).mean() for z in (raw, scaled)])
without, with_root = torch.tensor(largest).T
assert (without.diff() > 0).all() and without[-1] > 0.9
assert with_root.max() - with_root.min() < 0.02

# %% [markdown] lang="en"
# ## The causal mask
# In the sum above $j$ runs up to $t$ only: a position must not read its own future. This is the **causal mask**. We need it for training. One pass over a text of $T$ tokens asks $T-1$ questions at once ([chapter 1](01_strings.ipynb)), and the answer to each stands one place to the right. Were it visible, the model would learn to copy it.
#
# It also gives something for writing: what a position has computed stays as it is, whatever is added behind. Try it on the three positions. Replace $x_2$ by something else and see which of the three results move.

# %% [markdown] lang="zh"
# ## 因果掩码
# 上面的求和里 $j$ 只到 $t$ 为止：一个位置不许读自己的未来。这就是**因果掩码**（causal mask）。训练离不开它。$T$ 个词元的文本过一遍模型，就是一次答 $T-1$ 道题（[第 1 章](01_strings.ipynb)），每道题的答案就在右边一格。要是看得见，模型学会的就只是照抄。
#
# 生成时也用得上它：一个位置算好的结果，后面不论再添什么都不变。在三个位置上试试：把 $x_2$ 换掉，看三个结果里哪几个会动。

# %%
moved = torch.tensor([[1.0, 0.0], [0.0, 1.0], [5.0, -3.0]])  # another x_2
nothing = torch.zeros(3, 3).bool()
for name, hidden in (("causal mask", future), ("no mask", nothing)):
    change = look(q, moved, hidden) @ moved - look(q, x, hidden) @ x
    print(f"{name:12}", *(f"{c:.2f}" for c in change.abs().amax(-1)))
    assert (change[:2].abs().amax(-1) > 0.1).all() == (name == "no mask")
    assert (change[:2] == 0).all() == (name == "causal mask")

# %% [markdown] lang="en"
# ## RoPE: where a token stands
# Nothing so far knows the order of what it reads. Attention as written reads a bag: exchange $x_0$ and $x_1$, and position 2 receives the same mean. For sums that will not do; `27` is not `72`.
#
# **Rotary position embedding**, RoPE ([Su et al. 2021](https://arxiv.org/abs/2104.09864)), tells a vector its position by turning it. Take two coordinates of a query as a point in the plane and turn it by the angle $m\theta$, where $m$ is its position; turn the key at position $n$ by $n\theta$. Write $R_m$ for the turn by $m\theta$. A dot product does not change when both vectors are turned together, so turn both back by $m\theta$:
#
# $$(R_m\,q)\cdot(R_n\,k)=q\cdot(R_{n-m}\,k).$$
#
# Only the distance $n-m$ is left. By hand, with $\theta=90°$, $q=(1,0)$ and $k=(0,1)$: at distance 0 the score is $q\cdot k=0$. If the key stands one place before the query, $k$ is turned by $-90°$ into $(1,0)$: score 1. Two places before: $(0,-1)$, score 0. Three places: $(-1,0)$, score $-1$. This pair has become a detector for "the token just before me".
#
# One pair repeats itself after a full turn. So a head of width $K$ has $K/2$ pairs, and pair $i$ (counted from 0) turns by $\theta_i=10000^{-2i/K}$ for each position. For $K=16$ that is 1, 0.316, 0.1, ... radians: the first pair is back after 6.3 positions, the last after about 20,000. Fast hands and slow hands, as on a clock.
#
# Pair $i$ is made of the coordinates $i$ and $i+K/2$, so the two halves of a vector are the two sides of its pairs. Any fixed pairing would do, but a **checkpoint**, a model as it was stored, remembers which one it was trained with (exercise 2.3).

# %% [markdown] lang="zh"
# ## RoPE：词元站在哪里
# 到此为止，谁都不知道读到的东西孰先孰后。注意力读的是一袋词元：把 $x_0$ 和 $x_1$ 对调，位置 2 收到的加权平均还是老样子。做算术这可不行，`27` 不是 `72`。
#
# **旋转位置编码**（rotary position embedding，RoPE，[Su et al. 2021](https://arxiv.org/abs/2104.09864)）的办法是：把向量转一个角度，让它带上自己的位置。取查询的两个坐标，看成平面上的一个点，转 $m\theta$，$m$ 是查询的位置；位置 $n$ 上的键，转 $n\theta$。把转 $m\theta$ 记作 $R_m$。两个向量转同样的角度，内积不变；那就把两个都往回转 $m\theta$：
#
# $$(R_m\,q)\cdot(R_n\,k)=q\cdot(R_{n-m}\,k)$$
#
# 剩下的只有距离 $n-m$。手算一例：$\theta=90°$，$q=(1,0)$，$k=(0,1)$。距离为 0，分数是 $q\cdot k=0$。键在查询前面一格，$k$ 转 $-90°$ 成了 $(1,0)$，分数 1。前面两格，$(0,-1)$，分数 0。前面三格，$(-1,0)$，分数 $-1$。这一对坐标于是成了探测器，专找「紧挨在我前面的那个词元」。
#
# 只用一对坐标，转满一圈就分不清了。所以宽为 $K$ 的头有 $K/2$ 对，第 $i$ 对（从 0 数起）每过一个位置转 $\theta_i=10000^{-2i/K}$。$K=16$ 时，依次是 1、0.316、0.1……弧度：第一对过 6.3 个位置转完一圈，最后一对要走约 20,000 个。像钟表一样，快针慢针各管一段。
#
# 第 $i$ 对由坐标 $i$ 和 $i+K/2$ 组成，所以向量的前后两半，正好是各对的两边。怎么配对都可以，只要固定下来；但**检查点**（checkpoint），也就是存下来的模型，只认训练时用的那一种（练习 2.3）。


# %%
def rope(x, positions, theta=10_000.0):
    """Turn each pair (i, i + K/2) of x, (..., T, K), by the angle of its position."""
    size = x.shape[-1]
    step = theta ** (-torch.arange(0, size, 2, device=x.device) / size)  # (K/2,)
    angle = positions[:, None] * step  # (T, K/2)
    a, b = x.chunk(2, dim=-1)  # the two sides of the pairs, (..., T, K/2) each
    cos, sin = angle.cos(), angle.sin()
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


# %%
swapped = x[[1, 0, 2]]
assert gap((look(q, swapped, future) @ swapped)[2], by_hand[2]) < 1e-6  # a bag

quarter = math.pi / 2 * torch.arange(10)  # 90 degrees for each position
q2, k2 = torch.tensor([1.0, 0.0]).expand(10, 2), torch.tensor([0.0, 1.0]).expand(10, 2)
score = rope(q2, quarter) @ rope(k2, quarter).T  # (10, 10)
print("0 to 3 places back:", score[3, [3, 2, 1, 0]].round().int().tolist())
for m in range(3, 10):
    assert gap(score[m, m - 3 : m + 1], torch.tensor([-1.0, 0.0, 1.0, 0.0])) < 1e-4

many = torch.randn(128, 16, generator=torch.Generator().manual_seed(0))
assert (
    gap(rope(many, torch.arange(128)), apply_rope(many, *rope_tables(128, 16, 1e4)))
    < 1e-4
)

# %% tags=["proof"] checked_en="Checked: the angles of the text; and for 100 random queries and keys at all 128 × 128 positions, scores of equal distance are equal if both are turned, and are not if the key is left unturned." checked_zh="已验证：正文里的角度；100 组随机的查询和键，放在全部 128 × 128 种位置上，两个都转，距离相同的分数就相等，键不转就不相等。"
theta = 10_000.0 ** (-torch.arange(0, 16, 2) / 16)  # (8,) radians for each position
assert gap(theta[:3], torch.tensor([1, 0.316, 0.1])) < 5e-4
assert abs(2 * math.pi / theta[0] - 6.3) < 0.05
assert abs(2 * math.pi / theta[-1] - 20_000) < 200


def spread(scores):
    """The largest gap between scores of equal distance; scores (100, 128, 128)."""
    lines = [scores.diagonal(n, dim1=1, dim2=2) for n in range(-126, 127)]
    return max((line.amax(-1) - line.amin(-1)).max().item() for line in lines)


generator = torch.Generator().manual_seed(0)
pair = torch.randn(2, 100, 1, 16, generator=generator)
many_q, many_k = pair.expand(2, 100, 128, 16)  # the same vector at all positions
turned_q, turned_k = (rope(z, torch.arange(128)) for z in (many_q, many_k))
assert spread(turned_q @ turned_k.mT) < 1e-3
assert spread(turned_q @ many_k.mT) > 1


# %% tags=["figure"] alt_en="Two sets of numbered points on two circles, positions 0 to 5. On the outer circle the point moves by 1 radian each step and is almost around after six; on the inner circle it moves by 0.316 radians." alt_zh="两个圆周上各有一组标号的点，位置 0 到 5。外圈每步转 1 弧度，六步几乎走完一圈；内圈每步转 0.316 弧度。"
@picture
def clock(say):
    _, axes = figure(width=4.6, height=4.4)
    axes.set(aspect="equal", xlim=(-1.25, 1.25), ylim=(-1.25, 1.25))
    axes.axis("off")
    circle = torch.linspace(0, 2 * math.pi, 99)
    each = say("pair 0: 1 radian\na position", "第 0 对：每格转 1 弧度")
    words = (each, say("pair 1: 0.316", "第 1 对：0.316"))
    for i, (radius, name) in enumerate(((1.0, "policy"), (0.62, "chosen"))):
        style = {"ha": "center", "va": "center", "color": COLORS[name]}
        axes.plot(radius * circle.cos(), radius * circle.sin(), color=INK, lw=0.6)
        axes.text(0, 0.12 - 0.3 * i, words[i], **style)
        for m in range(6):
            angle = m * 10_000 ** (-2 * i / 16)
            x, y = math.cos(angle), math.sin(angle)
            axes.plot(radius * x, radius * y, "o", color=COLORS[name], markersize=6)
            axes.text((radius + 0.13) * x, (radius + 0.13) * y, m, **style)


# %% [markdown] lang="en"
# **Figure 2.2.** One pair of coordinates at positions 0 to 5: the fastest pair on the outer circle, the second on the inner one. Fast hands tell near neighbours apart, slow hands far ones.
#
# Now the claim "only the distance counts", seen on one vector that serves as query and as key.

# %% [markdown] lang="zh"
# **图 2.2** 一对坐标在位置 0 到 5 上的样子：外圈是转得最快的一对，内圈是第二对。快针分得清近邻，慢针分得清远处。
#
# 再看「只认距离」这句话：取同一个向量，既当查询，又当键。

# %%
generator = torch.Generator().manual_seed(0)
vector = torch.randn(16, generator=generator).expand(128, 16)  # one, at 128 positions
turned = rope(vector, torch.arange(128))
generator = torch.Generator().manual_seed(1)
m, n = torch.randint(0, 25, (2, 250), generator=generator)  # 250 pairs of positions
both, query_only = (turned[m] * turned[n]).sum(-1), (turned[m] * vector[n]).sum(-1)
distance = torch.arange(-24, 25)  # n - m
curve = rope(vector[:49], distance) @ vector[0]  # (49,)
assert gap(curve[24 + n - m], both) < 1e-3 and curve.argmax() == 24


# %% tags=["figure"] alt_en="Scores against distance: dots of the correct version lie on one curve with its maximum at 0; crosses of the version without a turned key scatter widely." alt_zh="分数对距离：正确做法的点都落在一条曲线上，在 0 处最高；键不转的叉号散得到处都是。"
@picture
def by_distance(say):
    _, axes = figure(width=5.6, height=3.6)
    half = say("only the query turned", "只转查询")
    whole = say("query and key turned", "查询和键都转")
    alone = say("by the distance alone", "只按距离算")
    crosses = {"color": COLORS["rejected"], "alpha": 0.7, "markersize": 4}
    axes.plot(n - m, query_only, "x", label=half, **crosses)
    axes.plot(n - m, both, "o", color=COLORS["policy"], markersize=4, label=whole)
    axes.plot(distance, curve, color=COLORS["theory"], lw=1, label=alone)
    axes.set(
        xlabel=say("distance from query to key, $n-m$", "键比查询靠后几格，$n-m$"),
        ylabel=say("score $q\\cdot k$", "分数 $q\\cdot k$"),
    )
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.32), fontsize=9)


# %% [markdown] lang="en"
# **Figure 2.3.** The score of a query with an equal key at 250 random pairs of positions. Turn both, and the scores lie on one curve: they depend on the distance alone, and are highest at distance 0. Turn the query only (crosses), and they scatter.

# %% [markdown] lang="zh"
# **图 2.3** 查询和键取同一个向量，放在 250 组随机的位置上打分。两个都转，分数都落在一条曲线上：只由距离决定，距离为 0 时最高。只转查询（叉号），分数就散了。

# %% [markdown] lang="en"
# ## Heads
# One softmax gives one distribution. To write the second number of a sum, a position may need the last digit of the target *and* the last digit of the first number; one weighted mean would blur them. So the $D$ coordinates are cut into $H$ slices of width $K$, and each slice, an **attention head**, has scores and weights of its own.
#
# In code a head costs nothing but a new shape: `unflatten` and `transpose` lead from $(B,T,D)$ over $(B,T,H,K)$ to $(B,H,T,K)$, and `look` works on the last two of these without knowing of the others. Four matrices belong to attention: three make queries, keys and values of the stream, the fourth mixes what the heads have found.

# %% [markdown] lang="zh"
# ## 注意力头
# 一次 softmax 只给出一个分布。要写加法的第二个数，一个位置可能既要目标的个位，又要第一个数的个位；只取一次加权平均，两样就糊在一起了。于是把 $D$ 个坐标切成 $H$ 份，每份宽 $K$，叫一个**注意力头**（attention head），各打各的分，各有各的权重。
#
# 写成代码，分头不过是换个形状：`unflatten` 和 `transpose` 把 $(B,T,D)$ 变成 $(B,T,H,K)$，再变成 $(B,H,T,K)$；`look` 只管最后两维，用不着知道前面还有什么。注意力有四个矩阵：三个从残差流生成查询、键和值，第四个把各头读到的混合起来。


# %%
def attention(x, layer, positions, hidden, heads=4):
    """(B, T, D) from (B, T, D): what each position reads from the others."""

    def project(name):
        y = x @ layer[f"self_attn.{name}.weight"].T  # (B, T, D)
        return y.unflatten(-1, (heads, -1)).transpose(1, 2)  # (B, H, T, K)

    q, k, v = project("q_proj"), project("k_proj"), project("v_proj")
    a = look(rope(q, positions), rope(k, positions), hidden)  # (B, H, T, T)
    joined = (a @ v).transpose(1, 2).flatten(2)  # (B, T, D): the heads side by side
    return joined @ layer["self_attn.o_proj.weight"].T


steps = torch.arange(8, device=device)
hidden = steps > steps[:, None]  # (T, T), true for the future
normed = rms_norm(stream, first["input_layernorm.weight"])  # (1, T, D)
ours = attention(normed, first, steps, hidden)
frame = gen.model.frame(grid_layout(ids))  # the library's positions and mask
assert gap(ours[0], gen.model.layers[0].self_attn(normed[0], frame)) < 1e-4

# %% tags=["proof"] checked_en="Checked: four heads computed one after another with plain slices give the same." checked_zh="已验证：只用普通的切片，一个头一个头地算，结果相同。"
slices = []
for h in range(4):
    part = slice(16 * h, 16 * (h + 1))
    q, k, v = (
        normed[0] @ first[f"self_attn.{name}.weight"][part].T  # (T, K)
        for name in ("q_proj", "k_proj", "v_proj")
    )
    slices.append(look(rope(q, steps), rope(k, steps), hidden) @ v)
one_by_one = torch.cat(slices, -1) @ first["self_attn.o_proj.weight"].T
assert gap(one_by_one, ours[0]) < 1e-4

# %% [markdown] lang="en"
# The library's module computes this in fewer and larger steps; [chapter 13](13_fast.ipynb) counts what that saves.
#
# ## SwiGLU: what a position does alone
# Attention only mixes what is there. To compute something new from the mixture, each position works by itself, on its own vector. The part for this is called MLP (multi-layer perceptron); in a Llama it is **SwiGLU** ([Shazeer 2020](https://arxiv.org/abs/2002.05202)):
#
# $$\mathrm{MLP}(x)=W_{\mathrm{down}}\bigl(\mathrm{silu}(W_{\mathrm{gate}}\,x)\odot W_{\mathrm{up}}\,x\bigr),\qquad \mathrm{silu}(z)=\frac{z}{1+e^{-z}}.$$
#
# Two matrices make two vectors of width $M$; one of them, after silu, acts as a gate for the other; a third matrix leads back to width $D$. silu is near 0 for very negative $z$ and near $z$ for large $z$: it lets through or shuts.
#
# By hand, for one hidden number: gate $z=\ln3$ gives $\mathrm{silu}(\ln3)=\frac34\ln3$, since $1+e^{-\ln3}=\frac43$. With $W_{\mathrm{up}}\,x=4$ the product is $3\ln3\approx3.296$.

# %% [markdown] lang="zh"
# 程序库的模块算的是同一回事，只是步子更少、更大；省下多少，[第 13 章](13_fast.ipynb)来算。
#
# ## SwiGLU：一个位置独自做的事
# 注意力只会混合已有的东西。要从混合的结果里算出新东西，得靠每个位置拿着自己的向量单独去算，不看别人。干这件事的部件叫 MLP（多层感知机，multi-layer perceptron）；Llama 里用的是 **SwiGLU**（[Shazeer 2020](https://arxiv.org/abs/2002.05202)）：
#
# $$\mathrm{MLP}(x)=W_{\mathrm{down}}\bigl(\mathrm{silu}(W_{\mathrm{gate}}\,x)\odot W_{\mathrm{up}}\,x\bigr),\qquad \mathrm{silu}(z)=\frac{z}{1+e^{-z}}$$
#
# 两个矩阵各生成一个宽为 $M$ 的向量，其中一个过 silu，当作另一个的闸门；第三个矩阵把结果送回宽度 $D$。$z$ 负得很多时，silu 接近 0；$z$ 很大时，silu 接近 $z$：一关一开。
#
# 为了手算，设这两个向量都只有一个数：闸门 $z=\ln3$，因为 $1+e^{-\ln3}=\frac43$，所以 $\mathrm{silu}(\ln3)=\frac34\ln3$。再设 $W_{\mathrm{up}}\,x=4$，乘积是 $3\ln3\approx3.296$。


# %%
def mlp(x, layer):
    """(B, T, D) from (B, T, D): what each position works out alone."""
    gate = x @ layer["mlp.gate_proj.weight"].T  # (B, T, M)
    up = x @ layer["mlp.up_proj.weight"].T  # (B, T, M)
    return (gate / (1 + (-gate).exp()) * up) @ layer["mlp.down_proj.weight"].T


small = {
    "mlp.gate_proj.weight": torch.tensor([[ln3, 0.0]]),
    "mlp.up_proj.weight": torch.tensor([[0.0, 4.0]]),
    "mlp.down_proj.weight": torch.tensor([[1.0], [0.0]]),
}
assert gap(mlp(torch.ones(2), small), torch.tensor([3 * ln3, 0.0])) < 1e-6
assert abs(3 * ln3 - 3.296) < 5e-4
assert gap(mlp(normed, first), gen.model.layers[0].mlp(normed)) < 1e-4

# %% [markdown] lang="en"
# ## The block, and the whole model
# All parts are there. A block is two additions to the stream, each of a part that reads it through a norm of its own. The model is an embedding, four blocks, a last norm and the output matrix. We keep `positions` and `hidden` as arguments, for we shall tamper with them.

# %% [markdown] lang="zh"
# ## 一个块，整个模型
# 部件齐了。一个块就是往残差流里加两次，每次由一个部件来加，部件各自透过一个 norm 去读。整个模型就是嵌入、四个块、最后一个 norm 和输出矩阵。`positions` 和 `hidden` 留作参数，待会儿要在上面动手脚。


# %%
def block(x, layer, positions, hidden):
    normed = rms_norm(x, layer["input_layernorm.weight"])
    x = x + attention(normed, layer, positions, hidden)
    return x + mlp(rms_norm(x, layer["post_attention_layernorm.weight"]), layer)


def llama(parameters, ids, positions=None, hidden=None):
    """(B, T, V) logits from (B, T) ids; `hidden` (T, T): where one must not look."""
    steps = torch.arange(ids.shape[1], device=ids.device)
    positions = steps if positions is None else positions.to(ids.device)
    hidden = steps > steps[:, None] if hidden is None else hidden.to(ids.device)
    x = parameters["model.embed_tokens.weight"][ids]  # (B, T, D)
    for i in range(4):
        x = block(x, layer_of(parameters, i), positions, hidden)
    return rms_norm(x, parameters["model.norm.weight"]) @ parameters["lm_head.weight"].T


library = gen.model.layers[0](stream[0], frame)
assert gap(block(stream, first, steps, hidden)[0], library) < 1e-4
assert gap(llama(parameters, ids), logits) < 1e-4

# %% tags=["proof"] checked_en="Checked: from the embedding to the last block the stream grows to more than ten times its length." checked_zh="已验证：从嵌入到最后一个块，残差流的长度涨到十倍以上。"
x = stream
for i in range(4):
    x = block(x, layer_of(parameters, i), steps, hidden)
assert (x.norm(dim=-1) / stream.norm(dim=-1)).mean() > 10

# %% [markdown] lang="en"
# The last assertion is the goal of the chapter: eight functions of ours and a dictionary of trained numbers give the logits of the library's model.
#
# Having every part in the open, we can take one away and see what it was for. First the mask, on the whole model.
#
# > **Before you run it.** The mask is gone, and the last of the eight tokens is replaced by another. At how many of the eight positions do the logits change? And with the mask?
#
# <details><summary>Answer</summary>
#
# Without the mask at all eight: from the first block on, everyone reads the last token. With it at one, the last position itself.
#
# </details>
#
# Then the positions.
#
# > **Before you run it.** Every position is counted from 100 on instead of from 0. How far do the logits move?
#
# <details><summary>Answer</summary>
#
# Not at all, but for rounding. RoPE knows distances only, and all of them are as before.
#
# </details>

# %% [markdown] lang="zh"
# 最后一条断言就是这一章的目标：我们自己写的八个函数，加上一本装着训练结果的字典，算出了程序库那个模型的 logits。
#
# 每个部件都摊开在面前，就可以拿掉一个，看它原来管什么用。先在整个模型上拿掉掩码。
#
# > **先猜一猜。** 去掉掩码，再把八个词元里的最后一个换成别的。八个位置里，有几个的 logits 会变？有掩码的时候呢？
#
# <details><summary>答案</summary>
#
# 没有掩码，八个全变：从第一个块起，谁都读得到最后那个词元。有掩码，只变一个，就是最后那个位置自己。
#
# </details>
#
# 再来动位置。
#
# > **先猜一猜。** 位置不从 0 数起，改从 100 数起。logits 会动多少？
#
# <details><summary>答案</summary>
#
# 除了舍入，一点也不动。RoPE 只认距离，而距离全都没变。
#
# </details>

# %%
one, other = rows("S54=27+2", "S54=27+9").unsqueeze(1)  # (1, T) each
open_ = torch.zeros(8, 8).bool()  # nothing is hidden
for name, hidden in (("causal mask", None), ("no mask", open_)):
    before, after = (llama(parameters, z, hidden=hidden)[0] for z in (one, other))
    change = (before - after).abs().amax(-1)  # (T,)
    print(f"{name:12}", *(f"{c:6.2f}" for c in change))
    assert (change > 0.1).sum() == (1 if hidden is None else 8)
    assert hidden is not None or change[:7].max() < 1e-4
shifted = gap(llama(parameters, ids, positions=steps + 100), logits)
print(f"from 100 on: {shifted:.4f}")
assert shifted < 1e-3

# %% tags=["proof"] checked_en="Checked: without the mask, what is said at each position depends on the very token that it is to predict; with it, it does not." checked_zh="已验证：没有掩码，每个位置的输出都受它正要预测的那个词元影响；有掩码就不受影响。"
three = tokenizer.encode("3")[0]
for t in range(7):  # another token in the place that position t is to predict
    other = one.clone()
    other[0, t + 1] = three
    for hidden in (None, open_):
        before, after = (
            llama(parameters, z, hidden=hidden)[0, t] for z in (one, other)
        )
        assert gap(before, after) < 1e-4 if hidden is None else gap(before, after) > 0.1

# %% [markdown] lang="en"
# ## 118,080 numbers
# What is there to learn in this model? Here are the shapes.
#
# > **Before you run it.** Which has the most numbers: the two tables at the ends, attention, or the MLPs?
#
# <details><summary>Answer</summary>
#
# Attention, with four square matrices a block against the MLP's three of the same size. In larger models the MLP is wider than $D$ and wins.
#
# </details>
#
# | part | shape | numbers |
# |---|---|---|
# | query, key, value, output of attention | 4 matrices of 64×64 | 16,384 |
# | gate, up, down of the MLP | 3 matrices of 64×64 | 12,288 |
# | two norms | 2×64 | 128 |
# | **one block** | | **28,800** |
# | four blocks | 4×28,800 | 115,200 |
# | embedding and output matrix | 2×22×64 | 2,816 |
# | last norm | 64 | 64 |
# | **all** | | **118,080** |
#
# RoPE has nothing to learn: its angles are fixed.

# %% [markdown] lang="zh"
# ## 118,080 个数
# 这个模型里要学的数有多少？看形状就数得出来。
#
# > **先猜一猜。** 头尾两张表、注意力、MLP，哪一样占的数最多？
#
# <details><summary>答案</summary>
#
# 注意力：每个块里它有四个方阵，MLP 只有三个同样大的。模型大了，MLP 会比 $D$ 宽，就反过来了。
#
# </details>
#
# | 部件 | 形状 | 个数 |
# |---|---|---|
# | 注意力的查询、键、值、输出 | 4 个 64×64 的矩阵 | 16,384 |
# | MLP 的 gate、up、down | 3 个 64×64 的矩阵 | 12,288 |
# | 两个 norm | 2×64 | 128 |
# | **一个块** | | **28,800** |
# | 四个块 | 4×28,800 | 115,200 |
# | 嵌入和输出矩阵 | 2×22×64 | 2,816 |
# | 最后的 norm | 64 | 64 |
# | **合计** | | **118,080** |
#
# RoPE 没有要学的东西：角度是事先定好的。

# %%
one_block = sum(tensor.numel() for tensor in first.values())
everything = sum(tensor.numel() for tensor in parameters.values())
print(f"{one_block:,} in a block, {everything:,} in all")
assert (4 * 64 * 64, 3 * 64 * 64, 2 * 64, 2 * 22 * 64) == (16_384, 12_288, 128, 2_816)
assert one_block == 16_384 + 12_288 + 128 == 28_800
assert everything == 4 * one_block + 2_816 + 64 == 115_200 + 2_880 == 118_080

# %% [markdown] lang="en"
# ## Is it a Llama?
# The names of our parameters are those of Hugging Face's `LlamaForCausalLM`, and the design is that of [Touvron et al. 2023](https://arxiv.org/abs/2302.13971). But same names do not make same numbers.
#
# So `chapters/data/llama_reference.py` built both models with the same weights, ten times larger than at the start of a training, so that a wrong angle cannot hide in the sixth digit. It stored what transformers computed for two rows. We must agree to within rounding. And to see that this comparison can fail at all, we break our model in three ways.
#
# > **Before you run it.** The three faults: RoPE turns backwards; gelu, another soft gate, stands in for silu; $\varepsilon$ is $10^{-2}$ instead of $10^{-6}$ in a single norm. Will the comparison notice the third?
#
# <details><summary>Answer</summary>
#
# Yes. Where the stream is still short, $\varepsilon$ is no small part of the mean of its squares, and every later part reads what follows.
#
# </details>

# %% [markdown] lang="zh"
# ## 它真是 Llama 吗
# 参数的名字，就是 Hugging Face 的 `LlamaForCausalLM` 里的名字；设计也照 [Touvron et al. 2023](https://arxiv.org/abs/2302.13971)。但名字相同，不等于数相同。
#
# 所以 `chapters/data/llama_reference.py` 用同一套权重把两个模型都建起来，权重比训练之初大十倍，免得角度转错了，却要到小数点后第六位才看得出来；再把 transformers 对两行文本算出的数存下来。我们的数必须与它一致，只许有舍入误差。这样的比较真能抓到错吗？再用三种办法弄坏我们的模型，看它抓不抓得到。
#
# > **先猜一猜。** 三处毛病：RoPE 反着转；silu 换成另一种软闸门 gelu；只在一个 norm 里，把 $\varepsilon$ 从 $10^{-6}$ 改成 $10^{-2}$。第三处，比得出来吗？
#
# <details><summary>答案</summary>
#
# 比得出来。残差流还很短的地方，$\varepsilon$ 在平方的平均数里就不算小了；后面的部件读到的，全都跟着变。
#
# </details>

# %%
reference = json.loads(Path("data/llama_reference.json").read_text())
loud = {name: tensor.to(device) for name, tensor in loud_model().state_dict().items()}


def from_theirs(sign=1):
    """The largest gap between our logits and those of transformers."""
    gaps = []
    for row in reference["rows"]:
        ids = rows(row["text"])
        ours = llama(loud, ids, positions=sign * torch.arange(ids.shape[1]))[0]
        gaps.append(gap(ours, torch.tensor(row["logits"], device=device)))
    return max(gaps)


print("transformers", reference["transformers"], "·", reference["command"])
print(f"ours {from_theirs():.4f}")
assert from_theirs() < 1e-4


# %%
def other_gate(x, layer):
    gate, up = (x @ layer[f"mlp.{name}_proj.weight"].T for name in ("gate", "up"))
    return (torch.nn.functional.gelu(gate) * up) @ layer["mlp.down_proj.weight"].T


def one_loose_norm(x, weight, eps=1e-6, exact=rms_norm):
    this = weight is loud["model.layers.0.input_layernorm.weight"]
    return exact(x, weight, 1e-2 if this else eps)


backwards = from_theirs(sign=-1)
with patch("__main__.mlp", other_gate):
    gelu = from_theirs()
with patch("__main__.rms_norm", one_loose_norm):
    loose = from_theirs()
print(f"RoPE backwards {backwards:.1f}  gelu for silu {gelu:.1f}  eps {loose:.1f}")
assert min(backwards, gelu, loose) > 0.5 and from_theirs() < 1e-4

# %% [markdown] lang="en"
# ## ⋆ Where the trained model looks
# Attention weights can be looked at, and it is tempting to read them as reasons. We do both, and check the second. Figure 2.4 shows the row `S54=27+27E`: for each reading position (downwards) and each token read (across) the weight, in percent, averaged over the 16 heads. Above the diagonal it is exactly 0: that is the causal mask. A single head is sharper than this mean: in the answer, the typical head puts more than half of its weight on one token.

# %% [markdown] lang="zh"
# ## ⋆ 训练好的模型往哪儿看
# 注意力权重看得见，人就忍不住把它当成理由。我们先看，再查这样解读对不对。图 2.4 是 `S54=27+27E` 这一行：纵向是在读的位置，横向是被读的词元，格子里是 16 个头的平均权重，写成百分数。对角线以上恰好是 0，那是因果掩码。单个头比这个平均更集中：在回答部分，一个典型的头会把一半以上的权重压在同一个词元上。


# %%
def attention_maps(ids, look_of=look):
    """(blocks, B, H, T, T): the weights of every head, taken down as the model runs."""
    maps = []

    def taken_down(q, k, hidden):
        maps.append(look_of(q, k, hidden))
        return maps[-1]

    with patch("__main__.look", taken_down):
        llama(parameters, ids)
    return torch.stack(maps)


numbers = range(10, 50)
texts = [f"S{a + b}={a}+{b}E" for a in numbers for b in numbers][::7]
sums = rows(*texts)  # S t u = a b + c d E
maps = attention_maps(sums)
assert len(texts) == 229 and maps.shape == (4, 229, 4, 10, 10)
assert maps.triu(1).max() == 0 and (maps.sum(-1) - 1).abs().max() < 1e-5
assert maps[:, :, :, 4:9].amax(-1).median() > 0.5
example = attention_maps(rows("S54=27+27E")).mean((0, 1, 2)).cpu()  # (T, T)


# %% tags=["figure"] alt_en="A triangle of 10 by 10 squares, with the weight in percent in each, darker where the heads look more; empty above the diagonal." alt_zh="10 乘 10 的方格三角形，每格写着权重（百分数），看得多的格子颜色深，对角线以上全空。"
@picture
def where_it_looks(say):
    _, axes = figure(width=5.2, height=5.0)
    seen = example.masked_fill(example == 0, math.nan)
    axes.imshow(seen, cmap="Blues", vmin=0, vmax=0.6)
    axes.set_xticks(range(10), "S54=27+27E", family="monospace")
    axes.set_yticks(range(10), "S54=27+27E", family="monospace")
    axes.set(
        xlabel=say("token that is read", "被读的词元"),
        ylabel=say("position that reads", "在读的位置"),
    )
    axes.grid(False)
    for t in range(10):
        for j in range(t + 1):
            ink = "white" if example[t, j] > 0.3 else "#20303c"
            share = f"{100 * example[t, j]:.0f}"
            axes.text(j, t, share, ha="center", va="center", fontsize=8, color=ink)


# %% [markdown] lang="en"
# **Figure 2.4.** Attention weights in percent, mean of all heads of all blocks.
#
# Now the check. We take 229 sums of this shape and ask at position 7 (the first digit of the second number) for the probability of the right last digit. Then we hide one token $j$: first from position 7 only, then from all later positions. If the row of position 7 told the whole story, a token that gets little weight there could be hidden from everyone at little cost.

# %% [markdown] lang="zh"
# **图 2.4** 注意力权重（百分数），所有块、所有头的平均。
#
# 再来查。取 229 道这种形状的加法，在位置 7（第二个数的首位）问模型：它给正确的末位数字多大概率？然后遮住一个词元 $j$：先只对位置 7 遮，再对 $j$ 之后的所有位置遮。假如图上位置 7 那一行就是全部真相，那么一个词元在这一行里权重很小，即使对谁都遮住，也不该有多大影响。


# %%
def right_digit(hidden=None):
    """The mean probability of the right last digit, asked at position 7."""
    p = llama(parameters, sums, hidden=hidden)[:, 7].softmax(-1)  # (229, V)
    return p.gather(1, sums[:, 8:9]).mean().item()


all_seen, from_seven, from_all = right_digit(), [], []
for j in range(7):
    hidden = torch.ones(10, 10).triu(1).bool()
    hidden[7, j] = True
    from_seven.append(right_digit(hidden))
    hidden[j + 1 :, j] = True
    from_all.append(right_digit(hidden))
assert all_seen > 0.75
# looked at little by position 7, and little needed there ...
assert example[7, 2] < 0.1 and from_seven[2] > all_seen - 0.1
assert max(from_all[2], from_all[5]) < 0.3  # ... but nobody can do without u and b
# S and =, which never vary
assert from_all[0] > all_seen - 0.05 and from_all[3] < all_seen - 0.2
# the plus is read most, and needed
assert example[7].argmax() == 6 and max(from_seven[6], from_all[6]) < 0.02


# %% tags=["figure"] alt_en="Pairs of bars for the 7 tokens before position 7, and a dashed line for the model that sees everything. Hiding the third token from position 7 alone hardly lowers its bar, hiding it from all later positions does; at the plus both bars are near zero." alt_zh="位置 7 之前的 7 个词元各一对柱子，另有一条虚线表示什么都不遮。第三个词元只对位置 7 遮住，柱子几乎不降；对后面所有位置遮住，就降得很低。加号处两根柱子都接近零。"
@picture
def hidden_tokens(say):
    _, axes = figure(width=5.8, height=3.6)
    places, policy = torch.arange(7), COLORS["policy"]
    seven = say("hidden from position 7", "只对位置 7 遮")
    later = say("hidden from all later", "对后面的位置都遮")
    axes.bar(places - 0.2, from_seven, 0.38, color=COLORS["ref"], label=seven)
    axes.bar(places + 0.2, from_all, 0.38, color=COLORS["rejected"], label=later)
    axes.axhline(all_seen, color=policy, lw=1.2, ls="--")
    words = say("nothing hidden", "什么都不遮")
    axes.text(-0.45, all_seen + 0.02, words, color=policy)
    axes.set_xticks(places, "S54=27+", family="monospace")
    axes.set(
        ylim=(0, 1.15),
        yticks=(0, 0.25, 0.5, 0.75, 1),
        xlabel=say("token that is hidden", "遮住的词元"),
        ylabel=say("probability of the right digit", "正确数字的概率"),
    )
    axes.legend(ncol=2, loc="upper right", fontsize=9)


# %% [markdown] lang="en"
# **Figure 2.5.** The probability of the right last digit when one token is hidden. The letters on the axis stand for all 229 sums. At the plus both bars are nearly 0.
#
# Look at $j=2$, the last digit of the target (the 4 of 54). Position 7 gives it less than a tenth of its weight, and hardly misses it when it is hidden from position 7 alone. Hide it from everyone, and the probability falls below 0.3. So earlier positions have read the 4 and passed it on through the stream: information travels in several steps, and one map shows one step.
#
# `S` and `=` stand in every text of our world and so say nothing by themselves. Hiding `S` ($j=0$) from everyone costs less than 0.05. Hiding `=` ($j=3$) costs more than 0.2. What is lost there cannot be news from `=`, which never varies; it is what the position of `=` had gathered from the digits before it, or merely the habit of reading there. So a drop says that a *place* is used, not yet what for.
#
# The same caution holds for $j=6$, the plus: position 7 reads it most and fails without it, but whether it misses the plus or what was gathered at that place, this experiment cannot say.

# %% [markdown] lang="zh"
# **图 2.5** 遮住一个词元后，正确的末位数字还有多大概率。横轴上的字符代表全部 229 道加法。加号处两根柱子都接近 0。
#
# 先看 $j=2$，目标的个位（54 的 4）。位置 7 分给它的权重不到十分之一；只对位置 7 遮住它，也几乎没有影响。对后面所有位置都遮住，概率就跌到 0.3 以下。可见前面的位置早已读过这个 4，又经残差流传了过来：信息要走好几步，一张图只照见其中一步。
#
# `S` 和 `=` 在每段文本里都一样，本身什么也没说。对所有位置遮住 `S`（$j=0$），概率只下降不到 0.05；遮住 `=`（$j=3$），却要下降 0.2 以上。丢掉的不会是 `=` 自己的消息，因为它从来不变；丢掉的，是 `=` 那个位置从前面的数字里汇集来的东西，或者只是模型到那里去读的习惯。所以概率下跌，只说明用到了这个*位置*，还没说明用来做什么。
#
# 对 $j=6$ 的加号，也要这样小心：位置 7 读它最多，遮住它就答不出来；可缺的是加号本身，还是汇集到那里的东西，这个实验分不清。

# %% [markdown] lang="en"
# ## Left padding
# Chapter 1 padded rows on the left, so that all rows end together. Two things can now go wrong, and it pays to keep them apart.
#
# **Reading the padding.** The causal mask does not hide what stands to the left. The *attention mask* of chapter 1 must, and the library's model adds it to `hidden`. Leave it out, and the row reads three `P` as part of its text.
#
# **Counting the padding.** The numbers of the positions are called position ids. With three `P` in front, is `S` at position 0 or 3? For RoPE this does not matter, as we saw: all positions move together. A model that learns a vector for each absolute position does care; the difference has been reported for GPT-2 ([TRL issue 6800](https://github.com/huggingface/trl/issues/6800)), and the same report says that RoPE models are safe.
#
# They are safe from a *common* shift only. Count the prompt with its padding and the new tokens without, as a careless generation loop does, and the distances between the two are wrong. Our model counts real tokens everywhere. The cell shows the row alone, the padding read, and the padding counted in the prompt only.

# %% [markdown] lang="zh"
# ## 左填充
# 第 1 章在左边填充，好让各行在同一处结束。这样一来，有两件事可能出错，要分开看。
#
# **读进了填充。** 因果掩码不管左边的东西，左边的填充要靠第 1 章的*注意力掩码*来遮；程序库的模型会把它并进 `hidden`。忘了传这张掩码，模型就会把三个 `P` 当作正文读进去。
#
# **填充也占了号。** 各个位置的号码叫 position ids。前面有三个 `P`，那么 `S` 算位置 0 还是 3？刚才看到，对 RoPE 来说无所谓：大家一起挪。换成给每个绝对位置学一个向量的模型，就有关系了；有人在 GPT-2 上报告过这种偏差（[TRL issue 6800](https://github.com/huggingface/trl/issues/6800)），那份报告也说 RoPE 模型不受影响。
#
# 但不受影响有个前提：*一起*挪。要是数提示时连填充一起数，数新词元时却不算填充（生成循环写得粗心就会这样），两段之间的距离就错了。我们的模型处处只数真正的词元。下面依次是：没有填充的一行，读进了填充，只在提示里数了填充。

# %%
seven = tokenizer.encode("7")[0]
padded = rows("PPP" + text)
attention_mask = torch.tensor([[0] * 3 + [1] * 8], device=device)
assert gap(gen(padded, attention_mask)[0, -1], logits[0, -1]) < 1e-4
padding_read = gen(padded)[0, -1]  # no mask
mixed = torch.tensor([3, 4, 5, 6, 4, 5, 6, 7])  # counted in the prompt only
prompt_shifted = llama(parameters, ids, positions=mixed)[0, -1]
print(f"p(7)  alone                  {probs[0, 7, seven]:.2f}")
for name, wrong in (("padding read", padding_read), ("prompt shifted", prompt_shifted)):
    print(f"      {name:22} {wrong.softmax(-1)[seven]:.2f}")
    assert gap(wrong, logits[0, -1]) > 0.1

# %% [markdown] lang="en"
# ## The KV cache
# To write a completion, the model is asked again after every new token. The causal mask says that the earlier positions have nothing new to compute: their keys and values cannot depend on what came later. So they are kept, in a **KV cache**, and only the new token goes through the blocks. Its query meets the stored keys, its result is the same as if the whole row had been computed again.
#
# [Chapter 4](04_sampling.ipynb) writes whole batches this way; here is the equality, in the library's model, for a prompt of four tokens followed by one token at a time.

# %% [markdown] lang="zh"
# ## KV 缓存
# 写回答时，每添一个词元，就要再问模型一次。有因果掩码在，前面的位置没有新东西可算：它们的键和值不可能依赖后来的词元。那就存起来，这就是 **KV 缓存**（KV cache）。之后只让新词元过各个块，用它的查询去对存下的键，结果与整行重算一样。
#
# [第 4 章](04_sampling.ipynb)就用这个办法成批地写回答。这里用程序库的模型验证相等：先喂四个词元的提示，再一次添一个词元。

# %%
cache = KVCache()
pieces = [gen(ids[:, :4], cache=cache)]
pieces += [gen(ids[:, t : t + 1], cache=cache) for t in range(4, 8)]  # one token each
assert gap(torch.cat(pieces, dim=1), logits) < 1e-4
assert cache.length == 8
assert cache.layers[0][0].shape == (1, 4, 8, 16)  # (B, H, positions so far, K)

# %% [markdown] lang="en"
# > **What the toy hides.** The first Llama of 7B has this very design with width 4096, 32 layers and 32 heads: the code does not change, the sizes do. Later ones let several query heads share one key and value head (grouped-query attention, [Ainslie et al. 2023](https://arxiv.org/abs/2305.13245); exercises 2.2 and 2.4), which shrinks the KV cache; so does the smallest Llama 3.2, of 1B ([its model card](https://github.com/meta-llama/llama-models/blob/main/models/llama3_2/MODEL_CARD.md)). That one also uses one table for embedding and output (tied embeddings); in ours that table would be 1 % of the model, with a large vocabulary it is a good part of it. Weights are often kept in bf16, 16 bits with 8 significant binary digits; then logits agree to about 2 decimal digits and no longer to 5. And at thousands of positions the $(T,T)$ scores need not be written down as a whole, and RoPE's angles are often rescaled to reach further than the first training did.

# %% [markdown] lang="zh"
# > **玩具没告诉你的。** 最初的 7B Llama 就是这个设计，宽 4096，32 层，32 个头：代码不变，变的是尺寸。后来的同族，让几个查询头共用一组键和值（分组查询注意力，grouped-query attention，[Ainslie et al. 2023](https://arxiv.org/abs/2305.13245)；练习 2.2 和 2.4），KV 缓存就小了；Llama 3.2 里最小的那个只有 1B，也这样做（见[它的模型卡](https://github.com/meta-llama/llama-models/blob/main/models/llama3_2/MODEL_CARD.md)）。它还让嵌入和输出共用一张表（tied embeddings）；这张表在我们这里只占模型的 1%，词表一大，就要占去可观的一块。权重常用 bf16 存放：一个数 16 位，二进制的有效数字只有 8 位；logits 因此只对得上大约 2 位十进制数字，到不了 5 位。位置上千时，$(T,T)$ 的分数表不必整张写出来；RoPE 的角度也常常重新缩放，好够得着最初训练时没到过的距离。

# %%
assert round(100 * 22 * 64 / 118_080) == 1  # one table, in percent of the model
assert (
    torch.finfo(torch.bfloat16).bits == 16 and torch.finfo(torch.bfloat16).eps == 2**-7
)  # 8 significant bits
coarse = load_pretrained("gen").to(torch.bfloat16)(ids.cpu()).float()
assert 0.001 < (coarse - logits.cpu()).abs().max() / logits.abs().max().item() < 0.05

# %% [markdown] lang="en"
# > **To remember.** A Llama is a sum: an embedding, to which attention adds what it reads from earlier positions and SwiGLU what it works out alone. RMSNorm makes every reading the same size. RoPE turns queries and keys, so that only their distance counts. The causal mask hides the future, which makes training parallel and the KV cache exact. None of this need be believed: each is an equality, and each was run.

# %% [markdown] lang="zh"
# > **记住。** Llama 是一个和：从嵌入开始，注意力加上从前面位置读来的东西，SwiGLU 加上自己算出来的东西。RMSNorm 让每次读到的大小一致。RoPE 把查询和键各转一个角度，于是位置只通过距离起作用。因果掩码遮住未来，训练因此能并行，KV 缓存因此分毫不差。这些都不必轻信：每一条都是等式，每一条都跑过。

# %% [markdown] lang="en"
# ## Exercises

# %% [markdown] lang="zh"
# ## 练习

# %% [markdown] lang="en"
# ### Exercise 2.1 · RMSNorm by hand
# ★☆☆ · 5 minutes
#
# Compute RMSNorm of $x=(1,5,5,7)$ with the weight $w=(5,1,2,10)$, taking $\varepsilon=0$. Write the four numbers as a list.
#
# <details><summary>Hint</summary>
#
# The mean of the squares is a square number. The weight comes last.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 2.1 · 手算 RMSNorm
# ★☆☆ · 5 分钟
#
# 取 $\varepsilon=0$，权重 $w=(5,1,2,10)$，求 $x=(1,5,5,7)$ 的 RMSNorm。把四个数写成列表。
#
# <details><summary>提示</summary>
#
# 平方的平均数是个完全平方数。权重最后才乘。
#
# </details>

# %% tags=["exercise"]
answer_2_1 = ...  # a list of four numbers
check("2.1", answer_2_1)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# The squares are 1, 25, 25, 49; their sum is 100, their mean 25, its root 5. Dividing gives 0.2, 1, 1, 1.4; the weight makes it 1, 1, 2, 14.
#
# ```python
# answer_2_1 = [1, 1, 2, 14]
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 平方是 1、25、25、49，和是 100，平均 25，开方得 5。相除得 0.2、1、1、1.4，再乘权重得 1、1、2、14。
#
# ```python
# answer_2_1 = [1, 1, 2, 14]
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 2.2 · One key for four queries
# ★★☆ · 10 minutes
#
# In grouped-query attention several query heads share one key head and one value head. Suppose that in our model all 4 query heads of a block share a single key head and a single value head of width 16. How many parameters has the model then?
#
# <details><summary>Hint</summary>
#
# Which two matrices of a block shrink, and to what shape? There are four blocks.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 2.2 · 四个查询，一个键
# ★★☆ · 10 分钟
#
# 在分组查询注意力里，几个查询头共用一个键头和一个值头。假设在我们的模型里，每个块的 4 个查询头共用一个键头和一个值头，宽度都是 16。这时模型有多少个参数？
#
# <details><summary>提示</summary>
#
# 一个块里哪两个矩阵变小了，变成什么形状？一共四个块。
#
# </details>

# %% tags=["exercise"]
answer_2_2 = ...  # a whole number
check("2.2", answer_2_2)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# `k_proj` and `v_proj` shrink from 64×64 to 16×64: each block saves 2×48×64 = 6,144 numbers, four blocks 24,576.
#
# ```python
# answer_2_2 = 118_080 - 4 * 2 * (64 - 16) * 64  # 93,504
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# `k_proj` 和 `v_proj` 从 64×64 缩成 16×64：每个块省下 2×48×64 = 6,144 个数，四个块共 24,576。
#
# ```python
# answer_2_2 = 118_080 - 4 * 2 * (64 - 16) * 64  # 93,504
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 2.3 · RoPE with neighbours
# ★★☆ · 15 minutes
#
# Our RoPE pairs coordinate $i$ with $i+K/2$, as Hugging Face does. The paper pairs neighbours: 0 with 1, 2 with 3, and so on. Write that version. `x` is (T, K); `cos` and `sin` are (T, K/2), with column $i$ for pair $i$. A pair $(a,b)$ becomes $(a\cos-b\sin,\;b\cos+a\sin)$ in the same two places.
#
# <details><summary>Hint</summary>
#
# `x[:, 0::2]` are all first members. Write the results into an empty tensor of the same shape, with the same kind of slice.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 2.3 · 相邻配对的 RoPE
# ★★☆ · 15 分钟
#
# 我们的 RoPE 与 Hugging Face 一样，把坐标 $i$ 与 $i+K/2$ 配成一对。论文里是相邻配对：0 配 1，2 配 3，依此类推。请写出这一版。`x` 的形状是 (T, K)；`cos` 和 `sin` 是 (T, K/2)，第 $i$ 列归第 $i$ 对。一对 $(a,b)$ 变成 $(a\cos-b\sin,\;b\cos+a\sin)$，仍放在原来的两格里。
#
# <details><summary>提示</summary>
#
# `x[:, 0::2]` 是每一对的第一个数。建一个同样形状的空张量，用同样的切片把结果写进去。
#
# </details>


# %% tags=["exercise"]
def rope_of_neighbours(x, cos, sin): ...  # your code


check("2.3", rope_of_neighbours)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# The two layouts differ by a reordering of coordinates. A checkpoint trained with one and read with the other computes nonsense without any error, so conversion scripts reorder the rows of `q_proj` and `k_proj`.
#
# ```python
# def rope_of_neighbours(x, cos, sin):
#     a, b = x[:, 0::2], x[:, 1::2]  # 2 × (T, K/2)
#     turned = torch.empty_like(x)
#     turned[:, 0::2] = a * cos - b * sin
#     turned[:, 1::2] = b * cos + a * sin
#     return turned
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 两种排法只差坐标的次序。用一种训练、用另一种读入，算出来全是胡话，却不报错；所以转换脚本要重排 `q_proj` 和 `k_proj` 的行。
#
# ```python
# def rope_of_neighbours(x, cos, sin):
#     a, b = x[:, 0::2], x[:, 1::2]  # 2 × (T, K/2)
#     turned = torch.empty_like(x)
#     turned[:, 0::2] = a * cos - b * sin
#     turned[:, 1::2] = b * cos + a * sin
#     return turned
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 2.4 · Grouped-query attention
# ★★★ · 25 minutes
#
# Change attention so that query heads share keys and values. `query` is (B, H, T, K), `key` and `value` are (B, G, T, K), where G divides H: the first H/G query heads use group 0, the next H/G group 1, and so on. `hidden` is (T, T), true where a query must not look. RoPE has been applied. Return the mixed values, (B, H, T, K).
#
# <details><summary>Hint</summary>
#
# Repeat each key head and each value head H/G times, so that the copies of one head stand side by side. `repeat_interleave` and `repeat` differ in just this. The rest is `look`, and one product more.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 2.4 · 分组查询注意力
# ★★★ · 25 分钟
#
# 改写注意力，让查询头共用键和值。`query` 是 (B, H, T, K)，`key` 和 `value` 是 (B, G, T, K)，G 整除 H：前 H/G 个查询头用第 0 组，再往后 H/G 个用第 1 组，依此类推。`hidden` 是 (T, T)，查询不许看的地方为真。RoPE 已经做过。返回混合后的值，形状是 (B, H, T, K)。
#
# <details><summary>提示</summary>
#
# 把每个键头和值头都重复 H/G 次，同一个头的几份要挨在一起。`repeat_interleave` 和 `repeat` 的差别就在这里。其余就是 `look`，再乘一次。
#
# </details>


# %% tags=["exercise"]
def grouped_attention(query, key, value, hidden): ...  # your code


check("2.4", grouped_attention)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# ```python
# def grouped_attention(query, key, value, hidden):
#     copies = query.shape[1] // key.shape[1]  # H/G
#     key = key.repeat_interleave(copies, dim=1)  # (B, H, T, K)
#     value = value.repeat_interleave(copies, dim=1)  # (B, H, T, K)
#     scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])  # (B, H, T, T)
#     return scores.masked_fill(hidden, -math.inf).softmax(-1) @ value
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# ```python
# def grouped_attention(query, key, value, hidden):
#     copies = query.shape[1] // key.shape[1]  # H/G
#     key = key.repeat_interleave(copies, dim=1)  # (B, H, T, K)
#     value = value.repeat_interleave(copies, dim=1)  # (B, H, T, K)
#     scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])  # (B, H, T, T)
#     return scores.masked_fill(hidden, -math.inf).softmax(-1) @ value
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 2.5 · A head that asks nothing
# ★☆☆ · 5 minutes
#
# Predict, then run: in one block, `q_proj` is set to zero. What weights does position 6 of a row of eight tokens then give to the positions 0 to 7? Write the eight numbers as a list; afterwards try it with `look`.
#
# <details><summary>Hint</summary>
#
# What are the scores? And how many of them does the mask leave?
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 2.5 · 什么都不问的头
# ★☆☆ · 5 分钟
#
# 先猜，再运行：在某个块里，把 `q_proj` 全设成零。一行八个词元，位置 6 给位置 0 到 7 的权重各是多少？把八个数写成列表，然后用 `look` 试一试。
#
# <details><summary>提示</summary>
#
# 分数都成了多少？掩码又留下几个？
#
# </details>

# %% tags=["exercise"]
answer_2_5 = ...  # a list of eight numbers
check("2.5", answer_2_5)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# All scores are 0, so the softmax makes all weights equal; the mask leaves the positions 0 to 6. A head without questions takes the plain mean of what it may see.
#
# ```python
# answer_2_5 = [1 / 7] * 7 + [0]
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 分数全是 0，softmax 就把权重平分；掩码留下位置 0 到 6。什么都不问的头，就是把看得见的求个普通平均。
#
# ```python
# answer_2_5 = [1 / 7] * 7 + [0]
# ```
#
# </details>


# %% tags=["figure"] alt_en="Two grids of four rows, A to D, and ten columns, one for each token; a filled dot where logits differ or change, an empty ring where not. Left: A has dots from the second token on, B everywhere, C from the fifth on, D everywhere. Right: A, C and D have a dot at the last token only, B everywhere." alt_zh="两张点阵，各有四行（A 到 D）、十列（每个词元一列）；logits 不同或会变的地方是实心点，否则是空心圈。左：A 从第二个词元起都是实心，B 全是实心，C 从第五个起，D 全是。右：A、C、D 只有最后一格是实心，B 全是。"
@picture
def four_faults(say):
    _, panels = figure(2, width=6.4, height=2.6)
    titles = (
        say("differs from the right model", "与正确的模型不同"),
        say("moves with the last token", "随最后一个词元而变"),
    )
    blue = COLORS["policy"]
    for axes, title, dots in zip(panels, titles, symptoms().unbind(1)):
        for filled, ground in ((True, blue), (False, "none")):
            y, x = (dots == filled).nonzero().T
            axes.plot(x, y, "o", markersize=8, color=blue, markerfacecolor=ground)
        axes.set_title(title, fontsize=11)
        axes.set_xticks(range(10), "S54=27+27E", family="monospace")
        axes.set_yticks(range(4), "ABCD")
        axes.set(xlabel=say("token", "词元"), ylabel=say("faulty copy", "出错的副本"))
        axes.set(ylim=(3.6, -0.6))
        axes.grid(False)


# %% [markdown] lang="en"
# **Figure 2.6.** Four copies of the model, each with one fault. Filled: on the left, positions where a copy's logits are not the right ones; on the right, positions where its own logits change when `E` at the end becomes `-`.

# %% [markdown] lang="zh"
# **图 2.6** 模型的四个副本，各有一处毛病。实心点：左图是副本的 logits 与正确的不同的位置；右图是把末尾的 `E` 换成 `-` 以后，它自己的 logits 会变的位置。

# %% [markdown] lang="en"
# ### Exercise 2.6 · Which fault is it?
# ★★☆ · 15 minutes
#
# The faults of the copies in Figure 2.6 are these, in another order:
#
# 1. after the prompt, positions are counted from 0 again, as by a cache that forgets its length;
# 2. relu (negative numbers become 0, the others stay) stands in for silu;
# 3. the causal mask is missing;
# 4. RoPE turns backwards.
#
# Which copy has which? Write a string of four digits, for A, B, C and D.
#
# <details><summary>Hint</summary>
#
# Begin with the right panel: only one fault lets a position see its future. Then ask what position 0 can notice of each of the others.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 2.6 · 毛病出在哪里
# ★★☆ · 15 分钟
#
# 图 2.6 里四个副本的毛病如下，次序打乱了：
#
# 1. 提示读完以后，位置又从 0 数起，像是缓存忘了自己有多长；
# 2. silu 换成了 relu（负数变成 0，其余不变）；
# 3. 少了因果掩码；
# 4. RoPE 反着转。
#
# 哪个副本是哪一处？按 A、B、C、D 的次序写四个数字，写成字符串。
#
# <details><summary>提示</summary>
#
# 先看右图：只有一种毛病会让位置看见自己的未来。再想一想，其余几种，位置 0 各能察觉什么。
#
# </details>

# %% tags=["exercise"]
answer_2_6 = ...  # a string of four digits
check("2.6", answer_2_6)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# B alone reads its future: no mask. Position 0 sees only itself, with weight 1 at any angle, so a wrong angle cannot show there: A is RoPE backwards, and C, right for the whole prompt, is the count that begins again. D is wrong even where there is nothing to read: a fault of the part that works alone.
#
# ```python
# answer_2_6 = "4312"
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 只有 B 读到了未来：少了掩码。位置 0 只看得到自己，不管转多少角度，权重都是 1，所以角度错了在那里看不出来：A 是 RoPE 反着转；C 在整段提示里都对，是位置又从头数起。D 连没有别人可读的位置也错了，毛病出在独自计算的部件里。
#
# ```python
# answer_2_6 = "4312"
# ```
#
# </details>

# %% [markdown] lang="en"
# ## References
# - [Vaswani et al. 2017](https://arxiv.org/abs/1706.03762): attention, heads, the scale $1/\sqrt K$.
# - [Zhang & Sennrich 2019](https://arxiv.org/abs/1910.07467): RMSNorm.
# - [Shazeer 2020](https://arxiv.org/abs/2002.05202): SwiGLU and its relatives.
# - [Su et al. 2021](https://arxiv.org/abs/2104.09864): RoPE.
# - [Elhage et al. 2021](https://transformer-circuits.pub/2021/framework/index.html): the residual stream, and how to take a small transformer apart.
# - [Touvron et al. 2023](https://arxiv.org/abs/2302.13971): the Llama that puts these together.
# - [Ainslie et al. 2023](https://arxiv.org/abs/2305.13245): grouped-query attention.

# %% [markdown] lang="zh"
# ## 参考文献
# - [Vaswani et al. 2017](https://arxiv.org/abs/1706.03762)：注意力、多头、$1/\sqrt K$ 的由来。
# - [Zhang & Sennrich 2019](https://arxiv.org/abs/1910.07467)：RMSNorm。
# - [Shazeer 2020](https://arxiv.org/abs/2002.05202)：SwiGLU 及其同类。
# - [Su et al. 2021](https://arxiv.org/abs/2104.09864)：RoPE。
# - [Elhage et al. 2021](https://transformer-circuits.pub/2021/framework/index.html)：残差流，以及怎样拆解一个小 Transformer。
# - [Touvron et al. 2023](https://arxiv.org/abs/2302.13971)：把这些合在一起的 Llama。
# - [Ainslie et al. 2023](https://arxiv.org/abs/2305.13245)：分组查询注意力。
