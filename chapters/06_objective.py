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
# # 6 The RLHF objective, solved

# %% [markdown] lang="zh"
# # 6 解出 RLHF 的目标

# %% [markdown] lang="en"
# > **In this chapter.** You will be able to say what RLHF maximises and why, to write down the policy that maximises it and prove it in two ways, to read a reward–KL plot, to compute the KL of best-of-n, and to predict the optimum of a real network before anything is trained. You need KL from [chapter 3](03_sft.ipynb) and [chapter 4](04_sampling.ipynb), rewards from [chapter 5](05_preferences.ipynb), and derivatives. 38 minutes to read, and 17 more for the sections marked ⋆; 20 seconds to run.

# %% [markdown] lang="zh"
# > **本章。** 读完后，你能说清 RLHF 最大化的是什么、为什么；写出使它最大的策略，并用两种办法证明；读懂奖励–KL 图；算出 best-of-n 的 KL；一步也不训练，就预测一个真实网络的最优解是什么样子。需要[第 3 章](03_sft.ipynb)和[第 4 章](04_sampling.ipynb)的 KL、[第 5 章](05_preferences.ipynb)的奖励，还要会求导。阅读 38 分钟，带 ⋆ 的几节另需 17 分钟；运行 20 秒。

# %%
import math
from itertools import pairwise

import numpy as np
import torch
from checks import check
from torch.nn.functional import one_hot

from dpo_core.evaluation import mean_interval, wilson
from dpo_core.plotting import COLORS, INK, figure, picture, points
from dpo_core.tabular import Problem, best_of_n, frontier, kl, log_partition, mean
from dpo_core.tabular import minimise, objective, optimal_policy, other_optimum
from dpo_core.tabular import random_policies, random_problems
from dpo_core.task import stream

# %% [markdown] lang="en"
# ## Reward alone is not a goal
# [Chapter 5](05_preferences.ipynb) gave us a reward $r(x,y)$, a number for each answer $y$ to a prompt $x$. A language model answers $x$ with $y$ with probability $\pi(y\mid x)$; seen as something that chooses its answers, it is called a **policy**. What policy should we want? The first idea: the one whose answers have the highest mean reward, $\mathbb{E}_{y\sim\pi}[r(x,y)]$. We look at one prompt at a time and leave $x$ out of the formulas.
#
# Here is the book's hand-made example. Three answers, $y_1$, $y_2$, $y_3$. The **reference policy** $\pi_{\mathrm{ref}}$ (in practice one mostly says *reference model*) is the model before *this* training; for the book's networks, the one that chapter 3 trained. It writes the three with probabilities 0.5, 0.3, 0.2. Their rewards are 1, 0, -1, so the reference earns $0.5-0.2=0.3$ on average.
#
# A mean is never above the largest of its terms, and reaches it only when all weight lies there. So the best policy writes $y_1$ and nothing else. Everything that the reference knew about the other answers is gone. [Korbak et al. 2022](https://arxiv.org/abs/2205.11275) call this distribution collapse.
#
# > **Before you run it.** It is worse when the reward is wrong somewhere. Add a fourth answer, $y_4$, which the reference writes once in 1,000 times. It is as bad as $y_3$: its true worth $u$ is -1. But nobody ever compared it with anything, and a reward model, guessing, says 3. What does the policy with the highest mean reward write now?
# >
# > <details><summary>Answer</summary>
# >
# > $y_4$ and nothing else. It believes that it earns 3 and it earns -1. The rarer an answer, the fewer comparisons tell of its reward; and maximisation does not ask how rare.
# >
# > </details>

# %% [markdown] lang="zh"
# ## 光有奖励，算不上目标
# [第 5 章](05_preferences.ipynb)给了我们奖励 $r(x,y)$：提示 $x$ 的每个回答 $y$，都对应一个数。语言模型遇到 $x$，以概率 $\pi(y\mid x)$ 回答 $y$；把它看成在挑选回答，就叫它**策略**（policy）。我们该要什么样的策略？先想到的是：哪个策略的回答平均奖励 $\mathbb{E}_{y\sim\pi}[r(x,y)]$ 最高，就要哪个。下面一次只看一个提示，公式里的 $x$ 省去不写。
#
# 先看全书都在用的手算例子。三个回答 $y_1$、$y_2$、$y_3$。**参考策略**（reference policy，实践中常叫参考模型，reference model）$\pi_{\mathrm{ref}}$，是*这次*训练开始之前的模型；对本书的网络来说，就是第 3 章训练出来的那个。它写出三个回答的概率是 0.5、0.3、0.2；奖励是 1、0、-1。于是参考策略平均得 $0.5-0.2=0.3$ 分。
#
# 平均数不会超过其中最大的一项；要想相等，权重就得全压在最大项上。所以照这个标准，最好的策略只写 $y_1$，别的一概不写。关于其他回答，参考策略知道的一切都丢了。[Korbak et al. 2022](https://arxiv.org/abs/2205.11275) 称之为分布坍缩（distribution collapse）。
#
# > **先猜一猜。** 要是奖励在某处错了，那就更糟。添上第四个回答 $y_4$，参考策略 1,000 次里才写一次。它同 $y_3$ 一样差，真实价值 $u$ 是 -1。可是从来没有人拿它同别的回答比过，奖励模型只好猜，猜了个 3。这下，平均奖励最高的策略写什么？
# >
# > <details><summary>答案</summary>
# >
# > 只写 $y_4$：自以为得 3 分，其实得 -1 分。回答越罕见，比过的次数就越少，它的奖励也就越没有依据；而求最大值，是不问罕见不罕见的。
# >
# > </details>

# %% tags=["setup"]
toy_ref = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
toy = Problem(toy_ref.log(), torch.tensor([1, 0, -1]).double())
four_ref = torch.tensor([0.5, 0.3, 0.199, 0.001], dtype=torch.float64)
believed = torch.tensor([1, 0, -1, 3]).double()
worth = torch.tensor([1, 0, -1, -1]).double()
greedy = believed.argmax()
print(
    (toy_ref * toy.reward).sum().item(), believed[greedy].item(), worth[greedy].item()
)
assert abs((toy_ref * toy.reward).sum() - 0.3) < 1e-12
assert (believed[greedy], worth[greedy]) == (3, -1)

# %% [markdown] lang="en"
# ## The leash
# We want reward, and we want to keep what the reference can do. So we put the policy on a leash: leaving the reference costs. The measure is the KL divergence of chapter 4, the price a number $\beta>0$:
#
# $$J(\pi)=\mathbb{E}_{y\sim\pi}[r(y)]-\beta\,\mathrm{KL}(\pi\,\|\,\pi_{\mathrm{ref}}),\qquad\mathrm{KL}(\pi\,\|\,\pi_{\mathrm{ref}})=\sum_y\pi(y)\log\frac{\pi(y)}{\pi_{\mathrm{ref}}(y)}\tag{6.1}.$$
#
# KL is measured in nats; $\beta$ says how much reward a nat costs. It is a hyper-parameter: we choose it. $J$ is **the RLHF objective** (RLHF is reinforcement learning from human feedback); over many prompts it is averaged. To climb it [Ouyang et al. 2022](https://arxiv.org/abs/2203.02155) use PPO; RLOO ([Ahmadian et al. 2024](https://arxiv.org/abs/2402.14740)) and GRPO ([Shao et al. 2024](https://arxiv.org/abs/2402.03300)) are later algorithms, which do without the network that PPO trains beside the policy to predict the reward to come. [Chapter 12](12_rl.ipynb) runs them.
#
# By hand, for $\pi=(0.8,\,0.15,\,0.05)$: the mean reward is $0.8-0.05=0.75$. The KL is $0.8\log 1.6+0.15\log 0.5+0.05\log 0.25=0.38-0.10-0.07=0.20$. With $\beta=0.5$:
#
# | policy | mean reward | KL | $J$ |
# |---|---|---|---|
# | 0.5, 0.3, 0.2 | 0.300 | 0.000 | 0.300 |
# | 0.8, 0.15, 0.05 | 0.750 | 0.203 | 0.649 |
# | 1, 0, 0 | 1.000 | 0.693 | 0.653 |
# | 0.919, 0.075, 0.007 | 0.912 | 0.432 | 0.696 |
#
# The first row is the reference, the third the collapse. The last is better than both, and we shall see that nothing is better than it. As for $y_4$: to write nothing else costs $\log 1000=6.9$ nats, at $\beta=0.5$ more than the 3 points that it promises.

# %% [markdown] lang="zh"
# ## 拴根绳子
# 奖励要拿，参考策略的本事也要留。那就给策略拴根绳子：离参考策略越远，目标里扣掉的越多。走了多远，用第 4 章的 KL 散度来量；一奈特扣多少，由一个数 $\beta>0$ 来定：
#
# $$J(\pi)=\mathbb{E}_{y\sim\pi}[r(y)]-\beta\,\mathrm{KL}(\pi\,\|\,\pi_{\mathrm{ref}}),\qquad\mathrm{KL}(\pi\,\|\,\pi_{\mathrm{ref}})=\sum_y\pi(y)\log\frac{\pi(y)}{\pi_{\mathrm{ref}}(y)}\tag{6.1}$$
#
# KL 以奈特（nat）计，$\beta$ 说的是一奈特要扣多少奖励；它是超参数，由人来定。$J$ 就是 **RLHF 的目标**（RLHF 即基于人类反馈的强化学习，reinforcement learning from human feedback）；有许多提示时，再对提示取平均。要提高 $J$，[Ouyang et al. 2022](https://arxiv.org/abs/2203.02155) 用的算法是 PPO；后来又有 RLOO（[Ahmadian et al. 2024](https://arxiv.org/abs/2402.14740)）和 GRPO（[Shao et al. 2024](https://arxiv.org/abs/2402.03300)），PPO 在策略之外还要训练一个网络，预测往后能得的奖励，它们不用。[第 12 章](12_rl.ipynb)会跑这几种。
#
# 手算一个：$\pi=(0.8,\,0.15,\,0.05)$。平均奖励是 $0.8-0.05=0.75$；KL 是 $0.8\log 1.6+0.15\log 0.5+0.05\log 0.25=0.38-0.10-0.07=0.20$。取 $\beta=0.5$：
#
# | 策略 | 平均奖励 | KL | $J$ |
# |---|---|---|---|
# | 0.5、0.3、0.2 | 0.300 | 0.000 | 0.300 |
# | 0.8、0.15、0.05 | 0.750 | 0.203 | 0.649 |
# | 1、0、0 | 1.000 | 0.693 | 0.653 |
# | 0.919、0.075、0.007 | 0.912 | 0.432 | 0.696 |
#
# 第一行是参考策略，第三行是坍缩。最后一行比前面几行都好；后面会看到，没有比它更好的了。至于 $y_4$：只写它，KL 是 $\log 1000=6.9$ 奈特；按 $\beta=0.5$，扣掉的比它许诺的 3 分还多。


# %% tags=["setup"]
def reward_kl_J(policy, reference, reward, beta):
    """Mean reward, KL and J of a policy, all by the formulas above; 0 log 0 is 0."""
    earned = (policy * reward).sum()
    nats = torch.xlogy(policy, policy / reference).sum()
    return earned, nats, earned - beta * nats


rows = [[0.5, 0.3, 0.2], [0.8, 0.15, 0.05], [1, 0, 0]]
by_hand = torch.tensor(rows, dtype=torch.float64)
table = [reward_kl_J(policy, toy_ref, toy.reward, 0.5) for policy in by_hand]
for policy, row in zip(by_hand, table):
    print(policy.numpy(), *(f"{abs(value):.3f}" for value in row))
    assert torch.isclose(row[2], objective(policy.log(), toy, 0.5))  # the library's
shown = [
    "0.300",
    "0.000",
    "0.300",
    "0.750",
    "0.203",
    "0.649",
    "1.000",
    "0.693",
    "0.653",
]
assert [f"{abs(value):.3f}" for row in table for value in row] == shown

# %%
terms = 0.8 * math.log(1.6), 0.15 * math.log(0.5), 0.05 * math.log(0.25)
print(*(f"{term:.2f}" for term in terms), f"{sum(terms):.2f}")
assert [f"{term:.2f}" for term in terms] == ["0.38", "-0.10", "-0.07"]
assert f"{sum(terms):.2f}" == "0.20" and round(math.log(1000), 1) == 6.9
assert 0.5 * math.log(1000) > 3

# %% [markdown] lang="en"
# From here on each claim is asserted on the three answers, and then on twenty random problems of six answers, each with a $\beta$ of its own and, where it is about all policies, a thousand random rivals.
#
# ### What the penalty counts, and what it forbids
# KL has a direction: the first argument does the averaging. The objective averages over *the policy*; this is called the **reverse** KL (the other is the **forward** KL, to which a ⋆ section is given). Written as one mean, the objective is
#
# $$J(\pi)=\mathbb{E}_{y\sim\pi}\Big[r(y)-\beta\log\frac{\pi(y)}{\pi_{\mathrm{ref}}(y)}\Big].$$
#
# Three things follow. First, $J$ can be estimated from the policy's own samples; nobody has to sum over all answers. [Ziegler et al. 2019](https://arxiv.org/abs/1909.08593) train on exactly this difference, and say why: the penalty keeps the policy where $r$ is valid. Second, an answer that the reference never writes makes the logarithm infinite. The leash forbids it altogether. Third, the penalty counts only what the policy does write. Dropping answers of total probability $m$, and keeping the others in proportion, costs $-\log(1-m)$. So collapse has a finite price, 0.69 for $(1,0,0)$.

# %% [markdown] lang="zh"
# 从这里起，每个结论先在三个回答上验证，再放到二十个随机问题上：每个问题六个回答，$\beta$ 各不相同；结论若说的是所有策略，每个问题再找一千个随机策略来试。
#
# ### 罚的是什么，不许的是什么
# KL 有方向：按前一个分布取平均。目标里，写在前面的是*策略*，所以按策略取平均，这叫**反向 KL**（reverse KL）；另一个叫**正向 KL**（forward KL），后面有一节带 ⋆ 的专门讲它。整个目标合成一个平均，就是
#
# $$J(\pi)=\mathbb{E}_{y\sim\pi}\Big[r(y)-\beta\log\frac{\pi(y)}{\pi_{\mathrm{ref}}(y)}\Big]$$
#
# 由此得出三点。第一，$J$ 可以用策略自己的样本来估计，不必把所有回答加一遍。[Ziegler et al. 2019](https://arxiv.org/abs/1909.08593) 训练时用的正是这个差，理由也写明了：有惩罚，策略就不会跑出 $r$ 靠得住的范围。第二，参考策略从来不写的回答，会让对数变成无穷大：绳子根本不许策略碰它。第三，惩罚只看策略自己写出来的东西。丢掉总概率为 $m$ 的回答，其余的保持比例，KL 是 $-\log(1-m)$。所以坍缩扣掉的也是有限的，$(1,0,0)$ 是 0.69 奈特。

# %% tags=["setup"]
SEED = 0
INSTANCES = 20
problem = random_problems(INSTANCES, 6, SEED)
ref, r = problem.ref_logps.exp(), problem.reward  # (20, 6) each
beta = torch.linspace(0.2, 2.0, INSTANCES, dtype=torch.float64)[:, None]  # (20, 1)
rivals = random_policies(1_000, INSTANCES, 6, seed=SEED + 1, scale=2.0).exp()


def J(policies):
    """The objective, (...,), of policies given as probabilities, (..., 20, 6)."""
    nats = (policies * (policies / ref).log()).sum(-1)
    return (policies * r).sum(-1) - beta[:, 0] * nats


# %% tags=["proof"] checked_en="Checked on 20 random problems: a mean is below its largest term unless all weight is there; what the reference never writes is forbidden; the price of dropping an answer." checked_zh="在 20 个随机问题上验证：平均数低于最大的一项，除非权重全压在那一项上；参考策略从来不写的回答，绳子不许写；丢掉一个回答要扣多少。"
assert ((rivals * r).sum(-1) < r.amax(-1)).all()
assert torch.equal((one_hot(r.argmax(-1), 6) * r).sum(-1), r.amax(-1))
without_first = problem.ref_logps.index_fill(-1, torch.tensor([0]), -math.inf)
cut = without_first.log_softmax(-1)  # the reference, its first answer dropped
assert (kl(problem.ref_logps, cut) == math.inf).all()
assert torch.allclose(kl(cut, problem.ref_logps), -(1 - ref[:, 0]).log())

# %% [markdown] lang="en"
# ## The optimum, first route: a multiplier
# What is the best policy? Before any algebra, we can search: try 100,000 random policies on the toy and keep the best.

# %% [markdown] lang="zh"
# ## 最优解，第一条路：乘子
# 最好的策略是哪个？先不推公式，搜一搜看：在手算例子上随机试 100,000 个策略，留下最好的。

# %%
tried = random_policies(100_000, 3, seed=SEED + 5, scale=2.0)
heights = objective(tried, toy, 0.5)
print(tried[heights.argmax()].exp().numpy().round(2), f"J = {heights.max():.3f}")
assert 0.69 < heights.max() < 0.6963

# %% [markdown] lang="en"
# It writes $y_1$ in nine answers of ten, and keeps a little of the others. Which formula gives that? We look for the largest $J$ among all $\pi$ with $\sum_y\pi(y)=1$. (Sums run over the answers with $\pi_{\mathrm{ref}}(y)>0$; the others are forbidden.)
#
# *Add the constraint with a multiplier $\lambda$*, a number still to be found:
#
# $$\sum_y\pi(y)\,r(y)-\beta\sum_y\pi(y)\log\frac{\pi(y)}{\pi_{\mathrm{ref}}(y)}+\lambda\Big(1-\sum_y\pi(y)\Big).$$
#
# *Differentiate with respect to one $\pi(y)$ and set the result to zero.* The derivative of $p\log p$ is $\log p+1$. *Then solve for the logarithm*:
#
# $$r(y)-\beta\Big(\log\frac{\pi(y)}{\pi_{\mathrm{ref}}(y)}+1\Big)-\lambda=0\quad\Longrightarrow\quad\log\frac{\pi(y)}{\pi_{\mathrm{ref}}(y)}=\frac{r(y)}{\beta}-\Big(1+\frac{\lambda}{\beta}\Big).$$
#
# *Exponentiate.* The bracket does not depend on $y$: it is one factor for all answers, and the sum must be 1. So the factor is one over $Z$, the **partition function**:
#
# $$\pi^*(y)=\frac{1}{Z}\,\pi_{\mathrm{ref}}(y)\,e^{r(y)/\beta},\qquad Z=\sum_y\pi_{\mathrm{ref}}(y)\,e^{r(y)/\beta}\tag{6.5}.$$
#
# Take the reference and reweight it by the exponential of the reward. This is called **exponential tilting**, or the Gibbs distribution. On the toy: multiply 0.5, 0.3, 0.2 by $e^2$, 1, $e^{-2}$, add up to $Z=4.02$, divide.

# %% [markdown] lang="zh"
# 它十次里有九次写 $y_1$，别的也留一点。什么公式能给出这个答案？在所有满足 $\sum_y\pi(y)=1$ 的 $\pi$ 里，找让 $J$ 最大的那个。（求和只取 $\pi_{\mathrm{ref}}(y)>0$ 的回答，别的反正不许写。）
#
# *用（拉格朗日）乘子 $\lambda$ 把约束加进去*，$\lambda$ 是个待定的数：
#
# $$\sum_y\pi(y)\,r(y)-\beta\sum_y\pi(y)\log\frac{\pi(y)}{\pi_{\mathrm{ref}}(y)}+\lambda\Big(1-\sum_y\pi(y)\Big)$$
#
# *对某一个 $\pi(y)$ 求导，令它为零*；$p\log p$ 的导数是 $\log p+1$。*再解出对数*：
#
# $$r(y)-\beta\Big(\log\frac{\pi(y)}{\pi_{\mathrm{ref}}(y)}+1\Big)-\lambda=0\quad\Longrightarrow\quad\log\frac{\pi(y)}{\pi_{\mathrm{ref}}(y)}=\frac{r(y)}{\beta}-\Big(1+\frac{\lambda}{\beta}\Big)$$
#
# *取指数。* 括号里没有 $y$，取指数后，它是所有回答共用的一个系数；而概率之和必须是 1。所以这个系数只能是 $1/Z$，其中 $Z$ 叫**配分函数**（partition function）：
#
# $$\pi^*(y)=\frac{1}{Z}\,\pi_{\mathrm{ref}}(y)\,e^{r(y)/\beta},\qquad Z=\sum_y\pi_{\mathrm{ref}}(y)\,e^{r(y)/\beta}\tag{6.5}$$
#
# 拿参考策略来，按奖励的指数重新加权。这叫**指数倾斜**（exponential tilting），得到的是 Gibbs 分布。手算例子：0.5、0.3、0.2 各乘 $e^2$、1、$e^{-2}$，加起来是 $Z=4.02$，再除以它。


# %% tags=["setup"]
def tilt(reference, reward, beta):
    """(the optimum, Z): the reference, reweighted by the exponential of the reward."""
    weighted = reference * torch.exp(reward / beta)
    return weighted / weighted.sum(), weighted.sum()


toy_star, toy_Z = tilt(toy_ref, toy.reward, 0.5)
print(toy_star.numpy().round(3), f"Z = {toy_Z:.2f}")
assert [f"{x:.3f}" for x in toy_star] == [
    "0.919",
    "0.075",
    "0.007",
] and f"{toy_Z:.2f}" == "4.02"
assert torch.allclose(toy_star.log(), optimal_policy(toy, 0.5))  # the library's
of_star = [f"{x:.3f}" for x in reward_kl_J(toy_star, toy_ref, toy.reward, 0.5)]
assert of_star == ["0.912", "0.432", "0.696"]

# %% [markdown] lang="en"
# We did not ask for $\pi(y)\ge 0$; the exponential sees to it, and $\pi^*(y)>0$ exactly where $\pi_{\mathrm{ref}}(y)>0$. Is the point a maximum, and the only one? Yes: $p\log p$ is convex (it curves upwards), so $-\beta\,\mathrm{KL}$ is concave (it curves downwards), and the mean reward is straight. Halfway between two different policies $J$ lies above the mean of its values at both.

# %% [markdown] lang="zh"
# 我们没有要求 $\pi(y)\ge 0$，指数自己就保证了：凡是 $\pi_{\mathrm{ref}}(y)>0$ 的回答，$\pi^*(y)$ 也大于零，别的都是零。这个点是不是最大点？是不是只此一个？是的：$p\log p$ 是凸的（向上弯），$-\beta\,\mathrm{KL}$ 就是凹的（向下弯），平均奖励则是直的。任取两个不同的策略，在它们正中间，$J$ 比两头的平均高。

# %% tags=["proof"] checked_en="Checked on 20 random problems: the formula equals the library's and is zero where the reference is; the slope there is the multiplier; J is concave, by how much; no rival is better." checked_zh="在 20 个随机问题上验证：公式与库里的一致，参考策略为零处也为零；那里的斜率就是乘子；J 是凹的，凹多少；没有哪个对手更好。"
tilted = ref * torch.exp(r / beta)
Z = tilted.sum(-1, keepdim=True)  # (20, 1)
star = tilted / Z  # (20, 6)
assert torch.allclose(star.log(), optimal_policy(problem, beta))
never = cut.exp() > 0  # zero where the reference is
assert torch.equal(optimal_policy(Problem(cut, r), beta).exp() > 0, never)
at_star = star.clone().requires_grad_()
(slope,) = torch.autograd.grad(J(at_star).sum(), at_star)
assert torch.allclose(slope, beta * Z.log() - beta)  # the same for all answers
a, b = rivals[:500], rivals[500:]
halfway = (a + b) / 2
gap = J(halfway) - (J(a) + J(b)) / 2
from_a, from_b = (a * (a / halfway).log()).sum(-1), (b * (b / halfway).log()).sum(-1)
assert torch.allclose(gap, beta[:, 0] / 2 * (from_a + from_b))
assert (gap > 0).all()
assert (J(star) > J(rivals).amax(0)).all()

# %% [markdown] lang="en"
# ## The optimum, second route: completing the KL
# The second route needs no calculus, and it gives more: not only which policy is best, but by how much any other one falls short. It is the one of [Rafailov et al. 2023](https://arxiv.org/abs/2305.18290), appendix A.1; the result is older ([Peters & Schaal 2007](https://doi.org/10.1145/1273496.1273590), [Peng et al. 2019](https://arxiv.org/abs/1910.00177)). Five lines, each equal to the one before:
#
# $$\begin{aligned}J(\pi)&=\sum_y\pi(y)\Big(r(y)-\beta\log\frac{\pi(y)}{\pi_{\mathrm{ref}}(y)}\Big)\\&=\beta\sum_y\pi(y)\Big(\log e^{r(y)/\beta}-\log\frac{\pi(y)}{\pi_{\mathrm{ref}}(y)}\Big)\\&=\beta\sum_y\pi(y)\log\frac{\pi_{\mathrm{ref}}(y)\,e^{r(y)/\beta}}{\pi(y)}\\&=\beta\sum_y\pi(y)\log\frac{Z\,\pi^*(y)}{\pi(y)}\\&=\beta\log Z-\beta\,\mathrm{KL}(\pi\,\|\,\pi^*).\end{aligned}$$
#
# The first writes both means as one sum. The second writes $r$ as $\beta\log e^{r/\beta}$. The third gathers the logarithms. The fourth recognises the numerator: it is $Z\,\pi^*(y)$. The fifth takes out $\log Z$, which does not depend on $y$.
#
# Now look at the last line. The policy appears once, in a KL divergence. **Gibbs' inequality** says that a KL divergence is never negative, and zero only between equal distributions. So $\pi^*$ is the maximum, $\beta\log Z$ is its height, and every other policy misses it by
#
# $$J(\pi^*)-J(\pi)=\beta\,\mathrm{KL}(\pi\,\|\,\pi^*).$$
#
# To maximise $J$ is to approach $\pi^*$ in reverse KL. (To imitate samples of $\pi^*$ is to approach it in forward KL, as SFT approaches its data in [chapter 3](03_sft.ipynb).) Korbak et al. read it as Bayesian inference: $\pi_{\mathrm{ref}}$ is the prior, $e^{r/\beta}$ the evidence.

# %% [markdown] lang="zh"
# ## 最优解，第二条路：配成 KL
# 第二条路像解二次方程时的配方法：不用微积分，得到的还更多。它不光说出哪个策略最好，还说出别的策略差多少。走法见 [Rafailov et al. 2023](https://arxiv.org/abs/2305.18290) 附录 A.1；结论早已有之（[Peters & Schaal 2007](https://doi.org/10.1145/1273496.1273590)、[Peng et al. 2019](https://arxiv.org/abs/1910.00177)）。一共五行，每一行都等于上一行：
#
# $$\begin{aligned}J(\pi)&=\sum_y\pi(y)\Big(r(y)-\beta\log\frac{\pi(y)}{\pi_{\mathrm{ref}}(y)}\Big)\\&=\beta\sum_y\pi(y)\Big(\log e^{r(y)/\beta}-\log\frac{\pi(y)}{\pi_{\mathrm{ref}}(y)}\Big)\\&=\beta\sum_y\pi(y)\log\frac{\pi_{\mathrm{ref}}(y)\,e^{r(y)/\beta}}{\pi(y)}\\&=\beta\sum_y\pi(y)\log\frac{Z\,\pi^*(y)}{\pi(y)}\\&=\beta\log Z-\beta\,\mathrm{KL}(\pi\,\|\,\pi^*)\end{aligned}$$
#
# 第一行，两个平均并成一个和。第二行，把 $r$ 写成 $\beta\log e^{r/\beta}$。第三行，对数合并。第四行，认出分子：它就是 $Z\,\pi^*(y)$。第五行，$\log Z$ 与 $y$ 无关，提到外面。
#
# 看最后一行：策略只出现一次，就在那个 KL 散度里。**Gibbs 不等式**（Gibbs' inequality）说：KL 散度不会是负的，两个分布相等时才是零。所以 $\pi^*$ 就是最大点，高度是 $\beta\log Z$；别的策略都差一截，差额是
#
# $$J(\pi^*)-J(\pi)=\beta\,\mathrm{KL}(\pi\,\|\,\pi^*)$$
#
# 最大化 $J$，就是按反向 KL 向 $\pi^*$ 靠拢。（模仿 $\pi^*$ 的样本，则是按正向 KL 向它靠拢，就像[第 3 章](03_sft.ipynb)里 SFT 向数据靠拢。）Korbak 等人把它看作贝叶斯推断：$\pi_{\mathrm{ref}}$ 是先验，$e^{r/\beta}$ 是奖励带来的证据。

# %%
for policy, (_, _, height) in zip(
    by_hand[:3], table
):  # the first three rows of the table
    short = 0.5 * torch.xlogy(policy, policy / toy_star).sum()  # β KL(π ‖ π*)
    print(f"J = {height:.3f} = {0.5 * toy_Z.log():.3f} - {short:.3f}")
    assert torch.isclose(height, 0.5 * toy_Z.log() - short)

# %% tags=["proof"] checked_en="Checked on 20 random problems and 1,000 rivals each: every line equals the one before; the height of the maximum; by how much each rival misses it." checked_zh="在 20 个随机问题上验证：每一行等于上一行；最大点的高度；每个问题 1,000 个对手，各差多少。"
ratio = (rivals / ref).log()
lines = [
    (rivals * r).sum(-1) - beta[:, 0] * kl(rivals.log(), problem.ref_logps),
    (rivals * (r - beta * ratio)).sum(-1),
    beta[:, 0] * (rivals * (torch.exp(r / beta).log() - ratio)).sum(-1),
    beta[:, 0] * (rivals * (tilted / rivals).log()).sum(-1),
    beta[:, 0] * (rivals * (Z * star / rivals).log()).sum(-1),
    (beta * Z.log())[:, 0] - beta[:, 0] * kl(rivals.log(), star.log()),
]
for above, below in pairwise(lines):
    assert torch.allclose(above, below)
assert torch.allclose(J(star), (beta * Z.log())[:, 0])
misses = beta[:, 0] * (rivals * (rivals / star).log()).sum(-1)
assert torch.allclose(J(star) - J(rivals), misses)

# %% [markdown] lang="en"
# ## ⋆ Why a KL is never negative
# Gibbs' inequality takes a few lines. Let $\pi$ and $\nu$ be two distributions over answers. Where $\pi(y)>0=\nu(y)$ for some answer, the KL is infinite; otherwise put $u=\nu(y)/\pi(y)$. For $u>0$, $\log u\le u-1$, with equality only at $u=1$. Suppose first that $\pi(y)>0$ wherever $\nu(y)>0$. As $\sum_y\pi(y)\,(u-1)=\sum_y\nu(y)-\sum_y\pi(y)=0$, that sum may be added for free:
#
# $$\mathrm{KL}(\pi\,\|\,\nu)=\sum_y\pi(y)\,(-\log u)=\sum_y\pi(y)\,(u-1-\log u)\ge 0.$$
#
# Every term is at least zero, and zero only where $\nu(y)=\pi(y)$. If $\pi$ leaves out answers to which $\nu$ gives total probability $m$, then $\sum_y\pi(y)\,(u-1)$ is $-m$, and the KL is the last sum plus $m$: all the more above zero.
#
# The summand $u-1-\log u$ is also an estimator of KL, called $k_3$ by [Schulman 2020](http://joschu.net/blog/kl-approx.html): never negative and, if $\pi$ leaves nothing out, right on average, like $-\log u$. A policy that is sampled with top-k or top-p does leave answers out, and there $k_3$ reads too low by $m$. You write it in exercise 6.3.

# %% [markdown] lang="zh"
# ## ⋆ KL 为什么不会是负的
# Gibbs 不等式只要几行。设 $\pi$、$\nu$ 是回答上的两个分布。要是某个回答 $\pi(y)>0=\nu(y)$，KL 就是无穷大；要是没有，令 $u=\nu(y)/\pi(y)$。$u>0$ 时 $\log u\le u-1$，只在 $u=1$ 处相等。先假定凡是 $\nu(y)>0$ 的回答，都有 $\pi(y)>0$。这时 $\sum_y\pi(y)\,(u-1)=\sum_y\nu(y)-\sum_y\pi(y)=0$，把这个和加进去，值不变：
#
# $$\mathrm{KL}(\pi\,\|\,\nu)=\sum_y\pi(y)\,(-\log u)=\sum_y\pi(y)\,(u-1-\log u)\ge 0$$
#
# 每一项都不小于零，只在 $\nu(y)=\pi(y)$ 处等于零。若 $\pi$ 漏掉了一些回答，它们在 $\nu$ 下的总概率是 $m$，那么 $\sum_y\pi(y)\,(u-1)$ 等于 $-m$，KL 就是上式最后那个和再加 $m$，更是大于零。
#
# 和里的这一项 $u-1-\log u$，也是 KL 的一个估计量，[Schulman 2020](http://joschu.net/blog/kl-approx.html) 叫它 $k_3$。它从不为负；只要 $\pi$ 没有漏掉回答，它平均起来就正好是 KL，同 $-\log u$ 一样。策略若用 top-k 或 top-p 采样，就会漏，这时 $k_3$ 平均偏低 $m$。练习 6.3 就来写它。

# %% tags=["proof"] checked_en="Checked on 20 random problems: the inequality, the sum that is added for free, and what answers left out do to both." checked_zh="在 20 个随机问题上验证：这个不等式；加进去不改变值的那个和；漏掉回答时，两者各变成什么。"
u = star / rivals  # the optimum over the rivals: (1000, 20, 6)
pieces = u - 1 - u.log()
assert (pieces >= 0).all() and (pieces[(u - 1).abs() > 1e-3] > 0).all()
assert torch.allclose((rivals * (u - 1)).sum(-1), torch.zeros(1000, INSTANCES).double())
assert torch.allclose((rivals * pieces).sum(-1), kl(rivals.log(), star.log()))
assert kl(star.log(), optimal_policy(problem, beta)).abs().max() < 1e-12  # equal: zero
short = rivals[..., 1:] / rivals[..., 1:].sum(-1, keepdim=True)  # leaves out the first
there = star[..., 1:] / short
left_out = star[:, 0].expand(1000, INSTANCES)
assert torch.allclose((short * (there - 1)).sum(-1), -left_out)
kl_of_short = (short * (short / star[:, 1:]).log()).sum(-1)
third = (short * (there - 1 - there.log())).sum(-1)
assert torch.allclose(third + left_out, kl_of_short)

# %% [markdown] lang="en"
# ## ⋆ The other direction
# What is the difference between $\mathrm{KL}(\pi\,\|\,\pi_{\mathrm{ref}})$ and $\mathrm{KL}(\pi_{\mathrm{ref}}\,\|\,\pi)$? Let a distribution with two bumps be given, and look for the one-bump distribution that is nearest to it. Reverse KL averages over the one that we look for: it must not write where the given one does not, but may leave out as much as it likes. So it sits on one bump. Forward KL averages over the given one: nothing that it writes may be left out, so the nearest is spread over both. The field's words are **mode-seeking** and **mass-covering**.

# %% [markdown] lang="zh"
# ## ⋆ 另一个方向
# $\mathrm{KL}(\pi\,\|\,\pi_{\mathrm{ref}})$ 和 $\mathrm{KL}(\pi_{\mathrm{ref}}\,\|\,\pi)$，差别在哪里？给定一个有两个峰的分布，去找离它最近的单峰分布。反向 KL 按我们要找的那个取平均：给定的分布不写的地方，它也不能写；但漏掉多少，随它的便。所以它只守着一个峰。正向 KL 按给定的那个取平均：它写的，一样也不许漏，所以最近的那个摊开来盖住两个峰。行话是**追逐众数**（mode-seeking）和**覆盖全体**（mass-covering）。

# %%
places = torch.arange(-20, 21).double()


def bump(centre, width):
    return (-0.5 * ((places - centre) / width) ** 2).log_softmax(-1)


two_bumps = torch.logaddexp(bump(-8, 2), bump(8, 2)) - math.log(2)
singles = torch.stack([bump(m, w) for m in range(-20, 21) for w in range(1, 13)])
nearest = {
    "reverse": singles[kl(singles, two_bumps).argmin()],
    "forward": singles[kl(two_bumps, singles).argmin()],
}
for name, single in nearest.items():
    on_the_left = single.exp()[places < 0].sum().item()
    print(f"{name}: {on_the_left:.2f} of the mass on the left")
    if name == "reverse":
        assert max(on_the_left, 1 - on_the_left) > 0.99
    else:
        assert 0.4 < on_the_left < 0.6


# %% tags=["figure"] alt_en="Probability along a line of places from -20 to 20. Grey: two equal bumps at -8 and 8. Blue, the nearest in reverse KL: one tall bump that coincides with one of the two. Orange, the nearest in forward KL: one broad hill over both, highest in the gap between them." alt_zh="横轴是位置，从 -20 到 20；纵轴是概率。灰：两个同样的峰，在 -8 和 8。蓝，反向 KL 最近的：一个高峰，与其中一个峰重合。橙，正向 KL 最近的：一座宽丘，盖住两个峰，最高处在两峰之间的空隙上。"
@picture
def two_bumps_and_the_nearest(say):
    _, axes = figure(height=3.2)
    axes.fill_between(
        places, two_bumps.exp(), color=COLORS["ref"], alpha=0.35, linewidth=0
    )
    axes.plot(places, nearest["reverse"].exp(), color=COLORS["policy"])
    axes.plot(places, nearest["forward"].exp(), color=COLORS["baseline"])
    peak = places[nearest["reverse"].argmax()].item()
    top = nearest["reverse"].exp().max().item()
    axes.text(
        -peak, 0.115, say("given: two bumps", "给定的双峰"), color=INK, ha="center"
    )
    label = say("nearest in reverse KL", "反向 KL 最近")
    axes.text(peak, top + 0.01, label, color=COLORS["policy"], ha="center")
    label = say("nearest in\nforward KL", "正向 KL 最近")
    axes.text(0, 0.055, label, color=COLORS["baseline"], ha="center")
    axes.set(
        xlabel=say("place", "位置"),
        ylabel=say("probability", "概率"),
        ylim=(0, top + 0.04),
    )


# %% [markdown] lang="en"
# **Figure 6.1.** One bump must stand for two. Reverse KL sits on one of them, forward KL covers both and writes most where there is nothing.
#
# Now penalise by $\mathrm{KL}(\pi_{\mathrm{ref}}\,\|\,\pi)$ instead. For $(0.8,\,0.15,\,0.05)$ it is 0.25, not 0.20; for $(1,0,0)$ it is infinite, because the policy has dropped answers. Its optimum has another form. Maximise $\sum_y\pi(y)\,r(y)-\beta\,\mathrm{KL}(\pi_{\mathrm{ref}}\,\|\,\pi)$ subject to $\sum_y\pi(y)=1$, with a multiplier $\lambda$ as above. The KL contains $\pi$ only as $-\pi_{\mathrm{ref}}(y)\log\pi(y)$, so
#
# $$r(y)+\beta\,\frac{\pi_{\mathrm{ref}}(y)}{\pi(y)}-\lambda=0\quad\Longrightarrow\quad\pi(y)=\frac{\beta\,\pi_{\mathrm{ref}}(y)}{\lambda-r(y)}\tag{6.9}.$$
#
# $\lambda$ must exceed every reward, and the probabilities must sum to 1. The larger $\lambda$, the smaller the sum, so halving an interval finds it. (Multiply the first equation by $\pi(y)$ and add up: $\lambda=\mathbb{E}_{y\sim\pi}[r(y)]+\beta$.)
#
# On the toy this optimum is $(0.841,\,0.116,\,0.044)$, with $\lambda=1.30$. Now make the third answer terrible: reward -10 in place of -1. The optimum of our objective then writes it once in $10^{10}$ answers; the other one writes it once in 113. One shrinks like the exponential of the reward, the other like one over the reward. If some answers must be very rare, the direction in the objective is the one to have.

# %% [markdown] lang="zh"
# **图 6.1** 用一个峰代替两个峰。反向 KL 守着其中一个；正向 KL 两个都盖住，写得最多的地方却什么也没有。
#
# 现在改用 $\mathrm{KL}(\pi_{\mathrm{ref}}\,\|\,\pi)$ 来惩罚。对 $(0.8,\,0.15,\,0.05)$，它是 0.25，不是 0.20；对 $(1,0,0)$，它是无穷大，因为策略丢了回答。最优解的形式也不同。在 $\sum_y\pi(y)=1$ 的条件下最大化 $\sum_y\pi(y)\,r(y)-\beta\,\mathrm{KL}(\pi_{\mathrm{ref}}\,\|\,\pi)$，照前面那样用乘子 $\lambda$。这个 KL 里只有 $-\pi_{\mathrm{ref}}(y)\log\pi(y)$ 含 $\pi$，所以
#
# $$r(y)+\beta\,\frac{\pi_{\mathrm{ref}}(y)}{\pi(y)}-\lambda=0\quad\Longrightarrow\quad\pi(y)=\frac{\beta\,\pi_{\mathrm{ref}}(y)}{\lambda-r(y)}\tag{6.9}$$
#
# $\lambda$ 要大于每一个奖励，概率加起来要等于 1。$\lambda$ 越大，和越小，所以用二分法就能找到它。（把左边的方程乘上 $\pi(y)$ 再求和，得到 $\lambda=\mathbb{E}_{y\sim\pi}[r(y)]+\beta$。）
#
# 在手算例子里，换了方向的最优解是 $(0.841,\,0.116,\,0.044)$，$\lambda=1.30$。现在让第三个回答糟透：奖励从 -1 改成 -10。我们那个目标的最优解，大约 $10^{10}$ 个回答里写它一次；换了方向的，113 个里就写一次。奖励越低，前者按指数缩小，后者只按反比缩小。要是有些回答必须极其罕见，就该用目标里的这个方向。


# %% tags=["setup"]
def other_direction(ref, r, beta):
    """(policy, λ) that maximise E[r] - β KL(ref ‖ policy); λ by halving an interval."""
    low = r.amax(-1, keepdim=True)  # here the sum is above 1
    high = low + beta  # here it is below
    for _ in range(100):
        middle = (low + high) / 2
        above = (beta * ref / (middle - r)).sum(-1, keepdim=True) > 1
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    return beta * ref / (middle - r), middle


# %%
turned, toy_lambda = other_direction(toy_ref, toy.reward, 0.5)
terrible = Problem(toy.ref_logps, torch.tensor([1, 0, -10]).double())
rare = optimal_policy(terrible, 0.5).exp()[2].item()
rare_turned = other_direction(toy_ref, terrible.reward, 0.5)[0][2].item()
print(
    turned.numpy().round(3),
    f"{toy_lambda.item():.2f}",
    f"{rare:.0e}",
    round(1 / rare_turned),
)
assert [f"{x:.3f}" for x in turned] == ["0.841", "0.116", "0.044"]
assert f"{toy_lambda.item():.2f}" == "1.30" and 0.9e-10 < rare < 1.1e-10
assert round(1 / rare_turned) == 113
backward = [kl(toy.ref_logps, policy.log()).item() for policy in by_hand[1:3]]
assert f"{backward[0]:.2f}" == "0.25" and backward[1] == math.inf

# %% tags=["proof"] checked_en="Checked on 20 random problems: probabilities that add up to 1, the multiplier, and the optimum of a numerical minimiser that knows nothing of the formula." checked_zh="在 20 个随机问题上验证：概率加起来是 1；乘子的值；数值方法直接求出的最优解（它事先不知道这个公式）。"
swapped, lam = other_direction(ref, r, beta)
assert torch.allclose(swapped.sum(-1), torch.ones(INSTANCES).double())
assert torch.allclose(lam[:, 0], (swapped * r).sum(-1) + beta[:, 0])
assert torch.allclose(swapped.log(), other_optimum(problem, beta))  # the library's


def minus_objective(z):
    forward = kl(problem.ref_logps, z.log_softmax(-1))
    return beta[:, 0] * forward - mean(z.log_softmax(-1), r)


found = minimise(minus_objective, r)
assert torch.allclose(found.softmax(-1), swapped, atol=1e-7)

# %% [markdown] lang="en"
# ## ⋆ The leash, token by token
# A language model writes tokens. Let $y_t$ be the $t$-th token of an answer and $y_{<t}$ what stands before it. The probability of an answer is a product over its tokens, so its logarithm is a sum, and so is the penalty:
#
# $$\log\frac{\pi(y)}{\pi_{\mathrm{ref}}(y)}=\sum_t\log\frac{\pi(y_t\mid y_{<t})}{\pi_{\mathrm{ref}}(y_t\mid y_{<t})}.$$
#
# Take the mean over answers of the policy. On the left stands the KL of answers. On the right, each fork contributes the KL of its two next-token distributions, weighted by how often *the policy* comes by. This is the chain rule of KL.
#
# Ouyang et al. take the penalty token by token: subtract $\beta\log(\pi/\pi_{\mathrm{ref}})$ at each, and add the reward at the last one. (GRPO puts an estimate of the KL into the loss instead; chapter 12.) The sum is the reward minus the penalty of the whole answer. (The sum: a mean over tokens would be another objective.) We enumerate trees with two tokens of three kinds, nine answers.

# %% [markdown] lang="zh"
# ## ⋆ 逐个词元看绳子
# 语言模型是一个词元一个词元地写。记 $y_t$ 为回答的第 $t$ 个词元，$y_{<t}$ 为它前面的部分。回答的概率是各词元概率的乘积，取对数就成了和，惩罚也跟着成了和：
#
# $$\log\frac{\pi(y)}{\pi_{\mathrm{ref}}(y)}=\sum_t\log\frac{\pi(y_t\mid y_{<t})}{\pi_{\mathrm{ref}}(y_t\mid y_{<t})}$$
#
# 对策略写出的回答取平均：左边是整个回答的 KL；右边，每个岔口（每种可能的 $y_{<t}$）贡献一份，即两个下一词元分布之间的 KL，权重是*策略*走到那里的概率。这就是 KL 的链式法则。
#
# Ouyang 等人的惩罚就是逐个词元扣的：在每个词元上减去 $\beta\log(\pi/\pi_{\mathrm{ref}})$，在最后一个词元上加奖励。（GRPO 不这样，它把 KL 的估计值放进损失；见第 12 章。）加起来，就是奖励减去整个回答的惩罚。（一定要相加；若对词元取平均，就是另一个目标了。）下面把树整个列出来：两个词元，每个有三种写法，共九个回答。

# %% tags=["proof"] checked_en="Checked on 20 random trees: the log-ratios of the tokens add up, and the KL of answers is that of the forks, weighted by the policy." checked_zh="在 20 棵随机的树上验证：各词元的对数比相加；整个回答的 KL，等于各岔口的 KL 按策略加权。"
first, first_ref = random_policies(2, INSTANCES, 3, seed=SEED + 2)  # (20, 3)
second, second_ref = random_policies(2, INSTANCES, 3, 3, seed=SEED + 3)  # (20, 3, 3)
answers = (first[..., None] + second).flatten(1)  # (20, 9): of the whole answers
answers_ref = (first_ref[..., None] + second_ref).flatten(1)
ratios = (first - first_ref)[..., None] + (second - second_ref)  # added over tokens
of_answers = kl(answers, answers_ref)
assert torch.allclose((answers.exp() * ratios.flatten(1)).sum(-1), of_answers)
forks = kl(first, first_ref) + (first.exp() * kl(second, second_ref)).sum(-1)
assert torch.allclose(of_answers, forks)

# %% [markdown] lang="en"
# ## V, the soft maximum
# The height of the maximum has a name of its own, $V=\beta\log Z$. It is measured in units of reward, and it is a **soft maximum** of the rewards (a weighted logsumexp, not the softmax of chapter 2). Let $r_{\max}$ be the largest reward and $p_{\max}$ the probability with which the reference reaches it. Then
#
# $$\mathbb{E}_{\pi_{\mathrm{ref}}}[r]\le V\le r_{\max},\qquad V\ge r_{\max}+\beta\log p_{\max}.$$
#
# The first: $\mathbb{E}_{\pi_{\mathrm{ref}}}[r]$ is $J(\pi_{\mathrm{ref}})$, and $V$ is the maximum. The second: the penalty is never negative. The third is the $J$ of a policy that writes only the best answers. On the toy, $V=0.5\log 4.02=0.70$, between 0.3 and 1.
#
# Take logarithms in equation 6.5:
#
# $$\log\frac{\pi^*(y)}{\pi_{\mathrm{ref}}(y)}=\frac{r(y)-V}{\beta}\tag{6.12}.$$
#
# > **Before you run it.** In the pair $(y_2,y_3)$, the better answer is $y_2$. Does the optimum write $y_2$ more often than the reference does?
# >
# > <details><summary>Answer</summary>
# >
# > No: less often. Its reward, 0, is below $V$.
# >
# > </details>
#
# An answer gains probability if its reward exceeds $V$, and loses if it is below. To be better than some other answer is not enough. $y_2$ has more reward than $y_3$, and still falls from 0.3 to 0.075: in a pair of both, the winner, too, becomes rarer. [Chapter 9](09_dpo.ipynb) meets this in a network. And a constant added to the rewards of all answers to a prompt only moves $V$: $\pi^*$ stays as it is.

# %% [markdown] lang="zh"
# ## V，软最大值
# 最大点的高度有自己的记号：$V=\beta\log Z$。它以奖励为单位，是各个奖励的**软最大值**（soft maximum；它是 logsumexp 的加权形式，不是第 2 章的 softmax）。记 $r_{\max}$ 为最大的奖励，$p_{\max}$ 为参考策略拿到它的概率，那么
#
# $$\mathbb{E}_{\pi_{\mathrm{ref}}}[r]\le V\le r_{\max},\qquad V\ge r_{\max}+\beta\log p_{\max}$$
#
# 第一个不等号：$\mathbb{E}_{\pi_{\mathrm{ref}}}[r]$ 就是 $J(\pi_{\mathrm{ref}})$，而 $V$ 是 $J$ 的最大值。第二个：惩罚不会是负的。第三个的右边，是只写最好的回答时的 $J$。在手算例子里，$V=0.5\log 4.02=0.70$，在 0.3 和 1 之间。
#
# 对式 6.5 两边取对数：
#
# $$\log\frac{\pi^*(y)}{\pi_{\mathrm{ref}}(y)}=\frac{r(y)-V}{\beta}\tag{6.12}$$
#
# > **先猜一猜。** 样本对 $(y_2,y_3)$ 里，较好的是 $y_2$。最优解写 $y_2$，比参考策略写得多吗？
# >
# > <details><summary>答案</summary>
# >
# > 不，更少。它的奖励是 0，低于 $V$。
# >
# > </details>
#
# 奖励高于 $V$ 的回答，概率上升；低于 $V$ 的，下降。只比某一个回答好，是不够的。$y_2$ 的奖励比 $y_3$ 高，概率照样从 0.3 掉到 0.075：拿它俩配成一对，赢的那个也会变少。[第 9 章](09_dpo.ipynb)会在网络上碰到这件事。另外，给同一个提示的所有回答，奖励都加上一个常数，只会挪动 $V$，$\pi^*$ 不变。

# %%
toy_V = 0.5 * toy_Z.log()
log_ratio = (toy_star / toy_ref).log()
print(f"V = {toy_V:.2f}", log_ratio.numpy().round(2))
assert f"{toy_V:.2f}" == "0.70" and 0.3 < toy_V < 1 and 1 + 0.5 * math.log(0.5) < toy_V
assert torch.allclose(log_ratio, (toy.reward - toy_V) / 0.5)
assert (toy_star < toy_ref).tolist() == [False, True, True]
lifted_star, lifted_Z = tilt(toy_ref, toy.reward + 5, 0.5)
assert torch.allclose(lifted_star, toy_star)
assert torch.isclose(0.5 * lifted_Z.log(), toy_V + 5)

# %% tags=["proof"] checked_en="Checked on 20 random problems: the three bounds on V; V of equal rewards; who gains and who loses; what a constant does." checked_zh="在 20 个随机问题上验证：V 的三个界；奖励全相等时的 V；谁升谁降；加一个常数会怎样。"
V = beta[:, 0] * log_partition(problem, beta)  # (20,)
best = r == r.amax(-1, keepdim=True)
assert ((ref * r).sum(-1) < V).all() and (r.amax(-1) > V).all()
floor = r.amax(-1) + beta[:, 0] * (ref * best).sum(-1).log()
assert torch.allclose(V, floor - beta[:, 0] * (star * best).sum(-1).log())
assert (floor < V).all()
flat = Problem(problem.ref_logps, torch.full_like(r, 3))
assert (beta[:, 0] * log_partition(flat, beta) - 3).abs().max() < 1e-12
assert torch.allclose((star / ref).log(), (r - V[:, None]) / beta)
assert torch.equal(star > ref, r > V[:, None])
between = (r > (ref * r).sum(-1, keepdim=True)) & (r < V[:, None])
assert (
    between.any() and (star < ref)[between].all()
)  # above the mean, and still they fall
lifted = Problem(problem.ref_logps, r + 5)
assert torch.allclose(beta[:, 0] * log_partition(lifted, beta), V + 5)
assert torch.allclose(optimal_policy(lifted, beta), star.log())

# %% [markdown] lang="en"
# ## The two ends of beta
# A small $\beta$ is a long leash. Let $\beta$ fall to 0. The ratio of two answers is multiplied by $e^{(r_1-r_2)/\beta}$, which grows without bound as soon as the rewards differ: all mass moves to the best answers. Several best answers keep the reference's proportions, and the KL ends at $\log(1/p_{\max})$. Let $\beta$ grow without bound. Every factor $e^{r/\beta}$ goes to 1 and $\pi^*$ goes to the reference.

# %% [markdown] lang="zh"
# ## beta 的两头
# $\beta$ 小，绳子就长。先让 $\beta$ 降到 0。两个回答的概率之比，要乘上 $e^{(r_1-r_2)/\beta}$；只要前一个奖励更高，这个系数就无限增大，概率于是全归到最好的回答上。并列最好的几个，彼此保持参考策略下的比例；KL 停在 $\log(1/p_{\max})$。再让 $\beta$ 无限增大。系数 $e^{r/\beta}$ 个个趋于 1，$\pi^*$ 回到参考策略。

# %%
betas = np.geomspace(0.03, 60, 200)
path = torch.stack([tilt(toy_ref, toy.reward, b)[0] for b in betas])  # (200, 3)
print(path[0].numpy().round(3), path[-1].numpy().round(3))
assert path[0, 0] > 0.999 and (path[-1] - toy_ref).abs().max() < 0.01


def draw_marks(axes, corners, say):
    """On the triangle of policies: the reference, the optimum at β = 1, the corners."""
    axes.plot(*(toy_ref @ corners), "o", color=COLORS["ref"])
    at_one = tilt(toy_ref, toy.reward, 1)[0] @ corners
    axes.plot(*at_one, "*", color=COLORS["theory"], markersize=13)
    names = {"$y_1$": (0.5, 0.9), "$y_2$": (-0.07, -0.03), "$y_3$": (1.07, -0.03)}
    for name, place in names.items():
        axes.text(*place, name, ha="center")
    thin = {"arrowstyle": "-", "color": INK, "linewidth": 0.6}  # a line to the mark
    optimum = say("optimum,\n$\\beta=1$", "最优解，\n$\\beta=1$")
    place = {"xytext": (0.25, 0.72), "ha": "right", "va": "center"}
    axes.annotate(optimum, at_one, arrowprops=thin, **place)
    place = {"xytext": (0.8, 0.52), "ha": "left", "va": "center"}
    axes.annotate(
        say("reference", "参考策略"), toy_ref @ corners, arrowprops=thin, **place
    )
    axes.set(xlim=(-0.15, 1.15), ylim=(-0.08, 1.0), aspect="equal")
    axes.axis("off")


# %% tags=["proof"] checked_en="Checked on 20 random problems, with rewards rounded so that some tie: both ends, and the first-order approach to the reference, by the reward less its mean." checked_zh="在 20 个随机问题上验证：奖励取整，好让它们并列；两头的极限；回到参考策略时的一阶变化，即奖励减去平均奖励。"
tied = Problem(problem.ref_logps, r.round())
top = ref * (tied.reward == tied.reward.amax(-1, keepdim=True))
p_max = top.sum(-1, keepdim=True)
greedy_end = optimal_policy(tied, 1e-3)
assert torch.allclose(greedy_end.exp(), top / p_max)
assert torch.allclose(kl(greedy_end, tied.ref_logps), (1 / p_max[:, 0]).log())
assert torch.allclose(optimal_policy(problem, 1e12).exp(), ref)
change = 1e6 * (optimal_policy(problem, 1e6).exp() / ref - 1)
assert torch.allclose(change, r - (ref * r).sum(-1, keepdim=True), atol=1e-4)


# %% tags=["figure"] alt_en="Left: a triangle whose corners are the three answers, with contour lines of J around a star near the upper corner y1. A curve runs from the reference, a point inside the triangle, to the corner y1 and passes through the star. Right: the three probabilities of the optimum against beta on a logarithmic axis. For small beta, y1 has probability 1; for large beta the lines end at 0.5, 0.3 and 0.2. The line of y2 starts at 0." alt_zh="左图：三角形的三个顶点是三个回答，J 的等高线围着一颗星，星靠近上方的顶点 y1。一条曲线从三角形内部的参考策略出发，经过星号，到顶点 y1 为止。右图：最优解的三个概率随 beta 变化，横轴取对数。beta 小时 y1 的概率是 1；beta 大时，三条线停在 0.5、0.3、0.2。y2 的线从 0 出发。"
@picture
def path_of_the_optimum(say):
    corners = torch.tensor([[0.5, 0.866], [0.0, 0.0], [1.0, 0.0]]).double()
    steps = torch.arange(1, 100).double() / 100
    pairs = torch.cartesian_prod(steps, steps)
    grid = torch.cat((pairs, 1 - pairs.sum(1, keepdim=True)), 1)[pairs.sum(1) < 0.995]
    _, (left, right) = figure(columns=2, width=7.4, height=3.4)
    levels = [-1, -0.6, -0.2, 0.1, 0.3, 0.43, 0.52]
    gray = {"colors": COLORS["ref"], "linewidths": 0.8, "linestyles": "-"}
    left.tricontour(
        *(grid @ corners).T, objective(grid.log(), toy, 1), levels=levels, **gray
    )
    left.fill(*corners.T, fill=False, edgecolor=INK)
    left.plot(*(path @ corners).T, color=COLORS["theory"])
    draw_marks(left, corners, say)
    for i, style in enumerate(("-", "--", ":")):
        right.semilogx(betas, path[:, i], style, color=COLORS["theory"])
        right.text(75, path[-1, i], f"$y_{i + 1}$", va="center")
    right.set_xticks([0.1, 1, 10], ["0.1", "1", "10"])
    right.set(
        xlabel=say(r"weight of the KL, $\beta$", r"KL 的权重 $\beta$"),
        ylabel=say("probability under the optimum", "最优解下的概率"),
        xlim=(0.028, 200),
    )


# %% [markdown] lang="en"
# **Figure 6.2.** Left: all policies over three answers; grey lines join those of equal $J$ at $\beta=1$, the star is the best of them. The curve is the way of the optimum as the leash gets longer, from the reference to the corner $y_1$. Right: the same way against $\beta$.
#
# ### A wrong reward on a leash
# Back to $y_4$, which the reference writes once in 1,000 times and the reward model overrates by 4 points.
#
# > **Before you run it.** Lengthen the leash, from $\beta=1$ to 0.5 to 0.25. The mean reward that is *believed* can only rise. Which way does the *true* mean worth go?
# >
# > <details><summary>Answer</summary>
# >
# > First up, because bad answers give way to $y_1$; then steeply down, because $y_4$ takes over.
# >
# > </details>

# %% [markdown] lang="zh"
# **图 6.2** 左：三个回答上的全部策略；灰线是 $\beta=1$ 时 $J$ 的等高线，星号是其中最好的。曲线是绳子放长时最优解走过的路：从参考策略到顶点 $y_1$。右：同一条路，横轴换成 $\beta$。
#
# ### 有绳子，但奖励错了
# 回到 $y_4$：参考策略 1,000 次才写一次，奖励模型把它高估了 4 分。
#
# > **先猜一猜。** 把绳子放长，从 $\beta=1$ 到 0.5，再到 0.25。*自以为*的平均奖励只会上升。*真实*的平均价值往哪边走？
# >
# > <details><summary>答案</summary>
# >
# > 先升，因为差的回答让位给 $y_1$；然后猛跌，因为 $y_4$ 占了上风。
# >
# > </details>

# %%
wrong = Problem(four_ref.log(), believed)
leashes = [1, 0.5, 0.25]
policies = torch.stack([optimal_policy(wrong, b) for b in leashes])
for b, policy in zip(leashes, policies):
    print(f"beta {b:4}   y4 {policy[3].exp():6.1%}", end="   ")
    print(f"believed {mean(policy, believed):.2f}   true {mean(policy, worth):5.2f}")
assert [f"{x:.2f}" for x in mean(policies, believed)] == ["0.77", "1.10", "2.71"]
assert [f"{x:.2f}" for x in mean(policies, worth)] == ["0.72", "0.74", "-0.71"]
along = torch.stack([optimal_policy(wrong, b) for b in np.geomspace(50, 0.08, 200)])
nats, believes, earns = (
    kl(along, wrong.ref_logps),
    mean(along, believed),
    mean(along, worth),
)
turn = earns.argmax()
assert (believes.diff() > 0).all() and abs(earns.max() - 0.78) < 0.01
assert (earns[: turn + 1].diff() > 0).all() and (earns[turn:].diff() < 0).all()


# %% tags=["figure"] alt_en="Mean reward against KL from the reference, up to 7 nats. The dashed believed curve rises all the way to 3. The solid true curve rises to about 0.78 near 0.4 nats, then falls through zero to -1. Dots mark beta = 1, 0.5 and 0.25 on both." alt_zh="横轴是相对参考策略的 KL，到 7 奈特；纵轴是平均奖励。虚线是自以为的，一路升到 3。实线是真实的，在约 0.4 奈特处升到 0.78，然后穿过零，跌到 -1。两条线上都用圆点标出 beta 等于 1、0.5、0.25。"
@picture
def overoptimisation(say):
    _, axes = figure()
    x = kl(policies, wrong.ref_logps)
    believed_words = say("believed", "自以为的")
    true_words = say("true", "真实的")
    for values, at, color, style, words, height in (
        (believes, mean(policies, believed), "rejected", "--", believed_words, 1.8),
        (earns, mean(policies, worth), "chosen", "-", true_words, 0.0),
    ):
        axes.plot(nats, values, style, color=COLORS[color])
        axes.plot(x, at, "o", color=COLORS[color])
        axes.text(4.2, height, words, color=COLORS[color])
    for b, left, height in zip(leashes, x, mean(policies, believed)):
        place = {"xytext": (2, -22)} if b == 1 else {"xytext": (-6, 8), "ha": "right"}
        axes.annotate(
            rf"$\beta={b}$", (left, height), textcoords="offset points", **place
        )
    axes.set(
        xlabel=say("KL from the reference (nats)", "相对参考策略的 KL（奈特）"),
        ylabel=say("mean reward of the optimum", "最优解的平均奖励"),
        xlim=(-0.2, 7.1),
    )


# %% [markdown] lang="en"
# **Figure 6.3.** A reward that is wrong about one rare answer. A longer leash helps at first, then it pays for the mistake.
#
# This is **over-optimisation**; where, as here, the true reward falls while the believed one rises, one also speaks of **reward hacking** ([chapter 12](12_rl.ipynb)). [Gao et al. 2023](https://arxiv.org/abs/2210.10760) measure it: one fixed reward model takes the place of people, and others are trained on its labels. The leash does not repair the reward. It limits how far one relies on it. (In their runs a KL penalty did not measurably raise the true reward reached at a given KL; they add that this may depend on hyper-parameters.)

# %% [markdown] lang="zh"
# **图 6.3** 奖励只错在一个罕见的回答上。绳子放长，起先有好处，后来就要为那个错买单。
#
# 这就是**过度优化**（over-optimisation）；像这里，自以为的奖励还在升，真实的却在跌，又叫**奖励作弊**（reward hacking，又译奖励黑客，见[第 12 章](12_rl.ipynb)）。[Gao et al. 2023](https://arxiv.org/abs/2210.10760) 量过它：让一个固定的奖励模型顶替真人，再用它给的标签训练别的奖励模型。绳子修不好奖励，只能管住策略，不让它跟着奖励走得太远。（他们的实验里，加了 KL 惩罚，在同样的 KL 处，真实奖励并没有明显变多；他们也说，这可能与超参数有关。）

# %% [markdown] lang="en"
# ## The reward–KL frontier
# For every $\beta$ the optimum has a mean reward and a KL. Draw one against the other, and the points form a curve, the **reward–KL frontier**. It is the picture on which every method of this book will be placed. Nothing lies above it. For every policy and every price $b>0$ we have $J(\pi)\le V$, where $V(b)$ is the height for that price; move the penalty to the right,
#
# $$\mathbb{E}_{y\sim\pi}[r(y)]\le V(b)+b\,\mathrm{KL}(\pi\,\|\,\pi_{\mathrm{ref}}).$$
#
# In the plot the right side is a straight line with slope $b$, which touches the frontier at the optimum for $b$. No policy is above any of these lines. So $\beta$ is the slope of the frontier: the last nat bought at $\beta$ brings $\beta$ of reward, as a price should. (The ⋆ section below computes the slope.)

# %% [markdown] lang="zh"
# ## 奖励–KL 前沿
# 每个 $\beta$ 的最优解，都有一个平均奖励、一个 KL。KL 作横轴，平均奖励作纵轴，这些点连成一条曲线，叫**奖励–KL 前沿**（reward–KL frontier）。本书的各种做法，后面都要标在这张图上。没有策略在前沿上方。对任何策略、任何 $b>0$ 都有 $J(\pi)\le V$，其中 $V(b)$ 是惩罚的权重取 $b$ 时的高度；把惩罚移到右边，
#
# $$\mathbb{E}_{y\sim\pi}[r(y)]\le V(b)+b\,\mathrm{KL}(\pi\,\|\,\pi_{\mathrm{ref}})$$
#
# 把不等式的右边画在图上，是一条斜率为 $b$ 的直线，与前沿相切，切点就是 $b$ 的最优解。没有策略高过其中任何一条。所以 $\beta$ 就是前沿的斜率：走到最优解，最后一奈特正好换来 $\beta$ 的奖励。（斜率怎么算，见下面带 ⋆ 的一节。）

# %%
cloud = random_policies(3_000, 3, seed=6, scale=1.5)
cloud_nats, cloud_reward = kl(cloud, toy.ref_logps), mean(cloud, toy.reward)
rewards, distances = frontier(toy, np.geomspace(1e5, 0.03, 1000))  # from KL 0 upwards
over_cloud = np.interp(cloud_nats, distances, rewards)
assert (cloud_reward.numpy() < over_cloud + 1e-5).all()  # no dot above the frontier
touching = mean(toy_star.log(), toy.reward), kl(toy_star.log(), toy.ref_logps)
assert torch.isclose(
    touching[0], toy_V + 0.5 * touching[1]
)  # the tangent meets the star
print(f"the star: reward {touching[0]:.3f}, KL {touching[1]:.3f}")

# %% tags=["proof"] checked_en="Checked on 20 random problems and 200 prices: the frontier is concave, its slope lies between the prices, the lowest tangent is the frontier, and each rival is below each line by the price times its KL to that optimum." checked_zh="在 20 个随机问题上验证：取 200 个权重，前沿是凹的，斜率夹在相邻两个权重之间；最低的切线就是前沿；每个对手比每条线低多少，等于权重乘以它到那个最优解的 KL。"
prices = torch.logspace(-2, 2, 200, dtype=torch.float64)  # (200,)
partitions = [log_partition(problem, b) for b in prices.tolist()]
heights_at = prices * torch.stack(partitions, -1)  # V(b): (20, 200)
top_reward, top_kl = frontier(problem, prices.tolist())  # (20, 200) each
less_reward, less_kl = -top_reward.diff(), -top_kl.diff()  # to the next price
assert (prices[:-1] * less_kl - 1e-12 <= less_reward).all()  # at least the lower price
assert (
    less_reward <= prices[1:] * less_kl + 1e-12
).all()  # at most the higher: concave
tangents = heights_at[:, None, :] + prices * top_kl[:, :, None]  # (20, points, lines)
assert torch.allclose(tangents.amin(-1), top_reward)
rival_reward = (rivals * r).sum(-1)  # (1000, 20)
rival_kl = kl(rivals.log(), problem.ref_logps)
lines = heights_at + prices * rival_kl[..., None]  # (1000, 20, 200)
optima = torch.stack([optimal_policy(problem, b) for b in prices.tolist()], -1)
own = (rivals * rivals.log()).sum(-1)[..., None]
apart = own - torch.einsum("kia,iab->kib", rivals, optima)  # KL to each optimum
assert torch.allclose(lines - rival_reward[..., None], prices * apart)
assert (rival_reward[..., None] < lines).all()


# %% tags=["figure"] alt_en="Mean reward against KL. A cloud of 3,000 grey dots, random policies, fills the region under a concave curve that rises from (0, 0.3) and becomes flat at 1. A dashed straight line with slope 0.5 touches the curve at a star." alt_zh="横轴是 KL，纵轴是平均奖励。3,000 个灰点是随机策略，填满一条曲线下方的区域；曲线从 (0, 0.3) 升起，先陡后缓，到 1 变平。一条斜率 0.5 的虚线在星号处与曲线相切。"
@picture
def frontier_of_the_toy(say):
    _, axes = figure(height=3.6)
    axes.plot(
        cloud_nats, cloud_reward, ".", color=COLORS["ref"], markersize=2, alpha=0.6
    )
    axes.plot(distances, rewards, color=COLORS["theory"])
    axes.plot(touching[1], touching[0], "*", color=COLORS["theory"], markersize=13)
    x = np.array([0.15, 0.85])
    axes.plot(x, toy_V.item() + 0.5 * x, "--", color=INK, linewidth=1)
    axes.text(0.86, 1.08, say("slope 0.5", "斜率 0.5"), color=INK)
    axes.text(0.72, 0.9, say("frontier", "前沿"), color=COLORS["theory"])
    words = say("random policies", "随机策略")
    axes.text(0.62, 0.45, words, color=COLORS["ref"])
    axes.set(
        xlabel=say("KL from the reference (nats)", "相对参考策略的 KL（奈特）"),
        ylabel=say("mean reward", "平均奖励"),
        xlim=(-0.05, 1.05),
        ylim=(-0.6, 1.2),
    )


# %% [markdown] lang="en"
# **Figure 6.4.** No policy passes the frontier. Its slope at each point is the $\beta$ whose optimum lies there; the star is that of $\beta=0.5$.

# %% [markdown] lang="zh"
# **图 6.4** 没有策略越过前沿。前沿上每一点的斜率，就是最优解落在那里的 $\beta$；星号是 $\beta=0.5$ 的最优解。

# %% [markdown] lang="en"
# ## ⋆ How V and the reward move with beta
# Product rule, then the chain rule inside $Z$:
#
# $$\frac{dV}{d\beta}=\log Z+\beta\cdot\frac1Z\sum_y\pi_{\mathrm{ref}}(y)\,e^{r(y)/\beta}\Big(-\frac{r(y)}{\beta^2}\Big)=\frac{V-\mathbb{E}_{\pi^*}[r]}{\beta}=-\mathrm{KL}(\pi^*\,\|\,\pi_{\mathrm{ref}}).$$
#
# The last step uses $V=J(\pi^*)=\mathbb{E}_{\pi^*}[r]-\beta\,\mathrm{KL}(\pi^*\,\|\,\pi_{\mathrm{ref}})$. In words: raise the price of a nat a little, and you lose the nats that you buy times the rise. That the optimum itself moves does not matter to first order, because at a maximum the slope is zero; this is the *envelope theorem*. So $V$ falls as $\beta$ grows.
#
# For the mean reward at the optimum use $s=1/\beta$. $\mathbb{E}_{\pi^*}[r]=\sum_y r\,\pi_{\mathrm{ref}}\,e^{sr}\big/\sum_y\pi_{\mathrm{ref}}\,e^{sr}$; the quotient rule gives the mean of $r^2$ minus the square of the mean of $r$, a variance:
#
# $$\frac{d\,\mathbb{E}_{\pi^*}[r]}{ds}=\mathrm{Var}_{\pi^*}(r)\ge 0.$$
#
# The KL is the mean of $(r-V)/\beta$, that is $s\,\mathbb{E}_{\pi^*}[r]-\log Z$; its derivative is $\mathbb{E}_{\pi^*}[r]+s\,\mathrm{Var}_{\pi^*}(r)-\mathbb{E}_{\pi^*}[r]=s\,\mathrm{Var}_{\pi^*}(r)$. Divide one by the other, and the slope of the frontier is
#
# $$\frac{d\,\mathbb{E}_{\pi^*}[r]}{d\,\mathrm{KL}(\pi^*\,\|\,\pi_{\mathrm{ref}})}=\frac1s=\beta.$$
#
# For large $\beta$, expand $e^{r/\beta}$ and the logarithm to second order in $1/\beta$: $V\approx\mathbb{E}_{\pi_{\mathrm{ref}}}[r]+\mathrm{Var}_{\pi_{\mathrm{ref}}}(r)/(2\beta)$, and $\pi^*(y)\approx\pi_{\mathrm{ref}}(y)\,\bigl(1+(r(y)-\mathbb{E}_{\pi_{\mathrm{ref}}}[r])/\beta\bigr)$.

# %% [markdown] lang="zh"
# ## ⋆ V 和奖励随 beta 怎么变
# 先用乘积求导法则，$Z$ 里面再用链式法则：
#
# $$\frac{dV}{d\beta}=\log Z+\beta\cdot\frac1Z\sum_y\pi_{\mathrm{ref}}(y)\,e^{r(y)/\beta}\Big(-\frac{r(y)}{\beta^2}\Big)=\frac{V-\mathbb{E}_{\pi^*}[r]}{\beta}=-\mathrm{KL}(\pi^*\,\|\,\pi_{\mathrm{ref}})$$
#
# 最后一步用到 $V=J(\pi^*)=\mathbb{E}_{\pi^*}[r]-\beta\,\mathrm{KL}(\pi^*\,\|\,\pi_{\mathrm{ref}})$。换成白话：$\beta$ 涨一点点，$V$ 就少掉一点点，少掉的是奈特数乘以涨幅。最优解自己也会跟着挪，但最大点处斜率为零，挪动的影响是更高阶的小量；这叫*包络定理*（envelope theorem）。所以 $\beta$ 变大，$V$ 变小。
#
# 再看最优解的平均奖励，改用 $s=1/\beta$。$\mathbb{E}_{\pi^*}[r]=\sum_y r\,\pi_{\mathrm{ref}}\,e^{sr}\big/\sum_y\pi_{\mathrm{ref}}\,e^{sr}$；用商的求导法则，得到的是 $r^2$ 的平均，减去 $r$ 的平均值的平方，也就是方差：
#
# $$\frac{d\,\mathbb{E}_{\pi^*}[r]}{ds}=\mathrm{Var}_{\pi^*}(r)\ge 0$$
#
# KL 是 $(r-V)/\beta$ 的平均，即 $s\,\mathbb{E}_{\pi^*}[r]-\log Z$；求导得 $\mathbb{E}_{\pi^*}[r]+s\,\mathrm{Var}_{\pi^*}(r)-\mathbb{E}_{\pi^*}[r]=s\,\mathrm{Var}_{\pi^*}(r)$。两者相除，就是前沿的斜率：
#
# $$\frac{d\,\mathbb{E}_{\pi^*}[r]}{d\,\mathrm{KL}(\pi^*\,\|\,\pi_{\mathrm{ref}})}=\frac1s=\beta$$
#
# $\beta$ 很大时，把 $e^{r/\beta}$ 和对数都展开到 $1/\beta$ 的二次项：$V\approx\mathbb{E}_{\pi_{\mathrm{ref}}}[r]+\mathrm{Var}_{\pi_{\mathrm{ref}}}(r)/(2\beta)$，而 $\pi^*(y)\approx\pi_{\mathrm{ref}}(y)\,\bigl(1+(r(y)-\mathbb{E}_{\pi_{\mathrm{ref}}}[r])/\beta\bigr)$。

# %% tags=["proof"] checked_en="Checked on 20 random problems, by autograd: the slope of V, the variance, the slope of the frontier, and the expansion for large beta." checked_zh="在 20 个随机问题上验证：用自动求导得到的 V 的斜率；方差；前沿的斜率；beta 很大时的展开式。"
price = beta[:, 0].clone().requires_grad_()  # (20,)
height = price * log_partition(problem, price[:, None])
(dV,) = torch.autograd.grad(height.sum(), price)
assert torch.allclose(dV, -kl(star.log(), problem.ref_logps))
assert torch.allclose(dV, (V - (star * r).sum(-1)) / beta[:, 0])
spread = (star * r**2).sum(-1) - (star * r).sum(-1) ** 2  # under the optimum
inverse = (1 / beta).requires_grad_()  # s: (20, 1)
moved = (problem.ref_logps + inverse * r).log_softmax(-1)
reward_at = mean(moved, r)
nats_at = inverse[:, 0] * reward_at - Z.log()[:, 0]
assert torch.allclose(kl(moved, problem.ref_logps), nats_at)
(dr,) = torch.autograd.grad(reward_at.sum(), inverse, retain_graph=True)
assert torch.allclose(dr[:, 0], spread)
(dkl,) = torch.autograd.grad(kl(moved, problem.ref_logps).sum(), inverse)
assert torch.allclose(dr / dkl, beta)
assert torch.allclose(dkl[:, 0], spread / beta[:, 0]) and (dkl > 0).all()
large, average = 1e4, (ref * r).sum(-1)
variance = (ref * (r - average[:, None]) ** 2).sum(-1)
second_order = large * log_partition(problem, large) - average
assert torch.allclose(second_order, variance / (2 * large), rtol=1e-3)

# %% [markdown] lang="en"
# ## Best of n
# There is a way to better answers that trains nothing: draw $n$ answers from the reference, keep the best; of several best, keep the first. What policy is that, and how far is it from the reference?
#
# **By hand.** Let $n=2$ on the toy. $y_1$ is kept unless both draws miss it: $1-0.5^2=0.75$. $y_3$ is kept only if both draws are $y_3$: $0.2^2=0.04$. The rest, 0.21, is $y_2$. The mean reward rises from 0.30 to 0.71.
#
# **In general.** Let $F(y)$ be the probability that a draw from the reference has a reward of at most $r(y)$, and $F^-(y)$ that it has a smaller one. The best of $n$ has a reward of at most $r(y)$ if all $n$ draws have: $F(y)^n$. So it has exactly $r(y)$ with probability $F(y)^n-F^-(y)^n$. Answers of equal reward are drawn and kept alike, so among themselves they keep the reference's proportions:
#
# $$\pi_n(y)=\pi_{\mathrm{ref}}(y)\,\frac{F(y)^n-F^-(y)^n}{F(y)-F^-(y)}.$$

# %% [markdown] lang="zh"
# ## best-of-n
# 有一种办法，什么也不训练，就能得到更好的回答：从参考策略抽 $n$ 个，留最好的那个；最好的有几个并列，就留先抽到的。这样选出来的，相当于什么策略？离参考策略多远？
#
# **先手算。** 手算例子里取 $n=2$。只要两次里抽到过 $y_1$，留下的就是它：$1-0.5^2=0.75$。两次都是 $y_3$，才留 $y_3$：$0.2^2=0.04$。剩下的 0.21 是 $y_2$。平均奖励从 0.30 升到 0.71。
#
# **一般情形。** 记 $F(y)$ 为参考策略抽一次、奖励不高于 $r(y)$ 的概率，$F^-(y)$ 为低于 $r(y)$ 的概率。$n$ 个里最好的，奖励不高于 $r(y)$，也就是 $n$ 个都不高于 $r(y)$，概率是 $F(y)^n$。恰好等于 $r(y)$ 的概率，便是 $F(y)^n-F^-(y)^n$。奖励相同的回答，抽法、留法都一视同仁，所以彼此保持参考策略下的比例：
#
# $$\pi_n(y)=\pi_{\mathrm{ref}}(y)\,\frac{F(y)^n-F^-(y)^n}{F(y)-F^-(y)}$$


# %% tags=["setup"]
def best_of(n, ref, r):
    """The policy, (..., A), that keeps the best of n draws from `ref`."""
    rival = r[..., None, :]  # against r[..., :, None]: (..., A, A)
    at_most = ((rival <= r[..., :, None]) * ref[..., None, :]).sum(-1)  # F
    less = ((rival < r[..., :, None]) * ref[..., None, :]).sum(-1)
    return ref * (at_most**n - less**n) / (at_most - less)


best_of_two = best_of(2, toy_ref, toy.reward)
earned_by_two = (best_of_two * toy.reward).sum()
print(best_of_two.numpy().round(2), f"mean reward {earned_by_two:.2f}")
assert torch.allclose(
    best_of_two, torch.tensor([0.75, 0.21, 0.04], dtype=torch.float64)
)
assert torch.allclose(best_of_two, best_of_n(toy, 2).exp())  # the library's
assert f"{earned_by_two:.2f}" == "0.71"

# %% tags=["proof"] checked_en="Checked on 20 random problems with ties: the formula equals a list of all triples that can be drawn." checked_zh="在 20 个随机问题上验证：奖励有并列，把连抽三个的所有可能列出来，与公式一致。"
triples = torch.cartesian_prod(*[torch.arange(6)] * 3)  # (216, 3)
chance = ref[:, triples].prod(-1)  # (20, 216)
values = tied.reward[:, triples]  # (20, 216, 3)
kept = one_hot(values.argmax(-1), 3).double()  # argmax takes the first of the best
drawn = one_hot(triples, 6).double()  # (216, 3, 6)
listed = torch.einsum("is,isj,sja->ia", chance, kept, drawn)
assert torch.allclose(best_of(3, ref, tied.reward), listed)
assert torch.allclose(best_of_n(tied, 3).exp(), listed)

# %% [markdown] lang="en"
# **How far is it?** [Stiennon et al. 2020](https://arxiv.org/abs/2009.01325), and many after them, write
#
# $$\mathrm{KL}(\pi_n\,\|\,\pi_{\mathrm{ref}})=\log n-\frac{n-1}{n}\tag{6.18}.$$
#
# That is exact if no two answers tie and each has a tiny probability (a ⋆ section shows why). Real answers tie, and single ones can be probable. Then equation 6.18 is only an upper bound ([Beirami et al. 2025](https://arxiv.org/abs/2401.01879)): for the toy and $n=2$ it says 0.19, the true value is 0.16.
#
# > **Before you run it.** Let the reward only say yes or no, and the reference get a yes with probability $p=0.3$. The best of $n$ fails only if all draws fail, so its share of yes is $1-(1-p)^n$. Where does its KL end as $n$ grows?
# >
# > <details><summary>Answer</summary>
# >
# > At $\log(1/p)=1.20$. It cannot do more than always say yes. The formula grows without bound.
# >
# > </details>

# %% [markdown] lang="zh"
# **离参考策略多远？** [Stiennon et al. 2020](https://arxiv.org/abs/2009.01325) 写道（后来许多人也这么写）：
#
# $$\mathrm{KL}(\pi_n\,\|\,\pi_{\mathrm{ref}})=\log n-\frac{n-1}{n}\tag{6.18}$$
#
# 没有两个回答并列，每个回答的概率又都极小，这才是准确的（为什么，见带 ⋆ 的一节）。真实的回答会并列，单个回答的概率也可能不小，这时式 6.18 只是上界（[Beirami et al. 2025](https://arxiv.org/abs/2401.01879)）：手算例子里 $n=2$，公式给出 0.19，真值是 0.16。
#
# > **先猜一猜。** 设奖励只分「是」「否」，参考策略得「是」的概率是 $p=0.3$。抽到的全是「否」，best-of-n 才得「否」，所以得「是」的比例是 $1-(1-p)^n$。$n$ 越来越大，它的 KL 停在哪里？
# >
# > <details><summary>答案</summary>
# >
# > 停在 $\log(1/p)=1.20$：最多也不过是每次都得「是」。公式却没有上界。
# >
# > </details>

# %%
yes_or_no = Problem(
    torch.tensor([0.3, 0.7], dtype=torch.float64).log(), torch.tensor([1, 0]).double()
)
level = torch.full((4_000,), 1 / 4_000, dtype=torch.float64).log()
tiny = Problem(level, torch.arange(4_000).double())  # all 1 in 4,000, no ties
draws = [1, 2, 4, 8, 16, 32, 64]
formula = [math.log(n) - (n - 1) / n for n in draws]
smooth = np.geomspace(1, 64, 100)
its_formula = np.log(smooth) - (smooth - 1) / smooth
exact = {}
for name, case in (("tiny", tiny), ("toy", toy), ("yes or no", yes_or_no)):
    exact[name] = [kl(best_of_n(case, n), case.ref_logps).item() for n in draws]
    print(f"{name:10}", *(f"{abs(x):5.2f}" for x in exact[name]))
print(f"{'formula':10}", *(f"{x:5.2f}" for x in formula))
assert f"{formula[1]:.2f} {exact['toy'][1]:.2f}" == "0.19 0.16"
assert np.allclose(exact["tiny"], formula, atol=0.01)
assert (np.array(list(exact.values())) < np.array(formula) + 1e-9).all()  # a bound
assert (
    f"{math.log(1 / 0.3):.2f}" == "1.20" and abs(exact["yes or no"][-1] - 1.204) < 1e-3
)


# %% tags=["figure"] alt_en="KL from the reference against n from 1 to 64. A line, the formula, rises to 3.2. Points for 4,000 equally likely answers lie on it. Points for the toy flatten at 0.69, points for yes or no at 1.20, both marked by dashed lines." alt_zh="横轴是 n，从 1 到 64；纵轴是相对参考策略的 KL。公式是一条线，升到 3.2。4,000 个等概率的回答，点落在线上。手算例子的点停在 0.69，「是」「否」的点停在 1.20，各有一条虚线标出。"
@picture
def kl_of_best_of_n(say):
    _, axes = figure(height=3.6)
    axes.semilogx(smooth, its_formula, color=COLORS["theory"], base=2)
    axes.text(20, 2.35, say("formula", "公式"), color=COLORS["theory"], ha="right")
    for name, color, words, limit in (
        ("tiny", "policy", say("4,000 equal answers", "4,000 个等概率回答"), None),
        (
            "yes or no",
            "baseline",
            say("yes or no", "只分「是」「否」"),
            math.log(1 / 0.3),
        ),
        ("toy", "chosen", say("the three answers", "三个回答"), math.log(2)),
    ):
        axes.plot(draws, exact[name], "o", color=COLORS[color])
        axes.text(72, exact[name][-1] + 0.06, words, color=COLORS[color])
        if limit:
            axes.axhline(limit, linestyle="--", color=COLORS[color], linewidth=0.8)
    axes.set_xticks(draws, [str(n) for n in draws])
    axes.set(
        xlabel=say("number of draws, $n$", "抽几个，$n$"),
        ylabel=say("KL from the reference (nats)", "相对参考策略的 KL（奈特）"),
        xlim=(0.9, 360),
    )


# %% [markdown] lang="en"
# **Figure 6.5.** Equation 6.18 is right for many answers of tiny probability and only an upper bound for others. With few levels of reward the KL ends at $\log(1/p_{\max})$ (dashed).
#
# On the toy best-of-n lies at most 0.003 of reward below the frontier. It need not be so near: it asks only which answer is better, never by how much. Let the reference write three answers with probabilities 0.5, 0.49 and 0.01, for rewards of 0, 1 and 100. The best of 4 has a mean reward of 4.84; the frontier at the same KL has 21.6. Nor can one choose freely how far to go: $n$ is a whole number, and every answer costs $n$ draws.

# %% [markdown] lang="zh"
# **图 6.5** 式 6.18，要回答极多、每个的概率都极小才准确，别的时候只是上界。奖励只有几档时，KL 停在 $\log(1/p_{\max})$（虚线）。
#
# 在手算例子里，best-of-n 的奖励比前沿最多低 0.003。换个问题就未必这么近，因为它只问哪个好，不问好多少。设参考策略写三个回答的概率是 0.5、0.49、0.01，奖励是 0、1、100。4 个里留最好的，平均奖励 4.84；KL 相同处，前沿有 21.6。再说，要走多远，也不能随意挑：$n$ 只能是整数，而且每要一个回答，就得抽 $n$ 次。

# %%
for n in (1, 2, 4, 8):
    x, y = kl(best_of_n(toy, n), toy.ref_logps), mean(best_of_n(toy, n), toy.reward)
    behind = np.interp(x, distances, rewards) - y.item()
    assert -1e-5 < behind < 0.0035
rates = torch.tensor([0.5, 0.49, 0.01], dtype=torch.float64)
jackpot = Problem(rates.log(), torch.tensor([0, 1, 100]).double())
four = best_of_n(jackpot, 4)
spent, gained = kl(four, jackpot.ref_logps).item(), mean(four, jackpot.reward).item()
jackpot_rewards, jackpot_nats = frontier(jackpot, np.geomspace(1e4, 1, 4000))
attainable = np.interp(spent, jackpot_nats, jackpot_rewards)
print(f"KL {spent:.3f}   best of 4 {gained:.2f}   frontier {attainable:.1f}")
assert (f"{gained:.2f}", f"{attainable:.1f}") == ("4.84", "21.6")

# %% tags=["proof"] checked_en="Checked on 20 random problems and 20 probabilities of a yes: the bound; the formula for answers of tiny probability; the share of yes; a KL that rises to its limit and never passes it." checked_zh="在 20 个随机问题上验证：上界；每个回答的概率都极小时的公式；再取 20 个得「是」的概率：得「是」的比例，KL 升向极限但从不越过。"
for n in (2, 4, 8, 64):
    bound = math.log(n) - (n - 1) / n
    spends_here = [kl(best_of_n(case, n), case.ref_logps) for case in (problem, tied)]
    assert all((nats < bound).all() for nats in spends_here)
level = torch.full((4_000,), 1 / 4_000, dtype=torch.float64).log()
many = Problem(level, torch.arange(4_000).double())  # tiny, no ties
for n in (2, 4, 8):
    exactly = kl(best_of_n(many, n), many.ref_logps)
    assert abs(exactly - (math.log(n) - (n - 1) / n)) < 1e-3
p = torch.sigmoid(r[:, 0])  # twenty probabilities of a yes
ones = torch.tensor([1, 0]).double().expand(INSTANCES, 2)
yes_no = Problem(torch.stack((p, 1 - p), -1).log(), ones)
for n in (2, 4, 8):
    assert torch.allclose(best_of_n(yes_no, n)[:, 0].exp(), 1 - (1 - p) ** n)
by_n = [best_of_n(yes_no, n) for n in (1, 2, 4, 8, 64, 100_000)]
spends = torch.stack([kl(policy, yes_no.ref_logps) for policy in by_n])  # (6, 20)
limit = -p.log()
assert (spends.diff(dim=0) >= -1e-12).all()
assert torch.allclose(spends[-1], limit)
assert (spends <= limit + 1e-12).all()

# %% [markdown] lang="en"
# ## A network's optimum from one probability
# A language model has too many answers to list. But suppose that the reward depends only on a *class* of the answer, one that a program can recognise: does it have three numbers, yes or no? Then the ratio $\pi^*/\pi_{\mathrm{ref}}=e^{(r-V)/\beta}$ is the same for all answers of a class. So within a class the optimum keeps the reference's proportions, and the classes' total probabilities are tilted as if each class were one answer. The KL is the KL of the totals.
#
# With two classes, a reward of 1 for yes and 0 for no, and $p(x)$ the reference's share of yes at prompt $x$, the optimum's share is
#
# $$P^*(x)=\frac{p(x)\,e^{1/\beta}}{p(x)\,e^{1/\beta}+1-p(x)},\qquad\log\frac{P^*(x)}{1-P^*(x)}=\log\frac{p(x)}{1-p(x)}+\frac1\beta\tag{6.19}.$$
#
# The second form says it shorter: the log-odds, known from chapter 5, grow by $1/\beta$.

# %% [markdown] lang="zh"
# ## 由一个概率算出网络的最优解
# 语言模型的回答多得列不完。但假如奖励只看回答属于哪一*类*，而这个类，程序认得出来，比如是不是写了三个数，那么同一类的回答，比值 $\pi^*/\pi_{\mathrm{ref}}=e^{(r-V)/\beta}$ 都相同。于是在一类之内，最优解保持参考策略的比例；各类的总概率则照公式倾斜，就像一类是一个回答。KL 就是两组总概率之间的 KL。
#
# 设只有两类，「是」的奖励为 1，「否」为 0；参考策略在提示 $x$ 上得「是」的比例是 $p(x)$。最优解得「是」的比例就是
#
# $$P^*(x)=\frac{p(x)\,e^{1/\beta}}{p(x)\,e^{1/\beta}+1-p(x)},\qquad\log\frac{P^*(x)}{1-P^*(x)}=\log\frac{p(x)}{1-p(x)}+\frac1\beta\tag{6.19}$$
#
# 第二个式子说得更短：第 5 章的对数几率（log-odds）增加 $1/\beta$。

# %% tags=["proof"] checked_en="Checked on 20 random problems: twelve answers in three classes and their totals; the share of yes and its log-odds; the best of four is the optimum for some beta." checked_zh="在 20 个随机问题上验证：三类共十二个回答，与各类的总概率；得「是」的比例和它的对数几率；四选一是某个 beta 的最优解。"
member = one_hot(
    torch.arange(12) % 3, 3
).double()  # (12, 3): twelve answers, three classes
class_reward = r[:, :3]  # (20, 3)
of_texts = random_policies(INSTANCES, 12, seed=SEED + 4)
whole = Problem(of_texts, class_reward @ member.T)
totals = Problem((whole.ref_logps.exp() @ member).log(), class_reward)
best_whole, best_totals = optimal_policy(whole, beta), optimal_policy(totals, beta)
assert torch.allclose(best_whole.exp() @ member, best_totals.exp())
inside = whole.ref_logps - totals.ref_logps @ member.T  # within its class, reference
assert torch.allclose(best_whole - best_totals @ member.T, inside)
nats_of_whole = kl(best_whole, whole.ref_logps)
assert torch.allclose(nats_of_whole, kl(best_totals, totals.ref_logps))
odds = torch.exp(1 / beta[:, 0])
share = p * odds / (p * odds + 1 - p)
assert torch.allclose(optimal_policy(yes_no, beta)[:, 0].exp(), share)
assert torch.allclose(torch.logit(share), torch.logit(p) + 1 / beta[:, 0])
matched = 1 / (torch.logit(1 - (1 - p) ** 4) - torch.logit(p))
assert torch.allclose(optimal_policy(yes_no, matched[:, None]), best_of_n(yes_no, 4))

# %% [markdown] lang="en"
# The book's population of authors gives $p(x)$ for each of its 166 prompts, and the base model of chapter 3 has learnt it. So its optimum is known before any training. `class_problem` holds the classes, `predicted_optimum` averages shares and KL over the prompts:
#
# | $\beta$ | share of three numbers | KL |
# |---|---|---|
# | 0.25 | 0.96 | 1.00 |
# | 0.5 | 0.76 | 0.45 |
# | 1 | 0.54 | 0.12 |
# | 2 | 0.41 | 0.03 |
#
# Predict first, then average: equation 6.19 at the mean of $p(x)$ is another number. With the population's own weights the order hardly matters, since nearly every prompt that is asked has a $p(x)$ near 0.30. If all 166 prompts were asked equally often, it would: at $\beta=0.5$ the formula at the mean, 0.38, gives 0.82, the mean of the predictions is 0.79.

# %% [markdown] lang="zh"
# 本书的作者群体在 166 个提示上的 $p(x)$，个个算得出来，第 3 章的基座模型又把它们学到了。所以一步还没训练，基座模型的最优解就已经知道了。`class_problem` 列出各类，`predicted_optimum` 把比例和 KL 对提示取平均：
#
# | $\beta$ | 写三个数的比例 | KL |
# |---|---|---|
# | 0.25 | 0.96 | 1.00 |
# | 0.5 | 0.76 | 0.45 |
# | 1 | 0.54 | 0.12 |
# | 2 | 0.41 | 0.03 |
#
# 先预测，再平均；拿 $p(x)$ 的平均代进式 6.19，得到的是另一个数。按群体自己的权重，次序不大要紧，因为常问的提示，$p(x)$ 几乎都在 0.30 左右。要是 166 个提示问得一样多，次序就要紧了：$\beta=0.5$ 时，把平均值 0.38 代进公式得 0.82，各个预测的平均是 0.79。

# %%
from dpo_core import BookTask, generate, judge, load_pretrained, use_threads
from dpo_core.theory import class_problem, class_rewards
from dpo_core.theory import predicted_optimum, predicted_shares
from dpo_core.training import default_device

task = BookTask()
told = {0.25: "0.96 1.00", 0.5: "0.76 0.45", 1: "0.54 0.12", 2: "0.41 0.03"}
for b, row in told.items():
    predicted = predicted_optimum(task, "style", b)
    print(b, f"{predicted['style']:.2f} {predicted['kl']:.2f}")
    assert f"{predicted['style']:.2f} {predicted['kl']:.2f}" == row
three_rate = task.class_rates[:, 1].sum(-1)  # (166,): p(x)
asked = np.array(list(task.prompt_distribution.values()))  # how often each is asked


def share_at_half(p):
    """The optimum's share where the reference has p; beta = 0.5."""
    return p * math.e**2 / (p * math.e**2 + 1 - p)


# %%
for weights in (asked, np.full(166, 1 / 166)):
    average = weights @ three_rate
    of_mean, mean_of = share_at_half(average), weights @ share_at_half(three_rate)
    print(f"mean p {average:.2f}   at the mean {of_mean:.4f}   mean {mean_of:.4f}")
assert len(three_rate) == 166 and asked[abs(three_rate - 0.3) < 0.02].sum() > 0.99
assert [f"{x:.2f}" for x in (average, of_mean, mean_of)] == ["0.38", "0.82", "0.79"]

# %% [markdown] lang="en"
# ## Held against the network
# Best-of-n needs no training, so its prediction can be tested at once. The reward is that of chapter 9: one point for three numbers, one for the right value. We draw eight answers of the base model to each of 4,000 prompts, judge them, and keep the best of the first 1, 2, 4 and 8.

# %% [markdown] lang="zh"
# ## 拿网络来对账
# best-of-n 不用训练，它的预测当场就能检验。奖励同第 9 章一样：写三个数得一分，答案正确得一分。4,000 个提示，每个让基座模型答八次，逐个评判，然后在前 1、2、4、8 个里各留最好的一个。

# %% tags=["nbval-ignore-output"]
use_threads()
base = load_pretrained("gen").to(default_device())
prompts, _ = task.demonstrations(4_000, stream("chapter 6", 0))
repeated = [prompt for prompt in prompts for _ in range(8)]
verdicts = list(map(judge, repeated, generate(base, repeated, seed=6, progress=True)))
points_of = class_rewards("style+exact")  # [three numbers?, exact?]
earned = np.array([points_of[int(v.style), int(v.exact)] for v in verdicts])
earned = earned.reshape(4_000, 8)
classes = class_problem(task, "style+exact")  # 166 prompts, four classes each
measured, foretold = {}, {}
for n in (1, 2, 4, 8):
    kept = earned[:, :n].argmax(1)  # the first of the best
    measured[n] = mean_interval(earned[np.arange(4_000), kept])
    foretold[n] = predicted_shares(task, best_of_n(classes, n))
    told = foretold[n]["style"] + foretold[n]["exact"]
    print(
        f"n={n}  KL {abs(foretold[n]['kl']):.2f}  predicted {told:.3f}  {measured[n]}"
    )
    assert -0.05 < measured[n].value - told < 0.02

# %%
grid_of_betas = [*np.geomspace(40, 0.15, 60), 1, 0.5, 0.25]
curve = [predicted_optimum(task, "style+exact", b) for b in grid_of_betas]
curve_nats = np.array([c["kl"] for c in curve])
curve_reward = np.array([c["style"] + c["exact"] for c in curve])
cross_nats = np.array([told["kl"] for told in foretold.values()])
cross_reward = np.array([told["style"] + told["exact"] for told in foretold.values()])
ahead = np.interp(cross_nats, curve_nats[:60], curve_reward[:60]) - cross_reward
assert ahead[1:].min() > 0 and ahead[1:].max() < 0.02


# %% tags=["figure", "nbval-ignore-output"] alt_en="Mean reward against KL for the book's population. The frontier rises from 1.05 at zero KL, steeply at first, towards 2. Stars mark beta = 1, 0.5 and 0.25. Four crosses, n = 1, 2, 4 and 8, lie on or slightly below the curve; the measured points with their intervals lie on the crosses or a trace below." alt_zh="横轴是 KL，纵轴是平均奖励，对象是本书的作者群体。前沿从 KL 为零、奖励 1.05 处升起，先陡后缓，趋向 2。星号标出 beta 等于 1、0.5、0.25。n = 1、2、4、8 四个叉号在曲线上，或略低于曲线；实测点带着区间，压在叉号上，或略低一点。"
@picture
def best_of_n_of_the_network(say):
    _, axes = figure(height=3.6)
    axes.plot(curve_nats[:60], curve_reward[:60], color=COLORS["theory"])
    axes.plot(
        curve_nats[60:], curve_reward[60:], "*", color=COLORS["theory"], markersize=13
    )
    for b, x, y in zip((1, 0.5, 0.25), curve_nats[60:], curve_reward[60:]):
        axes.text(x - 0.02, y + 0.06, rf"$\beta={b}$", ha="right")
    axes.plot(cross_nats, cross_reward, "x", color=COLORS["theory"], markersize=9)
    points(axes, cross_nats, list(measured.values()), "baseline")
    for n, x in zip(measured, cross_nats):
        axes.text(x + 0.03, measured[n].value - 0.07, f"$n={n}$")
    words = say("line, crosses: predicted", "线、叉号：预测")
    axes.text(0.8, 1.25, words, color=COLORS["theory"])
    words = say("points: the network", "圆点：网络")
    axes.text(0.8, 1.15, words, color=COLORS["baseline"])
    axes.set(
        xlabel=say("KL from the reference (nats)", "相对参考策略的 KL（奈特）"),
        ylabel=say("mean reward", "平均奖励"),
        ylim=(0.95, 2.1),
    )


# %% [markdown] lang="en"
# **Figure 6.6.** The network lies where predicted, or a little lower: every point within 0.05 of its cross. Curve and crosses are closed forms, from the population's rates alone; of the points only the height is measured (4,000 prompts, 95 % intervals), their KL is that of the closed form. With three levels of reward best-of-n falls short of the frontier, by less than 0.02.

# %% [markdown] lang="zh"
# **图 6.6** 网络落在预测的地方，至多略低一点：每个点离自己的叉号都不到 0.05。曲线和叉号是闭式结果，只用到群体的各种比例；圆点只有高度是量出来的（4,000 个提示，95% 区间），横坐标是闭式给的 KL。奖励有三档，所以 best-of-n 比前沿低一些，但不到 0.02。

# %% [markdown] lang="en"
# ## ⋆ Where log n - (n-1)/n comes from
# Suppose that no two answers tie and that each has a tiny probability. Then $v=F(y)$ runs through all numbers from 0 to 1 evenly, and the reweighting factor is the derivative of $v^n$, $n\,v^{n-1}$. The KL is the mean of its logarithm under $\pi_n$:
#
# $$\mathrm{KL}(\pi_n\,\|\,\pi_{\mathrm{ref}})=\int_0^1 n\,v^{n-1}\log\bigl(n\,v^{n-1}\bigr)\,dv=\log n+(n-1)\int_0^1 n\,v^{n-1}\log v\,dv.$$
#
# Integrate by parts: the last integral is $[v^n\log v]_0^1-\int_0^1 v^{n-1}\,dv=0-1/n$.
#
# Where there are only two classes of answers, every policy that keeps the proportions within them, and says yes more often than the reference and not always, is the optimum for some $\beta$. Best-of-n is such a policy: at $p=0.3$ the best of four is the optimum for $\beta=0.500$.

# %% [markdown] lang="zh"
# ## ⋆ log n - (n-1)/n 从哪里来
# 假定没有两个回答并列，每个回答的概率又都极小。那么 $v=F(y)$ 均匀地走遍 0 到 1 之间的数，重新加权的系数是 $v^n$ 的导数 $n\,v^{n-1}$。KL 是它的对数在 $\pi_n$ 下的平均：
#
# $$\mathrm{KL}(\pi_n\,\|\,\pi_{\mathrm{ref}})=\int_0^1 n\,v^{n-1}\log\bigl(n\,v^{n-1}\bigr)\,dv=\log n+(n-1)\int_0^1 n\,v^{n-1}\log v\,dv$$
#
# 用分部积分，最后这个积分等于 $[v^n\log v]_0^1-\int_0^1 v^{n-1}\,dv=0-1/n$。
#
# 只有两类回答的时候，一个策略只要类内比例不变，得「是」比参考策略多，又不是每次都得「是」，它就是某个 $\beta$ 的最优解。best-of-n 正是这样的策略：$p=0.3$ 时，四选一就是 $\beta=0.500$ 的最优解。

# %%
gain_in_log_odds = math.log(0.7599 / 0.2401) - math.log(0.3 / 0.7)
print(f"beta {1 / gain_in_log_odds:.3f}")
assert f"{1 / gain_in_log_odds:.3f}" == "0.500" and abs(1 - 0.7**4 - 0.7599) < 1e-9

# %% tags=["proof"] checked_en="Checked for n from 1 to 20, by the midpoint rule: the integral is -1/n." checked_zh="在 1 到 20 的每个 n 上验证：用中点法算，这个积分等于 -1/n。"
powers = torch.arange(1, INSTANCES + 1).double()[:, None]  # n = 1 ... 20
v = (torch.arange(100_000).double() + 0.5) / 100_000
integral = (powers * v ** (powers - 1) * v.log()).mean(-1)
assert torch.allclose(integral, -1 / powers[:, 0], atol=1e-5)

# %% [markdown] lang="en"
# ## ⋆ Sampling the optimum, and its price
# Even the optimum itself can be sampled without training. **Rejection sampling**: draw $y$ from the reference and accept it with probability $e^{(r(y)-r_{\max})/\beta}$, a number of at most 1; if it is rejected, draw again. One must know $r_{\max}$ for it, which one does in a toy and seldom elsewhere. An answer is drawn *and* accepted with probability $\pi_{\mathrm{ref}}(y)\,e^{r(y)/\beta}e^{-r_{\max}/\beta}$, which is proportional to $\pi^*(y)$. Add up over all answers: the acceptance rate is
#
# $$Z\,e^{-r_{\max}/\beta}=e^{-(r_{\max}-V)/\beta}=e^{-\mathrm{KL}(\pi^*\,\|\,\pi_{\mathrm{ref}})-(r_{\max}-\mathbb{E}_{\pi^*}[r])/\beta}\le e^{-\mathrm{KL}(\pi^*\,\|\,\pi_{\mathrm{ref}})}.$$
#
# The first equality is $\log Z=V/\beta$. The second: $V=\mathbb{E}_{\pi^*}[r]-\beta\,\mathrm{KL}(\pi^*\,\|\,\pi_{\mathrm{ref}})$. The inequality: a mean is at most the maximum. Instead of rejecting, one can weight. For any function $f$ of the answer, the definition of $\pi^*$ gives
#
# $$\mathbb{E}_{\pi^*}[f]=\frac{\mathbb{E}_{\pi_{\mathrm{ref}}}[f\,e^{r/\beta}]}{\mathbb{E}_{\pi_{\mathrm{ref}}}[e^{r/\beta}]}.$$
#
# With samples of the reference, the sum of $f$ weighted by $e^{r/\beta}$, divided by the sum of the weights, estimates it.
#
# A warning about a word. In reports of large models *rejection sampling* is often something else: draw several answers, keep the best of them, or those that pass a check, and imitate what was kept (so in [Grattafiori et al. 2024](https://arxiv.org/abs/2407.21783): the best of 10 to 30 by a reward model). That is a selection followed by imitation, and does not sample $\pi^*$. Chapters 10 and 12 use the word in that sense.

# %% [markdown] lang="zh"
# ## ⋆ 直接从最优解采样，代价多大
# 不训练，也能直接从最优解采样。**拒绝采样**（rejection sampling）：从参考策略抽一个 $y$，以概率 $e^{(r(y)-r_{\max})/\beta}$ 接受（这个数不超过 1）；没接受，就重抽。为此得知道 $r_{\max}$，玩具里知道，别处多半不知道。抽中*并且*接受 $y$ 的概率是 $\pi_{\mathrm{ref}}(y)\,e^{r(y)/\beta}e^{-r_{\max}/\beta}$，与 $\pi^*(y)$ 成正比。对所有回答求和，得到接受率
#
# $$Z\,e^{-r_{\max}/\beta}=e^{-(r_{\max}-V)/\beta}=e^{-\mathrm{KL}(\pi^*\,\|\,\pi_{\mathrm{ref}})-(r_{\max}-\mathbb{E}_{\pi^*}[r])/\beta}\le e^{-\mathrm{KL}(\pi^*\,\|\,\pi_{\mathrm{ref}})}$$
#
# 第一步用的是 $\log Z=V/\beta$，第二步是 $V=\mathbb{E}_{\pi^*}[r]-\beta\,\mathrm{KL}(\pi^*\,\|\,\pi_{\mathrm{ref}})$；不等号：平均不超过最大。也可以不拒绝，改用加权。对回答的任何函数 $f$，由 $\pi^*$ 的定义，
#
# $$\mathbb{E}_{\pi^*}[f]=\frac{\mathbb{E}_{\pi_{\mathrm{ref}}}[f\,e^{r/\beta}]}{\mathbb{E}_{\pi_{\mathrm{ref}}}[e^{r/\beta}]}$$
#
# 手里有参考策略的样本，就以 $e^{r/\beta}$ 为权重，把 $f$ 加权求和，再除以权重之和，得到左边的估计。
#
# 提醒一个词。在大模型的报告里，*拒绝采样*往往是另一回事：抽若干个回答，留下最好的那个，或者通得过检查的那些，再去模仿留下来的（比如 [Grattafiori et al. 2024](https://arxiv.org/abs/2407.21783) 抽 10 到 30 个，由奖励模型挑最好的）。那是挑选加上模仿，采样的不是 $\pi^*$。第 10 章和第 12 章说的是这个意思。

# %% tags=["proof"] checked_en="Checked on 20 random problems: what is accepted follows the optimum; the three forms of the acceptance rate; a mean by weighting." checked_zh="在 20 个随机问题上验证：接受下来的服从最优解；接受率的三种写法；用加权求平均。"
accept = torch.exp((r - r.amax(-1, keepdim=True)) / beta)
rate = (ref * accept).sum(-1)
assert torch.allclose(ref * accept / rate[:, None], star)
assert torch.allclose(rate, Z[:, 0] * torch.exp(-r.amax(-1) / beta[:, 0]))
assert torch.allclose(rate, torch.exp(-(r.amax(-1) - V) / beta[:, 0]))
slack = (r.amax(-1) - (star * r).sum(-1)) / beta[:, 0]  # never negative
by_kl = torch.exp(-kl(star.log(), problem.ref_logps) - slack)
assert torch.allclose(rate, by_kl)
weights = torch.exp(r / beta)
squares = (ref * weights * r**2).sum(-1) / (ref * weights).sum(-1)
assert torch.allclose(squares, (star * r**2).sum(-1))  # the mean of r²

# %% [markdown] lang="en"
# Now with the network: 4,000 answers to `S54=`, reward 1 for three numbers, $\beta=0.5$. The closed form says a share of 0.76 and an acceptance rate of 0.39. The last line weights the same answers.

# %% [markdown] lang="zh"
# 换成网络：对 `S54=` 抽 4,000 个回答，写三个数奖励 1，$\beta=0.5$。闭式解说：写三个数的比例是 0.76，接受率是 0.39。输出的最后一行，由同一批回答加权得来。

# %% tags=["nbval-ignore-output"]
samples = generate(base, ["S54="] * 4_000, seed=7)
three = np.array([judge("S54=", answer).style for answer in samples], dtype=float)
taken = stream("chapter 6", 1).random(4_000) < np.exp((three - 1) / 0.5)
rate_seen = wilson(int(taken.sum()), 4_000)
share_seen = wilson(int(three[taken].sum()), int(taken.sum()))
weighted = np.exp(three / 0.5) @ three / np.exp(three / 0.5).sum()
print("accepted", rate_seen, "\nshare   ", share_seen, f"\nweighted {weighted:.3f}")
at = three_rate[list(task.prompt_distribution).index("S54=")]  # p(x)
rate_true, share_true = (at * math.e**2 + 1 - at) / math.e**2, share_at_half(at)
assert f"{share_true:.2f} {rate_true:.2f}" == "0.76 0.39"
assert abs(share_seen.value - share_true) < 0.06 and abs(weighted - share_true) < 0.06
assert abs(rate_seen.value - rate_true) < 0.05

# %% [markdown] lang="en"
# Here an optimal answer costs between two and three draws. In general it costs at least $e^{\mathrm{KL}}$ draws, and that is the catch. A tenth of a nat for each of 100 tokens is 10 nats, and $e^{10}$ is about 22,000 draws for one answer, every time somebody asks.

# %% [markdown] lang="zh"
# 在这里，从最优解得到一个回答，平均要抽两三次。一般来说，平均至少要抽 $e^{\mathrm{KL}}$ 次，麻烦就在这里。每个词元十分之一奈特，100 个词元就是 10 奈特；$e^{10}$ 约等于 22,000，每有人问一次，就得抽这么多次。

# %%
print(f"{1 / rate_true:.2f} draws here, {math.exp(10):.0f} at ten nats")
assert 2 < 1 / rate_true < 3 and abs(math.exp(10) - 22_000) < 100

# %% [markdown] lang="en"
# ## What remains
# The optimum is known, and it can even be sampled, at a price: at least $e^{\mathrm{KL}}$ draws for an answer. That is why one trains: to put into the weights, once, what drawing again and again would sort out. PPO does so with a reward model, sampling as it goes; [chapter 7](07_derivation.ipynb) shows how DPO manages without either.
#
# > **What the toy hides.** In a real model $Z(x)$ is a sum over all texts. Nobody computes it, and even an estimate is expensive, as Rafailov et al. note; so nobody knows $V$, the frontier, or how far a policy is from its optimum. The reward is learnt, and wrong off its data. Prompts share parameters, and $\pi^*$ may be out of the network's reach. And one $\beta$ serves all prompts: at the optimum the last nat brings $\beta$ at each, but what a nat brings on average differs from prompt to prompt.
#
# > **To remember.** RLHF maximises mean reward minus $\beta$ times $\mathrm{KL}(\pi\,\|\,\pi_{\mathrm{ref}})$. The optimum is the reference, reweighted by $e^{r/\beta}$; every policy falls short of it by $\beta\,\mathrm{KL}(\pi\,\|\,\pi^*)$. Its height $V=\beta\log Z$ is a soft maximum, and only answers with more reward than $V$ gain probability. $\beta$ is the price of a nat and the slope of the frontier.

# %% [markdown] lang="zh"
# ## 还剩什么
# 最优解是已知的，甚至可以直接采样，只是很费：平均至少抽 $e^{\mathrm{KL}}$ 次，才得一个回答。这就是要训练的理由：本来要靠一次次抽取来筛的，一次写进参数。PPO 这样做，要有奖励模型，还要边训练边采样；[第 7 章](07_derivation.ipynb)会看到，DPO 两样都不用。
#
# > **玩具没告诉你的。** 真实的模型里，$Z(x)$ 要对所有文本求和。没有人去算它；正如 Rafailov 等人所说，连估计都很贵。所以 $V$ 是多少、前沿在哪里、策略离最优解还有多远，没有人知道。奖励是学来的，出了训练数据的范围就会错。提示之间共用参数，$\pi^*$ 可能根本够不着。还有，所有提示共用一个 $\beta$：到了最优解，最后一奈特在哪个提示上都换来 $\beta$ 的奖励；可平均下来，一奈特换来多少，各个提示并不一样。
#
# > **记住。** RLHF 最大化的是平均奖励，减去 $\beta$ 倍的 $\mathrm{KL}(\pi\,\|\,\pi_{\mathrm{ref}})$。最优解就是参考策略按 $e^{r/\beta}$ 重新加权；别的策略都差一截，差额是 $\beta\,\mathrm{KL}(\pi\,\|\,\pi^*)$。最大点的高度 $V=\beta\log Z$ 是软最大值，只有奖励高过 $V$ 的回答，概率才上升。$\beta$ 是一奈特换多少奖励，也是前沿的斜率。

# %%
style = class_problem(task, "style")
optimum = optimal_policy(style, 0.5)
nats_there = kl(optimum, style.ref_logps)  # (166,): at each prompt
gain = mean(optimum, style.reward) - mean(style.ref_logps, style.reward)
per_nat = (gain / nats_there)[nats_there > 0.01]
print(f"what a nat brings on average: {per_nat.min():.2f} to {per_nat.max():.2f}")
assert per_nat.min() < 1.05 and per_nat.max() > 1.15

# %% [markdown] lang="en"
# ## Exercises

# %% [markdown] lang="zh"
# ## 练习

# %% [markdown] lang="en"
# ### Exercise 6.1 · An optimum and its height
# ★☆☆ · 5 minutes
#
# Two answers. The reference writes the first with probability 0.8, the second with 0.2; their rewards are 0 and 1; $\beta=0.5$. What is the probability of the *second* answer under $\pi^*$, and what is $V$? Give both, in this order.
#
# <details><summary>Hint</summary>
#
# Multiply each probability by $e^{r/\beta}$ and add: that is $Z$. $e^2$ is 7.389.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 6.1 · 最优解和它的高度
# ★☆☆ · 5 分钟
#
# 两个回答。参考策略写第一个的概率是 0.8，第二个是 0.2；奖励是 0 和 1；$\beta=0.5$。在 $\pi^*$ 下，*第二个*回答的概率是多少？$V$ 又是多少？按这个顺序给出两个数。
#
# <details><summary>提示</summary>
#
# 每个概率乘上 $e^{r/\beta}$，加起来就是 $Z$。$e^2$ 是 7.389。
#
# </details>

# %% tags=["exercise"]
answer_6_1 = (..., ...)  # the probability, then V
check("6.1", answer_6_1)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# The products are 0.8 and $0.2\cdot 7.389=1.478$, so $Z=2.278$. The probability is 1.478 / 2.278 = 0.649, and $V=0.5\log 2.278=0.412$.
#
# ```python
# Z_6_1 = 0.8 + 0.2 * math.exp(1 / 0.5)
# answer_6_1 = (0.2 * math.exp(1 / 0.5) / Z_6_1, 0.5 * math.log(Z_6_1))
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 乘出来是 0.8 和 $0.2\cdot 7.389=1.478$，所以 $Z=2.278$。概率是 1.478 / 2.278 = 0.649，$V=0.5\log 2.278=0.412$。
#
# ```python
# Z_6_1 = 0.8 + 0.2 * math.exp(1 / 0.5)
# answer_6_1 = (0.2 * math.exp(1 / 0.5) / Z_6_1, 0.5 * math.log(Z_6_1))
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 6.2 · The beta for a wanted share
# ★★☆ · 10 minutes
#
# At some prompt the reference writes three numbers in 30 % of its answers. The reward is 1 for three numbers and 0 otherwise. For which $\beta$ does the optimum write three numbers in 90 % of its answers?
#
# <details><summary>Hint</summary>
#
# The log-odds grow by $1/\beta$. The odds of 90 % are 9 to 1.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 6.2 · 想要多少，beta 取多少
# ★★☆ · 10 分钟
#
# 在某个提示上，参考策略的回答有 30% 写三个数。写三个数奖励 1，否则 0。$\beta$ 取多少，最优解的回答才有 90% 写三个数？
#
# <details><summary>提示</summary>
#
# 对数几率增加 $1/\beta$。90% 换成几率（odds），是 9 比 1。
#
# </details>

# %% tags=["exercise"]
answer_6_2 = ...  # a number above 0
check("6.2", answer_6_2)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# $1/\beta=\log 9-\log(3/7)=\log 21=3.045$, so $\beta=0.328$.
#
# ```python
# answer_6_2 = 1 / (math.log(0.9 / 0.1) - math.log(0.3 / 0.7))
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# $1/\beta=\log 9-\log(3/7)=\log 21=3.045$，所以 $\beta=0.328$。
#
# ```python
# answer_6_2 = 1 / (math.log(0.9 / 0.1) - math.log(0.3 / 0.7))
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 6.3 · An estimate that is never negative
# ★★☆ · 15 minutes
#
# Write `k3(logps, ref_logps)`. It gets the log-probabilities of $N$ answers *sampled from the policy*, under the policy and under the reference, shape `(N,)` each, and returns `(N,)` numbers: none negative, and right on average for $\mathrm{KL}(\pi\,\|\,\pi_{\mathrm{ref}})$ (the policy leaves no answer out). Mind the direction.
#
# <details><summary>Hint</summary>
#
# The proof of Gibbs' inequality has the summand $u-1-\log u$. Which of the two policies is $\pi$ there, and which is $\nu$? What is $\log u$?
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 6.3 · 从不为负的估计
# ★★☆ · 15 分钟
#
# 写一个 `k3(logps, ref_logps)`。输入是 $N$ 个*从策略抽出的*回答在策略下、在参考策略下的对数概率，形状都是 `(N,)`；返回的形状也是 `(N,)`：没有负数，平均起来正好是 $\mathrm{KL}(\pi\,\|\,\pi_{\mathrm{ref}})$（假定策略没有漏掉任何回答）。当心方向。
#
# <details><summary>提示</summary>
#
# Gibbs 不等式的证明里，求和的项是 $u-1-\log u$。两个策略里，哪个是那里的 $\pi$，哪个是 $\nu$？$\log u$ 又是什么？
#
# </details>


# %% tags=["exercise"]
def k3(logps, ref_logps): ...


check("6.3", k3)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# The samples come from $\pi$, so $\nu=\pi_{\mathrm{ref}}$ and $\log u=\log\pi_{\mathrm{ref}}-\log\pi$.
#
# ```python
# def k3(logps, ref_logps):
#     log_u = ref_logps - logps
#     return log_u.exp() - 1 - log_u
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 样本来自 $\pi$，所以 $\nu=\pi_{\mathrm{ref}}$，$\log u=\log\pi_{\mathrm{ref}}-\log\pi$。
#
# ```python
# def k3(logps, ref_logps):
#     log_u = ref_logps - logps
#     return log_u.exp() - 1 - log_u
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 6.4 · The reward, token by token
# ★★★ · 20 minutes
#
# Write what RLHF code hands to its reinforcement learner. `token_rewards(logps, ref_logps, mask, reward, beta)` gets the log-probabilities of every token under policy and reference, `(B, T)` each, a `mask` that is True on the tokens of the answer, `(B, T)`, and the `reward` of each answer, `(B,)`. It returns `(B, T)`: at each token of the answer the penalty $-\beta\log(\pi/\pi_{\mathrm{ref}})$, at the last of them also the reward, and 0 elsewhere. A row must add up to the reward minus the penalty of the whole answer.
#
# <details><summary>Hint</summary>
#
# The last token of an answer need not be in the last column. `(mask * torch.arange(T)).argmax(1)` finds it.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 6.4 · 逐词元的奖励
# ★★★ · 20 分钟
#
# RLHF 的代码要把奖励交给强化学习，请写出这一步。`token_rewards(logps, ref_logps, mask, reward, beta)` 的输入：每个词元在策略和参考策略下的对数概率，形状都是 `(B, T)`；`mask`，在回答的词元上为 True，`(B, T)`；每个回答的奖励 `reward`，`(B,)`。返回 `(B, T)`：回答的每个词元上是惩罚 $-\beta\log(\pi/\pi_{\mathrm{ref}})$，最后一个词元再加上奖励，其余位置是 0。一行加起来，必须等于奖励减去整个回答的惩罚。
#
# <details><summary>提示</summary>
#
# 回答的最后一个词元，不一定在最后一列。`(mask * torch.arange(T)).argmax(1)` 能找到它。
#
# </details>


# %% tags=["exercise"]
def token_rewards(logps, ref_logps, mask, reward, beta): ...


check("6.4", token_rewards)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# ```python
# def token_rewards(logps, ref_logps, mask, reward, beta):
#     given = -beta * (logps - ref_logps) * mask
#     last = (mask * torch.arange(mask.shape[1])).argmax(1)
#     given[torch.arange(len(reward)), last] += reward
#     return given
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# ```python
# def token_rewards(logps, ref_logps, mask, reward, beta):
#     given = -beta * (logps - ref_logps) * mask
#     last = (mask * torch.arange(mask.shape[1])).argmax(1)
#     given[torch.arange(len(reward)), last] += reward
#     return given
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 6.5 · The price of the best of four
# ★★☆ · 10 minutes
#
# The reward says yes or no; the reference gets a yes with probability 0.3. Keep the best of 4 answers. How often is it a yes, and what is the KL from the reference, exactly? Give both, in this order, then compare with the row $\beta=0.5$ of the table of predictions.
#
# <details><summary>Hint</summary>
#
# Two classes, so the KL has two terms. Equation 6.18 is only an upper bound here.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 6.5 · 四选一的代价
# ★★☆ · 10 分钟
#
# 奖励只分「是」「否」，参考策略得「是」的概率是 0.3。抽 4 个回答，留最好的。留下的有多大概率是「是」？这样得到的策略，与参考策略的 KL 又是多少（要精确值）？按这个顺序给出两个数，再同正文那张预测表里 $\beta=0.5$ 的一行比一比。
#
# <details><summary>提示</summary>
#
# 只有两类，所以 KL 只有两项。式 6.18 在这里只是上界。
#
# </details>

# %% tags=["exercise"]
answer_6_5 = (..., ...)  # the share of yes, then the KL
check("6.5", answer_6_5)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# All four fail with probability $0.7^4=0.240$, so the share is 0.760. The KL is $0.760\log(0.760/0.3)+0.240\log(0.240/0.7)=0.449$; the formula says 0.636. The row $\beta=0.5$ has the same two numbers: at $p=0.3$ the best of four is that optimum.
#
# ```python
# share_6_5 = 1 - 0.7**4
# kl_6_5 = share_6_5 * math.log(share_6_5 / 0.3) + (1 - share_6_5) * math.log((1 - share_6_5) / 0.7)
# answer_6_5 = (share_6_5, kl_6_5)
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 四个都是「否」的概率是 $0.7^4=0.240$，所以得「是」的比例是 0.760。KL 是 $0.760\log(0.760/0.3)+0.240\log(0.240/0.7)=0.449$，公式却说 0.636。$\beta=0.5$ 那一行正是这两个数：$p=0.3$ 时，四选一就是这一行的最优解。
#
# ```python
# share_6_5 = 1 - 0.7**4
# kl_6_5 = share_6_5 * math.log(share_6_5 / 0.3) + (1 - share_6_5) * math.log((1 - share_6_5) / 0.7)
# answer_6_5 = (share_6_5, kl_6_5)
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 6.6 · A rarer style
# ★★☆ · 10 minutes
#
# Change the world: only 10 % of the authors write three numbers, at every prompt. The reward is 1 for three numbers and 0 otherwise, $\beta=0.5$. Predict, before anything is trained, the optimum's share of three numbers and its KL from the reference. Give both, in this order. (In the chapter's world, with about 30 %, they are 0.76 and 0.45. Guess first: will the KL be larger or smaller?)
#
# <details><summary>Hint</summary>
#
# The odds are multiplied by $e^{1/\beta}$. Then the KL has two terms.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 6.6 · 风格更罕见
# ★★☆ · 10 分钟
#
# 换一个世界：在每个提示上，都只有 10% 的作者写三个数。写三个数奖励 1，否则 0；$\beta=0.5$。什么也不训练，先算出最优解写三个数的比例，和它相对参考策略的 KL。按这个顺序给出两个数。（正文的世界里约有 30%，两个数是 0.76 和 0.45。先猜一猜：KL 会变大，还是变小？）
#
# <details><summary>提示</summary>
#
# 几率乘上 $e^{1/\beta}$；KL 有两项。
#
# </details>

# %% tags=["exercise"]
answer_6_6 = (..., ...)  # the share, then the KL
check("6.6", answer_6_6)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# The odds grow from 1/9 to $e^2/9=0.821$, so the share is 0.451. The KL is $0.451\log(0.451/0.1)+0.549\log(0.549/0.9)=0.408$: a little smaller. The same factor on the odds moves less probability where there is less to begin with.
#
# ```python
# odds_6_6 = math.exp(1 / 0.5) * 0.1 / 0.9
# share_6_6 = odds_6_6 / (1 + odds_6_6)
# kl_6_6 = share_6_6 * math.log(share_6_6 / 0.1) + (1 - share_6_6) * math.log((1 - share_6_6) / 0.9)
# answer_6_6 = (share_6_6, kl_6_6)
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 几率从 1/9 增加到 $e^2/9=0.821$，所以比例是 0.451。KL 是 $0.451\log(0.451/0.1)+0.549\log(0.549/0.9)=0.408$，小了一点：几率乘上同样的倍数，底子越薄，挪动的概率越少。
#
# ```python
# odds_6_6 = math.exp(1 / 0.5) * 0.1 / 0.9
# share_6_6 = odds_6_6 / (1 + odds_6_6)
# kl_6_6 = share_6_6 * math.log(share_6_6 / 0.1) + (1 - share_6_6) * math.log((1 - share_6_6) / 0.9)
# answer_6_6 = (share_6_6, kl_6_6)
# ```
#
# </details>

# %% [markdown] lang="en"
# The last exercise shows four reports from a training on the three answers of the chapter, each a KL and a mean reward.

# %% [markdown] lang="zh"
# 最后一个练习给出四份训练报告，都是在本章的三个回答上训练的；每份报告是一个 KL、一个平均奖励。

# %%
leash = optimal_policy(toy, 0.8)
reports = {
    "A": (0.43, 0.62),
    "B": (0.14, 0.91),
    "C": (kl(leash, toy.ref_logps).item(), mean(leash, toy.reward).item()),
    "D": (0.05, 0.33),
}
for name, (nats_told, reward_told) in reports.items():
    over = np.interp(nats_told, distances, rewards)
    print(f"{name}  KL {nats_told:.3f}  reward {reward_told:.3f}  frontier {over:.3f}")
assert reports["B"][1] > np.interp(0.14, distances, rewards) + 0.1


# %% tags=["figure"] alt_en="Mean reward against KL with the frontier of the three answers. A lies far below the curve at KL 0.43. B lies far above it at KL 0.14. C lies on it at KL 0.26. D lies below it at KL 0.05, hardly above the reference's reward." alt_zh="横轴是 KL，纵轴是平均奖励，曲线是三个回答的前沿。A 在 KL 0.43 处，远低于曲线；B 在 KL 0.14 处，远高于曲线；C 在 KL 0.26 处，落在曲线上；D 在 KL 0.05 处，低于曲线，比参考策略高不了多少。"
@picture
def four_reports(say):
    _, axes = figure(height=3.2)
    axes.plot(distances, rewards, color=COLORS["theory"])
    axes.text(0.6, 0.92, say("frontier", "前沿"), color=COLORS["theory"])
    for name, place in reports.items():
        axes.plot(*place, "o", color=COLORS["policy"])
        words = say(f"report {name}", f"报告 {name}")
        axes.annotate(words, place, xytext=(8, -10), textcoords="offset points")
    axes.set(
        xlabel=say("KL from the reference (nats)", "相对参考策略的 KL（奈特）"),
        ylabel=say("mean reward", "平均奖励"),
        ylim=(0.2, 1.05),
    )


# %% [markdown] lang="en"
# **Figure 6.7.** Four reports under, on and over the frontier.

# %% [markdown] lang="zh"
# **图 6.7** 四份报告，有的在前沿下面，有的在前沿上，有的在前沿上面。

# %% [markdown] lang="en"
# ### Exercise 6.7 · Which report is wrong?
# ★★☆ · 15 minutes
#
# Look at figure 6.7. One report cannot be true: somebody divided the KL of an answer by its number of tokens. One is an optimum; for which $\beta$? Give the letter of the first, the letter of the second, and the $\beta$, to one decimal.
#
# <details><summary>Hint</summary>
#
# Nothing lies above the frontier. The $\beta$ of an optimum is the slope of the frontier there; or try `optimal_policy(toy, b)` for some `b` and compare the KL, which is printed above.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 6.7 · 哪份报告错了
# ★★☆ · 15 分钟
#
# 看图 6.7。有一份报告不可能是真的：有人把回答的 KL 除以了词元数。有一份是最优解，$\beta$ 是多少？依次写出前一份的字母、后一份的字母，和 $\beta$（取一位小数）。
#
# <details><summary>提示</summary>
#
# 前沿上方什么也没有。最优解的 $\beta$，就是前沿在那里的斜率；也可以拿几个 `b` 试 `optimal_policy(toy, b)`，与上面打印的 KL 对照。
#
# </details>

# %% tags=["exercise"]
answer_6_7 = (..., ..., ...)  # the wrong report, the optimum, its beta
check("6.7", answer_6_7)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# B is above the frontier, where no policy is. C is on it, at $\beta=0.8$. A has gone far for little reward, and D has hardly moved; both are possible.
#
# ```python
# tried_6_7 = [0.2, 0.4, 0.6, 0.8, 1.0]
# nats_6_7 = [kl(optimal_policy(toy, b), toy.ref_logps).item() for b in tried_6_7]
# beta_6_7 = min(zip(nats_6_7, tried_6_7), key=lambda row: abs(row[0] - 0.260))[1]
# answer_6_7 = ("B", "C", beta_6_7)
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# B 在前沿上方，那里没有策略。C 在前沿上，$\beta=0.8$。A 走了很远，却没换来多少奖励；D 几乎没动；这两份都可能是真的。
#
# ```python
# tried_6_7 = [0.2, 0.4, 0.6, 0.8, 1.0]
# nats_6_7 = [kl(optimal_policy(toy, b), toy.ref_logps).item() for b in tried_6_7]
# beta_6_7 = min(zip(nats_6_7, tried_6_7), key=lambda row: abs(row[0] - 0.260))[1]
# answer_6_7 = ("B", "C", beta_6_7)
# ```
#
# </details>

# %% [markdown] lang="en"
# ## References
# - [Ahmadian et al. 2024](https://arxiv.org/abs/2402.14740): RLOO.
# - [Beirami et al. 2025](https://arxiv.org/abs/2401.01879): the quoted KL of best-of-n is an upper bound.
# - [Gao et al. 2023](https://arxiv.org/abs/2210.10760): how much too much optimisation costs, measured.
# - [Grattafiori et al. 2024](https://arxiv.org/abs/2407.21783): Llama 3; what it calls rejection sampling.
# - [Korbak et al. 2022](https://arxiv.org/abs/2205.11275): distribution collapse; the objective as Bayesian inference.
# - [Ouyang et al. 2022](https://arxiv.org/abs/2203.02155): RLHF with PPO; the penalty token by token.
# - [Peng et al. 2019](https://arxiv.org/abs/1910.00177), [Peters & Schaal 2007](https://doi.org/10.1145/1273496.1273590): policies fitted to samples weighted by the exponential of their worth.
# - [Rafailov et al. 2023](https://arxiv.org/abs/2305.18290): the optimum, by completing the KL, in appendix A.1.
# - [Schulman 2020](http://joschu.net/blog/kl-approx.html): estimators of KL.
# - [Shao et al. 2024](https://arxiv.org/abs/2402.03300): GRPO.
# - [Stiennon et al. 2020](https://arxiv.org/abs/2009.01325): best-of-n and its KL formula, in appendix G.3.
# - [Ziegler et al. 2019](https://arxiv.org/abs/1909.08593): the KL penalty for language models.

# %% [markdown] lang="zh"
# ## 参考文献
# - [Ahmadian et al. 2024](https://arxiv.org/abs/2402.14740)：RLOO。
# - [Beirami et al. 2025](https://arxiv.org/abs/2401.01879)：best-of-n 通行的 KL 公式只是上界。
# - [Gao et al. 2023](https://arxiv.org/abs/2210.10760)：过度优化要付多大代价，有实测。
# - [Grattafiori et al. 2024](https://arxiv.org/abs/2407.21783)：Llama 3，以及其中所说的拒绝采样。
# - [Korbak et al. 2022](https://arxiv.org/abs/2205.11275)：分布坍缩；把目标看作贝叶斯推断。
# - [Ouyang et al. 2022](https://arxiv.org/abs/2203.02155)：用 PPO 做 RLHF，惩罚逐个词元扣。
# - [Peng et al. 2019](https://arxiv.org/abs/1910.00177)、[Peters & Schaal 2007](https://doi.org/10.1145/1273496.1273590)：样本按好坏的指数加权，再去拟合策略。
# - [Rafailov et al. 2023](https://arxiv.org/abs/2305.18290)：附录 A.1 用配成 KL 的办法求出最优解。
# - [Schulman 2020](http://joschu.net/blog/kl-approx.html)：KL 的几种估计。
# - [Shao et al. 2024](https://arxiv.org/abs/2402.03300)：GRPO。
# - [Stiennon et al. 2020](https://arxiv.org/abs/2009.01325)：附录 G.3，best-of-n 和它的 KL 公式。
# - [Ziegler et al. 2019](https://arxiv.org/abs/1909.08593)：语言模型的 KL 惩罚。
