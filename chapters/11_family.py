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
# # 11 The family

# %% [markdown] lang="zh"
# # 11 DPO 家族

# %% [markdown] lang="en"
# > **In this chapter.** You will be able to read a preference loss that you have never seen: to say how hard it pulls on a pair, where it stops pulling, and what that means for the policy. You will know what the names in TRL's `loss_type` stand for, where code and paper differ, and how all of them did on the same pairs. You need [chapter 7](07_derivation.ipynb) (the DPO loss and its minimum) and [chapter 9](09_dpo.ipynb) (what it does to a network). 50 minutes to read, 30 seconds to run.

# %% [markdown] lang="zh"
# > **本章。** 读完后，面对一个没见过的偏好损失，你能说出它拉一对回答用多大的力、到哪里松手、对策略意味着什么。TRL 的 `loss_type` 里那些名字各是什么，代码和论文在哪里不一致，同一批回答对上各自表现如何，你也会知道。需要读过[第 7 章](07_derivation.ipynb)（DPO 的损失和它的最小值）和[第 9 章](09_dpo.ipynb)（它对网络做了什么）。阅读 50 分钟，运行 30 秒。

# %%
import copy
import json
import math
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

from checks import check
from dpo_core import BookTask, load_pretrained, tabular, use_threads
from dpo_core.evaluation import evaluate
from dpo_core.family import FAMILY, discopop
from dpo_core.losses import kto_loss, preference_loss
from dpo_core.plotting import COLORS, figure, use_style
from dpo_core.preferences import on_policy_pairs
from dpo_core.steps import dpo_step
from dpo_core.tabular import Problem
from dpo_core.theory import class_problem, predicted_optimum, predicted_shares
from dpo_core.training import LoopConfig, default_device, train

# %% [markdown] lang="en"
# ## One pair, four opinions
# After DPO came some twenty losses. Two questions are enough to compare them: how hard does a loss pull on a pair, and where does it stop pulling? One pair is enough to ask the first.
#
# A policy gives the chosen answer $y_w$ a log-probability of -5, the rejected answer $y_l$ one of -10. The reference says -7 and -9. The **log-ratios** $\rho=\log\pi-\log\pi_{\mathrm{ref}}$ are then $\rho_w=2$ and $\rho_l=-1$, their difference $m=\rho_w-\rho_l$ is 3, and with $\beta=0.4$ the margin is $h=\beta m=1.2$. What does the pair cost? And how hard does the loss $\mathcal{L}$ still pull, that is, what is $-\partial\mathcal{L}/\partial m$?
#
# - DPO: $-\log\sigma(h)=-\log\sigma(1.2)=0.263$. The pull is $\beta\,\sigma(-1.2)=0.093$. It never ends; it only fades.
# - Hinge: $\max(0,1-h)=\max(0,1-1.2)=0$. The pair is won by more than 1, so nothing pulls.
# - IPO: $(m-\frac{1}{2\beta})^2=(3-\frac{1}{0.8})^2=3.06$. The pull is $-2\,(3-1.25)=-3.5$, backwards: this pair has been won by too much.
# - SPPO: $(\rho_w-\frac{1}{2\beta})^2+(\rho_l+\frac{1}{2\beta})^2=(2-1.25)^2+(-1+1.25)^2=0.625$. It has an opinion on each answer, not on the difference: $\rho_w$ should come down to 1.25, and $\rho_l$ to -1.25.
#
# How hard a loss pulls at a given margin is its **gradient weight**. The cell prints the four costs, then the pull on the chosen answer and the push on the rejected one, which are equal in the first three losses, but not in SPPO.

# %% [markdown] lang="zh"
# ## 一对回答，四种看法
# DPO 之后又冒出二十来种损失。要比较它们，问两个问题就够：对一对回答，损失用多大的力拉？拉到哪里停？第一个问题，拿一对回答就能问清楚。
#
# 策略给 chosen（记作 $y_w$）的对数概率是 -5，给 rejected（记作 $y_l$）的是 -10；参考策略给的是 -7 和 -9。于是**对数比** $\rho=\log\pi-\log\pi_{\mathrm{ref}}$ 是 $\rho_w=2$、$\rho_l=-1$，两者之差 $m=\rho_w-\rho_l$ 是 3。取 $\beta=0.4$，间隔 $h=\beta m=1.2$。这一对代价多大？损失 $\mathcal{L}$ 还在用多大的力拉，也就是 $-\partial\mathcal{L}/\partial m$ 等于多少？
#
# - DPO：$-\log\sigma(h)=-\log\sigma(1.2)=0.263$。拉力是 $\beta\,\sigma(-1.2)=0.093$，永远不会到零，只会越来越小。
# - 合页损失（hinge）：$\max(0,1-h)=\max(0,1-1.2)=0$。赢的幅度已经超过 1，不再拉。
# - IPO：$(m-\frac{1}{2\beta})^2=(3-\frac{1}{0.8})^2=3.06$。拉力是 $-2\,(3-1.25)=-3.5$，方向反了：它嫌这一对赢得太多。
# - SPPO：$(\rho_w-\frac{1}{2\beta})^2+(\rho_l+\frac{1}{2\beta})^2=(2-1.25)^2+(-1+1.25)^2=0.625$。它不看差，对两个回答各有要求：$\rho_w$ 该降到 1.25，$\rho_l$ 该降到 -1.25。
#
# 间隔是多少时，损失用多大的力拉，叫它的**梯度权重**（gradient weight）。下面先打印四个代价，再打印把 chosen 往上拉的力、把 rejected 往下推的力：前三个损失里两者相等，SPPO 里不等。

# %% tags=["setup"]
SMOOTHED = {"label_smoothing": 0.1}
CALLS = {name: {"loss_type": name} for name in FAMILY} | {"cdpo": {"loss_type": "sigmoid", **SMOOTHED}}
CALLS["robust"], CALLS["exo_pair"] = CALLS["robust"] | SMOOTHED, CALLS["exo_pair"] | SMOOTHED


def losses(name, chosen, rejected, ref_chosen=None, ref_rejected=None, beta=1.0, lengths=None):
    """The losses of pairs; without a reference the log-probabilities given are log-ratios, without lengths all are 1."""
    zero, one = torch.zeros_like(chosen), torch.ones_like(chosen)
    reference = (zero if ref is None else ref for ref in (ref_chosen, ref_rejected))
    sizes = dict(zip(("chosen_lengths", "rejected_lengths"), (one, one) if lengths is None else lengths))
    return preference_loss(chosen, rejected, *reference, beta=beta, **sizes, **CALLS[name])[0]


def pulls(name, chosen, rejected, beta=1.0):
    """How hard a loss pulls the chosen answer up, and how hard it pushes the rejected one down."""
    sides = [side.double().clone().requires_grad_() for side in (chosen, rejected)]
    up, down = torch.autograd.grad(losses(name, *sides, beta=beta).sum(), sides)
    return -up, down


# %%
hand = [torch.tensor([value]).double() for value in (-5.0, -10.0, -7.0, -9.0)]
for name, cost in (("sigmoid", 0.263), ("hinge", 0.0), ("ipo_sum", 3.06), ("sppo_hard", 0.625)):
    up, down = pulls(name, torch.tensor([2.0]), torch.tensor([-1.0]), beta=0.4)
    print(f"{name:10} {losses(name, *hand, beta=0.4).item():6.3f}  {up.item():7.3f} {down.item():7.3f}")
    assert abs(losses(name, *hand, beta=0.4).item() - cost) < 4e-3
assert abs(pulls("sigmoid", torch.tensor([2.0]), torch.tensor([-1.0]), 0.4)[0] - 0.093) < 5e-4
assert abs(pulls("ipo_sum", torch.tensor([2.0]), torch.tensor([-1.0]), 0.4)[0] + 3.5) < 1e-9
up, down = pulls("sppo_hard", torch.tensor([2.0]), torch.tensor([-1.0]), 0.4)
assert up < 0 < down  # both answers are to come down

# %% [markdown] lang="en"
# ## Where the pulling stops
# Real labels are noisy. Say the first of two answers is preferred with probability $q$. Then with probability $q$ the pair costs $f(h)$, and with probability $1-q$ it stands the other way round and costs $f(-h)$. The mean cost is flat where the two pulls balance:
#
# $$q\,f'(h)=(1-q)\,f'(-h).$$
#
# Such an $h$ is the **stationary point** of the loss for that label. Three of them by hand, for $q=\sigma(1)=0.731$, a Bradley–Terry label of two answers whose rewards differ by 1:
#
# - DPO: $f'(h)=-\sigma(-h)$. The equation reads $q\,\sigma(-h)=(1-q)\,\sigma(h)$. *Divide*: $e^h=q/(1-q)$, so $h=\log\frac{q}{1-q}=1$. The margin becomes the true difference of rewards. The theorem of [chapter 7](07_derivation.ipynb) is this line.
# - IPO, with $h=\beta m$, is $(h-\frac12)^2/\beta^2$. The equation reads $q\,(h-\frac12)=(1-q)(-h-\frac12)$. *Multiply out*, and $qh$ cancels: $h=q-\frac12=0.231$. A margin, too, but another function of the label.
# - Hinge: $f(h)$ falls with slope -1 up to $h=1$ and is 0 beyond; $f(-h)$ rises with slope 1 from $h=-1$ on. For $\frac12<q<1$ the mean therefore falls up to $h=1$ (slope $1-2q$) and rises after (slope $1-q$). The answer is 1, and the hinge does not care how sure the label is.
#
# Why does it matter which function? With three answers the margins have to fit together: $h_{13}=h_{12}+h_{23}$, because all three come from one policy. Differences of rewards do fit. So with Bradley–Terry labels, whatever the rewards, a loss reaches all its wished-for margins at once only if its $h(q)$ is proportional to $\log\frac{q}{1-q}$. Otherwise its minimum is in general a compromise, and it depends on which pairs are common. The cell checks these stationary points, and three more that the next sections explain.

# %% [markdown] lang="zh"
# ## 拉到哪里停
# 真实的标签有噪声。设两个回答里第一个胜出的概率是 $q$：以概率 $q$，这一对的代价是 $f(h)$；以概率 $1-q$，它反过来，代价是 $f(-h)$。两股拉力相抵，平均代价就平了：
#
# $$q\,f'(h)=(1-q)\,f'(-h)$$
#
# 满足它的 $h$，叫这个损失对该标签的**驻点**（stationary point）。取 $q=\sigma(1)=0.731$，即奖励相差 1 的两个回答的 Bradley–Terry 标签，手算三个：
#
# - DPO：$f'(h)=-\sigma(-h)$。方程是 $q\,\sigma(-h)=(1-q)\,\sigma(h)$。*两边相除*，$e^h=q/(1-q)$，所以 $h=\log\frac{q}{1-q}=1$。间隔变成真实的奖励差。[第 7 章](07_derivation.ipynb)的定理就是这一行。
# - IPO：用 $h=\beta m$ 写，是 $(h-\frac12)^2/\beta^2$。方程是 $q\,(h-\frac12)=(1-q)(-h-\frac12)$。*乘开*，$qh$ 消掉，$h=q-\frac12=0.231$。也是一个间隔，只是随标签变化的方式不同。
# - 合页损失：$f(h)$ 以斜率 -1 降到 $h=1$，以后是 0；$f(-h)$ 从 $h=-1$ 起以斜率 1 升。所以 $\frac12<q<1$ 时，平均代价一路降到 $h=1$（斜率 $1-2q$），再往后就升（斜率 $1-q$）。答案是 1；标签有多肯定，它不管。
#
# 是哪个函数，要紧吗？有三个回答时，间隔必须对得上：$h_{13}=h_{12}+h_{23}$，因为三个间隔出自同一个策略。奖励差是对得上的。所以标签出自 Bradley–Terry 模型时，要让奖励不论多少，想要的间隔都能同时达到，只有一种可能：$h(q)$ 与 $\log\frac{q}{1-q}$ 成正比。不然，最小值一般就是折中，哪些回答对常见，就偏向哪些。下面验证这几个驻点，另有三个，后面几节再讲。

# %%
logit = torch.logit
STOPS = {
    "sigmoid": logit,
    "cdpo": lambda q: logit(0.1 + 0.8 * q),
    "robust": lambda q: logit((q - 0.1) / 0.8),
    "exo_pair": lambda q: (2 * q - 1) * math.log(0.9 / 0.1),
    "ipo_sum": lambda q: q - 0.5,
}
q20 = 0.5 + 0.38 * torch.rand(20, generator=torch.Generator().manual_seed(0)).double()  # 20 random labels
for name, stop in STOPS.items():
    h = stop(q20)
    balance = q20 * pulls(name, h, 0 * h)[0] - (1 - q20) * pulls(name, -h, 0 * h)[0]
    assert balance.abs().max() < 1e-12
    shown = stop(torch.sigmoid(torch.tensor([1.0, 2.0]).double())).tolist()
    print(f"{name:9} h(0.731) = {shown[0]:6.3f}   h(0.881) = {shown[1]:6.3f}")
for name, first in (("sigmoid", 1.0), ("cdpo", 0.776), ("robust", 1.318), ("exo_pair", 1.015), ("ipo_sum", 0.231)):
    assert abs(STOPS[name](torch.sigmoid(torch.tensor(1.0).double())) - first) < 6e-4

# %% [markdown] lang="en"
# ## One table
# Every loss is one line. $\rho$ is a log-ratio, $m=\rho_w-\rho_l$, $h=\beta m$; $|y|$ is the number of tokens, and a bar divides by it: $\bar\rho=\rho/|y|$, $\bar m=\bar\rho_w-\bar\rho_l$. Where there is no reference, $s=\log\pi$ stands alone. Four letters are options: $\varepsilon$ is `label_smoothing`, $\tau$ `discopop_tau`, $\alpha$ `sft_weight`, and $\gamma$ is $\beta$ times `gamma_beta_ratio`; $z_0$ comes with KTO below. The formulas are those of `dpo_core.family.FAMILY`, one line of code each. Look rows up when the text comes to them.
#
# | `loss_type` | the loss of a pair | source |
# |---|---|---|
# | `sigmoid` | $-(1-\varepsilon)\log\sigma(h)-\varepsilon\log\sigma(-h)$ | DPO [Rafailov et al. 2023](https://arxiv.org/abs/2305.18290), eq. 7; $\varepsilon>0$ is cDPO [Mitchell 2023](https://ericmitchell.ai/cdpo.pdf), eq. 3 |
# | `robust` | $\frac{-(1-\varepsilon)\log\sigma(h)+\varepsilon\log\sigma(-h)}{1-2\varepsilon}$ | [Chowdhury et al. 2024](https://arxiv.org/abs/2403.00409) |
# | `hinge` | $\max(0,1-h)$ | [Liu et al. 2024](https://arxiv.org/abs/2309.06657) |
# | `ipo_sum` | $(m-\frac{1}{2\beta})^2$ | [Azar et al. 2024](https://arxiv.org/abs/2310.12036), eq. 17 |
# | `exo_pair` | $\mathrm{KL}(\sigma(h)\,\Vert\,1-\varepsilon)$, two coins | [Ji et al. 2024](https://arxiv.org/abs/2402.00856), eq. 16 |
# | `discopop` | $\sigma(-\frac h\tau)\log(1+e^{-h})+\sigma(\frac h\tau)\,e^{-h}$ | [Lu et al. 2024](https://arxiv.org/abs/2406.08414), eq. 5 |
# | `sigmoid_norm` | `sigmoid` with $\bar m$ for $m$ | [Lambert et al. 2024](https://arxiv.org/abs/2411.15124), eq. 6; [Meng et al. 2024](https://arxiv.org/abs/2405.14734), app. I |
# | `ipo` | $(\bar m-\frac{1}{2\beta})^2$ | TRL's reading of eq. 17 |
# | `slic` | $\max(0,1-\beta(s_w-s_l))$ | [Zhao et al. 2023](https://arxiv.org/abs/2305.10425), without its regulariser |
# | `simpo` | $-\log\sigma(\beta(\bar s_w-\bar s_l)-\gamma)$ | [Meng et al. 2024](https://arxiv.org/abs/2405.14734) |
# | `orpo` | $-\bar s_w-\beta\log\sigma(\mathrm{lo}(\bar s_w)-\mathrm{lo}(\bar s_l))$, log-odds $\mathrm{lo}(\bar s)=\bar s-\log(1-e^{\bar s})$ | [Hong et al. 2024](https://arxiv.org/abs/2403.07691) |
# | `sigmoid_sft` | $-\log\sigma(h)-\alpha\,\bar s_w$ | [Pang et al. 2024](https://arxiv.org/abs/2404.19733) |
# | `nca_pair` | $-\log\sigma(\beta\rho_w)-\frac12\log\sigma(-\beta\rho_w)-\frac12\log\sigma(-\beta\rho_l)$ | [Chen et al. 2024](https://arxiv.org/abs/2402.05369) |
# | `bco_pair` | $-\log\sigma(\beta\rho_w)-\log\sigma(-\beta\rho_l)$ | [Jung et al. 2024](https://arxiv.org/abs/2404.04656), without its reward shift |
# | `sppo_hard` | $(\rho_w-\frac{1}{2\beta})^2+(\rho_l+\frac{1}{2\beta})^2$ | [Wu et al. 2024](https://arxiv.org/abs/2405.00675), eq. 4.7 |
# | `apo_zero` | $\sigma(-\beta\rho_w)+\sigma(\beta\rho_l)$ | [D'Oosterlinck et al. 2024](https://arxiv.org/abs/2408.06266), eq. 7 |
# | `apo_down` | $\sigma(\beta\rho_w)+\sigma(-h)$ | the same, eq. 8 |
# | `kto_loss` | $\sigma(\mp\beta(\rho-z_0))$: minus for a desirable answer, plus for another | [Ethayarajh et al. 2024](https://arxiv.org/abs/2402.01306), eq. 7 |
#
# One function computes the pairs: `preference_loss(..., loss_type=...)`. Losses that divide by a length ask for `chosen_lengths` and `rejected_lengths`; losses without a reference take none. An option that a loss does not know is an error, not a silence. KTO needs no pairs, so it is a function of its own. The numbers of equations are those that TRL's or the authors' own code names.
#
# TRL 1.16 has three more names. `aot` and `aot_unpaired` sort the log-ratios of a batch and compare them rank by rank ([Melnyk et al. 2024](https://arxiv.org/abs/2406.05882)), so no pair has a loss of its own. `sft` compares nothing; with `sigmoid` beside it, it is `sigmoid_sft`.

# %% [markdown] lang="zh"
# ## 一张表
# 每个损失一行。$\rho$ 是对数比，$m=\rho_w-\rho_l$，$h=\beta m$；$|y|$ 是词元数，加横线表示除以它：$\bar\rho=\rho/|y|$，$\bar m=\bar\rho_w-\bar\rho_l$。没有参考策略的地方，单用 $s=\log\pi$。另有四个字母是选项：$\varepsilon$ 是 `label_smoothing`，$\tau$ 是 `discopop_tau`，$\alpha$ 是 `sft_weight`，$\gamma$ 是 $\beta$ 乘 `gamma_beta_ratio`；$z_0$ 讲到 KTO 再说。这些式子就是 `dpo_core.family.FAMILY` 里的那些，每个一行代码。不必从头读，讲到哪个查哪个。
#
# | `loss_type` | 一对的损失 | 出处 |
# |---|---|---|
# | `sigmoid` | $-(1-\varepsilon)\log\sigma(h)-\varepsilon\log\sigma(-h)$ | DPO [Rafailov et al. 2023](https://arxiv.org/abs/2305.18290)，式 7；$\varepsilon>0$ 是 cDPO [Mitchell 2023](https://ericmitchell.ai/cdpo.pdf)，式 3 |
# | `robust` | $\frac{-(1-\varepsilon)\log\sigma(h)+\varepsilon\log\sigma(-h)}{1-2\varepsilon}$ | [Chowdhury et al. 2024](https://arxiv.org/abs/2403.00409) |
# | `hinge` | $\max(0,1-h)$ | [Liu et al. 2024](https://arxiv.org/abs/2309.06657) |
# | `ipo_sum` | $(m-\frac{1}{2\beta})^2$ | [Azar et al. 2024](https://arxiv.org/abs/2310.12036)，式 17 |
# | `exo_pair` | $\mathrm{KL}(\sigma(h)\,\Vert\,1-\varepsilon)$，两枚硬币之间 | [Ji et al. 2024](https://arxiv.org/abs/2402.00856)，式 16 |
# | `discopop` | $\sigma(-\frac h\tau)\log(1+e^{-h})+\sigma(\frac h\tau)\,e^{-h}$ | [Lu et al. 2024](https://arxiv.org/abs/2406.08414)，式 5 |
# | `sigmoid_norm` | `sigmoid`，$m$ 换成 $\bar m$ | [Lambert et al. 2024](https://arxiv.org/abs/2411.15124)，式 6；[Meng et al. 2024](https://arxiv.org/abs/2405.14734)，附录 I |
# | `ipo` | $(\bar m-\frac{1}{2\beta})^2$ | TRL 对式 17 的读法 |
# | `slic` | $\max(0,1-\beta(s_w-s_l))$ | [Zhao et al. 2023](https://arxiv.org/abs/2305.10425)，不含正则项 |
# | `simpo` | $-\log\sigma(\beta(\bar s_w-\bar s_l)-\gamma)$ | [Meng et al. 2024](https://arxiv.org/abs/2405.14734) |
# | `orpo` | $-\bar s_w-\beta\log\sigma(\mathrm{lo}(\bar s_w)-\mathrm{lo}(\bar s_l))$，对数几率 $\mathrm{lo}(\bar s)=\bar s-\log(1-e^{\bar s})$ | [Hong et al. 2024](https://arxiv.org/abs/2403.07691) |
# | `sigmoid_sft` | $-\log\sigma(h)-\alpha\,\bar s_w$ | [Pang et al. 2024](https://arxiv.org/abs/2404.19733) |
# | `nca_pair` | $-\log\sigma(\beta\rho_w)-\frac12\log\sigma(-\beta\rho_w)-\frac12\log\sigma(-\beta\rho_l)$ | [Chen et al. 2024](https://arxiv.org/abs/2402.05369) |
# | `bco_pair` | $-\log\sigma(\beta\rho_w)-\log\sigma(-\beta\rho_l)$ | [Jung et al. 2024](https://arxiv.org/abs/2404.04656)，不含奖励平移 |
# | `sppo_hard` | $(\rho_w-\frac{1}{2\beta})^2+(\rho_l+\frac{1}{2\beta})^2$ | [Wu et al. 2024](https://arxiv.org/abs/2405.00675)，式 4.7 |
# | `apo_zero` | $\sigma(-\beta\rho_w)+\sigma(\beta\rho_l)$ | [D'Oosterlinck et al. 2024](https://arxiv.org/abs/2408.06266)，式 7 |
# | `apo_down` | $\sigma(\beta\rho_w)+\sigma(-h)$ | 同上，式 8 |
# | `kto_loss` | $\sigma(\mp\beta(\rho-z_0))$：好回答取负号，坏回答取正号 | [Ethayarajh et al. 2024](https://arxiv.org/abs/2402.01306)，式 7 |
#
# 成对的损失都由一个函数来算：`preference_loss(..., loss_type=...)`。要除以长度的，得给 `chosen_lengths` 和 `rejected_lengths`；没有参考策略的，不用给。某个损失用不上的选项，给了就报错，不会悄悄略过。KTO 不用回答对，另有一个函数。式号取自 TRL 或作者自己的代码。
#
# TRL 1.16 还有三个名字。`aot` 和 `aot_unpaired` 把一批对数比排序，再按名次比（[Melnyk et al. 2024](https://arxiv.org/abs/2406.05882)），没有哪一对有自己的损失。`sft` 什么也不比；与 `sigmoid` 放在一起，就是 `sigmoid_sft`。

# %%
MARGIN = ["sigmoid", "robust", "exo_pair", "hinge", "discopop", "ipo_sum"]  # another f of the same margin
ARGUMENT = ["sigmoid_norm", "ipo", "slic", "simpo"]  # another margin: a token, or without reference
ANSWERS = ["nca_pair", "bco_pair", "sppo_hard", "apo_zero", "apo_down", "sigmoid_sft", "orpo"]  # not of one margin alone
assert {*MARGIN, *ARGUMENT, *ANSWERS} == {*FAMILY}
for name, options in (("hinge", {"label_smoothing": 0.1}), ("exo_pair", {}), ("ipo", {}), ("sigmoid", {"discopop_tau": 0.1})):
    try:
        preference_loss(*hand, beta=0.4, loss_type=name, **options)
        raise AssertionError("not noticed")
    except ValueError as error:
        print(error)

# %% [markdown] lang="en"
# ## Another shape
# Six losses (seven with cDPO, which is `sigmoid` with $\varepsilon>0$) read the same margin $h$ and differ in the shape of $f$. Beside them stand four that read another margin; in the figure each is drawn against its own.

# %% [markdown] lang="zh"
# ## 换一个形状
# 六个损失（算上 cDPO 是七个，它就是 $\varepsilon>0$ 的 `sigmoid`）看的是同一个间隔 $h$，差别在 $f$ 的形状。旁边四个看的是别的间隔；图里各按自己的间隔来画。

# %% alt_en="Eleven small panels with the same axes: gradient weight from -1.4 to 2.4 against the margin from -4 to 4. sigmoid falls smoothly from 1 to 0; cdpo falls from 0.9 to -0.1; robust from 1.125 to 0.125; exo_pair is a positive bump that turns slightly negative; hinge and slic are 1 up to the margin 1 and then 0; discopop falls like a mixture and has a sharp negative notch around 0; ipo_sum and ipo are straight lines crossing zero at one half; sigmoid_norm equals sigmoid; simpo is sigmoid moved to the right by one half." alt_zh="十一幅小图，坐标相同：纵轴是梯度权重，-1.4 到 2.4；横轴是间隔，-4 到 4。sigmoid 从 1 平滑降到 0；cdpo 从 0.9 降到 -0.1；robust 从 1.125 降到 0.125；exo_pair 是一个正的鼓包，之后略为负；hinge 和 slic 在间隔 1 以前是 1，之后是 0；discopop 大体是下降的，但在 0 附近有一道很窄的负缺口；ipo_sum 和 ipo 是直线，在二分之一处过零；sigmoid_norm 与 sigmoid 一样；simpo 是 sigmoid 向右移二分之一。"
use_style()
fig, panels = plt.subplots(3, 4, figsize=(7.6, 5.2), sharex=True, sharey=True, layout="constrained")
h = torch.linspace(-4, 4, 1601).double()
shown = ["sigmoid", "cdpo", *MARGIN[1:], *ARGUMENT]
for axes, name in zip(panels.flat, shown):
    axes.axhline(0, color=COLORS["ref"], linewidth=0.8)
    axes.plot(h, pulls("sigmoid", h, 0 * h)[0], color=COLORS["ref"], linewidth=1, linestyle=":")
    axes.plot(h, pulls(name, h, 0 * h)[0], color=COLORS["policy"])
    axes.set_title(name, fontsize=9)
    axes.set(ylim=(-1.4, 2.4), xticks=[-4, 0, 4])
panels.flat[-1].set_axis_off()
fig.supxlabel("$h$", fontsize=10)
_ = fig.supylabel("$-f'(h)$", fontsize=10)

# %% [markdown] lang="en"
# **Figure 11.1.** Gradient weight against margin, $\beta=1$, all lengths 1, $\varepsilon=0.1$. Dotted: DPO. What differs is where a curve crosses zero and what it does on the right: it fades (`sigmoid`), is cut (`hinge`), turns back (`cdpo`, `exo_pair`, `ipo_sum`), or never fades (`robust`). `discopop` pushes the wrong way in a narrow notch around 0.

# %% [markdown] lang="zh"
# **图 11.1** 梯度权重随间隔的变化，$\beta=1$，长度都取 1，$\varepsilon=0.1$。点线：DPO。要看的是曲线在哪里过零、在右边怎么走：渐渐没力（`sigmoid`），一刀切断（`hinge`），掉过头来（`cdpo`、`exo_pair`、`ipo_sum`），还是一直拉下去（`robust`）。`discopop` 在 0 附近有一道窄缺口，那里推的方向是反的。

# %% [markdown] lang="en"
# **`sigmoid`** is logistic regression on the margin. Its stationary point is the true difference of rewards, so its minimum is $\pi^*$ and no compromise is needed. With a deterministic label ($q=1$) it has no stationary point.
#
# **cDPO** assumes that a share $\varepsilon$ of the labels is wrong and asks for no more certainty than that. With deterministic labels the margin stops at $\log\frac{1-\varepsilon}{\varepsilon}$, 2.197 for $\varepsilon=0.1$; with Bradley–Terry labels it stops short (0.776 in place of 1).
#
# **`robust`** makes the same assumption and corrects for it. Averaged over labels that are flipped with probability $\varepsilon$, its loss *is* the DPO loss of the clean labels: it undoes exactly the noise that it is told of. If the noise is not there, it overshoots (1.318 in place of 1), and where $q>1-\varepsilon$ it has no lower bound.
#
# **`hinge`** stops at margin 1, whatever the label, as long as it leans to one side. It is easy to reason about, but how sure the label is makes no difference to it.
#
# **`ipo_sum`** asks each pair for a difference $m$ of exactly $\frac{1}{2\beta}$, which keeps a policy on its leash even when the judge is certain. Its minimum is not DPO's: for pairs of two independent draws it is $\pi\propto\pi_{\mathrm{ref}}\,e^{w/\beta}$, where $w(y)$ is the probability that $y$ beats such a draw. That is the tilted reference of [chapter 6](06_objective.ipynb) again, tilted by win rate, not by reward.
#
# **`exo_pair`** turns the cross-entropy round: $\mathrm{KL}(\text{policy}\,\Vert\,\text{label})$, between the coins $\sigma(h)$ and $1-\varepsilon$. With deterministic labels it stops where cDPO does, at $\sigma(h)=1-\varepsilon$. Averaged over noisy labels it does not: its margin becomes $(2q-1)\log\frac{1-\varepsilon}{\varepsilon}$. At $\varepsilon=0$ the loss is infinite, so `label_smoothing` is not optional here.
#
# **`discopop`** was found by letting a language model propose losses and trying them out. With its temperature of 0.05 it is not monotone: a valley at $h=-0.119$, a hill at $h=0.072$. Training starts at $h=0$, between the two, where the slope is +0.784: the first step *lowers* the margin. On the toy below it never comes out of the valley.

# %% [markdown] lang="zh"
# **`sigmoid`**：在间隔上做逻辑回归。驻点就是真实的奖励差，所以最小值是 $\pi^*$，不用折中。遇上确定性标签（$q=1$），它就没有驻点。
#
# **cDPO**：假定有 $\varepsilon$ 的标签是错的，肯定到这个程度就够了。遇上确定性标签，间隔停在 $\log\frac{1-\varepsilon}{\varepsilon}$，$\varepsilon=0.1$ 时是 2.197；标签出自 Bradley–Terry 模型时，它停得太早（0.776，该是 1）。
#
# **`robust`**：同样的假定，但它把错纠回来。标签以概率 $\varepsilon$ 翻转，把它的损失对翻转取平均，得到的*就是*干净标签的 DPO 损失：告诉它多少噪声，它就恰好去掉多少。若噪声并不存在，它就冲过头（1.318，该是 1）；$q>1-\varepsilon$ 的地方，它没有下界。
#
# **`hinge`**：只要标签偏向一边，不管偏多少，都停在间隔 1。分析起来省事，只是标签有多肯定，对它没有分别。
#
# **`ipo_sum`**：要每一对的 $m$ 恰好是 $\frac{1}{2\beta}$，于是裁判再肯定，绳子也在。它的最小值与 DPO 的不同：若一对回答是两次独立抽取，最小值是 $\pi\propto\pi_{\mathrm{ref}}\,e^{w/\beta}$，其中 $w(y)$ 是 $y$ 胜过这样一次抽取的概率。还是[第 6 章](06_objective.ipynb)那种加权，只不过按胜率加，不按奖励加。
#
# **`exo_pair`**：把交叉熵反过来，写成 $\mathrm{KL}(\text{policy}\,\Vert\,\text{label})$，两枚硬币是 $\sigma(h)$ 和 $1-\varepsilon$。遇上确定性标签，它与 cDPO 停在同一处，$\sigma(h)=1-\varepsilon$；对有噪声的标签取平均，就不同了：间隔变成 $(2q-1)\log\frac{1-\varepsilon}{\varepsilon}$。$\varepsilon=0$ 时损失是无穷大，所以在这里 `label_smoothing` 非给不可。
#
# **`discopop`**：让语言模型提出损失，逐个去试，试出来的就是它。温度取 0.05 时它不单调：$h=-0.119$ 处是谷，$h=0.072$ 处是坡顶。训练从 $h=0$ 出发，正在两者之间，斜率 +0.784：第一步就把间隔*推低*。在后面的玩具上，它再没出过这个谷。

# %%
fine = torch.linspace(-0.3, 0.3, 60_001).double()
slope = -pulls("discopop", fine, 0 * fine)[0]
turns = fine[:-1][(slope[1:] * slope[:-1]) < 0].tolist()
print([round(turn, 4) for turn in turns], round(slope[30_000].item(), 4))
assert abs(turns[0] + 0.119) < 5e-4 and abs(turns[1] - 0.072) < 5e-4 and abs(slope[30_000] - 0.784) < 5e-4
always = torch.ones(1).double()  # a deterministic label
assert abs(STOPS["cdpo"](always) - 2.197) < 5e-4 and abs(STOPS["exo_pair"](always) - STOPS["cdpo"](always)) < 1e-12

one, other = torch.randn(2, 20, generator=torch.Generator().manual_seed(1)).double()  # 20 random pairs
averaged = 0.9 * losses("robust", one, other) + 0.1 * losses("robust", other, one)
assert (averaged - losses("sigmoid", one, other)).abs().max() < 1e-12  # robust undoes the noise it is told

# %%
def expected(name, logps, ref, wins, beta=1.0, lengths=None):
    """The mean loss over a table of comparisons, wins[i, j] being the weight of "i was preferred to j"."""
    i, j = torch.ones_like(wins[0] if wins.dim() > 2 else wins).nonzero().T
    columns = [values.expand_as(logps)[..., k].flatten() for values in (logps, ref) for k in (i, j)]
    sizes = None if lengths is None else [lengths[..., k].flatten() for k in (i, j)]
    each = losses(name, *columns, beta=beta, lengths=sizes).view(*logps.shape[:-1], -1)
    return (wins[..., i, j] * each).sum(-1)


def settle(name, problem, wins, beta=1.0, lengths=None):
    """Where a loss comes to rest, started at the reference: log-probabilities."""
    ref = problem.ref_logps
    found = tabular.minimise(lambda logits: expected(name, logits.log_softmax(-1), ref, wins, beta, lengths), ref)
    return found.log_softmax(-1)


# %%
problems = tabular.random_problems(20, 6, seed=0)  # 20 random problems, six answers each
draws = tabular.independent_pairs(problems.ref_logps, problems.ref_logps)
wins = tabular.comparisons(problems.reward, draws)  # soft labels
w = wins.sum(-1) / (wins.sum(-1) + wins.sum(-2))  # the share of its comparisons that an answer wins
by_win_rate = (problems.ref_logps + w / 0.5).log_softmax(-1)
assert (settle("ipo_sum", problems, wins, beta=0.5) - by_win_rate).abs().max() < 1e-9
assert (settle("sigmoid", problems, wins, beta=0.5) - tabular.optimal_policy(problems, 0.5)).abs().max() < 1e-9

# %% [markdown] lang="en"
# ## Another argument
# **By the token.** `sigmoid_norm` and `ipo` divide each log-ratio by the length of its answer. Where all answers have length $L$, that is $\beta/L$ in place of $\beta$. Where they differ, it changes the optimum: the log-ratio *a token* becomes $(r+c)/\beta$, with one constant $c$ for the prompt, so a long answer moves further for the same reward. This is why a useful $\beta$ is some $L$ times larger here. The authors of IPO wrote sums; TRL divides by lengths, and says in its code that the authors confirmed it. We keep both, under two names.
#
# **No reference.** `slic`, `simpo` and `orpo` read $\log\pi$ alone. They are often praised for needing one model in memory. So does every loss of this chapter, once the reference's log-probabilities are stored beside the pairs, as `make-pairs` does here and `precompute_ref_log_probs=True` in TRL 1.16; what a loss without a reference then saves is one pass over the data. And it has no leash: SimPO on answers of length 1 with $\gamma=0$ has the optimum $\pi\propto e^{r/\beta}$, DPO's for a reference that is uniform. Nothing of the true reference is in it. $\gamma>0$ asks for more on every pair, whatever its label; with deterministic labels it changes how fast the policy runs, not where to. SLiC's paper adds the cross-entropy of a target answer; our `slic` is the other half alone, to show what happens without that term. ORPO carries such a term within it, the next-token loss of the chosen answer.

# %% [markdown] lang="zh"
# ## 换一个自变量
# **按词元算。** `sigmoid_norm` 和 `ipo` 把对数比除以回答的长度。回答都一样长（$L$）时，无非是 $\beta$ 换成 $\beta/L$。长短不一时，最优解就变了：*每个词元*的对数比变成 $(r+c)/\beta$，同一个提示共用一个常数 $c$；奖励相同，长回答走得更远。所以这里好用的 $\beta$ 要大上 $L$ 倍左右。IPO 的论文写的是和，TRL 除以长度，代码里的注释说，这一点向作者求证过。两种读法我们都留着，各有名字。
#
# **不要参考策略。** `slic`、`simpo`、`orpo` 只看 $\log\pi$。常听人说，它们的好处是内存里只要一个模型。其实参考策略的对数概率一旦随偏好对存好（这里由 `make-pairs` 来存，TRL 1.16 里是 `precompute_ref_log_probs=True`），本章的损失个个都只要一个模型；不要参考策略，省下的只是事先过一遍数据。绳子却没了：回答长度都是 1、$\gamma=0$ 时，SimPO 的最优解是 $\pi\propto e^{r/\beta}$，等于拿均匀分布当参考策略的 DPO。真正的参考策略，一点影子也没有。$\gamma>0$ 的意思是，不管标签如何，每一对都多要一截；遇上确定性标签，它只改变跑得多快，不改变跑向哪里。SLiC 的论文还有一项，是目标回答的交叉熵；我们的 `slic` 只取另一半，好看看没有那一项会怎样。ORPO 自带这样一项：chosen 的下一个词元预测损失。

# %%
sizes = torch.randint(2, 9, (20, 6), generator=torch.Generator().manual_seed(2)).double()  # 20 x 6 random lengths


def apart(values):
    """value_i - value_j for every two answers."""
    return values[..., :, None] - values[..., None, :]


found = settle("sigmoid_norm", problems, wins, beta=4.0, lengths=sizes)
assert (apart((found - problems.ref_logps) / sizes) - apart(problems.reward) / 4.0).abs().max() < 1e-9
same = torch.full_like(sizes, 5.0)
assert (settle("sigmoid_norm", problems, wins, 2.5, same) - settle("sigmoid", problems, wins, 0.5)).abs().max() < 1e-9
CALLS["simpo, γ = 0"] = {"loss_type": "simpo", "gamma_beta_ratio": 0.0}
assert (settle("simpo, γ = 0", problems, wins, 0.5) - (problems.reward / 0.5).log_softmax(-1)).abs().max() < 1e-9

# %% [markdown] lang="en"
# ## An opinion on each answer
# The remaining losses are not functions of one margin. They have two pulls: one on the chosen answer, one on the rejected. DPO, by contrast, never changes its cost when both log-ratios rise by the same amount, and that is how a chosen answer can fall ([chapter 9](09_dpo.ipynb)).
#
# Four of them are a term for the chosen answer plus a term for the rejected one. For these the stationary point is found answer by answer. Let $w(y)$ be the share of its comparisons that an answer wins, and $u=\beta\rho$. On average the answer costs $w$ times the first term and $1-w$ times the second. For `bco_pair`: $-w\log\sigma(u)-(1-w)\log\sigma(-u)$, which is flat where $\sigma(u)=w$. So
#
# | loss | stationary $u$ | in words |
# |---|---|---|
# | `bco_pair` | $\log\frac{w}{1-w}$ | a classifier of good and bad answers |
# | `nca_pair` | $\log 2w$ | the density of the chosen answers |
# | `sppo_hard` | $w-\frac12$ | the reference, tilted by win rate |
# | `apo_zero`, `kto_loss` | none | every winner up, every loser down, for ever |
#
# These would hold for each answer by itself, but probabilities sum to 1, so in general they cannot all hold at once. In one case they do: `nca_pair` with $\beta=1$ and pairs of two draws from the reference. Then $\pi_{\mathrm{ref}}\,e^u=2\,\pi_{\mathrm{ref}}\,w$ sums to 1. It is the density of the chosen answers: what fine-tuning on them alone would reach. In general that sum is not 1, and the minimum is a compromise. BCO's paper has a reward shift $\delta$ in both terms, $\sigma(\beta\rho-\delta)$, which can take up what is left over; TRL's `bco_pair` has none, and is the loss that NCA's authors call `biasedNCA`.

# %% [markdown] lang="zh"
# ## 对每个回答各有看法
# 剩下的损失，不是哪一个间隔的函数。它们有两股拉力，一股拉 chosen，一股推 rejected。DPO 则不然：两个对数比一同升高，它的代价一点不变，chosen 会降正是因为这个（[第 9 章](09_dpo.ipynb)）。
#
# 其中有四个，是 chosen 一项加 rejected 一项。它们的驻点可以一个回答一个回答地算。设 $w(y)$ 是一个回答在自己的比较里胜出的比例，$u=\beta\rho$。平均下来，它的代价是 $w$ 乘前一项，加 $1-w$ 乘后一项。拿 `bco_pair` 来说：$-w\log\sigma(u)-(1-w)\log\sigma(-u)$，在 $\sigma(u)=w$ 处是平的。于是
#
# | 损失 | 驻点 $u$ | 白话 |
# |---|---|---|
# | `bco_pair` | $\log\frac{w}{1-w}$ | 分好坏的分类器 |
# | `nca_pair` | $\log 2w$ | chosen 的密度 |
# | `sppo_hard` | $w-\frac12$ | 参考策略，按胜率加权 |
# | `apo_zero`、`kto_loss` | 无 | 赢多的一直升，输多的一直降 |
#
# 每个回答单看，都该如此；但概率之和是 1，一般没法同时成立。有一种情形恰好能：`nca_pair` 取 $\beta=1$，一对回答是参考策略的两次抽取。这时 $\pi_{\mathrm{ref}}\,e^u=2\,\pi_{\mathrm{ref}}\,w$ 加起来就是 1，正是 chosen 的密度：只拿 chosen 做微调，终点也在那里。一般情形下，和对不上 1，最小值只好折中。BCO 的论文在两项里都放了一个奖励平移 $\delta$，写成 $\sigma(\beta\rho-\delta)$，多出来的可以由它吸收；TRL 的 `bco_pair` 没有这个 $\delta$，与 NCA 作者代码里的 `biasedNCA` 是同一个损失。

# %%
share = 0.05 + 0.9 * torch.rand(20, generator=torch.Generator().manual_seed(3)).double()  # 20 random shares of wins
rest = {"bco_pair": logit(share), "nca_pair": (2 * share).log(), "sppo_hard": share - 0.5}
for name, u in rest.items():
    up, down = pulls(name, u, u)
    assert (share * up - (1 - share) * down).abs().max() < 1e-12  # the winner's pull balances the loser's
u = torch.linspace(-6, 6, 49).double()
up, down = pulls("apo_zero", u, u)
assert ((0.6 * up - 0.4 * down) > 0).all()  # an answer that wins more than it loses is pulled up everywhere
low = u[u < -0.1]  # where the rejected answer has fallen, the chosen one is pushed down from 0 to half as far
assert pulls("apo_down", 0 * low, low)[0].max() < 0 and pulls("apo_down", low / 2, low)[0].abs().max() < 1e-12
assert (settle("nca_pair", problems, wins, beta=1.0).exp() - 2 * problems.ref_logps.exp() * w).abs().max() < 1e-12
totals = (problems.ref_logps + logit(w)).exp().sum(-1)
print([round(total, 2) for total in totals[:5].tolist()])  # bco_pair, beta 1: what would have to be 1
assert totals.min() > 1.05
yes = torch.ones(20, dtype=torch.bool)
kto = sum(kto_loss(side, 0 * side, good, beta=1.0, kl=0.0)[0] for side, good in ((one, yes), (other, ~yes)))
assert (kto - losses("apo_zero", one, other)).abs().max() < 1e-12  # with z_0 = 0, KTO is apo_zero

# %% alt_en="Eight small panels with two curves each: green, the pull on the chosen answer, orange, the push on the rejected one, against the answer's own log-ratio times beta, from -4 to 4. nca_pair and bco_pair: green falls, orange rises; nca_pair's green turns negative. sppo_hard: straight lines crossing zero at one half and minus one half. apo_zero: two identical bumps around 0. apo_down: the green curve is zero and the orange one a bump. sigmoid_sft: green falls to a positive constant, orange rises from 0 to 1. orpo, against the log-probability a token. kto_loss with z_0 = 1: two bumps around 1." alt_zh="八幅小图，每幅两条曲线：绿线是对 chosen 的拉力，橙线是对 rejected 的推力；横轴是该回答自己的 beta 乘对数比，-4 到 4。nca_pair 和 bco_pair：绿线降，橙线升，nca_pair 的绿线降到零以下。sppo_hard：两条直线，在正负二分之一处过零。apo_zero：两个重合的鼓包，在 0 附近。apo_down：绿线是零，橙线是鼓包。sigmoid_sft：绿线降到一个正的常数，橙线从 0 升到 1。orpo 的横轴是每个词元的对数概率。kto_loss 取 z_0 = 1：鼓包在 1 附近。"
fig, panels = plt.subplots(2, 4, figsize=(7.6, 3.9), layout="constrained")
u = torch.linspace(-4, 4, 401).double()
for axes, name in zip(panels.flat, [*ANSWERS, "kto_loss"]):
    x, fixed = (u / 2 - 2.02, torch.full_like(u, -1.0)) if name == "orpo" else (u, torch.zeros_like(u))
    if name == "kto_loss":
        sides = [x.clone().requires_grad_() for _ in range(2)]
        total = sum(kto_loss(s, fixed, good.expand(401), beta=1.0, kl=1.0)[0].sum() for s, good in zip(sides, (yes[:1], ~yes[:1])))
        (up, down) = torch.autograd.grad(total, sides)
        up = -up
    else:
        up, down = pulls(name, x, fixed)[0], pulls(name, fixed, x)[1]
    axes.axhline(0, color=COLORS["ref"], linewidth=0.8)
    axes.plot(x, up, color=COLORS["chosen"])
    axes.plot(x, down, color=COLORS["rejected"], linestyle="--")
    axes.set_title(name, fontsize=9)
    axes.set_ylim(-1.1, 2.2)
_ = fig.supxlabel(r"$\beta\rho$", fontsize=10)

# %% [markdown] lang="en"
# **Figure 11.2.** Two pulls. Green: how hard the chosen answer is pulled up, against its own $\beta\rho$ while the rejected answer stays where the reference has it; orange: how hard the rejected answer is pushed down, the chosen staying. `orpo` is drawn against $\bar s$, the other answer at $\bar s=-1$; `kto_loss` with $z_0=1$. In `apo_down` the chosen answer feels nothing as long as the rejected one is at the reference; once that has fallen, it is pushed down after it, half as far. In `sigmoid_sft` its pull never ends.

# %% [markdown] lang="zh"
# **图 11.2** 两股拉力。绿：把 chosen 往上拉多大力，横轴是它自己的 $\beta\rho$，这时 rejected 停在参考策略处；橙：把 rejected 往下推多大力，这时 chosen 不动。`orpo` 的横轴是 $\bar s$，另一个回答在 $\bar s=-1$；`kto_loss` 取 $z_0=1$。`apo_down` 里，rejected 还在参考策略处时，chosen 不受力；rejected 降下去以后，chosen 也跟着被往下推，推到它的一半深。`sigmoid_sft` 对 chosen 的拉力永不归零。

# %% [markdown] lang="en"
# **`nca_pair`** comes from noise contrastive estimation: it fits each answer's own density, not a difference. **`bco_pair`** trains a classifier whose logit is the implicit reward; each answer is judged alone. **`sppo_hard`** is one round of a game that the policy plays against itself: winners go to $+\frac{1}{2\beta}$, losers to $-\frac{1}{2\beta}$ (the authors' code halves the sum and can take soft win rates; TRL's does neither). **`apo_zero`** anchors both answers at the reference, for data better than the model; **`apo_down`** lowers both, the loser more, for a model that is better than its data. **KTO** needs no pairs: each answer is called desirable or not, and compared with a reference point $z_0$, an estimate of the KL. Both **`sigmoid_sft`** and **`orpo`** add the next-token loss of the chosen answer, which pulls it up for ever and so works against its fall.
#
# KTO, `apo_zero` and `apo_down` use $\sigma$ where DPO has $\log\sigma$. Such a term fades on *both* sides: an answer that is hopelessly wrong is let go as well as one that is won. So a wrong label pulls little once the policy is sure of the opposite. The price is that there is no stationary point: with noisy labels too, an answer that wins more than it loses goes up without end.

# %% [markdown] lang="zh"
# **`nca_pair`** 出自噪声对比估计（noise contrastive estimation）：拟合的是每个回答自己的密度，不是差。**`bco_pair`** 训练一个分类器，logit 就是隐式奖励，每个回答单独评判。**`sppo_hard`** 是策略同自己博弈的一个回合：赢家去 $+\frac{1}{2\beta}$，输家去 $-\frac{1}{2\beta}$（作者的代码把和除以二，还能用软的胜率；TRL 的两样都没有）。**`apo_zero`** 把两个回答都锚在参考策略上，用于数据比模型好的时候；**`apo_down`** 让两个都降，输家降得更多，用于模型比数据好的时候。**KTO** 不用回答对：每个回答只标好坏，再同参考点 $z_0$ 比，$z_0$ 是 KL 的估计。**`sigmoid_sft`** 和 **`orpo`** 都加上 chosen 的下一个词元预测损失，永远把它往上拉，用来抵住它的下降。
#
# DPO 用 $\log\sigma$ 的地方，KTO、`apo_zero`、`apo_down` 用的是 $\sigma$。这样的一项在*两头*都没力：赢定的松手，错得没救的也松手。所以策略一旦认定相反的一方，错标签就拉不动它了。代价是没有驻点：标签有噪声也一样，赢多输少的回答会一直升上去。

# %% [markdown] lang="en"
# ## Where they rest
# Now the example of the book: one prompt, three answers, reference probabilities 0.5, 0.3, 0.2, rewards 1, 0, -1, $\beta=0.5$, all three pairs equally often, lengths 1. Each loss is minimised from the reference, once with soft Bradley–Terry labels, once with deterministic ones: a judge who is always certain. DPO's optimum $\pi^*$ is 0.919, 0.075, 0.007.

# %% [markdown] lang="zh"
# ## 它们停在哪里
# 再用全书那个例子：一个提示，三个回答，参考概率 0.5、0.3、0.2，奖励 1、0、-1，$\beta=0.5$，三对回答出现得一样多，长度都是 1。每个损失都从参考策略出发，降到最小：一次用 Bradley–Terry 软标签，一次用确定性标签，裁判总是很肯定。DPO 的最优解 $\pi^*$ 是 0.919、0.075、0.007。

# %%
toy = Problem(torch.tensor([0.5, 0.3, 0.2]).double().log(), torch.tensor([1.0, 0.0, -1.0]).double())
REST, NAMES = {}, ["sigmoid", "cdpo", *MARGIN[1:], *ARGUMENT[2:], *ANSWERS]  # with lengths 1 the others are doubles
for name in NAMES:
    for labels in ("soft", "deterministic"):
        if (name, labels) != ("robust", "deterministic"):  # which has no lower bound
            table = tabular.comparisons(toy.reward, tabular.uniform_pairs(3), labels)
            REST[name, labels] = settle(name, toy, table, beta=0.5).exp().tolist()
    print(f"{name:12}", *(" ".join(f"{p:.3f}" for p in REST.get((name, labels), [])) for labels in ("soft", "deterministic")), sep="   ")
star = tabular.optimal_policy(toy, 0.5).exp().tolist()
assert all(abs(a - b) < 1e-9 for a, b in zip(REST["sigmoid", "soft"], star)) and abs(star[0] - 0.919) < 5e-4
for name, soft, certain in (("cdpo", 0.863, 0.977), ("ipo_sum", 0.635, 0.707), ("exo_pair", 0.905, 0.986), ("sppo_hard", 0.639, 0.693),
                            ("nca_pair", 0.734, 0.789), ("simpo", 0.893, 1.0), ("orpo", 0.542, 0.713), ("apo_zero", 1.0, 1.0)):
    assert abs(REST[name, "soft"][0] - soft) < 6e-4 and abs(REST[name, "deterministic"][0] - certain) < 6e-4
assert abs(REST["discopop", "soft"][0] - 0.435) < 6e-4 and abs(REST["bco_pair", "soft"][0] - 0.801) < 6e-4
for name in ("nca_pair", "bco_pair", "sigmoid_sft", "orpo"):
    assert REST[name, "deterministic"][1] > 0.15 and REST[name, "deterministic"][2] < 1e-3

# %% alt_en="One row for each loss: the probability of the best answer, from 0.4 to 1, where the loss comes to rest; a filled dot for Bradley-Terry labels, an open one for deterministic labels. A pink line stands at 0.919, a grey one at 0.5. sigmoid, hinge and exo_pair lie at or next to the pink line; cdpo, simpo and slic near it; sppo_hard, ipo_sum and orpo far left of it; discopop left of the grey line; apo_zero and apo_down at 1." alt_zh="每个损失一行：停下时最好那个回答的概率，从 0.4 到 1；实心点是 Bradley-Terry 标签，空心点是确定性标签。粉线在 0.919，灰线在 0.5。sigmoid、hinge、exo_pair 在粉线上或紧挨着它；cdpo、simpo、slic 不远；sppo_hard、ipo_sum、orpo 在左边很远处；discopop 在灰线左边；apo_zero 和 apo_down 在 1 处。"
fig, axes = figure(width=6.4, height=4.2)
axes.axvline(star[0], color=COLORS["theory"])
axes.axvline(0.5, color=COLORS["ref"])
for row, name in enumerate(reversed(NAMES)):
    axes.plot(REST[name, "soft"][0], row, "o", color=COLORS["policy"], zorder=3)
    if (name, "deterministic") in REST:
        axes.plot(REST[name, "deterministic"][0], row, "o", color=COLORS["policy"], fillstyle="none", markersize=9)
axes.set(yticks=range(len(NAMES)), yticklabels=reversed(NAMES), xlabel=r"$\pi(y_1)$")
axes.tick_params(axis="y", labelsize=9)

# %% [markdown] lang="en"
# **Figure 11.3.** The probability of the best answer where each loss rests. Filled: Bradley–Terry labels. Open: deterministic labels. Lines: $\pi^*$ (pink), the reference (grey). At the same $\beta$ the losses end far apart, and on the pink line only `sigmoid` and, by accident, `hinge`.

# %% [markdown] lang="zh"
# **图 11.3** 每个损失停下时，最好那个回答的概率。实心：Bradley–Terry 标签。空心：确定性标签。线：$\pi^*$（粉）、参考策略（灰）。$\beta$ 相同，终点却相差很远；落在粉线上的只有 `sigmoid`，还有碰巧的 `hinge`。

# %% [markdown] lang="en"
# Only `sigmoid` rests at $\pi^*$ for a reason. `hinge` does so by accident: it wants margin 1, and neighbouring answers of this example differ by exactly 1. `exo_pair` is close because $(2q-1)\log 9$ is close to the logit for moderate $q$. `ipo_sum` and `sppo_hard`, at the same $\beta$, move much less: what tilts them is a win rate, and that cannot exceed 1. `simpo` comes near by accident too; the reference is not in it. `discopop` sits in its valley, with the best answer *below* the reference.
#
# With deterministic labels the family splits. `sigmoid`, `simpo`, `apo_zero` and `apo_down` run to 1, and `robust` has no lower bound at all. `cdpo`, `exo_pair`, `hinge`, `slic`, `ipo_sum`, `sppo_hard` stay where a finite margin holds them. In between stand other losses with an opinion on each answer: `nca_pair`, `bco_pair`, `sigmoid_sft` and `orpo` give up the answer that always loses, but hold the one that wins half of its comparisons. `apo_zero` runs to 1 even with soft labels.

# %% [markdown] lang="zh"
# 有理由停在 $\pi^*$ 的，只有 `sigmoid`。`hinge` 是碰巧：它要的间隔是 1，而这个例子里相邻回答的奖励正好差 1。`exo_pair` 挨得近，是因为 $q$ 不太极端时，$(2q-1)\log 9$ 与 logit 很接近。`ipo_sum` 和 `sppo_hard` 在同样的 $\beta$ 下动得少得多：给它们加权的是胜率，胜率超不过 1。`simpo` 挨得近也是碰巧，它里面没有参考策略。`discopop` 待在谷里，最好的回答反而*低于*参考策略。
#
# 换成确定性标签，家族就分成几支。`sigmoid`、`simpo`、`apo_zero`、`apo_down` 跑向 1，`robust` 干脆没有下界。`cdpo`、`exo_pair`、`hinge`、`slic`、`ipo_sum`、`sppo_hard` 有有限的间隔拉住，停得下来。中间是另外几个对每个回答各有看法的：`nca_pair`、`bco_pair`、`sigmoid_sft`、`orpo` 放弃总输的回答，却留得住胜负各半的那个。`apo_zero` 用软标签也跑向 1。

# %% [markdown] lang="en"
# ## Held against TRL
# `chapters/data/trl_losses.py` runs TRL's own methods on eight pairs and stores losses and gradients (TRL 1.16). Here they are compared with ours: all but `slic` and `ipo_sum`, which TRL does not have. KTO's are compared in the test suite. Printed are the version, the number of losses, and those that differ by more than $10^{-12}$.

# %% [markdown] lang="zh"
# ## 与 TRL 对账
# `chapters/data/trl_losses.py` 拿八对回答，跑 TRL 自己的方法，存下损失和梯度（TRL 1.16）。下面与我们的比一比。TRL 没有的 `slic` 和 `ipo_sum` 除外；KTO 的在测试里比。打印的是版本、损失的个数，以及相差超过 $10^{-12}$ 的那些。

# %%
stored = json.loads(Path("data/trl_losses.json").read_text(encoding="utf-8"))
column = {name: torch.tensor([pair[name] for pair in stored["pairs"]], dtype=torch.float64) for name in stored["pairs"][0]}
worst = {}
for case in (case for case in stored["cases"] if case["loss_type"] != "kto"):
    four = {name: column[name].clone().requires_grad_() for name in column if name.endswith("logps")}
    settings = {name: value for name, value in case.items() if name not in ("loss", "grad_chosen", "grad_rejected")}
    ours = preference_loss(**four, chosen_lengths=column["chosen_lengths"], rejected_lengths=column["rejected_lengths"], **settings)[0]
    sides = torch.autograd.grad(ours.sum(), [four["policy_chosen_logps"], four["policy_rejected_logps"]], allow_unused=True)
    for mine, theirs in zip((ours, *sides), ("loss", "grad_chosen", "grad_rejected")):
        theirs = torch.tensor(case[theirs], dtype=torch.float64)
        gap = ((mine if mine is not None else 0 * theirs) - theirs).abs() / theirs.abs().clamp(min=1)
        worst[case["loss_type"]] = max(worst.get(case["loss_type"], 0.0), gap.max().item())
print(stored["trl"], len(worst), [name for name, gap in worst.items() if gap > 1e-12])
assert {name for name, gap in worst.items() if gap > 1e-12} == {"exo_pair", "orpo"}
assert stored["trl"].startswith("1.16") and max(worst.values()) < 1e-5 and len(worst) == 15

# %% [markdown] lang="en"
# What differs is named. `orpo` and `exo_pair` agree to float32 only, because TRL casts there. Beyond that:
#
# - **`label_smoothing` on `sigmoid`.** TRL 1.16 takes the option and ignores it; ours is cDPO. A smoothing that a loss does not know is an error here.
# - **`hinge`.** TRL's index of papers lists it under SLiC as well; it has the reference of [Liu et al. 2024](https://arxiv.org/abs/2309.06657) in it and no regulariser. SLiC itself has no reference: our `slic`.
# - **`ipo`.** TRL divides by lengths, the authors' formula does not: `ipo`, `ipo_sum`.
# - **`bco_pair`** lacks the paper's reward shift; **`sppo_hard`** is twice the authors' loss.
# - **`discopop`** in TRL is `exp(-h)` times a sigmoid, infinity times zero where $h$ is very negative. Ours adds the exponents first and stays finite.
# - **`sft`** is a mean over all tokens of a batch in TRL; in `sigmoid_sft` each answer has its own mean, so that a pair has a loss.
# - **`simpo`** is in TRL's `CPOConfig`, where `cpo_alpha` is 1 by default and adds a next-token loss; SimPO needs 0. **`orpo`** in TRL's trainer takes the next-token loss over prompt and answer together, ours over the answer alone; what agrees above is the rest.
# - **KTO's $z_0$** should be the KL of the policy. TRL and the authors estimate it from answers to *other* prompts in the batch, clamped at 0.

# %% [markdown] lang="zh"
# 不一样的地方，一一指明。`orpo` 和 `exo_pair` 只在 float32 的精度上一致，因为 TRL 在那里转了类型。此外：
#
# - **`sigmoid` 的 `label_smoothing`。** TRL 1.16 收下这个选项，却不用；我们这里它就是 cDPO。损失不认的平滑，在这里会报错。
# - **`hinge`。** TRL 的论文索引把它也列在 SLiC 名下；可它带着 [Liu et al. 2024](https://arxiv.org/abs/2309.06657) 的参考策略，也没有正则项。SLiC 本身没有参考策略，那是我们的 `slic`。
# - **`ipo`。** TRL 除以长度，作者的公式不除：`ipo` 与 `ipo_sum`。
# - **`bco_pair`** 少了论文里的奖励平移；**`sppo_hard`** 是作者的损失的两倍。
# - **`discopop`** 在 TRL 里是 `exp(-h)` 乘一个 sigmoid，$h$ 很负时是无穷乘零。我们先把指数相加，结果总是有限的。
# - **`sft`** 在 TRL 里是对一批的所有词元取平均；在 `sigmoid_sft` 里每个回答各取各的平均，一对才有自己的损失。
# - **`simpo`** 在 TRL 里归 `CPOConfig` 管，那里 `cpo_alpha` 默认是 1，会加上一项下一个词元预测损失；要 SimPO，得设成 0。**`orpo`** 的下一个词元预测损失，TRL 的训练器对提示和回答一起算，我们只算回答；上面对得上的是其余部分。
# - **KTO 的 $z_0$** 本该是策略的 KL。TRL 和作者都拿同一批里*别的*提示的回答来估计，截到不低于 0。

# %%
extreme = torch.tensor(-800.0)
print((torch.exp(-extreme) * torch.sigmoid(extreme / 0.05)).item(), discopop(extreme, 0.05).item())
assert (torch.exp(-extreme) * torch.sigmoid(extreme / 0.05)).isnan() and discopop(extreme, 0.05).isfinite()

# %% [markdown] lang="en"
# In TRL the family is spelt like this (the names of ours carry over):
#
# ```python
# DPOConfig(loss_type="sigmoid", beta=0.1)                         # also hinge, ipo, nca_pair, bco_pair, sppo_hard,
#                                                                  # apo_zero, apo_down, sigmoid_norm
# DPOConfig(loss_type="robust", beta=0.1, label_smoothing=0.1)
# DPOConfig(loss_type="exo_pair", beta=0.1, label_smoothing=1e-3)  # must be above 0
# DPOConfig(loss_type="discopop", beta=0.05, discopop_tau=0.05)
# DPOConfig(loss_type=["sigmoid", "sft"], loss_weights=[1.0, 1.0]) # sigmoid_sft
# CPOConfig(loss_type="simpo", beta=2.0, simpo_gamma=1.0,          # gamma = beta * gamma_beta_ratio
#           cpo_alpha=0.0)                                         # trl.experimental.cpo
# ORPOConfig(beta=0.1)                                             # trl.experimental.orpo
# KTOConfig(beta=0.1, desirable_weight=1.0, undesirable_weight=1.0)
# ```
#
# `cdpo`, `slic` and `ipo_sum` are not there.

# %% [markdown] lang="zh"
# 在 TRL 里，这个家族这样写（名字与我们的相通）：
#
# ```python
# DPOConfig(loss_type="sigmoid", beta=0.1)                         # also hinge, ipo, nca_pair, bco_pair, sppo_hard,
#                                                                  # apo_zero, apo_down, sigmoid_norm
# DPOConfig(loss_type="robust", beta=0.1, label_smoothing=0.1)
# DPOConfig(loss_type="exo_pair", beta=0.1, label_smoothing=1e-3)  # must be above 0
# DPOConfig(loss_type="discopop", beta=0.05, discopop_tau=0.05)
# DPOConfig(loss_type=["sigmoid", "sft"], loss_weights=[1.0, 1.0]) # sigmoid_sft
# CPOConfig(loss_type="simpo", beta=2.0, simpo_gamma=1.0,          # gamma = beta * gamma_beta_ratio
#           cpo_alpha=0.0)                                         # trl.experimental.cpo
# ORPOConfig(beta=0.1)                                             # trl.experimental.orpo
# KTOConfig(beta=0.1, desirable_weight=1.0, undesirable_weight=1.0)
# ```
#
# `cdpo`、`slic`、`ipo_sum` 那里没有。

# %% [markdown] lang="en"
# ## On a network
# Does any of this show on a network? `chapters/data/family_runs.py` trained all of them on the same pairs: 9,600 pairs of the base model's own answers, one point for three numbers and one for the right value, each label drawn once. Three seeds, each with its own base model, pairs and order; AdamW at 1e-3, 150 steps of 64. Each loss was tried on the first base model at three values of $\beta$ (half, once and twice a middle value), and at a fourth beyond where the best of them was an end, on draws kept for tuning. The best by $J$, mean reward minus 0.25 KL, was trained again on fresh draws from all three seeds; that is what is shown, each run measured on 3,000 answers. Learning rate and steps are the same for all; the learning rate was chosen with `sigmoid`. `sft` imitates the chosen answers.
#
# Three losses run here, in small: 3,840 pairs, 60 steps.

# %% [markdown] lang="zh"
# ## 放到网络上
# 这些在网络上看得出来吗？`chapters/data/family_runs.py` 在同一批回答对上把它们都训练了一遍：基座自己的回答 9,600 对，写三个数得一分，值对得一分，标签各抽一次。三个种子，各有各的基座、回答对和顺序；AdamW，学习率 1e-3，每步 64 对，150 步。每个损失先在第一个基座上，用留作调参的抽样试三个 $\beta$（一个中间值，加上它的一半和两倍）；最好的若在两端，就朝那头再试一个。哪个 $\beta$ 最好，看 $J$：平均奖励减去 0.25 倍的 KL。选定之后换抽样，三个种子重训，每次用 3,000 个回答来测，结果列在下面。学习率和步数大家一样；学习率当初是拿 `sigmoid` 选的。`sft` 是模仿 chosen。
#
# 这里现场跑三个小的：3,840 对，60 步。

# %% tags=["nbval-ignore-output"]
use_threads()
task, device = BookTask(), default_device()
base = load_pretrained("gen").to(device)
data = on_policy_pairs(base, task, 3840, reward="style+exact", labels="sampled", temperatures=(1.5, 2.0), seed=0)
live = {}
for name, strength in (("sigmoid", 0.5), ("bco_pair", 0.25), ("simpo", 4.0)):
    policy = copy.deepcopy(base)
    config = LoopConfig(steps=60, learning_rate=1e-3, log_every=20)
    train(policy, data.batches(64, seed=0), dpo_step(strength, name), config, progress=False)
    live[name] = evaluate(policy, task, n=1000, seed=502, reference=base)
    print(f"{name:9}", *(f"{key} {live[name][key].value:.3f}" for key in ("style", "exact", "kl")))
written = {len(text) for text, p in zip(task.table.completions, task.table.probability) if p > 0}
assert (min(written), max(written)) == (4, 8)  # tokens of an answer, E included
assert all(shares["style"].value > 0.4 for shares in live.values())
assert live["simpo"]["kl"].value > 2 * live["sigmoid"]["kl"].value  # no reference, no leash
assert live["simpo"]["exact"].value < live["sigmoid"]["exact"].value

# %%
report = json.loads(Path("data/family_runs.json").read_text(encoding="utf-8"))


def of(name, key):
    """What a loss reached, seed by seed."""
    return np.array([run[key]["value"] for run in report["runs"] if run["name"] == name])


beta_of = {run["name"]: run["beta"] for run in report["runs"]}
order = sorted(beta_of, key=lambda name: -of(name, "J").mean())
print("loss          beta  style exact  both     KL     J [lowest, highest]    chosen rejected")
for name in order:
    style, exact, both, kl, j, up, down = (of(name, key).mean() for key in
                                           ("style", "exact", "both", "kl", "J", "chosen_ratio", "rejected_ratio"))
    print(f"{name:12} {beta_of[name] or 0:5g}  {style:.3f} {exact:.3f} {both:.3f} {kl:6.3f} {j:6.3f} "
          f"[{of(name, 'J').min():6.3f}, {of(name, 'J').max():6.3f}] {up:7.3f} {down:7.3f}")
wanted = predicted_optimum(task, "style+exact", 0.25)
best = wanted["style"] + wanted["exact"] - 0.25 * wanted["kl"]
print(f"optimum             {wanted['style']:.3f} {wanted['exact']:.3f} {wanted['both']:.3f} {wanted['kl']:6.3f} {best:6.3f}")

# %% alt_en="Two panels. Left: one row for each loss, sorted; three small dots, one for each seed, at the J reached, from 0.1 to 1.65; a pink line at 1.64, a grey one at 1.05 for the base model. sppo_hard, bco_pair, orpo, nca_pair and hinge lead at about 1.4, sigmoid follows at 1.37; discopop, apo_zero, sft and kto lie near 1.25, slic and simpo at the bottom. Right: mean reward against KL with the pink frontier above; the points lie below it, most between KL 0.2 and 1.3, apo_zero, kto, slic and simpo further right and lower." alt_zh="左右两幅。左：每个损失一行，排好序；三个小点各是一个种子，横轴是达到的 J，从 0.1 到 1.65；粉线在 1.64，灰线在 1.05，是基座。sppo_hard、bco_pair、orpo、nca_pair、hinge 领先，约 1.4，sigmoid 随后，1.37；discopop、apo_zero、sft、kto 在 1.25 附近，slic 和 simpo 垫底。右：平均奖励对 KL，上方是粉色的前沿；点都在它下面，多数在 KL 0.2 到 1.3 之间，apo_zero、kto、slic、simpo 更靠右、更低。"
fig, (left, right) = figure(columns=2, width=7.8, height=4.4)
drawn = [name for name in reversed(order) if name != "apo_down"]  # far off both panels
tone = {name: "policy" if name in MARGIN + ["cdpo"] else "baseline" if name in ARGUMENT else "chosen" for name in drawn}
for row, name in enumerate(drawn):
    color = COLORS["ref" if name == "sft" else tone[name]]
    left.plot(of(name, "J"), [row] * 3, "o", color=color, markersize=4)
    right.errorbar(of(name, "kl").mean(), of(name, "reward").mean(), fmt="o", color=color, markersize=5,
                   xerr=[[np.ptp(of(name, "kl")) / 2]], yerr=[[np.ptp(of(name, "reward")) / 2]], elinewidth=1)  # fmt: skip
left.set(yticks=range(len(drawn)), yticklabels=drawn, xlabel="$J$")
left.tick_params(axis="y", labelsize=9)
left.axvline(best, color=COLORS["theory"])
left.axvline(1.05, color=COLORS["ref"], linestyle=":")
edge = [predicted_shares(task, tabular.optimal_policy(class_problem(task, "style+exact"), b)) for b in np.geomspace(0.02, 40, 60)]
right.plot([p["kl"] for p in edge], [p["style"] + p["exact"] for p in edge], color=COLORS["theory"])
for name, shift in (("sigmoid", (9, -12)), ("sft", (7, -12)), ("orpo", (27, -29)), ("kto", (7, -12)), ("slic", (7, -12)), ("simpo", (7, -12))):
    right.annotate(name, (of(name, "kl").mean(), of(name, "reward").mean()), shift, textcoords="offset points", fontsize=8,
                   arrowprops={"arrowstyle": "-", "linewidth": 0.6, "color": COLORS["ref"]} if name == "orpo" else None)  # fmt: skip
right.set(xlabel="KL", ylabel="$r$", xlim=(0, 6))

# %% [markdown] lang="en"
# **Figure 11.4.** All on the same pairs, three seeds. Left: $J$ against the optimum (pink) and the base model (dotted). Right: reward against KL under the exact frontier; points are means, bars reach half of the spread over seeds. Blue: functions of DPO's margin; orange: another margin; green: two pulls, and KTO; grey: imitation. `apo_down` is off the scale.

# %% [markdown] lang="zh"
# **图 11.4** 同一批回答对，三个种子。左：$J$，最优解（粉）和基座（点线）作对照。右：奖励对 KL，上方是精确的前沿；点是平均，横竖线是种子间极差的一半。蓝：DPO 的间隔的函数；橙：别的间隔；绿：两股拉力，还有 KTO；灰：模仿。`apo_down` 在图外。

# %% [markdown] lang="en"
# **Most of the family is one crowd.** Thirteen losses end with a $J$ between 1.32 and 1.42, `sigmoid` at 1.370; the optimum is 1.639, the base model 1.05, and imitation 1.253. Nobody reaches the optimum in 150 steps on labels drawn once. The seeds of one of these losses lie up to 0.16 apart, and the $J$ of one run is known to about $\pm0.02$, so most ranks mean nothing. `sppo_hard`, `orpo` and `hinge` are ahead of `sigmoid` on each of our three seeds, by 0.047, 0.025 and 0.021 on average. That is thin evidence: of twelve rivals exactly as good as `sigmoid`, 1.5 on average would be ahead all three times by luck. The choice of $\beta$ matters far more: on the tuning draws `sigmoid` alone goes from 0.252 at $\beta=0.125$ to 1.440 at 0.5.
#
# **No stationary point, no stop.** `apo_zero` and `kto` write three numbers in 0.972 and 0.975 of their answers, more than the optimum's 0.959, at a KL of 2.17, where the optimum needs 1.26. That is what the table of stationary points foretold. They end no better than imitation (1.259 and 1.252), and that at the largest $\beta$ tried. KTO's own estimate of its KL was at most 0.61 in the last 30 steps: answers to other prompts say little of the answers to this one.
#
# **No reference, no leash.** `slic` ($J=0.952$) and `simpo` (0.231) fall below the base model on average, and right values fall to 0.599 and 0.475. `orpo` has no reference either and reaches 1.395, its seeds within 0.003. What it has and they have not is the next-token term.
#
# **`apo_down` is the wrong tool here**: 0.014 of its answers are right. It is meant for data worse than the model; on the model's own answers it pushes down what the model writes, the chosen answers by 29 nats. `discopop` (1.265) ends near imitation; whether its valley is to blame we have not tested.
#
# **Does the chosen answer fall?** In `sigmoid_sft` it rises by 0.21 nats, in `sft` by 0.33; in `sigmoid` it stays (0.02), in `nca_pair` it falls by 0.22. NCA's authors write that their loss effectively prevents the fall. At the $\beta$ chosen here, where the policy went to KL 1.13 (`sigmoid`: 0.61), it did not.
#
# Two warnings. Four losses (`slic`, `discopop`, `apo_zero`, `kto`) did best at the largest $\beta$ they were given, so their best may lie beyond. And a common learning rate and number of steps favours losses that are quick, and perhaps `sigmoid`, with which the learning rate was chosen.

# %% [markdown] lang="zh"
# **大半个家族挤在一起。** 十三个损失的 $J$ 落在 1.32 到 1.42 之间，`sigmoid` 是 1.370；最优解是 1.639，基座是 1.05，模仿是 1.253。标签只抽一次，150 步，谁也到不了最优解。这里面同一个损失，种子之间能差到 0.16；单次训练的 $J$ 也只测得准到 $\pm0.02$ 左右，所以名次多半当不得真。三个种子上都胜过 `sigmoid` 的有 `sppo_hard`、`orpo`、`hinge`，平均多 0.047、0.025、0.021。这点证据很薄：就算十二个对手与 `sigmoid` 一样好，单凭运气，平均也有 1.5 个三次全赢。$\beta$ 的影响大得多：在调参的抽样上，`sigmoid` 自己就从 $\beta=0.125$ 时的 0.252 变到 0.5 时的 1.440。
#
# **没有驻点，就不停。** `apo_zero` 和 `kto` 有 0.972 和 0.975 的回答写三个数，比最优解的 0.959 还多；KL 是 2.17，而最优解只要 1.26。驻点表里预言的，在网络上应验了。它们最后不比模仿强（1.259 和 1.252），而且用的已经是试过的最大的 $\beta$。KTO 自己估计的 KL，最后 30 步里至多 0.61：别的提示的回答，说明不了这个提示的回答。
#
# **没有参考策略，就没有绳子。** `slic`（$J=0.952$）和 `simpo`（0.231）平均下来还不如基座，值对的比例降到 0.599 和 0.475。`orpo` 同样没有参考策略，却到了 1.395，三个种子相差不到 0.003。它有而那两个没有的，是下一个词元预测损失这一项。
#
# **`apo_down` 在这里用错了地方**：它的回答只有 0.014 是对的。它是给数据不如模型的情形用的；数据就是模型自己的回答时，它把模型会写的都往下推，chosen 降了 29 奈特。`discopop`（1.265）与模仿差不多；是不是那个谷害的，我们没有验证。
#
# **chosen 降不降？** `sigmoid_sft` 里升 0.21 奈特，`sft` 里升 0.33；`sigmoid` 里基本不动（0.02），`nca_pair` 里降 0.22。NCA 的作者说，他们的损失能有效防止 chosen 下降。用这里调出来的 $\beta$，策略走到了 KL 1.13（`sigmoid` 是 0.61），没有防住。
#
# 有两点要当心。四个损失（`slic`、`discopop`、`apo_zero`、`kto`）选中的是给它们的最大的 $\beta$，真正最好的可能还在外面。学习率和步数大家一样，走得快的损失会占便宜；学习率又是拿 `sigmoid` 选的，`sigmoid` 或许也占了便宜。

# %%
def mean(name, key):
    """The mean over the seeds."""
    return of(name, key).mean()


crowd = [name for name in order if 1.315 < mean(name, "J") < 1.42]
assert len(crowd) == 13 and order[:13] == crowd and 0.155 < max(np.ptp(of(name, "J")) for name in crowd) < 0.165
for name, j in (("sigmoid", 1.370), ("orpo", 1.395), ("slic", 0.952), ("simpo", 0.231), ("apo_zero", 1.259), ("kto", 1.252),
                ("sft", 1.253), ("discopop", 1.265)):  # fmt: skip
    assert abs(mean(name, "J") - j) < 6e-4, name
for name, lead in (("sppo_hard", 0.047), ("orpo", 0.025), ("hinge", 0.021)):
    assert (of(name, "J") > of("sigmoid", "J")).all() and abs(mean(name, "J") - mean("sigmoid", "J") - lead) < 6e-4
assert abs(best - 1.639) < 5e-4 and np.ptp(of("orpo", "J")) < 0.003
start = predicted_shares(task, class_problem(task, "style+exact").ref_logps)  # the base model's authors
assert abs(start["style"] + start["exact"] - 1.05) < 5e-3 and mean("slic", "J") < 1.05
ahead = [name for name in crowd if (of(name, "J") > of("sigmoid", "J")).all()]
assert sorted(ahead) == ["hinge", "orpo", "sppo_hard"] and 12 / 2**3 == 1.5
blur = [run["J"]["high"] - run["J"]["value"] for run in report["runs"] if run["name"] in crowd]
assert 0.0175 < np.median(blur) < 0.0225

# %%
for name, key, value in (("apo_zero", "style", 0.972), ("kto", "style", 0.975), ("slic", "exact", 0.599), ("simpo", "exact", 0.475),
                         ("apo_down", "exact", 0.014), ("sigmoid_sft", "style", 0.549)):  # fmt: skip
    assert abs(mean(name, key) - value) < 6e-4, name
for name, kl in (("apo_zero", 2.17), ("kto", 2.17), ("nca_pair", 1.13), ("sigmoid", 0.61)):
    assert abs(mean(name, "kl") - kl) < 6e-3
assert abs(wanted["kl"] - 1.26) < 5e-3 and 0.6 < max(run.get("kl_estimate", 0) for run in report["runs"]) < 0.615
for name, moved in (("sigmoid_sft", 0.21), ("sft", 0.33), ("sigmoid", 0.02), ("nca_pair", -0.22), ("apo_down", -28.8)):
    assert abs(mean(name, "chosen_ratio") - moved) < 0.05
tried = {name: [t["beta"] for t in report["tries"] if t["name"] == name] for name in beta_of if name != "sft"}
assert {name for name in tried if beta_of[name] in (min(tried[name]), max(tried[name]))} == {"slic", "discopop", "apo_zero", "kto"}
tuned = {t["beta"]: t["J"]["value"] for t in report["tries"] if t["name"] == "sigmoid"}
assert abs(tuned[0.125] - 0.252) < 6e-4 and abs(tuned[0.5] - 1.440) < 6e-4

# %% [markdown] lang="en"
# ## Which one?
# Each line but the last rests on a number of this chapter; the last column says what to watch.
#
# | what you know | what fits | because | watch |
# |---|---|---|---|
# | pairs, noisy labels | `sigmoid` | it rests at $\pi^*$, and not by accident (0.919 on the toy) | the start, $\beta$, the learning rate |
# | labels are flipped at a known rate | `robust` | it undoes exactly what it is told of | told too much, it overshoots: 1.318 in place of 1 |
# | some labels are wrong, nobody knows how many | `cdpo` | no margin beyond 2.197 at $\varepsilon=0.1$ | it stops short: 0.776 in place of 1 |
# | the judge is always certain | `ipo_sum`, `sppo_hard`, `cdpo` | they rest inside: 0.707, 0.693, 0.977; DPO runs to 1 | the scale of $\beta$ is another for each |
# | the chosen answer must not fall | `sigmoid_sft` | it rises by 0.21 nats | it learns less: style 0.549 |
# | nothing can be scored by a reference | `orpo` | $J=$ 1.395, with a next-token term | `simpo` and `slic` have no such term: 0.231, 0.952 |
# | good and bad answers, no pairs | `kto_loss` | it needs none | nothing stops it: KL 2.17 |
# | long answers | `sigmoid_norm`, `simpo`, `ipo` | a log-ratio a token | this toy cannot tell |

# %% [markdown] lang="zh"
# ## 用哪一个？
# 除了末行，每一行都有本章的一个数作依据；最后一列说要当心什么。
#
# | 手上的情况 | 合适的 | 因为 | 当心 |
# |---|---|---|---|
# | 成对，标签有噪声 | `sigmoid` | 它停在 $\pi^*$，不是碰巧（玩具上是 0.919） | 起点、$\beta$、学习率 |
# | 标签翻转的比例已知 | `robust` | 告诉它多少，它就去掉多少 | 说多了就冲过头：该是 1，到了 1.318 |
# | 有些标签是错的，不知道多少 | `cdpo` | $\varepsilon=0.1$ 时，间隔不超过 2.197 | 停得太早：该是 1，只到 0.776 |
# | 裁判总是很肯定 | `ipo_sum`、`sppo_hard`、`cdpo` | 停在里面：0.707、0.693、0.977；DPO 跑向 1 | 各自的 $\beta$ 尺度不同 |
# | chosen 不许降 | `sigmoid_sft` | 它升 0.21 奈特 | 学得少：三个数的比例 0.549 |
# | 没有参考策略可以打分 | `orpo` | $J=$ 1.395，带下一个词元预测损失 | `simpo` 和 `slic` 没有这样一项：0.231、0.952 |
# | 只有好坏，不成对 | `kto_loss` | 它不用回答对 | 没有什么让它停：KL 2.17 |
# | 回答很长 | `sigmoid_norm`、`simpo`、`ipo` | 对数比按词元算 | 这个玩具说明不了 |

# %% [markdown] lang="en"
# > **What the toy hides.** Our answers have four to eight tokens, so what dividing by the length does to answers of hundreds of tokens is not seen here; it is what SimPO and `sigmoid_norm` were made for. Our reference is a good model and our pairs are its own answers; ORPO was made for a model that has not been fine-tuned, APO for pairs from elsewhere. The reward is known and $J$ can be computed; elsewhere one compares win rates, and a loss that leaves its leash may look better than it is. We tuned only $\beta$ for each loss; a fair comparison tunes the learning rate and the number of steps as well, and then compares over many seeds.

# %% [markdown] lang="zh"
# > **玩具没告诉你的。** 我们的回答只有四到八个词元，几百个词元的回答除以长度会怎样，这里看不到，而 SimPO 和 `sigmoid_norm` 正是冲着它去的。我们的参考策略本来就好，回答对又是它自己写的；ORPO 是给没有微调过的模型准备的，APO 是给别处来的回答对准备的。这里奖励已知，$J$ 算得出来；换个地方只能比胜率，一个挣脱了绳子的损失，看上去可能比实际要好。我们给每个损失只调了 $\beta$；要比得公平，学习率和步数也该各调各的，再多换些种子。

# %% [markdown] lang="en"
# > **To remember.** Ask two questions of a preference loss: how hard does it pull at each margin, and where do the pulls of a noisy label balance? Only where the balance is a multiple of the logit does the minimum tilt the reference by the reward: a $\pi^*$. A finite balance under deterministic labels is a leash; none at all means that early stopping is the only brake. A loss without a reference has no leash unless something else holds it, such as the next-token term of ORPO. Among losses that have a balance and a leash, tuning mattered more here than the name.

# %% [markdown] lang="zh"
# > **记住。** 见到一个偏好损失，先问两句：间隔是多少时，它用多大的力拉？标签有噪声时，两股拉力在哪里相抵？只有相抵处是 logit 的倍数，最小值才是参考策略按奖励加权，也就是某个 $\pi^*$。遇上确定性标签，相抵处仍然有限，那就是绳子；一个都没有，就只能靠早停来刹车。没有参考策略的损失没有绳子，除非另有东西拉住它，比如 ORPO 的下一个词元预测损失。相抵处和绳子都不缺的损失之间，在这里调参比名字要紧。

# %% [markdown] lang="en"
# ## Exercises

# %% [markdown] lang="zh"
# ## 练习

# %% [markdown] lang="en"
# ### Exercise 11.1 · Two stops by hand
# ★☆☆ · 5 minutes
#
# A pair's label is $q=0.9$, and $\beta=0.1$. At which difference of log-ratios $m$ does IPO (`ipo_sum`) rest, and at which DPO?
#
# <details><summary>Hint</summary>
#
# IPO: $\beta m=q-\frac12$. DPO: $\beta m=\log\frac{q}{1-q}$.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 11.1 · 手算两个停处
# ★☆☆ · 5 分钟
#
# 一对的标签是 $q=0.9$，$\beta=0.1$。IPO（`ipo_sum`）停在多大的对数比之差 $m$ 处？DPO 呢？
#
# <details><summary>提示</summary>
#
# IPO：$\beta m=q-\frac12$。DPO：$\beta m=\log\frac{q}{1-q}$。
#
# </details>

# %% tags=["exercise"]
answer_11_1 = ...  # (m of IPO, m of DPO)
check("11.1", answer_11_1)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# $0.4/0.1=4$ nats, and $\log 9/0.1=21.97$ nats.
#
# ```python
# answer_11_1 = (0.4 / 0.1, math.log(9) / 0.1)
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# $0.4/0.1=4$ 奈特，$\log 9/0.1=21.97$ 奈特。
#
# ```python
# answer_11_1 = (0.4 / 0.1, math.log(9) / 0.1)
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 11.2 · A ceiling under deterministic labels
# ★★☆ · 10 minutes
#
# Your judge is deterministic, and you want every margin $h$ to end at 3. Which `label_smoothing` does `sigmoid` need?
#
# <details><summary>Hint</summary>
#
# With deterministic labels cDPO rests at $\log\frac{1-\varepsilon}{\varepsilon}$. Solve for $\varepsilon$.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 11.2 · 给确定性标签设个上限
# ★★☆ · 10 分钟
#
# 裁判是确定性的，你想让每个间隔 $h$ 都停在 3。`sigmoid` 的 `label_smoothing` 该取多少？
#
# <details><summary>提示</summary>
#
# 遇上确定性标签，cDPO 停在 $\log\frac{1-\varepsilon}{\varepsilon}$。解出 $\varepsilon$。
#
# </details>

# %% tags=["exercise"]
answer_11_2 = ...  # a number between 0 and 0.5
check("11.2", answer_11_2)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# $\varepsilon=\sigma(-3)=0.0474$.
#
# ```python
# answer_11_2 = 1 / (1 + math.exp(3))
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# $\varepsilon=\sigma(-3)=0.0474$。
#
# ```python
# answer_11_2 = 1 / (1 + math.exp(3))
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 11.3 · The exponential loss
# ★★☆ · 15 minutes
#
# Somebody proposes $f(h)=e^{-h}$. Bradley–Terry labels, connected pairs, a table of answers: at which $\beta$ does this loss end where DPO ends with $\beta=0.5$?
#
# <details><summary>Hint</summary>
#
# Solve $q\,e^{-h}=(1-q)\,e^{h}$ for $h$.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 11.3 · 指数损失
# ★★☆ · 15 分钟
#
# 有人提议 $f(h)=e^{-h}$。Bradley–Terry 标签，回答对连成一片，策略是一张表：$\beta$ 取多少，它的终点与 DPO 取 $\beta=0.5$ 时相同？
#
# <details><summary>提示</summary>
#
# 从 $q\,e^{-h}=(1-q)\,e^{h}$ 解出 $h$。
#
# </details>

# %% tags=["exercise"]
answer_11_3 = ...  # a beta
check("11.3", answer_11_3)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# $e^{2h}=\frac{q}{1-q}$, so $h$ is half the logit, proportional to it: the optimum is a $\pi^*$. The log-ratios differ by half the reward difference over $\beta$; to match DPO's, $\beta$ must be half as large: 0.25.
#
# ```python
# answer_11_3 = 0.5 / 2
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# $e^{2h}=\frac{q}{1-q}$，所以 $h$ 是 logit 的一半，与它成正比：最优解也是某个 $\pi^*$。对数比之差是奖励差的一半除以 $\beta$；要与 DPO 相同，$\beta$ 就得减半：0.25。
#
# ```python
# answer_11_3 = 0.5 / 2
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 11.4 · Where does this loss stop?
# ★★★ · 25 minutes
#
# Write `stop(loss, q)`: for a function `loss` of the margin (tensor in, tensor out) and labels `q`, `(N,)`, all between 0.5 and 1, the margin in [0, 20] at which $q\,f(h)+(1-q)\,f(-h)$ is least, to three decimals. Try it on losses of your own.
#
# <details><summary>Hint</summary>
#
# A grid will do: `torch.linspace(0, 20, 20_001)`. Evaluate the mean cost for all labels at once, `(N, 20001)`.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 11.4 · 这个损失停在哪里？
# ★★★ · 25 分钟
#
# 写一个 `stop(loss, q)`：`loss` 是间隔的函数（张量进，张量出），`q` 是标签，`(N,)`，都在 0.5 与 1 之间；返回 [0, 20] 里使 $q\,f(h)+(1-q)\,f(-h)$ 最小的间隔，精确到三位小数。拿你自己编的损失试试。
#
# <details><summary>提示</summary>
#
# 用网格就够：`torch.linspace(0, 20, 20_001)`。所有标签的平均代价一次算完，`(N, 20001)`。
#
# </details>

# %% tags=["exercise"]
def stop(loss, q):
    ...


check("11.4", stop)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# ```python
# def stop(loss, q):
#     h = torch.linspace(0, 20, 20_001, dtype=torch.float64)
#     cost = q[:, None] * loss(h) + (1 - q[:, None]) * loss(-h)  # (N, 20001)
#     return h[cost.argmin(-1)]
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# ```python
# def stop(loss, q):
#     h = torch.linspace(0, 20, 20_001, dtype=torch.float64)
#     cost = q[:, None] * loss(h) + (1 - q[:, None]) * loss(-h)  # (N, 20001)
#     return h[cost.argmin(-1)]
# ```
#
# </details>

# %% [markdown] lang="en"
# ## References
# - [Azar et al. 2024](https://arxiv.org/abs/2310.12036): IPO.
# - [Chen et al. 2024](https://arxiv.org/abs/2402.05369): NCA.
# - [Chowdhury et al. 2024](https://arxiv.org/abs/2403.00409): robust DPO.
# - [D'Oosterlinck et al. 2024](https://arxiv.org/abs/2408.06266): APO.
# - [Ethayarajh et al. 2024](https://arxiv.org/abs/2402.01306): KTO.
# - [Hong et al. 2024](https://arxiv.org/abs/2403.07691): ORPO.
# - [Ji et al. 2024](https://arxiv.org/abs/2402.00856): EXO.
# - [Jung et al. 2024](https://arxiv.org/abs/2404.04656): BCO.
# - [Lambert et al. 2024](https://arxiv.org/abs/2411.15124): Tülu 3, DPO by the token.
# - [Liu et al. 2024](https://arxiv.org/abs/2309.06657): the hinge on log-ratios (RSO).
# - [Lu et al. 2024](https://arxiv.org/abs/2406.08414): DiscoPOP.
# - [Melnyk et al. 2024](https://arxiv.org/abs/2406.05882): AOT.
# - [Meng et al. 2024](https://arxiv.org/abs/2405.14734): SimPO; DPO by the token as an ablation.
# - [Mitchell 2023](https://ericmitchell.ai/cdpo.pdf): cDPO.
# - [Pang et al. 2024](https://arxiv.org/abs/2404.19733): DPO with a next-token term.
# - [Rafailov et al. 2023](https://arxiv.org/abs/2305.18290): DPO.
# - [Wu et al. 2024](https://arxiv.org/abs/2405.00675): SPPO.
# - [Zhao et al. 2023](https://arxiv.org/abs/2305.10425): SLiC-HF.

# %% [markdown] lang="zh"
# ## 参考文献
# - [Azar et al. 2024](https://arxiv.org/abs/2310.12036)：IPO。
# - [Chen et al. 2024](https://arxiv.org/abs/2402.05369)：NCA。
# - [Chowdhury et al. 2024](https://arxiv.org/abs/2403.00409)：稳健的 DPO（robust）。
# - [D'Oosterlinck et al. 2024](https://arxiv.org/abs/2408.06266)：APO。
# - [Ethayarajh et al. 2024](https://arxiv.org/abs/2402.01306)：KTO。
# - [Hong et al. 2024](https://arxiv.org/abs/2403.07691)：ORPO。
# - [Ji et al. 2024](https://arxiv.org/abs/2402.00856)：EXO。
# - [Jung et al. 2024](https://arxiv.org/abs/2404.04656)：BCO。
# - [Lambert et al. 2024](https://arxiv.org/abs/2411.15124)：Tülu 3，按词元算的 DPO。
# - [Liu et al. 2024](https://arxiv.org/abs/2309.06657)：对数比上的合页损失（RSO）。
# - [Lu et al. 2024](https://arxiv.org/abs/2406.08414)：DiscoPOP。
# - [Melnyk et al. 2024](https://arxiv.org/abs/2406.05882)：AOT。
# - [Meng et al. 2024](https://arxiv.org/abs/2405.14734)：SimPO；消融实验里有按词元算的 DPO。
# - [Mitchell 2023](https://ericmitchell.ai/cdpo.pdf)：cDPO。
# - [Pang et al. 2024](https://arxiv.org/abs/2404.19733)：带下一个词元预测损失的 DPO。
# - [Rafailov et al. 2023](https://arxiv.org/abs/2305.18290)：DPO。
# - [Wu et al. 2024](https://arxiv.org/abs/2405.00675)：SPPO。
# - [Zhao et al. 2023](https://arxiv.org/abs/2305.10425)：SLiC-HF。
