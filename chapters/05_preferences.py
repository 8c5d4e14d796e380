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
# # 5 What people prefer

# %% [markdown] lang="zh"
# # 5 人更喜欢哪一个

# %% [markdown] lang="en"
# > **In this chapter.** You will be able to turn a pile of comparisons into a scale with intervals, to say when there is none or more than one, to recognise what noisy and divided judges do to it, and to train a reward model and measure how well it ranks. You need [chapter 3](03_sft.ipynb) (training, entropy) and [chapter 4](04_sampling.ipynb) (intervals, KL), and to know what a gradient is. 40 minutes to read, and 9 more for the sections marked ⋆; 20 seconds to run.

# %% [markdown] lang="zh"
# > **本章。** 读完后，你能由一堆比较做出一把量回答好坏的尺子，并附上区间；看出什么时候一把也没有，什么时候又不止一把；认出裁判出错、裁判意见不一时，尺子会变成什么样；训练一个奖励模型，量一量它给回答排序排得准不准。需要读过[第 3 章](03_sft.ipynb)（训练、熵）和[第 4 章](04_sampling.ipynb)（区间、KL），还要知道什么是梯度。阅读 40 分钟，带 ⋆ 的几节另需 9 分钟；运行 20 秒。

# %%
import json
import math
from copy import deepcopy
from dataclasses import fields
from itertools import product
from pathlib import Path

import numpy as np
import torch
from checks import check
from torch import nn
from torch.nn.functional import logsigmoid

from dpo_core import tabular
from dpo_core.evaluation import Estimate, mean_interval, wilson
from dpo_core.plotting import COLORS, INK, figure, picture, points
from dpo_core.task import stream

# %% [markdown] lang="en"
# ## Which of the two?
# Let two people mark an answer from 1 to 10. One may give it 6 and the other 8 and mean the same. It asks for less to show two answers and to ask: which is better? [Christiano et al. 2017](https://arxiv.org/abs/1706.03741) found it "much easier for humans to provide consistent comparisons than consistent absolute scores".
#
# A **comparison** is a prompt, two answers to it, and the verdict of a judge, who names the better one. What one would like is something else: for each answer $y$ to a prompt $x$ a number $r(x,y)$, its **reward**, that can be averaged, compared and made large. This chapter goes from the one to the other. With one prompt we leave out the $x$ and write $r_i$ for the reward of answer $i$.
#
# ### Two answers, thirty comparisons
# Two answers to `S54=` are compared 30 times. The first is preferred 20 times, the second 10. So $q$, the probability that the first is preferred, is about 20/30. The **odds** are the wins divided by the losses, 20/10 = 2. Their logarithm, $\log 2=0.69$, treats both sides alike: seen from the second answer the odds are 1/2, and the logarithm only changes its sign. These **log-odds** will be the difference of the two rewards.
#
# > **Before you run it.** 20 to 10. Is it settled that the first answer is the better one?
# >
# > <details><summary>Answer</summary>
# >
# > Not at the usual 95 %. The interval that comes next still contains "no difference".
# >
# > </details>
#
# The estimate of $q$ from $n$ comparisons has the variance $q(1-q)/n$ (chapter 4). What does that do to the log-odds? A small error in $q$ becomes an error in $\log\frac{q}{1-q}$ that is larger by the slope of this function, $1/(q(1-q))$, and a variance is multiplied by the square of the slope. So the standard error, SE, of the log-odds is given by
#
# $$\mathrm{SE}^2=\frac{1}{q^2(1-q)^2}\cdot\frac{q(1-q)}{n}=\frac{1}{n\,q(1-q)}=\frac{1}{\text{wins}}+\frac{1}{\text{losses}}.$$
#
# Here it is 1/20 + 1/10 = 0.15, so SE = 0.39, and the 95 % interval, 0.69 ± 1.96 · 0.39, runs from -0.07 to 1.45.

# %% [markdown] lang="zh"
# ## 哪个更好
# 让两个人给同一个回答打分，从 1 分到 10 分。一个打 6 分，一个打 8 分，心里的评价也许一样。换个问法要省心得多：摆出两个回答，问哪个更好。[Christiano et al. 2017](https://arxiv.org/abs/1706.03741) 发现，同样要求前后一致，让人做比较，比让人打绝对分数容易得多。
#
# 一次**比较**（comparison）包括一个提示、两个回答，还有裁判的一句话：哪个更好。我们想要的却是另一样东西：给提示 $x$ 的每个回答 $y$ 配一个数 $r(x,y)$，叫它的**奖励**（reward）。奖励能求平均，能比大小，能设法提高。把各个回答按奖励标在一条数轴上，就是一把尺子。这一章要做的，就是由一堆比较做出这把尺子。只有一个提示时，$x$ 略去不写，第 $i$ 个回答的奖励记作 $r_i$。
#
# ### 两个回答，三十次比较
# `S54=` 的两个回答比了 30 次，第一个胜 20 次，第二个胜 10 次。设第一个胜出的概率是 $q$，估计值就是 20/30。**几率**（odds，在比较里就是胜负比）是胜的次数除以负的次数，20/10 = 2。取对数得 $\log 2=0.69$，好处是两边一视同仁：站在第二个回答那边看，几率是 1/2，对数只是变号。后面会看到，这个**对数几率**（log-odds）就是两个奖励之差。
#
# > **先猜一猜。** 20 比 10。第一个回答更好，这就算定了吗？
# >
# > <details><summary>答案</summary>
# >
# > 按通行的 95%，还不算。马上要算的区间里，仍有「没有差别」。
# >
# > </details>
#
# 比 $n$ 次，$q$ 的估计值，方差是 $q(1-q)/n$（第 4 章）。传到对数几率上，方差又是多少？$q$ 的一点误差，到了 $\log\frac{q}{1-q}$ 那里，要乘上这个函数的斜率 $1/(q(1-q))$；方差则要乘斜率的平方。所以对数几率的标准误（standard error，SE）满足
#
# $$\mathrm{SE}^2=\frac{1}{q^2(1-q)^2}\cdot\frac{q(1-q)}{n}=\frac{1}{n\,q(1-q)}=\frac{1}{\text{胜}}+\frac{1}{\text{负}}$$
#
# 这里是 1/20 + 1/10 = 0.15，SE = 0.39；95% 区间是 0.69 ± 1.96 · 0.39，从 -0.07 到 1.45。

# %%
wins_of_first, losses_of_first = 20, 10
log_odds = math.log(wins_of_first / losses_of_first)
standard_error = math.sqrt(1 / wins_of_first + 1 / losses_of_first)
low, high = log_odds - 1.96 * standard_error, log_odds + 1.96 * standard_error
by_hand = [f"{x:.2f}" for x in (log_odds, standard_error, low, high)]
print("log-odds {}   SE {}   interval {} to {}".format(*by_hand))
assert math.isclose(standard_error**2, 0.15) and low < 0 < high
assert by_hand == ["0.69", "0.39", "-0.07", "1.45"]

# %% [markdown] lang="en"
# ## Three answers on one scale
# Add a third answer. A beats B by 20 to 10, and B beats C by 20 to 10.
#
# > **Before you run it.** What do you expect of A against C?
# >
# > <details><summary>Answer</summary>
# >
# > Four to one, if comparisons work like exchange rates. That they do is the assumption of this section.
# >
# > </details>
#
# If A is worth two of B, and B is worth two of C, then A is worth four of C: odds multiply along a path. This is all that the **Bradley–Terry model** assumes ([Bradley & Terry 1952](https://doi.org/10.2307/2334029)). Every answer has a reward, and the probability that $i$ is preferred to $j$, written $P(i\succ j)$, depends on the difference alone:
#
# $$P(i\succ j)=\sigma(r_i-r_j)=\frac{1}{1+e^{-(r_i-r_j)}}=\frac{e^{r_i}}{e^{r_i}+e^{r_j}}.$$
#
# The last form (numerator and denominator multiplied by $e^{r_i}$) says that two answers share the votes in proportion to $e^r$. Let A, B and C have the rewards $\log 2$, 0 and $-\log 2$, so that $e^r$ is 2, 1 and 1/2. A gets 2 of 3 votes against B and 4 of 5 against C, and B gets 2 of 3 against C.
#
# Divide $P(i\succ j)$ by $P(j\succ i)$. The odds are $e^{r_i-r_j}$; their logarithm is the difference of the rewards. Differences add along a path, so odds multiply:
#
# $$\mathrm{odds}(i,j)=\frac{P(i\succ j)}{P(j\succ i)}=e^{r_i-r_j},\qquad\mathrm{odds}(i,k)=\mathrm{odds}(i,j)\cdot\mathrm{odds}(j,k).$$

# %% [markdown] lang="zh"
# ## 三个回答，一把尺子
# 再添一个回答。A 对 B 是 20 比 10，B 对 C 也是 20 比 10。
#
# > **先猜一猜。** A 对 C 该是几比几？
# >
# > <details><summary>答案</summary>
# >
# > 四比一，只要比较同汇率一样可以连乘。可以连乘，正是这一节的假设。
# >
# > </details>
#
# 要是一个 A 抵两个 B，一个 B 抵两个 C，一个 A 就抵四个 C：几率沿着路径相乘。**Bradley–Terry 模型**假设的就是这一条（[Bradley & Terry 1952](https://doi.org/10.2307/2334029)）。每个回答有一个奖励；$i$ 胜过 $j$ 的概率记作 $P(i\succ j)$，只取决于两个奖励之差：
#
# $$P(i\succ j)=\sigma(r_i-r_j)=\frac{1}{1+e^{-(r_i-r_j)}}=\frac{e^{r_i}}{e^{r_i}+e^{r_j}}$$
#
# 最后一种写法（分子分母同乘 $e^{r_i}$）是说，两个回答按 $e^r$ 的大小分票。设 A、B、C 的奖励是 $\log 2$、0、$-\log 2$，$e^r$ 就是 2、1、1/2。A 对 B，3 票得 2 票；A 对 C，5 票得 4 票；B 对 C，也是 3 票得 2 票。
#
# 拿 $P(i\succ j)$ 除以 $P(j\succ i)$，得到几率 $e^{r_i-r_j}$，它的对数就是奖励之差。差沿着路径相加，几率沿着路径就相乘：
#
# $$\mathrm{odds}(i,j)=\frac{P(i\succ j)}{P(j\succ i)}=e^{r_i-r_j},\qquad\mathrm{odds}(i,k)=\mathrm{odds}(i,j)\cdot\mathrm{odds}(j,k)$$


# %% tags=["setup"]
def preference_probs(reward):
    """P[i, j], the probability that answer i is preferred to answer j: (..., A, A)."""
    return torch.sigmoid(reward[..., :, None] - reward[..., None, :])


three = math.log(2) * torch.tensor([1, 0, -1]).double()  # rewards of A, B, C
P = preference_probs(three)
odds = P / P.mT
for name, shares, ratios in zip("ABC", P.tolist(), odds.tolist()):
    print(
        name, "P", *(f"{x:.3f}" for x in shares), "  odds", *(f"{x:g}" for x in ratios)
    )
A, B, C = range(3)
assert torch.allclose(
    P[[A, B, A], [B, C, C]], torch.tensor([2 / 3, 2 / 3, 4 / 5]).double()
)
assert torch.allclose(P + P.mT, torch.ones(3, 3).double())  # somebody wins
assert torch.isclose(odds[A, C], odds[A, B] * odds[B, C])  # 4 = 2 times 2


# %% tags=["figure"] alt_en="Probability of winning against the difference of rewards, from -3 to 3: an S-shaped curve through 0.5 at difference 0. Three dots lie on it: B over A at -0.69 with probability 0.33, A over B at 0.69 with 0.67, A over C at 1.39 with 0.80, labelled with their odds." alt_zh="横轴是奖励之差，从 -3 到 3；纵轴是胜出的概率。一条 S 形曲线，差为 0 处概率是 0.5。曲线上有三个点，各标着几率：B 对 A，差 -0.69，概率 0.33；A 对 B，差 0.69，概率 0.67；A 对 C，差 1.39，概率 0.80。"
@picture
def difference_to_probability(say):
    _, axes = figure()
    differences = torch.linspace(-3, 3, 121)
    axes.plot(differences, torch.sigmoid(differences), color=COLORS["theory"])
    for (one, other), words in {
        (B, A): say("B over A: odds 1/2", "B 对 A：几率 1/2"),
        (A, B): say("A over B, B over C: odds 2", "A 对 B、B 对 C：几率 2"),
        (A, C): say("A over C: odds 4", "A 对 C：几率 4"),
    }.items():
        place = (three[one] - three[other]).item(), P[one, other].item()
        axes.plot(*place, "o", color=COLORS["policy"])
        axes.annotate(words, place, xytext=(8, -14), textcoords="offset points")
    axes.set(
        xlabel=say("difference of the rewards", "奖励之差"),
        ylabel=say("probability of winning", "胜出的概率"),
        xlim=(-3, 4),
    )


# %% [markdown] lang="en"
# **Figure 5.1.** What a difference of rewards means. Equal steps on the scale multiply the odds: one step of $\log 2$ doubles them, two steps make four. The curve is $\sigma$.
#
# ### The constant that nobody can see
# Only differences occur. Add one number to the rewards of all answers to a prompt, and no preference changes. As every comparison is made between answers to one prompt, each prompt may have a constant of its own, $c(x)$: rewards are defined **up to a constant per prompt**. A reward of 3 for one prompt and of 1 for another does not say which answer is better. [Chapter 7](07_derivation.ipynb) lives on this. Where one needs a zero, one chooses it: here the rewards of a prompt sum to 0. Try a constant of 10:

# %% [markdown] lang="zh"
# **图 5.1** 奖励之差是什么意思。在尺子上每走同样一步，几率就乘上同一个数：走一步 $\log 2$，几率翻倍；走两步，变成四倍。曲线是 $\sigma$。
#
# ### 谁也看不见的常数
# 公式里只有奖励之差。同一个提示的所有回答，奖励都加上同一个数，偏好一点也不变。比较只在同一个提示的回答之间进行，每个提示都可以有自己的常数 $c(x)$。所以奖励只能定到这一步：**每个提示还差一个常数**。这个提示的回答得 3，那个提示的回答得 1，并不说明前一个更好。[第 7 章](07_derivation.ipynb)的推导，靠的正是这一点。需要零点，就自己定一个：这里让一个提示的奖励加起来等于 0。加 10 试试：

# %%
assert torch.allclose(preference_probs(three + 10), P)
print(preference_probs(three + 10)[A].numpy().round(3), P[A].numpy().round(3))

# %% [markdown] lang="en"
# ### A word on `tabular`
# In chapters 5 to 7 problems are so small that every answer is a row of a table. `dpo_core.tabular` is the file for them. Three conventions:
#
# - rewards are a tensor `(..., A)`, one number for each of $A$ answers; the dots may hold many problems at once;
# - a policy is the tensor of its log-probabilities, `(..., A)`;
# - comparisons are a table `wins`, `(..., A, A)`: `wins[i, j]` is the weight of "i was preferred to j", a count or a probability.
#
# | function | what it gives |
# |---|---|
# | `uniform_pairs(A)` | all pairs equally likely |
# | `comparisons(reward, pairs)` | what a Bradley–Terry judge makes of them: probabilities |
# | `draw_comparisons(wins, N, seed)` | $N$ comparisons drawn from such a table: counts |
# | `fit_rewards(wins)` | the best rewards, and how sure they are (below) |
#
# The next cell makes two tables for A, B and C: `judged`, the probabilities, and `pile`, 90 comparisons drawn from them. From here on each identity is asserted on A, B and C in the open, then, in a folded cell, on twenty random problems of six answers and 3,000 comparisons each.

# %% [markdown] lang="zh"
# ### 先认识一下 `tabular`
# 第 5 章到第 7 章的问题都很小，每个回答占表格的一行，全列得出来。`dpo_core.tabular` 就是为它们写的，约定有三条：
#
# - 奖励是张量 `(..., A)`：$A$ 个回答，每个一个数；省略号处可以放许多问题，一次全算；
# - 策略就是它的对数概率，张量 `(..., A)`；
# - 比较存成一张表 `wins`，形状 `(..., A, A)`：`wins[i, j]` 是「i 胜过 j」的权重，可以是次数，也可以是概率。
#
# | 函数 | 给出什么 |
# |---|---|
# | `uniform_pairs(A)` | 每一对机会均等 |
# | `comparisons(reward, pairs)` | 服从 Bradley–Terry 的裁判判出来的表：概率 |
# | `draw_comparisons(wins, N, seed)` | 按这样的表抽 $N$ 次比较：次数 |
# | `fit_rewards(wins)` | 最好的一组奖励，以及它们有多准（见后文） |
#
# 下面为 A、B、C 做两张表：`judged` 里是概率，`pile` 里是照它抽出的 90 次比较。从这里起，每个恒等式验证两遍：先在 A、B、C 上，摆在明处；再到二十个随机问题上，每个六个回答、3,000 次比较，那个单元格在网站上是折起来的。

# %% tags=["setup"]
judged = tabular.comparisons(three, tabular.uniform_pairs(3))  # probabilities
pile = tabular.draw_comparisons(judged, 90, seed=0)  # counts
print(judged.numpy().round(3), pile.numpy(), sep="\n")
assert torch.equal(P, tabular.preference_probs(three))
assert torch.isclose(judged.sum(), torch.ones(()).double()) and pile.sum() == 90
assert torch.allclose(
    judged, P * (1 - torch.eye(3)) / 3
)  # each of three pairs has a third

SEED = 0
INSTANCES = 20
ANSWERS = 6
truth = tabular.random_problems(INSTANCES, ANSWERS, SEED).reward  # (20, 6)
uniform = tabular.uniform_pairs(ANSWERS)  # (6, 6)
probable = tabular.comparisons(truth, uniform)  # (20, 6, 6)
counts = tabular.draw_comparisons(probable, 3_000, SEED)  # (20, 6, 6)

# %% tags=["proof"] checked_en="Checked on 20 random problems: the slope of the log-odds of the first two answers, and both forms of the squared SE." checked_zh="在 20 个随机问题上验证：头两个回答的对数几率的斜率，以及 SE 平方的两种写法。"
won, lost = counts[:, 0, 1], counts[:, 1, 0]
ratio = (won / (won + lost)).requires_grad_()
(rise,) = torch.autograd.grad((ratio / (1 - ratio)).log().sum(), ratio)
ratio = ratio.detach()
assert torch.allclose(rise, 1 / (ratio * (1 - ratio)))
se_squared = rise**2 * ratio * (1 - ratio) / (won + lost)
assert torch.allclose(se_squared, 1 / ((won + lost) * ratio * (1 - ratio)))
assert torch.allclose(1 / won + 1 / lost, se_squared)

# %% tags=["proof"] checked_en="Checked on 20 random problems: votes shared by strength, probabilities that add up to 1, odds that multiply along every path, and the constant that changes nothing." checked_zh="在 20 个随机问题上验证：按强弱分票；两边的概率加起来是 1；几率沿每条路径相乘；加一个常数，什么也不变。"
many_P = preference_probs(truth)
strength = truth.exp()
assert torch.allclose(
    many_P, strength[:, :, None] / (strength[:, :, None] + strength[:, None, :])
)
assert torch.allclose(many_P + many_P.mT, torch.ones_like(many_P))
many_odds = many_P / many_P.mT
assert torch.allclose(many_odds.log(), truth[:, :, None] - truth[:, None, :])
paths = many_odds[:, :, :, None] * many_odds[:, None, :, :]  # i to j, then j to k
assert torch.allclose(paths, many_odds[:, :, None, :].expand_as(paths))
generator = torch.Generator().manual_seed(SEED)
constants = 10 * torch.randn(INSTANCES, 1, generator=generator, dtype=torch.float64)
assert torch.allclose(preference_probs(truth + constants), many_P)

# %% [markdown] lang="en"
# ## ⋆ Where the sigmoid comes from
# Why this function? One reason is a story about noise. A judge does not see the reward but a noisy impression of it, $r_i+g_i$, and prefers the answer with the better impression. Let the noises $g$ be independent draws from the Gumbel distribution, whose probability of lying below $g$ is $e^{-e^{-g}}$ and whose density is $e^{-g}e^{-e^{-g}}$. Write $d=r_i-r_j$. Answer $i$ wins if $g_j$ lies below $g_i+d$. Average this over $g_i$, then substitute $t=e^{-g}$, then integrate the exponential:
#
# $$P(i\succ j)=\int e^{-g}e^{-e^{-g}}\,e^{-e^{-(g+d)}}\,dg=\int_0^\infty e^{-t(1+e^{-d})}\,dt=\frac{1}{1+e^{-d}}.$$
#
# With normal noise the curve is another, but hardly: let the noise of each impression have standard deviation 1.2, and it stays within 0.01 of the sigmoid everywhere. To tell a share from another that is off by 0.01 takes some 10,000 comparisons of one pair. Figure 5.2 draws both curves, and 1,000 comparisons of noisy impressions at each of 21 differences.
#
# There are more stories that end in the same model ([Hamilton et al. 2023](https://arxiv.org/abs/2312.13619) collect them). What the rest of this chapter uses is only this: rewards that add, odds that multiply.

# %% [markdown] lang="zh"
# ## ⋆ sigmoid 从哪里来
# 为什么偏是这个函数？有一种讲法从噪声说起。裁判看不到奖励，只有一个带噪声的印象 $r_i+g_i$，哪个印象好就选哪个。设各个噪声 $g$ 互相独立，都服从 Gumbel 分布：低于 $g$ 的概率是 $e^{-e^{-g}}$，密度是 $e^{-g}e^{-e^{-g}}$。记 $d=r_i-r_j$。$g_j$ 低于 $g_i+d$，$i$ 就胜。先对 $g_i$ 取平均，再代换 $t=e^{-g}$，最后算出这个指数函数的积分：
#
# $$P(i\succ j)=\int e^{-g}e^{-e^{-g}}\,e^{-e^{-(g+d)}}\,dg=\int_0^\infty e^{-t(1+e^{-d})}\,dt=\frac{1}{1+e^{-d}}$$
#
# 换成正态噪声，曲线就不是这一条了，但相差极小：每个印象的噪声，标准差取 1.2，曲线与 sigmoid 处处相差不到 0.01。两个比例只差 0.01，单这一对就要比 10,000 次左右才分得出来。图 5.2 画出两条曲线；又取 21 个差，每个差让带噪声的印象比 1,000 次。
#
# 通向这个模型的讲法还有许多（[Hamilton et al. 2023](https://arxiv.org/abs/2312.13619) 收集了一批）。不过本章后面要用的只有这些：奖励相加，几率相乘。

# %% tags=["proof"] checked_en="Checked on 20 random problems: both integrals, by the trapezoidal rule, equal the sigmoid of the difference of the first two rewards." checked_zh="在 20 个随机问题上验证：取头两个奖励之差，用梯形法算两个积分，都等于 sigmoid。"
d = truth[:, :1] - truth[:, 1:2]  # (20, 1)
g = torch.linspace(-6, 40, 4_001).double()
density = torch.exp(-g) * torch.exp(-torch.exp(-g))
below = torch.exp(-torch.exp(-g[1:]))
assert torch.allclose(torch.cumulative_trapezoid(density, g), below, atol=1e-4)
over_g = torch.trapezoid(density * torch.exp(-torch.exp(-(g + d))), g)
t = torch.linspace(0, 80, 400_001).double()
slopes = 1 + torch.exp(-d)
over_t = torch.stack([torch.trapezoid(torch.exp(-t * slope), t) for slope in slopes])
assert torch.allclose(over_t, over_g, atol=1e-6)
assert torch.allclose(over_g, 1 / (1 + torch.exp(-d[:, 0])), atol=1e-6)

# %%
trials, apart = 1_000, np.linspace(-5, 5, 21)
noise = stream("chapter 5", 0).gumbel(size=(2, trials, 21))
first_won = (apart + noise[0] > noise[1]).sum(0)  # (21,)
spread = 1.2 * math.sqrt(2)  # of the difference of two normal noises
wide = torch.linspace(-40, 40, 8_001).double()
normal = torch.special.ndtr(wide / spread)
assert (normal - torch.sigmoid(wide)).abs().max() < 0.01  # beyond, both are flat
assert math.isclose(1.96 * math.sqrt(0.25 / 10_000), 0.01, rel_tol=0.03)
assert np.abs(first_won / trials - 1 / (1 + np.exp(-apart))).max() < 0.05


# %% tags=["figure"] alt_en="Probability of winning against the difference of rewards from -5 to 5: the sigmoid rises from 0.01 to 0.99. Simulated points with intervals lie on it. A dashed curve for normal noise can hardly be told from it." alt_zh="横轴是奖励之差，从 -5 到 5；纵轴是胜出的概率，sigmoid 从 0.01 升到 0.99。带区间的模拟点落在曲线上。正态噪声的虚线几乎与它重合。"
@picture
def noisy_impressions(say):
    _, axes = figure()
    x = torch.linspace(-5, 5, 201).double()
    axes.plot(
        x,
        torch.sigmoid(x),
        color=COLORS["theory"],
        label=say("sigmoid", "sigmoid 曲线"),
    )
    label = say("normal noise", "正态噪声")
    axes.plot(x, torch.special.ndtr(x / spread), "--", color=INK, label=label)
    label = say("1,000 simulated comparisons", "模拟 1,000 次比较")
    points(axes, apart, [wilson(int(k), trials) for k in first_won], "policy", label)
    axes.set(
        xlabel=say("difference of the rewards", "奖励之差"),
        ylabel=say("probability of winning", "胜出的概率"),
    )
    axes.legend()


# %% [markdown] lang="en"
# **Figure 5.2.** Two noisy impressions are compared. With Gumbel noise the shares lie on the sigmoid (points with 95 % intervals); with normal noise they would hardly lie elsewhere.

# %% [markdown] lang="zh"
# **图 5.2** 两个带噪声的印象相比。噪声若服从 Gumbel 分布，比例落在 sigmoid 上（点，附 95% 区间）；若服从正态分布，也差不了多少。

# %% [markdown] lang="en"
# ## From the pile to the scale
# Now the other direction: the pile is given, the rewards are wanted. Take those under which the pile is most probable: this is **maximum likelihood**. Let $w_{ij}$ be how often $i$ was preferred to $j$. Comparisons are independent, so the probability of the whole pile is a product, and its logarithm, the **log-likelihood** $L$, is a sum:
#
# $$L(r)=\sum_{i,j}w_{ij}\log\sigma(r_i-r_j).$$
#
# The slope of $\log\sigma$ is $1-\sigma$. Let $n_{ij}=w_{ij}+w_{ji}$ be the number of comparisons of the two. The reward $r_i$ occurs where $i$ won, with slope $w_{ij}(1-P(i\succ j))$, and where it lost, with slope $-w_{ji}P(i\succ j)$. Add both:
#
# $$\frac{\partial L}{\partial r_i}=\sum_j\bigl(w_{ij}-n_{ij}\,P(i\succ j)\bigr).$$
#
# This is a sentence: **wins minus expected wins**. At the best rewards it is zero for every answer, so each answer wins as often as the model expects.
#
# It is also a recipe. Start with equal rewards; raise who won more often than expected, lower who won less often, and again, until nobody moves. How far? [Hunter 2004](https://doi.org/10.1214/aos/1079120141) shows that a step of $\log(\text{wins}/\text{expected wins})$ never lowers $L$, and traces it to Zermelo (1929).

# %% [markdown] lang="zh"
# ## 从一堆比较到一把尺子
# 现在反过来：手里有比较，要求的是奖励。哪组奖励让眼前这堆比较出现的概率最大，就取哪组，这叫**最大似然**（maximum likelihood）。记 $w_{ij}$ 为 $i$ 胜过 $j$ 的次数。各次比较互相独立，整堆的概率是连乘积，它的对数，即**对数似然**（log-likelihood）$L$，就是一个和：
#
# $$L(r)=\sum_{i,j}w_{ij}\log\sigma(r_i-r_j)$$
#
# $\log\sigma$ 的斜率是 $1-\sigma$。记 $n_{ij}=w_{ij}+w_{ji}$ 为两者比过的次数。$r_i$ 出现在 $i$ 胜的地方，斜率是 $w_{ij}(1-P(i\succ j))$；也出现在 $i$ 负的地方，斜率是 $-w_{ji}P(i\succ j)$。两项相加：
#
# $$\frac{\partial L}{\partial r_i}=\sum_j\bigl(w_{ij}-n_{ij}\,P(i\succ j)\bigr)$$
#
# 念出来就是一句话：**实际胜的次数，减去该胜的次数**；该胜几次，由模型的概率算出。奖励取到最优时，每个回答的这个差都是零：模型认为该胜几次，就恰好胜了几次。
#
# 它也是一套做法。先让奖励全相等；胜得比该胜的多，就往上提，胜得少，就往下压；一轮一轮地来，直到谁也不动。每次动多少？[Hunter 2004](https://doi.org/10.1214/aos/1079120141) 证明，每步走 $\log(\text{胜的次数}/\text{该胜的次数})$，$L$ 从不下降；他把这个办法追溯到 Zermelo（1929）。


# %% tags=["setup"]
def log_likelihood(reward, wins):
    margins = reward[..., :, None] - reward[..., None, :]
    return (wins * logsigmoid(margins)).sum((-1, -2))


def fit(wins, rounds=1_000):
    """The rewards under which this pile is most probable, summing to 0: (..., A)."""
    games = wins + wins.mT
    reward = torch.zeros(wins.shape[:-1]).double()
    for _ in range(rounds):
        expected = (games * preference_probs(reward)).sum(-1)
        reward = reward + (wins.sum(-1) / expected).log()
    return reward - reward.mean(-1, keepdim=True)


assert torch.allclose(fit(pile), tabular.fit_rewards(pile)[0])
assert log_likelihood(fit(pile), pile) > log_likelihood(three, pile)
assert torch.allclose(fit(judged), three)  # a pile without luck: the truth comes back
print(fit(pile).numpy().round(2), fit(judged).numpy().round(2), three.numpy().round(2))

# %% [markdown] lang="en"
# First the fit to 90 comparisons, then to the probabilities themselves: a pile without luck, from which the truth comes back. How often each pair was compared does not matter, as long as comparisons connect the answers.
#
# > **Before you run it.** A beats B by 20 to 10, and B beats C by 20 to 10. Now A stands 20 to 10 against C as well. Which rewards fit?
# >
# > <details><summary>Answer</summary>
# >
# > None exactly: the odds ask for four to one. The best ones expect too few wins against B and too many against C, and the right number in all.
# >
# > </details>

# %% [markdown] lang="zh"
# 打印出来的第一组数，由 90 次比较拟合而来。第二组拟合时，用概率本身代替次数：比较不掺运气，得回的就是真实的奖励。每一对比了多少次，没有关系，只要比较把各个回答连得起来。
#
# > **先猜一猜。** A 对 B 是 20 比 10，B 对 C 也是 20 比 10。现在 A 对 C 还是 20 比 10。哪组奖励合得上？
# >
# > <details><summary>答案</summary>
# >
# > 没有一组严丝合缝：几率要的是四比一。最好的一组，算 A 对 B 时嫌少，算 A 对 C 时嫌多，总数却正好。
# >
# > </details>

# %%
fitting = torch.tensor([[0, 20, 24], [10, 0, 20], [6, 10, 0]]).double()  # 24 to 6
strained = torch.tensor([[0, 20, 20], [10, 0, 20], [10, 10, 0]]).double()
expected_of_A = 30 * preference_probs(fit(strained))[A, [B, C]]
print("24 to 6: ", fit(fitting).numpy().round(2))
print("20 to 10:", (fit(strained) + 0).numpy().round(2), expected_of_A.numpy().round(1))
assert torch.allclose(fit(fitting), three)
assert torch.isclose(expected_of_A.sum(), strained[A].sum())  # 40 in all
assert [f"{wins:.1f}" for wins in expected_of_A] == ["18.4", "21.6"]

# %% tags=["proof"] checked_en="Checked on 20 random problems: the slope of L, a fit where wins equal expected wins, and the true rewards from probabilities, however the pairs were drawn." checked_zh="在 20 个随机问题上验证：L 的斜率；拟合好以后，胜的次数等于该胜的次数；由概率拟合，不论每一对怎样抽，都得回真实的奖励。"
anywhere = tabular.random_policies(INSTANCES, ANSWERS, seed=SEED + 1)
variable = anywhere.clone().requires_grad_()
(gradient,) = torch.autograd.grad(log_likelihood(variable, counts).sum(), variable)
played = counts + counts.mT
expected_wins = played * preference_probs(anywhere)
assert torch.allclose(gradient, (counts - expected_wins).sum(-1))
best, covariance = tabular.fit_rewards(counts)
assert torch.allclose(fit(counts), best)
assert torch.allclose(counts.sum(-1), (played * preference_probs(best)).sum(-1))
centred = truth - truth.mean(-1, keepdim=True)
one_logps, two_logps = tabular.random_policies(2, INSTANCES, ANSWERS, seed=SEED)
uneven = tabular.independent_pairs(one_logps, two_logps)  # some pairs rare
for pairs in (uniform, uneven):
    fitted = tabular.fit_rewards(tabular.comparisons(truth, pairs))[0]
    assert (fitted - centred).abs().max() < 1e-8

# %% [markdown] lang="en"
# Can there be two best scales? Seen as a landscape over the rewards, $-L$ is a valley. It is **convex**: it curves downwards in no direction, so no local minimum is a false bottom. It is level in one direction only, the constant that nobody can see. Any way downhill ends at the same scale. Statisticians know the fit as a **logistic regression**: a probability is $\sigma$ of a linear function, here of $r_i-r_j$.
#
# ## How far to trust the scale
# Beside the rewards, `fit_rewards` returns their covariance $C$: how much each would vary from pile to pile, and how much two vary together. A difference needs both:
#
# $$\mathrm{Var}(r_i-r_j)=C_{ii}+C_{jj}-2C_{ij}.$$
#
# For two answers this is the 1/20 + 1/10 from above. (Where $C$ comes from: the ⋆ section below.) An interval of ±1.96 standard errors promises to contain the truth in 95 % of the piles. Does it? Four answers with rewards 2, 1, 1, 0, four thousand piles of 400 comparisons, six differences:

# %% [markdown] lang="zh"
# 最好的尺子会不会有两把？把 $-L$ 看成一片地形，奖励是坐标，$-L$ 是高度，那么它是一道山谷。它是**凸的**（convex），沿哪个方向都不往下弯，所以没有假的谷底（没有哪个局部极小值不是最低点）。谷底只沿一个方向是平的，就是那个谁也看不见的常数。不管用什么办法下山，到的都是同一把尺子。统计学里，这样的拟合叫**逻辑回归**（logistic regression）：线性函数套上 $\sigma$ 就是概率，这里的线性函数是 $r_i-r_j$。
#
# ## 这把尺子信到几分
# 除了奖励，`fit_rewards` 还给出它们的协方差 $C$：换一堆比较，每个奖励会变动多少，两个奖励又会怎样一同变动。算差的时候，两样都用得上：
#
# $$\mathrm{Var}(r_i-r_j)=C_{ii}+C_{jj}-2C_{ij}$$
#
# 只有两个回答时，它就是前面的 1/20 + 1/10。（$C$ 从哪里来，见下面带 ⋆ 的一节。）区间取正负 1.96 个标准误，等于许诺：95% 的堆里，区间含有真值。说话算不算数，可以数一数：四个回答，奖励是 2、1、1、0；四千堆比较，每堆 400 次；六个差各数一遍。


# %%
def fitted_differences(piles):
    """Differences of all pairs and their standard errors: (piles, pairs) each."""
    reward, C = tabular.fit_rewards(piles)
    i, j = torch.triu_indices(reward.shape[-1], reward.shape[-1], 1)
    own = C.diagonal(dim1=-2, dim2=-1)
    variance = own[:, i] + own[:, j] - 2 * C[:, i, j]
    return reward[:, i] - reward[:, j], variance.sqrt()


duel = torch.tensor([[[0, 20], [10, 0]]]).double()
assert torch.allclose(fitted_differences(duel)[1] ** 2, torch.tensor(0.15).double())

four = torch.tensor([2, 1, 1, 0]).double()
by_four = tabular.comparisons(four, tabular.uniform_pairs(4))
six = torch.stack([four[a] - four[b] for a in range(4) for b in range(a + 1, 4)])
piles = tabular.draw_comparisons(by_four.expand(4_000, 4, 4), 400, seed=0)
fitted, errors = fitted_differences(piles)
covered = ((fitted - six).abs() < 1.96 * errors).sum(0).tolist()  # of each difference
for true_difference, count in zip(six.tolist(), covered):
    print(f"difference {true_difference:.0f}   coverage {wilson(count, 4_000)}")
assert (
    max(abs(count / 4_000 - 0.95) for count in covered) < 0.014
)  # four standard errors
assert abs(sum(covered) / 24_000 - 0.95) < 0.007  # z = 1.85 would give 0.937

# %% [markdown] lang="en"
# The promise is kept. How many comparisons are needed? For an even pair $q(1-q)$ is 1/4, so $\mathrm{SE}=1/\sqrt{n\,q(1-q)}=2/\sqrt n$. The interval reaches $1.96\cdot 2/\sqrt n$ to each side, so 0.2 takes 385 comparisons of that one pair. Lopsided pairs cost more: at $q=0.95$ it is 2,022. With more answers, does the error shrink like $1/\sqrt n$ too?

# %% [markdown] lang="zh"
# 说话算数。那么需要多少次比较？势均力敌的一对，$q(1-q)$ 是 1/4，所以 $\mathrm{SE}=1/\sqrt{n\,q(1-q)}=2/\sqrt n$，区间向两边各伸出 $1.96\cdot 2/\sqrt n$；要缩到 0.2，单这一对就得比 385 次。一边倒的更费次数：$q=0.95$ 时要 2,022 次。回答多几个，误差也按 $1/\sqrt n$ 缩小吗？量一量。

# %%
needed = [math.ceil(1.96**2 / (0.2**2 * q * (1 - q))) for q in (0.5, 0.95)]
sizes = [100, 200, 400, 800, 1600, 3200, 6400]
rms = []  # the error of a difference: root mean square over 500 piles
for size in sizes:
    piles = tabular.draw_comparisons(by_four.expand(500, 4, 4), size, seed=1)
    rms.append((fitted_differences(piles)[0] - six).square().mean().sqrt().item())
of_one = fitted_differences(by_four[None])[1].square().mean().sqrt().item()
predicted_rms = [of_one / math.sqrt(size) for size in sizes]
print(needed, *(f"{error:.2f}" for error in rms))
assert needed == [385, 2022]
assert all(abs(a / b - 1) < 0.15 for a, b in zip(rms, predicted_rms))


# %% tags=["figure"] alt_en="Error of a fitted difference against the number of comparisons from 100 to 6400, both axes logarithmic; points on a straight line that falls from 0.42 to 0.05." alt_zh="横轴是比较次数，从 100 到 6400；纵轴是奖励之差的误差，双对数坐标；点落在一条直线上，从 0.42 降到 0.05。"
@picture
def error_of_a_difference(say):
    _, axes = figure()
    axes.loglog(sizes, predicted_rms, color=COLORS["theory"])
    axes.loglog(sizes, rms, "o", color=COLORS["policy"])
    axes.annotate(
        say("as the covariance predicts", "协方差的预测"),
        (sizes[2], predicted_rms[2]),
        xytext=(14, 8),
        textcoords="offset points",
    )
    axes.set(
        xlabel=say("number of comparisons in a pile", "一堆里的比较次数"),
        ylabel=say("error of a difference", "奖励之差的误差"),
    )
    axes.set_xticks([100, 400, 1600, 6400], ["100", "400", "1600", "6400"])
    axes.set_yticks([0.05, 0.1, 0.2, 0.4], ["0.05", "0.1", "0.2", "0.4"])
    axes.minorticks_off()


# %% [markdown] lang="en"
# **Figure 5.3.** Four times the comparisons, half the error. Points: root mean square over 500 piles. Line: what $C$ predicts.
#
# ### No scale, or too many
# A pile can fail to yield a scale in two ways.
#
# > **Before you run it.** A has won all of its comparisons. What reward will the fit give it?
# >
# > <details><summary>Answer</summary>
# >
# > Infinity. Raise its reward, and all of its comparisons become more probable, however high it stands already.
# >
# > </details>
#
# First, no rewards may be best: so it is for an answer that never lost, or a group that met the rest and never lost to it. Second, too many may be best. Let the answers fall into two islands without a comparison between them. Lift one island: the likelihood stays the same.
#
# [Hunter 2004](https://doi.org/10.1214/aos/1079120141) states a condition that rules out both: however the answers are divided into two groups, neither empty, some answer of the second beat some answer of the first at least once. Then exactly one scale is best, up to the constant. Otherwise `fit_rewards` refuses. We try both cases, and raise the unbeaten A: the loss printed is $-L$ divided by the number of comparisons.

# %% [markdown] lang="zh"
# **图 5.3** 次数乘四，误差减半。点：500 堆的均方根。线：$C$ 的预测。
#
# ### 一把也没有，或者不止一把
# 一堆比较定不出尺子，有两种情形。
#
# > **先猜一猜。** A 每次都胜。拟合会给它多高的奖励？
# >
# > <details><summary>答案</summary>
# >
# > 无穷高。它的奖励不管已经多高，再往上提一点，它的每次胜利都又更可能一点。
# >
# > </details>
#
# 一种是没有哪组奖励最好。从没输过的回答，奖励会一路涨上去；一群回答同群外的比过，却从没输过，也是这样。另一种是最好的不止一组。设回答分成两座岛，岛与岛之间从没比过。把一座岛整个往上抬，似然不变。
#
# [Hunter 2004](https://doi.org/10.1214/aos/1079120141) 给出一个条件。有了它，两种情形都不会发生：不管怎样把回答分成两组，只要两组都不空，第二组里总有某个回答，至少胜过第一组里的某个回答一次。这时最好的尺子恰好有一把（那个常数不计）。条件不满足，`fit_rewards` 就拒绝拟合。两种情形都试一试；再把从没输过的 A 一步步抬高，打印损失，即 $-L$ 除以比较的次数。


# %%
def refusal(wins):
    try:
        tabular.fit_rewards(wins)
    except ValueError as error:
        return str(error).split(":")[0]


unbeaten = torch.tensor([[0, 20, 20], [0, 0, 20], [0, 10, 0]]).double()
higher = [torch.tensor([top, 0.35, -0.35]).double() for top in (1, 5, 10, 20)]
loss = [tabular.bradley_terry_nll(reward, unbeaten).item() for reward in higher]
print(*(f"{value:.4f}" for value in loss), " ", refusal(unbeaten))
assert loss == sorted(loss, reverse=True) and refusal(unbeaten)
islands = torch.block_diag(duel[0], duel[0])  # 0 met 1, and 2 met 3; nobody else met
lifted = torch.tensor([7, 7, 0, 0]).double()
at_rest, after = (tabular.bradley_terry_nll(x, islands) for x in (0 * lifted, lifted))
assert at_rest == after and refusal(islands) == refusal(unbeaten)
assert refusal(fitting) is None

# %% [markdown] lang="en"
# The loss keeps falling as A rises. Both refusals read `some answers never lost to the others`: of two islands, too, neither lost to the other.

# %% [markdown] lang="zh"
# A 越高，损失越小。两种情形报的是同一句话，`some answers never lost to the others`（有些回答从没输给其余的）：两座岛也算在内，谁也没输给过谁。

# %% [markdown] lang="en"
# ## ⋆ The valley and its curvature
# Differentiate $L$ once more. The slope of $\sigma$ is $\sigma(1-\sigma)$. Give each pair the weight $a_{ij}=n_{ij}\,P(i\succ j)\,P(j\succ i)$. Then the matrix $K$ of minus the second derivatives has $-a_{ij}$ off the diagonal and the row sums of $a$ on it. It is the Laplacian of a graph whose nodes are the answers and whose edges are the comparisons. For any vector $v$
#
# $$v^{\top}Kv=\sum_{i<j}a_{ij}(v_i-v_j)^2\ge 0.$$
#
# So $-L$ is convex, as was said above, and flat only where $v$ is constant. (If the comparisons fall into two islands, two directions are flat: each island has a constant of its own.) On A, B and C, with ten comparisons of each pair, $a$ is 10 · 2/9 for A and B, the same for B and C, and 10 · 4/25 for A and C.
#
# **The sharper the valley, the surer the fit.** Think of one parameter first. At the truth the slope of $L$ is a sum over independent comparisons; its mean is 0, and its variance is the curvature $K$. Such a slope moves the bottom of the valley by the slope divided by $K$, so the variance is divided by $K^2$: it is $K/K^2=1/K$. With several parameters it is the same: for large piles the covariance $C$ of the fitted rewards is the inverse of $K$, which statisticians call the **Fisher information**. (It is the pseudo-inverse, which inverts all but the flat direction.)
#
# **Three routes, one scale.** `fit_rewards` takes Newton steps, the slope divided by the curvature $K$. `minimise` knows nothing but the loss, `bradley_terry_nll`. The third route is the logistic regression: give each pair a row of features, +1 at the first answer, -1 at the second, 0 elsewhere; then $r_i-r_j$ is linear in them. To remove the flat direction, the last answer's column is left out and its reward is 0.

# %% [markdown] lang="zh"
# ## ⋆ 山谷和它的曲率
# 对 $L$ 再求一次导。$\sigma$ 的斜率是 $\sigma(1-\sigma)$。给每一对一个权重 $a_{ij}=n_{ij}\,P(i\succ j)\,P(j\succ i)$，那么二阶导数取负排成的矩阵 $K$，非对角元是 $-a_{ij}$，对角元是 $a$ 的各行之和。这是一张图的拉普拉斯矩阵（graph Laplacian）：回答是点，比较是边。对任意向量 $v$，
#
# $$v^{\top}Kv=\sum_{i<j}a_{ij}(v_i-v_j)^2\ge 0$$
#
# 所以前面说 $-L$ 是凸的；只有 $v$ 的各分量都相等，那个方向才是平的。（要是回答分成两座岛，岛与岛之间从不比较，平的方向就有两个：每座岛各有一个常数。）拿 A、B、C 来说，每一对比十次，$a$ 在 A 与 B 之间是 10 · 2/9，B 与 C 之间也一样，A 与 C 之间是 10 · 4/25。
#
# **山谷越陡，拟合越可靠。** 先想只有一个参数的情形。在真值处，每次比较都给 $L$ 的斜率添一份，各份互相独立；加起来，平均是 0，方差恰好是曲率 $K$。斜率不恰好为零，谷底就不恰好在真值处，偏开的距离是斜率除以 $K$。所以拟合值的方差，是斜率的方差除以 $K^2$，即 $K/K^2=1/K$。参数多了也一样：比较够多时，奖励的协方差 $C$ 就是 $K$ 的逆；统计学里，$K$ 叫**费希尔信息**（Fisher information）。（取的是伪逆：平的方向不管，其余方向照常求逆。）
#
# **三条路，同一把尺子。** `fit_rewards` 用牛顿法，每步是斜率除以曲率 $K$。`minimise` 只认得损失 `bradley_terry_nll`。第三条路是逻辑回归：给每一对配一行特征，第一个回答处写 +1，第二个回答处写 -1，其余写 0，这样 $r_i-r_j$ 就是特征的线性函数。平的方向要去掉：删去最后一个回答那一列，等于让它的奖励取 0。


# %% tags=["setup"]
def curvature(reward, wins):
    """K, minus the second derivatives of L: (..., A, A)."""
    probs = preference_probs(reward)
    a = (wins + wins.mT) * probs * probs.mT
    return a.sum(-1).diag_embed() - a


ten_each = 10 * P * (1 - torch.eye(3))
K = curvature(three, ten_each)
print(K.numpy().round(3), torch.linalg.eigvalsh(K).numpy().round(3), sep="\n")
weights = torch.tensor([10 * 2 / 9, 10 * 2 / 9, 10 * 4 / 25]).double()
assert torch.allclose(-K[[A, B, A], [B, C, C]], weights)
assert torch.allclose(K @ torch.ones(3).double(), torch.zeros(3).double())  # flat
C_of_three = torch.linalg.pinv(K, hermitian=True)
assert torch.allclose(C_of_three, tabular.fit_rewards(ten_each)[1])

# %% tags=["proof"] checked_en="Checked on 20 random problems: K equals the second derivatives by autograd, the sum of squares, and the flat directions of one and of two islands." checked_zh="在 20 个随机问题上验证：K 与自动求导得到的二阶导数相等；平方和的公式；一座岛、两座岛时平的方向。"
from torch.func import jacrev, vmap

curve = torch.sigmoid(anywhere) * torch.sigmoid(-anywhere)
variable = anywhere.clone().requires_grad_()
(rise,) = torch.autograd.grad(torch.sigmoid(variable).sum(), variable)
assert torch.allclose(rise, curve)
second_derivatives = vmap(jacrev(jacrev(log_likelihood)))
many_K = curvature(anywhere, counts)  # (20, 6, 6)
assert torch.allclose(-second_derivatives(anywhere, counts), many_K)
generator = torch.Generator().manual_seed(SEED)
v = torch.randn(INSTANCES, ANSWERS, generator=generator, dtype=torch.float64)
i, j = torch.triu_indices(ANSWERS, ANSWERS, 1)  # the 15 pairs with i < j
squares = -many_K[:, i, j] * (v[:, i] - v[:, j]) ** 2
assert torch.allclose((v[:, None] @ many_K @ v[:, :, None]).flatten(), squares.sum(-1))
eigenvalues = torch.linalg.eigvalsh(many_K)  # (20, 6), ascending
assert (eigenvalues[:, 0].abs() < 1e-9).all()
assert (eigenvalues[:, 1] > 1).all()
same_island = torch.block_diag(torch.ones(3, 3), torch.ones(3, 3))
eigenvalues = torch.linalg.eigvalsh(curvature(anywhere, counts * same_island))
assert (eigenvalues[:, :2].abs() < 1e-9).all()
assert (eigenvalues[:, 2] > 1).all()

# %% tags=["proof"] checked_en="Checked on 20 random problems: the variance of the slope is K, its pseudo-inverse is what fit_rewards returns, and for two answers it is 1/wins + 1/losses." checked_zh="在 20 个随机问题上验证：斜率的方差就是 K；它的伪逆就是 fit_rewards 给出的协方差；只有两个回答时，它是 1/胜 + 1/负。"
edges = (torch.eye(ANSWERS)[i] - torch.eye(ANSWERS)[j]).double()  # (15, 6)
games = played[:, i, j]  # (20, 15)
chance = many_P[:, i, j]
if_won, if_lost = 1 - chance, -chance  # what one comparison adds to the slope
assert torch.allclose(
    chance * if_won + (1 - chance) * if_lost, torch.zeros_like(chance)
)
variance = games * (chance * if_won**2 + (1 - chance) * if_lost**2)
summed = torch.einsum("np,pi,pj->nij", variance, edges, edges)
assert torch.allclose(summed, curvature(truth, counts))
inverse = torch.linalg.pinv(curvature(best, counts), rtol=1e-9, hermitian=True)
assert torch.allclose(inverse, covariance)
two = counts[:, :2, :2]  # answers 0 and 1 alone
D = tabular.fit_rewards(two)[1]
of_two = D[:, 0, 0] + D[:, 1, 1] - 2 * D[:, 0, 1]
assert torch.allclose(of_two, 1 / two[:, 0, 1] + 1 / two[:, 1, 0])
own = covariance.diagonal(dim1=-2, dim2=-1)  # (20, 6)
pinned = curvature(best, counts)[:, :-1, :-1].inverse()  # the last reward held at 0
of_pairs = (own + own[:, -1:] - 2 * covariance[:, :, -1])[:, :-1]
assert torch.allclose(pinned.diagonal(dim1=-2, dim2=-1), of_pairs)

# %% tags=["proof"] checked_en="Checked on 20 random problems: Newton's method, a minimiser that knows only the loss, and a logistic regression find the same rewards." checked_zh="在 20 个随机问题上验证：牛顿法、只认得损失的最小化、逻辑回归，得到同一组奖励。"
from torch.nn.functional import binary_cross_entropy_with_logits

features, observed = edges[:, :-1], counts[:, i, j] / games  # (15, 5), (20, 15)


def regression_loss(coefficients):
    logits = coefficients @ features.mT
    losses = binary_cross_entropy_with_logits(logits, observed, reduction="none")
    return (games * losses).sum(-1) / games.sum(-1)


start = torch.zeros(INSTANCES, ANSWERS).double()
descent = tabular.minimise(lambda r: tabular.bradley_terry_nll(r, counts), start)
regression = tabular.minimise(regression_loss, start[:, :-1])
mean_loss = tabular.bradley_terry_nll(anywhere, counts)
assert torch.allclose(mean_loss, -log_likelihood(anywhere, counts) / 3_000)
assert torch.allclose(best - best[:, -1:], descent - descent[:, -1:], atol=1e-8)
assert torch.allclose(best[:, :-1] - best[:, -1:], regression, atol=1e-8)

# %% [markdown] lang="en"
# ## Judges who slip, judges who disagree
# **A share of the labels is flipped.** A judge follows Bradley–Terry, but with probability $\varepsilon$ the verdict is entered the wrong way round. Write $d=r_i-r_j$. The first answer then wins in two ways, and with $\sigma(-d)=1-\sigma(d)$
#
# $$P_\varepsilon=(1-\varepsilon)\,\sigma(d)+\varepsilon\,\sigma(-d)=\varepsilon+(1-2\varepsilon)\,\sigma(d).$$
#
# Take rewards 2, 0, -2 for A, B, C, and $\varepsilon=0.1$.
#
# > **Before you run it.** Do all three differences shrink by the same factor?
# >
# > <details><summary>Answer</summary>
# >
# > No. The long one shrinks far more than the short ones: however good A is, a tenth of its comparisons with C are entered as lost.
# >
# > </details>

# %% [markdown] lang="zh"
# ## 会出错的裁判，意见不一的裁判
# **有一部分标签记反了。** 裁判照 Bradley–Terry 判断，但每次有 $\varepsilon$ 的概率把结果记反。记 $d=r_i-r_j$。第一个回答于是有两种途径胜出；又因为 $\sigma(-d)=1-\sigma(d)$，
#
# $$P_\varepsilon=(1-\varepsilon)\,\sigma(d)+\varepsilon\,\sigma(-d)=\varepsilon+(1-2\varepsilon)\,\sigma(d)$$
#
# 设 A、B、C 的奖励是 2、0、-2，$\varepsilon=0.1$。
#
# > **先猜一猜。** 三个差会缩成同样的倍数吗？
# >
# > <details><summary>答案</summary>
# >
# > 不会。长的那个缩得厉害得多：A 再好，同 C 比的时候，赢下的也有十分之一被记成输。
# >
# > </details>


# %% tags=["setup"]
def flipped(d, epsilon):
    """How often the first answer wins when a share epsilon of the labels is flipped."""
    return epsilon + (1 - 2 * epsilon) * torch.sigmoid(d)


true_steps = torch.tensor([2, 2, 4]).double()  # A to B, B to C, A to C
seen = flipped(true_steps, 0.1)
odds_seen = seen / (1 - seen)
print(
    "odds", odds_seen.numpy().round(1), " differences", odds_seen.log().numpy().round(2)
)
assert [f"{x:.1f}" for x in odds_seen] == ["4.1", "4.1", "7.7"]
assert round((odds_seen[0] * odds_seen[1]).item()) == 17
assert [f"{x:.2f}" for x in odds_seen.log()] == ["1.42", "1.42", "2.05"]

# %% [markdown] lang="en"
# For two answers the fit returns the log-odds of $P_\varepsilon$. Small differences are shrunk by the factor $1-2\varepsilon$, large ones cut off: they never exceed $\log\frac{1-\varepsilon}{\varepsilon}$, here 2.20. And two steps exceed the whole way. Their odds multiply to 17, but from end to end they are 7.7. So this judge follows no Bradley–Terry model, and with three or more answers the fit is not a smaller copy of the scale.
#
# If $\varepsilon$ is known it can be built into the model. [Christiano et al. 2017](https://arxiv.org/abs/1706.03741) do so: random answers in 10 % of the cases, half of them wrong, so $\varepsilon=0.05$.
#
# We try four values of $\varepsilon$ and true differences from 0 to 5.

# %% [markdown] lang="zh"
# 只有两个回答时，拟合给出的是 $P_\varepsilon$ 的对数几率。小的差缩成 $1-2\varepsilon$ 倍，大的差封了顶：再大也超不过 $\log\frac{1-\varepsilon}{\varepsilon}$，这里是 2.20。分两步走，比一步走完还远：两步的几率相乘是 17，首尾直接比却只有 7.7。可见这样的裁判已经不合 Bradley–Terry 模型；有三个或更多回答时，拟合出的也不是按比例缩小的尺子。
#
# $\varepsilon$ 若是已知，就可以写进模型。[Christiano et al. 2017](https://arxiv.org/abs/1706.03741) 假设人有 10% 的可能随手乱选；乱选有一半是错的，所以他们的模型就是这里的 $\varepsilon=0.05$。
#
# 下面 $\varepsilon$ 取四个值，真实的差从 0 到 5，各抽一堆来拟合。

# %% tags=["proof"] checked_en="Checked on 20 random problems, each with its own share of flips: the formula, the fit, the slope at the origin, the limit, and two steps that exceed the whole way." checked_zh="在 20 个随机问题上验证：记反的比例各不相同；公式、拟合、零点处的斜率、上限，以及分两步走比一步走完还远。"
epsilon = torch.linspace(0.02, 0.4, INSTANCES).double()[:, None]
d = 2 * truth
one_way = (1 - epsilon) * torch.sigmoid(d) + epsilon * torch.sigmoid(-d)
assert torch.allclose(one_way, flipped(d, epsilon))
assert torch.allclose(0.9 * torch.sigmoid(d) + 0.1 / 2, flipped(d, 0.05))
share = flipped(d[:, 0], epsilon[:, 0])
pair_table = torch.stack((0 * share, share, 1 - share, 0 * share), -1).view(-1, 2, 2)
of_pair = tabular.fit_rewards(pair_table)[0]
assert torch.allclose(of_pair[:, 0] - of_pair[:, 1], torch.logit(share))
origin = torch.zeros_like(epsilon).requires_grad_()
(rise,) = torch.autograd.grad(torch.logit(flipped(origin, epsilon)).sum(), origin)
assert torch.allclose(rise, 1 - 2 * epsilon)
wide = torch.logit(flipped(torch.linspace(-20, 20, 401).double(), epsilon))  # (20, 401)
limit = ((1 - epsilon) / epsilon).log()
assert (wide.diff(dim=-1) > 0).all()
assert (wide < limit).all()
assert torch.allclose(wide[:, -1:], limit)  # it comes as near as one likes
high, middle, low = truth[:, :3].sort(descending=True).values.unbind(1)
ways = torch.stack((high - middle, middle - low, high - low), -1)  # (20, 3)
for rate, exceeds in ((0 * epsilon, False), (epsilon, True)):
    first_step, second_step, whole = torch.logit(flipped(ways, rate)).unbind(1)
    surplus = first_step + second_step - whole
    assert (surplus > 0).all() if exceeds else surplus.abs().max() < 1e-9

# %%
RATES = {0.0: "policy", 0.05: "chosen", 0.1: "baseline", 0.25: "rejected"}
true_d = torch.arange(0, 5.1, 0.5).double()
with_flips = {}
for rate in RATES:
    share = flipped(true_d, rate)
    table = torch.stack((0 * share, share, 1 - share, 0 * share), -1).view(-1, 2, 2)
    drawn = tabular.draw_comparisons(table, 4_000, seed=0)  # (11, 2, 2)
    found, errors = (x.flatten() for x in fitted_differences(drawn))
    ends = torch.stack((found, found - 1.96 * errors, found + 1.96 * errors), -1)
    with_flips[rate] = [Estimate(*row) for row in ends.tolist()]
    assert ((found - torch.logit(share)).abs() < 4 * errors).all()
limits = {rate: math.log((1 - rate) / rate) for rate in (0.05, 0.1, 0.25)}
assert [f"{x:.2f}" for x in limits.values()] == ["2.94", "2.20", "1.10"]
assert torch.logit(flipped(true_d, 0.05)).max() < 2.94 < with_flips[0.05][-1].value


# %% tags=["figure"] alt_en="Fitted difference against the true difference from 0 to 5, for four shares of flipped labels. Without flips the line is the diagonal. With shares 5, 10 and 25 percent the curves bend over and level off at 2.9, 2.2 and 1.1, each at a dotted line, its limit. Points of simulated piles lie on the curves." alt_zh="拟合出的差随真实的差的变化，横轴从 0 到 5，记反的比例有四种。没有记反时是对角线；比例是 5%、10%、25% 时，曲线先升后平，分别停在 2.9、2.2、1.1，那里各有一条点线，就是上限。模拟的点落在曲线上。"
@picture
def flips_bend_the_scale(say):
    _, axes = figure(height=3.8)
    x = torch.linspace(0, 5, 101).double()
    for rate, color in RATES.items():
        y = torch.logit(flipped(x, rate))
        axes.plot(x, y, color=COLORS["theory"], linewidth=1.2)
        points(axes, true_d, with_flips[rate], color)
        words = (
            say(f"{rate:.0%} flipped", f"{rate:.0%} 记反")
            if rate
            else say("none flipped", "没有记反")
        )
        if rate:
            axes.hlines(limits[rate], 0, 5, COLORS[color], "dotted", linewidth=1.2)
        axes.text(5.15, y[-1], words, color=COLORS[color], va="center")
    axes.set(
        xlabel=say("true difference of the rewards", "真实的奖励之差"),
        ylabel=say("fitted difference", "拟合出的差"),
        xlim=(-0.2, 6.6),
        xticks=range(6),
    )


# %% [markdown] lang="en"
# **Figure 5.4.** Flipped labels put a ceiling on every difference. Lines: the formula; dotted, its limits. Points: piles of 4,000 comparisons, with 95 % intervals. With one label in twenty wrong, the limit is 2.94; luck lifts the point at the right end above it.
#
# **A judge who never errs** is no better for the scale: the better answer always wins, the condition above fails, and no finite scale exists (tried below). Differences can be measured because judges are of two minds.
#
# **Judges who disagree.** Even a judge who goes in circles (A beats B, B beats C, C beats A) gets a scale from the fit, and so do two groups with opposite tastes in one pile. Nothing in the rewards betrays it: one has to hold the shares that they predict against the observed ones. The ⋆ section does so, and finds what the fit returns: the order of the numbers of wins.

# %% [markdown] lang="zh"
# **图 5.4** 记反的标签给每个差都封了顶。实线：公式；点线：上限。点：每堆 4,000 次比较，附 95% 区间。二十个标签里错一个，上限就是 2.94；最右边那个点高出一点，是碰运气。
#
# **从不出错的裁判**，对尺子也没有好处：好的一方总胜，前面的条件不满足，有限的尺子不存在（下面就试）。正因为裁判会犹豫，差距才量得出来。
#
# **意见不一的裁判。** 哪怕裁判兜圈子（A 胜 B，B 胜 C，C 胜 A），拟合也照样给出一把尺子；口味相反的两群裁判混在一堆里，也是如此。光看奖励，看不出一点毛病；得拿奖励预测的比例，同观察到的比例对照。带 ⋆ 的一节就来对照，还会看到，这时拟合给出的是什么：按胜场数排的次序。

# %%
never_errs = tabular.comparisons(three, tabular.uniform_pairs(3), "deterministic")
print(never_errs.numpy().round(3), refusal(never_errs), sep="\n")
assert refusal(never_errs)
assert refusal(tabular.comparisons(truth, uniform, "deterministic"))

# %% [markdown] lang="en"
# ## ⋆ Judges who disagree
# **A judge who goes in circles.** A beats B, B beats C, C beats A, each by 20 to 10. All answers have 30 wins, so the fit makes all rewards equal and expects 15 to 15 everywhere. How far apart may expected and observed shares be? Let $s_{ij}=w_{ij}/n_{ij}$ be the share of comparisons that $i$ won. The best that any table of probabilities can do is $P(i\succ j)=s_{ij}$ (the *saturated* model). Twice the log-likelihood that Bradley–Terry loses against it is called $G^2$; it is a sum of the KL divergences of chapter 4, between coins:
#
# $$G^2=2\,(L_{\mathrm{saturated}}-L)=2\sum_{i<j}n_{ij}\,\mathrm{KL}\bigl(s_{ij}\,\|\,P(i\succ j)\bigr).$$
#
# If Bradley–Terry is true and the pile is large, the mean of $G^2$ is about the number of pairs minus the number of free rewards: here 3 - 2 = 1, as only differences of the three rewards count. Where that number is 1, $G^2$ behaves like the square of a standard normal number (**chi-squared** with one degree of freedom), and exceeds $1.96^2=3.84$ in 5 % of the piles. The circle has 10.2. We compute it, and the same for 2,000 piles of an honest judge.

# %% [markdown] lang="zh"
# ## ⋆ 意见不一的裁判
# **兜圈子的裁判。** A 胜 B，B 胜 C，C 胜 A，都是 20 比 10。每个回答都是 30 胜，于是拟合把奖励全定成一样，认为处处该是 15 比 15。预测的比例和观察到的比例，差多少才算太多？记 $s_{ij}=w_{ij}/n_{ij}$ 为 $i$ 胜出的比例。随便换哪张概率表，最好也只能做到 $P(i\succ j)=s_{ij}$，这叫**饱和模型**（saturated model）。Bradley–Terry 的对数似然比它低多少，乘以二，记作 $G^2$；它是许多 KL 散度（第 4 章）之和，每一个都是两枚硬币之间的：
#
# $$G^2=2\,(L_{\mathrm{saturated}}-L)=2\sum_{i<j}n_{ij}\,\mathrm{KL}\bigl(s_{ij}\,\|\,P(i\succ j)\bigr)$$
#
# 如果 Bradley–Terry 成立，比较也够多，$G^2$ 的平均值大约等于样本对的种数，减去能自由取值的奖励的个数：这里是 3 - 2 = 1，因为三个奖励只看差，自由的只有两个。这个数是 1 时，$G^2$ 的分布就像一个标准正态随机数的平方（自由度为一的**卡方分布**，chi-squared），超过 $1.96^2=3.84$ 的堆只占 5%。兜圈子的这一堆是 10.2。下面算出它，再给服从 Bradley–Terry 的裁判算 2,000 堆，作个对照。


# %% tags=["setup"]
def misfit(wins):
    """G², by which a pile contradicts every Bradley-Terry scale."""
    games = wins + wins.mT
    saturated = torch.xlogy(wins, wins / games).nansum((-1, -2))
    return 2 * (saturated - log_likelihood(tabular.fit_rewards(wins)[0], wins))


circle = torch.tensor([[0, 20, 10], [10, 0, 20], [20, 10, 0]]).double()
honest = tabular.draw_comparisons(judged.expand(2_000, 3, 3), 300, seed=0)
alarms = wilson(int((misfit(honest) > 3.84).sum()), 2_000)
print(f"circle {misfit(circle):.1f}   honest {misfit(honest).mean():.2f}")
print(f"honest piles above 3.84: {alarms}")
assert tabular.fit_rewards(circle)[0].abs().max() < 1e-9
assert f"{misfit(circle):.1f}" == "10.2" and round(1.96**2, 2) == 3.84
assert abs(misfit(honest).mean() - 1) < 0.1 and abs(alarms.value - 0.05) < 0.02

# %% [markdown] lang="en"
# **Two groups with different tastes.** Each group follows Bradley–Terry with rewards of its own; the pile does not say who judged. An average of two sigmoids is no sigmoid: odds do not multiply, and with three or more answers no rewards fit. What does the fit return? If all pairs are compared equally often, expected wins grow with the reward alone. So the order of the rewards is the order of the numbers of wins. Counting wins is a way of voting, the *Borda count*, and [Siththaranjan et al. 2024](https://arxiv.org/abs/2312.08358) prove that preference learning aggregates hidden differences between judges in this way.
#
# It is not the average of the rewards. Let 60 % of the judges find A better by 2, and 40 % find B better by 4. On average B is better by 0.4. But A wins 54 % of the comparisons: a comparison does not record how strongly one feels.

# %% [markdown] lang="zh"
# **两群口味不同的裁判。** 每一群都有自己的奖励，也都服从 Bradley–Terry，可是比较里没写是谁判的。两个 sigmoid 的平均不再是 sigmoid：几率不相乘，有三个或更多回答时，就没有哪组奖励合得上。那么拟合给出的是什么？要是每一对比的次数都相等，该胜几次就只看奖励，奖励越高，该胜得越多。所以奖励的次序就是胜场数的次序。按胜场数排名是一种投票办法，叫**波达计数**（Borda count）；[Siththaranjan et al. 2024](https://arxiv.org/abs/2312.08358) 证明：裁判之间有数据里看不见的差别时，偏好学习正是这样汇总的。
#
# 这不等于奖励的平均。设 60% 的裁判觉得 A 好 2 分，40% 觉得 B 好 4 分。平均下来 B 好 0.4 分，可是 A 在比较里胜了 54%：一次比较，记不下喜欢得有多强烈。

# %%
a_better, b_better = torch.sigmoid(torch.tensor([2.0, -4.0]))  # P(A wins), by group
wins_of_A = 0.6 * a_better + 0.4 * b_better
print(f"mean difference {0.6 * 2 - 0.4 * 4:.1f}   A wins {wins_of_A:.2f}")
assert math.isclose(0.6 * 2 - 0.4 * 4, -0.4) and f"{wins_of_A:.2f}" == "0.54"


# %% tags=["proof"] checked_en="Checked on 20 random problems: the misfit is a sum of KL divergences between coins; two groups mixed break the multiplication of odds; the fit orders answers by their wins." checked_zh="在 20 个随机问题上验证：G² 是各枚硬币之间 KL 散度之和；两群裁判一混，几率就不再相乘；拟合按胜场数排序。"
def coins(s, p):
    """Both outcomes of each pair, as log-probabilities: (..., 2) each."""
    return torch.stack((s, 1 - s), -1).log(), torch.stack((p, 1 - p), -1).log()


def detour(probs):
    """By how much log-odds over a third answer miss the direct ones."""
    direct = torch.logit(probs)
    over = direct[:, :, :, None] + direct[:, None, :, :]
    return (over - direct[:, :, None, :]).abs().amax((1, 2, 3))


i, j = torch.triu_indices(ANSWERS, ANSWERS, 1)
shares = coins((counts / played)[:, i, j], preference_probs(best)[:, i, j])
by_coin = 2 * played[:, i, j] * tabular.kl(*shares)
assert torch.allclose(misfit(counts), by_coin.sum(-1))
other = tabular.random_problems(INSTANCES, ANSWERS, SEED + 100).reward
mixture = (many_P + preference_probs(other)) / 2
assert torch.allclose(detour(many_P), torch.zeros(INSTANCES).double())
assert (detour(mixture) > 0.05).all()
pooled, _ = tabular.fit_rewards(uniform * mixture)
assert torch.equal(pooled.argsort(-1), mixture.sum(-1).argsort(-1))

# %% [markdown] lang="en"
# ## Three kinds of label
# In training, every comparison is a pair with a label. Let $q$ be the probability that the first answer is preferred, and $h$ the difference of rewards that some model gives the pair. The loss of the pair is minus its log-likelihood:
#
# $$\ell(q,h)=-q\log\sigma(h)-(1-q)\log\sigma(-h).$$
#
# What stands in the place of $q$ depends on the data.
#
# | label | what is stored | a tie | what minimises the loss |
# |---|---|---|---|
# | **soft** | the probability $q$ itself | $q=\frac12$ | the true difference |
# | **sampled** | one draw: 1 with probability $q$, else 0 | a coin decides | averaged over the draw: the true difference; of one draw: nothing finite |
# | **deterministic** | 1 for the better answer, always | no label: dropped | nothing finite |
#
# Where people decided once on each pair, the labels are nearest to *sampled*. A sampled label is a noisy copy of a soft one: average the loss over the draw, and it is the soft loss. And the soft loss is an entropy plus a KL divergence, which is never negative and is zero only where the model's probability is right:
#
# $$\mathbb{E}_{\text{label}}\,[\ell(\text{label},h)]=\ell(q,h)=H(q)+\mathrm{KL}\bigl(q\,\|\,\sigma(h)\bigr).$$
#
# So the loss has a floor, $H(q)$, the entropy of the label, and stands on it where $h=\log\frac{q}{1-q}$. (Averaged over the pairs, the floor is the **conditional entropy** of the label, given the pair.) Try it on A against C, where $q=0.8$, with a model that says $h=0.5$:

# %% [markdown] lang="zh"
# ## 三种标签
# 训练时，一次比较就是一个样本对加一个标签。设 $q$ 是第一个回答胜出的概率，$h$ 是某个模型给这两个回答的奖励之差。这一次的损失是它的对数似然取负：
#
# $$\ell(q,h)=-q\log\sigma(h)-(1-q)\log\sigma(-h)$$
#
# $q$ 的位置上放什么，要看数据。
#
# | 标签 | 存的是什么 | 平局 | $h$ 等于什么时损失最小 |
# |---|---|---|---|
# | **软标签**（soft） | 概率 $q$ 本身 | $q=\frac12$ | 真实的差 |
# | **采样标签**（sampled） | 抽一次：以概率 $q$ 得 1，否则得 0 | 抛硬币 | 单看一次，没有有限的值；损失对抽签取平均，仍是真实的差 |
# | **确定性标签**（deterministic） | 较好的一方总得 1 | 没有标签：丢弃 | 没有有限的值 |
#
# 人工标注的数据，如果每一对只判过一次，就最接近*采样标签*。采样标签就是加了噪声的软标签：把损失对抽签取平均，得到的正是软标签的损失。而软标签的损失等于熵加上 KL 散度；KL 散度从不为负，只有模型的概率正确时才是零：
#
# $$\mathbb{E}_{\text{label}}\,[\ell(\text{label},h)]=\ell(q,h)=H(q)+\mathrm{KL}\bigl(q\,\|\,\sigma(h)\bigr)$$
#
# 所以损失有一个下界 $H(q)$，即标签的熵；$h=\log\frac{q}{1-q}$ 时正好落在下界上。（对所有样本对取平均，这个下界就是样本对给定之后标签的**条件熵**，conditional entropy。）拿 A 对 C 试一试：$q=0.8$，模型说 $h=0.5$。


# %% tags=["setup"]
def pair_loss(q, h):
    """Minus the log-likelihood of a label q where the model says h."""
    return -q * logsigmoid(h) - (1 - q) * logsigmoid(-h)


q_AC, h_AC = torch.tensor(0.8), torch.tensor(0.5)  # A against C; a model's difference
over_draws = q_AC * pair_loss(1, h_AC) + (1 - q_AC) * pair_loss(0, h_AC)
floor_AC = -0.8 * math.log(0.8) - 0.2 * math.log(0.2)  # H(q)
said = torch.sigmoid(h_AC)
divergence = 0.8 * (0.8 / said).log() + 0.2 * (0.2 / (1 - said)).log()
print(f"loss {pair_loss(q_AC, h_AC):.3f} = {floor_AC:.3f} + {divergence:.3f}")
assert torch.isclose(over_draws, pair_loss(q_AC, h_AC))
assert torch.isclose(pair_loss(q_AC, h_AC), floor_AC + divergence)
assert torch.isclose(pair_loss(q_AC, torch.logit(q_AC)), torch.tensor(floor_AC))

# %% tags=["proof"] checked_en="Checked on 20 random problems: the loss averaged over draws, its floor, and the same for whole piles, over all outcomes of three comparisons; our loss equals the library's." checked_zh="在 20 个随机问题上验证：对抽签取平均的损失，它的下界；对一整堆比较也成立（走遍三次比较的所有结果）；我们的损失等于库里的。"
from dpo_core.losses import bradley_terry_loss

guesses = tabular.random_problems(INSTANCES, ANSWERS, SEED + 200).reward
q, h = torch.sigmoid(truth), guesses  # one judge's labels, another's differences
one, zero = torch.ones_like(q), torch.zeros_like(q)
assert torch.allclose(pair_loss(q, h), bradley_terry_loss(h, q))
drawn = q * bradley_terry_loss(h, one) + (1 - q) * bradley_terry_loss(h, zero)
assert torch.allclose(drawn, pair_loss(q, h))
entropy = -(torch.xlogy(q, q) + torch.xlogy(1 - q, 1 - q))
said = torch.sigmoid(h)
coin_kl = q * (q / said).log() + (1 - q) * ((1 - q) / (1 - said)).log()
assert torch.allclose(pair_loss(q, h), entropy + coin_kl)
assert torch.allclose(pair_loss(q, torch.logit(q)), entropy)
assert (pair_loss(q, h) > entropy).all()
small = many_P[:, :3, :3]  # three answers, three pairs
average = torch.zeros(INSTANCES).double()
for outcome in product([0, 1], repeat=3):  # who wins (0, 1), (0, 2), (1, 2)
    wins, chance = torch.zeros_like(small), torch.ones(INSTANCES).double()
    for won, (a, b) in zip(outcome, ((0, 1), (0, 2), (1, 2))):
        winner, loser = (a, b) if won else (b, a)
        wins[:, winner, loser], chance = 1, chance * small[:, winner, loser]
    average += chance * tabular.bradley_terry_nll(guesses[:, :3], wins)
whole_table = small * (1 - torch.eye(3))
assert torch.allclose(average, tabular.bradley_terry_nll(guesses[:, :3], whole_table))

# %% [markdown] lang="en"
# ## A pair in code
# Now texts. The base model of chapter 3 answers a prompt twice. The checker gives each answer its reward: one point for three numbers, one for the right value, so 0, 1 or 2. Then a label is drawn with the Bradley–Terry probability. The winner is called **chosen** ($y_w$), the loser **rejected** ($y_l$).

# %% [markdown] lang="zh"
# ## 代码里的偏好对
# 现在换成文本。让第 3 章的基座模型把一个提示答两遍，判分程序给两个回答各定一个奖励：写三个数得一分，答案正确得一分，所以是 0、1 或 2。再按 Bradley–Terry 概率抽一个标签，赢家叫 **chosen**（被偏好的回答，$y_w$），输家叫 **rejected**（不被偏好的回答，$y_l$）。

# %%
from dpo_core import BookTask, generate, judge, load_pretrained, use_threads
from dpo_core.preferences import on_policy_pairs
from dpo_core.theory import class_rewards
from dpo_core.training import default_device

use_threads()
task, device = BookTask(), default_device()
base = load_pretrained("gen").to(device)
worth = class_rewards("style+exact")  # (2, 2): [three numbers?, exact?]

answers = generate(base, ["S54=", "S54="], seed=3)
verdicts = [judge("S54=", answer) for answer in answers]
rewards = [worth[int(v.style), int(v.exact)].item() for v in verdicts]
first_preferred = 1 / (1 + math.exp(rewards[1] - rewards[0]))  # σ of the difference
draw = stream("chapter 5", 2).random()
chosen, rejected = answers if draw < first_preferred else answers[::-1]
print(
    answers, rewards, f"{first_preferred:.2f}", f"chosen {chosen} rejected {rejected}"
)

# %% [markdown] lang="en"
# `on_policy_pairs` does this in batches. We make 6,400 such pairs; `preference_prob` is 1 in each, because sampled labels store the verdict, not how sure it was. Two small functions first: what each side is, and by how much the chosen answer is truly ahead.

# %% [markdown] lang="zh"
# `on_policy_pairs` 成批地做同一件事。我们做 6,400 对；`preference_prob` 全是 1，因为采样标签只存结果，不存有几分把握。先写两个小函数：一个看每边是哪一类，一个算 chosen 真正领先几分。


# %%
def classes(pairs):
    """(three numbers?, exact?) of all chosen and all rejected answers, (N, 2) each."""
    sides = []
    for column in (pairs.chosen, pairs.rejected):
        verdicts = list(map(judge, pairs.prompt, column))
        sides.append(np.array([(int(v.style), int(v.exact)) for v in verdicts]))
    return sides


def reward_gap(pairs):
    """True reward of the chosen answer minus that of the rejected one, (N,)."""
    chosen_class, rejected_class = classes(pairs)
    return worth[tuple(chosen_class.T)] - worth[tuple(rejected_class.T)]


# %%
how = {"reward": "style+exact", "labels": "sampled", "progress": True}
data = on_policy_pairs(base, task, 6_400, seed=0, **how)
first_pair = {field.name: getattr(data, field.name)[0] for field in fields(data)}
for column, value in first_pair.items():
    first_pair[column] = round(value, 2) if isinstance(value, float) else value
print(json.dumps(first_pair))
gap = reward_gap(data)
ties, upsets = (gap == 0).mean(), (gap < 0).sum() / (gap != 0).sum()
print(f"ties {ties:.2f}   of the others, the worse answer was chosen in {upsets:.2f}")
assert set(data.preference_prob) == {1.0}
assert abs(ties - 0.44) < 0.02 and abs(upsets - 0.25) < 0.02

# %% [markdown] lang="en"
# The printed line is a pair as it lies in a file, in JSON. `prompt`, `chosen` and `rejected` are the columns that the TRL library reads; the other three are ours. In 44 % of the pairs both answers have the same reward and the label is a coin. In about a quarter of the others the *worse* answer is called chosen. That is no error; sampled labels are so.
#
# *Simple_RLHF_DPO*, the project that this book grew out of, made its pairs differently: chosen is a right expression of three numbers, rejected is always the empty answer `E`. Every expression beat `E` and none ever lost, so their rewards are unbounded; and since no two expressions met, the pile does not say which is better: below, two opposite orders have the same loss. It says: do not write nothing. Chapter 9 shows what such pairs do to a model.

# %% [markdown] lang="zh"
# 打印出来的这一行，就是一个偏好对在文件里的样子，格式是 JSON。`prompt`、`chosen`、`rejected` 是 TRL 库认的列名，另外三列是我们的。有 44% 的偏好对，两个回答奖励相同，标签全凭抛硬币。其余的里面，约有四分之一，*较差*的那个反而成了 chosen。数据没有出错，采样标签就是这样。
#
# 本书由 *Simple_RLHF_DPO* 这个小项目长成，它的偏好对另有做法：chosen 是一个正确的算式，写三个数，rejected 永远是空回答 `E`。每个算式都胜过 `E`，从没输过，所以奖励都没有上界；算式与算式又没碰过面，哪个更好，这堆比较一个字也没说（下面排两种相反的次序，损失一样）。它只说了：别交白卷。这样的偏好对会把模型变成什么样，见第 9 章。

# %%
empty_rejected = torch.zeros(4, 4).double()
empty_rejected[:3, 3] = 20  # each of three expressions was preferred to E, twenty times
orders = torch.tensor([[30, 25, 20, 0], [20, 25, 30, 0]]).double()  # opposite orders
its_loss = [tabular.bradley_terry_nll(reward, empty_rejected) for reward in orders]
print(refusal(empty_rejected), *(f"{value:.0e}" for value in its_loss))
assert refusal(empty_rejected) and max(its_loss) < 1e-8
assert torch.isclose(*its_loss, rtol=1e-9, atol=0)

# %% [markdown] lang="en"
# ## A reward model
# There are more texts than any table holds, so one fits a **reward model**, a network that reads prompt and answer and returns one number. Ours is the language model with another end. In place of the vocabulary head, a single row of weights gives one number, read at the answer's last token, `E`, where the network has seen the whole answer. The layers start from the base model's weights, the row from zero.

# %% [markdown] lang="zh"
# ## 奖励模型
# 文本之多，什么表格也装不下，所以改成拟合一个函数：**奖励模型**（reward model），一个网络，读进提示和回答，给出一个数。我们的奖励模型，就是语言模型换了个出口。原来的输出头给词表里每个词元一个数；现在换成一行权重，只给一个数，在回答的最后一个词元 `E` 上读取，到了那里，网络已经看完整个回答。前面各层沿用基座模型的权重，这一行的初值是零。


# %%
class Scorer(nn.Module):
    """r(x, y): ids in, one number a row out."""

    def __init__(self, base):
        super().__init__()
        self.model = deepcopy(base.model)  # all but the vocabulary head
        self.score = nn.Linear(base.config.hidden_size, 1, bias=False)
        nn.init.zeros_(self.score.weight)

    def forward(self, ids, completion_mask):
        states = self.model(ids)  # (B, T, D)
        positions = torch.arange(ids.shape[1], device=ids.device)
        last = (completion_mask * positions).argmax(-1)  # (B,): where E stands
        rows = torch.arange(len(ids), device=ids.device)
        return self.score(states[rows, last]).squeeze(-1)  # (B,)


def reward_loss(model, batch):
    chosen = model(batch["chosen_ids"], batch["chosen_mask"])  # (B,)
    rejected = model(batch["rejected_ids"], batch["rejected_mask"])  # (B,)
    return -logsigmoid(chosen - rejected).mean()


# %% [markdown] lang="en"
# The loss is the $\ell$ of above with $q=1$ (eq. 1 of [Ouyang et al. 2022](https://arxiv.org/abs/2203.02155)); before the first step all rewards are 0 and it is $\ln 2$. The library's `RewardModel` and `reward_step` are the same two things. With them we train: one hundred steps of Muon (chapter 3), each pair used once.

# %% [markdown] lang="zh"
# 损失就是前面的 $\ell$，取 $q=1$（[Ouyang et al. 2022](https://arxiv.org/abs/2203.02155) 的式 1）；第一步之前，奖励全是 0，损失是 $\ln 2$。库里的 `RewardModel` 和 `reward_step`，就是这两样。接着拿它们来训练：Muon（第 3 章）走一百步，每个偏好对用一次。

# %%
from dpo_core.reward import RewardModel, predict_rewards
from dpo_core.steps import reward_step

batch = {name: t.to(device) for name, t in data.batch(np.arange(64)).items()}
ours, library = Scorer(base).to(device), RewardModel(base)
for weights in (
    torch.zeros(64),
    torch.linspace(-1, 1, 64),
):  # as it starts, and any other
    ours.score.weight.data.copy_(weights)
    library.load_state_dict(ours.state_dict())
    total, count = reward_step(library, batch)["loss"]
    assert torch.isclose(reward_loss(ours, batch), total / count, rtol=1e-4)
    print(f"{reward_loss(ours, batch):.4f}")
    if not weights.any():
        assert abs(total / count - math.log(2)) < 1e-6

# %% tags=["nbval-ignore-output"]
from dpo_core.training import LoopConfig, train

reward_model = RewardModel(base)
config = LoopConfig(steps=100, learning_rate=0.01, optimizer="muon")
history = train(reward_model, data.batches(64, seed=0), reward_step, config)
for name in ("loss", "rewards/accuracies"):
    print(f"{name:20}", *(f"{line[name]:.3f}" for line in history))

# %% [markdown] lang="en"
# Is the last loss good? As the true rewards are known, so are a floor and a ceiling for any model. Let two authors of chapter 3 answer the same prompt:
#
# | their rewards differ by | share of pairs | entropy of the label | the likelier label has probability |
# |---|---|---|---|
# | 0 | 44 % | 0.69 | 50 % |
# | 1 | 48 % | 0.58 | 73 % |
# | 2 | 8 % | 0.37 | 88 % |
# | mean, weighted by the share | | 0.61 | 64 % |
#
# No model can have an expected loss ($\ell(q,h)$ with the true $q$) below 0.61. None can agree with more than 64 % of the labels, on average over the draw: ties are coins, and elsewhere the worse answer sometimes wins. Against the *true* order, ties left out, 100 % is possible. We compute this table, then measure on 2,000 fresh pairs.
#
# > **Before you run it.** After 6,400 pairs, which will the model order better: style, or exactness?
# >
# > <details><summary>Answer</summary>
# >
# > Style, by far. Where only exactness differs, the model is not much better than a coin.
# >
# > </details>

# %% [markdown] lang="zh"
# 最后的损失算不算好？真实的奖励已知，不论什么模型，下界和上限也就已知。让第 3 章的两位作者答同一个提示：
#
# | 奖励相差 | 占样本对的比例 | 标签的熵 | 较可能的标签的概率 |
# |---|---|---|---|
# | 0 | 44% | 0.69 | 50% |
# | 1 | 48% | 0.58 | 73% |
# | 2 | 8% | 0.37 | 88% |
# | 按比例加权平均 | | 0.61 | 64% |
#
# 期望损失（$\ell(q,h)$，代入真实的 $q$），哪个模型也低不过 0.61。与标签一致的比例，对抽签取平均，哪个模型也高不过 64%：平局全凭硬币，不是平局的，较差的有时也会胜。若是与*真实的*次序比，平局不算，就可以做到 100%。下面先算出这张表，再另取 2,000 个新的偏好对来量。
#
# > **先猜一猜。** 用过 6,400 个偏好对以后，模型在哪一样上排得更准：风格，还是对错？
# >
# > <details><summary>答案</summary>
# >
# > 风格，远远领先。只差在答案是否正确时，模型比抛硬币强不了多少。
# >
# > </details>

# %%
prompt_share = np.array(list(task.prompt_distribution.values()))
rates = task.class_rates  # (166, 2, 2)
two_authors = np.einsum("p,pab,pcd->abcd", prompt_share, rates, rates)
differ = np.abs(worth[:, :, None, None] - worth)  # (2, 2, 2, 2)
share_of = np.array([two_authors[differ == k].sum() for k in range(3)])
likelier = 1 / (1 + np.exp(-np.arange(3)))
label_entropy = -likelier * np.log(likelier) - (1 - likelier) * np.log(1 - likelier)
print(share_of.round(2))
for column in (label_entropy, likelier):
    print(column.round(2), f"mean {share_of @ column:.2f}")
assert math.isclose(share_of.sum(), 1) and share_of.round(2).tolist() == [
    0.44,
    0.48,
    0.08,
]
assert label_entropy.round(2).tolist() == [0.69, 0.58, 0.37]
assert likelier.round(2).tolist() == [0.5, 0.73, 0.88]
assert [f"{share_of @ column:.2f}" for column in (label_entropy, likelier)] == [
    "0.61",
    "0.64",
]

# %% tags=["nbval-ignore-output"]
fresh = on_policy_pairs(base, task, 2_000, seed=1, **how)
chosen_class, rejected_class = classes(fresh)
style_gap, exact_gap = (chosen_class - rejected_class).T
fresh_gap = reward_gap(fresh)
columns = fresh.chosen, fresh.rejected
scores = [predict_rewards(reward_model, fresh.prompt, c).double() for c in columns]
learned = scores[0] - scores[1]  # the model's h, of every pair
fresh_q = torch.sigmoid(torch.tensor(fresh_gap))  # that the chosen answer is preferred
expected_loss = pair_loss(fresh_q, learned).mean().item()
floor = pair_loss(fresh_q, torch.logit(fresh_q)).mean().item()
ceiling = torch.maximum(fresh_q, 1 - fresh_q).mean().item()
print(f"loss {expected_loss:.3f}   floor {floor:.3f}   ceiling {ceiling:.2f}")
assert abs(floor - 0.61) < 0.01 and abs(ceiling - 0.64) < 0.01
assert floor < expected_loss < math.log(2) - 0.015

# %% tags=["nbval-ignore-output"]
style_only = (style_gap != 0) & (exact_gap == 0)
exact_only = (style_gap == 0) & (exact_gap != 0)
right = learned.numpy() * fresh_gap > 0
ordered_right = {"all labels": wilson(int((learned > 0).sum()), 2_000)}
for name, rows in {
    "true order": fresh_gap != 0,
    "style alone": style_only,
    "exactness alone": exact_only,
}.items():
    ordered_right[name] = wilson(int(right[rows].sum()), int(rows.sum()))
for name, found in ordered_right.items():
    print(f"{name:16} ordered right {found}")
assert ceiling - 0.1 < ordered_right["all labels"].value < ceiling
assert 0.75 < ordered_right["true order"].value < 0.99
assert ordered_right["style alone"].value > 0.95
assert 0.45 < ordered_right["exactness alone"].value < 0.7

# %% [markdown] lang="en"
# It has learnt one half of its task. Agreement with the labels does not show it: it lies a few points below a ceiling that outside a toy nobody knows. One has to take the pairs apart by what differs in them.

# %% [markdown] lang="zh"
# 它只学会了一半。光看与标签的一致率，什么也看不出来：它离上限不过几个百分点；何况出了玩具世界，谁也不知道上限在哪里。得按差在哪里，把偏好对分开来看。

# %% tags=["nbval-ignore-output"]
KINDS = {  # how far the first answer is ahead, in style and in exactness
    "same": (0, 0),
    "style against exact": (1, -1),
    "style": (1, 0),
    "exact": (0, 1),
    "both": (1, 1),
}
by_kind = {}
for name, (style, exact) in KINDS.items():
    ahead = (style_gap == style) & (exact_gap == exact)
    behind = (style_gap == -style) & (exact_gap == -exact) & ~ahead
    by_kind[name] = mean_interval(torch.cat((learned[ahead], -learned[behind])).numpy())
    print(f"{name:20} true {style + exact}   learned {by_kind[name]}")
assert abs(by_kind["same"].value) < 0.1 and by_kind["style"].value > 0.5
assert by_kind["exact"].value < 0.25 * by_kind["style"].value
assert 0.75 * by_kind["style"].value < by_kind["both"].value < 1.8
assert by_kind["style against exact"].value > 0.15


# %% tags=["figure", "nbval-ignore-output"] alt_en="Five rows, one for each way in which two answers differ; a bar marks the true difference of rewards, a point with its interval the learned one. Same kind: both at 0. Style alone: true 1, learned a little below 1. Right value alone: true 1, learned not far above 0. Both: true 2, learned about half of it. Style against right value: true 0, learned well above 0." alt_zh="五行，每行是两个回答的一种差别；竖线标真实的奖励之差，带区间的点标学到的。同类：都在 0。只差风格：真实是 1，学到的略低于 1。只差对错：真实是 1，学到的比 0 高不了多少。两样都领先：真实是 2，学到的约为一半。风格与对错相抵：真实是 0，学到的明显高于 0。"
@picture
def what_was_learnt(say):
    words = {
        "both": say("style and value", "风格、对错上都领先"),
        "style": say("style alone", "只在风格上领先"),
        "exact": say("value alone", "只在对错上领先"),
        "style against exact": say("style, but wrong value", "风格领先，答案却错"),
        "same": say("neither", "两样都一样"),
    }
    _, axes = figure(height=3.2)
    for row, name in enumerate(reversed(words)):
        x = by_kind[name]
        reach = [[x.value - x.low], [x.high - x.value]]
        axes.plot(
            [sum(KINDS[name])] * 2, [row - 0.3, row + 0.3], color=COLORS["theory"]
        )
        axes.errorbar(
            x.value, row, xerr=reach, fmt="o", capsize=3, color=COLORS["policy"]
        )
    true = {"color": COLORS["theory"], "ha": "right", "va": "center"}
    axes.text(1.95, 4, say("true", "真实的"), **true)
    edge = by_kind["both"].high + 0.05
    axes.text(edge, 4, say("learned", "学到的"), color=COLORS["policy"], va="center")
    axes.set_yticks(range(5), list(reversed(words.values())))
    axes.set(xlabel=say("difference of the rewards", "奖励之差"), ylim=(-0.5, 4.5))


# %% [markdown] lang="en"
# **Figure 5.5.** The first answer is ahead in what the row says. The model has learnt the style and hardly the value. Look at the fourth row: a wrong answer of three numbers against a right one of two. They are worth the same, and the model prefers the wrong one. A policy trained to please it gains more by a third number than by a right sum ([chapter 12](12_rl.ipynb) trains such policies).
#
# One run is one run. `chapters/data/reward_seeds.py` trains with three seeds, and with eight times as many pairs:

# %% [markdown] lang="zh"
# **图 5.5** 每行写着第一个回答领先在哪里。模型学会了风格，答案对不对却没学到多少。看第四行：一个写三个数却算错了，一个写两个数而算对了，奖励本来相等，模型却偏爱错的那个。要是训练一个策略去讨好这个模型，多写一个数比把算式算对更划算（[第 12 章](12_rl.ipynb)就来训练这样的策略）。
#
# 只训练一次，作不得准。`chapters/data/reward_seeds.py` 用三个种子抽偏好对，各训练一个这样的模型，又用八倍的偏好对各训练一个：

# %%
stored = json.loads(Path("data/reward_seeds.json").read_text(encoding="utf-8"))
few, many = ([r for r in stored["runs"] if r["pairs"] == n] for n in (6_400, 51_200))
assert all(len({run["seed"] for run in runs}) == 3 for runs in (few, many))
for run in few + many:
    assert run["style"]["accuracy"]["value"] > 0.95
    assert run["exact"]["accuracy"]["low"] > 0.6  # above chance
    assert run["exact"]["accuracy"]["high"] < run["style"]["accuracy"]["low"] - 0.15
    assert run["exact"]["difference"]["high"] < 0.3 * run["style"]["difference"]["low"]
best_of_few = max(run["exact"]["accuracy"]["high"] for run in few)
assert best_of_few < min(
    run["exact"]["accuracy"]["low"] for run in many
)  # more: better
assert all(run["exact"]["accuracy"]["high"] < 0.8 for run in many)

# %%
print("              ordered right     learned difference")
print("pairs  seed   style   value      style   value")
for run in few + many:
    kinds = run["style"], run["exact"]
    right = "".join(f"{kind['accuracy']['value']:8.2f}" for kind in kinds)
    apart = "".join(f"{kind['difference']['value']:8.2f}" for kind in kinds)
    print(f"{run['pairs']:5} {run['seed']:5}{right}   {apart}")

# %% [markdown] lang="en"
# In all six the style is ordered right in more than 95 % of the pairs, the value above chance and far below the style; with eight times as many pairs it is better, still below 80 %. How far more pairs would carry it, these runs do not say; nor have we tested why the value is harder.

# %% [markdown] lang="zh"
# 六次里，两个回答只差风格的，排序正确的都超过 95%。只差对错的，每次都比乱猜强，每次也都远不如风格；偏好对多到八倍，又好一些，仍不到 80%。再多下去能学到哪一步，这几次训练没有说。判断对错为什么更难，我们也没有检验过。

# %% tags=["proof"] checked_en="Checked: a number of its own for each prompt, added to all its rewards, leaves the loss as it is." checked_zh="已验证：给每个提示随便定一个数，加到它所有的奖励上，损失不变。"
# concluded of the reward model: the constant that nobody can see
prompts = list(task.prompt_distribution)
offsets = dict(zip(prompts, stream("chapter 5", 1).normal(0, 10, size=len(prompts))))
of_prompt = torch.tensor([offsets[prompt] for prompt in fresh.prompt])
moved = [score + of_prompt for score in scores]
before, after = (-logsigmoid(a - b).mean() for a, b in (scores, moved))
assert torch.isclose(before, after)
assert torch.cat(moved).std() > 3 * torch.cat(scores).std()

# %% [markdown] lang="en"
# > **What the toy hides.** Our judge has rewards, and they are the ones that we want. People have neither: the training labelers of [Ouyang et al. 2022](https://arxiv.org/abs/2203.02155) agree with each other in 72.6 % of the cases, and nobody knows how much of the rest is noise and how much is taste. Comparisons are costly, so a labeler there ranks between 4 and 9 answers to a prompt, and all pairs of a ranking go into one batch; shuffled, they led to overfitting. Judges, human or not, can favour the longer answer. And reward models are asked about the answers of a trained policy, which no judge has seen.

# %% [markdown] lang="zh"
# > **玩具没告诉你的。** 我们的裁判有奖励，而且正是我们想要的那个。真人两样都没有：[Ouyang et al. 2022](https://arxiv.org/abs/2203.02155) 里标注训练数据的人，彼此意见一致的只有 72.6%，其余的有多少是噪声、多少是口味，没人知道。比较很贵，所以那里的标注员一次给同一个提示的 4 到 9 个回答排序；同一次排序得出的偏好对全放进一个批次，打散了会过拟合。裁判不论是人还是模型，都可能偏爱长的回答。奖励模型要评判的，又是策略训练以后写出的回答，没有哪个裁判见过。

# %% [markdown] lang="en"
# > **To remember.** The log-odds of a preference are a difference of rewards. Fitting the differences is logistic regression, with intervals that hold; the constant of each prompt is lost and not missed. A scale exists because judges disagree, and it is worth as much as the comparisons: check the fit, know the floor, and ask which differences were learnt.

# %% [markdown] lang="zh"
# > **记住。** 偏好的对数几率，就是奖励之差。拟合这些差就是逻辑回归，区间也靠得住；每个提示丢了一个常数，反正也用不着。裁判意见不一，才做得成尺子；尺子有几分可信，全看比较。要检查拟合是否合得上，要知道下界，还要问一句：学会的是哪些差。

# %% [markdown] lang="en"
# ## Exercises

# %% [markdown] lang="zh"
# ## 练习

# %% [markdown] lang="en"
# ### Exercise 5.1 · Along the path
# ★☆☆ · 5 minutes
#
# A was preferred to B in 30 of 40 comparisons, B to C in 20 of 30. A and C were never compared. With what probability does the Bradley–Terry model prefer A to C?
#
# <details><summary>Hint</summary>
#
# Odds multiply; then turn the odds into a probability.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 5.1 · 沿着路径
# ★☆☆ · 5 分钟
#
# A 与 B 比了 40 次，A 胜 30 次；B 与 C 比了 30 次，B 胜 20 次。A 与 C 没有比过。按 Bradley–Terry 模型，A 胜过 C 的概率是多少？
#
# <details><summary>提示</summary>
#
# 几率相乘，再把几率换成概率。
#
# </details>

# %% tags=["exercise"]
answer_5_1 = ...  # a number between 0 and 1
check("5.1", answer_5_1)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# The odds are 30/10 = 3 and 20/10 = 2. Their product is 6, and the probability is 6/7 = 0.857.
#
# ```python
# answer_5_1 = 6 / 7
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 几率是 30/10 = 3 和 20/10 = 2，乘积是 6，概率是 6/7 = 0.857。
#
# ```python
# answer_5_1 = 6 / 7
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 5.2 · How many comparisons?
# ★★☆ · 10 minutes
#
# One of two answers wins about 90 % of the comparisons. How many comparisons are needed, at least, for the 95 % interval of the difference of rewards to reach at most 0.25 to each side? Take $z=1.96$.
#
# <details><summary>Hint</summary>
#
# $1.96\cdot\mathrm{SE}\le 0.25$, and $\mathrm{SE}^2=1/(n\,q(1-q))$.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 5.2 · 要比多少次
# ★★☆ · 10 分钟
#
# 两个回答相比，其中一个胜出的次数约占 90%。要让奖励之差的 95% 区间，向两边伸出都不超过 0.25，至少要比多少次？取 $z=1.96$。
#
# <details><summary>提示</summary>
#
# $1.96\cdot\mathrm{SE}\le 0.25$，而 $\mathrm{SE}^2=1/(n\,q(1-q))$。
#
# </details>

# %% tags=["exercise"]
answer_5_2 = ...  # a whole number
check("5.2", answer_5_2)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# $n\ge 1.96^2/(0.25^2\cdot 0.9\cdot 0.1)=682.95$, so 683.
#
# ```python
# answer_5_2 = math.ceil(1.96**2 / (0.25**2 * 0.9 * 0.1))
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# $n\ge 1.96^2/(0.25^2\cdot 0.9\cdot 0.1)=682.95$，所以是 683。
#
# ```python
# answer_5_2 = math.ceil(1.96**2 / (0.25**2 * 0.9 * 0.1))
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 5.3 · Wins minus expected wins
# ★☆☆ · 10 minutes
#
# Write `slope_of(reward, wins)`: the gradient of the log-likelihood $L$, shape `(A,)`, from rewards `(A,)` and a table of counts `(A, A)`, without autograd. The table may have numbers on its diagonal; they must not matter.
#
# <details><summary>Hint</summary>
#
# `wins + wins.mT` holds the $n_{ij}$, and `reward[:, None] - reward[None, :]` the differences.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 5.3 · 实际胜的减去该胜的
# ★☆☆ · 10 分钟
#
# 写一个 `slope_of(reward, wins)`：由奖励 `(A,)` 和次数表 `(A, A)` 算出对数似然 $L$ 的梯度，形状 `(A,)`，不许用自动求导。表的对角线上可能有数，不能让它们影响结果。
#
# <details><summary>提示</summary>
#
# `wins + wins.mT` 里是 $n_{ij}$，`reward[:, None] - reward[None, :]` 里是各个差。
#
# </details>


# %% tags=["exercise"]
def slope_of(reward, wins): ...


check("5.3", slope_of)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# On the diagonal $n_{ii}=2w_{ii}$ and $\sigma(0)=\frac12$, so it cancels by itself.
#
# ```python
# def slope_of(reward, wins):
#     games = wins + wins.mT
#     prob = torch.sigmoid(reward[:, None] - reward[None, :])
#     return (wins - games * prob).sum(-1)
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 对角线上 $n_{ii}=2w_{ii}$，$\sigma(0)=\frac12$，它自己就抵消了。
#
# ```python
# def slope_of(reward, wins):
#     games = wins + wins.mT
#     prob = torch.sigmoid(reward[:, None] - reward[None, :])
#     return (wins - games * prob).sum(-1)
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 5.4 · Is there one scale?
# ★★★ · 25 minutes
#
# Write `has_scale(wins)`: True if the table `(A, A)` has exactly one finite fit, up to a constant; False if it has none or many. Do not call `fit_rewards`.
#
# <details><summary>Hint</summary>
#
# Draw an arrow from $i$ to $j$ where $i$ beat $j$ at least once. Exactly one finite fit (up to a constant) exists if, and only if, arrows lead from every answer to every other, over others if need be. Whoever is reached in $k$ steps reaches further in $k+1$.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 5.4 · 是不是恰好有一把尺子
# ★★★ · 25 分钟
#
# 写一个 `has_scale(wins)`：表 `(A, A)` 若恰好有一个有限的拟合（相差一个常数的，算同一个），返回 True；一个也没有，或者有许多个，返回 False。不许调用 `fit_rewards`。
#
# <details><summary>提示</summary>
#
# $i$ 至少胜过 $j$ 一次，就从 $i$ 向 $j$ 画一支箭头。有限的拟合恰好有一个（相差一个常数的，算同一个），当且仅当从任何一个回答出发，沿着箭头都走得到其余各个回答，中途可以经过别的。走 $k$ 步能到的地方，再走一步，就是 $k+1$ 步能到的。
#
# </details>


# %% tags=["exercise"]
def has_scale(wins): ...


check("5.4", has_scale)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# ```python
# def has_scale(wins):
#     answers = len(wins)
#     reached = (wins > 0) | torch.eye(answers, dtype=torch.bool)
#     for _ in range(answers):
#         reached = (reached.double() @ reached.double()) > 0
#     return bool(reached.all())
# ```
#
# If some group cannot be left along the arrows, its members never beat anyone outside it. Either the others beat some of them, and the rewards of the others run away; or the two never met, and each side has a constant of its own.
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# ```python
# def has_scale(wins):
#     answers = len(wins)
#     reached = (wins > 0) | torch.eye(answers, dtype=torch.bool)
#     for _ in range(answers):
#         reached = (reached.double() @ reached.double()) > 0
#     return bool(reached.all())
# ```
#
# 要是有一群回答，沿着箭头走不出去，那么群里谁也没胜过群外的。群外的若胜过它们，群外的奖励就一路涨到无穷；两边若从没比过，就各有各的常数。
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 5.5 · A sharper judge
# ★★☆ · 10 minutes
#
# Change the world of the reward model: the judge now gives *two* points for three numbers and two for the right value, so that true differences are 0, 2 or 4, as often as they were 0, 1 or 2 (44.17 %, 47.97 % and 7.85 % of the pairs). Predict before anything is trained: the lowest expected loss that any model can reach, and the largest share of labels that any model can agree with on average. Give both, in this order.
#
# <details><summary>Hint</summary>
#
# The table in the section on the reward model, with the entropy and the probability at 2 and 4 in place of 1 and 2.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 5.5 · 更敏锐的裁判
# ★★☆ · 10 分钟
#
# 把奖励模型那一节的世界改一改：现在裁判给写三个数的*两*分，答案正确的也是两分。于是真实的差是 0、2、4，各占多少，同原来的 0、1、2 一样（44.17%、47.97%、7.85%）。什么也不训练，先算出来：不论什么模型，期望损失最低能到多少？与标签一致的比例，平均最高能到多少？按这个顺序给出两个数。
#
# <details><summary>提示</summary>
#
# 就是讲奖励模型那一节的表，把 1 和 2 处的熵、概率，换成 2 和 4 处的。
#
# </details>

# %% tags=["exercise"]
answer_5_5 = (..., ...)  # the floor of the loss, then the ceiling of the agreement
check("5.5", answer_5_5)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# The likelier label has probability 50 %, 88.1 % and 98.2 %; the entropies are 0.693, 0.365 and 0.090. Weighted, that is a floor of 0.488 and a ceiling of 72.0 %. A sharper judge leaves more to learn, though the ties stay coins.
#
# ```python
# likelier_5_5 = [1 / (1 + math.exp(-d)) for d in (0, 2, 4)]
# floor_5_5 = ceiling_5_5 = 0
# for share, p in zip((0.4417, 0.4797, 0.0785), likelier_5_5):
#     floor_5_5 += share * -(p * math.log(p) + (1 - p) * math.log(1 - p))
#     ceiling_5_5 += share * p
# answer_5_5 = (floor_5_5, ceiling_5_5)
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 较可能的标签，概率依次是 50%、88.1%、98.2%；熵依次是 0.693、0.365、0.090。加权平均，下界是 0.488，上限是 72.0%。裁判敏锐了，能学的就多了；不过平局仍然全凭硬币。
#
# ```python
# likelier_5_5 = [1 / (1 + math.exp(-d)) for d in (0, 2, 4)]
# floor_5_5 = ceiling_5_5 = 0
# for share, p in zip((0.4417, 0.4797, 0.0785), likelier_5_5):
#     floor_5_5 += share * -(p * math.log(p) + (1 - p) * math.log(1 - p))
#     ceiling_5_5 += share * p
# answer_5_5 = (floor_5_5, ceiling_5_5)
# ```
#
# </details>

# %% [markdown] lang="en"
# The next exercise asks you to read three curves. Three judges compare the same answers, 20,000 comparisons for each true difference; then differences are fitted.

# %% [markdown] lang="zh"
# 下一个练习要你读三条曲线。三个裁判比较同样的回答，每个真实的差各比 20,000 次，再拟合出差来。

# %%
true_x = torch.arange(0.25, 4.1, 0.25).double()
chances = {
    "1": torch.sigmoid(true_x / 2),
    "2": torch.where(true_x < 1.5, 0.5, torch.sigmoid(true_x)),
    "3": flipped(true_x, 0.2),
}
curves = {}
for judge_name, chance in chances.items():
    table = torch.stack((0 * chance, chance, 1 - chance, 0 * chance), -1).view(-1, 2, 2)
    drawn = tabular.draw_comparisons(table, 20_000, seed=4)
    found, errors = (x.flatten() for x in fitted_differences(drawn))
    ends = torch.stack((found, found - 1.96 * errors, found + 1.96 * errors), -1)
    curves[judge_name] = [Estimate(*row) for row in ends.tolist()]


# %% tags=["figure"] alt_en="Fitted difference against the true difference from 0 to 4; a thin diagonal for comparison. Curve 1 is straight with half the slope of the diagonal. Curve 2 stays at 0 up to a true difference of 1.5, then lies on the diagonal. Curve 3 starts a little below the diagonal, bends over and levels off below 1.4." alt_zh="横轴是真实的差，从 0 到 4；纵轴是拟合出的差；细线是对角线。曲线 1 是直的，斜率是对角线的一半。曲线 2 在真实的差不到 1.5 时停在 0，之后落在对角线上。曲线 3 起初略低于对角线，然后弯下来，不到 1.4 就变平了。"
@picture
def three_judges(say):
    _, axes = figure()
    axes.plot([0, 4], [0, 4], color=INK, linewidth=0.8)
    for judge_name, color in zip(curves, ("policy", "chosen", "rejected")):
        points(axes, true_x, curves[judge_name], color)
        words = say(f"judge {judge_name}", f"裁判 {judge_name}")
        axes.text(
            4.1, curves[judge_name][-1].value, words, color=COLORS[color], va="center"
        )
    axes.set(
        xlabel=say("true difference of the rewards", "真实的奖励之差"),
        ylabel=say("fitted difference", "拟合出的差"),
        xlim=(-0.1, 5),
        xticks=range(5),
    )


# %% [markdown] lang="en"
# **Figure 5.6.** What three judges make of the same differences. Thin line: the truth.

# %% [markdown] lang="zh"
# **图 5.6** 同样的差，三个裁判各判成什么样。细线：真值。

# %% [markdown] lang="en"
# ### Exercise 5.6 · Which judge is which?
# ★★☆ · 10 minutes
#
# Diagnose the three judges of figure 5.6. The candidates:
#
# - `"flips"`: a fifth of the verdicts are entered the wrong way round;
# - `"noise"`: the impressions are twice as noisy, so that the judge follows Bradley–Terry with half the rewards;
# - `"threshold"`: what is nearly equal counts as a tie, and a coin decides;
# - `"swapped"`: the columns of the chosen and the rejected answers were exchanged;
# - `"sure"`: the better answer always wins.
#
# Give the names for judges 1, 2 and 3, in this order.
#
# <details><summary>Hint</summary>
#
# Ask of each candidate what it does to a small difference, and what to a large one.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 5.6 · 谁是谁
# ★★☆ · 10 分钟
#
# 给图 5.6 的三个裁判看看病。可能的有：
#
# - `"flips"`：判完以后，有五分之一记反了；
# - `"noise"`：印象的噪声大了一倍，等于照一半的奖励服从 Bradley–Terry；
# - `"threshold"`：差不多好的算平局，抛硬币决定；
# - `"swapped"`：chosen 和 rejected 两列放反了；
# - `"sure"`：好的一方总胜。
#
# 依次写出裁判 1、2、3 的名字。
#
# <details><summary>提示</summary>
#
# 挨个问：碰上小的差，它会怎样？碰上大的差呢？
#
# </details>

# %% tags=["exercise"]
answer_5_6 = (..., ..., ...)  # three of the names
check("5.6", answer_5_6)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# Judge 1 shrinks all differences by the same factor: noise, and the scale is only in another unit. Judge 2 does not see small differences and is right about large ones: a threshold. Judge 3 shrinks small differences somewhat and caps large ones, at log 4 = 1.39: flips. Swapped columns would give a falling line, and a judge who is sure no finite fit.
#
# ```python
# answer_5_6 = ("noise", "threshold", "flips")
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 裁判 1 把所有的差缩成同样的倍数：是噪声，尺子不过换了个单位。裁判 2 看不见小的差，大的差却判得准：有门槛。裁判 3 把小的差缩了一些，给大的差封了顶，顶在 log 4 = 1.39：记反了。两列放反，线会往下走；好的总胜，就没有有限的拟合。
#
# ```python
# answer_5_6 = ("noise", "threshold", "flips")
# ```
#
# </details>

# %% [markdown] lang="en"
# ## References
# - [Bradley & Terry 1952](https://doi.org/10.2307/2334029): the model of paired comparisons.
# - [Christiano et al. 2017](https://arxiv.org/abs/1706.03741): rewards learnt from comparisons of short clips, by people who err.
# - [Hamilton et al. 2023](https://arxiv.org/abs/2312.13619): the many routes to the Bradley–Terry model.
# - [Hunter 2004](https://doi.org/10.1214/aos/1079120141): when the maximum exists (the condition is credited to Zermelo 1929 and Ford 1957), and algorithms that find it; the history.
# - [Ouyang et al. 2022](https://arxiv.org/abs/2203.02155): reward models for instructions, rankings of several answers, agreement of labelers; its zero lets the answers written by people score 0 on average.
# - [Siththaranjan et al. 2024](https://arxiv.org/abs/2312.08358): what becomes of judges who differ.

# %% [markdown] lang="zh"
# ## 参考文献
# - [Bradley & Terry 1952](https://doi.org/10.2307/2334029)：两两比较的模型。
# - [Christiano et al. 2017](https://arxiv.org/abs/1706.03741)：让会出错的人比较短片段，从中学出奖励。
# - [Hamilton et al. 2023](https://arxiv.org/abs/2312.13619)：通向 Bradley–Terry 模型的许多条路。
# - [Hunter 2004](https://doi.org/10.1214/aos/1079120141)：最大值何时存在（那个条件，文中归于 Zermelo 1929 和 Ford 1957），怎样求出；也讲来历。
# - [Ouyang et al. 2022](https://arxiv.org/abs/2203.02155)：为听从指令而训练的奖励模型，多个回答的排序，标注员的一致程度；零点定在让人写的回答平均得 0。
# - [Siththaranjan et al. 2024](https://arxiv.org/abs/2312.08358)：裁判口味不同，结果会怎样。
