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
# # 12 DPO against reinforcement learning

# %% [markdown] lang="zh"
# # 12 DPO 与强化学习

# %% [markdown] lang="en"
# > **In this chapter.** You will be able to derive the policy gradient in three lines, to tell REINFORCE, RLOO, GRPO and PPO apart by what they subtract, divide and clip, to say where each of them ends, and to see in one line of algebra what DPO has to do with them. You will know which KL GRPO holds down, and with which setting; how far each method gets with the same number of judged answers; and what happens when the judge can be fooled. You need the objective of [chapter 6](06_objective.ipynb) and DPO on a network from [chapter 9](09_dpo.ipynb). 75 minutes to read, 70 seconds to run.

# %% [markdown] lang="zh"
# > **本章。** 读完后，你能用三行推出策略梯度；能凭各自减什么、除什么、截什么，分清 REINFORCE、RLOO、GRPO 和 PPO，说出每一种最后停在哪里；还能用一行代数看出 DPO 同它们是什么关系。GRPO 压低的是哪一个 KL，由哪个设置决定；评判的回答一样多时，哪种方法走得多远；裁判要是骗得过去，又会怎样：这些你也会知道。需要[第 6 章](06_objective.ipynb)的目标，和[第 9 章](09_dpo.ipynb)里网络上的 DPO。阅读 75 分钟，运行 70 秒。

# %%
import copy
import json
from pathlib import Path

import numpy as np
import torch
from checks import check
from torch.autograd import grad

from dpo_core import BookTask, load_pretrained, rl, use_threads
from dpo_core.evaluation import Estimate, evaluate
from dpo_core.losses import preference_loss
from dpo_core.plotting import COLORS, INK, figure
from dpo_core.policy_gradient import (METHODS, advantages, clipped_loss,
                                      generalised_advantages, kl_estimate, kl_penalty)
from dpo_core.preferences import on_policy_pairs
from dpo_core.steps import dpo_step, rl_step
from dpo_core.tabular import (Problem, frontier, kl, mean, objective, optimal_policy,
                              other_optimum, random_policies, random_problems)
from dpo_core.theory import class_problem, predicted_optimum
from dpo_core.training import LoopConfig, default_device, train

# %% [markdown] lang="en"
# ## Learning from one's own answers
# DPO was given pairs, and learnt from them. Reinforcement learning is given no answers at all. The policy writes one, a judge names its reward, the policy changes a little, and writes again. It climbs the objective of chapter 6 directly. For one prompt, with parameters $\theta$ behind $\pi$,
#
# $$J(\pi)=\sum_y\pi(y)\,a(y),\qquad a(y)=r(y)-\beta\log\frac{\pi(y)}{\pi_{\mathrm{ref}}(y)}.$$
#
# Call $a(y)$ the **net reward**: what the answer earns, less its KL penalty. Which way is up? *Product rule*; then *write* $\nabla\pi$ as $\pi\,\nabla\log\pi$ in the first sum, and in the second $\nabla a$ is $-\beta\,\nabla\log\pi$:
#
# $$\nabla J=\sum_y a(y)\,\nabla\pi(y)+\sum_y\pi(y)\,\nabla a(y)=\sum_y\pi(y)\,a(y)\,\nabla\log\pi(y)-\beta\sum_y\pi(y)\,\nabla\log\pi(y).$$
#
# The last sum is $\sum_y\nabla\pi(y)=\nabla\sum_y\pi(y)=\nabla 1=0$. What is left is a mean over the policy's own answers:
#
# $$\nabla J=\mathbb{E}_{y\sim\pi}\big[a(y)\,\nabla\log\pi(y)\big].$$
#
# This is the **policy gradient**, and estimating it from draws is REINFORCE ([Williams 1992](https://doi.org/10.1007/BF00992696)). Draw an answer; make it likelier in proportion to its net reward. The reward is only ever a number: nobody differentiates the judge, so the judge may be a program, or a person.

# %% [markdown] lang="zh"
# ## 从自己的回答里学
# DPO 拿到手的是现成的偏好对，照着学。强化学习手里一个回答也没有：策略自己写一个，裁判给出奖励，策略改动一点，接着再写。它直接把第 6 章的目标往高处推。只看一个提示，$\pi$ 背后的参数记作 $\theta$：
#
# $$J(\pi)=\sum_y\pi(y)\,a(y),\qquad a(y)=r(y)-\beta\log\frac{\pi(y)}{\pi_{\mathrm{ref}}(y)}$$
#
# 把 $a(y)$ 叫做**净奖励**（net reward）：这个回答挣到的奖励，减去 KL 惩罚扣掉的那部分。往哪边走是上坡？*用乘积求导法则*；再把第一个和里的 $\nabla\pi$ *写成* $\pi\,\nabla\log\pi$，第二个和里的 $\nabla a$ 就是 $-\beta\,\nabla\log\pi$：
#
# $$\nabla J=\sum_y a(y)\,\nabla\pi(y)+\sum_y\pi(y)\,\nabla a(y)=\sum_y\pi(y)\,a(y)\,\nabla\log\pi(y)-\beta\sum_y\pi(y)\,\nabla\log\pi(y)$$
#
# 最后那个和是 $\sum_y\nabla\pi(y)=\nabla\sum_y\pi(y)=\nabla 1=0$。剩下的，是对策略自己的回答取平均：
#
# $$\nabla J=\mathbb{E}_{y\sim\pi}\big[a(y)\,\nabla\log\pi(y)\big]$$
#
# 这就是**策略梯度**（policy gradient）；抽几个回答来估计它，就是 REINFORCE（[Williams 1992](https://doi.org/10.1007/BF00992696)）。抽一个回答，净奖励有多大，就按比例把它的概率提高多少。奖励从头到尾只是一个数，谁也不用对裁判求导，所以裁判可以是程序，也可以是人。

# %% [markdown] lang="en"
# By hand, on the three answers of chapter 6: $\pi_{\mathrm{ref}}=(0.5,\,0.3,\,0.2)$, rewards 1, 0, -1, a logit for each answer, and the policy still at the reference, so $a=r$. The gradient of $\log\pi(y)$ with respect to the logits is 1 at $y$ minus the probabilities. So a draw of
#
# - $y_1$, in half of all cases, says $1\cdot(0.5,\,-0.3,\,-0.2)$;
# - $y_2$ says nothing, its reward is 0;
# - $y_3$, one time in five, says $-1\cdot(-0.5,\,-0.3,\,0.8)=(0.5,\,0.3,\,-0.8)$.
#
# Their mean is $0.5\cdot(0.5,-0.3,-0.2)+0.2\cdot(0.5,0.3,-0.8)=(0.35,\,-0.09,\,-0.26)$, the gradient of $J$. No single draw points there. The cell checks the formula on the example, and on twenty random problems, each with a policy away from its reference.

# %% [markdown] lang="zh"
# 手算一遍，还是第 6 章的三个回答：$\pi_{\mathrm{ref}}=(0.5,\,0.3,\,0.2)$，奖励 1、0、-1，每个回答一个 logit，策略还在参考策略处，所以 $a=r$。$\log\pi(y)$ 对各个 logit 的梯度，是 $y$ 处的 1 减去各个概率。于是
#
# - 抽到 $y_1$（占一半），得到 $1\cdot(0.5,\,-0.3,\,-0.2)$；
# - 抽到 $y_2$，奖励是 0，什么也得不到；
# - 抽到 $y_3$（五次里一次），得到 $-1\cdot(-0.5,\,-0.3,\,0.8)=(0.5,\,0.3,\,-0.8)$。
#
# 平均起来是 $0.5\cdot(0.5,-0.3,-0.2)+0.2\cdot(0.5,0.3,-0.8)=(0.35,\,-0.09,\,-0.26)$，正是 $J$ 的梯度；可没有哪一次抽到的梯度指着这个方向。下面在这个例子上核对公式，再放到二十个随机问题上，那里的策略都已离开参考策略。

# %% tags=["setup"]
SEED = 0
INSTANCES = 20
problem = random_problems(INSTANCES, 5, SEED)
beta = torch.linspace(0.2, 2.0, INSTANCES, dtype=torch.float64)[:, None]  # (20, 1)
logits = random_policies(INSTANCES, 5, seed=SEED + 1).requires_grad_()  # (20, 5)
p = logits.detach().softmax(-1)
net = problem.reward - beta * (p.log() - problem.ref_logps)  # (20, 5)
push = torch.eye(5).double() - p[:, None]  # (20, 5, 5): row y is the gradient of log pi(y) with respect to the logits


def slope(values):
    """The gradient of each problem's value, (20,), with respect to its logits, (20, 5)."""
    return grad(values.sum(), logits, retain_graph=True)[0]


# %% tags=["proof"]
exact = slope(objective(logits.log_softmax(-1), problem, beta[:, 0]))
assert torch.allclose((p[..., None] * net[..., None] * push).sum(1), exact)

# %%
toy_p = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
toy = Problem(toy_p.log(), torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64))
toy_push = torch.eye(3).double() - toy_p
draws = toy.reward[:, None] * toy_push
print((draws + 0).numpy().round(3), (toy_p @ draws).numpy().round(3), sep="\n")
assert np.allclose(draws, [[0.5, -0.3, -0.2], [0, 0, 0], [0.5, 0.3, -0.8]])
assert np.allclose(toy_p @ draws, [0.35, -0.09, -0.26])

# %% [markdown] lang="en"
# ## What was to be expected
# Add 10 to all rewards. The optimum stays where it was, and so does the gradient; but every draw now shouts "more of this". That the shouts cancel shows only in the mean of very many. The cure is to subtract what was to be expected anyway, a **baseline** $b$, and to call the rest the **advantage**, $A=a-b$. It brings no bias: $\mathbb{E}[b\,\nabla\log\pi]=b\cdot 0$, as long as $b$ does not look at the answer that it judges.
#
# | rewards | baseline | mean | variance of one draw |
# |---|---|---|---|
# | 1, 0, -1 | 0 | (0.35, -0.09, -0.26) | 0.19 |
# | 1, 0, -1 | 0.3 | (0.35, -0.09, -0.26) | 0.25 |
# | 11, 10, 9 | 0 | (0.35, -0.09, -0.26) | 62.07 |
# | 11, 10, 9 | 10.3 | (0.35, -0.09, -0.26) | 0.25 |
#
# (The variance is summed over the three logits.) The mean reward is a good baseline, not the best: here, 0 happened to be a little better. What it buys is that a constant in the reward does not matter.
#
# But the mean reward is not known. It has to come from draws, and there the methods part:
#
# - **REINFORCE** subtracts the mean of the whole batch, all prompts together, the answer itself among them.
# - **RLOO** draws $K$ answers to a prompt and gives each the mean of the *others* as its baseline: leave one out ([Kool et al. 2019](https://openreview.net/forum?id=r1lgTGL5DE), [Ahmadian et al. 2024](https://arxiv.org/abs/2402.14740)).
# - **GRPO** subtracts the mean of all $K$, the answer itself included, and then divides by the standard deviation of the $K$ ([Shao et al. 2024](https://arxiv.org/abs/2402.03300)).
# - **PPO** trains a second network, the **critic**, to predict it.
#
# Three answers with rewards 2, 1, 0. RLOO: $2-0.5=1.5$, $1-1=0$, $0-1.5=-1.5$. The mean of all three gives 1, 0, -1: two thirds of that. In general, a mean that includes the answer itself takes back one part in $K$, and the gradient is shorter by the factor $1-\frac1K$, in the same direction. With the leash in the reward this is harmless, a smaller learning rate. With the leash elsewhere only the reward's part becomes shorter, and the leash in effect tighter: $\frac{K}{K-1}\beta$. The cell lists all $5^3$ ways to draw three answers, with their probabilities.

# %% [markdown] lang="zh"
# ## 本来就能拿到多少
# 给所有奖励加 10。最优解不动，梯度也不动，可是不管抽到哪个回答，得到的都是「这样的多来点」。要抽很多很多次取平均，这些呼声才抵消得掉。办法是先减去本来就能拿到的那部分，它叫**基线**（baseline），记作 $b$；剩下的叫**优势**（advantage），$A=a-b$。减去基线不带来偏差：只要 $b$ 不看它要评判的那个回答，就有 $\mathbb{E}[b\,\nabla\log\pi]=b\cdot 0$。
#
# | 奖励 | 基线 | 平均 | 抽一次的方差 |
# |---|---|---|---|
# | 1、0、-1 | 0 | (0.35, -0.09, -0.26) | 0.19 |
# | 1、0、-1 | 0.3 | (0.35, -0.09, -0.26) | 0.25 |
# | 11、10、9 | 0 | (0.35, -0.09, -0.26) | 62.07 |
# | 11、10、9 | 10.3 | (0.35, -0.09, -0.26) | 0.25 |
#
# （方差是三个 logit 上的方差之和。）拿平均奖励作基线，不错，但不是最好：这里碰巧 0 还略胜一点。它的好处是，奖励整体加上一个常数，也不要紧。
#
# 可平均奖励是未知的，只能由抽到的回答来估计。几种方法就在这里分了路：
#
# - **REINFORCE** 减整个批次的平均，所有提示混在一起，自己也算一个。
# - **RLOO** 每个提示抽 $K$ 个回答，每个回答的基线是*其余*几个的平均：留一法（leave one out；[Kool et al. 2019](https://openreview.net/forum?id=r1lgTGL5DE)、[Ahmadian et al. 2024](https://arxiv.org/abs/2402.14740)）。
# - **GRPO** 减全部 $K$ 个的平均，连自己也算在内，再除以这 $K$ 个奖励的标准差（[Shao et al. 2024](https://arxiv.org/abs/2402.03300)）。
# - **PPO** 另外训练一个网络来预测这个平均，网络叫**评论家**（critic）。
#
# 三个回答，奖励 2、1、0。RLOO 给出 $2-0.5=1.5$、$1-1=0$、$0-1.5=-1.5$；减去三个的平均则是 1、0、-1，只有前者的三分之二。一般说来，平均里算上自己，就还回去 $K$ 分之一：梯度方向不变，长度乘上 $1-\frac1K$。绳子若在奖励里，这没有害处，等于学习率小一点；绳子若在别处，缩短的就只是奖励那一份，等于把绳子收紧成 $\frac{K}{K-1}\beta$。下面把抽三个回答的 $5^3$ 种可能连同概率全列出来。

# %% tags=["proof"]
K = 3
triples = torch.cartesian_prod(*[torch.arange(5)] * K)  # (125, 3): all that can be drawn
chance = p[:, triples].prod(-1)  # (20, 125)


def expected(A):
    """The mean gradient over all draws, (20, 5), from advantages (20, 125, 3)."""
    return (chance[..., None] * (A[..., None] * push[:, triples]).mean(-2)).sum(1)


drawn = net[:, triples]  # (20, 125, 3)
others = (drawn.sum(-1, keepdim=True) - drawn) / (K - 1)
assert torch.allclose(expected(drawn - others), exact)  # leave one out: unbiased
assert torch.allclose(expected(drawn - drawn.mean(-1, keepdim=True)), (1 - 1 / K) * exact)  # shorter, same direction
ours = advantages(drawn.flatten(0, 1), "leave_one_out").view_as(drawn)
assert torch.allclose(ours, drawn - others)  # the library's

# %%
def variance(rewards, b):
    """The variance of one draw, summed over the logits, and its mean."""
    one = (rewards - b)[:, None] * toy_push
    return (toy_p @ one.square()).sum() - (toy_p @ one).square().sum(), toy_p @ one


for shift, b, stated in ((0, 0, 0.19), (0, 0.3, 0.25), (10, 0, 62.07), (10, 10.3, 0.25)):
    spread, middle = variance(toy.reward + shift, b)
    print(f"{shift:3} {b:5} {spread.item():8.3f}", [round(x, 2) for x in middle.tolist()])
    assert round(spread.item(), 2) == stated and [round(x, 2) for x in middle.tolist()] == [0.35, -0.09, -0.26]
assert advantages(torch.tensor([[2.0, 1, 0]]), "leave_one_out").tolist() == [[1.5, 0, -1.5]]
assert advantages(torch.tensor([[2.0, 1, 0]]), "group").tolist() == [[1, 0, -1]]

# %% alt_en="Variance of one draw against the baseline b, from -3 to 13, logarithmic. Two valleys of the same shape: the first, for rewards 1, 0, -1, is lowest near b = 0; the second, for rewards 11, 10, 9, near b = 10. Squares mark the mean rewards 0.3 and 10.3, a little right of the lowest points. Round measured points lie on both curves. At b = 0 the second curve stands at 62." alt_zh="抽一次的方差随基线 b 的变化，b 从 -3 到 13，纵轴为对数。两个形状相同的谷：第一个是奖励 1、0、-1，最低处在 b = 0 附近；第二个是奖励 11、10、9，在 b = 10 附近。方块标出平均奖励 0.3 和 10.3，在最低处略偏右。圆点是测量值，落在两条曲线上。b = 0 处第二条曲线高达 62。"
fig, axes = figure(width=6.4, height=3.0)
axes.set(xlabel="$b$", yscale="log", ylabel=r"$\mathrm{Var}$")
generator = torch.Generator().manual_seed(SEED)
for shift, color in ((0, "policy"), (10, "rejected")):
    rewards, at = toy.reward + shift, torch.linspace(-3, 13, 161).tolist()
    axes.plot(at, [variance(rewards, b)[0] for b in at], color=COLORS[color], label=f"$r+{shift}$" if shift else "$r$")
    axes.plot(0.3 + shift, variance(rewards, 0.3 + shift)[0], "s", color=COLORS[color])
    measured = torch.multinomial(toy_p, 4_000, replacement=True, generator=generator)
    for b in range(-2, 13, 2):
        spread = ((rewards - b)[:, None] * toy_push)[measured].var(0).sum()
        axes.plot(b, spread, "o", color=COLORS[color], markersize=4)
        assert abs(spread / variance(rewards, b)[0] - 1) < 0.12
    axes.legend()

# %% [markdown] lang="en"
# **Figure 12.1.** The variance of one draw's gradient against the baseline $b$: two sets of rewards, 10 apart, and the same shape of valley. Lines: all draws enumerated. Points: 4,000 draws. Squares: the mean reward as baseline.

# %% [markdown] lang="zh"
# **图 12.1** 抽一次所得梯度的方差，随基线 $b$ 的变化：两套奖励相差 10，谷的形状一样。曲线：把可能抽到的回答全列出来算。圆点：抽 4,000 次的实测。方块：以平均奖励为基线。

# %% [markdown] lang="en"
# ## DPO seen from here
# Let RLOO draw two answers, $y_1$ and $y_2$. Their advantages are $a_1-a_2$ and $a_2-a_1$, so the step it proposes is, up to a factor of 2, $(a_1-a_2)\,\nabla(\log\pi(y_1)-\log\pi(y_2))$. Now write the difference out. The KL penalties are the two log-ratios times $\beta$, and their difference is the margin $h$ of [chapter 7](07_derivation.ipynb):
#
# $$\text{RLOO: }\;\big[(r_1-r_2)-h\big]\;\nabla\log\frac{\pi(y_1)}{\pi(y_2)}\qquad\qquad\text{DPO: }\;\beta\,\big[\sigma(r_1-r_2)-\sigma(h)\big]\;\nabla\log\frac{\pi(y_1)}{\pi(y_2)}.$$
#
# The right side is chapter 7's gradient for a soft Bradley–Terry label $q=\sigma(r_1-r_2)$. The two brackets have the same sign, and they vanish together, where $h$ is the difference of the rewards. **Pair by pair, DPO pushes where RLOO on two answers pushes, and stops where it stops.** How hard it pushes is another matter: $\sigma$ flattens large differences, so that away from the optimum the mean over all pairs points a little elsewhere. On the example, at the start, it is $\beta$ times (0.145, -0.042, -0.104); the policy gradient was (0.35, -0.09, -0.26).
#
# A second thing separates them. **DPO's pairs are drawn once, beforehand**, and RLOO draws new answers from the policy at every step. That can be changed: DPO on fresh pairs of the policy's own is called *online* DPO ([Guo et al. 2024](https://arxiv.org/abs/2402.04792)). It will run along below, to tell what the stored pairs cost. (With people as judges comes a third: they name the better answer and do not say by how much. Our soft labels do say it, and so our comparison is silent on that.)

# %% [markdown] lang="zh"
# ## 从这里回头看 DPO
# 让 RLOO 抽两个回答，$y_1$ 和 $y_2$。优势是 $a_1-a_2$ 和 $a_2-a_1$，所以它要走的一步，不计系数 2，就是 $(a_1-a_2)\,\nabla(\log\pi(y_1)-\log\pi(y_2))$。把这个差展开：KL 惩罚扣掉的，是两个对数比各乘 $\beta$；两者相减，正是[第 7 章](07_derivation.ipynb)的间隔 $h$：
#
# $$\text{RLOO: }\;\big[(r_1-r_2)-h\big]\;\nabla\log\frac{\pi(y_1)}{\pi(y_2)}\qquad\qquad\text{DPO: }\;\beta\,\big[\sigma(r_1-r_2)-\sigma(h)\big]\;\nabla\log\frac{\pi(y_1)}{\pi(y_2)}$$
#
# 右边是第 7 章的梯度，标签取 Bradley–Terry 软标签 $q=\sigma(r_1-r_2)$。两个方括号同号，也同时为零：都在 $h$ 等于奖励之差的地方。**一对一对地看，只抽两个回答的 RLOO 往哪边推，DPO 就往哪边推；它停在哪里，DPO 也停在哪里。** 推的力气却不一样：差值一大，就被 $\sigma$ 压平。所以没到最优解时，对所有偏好对取平均，方向会略有不同。在手算例子里，出发时这个平均是 $\beta$ 乘 (0.145, -0.042, -0.104)，策略梯度则是 (0.35, -0.09, -0.26)。
#
# 还有一处差别。**DPO 的偏好对是事先抽好的，只抽一次**；RLOO 每一步都从当前的策略重新抽。这一处可以改：在策略自己新写的偏好对上做 DPO，叫*在线*（online）DPO（[Guo et al. 2024](https://arxiv.org/abs/2402.04792)）。下面让它也跑一趟，看看事先抽好的偏好对到底亏多少。（裁判若是人，还有第三处：人只说哪个更好，不说好多少。我们的软标签说了好多少，所以这一点，本章的比较回答不了。）

# %% tags=["proof"]
first, second = torch.cartesian_prod(torch.arange(5), torch.arange(5)).unbind(-1)  # (25,) each: all pairs
weight = p[:, first] * p[:, second]  # (20, 25): both drawn from the policy
ratio = logits.log_softmax(-1) - problem.ref_logps
h = beta * (ratio[:, first] - ratio[:, second])
gap = problem.reward[:, first] - problem.reward[:, second]
apart = push[:, first] - push[:, second]  # (20, 25, 5)
assert torch.allclose(net[:, first] - net[:, second], gap - h)
assert torch.allclose((weight[..., None] * (gap - h)[..., None] * apart).sum(1) / 2, exact)  # two answers, left out in turn
scaled = (beta * logits.log_softmax(-1), beta * problem.ref_logps)  # each problem has a beta of its own
four = [logps[:, side].flatten() for logps in scaled for side in (first, second)]
losses = preference_loss(*four, beta=1.0, preference_prob=gap.sigmoid().flatten())[0].view(INSTANCES, 25)
by_hand = beta[..., None] * (weight * (gap.sigmoid() - h.sigmoid()))[..., None] * apart
assert torch.allclose(slope((weight * losses).sum(-1)), -by_hand.sum(1))
assert torch.equal((gap - h).sign(), (gap.sigmoid() - h.sigmoid()).sign())

# %%
toy_gap = toy.reward[:, None] - toy.reward
push_of_dpo = (toy_p[:, None] * toy_p * (toy_gap.sigmoid() - 0.5))[..., None] * (toy_push[:, None] - toy_push)  # (3, 3, 3)
print(push_of_dpo.sum((0, 1)).numpy().round(3))
assert np.allclose(push_of_dpo.sum((0, 1)), [0.145, -0.042, -0.104], atol=5e-4)

# %% [markdown] lang="en"
# ## Where the leash is tied
# So far the leash was part of the reward: $A$ came from $a=r-\beta\log(\pi/\pi_{\mathrm{ref}})$. REINFORCE, RLOO and PPO do that. GRPO takes the advantage from $r$ alone and adds a KL term to the loss instead, estimated from the same draws. That is another place, and it matters which estimator stands there.
#
# With $d=\log\pi(y)-\log\pi_{\mathrm{ref}}(y)$, [Schulman 2020](http://joschu.net/blog/kl-approx.html) names three: $k_1=d$, $k_2=d^2/2$, $k_3=e^{-d}-1+d$. On draws from $\pi$, $k_1$ and $k_3$ are right on average, and $k_3$ is never negative. GRPO, as [Shao et al. 2024](https://arxiv.org/abs/2402.03300) wrote it down, takes $k_3$. DeepSeek-V3.2 ([DeepSeek-AI 2025](https://arxiv.org/abs/2512.02556), section 3.1) multiplies it by $\rho=\pi/\pi_{\mathrm{old}}$, the ratio to the policy that drew the answer (chapter 11's $\rho$ was a difference of logarithms), and so does TRL 1.16 unless it is told not to. On fresh answers $\rho=1$, and both terms have the same value. Do they also pull alike?
#
# A loss is not read, it is differentiated. The draws stay as they are, so the gradient goes through $d$ and $\rho$ alone: $\nabla d=\nabla\log\pi$, and where $\rho=1$, also $\nabla\rho=\nabla\log\pi$. The last line is the *product rule*, $k_3\,\nabla\rho+\rho\,\nabla k_3$, in which the exponentials cancel:
#
# $$\begin{aligned}\mathbb{E}_{\pi}[\nabla k_1]&=\mathbb{E}_{\pi}[\nabla\log\pi]=0\\\mathbb{E}_{\pi}[\nabla k_2]&=\mathbb{E}_{\pi}[d\,\nabla\log\pi]=\nabla\,\mathrm{KL}(\pi\,\|\,\pi_{\mathrm{ref}})\\\mathbb{E}_{\pi}[\nabla k_3]&=\mathbb{E}_{\pi}\Big[\Big(1-\frac{\pi_{\mathrm{ref}}}{\pi}\Big)\nabla\log\pi\Big]=-\sum_y\pi_{\mathrm{ref}}(y)\,\nabla\log\pi(y)=\nabla\,\mathrm{KL}(\pi_{\mathrm{ref}}\,\|\,\pi)\\\mathbb{E}_{\pi}[\nabla(\rho\,k_3)]&=\mathbb{E}_{\pi}\Big[\Big(k_3+1-\frac{\pi_{\mathrm{ref}}}{\pi}\Big)\nabla\log\pi\Big]=\mathbb{E}_{\pi}[d\,\nabla\log\pi]=\nabla\,\mathrm{KL}(\pi\,\|\,\pi_{\mathrm{ref}}).\end{aligned}$$
#
# They do not. The unbiased $k_1$ does nothing, the biased $k_2$ pulls as it should, $k_3$ alone pulls towards the *other* KL, and $\rho\,k_3$ pulls as $k_2$ does, draw by draw. A factor that is 1 chooses between the two. ([Tang and Munos 2025](https://arxiv.org/abs/2506.09477) warn of differentiating estimates; [Kezhao Liu et al. 2025](https://arxiv.org/abs/2510.01555) call $k_2$ in the loss and $k_1$ in the reward equivalent, on fresh answers.)
#
# Chapter 6 has worked out where the other KL leads: not to $\pi_{\mathrm{ref}}\,e^{r/\beta}/Z$, but to $\beta\,\pi_{\mathrm{ref}}/(\lambda-r)$, with a $\lambda$ that makes the probabilities sum to 1. On the example, at $\beta=0.5$: (0.841, 0.116, 0.044) in place of (0.919, 0.075, 0.007). DeepSeek's own reason is another one: for a token that the policy has nearly given up, $\pi_{\mathrm{ref}}/\pi$ has no bound.

# %% [markdown] lang="zh"
# ## 绳子拴在哪里
# 前面，绳子一直算在奖励里：$A$ 由 $a=r-\beta\log(\pi/\pi_{\mathrm{ref}})$ 算出。REINFORCE、RLOO、PPO 都这么做。GRPO 的优势只看 $r$，另在损失里加一个 KL 项，用同一批回答来估计。拴的地方一换，用哪个估计量就要紧了。
#
# 记 $d=\log\pi(y)-\log\pi_{\mathrm{ref}}(y)$，[Schulman 2020](http://joschu.net/blog/kl-approx.html) 列了三个：$k_1=d$，$k_2=d^2/2$，$k_3=e^{-d}-1+d$。用 $\pi$ 抽的样本，$k_1$ 和 $k_3$ 平均起来都对，$k_3$ 还从不为负。[Shao et al. 2024](https://arxiv.org/abs/2402.03300) 写下的 GRPO 用的是 $k_3$。DeepSeek-V3.2（[DeepSeek-AI 2025](https://arxiv.org/abs/2512.02556) 的 3.1 节）再给它乘上 $\rho=\pi/\pi_{\mathrm{old}}$，即策略与当初抽这个回答的策略之比（第 11 章的 $\rho$ 是对数之差）；TRL 1.16 也乘，除非另行关掉。回答是刚抽的，$\rho=1$，两项的值就一样。拉力也一样吗？
#
# 损失不是拿来读数的，是拿来求导的。样本已经抽定，梯度只从 $d$ 和 $\rho$ 里过：$\nabla d=\nabla\log\pi$；在 $\rho=1$ 处，$\nabla\rho$ 也等于 $\nabla\log\pi$。最后一行*用乘积求导法则*，$k_3\,\nabla\rho+\rho\,\nabla k_3$，指数项正好消去：
#
# $$\begin{aligned}\mathbb{E}_{\pi}[\nabla k_1]&=\mathbb{E}_{\pi}[\nabla\log\pi]=0\\\mathbb{E}_{\pi}[\nabla k_2]&=\mathbb{E}_{\pi}[d\,\nabla\log\pi]=\nabla\,\mathrm{KL}(\pi\,\|\,\pi_{\mathrm{ref}})\\\mathbb{E}_{\pi}[\nabla k_3]&=\mathbb{E}_{\pi}\Big[\Big(1-\frac{\pi_{\mathrm{ref}}}{\pi}\Big)\nabla\log\pi\Big]=-\sum_y\pi_{\mathrm{ref}}(y)\,\nabla\log\pi(y)=\nabla\,\mathrm{KL}(\pi_{\mathrm{ref}}\,\|\,\pi)\\\mathbb{E}_{\pi}[\nabla(\rho\,k_3)]&=\mathbb{E}_{\pi}\Big[\Big(k_3+1-\frac{\pi_{\mathrm{ref}}}{\pi}\Big)\nabla\log\pi\Big]=\mathbb{E}_{\pi}[d\,\nabla\log\pi]=\nabla\,\mathrm{KL}(\pi\,\|\,\pi_{\mathrm{ref}})\end{aligned}$$
#
# 不一样。无偏的 $k_1$ 一点力也不出；有偏的 $k_2$ 正好是该有的拉力；单用 $k_3$，压低的是*另一个* KL；$\rho\,k_3$ 的拉力同 $k_2$ 一样，每抽一次都一样。一个等于 1 的因子，决定了压低哪一个。（[Tang and Munos 2025](https://arxiv.org/abs/2506.09477) 提醒过：估计量不能随便拿来求导；[Kezhao Liu et al. 2025](https://arxiv.org/abs/2510.01555) 说，回答是现抽的话，损失里放 $k_2$ 同奖励里放 $k_1$ 等价。）
#
# 用另一个 KL 会停在哪里，第 6 章已经算过：不是 $\pi_{\mathrm{ref}}\,e^{r/\beta}/Z$，而是 $\beta\,\pi_{\mathrm{ref}}/(\lambda-r)$，其中 $\lambda$ 让概率加起来等于 1。手算例子里取 $\beta=0.5$，最后停在 (0.841, 0.116, 0.044)，而不是 (0.919, 0.075, 0.007)。DeepSeek 自己的理由是另一条：策略几乎已经放弃的词元，$\pi_{\mathrm{ref}}/\pi$ 没有上界。

# %% tags=["proof"]
logps = logits.log_softmax(-1)
pulls = {kind: slope((p * kl_estimate(logps, problem.ref_logps, kind)).sum(-1)) for kind in ("k1", "k2", "k3")}
assert torch.allclose(pulls["k1"], torch.zeros_like(exact))
assert torch.allclose(pulls["k2"], slope(kl(logps, problem.ref_logps)))
assert torch.allclose(pulls["k3"], slope(kl(problem.ref_logps, logps)))
both = kl_penalty(logps, logps.detach(), problem.ref_logps, "ratio_k3")
assert torch.allclose(slope((p * both).sum(-1)), pulls["k2"])
end = other_optimum(problem, beta).exp()  # (20, 5): where k3 in the loss comes to rest
left = problem.reward - beta * (1 - problem.ref_logps.exp() / end)  # what each answer is still pulled by
assert torch.allclose(left, left.mean(-1, keepdim=True))  # the same for all answers: softmax does not move

# %%
for solve, stated in ((other_optimum, [0.841, 0.116, 0.044]),
                      (optimal_policy, [0.919, 0.075, 0.007])):
    print(solve(toy, 0.5).exp().numpy().round(3))
    assert np.allclose(solve(toy, 0.5).exp(), stated, atol=5e-4)

# %% [markdown] lang="en"
# GRPO has two more habits. It divides by the standard deviation $s$ of a group's rewards. In large groups that multiplies everything but the leash by $1/s$, which is the same direction as leaving the reward alone and multiplying $\beta$ by $s$: **every prompt gets a $\beta$ of its own**, $\beta s$. For a reward of right or wrong, where the policy is right with probability $v$, $s=\sqrt{v(1-v)}$: half of $\beta$ at $v=0.5$, a tenth at $v=0.99$. The surer the policy, the longer its leash. In small groups this is milder, because a group without a mistake has no advantages at all: with four answers it is $0.71\,\beta$ and $0.67\,\beta$.
#
# And it takes the mean over an answer's tokens in place of the sum, which divides the push on an answer by its length. [Zichen Liu et al. 2025](https://arxiv.org/abs/2503.20783) count the two divisions as biases and leave both out; that is **Dr. GRPO**. **DAPO** ([Yu et al. 2025](https://arxiv.org/abs/2503.14476)) leaves out the second only: it divides by the number of tokens of the whole batch, the same for all answers. Its authors also leave the leash off; we leave it where GRPO's is, for both.

# %% [markdown] lang="zh"
# GRPO 还有两处特别。一处是除以一组奖励的标准差 $s$。组大的时候，这等于把绳子以外的各项都乘上 $1/s$；只论方向，又等于奖励不动，把 $\beta$ 乘上 $s$：**每个提示各有各的 $\beta$**，即 $\beta s$。奖励若只分对错，策略答对的概率是 $v$，那么 $s=\sqrt{v(1-v)}$：$v=0.5$ 时 $\beta$ 剩一半，$v=0.99$ 时剩十分之一。策略越有把握，绳子越长。组小的时候没这么厉害，因为一组里一个错的也没有，优势就全是零：每组四个回答时，分别是 $0.71\,\beta$ 和 $0.67\,\beta$。
#
# 另一处，是对一个回答的各词元取平均，而不求和：推动一个回答的力，要除以它的长度。[Zichen Liu et al. 2025](https://arxiv.org/abs/2503.20783) 认为两处除法都是偏差，都去掉，就是 **Dr. GRPO**。**DAPO**（[Yu et al. 2025](https://arxiv.org/abs/2503.14476)）只去掉后一处：它除以整个批次的词元总数，每个回答除的都一样。DAPO 的作者还解开了绳子；这里两种方法的绳子，都照 GRPO 那样拴。

# %%
for answers, stated in ((2_000, (0.50, 0.10)), (4, (0.71, 0.67))):
    for v, share in zip((0.5, 0.99), stated):
        right = torch.arange(answers + 1).double()  # how many of the group are right, and how likely that is
        chance_of = torch.distributions.Binomial(answers, torch.tensor(v).double()).log_prob(right).exp()
        spread = (right / answers * (1 - right / answers) * answers / (answers - 1)).sqrt() + 1e-4
        push = (chance_of * (right / answers) * (1 - right / answers) / spread).sum()
        print(answers, v, f"{v * (1 - v) / push:.2f}")
        assert abs(v * (1 - v) / push - share) < 0.005

# %% [markdown] lang="en"
# There is a last difference, and it is no small one. A network writes token by token, and these methods take their KL term token by token, on the prefixes that the policy has written. In the reward, the KL penalty falls on the whole answer: whatever a token leads to, later penalties included, is in its advantage. In the loss each fork pays for itself, and earlier tokens are deaf to it. The draws are fixed, so nothing tells the first token that it was dear.
#
# By hand: two tokens, each one of two, and a reference that knows no preference, 0.5 everywhere. The policy has moved at one fork only: after the first token $u$ it writes 0.9 and 0.1. That fork costs $0.9\log 1.8+0.1\log 0.2=0.368$ nats; the policy gets there half the time, so the KL of its answers is 0.184. What does the first token hear?
#
# - In the KL of the answers, making $u$ likelier costs: the slope for its logit is $0.5\,(0.368-0.184)=0.092$.
# - In the term in the loss, the first fork is at its reference, and its slope is 0, with $k_3$ as with $\rho\,k_3$.
#
# At the last token both agree. So $\rho\,k_3$ holds down the right KL at every fork, and the KL of whole answers only where an answer is one token. ([Tang and Munos 2025](https://arxiv.org/abs/2506.09477) speak of "a partial gradient at best".)

# %% [markdown] lang="zh"
# 还有最后一处不同，而且不小。网络逐个词元地写，这些方法也逐个词元地取 KL 项，取在策略自己写出的前缀上。KL 惩罚放在奖励里，扣的是整个回答的账：一个词元引出的一切，连同后面要扣的，都在它的优势里。放在损失里，每个岔口只付自己的账，这笔账传不到前面的词元。样本已经抽定，没有谁告诉第一个词元，选它有多贵。
#
# 手算：两个词元，各二选一，参考策略毫无偏好，处处是 0.5。策略只在一个岔口动过：写了第一个词元 $u$ 之后，它写 0.9 和 0.1。这个岔口的账是 $0.9\log 1.8+0.1\log 0.2=0.368$ 奈特；策略有一半的时候走到这里，所以整个回答的 KL 是 0.184。第一个词元听到什么？
#
# - 用整个回答的 KL，$u$ 的概率每抬高一点都要付账：它的 logit 上的斜率是 $0.5\,(0.368-0.184)=0.092$。
# - 用损失里的那一项，第一个岔口就在参考策略处，斜率是 0，$k_3$ 和 $\rho\,k_3$ 都一样。
#
# 到了最后一个词元，两者才一致。所以 $\rho\,k_3$ 在每个岔口压低的都是该压的 KL；可要说压低整个回答的 KL，只有回答仅一个词元时才对。（[Tang and Munos 2025](https://arxiv.org/abs/2506.09477) 的说法是，充其量只是「部分梯度」。）

# %%
at_u = torch.zeros(2, dtype=torch.float64, requires_grad=True)  # the first fork
after = torch.tensor([[0.9, 0.1], [0.5, 0.5]]).double().log()  # the second, after each
even = torch.full((2,), 0.5).double().log()
charges = kl(after, even.expand(2, 2))  # 0.368 after u, 0 else
answers = kl(at_u.log_softmax(-1), even) + at_u.softmax(-1) @ charges
print(charges.numpy().round(3), round(answers.item(), 3))
heard = grad(answers, at_u)[0]
mine = at_u.log_softmax(-1)
terms = [kl_penalty(mine, mine.detach(), even, kind) for kind in ("k3", "ratio_k3")]
deaf = [grad((mine.detach().exp() * (term + charges)).sum(), at_u, retain_graph=True)[0]
        for term in terms]
assert np.allclose(heard, [0.092, -0.092], atol=5e-4)
assert f"{charges[0].item():.3f} {answers.item():.3f}" == "0.368 0.184"
assert all(np.allclose(slopes, 0) for slopes in deaf)

# %% [markdown] lang="en"
# So a fork comes to rest where a single choice would, with what is to be expected after a token in place of the reward. (How often a fork is reached multiplies the push and the pull alike, and drops out.) Let $g(c)$ be the mean reward of the answers that the policy goes on to write after choosing $c$; then at every fork, the last ones first,
#
# $$k_3:\quad\pi(c)=\frac{\beta\,\pi_{\mathrm{ref}}(c)}{\lambda-g(c)}\qquad\qquad\rho\,k_3:\quad\pi(c)=\frac1Z\,\pi_{\mathrm{ref}}(c)\,e^{g(c)/\beta}.$$
#
# This is for sums over tokens, as in Dr. GRPO and, up to a constant, DAPO; with GRPO's mean, $\beta$ and $g$ are weighted, branch by branch, by one over the length of the answers. The cell checks the sums on twenty random trees with two tokens of three kinds: solved fork by fork, the gradient of Dr. GRPO's objective is zero.

# %% [markdown] lang="zh"
# 所以每个岔口停下来的地方，都和只选一次时一样，只是原来放奖励的位置，换成了选这个词元之后能期望得到的。（一个岔口多久走到一次，推力和拉力一起乘上，就约掉了。）记 $g(c)$ 为选了 $c$ 以后，策略写出的那些回答的平均奖励。从最后的岔口算起，每个岔口都停在
#
# $$k_3:\quad\pi(c)=\frac{\beta\,\pi_{\mathrm{ref}}(c)}{\lambda-g(c)}\qquad\qquad\rho\,k_3:\quad\pi(c)=\frac1Z\,\pi_{\mathrm{ref}}(c)\,e^{g(c)/\beta}$$
#
# 这是对词元求和，即 Dr. GRPO 的情形，差一个常数也就是 DAPO；换成 GRPO 的平均，每条分支上的 $\beta$ 和 $g$ 都要按回答长度的倒数加权。下面在二十棵随机的树上检验求和的情形，每个回答两个词元，每个词元三选一：逐个岔口解出来的策略，代进去，Dr. GRPO 目标的梯度就是零。

# %% tags=["proof"]
first_ref, second_ref = random_policies(INSTANCES, 3, seed=SEED + 3), random_policies(INSTANCES, 3, 3, seed=SEED + 4)
worth = random_policies(INSTANCES, 3, 3, seed=SEED + 5)  # the reward of each of the nine answers
for kl_term, solve in (("k3", other_optimum), ("ratio_k3", optimal_policy)):
    second = solve(Problem(second_ref, worth), beta[..., None]).requires_grad_()
    ahead = mean(second, worth).detach()  # (20, 3): expected after each first token
    first = solve(Problem(first_ref, ahead), beta).requires_grad_()
    one, two = first.log_softmax(-1), second.log_softmax(-1)
    whole = one[..., None] + two  # (20, 3, 3): log pi of an answer
    paid = kl_penalty(one, one.detach(), first_ref, kl_term)[..., None]
    paid = paid + kl_penalty(two, two.detach(), second_ref, kl_term)  # fork by fork
    gained = whole.detach().exp() * (worth * whole - beta[..., None] * paid)
    assert all(pull.abs().max() < 1e-8 for pull in grad(gained.sum(), (first, second)))
    answers = Problem((first_ref[..., None] + second_ref).flatten(1), worth.flatten(1))
    apart_by = (solve(answers, beta) - whole.flatten(1)).abs().amax(-1)
    assert apart_by.min() > 1e-3  # another policy than that of one choice among nine

# %% [markdown] lang="en"
# In the book's own task the population's rates are known, and so are all forks. With the reward of chapter 9, a point for three numbers and a point for the right value, $\beta=0.25$ and groups of four, `python chapters/data/rl_ends.py` solves the tree of every prompt, for each method with each of the two terms. Where $s$ divides, it depends on what the policy itself gets right, so these trees are solved again with the new shares, until nothing moves. Before you look: which of the two terms will end higher?

# %% [markdown] lang="zh"
# 在本书的任务里，群体的各种比例都已知，每个岔口上的概率也就已知。奖励同第 9 章：写三个数得一分，答案正确得一分；$\beta=0.25$，每组四个回答。`python chapters/data/rl_ends.py` 把每个提示的树都解出来，每种方法两种 KL 项各解一遍。除以 $s$ 的，$s$ 取决于策略自己答对多少，所以要用新的比例再解，解到不再变为止。先猜一猜：哪一种 KL 项，停的地方更高？

# %%
task, REWARD, BETA = BookTask(), "style+exact", 0.25
classes = class_problem(task, REWARD)  # a row a prompt, four classes of answer
often = torch.tensor(list(task.prompt_distribution.values())).double()


def place(class_logps):
    """(mean reward, KL) of a policy over the classes, averaged over the population's prompts."""
    return ((often @ mean(class_logps, classes.reward)).item(),
            (often @ kl(class_logps, classes.ref_logps)).item())


ends = {"base": place(classes.ref_logps), "optimum": place(optimal_policy(classes, BETA))}
solved = json.loads(Path("data/rl_ends.json").read_text(encoding="utf-8"))["ends"]
ends |= {name: (end["reward"], end["kl"]) for name, end in solved.items()}
end_J = {name: reward - BETA * spent for name, (reward, spent) in ends.items()}
for name, (reward, spent) in ends.items():
    print(f"{name:19} reward {reward:.3f}  KL {spent:.2f}  J {end_J[name]:.3f}")

# %%
TERMS = {"dr_grpo": ("dr_grpo", "dr_grpo_ratio"), "grpo": ("grpo", "grpo_ratio"),
         "dapo": ("dapo", "dapo_ratio")}  # method: its end with k3, with the ratio
printed = {name: [f"{ends[end][1]:.2f} {end_J[end]:.3f}" for end in pair]
           for name, pair in TERMS.items()}
assert printed == {"dr_grpo": ["1.03 1.539", "0.95 1.581"],
                   "grpo": ["1.28 1.573", "2.12 1.453"],
                   "dapo": ["1.30 1.546", "1.94 1.479"]}
assert f"{ends['optimum'][1]:.2f} {end_J['optimum']:.3f}" == "1.26 1.639"
# undivided, the ratio's end is the higher one; divided by s, the lower one
assert end_J["dr_grpo_ratio"] > end_J["dr_grpo"] + 0.04
assert all(end_J[f"{name}_ratio"] < end_J[name] - 0.06 for name in ("grpo", "dapo"))
assert min(ends["grpo_ratio"][1], ends["dapo_ratio"][1]) > 1.5 * ends["optimum"][1]
hearing = place(optimal_policy(classes, BETA * 4 / 3))  # groups of four tighten it
assert np.allclose(ends["dr_grpo_ratio_heard"], hearing, atol=1e-3)
in_earshot = [f"{end_J[end + '_heard']:.3f}" for end in TERMS["dr_grpo"]]
assert in_earshot == ["1.584", "1.628"]

# %% alt_en="Mean reward against KL from 0.8 to 2.5. A rising curve, the frontier, with a star at the optimum, KL 1.26. Six points below it. With k3, filled: Dr. GRPO at KL 1.03, GRPO at 1.28 and DAPO at 1.30, all left of or near the star. With the ratio, open: Dr. GRPO at 0.95, closer to the frontier; GRPO at 2.12 and DAPO at 1.94, far to the right, beyond the curve's end." alt_zh="平均奖励随 KL 的变化，KL 从 0.8 到 2.5。一条上升的曲线是前沿，星号是最优解，KL 1.26。下面有六个点。用 k3 的是实心点：Dr. GRPO 在 KL 1.03，GRPO 在 1.28，DAPO 在 1.30，都在星号左边或附近。乘了比值的是空心点：Dr. GRPO 在 0.95，离前沿更近；GRPO 在 2.12，DAPO 在 1.94，远在右边，已过了曲线的尽头。"
fig, axes = figure(width=6.4, height=3.4)
at_betas = np.geomspace(0.03, 20, 100).tolist()
reward_line, kl_line = (often @ part for part in frontier(classes, at_betas))
axes.plot(kl_line, reward_line, color=COLORS["theory"])
axes.plot(*ends["optimum"][::-1], "*", color=COLORS["theory"], markersize=13)
named = {"dr_grpo": "Dr. GRPO", "grpo": "GRPO", "dapo": "DAPO"}
for name, pair in TERMS.items():
    fills, terms = (COLORS["baseline"], "none"), ("$k_3$", r"$\rho\,k_3$")
    for end, fill, term in zip(pair, fills, terms):
        reward, spent = ends[end]
        axes.plot(spent, reward, "o", color=COLORS["baseline"], markerfacecolor=fill)
        axes.annotate(f"{named[name]}, {term}", (spent, reward), (7, -4), fontsize=9,
                      textcoords="offset points")
for level, at in ((1.4, 1.7), (1.5, 1.3), (1.6, 1.55)):
    axes.plot([0, 3], [level, level + 3 * BETA], ":", color=INK, linewidth=0.9)
    axes.text(at, level + at * BETA, f"$J={level}$", fontsize=8, va="top")
axes.set(xlabel="KL", ylabel=r"$\mathbb{E}[r]$", xlim=(0.75, 2.5), ylim=(1.74, 2.02))

# %% [markdown] lang="en"
# **Figure 12.2.** Where six leashes end, computed fork by fork: filled with $k_3$, open with $\rho\,k_3$. Curve: the frontier. Star: the optimum. Dotted: equal $J$. Without a division the corrected term ends higher; with one, it lets the policy run.

# %% [markdown] lang="zh"
# **图 12.2** 六种拴法各停在哪里，逐个岔口算出：实心用 $k_3$，空心用 $\rho\,k_3$。曲线：前沿。星号：最优解。点线：等 $J$ 线。不除标准差，修正过的 KL 项停得更高；除了，它就放策略跑远。

# %% [markdown] lang="en"
# | KL, $J$ at the end | with $k_3$ | with $\rho\,k_3$ |
# |---|---|---|
# | Dr. GRPO (divides by nothing) | 1.03, 1.539 | 0.95, 1.581 |
# | GRPO (by $s$ and by the length) | 1.28, 1.573 | 2.12, 1.453 |
# | DAPO (by $s$) | 1.30, 1.546 | 1.94, 1.479 |
#
# The optimum has 1.26 nats and $J=1.639$. Which term is better depends on the division. Dr. GRPO gains 0.04 from the corrected one. What is still missing there is mostly deafness: if earlier tokens heard of the later penalties, it would end at 1.628, which is the closed form with the leash that groups of four tighten (and with $k_3$ at 1.584).
#
# GRPO and DAPO lose by the same correction. Their leash is $\beta s$ and lengthens as the policy grows sure. The right KL follows it, to two nats; the other KL holds hard against giving any answer up, and so happens to hide the fault. **The two settings belong together: $\rho\,k_3$ without the standard deviation.** Whoever sets `beta` in TRL 1.16 and nothing else is in the last cell of the table (there with groups of eight).
#
# No network had a part in these numbers, and they are the numbers of this reward and this $\beta$. The runs below will be held against them.

# %% [markdown] lang="zh"
# | 终点的 KL、$J$ | 用 $k_3$ | 用 $\rho\,k_3$ |
# |---|---|---|
# | Dr. GRPO（哪里都不除） | 1.03、1.539 | 0.95、1.581 |
# | GRPO（除以 $s$ 和长度） | 1.28、1.573 | 2.12、1.453 |
# | DAPO（除以 $s$） | 1.30、1.546 | 1.94、1.479 |
#
# 最优解是 1.26 奈特，$J=1.639$。哪一种 KL 项好，要看除不除。Dr. GRPO 换成修正过的，多得 0.04。剩下的差距，大半是因为后面的账传不到前面：要是传得到，它会停在 1.628，正是闭式解，只是绳子按每组四个收紧（用 $k_3$ 则是 1.584）。
#
# 同样的修正，GRPO 和 DAPO 却吃亏。它们的绳子是 $\beta s$，策略越有把握，绳子越长。该压的 KL 就顺着它放到两奈特；另一个 KL 不肯让策略放弃任何回答，碰巧把这个毛病遮住了。**这两个设置要一起用：$\rho\,k_3$，同时不除标准差。** 在 TRL 1.16 里只设 `beta`、别的都不动，就落在表里最后一格（它默认每组八个）。
#
# 算这些数，没有用到任何网络；它们也只属于这个奖励、这个 $\beta$。下面的训练，要和它们对照。

# %% [markdown] lang="en"
# ## Several updates from one draw
# Drawing answers is the dear part, so one would like to take several steps on one batch. After the first step the batch is stale: $\pi$ is no longer the policy that drew it, $\pi_{\mathrm{old}}$. Weighting each answer by $\rho=\pi/\pi_{\mathrm{old}}$ makes up for it exactly, if the advantages are those of the present policy. In practice they stay as they were at the draw, and PPO weights each token by its own $\rho$; that is nearly right as long as $\rho$ stays near 1. PPO ([Schulman et al. 2017](https://arxiv.org/abs/1707.06347), equation 7) sees to that by taking away the reason to leave:
#
# $$\mathcal{L}=-\min\big(\rho A,\;\mathrm{clip}(\rho,\,1-\epsilon,\,1+\epsilon)\,A\big).$$
#
# By hand, with $\epsilon=0.2$. A good answer, $A=1$: at $\rho=1.3$ the minimum of 1.3 and 1.2 is 1.2, a constant; nothing pulls it further up. A bad one, $A=-1$: at $\rho=0.7$ the minimum of -0.7 and -0.8 is -0.8; nothing pushes it further down. But a bad answer that has become *likelier*, $\rho=1.3$, gives the minimum of -1.3 and -1.2, which is -1.3, and is pushed. At $\rho=1$, the first step after drawing, the gradient is $-A\,\nabla\log\pi$ to the last digit: with one update for each draw, PPO's clipping does nothing.

# %% [markdown] lang="zh"
# ## 一批回答，更新几次
# 贵的是抽回答，所以人们想用一批回答多走几步。走了一步，这批就旧了：$\pi$ 不再是当初抽它的那个策略 $\pi_{\mathrm{old}}$。给每个回答乘上权重 $\rho=\pi/\pi_{\mathrm{old}}$，可以完全修正过来，只要优势也按现在的策略来算。实际上优势还是抽的时候算的，PPO 又是每个词元各乘各的 $\rho$；只要 $\rho$ 离 1 不远，就还大致不差。PPO（[Schulman et al. 2017](https://arxiv.org/abs/1707.06347) 的式 7）的办法，是让这个比值离远了也得不到好处：
#
# $$\mathcal{L}=-\min\big(\rho A,\;\mathrm{clip}(\rho,\,1-\epsilon,\,1+\epsilon)\,A\big)$$
#
# 手算，$\epsilon=0.2$。好回答，$A=1$：$\rho=1.3$ 时，1.3 和 1.2 里小的是 1.2，是常数，不再往上拉。坏回答，$A=-1$：$\rho=0.7$ 时，-0.7 和 -0.8 里小的是 -0.8，不再往下推。但坏回答的概率要是反而*升*了，$\rho=1.3$，-1.3 和 -1.2 里小的是 -1.3，照样往下推。在 $\rho=1$ 处，也就是抽完后的第一步，梯度恰好就是 $-A\,\nabla\log\pi$：一批只更新一次，PPO 的截断（clipping）什么也没做。

# %% tags=["proof"]
wander = random_policies(INSTANCES, 5, seed=SEED + 2)  # the policy that drew
advantage = net - (p * net).sum(-1, keepdim=True)
for_now = slope((p * clipped_loss(logps, logps.detach(), advantage)).sum(-1))  # drawn by the policy itself
assert torch.allclose(for_now, -exact)
weighted = -slope((wander.exp() * (logps - wander).exp() * advantage).sum(-1))  # drawn by another: weighted by rho
assert torch.allclose(weighted, -exact)

# %% alt_en="Two panels, the loss's surrogate against rho from 0.4 to 1.8, A = 1 left and A = -1 right. Left: a line rising with slope 1 up to rho = 1.2 and flat beyond. Right: flat at -0.8 up to rho = 0.8 and falling with slope -1 beyond. Dotted lines continue the straight line where it is clipped; a dot marks rho = 1 in both." alt_zh="两幅小图，纵轴是 PPO 最大化的量，横轴 rho 从 0.4 到 1.8，左边 A = 1，右边 A = -1。左：以斜率 1 上升，到 rho = 1.2 以后变平。右：rho = 0.8 以前平在 -0.8，以后以斜率 -1 下降。截断处用点线接着画原来的直线；两幅都用圆点标出 rho = 1。"
fig, axes = figure(columns=2, width=7.0, height=2.6)
rho = torch.linspace(0.4, 1.8, 141).double()
for panel, A in zip(axes, (1.0, -1.0)):
    gain = -clipped_loss(rho.log(), torch.zeros_like(rho), torch.full_like(rho, A), clip=0.2)
    panel.plot(rho, A * rho, ":", color=INK)
    panel.plot(rho, gain, color=COLORS["policy"])
    panel.plot(1, A, "o", color=COLORS["policy"])
    panel.set(xlabel=r"$\rho$", title=f"$A={A:g}$", xticks=(0.4, 0.8, 1, 1.2, 1.6))
hand = torch.tensor([1.3, 0.7, 1.3]).double()
gains = -clipped_loss(hand.log(), torch.zeros(3).double(), torch.tensor([1.0, -1, -1]).double())
print([round(x, 3) for x in gains.tolist()])
assert torch.allclose(gains, torch.tensor([1.2, -0.8, -1.3]).double())

# %% [markdown] lang="en"
# **Figure 12.3.** What PPO maximises, against the ratio $\rho$, for a good answer and a bad one. It is flat where the answer has already moved far enough in the direction that $A$ asks for, and only there.

# %% [markdown] lang="zh"
# **图 12.3** PPO 最大化的量随比值 $\rho$ 的变化：左为好回答，右为坏回答。曲线只在一种地方变平：回答照 $A$ 要的方向已经走得够远。

# %% [markdown] lang="en"
# PPO's other part is the critic, $V_t$: what is still to come, net, before token $t$; after the last one, 0. Let $r_t$ be what token $t$ itself earns: less its part of the KL penalty, and for the last token plus the judge's reward. The advantage of a token is then the surprise that it brings, $\delta_t=r_t+V_{t+1}-V_t$, plus the later surprises with weights $\lambda,\lambda^2,\dots$ (this $\lambda$ lies between 0 and 1 and is no multiplier). This is generalised advantage estimation, GAE ([Schulman et al. 2016](https://arxiv.org/abs/1506.02438), equation 16). By hand: three tokens, the reward 1 comes with the last, the critic said 0.5, 0.6, 0.8. The surprises are 0.1, 0.2, 0.2. With $\lambda=0$ they are the advantages; with $\lambda=1$ the advantage is what did come less what the critic said, 0.5, 0.4, 0.2; with $\lambda=0.95$, backwards: $0.2$, $0.2+0.95\cdot 0.2=0.39$, $0.1+0.95\cdot 0.39=0.47$. A smaller $\lambda$ trusts the critic more: less variance, more bias. The critic is a second network beside the policy, trained on the same answers.

# %% [markdown] lang="zh"
# PPO 的另一半是评论家 $V_t$：写第 $t$ 个词元之前，估计后面还能得多少净奖励；最后一个词元之后，它是 0。记 $r_t$ 为第 $t$ 个词元自己挣到的：减去 KL 惩罚在它身上扣的那份；如果是最后一个词元，再加上裁判给的奖励。一个词元的优势，是它带来的意外 $\delta_t=r_t+V_{t+1}-V_t$，再加上以后的意外，权重依次为 $\lambda,\lambda^2,\dots$（这个 $\lambda$ 在 0 和 1 之间，不是前面的乘子）。这叫广义优势估计（generalised advantage estimation，GAE；[Schulman et al. 2016](https://arxiv.org/abs/1506.02438) 的式 16）。手算：三个词元，奖励 1 落在最后一个上，评论家说的是 0.5、0.6、0.8。意外是 0.1、0.2、0.2。$\lambda=0$ 时，这就是优势；$\lambda=1$ 时，优势是真正得到的减去评论家说的：0.5、0.4、0.2；$\lambda=0.95$ 时倒着算：$0.2$，$0.2+0.95\cdot 0.2=0.39$，$0.1+0.95\cdot 0.39=0.47$。$\lambda$ 越小，越信评论家：方差小，偏差大。评论家是策略旁边的第二个网络，用同一批回答训练。

# %%
earned, said = torch.tensor([[0.0, 0, 1]]), torch.tensor([[0.5, 0.6, 0.8]])
for lam, stated in ((0.0, [0.1, 0.2, 0.2]), (0.95, [0.47, 0.39, 0.2]), (1.0, [0.5, 0.4, 0.2])):
    gained, _ = generalised_advantages(earned, said, torch.ones(1, 3), lam=lam)
    print(lam, [round(x, 2) for x in gained[0].tolist()])
    assert [round(x, 2) for x in gained[0].tolist()] == stated

# %% [markdown] lang="en"
# ## One loop, six methods
# What tells the six apart fits into a table; it is the library's own. (The KL term of those whose leash is in the loss is an option, `kl_term`. Clipping whole answers, as TRL's RLOO does, matters only when a draw serves several updates.)

# %% [markdown] lang="zh"
# ## 一个循环，六种方法
# 六种方法差在哪里，一张表就装得下；这张表就是库里用的那张。（绳子在损失里的，用哪一种 KL 项是选项 `kl_term`。RLOO 按整个回答截断，是照 TRL 的做法；一批只更新一次时，截断不起作用。）

# %%
print(f"{'':10} {'baseline':14} {'/ std':6} {'over':7} {'leash in':9} clipped ratio of")
for name, how in METHODS.items():
    ratio = ("token" if how.per_token else "answer") if how.clipped else "-"
    over = "tokens" if how.token_mean else "length" if how.length_mean else "answers"
    leash, std = "reward" if how.kl_in_reward else "loss", "yes" if how.scale else "-"
    print(f"{name:10} {how.baseline or 'critic':14} {std:6} {over:7} {leash:9} {ratio}")
assert [name for name, how in METHODS.items() if how.scale] == ["grpo", "dapo"]
assert [name for name, how in METHODS.items() if how.length_mean] == ["grpo"]
in_loss = [name for name, how in METHODS.items() if not how.kl_in_reward]
assert in_loss == ["grpo", "dr_grpo", "dapo"]
assert [name for name, how in METHODS.items() if how.token_mean] == ["dapo", "ppo"]

# %% [markdown] lang="en"
# ## ⋆ GRPO's relatives
# In 2022 the algorithm after a reward model was PPO. Many of the open recipes of 2025 descend from GRPO, and each changes a part that this chapter has taken apart. What the names mean, and what TRL 1.16 does when one says them:
#
# | name | what it changes | in TRL 1.16 |
# |---|---|---|
# | Dr. GRPO ([Zichen Liu et al. 2025](https://arxiv.org/abs/2503.20783)) | neither division | `loss_type="dr_grpo"` and `scale_rewards="none"`; the first alone keeps dividing by $s$ |
# | DAPO ([Yu et al. 2025](https://arxiv.org/abs/2503.14476)) | mean over all tokens of the batch; upper $\epsilon$ of 0.28, lower 0.2; no leash; $s$ stays | `loss_type="dapo"` is the default, with 0.2 on both sides until `epsilon_high` is set |
# | dynamic sampling (same paper) | draws anew for prompts whose answers are all right or all wrong | no setting |
# | GSPO ([Zheng et al. 2025](https://arxiv.org/abs/2507.18071)) | one ratio for an answer, the root of its length taken, clipped as a whole | `importance_sampling_level="sequence"` |
# | CISPO ([MiniMax 2025](https://arxiv.org/abs/2506.13585)) | clips the weight and not the update, so that every token keeps a gradient | `loss_type="cispo"` |
# | the KL of DeepSeek-V3.2 ([DeepSeek-AI 2025](https://arxiv.org/abs/2512.02556)) | $\rho\,k_3$; and no $s$ | `use_bias_correction_kl=True` is the default, and $s$ stays until `scale_rewards` is set |
# | truncated importance sampling ([Yao et al. 2025](https://fengyao.notion.site/off-policy-rl)) | where another program draws, weights by the ratio of the two programs' probabilities, cut off above | on by default with vLLM, but drops whole answers beyond a ratio of 3 instead of truncating |
#
# On fresh answers, with one update a draw, the ratios are 1: GSPO, CISPO and the higher clip then change nothing. They are made for runs in which draws serve several updates, or come late. One published system, that of [Olmo 3](https://arxiv.org/abs/2512.13961) (section 4.4.1), lists what it took: groups without a gradient left out and drawn anew, the mean over tokens, no KL term, the higher clip, truncated importance sampling, and no standard deviation.

# %% [markdown] lang="zh"
# ## ⋆ GRPO 的亲戚
# 2022 年，有了奖励模型，接下来就是 PPO。2025 年公开的配方，不少从 GRPO 来，各自改动一处，改的都是本章拆开看过的零件。下表列出每个名字指什么，以及在 TRL 1.16 里说出这个名字，实际得到什么：
#
# | 名字 | 改了什么 | 在 TRL 1.16 里 |
# |---|---|---|
# | Dr. GRPO（[Zichen Liu et al. 2025](https://arxiv.org/abs/2503.20783)） | 两处除法都去掉 | `loss_type="dr_grpo"` 加 `scale_rewards="none"`；只设前一个，照样除以 $s$ |
# | DAPO（[Yu et al. 2025](https://arxiv.org/abs/2503.14476)） | 对整个批次的词元取平均；上侧 $\epsilon$ 取 0.28，下侧 0.2；不拴绳子；$s$ 保留 | `loss_type="dapo"` 是默认值；不设 `epsilon_high`，两侧都是 0.2 |
# | 动态采样（dynamic sampling，同一篇论文） | 回答全对或全错的提示，重新抽 | 没有这个设置 |
# | GSPO（[Zheng et al. 2025](https://arxiv.org/abs/2507.18071)） | 一个回答一个比值，按长度开方，整个截断 | `importance_sampling_level="sequence"` |
# | CISPO（[MiniMax 2025](https://arxiv.org/abs/2506.13585)） | 截断的是权重，不是更新，所以每个词元都还有梯度 | `loss_type="cispo"` |
# | DeepSeek-V3.2 的 KL（[DeepSeek-AI 2025](https://arxiv.org/abs/2512.02556)） | $\rho\,k_3$，并且不除 $s$ | `use_bias_correction_kl=True` 是默认值；不设 `scale_rewards`，照样除以 $s$ |
# | 截断重要性采样（truncated importance sampling，[Yao et al. 2025](https://fengyao.notion.site/off-policy-rl)） | 回答由另一个程序来抽时，用两个程序的概率之比加权，过大的截掉 | 用 vLLM 时默认打开；但比值超过 3 的，是整个回答丢掉，不是截断 |
#
# 回答现抽、一批只更新一次，比值就都是 1：GSPO、CISPO 和放宽的上侧都不起作用。它们是为一批回答更新几次、或者回答来得晚的训练准备的。已公开的系统里，[Olmo 3](https://arxiv.org/abs/2512.13961)（4.4.1 节）列出了它采用的：没有梯度的组去掉并补抽，对词元取平均，不要 KL 项，放宽上侧，截断重要性采样，不除标准差。

# %% [markdown] lang="en"
# ## The same loop, drawing as it goes
# The training loop is the one that chapter 3 wrote and chapter 9 used. It asks for the batch of a step, and for the loss of a batch. For DPO the batch of a step comes from a list of pairs. Here `rl.rollouts` draws it, when the step asks for it, from the policy as it is at that moment; the random numbers depend on the seed and the number of the rollout alone, so a run that was killed goes on to the same bits. Nothing else changes:
#
# ```python
# def batch_at(step):                                   # what rl.rollouts returns, in short
#     prompts = draw_prompts(seed, step)
#     answers = generate(policy, prompts, seed)         # on-policy: from the weights of this moment
#     rewards = judge(prompts, answers)                 # any function of texts
#     return {"input_ids": ..., "old_logps": ..., "advantages": advantages(rewards - leash, baseline)}
# ```
#
# We run RLOO, PPO and DPO, each with 9,600 judged answers: RLOO draws 4 answers to 32 prompts for each of 75 updates, PPO 128 answers to as many prompts, DPO 4,800 pairs beforehand, with soft labels and hot second answers, as in chapter 9. Each has a learning rate that suits it.

# %% [markdown] lang="zh"
# ## 还是那个循环，边抽边学
# 训练循环还是第 3 章写好、第 9 章用过的那一个。它要两样东西：某一步的批次，和一个批次的损失。DPO 的批次取自一份现成的偏好对；这里，轮到哪一步，`rl.rollouts` 就用那一刻的策略当场抽。随机数只由种子和这是第几次抽来定，所以中断了再续，结果每个比特都一样。别的都没变：
#
# ```python
# def batch_at(step):                                   # what rl.rollouts returns, in short
#     prompts = draw_prompts(seed, step)
#     answers = generate(policy, prompts, seed)         # on-policy: from the weights of this moment
#     rewards = judge(prompts, answers)                 # any function of texts
#     return {"input_ids": ..., "old_logps": ..., "advantages": advantages(rewards - leash, baseline)}
# ```
#
# 下面跑 RLOO、PPO 和 DPO，各评判 9,600 个回答：RLOO 更新 75 次，每次 32 个提示、各抽 4 个；PPO 每次 128 个提示、各抽一个；DPO 事先抽好 4,800 对，用软标签，第二个回答升温去抽，同第 9 章。学习率各用合适的。

# %% tags=["nbval-ignore-output"]
use_threads()
device = default_device()
base = load_pretrained("gen").to(device)
JUDGED, UPDATES = 9_600, 75
config = LoopConfig(steps=UPDATES, learning_rate=4e-3, optimizer="muon", warmup=10, max_grad_norm=1.0, log_every=5)
exact_judge = rl.checker(task, REWARD)
policies, histories = {}, {}
for method, prompts, answers in (("rloo", 32, 4), ("ppo", 128, 1)):
    policies[method] = policy = copy.deepcopy(base)
    model = rl.ActorCritic(policy) if method == "ppo" else policy
    batches = rl.rollouts(model, base, task, exact_judge, method, beta=BETA, prompts=prompts, answers=answers, seed=12)
    histories[method] = train(model, batches, rl_step(method, beta=BETA), config)
pairs = on_policy_pairs(base, task, JUDGED // 2, reward=REWARD, temperatures=(1.5, 2.0), seed=12)
policies["dpo"] = copy.deepcopy(base)
slower = LoopConfig(steps=UPDATES, learning_rate=2e-3, optimizer="muon", warmup=10, max_grad_norm=1.0, log_every=5)
histories["dpo"] = train(policies["dpo"], pairs.batches(64, 12), dpo_step(BETA), slower)
for entry in histories["rloo"][2::3]:
    print({name: round(entry[name], 3) for name in ("step", "reward", "kl", "objective", "clip_ratio")})
assert all(histories[name][-1]["objective"] > histories[name][0]["objective"] + 0.2 for name in ("rloo", "ppo"))
assert all(entry["clip_ratio"] < 1e-6 for name in ("rloo", "ppo") for entry in histories[name])  # one update a draw

# %% tags=["nbval-ignore-output"]
live = {}
for name, policy in ({"base": base} | policies).items():
    found = evaluate(policy, task, n=1_000, seed=13, reference=base)
    live[name] = found["kl"].value, found["style"].value + found["exact"].value
    print(f"{name:5} style {found['style']}  exact {found['exact']}  J {live[name][1] - BETA * live[name][0]:.2f}")
height = {name: reward - BETA * spent for name, (spent, reward) in live.items()}
assert 0.95 < height["base"] < 1.15 < height["dpo"] and min(height["rloo"], height["ppo"]) > 1.35
assert max(height.values()) < ends["optimum"][0] - BETA * ends["optimum"][1] + 0.05  # none above the optimum, but for luck

# %% tags=["nbval-ignore-output"] alt_en="Mean reward against KL, which starts at 0. A rising curve, the frontier, with a star at KL 1.26 and reward 1.95. Two paths of dots climb from KL 0, reward about 1.05, close under the frontier towards the star: RLOO and PPO. Larger markers: their ends, and the end of DPO, lower." alt_zh="平均奖励随 KL 的变化，KL 从 0 开始。一条上升的曲线是前沿，星号在 KL 1.26、奖励 1.95 处。两串点从 KL 0、奖励约 1.05 出发，贴着前沿下方爬向星号：RLOO 和 PPO。大标记：它们的终点，还有 DPO 的终点；DPO 的停在半路，位置更低。"
fig, axes = figure(width=6.4, height=3.6)
axes.plot(kl_line, reward_line, color=COLORS["theory"])
axes.plot(ends["optimum"][1], ends["optimum"][0], "*", color=COLORS["theory"], markersize=13)
for name, color, marker in (("rloo", "baseline", "s"), ("ppo", "rejected", "D"), ("dpo", "policy", "o")):
    if name != "dpo":  # the answers that were trained on, five updates a dot
        axes.plot(*zip(*[(entry["kl"], entry["reward"]) for entry in histories[name]]), ".:", color=COLORS[color])
    axes.plot(*live[name], marker, color=COLORS[color], markersize=8, label=name)
axes.set(xlabel="KL", ylabel=r"$\mathbb{E}[r]$", xlim=(-0.03, 1.7), ylim=(1, 2.05))
axes.legend(loc="lower right")
assert all(spent > 0.3 for name, (spent, _) in live.items() if name != "base")

# %% [markdown] lang="en"
# **Figure 12.4.** The way up. Small dots: reward and KL of the answers that RLOO and PPO were trained on, five updates a dot. Large: the three trained policies on 1,000 fresh prompts. Curve and star: the frontier and the optimum.

# %% [markdown] lang="zh"
# **图 12.4** 上山的路。小点：RLOO 和 PPO 训练时所用回答的奖励与 KL，每五次更新画一点。大标记：三个训练好的策略在 1,000 个新提示上的成绩。曲线和星号：前沿与最优解。

# %% [markdown] lang="en"
# ## Two ends, visited
# The table of ends said something odd of the corrected term: without a division it holds the policy below one nat, and behind a standard deviation it lets it run past two. Will a network do that? Dr. GRPO and GRPO with $\rho\,k_3$, from the same base model, with the same prompts, rate and updates, 25,600 answers each. What would count against the theory: two runs that stop at the same KL.

# %% [markdown] lang="zh"
# ## 到两处尽头看一看
# 前面那张表里，修正过的 KL 项有一点古怪：不除标准差，它把策略留在一奈特以内；除了，就放策略跑过两奈特。网络真会这样吗？让 Dr. GRPO 和 GRPO 都用 $\rho\,k_3$，基座模型、提示、学习率、更新次数都一样，各评判 25,600 个回答。要是两次训练停在同样的 KL，就是理论错了。

# %% tags=["nbval-ignore-output"]
longer = LoopConfig(steps=200, learning_rate=4e-3, optimizer="muon", warmup=10,
                    max_grad_norm=1.0, log_every=50)
visited = {}
for method in ("dr_grpo", "grpo"):
    policy = copy.deepcopy(base)
    batches = rl.rollouts(policy, base, task, exact_judge, method, beta=BETA, prompts=32,
                          answers=4, seed=12)
    step = rl_step(method, beta=BETA, kl_term="ratio_k3")
    early = train(policy, batches, step, longer)[0]["kl"]  # the first 50 updates' mean
    found = evaluate(policy, task, n=1_000, seed=13, reference=base, reward=exact_judge,
                     beta=BETA)
    visited[method] = {name: found[name].value for name in ("kl", "J")} | {"early": early}
    end = f"{method}_ratio"
    print(f"{end:14} end: KL {ends[end][1]:.2f} J {end_J[end]:.2f}   network:",
          *(f"{name} {found[name]}" for name in ("kl", "J", "style", "exact", "well_formed")))
assert visited["dr_grpo"]["kl"] < 1.2 and visited["grpo"]["kl"] > 1.7
assert visited["dr_grpo"]["J"] > visited["grpo"]["J"] + 0.05
assert max(seen["early"] for seen in visited.values()) < 1

# %% [markdown] lang="en"
# They part as foretold: one stays below 1.2 nats, the other passes 1.7, and $J$ is the higher where the KL is the lower. It is one run each, and both stay a little below the $J$ of their ends. And an end is where a *long* run goes: over the first 50 of the 200 updates, both average below one nat.

# %% [markdown] lang="zh"
# 它们照预言分开了：一个不到 1.2 奈特，一个超过 1.7；KL 小的，$J$ 反而高。各只跑了一次，$J$ 也都比各自的尽头低一点。而且尽头是*长*的训练才走得到的地方：200 次更新里，前 50 次平均下来，两者都还不到一奈特。

# %% [markdown] lang="en"
# ## The same budget
# The runs above are small, and one each. The comparison itself was recorded, by `python chapters/data/rl_frontier.py`. Each method may have **25,600 answers judged**; the reward is style plus exactness, $\beta=0.25$. Ten methods:
#
# - five of the table (DAPO was not among them), GRPO and Dr. GRPO with $k_3$; PPO with one or two updates for each draw;
# - `rm_ppo`, as in [Ouyang et al. 2022](https://arxiv.org/abs/2203.02155): the judge is asked about 12,800 pairs once, a reward model is fitted to them as in [chapter 5](05_preferences.ipynb), and PPO climbs its scores, on as many answers again, which the judge never sees;
# - `dpo` on 12,800 pairs of the base model's answers, and `online_dpo`, whose 64 pairs for each update come from the policy in training; both with soft labels;
# - `best_of_n` of chapter 6, which trains nothing, and `rejection`, the rejection sampling of [chapter 10](10_data.ipynb): fine-tuning on the best of $n$, as in RAFT ([Dong et al. 2023](https://arxiv.org/abs/2304.06767)).
#
# A comparison is as fair as its tuning. Four settings of each method were tried, no more for one than for another, on random numbers of their own; the best one then ran from five seeds, each with its own base model. Here is what was tried (learning rate, prompts × answers, the rest; then $J$):

# %% [markdown] lang="zh"
# ## 同样的预算
# 上面那几次是小规模的，每种只跑了一次。正式的比较由 `python chapters/data/rl_frontier.py` 跑好存下。每种方法可以请裁判**评判 25,600 个回答**；奖励是风格加答案正确，$\beta=0.25$。一共十种：
#
# - 表里的五种（没有跑 DAPO），GRPO 和 Dr. GRPO 用 $k_3$；PPO 每批更新一次或两次；
# - `rm_ppo`，照 [Ouyang et al. 2022](https://arxiv.org/abs/2203.02155) 的做法：请裁判把 12,800 对评一遍，像[第 5 章](05_preferences.ipynb)那样拟合一个奖励模型，再由 PPO 去提高这个模型给的分；PPO 另抽的回答与这些一样多，裁判不再看；
# - `dpo`，用基座模型的 12,800 对回答；`online_dpo`，每次更新的 64 对由训练中的策略当场写；两者都用软标签；
# - 第 6 章的 `best_of_n`，它什么也不训练；还有 `rejection`，即[第 10 章](10_data.ipynb)的拒绝采样，说全了是拒绝采样微调（rejection sampling fine-tuning）：在 $n$ 个里挑出最好的，拿它微调，RAFT 就是这样做的（[Dong et al. 2023](https://arxiv.org/abs/2304.06767)）。
#
# 调参公平，比较才公平。每种方法都试四组设置，谁也不多试，试的时候另用一套随机数；挑出最好的一组，再用五个种子各跑一遍，每个种子有自己的基座模型。试过的都列在这里（学习率、提示数×回答数、其余；然后是 $J$）：

# %%
stored = json.loads(Path("data/rl_frontier.json").read_text(encoding="utf-8"))
NAMES = list(dict.fromkeys(run["method"] for run in stored["tried"]))


def of(panel, method):
    return [run for run in stored[panel] if run["method"] == method]


def short(setting):
    """A setting in a few characters."""
    size = f"{setting['prompts']}x{setting['answers']}" if "prompts" in setting else ""
    heat = "T=" + "/".join(map(str, setting["temperatures"])) if "temperatures" in setting else ""
    rest = [f"{name}={setting[name]}" for name in ("epochs", "n") if name in setting]
    return " ".join(filter(None, [f"{setting['rate']:g}" if "rate" in setting else "", size, heat, *rest]))


for name in NAMES:
    cells = [f"{short(run['setting']):>20} {run['objective']['value']:.2f}" for run in of("tried", name)]
    print(f"{name:10}", *cells[:2])
    print(" " * 10, *cells[2:])
assert all(len(of("tried", name)) == 4 and len({run["seed"] for run in of("equal_answers", name)}) == 5 for name in NAMES)
assert all({short(run["setting"]) for run in of("equal_answers", name)}
           == {short(max(of("tried", name), key=lambda run: run["objective"]["value"])["setting"])} for name in NAMES)  # fmt: skip

# %% [markdown] lang="en"
# And what came out, with 95 % intervals over the five seeds (Student's $t$), the seconds and megabytes beside it:

# %% [markdown] lang="zh"
# 结果如下，附五个种子的 95% 置信区间（按 Student $t$ 分布），旁边是用掉的秒数和内存（MB）：

# %%
def seeds(runs, name):
    """The mean over five seeds and its 95 % interval: 2.776 is Student's t with 4 degrees of freedom."""
    values = np.array([run[name]["value"] if isinstance(run[name], dict) else run[name] for run in runs])
    half = 2.776 * values.std(ddof=1) / np.sqrt(len(values))
    return Estimate(values.mean(), values.mean() - half, values.mean() + half)


print(f"{'':11}{'J':>24} {'lowest':>7} {'KL':>6} {'style':>6} {'exact':>6}")
for name in NAMES:
    runs = of("equal_answers", name)
    row = [f"{seeds(runs, key).value:6.3f}" for key in ("kl", "style", "exact")]
    print(f"{name:11}{seeds(runs, 'objective')!s:>24} {min(run['objective']['value'] for run in runs):7.3f}", *row)
print(f"\n{'':11}{'CPU s':>6} {'MB':>5} | 40 CPU s: {'judged':>8} {'J':>6}")
for name in NAMES[:-1]:  # all but best_of_n, which trains nothing
    runs, longer = of("equal_answers", name), of("equal_seconds", name)
    cost = f"{seeds(runs, 'cpu_seconds').value:6.0f} {seeds(runs, 'held_bytes').value / 1e6:5.1f}"
    print(f"{name:11}{cost} | {longer[0]['judged']:18} {seeds(longer, 'objective').value:6.3f}")
J = {panel: {name: [run["objective"]["value"] for run in of(panel, name)] for name in NAMES}
     for panel in ("tried", "equal_answers", "equal_seconds")}  # fmt: skip

# %% alt_en="Two panels of mean reward against KL under a rising frontier with a star at the optimum, KL 1.26, reward 1.95, and two crosses below it, at KL 1.03 and 1.28. Left, 25,600 judged answers: four markers, online DPO, REINFORCE, RLOO and PPO, lie on top of each other just below the star; GRPO and DPO to the right of them and lower, DPO with long bars; Dr. GRPO straight below the left cross; rejection sampling and PPO on a reward model far to the left and lower; best of 16 on the frontier. Dotted lines of equal J. Right, 40 seconds: of the four, three a little higher and PPO a little lower; rejection sampling near the frontier; PPO on a reward model in the lower left corner; best of n is not there." alt_zh="两幅小图：平均奖励随 KL 的变化，上方是上升的前沿，星号是最优解，KL 1.26，奖励 1.95；下面有两个叉号，在 KL 1.03 和 1.28。左，评判 25,600 个回答：在线 DPO、REINFORCE、RLOO、PPO 四个标记叠在一起，紧挨着星号下方；GRPO 和 DPO 在它们右边、更低，DPO 的误差线很长；Dr. GRPO 在左边叉号的正下方；拒绝采样微调和由奖励模型打分的 PPO 远在左边、更低；best-of-16 在前沿上。点线是等 J 线。右，40 秒：那四个里三个略高，PPO 略低；拒绝采样微调靠近前沿；由奖励模型打分的 PPO 在左下角；没有 best-of-n。"
LOOKS = {"dpo": ("policy", "o"), "online_dpo": ("policy", "s"), "reinforce": ("baseline", "o"), "rloo": ("baseline", "s"),
         "grpo": ("baseline", "^"), "dr_grpo": ("baseline", "v"), "ppo": ("baseline", "D"), "rm_ppo": ("rejected", "D"),
         "rejection": ("chosen", "o"), "best_of_n": ("chosen", "s")}  # fmt: skip
fig, axes = figure(columns=2, width=7.2, height=4.8)
for panel, which in zip(axes, ("equal_answers", "equal_seconds")):
    panel.plot(kl_line, reward_line, color=COLORS["theory"])
    panel.plot(ends["optimum"][1], ends["optimum"][0], "*", color=COLORS["theory"], markersize=13)
    panel.plot(*zip(*[ends[name][::-1] for name in ("dr_grpo", "grpo")]), "x", color=COLORS["theory"], linestyle="none")
    for level in (1.4, 1.5, 1.6):
        panel.plot([0, 2], [level, level + 2 * BETA], ":", color=INK, linewidth=0.9)
        panel.text(1.66, level + 1.66 * BETA, f"$J={level}$", fontsize=8, ha="right", va="bottom", rotation=27)
    for name, (color, marker) in LOOKS.items():
        if runs := of(which, name):
            x, y = seeds(runs, "kl"), seeds(runs, "reward")
            panel.errorbar(x.value, y.value, xerr=x.high - x.value, yerr=y.high - y.value, fmt=marker, color=COLORS[color],
                           markersize=5, capsize=2, markerfacecolor="none", label=name)  # fmt: skip
    panel.set(xlabel="KL", xlim=(0.55, 1.7), ylim=(1.56, 2.05), title={"equal_answers": "25,600", "equal_seconds": "40 s"}[which])
axes[0].set(ylabel=r"$\mathbb{E}[r]$")
axes[1].sharey(axes[0])
bars, labels = axes[0].get_legend_handles_labels()
fig.legend([bar[0] for bar in bars], labels, loc="outside lower center", ncols=4, fontsize=10)  # the markers alone
order = np.argsort(kl_line)  # nothing lies above the frontier
assert all(seeds(of(which, name), "reward").value < 0.005 + np.interp(seeds(of(which, name), "kl").value, kl_line[order],
           reward_line[order]) for which in ("equal_answers", "equal_seconds") for name in NAMES if of(which, name))  # fmt: skip

# %% [markdown] lang="en"
# **Figure 12.5.** Reward against KL with 25,600 judged answers (left) and with 40 CPU-seconds (right), five seeds each, 95 % intervals. Curve: the frontier. Star: the optimum; crosses: the ends of Dr. GRPO (left) and GRPO, computed fork by fork. Dotted: equal $J$. Four methods that learn from fresh answers of their own, with a leash on the whole answer, share one spot. (Best of 16 trains nothing, and its KL is that of the closed form.)

# %% [markdown] lang="zh"
# **图 12.5** 奖励随 KL 的变化：左，评判 25,600 个回答；右，40 秒 CPU 时间；各五个种子，附 95% 置信区间。曲线：前沿。星号：最优解。叉号：逐个岔口算出的终点，左边 Dr. GRPO，右边 GRPO。点线：等 $J$ 线。有四种方法从自己新写的回答里学，绳子又拴住整个回答，它们落在同一处。（best-of-16 不训练，它的 KL 是闭式给的。）

# %% alt_en="Ten rows, one a method, against J from 1.3 to 1.65. Grey open circles: the four settings tried; filled points: the five seeds of the chosen setting. REINFORCE, RLOO, PPO and online DPO have their points close together near 1.59, and their settings between 1.48 and 1.60. Best of n climbs from 1.34 at n = 2 to 1.63 at n = 16. DPO's settings spread from 1.30 to 1.49 and its seeds from 1.48 to 1.53. GRPO, Dr. GRPO and PPO on a reward model are tight but lower. A line marks the optimum at 1.639." alt_zh="十行，每行一种方法，横轴是 J，从 1.3 到 1.65。灰色空心圈：试过的四组设置；实心点：选中设置的五个种子。REINFORCE、RLOO、PPO、在线 DPO 的点紧挨在 1.59 附近，四组设置在 1.48 到 1.60 之间。best-of-n 从 n = 2 的 1.34 升到 n = 16 的 1.63。DPO 的设置从 1.30 散到 1.49，种子从 1.48 散到 1.53。GRPO、Dr. GRPO、由奖励模型打分的 PPO 都很集中，但更低。竖线是最优解 1.639。"
fig, axes = figure(width=6.8, height=3.8)
for row, name in enumerate(reversed(NAMES)):
    tried, chosen = J["tried"][name], J["equal_answers"][name]
    axes.plot(tried, [row + 0.18] * 4, "o", markerfacecolor="none", color=COLORS["ref"], markersize=6)
    axes.plot(chosen, [row - 0.12] * 5, "o", color=COLORS[LOOKS[name][0]], markersize=5)
axes.axvline(ends["optimum"][0] - BETA * ends["optimum"][1], color=COLORS["theory"])
axes.set(yticks=range(len(NAMES)), yticklabels=NAMES[::-1], xlabel="$J$")
assert min(min(J["tried"][name] + J["equal_answers"][name]) for name in NAMES) > 1.25  # the base model: 1.05
for panel in ("tried", "equal_answers"):
    spread = {name: np.ptp(J[panel][name]) for name in NAMES if name != "best_of_n"}
    assert max(spread, key=spread.get) == "dpo"

# %% [markdown] lang="en"
# **Figure 12.6.** Stability. Open circles: $J$ of the four settings tried. Filled: the five seeds of the chosen one. Line: the optimum. No run collapsed. Among the methods that train, DPO depends most on its setting, above all on the temperature of its pairs, and on its seed.

# %% [markdown] lang="zh"
# **图 12.6** 稳定性。空心圈：试过的四组设置的 $J$。实心点：选中那组的五个种子。竖线：最优解。没有哪一次训练崩溃。要训练的方法里，受设置（尤其是抽偏好对的温度）和种子影响最大的，是 DPO。

# %% [markdown] lang="en"
# First, what the figures cannot show. Two values were tried for each hyper-parameter, so every chosen setting lies at an edge of its grid, and a wider search might move a method, DPO most of all: it took the lower rate and the hotter pairs. Tuning used the base model of seed 0, and nobody tuned for 40 seconds. The settings tried also differ in how many updates they make of the same answers. A difference of 0.01 in $J$ decides nothing here; one of 0.08 probably does. One naive rival is not among the ten: imitation of the chosen answers of DPO's own file, which chapter 9 sets beside DPO. The base model has $J=1.05$. Then, in five steps.
#
# **Fresh answers, leash on the whole answer: one spot.** REINFORCE 1.592, PPO 1.590, RLOO 1.587: seed by seed, their differences cannot be told from 0. Online DPO, at 1.581, lies 0.011 below REINFORCE, an eighth of DPO's distance: on each of these five seeds, and yet too little to build on. Critic or batch mean, four answers to a prompt or one: it hardly matters.
#
# PPO pays more for it, 51 seconds against the 23 to 25 of REINFORCE and RLOO. Part of that is its second update on each draw; with one it took 34 to 37, and came to 1.56. And it holds three quarters more memory than RLOO, because the critic is a second network with an optimiser's state of its own. [Ahmadian et al. 2024](https://arxiv.org/abs/2402.14740) found many of PPO's components unnecessary for language models.
#
# **Fresh pairs help DPO; more stored ones do too.** DPO reaches 1.506, online DPO 1.581: the same loss, the same labels, as many judged answers, and more on every one of the five seeds; in the tuning runs also at each of the four settings, which the two share. A likely reason is the one that chapter 9 has shown: pairs drawn beforehand know nothing of the mistakes that come up later. (This comparison does not prove it. Nor is the loss without influence, as the remedies of chapter 9 show.)
#
# Is that a ceiling, or a price? In 40 seconds DPO uses twice as many answers, and the gain cannot be told from the seeds' noise. But the shipped recipe of chapter 9 is the same loss on 96,000 stored pairs, 192,000 judged answers, seven and a half times as many (figure 12.7). It comes to 1.584, and which of it and online DPO is ahead depends on the seed. **Stored pairs cost more judged answers here; 1.53 was no ceiling.** Online DPO with 47,104 answers is ahead again, on each of the three seeds, so the price rises on the way to the optimum.
#
# [Tang et al. 2024](https://arxiv.org/abs/2405.08448) find online above offline training of language models too, and could not put it down to the coverage or the quality of the stored data alone; [Xu et al. 2024](https://arxiv.org/abs/2404.10719) find PPO above DPO.
#
# **GRPO and Dr. GRPO, with $k_3$, stop near where their leash ends.** Their crosses were computed without any network: KL 1.03 and $J=1.539$ for Dr. GRPO, 1.28 and 1.573 for GRPO. The runs came to 1.03 and 1.498, and to 1.35 and 1.526. In $J$ they are 0.04 to 0.05 below their own ends, and REINFORCE, RLOO and PPO are as far below theirs, the star.
#
# Would more answers bring them to the star? With the 1.6 to 1.9 times as many answers that fit into 40 seconds, REINFORCE and RLOO come 0.01 to 0.02 nearer, and these two do not (1.523 and 1.499). So most of their distance from the star, 0.07 of 0.11 for GRPO and 0.10 of 0.14 for Dr. GRPO, lies in where the leash ends, and more data do not mend that. What keeps them below their crosses we have not found out. The ends with $\rho\,k_3$ were computed above, and visited by one run of each.
#
# **A reward model in between.** `rm_ppo` has judged pairs to learn from, as many as DPO, and comes to 1.480 against 1.506; five seeds do not separate the two. Its reward model ranks 96 to 98 % of held-out pairs right, pairs of the *base model's* answers. What PPO writes later is something else. The next section looks at that.
#
# **Choosing is cheap.** Best of 16 reaches 1.636 of 1.639 and trains nothing. But for every answer that it gives it draws sixteen and asks the judge about all of them; it stands outside the budget, and says what a judge at hand is worth. ($n$ plays the part of $\beta$.)
#
# Rejection sampling puts the choice into the weights. 3,200 winners make 50 updates, and that is too few: 1.498. Drawing costs little here, so in 40 seconds it has 213,504 answers judged, at least four times as many as any other, and comes to 1.585, a little below REINFORCE, RLOO and online DPO (1.599 to 1.606). Its goal is the best of 8, 1.622. It is the simplest thing to try.

# %% [markdown] lang="zh"
# 先说这两张图看不出什么。每个超参数只试了两个值，所以选中的设置都在网格边上；搜得宽些，也许有的方法会挪位置，最可能的是 DPO：它选中的是低的学习率、高的温度。调参用的是种子 0 的基座模型；40 秒那一栏没有另外调过参。同样多的回答，各组设置更新的次数也不一样。$J$ 差 0.01，在这里什么也说明不了；差 0.08，多半是真的。这十种里还少一个朴素的对手：拿 DPO 那一份偏好对里的 chosen 来模仿，第 9 章把它放在 DPO 旁边比。基座模型是 $J=1.05$。下面分五步看。
#
# **回答现写、绳子拴住整个回答的，都落在同一处。** REINFORCE 1.592，PPO 1.590，RLOO 1.587：逐个种子相减，平均差的置信区间都含 0。在线 DPO 是 1.581，平均比 REINFORCE 低 0.011，是 DPO 落后 REINFORCE 的八分之一：这五个种子个个如此，但差得太小，不足为凭。用评论家还是批次平均，一个提示抽四个还是一个，几乎无所谓。
#
# PPO 却要花得更多：51 秒，REINFORCE 和 RLOO 是 23 到 25 秒。其中一部分花在每批的第二次更新上；只更新一次，是 34 到 37 秒，到 1.56。内存也比 RLOO 多四分之三，因为评论家是第二个网络，还有自己的优化器状态。[Ahmadian et al. 2024](https://arxiv.org/abs/2402.14740) 发现，PPO 的许多部件对语言模型来说用不着。
#
# **偏好对现抽，对 DPO 有好处；存得更多，也有好处。** DPO 到 1.506，在线 DPO 到 1.581：损失一样，标签一样，评判的回答一样多，在线 DPO 却在五个种子上个个更高；调参时两者试的是同样四组设置，在线 DPO 也是每一组都更高。原因多半是第 9 章见过的那个：事先抽好的偏好对，对后来才冒出来的错一无所知。（光凭这个比较，还证明不了原因就在这里；损失也不是没有影响，第 9 章的那些补救办法就是证据。）
#
# 那么事先存好的偏好对，是有个上限，还是价钱贵些？40 秒里 DPO 用上两倍的回答，高出的还不及种子之间的噪声。可是第 9 章随书的那个配方，损失一样，用的是 96,000 个存好的偏好对，评判了 192,000 个回答，是这里的七倍半（图 12.7）。它到 1.584；它和在线 DPO 谁高，各个种子不一样。**在这里，存好的偏好对是多费评判；1.53 并不是上限。** 在线 DPO 用到 47,104 个回答，三个种子上又都领先，可见离最优解越近，价钱越贵。
#
# [Tang et al. 2024](https://arxiv.org/abs/2405.08448) 在语言模型上也看到在线胜过离线（offline），而且光凭离线数据的覆盖面和质量解释不了；[Xu et al. 2024](https://arxiv.org/abs/2404.10719) 看到 PPO 胜过 DPO。
#
# **GRPO 和 Dr. GRPO 用 $k_3$ 时，停在自己的绳子尽头附近。** 它们的叉号没有用到任何网络：Dr. GRPO 是 KL 1.03、$J=1.539$，GRPO 是 1.28、1.573。训练下来，Dr. GRPO 到 1.03、1.498，GRPO 到 1.35、1.526，$J$ 比各自的尽头低 0.04 到 0.05；REINFORCE、RLOO、PPO 也比自己的尽头（星号）低这么多。
#
# 多给些回答，能走到星号吗？40 秒里用得上的回答，是原来的 1.6 到 1.9 倍；这样一来，REINFORCE 和 RLOO 近了 0.01 到 0.02，这两个没有（GRPO 是 1.523，Dr. GRPO 是 1.499）。所以它们离星号的距离，大半是因为绳子的尽头本来就不在星号那里：GRPO 的 0.11 里占 0.07，Dr. GRPO 的 0.14 里占 0.10，再多的数据也补不上。是什么让它们停在叉号下面，我们没有查出来。换成 $\rho\,k_3$ 的尽头，前面算了出来，也各跑了一次去看。
#
# **中间隔一个奖励模型。** `rm_ppo` 能学的，是评判过的偏好对，和 DPO 的一样多；它到 1.480，DPO 是 1.506，五个种子分不出高下。它的奖励模型给留出的偏好对排高下，96% 到 98% 排得对，可那些是*基座模型*写的回答；PPO 后来写的，已经不一样了。下一节就看这件事。
#
# **挑选很便宜。** best-of-16 拿到 1.636，离 1.639 只差一点，什么也没训练。可是每给一个回答，它都要抽十六个，十六个都要请裁判评；它不受预算限制；看它，是为了知道手边有个裁判值多少。（$n$ 起的是 $\beta$ 的作用。）
#
# 拒绝采样微调把挑选的结果写进参数。挑出来的 3,200 个回答只够更新 50 次，太少了，$J$ 只有 1.498。这里抽回答花不了多少，40 秒里它请裁判评了 213,504 个，至少是别的方法的四倍，到了 1.585，略低于 REINFORCE、RLOO 和在线 DPO（1.599 到 1.606）。它最多学到 best-of-8 那样，也就是 1.622。要动手试，数它最简单。

# %% alt_en="J against judged answers, from 25,600 to 192,000, logarithmic. DPO on stored pairs, round points: between 1.48 and 1.53 at 25,600, between 1.49 and 1.57 at 52,224, between 1.56 and 1.60 at 192,000. Online DPO, squares: 1.57 to 1.59 at 25,600, about 1.60 at 47,104. A line marks the optimum at 1.639." alt_zh="J 随评判过的回答数的变化，从 25,600 到 192,000，横轴为对数。用存好的偏好对做 DPO，圆点：25,600 处在 1.48 到 1.53 之间，52,224 处在 1.49 到 1.57 之间，192,000 处在 1.56 到 1.60 之间。在线 DPO，方块：25,600 处 1.57 到 1.59，47,104 处约 1.60。横线是最优解 1.639。"
trained = json.loads(Path("data/seeds.json").read_text(encoding="utf-8"))["seeds"]
parts = {"style": 1, "exact": 1, "kl": -BETA}  # of J
shipped = {run["seed"]: sum(n * run["dpo"][part]["value"] for part, n in parts.items())
           for run in trained}  # the recipe's J by seed
fig, axes = figure(width=6.4, height=3.2)
for name, color, marker in (("dpo", "policy", "o"), ("online_dpo", "policy", "s")):
    for panel in ("equal_answers", "equal_seconds"):
        at = [run["judged"] for run in of(panel, name)]
        axes.plot(at, J[panel][name], marker, color=COLORS[color],
                  markerfacecolor="none")
    place_of = (25_600, np.mean(J["equal_answers"][name]))
    axes.annotate(name, place_of, (-12, 0), textcoords="offset points", ha="right",
                  va="center")
axes.plot([192_000] * len(shipped), shipped.values(), "o", color=COLORS["policy"])
axes.axhline(end_J["optimum"], color=COLORS["theory"])
axes.set(xscale="log", xlabel="$N$", ylabel="$J$", xlim=(15_000, 230_000))
ticks = [25_600, 51_200, 102_400, 192_000]
axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
axes.minorticks_off()

# %% [markdown] lang="en"
# **Figure 12.7.** What stored pairs cost: $J$ against the number $N$ of judged answers, a point a seed. Round: DPO on stored pairs; filled, the shipped recipe, three seeds, with a warm-up of 20 updates for 10, no bound on the gradient, and prompts of its own to be measured on. Squares: online DPO. Line: the optimum.

# %% [markdown] lang="zh"
# **图 12.7** 存好的偏好对贵在哪里：$J$ 随评判过的回答数 $N$ 的变化，一个种子一个点。圆：用存好的偏好对做 DPO；实心的是随书的配方，三个种子，预热 20 次更新而不是 10 次，不限制梯度的长度，测量用的提示也是另抽的。方块：在线 DPO。横线：最优解。

# %%
few, twice = (dict(enumerate(J[panel]["dpo"]))
              for panel in ("equal_answers", "equal_seconds"))
online = dict(enumerate(J["equal_answers"]["online_dpo"]))
assert sorted(shipped) == [0, 1, 2]
assert f"{np.mean(list(shipped.values())):.3f}" == "1.584"
# on every seed more stored pairs lead further
assert all(shipped[seed] > max(few[seed], twice[seed]) + 0.02 for seed in shipped)
ahead = [shipped[seed] - online[seed] for seed in shipped]
print([f"{gap:.3f}" for gap in ahead])
assert min(ahead) < 0 < max(ahead) and 7.4 < 192_000 / 25_600 < 7.6
more = of("equal_seconds", "online_dpo")
assert {run["judged"] for run in more} == {47_104}
assert all(run["objective"]["value"] > shipped[run["seed"]]
           for run in more if run["seed"] in shipped)

# %%
def paired(one, other, panels=("equal_answers", "equal_answers")):
    """The mean difference in J seed by seed, and its 95 % interval."""
    gaps = np.array(J[panels[0]][one]) - np.array(J[panels[1]][other])
    return gaps.mean(), gaps.mean() - (half := 2.776 * gaps.std(ddof=1) / np.sqrt(5)), gaps.mean() + half


for one, other in (("reinforce", "ppo"), ("reinforce", "rloo"), ("ppo", "rloo"), ("reinforce", "online_dpo"),
                   ("reinforce", "dpo"), ("online_dpo", "dpo"), ("dpo", "rm_ppo")):  # fmt: skip
    print(f"{one:10} - {other:10}", *(f"{number:7.3f}" for number in paired(one, other)))
means = {panel: {name: f"{np.mean(J[panel][name]):.3f}" for name in NAMES if J[panel][name]} for panel in J}
assert [means["equal_answers"][name] for name in ("reinforce", "ppo", "rloo", "online_dpo", "dpo", "rm_ppo")] == [
    "1.592", "1.590", "1.587", "1.581", "1.506", "1.480"]  # fmt: skip
assert all(low < 0 < high for _, low, high in (paired("reinforce", "ppo"), paired("reinforce", "rloo"), paired("ppo", "rloo"),
                                               paired("dpo", "rm_ppo"), paired("dpo", "dpo", ("equal_seconds", "equal_answers"))))  # fmt: skip
assert all(a > b for a, b in zip(J["equal_answers"]["reinforce"], J["equal_answers"]["online_dpo"]))
assert all(a > b for panel in ("tried", "equal_answers") for a, b in zip(J[panel]["online_dpo"], J[panel]["dpo"]))
assert [of("tried", "dpo")[i]["setting"] == of("tried", "online_dpo")[i]["setting"] for i in range(4)] == [True] * 4
assert f"{paired('reinforce', 'online_dpo')[0]:.3f}" == "0.011" and 1 / 8.5 < 0.011 / paired("reinforce", "dpo")[0] < 1 / 7.5

# %%
once = [run for run in of("tried", "ppo") if run["setting"]["epochs"] == 1]
assert sorted(round(run["cpu_seconds"]) for run in once) == [34, 37] and f"{max(run['objective']['value'] for run in once):.2f}" == "1.56"
assert [round(seeds(of("equal_answers", name), "cpu_seconds").value) for name in ("ppo", "reinforce", "rloo")] == [51, 23, 25]
assert round(of("equal_answers", "ppo")[0]["held_bytes"] / of("equal_answers", "rloo")[0]["held_bytes"], 2) == 1.74
judged = {name: of("equal_seconds", name)[0]["judged"] for name in NAMES if name != "best_of_n"}
assert (judged["dpo"], judged["rejection"]) == (52_224, 213_504)
assert all(judged["rejection"] > 4 * count for name, count in judged.items() if name != "rejection")
assert sorted(means["equal_seconds"][name] for name in ("reinforce", "rloo", "online_dpo"))[::2] == ["1.599", "1.606"]
assert [means["equal_seconds"][name] for name in ("dpo", "rejection")] == ["1.533", "1.585"]
assert {means["equal_answers"][name] for name in ("rejection", "best_of_n")} == {"1.498", "1.636"}
assert f"{next(run for run in of('tried', 'best_of_n') if run['setting']['n'] == 8)['objective']['value']:.3f}" == "1.622"
ranked = [run["reward_model_right"] for run in of("equal_answers", "rm_ppo")]
assert (round(min(ranked), 2), round(max(ranked), 2)) == (0.96, 0.98)

# %%
end_of = dict(end_J)  # J at the end of each leash
end_of |= dict.fromkeys(("reinforce", "rloo", "ppo"), end_of["optimum"])
below = {name: end_of[name] - np.mean(J["equal_answers"][name]) for name in ("grpo", "dr_grpo", "reinforce", "rloo", "ppo")}
print({name: f"{gap:.3f}" for name, gap in below.items()})
assert all(0.035 < gap < 0.055 for gap in below.values())
for name, stated in (("grpo", "1.35 1.526 1.523"), ("dr_grpo", "1.03 1.498 1.499")):
    spent = f"{seeds(of('equal_answers', name), 'kl').value:.2f}"
    assert f"{spent} {means['equal_answers'][name]} {means['equal_seconds'][name]}" == stated
    parts = end_of["optimum"] - end_of[name], end_of["optimum"] - np.mean(J["equal_answers"][name])
    assert [f"{part:.2f}" for part in parts] == {"grpo": ["0.07", "0.11"], "dr_grpo": ["0.10", "0.14"]}[name]
gains = {name: np.mean(J["equal_seconds"][name]) - np.mean(J["equal_answers"][name]) for name in below}
assert all(0.01 < gains[name] < 0.02 for name in ("reinforce", "rloo"))
assert all(abs(gains[name]) < 0.005 for name in ("grpo", "dr_grpo"))
more = sorted(judged[name] / 25_600 for name in ("reinforce", "rloo", "grpo", "dr_grpo"))
assert (f"{more[0]:.1f}", f"{more[-1]:.1f}") == ("1.6", "1.9")

# %% [markdown] lang="en"
# ## A judge that can be fooled
# Our judge has been exact. Real judges have holes, and a policy that is paid by the judge has every reason to find them. [Skalse et al. 2022](https://arxiv.org/abs/2209.13085) define **reward hacking**: the judge's reward, the *proxy*, goes up while the true reward, here called *gold*, goes down. The book uses the word in this sense only, here and in chapter 9; a proxy that rises while gold rises less is a gap, and no hacking yet. We give RLOO three judges of style plus exactness (`python chapters/data/rl_leak.py`, five seeds):
#
# - `honest`, the exact checker;
# - `digit`, which forgives any difference that is a multiple of ten, as one does who checks the last digit only;
# - `model`, a reward model fitted to 12,800 pairs that the honest judge has labelled.
#
# What `digit` does can be said in advance. An author's slip misses the target by ten, so every text that an author can write passes. Then the reward says nothing about exactness, and the optimum is that of the style alone: 0.96 of the answers have three numbers, and 0.75 are right, as in the base model. At $\beta=0.25$ the judge should see 1.96 points and we 1.71.

# %% [markdown] lang="zh"
# ## 骗得过的裁判
# 前面的裁判从不判错。真实的裁判都有漏洞，而靠裁判给分的策略，有的是理由去找漏洞。[Skalse et al. 2022](https://arxiv.org/abs/2209.13085) 给**奖励作弊**（reward hacking，又译奖励黑客）下过定义：裁判给的奖励（*代理奖励*，proxy）往上走，真正的奖励（这里叫*真奖励*，gold）却往下走。本书只在这个意思上用这个词，第 9 章也一样；代理奖励升得多、真奖励升得少，那是有差距，还不算作弊。下面给 RLOO 三个裁判，都来评风格加答案正确（`python chapters/data/rl_leak.py`，五个种子）：
#
# - `honest`，精确的判分程序；
# - `digit`，差值是十的倍数就放过，好比只核对末位数字的人；
# - `model`，奖励模型，用诚实的裁判标好的 12,800 对拟合出来。
#
# `digit` 会怎样，事先就说得出来。作者的失误正好差十，所以凡是作者写得出的文本，它都放过。这样一来，算得对不对，奖励里完全看不出来，最优解就是只看风格的最优解：写三个数的占 0.96；算对的占 0.75，和基座模型一样多。$\beta=0.25$ 时，裁判该看到 1.96 分，我们看到的是 1.71 分。

# %%
leaky = json.loads(Path("data/rl_leak.json").read_text(encoding="utf-8"))["runs"]
STRENGTHS = (0.25, 0.1, 0.03, 0.0)


def under(judge, beta, method="rloo"):
    """The five runs with that judge and leash; beta None is the base model."""
    known = (judge, beta, None if beta is None else method)
    return [run for run in leaky if (run["judge"], run["beta"], run["method"]) == known]


print(f"{'judge':7}{'beta':>5} {'proxy':>6} {'gold':>6} {'style':>6} {'exact':>6} {'KL':>6}")
for judge, beta in ((judge, beta) for judge in ("honest", "digit", "model") for beta in (None, *STRENGTHS)):
    row = [seeds(under(judge, beta), name).value for name in ("proxy", "reward", "style", "exact", "kl")]
    print(f"{judge:7}{'base' if beta is None else beta:>5}", *(f"{value:6.2f}" for value in row))
foretold = predicted_optimum(task, "style", BETA)
assert [f"{foretold['style']:.2f} {foretold['exact']:.2f}", f"{1 + foretold['style']:.2f}",
        f"{foretold['style'] + foretold['exact']:.2f}"] == ["0.96 0.75", "1.96", "1.71"]  # fmt: skip

# %% alt_en="Two panels against KL, on a scale of square roots from 0 to 25; five seeds with intervals. Left, the judge digit: proxy, orange open squares, rises from 1.30 to 1.99 and stays; gold, blue points, rises from 1.05 to 1.73 and falls to 1.50 at KL 5.1. Green, gold under the honest judge, rises to 1.98. Right, the reward model: proxy rises from 1.05 to 1.77; gold rises to 1.78 at KL 1.5 and falls to 1.02 at KL 17. Green as on the left." alt_zh="两幅小图，横轴是 KL，按平方根刻度从 0 到 25；五个种子，带区间。左，裁判 digit：代理奖励（橙色空心方块）从 1.30 升到 1.99 后不动；真奖励（蓝点）从 1.05 升到 1.73，到 KL 5.1 处降到 1.50。绿色是诚实裁判之下的真奖励，升到 1.98。右，奖励模型：代理奖励从 1.05 升到 1.77；真奖励在 KL 1.5 处升到 1.78，到 KL 17 处降到 1.02。绿色同左图。"
fig, axes = figure(columns=2, width=7.2, height=3.8)
axes[0].set(ylabel=r"$\mathbb{E}[r]$")
for panel, judge in zip(axes, ("digit", "model")):
    start = seeds(under(judge, None), "reward").value - seeds(under(judge, None), "proxy").value
    for who, name, shift, color, marker in (("honest", "reward", 0, "chosen", "^"), (judge, "reward", 0, "policy", "o"),
                                            (judge, "proxy", start * (judge == "model"), "rejected", "s")):  # fmt: skip
        at = [seeds(under(who, beta), "kl") for beta in (None, *STRENGTHS)]
        values = [seeds(under(who, beta), name) for beta in (None, *STRENGTHS)]
        bars = {"xerr": [x.high - x.value for x in at], "yerr": [y.high - y.value for y in values]}
        panel.errorbar([x.value for x in at], [shift + y.value for y in values], **bars, fmt=f"{marker}:", capsize=2,
                       color=COLORS[color], markerfacecolor="none" if name == "proxy" else None)  # fmt: skip
    panel.set_xscale("function", functions=(lambda x: np.sqrt(np.maximum(x, 0)), np.square))
    panel.set(xlabel="KL", title=judge, xticks=(0, 1, 2, 5, 10, 17, 25), xlim=(0, 27), ylim=(0.8, 2.1))

# %% [markdown] lang="en"
# **Figure 12.8.** Each judge with the base model (left) and four strengths of the leash, the last of them none at all (right). Orange: the proxy, what the judge says. Blue: gold, what we wanted. Green: gold under the honest judge. (The reward model's scores are only good up to a constant; they are moved so that both begin together.)

# %% [markdown] lang="zh"
# **图 12.8** 每个裁判五个点：最左是基座模型，然后是四种松紧的绳子，最右完全不拴。橙：代理奖励，裁判说的。蓝：真奖励，我们要的。绿：诚实的裁判之下的真奖励。（奖励模型的分数可以整体加减一个常数；图里把它平移过，让代理奖励和真奖励从同一点出发。）

# %% [markdown] lang="en"
# At $\beta=0.25$ the network does what was foretold for `digit`: the judge sees 1.93 points, and we see 1.68, with 0.74 of the answers right. This is not hacking yet, since gold has risen, from 1.04: the judge does not pay for exactness, and exactness is not learnt. But nothing in the training shows it; the honest judge, too, saw 1.90. Loosen the leash to 0.03, and little changes. Take it off, and exactness, which nothing holds any more, falls on all five seeds, to 0.50. (A likely reason: of all the values that pass, only one is right.) The judge sees 1.99. Compared with $\beta=0.25$, the proxy has risen and gold has fallen, on every seed: now it is hacking.
#
# DPO finds the same hole: from pairs that `digit` has labelled, 0.71 are right at $\beta=0.25$, where honest labels led to 0.93. It takes no exploration, for the hole lies in what the base model already writes.
#
# The reward model is a subtler case, and a common one. That of [chapter 5](05_preferences.ipynb) had learnt the style and hardly the sums. This one, from far more pairs, ranks 97 to 98 % of new pairs of the base model's answers right. Take that apart (`python chapters/data/rl_scores.py`). Of pairs with unlike style and of pairs with two numbers each, it ranks more than 0.99 right; of pairs with three numbers each, 0.48 to 0.70, not much better than a coin. The base model writes few such pairs, 6 % of those that are no tie, so the mean does not show them. But three numbers are where the reward sends the policy: soon most of its answers are of the kind that its judge cannot tell apart. At $\beta=0.25$, 0.77 are right, against 0.96 under the honest judge. On the leash gold rises all the same, to 1.69, and to 1.78 at 0.03. Without one the policy drifts to answers that the model likes still better, far from any that it was fitted to: 0.08 of them are right, and gold is back where it began, 1.02 against 1.04, at a KL of 17. This is hacking too, on every seed. It is the curve of [Gao et al. 2023](https://arxiv.org/abs/2210.10760): as the KL grows, gold first rises with the proxy and then falls. [DeepSeek-AI 2025](https://arxiv.org/abs/2501.12948) name this danger as the reason to train reasoning without a neural reward model; [Lambert et al. 2024](https://arxiv.org/abs/2411.15124) call rewards that a program checks *verifiable*. With the honest judge the leash could come off, and 0.985 are right.
#
# What helps, then? A judge without the hole, first; and one whose accuracy was measured where the policy is going, not where it came from. A leash, which limits what a hole can cost; it does not close it. And a look at gold: a small sample, judged by something better than what the policy is paid by. Figure 12.9 shows why the training's own curves are no substitute.

# %% [markdown] lang="zh"
# $\beta=0.25$ 时，`digit` 之下的网络同预言的一样：裁判看到 1.93 分，我们看到 1.68 分，算对的占 0.74。这还不算奖励作弊，真奖励毕竟从 1.04 升了上来：算对不给分，也就没有学算对。可是训练中什么也看不出来，诚实的裁判看到的也是 1.90。绳子松到 0.03，变化不大。完全解开，就没东西拉着正确率了，五个种子全都往下掉，平均掉到 0.50。（原因多半是：放过的那些值里，对的只有一个。）裁判看到的是 1.99。同 $\beta=0.25$ 时相比，五个种子都是代理奖励升了、真奖励降了：这就是奖励作弊了。
#
# DPO 找到的是同一个洞：用 `digit` 标的偏好对来训练，$\beta=0.25$ 时算对的占 0.71；用诚实的标签，是 0.93。不需要什么探索，洞就在基座模型本来就会写的东西里。
#
# 奖励模型的情形更微妙，也更常见。[第 5 章](05_preferences.ipynb)的那个学会了风格，算得对不对却没学到多少。这一个用的偏好对多得多，基座模型新写的偏好对，它能排对 97% 到 98%。把这个数拆开看（`python chapters/data/rl_scores.py`）：风格不同的，或都写两个数的，排对的超过 0.99；都写三个数的，只有 0.48 到 0.70，比抛硬币好不了多少。基座模型很少写出这样的一对，只占不分平局的 6%，所以平均数里看不出来。可奖励偏偏把策略往三个数上赶，不久它的回答就大多是裁判分不出好坏的那种。$\beta=0.25$ 时算对的占 0.77，诚实的裁判之下是 0.96。拴着绳子，真奖励还是升了，到 1.69；松到 0.03，到 1.78。不拴，策略就漂向奖励模型更喜欢的回答，离奖励模型拟合时见过的那些越来越远：算对的只有 0.08，真奖励回到了起点，1.02 对 1.04，此时 KL 是 17。五个种子，个个又是奖励作弊。这就是 [Gao et al. 2023](https://arxiv.org/abs/2210.10760) 的那条曲线：KL 越来越大，真奖励先跟着代理奖励升，然后降。[DeepSeek-AI 2025](https://arxiv.org/abs/2501.12948) 训练推理能力时不用神经网络奖励模型，理由正是这个危险；[Lambert et al. 2024](https://arxiv.org/abs/2411.15124) 把程序能核对的奖励叫做*可验证的*（verifiable）。裁判若是诚实，绳子解开也无妨，算对的有 0.985。
#
# 那么什么管用？首先，换个没有洞的裁判；它的准确率，要在策略去的地方量，不在策略来的地方量。其次是绳子：它限住洞能造成的损失，却堵不上洞。还有，要看真奖励：抽一小份回答，另请一个更可靠的裁判来评，不用训练时给分的那个。训练时的曲线为什么代替不了这一步，看图 12.9。

# %%
def shown(judge, beta, *names, method="rloo"):
    return " ".join(f"{seeds(under(judge, beta, method), name).value:.2f}" for name in names)


assert shown("digit", 0.25, "proxy", "reward", "exact") == "1.93 1.68 0.74" and shown("honest", 0.25, "proxy") == "1.90"
assert shown("digit", 0.0, "proxy", "reward", "exact") == "1.99 1.50 0.50" and shown("digit", 0.03, "reward", "exact") == "1.73 0.74"
assert all(run["exact"]["value"] < 0.65 for run in under("digit", 0.0))
for judge in ("digit", "model"):  # hacking, by its definition, seed by seed
    held, free = ({run["seed"]: run for run in under(judge, beta)} for beta in (0.25, 0.0))
    assert sorted(held) == sorted(free) == [0, 1, 2, 3, 4]
    assert all(free[n]["proxy"]["value"] > held[n]["proxy"]["value"] for n in held)
    assert all(free[n]["reward"]["value"] < held[n]["reward"]["value"] for n in held)
assert shown("digit", 0.25, "exact", method="dpo") == "0.71" and f"{seeds(of('equal_answers', 'dpo'), 'exact').value:.2f}" == "0.93"
assert shown("model", 0.25, "reward", "exact") == "1.69 0.77" and shown("honest", 0.25, "exact") == "0.96"
assert shown("model", 0.03, "reward") == "1.78" and shown("model", 0.0, "reward", "exact") == "1.02 0.08"
assert shown("model", None, "reward") == "1.04" and round(seeds(under("model", 0.0), "kl").value) == 17
assert f"{seeds(under('honest', 0.0), 'exact').value:.3f}" == "0.985"

# %%
ranks = json.loads(Path("data/rl_scores.json").read_text(encoding="utf-8"))["seeds"]
known = {kind: sorted(rank[kind]["value"] for rank in ranks) for kind in ("all", "unlike", "two", "three")}
part = {kind: np.mean([rank[kind]["pairs"] / rank["all"]["pairs"] for rank in ranks]) for kind in known}
for kind, shares in known.items():  # of the five seeds, the lowest and the highest
    print(f"{kind:7} {part[kind]:4.0%} of the pairs, ranked right: {shares[0]:.3f} to {shares[-1]:.3f}")
assert [f"{share:.2f}" for kind in ("all", "three") for share in known[kind][::4]] == ["0.97", "0.98", "0.48", "0.70"]
assert min(known["unlike"] + known["two"]) > 0.99 and f"{part['three']:.2f}" == "0.06"

# %% alt_en="Two panels against judged answers, 0 to 25,600, without a leash: digit left, the reward model right. Orange, proxy, climbs quickly and stays high in both. Blue, gold: left it climbs to about 1.55 within 8,000 answers and sinks slowly to 1.49; right it peaks at about 1.26 after 5,000 and sinks to 1.02. Bands over five seeds." alt_zh="两幅小图，横轴是评判过的回答数，0 到 25,600，不拴绳子：左 digit，右奖励模型。橙色代理奖励，两边都很快升高，一直不降。蓝色真奖励：左边 8,000 个之内升到 1.55 左右，再慢慢沉到 1.49；右边在 5,000 个左右达到顶点 1.26，再沉到 1.02。带子是五个种子的范围。"
fig, axes = figure(columns=2, width=8.0, height=3.0)
for panel, judge in zip(axes, ("digit", "model")):
    traces = [run["trace"] for run in under(judge, 0.0)]
    at = [point["judged"] for point in traces[0]]
    start = seeds(under(judge, None), "reward").value - seeds(under(judge, None), "proxy").value
    for name, shift, color in (("gold", 0, "policy"), ("proxy", start * (judge == "model"), "rejected")):
        values = shift + np.array([[point[name] for point in trace] for trace in traces])  # (seeds, points)
        panel.plot(at, values.mean(0), color=COLORS[color])
        panel.fill_between(at, values.min(0), values.max(0), color=COLORS[color], alpha=0.15, linewidth=0)
    panel.set(xlabel="$N$", title=judge, ylim=(0.8, 2.1), xticks=(0, 10_000, 20_000))
axes[0].set(ylabel=r"$\mathbb{E}[r]$")
gold = {judge: np.mean([[point["gold"] for point in run["trace"]] for run in under(judge, 0.0)], axis=0) for judge in ("digit", "model")}
print({judge: [float(round(value, 2)) for value in values] for judge, values in gold.items()})
assert all(values.argmax() < 4 and values[-1] < values.max() - 0.05 for values in gold.values())

# %% [markdown] lang="en"
# **Figure 12.9.** Without a leash, along the training: proxy (orange) and gold (blue) of the answers that were trained on; means and range over five seeds, $N$ judged answers. Whoever sees only the orange line sees a training that goes well.

# %% [markdown] lang="zh"
# **图 12.9** 不拴绳子的训练途中：训练所用回答的代理奖励（橙）和真奖励（蓝），五个种子的平均与范围，横轴 $N$ 是评判过的回答数。只看橙线的人，看到的是一次顺利的训练。

# %% [markdown] lang="en"
# ## From the command line, and in TRL
# What the chapter did with functions is one command. It writes a model folder with its metrics in it, shows a progress bar, and `--resume` goes on from a killed run to the same bits:
#
# ```text
# dpo-core train-rl --method rloo --model gen --output rl.model
# dpo-core train-rl --method grpo --beta 0.1 --prompts 64 --answers 8 --output grpo.model
# dpo-core evaluate rl.model --n 2000 --json
# ```
#
# In TRL, `GRPOTrainer` and `RLOOTrainer` take the checker as it is: `reward_funcs` is a function of prompts and completions, `num_generations` our answers to a prompt, `beta` our $\beta$. Version 1.16 sets the rest so, and so it has to be set for what this chapter calls by the name:
#
# | setting of `GRPOConfig` | its default | for our `grpo` with $k_3$ | for our `dr_grpo` with $\rho\,k_3$ |
# |---|---|---|---|
# | `loss_type` | `"dapo"` | `"grpo"` | `"dr_grpo"` |
# | `scale_rewards` | `"group"` | the default | `"none"` |
# | `use_bias_correction_kl` | `True` | `False` | the default |
# | `beta` | 0.0, no leash | $\beta$ | $\beta$ |
# | `epsilon`, `epsilon_high` | 0.2, `None`: 0.2 too | the default | the default |
#
# Our `dapo` with `--kl-term ratio_k3 --clip-high 0.2` is TRL's default loss; the paper's DAPO has `epsilon_high=0.28`, as ours unless told otherwise. TRL's RLOO has a $\beta$ of 0.05 and no division, and is ours. The tests run TRL's own code at its defaults and at each of these values: given the same log-probabilities, losses and gradients agree to $10^{-12}$ (`tests/test_policy_gradient.py`). TRL divides Dr. GRPO's sum by `max_completion_length` besides, a constant that acts on the learning rate. In TRL's code `use_bias_correction_kl` was `False` by default until the summer of 2026: one script, run before and after, has two different leashes.

# %% [markdown] lang="zh"
# ## 命令行与 TRL
# 本章调用函数做的事，一条命令就能做完。它写出模型文件夹，训练指标就在里面；带进度条；中途断了，加 `--resume` 接着跑，最后每个比特都一样：
#
# ```text
# dpo-core train-rl --method rloo --model gen --output rl.model
# dpo-core train-rl --method grpo --beta 0.1 --prompts 64 --answers 8 --output grpo.model
# dpo-core evaluate rl.model --n 2000 --json
# ```
#
# 用 TRL，`GRPOTrainer` 和 `RLOOTrainer` 可以直接拿判分程序来用：`reward_funcs` 是提示和回答的函数，`num_generations` 是每个提示抽几个回答，`beta` 就是 $\beta$。其余的设置，1.16 版的默认值，以及要得到本章说的方法该怎么设，列在下表：
#
# | `GRPOConfig` 的设置 | 默认值 | 我们的 `grpo`，用 $k_3$ | 我们的 `dr_grpo`，用 $\rho\,k_3$ |
# |---|---|---|---|
# | `loss_type` | `"dapo"` | `"grpo"` | `"dr_grpo"` |
# | `scale_rewards` | `"group"` | 默认 | `"none"` |
# | `use_bias_correction_kl` | `True` | `False` | 默认 |
# | `beta` | 0.0，不拴绳子 | $\beta$ | $\beta$ |
# | `epsilon`、`epsilon_high` | 0.2、`None`：也是 0.2 | 默认 | 默认 |
#
# 我们的 `dapo` 加上 `--kl-term ratio_k3 --clip-high 0.2`，就是 TRL 默认的损失；论文里的 DAPO 要设 `epsilon_high=0.28`，我们的不另设也是这样。TRL 的 RLOO 默认 $\beta$ 取 0.05，不做除法，同我们的一样。测试把 TRL 自己的代码按默认值、再按表里的每个值各跑一遍：给同样的对数概率，损失和梯度相差不到 $10^{-12}$（`tests/test_policy_gradient.py`）。Dr. GRPO 的和，TRL 还要除以 `max_completion_length`，是个常数，只相当于改学习率。2026 年夏天以前，TRL 的代码里 `use_bias_correction_kl` 默认是 `False`：同一个脚本，以前跑和以后跑，拴的是两根不同的绳子。

# %% [markdown] lang="en"
# > **What the toy hides.** Our judge is a program and never tires; people judge slowly, and disagree. A 7B model draws answers of hundreds of tokens, and drawing takes most of the time: then a stored set of pairs is worth more than it is here, and several updates for each draw pay off. PPO for such a model holds four networks of that size, policy, critic, reference and reward model, and its critic starts from the reward model. Samplers run on other machines with slightly other numbers, so that even the first $\rho$ is not 1. And our answers have a few tokens and are judged as a whole; where an answer is long, it matters which step earned the reward, and a critic may be worth its price.

# %% [markdown] lang="zh"
# > **玩具没告诉你的。** 我们的裁判是程序，不会累；人评得慢，意见还不一致。7B 的模型，一个回答几百个词元，时间大半花在抽回答上：这时存好的偏好对就比在这里值钱，一批回答多更新几次也划算。给这样的模型做 PPO，内存里要放四个同样大的网络：策略、评论家、参考策略、奖励模型，评论家还是从奖励模型训练起的。采样放在别的机器上跑，数值略有出入，连第一个 $\rho$ 都不是 1。我们的回答只有几个词元，写完才整个判一次；回答长了，奖励是哪一步挣来的就要紧了，那时评论家也许值得一用。

# %% [markdown] lang="en"
# > **To remember.** The policy gradient: draw, judge, subtract what was to be expected, push. A baseline brings no bias; a leash in the reward leads to the optimum; in the loss it pulls fork by fork, towards the other KL with $k_3$ and towards the KL itself with $\rho\,k_3$; a standard deviation lengthens it. Pair by pair, DPO pushes where RLOO on two answers pushes; its pairs were drawn beforehand, and here that cost seven times as many judged answers. What a judge lets pass, training finds. Look at what you wanted, not at what you paid for.

# %% [markdown] lang="zh"
# > **记住。** 策略梯度就是：抽，判，减去本来就能拿到的，推一把。减基线不带来偏差；绳子拴在奖励里，通向最优解；拴在损失里，就一个岔口一个岔口地拉：用 $k_3$，压低的是另一个 KL；用 $\rho\,k_3$，压低的才是 KL 本身；除以标准差，会把绳子放长。一对一对地看，DPO 推的方向同抽两个回答的 RLOO 一样；它的偏好对是事先抽好的，在这里，评判的回答因此要多到七倍。裁判放过什么，训练就会找到什么。要看的是你想要的，不是你给分的。

# %% [markdown] lang="en"
# ## Exercises

# %% [markdown] lang="zh"
# ## 练习

# %% [markdown] lang="en"
# ### Exercise 12.1 · Two ways to grade four answers
# ★☆☆ · 5 minutes
#
# Four answers to one prompt earn 2, 1, 1 and 0; leave the leash aside. What advantage does the first one get from RLOO, and what from GRPO? GRPO's standard deviation has $n-1$ in its denominator here. Give a tuple.
#
# <details><summary>Hint</summary>
#
# RLOO subtracts the mean of the other three. GRPO subtracts the mean of all four and divides.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 12.1 · 四个回答，两种打分
# ★☆☆ · 5 分钟
#
# 同一个提示的四个回答，得 2、1、1、0 分，绳子先不管。第一个回答的优势，RLOO 给多少？GRPO 给多少？GRPO 的标准差，这里分母用 $n-1$。写成一个元组。
#
# <details><summary>提示</summary>
#
# RLOO 减的是另外三个的平均；GRPO 减四个的平均，再除。
#
# </details>

# %% tags=["exercise"]
answer_12_1 = ...  # (RLOO, GRPO)
check("12.1", answer_12_1)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# RLOO: the others earned 1, 1, 0, on average 2/3, so $2-2/3=4/3$. GRPO: the mean of all is 1, the squared gaps are 1, 0, 0, 1, the variance is $2/3$, and $1/\sqrt{2/3}=1.22$.
#
# ```python
# answer_12_1 = (2 - 2 / 3, 1 / np.sqrt(2 / 3))
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# RLOO：另外三个得 1、1、0，平均 2/3，所以 $2-2/3=4/3$。GRPO：四个的平均是 1，差的平方是 1、0、0、1，方差是 $2/3$，优势是 $1/\sqrt{2/3}=1.22$。
#
# ```python
# answer_12_1 = (2 - 2 / 3, 1 / np.sqrt(2 / 3))
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 12.2 · Where the other KL ends
# ★★☆ · 15 minutes
#
# For some prompt the base model says yes with probability 0.3 and no otherwise. Yes earns 1, no earns 0, $\beta=0.5$. (Exercise 9.1 asked for the optimum of the objective; it is 0.76.) What share of yes has a policy that is trained with $k_3$ in its loss, with answers of one token, large groups, and without dividing by anything?
#
# <details><summary>Hint</summary>
#
# Both probabilities have the form $\beta\,\pi_{\mathrm{ref}}/(\lambda-r)$ and sum to 1: a quadratic equation for $\lambda$. It exceeds both rewards.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 12.2 · 另一个 KL 停在哪里
# ★★☆ · 15 分钟
#
# 对某个提示，基座模型答「是」的概率是 0.3，否则答「否」。「是」得 1 分，「否」得 0 分，$\beta=0.5$。（练习 9.1 问的是目标的最优解，是 0.76。）现在改用损失里的 $k_3$ 当绳子来训练：回答只有一个词元，每组抽很多个，哪里都不除。训练出来的策略，答「是」的占多少？
#
# <details><summary>提示</summary>
#
# 两个概率都形如 $\beta\,\pi_{\mathrm{ref}}/(\lambda-r)$，加起来是 1：这是 $\lambda$ 的一元二次方程。$\lambda$ 比两个奖励都大。
#
# </details>

# %% tags=["exercise"]
answer_12_2 = ...  # a share between 0 and 1
check("12.2", answer_12_2)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# $0.15/(\lambda-1)+0.35/\lambda=1$ gives $\lambda^2-1.5\lambda+0.35=0$, whose larger root is 1.211. The share of yes is $0.15/0.211=0.711$, less than 0.76: the other KL holds back harder from giving up the no. With $\rho\,k_3$ it would be 0.76: an answer of one token has no later fork to be deaf to.
#
# ```python
# lam = (1.5 + np.sqrt(1.5**2 - 4 * 0.35)) / 2
# answer_12_2 = 0.5 * 0.3 / (lam - 1)
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# $0.15/(\lambda-1)+0.35/\lambda=1$ 化成 $\lambda^2-1.5\lambda+0.35=0$，较大的根是 1.211。「是」的比例是 $0.15/0.211=0.711$，不到 0.76：策略想丢掉「否」，另一个 KL 拦得更紧。换成 $\rho\,k_3$，就是 0.76：回答只有一个词元，后面没有别的岔口。
#
# ```python
# lam = (1.5 + np.sqrt(1.5**2 - 4 * 0.35)) / 2
# answer_12_2 = 0.5 * 0.3 / (lam - 1)
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 12.3 · RLOO in five lines
# ★★☆ · 15 minutes
#
# Write `rloo_loss(logps, ref_logps, rewards, beta)`. All three tensors have the shape `(G, K)`, $K$ answers to each of $G$ prompts; `logps` carries gradients. Return one number, the mean over all answers, whose gradient is minus RLOO's estimate, with the leash in the reward.
#
# <details><summary>Hint</summary>
#
# The KL penalty contains `logps`, and yet the advantage is only a number: `.detach()`. The mean of the others is (the sum less the answer itself) over $K-1$.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 12.3 · 五行写出 RLOO
# ★★☆ · 15 分钟
#
# 写一个 `rloo_loss(logps, ref_logps, rewards, beta)`。三个张量的形状都是 `(G, K)`：$G$ 个提示，每个 $K$ 个回答；`logps` 带着梯度。返回一个数，对所有回答取平均；它的梯度是 RLOO 估计的相反数，绳子拴在奖励里。
#
# <details><summary>提示</summary>
#
# KL 惩罚扣掉的那部分里有 `logps`，但优势只能当作一个数：`.detach()`。其余几个的平均，等于（总和减去自己）除以 $K-1$。
#
# </details>

# %% tags=["exercise"]
def rloo_loss(logps, ref_logps, rewards, beta):
    ...


check("12.3", rloo_loss)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# If the gradient may flow through the advantage, the KL penalty adds a term that is no part of $\nabla J$.
#
# ```python
# def rloo_loss(logps, ref_logps, rewards, beta):
#     K = rewards.shape[1]
#     net = rewards - beta * (logps - ref_logps)
#     advantage = net - (net.sum(1, keepdim=True) - net) / (K - 1)
#     return -(advantage.detach() * logps).mean()
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 要是让梯度从优势里过，KL 惩罚会多出一项，不属于 $\nabla J$。
#
# ```python
# def rloo_loss(logps, ref_logps, rewards, beta):
#     K = rewards.shape[1]
#     net = rewards - beta * (logps - ref_logps)
#     advantage = net - (net.sum(1, keepdim=True) - net) / (K - 1)
#     return -(advantage.detach() * logps).mean()
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 12.4 · Who has stopped learning?
# ★★☆ · 10 minutes
#
# After a few updates on one batch, somebody wants to know how many answers PPO still learns from. Write `stopped(logps, old_logps, advantages, clip)`: a tensor of booleans, `True` where the clipped loss has gradient zero. All inputs have the shape `(N,)`; no advantage is 0.
#
# <details><summary>Hint</summary>
#
# Figure 12.3: not wherever the ratio is outside the interval.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 12.4 · 谁已经不学了
# ★★☆ · 10 分钟
#
# 同一批回答更新过几次之后，有人想知道 PPO 还在从多少个回答里学。写一个 `stopped(logps, old_logps, advantages, clip)`，返回布尔张量：截断后的损失梯度为零的地方是 `True`。输入的形状都是 `(N,)`，优势都不为 0。
#
# <details><summary>提示</summary>
#
# 看图 12.3：不是比值一出区间就停。
#
# </details>

# %% tags=["exercise"]
def stopped(logps, old_logps, advantages, clip):
    ...


check("12.4", stopped)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# A good answer stops above the interval, a bad one below it. The metric `clip_ratio`, ours and TRL's, is the mean of this; a count of all ratios outside the interval would read too high.
#
# ```python
# def stopped(logps, old_logps, advantages, clip):
#     ratio = (logps - old_logps).exp()
#     return torch.where(advantages > 0, ratio > 1 + clip, ratio < 1 - clip)
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 好回答停在区间以上，坏回答停在区间以下。指标 `clip_ratio`（我们的和 TRL 的都是）就是它的平均；要是把区间外的比值全数进去，读数就偏高了。
#
# ```python
# def stopped(logps, old_logps, advantages, clip):
#     ratio = (logps - old_logps).exp()
#     return torch.where(advantages > 0, ratio > 1 + clip, ratio < 1 - clip)
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 12.5 · Half a leak
# ★★★ · 15 minutes
#
# The base model is right in three answers out of four. The judge pays 1 for a right value, but it lets half of the slips pass, chosen at random, and pays 1 for those as well. $\beta=0.25$. What share of the optimal policy's answers is right?
#
# <details><summary>Hint</summary>
#
# The objective is linear in the reward, so only its mean counts. Then it is two classes again, as in exercise 9.1.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 12.5 · 漏一半
# ★★★ · 15 分钟
#
# 基座模型四个回答里对三个。答案正确，裁判给 1 分；遇到失误，它随机放过一半，放过的也给 1 分。$\beta=0.25$。最优策略的回答里，对的占多少？
#
# <details><summary>提示</summary>
#
# 目标对奖励是线性的，所以只有平均奖励算数。于是又成了两类，同练习 9.1。
#
# </details>

# %% tags=["exercise"]
answer_12_5 = ...  # a share between 0 and 1
check("12.5", answer_12_5)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# A slip earns 1/2 on average. The odds of right against slip are 3 in the base model, and the tilt multiplies them by $e^{(1-0.5)/0.25}=e^2=7.39$: 22.2 to 1, a share of 0.957. With an honest judge it would be $e^4$, and 0.994. Random leniency acts like a shorter leash, as if $\beta$ were 0.5 in place of 0.25: the policy stays nearer, and goes the same way.
#
# ```python
# odds = 3 * np.exp((1 - 0.5) / 0.25)
# answer_12_5 = odds / (odds + 1)
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 失误平均得 1/2。基座模型里，对与失误的几率（odds）是 3；倾斜把它乘上 $e^{(1-0.5)/0.25}=e^2=7.39$，成了 22.2 比 1，占 0.957。裁判若是诚实，乘的就是 $e^4$，占 0.994。裁判随机地放宽，好比把绳子收短，$\beta$ 由 0.25 变成 0.5：策略走得近些，方向没有变。
#
# ```python
# odds = 3 * np.exp((1 - 0.5) / 0.25)
# answer_12_5 = odds / (odds + 1)
# ```
#
# </details>

# %% [markdown] lang="en"
# ## References
# - [Williams 1992](https://doi.org/10.1007/BF00992696): REINFORCE, and that a baseline leaves it unbiased (its theory says nothing of variance).
# - [Schulman et al. 2017](https://arxiv.org/abs/1707.06347): PPO; equation 7 is the clipped surrogate. [Schulman et al. 2016](https://arxiv.org/abs/1506.02438): GAE, equation 16.
# - [Kool et al. 2019](https://openreview.net/forum?id=r1lgTGL5DE): the leave-one-out baseline; [Ahmadian et al. 2024](https://arxiv.org/abs/2402.14740) brought it to language models and their feedback.
# - [Shao et al. 2024](https://arxiv.org/abs/2402.03300): GRPO; equation 4 is $k_3$ in the loss. [Zichen Liu et al. 2025](https://arxiv.org/abs/2503.20783): Dr. GRPO, and the biases of the two divisions. [DeepSeek-AI 2025](https://arxiv.org/abs/2512.02556), DeepSeek-V3.2: section 3.1 has $k_3$ times the ratio.
# - [Yu et al. 2025](https://arxiv.org/abs/2503.14476): DAPO. [Zheng et al. 2025](https://arxiv.org/abs/2507.18071): GSPO. [MiniMax 2025](https://arxiv.org/abs/2506.13585): CISPO, section 3.1. [Yao et al. 2025](https://fengyao.notion.site/off-policy-rl): two programs, two probabilities. [Olmo 3](https://arxiv.org/abs/2512.13961): a system that says what it uses, section 4.4.1.
# - [Schulman 2020](http://joschu.net/blog/kl-approx.html): $k_1$, $k_2$, $k_3$ as estimates of a value. [Tang and Munos 2025](https://arxiv.org/abs/2506.09477) and [Kezhao Liu et al. 2025](https://arxiv.org/abs/2510.01555): what they do as losses.
# - [Ouyang et al. 2022](https://arxiv.org/abs/2203.02155): reward model and PPO, with the leash in the reward, token by token.
# - [Dong et al. 2023](https://arxiv.org/abs/2304.06767): RAFT. [Guo et al. 2024](https://arxiv.org/abs/2402.04792): online DPO and its relatives.
# - [Xu et al. 2024](https://arxiv.org/abs/2404.10719), [Tang et al. 2024](https://arxiv.org/abs/2405.08448): DPO against PPO, offline against online, on large models.
# - [Skalse et al. 2022](https://arxiv.org/abs/2209.13085): what reward hacking is. [Gao et al. 2023](https://arxiv.org/abs/2210.10760): how the true reward rises and falls as a learnt one is climbed.
# - [Lambert et al. 2024](https://arxiv.org/abs/2411.15124): verifiable rewards. [DeepSeek-AI 2025](https://arxiv.org/abs/2501.12948): why R1's reasoning was trained without a reward model.

# %% [markdown] lang="zh"
# ## 参考文献
# - [Williams 1992](https://doi.org/10.1007/BF00992696)：REINFORCE，以及减去基线仍然无偏（方差大小，它的理论没有说）。
# - [Schulman et al. 2017](https://arxiv.org/abs/1707.06347)：PPO，式 7 是截断后的替代目标（surrogate）。[Schulman et al. 2016](https://arxiv.org/abs/1506.02438)：GAE，式 16。
# - [Kool et al. 2019](https://openreview.net/forum?id=r1lgTGL5DE)：留一法的基线；[Ahmadian et al. 2024](https://arxiv.org/abs/2402.14740) 把它用到语言模型的人类反馈上。
# - [Shao et al. 2024](https://arxiv.org/abs/2402.03300)：GRPO，式 4 是损失里的 $k_3$。[Zichen Liu et al. 2025](https://arxiv.org/abs/2503.20783)：Dr. GRPO，两处除法各带来什么偏差。[DeepSeek-AI 2025](https://arxiv.org/abs/2512.02556)，即 DeepSeek-V3.2：3.1 节给 $k_3$ 乘上比值。
# - [Yu et al. 2025](https://arxiv.org/abs/2503.14476)：DAPO。[Zheng et al. 2025](https://arxiv.org/abs/2507.18071)：GSPO。[MiniMax 2025](https://arxiv.org/abs/2506.13585)：CISPO，见 3.1 节。[Yao et al. 2025](https://fengyao.notion.site/off-policy-rl)：两个程序，两套概率。[Olmo 3](https://arxiv.org/abs/2512.13961)：一个说明自己用了什么的系统，见 4.4.1 节。
# - [Schulman 2020](http://joschu.net/blog/kl-approx.html)：$k_1$、$k_2$、$k_3$，用来估计数值。[Tang and Munos 2025](https://arxiv.org/abs/2506.09477)、[Kezhao Liu et al. 2025](https://arxiv.org/abs/2510.01555)：它们作为损失会怎样。
# - [Ouyang et al. 2022](https://arxiv.org/abs/2203.02155)：奖励模型加 PPO，绳子拴在奖励里，逐个词元计。
# - [Dong et al. 2023](https://arxiv.org/abs/2304.06767)：RAFT。[Guo et al. 2024](https://arxiv.org/abs/2402.04792)：在线 DPO 一类的方法。
# - [Xu et al. 2024](https://arxiv.org/abs/2404.10719)、[Tang et al. 2024](https://arxiv.org/abs/2405.08448)：大模型上，DPO 与 PPO、离线与在线的比较。
# - [Skalse et al. 2022](https://arxiv.org/abs/2209.13085)：什么是奖励作弊。[Gao et al. 2023](https://arxiv.org/abs/2210.10760)：一味提高学来的奖励，真奖励怎样先升后降。
# - [Lambert et al. 2024](https://arxiv.org/abs/2411.15124)：可验证的奖励。[DeepSeek-AI 2025](https://arxiv.org/abs/2501.12948)：训练 R1 的推理能力时，为什么不用奖励模型。
