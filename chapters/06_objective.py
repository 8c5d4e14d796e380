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
# > **In this chapter.** You will be able to say what RLHF maximises and why, to write down the policy that maximises it and prove it in two ways, to read a reward–KL plot, to compute the KL of best-of-n, and to predict what the optimum of a real network looks like before anything is trained. You need KL from [chapter 3](03_sft.ipynb) and [chapter 4](04_sampling.ipynb), rewards from [chapter 5](05_preferences.ipynb), and derivatives. 60 minutes to read, 20 seconds to run.

# %% [markdown] lang="zh"
# > **本章。** 读完后，你能说清 RLHF 最大化的是什么、为什么；写出使它最大的策略，并用两种办法证明；读懂奖励–KL 图；算出 best-of-n 的 KL；一步也不训练，就预言一个真实网络的最优解是什么样子。需要[第 3 章](03_sft.ipynb)和[第 4 章](04_sampling.ipynb)的 KL、[第 5 章](05_preferences.ipynb)的奖励，还要会求导。阅读 60 分钟，运行 20 秒。

# %%
import math
from itertools import pairwise

import numpy as np
import torch
from checks import check
from torch.nn.functional import one_hot

from dpo_core import BookTask, generate, judge, load_pretrained, use_threads
from dpo_core.evaluation import mean_interval, wilson
from dpo_core.plotting import COLORS, INK, figure, points
from dpo_core.tabular import (Problem, best_of_n, frontier, kl, log_partition, mean,
                              minimise, objective, optimal_policy, random_policies,
                              random_problems)
from dpo_core.task import stream
from dpo_core.theory import (class_problem, class_rewards, predicted_optimum,
                             predicted_shares)
from dpo_core.training import default_device

# %% [markdown] lang="en"
# ## Reward alone is not a goal
# [Chapter 5](05_preferences.ipynb) gave us a reward $r(x,y)$, a number for each answer $y$ to a prompt $x$. A language model answers $x$ with $y$ with probability $\pi(y\mid x)$; seen as something that chooses its answers, it is called a **policy**. What policy $\pi$ should we want? The first idea: the one whose answers have the highest mean reward, $\mathbb{E}_{y\sim\pi}[r(x,y)]$. We look at one prompt at a time and leave $x$ out of the formulas as long as it stays the same.
#
# Here is the book's hand-made example. Three answers, $y_1$, $y_2$, $y_3$. The **reference policy** $\pi_{\mathrm{ref}}$ (in practice one mostly says *reference model*) is the model before *this* training; for the book's networks, the one that chapter 3 trained. In the example it writes the three with probabilities 0.5, 0.3, 0.2. Their rewards are 1, 0, -1, so the reference earns $0.5-0.2=0.3$ on average. A mean is never above the largest of its terms, and reaches it only when all weight lies there:
#
# $$\mathbb{E}_{y\sim\pi}[r(y)]\le\max_y r(y).$$
#
# So the best policy writes $y_1$ and nothing else. Everything that the reference knew about the other answers is gone. [Korbak et al. 2022](https://arxiv.org/abs/2205.11275) call this distribution collapse.
#
# It is worse when the reward is wrong somewhere. Give the example a fourth answer, $y_4$, which the reference writes once in 1,000 times. It is as bad as $y_3$: its true worth $u$ is -1. But nobody has ever compared it with anything, and a reward model, guessing, says 3. The policy with the highest mean reward now writes $y_4$ and nothing else. It believes that it earns 3 and it earns -1. Where people compare what the reference writes, the rarer an answer, the fewer comparisons tell of its reward; and maximisation does not ask how rare.

# %% [markdown] lang="zh"
# ## 光有奖励，算不上目标
# [第 5 章](05_preferences.ipynb)给了我们奖励 $r(x,y)$：提示 $x$ 的每个回答 $y$，都对应一个数。语言模型遇到 $x$，以概率 $\pi(y\mid x)$ 回答 $y$；把它看成在挑选回答，就叫它**策略**（policy）。我们该要什么样的策略 $\pi$？先想到的是：哪个策略的回答平均奖励 $\mathbb{E}_{y\sim\pi}[r(x,y)]$ 最高，就要哪个。下面一次只看一个提示；提示不变时，公式里的 $x$ 省去不写。
#
# 先看全书都在用的手算例子。三个回答 $y_1$、$y_2$、$y_3$。**参考策略**（reference policy，实践中常叫参考模型，reference model）$\pi_{\mathrm{ref}}$，是*这次*训练开始之前的模型；对本书的网络来说，就是第 3 章训练出来的那个。在这个例子里，它写出三个回答的概率是 0.5、0.3、0.2；奖励是 1、0、-1。于是参考策略平均得 $0.5-0.2=0.3$ 分。平均数不会超过其中最大的一项；要想相等，权重就得全压在最大项上：
#
# $$\mathbb{E}_{y\sim\pi}[r(y)]\le\max_y r(y)$$
#
# 所以照这个标准，最好的策略只写 $y_1$，别的一概不写。关于其他回答，参考策略知道的一切都丢了。[Korbak et al. 2022](https://arxiv.org/abs/2205.11275) 称之为分布坍缩（distribution collapse）。
#
# 要是奖励在某处错了，那就更糟。给例子添上第四个回答 $y_4$，参考策略 1,000 次里才写一次。它同 $y_3$ 一样差，真实价值 $u$ 是 -1。可是从来没有人拿它同别的回答比过，奖励模型只好猜，猜了个 3。这下，平均奖励最高的策略只写 $y_4$：自以为得 3 分，其实得 -1 分。比较的若是参考策略写出来的回答，那么回答越罕见，比过的次数就越少，它的奖励也就越没有依据；而求最大值，是不问罕见不罕见的。

# %%
toy = Problem(torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64).log(), torch.tensor([1.0, 0.0, -1.0]).double())
four_ref = torch.tensor([0.5, 0.3, 0.199, 0.001], dtype=torch.float64)
believed, true = torch.tensor([[1.0, 0.0, -1.0, 3.0], [1.0, 0.0, -1.0, -1.0]], dtype=torch.float64)
greedy = believed.argmax()
print(round(mean(toy.ref_logps, toy.reward).item(), 3), believed[greedy].item(), true[greedy].item())
assert abs(mean(toy.ref_logps, toy.reward) - 0.3) < 1e-12
assert (believed[greedy], true[greedy]) == (3, -1)

# %% [markdown] lang="en"
# ## The leash
# We want reward, and we want to keep what the reference can do. So we charge for leaving it. The charge is the KL divergence of chapter 4, and its price is a number $\beta>0$:
#
# $$J(\pi)=\mathbb{E}_{y\sim\pi}[r(y)]-\beta\,\mathrm{KL}(\pi\,\|\,\pi_{\mathrm{ref}}),\qquad\mathrm{KL}(\pi\,\|\,\pi_{\mathrm{ref}})=\sum_y\pi(y)\log\frac{\pi(y)}{\pi_{\mathrm{ref}}(y)}.$$
#
# KL is measured in nats; $\beta$ says how much reward a nat costs. It is a hyper-parameter: we choose it. $J$ is *the RLHF objective*; over many prompts it is averaged. A policy that may do as it likes on each prompt can be made best on each prompt separately. RLHF is reinforcement learning from human feedback: people compare answers, a reward is learnt from the comparisons, and a policy is trained on the reward. For the last step [Ouyang et al. 2022](https://arxiv.org/abs/2203.02155) use PPO (proximal policy optimization); RLOO ([Ahmadian et al. 2024](https://arxiv.org/abs/2402.14740)) and GRPO ([Shao et al. 2024](https://arxiv.org/abs/2402.03300)) are later algorithms for it, which need no second network to predict the reward. [Chapter 12](12_rl.ipynb) runs them.
#
# By hand, for $\pi=(0.8,\,0.15,\,0.05)$: the mean reward is $0.8-0.05=0.75$. The KL is $0.8\log 1.6+0.15\log 0.5+0.05\log 0.25=0.376-0.104-0.069=0.203$. With $\beta=0.5$:
#
# | policy | mean reward | KL | $J$ |
# |---|---|---|---|
# | 0.5, 0.3, 0.2 | 0.300 | 0.000 | 0.300 |
# | 0.8, 0.15, 0.05 | 0.750 | 0.203 | 0.649 |
# | 1, 0, 0 | 1.000 | 0.693 | 0.653 |
# | 0.919, 0.075, 0.007 | 0.912 | 0.432 | 0.696 |
#
# The first row is the reference, the third the collapse. The last is better than both, and by the end of the chapter we shall know that nothing is better than it. As for $y_4$: to write nothing else costs $\log 1000=6.9$ nats, at $\beta=0.5$ more than the 3 points that it promises.

# %% [markdown] lang="zh"
# ## 拴根绳子
# 奖励要拿，参考策略的本事也要留。那就给策略拴根绳子：离开参考策略要付钱，走得越远，付得越多。走了多远，用第 4 章的 KL 散度来量；单价是一个数 $\beta>0$：
#
# $$J(\pi)=\mathbb{E}_{y\sim\pi}[r(y)]-\beta\,\mathrm{KL}(\pi\,\|\,\pi_{\mathrm{ref}}),\qquad\mathrm{KL}(\pi\,\|\,\pi_{\mathrm{ref}})=\sum_y\pi(y)\log\frac{\pi(y)}{\pi_{\mathrm{ref}}(y)}$$
#
# KL 以奈特（nat）计，$\beta$ 说的是一奈特要花多少奖励；它是超参数，由人来定。$J$ 就是 *RLHF 的目标*；有许多提示时，再对提示取平均。策略在各个提示上若能互不牵制，逐个提示求最优就行。RLHF 即基于人类反馈的强化学习（reinforcement learning from human feedback）：人来比较回答，从比较学出奖励，再按奖励训练策略。最后这一步，[Ouyang et al. 2022](https://arxiv.org/abs/2203.02155) 用的算法是 PPO（proximal policy optimization，近端策略优化）；后来又有 RLOO（[Ahmadian et al. 2024](https://arxiv.org/abs/2402.14740)）和 GRPO（[Shao et al. 2024](https://arxiv.org/abs/2402.03300)），不必再用一个网络来预测奖励。[第 12 章](12_rl.ipynb)会跑这几种。
#
# 手算一个：$\pi=(0.8,\,0.15,\,0.05)$。平均奖励是 $0.8-0.05=0.75$；KL 是 $0.8\log 1.6+0.15\log 0.5+0.05\log 0.25=0.376-0.104-0.069=0.203$。取 $\beta=0.5$：
#
# | 策略 | 平均奖励 | KL | $J$ |
# |---|---|---|---|
# | 0.5、0.3、0.2 | 0.300 | 0.000 | 0.300 |
# | 0.8、0.15、0.05 | 0.750 | 0.203 | 0.649 |
# | 1、0、0 | 1.000 | 0.693 | 0.653 |
# | 0.919、0.075、0.007 | 0.912 | 0.432 | 0.696 |
#
# 第一行是参考策略，第三行是坍缩。最后一行比前面几行都好；读完本章就会知道，没有比它更好的了。至于 $y_4$：只写它，要花 $\log 1000=6.9$ 奈特；按 $\beta=0.5$ 计价，比它许诺的 3 分还贵。

# %%
rows = torch.tensor([[0.5, 0.3, 0.2], [0.8, 0.15, 0.05], [1, 0, 0], [0.91867231, 0.07459727, 0.00673043]]).double()
table = [(mean(p.log(), toy.reward), kl(p.log(), toy.ref_logps), objective(p.log(), toy, 0.5)) for p in rows]
for p, row in zip(rows.tolist(), table):
    print([round(x, 3) for x in p], *(f"{abs(value.item()):.3f}" for value in row))
assert [f"{abs(value):.3f}" for row in table for value in row] == (
    ["0.300", "0.000", "0.300", "0.750", "0.203", "0.649", "1.000", "0.693", "0.653", "0.912", "0.432", "0.696"])  # fmt: skip
terms = [0.8 * math.log(1.6), 0.15 * math.log(0.5), 0.05 * math.log(0.25)]
assert [round(t, 3) for t in terms] == [0.376, -0.104, -0.069] and round(sum(terms), 3) == 0.203
assert round(math.log(1000), 1) == 6.9 and 0.5 * math.log(1000) > 3

# %% [markdown] lang="en"
# From here on every claim is checked on twenty random problems at once, with six answers each and another $\beta$ for each, and, where it is about all policies, on a thousand random policies for each problem. First the inequality from above:

# %% [markdown] lang="zh"
# 从这里起，每个结论都放到二十个随机问题上一起检验：每个问题六个回答，$\beta$ 各不相同。如果结论说的是所有策略，每个问题再找一千个随机策略来试。先试上面那个不等式：

# %% tags=["setup"]
SEED = 0
INSTANCES = 20
problem = random_problems(INSTANCES, 6, SEED)
ref, r = problem.ref_logps.exp(), problem.reward  # (20, 6) each
beta = torch.linspace(0.2, 2.0, INSTANCES, dtype=torch.float64)[:, None]  # (20, 1)
rivals = random_policies(1_000, INSTANCES, 6, seed=SEED + 1, scale=2.0).exp()  # (1000, 20, 6)


def J(p):
    """The objective, (...,), of policies given as probabilities, (..., 20, 6)."""
    return (p * r).sum(-1) - (beta * p * (p / ref).log()).sum(-1)


# %% tags=["proof"]
assert ((rivals * r).sum(-1) < r.amax(-1)).all()  # a mean is below the largest term ...
assert torch.equal((one_hot(r.argmax(-1), 6) * r).sum(-1), r.amax(-1))  # ... unless all weight is on the best answer

# %% [markdown] lang="en"
# ## Why KL, and in this direction
# KL has a direction: the first argument does the averaging. The objective averages over *the policy*: this is called the **reverse** KL, and $\mathrm{KL}(\pi_{\mathrm{ref}}\,\|\,\pi)$ the **forward** KL. Written as one mean, the objective is
#
# $$J(\pi)=\mathbb{E}_{y\sim\pi}\Big[r(y)-\beta\log\frac{\pi(y)}{\pi_{\mathrm{ref}}(y)}\Big].$$
#
# Three things follow. First, $J$ can be estimated from the policy's own samples, as the mean of a reward minus a penalty; nobody has to sum over all answers. [Ziegler et al. 2019](https://arxiv.org/abs/1909.08593) train on exactly this difference, and say why: the penalty keeps the policy where $r$ is valid. Second, an answer that the reference never writes makes the logarithm infinite. The leash forbids it altogether. Third, the penalty is paid only for what the policy does write. Dropping answers of total probability $m$, and keeping the others in proportion, costs $-\log(1-m)$: finite as long as something is left. So collapse has a finite price too, 0.693 for $(1,0,0)$.

# %% [markdown] lang="zh"
# ## 为什么是 KL，为什么是这个方向
# KL 有方向：按前一个分布取平均。目标里，写在前面的是*策略*，所以按策略取平均，这叫**反向 KL**（reverse KL）；$\mathrm{KL}(\pi_{\mathrm{ref}}\,\|\,\pi)$ 则叫**正向 KL**（forward KL）。整个目标合成一个平均，就是
#
# $$J(\pi)=\mathbb{E}_{y\sim\pi}\Big[r(y)-\beta\log\frac{\pi(y)}{\pi_{\mathrm{ref}}(y)}\Big]$$
#
# 由此得出三点。第一，$J$ 可以用策略自己的样本来估计：每个样本的奖励减去惩罚，再求平均，不必把所有回答加一遍。[Ziegler et al. 2019](https://arxiv.org/abs/1909.08593) 训练时用的正是这个差，理由也写明了：有惩罚，策略就不会跑出 $r$ 靠得住的范围。第二，参考策略从来不写的回答，会让对数变成无穷大：绳子根本不许策略碰它。第三，策略只为自己写出来的东西付钱。丢掉总概率为 $m$ 的回答，其余的保持比例，代价是 $-\log(1-m)$：只要没有丢光，就是有限的。所以坍缩也有价，$(1,0,0)$ 是 0.693 奈特。

# %% tags=["proof"]
cut = problem.ref_logps.index_fill(-1, torch.tensor([0]), -math.inf).log_softmax(-1)  # the reference, first answer dropped
assert (kl(problem.ref_logps, cut) == math.inf).all()  # a policy that writes what `cut` never writes
assert torch.allclose(kl(cut, problem.ref_logps), -(1 - ref[:, 0]).log())

# %% [markdown] lang="en"
# The field has names for this difference. Let a distribution with two bumps be given, and look for the one-bump distribution that is nearest to it. The smallest *reverse* KL has one that sits on a single bump and leaves the other out: reverse KL is **mode-seeking**. The smallest *forward* KL has one that is spread over both: forward KL is **mass-covering**.

# %% [markdown] lang="zh"
# 这个差别有现成的名字。给定一个有两个峰的分布，去找离它最近的单峰分布。*反向* KL 最小的，只守着一个峰，把另一个丢开：反向 KL **追逐众数**（mode-seeking）。*正向* KL 最小的，摊开来盖住两个峰：正向 KL **覆盖全体**（mass-covering）。

# %%
places = torch.arange(-20, 21).double()


def bump(centre, width):
    return (-0.5 * ((places - centre) / width) ** 2).log_softmax(-1)


two_bumps = torch.logaddexp(bump(-8, 2), bump(8, 2)) - math.log(2)
singles = torch.stack([bump(m, w) for m in range(-20, 21) for w in range(1, 13)])
nearest = {"reverse": kl(singles, two_bumps), "forward": kl(two_bumps, singles)}
on_the_left = {}
for name, distances in nearest.items():
    on_the_left[name] = singles[distances.argmin()].exp()[places < 0].sum().item()
    print(f"{name}: {on_the_left[name]:.2f} of the mass lies on the left")
assert max(on_the_left["reverse"], 1 - on_the_left["reverse"]) > 0.99
assert 0.4 < on_the_left["forward"] < 0.6

# %% [markdown] lang="en"
# What would the other direction do? $\mathrm{KL}(\pi_{\mathrm{ref}}\,\|\,\pi)$ averages over the reference. For $(0.8,\,0.15,\,0.05)$ it is 0.250, not 0.203; for $(1,0,0)$ it is infinite, because the policy has dropped answers. Its optimum has another form. We maximise $\sum_y\pi(y)\,r(y)-\beta\,\mathrm{KL}(\pi_{\mathrm{ref}}\,\|\,\pi)$ subject to $\sum_y\pi(y)=1$: add $\lambda\,(1-\sum_y\pi(y))$, with a number $\lambda$ to be found, and set the derivative with respect to each $\pi(y)$ to zero. The KL contains $\pi$ only as $-\pi_{\mathrm{ref}}(y)\log\pi(y)$, so
#
# $$r(y)+\beta\,\frac{\pi_{\mathrm{ref}}(y)}{\pi(y)}-\lambda=0\quad\Longrightarrow\quad\pi(y)=\frac{\beta\,\pi_{\mathrm{ref}}(y)}{\lambda-r(y)}.$$
#
# $\lambda$ must exceed every reward, and the probabilities must sum to 1. The larger $\lambda$, the smaller the sum, so halving an interval finds it. (Multiply the first equation by $\pi(y)$ and add up: $\lambda=\mathbb{E}_{y\sim\pi}[r(y)]+\beta$.) We check the form against a numerical minimiser that knows nothing of it.

# %% [markdown] lang="zh"
# 换个方向会怎样？$\mathrm{KL}(\pi_{\mathrm{ref}}\,\|\,\pi)$ 按参考策略取平均。对 $(0.8,\,0.15,\,0.05)$，它是 0.250，不是 0.203；对 $(1,0,0)$，它是无穷大，因为策略丢了回答。用它来惩罚，最优解的形式也不同。我们要在 $\sum_y\pi(y)=1$ 的条件下最大化 $\sum_y\pi(y)\,r(y)-\beta\,\mathrm{KL}(\pi_{\mathrm{ref}}\,\|\,\pi)$：加上一项 $\lambda\,(1-\sum_y\pi(y))$，其中 $\lambda$ 是待定的数；再对每个 $\pi(y)$ 求导，令导数为零。这个 KL 里只有 $-\pi_{\mathrm{ref}}(y)\log\pi(y)$ 含 $\pi$，所以
#
# $$r(y)+\beta\,\frac{\pi_{\mathrm{ref}}(y)}{\pi(y)}-\lambda=0\quad\Longrightarrow\quad\pi(y)=\frac{\beta\,\pi_{\mathrm{ref}}(y)}{\lambda-r(y)}$$
#
# $\lambda$ 要大于每一个奖励，概率加起来要等于 1。$\lambda$ 越大，和越小，所以用二分法就能找到它。（把左边的方程乘上 $\pi(y)$ 再求和，得到 $\lambda=\mathbb{E}_{y\sim\pi}[r(y)]+\beta$。）下面再用数值方法直接求最小值来核对，它事先不知道这个式子。

# %% tags=["proof"]
def other_optimum(ref, r, beta):
    """(policy, lambda) that maximise E[r] - beta KL(ref || policy), by halving an interval for lambda."""
    low, high = r.amax(-1, keepdim=True), r.amax(-1, keepdim=True) + beta  # the sum is above 1 at low, below at high
    for _ in range(100):
        middle = (low + high) / 2
        above = (beta * ref / (middle - r)).sum(-1, keepdim=True) > 1
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    return beta * ref / (middle - r), middle


other, lam = other_optimum(ref, r, beta)
assert torch.allclose(other.sum(-1), torch.ones(INSTANCES).double())
assert torch.allclose(lam[:, 0], (other * r).sum(-1) + beta[:, 0])
found = minimise(lambda z: beta[:, 0] * kl(problem.ref_logps, z.log_softmax(-1)) - mean(z.log_softmax(-1), r), r)
assert torch.allclose(found.softmax(-1), other, atol=1e-7)

# %% [markdown] lang="en"
# On the toy this optimum is $(0.841,\,0.116,\,0.044)$, with $\lambda=1.297$. Now make the third answer terrible: reward -10 in place of -1. The optimum of our objective, derived below, then writes it once in $10^{10}$ answers; the other one writes it once in 113. One shrinks like the exponential of the reward, the other like one over the reward. If some answers must be very rare, the direction in the objective is the one to have.

# %% [markdown] lang="zh"
# 在手算例子里，换了方向的最优解是 $(0.841,\,0.116,\,0.044)$，$\lambda=1.297$。现在让第三个回答糟透：奖励从 -1 改成 -10。我们那个目标的最优解（后面会推出来），大约 $10^{10}$ 个回答里写它一次；换了方向的，113 个里就写一次。奖励越低，前者按指数缩小，后者只按反比缩小。要是有些回答必须极其罕见，就该用目标里的这个方向。

# %%
turned, lam_toy = other_optimum(toy.ref_logps.exp(), toy.reward, 0.5)
terrible = Problem(toy.ref_logps, torch.tensor([1.0, 0.0, -10.0]).double())
rare = optimal_policy(terrible, 0.5).exp()[2].item(), other_optimum(toy.ref_logps.exp(), terrible.reward, 0.5)[0][2].item()
print([round(x, 3) for x in turned.tolist()], round(lam_toy.item(), 3), f"{rare[0]:.1e} {rare[1]:.4f}")
assert [round(x, 3) for x in turned.tolist()] == [0.841, 0.116, 0.044] and round(lam_toy.item(), 3) == 1.297
assert 0.9e-10 < rare[0] < 1.1e-10 and round(1 / rare[1]) == 113
backward = [kl(toy.ref_logps, p.log()).item() for p in rows[1:3]]
assert round(backward[0], 3) == 0.250 and backward[1] == math.inf

# %% [markdown] lang="en"
# ### The leash, token by token
# A language model writes tokens. Let $y_t$ be the $t$-th token of an answer and $y_{<t}$ what stands before it. The probability of an answer is a product over its tokens, so its logarithm is a sum, and so is the penalty:
#
# $$\log\frac{\pi(y)}{\pi_{\mathrm{ref}}(y)}=\sum_t\log\frac{\pi(y_t\mid y_{<t})}{\pi_{\mathrm{ref}}(y_t\mid y_{<t})}.$$
#
# Take the mean over answers of the policy. On the left stands the KL of answers. On the right, each fork contributes the KL of its two next-token distributions, weighted by how often *the policy* comes by. This is the chain rule of KL. Ouyang et al. take the penalty token by token: subtract $\beta\log(\pi/\pi_{\mathrm{ref}})$ at each, and add the reward at the last one. (GRPO puts an estimate of the KL into the loss instead; chapter 12.) The sum is the reward minus the penalty of the whole answer. (The sum: a mean over tokens would be another objective.) We enumerate trees with two tokens of three kinds, nine answers.

# %% [markdown] lang="zh"
# ### 逐个词元看绳子
# 语言模型是一个词元一个词元地写。记 $y_t$ 为回答的第 $t$ 个词元，$y_{<t}$ 为它前面的部分。回答的概率是各词元概率的乘积，取对数就成了和，惩罚也跟着成了和：
#
# $$\log\frac{\pi(y)}{\pi_{\mathrm{ref}}(y)}=\sum_t\log\frac{\pi(y_t\mid y_{<t})}{\pi_{\mathrm{ref}}(y_t\mid y_{<t})}$$
#
# 对策略写出的回答取平均：左边是整个回答的 KL；右边，每个岔口（每种可能的 $y_{<t}$）贡献一份，即两个下一词元分布之间的 KL，权重是*策略*走到那里的概率。这就是 KL 的链式法则。Ouyang 等人的惩罚就是逐个词元扣的：在每个词元上减去 $\beta\log(\pi/\pi_{\mathrm{ref}})$，在最后一个词元上加奖励。（GRPO 不这样，它把 KL 的估计值放进损失；见第 12 章。）加起来，就是奖励减去整个回答的惩罚。（一定要相加；若对词元取平均，就是另一个目标了。）下面把树整个列出来：两个词元，每个有三种写法，共九个回答。

# %% tags=["proof"]
first, first_ref = random_policies(2, INSTANCES, 3, seed=SEED + 2)  # (20, 3): log-probabilities of the first token
second, second_ref = random_policies(2, INSTANCES, 3, 3, seed=SEED + 3)  # (20, 3, 3): of the second, after each first
answers, answers_ref = ((a[..., None] + b).flatten(1) for a, b in ((first, second), (first_ref, second_ref)))  # (20, 9)
ratios = (first - first_ref)[..., None] + (second - second_ref)  # the two tokens' log-ratios, added
assert torch.allclose((answers.exp() * ratios.flatten(1)).sum(-1), kl(answers, answers_ref))
forks = kl(first, first_ref) + (first.exp() * kl(second, second_ref)).sum(-1)
assert torch.allclose(kl(answers, answers_ref), forks)

# %% [markdown] lang="en"
# ## The optimum, first route: a multiplier
# We look for the policy that makes $J$ largest, among all $\pi$ with $\sum_y\pi(y)=1$. From here on sums run over the answers with $\pi_{\mathrm{ref}}(y)>0$; the others are forbidden.
#
# *Add the constraint with a multiplier $\lambda$*, a number still to be found:
#
# $$\sum_y\pi(y)\,r(y)-\beta\sum_y\pi(y)\log\frac{\pi(y)}{\pi_{\mathrm{ref}}(y)}+\lambda\Big(1-\sum_y\pi(y)\Big).$$
#
# *Differentiate with respect to one $\pi(y)$ and set the result to zero.* The derivative of $p\log p$ is $\log p+1$:
#
# $$r(y)-\beta\Big(\log\frac{\pi(y)}{\pi_{\mathrm{ref}}(y)}+1\Big)-\lambda=0.$$
#
# *Divide by $\beta$ and solve for the logarithm*:
#
# $$\log\frac{\pi(y)}{\pi_{\mathrm{ref}}(y)}=\frac{r(y)}{\beta}-\Big(1+\frac{\lambda}{\beta}\Big).$$
#
# *Exponentiate.* The bracket does not depend on $y$: it is one factor for all answers, and the sum must be 1. So the factor is one over $Z$, the **partition function**:
#
# $$\pi^*(y)=\frac{1}{Z}\,\pi_{\mathrm{ref}}(y)\,e^{r(y)/\beta},\qquad Z=\sum_y\pi_{\mathrm{ref}}(y)\,e^{r(y)/\beta}.$$
#
# Take the reference and reweight it by the exponential of the reward. This is called **exponential tilting**, or the Gibbs distribution. We did not ask for $\pi(y)\ge 0$; the exponential sees to it, and $\pi^*(y)>0$ exactly where $\pi_{\mathrm{ref}}(y)>0$. Comparing the factors, $e^{-1-\lambda/\beta}=1/Z$ says $\lambda=\beta\log Z-\beta$. And the point is a maximum, the only one: $p\log p$ is convex (it curves upwards), so $-\beta\,\mathrm{KL}$ is concave (it curves downwards), and the mean reward is straight. Halfway between two policies $\pi_1\ne\pi_2$, at $\bar\pi=(\pi_1+\pi_2)/2$, $J$ lies above the mean of its values at both, by $\frac\beta2\,[\mathrm{KL}(\pi_1\,\|\,\bar\pi)+\mathrm{KL}(\pi_2\,\|\,\bar\pi)]$.

# %% [markdown] lang="zh"
# ## 最优解，第一条路：乘子
# 在所有满足 $\sum_y\pi(y)=1$ 的 $\pi$ 里，找让 $J$ 最大的那个。从这里起，求和只取 $\pi_{\mathrm{ref}}(y)>0$ 的回答，别的反正不许写。
#
# *用（拉格朗日）乘子 $\lambda$ 把约束加进去*，$\lambda$ 是个待定的数：
#
# $$\sum_y\pi(y)\,r(y)-\beta\sum_y\pi(y)\log\frac{\pi(y)}{\pi_{\mathrm{ref}}(y)}+\lambda\Big(1-\sum_y\pi(y)\Big)$$
#
# *对某一个 $\pi(y)$ 求导，令它为零。* $p\log p$ 的导数是 $\log p+1$：
#
# $$r(y)-\beta\Big(\log\frac{\pi(y)}{\pi_{\mathrm{ref}}(y)}+1\Big)-\lambda=0$$
#
# *除以 $\beta$，解出对数*：
#
# $$\log\frac{\pi(y)}{\pi_{\mathrm{ref}}(y)}=\frac{r(y)}{\beta}-\Big(1+\frac{\lambda}{\beta}\Big)$$
#
# *取指数。* 括号里没有 $y$，取指数后，它是所有回答共用的一个系数；而概率之和必须是 1。所以这个系数只能是 $1/Z$，其中 $Z$ 叫**配分函数**（partition function）：
#
# $$\pi^*(y)=\frac{1}{Z}\,\pi_{\mathrm{ref}}(y)\,e^{r(y)/\beta},\qquad Z=\sum_y\pi_{\mathrm{ref}}(y)\,e^{r(y)/\beta}$$
#
# 拿参考策略来，按奖励的指数重新加权。这叫**指数倾斜**（exponential tilting），得到的是 Gibbs 分布。我们没有要求 $\pi(y)\ge 0$，指数自己就保证了：凡是 $\pi_{\mathrm{ref}}(y)>0$ 的回答，$\pi^*(y)$ 也大于零，别的都是零。对照两边的系数，$e^{-1-\lambda/\beta}=1/Z$，即 $\lambda=\beta\log Z-\beta$。而且这个点是最大点，只此一个：$p\log p$ 是凸的（向上弯），$-\beta\,\mathrm{KL}$ 就是凹的（向下弯），平均奖励则是直的。任取两个不同的策略 $\pi_1$、$\pi_2$，在正中间 $\bar\pi=(\pi_1+\pi_2)/2$ 处，$J$ 比两头的平均高出 $\frac\beta2\,[\mathrm{KL}(\pi_1\,\|\,\bar\pi)+\mathrm{KL}(\pi_2\,\|\,\bar\pi)]$。

# %% tags=["proof"]
tilted = ref * torch.exp(r / beta)
Z = tilted.sum(-1, keepdim=True)  # (20, 1)
star = tilted / Z  # (20, 6)
assert torch.allclose(star.log(), optimal_policy(problem, beta))  # the library's, in logarithms
assert torch.equal(optimal_policy(Problem(cut, r), beta).exp() > 0, cut.exp() > 0)  # zero where the reference is
at_star = star.clone().requires_grad_()
(slope,) = torch.autograd.grad(J(at_star).sum(), at_star)  # dJ/dpi(y): the same for all six answers
assert torch.allclose(slope, beta * Z.log() - beta)
a, b = rivals[:500], rivals[500:]
halfway = (a + b) / 2
gap = J(halfway) - (J(a) + J(b)) / 2
assert torch.allclose(gap, beta[:, 0] / 2 * ((a * (a / halfway).log()).sum(-1) + (b * (b / halfway).log()).sum(-1)))
assert (gap > 0).all()
assert (J(star) > J(rivals).amax(0)).all()

# %% [markdown] lang="en"
# ## The optimum, second route: completing the KL
# The second route needs no calculus, and it gives more. It is the one of [Rafailov et al. 2023](https://arxiv.org/abs/2305.18290), appendix A.1. The result is older; they name [Peters & Schaal 2007](https://doi.org/10.1145/1273496.1273590) and [Peng et al. 2019](https://arxiv.org/abs/1910.00177) among those they follow. Five lines, each equal to the one before:
#
# $$\begin{aligned}J(\pi)&=\sum_y\pi(y)\Big(r(y)-\beta\log\frac{\pi(y)}{\pi_{\mathrm{ref}}(y)}\Big)\\&=\beta\sum_y\pi(y)\Big(\log e^{r(y)/\beta}-\log\frac{\pi(y)}{\pi_{\mathrm{ref}}(y)}\Big)\\&=\beta\sum_y\pi(y)\log\frac{\pi_{\mathrm{ref}}(y)\,e^{r(y)/\beta}}{\pi(y)}\\&=\beta\sum_y\pi(y)\log\frac{Z\,\pi^*(y)}{\pi(y)}\\&=\beta\log Z-\beta\,\mathrm{KL}(\pi\,\|\,\pi^*).\end{aligned}$$
#
# The first writes both means as one sum. The second writes $r$ as $\beta\log e^{r/\beta}$. The third gathers the logarithms. The fourth recognises the numerator: it is $Z\,\pi^*(y)$. The fifth takes out $\log Z$, which does not depend on $y$; the $\pi(y)$ beside it sum to 1.
#
# Now look at the last line. The policy appears once, in a KL divergence. **Gibbs' inequality** says that a KL divergence is never negative, and zero only between equal distributions. So $\pi^*$ is the maximum, $\beta\log Z$ is its height, and every other policy misses it by
#
# $$J(\pi^*)-J(\pi)=\beta\,\mathrm{KL}(\pi\,\|\,\pi^*).$$
#
# To maximise $J$ is to approach $\pi^*$ in reverse KL: a policy that cannot reach it will rather keep to some of its answers than cover all. (To imitate samples of $\pi^*$ is to approach it in forward KL, as SFT approaches its data in [chapter 3](03_sft.ipynb).) Korbak et al. read it as Bayesian inference: $\pi_{\mathrm{ref}}$ is the prior, $e^{r/\beta}$ the evidence.

# %% [markdown] lang="zh"
# ## 最优解，第二条路：配成 KL
# 第二条路像解二次方程时的配方法：不用微积分，得到的还更多。走法见 [Rafailov et al. 2023](https://arxiv.org/abs/2305.18290) 附录 A.1。这个结论早已有之；他们说自己沿用前人，其中就有 [Peters & Schaal 2007](https://doi.org/10.1145/1273496.1273590) 和 [Peng et al. 2019](https://arxiv.org/abs/1910.00177)。一共五行，每一行都等于上一行：
#
# $$\begin{aligned}J(\pi)&=\sum_y\pi(y)\Big(r(y)-\beta\log\frac{\pi(y)}{\pi_{\mathrm{ref}}(y)}\Big)\\&=\beta\sum_y\pi(y)\Big(\log e^{r(y)/\beta}-\log\frac{\pi(y)}{\pi_{\mathrm{ref}}(y)}\Big)\\&=\beta\sum_y\pi(y)\log\frac{\pi_{\mathrm{ref}}(y)\,e^{r(y)/\beta}}{\pi(y)}\\&=\beta\sum_y\pi(y)\log\frac{Z\,\pi^*(y)}{\pi(y)}\\&=\beta\log Z-\beta\,\mathrm{KL}(\pi\,\|\,\pi^*)\end{aligned}$$
#
# 第一行，两个平均并成一个和。第二行，把 $r$ 写成 $\beta\log e^{r/\beta}$。第三行，对数合并。第四行，认出分子：它就是 $Z\,\pi^*(y)$。第五行，$\log Z$ 与 $y$ 无关，提到外面；与它相乘的 $\pi(y)$ 加起来是 1。
#
# 看最后一行：策略只出现一次，就在那个 KL 散度里。**Gibbs 不等式**（Gibbs' inequality）说：KL 散度不会是负的，两个分布相等时才是零。所以 $\pi^*$ 就是最大点，高度是 $\beta\log Z$；别的策略都差一截，差额是
#
# $$J(\pi^*)-J(\pi)=\beta\,\mathrm{KL}(\pi\,\|\,\pi^*)$$
#
# 最大化 $J$，就是按反向 KL 向 $\pi^*$ 靠拢：够不着 $\pi^*$ 的策略，宁可守住它的一部分回答，也不去盖住全部。（模仿 $\pi^*$ 的样本，则是按正向 KL 向它靠拢，就像[第 3 章](03_sft.ipynb)里 SFT 向数据靠拢。）Korbak 等人把它看作贝叶斯推断：$\pi_{\mathrm{ref}}$ 是先验，$e^{r/\beta}$ 是奖励带来的证据。

# %% tags=["proof"]
ratio = (rivals / ref).log()
lines = [
    (rivals * r).sum(-1) - beta[:, 0] * kl(rivals.log(), problem.ref_logps),  # the definition
    (rivals * (r - beta * ratio)).sum(-1),
    beta[:, 0] * (rivals * (torch.exp(r / beta).log() - ratio)).sum(-1),
    beta[:, 0] * (rivals * (tilted / rivals).log()).sum(-1),
    beta[:, 0] * (rivals * (Z * star / rivals).log()).sum(-1),
    (beta * Z.log())[:, 0] - beta[:, 0] * kl(rivals.log(), star.log()),
]
for above, below in pairwise(lines):
    assert torch.allclose(above, below)
assert torch.allclose(J(star), (beta * Z.log())[:, 0])
assert torch.allclose(J(star) - J(rivals), beta[:, 0] * (rivals * (rivals / star).log()).sum(-1))

# %% [markdown] lang="en"
# Gibbs' inequality itself takes a few lines. Let $p$ and $q$ be two distributions over answers (here $q$ is no preference probability). Where $p(y)>0=q(y)$ for some answer, the KL is infinite; otherwise put $\rho=q(y)/p(y)$. For $\rho>0$, $\log\rho\le\rho-1$, with equality only at $\rho=1$. Suppose first that $p(y)>0$ wherever $q(y)>0$. As $\sum_y p(y)\,(\rho-1)=\sum_y q(y)-\sum_y p(y)=0$, that sum may be added for free:
#
# $$\mathrm{KL}(p\,\|\,q)=\sum_y p(y)\,(-\log\rho)=\sum_y p(y)\,(\rho-1-\log\rho)\ge 0.$$
#
# Every term is at least zero, and zero only where $q(y)=p(y)$. If $p$ leaves out answers to which $q$ gives total probability $m$, then $\sum_y p(y)\,(\rho-1)$ is $-m$, and the KL is the last sum plus $m$: all the more above zero.
#
# The summand $\rho-1-\log\rho$ is also an estimator of KL, called $k_3$ by [Schulman 2020](http://joschu.net/blog/kl-approx.html): never negative and, if $p$ leaves nothing out, right on average, like $-\log\rho$. A policy that is sampled with top-k or top-p does leave answers out, and there $k_3$ reads too low by $m$. You write it in exercise 6.3.

# %% [markdown] lang="zh"
# Gibbs 不等式本身只要几行。设 $p$、$q$ 是回答上的两个分布（这里的 $q$ 不是偏好的概率）。要是某个回答 $p(y)>0=q(y)$，KL 就是无穷大；要是没有，令 $\rho=q(y)/p(y)$。$\rho>0$ 时 $\log\rho\le\rho-1$，只在 $\rho=1$ 处相等。先假定凡是 $q(y)>0$ 的回答，都有 $p(y)>0$。这时 $\sum_y p(y)\,(\rho-1)=\sum_y q(y)-\sum_y p(y)=0$，把这个和加进去，值不变：
#
# $$\mathrm{KL}(p\,\|\,q)=\sum_y p(y)\,(-\log\rho)=\sum_y p(y)\,(\rho-1-\log\rho)\ge 0$$
#
# 每一项都不小于零，只在 $q(y)=p(y)$ 处等于零。若 $p$ 漏掉了一些回答，它们在 $q$ 下的总概率是 $m$，那么 $\sum_y p(y)\,(\rho-1)$ 等于 $-m$，KL 就是上式最后那个和再加 $m$，更是大于零。
#
# 和里的这一项 $\rho-1-\log\rho$，也是 KL 的一个估计量，[Schulman 2020](http://joschu.net/blog/kl-approx.html) 叫它 $k_3$。它从不为负；只要 $p$ 没有漏掉回答，它平均起来就正好是 KL，同 $-\log\rho$ 一样。策略若用 top-k 或 top-p 采样，就会漏，这时 $k_3$ 平均偏低 $m$。练习 6.3 就来写它。

# %% tags=["proof"]
rho = star / rivals  # q is the optimum, p the rivals: (1000, 20, 6)
pieces = rho - 1 - rho.log()
assert (pieces >= 0).all() and (pieces[(rho - 1).abs() > 1e-3] > 0).all()
assert torch.allclose((rivals * (rho - 1)).sum(-1), torch.zeros(1000, INSTANCES).double())
assert torch.allclose((rivals * pieces).sum(-1), kl(rivals.log(), star.log()))
assert kl(star.log(), optimal_policy(problem, beta)).abs().max() < 1e-12  # equal: zero
short = rivals[..., 1:] / rivals[..., 1:].sum(-1, keepdim=True)  # p leaves out the first answer; there q has star[:, 0]
there = star[..., 1:] / short
assert torch.allclose((short * (there - 1)).sum(-1), -star[:, 0].expand(1000, INSTANCES))
assert torch.allclose((short * (there - 1 - there.log())).sum(-1) + star[:, 0], (short * (short / star[:, 1:]).log()).sum(-1))

# %% [markdown] lang="en"
# ## V, the soft maximum
# The height of the maximum has a name of its own, $V=\beta\log Z$. It is measured in units of reward, and it is a **soft maximum** of the rewards (a weighted logsumexp, not the softmax of chapter 2): at least their mean under the reference, at most the largest, and equal to both if all rewards are equal. Let $r_{\max}$ be the largest reward, $p_{\max}$ the probability with which the reference reaches it, and $p^*_{\max}$ that of the optimum. Then
#
# $$\mathbb{E}_{\pi_{\mathrm{ref}}}[r]\le V\le r_{\max},\qquad V=r_{\max}+\beta\log\frac{p_{\max}}{p^*_{\max}}\ge r_{\max}+\beta\log p_{\max}.$$
#
# The first: $\mathbb{E}_{\pi_{\mathrm{ref}}}[r]$ is $J(\pi_{\mathrm{ref}})$, and $V$ is the maximum. The second: the penalty is never negative. The rest: $p^*_{\max}=p_{\max}\,e^{r_{\max}/\beta}/Z$, solved for $\beta\log Z$; and it is at most 1. On the toy, $V=0.5\log 4.022=0.696$, between 0.3 and 1.
#
# Take logarithms in the formula for $\pi^*$:
#
# $$\log\frac{\pi^*(y)}{\pi_{\mathrm{ref}}(y)}=\frac{r(y)-V}{\beta}.$$
#
# An answer gains probability if its reward exceeds $V$, and loses if it is below. To be better than the reference's average is not enough, still less to be better than some other answer. $y_2$ has reward 0, above $y_3$, and still falls from 0.3 to 0.075, because $0<0.696$. If a pair of answers is $(y_2,y_3)$, the winner, too, becomes rarer; chapter 9 meets this in a network. Last: add a constant $c$ to the rewards of all answers to a prompt. $Z$ is multiplied by $e^{c/\beta}$, $V$ grows by $c$, and $\pi^*$ stays as it is.

# %% [markdown] lang="zh"
# ## V，软最大值
# 最大点的高度有自己的记号：$V=\beta\log Z$。它以奖励为单位，是各个奖励的**软最大值**（soft maximum；它是 logsumexp 的加权形式，不是第 2 章的 softmax）：不低于参考策略下的平均奖励，不高于最大的奖励；奖励全都一样时，三者相等。记 $r_{\max}$ 为最大的奖励，$p_{\max}$ 为参考策略拿到它的概率，$p^*_{\max}$ 为最优解拿到它的概率，那么
#
# $$\mathbb{E}_{\pi_{\mathrm{ref}}}[r]\le V\le r_{\max},\qquad V=r_{\max}+\beta\log\frac{p_{\max}}{p^*_{\max}}\ge r_{\max}+\beta\log p_{\max}$$
#
# 第一个不等号：$\mathbb{E}_{\pi_{\mathrm{ref}}}[r]$ 就是 $J(\pi_{\mathrm{ref}})$，而 $V$ 是 $J$ 的最大值。第二个：惩罚不会是负的，$J$ 也就不会超过最大的奖励。后一式：从 $p^*_{\max}=p_{\max}\,e^{r_{\max}/\beta}/Z$ 解出 $\beta\log Z$，再用 $p^*_{\max}$ 不超过 1。在手算例子里，$V=0.5\log 4.022=0.696$，在 0.3 和 1 之间。
#
# 对 $\pi^*$ 的公式取对数：
#
# $$\log\frac{\pi^*(y)}{\pi_{\mathrm{ref}}(y)}=\frac{r(y)-V}{\beta}$$
#
# 奖励高于 $V$ 的回答，概率上升；低于 $V$ 的，下降。比参考策略的平均好还不够，只比某一个回答好就更不够：$y_2$ 的奖励是 0，比 $y_3$ 高，概率照样从 0.3 掉到 0.075，因为 $0<0.696$。要是拿 $(y_2,y_3)$ 配成一对，赢的那个也会变少；第 9 章会在网络上碰到这件事。最后，给同一个提示的所有回答，奖励都加上常数 $c$：$Z$ 乘上 $e^{c/\beta}$，$V$ 加上 $c$，$\pi^*$ 不变。

# %% tags=["proof"]
V = beta[:, 0] * log_partition(problem, beta)  # (20,)
best = r == r.amax(-1, keepdim=True)
assert ((ref * r).sum(-1) < V).all() and (r.amax(-1) > V).all()
floor = r.amax(-1) + beta[:, 0] * (ref * best).sum(-1).log()
assert torch.allclose(V, floor - beta[:, 0] * (star * best).sum(-1).log())
assert (floor < V).all()
flat = Problem(problem.ref_logps, torch.full_like(r, 3))
assert (beta[:, 0] * log_partition(flat, beta) - 3).abs().max() < 1e-12  # equal rewards
assert torch.allclose((star / ref).log(), (r - V[:, None]) / beta)
assert torch.equal(star > ref, r > V[:, None])
between = (r > (ref * r).sum(-1, keepdim=True)) & (r < V[:, None])  # above the mean
assert between.any() and (star < ref)[between].all()  # and still they fall
lifted = Problem(problem.ref_logps, r + 5)
assert torch.allclose(beta[:, 0] * log_partition(lifted, beta), V + 5)
assert torch.allclose(optimal_policy(lifted, beta), star.log())

# %% [markdown] lang="en"
# How does $V$ move with $\beta$? Product rule, then the chain rule inside $Z$:
#
# $$\frac{dV}{d\beta}=\log Z+\beta\cdot\frac1Z\sum_y\pi_{\mathrm{ref}}(y)\,e^{r(y)/\beta}\Big(-\frac{r(y)}{\beta^2}\Big)=\frac{V-\mathbb{E}_{\pi^*}[r]}{\beta}=-\mathrm{KL}(\pi^*\,\|\,\pi_{\mathrm{ref}}).$$
#
# The last step uses $V=J(\pi^*)=\mathbb{E}_{\pi^*}[r]-\beta\,\mathrm{KL}(\pi^*\,\|\,\pi_{\mathrm{ref}})$. In words: raise the price of a nat a little, and you lose the nats that you buy times the rise. That the optimum itself moves does not matter to first order, because at a maximum the slope is zero; this is the *envelope theorem*. So $V$ falls as $\beta$ grows.
#
# For the mean reward at the optimum use $s=1/\beta$. $\mathbb{E}_{\pi^*}[r]=\sum_y r\,\pi_{\mathrm{ref}}\,e^{sr}\big/\sum_y\pi_{\mathrm{ref}}\,e^{sr}$; the quotient rule gives the mean of $r^2$ minus the square of the mean of $r$, a variance:
#
# $$\frac{d\,\mathbb{E}_{\pi^*}[r]}{ds}=\mathrm{Var}_{\pi^*}(r)\ge 0.$$
#
# For large $\beta$, expand $e^{r/\beta}$ and the logarithm to second order in $1/\beta$: $V\approx\mathbb{E}_{\pi_{\mathrm{ref}}}[r]+\mathrm{Var}_{\pi_{\mathrm{ref}}}(r)/(2\beta)$.

# %% [markdown] lang="zh"
# $V$ 随 $\beta$ 怎么变？先用乘积求导法则，$Z$ 里面再用链式法则：
#
# $$\frac{dV}{d\beta}=\log Z+\beta\cdot\frac1Z\sum_y\pi_{\mathrm{ref}}(y)\,e^{r(y)/\beta}\Big(-\frac{r(y)}{\beta^2}\Big)=\frac{V-\mathbb{E}_{\pi^*}[r]}{\beta}=-\mathrm{KL}(\pi^*\,\|\,\pi_{\mathrm{ref}})$$
#
# 最后一步用到 $V=J(\pi^*)=\mathbb{E}_{\pi^*}[r]-\beta\,\mathrm{KL}(\pi^*\,\|\,\pi_{\mathrm{ref}})$。换成白话：一奈特的价钱涨一点点，$V$ 就少掉一点点，少掉的是买下的奈特数乘以涨幅。最优解自己也会跟着挪，但最大点处斜率为零，挪动的影响是更高阶的小量；这叫*包络定理*（envelope theorem）。所以 $\beta$ 变大，$V$ 变小。
#
# 再看最优解的平均奖励，改用 $s=1/\beta$。$\mathbb{E}_{\pi^*}[r]=\sum_y r\,\pi_{\mathrm{ref}}\,e^{sr}\big/\sum_y\pi_{\mathrm{ref}}\,e^{sr}$；用商的求导法则，得到的是 $r^2$ 的平均，减去 $r$ 的平均值的平方，也就是方差：
#
# $$\frac{d\,\mathbb{E}_{\pi^*}[r]}{ds}=\mathrm{Var}_{\pi^*}(r)\ge 0$$
#
# $\beta$ 很大时，把 $e^{r/\beta}$ 和对数都展开到 $1/\beta$ 的二次项：$V\approx\mathbb{E}_{\pi_{\mathrm{ref}}}[r]+\mathrm{Var}_{\pi_{\mathrm{ref}}}(r)/(2\beta)$。

# %% tags=["proof"]
price = beta[:, 0].clone().requires_grad_()  # (20,)
(dV,) = torch.autograd.grad((price * log_partition(problem, price[:, None])).sum(), price)
assert torch.allclose(dV, -kl(star.log(), problem.ref_logps))
assert torch.allclose(dV, (V - (star * r).sum(-1)) / beta[:, 0])
s = (1 / beta).requires_grad_()  # (20, 1)
reward_at = mean((problem.ref_logps + s * r).log_softmax(-1), r)
(dreward,) = torch.autograd.grad(reward_at.sum(), s)
assert torch.allclose(dreward[:, 0], (star * r**2).sum(-1) - (star * r).sum(-1) ** 2)
large, average = 1e4, (ref * r).sum(-1)
variance = (ref * (r - average[:, None]) ** 2).sum(-1)
assert torch.allclose(large * log_partition(problem, large) - average, variance / (2 * large), rtol=1e-3)

# %% [markdown] lang="en"
# ## The two ends of beta
# Let $\beta$ fall to 0. The ratio of two answers is multiplied by $e^{(r_1-r_2)/\beta}$, which grows without bound as soon as the rewards differ: all mass moves to the best answers. Several best answers keep the reference's proportions, and the KL ends at $\log(1/p_{\max})$. Let $\beta$ grow without bound. Every factor $e^{r/\beta}$ goes to 1 and $\pi^*$ goes to the reference. To first order,
#
# $$\pi^*(y)\approx\pi_{\mathrm{ref}}(y)\Big(1+\frac{r(y)-\mathbb{E}_{\pi_{\mathrm{ref}}}[r]}{\beta}\Big).$$
#
# A small $\beta$ is a long leash. To test the first end, rewards are rounded to whole numbers, so that there are ties.

# %% [markdown] lang="zh"
# ## beta 的两头
# 先让 $\beta$ 降到 0。两个回答的概率之比，要乘上 $e^{(r_1-r_2)/\beta}$；只要前一个奖励更高，这个系数就无限增大，概率于是全归到最好的回答上。并列最好的几个，彼此保持参考策略下的比例；KL 停在 $\log(1/p_{\max})$。再让 $\beta$ 无限增大。系数 $e^{r/\beta}$ 个个趋于 1，$\pi^*$ 回到参考策略。精确到一阶，
#
# $$\pi^*(y)\approx\pi_{\mathrm{ref}}(y)\Big(1+\frac{r(y)-\mathbb{E}_{\pi_{\mathrm{ref}}}[r]}{\beta}\Big)$$
#
# $\beta$ 小，绳子就长。检验前一头时，先把奖励取整，好出现并列。

# %% tags=["proof"]
tied = Problem(problem.ref_logps, r.round())
top = ref * (tied.reward == tied.reward.amax(-1, keepdim=True))
p_max = top.sum(-1, keepdim=True)
greedy_end = optimal_policy(tied, 1e-3)
assert torch.allclose(greedy_end.exp(), top / p_max)
assert torch.allclose(kl(greedy_end, tied.ref_logps), (1 / p_max[:, 0]).log())
assert torch.allclose(optimal_policy(problem, 1e12).exp(), ref)
change = 1e6 * (optimal_policy(problem, 1e6).exp() / ref - 1)  # beta times the relative change
assert torch.allclose(change, r - (ref * r).sum(-1, keepdim=True), atol=1e-4)

# %% alt_en="Left: a triangle whose corners are the three answers, with contour lines of J around a star near the upper corner y1. A curve runs from the reference, a point inside the triangle, to the corner y1 and passes through the star. Right: the three probabilities of the optimum against beta on a logarithmic axis. For small beta, y1 has probability 1; for large beta the lines end at 0.5, 0.3 and 0.2. The line of y2 starts at 0." alt_zh="左图：三角形的三个顶点是三个回答，J 的等高线围着一颗星，星靠近上方的顶点 y1。一条曲线从三角形内部的参考策略出发，经过星号，到顶点 y1 为止。右图：最优解的三个概率随 beta 变化，横轴取对数。beta 小时 y1 的概率是 1；beta 大时，三条线停在 0.5、0.3、0.2。y2 的线从 0 出发。"
corners = torch.tensor([[0.5, 0.866], [0.0, 0.0], [1.0, 0.0]]).double()  # of y1, y2, y3
steps = torch.arange(1, 100).double() / 100
grid = torch.cartesian_prod(steps, steps)
grid = torch.cat((grid, 1 - grid.sum(1, keepdim=True)), 1)[grid.sum(1) < 0.995]  # (4851, 3)
betas = np.geomspace(0.03, 60, 200)
path = torch.stack([optimal_policy(toy, b).exp() for b in betas])  # (200, 3)
fig, (left, right) = figure(columns=2, width=7.6, height=3.3)
style = {"levels": [-1, -0.6, -0.2, 0.1, 0.3, 0.43, 0.52], "colors": COLORS["ref"], "linewidths": 0.8, "linestyles": "-"}
left.tricontour(*(grid @ corners).T, objective(grid.log(), toy, 1.0), **style)
left.fill(*corners.T, fill=False, edgecolor=INK)
left.plot(*(path @ corners).T, color=COLORS["theory"])
left.plot(*(toy.ref_logps.exp() @ corners), "o", color=COLORS["ref"])
left.plot(*(optimal_policy(toy, 1.0).exp() @ corners), "*", color=COLORS["theory"], markersize=13)
for name, x, y in (("$y_1$", 0.5, 0.9), ("$y_2$", -0.07, -0.03), ("$y_3$", 1.07, -0.03), (r"$\pi_{\mathrm{ref}}$", 0.54, 0.39)):
    left.text(x, y, name, ha="center")
left.set(xlim=(-0.15, 1.15), ylim=(-0.08, 1.0), aspect="equal")
left.axis("off")
for i, style in enumerate(("-", "--", ":")):
    right.semilogx(betas, path[:, i], style, color=COLORS["theory"], label=f"$y_{i + 1}$")
right.set(xlabel=r"$\beta$", ylabel=r"$\pi^*$", yticks=[0, 0.2, 0.3, 0.5, 1])
right.legend()
assert path[0, 0] > 0.999 and (path[-1] - toy.ref_logps.exp()).abs().max() < 0.01

# %% [markdown] lang="en"
# **Figure 6.1.** Left: all policies over three answers. Grey lines join policies with the same $J$ at $\beta=1$; $J$ grows towards the star, which is $\pi^*$ there. The curve is the path of the optimum from the reference ($\beta$ large) to the corner $y_1$ ($\beta$ small). Right: the same path against $\beta$.

# %% [markdown] lang="zh"
# **图 6.1** 左：三个回答上的全部策略。灰线是 $\beta=1$ 时 $J$ 的等高线，越靠近星号 $J$ 越大；星号是此时的 $\pi^*$。曲线是最优解走过的路：从参考策略（$\beta$ 大）到顶点 $y_1$（$\beta$ 小）。右：同一条路，横轴换成 $\beta$。

# %% [markdown] lang="en"
# ### A wrong reward on a leash
# Back to $y_4$, which the reference writes once in 1,000 times and the reward model overrates by 4 points. At $\beta=1$ the optimum writes it in 1.1 % of its answers, at 0.5 in 9.1 %, at 0.25 in 85.5 %. The mean reward that is *believed* rises all the way: 0.77, 1.10, 2.71. The *true* mean worth first rises from 0.30 to 0.72 and 0.74, then it falls to -0.71.

# %% [markdown] lang="zh"
# ### 有绳子，但奖励错了
# 回到 $y_4$：参考策略 1,000 次才写一次，奖励模型把它高估了 4 分。最优解写它的比例，$\beta=1$ 时是 1.1%，0.5 时是 9.1%，0.25 时是 85.5%。*自以为*的平均奖励一路上升：0.77、1.10、2.71。*真实*的平均价值先从 0.30 升到 0.72、0.74，然后跌到 -0.71。

# %% alt_en="Mean reward against KL from the reference, up to 7 nats. The dashed believed curve rises all the way to 3. The solid true curve rises to about 0.78 near 0.4 nats, then falls through zero to -1. Dots mark beta = 1, 0.5 and 0.25 on both." alt_zh="横轴是相对参考策略的 KL，到 7 奈特；纵轴是平均奖励。虚线是自以为的，一路升到 3。实线是真实的，在约 0.4 奈特处升到 0.78，然后穿过零，跌到 -1。两条线上都用圆点标出 beta 等于 1、0.5、0.25。"
wrong = Problem(four_ref.log(), believed)
leashes = [1, 0.5, 0.25]
policies = torch.stack([optimal_policy(wrong, b) for b in [*leashes, *np.geomspace(0.08, 50, 200)]])
distance, believes, earns = kl(policies, wrong.ref_logps), mean(policies, believed), mean(policies, true)
fig, axes = figure(height=3.2)
for values, color, style, name in ((believes, "rejected", "--", "r"), (earns, "chosen", "-", "u")):
    axes.plot(distance[3:], values[3:], style, color=COLORS[color], label=rf"$\mathbb{{E}}_{{\pi^*}}[{name}]$")
    axes.plot(distance[:3], values[:3], "o", color=COLORS[color])
for b, x, y in zip(leashes, distance, believes):
    place = {"xytext": (2, -22)} if b == 1 else {"xytext": (-6, 8), "ha": "right"}
    axes.annotate(rf"$\beta={b}$", (x, y), textcoords="offset points", **place)
axes.set(xlabel=r"$\mathrm{KL}(\pi^*\,\|\,\pi_{\mathrm{ref}})$", xlim=(-0.2, 7.1))
axes.legend(loc="center right")
print([[round(x, 3) for x in row.tolist()] for row in (policies[:3, 3].exp(), believes[:3], earns[:3])])
assert [f"{x:.3f}" for x in policies[:3, 3].exp()] == ["0.011", "0.091", "0.855"]
assert [f"{x:.2f}" for x in believes[:3]] == ["0.77", "1.10", "2.71"]
assert [f"{x:.2f}" for x in (four_ref @ true, *earns[:3])] == ["0.30", "0.72", "0.74", "-0.71"]
assert abs(earns.max() - 0.78) < 0.01
outwards = distance.argsort()  # along the path, away from the reference
peak = earns[outwards].argmax()
assert (believes[outwards].diff() > 0).all()
assert (earns[outwards][: peak + 1].diff() > 0).all()
assert (earns[outwards][peak:].diff() < 0).all()

# %% [markdown] lang="en"
# **Figure 6.2.** A reward that is wrong about one rare answer. Dashed: what the optimum believes it earns. Solid: what it earns. A longer leash helps at first, then it pays for the mistake.
#
# This is **over-optimisation**; where, as here, the true reward falls while the believed one rises, one also speaks of **reward hacking** ([chapter 12](12_rl.ipynb)). [Gao et al. 2023](https://arxiv.org/abs/2210.10760) measure it: one fixed reward model takes the place of people, and others are trained on its labels. The leash does not repair the reward. It limits how far one relies on it. (In their runs a KL penalty did not measurably raise the true reward reached at a given KL; they add that this may depend on hyper-parameters.)

# %% [markdown] lang="zh"
# **图 6.2** 奖励只错在一个罕见的回答上。虚线：最优解自以为得多少。实线：实际得多少。绳子放长，起先有好处，后来就要为那个错买单。
#
# 这就是**过度优化**（over-optimisation）；像这里，自以为的奖励还在升，真实的却在跌，又叫**奖励作弊**（reward hacking，又译奖励黑客，见[第 12 章](12_rl.ipynb)）。[Gao et al. 2023](https://arxiv.org/abs/2210.10760) 量过它：让一个固定的奖励模型顶替真人，再用它给的标签训练别的奖励模型。绳子修不好奖励，只能管住策略，不让它跟着奖励走得太远。（他们的实验里，加了 KL 惩罚，同样的 KL 换到的真实奖励并没有明显变多；他们也说，这可能与超参数有关。）

# %% [markdown] lang="en"
# ## The reward–KL frontier
# For every $\beta$ the optimum has a mean reward and a KL. Draw one against the other, and the points form a curve, the **reward–KL frontier**. What is its slope? With $s=1/\beta$ the mean reward changes at the rate $\mathrm{Var}_{\pi^*}(r)$. The KL is the mean of $(r-V)/\beta$, that is $s\,\mathbb{E}_{\pi^*}[r]-\log Z$; its derivative is $\mathbb{E}_{\pi^*}[r]+s\,\mathrm{Var}_{\pi^*}(r)-\mathbb{E}_{\pi^*}[r]=s\,\mathrm{Var}_{\pi^*}(r)$. Divide:
#
# $$\frac{d\,\mathbb{E}_{\pi^*}[r]}{d\,\mathrm{KL}(\pi^*\,\|\,\pi_{\mathrm{ref}})}=\frac1s=\beta.$$
#
# The last nat bought at $\beta$ brings $\beta$ of reward: that is what a price should mean. Further right $\beta$ is smaller, so the curve is concave. And nothing lies above it. $J(\pi)\le V$ holds for every policy and every price $b>0$; move the penalty to the right,
#
# $$\mathbb{E}_{y\sim\pi}[r(y)]\le V(b)+b\,\mathrm{KL}(\pi\,\|\,\pi_{\mathrm{ref}}).$$
#
# In the plot the right side is a straight line with slope $b$. It touches the frontier at the optimum for $b$. No policy is above any of these lines: it stays below the line for $b$ by $b\,\mathrm{KL}(\pi\,\|\,\pi^*_b)$, where $\pi^*_b$ is the optimum for $b$. At each KL the lowest line is the frontier.

# %% [markdown] lang="zh"
# ## 奖励–KL 前沿
# 每个 $\beta$ 的最优解，都有一个平均奖励、一个 KL。KL 作横轴，平均奖励作纵轴，这些点连成一条曲线，叫**奖励–KL 前沿**（reward–KL frontier）。斜率是多少？令 $s=1/\beta$，平均奖励对 $s$ 的导数是 $\mathrm{Var}_{\pi^*}(r)$。KL 是 $(r-V)/\beta$ 的平均，即 $s\,\mathbb{E}_{\pi^*}[r]-\log Z$；求导得 $\mathbb{E}_{\pi^*}[r]+s\,\mathrm{Var}_{\pi^*}(r)-\mathbb{E}_{\pi^*}[r]=s\,\mathrm{Var}_{\pi^*}(r)$。两者相除：
#
# $$\frac{d\,\mathbb{E}_{\pi^*}[r]}{d\,\mathrm{KL}(\pi^*\,\|\,\pi_{\mathrm{ref}})}=\frac1s=\beta$$
#
# 单价为 $\beta$ 时，最后买下的那一奈特正好换来 $\beta$ 的奖励。所谓单价，就该是这个意思。越往右 $\beta$ 越小，斜率也越小，所以曲线向下弯。而且没有策略在它上方：对任何策略、任何单价 $b>0$ 都有 $J(\pi)\le V$，把惩罚移到右边，
#
# $$\mathbb{E}_{y\sim\pi}[r(y)]\le V(b)+b\,\mathrm{KL}(\pi\,\|\,\pi_{\mathrm{ref}})$$
#
# 把不等式的右边画在图上，是一条斜率为 $b$ 的直线，与前沿相切，切点就是 $b$ 的最优解。没有策略高过其中任何一条：比起 $b$ 的那条，策略 $\pi$ 低 $b\,\mathrm{KL}(\pi\,\|\,\pi^*_b)$，其中 $\pi^*_b$ 是 $b$ 的最优解。而在每个 KL 处，最低的那条线，高度就是前沿的高度。

# %% tags=["proof"]
inverse = (1 / beta).requires_grad_()  # (20, 1)
moved = (problem.ref_logps + inverse * r).log_softmax(-1)
assert torch.allclose(kl(moved, problem.ref_logps), (inverse * mean(moved, r)[:, None] - Z.log())[:, 0])
(dr,) = torch.autograd.grad(mean(moved, r).sum(), inverse, retain_graph=True)
(dkl,) = torch.autograd.grad(kl(moved, problem.ref_logps).sum(), inverse)
assert torch.allclose(dr / dkl, beta)
spread = (star * r**2).sum(-1) - (star * r).sum(-1) ** 2  # the variance under the optimum
assert torch.allclose(dkl[:, 0], spread / beta[:, 0]) and (dkl > 0).all()
prices = torch.logspace(-2, 2, 200, dtype=torch.float64)  # (200,)
heights = torch.stack([b * log_partition(problem, b) for b in prices.tolist()], -1)  # V(b): (20, 200)
top_reward, top_kl = frontier(problem, prices.tolist())  # (20, 200) each
less_reward, less_kl = -top_reward.diff(), -top_kl.diff()  # from one price to the next
assert (prices[:-1] * less_kl - 1e-12 <= less_reward).all()  # between two prices the curve is at least as steep
assert (less_reward <= prices[1:] * less_kl + 1e-12).all()  # as the lower one, at most as the higher: concave
tangents = heights[:, None, :] + prices * top_kl[:, :, None]  # (20, points, lines)
assert torch.allclose(tangents.amin(-1), top_reward)
rival_reward, rival_kl = (rivals * r).sum(-1), kl(rivals.log(), problem.ref_logps)  # (1000, 20)
lines = heights + prices * rival_kl[..., None]  # (1000, 20, 200)
optima = torch.stack([optimal_policy(problem, b) for b in prices.tolist()], -1)  # (20, 6, 200)
apart = (rivals * rivals.log()).sum(-1)[..., None] - torch.einsum("kia,iab->kib", rivals, optima)  # KL to each optimum
assert torch.allclose(lines - rival_reward[..., None], prices * apart)
assert (rival_reward[..., None] < lines).all()

# %% [markdown] lang="en"
# ## Best of n
# There is a way to better answers that trains nothing: draw $n$ answers from the reference, keep the best. If several are best, keep the first of them. What policy is that? Let $F(y)$ be the probability that a draw from the reference has a reward of at most $r(y)$, and $F^-(y)$ that it has a smaller one. The best of $n$ has a reward of at most $r(y)$ if all $n$ draws have, which happens with probability $F(y)^n$. It is exactly $r(y)$ with probability $F(y)^n-F^-(y)^n$. Answers of equal reward are drawn and kept alike, so among themselves they keep the reference's proportions:
#
# $$\pi_n(y)=\pi_{\mathrm{ref}}(y)\,\frac{F(y)^n-F^-(y)^n}{F(y)-F^-(y)}.$$
#
# On the toy with $n=2$: $1-0.5^2=0.75$ for $y_1$, $0.5^2-0.2^2=0.21$ for $y_2$, and $0.2^2=0.04$ for $y_3$. The mean reward is 0.71. In code (the library's `tabular.best_of_n` is this, in logarithms), checked by listing all triples that can be drawn, ties included:

# %% [markdown] lang="zh"
# ## best-of-n
# 有一种办法，什么也不训练，就能得到更好的回答：从参考策略抽 $n$ 个，留最好的那个；最好的有几个并列，就留先抽到的。这样选出来的，相当于什么策略？记 $F(y)$ 为参考策略抽一次、奖励不高于 $r(y)$ 的概率，$F^-(y)$ 为低于 $r(y)$ 的概率。$n$ 个里最好的，奖励不高于 $r(y)$，也就是 $n$ 个都不高于 $r(y)$，概率是 $F(y)^n$。恰好等于 $r(y)$ 的概率，便是 $F(y)^n-F^-(y)^n$。奖励相同的回答，抽法、留法都一视同仁，所以彼此保持参考策略下的比例：
#
# $$\pi_n(y)=\pi_{\mathrm{ref}}(y)\,\frac{F(y)^n-F^-(y)^n}{F(y)-F^-(y)}$$
#
# 手算例子里取 $n=2$：$y_1$ 是 $1-0.5^2=0.75$，$y_2$ 是 $0.5^2-0.2^2=0.21$，$y_3$ 是 $0.2^2=0.04$。平均奖励是 0.71。下面写成代码（库里的 `tabular.best_of_n` 就是它，只是用对数来算），再把连抽三个的所有可能列出来核对，并列的也在内：

# %% tags=["proof"]
def best_of(n, ref, r):
    """The policy, (..., A), that keeps the best of n draws from `ref`."""
    other = r[..., None, :]  # against r[..., :, None]: (..., A, A)
    at_most = ((other <= r[..., :, None]) * ref[..., None, :]).sum(-1)  # F
    less = ((other < r[..., :, None]) * ref[..., None, :]).sum(-1)
    return ref * (at_most**n - less**n) / (at_most - less)


triples = torch.cartesian_prod(*[torch.arange(6)] * 3)  # (216, 3)
chance = ref[:, triples].prod(-1)  # (20, 216)
values = tied.reward[:, triples]  # (20, 216, 3)
kept = one_hot(values.argmax(-1), 3)  # argmax takes the first of the best
listed = torch.einsum("is,isj,sja->ia", chance, kept.double(), one_hot(triples, 6).double())
assert torch.allclose(best_of(3, ref, tied.reward), listed)
assert torch.allclose(best_of_n(tied, 3).exp(), listed)

# %% [markdown] lang="en"
# How far is it from the reference? [Stiennon et al. 2020](https://arxiv.org/abs/2009.01325), and many after them, write
#
# $$\mathrm{KL}(\pi_n\,\|\,\pi_{\mathrm{ref}})=\log n-\frac{n-1}{n}.$$
#
# For the toy and $n=2$ this says 0.193; the true value is 0.165. Where does it come from? Suppose that no two answers tie and that each is tiny. Then $v=F(y)$ runs through all numbers from 0 to 1 evenly, and the reweighting factor is the derivative of $v^n$, $n\,v^{n-1}$. The KL is the mean of its logarithm under $\pi_n$, $\log n+(n-1)\int_0^1 n\,v^{n-1}\log v\,dv$. Integrate by parts: the integral is $[v^n\log v]_0^1-\int_0^1 v^{n-1}\,dv=0-1/n$. Real answers tie, and single ones can be probable. [Beirami et al. 2025](https://arxiv.org/abs/2401.01879) show that the formula is then an upper bound. For a reward that only says yes or no, and a reference that gets a yes with probability $p$, the best of $n$ fails only if all $n$ draws fail: the share of yes is $1-(1-p)^n$. For $p=0.3$ and $n=16$ it is 0.997, at a KL of 1.179, where the formula says 1.835. As $n$ grows the KL rises to $\log(1/p)=1.204$ and never passes it; the formula grows without bound.

# %% [markdown] lang="zh"
# 它离参考策略多远？[Stiennon et al. 2020](https://arxiv.org/abs/2009.01325) 写道（后来许多人也这么写）：
#
# $$\mathrm{KL}(\pi_n\,\|\,\pi_{\mathrm{ref}})=\log n-\frac{n-1}{n}$$
#
# 手算例子里 $n=2$，公式给出 0.193，真值是 0.165。公式从哪里来？假定没有两个回答并列，每个回答的概率又都极小。那么 $v=F(y)$ 均匀地走遍 0 到 1 之间的数，重新加权的系数是 $v^n$ 的导数 $n\,v^{n-1}$。KL 是它的对数在 $\pi_n$ 下的平均，即 $\log n+(n-1)\int_0^1 n\,v^{n-1}\log v\,dv$。用分部积分，这个积分等于 $[v^n\log v]_0^1-\int_0^1 v^{n-1}\,dv=0-1/n$。真实的回答会并列，单个回答的概率也可能不小。[Beirami et al. 2025](https://arxiv.org/abs/2401.01879) 证明，这时公式只是上界。奖励若只分「是」「否」，参考策略得「是」的概率为 $p$，那么抽到的 $n$ 个都是「否」，best-of-n 才得「否」：得「是」的比例是 $1-(1-p)^n$。$p=0.3$、$n=16$ 时，这个比例是 0.997，KL 是 1.179，公式却说 1.835。$n$ 越大，KL 越靠近 $\log(1/p)=1.204$，但超不过去；公式却没有上界。

# %% tags=["proof"]
powers, v = torch.arange(1, INSTANCES + 1).double(), (torch.arange(100_000).double() + 0.5) / 100_000
integral = (powers[:, None] * v ** (powers[:, None] - 1) * v.log()).mean(-1)  # the midpoint rule, n = 1 ... 20
assert torch.allclose(integral, -1 / powers, atol=1e-5)
for n in (2, 4, 8, 64):
    bound = math.log(n) - (n - 1) / n
    assert all((kl(best_of_n(case, n), case.ref_logps) < bound).all() for case in (problem, tied))
many = Problem(torch.full((4000,), 1 / 4000).double().log(), torch.arange(4000.0).double())  # tiny, no ties
for n in (2, 4, 8):
    assert abs(kl(best_of_n(many, n), many.ref_logps) - (math.log(n) - (n - 1) / n)) < 1e-3
p = torch.sigmoid(r[:, 0])  # twenty probabilities of a yes
yes_no = Problem(torch.stack((p, 1 - p), -1).log(), torch.tensor([1.0, 0.0]).double().expand(INSTANCES, 2))
for n in (2, 4, 8):
    assert torch.allclose(best_of_n(yes_no, n)[:, 0].exp(), 1 - (1 - p) ** n)
spends = torch.stack([kl(best_of_n(yes_no, n), yes_no.ref_logps) for n in (1, 2, 4, 8, 64, 100_000)])  # (6, 20)
limit = -p.log()
assert (spends.diff(dim=0) >= -1e-12).all()
assert torch.allclose(spends[-1], limit)
assert (spends <= limit + 1e-12).all()

# %%
coin = Problem(torch.tensor([0.3, 0.7]).double().log(), torch.tensor([1.0, 0.0]).double())
for n in (2, 16):
    print(n, *(f"{kl(best_of_n(case, n), case.ref_logps):.3f}" for case in (toy, coin)), f"{math.log(n) - (n - 1) / n:.3f}")
assert torch.allclose(best_of_n(toy, 2).exp(), torch.tensor([0.75, 0.21, 0.04]).double())
assert abs(mean(best_of_n(toy, 2), toy.reward) - 0.71) < 1e-12 and f"{math.log(2) - 1 / 2:.3f}" == "0.193"
assert f"{kl(best_of_n(toy, 2), toy.ref_logps):.3f}" == "0.165" and f"{1 - 0.7**16:.3f}" == "0.997"
assert f"{kl(best_of_n(coin, 16), coin.ref_logps):.3f}" == "1.179"
assert f"{math.log(16) - 15 / 16:.3f}" == "1.835" and f"{math.log(1 / 0.3):.3f}" == "1.204"
assert f"{kl(best_of_n(coin, 4), coin.ref_logps):.3f}" == "0.449" and f"{math.log(4) - 3 / 4:.3f}" == "0.636"

# %% alt_en="Mean reward against KL. A cloud of 3,000 grey dots, random policies, fills the region under a concave curve that rises from (0, 0.3) and becomes flat at 1. A dashed straight line touches the curve at the star for beta = 0.5. Circles for n = 1, 2, 4 and 8 lie on the curve as far as the eye can tell." alt_zh="横轴是 KL，纵轴是平均奖励。3,000 个灰点是随机策略，填满一条曲线下方的区域；曲线从 (0, 0.3) 升起，先陡后缓，到 1 变平。一条虚线在 beta = 0.5 的星号处与曲线相切。n = 1、2、4、8 的圆点，肉眼看去都在曲线上。"
cloud = random_policies(3_000, 3, seed=6, scale=1.5)
rewards, distances = frontier(toy, np.geomspace(0.03, 1e5, 1000))
fig, axes = figure(height=3.6)
axes.plot(kl(cloud, toy.ref_logps), mean(cloud, toy.reward), ".", color=COLORS["ref"], markersize=2, alpha=0.6)
axes.plot(distances, rewards, color=COLORS["theory"])
price = optimal_policy(toy, 0.5)
axes.plot(kl(price, toy.ref_logps), mean(price, toy.reward), "*", color=COLORS["theory"], markersize=13)
line = np.array([0.2, 0.8])
axes.plot(line, 0.5 * log_partition(toy, 0.5).item() + 0.5 * line, "--", color=INK, linewidth=1)
gaps = []
for n in (1, 2, 4, 8):
    x, y = kl(best_of_n(toy, n), toy.ref_logps).item(), mean(best_of_n(toy, n), toy.reward).item()
    axes.plot(x, y, "o", color=COLORS["baseline"])
    place = {"xytext": (-7, 5), "ha": "right"} if n < 4 else {"xytext": (6, -14)}
    axes.annotate(f"$n={n}$", (x, y), textcoords="offset points", **place)
    gaps.append(np.interp(x, distances.flip(0), rewards.flip(0)) - y)
axes.set(xlabel=r"$\mathrm{KL}(\pi\,\|\,\pi_{\mathrm{ref}})$", ylabel=r"$\mathbb{E}_\pi[r]$", xlim=(-0.1, 0.9), ylim=(-0.6, 1.15))
assert round(max(gaps), 3) == 0.003 and min(gaps) > -1e-5
above = np.interp(kl(cloud, toy.ref_logps), distances.flip(0), rewards.flip(0))  # the frontier, over each dot
assert (mean(cloud, toy.reward).numpy() < above + 1e-5).all()

# %% [markdown] lang="en"
# **Figure 6.3.** Grey: 3,000 random policies on the toy. Curve: the frontier, which none of them passes. Dashed: the tangent at $\beta=0.5$ (star). Orange: best-of-n, at most 0.003 of reward below the frontier.

# %% [markdown] lang="zh"
# **图 6.3** 灰点：手算例子里的 3,000 个随机策略。曲线：前沿，没有一个点越过它。虚线：$\beta=0.5$（星号）处的切线。橙点：best-of-n，奖励比前沿最多低 0.003。

# %% [markdown] lang="en"
# Here best-of-n is close to optimal. It need not be: it asks only which answer is better, never by how much. Let the reference write three answers with probabilities 0.5, 0.49 and 0.01, for rewards of 0, 1 and 100. The best of 4 has a KL of 0.468 and a mean reward of 4.84; the frontier there has 21.6. Nor can one choose freely how far to go: $n$ is a whole number, and every answer costs $n$ draws.

# %% [markdown] lang="zh"
# 在这里，best-of-n 接近最优。换个问题就未必，因为它只问哪个好，不问好多少。设参考策略写三个回答的概率是 0.5、0.49、0.01，奖励是 0、1、100。4 个里留最好的，KL 是 0.468，平均奖励 4.84；花同样的 KL，前沿拿得到 21.6。再说，要走多远，也不能随意挑：$n$ 只能是整数，而且每要一个回答，就得抽 $n$ 次。

# %%
jackpot = Problem(torch.tensor([0.5, 0.49, 0.01]).double().log(), torch.tensor([0.0, 1.0, 100.0]).double())
four = best_of_n(jackpot, 4)
spent, gained = kl(four, jackpot.ref_logps).item(), mean(four, jackpot.reward).item()
rewards, distances = frontier(jackpot, np.geomspace(1, 1e4, 4000))
attainable = np.interp(spent, distances.flip(0), rewards.flip(0))
print(f"{spent:.3f} {gained:.2f} {attainable:.1f}")
assert (f"{spent:.3f}", f"{gained:.2f}", f"{attainable:.1f}") == ("0.468", "4.84", "21.6")

# %% [markdown] lang="en"
# ## A network's optimum from one probability
# A language model has too many answers to list. But suppose that the reward depends only on a *class* of the answer, one that a program can recognise: does it have three numbers, yes or no? Then the ratio $\pi^*/\pi_{\mathrm{ref}}=e^{(r-V)/\beta}$ is the same for all answers of a class. So within a class the optimum keeps the reference's proportions, and the classes' total probabilities are tilted as if each class were one answer. The KL is the KL of the totals, as a mean of log-ratios that are equal within each class.
#
# With two classes, a reward of 1 for yes and 0 for no, and $p(x)$ the reference's share of yes at prompt $x$, the optimum's share is
#
# $$P^*(x)=\frac{p(x)\,e^{1/\beta}}{p(x)\,e^{1/\beta}+1-p(x)},\qquad\log\frac{P^*(x)}{1-P^*(x)}=\log\frac{p(x)}{1-p(x)}+\frac1\beta.$$
#
# The second form says it shorter: the log-odds, known from chapter 5, grow by $1/\beta$. It also places best-of-n. Where there are only two classes, every policy that keeps the proportions within them, and says yes more often than the reference and not always, is the optimum for some $\beta$ (always would take $\beta=0$); best-of-n is such a policy. At $p=0.3$ the best of four is the optimum for $\beta=0.500$.

# %% [markdown] lang="zh"
# ## 由一个概率算出网络的最优解
# 语言模型的回答多得列不完。但假如奖励只看回答属于哪一*类*，而这个类，程序认得出来，比如是不是写了三个数，那么同一类的回答，比值 $\pi^*/\pi_{\mathrm{ref}}=e^{(r-V)/\beta}$ 都相同。于是在一类之内，最优解保持参考策略的比例；各类的总概率则照公式倾斜，就像一类是一个回答。KL 是对数比的平均，而对数比在一类之内都相等，所以它就是两组总概率之间的 KL。
#
# 设只有两类，「是」的奖励为 1，「否」为 0；参考策略在提示 $x$ 上得「是」的比例是 $p(x)$。最优解得「是」的比例就是
#
# $$P^*(x)=\frac{p(x)\,e^{1/\beta}}{p(x)\,e^{1/\beta}+1-p(x)},\qquad\log\frac{P^*(x)}{1-P^*(x)}=\log\frac{p(x)}{1-p(x)}+\frac1\beta$$
#
# 第二个式子说得更短：对数几率（log-odds，在第 5 章的比较里叫对数胜负比）增加 $1/\beta$。由它也看得出 best-of-n 的位置：只有两类的时候，一个策略只要类内比例不变，得「是」比参考策略多，又不是每次都得「是」，它就是某个 $\beta$ 的最优解（每次都得「是」，要 $\beta=0$ 才行）。best-of-n 正是这样的策略。$p=0.3$ 时，四选一就是 $\beta=0.500$ 的最优解。

# %% tags=["proof"]
member = one_hot(torch.arange(12) % 3, 3).double()  # (12, 3): twelve answers in three classes
class_reward = r[:, :3]  # (20, 3)
whole = Problem(random_policies(INSTANCES, 12, seed=SEED + 4), class_reward @ member.T)
totals = Problem((whole.ref_logps.exp() @ member).log(), class_reward)
best_whole, best_totals = optimal_policy(whole, beta), optimal_policy(totals, beta)
assert torch.allclose(best_whole.exp() @ member, best_totals.exp())
inside = whole.ref_logps - totals.ref_logps @ member.T  # log-probability within the class, under the reference
assert torch.allclose(best_whole - best_totals @ member.T, inside)
assert torch.allclose(kl(best_whole, whole.ref_logps), kl(best_totals, totals.ref_logps))
odds = torch.exp(1 / beta[:, 0])
share = p * odds / (p * odds + 1 - p)
assert torch.allclose(optimal_policy(yes_no, beta)[:, 0].exp(), share)
assert torch.allclose(torch.logit(share), torch.logit(p) + 1 / beta[:, 0])
matched = 1 / (torch.logit(1 - (1 - p) ** 4) - torch.logit(p))  # the beta of the best of four
assert torch.allclose(optimal_policy(yes_no, matched[:, None]), best_of_n(yes_no, 4))

# %% [markdown] lang="en"
# The book's population of authors gives $p(x)$ for each of its 166 prompts, and the base model of chapter 3 has learnt it. So its optimum is known before any training. `class_problem` holds the classes, `predicted_optimum` averages shares and KL over the prompts:
#
# | $\beta$ | share of three numbers | KL |
# |---|---|---|
# | 0.25 | 0.959 | 0.999 |
# | 0.5 | 0.760 | 0.449 |
# | 1 | 0.538 | 0.122 |
# | 2 | 0.414 | 0.029 |
#
# Predict first, then average. With the population's own weights the order hardly matters, since nearly every prompt that is asked has a $p(x)$ near 0.30: at $\beta=0.5$ the formula at the mean of $p(x)$ gives 0.7600, and the mean of the predictions is 0.7595. If all 166 prompts were asked equally often, the order would matter: the mean of $p(x)$ is then 0.381, because at the ends of the range two numbers do not reach; the formula there gives 0.820, the mean of the predictions 0.789.

# %% [markdown] lang="zh"
# 本书的作者群体在 166 个提示上的 $p(x)$，个个算得出来，第 3 章的基座模型又把它们学到了。所以一步还没训练，基座的最优解就已经知道了。`class_problem` 列出各类，`predicted_optimum` 把比例和 KL 对提示取平均：
#
# | $\beta$ | 写三个数的比例 | KL |
# |---|---|---|
# | 0.25 | 0.959 | 0.999 |
# | 0.5 | 0.760 | 0.449 |
# | 1 | 0.538 | 0.122 |
# | 2 | 0.414 | 0.029 |
#
# 先预言，再平均。按群体自己的权重，次序不大要紧，因为常问的提示，$p(x)$ 几乎都在 0.30 左右：$\beta=0.5$ 时，把 $p(x)$ 的平均代进公式，得 0.7600；各个预言的平均是 0.7595。要是 166 个提示问得一样多，次序就要紧了：范围两端的目标，两个数够不着，只好写三个，$p(x)$ 的平均抬到 0.381，代进公式得 0.820；而各个预言的平均是 0.789。

# %%
task = BookTask()
for b in (0.25, 0.5, 1, 2):
    predicted = predicted_optimum(task, "style", b)
    print(b, f"{predicted['style']:.3f} {predicted['kl']:.3f}")
    assert f"{predicted['style']:.3f} {predicted['kl']:.3f}" == (
        {0.25: "0.959 0.999", 0.5: "0.760 0.449", 1: "0.538 0.122", 2: "0.414 0.029"}[b])  # fmt: skip
yes = task.class_rates[:, 1].sum(-1)  # (166,): p(x)


def tilt(p):
    """The optimum's share where the reference has p; beta = 0.5."""
    return p * math.e**2 / (p * math.e**2 + 1 - p)


asked = np.array(list(task.prompt_distribution.values()))  # (166,): how often each prompt is asked
for weights in (asked, np.full(166, 1 / 166)):
    print(f"{weights @ yes:.3f} {tilt(weights @ yes):.4f} {weights @ tilt(yes):.4f}")
assert len(yes) == 166 and asked[abs(yes - 0.3) < 0.02].sum() > 0.99
assert (f"{tilt(asked @ yes):.4f}", f"{asked @ tilt(yes):.4f}") == ("0.7600", "0.7595")
assert [f"{x:.3f}" for x in (yes.mean(), tilt(yes.mean()), tilt(yes).mean())] == ["0.381", "0.820", "0.789"]
assert f"{1 / (math.log(0.7599 / 0.2401) - math.log(0.3 / 0.7)):.3f}" == "0.500" and abs(1 - 0.7**4 - 0.7599) < 1e-9

# %% [markdown] lang="en"
# ## Held against the network
# Best-of-n needs no training, so its prediction can be tested at once. The reward is that of chapter 9: one point for three numbers, one for the right value. We draw eight answers of the base model to each of 4,000 prompts, judge them, and keep the best of the first 1, 2, 4 and 8.

# %% [markdown] lang="zh"
# ## 拿网络来对账
# best-of-n 不用训练，它的预言当场就能检验。奖励同第 9 章一样：写三个数得一分，值对得一分。4,000 个提示，每个让基座模型答八次，逐个评判，然后在前 1、2、4、8 个里各留最好的一个。

# %% tags=["nbval-ignore-output"]
use_threads()
base = load_pretrained("gen").to(default_device())
prompts, _ = task.demonstrations(4_000, stream("chapter 6", 0))
answers = generate(base, [prompt for prompt in prompts for _ in range(8)], seed=6, progress=True)
verdicts = [judge(prompts[i // 8], answer) for i, answer in enumerate(answers)]
earned = np.array([class_rewards("style+exact")[int(v.style), int(v.exact)] for v in verdicts]).reshape(4_000, 8)
classes = class_problem(task, "style+exact")  # 166 prompts, four classes each
measured = {}
for n in (1, 2, 4, 8):
    measured[n] = mean_interval(earned[np.arange(4_000), earned[:, :n].argmax(1)])  # the first of the best
    theory = predicted_shares(task, best_of_n(classes, n))
    print(n, f"KL {abs(theory['kl']):.3f}  predicted {theory['style'] + theory['exact']:.3f}  measured {measured[n]}")
    assert -0.05 < measured[n].value - theory["style"] - theory["exact"] < 0.02

# %% alt_en="Mean reward against KL for the book's population. The frontier rises from 1.05 at zero KL, steeply at first, towards 2. Stars mark beta = 1, 0.5 and 0.25. Four crosses, n = 1, 2, 4 and 8, lie on or slightly below the curve; the measured points with their intervals lie on the crosses or a trace below." alt_zh="横轴是 KL，纵轴是平均奖励，对象是本书的作者群体。前沿从 KL 为零、奖励 1.05 处升起，先陡后缓，趋向 2。星号标出 beta 等于 1、0.5、0.25。n = 1、2、4、8 四个叉号在曲线上，或略低于曲线；实测点带着区间，压在叉号上，或略低一点。"
fig, axes = figure(height=3.4)
curve = [predicted_optimum(task, "style+exact", b) for b in (*np.geomspace(0.15, 40, 60), 1, 0.5, 0.25)]
x, y = [c["kl"] for c in curve], [c["style"] + c["exact"] for c in curve]
axes.plot(x[:60], y[:60], color=COLORS["theory"])
axes.plot(x[60:], y[60:], "*", color=COLORS["theory"], markersize=13)
for b, left, height in zip((1, 0.5, 0.25), x[60:], y[60:]):
    axes.annotate(rf"$\beta={b}$", (left, height), xytext=(-4, 8), textcoords="offset points", ha="right")
foretold = [predicted_shares(task, best_of_n(classes, n)) for n in measured]
spent = [theory["kl"] for theory in foretold]
axes.plot(spent, [theory["style"] + theory["exact"] for theory in foretold], "x", color=COLORS["theory"], markersize=9)
points(axes, spent, list(measured.values()), "baseline")
for n, left in zip(measured, spent):
    axes.annotate(f"$n={n}$", (left, measured[n].value), xytext=(6, -14), textcoords="offset points")
axes.set(xlabel=r"$\mathrm{KL}(\pi\,\|\,\pi_{\mathrm{ref}})$", ylabel=r"$\mathbb{E}_\pi[r]$", ylim=(0.95, 2.1))
behind = [np.interp(c["kl"], x[59::-1], y[59::-1]) - c["style"] - c["exact"] for c in foretold[1:]]
assert min(behind) > 0 and max(behind) < 0.02

# %% [markdown] lang="en"
# **Figure 6.4.** The network lies where predicted, or a little lower. Curve and crosses: the optimum and best-of-n in closed form, from the population's rates alone. Points: best-of-n with the base model, 4,000 prompts, 95 % intervals. Only their height is measured; their KL is that of the closed form. Every point is within 0.05 of its cross; the base model is not quite its authors. With three levels of reward best-of-n falls short of the frontier, by less than 0.02.

# %% [markdown] lang="zh"
# **图 6.4** 网络落在预言的地方，至多略低一点。曲线和叉号：最优解与 best-of-n 的闭式结果，只用到群体的各种比例。点：基座模型的 best-of-n，4,000 个提示，附 95% 区间。量出来的只有高度，横坐标是闭式给的 KL。每个点离自己的叉号都不到 0.05；基座与作者群体毕竟不完全一样。奖励有三档，所以 best-of-n 比前沿低一些，但不到 0.02。

# %% [markdown] lang="en"
# ### Sampling the optimum, and its price
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
# ### 直接从最优解采样，代价多大
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

# %% tags=["proof"]
accept = torch.exp((r - r.amax(-1, keepdim=True)) / beta)
rate = (ref * accept).sum(-1)
assert torch.allclose(ref * accept / rate[:, None], star)
assert torch.allclose(rate, Z[:, 0] * torch.exp(-r.amax(-1) / beta[:, 0]))
assert torch.allclose(rate, torch.exp(-(r.amax(-1) - V) / beta[:, 0]))
slack = (r.amax(-1) - (star * r).sum(-1)) / beta[:, 0]  # never negative: a mean is at most the maximum
assert torch.allclose(rate, torch.exp(-kl(star.log(), problem.ref_logps) - slack))
weights = torch.exp(r / beta)
squares = (ref * weights * r**2).sum(-1) / (ref * weights).sum(-1)  # the mean of r², by weighting
assert torch.allclose(squares, (star * r**2).sum(-1))

# %% [markdown] lang="en"
# Now with the network: 4,000 answers to `S54=`, reward 1 for three numbers, $\beta=0.5$. The closed form says a share of 0.759 and an acceptance rate of 0.394. The last line weights the same answers.

# %% [markdown] lang="zh"
# 换成网络：对 `S54=` 抽 4,000 个回答，写三个数奖励 1，$\beta=0.5$。闭式解说：写三个数的比例是 0.759，接受率是 0.394。输出的最后一行，由同一批回答加权得来。

# %% tags=["nbval-ignore-output"]
drawn = [judge("S54=", answer).style for answer in generate(base, ["S54="] * 4_000, seed=7)]
three = np.array(drawn, dtype=float)
taken = stream("chapter 6", 1).random(4_000) < np.exp((three - 1) / 0.5)
rate_seen, share_seen = wilson(int(taken.sum()), 4_000), wilson(int(three[taken].sum()), int(taken.sum()))
weighted = np.exp(three / 0.5) @ three / np.exp(three / 0.5).sum()
print("accepted", rate_seen, "\nshare   ", share_seen, f"\nweighted {weighted:.3f}")
at = yes[list(task.prompt_distribution).index("S54=")]  # p(x)
rate_true, share_true = (at * math.e**2 + 1 - at) / math.e**2, tilt(at)
assert f"{share_true:.3f} {rate_true:.3f}" == "0.759 0.394"
assert abs(share_seen.value - share_true) < 0.06 and abs(rate_seen.value - rate_true) < 0.05 and abs(weighted - share_true) < 0.06

# %% [markdown] lang="en"
# Here an optimal answer costs between two and three draws. In general it costs at least $e^{\mathrm{KL}}$ draws, and that is the catch. A tenth of a nat for each of 100 tokens is 10 nats, and $e^{10}$ is about 22,000 draws for one answer, every time somebody asks. Training pays once. It puts what rejection would sort out into the weights. PPO does so with a reward model, sampling as it goes; [chapter 7](07_derivation.ipynb) shows how DPO manages without either.

# %% [markdown] lang="zh"
# 在这里，从最优解得到一个回答，平均要抽两三次。一般来说，平均至少要抽 $e^{\mathrm{KL}}$ 次，麻烦就在这里。每个词元十分之一奈特，100 个词元就是 10 奈特；$e^{10}$ 约等于 22,000，每有人问一次，就得抽这么多次。训练只付一次账：本来要靠拒绝来筛的，都写进了参数。PPO 这样做，要有奖励模型，还要边训练边采样；[第 7 章](07_derivation.ipynb)会看到，DPO 两样都不用。

# %%
print(round(1 / rate_true, 2), round(math.exp(10)))
assert 2 < 1 / rate_true < 3 and abs(math.exp(10) - 22_000) < 100
style = class_problem(task, "style")
nats = kl(optimal_policy(style, 0.5), style.ref_logps)  # (166,)
average = ((mean(optimal_policy(style, 0.5), style.reward) - mean(style.ref_logps, style.reward)) / nats)[nats > 0.01]
assert average.min() < 1.05 and average.max() > 1.15  # what a nat buys on average; the last one buys beta at every prompt

# %% [markdown] lang="en"
# > **What the toy hides.** In a real model $Z(x)$ is a sum over all texts. Nobody computes it, and even an estimate is expensive, as Rafailov et al. note; so nobody knows $V$, the frontier, or how far a policy is from its optimum. The reward is learnt, and wrong off its data. A network does not choose its answers at each prompt separately: prompts share parameters, and $\pi^*$ may be out of its reach. PPO sees $J$ only through samples, a batch at a time. And one $\beta$ serves all prompts: at the optimum the last nat buys $\beta$ at each, but what a nat buys on average differs from prompt to prompt.
#
# > **To remember.** RLHF maximises mean reward minus $\beta$ times $\mathrm{KL}(\pi\,\|\,\pi_{\mathrm{ref}})$. The optimum is the reference, reweighted by $e^{r/\beta}$; every policy falls short of it by $\beta\,\mathrm{KL}(\pi\,\|\,\pi^*)$. Its height $V=\beta\log Z$ is a soft maximum, and only answers with more reward than $V$ gain probability. $\beta$ is the price of a nat and the slope of the frontier. The optimum is known; what costs is to get there.

# %% [markdown] lang="zh"
# > **玩具没告诉你的。** 真实的模型里，$Z(x)$ 要对所有文本求和。没有人去算它；正如 Rafailov 等人所说，连估计都很贵。所以 $V$ 是多少、前沿在哪里、策略离最优解还有多远，没有人知道。奖励是学来的，出了训练数据的范围就会错。网络在各个提示上也做不到互不牵制：提示之间共用参数，$\pi^*$ 可能根本够不着。PPO 只能透过样本看 $J$，一批一批地看。还有，所有提示共用一个 $\beta$：到了最优解，最后一奈特在哪个提示上都买到 $\beta$ 的奖励；可平均下来，一奈特买到多少，各个提示并不一样。
#
# > **记住。** RLHF 最大化的是平均奖励，减去 $\beta$ 倍的 $\mathrm{KL}(\pi\,\|\,\pi_{\mathrm{ref}})$。最优解就是参考策略按 $e^{r/\beta}$ 重新加权；别的策略都差一截，差额是 $\beta\,\mathrm{KL}(\pi\,\|\,\pi^*)$。最大点的高度 $V=\beta\log Z$ 是软最大值，只有奖励高过 $V$ 的回答，概率才上升。$\beta$ 是一奈特的单价，也是前沿的斜率。最优解是已知的；费力的是走到那里。

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
# The proof of Gibbs' inequality has the summand $\rho-1-\log\rho$. Which of the two policies is $p$ there, and which is $q$? What is $\log\rho$?
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
# Gibbs 不等式的证明里，求和的项是 $\rho-1-\log\rho$。两个策略里，哪个是那里的 $p$，哪个是 $q$？$\log\rho$ 又是什么？
#
# </details>

# %% tags=["exercise"]
def k3(logps, ref_logps):
    ...


check("6.3", k3)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# The samples come from $p=\pi$, so $q=\pi_{\mathrm{ref}}$ and $\log\rho=\log\pi_{\mathrm{ref}}-\log\pi$.
#
# ```python
# def k3(logps, ref_logps):
#     log_rho = ref_logps - logps
#     return log_rho.exp() - 1 - log_rho
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 样本来自 $p=\pi$，所以 $q=\pi_{\mathrm{ref}}$，$\log\rho=\log\pi_{\mathrm{ref}}-\log\pi$。
#
# ```python
# def k3(logps, ref_logps):
#     log_rho = ref_logps - logps
#     return log_rho.exp() - 1 - log_rho
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
def token_rewards(logps, ref_logps, mask, reward, beta):
    ...


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
# Two classes, so the KL has two terms. The quoted formula is only an upper bound here.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 6.5 · 四选一的代价
# ★★☆ · 10 分钟
#
# 奖励只分「是」「否」，参考策略得「是」的概率是 0.3。抽 4 个回答，留最好的。留下的有多大概率是「是」？这样得到的策略，与参考策略的 KL 又是多少（要精确值）？按这个顺序给出两个数，再同预言表里 $\beta=0.5$ 那一行比一比。
#
# <details><summary>提示</summary>
#
# 只有两类，所以 KL 只有两项。前面引的那个公式，在这里只是上界。
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
# - [Gao et al. 2023](https://arxiv.org/abs/2210.10760)：优化过头要付多大代价，有实测。
# - [Grattafiori et al. 2024](https://arxiv.org/abs/2407.21783)：Llama 3，以及其中所说的拒绝采样。
# - [Korbak et al. 2022](https://arxiv.org/abs/2205.11275)：分布坍缩；把目标看作贝叶斯推断。
# - [Ouyang et al. 2022](https://arxiv.org/abs/2203.02155)：用 PPO 做 RLHF，惩罚逐个词元扣。
# - [Peng et al. 2019](https://arxiv.org/abs/1910.00177)、[Peters & Schaal 2007](https://doi.org/10.1145/1273496.1273590)：样本按好坏的指数加权，再去拟合策略。
# - [Rafailov et al. 2023](https://arxiv.org/abs/2305.18290)：附录 A.1 用配成 KL 的办法求出最优解。
# - [Schulman 2020](http://joschu.net/blog/kl-approx.html)：KL 的几种估计。
# - [Shao et al. 2024](https://arxiv.org/abs/2402.03300)：GRPO。
# - [Stiennon et al. 2020](https://arxiv.org/abs/2009.01325)：附录 G.3，best-of-n 和它的 KL 公式。
# - [Ziegler et al. 2019](https://arxiv.org/abs/1909.08593)：语言模型的 KL 惩罚。
