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
# > **In this chapter.** You will be able to derive the policy gradient in three lines and to write its loop from nothing; to tell REINFORCE, RLOO, GRPO and PPO apart by what they subtract, divide and clip; to say which KL each of them holds down; and to see what DPO has to do with them. You will know how far each gets with the same number of judged answers, and what happens when the judge can be fooled. You need the objective of [chapter 6](06_objective.ipynb) and DPO on a network from [chapter 9](09_dpo.ipynb). 34 minutes to read, and 20 more for the sections marked ⋆; 35 seconds to run.

# %% [markdown] lang="zh"
# > **本章。** 读完后，你能用三行推出策略梯度，能从零写出它的训练循环；能凭各自减什么、除什么、截什么，分清 REINFORCE、RLOO、GRPO 和 PPO；说得出每一种压低的是哪一个 KL；还看得出 DPO 同它们是什么关系。评判的回答一样多，哪种方法走得多远；裁判要是骗得过去，又会怎样：这些你也会知道。需要[第 6 章](06_objective.ipynb)的目标，和[第 9 章](09_dpo.ipynb)里网络上的 DPO。阅读 34 分钟，带 ⋆ 的几节另需 20 分钟；运行 35 秒。

# %%
import copy
import json
from pathlib import Path

import numpy as np
import torch
from checks import check
from torch.autograd import grad

from dpo_core import BookTask, arms, generate, load_pretrained, rl, use_threads
from dpo_core.evaluation import Estimate, evaluate
from dpo_core.losses import preference_loss, sequence_logps
from dpo_core.plotting import COLORS, INK, figure, picture, points
from dpo_core.policy_gradient import METHODS, advantages, clipped_loss
from dpo_core.policy_gradient import generalised_advantages, kl_estimate, kl_penalty
from dpo_core.preferences import on_policy_pairs
from dpo_core.sampling import TOKENIZER
from dpo_core.steps import dpo_step, rl_step
from dpo_core.tabular import Problem, frontier, kl, mean, objective, optimal_policy
from dpo_core.tabular import other_optimum, random_policies, random_problems
from dpo_core.task import stream
from dpo_core.theory import class_problem, predicted_optimum
from dpo_core.training import LoopConfig, default_device, train

# %% [markdown] lang="en"
# ## Learning from one's own answers
# DPO is given pairs, and learns from them. Reinforcement learning is given no answers at all: the policy writes one, a judge says what it is worth, the policy changes a little, and writes again. Models were first trained on preferences in this way. What does DPO give up?
#
# Draw an answer; make it likelier in proportion to what it earned.
#
# By hand, on the three answers of chapter 6: $\pi_{\mathrm{ref}}=(0.5,\,0.3,\,0.2)$, rewards 1, 0, -1, a logit for each answer, and the policy still at the reference. The logits that make $y$ likelier are those along $\nabla\log\pi(y)$, which is 1 at $y$, minus the probabilities:
#
# | drawn | how often | reward | how the draw moves the three logits |
# |---|---|---|---|
# | $y_1$ | 0.5 | 1 | $1\cdot(0.5,\,-0.3,\,-0.2)$ |
# | $y_2$ | 0.3 | 0 | $0\cdot(-0.5,\,0.7,\,-0.2)$ |
# | $y_3$ | 0.2 | -1 | $-1\cdot(-0.5,\,-0.3,\,0.8)$ |
#
# > **Before you run it.** On average over the draws, $y_1$ goes up and $y_3$ goes down. What happens to $y_2$, which earned nothing?
#
# <details><summary>Answer</summary>
#
# It goes down, by 0.09. Its reward of 0 is less than the 0.3 that an answer earns on average.
#
# </details>

# %% [markdown] lang="zh"
# ## 从自己的回答里学
# DPO 拿到手的是现成的偏好对，照着学。强化学习手里一个回答也没有：策略自己写一个，裁判说它值多少，策略改动一点，接着再写。最早用偏好来训练模型，就是这样做的。DPO 不这样做，放弃了什么？
#
# 整个想法一句话就能说完：抽一个回答，它挣了多少，就按比例把它的概率提高多少。
#
# 手算一遍，还是第 6 章的三个回答：$\pi_{\mathrm{ref}}=(0.5,\,0.3,\,0.2)$，奖励 1、0、-1，每个回答一个 logit，策略还在参考策略处。要让 $y$ 更可能，logits 就沿 $\nabla\log\pi(y)$ 走，它是 $y$ 处的 1 减去各个概率：
#
# | 抽到 | 占多少 | 奖励 | 这一抽让三个 logit 怎么动 |
# |---|---|---|---|
# | $y_1$ | 0.5 | 1 | $1\cdot(0.5,\,-0.3,\,-0.2)$ |
# | $y_2$ | 0.3 | 0 | $0\cdot(-0.5,\,0.7,\,-0.2)$ |
# | $y_3$ | 0.2 | -1 | $-1\cdot(-0.5,\,-0.3,\,0.8)$ |
#
# > **先猜一猜。** 各次抽取平均下来，$y_1$ 升，$y_3$ 降。$y_2$ 什么也没挣到，它会怎样？
#
# <details><summary>答案</summary>
#
# 它降 0.09。它的奖励是 0，而一个回答平均能挣 0.3。
#
# </details>

# %% tags=["setup"]
SEED = 0
INSTANCES = 20  # random problems, wherever an identity is checked
toy_p = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
toy = Problem(toy_p.log(), torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64))
toy_push = torch.eye(3).double() - toy_p  # row y: the gradient of log pi(y)

# %%
said = toy.reward[:, None] * toy_push  # what each draw says
print((said + 0).numpy().round(3), (toy_p @ said).numpy().round(3), sep="\n")
assert np.allclose(said, [[0.5, -0.3, -0.2], [0, 0, 0], [0.5, 0.3, -0.8]])
assert np.allclose(toy_p @ said, [0.35, -0.09, -0.26])

# %% [markdown] lang="en"
# The mean is $(0.35,\,-0.09,\,-0.26)$, and no single draw points there. Is it the way up for the objective of chapter 6 (equation 6.1)? With parameters $\theta$ behind $\pi$, and the log-ratio $\Delta(y)=\log\pi(y)-\log\pi_{\mathrm{ref}}(y)$,
#
# $$J(\pi)=\sum_y\pi(y)\,a(y),\qquad a(y)=r(y)-\beta\,\Delta(y).$$
#
# Call $a(y)$ the **net reward**: what the answer earns, less its KL penalty. Now the *product rule*. In the first sum *write* $\nabla\pi$ as $\pi\,\nabla\log\pi$; in the second, $\nabla a$ is $-\beta\,\nabla\log\pi$:
#
# $$\nabla J=\sum_y a(y)\,\nabla\pi(y)+\sum_y\pi(y)\,\nabla a(y)=\sum_y\pi(y)\,a(y)\,\nabla\log\pi(y)-\beta\sum_y\pi(y)\,\nabla\log\pi(y).$$
#
# The last sum is $\sum_y\nabla\pi(y)=\nabla\sum_y\pi(y)=\nabla 1=0$. What is left is a mean over the policy's own answers:
#
# $$\nabla J=\mathbb{E}_{y\sim\pi}\big[a(y)\,\nabla\log\pi(y)\big].$$
#
# This is the **policy gradient**, and estimating it from draws is REINFORCE ([Williams 1992](https://doi.org/10.1007/BF00992696)). Nobody differentiates the judge, so the judge may be a program or a person. On the toy $\Delta=0$, so autograd on $J$ should find the table's mean:

# %% [markdown] lang="zh"
# 平均是 $(0.35,\,-0.09,\,-0.26)$，可没有哪一次抽到的指着这个方向。对第 6 章的目标（式 6.1）来说，这是上坡吗？$\pi$ 背后的参数记作 $\theta$，对数比记作 $\Delta(y)=\log\pi(y)-\log\pi_{\mathrm{ref}}(y)$：
#
# $$J(\pi)=\sum_y\pi(y)\,a(y),\qquad a(y)=r(y)-\beta\,\Delta(y)$$
#
# 把 $a(y)$ 叫做**净奖励**（net reward）：这个回答挣到的奖励，减去 KL 惩罚扣掉的那部分。接着*用乘积求导法则*。第一个和里，把 $\nabla\pi$ *写成* $\pi\,\nabla\log\pi$；第二个和里，$\nabla a$ 就是 $-\beta\,\nabla\log\pi$：
#
# $$\nabla J=\sum_y a(y)\,\nabla\pi(y)+\sum_y\pi(y)\,\nabla a(y)=\sum_y\pi(y)\,a(y)\,\nabla\log\pi(y)-\beta\sum_y\pi(y)\,\nabla\log\pi(y)$$
#
# 最后那个和是 $\sum_y\nabla\pi(y)=\nabla\sum_y\pi(y)=\nabla 1=0$。剩下的，是对策略自己的回答取平均：
#
# $$\nabla J=\mathbb{E}_{y\sim\pi}\big[a(y)\,\nabla\log\pi(y)\big]$$
#
# 这就是**策略梯度**（policy gradient）；抽几个回答来估计它，就是 REINFORCE（[Williams 1992](https://doi.org/10.1007/BF00992696)）。谁也不用对裁判求导，所以裁判可以是程序，也可以是人。手算例子出发时 $\Delta=0$，$a=r$，所以对 $J$ 自动求导，得到的应当就是上表的平均：

# %%
toy_logits = toy_p.log().requires_grad_()
uphill = grad(objective(toy_logits.log_softmax(-1), toy, 0.5), toy_logits)[0]
print(uphill.numpy().round(3))
assert torch.allclose(uphill, toy_p @ said)

# %% tags=["proof"] checked_en="Checked on 20 random problems of 5 answers, the policies away from their references: the mean over draws is the gradient of J." checked_zh="在 20 个随机问题上验证：各 5 个回答，策略都已离开参考策略，各次抽取的平均就是 J 的梯度。"
many = random_problems(INSTANCES, 5, SEED)
p_logits = random_policies(INSTANCES, 5, seed=SEED + 1).requires_grad_()
strength = torch.linspace(0.2, 2.0, INSTANCES).double()[:, None]  # a beta each
logps = p_logits.log_softmax(-1)  # (20, 5)
p = logps.detach().exp()
net = many.reward - strength * (p.log() - many.ref_logps)
push = torch.eye(5).double() - p[:, None]  # (20, 5, 5): row y is that of log pi(y)


def slope(values):
    """The gradient of each problem's value, (20,), by its logits, (20, 5)."""
    return grad(values.sum(), p_logits, retain_graph=True)[0]


climb = slope(objective(logps, many, strength[:, 0]))
assert torch.allclose((p[..., None] * net[..., None] * push).sum(1), climb)

# %% [markdown] lang="en"
# ## What was to be expected
# > **Before you run it.** Add 10 to all three rewards. What changes in the gradient of $J$? What changes in a single draw?
#
# <details><summary>Answer</summary>
#
# The gradient stays as it is. But every draw now shouts "more of this", and only in the mean of very many do the shouts cancel.
#
# </details>
#
# The cure is to subtract what was to be expected anyway, a **baseline** $b$, and to call the rest the **advantage**, $A=a-b$. It brings no bias: $\mathbb{E}[b\,\nabla\log\pi]=b\cdot 0$, as long as $b$ does not look at the answer that it judges.
#
# | rewards | baseline | variance of one draw |
# |---|---|---|
# | 1, 0, -1 | 0 | 0.19 |
# | 1, 0, -1 | 0.3 | 0.25 |
# | 11, 10, 9 | 0 | 62.07 |
# | 11, 10, 9 | 10.3 | 0.25 |
#
# (Summed over the three logits; the mean is the same in all rows.) The mean reward is a good baseline, not the best: here 0 is a little better.

# %% [markdown] lang="zh"
# ## 本来就能拿到多少
# > **先猜一猜。** 给三个奖励都加上 10。$J$ 的梯度变不变？单独一次抽取呢？
#
# <details><summary>答案</summary>
#
# 梯度不变。可是不管抽到哪个回答，得到的都是「这样的多来点」；要抽很多很多次取平均，这些呼声才抵消得掉。
#
# </details>
#
# 办法是先减去本来就能拿到的那部分，它叫**基线**（baseline），记作 $b$；剩下的叫**优势**（advantage），$A=a-b$。减去基线不带来偏差：只要 $b$ 不看它要评判的那个回答，就有 $\mathbb{E}[b\,\nabla\log\pi]=b\cdot 0$。
#
# | 奖励 | 基线 | 抽一次的方差 |
# |---|---|---|
# | 1、0、-1 | 0 | 0.19 |
# | 1、0、-1 | 0.3 | 0.25 |
# | 11、10、9 | 0 | 62.07 |
# | 11、10、9 | 10.3 | 0.25 |
#
# （方差是三个 logit 上的方差之和；平均在四行里都一样。）拿平均奖励作基线，不错，但不是最好：这里 0 还略胜一点。


# %%
def variance(rewards, b):
    """The variance of one draw, summed over the logits, and its mean."""
    one = (rewards - b)[:, None] * toy_push
    middle = toy_p @ one
    return (toy_p @ one.square()).sum() - middle.square().sum(), middle


for shift, b, told in ((0, 0, 0.19), (0, 0.3, 0.25), (10, 0, 62.07), (10, 10.3, 0.25)):
    spread, middle = variance(toy.reward + shift, b)
    print(f"{shift:3}{b:6}{spread.item():8.2f}  ", middle.numpy().round(2))
    assert round(spread.item(), 2) == told
    assert np.allclose(middle, [0.35, -0.09, -0.26])


# %% tags=["figure"] alt_en="Variance of one draw against the baseline, from -3 to 13, on a logarithmic scale. Two valleys of the same shape: the first, for rewards 1, 0, -1, is lowest near 0; the second, for rewards 11, 10, 9, near 10. Squares mark the mean rewards 0.3 and 10.3, a little right of the lowest points. Round measured points lie on both curves. At a baseline of 0 the second curve stands at 62." alt_zh="抽一次的方差随基线的变化，基线从 -3 到 13，纵轴为对数刻度。两个形状相同的谷：第一个是奖励 1、0、-1，最低处在 0 附近；第二个是奖励 11、10、9，在 10 附近。方块标出平均奖励 0.3 和 10.3，在最低处略偏右。圆点是测量值，落在两条曲线上。基线为 0 时，第二条曲线高达 62。"
@picture
def valleys(say):
    fig, axes = figure(height=3.2)
    generator = torch.Generator().manual_seed(SEED)
    at = torch.linspace(-3, 13, 161).tolist()
    for shift, color, word in (
        (0, "policy", say("rewards 1, 0, -1", "奖励 1、0、-1")),
        (10, "rejected", say("rewards 11, 10, 9", "奖励 11、10、9")),
    ):
        rewards, ink = toy.reward + shift, {"color": COLORS[color]}
        axes.plot(at, [variance(rewards, b)[0] for b in at], **ink)
        axes.plot(0.3 + shift, variance(rewards, 0.3 + shift)[0], "s", **ink)
        seen = torch.multinomial(toy_p, 4_000, replacement=True, generator=generator)
        for b in range(-2, 13, 2):
            draws = (rewards - b)[:, None] * toy_push
            axes.plot(b, draws[seen].var(0).sum(), "o", markersize=4, **ink)
        axes.text(shift + 0.3, 0.1, word, ha="center", va="top", fontsize=10, **ink)
    note = say(
        "line: all draws counted\npoints: 4,000 draws\nsquare: the mean reward",
        "曲线：全部列出来算\n圆点：抽 4,000 次\n方块：减去平均奖励",
    )
    axes.text(3.2, 0.3, note, fontsize=10, color=INK, linespacing=1.3)
    axes.set(yscale="log", ylim=(0.06, 200))
    axes.set_xlabel(say("baseline that is subtracted", "减去的基线"))
    axes.set_ylabel(say("variance of one draw", "抽一次的方差"))


# %% [markdown] lang="en"
# **Figure 12.1.** The variance of one draw's gradient. The mean reward as baseline comes close to the lowest point.

# %% [markdown] lang="zh"
# **图 12.1** 抽一次所得梯度的方差。以平均奖励为基线，离最低点已经不远。

# %% [markdown] lang="en"
# The mean reward is not known, though. It has to be estimated, and there the methods part. Three answers to one prompt have earned 2, 1 and 0:
#
# | method | what it subtracts | advantages |
# |---|---|---|
# | REINFORCE | the mean of the whole batch, all prompts together | depends on the batch |
# | RLOO: leave one out ([Kool et al. 2019](https://openreview.net/forum?id=r1lgTGL5DE), [Ahmadian et al. 2024](https://arxiv.org/abs/2402.14740)) | the mean of the *other* answers to the prompt | 1.5, 0, -1.5 |
# | GRPO ([Shao et al. 2024](https://arxiv.org/abs/2402.03300)) | the mean of all answers to the prompt; then it divides by their standard deviation, here 1 | 1, 0, -1 |
# | PPO | what a second network, the **critic**, predicts | depends on the critic |
#
# With the answer itself in a mean of $K$, the gradient keeps its direction and is shorter by the factor $1-\frac1K$. The first three in code:

# %% [markdown] lang="zh"
# 可平均奖励是未知的，只能估计；几种方法的分别，就在怎样估计。设同一个提示的三个回答得 2、1、0 分：
#
# | 方法 | 减去什么 | 优势 |
# |---|---|---|
# | REINFORCE | 整个批次的平均，所有提示混在一起 | 看批次而定 |
# | RLOO，即留一法（leave one out；[Kool et al. 2019](https://openreview.net/forum?id=r1lgTGL5DE)、[Ahmadian et al. 2024](https://arxiv.org/abs/2402.14740)） | 同一个提示*其余*几个回答的平均 | 1.5、0、-1.5 |
# | GRPO（[Shao et al. 2024](https://arxiv.org/abs/2402.03300)） | 同一个提示全部回答的平均；再除以它们的标准差，这里是 1 | 1、0、-1 |
# | PPO | 另一个网络的预测，网络叫**评论家**（critic） | 看评论家而定 |
#
# $K$ 个回答的平均里算上自己，梯度的方向不变，长度乘上 $1-\frac1K$。前三种写成代码：


# %% tags=["setup"]
def advantages_by_hand(rewards, baseline):
    """(G, K) rewards of K answers to each of G prompts, less their baselines."""
    if baseline == "batch":
        return rewards - rewards.mean()
    total, K = rewards.sum(1, keepdim=True), rewards.shape[1]
    if baseline == "leave_one_out":
        return rewards - (total - rewards) / (K - 1)
    return rewards - total / K


earned = torch.tensor([[2.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
for baseline in ("batch", "leave_one_out", "group"):
    ours = advantages_by_hand(earned, baseline)
    print(f"{baseline:14}", *ours.numpy().round(2))
    assert torch.allclose(ours, advantages(earned, baseline))  # the library's
assert advantages(earned[:1], "leave_one_out").tolist() == [[1.5, 0, -1.5]]
divided = advantages(earned[:1], "group", scale=True)
assert np.allclose(divided, [[1, 0, -1]], atol=1e-3)

# %% tags=["proof"] checked_en="Checked on 20 random problems, all 125 ways to draw 3 answers: leaving one out has no bias; a mean that includes the answer itself shortens the gradient to 1 - 1/K." checked_zh="在 20 个随机问题上验证：把抽 3 个回答的 125 种可能全列出来，留一法无偏；平均里算上自己，梯度缩短为 1 - 1/K 倍。"
triples = torch.cartesian_prod(*[torch.arange(5)] * 3)  # (125, 3): all draws
chance = p[:, triples].prod(-1)  # (20, 125)
drawn = net[:, triples]  # (20, 125, 3)
for baseline, factor in (("leave_one_out", 1), ("group", 1 - 1 / 3)):
    A = advantages_by_hand(drawn.flatten(0, 1), baseline).view_as(drawn)
    expected = (chance[..., None] * (A[..., None] * push[:, triples]).mean(-2)).sum(1)
    assert torch.allclose(expected, factor * climb)

# %% [markdown] lang="en"
# ## DPO seen from here
# Let RLOO draw two answers. Their advantages are $a_1-a_2$ and $a_2-a_1$, so the step that it proposes is, up to a factor of 2, $(a_1-a_2)\,\nabla(\log\pi(y_1)-\log\pi(y_2))$. Write the difference out: the two KL penalties are $\beta\,\Delta(y_1)$ and $\beta\,\Delta(y_2)$, and what lies between them is the reward margin $h$ of [chapter 7](07_derivation.ipynb). Beside it, chapter 7's gradient (equation 7.8) for a soft Bradley–Terry label $\sigma(r_1-r_2)$:
#
# $$\text{RLOO: }\;\big[(r_1-r_2)-h\big]\;\nabla\log\frac{\pi(y_1)}{\pi(y_2)}\qquad\qquad\text{DPO: }\;\beta\,\big[\sigma(r_1-r_2)-\sigma(h)\big]\;\nabla\log\frac{\pi(y_1)}{\pi(y_2)}.$$
#
# The two brackets have the same sign, and they vanish together, where $h$ is the difference of the rewards. **Pair by pair, DPO pushes where RLOO on two answers pushes, and stops where it stops.**
#
# How hard it pushes is another matter. On the toy, with $h=0$ at the start, the pair $y_1,y_3$ has the bracket 2 in RLOO and $\sigma(2)-\sigma(0)=0.38$ in DPO; the pair $y_1,y_2$ has 1 and 0.23. $\sigma$ flattens large differences. So, away from the optimum, the mean over all pairs points a little elsewhere.
#
# A second thing separates them. **DPO's pairs are drawn once, beforehand**; RLOO draws new answers from the policy at every step. That can be changed: DPO on fresh pairs of the policy's own is *online* DPO ([Guo et al. 2024](https://arxiv.org/abs/2402.04792)). It will run along below, to tell what stored pairs cost. (People as judges add a third: they do not say by how much an answer is better. Our soft labels do.)

# %% [markdown] lang="zh"
# ## 从这里回头看 DPO
# 让 RLOO 抽两个回答。优势是 $a_1-a_2$ 和 $a_2-a_1$，所以它要走的一步，不计系数 2，就是 $(a_1-a_2)\,\nabla(\log\pi(y_1)-\log\pi(y_2))$。把这个差展开：KL 惩罚各扣 $\beta\,\Delta(y_1)$ 和 $\beta\,\Delta(y_2)$，两者相减，正是[第 7 章](07_derivation.ipynb)的奖励间隔 $h$。旁边放上第 7 章的梯度（式 7.8），标签取 Bradley–Terry 软标签 $\sigma(r_1-r_2)$：
#
# $$\text{RLOO: }\;\big[(r_1-r_2)-h\big]\;\nabla\log\frac{\pi(y_1)}{\pi(y_2)}\qquad\qquad\text{DPO: }\;\beta\,\big[\sigma(r_1-r_2)-\sigma(h)\big]\;\nabla\log\frac{\pi(y_1)}{\pi(y_2)}$$
#
# 两个方括号同号，也同时为零：都在 $h$ 等于奖励之差的地方。**一对一对地看，只抽两个回答的 RLOO 往哪边推，DPO 就往哪边推；它停在哪里，DPO 也停在哪里。**
#
# 推多大力，两者却不一样。在手算例子里，出发时 $h=0$：$y_1,y_3$ 这一对，RLOO 的方括号是 2，DPO 的是 $\sigma(2)-\sigma(0)=0.38$；$y_1,y_2$ 这一对，是 1 和 0.23。差值一大，就被 $\sigma$ 压平。所以没到最优解时，对所有偏好对取平均，方向会略有不同。
#
# 还有一处差别。**DPO 的偏好对是事先抽好的，只抽一次**；RLOO 每一步都从当前的策略重新抽。这一处可以改：在策略自己新写的偏好对上做 DPO，叫*在线*（online）DPO（[Guo et al. 2024](https://arxiv.org/abs/2402.04792)）。下面让它也跑一趟，看看事先抽好的偏好对到底亏多少。（裁判若是人，还有第三处：人只说哪个更好，不说好多少；我们的软标签却说了。）

# %%
toy_gap = toy.reward[:, None] - toy.reward  # (3, 3): the differences of the rewards
brackets = toy_gap.sigmoid() - 0.5  # DPO's, at the start, where h is 0
print(f"{'pair':6}{'RLOO':>6}{'DPO':>7}")
for one, other in ((0, 2), (0, 1), (1, 2)):
    print(
        f"{one + 1}, {other + 1}{toy_gap[one, other]:8.2f}{brackets[one, other]:7.2f}"
    )
assert [f"{brackets[0, k]:.2f}" for k in (2, 1)] == ["0.38", "0.23"]
apart = toy_push[:, None] - toy_push  # (3, 3, 3)
mean_push = ((toy_p[:, None] * toy_p * brackets)[..., None] * apart).sum((0, 1))
print(mean_push.numpy().round(3), uphill.numpy().round(3))
parts = mean_push / uphill  # all the same, if the two had one direction
assert parts.min() < 0.41 and parts.max() > 0.46

# %% tags=["proof"] checked_en="Checked on 20 random problems, all pairs of answers: RLOO's two advantages, DPO's gradient by autograd, and that the brackets agree in sign." checked_zh="在 20 个随机问题上验证：取遍所有样本对，RLOO 的两个优势，自动求导得到的 DPO 梯度，以及两个方括号同号。"
one, other = torch.cartesian_prod(torch.arange(5), torch.arange(5)).unbind(-1)
weight = p[:, one] * p[:, other]  # (20, 25): both drawn from the policy
log_ratio = logps - many.ref_logps
h = strength * (log_ratio[:, one] - log_ratio[:, other])
gap = many.reward[:, one] - many.reward[:, other]
moves = push[:, one] - push[:, other]  # (20, 25, 5)
assert torch.allclose(net[:, one] - net[:, other], gap - h)
rloo_mean = (weight[..., None] * (gap - h)[..., None] * moves).sum(1) / 2
assert torch.allclose(rloo_mean, climb)
scaled = (strength * logps, strength * many.ref_logps)  # a beta each
four = [part[:, side].flatten() for part in scaled for side in (one, other)]
labels = {"beta": 1.0, "preference_prob": gap.sigmoid().flatten()}
dpo_losses = preference_loss(*four, **labels)[0].view(INSTANCES, 25)
push_of_dpo = strength[..., None] * (weight * (gap.sigmoid() - h.sigmoid()))[..., None]
descent = -(push_of_dpo * moves).sum(1)
assert torch.allclose(slope((weight * dpo_losses).sum(-1)), descent)
assert torch.equal((gap - h).sign(), (gap.sigmoid() - h.sigmoid()).sign())

# %% [markdown] lang="en"
# ## Where the leash is tied
# So far the leash was part of the reward: the advantage came from $a=r-\beta\,\Delta$. REINFORCE, RLOO and PPO do that. GRPO takes the advantage from $r$ alone and adds a KL term to the loss, estimated from the same draws. There it matters which estimate one takes.
#
# [Schulman 2020](http://joschu.net/blog/kl-approx.html) names three, from the $\Delta$ of the answer that was drawn: $k_1=\Delta$, $k_2=\Delta^2/2$, $k_3=e^{-\Delta}-1+\Delta$. On draws from $\pi$, $k_1$ and $k_3$ are right on average, and $k_3$ is never negative. GRPO, as [Shao et al. 2024](https://arxiv.org/abs/2402.03300) wrote it down, takes $k_3$. DeepSeek-V3.2 ([DeepSeek-AI 2025](https://arxiv.org/abs/2512.02556), section 3.1) multiplies it by $\rho=\pi/\pi_{\mathrm{old}}$, the ratio to the policy that drew the answer, and so does TRL 1.16 unless told not to. On fresh answers $\rho=1$: the two terms have the same value.
#
# By hand: let the toy's policy have moved to $(0.7,\,0.2,\,0.1)$. The KL to the reference is 0.085, and along its gradient, $(0.176,\,-0.098,\,-0.078)$, the leash should pull.
#
# > **Before you run it.** The draws stay as they are; the gradient goes through $\Delta$ and $\rho$ alone. Which of the four terms, $k_1$, $k_2$, $k_3$ and $\rho\,k_3$, pulls as it should? Does one not pull at all?
#
# <details><summary>Answer</summary>
#
# $k_2$ and $\rho\,k_3$ pull as they should. $k_1$, whose value is right, does not pull at all. And $k_3$ pulls along $\pi-\pi_{\mathrm{ref}}$, which is another direction.
#
# </details>

# %% [markdown] lang="zh"
# ## 绳子拴在哪里
# 前面，绳子一直算在奖励里：优势由 $a=r-\beta\,\Delta$ 算出。REINFORCE、RLOO、PPO 都这么做。GRPO 的优势只看 $r$，另在损失里加一个 KL 项，用同一批回答来估计。用哪个估计量，这时就要紧了。
#
# [Schulman 2020](http://joschu.net/blog/kl-approx.html) 列了三个，都由所抽回答的 $\Delta$ 算出：$k_1=\Delta$，$k_2=\Delta^2/2$，$k_3=e^{-\Delta}-1+\Delta$。用 $\pi$ 抽的样本，$k_1$ 和 $k_3$ 平均起来都对，$k_3$ 还从不为负。[Shao et al. 2024](https://arxiv.org/abs/2402.03300) 写下的 GRPO 用的是 $k_3$。DeepSeek-V3.2（[DeepSeek-AI 2025](https://arxiv.org/abs/2512.02556) 的 3.1 节）再给它乘上 $\rho=\pi/\pi_{\mathrm{old}}$，即策略与当初抽这个回答的策略之比；TRL 1.16 也乘，除非另行关掉。回答是刚抽的，$\rho=1$，两项的值就一样。
#
# 手算：让例子里的策略移到 $(0.7,\,0.2,\,0.1)$。它到参考策略的 KL 是 0.085；这个 KL 的梯度是 $(0.176,\,-0.098,\,-0.078)$，绳子就该沿着它往回拉。
#
# > **先猜一猜。** 样本已经抽定，梯度只从 $\Delta$ 和 $\rho$ 里过。$k_1$、$k_2$、$k_3$、$\rho\,k_3$ 四项里，哪些拉得对？有没有一点也不拉的？
#
# <details><summary>答案</summary>
#
# $k_2$ 和 $\rho\,k_3$ 拉得对。$k_1$ 的值是对的，却一点也不拉。$k_3$ 沿 $\pi-\pi_{\mathrm{ref}}$ 拉，那是另一个方向。
#
# </details>

# %% tags=["setup"]
moved_p = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
moved_logits = moved_p.log().requires_grad_()


def estimates(logps, old_logps, ref_logps):
    """The four terms, an answer each; the formulas as they stand in the text."""
    delta, rho = logps - ref_logps, (logps - old_logps).exp()
    k3 = (-delta).exp() - 1 + delta
    return {"k1": delta, "k2": delta**2 / 2, "k3": k3, "ratio_k3": rho * k3}


here = moved_logits.log_softmax(-1)
pulls, values = {}, {}
for name, term in estimates(here, here.detach(), toy.ref_logps).items():
    value = (moved_p * term).sum()  # the mean over draws, which stay as they are
    pulls[name] = grad(value, moved_logits, retain_graph=True)[0].numpy().round(3) + 0
    values[name] = round(value.item(), 3)
    print(f"{name:9} value {values[name]:.3f}  pull", pulls[name])
assert values["k1"] == values["k3"] == values["ratio_k3"] == 0.085
assert np.allclose(pulls["k1"], 0) and np.allclose(pulls["k3"], moved_p - toy_p)
right_pull = grad(kl(here, toy.ref_logps), moved_logits)[0].numpy().round(3)
assert np.allclose(right_pull, [0.176, -0.098, -0.078])
assert np.allclose(pulls["k2"], right_pull)
assert np.allclose(pulls["ratio_k3"], right_pull)

# %% [markdown] lang="en"
# A loss is not read, it is differentiated. By the policy gradient with $r=0$, $\mathbb{E}_{\pi}[\Delta\,\nabla\log\pi]$ is the gradient of $\mathrm{KL}(\pi\,\|\,\pi_{\mathrm{ref}})$. With $\nabla\Delta=\nabla\log\pi$, and where $\rho=1$ also $\nabla\rho=\nabla\log\pi$, the lines are short; the last one is the *product rule*, $k_3\,\nabla\rho+\rho\,\nabla k_3$, in which the exponentials cancel:
#
# $$\begin{aligned}\mathbb{E}_{\pi}[\nabla k_1]&=\mathbb{E}_{\pi}[\nabla\log\pi]=0\\\mathbb{E}_{\pi}[\nabla k_2]&=\mathbb{E}_{\pi}[\Delta\,\nabla\log\pi]=\nabla\,\mathrm{KL}(\pi\,\|\,\pi_{\mathrm{ref}})\\\mathbb{E}_{\pi}[\nabla k_3]&=\mathbb{E}_{\pi}\Big[\Big(1-\frac{\pi_{\mathrm{ref}}}{\pi}\Big)\nabla\log\pi\Big]=-\sum_y\pi_{\mathrm{ref}}(y)\,\nabla\log\pi(y)=\nabla\,\mathrm{KL}(\pi_{\mathrm{ref}}\,\|\,\pi)\\\mathbb{E}_{\pi}[\nabla(\rho\,k_3)]&=\mathbb{E}_{\pi}\Big[\Big(k_3+1-\frac{\pi_{\mathrm{ref}}}{\pi}\Big)\nabla\log\pi\Big]=\mathbb{E}_{\pi}[\Delta\,\nabla\log\pi]=\nabla\,\mathrm{KL}(\pi\,\|\,\pi_{\mathrm{ref}}).\end{aligned}$$
#
# So $k_3$ alone holds down the KL turned round, chapter 6's forward KL, and a factor that is 1 turns it back. On the toy at $\beta=0.5$ the difference is an end at $(0.841,\,0.116,\,0.044)$ in place of $(0.919,\,0.075,\,0.007)$: the KL turned round will not let an answer go. ([Kezhao Liu et al. 2025](https://arxiv.org/abs/2510.01555) call $k_2$ in the loss and $k_1$ in the reward equivalent, on fresh answers.)

# %% [markdown] lang="zh"
# 损失不是拿来读数的，是拿来求导的。在策略梯度里令 $r=0$，就知道 $\mathbb{E}_{\pi}[\Delta\,\nabla\log\pi]$ 是 $\mathrm{KL}(\pi\,\|\,\pi_{\mathrm{ref}})$ 的梯度。又有 $\nabla\Delta=\nabla\log\pi$；在 $\rho=1$ 处，$\nabla\rho$ 也等于 $\nabla\log\pi$。几行就算完了，最后一行*用乘积求导法则*，$k_3\,\nabla\rho+\rho\,\nabla k_3$，指数项正好消去：
#
# $$\begin{aligned}\mathbb{E}_{\pi}[\nabla k_1]&=\mathbb{E}_{\pi}[\nabla\log\pi]=0\\\mathbb{E}_{\pi}[\nabla k_2]&=\mathbb{E}_{\pi}[\Delta\,\nabla\log\pi]=\nabla\,\mathrm{KL}(\pi\,\|\,\pi_{\mathrm{ref}})\\\mathbb{E}_{\pi}[\nabla k_3]&=\mathbb{E}_{\pi}\Big[\Big(1-\frac{\pi_{\mathrm{ref}}}{\pi}\Big)\nabla\log\pi\Big]=-\sum_y\pi_{\mathrm{ref}}(y)\,\nabla\log\pi(y)=\nabla\,\mathrm{KL}(\pi_{\mathrm{ref}}\,\|\,\pi)\\\mathbb{E}_{\pi}[\nabla(\rho\,k_3)]&=\mathbb{E}_{\pi}\Big[\Big(k_3+1-\frac{\pi_{\mathrm{ref}}}{\pi}\Big)\nabla\log\pi\Big]=\mathbb{E}_{\pi}[\Delta\,\nabla\log\pi]=\nabla\,\mathrm{KL}(\pi\,\|\,\pi_{\mathrm{ref}})\end{aligned}$$
#
# 可见单用 $k_3$，压低的是方向相反的那个 KL，即第 6 章的正向 KL；乘上一个等于 1 的因子，方向就正了过来。在手算例子里取 $\beta=0.5$，前者最后停在 $(0.841,\,0.116,\,0.044)$，而不是 $(0.919,\,0.075,\,0.007)$：方向相反的 KL，哪个回答都不肯放手。（[Kezhao Liu et al. 2025](https://arxiv.org/abs/2510.01555) 说，回答是现抽的话，损失里放 $k_2$ 同奖励里放 $k_1$ 等价。）

# %%
for solve, told in (
    (other_optimum, [0.841, 0.116, 0.044]),
    (optimal_policy, [0.919, 0.075, 0.007]),
):
    rest = solve(toy, 0.5).exp()
    print(f"{solve.__name__:15}", rest.numpy().round(3))
    assert np.allclose(rest, told, atol=5e-4)

# %% tags=["proof"] checked_en="Checked on 20 random problems: the four pulls, the library's terms, and that the KL turned round is at rest where chapter 6 says." checked_zh="在 20 个随机问题上验证：四项的拉力，库里的几个函数，以及方向相反的 KL 停在第 6 章所说的地方。"
found = {}
for name, term in estimates(logps, logps.detach(), many.ref_logps).items():
    found[name] = slope((p * term).sum(-1))
    if name != "ratio_k3":
        assert torch.allclose(term, kl_estimate(logps, many.ref_logps, name))
assert torch.allclose(found["k1"], torch.zeros_like(climb))
assert torch.allclose(found["k2"], slope(kl(logps, many.ref_logps)))
assert torch.allclose(found["k3"], slope(kl(many.ref_logps, logps)))
assert torch.allclose(found["ratio_k3"], found["k2"])
theirs = kl_penalty(logps, logps.detach(), many.ref_logps, "ratio_k3")
assert torch.allclose(slope((p * theirs).sum(-1)), found["k2"])
rests = other_optimum(many, strength).exp()
left = many.reward - strength * (1 - many.ref_logps.exp() / rests)
assert torch.allclose(left, left.mean(-1, keepdim=True))  # all answers pulled alike

# %% [markdown] lang="en"
# Last, a network writes token by token, and GRPO takes its KL term so. In the reward, the penalty falls on the whole answer: whatever a token leads to is in its advantage. In the loss each token pays for its own choice alone, and **earlier tokens are deaf to what later ones cost**. So $\rho\,k_3$ holds down the KL of whole answers only where an answer is one token: "a partial gradient at best" ([Tang and Munos 2025](https://arxiv.org/abs/2506.09477), who warn of differentiating estimates).

# %% [markdown] lang="zh"
# 还有最后一处不同。网络逐个词元地写，GRPO 的 KL 项也逐个词元地取。KL 惩罚放在奖励里，扣的是整个回答的账：一个词元引出的一切，都在它的优势里。放在损失里，每个词元只付自己这一步的账，**后面的账传不到前面**。所以要说 $\rho\,k_3$ 压低了整个回答的 KL，只有回答仅一个词元时才对；充其量只是「部分梯度」（[Tang and Munos 2025](https://arxiv.org/abs/2506.09477)，他们提醒过：估计量不能随便拿来求导）。

# %% [markdown] lang="en"
# ## ⋆ Deaf to later forks: a tree of two tokens
# The smallest case: two tokens, each one of two, and a reference that knows no preference. The policy has moved at one fork only. After the first token $u$ it writes 0.9 and 0.1, and that fork costs $0.9\log 1.8+0.1\log 0.2=0.368$ nats. The policy gets there half the time, so the KL of its answers is 0.184.

# %% [markdown] lang="zh"
# ## ⋆ 后面的账传不到前面：两个词元的树
# 看最小的例子：两个词元，各二选一，参考策略毫无偏好。策略只在一个岔口动过：写了第一个词元 $u$ 之后，它写 0.9 和 0.1，这个岔口的账是 $0.9\log 1.8+0.1\log 0.2=0.368$ 奈特。策略有一半的时候走到这里，所以整个回答的 KL 是 0.184。


# %% tags=["figure"] alt_en="A tree of two tokens. At the first fork the policy writes u and v with 0.5 each and the fork costs 0.000 nats. After u it writes 0.9 and 0.1, and the fork costs 0.368 nats. After v it writes 0.5 and 0.5, cost 0.000. The reference has 0.5 on every branch." alt_zh="两个词元的树。第一个岔口，策略写 u 和 v 各 0.5，这个岔口的账是 0.000 奈特。写了 u 之后，写 0.9 和 0.1，账是 0.368 奈特。写了 v 之后，写 0.5 和 0.5，账是 0.000。参考策略在每个分支上都是 0.5。"
@picture
def two_token_tree(say):
    fig, axes = figure(height=3.0)
    axes.set_axis_off()
    forks = {"": (0, 2), "u": (2, 3), "v": (2, 1)}
    ends_at = {"u0": (4, 3.5), "u1": (4, 2.5), "v0": (4, 1.5), "v1": (4, 0.5)}
    shares = {"u": 0.5, "v": 0.5, "u0": 0.9, "u1": 0.1, "v0": 0.5, "v1": 0.5}
    for name, share in shares.items():
        (x0, y0), (x1, y1) = forks[name[:-1]], (forks | ends_at)[name]
        color = COLORS["ref"] if share == 0.5 else COLORS["policy"]
        axes.plot((x0, x1), (y0, y1), color=color, linewidth=0.8 + 5 * share)
        word = f"${name}$  {share}" if len(name) == 1 else f"{share}"
        above = "bottom" if y1 > y0 else "top"
        place = (x0 + x1) / 2, (y0 + y1) / 2 + (0.12 if above == "bottom" else -0.12)
        axes.text(*place, word, ha="center", va=above, color=color)
    for name, charge in (("", "0.000"), ("u", "0.368"), ("v", "0.000")):
        x, y = forks[name]
        axes.plot(x, y, "o", color=COLORS["theory"], markersize=9)
        cost = say(f"costs {charge} nats", f"账：{charge} 奈特")
        where = (x - 0.12, y, "right") if not name else (x, y + 0.3, "center")
        where = (x, y - 0.32, "center") if name == "v" else where
        axes.text(*where[:2], cost, ha=where[2], va="center", color=COLORS["theory"])
    note = say("reference: 0.5 on every branch", "参考策略：每个分支都是 0.5")
    axes.text(-1.5, 3.6, note, color=COLORS["ref"])
    axes.set(xlim=(-1.5, 4.3), ylim=(0.2, 3.9))


# %% [markdown] lang="en"
# **Figure 12.2.** Two tokens. On the branches: how often the policy takes them (the reference: 0.5 everywhere). At the forks: what each costs in KL.
#
# > **Before you run it.** If the policy wrote $u$ less often, the KL of its answers would fall. Does the KL term in the loss tell the first token so?
#
# <details><summary>Answer</summary>
#
# No. The draws stay as they are, so nothing connects the first token with what a later fork costs. It hears of its own fork alone, and that one is at its reference: the slope is 0, with $k_3$ as with $\rho\,k_3$. The KL of the answers has the slope $0.5\,(0.368-0.184)=0.092$.
#
# </details>
#
# At the last token the two agree. So $\rho\,k_3$ holds down the right KL at every fork, each fork by itself.

# %% [markdown] lang="zh"
# **图 12.2** 两个词元。分支上是策略走这一支的概率（参考策略处处是 0.5）；岔口上是这个岔口在 KL 里的账。
#
# > **先猜一猜。** 策略要是少写一点 $u$，整个回答的 KL 就会降。损失里的 KL 项，会把这件事告诉第一个词元吗？
#
# <details><summary>答案</summary>
#
# 不会。样本已经抽定，后面岔口的账，同第一个词元没有任何联系。它只听得到自己那个岔口，而那里正在参考策略处，斜率是 0，$k_3$ 和 $\rho\,k_3$ 都一样。整个回答的 KL，斜率则是 $0.5\,(0.368-0.184)=0.092$。
#
# </details>
#
# 到了最后一个词元，两者才一致。所以 $\rho\,k_3$ 在每个岔口压低的都是该压的 KL，只是各管各的。

# %%
at_root = torch.zeros(2, dtype=torch.float64, requires_grad=True)  # the first fork
after = torch.tensor([[0.9, 0.1], [0.5, 0.5]]).double().log()  # the second, after each
even = torch.full((2,), 0.5).double().log()
charges = kl(after, even.expand(2, 2))
root = at_root.log_softmax(-1)
whole_kl = kl(root, even) + root.exp() @ charges
heard = grad(whole_kl, at_root, retain_graph=True)[0]
print("charges", charges.numpy().round(3), "KL", round(whole_kl.item(), 3))
print("slope of the KL of answers", heard.numpy().round(3))
assert f"{charges[0].item():.3f} {whole_kl.item():.3f}" == "0.368 0.184"
assert np.allclose(heard, [0.092, -0.092], atol=5e-4)
for kind in ("k3", "ratio_k3"):
    term = kl_penalty(root, root.detach(), even, kind)
    mean_term = (root.detach().exp() * (term + charges)).sum()
    told = grad(mean_term, at_root, retain_graph=True)[0]
    print("slope of", kind, "in the loss", told.abs().numpy())
    assert np.allclose(told, 0)

# %% [markdown] lang="en"
# ## Several updates from one draw
# Drawing answers is the dear part, so one would like to take several steps on one batch. After the first step the batch is stale: $\pi$ is no longer the policy that drew it. Weighting an answer by $\rho=\pi/\pi_{\mathrm{old}}$ makes up for that exactly, if the advantages are up to date. In practice they stay as they were, and each token has its own $\rho$, which is nearly right while $\rho$ is near 1. PPO ([Schulman et al. 2017](https://arxiv.org/abs/1707.06347), equation 7) takes away the reason to leave. It maximises
#
# $$\min\big(\rho A,\;\mathrm{clip}(\rho,\,1-\epsilon,\,1+\epsilon)\,A\big).$$
#
# With $\epsilon=0.2$:
#
# | answer | $A$ | $\rho$ | $\rho A$ | clipped | the minimum | |
# |---|---|---|---|---|---|---|
# | good, already likelier | 1 | 1.3 | 1.3 | 1.2 | 1.2 | constant: no pull |
# | bad, already rarer | -1 | 0.7 | -0.7 | -0.8 | -0.8 | constant: no pull |
# | bad, but likelier | -1 | 1.3 | -1.3 | -1.2 | -1.3 | still pushed down |

# %% [markdown] lang="zh"
# ## 一批回答，更新几次
# 贵的是抽回答，所以人们想用一批回答多走几步。走了一步，这批就旧了：$\pi$ 不再是当初抽它的那个策略。给回答乘上权重 $\rho=\pi/\pi_{\mathrm{old}}$，可以完全修正过来，只要优势也按现在的策略来算。实际上优势还是抽的时候算的，每个词元又各有各的 $\rho$；$\rho$ 离 1 不远时，还大致不差。PPO（[Schulman et al. 2017](https://arxiv.org/abs/1707.06347) 的式 7）的办法，是让这个比值离远了也得不到好处。它最大化
#
# $$\min\big(\rho A,\;\mathrm{clip}(\rho,\,1-\epsilon,\,1+\epsilon)\,A\big)$$
#
# 取 $\epsilon=0.2$：
#
# | 回答 | $A$ | $\rho$ | $\rho A$ | 截断后 | 较小者 | |
# |---|---|---|---|---|---|---|
# | 好的，概率已升 | 1 | 1.3 | 1.3 | 1.2 | 1.2 | 常数，不再拉 |
# | 坏的，概率已降 | -1 | 0.7 | -0.7 | -0.8 | -0.8 | 常数，不再推 |
# | 坏的，概率反而升了 | -1 | 1.3 | -1.3 | -1.2 | -1.3 | 照样往下推 |


# %%
def clipped_by_hand(ratio, A, epsilon=0.2):
    """What PPO maximises."""
    return torch.minimum(ratio * A, ratio.clamp(1 - epsilon, 1 + epsilon) * A)


ratios, signs = torch.tensor([[1.3, 0.7, 1.3], [1.0, -1.0, -1.0]]).double()
ratios.requires_grad_()
gains = clipped_by_hand(ratios, signs)
print(gains.detach().numpy().round(2), grad(gains.sum(), ratios)[0].numpy() + 0)
assert torch.allclose(gains, torch.tensor([1.2, -0.8, -1.3]).double())
library = -clipped_loss(ratios.log(), torch.zeros(3).double(), signs)
assert torch.allclose(gains, library)


# %% tags=["figure"] alt_en="Two panels: what PPO maximises against the ratio from 0.4 to 1.8. Left, a good answer: a line rising with slope 1 up to a ratio of 1.2 and flat beyond. Right, a bad answer: flat at -0.8 up to a ratio of 0.8 and falling with slope -1 beyond. Dotted lines continue the straight line where it is clipped; a dot marks a ratio of 1 in both." alt_zh="两幅小图：PPO 最大化的量随比值的变化，比值从 0.4 到 1.8。左，好回答：以斜率 1 上升，到比值 1.2 以后变平。右，坏回答：比值 0.8 以前平在 -0.8，以后以斜率 -1 下降。截断处用点线接着画原来的直线；两幅都用圆点标出比值 1。"
@picture
def clipping(say):
    fig, panels = figure(columns=2, width=7.0, height=2.8)
    at = torch.linspace(0.4, 1.8, 141).double()
    words = say("good answer", "好回答"), say("bad answer", "坏回答")
    for axes, A, word in zip(panels, (1.0, -1.0), words):
        axes.plot(at, A * at, ":", color=INK)
        axes.plot(at, clipped_by_hand(at, A), color=COLORS["policy"])
        axes.plot(1, A, "o", color=COLORS["policy"])
        axes.set(title=f"{word}, $A={A:g}$", xticks=(0.4, 0.8, 1, 1.2, 1.6))
        axes.set_xlabel(
            say(r"new over old probability, $\rho$", r"新旧概率之比 $\rho$")
        )
    panels[0].set_ylabel(say("what PPO maximises", "PPO 最大化的量"))
    panels[1].set_ylabel(say("what PPO maximises", "PPO 最大化的量"))


# %% [markdown] lang="en"
# **Figure 12.3.** What PPO maximises is flat where the answer has already moved far enough in the direction that $A$ asks for, and only there. At the dot, the first step after drawing, it is the policy gradient: with one update for each draw, clipping does nothing.
#
# PPO's other part is the critic. Before each token it says how much net reward is still to come. A token's advantage is the surprise that it brings, and some of the surprises that follow, so that each token gets credit of its own; the other methods give all tokens of an answer the same.

# %% [markdown] lang="zh"
# **图 12.3** PPO 最大化的量，左为好回答，右为坏回答。曲线只在一种地方变平：回答照 $A$ 要的方向已经走得够远。圆点是抽完后的第一步，在那里它就是策略梯度：一批只更新一次，截断（clipping）什么也没做。
#
# PPO 的另一半是评论家。写每个词元之前，它估计后面还能得多少净奖励。一个词元的优势，是它带来的意外，再加上一部分以后的意外；这样，功劳分到了各个词元。别的方法则让一个回答的所有词元拿同样的优势。

# %% tags=["proof"] checked_en="Checked on 20 random problems: on fresh draws PPO's gradient is the policy gradient, and weighting another policy's draws by the ratio gives it too." checked_zh="在 20 个随机问题上验证：回答是现抽的，PPO 的梯度就是策略梯度；别的策略抽的，乘上比值加权，得到的也是它。"
stale = random_policies(INSTANCES, 5, seed=SEED + 2)  # the policy that drew
above_mean = net - (p * net).sum(-1, keepdim=True)
fresh = slope((p * clipped_loss(logps, logps.detach(), above_mean)).sum(-1))
assert torch.allclose(fresh, -climb)
weighted = slope((stale.exp() * (logps - stale).exp() * above_mean).sum(-1))
assert torch.allclose(weighted, climb)

# %% [markdown] lang="en"
# ## ⋆ The critic, token by token
# A token's **surprise** is what it earned, plus what the critic expects after it, less what it expected before. For `7-2E`, a right answer to `S5=`, whose reward of 1 comes with the last token (the KL penalty left out):
#
# | token | earned | the critic, before it | surprise | with the later ones |
# |---|---|---|---|---|
# | `7` | 0 | 0.5 | 0.1 | 0.45 |
# | `-` | 0 | 0.6 | 0.0 | 0.37 |
# | `2` | 0 | 0.6 | 0.2 | 0.39 |
# | `E` | 1 | 0.8 | 0.2 | 0.20 |
#
# The last column is the advantage, made from below upwards: a token's own surprise, plus 0.95 times the advantage of the next one.

# %% [markdown] lang="zh"
# ## ⋆ 评论家，逐个词元看
# 一个词元的**意外**（surprise），等于它挣到的，加上评论家在它之后的预期，减去在它之前的预期。以 `S5=` 的正确回答 `7-2E` 为例，1 分的奖励落在最后一个词元上（KL 惩罚略去）：
#
# | 词元 | 挣到 | 之前评论家说 | 意外 | 连同以后的 |
# |---|---|---|---|---|
# | `7` | 0 | 0.5 | 0.1 | 0.45 |
# | `-` | 0 | 0.6 | 0.0 | 0.37 |
# | `2` | 0 | 0.6 | 0.2 | 0.39 |
# | `E` | 1 | 0.8 | 0.2 | 0.20 |
#
# 最后一列就是优势，从下往上算：自己的意外，加上 0.95 倍的下一个词元的优势。

# %%
token_reward = torch.tensor([[0.0, 0.0, 0.0, 1.0]])
critic_said = torch.tensor([[0.5, 0.6, 0.6, 0.8]])
following = torch.tensor([[0.6, 0.6, 0.8, 0.0]])  # nothing comes after the last token
surprise = token_reward + following - critic_said
credit, later = [], 0.0
for one in surprise[0].tolist()[::-1]:  # backwards
    later = one + 0.95 * later
    credit.insert(0, later)
print(surprise.numpy().round(2), np.round(credit, 2))
assert np.allclose(surprise, [[0.1, 0.0, 0.2, 0.2]])
assert np.round(credit, 2).tolist() == [0.45, 0.37, 0.39, 0.2]
gae, _ = generalised_advantages(token_reward, critic_said, torch.ones(1, 4), lam=0.95)
assert np.allclose(gae, [credit])  # the library's

# %% [markdown] lang="en"
# The factor with which later surprises count is called $\lambda$, and the sum is generalised advantage estimation, GAE ([Schulman et al. 2016](https://arxiv.org/abs/1506.02438), equation 16). With $V_t$ what the critic says before token $t$ and $r_t$ what the token earns (less its part of the KL penalty; the last token plus the judge's reward),
#
# $$\delta_t=r_t+V_{t+1}-V_t,\qquad A_t=\delta_t+\lambda\,\delta_{t+1}+\lambda^2\delta_{t+2}+\dots$$
#
# The two ends say what $\lambda$ does. At $\lambda=0$ the advantage is the surprise alone: the critic is trusted about everything that comes later. At $\lambda=1$ the critic's later words cancel, and what is left is what did come, less what the critic had said: 0.5, 0.4, 0.4, 0.2 in the table. A smaller $\lambda$ means less variance, since fewer draws have a part in each advantage, and more bias, since the critic may be wrong.
#
# The critic is a second network beside the policy, trained on the same answers to predict what came. So PPO trains twice the parameters and holds twice the optimiser's state. Where an answer is long and its steps earn the reward apart, that may be worth its price; for language models [Ahmadian et al. 2024](https://arxiv.org/abs/2402.14740) found many of PPO's components unnecessary.

# %% [markdown] lang="zh"
# 以后的意外算多少，系数叫 $\lambda$；这个和叫广义优势估计（generalised advantage estimation，GAE；[Schulman et al. 2016](https://arxiv.org/abs/1506.02438) 的式 16）。$V_t$ 是写第 $t$ 个词元之前评论家说的，$r_t$ 是这个词元挣到的（减去 KL 惩罚在它身上扣的那份；最后一个词元再加上裁判给的奖励）：
#
# $$\delta_t=r_t+V_{t+1}-V_t,\qquad A_t=\delta_t+\lambda\,\delta_{t+1}+\lambda^2\delta_{t+2}+\dots$$
#
# 看两头，就知道 $\lambda$ 管什么。$\lambda=0$ 时，优势只剩意外本身：往后的一切，全信评论家。$\lambda=1$ 时，评论家后来的话互相抵消，剩下的是真正得到的减去评论家当初说的；在表里，是 0.5、0.4、0.4、0.2。$\lambda$ 小，每个优势里掺进的抽样就少，方差小；但评论家可能说错，偏差就大。
#
# 评论家是策略旁边的第二个网络，用同一批回答来训练，预测得到的会是多少。所以 PPO 要训练的参数多一倍，优化器的状态也多一倍。回答长了，奖励是哪一步挣来的就要紧了，那时评论家也许值得一用；不过 [Ahmadian et al. 2024](https://arxiv.org/abs/2402.14740) 发现，PPO 的许多部件对语言模型来说用不着。

# %%
for lam, told in ((0.0, [0.1, 0.0, 0.2, 0.2]), (1.0, [0.5, 0.4, 0.4, 0.2])):
    gae, _ = generalised_advantages(
        token_reward, critic_said, torch.ones(1, 4), lam=lam
    )
    print(lam, gae.numpy().round(2))
    assert np.allclose(gae, [told], atol=1e-6)
both_networks = rl.ActorCritic(load_pretrained("gen"))
sizes = [
    sum(w.numel() for w in m.parameters())
    for m in (both_networks, load_pretrained("gen"))
]
assert 1.9 < sizes[0] / sizes[1] < 2.05

# %% [markdown] lang="en"
# ## One loop, six methods
# What tells the six apart fits into a table. Two names are new. **Dr. GRPO** ([Zichen Liu et al. 2025](https://arxiv.org/abs/2503.20783)) is GRPO without its two divisions, by the standard deviation and by the length of the answer, which its authors count as biases. **DAPO** ([Yu et al. 2025](https://arxiv.org/abs/2503.14476)) leaves out the second only; its authors have no leash, and we leave it where GRPO's is.
#
# | | baseline | divided by the deviation | a mean over | leash in | clips the ratio of |
# |---|---|---|---|---|---|
# | `reinforce` | the batch | | answers | the reward | nothing |
# | `rloo` | the other answers | | answers | the reward | an answer |
# | `grpo` | all answers | yes | an answer's tokens, then answers | the loss | a token |
# | `dr_grpo` | all answers | | answers | the loss | a token |
# | `dapo` | all answers | yes | all tokens | the loss | a token |
# | `ppo` | the critic | | all tokens | the reward | a token |
#
# The rest is one loop: draw, judge, subtract, push. Here it is for REINFORCE. The judge is chapter 4's checker, the reward chapter 9's: a point for three numbers and a point for the right value.

# %% [markdown] lang="zh"
# ## 一个循环，六种方法
# 六种方法差在哪里，一张表就装得下。有两个新名字。**Dr. GRPO**（[Zichen Liu et al. 2025](https://arxiv.org/abs/2503.20783)）去掉了 GRPO 的两处除法：除以标准差，除以回答的长度；它的作者认为两处都是偏差。**DAPO**（[Yu et al. 2025](https://arxiv.org/abs/2503.14476)）只去掉后一处；它的作者还解开了绳子，这里的绳子照 GRPO 那样拴。
#
# | | 基线 | 除以标准差 | 对什么取平均 | 绳子在 | 截断谁的比值 |
# |---|---|---|---|---|---|
# | `reinforce` | 整个批次 | | 回答 | 奖励里 | 不截断 |
# | `rloo` | 其余的回答 | | 回答 | 奖励里 | 回答 |
# | `grpo` | 全部回答 | 是 | 先对回答的词元，再对回答 | 损失里 | 词元 |
# | `dr_grpo` | 全部回答 | | 回答 | 损失里 | 词元 |
# | `dapo` | 全部回答 | 是 | 全部词元 | 损失里 | 词元 |
# | `ppo` | 评论家 | | 全部词元 | 奖励里 | 词元 |
#
# 其余是同一个循环：抽，判，减，推。下面就是 REINFORCE 的循环。裁判是第 4 章的判分程序，奖励同第 9 章：写三个数得一分，答案正确得一分。

# %% tags=["proof"] checked_en="Checked: the table is what the library does." checked_zh="已验证：库里的做法就是这张表。"
# concluded of the table
rows = {name: [how.baseline or "critic"] for name, how in METHODS.items()}
for name, how in METHODS.items():
    over = "tokens" if how.token_mean else "length" if how.length_mean else "answers"
    ratio_of = ("token" if how.per_token else "answer") if how.clipped else "-"
    tied = "reward" if how.kl_in_reward else "loss"
    rows[name] += ["yes" if how.scale else "-", over, tied, ratio_of]
assert rows == {
    "reinforce": ["batch", "-", "answers", "reward", "-"],
    "rloo": ["leave_one_out", "-", "answers", "reward", "answer"],
    "grpo": ["group", "yes", "length", "loss", "token"],
    "dr_grpo": ["group", "-", "answers", "loss", "token"],
    "dapo": ["group", "yes", "tokens", "loss", "token"],
    "ppo": ["critic", "-", "tokens", "reward", "token"],
}

# %%
task, REWARD, BETA = BookTask(), "style+exact", 0.25
base, exact_judge = load_pretrained("gen"), rl.checker(task, REWARD)


def rollout_by_hand(policy, reference, prompts, seed):
    """An answer to each prompt: its tokens, their mask, its advantage."""
    texts = generate(policy, prompts, seed=seed)  # draw
    ids, mask = TOKENIZER.collate(prompts, texts)
    with torch.no_grad():
        delta = sequence_logps(policy(ids), ids, mask)
        delta -= sequence_logps(reference(ids), ids, mask)
    net_reward = exact_judge(prompts, texts) - BETA * delta  # judge
    return ids, mask, net_reward - net_reward.mean()  # subtract


def loss_by_hand(policy, ids, mask, A):
    """Its gradient is minus the policy gradient's estimate."""
    return -(A * sequence_logps(policy(ids), ids, mask)).mean()  # push


# %% [markdown] lang="en"
# Is this what the library does? Its loop is that of chapter 3, and `rl.rollouts` draws the batch of a step from the policy of that moment.

# %% [markdown] lang="zh"
# 库里做的是同一回事吗？循环就是第 3 章的那一个；轮到哪一步，`rl.rollouts` 就用那一刻的策略当场抽一个批次。

# %%
use_threads()
tried_policy = load_pretrained("dpo")  # any policy away from its reference
batch = rl.rollouts(
    tried_policy,
    base,
    task,
    exact_judge,
    "reinforce",
    beta=BETA,
    prompts=16,
    answers=1,
    seed=12,
)(0)
rng = stream("rollout", 12, 0)  # the same prompts and draws
asked, _ = task.demonstrations(16, rng)
ids, mask, A = rollout_by_hand(tried_policy, base, asked, int(rng.integers(2**31)))
assert torch.equal(ids, batch["input_ids"])
assert torch.allclose(A, batch["advantages"], atol=1e-5)
total, count = rl_step("reinforce", beta=BETA)(tried_policy, batch)["loss"]
weights = list(tried_policy.parameters())
for ours, library_grad in zip(
    grad(loss_by_hand(tried_policy, ids, mask, A), weights),
    grad(total / count, weights),
):
    assert torch.allclose(ours, library_grad, atol=1e-5)

# %% [markdown] lang="en"
# Now RLOO, PPO and DPO, each with 9,600 judged answers and 75 updates. RLOO draws 4 answers to each of 32 prompts at a time, PPO one to each of 128; DPO has 4,800 pairs, drawn beforehand with soft labels and hot second answers, as in chapter 9. Beside them stand chapter 6's frontier and optimum.

# %% [markdown] lang="zh"
# 下面跑 RLOO、PPO 和 DPO，各评判 9,600 个回答，更新 75 次。RLOO 每次给 32 个提示各抽 4 个；PPO 每次给 128 个提示各抽一个；DPO 事先抽好 4,800 对，用软标签，第二个回答升温去抽，同第 9 章。同它们比的，是第 6 章的前沿与最优解。

# %%
base = load_pretrained("gen").to(default_device())
trained, history = {}, {}
HOW = {"optimizer": "muon", "warmup": 10, "max_grad_norm": 1.0, "log_every": 5}
online_loop = LoopConfig(steps=75, learning_rate=4e-3, **HOW)
stored_loop = LoopConfig(steps=75, learning_rate=2e-3, **HOW)

# %% tags=["nbval-ignore-output"]
for name, prompts, answers in (("rloo", 32, 4), ("ppo", 128, 1)):
    trained[name] = copy.deepcopy(base)
    model = rl.ActorCritic(trained[name]) if name == "ppo" else trained[name]
    size = {"prompts": prompts, "answers": answers, "beta": BETA, "seed": 12}
    batches = rl.rollouts(model, base, task, exact_judge, name, **size)
    history[name] = train(model, batches, rl_step(name, beta=BETA), online_loop)
hot = {"reward": REWARD, "temperatures": (1.5, 2.0), "seed": 12}
pairs = on_policy_pairs(base, task, 4_800, **hot)
trained["dpo"], batches = copy.deepcopy(base), pairs.batches(64, 12)
history["dpo"] = train(trained["dpo"], batches, dpo_step(BETA), stored_loop)
for name in ("rloo", "ppo"):
    objectives = [entry["objective"] for entry in history[name]]
    assert objectives[-1] > objectives[0] + 0.2
    assert all(
        entry["clip_ratio"] < 1e-6 for entry in history[name]
    )  # one update a draw

# %%
classes = class_problem(task, REWARD)  # a row a prompt, four classes of answer
often = torch.tensor(list(task.prompt_distribution.values())).double()


def place(class_logps):
    """(reward, KL) of a policy over the classes, averaged over prompts."""
    reward = often @ mean(class_logps, classes.reward)
    return reward.item(), (often @ kl(class_logps, classes.ref_logps)).item()


best = place(optimal_policy(classes, BETA))
best_J = best[0] - BETA * best[1]
betas = np.geomspace(0.03, 20, 100).tolist()
reward_line, kl_line = (often @ part for part in frontier(classes, betas))
print(f"optimum: reward {best[0]:.2f}, KL {best[1]:.2f}, J {best_J:.2f}")
assert f"{best[1]:.2f} {best_J:.2f}" == "1.26 1.64"

# %% tags=["nbval-ignore-output"]
live = {}
settings = {
    "n": 1_000,
    "seed": 13,
    "reference": base,
    "reward": exact_judge,
    "beta": BETA,
}
for name, policy in ({"base": base} | trained).items():
    live[name] = evaluate(policy, task, **settings)
    numbers = (
        f"{part} {live[name][part].value:.2f}" for part in ("style", "exact", "kl", "J")
    )
    print(f"{name:5}", *numbers)

# %% tags=["proof"] checked_en="Checked: RLOO and PPO are ahead of DPO, DPO is ahead of the base model, and none is more than 0.05 above the optimum." checked_zh="已验证：RLOO 和 PPO 领先于 DPO，DPO 领先于基座模型，没有一个比最优解高出 0.05 以上。"
# concluded of the live runs
live_J = {name: found["J"].value for name, found in live.items()}
assert 0.95 < live_J["base"] < 1.15 < live_J["dpo"] < min(live_J["rloo"], live_J["ppo"])
assert (
    min(live_J["rloo"], live_J["ppo"]) > 1.35 and max(live_J.values()) < best_J + 0.05
)
assert all(live[name]["kl"].value > 0.3 for name in trained)
at_end = {name: (of["kl"].value, of["reward"].value) for name, of in live.items()}


# %% tags=["nbval-ignore-output", "figure"] alt_en="Mean reward against KL to the base model. A rising curve, the frontier, with a star, the optimum, at KL 1.26 and reward 1.95. Two paths of dots climb from KL 0 and reward about 1.05, below the frontier, one of them with a detour to the right, towards the star: RLOO and PPO. Larger markers: their ends, and the end of DPO, lower." alt_zh="平均奖励随到基座模型的 KL 的变化。一条上升的曲线是前沿，星号是最优解，在 KL 1.26、奖励 1.95 处。两串点从 KL 0、奖励约 1.05 出发，在前沿下方爬向星号，其中一串半路往右绕了一下：RLOO 和 PPO。大标记：它们的终点，还有 DPO 的终点；DPO 的停在半路，位置更低。"
@picture
def way_up(say):
    fig, axes = figure(height=3.8)
    axes.plot(kl_line, reward_line, color=COLORS["theory"])
    axes.plot(best[1], best[0], "*", color=COLORS["theory"], markersize=13)
    axes.text(1.3, 1.91, say("optimum", "最优解"), color=COLORS["theory"])
    axes.text(0.4, 1.7, say("frontier", "前沿"), color=COLORS["theory"], ha="right")
    looks = {
        "rloo": ("baseline", "s"),
        "ppo": ("rejected", "D"),
        "dpo": ("policy", "o"),
    }
    beside = {"rloo": (0.06, -0.07), "ppo": (-0.13, 0.035), "dpo": (0.04, -0.02)}
    for name, (color, marker) in looks.items():
        ink, (x, y) = {"color": COLORS[color]}, at_end[name]
        if name != "dpo":
            path = [(entry["kl"], entry["reward"]) for entry in history[name]]
            axes.plot(*zip(*path), ".:", **ink)
        axes.plot(x, y, marker, markersize=8, **ink)
        right, up = beside[name]
        axes.text(x + right, y + up, name.upper(), **ink)
    axes.set(xlim=(-0.03, 1.7), ylim=(1, 2.07))
    axes.set_xlabel(say("KL to the base model (nats)", "到基座模型的 KL（奈特）"))
    axes.set_ylabel(say("mean reward", "平均奖励"))


# %% [markdown] lang="en"
# **Figure 12.4.** The way up. Small dots: the answers that RLOO and PPO were trained on, five updates a dot. Large: the trained policies on 1,000 fresh prompts.
#
# RLOO and PPO climb towards the star; DPO is left behind. One run each, though.

# %% [markdown] lang="zh"
# **图 12.4** 上山的路。小点：RLOO 和 PPO 训练时所用的回答，每五次更新画一点。大标记：训练好的策略在 1,000 个新提示上的成绩。
#
# RLOO 和 PPO 朝着星号往上爬，DPO 落在了后面。不过每种只跑了一次。

# %% [markdown] lang="en"
# ## The same budget
# The comparison, recorded by `python chapters/data/rl_methods.py`. The yardstick is $J$, reward less $\beta$ times KL, with $\beta=0.25$. The budget is **25,600 answers judged** by the exact checker. Of each arm four settings were tried from base model 0; the best ran from three seeds, each with its own base model, and was measured on other prompts. Beside the six methods (the leash in the loss with either KL term):
#
# - `dpo`, on 12,800 stored pairs with soft labels; `imitation`, fine-tuning on the chosen answers of the same file, ties kept; `online_dpo`, whose pairs come from the policy in training;
# - `rm_ppo`: a reward model is fitted to 12,800 judged pairs, and PPO climbs its scores ([Ouyang et al. 2022](https://arxiv.org/abs/2203.02155));
# - `rejection`, fine-tuning on the best of $n$ ([Dong et al. 2023](https://arxiv.org/abs/2304.06767)); `best_of_n`, which trains nothing and is outside the budget;
# - DPO with up to 192,000 judged answers, at the setting of `dpo`, and chapter 9's `recipe`, whose seed 0 is the shipped model.
#
# > **Before you run it.** RLOO, online DPO, DPO on stored pairs: who is ahead, with as many judged answers? If it is not DPO, would more pairs bring it level?
#
# <details><summary>Answer</summary>
#
# RLOO and online DPO, well ahead of DPO. With 192,000 judged answers DPO is level with them.
#
# </details>

# %% [markdown] lang="zh"
# ## 同样的预算
# 下面是正式的比较，由 `python chapters/data/rl_methods.py` 跑好存下。尺子是 $J$，奖励减去 $\beta$ 倍的 KL，$\beta=0.25$。预算是请精确的判分程序**评判 25,600 个回答**。每种方法都在 0 号基座模型上试四组设置；最好的一组再用三个种子各跑一遍，每个种子有自己的基座模型，测量用另外的提示。除了那六种方法（绳子在损失里的，两种 KL 项各跑一遍），还有：
#
# - `dpo`，用 12,800 个存好的偏好对，软标签；`imitation`，拿同一份文件里的 chosen 来微调，平局留着；`online_dpo`，偏好对由训练中的策略当场写；
# - `rm_ppo`：用 12,800 个评过的偏好对拟合奖励模型，再由 PPO 去提高它给的分（[Ouyang et al. 2022](https://arxiv.org/abs/2203.02155)）；
# - `rejection`，拿 $n$ 个里最好的回答来微调（[Dong et al. 2023](https://arxiv.org/abs/2304.06767)）；`best_of_n`，什么也不训练，也不受预算限制；
# - DPO，设置同 `dpo`，评判的回答最多到 192,000 个；以及第 9 章的配方 `recipe`，它的 0 号种子就是随书的模型。
#
# > **先猜一猜。** RLOO、在线 DPO、用存好的偏好对做的 DPO，评判的回答一样多，谁领先？领先的若不是 DPO，多给它一些偏好对，追得上吗？
#
# <details><summary>答案</summary>
#
# RLOO 和在线 DPO 领先，把 DPO 远远甩在后面。评判的回答给到 192,000 个，DPO 就追平了。
#
# </details>

# %%
stored = json.loads(Path("data/rl_methods.json").read_text(encoding="utf-8"))
runs = stored["runs"]
ARMS = {  # what each is called, in both languages
    "best_of_n": ("best of 16", "best-of-16"),
    "reinforce": ("REINFORCE", "REINFORCE"),
    "rloo": ("RLOO", "RLOO"),
    "ppo": ("PPO", "PPO"),
    "online_dpo": ("online DPO", "在线 DPO"),
    "recipe": ("DPO, 192,000, recipe", "DPO，192,000，配方"),
    "dpo_192000": ("DPO, 192,000", "DPO，192,000"),
    "dpo_102400": ("DPO, 102,400", "DPO，102,400"),
    "dpo_51200": ("DPO, 51,200", "DPO，51,200"),
    "dpo": ("DPO, 25,600", "DPO，25,600"),
    "imitation": ("imitation, ties kept", "模仿，平局留着"),
    "rejection": ("rejection sampling", "拒绝采样微调"),
    "rm_ppo": ("PPO on a reward model", "PPO，奖励模型打分"),
    "grpo": ("GRPO, $k_3$", "GRPO，$k_3$"),
    "grpo_ratio": (r"GRPO, $\rho\,k_3$", r"GRPO，$\rho\,k_3$"),
    "dr_grpo": ("Dr. GRPO, $k_3$", "Dr. GRPO，$k_3$"),
    "dr_grpo_ratio": (r"Dr. GRPO, $\rho\,k_3$", r"Dr. GRPO，$\rho\,k_3$"),
    "dapo": ("DAPO, $k_3$", "DAPO，$k_3$"),
    "dapo_ratio": (r"DAPO, $\rho\,k_3$", r"DAPO，$\rho\,k_3$"),
    "base": ("base model", "基座模型"),
}

# %%
ON_FRESH = ("reinforce", "rloo", "ppo")  # answers of their own, the leash in the reward
IN_LOSS = [name for name in ARMS if name.startswith(("grpo", "dr_grpo", "dapo"))]
MEASURED = ("J", "kl", "reward", "style", "exact")
assert set(ARMS) == {run["name"] for run in runs}
assert {run["seed"] for run in runs} == {0, 1, 2}
arms.show(arms.table(runs, {name: name for name in ARMS}, MEASURED))
print(f"optimum: J {best_J:.3f}, kl {best[1]:.3f}, reward {best[0]:.3f}")


def J_of(name):
    """The mean over seeds, as the text has it."""
    return f"{arms.arm_mean(runs, name).value:.2f}"


def color_of(name):
    """One colour for one kind of arm."""
    kinds = {"policy": ("dpo", "online", "recipe"), "chosen": ("best", "imit", "reje")}
    kinds |= {"rejected": ("rm",), "ref": ("base",)}
    return COLORS[
        next((c for c, of in kinds.items() if name.startswith(of)), "baseline")
    ]


# %% tags=["figure"] alt_en="Twenty rows, one an arm, sorted by J, from 1.0 to 1.64; three points each, close together except for DPO on few pairs. Best of 16 touches the line of the optimum. REINFORCE, RLOO, PPO, online DPO and DPO with 192,000 judged answers stand together near 1.59. The six arms with the leash in the loss lie between 1.50 and 1.54, among them DPO with 25,600 and 51,200. Rejection sampling and PPO on a reward model lie near 1.49, imitation at 1.39, the base model at 1.04." alt_zh="二十行，每行一种方法，按 J 排列，从 1.0 到 1.64；各三个点，除了偏好对少的 DPO，都挨得很近。best-of-16 碰到最优解的竖线。REINFORCE、RLOO、PPO、在线 DPO，还有评判 192,000 个回答的 DPO，都在 1.59 附近。绳子在损失里的六种在 1.50 到 1.54 之间，评判 25,600 和 51,200 个的 DPO 也在其中。拒绝采样微调和由奖励模型打分的 PPO 在 1.49 附近，模仿在 1.39，基座模型在 1.04。"
@picture
def by_height(say):
    fig, axes = figure(width=6.6, height=6.0)
    order = sorted(ARMS, key=lambda name: arms.arm_mean(runs, name).value)
    for row, name in enumerate(order):
        seen = list(arms.values(runs, name).values())
        look = {"color": color_of(name), "markersize": 6}
        if name in IN_LOSS:
            look["markerfacecolor"] = "none"
        axes.plot(seen, [row] * len(seen), "o", **look)
    ink = {"color": COLORS["theory"]}
    axes.axvline(best_J, **ink)
    axes.text(best_J - 0.01, 0.3, say("optimum", "最优解"), ha="right", **ink)
    note = say("open:\nleash in the loss", "空心：\n绳子在损失里")
    axes.text(1.25, 9, note, ha="center", color=COLORS["baseline"])
    axes.set_yticks(range(len(order)), [say(*ARMS[name]) for name in order])
    axes.set_xlabel(say("$J$: reward less KL penalty", "$J$：奖励减去 KL 惩罚"))


# %% [markdown] lang="en"
# **Figure 12.5.** $J$ of every arm, a point a seed. Blue: DPO, with the number of judged answers. Orange: policy gradients. Green: imitation and selection.

# %% [markdown] lang="zh"
# **图 12.5** 每一种的 $J$，一个种子一个点。蓝：DPO，数字是评判过的回答数。橙：策略梯度。绿：模仿与挑选。

# %% tags=["figure"]
PLANE = {  # what stands beside an arm, and where
    "imitation": (0.45, 1.46, "imitation, ties kept", "模仿，平局留着"),
    "rejection": (1.0, 1.65, "rejection sampling", "拒绝采样微调"),
    "rm_ppo": (0.82, 1.57, "PPO on a reward model", "PPO，奖励模型打分"),
    "best_of_n": (1.5, 1.99, "best of 16", "best-of-16"),
    "rloo": (
        0.36,
        1.92,
        "REINFORCE, RLOO,\nPPO, online DPO",
        "REINFORCE、RLOO、\nPPO、在线 DPO",
    ),
    "dr_grpo": (1.2, 1.72, "leash in the loss", "绳子在损失里"),
    "dpo": (1.5, 1.79, "DPO, 25,600", "DPO，25,600"),
    "dpo_192000": (1.5, 1.93, "DPO, 192,000", "DPO，192,000"),
}


# %% tags=["figure"] alt_en="Mean reward against KL, from 0.25 to 1.78, under a rising frontier with a star at KL 1.26 and reward 1.95. REINFORCE, RLOO, PPO and online DPO lie on one spot just below the star. Best of 16 lies on the frontier, to the right. DPO with 25,600 judged answers lies right of the star and lower, with 192,000 above that. Open circles, the leash in the loss, lie in two groups, at KL 0.9 to 1.1 and 1.3 to 1.5. Rejection sampling, PPO on a reward model and imitation lie far to the left and lower." alt_zh="平均奖励随 KL 的变化，KL 从 0.25 到 1.78，上方是上升的前沿，星号在 KL 1.26、奖励 1.95 处。REINFORCE、RLOO、PPO、在线 DPO 落在同一处，紧挨着星号下方。best-of-16 在前沿上，靠右。评判 25,600 个回答的 DPO 在星号右边、更低，192,000 个的在它上面。空心圈（绳子在损失里）分两群，KL 0.9 到 1.1，和 1.3 到 1.5。拒绝采样微调、由奖励模型打分的 PPO、模仿，都远在左边、更低。"
@picture
def same_plane(say):
    fig, axes = figure(width=6.8, height=4.6)
    axes.plot(kl_line, reward_line, color=COLORS["theory"])
    axes.plot(best[1], best[0], "*", color=COLORS["theory"], markersize=14)
    axes.text(1.22, 1.97, say("optimum", "最优解"), color=COLORS["theory"], ha="right")
    for run in [run for run in runs if run["name"] != "base"]:
        fill = "none" if run["name"] in IN_LOSS else color_of(run["name"])
        look = {"color": color_of(run["name"]), "markerfacecolor": fill}
        axes.plot(run["kl"]["value"], run["reward"]["value"], "o", markersize=5, **look)
    for name, (x, y, *words) in PLANE.items():
        at = [arms.arm_mean(runs, name, part).value for part in ("kl", "reward")]
        ink = {"color": color_of(name), "fontsize": 9}
        arrow = {"arrowstyle": "-", "color": color_of(name), "linewidth": 0.7}
        axes.annotate(say(*words), at, (x, y), arrowprops=arrow, **ink)
    axes.set(xlim=(0.25, 1.78), ylim=(1.42, 2.04))
    axes.set_xlabel(say("KL to the base model (nats)", "到基座模型的 KL（奈特）"))
    axes.set_ylabel(say("mean reward", "平均奖励"))


# %% [markdown] lang="en"
# **Figure 12.6.** The same runs under the frontier (but for the base model, at KL 0 and reward 1.04). On few pairs DPO goes far and gets little for it; more pairs lift it straight up.

# %% [markdown] lang="zh"
# **图 12.6** 同样这些训练，画在前沿之下（基座模型在 KL 0、奖励 1.04 处，不在图里）。偏好对少的时候，DPO 走得远，得到的却少；偏好对多了，它就笔直地往上升。

# %%
COUNTS = {"dpo": 25_600, "dpo_51200": 51_200, "dpo_102400": 102_400}
COUNTS |= {"dpo_192000": 192_000}
assert all(run["judged"] == COUNTS.get(run["name"], run["judged"]) for run in runs)
by_count = [arms.arm_mean(runs, name).value for name in COUNTS]


# %% tags=["figure"] alt_en="J against judged answers, on a logarithmic scale. DPO on stored pairs, round points: between 1.48 and 1.54 at 25,600, between 1.49 and 1.56 at 51,200, near 1.57 at 102,400, near 1.59 at 192,000, with the shipped recipe beside it. At 25,600, to the left: RLOO and online DPO near 1.59, imitation near 1.39. A line marks the optimum at 1.64." alt_zh="J 随评判过的回答数的变化，横轴为对数刻度。用存好的偏好对做 DPO，圆点：25,600 处在 1.48 到 1.54 之间，51,200 处在 1.49 到 1.56 之间，102,400 处在 1.57 附近，192,000 处在 1.59 附近，旁边是随书的配方。25,600 处左边：RLOO 和在线 DPO 在 1.59 附近，模仿在 1.39 附近。横线是最优解 1.64。"
@picture
def price(say):
    fig, axes = figure(height=3.6)
    blue = {"color": COLORS["policy"]}
    for name, count in COUNTS.items():
        axes.plot([count] * 3, list(arms.values(runs, name).values()), "o", **blue)
    axes.plot(list(COUNTS.values()), by_count, ":", **blue)
    axes.plot([206_000] * 3, list(arms.values(runs, "recipe").values()), "D", **blue)
    for name, marker in (("online_dpo", "s"), ("rloo", "s"), ("imitation", "^")):
        look, seen = {"color": color_of(name)}, list(arms.values(runs, name).values())
        axes.plot([23_800] * 3, seen, marker, markerfacecolor="none", **look)
        at = np.mean(seen) + {"rloo": 0.012, "online_dpo": -0.012}.get(name, 0)
        look |= {"ha": "right", "va": "center", "fontsize": 9}
        axes.text(22_500, at, say(*ARMS[name]), **look)
    recipe = say("shipped recipe", "随书配方")
    axes.text(215_000, 1.56, recipe, ha="right", fontsize=9, **blue)
    words = say("DPO on stored pairs", "用存好的偏好对做 DPO")
    axes.text(60_000, 1.505, words, fontsize=9, **blue)
    axes.axhline(best_J, color=COLORS["theory"])
    axes.text(11_300, best_J + 0.005, say("optimum", "最优解"), color=COLORS["theory"])
    axes.set(xscale="log", xlim=(11_000, 250_000), ylim=(1.34, 1.67))
    axes.set_xticks(list(COUNTS.values()), [f"{count:,}" for count in COUNTS.values()])
    axes.minorticks_off()
    axes.set_xlabel(say("judged answers", "评判过的回答数"))
    axes.set_ylabel(say("$J$: reward less KL penalty", "$J$：奖励减去 KL 惩罚"))


# %% [markdown] lang="en"
# **Figure 12.7.** What stored pairs cost, a point a seed. The dotted line has one setting throughout; the three on the left are at 25,600 too.

# %% [markdown] lang="zh"
# **图 12.7** 存好的偏好对贵多少，一个种子一个点。点线上设置始终不变；左边三种也都是评判 25,600 个回答。

# %% [markdown] lang="en"
# **Fresh answers, and the leash on the whole answer: one spot.** REINFORCE, RLOO and PPO come to 1.59, within 0.01 of each other, and online DPO with them.
#
# **Stored pairs cost judged answers.** DPO on as many comes to 1.50: below online DPO on every seed, and above imitation of its own file, 1.39. With four times as many it is still below online DPO on every seed, by little; with 192,000 it comes to 1.59. So stored pairs are a price and no ceiling. Nor is all of the price theirs: on 19,200 pairs, chapter 9's DPO with an SFT term came to 1.55, and imitation of hot pairs, without the ties, to 1.49.
#
# **The leash in the loss costs too.** All six arms that have it there end below REINFORCE, RLOO and PPO, on every seed; at RLOO's own batch and rate as well (figure 12.9).
#
# **A reward model in between** takes PPO down to 1.48. **Choosing** needs no training: best of 16 has 1.64, and asks the judge sixteen times for each answer.
#
# A difference of 0.01 decides nothing here, and a wider search might move an arm. [Tang et al. 2024](https://arxiv.org/abs/2405.08448) find online above offline training of language models too, [Xu et al. 2024](https://arxiv.org/abs/2404.10719) PPO above DPO.

# %% [markdown] lang="zh"
# **回答现写、绳子拴住整个回答的，都落在同一处。** REINFORCE、RLOO、PPO 都到 1.59，彼此相差不到 0.01，在线 DPO 也在一起。
#
# **存好的偏好对，要多评判才补得回来。** 评判一样多，DPO 到 1.50：三个种子都低于在线 DPO，都高于对同一份文件的模仿（1.39）。评判的回答加到四倍，三个种子仍都低于在线 DPO，只是低得不多；加到 192,000 个，才到 1.59。可见存好的偏好对只是贵，并不封顶。贵也不全怪它：第 9 章用 19,200 个偏好对，加了 SFT 项的 DPO 到 1.55；同这里一样用升温的偏好对，丢掉平局的模仿到 1.49。
#
# **绳子拴在损失里，也要吃亏。** 这样拴的六种，三个种子都低于 REINFORCE、RLOO 和 PPO；批量和学习率都照 RLOO 的来，也是如此（图 12.9）。
#
# **中间隔一个奖励模型**，PPO 就降到 1.48。**挑选**不用训练：best-of-16 有 1.64，只是每给一个回答，要请裁判评十六次。
#
# 差 0.01，在这里什么也说明不了；设置搜得宽些，也许有的方法会挪位置。[Tang et al. 2024](https://arxiv.org/abs/2405.08448) 在语言模型上也看到在线胜过离线（offline），[Xu et al. 2024](https://arxiv.org/abs/2404.10719) 看到 PPO 胜过 DPO。

# %% tags=["proof"] checked_en="Checked in every seed: which arms are level, which above which, and by how much." checked_zh="已对每个种子验证：谁同谁打平，谁在谁之上，差多少。"
# concluded from the arms
assert {J_of(name) for name in (*ON_FRESH, "online_dpo")} == {"1.59"}
middles = [arms.arm_mean(runs, name).value for name in (*ON_FRESH, "online_dpo")]
assert max(middles) - min(middles) < 0.01
assert arms.beats(runs, "online_dpo", "dpo", by=0.04)
assert arms.beats(runs, "dpo", "imitation", by=0.08)
assert arms.beats(runs, "imitation", "base", by=0.3)
assert (J_of("dpo"), J_of("imitation")) == ("1.50", "1.39")
for name in IN_LOSS:
    assert all(arms.beats(runs, other, name, by=0.03) for other in ON_FRESH)
assert len(IN_LOSS) == 6 and (J_of("best_of_n"), J_of("rm_ppo")) == ("1.64", "1.48")
assert arms.beats(runs, "ppo", "rm_ppo", by=0.08)

# %% tags=["proof"] checked_en="Checked in every seed: what DPO on stored pairs comes to with each number of judged answers, beside online DPO and chapter 9's runs." checked_zh="已对每个种子验证：评判的回答数不同时，用存好的偏好对做 DPO 各到哪里，并同在线 DPO 和第 9 章的训练对照。"
# concluded of the price
assert by_count == sorted(by_count) and J_of("dpo_192000") == "1.59"
assert arms.beats(runs, "dpo_192000", "dpo", by=0.05)
assert arms.beats(runs, "online_dpo", "dpo_102400")
for name in ("dpo_192000", "recipe"):  # level with those on fresh answers
    assert abs(arms.arm_mean(runs, name).value - middles[0]) < 0.01
    assert not arms.beats(runs, "online_dpo", name)
chapter_9 = json.loads(Path("data/dpo_arms.json").read_text(encoding="utf-8"))
assert f"{arms.arm_mean(chapter_9['runs'], 'sft term').value:.2f}" == "1.55"
hot_file = json.loads(Path("data/hot_imitation.json").read_text(encoding="utf-8"))
untied = arms.arm_mean(hot_file["runs"], "imitation, hot, no ties")
assert f"{untied.value:.2f}" == "1.49" and chapter_9["settings"]["pairs"] == 19_200
assert max(arms.gaps(runs, "online_dpo", "dpo_102400").values()) < 0.03  # by little


# %% [markdown] lang="en"
# ## ⋆ What was tried
# A comparison is as fair as its tuning. Every arm had four settings, no more for one than for another: two learning rates, each with two values of one other number (the answers in a batch, the temperatures of the second answers, PPO's updates for each draw, $n$); `best_of_n`, which has no rate, had four $n$. They were tried from base model 0 on random numbers and prompts of their own. Here is $J$ of each, four to an arm:

# %% [markdown] lang="zh"
# ## ⋆ 试过哪些设置
# 调参公平，比较才公平。每种方法都试四组设置，谁也不多试：两个学习率，各配另一个数的两个取值（一批多少个回答，第二个回答的温度，PPO 每批更新几次，或者 $n$）；`best_of_n` 没有学习率，试四个 $n$。都用 0 号基座模型试，随机数和提示也都另用一套。下面每种四组，各附 $J$：

# %%
tried = stored["tried"]
TUNED = list(dict.fromkeys(run["name"] for run in tried))


def short(setting):
    """A setting in a few characters: rate, prompts x answers, the rest."""
    found = [f"{setting['rate']:g}"] if "rate" in setting else []
    if "prompts" in setting:
        found.append(f"{setting['prompts']}x{setting['answers']}")
    heat = setting.get("temperatures", ())
    found += ["T=" + "/".join(map(str, heat))] if heat else []
    found += [f"{name}={setting[name]}" for name in ("epochs", "n") if name in setting]
    return " ".join(found)


settings_of, heights = {}, {}
for name in TUNED:
    of = [run for run in tried if run["name"] == name]
    heights[name] = {short(run["setting"]): run["J"]["value"] for run in of}
    settings_of[name] = {short(run["setting"]) for run in runs if run["name"] == name}
    cells = [f"{setting:>22} {J:.2f}" for setting, J in heights[name].items()]
    print(f"{name:14}", *cells[:2], "\n" + " " * 14, *cells[2:])

# %%
# concluded of the tuning
for name in TUNED:
    assert len(heights[name]) == 4  # as many for each; the best one ran
    assert settings_of[name] == {max(heights[name], key=heights[name].get)}
    assert min(heights[name].values()) > 1.25  # the base model: 1.05
trains = [name for name in TUNED if name != "best_of_n"]
by_setting = {name: np.ptp(list(heights[name].values())) for name in trains}
by_seed = {name: np.ptp(list(arms.values(runs, name).values())) for name in trains}
for of in (by_setting, by_seed):
    ranked = sorted(of, key=of.get)
    print({name: f"{of[name]:.3f}" for name in ranked[-3:]})
    assert ranked[-1] == "dpo"
cool, hot_pairs = (
    [J for s, J in heights["dpo"].items() if s.endswith(t)] for t in ("=1.0", "2.0")
)
assert min(hot_pairs) > max(cool) + 0.1 > max(hot_pairs) - 0.1
shared = heights["dpo"].keys() & heights["online_dpo"].keys()
assert len(shared) == 4 and all(
    heights["online_dpo"][s] > heights["dpo"][s] for s in shared
)


# %% tags=["figure"] alt_en="Fifteen rows, one an arm, against J from 1.28 to 1.65. Grey open circles: the four settings tried; filled points: three seeds of the best. REINFORCE, RLOO, PPO and online DPO have their points close together near 1.59. Best of n climbs from 1.34 to 1.64. The settings of DPO spread from 1.30 to 1.49 and its seeds from 1.48 to 1.54. A line marks the optimum at 1.64." alt_zh="十五行，每行一种方法，横轴是 J，从 1.28 到 1.65。灰色空心圈：试过的四组设置；实心点：最好那组的三个种子。REINFORCE、RLOO、PPO、在线 DPO 的点紧挨在 1.59 附近。best-of-n 从 1.34 升到 1.64。DPO 的设置从 1.30 散到 1.49，种子从 1.48 散到 1.54。竖线是最优解 1.64。"
@picture
def stability(say):
    fig, axes = figure(width=6.6, height=5.0)
    order = sorted(TUNED, key=lambda name: arms.arm_mean(runs, name).value)
    ring = {"markerfacecolor": "none", "color": COLORS["ref"], "markersize": 6}
    for row, name in enumerate(order):
        axes.plot(list(heights[name].values()), [row + 0.15] * 4, "o", **ring)
        seen = list(arms.values(runs, name).values())
        axes.plot(seen, [row - 0.15] * 3, "o", color=color_of(name), markersize=5)
    axes.axvline(best_J, color=COLORS["theory"])
    star = {"color": COLORS["theory"], "ha": "right"}
    axes.text(best_J - 0.005, 0, say("optimum", "最优解"), **star)
    note = say(
        "open: settings tried\nfilled: seeds of the best",
        "空心：试过的设置\n实心：最好那组的种子",
    )
    axes.text(1.29, 11.1, note, color=INK, fontsize=10, linespacing=1.3)
    axes.set_yticks(range(len(order)), [say(*ARMS[name]) for name in order])
    axes.set_xlabel(say("$J$: reward less KL penalty", "$J$：奖励减去 KL 惩罚"))


# %% [markdown] lang="en"
# **Figure 12.8.** Stability: four settings tried, one run each, and three seeds of the best one. No run collapsed.
#
# Among the arms that train, DPO depends most on its setting, above all on the temperature of its pairs, and on its seed. (Online DPO had the same four settings and is ahead at each.) It took the hotter pairs and the lower rate, both at an edge of what was tried; a wider search might move it most. And all was tuned on one base model.

# %% [markdown] lang="zh"
# **图 12.8** 稳定性：试过的四组设置，各跑一次；最好的那组，跑三个种子。没有哪一次训练崩溃。
#
# 要训练的方法里，受设置影响最大的是 DPO，尤其看抽偏好对的温度；受种子影响最大的也是它。（在线 DPO 试的是同样四组设置，组组领先。）DPO 选中的是高的温度、低的学习率，都在试过的边上，搜得宽些，最可能挪位置的就是它。再说，调参只用了一个基座模型。


# %% [markdown] lang="en"
# ## ⋆ A leash of its own for every prompt
# GRPO's two divisions act on the leash. It divides by the standard deviation $s$ of a group's rewards. In large groups that multiplies everything but the leash by $1/s$, which is the same direction as leaving the reward alone and multiplying $\beta$ by $s$: **every prompt gets a $\beta$ of its own**, $\beta s$. For a reward of right or wrong, where the policy is right with probability $v$, $s=\sqrt{v(1-v)}$: half of $\beta$ at $v=0.5$, a tenth at $v=0.99$. The surer the policy, the longer its leash. In small groups this is milder, because a group without a mistake has no advantages at all: with four answers it is $0.71\,\beta$ and $0.67\,\beta$, as the cell below counts.
#
# It also takes the mean over an answer's tokens in place of the sum, which divides the push on an answer by its length. And since its baseline includes the answer itself, the reward's part is shorter by $1-\frac1K$ and the leash's is not, so that the leash in effect is $\frac{K}{K-1}\beta$; that is true of Dr. GRPO and DAPO as well. With the leash in the reward the same factor is harmless, a smaller learning rate.

# %% [markdown] lang="zh"
# ## ⋆ 每个提示一根绳子
# GRPO 的两处除法，都会动到绳子。一处是除以一组奖励的标准差 $s$。组大的时候，这等于把绳子以外的各项都乘上 $1/s$；只论方向，又等于奖励不动，把 $\beta$ 乘上 $s$：**每个提示各有各的 $\beta$**，即 $\beta s$。奖励若只分对错，策略答对的概率是 $v$，那么 $s=\sqrt{v(1-v)}$：$v=0.5$ 时 $\beta$ 剩一半，$v=0.99$ 时剩十分之一。策略越有把握，绳子越长。组小的时候没这么厉害，因为一组里一个错的也没有，优势就全是零：每组四个回答时，分别是 $0.71\,\beta$ 和 $0.67\,\beta$，下面的单元格会算出来。
#
# 另一处，是对一个回答的各词元取平均，而不求和：推动一个回答的力，要除以它的长度。还有，它的基线把自己也算进去，奖励那一份就缩短成 $1-\frac1K$ 倍，绳子那一份却没有，等于把绳子收紧成 $\frac{K}{K-1}\beta$；Dr. GRPO 和 DAPO 也是这样。绳子若在奖励里，这个系数没有害处，等于学习率小一点。

# %%
for size, told in ((2_000, (0.50, 0.10)), (4, (0.71, 0.67))):
    for v, share in zip((0.5, 0.99), told):
        hits = torch.arange(size + 1).double()  # how many of the group are right
        world = torch.distributions.Binomial(size, torch.tensor(v).double())
        chance_of, part = world.log_prob(hits).exp(), hits / size
        s = (part * (1 - part) * size / (size - 1)).sqrt() + 1e-4
        divided = (chance_of * part * (1 - part) / s).sum().item()
        print(f"groups of {size}, v {v}: beta times {v * (1 - v) / divided:.2f}")
        assert abs(v * (1 - v) / divided - share) < 0.005

# %% [markdown] lang="en"
# ## ⋆ Where each leash ends, fork by fork
# With the leash in the loss, a fork of the tree comes to rest where a single choice would, with what is to be expected after a token in place of the reward. (How often a fork is reached multiplies the push and the pull alike, and drops out.) Let $g(c)$ be the mean reward of the answers that the policy goes on to write after choosing $c$. Then at every fork, the last ones first,
#
# $$k_3:\quad\pi(c)=\frac{\beta\,\pi_{\mathrm{ref}}(c)}{\mu-g(c)}\qquad\qquad\rho\,k_3:\quad\pi(c)=\frac1Z\,\pi_{\mathrm{ref}}(c)\,e^{g(c)/\beta}.$$
#
# The left form is the one that chapter 6 found for the KL turned round (equation 6.9); $\mu$, there $\lambda$, makes the probabilities sum to 1. This is for sums over tokens, as in Dr. GRPO and, up to a constant, DAPO; with GRPO's mean, $\beta$ and $g$ are weighted, branch by branch, by one over the length of the answers.
#
# On the tree of figure 12.2, with $\beta=0.5$ and a reward of 1 for one of the two answers that begin with $u$: with $\rho\,k_3$ that answer is written, after $u$, with $e^2/(e^2+1)=0.88$. So $g(u)=0.88$, $g(v)=0$, and $u$ itself gets $e^{1.76}/(e^{1.76}+1)=0.85$. The optimum has less, $(e^2+1)/(e^2+3)=0.81$: it knows what the second fork costs.

# %% [markdown] lang="zh"
# ## ⋆ 逐个岔口算：绳子的尽头在哪里
# 绳子拴在损失里时，树上每个岔口停下来的地方，都和只选一次时一样，只是原来放奖励的位置，换成了选这个词元之后能期望得到的。（一个岔口多久走到一次，推力和拉力一起乘上，就约掉了。）记 $g(c)$ 为选了 $c$ 以后，策略写出的那些回答的平均奖励。从最后的岔口算起，每个岔口都停在
#
# $$k_3:\quad\pi(c)=\frac{\beta\,\pi_{\mathrm{ref}}(c)}{\mu-g(c)}\qquad\qquad\rho\,k_3:\quad\pi(c)=\frac1Z\,\pi_{\mathrm{ref}}(c)\,e^{g(c)/\beta}$$
#
# 左边的形式，就是第 6 章为方向相反的 KL 求出的那个（式 6.9）；$\mu$（那里叫 $\lambda$）让概率加起来等于 1。这是对词元求和，即 Dr. GRPO 的情形，差一个常数也就是 DAPO；换成 GRPO 的平均，每条分支上的 $\beta$ 和 $g$ 都要按回答长度的倒数加权。
#
# 就用图 12.2 的树，取 $\beta=0.5$，以 $u$ 开头的两个回答里，有一个得 1 分。用 $\rho\,k_3$，写了 $u$ 之后，写出那个回答的概率是 $e^2/(e^2+1)=0.88$。于是 $g(u)=0.88$，$g(v)=0$，$u$ 自己得到 $e^{1.76}/(e^{1.76}+1)=0.85$。最优解要少一些，是 $(e^2+1)/(e^2+3)=0.81$：它知道第二个岔口要付多少账。

# %%
at_u = optimal_policy(Problem(even, torch.tensor([1.0, 0.0]).double()), 0.5).exp()[0]
first_token = optimal_policy(Problem(even, torch.stack((at_u, 0 * at_u))), 0.5).exp()[0]
four_answers = Problem(torch.full((4,), 0.25).double().log(), torch.eye(4)[0].double())
by_optimum = optimal_policy(four_answers, 0.5).exp()[:2].sum()
print(f"after u {at_u:.2f}, u {first_token:.2f}; the optimum's u {by_optimum:.2f}")
assert f"{at_u:.2f} {first_token:.2f} {by_optimum:.2f}" == "0.88 0.85 0.81"
assert f"{2 * at_u:.2f}" == "1.76"

# %% tags=["proof"] checked_en="Checked on 20 random trees with two tokens of three kinds: solved fork by fork, the gradient of Dr. GRPO's objective is zero, with either term, and the policy is not the optimum." checked_zh="在 20 棵随机的树上验证（两个词元，各三选一）：逐个岔口解出来的策略，Dr. GRPO 目标的梯度为零，两种 KL 项都如此；而且它不是最优解。"
root_ref = random_policies(INSTANCES, 3, seed=SEED + 3)
leaf_ref = random_policies(INSTANCES, 3, 3, seed=SEED + 4)
worth = random_policies(INSTANCES, 3, 3, seed=SEED + 5)
for kl_term, solve in (("k3", other_optimum), ("ratio_k3", optimal_policy)):
    leaf = solve(Problem(leaf_ref, worth), strength[..., None]).requires_grad_()
    ahead_of = mean(leaf, worth).detach()  # (20, 3): expected after each first token
    root = solve(Problem(root_ref, ahead_of), strength).requires_grad_()
    one, two = root.log_softmax(-1), leaf.log_softmax(-1)
    both = one[..., None] + two  # (20, 3, 3): log pi of an answer
    paid = kl_penalty(one, one.detach(), root_ref, kl_term)[..., None]
    paid = paid + kl_penalty(two, two.detach(), leaf_ref, kl_term)  # fork by fork
    worth_it = both.detach().exp() * (worth * both - strength[..., None] * paid)
    for pull in grad(worth_it.sum(), (root, leaf)):
        assert pull.abs().max() < 1e-8
    nine = Problem((root_ref[..., None] + leaf_ref).flatten(1), worth.flatten(1))
    distance = (optimal_policy(nine, strength) - both.flatten(1)).abs().amax(-1)
    assert distance.min() > 1e-3

# %% [markdown] lang="en"
# In the book's own task the population's rates are known, and so are all forks. With the reward of the comparison, $\beta=0.25$ and groups of four, `python chapters/data/rl_ends.py` solves the tree of every prompt, for each method with each of the two terms. Where $s$ divides, it depends on what the policy itself gets right, so these trees are solved again with the new shares, until nothing moves.
#
# > **Before you run it.** $\rho\,k_3$ holds down the right KL. Does it therefore end higher than $k_3$, for all three methods?
#
# <details><summary>Answer</summary>
#
# For Dr. GRPO only. GRPO and DAPO lose by it, and run to about two nats.
#
# </details>

# %% [markdown] lang="zh"
# 在本书的任务里，群体的各种比例都已知，每个岔口上的概率也就已知。奖励同前面的比较，$\beta=0.25$，每组四个回答。`python chapters/data/rl_ends.py` 把每个提示的树都解出来，每种方法两种 KL 项各解一遍。除以 $s$ 的，$s$ 取决于策略自己答对多少，所以要用新的比例再解，解到不再变为止。
#
# > **先猜一猜。** $\rho\,k_3$ 压低的才是该压的 KL。那么三种方法换上它，都会比 $k_3$ 停得更高吗？
#
# <details><summary>答案</summary>
#
# 只有 Dr. GRPO 是这样。GRPO 和 DAPO 反而吃亏，跑到两奈特左右。
#
# </details>

# %%
ends = json.loads(Path("data/rl_ends.json").read_text(encoding="utf-8"))["ends"]
TERMS = {name: (name, f"{name}_ratio") for name in ("dr_grpo", "grpo", "dapo")}
print(f"{'':9}{'k3: KL':>8}{'J':>7}{'ratio_k3: KL':>15}{'J':>7}")
for name, (k3, ratio) in TERMS.items():
    first_half = f"{ends[k3]['kl']:8.2f}{ends[k3]['J']:7.2f}"
    print(f"{name:9}{first_half}{ends[ratio]['kl']:15.2f}{ends[ratio]['J']:7.2f}")
# undivided, the ratio's end is the higher one; divided by s, the lower one
assert ends["dr_grpo_ratio"]["J"] > ends["dr_grpo"]["J"] + 0.04
for name in ("grpo", "dapo"):
    assert ends[f"{name}_ratio"]["J"] < ends[name]["J"] - 0.06
    assert ends[f"{name}_ratio"]["kl"] > 1.5 * best[1]
hearing = place(optimal_policy(classes, BETA * 4 / 3))  # groups of four tighten it
heard_end = ends["dr_grpo_ratio_heard"]
assert np.allclose([heard_end["reward"], heard_end["kl"]], hearing, atol=1e-3)
told = [f"{ends[end]['J']:.2f}" for end in ("dr_grpo_ratio", "dr_grpo_ratio_heard")]
assert [*told, f"{best_J:.2f}"] == ["1.58", "1.63", "1.64"]
# %% [markdown] lang="en"
# Why does the right KL end lower for GRPO and DAPO? Their leash is $\beta s$ and lengthens as the policy grows sure. The right KL follows it, to about two nats. The KL turned round holds hard against giving any answer up, and so happens to hide the fault. **The two settings belong together: $\rho\,k_3$ without the standard deviation.** Whoever sets `beta` in TRL 1.16 and nothing else has DAPO's loss, the ratio *and* the deviation (there with groups of eight).
#
# What Dr. GRPO still lacks at its corrected end, 1.58 of 1.64, is mostly deafness: if earlier tokens heard of what later ones cost, it would end at 1.63, which is the closed form with the leash that groups of four tighten.
#
# No network had a part in these numbers. Do networks go there? The best setting of an arm may be one that stops before its end. So `python chapters/data/rl_leash.py` trains all six at one setting, of those tried the one that goes furthest, from three seeds.

# %% [markdown] lang="zh"
# 压低的明明是该压的 KL，GRPO 和 DAPO 为什么反而停得低？它们的绳子是 $\beta s$，策略越有把握，绳子越长。该压的 KL 就顺着它放到两奈特左右；方向相反的 KL 哪个回答都不肯放手，碰巧把这个毛病遮住了。**这两个设置要一起用：$\rho\,k_3$，同时不除标准差。** 在 TRL 1.16 里只设 `beta`、别的都不动，得到的是 DAPO 的损失，比值*和*标准差都在（它默认每组八个）。
#
# Dr. GRPO 换成修正过的一项，停在 1.58，离 1.64 还差一点，大半是因为后面的账传不到前面：要是传得到，它会停在 1.63，正是闭式解，只是绳子按每组四个收紧。
#
# 算这些数，没有用到任何网络。网络真会走到那里吗？一种方法最好的设置，也许只是还没走到尽头就停了。所以 `python chapters/data/rl_leash.py` 让六种都用同一组设置，试过的里面走得最远的那组，各跑三个种子。

# %%
far = json.loads(Path("data/rl_leash.json").read_text(encoding="utf-8"))["runs"]
titles = ("end: KL", "J", "furthest: KL", "J", "best: KL", "J")
WIDTHS = (10, 6, 15, 6, 11, 6)
print(" " * 14 + "".join(f"{title:>{w}}" for title, w in zip(titles, WIDTHS)))
rows_of = {}
for end in IN_LOSS:
    row = [ends[end]["kl"], ends[end]["J"]]
    for which in (far, runs):  # one setting for all; the best one of each
        row += [arms.arm_mean(which, end, part).value for part in ("kl", "J")]
    rows_of[end] = row
    print(f"{end:14}" + "".join(f"{x:{w}.2f}" for x, w in zip(row, WIDTHS)))

# %% tags=["proof"] checked_en="Checked in every seed: the ends of the two leashes, and their runs at one setting." checked_zh="已对每个种子验证：两种绳子的终点，以及同一设置下的运行。"
# concluded of the ends
(setting,) = {short(run["setting"]) for run in far}
assert all(setting in heights[end] for end in IN_LOSS)  # one of those tried
at_rloo = [run for run in runs if run["name"] == "rloo"]
assert {short(run["setting"]) for run in at_rloo} == {setting}  # the same footing
for end in IN_LOSS:
    assert arms.beats([*at_rloo, *far], "rloo", end, by=0.04)
for end_kl, end_J, kl_far, J_far, _, _ in rows_of.values():
    assert abs(kl_far - end_kl) < 0.15 and 0.02 < end_J - J_far < 0.06
assert arms.beats(far, "dr_grpo_ratio", "dr_grpo", by=0.03)
for name, told in (("grpo", "2.1 1.0"), ("dapo", "2.0 1.5")):
    ratio = f"{name}_ratio"
    assert arms.beats(far, name, ratio, by=0.04)
    assert f"{rows_of[ratio][2]:.1f} {rows_of[ratio][4]:.1f}" == told
    early, late = arms.values(runs, ratio), arms.values(far, ratio)
    assert min(early[seed] - late[seed] for seed in (0, 1, 2)) > 0.06
assert f"{best_J - arms.arm_mean(runs, 'reinforce').value:.2f}" == "0.05"


# %% tags=["figure"]
def key_of_ends(axes, say):
    """What the marks of the next picture mean."""
    note = say(
        "cross: computed end\nfilled: one setting,\nthe furthest\nopen: best setting",
        "叉号：算出的终点\n实心：同一组设置，\n走得最远\n空心：各自最好的设置",
    )
    axes.text(1.32, 1.65, note, fontsize=9, color=INK, linespacing=1.3)
    ink = {"color": COLORS["theory"], "fontsize": 9, "ha": "right"}
    axes.text(1.1, 1.96, say("frontier", "前沿"), **ink)


# %% tags=["figure"] alt_en="Two panels of mean reward against KL from 0.6 to 2.35 under the frontier. Left, with k3: crosses at KL 1.03, 1.28 and 1.30, and the runs of each method close by, a little lower and to the right. Right, with the ratio: Dr. GRPO has its cross at 0.95 and its runs beside it; GRPO and DAPO have crosses far to the right, at 2.12 and 1.94, beyond the end of the curve, and their filled points just below these; their open points lie near KL 1.0 and 1.5." alt_zh="两幅小图，平均奖励随 KL 的变化，KL 从 0.6 到 2.35，上方是前沿。左，用 k3：叉号在 KL 1.03、1.28、1.30，各方法的点都在附近，略低、略靠右。右，乘了比值：Dr. GRPO 的叉号在 0.95，点就在旁边；GRPO 和 DAPO 的叉号远在右边，2.12 和 1.94，已过了曲线的尽头，实心点就在叉号下方；空心点在 KL 1.0 和 1.5 附近。"
@picture
def leashes_end(say):
    fig, panels = figure(columns=2, width=7.2, height=4.0)
    panels[1].sharey(panels[0])
    titles = (
        say("$k_3$ in the loss", "损失里放 $k_3$"),
        say(r"$\rho\,k_3$ in the loss", r"损失里放 $\rho\,k_3$"),
    )
    inks = {"dr_grpo": "policy", "grpo": "baseline", "dapo": "chosen"}
    for axes, which, title in zip(panels, (0, 1), titles):
        axes.plot(kl_line, reward_line, color=COLORS["theory"])
        for name, pair in TERMS.items():
            end, ink = pair[which], {"color": COLORS[inks[name]]}
            for which_runs, fill in ((runs, "none"), (far, COLORS[inks[name]])):
                for run in [run for run in which_runs if run["name"] == end]:
                    at = run["kl"]["value"], run["reward"]["value"]
                    axes.plot(*at, "o", markersize=5, markerfacecolor=fill, **ink)
            axes.plot(ends[end]["kl"], ends[end]["reward"], "X", markersize=10, **ink)
            word = {"dr_grpo": "Dr. GRPO", "grpo": "GRPO", "dapo": "DAPO"}[name]
            axes.plot([], [], "o", label=word, **ink)
        axes.set(title=title, xlim=(0.6, 2.35), ylim=(1.63, 2.04))
        axes.set_xlabel(say("KL (nats)", "KL（奈特）"))
    key_of_ends(panels[0], say)
    panels[0].set_ylabel(say("mean reward", "平均奖励"))
    fig.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)


# %% [markdown] lang="en"
# **Figure 12.9.** Runs and computed ends. Crosses: the ends, fork by fork. Filled: three seeds at one setting for all, the furthest. Open: three seeds at the best setting of each arm. Curve: the frontier.
#
# The networks go where the forks say, to within 0.15 nats. On every seed Dr. GRPO ends higher with $\rho\,k_3$ than with $k_3$, and GRPO and DAPO end lower, at about two nats. At their best settings these two stand at 1.0 and 1.5 nats, and on every seed at least 0.06 higher in $J$: they are best where they are stopped early. An early stop hides where a leash ends.
#
# In $J$ all of them stay 0.02 to 0.06 below their crosses, as REINFORCE stays 0.05 below the star. What keeps them there we have not found out.

# %% [markdown] lang="zh"
# **图 12.9** 训练结果与算出的终点。叉号：逐个岔口算出的终点。实心：都用走得最远的那组设置，三个种子。空心：各用自己最好的设置，三个种子。曲线：前沿。
#
# 网络走到的，就是逐个岔口算出来的地方，相差不到 0.15 奈特。三个种子个个如此：换成 $\rho\,k_3$，Dr. GRPO 停得更高，GRPO 和 DAPO 停得更低，停在两奈特左右。用各自最好的设置，这两种停在 1.0 和 1.5 奈特，三个种子的 $J$ 都至少高出 0.06：最好的成绩，靠的是停得早。停得早，就看不出绳子的尽头在哪里。
#
# 它们的 $J$ 都比自己的叉号低 0.02 到 0.06；REINFORCE 比星号也低 0.05。是什么把它们留在下面，我们没有查出来。

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
# ## A judge that can be fooled
# Real judges have holes, and a policy that is paid by the judge has every reason to find them. [Skalse et al. 2022](https://arxiv.org/abs/2209.13085) define **reward hacking**: the judge's reward, the *proxy*, goes up while the true reward, here called *gold*, goes down. A proxy that rises while gold rises less is a gap, and no hacking yet.
#
# RLOO gets three judges (`python chapters/data/rl_leak.py`, five seeds):
#
# - `honest`, the exact checker;
# - `digit`, which checks the last digit only, and so forgives any difference that is a multiple of ten;
# - `model`, a reward model fitted to 12,800 pairs that the honest judge has labelled.
#
# What `digit` does can be said in advance. An author's slip misses the target by ten, so every text that an author can write passes. The reward then says nothing about exactness, and the optimum is that of the style alone: 75 % of the answers are right, as in the base model. At $\beta=0.25$ the judge should see 1.96 points, and we 1.71.
#
# > **Before you run it.** Now take the leash off, $\beta=0$. The judge `digit` cannot see whether a sum is right. Does exactness stay at 75 %?
#
# <details><summary>Answer</summary>
#
# No. It falls on all five seeds, to 50 % on average, probably because nothing holds it any more, and of all the values that pass only one is right.
#
# </details>

# %% [markdown] lang="zh"
# ## 骗得过的裁判
# 前面的裁判从不判错；真实的裁判都有漏洞，而靠裁判给分的策略，有的是理由去找漏洞。[Skalse et al. 2022](https://arxiv.org/abs/2209.13085) 给**奖励作弊**（reward hacking，又译奖励黑客）下过定义：裁判给的奖励（*代理奖励*，proxy）往上走，真正的奖励（这里叫*真奖励*，gold）却往下走。代理奖励升得多、真奖励升得少，那是有差距，还不算作弊。
#
# 下面给 RLOO 三个裁判（`python chapters/data/rl_leak.py`，五个种子）：
#
# - `honest`，精确的判分程序；
# - `digit`，只核对末位数字，所以差值是十的倍数就放过；
# - `model`，奖励模型，用诚实的裁判标好的 12,800 对拟合出来。
#
# `digit` 会怎样，事先就说得出来。作者的失误正好差十，所以凡是作者写得出的文本，它都放过。这样一来，算得对不对，奖励里完全看不出来，最优解就是只看风格的最优解：算对的占 75%，和基座模型一样多。$\beta=0.25$ 时，裁判该看到 1.96 分，我们看到的是 1.71 分。
#
# > **先猜一猜。** 现在解开绳子，$\beta=0$。`digit` 看不出算得对不对。正确率还会是 75% 吗？
#
# <details><summary>答案</summary>
#
# 不会。五个种子全都往下掉，平均掉到 50%。原因多半是：没东西拉着它了，而放过的那些值里，对的只有一个。
#
# </details>

# %%
leaky = json.loads(Path("data/rl_leak.json").read_text(encoding="utf-8"))["runs"]
for run in leaky:  # an arm is a judge, a method and a leash
    method = run["method"] or "base"
    run["name"] = " ".join(map(str, (run["judge"], method, run["beta"])))
    run["gold"] = run["reward"]
STRENGTHS = (0.25, 0.1, 0.03, 0.0)
LEAK = ("gold", "proxy", "style", "exact", "kl")
for judge in ("honest", "digit", "model"):
    called = {f"{judge} base None": f"{judge}, base"}
    called |= {f"{judge} rloo {b}": f"{judge}, beta {b}" for b in STRENGTHS}
    arms.show(arms.table(leaky, called, LEAK))
foretold = predicted_optimum(task, "style", BETA)
right, styled = foretold["exact"], foretold["style"]
assert f"{styled:.2f} {right:.2f}" == "0.96 0.75"
assert f"{1 + styled:.2f} {styled + right:.2f}" == "1.96 1.71"

# %%
first = [
    arms.arm_mean(leaky, "model base None", part).value for part in ("gold", "proxy")
]
ahead = first[0] - first[1]  # a reward model's scores are good up to a constant


def along(judge, part):
    """KL and reward, from the base model to no leash at all."""
    names = [f"{judge} base None"] + [f"{judge} rloo {b}" for b in STRENGTHS]
    up = ahead if (judge, part) == ("model", "proxy") else 0.0
    seen = [arms.arm_mean(leaky, name, part) for name in names]
    seen = [Estimate(x.value + up, x.low + up, x.high + up) for x in seen]
    return [arms.arm_mean(leaky, name, "kl").value for name in names], seen


# %% tags=["figure"] alt_en="Two panels against KL, on a scale of square roots from 0 to 25; five seeds with intervals. Left, the judge of the last digit: proxy, orange open squares, rises from 1.30 to 1.99 and stays; gold, blue points, rises from 1.05 to 1.73 and falls to 1.50 at KL 5.1. Green, gold under the honest judge, rises to 1.98. Right, the reward model: proxy rises from 1.05 to 1.77; gold rises to 1.78 at KL 1.5 and falls to 1.02 at KL 17. Green as on the left." alt_zh="两幅小图，横轴是 KL，按平方根刻度从 0 到 25；五个种子，带区间。左，只核对末位的裁判：代理奖励（橙色空心方块）从 1.30 升到 1.99 后不动；真奖励（蓝点）从 1.05 升到 1.73，到 KL 5.1 处降到 1.50。绿色是诚实裁判之下的真奖励，升到 1.98。右，奖励模型：代理奖励从 1.05 升到 1.77；真奖励在 KL 1.5 处升到 1.78，到 KL 17 处降到 1.02。绿色同左图。"
@picture
def fooled(say):
    fig, panels = figure(columns=2, width=7.2, height=4.0)
    panels[1].sharey(panels[0])
    titles = say("checks the last digit", "只核对末位"), say("reward model", "奖励模型")
    ideal = say("gold, honest judge", "诚实裁判下的真奖励")
    for axes, judge, title in zip(panels, ("digit", "model"), titles):
        lines = {
            ("honest", "gold"): (ideal, "chosen", "^"),
            (judge, "proxy"): (say("proxy", "代理奖励"), "rejected", "s"),
            (judge, "gold"): (say("gold", "真奖励"), "policy", "o"),
        }
        for which, (word, color, marker) in lines.items():
            at, seen = along(*which)
            points(axes, at, seen, color, label=word, marker=marker)
            axes.plot(at, [x.value for x in seen], ":", color=COLORS[color])
        free = {"color": COLORS["policy"], "ha": "center", "va": "top", "fontsize": 9}
        axes.text(at[-1], seen[-1].low - 0.02, say("no leash", "不拴绳子"), **free)
        axes.set_xscale("function", functions=(np.sqrt, np.square))
        axes.set(
            title=title, xticks=(0, 1, 2, 5, 10, 17), xlim=(0, 27), ylim=(0.7, 2.1)
        )
        axes.set_xlabel(say("KL (nats)", "KL（奈特）"))
    panels[0].set_ylabel(say("mean reward", "平均奖励"))
    fig.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)


# %% [markdown] lang="en"
# **Figure 12.10.** What the judge sees and what we wanted. From left to right: the base model, then a looser and looser leash. (The reward model's scores are moved to begin with gold.)
#
# On the leash the network does what was foretold for `digit`: the judge sees 1.93 points, and we 1.68. That is not hacking, since gold has risen; but nothing in the training shows it. Without a leash the proxy is higher and gold lower than at $\beta=0.25$, on every seed. Now it is hacking.
#
# The reward model is the commoner case. On the leash gold rises, to 1.78 at $\beta=0.03$. Without one the policy drifts to answers that the model likes better and better, far from any that it was fitted to. In the end 8 % are right, at a KL of 17. This is the curve of [Gao et al. 2023](https://arxiv.org/abs/2210.10760): as the KL grows, gold first rises with the proxy and then falls.
#
# What helps? A judge whose accuracy was measured where the policy is going, not where it came from. A leash, which limits what a hole can cost. And a look at gold, on a small sample. (Without a leash the honest judge had more than 98 % right, at a KL beyond 2.2 and a lower $J$.)

# %% [markdown] lang="zh"
# **图 12.10** 裁判看到的，和我们想要的。从左到右：先是基座模型，然后绳子一根比一根松。（奖励模型的分数平移过，和真奖励从同一点出发。）
#
# 拴着绳子，`digit` 之下的网络同预言的一样：裁判看到 1.93 分，我们看到 1.68 分。这不算作弊，真奖励毕竟升了；可是训练中什么也看不出来。解开绳子，同 $\beta=0.25$ 时相比，五个种子都是代理奖励升了、真奖励降了：这就是作弊了。
#
# 奖励模型的情形更常见。拴着绳子，真奖励升了，$\beta=0.03$ 时到 1.78。不拴，策略就漂向奖励模型越来越喜欢的回答，离拟合时见过的那些越来越远；最后算对的只有 8%，KL 到 17。这就是 [Gao et al. 2023](https://arxiv.org/abs/2210.10760) 的那条曲线：KL 越来越大，真奖励先跟着代理奖励升，然后降。
#
# 那么什么管用？裁判的准确率，要在策略将去的地方测，不能只在它出发的地方测。要有一根绳子，限住漏洞能造成的损失。还要抽一小份回答，看一看真奖励。（裁判若是诚实，解开绳子也没有空子可钻：答案正确的超过 98%。只是 KL 走到 2.2 奈特以外，$J$ 也比拴着时低。）


# %% tags=["proof"] checked_en="Checked in every seed: on the leash gold rises, without one the proxy is higher and gold lower, for both judges that can be fooled." checked_zh="已对每个种子验证：拴着绳子，真奖励升高；解开之后，两个骗得过的裁判都是代理奖励更高、真奖励更低。"
# concluded of the judges
def shown(arm, *parts):
    """The means of an arm, as the text has them."""
    return " ".join(f"{arms.arm_mean(leaky, arm, part).value:.2f}" for part in parts)


assert shown("digit rloo 0.25", "proxy", "gold") == "1.93 1.68"
assert arms.beats(leaky, "digit rloo 0.25", "digit base None", "gold", by=0.5)
assert shown("digit rloo 0.0", "proxy", "gold", "exact") == "1.99 1.50 0.50"
assert max(arms.values(leaky, "digit rloo 0.0", "exact").values()) < 0.65
for judge in ("digit", "model"):  # hacking, by its definition, seed by seed
    free, held = f"{judge} rloo 0.0", f"{judge} rloo 0.25"
    assert sorted(arms.values(leaky, free, "gold")) == [0, 1, 2, 3, 4]
    assert arms.beats(leaky, free, held, "proxy") and arms.beats(
        leaky, held, free, "gold"
    )
    assert arms.beats(leaky, held, f"{judge} base None", "gold")
assert shown("model rloo 0.03", "gold") == "1.78"
assert shown("model rloo 0.0", "gold", "exact") == "1.02 0.08"
assert round(arms.arm_mean(leaky, "model rloo 0.0", "kl").value) == 17

# %% tags=["proof"] checked_en="Checked in every seed: the honest judge without a leash." checked_zh="已对每个种子验证：没有绳子的诚实裁判。"
# concluded of the honest judge
J_honest = {}  # by leash, then seed
for leash in ("0.0", "0.25"):
    gold, kl = (arms.values(leaky, f"honest rloo {leash}", k) for k in ("gold", "kl"))
    J_honest[leash] = {seed: gold[seed] - BETA * kl[seed] for seed in gold}
assert len(J_honest["0.0"]) == 5
assert all(J_honest["0.25"][seed] > J for seed, J in J_honest["0.0"].items())
assert min(arms.values(leaky, "honest rloo 0.0", "kl").values()) > 2.2
assert min(arms.values(leaky, "honest rloo 0.0", "exact").values()) > 0.98

# %% [markdown] lang="en"
# ## ⋆ What the reward model does not know
# The reward model of [chapter 5](05_preferences.ipynb) had learnt the style and hardly the sums. This one, from far more pairs, ranks 97 to 98 % of new pairs of the base model's answers right. How can it mislead a policy?
#
# Take the number apart, by the kind of pair (`python chapters/data/rl_scores.py`). Of pairs with unlike style, and of pairs with two numbers each, it ranks more than 99 % right. Of pairs with three numbers each it ranks 48 to 70 % right, not much better than a coin. The base model writes few such pairs, 6 % of those that are no tie, so the mean does not show them. But three numbers are where the reward sends the policy: soon most of its answers are of the kind that its judge cannot tell apart. At $\beta=0.25$, 77 % are right, against 96 % under the honest judge.
#
# DPO finds a hole as well: from pairs that `digit` has labelled, 71 % are right at $\beta=0.25$, where honest labels led to 93 %. It takes no exploration, for the hole lies in what the base model already writes.
#
# [DeepSeek-AI 2025](https://arxiv.org/abs/2501.12948) name this danger as the reason to train reasoning without a neural reward model; [Lambert et al. 2024](https://arxiv.org/abs/2411.15124) call rewards that a program checks *verifiable*. And the training's own curves are no substitute for a look at gold.

# %% [markdown] lang="zh"
# ## ⋆ 奖励模型不知道什么
# [第 5 章](05_preferences.ipynb)的奖励模型学会了风格，算得对不对却没学到多少。这一个用的偏好对多得多，基座模型新写的偏好对，它能排对 97% 到 98%。它怎么还会把策略带偏？
#
# 把这个数按偏好对的种类拆开（`python chapters/data/rl_scores.py`）。风格不同的，或都写两个数的，排对的超过 99%。都写三个数的，排对 48% 到 70%，比抛硬币好不了多少。基座模型很少写出这样的一对，只占不分平局的 6%，所以平均数里看不出来。可奖励偏偏把策略往三个数上赶，不久它的回答就大多是裁判分不出好坏的那种。$\beta=0.25$ 时算对的占 77%，诚实的裁判之下是 96%。
#
# DPO 同样会掉进这个漏洞：用 `digit` 标的偏好对来训练，$\beta=0.25$ 时算对的占 71%；用诚实的标签，是 93%。用不着探索，漏洞就在基座模型本来会写的东西里。
#
# [DeepSeek-AI 2025](https://arxiv.org/abs/2501.12948) 训练推理能力时不用神经网络奖励模型，理由正是这个危险；[Lambert et al. 2024](https://arxiv.org/abs/2411.15124) 把程序能核对的奖励叫做*可验证的*（verifiable）。训练时的曲线，也代替不了看一眼真奖励。

# %%
ranks = json.loads(Path("data/rl_scores.json").read_text(encoding="utf-8"))["seeds"]
known, part_of = {}, {}
for kind in ("all", "unlike", "two", "three"):
    known[kind] = sorted(rank[kind]["value"] for rank in ranks)
    part_of[kind] = np.mean(
        [rank[kind]["pairs"] / rank["all"]["pairs"] for rank in ranks]
    )
    low, high = known[kind][0], known[kind][-1]  # of five seeds
    print(
        f"{kind:7}{part_of[kind]:5.0%} of pairs, ranked right {low:.3f} to {high:.3f}"
    )
ends_of = [f"{share:.2f}" for kind in ("all", "three") for share in known[kind][::4]]
assert ends_of == ["0.97", "0.98", "0.48", "0.70"]
assert (
    min(known["unlike"] + known["two"]) > 0.99 and f"{part_of['three']:.2f}" == "0.06"
)
assert shown("model rloo 0.25", "exact") == "0.77"
assert shown("honest rloo 0.25", "exact") == "0.96"
assert shown("digit dpo 0.25", "exact") == "0.71"
assert f"{arms.arm_mean(runs, 'dpo', 'exact').value:.2f}" == "0.93"

# %%
traces = {}
for judge in ("digit", "model"):
    of = [run["trace"] for run in leaky if run["name"] == f"{judge} rloo 0.0"]
    for part in ("gold", "proxy"):  # (seeds, points)
        traces[judge, part] = np.array([[point[part] for point in one] for one in of])
traces["model", "proxy"] += ahead
judged_at = [point["judged"] for point in of[0]]
for judge in ("digit", "model"):
    middle = traces[judge, "gold"].mean(0)
    print(judge, middle.round(2))
    assert middle.argmax() < 4 and middle[-1] < middle.max() - 0.05


# %% tags=["figure"] alt_en="Two panels against judged answers, 0 to 25,600, without a leash: the judge of the last digit left, the reward model right. Orange, proxy, climbs quickly and stays high in both. Blue, gold: left it climbs to about 1.55 within 8,000 answers and sinks slowly to 1.49; right it peaks at about 1.26 after 5,000 and sinks to 1.02. Bands over five seeds." alt_zh="两幅小图，横轴是评判过的回答数，0 到 25,600，不拴绳子：左是只核对末位的裁判，右是奖励模型。橙色代理奖励，两边都很快升高，一直不降。蓝色真奖励：左边 8,000 个之内升到 1.55 左右，再慢慢沉到 1.49；右边在 5,000 个左右达到顶点 1.26，再沉到 1.02。带子是五个种子的范围。"
@picture
def unleashed(say):
    fig, panels = figure(columns=2, width=7.2, height=3.2)
    titles = say("checks the last digit", "只核对末位"), say("reward model", "奖励模型")
    words = {"gold": say("gold", "真奖励"), "proxy": say("proxy", "代理奖励")}
    for axes, judge, title in zip(panels, ("digit", "model"), titles):
        for part, color in (("gold", COLORS["policy"]), ("proxy", COLORS["rejected"])):
            of = traces[judge, part]
            axes.plot(judged_at, of.mean(0), color=color)
            axes.fill_between(
                judged_at, of.min(0), of.max(0), color=color, alpha=0.15, lw=0
            )
            below = part == "gold"
            at = (25_000, of.mean(0)[-1] + (-0.12 if below else 0.05))
            axes.text(
                *at,
                words[part],
                color=color,
                ha="right",
                va="top" if below else "bottom",
            )
        axes.set(title=title, ylim=(0.7, 2.15), xticks=(0, 10_000, 20_000))
        axes.set_xlabel(say("judged answers", "评判过的回答数"))
    panels[0].set_ylabel(say("mean reward", "平均奖励"))
    panels[1].sharey(panels[0])


# %% [markdown] lang="en"
# **Figure 12.11.** Without a leash, along the training: proxy and gold of the answers that were trained on; means and range over five seeds. Whoever sees only the orange line sees a training that goes well.

# %% [markdown] lang="zh"
# **图 12.11** 不拴绳子的训练途中：训练所用回答的代理奖励和真奖励，五个种子的平均与范围。只看橙线的人，看到的是一次顺利的训练。

# %% [markdown] lang="en"
# ## ⋆ From the command line, and in TRL
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
# ## ⋆ 命令行与 TRL
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
# ## Which one, then?
# | what there is | what the runs of this chapter suggest |
# |---|---|
# | pairs, and nobody to ask again | DPO with an SFT term ([chapter 9](09_dpo.ipynb)), imitation beside it, ties dropped; more pairs, if to be had |
# | a judge to ask during training | draw, judge, push: REINFORCE and RLOO need no critic, and online DPO comes close |
# | a judge to ask about every answer given | best of $n$: nothing to train |
# | a judge with holes | a leash in the reward (the only one tried), and a look at gold |
# | GRPO from a library | see first where the leash is tied, with which term, and whether the deviation divides |

# %% [markdown] lang="zh"
# ## 那么，选哪一种？
# | 手里有什么 | 本章的结果说明什么 |
# |---|---|
# | 只有偏好对，没有谁可以再问 | 用 DPO，加上 SFT 项（[第 9 章](09_dpo.ipynb)），旁边跑一遍模仿，平局丢掉；还能添偏好对，就多添 |
# | 有裁判，训练中随时可问 | 抽，判，推：REINFORCE 和 RLOO 用不着评论家，在线 DPO 也相去不远 |
# | 有裁判，每给一个回答都可以问 | best-of-$n$，什么也不用训练 |
# | 裁判有漏洞 | 绳子拴在奖励里（只试过这一种拴法），再看一看真奖励 |
# | 用现成的库跑 GRPO | 先看绳子拴在哪里，用哪一项，除不除标准差 |

# %% [markdown] lang="en"
# > **What the toy hides.** Our judge is a program and never tires; people judge slowly, and disagree. A 7B model draws answers of hundreds of tokens, and drawing takes most of the time: stored pairs are then worth more than here, and several updates for each draw pay off. PPO holds four networks of that size: policy, critic, reference, reward model.

# %% [markdown] lang="zh"
# > **玩具没告诉你的。** 我们的裁判是程序，不会累；人评得慢，意见还不一致。7B 的模型，一个回答几百个词元，时间大半花在抽回答上：这时存好的偏好对就比在这里值钱，一批回答多更新几次也划算。给这样的模型做 PPO，内存里要放四个同样大的网络：策略、评论家、参考策略、奖励模型。

# %% [markdown] lang="en"
# > **To remember.** The policy gradient: draw, judge, subtract what was to be expected, push. A leash in the reward has the optimum for its end; in the loss it holds down the KL turned round with $k_3$, the KL itself with $\rho\,k_3$, each token by itself. Pair by pair, DPO pushes where RLOO on two answers pushes; its pairs were drawn beforehand, and four times as many judged answers did not quite make up for that. What a judge lets pass, training finds.

# %% [markdown] lang="zh"
# > **记住。** 策略梯度就是：抽，判，减去本来就能拿到的，推一把。绳子拴在奖励里，尽头是最优解；拴在损失里，用 $k_3$，压低的是方向相反的 KL，用 $\rho\,k_3$，压低的才是 KL 本身，而且每个词元各管各的。一对一对地看，DPO 推的方向同抽两个回答的 RLOO 一样；它的偏好对是事先抽好的；在这里，评判的回答多到四倍，还差一点才补得回来。裁判放过什么，训练就会找到什么。

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
# ### Exercise 12.2 · Where the KL turned round ends
# ★★☆ · 15 minutes
#
# For some prompt the base model says yes with probability 0.3 and no otherwise. Yes earns 1, no earns 0, $\beta=0.5$. (Exercise 9.1 asked for the optimum of the objective; it is 0.76.) What share of yes has a policy that is trained with $k_3$ in its loss, with answers of one token, large groups, and without dividing by anything?
#
# <details><summary>Hint</summary>
#
# Where the pull of the reward and that of the leash cancel, $r-\beta\,(1-\pi_{\mathrm{ref}}/\pi)$ is the same for both answers. So both probabilities have the form $\beta\,\pi_{\mathrm{ref}}/(\mu-r)$, and they sum to 1: a quadratic equation for $\mu$, which exceeds both rewards.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 12.2 · 方向相反的 KL 停在哪里
# ★★☆ · 15 分钟
#
# 对某个提示，基座模型答「是」的概率是 0.3，否则答「否」。「是」得 1 分，「否」得 0 分，$\beta=0.5$。（练习 9.1 问的是目标的最优解，是 0.76。）现在改用损失里的 $k_3$ 当绳子来训练：回答只有一个词元，每组抽很多个，哪里都不除。训练出来的策略，答「是」的占多少？
#
# <details><summary>提示</summary>
#
# 奖励的推力和绳子的拉力抵消时，$r-\beta\,(1-\pi_{\mathrm{ref}}/\pi)$ 对两个回答是同一个数。所以两个概率都形如 $\beta\,\pi_{\mathrm{ref}}/(\mu-r)$，加起来是 1：这是 $\mu$ 的一元二次方程，$\mu$ 比两个奖励都大。
#
# </details>

# %% tags=["exercise"]
answer_12_2 = ...  # a share between 0 and 1
check("12.2", answer_12_2)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# $0.15/(\mu-1)+0.35/\mu=1$ gives $\mu^2-1.5\mu+0.35=0$, whose larger root is 1.211. The share of yes is $0.15/0.211=0.711$, less than 0.76: the KL turned round holds back harder from giving up the no. With $\rho\,k_3$ it would be 0.76: an answer of one token has no later fork to be deaf to.
#
# ```python
# mu = (1.5 + np.sqrt(1.5**2 - 4 * 0.35)) / 2
# answer_12_2 = 0.5 * 0.3 / (mu - 1)
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# $0.15/(\mu-1)+0.35/\mu=1$ 化成 $\mu^2-1.5\mu+0.35=0$，较大的根是 1.211。「是」的比例是 $0.15/0.211=0.711$，不到 0.76：策略想丢掉「否」，方向相反的 KL 拦得更紧。换成 $\rho\,k_3$，就是 0.76：回答只有一个词元，后面没有别的岔口。
#
# ```python
# mu = (1.5 + np.sqrt(1.5**2 - 4 * 0.35)) / 2
# answer_12_2 = 0.5 * 0.3 / (mu - 1)
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
def rloo_loss(logps, ref_logps, rewards, beta): ...


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
def stopped(logps, old_logps, advantages, clip): ...


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


# %% tags=["setup"]
def climb_toy(leash, steps=300, beta=0.5, rate=0.2):
    """The share of y1 along the exact mean gradient, from the reference."""
    logits, shares = toy_p.log().requires_grad_(), []
    for _ in range(steps):
        logps_now = logits.log_softmax(-1)
        drawn_p = logps_now.detach().exp()
        delta = logps_now - toy.ref_logps
        paid = {"reward": beta * delta.detach(), "twice": 2 * beta * delta.detach()}
        A = toy.reward - paid.get(leash, 0.0)
        A = A - (drawn_p * A).sum()
        value = drawn_p @ (A * logps_now)  # its gradient is the policy gradient
        if leash in ("k1", "k3"):
            value = value - beta * drawn_p @ kl_estimate(
                logps_now, toy.ref_logps, leash
            )
        shares.append(drawn_p[0].item())
        uphill_now = grad(value, logits)[0]
        logits = (logits + rate * uphill_now).detach().requires_grad_()
    return shares


MYSTERY = np.random.default_rng(12).permutation(["reward", "k1", "k3", "twice"])
CURVES = {letter: climb_toy(str(leash)) for letter, leash in zip("ABCD", MYSTERY)}


# %% tags=["figure"] alt_en="The share of the best answer of the toy against gradient steps, from 0 to 300, four curves A to D that all start at 0.5 and rise. They come to rest at four different heights, between 0.75 and 1; faint lines help to read them." alt_zh="例子里最好的回答所占比例随梯度步数的变化，从 0 到 300 步，A 到 D 四条曲线，都从 0.5 出发上升，最后停在四个不同的高度，在 0.75 和 1 之间；有浅色的线帮助读数。"
@picture
def four_curves(say):
    fig, axes = figure(height=3.2)
    for (letter, shares), color in zip(
        CURVES.items(), ("policy", "rejected", "chosen", "baseline")
    ):
        axes.plot(shares, color=COLORS[color])
        axes.text(304, shares[-1], letter, color=COLORS[color], va="center")
    axes.set(ylim=(0.48, 1.03), yticks=(0.5, 0.6, 0.7, 0.8, 0.9, 1.0))
    axes.set_xlabel(say("gradient steps", "梯度步数"))
    axes.set_ylabel(say("share of the best answer", "最好的回答占的比例"))


# %% [markdown] lang="en"
# **Figure 12.12.** Four trainings on the toy, along the exact mean gradient, $\beta=0.5$: the share of $y_1$.

# %% [markdown] lang="zh"
# **图 12.12** 在手算例子上的四次训练，沿精确的平均梯度走，$\beta=0.5$：$y_1$ 的比例。

# %% [markdown] lang="en"
# ### Exercise 12.6 · Four leashes
# ★★☆ · 10 minutes
#
# In one of the four trainings of figure 12.12 the leash is in the reward, as it should be: `"reward"`. In the others it is $k_1$ in the loss, $k_3$ in the loss, and in the reward but counted twice: `"k1"`, `"k3"`, `"twice"`. Which curve is which? Give a dict, letter to name.
#
# <details><summary>Hint</summary>
#
# Where does each come to rest? Two of the heights stand in this chapter. For the others ask what each leash pulls with.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 12.6 · 四根绳子
# ★★☆ · 10 分钟
#
# 图 12.12 的四次训练里，有一次绳子拴在奖励里，拴得对：`"reward"`。另外三次，一次是损失里的 $k_1$，一次是损失里的 $k_3$，还有一次拴在奖励里，却扣了两遍：`"k1"`、`"k3"`、`"twice"`。哪条曲线是哪一种？写成一个字典，从字母到名字。
#
# <details><summary>提示</summary>
#
# 各停在多高？有两个高度，本章里出现过；另外两个，想一想这根绳子的拉力是多少。
#
# </details>

# %% tags=["exercise"]
answer_12_6 = ...  # {"A": "...", "B": "...", "C": "...", "D": "..."}
check("12.6", answer_12_6)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# The optimum has 0.919 of $y_1$, and the KL turned round, which is what $k_3$ holds down, 0.841. $k_1$ in the loss does not pull at all, so that curve runs towards 1; its KL metric would look healthy in the log and only grow. Counted twice, $\beta$ is 1 in effect: $0.5e/(0.5e+0.3+0.2e^{-1})=0.786$.
#
# ```python
# at_rest = {"reward": 0.919, "k1": 1.0, "k3": 0.841, "twice": 0.786}
# answer_12_6 = {
#     letter: min(at_rest, key=lambda name: abs(at_rest[name] - shares[-1]))
#     for letter, shares in CURVES.items()
# }
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 最优解里 $y_1$ 占 0.919；$k_3$ 压低的是方向相反的 KL，停在 0.841。损失里的 $k_1$ 一点也不拉，所以那条曲线一路奔向 1；日志里它的 KL 指标看着正常，只是越来越大。扣两遍，等于 $\beta$ 取 1：$0.5e/(0.5e+0.3+0.2e^{-1})=0.786$。
#
# ```python
# at_rest = {"reward": 0.919, "k1": 1.0, "k3": 0.841, "twice": 0.786}
# answer_12_6 = {
#     letter: min(at_rest, key=lambda name: abs(at_rest[name] - shares[-1]))
#     for letter, shares in CURVES.items()
# }
# ```
#
# </details>


# %% tags=["setup"]
def small_world(K, steps=600, groups=200, beta=0.5):
    """The share of yes, 0.3 at first, that K answers to a prompt lead to."""
    ref = torch.tensor([0.3, 0.7]).log()
    logits, generator = ref.clone(), torch.Generator().manual_seed(SEED)
    shares = []
    for _ in range(steps):
        logits.requires_grad_()
        drawn_p = logits.detach().softmax(-1)[None].expand(groups, 2)
        picked = torch.multinomial(drawn_p, K, replacement=True, generator=generator)
        A = advantages((picked == 0).float(), "group")  # the mean of all K, no division
        answer_logps = logits.log_softmax(-1)[picked]
        term = kl_penalty(answer_logps, answer_logps.detach(), ref[picked], "ratio_k3")
        loss = (beta * term - A * answer_logps).mean()
        logits = (logits - grad(loss, logits)[0]).detach()
        shares.append(logits.softmax(-1)[0].item())
    return float(np.mean(shares[-200:]))


# %% [markdown] lang="en"
# ### Exercise 12.7 · Two answers, or four
# ★★★ · 15 minutes
#
# The world of exercise 12.2 once more: yes has 0.3 and earns 1, no earns 0, $\beta=0.5$, answers of one token. Now the term in the loss is $\rho\,k_3$, the baseline is the mean of all $K$ answers to the prompt, the answer itself included, and nothing is divided. Predict the share of yes at the end, for $K=2$ and for $K=4$, as a tuple. Then let `small_world(2)` and `small_world(4)` train such a policy.
#
# <details><summary>Hint</summary>
#
# $\rho\,k_3$ holds down the KL itself, so with a fair baseline the end would be the optimum, 0.76. What does a baseline that includes the answer itself do to the reward's part, and what to the leash's?
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 12.7 · 抽两个，还是四个
# ★★★ · 15 分钟
#
# 还是练习 12.2 的世界：「是」占 0.3，得 1 分，「否」得 0 分，$\beta=0.5$，回答只有一个词元。这次损失里放 $\rho\,k_3$；基线是同一个提示全部 $K$ 个回答的平均，自己也算在内；哪里都不除。预测最后「是」占多少，$K=2$ 和 $K=4$ 各一个，写成元组。然后用 `small_world(2)` 和 `small_world(4)` 真的训练一遍。
#
# <details><summary>提示</summary>
#
# $\rho\,k_3$ 压低的就是 KL 本身，所以基线若是公平，终点就是最优解 0.76。基线把自己算进去，奖励那一份会怎样？绳子那一份呢？
#
# </details>

# %% tags=["exercise"]
answer_12_7 = ...  # (K = 2, K = 4)
check("12.7", answer_12_7)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# The reward's part of the gradient is shorter by $1-\frac1K$, the leash's is not. So it is the optimum for $\beta K/(K-1)$: 1 for $K=2$ and 2/3 for $K=4$. The odds of yes, 3 to 7 at first, are multiplied by $e^{1}$ and $e^{1.5}$: shares of 0.538 and 0.658, and the trained policies come within 0.02 of both. Few answers to a prompt tighten the leash, unless the baseline leaves the answer itself out.
#
# ```python
# def share_of_yes(K):
#     odds = 0.3 / 0.7 * np.exp((1 - 1 / K) / 0.5)
#     return odds / (1 + odds)
#
#
# answer_12_7 = (share_of_yes(2), share_of_yes(4))
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 奖励那一份梯度缩短成 $1-\frac1K$ 倍，绳子那一份没有。所以终点是 $\beta K/(K-1)$ 的最优解：$K=2$ 时它是 1，$K=4$ 时是 2/3。「是」的几率起初是 3 比 7，分别乘上 $e^{1}$ 和 $e^{1.5}$：占 0.538 和 0.658；训练出来的策略，同这两个数相差不到 0.02。每个提示抽得少，绳子就紧，除非基线不算自己。
#
# ```python
# def share_of_yes(K):
#     odds = 0.3 / 0.7 * np.exp((1 - 1 / K) / 0.5)
#     return odds / (1 + odds)
#
#
# answer_12_7 = (share_of_yes(2), share_of_yes(4))
# ```
#
# </details>

# %% tags=["proof", "setup"] checked_en="Checked: the small world trained with 2 and with 4 answers to a prompt." checked_zh="已验证：每个提示抽 2 个、抽 4 个回答，把小世界各训练了一遍。"
assert abs(small_world(2) - 0.538) < 0.02 and abs(small_world(4) - 0.658) < 0.02

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
