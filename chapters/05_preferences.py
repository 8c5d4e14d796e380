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
# > **In this chapter.** You will be able to turn a pile of comparisons into a scale with intervals, to say when there is none or more than one, to recognise what noisy and divided judges do to it, and to train a reward model and measure how well it ranks. You need [chapter 3](03_sft.ipynb) (training, entropy) and [chapter 4](04_sampling.ipynb) (intervals, KL), and you should know what a gradient is. 55 minutes to read, 20 seconds to run.

# %% [markdown] lang="zh"
# > **本章。** 读完后，你能由一堆比较做出一把量回答好坏的尺子，并附上区间；看出什么时候一把也没有，什么时候又不止一把；认出裁判出错、裁判意见不一时，尺子会变成什么样；训练一个奖励模型，量一量它给回答排序排得准不准。需要读过[第 3 章](03_sft.ipynb)（训练、熵）和[第 4 章](04_sampling.ipynb)（区间、KL），还要知道什么是梯度。阅读 55 分钟，运行 20 秒。

# %%
import json
import math
from dataclasses import fields
from itertools import product
from pathlib import Path

import numpy as np
import torch
from checks import check
from torch.func import jacrev, vmap
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from dpo_core import BookTask, judge, load_pretrained, tabular, use_threads
from dpo_core.evaluation import Estimate, mean_interval, wilson
from dpo_core.losses import bradley_terry_loss
from dpo_core.plotting import COLORS, figure, points
from dpo_core.preferences import on_policy_pairs
from dpo_core.reward import RewardModel, predict_rewards
from dpo_core.steps import reward_step
from dpo_core.task import stream
from dpo_core.theory import class_rewards
from dpo_core.training import LoopConfig, default_device, train

# %% [markdown] lang="en"
# ## Which of the two?
# Let two people mark an answer from 1 to 10. One may give it 6 and the other 8 and mean the same, and the first may give it 7 tomorrow. It asks for less to show two answers and to ask: which is better? [Christiano et al. 2017](https://arxiv.org/abs/1706.03741), who trained agents on such verdicts, say why they did: they found it "much easier for humans to provide consistent comparisons than consistent absolute scores".
#
# So this is what one collects. A **comparison** is a prompt, two answers to it, and the verdict of a judge, who names the better one. What one would like to have is something else: for each answer $y$ to a prompt $x$ a number $r(x,y)$, its **reward**, that can be averaged, compared, and made large. This chapter goes from a pile of comparisons to a scale of rewards. As long as there is one prompt, we leave out the $x$ and write $r_i$ for the reward of answer $i$.
#
# ### Two answers, thirty comparisons
# Two answers to `S54=` are compared 30 times. The first is preferred 20 times, the second 10 times. Let $q$ be the probability that the first is preferred. The estimate is 20/30. The *odds* are the wins divided by the losses, 20/10 = 2, and their logarithm is $\log 2=0.693$. The logarithm treats both sides alike: seen from the second answer the odds are 1/2, and the logarithm only changes its sign. These log-odds will be the difference of the two rewards.
#
# How sure is it? With $n=30$ draws the estimate of $q$ has the variance $q(1-q)/n$ (chapter 4). A small error in $q$ becomes an error in $\log\frac{q}{1-q}$ that is larger by the slope of this function, $1/(q(1-q))$. A variance is multiplied by the square of the slope. So the standard error, SE, of the log-odds is given by
#
# $$\mathrm{SE}^2=\frac{1}{q^2(1-q)^2}\cdot\frac{q(1-q)}{n}=\frac{1}{n\,q(1-q)}=\frac{1}{\text{wins}}+\frac{1}{\text{losses}}.$$
#
# Here it is 1/20 + 1/10 = 0.15, so SE = 0.387, and the 95 % interval, 0.693 ± 1.96 · 0.387, runs from -0.066 to 1.452. Two to one in thirty comparisons, and "no difference" is still inside.

# %% [markdown] lang="zh"
# ## 哪个更好
# 让两个人给同一个回答打分，从 1 分到 10 分。一个打 6 分，一个打 8 分，心里的评价也许一样；头一个人明天再打，也许又成了 7 分。换个问法要省心得多：摆出两个回答，问哪个更好。[Christiano et al. 2017](https://arxiv.org/abs/1706.03741) 用这样的判断训练智能体，理由写得明白：他们发现，同样要求前后一致，让人做比较，比让人打绝对分数容易得多。
#
# 所以收集来的是比较。一次**比较**（comparison）包括一个提示、两个回答，还有裁判的一句话：哪个更好。我们想要的却是另一样东西：给提示 $x$ 的每个回答 $y$ 配一个数 $r(x,y)$，叫它的**奖励**（reward）。奖励能求平均，能比大小，能设法提高。把各个回答按奖励标在一条数轴上，就是一把尺子。这一章要做的，就是由一堆比较做出这把尺子。只有一个提示时，$x$ 略去不写，第 $i$ 个回答的奖励记作 $r_i$。
#
# ### 两个回答，三十次比较
# `S54=` 的两个回答比了 30 次，第一个胜 20 次，第二个胜 10 次。设第一个胜出的概率是 $q$，估计值就是 20/30。**胜负比**（odds）是胜的次数除以负的次数，20/10 = 2，取对数得 $\log 2=0.693$。取对数的好处是两边一视同仁：站在第二个回答那边看，胜负比是 1/2，对数只是变号。后面会看到，这个**对数胜负比**（log-odds）就是两个奖励之差。
#
# 它有多准？抽 $n=30$ 次，$q$ 的估计值，方差是 $q(1-q)/n$（第 4 章）。$q$ 的一点误差，传到 $\log\frac{q}{1-q}$，要乘上这个函数的斜率 $1/(q(1-q))$；方差则要乘斜率的平方。所以对数胜负比的标准误（standard error，SE）满足
#
# $$\mathrm{SE}^2=\frac{1}{q^2(1-q)^2}\cdot\frac{q(1-q)}{n}=\frac{1}{n\,q(1-q)}=\frac{1}{\text{胜}}+\frac{1}{\text{负}}$$
#
# 这里是 1/20 + 1/10 = 0.15，SE = 0.387；95% 区间是 0.693 ± 1.96 · 0.387，从 -0.066 到 1.452。比了三十次，二比一，「没有差别」仍在区间里。

# %%
pile = torch.tensor([[0, 20], [10, 0]]).double()  # wins[i, j]: how often i was preferred to j
r, _ = tabular.fit_rewards(pile)  # the library's fit; the sections below build it
difference, se = r[0] - r[1], (1 / pile[0, 1] + 1 / pile[1, 0]).sqrt()
low, high = difference - 1.96 * se, difference + 1.96 * se
print(*(f"{value:.3f}" for value in (difference, se, low, high)))
assert torch.isclose(difference, torch.tensor(2.0).double().log()) and torch.isclose(se**2, torch.tensor(0.15).double())
assert [f"{value:.3f}" for value in (difference, se, low, high)] == ["0.693", "0.387", "-0.066", "1.452"]

# %% [markdown] lang="en"
# From here on an identity is checked on twenty random problems at once: six answers each, with random rewards `truth`, and a pile of 3,000 comparisons of them. `wins[i, j]` is always the weight of "i was preferred to j".

# %% [markdown] lang="zh"
# 从这里起，每个恒等式都一次放到二十个随机问题上检查：每个问题有六个回答，奖励 `truth` 随机取，一共比过 3,000 次。`wins[i, j]` 始终是「i 胜过 j」的权重：次数，或者概率。

# %% tags=["setup"]
SEED = 0
INSTANCES = 20
ANSWERS = 6
truth = tabular.random_problems(INSTANCES, ANSWERS, SEED).reward  # (20, 6)
uniform = tabular.uniform_pairs(ANSWERS)  # (6, 6): all pairs equally likely
counts = tabular.draw_comparisons(tabular.comparisons(truth, uniform), 3_000, SEED)  # (20, 6, 6)
assert torch.equal(counts.sum((1, 2)), torch.full((INSTANCES,), 3_000.0).double())

# %% tags=["proof"]
won, lost = counts[:, 0, 1], counts[:, 1, 0]
q = (won / (won + lost)).requires_grad_()
(slope,) = torch.autograd.grad((q / (1 - q)).log().sum(), q)
q = q.detach()
assert torch.allclose(slope, 1 / (q * (1 - q)))
se_squared = slope**2 * q * (1 - q) / (won + lost)
assert torch.allclose(se_squared, 1 / ((won + lost) * q * (1 - q)))
assert torch.allclose(1 / won + 1 / lost, se_squared)

# %% [markdown] lang="en"
# ## The Bradley–Terry model
# Add a third answer. A beats B by 20 to 10, B beats C by 20 to 10. What do we expect of A against C? If A is worth two of B, and B is worth two of C, then A is worth four of C: odds multiply along a path, as exchange rates do. This is all that the **Bradley–Terry model** assumes ([Bradley & Terry 1952](https://doi.org/10.2307/2334029)). Every answer has a reward, and the probability that $i$ is preferred to $j$, written $P(i\succ j)$, depends on the difference alone:
#
# $$P(i\succ j)=\sigma(r_i-r_j),\qquad\sigma(z)=\frac{1}{1+e^{-z}}.$$
#
# Multiply numerator and denominator by $e^{r_i}$:
#
# $$P(i\succ j)=\frac{e^{r_i}}{e^{r_i}+e^{r_j}}.$$
#
# The two answers share the votes in proportion to $e^r$. Exchange $i$ and $j$, and the two fractions add up to 1:
#
# $$P(i\succ j)+P(j\succ i)=1.$$
#
# Divide one by the other. The odds are $e^{r_i-r_j}$; their logarithm is the difference of rewards; and since differences along a path add up, odds along a path multiply:
#
# $$\mathrm{odds}(i,j)=\frac{P(i\succ j)}{P(j\succ i)}=e^{r_i-r_j},\qquad\mathrm{odds}(i,k)=\mathrm{odds}(i,j)\cdot\mathrm{odds}(j,k).$$

# %% [markdown] lang="zh"
# ## Bradley–Terry 模型
# 再添一个回答。A 对 B 是 20 比 10，B 对 C 也是 20 比 10。A 对 C 该是多少？要是一个 A 抵两个 B，一个 B 抵两个 C，一个 A 就抵四个 C：胜负比沿着路径相乘，就像汇率。**Bradley–Terry 模型**假设的就是这一条（[Bradley & Terry 1952](https://doi.org/10.2307/2334029)）。每个回答有一个奖励；$i$ 胜过 $j$ 的概率记作 $P(i\succ j)$，只取决于两个奖励之差：
#
# $$P(i\succ j)=\sigma(r_i-r_j),\qquad\sigma(z)=\frac{1}{1+e^{-z}}$$
#
# 分子分母同乘 $e^{r_i}$：
#
# $$P(i\succ j)=\frac{e^{r_i}}{e^{r_i}+e^{r_j}}$$
#
# 也就是说，两个回答按 $e^r$ 的大小分票。$i$ 与 $j$ 对调，前后两个分式加起来是 1：
#
# $$P(i\succ j)+P(j\succ i)=1$$
#
# 两个概率相除，得到胜负比 $e^{r_i-r_j}$，它的对数就是奖励之差。差沿着路径相加，胜负比沿着路径就相乘：
#
# $$\mathrm{odds}(i,j)=\frac{P(i\succ j)}{P(j\succ i)}=e^{r_i-r_j},\qquad\mathrm{odds}(i,k)=\mathrm{odds}(i,j)\cdot\mathrm{odds}(j,k)$$

# %% tags=["proof"]
p = tabular.preference_probs(truth)  # (20, 6, 6): σ(r_i - r_j)
share = truth.exp()[:, :, None] / (truth.exp()[:, :, None] + truth.exp()[:, None, :])
assert torch.allclose(p, share)
assert torch.allclose(p + p.mT, torch.ones_like(p))
odds = p / p.mT
assert torch.allclose(odds.log(), truth[:, :, None] - truth[:, None, :])
path = odds[:, :, :, None] * odds[:, None, :, :]  # (20, i, j, k): from i to j, then from j to k
assert torch.allclose(path, odds[:, :, None, :].expand_as(path))

# %% [markdown] lang="en"
# ### The constant that nobody can see
# Only differences occur. Add one number $c$ to the rewards of all answers to a prompt, and no preference changes:
#
# $$\sigma\bigl((r_i+c)-(r_j+c)\bigr)=\sigma(r_i-r_j).$$
#
# As every comparison is made between answers to one prompt, each prompt may have a constant of its own, $c(x)$. So rewards are defined **up to a constant per prompt**. A reward of 3 for one prompt and of 1 for another does not say which answer is better. In [chapter 7](07_derivation.ipynb) this is the reason why the partition function vanishes. Where one needs a zero, one chooses it: [Ouyang et al. 2022](https://arxiv.org/abs/2203.02155) shift their reward model so that the answers written by people score 0 on average, and `fit_rewards` lets the rewards of a prompt sum to 0.

# %% [markdown] lang="zh"
# ### 谁也看不见的常数
# 公式里只有奖励之差。同一个提示的所有回答，奖励都加上同一个数 $c$，偏好一点也不变：
#
# $$\sigma\bigl((r_i+c)-(r_j+c)\bigr)=\sigma(r_i-r_j)$$
#
# 比较只在同一个提示的回答之间进行，每个提示都可以有自己的常数 $c(x)$。所以奖励只能定到这一步：**每个提示还差一个常数**。这个提示的回答得 3，那个提示的回答得 1，并不说明前一个更好。到了[第 7 章](07_derivation.ipynb)，配分函数能消掉，靠的就是这一点。需要零点，就自己定一个：[Ouyang et al. 2022](https://arxiv.org/abs/2203.02155) 平移奖励模型，让人写的回答平均得 0；`fit_rewards` 则让一个提示的奖励加起来等于 0。

# %% tags=["proof"]
constant = 10 * torch.randn(INSTANCES, 1, generator=torch.Generator().manual_seed(SEED), dtype=torch.float64)
assert torch.allclose(tabular.preference_probs(truth + constant), tabular.preference_probs(truth))

# %% [markdown] lang="en"
# ### Where the sigmoid comes from
# Why this function? One reason is a story about noise. A judge does not see the reward but a noisy impression of it, $r_i+g_i$, and prefers the answer with the better impression. Let the noises $g$ be independent draws from the Gumbel distribution, whose probability of lying below $g$ is $e^{-e^{-g}}$ and whose density is $e^{-g}e^{-e^{-g}}$. Write $\Delta=r_i-r_j$. Answer $i$ wins if $g_j$ lies below $g_i+\Delta$. Average this over $g_i$, then substitute $t=e^{-g}$, then integrate the exponential:
#
# $$P(i\succ j)=\int e^{-g}e^{-e^{-g}}\,e^{-e^{-(g+\Delta)}}\,dg=\int_0^\infty e^{-t(1+e^{-\Delta})}\,dt=\frac{1}{1+e^{-\Delta}}.$$
#
# With normal noise the curve is another, but hardly: let the noise of each impression have standard deviation 1.2, and it stays within 0.01 of the sigmoid everywhere. To tell a share from another that is off by 0.01 takes some 10,000 comparisons of one pair. There are more stories that end in the same model ([Hamilton et al. 2023](https://arxiv.org/abs/2312.13619) collect them). What the rest of this chapter uses is only the property above: rewards that add, odds that multiply.

# %% [markdown] lang="zh"
# ### sigmoid 从哪里来
# 为什么偏是这个函数？有一种讲法从噪声说起。裁判看不到奖励，只有一个带噪声的印象 $r_i+g_i$，哪个印象好就选哪个。设各个噪声 $g$ 互相独立，都服从 Gumbel 分布：低于 $g$ 的概率是 $e^{-e^{-g}}$，密度是 $e^{-g}e^{-e^{-g}}$。记 $\Delta=r_i-r_j$。$g_j$ 低于 $g_i+\Delta$，$i$ 就胜。先对 $g_i$ 取平均，再代换 $t=e^{-g}$，最后算出这个指数函数的积分：
#
# $$P(i\succ j)=\int e^{-g}e^{-e^{-g}}\,e^{-e^{-(g+\Delta)}}\,dg=\int_0^\infty e^{-t(1+e^{-\Delta})}\,dt=\frac{1}{1+e^{-\Delta}}$$
#
# 换成正态噪声，曲线就不是这一条了，但相差极小：每个印象的噪声，标准差取 1.2，曲线与 sigmoid 处处相差不到 0.01。两个比例只差 0.01，单这一对就要比 10,000 次左右才分得出来。通向这个模型的讲法还有许多（[Hamilton et al. 2023](https://arxiv.org/abs/2312.13619) 收集了一批）。不过本章后面要用的，只是前面那条：奖励相加，胜负比相乘。

# %% tags=["proof"]
delta = truth[:, :1] - truth[:, 1:2]  # (20, 1)
g = torch.linspace(-6, 40, 4_001).double()
density = torch.exp(-g) * torch.exp(-torch.exp(-g))
over_noise = torch.trapezoid(density * torch.exp(-torch.exp(-(g + delta))), g)
t = torch.linspace(0, 80, 400_001).double()
over_t = torch.stack([torch.trapezoid(torch.exp(-t * (1 + torch.exp(-d))), t) for d in delta])
assert torch.allclose(torch.cumulative_trapezoid(density, g), torch.exp(-torch.exp(-g[1:])), atol=1e-4)
assert torch.allclose(over_t, over_noise, atol=1e-6)
assert torch.allclose(over_noise, 1 / (1 + torch.exp(-delta[:, 0])), atol=1e-6)

# %% alt_en="Probability of winning against the difference of rewards from -5 to 5: the sigmoid rises from 0.01 to 0.99. Simulated points with intervals lie on it. A dashed curve for normal noise can hardly be told from it." alt_zh="横轴是奖励之差，从 -5 到 5；纵轴是胜出的概率，sigmoid 从 0.01 升到 0.99。带区间的模拟点落在曲线上。正态噪声的虚线几乎与它重合。"
rng, gaps, trials = stream("chapter 5", 0), np.linspace(-5, 5, 21), 1_000
noise = rng.gumbel(size=(2, trials, 21))
won = (gaps + noise[0] > noise[1]).sum(0)  # (21,) how often the first impression was the better one
line, wide = torch.linspace(-5, 5, 201).double(), torch.linspace(-40, 40, 8_001).double()
spread = 1.2 * math.sqrt(2)  # of the difference of two noises
fig, ax = figure()
ax.plot(line, torch.sigmoid(line), color=COLORS["theory"], label=r"$\sigma(\Delta)$")
ax.plot(line, torch.special.ndtr(line / spread), "--", color=COLORS["baseline"], linewidth=1.2, label=r"$\mathcal{N}$")
points(ax, gaps, [wilson(int(k), trials) for k in won], "policy", "$n=1000$")
ax.set(xlabel=r"$\Delta=r_i-r_j$", ylabel=r"$P(i\succ j)$")
ax.legend()
assert (torch.special.ndtr(wide / spread) - torch.sigmoid(wide)).abs().max() < 0.01  # beyond, both are flat
assert math.isclose(1.96 * math.sqrt(0.25 / 10_000), 0.01, rel_tol=0.03)
assert np.abs(won / trials - 1 / (1 + np.exp(-gaps))).max() < 0.05

# %% [markdown] lang="en"
# **Figure 5.1.** Two noisy impressions are compared. Points: 1,000 simulated comparisons each, Gumbel noise, with 95 % intervals. Solid: the sigmoid. Dashed: normal noise.

# %% [markdown] lang="zh"
# **图 5.1** 两个带噪声的印象相比。点：Gumbel 噪声，每点模拟 1,000 次比较，附 95% 区间。实线：sigmoid。虚线：正态噪声。

# %% [markdown] lang="en"
# ## From the pile to the scale
# Now the other direction: the pile is given, the rewards are wanted. Take those under which the pile is most probable: this is **maximum likelihood**. Let $w_{ij}$ be how often $i$ was preferred to $j$. Comparisons are independent, so the probability of the whole pile is a product, and its logarithm, the *log-likelihood* $L$, is a sum:
#
# $$L(r)=\sum_{i,j}w_{ij}\log\sigma(r_i-r_j).$$
#
# The slope of $\log\sigma$ is $1-\sigma(z)$. Let $n_{ij}=w_{ij}+w_{ji}$ be the number of comparisons of the two. The reward $r_i$ occurs where $i$ won, with slope $w_{ij}(1-P(i\succ j))$, and where it lost, with slope $-w_{ji}P(i\succ j)$. Add both:
#
# $$\frac{\partial L}{\partial r_i}=\sum_j\bigl(w_{ij}-n_{ij}\,P(i\succ j)\bigr).$$
#
# This is a sentence: **wins minus expected wins**. At the best rewards it is zero for every answer, so each answer wins as often as the model expects.

# %% [markdown] lang="zh"
# ## 从一堆比较到一把尺子
# 现在反过来：手里有比较，要求的是奖励。哪组奖励让眼前这堆比较出现的概率最大，就取哪组，这叫**最大似然**（maximum likelihood）。记 $w_{ij}$ 为 $i$ 胜过 $j$ 的次数。各次比较互相独立，整堆的概率是连乘积，它的对数，即**对数似然**（log-likelihood）$L$，就是一个和：
#
# $$L(r)=\sum_{i,j}w_{ij}\log\sigma(r_i-r_j)$$
#
# $\log\sigma$ 的斜率是 $1-\sigma(z)$。记 $n_{ij}=w_{ij}+w_{ji}$ 为两者比过的次数。$r_i$ 出现在 $i$ 胜的地方，斜率是 $w_{ij}(1-P(i\succ j))$；也出现在 $i$ 负的地方，斜率是 $-w_{ji}P(i\succ j)$。两项相加：
#
# $$\frac{\partial L}{\partial r_i}=\sum_j\bigl(w_{ij}-n_{ij}\,P(i\succ j)\bigr)$$
#
# 念出来就是一句话：**实际胜的次数，减去该胜的次数**；该胜几次，由模型的概率算出。奖励取到最优时，每个回答的这个差都是零：模型认为该胜几次，就恰好胜了几次。

# %% tags=["proof"]
def log_likelihood(r, wins):
    return (wins * logsigmoid(r[..., :, None] - r[..., None, :])).sum((-1, -2))


z = truth.flatten().requires_grad_()
assert torch.allclose(torch.autograd.grad(logsigmoid(z).sum(), z)[0], 1 - torch.sigmoid(z))
at = tabular.random_policies(INSTANCES, ANSWERS, seed=SEED + 1).requires_grad_()  # any rewards will do
(slope,) = torch.autograd.grad(log_likelihood(at, counts).sum(), at)
at, n = at.detach(), counts + counts.mT
expected = n * tabular.preference_probs(at)
assert torch.allclose(slope, (counts - expected).sum(-1))

# %% [markdown] lang="en"
# Differentiate once more. The slope of $\sigma$ is $\sigma(1-\sigma)$. Give each pair the weight $a_{ij}=n_{ij}\,P(i\succ j)\,P(j\succ i)$. Then the matrix $K$ of minus the second derivatives has $-a_{ij}$ off the diagonal and the row sums of $a$ on it. This is the Laplacian of a graph whose nodes are the answers and whose edges are the comparisons. For any vector $v$
#
# $$v^{\top}Kv=\sum_{i<j}a_{ij}(v_i-v_j)^2\ge 0.$$
#
# So $-L$ is **convex**: it curves downwards in no direction, a valley without false bottoms (no local minimum that is not the lowest point). The valley is flat in one direction only, $v$ constant: the constant that nobody can see. (If the comparisons fall into two islands, two directions are flat: each island has a constant of its own.)

# %% [markdown] lang="zh"
# 再求一次导。$\sigma$ 的斜率是 $\sigma(1-\sigma)$。给每一对一个权重 $a_{ij}=n_{ij}\,P(i\succ j)\,P(j\succ i)$，那么二阶导数取负排成的矩阵 $K$，非对角元是 $-a_{ij}$，对角元是 $a$ 的各行之和。这是一张图的拉普拉斯矩阵（graph Laplacian）：回答是点，比较是边。对任意向量 $v$，
#
# $$v^{\top}Kv=\sum_{i<j}a_{ij}(v_i-v_j)^2\ge 0$$
#
# 所以 $-L$ 是**凸的**（convex）：沿哪个方向都不往下弯，像一道山谷，没有假的谷底（没有哪个局部极小值不是最低点）。谷底只沿一个方向是平的，即各分量都相等的 $v$：又是那个谁也看不见的常数。（要是回答分成两座岛，岛与岛之间从不比较，平的方向就有两个：每座岛各有一个常数。）

# %% tags=["proof"]
assert torch.allclose(torch.autograd.grad(torch.sigmoid(z).sum(), z)[0], torch.sigmoid(z) * torch.sigmoid(-z))
K = -vmap(jacrev(jacrev(log_likelihood)))(at, counts)  # (20, 6, 6)
a = expected * tabular.preference_probs(at).mT
assert torch.allclose(K, a.sum(-1).diag_embed() - a)
v = torch.randn(INSTANCES, ANSWERS, generator=torch.Generator().manual_seed(SEED), dtype=torch.float64)
i, j = torch.triu_indices(ANSWERS, ANSWERS, 1)  # the 15 pairs with i < j
squares = a[:, i, j] * (v[:, i] - v[:, j]) ** 2
assert torch.allclose((v[:, None] @ K @ v[:, :, None]).flatten(), squares.sum(-1))
flatness = torch.linalg.eigvalsh(K)  # (20, 6), ascending
assert (flatness[:, 0].abs() < 1e-9).all()
assert (flatness[:, 1] > 1).all()
same_island = torch.block_diag(torch.ones(3, 3), torch.ones(3, 3))  # no comparisons from 0, 1, 2 to 3, 4, 5
flatness = torch.linalg.eigvalsh(-vmap(jacrev(jacrev(log_likelihood)))(at, counts * same_island))
assert (flatness[:, :2].abs() < 1e-9).all()
assert (flatness[:, 2] > 1).all()

# %% [markdown] lang="en"
# ### One fit, three routes
# A convex function may be minimised in any way that one likes. `fit_rewards` takes Newton steps with the slope and the $K$ above. `minimise` knows nothing but the loss, `bradley_terry_nll`, which is $-L$ divided by the number of comparisons. And statisticians know the model under another name. Give each pair a row of features, +1 at the first answer, -1 at the second, 0 elsewhere. Then $r_i-r_j$ is a linear function of the features, and Bradley–Terry is a **logistic regression**: a probability is $\sigma$ of a linear function, fitted by maximum likelihood. To remove the flat direction, the last answer's column is left out and its reward is 0. Three routes, one scale.

# %% [markdown] lang="zh"
# ### 一个拟合，三条路
# 凸函数怎么最小化都行。`fit_rewards` 用上面的斜率和 $K$ 做牛顿迭代。`minimise` 只认得损失 `bradley_terry_nll`，也就是 $-L$ 除以比较的次数。这个模型在统计学里还有一个名字。给每一对配一行特征，第一个回答处写 +1，第二个回答处写 -1，其余写 0。这样 $r_i-r_j$ 就是特征的线性函数，Bradley–Terry 就是**逻辑回归**（logistic regression）：线性函数套上 $\sigma$ 成为概率，再按最大似然拟合。平的方向要去掉：删去最后一个回答那一列，等于让它的奖励取 0。三条路，同一把尺子。

# %% tags=["proof"]
newton, covariance = tabular.fit_rewards(counts)
descent = tabular.minimise(lambda r: tabular.bradley_terry_nll(r, counts), torch.zeros_like(truth))
edges = (torch.eye(ANSWERS)[i] - torch.eye(ANSWERS)[j]).double()  # (15, 6)
features = edges[:, :-1]  # (15, 5)
games, observed = n[:, i, j], counts[:, i, j] / n[:, i, j]  # (20, 15) each


def regression_loss(coefficients):
    losses = binary_cross_entropy_with_logits(coefficients @ features.mT, observed, reduction="none")
    return (games * losses).sum(-1) / games.sum(-1)


regression = tabular.minimise(regression_loss, torch.zeros(INSTANCES, ANSWERS - 1).double())
assert torch.allclose(tabular.bradley_terry_nll(at, counts), -log_likelihood(at, counts) / 3_000)
assert torch.allclose(newton - newton[:, -1:], descent - descent[:, -1:], atol=1e-8)
assert torch.allclose(newton[:, :-1] - newton[:, -1:], regression, atol=1e-8)
assert torch.allclose(counts.sum(-1), (n * tabular.preference_probs(newton)).sum(-1))  # wins = expected wins

# %% [markdown] lang="en"
# Does the fit find the truth? Put the probabilities themselves in place of the counts: a pile without luck. Then the true rewards come back, up to the constant, to 1e-8. It does not matter how the pairs were drawn. Below, all pairs are equally likely in one pile; in the other each answer is drawn from a random probability distribution of its own, so that some pairs are common and others rare.

# %% [markdown] lang="zh"
# 拟合找得到真值吗？用概率本身代替次数，就得到一堆不掺运气的比较。这时除了那个常数，真实的奖励原样回来，误差在 1e-8 以内。回答对怎样抽，没有关系：下面一堆里，每一对机会均等；另一堆里，两个回答各从一个随机的概率分布里抽，有的对常见，有的对罕见。

# %% tags=["proof"]
centred = truth - truth.mean(-1, keepdim=True)
first_logps, second_logps = tabular.random_policies(2, INSTANCES, ANSWERS, seed=SEED)
uneven = tabular.independent_pairs(first_logps, second_logps)
assert (tabular.fit_rewards(tabular.comparisons(truth, uniform))[0] - centred).abs().max() < 1e-8
assert (tabular.fit_rewards(tabular.comparisons(truth, uneven))[0] - centred).abs().max() < 1e-8

# %% [markdown] lang="en"
# By hand once more. If A against C stands at 24 to 6, which is four to one, the three answers fit perfectly: rewards $\log 2$, 0, $-\log 2$. If it stands at 20 to 10, no rewards fit. The best are 0.468, 0, -0.468; they expect A to beat B 18.4 times and C 21.6 times. Neither count is right, but the sum is, 40.

# %% [markdown] lang="zh"
# 再手算一回。若 A 对 C 是 24 比 6，即四比一，三个奖励就严丝合缝：$\log 2$、0、$-\log 2$。若是 20 比 10，就没有哪组奖励合得上。最好的一组是 0.468、0、-0.468；照它算，A 该胜 B 18.4 次，胜 C 21.6 次。分开看都不对，加起来却对，是 40。

# %%
fitting = torch.tensor([[0, 20, 24], [10, 0, 20], [6, 10, 0]]).double()
strained = torch.tensor([[0, 20, 20], [10, 0, 20], [10, 10, 0]]).double()
scales = [tabular.fit_rewards(table)[0] for table in (fitting, strained)]
wins_of_a = 30 * tabular.preference_probs(scales[1])[0, 1:]
print(*([round(value, 3) for value in rewards.tolist()] for rewards in (scales[0][::2], scales[1][::2], wins_of_a)))
assert torch.allclose(scales[0], math.log(2) * torch.tensor([1, 0, -1]).double(), atol=1e-9)
assert [round(value, 3) + 0 for value in scales[1].tolist()] == [0.468, 0, -0.468]
assert [f"{value:.1f}" for value in wins_of_a] == ["18.4", "21.6"] and torch.isclose(wins_of_a.sum(), strained[0].sum())

# %% [markdown] lang="en"
# ## How far to trust the scale
# The sharper the valley, the surer the fit. Think of one parameter first. At the truth the slope of $L$ is a sum over independent comparisons; its mean is 0, and its variance is the curvature $K$. Such a slope moves the bottom of the valley by the slope divided by $K$, so the variance is divided by $K^2$: it is $K/K^2=1/K$. With several parameters it is the same: for large piles the covariance of the fitted rewards is the inverse of $K$; call it $C$. (It is the pseudo-inverse, which inverts all but the flat direction.) The variance of a difference is
#
# $$\mathrm{Var}(r_i-r_j)=C_{ii}+C_{jj}-2C_{ij}.$$
#
# For two answers this is the 1/20 + 1/10 from above. Whether the intervals keep their promise can be counted: four answers with rewards 2, 1, 1, 0, four thousand piles of 400 comparisons, and for each of the six differences the share of piles whose interval contains the truth.

# %% [markdown] lang="zh"
# ## 这把尺子信到几分
# 山谷越陡，拟合越可靠。先想只有一个参数的情形。在真值处，每次比较都给 $L$ 的斜率添一份，各份互相独立；加起来，平均是 0，方差恰好是曲率 $K$。斜率不恰好为零，谷底就不恰好在真值处，偏开的距离是斜率除以 $K$。所以拟合值的方差，是斜率的方差除以 $K^2$，即 $K/K^2=1/K$。参数多了也一样：比较够多时，拟合出的奖励，协方差矩阵就是 $K$ 的逆，记作 $C$。（取的是伪逆：平的方向不管，其余方向照常求逆。）两个奖励之差，方差是
#
# $$\mathrm{Var}(r_i-r_j)=C_{ii}+C_{jj}-2C_{ij}$$
#
# 只有两个回答时，它就是前面的 1/20 + 1/10。区间说话算不算数，可以数出来：四个回答，奖励是 2、1、1、0；四千堆比较，每堆 400 次；六个差各数一遍，区间含有真值的堆占多少。

# %% tags=["proof"]
def curvature(r, wins):
    a = (wins + wins.mT) * tabular.preference_probs(r) * tabular.preference_probs(-r)
    return a.sum(-1).diag_embed() - a


win = tabular.preference_probs(truth)[:, i, j]  # (20, 15)
if_won, if_lost = 1 - win, -win  # what one comparison adds to the slope, along its edge
assert torch.allclose(win * if_won + (1 - win) * if_lost, torch.zeros_like(win))
variance = games * (win * if_won**2 + (1 - win) * if_lost**2)
assert torch.allclose(torch.einsum("np,pi,pj->nij", variance, edges, edges), curvature(truth, counts))
C = torch.linalg.pinv(curvature(newton, counts), rtol=1e-9, hermitian=True)
assert torch.allclose(C, covariance)  # what fit_rewards returns beside the rewards
duel = counts[:, :2, :2]  # answers 0 and 1 alone
D = torch.linalg.pinv(curvature(tabular.fit_rewards(duel)[0], duel), rtol=1e-9, hermitian=True)
assert torch.allclose(D[:, 0, 0] + D[:, 1, 1] - 2 * D[:, 0, 1], 1 / duel[:, 0, 1] + 1 / duel[:, 1, 0])
own = C.diagonal(dim1=-2, dim2=-1)  # (20, 6)
pinned = curvature(newton, counts)[:, :-1, :-1].inverse()  # the last reward held at 0: an inverse exists
assert torch.allclose(pinned.diagonal(dim1=-2, dim2=-1), (own + own[:, -1:] - 2 * C[:, :, -1])[:, :-1])

# %%
four = torch.tensor([2, 1, 1, 0]).double()
table = tabular.comparisons(four, tabular.uniform_pairs(4))
first, second = torch.triu_indices(4, 4, 1)
true_difference = four[first] - four[second]  # (6,)


def fitted_differences(piles):
    """Differences and their standard errors, (piles, 6) each."""
    r, C = tabular.fit_rewards(piles)
    own = C.diagonal(dim1=-2, dim2=-1)
    return r[:, first] - r[:, second], (own[:, first] + own[:, second] - 2 * C[:, first, second]).sqrt()


piles = tabular.draw_comparisons(table.expand(4_000, 4, 4), 400, seed=0)
fitted, se = fitted_differences(piles)
covered = ((fitted - true_difference).abs() < 1.96 * se).sum(0)  # (6,)
for k, count in enumerate(covered.tolist()):
    print(f"r_{first[k]} - r_{second[k]} = {true_difference[k]:.0f}   coverage {wilson(count, 4_000)}")
assert (covered / 4_000 - 0.95).abs().max() < 0.014  # four standard errors
assert abs(covered.double().mean() / 4_000 - 0.95) < 0.007  # z = 1.85 would give 0.937, 2.05 gives 0.961

# %% [markdown] lang="en"
# How many comparisons does one need? From $\mathrm{SE}^2=1/(n\,q(1-q))$: for an even pair the half-width of the interval is $2\cdot 1.96/\sqrt n$, so 0.2 takes 385 comparisons of that one pair. Half the width takes four times as many. Lopsided pairs are worse: at $q=0.95$ it is 2,022.

# %% [markdown] lang="zh"
# 需要多少次比较？由 $\mathrm{SE}^2=1/(n\,q(1-q))$：势均力敌的一对，区间的半宽是 $2\cdot 1.96/\sqrt n$，要窄到 0.2，单这一对就得比 385 次。半宽再减一半，次数要多到四倍。一边倒的更费次数：$q=0.95$ 时要 2,022 次。

# %% alt_en="Left: six fitted rewards with intervals against the true ones; all lie along the diagonal. Right: mean error of a difference against the number of comparisons from 100 to 6400 on logarithmic axes; points on a straight line that falls from 0.42 to 0.05." alt_zh="左：六个拟合出的奖励（带区间）与真值，都在对角线附近。右：横轴是比较次数，从 100 到 6400；纵轴是奖励之差的平均误差，双对数坐标；点落在一条直线上，从 0.42 降到 0.05。"
needed = [math.ceil(1.96**2 / (0.2**2 * q * (1 - q))) for q in (0.5, 0.95)]
sizes = [100, 200, 400, 800, 1600, 3200, 6400]
many = [tabular.draw_comparisons(table.expand(500, 4, 4), N, seed=1) for N in sizes]
rms = [(fitted_differences(piles)[0] - true_difference).square().mean().sqrt().item() for piles in many]
per_comparison = fitted_differences(table[None])[1].square().mean().sqrt().item()  # a pile of weight 1
small_pile = tabular.draw_comparisons(tabular.comparisons(truth[:1], uniform), 600, seed=3)
estimate, C = (result[0] for result in tabular.fit_rewards(small_pile))
target, half = truth[0] - truth[0].mean(), 1.96 * C.diagonal().sqrt()
fig, (left, right) = figure(columns=2, width=7.4, height=3.2)
ends = [target.min(), target.max()]
left.plot(ends, ends, color=COLORS["theory"])
points(left, target, [Estimate(e, e - h, e + h) for e, h in zip(estimate.tolist(), half.tolist())], "policy")
left.set(xlabel="$r$", ylabel=r"$\tilde r$")
right.loglog(sizes, per_comparison / np.sqrt(sizes), color=COLORS["theory"], label=r"$\propto 1/\sqrt{N}$")
right.loglog(sizes, rms, "o", color=COLORS["policy"])
right.set(xlabel="$N$", ylabel="SE")
right.set_xticks([100, 400, 1600, 6400], [100, 400, 1600, 6400])
right.set_yticks([0.05, 0.1, 0.2, 0.4], [0.05, 0.1, 0.2, 0.4])
right.minorticks_off()
right.legend()
assert needed == [385, 2022] and all(abs(e * math.sqrt(N) / per_comparison - 1) < 0.15 for e, N in zip(rms, sizes))

# %% [markdown] lang="en"
# **Figure 5.2.** Left: six rewards $\tilde r$ fitted to 600 comparisons, with 95 % intervals, against the true $r$. Right: the error of a difference, root mean square over 500 piles, against the number $N$ of comparisons in a pile; the line is what $C$ predicts. Four times the comparisons, half the error.

# %% [markdown] lang="zh"
# **图 5.2** 左：由 600 次比较拟合出的六个奖励 $\tilde r$，附 95% 区间，与真值 $r$ 对照。右：奖励之差的误差（500 堆的均方根）随每堆比较次数 $N$ 的变化；线是 $C$ 的预言。次数乘四，误差减半。

# %% [markdown] lang="en"
# ### No scale, or too many
# A pile can fail to yield a scale in two ways. First, no rewards may be best. Let A win all of its comparisons. Raise its reward: all of its comparisons become more probable, however high it stands already. The likelihood has no maximum, the fit no finite answer. The same happens to a group that met the rest and never lost to it. Second, too many may be best. Let the answers fall into two islands without a comparison from one to the other. Lift one island: the likelihood stays the same, and nothing says which island is higher.
#
# [Hunter 2004](https://doi.org/10.1214/aos/1079120141), who credits Zermelo (1929) and Ford (1957), states a condition that rules out both: however the answers are divided into two groups, neither empty, some answer of the second beat some answer of the first at least once. Then exactly one scale is best, up to the constant. Otherwise `fit_rewards` refuses, in both cases because `some answers never lost to the others`: of two islands, too, neither lost to the other.

# %% [markdown] lang="zh"
# ### 一把也没有，或者不止一把
# 一堆比较定不出尺子，有两种情形。一种是没有哪组奖励最好。设 A 每次都胜。它的奖励不管已经多高，再往上提一点，它的每次胜利都又更可能一点：似然没有最大值，拟合也就没有有限的解。要是一群回答同群外的比过，却从没输过，也是这样。另一种是最好的不止一组。设回答分成两座岛，岛与岛之间从没比过。把一座岛整个往上抬，似然不变；两座岛谁高谁低，无从得知。
#
# [Hunter 2004](https://doi.org/10.1214/aos/1079120141) 给出一个条件，说它出自 Zermelo（1929）和 Ford（1957）。有了它，两种情形都不会发生：不管怎样把回答分成两组，只要两组都不空，第二组里总有某个回答，至少胜过第一组里的某个回答一次。这时最好的尺子恰好有一把（那个常数不计）。条件不满足，`fit_rewards` 就拒绝拟合，两种情形报的是同一句话：`some answers never lost to the others`（有些回答从没输给其余的）。两座岛也算在内：谁也没输给过谁。

# %%
def refusal(wins):
    try:
        tabular.fit_rewards(wins)
    except ValueError as error:
        return str(error).split(":")[0]


unbeaten = torch.tensor([[0, 20, 20], [0, 0, 20], [0, 10, 0]]).double()
ladder = [torch.tensor([top, 0.35, -0.35]).double() for top in (1.0, 5.0, 10.0, 20.0)]
loss = [tabular.bradley_terry_nll(rewards, unbeaten).item() for rewards in ladder]
print([round(value, 4) for value in loss], refusal(unbeaten), sep="\n")
assert loss == sorted(loss, reverse=True) and refusal(unbeaten) and refusal(fitting) is None
islands = torch.block_diag(pile, pile)  # answers 0 and 1 were compared, and 2 and 3, but no others
assert refusal(islands) == refusal(unbeaten) == "some answers never lost to the others"
shifted = torch.tensor([7.0, 7.0, 0.0, 0.0]).double()  # one island lifted: nothing happens
assert tabular.bradley_terry_nll(shifted, islands) == tabular.bradley_terry_nll(0 * shifted, islands)

# %% [markdown] lang="en"
# ## Judges who slip, judges who disagree
# **A share of the labels is flipped.** A judge follows Bradley–Terry, but with probability $\varepsilon$ the verdict is entered the wrong way round. The first answer then wins in two ways, and with $\sigma(-\Delta)=1-\sigma(\Delta)$
#
# $$P_\varepsilon=(1-\varepsilon)\,\sigma(\Delta)+\varepsilon\,\sigma(-\Delta)=\varepsilon+(1-2\varepsilon)\,\sigma(\Delta).$$
#
# For two answers the fit returns the log-odds of this, $\Delta_\varepsilon=\log\frac{P_\varepsilon}{1-P_\varepsilon}$. Let $\varepsilon<\frac12$. Then $\Delta_\varepsilon$ grows with $\Delta$, near $\Delta=0$ with slope $1-2\varepsilon$, but it never exceeds
#
# $$\log\frac{1-\varepsilon}{\varepsilon}.$$
#
# Small differences are shrunk by the factor $1-2\varepsilon$, large ones are cut off.

# %% [markdown] lang="zh"
# ## 会出错的裁判，意见不一的裁判
# **有一部分标签记反了。** 裁判照 Bradley–Terry 判断，但每次有 $\varepsilon$ 的概率把结果记反。第一个回答于是有两种途径胜出；又因为 $\sigma(-\Delta)=1-\sigma(\Delta)$，
#
# $$P_\varepsilon=(1-\varepsilon)\,\sigma(\Delta)+\varepsilon\,\sigma(-\Delta)=\varepsilon+(1-2\varepsilon)\,\sigma(\Delta)$$
#
# 只有两个回答时，拟合给出的是它的对数胜负比 $\Delta_\varepsilon=\log\frac{P_\varepsilon}{1-P_\varepsilon}$。设 $\varepsilon<\frac12$，那么 $\Delta$ 越大，$\Delta_\varepsilon$ 也越大：在 $\Delta=0$ 附近，斜率是 $1-2\varepsilon$；可是再大也超不过
#
# $$\log\frac{1-\varepsilon}{\varepsilon}$$
#
# 小的差缩成 $1-2\varepsilon$ 倍，大的差封了顶。

# %% tags=["proof"]
def flipped(gap, epsilon):
    return epsilon + (1 - 2 * epsilon) * torch.sigmoid(gap)


epsilon = torch.linspace(0.02, 0.4, INSTANCES).double()[:, None]
gap = 2 * truth
assert torch.allclose((1 - epsilon) * torch.sigmoid(gap) + epsilon * torch.sigmoid(-gap), flipped(gap, epsilon))
share = flipped(gap[:, :1], epsilon)  # (20, 1): two answers, the true difference is gap
two_wins = torch.stack((torch.cat((0 * share, share), -1), torch.cat((1 - share, 0 * share), -1)), -2)
scale, _ = tabular.fit_rewards(two_wins)
assert torch.allclose(scale[:, 0] - scale[:, 1], (share / (1 - share)).log()[:, 0])
zero = torch.zeros_like(epsilon).requires_grad_()
(slope,) = torch.autograd.grad(torch.logit(flipped(zero, epsilon)).sum(), zero)
assert torch.allclose(slope, 1 - 2 * epsilon)
seen = torch.logit(flipped(torch.linspace(-20, 20, 401).double(), epsilon))  # (20, 401), for gaps from -20 to 20
cap = ((1 - epsilon) / epsilon).log()
assert (seen.diff(dim=-1) > 0).all()
assert (seen < cap).all()
assert torch.allclose(seen[:, -1:], cap)  # and it comes as near as one likes

# %% [markdown] lang="en"
# So with three or more answers the fit is not a smaller copy of the scale. What the judge does is no Bradley–Terry model at all: with $\varepsilon>0$ the odds no longer multiply, and two steps exceed the whole way. Take rewards 2, 0, -2 and $\varepsilon=0.1$: both steps have odds 4.1, whose product is 17, but the odds from end to end are 7.7. If $\varepsilon$ is known it can be built into the model. [Christiano et al. 2017](https://arxiv.org/abs/1706.03741) assume a 10 % chance that the human answers at random, "because human raters have a constant probability of making an error". An answer at random is wrong half of the time, so their model is this one with $\varepsilon=0.05$.

# %% [markdown] lang="zh"
# 所以有三个或更多回答时，拟合出的不是按比例缩小的尺子。这样的裁判其实已经不合 Bradley–Terry 模型：只要 $\varepsilon>0$，胜负比就不再相乘，分两步走，比一步走完要远。取奖励 2、0、-2，$\varepsilon=0.1$：两步的胜负比都是 4.1，乘积是 17，首尾直接比却只有 7.7。$\varepsilon$ 若是已知，就可以写进模型。[Christiano et al. 2017](https://arxiv.org/abs/1706.03741) 假设人有 10% 的可能随手乱选，理由是人出错的概率是个常数，差距再大也降不到零。乱选有一半是错的，所以他们的模型就是这里的 $\varepsilon=0.05$。

# %% tags=["proof"]
high, middle, low = truth[:, :3].sort(descending=True).values[:, :, None].unbind(1)  # (20, 1) each
legs = torch.cat((high - middle, middle - low, high - low), -1)  # (20, 3): two steps, and the whole way


def surplus(rate):
    seen = torch.logit(flipped(legs, rate))
    return seen[:, 0] + seen[:, 1] - seen[:, 2]


assert torch.allclose(surplus(0 * epsilon), torch.zeros(INSTANCES).double())
assert (surplus(epsilon) > 0).all()
assert torch.allclose(0.9 * torch.sigmoid(gap) + 0.1 / 2, flipped(gap, 0.05))

# %% alt_en="Fitted difference against the true difference from 0 to 5, for four shares of flipped labels. Without flips the line is the diagonal. With shares 0.05, 0.1 and 0.25 the curves bend over and level off at 2.9, 2.2 and 1.1. Points of simulated piles lie on the curves." alt_zh="拟合出的差随真实的差的变化，横轴从 0 到 5，记反的比例有四种。没有记反时是对角线；比例是 0.05、0.1、0.25 时，曲线先升后平，分别停在 2.9、2.2、1.1。模拟的点落在曲线上。"
rates = {0.0: "policy", 0.05: "chosen", 0.1: "baseline", 0.25: "rejected"}
at_five = {}
fig, ax = figure()
line, gaps = torch.linspace(0, 5, 101).double(), torch.arange(0, 5.1, 0.5).double()
for rate, color in rates.items():
    ax.plot(line, torch.logit(flipped(line, rate)), color=COLORS["theory"], linewidth=1.2)
    share = flipped(gaps, rate)
    both = torch.stack((torch.stack((0 * share, share), -1), torch.stack((1 - share, 0 * share), -1)), -2)
    drawn = tabular.draw_comparisons(both, 4_000, seed=0)  # (11, 2, 2)
    half = 1.96 * (1 / drawn[:, 0, 1] + 1 / drawn[:, 1, 0]).sqrt()
    d = tabular.fit_rewards(drawn)[0].diff(dim=-1).neg().flatten()
    ends = zip(d.tolist(), (d - half).tolist(), (d + half).tolist())
    points(ax, gaps, [Estimate(*end) for end in ends], color, str(rate))
    at_five[rate] = d[-1]
    assert ((d - torch.logit(share)).abs() < 4 * half / 1.96).all()
ax.set(xlabel=r"$\Delta$", ylabel=r"$\Delta_\varepsilon$")
ax.legend(title=r"$\varepsilon$")
caps = {rate: math.log((1 - rate) / rate) for rate in (0.05, 0.1, 0.25)}
assert [round(cap, 1) for cap in caps.values()] == [2.9, 2.2, 1.1]
limit = torch.logit(flipped(gaps, 0.05)).max()
assert limit < 2.9 < at_five[0.05]  # the limit, and the point of this pile at 5
step, whole = (flipped(torch.tensor(d), 0.1).item() for d in (2.0, 4.0))
assert [f"{o:.1f}" for o in (step / (1 - step), whole / (1 - whole))] == ["4.1", "7.7"]
assert round((step / (1 - step)) ** 2) == 17

# %% [markdown] lang="en"
# **Figure 5.3.** What a fit makes of a true difference $\Delta$ when a share $\varepsilon$ of the labels is flipped. Lines: the formula. Points: piles of 4,000 comparisons, with 95 % intervals. With one label in twenty wrong, the more comparisons are made, the nearer comes the fitted difference to a number below 2.9. That is a limit: in a finite pile luck may lift a point above it, as at $\Delta=5$.

# %% [markdown] lang="zh"
# **图 5.3** 标签记反的比例为 $\varepsilon$ 时，真实的差 $\Delta$ 会被拟合成多少。线：公式。点：每堆 4,000 次比较，附 95% 区间。二十个标签里错一个，那么比得越多，拟合出的差就越接近一个小于 2.9 的数。这说的是极限：比较次数有限时，碰运气也会有点落在上面，比如 $\Delta=5$ 处。

# %% [markdown] lang="en"
# **A judge who never errs** is no better for the scale: the better answer always wins, the condition above fails, and no finite scale exists. Differences can be measured because judges are of two minds.
#
# **A judge who goes in circles.** A beats B, B beats C, C beats A, each by 20 to 10. All answers have 30 wins, so the fit makes all rewards equal and expects 15 to 15 everywhere. Nothing in the rewards betrays the failure; one has to hold the fitted shares against the observed ones. Let $s_{ij}=w_{ij}/n_{ij}$ be the observed share. The best that any table of probabilities can do is $P(i\succ j)=s_{ij}$ (the *saturated* model). Twice the log-likelihood that Bradley–Terry loses against it is called $G^2$; it is a sum of the KL divergences of chapter 4, between coins:
#
# $$G^2=2\,(L_{\mathrm{saturated}}-L)=2\sum_{i<j}n_{ij}\,\mathrm{KL}\bigl(s_{ij}\,\|\,P(i\succ j)\bigr).$$
#
# If Bradley–Terry is true and the pile is large, the mean of $G^2$ is about the number of pairs minus the number of free rewards: here 3 - 2 = 1, as only differences of the three rewards count. Where that number is 1, $G^2$ behaves like the square of a standard normal number (**chi-squared** with one degree of freedom), and exceeds $1.96^2=3.84$ in 5 % of the piles. The circle has 10.2.

# %% [markdown] lang="zh"
# **从不出错的裁判**，对尺子也没有好处：好的一方总胜，前面的条件不满足，有限的尺子不存在。正因为裁判会犹豫，差距才量得出来。
#
# **兜圈子的裁判。** A 胜 B，B 胜 C，C 胜 A，都是 20 比 10。每个回答都是 30 胜，于是拟合把奖励全定成一样，认为处处该是 15 比 15。光看奖励，看不出一点毛病；得拿拟合出的比例，同观察到的比例对照。记观察到的比例为 $s_{ij}=w_{ij}/n_{ij}$。随便换哪张概率表，最好也只能做到 $P(i\succ j)=s_{ij}$，这叫**饱和模型**（saturated model）。Bradley–Terry 的对数似然比它低多少，乘以二，记作 $G^2$；它是许多 KL 散度（第 4 章）之和，每一个都是两枚硬币之间的：
#
# $$G^2=2\,(L_{\mathrm{saturated}}-L)=2\sum_{i<j}n_{ij}\,\mathrm{KL}\bigl(s_{ij}\,\|\,P(i\succ j)\bigr)$$
#
# 如果 Bradley–Terry 成立，比较也够多，$G^2$ 的平均值大约等于回答对的种数，减去能自由取值的奖励的个数：这里是 3 - 2 = 1，因为三个奖励只看差，自由的只有两个。这个数是 1 时，$G^2$ 的分布就像一个标准正态随机数的平方（自由度为一的**卡方分布**，chi-squared），超过 $1.96^2=3.84$ 的堆只占 5%。兜圈子的这一堆是 10.2。

# %% tags=["proof"]
def misfit(wins):
    games = wins + wins.mT
    saturated = torch.xlogy(wins, wins / games).nansum((-1, -2))
    return 2 * (saturated - log_likelihood(tabular.fit_rewards(wins)[0], wins))


def coins(s, p):
    """The table of the two outcomes of each pair, as log-probabilities: (20, 15, 2)."""
    return torch.stack((s.log(), (1 - s).log()), -1), torch.stack((p.log(), (1 - p).log()), -1)


fitted_share = tabular.preference_probs(newton)[:, i, j]
coin_kl = tabular.kl(*coins(observed, fitted_share))  # (20, 15)
assert torch.allclose(misfit(counts), 2 * (games * coin_kl).sum(-1))

# %%
circle = torch.tensor([[0, 20, 10], [10, 0, 20], [20, 10, 0]]).double()
toy = torch.tensor([1, 0, -1]).double()
honest = tabular.draw_comparisons(tabular.comparisons(toy, tabular.uniform_pairs(3)).expand(2_000, 3, 3), 300, seed=0)
alarms = wilson(int((misfit(honest) > 3.84).sum()), 2_000)
print(f"{misfit(circle):.1f}", f"{misfit(honest).mean():.2f}", alarms)
assert tabular.fit_rewards(circle)[0].abs().max() < 1e-9 and f"{misfit(circle):.1f}" == "10.2"
assert abs(misfit(honest).mean() - 1) < 0.1 and abs(alarms.value - 0.05) < 0.02 and round(1.96**2, 2) == 3.84
assert refusal(tabular.comparisons(truth, uniform, "deterministic"))

# %% [markdown] lang="en"
# **Two groups with different tastes.** Each group follows Bradley–Terry with rewards of its own; the pile does not say who judged. The shares of the mixture are the averages of two sigmoids, and an average of sigmoids is no sigmoid. Two answers can still be fitted, as any share can; with three or more the odds do not multiply, and no rewards fit. What does the fit return? At the fit, wins equal expected wins; if all pairs are compared equally often, expected wins grow with the reward alone. So its order is the order of the number of wins: more wins, more reward. Counting wins is a way of voting, the *Borda count*, and [Siththaranjan et al. 2024](https://arxiv.org/abs/2312.08358) prove that preference learning aggregates hidden differences between judges in this way. It is not the average of the rewards. Let 60 % of the judges find A better by 2, and 40 % find B better by 4. On average B is better by 0.4. But A wins 54 % of the comparisons, and gets the higher reward: a comparison does not record how strongly one feels.

# %% [markdown] lang="zh"
# **两群口味不同的裁判。** 每一群都有自己的奖励，也都服从 Bradley–Terry，可是比较里没写是谁判的。两群混在一起，胜出的比例是两个 sigmoid 的平均，而 sigmoid 的平均不再是 sigmoid。只有两个回答时，什么比例都拟合得出来；有三个或更多，胜负比不相乘，就没有哪组奖励合得上了。那么拟合给出的是什么？拟合好以后，胜的次数等于该胜的次数；要是每一对比的次数都相等，该胜几次就只看奖励，奖励越高，该胜得越多。所以奖励的次序就是胜场数的次序：胜得多，奖励高。按胜场数排名是一种投票办法，叫**波达计数**（Borda count）；[Siththaranjan et al. 2024](https://arxiv.org/abs/2312.08358) 证明：裁判之间看不见的差别，偏好学习正是这样汇总的。这不等于奖励的平均。设 60% 的裁判觉得 A 好 2 分，40% 觉得 B 好 4 分。平均下来 B 好 0.4 分，可是 A 在比较里胜了 54%，拿到的奖励更高：一次比较，记不下喜欢得有多强烈。

# %% tags=["proof"]
other = tabular.random_problems(INSTANCES, ANSWERS, SEED + 100).reward
mixture = (tabular.preference_probs(truth) + tabular.preference_probs(other)) / 2


def detour(probs):
    log_odds = torch.logit(probs)  # from i to j, then from j to k, less from i to k: zero if odds multiply
    return (log_odds[:, :, :, None] + log_odds[:, None, :, :] - log_odds[:, :, None, :]).abs().amax((1, 2, 3))


assert torch.allclose(detour(tabular.preference_probs(truth)), torch.zeros(INSTANCES).double())
assert (detour(mixture) > 0.05).all()
pooled, _ = tabular.fit_rewards(uniform * mixture)
assert torch.equal(pooled.argsort(-1), mixture.sum(-1).argsort(-1))

# %%
of_a = 0.6 * torch.sigmoid(torch.tensor(2.0)) + 0.4 * torch.sigmoid(torch.tensor(-4.0))
print(round(0.6 * 2 - 0.4 * 4, 1), round(of_a.item(), 2))
assert round(0.6 * 2 - 0.4 * 4, 1) == -0.4 and round(of_a.item(), 2) == 0.54

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
# | **sampled** | one draw: 1 with probability $q$, else 0 | a coin decides | of the loss averaged over the draw: the true difference; of one draw: nothing finite |
# | **deterministic** | 1 for the better answer, always | no label: dropped | nothing finite |
#
# Where people decided once on each pair, their data are nearest to *sampled*. A sampled label is a noisy copy of a soft one: average the loss over the draw, and it is the soft loss. And the soft loss is an entropy plus a KL divergence, which is never negative and is zero only where the model's probability is right:
#
# $$\mathbb{E}_{\text{label}}\,[\ell(\text{label},h)]=\ell(q,h)=H(q)+\mathrm{KL}\bigl(q\,\|\,\sigma(h)\bigr).$$
#
# So the loss has a floor, $H(q)$, the entropy of the label, and stands on it where $h=\log\frac{q}{1-q}$. (Averaged over the pairs, the floor is the *conditional entropy* of the label, given the pair.) The same holds for whole piles, as the cell asserts by going through all outcomes of three comparisons. These labels return in [chapter 7](07_derivation.ipynb) and [chapter 9](09_dpo.ipynb).

# %% [markdown] lang="zh"
# ## 三种标签
# 训练时，一次比较就是一对回答加一个标签。设 $q$ 是第一个回答胜出的概率，$h$ 是某个模型给这一对的奖励之差。这一对的损失是它的对数似然取负：
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
# 所以损失有一个下界 $H(q)$，即标签的熵；$h=\log\frac{q}{1-q}$ 时正好落在下界上。（对所有的对取平均，这个下界就是给定一对回答之后标签的**条件熵**，conditional entropy。）对一整堆比较，这也成立；下一个单元格走遍三次比较的所有结果，验证这一点。这几种标签，[第 7 章](07_derivation.ipynb)和[第 9 章](09_dpo.ipynb)还会用到。

# %% tags=["proof"]
q, h = torch.sigmoid(truth), other  # (20, 6): labels of one judge, differences of another model
one, zero = torch.ones_like(q), torch.zeros_like(q)
drawn = q * bradley_terry_loss(h, one) + (1 - q) * bradley_terry_loss(h, zero)
soft = -q * logsigmoid(h) - (1 - q) * logsigmoid(-h)
assert torch.allclose(drawn, soft)
entropy = -(torch.xlogy(q, q) + torch.xlogy(1 - q, 1 - q))
assert torch.allclose(soft, entropy + tabular.kl(*coins(q, torch.sigmoid(h))))
assert torch.allclose(bradley_terry_loss(torch.log(q / (1 - q)), q), entropy)
assert (bradley_terry_loss(h, q) > entropy).all()
small = tabular.preference_probs(truth[:, :3])  # (20, 3, 3): three answers, three pairs
average = torch.zeros(INSTANCES).double()
for outcome in product([0, 1], repeat=3):  # who wins the pairs (0, 1), (0, 2), (1, 2)
    wins, chance = torch.zeros_like(small), torch.ones(INSTANCES).double()
    for won, (a, b) in zip(outcome, ((0, 1), (0, 2), (1, 2))):
        winner, loser = (a, b) if won else (b, a)
        wins[:, winner, loser], chance = 1, chance * small[:, winner, loser]
    average += chance * tabular.bradley_terry_nll(other[:, :3], wins)
assert torch.allclose(average, tabular.bradley_terry_nll(other[:, :3], small * (1 - torch.eye(3))))

# %% [markdown] lang="en"
# ## A pair in code
# Now texts. Let the base model of chapter 3 answer a prompt twice. The checker gives each answer its reward: one point for three numbers, one for the right value, so 0, 1 or 2. Then a label is drawn with the Bradley–Terry probability, and the winner is called **chosen** ($y_w$), the loser **rejected** ($y_l$). We make 6,400 such pairs; `preference_prob` is 1 in each, because sampled labels store the verdict, not how sure it was.

# %% [markdown] lang="zh"
# ## 代码里的一对
# 现在换成文本。让第 3 章的基座模型把一个提示答两遍，判分程序给两个回答各定一个奖励：写三个数得一分，值对得一分，所以是 0、1 或 2。再按 Bradley–Terry 概率抽一个标签，赢家叫 **chosen**（被偏好的回答，$y_w$），输家叫 **rejected**（不被偏好的回答，$y_l$）。一共做 6,400 对；`preference_prob` 全是 1，因为采样标签只存结果，不存有几分把握。

# %%
use_threads()
task, device = BookTask(), default_device()
base = load_pretrained("gen").to(device)
data = on_policy_pairs(base, task, 6_400, reward="style+exact", labels="sampled", seed=0, progress=True)


def classes(pairs):
    """(three numbers?, exact?) of every chosen and every rejected answer, (N, 2) each."""
    verdicts = [[judge(p, a) for p, a in zip(pairs.prompt, column)] for column in (pairs.chosen, pairs.rejected)]
    return [np.array([(int(v.style), int(v.exact)) for v in column]) for column in verdicts]


worth = class_rewards("style+exact")  # (2, 2): [three numbers?, exact?]
chosen_class, rejected_class = classes(data)
gap = worth[tuple(chosen_class.T)] - worth[tuple(rejected_class.T)]  # true reward of chosen minus that of rejected
line = {field.name: getattr(data, field.name)[0] for field in fields(data)}
print(json.dumps({name: round(value, 2) if isinstance(value, float) else value for name, value in line.items()}))
ties, upsets = (gap == 0).mean(), (gap < 0).sum() / (gap != 0).sum()
alike = (chosen_class[:, 1] == rejected_class[:, 1]).mean()  # both right or both wrong
print(round(ties, 2), round(upsets, 2), round(alike, 2))
assert set(data.preference_prob) == {1.0}
assert abs(ties - 0.44) < 0.02 and abs(upsets - 0.25) < 0.02 and abs(alike - 0.62) < 0.02

# %% [markdown] lang="en"
# The printed line is how a pair lies in a file: JSON, one object to a line. `prompt`, `chosen` and `rejected` are the columns that the TRL library reads; the other three are ours. In 44 % of the pairs both answers have the same reward and the label is a coin. Of the others, in about a quarter the *worse* answer is called chosen. That is no error in the data. It is what sampled labels are.
#
# *Simple_RLHF_DPO*, the project that this book grew out of, made its pairs differently: chosen is a right expression of three numbers, rejected is always the empty answer `E`. Put such a pile into a table, three expressions and `E`. Every expression beat `E` and none ever lost, so all three rewards are unbounded; and since no two expressions met, the pile says nothing about which is better. It says: do not write nothing. Chapter 9 shows what such pairs do to a model.

# %% [markdown] lang="zh"
# 打印出来的这一行，就是一对回答在文件里的样子：JSON，每行一个对象。`prompt`、`chosen`、`rejected` 是 TRL 库认的列名，另外三列是我们的。有 44% 的对，两个回答奖励相同，标签全凭抛硬币。其余的对里，约有四分之一，*较差*的那个反而成了 chosen。数据没有出错，采样标签就是这样。
#
# 本书由 *Simple_RLHF_DPO* 这个小项目长成，它的偏好对另有做法：chosen 是一个正确的算式，写三个数，rejected 永远是空回答 `E`。把这样一堆比较填进表里，三个算式加一个 `E`：每个算式都胜过 `E`，从没输过，所以三个奖励都没有上界；算式与算式又没碰过面，哪个更好，这堆比较一个字也没说。它只说了：别交白卷。这样的对会把模型变成什么样，见第 9 章。

# %%
empty_rejected = torch.zeros(4, 4).double()
empty_rejected[:3, 3] = 20  # each of three expressions was preferred to E, twenty times
opposite = [torch.tensor(rewards).double() for rewards in ([30.0, 25.0, 20.0, 0.0], [20.0, 25.0, 30.0, 0.0])]
print(refusal(empty_rejected), *(f"{tabular.bradley_terry_nll(r, empty_rejected):.0e}" for r in opposite))
assert refusal(empty_rejected)
assert all(tabular.bradley_terry_nll(rewards, empty_rejected) < 1e-8 for rewards in opposite)
both_orders = [tabular.bradley_terry_nll(rewards, empty_rejected) for rewards in opposite]
assert torch.isclose(*both_orders, rtol=1e-9, atol=0)

# %% [markdown] lang="en"
# ## A reward model
# A table has a reward for each answer that it contains. There are more texts than any table holds, so one fits a function instead: a **reward model**, a network that reads prompt and answer and returns one number. Ours is the language model with another end. Where the vocabulary head gave a number for each token, a single row of weights gives one number, read at the answer's last token, `E`, where the network has seen the whole answer. The weights below are those of the base model; the row starts at zero. The loss is the $\ell$ of above with $q=1$ (eq. 1 of [Ouyang et al. 2022](https://arxiv.org/abs/2203.02155)); before the first step all rewards are 0 and it is $\ln 2$.

# %% [markdown] lang="zh"
# ## 奖励模型
# 表格只给表里的回答配奖励。文本之多，什么表格也装不下，所以改成拟合一个函数：**奖励模型**（reward model），一个网络，读进提示和回答，给出一个数。我们的奖励模型，就是语言模型换了个出口。原来的输出头给词表里每个词元一个数；现在换成一行权重，只给一个数，在回答的最后一个词元 `E` 上读取，到了那里，网络已经看完整个回答。前面各层沿用基座的权重，这一行的初值是零。损失就是前面的 $\ell$，取 $q=1$（[Ouyang et al. 2022](https://arxiv.org/abs/2203.02155) 的式 1）；第一步之前，奖励全是 0，损失是 $\ln 2$。

# %%
reward_model = RewardModel(base)
batch = {name: tensor.to(device) for name, tensor in data.batch(np.arange(64)).items()}


def reward_loss(model, batch):
    chosen = model(batch["chosen_ids"], batch["chosen_mask"])  # (B,)
    rejected = model(batch["rejected_ids"], batch["rejected_mask"])  # (B,)
    return -logsigmoid(chosen - rejected).mean()


total, count = reward_step(reward_model, batch)["loss"]
assert torch.isclose(reward_loss(reward_model, batch), total / count)  # all that the training below minimises
assert abs(total / count - math.log(2)) < 1e-6

# %% tags=["nbval-ignore-output"]
reward_model = RewardModel(base)  # anew: this cell may run twice
config = LoopConfig(steps=100, learning_rate=0.01, optimizer="muon")
history = train(reward_model, data.batches(64, seed=0), reward_step, config)
print({name: [round(line[name], 3) for line in history] for name in ("loss", "rewards/accuracies")})

# %% [markdown] lang="en"
# One hundred steps of Muon (chapter 3), each pair used once. As the true rewards are known, so are the floor and the ceiling of any model. Let two of the authors of chapter 3 answer the same prompt. With probability 0.4417 the rewards are equal, with 0.4797 they differ by 1, with 0.0785 by 2. The entropy of the label is then 0.693, 0.582 or 0.365, and its likelier value has probability 0.5, 0.731 or 0.881. On average:
#
# $$0.4417\cdot 0.693+0.4797\cdot 0.582+0.0785\cdot 0.365=0.614,\qquad 0.4417\cdot 0.5+0.4797\cdot 0.731+0.0785\cdot 0.881=0.641.$$
#
# No model can have a lower expected loss (the $\ell(q,h)$ above, with the true $q$) than the first number. No model can agree with a larger share of the labels than the second, on average over the draw of the labels: the ties are coins, and in the other pairs the worse answer sometimes wins. Against the *true* order, ties left out, 100 % is possible. The base model imitates these authors, and on the 2,000 fresh pairs below the two numbers are 0.617 and 0.638.

# %% [markdown] lang="zh"
# Muon（第 3 章）走一百步，每一对用一次。真实的奖励已知，所以不论什么模型，下界和上限也已知。让第 3 章的两位作者答同一个提示：两个奖励相等的概率是 0.4417，相差 1 的是 0.4797，相差 2 的是 0.0785。标签的熵依次是 0.693、0.582、0.365；标签较可能的那个取值，概率依次是 0.5、0.731、0.881。取平均：
#
# $$0.4417\cdot 0.693+0.4797\cdot 0.582+0.0785\cdot 0.365=0.614,\qquad 0.4417\cdot 0.5+0.4797\cdot 0.731+0.0785\cdot 0.881=0.641$$
#
# 期望损失（前面的 $\ell(q,h)$，代入真实的 $q$），哪个模型也低不过第一个数。与标签一致的比例，对抽签取平均，哪个模型也高不过第二个数：平局全凭硬币，别的对里，较差的有时也会胜。若是与*真实的*次序比，平局不算，就可以做到 100%。基座模仿的就是这些作者；下面另取 2,000 对新的来量，在这些对上，两个数是 0.617 和 0.638。

# %%
prompt_share = np.array(list(task.prompt_distribution.values()))
two_authors = np.einsum("p,pab,pcd->abcd", prompt_share, task.class_rates, task.class_rates)  # their two classes
apart = np.abs(worth[:, :, None, None] - worth)  # (2, 2, 2, 2)
parts = np.array([two_authors[apart == k].sum() for k in range(3)])
likelier = 1 / (1 + np.exp(-np.arange(3)))
label_entropy = -(likelier * np.log(likelier) + (1 - likelier) * np.log(1 - likelier))
mean_entropy, mean_likelier = parts @ label_entropy, parts @ likelier
print(parts.round(4), label_entropy.round(3), likelier.round(3), mean_entropy.round(3), mean_likelier.round(3))
assert parts.round(4).tolist() == [0.4417, 0.4797, 0.0785] and math.isclose(parts.sum(), 1)
assert label_entropy.round(3).tolist() == [0.693, 0.582, 0.365] and likelier.round(3).tolist() == [0.5, 0.731, 0.881]
assert [mean_entropy.round(3), mean_likelier.round(3)] == [0.614, 0.641]

# %% tags=["nbval-ignore-output"]
fresh = on_policy_pairs(base, task, 2_000, reward="style+exact", labels="sampled", seed=1)
chosen_class, rejected_class = classes(fresh)
gap = worth[tuple(chosen_class.T)] - worth[tuple(rejected_class.T)]
scores = [predict_rewards(reward_model, fresh.prompt, column).double() for column in (fresh.chosen, fresh.rejected)]
h = (scores[0] - scores[1]).numpy()  # learned differences
q = 1 / (1 + np.exp(-gap))  # true probability that the chosen answer is preferred
floor, ceiling = -(q * np.log(q) + (1 - q) * np.log(1 - q)).mean(), np.maximum(q, 1 - q).mean()
expected_loss = -(q * logsigmoid(torch.tensor(h)).numpy() + (1 - q) * logsigmoid(torch.tensor(-h)).numpy()).mean()
style_gap, exact_gap = (chosen_class - rejected_class).T
style_only, exact_only = (style_gap != 0) & (exact_gap == 0), (style_gap == 0) & (exact_gap != 0)
right = h * gap > 0
accuracy = {"labels": wilson(int((h > 0).sum()), 2_000)}
for name, rows in (("true", gap != 0), ("style", style_only), ("exact", exact_only)):
    accuracy[name] = wilson(int(right[rows].sum()), int(rows.sum()))
print(f"loss {expected_loss:.3f}  floor {floor:.3f}  ln 2 {math.log(2):.3f}   ceiling of labels {ceiling:.3f}")
print(*(f"{name:6} {value}" for name, value in accuracy.items()), sep="\n")
assert abs(floor - 0.617) < 0.001 and abs(ceiling - 0.638) < 0.001
assert floor < expected_loss < math.log(2) - 0.015
assert ceiling - 0.1 < accuracy["labels"].value < ceiling
assert accuracy["style"].value > 0.95 and 0.75 < accuracy["true"].value < 0.99
assert 0.45 < accuracy["exact"].value < 0.7

# %% [markdown] lang="en"
# It has learnt one half of its task. Pairs that differ in style alone it orders right in more than 95 % of the cases. Pairs that differ in exactness alone it orders far worse, little better than a coin, which would be right in half of them. The accuracy against the labels shows none of this: it lies a few points below its ceiling, and outside a toy nobody knows the ceiling. The figure shows it.

# %% [markdown] lang="zh"
# 它只学会了一半。两个回答只差在风格时，95% 以上它都排对了。只差在对错时，它排得差多了，比抛硬币强不了多少，而硬币也有一半是对的。光看与标签一致的比例，什么也看不出来：这个比例离上限不过几个百分点，而出了玩具世界，谁也不知道上限在哪里。看图就清楚了。

# %% tags=["nbval-ignore-output"] alt_en="Learned difference of rewards against the true difference. A line marks the diagonal. Pairs of one class lie at 0. Pairs that differ in style alone lie a little below 1, those that differ in exactness alone not far above 0. Pairs in which style and exactness stand against each other have true difference 0, but a learned one well above 0. Pairs that differ in both lie about halfway to 2." alt_zh="横轴是真实的奖励之差，纵轴是学到的，直线是对角线。同类的对在 0 处。只差风格的略低于 1，只差对错的比 0 高不了多少。风格与对错相抵的对，真实的差是 0，学到的却明显高于 0。两样都领先的，大约只到 2 的一半。"
groups = {  # name: (style gap, exact gap), seen from the first answer; where it is drawn, its colour
    "same": ((0, 0), 0.0, "ref"), "style against exact": ((1, -1), 0.1, "baseline"),
    "style": ((1, 0), 0.95, "policy"), "exact": ((0, 1), 1.05, "rejected"), "both": ((1, 1), 2.0, "chosen"),
}  # fmt: skip
fig, ax = figure(height=3.8)
ax.plot([0, 2], [0, 2], color=COLORS["theory"])
learned = {}
for name, ((style, exact), place, color) in groups.items():
    forward = (style_gap == style) & (exact_gap == exact)
    backward = (style_gap == -style) & (exact_gap == -exact) & ~forward
    learned[name] = mean_interval(np.concatenate((h[forward], -h[backward])))
    points(ax, [place], [learned[name]], color, f"$({style},{exact})$")
    print(f"{name:20} {style + exact}  {learned[name]}")
ax.set(xlabel="$r_1-r_2$", ylabel="$h$")
ax.legend()
assert abs(learned["same"].value) < 0.1 and learned["style"].value > 0.5
assert learned["exact"].value < 0.25 * learned["style"].value
assert 0.75 * learned["style"].value < learned["both"].value < 1.8
assert learned["style against exact"].value > 0.15

# %% [markdown] lang="en"
# **Figure 5.4.** Learned against true differences of rewards on fresh pairs, means with 95 % intervals; points whose true difference is the same, 0 or 1, are set a little apart. In brackets, by how much the first answer is ahead: in style, in exactness. Grey: pairs of one class. Blue: style alone. Orange-red: exactness alone. Yellow: a wrong three-number answer against a right two-number one, which are worth the same; the model prefers the wrong one. Green: both.

# %% [markdown] lang="zh"
# **图 5.4** 在新的回答对上，学到的奖励之差（纵轴）与真实的差（横轴），平均值附 95% 区间；真实的差同是 0 或同是 1 的点，稍稍错开。括号里依次是第一个回答在风格、对错上领先多少。灰：两个回答同类。蓝：只领先风格。橙红：只领先对错。黄：一个写三个数却不对，一个写两个数而对，奖励本来相等，模型却偏爱错的那个。绿：两样都领先。

# %% [markdown] lang="en"
# One run is one run, and 6,400 pairs are few. `chapters/data/reward_seeds.py` trains three such models, on pairs drawn with three seeds, and three more on eight times as many pairs:

# %% [markdown] lang="zh"
# 一次训练只是一次，6,400 对也不算多。`chapters/data/reward_seeds.py` 用三个种子抽对，训练了三个这样的模型，又用八倍的对训练了三个：

# %%
stored = json.loads(Path("data/reward_seeds.json").read_text(encoding="utf-8"))
print(stored["command"])
print(" pairs  seed   right: style exact  difference: style exact")
for run in stored["runs"]:
    kinds = run["style"], run["exact"]
    right = (f"{kind['accuracy']['value']:5.2f}" for kind in kinds)
    apart = (f"{kind['difference']['value']:5.2f}" for kind in kinds)
    print(f"{run['pairs']:6} {run['seed']:5}        ", *right, " " * 12, *apart)
few, many = ([r for r in stored["runs"] if r["pairs"] == n] for n in (6_400, 51_200))
assert all(len({run["seed"] for run in runs}) == 3 for runs in (few, many))
for run in few + many:
    assert run["style"]["accuracy"]["value"] > 0.95
    assert run["exact"]["accuracy"]["low"] > 0.6  # above chance
    assert run["exact"]["accuracy"]["high"] < run["style"]["accuracy"]["low"] - 0.15
    assert run["exact"]["difference"]["high"] < 0.3 * run["style"]["difference"]["low"]
best_of_few = max(run["exact"]["accuracy"]["high"] for run in few)
assert best_of_few < min(run["exact"]["accuracy"]["low"] for run in many)  # more: better
assert all(run["exact"]["accuracy"]["high"] < 0.8 for run in many)

# %% [markdown] lang="en"
# In all six the style is ordered right in more than 95 % of the pairs. Exactness is above chance every time, and far below the style every time; with eight times as many pairs it is better, and still below 0.8. So more pairs teach it more of exactness; how far that goes, these runs do not say. Nor have we tested why exactness is harder. One guess: to count numbers one has to find a second sign, to judge exactness one must do the sum.
#
# Look at the yellow point. A policy that is trained to please this model gains more by a third number than by a right sum. [Chapter 12](12_rl.ipynb), which trains policies against reward models, comes back to this.
#
# Last, the constant. Add to each prompt's rewards an arbitrary number of its own, and the loss stays what it was. So nothing in training holds these numbers in place, and the rewards of answers to different prompts must not be compared.

# %% [markdown] lang="zh"
# 六次里，风格都排对了 95% 以上。对错每次都比乱猜强，每次也都远不如风格；对多到八倍，又好一些，仍不到 0.8。所以对多一些，对错也多学会一些；最终能学到哪一步，这几次训练没有说。判断对错为什么更难，我们也没有检验过。有一种猜想：要知道写了几个数，只要看有没有第二个加减号；要判断对错，却得把算式算出来。
#
# 看黄色那一点。要是训练一个策略去讨好这个模型，多写一个数比把算式算对更划算。[第 12 章](12_rl.ipynb)会拿奖励模型来训练策略，到时再谈。
#
# 最后说说那个常数。给每个提示任选一个数，加到它各个回答的奖励上，损失分毫不动。可见训练里没有任何东西管着这些数；不同提示的回答，奖励不能拿来相比。

# %%
numbers = dict(zip(task.prompt_distribution, stream("chapter 5", 1).normal(0, 10, size=len(task.prompt_distribution))))
moved = [score + torch.tensor([numbers[prompt] for prompt in fresh.prompt]) for score in scores]
before, after = (-logsigmoid(pair[0] - pair[1]).mean() for pair in (scores, moved))
assert torch.isclose(before, after) and torch.cat(moved).std() > 3 * torch.cat(scores).std()

# %% [markdown] lang="en"
# > **What the toy hides.** Our judge has rewards, and they are the ones that we want. People have neither: the training labelers of [Ouyang et al. 2022](https://arxiv.org/abs/2203.02155) agree with each other in 72.6 % of the cases, and nobody knows how much of the rest is noise and how much is taste. Comparisons are costly, so one prompt yields several: there a labeler ranks between 4 and 9 answers, and all pairs of a ranking go into one batch, because they are so alike that shuffling them led to overfitting. Answers have hundreds of tokens, and judges, human or not, can favour the longer one. The reward models have billions of weights (6B there) and are asked about answers that a trained policy writes, which no judge has ever seen.

# %% [markdown] lang="zh"
# > **玩具没告诉你的。** 我们的裁判有奖励，而且正是我们想要的那个。真人两样都没有：[Ouyang et al. 2022](https://arxiv.org/abs/2203.02155) 里标注训练数据的人，彼此意见一致的只有 72.6%，其余的有多少是噪声、多少是口味，没人知道。比较很贵，所以一个提示要产出好几次比较：那里的标注员一次给 4 到 9 个回答排序，同一次排序得出的所有对放进同一个批次，因为它们太相像，打散了会过拟合。回答有几百个词元，裁判不论是人还是模型，都可能偏爱长的。奖励模型有几十亿个权重（那里是 6B），要评判的却是策略训练以后写出的回答，没有哪个裁判见过。

# %% [markdown] lang="en"
# > **To remember.** The log-odds of a preference are a difference of rewards. Fitting the differences is logistic regression, with intervals that hold; the constant of each prompt is lost and not missed. A scale exists because judges disagree, and it is worth as much as the comparisons: check the fit, know the floor, and ask which differences were learnt.

# %% [markdown] lang="zh"
# > **记住。** 偏好的对数胜负比，就是奖励之差。拟合这些差就是逻辑回归，区间也靠得住；每个提示丢了一个常数，反正也用不着。裁判意见不一，才做得成尺子；尺子有几分可信，全看比较。要检查拟合是否合得上，要知道下界，还要问一句：学会的是哪些差。

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
# 胜负比相乘，再把胜负比换成概率。
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
# 胜负比是 30/10 = 3 和 20/10 = 2，乘积是 6，概率是 6/7 = 0.857。
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
# ★★☆ · 15 minutes
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
# ★★☆ · 15 分钟
#
# 写一个 `slope_of(reward, wins)`：由奖励 `(A,)` 和次数表 `(A, A)` 算出对数似然 $L$ 的梯度，形状 `(A,)`，不许用自动求导。表的对角线上可能有数，不能让它们影响结果。
#
# <details><summary>提示</summary>
#
# `wins + wins.mT` 里是 $n_{ij}$，`reward[:, None] - reward[None, :]` 里是各个差。
#
# </details>

# %% tags=["exercise"]
def slope_of(reward, wins):
    ...


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
def has_scale(wins):
    ...


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
# ## References
# - [Bradley & Terry 1952](https://doi.org/10.2307/2334029): the model of paired comparisons.
# - [Christiano et al. 2017](https://arxiv.org/abs/1706.03741): rewards learnt from comparisons of short clips, by people who err.
# - [Hamilton et al. 2023](https://arxiv.org/abs/2312.13619): the many routes to the Bradley–Terry model.
# - [Hunter 2004](https://doi.org/10.1214/aos/1079120141): when the maximum exists, and algorithms that find it; the history.
# - [Ouyang et al. 2022](https://arxiv.org/abs/2203.02155): reward models for instructions, rankings of several answers, agreement of labelers.
# - [Siththaranjan et al. 2024](https://arxiv.org/abs/2312.08358): what becomes of judges who differ.

# %% [markdown] lang="zh"
# ## 参考文献
# - [Bradley & Terry 1952](https://doi.org/10.2307/2334029)：两两比较的模型。
# - [Christiano et al. 2017](https://arxiv.org/abs/1706.03741)：让会出错的人比较短片段，从中学出奖励。
# - [Hamilton et al. 2023](https://arxiv.org/abs/2312.13619)：通向 Bradley–Terry 模型的许多条路。
# - [Hunter 2004](https://doi.org/10.1214/aos/1079120141)：最大值何时存在，怎样求出；也讲来历。
# - [Ouyang et al. 2022](https://arxiv.org/abs/2203.02155)：为听从指令而训练的奖励模型，多个回答的排序，标注员的一致程度。
# - [Siththaranjan et al. 2024](https://arxiv.org/abs/2312.08358)：裁判口味不同，结果会怎样。
