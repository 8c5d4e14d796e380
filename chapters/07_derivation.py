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
# > **In this chapter.** You will be able to derive the DPO loss line by line, to write it and its gradient by hand, to say where its minimum lies, and to answer four questions that people quarrel about: what a larger $\beta$ does, what the labels do to the leash, what a wrong reference does, and why the chosen answer falls. You need [chapter 5](05_preferences.ipynb) (comparisons), [chapter 6](06_objective.ipynb) (the objective and its optimum), and the derivative of a function of one variable. 41 minutes to read, and 11 more for the sections marked ⋆; 30 seconds to run.

# %% [markdown] lang="zh"
# > **本章。** 读完后，你能一行一行推出 DPO 的损失，亲手写出它和它的梯度，说清最小值在哪里。四个争来争去的问题，你也能回答：$\beta$ 大了会怎样；换一种标签，绳子还剩多少；参考策略弄错了会怎样；chosen 为什么会降。需要先读[第 5 章](05_preferences.ipynb)（比较）和[第 6 章](06_objective.ipynb)（目标与最优解），会对一元函数求导。阅读 41 分钟，带 ⋆ 的几节另需 11 分钟；运行 30 秒。

# %%
import copy
import json
import math
from pathlib import Path

import numpy as np
import torch
from checks import check
from torch.nn.functional import logsigmoid

from dpo_core import BookTask, load_pretrained, tabular, use_threads
from dpo_core.arms import interval
from dpo_core.evaluation import evaluate
from dpo_core.losses import preference_loss
from dpo_core.plotting import COLORS, INK, figure, picture, points
from dpo_core.preferences import on_policy_pairs
from dpo_core.steps import dpo_step
from dpo_core.tabular import Problem
from dpo_core.theory import predicted_optimum
from dpo_core.training import LoopConfig, default_device, train

# %% [markdown] lang="en"
# ## What we bring along
# Chapter 5 fitted a reward model to comparisons. Chapter 6 said which policy is best for given rewards. This chapter finds a shorter road: the reward model vanishes, and one loss on pairs of answers is left. It needs four facts.
#
# 1. Of two answers to a prompt $x$, $y_1$ is preferred with probability $\sigma(r(x,y_1)-r(x,y_2))$, where $r$ is the reward and $\sigma(z)=1/(1+e^{-z})$ (Bradley–Terry).
# 2. The objective of a policy $\pi$ is $J(\pi)=\mathbb{E}_{y\sim\pi}[r(x,y)]-\beta\,\mathrm{KL}(\pi\,\|\,\pi_{\mathrm{ref}})$: mean reward, minus $\beta>0$ times the KL divergence from the reference policy $\pi_{\mathrm{ref}}$, the leash.
# 3. Its optimum is $\pi^*(y\mid x)=\pi_{\mathrm{ref}}(y\mid x)\,e^{r(x,y)/\beta}/Z(x)$, where the partition function $Z(x)$ makes the probabilities sum to 1. We write $V(x)=\beta\log Z(x)$, the soft maximum of the rewards.
# 4. Any other policy falls short by $J(\pi^*)-J(\pi)=\beta\,\mathrm{KL}(\pi\,\|\,\pi^*)$.
#
# The hand-made example is the book's: one prompt, three answers, reference probabilities 0.5, 0.3, 0.2, rewards 1, 0, -1, and $\beta=0.5$. Each line is tried on it in the open; folded cells hold it against twenty random problems with six answers each. In `tabular` ([chapter 5](05_preferences.ipynb)) a policy is a row of log-probabilities.

# %% [markdown] lang="zh"
# ## 手里有什么
# 第 5 章拿比较拟合出奖励模型；第 6 章说，给定奖励，哪个策略最好。本章走一条近路：奖励模型会消失，只剩一个损失，直接拿偏好对来算。先摆出要用的四条。
#
# 1. 同一个提示 $x$ 的两个回答，$y_1$ 胜出的概率是 $\sigma(r(x,y_1)-r(x,y_2))$，其中 $r$ 是奖励，$\sigma(z)=1/(1+e^{-z})$（Bradley–Terry 模型）。
# 2. 策略 $\pi$ 的目标是 $J(\pi)=\mathbb{E}_{y\sim\pi}[r(x,y)]-\beta\,\mathrm{KL}(\pi\,\|\,\pi_{\mathrm{ref}})$：平均奖励，减去 $\beta>0$ 乘以策略相对参考策略 $\pi_{\mathrm{ref}}$ 的 KL 散度。后一项就是绳子。
# 3. 最优解是 $\pi^*(y\mid x)=\pi_{\mathrm{ref}}(y\mid x)\,e^{r(x,y)/\beta}/Z(x)$，配分函数（partition function）$Z(x)$ 让概率加起来等于 1。记 $V(x)=\beta\log Z(x)$，即奖励的软最大值。
# 4. 别的策略都差一截：$J(\pi^*)-J(\pi)=\beta\,\mathrm{KL}(\pi\,\|\,\pi^*)$。
#
# 手算用的还是全书那个例子：一个提示，三个回答，参考概率 0.5、0.3、0.2，奖励 1、0、-1，$\beta=0.5$。每推出一行，先当着你的面，在这个例子上试一遍；折起来的单元格再拿二十个随机问题验证，每个六个回答。在 `tabular`（[第 5 章](05_preferences.ipynb)）里，一个策略就是一行对数概率。

# %% tags=["setup"]
SEED = 0
INSTANCES, ANSWERS, beta = 20, 6, 0.5
toy = Problem(
    ref_logps=torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64).log(),
    reward=torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64),
)
problems = tabular.random_problems(INSTANCES, ANSWERS, SEED)
ref, r = problems  # (20, 6) each
policies = tabular.random_policies(INSTANCES, ANSWERS, seed=SEED + 100)  # any at all


def close(one, other, within=1e-9):
    """Whether two tensors agree everywhere, broadcasting included."""
    one, other = (torch.as_tensor(x, dtype=torch.float64) for x in (one, other))
    return bool((one - other).abs().max() < within)


def gaps(values):
    """value_i - value_j for every two answers: (..., A) to (..., A, A)."""
    return values[..., :, None] - values[..., None, :]


def show(name, values, digits=3):
    """One line: a name and its numbers."""
    print(f"{name:20}", *(f"{float(value):7.{digits}f}" for value in values))


# %%
toy_Z = (toy.ref_logps.exp() * torch.exp(toy.reward / beta)).sum()
toy_V = beta * toy_Z.log()
toy_optimum = tabular.optimal_policy(toy, beta)  # log-probabilities
show("Z, V", [toy_Z, toy_V])
show("optimum", toy_optimum.exp())
assert close(toy_optimum, toy.ref_logps + toy.reward / beta - toy_Z.log())  # fact 3
assert close(toy_optimum.exp().sum(), 1)

# %% [markdown] lang="en"
# ## Read the optimum backwards
# Fact 3 goes from a reward to a policy. We want the other direction: given $\pi^*$ and $\pi_{\mathrm{ref}}$, what was the reward? Solve for it, one move at a time.
#
# *Divide* by $\pi_{\mathrm{ref}}$ and *take logarithms*. A product becomes a sum, and on the left stands the **log-ratio** of an answer, which we call $\Delta$:
#
# $$\Delta(y)=\log\frac{\pi^*(y\mid x)}{\pi_{\mathrm{ref}}(y\mid x)}=\frac{r(x,y)}{\beta}-\log Z(x).$$
#
# *Multiply by* $\beta$, and *bring the last term over* to the other side ([Rafailov et al. 2023](https://arxiv.org/abs/2305.18290), equation 5):
#
# $$r(x,y)=\beta\log\frac{\pi^*(y\mid x)}{\pi_{\mathrm{ref}}(y\mid x)}+V(x),\qquad V(x)=\beta\log Z(x)\tag{7.2}.$$
#
# In the example the first answer goes from 0.5 to 0.919: log-ratio 0.608; times $\beta$, plus $V$, that is 1, its reward.
#
# For a language model nobody can compute $V(x)$, a sum over every text there is. But its argument contains $x$ and no $y$: it is the same for all answers to one prompt. *Subtract* the equation of $y_2$ from that of $y_1$, and it is gone:
#
# $$r(x,y_1)-r(x,y_2)=\beta\log\frac{\pi^*(y_1\mid x)}{\pi_{\mathrm{ref}}(y_1\mid x)}-\beta\log\frac{\pi^*(y_2\mid x)}{\pi_{\mathrm{ref}}(y_2\mid x)}\tag{7.3}.$$
#
# Fact 1 needs nothing but this difference. That is the whole idea of DPO.

# %% [markdown] lang="zh"
# ## 把最优解倒过来读
# 第 3 条由奖励得出策略。现在反着走：手里有 $\pi^*$ 和 $\pi_{\mathrm{ref}}$，当初的奖励是多少？一步一步解出来。
#
# 两边*除以* $\pi_{\mathrm{ref}}$，再*取对数*。乘积变成和，左边是这个回答的**对数比**（log-ratio），记作 $\Delta$：
#
# $$\Delta(y)=\log\frac{\pi^*(y\mid x)}{\pi_{\mathrm{ref}}(y\mid x)}=\frac{r(x,y)}{\beta}-\log Z(x)$$
#
# *乘以* $\beta$，再把最后一项*移到*另一边（[Rafailov et al. 2023](https://arxiv.org/abs/2305.18290)，式 5）：
#
# $$r(x,y)=\beta\log\frac{\pi^*(y\mid x)}{\pi_{\mathrm{ref}}(y\mid x)}+V(x),\qquad V(x)=\beta\log Z(x)\tag{7.2}$$
#
# 拿例子验一下：第一个回答从 0.5 变成 0.919，对数比是 0.608，乘 $\beta$，再加 $V$，得 1，正是它的奖励。
#
# 换成语言模型，$V(x)$ 谁也算不出来：那要把一切可能的文本都加一遍。可是看看它的括号：里面有 $x$，没有 $y$。同一个提示的所有回答，加上的都是同一个数。拿 $y_1$ 的等式*减去* $y_2$ 的等式，它就没了：
#
# $$r(x,y_1)-r(x,y_2)=\beta\log\frac{\pi^*(y_1\mid x)}{\pi_{\mathrm{ref}}(y_1\mid x)}-\beta\log\frac{\pi^*(y_2\mid x)}{\pi_{\mathrm{ref}}(y_2\mid x)}\tag{7.3}$$
#
# 而第 1 条要的，只是这个差。DPO 的全部想法就在这里。

# %%
toy_ratio = toy_optimum - toy.ref_logps  # Δ of each answer
show("log-ratio", toy_ratio)
show("beta * log-ratio", beta * toy_ratio)
show("... + V", beta * toy_ratio + toy_V)
assert close(toy_optimum.exp()[0], 0.919, 5e-4) and close(toy_ratio[0], 0.608, 5e-4)
assert close(beta * toy_ratio + toy_V, toy.reward)  # solved for the reward
assert close(gaps(beta * toy_ratio), gaps(toy.reward))  # in differences V is gone

# %% tags=["proof"] checked_en="Checked on 20 random problems: each of the three equations, and that V differs from prompt to prompt." checked_zh="在 20 个随机问题上验证：三个等式都成立，而且 V 因提示而异。"
optimum = tabular.optimal_policy(problems, beta)  # (20, 6) log-probabilities
log_Z = (ref.exp() * torch.exp(r / beta)).sum(-1, keepdim=True).log()  # (20, 1)
V = beta * log_Z
log_ratio = optimum - ref
assert close(log_ratio, r / beta - log_Z)
assert close(beta * log_ratio + V, r)
assert V.std() > 0.1
assert close(gaps(beta * log_ratio), gaps(r))


# %% tags=["figure"] alt_en="Two panels. Left: three prompts with six answers each. For every answer an orange dot, its reward, and a blue dot below or above it, beta times its log-ratio; a thin line joins the two. Within a prompt all six lines have the same length; between prompts the length differs. Right: differences of the blue values against differences of the rewards, for all pairs of answers to the three prompts; all points lie on the diagonal." alt_zh="左右两幅。左：三个提示，各有六个回答。每个回答有一个橙点，是它的奖励；还有一个蓝点，是 beta 乘对数比，在橙点的下方或上方，细线把两点连起来。同一个提示里，六条线一样长；不同的提示，长度不同。右：横轴是奖励之差，纵轴是蓝点的值之差，三个提示里任取两个回答，都落在对角线上。"
@picture
def one_length_a_prompt(say):
    _, (left, right) = figure(columns=2, width=7.6, height=3.4)
    for place, (row, mark) in enumerate({4: "o", 10: "s", 16: "^"}.items()):
        x, half = torch.arange(ANSWERS) + 7.5 * place, beta * log_ratio[row]
        left.vlines(x, half, r[row], color=INK, linewidth=1)
        left.plot(x, r[row], mark, color=COLORS["baseline"])
        left.plot(x, half, mark, color=COLORS["policy"])
        left.text(x[0] + 2.5, 2.6, f"$V={V[row].item():.2f}$", ha="center", size=10)
        differences = gaps(r)[row].flatten(), gaps(half).flatten()
        right.plot(*differences, mark, color=COLORS["policy"], markersize=4)
    right.axline((0, 0), slope=1, color=COLORS["theory"], linewidth=1.2, zorder=0)
    names = [say(f"prompt {k}", f"提示 {k}") for k in (1, 2, 3)]
    left.set(xticks=[2.5, 10, 17.5], xticklabels=names, ylim=(-4.2, 3.2))
    left.set(ylabel=say("nats", "奈特"))
    left.text(-0.4, -3.3, say("orange: reward", "橙：奖励"), color=COLORS["baseline"])
    below = say(r"blue: $\beta$ × log-ratio", r"蓝：$\beta$ × 对数比")
    left.text(-0.4, -3.95, below, color=COLORS["policy"])
    right.set_xlabel(say("difference of rewards", "奖励之差"))
    right.set_ylabel(say(r"difference of $\beta$ × log-ratio", r"$\beta$ × 对数比之差"))


# %% [markdown] lang="en"
# **Figure 7.1.** Left: the reward of each answer, and $\beta$ times its log-ratio. The gap between them is $V(x)$: one length for each prompt. Right: in differences within a prompt nothing of it is left.

# %% [markdown] lang="zh"
# **图 7.1** 左：各个回答的奖励，以及 $\beta$ 乘它的对数比。两者相差 $V(x)$：一个提示一个长度。右：在同一个提示里一相减，这一截就一点不剩。

# %% [markdown] lang="en"
# The right side makes sense for *any* policy $\pi$ that gives every answer some probability. We call
#
# $$\hat r(x,y)=\beta\,\Delta(y)=\beta\log\frac{\pi(y\mid x)}{\pi_{\mathrm{ref}}(y\mid x)}$$
#
# its **implicit reward**: the reward for which this policy would be the best one.

# %% [markdown] lang="zh"
# 右边那个式子，随便哪个策略 $\pi$ 都写得出来，只要它给每个回答的概率都不是零。我们把
#
# $$\hat r(x,y)=\beta\,\Delta(y)=\beta\log\frac{\pi(y\mid x)}{\pi_{\mathrm{ref}}(y\mid x)}$$
#
# 叫作它的**隐式奖励**（implicit reward）：在这份奖励下，最好的正是这个策略。

# %% [markdown] lang="en"
# ## ⋆ Many rewards, one policy
# Why is $\pi$ the best policy for its own $\hat r$? Put $\hat r$ into fact 3. The exponential undoes the logarithm, $\pi_{\mathrm{ref}}\,e^{\hat r/\beta}=\pi_{\mathrm{ref}}\cdot\pi/\pi_{\mathrm{ref}}=\pi$, which sums to 1 already. So $Z=1$, and the optimum is $\pi$ itself. Only zeros are left out: there a log-ratio is infinite, and what the reference never writes, no optimum writes ([chapter 6](06_objective.ipynb)).
#
# In the other direction, many rewards belong to one policy. Add to $r$ a function $f(x)$ of the prompt alone. Differences within a prompt do not change, so no comparison changes; $e^{f(x)/\beta}$ appears in the numerator of fact 3 and in $Z$, so the optimum does not change either. Rewards that differ by such an $f$ form a class, and neither judges nor policies can tell its members apart.
#
# How many members of a class have the form $\beta\log(\pi/\pi_{\mathrm{ref}})$? Such a reward has $\sum_y\pi_{\mathrm{ref}}\,e^{r/\beta}=1$, that is $V=0$. Adding $f$ adds $f$ to $V$. So exactly one member has $V=0$: $r-V$. Writing rewards as log-ratios loses no class and names each once. That none is lost is Theorem 1 of [Rafailov et al. 2023](https://arxiv.org/abs/2305.18290); their Lemmas 1 and 2 are what was said of $f$.

# %% [markdown] lang="zh"
# ## ⋆ 许多奖励，一个策略
# 为什么在 $\hat r$ 下最好的正是 $\pi$？把 $\hat r$ 代进第 3 条。指数与对数抵消，$\pi_{\mathrm{ref}}\,e^{\hat r/\beta}=\pi_{\mathrm{ref}}\cdot\pi/\pi_{\mathrm{ref}}=\pi$，加起来本来就是 1。所以 $Z=1$，最优解就是 $\pi$ 自己。没算在内的，只有概率为零的情形：那里的对数比是无穷大；参考策略从来不写的回答，最优解也不会写（[第 6 章](06_objective.ipynb)）。
#
# 反过来，一个策略对应许多奖励。给 $r$ 加上一个只与提示有关的函数 $f(x)$。同一个提示里的差不变，所以任何比较都不变；第 3 条里，分子和 $Z$ 同乘 $e^{f(x)/\beta}$，所以最优解也不变。只差这样一个 $f$ 的奖励，归为一类；同类的奖励，看裁判怎么判、看策略怎么写，都分辨不出来。
#
# 一类里有几个写得成 $\beta\log(\pi/\pi_{\mathrm{ref}})$？写得成的，必有 $\sum_y\pi_{\mathrm{ref}}\,e^{r/\beta}=1$，也就是 $V=0$。加上 $f$，$V$ 也加上 $f$。所以 $V=0$ 的恰好有一个：$r-V$。把奖励写成对数比，一类也不漏，每类只出现一次。一类也不漏，就是 [Rafailov et al. 2023](https://arxiv.org/abs/2305.18290) 的定理 1；那里的引理 1 和引理 2，说的就是上面关于 $f$ 的事。

# %% tags=["proof"] checked_en="Checked on 20 random problems: each policy is the best one for its implicit reward; adding f changes no comparison and no optimum; one member of a class has V = 0." checked_zh="在 20 个随机问题上验证：每个策略都是自己那份隐式奖励的最优解；加上 f，比较不变，最优解也不变；每一类里恰有一个 V = 0。"
hat = beta * (policies - ref)  # the implicit rewards of twenty policies
assert close(tabular.optimal_policy(Problem(ref, hat), beta), policies)
assert close((ref.exp() * torch.exp(hat / beta)).sum(-1), 1)  # Z is 1
normal = torch.Generator().manual_seed(SEED)
f = 3 * torch.randn(INSTANCES, 1, generator=normal, dtype=torch.float64)
same_class = Problem(ref, r + f)
assert close(tabular.preference_probs(r + f), torch.sigmoid(gaps(r)))
assert close(tabular.optimal_policy(same_class, beta), optimum)
assert close(beta * tabular.log_partition(same_class, beta), (V + f).squeeze(-1))
assert close(tabular.log_partition(Problem(ref, r - V), beta), 0)
assert close(beta * (tabular.optimal_policy(same_class, beta) - ref), r - V)

# %% [markdown] lang="en"
# ## The loss
# Chapter 5 fitted rewards by maximum likelihood. We do the same with implicit rewards. For a pair, let $y_w$ be the chosen and $y_l$ the rejected answer, $q$ the label, the probability that $y_w$ is preferred, and $\pi_\theta$ the policy in training. Let
#
# $$m=\Delta(y_w)-\Delta(y_l)=\log\frac{\pi_\theta(y_w\mid x)}{\pi_{\mathrm{ref}}(y_w\mid x)}-\log\frac{\pi_\theta(y_l\mid x)}{\pi_{\mathrm{ref}}(y_l\mid x)},\qquad h=\beta m.$$
#
# $m$ is a difference of log-ratios, in nats; $h=\hat r(x,y_w)-\hat r(x,y_l)$ is the **reward margin**. Where only a winner is recorded, $q=1$; where the label is the probability itself, “chosen” is only a name for the likelier of the two.
#
# Put $h$ in the place of the difference of rewards in fact 1: this policy *predicts* that $y_w$ wins with probability $\sigma(h)$. The cross-entropy between label and prediction is the DPO loss of the pair:
#
# $$\ell(h)=-q\log\sigma(h)-(1-q)\log\sigma(-h)\tag{7.6}.$$
#
# With $q=1$ this is equation 7 of [Rafailov et al. 2023](https://arxiv.org/abs/2305.18290). No reward model appears, no $Z$, no sampling: two log-probabilities under $\pi_\theta$ and two under $\pi_{\mathrm{ref}}$ are enough.
#
# > **Before you run it.** Training starts at $\pi_\theta=\pi_{\mathrm{ref}}$. What is the loss of a pair there, and does it depend on the label or on $\beta$?
#
# <details><summary>Answer</summary>
#
# Both log-ratios are 0, so $h=0$ and the prediction is $\frac12$: the loss is $\ln 2=0.693$, for every label and every $\beta$.
#
# </details>

# %% [markdown] lang="zh"
# ## 损失
# 第 5 章用最大似然来拟合奖励，现在对隐式奖励照做一遍。拿一个偏好对来，设 $y_w$ 是 chosen（被偏好的回答），$y_l$ 是 rejected（不被偏好的回答），$q$ 是标签，即 $y_w$ 胜出的概率，$\pi_\theta$ 是正在训练的策略。设
#
# $$m=\Delta(y_w)-\Delta(y_l)=\log\frac{\pi_\theta(y_w\mid x)}{\pi_{\mathrm{ref}}(y_w\mid x)}-\log\frac{\pi_\theta(y_l\mid x)}{\pi_{\mathrm{ref}}(y_l\mid x)},\qquad h=\beta m$$
#
# $m$ 是两个对数比之差，单位是奈特（nat）；$h=\hat r(x,y_w)-\hat r(x,y_l)$ 叫**奖励间隔**（reward margin）。数据只记下谁赢，就是 $q=1$；标签若是概率本身，chosen 只是个名字，指胜算大的那个。
#
# 在第 1 条里，用 $h$ 顶替奖励之差，等于说：这个策略*预测* $y_w$ 以概率 $\sigma(h)$ 胜出。标签与预测之间的交叉熵，就是这一对的 DPO 损失：
#
# $$\ell(h)=-q\log\sigma(h)-(1-q)\log\sigma(-h)\tag{7.6}$$
#
# $q=1$ 时，就是 [Rafailov et al. 2023](https://arxiv.org/abs/2305.18290) 的式 7。没有奖励模型，没有 $Z$，也不用采样：$\pi_\theta$ 给的两个对数概率，$\pi_{\mathrm{ref}}$ 给的两个，就够了。
#
# > **先猜一猜。** 训练从 $\pi_\theta=\pi_{\mathrm{ref}}$ 开始。这时一对的损失是多少？同标签有关吗，同 $\beta$ 呢？
#
# <details><summary>答案</summary>
#
# 两个对数比都是 0，所以 $h=0$，预测是 $\frac12$，损失是 $\ln 2=0.693$：标签是什么、$\beta$ 是多少，都一样。
#
# </details>


# %% tags=["setup"]
def pair_loss(h, q):
    """The cross-entropy between the label q and the prediction σ(h)."""
    return -q * logsigmoid(h) - (1 - q) * logsigmoid(-h)


def dpo_loss(policy_logps, ref_logps, chosen, rejected, beta, q=1.0):
    """The loss of one pair, given by the places of its answers in a row."""
    delta = policy_logps - ref_logps  # log-ratios, (..., A)
    m = delta[..., chosen] - delta[..., rejected]
    return pair_loss(beta * m, q)


# %%
for q in (1.0, 0.73, 0.5):
    at_start = dpo_loss(toy.ref_logps, toy.ref_logps, 0, 2, beta, q)
    assert close(at_start, math.log(2))

# %% [markdown] lang="en"
# By hand, at the optimum of the example, with the true probabilities as labels. There $h$ is the true difference of rewards. Pair (1, 2): $h=1$, $q=\sigma(1)=0.731$, and the loss is $-0.731\log 0.731-0.269\log 0.269=0.582$. Pair (2, 3) is the same. Pair (1, 3): $h=2$, $q=0.881$, loss 0.365.

# %% [markdown] lang="zh"
# 手算一遍：策略取例子的最优解，标签用真实的概率。这时 $h$ 就是真实的奖励差。样本对 (1, 2)：$h=1$，$q=\sigma(1)=0.731$，损失是 $-0.731\log 0.731-0.269\log 0.269=0.582$。(2, 3) 相同。(1, 3)：$h=2$，$q=0.881$，损失 0.365。

# %%
true_labels = torch.sigmoid(gaps(toy.reward))  # [i, j]: P(i is preferred to j)
at_optimum = torch.stack(
    [
        dpo_loss(toy_optimum, toy.ref_logps, i, j, beta, true_labels[i, j])
        for i, j in ((0, 1), (1, 2), (0, 2))
    ]
)
show("losses of the pairs", at_optimum)
assert close(true_labels[[0, 0], [1, 2]], [0.731, 0.881], 5e-4)
assert close(at_optimum, [0.582, 0.582, 0.365], 5e-4)
by_library, *_ = preference_loss(  # policy's chosen, rejected; then the reference's
    *(logps[[i]] for logps in (toy_optimum, toy.ref_logps) for i in (0, 2)),
    beta=beta,
    preference_prob=true_labels[[0], [2]],
)
assert close(by_library, at_optimum[2])  # the function that chapter 9 trains with

# %% tags=["proof"] checked_en="Checked on 20 random problems, three pair distributions, soft and deterministic labels: the loss above, the library's table version and its `preference_loss` are one number." checked_zh="在 20 个随机问题上验证：三种配对分布，软标签和确定性标签，上面的损失、库里的表格版本、`preference_loss`，都是同一个数。"
pairs = {
    "uniform": tabular.uniform_pairs(ANSWERS).expand(INSTANCES, -1, -1),
    "ref": tabular.independent_pairs(ref, ref, distinct=True),
    "ref_and_flatter": tabular.independent_pairs(
        ref, (0.3 * ref).log_softmax(-1), distinct=True
    ),
}
h = gaps(beta * (policies - ref))  # (20, 6, 6): the margin of each ordered pair
for kind, q in (("soft", torch.sigmoid(gaps(r))), ("deterministic", gaps(r) > 0)):
    for drawn in pairs.values():
        judged = tabular.comparisons(r, drawn, kind)
        written_out = (drawn * pair_loss(h, q.double())).sum((-1, -2))
        assert close(written_out, tabular.dpo_loss(policies, ref, judged, beta))
        assert close(tabular.dpo_loss(ref, ref, judged, beta), math.log(2))
        as_rewards = tabular.bradley_terry_nll(r, judged)
        assert close(tabular.dpo_loss(optimum, ref, judged, beta), as_rewards)
i, j = torch.triu_indices(ANSWERS, ANSWERS, offset=1)
columns = [logps[:, side].flatten() for logps in (policies, ref) for side in (i, j)]
ours = dpo_loss(policies, ref, i, j, beta).flatten()
assert close(preference_loss(*columns, beta=beta)[0], ours)
assert close(ours, -torch.sigmoid(h[:, i, j]).log().flatten())  # equation 7

# %% [markdown] lang="en"
# The loss of a data set is an average over pairs, so its value depends on the **pair distribution**. Below, at the optimum of the example: each pair equally often; both answers from the reference, equal ones thrown away; equal ones kept as ties, at $\ln 2$ each.

# %% [markdown] lang="zh"
# 一份数据的损失，是对所有样本对取平均，所以它的值与怎么配对有关，即与**配对分布**（pair distribution）有关。下面在例子的最优解处算三种：每一对机会均等；两个回答都从参考策略抽，抽到相同的就扔掉；相同的留下算平局，每个的损失是 $\ln 2$。

# %%
both_from_ref = tabular.independent_pairs(toy.ref_logps, toy.ref_logps)
without_ties = tabular.independent_pairs(toy.ref_logps, toy.ref_logps, distinct=True)
ways = (tabular.uniform_pairs(3), without_ties, both_from_ref)
of_toy = [tabular.comparisons(toy.reward, drawn) for drawn in ways]
values = [tabular.dpo_loss(toy_optimum, toy.ref_logps, w, beta) for w in of_toy]
show("mean loss", values, digits=6)
assert close(values, [0.509913, 0.512245, 0.580988], 1e-6)
assert close(values[0], at_optimum.mean())

# %% [markdown] lang="en"
# ## The gradient by hand
# Three steps, from the outside in.
#
# **With respect to the margin.** From $\sigma'(h)=\sigma(h)\,\sigma(-h)$ follow $\frac{d}{dh}\log\sigma(h)=\sigma(-h)$ and $\frac{d}{dh}\log\sigma(-h)=-\sigma(h)$. Put them into the loss, use $\sigma(-h)=1-\sigma(h)$, and the two products $q\,\sigma(h)$ cancel:
#
# $$\frac{d\ell}{dh}=-q\,\sigma(-h)+(1-q)\,\sigma(h)=\sigma(h)-q.$$
#
# Prediction minus label. It is zero where the policy predicts what the label says, and nowhere else.
#
# **With respect to the log-probabilities.** In $h$ they stand with the factors $\beta$ and $-\beta$; the reference is a constant:
#
# $$\frac{\partial\ell}{\partial\log\pi_\theta(y_w\mid x)}=\beta\,(\sigma(h)-q),\qquad\frac{\partial\ell}{\partial\log\pi_\theta(y_l\mid x)}=-\beta\,(\sigma(h)-q)\tag{7.8}.$$
#
# **With respect to the logits.** Let the policy be a table: one logit $s_i$ for each answer, $\log\pi_i=s_i-\log\sum_k e^{s_k}$. The normaliser is the same for both answers, so it cancels in $h$, as $V$ did. Hence $\partial\ell/\partial s_w=-\partial\ell/\partial s_l=\beta\,(\sigma(h)-q)$, and every other derivative is zero: in a table, a pair moves the logits of its own two answers, by equal and opposite amounts.
#
# In the example at the start: pair (1, 3) has $h=0$ and $q=0.881$, so the slope in $h$ is $0.5-0.881=-0.381$, times $\beta$ that is $-0.190$ for the first logit and $0.190$ for the third.

# %% [markdown] lang="zh"
# ## 手推梯度
# 分三步，由外向里。
#
# **对间隔求导。** 由 $\sigma'(h)=\sigma(h)\,\sigma(-h)$，得 $\frac{d}{dh}\log\sigma(h)=\sigma(-h)$，$\frac{d}{dh}\log\sigma(-h)=-\sigma(h)$。代进损失，用 $\sigma(-h)=1-\sigma(h)$，两个 $q\,\sigma(h)$ 抵消：
#
# $$\frac{d\ell}{dh}=-q\,\sigma(-h)+(1-q)\,\sigma(h)=\sigma(h)-q$$
#
# 预测减标签。只有策略的预测与标签一致，它才是零。
#
# **对两个对数概率求导。** $h$ 里，它们前面的系数是 $\beta$ 和 $-\beta$；参考策略是常数：
#
# $$\frac{\partial\ell}{\partial\log\pi_\theta(y_w\mid x)}=\beta\,(\sigma(h)-q),\qquad\frac{\partial\ell}{\partial\log\pi_\theta(y_l\mid x)}=-\beta\,(\sigma(h)-q)\tag{7.8}$$
#
# **对 logits 求导。** 设策略是一张表：每个回答一个 logit $s_i$，$\log\pi_i=s_i-\log\sum_k e^{s_k}$。归一化的那一项，两个回答都一样，在 $h$ 里抵消掉，正如先前的 $V$。于是 $\partial\ell/\partial s_w=-\partial\ell/\partial s_l=\beta\,(\sigma(h)-q)$，其余的导数都是零：在表里，一个偏好对只推动自己那两个回答的 logits，一升一降，幅度相等。
#
# 例子的起点：样本对 (1, 3)，$h=0$，$q=0.881$，对 $h$ 的导数是 $0.5-0.881=-0.381$，乘 $\beta$，对第一个 logit 的导数是 $-0.190$，对第三个是 $0.190$。

# %%
logits = toy.ref_logps.clone().requires_grad_()
loss = dpo_loss(logits.log_softmax(-1), toy.ref_logps, 0, 2, beta, true_labels[0, 2])
(auto,) = torch.autograd.grad(loss, logits)
show("autograd", auto)
by_hand = beta * (0.5 - true_labels[0, 2].item())  # prediction minus label
assert close(auto, [by_hand, 0.0, -by_hand])
assert close(auto, [-0.190, 0.0, 0.190], 5e-4)

# %% tags=["proof"] checked_en="Checked on 20 random problems, each a margin and a label: each derivative of this section, against autograd and finite differences." checked_zh="在 20 个随机问题上验证：每个问题给一个间隔、一个标签，本节的每个导数，与自动求导、有限差分都一致。"
normal = torch.Generator().manual_seed(SEED + 1)
q = torch.rand(INSTANCES, generator=normal, dtype=torch.float64)
margin = 3 * torch.randn(INSTANCES, generator=normal, dtype=torch.float64)


def derivative(function):
    leaf = margin.clone().requires_grad_()
    return torch.autograd.grad(function(leaf).sum(), leaf)[0]


slope_in_h = torch.sigmoid(margin) - q  # prediction minus label
expanded = -q * torch.sigmoid(-margin) + (1 - q) * torch.sigmoid(margin)
assert close(expanded, slope_in_h)  # the products cancel
bell = torch.sigmoid(margin) * torch.sigmoid(-margin)
assert close(derivative(torch.sigmoid), bell)
assert close(derivative(logsigmoid), 1 - torch.sigmoid(margin))
assert close(derivative(lambda h: logsigmoid(-h)), -torch.sigmoid(margin))
assert close(derivative(lambda h: pair_loss(h, q)), slope_in_h)
finite = (pair_loss(margin + 1e-5, q) - pair_loss(margin - 1e-5, q)) / 2e-5
assert close(slope_in_h, finite, 1e-8)

# %% tags=["proof"] checked_en="Checked on 20 random problems: the derivatives with respect to log-probabilities and to logits." checked_zh="在 20 个随机问题上验证：损失对各个对数概率的导数，对各个 logits 的导数。"
for logits_to_logps in (lambda s: s, lambda s: s.log_softmax(-1)):
    leaf = policies.clone().requires_grad_()
    logps = logits_to_logps(leaf)
    h = beta * ((logps - ref)[:, 2] - (logps - ref)[:, 4])  # 2 chosen, 4 rejected
    assert close(h, beta * ((leaf - ref)[:, 2] - (leaf - ref)[:, 4]))
    (auto,) = torch.autograd.grad(pair_loss(h, q).sum(), leaf)
    written_out = torch.zeros_like(auto)
    written_out[:, 2] = beta * (torch.sigmoid(h) - q).detach()
    written_out[:, 4] = -written_out[:, 2]
    assert close(written_out, auto)

# %% [markdown] lang="en"
# Now a whole table of comparisons. Let $w_{ij}$ (`wins[i, j]`) be the share of all comparisons in which $i$ beat $j$, so that $\sum w=1$. With $h_{ij}$ the margin of $i$ over $j$, the loss is the mean over the comparisons, $-\sum_{i,j}w_{ij}\log\sigma(h_{ij})$. Of prediction minus label, the wins of $i$ against $j$ (label 1) add $w_{ij}\,(\sigma(h_{ij})-1)$, the losses (label 0) $w_{ji}\,\sigma(h_{ij})$. Sum over all $j$, with the factor $\beta$ from above:
#
# $$\frac{\partial\mathcal L}{\partial s_i}=\beta\sum_j\left[(w_{ij}+w_{ji})\,\sigma(h_{ij})-w_{ij}\right].$$
#
# `slope` below is this line.

# %% [markdown] lang="zh"
# 再看一整张比较表。设 $w_{ij}$（`wins[i, j]`）是 $i$ 赢 $j$ 的比较占全部比较的份额，$\sum w=1$。记 $h_{ij}$ 为 $i$ 对 $j$ 的间隔；对所有比较取平均，损失是 $-\sum_{i,j}w_{ij}\log\sigma(h_{ij})$。逐项算预测减标签：$i$ 赢 $j$ 的比较（标签 1），贡献是 $w_{ij}\,(\sigma(h_{ij})-1)$；输给 $j$ 的（标签 0），贡献是 $w_{ji}\,\sigma(h_{ij})$。对所有 $j$ 求和，再乘前面的系数 $\beta$：
#
# $$\frac{\partial\mathcal L}{\partial s_i}=\beta\sum_j\left[(w_{ij}+w_{ji})\,\sigma(h_{ij})-w_{ij}\right]$$
#
# 下面的 `slope` 就是这一行。


# %% tags=["setup"]
def slope(logits, ref_logps, wins, beta):
    """The gradient of the DPO loss of a table, (..., A), with respect to its logits."""
    h = gaps(beta * (logits - ref_logps))  # the normaliser cancels: logits will do
    total = ((wins + wins.mT) * torch.sigmoid(h) - wins).sum(-1)
    return beta * total / wins.sum((-1, -2))[..., None]


# %% tags=["proof"] checked_en="Checked on 20 random problems: `slope` is what autograd and finite differences find; counts do as well as shares." checked_zh="在 20 个随机问题上验证：`slope` 与自动求导、有限差分一致；用次数代替份额，结果不变。"
wins = tabular.comparisons(r, pairs["uniform"])  # soft labels


def table_loss(logits):
    return tabular.dpo_loss(logits.log_softmax(-1), ref, wins, beta)


h = gaps(beta * (policies - ref))
assert close(-(wins * logsigmoid(h)).sum((-1, -2)), table_loss(policies))
leaf = policies.clone().requires_grad_()
(auto,) = torch.autograd.grad(table_loss(leaf).sum(), leaf)
assert close(slope(policies, ref, wins, beta), auto)
assert close(slope(policies, ref, 37 * wins, beta), auto)
nudges = 1e-5 * torch.eye(ANSWERS, dtype=torch.float64)  # one logit at a time
finite = [(table_loss(policies + d) - table_loss(policies - d)) / 2e-5 for d in nudges]
assert close(slope(policies, ref, wins, beta), torch.stack(finite, -1), 1e-8)

# %% [markdown] lang="en"
# ## What the weight means
# Most data say only who won: $q=1$. Then the slope in $h$ is $\sigma(h)-1=-\sigma(-h)$; call $\sigma(-h)$ the **weight** of the pair. It is near 1 where the policy orders the pair wrongly and is sure of it, $\frac12$ where it has no opinion, near 0 where the pair is settled. [Rafailov et al. 2023](https://arxiv.org/abs/2305.18290) warn that without it the model can degenerate.
#
# Since $h=\beta m$, the loss falls with $m$ at the rate $\beta\,\sigma(-\beta m)$; call this the **pull** on the pair. A large $\beta$ pulls hard and lets go early; a small one pulls gently and for long.

# %% [markdown] lang="zh"
# ## 权重是什么意思
# 多数数据只说谁赢：$q=1$。这时对 $h$ 的导数是 $\sigma(h)-1=-\sigma(-h)$，$\sigma(-h)$ 叫作这一对的**权重**（weight）。策略把次序弄反了还很笃定，权重接近 1；没有看法时是 $\frac12$；次序早已拉开时接近 0。[Rafailov et al. 2023](https://arxiv.org/abs/2305.18290) 提醒：去掉这个权重，模型可能退化。
#
# 因为 $h=\beta m$，损失随 $m$ 下降的快慢是 $\beta\,\sigma(-\beta m)$，叫作这一对受到的**拉力**（pull）。$\beta$ 大，拉得猛，松手早；$\beta$ 小，拉得轻，拉得久。


# %% tags=["figure"] alt_en="Two panels. Left: the loss of a pair against its reward margin for three labels. The curve for q = 1 falls towards 0 without a minimum; that for 0.73 has its lowest point at a margin of 1, that for 0.5 at 0. Right: the pull on the difference of log-ratios, from -10 to 10 nats, for beta 0.1, 0.5, 1 and 2. At 0 the curves stand at half of beta; the curve of beta 2 falls from 2 to 0 within a few nats, that of beta 0.1 is low and nearly flat." alt_zh="左右两幅。左：一对的损失随奖励间隔的变化，标签取三种。q = 1 的曲线一路降向 0，没有最低点；0.73 的最低点在间隔 1 处，0.5 的在 0 处。右：拉力随两个对数比之差的变化，从 -10 到 10 奈特，beta 取 0.1、0.5、1、2。在 0 处，曲线的高度是 beta 的一半；beta 为 2 的曲线在几个奈特之内从 2 降到 0，beta 为 0.1 的又低又平。"
@picture
def loss_and_pull(say):
    _, (left, right) = figure(columns=2, width=7.6, height=3.4)
    h = torch.linspace(-4, 6, 201, dtype=torch.float64)
    tags = (
        (1.0, "chosen", -2.2, 2.9),
        (0.731, "policy", 3.4, 0.5),
        (0.5, "ref", 3.2, 2.7),
    )
    for label, color, x, y in tags:
        curve = pair_loss(h, label)
        left.plot(h, curve, color=COLORS[color])
        if label < 1:
            left.plot(h[curve.argmin()], curve.min(), "o", color=COLORS[color])
        name = say(f"label {label:.2g}", f"标签 {label:.2g}")
        left.text(x, y, name, color=COLORS[color])
    left.set_xlabel(say("reward margin, $h$", "奖励间隔 $h$"))
    left.set_ylabel(say("loss of the pair, $\\ell$", "这一对的损失 $\\ell$"))
    m = torch.linspace(-10, 10, 201, dtype=torch.float64)
    for strength, style in zip((0.1, 0.5, 1.0, 2.0), (":", "-.", "--", "-")):
        pull = strength * torch.sigmoid(-strength * m)
        right.plot(m, pull, style, color=COLORS["chosen"], label=f"{strength:g}")
    difference = say("difference of log-ratios, $m$ (nats)", "对数比之差 $m$（奈特）")
    right.set(xlabel=difference, ylabel=say("pull on the pair", "这一对受到的拉力"))
    right.legend(title=say("leash, $\\beta$", "绳子 $\\beta$"), fontsize=9)


# %% [markdown] lang="en"
# **Figure 7.2.** Left: with the label $q=1$ more margin is always better; with $q<1$ there is a best margin, where $\sigma(h)=q$. Right: the pull when $q=1$.

# %% [markdown] lang="zh"
# **图 7.2** 左：标签 $q=1$ 时，间隔越大越好；$q<1$ 时，间隔有个最好的值，在 $\sigma(h)=q$ 处。右：$q=1$ 时的拉力。

# %% [markdown] lang="en"
# <!-- lab: loss -->
#
# ## Its minimum is the optimum
# Why should a loss on pairs have its minimum at the optimum of an objective that it never mentions? The loss of a pair minus the entropy of its label is the divergence $\mathrm{KL}(\text{label}\,\|\,\text{prediction})$ of two coins ([chapter 5](05_preferences.ipynb)); it is never negative, and zero where $\sigma(h)=q$.
#
# If the labels are Bradley–Terry probabilities of $r$, then $\sigma(h)=q$ says $h=r(x,y_w)-r(x,y_l)$. One policy fulfils this for all pairs at once: $\pi^*$, by equation 7.3. So every pair is at its own minimum there, however often it is drawn; and as long as the pairs connect all answers, no other policy attains it.
#
# So the pair distribution changes the value of the loss, not where the minimum is. Plain descent, for the three ways of drawing pairs:

# %% [markdown] lang="zh"
# <!-- lab: loss -->
#
# ## 它的最小值就是最优解
# 这个损失只谈偏好对，目标 $J$ 提都没提过，凭什么偏在 $J$ 的最优解处最小？把标签和预测看作两枚硬币。一对的损失减去标签的熵，等于 $\mathrm{KL}(\text{label}\,\|\,\text{prediction})$，即标签相对预测的 KL 散度（[第 5 章](05_preferences.ipynb)）；它从不为负，在 $\sigma(h)=q$ 处为零。
#
# 若标签是 $r$ 的 Bradley–Terry 概率，$\sigma(h)=q$ 就是说 $h=r(x,y_w)-r(x,y_l)$。有一个策略，在所有样本对上同时做到了，就是 $\pi^*$：式 7.3 说的正是这个。于是在 $\pi^*$ 处，每一对都到了自己的最小值，抽得多、抽得少都不要紧。而且，只要样本对把所有回答连成一片，别的策略就都取不到这个最小值。
#
# 所以配对分布改变损失的值，不改变最小值的位置。老老实实地下降，三种配对办法各走一遍：

# %%
for drawn in of_toy:
    s = toy.ref_logps.clone()  # the logits, from the reference
    for _ in range(4_000):
        s -= 0.5 * slope(s, toy.ref_logps, drawn, beta)
    show("reached", s.softmax(-1), digits=6)
    assert close(s.log_softmax(-1), toy_optimum, 1e-6)

# %% tags=["proof"] checked_en="Checked on 20 random problems, three values of β, three pair distributions, from random starts: the minimiser is the optimum; and maximising J itself leads to the same policy." checked_zh="在 20 个随机问题上验证：三个 β，三种配对分布，从随机起点出发，最小值处就是最优解；直接把 J 最大化，到的也是同一个策略。"
entropy = -torch.xlogy(q, q) - torch.xlogy(1 - q, 1 - q)
label_coin = torch.distributions.Bernoulli(q)
prediction_coin = torch.distributions.Bernoulli(logits=margin)
divergence = torch.distributions.kl_divergence(label_coin, prediction_coin)
assert close(pair_loss(margin, q) - entropy, divergence)
assert (divergence >= 0).all() and close(pair_loss(torch.logit(q), q), entropy)
anywhere = tabular.random_policies(INSTANCES, ANSWERS, seed=SEED + 200, scale=2.0)
for strength in (0.1, 0.5, 2.0):
    best = tabular.optimal_policy(problems, strength)
    for drawn in pairs.values():
        judged = tabular.comparisons(r, drawn)
        found = tabular.minimise(
            lambda s: tabular.dpo_loss(s.log_softmax(-1), ref, judged, strength),
            anywhere,
        )
        assert close(found.log_softmax(-1), best, 1e-8)
    if strength > 0.1:
        found = tabular.minimise(
            lambda s: -tabular.objective(s.log_softmax(-1), problems, strength), ref
        )
        assert close(found.log_softmax(-1), best, 1e-8)

# %% [markdown] lang="en"
# ## ⋆ No false valleys
# **The second derivative** is $\ell''(h)=\sigma(h)\,\sigma(-h)$, positive for every $h$ and every label: the loss curves upwards in $h$, and $h$ is linear in the logits. So for a table the DPO loss is **convex** in the logits: it has no false valleys, no local minimum above the lowest point. The objective $J$ of fact 2 is another matter: in the probabilities it bends downwards everywhere ([chapter 6](06_objective.ipynb)); in the logits, even of a table, it bends both ways.
#
# The second derivatives of the loss with respect to the logits form a matrix, the Hessian. It is $\beta^2$ times the matrix $K$ of [chapter 5](05_preferences.ipynb), with the entries $(w_{ij}+w_{ji})\,\sigma(h_{ij})\,\sigma(-h_{ij})$: minus these numbers beside the diagonal, their row sums on it. It maps constants to zero, because adding a number to all logits changes no policy. If the pairs connect all answers, it maps nothing else to zero, so at most one policy attains the minimum.
#
# One does exactly if, however the answers are divided into two groups, each group sometimes beats the other ([chapter 5](05_preferences.ipynb)). Labels strictly between 0 and 1 on connected pairs are enough, and Bradley–Terry probabilities are such labels.

# %% [markdown] lang="zh"
# ## ⋆ 没有假的谷底
# **二阶导数**是 $\ell''(h)=\sigma(h)\,\sigma(-h)$，对任何 $h$、任何标签都是正的：损失随 $h$ 的曲线向上弯，而 $h$ 是 logits 的线性函数。所以策略是一张表时，DPO 损失是 logits 的**凸函数**（convex function），没有假的谷底，即没有比最低点高的局部极小值。第 2 条里的目标 $J$ 却不然：看作概率的函数，它处处往下弯（[第 6 章](06_objective.ipynb)）；看作 logits 的函数，哪怕策略只是一张表，它也有的地方往上弯，有的地方往下弯。
#
# 损失对 logits 的二阶导数排成一个矩阵，叫 Hessian 矩阵。它等于 $\beta^2$ 乘[第 5 章](05_preferences.ipynb)的矩阵 $K$，只是 $K$ 里每一对的数换成 $(w_{ij}+w_{ji})\,\sigma(h_{ij})\,\sigma(-h_{ij})$：对角线外是这些数取负，对角线上是这些数的各行之和。Hessian 矩阵把各分量都相等的向量映成零，因为给所有 logits 加同一个数，策略不变。如果样本对把所有回答连成一片，被映成零的就只有这种向量，所以至多一个策略取到最小值。
#
# 什么时候真有一个？当且仅当不管怎样把回答分成两组，两组互有胜负（[第 5 章](05_preferences.ipynb)）。样本对连成一片，标签又都严格介于 0 和 1 之间，就够了；Bradley–Terry 概率正是这样的标签。

# %% tags=["proof"] checked_en="Checked on 20 random problems: the second derivatives, the Hessian, and that it is flat along constants only." checked_zh="在 20 个随机问题上验证：二阶导数；Hessian 矩阵，它只在各分量相等的方向上是平的。"
assert close(derivative(lambda h: torch.sigmoid(h) - q), bell)  # the slope's own slope
h = gaps(beta * (policies - ref))
entries = beta**2 * (wins + wins.mT) * torch.sigmoid(h) * torch.sigmoid(-h)
hessian = entries.sum(-1).diag_embed() - entries  # (20, 6, 6)


def second_derivatives(function):
    """Of function(logps, k) at the logits of each problem k, by autograd."""
    return torch.stack(
        [
            torch.autograd.functional.hessian(
                lambda s: function(s.log_softmax(-1), k), policies[k]
            )
            for k in range(INSTANCES)
        ]
    )


of_loss = second_derivatives(lambda p, k: tabular.dpo_loss(p, ref[k], wins[k], beta))
assert close(hessian, of_loss)
curvature = torch.linalg.eigvalsh(hessian)  # (20, 6), ascending
assert curvature[:, 0].abs().max() < 1e-12 and curvature[:, 1].min() > 1e-5

# %% tags=["proof"] checked_en="Checked on 20 random problems: J bends both ways in the logits, and downwards in the probabilities." checked_zh="在 20 个随机问题上验证：J 看作 logits 的函数，有的地方往上弯，有的地方往下弯；看作概率的函数，只往下弯。"
of_J = second_derivatives(
    lambda p, k: tabular.objective(p, Problem(ref[k], r[k]), beta)
)
p, worth = policies.exp(), r - beta * (policies - ref)  # J is the mean of `worth`
push = p * (worth - (p * worth).sum(-1, keepdim=True))  # the first derivatives of J
products = p[:, :, None] * push[:, None, :]
spread = p.diag_embed() - p[:, :, None] * p[:, None, :]
assert close(push.diag_embed() - products - products.mT - beta * spread, of_J)
bends = torch.linalg.eigvalsh(of_J)
assert bends[:, -1].max() > 1e-3 and bends[:, 0].min() < -1e-3
middle, *two_ends = (
    tabular.objective(probs.log(), problems, beta)
    for probs in ((p + optimum.exp()) / 2, p, optimum.exp())
)
assert (middle > sum(two_ends) / 2 + 1e-6).all()  # in the probabilities: downwards

# %% [markdown] lang="en"
# And if the pairs do not connect all answers? Compare two groups within themselves and never across: within each, every difference of rewards is learnt. How much probability a group gets, no pair says: from two starts one reaches two policies with the same loss.

# %% [markdown] lang="zh"
# 要是样本对没把所有回答连成一片呢？回答分两组，组内互相比较，从不跨组：组内的奖励差都学得到；每组分到多少概率，没有哪一对提过。从两个起点出发，到了两个不同的策略，损失却一样。

# %% tags=["proof"] checked_en="Checked on 20 random problems: two groups, never compared with each other: from two starts two policies, one loss." checked_zh="在 20 个随机问题上验证：两组回答互不比较，从两个起点出发，终点不同，损失相同。"
group = torch.tensor([0, 0, 0, 1, 1, 1])
together = (group[:, None] == group).double() * pairs["uniform"]
apart = tabular.comparisons(r, together / together.sum((-1, -2), keepdim=True))
one, other = (
    tabular.minimise(
        lambda s: tabular.dpo_loss(s.log_softmax(-1), ref, apart, beta), from_here
    ).log_softmax(-1)
    for from_here in (anywhere, policies)
)
losses = [tabular.dpo_loss(end, ref, apart, beta) for end in (one, other)]
assert close(*losses)
assert close(gaps(beta * (one - ref)) * together, gaps(r) * together)
shares = [end.exp()[:, :3].sum(-1) for end in (one, other)]
assert (shares[0] - shares[1]).abs().median() > 0.05  # undetermined between groups

# %% [markdown] lang="en"
# ## Quarrel one: what does a larger beta do?
# One asker saw $\beta$ "just" scale something: can it be ignored ([direct-preference-optimization issue 4](https://github.com/eric-mitchell/direct-preference-optimization/issues/4))? It sets the strength of the leash, an author answered. Two course texts had its direction wrong ([LLMs-from-scratch PR 818](https://github.com/rasbt/LLMs-from-scratch/pull/818), [smol-course PR 307](https://github.com/huggingface/smol-course/pull/307)). A user insists that a larger $\beta$ makes the updates *more* violent ([ms-swift issue 7285](https://github.com/modelscope/ms-swift/issues/7285)). Who is right?
#
# At the minimum, a larger $\beta$ means less KL: the policy is $\pi_{\mathrm{ref}}\,e^{r/\beta}$, normalised. At the start every prediction is $\frac12$, and the gradient is $\beta$ times the same vector: twice the $\beta$, twice the step.
#
# Now train on the twenty problems, soft labels, $\beta$ from 0.05 to 5: once by plain gradient steps (SGD), once by Adam ([Kingma & Ba 2015](https://arxiv.org/abs/1412.6980)), which divides each coordinate by a running estimate of its size.
#
# > **Before you run it.** After 20 steps, which way does the KL from the reference go as $\beta$ grows: with SGD, and with Adam?
#
# <details><summary>Answer</summary>
#
# With SGD it rises, over most of the range: the step carries the factor $\beta$. Adam divides that factor out, and there it falls.
#
# </details>

# %% [markdown] lang="zh"
# ## 争论一：beta 大了会怎样？
# 有人觉得 $\beta$「不过是」个缩放系数：能不能不管它（[direct-preference-optimization issue 4](https://github.com/eric-mitchell/direct-preference-optimization/issues/4)）？一位论文作者回答：它定的是绳子的松紧。有两份教程把方向写反了（[LLMs-from-scratch PR 818](https://github.com/rasbt/LLMs-from-scratch/pull/818)、[smol-course PR 307](https://github.com/huggingface/smol-course/pull/307)）。可还有人坚持：DPO 里 $\beta$ 越大，更新越*剧烈*（[ms-swift issue 7285](https://github.com/modelscope/ms-swift/issues/7285)）。谁对？
#
# 在最小值处，$\beta$ 越大，KL 越小：策略是 $\pi_{\mathrm{ref}}\,e^{r/\beta}$ 再归一化。在起点，预测都是 $\frac12$，梯度等于 $\beta$ 乘同一个向量：$\beta$ 加倍，步子也加倍。
#
# 现在训练：二十个问题，软标签，$\beta$ 从 0.05 到 5。一次用普通的梯度步（SGD），一次用 Adam（[Kingma & Ba 2015](https://arxiv.org/abs/1412.6980)），它把梯度的每个分量，除以这个分量大小的滑动估计。
#
# > **先猜一猜。** 走 20 步之后，$\beta$ 越大，离参考策略的 KL 是越大还是越小？SGD 怎样，Adam 又怎样？
#
# <details><summary>答案</summary>
#
# 用 SGD，在大半个范围里越大：步子里带着系数 $\beta$。Adam 把这个系数除掉了，所以越小。
#
# </details>

# %% tags=["proof"] checked_en="Checked on 20 random problems and six values of β: the KL of the optimum falls as β grows; the gradient at the start is β times one vector." checked_zh="在 20 个随机问题上验证：取六个 β，β 越大，最优解的 KL 越小；起点处的梯度是 β 乘同一个向量。"
six = torch.tensor([0.1, 0.2, 0.5, 1.0, 2.0, 5.0]).double()[:, None, None]  # (6, 1, 1)
tilted_logps = (ref + r / six).log_softmax(-1)
kl_of_optimum = tabular.kl(tilted_logps, ref)  # (6, 20)
highest = six[..., 0] * (ref + r / six).logsumexp(-1)  # V, which is J(π*)
mean_reward = tabular.mean(tilted_logps, r.expand(6, -1, -1))
assert close(kl_of_optimum, (mean_reward - highest) / six[..., 0])
assert (kl_of_optimum.diff(dim=0) < 0).all()
assert close(slope(ref, ref, wins, six), six * slope(ref, ref, wins, 1.0))


# %%
def descend(optimizer, rate, wins, beta, marks):
    """Log-probabilities after each number of steps in `marks`, from the reference."""
    sizes = ref.shape, wins.shape[:-1], torch.as_tensor(beta).shape
    logits, reached = ref.expand(torch.broadcast_shapes(*sizes)).clone(), {}
    optimizer = optimizer([logits], lr=rate)
    for step in range(1, max(marks) + 1):
        logits.grad = slope(logits, ref, wins, beta)
        optimizer.step()
        if step in marks:
            reached[step] = logits.log_softmax(-1)
    return reached


# %%
grid = torch.tensor(np.geomspace(0.05, 5, 21))[:, None, None]
wide = Problem(ref.expand(21, -1, -1), r.expand(21, -1, -1))
settled = tabular.kl(tabular.optimal_policy(wide, grid), ref).mean(-1)  # (21,)
optimizers = {"SGD": (torch.optim.SGD, 0.3), "Adam": (torch.optim.Adam, 0.01)}
faces = {}
show("beta", grid.flatten()[::5], 2)
for name, (optimizer, rate) in optimizers.items():
    steps = descend(optimizer, rate, wins, grid, (20, 200, 2000))
    faces[name] = {n: tabular.kl(logps, ref).mean(-1) for n, logps in steps.items()}
    for n, divergence in faces[name].items():
        show(f"KL, {name}, {n}", divergence[::5], 4)
show("KL of the optimum", settled[::5], 4)


# %% tags=["figure"] alt_en="Two panels, SGD and Adam: KL on a logarithmic axis against beta from 0.05 to 5. A line, the KL of the optimum, falls from 2 to 0.013. SGD: after 20 steps the points rise with beta by a factor of several hundred up to about beta 1.6 and then fall; after 200 steps the peak is at a smaller beta; after 2000 steps they lie on the line from beta 0.3 on, and below it at smaller values. Adam: after 20 steps the points fall slowly with beta, from 0.017 to 0.008; after 200 steps they fall faster; after 2000 steps they lie on the line." alt_zh="左右两幅，SGD 与 Adam：纵轴是 KL（对数刻度），横轴是 beta，从 0.05 到 5。一条线是最优解的 KL，从 2 降到 0.013。SGD：20 步后，点随 beta 上升几百倍，到 beta 约 1.6 后回落；200 步后，峰移到更小的 beta；2000 步后，beta 从 0.3 起，点都落在线上，更小处在线的下方。Adam：20 步后，点随 beta 缓缓下降，从 0.017 到 0.008；200 步后降得快些；2000 步后都落在线上。"
@picture
def two_faces(say):
    _, panels = figure(columns=2, width=7.6, height=3.6)
    for panel, (name, curves) in zip(panels, faces.items()):
        panel.loglog(grid.flatten(), settled, color=COLORS["theory"])
        panel.text(0.9, 0.6, say("optimum", "最优解"), color=COLORS["theory"])
        for (n, divergence), mark in zip(curves.items(), (":o", "--s", "-.^")):
            style = {"color": COLORS["policy"], "markersize": 4, "linewidth": 1}
            panel.loglog(grid.flatten(), divergence, mark, label=f"{n:,}", **style)
        panel.set_xlabel(say("strength of the leash, $\\beta$", "绳子的松紧 $\\beta$"))
        panel.set(title=say(f"{name} steps", f"{name} 的步子"), ylim=(1e-4, 5))
    panels[1].sharey(panels[0])
    panels[0].set_ylabel(say("KL from the reference (nats)", "离参考策略的 KL（奈特）"))
    steps = say("training steps", "训练步数")
    panels[0].legend(fontsize=9, loc="lower right", title=steps)


# %% [markdown] lang="en"
# **Figure 7.3.** The two faces of $\beta$. With SGD, 20 steps move the policy *more* the larger $\beta$ is, over most of the range; with Adam less. At the end both lie on the line, but for SGD at the smallest $\beta$.

# %% [markdown] lang="zh"
# **图 7.3** $\beta$ 的两副面孔。用 SGD 走 20 步，在大半个范围里 $\beta$ 越大走得*越远*；用 Adam 则越近。到最后，两者都落在线上，只有 SGD 在最小的几个 $\beta$ 处还没到。

# %% tags=["proof"] checked_en="Checked: what the caption of figure 7.3 says, and where SGD has not arrived." checked_zh="已验证：图 7.3 的图注所说的，以及 SGD 还没走到的地方。"
# concluded of two optimisers
sgd, adam = faces["SGD"], faces["Adam"]
assert sgd[20].argmax() == 15 and (sgd[20][:16].diff() > 0).all()
assert abs(grid[15].item() - 1.6) < 0.05 and sgd[20][15] / sgd[20][0] > 300
assert (adam[20].diff() < 0).all() and (adam[200].diff() < 0).all()
assert adam[20][0] / adam[20][-1] < 2.2
assert (adam[2000] / settled - 1).abs().max() < 0.1
assert (sgd[2000] / settled - 1)[8:].abs().max() < 0.03 and grid[8] < 0.32
assert 0.48 < sgd[2000][0] / settled[0] < 0.5

# %% [markdown] lang="en"
# Both are right, about different moments. $\beta$ is the strength of the leash at the minimum, and a factor in every plain gradient step. Adam, with which large models are trained, divides the factor out. But at a small $\beta$ a short training may stop long before the leash is felt: two values of $\beta$ compared after the same few steps are compared by speed.

# %% [markdown] lang="zh"
# 双方都对，说的是不同的时刻。在损失里，$\beta$ 身兼二职：在最小值处，它是绳子的松紧；在普通的梯度步里，它又是个系数。训练大模型用的 Adam 把这个系数除掉了。但要留个心眼：$\beta$ 小的时候，短短的训练可能早早停下，绳子还没绷紧；两个 $\beta$ 都训练同样的几步，就拿来相比，比的只是快慢。

# %% [markdown] lang="en"
# ## Quarrel two: what is left of the leash?
# With $q=1$ the loss has no minimum (figure 7.2). How can it hold anybody back? [Chapter 5](05_preferences.ipynb) told three kinds of label apart. *Soft*: the probability itself. *Sampled*: one draw from it. *Deterministic*: the better answer always wins.
#
# [Azar et al. 2024](https://arxiv.org/abs/2310.12036) say in their section 4.2 what the third does: the loser's probability becomes 0 whatever the leash. We run it.
#
# > **Before you run it.** Soft labels: each $\beta$ comes to rest at its own KL. Deterministic labels: where will $\beta$ 0.25, 1 and 4 come to rest?
#
# <details><summary>Answer</summary>
#
# Nowhere, until the best answer has all the probability: one place for all three. A larger $\beta$ only takes longer.
#
# </details>

# %% [markdown] lang="zh"
# ## 争论二：绳子还剩多少？
# 标签只说谁赢，也就是 $q=1$，损失就没有最小值（图 7.2），怎么拉得住策略？[第 5 章](05_preferences.ipynb)分清了三种标签。**软标签**（soft label）：概率本身。**采样标签**（sampled label）：按它抽一次。**确定性标签**（deterministic label）：好的总赢。
#
# [Azar et al. 2024](https://arxiv.org/abs/2310.12036) 在 4.2 节说了第三种的后果：不论绳子多紧，输家的概率都变成 0。我们跑一遍看看。
#
# > **先猜一猜。** 软标签下，每个 $\beta$ 都在自己的 KL 上停住。换成确定性标签，$\beta$ 取 0.25、1、4，各停在哪里？
#
# <details><summary>答案</summary>
#
# 一个也不停，直到最好的回答占了全部概率：三个奔的是同一处。$\beta$ 大，只是走得慢。
#
# </details>

# %%
kinds = ("soft", "deterministic")
two_kinds = torch.stack([tabular.comparisons(r, pairs["uniform"], k) for k in kinds])
three = torch.tensor([0.25, 1.0, 4.0], dtype=torch.float64)[:, None, None]
marks = sorted({round(step) for step in np.geomspace(1, 30_000, 40)})
# (2 kinds, 3 betas, 20 problems, 6 answers) at each mark
on_the_way = descend(torch.optim.SGD, 0.5, two_kinds[:, None], three, marks)
kl_of_kinds = torch.stack([tabular.kl(p, ref).mean(-1) for p in on_the_way.values()])
argmax_kl = -ref.gather(-1, r.argmax(-1, keepdim=True)).mean().item()
show("beta", three.flatten(), 2)
for kind, row in zip(kinds, kl_of_kinds[-1]):
    show(f"KL, {kind}", row, 2)
assert (kl_of_kinds[1:, 1] > kl_of_kinds[:-1, 1] - 1e-12).all()  # never turns back
assert abs(argmax_kl - 2.18) < 5e-3 and (kl_of_kinds[-1, 1, :2] > 2.1).all()


# %% tags=["figure"] alt_en="Two panels: KL against training steps from 1 to 30,000 on a logarithmic axis, for beta 0.25, 1 and 4. Left, soft labels: each curve rises and then stays on the horizontal line of its own optimum, at 1.53, 0.30 and 0.02. Right, deterministic labels: all three curves keep rising towards one common line at 2.18, the KL of always giving the best answer; beta 0.25 has reached it, beta 4 stands at 1.57." alt_zh="左右两幅：纵轴是 KL，横轴是训练步数，从 1 到 30,000，对数刻度，beta 取 0.25、1、4。左，软标签：每条曲线先升，再停在自己最优解的水平线上，在 1.53、0.30、0.02。右，确定性标签：三条曲线一直往上，朝同一条线去，那条线在 2.18，是永远给出最好回答时的 KL；beta 为 0.25 的已经到了，beta 为 4 的在 1.57。"
@picture
def leash_and_labels(say):
    _, panels = figure(columns=2, width=7.6, height=3.4)
    titles = say("soft labels", "软标签"), say("deterministic labels", "确定性标签")
    for kind, panel in enumerate(panels):
        for k, style in enumerate((":", "--", "-")):
            strength, curve = three[k].item(), kl_of_kinds[:, kind, k]
            color = COLORS["policy"]
            panel.semilogx(marks, curve, style, color=color, label=f"{strength:g}")
            best = tabular.optimal_policy(problems, strength)
            limit = argmax_kl if kind else tabular.kl(best, ref).mean()
            panel.axhline(limit, color=COLORS["theory"], linewidth=1.2, zorder=0)
        steps = say("training steps", "训练步数")
        panel.set(title=titles[kind], xlabel=steps, ylim=(-0.05, 2.4))
    panels[1].sharey(panels[0])
    panels[0].set_ylabel(say("KL from the reference (nats)", "离参考策略的 KL（奈特）"))
    panels[0].legend(fontsize=9, title=say("leash, $\\beta$", "绳子 $\\beta$"))
    best = say("always the best answer", "永远给出最好的回答")
    panels[1].text(1, 2.22, best, color=COLORS["theory"], size=9)
    for strength, y in ((0.25, 1.57), (1, 0.34), (4, 0.06)):
        of = say("optimum, ", "最优解，") if strength < 1 else ""
        words = f"{of}$\\beta$ = {strength}"
        panels[0].text(1, y, words, color=COLORS["theory"], size=9)


# %% [markdown] lang="en"
# **Figure 7.4.** KL during training, mean of the twenty problems. Left, soft labels: every $\beta$ stops at its own optimum. Right, deterministic labels: all go to one place, the policy that always gives the best answer. What $\beta$ sets is the speed.
#
# What is that worth? $J$ at $\beta=4$, of the reference, of the optimum, and where deterministic labels led:

# %% [markdown] lang="zh"
# **图 7.4** 训练中的 KL，二十个问题取平均。左，软标签：每个 $\beta$ 都停在自己的最优解。右，确定性标签：都往一个地方去，就是永远给出最好回答的策略。$\beta$ 定的只是快慢。
#
# 按目标 $J$ 打分，这值多少？取 $\beta=4$，算三个策略的 $J$：参考策略、最优解、确定性标签训出来的。

# %%
at_4 = torch.stack(
    [
        tabular.objective(logps, problems, 4.0).mean()
        for logps in (
            ref,
            tabular.optimal_policy(problems, 4.0),
            on_the_way[30_000][1, 2],
        )
    ]
)
show("J at beta 4", at_4, 2)
assert close(at_4, [-0.23, -0.15, -5.29], 6e-3)

# %% [markdown] lang="en"
# No success: on average the reference scores -0.23, the optimum -0.15, the policy of deterministic labels -5.29: more reward, and four times its KL to pay.
#
# Human verdicts are sampled labels: somebody decided, once. With enough of them on the same pairs the leash holds, because an answer that sometimes loses to a worse one has a finite best margin. Disagreement ties it.

# %% [markdown] lang="zh"
# 这可不算成功。参考策略自己平均得 -0.23，最优解得 -0.15，用确定性标签训出来的策略得 -5.29：奖励是多了，可每奈特 KL 要扣四分。
#
# 真人给的都是采样标签：一对回答，有人判一次，判完就记下来。同样的偏好对判的次数够多，绳子就拉得住：一个回答只要偶尔输给差一些的，最好的间隔就是有限的。绳子拉得住，靠的正是意见不一。

# %% [markdown] lang="en"
# ## ⋆ How many comparisons hold the leash?
# [Azar et al. 2024](https://arxiv.org/abs/2310.12036) add that few comparisons of a noisy judge look deterministic too. How few? Draw $N$ comparisons from the Bradley–Terry probabilities. Use each once, in batches of 10; or put them all into one table and take 20,000 steps on it. The number to watch is the shortfall $J(\pi^*)-J(\pi)$; the reference itself falls short by 0.581.

# %% [markdown] lang="zh"
# ## ⋆ 比较多少次，绳子才拉得住？
# [Azar et al. 2024](https://arxiv.org/abs/2310.12036) 还说，裁判就算有噪声，比较次数一少，看起来也像从不出错。少到什么程度？按 Bradley–Terry 概率抽 $N$ 次比较：要么每次比较只用一遍，每批 10 次；要么全放进一张表，在上面走 20,000 步。要看的是差额 $J(\pi^*)-J(\pi)$；参考策略自己差 0.581。


# %%
def shortfall(logps):
    """J of the optimum minus J of a policy, the mean of the twenty problems."""
    of_best = tabular.objective(optimum, problems, beta)
    return (of_best - tabular.objective(logps, problems, beta)).mean().item()


def one_pass(N, draw=0, shrinking=False):
    """The policy after N comparisons, each used once, and the table of their counts."""
    logits, seen = ref.clone(), 0
    for k in range(N // 10):
        batch = tabular.draw_comparisons(wins, 10, seed=N + k + 1_000_000 * draw)
        rate = 2.0 * (1 - k / (N // 10)) if shrinking else 2.0
        logits -= rate * slope(logits, ref, batch, beta)
        seen = seen + batch
    return logits.log_softmax(-1), seen


# %%
print("     N  one_pass  to_the_end  no_minimum  widest margin at 1,000 and 20,000")
outcome = {}
for N in (30, 300, 3000, 30_000):
    once, seen = one_pass(N)
    # i has beaten j, in however many steps
    beaten = ((seen > 0).double() + torch.eye(ANSWERS)).matrix_power(ANSWERS)
    endless = (beaten == 0).flatten(1).any(-1)  # no finite minimum
    ended = descend(torch.optim.SGD, 4.0, seen, beta, (1000, 20_000))
    widths = [gaps(beta * (p - ref)).amax((-1, -2))[endless] for p in ended.values()]
    widest = [w.mean().item() for w in widths if len(w)]
    outcome[N] = shortfall(once), shortfall(ended[20_000]), int(endless.sum()), widest
    line = "{:6} {:9.3f} {:11.4f} {:11}".format(N, *outcome[N][:3])
    print(line, *(f"{w:11.1f}" for w in widest))
truth = gaps(r).amax((-1, -2)).mean().item()
assert abs(shortfall(ref) - 0.581) < 5e-4 and abs(truth - 2.5) < 0.05
assert [row[2] for row in outcome.values()] == [7, 0, 0, 0]
assert close(outcome[30][3], [9.1, 14.2], 0.06)
assert close([row[0] for row in outcome.values()], [0.450, 0.073, 0.008, 0.014], 1e-3)
assert close([row[1] for row in outcome.values()], [0.298, 0.026, 0.002, 2e-4], 6e-4)

# %%
redrawn = {(N, s): [] for N in (3000, 30_000) for s in (False, True)}
for (N, shrinking), found in redrawn.items():
    found += [shortfall(one_pass(N, draw, shrinking)[0]) for draw in range(6)]
    show(f"{N:6} {'shrinking' if shrinking else 'constant'} steps", found, 4)
constant = redrawn[3000, False] + redrawn[30_000, False]
assert close([min(constant), max(constant)], [0.008, 0.018], 6e-4)
for N, most in ((3000, 0.005), (30_000, 0.002)):
    assert max(redrawn[N, True]) < most < min(redrawn[N, False])

# %% [markdown] lang="en"
# Here, with 300 comparisons or more, training to the end is safe, and the shortfall goes down as $1/N$. With 30 comparisons, in 7 of the 20 problems some answer, or group of answers, never lost to the rest. There the widest margin is 9.1 after 1,000 steps, 14.2 after 20,000, and still growing; the truth is 2.5.
#
# One pass over 30 comparisons goes less than a quarter of the way. One pass over many is good and not perfect: in six draws of each of the two larger $N$ the shortfall is 0.008 to 0.018, and which $N$ comes out lower is luck. The constant step size is to blame: let the steps shrink to 0 along the way, and all six draws end below 0.005 for the smaller $N$, below 0.002 for the larger.
#
# But in many public data sets each answer occurs in one pair, compared once: in a table, no finite best margin. Two things hold the policy then. It stops early. And its answers share parameters, so that a thousand similar pairs, decided this way and that, may act like one pair compared a thousand times.

# %% [markdown] lang="zh"
# 在这里，比较够 300 次，一直训练下去也安全，差额按 $1/N$ 下降。只有 30 次比较时，20 个问题里有 7 个，其中某个或某几个回答从没输给过其余的。这几个问题上，最宽的间隔 1,000 步后是 9.1，20,000 步后是 14.2，还在涨，而真值是 2.5。
#
# 30 次比较只过一遍，路走了不到四分之一。比较多了，过一遍就不错，但不完美：较大的两个 $N$ 各重抽六回，差额都在 0.008 到 0.018 之间，谁高谁低看运气。毛病出在步长不变：让步长一路缩到 0，两个 $N$ 各六回，较小的 $N$ 都降到 0.005 以下，较大的都降到 0.002 以下。
#
# 可是许多公开的数据集里，每个回答只出现在一对里，只比过一次：当成表来看，最好的间隔都不是有限的。这时拉住策略的是另外两样。一是停得早。二是回答共用参数：一千个相似的偏好对，有的判这边，有的判那边，作用可能就像同一对比了一千次。

# %% [markdown] lang="en"
# ## Quarrel three: the wrong reference
# Which model's log-probabilities belong in the loss, people ask ([LlamaFactory issue 6314](https://github.com/hiyouga/LlamaFactory/issues/6314)). Those of the model that the policy is to stay near, usually the one it starts from. What if another is taken? Let the loss be given $g(x,y)$ where $\log\pi_{\mathrm{ref}}(y\mid x)$ should stand.
#
# **A shift per prompt**, $g=\log\pi_{\mathrm{ref}}+c(x)$. Only differences within a prompt enter $h$. Nothing changes.
#
# **Another policy**, $g=\log\pi'$. The minimiser fulfils equation 7.3 with $\pi'$ in the place of $\pi_{\mathrm{ref}}$: it is $\pi'e^{r/\beta}$, normalised, the other model, tilted. The leash is tied to the wrong post, and $J$ loses $\beta\,\mathrm{KL}(\pi\,\|\,\pi^*)$ (fact 4). In the example, with $\pi'$ uniform:

# %% [markdown] lang="zh"
# ## 争论三：参考策略弄错了
# 损失里该用哪个模型的对数概率？有人这样问（[LlamaFactory issue 6314](https://github.com/hiyouga/LlamaFactory/issues/6314)）。要策略别离开哪个模型，就用哪个，通常就是训练的起点。用错了又会怎样？假设该放 $\log\pi_{\mathrm{ref}}(y\mid x)$ 的地方，放的是 $g(x,y)$。
#
# **每个提示各平移一截**，$g=\log\pi_{\mathrm{ref}}+c(x)$。进入 $h$ 的只有同一提示里的差，什么也不变。
#
# **换了一个策略**，$g=\log\pi'$。最小值处的策略满足式 7.3，只是 $\pi'$ 占了 $\pi_{\mathrm{ref}}$ 的位置：它是 $\pi'e^{r/\beta}$ 再归一化，即另一个模型按奖励重新加权。绳子拴错了桩，$J$ 要损失 $\beta\,\mathrm{KL}(\pi\,\|\,\pi^*)$（第 4 条）。在例子里，让 $\pi'$ 是均匀的：

# %%
uniform = torch.full((3,), 1 / 3).double().log()
s = toy.ref_logps.clone()  # training starts from the true reference
for _ in range(4_000):
    s -= 0.5 * slope(s, uniform, of_toy[0], beta)
wrong_post = s.log_softmax(-1)
show("reached", wrong_post.exp())
assert close(wrong_post, (toy.reward / beta).log_softmax(-1), 1e-6)
lost = [tabular.objective(p, toy, beta) for p in (toy_optimum, wrong_post)]
assert close(lost[0] - lost[1], beta * tabular.kl(wrong_post, toy_optimum))

# %% [markdown] lang="en"
# ## ⋆ A reference with noise
# **Noise per answer**, $g=\log\pi_{\mathrm{ref}}+\nu(y)$, such as comes from rounding, or from dropout (which in training switches off random parts of a network) left on while the reference's log-probabilities are computed once and stored. It is the second case with $\pi'\propto\pi_{\mathrm{ref}}\,e^{\nu}$: the minimiser is $\pi^*e^{\nu}$, normalised.
#
# Every difference within a prompt carries the error on, a nat for a nat, whatever $\beta$ is. (A reference that is computed anew in each step, dropout on, draws fresh noise each time: that is not this case.)

# %% [markdown] lang="zh"
# ## ⋆ 带噪声的参考策略
# **每个回答各有噪声**，$g=\log\pi_{\mathrm{ref}}+\nu(y)$，比如舍入带来的；又比如参考策略的对数概率只算一遍、存下来用，算的时候却忘了关 dropout（训练时随机关掉一部分单元）。这就是第二种情形，$\pi'\propto\pi_{\mathrm{ref}}\,e^{\nu}$：最小值处的策略是 $\pi^*e^{\nu}$ 再归一化。
#
# 同一个提示里的差，参考策略错一奈特，策略就错一奈特，$\beta$ 多大都一样。（若参考策略每步现算，dropout 开着，噪声就每次都不同，不属于这种情形。）

# %% tags=["proof"] checked_en="Checked on 20 random problems: a shift per prompt, another policy, and noise at three values of β." checked_zh="在 20 个随机问题上验证：每个提示平移一截；换一个策略；三个 β 下的噪声。"
normal = torch.Generator().manual_seed(SEED)
c = 3 * torch.randn(INSTANCES, 1, generator=normal, dtype=torch.float64)
as_before = tabular.dpo_loss(policies, ref, wins, beta)
assert close(tabular.dpo_loss(policies, ref + c, wins, beta), as_before)


def end_of(given_ref, strength):
    """The minimiser of the loss that is given `given_ref` for the reference."""
    return tabular.minimise(
        lambda s: tabular.dpo_loss(s.log_softmax(-1), given_ref, wins, strength),
        anywhere,
    ).log_softmax(-1)


another = tabular.random_policies(INSTANCES, ANSWERS, seed=SEED + 300)
ended_at = end_of(another, beta)
assert close(ended_at, (another + r / beta).log_softmax(-1))  # tilted
lost = [tabular.objective(p, problems, beta) for p in (optimum, ended_at)]
assert close(lost[0] - lost[1], beta * tabular.kl(ended_at, optimum))
nu = 0.3 * torch.randn(ref.shape, generator=normal, dtype=torch.float64)
for strength in (0.1, 0.5, 2.0):
    off = end_of(ref + nu, strength) - tabular.optimal_policy(problems, strength)
    assert close(gaps(off), gaps(nu))  # one to one, at every beta

# %% [markdown] lang="en"
# ## When answers share parameters
# A network has far fewer parameters than answers: what it learns about one, it applies to others. The smallest model: each answer $y$ has a vector of features $\phi_y$, and its logit is $s_y=\log\pi_{\mathrm{ref}}(y)+\phi_y\cdot\theta$, with one vector of parameters $\theta$ for all.
#
# Take one pair and one step down the gradient. In a table the pair pulls on its own two logits alone. With the pull $a=\beta\,(q-\sigma(h))>0$ (at $q=1$ that of figure 7.2) and $t$ for time, the two logits move at speeds $a$ and $-a$. A log-probability moves at its logit's speed minus the mean speed under $\pi$, here $a\,(\pi_w-\pi_l)$. So the chosen answer *must* gain:
#
# $$\frac{d}{dt}\log\pi_w=a\,(1-\pi_w+\pi_l)>0.$$
#
# With shared parameters $\theta$ moves along $\phi_w-\phi_l$, and *every* answer $k$ moves, in a pair or not:
#
# $$\frac{d s_k}{dt}=a\;\phi_k\cdot(\phi_w-\phi_l)\tag{7.11}.$$
#
# It moves by its shadow on that one direction.
#
# > **Before you run it.** Look at the arrows on the left of figure 7.5. The pair's two answers are alike, $y_3$ is in no pair, and the step goes along the dashed arrow. Which answer rises fastest?
#
# <details><summary>Answer</summary>
#
# $y_3$. The chosen and the rejected answer are nearly alike, so neither has much of a shadow on their difference; $y_3$ lies far out in just that direction.
#
# </details>

# %% [markdown] lang="zh"
# ## 回答共用参数时
# 网络的参数远比回答少：在一个回答上学到的，会用到别的回答上。要说明这一点，最小的模型是这样：每个回答 $y$ 有一个特征向量 $\phi_y$，logit 是 $s_y=\log\pi_{\mathrm{ref}}(y)+\phi_y\cdot\theta$，参数向量 $\theta$ 大家共用。
#
# 拿一个偏好对，沿负梯度走一步。在表里，这一对只拉自己的两个 logits，别的都不动。设拉力 $a=\beta\,(q-\sigma(h))>0$（$q=1$ 时就是图 7.2 的拉力），时间记作 $t$，两个 logits 的速度是 $a$ 和 $-a$。对数概率的速度，等于自己 logit 的速度减去各个 logit 按 $\pi$ 平均的速度，这里平均是 $a\,(\pi_w-\pi_l)$。所以 chosen 的概率*必定*上升：
#
# $$\frac{d}{dt}\log\pi_w=a\,(1-\pi_w+\pi_l)>0$$
#
# 共用参数时，$\theta$ 沿 $\phi_w-\phi_l$ 移动，*每个*回答 $k$ 都跟着动，不管它在不在哪一对里：
#
# $$\frac{d s_k}{dt}=a\;\phi_k\cdot(\phi_w-\phi_l)\tag{7.11}$$
#
# 动多少，看它在这个方向上的投影有多长。
#
# > **先猜一猜。** 看图 7.5 左边的箭头。偏好对里的两个回答很像，$y_3$ 不在任何一对里，这一步沿虚线箭头走。三个回答里哪个升得最快？
#
# <details><summary>答案</summary>
#
# $y_3$。chosen 和 rejected 差不多一样，在两者之差的方向上都没有多少投影；$y_3$ 偏偏在这个方向上伸得很远。
#
# </details>

# %%
start = torch.tensor([0.3, 0.5, 0.2]).double().log()  # chosen, rejected, y_3
vectors = {
    "table": torch.eye(3).double(),
    "shared": torch.tensor([[1, 0], [0.9, 0.5], [0, -1]], dtype=torch.float64),
}
traces = {}
for name, phi_toy in vectors.items():
    theta, traces[name] = torch.zeros(phi_toy.shape[1]).double(), []
    for _ in range(301):
        logps = (start + phi_toy @ theta).log_softmax(-1)
        traces[name].append(logps.exp())
        h = beta * ((logps - start)[0] - (logps - start)[1])
        theta = theta + 0.2 * beta * torch.sigmoid(-h) * (phi_toy[0] - phi_toy[1])
    traces[name] = torch.stack(traces[name])  # (301, 3)
    show(f"{name}: end, h", [*traces[name][-1], h], 2)
    assert h > 1  # the margin grows in both
assert close(traces["table"][-1], [0.97, 0.00, 0.02], 6e-3)
assert close(traces["shared"][-1], [0.03, 0.00, 0.97], 6e-3)
shadows = vectors["shared"] @ (vectors["shared"][0] - vectors["shared"][1])
assert shadows.argmax() == 2 and close(shadows, [0.1, -0.16, 0.5])


# %% tags=["figure"] alt_en="Two panels. Left: three arrows from the origin in the plane of two features. Chosen points to (1, 0), rejected, close beside it, to (0.9, 0.5), the third answer straight down to (0, -1). A dashed arrow, the direction of the step, chosen minus rejected, points down to (0.1, -0.5), nearly along the third answer. Right: probabilities against training steps. With shared parameters the chosen answer starts at 0.3, ends at 0.03; the rejected one falls to 0; the third answer rises from 0.2 to 0.97. A thin dashed line shows the chosen answer in a table, rising from 0.3 to 0.97." alt_zh="左右两幅。左：两个特征的平面上，从原点画出三支箭头。chosen 指向 (1, 0)；rejected 紧挨着它，指向 (0.9, 0.5)；第三个回答笔直向下，指向 (0, -1)。一支虚线箭头是这一步的方向，即 chosen 减 rejected，指向下方 (0.1, -0.5)，几乎与第三个回答同向。右：概率随训练步数的变化。共用参数时，chosen 从 0.3 起，止于 0.03；rejected 降到 0；第三个回答从 0.2 升到 0.97。细虚线是表里的 chosen，从 0.3 升到 0.97。"
@picture
def shared_features(say):
    _, (left, right) = figure(columns=2, width=7.6, height=3.7)
    third = say("$y_3$, in no pair", "$y_3$，不在任何一对里")
    names, phi_toy = ("chosen", "rejected", third), vectors["shared"]
    hues = [COLORS[name] for name in ("chosen", "rejected", "ref")]
    spots = ((0.72, -0.16), (0.55, 0.56), (-0.42, -1.2))
    for (x, y), name, hue, spot in zip(phi_toy, names, hues, spots):
        arrow = {"arrowstyle": "-|>", "color": hue, "linewidth": 2}
        left.annotate("", (x, y), (0, 0), arrowprops=arrow)
        left.text(*spot, name, color=hue)
    arrow = {"arrowstyle": "-|>", "color": INK, "linewidth": 1.6, "linestyle": "--"}
    left.annotate("", phi_toy[0] - phi_toy[1], (0, 0), arrowprops=arrow)
    left.text(0.16, -0.52, say("the step", "这一步的方向"))
    left.set(xlim=(-0.5, 1.3), ylim=(-1.35, 0.8), aspect="equal")
    left.set_xlabel(say("first feature", "特征一"))
    left.set_ylabel(say("second feature", "特征二"))
    for curve, hue in zip(traces["shared"].T, hues):
        right.plot(curve, color=hue)
    for (x, y), name, hue in zip(((150, 0.17), (22, 0.08), (128, 0.6)), names, hues):
        right.text(x, y, name, color=hue)
    right.plot(traces["table"][:, 0], "--", color=hues[0], linewidth=1)
    right.text(105, 1.01, say("chosen, in a table", "表里的 chosen"), color=hues[0])
    right.set(xlabel=say("training steps", "训练步数"), ylim=(-0.03, 1.1))
    right.set_ylabel(say("probability", "概率"))


# %% [markdown] lang="en"
# **Figure 7.5.** One pair, trained 300 steps. Left: the feature vectors, and the direction $\phi_w-\phi_l$ in which the pair moves $\theta$. Right: the margin grows as it should, and the probability goes to $y_3$, which nobody preferred. In a table (thin, dashed) the chosen answer takes it.

# %% [markdown] lang="zh"
# **图 7.5** 一对回答，训练 300 步。左：三个特征向量，以及这一对推动 $\theta$ 的方向 $\phi_w-\phi_l$。右：间隔照常增大，概率却归了 $y_3$，可谁也没说过 $y_3$ 好。换成一张表（细虚线），概率归 chosen。

# %% [markdown] lang="en"
# This is the mechanism of **likelihood displacement** in [Razin et al. 2025](https://arxiv.org/abs/2410.08847): pairs with similar embeddings drive it, and the probability may go to an answer of the opposite meaning.

# %% [markdown] lang="zh"
# [Razin et al. 2025](https://arxiv.org/abs/2410.08847) 讲的**似然位移**（likelihood displacement），就是这个机制：一对里的两个回答，嵌入越相似，越会引起它；概率可能流向意思相反的回答。

# %% tags=["proof"] checked_en="Checked on 20 random problems with two features an answer: both speeds, against autograd." checked_zh="在 20 个随机问题上验证：每个回答两个特征，两个速度都与自动求导一致。"
normal = torch.Generator().manual_seed(SEED)
phi = torch.randn(INSTANCES, ANSWERS, 2, generator=normal, dtype=torch.float64)
leaf = policies.clone().requires_grad_()
h = beta * ((leaf - ref)[:, 2] - (leaf - ref)[:, 4])  # 2 chosen, 4 rejected
(uphill,) = torch.autograd.grad(pair_loss(h, 1.0).sum(), leaf)
pull = beta * torch.sigmoid(-h.detach())
assert close(uphill[:, 2], -pull) and close(uphill[:, 4], pull)
t = torch.zeros(INSTANCES, dtype=torch.float64, requires_grad=True)
moved = (policies - t[:, None] * uphill).log_softmax(-1)  # down the gradient
(gain,) = torch.autograd.grad(moved[:, 2].sum(), t)
probs = policies.exp()
assert close(gain, pull * (1 - probs[:, 2] + probs[:, 4])) and (gain > 0).all()
leaf = torch.randn(INSTANCES, 2, dtype=torch.float64, generator=normal)
theta = leaf.requires_grad_()
by_features = (phi @ theta.unsqueeze(-1)).squeeze(-1)
h = beta * (by_features[:, 2] - by_features[:, 4])
(uphill,) = torch.autograd.grad(pair_loss(h, 1.0).sum(), theta)
speeds = (phi @ -uphill.unsqueeze(-1)).squeeze(-1)  # of every logit
shadow = (phi @ (phi[:, 2] - phi[:, 4]).unsqueeze(-1)).squeeze(-1)
assert close(speeds, beta * torch.sigmoid(-h.detach())[:, None] * shadow)

# %% [markdown] lang="en"
# ## ⋆ What sharing does to the minimum
# There may be no $\theta$ that gives every pair its right margin. Then the pairs must compromise, and those that occur more often weigh more. Loss minus entropy of the labels is an average, over the pairs, of the KL divergence between two coins (as above). So of all policies that $\theta$ can reach, the minimum is the one whose predictions are nearest to the truth *on the pairs drawn*. [Gopalan et al. 2025](https://arxiv.org/abs/2510.20413) call DPO misspecified in this case, and show that it can end worse than it began, without any noise in the labels.
#
# Here $h$ is linear in $\theta$, so the loss is still convex and has no false valleys. $J$ has no such guarantee: it has false summits; below, a grid of some 1,200 values of $\theta$ says where to start climbing.
#
# In our twenty problems with two features, each pair distribution has its own minimum, and none comes up to the best $J$ found.

# %% [markdown] lang="zh"
# ## ⋆ 共用参数时，最小值在哪里
# 可能没有哪个 $\theta$ 让每一对的间隔都恰好到位。各对只好互相迁就，出现多的，分量就重。损失减去标签的熵，等于两枚硬币之间的 KL 散度（同上），再对样本对取平均。所以在 $\theta$ 够得着的策略里，最小值选中的，是*在抽到的样本对上*预测最接近真相的那个。[Gopalan et al. 2025](https://arxiv.org/abs/2510.20413) 把这种情形叫作 DPO 的误设（misspecified），并且证明：哪怕标签毫无噪声，结果也可能比起点还差。
#
# 这里 $h$ 是 $\theta$ 的线性函数，所以损失仍是凸的，没有假的谷底。$J$ 没有这样的保证，它有假的山顶；要找最高处，下面先把 1,200 个左右的 $\theta$ 排成网格，看从哪里起步，再往上爬。
#
# 我们这二十个问题，每个回答取两个特征：每种配对分布各有各的最小值，论 $J$，都不及搜索找到的最高水平。


# %% tags=["proof"] checked_en="Checked on 20 random problems, two features an answer: J climbed from the reference and from the best of a grid is at least that of the grid." checked_zh="在 20 个随机问题上验证：每个回答两个特征；从参考策略、从网格里最好的一点，两处出发去爬 J，爬到的不低于整个网格。"
def reach(theta):
    """The policy of features phi and parameters theta."""
    return (ref + (phi @ theta.unsqueeze(-1)).squeeze(-1)).log_softmax(-1)


def climb(begin):
    return reach(
        tabular.minimise(lambda t: -tabular.objective(reach(t), problems, beta), begin)
    )


zero = torch.zeros(INSTANCES, 2, dtype=torch.float64)
angles = torch.linspace(0, 2 * math.pi, 49).double()[:-1]
radii = torch.cat((torch.zeros(1), torch.logspace(-1, 2, 25))).double()
rays = torch.stack((angles.cos(), angles.sin()), -1)
thetas = (radii[:, None, None] * rays).view(-1, 1, 2)  # (1248, 1, 2)
J_grid = tabular.objective(reach(thetas), problems, beta)  # (1248, 20)
climbed = [climb(begin) for begin in (zero, thetas[J_grid.argmax(0), 0])]
J_climbed = torch.stack([tabular.objective(p, problems, beta) for p in climbed])
J_best = J_climbed.amax(0)  # (20,)
assert (J_best >= J_grid.amax(0) - 1e-9).all()

# %% tags=["proof"] checked_en="Checked on 20 random problems, three pair distributions: each minimum is a compromise, the least of all θ on its own pairs, and below the best J." checked_zh="在 20 个随机问题上验证：三种配对分布，每个最小值都是折中，在自己的样本对上胜过所有 θ，论 J 则不及最高水平。"
judged_by = {name: tabular.comparisons(r, drawn) for name, drawn in pairs.items()}
shared = {}
for name, judged in judged_by.items():
    found = tabular.minimise(
        lambda t: tabular.dpo_loss(reach(t), ref, judged, beta), zero
    )
    shared[name] = reach(found)
    left_over = phi.mT @ slope(shared[name], ref, judged, beta).unsqueeze(-1)
    assert close(left_over, 0)
    least = tabular.dpo_loss(shared[name], ref, judged, beta)
    everywhere = tabular.dpo_loss(reach(thetas), ref, judged, beta)
    assert (everywhere >= least - 1e-12).all()
    label = torch.sigmoid(gaps(r))
    predicted_label = torch.sigmoid(gaps(beta * (shared[name] - ref)))
    coins = torch.xlogy(label, label / predicted_label)
    coins = coins + torch.xlogy(1 - label, (1 - label) / (1 - predicted_label))
    above_floor = least - tabular.bradley_terry_nll(r, judged)
    assert close(above_floor, (pairs[name] * coins).sum((-1, -2)))
    assert (above_floor > 1e-6).all()
    assert (tabular.objective(shared[name], problems, beta) < J_best).all()

# %% tags=["proof"] checked_en="Checked on 20 random problems: three pair distributions, three minima, each the best on its own pairs." checked_zh="在 20 个随机问题上验证：三种配对分布，三个最小值，各在自己的样本对上最好。"
on_table = torch.stack(
    [
        torch.stack([tabular.dpo_loss(p, ref, judged, beta) for p in shared.values()])
        for judged in judged_by.values()
    ]
)
against_own = on_table - on_table.diagonal().mT[:, None]  # (3, 3, 20)
assert (against_own[~torch.eye(3, dtype=torch.bool)] > 1e-7).all()
first, second, third = shared.values()
couples = (first, second), (first, third), (second, third)
assert min(tabular.kl(a, b).min() for a, b in couples) > 1e-5

# %%
J_of = {
    "reference": tabular.objective(ref, problems, beta),
    "optimum of a table": tabular.objective(optimum, problems, beta),
    "best J found": J_best,
    "climbed from ref": J_climbed[0],
} | {
    f"DPO, {name}": tabular.objective(logps, problems, beta)
    for name, logps in shared.items()
}
print(f"{'':22} mean J   problems below the reference")
for name, values in J_of.items():
    below = int((values < J_of["reference"] - 1e-9).sum())
    print(f"{name:22} {values.mean().item():6.2f} {below:4}")
means = torch.stack([values.mean() for values in J_of.values()])
assert close(means, [-0.23, 0.35, 0.22, 0.20, 0.05, 0.04, 0.07], 6e-3)
worse = [int((v < J_of["reference"]).sum()) for v in list(J_of.values())[4:]]
assert worse == [1, 2, 0] and int((J_climbed[0] < J_best - 0.1).sum()) == 2

# %% [markdown] lang="en"
# With two features DPO keeps only a part of what could be had, and how much depends on how the pairs were drawn. In one problem (uniform pairs) and in two (drawn from the reference) it ends below the reference. (Climbing $J$ from the reference alone one gets stuck in two problems.)

# %% [markdown] lang="zh"
# 只用两个特征，能得的好处，DPO 只得到一部分，得多少还要看怎么配对。均匀配对时有一个问题、从参考策略抽时有两个问题，结果比参考策略还低。（爬 $J$ 时若只从参考策略出发，有两个问题会卡住。）

# %% [markdown] lang="en"
# ## Quarrel four: why does the chosen answer fall?
# Asked most often: the log-probability of the chosen answers sinks during training; is that a bug ([direct-preference-optimization issue 32](https://github.com/eric-mitchell/direct-preference-optimization/issues/32), [TRL issue 800](https://github.com/huggingface/trl/issues/800), [LlamaFactory issue 6153](https://github.com/hiyouga/LlamaFactory/issues/6153))? The loss allows it ([Pal et al. 2024](https://arxiv.org/abs/2402.13228)), and the choice of the reference matters ([Rafailov et al. 2024](https://arxiv.org/abs/2404.12358)). Shared parameters are one cause. Two more are in the optimum itself.
#
# **Better than its opponent is not good enough.** At the optimum $\Delta(y)=(r(x,y)-V(x))/\beta$: an answer gains exactly if its reward is above $V(x)$, which comes the nearer to the highest reward the smaller $\beta$ is. An answer may beat its opponent and still be below $V$.
#
# **An average answer of the reference must fall.** Take any policy $\pi$, average its log-ratio over draws from $\pi_{\mathrm{ref}}$, and turn the fraction over:
#
# $$\mathbb{E}_{y\sim\pi_{\mathrm{ref}}}\Big[\log\frac{\pi(y\mid x)}{\pi_{\mathrm{ref}}(y\mid x)}\Big]=-\mathbb{E}_{y\sim\pi_{\mathrm{ref}}}\Big[\log\frac{\pi_{\mathrm{ref}}(y\mid x)}{\pi(y\mid x)}\Big]=-\mathrm{KL}(\pi_{\mathrm{ref}}\,\|\,\pi)\le 0.$$
#
# Any change of the policy, good or bad, does this. (It is the *forward* KL.) If both answers of a pair are drawn from the reference, their log-ratios, averaged over the pairs, sum to $-2\,\mathrm{KL}(\pi_{\mathrm{ref}}\,\|\,\pi)$. Their difference is the mean of $m$. Half the sum plus or minus half the difference is
#
# $$\overline{\Delta}_w=\tfrac12\,\overline m-\mathrm{KL}(\pi_{\mathrm{ref}}\,\|\,\pi),\qquad\overline{\Delta}_l=-\tfrac12\,\overline m-\mathrm{KL}(\pi_{\mathrm{ref}}\,\|\,\pi),$$
#
# where the bars are means over the pairs. So the chosen answers fall, on average, exactly when the forward KL exceeds half of $\overline m$.
#
# > **Before you run it.** At the optimum of the example the labels are right and the policy is the best there is. Does an average chosen answer rise or fall?
#
# <details><summary>Answer</summary>
#
# It falls. The forward KL is 0.79, and half the mean difference of log-ratios is only 0.50.
#
# </details>

# %% [markdown] lang="zh"
# ## 争论四：chosen 为什么会降？
# 问得最多的就是这个：训练中 chosen 的对数概率往下掉，是不是有 bug（[direct-preference-optimization issue 32](https://github.com/eric-mitchell/direct-preference-optimization/issues/32)、[TRL issue 800](https://github.com/huggingface/trl/issues/800)、[LlamaFactory issue 6153](https://github.com/hiyouga/LlamaFactory/issues/6153)）？损失允许这样（[Pal et al. 2024](https://arxiv.org/abs/2402.13228)），降不降还与参考策略的选择有关（[Rafailov et al. 2024](https://arxiv.org/abs/2404.12358)）。共用参数是一个原因。还有两个，都在最优解里。
#
# **赢了对手，还不够好。** 在最优解处 $\Delta(y)=(r(x,y)-V(x))/\beta$：一个回答的概率上升，当且仅当它的奖励高于 $V(x)$；$\beta$ 越小，$V$ 离最高的奖励越近。一个回答可以赢了对手，却仍在 $V$ 之下。
#
# **参考策略自己的回答，平均起来必降。** 任取一个策略 $\pi$，从 $\pi_{\mathrm{ref}}$ 里抽回答，对它的对数比取平均，再把分式倒过来：
#
# $$\mathbb{E}_{y\sim\pi_{\mathrm{ref}}}\Big[\log\frac{\pi(y\mid x)}{\pi_{\mathrm{ref}}(y\mid x)}\Big]=-\mathbb{E}_{y\sim\pi_{\mathrm{ref}}}\Big[\log\frac{\pi_{\mathrm{ref}}(y\mid x)}{\pi(y\mid x)}\Big]=-\mathrm{KL}(\pi_{\mathrm{ref}}\,\|\,\pi)\le 0$$
#
# 训练不论好坏，只要策略动了，就是如此。（这是*正向* KL。）如果一对里的两个回答都从参考策略抽，它们的对数比，对所有的样本对取平均，加起来就是 $-2\,\mathrm{KL}(\pi_{\mathrm{ref}}\,\|\,\pi)$；相减，则是 $m$ 的平均。和的一半，加上或减去差的一半，就是
#
# $$\overline{\Delta}_w=\tfrac12\,\overline m-\mathrm{KL}(\pi_{\mathrm{ref}}\,\|\,\pi),\qquad\overline{\Delta}_l=-\tfrac12\,\overline m-\mathrm{KL}(\pi_{\mathrm{ref}}\,\|\,\pi)$$
#
# 上面加横线的，都是对样本对取的平均。所以 chosen 平均起来下降，当且仅当正向 KL 大过 $\overline m$ 的一半。
#
# > **先猜一猜。** 在例子的最优解处，标签没错，策略也是最好的那个。chosen 平均起来是升还是降？
#
# <details><summary>答案</summary>
#
# 降。正向 KL 是 0.79，而 $m$ 平均值的一半只有 0.50。
#
# </details>

# %%
forward = tabular.kl(toy.ref_logps, toy_optimum)
from_ref = tabular.comparisons(
    toy.reward, both_from_ref
)  # [i, j]: i chosen, j rejected
chosen_moves, rejected_moves = from_ref.sum(1) @ toy_ratio, from_ref.sum(0) @ toy_ratio
mean_m = (from_ref * gaps(toy_ratio)).sum()
show("forward KL, m / 2", [forward, mean_m / 2], 2)
show("chosen, rejected", [chosen_moves, rejected_moves], 2)
assert close(toy.ref_logps.exp() @ toy_ratio, -forward, 1e-6)  # the law
assert close(chosen_moves, mean_m / 2 - forward, 1e-6)
assert close(rejected_moves, -mean_m / 2 - forward, 1e-6)
assert close([forward, mean_m / 2], [0.79, 0.50], 5e-3)
assert close([chosen_moves, rejected_moves], [-0.29, -1.29], 5e-3)

# %% tags=["proof"] checked_en="Checked on 20 random problems, for any policies and for the optima: the law, both halves, and that exactly the answers above V gain." checked_zh="在 20 个随机问题上验证：任意的策略和最优解，都合这条定律和两个等式；上升的，恰好是奖励高于 V 的回答。"
drawn_twice = tabular.comparisons(r, tabular.independent_pairs(ref, ref))  # (20, 6, 6)
for policy in (policies, optimum):
    ratio, forward_kl = policy - ref, tabular.kl(ref, policy)
    assert close((ref.exp() * ratio).sum(-1), -forward_kl) and (forward_kl > 0).all()
    of_chosen, of_rejected = (drawn_twice.sum(k) * ratio for k in (-1, -2))
    mean_difference = (drawn_twice * gaps(ratio)).sum((-1, -2))
    assert close(of_chosen.sum(-1), mean_difference / 2 - forward_kl)
    assert close(of_rejected.sum(-1), -mean_difference / 2 - forward_kl)
soft_maxima = []
for strength in (2.0, 0.5, 0.1):
    high = strength * tabular.log_partition(problems, strength)[:, None]
    gained = tabular.optimal_policy(problems, strength) - ref
    assert close(gained, (r - high) / strength)
    assert ((gained > 0) == (r > high)).all()
    assert (high[:, 0] >= tabular.mean(ref, r)).all()
    assert (high[:, 0] <= r.amax(-1)).all()
    soft_maxima.append(high)
assert (soft_maxima[0] < soft_maxima[1]).all()  # nearer to the highest, ...
assert (soft_maxima[1] < soft_maxima[2]).all()  # ... the smaller beta

# %% [markdown] lang="en"
# How common is it? In the twenty problems, pairs uniform, we count the chosen answers that fall at the optimum, and the pairs of which both answers fall.

# %% [markdown] lang="zh"
# 这有多常见？在二十个问题里，均匀配对，数一数：有多少 chosen，最优解反而让它的概率下降；又有多少个偏好对，两个回答都降。

# %%
print("beta   chosen falls   both fall")
falls = {}
for strength in (0.1, 0.5, 2.0):
    falling = (tabular.optimal_policy(problems, strength) < ref).double()  # (20, 6)
    chosen = (wins * falling[:, :, None]).sum((-1, -2)).mean().item()
    both = falling[:, :, None] * falling[:, None, :]
    both = (wins * both).sum((-1, -2)).mean().item()
    falls[strength] = round(chosen, 2), round(both, 2)
    print(f"{strength:4} {chosen:12.2f} {both:13.2f}")
assert falls == {0.1: (0.69, 0.61), 0.5: (0.56, 0.47), 2.0: (0.37, 0.26)}

# %% [markdown] lang="en"
# At $\beta=0.5$ more than half of the chosen answers *should* fall. A falling `logps/chosen` by itself is no fault; what matters is where the probability goes ([chapter 9](09_dpo.ipynb) measures it). Suspect a fault if sampled answers get worse and answers in no pair rise, or if the tokens counted are not those of the answer ([chapter 8](08_tensors.ipynb)).

# %% [markdown] lang="zh"
# $\beta=0.5$ 时，半数以上的 chosen *理应*下降。所以 `logps/chosen` 下降，本身不说明哪里有错；要看概率去了哪里（[第 9 章](09_dpo.ipynb)会去量）。什么时候该起疑？采样出来的回答变差了，同时不在任何一对里的回答在上升；或者计入的词元不是回答的词元（[第 8 章](08_tensors.ipynb)）。

# %% [markdown] lang="en"
# ## Theory against the network
# Does all this hold for a network with 118,080 parameters that never sees most answers? Let the reward be 1 for three numbers and 0 otherwise. The authors' rates are known, and so are the optimum's share and its KL (`predicted_optimum`; [chapter 6](06_objective.ipynb)).
#
# First a small live run: $\beta=0.5$, soft labels, 6,400 pairs of the base model's own answers (the second at temperature 1.5 and 2.0 in turn; [chapter 9](09_dpo.ipynb) says why).

# %% [markdown] lang="zh"
# ## 理论与网络对账
# 换成一个网络，有 118,080 个参数，绝大多数回答见都没见过，这些还成立吗？写三个数得 1 分，否则得 0 分。作者写三个数的比例是已知的，所以最优解的比例和 KL 也都算得出（`predicted_optimum`，见[第 6 章](06_objective.ipynb)）。
#
# 先现场跑一次小的：$\beta=0.5$，软标签，用基座模型自己的回答配成 6,400 个样本对（第二个回答轮流用温度 1.5 和 2.0 抽取，道理见[第 9 章](09_dpo.ipynb)）。

# %% tags=["nbval-ignore-output"]
use_threads()
task, base = BookTask(), load_pretrained("gen").to(default_device())
how = {"reward": "style", "labels": "soft", "temperatures": (1.5, 2.0)}
live_pairs = on_policy_pairs(base, task, 6_400, seed=0, progress=True, **how)
live = copy.deepcopy(base)
config = LoopConfig(steps=100, learning_rate=2e-3, optimizer="muon")
history = train(live, live_pairs.batches(64, seed=0), dpo_step(0.5), config)
report = evaluate(live, task, n=1_000, seed=7, reference=base)
theory = predicted_optimum(task, "style", 0.5)
for name in ("style", "kl", "exact"):
    print(f"{name:6} measured {report[name]}   predicted {theory[name]:.3f}")
assert sum(weights.numel() for weights in base.parameters()) == 118_080
assert 0.6 < report["style"].value < 0.85 and 0.15 < report["kl"].value < 0.8
assert report["exact"].value > 0.65

# %% [markdown] lang="en"
# A short training goes most of the way from 30 % to the predicted 76 %. The whole sweep was run and stored: six values of $\beta$, three kinds of label, three seeds, 54 trainings (`python chapters/data/beta_sweep.py`).
#
# > **Before you run it.** Which of the three kinds of label will lie on the line of the share, and which will not care about $\beta$?
#
# <details><summary>Answer</summary>
#
# Soft and sampled labels have the same loss in expectation and lie on it. Deterministic labels go to all three numbers, always, at every $\beta$.
#
# </details>

# %% [markdown] lang="zh"
# 短短一次训练，从 30% 到预测的 76%，路已经走了大半。完整的扫描跑过一次，存了下来：六个 $\beta$，三种标签，三个种子，共 54 次训练（`python chapters/data/beta_sweep.py`）。
#
# > **先猜一猜。** 三种标签，哪些会落在理论给出的比例线上？哪一种不把 $\beta$ 放在眼里？
#
# <details><summary>答案</summary>
#
# 软标签和采样标签的损失，期望相同，都落在线上。确定性标签不论 $\beta$ 多大，都奔着永远写三个数去。
#
# </details>

# %%
sweep = json.loads(Path("data/beta_sweep.json").read_text(encoding="utf-8"))
BETAS = sorted({run["beta"] for run in sweep["runs"]})
LABELS = {"soft": "policy", "sampled": "baseline", "deterministic": "rejected"}


def over_seeds(labels, strength, name):
    """The mean of the three seeds with its 95 % interval."""
    of = [run for run in sweep["runs"] if run["labels"] == labels]
    return interval([run[name]["value"] for run in of if run["beta"] == strength])


measured = {
    (labels, name): [over_seeds(labels, strength, name) for strength in BETAS]
    for labels in LABELS
    for name in ("style", "kl", "exact")
}
fine = np.geomspace(0.11, 4.6, 60)
curve = [predicted_optimum(task, "style", strength) for strength in fine]
predicted = {
    name: [sweep["predicted"][f"{strength:g}"][name] for strength in BETAS]
    for name in ("style", "kl", "exact")
}

# %%
print(f"{'beta':20}", *(f"{strength:7g}" for strength in BETAS))
for name in ("style", "kl", "exact"):
    show(f"{name}, theory", predicted[name])
    for labels in LABELS:
        show(f"{name}, {labels}", [point.value for point in measured[labels, name]])
assert len(sweep["runs"]) == 54 and sweep["settings"]["steps"] == 375
assert sweep["settings"]["batch_size"] == 64
for run in sweep["runs"]:
    used = 375 * 64 / run["pairs"]
    if run["labels"] == "deterministic":
        assert abs(used - 1.8) < 0.05 and abs(run["pairs"] - 13_500) < 200
    else:
        assert used == 1


# %% tags=["figure"]
def against_beta(panel, say, estimates):
    """Measured points of three kinds of label, side by side at each beta."""
    words = say("soft labels", "软标签"), say("sampled labels", "采样标签")
    words = (*words, say("deterministic labels", "确定性标签"))
    for shift, (labels, color) in enumerate(LABELS.items()):
        at, style = np.array(BETAS) * 1.06 ** (shift - 1), "os^"[shift]
        points(panel, at, estimates[labels], color, label=words[shift], marker=style)
    panel.set(
        xscale="log",
        xlabel=say("strength of the leash, $\\beta$", "绳子的松紧 $\\beta$"),
    )
    panel.set_xticks(BETAS, [f"{strength:g}" for strength in BETAS], minor=False)
    panel.minorticks_off()
    panel.tick_params("x", labelsize=9)


# %% tags=["figure"] alt_en="Two panels against beta from 0.125 to 4. Left, share of three-number answers: a line, the theory, falls from 1.00 to 0.35. Soft labels (blue circles) and sampled labels (yellow squares) lie on it, a little below at 0.5; deterministic labels (orange triangles) stay above 0.96 everywhere. Right, KL on a logarithmic axis: the line falls from 1.2 to 0.007; soft labels lie near it, above it at both ends, sampled labels above it everywhere, deterministic labels far above it, between 1.8 and 3.8." alt_zh="左右两幅，横轴都是 beta，从 0.125 到 4。左，写三个数的比例：一条线是理论，从 1.00 降到 0.35。软标签（蓝圆）和采样标签（黄方）落在线上，只在 0.5 处略低；确定性标签（橙三角）处处高于 0.96。右，KL，对数刻度：线从 1.2 降到 0.007；软标签在线附近、两头偏高，采样标签处处偏高，确定性标签远在线上方，在 1.8 到 3.8 之间。"
@picture
def theory_and_networks(say):
    _, panels = figure(columns=2, width=7.6, height=3.7)
    names = {
        "style": say("share of three numbers", "写三个数的比例"),
        "kl": say("KL from the base model (nats)", "离基座模型的 KL（奈特）"),
    }
    for panel, (name, words) in zip(panels, names.items()):
        line = [point[name] for point in curve]
        panel.plot(fine, line, color=COLORS["theory"], label=say("optimum", "最优解"))
        against_beta(panel, say, {key: measured[key, name] for key in LABELS})
        panel.set_ylabel(words)
    panels[0].set_ylim(0, 1.05)
    panels[0].legend(fontsize=9, loc="lower left")
    panels[1].set_yscale("log")


# %% [markdown] lang="en"
# **Figure 7.6.** Theory (lines) and networks (points: mean of three seeds, 95 % interval). With deterministic labels neither share nor KL heeds the leash.

# %% [markdown] lang="zh"
# **图 7.6** 理论（线）与网络（点：三个种子的平均，95% 区间）。用确定性标签，比例和 KL 都不理会绳子。

# %% tags=["proof"] checked_en="Checked: what the next three paragraphs say of share and KL." checked_zh="已验证：下面三段关于比例和 KL 的说法。"
# concluded of the share and the KL
for labels in ("soft", "sampled"):
    share = np.array([point.value for point in measured[labels, "style"]])
    assert (abs(share - predicted["style"])[[0, 1, 3, 4, 5]] < 0.01).all()
    half_runs = [run for run in sweep["runs"] if run["beta"] == 0.5]
    values = [run["style"]["value"] for run in half_runs if run["labels"] == labels]
    assert max(values) < 0.75
    assert round(np.mean(values), 2) == {"soft": 0.73, "sampled": 0.74}[labels]
    lower = np.array([point.low for point in measured[labels, "kl"]])
    more = lower > predicted["kl"]  # the whole interval lies above
    assert more[[0, 1, 5]].all() and (labels == "soft" or more.all())
kl_at_4 = [measured[labels, "kl"][5].value for labels in LABELS]
assert round(predicted["kl"][5], 3) == 0.007 and round(predicted["style"][2], 2) == 0.76
assert kl_at_4[0] > 2 * predicted["kl"][5] and kl_at_4[1] > kl_at_4[0]
assert min(point.value for point in measured["deterministic", "style"]) > 0.96
assert 240 < kl_at_4[2] / predicted["kl"][5] < 270
hard_kl = [point.value for point in measured["deterministic", "kl"]]
assert hard_kl[0] == max(hard_kl) and hard_kl[5] == min(hard_kl)

# %% [markdown] lang="en"
# **The prediction of the share holds.** With soft and sampled labels the share is within one percentage point of the line at five of six values of $\beta$. Nothing was fitted: the line was known beforehand. At $\beta=0.5$ it is low in every seed: 73 % (soft) and 74 % (sampled) against 76 %.
#
# **More KL is spent than need be**: with soft labels at both ends, with sampled labels everywhere.
#
# **Deterministic labels have no leash, only a brake.** At every $\beta$ the share is above 96 %; at $\beta=4$ the KL is about 250 times that of the optimum.
#
# What the leash is for is $J$, here the share minus $\beta\,\mathrm{KL}$. Two rivals train nothing: the base model, and best-of-$n$ ([chapter 6](06_objective.ipynb)) with the best $n$ up to 16.

# %% [markdown] lang="zh"
# **对比例的预测成立。** 软标签也好，采样标签也好，六个 $\beta$ 里有五个，比例离那条线不到一个百分点。线不是拟合出来的：第一次训练还没开始，它就在那里了。$\beta=0.5$ 处，每个种子都偏低：软标签 73%，采样标签 74%，预测是 76%。
#
# **KL 花得比该花的多**：软标签是两头多，采样标签处处都多。
#
# **确定性标签没有绳子，只有刹车。** 不论 $\beta$ 多大，比例都高于 96%；$\beta=4$ 处，KL 约为最优解的 250 倍。
#
# 绳子是为 $J$ 拴的，这里 $J$ 就是比例减去 $\beta\,\mathrm{KL}$。有两个什么也不训练的对手：一个是基座模型；一个是 best-of-$n$（[第 6 章](06_objective.ipynb)），$n$ 在 16 以内取最好的。

# %%
half = json.loads(Path("data/beta_half.json").read_text(encoding="utf-8"))

# %%
starts = {run["seed"]: run["style"]["value"] for run in half["bases"]}  # of each seed


def tilted(p, b):
    """The optimum's share of three numbers, from a base model whose share is p."""
    return 1 / (1 + math.exp(-1 / b) * (1 - p) / p)


def J_at(s, p, b):
    """J of a policy with share s that is otherwise a base model with share p."""
    return s - b * (s * math.log(s / p) + (1 - s) * math.log((1 - s) / (1 - p)))


def of_best(p, b):
    """J of best-of-n, with the best n up to 16."""
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
assert (np.array(J_rows["deterministic"]) < sampled).all()

# %% tags=["proof"] checked_en="Checked in every seed: who is above whom in J, and the prediction from each base model's own share." checked_zh="已对每个种子验证：论 J 谁高谁低，以及按各个基座模型自己的比例作的预测。"
# concluded of J, seed by seed
for seed, p in starts.items():
    assert all(by_beta[4][seed] < p for by_beta in net_J.values())
    assert all(net_J["deterministic"][b][seed] < p for b in BETAS if b >= 0.5)
    for b in (0.125, 0.25, 0.5, 1):
        assert all(by_beta[b][seed] < of_best(p, b) for by_beta in net_J.values())
higher = [np.mean([tilted(p, b) for p in starts.values()]) for b in BETAS]
higher = np.array(higher) - predicted["style"]
assert round(higher.max(), 3) == 0.012
out_of_sight = np.array(J_rows["deterministic"]) - of_base < -0.4  # figure 7.7
assert out_of_sight.tolist() == [b >= 0.5 for b in BETAS]
for labels in ("soft", "sampled"):  # the share, against the base model's own prediction
    assert all(np.mean(off[labels, b]) < 0 for b in BETAS)
    assert all(max(off[labels, b]) < -0.01 for b in (0.5, 1))


# %% tags=["figure"] alt_en="J minus the J of the base model against beta from 0.125 to 4. The line of the optimum falls from 0.55 to 0.03; the dashed line of best-of-n lies just below it. Points: soft labels below the lines, near 0.5 at the smallest beta, a little above the zero line at 2 and just below it at the end; sampled labels below them; deterministic labels at 0.2 for the smallest beta and below zero from beta 0.5 on, where they leave the picture." alt_zh="纵轴是 J 减去基座模型的 J，横轴是 beta，从 0.125 到 4。最优解的线从 0.55 降到 0.03；best-of-n 的虚线紧贴在它下面。点：软标签在两条线下方，最小的 beta 处接近 0.5，beta 为 2 时略高于零线，到最大的 beta 处略低；采样标签更低；确定性标签在最小的 beta 处约 0.2，从 beta 为 0.5 起落到零线以下，出了画面。"
@picture
def what_training_gained(say):
    _, axes = figure(width=6.8, height=3.8)
    above_base = {
        labels: [
            interval([value - starts[seed] for seed, value in net_J[labels][b].items()])
            for b in BETAS
        ]
        for labels in LABELS
    }
    for row, style, name in ((optimal, "-", "最优解"), (of_n, "--", "best-of-$n$")):
        words = say("optimum", name) if style == "-" else name
        gain = row - of_base
        axes.plot(BETAS, gain, style, color=COLORS["theory"], label=words)
    axes.axhline(0, color=COLORS["ref"], linewidth=1.2)
    axes.text(0.55, -0.05, say("base model", "基座模型"), color=COLORS["ref"], size=9)
    against_beta(axes, say, above_base)
    axes.set(ylim=(-0.4, 0.65))
    axes.set_ylabel(say("$J$ above the base model", "$J$ 比基座模型高多少"))
    axes.legend(fontsize=9, loc="upper right")


# %% [markdown] lang="en"
# **Figure 7.7.** By the objective itself soft labels gain the most of the three kinds, sampled ones less at every $\beta$; deterministic labels leave the picture from $\beta=0.5$ on. Three seeds, 95 % intervals.

# %% [markdown] lang="zh"
# **图 7.7** 按目标本身来算，三种标签里，软标签挣得最多；采样标签在每个 $\beta$ 处都少一些；确定性标签从 $\beta=0.5$ 起，落到了画面之外。三个种子，带 95% 区间。

# %% [markdown] lang="en"
# Up to $\beta=1$ soft labels gain, on average, at least three quarters of what the optimum has over the base model. Deterministic labels lose, from $\beta=0.5$ on, in every seed. At $\beta=4$ no network ends above its own base model. Up to $\beta=1$ best-of-$n$ is above every network, at $n$ draws an answer. (Imitation of the chosen answers was not run here; [chapter 9](09_dpo.ipynb) has it.)

# %% [markdown] lang="zh"
# 到 $\beta=1$ 为止，最优解比基座模型多出来的，软标签平均拿到四分之三以上。确定性标签从 $\beta=0.5$ 起，每个种子都亏。到 $\beta=4$，没有一个网络胜过自己的基座模型。到 $\beta=1$ 为止，best-of-$n$ 比所有网络都高，代价是每次作答要抽 $n$ 个。（模仿 chosen 这一路，这里没有跑；见[第 9 章](09_dpo.ipynb)。）

# %% [markdown] lang="en"
# ## ⋆ The sweep, read closely
# **The pairs.** A training has 375 steps of 64 pairs; each seed has its own base model, pairs and order. With soft and sampled labels each of 24,000 pairs is used once; deterministic labels drop the ties, and the 13,500 pairs or so that are left are used 1.8 times. The sweep took about half an hour of CPU time. The line of the share is $p\,e^{1/\beta}/(p\,e^{1/\beta}+1-p)$, averaged over the prompts, where $p$ is the probability with which the authors write three numbers.
#
# **From where the base models start.** The line of the share is drawn from the authors' rates. The base models start a little higher, at 30.7 % to 31.1 % in place of 30 %. From a base model's own share the prediction is up to 1.2 points higher, and then the networks are on the low side: on average at every $\beta$, and by more than one point in every seed at $\beta=0.5$ and 1.
#
# **Why 73 % at $\beta=0.5$?** Two more trainings a seed, with soft labels, look for the reason (`python chapters/data/beta_half.py`; the table below). Three times as many pairs and steps hardly help: it is not the length of the training. The base models write no fewer three-number answers than the prediction assumes: it is not the start. Pairs whose answers are both drawn at temperature 1 close most of the gap: it is mostly the pairs, at this $\beta$.
#
# On a table they could not matter. One explanation: with shared parameters the minimum depends on the pairs, and many of the sweep's second answers are such as the policy hardly ever writes. These pairs have their merits: at temperature 1 the KL is above the predicted one, in the sweep it is not; [chapter 9](09_dpo.ipynb) shows others.

# %% [markdown] lang="zh"
# ## ⋆ 细读这次扫描
# **样本对。** 一次训练 375 步，每步 64 对；每个种子的基座模型、样本对、顺序都是自己的。软标签和采样标签有 24,000 对，各用一次；确定性标签要丢掉平局，剩下约 13,500 对，平均每对用 1.8 次。整个扫描约用半小时 CPU 时间。比例的那条线是 $p\,e^{1/\beta}/(p\,e^{1/\beta}+1-p)$ 对提示取平均，$p$ 是作者写三个数的概率。
#
# **从基座模型的起点算起。** 比例的那条线由作者的比例算出，而基座模型的起点要高一点，是 30.7% 到 31.1%，不是 30%。按基座模型自己的比例来预测，线最多高 1.2 个百分点；这样一比，网络就偏低了：平均起来，每个 $\beta$ 都低；在 $\beta=0.5$ 和 1 处，每个种子都低一个百分点以上。
#
# **$\beta=0.5$ 处为什么是 73%？** 为了找原因，每个种子用软标签又训练了两次（`python chapters/data/beta_half.py`，见下表）。样本对和步数都增到三倍，几乎没有用：不是训练得不够。基座模型写三个数的比例，并不比预测所用的低：不是起点的缘故。改成两个回答都用温度 1 抽取，差距补上了大半：在这个 $\beta$ 处，原因主要在样本对。
#
# 换成表，怎么配对都不要紧。一种解释是：共用参数时，最小值随样本对而变，而扫描里的第二个回答，有许多是策略几乎不写的。不过扫描里的样本对也有好处：都用温度 1，KL 高出预测，扫描里则没有；其余的好处见[第 9 章](09_dpo.ipynb)。

# %%
repeated = {
    "as in the sweep": [run for run in half_runs if run["labels"] == "soft"],
    "three times": [r for r in half["runs"] if r["change"] == "three times the pairs"],
    "temperature 1": [r for r in half["runs"] if r["change"] == "temperature 1"],
}
print(f"{'':20} {'style':>7} {'lowest':>7} {'highest':>7} {'KL':>7}")
table = {}
for change, runs in repeated.items():
    shares = [run["style"]["value"] for run in runs]
    mean_kl = np.mean([run["kl"]["value"] for run in runs])
    table[change] = np.mean(shares), min(shares), max(shares), mean_kl
    show(change, table[change])
found = np.array(list(table.values()))
assert close(found[:, 0], [0.731, 0.739, 0.757], 6e-4)
assert found[1, 2] < found[2, 1] < found[2, 2] < predicted["style"][2] + 1e-3
assert found[0, 3] < predicted["kl"][2] < found[2, 3]
assert min(starts.values()) > 0.3065 and max(starts.values()) < 0.3115

# %% [markdown] lang="en"
# **At a small $\beta$ an error is dear.** At $\beta=0.125$ the optimum costs 1.20 nats, soft labels pay 1.41 and sampled ones 2.36. There a margin of 1 is a log-ratio of 8 nats, so an error of 0.1 in a margin is 0.8 nats in the policy. At the other end, $\beta=4$, the optimum is 0.007 nats from the reference and the networks more than twice that. The noise of training is a likely reason: it moves a policy even where the policy is asked to stay.
#
# **What nobody asked for.** The reward says nothing about right values, and the optimum leaves their share at 75 %, because it reweights whole classes and changes nothing within one. The networks lose it (figure 7.8). A policy that writes three numbers always, and is otherwise the reference, would have a KL of 1.21; deterministic labels spend up to 3.8. The rest went elsewhere, and this is a part of it. One explanation was given above: the answers share parameters, and what no pair speaks for is moved with the rest. [Chapter 9](09_dpo.ipynb) looks at such answers one by one.

# %% [markdown] lang="zh"
# **$\beta$ 小，错不起。** $\beta=0.125$ 处，最优解花 1.20 奈特，软标签花了 1.41，采样标签花了 2.36。在那里，间隔的 1 就是对数比的 8 奈特，间隔错 0.1，策略就错 0.8 奈特。另一头，$\beta=4$ 处，最优解离参考策略 0.007 奈特，网络走出了两倍还多。原因多半是训练的噪声：叫策略别动，噪声也会推它动。
#
# **谁也没要求过的。** 答案是否正确，奖励只字未提；最优解里，答案正确的仍占 75%，因为它只给整类加权，类的内部原样不动。网络却没守住（图 7.8）。一个策略若总是写三个数、别的都同参考策略一样，KL 只有 1.21；确定性标签却花到 3.8。多走的路去了别处，这里就是一部分。前面讲过一种解释：回答共用参数，没有哪一对替它说话，它就跟着别的一起动。[第 9 章](09_dpo.ipynb)会把这样的回答一个一个拿出来看。


# %% tags=["figure"] alt_en="Share of right answers against beta from 0.125 to 4. The line of the optimum is flat at 0.75. Soft labels lie from 0.71 at the smallest beta to 0.75 at the largest, sampled labels from 0.62 to 0.75, deterministic labels between 0.54 and 0.66, with wide intervals at the two smallest values of beta." alt_zh="答案正确的比例随 beta 的变化，从 0.125 到 4。最优解的线平平地停在 0.75。软标签从最小 beta 处的 0.71 到最大处的 0.75，采样标签从 0.62 到 0.75，确定性标签在 0.54 到 0.66 之间，最小的两个 beta 处区间很宽。"
@picture
def right_answers(say):
    _, axes = figure(width=6.8, height=3.4)
    axes.axhline(0.75, color=COLORS["theory"], label=say("optimum", "最优解"))
    against_beta(axes, say, {labels: measured[labels, "exact"] for labels in LABELS})
    axes.set(ylabel=say("share of right answers", "答案正确的比例"), ylim=(0.2, 1))
    axes.legend(fontsize=9, ncols=2, loc="lower right")


# %% [markdown] lang="en"
# **Figure 7.8.** Share of right answers, of which the reward says nothing. Theory leaves it alone; training does not.

# %% [markdown] lang="zh"
# **图 7.8** 答案正确的比例，奖励对它只字未提。理论不动它，训练却动了。

# %% tags=["proof"] checked_en="Checked: the figures of this section." checked_zh="已验证：这一节里的数。"
# concluded of the sweep, read closely
right = {labels: [p.value for p in measured[labels, "exact"]] for labels in LABELS}
assert all(abs(value - 0.75) < 1e-9 for value in predicted["exact"])
assert right["sampled"][0] < right["soft"][0] < 0.72 < 0.74 < right["soft"][5]
assert (min(right["deterministic"]) > 0.53) and (max(right["deterministic"]) < 0.66)
reaches = [point.high > 0.75 for point in measured["deterministic", "exact"]]
assert reaches == [True, True, False, False, False, False]
at_smallest = [measured[labels, "kl"][0].value for labels in LABELS]
assert (
    close(at_smallest, [1.41, 2.36, 3.80], 6e-3)
    and abs(predicted["kl"][0] - 1.2) < 5e-3
)
for b, value in zip(BETAS, predicted["style"]):  # the formula of the share
    rate = task.class_rates[:, 1].sum(-1)  # P(three numbers), by prompt
    weights = np.array(list(task.prompt_distribution.values()))
    odds = rate * math.exp(1 / b)
    assert abs(weights @ (odds / (odds + 1 - rate)) - value) < 1e-9
no_leash = predicted_optimum(task, "style", 0.02)
assert no_leash["style"] > 0.9999 and round(no_leash["kl"], 2) == 1.21

# %% [markdown] lang="en"
# ## ⋆ What was assumed
# The derivation is exact; what it needs is not always there. Each line of the table can fail by itself.
#
# | assumed | if it fails | shown |
# |---|---|---|
# | Labels follow Bradley–Terry, with one $r$ for all judges | no policy satisfies all pairs; the minimum is a compromise that depends on them | [chapter 5](05_preferences.ipynb) |
# | The pairs connect all answers | probability between unconnected answers goes anywhere. [Xu et al. 2024](https://arxiv.org/abs/2404.10719): DPO may exploit out-of-distribution responses | “Its minimum is the optimum”; [chapter 9](09_dpo.ipynb) |
# | $\pi_{\mathrm{ref}}$ gives every answer that one wants some probability | what the reference never writes no $\beta$ brings back | [chapter 6](06_objective.ipynb) |
# | $\pi_{\mathrm{ref}}$ in the loss is the one that is meant | another model is tilted | quarrel three |
# | The policy can give every pair its margin | the minimum depends on the pairs; answers in no pair are moved | “When answers share parameters” |
# | The loss is minimised | $\beta$ is a speed as well as a leash | quarrel one |
# | Labels are not deterministic, and comparisons are many | no minimum, at any $\beta$ | quarrel two; figure 7.6 |
# | $r$ is what is wanted | the optimum is right, for the wrong question | [chapter 6](06_objective.ipynb) |
#
# What is left to hold the policy when some of them fail is no longer the KL leash of fact 2. [Tang et al. 2024](https://arxiv.org/abs/2402.05749) study what it is for a whole family of such losses.

# %% [markdown] lang="zh"
# ## ⋆ 假设了什么
# 推导是精确的，可它要的条件未必都有。表里每一行都可能单独落空。
#
# | 假设 | 落空了会怎样 | 在哪里看得到 |
# |---|---|---|
# | 标签服从 Bradley–Terry 模型，所有裁判的 $r$ 是同一个 | 没有策略能让每一对都满意；最小值是折中，随样本对而变 | [第 5 章](05_preferences.ipynb) |
# | 样本对把所有回答连成一片 | 不相连的回答之间，概率流到哪里都行。[Xu et al. 2024](https://arxiv.org/abs/2404.10719)：DPO 可能钻分布外回答的空子 | 「它的最小值就是最优解」；[第 9 章](09_dpo.ipynb) |
# | 凡是想要的回答，$\pi_{\mathrm{ref}}$ 都给了概率 | 参考策略从来不写的，$\beta$ 取多少都找不回来 | [第 6 章](06_objective.ipynb) |
# | 损失里的 $\pi_{\mathrm{ref}}$ 就是想要的那个 | 加权的是另一个模型 | 争论三 |
# | 策略给得出每一对该有的间隔 | 最小值随样本对而变；不在任何一对里的回答也被推动 | 「回答共用参数时」 |
# | 损失降到了最小 | $\beta$ 是绳子，也是快慢 | 争论一 |
# | 标签不是确定性的，比较次数够多 | $\beta$ 取多少都没有最小值 | 争论二；图 7.6 |
# | $r$ 就是人想要的 | 解答对了，题目错了 | [第 6 章](06_objective.ipynb) |
#
# 有些条件一落空，拉住策略的就不再是本章开头第 2 条里的 KL 绳子。那是什么呢？[Tang et al. 2024](https://arxiv.org/abs/2402.05749) 研究了一整族这样的损失，回答的正是这个问题。

# %% [markdown] lang="en"
# ## Outside the toy
# > **What the toy hides.** The answers to a real prompt cannot even be counted, and nearly all are in no pair. Nobody has the labels' true probabilities, or $r$, or $\pi^*$; one has margins on held-out pairs and samples to read. A real answer has hundreds of tokens, a log-ratio runs to tens of nats, and $\beta$ is small: 0.1 for Zephyr ([Tunstall et al. 2023](https://arxiv.org/abs/2310.16944)) and for Llama 3 ([Grattafiori et al. 2024](https://arxiv.org/abs/2407.21783)). And nobody trains to the minimum: learning rate and steps set how far the policy goes, as much as $\beta$.

# %% [markdown] lang="zh"
# ## 走出玩具
# > **玩具没告诉你的。** 一个真实的提示有多少回答，数都数不过来，而且绝大多数不在任何一对里。标签的真实概率、$r$、$\pi^*$，没有人知道；手里只有留出的偏好对上的间隔，还有采样出来的回答，要一条条去读。真实的回答有几百个词元，一个对数比能到几十奈特，$\beta$ 就取得小：Zephyr（[Tunstall et al. 2023](https://arxiv.org/abs/2310.16944)）和 Llama 3（[Grattafiori et al. 2024](https://arxiv.org/abs/2407.21783)）都取 0.1。而且没有谁会一直训练到最小值：走多远，$\beta$ 说了算，学习率和步数也说了算。

# %% [markdown] lang="en"
# > **To remember.** Solve the optimum for the reward: $r=\beta\log(\pi^*/\pi_{\mathrm{ref}})+V(x)$. Subtract two answers to one prompt: $V$ is gone. Put the difference $h=\beta m$ into Bradley–Terry: $\ell=-q\log\sigma(h)-(1-q)\log\sigma(-h)$. Its slope is prediction minus label, $\sigma(h)-q$. With Bradley–Terry labels, connected pairs, the right reference and a policy that can express it, the minimum is $\pi^*$. $\beta$ is a leash at the minimum and a speed on the way; deterministic labels cut the leash.

# %% [markdown] lang="zh"
# > **记住。** 从最优解里解出奖励：$r=\beta\log(\pi^*/\pi_{\mathrm{ref}})+V(x)$。同一个提示的两个回答相减，$V$ 没了。把差 $h=\beta m$ 放进 Bradley–Terry 模型：$\ell=-q\log\sigma(h)-(1-q)\log\sigma(-h)$。斜率是预测减标签，$\sigma(h)-q$。标签出自 Bradley–Terry 模型，样本对连成一片，参考策略没拿错，策略也表达得出，最小值就在 $\pi^*$ 处。$\beta$ 在最小值处是绳子，在训练途中是快慢；确定性标签会剪断绳子。

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
def feature_gradient(theta, features, wins, beta): ...


check("7.3", feature_gradient)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# The logits start at the reference's log-probabilities, so the reference cancels in the log-ratios.
#
# ```python
# def feature_gradient(theta, features, wins, beta):
#     predictions = torch.sigmoid(gaps(beta * (features @ theta)))  # (A, A)
#     by_logit = beta * ((wins + wins.T) * predictions - wins).sum(-1) / wins.sum()  # (A,)
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
#     predictions = torch.sigmoid(gaps(beta * (features @ theta)))  # (A, A)
#     by_logit = beta * ((wins + wins.T) * predictions - wins).sum(-1) / wins.sum()  # (A,)
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
def labels_for(target, ref_logps, beta): ...


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
# ### Exercise 7.5 · Where the good answer is rare
# ★★☆ · 15 minutes
#
# Change the world: the reference is 0.2, 0.3, 0.5, so that the best answer is the rarest; rewards 1, 0, -1 as before. Both answers of a pair are drawn from the reference, labels are soft, and the policy is the optimum. First predict without code: as $\beta$ grows from 0.5 to 2, does the average chosen answer turn from falling to rising, or from rising to falling? Then compute the $\beta$ at which it neither rises nor falls, to two decimals.
#
# <details><summary>Hint</summary>
#
# A large $\beta$ makes all log-ratios small, $\overline m$ in proportion to $1/\beta$, a KL in proportion to its square. Write a function of $\beta$ that returns $\overline{\Delta}_w$, and halve an interval at whose ends its signs differ.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 7.5 · 好回答难得一见
# ★★☆ · 15 分钟
#
# 换一个世界：参考概率是 0.2、0.3、0.5，最好的回答反而最少见；奖励还是 1、0、-1。一对里的两个回答都从参考策略抽，软标签，策略取最优解。先不写代码，猜一猜：$\beta$ 从 0.5 增到 2，chosen 平均起来是由降转升，还是由升转降？再算出不升不降的那个 $\beta$，取两位小数。
#
# <details><summary>提示</summary>
#
# $\beta$ 大，对数比就都小：$\overline m$ 与 $1/\beta$ 成正比，KL 与它的平方成正比。写一个 $\beta$ 的函数，返回 $\overline{\Delta}_w$；取一个两端符号相反的区间，不断对半分。
#
# </details>

# %% tags=["exercise"]
answer_7_5 = ...  # the beta at which the average chosen answer stands still
check("7.5", answer_7_5)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# From falling to rising: at a large $\beta$ the first term, half of $\overline m$, outweighs the KL. The turn is at $\beta=1.31$.
#
# ```python
# rare = Problem(toy.ref_logps.flip(0), toy.reward)
# drawn = tabular.independent_pairs(rare.ref_logps, rare.ref_logps)
# judged = tabular.comparisons(rare.reward, drawn)
#
#
# def chosen_moves_by(beta):
#     return judged.sum(1) @ (tabular.optimal_policy(rare, beta) - rare.ref_logps)
#
#
# low, high = 0.5, 2.0
# for _ in range(40):
#     middle = (low + high) / 2
#     low, high = (middle, high) if chosen_moves_by(middle) < 0 else (low, middle)
# answer_7_5 = low
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 由降转升：$\beta$ 大了，第一项，也就是 $\overline m$ 的一半，就压过了 KL。转折在 $\beta=1.31$。
#
# ```python
# rare = Problem(toy.ref_logps.flip(0), toy.reward)
# drawn = tabular.independent_pairs(rare.ref_logps, rare.ref_logps)
# judged = tabular.comparisons(rare.reward, drawn)
#
#
# def chosen_moves_by(beta):
#     return judged.sum(1) @ (tabular.optimal_policy(rare, beta) - rare.ref_logps)
#
#
# low, high = 0.5, 2.0
# for _ in range(40):
#     middle = (low + high) / 2
#     low, high = (middle, high) if chosen_moves_by(middle) < 0 else (low, middle)
# answer_7_5 = low
# ```
#
# </details>

# %% [markdown] lang="en"
# The last exercise asks about four trainings on the three-answer example, by the same code with the same step size. One is as it should be: soft labels, the true reference. In the others one thing is wrong.

# %% [markdown] lang="zh"
# 最后一题问的是三个回答的例子上的四次训练，代码相同，步长相同。有一次一切正常：软标签，真正的参考策略。另外三次，各有一处不对。


# %%
def train_table(judged, given_ref, steps=400):
    """Loss and mean reward after each step, from the true reference."""
    s, log = toy.ref_logps.clone(), []
    for _ in range(steps):
        logps = s.log_softmax(-1)
        loss = tabular.dpo_loss(logps, given_ref, judged, beta)
        log.append((loss.item(), (logps.exp() @ toy.reward).item()))
        s -= 0.5 * slope(s, given_ref, judged, beta)
    return np.array(log)


always = tabular.comparisons(toy.reward, ways[0], "deterministic")
tried = (
    (of_toy[0], toy.ref_logps),  # as it should be
    (always, toy.ref_logps),  # deterministic labels
    (of_toy[0].mT, toy.ref_logps),  # chosen and rejected exchanged
    (of_toy[0], uniform),  # another reference in the loss
)
shuffled = np.random.default_rng(82).permutation(4)  # not to be guessed from the code
four_runs = {name: train_table(*tried[k]) for name, k in zip("ABCD", shuffled)}
show("loss at the start", [log[0, 0] for log in four_runs.values()])
show("loss at the end", [log[-1, 0] for log in four_runs.values()])
show("mean reward", [log[-1, 1] for log in four_runs.values()])


# %% tags=["figure"] alt_en="Two panels against training steps up to 400, runs A to D. Left, loss: B starts below the others, at 0.61; A, C and D start at 0.69. A keeps falling, to 0.04; B, C and D come to rest at 0.51. Right, mean reward: all start at 0.3. A rises to almost 1, D to 0.91, B to 0.85, and C falls to -0.76." alt_zh="左右两幅，横轴是训练步数，到 400，四次训练 A 到 D。左，损失：B 的起点比别的低，是 0.61；A、C、D 都从 0.69 起。A 一直降，降到 0.04；B、C、D 停在 0.51。右，平均奖励：都从 0.3 起。A 升到将近 1，D 升到 0.91，B 升到 0.85，C 降到 -0.76。"
@picture
def four_trainings(say):
    _, panels = figure(columns=2, width=7.6, height=3.4)
    words = say("mean loss", "平均损失"), say("mean reward", "平均奖励")
    hues = ("rejected", "baseline", "ref", "policy")
    widths = {"C": 5}  # D covers a thinner line
    for (name, log), hue, style in zip(four_runs.items(), hues, ("-", "--", ":", "-.")):
        label = say(f"run {name}", f"训练 {name}")
        for k, panel in enumerate(panels):
            width = widths.get(name, 1.8)
            panel.plot(log[:, k], style, color=COLORS[hue], lw=width, label=label)
            panel.set_ylabel(words[k])
            panel.set_xlabel(say("training steps", "训练步数"))
    panels[0].legend(fontsize=9, loc="center right")


# %% [markdown] lang="en"
# **Figure 7.9.** Four trainings on the example, three of them faulty.

# %% [markdown] lang="zh"
# **图 7.9** 例子上的四次训练，其中三次有毛病。

# %% [markdown] lang="en"
# ### Exercise 7.6 · Four curves, three faults
# ★★☆ · 10 minutes
#
# Which run of figure 7.9 is which? The words are `"right"`, `"deterministic"` (deterministic labels), `"exchanged"` (chosen and rejected exchanged in the data), `"reference"` (the loss is given another reference than the policy starts from).
#
# <details><summary>Hint</summary>
#
# What must the loss be at the first step? Which labels leave the loss without a minimum? And whose loss looks right while the answers get worse?
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 7.6 · 四条曲线，三处毛病
# ★★☆ · 10 分钟
#
# 图 7.9 里的四次训练，各是哪一种？可用的词：`"right"`（正常）、`"deterministic"`（确定性标签）、`"exchanged"`（数据里 chosen 与 rejected 对调了）、`"reference"`（给损失的参考策略，不是训练的起点）。
#
# <details><summary>提示</summary>
#
# 第一步的损失该是多少？哪一种标签下，损失没有最小值？哪一次损失看着正常，回答却越来越差？
#
# </details>

# %% tags=["exercise"]
answer_7_6 = {"A": ..., "B": ..., "C": ..., "D": ...}
check("7.6", answer_7_6)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# A falls without end: deterministic labels. B does not start at $\ln 2$: policy and reference differ at the first step. C has the loss of a healthy run, and its mean reward falls: it learns the opposite. That is why the loss alone is no diagnosis.
#
# ```python
# answer_7_6 = {"A": "deterministic", "B": "reference", "C": "exchanged", "D": "right"}
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# A 降个没完：确定性标签。B 不从 $\ln 2$ 起步：第一步时，策略与参考策略就不同。C 的损失同正常的一样，平均奖励却在降：学反了。所以只看损失，诊断不了。
#
# ```python
# answer_7_6 = {"A": "deterministic", "B": "reference", "C": "exchanged", "D": "right"}
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
