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
# # 9 DPO on a real network

# %% [markdown] lang="zh"
# # 9 在真实网络上做 DPO

# %% [markdown] lang="en"
# > **In this chapter.** You will be able to run a DPO training, read its curves, hold the result against the policy that theory predicts and against the rivals that need no preference loss, add up where the probability goes, and say what drives a run over the edge and what holds it. You need [chapter 3](03_sft.ipynb) and [chapter 4](04_sampling.ipynb); what chapters 5 to 8 derive stands here once more, in ten lines, so that the chapter can also be read by itself. 75 minutes to read, 100 seconds to run.

# %% [markdown] lang="zh"
# > **本章。** 读完后，你能跑完一次 DPO 训练，看懂它的曲线，拿结果同理论预言的策略对照，也同那些用不着偏好损失的对手对照，把概率的去向一笔一笔加出来，还说得出训练为什么会失控、怎样拉得住。需要读过[第 3 章](03_sft.ipynb)和[第 4 章](04_sampling.ipynb)；第 5 章到第 8 章推出的结论，这里用十行重述一遍，所以单读这一章也行。阅读 75 分钟，运行 100 秒。

# %%
import copy
import json
import math
from dataclasses import fields
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from checks import check
from matplotlib.patches import Rectangle
from torch.nn.functional import logsigmoid

from dpo_core import (BookTask, CharTokenizer, ClassicTask, arms, generate, judge,
                      load_pretrained, rl, score, sequence_logps, tabular, use_threads)  # fmt: skip
from dpo_core.evaluation import evaluate, own_answers, written_mass
from dpo_core.pairs import Pairs, check_same_start
from dpo_core.plotting import COLORS, INK, figure, points, use_style
from dpo_core.preferences import on_policy_pairs
from dpo_core.steps import dpo_step, sft_step
from dpo_core.task import read_prompt, stream
from dpo_core.theory import (class_problem, class_rewards, predicted_entropy,
                             predicted_optimum, predicted_shares)
from dpo_core.training import LoopConfig, default_device, train

# %% [markdown] lang="en"
# ## Ten lines from chapters 5 to 8
# A language model is a **policy**: to a prompt $x$ it writes an answer $y$ with probability $\pi(y\mid x)$. The model that training starts from is the **reference policy**, $\pi_{\mathrm{ref}}$. Training wants answers that people prefer. Ten lines say why a loss of one line is enough. Lines 1 and 2 are [chapter 5](05_preferences.ipynb), 3 and 4 [chapter 6](06_objective.ipynb), 5 to 9 [chapter 7](07_derivation.ipynb); line 10 is the first test of [chapter 8](08_tensors.ipynb).
#
# 1. A **reward** $r(x,y)$, a number, says how good an answer is. Nobody has to know it; it is there to reason with.
# 2. The **Bradley–Terry model** turns rewards into preferences: of two answers, $y_1$ is preferred with probability $\sigma(r_1-r_2)$, where $\sigma(z)=1/(1+e^{-z})$ ([Bradley & Terry 1952](https://doi.org/10.2307/2334029)).
# 3. We want reward, but we do not want to lose what the reference can do. So we hold the policy on a leash, its KL divergence from the reference, of strength $\beta>0$. The objective for one prompt is the mean reward of the policy's answers, minus that:
#
# $$J(\pi)=\mathbb{E}_{y\sim\pi}\,[r(x,y)]-\beta\,\mathrm{KL}(\pi\,\|\,\pi_{\mathrm{ref}}).$$
#
# 4. Its optimum is known: take the reference and reweight it,
#
# $$\pi^*(y\mid x)=\frac{1}{Z(x)}\,\pi_{\mathrm{ref}}(y\mid x)\,e^{r(x,y)/\beta},$$
#
# where $Z(x)$ is the number that makes the probabilities sum to 1.
#
# Take three answers with reference probabilities 0.5, 0.3, 0.2, rewards 1, 0, -1, and $\beta=0.5$. By hand: the factors $e^{r/\beta}$ are $e^{2}$, 1 and $e^{-2}$; the products 3.695, 0.300 and 0.027; their sum $Z$ is 4.022. Divide, and the optimum is 0.919, 0.075, 0.007. It beats 1,000 random rivals:

# %% [markdown] lang="zh"
# ## 第 5 章到第 8 章，十行说完
# 语言模型是一个**策略**（policy）：看到提示 $x$，它以概率 $\pi(y\mid x)$ 写出回答 $y$。训练从哪个模型出发，哪个就是**参考策略**（reference policy），记作 $\pi_{\mathrm{ref}}$。训练的目的，是让回答更合人意。为什么一行损失就够，看下面十行。第 1、2 行出自[第 5 章](05_preferences.ipynb)，第 3、4 行出自[第 6 章](06_objective.ipynb)，第 5 到 9 行出自[第 7 章](07_derivation.ipynb)；第 10 行是[第 8 章](08_tensors.ipynb)的头一项检查。
#
# 1. **奖励**（reward）$r(x,y)$ 是一个数，说的是回答有多好。不必有人知道它是多少，有了它才好推理。
# 2. **Bradley–Terry 模型**把奖励变成偏好：两个回答里，$y_1$ 胜出的概率是 $\sigma(r_1-r_2)$，其中 $\sigma(z)=1/(1+e^{-z})$（[Bradley & Terry 1952](https://doi.org/10.2307/2334029)）。
# 3. 奖励要高，参考策略原有的本事又不能丢。于是用一根绳子拴住策略：从目标里扣掉它相对参考策略的 KL 散度（KL divergence），扣得多重由 $\beta>0$ 定。对一个提示，目标是策略写出的回答的平均奖励，减去 $\beta$ 倍的 KL 散度：
#
# $$J(\pi)=\mathbb{E}_{y\sim\pi}\,[r(x,y)]-\beta\,\mathrm{KL}(\pi\,\|\,\pi_{\mathrm{ref}})$$
#
# 4. 最优解是已知的：拿参考策略来，重新加权，
#
# $$\pi^*(y\mid x)=\frac{1}{Z(x)}\,\pi_{\mathrm{ref}}(y\mid x)\,e^{r(x,y)/\beta}$$
#
# 其中 $Z(x)$ 负责让概率加起来等于 1。
#
# 举三个回答为例：参考概率 0.5、0.3、0.2，奖励 1、0、-1，$\beta=0.5$。手算一遍：三个系数 $e^{r/\beta}$ 是 $e^{2}$、1、$e^{-2}$；乘出来是 3.695、0.300、0.027；和 $Z$ 等于 4.022。一除，最优解就是 0.919、0.075、0.007。随机找 1,000 个对手，都比不过它：

# %%
ref, r, beta = torch.tensor([0.5, 0.3, 0.2]).double(), torch.tensor([1.0, 0.0, -1.0]).double(), 0.5
products = ref * torch.exp(r / beta)
Z = products.sum()
optimum = products / Z


def objective(policy):
    return (policy * r).sum(-1) - beta * (policy * (policy / ref).log()).sum(-1)


print([round(p, 3) for p in products.tolist()], round(Z.item(), 3))
print([round(p, 8) for p in optimum.tolist()])
assert torch.allclose(optimum, torch.tensor([0.91867231, 0.07459727, 0.00673043]).double(), atol=5e-9)
rivals = torch.distributions.Dirichlet(torch.ones(3).double()).sample((1_000,))
assert objective(optimum) >= objective(rivals).max()

# %% [markdown] lang="en"
# 5. Solve line 4 for the reward: $r(x,y)=\beta\log\dfrac{\pi^*(y\mid x)}{\pi_{\mathrm{ref}}(y\mid x)}+\beta\log Z(x)$.
# 6. Two answers to one prompt share $Z(x)$. In the difference of their rewards it is gone, and a preference depends on the difference alone (line 2).
# 7. So any policy carries an **implicit reward** $\hat r(x,y)=\beta\log\dfrac{\pi(y\mid x)}{\pi_{\mathrm{ref}}(y\mid x)}$, and with it an opinion on every pair.

# %% [markdown] lang="zh"
# 5. 从第 4 行解出奖励：$r(x,y)=\beta\log\dfrac{\pi^*(y\mid x)}{\pi_{\mathrm{ref}}(y\mid x)}+\beta\log Z(x)$。
# 6. 同一个提示的两个回答，$Z(x)$ 相同。奖励一相减，它就没了；而偏好只看这个差（第 2 行）。
# 7. 所以随便哪个策略都自带一份**隐式奖励**（implicit reward）$\hat r(x,y)=\beta\log\dfrac{\pi(y\mid x)}{\pi_{\mathrm{ref}}(y\mid x)}$，对每一对回答都有自己的看法。

# %%
implicit = beta * (optimum / ref).log()
assert torch.allclose(implicit + beta * Z.log(), r)  # line 5
assert torch.allclose(implicit[:, None] - implicit, r[:, None] - r)  # lines 6 and 7: all nine differences

# %% [markdown] lang="en"
# 8. Hold that opinion against the data. Let $y_w$ be the answer called *chosen* (the winner), $y_l$ the one called *rejected* (the loser), $q$ the probability that $y_w$ is the preferred one, and $h=\hat r(x,y_w)-\hat r(x,y_l)$ the **reward margin**. The DPO loss of the pair ([Rafailov et al. 2023](https://arxiv.org/abs/2305.18290), where $q=1$) is
#
# $$\ell=-q\log\sigma(h)-(1-q)\log\sigma(-h).$$
#
# 9. If the labels $q$ are Bradley–Terry probabilities of $r$, this loss is smallest where $h$ equals the true difference of rewards, that is, at $\pi^*$. No reward model, no sampling during training.
# 10. At the start $\pi=\pi_{\mathrm{ref}}$, so $h=0$ and the loss is $\ln 2$, whatever the labels.
#
# On the toy, the mean over its three pairs is 0.5099 at the optimum. The gradient with respect to the policy's logits is zero there, and at the reference the loss is $\ln 2$:

# %% [markdown] lang="zh"
# 8. 拿这份看法去对数据。设 $y_w$ 是 chosen（被偏好的回答，赢家），$y_l$ 是 rejected（不被偏好的回答，输家），$q$ 是 $y_w$ 胜出的概率，$h=\hat r(x,y_w)-\hat r(x,y_l)$ 叫**奖励间隔**（reward margin）。这一对的 DPO 损失（[Rafailov et al. 2023](https://arxiv.org/abs/2305.18290)，那里 $q=1$）是
#
# $$\ell=-q\log\sigma(h)-(1-q)\log\sigma(-h)$$
#
# 9. 若标签 $q$ 就是 $r$ 的 Bradley–Terry 概率，那么 $h$ 等于真实的奖励差时损失最小，也就是在 $\pi^*$ 处。不用奖励模型，训练中也不用采样。
# 10. 开始时 $\pi=\pi_{\mathrm{ref}}$，于是 $h=0$，损失是 $\ln 2$，与标签无关。
#
# 还是那个例子：在最优解处，三对回答的平均损失是 0.5099，对策略 logits 的梯度为零；在参考策略处，损失是 $\ln 2$：

# %%
first, second = torch.tensor([0, 0, 1]), torch.tensor([1, 2, 2])  # the three pairs
q = torch.sigmoid(r[first] - r[second])


def toy_loss(logits):
    implicit = beta * (logits.log_softmax(-1) - ref.log())
    h = implicit[first] - implicit[second]
    return (-q * logsigmoid(h) - (1 - q) * logsigmoid(-h)).mean()


logits = optimum.log().requires_grad_()
loss = toy_loss(logits)
loss.backward()
print(round(loss.item(), 4), round(toy_loss(ref.log()).item(), 4))
assert abs(loss.item() - 0.509913358) < 1e-9 and logits.grad.abs().max() < 1e-12  # line 9
assert abs(toy_loss(ref.log()).item() - math.log(2)) < 1e-12  # line 10

# %% [markdown] lang="en"
# ## Pairs of the model's own answers
# Now the network. The reference is the model that chapter 3 trained and [chapter 4](04_sampling.ipynb) measured: it writes three numbers in 30 % of its answers and hits the target in 75 %, as its authors do. We want to change that: one point of reward for three numbers, one for the right value. So $r$ is 0, 1 or 2, and a program can read it off any answer. With people in its place we would see choices and no numbers; here we see both, and can check.
#
# For a pair, draw a prompt, let the reference answer it twice, and call the better answer *chosen*. The label is the Bradley–Terry probability itself, a **soft label**: 0.5 for a tie, 0.731 for a difference of 1, 0.881 for a difference of 2. We make 19,200 pairs. Beside each stands the log-probability of both answers under the reference, computed once, so that training needs only one model in memory.

# %% [markdown] lang="zh"
# ## 用模型自己的回答配对
# 轮到网络了。参考策略就是第 3 章训练、[第 4 章](04_sampling.ipynb)测过的那个模型：30% 的回答写三个数，75% 命中目标，与它的作者们一样。我们想改变它：写三个数得一分，答案正确得一分。于是 $r$ 是 0、1 或 2，随便拿个回答来，程序都能给分。换成真人评判，只看得到谁胜谁负，看不到分数；这里两样都有，所以才能对账。
#
# 配一对：抽一个提示，让参考策略答两次，好的那个叫 chosen。标签直接用 Bradley–Terry 概率，这叫**软标签**（soft label）：平局（tie）是 0.5，差 1 分是 0.731，差 2 分是 0.881。一共做 19,200 对。每一对旁边记下参考策略给两个回答的对数概率（log-probability）。只算一次，训练时内存里就只要放一个模型。

# %%
use_threads()
task, device = BookTask(), default_device()
base = load_pretrained("gen").to(device)
data = on_policy_pairs(base, task, 19_200, reward="style+exact", labels="soft", seed=0, progress=True)
for i in range(5):
    print(f"{data.prompt[i]:6} {data.chosen[i]:10} {data.rejected[i]:10} q = {data.preference_prob[i]:.3f}", end="   ")
    print(f"ref: {data.ref_chosen_logps[i]:6.2f} {data.ref_rejected_logps[i]:6.2f}")
q = torch.tensor(data.preference_prob, dtype=torch.float64)
ties = (q == 0.5).double().mean().item()
assert sorted({round(value, 3) for value in data.preference_prob}) == [0.5, 0.731, 0.881]
assert abs(ties - 0.44) < 0.02

# %% [markdown] lang="en"
# About 44 % of the pairs are ties. They stay in. A tie is information too: it asks that these two answers keep the ratio that they have under the reference.

# %% [markdown] lang="zh"
# 约 44% 是平局，照样留着。平局也是信息：它要求这两个回答保持在参考策略下的比例。

# %% [markdown] lang="en"
# ## Before the first step
# Three checks cost a second, and they catch much of what goes wrong in DPO code.
#
# **The policy is the reference.** Fresh log-probabilities must equal the stored ones. If they do not, the pairs were scored by another model, tokenizer or mask, and every margin is off from the start. `check_same_start` names the first pair that differs; we nudge one weight to see it do so.

# %% [markdown] lang="zh"
# ## 第一步之前
# 三项检查只花一秒钟，DPO 代码里的许多毛病都能查出来。
#
# **策略就是参考策略。** 现算的对数概率必须等于存下的。不等，就说明打分时用的是别的模型、别的分词器（tokenizer）或别的掩码（mask），每个间隔从一开始就是歪的。`check_same_start` 会指出第一个对不上的偏好对；我们故意碰一个权重，看它报不报。

# %%
policy = copy.deepcopy(base)
check_same_start(policy, data)  # silent: equal to 1e-4
with torch.no_grad():
    policy.lm_head.weight[5, 0] += 0.1
try:
    check_same_start(policy, data)
    raise AssertionError("not noticed")
except ValueError as error:
    print(str(error).split(":")[0])

# %% [markdown] lang="en"
# **The loss is $\ln 2$.** Line 10 promises 0.693 with soft labels and with hard ones ($q=1$).
#
# **The floor is known.** With hard labels the loss can go to 0. With soft labels it cannot: the best that a policy can do is $\sigma(h)=q$ on every pair, and then the loss is the mean entropy of the labels, about 0.614. So the whole training takes place between 0.693 and 0.614. The accuracy has a ceiling as well: a tie counts half, so `rewards/accuracies` cannot be expected above about 0.78.

# %% [markdown] lang="zh"
# **损失是 $\ln 2$。** 第 10 行保证：软标签也好，硬标签（hard label，$q=1$）也好，都是 0.693。
#
# **下界已知。** 硬标签的损失能降到 0，软标签不能：策略做得再好，也只是每一对都有 $\sigma(h)=q$，这时损失等于标签的平均熵，约 0.614。所以整个训练都发生在 0.693 与 0.614 之间。准确率也有上限：平局算半个，`rewards/accuracies` 不能指望超过 0.78 左右。

# %%
on_device = {name: tensor.to(device) for name, tensor in data.batch(np.arange(64)).items()}
hard_labels = {name: tensor for name, tensor in on_device.items() if name != "preference_prob"}
with torch.no_grad():
    for batch in (on_device, hard_labels):
        total, count = dpo_step(0.25)(base, batch)["loss"]
        print(round((total / count).item(), 4))
        assert abs((total / count).item() - math.log(2)) < 1e-4
floor = -(q * q.log() + (1 - q) * (1 - q).log()).mean().item()
ceiling = 1 - ties / 2
print(round(floor, 3), round(ceiling, 2))
assert abs(floor - 0.614) < 0.003 and abs(ceiling - 0.78) < 0.01

# %% [markdown] lang="en"
# ## One step, written out
# This is all that a DPO step computes. Chosen and rejected rows go through the network together. `sequence_logps` sums the log-probabilities of the answer's tokens. The rest is line 8.

# %% [markdown] lang="zh"
# ## 一步，全写出来
# DPO 的一步，要算的全在这里。chosen 与 rejected 拼在一起过一遍网络；`sequence_logps` 把回答各词元（token）的对数概率加起来；剩下的就是第 8 行。

# %%
def dpo_loss_of(model, batch, beta):
    ids = torch.cat((batch["chosen_ids"], batch["rejected_ids"]))  # (2B, T)
    mask = torch.cat((batch["chosen_mask"], batch["rejected_mask"]))  # (2B, T)
    chosen_logps, rejected_logps = sequence_logps(model(ids), ids, mask).chunk(2)  # (B,) each
    chosen_rewards = beta * (chosen_logps - batch["ref_chosen_logps"])
    rejected_rewards = beta * (rejected_logps - batch["ref_rejected_logps"])
    h, q = chosen_rewards - rejected_rewards, batch["preference_prob"]
    return (-q * logsigmoid(h) - (1 - q) * logsigmoid(-h)).mean()


with torch.no_grad():
    total, count = dpo_step(0.25)(policy, on_device)["loss"]  # the nudged policy: not ln 2
    assert torch.isclose(dpo_loss_of(policy, on_device, 0.25), total / count)

# %% [markdown] lang="en"
# ## Three hundred steps
# Now the training: $\beta=0.25$, AdamW at 3e-4, 64 pairs a step, 300 steps, so that every pair is used once.

# %% [markdown] lang="zh"
# ## 三百步
# 现在训练：$\beta=0.25$，AdamW，学习率 3e-4，每步 64 对，300 步，每一对恰好用一次。

# %% tags=["nbval-ignore-output"]
beta = 0.25
config = LoopConfig(steps=300, learning_rate=3e-4, log_every=10)
policy = copy.deepcopy(base)
history = train(policy, data.batches(64, seed=0), dpo_step(beta), config)
last = {name: np.mean([line[name] for line in history[-5:]]) for name in history[0]}  # the last 50 steps
for name in ("loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies",
             "logps/chosen", "logps/rejected"):  # fmt: skip
    print(f"{name:20} {history[0][name]:8.3f} {last[name]:8.3f}")
assert last["loss"] - floor < 0.02 and abs(last["rewards/accuracies"] - ceiling) < 0.05

# %% [markdown] lang="en"
# The names are those of the TRL library. Before looking at the curves, let us predict them. At the optimum the implicit reward of an answer is its true reward minus
#
# $$V(x)=\beta\log Z(x)=\beta\log\sum_y\pi_{\mathrm{ref}}(y\mid x)\,e^{r(x,y)/\beta}$$
#
# (line 5). The population's rates are known for every prompt; so is $V$, and so is the value that each curve should reach.

# %% [markdown] lang="zh"
# 这些名字沿用 TRL 库的叫法。看图之前，先预言。在最优解处，一个回答的隐式奖励，等于真实奖励减去
#
# $$V(x)=\beta\log Z(x)=\beta\log\sum_y\pi_{\mathrm{ref}}(y\mid x)\,e^{r(x,y)/\beta}$$
#
# （第 5 行）。群体的各种比例，每个提示都算得出来，所以 $V$ 算得出来，每条曲线该停在哪里也算得出来。

# %%
class_reward = class_rewards("style+exact")  # (2, 2): [three numbers?, exact?]
classes = class_problem(task, "style+exact")  # each prompt's four classes, as answers of a tabular problem
V = beta * tabular.log_partition(classes, beta)  # one number a prompt
V_of = dict(zip(task.prompt_distribution, V.tolist()))


def reward(prompt, answer):
    verdict = judge(prompt, answer)
    return class_reward[int(verdict.style), int(verdict.exact)]


true_reward = {"chosen": np.array([reward(p, a) for p, a in zip(data.prompt, data.chosen)]),
               "rejected": np.array([reward(p, a) for p, a in zip(data.prompt, data.rejected)])}  # fmt: skip
implied = {kind: true_reward[kind] - np.array([V_of[p] for p in data.prompt]) for kind in true_reward}
predicted = {f"rewards/{kind}": implied[kind].mean() for kind in implied}
predicted["rewards/margins"] = predicted["rewards/chosen"] - predicted["rewards/rejected"]
predicted["logps/chosen"] = (np.array(data.ref_chosen_logps) + implied["chosen"] / beta).mean()
predicted["logps/rejected"] = (np.array(data.ref_rejected_logps) + implied["rejected"] / beta).mean()
predicted |= {"loss": floor, "rewards/accuracies": ceiling}
print({name: round(float(value), 2) for name, value in predicted.items()})

# %% alt_en="Four panels over 300 training steps, measured curves with a horizontal line for the predicted value. The loss falls from ln 2 to its floor; the accuracy rises to its ceiling; the reward of the chosen answers sinks a little below zero, that of the rejected answers far below, the margin rises; both log-probabilities fall, the rejected one much further. Every curve settles near its line." alt_zh="四幅小图，横轴是 300 个训练步，实测曲线旁边有一条水平线表示预言值。损失从 ln 2 降到下界；准确率升到上限；chosen 的奖励降到略低于零，rejected 的奖励降得很深，间隔上升；两个对数概率都下降，rejected 降得多。每条曲线都停在自己的线附近。"
use_style()
fig, axes = plt.subplots(2, 2, figsize=(7.4, 5.0), layout="constrained")
panels = {
    axes[0, 0]: {"loss": "policy"},
    axes[0, 1]: {"rewards/accuracies": "policy"},
    axes[1, 0]: {"rewards/chosen": "chosen", "rewards/rejected": "rejected", "rewards/margins": "policy"},
    axes[1, 1]: {"logps/chosen": "chosen", "logps/rejected": "rejected"},
}
steps = [line["step"] for line in history]
for panel, curves in panels.items():
    for name, color in curves.items():
        panel.plot(steps, [line[name] for line in history], color=COLORS[color], label=name)
        panel.axhline(predicted[name], color=COLORS["theory"], linestyle="--", linewidth=1.4)
    panel.legend(fontsize=9, loc="upper right")
axes[0, 0].axhline(math.log(2), color=COLORS["ref"], linestyle=":", linewidth=1.4)
axes[0, 0].set(ylim=(0.6, 0.715), yticks=[floor, math.log(2)], yticklabels=[f"{floor:.3f}", r"$\ln 2$"])
axes[0, 1].set(ylim=(0.65, 0.9))
axes[1, 0].set(ylim=(-1.1, 1.6), xlabel="step")
axes[1, 1].set(ylim=(-9.5, -4.2), xlabel="step")
assert abs(last["rewards/margins"] - predicted["rewards/margins"]) < 0.15
assert abs(last["logps/chosen"] - predicted["logps/chosen"]) < 0.6
assert abs(last["logps/rejected"] - predicted["logps/rejected"]) < 0.9

# %% [markdown] lang="en"
# **Figure 9.1.** A whole DPO training (solid) and what the closed form predicts (dashed). Every curve settles near its prediction, the falling one of the chosen answers included.

# %% [markdown] lang="zh"
# **图 9.1** 一次完整的 DPO 训练（实线）与闭式解（closed form）的预言（虚线）。每条曲线都停在预言附近，连 chosen 往下掉的那条也是。

# %% [markdown] lang="en"
# ## The chosen answer loses probability
# Look at `logps/chosen` again: it falls. People who train with DPO ask about this again and again, and it has a name, **likelihood displacement** ([Pal et al. 2024](https://arxiv.org/abs/2402.13228); [Razin et al. 2025](https://arxiv.org/abs/2410.08847)). Why it may fall is told in [chapter 7](07_derivation.ipynb), under “Quarrel four”. Here we measure the two statements proved there.
#
# **An average answer of the reference must fall,** under any policy that has moved at all: $\mathbb{E}_{\pi_{\mathrm{ref}}}[\log(\pi/\pi_{\mathrm{ref}})]=-\mathrm{KL}(\pi_{\mathrm{ref}}\,\|\,\pi)$. Both answers of our pairs are draws of the reference. If $\overline u$ is the mean difference of the two log-ratios, then on average
#
# $$\text{chosen: }\;\tfrac12\,\overline u-\mathrm{KL}(\pi_{\mathrm{ref}}\,\|\,\pi)\qquad\text{rejected: }\;-\tfrac12\,\overline u-\mathrm{KL}(\pi_{\mathrm{ref}}\,\|\,\pi).$$
#
# So the chosen answers fall as soon as this KL exceeds half of $\overline u$. We measure the KL on fresh answers that were in no pair, and the movements on the pairs. Before you run it: must the two agree for a network that is not the optimum?

# %% [markdown] lang="zh"
# ## chosen 的概率也在降
# 再看 `logps/chosen`：它在降。用 DPO 训练的人，一次次问起的就是这件事。它有个名字，叫**似然位移**（likelihood displacement，[Pal et al. 2024](https://arxiv.org/abs/2402.13228)、[Razin et al. 2025](https://arxiv.org/abs/2410.08847)）。为什么会降，[第 7 章](07_derivation.ipynb)的「争论四」讲过。那里证明了两句话，这里来量。
#
# **参考策略自己的回答，平均起来必降**，策略只要动过，都是如此：$\mathbb{E}_{\pi_{\mathrm{ref}}}[\log(\pi/\pi_{\mathrm{ref}})]=-\mathrm{KL}(\pi_{\mathrm{ref}}\,\|\,\pi)$。我们的偏好对，两个回答都是从参考策略抽的。设 $\overline u$ 是两个对数比之差的平均，那么平均起来
#
# $$\text{chosen：}\;\tfrac12\,\overline u-\mathrm{KL}(\pi_{\mathrm{ref}}\,\|\,\pi)\qquad\text{rejected：}\;-\tfrac12\,\overline u-\mathrm{KL}(\pi_{\mathrm{ref}}\,\|\,\pi)$$
#
# 所以这个 KL 一超过 $\overline u$ 的一半，chosen 就降。KL 用另抽的回答来量，它们不在任何一对里；升降在偏好对上量。运行之前想一想：网络还没到最优解，两边也非得相等吗？

# %% tags=["nbval-ignore-output"]
def log_ratios(model, prompts, answers):
    return (score(model, prompts, answers) - score(base, prompts, answers)).double()


asked, drawn = own_answers(base, task, n=4_000, seed=8)  # answers that are in no pair
fresh = -log_ratios(policy, asked, drawn)
moved = [log_ratios(policy, data.prompt, side) for side in (data.chosen, data.rejected)]
forward, u = fresh.mean().item(), (moved[0] - moved[1]).mean().item()
for side, sign, found in zip(("chosen", "rejected"), (1, -1), moved):
    expected = sign * u / 2 - forward
    print(f"{side:8} measured {found.mean():6.2f}   u/2 and KL {expected:6.2f}")
    assert abs(found.mean() - expected) < 0.15 + 3 * fresh.std() / 4_000**0.5
print(f"u {u:.2f}   KL(ref || policy) {forward:.2f}")
assert forward > u / 2 > 0  # so the chosen answers fall

# %% [markdown] lang="en"
# They agree: the line holds for any policy. (What is left is chance, and that the pairs were trained on.)
#
# **Some chosen answers must fall more than that.** At the optimum an answer gains probability exactly if its reward exceeds $V(x)$, the soft maximum of the rewards within the base model's reach. On average $V$ is about 1.6 here. A chosen answer with one point won its comparison and is still below $V$: it must become rarer. About 60 % of the chosen answers are in this position, and over all of them the optimum takes 1.1 nats away. So a falling `logps/chosen` alone is no alarm. The question, which no training curve answers, is where the probability goes: to better answers, or to worse.

# %% [markdown] lang="zh"
# 相等：这条式子对哪个策略都成立。（剩下的一点出入，一来是抽样的偶然，二来这些偏好对训练时见过。）
#
# **有些 chosen 该降得更多。** 在最优解处，一个回答的概率上升，当且仅当奖励高于 $V(x)$，即基座模型（base model）够得着的奖励的软最大值。这里 $V$ 平均约 1.6。一个只有一分的 chosen，虽说赢了对手，仍在 $V$ 之下，理应变少。这样的 chosen 约占 60%；全部加起来，最优解要拿走 1.1 奈特（nat）。所以单看 `logps/chosen` 下降，用不着慌。要问的是概率去了哪里：去了更好的回答，还是更差的？训练曲线不会说。

# %%
mean_V = np.mean([V_of[prompt] for prompt in data.prompt])
must_lose = (implied["chosen"] < 0).mean()
fall = predicted["logps/chosen"] - np.mean(data.ref_chosen_logps)
print(round(mean_V, 2), round(must_lose, 2), round(fall, 2))
assert abs(mean_V - 1.6) < 0.05 and abs(must_lose - 0.60) < 0.02 and abs(fall + 1.1) < 0.08
assert last["logps/chosen"] < np.mean(data.ref_chosen_logps) - 0.5  # measured: it falls

# %% [markdown] lang="en"
# ## Held against the prediction
# The curves are about the pairs. What does the new policy write? Averaged over the population's prompts, the closed form predicts, for $\beta=0.25$: three numbers in 0.959 of the answers, the right value in 0.994, both in 0.953, and a KL divergence of 1.256 nats from the reference. Measured on 2,000 fresh prompts, with 95 % intervals:

# %% [markdown] lang="zh"
# ## 同预言对账
# 曲线说的都是那些偏好对。我们想知道的，是新策略会写出什么。把闭式解对群体的提示取平均，$\beta=0.25$ 时的预言是：写三个数的占 0.959，答案正确的占 0.994，两样兼得的占 0.953，与参考策略的 KL 散度是 1.256 奈特。再看 2,000 个新提示上的实测，附 95% 置信区间（confidence interval）：

# %%
theory = predicted_optimum(task, "style+exact", beta)
print({name: round(value, 3) for name, value in theory.items()})
assert [round(theory[name], 3) for name in ("style", "exact", "both", "kl")] == [0.959, 0.994, 0.953, 1.256]

# %% tags=["nbval-ignore-output"]
truth = rl.checker(task, "style+exact")  # the reward of each answer


def measure(model):
    return evaluate(model, task, n=2_000, seed=7, reference=base, reward=truth, beta=beta)


NAMES = ("style", "exact", "both", "kl", "reward", "J")
measured = {"ref": measure(base), "dpo_live": measure(policy)}
for model, report in measured.items():
    for name in NAMES:
        print(f"{model:9} {name:6} {report[name]}")
live = {name: measured["dpo_live"][name].value for name in NAMES}
assert abs(live["style"] - theory["style"]) < 0.05 and 0.8 < live["exact"] < theory["exact"] - 0.03
assert 0.75 < live["both"] < theory["both"] - 0.03 and live["kl"] > theory["kl"] + 0.2
assert measured["dpo_live"]["well_formed"].value > 0.99

# %% [markdown] lang="en"
# The style lands on the prediction. Exactness rises from 0.75 but stops short of 0.994, and the policy has moved further than the optimum needs: more KL, less reward. Where is the gap? We sort the wrong answers into two kinds. A *slip* is a wrong answer that some author writes: ten too large. Everything else is *new*: a wrong text that no author ever writes.

# %% [markdown] lang="zh"
# 风格正落在预言上。正确率从 0.75 升上来了，却没到 0.994；策略走得也比最优解需要的更远：KL 更多，奖励反而更少。差在哪里？把错的回答分成两类：*失误*（slip），是有作者会写的错，结果多了十；其余都是*新错*，没有哪个作者会这样写。

# %% tags=["nbval-ignore-output"]
def wrong_answers(model):
    prompts, _ = task.demonstrations(2_000, stream("evaluate", 7))  # the prompts and answers of `measure`
    texts = zip(prompts, generate(model, prompts, seed=7))
    wrong = [text for text in texts if not judge(*text).exact]
    slips = [text for text in wrong if text in task.log_conditional]
    return len(slips) / 2_000, (len(wrong) - len(slips)) / 2_000, [text for text in wrong if text not in slips]


for name, model in (("ref", base), ("dpo_live", policy)):
    slips, new, examples = wrong_answers(model)
    print(f"{name:9} slips {slips:.3f}  new {new:.3f}  such as", *("".join(text) for text in examples[:3]))
    assert (slips > 0.2 and new < 0.02) if name == "ref" else (slips < 0.05 and new > 2 * slips)
by_ten = np.mean([abs(judge(*text).value - read_prompt(text[0])) == 10 for text in examples if judge(*text).well_formed])
in_pairs = list(zip(data.prompt * 2, data.chosen + data.rejected))
new_in_pairs = [text for text in in_pairs if not judge(*text).exact and text not in task.log_conditional]
assert by_ten > 0.5 and len(new_in_pairs) / len(in_pairs) < 0.02

# %% [markdown] lang="en"
# DPO has done what it was shown. The slips, a quarter of the base model's answers, are nearly gone. What came instead are new mistakes, most of them off by exactly ten in a way that no author slips. The base model makes them in fewer than 2 % of its answers, so the pairs hardly contain them. The leash should hold them, but DPO enforces the leash through pairs, too: where no pair looks, nothing holds.

# %% [markdown] lang="zh"
# 给 DPO 看过的，它都做到了：占基座模型回答四分之一的失误，几乎绝迹。取而代之的是新错，大多恰好差十，却不是作者失误的那种差法。基座模型写出这种错的不到 2%，偏好对里几乎没有。按说有 KL 管着。可是 DPO 里的 KL 也要靠偏好对来管：没有一对覆盖到的地方，就什么也管不着。

# %% [markdown] lang="en"
# ## A yardstick, and rivals that need no preference loss
# Is this run good? A share says little by itself: style can be bought with exactness, and both with KL. The objective of line 3 says what we wanted, so it is the yardstick for everything that follows:
#
# $$J=\mathbb{E}[r]-0.25\,\mathrm{KL}(\pi\,\|\,\pi_{\mathrm{ref}}).$$
#
# And good compared with what? Four rivals need no preference loss, and each has a closed form.
#
# - **The base model.** No KL, and a reward of 0.30 + 0.75.
# - **Best of $n$.** Draw $n$ answers, let the checker pick one ([chapter 6](06_objective.ipynb)). No training; every answer costs $n$ draws and a judge.
# - **Imitation of the winners.** Fine-tune on the chosen answers of the file (SFT). A perfect imitator writes like the better of two draws. An answer of probability $p$ is chosen with probability $2p\,P(\text{worse})+p\,P(\text{equal})$: drawn first or second it beats a worse one, or it ties and is taken half of the time. That is the best of 2.
# - **Imitation without the ties.** The winner of a tie won nothing; leave it out. What remains is $2p\,P(\text{worse})$, divided by its sum over all answers.

# %% [markdown] lang="zh"
# ## 一把尺子，和用不着偏好损失的对手
# 这次训练算好吗？单看一个比例说明不了什么：风格可以拿正确率去换，两样又都可以拿 KL 去换。我们要什么，第 3 行的目标说得清楚，后面一律用它来量：
#
# $$J=\mathbb{E}[r]-0.25\,\mathrm{KL}(\pi\,\|\,\pi_{\mathrm{ref}})$$
#
# 好不好，还得看跟谁比。有四个对手用不着偏好损失，每一个都有闭式解。
#
# - **基座模型。** KL 为零，奖励是 0.30 + 0.75。
# - **best-of-$n$。** 抽 $n$ 个回答，由判分程序挑一个（[第 6 章](06_objective.ipynb)）。不用训练，但每答一次都要抽 $n$ 回、评一回。
# - **照着赢家学。** 只拿文件里的 chosen 做监督微调（SFT）。完美的模仿者，写出来就像两次抽样里较好的那个。概率为 $p$ 的回答，成为 chosen 的概率是 $2p\,P(\text{更差})+p\,P(\text{同分})$：先抽到也好，后抽到也好，赢过更差的；或者打平，有一半机会被选上。这就是 best-of-2。
# - **丢掉平局再学。** 平局里的「赢家」什么也没赢，不要它。剩下 $2p\,P(\text{更差})$，再除以它对所有回答的总和。

# %%
ref_probs, worth = classes.ref_logps.exp(), classes.reward  # (prompts, 4) each
worse = ((worth[:, None, :] < worth[:, :, None]) * ref_probs[:, None, :]).sum(-1)
untied = (ref_probs * worse).log()
ends = {
    "base model": classes.ref_logps,
    "imitation": tabular.best_of_n(classes, 2),
    "imitation, no ties": untied - untied.logsumexp(-1, keepdim=True),
    "best of 4": tabular.best_of_n(classes, 4),
    "best of 8": tabular.best_of_n(classes, 8),
    "optimum": tabular.optimal_policy(classes, beta),
}
ends = {name: predicted_shares(task, policy_over) for name, policy_over in ends.items()}
for shares in ends.values():
    shares["reward"] = shares["style"] + shares["exact"]
    shares["J"] = shares["reward"] - beta * shares["kl"]
print(" " * 18, *(f"{name:>7}" for name in ("J", *NAMES[:-1])))
for name, shares in ends.items():
    print(f"{name:18}", *(f"{shares[column]:7.3f}" for column in ("J", *NAMES[:-1])))
assert [f"{ends['imitation, no ties'][n]:.3f}" for n in ("style", "exact", "kl", "J")] == [
    "0.671", "0.953", "0.461", "1.508"]  # fmt: skip
assert [f"{shares['J']:.2f}" for shares in ends.values()] == [
    "1.05", "1.33", "1.51", "1.52", "1.63", "1.64"]  # fmt: skip

# %% [markdown] lang="en"
# Look at the distances. Dropping the ties is free, and lifts the end of imitation from 1.33 to 1.51. The optimum, where DPO with soft labels is heading, is at 1.64: there are 0.13 to be won over the better imitation, if the training gets there. The best of 8 is all but there, and costs eight draws an answer for ever.
#
# Now train an imitator: the same start, pairs, steps, batch and learning rate. Before you run it: by $J$, which of the two is ahead?

# %% [markdown] lang="zh"
# 看看它们隔多远。丢掉平局不花什么，模仿的终点就从 1.33 升到 1.51。用软标签的 DPO，奔的是最优解，1.64：比较好的那种模仿多 0.13，前提是训练真能走到。best-of-8 几乎到了，代价是往后每答一次都得抽八回。
#
# 现在训练一个模仿者：起点、偏好对、步数、批量、学习率都一样。运行之前猜一猜：按 $J$ 算，哪个领先？

# %% tags=["nbval-ignore-output"]
chosen_at = data.batches(64, seed=0)


def imitation_batch(step):
    batch = chosen_at(step)
    return {"input_ids": batch["chosen_ids"], "completion_mask": batch["chosen_mask"]}


imitator = copy.deepcopy(base)
train(imitator, imitation_batch, sft_step, config)
measured["sft"] = measure(imitator)
for name in NAMES:
    print(f"{name:6} predicted {ends['imitation'][name]:.3f}   imitation {measured['sft'][name]}"
          f"   DPO {measured['dpo_live'][name]}")  # fmt: skip
imitated = {name: measured["sft"][name].value for name in NAMES}
assert all(abs(imitated[name] - ends["imitation"][name]) < 0.09 for name in NAMES)
assert live["reward"] > imitated["reward"] + 0.3 and live["kl"] > 8 * imitated["kl"]
assert measured["dpo_live"]["J"].low < measured["sft"]["J"].high  # DPO is not ahead

# %% [markdown] lang="en"
# DPO has much more style, and half a point more reward. It has paid for it with more than two nats, and by its own objective it is not ahead: 1.29 against 1.29. A run that looked like a success is, so far, no better than copying the winners. (One seed and one learning rate; three of each follow in “Remedies”.)
#
# Why try to do better, then? Because of where the roads end. Imitation ends at the winners' distribution, and the better of two is still a sample of the base model. With soft labels, DPO's end is set by $\beta$, not by the sampler: it extrapolates from who wins to how much better, and multiplies by $e^{r/\beta}$. At $\beta=0.25$ two points of reward are a factor of $e^8$, about 3,000. What reaches so far can also overshoot.

# %% [markdown] lang="zh"
# DPO 的风格高出一大截，奖励多了半分。代价是两奈特多的 KL，按它自己的目标算，并没有领先：1.29 对 1.29。看着像是成功的一次训练，到这里还不比抄赢家强。（一个种子，一个学习率；各试三个的结果，在后面「补救」一节。）
#
# 那还图什么？图的是两条路通向哪里。模仿的终点是赢家的分布，而二选一终究还是基座模型自己的样本。用软标签的 DPO，终点由 $\beta$ 决定，与怎么采样无关：它由谁赢推出好多少，再乘上 $e^{r/\beta}$。$\beta=0.25$ 时，两分奖励就是 $e^8$ 倍，约 3,000 倍。伸得这么远，也就容易冲过头。

# %%
print(round(math.exp(2 / beta)))
assert 2_900 < math.exp(2 / beta) < 3_000 + 50

# %% [markdown] lang="en"
# ## One setting away
# Our labels said how sure they are. Most preference data do not: a judge names a winner. Three kinds of label ([chapter 5](05_preferences.ipynb)) look alike in a file and mean different things.
#
# | label | value of $q$ | ties | what minimises the loss |
# |---|---|---|---|
# | **soft** | the Bradley–Terry probability | $q=\frac12$ | $\pi^*$ |
# | **sampled** | one draw from it, so $q=1$ after ordering | the coin decides | $\pi^*$, on average over the draws; each draw adds noise |
# | **deterministic** | $q=1$ for the better answer | dropped | no policy: every larger margin is better, at every $\beta$ |
#
# Human data are nearest to *sampled*: people disagree. A checker or a reward model that always names the better one is *deterministic*. On the toy: stretch the margins of $\pi^*$ by a factor, and watch the losses.

# %% [markdown] lang="zh"
# ## 只差一个设置
# 我们的标签说明了有几分把握。多数偏好数据不说：裁判只点出胜者。有三种标签（[第 5 章](05_preferences.ipynb)），存进文件看起来差不多，意思却不同。
#
# | 标签 | $q$ 的值 | 平局 | 什么策略使损失最小 |
# |---|---|---|---|
# | **软标签**（soft） | Bradley–Terry 概率 | $q=\frac12$ | $\pi^*$ |
# | **采样标签**（sampled） | 按这个概率抽一次，排好序后 $q=1$ | 抛硬币 | 对抽签取平均，还是 $\pi^*$；每次抽签都带噪声 |
# | **确定性标签**（deterministic） | 较好的一方 $q=1$ | 丢弃 | 没有：不论 $\beta$ 多大，间隔总是越大越好 |
#
# 人类数据最接近*采样标签*：各人看法不一。总能点出较好者的判分程序或奖励模型，给的是*确定性标签*。还用那个三回答的例子：把 $\pi^*$ 的间隔拉长几倍，看三种损失怎么变。

# %%
true_gap = r[first] - r[second]
prob = torch.sigmoid(true_gap)
losses = {}
for stretch in (1, 2, 4, 8):
    h = stretch * true_gap
    soft = -(prob * logsigmoid(h) + (1 - prob) * logsigmoid(-h)).mean().item()
    coins = torch.rand(100_000, 3, generator=torch.Generator().manual_seed(0)) < prob  # who wins each draw
    sampled = -logsigmoid(torch.where(coins, h, -h)).mean().item()
    losses[stretch] = soft, sampled, -logsigmoid(h).mean().item()
    print(stretch, *(f"{name} {value:.2f}  " for name, value in zip(("soft", "sampled", "deterministic"), losses[stretch])))
    assert abs(soft - sampled) < 0.02
assert min(losses, key=lambda stretch: losses[stretch][0]) == 1 == min(losses, key=lambda s: losses[s][1])
assert losses[8][2] < losses[4][2] < losses[2][2] < losses[1][2] and losses[8][2] < 0.001

# %% [markdown] lang="en"
# Soft labels punish an exaggerated margin, deterministic ones reward it without end. [Azar et al. 2024](https://arxiv.org/abs/2310.12036) state it for DPO: the more deterministic the preferences, the weaker the leash. Now the network. The same pairs, ties dropped, the better answer always wins; the pairs that are left serve nearly twice in 300 steps. Then the same with $\beta=0.1$.

# %% [markdown] lang="zh"
# 间隔夸大了，软标签会罚；确定性标签却越夸大越奖，没有止境。[Azar et al. 2024](https://arxiv.org/abs/2310.12036) 就 DPO 指出：偏好越确定，KL 的约束越松。放到网络上试：还是那些偏好对，丢掉平局，好的一方必胜；剩下的，300 步里各用近两次。然后取 $\beta=0.1$ 再来一次。

# %% tags=["nbval-ignore-output"]
decided = np.flatnonzero(np.array(data.preference_prob) > 0.5)
untied_pairs = data.take(decided)
columns = {field.name: getattr(untied_pairs, field.name) for field in fields(Pairs)}
hard = Pairs(**columns | {"preference_prob": [1.0] * len(decided)})
true_margin = (true_reward["chosen"] - true_reward["rejected"])[decided].mean()
hard_runs = {}
for strength in (0.25, 0.1):
    trained = copy.deepcopy(base)
    lines = train(trained, hard.batches(64, seed=0), dpo_step(strength), config)
    measured[f"hard_{strength}"], hard_runs[strength] = measure(trained), trained
    slips, new, _ = wrong_answers(trained)
    print(f"beta {strength}", {name: round(lines[-1][name], 2) for name in (
        "loss", "rewards/accuracies", "rewards/margins", "logps/chosen")}, f"new {new:.2f}")  # fmt: skip
    print(" ", *(f"{n} {measured[f'hard_{strength}'][n].value:.2f}  " for n in NAMES))
    assert lines[-1]["rewards/accuracies"] > 0.95 and lines[-1]["loss"] < 0.25
    assert lines[-1]["rewards/margins"] > 1.4 * true_margin and slips < 0.02
    assert lines[-1]["logps/chosen"] < lines[0]["logps/chosen"] - 4

# %%
assert 1.7 < 300 * 64 / len(decided) < 1.9  # how often each pair is used
for name in ("hard_0.25", "hard_0.1"):
    bad, start = measured[name], measured["ref"]
    assert bad["exact"].value < start["exact"].value - 0.05 and bad["style"].value > 0.9
    assert bad["kl"].value > 2.5 * theory["kl"] and bad["J"].high < start["J"].low
    assert bad["reward"].low > start["reward"].high  # the reward has risen

# %% [markdown] lang="en"
# The loss is below 0.25, the accuracy above 0.95, and the mean margin far above the true difference of rewards. And the model is ruined. It gets fewer values right than the base model did; nearly all of its mistakes are new ones; the chosen answers lost more than 4 nats; $J$ is below the base model's.
#
# One thing has *not* fallen: the mean reward. A wrong answer of three numbers earns a point, as much as a right one of two, and nearly all answers have three numbers now. So what is the right word? **Over-optimisation** is the wide one: from some point on, a better score on the proxy, here the loss on the pairs, goes with less of what was wanted, here $J$ and exactness. **Reward hacking** is narrower: the *true reward* falls while the proxy rises ([chapters 6](06_objective.ipynb) and [12](12_rl.ipynb)). This run is over-optimised and not hacked: the reward was too lenient to notice, and the KL was not. [Rafailov et al. 2024](https://arxiv.org/abs/2406.02900) found the same in language models: losses like DPO's “commonly deteriorate from over-optimization”, though they use no separate proxy reward, and often before an epoch is over.

# %% [markdown] lang="zh"
# 损失低于 0.25，准确率超过 0.95，平均间隔远超真实的奖励差。模型却毁了：算对的比基座模型还少；错的几乎全是新错；chosen 的对数概率掉了 4 奈特以上；$J$ 低于基座模型。
#
# 有一样*没有*降：平均奖励。三个数而算错，得一分；两个数而算对，也是一分；如今几乎全写三个数。那该怎么叫它？**过度优化**（over-optimisation）说得宽：过了某一点，代理指标（proxy）的分数再涨，真正想要的反而少了。这里代理指标是偏好对上的损失，想要的是 $J$ 和正确率。**奖励作弊**（reward hacking，又译奖励黑客）说得窄：代理指标在升，*真实的奖励*在跌（[第 6 章](06_objective.ipynb)、[第 12 章](12_rl.ipynb)）。这次训练是过度优化，不是奖励作弊：奖励太宽松，没有察觉；察觉的是 KL。[Rafailov et al. 2024](https://arxiv.org/abs/2406.02900) 在语言模型上见过同样的事：DPO 这一类损失虽不另设代理奖励，「commonly deteriorate from over-optimization」（常因过度优化而变差），而且常常一遍数据还没过完就开始了。

# %% tags=["nbval-ignore-output"]
shipped = load_pretrained("dpo").to(device)
measured["dpo"] = measure(shipped)
print("dpo", *(f"{name} {measured['dpo'][name].value:.3f}  " for name in NAMES))
assert abs(measured["dpo"]["style"].value - theory["style"]) < 0.03
assert measured["dpo"]["exact"].value > 0.88 and measured["dpo"]["both"].value > 0.84
assert measured["dpo"]["kl"].value > theory["kl"] and measured["dpo"]["well_formed"].value > 0.995
assert measured["dpo"]["J"].low > measured["sft"]["J"].high

# %% alt_en="Four panels: style, exact, KL, J, each with six models from left to right: reference, imitation, live DPO, shipped DPO, and two runs with deterministic labels. A solid line marks the predicted optimum, dashed marks the population and the end of imitation. Imitation sits on its dashed mark. Both DPO models are on the line for style; in exactness and J the shipped one is near the line, while the live one's J is no higher than that of imitation. The runs with deterministic labels reach the line for style and fall far below it for exact and J; their KL is several times higher." alt_zh="四幅小图：风格、正确率、KL、J，每幅从左到右六个模型：参考、模仿、现场训练的 DPO、随书的 DPO、两次确定性标签训练。实线是预言的最优解，虚线是群体的比例和模仿的终点。模仿落在自己的虚线上。两个 DPO 模型的风格都在线上；正确率和 J，随书的靠近线，现场训练的 J 并不比模仿高。确定性标签的两次：风格到线，正确率和 J 远低于线，KL 高出几倍。"
order = ("ref", "sft", "dpo_live", "dpo", "hard_0.25", "hard_0.1")
marks = ("base", "SFT", "DPO", "dpo", "hard\n0.25", "hard\n0.1")
colors = ("ref", "baseline", "policy", "policy", "rejected", "rejected")
use_style()
fig, axes = plt.subplots(2, 2, figsize=(7.4, 5.4), layout="constrained")
for panel, name in zip(axes.flat, ("style", "exact", "kl", "J")):
    panel.axhline(ends["optimum"][name], color=COLORS["theory"])
    for x, end in enumerate(("base model", "imitation")):
        value = ends[end][name]
        panel.plot([x - 0.35, x + 0.35], [value, value], "--", color=COLORS["theory"])
    for x, (model, color) in enumerate(zip(order, colors)):
        points(panel, [x], [measured[model][name]], color)
    limits = {"kl": (-0.25, None), "J": (None, None)}.get(name, (0, 1.03))
    panel.set(title="KL" if name == "kl" else name, xlim=(-0.6, 5.6), ylim=limits)
    panel.set_xticks(range(6), marks, fontsize=9)

# %% [markdown] lang="en"
# **Figure 9.2.** Prediction (solid: the optimum; dashed: the population, and the end of imitation) and measurement (points with 95 % intervals) for the base model, imitation of the chosen answers, the DPO of this chapter, the shipped `dpo` (five times as many judged answers, other pairs: see “What closes the gap”), and two runs with deterministic labels, $\beta=0.25$ and $0.1$. The DPO of this chapter has the optimum's style and imitation's $J$. Deterministic labels get the style and lose everything else.

# %% [markdown] lang="zh"
# **图 9.2** 预言（实线是最优解；虚线是群体的比例和模仿的终点）与实测（点，带 95% 置信区间）。从左到右：基座模型、模仿 chosen、本章的 DPO、随书的 `dpo`（评判的回答多五倍，偏好对也不同，见「怎样缩小差距」）、两次确定性标签训练（$\beta=0.25$ 与 $0.1$）。本章的 DPO，风格同最优解，$J$ 同模仿；确定性标签得了风格，别的全丢了。

# %% [markdown] lang="en"
# ## Anatomy of a run
# Which number would have warned us? A recorded experiment looks (`python chapters/data/dpo_arms.py`). Three seeds, each with its own base model, pairs and order; soft and deterministic labels of the same pairs; learning rates 1e-4, 3e-4 and 1e-3; $\beta=0.25$, 300 steps. The first three rows are measured on held-out pairs that differ in reward, the last two on fresh answers of the policy:
#
# | quantity | what it is | at the optimum |
# |---|---|---|
# | chosen, rejected | change of the two log-probabilities since the start, in nats | -0.1, -4.7 |
# | margin | the mean of $h$ | 1.14 |
# | accuracy | the share of pairs with $h>0$; a tie, $h=0$, counts half | 1 |
# | KL | the mean of $\log(\pi/\pi_{\mathrm{ref}})$ over the policy's own answers | 1.256 |
# | entropy | the mean of $-\log\pi$ over the policy's own answers | 6.74 |
#
# The **entropy** of [chapter 3](03_sft.ipynb) says how widely a policy spreads. By hand: answers of probability 1/2, 1/4, 1/4 have entropy $\frac12\ln 2+2\cdot\frac14\ln 4=1.04$ nats, as much as $e^{1.04}=2.83$ equally likely answers. The authors have 5.74 nats, as much as 310 equally likely answers; the optimum has *more*, as much as 849, for there are more ways to write three numbers than two.

# %% [markdown] lang="zh"
# ## 解剖一次训练
# 哪个数字本来能提醒我们？记录下来的一组实验专查这件事（`python chapters/data/dpo_arms.py`）。三个种子，各有各的基座模型、偏好对和顺序；同样的偏好对，软标签、确定性标签各贴一遍；学习率取 1e-4、3e-4、1e-3；$\beta=0.25$，300 步。前三行在留出的偏好对上量，只取奖励有高下的；后两行在策略新写的回答上量。
#
# | 量 | 它是什么 | 在最优解处 |
# |---|---|---|
# | chosen、rejected | 两个对数概率自起点以来的变化，单位奈特 | -0.1、-4.7 |
# | 间隔 | $h$ 的平均 | 1.14 |
# | 准确率 | $h>0$ 的比例；$h=0$ 是平局，算半个 | 1 |
# | KL | 对策略自己的回答，$\log(\pi/\pi_{\mathrm{ref}})$ 的平均 | 1.256 |
# | 熵 | 对策略自己的回答，$-\log\pi$ 的平均 | 6.74 |
#
# **熵**（entropy）在[第 3 章](03_sft.ipynb)见过，说的是策略摊得有多开。手算一个：三个回答，概率 1/2、1/4、1/4，熵是 $\frac12\ln 2+2\cdot\frac14\ln 4=1.04$ 奈特，相当于 $e^{1.04}=2.83$ 个等可能的回答。作者群体的熵是 5.74 奈特，相当于 310 个等可能的回答；最优解反而*更高*，相当于 849 个，因为写三个数的写法比写两个数的多。

# %%
by_hand = -sum(p * math.log(p) for p in (1 / 2, 1 / 4, 1 / 4))
best = tabular.optimal_policy(classes, 0.25)
best_entropy = predicted_entropy(task, best)
print(round(by_hand, 2), round(math.exp(by_hand), 2), round(task.entropy, 2), round(best_entropy, 2))
assert f"{by_hand:.2f} {math.exp(by_hand):.2f}" == "1.04 2.83" and f"{task.entropy:.2f} {best_entropy:.2f}" == "5.74 6.74"
assert f"{math.exp(task.entropy):.0f} {math.exp(best_entropy):.0f}" == "310 849"
moved = [implied[side][decided].mean() / 0.25 for side in ("chosen", "rejected")]
print([round(float(value), 1) for value in moved], round(float(true_margin), 2))
assert abs(moved[0] + 0.1) < 0.06 and abs(moved[1] + 4.7) < 0.07 and abs(true_margin - 1.14) < 0.01

# %%
stored = json.loads(Path("data/dpo_arms.json").read_text(encoding="utf-8"))
by_run = {}  # (name, learning rate) -> one entry a seed
for run in stored["grid"]:
    by_run.setdefault((run["name"], run["rate"]), []).append(run)
LABELS, RATES = ("dpo soft", "dpo deterministic"), stored["settings"]["rates"]
good, edge = [(name, 3e-4) for name in LABELS]


def span(key, name, digits=2):
    """Least and greatest value over the seeds."""
    found = [run[name] for run in by_run[key]]
    numbers = sorted(value["value"] if isinstance(value, dict) else value for value in found)
    return f"{numbers[0]:.{digits}f} {numbers[-1]:.{digits}f}"


SHOWN = ("J", "reward", "kl", "style", "exact", "displacement", "margin", "accuracy", "entropy")
for key in [(name, rate) for name in LABELS for rate in RATES]:
    print(f"{key[0]} {key[1]:.0e}")
    for three in (SHOWN[:3], SHOWN[3:6], SHOWN[6:]):
        print(" " * 4, *(f"{name:>13} {span(key, name):>11}" for name in three))
assert all(len(of_key) == 3 for of_key in by_run.values())

# %% alt_en="Six panels: KL, entropy and exactness against the training step, soft labels in the upper row, deterministic ones in the lower. Three curves each, one for a learning rate, with bands over three seeds, and a line for the optimum. Soft: at 1e-4 and 3e-4 KL rises to between 1 and 2 and stays; at 1e-3 the band is wide, from below 2 to above 3, and so is that of exactness. Deterministic: within 75 steps KL jumps above 5 and exactness falls to about a half or less, at every learning rate. Entropy rises a little above or below the line in all panels." alt_zh="六幅小图：KL、熵、正确率随训练步的变化，上排软标签，下排确定性标签。每幅三条曲线，一个学习率一条，带三个种子的范围，另有一条最优解的线。软标签：1e-4 和 3e-4 的 KL 升到 1 至 2 就停住；1e-3 的范围很宽，从不到 2 到 3 以上，正确率的范围也一样宽。确定性标签：75 步之内 KL 跳过 5，正确率跌到一半上下或更低，哪个学习率都一样。熵在各幅里都只是略高或略低于那条线。"
use_style()
fig, axes = plt.subplots(2, 3, figsize=(7.2, 4.8), layout="constrained", sharex=True, sharey="col")
lines = {"kl": theory["kl"], "entropy": best_entropy, "exact": theory["exact"]}
looks = {1e-4: ":", 3e-4: "-", 1e-3: "--"}
for row, (labels, color) in enumerate(zip(LABELS, ("policy", "rejected"))):
    for panel, (name, line) in zip(axes[row], lines.items()):
        for rate, look in looks.items():
            traces = [run["trace"] for run in by_run[labels, rate]]
            steps = [point["step"] for point in traces[0]]
            way = np.array([[point[name]["value"] for point in trace] for trace in traces])
            panel.plot(steps, way.mean(0), look, color=COLORS[color], label=f"{rate:.0e}")
            panel.fill_between(steps, way.min(0), way.max(0), color=COLORS[color], alpha=0.15, linewidth=0)
        panel.axhline(line, color=COLORS["theory"], linewidth=1.2)
        panel.set(title=name if row == 0 else "", xlabel="step" if row else "")
axes[0, 0].legend(fontsize=10, loc="upper right")
_ = axes[0, 1].set(yticks=(6, 6.5, 7))

# %% [markdown] lang="en"
# **Figure 9.3.** KL, entropy and exactness along the training; soft labels above, deterministic ones below. Dotted, solid, dashed: learning rates 1e-4, 3e-4, 1e-3; means and range over three seeds. Lines: the optimum.

# %% [markdown] lang="zh"
# **图 9.3** 训练途中的 KL、熵和正确率；上排软标签，下排确定性标签。点线、实线、虚线：学习率 1e-4、3e-4、1e-3；画的是三个种子的平均与范围。水平线：最优解。

# %%
# concluded from the grid
def each(key, name):
    found = [run[name] for run in by_run[key]]
    return [value["value"] if isinstance(value, dict) else value for value in found]


for rate in RATES:  # deterministic labels: over the edge in every seed
    key = "dpo deterministic", rate
    assert max(each(key, "exact")) < 0.6 < 0.75 and min(each(key, "kl")) > 5
    assert max(each(key, "J")) < 0.35 < ends["base model"]["J"]
for run in by_run[edge]:  # early, before a pair is used twice
    assert max(p["kl"]["value"] for p in run["trace"] if p["step"] <= 75) > 5
    assert run["pairs"] > 75 * 64
slow, fast = ("dpo soft", 1e-4), ("dpo soft", 1e-3)
assert max(each(slow, "style")) < 0.8 and min(each(good, "style")) > 0.95
assert span(good, "J") == "1.29 1.36" and span(fast, "J") == "0.78 1.53"
assert min(each(good, "accuracy") + each(edge, "accuracy")) > 0.985
assert min(each(good, "entropy")) > 6.5 and 6 < min(each(edge, "entropy")) > task.entropy
assert max(each(good, "margin")) < 1.15 and min(each(edge, "margin")) > 3.9
assert min(each(good, "displacement")) > -0.35 and max(each(edge, "displacement")) < -5

# %% [markdown] lang="en"
# **Labels are the surer way over the edge.** With deterministic labels every rate goes over, in every seed: fewer than 0.6 of the answers are right, the KL exceeds 5, and $J$ is far below the base model's. It happens early. At 3e-4 the KL has passed 5 within 75 steps, before any pair is used twice.
#
# **The learning rate is the other, and a moody one.** With soft labels 1e-4 has not arrived: its style is below 0.8. At 3e-4 the three seeds agree, with $J$ between 1.29 and 1.36. At 1e-3 they do not: 0.78 in one, 1.53 in another. Who had run the lucky seed alone would have recommended 1e-3.
#
# Now compare the two kinds of label at 3e-4. The accuracy is near 1 in both: no warning. The entropy is above the base model's in both: no warning either. The margin is 1.1 with soft labels and about 4 with deterministic ones; it warns whoever knows that 1.14 was asked for. Two speak plainly: the KL, and the chosen answers of these pairs, which lose less than 0.4 nats in the one and more than 5 in the other.

# %% [markdown] lang="zh"
# **标签这条路，更容易失控。** 用确定性标签，每个学习率、每个种子都失控：答对的不到 0.6，KL 超过 5，$J$ 远低于基座模型。失控得还早：3e-4 时，75 步之内 KL 就过了 5，那时还没有哪一对用过第二次。
#
# **另一条路是学习率，它喜怒无常。** 用软标签，1e-4 还没走到，风格不到 0.8。3e-4 的三个种子彼此一致，$J$ 在 1.29 到 1.36 之间。1e-3 就不一致了：有的种子得 0.78，有的得 1.53。谁要是只跑了走运的那个种子，就会推荐 1e-3。
#
# 再看 3e-4，比一比两种标签。准确率都接近 1：没有警报。熵都高于基座模型：也没有警报。间隔，软标签是 1.1，确定性标签是 4 左右；谁知道该要的是 1.14，谁就会警觉。说得明白的有两个：一是 KL，二是这些偏好对的 chosen，一边降不到 0.4 奈特，一边降 5 奈特以上。

# %% [markdown] lang="en"
# ## Where the probability goes
# What the pairs lose, something must gain. Nobody can search all texts. But those that some author can write are finitely many, about 2,000 for a prompt. Add up $\pi(y\mid x)$ over all of them, class by class, and subtract from 1. What is left is *exactly* the probability of all texts that no author writes, without listing one of them.
#
# By hand: authors write only `a`, `b` and `c`; a policy gives them 0.5, 0.2 and 0.1. Then everything else together has 0.2. `written_mass` does this for the network; here for three prompts drawn beforehand, under the reference, the DPO run, and the run with deterministic labels.

# %% [markdown] lang="zh"
# ## 概率去了哪里
# 偏好对丢了概率，必有别的文本在得。谁也没法在所有文本里去找。可是作者写得出的文本是有限的，一个提示约 2,000 条。把它们的 $\pi(y\mid x)$ 分类全加起来，再用 1 去减，剩下的*恰好*是所有没有作者会写的文本的概率，一条也不用列出来。
#
# 手算：作者只会写 `a`、`b`、`c`，策略给它们 0.5、0.2、0.1，那么其余一切加起来就是 0.2。对网络做这件事的是 `written_mass`。取三个事先抽好的提示，量三个策略：参考策略、DPO、确定性标签那一次。

# %% tags=["nbval-ignore-output"]
PROMPTS = stored["settings"]["prompts"]
table_of = {prompt: task.table.prompts.count(prompt) for prompt in PROMPTS}
mass = {name: written_mass(model, task, PROMPTS) for name, model in (("ref", base), ("dpo", policy), ("hard", hard_runs[0.25]))}
print(table_of, "   [2, slip] [2, right] [3, slip] [3, right]   rest")
for name, of_prompts in mass.items():
    for prompt, of_classes in zip(PROMPTS, of_prompts):
        print(f"{name:5} {prompt:6}", *(f"{value:10.3f}" for value in of_classes.flatten()), f"{1 - of_classes.sum():8.3f}")
rest = {name: 1 - of_prompts.sum((1, 2)).mean() for name, of_prompts in mass.items()}
assert rest["ref"] < 0.01 and 0.02 < rest["dpo"] < 0.3 and rest["hard"] > 0.3
assert all(1_500 < count < 2_500 for count in table_of.values())

# %% alt_en="Two stacked area charts over 300 steps, soft labels left, deterministic right; the areas add to 1. Left: the area of right three-number answers at the bottom grows from 0.22 to 0.83, right two-number answers shrink from 0.52 to 0.05, slips nearly vanish, and an orange area on top, the texts of no author, makes up about a tenth. Right: the right two-number answers and the slips are gone by step 75, the right three-number answers reach only 0.50, and the orange area fills the other half. A dashed line at 0.95 is the optimum for the lowest area." alt_zh="两幅堆叠面积图，横轴 300 步，左边软标签，右边确定性标签，各层加起来是 1。左：最下层是三个数且答案正确的回答，从 0.22 长到 0.83；两个数且答案正确的从 0.52 缩到 0.05；失误几乎消失；最上面的橙色是没有作者会写的文本，约占十分之一。右：到 75 步，两个数的回答和失误都没了，三个数且答案正确的只到 0.50，橙色占了另一半。0.95 处的虚线是最优解里最下层该到的高度。"
fig, axes = figure(columns=2, width=8.0, height=3.4)
layers = [((1, 1), "chosen"), ((0, 1), "policy"), ((1, 0), "baseline"), ((0, 0), "ref")]
where = [list(task.prompt_distribution).index(prompt) for prompt in PROMPTS]
wanted = best[where].exp().mean(0)[3].item()  # right, three numbers: the optimum on these prompts
lies = {}
for panel, key in zip(axes, (good, edge)):
    traces = [run["trace"] for run in by_run[key]]
    steps = [point["step"] for point in traces[0]]
    at = np.array([[point["mass"] for point in trace] for trace in traces]).mean(0)  # (points, 2, 2)
    heights = [at[:, style, right] for (style, right), _ in layers]
    colors_of = [COLORS[color] for _, color in layers] + [COLORS["rejected"]]
    panel.stackplot(steps, *heights, 1 - sum(heights), colors=colors_of, alpha=0.85)
    panel.axhline(wanted, color="black", linestyle="--", linewidth=1.6)
    panel.set(xlabel="step", ylim=(0, 1), xlim=(0, 300), title=key[0])
    lies[key] = [round(float(value), 2) for value in (heights[0][0], heights[0][-1], heights[1][0], heights[1][-1])]
    lies[key] += [round(float(1 - at[i].sum()), 2) for i in (0, steps.index(75), -1)]
axes[0].set(ylabel=r"$\sum\pi(y\mid x)$")
print(round(wanted, 2), lies)
assert lies[good] == [0.22, 0.83, 0.52, 0.05, 0.01, 0.12, 0.10]
assert lies[edge] == [0.22, 0.50, 0.52, 0.00, 0.01, 0.60, 0.50]
assert round(wanted, 2) == 0.95

# %% [markdown] lang="en"
# **Figure 9.4.** Where the probability lies, summed exactly: means over three prompts and the three seeds of the recorded experiment, at 3e-4. From below: three numbers and right (green), two and right (blue), three with a slip (yellow), two with a slip (grey), and on top, in orange, all texts that no author writes. Dashed: the green share at the optimum.

# %% [markdown] lang="zh"
# **图 9.4** 概率在哪里，逐条加出来的精确值：三个提示、那组实验的三个种子取平均，学习率 3e-4。从下往上：三个数且答案正确（绿），两个数且答案正确（蓝），三个数带失误（黄），两个数带失误（灰），最上面的橙色是所有没有作者会写的文本。虚线：最优解里绿色该占的份额。

# %% [markdown] lang="en"
# On the left the green share goes from 0.22 to 0.83, where the optimum has 0.95; one tenth ends up outside. On the right the blue and grey shares are gone by step 75, and 0.60 lies outside; at the end it is still 0.50. [Razin et al. 2025](https://arxiv.org/abs/2410.08847) call displacement *benign* if what gains is as good as what lost, and *catastrophic* if it is much worse. Which is this? Of the answers drawn from the three ruined policies, 0.38 to 0.55 are right, hardly any of them in a way that no author writes, and 0.23 to 0.48 are well formed and off by exactly ten. For whoever wants right values that is catastrophic. Our reward is milder: a wrong answer of three numbers earns one point, as a right one of two does. So the mean reward even rises, from 1.05 to between 1.37 and 1.51; the optimum has 1.95, at less than a quarter of the KL.

# %% [markdown] lang="zh"
# 左边，绿的由 0.22 升到 0.83，最优解是 0.95；有十分之一落到了外面。右边，到 75 步，蓝的灰的全没了，0.60 落在外面，到最后还有 0.50。[Razin et al. 2025](https://arxiv.org/abs/2410.08847) 把似然位移分成两种：得到概率的同失去的一样好，是*良性的*（benign）；差得多，是*灾难性的*（catastrophic）。这里是哪一种？从三个毁了的策略里抽回答，0.38 到 0.55 是对的，其中几乎没有作者不会写的；另有 0.23 到 0.48 格式正确，值恰好差十。要的是算对，这就是灾难。我们的奖励却没这么严：三个数而值错，得一分，两个数而答案正确，也是一分。所以平均奖励还涨了，从 1.05 涨到 1.37 至 1.51；最优解是 1.95，KL 不到四分之一。

# %%
for run in by_run[edge]:
    print({name: round(share, 3) for name, share in run["kinds"].items()}, f"exact {run['exact']['value']:.2f}")
by_ten = sorted(run["kinds"]["new by ten"] for run in by_run[edge])
assert f"{by_ten[0]:.2f} {by_ten[-1]:.2f}" == "0.23 0.48"
assert max(run["kinds"]["new right"] for run in by_run[edge]) < 0.002
assert span(edge, "exact") == "0.38 0.55" and span(edge, "reward") == "1.37 1.51"
assert round(theory["style"] + theory["exact"], 2) == 1.95 and task.style + 1 - task.slip == 1.05
assert all(run["kl"]["value"] > 4 * theory["kl"] for run in by_run[edge])

# %% [markdown] lang="en"
# ## ⋆ Three causes
# **Part of it is law.** Whatever the policy, an average answer of the reference loses $\mathrm{KL}(\pi_{\mathrm{ref}}\,\|\,\pi)$, as measured above. In the ruined runs this KL is enormous, more than 13 nats: they have all but given up answers of two numbers. Over all 18 runs of the grid, held-out pairs and fresh answers agree on it.
#
# **Part of it is wanted.** But on held-out pairs whose answers differ in reward the optimum asks the chosen ones for less than 0.2 nats, and the ruined runs took more than 5.
#
# **Shared parameters pass the push on.** Figure 7.5 in [chapter 7](07_derivation.ipynb) shows it with three answers: the margin of a pair grows, both of its answers lose, and a third, in no pair, takes the probability. Does the network do that? One step of plain gradient descent from the reference, on 256 pairs that differ in reward, long enough to be seen. By how many nats does it move the answers of these pairs? And, for prompts drawn afresh, right three-number answers, and the *new* mistakes of the ruined policy? Those are picked with hindsight; beside them, without it, stand the new mistakes of the reference at temperature 1.5.

# %% [markdown] lang="zh"
# ## ⋆ 三个原因
# **有一部分是定律。** 不管什么策略，参考策略的回答平均都要降 $\mathrm{KL}(\pi_{\mathrm{ref}}\,\|\,\pi)$，前面量过。在毁了的那几次里，这个 KL 大得出奇，超过 13 奈特：它们几乎不再写两个数的回答了。那组实验的 18 次训练，在留出的偏好对上量，在另抽的回答上量，两边都一致。
#
# **有一部分是该降的。** 可是在留出的偏好对上，只看奖励有高下的，最优解要 chosen 降的不到 0.2 奈特，毁了的那几次却降了 5 奈特以上。
#
# **共用的参数，把推力传给了别人。**[第 7 章](07_derivation.ipynb)的图 7.5 用三个回答演示过：一对的间隔大了，两个回答都降，概率归了不在任何一对里的第三个。网络会这样吗？从参考策略出发，在 256 对奖励有高下的偏好对上做一步最朴素的梯度下降，步子大到看得见。这一步把各种回答移动了多少奈特？先量这些偏好对的 chosen 与 rejected。再另抽一批提示，量三个数且答案正确的回答，以及毁了的策略写出的*新错*。这些新错是事后挑的；所以再配一组事先就能得到的：参考策略自己在温度 1.5 下写出的新错。

# %%
# concluded of every run
print(f"{'':25}{'both, on pairs':>16}{'-KL(ref || policy)':>20}")
for run in stored["grid"]:
    both, forward = run["moved"]["both"], run["forward_kl"]
    print(f"{run['name']:18}{run['rate']:7.0e}{both['value']:16.2f}{-forward['value']:20.2f}")
    noise = both["high"] - both["low"] + forward["high"] - forward["low"]
    assert abs(both["value"] + forward["value"]) < noise  # two samples of one number
assert len(stored["grid"]) == 18 and min(run["forward_kl"]["value"] for run in by_run[edge]) > 13
assert all(-0.2 < value < 0 for value in stored["predicted_displacement"])
assert max(run["displacement"] for run in by_run[edge]) < -5

# %% tags=["nbval-ignore-output"]
few = {k: v.to(device) for k, v in hard.batch(np.arange(256)).items()}
total, count = dpo_step(0.25)(stepped := copy.deepcopy(base), few)["loss"]
(total / count).backward()
norm = torch.nn.utils.clip_grad_norm_(stepped.parameters(), math.inf)
with torch.no_grad():
    for weights in stepped.parameters():
        weights -= 0.1 * weights.grad / norm  # a step of length 0.1
asked = task.demonstrations(600, stream("one step", 0))[0]
written = {}
for name, model, T in (("ref", base, 1.0), ("hot", base, 1.5), ("hard", hard_runs[0.25], 1.0)):
    texts = zip(asked, generate(model, asked, temperature=T, seed=1))
    written[name] = [text for text in texts if judge(*text).well_formed]
groups = {side: list(zip(hard.prompt[:256], getattr(hard, side)[:256]))
          for side in ("chosen", "rejected")}  # fmt: skip
groups["right, three"] = [t for t in written["ref"] if judge(*t).exact and judge(*t).style]
for name in ("hard", "hot"):
    groups[f"new, {name}"] = [t for t in written[name]
                              if t not in task.log_conditional and not judge(*t).exact]  # fmt: skip
change = {name: (score(stepped, *zip(*texts)) - score(base, *zip(*texts))).mean().item()
          for name, texts in groups.items()}  # fmt: skip
print({name: (len(groups[name]), round(value, 3)) for name, value in change.items()})
assert change["chosen"] > 0.05 and change["rejected"] < -0.05

# %%
assert change["new, hard"] > 1.5 * change["chosen"] and change["right, three"] > 0
assert change["new, hard"] > 2 * change["right, three"]
assert change["new, hot"] < 0.6 * change["new, hard"]

# %% [markdown] lang="en"
# Chosen goes up, rejected down, as told. But other texts move, too. Right three-number answers rise, as they should; the new mistakes of the ruined policy rise far more than the chosen answers themselves. Not every mistake does: those picked without hindsight move much less. Among the countless texts that no pair contains, some lie where the shared parameters lift them most, and those are the ones that we meet in the end. (One step, one seed: an illustration.) [Razin et al. 2025](https://arxiv.org/abs/2410.08847) trace the effect to pairs whose answers have similar embeddings inside the model; [Pal et al. 2024](https://arxiv.org/abs/2402.13228) find it above all where the two completions differ by a small edit distance.
#
# **No pair looks there.** What rises has to be pushed down by something, and pairs drawn from the reference hardly hold a new mistake. When half of the policy's answers are new mistakes, the accuracy on the old pairs is near 1, and the loss has next to nothing to say.

# %% [markdown] lang="zh"
# chosen 升，rejected 降，这是交代的事。可是别的文本也动了。三个数且答案正确的回答升，这是应该的；毁了的策略那些新错却比 chosen 自己升得还多得多。并不是什么错都这样：不是事后挑的那组，动得少得多。哪一对都没有的文本不计其数，总有一些正好在共用参数抬得最高的地方，最后冒出来的就是它们。（只走一步，只有一个种子，算是举例。）[Razin et al. 2025](https://arxiv.org/abs/2410.08847) 把这种效应归到一类偏好对：两个回答在模型内部的嵌入（embedding）很相似；[Pal et al. 2024](https://arxiv.org/abs/2402.13228) 发现，它在两个回答编辑距离小的数据上尤其明显。
#
# **没有一对覆盖到那里。** 升上来的，总得有东西压下去；从参考策略抽的偏好对里，却几乎没有新错。等到策略有一半回答是新错，在老的偏好对上，准确率接近 1，损失几乎无话可说。

# %% [markdown] lang="en"
# ## Remedies, on one footing
# What would have helped? Each arm below has the same base models, the same prompts and answers for each seed, 300 updates of 64 with AdamW, and three learning rates to choose from, 1e-4, 3e-4 and 1e-3; the choice falls on draws of seed 0 that are not reported. All but soft and hot take the file without ties, labels $q=1$. The yardstick is $J$ with $\beta=0.25$, whatever an arm was trained with.
#
# | arm | what it does |
# |---|---|
# | DPO, hard | what ruined us: $\beta=0.25$ |
# | beta 0.1, beta 1 | the same with another $\beta$ |
# | early stop | of the steps 10, 25, 50, 75, ... the one with the best $J$, on 1,000 draws kept for choosing |
# | hot, hard | second answers at temperatures 1.5 and 2.0 in turn |
# | IPO | the squared loss of IPO, which draws the difference of the log-ratios to 4 nats, what one point is worth at $\beta=0.25$ ([Azar et al. 2024](https://arxiv.org/abs/2310.12036)) |
# | smoothing | each label counts as 0.75 in place of 1, since a Bradley–Terry judge would prefer the worse answer in 0.25 of the pairs |
# | SFT term | the next-token loss of the chosen answers added to the DPO loss |
# | DPO, soft | soft labels, ties included: the live run |
# | hot, soft | both: soft labels and hot second answers |
# | imitation | fine-tuning on the chosen answers, ties kept, or dropped |
#
# Before you look: which of them will beat imitation of the very same file?

# %% [markdown] lang="zh"
# ## 补救，放在同一条起跑线上
# 怎样才拉得住？下面每一种做法，基座模型一样，每个种子的提示和回答一样，都用 AdamW 更新 300 次、每次 64 对，学习率都有三个可挑：1e-4、3e-4、1e-3，挑选用的是种子 0 另外的抽样，不计入结果。除了 soft 和 hot，用的都是丢掉平局的那份文件，标签 $q=1$。尺子是 $\beta=0.25$ 的 $J$，不管训练时用的是什么。
#
# | 做法 | 做什么 |
# |---|---|
# | DPO, hard | 把我们毁了的那一种：$\beta=0.25$ |
# | beta 0.1、beta 1 | 同上，换个 $\beta$ |
# | early stop | 早停：在第 10、25、50、75……步里，取 $J$ 最好的一步；挑选另用 1,000 个抽样 |
# | hot, hard | 第二个回答轮流用温度 1.5 和 2.0 |
# | IPO | IPO 的平方损失，把两个对数比的差拉向 4 奈特，正是 $\beta=0.25$ 时一分所值（[Azar et al. 2024](https://arxiv.org/abs/2310.12036)） |
# | smoothing | 标签平滑：每个标签当 0.75，不当 1，因为 Bradley–Terry 的裁判会把其中 0.25 判反 |
# | SFT term | DPO 损失再加 chosen 的下一个词元损失 |
# | DPO, soft | 软标签，平局也留：前面现场跑的那次 |
# | hot, soft | 两样一起：软标签，第二个回答升温 |
# | imitation | 只拿 chosen 微调，平局留着，或者丢掉 |
#
# 看结果之前猜一猜：哪几种胜得过同一份文件上的模仿？

# %%
WORDS = {
    "base": "base model", "imitation": "imitation", "imitation, no ties": "imitation, no ties",
    "dpo soft": "DPO, soft", "hot soft": "hot, soft", "dpo deterministic": "DPO, hard",
    "hot": "hot, hard", "beta 0.1": "beta 0.1", "beta 1": "beta 1", "ipo": "IPO",
    "early stop": "early stop", "smoothing": "smoothing", "sft term": "SFT term",
}  # fmt: skip
runs = stored["runs"]
COLUMNS = ("J", "reward", "kl", "style", "exact", "both", "well_formed", "unwritten")
print(arms.table(runs, WORDS, COLUMNS))
print("\nclosed forms")
for name, shares in ends.items():
    print(f"{name:18}", *(f"{column} {shares[column]:.3f}  " for column in COLUMNS[:6]))
print("\nlearning rates", stored["rates"])
print("early stop", [run["step"] for run in runs if run["name"] == "early stop"])

# %% alt_en="Two panels side by side, thirteen arms down the vertical axis, three points for each. Left, J, with three lines: the base model at 1.05, the end of imitation without ties at 1.51, the optimum at 1.64. From below: beta 0.1 and DPO with hard labels around 0 and less, hot answers with hard labels about 0.75, the base model and early stop about 1.06, beta 1 about 1.2, imitation with ties about 1.3, soft labels, smoothing and IPO between 1.3 and 1.4, imitation without ties 1.46, hot and soft about 1.48, the SFT term 1.55. Right, the share of answers that no author writes: more than a half for hard labels, about 0.1 for soft labels, smoothing and IPO, a few hundredths for imitation and the SFT term." alt_zh="左右两幅，纵轴十三种做法，每种三点。左：J，三条线是基座模型 1.05、丢掉平局的模仿的终点 1.51、最优解 1.64。从下往上：beta 0.1 和硬标签 DPO 在 0 上下或更低，硬标签升温约 0.75，基座模型和早停约 1.06，beta 1 约 1.2，留着平局的模仿约 1.3，软标签、平滑、IPO 在 1.3 与 1.4 之间，丢掉平局的模仿 1.46，软标签升温约 1.48，SFT 项 1.55。右：没有作者会写的回答的比例，硬标签过半，软标签、平滑、IPO 约 0.1，模仿和 SFT 项只有百分之几。"
shown = sorted(WORDS, key=lambda name: arms.arm_mean(runs, name).value)
use_style()
fig, axes = plt.subplots(1, 2, figsize=(7.6, 4.8), layout="constrained", sharey=True)
for y, name in enumerate(shown):
    color = {"base": "ref", "dpo soft": "policy", "hot soft": "policy"}.get(name, "rejected")
    color = "baseline" if "imitation" in name else color
    for panel, metric in zip(axes, ("J", "unwritten")):
        values = [run[metric]["value"] for run in runs if run["name"] == name]
        panel.plot(values, [y - 0.2, y, y + 0.2], "o", color=COLORS[color], markersize=5)
lines = {"base model": ":", "imitation, no ties": "--", "optimum": "-"}
for end, look in lines.items():
    axes[0].axvline(ends[end]["J"], linestyle=look, color=COLORS["theory"], linewidth=1.4)
axes[0].set_yticks(range(len(shown)), [WORDS[name] for name in shown])
axes[0].set(xlabel="$J$")
_ = axes[1].set(xlabel=r"$1-\sum\pi$")

# %% [markdown] lang="en"
# **Figure 9.5.** The arms, a point a seed. Left: $J$; dotted line: the base model; dashed: where imitation without ties ends; solid: the optimum. Right: the share of answers that no author writes. Only the SFT term lies beyond imitation without ties in every seed.

# %% [markdown] lang="zh"
# **图 9.5** 各种做法，一个种子一点。左：$J$；点线是基座模型，虚线是丢掉平局的模仿的终点，实线是最优解。右：没有作者会写的回答所占的比例。在每个种子上都胜过丢掉平局的模仿的，只有 SFT 项。

# %%
# concluded from the arms
imitator_without_ties, its_end = "imitation, no ties", ends["imitation, no ties"]["J"]
losing = ("dpo soft", "ipo", "smoothing", "beta 1", "beta 0.1", "hot", "early stop",
          "dpo deterministic", "imitation", "base")  # fmt: skip
for name in losing:
    assert arms.beats(runs, imitator_without_ties, name), name
assert arms.beats(runs, "sft term", imitator_without_ties)
assert arms.beats(runs, "base", "dpo deterministic")
assert arms.beats(runs, "imitation", "base")
assert min(arms.values(runs, "sft term").values()) > its_end
assert max(arms.values(runs, imitator_without_ties).values()) < its_end
for name in ("ipo", "smoothing", "dpo soft", "hot soft"):  # an end to the margin
    for other in ("base", "early stop", "beta 1", "beta 0.1", "hot", "dpo deterministic"):
        assert arms.beats(runs, name, other), (name, other)

# %%
assert arms.beats(runs, "hot soft", "dpo soft")
assert not arms.beats(runs, "hot soft", imitator_without_ties)  # level: neither is ahead
assert not arms.beats(runs, imitator_without_ties, "hot soft")
for name in ("ipo", "smoothing"):  # three that end alike: closer than one run's interval
    wide = [run["J"]["high"] - run["J"]["low"] for run in runs if run["name"] == name]
    assert max(arms.gaps(runs, name, "dpo soft").values()) < min(wide)
spans = {name: [f"{f(arms.values(runs, name).values()):.2f}" for f in (min, max)]
         for name in ("sft term", "hot soft", "dpo soft")}  # fmt: skip
assert spans["sft term"] == ["1.54", "1.56"] and spans["hot soft"] == ["1.45", "1.50"]
assert f"{arms.arm_mean(runs, imitator_without_ties).value:.2f}" == "1.46"
assert [run["step"] for run in runs if run["name"] == "early stop"] == [10] * 3
assert all(rate in stored["settings"]["rates"] for rate in stored["rates"].values())
assert abs(np.mean(stored["turned"]) - 0.25) < 0.005

# %% [markdown] lang="en"
# **One remedy beats imitation of the same file, the SFT term,** in every seed, and it beats even the end of that imitation, 1.51. By itself the term *is* imitation without ties, and the rest is the run that was ruined: together they do what neither does alone. The chosen answers are held up, and the pull of DPO still moves the style. (In these seeds it ends between 1.54 and 1.56; [Liu et al. 2024](https://arxiv.org/abs/2405.16436) say why such a term guards against over-optimisation.)
#
# **A margin with an end helps, and not enough.** IPO, smoothing and soft labels lift $J$ from about 0 to between 1.3 and 1.4: above the base model, and in every seed below imitation without ties. Soft labels know the doubt of each pair, smoothing only the average doubt; here that shows no difference. Hot second answers add to soft labels, in every seed; at 1.45 to 1.50 the two together are level with imitation, ahead in two seeds and behind in one.
#
# **Not enough at all: stopping early, pulling harder, looking elsewhere.** With labels that have no end, none of early stopping, another $\beta$, or hot answers alone gets as far as IPO in any seed. Early stopping took the first step on offer in every seed, the 10th, and is hardly better than not training.
#
# So the verdict is sobering. After 300 updates on these pairs, who looked at DPO's remedies alone might have been glad of 1.4; who had fine-tuned on the winners of the very same file would have had 1.46. And who had trained nothing, but drawn four answers each time and kept the best, 1.52. Two things are not settled: three learning rates were tried and one training length, so the order among IPO, smoothing and soft labels is open ([chapter 11](11_family.ipynb) compares the losses), and these pairs are few.

# %% [markdown] lang="zh"
# **只有一种补救胜过同一份文件上的模仿：SFT 项**，每个种子都是如此，连那种模仿的终点 1.51 也被它超过。单看这一项，它*就是*丢掉平局的模仿；剩下的，就是毁了的那种训练。两样合起来，做到了哪一样单独都做不到的事：chosen 被托住，DPO 的力气照样推动风格。（这几个种子得 1.54 到 1.56；这样一项为什么能防过度优化，[Liu et al. 2024](https://arxiv.org/abs/2405.16436) 讲了道理。）
#
# **让间隔有个尽头，管用，但不够。** IPO、平滑、软标签把 $J$ 从 0 上下提到 1.3 与 1.4 之间：高过基座模型，却在每个种子上都低于丢掉平局的模仿。软标签知道每一对有几分把握，平滑只知道一个平均数，在这里看不出差别。软标签再配上升温的第二个回答，每个种子都更高，得 1.45 到 1.50，同模仿打平：两个种子领先，一个落后。
#
# **早停、拉紧、换地方覆盖，远远不够。** 标签没有尽头，无论早停、换个 $\beta$，还是单单把回答升温，在哪个种子上都到不了 IPO 的地步。早停在每个种子上都停在可挑的头一步，第 10 步，比不训练好不了多少。
#
# 所以结论叫人清醒。在这些偏好对上更新 300 次，要是只看 DPO 的几种补救，得了 1.4 也许就很高兴；要是拿同一份文件的赢家做微调，得的是 1.46。要是什么也不训练，每次抽四个回答、留下最好的，就有 1.52。有两件事还没有定论：学习率只试了三个，训练长度只试了一种，所以 IPO、平滑、软标签谁先谁后还不好说（各种损失的比较在[第 11 章](11_family.ipynb)）；再就是，这些偏好对不多。

# %% [markdown] lang="en"
# ## What closes the gap
# Hot second answers came nearer with soft labels, and the pairs were few. At a higher temperature the base model errs in every way it can, so the pairs contain the rare mistakes. With soft labels this does not move the optimum, as long as every answer can occur ([chapter 7](07_derivation.ipynb)).
#
# Ten longer runs were recorded, all with soft labels, from the shipped base model at $\beta=0.25$. They differ in the number of pairs and of passes over them, in the optimiser, and in $T$, the temperature of the second answer. The last run draws second answers at 1.5 and 2.0 in turn. Each has one seed: they tell what happened, not what always happens. The recipe of the last one made the shipped model, and was run from three seeds.

# %% [markdown] lang="zh"
# ## 怎样缩小差距
# 软标签配上升温的第二个回答，走近了些；而且偏好对本来就少。温度一高，基座模型能犯的错都会犯出来，偏好对里就有了那些罕见的错。用软标签，只要每个回答都有机会出现，这样做就不会挪动最优解（[第 7 章](07_derivation.ipynb)）。
#
# 另外记录了十次更长的训练，都用软标签，从随书的基座模型出发，$\beta=0.25$。不同的是：偏好对有多少、过几遍，用什么优化器（optimiser），第二个回答的温度 $T$ 是多少。最后一次，第二个回答轮流用 1.5 和 2.0。每次只有一个种子：说的是发生过什么，不是必定会发生什么。最后一次的配方就是随书模型的配方，它跑了三个种子。

# %%
gap = json.loads(Path("data/dpo_gap.json").read_text(encoding="utf-8"))["runs"]
found = {}
for run in gap:
    key = run["pairs"], run["optimizer"], "/".join(f"{T:g}" for T in run["pair_temperatures"])
    row = {name: run[name]["value"] for name in (*NAMES[:4], "well_formed")}
    found[key] = row | {"J": row["style"] + row["exact"] - beta * row["kl"]}
    print(f"{run['pairs']:6} x {run['epochs']:g}  {run['optimizer']:5}  T={key[2]:5}", end=" ")
    print(*(f"{n} {found[key][n]:.3f} " for n in ("J", "style", "exact", "kl", "well_formed")))
exact = {key: f"{row['exact']:.2f}" for key, row in found.items()}
assert (exact[24_000, "adamw", "1"], exact[48_000, "adamw", "1"]) == ("0.76", "0.82")
assert [exact[96_000, name, T] for T in ("1", "1.5") for name in ("adamw", "muon")] == [
    "0.66", "0.59", "0.91", "0.96"]  # fmt: skip
assert f"{found[96_000, 'adamw', '1']['kl']:.1f} {found[96_000, 'muon', '1.5']['kl']:.1f}" == "4.0 1.4"
odd = {run["pair_temperatures"][0]: run["odd_pairs"] for run in gap
       if run["pairs"] == 96_000 and len(run["pair_temperatures"]) == 1}  # fmt: skip
assert f"{found[96_000, 'muon', '1.75']['well_formed']:.2f}" == "0.76"
assert (odd[1.75], odd[1.5], odd[2]) == (268, 63, 753)
assert len(gap) == 10 and {"S67=37+30-UE", "S-15=33-48-SE"} <= set(gap[6]["malformed"])
for name, two, turns in (("exact", "0.98", "0.98"), ("kl", "1.29", "1.30"), ("style", "0.94", "0.94")):
    at = [f"{found[96_000, 'muon', T][name]:.2f}" for T in ("2", "1.5/2")]
    assert at == [two, turns]

# %%
# concluded of the shipped recipe
seeds = json.loads(Path("data/seeds.json").read_text(encoding="utf-8"))["seeds"]
recipe = {}
for entry in seeds:
    dpo = {name: entry["dpo"][name]["value"] for name in NAMES[:4]}
    recipe[entry["seed"]] = dpo["style"] + dpo["exact"] - beta * dpo["kl"]
    print("seed", entry["seed"], *(f"{n} {v:.3f} " for n, v in dpo.items()), f"J {recipe[entry['seed']]:.3f}")
assert sorted(recipe) == [0, 1, 2]
assert min(recipe.values()) > max(arms.values(runs, "imitation, no ties").values())
assert min(recipe.values()) > max(arms.values(runs, "sft term").values())
assert min(recipe.values()) > ends["imitation, no ties"]["J"] and max(recipe.values()) < ends["best of 8"]["J"]
assert [f"{f(recipe.values()):.2f}" for f in (min, max)] == ["1.56", "1.60"]

# %% [markdown] lang="en"
# In these runs more of the same pairs did not help. At 750 updates, 48,000 pairs used once gave 0.82 right and 24,000 used twice 0.76; but twice the pairs *and* twice the updates gave 0.66, at a KL of 4.0. Muon, which learns faster, got 0.59.
#
# With the second answer at temperature 1.5, pairs and steps as before, it is 0.91 with AdamW, and 0.96 with Muon, whose KL is 1.4. What made the difference here is where the pairs look.
#
# At 1.75 only 0.76 of the answers are well formed. Among the others are `37+30-UE` for 67 and `33-48-SE` for -15: a right sum, an operator, and a character that no author ever writes. Of the 96,000 pairs 268 hold such a character; at 1.5 it is 63, and that run did not find the hole. At 2.0 it is 753, and the hole is closed: 0.98 right, a KL of 1.29, where the optimum has 0.994 and 1.256.
#
# The shipped `dpo` was made as in the last run: 0.98 right, KL 1.30, and a style of 0.94, a little below 0.959. By the yardstick its recipe has a $J$ of 1.56 to 1.60 over three seeds. That is above every arm of the last section, and above 1.51, the end of imitation without ties, which no number of pairs can lift. It has paid for it with 192,000 judged answers in place of 38,400: what DPO on stored pairs lacked was samples, in the right places. The best of 8, at 1.63, is still ahead.

# %% [markdown] lang="zh"
# 在这几次里，同样的偏好对加多，没有用。同样更新 750 步，48,000 对各用一次，答对 0.82；24,000 对各用两次，答对 0.76。可是偏好对再翻倍、步数*也*翻倍，只有 0.66，KL 4.0。Muon 学得更快，得 0.59。
#
# 把第二个回答的温度调到 1.5，偏好对和步数都不变：AdamW 得 0.91；Muon 得 0.96，KL 是 1.4。这里拉开差距的，是偏好对覆盖到哪里。
#
# 到了 1.75，格式正确的回答只剩 0.76。其余的，像目标 67 写成 `37+30-UE`，目标 -15 写成 `33-48-SE`：算式是对的，后面却多出一个运算符，再跟一个从没有作者写过的字符。96,000 对里有 268 对见得到这样的字符；1.5 的时候是 63 对，那一次没撞上这个漏洞。到 2.0 是 753 对，漏洞就堵上了：答对 0.98，KL 1.29，而最优解是 0.994 和 1.256。
#
# 随书的 `dpo` 就是最后那一次的做法：答对 0.98，KL 1.30，风格 0.94，略低于 0.959。拿尺子量，这个配方在三个种子上的 $J$ 是 1.56 到 1.60。上一节的做法，它样样都超过；丢掉平局的模仿，终点是 1.51，偏好对再多也抬不高，它也超过了。代价是评判了 192,000 个回答，而不是 38,400 个：用存好的偏好对做 DPO，缺的是样本，而且要在该有的地方。best-of-8 有 1.63，仍在它前面。

# %% [markdown] lang="en"
# One picture holds all of it, on the two axes of the objective, KL and reward. The line is what the best policy can reach, for every $\beta$, from the population's rates; no policy lies above it. [Chapter 12](12_rl.ipynb) puts reinforcement learning on the same picture.

# %% [markdown] lang="zh"
# 一张图就能收尽。两根轴正是目标里的两个量：KL 与奖励。曲线按群体的比例算出，是最优策略能达到的地方，每个 $\beta$ 一点；没有策略在曲线上方。[第 12 章](12_rl.ipynb)会把强化学习也放进这张图。

# %% alt_en="KL on the horizontal axis, mean reward on the vertical axis. A curve, the exact frontier, rises steeply and is flat at 2 from a KL of 1.5 on; a star marks the optimum for the beta of this chapter, three crosses on or just below the curve the best of 2, 4 and 8. The base model lies at the left end, imitation without ties close to the curve, the SFT term a little below it. The shipped recipe lies close to the star. DPO with soft labels and the runs marked T=1 and T=1.75 lie below the flat part, the further to the right the lower. The runs with hard labels lie furthest to the right and lowest." alt_zh="横轴是 KL，纵轴是平均奖励。一条曲线是精确的前沿（frontier），先陡升，从 KL 等于 1.5 起在 2 处变平；星号是本章的 beta 对应的最优解，曲线上或贴着曲线下方的三个叉是 best-of-2、4、8。基座模型在最左端，丢掉平局的模仿贴近曲线，SFT 项略低一点。随书的配方紧挨着星号。软标签的 DPO 和标着 T=1、T=1.75 的几次在平段下方，越靠右越低。硬标签的几次最靠右，也最低。"
frontier = [predicted_optimum(task, "style+exact", b) for b in np.geomspace(0.06, 20, 80)]
fig, axes = figure(width=7.0, height=4.2)
line = [(f["kl"], f["style"] + f["exact"]) for f in reversed(frontier)]
axes.plot(*zip(*line, (9, line[-1][1])), color=COLORS["theory"])
axes.plot(theory["kl"], ends["optimum"]["reward"], "*", color=COLORS["theory"], markersize=13)
for end in ("imitation", "best of 4", "best of 8"):  # imitation ends at the best of 2
    axes.plot(ends[end]["kl"], ends[end]["reward"], "x", color=COLORS["theory"])
spots = {name: [(run["kl"]["value"], run["reward"]["value"]) for run in runs if run["name"] == name]
         for name in ("base", "imitation, no ties", "sft term", "dpo soft", "dpo deterministic")}  # fmt: skip
at = {key: (row["kl"], row["style"] + row["exact"]) for key, row in found.items()}
spots["$T=1$"] = [spot for key, spot in at.items() if key[2] == "1"]
spots["$T=1.75$"] = [spot for key, spot in at.items() if key[2] == "1.75"]
shares = [{name: entry["dpo"][name]["value"] for name in NAMES[:4]} for entry in seeds]
spots["shipped"] = [(row["kl"], row["style"] + row["exact"]) for row in shares]
colors = ("ref", "baseline", "rejected", "policy", "rejected", "ref", "ref", "policy")
for (name, where), color in zip(spots.items(), colors):
    axes.plot(*zip(*where), "o", color=COLORS[color], markersize=5)
    place = {"shipped": (-64, 2), "sft term": (8, -6), "dpo soft": (-12, 9),
             "$T=1$": (-20, -16)}.get(name, (5, -14))  # fmt: skip
    axes.annotate(WORDS.get(name, name), max(where), xytext=place,
                  textcoords="offset points", fontsize=9)  # fmt: skip
_ = axes.set(xlabel=r"$\mathrm{KL}(\pi\,\|\,\pi_{\mathrm{ref}})$", ylabel=r"$\mathbb{E}[r]$",
             ylim=(0.95, 2.15), xlim=(-0.3, 8))  # fmt: skip

# %% [markdown] lang="en"
# **Figure 9.6.** Reward against KL. The line is the exact frontier, the star its point for $\beta=0.25$, the crosses the best of 2, 4 and 8. A point is one run; the names are those of the tables. Both ways of going wrong lead to the right and down: labels without an end, and pairs that do not look where the policy goes.

# %% [markdown] lang="zh"
# **图 9.6** 奖励与 KL。曲线是精确的前沿，星号是 $\beta=0.25$ 的那一点，叉是 best-of-2、4、8。一点是一次训练，名字同表里的一样。两种走偏都通向右下方：标签没有尽头；偏好对覆盖不到策略要去的地方。

# %% [markdown] lang="en"
# ## What real recipes do
# How do published models choose? Every figure below stands in the named report or in its authors' own configuration files.
#
# | model | method | $\beta$ | learning rate | epochs | where the pairs come from |
# |---|---|---|---|---|---|
# | InstructGPT ([Ouyang et al. 2022](https://arxiv.org/abs/2203.02155)) | reward model, then PPO | 0.02, in the reward | reward model: 9e-6 | reward model: 1 | people rank 4 to 9 answers to a prompt; ties dropped |
# | Zephyr 7B ([Tunstall et al. 2023](https://arxiv.org/abs/2310.16944)) | DPO | 0.1 | 5e-7 | 1 to 3 | the best-scored of four answers against another; none is the policy's own |
# | Llama 3 ([Grattafiori et al. 2024](https://arxiv.org/abs/2407.21783)) | DPO with 0.2 times the SFT loss of the chosen; format tokens masked | 0.1 | 1e-5 | not given | people; answers of the best models of earlier rounds; six rounds |
# | Tülu 3 8B ([Lambert et al. 2024](https://arxiv.org/abs/2411.15124)) | DPO, log-ratios divided by length | 5 | 5e-7 | 1 | four of 22 models a prompt, rated by GPT-4o; some of the policy's own |
# | Olmo 3 7B Think ([Team Olmo et al. 2025](https://arxiv.org/abs/2512.13961)) | the same | 5 | 8e-8 | 1 | Qwen3 32B against Qwen3 0.6B |
# | SmolLM3 3B ([Bakouch et al. 2025](https://huggingface.co/blog/smollm3)) | APO, a relative of DPO | 0.05 | 1e-6 | 1 | Tülu 3's mixture; Qwen3 32B against Qwen3 0.6B |
#
# Four things to take from it.
#
# **$\beta$ means nothing alone.** 5 on a mean over tokens is not 5 on a sum ([chapter 8](08_tensors.ipynb)), and where this table has it on sums, 0.05 to 0.1, the learning rates go from 5e-7 to 1e-5.
#
# **Most train for one epoch,** and it matters: in Tülu 3's search the same loss gave 57.3 after one epoch and 53.4 after three; the model before DPO had 55.7, and eight of the eleven settings in that table (their table 18) ended below it. Olmo 3 reports that early stopping is important, and chooses the amount of training on a development set, not by the loss.
#
# **The SFT term has a theory.** [Liu et al. 2024](https://arxiv.org/abs/2405.16436) derive it by asking for the best policy under a reward that an adversary chooses. Others move the reference slowly along with the policy (TR-DPO, [Gorbatovski et al. 2024](https://arxiv.org/abs/2404.09656)).
#
# **“Run imitation first” is a rule with exceptions.** Our winners are the base model's own answers, and copying them raised $J$. Olmo 3's chosen answers came from another model: fine-tuning on them took the average score from 70.3 to 64.5, and DPO on the same pairs brought it to 72.9 (their table 21). A likely reading: what the two answers differ in was worth learning, and what they had in common was not.

# %% [markdown] lang="zh"
# ## 真实的配方
# 公开的模型是怎么选的？下表每一个数，都出自所引的报告，或者作者自己的配置文件。
#
# | 模型 | 方法 | $\beta$ | 学习率 | 轮数 | 偏好对从哪里来 |
# |---|---|---|---|---|---|
# | InstructGPT（[Ouyang et al. 2022](https://arxiv.org/abs/2203.02155)） | 奖励模型，再 PPO | 0.02，写在奖励里 | 奖励模型：9e-6 | 奖励模型：1 | 人给一个提示的 4 到 9 个回答排序；平局丢弃 |
# | Zephyr 7B（[Tunstall et al. 2023](https://arxiv.org/abs/2310.16944)） | DPO | 0.1 | 5e-7 | 1 到 3 | 四个回答里得分最高的对另一个；没有一个是策略自己的 |
# | Llama 3（[Grattafiori et al. 2024](https://arxiv.org/abs/2407.21783)） | DPO，加 0.2 倍的 chosen 的 SFT 损失；遮掉格式词元 | 0.1 | 1e-5 | 没有说 | 人评；回答出自前几轮最好的模型；共六轮 |
# | Tülu 3 8B（[Lambert et al. 2024](https://arxiv.org/abs/2411.15124)） | DPO，对数比除以长度 | 5 | 5e-7 | 1 | 每个提示取 22 个模型里的四个，GPT-4o 打分；有一些是策略自己的 |
# | Olmo 3 7B Think（[Team Olmo et al. 2025](https://arxiv.org/abs/2512.13961)） | 同上 | 5 | 8e-8 | 1 | Qwen3 32B 对 Qwen3 0.6B |
# | SmolLM3 3B（[Bakouch et al. 2025](https://huggingface.co/blog/smollm3)） | APO，DPO 的近亲 | 0.05 | 1e-6 | 1 | Tülu 3 的混合数据；Qwen3 32B 对 Qwen3 0.6B |
#
# 有四点值得记下。
#
# **单看 $\beta$ 没有意义。** 对词元取平均时的 5，不是求和时的 5（[第 8 章](08_tensors.ipynb)）；表里求和的几家，$\beta$ 在 0.05 到 0.1 之间，学习率却从 5e-7 到 1e-5。
#
# **多数只训练一轮**，而且差别不小：Tülu 3 的搜索里，同一个损失，一轮之后得 57.3，三轮之后得 53.4；做 DPO 之前的模型是 55.7，那张表（他们的表 18）里的十一个设置，有八个还不如它。Olmo 3 说早停很要紧；训练多少，他们按开发集来定，不看损失。
#
# **SFT 项有理论。** [Liu et al. 2024](https://arxiv.org/abs/2405.16436) 从这样一问推出它来：奖励若由对手来挑，什么策略最好？另有一法，是让参考策略慢慢跟着策略走（TR-DPO，[Gorbatovski et al. 2024](https://arxiv.org/abs/2404.09656)）。
#
# **「先跑模仿」这条规矩有例外。** 我们的赢家是基座模型自己的回答，照着学，$J$ 就升了。Olmo 3 的 chosen 出自别的模型：照着微调，平均分从 70.3 掉到 64.5；同样的偏好对拿来做 DPO，升到 72.9（他们的表 21）。一种说得通的解释：两个回答的差别值得学，相同的地方却不值得。

# %% [markdown] lang="en"
# ## ⋆ The classic setting, told honestly
# This book grew out of a small project, *Simple_RLHF_DPO*, whose task is harder than ours: numbers with two decimals up to 100 in size, four operators. Its preference pairs are cheap to make. Chosen: a right expression of *three* numbers, while the base model has only seen two. Rejected: the empty answer, `E` and nothing else. Such pairs ask: *write something*. Only `E` is pushed down; any expression may take its place, for no wrong one is ever rejected. And the base model does not write `E` alone anyway, so nothing that a reader sees has to change for the margin to grow.
#
# We ran it once: a base model trained on all tokens, as in the project, a right mask, its learning rate of 1e-4, and the two $\beta$ of its history, 1.0 and 0.1.

# %% [markdown] lang="zh"
# ## ⋆ 经典设置，照实说
# 这本书由一个小项目 *Simple_RLHF_DPO* 长成。它的任务比我们的难：绝对值不超过 100 的两位小数，四种运算。它的偏好对做起来很省事。chosen：一个正确的算式，写*三个数*，而基座模型只见过写两个数的。rejected：空回答，只有一个 `E`。这样的偏好对，要的是*写点什么*。被压下去的只有 `E` 这一个回答，腾出的位置，随便哪个算式都能占，对的错的都行，因为从没有哪个错的算式被当作 rejected。何况基座模型本来就不写空回答：间隔要变大，读者看得见的东西一样也不用变。
#
# 我们跑了一次：基座模型照原项目那样在全部词元上训练，掩码用对的，学习率用它的 1e-4，$\beta$ 取它历史上用过的两个值：1.0 和 0.1。

# %%
classic = json.loads(Path("data/classic.json").read_text(encoding="utf-8"))["runs"]
print("beta  mask   steps  well_formed  style  exact  logps/chosen  logps/rejected")
for run in classic:
    print(f"{run['beta'] or '-':>4}  {run['mask'] or '-':5} {run['steps']:6} {run['well_formed']['value']:12.2f}"
          f" {run['style']['value']:6.2f} {run['exact']['value']:6.2f}"
          f" {run['logps/chosen']:13.1f} {run['logps/rejected']:15.1f}")  # fmt: skip

runs = {(run["beta"], run["mask"], run["steps"]): run for run in classic}
start, mild, strong = runs[None, None, 0], runs[1.0, "right", 300], runs[0.1, "right", 300]
wrong = runs[1.0, "wrong", 300]
margin = mild["logps/chosen"] - start["logps/chosen"] - (mild["logps/rejected"] - start["logps/rejected"])
share = {name: [round(run[name]["value"], 2) for run in (start, mild, strong, wrong)] for name in ("well_formed", "style")}
assert share == {"well_formed": [0.99, 0.99, 0.95, 0.99], "style": [0.00, 0.08, 0.86, 0.08]}
assert round(margin, 1) == 15.5 and 1 / (1 + math.exp(margin)) < 1e-6
assert start["logps/rejected"] < -10  # the base model does not write the empty answer
assert round(start["exact"]["value"], 3) == 0.019 and round(strong["exact"]["value"], 3) == 0.001

# %% [markdown] lang="en"
# With $\beta=1.0$, after 300 steps, the mean margin is 15.5, where the pull $\sigma(-h)$ is below one in a million: training has in effect ended. Yet only 0.08 of the answers have three numbers: the chosen ones started so low that many nats of gain leave them rare. With $\beta=0.1$ the same margin needs ten times the log-ratio, so the pull lasts. After 300 steps 0.86 of the answers have three numbers, 0.95 are well formed, and the share of right values, 0.019 before, is 0.001.

# %% [markdown] lang="zh"
# $\beta=1.0$ 时，300 步后平均间隔是 15.5，拉力 $\sigma(-h)$ 不到百万分之一，训练实际上已经停了。可是只有 0.08 的回答写三个数：chosen 起点太低，涨了许多奈特，仍然罕见。$\beta=0.1$ 时，同样的间隔要十倍的对数比，拉力就一直在。300 步后，0.86 的回答写三个数，0.95 格式正确，答案正确的却从 0.019 掉到 0.001。

# %% [markdown] lang="en"
# ### A mask that forgets the padding
# The rows marked *wrong* come from a bug in the project's later script. It pads on the left, but masks the prompt by its length, counted from the left edge, where the padding is. Of a prompt of $n$ tokens, in a row of $L$ tokens and a rectangle of width $W$, the number that stays in the loss is
#
# $$\min(n,\;W-L).$$
#
# Here are three rows of a batch of 64, in a rectangle of 30. Of the first, 23 tokens long, all 7 prompt tokens are counted; of the second, 27 long, the last 3 of 8. The third, 9 long, is the rejected row of the second: its whole prompt is counted.

# %% [markdown] lang="zh"
# ### 忘了填充的掩码
# 标着 wrong 的几行，出自原项目后来那份脚本里的一个错误。它在左边填充；遮提示时却从左边缘数起，数够提示的长度就停，可左边缘那里是填充。提示 $n$ 个词元，整行 $L$ 个，矩形宽 $W$，留在损失里的提示词元数是
#
# $$\min(n,\;W-L)$$
#
# 下面是一个 64 行的批次里的三行，矩形宽 30。第一行 23 个词元，提示的 7 个全算进了损失。第二行 27 个词元，提示占 8 个，算进末尾 3 个。第三行是第二行的 rejected，9 个词元，整个提示都算了进去。

# %% alt_en="Three rows of characters aligned at the right edge of a grid of 30 columns. Green cells: the answer, rightly counted. Orange cells: prompt tokens that are counted by mistake. Grey cells: prompt tokens left out. The first row's prompt is all orange; the second row's has five grey and three orange cells; the third row's is all orange." alt_zh="30 列的方格里有三行字符，右端对齐。绿格：回答，理应计入。橙格：误被计入的提示词元。灰格：遮掉的提示词元。第一行的提示全是橙色；第二行的提示五格灰、三格橙；第三行的提示全是橙色。"
tokenizer = CharTokenizer()
prompts, answers = ClassicTask().demonstrations(64, stream("chapter 9", 8), numbers=3)
W = max(len(p) + len(a) for p, a in zip(prompts, answers))
rows = [(prompts[56], answers[56]), (prompts[10], answers[10]), (prompts[10], "E")]
fig, axes = figure(width=8.4, height=1.5)
counted = []
for i, (prompt, answer) in enumerate(rows):
    n, L = len(prompt), len(prompt + answer)
    ids, real = tokenizer.pad([tokenizer.encode("P" * W), tokenizer.encode(prompt + answer)], side="left")
    label_mask = real[1] & (torch.arange(W) >= n)  # the script: [:n] is masked, then the padding
    counted.append(int(label_mask[W - L : W - L + n].sum()))
    for j, letter in enumerate(tokenizer.decode(ids[1])):
        kind = "chosen" if j >= W - L + n else "rejected" if label_mask[j] else "ref"
        color = COLORS[kind] if real[1, j] else "none"
        axes.add_patch(Rectangle((j, i), 1, 1, facecolor=color, edgecolor=INK, linewidth=0.5))
        if real[1, j]:
            axes.text(j + 0.5, i + 0.5, letter, ha="center", va="center", color="white", family="monospace", fontsize=9)
    assert counted[-1] == min(n, W - L)
axes.set(xlim=(0, W), ylim=(3, 0), aspect="equal", yticks=[], xticks=[0.5, 9.5, 19.5, 29.5], xticklabels=[0, 9, 19, 29])
axes.grid(False)
assert W == 30 and [len(p + a) for p, a in rows] == [23, 27, 9] and [len(p) for p, _ in rows] == [7, 8, 8]
assert counted == [7, 3, 8]

# %% [markdown] lang="en"
# **Figure 9.7.** What the script counts. Green: the answer. Orange: prompt tokens counted by mistake. Grey: prompt tokens masked as they should be.

# %% [markdown] lang="zh"
# **图 9.7** 脚本把哪些词元计入损失。绿：回答。橙：误被计入的提示词元。灰：照理遮掉的提示词元。

# %% [markdown] lang="en"
# With a right mask the prompt cannot matter: both answers share it, and it cancels in $h$. In the second and third row, one pair, it does not: the rejected row counts 8 of its tokens and the chosen row 3. Five remain with a minus sign: the loss falls when the prompts become improbable. Nothing crashes, and in our run nothing shows: 0.99 well formed and 0.08 with three numbers after 300 steps, as with the right mask. Counting gives it away: the marked tokens of a row must be the tokens of its answer.
#
# ### Two more lines
# [Chapter 8](08_tensors.ipynb) keeps a museum of such bugs; two more come from this project. The script takes `log(sigmoid(x))`. In float32, $\sigma(x)$ is rounded to 0 below about -88.7, and the logarithm of that is $-\infty$, with a gradient that is no number. `logsigmoid` computes the same function without the detour.

# %% [markdown] lang="zh"
# 掩码要是对的，提示就无关紧要：两个回答共用一个提示，在 $h$ 里抵消了。第二、三行是一对，就抵消不掉：rejected 那行计入 8 个，chosen 那行计入 3 个，剩下五个带着负号留在 $h$ 里；模型只要压低提示的概率，损失就降。程序照跑不误，我们这次训练也看不出什么：300 步后格式正确的 0.99，三个数 0.08，同掩码正确时一样。数一数才会露馅：一行里标出的词元，必须正好是回答的词元。
#
# ### 还有两行
# [第 8 章](08_tensors.ipynb)为这类错误开了一座博物馆；这个项目里还有两件。脚本里写的是 `log(sigmoid(x))`。float32 下，$x$ 低于约 -88.7 时，$\sigma(x)$ 舍入成 0，取对数得 $-\infty$，梯度成了 nan（不是数）。`logsigmoid` 算的是同一个函数，不绕这个弯。

# %%
x = torch.tensor([-50.0, -88.0, -89.0, -200.0], requires_grad=True)
naive = torch.log(torch.sigmoid(x))
print(naive.tolist(), logsigmoid(x).tolist(), sep="\n")
assert naive[:2].isfinite().all() and (naive[2:] == -math.inf).all()
assert torch.equal(logsigmoid(x)[1:], x[1:])  # exact: log(sigmoid(x)) is x to the last digit here
assert torch.autograd.grad(naive.sum(), x)[0][2:].isnan().all()
assert torch.equal(torch.autograd.grad(logsigmoid(x).sum(), x)[0], torch.ones(4))

# %% [markdown] lang="en"
# The project's first notebook, of 2023, masks correctly and has a stranger line. With $m$ the difference of the two log-ratios, it minimises $\log\sigma(-0.1\,m)$ (a tiny number added before the logarithm), where DPO minimises $-\log\sigma(0.1\,m)$. Both push $m$ up. But look at how hard, the weight $-\partial\ell/\partial m$:
#
# $$\text{DPO: } 0.1\,\sigma(-0.1\,m)\qquad\text{notebook: } 0.1\,\sigma(0.1\,m).$$
#
# DPO lets go of a pair once it is won. The notebook pulls hardest at pairs already won: no margin is enough.

# %% [markdown] lang="zh"
# 项目最早的笔记本（2023 年）掩码是对的，却有更怪的一行。设 $m$ 是两个对数比的差，它最小化的是 $\log\sigma(-0.1\,m)$（取对数前加了一个极小的数），而 DPO 最小化的是 $-\log\sigma(0.1\,m)$。两者都把 $m$ 往上推，可是看看推的力气，即权重 $-\partial\ell/\partial m$：
#
# $$\text{DPO: } 0.1\,\sigma(-0.1\,m)\qquad\text{notebook: } 0.1\,\sigma(0.1\,m)$$
#
# 一对赢了，DPO 就松手。笔记本却对已经赢了的用力最大，所以多大的间隔它都嫌不够。

# %% alt_en="Gradient weight against the margin m from -60 to 200. The DPO curve falls from 0.1 to 0 and crosses 0.05 at m = 0. The notebook's curve is its mirror image up to m = 120: it rises from 0 to 0.1; beyond that it drops to 0 near m = 200." alt_zh="梯度权重随间隔 m 的变化，m 从 -60 到 200。DPO 的曲线从 0.1 降到 0，在 m = 0 处经过 0.05。笔记本的曲线在 m = 120 以前是它的镜像，从 0 升到 0.1；再往后，在 m = 200 附近掉到 0。"
m = torch.linspace(-60, 240, 301, dtype=torch.float64, requires_grad=True)
weight = {
    "chosen": -torch.autograd.grad((-logsigmoid(0.1 * m)).sum(), m)[0],
    "rejected": -torch.autograd.grad((torch.sigmoid(-0.1 * m) + 1e-8).log().sum(), m)[0],
}
fig, axes = figure(width=6.4, height=2.8)
for color, formula in (("chosen", r"$-\log\sigma(0.1\,m)$"), ("rejected", r"$\log(\sigma(-0.1\,m)+10^{-8})$")):
    axes.plot(m.detach(), weight[color], color=COLORS[color], label=formula)
axes.set(xlabel="$m$", ylabel=r"$-\partial\ell/\partial m$")
axes.legend()
at = {int(value): i for i, value in enumerate(m.tolist())}
assert abs(weight["chosen"][at[0]] - 0.05) < 1e-6 and abs(weight["rejected"][at[0]] - 0.05) < 1e-6
assert weight["chosen"][at[100]] < 1e-5 and weight["rejected"][at[100]] > 0.099

# %% [markdown] lang="en"
# **Figure 9.8.** The pull on a pair against its margin $m$, in nats. Green: DPO. Orange: the notebook, whose pull grows until the tiny added number ends it.

# %% [markdown] lang="zh"
# **图 9.8** 对一个偏好对的拉力，随间隔 $m$（奈特）的变化。绿：DPO。橙：笔记本，拉力一直涨，直到那个加上去的极小数把它截断。

# %% [markdown] lang="en"
# ## From the command line
# What this chapter did in cells is one command; it made the shipped model:
#
# ```text
# dpo-core train-dpo --model gen --output dpo.model
# dpo-core train-dpo --model gen --output dpo.model --resume
# dpo-core evaluate dpo.model --n 2000 --json
# ```
#
# It writes a model folder, `dpo.model`, that opens in Hugging Face transformers, with the metrics in it, a line for every 10 steps; and beside it the pairs, one to a line, in the columns that TRL reads (`prompt`, `chosen`, `rejected`) and three of ours. The name of the pairs' file holds two hashes: of the settings that made them, so that a run with another $\beta$ finds them again, and of their content, so that a file that was cut or edited is noticed. A killed run leaves its state in `dpo.model.partial`; `--resume` goes on from there and ends in the same bits. Eight steps, in a folder of their own:

# %% [markdown] lang="zh"
# ## 命令行
# 本章一格一格做的事，用一条命令就能做。随书的模型就是这么来的：
#
# ```text
# dpo-core train-dpo --model gen --output dpo.model
# dpo-core train-dpo --model gen --output dpo.model --resume
# dpo-core evaluate dpo.model --n 2000 --json
# ```
#
# 它会写出：模型文件夹 `dpo.model`，Hugging Face transformers 打得开，训练指标也在里面，每 10 步一行；文件夹旁边是偏好对，每行一对，列名是 TRL 认的（`prompt`、`chosen`、`rejected`），另加我们的三列。偏好对的文件名里有两段哈希：一段由生成它们的设置算出，换个 $\beta$ 再跑时能找到现成的；一段由内容算出，文件缺了一截、被人改过，一看便知。中途断了，状态留在 `dpo.model.partial` 里；加 `--resume` 就接着跑，最后得到的每个比特都一样。下面在一个临时文件夹里跑八步：

# %%
import contextlib
import io
import tempfile

from dpo_core.commands.parser import main

with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        for command in ("train-dpo --model gen --pairs 512 --steps 8 --output dpo.model", "evaluate dpo.model --n 200 --json"):
            assert main([*command.split(), "--device", "cpu"]) == 0
    pairs_file = next(Path().glob("dpo.model.pairs-*-*.jsonl"))
    columns = list(json.loads(pairs_file.read_text().splitlines()[0]))
    written = sorted({"dpo.model.pairs-HASH-HASH.jsonl" if path == pairs_file else path.as_posix()
                      for path in Path().rglob("*.json*")})  # fmt: skip
    print(*shown.getvalue().splitlines()[:-1], *written, columns, sep="\n")
    report = json.loads(shown.getvalue().splitlines()[-1])
    print(list(report), list(report["exact"]))
assert {"dpo.model/metrics.jsonl", "dpo.model/recipe.json", "dpo.model.pairs-HASH-HASH.jsonl"} < set(written)
assert columns[:3] == ["prompt", "chosen", "rejected"] and {"exact", "style", "kl", "predicted"} <= set(report)

# %% [markdown] lang="en"
# > **What the toy hides.** Nobody knows the rewards of real answers. People compare them, disagree, and tire; with no checker and no predicted optimum, the gap of this chapter cannot be seen, nor can anybody add up what all authors would write. Answers run to hundreds of tokens, and a small change per token is a large one per answer; raters and DPO both drift towards long answers ([Park et al. 2024](https://arxiv.org/abs/2403.19159)). The pairs often come from other models, and then most of what the policy itself would write was never compared ([chapter 10](10_data.ipynb)). A 7B model needs two copies or stored log-probabilities, learning rates hundreds of times smaller than ours, and a held-out evaluation by something better than the training loss.

# %% [markdown] lang="zh"
# > **玩具没告诉你的。** 真实的回答，奖励是多少没人知道。人只会比较，意见不一，还会累；没有判分程序，也没有预言的最优解，所以本章的差距就看不见了；作者会写的文本，也没有人加得完。回答有几百个词元，每个词元动一点，整个回答就动很多；评分的人和 DPO 都会滑向长回答（[Park et al. 2024](https://arxiv.org/abs/2403.19159)）。偏好对常常来自别的模型，策略自己会写的东西，多半从来没人比较过（[第 10 章](10_data.ipynb)）。7B 的模型要放两份，或者存好对数概率；学习率要比我们的小上百倍；还要在留出的数据上评估，用比训练损失更可靠的办法。

# %% [markdown] lang="en"
# > **To remember.** DPO starts at $\ln 2$, moves probability by comparing two answers, and is told nothing about answers that no pair contains. Check the start. Know the floor. Judge by the objective, $J$, and beside imitation of the winners on the same file: a policy can gain reward and lose $J$. A falling `logps/chosen` can be right; a perfect accuracy can be wrong. Where labels are deterministic, give the margin an end, or hold the chosen answers up. Watch the KL; sample and look.

# %% [markdown] lang="zh"
# > **记住。** DPO 从 $\ln 2$ 出发，靠两两比较搬动概率；哪一对里都没有的回答，没有东西管着。起点要查，下界要知道。用目标 $J$ 来评判，旁边放上同一份文件里照着赢家学的结果：奖励可以升，$J$ 却降。`logps/chosen` 下降可能是对的，准确率完美可能是错的。标签若是确定性的，要让间隔有个尽头，或者托住 chosen。盯住 KL，采样出来看。

# %% [markdown] lang="en"
# ## Exercises

# %% [markdown] lang="zh"
# ## 练习

# %% [markdown] lang="en"
# ### Exercise 9.1 · The optimum by hand
# ★☆☆ · 5 minutes
#
# For some prompt the base model writes three numbers in 30 % of its answers. The reward is 1 for three numbers and 0 otherwise, and $\beta=0.5$. What share of three-number answers has the optimal policy?
#
# <details><summary>Hint</summary>
#
# Line 4, with two classes of answers in place of three answers. $e^2$ is 7.389.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 9.1 · 手算最优解
# ★☆☆ · 5 分钟
#
# 对某个提示，基座模型的回答有 30% 写三个数。写三个数奖励 1，否则奖励 0，$\beta=0.5$。最优策略写三个数的比例是多少？
#
# <details><summary>提示</summary>
#
# 用第 4 行，把三个回答换成两类回答。$e^2$ 是 7.389。
#
# </details>

# %% tags=["exercise"]
answer_9_1 = ...  # a number between 0 and 1
check("9.1", answer_9_1)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# The products are $0.3\cdot e^{2}=2.217$ and $0.7\cdot 1=0.7$, their sum is 2.917, and the share is 2.217 / 2.917 = 0.76.
#
# ```python
# answer_9_1 = 0.3 * math.exp(1 / 0.5) / (0.3 * math.exp(1 / 0.5) + 0.7)
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 乘出来是 $0.3\cdot e^{2}=2.217$ 和 $0.7\cdot 1=0.7$，和是 2.917，比例是 2.217 / 2.917 = 0.76。
#
# ```python
# answer_9_1 = 0.3 * math.exp(1 / 0.5) / (0.3 * math.exp(1 / 0.5) + 0.7)
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 9.2 · Which chosen answers lose?
# ★★☆ · 10 minutes
#
# Back to the three answers of the first section: reference 0.5, 0.3, 0.2, rewards 1, 0, -1, $\beta=0.5$. In the pair (second answer, third answer) the second is chosen. By how many nats does its log-probability change from the reference to the optimum? Give a signed number.
#
# <details><summary>Hint</summary>
#
# The log-ratio at the optimum is $(r-V)/\beta$ with $V=\beta\log Z$, and $Z=4.022$.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 9.2 · 哪些 chosen 会降
# ★★☆ · 10 分钟
#
# 回到第一节的三个回答：参考概率 0.5、0.3、0.2，奖励 1、0、-1，$\beta=0.5$。在（第二个回答，第三个回答）这一对里，第二个是 chosen。从参考策略到最优解，它的对数概率变化多少奈特？写一个带符号的数。
#
# <details><summary>提示</summary>
#
# 在最优解处，对数比等于 $(r-V)/\beta$，其中 $V=\beta\log Z$，$Z=4.022$。
#
# </details>

# %% tags=["exercise"]
answer_9_2 = ...  # a number of nats, with its sign
check("9.2", answer_9_2)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# Its reward is 0, so the change is $-\log Z=-\log 4.022=-1.39$. It wins its pair and becomes four times rarer: the probability goes to the first answer, which is not in the pair.
#
# ```python
# answer_9_2 = math.log(0.07459727 / 0.3)
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 它的奖励是 0，所以变化是 $-\log Z=-\log 4.022=-1.39$。这一对里它赢了，概率却降到四分之一：概率去了第一个回答，而第一个回答不在这一对里。
#
# ```python
# answer_9_2 = math.log(0.07459727 / 0.3)
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 9.3 · How far is the floor?
# ★★☆ · 10 minutes
#
# A training stands at a loss of 0.66, and somebody asks how much is left to learn. Write `label_floor(q)`: from a tensor of labels, shape `(B,)`, the lowest mean DPO loss that any policy can reach. Hard labels may be among them.
#
# <details><summary>Hint</summary>
#
# At the best margin $\sigma(h)=q$. Put that into line 8, and mind $0\cdot\log 0$, which counts as 0: `torch.xlogy`.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 9.3 · 离下界还有多远
# ★★☆ · 10 分钟
#
# 一次训练，损失停在 0.66，有人问还有多少可学。写一个 `label_floor(q)`：输入是标签张量，形状 `(B,)`；返回平均 DPO 损失的下界，即任何策略最低能降到多少。标签里可能混着硬标签。
#
# <details><summary>提示</summary>
#
# 间隔最好时 $\sigma(h)=q$，代入第 8 行。当心 $0\cdot\log 0$，它算 0：用 `torch.xlogy`。
#
# </details>

# %% tags=["exercise"]
def label_floor(q):
    ...


check("9.3", label_floor)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# The mean entropy of the labels. `floor` in this chapter is its value for our pairs.
#
# ```python
# def label_floor(q):
#     return -(torch.xlogy(q, q) + torch.xlogy(1 - q, 1 - q)).mean()
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 就是标签的平均熵。本章的 `floor` 是它在我们这些偏好对上的值。
#
# ```python
# def label_floor(q):
#     return -(torch.xlogy(q, q) + torch.xlogy(1 - q, 1 - q)).mean()
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 9.4 · From soft to sampled labels
# ★★★ · 25 minutes
#
# Write `sampled(data, seed)`: from `Pairs` with soft labels, make `Pairs` in which each comparison has been made once. With probability `preference_prob` the chosen answer stays chosen; otherwise the two answers change places, with everything that belongs to them. All labels become 1.0. Then train on the result as above, and compare with the soft run: the same prediction, more noise.
#
# <details><summary>Hint</summary>
#
# A pair has four columns that come in twos. `Pairs` takes its six columns in the order of its fields: `prompt`, `chosen`, `rejected`, `preference_prob`, `ref_chosen_logps`, `ref_rejected_logps`. Use `np.random.default_rng(seed)`.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 9.4 · 从软标签到采样标签
# ★★★ · 25 分钟
#
# 写一个 `sampled(data, seed)`：由软标签的 `Pairs` 做出一份新的 `Pairs`，其中每一对都当真比过一次。chosen 以 `preference_prob` 的概率保持不变；否则两个偏好对调，属于它们的东西也一起对调。标签全部变成 1.0。然后照前面那样训练，同软标签那次比一比：预言相同，噪声更大。
#
# <details><summary>提示</summary>
#
# 每一对有四列是成双的。`Pairs` 的六列依次是 `prompt`、`chosen`、`rejected`、`preference_prob`、`ref_chosen_logps`、`ref_rejected_logps`。用 `np.random.default_rng(seed)`。
#
# </details>

# %% tags=["exercise"]
def sampled(data, seed):
    ...


check("9.4", sampled)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# ```python
# def sampled(data, seed):
#     rng = np.random.default_rng(seed)
#     columns = [[], [], [], [], [], []]
#     for i, probability in enumerate(data.preference_prob):
#         answers = [data.chosen[i], data.rejected[i]]
#         logps = [data.ref_chosen_logps[i], data.ref_rejected_logps[i]]
#         if rng.random() >= probability:
#             answers, logps = answers[::-1], logps[::-1]
#         for column, value in zip(columns, (data.prompt[i], *answers, 1.0, *logps)):
#             column.append(value)
#     return Pairs(*columns)
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# ```python
# def sampled(data, seed):
#     rng = np.random.default_rng(seed)
#     columns = [[], [], [], [], [], []]
#     for i, probability in enumerate(data.preference_prob):
#         answers = [data.chosen[i], data.rejected[i]]
#         logps = [data.ref_chosen_logps[i], data.ref_rejected_logps[i]]
#         if rng.random() >= probability:
#             answers, logps = answers[::-1], logps[::-1]
#         for column, value in zip(columns, (data.prompt[i], *answers, 1.0, *logps)):
#             column.append(value)
#     return Pairs(*columns)
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 9.5 · Who gains?
# ★★☆ · 10 minutes
#
# Three answers share one parameter $\theta$, as in “Three causes”. Chosen: probability 0.4, $\phi=1$. Rejected: 0.2, $\phi=0$. A third: 0.4, $\phi=2$. Before you compute: who gains, who loses? Then give the derivatives of the three log-probabilities with respect to $\theta$ at $\theta=0$, in the order chosen, rejected, third.
#
# <details><summary>Hint</summary>
#
# $\log\pi(y)=\log\pi_{\mathrm{ref}}(y)+\phi_y\theta-\log\sum_k\pi_{\mathrm{ref}}(k)\,e^{\phi_k\theta}$. The derivative of the last term at 0 is the mean of $\phi$.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 9.5 · 谁会得利
# ★★☆ · 10 分钟
#
# 三个回答共用一个参数 $\theta$，同「三个原因」里一样。chosen：概率 0.4，$\phi=1$。rejected：0.2，$\phi=0$。第三个：0.4，$\phi=2$。动笔之前先猜：谁升，谁降？再求三个对数概率在 $\theta=0$ 处对 $\theta$ 的导数，按 chosen、rejected、第三个的顺序写。
#
# <details><summary>提示</summary>
#
# $\log\pi(y)=\log\pi_{\mathrm{ref}}(y)+\phi_y\theta-\log\sum_k\pi_{\mathrm{ref}}(k)\,e^{\phi_k\theta}$。最后一项在 0 处的导数，就是 $\phi$ 的平均。
#
# </details>

# %% tags=["exercise"]
answer_9_5 = ...  # (chosen, rejected, third)
check("9.5", answer_9_5)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# The mean of $\phi$ is $0.4\cdot 1+0.2\cdot 0+0.4\cdot 2=1.2$. Each derivative is $\phi$ minus that: the chosen answer loses, and the third gains although nobody compared it.
#
# ```python
# mean_feature = 0.4 * 1 + 0.2 * 0 + 0.4 * 2
# answer_9_5 = (1 - mean_feature, 0 - mean_feature, 2 - mean_feature)
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# $\phi$ 的平均是 $0.4\cdot 1+0.2\cdot 0+0.4\cdot 2=1.2$。每个导数都是自己的 $\phi$ 减去它：chosen 降，没人比较过的第三个反而升。
#
# ```python
# mean_feature = 0.4 * 1 + 0.2 * 0 + 0.4 * 2
# answer_9_5 = (1 - mean_feature, 0 - mean_feature, 2 - mean_feature)
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 9.6 · Entropy, and something that looks like it
# ★★☆ · 10 minutes
#
# The three answers of the first section once more: reference 0.5, 0.3, 0.2, optimum 0.91867231, 0.07459727, 0.00673043. What is the entropy of the optimum, in nats? And what would one get who drew answers from the optimum, but averaged $-\log\pi_{\mathrm{ref}}$ over them? The difference of the two has a name.
#
# <details><summary>Hint</summary>
#
# Both are means under the optimum, one of $-\log\pi^*$, the other of $-\log\pi_{\mathrm{ref}}$.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 9.6 · 熵，和一个像熵的东西
# ★★☆ · 10 分钟
#
# 还是第一节的三个回答：参考概率 0.5、0.3、0.2，最优解 0.91867231、0.07459727、0.00673043。最优解的熵是多少奈特？要是从最优解抽回答，却拿它们的 $-\log\pi_{\mathrm{ref}}$ 取平均，会得到多少？两者之差有个名字。
#
# <details><summary>提示</summary>
#
# 两个都是在最优解下取平均，一个平均 $-\log\pi^*$，一个平均 $-\log\pi_{\mathrm{ref}}$。
#
# </details>

# %% tags=["exercise"]
answer_9_6 = ...  # (entropy of the optimum, mean of -log ref over the optimum's answers)
check("9.6", answer_9_6)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# 0.305 and 0.737 nats. The second is a cross-entropy; it exceeds the first by 0.432, which is $\mathrm{KL}(\pi^*\,\|\,\pi_{\mathrm{ref}})$.
#
# ```python
# best_probs, ref_probs = (0.91867231, 0.07459727, 0.00673043), (0.5, 0.3, 0.2)
# answer_9_6 = (-sum(p * math.log(p) for p in best_probs),
#               -sum(p * math.log(q) for p, q in zip(best_probs, ref_probs)))
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 0.305 和 0.737 奈特。后一个是交叉熵；它比前一个多 0.432，这就是 $\mathrm{KL}(\pi^*\,\|\,\pi_{\mathrm{ref}})$。
#
# ```python
# best_probs, ref_probs = (0.91867231, 0.07459727, 0.00673043), (0.5, 0.3, 0.2)
# answer_9_6 = (-sum(p * math.log(p) for p in best_probs),
#               -sum(p * math.log(q) for p, q in zip(best_probs, ref_probs)))
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 9.7 · Design the fair baseline
# ★★☆ · 10 minutes
#
# A report says: “Our remedy for DPO with deterministic labels lifts the share of three-number answers from 0.30 to 0.80.” The reward is 1 for three numbers and 0 otherwise, every pair is two draws of the base model, which writes three numbers in 30 % of its answers to every prompt, the better answer is chosen, and ties are dropped. Which baseline is missing? What share does it end at on the very same file, and at what share would it end if ties had been kept?
#
# <details><summary>Hint</summary>
#
# Imitation of the chosen answers. An answer is chosen in proportion to $2p\,P(\text{worse})$ without the ties, to $2p\,P(\text{worse})+p\,P(\text{equal})$ with them.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 9.7 · 设计公平的基线
# ★★☆ · 10 分钟
#
# 有份报告说：「DPO 用确定性标签，加上我们的补救，写三个数的回答由 0.30 升到 0.80。」写三个数奖励 1，否则奖励 0；每一对都是基座模型的两次抽样，基座模型对每个提示都有 30% 的回答写三个数；好的那个是 chosen，平局丢掉。缺了哪个基线？它在同一份文件上，终点的比例是多少？要是平局留着，终点又是多少？
#
# <details><summary>提示</summary>
#
# 照着 chosen 学。丢掉平局，一个回答成为 chosen 的机会与 $2p\,P(\text{更差})$ 成正比；留着平局，与 $2p\,P(\text{更差})+p\,P(\text{同分})$ 成正比。
#
# </details>

# %% tags=["exercise"]
answer_9_7 = ...  # (share on the same file, share with the ties kept)
check("9.7", answer_9_7)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# Without ties every chosen answer has three numbers: imitation of the winners ends at a share of 1, above the remedy. With ties kept, two draws both have two numbers with probability $0.7^2=0.49$, and the share is 0.51. A share is not $J$, either: the report should give both for both.
#
# ```python
# answer_9_7 = (1.0, 1 - 0.7**2)
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 丢掉平局，chosen 个个写三个数：照着赢家学，终点的比例是 1，比那个补救高。留着平局，两次都写两个数的概率是 $0.7^2=0.49$，比例是 0.51。再说，比例不是 $J$：报告应当两样都给，两边都给。
#
# ```python
# answer_9_7 = (1.0, 1 - 0.7**2)
# ```
#
# </details>

# %% [markdown] lang="en"
# ## References
# - [Azar et al. 2024](https://arxiv.org/abs/2310.12036): why the leash slackens when preferences are deterministic; IPO.
# - [Bradley & Terry 1952](https://doi.org/10.2307/2334029): the model of paired comparisons.
# - [Liu et al. 2024](https://arxiv.org/abs/2405.16436): the SFT term against over-optimisation. [Gorbatovski et al. 2024](https://arxiv.org/abs/2404.09656): a reference that moves.
# - [Pal et al. 2024](https://arxiv.org/abs/2402.13228): the DPO loss allows the preferred answer to lose probability.
# - [Park et al. 2024](https://arxiv.org/abs/2403.19159): DPO and the length of answers.
# - [Rafailov et al. 2023](https://arxiv.org/abs/2305.18290): DPO. [Rafailov et al. 2024](https://arxiv.org/abs/2406.02900): over-optimisation in losses like DPO's.
# - [Razin et al. 2025](https://arxiv.org/abs/2410.08847): likelihood displacement.
# - Recipes: [Ouyang et al. 2022](https://arxiv.org/abs/2203.02155), [Tunstall et al. 2023](https://arxiv.org/abs/2310.16944), [Grattafiori et al. 2024](https://arxiv.org/abs/2407.21783), [Lambert et al. 2024](https://arxiv.org/abs/2411.15124), [Team Olmo et al. 2025](https://arxiv.org/abs/2512.13961), [Bakouch et al. 2025](https://huggingface.co/blog/smollm3).

# %% [markdown] lang="zh"
# ## 参考文献
# - [Azar et al. 2024](https://arxiv.org/abs/2310.12036)：偏好确定时，KL 的约束为什么会松；IPO。
# - [Bradley & Terry 1952](https://doi.org/10.2307/2334029)：两两比较的模型。
# - [Liu et al. 2024](https://arxiv.org/abs/2405.16436)：用 SFT 项防过度优化。[Gorbatovski et al. 2024](https://arxiv.org/abs/2404.09656)：会动的参考策略。
# - [Pal et al. 2024](https://arxiv.org/abs/2402.13228)：DPO 的损失允许被偏好的回答概率下降。
# - [Park et al. 2024](https://arxiv.org/abs/2403.19159)：DPO 与回答的长度。
# - [Rafailov et al. 2023](https://arxiv.org/abs/2305.18290)：DPO。[Rafailov et al. 2024](https://arxiv.org/abs/2406.02900)：DPO 这类损失的过度优化。
# - [Razin et al. 2025](https://arxiv.org/abs/2410.08847)：似然位移。
# - 配方：[Ouyang et al. 2022](https://arxiv.org/abs/2203.02155)、[Tunstall et al. 2023](https://arxiv.org/abs/2310.16944)、[Grattafiori et al. 2024](https://arxiv.org/abs/2407.21783)、[Lambert et al. 2024](https://arxiv.org/abs/2411.15124)、[Team Olmo et al. 2025](https://arxiv.org/abs/2512.13961)、[Bakouch et al. 2025](https://huggingface.co/blog/smollm3)。
