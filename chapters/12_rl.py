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
# > **In this chapter.** You will be able to derive the policy gradient in three lines, to tell REINFORCE, RLOO, GRPO and PPO apart by what they subtract, divide and clip, to say where each of them ends, and to see in one line of algebra what DPO has to do with them. You will know how far each gets with the same number of judged answers, and what happens when the judge can be fooled. You need the objective of [chapter 6](06_objective.ipynb) and DPO on a network from [chapter 9](09_dpo.ipynb). 70 minutes to read, 40 seconds to run.

# %% [markdown] lang="zh"
# > **本章。** 读完后，你能用三行推出策略梯度；能凭各自减什么、除什么、截什么，分清 REINFORCE、RLOO、GRPO 和 PPO，说出每一个最后停在哪里；还能用一行代数看出 DPO 同它们是什么关系。评判同样多的回答，谁走得多远，裁判骗得过时又会怎样，你也会知道。需要[第 6 章](06_objective.ipynb)的目标，和[第 9 章](09_dpo.ipynb)里网络上的 DPO。阅读 70 分钟，运行 40 秒。

# %%
import copy
import json
from pathlib import Path

import numpy as np
import torch
from checks import check
from torch.autograd import grad

from dpo_core import BookTask, load_pretrained, rl
from dpo_core.evaluation import class_problem, evaluate, mean_interval, predicted_optimum, predicted_shares
from dpo_core.losses import preference_loss
from dpo_core.pairs import on_policy_pairs
from dpo_core.plotting import COLORS, INK, figure, points
from dpo_core.policy_gradient import METHODS, advantages, clipped_loss, generalised_advantages, kl_estimate
from dpo_core.tabular import Problem, best_of_n, frontier, kl, mean, objective, optimal_policy, other_optimum
from dpo_core.tabular import random_policies, random_problems
from dpo_core.training import LoopConfig, default_device, dpo_step, train

# %% [markdown] lang="en"
# ## Learning from one's own answers
# DPO was given pairs, and learnt from them. Reinforcement learning is given no answers at all. The policy writes one, a judge names its reward, the policy changes a little, and writes again. It climbs the objective of chapter 6 directly. For one prompt, with parameters $\theta$ behind $\pi$,
#
# $$J(\pi)=\sum_y\pi(y)\,a(y),\qquad a(y)=r(y)-\beta\log\frac{\pi(y)}{\pi_{\mathrm{ref}}(y)}.$$
#
# Call $a(y)$ the **net reward**: what the answer earns, less what the leash charges for it. Which way is up? *Product rule*; then *write* $\nabla\pi=\pi\,\nabla\log\pi$ in both sums:
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
# DPO 拿到手的是现成的回答对，照着学。强化学习一个回答也没拿到：策略自己写一个，裁判报出奖励，策略改动一点，接着再写。它直接去爬第 6 章的目标。只看一个提示，$\pi$ 背后的参数记作 $\theta$：
#
# $$J(\pi)=\sum_y\pi(y)\,a(y),\qquad a(y)=r(y)-\beta\log\frac{\pi(y)}{\pi_{\mathrm{ref}}(y)}$$
#
# 把 $a(y)$ 叫做**净奖励**（net reward）：这个回答挣到的，减去绳子为它收的。往哪边走是上坡？*用乘积法则*，再把两个和里的导数都*写成* $\nabla\pi=\pi\,\nabla\log\pi$：
#
# $$\nabla J=\sum_y a(y)\,\nabla\pi(y)+\sum_y\pi(y)\,\nabla a(y)=\sum_y\pi(y)\,a(y)\,\nabla\log\pi(y)-\beta\sum_y\pi(y)\,\nabla\log\pi(y)$$
#
# 最后那个和是 $\sum_y\nabla\pi(y)=\nabla\sum_y\pi(y)=\nabla 1=0$。剩下的，是对策略自己的回答取平均：
#
# $$\nabla J=\mathbb{E}_{y\sim\pi}\big[a(y)\,\nabla\log\pi(y)\big]$$
#
# 这就是**策略梯度**（policy gradient）；抽几个回答来估计它，就是 REINFORCE（[Williams 1992](https://doi.org/10.1007/BF00992696)）。抽一个回答，净奖励多大，就按多大的比例让它变得更常见。奖励从头到尾只是一个数，谁也不用对裁判求导，所以裁判可以是程序，也可以是人。

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
# - 抽到 $y_1$（一半的情况），它说 $1\cdot(0.5,\,-0.3,\,-0.2)$；
# - 抽到 $y_2$，它什么也没说，奖励是 0；
# - 抽到 $y_3$（五次里一次），它说 $-1\cdot(-0.5,\,-0.3,\,0.8)=(0.5,\,0.3,\,-0.8)$。
#
# 平均起来是 $0.5\cdot(0.5,-0.3,-0.2)+0.2\cdot(0.5,0.3,-0.8)=(0.35,\,-0.09,\,-0.26)$，正是 $J$ 的梯度；可没有哪一次抽签指着这个方向。下面在这个例子上核对公式，再放到二十个随机问题上，那里的策略都已离开参考策略。

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
# Add 10 to all rewards. The optimum stays where it was, and so does the gradient; but every draw now shouts "more of this". That the shouts cancel shows only in the mean of very many. The cure is to subtract what was to be expected anyway, a **baseline** $b$, and to call the rest the **advantage**, $A=a-b$. It costs nothing: $\mathbb{E}[b\,\nabla\log\pi]=b\cdot 0$, as long as $b$ does not look at the answer that it judges.
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
# - **REINFORCE** subtracts the mean of the whole batch, all prompts together.
# - **RLOO** draws $K$ answers to a prompt and gives each the mean of the *others* as its baseline: leave one out ([Kool et al. 2019](https://openreview.net/forum?id=r1lgTGL5DE), [Ahmadian et al. 2024](https://arxiv.org/abs/2402.14740)).
# - **GRPO** subtracts the mean of all $K$, the answer itself included, and then divides by the standard deviation of the $K$ ([Shao et al. 2024](https://arxiv.org/abs/2402.03300)).
# - **PPO** trains a second network, the **critic**, to predict it.
#
# Three answers with rewards 2, 1, 0. RLOO: $2-0.5=1.5$, $1-1=0$, $0-1.5=-1.5$. The mean of all three gives 1, 0, -1: two thirds of that. In general, a mean that includes the answer itself takes back one part in $K$, and the gradient is shorter by the factor $1-\frac1K$, in the same direction. Harmless; it is a smaller learning rate. The cell lists all $5^3$ ways to draw three answers, with their probabilities.

# %% [markdown] lang="zh"
# ## 本来就该得多少
# 给所有奖励加 10。最优解不动，梯度也不动，可每一次抽签都在嚷「这样的多来点」。要抽很多很多次取平均，嚷声才抵得掉。办法是先减去本来就该得的，叫**基线**（baseline），记作 $b$；剩下的叫**优势**（advantage），$A=a-b$。减它不费什么：只要 $b$ 不看它要评判的那个回答，$\mathbb{E}[b\,\nabla\log\pi]=b\cdot 0$。
#
# | 奖励 | 基线 | 平均 | 抽一次的方差 |
# |---|---|---|---|
# | 1、0、-1 | 0 | (0.35, -0.09, -0.26) | 0.19 |
# | 1、0、-1 | 0.3 | (0.35, -0.09, -0.26) | 0.25 |
# | 11、10、9 | 0 | (0.35, -0.09, -0.26) | 62.07 |
# | 11、10、9 | 10.3 | (0.35, -0.09, -0.26) | 0.25 |
#
# （方差是三个 logit 的加在一起。）拿平均奖励作基线，好，但不是最好：这里碰巧 0 还略胜一点。它的好处是，奖励里添个常数也无所谓。
#
# 可平均奖励并不知道，只能从抽样里来。各家就在这里分了手：
#
# - **REINFORCE** 减整个批次的平均，所有提示混在一起。
# - **RLOO** 每个提示抽 $K$ 个回答，每个回答的基线是*其余*几个的平均：留一法（leave one out；[Kool et al. 2019](https://openreview.net/forum?id=r1lgTGL5DE)、[Ahmadian et al. 2024](https://arxiv.org/abs/2402.14740)）。
# - **GRPO** 减全部 $K$ 个的平均，连自己也算在内，再除以这 $K$ 个的标准差（[Shao et al. 2024](https://arxiv.org/abs/2402.03300)）。
# - **PPO** 另外训练一个网络来预测它，叫**评论家**（critic）。
#
# 三个回答，奖励 2、1、0。RLOO 给出 $2-0.5=1.5$、$1-1=0$、$0-1.5=-1.5$；减去三个的平均则是 1、0、-1，只有前者的三分之二。一般说来，平均里算上自己，就还回去 $K$ 分之一：梯度方向不变，长度乘上 $1-\frac1K$。这没有害处，等于学习率小一点。下面把抽三个回答的 $5^3$ 种可能连同概率全列出来。

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
axes.set(xlabel="$b$", yscale="log", ylabel=r"$\mathrm{Var}$")
axes.legend()

# %% [markdown] lang="en"
# **Figure 12.1.** The variance of one draw's gradient against the baseline $b$: two reward scales that differ by 10, the same valley. Lines: all draws enumerated. Points: 4,000 draws. Squares: the mean reward as baseline.

# %% [markdown] lang="zh"
# **图 12.1** 抽一次所得梯度的方差，随基线 $b$ 的变化：两套奖励相差 10，谷是同一个谷。曲线：把抽签的可能全列出来算。圆点：抽 4,000 次量出来。方块：拿平均奖励作基线。

# %% [markdown] lang="en"
# ## DPO seen from here
# Let RLOO draw two answers, $y_1$ and $y_2$. Their advantages are $a_1-a_2$ and $a_2-a_1$, so the step it proposes is, up to a factor of 2, $(a_1-a_2)\,\nabla(\log\pi(y_1)-\log\pi(y_2))$. Now write the difference out. The leash's charges are the two log-ratios times $\beta$, and their difference is the margin $h$ of [chapter 7](07_derivation.ipynb):
#
# $$\text{RLOO: }\;\big[(r_1-r_2)-h\big]\;\nabla\log\frac{\pi(y_1)}{\pi(y_2)}\qquad\qquad\text{DPO: }\;\beta\,\big[\sigma(r_1-r_2)-\sigma(h)\big]\;\nabla\log\frac{\pi(y_1)}{\pi(y_2)}.$$
#
# The right side is chapter 7's gradient for a soft Bradley–Terry label $q=\sigma(r_1-r_2)$. The two brackets have the same sign, and they vanish together, where $h$ is the difference of the rewards. DPO *is* a policy gradient, of two answers, with both numbers sent through $\sigma$. What separates it from RLOO is two things: the judge says which answer is better, and not by how much; and **the pairs are drawn once, from the reference**, while RLOO draws new ones from the policy at every step. The second can be changed: DPO on fresh pairs of the policy's own is called *online* DPO ([Guo et al. 2024](https://arxiv.org/abs/2402.04792)). It will run along below, to tell which of the two matters.

# %% [markdown] lang="zh"
# ## 从这里回头看 DPO
# 让 RLOO 抽两个回答，$y_1$ 和 $y_2$。优势是 $a_1-a_2$ 和 $a_2-a_1$，所以它要走的一步，差一个系数 2，就是 $(a_1-a_2)\,\nabla(\log\pi(y_1)-\log\pi(y_2))$。把这个差展开：绳子收的钱是两个对数比乘 $\beta$，相减正是[第 7 章](07_derivation.ipynb)的间隔 $h$：
#
# $$\text{RLOO: }\;\big[(r_1-r_2)-h\big]\;\nabla\log\frac{\pi(y_1)}{\pi(y_2)}\qquad\qquad\text{DPO: }\;\beta\,\big[\sigma(r_1-r_2)-\sigma(h)\big]\;\nabla\log\frac{\pi(y_1)}{\pi(y_2)}$$
#
# 右边是第 7 章的梯度，标签是软的 Bradley–Terry 标签 $q=\sigma(r_1-r_2)$。两个方括号同号，也同时为零：都在 $h$ 等于奖励之差的地方。DPO *就是*策略梯度，一次两个回答，两个数各过一遍 $\sigma$。它同 RLOO 的差别有两处：裁判只说哪个更好，不说好多少；**回答对是从参考策略抽的，只抽一次**，而 RLOO 每一步都从当前的策略重新抽。后一处改得掉：在策略自己新写的回答对上做 DPO，叫*在线*（online）DPO（[Guo et al. 2024](https://arxiv.org/abs/2402.04792)）。下面让它也跑一趟，看看两处里要紧的是哪一处。

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

# %% [markdown] lang="en"
# ## Where the leash is tied
# So far the leash was part of the reward: $A$ came from $a=r-\beta\log(\pi/\pi_{\mathrm{ref}})$. REINFORCE, RLOO and PPO do that. GRPO takes the advantage from $r$ alone and adds a KL term to the loss instead, estimated from the same draws. That is another place, and it matters which estimator stands there. With $d=\log\pi(y)-\log\pi_{\mathrm{ref}}(y)$, [Schulman 2020](http://joschu.net/blog/kl-approx.html) names three: $k_1=d$, $k_2=d^2/2$, $k_3=e^{-d}-1+d$. On draws from $\pi$, $k_1$ and $k_3$ are right on average, and $k_3$ is never negative. But a loss is not read, it is differentiated. The draws stay as they are, so the gradient goes through $d$ alone, and $\nabla d=\nabla\log\pi$:
#
# $$\begin{aligned}\mathbb{E}_{\pi}[\nabla k_1]&=\mathbb{E}_{\pi}[\nabla\log\pi]=0\\\mathbb{E}_{\pi}[\nabla k_2]&=\mathbb{E}_{\pi}[d\,\nabla\log\pi]=\nabla\,\mathrm{KL}(\pi\,\|\,\pi_{\mathrm{ref}})\\\mathbb{E}_{\pi}[\nabla k_3]&=\mathbb{E}_{\pi}\Big[\Big(1-\frac{\pi_{\mathrm{ref}}}{\pi}\Big)\nabla\log\pi\Big]=-\sum_y\pi_{\mathrm{ref}}(y)\,\nabla\log\pi(y)=\nabla\,\mathrm{KL}(\pi_{\mathrm{ref}}\,\|\,\pi).\end{aligned}$$
#
# The unbiased $k_1$ does nothing, the biased $k_2$ pulls as it should, and the $k_3$ that GRPO uses pulls towards the *other* KL ([Tang and Munos 2025](https://arxiv.org/abs/2506.09477); [Liu et al. 2025](https://arxiv.org/abs/2510.01555) call $k_2$ in the loss and $k_1$ in the reward equivalent). Chapter 6 has worked out where that one leads: not to $\pi_{\mathrm{ref}}\,e^{r/\beta}/Z$, but to $\beta\,\pi_{\mathrm{ref}}/(\lambda-r)$. On the example, at $\beta=0.5$: (0.841, 0.116, 0.044) in place of (0.919, 0.075, 0.007).

# %% [markdown] lang="zh"
# ## 绳子拴在哪里
# 到现在为止，绳子是奖励的一部分：$A$ 由 $a=r-\beta\log(\pi/\pi_{\mathrm{ref}})$ 算出。REINFORCE、RLOO、PPO 都这么做。GRPO 的优势只看 $r$，另在损失里加一个 KL 项，用同一批抽样来估计。拴的地方不同，于是用哪个估计量就要紧了。记 $d=\log\pi(y)-\log\pi_{\mathrm{ref}}(y)$，[Schulman 2020](http://joschu.net/blog/kl-approx.html) 列了三个：$k_1=d$，$k_2=d^2/2$，$k_3=e^{-d}-1+d$。用 $\pi$ 抽的样本，$k_1$ 和 $k_3$ 平均起来都对，$k_3$ 还从不为负。可是损失不是拿来读数的，是拿来求导的。样本已经抽定，梯度只从 $d$ 里过，而 $\nabla d=\nabla\log\pi$：
#
# $$\begin{aligned}\mathbb{E}_{\pi}[\nabla k_1]&=\mathbb{E}_{\pi}[\nabla\log\pi]=0\\\mathbb{E}_{\pi}[\nabla k_2]&=\mathbb{E}_{\pi}[d\,\nabla\log\pi]=\nabla\,\mathrm{KL}(\pi\,\|\,\pi_{\mathrm{ref}})\\\mathbb{E}_{\pi}[\nabla k_3]&=\mathbb{E}_{\pi}\Big[\Big(1-\frac{\pi_{\mathrm{ref}}}{\pi}\Big)\nabla\log\pi\Big]=-\sum_y\pi_{\mathrm{ref}}(y)\,\nabla\log\pi(y)=\nabla\,\mathrm{KL}(\pi_{\mathrm{ref}}\,\|\,\pi)\end{aligned}$$
#
# 无偏的 $k_1$ 一点力也不出；有偏的 $k_2$ 拉得正对；GRPO 用的 $k_3$，拉向的是*另一个* KL（[Tang and Munos 2025](https://arxiv.org/abs/2506.09477)；[Liu et al. 2025](https://arxiv.org/abs/2510.01555) 说，损失里放 $k_2$ 同奖励里放 $k_1$ 等价）。那一个通向哪里，第 6 章已经算过：不是 $\pi_{\mathrm{ref}}\,e^{r/\beta}/Z$，而是 $\beta\,\pi_{\mathrm{ref}}/(\lambda-r)$。手算例子里 $\beta=0.5$，停处不是 (0.919, 0.075, 0.007)，而是 (0.841, 0.116, 0.044)。

# %% tags=["proof"]
logps = logits.log_softmax(-1)
pulls = {kind: slope((p * kl_estimate(logps, problem.ref_logps, kind)).sum(-1)) for kind in ("k1", "k2", "k3")}
assert torch.allclose(pulls["k1"], torch.zeros_like(exact))
assert torch.allclose(pulls["k2"], slope(kl(logps, problem.ref_logps)))
assert torch.allclose(pulls["k3"], slope(kl(problem.ref_logps, logps)))
end = other_optimum(problem, beta).exp()  # (20, 5): where k3 in the loss comes to rest
left = problem.reward - beta * (1 - problem.ref_logps.exp() / end)  # what each answer is still pulled by
assert torch.allclose(left, left.mean(-1, keepdim=True))  # the same for all answers: softmax does not move

# %% [markdown] lang="en"
# GRPO's second habit is the division by the standard deviation $s$ of the rewards. Per prompt it multiplies everything but the leash by $1/s$, which is the same direction as leaving the reward alone and multiplying the leash by $s$: **every prompt gets a $\beta$ of its own**, $\beta s$. For a reward of right or wrong with share $p$, $s=\sqrt{p(1-p)}$: half of $\beta$ at $p=0.5$, a tenth at $p=0.99$. The surer the policy, the longer its leash. And the third habit, the mean over an answer's tokens in place of the sum, divides the push on an answer by its length. [Liu et al. 2025](https://arxiv.org/abs/2503.20783) count the last two as biases and leave both out; that is **Dr. GRPO**. It keeps $k_3$.

# %% [markdown] lang="zh"
# GRPO 的第二个习惯，是除以奖励的标准差 $s$。对每个提示，这等于把绳子以外的一切乘上 $1/s$；就方向说，同奖励不动、绳子乘上 $s$ 一样：**每个提示各有各的 $\beta$**，是 $\beta s$。奖励若只分对错，对的比例是 $p$，那么 $s=\sqrt{p(1-p)}$：$p=0.5$ 时 $\beta$ 剩一半，$p=0.99$ 时剩十分之一。策略越有把握，绳子越长。第三个习惯，是对一个回答的词元取平均，不求和：推回答的力，要除以回答的长度。[Liu et al. 2025](https://arxiv.org/abs/2503.20783) 认为后两个都是偏差，两个都去掉，就是 **Dr. GRPO**；$k_3$ 它还留着。

# %% tags=["proof"]
def divided_end(problem, beta):
    """Where k3 in the loss and the division by the standard deviation come to rest together, and that deviation."""
    logps = problem.ref_logps
    for _ in range(100):  # the leash depends on s, and s on where the leash ends: go halfway until nothing moves
        s = (mean(logps, problem.reward.square()) - mean(logps, problem.reward).square()).sqrt()[..., None]
        logps = ((logps.exp() + other_optimum(problem, beta * s).exp()) / 2).log()
    return logps, s


rest, s = divided_end(problem, beta)
divided = (problem.reward - mean(rest, problem.reward)[:, None]) / s  # GRPO's advantages
left = divided - beta * (1 - (problem.ref_logps - rest).exp())
assert torch.allclose(left, left.mean(-1, keepdim=True), atol=1e-6)

# %% [markdown] lang="en"
# We can say where these roads lead in the book's own task, where the population's rates are known. The reward is that of chapter 9, a point for three numbers and a point for the right value, and $\beta=0.25$:

# %% [markdown] lang="zh"
# 在本书的任务里，群体的各种比例都知道，这几条路通到哪里就算得出来。奖励同第 9 章：写三个数得一分，值对得一分，$\beta=0.25$：

# %%
task, REWARD, BETA = BookTask(), "style+exact", 0.25
classes = class_problem(task, REWARD)  # a row a prompt, four classes of answer
often = torch.tensor(list(task.prompt_distribution.values())).double()


def place(class_logps):
    """(mean reward, KL) of a policy over the classes, averaged over the population's prompts."""
    return (often @ mean(class_logps, classes.reward)).item(), (often @ kl(class_logps, classes.ref_logps)).item()


ends = {"base": classes.ref_logps, "rloo": optimal_policy(classes, BETA), "dr_grpo": other_optimum(classes, BETA)}
ends = {name: place(logps) for name, logps in (ends | {"grpo": divided_end(classes, BETA)[0]}).items()}
for name, (reward, spent) in ends.items():
    print(f"{name:8} reward {reward:.3f}  KL {spent:.3f}  J {reward - BETA * spent:.3f}")
assert [f"{r - BETA * k:.3f} {k:.3f}" for r, k in ends.values()] == [
    "1.050 0.000", "1.639 1.256", "1.603 0.855", "1.636 1.283"]  # fmt: skip

# %% [markdown] lang="en"
# The optimum has $J=1.639$ at a KL of 1.256. With $k_3$ in the loss the road ends at 0.855 nats and 1.603: it stops early, because the other KL guards the answers that the reference writes and the policy no longer does. Dividing by $s$ loosens the leash, and in this task the two nearly cancel: 1.636 at 1.283. That is luck. (For a network there is a second gap: GRPO's $k_3$ is taken token by token, on the policy's own prefixes, and that is the turned-round KL of each fork, not of the whole answer. And the mean over tokens is left out here. These are landmarks.)

# %% [markdown] lang="zh"
# 最优解是 $J=1.639$，KL 是 1.256。损失里放 $k_3$，路到 0.855 奈特、1.603 为止：它停得早，因为另一个 KL 护着的，是参考策略会写、而策略已经不写的回答。除以 $s$ 又把绳子放长，在这个任务里两样几乎抵消：1.636，KL 是 1.283。这是运气。（到了网络上还有一层出入：GRPO 的 $k_3$ 是逐个词元、在策略自己写出的前缀上取的，是每个岔口上反过来的 KL，不是整个回答的；对词元取平均这一条，这里也没算进去。所以这几个点只是路标。）

# %% [markdown] lang="en"
# ## Several updates from one draw
# Drawing answers is the dear part, so one would like to take several steps on one batch. After the first step the batch is stale: $\pi$ is no longer the policy that drew it, $\pi_{\mathrm{old}}$. Weighting each answer, or each token, by $\rho=\pi/\pi_{\mathrm{old}}$ makes up for it, as long as $\rho$ stays near 1. PPO ([Schulman et al. 2017](https://arxiv.org/abs/1707.06347), equation 7) sees to that by taking away the reason to leave:
#
# $$\mathcal{L}=-\min\big(\rho A,\;\mathrm{clip}(\rho,\,1-\epsilon,\,1+\epsilon)\,A\big).$$
#
# By hand, with $\epsilon=0.2$. A good answer, $A=1$: at $\rho=1.3$ the minimum of 1.3 and 1.2 is 1.2, a constant; nothing pulls it further up. A bad one, $A=-1$: at $\rho=0.7$ the minimum of -0.7 and -0.8 is -0.8; nothing pushes it further down. But a bad answer that has become *likelier*, $\rho=1.3$, gives the minimum of -1.3 and -1.2, which is -1.3, and is pushed. At $\rho=1$, the first step after drawing, the gradient is $-A\,\nabla\log\pi$ to the last digit: with one update for each draw, PPO's clipping does nothing.

# %% [markdown] lang="zh"
# ## 一批回答，更新几次
# 贵的是抽回答，所以人们想用一批回答多走几步。走了一步，这批就旧了：$\pi$ 不再是当初抽它的那个策略 $\pi_{\mathrm{old}}$。给每个回答（或每个词元）乘上权重 $\rho=\pi/\pi_{\mathrm{old}}$，可以补回来，前提是 $\rho$ 别离 1 太远。PPO（[Schulman et al. 2017](https://arxiv.org/abs/1707.06347) 的式 7）的办法是：让它离远了也捞不到好处。
#
# $$\mathcal{L}=-\min\big(\rho A,\;\mathrm{clip}(\rho,\,1-\epsilon,\,1+\epsilon)\,A\big)$$
#
# 手算，$\epsilon=0.2$。好回答，$A=1$：$\rho=1.3$ 时，1.3 和 1.2 里小的是 1.2，是常数，不再往上拉。坏回答，$A=-1$：$\rho=0.7$ 时，-0.7 和 -0.8 里小的是 -0.8，不再往下推。但坏回答要是反而变*多*了，$\rho=1.3$，-1.3 和 -1.2 里小的是 -1.3，照推不误。在 $\rho=1$ 处，也就是抽完后的第一步，梯度一位不差就是 $-A\,\nabla\log\pi$：一批只更新一次，PPO 的截断什么也没做。

# %% tags=["proof"]
wander = random_policies(INSTANCES, 5, seed=SEED + 2)  # the policy that drew
advantage = net - (p * net).sum(-1, keepdim=True)
for_now = slope((p * clipped_loss(logps, logps.detach(), advantage)).sum(-1))  # drawn by the policy itself
assert torch.allclose(for_now, -exact)
weighted = -slope((wander.exp() * (logps - wander).exp() * advantage).sum(-1))  # drawn by another, weighted by rho
assert torch.allclose(weighted, -exact)

# %% alt_en="Two panels, the loss's surrogate against rho from 0.4 to 1.8, A = 1 left and A = -1 right. Left: a line rising with slope 1 up to rho = 1.2 and flat beyond. Right: flat at -0.8 up to rho = 0.8 and falling with slope -1 beyond. Dotted lines continue the straight line where it is clipped; a dot marks rho = 1 in both." alt_zh="两幅小图，横轴 rho 从 0.4 到 1.8，左边 A = 1，右边 A = -1。左：以斜率 1 上升，到 rho = 1.2 以后变平。右：rho = 0.8 以前平在 -0.8，以后以斜率 -1 下降。截断处用点线接着画原来的直线；圆点标出 rho = 1。"
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
# **Figure 12.2.** What PPO maximises, against the ratio $\rho$, for a good answer and a bad one. It is flat where the answer has already moved far enough in the direction that $A$ asks for, and only there.

# %% [markdown] lang="zh"
# **图 12.2** PPO 最大化的量随比值 $\rho$ 的变化：左为好回答，右为坏回答。只有照 $A$ 要的方向已经走够远的地方才是平的。

# %% [markdown] lang="en"
# PPO's other part is the critic, $V_t$: what is still to come, net, before token $t$. The advantage of a token is then the surprise that it brings, $\delta_t=r_t+V_{t+1}-V_t$, plus the later surprises with weights $\lambda,\lambda^2,\dots$ ([Schulman et al. 2016](https://arxiv.org/abs/1506.02438), equation 16). By hand: three tokens, the reward 1 comes with the last, the critic said 0.5, 0.6, 0.8. The surprises are 0.1, 0.2, 0.2. With $\lambda=0$ they are the advantages; with $\lambda=1$ the advantage is what did come less what the critic said, 0.5, 0.4, 0.2; with $\lambda=0.95$, backwards: $0.2$, $0.2+0.95\cdot 0.2=0.39$, $0.1+0.95\cdot 0.39=0.47$. The critic is a second network beside the policy, trained on the same answers.

# %% [markdown] lang="zh"
# PPO 的另一半是评论家 $V_t$：写第 $t$ 个词元之前，估计后面还能得多少净奖励。一个词元的优势，是它带来的意外 $\delta_t=r_t+V_{t+1}-V_t$，再加上以后的意外，权重依次为 $\lambda,\lambda^2,\dots$（[Schulman et al. 2016](https://arxiv.org/abs/1506.02438) 的式 16）。手算：三个词元，奖励 1 落在最后一个上，评论家说的是 0.5、0.6、0.8。意外是 0.1、0.2、0.2。$\lambda=0$ 时，这就是优势；$\lambda=1$ 时，优势是真正得到的减去评论家说的：0.5、0.4、0.2；$\lambda=0.95$ 时倒着算：$0.2$，$0.2+0.95\cdot 0.2=0.39$，$0.1+0.95\cdot 0.39=0.47$。评论家是策略旁边的第二个网络，用同一批回答训练。

# %%
earned, said = torch.tensor([[0.0, 0, 1]]), torch.tensor([[0.5, 0.6, 0.8]])
for lam, stated in ((0.0, [0.1, 0.2, 0.2]), (0.95, [0.47, 0.39, 0.2]), (1.0, [0.5, 0.4, 0.2])):
    gained, _ = generalised_advantages(earned, said, torch.ones(1, 3), lam=lam)
    print(lam, [round(x, 2) for x in gained[0].tolist()])
    assert [round(x, 2) for x in gained[0].tolist()] == stated

# %% [markdown] lang="en"
# ## One loop, five methods
# What tells the five apart fits into a table; it is the library's own.

# %% [markdown] lang="zh"
# ## 一个循环，五种方法
# 五种方法差在哪里，一张表就装得下；这张表就是库里用的那张。

# %%
print(f"{'':10} {'baseline':14} {'/ std':6} {'leash in':9} {'ratio of':9} {'clip':5}")
for name, how in METHODS.items():
    print(f"{name:10} {how.baseline or 'critic':14} {'yes' if how.scale else '-':6} {'reward' if how.kl_in_reward else 'loss':9}"
          f" {'token' if how.per_token else 'answer':9} {'yes' if how.clipped else '-':5}")  # fmt: skip
assert [name for name, how in METHODS.items() if how.scale] == ["grpo"]
assert [name for name, how in METHODS.items() if not how.kl_in_reward] == ["grpo", "dr_grpo"]

# %% [markdown] lang="en"
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
# We run RLOO, PPO and DPO, each with 9,600 judged answers: RLOO draws 4 answers to 32 prompts for each of 75 updates, PPO 128 answers to as many prompts, DPO 4,800 pairs beforehand, with soft labels.

# %% [markdown] lang="zh"
# 训练循环还是第 3 章写好、第 9 章用过的那一个。它要两样东西：某一步的批次，和一个批次的损失。DPO 的批次来自一列回答对；这里，轮到哪一步，`rl.rollouts` 就用那一刻的策略当场抽。随机数只取决于种子和第几次抽，所以中断了再续，结果每个比特都一样。别的都没变：
#
# ```python
# def batch_at(step):                                   # what rl.rollouts returns, in short
#     prompts = draw_prompts(seed, step)
#     answers = generate(policy, prompts, seed)         # on-policy: from the weights of this moment
#     rewards = judge(prompts, answers)                 # any function of texts
#     return {"input_ids": ..., "old_logps": ..., "advantages": advantages(rewards - leash, baseline)}
# ```
#
# 下面跑 RLOO、PPO 和 DPO，各评判 9,600 个回答：RLOO 更新 75 次，每次 32 个提示、各抽 4 个；PPO 每次 128 个提示、各抽 1 个；DPO 事先抽好 4,800 对，用软标签。

# %% tags=["nbval-ignore-output"]
device = default_device()
base = load_pretrained("gen").to(device)
JUDGED, UPDATES = 9_600, 75
config = LoopConfig(steps=UPDATES, learning_rate=4e-3, optimizer="muon", warmup=10, max_grad_norm=1.0, log_every=15)
exact_judge = rl.checker(task, REWARD)
policies, histories = {}, {}
for method, prompts, answers in (("rloo", 32, 4), ("ppo", 128, 1)):
    policies[method] = policy = copy.deepcopy(base)
    model = rl.ActorCritic(policy) if method == "ppo" else policy
    batches = rl.rollouts(model, base, task, exact_judge, method, beta=BETA, prompts=prompts, answers=answers, seed=12)
    histories[method] = train(model, batches, rl.rl_step(method, beta=BETA), config)
pairs = on_policy_pairs(base, task, JUDGED // 2, reward=REWARD, temperatures=(1.5, 2.0), seed=12)
policies["dpo"] = copy.deepcopy(base)
slower = LoopConfig(steps=UPDATES, learning_rate=2e-3, optimizer="muon", warmup=10, max_grad_norm=1.0, log_every=15)
histories["dpo"] = train(policies["dpo"], pairs.batches(64, 12), dpo_step(BETA), slower)
for entry in histories["rloo"]:
    print({name: round(entry[name], 3) for name in ("step", "reward", "kl", "objective", "clip_ratio")})
assert histories["rloo"][-1]["objective"] > histories["rloo"][0]["objective"] + 0.15
assert all(entry["clip_ratio"] < 1e-6 for name in ("rloo", "ppo") for entry in histories[name])  # one update a draw

# %% tags=["nbval-ignore-output"]
live = {}
for name, policy in ({"base": base} | policies).items():
    found = evaluate(policy, task, n=1_000, seed=13, reference=base)
    live[name] = found["style"].value + found["exact"].value, found["kl"].value
    print(f"{name:5} style {found['style']}  exact {found['exact']}  J {live[name][0] - BETA * live[name][1]:.2f}")
assert all(reward - BETA * spent > 1.15 for name, (reward, spent) in live.items() if name != "base")
best = predicted_optimum(task, REWARD, BETA)
assert all(reward - BETA * spent < ends["rloo"][0] - BETA * ends["rloo"][1] + 0.05 for reward, spent in live.values())

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
# RLOO：另外三个得 1、1、0，平均 2/3，所以 $2-2/3=4/3$。GRPO：四个的平均是 1，差的平方是 1、0、0、1，方差 $2/3$，$1/\sqrt{2/3}=1.22$。
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
# For some prompt the base model says yes with probability 0.3 and no otherwise. Yes earns 1, no earns 0, $\beta=0.5$. (Exercise 9.1 asked for the optimum of the objective; it is 0.76.) What share of yes has a policy that is trained with $k_3$ in its loss, with answers of one token, and without dividing by anything?
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
# 对某个提示，基座答「是」的概率是 0.3，否则答「否」。「是」得 1 分，「否」得 0 分，$\beta=0.5$。（练习 9.1 问的是目标的最优解，是 0.76。）如果用损失里的 $k_3$ 来训练，回答只有一个词元，也不除以任何东西，策略答「是」的比例是多少？
#
# <details><summary>提示</summary>
#
# 两个概率都是 $\beta\,\pi_{\mathrm{ref}}/(\lambda-r)$ 的样子，加起来是 1：这是 $\lambda$ 的一元二次方程。$\lambda$ 比两个奖励都大。
#
# </details>

# %% tags=["exercise"]
answer_12_2 = ...  # a share between 0 and 1
check("12.2", answer_12_2)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# $0.15/(\lambda-1)+0.35/\lambda=1$ gives $\lambda^2-1.5\lambda+0.35=0$, whose larger root is 1.211. The share of yes is $0.15/0.211=0.711$, less than 0.76: the other KL holds back harder from giving up the no.
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
# $0.15/(\lambda-1)+0.35/\lambda=1$ 化成 $\lambda^2-1.5\lambda+0.35=0$，较大的根是 1.211。「是」的比例是 $0.15/0.211=0.711$，不到 0.76：要丢掉「否」，另一个 KL 拦得更紧。
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
# The leash's charge contains `logps`, and yet the advantage is only a number: `.detach()`. The mean of the others is (the sum less the answer itself) over $K-1$.
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
# 绳子收的钱里有 `logps`，但优势只能当作数：`.detach()`。其余几个的平均，等于（总和减去自己）除以 $K-1$。
#
# </details>

# %% tags=["exercise"]
def rloo_loss(logps, ref_logps, rewards, beta):
    ...


check("12.3", rloo_loss)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# If the gradient may flow through the advantage, the leash is pulled twice, the second time in a direction that means nothing.
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
# 要是让梯度从优势里过，绳子就被拉了两次，第二次的方向没有意义。
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
# Figure 12.2: not wherever the ratio is outside the interval.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 12.4 · 谁已经不学了
# ★★☆ · 10 分钟
#
# 一批回答更新了几次，有人想知道 PPO 还在从多少个回答里学。写一个 `stopped(logps, old_logps, advantages, clip)`，返回布尔张量：截断后的损失梯度为零的地方是 `True`。输入的形状都是 `(N,)`，优势都不为 0。
#
# <details><summary>提示</summary>
#
# 看图 12.2：不是比值一出区间就停。
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
# The base model is right in three answers out of four. The judge pays 1 for a right value, but it nods at every other slip, at random, and pays 1 for that as well. $\beta=0.25$. What share of the optimal policy's answers is right?
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
# 基座四个回答里对三个。值对，裁判给 1 分；但遇到失误，他随机地放过一半，也给 1 分。$\beta=0.25$。最优策略的回答里，对的占多少？
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
# A slip earns 1/2 on average. The odds of right against slip are 3 in the base model, and the tilt multiplies them by $e^{(1-0.5)/0.25}=e^2=7.39$: 22.2 to 1, a share of 0.957. With an honest judge it would be $e^4$, and 0.994. Random leniency acts like a shorter leash: the policy stays nearer, and goes the same way.
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
# 失误平均得 1/2。基座里，对与失误的几率是 3；倾斜把它乘上 $e^{(1-0.5)/0.25}=e^2=7.39$，成了 22.2 比 1，占 0.957。裁判若是诚实，乘的就是 $e^4$，占 0.994。随机的宽松好比把绳子收短：策略走得近些，方向没有变。
#
# ```python
# odds = 3 * np.exp((1 - 0.5) / 0.25)
# answer_12_5 = odds / (odds + 1)
# ```
#
# </details>
