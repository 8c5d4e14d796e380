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
# > **In this chapter.** You will be able to run a DPO training, read its curves, hold the result against the policy that theory predicts, and recognise three ways in which it goes wrong. You need [chapter 3](03_sft.ipynb) and [chapter 4](04_sampling.ipynb); what chapters 5 to 8 derive stands here once more, in ten lines, so that the chapter can also be read by itself. 45 minutes to read, 90 seconds to run.

# %% [markdown] lang="zh"
# > **本章。** 读完后，你能跑完一次 DPO 训练，看懂它的曲线，拿结果同理论预言的策略对照，还能认出三种走偏的样子。需要读过[第 3 章](03_sft.ipynb)和[第 4 章](04_sampling.ipynb)；第 5 章到第 8 章推出的结论，这里用十行重述一遍，所以单读这一章也行。阅读 45 分钟，运行 90 秒。

# %%
import contextlib
import copy
import io
import json
import math
import tempfile
from dataclasses import fields
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from checks import check
from matplotlib.patches import Rectangle
from torch.nn.functional import logsigmoid

from dpo_core import BookTask, CharTokenizer, ClassicTask, cli, generate, judge, load_pretrained, sequence_logps, tabular
from dpo_core.evaluation import Estimate, class_problem, class_rewards, evaluate, predicted_optimum, predicted_shares
from dpo_core.pairs import Pairs, check_same_start, on_policy_pairs
from dpo_core.plotting import COLORS, INK, figure, points, use_style
from dpo_core.task import read_prompt, stream
from dpo_core.training import LoopConfig, default_device, dpo_step, sft_step, train

# %% [markdown] lang="en"
# ## Ten lines from chapters 5 to 8
# A language model is a **policy**: to a prompt $x$ it writes an answer $y$ with probability $\pi(y\mid x)$. The model that training starts from is the **reference policy**, $\pi_{\mathrm{ref}}$. Training wants answers that people prefer. The ten lines say what that means, and why a loss of one line is enough. Lines 1 and 2 are [chapter 5](05_preferences.ipynb), 3 and 4 [chapter 6](06_objective.ipynb), 5 to 9 [chapter 7](07_derivation.ipynb); line 10 is the first test of [chapter 8](08_tensors.ipynb).
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
# 语言模型是一个**策略**（policy）：看到提示 $x$，它以概率 $\pi(y\mid x)$ 写出回答 $y$。训练从哪个模型出发，哪个就是**参考策略**（reference policy），记作 $\pi_{\mathrm{ref}}$。训练的目的，是让回答更合人意。这话是什么意思，为什么一行损失就够，看下面十行。第 1、2 行出自[第 5 章](05_preferences.ipynb)，第 3、4 行出自[第 6 章](06_objective.ipynb)，第 5 到 9 行出自[第 7 章](07_derivation.ipynb)；第 10 行是[第 8 章](08_tensors.ipynb)的头一项检查。
#
# 1. **奖励**（reward）$r(x,y)$ 是一个数，说的是回答有多好。不必有人知道它是多少，有了它才好推理。
# 2. **Bradley–Terry 模型**把奖励变成偏好：两个回答里，$y_1$ 胜出的概率是 $\sigma(r_1-r_2)$，其中 $\sigma(z)=1/(1+e^{-z})$（[Bradley & Terry 1952](https://doi.org/10.2307/2334029)）。
# 3. 奖励要高，参考策略原有的本事又不能丢。于是给策略拴一根绳子：它相对参考策略的 KL 散度，松紧由 $\beta>0$ 定。对一个提示，目标是策略写出的回答的平均奖励，减去 $\beta$ 倍的 KL 散度：
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
# Now the network. The reference is the model that chapter 3 trained and [chapter 4](04_sampling.ipynb) measured: it writes three numbers in 30 % of its answers and hits the target in 75 %, as its authors do. We want to change that, and we choose what to want: one point of reward for three numbers, one for the right value. So $r$ is 0, 1 or 2, and a program can read it off any answer. With people in its place we would see their choices and not the numbers; here we see both, and that is what lets us check.
#
# For a pair, draw a prompt, let the reference answer it twice, and call the better answer *chosen*. The label is the Bradley–Terry probability itself, a **soft label**: 0.5 for a tie, 0.731 for a difference of 1, 0.881 for a difference of 2. We make 19,200 pairs. Beside each stands the log-probability of both answers under the reference, computed once, so that training needs only one model in memory.

# %% [markdown] lang="zh"
# ## 用模型自己的回答配对
# 轮到网络了。参考策略就是第 3 章训练、[第 4 章](04_sampling.ipynb)测过的那个模型：30% 的回答写三个数，75% 命中目标，与它的作者们一样。我们想改变它，要什么由我们定：写三个数得一分，值对得一分。于是 $r$ 是 0、1 或 2，随便拿个回答来，程序都能给分。换成真人评判，只看得到谁胜谁负，看不到分数；这里两样都有，所以才能对账。
#
# 配一对：抽一个提示，让参考策略答两次，好的那个叫 chosen。标签直接用 Bradley–Terry 概率，这叫**软标签**（soft label）：平局是 0.5，差 1 分是 0.731，差 2 分是 0.881。一共做 19,200 对。每一对旁边记下参考策略给两个回答的对数概率。只算一次，训练时内存里就只要放一个模型。

# %%
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
# **The policy is the reference.** Fresh log-probabilities must equal the stored ones. If they do not, then the pairs were scored by another model, another tokenizer or another mask, and every margin is off from the start. `check_same_start` names the first pair that differs; we nudge one weight to see it do so.

# %% [markdown] lang="zh"
# ## 第一步之前
# 三项检查只花一秒钟，DPO 代码里的许多毛病都能查出来。
#
# **策略就是参考策略。** 现算的对数概率必须等于存下的。不等，就说明打分时用的是别的模型、别的分词器或别的掩码，每个间隔从一开始就是歪的。`check_same_start` 会指出第一个对不上的回答对；我们故意碰一个权重，看它报不报。

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
# **The floor is known.** With hard labels the loss can go to 0. With soft labels it cannot: the best that a policy can do is $\sigma(h)=q$ on every pair, and then the loss is the mean entropy of the labels, about 0.614. So the whole training takes place between 0.693 and 0.614, and the curve will look flat to anyone who expects zero. The accuracy has a ceiling as well: a tie counts half, so `rewards/accuracies` cannot be expected above about 0.78.

# %% [markdown] lang="zh"
# **损失是 $\ln 2$。** 第 10 行保证：软标签也好，硬标签（hard label，$q=1$）也好，都是 0.693。
#
# **下界已知。** 硬标签的损失能降到 0，软标签不能：策略做得再好，也只是每一对都有 $\sigma(h)=q$，这时损失等于标签的平均熵，约 0.614。所以整个训练都发生在 0.693 与 0.614 之间；等着它降到零的人，会以为曲线没动。准确率也有上限：平局算半个，`rewards/accuracies` 不能指望超过 0.78 左右。

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
# DPO 的一步，要算的全在这里。chosen 与 rejected 拼在一起过一遍网络；`sequence_logps` 把回答各词元的对数概率加起来；剩下的就是第 8 行。

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
# The names are those of the TRL library, so the curves of a real run can be read beside these. Before looking at them, let us predict them. At the optimum the implicit reward of an answer is its true reward minus
#
# $$V(x)=\beta\log Z(x)=\beta\log\sum_y\pi_{\mathrm{ref}}(y\mid x)\,e^{r(x,y)/\beta}$$
#
# (line 5). The population's rates are known for every prompt, so $V$ is known for every prompt, and so is the value that each curve should reach.

# %% [markdown] lang="zh"
# 这些名字沿用 TRL 库的叫法，真实训练的曲线可以拿来对着看。看图之前，先预言。在最优解处，一个回答的隐式奖励，等于真实奖励减去
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
# **Figure 9.1.** A whole DPO training (solid) and what the closed form predicts (dashed). Loss and accuracy look modest because floor and ceiling are near. Every curve settles near its prediction, the falling one of the chosen answers included.

# %% [markdown] lang="zh"
# **图 9.1** 一次完整的 DPO 训练（实线）与闭式解的预言（虚线）。损失和准确率变化不大，因为下界和上限就在近旁。每条曲线都停在预言附近，连 chosen 往下掉的那条也是。

# %% [markdown] lang="en"
# ## The chosen answer loses probability
# Look at `logps/chosen` again: it falls. People who train with DPO ask about this again and again. The loss contains only the difference of two log-ratios $\log(\pi/\pi_{\mathrm{ref}})$; it can shrink while both fall, as long as the rejected one falls faster. The effect is called **likelihood displacement** ([Razin et al. 2025](https://arxiv.org/abs/2410.08847)): probability leaves both answers of the pair and goes elsewhere. [Pal et al. 2024](https://arxiv.org/abs/2402.13228) show that the loss allows it.
#
# Here we can say more: part of it is *wanted*. At the optimum an answer gains probability if its reward exceeds $V(x)$, and loses otherwise. $V$ is a soft maximum of the rewards within the base model's reach. On average it is about 1.6, because answers with both points are there to be had. A chosen answer with one point won its comparison, but it is below $V$: it must become rarer. About 60 % of the chosen answers are of this kind. Add up all of them, and the mean log-probability of the chosen answers must fall by about 1.1 nats. It does.
#
# So a falling `logps/chosen` alone is no alarm. The question is where the probability goes: to better answers, or to worse. No training curve shows that. One has to sample and look.

# %% [markdown] lang="zh"
# ## chosen 的概率也在降
# 再看 `logps/chosen`：它在降。用 DPO 训练的人，一次次问起的就是这件事。损失里只有两个对数比 $\log(\pi/\pi_{\mathrm{ref}})$ 的差；两个都降，只要 rejected 降得更快，损失照样变小。这叫**似然位移**（likelihood displacement，[Razin et al. 2025](https://arxiv.org/abs/2410.08847)）：概率离开了这一对里的两个回答，去了别处。[Pal et al. 2024](https://arxiv.org/abs/2402.13228) 说明了损失允许这样。
#
# 在这里还能多说一句：其中一部分正是*我们要的*。在最优解处，奖励高于 $V(x)$ 的回答概率上升，低于它的下降。$V$ 是基座模型够得着的奖励的「软最大值」，平均约 1.6，因为两分的回答够得着。一个只有一分的 chosen，虽说赢了对手，仍低于 $V$，理应变少。这样的 chosen 约占 60%。全部加起来，chosen 的平均对数概率应当下降约 1.1 奈特（nat）。实测正是如此。
#
# 所以单看 `logps/chosen` 下降，用不着慌。要问的是概率去了哪里：去了更好的回答，还是更差的？训练曲线不会说，只能采样出来看。

# %%
mean_V = np.mean([V_of[prompt] for prompt in data.prompt])
must_lose = (implied["chosen"] < 0).mean()
fall = predicted["logps/chosen"] - np.mean(data.ref_chosen_logps)
print(round(mean_V, 2), round(must_lose, 2), round(fall, 2))
assert abs(mean_V - 1.6) < 0.05 and abs(must_lose - 0.60) < 0.02 and abs(fall + 1.1) < 0.08
assert last["logps/chosen"] < np.mean(data.ref_chosen_logps) - 0.5  # measured: it falls

# %% [markdown] lang="en"
# ## Held against the prediction
# The curves are about the pairs. What we want to know is what the new policy writes. Averaging the closed form over the population's prompts predicts, for $\beta=0.25$: three numbers in 0.959 of the answers, the right value in 0.994, both in 0.953, and a KL divergence of 1.256 nats from the reference. Measured on 2,000 fresh prompts, with 95 % intervals:

# %% [markdown] lang="zh"
# ## 同预言对账
# 曲线说的都是那些回答对。我们想知道的，是新策略会写出什么。把闭式解对群体的提示取平均，$\beta=0.25$ 时的预言是：写三个数的占 0.959，值对的占 0.994，两样都对的占 0.953，与参考策略的 KL 散度是 1.256 奈特。再看 2,000 个新提示上的实测，附 95% 置信区间：

# %%
theory = predicted_optimum(task, "style+exact", beta)
print({name: round(value, 3) for name, value in theory.items()})
assert [round(theory[name], 3) for name in ("style", "exact", "both", "kl")] == [0.959, 0.994, 0.953, 1.256]

# %% tags=["nbval-ignore-output"]
def measure(model):
    return evaluate(model, task, n=2_000, seed=7, reference=base)


NAMES = ("style", "exact", "both", "kl")
measured = {"ref": measure(base), "dpo_live": measure(policy)}
for model, report in measured.items():
    print(f"{model:9}", "  ".join(f"{name} {report[name]}" for name in NAMES))
live = {name: measured["dpo_live"][name].value for name in NAMES}
assert abs(live["style"] - theory["style"]) < 0.05 and 0.8 < live["exact"] < theory["exact"] - 0.03
assert 0.75 < live["both"] < theory["both"] - 0.03 and live["kl"] > theory["kl"] + 0.2
assert measured["dpo_live"]["well_formed"].value > 0.99

# %% [markdown] lang="en"
# The style lands on the prediction. Exactness rises from 0.75 but stops short of 0.994, and the policy has moved further than the optimum needs: more KL, less reward. Where is the gap? We sort the wrong answers into two kinds. A *slip* is an answer that some author writes, a carry forgotten. Everything else is *new*: a wrong text that no author ever writes.

# %% [markdown] lang="zh"
# 风格正落在预言上。正确率从 0.75 升上来了，却没到 0.994；策略走得也比最优解需要的更远：KL 多花了，奖励反而少。差在哪里？把错的回答分成两类：*失误*，就是作者里有人会写的错，即忘了进位；其余都是*新错*，没有哪个作者会这样写。

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
# DPO has done what it was shown. The slips, a quarter of the base model's answers, are nearly gone. What came instead are new mistakes, most of them off by exactly ten in a way that no author slips. The base model makes them in fewer than 2 % of its answers, so the pairs hardly contain them, and a loss that only sees the pairs cannot push down what is not there. The leash is meant for that. But DPO enforces the leash through pairs too: where no pair looks, nothing holds. This is likelihood displacement of the harmful kind.

# %% [markdown] lang="zh"
# 给 DPO 看过的，它都做到了：占基座回答四分之一的失误，几乎绝迹。取而代之的是新错，大多恰好差十，却不是作者失误的那种差法。基座写出这种错的不到 2%，回答对里几乎没有；损失只看得见回答对，不在里面的，它压不下去。按说有绳子管着。可是 DPO 的绳子也要靠回答对来拉：哪一对都照不到的地方，就没有东西拉着。这就是有害的那种似然位移。

# %% [markdown] lang="en"
# ## The baseline: imitate the winners
# Is a preference loss needed at all? One could fine-tune on the chosen answers and forget the rejected ones. We do so, from the same start, with the same number of steps. This, too, can be predicted. The chosen answer is the better of two draws, so a perfect imitator writes like the best of two. An answer of probability $p$ becomes the chosen one with probability $2p\,P(\text{worse})+p\,P(\text{equal})$: drawn first or second it beats a worse one, or it ties and is taken half of the time. [Chapter 6](06_objective.ipynb) has the general case, the best of $n$.

# %% [markdown] lang="zh"
# ## 基线：照着赢家学
# 真的需要偏好损失吗？也可以只拿 chosen 来做监督微调，把 rejected 丢开。我们试一试：同样的起点，同样的步数。这也能预言。chosen 是两次抽样里较好的那个；完美的模仿者，写出来就是「二选一取优」（best of two）的水平。概率为 $p$ 的回答，成为 chosen 的概率是 $2p\,P(\text{更差})+p\,P(\text{同分})$：先抽到也好，后抽到也好，赢过更差的；或者打平，有一半机会被选上。取 $n$ 个中最好的，一般公式在[第 6 章](06_objective.ipynb)。

# %% tags=["nbval-ignore-output"]
theory_sft = predicted_shares(task, tabular.best_of_n(classes, 2))
chosen_at = data.batches(64, seed=0)


def imitation_batch(step):
    batch = chosen_at(step)
    return {"input_ids": batch["chosen_ids"], "completion_mask": batch["chosen_mask"]}


imitator = copy.deepcopy(base)
train(imitator, imitation_batch, sft_step, config)
measured["sft"] = measure(imitator)
print({name: (round(float(theory_sft[name]), 3), str(measured["sft"][name])) for name in NAMES})

# %%
print({name: round(float(value), 2) for name, value in theory_sft.items()})
assert abs(theory_sft["style"] - 0.47) < 0.005 and abs(theory_sft["both"] - 0.40) < 0.005
assert all(abs(measured["sft"][name].value - theory_sft[name]) < 0.07 for name in NAMES)
assert measured["sft"]["style"].value < live["style"] - 0.3 and measured["sft"]["both"].value < live["both"] - 0.3

# %% [markdown] lang="en"
# Imitation lands on its own prediction: style 0.47, both 0.40, and hardly any KL. It cannot go further, because its target is the winners' distribution, and the best of two is still a sample of the base model. DPO's target is set by $\beta$, not by the sampler: it extrapolates from who wins to how much better, and multiplies by $e^{r/\beta}$. At $\beta=0.25$ two points of reward are a factor of $e^8$, about 3,000. That is also why DPO can overshoot and imitation cannot.

# %% [markdown] lang="zh"
# 模仿也落在自己的预言上：风格 0.47，都对 0.40，几乎不花 KL。它走不远，因为它的目标就是赢家的分布，而二选一终究还是基座自己的样本。DPO 的目标由 $\beta$ 决定，与怎么采样无关：它从谁赢推到好多少，再乘上 $e^{r/\beta}$。$\beta=0.25$ 时，两分奖励就是 $e^8$ 倍，约 3,000 倍。也正因为如此，DPO 会冲过头，模仿不会。

# %%
print(round(math.exp(2 / beta)))
assert 2_900 < math.exp(2 / beta) < 3_000 + 50

# %% [markdown] lang="en"
# ## One setting away
# Our labels said how sure they are. Most preference data do not: a judge names a winner, and that is all. Three kinds of label ([chapter 5](05_preferences.ipynb)) look alike in a file and mean different things.
#
# | label | value of $q$ | ties | what minimises the loss |
# |---|---|---|---|
# | **soft** | the Bradley–Terry probability | $q=\frac12$ | $\pi^*$ |
# | **sampled** | one draw from it, so $q=1$ after ordering | the coin decides | $\pi^*$, on average over the draws; each draw adds noise |
# | **deterministic** | $q=1$ for the better answer | dropped | no policy: every larger margin is better, at every $\beta$ |
#
# Human data are nearest to *sampled*: people disagree. A checker or a reward model that always names the better one is *deterministic*. On the toy: stretch the margins of $\pi^*$ by a factor, and watch the two losses.

# %% [markdown] lang="zh"
# ## 只差一个设置
# 我们的标签说明了有几分把握。多数偏好数据不说：裁判点出胜者，就完了。有三种标签（[第 5 章](05_preferences.ipynb)），存进文件看起来差不多，意思却不同。
#
# | 标签 | $q$ 的值 | 平局 | 什么策略使损失最小 |
# |---|---|---|---|
# | **软标签**（soft） | Bradley–Terry 概率 | $q=\frac12$ | $\pi^*$ |
# | **采样标签**（sampled） | 按这个概率抽一次，排好序后 $q=1$ | 抛硬币 | 对抽签取平均，还是 $\pi^*$；每次抽签都带噪声 |
# | **确定性标签**（deterministic） | 较好的一方 $q=1$ | 丢弃 | 没有：不论 $\beta$ 多大，间隔总是越大越好 |
#
# 人类数据最接近*采样标签*：各人看法不一。总能点出较好者的判分程序或奖励模型，给的是*确定性标签*。还用那个三回答的例子：把 $\pi^*$ 的间隔拉长几倍，看两种损失怎么变。

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
# Soft labels punish an exaggerated margin, deterministic ones reward it without end. [Azar et al. 2024](https://arxiv.org/abs/2310.12036) state it for DPO: the more deterministic the preferences, the weaker the leash. Now the network. The same pairs, ties dropped, the better answer always wins; nothing else changes. Then the same with $\beta=0.1$.

# %% [markdown] lang="zh"
# 间隔夸大了，软标签会罚，确定性标签却一直奖下去。[Azar et al. 2024](https://arxiv.org/abs/2310.12036) 就 DPO 指出：偏好越确定，绳子越松。放到网络上试：还是那些回答对，丢掉平局，好的一方必胜，别的都不动。然后取 $\beta=0.1$ 再来一次。

# %% tags=["nbval-ignore-output"]
decided = np.flatnonzero(np.array(data.preference_prob) > 0.5)
columns = {field.name: [getattr(data, field.name)[i] for i in decided] for field in fields(Pairs)}
hard = Pairs(**columns | {"preference_prob": [1.0] * len(decided)})
for name, strength in (("hard_0.25", 0.25), ("hard_0.10", 0.1)):
    greedy = copy.deepcopy(base)
    lines = train(greedy, hard.batches(64, seed=0), dpo_step(strength), config)
    measured[name] = measure(greedy)
    slips, new, _ = wrong_answers(greedy)
    print(f"{name:9}", "  ".join(f"{metric} {measured[name][metric]}" for metric in NAMES))
    print(" " * 9, {metric: round(lines[-1][metric], 3) for metric in ("loss", "rewards/accuracies", "rewards/margins")},
          f"logps/chosen {lines[0]['logps/chosen']:.1f} to {lines[-1]['logps/chosen']:.1f}", f"new {new:.3f}")  # fmt: skip
    true_margin = (true_reward["chosen"] - true_reward["rejected"])[decided].mean()
    assert lines[-1]["rewards/accuracies"] > 0.95 and lines[-1]["loss"] < 0.25
    assert lines[-1]["rewards/margins"] > 1.4 * true_margin
    assert measured[name]["exact"].value < measured["ref"]["exact"].value - 0.05 and measured[name]["style"].value > 0.9
    assert measured[name]["kl"].value > 2.5 * theory["kl"] and slips < 0.02
    assert lines[-1]["logps/chosen"] < lines[0]["logps/chosen"] - 4

# %% [markdown] lang="en"
# Every training metric is splendid: the loss is below 0.25, the accuracy above 0.95, the mean margin far above the true difference of rewards. And the model is ruined. It was rewarded for right values and gets fewer right than the base model did; nearly all of its mistakes are new ones; the chosen answers lost more than 4 nats; KL is more than 2.5 times what the optimum needs. This is **over-optimisation**: past a point, a better score on the proxy buys a worse result. The proxy here is a loss on pairs, not a faulty judge; our judge is exact.
#
# The next cell adds the shipped `dpo`, which was trained longer and on other pairs (the section after this one), and draws all six models.

# %% [markdown] lang="zh"
# 训练指标样样漂亮：损失低于 0.25，准确率超过 0.95，平均间隔远超真实的奖励差。模型却毁了：奖励里明明有「值对」，算对的反而比基座还少；错的几乎全是新错；chosen 的对数概率掉了 4 奈特以上；KL 是最优解所需的 2.5 倍以上。这就是**过度优化**（over-optimisation）：过了某一点，替身（proxy）的分数越好，真正的结果越差。这里的替身不是有毛病的裁判，我们的裁判分毫不差；替身是回答对上的那个损失。
#
# 下一个单元格再加上随书的 `dpo`，它训练得更久，用的是另外的回答对（见下一节），然后把六个模型画在一起。

# %% tags=["nbval-ignore-output"]
shipped = load_pretrained("dpo").to(device)
measured["dpo"] = measure(shipped)
print("dpo      ", "  ".join(f"{name} {measured['dpo'][name]}" for name in NAMES))
assert abs(measured["dpo"]["style"].value - theory["style"]) < 0.03 and measured["dpo"]["exact"].value > 0.88
assert measured["dpo"]["both"].value > 0.84 and measured["dpo"]["kl"].value > theory["kl"]
assert measured["dpo"]["well_formed"].value > 0.995

# %% alt_en="Four panels: style, exact, both, KL, each with six models from left to right: reference, imitation, live DPO, shipped DPO, and two runs with hard labels. A horizontal line marks the predicted optimum. Imitation sits on its own dashed mark, far from the line. Both DPO models sit on the line for style, somewhat below it for exact and both, above it for KL. The runs with hard labels reach the line for style and fall far below it for exact and both; their KL is several times higher." alt_zh="四幅小图：风格、值对、都对、KL，每幅从左到右六个模型：参考、模仿、现场训练的 DPO、随书的 DPO、两次硬标签训练。水平线是预言的最优解。模仿落在自己的虚线上，离水平线很远。两个 DPO 模型：风格在线上，值对和都对略低于线，KL 高于线。硬标签的两次：风格到线，值对和都对远低于线，KL 高出几倍。"
order = ("ref", "sft", "dpo_live", "dpo", "hard_0.25", "hard_0.10")
marks = (r"$\pi_{\mathrm{ref}}$", "SFT", "DPO", "dpo", "$q{=}1$\n$0.25$", "$q{=}1$\n$0.1$")
colors = ("ref", "baseline", "policy", "policy", "rejected", "rejected")
population = {"style": task.style, "exact": 1 - task.slip, "both": task.style * (1 - task.slip), "kl": 0.0}
use_style()
fig, axes = plt.subplots(2, 2, figsize=(7.4, 5.4), layout="constrained")
for panel, name in zip(axes.flat, NAMES):
    panel.axhline(theory[name], color=COLORS["theory"])
    for x, value in ((0, population[name]), (1, theory_sft[name])):
        panel.plot([x - 0.35, x + 0.35], [value, value], "--", color=COLORS["theory"])
    for x, (model, color) in enumerate(zip(order, colors)):
        points(panel, [x], [measured[model][name]], color)
    panel.set(title=name, xlim=(-0.6, 5.6), ylim=(0, None if name == "kl" else 1.03))
    panel.set_xticks(range(6), marks, fontsize=8)

# %% [markdown] lang="en"
# **Figure 9.2.** Prediction (lines; dashed: the population's rates, and the best of two) and measurement (points with 95 % intervals) for the reference, imitation of the chosen answers, the DPO of this chapter, the shipped `dpo`, and two runs with hard labels, $\beta=0.25$ and $0.1$. DPO gets the style right and most of the exactness. Hard labels get the style and lose the rest.

# %% [markdown] lang="zh"
# **图 9.2** 预言（线；虚线是群体的比例和二选一取优）与实测（点，带 95% 置信区间）。从左到右：参考策略、模仿 chosen、本章的 DPO、随书的 `dpo`、两次硬标签训练（$\beta=0.25$ 与 $0.1$）。DPO 的风格到位，正确率也到了大半；硬标签只得到风格，其余全丢。

# %% [markdown] lang="en"
# ## What closes the gap
# The diagnosis suggests a cure: let the pairs contain the rare mistakes. Draw the first answer as before and the second at a higher temperature, where the base model slips in every way it can. With soft labels this does not move the optimum. The loss is smallest where every margin is right, however often a pair is drawn, as long as every answer can occur ([chapter 7](07_derivation.ipynb)).
#
# Ten runs were recorded, all from the shipped base model at $\beta=0.25$. They differ in the number of pairs and of passes over them, in the optimiser, and in $T$, the temperature of the second answer. In the last run second answers are drawn at 1.5 and 2.0 in turn.

# %% [markdown] lang="zh"
# ## 怎样缩小差距
# 诊断里已有药方：让回答对里出现那些罕见的错。第一个回答照旧，第二个采样时把温度调高，基座能犯的错就都会犯出来。用软标签，这样做不会挪动最优解：只要每个回答都有机会出现，不管某一对抽到多少次，损失都在间隔处处正确时最小（[第 7 章](07_derivation.ipynb)）。
#
# 记录下来的训练有十次，都从随书的基座出发，$\beta=0.25$。不同的是：回答对有多少、过几遍，用什么优化器，第二个回答的温度 $T$ 是多少。最后一次，第二个回答轮流用 1.5 和 2.0。

# %%
gap = json.loads(Path("data/dpo_gap.json").read_text(encoding="utf-8"))["runs"]
seeds = json.loads(Path("data/seeds.json").read_text(encoding="utf-8"))["seeds"]
found = {}
for run in gap:
    key = run["pairs"], run["optimizer"], "/".join(f"{T:g}" for T in run["pair_temperatures"])
    found[key] = {name: run[name]["value"] for name in (*NAMES, "well_formed")}
    print(f"{run['pairs']:6} x {run['epochs']:g}  {run['optimizer']:5}  T={key[2]:5}", end="  ")
    print("  ".join(f"{name} {value:.3f}" for name, value in found[key].items()))
for seed in seeds:
    print("seed", seed["seed"], " ".join(f"{name} {seed['base'][name]['value']:.3f}" for name in NAMES[:3]), end="   dpo ")
    print(" ".join(f"{name} {seed['dpo'][name]['value']:.3f}" for name in NAMES))
exact = {key: f"{row['exact']:.2f}" for key, row in found.items()}
assert (exact[24_000, "adamw", "1"], exact[48_000, "adamw", "1"]) == ("0.76", "0.82")
assert [exact[96_000, name, T] for T in ("1", "1.5") for name in ("adamw", "muon")] == ["0.66", "0.59", "0.91", "0.96"]
assert f"{found[96_000, 'adamw', '1']['kl']:.1f} {found[96_000, 'muon', '1.5']['kl']:.1f}" == "4.0 1.4"
odd = {run["pair_temperatures"][0]: run["odd_pairs"] for run in gap if run["pairs"] == 96_000 and len(run["pair_temperatures"]) == 1}
assert f"{found[96_000, 'muon', '1.75']['well_formed']:.2f}" == "0.76" and (odd[1.75], odd[1.5], odd[2]) == (268, 63, 753)
assert len(gap) == 10 and {"S67=37+30-UE", "S-15=33-48-SE"} <= set(gap[6]["malformed"])
for T, numbers in (("2", ["0.98", "1.29", "0.94"]), ("1.5/2", ["0.98", "1.30", "0.94"])):
    assert [f"{found[96_000, 'muon', T][name]:.2f}" for name in ("exact", "kl", "style")] == numbers
spread = sorted(seed["dpo"]["exact"]["value"] for seed in seeds)
assert [f"{value:.2f}" for value in (spread[0], spread[-1])] == ["0.97", "0.98"]

# %% [markdown] lang="en"
# Read it from the top. At 750 updates, 48,000 pairs used once beat 24,000 used twice: 0.82 right against 0.76. But twice the pairs *and* twice the updates make matters worse: 0.66 right, KL 4.0. It is the mechanism from above: further steps push more probability into corners that no pair looks into. Muon, which learns faster, gets there sooner: 0.59.
#
# Now raise the temperature of the second answer to 1.5, same number of pairs, same steps: 0.91 with AdamW, and 0.96 with Muon, whose KL is 1.4. So neither the optimiser nor the number of pairs was to blame, but where the pairs look.
#
# At 1.75 comes a surprise: only 0.76 of the answers are well formed. Among the others are `37+30-UE` for 67 and `33-48-SE` for -15: a right sum, an operator, and a character that no author ever writes. It is the same leak through another hole. The base model gives such characters next to no probability; of the 96,000 pairs 268 hold one, too few to keep them down. At 1.5 it is 63 pairs, so the hole is there as well; whether a run finds it is luck. At 2.0 it is 753, and the hole is closed: 0.98 right, a KL of 1.29, where the optimum has 0.994 and 1.256.
#
# There is a price: the style ends at 0.94, a little below the predicted 0.959. The shipped `dpo` takes 1.5 and 2.0 in turn, and Muon: 0.98 right, KL 1.30, style 0.94. Over three seeds, base model and DPO trained anew, exactness is 0.97 to 0.98.

# %% [markdown] lang="zh"
# 从上往下读。同样更新 750 步，48,000 对各用一次，胜过 24,000 对各用两次：答对的 0.82 比 0.76。可是回答对再翻倍、步数*也*翻倍，反而更糟：只有 0.66，KL 4.0。道理同前面一样：多走的步子，把更多概率推进了没有一对回答照到的角落。Muon 学得更快，到得也更早：0.59。
#
# 把第二个回答的温度调到 1.5，对数、步数不变：AdamW 得 0.91；Muon 得 0.96，KL 是 1.4。可见问题不在优化器，也不在回答对的多少，而在它们照到哪里。
#
# 到了 1.75，出了一件怪事：格式正确的回答只剩 0.76。其余的，像目标 67 写成 `37+30-UE`，目标 -15 写成 `33-48-SE`：算式是对的，后面却多出一个运算符，再跟一个从没有作者写过的字符。漏洞换了一个，道理没变。基座几乎不给这些字符概率，96,000 对里只有 268 对见得到，压不住它们。1.5 的时候是 63 对，漏洞其实也在；一次训练会不会撞上，全凭运气。到 2.0 是 753 对，漏洞就堵上了：答对 0.98，KL 1.29，而最优解是 0.994 和 1.256。
#
# 代价也有：风格停在 0.94，略低于预言的 0.959。随书的 `dpo` 轮流取 1.5 和 2.0，用 Muon：答对 0.98，KL 1.30，风格 0.94。换三个种子，基座和 DPO 都从头训练，正确率在 0.97 到 0.98 之间。

# %% [markdown] lang="en"
# One picture holds all of it. Its axes are the two quantities of the objective, KL and reward. The line is what the best policy can reach, for every $\beta$; no policy lies above it. Chapter 12 puts reinforcement learning on the same picture.

# %% [markdown] lang="zh"
# 一张图就能收尽。两根轴正是目标里的两个量：KL 与奖励。曲线是最优策略能达到的地方，每个 $\beta$ 一点；没有策略在曲线上方。第 12 章会把强化学习也放进这张图。

# %% alt_en="KL on the horizontal axis, mean reward on the vertical axis. A curve, the exact frontier, rises steeply and is flat at 2 from a KL of 1.5 on; a star marks its point for the beta of this chapter. The reference lies at its left end, imitation on it a little further right. The shipped model and the other runs with a higher temperature lie close to the star. The runs marked T=1 and T=1.75 lie below the flat part, the further to the right the lower. The two runs with hard labels lie furthest to the right and lowest." alt_zh="横轴是 KL，纵轴是平均奖励。一条曲线是精确的前沿，先陡升，从 KL 等于 1.5 起在 2 处变平；星号是本章的 beta 对应的点。参考策略在最左端，模仿在曲线上稍靠右。随书的模型和其余温度较高的几次，紧挨着星号。标着 T=1 和 T=1.75 的几次在平段下方，越靠右越低。两次硬标签最靠右，也最低。"
frontier = [predicted_optimum(task, "style+exact", b) for b in np.geomspace(0.06, 20, 80)]
fig, axes = figure(width=6.8, height=4.0)
line = [(f["kl"], f["style"] + f["exact"]) for f in reversed(frontier)]
axes.plot(*zip(*line, (7, line[-1][1])), color=COLORS["theory"])
axes.plot(theory["kl"], theory["style"] + theory["exact"], "*", color=COLORS["theory"], markersize=13)
shown = [(marks[order.index(name)].replace("$\n$", ",\\ "), color, measured[name]) for name, color in zip(order, colors)]
leaks = {"1": "$T{=}1$", "1.75": "$T{=}1.75$"}
shown += [(leaks.get("/".join(f"{T:g}" for T in run["pair_temperatures"]), ""), "policy", run) for run in gap]
shown += [("", "policy", seed["dpo"]) for seed in seeds]
for mark, color, report in shown:
    get = {n: Estimate(**report[n]) if isinstance(report[n], dict) else report[n] for n in NAMES}
    y = Estimate(*(getattr(get["style"], part) + getattr(get["exact"], part) for part in ("value", "low", "high")))
    points(axes, [get["kl"].value], [y], color)
    axes.annotate(mark, (get["kl"].value, y.value), xytext=(5, 8 if mark[:2] in ("DP", "$q") else -16),
                  textcoords="offset points", fontsize=9)  # fmt: skip
_ = axes.set(xlabel=r"$\mathrm{KL}(\pi\,\|\,\pi_{\mathrm{ref}})$", ylabel=r"$\mathbb{E}[r]$", ylim=(0.9, 2.1))

# %% [markdown] lang="en"
# **Figure 9.3.** Reward against KL. The line is the exact frontier, the star its point for $\beta=0.25$. Points without a name are the other recorded runs and the seeds; $T=1$ and $T=1.75$ mark the recorded runs that leak. Both ways of going wrong lead to the right and down: hard labels, and pairs that do not look where the policy goes.

# %% [markdown] lang="zh"
# **图 9.3** 奖励与 KL。曲线是精确的前沿，星号是 $\beta=0.25$ 的那一点。没写名字的点，是其余几次训练和各个种子；标着 $T=1$ 和 $T=1.75$ 的，是漏了的几次。走偏的两种办法都通向右下方：硬标签；回答对照不到策略要去的地方。

# %% [markdown] lang="en"
# ## The classic setting, told honestly
# This book grew out of a small project, *Simple_RLHF_DPO*, whose task is harder than ours: numbers with two decimals up to 100 in size, four operators. Its preference pairs are cheap to make. Chosen: a right expression of *three* numbers, while the base model has only seen two. Rejected: the empty answer, `E` and nothing else. What do such pairs ask for?
#
# They ask: *write something*. What is pushed down is one answer, `E`; every expression, right or wrong, may take its place. About right values they say nothing, for no wrong expression is ever rejected. And the base model does not write the empty answer anyway, so nothing that a reader sees has to change for the margin to grow.
#
# We ran it once, with a base model trained on all tokens as the project does, a right mask, its learning rate of 1e-4, and both of the values of $\beta$ that its history knows: 1.0 and 0.1.

# %% [markdown] lang="zh"
# ## 经典设置，照实说
# 这本书由一个小项目 *Simple_RLHF_DPO* 长成。它的任务比我们的难：绝对值不超过 100 的两位小数，四种运算。它的偏好对做起来很省事。chosen：一个正确的算式，写*三个数*，而基座只见过写两个数的。rejected：空回答，只有一个 `E`。这样的回答对，要的是什么？
#
# 要的是：*写点什么*。被压下去的只有 `E` 这一个回答，腾出的位置，随便哪个算式都能占，对的错的都行。至于值对不对，它们只字未提，因为从没有哪个错的算式被当作 rejected。何况基座本来就不写空回答：间隔要变大，读者看得见的东西一样也不用变。
#
# 我们跑了一次：基座照原项目那样在全部词元上训练，掩码用对的，学习率用它的 1e-4，$\beta$ 取它历史上用过的两个值：1.0 和 0.1。

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
# With $\beta=1.0$ the pairs are soon satisfied. After 300 steps the mean margin is 15.5, where the pull $\sigma(-h)$ is below one in a million, and training has in effect ended. Yet only 0.08 of the answers have three numbers: the chosen ones started so low that many nats of gain leave them rare. With $\beta=0.1$ the same satisfaction needs ten times the log-ratio, so the pull lasts. After 300 steps 0.86 of the answers have three numbers, 0.95 are well formed, and the share of right values, 0.019 before, is 0.001. The model does what its pairs ask for, in either case.

# %% [markdown] lang="zh"
# $\beta=1.0$ 时，回答对很快就「满意」了。300 步后平均间隔是 15.5，拉力 $\sigma(-h)$ 不到百万分之一，训练实际上已经停了。可是只有 0.08 的回答写三个数：chosen 起点太低，涨了许多奈特，仍然罕见。$\beta=0.1$ 时，要同样满意，对数比得大到十倍，拉力就一直在。300 步后，0.86 的回答写三个数，0.95 格式正确，值对的却从 0.019 掉到 0.001。两种情形，模型都照回答对的要求做了。

# %% [markdown] lang="en"
# ### A mask that forgets the padding
# The rows marked *wrong* come from a bug in the project's later script. It pads on the left, so that all rows end together. But it masks the prompt by its length, counted from the left edge, where the padding is. Of a prompt of $n$ tokens, in a row of $L$ tokens and a rectangle of width $W$, the number that stays in the loss is
#
# $$\min(n,\;W-L).$$
#
# Take a batch of 64 and three of its rows. The first has 23 tokens in a rectangle of 30: all 7 tokens of its prompt are counted. The second has 27: of its 8 prompt tokens the last 3 are counted. The third is the rejected row of the second: 9 tokens, and the whole prompt is counted.

# %% [markdown] lang="zh"
# ### 忘了填充的掩码
# 标着 wrong 的几行，出自原项目后来那份脚本里的一个错误。它在左边填充，让各行在右端对齐；遮提示时却从左边缘数起，数够提示的长度就停，可左边缘那里是填充。提示 $n$ 个词元，整行 $L$ 个，矩形宽 $W$，留在损失里的提示词元数是
#
# $$\min(n,\;W-L)$$
#
# 取一个 64 行的批次，看其中三行。第一行 23 个词元，矩形宽 30：提示的 7 个词元全算进了损失。第二行 27 个词元：提示占 8 个，末尾 3 个算进了损失。第三行是第二行的 rejected：9 个词元，整个提示都算进了损失。

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
# **Figure 9.4.** What the script counts. Green: the answer. Orange: prompt tokens counted by mistake. Grey: prompt tokens masked as they should be. The shorter the row, the more of its prompt is in the loss.

# %% [markdown] lang="zh"
# **图 9.4** 脚本把哪些词元计入损失。绿：回答。橙：误被计入的提示词元。灰：照理遮掉的提示词元。行越短，留在损失里的提示越多。

# %% [markdown] lang="en"
# With a right mask the prompt cannot matter: both answers share it, and it cancels in $h$. In the second and third row, one pair, it does not: the rejected row counts 8 of its tokens and the chosen row 3. Five remain with a minus sign, and the loss falls when the model makes its prompts improbable. Nothing crashes. In our run, the table says, the wrong mask changes next to nothing that can be measured: 0.99 well formed and 0.08 with three numbers after 300 steps, as with the right one. That makes it worse, not better: no curve gives it away. Counting does: the marked tokens of a row must be the tokens of its answer.
#
# ### Two more lines
# [Chapter 8](08_tensors.ipynb) keeps a museum of such bugs, with a test for each. Two more come from this project. The script takes `log(sigmoid(x))`. In float32, $\sigma(x)$ is rounded to 0 below about -88.7, and the logarithm of that is $-\infty$, with a gradient that is no number. `logsigmoid` computes the same function without the detour.

# %% [markdown] lang="zh"
# 掩码要是对的，提示就无关紧要：两个回答共用一个提示，在 $h$ 里抵消了。第二、三行是一对，就抵消不掉：rejected 那行计入 8 个，chosen 那行计入 3 个，剩下五个带着负号留在 $h$ 里；模型只要压低提示的概率，损失就降。程序照跑不误。从表里看，我们这次训练，掩码虽错，量得出的东西几乎没变：300 步后格式正确的 0.99，三个数 0.08，同掩码正确时一样。这更糟，不是更好：没有哪条曲线会露馅。数一数才会露馅：一行里标出的词元，必须正好是回答的词元。
#
# ### 还有两行
# 这类错误，[第 8 章](08_tensors.ipynb)专门开了一座博物馆，件件配了测试。这个项目里还有两件。脚本里写的是 `log(sigmoid(x))`。float32 下，$x$ 低于约 -88.7 时，$\sigma(x)$ 舍入成 0，取对数得 $-\infty$，梯度成了 nan（不是数）。`logsigmoid` 算的是同一个函数，不绕这个弯。

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
# DPO lets go of a pair once it is won. The notebook pulls hardest at pairs that are won already, so no margin is ever enough.

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
# **Figure 9.5.** The pull on a pair against its margin $m$, in nats. Green: DPO. Orange: the notebook, whose pull grows until the tiny added number ends it.

# %% [markdown] lang="zh"
# **图 9.5** 对一个回答对的拉力，随间隔 $m$（奈特）的变化。绿：DPO。橙：笔记本，拉力一直涨，直到那个加上去的极小数把它截断。

# %% [markdown] lang="en"
# ## From the command line
# What this chapter did in cells is one command. The shipped model was made by it:
#
# ```text
# dpo-core train-dpo --model gen --output dpo.model
# dpo-core train-dpo --model gen --output dpo.model --resume
# dpo-core evaluate dpo.model --n 2000 --json
# ```
#
# It writes a model folder, `dpo.model`, that opens in Hugging Face transformers; the metrics, a line for every 10 steps; and the pairs, one to a line, in the columns that TRL reads (`prompt`, `chosen`, `rejected`) and three of ours. The pairs' file name holds a hash of what made them, so that a second run with another $\beta$ finds them again. A killed run leaves its state in `dpo.model.partial`; `--resume` goes on from there and ends in the same bits. Here is a run of eight steps, in a folder of its own:

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
# 它会写出：模型文件夹 `dpo.model`，Hugging Face transformers 打得开；训练指标，每 10 步一行；回答对，每行一对，列名是 TRL 认的（`prompt`、`chosen`、`rejected`），另加我们的三列。回答对的文件名里有一段哈希，由生成它们的设置算出，换个 $\beta$ 再跑时能找到现成的。中途断了，状态留在 `dpo.model.partial` 里；加 `--resume` 就接着跑，最后得到的每个比特都一样。下面在一个临时文件夹里跑八步：

# %%
with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        for command in ("train-dpo --model gen --pairs 512 --steps 8 --output dpo.model", "evaluate dpo.model --n 200 --json"):
            assert cli.main([*command.split(), "--device", "cpu"]) == 0
    pairs_file = next(Path().glob("dpo.model.pairs-*.jsonl"))
    columns = list(json.loads(pairs_file.read_text().splitlines()[0]))
    written = sorted(path.name.replace(pairs_file.name, "dpo.model.pairs-HASH.jsonl") for path in Path().iterdir())
    print(*shown.getvalue().splitlines()[:-1], *written, columns, sep="\n")
    report = json.loads(shown.getvalue().splitlines()[-1])
    print(list(report), list(report["exact"]))
assert written == ["dpo.model", "dpo.model.metrics.jsonl", "dpo.model.pairs-HASH.jsonl"]
assert columns[:3] == ["prompt", "chosen", "rejected"] and {"exact", "style", "kl", "predicted"} <= set(report)

# %% [markdown] lang="en"
# > **What the toy hides.** Nobody knows the rewards of real answers. People compare them, disagree, and tire; there is no checker and no predicted optimum, so the gap of this chapter exists and cannot be seen. Answers run to hundreds of tokens, their log-probabilities to hundreds of nats, and a small change per token is a large one per answer; raters and DPO both drift towards long answers ([Park et al. 2024](https://arxiv.org/abs/2403.19159)). The pairs often come from other models, and then most of what the policy itself would write was never compared (chapter 10). A 7B model needs two copies or stored log-probabilities, learning rates hundreds of times smaller than ours, and a held-out evaluation by something better than the training loss.

# %% [markdown] lang="zh"
# > **玩具没告诉你的。** 真实的回答，奖励是多少没人知道。人只会比较，意见不一，还会累；没有判分程序，也没有预言的最优解，所以本章的差距照样存在，只是看不见。回答有几百个词元，对数概率有几百奈特，每个词元动一点，整个回答就动很多；评分的人和 DPO 都会滑向长回答（[Park et al. 2024](https://arxiv.org/abs/2403.19159)）。回答对常常来自别的模型，策略自己会写的东西，多半从来没人比较过（第 10 章）。7B 的模型要放两份，或者存好对数概率；学习率要比我们的小上百倍；还要在留出的数据上评估，用比训练损失更可靠的办法。

# %% [markdown] lang="en"
# > **To remember.** DPO starts at $\ln 2$, moves probability by comparing two answers, and knows nothing about answers that no pair contains. Check the start. Know the floor. A falling `logps/chosen` can be right; a perfect accuracy can be wrong. Sample and look.

# %% [markdown] lang="zh"
# > **记住。** DPO 从 $\ln 2$ 出发，靠两两比较搬动概率；哪一对里都没有的回答，它一无所知。起点要查，下界要知道。`logps/chosen` 下降可能是对的，准确率完美可能是错的。要采样出来看。

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
# 对某个提示，基座的回答有 30% 写三个数。写三个数奖励 1，否则奖励 0，$\beta=0.5$。最优策略写三个数的比例是多少？
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
# 就是标签的平均熵。本章的 `floor` 是它在我们这些回答对上的值。
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
# 写一个 `sampled(data, seed)`：由软标签的 `Pairs` 做出一份新的 `Pairs`，其中每一对都当真比过一次。chosen 以 `preference_prob` 的概率保持不变；否则两个回答对调，属于它们的东西也一起对调。标签全部变成 1.0。然后照前面那样训练，同软标签那次比一比：预言相同，噪声更大。
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
# ## References
# - [Azar et al. 2024](https://arxiv.org/abs/2310.12036): why the leash slackens when preferences are deterministic.
# - [Bradley & Terry 1952](https://doi.org/10.2307/2334029): the model of paired comparisons.
# - [Pal et al. 2024](https://arxiv.org/abs/2402.13228): the DPO loss allows the preferred answer to lose probability.
# - [Park et al. 2024](https://arxiv.org/abs/2403.19159): DPO and the length of answers.
# - [Rafailov et al. 2023](https://arxiv.org/abs/2305.18290): DPO.
# - [Razin et al. 2025](https://arxiv.org/abs/2410.08847): likelihood displacement.

# %% [markdown] lang="zh"
# ## 参考文献
# - [Azar et al. 2024](https://arxiv.org/abs/2310.12036)：偏好确定时，绳子为什么会松。
# - [Bradley & Terry 1952](https://doi.org/10.2307/2334029)：两两比较的模型。
# - [Pal et al. 2024](https://arxiv.org/abs/2402.13228)：DPO 的损失允许被偏好的回答概率下降。
# - [Park et al. 2024](https://arxiv.org/abs/2403.19159)：DPO 与回答的长度。
# - [Rafailov et al. 2023](https://arxiv.org/abs/2305.18290)：DPO。
# - [Razin et al. 2025](https://arxiv.org/abs/2410.08847)：似然位移。
