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
# # 7 DPO, derived

# %% [markdown] lang="zh"
# # 7 推导 DPO

# %% [markdown] lang="en"
# > **In this chapter.** You will be able to derive the DPO loss line by line, to write its gradient by hand, to say where its minimum lies and what must hold for that, and to answer four questions that people quarrel about: what a larger $\beta$ does, what the labels do to the leash, what a wrong reference does, and why the chosen answer falls. You need [chapter 5](05_preferences.ipynb) (comparisons), [chapter 6](06_objective.ipynb) (the objective and its optimum), and the derivative of a function of one variable. 70 minutes to read, 30 seconds to run.

# %% [markdown] lang="zh"
# > **本章。** 读完后，你能一行一行推出 DPO 的损失，亲手写出它的梯度，说清它的最小值在哪里、要满足哪些条件。四个争来争去的问题，你也能回答：$\beta$ 大了会怎样；换一种标签，绳子还剩多少；参考策略弄错了会怎样；chosen 为什么会降。需要先读[第 5 章](05_preferences.ipynb)（比较）和[第 6 章](06_objective.ipynb)（目标与最优解），会对一元函数求导。阅读 70 分钟，运行 30 秒。

# %%
import copy
import json
import math
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch.nn.functional import logsigmoid

from checks import check
from dpo_core import BookTask, load_pretrained, tabular, use_threads
from dpo_core.evaluation import Estimate, evaluate
from dpo_core.losses import preference_loss
from dpo_core.plotting import COLORS, INK, figure, points, use_style
from dpo_core.preferences import on_policy_pairs
from dpo_core.steps import dpo_step
from dpo_core.tabular import Problem
from dpo_core.theory import predicted_optimum
from dpo_core.training import LoopConfig, default_device, train

# %% [markdown] lang="en"
# ## What we bring along
# Chapter 5 ended with a reward model: a network that is fitted to comparisons and gives each answer a number. Chapter 6 said which policy is best for given rewards. The usual road goes through both. This chapter finds a shorter one: the reward model vanishes, and one loss on pairs of answers is left. It needs four facts.
#
# 1. Of two answers to a prompt $x$, $y_1$ is preferred with probability $\sigma(r(x,y_1)-r(x,y_2))$, where $r$ is the reward and $\sigma(z)=1/(1+e^{-z})$ (Bradley–Terry).
# 2. The objective of a policy $\pi$ is $J(\pi)=\mathbb{E}_{y\sim\pi}[r(x,y)]-\beta\,\mathrm{KL}(\pi\,\|\,\pi_{\mathrm{ref}})$: mean reward, minus $\beta>0$ times the KL divergence from the reference policy $\pi_{\mathrm{ref}}$, the leash.
# 3. Its optimum is $\pi^*(y\mid x)=\pi_{\mathrm{ref}}(y\mid x)\,e^{r(x,y)/\beta}/Z(x)$, where the partition function $Z(x)$ makes the probabilities sum to 1. We write $V(x)=\beta\log Z(x)$, the soft maximum of the rewards.
# 4. Any other policy falls short by $J(\pi^*)-J(\pi)=\beta\,\mathrm{KL}(\pi\,\|\,\pi^*)$.
#
# The hand-made example is the book's: one prompt, three answers, reference probabilities 0.5, 0.3, 0.2, rewards 1, 0, -1, and $\beta=0.5$. Then $Z=4.022$, $V=0.696$, and $\pi^*$ is 0.919, 0.075, 0.007. Beside it stand twenty random problems with six answers each: a line of algebra is asserted on all twenty at once, in the cell after it.

# %% [markdown] lang="zh"
# ## 手里有什么
# 第 5 章的终点是奖励模型：拿比较去拟合一个网络，给每个回答打一个分。第 6 章说，给定奖励，哪个策略最好。通常的路要把两段都走一遍：先拟合奖励，再照着奖励训练策略。本章走一条近路：奖励模型会消失，只剩一个损失，直接拿回答对来算。先摆出要用的四条。
#
# 1. 同一个提示 $x$ 的两个回答，$y_1$ 胜出的概率是 $\sigma(r(x,y_1)-r(x,y_2))$，其中 $r$ 是奖励，$\sigma(z)=1/(1+e^{-z})$（Bradley–Terry 模型）。
# 2. 策略 $\pi$ 的目标是 $J(\pi)=\mathbb{E}_{y\sim\pi}[r(x,y)]-\beta\,\mathrm{KL}(\pi\,\|\,\pi_{\mathrm{ref}})$：平均奖励，减去 $\beta>0$ 乘以它相对参考策略 $\pi_{\mathrm{ref}}$ 的 KL 散度。后一项就是绳子。
# 3. 最优解是 $\pi^*(y\mid x)=\pi_{\mathrm{ref}}(y\mid x)\,e^{r(x,y)/\beta}/Z(x)$，配分函数（partition function）$Z(x)$ 让概率加起来等于 1。记 $V(x)=\beta\log Z(x)$，即奖励的软最大值。
# 4. 别的策略都差一截：$J(\pi^*)-J(\pi)=\beta\,\mathrm{KL}(\pi\,\|\,\pi^*)$。
#
# 手算用的还是全书那个例子：一个提示，三个回答，参考概率 0.5、0.3、0.2，奖励 1、0、-1，$\beta=0.5$。这时 $Z=4.022$，$V=0.696$，$\pi^*$ 是 0.919、0.075、0.007。另备二十道随机题，每题六个回答：每推出一行，紧接着的单元格就用断言在二十道题上同时检验。

# %% tags=["setup"]
SEED = 0
INSTANCES = 20
ANSWERS, beta = 6, 0.5
problems = tabular.random_problems(INSTANCES, ANSWERS, SEED)
ref, r = problems.ref_logps, problems.reward  # (20, 6) each
policies = tabular.random_policies(INSTANCES, ANSWERS, seed=SEED + 100)  # (20, 6): any policies at all
toy = Problem(torch.tensor([0.5, 0.3, 0.2]).double().log(), torch.tensor([1.0, 0.0, -1.0]).double())


def close(one, other, within=1e-9):
    """Whether two tensors agree everywhere, broadcasting included."""
    return bool((torch.as_tensor(one) - other).abs().max() < within)


def gaps(values):
    """value_i - value_j for every two answers: (..., A) to (..., A, A)."""
    return values[..., :, None] - values[..., None, :]


# %%
toy_Z = (toy.ref_logps.exp() * torch.exp(toy.reward / 0.5)).sum()
toy_optimum = tabular.optimal_policy(toy, 0.5)
print(round(toy_Z.item(), 3), round(0.5 * math.log(toy_Z), 3), [round(p, 3) for p in toy_optimum.exp().tolist()])
assert close(toy_Z, 4.022, 5e-4) and close(0.5 * toy_Z.log(), 0.696, 5e-4)
assert close(toy_optimum.exp(), torch.tensor([0.919, 0.075, 0.007]), 5e-4)

# %% [markdown] lang="en"
# ## Read the optimum backwards
# Fact 3 goes from a reward to a policy. Training gives us policies, so we want the other direction: given $\pi^*$ and $\pi_{\mathrm{ref}}$, what was the reward? Solve for it, one move at a time.
#
# *Divide* by $\pi_{\mathrm{ref}}$ and *take logarithms*. A product becomes a sum:
#
# $$\log\frac{\pi^*(y\mid x)}{\pi_{\mathrm{ref}}(y\mid x)}=\frac{r(x,y)}{\beta}-\log Z(x).$$
#
# *Multiply by* $\beta$, and *bring the last term over* to the other side ([Rafailov et al. 2023](https://arxiv.org/abs/2305.18290), equation 5):
#
# $$r(x,y)=\beta\log\frac{\pi^*(y\mid x)}{\pi_{\mathrm{ref}}(y\mid x)}+V(x),\qquad V(x)=\beta\log Z(x).$$
#
# In the example: the first answer went from 0.5 to 0.919, its log-ratio is 0.608, times $\beta$ that is 0.304, plus $V$ it is 1.000, its reward. The term that nobody can compute for a language model is $V(x)$: a sum over every text there is. But look at its argument. It contains $x$ and no $y$. Whatever it is, it is the same for all answers to one prompt. *Subtract* the equation of $y_2$ from the equation of $y_1$, and it is gone:
#
# $$r(x,y_1)-r(x,y_2)=\beta\log\frac{\pi^*(y_1\mid x)}{\pi_{\mathrm{ref}}(y_1\mid x)}-\beta\log\frac{\pi^*(y_2\mid x)}{\pi_{\mathrm{ref}}(y_2\mid x)}.$$
#
# Fact 1 needs nothing but this difference. That is the whole idea of DPO.

# %% [markdown] lang="zh"
# ## 把最优解倒过来读
# 第 3 条由奖励得出策略。训练给我们的是策略，所以要反着走：手里有 $\pi^*$ 和 $\pi_{\mathrm{ref}}$，当初的奖励是多少？一步一步解出来。
#
# 两边*除以* $\pi_{\mathrm{ref}}$，再*取对数*，乘积变成和：
#
# $$\log\frac{\pi^*(y\mid x)}{\pi_{\mathrm{ref}}(y\mid x)}=\frac{r(x,y)}{\beta}-\log Z(x)$$
#
# *乘以* $\beta$，再把最后一项*移到*另一边（[Rafailov et al. 2023](https://arxiv.org/abs/2305.18290)，式 5）：
#
# $$r(x,y)=\beta\log\frac{\pi^*(y\mid x)}{\pi_{\mathrm{ref}}(y\mid x)}+V(x),\qquad V(x)=\beta\log Z(x)$$
#
# 拿例子验一下：第一个回答从 0.5 变成 0.919，对数比 $\log(\pi^*/\pi_{\mathrm{ref}})$ 是 0.608，乘 $\beta$ 得 0.304，加上 $V$ 得 1.000，正是它的奖励。换成语言模型，$V(x)$ 谁也算不出来：那要把一切可能的文本都加一遍。可是看看它的括号：里面有 $x$，没有 $y$。不管它等于多少，同一个提示的所有回答，加上的都是同一个数。拿 $y_1$ 的等式*减去* $y_2$ 的等式，它就没了：
#
# $$r(x,y_1)-r(x,y_2)=\beta\log\frac{\pi^*(y_1\mid x)}{\pi_{\mathrm{ref}}(y_1\mid x)}-\beta\log\frac{\pi^*(y_2\mid x)}{\pi_{\mathrm{ref}}(y_2\mid x)}$$
#
# 而第 1 条要的，只是这个差。DPO 的全部想法就在这里。

# %% tags=["proof"]
optimum = tabular.optimal_policy(problems, beta)  # (20, 6) log-probabilities
Z = (ref.exp() * torch.exp(r / beta)).sum(-1, keepdim=True)  # (20, 1): every answer is counted
V = beta * Z.log()
log_ratio = optimum - ref
assert close(log_ratio, r / beta - Z.log())  # divided by the reference, logarithms taken
assert close(beta * log_ratio + V, r)  # solved for the reward
assert V.std() > 0.1  # the gap differs from prompt to prompt ...
assert close(gaps(beta * log_ratio), gaps(r))  # ... and is gone in every difference within a prompt

# %%
toy_terms = 0.5 * (toy_optimum - toy.ref_logps)
print([round(value, 3) for value in toy_terms.tolist()], [round(value, 3) for value in (toy_terms + 0.5 * toy_Z.log()).tolist()])
assert close((toy_optimum - toy.ref_logps)[0], 0.608, 5e-4) and close(toy_terms[0], 0.304, 5e-4)
assert close(toy_terms + 0.5 * toy_Z.log(), toy.reward)

# %% alt_en="Two panels. Left: three prompts with six answers each. For every answer an orange dot, its reward, and a blue dot below or above it, beta times its log-ratio; a thin line joins the two. Within a prompt all six lines have the same length; between prompts the length differs. Right: differences of the blue values against differences of the rewards, for all pairs of the three prompts; all points lie on the diagonal." alt_zh="左右两幅。左：三个提示，各有六个回答。每个回答有一个橙点，是它的奖励；还有一个蓝点，是 beta 乘对数比，在橙点的下方或上方，细线把两点连起来。同一个提示里，六条线一样长；不同的提示，长度不同。右：横轴是奖励之差，纵轴是蓝点的值之差，三个提示里的所有回答对都落在对角线上。"
fig, (left, right) = figure(columns=2, width=7.6, height=3.2)
marks = {4: "o", 10: "s", 16: "^"}  # three of the twenty prompts
for place, (row, mark) in enumerate(marks.items()):
    x = torch.arange(ANSWERS) + 7.5 * place
    shown = beta * log_ratio[row]
    left.vlines(x, shown, r[row], color=INK, linewidth=1)
    left.plot(x, r[row], mark, color=COLORS["baseline"], label="$r$" if place == 0 else None)
    left.plot(x, shown, mark, color=COLORS["policy"], label=r"$\beta\,\log(\pi^*/\pi_{ref})$" if place == 0 else None)
    left.text(x[0] + 2.5, 2.95, f"$V(x_{place + 1})={V[row].item():.2f}$", ha="center", fontsize=9)
    right.plot(gaps(r)[row].flatten(), gaps(shown).flatten(), mark, color=COLORS["policy"], markersize=4)
right.axline((0, 0), slope=1, color=COLORS["theory"], linewidth=1.2, zorder=0)
left.set(xticks=[2.5, 10, 17.5], xticklabels=["$x_1$", "$x_2$", "$x_3$"], ylim=(-3.6, 3.5))
right.set(xlabel="$r_i-r_j$", ylabel=r"$\hat r_i-\hat r_j$", aspect="equal")
_ = left.legend(fontsize=9, loc="lower left", ncols=2)

# %% [markdown] lang="en"
# **Figure 7.1.** Left: the reward of each answer (orange) and $\beta$ times its log-ratio (blue). The gap between them is $V(x)$: one length for each prompt, whatever the answer. Right: in differences within a prompt nothing of it is left; all pairs lie on the diagonal.

# %% [markdown] lang="zh"
# **图 7.1** 左：各个回答的奖励（橙），以及 $\beta$ 乘它的对数比（蓝）。两者相差 $V(x)$：一个提示一个长度，与回答无关。右：在同一个提示里一相减，这一截就一点不剩，所有回答对都落在对角线上。

# %% [markdown] lang="en"
# ## Every policy is the best one for some reward
# The equation was read off the optimum. Now take *any* policy $\pi$ that gives every answer some probability, as $\pi_{\mathrm{ref}}$ must too, and define its **implicit reward**
#
# $$\hat r(x,y)=\beta\log\frac{\pi(y\mid x)}{\pi_{\mathrm{ref}}(y\mid x)}.$$
#
# Put $\hat r$ into fact 3. The exponential undoes the logarithm, $\pi_{\mathrm{ref}}\,e^{\hat r/\beta}=\pi_{\mathrm{ref}}\cdot\pi/\pi_{\mathrm{ref}}=\pi$, which sums to 1 already. So $Z=1$, and the optimum for the reward $\hat r$ is $\pi$ itself. Each such policy is the best one for its own implicit reward. Only zeros are left out: there a log-ratio is infinite, and what the reference never writes, no optimum writes ([chapter 6](06_objective.ipynb)).
#
# In the other direction, many rewards belong to one policy. Add to $r$ a function $f(x)$ of the prompt alone. Differences within a prompt do not change, so no comparison changes; $e^{f(x)/\beta}$ appears in the numerator of fact 3 and in $Z$, so the optimum does not change either. Rewards that differ by such an $f$ form a class, and neither judges nor policies can tell its members apart. How many members of a class have the form $\beta\log(\pi/\pi_{\mathrm{ref}})$? Such a reward has $\sum_y\pi_{\mathrm{ref}}\,e^{r/\beta}=1$, that is $V=0$. Adding $f$ adds $f$ to $V$. So exactly one member has $V=0$: $r-V$. Writing rewards as log-ratios loses no class and names each once. That none is lost is Theorem 1 of [Rafailov et al. 2023](https://arxiv.org/abs/2305.18290); their Lemmas 1 and 2 are what was said of $f$.

# %% [markdown] lang="zh"
# ## 每个策略都是某个奖励下最好的
# 上面的等式是从最优解读出来的。现在随便拿一个策略 $\pi$，只要它和 $\pi_{\mathrm{ref}}$ 给每个回答的概率都不是零，就可以定义它的**隐式奖励**（implicit reward）：
#
# $$\hat r(x,y)=\beta\log\frac{\pi(y\mid x)}{\pi_{\mathrm{ref}}(y\mid x)}$$
#
# 把 $\hat r$ 代进第 3 条。指数与对数抵消，$\pi_{\mathrm{ref}}\,e^{\hat r/\beta}=\pi_{\mathrm{ref}}\cdot\pi/\pi_{\mathrm{ref}}=\pi$，加起来本来就是 1。所以 $Z=1$，奖励 $\hat r$ 下的最优解就是 $\pi$ 自己。这样的策略，每一个都是自己那份隐式奖励下最好的。没算在内的，只有概率为零的情形：那里的对数比是无穷大；参考策略从来不写的回答，最优解也不会写（[第 6 章](06_objective.ipynb)）。
#
# 反过来，一个策略对应许多奖励。给 $r$ 加上一个只与提示有关的函数 $f(x)$。同一个提示里的差不变，所以任何比较都不变；第 3 条里，分子和 $Z$ 同乘 $e^{f(x)/\beta}$，所以最优解也不变。只差这样一个 $f$ 的奖励，归为一类；同类的奖励，看裁判怎么判、看策略怎么写，都分辨不出来。一类里有几个写得成 $\beta\log(\pi/\pi_{\mathrm{ref}})$？写得成的，必有 $\sum_y\pi_{\mathrm{ref}}\,e^{r/\beta}=1$，也就是 $V=0$。加上 $f$，$V$ 也加上 $f$。所以 $V=0$ 的恰好有一个：$r-V$。把奖励写成对数比，一类也不漏，每类只出现一次。一类也不漏，就是 [Rafailov et al. 2023](https://arxiv.org/abs/2305.18290) 的定理 1；那里的引理 1 和引理 2，说的就是上面关于 $f$ 的事。

# %% tags=["proof"]
hat = beta * (policies - ref)  # the implicit rewards of twenty policies
assert close(tabular.optimal_policy(Problem(ref, hat), beta), policies)  # each is the best one for its own
assert close((ref.exp() * torch.exp(hat / beta)).sum(-1), 1)  # its Z is 1
f = 3 * torch.randn(INSTANCES, 1, generator=torch.Generator().manual_seed(SEED), dtype=torch.float64)
same_class = Problem(ref, r + f)
assert close(tabular.preference_probs(same_class.reward), torch.sigmoid(gaps(r)))  # no comparison changes
assert close(tabular.optimal_policy(same_class, beta), optimum)  # nor does the optimum
assert close(beta * tabular.log_partition(same_class, beta), (V + f).squeeze(-1))  # V moves by f, ...
assert close(tabular.log_partition(Problem(ref, r - V), beta), 0)  # ... so one member has V = 0
assert close(beta * (tabular.optimal_policy(same_class, beta) - ref), r - V)  # and it is the log-ratio

# %% [markdown] lang="en"
# ## The loss
# Chapter 5 fitted rewards by maximum likelihood. We do the same with implicit rewards. For a pair, let $y_w$ be the chosen and $y_l$ the rejected answer, $q$ the label, the probability that $y_w$ is preferred, and
#
# $$h=\hat r(x,y_w)-\hat r(x,y_l)=\beta\left[\log\frac{\pi_\theta(y_w\mid x)}{\pi_{\mathrm{ref}}(y_w\mid x)}-\log\frac{\pi_\theta(y_l\mid x)}{\pi_{\mathrm{ref}}(y_l\mid x)}\right]$$
#
# the **reward margin** of the policy in training, $\pi_\theta$. Where only a winner is recorded, $q=1$. Where the label is the probability itself, “chosen” is no verdict, only a name for the likelier of the two. Put $h$ in the place of the difference of rewards in fact 1: this policy *claims* that $y_w$ wins with probability $\sigma(h)$. The cross-entropy between label and claim is the DPO loss of the pair:
#
# $$\ell(h)=-q\log\sigma(h)-(1-q)\log\sigma(-h).$$
#
# With $q=1$ this is equation 7 of [Rafailov et al. 2023](https://arxiv.org/abs/2305.18290). No reward model appears, no $Z$, no sampling; two log-probabilities under $\pi_\theta$ and two under $\pi_{\mathrm{ref}}$ are enough.
#
# By hand, at the optimum of the example, with the true probabilities as labels. There $h$ is the true difference of rewards. Pair (1, 2): $h=1$, $q=\sigma(1)=0.731$, and the loss is $-0.731\log 0.731-0.269\log 0.269=0.582$. Pair (2, 3) is the same. Pair (1, 3): $h=2$, $q=0.881$, loss 0.365. The mean of the three is 0.5099. At $\pi_\theta=\pi_{\mathrm{ref}}$ every $h$ is 0 and every loss is $-\log\frac12$, that is $\ln 2=0.693$, whatever the labels.

# %% [markdown] lang="zh"
# ## 损失
# 第 5 章用最大似然来拟合奖励，现在对隐式奖励照做一遍。拿一个回答对来，设 $y_w$ 是 chosen（被偏好的回答），$y_l$ 是 rejected（不被偏好的回答），$q$ 是标签，即 $y_w$ 胜出的概率，而
#
# $$h=\hat r(x,y_w)-\hat r(x,y_l)=\beta\left[\log\frac{\pi_\theta(y_w\mid x)}{\pi_{\mathrm{ref}}(y_w\mid x)}-\log\frac{\pi_\theta(y_l\mid x)}{\pi_{\mathrm{ref}}(y_l\mid x)}\right]$$
#
# 是正在训练的策略 $\pi_\theta$ 的**奖励间隔**（reward margin）。数据只记下谁赢，就是 $q=1$；标签若是概率本身，就没有谁被判赢，chosen 只是个名字，指胜算大的那个。在第 1 条里，用 $h$ 顶替奖励之差，等于说：这个策略*声称* $y_w$ 胜出的概率是 $\sigma(h)$。标签与声称之间的交叉熵，就是这一对的 DPO 损失：
#
# $$\ell(h)=-q\log\sigma(h)-(1-q)\log\sigma(-h)$$
#
# $q=1$ 时，就是 [Rafailov et al. 2023](https://arxiv.org/abs/2305.18290) 的式 7。没有奖励模型，没有 $Z$，也不用采样；$\pi_\theta$ 给的两个对数概率，$\pi_{\mathrm{ref}}$ 给的两个，就够了。
#
# 手算一遍：策略取例子的最优解，标签用真实的概率。这时 $h$ 就是真实的奖励差。回答对 (1, 2)：$h=1$，$q=\sigma(1)=0.731$，损失是 $-0.731\log 0.731-0.269\log 0.269=0.582$。回答对 (2, 3) 相同。回答对 (1, 3)：$h=2$，$q=0.881$，损失 0.365。三者的平均是 0.5099。在 $\pi_\theta=\pi_{\mathrm{ref}}$ 处，每个 $h$ 都是 0，每个损失都是 $-\log\frac12$，即 $\ln 2=0.693$，与标签无关。

# %%
def pair_loss(h, q):
    return -q * logsigmoid(h) - (1 - q) * logsigmoid(-h)


true_gap = gaps(toy.reward)[[0, 1, 0], [1, 2, 2]]  # of the pairs (1, 2), (2, 3), (1, 3)
by_hand = pair_loss(true_gap, torch.sigmoid(true_gap))
print([round(value, 3) for value in by_hand.tolist()], round(by_hand.mean().item(), 4))
assert close(by_hand, torch.tensor([0.582, 0.582, 0.365]), 5e-4) and close(torch.sigmoid(true_gap)[2], 0.881, 5e-4)
toy_pairs = {
    "uniform": tabular.uniform_pairs(3),
    "ref_distinct": tabular.independent_pairs(toy.ref_logps, toy.ref_logps, distinct=True),
    "ref_with_ties": tabular.independent_pairs(toy.ref_logps, toy.ref_logps),
}
for (name, pairs), expected in zip(toy_pairs.items(), (0.509913358, 0.512245, 0.580988)):
    value = tabular.dpo_loss(toy_optimum, toy.ref_logps, tabular.comparisons(toy.reward, pairs), beta=0.5)
    print(f"{name:14} {value.item():.6f}")
    assert close(value, expected, 5e-7)
ties = 1 - toy_pairs["ref_with_ties"].fill_diagonal_(0).sum().item()
assert abs(ties - 0.38) < 1e-6 and close((1 - ties) * 0.512245 + ties * math.log(2), 0.580988, 2e-6)

# %% [markdown] lang="en"
# The three values belong to three ways of drawing pairs: each pair equally often; both answers from the reference, equal ones thrown away; both from the reference, equal ones kept as ties. With ties it is higher: 38 % of the pairs are ties, which cost $\ln 2$ whatever the policy, and $0.62\cdot 0.512+0.38\cdot 0.693=0.581$. The loss is an average over pairs, so its value depends on the **pair distribution**. Whether its minimum does is a question for later.
#
# The cell below asserts that three roads lead to one number: the sum written out, the library's table version, and `preference_loss`, the function that trains the network in [chapter 9](09_dpo.ipynb). It takes three pair distributions, and labels that are soft or hard ($q=1$ for the better answer).

# %% [markdown] lang="zh"
# 三个值，对应三种配对的办法：每一对机会均等；两个回答都从参考策略抽，抽到相同的就扔掉；都从参考策略抽，相同的留下，算平局。留下平局，值就高了：平局占 38%，不论什么策略，一个平局总要付 $\ln 2$，而 $0.62\cdot 0.512+0.38\cdot 0.693=0.581$。损失是对回答对取的平均，所以它的值与**配对分布**（pair distribution）有关。最小值的位置是不是也有关，后面再问。
#
# 下面的单元格用断言检验三条路通向同一个数：逐项写出的求和，库里的表格版本，以及 `preference_loss`，也就是[第 9 章](09_dpo.ipynb)训练网络用的那个函数。配对分布取三种；标签一次用软的，一次用硬的（好的那个 $q=1$）。

# %% tags=["proof"]
pairs = {
    "uniform": tabular.uniform_pairs(ANSWERS).expand(INSTANCES, -1, -1),
    "ref": tabular.independent_pairs(ref, ref, distinct=True),
    "ref_and_flatter": tabular.independent_pairs(ref, (0.3 * ref).log_softmax(-1), distinct=True),
}
wins = tabular.comparisons(r, pairs["uniform"])  # soft labels
h = gaps(beta * (policies - ref))  # (20, 6, 6): the margin of each ordered pair
labels = {"soft": torch.sigmoid(gaps(r)), "deterministic": (gaps(r) > 0).double()}
for drawn in pairs.values():
    for kind, q in labels.items():
        table = tabular.comparisons(r, drawn, kind)
        written_out = (drawn * (-q * logsigmoid(h) - (1 - q) * logsigmoid(-h))).sum((-1, -2))
        assert close(written_out, tabular.dpo_loss(policies, ref, table, beta))
        assert close(tabular.dpo_loss(ref, ref, table, beta), math.log(2))  # at the reference
        assert close(tabular.dpo_loss(optimum, ref, table, beta), tabular.bradley_terry_nll(r, table))  # as if r were known
first, second = torch.triu_indices(ANSWERS, ANSWERS, offset=1)
columns = [logps[:, side].flatten() for logps in (policies, ref) for side in (first, second)]
trained, *_ = preference_loss(*columns, beta=beta, preference_prob=labels["soft"][:, first, second].flatten())
assert close(trained.view(INSTANCES, -1).mean(-1), tabular.dpo_loss(policies, ref, wins, beta))
equation_7, *_ = preference_loss(*columns, beta=beta)  # q = 1
assert close(equation_7, -torch.sigmoid(h[:, first, second]).log().flatten())

# %% [markdown] lang="en"
# ## The gradient by hand
# Three steps, from the outside in.
#
# **With respect to the margin.** From $\sigma'(h)=\sigma(h)\,\sigma(-h)$ follow $\frac{d}{dh}\log\sigma(h)=\sigma(-h)$ and $\frac{d}{dh}\log\sigma(-h)=-\sigma(h)$. Put them into the loss, use $\sigma(-h)=1-\sigma(h)$, and the two products $q\,\sigma(h)$ cancel:
#
# $$\frac{d\ell}{dh}=-q\,\sigma(-h)+(1-q)\,\sigma(h)=\sigma(h)-q.$$
#
# Claim minus label. It is zero where the policy claims what the label says, and nowhere else.
#
# **With respect to the log-probabilities.** In $h$, the log-probability of $y_w$ stands with the factor $\beta$, that of $y_l$ with $-\beta$, and the reference is a constant:
#
# $$\frac{\partial\ell}{\partial\log\pi_\theta(y_w\mid x)}=\beta\,(\sigma(h)-q),\qquad\frac{\partial\ell}{\partial\log\pi_\theta(y_l\mid x)}=-\beta\,(\sigma(h)-q).$$
#
# **With respect to the logits.** Let the policy be a table: one logit $s_i$ for each answer, $\log\pi_i=s_i-\log\sum_k e^{s_k}$. The normaliser is the same for both answers, so it cancels in $h$, as $V$ did:
#
# $$h=\beta\left[(s_w-s_l)-(\log\pi_{\mathrm{ref},w}-\log\pi_{\mathrm{ref},l})\right],\qquad\frac{\partial\ell}{\partial s_w}=-\frac{\partial\ell}{\partial s_l}=\beta\,(\sigma(h)-q),$$
#
# and the derivative with respect to every other logit is zero. In a table, a pair moves the logits of its own two answers, by equal and opposite amounts.

# %% [markdown] lang="zh"
# ## 手推梯度
# 分三步，由外向里。
#
# **对间隔求导。** 由 $\sigma'(h)=\sigma(h)\,\sigma(-h)$，得 $\frac{d}{dh}\log\sigma(h)=\sigma(-h)$，$\frac{d}{dh}\log\sigma(-h)=-\sigma(h)$。代进损失，用 $\sigma(-h)=1-\sigma(h)$，两个 $q\,\sigma(h)$ 抵消：
#
# $$\frac{d\ell}{dh}=-q\,\sigma(-h)+(1-q)\,\sigma(h)=\sigma(h)-q$$
#
# 声称减标签。只有策略声称的与标签一致，它才是零。
#
# **对两个对数概率求导。** $h$ 里，$y_w$ 的对数概率前面是 $\beta$，$y_l$ 的前面是 $-\beta$，参考策略是常数：
#
# $$\frac{\partial\ell}{\partial\log\pi_\theta(y_w\mid x)}=\beta\,(\sigma(h)-q),\qquad\frac{\partial\ell}{\partial\log\pi_\theta(y_l\mid x)}=-\beta\,(\sigma(h)-q)$$
#
# **对 logits 求导。** 设策略是一张表：每个回答一个 logit $s_i$，$\log\pi_i=s_i-\log\sum_k e^{s_k}$。归一化的那一项，两个回答都一样，在 $h$ 里抵消掉，正如先前的 $V$：
#
# $$h=\beta\left[(s_w-s_l)-(\log\pi_{\mathrm{ref},w}-\log\pi_{\mathrm{ref},l})\right],\qquad\frac{\partial\ell}{\partial s_w}=-\frac{\partial\ell}{\partial s_l}=\beta\,(\sigma(h)-q)$$
#
# 对其余 logits 的导数都是零。在表里，一个回答对只推动自己那两个回答的 logits，一升一降，幅度相等。

# %% tags=["proof"]
generator = torch.Generator().manual_seed(SEED + 1)
q = torch.rand(INSTANCES, generator=generator, dtype=torch.float64)
m = 3 * torch.randn(INSTANCES, generator=generator, dtype=torch.float64)


def loss_of(h):
    return -q * logsigmoid(h) - (1 - q) * logsigmoid(-h)


def derivative(function):
    return torch.autograd.grad(function(m).sum(), m)[0]


claim_minus_label = torch.sigmoid(m) - q
assert close(-q * torch.sigmoid(-m) + (1 - q) * torch.sigmoid(m), claim_minus_label)  # the products cancel
m.requires_grad_()
assert close(derivative(torch.sigmoid), (torch.sigmoid(m) * torch.sigmoid(-m)).detach())
assert close(derivative(logsigmoid), (1 - torch.sigmoid(m)).detach())
assert close(derivative(lambda h: logsigmoid(-h)), -torch.sigmoid(m).detach())
assert close(claim_minus_label, derivative(loss_of))
assert close(claim_minus_label, (loss_of(m + 1e-5) - loss_of(m - 1e-5)) / 2e-5, 1e-8)  # finite differences

# %% tags=["proof"]
for logits_to_logps in (lambda s: s, lambda s: s.log_softmax(-1)):  # log-probabilities as such; logits of a table
    s = policies.clone().requires_grad_()
    logps = logits_to_logps(s)
    h = beta * ((logps[:, 2] - ref[:, 2]) - (logps[:, 4] - ref[:, 4]))  # answer 2 chosen, answer 4 rejected
    assert close(h, beta * ((s[:, 2] - s[:, 4]) - (ref[:, 2] - ref[:, 4])))  # the normaliser cancels
    (auto,) = torch.autograd.grad(loss_of(h).sum(), s)
    by_hand = torch.zeros_like(auto)
    by_hand[:, 2], by_hand[:, 4] = beta * (torch.sigmoid(h) - q), -beta * (torch.sigmoid(h) - q)
    assert close(by_hand.detach(), auto)

# %% [markdown] lang="en"
# Now a whole table of comparisons. Let $w_{ij}$ (`wins[i, j]`) be the share of all comparisons in which $i$ beat $j$, so that $\sum w=1$, and $h_{ij}=\hat r_i-\hat r_j$. ($w$ with two indices is a share; as an index, in $y_w$, it names the winner.) The loss is the mean over the comparisons:
#
# $$\mathcal L=-\sum_{i,j}w_{ij}\log\sigma(h_{ij}).$$
#
# Against $j$, answer $i$ wins in the share $w_{ij}$ and loses in the share $w_{ji}$. Add up its derivatives over all $j$:
#
# $$\frac{\partial\mathcal L}{\partial s_i}=\beta\sum_j\left[(w_{ij}+w_{ji})\,\sigma(h_{ij})-w_{ij}\right].$$
#
# This line is `slope` below. The experiments of this chapter descend along it; autograd is there to agree with it.

# %% [markdown] lang="zh"
# 再看一整张比较表。设 $w_{ij}$（`wins[i, j]`）是 $i$ 赢 $j$ 的比较占全部比较的份额，$\sum w=1$；又设 $h_{ij}=\hat r_i-\hat r_j$。（带两个下标的 $w$ 是份额；$y_w$ 里当下标的 $w$，意思是赢家。）对所有比较取平均，损失是
#
# $$\mathcal L=-\sum_{i,j}w_{ij}\log\sigma(h_{ij})$$
#
# 回答 $i$ 对 $j$，赢的份额是 $w_{ij}$，输的份额是 $w_{ji}$。两者的导数都算上，再对所有 $j$ 求和：
#
# $$\frac{\partial\mathcal L}{\partial s_i}=\beta\sum_j\left[(w_{ij}+w_{ji})\,\sigma(h_{ij})-w_{ij}\right]$$
#
# 下面的 `slope` 就是这一行。本章的实验都沿着它下降；这里用到自动求导，只为对个账。

# %% tags=["proof"]
def slope(logits, ref_logps, wins, beta):
    h = gaps(beta * (logits - ref_logps))  # the normaliser cancels, so logits will do
    return beta * ((wins + wins.mT) * torch.sigmoid(h) - wins).sum(-1) / wins.sum((-1, -2))[..., None]


def table_loss(logits):
    return tabular.dpo_loss(logits.log_softmax(-1), ref, wins, beta)


h = gaps(beta * (policies - ref))
assert close(-(wins * logsigmoid(h)).sum((-1, -2)), table_loss(policies))
s = policies.clone().requires_grad_()
(auto,) = torch.autograd.grad(table_loss(s).sum(), s)
assert close(slope(policies, ref, wins, beta), auto)
assert close(slope(policies, ref, 37 * wins, beta), auto)  # counts do as well as shares
nudge = 1e-5 * torch.eye(ANSWERS, dtype=torch.float64)  # one logit at a time
finite = torch.stack([(table_loss(policies + row) - table_loss(policies - row)) / 2e-5 for row in nudge], -1)
assert close(slope(policies, ref, wins, beta), finite, 1e-8)

# %% [markdown] lang="en"
# ## What the weight means
# Most data say only who won: $q=1$. Then the slope in $h$ is $\sigma(h)-1=-\sigma(-h)$; call $\sigma(-h)$ the **weight** of the pair. It is near 1 where the policy orders the pair wrongly and is sure of it, $\frac12$ where it has no opinion, near 0 where the pair is settled. In the words of [Rafailov et al. 2023](https://arxiv.org/abs/2305.18290), examples are weighed by how incorrectly the implicit reward orders them, and without this weight the model can degenerate. [Chapter 9](09_dpo.ipynb) shows a loss with the weight turned round.
#
# Two places hold a $\beta$: in front, because $h$ is $\beta$ times a difference of log-ratios, and inside. Let $u=h/\beta$ be the difference of log-ratios in nats. The loss falls with $u$ at the rate $\beta\,\sigma(-\beta u)$; call this the **pull** on the pair. A large $\beta$ pulls hard and lets go early; a small one pulls gently and for long.

# %% [markdown] lang="zh"
# ## 权重是什么意思
# 多数数据只说谁赢：$q=1$。这时对 $h$ 的导数是 $\sigma(h)-1=-\sigma(-h)$，$\sigma(-h)$ 叫作这一对的**权重**（weight）。策略把次序弄反了还很笃定，权重接近 1；没有看法时是 $\frac12$；次序早已拉开时接近 0。用 [Rafailov et al. 2023](https://arxiv.org/abs/2305.18290) 的话说，隐式奖励把一个样本的次序弄错得越厉害，这个样本的权重就越大；去掉这个权重，模型可能退化。[第 9 章](09_dpo.ipynb)有一个把权重弄反的损失。
#
# 设 $u=h/\beta$ 是两个对数比之差，单位是奈特（nat）。损失随 $u$ 下降的快慢是 $\beta\,\sigma(-\beta u)$，叫作这一对受到的**拉力**（pull）。$\beta$ 出现在两处：一处在 $\sigma$ 前面，因为 $h$ 是 $\beta$ 乘对数比之差；一处在 $\sigma$ 里面。$\beta$ 大，拉得猛，松手早；$\beta$ 小，拉得轻，拉得久。

# %% alt_en="Two panels. Left: the loss against the margin h for q = 1, 0.73 and 0.5. The curve for q = 1 falls towards 0 without a minimum; the other two have their lowest point at h = 1 and at h = 0. Right: the pull beta times sigma of minus beta u against u from -10 to 10 for beta 0.1, 0.5, 1 and 2. At u = 0 the curves stand at half of beta; the curve of beta = 2 falls from 2 to 0 within a few nats, that of beta = 0.1 is low and nearly flat." alt_zh="左右两幅。左：损失随间隔 h 的变化，q 取 1、0.73、0.5。q = 1 的曲线一路降向 0，没有最低点；另外两条的最低点在 h = 1 和 h = 0。右：拉力 beta 乘 sigma(-beta u) 随 u 的变化，u 从 -10 到 10，beta 取 0.1、0.5、1、2。u = 0 处，曲线的高度是 beta 的一半；beta = 2 的曲线在几个奈特之内从 2 降到 0，beta = 0.1 的又低又平。"
fig, (left, right) = figure(columns=2, width=7.6, height=3.0)
margins = torch.linspace(-4, 6, 201, dtype=torch.float64)
for label, color in ((1.0, "chosen"), (1 / (1 + math.exp(-1)), "policy"), (0.5, "ref")):
    curve = pair_loss(margins, torch.tensor(label))
    left.plot(margins, curve, color=COLORS[color], label=f"$q={label:.2g}$")
    if label < 1:
        left.plot(margins[curve.argmin()], curve.min(), "o", color=COLORS[color])
        assert close(torch.sigmoid(margins[curve.argmin()]), label, 0.02)
left.set(xlabel="$h$", ylabel=r"$\ell$")
left.legend(fontsize=9)
u = torch.linspace(-10, 10, 201, dtype=torch.float64)
for strength, style in zip((0.1, 0.5, 1.0, 2.0), (":", "-.", "--", "-")):
    pull = strength * torch.sigmoid(-strength * u)
    right.plot(u, pull, style, color=COLORS["chosen"], label=rf"$\beta={strength:g}$")
    assert close(pull[100], strength / 2)
right.set(xlabel="$u$", ylabel=r"$\beta\,\sigma(-\beta u)$")
_ = right.legend(fontsize=9)

# %% [markdown] lang="en"
# **Figure 7.2.** Left: the loss of a pair. With $q=1$ more margin is always better; with $q<1$ there is a best margin, where $\sigma(h)=q$. Right: the pull on the difference of log-ratios $u$ when $q=1$.

# %% [markdown] lang="zh"
# **图 7.2** 左：一对回答的损失。$q=1$ 时，间隔越大越好；$q<1$ 时，间隔有个最好的值，在 $\sigma(h)=q$ 处。右：$q=1$ 时，作用在对数比之差 $u$ 上的拉力。

# %% [markdown] lang="en"
# **The second derivative** is $\ell''(h)=\sigma(h)\,\sigma(-h)$, positive for every $h$ and every label: the loss curves upwards in $h$, and $h$ is linear in the logits. So for a table the DPO loss is **convex** in the logits: it has no false valleys, no local minimum above the lowest point. The objective $J$ of fact 2 is another matter: in the probabilities it bends downwards everywhere ([chapter 6](06_objective.ipynb)); in the logits, even of a table, it bends both ways.
#
# The second derivatives of the loss with respect to the logits form a matrix, the Hessian. It is $\beta^2$ times the matrix $K$ of [chapter 5](05_preferences.ipynb), with the entries $(w_{ij}+w_{ji})\,\sigma(h_{ij})\,\sigma(-h_{ij})$: minus these numbers beside the diagonal, their row sums on it. It maps constants to zero, because adding a number to all logits changes no policy. If the pairs connect all answers, it maps nothing else to zero, so at most one policy attains the minimum. One does exactly if, however the answers are divided into two groups, each group sometimes beats the other ([chapter 5](05_preferences.ipynb)). Labels strictly between 0 and 1 on connected pairs are enough.

# %% [markdown] lang="zh"
# **二阶导数**是 $\ell''(h)=\sigma(h)\,\sigma(-h)$，对任何 $h$、任何标签都是正的：损失随 $h$ 的曲线向上弯，而 $h$ 是 logits 的线性函数。所以策略是一张表时，DPO 损失是 logits 的**凸函数**（convex function），没有假的谷底，即没有比最低点高的局部极小值。第 2 条里的目标 $J$ 却不然：看作概率的函数，它处处往下弯（[第 6 章](06_objective.ipynb)）；看作 logits 的函数，哪怕策略只是一张表，它也有的地方往上弯，有的地方往下弯。
#
# 损失对 logits 的二阶导数排成一个矩阵，叫 Hessian 矩阵。它等于 $\beta^2$ 乘[第 5 章](05_preferences.ipynb)的矩阵 $K$，只是 $K$ 里每一对的数换成 $(w_{ij}+w_{ji})\,\sigma(h_{ij})\,\sigma(-h_{ij})$：对角线外是这些数取负，对角线上是这些数的各行之和。Hessian 矩阵把各分量都相等的向量映成零，因为给所有 logits 加同一个数，策略不变。如果回答对把所有回答连成一片，被映成零的就只有这种向量，所以至多一个策略取到最小值。什么时候真有一个？当且仅当不管怎样把回答分成两组，两组互有胜负（[第 5 章](05_preferences.ipynb)）。回答对连成一片，标签又都严格介于 0 和 1 之间，就够了。

# %% tags=["proof"]
u = m / beta  # the difference of log-ratios
assert close(derivative(lambda h: -logsigmoid(h)) * beta, (-beta * torch.sigmoid(-beta * u)).detach())  # q = 1
(first_order,) = torch.autograd.grad(loss_of(m).sum(), m, create_graph=True)
(second_order,) = torch.autograd.grad(first_order.sum(), m)
assert close(second_order, (torch.sigmoid(m) * torch.sigmoid(-m)).detach())
h = gaps(beta * (policies - ref))
entries = beta**2 * (wins + wins.mT) * torch.sigmoid(h) * torch.sigmoid(-h)
hessian = entries.sum(-1).diag_embed() - entries  # (20, 6, 6)
auto = torch.stack([torch.autograd.functional.hessian(lambda s: tabular.dpo_loss(s.log_softmax(-1), ref[i], wins[i], beta), policies[i])
                    for i in range(INSTANCES)])  # fmt: skip
assert close(hessian, auto)
curvature = torch.linalg.eigvalsh(hessian)  # (20, 6), ascending
assert curvature[:, 0].abs().max() < 1e-12 and curvature[:, 1].min() > 1e-5  # flat along constants, and only there

# %% tags=["proof"]
of_J = torch.stack([torch.autograd.functional.hessian(lambda s: tabular.objective(s.log_softmax(-1), Problem(ref[i], r[i]), beta), policies[i])
                    for i in range(INSTANCES)])  # fmt: skip
p, worth = policies.exp(), r - beta * (policies - ref)  # J is the mean of `worth`
push = p * (worth - (p * worth).sum(-1, keepdim=True))  # the first derivatives of J
products = p[:, :, None] * push[:, None, :]
by_hand = push.diag_embed() - products - products.mT - beta * (p.diag_embed() - p[:, :, None] * p[:, None, :])
assert close(by_hand, of_J)
bends = torch.linalg.eigvalsh(of_J)
assert bends[:, -1].max() > 1e-3 and bends[:, 0].min() < -1e-3  # in the logits: upwards here, downwards there
middle, *two_ends = (tabular.objective(probs.log(), problems, beta) for probs in ((p + optimum.exp()) / 2, p, optimum.exp()))
assert (middle > sum(two_ends) / 2 + 1e-6).all()  # in the probabilities: downwards

# %% [markdown] lang="en"
# ## Its minimum is the optimum
# Why should a loss on pairs have its minimum at the optimum of an objective that it never mentions? Think of two coins: the label's shows heads with probability $q$, the claim's with probability $\sigma(h)$. The loss of a pair minus the entropy of its label is the divergence $\mathrm{KL}(\text{label}\,\|\,\text{claim})$; it is never negative, and zero where $\sigma(h)=q$. If the labels are Bradley–Terry probabilities of $r$, then $\sigma(h)=q$ says $h=r(x,y_w)-r(x,y_l)$. One policy fulfils this for all pairs at once: $\pi^*$, by the difference equation above. So every pair is at its own minimum there, however often it is drawn. Bradley–Terry probabilities lie strictly between 0 and 1, so the minimum is attained; and as long as the pairs connect all answers, no other policy attains it.
#
# That answers the question about the pair distribution: it changes the value of the loss and not where the minimum is. Below, three pair distributions and three values of $\beta$, from random starts; then the other route, $J$ itself maximised.

# %% [markdown] lang="zh"
# ## 它的最小值就是最优解
# 这个损失只谈回答对，目标 $J$ 提都没提过，凭什么偏在 $J$ 的最优解处最小？设想两枚硬币：标签那枚以概率 $q$ 出正面，声称那枚以概率 $\sigma(h)$ 出正面。一对的损失减去标签的熵，等于 $\mathrm{KL}(\text{label}\,\|\,\text{claim})$，即标签相对声称的 KL 散度；它从不为负，在 $\sigma(h)=q$ 处为零。若标签是 $r$ 的 Bradley–Terry 概率，$\sigma(h)=q$ 就是说 $h=r(x,y_w)-r(x,y_l)$。有一个策略，在所有回答对上同时做到了，就是 $\pi^*$：前面相减得到的等式，说的正是这个。于是在 $\pi^*$ 处，每一对都到了自己的最小值，抽得多、抽得少都不要紧。而且，只要回答对把所有回答连成一片，别的策略就都取不到这个最小值；Bradley–Terry 概率总是严格介于 0 和 1 之间，前面的条件都满足。
#
# 先前的问题有了答案：配对分布改变损失的值，不改变最小值的位置。下面用三种配对分布、三个 $\beta$，从随机起点出发；再走另一条路，直接把 $J$ 最大化。

# %% tags=["proof"]
entropy = -torch.xlogy(q, q) - torch.xlogy(1 - q, 1 - q)
coin, claim = torch.distributions.Bernoulli(q), torch.distributions.Bernoulli(logits=m.detach())
assert close(loss_of(m.detach()) - entropy, torch.distributions.kl_divergence(coin, claim))
assert (loss_of(m.detach()) >= entropy).all() and close(loss_of(torch.logit(q)), entropy)  # least at σ(h) = q
starts, worst = tabular.random_policies(INSTANCES, ANSWERS, seed=SEED + 200, scale=2.0), {}
for strength in (0.1, 0.5, 2.0):
    best = tabular.optimal_policy(problems, strength)
    for name, drawn in pairs.items():
        table = tabular.comparisons(r, drawn)
        found = tabular.minimise(lambda s: tabular.dpo_loss(s.log_softmax(-1), ref, table, strength), starts)
        worst[strength, name] = (found.log_softmax(-1) - best).abs().max().item()
assert max(worst.values()) < 1e-8  # nine settings, twenty problems, one minimiser: the optimum
for strength in (0.5, 2.0):
    by_J = tabular.minimise(lambda s: -tabular.objective(s.log_softmax(-1), problems, strength), ref)
    assert close(by_J.log_softmax(-1), tabular.optimal_policy(problems, strength), 1e-8)  # the other route

# %% [markdown] lang="en"
# And if the pairs do not connect all answers? Let answers 0, 1, 2 be compared among themselves and 3, 4, 5 among themselves, and never across. Within each group every difference of rewards is learnt. How much probability a group gets, no pair says: from two starts we reach two policies with the same loss.

# %% [markdown] lang="zh"
# 要是回答对没把所有回答连成一片呢？让回答 0、1、2 之间互相比较，3、4、5 之间互相比较，从不跨组。组内的奖励差都学得到；每组分到多少概率，没有哪一对提过：从两个起点出发，到了两个不同的策略，损失却一样。

# %% tags=["proof"]
group = torch.tensor([0, 0, 0, 1, 1, 1])
together = (group[:, None] == group).double() * pairs["uniform"]
table = tabular.comparisons(r, together / together.sum((-1, -2), keepdim=True))
ends = [tabular.minimise(lambda s: tabular.dpo_loss(s.log_softmax(-1), ref, table, beta), start).log_softmax(-1)
        for start in (starts, policies)]  # fmt: skip
assert close(tabular.dpo_loss(ends[0], ref, table, beta), tabular.dpo_loss(ends[1], ref, table, beta))
assert close(gaps(beta * (ends[0] - ref)) * together, gaps(r) * together)  # right within a group
shares = [end.exp()[:, :3].sum(-1) for end in ends]
assert (shares[0] - shares[1]).abs().median() > 0.05  # undetermined between the groups

# %% [markdown] lang="en"
# ## Quarrel one: what does a larger beta do?
# One asker looked at the code and saw $\beta$ "just" scale something: can it be ignored ([direct-preference-optimization issue 4](https://github.com/eric-mitchell/direct-preference-optimization/issues/4))? An author answered that it sets the strength of the leash. One course text had it the wrong way round and was corrected when a reader objected ([LLMs-from-scratch PR 818](https://github.com/rasbt/LLMs-from-scratch/pull/818)); for another a reader has proposed the correction ([smol-course PR 307](https://github.com/huggingface/smol-course/pull/307)). And a user insists that in DPO a larger $\beta$ makes the updates *more* violent ([ms-swift issue 7285](https://github.com/modelscope/ms-swift/issues/7285)). Who is right?
#
# Theory first. At the minimum, a larger $\beta$ means less KL: the policy is $\pi_{\mathrm{ref}}\,e^{r/\beta}$, normalised. At the start, $h=0$ for every pair, so the claim is $\frac12$ at every $\beta$, and the gradient is $\beta$ times the same vector: twice the $\beta$, twice the step.

# %% [markdown] lang="zh"
# ## 争论一：beta 大了会怎样？
# 有人读了代码，觉得 $\beta$「不过是」个缩放系数：能不能不管它（[direct-preference-optimization issue 4](https://github.com/eric-mitchell/direct-preference-optimization/issues/4)）？一位论文作者回答：它定的是绳子的松紧。有一份教程把方向写反了，读者提了意见，已经改过来（[LLMs-from-scratch PR 818](https://github.com/rasbt/LLMs-from-scratch/pull/818)）；另一份也有读者提议改（[smol-course PR 307](https://github.com/huggingface/smol-course/pull/307)）。可还有人坚持：DPO 里 $\beta$ 越大，更新越*剧烈*（[ms-swift issue 7285](https://github.com/modelscope/ms-swift/issues/7285)）。谁对？
#
# 先看理论。在最小值处，$\beta$ 越大，KL 越小：策略是 $\pi_{\mathrm{ref}}\,e^{r/\beta}$ 再归一化。在起点，每一对的 $h=0$，不论 $\beta$ 多大，声称都是 $\frac12$，梯度等于 $\beta$ 乘同一个向量：$\beta$ 加倍，步子也加倍。

# %% tags=["proof"]
strengths = torch.tensor([0.1, 0.2, 0.5, 1.0, 2.0, 5.0], dtype=torch.float64)[:, None, None]  # (6, 1, 1)
tilted = ref.exp() * torch.exp(r / strengths)
tilted = tilted / tilted.sum(-1, keepdim=True)
at_optimum = tabular.kl(tilted.log(), ref)  # (6, 20)
highest = strengths[..., 0] * (ref + r / strengths).logsumexp(-1)  # V, which is J(π*)
assert close(at_optimum, ((tilted * r).sum(-1) - highest) / strengths[..., 0])
assert (at_optimum.diff(dim=0) < 0).all()  # at the optimum: more beta, less KL
at_start = slope(ref, ref, wins, strengths)  # (6, 20, 6)
assert close(at_start, strengths * slope(ref, ref, wins, 1.0))  # at the start: beta times one vector

# %% [markdown] lang="en"
# Now train: twenty problems, soft labels, $\beta$ from 0.05 to 5, and look at the KL after 20, 200 and 2,000 steps. Once with plain gradient steps (SGD), once with Adam ([Kingma & Ba 2015](https://arxiv.org/abs/1412.6980)), which divides each coordinate of the gradient by a running estimate of its size.

# %% [markdown] lang="zh"
# 现在训练：二十道题，软标签，$\beta$ 从 0.05 到 5，看 20、200、2,000 步之后的 KL。一次用普通的梯度步（SGD），一次用 Adam（[Kingma & Ba 2015](https://arxiv.org/abs/1412.6980)），它把梯度的每个坐标，除以这个坐标大小的滑动估计。

# %%
def descend(optimizer, rate, wins, beta, marks):
    """Log-probabilities after each number of steps in `marks`, from the reference."""
    shape = torch.broadcast_shapes(ref.shape, wins.shape[:-1], torch.as_tensor(beta).shape)
    logits, reached = ref.expand(shape).clone(), {}
    optimizer = optimizer([logits], lr=rate)
    for step in range(1, max(marks) + 1):
        logits.grad = slope(logits, ref, wins, beta)
        optimizer.step()
        if step in marks:
            reached[step] = logits.log_softmax(-1)
    return reached


grid = torch.tensor(np.geomspace(0.05, 5, 21))[:, None, None]
faces = {}
for name, optimizer, rate in (("SGD", torch.optim.SGD, 0.3), ("Adam", torch.optim.Adam, 0.01)):
    reached = descend(optimizer, rate, wins, grid, (20, 200, 2000))
    faces[name] = {step: tabular.kl(logps, ref).mean(-1) for step, logps in reached.items()}  # (21,) each
    for step, divergence in faces[name].items():
        print(f"{name:5} {step:5}", [float(f"{divergence[k]:.2g}") for k in (0, 5, 10, 15, 20)])
wide = Problem(ref.expand(21, -1, -1), r.expand(21, -1, -1))
settled = tabular.kl(tabular.optimal_policy(wide, grid), ref).mean(-1)
print("π*         ", [float(f"{settled[k]:.2g}") for k in (0, 5, 10, 15, 20)])

# %% alt_en="Two panels, SGD and Adam: KL on a logarithmic axis against beta from 0.05 to 5. A line, the KL of the optimum, falls from 2 to 0.013. SGD: after 20 steps the points rise with beta by a factor of several hundred up to about beta 1.6 and then fall; after 200 steps the peak is at a smaller beta; after 2000 steps they lie on the line from beta 0.3 on, and below it at smaller values. Adam: after 20 steps the points fall slowly with beta, from 0.017 to 0.008; after 200 steps they fall faster; after 2000 steps they lie on the line." alt_zh="左右两幅，SGD 与 Adam：纵轴是 KL（对数刻度），横轴是 beta，从 0.05 到 5。一条线是最优解的 KL，从 2 降到 0.013。SGD：20 步后，点随 beta 上升几百倍，到 beta 约 1.6 后回落；200 步后，峰移到更小的 beta；2000 步后，beta 从 0.3 起，点都落在线上，更小处在线的下方。Adam：20 步后，点随 beta 缓缓下降，从 0.017 到 0.008；200 步后降得快些；2000 步后都落在线上。"
fig, panels = figure(columns=2, width=7.6, height=3.3)
for panel, (name, curves) in zip(panels, faces.items()):
    panel.loglog(grid.flatten(), settled, color=COLORS["theory"], label=r"$\pi^*$")
    for (step, divergence), mark in zip(curves.items(), (":o", "--s", "-.^")):
        panel.loglog(grid.flatten(), divergence, mark, color=COLORS["policy"], markersize=4, linewidth=1, label=f"{step}")
    panel.set(title=name, xlabel=r"$\beta$", ylim=(1e-4, 5))
panels[0].set_ylabel(r"$\mathrm{KL}(\pi\,\|\,\pi_{ref})$")
panels[0].legend(fontsize=9, loc="lower center", ncols=2)
sgd, adam = faces["SGD"], faces["Adam"]
assert sgd[20].argmax() == 15 and abs(grid[15].item() - 1.6) < 0.05 and (sgd[20][:16].diff() > 0).all()
assert abs(sgd[20][0] - 0.0002) < 5e-5 and abs(sgd[20][15] - 0.053) < 5e-4 and sgd[20][15] / sgd[20][0] > 300
assert (adam[20].diff() < 0).all() and close(adam[20][[0, -1]], torch.tensor([0.017, 0.008]), 5e-4) and (adam[200].diff() < 0).all()
assert (adam[2000] / settled - 1).abs().max() < 0.1 and (sgd[2000] / settled - 1)[8:].abs().max() < 0.03 and grid[8] < 0.32
assert abs(sgd[2000][0] - 0.96) < 0.005 and abs(settled[0] - 1.97) < 0.005

# %% [markdown] lang="en"
# **Figure 7.3.** The two faces of $\beta$. Pink: KL at the optimum. Points: KL after 20, 200 and 2,000 steps. With SGD, 20 steps move the policy *more* the larger $\beta$ is, over most of the range; with Adam it is the other way round, but within a factor of about two: 0.017 at the smallest $\beta$, 0.008 at the largest. After 2,000 steps Adam is on the line, within 10 %, and so is SGD from $\beta=0.3$ upwards; at 0.05 SGD is half-way, at 0.96 of 1.97.

# %% [markdown] lang="zh"
# **图 7.3** $\beta$ 的两副面孔。粉线：最优解处的 KL。点：20、200、2,000 步之后的 KL。用 SGD 走 20 步，在大半个范围里 $\beta$ 越大走得*越远*；用 Adam 则反过来，不过只差一倍左右：$\beta$ 最小处是 0.017，最大处是 0.008。2,000 步之后，Adam 都在线上，出入不到 10%；SGD 从 $\beta=0.3$ 起也在线上，在 0.05 处只走到一半：它是 0.96，线是 1.97。

# %% [markdown] lang="en"
# Both are right, about different moments. In the loss, $\beta$ is two things: the strength of the leash at the minimum, and a factor in every plain gradient step. After 20 SGD steps the KL is 0.0002 at $\beta=0.05$ and 0.053 near $\beta=1.6$; at the minimum the order is the reverse. Adam divides the factor out, and so does Muon, with which the networks of this chapter are trained; what remains is the leash. Large models are trained with optimisers of this kind, so the corrected statement, that a larger $\beta$ keeps the policy closer to the reference, should describe practice, with one proviso: at a small $\beta$ a short training may stop long before the leash is felt. Two values of $\beta$ compared after the same few steps are compared by speed.

# %% [markdown] lang="zh"
# 双方都对，说的是不同的时刻。在损失里，$\beta$ 身兼二职：在最小值处，它是绳子的松紧；在普通的梯度步里，它又是个系数。SGD 走 20 步，KL 在 $\beta=0.05$ 处是 0.0002，在 $\beta=1.6$ 附近是 0.053；最小值处的次序正相反。Adam 把这个系数除掉了，本章训练网络用的 Muon 也一样；剩下的才是绳子。大模型用的正是这一类优化器，所以改正后的说法（$\beta$ 越大，策略离参考策略越近）应该符合实际；但要留个心眼：$\beta$ 小的时候，短短的训练可能早早停下，绳子还没绷紧。两个 $\beta$ 都训练同样的几步，就拿来相比，比的只是快慢。

# %% [markdown] lang="en"
# ## Quarrel two: what is left of the leash?
# Who trains on "$y_w$ won" with $q=1$ may ask how a loss without a minimum (figure 7.2) can hold anybody back. [Chapter 5](05_preferences.ipynb) told three kinds of label apart. *Soft*: the probability itself. *Sampled*: one draw from it. *Deterministic*: the better answer always wins. [Azar et al. 2024](https://arxiv.org/abs/2310.12036) say in their section 4.2 what the third does: the reward difference would have to be infinite, the loser's probability becomes 0 for any strength of the leash, and so the leash grows weaker the more deterministic the preferences are. They add that few comparisons of a noisy judge look deterministic too. We run it, for three values of $\beta$ that span a factor of 16.

# %% [markdown] lang="zh"
# ## 争论二：绳子还剩多少？
# 标签只说「$y_w$ 赢了」，也就是 $q=1$，有人就要问：这个损失没有最小值（图 7.2），怎么拉得住策略？[第 5 章](05_preferences.ipynb)分清了三种标签。**软标签**（soft label）：概率本身。**采样标签**（sampled label）：按它抽一次。**确定性标签**（deterministic label）：好的总赢。[Azar et al. 2024](https://arxiv.org/abs/2310.12036) 在 4.2 节说了第三种的后果：奖励差非得无穷大不可，不论 $\beta$ 多大，输家的概率都变成 0；所以偏好越是确定，绳子越松。他们还说，裁判就算有噪声，比较次数一少，看起来也像确定的。我们跑一遍看看，取三个 $\beta$，最大的是最小的 16 倍。

# %% alt_en="Two panels: KL against training steps from 1 to 30,000 on a logarithmic axis, for beta 0.25, 1 and 4. Left, soft labels: each curve rises and then stays on the horizontal line of its own optimum, at 1.53, 0.30 and 0.02. Right, deterministic labels: all three curves keep rising towards one common line at 2.18, the KL of always giving the best answer; beta 0.25 has reached it, beta 4 stands at 1.57." alt_zh="左右两幅：纵轴是 KL，横轴是训练步数，从 1 到 30,000，对数刻度，beta 取 0.25、1、4。左，软标签：每条曲线先升，再停在自己最优解的水平线上，在 1.53、0.30、0.02。右，确定性标签：三条曲线一直往上，朝同一条线去，那条线在 2.18，是永远给出最好回答时的 KL；beta 为 0.25 的已经到了，beta 为 4 的在 1.57。"
kinds = ("soft", "deterministic")
tables = torch.stack([tabular.comparisons(r, pairs["uniform"], kind) for kind in kinds])[:, None]  # (2, 1, 20, 6, 6)
three = torch.tensor([0.25, 1.0, 4.0], dtype=torch.float64)[:, None, None]
marks = sorted({round(step) for step in np.geomspace(1, 30_000, 40)})
reached = descend(torch.optim.SGD, 0.5, tables, three, marks)
divergence = torch.stack([tabular.kl(logps, ref).mean(-1) for logps in reached.values()])  # (steps, 2, 3)
argmax_kl = -ref.gather(-1, r.argmax(-1, keepdim=True)).mean().item()  # of always giving the best answer
fig, panels = figure(columns=2, width=7.6, height=3.2)
for kind, panel in enumerate(panels):
    for k, style in enumerate((":", "--", "-")):
        panel.semilogx(marks, divergence[:, kind, k], style, color=COLORS["policy"], label=rf"$\beta={three[k].item():g}$")
        limit = tabular.kl(tabular.optimal_policy(problems, three[k].item()), ref).mean() if kind == 0 else argmax_kl
        panel.axhline(limit, color=COLORS["theory"], linewidth=1.2, zorder=0)
    panel.set(title=("$q=\\sigma(r_w-r_l)$", "$q=1$")[kind], xlabel="step", ylim=(-0.05, 2.4))
panels[0].set_ylabel(r"$\mathrm{KL}(\pi\,\|\,\pi_{ref})$")
panels[0].legend(fontsize=9)
ends = divergence[-1]
print([[round(value, 2) for value in row] for row in ends.tolist()], round(argmax_kl, 2))
assert close(ends, torch.tensor([[1.53, 0.30, 0.02], [2.18, 2.15, 1.57]]), 0.006) and abs(argmax_kl - 2.18) < 0.005
assert (divergence[1:, 1] > divergence[:-1, 1] - 1e-12).all()  # deterministic: it never turns back

# %% [markdown] lang="en"
# **Figure 7.4.** KL during training, mean of the twenty problems. Left, soft labels: every $\beta$ stops at its own optimum (pink). Right, deterministic labels: all go to one place, the policy that always gives the best answer, at a KL of 2.18. What $\beta$ sets is the speed.

# %% [markdown] lang="zh"
# **图 7.4** 训练中的 KL，二十道题取平均。左，软标签：每个 $\beta$ 都停在自己的最优解（粉线）。右，确定性标签：都往一个地方去，就是永远给出最好回答的策略，KL 为 2.18。$\beta$ 定的只是快慢。

# %% [markdown] lang="en"
# By the objective that $\beta$ was meant for, this is no success. At $\beta=4$ the reference itself scores -0.23 on average, the optimum -0.15, and the policy trained on deterministic labels -5.29: it has more reward, and pays four times its KL for it.
#
# Human data with one verdict a pair are sampled labels: somebody decided, once. Draw $N$ comparisons from the Bradley–Terry probabilities. Use each once, in batches of 10; or put them all into one table and take 20,000 steps on it. The number to watch is the shortfall $J(\pi^*)-J(\pi)$; the reference itself falls short by 0.581.

# %% [markdown] lang="zh"
# $\beta$ 本是为目标 $J$ 设的，按 $J$ 打分，这可不算成功。$\beta=4$ 时，参考策略自己平均得 -0.23，最优解得 -0.15，用确定性标签训出来的策略得 -5.29：奖励是多了，可每奈特 KL 要扣四分。
#
# 人工标注的数据，若每一对只判一次，就是采样标签：有人判过，判了一次。按 Bradley–Terry 概率抽 $N$ 次比较：要么每次比较只用一遍，每批 10 次；要么全放进一张表，在上面走 20,000 步。要看的是差额 $J(\pi^*)-J(\pi)$；参考策略自己差 0.581。

# %%
def shortfall(logps):
    return tabular.objective(optimum, problems, beta) - tabular.objective(logps, problems, beta)  # (20,)


strong = [tabular.objective(logps, problems, 4.0).mean().item()
          for logps in (ref, tabular.optimal_policy(problems, 4.0), reached[30_000][1, 2])]  # fmt: skip
print([round(value, 2) for value in strong], round(shortfall(ref).mean().item(), 3))
assert close(torch.tensor(strong), torch.tensor([-0.23, -0.15, -5.29]), 6e-3) and close(shortfall(ref).mean(), 0.581, 5e-4)

# %%
def one_pass(N, draw=0, shrinking=False):
    """The policy after N comparisons, each used once, and the comparisons as one table of counts."""
    logits, seen = ref.clone(), 0
    for k in range(N // 10):
        batch = tabular.draw_comparisons(wins, 10, seed=N + k + 1_000_000 * draw)
        rate = 2.0 * (1 - k / (N // 10)) if shrinking else 2.0
        logits -= rate * slope(logits, ref, batch, beta)
        seen = seen + batch
    return logits.log_softmax(-1), seen


# %%
print("     N  one_pass  to_the_end  no_minimum  margin_1000  margin_20000")
outcome = {}
for N in (30, 300, 3000, 30_000):
    once, seen = one_pass(N)
    beaten = ((seen > 0).double() + torch.eye(ANSWERS)).matrix_power(ANSWERS)  # i has beaten j, in however many steps
    endless = (beaten == 0).flatten(1).any(-1)  # some answer never lost to the others: no finite minimum
    ended = descend(torch.optim.SGD, 4.0, seen, beta, (1000, 20_000))
    width = [gaps(beta * (logps - ref)).amax((-1, -2))[endless].mean().item() for logps in ended.values() if endless.any()]
    outcome[N] = [shortfall(logps).mean().item() for logps in (once, ended[20_000])] + [int(endless.sum()), width]
    print("{:6} {:9.3f} {:11.4f} {:11}".format(N, *outcome[N][:3]), *(f"{value:11.1f}" for value in width))
truth = gaps(r).amax((-1, -2)).mean().item()
print("true_margin", round(truth, 1))
assert [outcome[N][2] for N in outcome] == [7, 0, 0, 0] and abs(truth - 2.5) < 0.05
assert close(torch.tensor(outcome[30][3]), torch.tensor([9.1, 14.2]), 0.06)
assert close(torch.tensor([outcome[N][0] for N in outcome]), torch.tensor([0.450, 0.073, 0.008, 0.014]), 1e-3)
assert close(torch.tensor([outcome[N][1] for N in outcome]), torch.tensor([0.298, 0.026, 0.002, 0.0002]), 6e-4)

# %%
again = {N: [shortfall(one_pass(N, draw)[0]).mean().item() for draw in range(6)] for N in (3000, 30_000)}
for N, values in again.items():
    print(f"{N:6}", *(f"{value:.3f}" for value in values))
assert close(torch.tensor([min(min(v) for v in again.values()), max(max(v) for v in again.values())]), torch.tensor([0.008, 0.018]), 6e-4)
for N, most in ((3000, 0.005), (30_000, 0.002)):
    ended = [shortfall(one_pass(N, draw, True)[0]).mean().item() for draw in range(6)]
    print(f"{N:6}", *(f"{value:.4f}" for value in ended), " shrinking steps")
    assert max(ended) < most < min(again[N])

# %% [markdown] lang="en"
# Here, with 300 comparisons or more, training to the end is safe, and the shortfall goes down as $1/N$: 0.026, 0.002, 0.0002. Disagreement is what holds the leash: an answer that sometimes loses to a worse one has a finite best margin. With 30 comparisons, in 7 of the 20 problems some answer, or group of answers, never lost to the rest, and there the widest margin is 9.1 after 1,000 steps, 14.2 after 20,000, and still growing; the truth is 2.5. One pass over 30 comparisons goes less than a quarter of the way (shortfall 0.450). One pass over many is good and not perfect: 0.008 and 0.014, and in six draws of each 0.008 to 0.018; which of the two $N$ comes out lower is luck. The constant step size is to blame: let the steps shrink to 0 along the way, and all six draws end below 0.005 for the smaller $N$, below 0.002 for the larger.
#
# Now a data set like many public ones: each of its answers occurs in one pair, compared once. As a table it is the case of a single comparison, whatever the number of pairs: no pair has a finite best margin. Two things hold the policy. It stops early, pairs being seen once or twice. And its answers are not separate rows of a table: they share parameters, so that a thousand similar pairs, decided this way and that, may act like one pair compared a thousand times.

# %% [markdown] lang="zh"
# 在这里，比较够 300 次，一直训练下去也安全，差额按 $1/N$ 下降：0.026、0.002、0.0002。拉住绳子的，是意见不一：一个回答只要偶尔输给差一些的，最好的间隔就是有限的。只有 30 次比较时，20 道题里有 7 道，某个或某几个回答从没输给过其余的；这几道题上，最宽的间隔 1,000 步后是 9.1，20,000 步后是 14.2，还在涨，而真值是 2.5。30 次比较只过一遍，路走了不到四分之一（差额 0.450）。比较多了，过一遍就不错，但不完美：0.008 和 0.014；两个 $N$ 各重抽六回，都在 0.008 到 0.018 之间，谁高谁低看运气。毛病出在步长不变：让步长一路缩到 0，两个 $N$ 各六回，较小的 $N$ 都降到 0.005 以下，较大的都降到 0.002 以下。
#
# 再看一份数据，同许多公开的数据集一样：每个回答只出现在一对里，只比过一次。当成表来看，回答对再多，也都是「只比了一次」的情形：没有哪一对的最好间隔是有限的。拉住策略的是另外两样。一是停得早，每一对只看一两遍。二是它的回答并不是表里互不相干的行：它们共用参数，一千个相似的对，有的判这边，有的判那边，作用可能就像同一对比了一千次。

# %% [markdown] lang="en"
# ## Quarrel three: the wrong reference
# Which model's log-probabilities belong in the loss? People ask when an implementation seems to take another than they expect ([LlamaFactory issue 6314](https://github.com/hiyouga/LlamaFactory/issues/6314)). Let the loss be given $g(x,y)$ where $\log\pi_{\mathrm{ref}}(y\mid x)$ should stand. Three cases, each a line of algebra.
#
# **A shift per prompt**, $g=\log\pi_{\mathrm{ref}}+c(x)$. Only differences within a prompt enter $h$. Nothing changes.
#
# **Another policy**, $g=\log\pi'$. The minimiser fulfils the difference equation with $\pi'$ in the place of $\pi_{\mathrm{ref}}$, so it is
#
# $$\pi(y\mid x)=\frac{1}{Z'(x)}\,\pi'(y\mid x)\,e^{r(x,y)/\beta},$$
#
# the other model, tilted. The leash is tied to the wrong post. By fact 4 it falls short by $\beta\,\mathrm{KL}(\pi\,\|\,\pi^*)$ of the optimum that was wanted.
#
# **Noise per answer**, $g=\log\pi_{\mathrm{ref}}+\nu(y)$, such as comes from rounding, or from dropout (which in training switches off random parts of a network) left on while the reference's log-probabilities are computed once and stored. It is the second case with $\pi'\propto\pi_{\mathrm{ref}}\,e^{\nu}$: the minimiser is $\pi^*e^{\nu}$, normalised. Every difference within a prompt carries the error on, a nat for a nat, whatever $\beta$ is. (A reference that is computed anew in each step, dropout on, draws fresh noise each time: that is not this case.)

# %% [markdown] lang="zh"
# ## 争论三：参考策略弄错了
# 损失里该用哪个模型的对数概率？有人看到实现里用的似乎不是自己以为的那个，于是来问（[LlamaFactory issue 6314](https://github.com/hiyouga/LlamaFactory/issues/6314)）。假设该放 $\log\pi_{\mathrm{ref}}(y\mid x)$ 的地方，放的是 $g(x,y)$。分三种情形，各一行代数。
#
# **每个提示各平移一截**，$g=\log\pi_{\mathrm{ref}}+c(x)$。进入 $h$ 的只有同一提示里的差，什么也不变。
#
# **换了一个策略**，$g=\log\pi'$。最小值处的策略满足前面相减得到的等式，只是 $\pi'$ 占了 $\pi_{\mathrm{ref}}$ 的位置，所以它是
#
# $$\pi(y\mid x)=\frac{1}{Z'(x)}\,\pi'(y\mid x)\,e^{r(x,y)/\beta}$$
#
# 即另一个模型按奖励重新加权。绳子拴错了桩。由第 4 条，比起本来想要的最优解，它差 $\beta\,\mathrm{KL}(\pi\,\|\,\pi^*)$。
#
# **每个回答各有噪声**，$g=\log\pi_{\mathrm{ref}}+\nu(y)$，比如舍入带来的；又比如参考策略的对数概率只算一遍、存下来用，算的时候却忘了关 dropout（训练时随机关掉一部分单元）。这就是第二种情形，$\pi'\propto\pi_{\mathrm{ref}}\,e^{\nu}$：最小值处的策略是 $\pi^*e^{\nu}$ 再归一化。同一个提示里的差，参考策略错一奈特，策略就错一奈特，$\beta$ 多大都一样。（若参考策略每步现算，dropout 开着，噪声就每次都不同，不属于这种情形。）

# %% tags=["proof"]
assert close(tabular.dpo_loss(policies, ref + f, wins, beta), tabular.dpo_loss(policies, ref, wins, beta))  # f is 3 · normal
other = tabular.random_policies(INSTANCES, ANSWERS, seed=SEED + 300)
found = tabular.minimise(lambda s: tabular.dpo_loss(s.log_softmax(-1), other, wins, beta), starts).log_softmax(-1)
by_formula = other.exp() * torch.exp(r / beta)
assert close(found.exp(), by_formula / by_formula.sum(-1, keepdim=True))  # the other model, tilted
lost = tabular.objective(optimum, problems, beta) - tabular.objective(found, problems, beta)
assert close(lost, beta * (found.exp() * (found - optimum)).sum(-1)) and (lost > 0).all()
noise = 0.3 * torch.randn(INSTANCES, ANSWERS, generator=torch.Generator().manual_seed(SEED), dtype=torch.float64)
for strength in (0.1, 0.5, 2.0):
    noisy = tabular.minimise(lambda s: tabular.dpo_loss(s.log_softmax(-1), ref + noise, wins, strength), starts)
    error = noisy.log_softmax(-1) - tabular.optimal_policy(problems, strength)
    assert close(gaps(error), gaps(noise))  # one to one, at every beta

# %% [markdown] lang="en"
# ## When answers share parameters
# So far every answer had a logit of its own. A network has far fewer parameters than answers: what it learns about one, it applies to others. The smallest model of that: each answer $y$ has a vector of features $\phi_y$, and $s_y=\log\pi_{\mathrm{ref}}(y)+\phi_y\cdot\theta$, with one parameter vector $\theta$. Two things change.
#
# **The minimum.** There may be no $\theta$ that gives every pair its right margin. Then the pairs must compromise, and those that occur more often weigh more. Loss minus entropy of the labels is an average, over the pairs, of the KL divergence between two coins (as above). So of all policies that $\theta$ can reach, the minimum is the one whose opinions are nearest to the truth *on the pairs drawn*. [Gopalan et al. 2025](https://arxiv.org/abs/2510.20413) call DPO misspecified in this case, and show that it can end worse than it began, without any noise in the labels. Here $h$ is linear in $\theta$, so the loss is still convex and has no false valleys. $J$ has no such guarantee: it has false summits; below, a grid of some 1,200 values of $\theta$ says where to start climbing. In our twenty problems with two features, each pair distribution has its own minimum, and none comes up to the best $J$ found.

# %% [markdown] lang="zh"
# ## 当回答共用参数
# 到此为止，每个回答都有自己的 logit。网络的参数远比回答少：在一个回答上学到的，会用到别的回答上。要说明这一点，最小的模型是这样：每个回答 $y$ 有一个特征向量 $\phi_y$，logits 是 $s_y=\log\pi_{\mathrm{ref}}(y)+\phi_y\cdot\theta$，参数向量 $\theta$ 大家共用。有两件事变了。
#
# **最小值。** 可能没有哪个 $\theta$ 让每一对的间隔都对。各对只好互相迁就，出现多的，分量就重。损失减去标签的熵，等于两枚硬币之间的 KL 散度（同上），再对回答对取平均。所以在 $\theta$ 够得着的策略里，最小值选中的，是*在抽到的回答对上*看法最接近真相的那个。[Gopalan et al. 2025](https://arxiv.org/abs/2510.20413) 把这种情形叫作 DPO 的误设（misspecified），并且证明：哪怕标签毫无噪声，结果也可能比起点还差。这里 $h$ 是 $\theta$ 的线性函数，所以损失仍是凸的，没有假的谷底。$J$ 没有这样的保证，它有假的山顶；要找最高处，下面先把 1,200 个左右的 $\theta$ 排成网格，看从哪里起步，再往上爬。我们这二十道题，每题取两个特征：每种配对分布各有各的最小值，论 $J$，都不及搜索找到的最高水平。

# %% tags=["proof"]
generator = torch.Generator().manual_seed(SEED)
phi = torch.randn(INSTANCES, ANSWERS, 2, generator=generator, dtype=torch.float64)  # two features an answer


def reach(theta):
    return (ref + (phi @ theta.unsqueeze(-1)).squeeze(-1)).log_softmax(-1)


zero = torch.zeros(INSTANCES, 2, dtype=torch.float64)
angles = torch.linspace(0, 2 * math.pi, 49).double()[:-1]
radii = torch.cat((torch.zeros(1), torch.logspace(-1, 2, 25))).double()
thetas = (radii[:, None, None] * torch.stack((angles.cos(), angles.sin()), -1)).view(-1, 1, 2)  # (1248, 1, 2)
J_grid = tabular.objective(reach(thetas), problems, beta)  # (1248, 20)
starting = {"the reference": zero, "the best of the grid": thetas[J_grid.argmax(0), 0]}
climbed = [reach(tabular.minimise(lambda theta: -tabular.objective(reach(theta), problems, beta), start))
           for start in starting.values()]  # fmt: skip
J_climbed = torch.stack([tabular.objective(logps, problems, beta) for logps in climbed])  # (2, 20)
J_best = J_climbed.amax(0)
assert (J_best >= J_grid.amax(0) - 1e-9).all()

# %% tags=["proof"]
tables = {name: tabular.comparisons(r, drawn) for name, drawn in pairs.items()}
shared = {name: reach(tabular.minimise(lambda theta: tabular.dpo_loss(reach(theta), ref, table, beta), zero))
          for name, table in tables.items()}  # fmt: skip
for name, drawn in pairs.items():
    own = tabular.dpo_loss(shared[name], ref, tables[name], beta)
    by_theta = phi.mT @ slope(shared[name], ref, tables[name], beta).unsqueeze(-1)
    assert close(by_theta, 0)  # no slope is left
    assert (tabular.dpo_loss(reach(thetas), ref, tables[name], beta) >= own - 1e-12).all()  # of all θ, the least
    excess = own - tabular.bradley_terry_nll(r, tables[name])
    label, opinion = torch.sigmoid(gaps(r)), torch.sigmoid(gaps(beta * (shared[name] - ref)))
    coins = torch.xlogy(label, label / opinion) + torch.xlogy(1 - label, (1 - label) / (1 - opinion))
    assert close(excess, (drawn * coins).sum((-1, -2))) and (excess > 1e-6).all()  # a compromise
    assert (tabular.objective(shared[name], problems, beta) < J_best).all()
losses = torch.stack([torch.stack([tabular.dpo_loss(logps, ref, table, beta) for logps in shared.values()])
                      for table in tables.values()])  # fmt: skip
excess = losses - losses.diagonal().mT[:, None]  # (3, 3, 20): on table n, the minimiser for m against its own
assert (excess[~torch.eye(3, dtype=torch.bool)] > 1e-7).all()  # each is best on its own pairs, ...
one, two, three_ways = shared.values()
apart = torch.stack([tabular.kl(a, b) for a, b in ((one, two), (one, three_ways), (two, three_ways))])
assert apart.min() > 1e-5  # ... and in every problem they are three

# %%
J = {name: tabular.objective(logps, problems, beta) for name, logps in (("ref", ref), ("table", optimum))}
J |= {"two_features": J_best, "climbed_from_ref": J_climbed[0]}
J |= {f"dpo_{name}": tabular.objective(logps, problems, beta) for name, logps in shared.items()}
for name, values in J.items():
    print(f"{name:22} {values.mean().item():6.2f}   below_ref {int((values < J['ref'] - 1e-9).sum())}")
means = [values.mean().item() for values in J.values()]
assert close(torch.tensor(means), torch.tensor([-0.23, 0.35, 0.22, 0.20, 0.05, 0.04, 0.07]), 6e-3)
assert [int((values < J["ref"]).sum()) for values in list(J.values())[4:]] == [1, 2, 0] and int((J_climbed[0] < J_best - 0.1).sum()) == 2

# %% [markdown] lang="en"
# The reference scores -0.23 on average, the table's optimum 0.35, the best of two features that the search finds 0.22 (climbing from the reference alone one gets stuck in two problems, and the mean is 0.20), and DPO with two features 0.04 to 0.07, depending on how the pairs were drawn. In one problem (uniform pairs) and in two (drawn from the reference) it ends below the reference.

# %% [markdown] lang="zh"
# 参考策略平均得 -0.23，表的最优解得 0.35。只用两个特征，搜索找到的最高水平是 0.22（要是都从参考策略出发往上爬，有两道题会卡住，平均只有 0.20）；做 DPO 则得 0.04 到 0.07，随配对的办法而定。均匀配对时有一道题、从参考策略抽时有两道题，结果比参考策略还低。

# %% [markdown] lang="en"
# **The road.** In a table, a step on one pair leaves all other logits alone, and then the chosen answer *must* gain. (One pair by itself, that is. Where many meet, an answer chosen in one loses in others and is pressed down by them: in a table too, chosen answers fall, as quarrel four shows.) Move along minus the gradient, with $t$ for time. With pull $a=\beta\,(q-\sigma(h))>0$ (at $q=1$ the pull of figure 7.2) the two logits move at speeds $a$ and $-a$, and
#
# $$\frac{d}{dt}\log\pi_w=a\,(1-\pi_w+\pi_l)>0.$$
#
# With shared parameters $\theta$ moves along $\phi_w-\phi_l$, and *every* answer $k$ moves, in a pair or not:
#
# $$\frac{d s_k}{dt}=a\;\phi_k\cdot(\phi_w-\phi_l).$$
#
# Suppose the two answers of a pair are alike, so that $\phi_w-\phi_l$ is small, while some third answer $y_3$ lies far out in just that direction. Then $y_3$ rises faster than the chosen answer, and takes its probability. This is the mechanism of likelihood displacement that [Razin et al. 2025](https://arxiv.org/abs/2410.08847) describe: it is driven by pairs whose answers have similar embeddings, and the probability may go to an answer of the opposite meaning.

# %% [markdown] lang="zh"
# **路上。** 在表里，拿一对回答走一步，别的 logits 都不动，所以 chosen 的概率*必定*上升。（说的是单独一对。许多对放在一起，这一对里的 chosen 在别的对里会输，被往下压；所以哪怕是表，chosen 也会降，见争论四。）沿负梯度走，时间记作 $t$。设拉力 $a=\beta\,(q-\sigma(h))>0$（$q=1$ 时就是图 7.2 的拉力），两个 logits 的速度是 $a$ 和 $-a$，于是
#
# $$\frac{d}{dt}\log\pi_w=a\,(1-\pi_w+\pi_l)>0$$
#
# 共用参数时，$\theta$ 沿 $\phi_w-\phi_l$ 移动，*每个*回答 $k$ 都跟着动，不管它在不在哪一对里：
#
# $$\frac{d s_k}{dt}=a\;\phi_k\cdot(\phi_w-\phi_l)$$
#
# 假如一对里的两个回答很像，$\phi_w-\phi_l$ 很小，偏巧第三个回答 $y_3$ 在这个方向上伸得很远。那么 $y_3$ 升得比 chosen 快，把 chosen 的概率夺走。[Razin et al. 2025](https://arxiv.org/abs/2410.08847) 讲的**似然位移**（likelihood displacement），就是这个机制：一对里的两个回答，嵌入越相似，越会引起它；概率可能流向意思相反的回答。

# %% tags=["proof"]
t = torch.zeros(INSTANCES, dtype=torch.float64, requires_grad=True)
h = beta * ((policies - ref)[:, 2] - (policies - ref)[:, 4])
a = beta * torch.sigmoid(-h)  # q = 1: answer 2 chosen, answer 4 rejected
direction = torch.zeros(INSTANCES, ANSWERS, dtype=torch.float64)
direction[:, 2], direction[:, 4] = a, -a
s = policies.clone().requires_grad_()
margin = beta * ((s - ref)[:, 2] - (s - ref)[:, 4])
(uphill,) = torch.autograd.grad(-logsigmoid(margin).sum(), s)
assert close(direction, -uphill)
moved = (policies + t[:, None] * direction).log_softmax(-1)  # along minus the gradient
(gain,) = torch.autograd.grad(moved[:, 2].sum(), t)
probs = policies.exp()
assert close(gain, a * (1 - probs[:, 2] + probs[:, 4])) and (gain > 0).all()
theta = torch.randn(INSTANCES, 2, generator=torch.Generator().manual_seed(SEED + 1), dtype=torch.float64).requires_grad_()
features = (phi @ theta.unsqueeze(-1)).squeeze(-1)
h = beta * (features[:, 2] - features[:, 4])
(gradient,) = torch.autograd.grad(-logsigmoid(h).sum(), theta)
velocity = (phi @ -gradient.unsqueeze(-1)).squeeze(-1)  # of every logit
a = beta * torch.sigmoid(-h.detach())
assert close(velocity, a[:, None] * (phi @ (phi[:, 2] - phi[:, 4]).unsqueeze(-1)).squeeze(-1))

# %% alt_en="Two panels: the probabilities of three answers against training steps. Left, table: the chosen answer rises from 0.3 to 0.97, the rejected one falls to 0, the third answer, in no pair, stays below 0.21. Right, shared features: the chosen answer ends at 0.03 after 0.3 at the start, the rejected one falls to 0, the third answer rises from 0.2 to 0.97." alt_zh="左右两幅：三个回答的概率随训练步数的变化。左，表：chosen 从 0.3 升到 0.97，rejected 降到 0，不在任何一对里的第三个回答一直低于 0.21。右，共用特征：chosen 起于 0.3，止于 0.03，rejected 降到 0，第三个回答从 0.2 升到 0.97。"
start = torch.tensor([0.3, 0.5, 0.2], dtype=torch.float64).log()  # chosen, rejected, and a third, which is in no pair
vectors = {"table": torch.eye(3).double(), "shared": torch.tensor([[1.0, 0.0], [0.9, 0.5], [0.0, -1.0]]).double()}
fig, panels = figure(columns=2, width=7.6, height=3.0)
for panel, (name, vector) in zip(panels, vectors.items()):
    theta, trace = torch.zeros(vector.shape[1]).double(), []
    for _ in range(301):
        logps = (start + vector @ theta).log_softmax(-1)
        trace.append(logps.exp())
        h = 0.5 * ((logps - start)[0] - (logps - start)[1])
        theta = theta + 0.2 * 0.5 * torch.sigmoid(-h) * (vector[0] - vector[1])
    for answer, (label, color) in enumerate((("$y_w$", "chosen"), ("$y_l$", "rejected"), ("$y_3$", "ref"))):
        panel.plot([probs[answer] for probs in trace], color=COLORS[color], label=label)
    panel.set(title=("$s_y$", r"$\phi_y\cdot\theta$")[name == "shared"], xlabel="step", ylim=(-0.03, 1.03))
    print(f"{name:7}", [round(value, 2) for value in trace[-1].tolist()], "h =", round(h.item(), 1))
    assert name == "shared" or max(probs[2] for probs in trace) < 0.21
    expected, margin = ([0.97, 0.00, 0.02], 3.3) if name == "table" else ([0.03, 0.00, 0.97], 1.3)
    assert close(trace[-1], torch.tensor(expected), 6e-3) and abs(h - margin) < 0.05
panels[0].set_ylabel(r"$\pi$")
_ = panels[0].legend(fontsize=9)

# %% [markdown] lang="en"
# **Figure 7.5.** One pair, trained 300 steps. Left, a table: the chosen answer takes the probability. Right, shared features with $\phi_w=(1,0)$, $\phi_l=(0.9,0.5)$, $\phi_3=(0,-1)$: the margin grows as it should, to 1.3, and the probability goes to $y_3$, which nobody preferred.

# %% [markdown] lang="zh"
# **图 7.5** 一对回答，训练 300 步。左，表：概率归了 chosen。右，共用特征，$\phi_w=(1,0)$，$\phi_l=(0.9,0.5)$，$\phi_3=(0,-1)$：间隔照常增大，到了 1.3，概率却归了 $y_3$，可谁也没说过 $y_3$ 好。

# %% [markdown] lang="en"
# ## Quarrel four: why does the chosen answer fall?
# The question that is asked most: the log-probability of the chosen answers sinks during training; is that a bug ([direct-preference-optimization issue 32](https://github.com/eric-mitchell/direct-preference-optimization/issues/32), [TRL issue 800](https://github.com/huggingface/trl/issues/800), [LlamaFactory issue 6153](https://github.com/hiyouga/LlamaFactory/issues/6153))? [Pal et al. 2024](https://arxiv.org/abs/2402.13228) show that the loss allows it; [Rafailov et al. 2024](https://arxiv.org/abs/2404.12358) that the choice of the reference can make implicit rewards decline. We have just seen one cause, shared parameters. The other is in the optimum itself. By the equation at the start of this chapter,
#
# $$\log\pi^*(y\mid x)-\log\pi_{\mathrm{ref}}(y\mid x)=\frac{r(x,y)-V(x)}{\beta},$$
#
# an answer gains exactly if its reward is above $V(x)$. And $V$ is at least the reference's mean reward and at most the highest reward, coming the nearer to it the smaller $\beta$. An answer may beat its opponent and still be below $V$. How often? In the twenty problems, with pairs drawn uniformly and labels from Bradley–Terry, we count the chosen answers that are less probable at the optimum than in the reference, and the pairs of which both answers are.

# %% [markdown] lang="zh"
# ## 争论四：chosen 为什么会降？
# 问得最多的就是这个：训练中 chosen 的对数概率往下掉，是不是有 bug（[direct-preference-optimization issue 32](https://github.com/eric-mitchell/direct-preference-optimization/issues/32)、[TRL issue 800](https://github.com/huggingface/trl/issues/800)、[LlamaFactory issue 6153](https://github.com/hiyouga/LlamaFactory/issues/6153)）？[Pal et al. 2024](https://arxiv.org/abs/2402.13228) 说明损失允许这样；[Rafailov et al. 2024](https://arxiv.org/abs/2404.12358) 说明隐式奖励会不会一路下降，与参考策略的选择有关。刚才看到了一个原因：共用参数。另一个原因就在最优解里。由本章开头的等式得
#
# $$\log\pi^*(y\mid x)-\log\pi_{\mathrm{ref}}(y\mid x)=\frac{r(x,y)-V(x)}{\beta}$$
#
# 一个回答的概率上升，当且仅当它的奖励高于 $V(x)$。而 $V$ 不低于参考策略的平均奖励，不高于最高的奖励，$\beta$ 越小，离最高的越近。一个回答可以赢了对手，却仍在 $V$ 之下。这有多常见？在二十道题里，均匀配对，按 Bradley–Terry 贴标签，数一数：有多少 chosen，在最优解处的概率比参考策略下还低；有多少对，两个回答都更低。

# %% tags=["proof"]
for strength in (0.1, 0.5, 2.0):
    soft_maximum = strength * ((ref + r / strength).exp().sum(-1, keepdim=True)).log()
    gained = tabular.optimal_policy(problems, strength) - ref
    assert close(gained, (r - soft_maximum) / strength)
    assert ((gained > 0) == (r > soft_maximum)).all()
    assert (soft_maximum.squeeze(-1) >= tabular.mean(ref, r)).all() and (soft_maximum.squeeze(-1) <= r.amax(-1)).all()
nearer = [tabular.log_partition(problems, strength) * strength for strength in (2.0, 0.5, 0.1)]
assert (nearer[0] < nearer[1]).all() and (nearer[1] < nearer[2]).all()

# %%
falls = {}
for strength in (0.1, 0.5, 2.0):
    falling = (tabular.optimal_policy(problems, strength) < ref).double()  # (20, 6)
    chosen = (wins * falling[:, :, None]).sum((-1, -2)).mean().item()
    both = (wins * falling[:, :, None] * falling[:, None, :]).sum((-1, -2)).mean().item()
    falls[strength] = round(chosen, 2), round(both, 2)
    print(f"beta {strength:3}   chosen_falls {chosen:.2f}   both_fall {both:.2f}")
assert falls == {0.1: (0.69, 0.61), 0.5: (0.56, 0.47), 2.0: (0.37, 0.26)}

# %% [markdown] lang="en"
# On average over answers of the reference itself, falling is not an accident but a law. Take any policy $\pi$, average its log-ratio over draws from $\pi_{\mathrm{ref}}$, and turn the fraction over:
#
# $$\mathbb{E}_{y\sim\pi_{\mathrm{ref}}}\Big[\log\frac{\pi(y\mid x)}{\pi_{\mathrm{ref}}(y\mid x)}\Big]=-\mathbb{E}_{y\sim\pi_{\mathrm{ref}}}\Big[\log\frac{\pi_{\mathrm{ref}}(y\mid x)}{\pi(y\mid x)}\Big]=-\mathrm{KL}(\pi_{\mathrm{ref}}\,\|\,\pi)\le 0.$$
#
# Whatever moves the policy at all, good training or bad, makes an average reference answer less probable. (It is the *forward* KL, which no objective of ours mentions.) What follows for a pair whose two answers are drawn from the reference? The chosen and the rejected answer are two such draws between them, so their log-ratios, averaged over the pairs, sum to $-2\,\mathrm{KL}(\pi_{\mathrm{ref}}\,\|\,\pi)$. Their difference is the mean of $u$, the margin in nats. Half the sum plus or minus half the difference is
#
# $$\overline{\Delta}_w=\tfrac12\,\overline u-\mathrm{KL}(\pi_{\mathrm{ref}}\,\|\,\pi),\qquad\overline{\Delta}_l=-\tfrac12\,\overline u-\mathrm{KL}(\pi_{\mathrm{ref}}\,\|\,\pi),$$
#
# where $\overline{\Delta}_w$ and $\overline{\Delta}_l$ are the mean log-ratios of the chosen and of the rejected answers. So the chosen answers fall, on average, exactly when the forward KL exceeds half the mean margin. Before you run it: does that happen at the optimum of the example?

# %% [markdown] lang="zh"
# 对参考策略自己的回答取平均，下降就不是偶然，而是定律。任取一个策略 $\pi$，从 $\pi_{\mathrm{ref}}$ 里抽回答，对它的对数比取平均，再把分式倒过来：
#
# $$\mathbb{E}_{y\sim\pi_{\mathrm{ref}}}\Big[\log\frac{\pi(y\mid x)}{\pi_{\mathrm{ref}}(y\mid x)}\Big]=-\mathbb{E}_{y\sim\pi_{\mathrm{ref}}}\Big[\log\frac{\pi_{\mathrm{ref}}(y\mid x)}{\pi(y\mid x)}\Big]=-\mathrm{KL}(\pi_{\mathrm{ref}}\,\|\,\pi)\le 0$$
#
# 训练不论好坏，只要策略动了，参考策略的回答平均起来就更不可能出现。（这是*正向* KL，我们的目标里从没提过它。）如果一对里的两个回答都从参考策略抽，又会怎样？chosen 和 rejected 合起来，就是两次这样的抽样，所以两者的对数比，对所有的对取平均，加起来是 $-2\,\mathrm{KL}(\pi_{\mathrm{ref}}\,\|\,\pi)$；相减，则是以奈特计的间隔 $u$ 的平均。和的一半，加上或减去差的一半，就是
#
# $$\overline{\Delta}_w=\tfrac12\,\overline u-\mathrm{KL}(\pi_{\mathrm{ref}}\,\|\,\pi),\qquad\overline{\Delta}_l=-\tfrac12\,\overline u-\mathrm{KL}(\pi_{\mathrm{ref}}\,\|\,\pi)$$
#
# 其中 $\overline{\Delta}_w$ 和 $\overline{\Delta}_l$ 是 chosen 和 rejected 的平均对数比。所以，当且仅当正向 KL 大过平均间隔的一半，chosen 平均起来才会下降。运行之前先想一想：在例子的最优解处，会不会这样？

# %%
toy_ratio = toy_optimum - toy.ref_logps  # how far each answer has risen, in nats
forward = tabular.kl(toy.ref_logps, toy_optimum)
assert close(toy.ref_logps.exp() @ toy_ratio, -forward, 1e-6)
assert close(forward, 0.792, 5e-4)
two_draws = tabular.independent_pairs(toy.ref_logps, toy.ref_logps)  # ties included
table = tabular.comparisons(toy.reward, two_draws)
chosen, rejected = table.sum(1) @ toy_ratio, table.sum(0) @ toy_ratio
margin = (table * gaps(toy_ratio)).sum()
print(f"chosen {chosen:.3f}  rejected {rejected:.3f}  u {margin:.3f}  KL {forward:.3f}")
assert close(chosen, margin / 2 - forward, 1e-6)
assert close(rejected, -margin / 2 - forward, 1e-6)
assert close(torch.stack((chosen, rejected)), torch.tensor([-0.293, -1.290]), 5e-4)

# %% tags=["proof"]
for policy in (policies, optimum):  # any policies at all, and the optima
    ratio, forward = policy - ref, (ref.exp() * (ref - policy)).sum(-1)
    assert close((ref.exp() * ratio).sum(-1), -forward) and (forward > 0).all()
    table = tabular.comparisons(r, tabular.independent_pairs(ref, ref))  # (20, 6, 6)
    chosen, rejected = (table.sum(side) * ratio for side in (-1, -2))
    mean_margin = (table * gaps(ratio)).sum((-1, -2))
    assert close(chosen.sum(-1), mean_margin / 2 - forward)
    assert close(rejected.sum(-1), -mean_margin / 2 - forward)

# %% [markdown] lang="en"
# It does. Both answers of a pair are drawn from the reference, the labels are right, the policy is the best there is, and an average chosen answer has lost 0.293 nats, a rejected one 1.290. [Chapter 9](09_dpo.ipynb) measures it in a network.
#
# Back to the uniform pairs. At $\beta=0.5$ more than half of the chosen answers (0.56) *should* fall, and so should both answers of nearly every second pair (0.47). At 0.1 it is 0.69, at 2 still 0.37. A falling `logps/chosen` is therefore no sign of a fault by itself; what matters is where the probability goes ([chapter 9](09_dpo.ipynb) looks). Suspect a fault if it falls much further than $(r-V)/\beta$ predicts, or than in a run on code known to be right; if sampled answers get worse and answers in no pair rise; or if the tokens counted are not those of the answer ([chapter 8](08_tensors.ipynb)).

# %% [markdown] lang="zh"
# 会。一对里的两个回答都抽自参考策略，标签没错，策略也是最好的那个，chosen 平均仍掉了 0.293 奈特，rejected 掉了 1.290。[第 9 章](09_dpo.ipynb)在网络上量这件事。
#
# 回到均匀配对。$\beta=0.5$ 时，半数以上的 chosen（0.56）*理应*下降，将近一半的对（0.47）两个回答都该下降。$\beta$ 取 0.1 时，前一个比例是 0.69；取 2 时，也还有 0.37。所以 `logps/chosen` 下降，本身不说明哪里有错；要看概率去了哪里（[第 9 章](09_dpo.ipynb)会去看）。什么时候该起疑？有三种情形：下降得比 $(r-V)/\beta$ 预言的多得多，或者比确知正确的代码跑出来的多得多；采样出来的回答变差了，同时不在任何一对里的回答在上升；计入的词元不是回答的词元（[第 8 章](08_tensors.ipynb)）。

# %% [markdown] lang="en"
# ## Theory against the network
# On a table all this is exact. Does it hold for a network with 118,080 parameters that never sees most answers? Let the reward be 1 for an expression of three numbers and 0 otherwise. The authors write three numbers with a known probability $p$ for each prompt, so the optimum is known: $p\,e^{1/\beta}/(p\,e^{1/\beta}+1-p)$, averaged over the prompts, and its KL (`predicted_optimum`; [chapter 6](06_objective.ipynb)).
#
# First a small live run: $\beta=0.5$, soft labels, 6,400 pairs of the shipped base model's own answers, 100 steps. The second answer of each pair is drawn at temperature 1.5 and 2.0 in turn; [chapter 9](09_dpo.ipynb) says why.

# %% [markdown] lang="zh"
# ## 理论与网络对账
# 在表上，这些都严丝合缝。换成一个网络，有 118,080 个参数，绝大多数回答见都没见过，还成立吗？写三个数得 1 分，否则得 0 分。每个提示下，作者写三个数的概率 $p$ 是已知的，所以最优解也已知：$p\,e^{1/\beta}/(p\,e^{1/\beta}+1-p)$，对提示取平均；它的 KL 也算得出（`predicted_optimum`，见[第 6 章](06_objective.ipynb)）。
#
# 先现场跑一次小的：$\beta=0.5$，软标签，用随书的基座模型自己的回答配 6,400 对，100 步。每一对的第二个回答，轮流用温度 1.5 和 2.0 抽取，道理见[第 9 章](09_dpo.ipynb)。

# %% tags=["nbval-ignore-output"]
use_threads()
task, base = BookTask(), load_pretrained("gen").to(default_device())
live_pairs = on_policy_pairs(base, task, 6_400, reward="style", labels="soft", temperatures=(1.5, 2.0), seed=0, progress=True)
live = copy.deepcopy(base)
config = LoopConfig(steps=100, learning_rate=2e-3, optimizer="muon")
history = train(live, live_pairs.batches(64, seed=0), dpo_step(0.5), config)
report, theory = evaluate(live, task, n=1_000, seed=7, reference=base), predicted_optimum(task, "style", 0.5)
for name in ("style", "kl", "exact"):
    print(f"{name:6} measured {report[name]}   predicted {theory[name]:.3f}")
assert sum(weights.numel() for weights in base.parameters()) == 118_080
assert 0.6 < report["style"].value < 0.85 and 0.15 < report["kl"].value < 0.8 and report["exact"].value > 0.65

# %% [markdown] lang="en"
# A short training already goes most of the way from 0.30 to the predicted 0.76. The whole sweep was run once and stored: six values of $\beta$, three kinds of label, three seeds (base model, pairs and order anew), 54 trainings of 375 steps with 64 pairs each. With soft and sampled labels each of 24,000 pairs is used once; deterministic labels drop the ties, and the 13,500 pairs or so that are left are used 1.8 times. Second answers are drawn as above. The command is `python chapters/data/beta_sweep.py`, about half an hour of CPU time.

# %% [markdown] lang="zh"
# 短短一次训练，从 0.30 到预言的 0.76，路已经走了大半。完整的扫描跑过一次，存了下来：六个 $\beta$，三种标签，三个种子（基座模型、回答对、顺序都重新来过），共 54 次训练，每次 375 步、每步 64 对。软标签和采样标签有 24,000 对，各用一次；确定性标签要丢掉平局，剩下约 13,500 对，平均每对用 1.8 次。第二个回答的抽法同上。命令是 `python chapters/data/beta_sweep.py`，约半小时 CPU 时间。

# %% alt_en="Three panels against beta from 0.125 to 4: share of three-number answers, KL, share of exact answers. Pink lines are the theory: the share falls from 1.00 to 0.35, KL from 1.2 to 0.007, exactness is flat at 0.75. Points with intervals over three seeds. Soft labels (blue) lie on the share's line and near the KL line, above it at both ends; exactness falls from 0.75 to 0.71 at the smallest beta. Sampled labels (yellow) have the same share, more KL, and exactness down to 0.62. Deterministic labels (orange) have a share above 0.96 at every beta, a KL between 1.8 and 3.8, and an exactness between 0.54 and 0.66." alt_zh="三幅，横轴都是 beta，从 0.125 到 4：写三个数的比例、KL、答案正确的比例。粉线是理论：比例从 1.00 降到 0.35，KL 从 1.2 降到 0.007，正确率始终是 0.75。点带三个种子的区间。软标签（蓝）落在比例的线上，KL 在线附近、两头偏高，正确率在最小的 beta 处从 0.75 降到 0.71。采样标签（黄）比例相同，KL 更多，正确率低到 0.62。确定性标签（橙）在每个 beta 处比例都高于 0.96，KL 在 1.8 到 3.8 之间，正确率在 0.54 到 0.66 之间。"
sweep = json.loads(Path("data/beta_sweep.json").read_text(encoding="utf-8"))
BETAS = sorted({run["beta"] for run in sweep["runs"]})


def over_seeds(labels, strength, name):
    """Mean of the three seeds and its 95 % interval (Student's t, two degrees of freedom)."""
    values = [run[name]["value"] for run in sweep["runs"] if (run["labels"], run["beta"]) == (labels, strength)]
    half = 4.303 * np.std(values, ddof=1) / math.sqrt(len(values))
    return Estimate(np.mean(values), np.mean(values) - half, np.mean(values) + half)


measured = {(labels, name): [over_seeds(labels, strength, name) for strength in BETAS]
            for labels in ("soft", "sampled", "deterministic") for name in ("style", "kl", "exact")}  # fmt: skip
fine = np.geomspace(0.11, 4.6, 60)
curve = [predicted_optimum(task, "style", strength) for strength in fine]
use_style()
fig, panels = plt.subplots(1, 3, figsize=(8.6, 3.3), layout="constrained")
for panel, name in zip(panels, ("style", "kl", "exact")):
    panel.plot(fine, [point[name] for point in curve], color=COLORS["theory"])
    for shift, (labels, color) in enumerate((("soft", "policy"), ("sampled", "baseline"), ("deterministic", "rejected"))):
        points(panel, np.array(BETAS) * 1.06 ** (shift - 1), measured[labels, name], color, marker="os^"[shift])
    panel.set(xscale="log", title=name, xlabel=r"$\beta$")
    panel.set_xticks(BETAS, [f"{strength:g}" for strength in BETAS], fontsize=8, minor=False)
    panel.minorticks_off()
panels[1].set_yscale("log")

# %% [markdown] lang="en"
# **Figure 7.6.** Theory (lines) and networks (points: mean of three seeds with its 95 % t-interval) for soft (blue circles), sampled (yellow squares) and deterministic labels (orange triangles). From left to right: share of three-number answers, KL in nats, share of right values, of which the reward says nothing.

# %% [markdown] lang="zh"
# **图 7.6** 理论（线）与网络（点：三个种子的平均，带 95% t 区间）。蓝圆：软标签；黄方：采样标签；橙三角：确定性标签。从左到右：写三个数的比例；KL（奈特）；值对的比例，奖励对它只字未提。

# %%
predicted = {name: [sweep["predicted"][f"{strength:g}"][name] for strength in BETAS] for name in ("style", "kl")}
shown = {name: {"theory": [f"{value:.3f}" for value in values]} for name, values in predicted.items()} | {"exact": {}}
for (labels, name), estimates in measured.items():
    shown[name][labels] = [f"{estimate.value:.3f}" for estimate in estimates]
print(f"{'beta':21}", *(f"{strength:5g}" for strength in BETAS))
for name, rows in shown.items():
    for labels, values in rows.items():
        print(f"{name:6} {labels:14}", *values)

# %%
assert len(sweep["runs"]) == 54 and sweep["settings"]["steps"] == 375 and sweep["settings"]["batch_size"] == 64
for run in sweep["runs"]:
    used = 375 * 64 / run["pairs"]
    assert used == 1 if run["labels"] != "deterministic" else abs(used - 1.8) < 0.05 and abs(run["pairs"] - 13_500) < 200
for labels in ("soft", "sampled"):
    share = np.array([estimate.value for estimate in measured[labels, "style"]])
    assert (abs(share - predicted["style"])[[0, 1, 3, 4, 5]] < 0.01).all() and measured[labels, "style"][2].high < 0.757
    assert max(run["style"]["value"] for run in sweep["runs"] if (run["labels"], run["beta"]) == (labels, 0.5)) < 0.75
    more = np.array([estimate.low for estimate in measured[labels, "kl"]]) > predicted["kl"]  # the whole interval lies above
    assert more[[0, 1, 5]].all() and (labels == "soft" or more.all())
    softer = [estimate.value for estimate in measured["soft", "style"]]
    assert (abs(share - softer) < 0.01).all()
assert [shown["style"][labels][2] for labels in ("theory", "soft", "sampled")] == ["0.760", "0.731", "0.736"]
assert [[shown["kl"][labels][k] for k in (0, 1, 2, 5)] for labels in ("theory", "soft", "sampled")] == [
    ["1.198", "0.999", "0.449", "0.007"], ["1.410", "1.123", "0.442", "0.015"], ["2.361", "1.375", "0.533", "0.022"]]  # fmt: skip
assert all(float(more) > float(less) for more, less in zip(shown["kl"]["sampled"], shown["kl"]["soft"]))
assert [shown["exact"]["soft"][k] for k in (0, 5)] == ["0.708", "0.751"] and shown["exact"]["sampled"][0] == "0.625"

# %%
assert all(abs(point["exact"] - 0.75) < 1e-9 for point in sweep["predicted"].values())
hard = {name: [float(value) for value in shown[name]["deterministic"]] for name in shown}
assert (hard["style"][5], min(hard["style"]), hard["kl"][0], hard["kl"][5]) == (0.964, 0.964, 3.804, 1.783)
assert (max(hard["kl"]), min(hard["kl"])) == (3.804, 1.783) and 240 < hard["kl"][5] / predicted["kl"][5] < 270
assert (min(hard["exact"]), max(hard["exact"])) == (0.540, 0.656)
assert [estimate.high > 0.75 for estimate in measured["deterministic", "exact"]] == [True, True, False, False, False, False]
p, weights = task.class_rates[:, 1].sum(-1), np.array(list(task.prompt_distribution.values()))  # P(three numbers)
for strength, value in zip(BETAS, predicted["style"]):
    odds = p * math.exp(1 / strength)
    assert abs(weights @ (odds / (odds + 1 - p)) - value) < 1e-9
no_leash = predicted_optimum(task, "style", 0.02)
assert no_leash["style"] > 0.9999 and round(no_leash["kl"], 2) == 1.21

# %%
half = json.loads(Path("data/beta_half.json").read_text(encoding="utf-8"))  # beta 0.5, soft labels, three seeds
again = {"as in the sweep": [run for run in sweep["runs"] if (run["labels"], run["beta"]) == ("soft", 0.5)]}
for change in ("three times the pairs", "temperature 1"):
    again[change] = [run for run in half["runs"] if run["change"] == change]
means, ends = {}, {}
for change, runs in again.items():
    means[change] = [f"{np.mean([run[name]['value'] for run in runs]):.3f}" for name in ("style", "kl")]
    ends[change] = [f(run["style"]["value"] for run in runs) for f in (min, max)]
    print(f"{change:22}", *means[change], " seeds", *(f"{value:.4f}" for value in ends[change]))
starts_at = sorted(base["style"]["value"] for base in half["bases"])
print("bases", *(f"{value:.3f}" for value in starts_at))
assert list(means.values()) == [["0.731", "0.442"], ["0.739", "0.454"], ["0.757", "0.493"]]
assert np.abs(np.array(list(ends.values())) - [[0.727, 0.735], [0.735, 0.741], [0.755, 0.760]]).max() < 6e-4
assert starts_at[0] > 0.3065 and starts_at[-1] < 0.3115

# %%
starts = {run["seed"]: run["style"]["value"] for run in half["bases"]}  # of each seed


def tilted(p, b):
    """The optimum's share of three numbers, from a base model whose share is p."""
    return 1 / (1 + math.exp(-1 / b) * (1 - p) / p)


def J_at(s, p, b):
    """J of a policy with share s that is otherwise a base model with share p."""
    return s - b * (s * math.log(s / p) + (1 - s) * math.log((1 - s) / (1 - p)))


def of_best(p, b):
    return max(J_at(1 - (1 - p) ** n, p, b) for n in range(1, 17))


net_J = {name: {b: {} for b in BETAS} for name in ("soft", "sampled", "deterministic")}
off = {}
for run in sweep["runs"]:
    labels, b, share = run["labels"], run["beta"], run["style"]["value"]
    net_J[labels][b][run["seed"]] = share - b * run["kl"]["value"]
    off.setdefault((labels, b), []).append(share - tilted(starts[run["seed"]], b))

# %%
J_rows = {name: [] for name in ("optimum", "best_of_n", "base", *net_J)}
for b in BETAS:
    rivals = [[J_at(tilted(p, b), p, b), of_best(p, b), p] for p in starts.values()]
    nets = [np.mean(list(by_beta[b].values())) for by_beta in net_J.values()]
    for name, value in zip(J_rows, [*np.mean(rivals, axis=0), *nets]):
        J_rows[name].append(value)
print("J, by beta    ", *(f"{b:6g}" for b in BETAS))
for name, values in J_rows.items():
    print(f"{name:14}", *(f"{value:6.3f}" for value in values))
optimal, of_n, of_base, soft, sampled, _ = np.array(list(J_rows.values()))
gained = (soft - of_base) / (optimal - of_base)
print("gained by soft", *(f"{value:6.2f}" for value in gained))
assert BETAS[4:] == [2, 4] and gained[:4].min() > 0.75 and 0.6 < gained[4] < 0.7
assert (sampled < soft).all() and round(optimal[5] - of_base[5], 2) == 0.03

# %%
for seed, p in starts.items():
    assert all(by_beta[4][seed] < p for by_beta in net_J.values())
    assert all(net_J["deterministic"][b][seed] < p for b in BETAS if b >= 0.5)
    for b in (0.125, 0.25, 0.5, 1):
        assert all(by_beta[b][seed] < of_best(p, b) for by_beta in net_J.values())
higher = [np.mean([tilted(p, b) for p in starts.values()]) for b in BETAS]
higher = np.array(higher) - predicted["style"]
assert round(higher.max(), 3) == 0.012
for labels in ("soft", "sampled"):  # the share, against the base model's own prediction
    assert all(np.mean(off[labels, b]) < 0 for b in BETAS)
    assert all(max(off[labels, b]) < -0.01 for b in (0.5, 1))

# %% [markdown] lang="en"
# Read it in five steps.
#
# **The prediction of the share holds.** With soft and with sampled labels the share is within 0.01 of the line at five of six values of $\beta$. Nothing was fitted to make the line: it was known before the first training. It is drawn from the authors' rates, though, and the base models start a little higher, at 0.307 to 0.311 in place of 0.30. From a base model's own share the prediction is up to 0.012 higher, and then the networks are on the low side: on average at every $\beta$, and by more than 0.01 in every seed at $\beta=0.5$ and 1.
#
# At $\beta=0.5$ the share is low in all seeds: 0.731 (soft; 0.727 to 0.735) and 0.736 (sampled) against 0.760. Two more trainings a seed, with soft labels, look for the reason (`python chapters/data/beta_half.py`). Three times as many pairs and steps give 0.739 (0.735 to 0.741): it is not the length of the training. The base models write no fewer three-number answers than the prediction assumes: it is not the start. Pairs whose answers are both drawn at temperature 1 give 0.757 (0.755 to 0.760). It is mostly the pairs, at this $\beta$. On a table they could not matter. One explanation: with shared parameters the minimum depends on the pairs, and many of the sweep's second answers are such as the policy hardly ever writes. These pairs have their merits: at temperature 1 the KL is 0.493, above the predicted 0.449, in the sweep it is 0.442; [chapter 9](09_dpo.ipynb) shows others.
#
# **More KL is spent than need be**: with soft labels at both ends, with sampled labels at every $\beta$. At $\beta=4$, where the optimum is 0.007 nats from the reference, the networks are at 0.015 (soft) and 0.022 (sampled). The noise of training is a likely reason: it moves a policy even where the policy is asked to stay. At $\beta=0.125$ the optimum costs 1.198, the networks pay 1.410 and 2.361. There a margin of 1 is a log-ratio of 8 nats, so an error of 0.1 in a margin is 0.8 nats in the policy.
#
# **Sampled labels: the same share, more KL.** The share is that of soft labels within 0.01 at every $\beta$, as it should be, because the loss is the same in expectation; the KL is higher at every $\beta$. The noise of the labels is the likely reason.
#
# **Deterministic labels have no leash, only a brake.** At every $\beta$ the share is 0.964 or more, at $\beta=4$ too, where 0.355 was predicted; there the KL is about 250 times that of the optimum. From the smallest $\beta$ to the largest, KL falls from 3.804 to 1.783: a large $\beta$ lets go earlier (figure 7.2), and the training ends before the policy has gone as far. A policy that writes three numbers always, and is otherwise the reference, would have a KL of 1.21. The rest went elsewhere, and the right panel shows a part of it. The reward says nothing about right values, and the optimum leaves their share at 0.75, because it reweights whole classes and changes nothing within one. The networks lose it: on average 0.540 to 0.656 is left with deterministic labels (three seeds differ much; at the two smallest $\beta$ the intervals reach 0.75), 0.625 with sampled ones at $\beta=0.125$, 0.708 with soft ones, 0.751 at $\beta=4$. One explanation was given above: the answers share parameters, and what no pair speaks for is moved with the rest. [Chapter 9](09_dpo.ipynb) looks at such answers one by one.
#
# **By the objective itself.** Share and KL are parts. What the leash is for is $J$, here the share minus $\beta\,\mathrm{KL}$. The last rows have it, beside two rivals that train nothing: the base model, whose $J$ is its share, and best-of-n ([chapter 6](06_objective.ipynb)) with the best $n$ up to 16; it and the optimum in closed form, from each base model's own share. Up to $\beta=1$ soft labels gain, on average, at least three quarters of what the optimum has over the base model, at $\beta=2$ under 0.7 of it. At $\beta=4$ the optimum has only 0.03 over the base model, and no network ends above its own: there training costs more than the preference is worth. Sampled labels end lower than soft ones, on average, at every $\beta$. Deterministic labels end below the base model in every seed from $\beta=0.5$ on. And up to $\beta=1$ best-of-n is above every network; its price is $n$ draws for each answer, every time. (Imitation of the chosen answers, a rival that does train, is in chapter 9.)

# %% [markdown] lang="zh"
# 分五步来读。
#
# **对比例的预言成立。** 软标签也好，采样标签也好，六个 $\beta$ 里有五个，比例离那条线不到 0.01。线不是拟合出来的：第一次训练还没开始，它就在那里了。不过，它是由作者的比例算出的，而基座的起点要高一点，是 0.307 到 0.311，不是 0.30。按基座自己的比例来预言，线最多高 0.012；这样一比，网络就偏低了：平均起来，每个 $\beta$ 都低；在 $\beta=0.5$ 和 1 处，每个种子都低 0.01 以上。
#
# $\beta=0.5$ 处，每个种子都偏低：软标签 0.731（0.727 到 0.735），采样标签 0.736，预言是 0.760。为了找原因，每个种子用软标签又训练了两次（`python chapters/data/beta_half.py`）。回答对和步数都增到三倍，得 0.739（0.735 到 0.741）：不是训练得不够。基座写三个数的比例，并不比预言所用的低：不是起点的缘故。改成两个回答都用温度 1 抽取，得 0.757（0.755 到 0.760）。可见在这个 $\beta$ 处，原因主要在回答对。换成表，怎么配对都不要紧。一种解释是：共用参数时，最小值随回答对而变，而扫描里的第二个回答，有许多是策略几乎不写的。不过扫描里的回答对也有好处：都用温度 1，KL 是 0.493，高出预言的 0.449；扫描里只有 0.442。其余的好处见[第 9 章](09_dpo.ipynb)。
#
# **KL 花得比该花的多**：软标签是两头多，采样标签是每个 $\beta$ 处都多。$\beta=4$ 处，最优解离参考策略 0.007 奈特，网络却走出了 0.015（软）和 0.022（采样）。原因多半是训练的噪声：叫策略别动，噪声也会推它动。$\beta=0.125$ 处，最优解花 1.198，网络花了 1.410 和 2.361。在那里，间隔的 1 就是对数比的 8 奈特，间隔错 0.1，策略就错 0.8 奈特。
#
# **采样标签：比例相同，KL 更多。** 每个 $\beta$ 处，比例与软标签相差不到 0.01。本该如此：取期望，两者的损失是同一个。KL 却处处更高，多半是标签的噪声造成的。
#
# **确定性标签没有绳子，只有刹车。** 在每个 $\beta$ 处，比例都不低于 0.964。$\beta=4$ 也不例外，而那里的预言是 0.355；那里的 KL 约为最优解的 250 倍。从最小的 $\beta$ 到最大的，KL 由 3.804 降到 1.783：$\beta$ 大，松手就早（图 7.2），训练结束时还没走那么远。一个策略若总是写三个数、别的都同参考策略一样，KL 只有 1.21。多走的路去了别处，右边那幅能看到一部分。值对不对，奖励只字未提；最优解里，值对的比例仍是 0.75，因为它只给整类加权，类的内部原样不动。网络却没守住：平均下来，确定性标签剩 0.540 到 0.656（三个种子相差很大，最小的两个 $\beta$ 处，区间够得到 0.75），采样标签在 $\beta=0.125$ 处剩 0.625，软标签在同一处剩 0.708，到 $\beta=4$ 处是 0.751。前面讲过一种解释：回答共用参数，哪一对也不替它说话的，就被别的带着走。[第 9 章](09_dpo.ipynb)会把这样的回答一个一个拿出来看。
#
# **按目标本身来算。** 比例和 KL 都只是其中一部分。绳子是为 $J$ 拴的，这里 $J$ 就是比例减去 $\beta\,\mathrm{KL}$。输出的最后几行就是它，旁边放了两个什么也不训练的对手：一个是基座模型，它的 $J$ 就是它的比例；一个是 best-of-n（[第 6 章](06_objective.ipynb)），$n$ 在 16 以内取最好的；它和最优解都用闭式算，从各个基座自己的比例出发。到 $\beta=1$ 为止，最优解比基座模型多出来的，软标签平均拿到四分之三以上；$\beta=2$ 处不到 0.7。到 $\beta=4$，最优解只比基座多 0.03，没有一个网络胜过自己的基座：在那里，训练的代价比这点偏好还大。采样标签平均起来，在每个 $\beta$ 处都不如软标签。确定性标签从 $\beta=0.5$ 起，每个种子都不如基座。而到 $\beta=1$ 为止，best-of-n 比所有网络都高；代价是每次作答都要抽 $n$ 个。（模仿 chosen 也是一个对手，它要训练，见第 9 章。）

# %% [markdown] lang="en"
# ## What was assumed
# The derivation is exact; what it needs is not always there. Each line of the table can fail by itself.
#
# | assumed | if it fails | shown |
# |---|---|---|
# | Labels follow Bradley–Terry for some $r$ | no policy satisfies all pairs; the minimum is a compromise that depends on the pairs | [chapter 5](05_preferences.ipynb) |
# | All judges have the same $r$ | averaged over the judges, labels follow no $r$; then as above | [chapter 5](05_preferences.ipynb) |
# | The pairs connect all answers | probability between unconnected answers is undetermined; it goes anywhere. [Xu et al. 2024](https://arxiv.org/abs/2404.10719): DPO may find biased solutions that exploit out-of-distribution responses | “Its minimum is the optimum”; [chapter 9](09_dpo.ipynb), chapter 10 |
# | $\pi_{\mathrm{ref}}$ gives every answer that one wants some probability | log-ratios are infinite; what the reference never writes no $\beta$ brings back | [chapter 6](06_objective.ipynb) |
# | $\pi_{\mathrm{ref}}$ in the loss is the reference that is meant | another model is tilted; errors are passed on, a nat for a nat | quarrel three |
# | The policy can give every pair its margin | the minimum depends on the pairs; answers in no pair are moved | “When answers share parameters”; [chapter 9](09_dpo.ipynb) |
# | The loss is minimised | $\beta$ is a speed as well as a leash | quarrel one |
# | Labels are not deterministic, and comparisons are many | no minimum, at any $\beta$: with deterministic labels on all pairs the policy heads for the best answer, with few comparisons for the answers that never lost | quarrel two; figure 7.6 |
# | $r$ is what is wanted | the optimum is right, for the wrong question | [chapter 6](06_objective.ipynb) (a wrong reward on a leash), chapter 10 |
#
# The regularisation that is left when some of them fail is no longer the KL leash of fact 2. [Tang et al. 2024](https://arxiv.org/abs/2402.05749) study what it is for a whole family of such losses.

# %% [markdown] lang="zh"
# ## 假设了什么
# 推导是精确的，可它要的条件未必都有。表里每一行都可能单独落空。
#
# | 假设 | 落空了会怎样 | 在哪里看得到 |
# |---|---|---|
# | 标签服从某个 $r$ 的 Bradley–Terry 模型 | 没有策略能让每一对都满意；最小值是折中，随回答对而变 | [第 5 章](05_preferences.ipynb) |
# | 所有裁判的 $r$ 相同 | 对裁判取平均，标签不服从任何 $r$；后果同上 | [第 5 章](05_preferences.ipynb) |
# | 回答对把所有回答连成一片 | 不相连的回答之间，概率怎么分没有定数，流到哪里都行。[Xu et al. 2024](https://arxiv.org/abs/2404.10719)：DPO 可能找到有偏的解，钻分布外回答的空子 | 「它的最小值就是最优解」；[第 9 章](09_dpo.ipynb)、第 10 章 |
# | 凡是想要的回答，$\pi_{\mathrm{ref}}$ 都给了概率 | 对数比是无穷大；参考策略从来不写的，$\beta$ 取多少都找不回来 | [第 6 章](06_objective.ipynb) |
# | 损失里的 $\pi_{\mathrm{ref}}$ 就是想要的参考策略 | 加权的是另一个模型；误差原样传过去，一奈特传一奈特 | 争论三 |
# | 策略给得出每一对该有的间隔 | 最小值随回答对而变；不在任何一对里的回答也被推动 | 「当回答共用参数」；[第 9 章](09_dpo.ipynb) |
# | 损失降到了最小 | $\beta$ 是绳子，也是快慢 | 争论一 |
# | 标签不是确定性的，比较次数够多 | $\beta$ 取多少都没有最小值：每一对的标签都是确定性的，策略就奔着最好的回答去；比较太少，就奔着从没输过的回答去 | 争论二；图 7.6 |
# | $r$ 就是人想要的 | 解答对了，题目错了 | [第 6 章](06_objective.ipynb)（有绳子，但奖励错了）、第 10 章 |
#
# 有些条件一落空，剩下的约束就不再是本章开头第 2 条里的 KL 绳子。那它是什么呢？[Tang et al. 2024](https://arxiv.org/abs/2402.05749) 就一整族这样的损失研究了这个问题。

# %% [markdown] lang="en"
# > **What the toy hides.** Six answers can be compared with each other; the answers to a real prompt cannot even be counted, and nearly all of them are in no pair. Nobody has the labels' true probabilities, or $r$, or $\pi^*$, so nobody can measure the shortfall; what one has are the margins on held-out pairs and samples to read. A real answer is hundreds of tokens long, so that a log-ratio runs to tens of nats, and $\beta$ is small: 0.1 for Zephyr ([Tunstall et al. 2023](https://arxiv.org/abs/2310.16944)) and for Llama 3 ([Grattafiori et al. 2024](https://arxiv.org/abs/2407.21783)). And the policy is never trained to the minimum: how far it goes is set by learning rate and steps as much as by $\beta$.

# %% [markdown] lang="zh"
# > **玩具没告诉你的。** 六个回答可以两两比较；一个真实的提示有多少回答，数都数不过来，而且绝大多数不在任何一对里。标签的真实概率、$r$、$\pi^*$，没有人知道，所以差额量不出来；手里只有留出的回答对上的间隔，还有采样出来的回答，要一条条去读。真实的回答有几百个词元，一个对数比能到几十奈特，$\beta$ 就取得小：Zephyr（[Tunstall et al. 2023](https://arxiv.org/abs/2310.16944)）和 Llama 3（[Grattafiori et al. 2024](https://arxiv.org/abs/2407.21783)）都取 0.1。而且策略从不训练到最小值：走多远，$\beta$ 说了算，学习率和步数也说了算。

# %% [markdown] lang="en"
# > **To remember.** Solve the optimum for the reward: $r=\beta\log(\pi^*/\pi_{\mathrm{ref}})+V(x)$. Subtract two answers to one prompt: $V$ is gone. Put the difference $h$ into Bradley–Terry: $\ell=-q\log\sigma(h)-(1-q)\log\sigma(-h)$. Its slope is claim minus label, $\sigma(h)-q$. With Bradley–Terry labels, connected pairs, the right reference and a policy that can say it all, the minimum is $\pi^*$, however the pairs are drawn. $\beta$ is a leash at the minimum and a speed on the way; deterministic labels cut the leash.

# %% [markdown] lang="zh"
# > **记住。** 从最优解里解出奖励：$r=\beta\log(\pi^*/\pi_{\mathrm{ref}})+V(x)$。同一个提示的两个回答相减，$V$ 没了。把差 $h$ 放进 Bradley–Terry：$\ell=-q\log\sigma(h)-(1-q)\log\sigma(-h)$。斜率是声称减标签，$\sigma(h)-q$。标签出自 Bradley–Terry 模型，回答对连成一片，参考策略没拿错，策略什么都表达得出，那么不管怎么配对，最小值都在 $\pi^*$ 处。$\beta$ 在最小值处是绳子，在路上是快慢；确定性标签会剪断绳子。

# %% [markdown] lang="en"
# ## Exercises

# %% [markdown] lang="zh"
# ## 练习

# %% [markdown] lang="en"
# ### Exercise 7.1 · One pair by hand
# ★☆☆ · 5 minutes
#
# The chosen answer has probability 0.4 under the policy and 0.1 under the reference, the rejected one 0.2 under both. $\beta=0.5$, $q=1$. What is the loss of the pair, and what is its derivative with respect to $\log\pi_\theta(y_w\mid x)$?
#
# <details><summary>Hint</summary>
#
# The log-ratios are $\log 4$ and 0, so $h=\frac12\log 4=\log 2$.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 7.1 · 手算一对
# ★☆☆ · 5 分钟
#
# chosen 的概率，策略给 0.4，参考策略给 0.1；rejected 的概率，两边都给 0.2。$\beta=0.5$，$q=1$。这一对的损失是多少？它对 $\log\pi_\theta(y_w\mid x)$ 的导数是多少？
#
# <details><summary>提示</summary>
#
# 两个对数比是 $\log 4$ 和 0，所以 $h=\frac12\log 4=\log 2$。
#
# </details>

# %% tags=["exercise"]
answer_7_1 = ...  # (loss, derivative)
check("7.1", answer_7_1)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# $\sigma(\log 2)=\frac{2}{1+2}=\frac23$. The loss is $-\log\frac23=0.405$. The derivative is $\beta(\sigma(h)-1)=0.5\cdot(-\frac13)=-0.167$: raising the log-probability by a little lowers the loss.
#
# ```python
# answer_7_1 = (math.log(3 / 2), 0.5 * (2 / 3 - 1))
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# $\sigma(\log 2)=\frac{2}{1+2}=\frac23$。损失是 $-\log\frac23=0.405$。导数是 $\beta(\sigma(h)-1)=0.5\cdot(-\frac13)=-0.167$：chosen 的对数概率升一点，损失就降一点。
#
# ```python
# answer_7_1 = (math.log(3 / 2), 0.5 * (2 / 3 - 1))
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 7.2 · The wrong post
# ★★☆ · 15 minutes
#
# In the three-answer example (reference 0.5, 0.3, 0.2, rewards 1, 0, -1, $\beta=0.5$, soft labels) somebody stored the reference probabilities in reverse order, 0.2, 0.3, 0.5, and trains to the minimum. What probability does the first answer get? And by how much does the result's $J$, taken with the true reference, fall short of the optimum's?
#
# <details><summary>Hint</summary>
#
# The minimiser is the stored reference, tilted; $e^2=7.389$. The shortfall is fact 4.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 7.2 · 拴错了桩
# ★★☆ · 15 分钟
#
# 三个回答的例子（参考概率 0.5、0.3、0.2，奖励 1、0、-1，$\beta=0.5$，软标签），有人把参考概率存反了，存成 0.2、0.3、0.5，然后训练到最小值。第一个回答的概率是多少？用真正的参考策略来算 $J$，训练出的策略比最优解差多少？
#
# <details><summary>提示</summary>
#
# 最小值处的策略，就是存下的那个参考策略按奖励重新加权；$e^2=7.389$。差额用本章开头的第 4 条。
#
# </details>

# %% tags=["exercise"]
answer_7_2 = ...  # (probability of the first answer, shortfall in J)
check("7.2", answer_7_2)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# The products are $0.2\,e^2=1.478$, 0.3 and $0.5\,e^{-2}=0.068$, their sum is 1.845, so the probabilities are 0.801, 0.163, 0.037. The KL of this policy from $\pi^*$, $\mathrm{KL}(\pi\,\|\,\pi^*)$, is 0.0789, times $\beta$ that is 0.039.
#
# ```python
# found = tabular.optimal_policy(Problem(toy.ref_logps.flip(0), toy.reward), 0.5)
# wanted = tabular.optimal_policy(toy, 0.5)
# answer_7_2 = (found.exp()[0].item(), 0.5 * tabular.kl(found, wanted).item())
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 乘出来是 $0.2\,e^2=1.478$、0.3、$0.5\,e^{-2}=0.068$，和是 1.845，所以概率是 0.801、0.163、0.037。它相对 $\pi^*$ 的 KL，即 $\mathrm{KL}(\pi\,\|\,\pi^*)$，是 0.0789，乘 $\beta$ 得 0.039。
#
# ```python
# found = tabular.optimal_policy(Problem(toy.ref_logps.flip(0), toy.reward), 0.5)
# wanted = tabular.optimal_policy(toy, 0.5)
# answer_7_2 = (found.exp()[0].item(), 0.5 * tabular.kl(found, wanted).item())
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 7.3 · The gradient with shared parameters
# ★★☆ · 20 minutes
#
# Write `feature_gradient(theta, features, wins, beta)` without autograd: the gradient of the DPO loss with respect to $\theta$, shape `(K,)`, where the logits are $\log\pi_{\mathrm{ref}}(y)+\phi_y\cdot\theta$. `features` is `(A, K)` and holds $\phi_y$ in its rows, `wins` is `(A, A)` and need not sum to 1. Why does the function not need the reference?
#
# <details><summary>Hint</summary>
#
# First the gradient with respect to the logits of a table, `(A,)`; there the log-ratios are $\phi_y\cdot\theta$, up to a constant. Then the chain rule: the logits depend on $\theta$ through `features`.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 7.3 · 共用参数时的梯度
# ★★☆ · 20 分钟
#
# 不用自动求导，写一个 `feature_gradient(theta, features, wins, beta)`：设 logits 是 $\log\pi_{\mathrm{ref}}(y)+\phi_y\cdot\theta$，返回 DPO 损失对 $\theta$ 的梯度，形状 `(K,)`。`features` 是 `(A, K)`，各行是 $\phi_y$；`wins` 是 `(A, A)`，总和不一定是 1。为什么这个函数用不着参考策略？
#
# <details><summary>提示</summary>
#
# 先把策略当作一张表，求损失对 logits 的梯度，`(A,)`；这时的对数比就是 $\phi_y\cdot\theta$，至多差一个常数。再用链式法则：logits 通过 `features` 依赖 $\theta$。
#
# </details>

# %% tags=["exercise"]
def feature_gradient(theta, features, wins, beta):
    ...


check("7.3", feature_gradient)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# The logits start at the reference's log-probabilities, so the reference cancels in the log-ratios.
#
# ```python
# def feature_gradient(theta, features, wins, beta):
#     claims = torch.sigmoid(gaps(beta * (features @ theta)))  # (A, A)
#     by_logit = beta * ((wins + wins.T) * claims - wins).sum(-1) / wins.sum()  # (A,)
#     return features.T @ by_logit
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# logits 从参考策略的对数概率出发，所以在对数比里，参考策略抵消了。
#
# ```python
# def feature_gradient(theta, features, wins, beta):
#     claims = torch.sigmoid(gaps(beta * (features @ theta)))  # (A, A)
#     by_logit = beta * ((wins + wins.T) * claims - wins).sum(-1) / wins.sum()  # (A,)
#     return features.T @ by_logit
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 7.4 · Labels that make beta powerless
# ★★★ · 25 minutes
#
# Whoever makes the labels can undo $\beta$. Write `labels_for(target, ref_logps, beta)`: from the log-probabilities of a policy that somebody wants, those of the reference, `(A,)` each, and any $\beta$, the label matrix `(A, A)` whose entry `[i, j]` is the probability that $i$ is preferred to $j$, such that DPO at this $\beta$ ends at `target`.
#
# <details><summary>Hint</summary>
#
# Of which reward is `target` the optimum at this $\beta$?
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 7.4 · 让 beta 失灵的标签
# ★★★ · 25 分钟
#
# 谁贴标签，谁就能抵消 $\beta$。写一个 `labels_for(target, ref_logps, beta)`：给定某人想要的策略的对数概率、参考策略的对数概率（各 `(A,)`）和任意一个 $\beta$，返回标签矩阵 `(A, A)`，`[i, j]` 是 $i$ 胜过 $j$ 的概率，使得用这个 $\beta$ 做 DPO，终点恰好是 `target`。
#
# <details><summary>提示</summary>
#
# 在这个 $\beta$ 下，`target` 是哪个奖励的最优解？
#
# </details>

# %% tags=["exercise"]
def labels_for(target, ref_logps, beta):
    ...


check("7.4", labels_for)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# Of its own implicit reward. So the labels are the Bradley–Terry probabilities of that. A judge who answers by such labels has a reward that grows with $\beta$: the leash is only as strong as the labels are uncertain.
#
# ```python
# def labels_for(target, ref_logps, beta):
#     return torch.sigmoid(gaps(beta * (target - ref_logps)))
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 是它自己那份隐式奖励的最优解。所以标签取这份奖励的 Bradley–Terry 概率。照这样贴标签的裁判，奖励随 $\beta$ 一起变大：标签有多不确定，绳子才有多紧。
#
# ```python
# def labels_for(target, ref_logps, beta):
#     return torch.sigmoid(gaps(beta * (target - ref_logps)))
# ```
#
# </details>

# %% [markdown] lang="en"
# ## References
# - [Azar et al. 2024](https://arxiv.org/abs/2310.12036): the leash grows weaker the more deterministic the preferences are.
# - [Gopalan et al. 2025](https://arxiv.org/abs/2510.20413): DPO when the policy cannot express the reward.
# - [Grattafiori et al. 2024](https://arxiv.org/abs/2407.21783), [Tunstall et al. 2023](https://arxiv.org/abs/2310.16944): two recipes, Llama 3 and Zephyr.
# - [Kingma & Ba 2015](https://arxiv.org/abs/1412.6980): Adam.
# - [Pal et al. 2024](https://arxiv.org/abs/2402.13228): the loss allows the preferred answer to lose probability.
# - [Rafailov et al. 2023](https://arxiv.org/abs/2305.18290): DPO; equations 4 to 7, Lemmas 1 and 2, Theorem 1.
# - [Rafailov et al. 2024](https://arxiv.org/abs/2404.12358): DPO token by token; why implicit rewards decline.
# - [Razin et al. 2025](https://arxiv.org/abs/2410.08847): likelihood displacement.
# - [Tang et al. 2024](https://arxiv.org/abs/2402.05749): what regularises such losses.
# - [Xu et al. 2024](https://arxiv.org/abs/2404.10719): DPO and answers outside the data.

# %% [markdown] lang="zh"
# ## 参考文献
# - [Azar et al. 2024](https://arxiv.org/abs/2310.12036)：偏好越确定，绳子越松。
# - [Gopalan et al. 2025](https://arxiv.org/abs/2510.20413)：策略表达不出奖励时的 DPO。
# - [Grattafiori et al. 2024](https://arxiv.org/abs/2407.21783)、[Tunstall et al. 2023](https://arxiv.org/abs/2310.16944)：两份配方，Llama 3 和 Zephyr。
# - [Kingma & Ba 2015](https://arxiv.org/abs/1412.6980)：Adam。
# - [Pal et al. 2024](https://arxiv.org/abs/2402.13228)：损失允许被偏好的回答概率下降。
# - [Rafailov et al. 2023](https://arxiv.org/abs/2305.18290)：DPO；式 4 到式 7，引理 1 和引理 2，定理 1。
# - [Rafailov et al. 2024](https://arxiv.org/abs/2404.12358)：逐个词元看 DPO；隐式奖励为什么会下降。
# - [Razin et al. 2025](https://arxiv.org/abs/2410.08847)：似然位移。
# - [Tang et al. 2024](https://arxiv.org/abs/2402.05749)：这类损失靠什么约束。
# - [Xu et al. 2024](https://arxiv.org/abs/2404.10719)：DPO 与数据之外的回答。
