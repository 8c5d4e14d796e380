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
# > **In this chapter.** You will be able to follow one row of ids through a Llama to its scores, compute attention and RoPE by hand, count every parameter, and say why our model *is* a Llama: its logits equal those of Hugging Face's implementation but for rounding. You need [chapter 1](01_strings.ipynb), matrix products, and sine and cosine. 45 minutes to read, 10 seconds to run.

# %% [markdown] lang="zh"
# > **本章。** 读完后，你能跟着一行编号穿过 Llama，一直走到分数；能手算注意力和 RoPE，能数清每一个参数，还能说出为什么我们的模型就是 Llama：它的 logits 与 Hugging Face 的实现相等，只差舍入。需要读过[第 1 章](01_strings.ipynb)，会矩阵乘法，还记得正弦和余弦。阅读 45 分钟，运行 10 秒。

# %%
import json
import math
from pathlib import Path
from unittest.mock import patch

import torch
from checks import check
from data.llama_reference import loud_model

from dpo_core import CharTokenizer, KVCache, ModelConfig, load_pretrained
from dpo_core.model import MLP, Attention, Layout, RMSNorm, apply_rope, rope_tables
from dpo_core.plotting import COLORS, INK, figure
from dpo_core.training import default_device

# %% [markdown] lang="en"
# ## A function from ids to scores
# A language model is a function. In go the ids of a text so far. Out come 22 numbers, one for each token of the vocabulary: the larger the number, the more likely the token comes next. These numbers are called **logits**. They become probabilities by the **softmax**: exponentiate, then divide by the sum,
#
# $$p_v=\frac{e^{z_v}}{\sum_{u}e^{z_u}},$$
#
# where $z_v$ is the logit of token $v$ and $p_v$ its probability. Try it on three logits: $\ln 6$, $\ln 3$, $0$ become $6$, $3$, $1$, and after the division $0.6$, $0.3$, $0.1$. Adding one number to all logits changes nothing, for it cancels in the fraction.
#
# This chapter opens the function. It is already trained (chapter 3 does the training), so that what we see inside has a meaning. The letters for sizes are those of the library:
#
# | letter | counts | in our model |
# |---|---|---|
# | $B$ | rows of the batch | any |
# | $T$ | positions in a row | up to 128 |
# | $V$ | tokens in the vocabulary | 22 |
# | $D$ | numbers that describe one position: the *width* | 64 |
# | $H$ | attention heads | 4 |
# | $K$ | width of one head, $D=H\cdot K$ | 16 |
#
# $V$, $D$, $H$ and $K$ are not learnt; somebody chose them before training began. Such a choice is called a **hyper-parameter**.
#
# We give it one row of 8 tokens and look at the two most probable next tokens after each.

# %% [markdown] lang="zh"
# ## 从编号到分数的函数
# 语言模型是一个函数。输入是一段文本到目前为止的编号，输出是 22 个数，词表里每个词元一个：数越大，下一个就越可能是它。这些数叫 **logits**。要变成概率，用 **softmax**：先取指数，再除以总和，
#
# $$p_v=\frac{e^{z_v}}{\sum_{u}e^{z_u}}$$
#
# 其中 $z_v$ 是词元 $v$ 的 logit，$p_v$ 是它的概率。拿三个 logits 试试：$\ln 6$、$\ln 3$、$0$，取指数得 $6$、$3$、$1$，相除得 $0.6$、$0.3$、$0.1$。给所有 logits 加上同一个数，结果不变，因为它在分子分母里约掉了。
#
# 这一章就把这个函数拆开。模型已经训练好（训练在第 3 章），这样里面看到的东西才有意义。表示大小的字母与程序库一致：
#
# | 字母 | 数的是什么 | 我们的模型 |
# |---|---|---|
# | $B$ | 批次的行数 | 任意 |
# | $T$ | 一行的位置数 | 最多 128 |
# | $V$ | 词表的词元数 | 22 |
# | $D$ | 描述一个位置用几个数，即**宽度** | 64 |
# | $H$ | 注意力头数 | 4 |
# | $K$ | 一个头的宽度，$D=H\cdot K$ | 16 |
#
# $V$、$D$、$H$、$K$ 不是学出来的，是训练开始之前由人选定的。这样选定的数叫**超参数**（hyper-parameter）。
#
# 喂给它一行 8 个词元，看它每读完一个词元，觉得下一个最可能是哪两个。

# %%
torch.set_grad_enabled(False)  # nothing is trained here
device, tokenizer = default_device(), CharTokenizer()
gen = load_pretrained("gen").to(device)


def rows(*texts):
    return torch.tensor([tokenizer.encode(text) for text in texts], device=device)  # (B, T)


text = "S54=27+2"
ids = rows(text)
logits = gen(ids)  # (B, T, V)
probs = logits.softmax(-1)
assert logits.shape == (1, 8, 22)
assert (probs.sum(-1) - 1).abs().max() < 1e-5
assert ((logits + 5).softmax(-1) - probs).abs().max() < 1e-5
for t in range(8):
    p, token = probs[0, t].topk(2)
    print(f"{text[: t + 1]:9}", *(f"{tokenizer.decode([v])} {share:.2f}  " for v, share in zip(token, p)))
assert (torch.tensor([6.0, 3.0, 1.0]).log().softmax(-1) - torch.tensor([0.6, 0.3, 0.1])).abs().max() < 1e-6
assert tokenizer.decode(probs[0, 7].argmax(-1, keepdim=True)) == "7" and probs[0, 7].max() > 0.5
assert probs[0, 5, tokenizer.encode("+")[0]] > 0.95 and probs[0, 3].max() < 0.5

# %% [markdown] lang="en"
# Read from the bottom. After `S54=27+2` the model puts most of its probability on `7`, which completes the sum to 54. After `S54=27` it is almost sure of `+`. After `S54=` it spreads its bets, for many first digits are right. The lines above mean nothing: the model was trained to write completions, never prompts.
#
# ## The residual stream
# Inside, each position carries a vector of $D$ numbers. It begins as a row of a table: token 9 gets row 9. This look-up is the **embedding**. The vector then passes through four layers, and each layer adds to it twice. Nothing is ever overwritten. This running sum is called the **residual stream** ([Elhage et al. 2021](https://transformer-circuits.pub/2021/framework/index.html)): every part reads from it and adds its finding to it. At the end a last matrix turns $D$ numbers into $V$ logits.
#
# ```text
# x = embed_tokens(input_ids)                        (B, T) -> (B, T, D)
# for layer in layers:
#     x = x + self_attn(input_layernorm(x))          (B, T, D)
#     x = x + mlp(post_attention_layernorm(x))       (B, T, D)
# logits = lm_head(norm(x))                          (B, T, D) -> (B, T, V)
# ```
#
# The two additions share the work: in attention (`self_attn`) the positions exchange what they have, in the MLP (`mlp`, explained below) each one thinks by itself. Below is the same plan as code, assembled from the library's own parts. We keep `positions` and `hidden` as arguments, for we shall want to tamper with them. The assertions say that a look-up is a product with one-hot rows, and that the plan is the model.

# %% [markdown] lang="zh"
# 从下往上看。读到 `S54=27+2`，模型把大部分概率给了 `7`，正好凑成 54。读到 `S54=27`，它几乎认定是 `+`。读到 `S54=`，它四处下注，因为用许多数字开头都行得通。再往上的几行没有意义：模型只学过写回答，没学过写提示。
#
# ## 残差流
# 在模型内部，每个位置带着一个向量，有 $D$ 个数。它最初是一张表里的一行：编号 9 的词元，取第 9 行。这一步查表叫**嵌入**（embedding）。向量随后穿过四层，每一层往上加两次，从不覆盖旧的。这个不断累加的和，叫**残差流**（residual stream，[Elhage et al. 2021](https://transformer-circuits.pub/2021/framework/index.html)）：每个部件都从里面读，再把算出的东西加回去。最后用一个矩阵把 $D$ 个数变成 $V$ 个 logits。
#
# ```text
# x = embed_tokens(input_ids)                        (B, T) -> (B, T, D)
# for layer in layers:
#     x = x + self_attn(input_layernorm(x))          (B, T, D)
#     x = x + mlp(post_attention_layernorm(x))       (B, T, D)
# logits = lm_head(norm(x))                          (B, T, D) -> (B, T, V)
# ```
#
# 两次相加，分工不同：注意力（`self_attn`）让各个位置互通消息，MLP（`mlp`，后面会讲）让每个位置自己想一想。下面用程序库自己的部件，照这份图纸拼出整个模型。`positions` 和 `hidden` 留作参数，后面要在上面动手脚。断言检验两件事。其一，查表就是拿独热行去乘这张表；独热（one-hot）行只有一格为一，其余为零。其二，拼出来的就是模型本身。

# %%
def run(model, ids, positions=None, hidden=None):
    """Llama.forward in the open: `positions` (T,) for RoPE, `hidden` (T, T) true where a query must not look."""
    backbone, steps = model.model, torch.arange(ids.shape[1], device=ids.device)
    positions = steps if positions is None else positions.to(ids.device)
    hidden = steps > steps[:, None] if hidden is None else hidden.to(ids.device)
    shared = backbone.frame(Layout(positions.repeat(len(ids)), hidden, ids))  # what every layer needs of both
    x = backbone.embed_tokens(ids.flatten())  # (B·T, D): the library keeps all rows in one list
    for layer in backbone.layers:
        x = x + layer.self_attn(layer.input_layernorm(x), shared)
        x = x + layer.mlp(layer.post_attention_layernorm(x))
    return model.lm_head(backbone.norm(x)).view(*ids.shape, -1)  # (B, T, V)


table = gen.model.embed_tokens.weight  # (V, D)
one_hot = torch.eye(22, device=device)[ids]  # (B, T, V)
assert torch.equal(gen.model.embed_tokens(ids), table[ids])
assert (one_hot @ table - table[ids]).abs().max() < 1e-6
assert (run(gen, ids) - logits).abs().max() < 1e-4

# %% [markdown] lang="en"
# ## RMSNorm: one size for every vector
# A running sum grows: in our model, from the embedding to the last layer, to more than ten times its length. A part that reads it wants to see a direction, not a size that differs from layer to layer. So each part looks at the stream through **RMSNorm** ([Zhang & Sennrich 2019](https://arxiv.org/abs/1910.07467)): divide the vector by the root of the mean of its squares, then multiply each coordinate by a learnt weight,
#
# $$\mathrm{RMSNorm}(x)=w\odot\frac{x}{\sqrt{\frac1D\sum_{i=1}^{D}x_i^2+\varepsilon}},$$
#
# where $w$ has $D$ numbers, $\odot$ multiplies coordinate by coordinate, and $\varepsilon=10^{-6}$ keeps a zero vector from dividing by zero. By hand, with $w=1$: take $x=(1,-1,7,7)$. The squares are 1, 1, 49, 49; their mean is 25; its root is 5. The result is $(0.2,-0.2,1.4,1.4)$. Ten times $x$ gives the same.

# %% [markdown] lang="zh"
# ## RMSNorm：把向量缩放到同样大小
# 一路累加，向量会越来越长：在我们的模型里，从嵌入到最后一层，长到十倍以上。读它的部件要看的是方向；大小各层不一，只会添乱。所以每个部件都透过 **RMSNorm**（[Zhang & Sennrich 2019](https://arxiv.org/abs/1910.07467)）去看残差流：先求各坐标平方的平均数，开方，拿它去除整个向量；再逐坐标乘上学出来的权重，
#
# $$\mathrm{RMSNorm}(x)=w\odot\frac{x}{\sqrt{\frac1D\sum_{i=1}^{D}x_i^2+\varepsilon}}$$
#
# 其中 $w$ 有 $D$ 个数，$\odot$ 是逐坐标相乘，$\varepsilon=10^{-6}$ 防止零向量除以零。取 $w=1$，手算 $x=(1,-1,7,7)$：平方是 1、1、49、49，平均 25，开方得 5，结果是 $(0.2,-0.2,1.4,1.4)$。把 $x$ 放大十倍，结果不变。

# %%
norm = RMSNorm(4, eps=1e-6)
x = torch.tensor([1.0, -1.0, 7.0, 7.0])
assert (norm(x) - torch.tensor([0.2, -0.2, 1.4, 1.4])).abs().max() < 1e-6
assert (norm(10 * x) - norm(x)).abs().max() < 1e-6

lengths = []
listening = gen.model.norm.register_forward_pre_hook(lambda module, inputs: lengths.append(inputs[0].norm(dim=-1)))
gen(ids)
listening.remove()
growth = (lengths[0] / gen.model.embed_tokens(ids).norm(dim=-1)).mean().item()
assert growth > 10

# %% [markdown] lang="en"
# ## Attention: reading from other positions
# To continue `S54=27+2` one must know the 4 and the 7, and they stand at other positions. **Attention** is how one position reads from others. Each position makes three vectors of width $K$ from its own: a **query** $q$ (what I look for), a **key** $k$ (what I can be found by) and a **value** $v$ (what I hand over). The score of position $t$ for position $j$ is the dot product $q_t\cdot k_j$. A softmax over all $j\le t$ turns scores into weights $a_{tj}$, and position $t$ receives the weighted mean $o_t$ of the values ([Vaswani et al. 2017](https://arxiv.org/abs/1706.03762)):
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
# As code, for a whole batch, it is two functions. Given these matrices, they must say the same.

# %% [markdown] lang="zh"
# ## 注意力：从别的位置读
# 要续写 `S54=27+2`，得知道前面的 4 和 7，可它们在别的位置上。**注意力**（attention）就是一个位置向别的位置读取的办法。每个位置由自己的向量生出三个宽为 $K$ 的向量：**查询**（query）$q$，我要找什么；**键**（key）$k$，凭什么找到我；**值**（value）$v$，找到了我给什么。位置 $t$ 给位置 $j$ 打的分，是内积 $q_t\cdot k_j$。对所有 $j\le t$ 做 softmax，分数变成权重 $a_{tj}$；位置 $t$ 收到的，是各个值的加权平均 $o_t$（[Vaswani et al. 2017](https://arxiv.org/abs/1706.03762)）：
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
# 写成代码，是两个函数，一次算整个批。把这几个矩阵交给它们，必须得出同样的数。

# %%
def weights(module, x, cos, sin, hidden):
    """(B, H, T, T): how much each query takes from each key; 0 where `hidden` is true."""
    q, k = (p(x).unflatten(-1, (module.heads, -1)).transpose(1, 2) for p in (module.q_proj, module.k_proj))
    q, k = apply_rope(q, cos, sin), apply_rope(k, cos, sin)  # (B, H, T, K)
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    return scores.masked_fill(hidden, -math.inf).softmax(-1)


def attention(module, x, cos, sin, hidden):
    """(B, T, D) from (B, T, D), with the matrices of one of the library's modules."""
    v = module.v_proj(x).unflatten(-1, (module.heads, -1)).transpose(1, 2)  # (B, H, T, K)
    mixed = weights(module, x, cos, sin, hidden) @ v
    return module.o_proj(mixed.transpose(1, 2).flatten(2))


# %%
tiny = Attention(ModelConfig(hidden_size=2, num_attention_heads=1), layer=0)
tiny.q_proj.weight.copy_(math.sqrt(2) * torch.tensor([[0.0, math.log(3)], [math.log(2), 0.0]]))
for projection in (tiny.k_proj, tiny.v_proj, tiny.o_proj):
    projection.weight.copy_(torch.eye(2))
x = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]])  # (1, 3, 2)
cos, sin = torch.ones(3, 2), torch.zeros(3, 2)  # angle 0: nothing turns yet
future = torch.ones(3, 3).triu(1).bool()
by_hand = torch.tensor([[1, 0], [3 / 4, 1 / 4], [9 / 11, 8 / 11]])
assert (attention(tiny, x, cos, sin, future)[0] - by_hand).abs().max() < 1e-6

q, k = torch.randn(2, 10_000, 16, generator=torch.Generator().manual_seed(0))
assert abs((q * k).sum(-1).std() - math.sqrt(16)) < 0.2
largest = []  # of eight weights, on average: without the root, with it
for width in (4, 16, 64, 256):
    q, k = torch.randn(2, 16_000, width, generator=torch.Generator().manual_seed(0))
    score = (q * k).sum(-1).view(2000, 8)
    scaled = score / math.sqrt(width)
    largest.append([z.softmax(-1).amax(-1).mean() for z in (score, scaled)])
without, with_root = torch.tensor(largest).T
assert (without.diff() > 0).all() and without[-1] > 0.9
assert with_root.max() - with_root.min() < 0.02

# %% [markdown] lang="en"
# Read it downwards. Three matrices make queries, keys and values; `unflatten` and `transpose` cut each into heads; `apply_rope` tells queries and keys where they stand. `scores` is one $(T,T)$ table for each head. `masked_fill` takes away what must not be seen, and `softmax` makes weights of the rest. `weights @ v` is the formula above. The last line glues the heads together and mixes them. The library's module computes this in fewer and larger steps (chapter 13 counts what that saves); the cell on heads below holds the two equal. The next sections take up what we have not explained: the mask, RoPE, the heads, the cache.
#
# ## The causal mask
# In the sum above $j$ runs up to $t$ only: a position must not read its own future. This is the **causal mask**; in the code, `hidden` is true where $j>t$. Two things follow. What the model says at position $t$ stays as it is when text is added behind. And one pass over a text of $T$ tokens asks $T-1$ honest questions at once (chapter 1), because no position can see its answer. Take the mask away, and both fail: a token that is put behind changes what was said before it, and at every position the output depends on the very token that it is to predict.

# %% [markdown] lang="zh"
# 从上往下读。三个矩阵生成查询、键、值；`unflatten` 和 `transpose` 把它们切成若干头；`apply_rope` 让查询和键知道自己站在哪里。`scores` 是每个头一张 $(T,T)$ 的表。`masked_fill` 抹掉不许看的位置，`softmax` 把剩下的变成权重。权重乘 `v` 就是上面的公式。最后一行把各头拼回去，再混合一次。程序库的模块算的是同一回事，只是步子更少、更大（省下多少，第 13 章来算）；讲注意力头的那一格会核对两者相等。掩码、RoPE、头、缓存还没有解释，下面逐个来讲。
#
# ## 因果掩码
# 上面的求和里 $j$ 只到 $t$ 为止：一个位置不许读自己的未来。这就是**因果掩码**（causal mask）；代码里的 `hidden`，在 $j>t$ 处为真。由此得出两件事。其一，后面不论再接什么文本，位置 $t$ 上的输出都不变。其二，$T$ 个词元的文本过一遍模型，就等于老老实实答了 $T-1$ 道题（第 1 章），因为哪个位置都看不到自己的答案。去掉掩码，两件事都不成立：后面换一个词元，前面的输出就变；而且每个位置的输出，都受它正要预测的那个词元影响。

# %%
one, other = rows("S54=27+2"), rows("S54=27-9")  # the first six tokens agree
assert (gen(one)[:, :6] - gen(other)[:, :6]).abs().max() < 1e-4
assert (gen(one)[:, 6:] - gen(other)[:, 6:]).abs().max() > 1
everything = torch.zeros(8, 8, dtype=torch.bool)
assert (run(gen, one, hidden=everything)[:, :6] - run(gen, other, hidden=everything)[:, :6]).abs().max() > 1
for t in range(7):  # another token in the place that position t is to predict
    other = one.clone()
    other[0, t + 1] = tokenizer.encode("3")[0]
    assert (gen(one) - gen(other))[0, t].abs().max() < 1e-4
    leak = run(gen, one, hidden=everything) - run(gen, other, hidden=everything)
    assert leak[0, t].abs().max() > 0.1

# %% [markdown] lang="en"
# ## RoPE: where a token stands
# Within one layer, nothing so far knows the order of what it reads. Attention as written reads a bag: exchange two earlier tokens, and the weighted mean is the same. For sums that will not do; `27` is not `72`.
#
# **Rotary position embedding**, RoPE ([Su et al. 2021](https://arxiv.org/abs/2104.09864)), tells a vector its position by turning it. Take two coordinates of a query as a point in the plane and turn it by the angle $m\theta$, where $m$ is its position; turn the key at position $n$ by $n\theta$. Write $R_m$ for the turn by $m\theta$. A dot product does not change when both vectors are turned together, so turn both back by $m\theta$:
#
# $$(R_m\,q)\cdot(R_n\,k)=q\cdot(R_{n-m}\,k).$$
#
# Only the distance $n-m$ is left. By hand, with $\theta=90°$, $q=(1,0)$ and $k=(0,1)$: at distance 0 the score is $q\cdot k=0$. If the key stands one place before the query, $k$ is turned by $-90°$ into $(1,0)$: score 1. Two places before: $(0,-1)$, score 0. Three places: $(-1,0)$, score $-1$. This pair has become a detector for "the token just before me".

# %% [markdown] lang="zh"
# ## RoPE：词元站在哪里
# 到此为止，单看一层，谁都不知道读到的东西孰先孰后。注意力读的是一袋词元：把前面两个词元对调，加权平均还是老样子。做算术这可不行，`27` 不是 `72`。
#
# **旋转位置编码**（rotary position embedding，RoPE，[Su et al. 2021](https://arxiv.org/abs/2104.09864)）的办法是：把向量转一个角度，让它带上自己的位置。取查询的两个坐标，看成平面上的一个点，转 $m\theta$，$m$ 是查询的位置；位置 $n$ 上的键，转 $n\theta$。把转 $m\theta$ 记作 $R_m$。两个向量转同样的角度，内积不变；那就把两个都往回转 $m\theta$：
#
# $$(R_m\,q)\cdot(R_n\,k)=q\cdot(R_{n-m}\,k)$$
#
# 剩下的只有距离 $n-m$。手算一例：$\theta=90°$，$q=(1,0)$，$k=(0,1)$。距离为 0，分数是 $q\cdot k=0$。键在查询前面一格，$k$ 转 $-90°$ 成了 $(1,0)$，分数 1。前面两格，$(0,-1)$，分数 0。前面三格，$(-1,0)$，分数 $-1$。这一对坐标于是成了探测器，专找「紧挨在我前面的那个词元」。

# %%
layer = gen.model.layers[0].self_attn
x = gen.model.embed_tokens(rows("S54="))  # (1, 4, D)
swapped = x[:, [0, 2, 1, 3]]  # S45=
still = torch.ones(4, 16, device=device), torch.zeros(4, 16, device=device)
turning = gen.model.cos[:4], gen.model.sin[:4]
seen = torch.zeros(4, 4, device=device).bool()  # nothing is hidden
for angles, same in ((still, True), (turning, False)):
    last, other = (attention(layer, row, *angles, seen)[0, 3] for row in (x, swapped))
    assert (last - other).abs().max() < 1e-5 if same else (last - other).abs().max() > 1e-2

quarter = math.pi / 2 * torch.arange(10)[:, None].expand(10, 2)  # (10, 2): 90 degrees for each position
q, k = torch.tensor([[1.0, 0.0]]).expand(10, 2), torch.tensor([[0.0, 1.0]]).expand(10, 2)
score = apply_rope(q, quarter.cos(), quarter.sin()) @ apply_rope(k, quarter.cos(), quarter.sin()).T  # (10, 10)
for m in range(3, 10):
    assert (score[m, [m, m - 1, m - 2, m - 3]] - torch.tensor([0.0, 1.0, 0.0, -1.0])).abs().max() < 1e-4

# %% [markdown] lang="en"
# One pair repeats itself after a full turn. So a head of width $K$ has $K/2$ pairs, and pair $i$ (counted from 0) turns by $\theta_i=10000^{-2i/K}$ for each position. For $K=16$ that is 1, 0.316, 0.1, ... radians: the first pair is back after 6.3 positions, the last after about 20,000. Fast hands and slow hands, as on a clock. Pair $i$ is made of the coordinates $i$ and $i+K/2$; any fixed pairing would do, but a checkpoint remembers which one it was trained with (exercise 2.3).
#
# The claim "distance only" is about all positions and all vectors. We take 100 random queries and keys of width 16, put each pair of them at all $128\cdot128$ positions, and compare scores of equal distance. Then we plant a mistake: the key is not turned.

# %% [markdown] lang="zh"
# 只用一对坐标，转满一圈就分不清了。所以宽为 $K$ 的头有 $K/2$ 对，第 $i$ 对（从 0 数起）每过一个位置转 $\theta_i=10000^{-2i/K}$。$K=16$ 时，依次是 1、0.316、0.1……弧度：第一对过 6.3 个位置转完一圈，最后一对要走约 20,000 个。像钟表一样，快针慢针各管一段。第 $i$ 对由坐标 $i$ 和 $i+K/2$ 组成。怎么配对都可以，只要固定下来；但**检查点**（checkpoint），也就是存下来的模型，只认训练时用的那一种（练习 2.3）。
#
# 「只认距离」说的是所有位置、所有向量。取 100 组随机的查询和键，宽 16，把每一组放到全部 $128\cdot128$ 种位置上，比较距离相同的分数。再种下一个错误：键不转。

# %%
def spread(scores):
    """The largest difference between scores of equal distance; scores (100, 128, 128)."""
    lines = [scores.diagonal(distance, dim1=1, dim2=2) for distance in range(-126, 127)]
    return max((line.amax(-1) - line.amin(-1)).max().item() for line in lines)


theta = 10_000.0 ** (-torch.arange(0, 16, 2) / 16)  # (8,) radians for each position
assert (theta[:3] - torch.tensor([1, 0.316, 0.1])).abs().max() < 5e-4
assert abs(2 * math.pi / theta[0] - 6.3) < 0.05 and abs(2 * math.pi / theta[-1] - 20_000) < 200
cos, sin = rope_tables(128, 16, 10_000.0)  # (128, 16) each
generator = torch.Generator().manual_seed(0)
q, k = torch.randn(2, 100, 1, 16, generator=generator).expand(2, 100, 128, 16)  # the same vector at all positions
turned_q, turned_k = apply_rope(q, cos, sin), apply_rope(k, cos, sin)
right = turned_q @ turned_k.transpose(-1, -2)  # (100, 128, 128)
wrong = turned_q @ k.transpose(-1, -2)
assert spread(right) < 1e-3
assert spread(wrong) > 1

# %% alt_en="Left: two sets of numbered points on a circle, positions 0 to 5; one set turns by 1 radian each step, the other by 0.316. Right: scores against distance; dots of the correct version lie on one curve, dots of the version without a turned key scatter." alt_zh="左：圆周上两组标号的点，位置 0 到 5；一组每步转 1 弧度，另一组每步转 0.316。右：分数对距离；正确做法的点都落在一条曲线上，键不转的点四处散开。"
fig, (left, plot) = figure(2, width=7.4, height=3.4)
circle = torch.linspace(0, 2 * math.pi, 99)
for i, radius, color in ((0, 1.0, "policy"), (1, 0.7, "chosen")):
    left.plot(radius * circle.cos(), radius * circle.sin(), color=INK, lw=0.6)
    angle = torch.arange(6) * theta[i]
    left.plot(radius * angle.cos(), radius * angle.sin(), "o", color=COLORS[color], markersize=5)
    for m in range(6):
        place = (radius + 0.14) * angle[m].cos(), (radius + 0.14) * angle[m].sin()
        left.text(*place, m, ha="center", va="center", fontsize=9, color=COLORS[color])
    left.text(0, 0.1 - 0.3 * i, rf"$\theta_{i}={theta[i]:.3g}$", ha="center", color=COLORS[color])
left.set(aspect="equal", xticks=[], yticks=[], xlim=(-1.25, 1.25), ylim=(-1.25, 1.25))
left.spines[:].set_visible(False)
m, n = torch.randint(0, 25, (2, 250), generator=torch.Generator().manual_seed(1))
v, turned = q[1], turned_q[1]  # (128, 16): one vector, as query and as key
distance = torch.arange(-24, 25)  # n - m
angle = torch.outer(distance, theta).repeat(1, 2)  # (49, 16)
curve = apply_rope(v[:49], angle.cos(), angle.sin()) @ v[0]  # (49,)
both, one = (turned[m] * turned[n]).sum(-1), (turned[m] * v[n]).sum(-1)
plot.plot(n - m, one, "x", color=COLORS["rejected"], markersize=4, label=r"$R_m q\cdot k$", alpha=0.7)
plot.plot(n - m, both, "o", color=COLORS["policy"], markersize=4, label=r"$R_m q\cdot R_n k$")
plot.plot(distance, curve, color=COLORS["theory"], lw=1, label=r"$q\cdot R_{n-m}k$")
plot.set(xlabel=r"$n-m$", ylabel=r"$q\cdot k$")
plot.legend(loc="upper center", bbox_to_anchor=(0.5, 1.2), ncol=3, fontsize=9, columnspacing=1, handletextpad=0.3)
assert (curve[24 + n - m] - both).abs().max() < 1e-3 and curve.argmax() == 24

# %% [markdown] lang="en"
# **Figure 2.1.** Left: one pair of coordinates at positions 0 to 5, for the fastest pair (outer circle) and the second (inner). Right: the score of a query with an equal key at 250 random pairs of positions. Turn both and the scores lie on one curve: they depend on the distance alone, and are highest at distance 0. Turn the query only (crosses) and they scatter.

# %% [markdown] lang="zh"
# **图 2.1** 左：一对坐标在位置 0 到 5 上的样子，外圈是最快的一对，内圈是第二对。右：查询和键取同一个向量，放在 250 组随机的位置上打分。两个都转，分数都落在一条曲线上：只由距离决定，距离为 0 时最高。只转查询（叉号），分数就散了。

# %% [markdown] lang="en"
# ## Heads
# One softmax gives one distribution. To write the second number of a sum, a position may need the last digit of the target *and* the last digit of the first number; one weighted mean would blur them. So the $D$ coordinates are cut into $H$ slices of width $K$, and each slice, an **attention head**, has scores and weights of its own. In the code a head costs nothing but a `view` and a `transpose`: $(B,T,D)\to(B,T,H,K)\to(B,H,T,K)$. The cell below computes the heads one after another with plain slices.

# %% [markdown] lang="zh"
# ## 注意力头
# 一次 softmax 只给出一个分布。要写加法的第二个数，一个位置可能既要目标的个位，又要第一个数的个位；只取一次加权平均，两样就糊在一起了。于是把 $D$ 个坐标切成 $H$ 份，每份宽 $K$，叫一个**注意力头**（attention head），各打各的分，各有各的权重。写成代码，分头不过是多一次 `view` 和一次 `transpose`：$(B,T,D)\to(B,T,H,K)\to(B,H,T,K)$。下面只用普通的切片，一个头一个头地算，结果相同。

# %%
x = gen.model.layers[0].input_layernorm(gen.model.embed_tokens(ids))[0]  # (T, D)
cos, sin = gen.model.cos[:8], gen.model.sin[:8]
future = torch.ones(8, 8, device=device).triu(1).bool()
heads = []
for h in range(4):
    part = slice(16 * h, 16 * (h + 1))
    q, k, v = (p.weight[part] @ x.T for p in (layer.q_proj, layer.k_proj, layer.v_proj))  # (K, T) each
    q, k = apply_rope(q.T, cos, sin), apply_rope(k.T, cos, sin)  # (T, K)
    shares = (q @ k.T / math.sqrt(16)).masked_fill(future, -math.inf).softmax(-1)  # (T, T)
    heads.append(shares @ v.T)  # (T, K)
one_by_one = layer.o_proj(torch.cat(heads, -1))  # (T, D)
assert (one_by_one - attention(layer, x[None], cos, sin, future)[0]).abs().max() < 1e-4
library = layer(x, gen.model.frame(Layout(torch.arange(8, device=device), future, ids)))
assert (one_by_one - library).abs().max() < 1e-4

# %% [markdown] lang="en"
# ## SwiGLU: what a position does alone
# Attention only mixes what is there. To compute something new from the mixture, each position works by itself, on its own vector. The part for this is called MLP (multi-layer perceptron); in a Llama it is **SwiGLU** ([Shazeer 2020](https://arxiv.org/abs/2002.05202)):
#
# $$\mathrm{MLP}(x)=W_{\mathrm{down}}\bigl(\mathrm{silu}(W_{\mathrm{gate}}\,x)\odot W_{\mathrm{up}}\,x\bigr),\qquad \mathrm{silu}(z)=\frac{z}{1+e^{-z}}.$$
#
# Two matrices make two vectors; one of them, after silu, acts as a gate for the other; a third matrix leads back to width $D$. silu is near 0 for very negative $z$ and near $z$ for large $z$: it lets through or shuts. By hand, for one hidden number: gate $z=\ln3$ gives $\mathrm{silu}(\ln3)=\frac34\ln3$, since $1+e^{-\ln3}=\frac43$. With $W_{\mathrm{up}}\,x=4$ the product is $3\ln3\approx3.296$.

# %% [markdown] lang="zh"
# ## SwiGLU：一个位置独自做的事
# 注意力只会混合已有的东西。要从混合的结果里算出新东西，得靠每个位置拿着自己的向量单独去算，不看别人。干这件事的部件叫 MLP（多层感知机，multi-layer perceptron）；Llama 里用的是 **SwiGLU**（[Shazeer 2020](https://arxiv.org/abs/2002.05202)）：
#
# $$\mathrm{MLP}(x)=W_{\mathrm{down}}\bigl(\mathrm{silu}(W_{\mathrm{gate}}\,x)\odot W_{\mathrm{up}}\,x\bigr),\qquad \mathrm{silu}(z)=\frac{z}{1+e^{-z}}$$
#
# 两个矩阵各生成一个向量，其中一个过 silu，当作另一个的闸门；第三个矩阵把结果送回宽度 $D$。$z$ 负得很多时，silu 接近 0；$z$ 很大时，silu 接近 $z$：一关一开。为了手算，设这两个向量都只有一个数：闸门 $z=\ln3$，因为 $1+e^{-\ln3}=\frac43$，所以 $\mathrm{silu}(\ln3)=\frac34\ln3$。再设 $W_{\mathrm{up}}\,x=4$，乘积是 $3\ln3\approx3.296$。

# %%
small = MLP(ModelConfig(hidden_size=2, num_attention_heads=1, intermediate_size=1))
small.gate_proj.weight.copy_(torch.tensor([[math.log(3), 0.0]]))
small.up_proj.weight.copy_(torch.tensor([[0.0, 4.0]]))
small.down_proj.weight.copy_(torch.tensor([[1.0], [0.0]]))
assert (small(torch.ones(2)) - torch.tensor([3 * math.log(3), 0.0])).abs().max() < 1e-6
assert abs(3 * math.log(3) - 3.296) < 5e-4

# %% [markdown] lang="en"
# ## 118,080 numbers
# That is the whole model. What is there to learn in it? Count by hand.
#
# | part | shape | numbers |
# |---|---|---|
# | query, key, value, output of attention | 4 matrices of 64 · 64 | 16,384 |
# | gate, up, down of the MLP | 3 matrices of 64 · 64 | 12,288 |
# | two norms | 2 · 64 | 128 |
# | **one layer** | | **28,800** |
# | four layers | 4 · 28,800 | 115,200 |
# | embedding and `lm_head` | 2 · 22 · 64 | 2,816 |
# | last norm | 64 | 64 |
# | **all** | | **118,080** |
#
# RoPE has nothing to learn: its angles are fixed.

# %% [markdown] lang="zh"
# ## 118,080 个数
# 整个模型就是这些。里面要学的数有多少？我们用手数一遍。
#
# | 部件 | 形状 | 个数 |
# |---|---|---|
# | 注意力的查询、键、值、输出 | 4 个 64 · 64 的矩阵 | 16,384 |
# | MLP 的 gate、up、down | 3 个 64 · 64 的矩阵 | 12,288 |
# | 两个 norm | 2 · 64 | 128 |
# | **一层** | | **28,800** |
# | 四层 | 4 · 28,800 | 115,200 |
# | 嵌入和 `lm_head` | 2 · 22 · 64 | 2,816 |
# | 最后的 norm | 64 | 64 |
# | **合计** | | **118,080** |
#
# RoPE 没有要学的东西：角度是事先定好的。

# %%
count = {name: p.numel() for name, p in gen.named_parameters()}
one_layer = sum(n for name, n in count.items() if name.startswith("model.layers.0."))
assert (4 * 64 * 64, 3 * 64 * 64, 2 * 64, 2 * 22 * 64) == (16_384, 12_288, 128, 2_816)
assert one_layer == 16_384 + 12_288 + 128 == 28_800
assert sum(count.values()) == 4 * one_layer + 2_816 + 64 == 115_200 + 2_880 == 118_080
print(*list(count)[:10], sep="\n")

# %% [markdown] lang="en"
# ## Is it a Llama?
# The names printed above are those of Hugging Face's `LlamaForCausalLM`, and the design is that of [Touvron et al. 2023](https://arxiv.org/abs/2302.13971): RMSNorm before each part, SwiGLU, RoPE. But same names do not make same numbers. So `chapters/data/llama_reference.py` built both models with the same weights, ten times larger than at the start of a training, so that a wrong angle cannot hide in the sixth digit. It stored what transformers computed for two rows. We must agree to within rounding. And to see that this comparison can fail at all, we break our model in three ways.

# %% [markdown] lang="zh"
# ## 它真是 Llama 吗
# 上面打印的名字，就是 Hugging Face 的 `LlamaForCausalLM` 里的名字；设计也照 [Touvron et al. 2023](https://arxiv.org/abs/2302.13971)：每个部件之前做 RMSNorm，用 SwiGLU，用 RoPE。但名字相同，不等于数相同。所以 `chapters/data/llama_reference.py` 用同一套权重把两个模型都建起来，权重比训练之初大十倍，免得角度转错了，却要到小数点后第六位才看得出来；再把 transformers 对两行文本算出的数存下来。我们的数必须与它一致，只许有舍入误差。这样的比较真能抓到错吗？再用三种办法弄坏我们的模型，看它抓不抓得到。

# %%
reference = json.loads(Path("data/llama_reference.json").read_text())
loud = loud_model().to(device)


def gap():
    """The largest difference between our logits and those of transformers."""
    pairs = [(loud(rows(row["text"]))[0], row["logits"]) for row in reference["rows"]]
    return max((ours - torch.tensor(theirs, device=device)).abs().max().item() for ours, theirs in pairs)


print("transformers", reference["transformers"], "·", reference["command"])
assert gap() < 1e-4
loud.model.sin.neg_()
turned_backwards = gap()
loud.model.sin.neg_()
with patch("torch.nn.functional.silu", torch.nn.functional.gelu):
    other_gate = gap()
with patch.object(loud.model.layers[0].input_layernorm, "eps", 1e-2):
    other_eps = gap()
assert min(turned_backwards, other_gate, other_eps) > 0.5
print(f"RoPE backwards {turned_backwards:.1f}  gelu for silu {other_gate:.1f}  eps in one norm {other_eps:.1f}")

# %% [markdown] lang="en"
# ## Left padding
# Chapter 1 padded rows on the left, so that all rows end together. Two things can now go wrong, and it pays to keep them apart.
#
# **Reading the padding.** The causal mask does not hide what stands to the left. The attention mask must, and the model adds it to `hidden`. Forget it, and the row is another row.
#
# **Counting the padding.** The numbers of the positions are called position ids. With three `P` in front, is `S` at position 0 or 3? For RoPE this does not matter: all positions move together, distances stay, scores stay. A model that learns a vector for each absolute position does care; the difference has been reported for GPT-2 ([TRL issue 6800](https://github.com/huggingface/trl/issues/6800)), and the same report says that RoPE models are safe. They are safe from a *common* shift only. Count the prompt with its padding and the new tokens without, as a careless generation loop does, and the distances between the two are wrong. Our model counts real tokens everywhere. The cell shows all four cases.

# %% [markdown] lang="zh"
# ## 左填充
# 第 1 章在左边填充，好让各行在同一处结束。这样一来，有两件事可能出错，要分开看。
#
# **读到了填充。** 因果掩码不管左边的东西，左边的填充要靠注意力掩码来遮；模型会把注意力掩码并进 `hidden`。忘了给，这一行就成了另一行。
#
# **数进了填充。** 各个位置的号码叫 position ids。前面有三个 `P`，那么 `S` 算位置 0 还是 3？对 RoPE 来说无所谓：大家一起挪，距离不变，分数也不变。换成给每个绝对位置学一个向量的模型，就有关系了；有人在 GPT-2 上报告过这种偏差（[TRL issue 6800](https://github.com/huggingface/trl/issues/6800)），那份报告也说 RoPE 模型不受影响。但不受影响有个前提：**一起**挪。要是数提示时连填充一起数，数新词元时却不算填充（生成循环写得粗心就会这样），两段之间的距离就错了。我们的模型处处只数真正的词元。下面四种情形都试一遍。

# %%
padded = rows("PPP" + text)
mask = torch.tensor([[0] * 3 + [1] * 8], device=device)
seven = tokenizer.encode("7")[0]
print(f"p(7)  alone {probs[0, 7, seven]:.2f}", end="")
assert (gen(padded, mask)[0, -1] - logits[0, -1]).abs().max() < 1e-4
unmasked = gen(padded)[0, -1]  # the padding is read
assert (unmasked - logits[0, -1]).abs().max() > 0.1
for shift in (3, 100):  # the padding is counted, everywhere
    assert (run(gen, ids, positions=torch.arange(8) + shift) - logits).abs().max() < 1e-3
careless = run(gen, ids, positions=torch.tensor([3, 4, 5, 6, 4, 5, 6, 7]))[0, -1]  # counted in the prompt only
assert (careless - logits[0, -1]).abs().max() > 0.1
print(f"  padding read {unmasked.softmax(-1)[seven]:.2f}  counted in the prompt only {careless.softmax(-1)[seven]:.2f}")

# %% [markdown] lang="en"
# ## The KV cache
# To write a completion, the model is asked again after every new token. The causal mask says that the earlier positions have nothing new to compute: their keys and values cannot depend on what came later. So they are kept, in a **KV cache**, and only the new token goes through the layers. Its query meets the stored keys, its result is the same as if the whole row had been computed again. [Chapter 4](04_sampling.ipynb) writes whole batches this way; here is the equality, for a prompt of four tokens followed by one token at a time.

# %% [markdown] lang="zh"
# ## KV 缓存
# 写回答时，每添一个词元，就要再问模型一次。有因果掩码在，前面的位置没有新东西可算：它们的键和值不可能依赖后来的词元。那就存起来，这就是 **KV 缓存**（KV cache）。之后只让新词元过各层，用它的查询去对存下的键，结果与整行重算一样。[第 4 章](04_sampling.ipynb)就用这个办法成批地写回答。这里只验证相等：先喂四个词元的提示，再一次添一个词元。

# %%
cache = KVCache()
pieces = [gen(ids[:, :4], cache=cache)]
pieces += [gen(ids[:, t : t + 1], cache=cache) for t in range(4, 8)]  # one token each
assert (torch.cat(pieces, dim=1) - logits).abs().max() < 1e-4
assert cache.length == 8 and cache.layers[0][0].shape == (1, 4, 8, 16)  # (B, H, S, K)

# %% [markdown] lang="en"
# ## Where the trained model looks
# Attention weights can be looked at, and it is tempting to read them as reasons. We do both, and check the second. The left half of Figure 2.2 shows the row `S54=27+27E`: for each reading position $t$ (downwards) and each token $j$ (across) the weight, in percent, averaged over the 16 heads. Above the diagonal it is exactly 0: that is the causal mask. A single head is sharper than this mean: in the answer, the typical head puts more than half of its weight on one token.
#
# Now the check. We take 229 sums of this shape, such as `S54=27+27E`, and ask at position 7 for the probability of the right last digit. Then we hide one token $j$: first from position 7 only, then from all later positions. If the row of position 7 told the whole story, a token that gets little weight there could be hidden from everyone at little cost.

# %% [markdown] lang="zh"
# ## 训练好的模型往哪儿看
# 注意力权重看得见，人就忍不住把它当成理由。我们先看，再查这样解读对不对。图 2.2 左边是 `S54=27+27E` 这一行：纵向是在读的位置 $t$，横向是被读的词元 $j$，格子里是 16 个头的平均权重，写成百分数。对角线以上恰好是 0，那是因果掩码。单个头比这个平均更集中：在回答部分，一个典型的头会把一半以上的权重压在同一个词元上。
#
# 再来查。取 229 道这种形状的加法，比如 `S54=27+27E`，在位置 7 问模型：它给正确的末位数字多大概率？然后遮住一个词元 $j$：先只对位置 7 遮，再对 $j$ 之后的所有位置遮。假如图上位置 7 那一行就是全部真相，那么一个词元在这一行里权重很小，即使对谁都遮住，也不该有多大影响。

# %%
def attention_maps(model, ids):
    """(layers, B, H, T, T): every head's weights, layer by layer."""
    backbone, length = model.model, ids.shape[1]
    cos, sin = backbone.cos[:length], backbone.sin[:length]
    future = torch.ones(length, length, device=device).triu(1).bool()
    x, maps = backbone.embed_tokens(ids), []
    for layer in backbone.layers:
        normed = layer.input_layernorm(x)
        maps.append(weights(layer.self_attn, normed, cos, sin, future))
        x = x + attention(layer.self_attn, normed, cos, sin, future)
        x = x + layer.mlp(layer.post_attention_layernorm(x))
    return torch.stack(maps)


texts = [f"S{a + b}={a}+{b}E" for a in range(10, 50) for b in range(10, 50)][::7]  # S t u = a b + c d E
sums = rows(*texts)
maps = attention_maps(gen, sums)
assert len(texts) == 229 and sums.shape[1] == 10 and maps.shape == (4, 229, 4, 10, 10)
assert maps.triu(1).max() == 0 and (maps.sum(-1) - 1).abs().max() < 1e-5
assert maps[:, :, :, 4:9].amax(-1).median() > 0.5
example = attention_maps(gen, rows("S54=27+27E")).mean((0, 1, 2)).cpu()  # (T, T)

# %%
def right_digit(hidden=None):
    """The mean probability of the right last digit, asked at position 7."""
    p = run(gen, sums, hidden=hidden)[:, 7].softmax(-1)  # (229, V)
    return p.gather(1, sums[:, 8:9]).mean().item()


seen, from_seven, from_all = right_digit(), [], []
for j in range(7):
    hidden = torch.ones(10, 10).triu(1).bool()
    hidden[7, j] = True
    from_seven.append(right_digit(hidden))
    hidden[j + 1 :, j] = True
    from_all.append(right_digit(hidden))
print(f"seen {seen:.2f}\nj            " + "    ".join("Stu=ab+"))
print("from 7   ", *(f"{p:.2f}" for p in from_seven), "\nfrom all ", *(f"{p:.2f}" for p in from_all))
assert seen > 0.75
assert example[7, 2] < 0.1 and from_seven[2] > seen - 0.1  # looked at little, and needed little, by position 7
assert max(from_all[2], from_all[5]) < 0.3  # but nobody can do without u and b
assert from_all[0] > seen - 0.05 and from_all[3] < seen - 0.2  # S and =, which never vary
assert example[7].argmax() == 6 and max(from_seven[6], from_all[6]) < 0.02  # the plus is read most, and needed

# %% alt_en="Left: a triangle of 10 by 10 squares, with the weight in percent in each, darker where the heads look more; empty above the diagonal. Right: pairs of bars for the 7 tokens before position 7, and a dashed line for the model that sees everything." alt_zh="左：10 乘 10 的方格三角形，每格写着权重（百分数），看得多的格子颜色深，对角线以上全空。右：位置 7 之前的 7 个词元各一对柱子，另有一条虚线，表示什么都不遮的模型。"
fig, (left, bars) = figure(2, width=7.4, height=3.5)
left.imshow(example.masked_fill(example == 0, math.nan), cmap="Blues", vmin=0, vmax=0.6)
left.set_xticks(range(10), "S54=27+27E", family="monospace")
left.set_yticks(range(10), "S54=27+27E", family="monospace")
left.set(xlabel="$j$", ylabel="$t$")
left.grid(False)
places = torch.arange(7)
bars.bar(places - 0.2, from_seven, 0.38, color=COLORS["ref"], label="$t=7$")
bars.bar(places + 0.2, from_all, 0.38, color=COLORS["rejected"], label="$t>j$")
bars.axhline(seen, color=COLORS["policy"], lw=1.2, ls="--")
bars.set_xticks(places, "S54=27+", family="monospace")
bars.set(ylim=(0, 1.12), xlabel="$j$", ylabel="$p$")
bars.legend(ncol=2, loc="upper center", fontsize=9)
for t in range(10):
    for j in range(t + 1):
        ink = "white" if example[t, j] > 0.3 else "#20303c"
        left.text(j, t, f"{100 * example[t, j]:.0f}", ha="center", va="center", fontsize=7, color=ink)

# %% [markdown] lang="en"
# **Figure 2.2.** Left: attention weights in percent, mean of all heads; reading position $t$ downwards, token read $j$ across. Right: the probability of the right last digit when token $j$ is hidden from position 7 only (grey) or from all later positions (orange); dashed: nothing hidden. At the plus both bars are nearly 0. The letters on the axis stand for all 229 sums.

# %% [markdown] lang="zh"
# **图 2.2** 左：注意力权重，所有头的平均，写成百分数；纵向是在读的位置 $t$，横向是被读的词元 $j$。右：遮住词元 $j$ 后，正确的末位数字还有多大概率；灰色只对位置 7 遮，橙色对 $j$ 之后的所有位置遮，虚线是什么都不遮。加号处两根柱子都接近 0。横轴上的字符代表全部 229 道加法。

# %% [markdown] lang="en"
# Look at $j=2$, the last digit of the target (the 4 of 54). Position 7 gives it less than a tenth of its weight, and hardly misses it when it is hidden from position 7 alone. Hide it from everyone, and the probability falls below 0.3. So earlier positions have read the 4 and passed it on through the stream: information travels in several steps, and one map shows one step.
#
# `S` and `=` stand in every text of our world and so say nothing by themselves. Hiding `S` ($j=0$) from everyone costs less than 0.05. Hiding `=` ($j=3$) costs more than 0.2. What is lost there cannot be news from `=`, which never varies; it is what the position of `=` had gathered from the digits before it, or merely the habit of reading there. So a drop says that a *place* is used, not yet what for. The same caution holds for $j=6$, the plus: position 7 reads it most and fails without it, but whether it misses the plus or what was gathered at that place, this experiment cannot say.

# %% [markdown] lang="zh"
# 先看 $j=2$，目标的个位（54 的 4）。位置 7 分给它的权重不到十分之一；只对位置 7 遮住它，也几乎没有影响。对后面所有位置都遮住，概率就跌到 0.3 以下。可见前面的位置早已读过这个 4，又经残差流传了过来：信息要走好几步，一张图只照见其中一步。
#
# 有两个词元在每段文本里都一样，本身什么也没说。对所有位置遮住 `S`（$j=0$），概率只下降不到 0.05；遮住 `=`（$j=3$），却要下降 0.2 以上。丢掉的不会是 `=` 自己的消息，因为它从来不变；丢掉的，是 `=` 那个位置从前面的数字里汇集来的东西，或者只是模型到那里去读的习惯。所以概率下跌，只说明用到了这个**位置**，还没说明用来做什么。对 $j=6$ 的加号，也要这样小心：位置 7 读它最多，遮住它就答不出来；可缺的是加号本身，还是汇集到那里的东西，这个实验分不清。

# %% [markdown] lang="en"
# > **What the toy hides.** The first Llama of 7B has this very design with width 4096, 32 layers and 32 heads: the code does not change, the sizes do. Later ones let several query heads share one key and value head (grouped-query attention, [Ainslie et al. 2023](https://arxiv.org/abs/2305.13245); exercises 2.2 and 2.4), which shrinks the KV cache; so does the smallest Llama 3.2, of 1B ([its model card](https://github.com/meta-llama/llama-models/blob/main/models/llama3_2/MODEL_CARD.md)). That one also uses one table for embedding and output (tied embeddings); in ours that table would be 1 % of the model, with a large vocabulary it is a good part of it. Weights are often kept in bf16, 16 bits with 8 significant binary digits; then logits agree to about 2 decimal digits and no longer to 5. And at thousands of positions the $(T,T)$ scores need not be written down as a whole, and RoPE's angles are often rescaled to reach further than the first training did.

# %% [markdown] lang="zh"
# > **玩具没告诉你的。** 最初的 7B Llama 就是这个设计，宽 4096，32 层，32 个头：代码不变，变的是尺寸。后来的同族，让几个查询头共用一组键和值（分组查询注意力，grouped-query attention，[Ainslie et al. 2023](https://arxiv.org/abs/2305.13245)；练习 2.2 和 2.4），KV 缓存就小了；Llama 3.2 里最小的那个只有 1B，也这样做（见[它的模型卡](https://github.com/meta-llama/llama-models/blob/main/models/llama3_2/MODEL_CARD.md)）。它还让嵌入和输出共用一张表（tied embeddings）；这张表在我们这里只占模型的 1%，词表一大，就要占去可观的一块。权重常用 bf16 存放：一个数 16 位，二进制的有效数字只有 8 位；logits 因此只对得上大约 2 位十进制数字，到不了 5 位。位置上千时，$(T,T)$ 的分数表不必整张写出来；RoPE 的角度也常常重新缩放，好够得着最初训练时没到过的距离。

# %%
assert round(100 * 22 * 64 / 118_080) == 1  # one table, in percent of the model
assert torch.finfo(torch.bfloat16).bits == 16 and torch.finfo(torch.bfloat16).eps == 2**-7  # 8 significant bits
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
# In grouped-query attention several query heads share one key head and one value head. Suppose that in our model all 4 query heads of a layer share a single key head and a single value head of width 16. How many parameters has the model then?
#
# <details><summary>Hint</summary>
#
# Which two matrices of a layer shrink, and to what shape? There are four layers.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 2.2 · 四个查询，一个键
# ★★☆ · 10 分钟
#
# 在分组查询注意力里，几个查询头共用一个键头和一个值头。假设在我们的模型里，每层的 4 个查询头共用一个键头和一个值头，宽度都是 16。这时模型有多少个参数？
#
# <details><summary>提示</summary>
#
# 一层里哪两个矩阵变小了，变成什么形状？一共四层。
#
# </details>

# %% tags=["exercise"]
answer_2_2 = ...  # a whole number
check("2.2", answer_2_2)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# `k_proj` and `v_proj` shrink from 64 · 64 to 16 · 64: each layer saves 2 · 48 · 64 = 6,144 numbers, four layers 24,576.
#
# ```python
# answer_2_2 = 118_080 - 4 * 2 * (64 - 16) * 64  # 93,504
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# `k_proj` 和 `v_proj` 从 64 · 64 缩成 16 · 64：每层省下 2 · 48 · 64 = 6,144 个数，四层共 24,576。
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
#     a, b = x[:, 0::2], x[:, 1::2]  # (T, K/2) each
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
#     a, b = x[:, 0::2], x[:, 1::2]  # (T, K/2) each
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
# Repeat each key head and each value head H/G times, so that the copies of one head stand side by side. `repeat_interleave` and `repeat` differ in just this. The rest is the code of `Attention.forward`.
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
# 把每个键头和值头都重复 H/G 次，同一个头的几份要挨在一起。`repeat_interleave` 和 `repeat` 的差别就在这里。其余照搬 `Attention.forward`。
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
