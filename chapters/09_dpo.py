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
# > **In this chapter.** You will be able to write a DPO training and read its curves, to hold the result against the policy that theory predicts and against rivals that need no preference loss, and to say what drives a run over the edge and what holds it. You need [chapter 3](03_sft.ipynb) and [chapter 4](04_sampling.ipynb); what chapters 5 to 8 derive stands here once more, in ten lines. 37 minutes to read, and 23 more for the sections marked ⋆; 60 seconds to run.

# %% [markdown] lang="zh"
# > **本章。** 读完后，你能亲手写一个 DPO 训练，看懂它的曲线；能拿结果同理论预言的策略对照，也同那些用不着偏好损失的对手对照；还说得出训练为什么会失控、怎样拉得住。需要读过[第 3 章](03_sft.ipynb)和[第 4 章](04_sampling.ipynb)；第 5 章到第 8 章推出的结论，这里用十行重述一遍。阅读 37 分钟，带 ⋆ 的几节另需 23 分钟；运行 60 秒。

# %%
import copy
import json
import math
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from checks import check
from matplotlib.patches import Rectangle
from torch.nn.functional import logsigmoid

from dpo_core import BookTask, CharTokenizer, ClassicTask, arms, generate, judge
from dpo_core import load_pretrained, rl, score, sequence_logps, tabular, use_threads
from dpo_core.evaluation import evaluate, own_answers, written_mass
from dpo_core.optim import learning_rate_factor
from dpo_core.pairs import Pairs, check_same_start
from dpo_core.plotting import COLORS, INK, figure, picture
from dpo_core.preferences import on_policy_pairs
from dpo_core.steps import dpo_step, sft_step
from dpo_core.task import read_prompt, stream
from dpo_core.theory import class_problem, class_rewards, predicted_entropy
from dpo_core.theory import predicted_optimum, predicted_shares
from dpo_core.training import LoopConfig, default_device, train


# %%
def table(columns, rows, width=20):
    """Print a table: a name on the left of each row, numbers under their columns."""
    print(" " * width, *(f"{name:>9}" for name in columns))
    for name, cells in rows:
        shown = (f"{c:9.2f}" if isinstance(c, float) else f"{c:>9}" for c in cells)
        print(f"{name:{width}}", *shown)


# %% [markdown] lang="en"
# ## Ten lines from chapters 5 to 8
# A language model is a **policy**: to a prompt $x$ it writes an answer $y$ with probability $\pi(y\mid x)$. The model that training starts from is the **reference policy**, $\pi_{\mathrm{ref}}$. Ten lines say why a loss of one line can make its answers better. Lines 1 and 2 are [chapter 5](05_preferences.ipynb), 3 and 4 [chapter 6](06_objective.ipynb) (equations 6.1 and 6.5), 5 to 9 [chapter 7](07_derivation.ipynb) (equations 7.2 and 7.6), line 10 [chapter 8](08_tensors.ipynb).
#
# 1. A **reward** $r(x,y)$, a number, says how good an answer is. Nobody has to know it.
# 2. The **Bradley–Terry model** turns rewards into preferences: of two answers, $y_1$ is preferred with probability $\sigma(r_1-r_2)$, where $\sigma(z)=1/(1+e^{-z})$ ([Bradley & Terry 1952](https://doi.org/10.2307/2334029)).
# 3. We want reward, but not to lose what the reference can do. So we hold the policy on a leash, its KL divergence from the reference, of strength $\beta>0$. The objective for one prompt is
#
# $$J(\pi)=\mathbb{E}_{y\sim\pi}\,[r(x,y)]-\beta\,\mathrm{KL}(\pi\,\|\,\pi_{\mathrm{ref}}).$$
#
# 4. Its optimum is the reference, reweighted; $Z(x)$ makes the probabilities sum to 1:
#
# $$\pi^*(y\mid x)=\frac{1}{Z(x)}\,\pi_{\mathrm{ref}}(y\mid x)\,e^{r(x,y)/\beta}.$$
#
# Three answers by hand. Reference probabilities 0.5, 0.3, 0.2, rewards 1, 0, -1, $\beta=0.5$. The factors $e^{r/\beta}$ are $e^{2}$, 1 and $e^{-2}$; the products 3.695, 0.300 and 0.027; their sum $Z$ is 4.022. Divide, and the optimum is 0.919, 0.075, 0.007. It beats 1,000 random rivals:

# %% [markdown] lang="zh"
# ## 第 5 章到第 8 章，十行说完
# 语言模型是一个**策略**（policy）：看到提示 $x$，它以概率 $\pi(y\mid x)$ 写出回答 $y$。训练从哪个模型出发，哪个就是**参考策略**（reference policy，实践中常叫参考模型），记作 $\pi_{\mathrm{ref}}$。要让它答得更好，为什么一行损失就够？看下面十行。第 1、2 行出自[第 5 章](05_preferences.ipynb)，第 3、4 行出自[第 6 章](06_objective.ipynb)（式 6.1、6.5），第 5 到 9 行出自[第 7 章](07_derivation.ipynb)（式 7.2、7.6），第 10 行出自[第 8 章](08_tensors.ipynb)。
#
# 1. **奖励**（reward）$r(x,y)$ 是一个数，说的是回答有多好。不必有人知道它是多少。
# 2. **Bradley–Terry 模型**把奖励变成偏好：两个回答里，$y_1$ 胜出的概率是 $\sigma(r_1-r_2)$，其中 $\sigma(z)=1/(1+e^{-z})$（[Bradley & Terry 1952](https://doi.org/10.2307/2334029)）。
# 3. 奖励要高，参考策略原有的本事又不能丢。于是用一根绳子拴住策略：它相对参考策略的 KL 散度（KL divergence）要从目标里扣掉，扣得多重由 $\beta>0$ 定。对一个提示，目标是
#
# $$J(\pi)=\mathbb{E}_{y\sim\pi}\,[r(x,y)]-\beta\,\mathrm{KL}(\pi\,\|\,\pi_{\mathrm{ref}})$$
#
# 4. 最优解是已知的，就是把参考策略重新加权；$Z(x)$ 负责让概率加起来等于 1：
#
# $$\pi^*(y\mid x)=\frac{1}{Z(x)}\,\pi_{\mathrm{ref}}(y\mid x)\,e^{r(x,y)/\beta}$$
#
# 拿三个回答手算一遍。参考概率 0.5、0.3、0.2，奖励 1、0、-1，$\beta=0.5$。三个系数 $e^{r/\beta}$ 是 $e^{2}$、1、$e^{-2}$；乘出来是 3.695、0.300、0.027；和 $Z$ 等于 4.022。一除，最优解就是 0.919、0.075、0.007。随机找 1,000 个对手，都比不过它：

# %%
toy_ref = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
toy_reward = torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64)
toy_beta = 0.5
products = toy_ref * torch.exp(toy_reward / toy_beta)
Z = products.sum()
toy_optimum = products / Z


def toy_objective(probs):
    divergence = (probs * (probs / toy_ref).log()).sum(-1)
    return (probs * toy_reward).sum(-1) - toy_beta * divergence


print([round(p, 3) for p in products.tolist()], round(Z.item(), 3))
print([round(p, 3) for p in toy_optimum.tolist()])
assert [round(p, 3) for p in toy_optimum.tolist()] == [0.919, 0.075, 0.007]
rivals = torch.distributions.Dirichlet(torch.ones(3).double()).sample((1_000,))
assert toy_objective(toy_optimum) >= toy_objective(rivals).max()

# %% [markdown] lang="en"
# 5. Solve line 4 for the reward: $r(x,y)=\beta\log\dfrac{\pi^*(y\mid x)}{\pi_{\mathrm{ref}}(y\mid x)}+\beta\log Z(x)$.
# 6. Two answers to one prompt share $Z(x)$. In the difference of their rewards it is gone, and a preference depends on the difference alone (line 2).
# 7. So any policy carries an **implicit reward** $\hat r(x,y)=\beta\log\dfrac{\pi(y\mid x)}{\pi_{\mathrm{ref}}(y\mid x)}$, and with it an opinion on every pair.
# 8. Hold that opinion against the data. Let $y_w$ be the answer called *chosen* (the winner), $y_l$ the one called *rejected* (the loser), $q$ the probability that $y_w$ is the preferred one, and $h=\hat r(x,y_w)-\hat r(x,y_l)$ the **reward margin**. The DPO loss of the pair ([Rafailov et al. 2023](https://arxiv.org/abs/2305.18290), where $q=1$) is
#
# $$\ell=-q\log\sigma(h)-(1-q)\log\sigma(-h).$$
#
# 9. If the labels $q$ are Bradley–Terry probabilities of $r$, this loss is smallest at $\pi^*$, where $h$ equals the true difference of rewards. No reward model, no sampling during training.
# 10. At the start $\pi=\pi_{\mathrm{ref}}$, so $h=0$ and the loss is $\ln 2$, whatever the labels.
#
# On the three answers the mean loss of the pairs is 0.510 at the optimum, its gradient zero.

# %% [markdown] lang="zh"
# 5. 从第 4 行解出奖励：$r(x,y)=\beta\log\dfrac{\pi^*(y\mid x)}{\pi_{\mathrm{ref}}(y\mid x)}+\beta\log Z(x)$。
# 6. 同一个提示的两个回答，$Z(x)$ 相同。奖励一相减，它就没了；而偏好只看这个差（第 2 行）。
# 7. 所以随便哪个策略都自带一份**隐式奖励**（implicit reward）$\hat r(x,y)=\beta\log\dfrac{\pi(y\mid x)}{\pi_{\mathrm{ref}}(y\mid x)}$，对每个偏好对都有自己的看法。
# 8. 拿这份看法去对数据。设 $y_w$ 是 chosen（被偏好的回答，赢家），$y_l$ 是 rejected（不被偏好的回答，输家），$q$ 是 $y_w$ 胜出的概率，$h=\hat r(x,y_w)-\hat r(x,y_l)$ 叫**奖励间隔**（reward margin）。这一对的 DPO 损失（[Rafailov et al. 2023](https://arxiv.org/abs/2305.18290)，那里 $q=1$）是
#
# $$\ell=-q\log\sigma(h)-(1-q)\log\sigma(-h)$$
#
# 9. 若标签 $q$ 就是 $r$ 的 Bradley–Terry 概率，损失就在 $\pi^*$ 处最小，那里 $h$ 等于真实的奖励差。不用奖励模型，训练中也不用采样。
# 10. 开始时 $\pi=\pi_{\mathrm{ref}}$，于是 $h=0$，损失是 $\ln 2$，与标签无关。
#
# 还是那三个回答：在最优解处，三个偏好对的平均损失是 0.510，梯度为零。

# %%
implicit = toy_beta * (toy_optimum / toy_ref).log()
assert torch.allclose(implicit + toy_beta * Z.log(), toy_reward)  # line 5
toy_pairs = torch.tensor([0, 0, 1]), torch.tensor([1, 2, 2])  # winners and losers
true_gap = toy_reward[toy_pairs[0]] - toy_reward[toy_pairs[1]]
toy_label = torch.sigmoid(true_gap)  # line 2


def toy_loss(logits):
    implicit = toy_beta * (logits.log_softmax(-1) - toy_ref.log())  # line 7
    h = implicit[toy_pairs[0]] - implicit[toy_pairs[1]]
    return (-toy_label * logsigmoid(h) - (1 - toy_label) * logsigmoid(-h)).mean()


logits = toy_optimum.log().requires_grad_()
loss = toy_loss(logits)
loss.backward()
print(round(loss.item(), 3), round(toy_loss(toy_ref.log()).item(), 4))
assert abs(loss.item() - 0.510) < 5e-4 and logits.grad.abs().max() < 1e-12  # line 9
assert abs(toy_loss(toy_ref.log()).item() - math.log(2)) < 1e-12  # line 10

# %% [markdown] lang="en"
# ## Pairs of the model's own answers
# The reference is the model that chapter 3 trained and [chapter 4](04_sampling.ipynb) measured: it writes three numbers in 30 % of its answers and hits the target in 75 %, as its authors do. We want to change that: one point of reward for three numbers, one for the right value. So $r$ is 0, 1 or 2, and a program can read it off any answer. People in its place would give choices and no numbers; here we see both, and can check.
#
# For a pair, draw a prompt, let the reference answer it twice, and call the better answer *chosen*. The label is the Bradley–Terry probability itself, a **soft label**: 0.5 for a tie, 0.731 for a difference of 1, 0.881 for a difference of 2. We make 19,200 pairs. Beside each stands the log-probability of both answers under the reference, computed once, so that training needs only one model in memory.

# %% [markdown] lang="zh"
# ## 用模型自己的回答配对
# 参考策略就是第 3 章训练、[第 4 章](04_sampling.ipynb)测过的那个模型：30% 的回答写三个数，75% 答案正确，与它的作者们一样。我们想改变它：写三个数得一分，答案正确得一分。于是 $r$ 是 0、1 或 2，随便拿个回答来，程序都能给分。换成真人评判，只看得到谁胜谁负，看不到分数；这里两样都有，所以才能对账。
#
# 配一个偏好对：抽一个提示，让参考策略答两次，好的那个叫 chosen。标签直接用 Bradley–Terry 概率，这叫**软标签**（soft label）：平局（tie）是 0.5，差 1 分是 0.731，差 2 分是 0.881。一共做 19,200 个偏好对。每个旁边记下参考策略给两个回答的对数概率（log-probability）。只算一次，训练时内存里就只要放一个模型。

# %%
use_threads()
task, device = BookTask(), default_device()
base = load_pretrained("gen").to(device)
options = {"reward": "style+exact", "labels": "soft", "seed": 0}
data = on_policy_pairs(base, task, 19_200, progress=True, **options)
TEXTS, NUMBERS = ("chosen", "rejected"), ("ref_chosen_logps", "ref_rejected_logps")
columns = [getattr(data, name) for name in (*TEXTS, "preference_prob", *NUMBERS)]
rows = [(data.prompt[i], [column[i] for column in columns]) for i in range(5)]
table((*TEXTS, "label", "ref ch.", "ref rej."), rows, width=6)
q = torch.tensor(data.preference_prob, dtype=torch.float64)
ties = (q == 0.5).double().mean().item()
assert sorted({round(label, 3) for label in q.tolist()}) == [0.5, 0.731, 0.881]
assert abs(ties - 0.44) < 0.02

# %% [markdown] lang="en"
# About 44 % of the pairs are ties. They stay in. A tie is information too: it asks that these two answers keep the ratio that they have under the reference.

# %% [markdown] lang="zh"
# 约 44% 是平局，照样留着。平局也是信息：它要求这两个回答保持在参考策略下的比例。

# %% [markdown] lang="en"
# ## Before the first step
# Three checks catch much of what goes wrong in DPO code.
#
# **The policy is the reference.** Fresh log-probabilities must equal the stored ones. If they do not, the pairs were scored by another model, tokenizer or mask. `check_same_start` names the first pair that differs; we nudge one weight to see it do so.

# %% [markdown] lang="zh"
# ## 第一步之前
# 三项检查，DPO 代码里的许多毛病都能查出来。
#
# **策略就是参考策略。** 现算的对数概率必须等于存下的。不等，就说明打分时用的是别的模型、别的分词器（tokenizer）或别的掩码（mask）。`check_same_start` 会指出第一个对不上的偏好对；我们故意碰一个权重，看它报不报。

# %%
nudged = copy.deepcopy(base)
check_same_start(nudged, data)  # silent: equal to 1e-4
with torch.no_grad():
    nudged.lm_head.weight[5, 0] += 0.1
try:
    check_same_start(nudged, data)
    raise AssertionError("not noticed")
except ValueError as error:
    print(str(error).split(":")[0])

# %% [markdown] lang="en"
# **The loss is $\ln 2$.** Line 10 promises 0.693 with soft labels and with hard ones ($q=1$).
#
# **The floor is known.** Training will push the loss down from there.
#
# > **Before you run it.** How far down can it go?
#
# <details><summary>Answer</summary>
#
# With hard labels to 0, with soft ones not: a policy can do no better than $\sigma(h)=q$ on every pair, and then the loss is the mean entropy of the labels. The whole training takes place between 0.693 and 0.614.
#
# </details>
#
# The accuracy has a ceiling as well: a tie counts half, so `rewards/accuracies` cannot be expected above about 0.78.

# %% [markdown] lang="zh"
# **损失是 $\ln 2$。** 第 10 行保证：软标签也好，硬标签（hard label，$q=1$）也好，都是 0.693。
#
# **下界已知。** 训练会把损失从这里往下压。
#
# > **先猜一猜。** 它能压到多低？
#
# <details><summary>答案</summary>
#
# 硬标签可以压到 0，软标签不能：策略做得再好，也只是每一对都有 $\sigma(h)=q$，这时损失等于标签的平均熵。整个训练都发生在 0.693 与 0.614 之间。
#
# </details>
#
# 准确率也有上限：平局算半个，`rewards/accuracies` 不能指望超过 0.78 左右。

# %%
beta = 0.25
on_device = {k: v.to(device) for k, v in data.batch(np.arange(64)).items()}
hard_labels = {k: v for k, v in on_device.items() if k != "preference_prob"}
with torch.no_grad():
    for batch in (on_device, hard_labels):
        total, count = dpo_step(beta)(base, batch)["loss"]
        print(round((total / count).item(), 4))
        assert abs((total / count).item() - math.log(2)) < 1e-4
floor = -(q * q.log() + (1 - q) * (1 - q).log()).mean().item()
ceiling = 1 - ties / 2
print(round(floor, 3), round(ceiling, 2))
assert abs(floor - 0.614) < 0.003 and abs(ceiling - 0.78) < 0.01

# %% [markdown] lang="en"
# ## The training, written out
# First the loss of a batch. Chosen and rejected rows go through the network together. `sequence_logps` ([chapter 8](08_tensors.ipynb)) sums the log-probabilities of the answer's tokens. The rest is line 8.

# %% [markdown] lang="zh"
# ## 训练，全写出来
# 先写一个批次的损失。chosen 与 rejected 拼在一起过一遍网络；`sequence_logps`（[第 8 章](08_tensors.ipynb)）把回答各词元（token）的对数概率加起来；剩下的就是第 8 行。


# %%
def dpo_loss(model, batch, beta):
    ids = torch.cat((batch["chosen_ids"], batch["rejected_ids"]))  # (2B, T)
    mask = torch.cat((batch["chosen_mask"], batch["rejected_mask"]))  # (2B, T)
    chosen, rejected = sequence_logps(model(ids), ids, mask).chunk(2)  # (B,) each
    chosen_rewards = beta * (chosen - batch["ref_chosen_logps"])
    rejected_rewards = beta * (rejected - batch["ref_rejected_logps"])
    h, q = chosen_rewards - rejected_rewards, batch["preference_prob"]
    return (-q * logsigmoid(h) - (1 - q) * logsigmoid(-h)).mean()


with torch.no_grad():
    total, count = dpo_step(beta)(nudged, on_device)["loss"]  # nudged: not ln 2
    assert torch.isclose(dpo_loss(nudged, on_device, beta), total / count)

# %% [markdown] lang="en"
# Around it goes the loop of [chapter 3](03_sft.ipynb): a batch, its loss, the gradient, a step of AdamW, whose learning rate warms up and then falls.

# %% [markdown] lang="zh"
# 外面套上[第 3 章](03_sft.ipynb)的循环：取一个批次，算损失，求梯度，用 AdamW 走一步；学习率先预热，再降下来。


# %%
def train_by_hand(model, batch_at, beta, config):
    """The training of this chapter; returns the loss of every step."""
    adamw = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=0.0)
    losses = []
    for step in range(config.steps):
        factor = learning_rate_factor(step, config.steps, config.warmup)
        adamw.param_groups[0]["lr"] = config.learning_rate * factor
        batch = {k: v.to(device) for k, v in batch_at(step).items()}
        loss = dpo_loss(model, batch, beta)
        adamw.zero_grad()
        loss.backward()
        adamw.step()
        losses.append(loss.item())
    return losses


short = LoopConfig(steps=12, learning_rate=3e-4, warmup=4, log_every=1)
batch_at, twins = data.batches(64, seed=0), [copy.deepcopy(base) for _ in range(2)]
by_hand = train_by_hand(twins[0], batch_at, beta, short)
by_library = train(twins[1], batch_at, dpo_step(beta), short, progress=False)
assert np.allclose(by_hand, [line["loss"] for line in by_library], atol=1e-3)
assert by_hand[-1] < by_hand[0] - 0.01

# %% [markdown] lang="en"
# Twelve steps by hand and twelve of the library's `train` have the same losses. From here on the library's does the work; it also notes metrics and resumes a run that was killed.

# %% [markdown] lang="zh"
# 手写的循环走十二步，库里的 `train` 走十二步，损失一样。往下就用库里的：它会记录指标，中断了还能接着跑。

# %% [markdown] lang="en"
# ## Three hundred steps
# $\beta=0.25$, AdamW at 3e-4, 64 pairs a step, 300 steps, so that every pair is used once.
#
# > **Before you run it.** Training favours the chosen answers over the rejected ones. Which way will the log-probability of the *chosen* ones move?
#
# <details><summary>Answer</summary>
#
# Down. The loss sees only the difference of the two log-ratios, so both may fall if the rejected one falls further; the next section says why they do.
#
# </details>

# %% [markdown] lang="zh"
# ## 三百步
# $\beta=0.25$，AdamW，学习率 3e-4，每步 64 对，300 步，每一对恰好用一次。
#
# > **先猜一猜。** 训练偏袒 chosen，压低 rejected。chosen 自己的对数概率，会往哪边走？
#
# <details><summary>答案</summary>
#
# 往下走。损失只看两个对数比的差，只要 rejected 降得更多，两个都降也行。为什么真会这样，下一节讲。
#
# </details>

# %% tags=["nbval-ignore-output"]
config = LoopConfig(steps=300, learning_rate=3e-4, log_every=10)
policy = copy.deepcopy(base)
history = train(policy, batch_at, dpo_step(beta), config)
last = {
    name: float(np.mean([line[name] for line in history[-5:]])) for name in history[0]
}
assert last["loss"] - floor < 0.02 and abs(last["rewards/accuracies"] - ceiling) < 0.05

# %% [markdown] lang="en"
# The metrics have the names of the TRL library. Let us predict them before looking. At the optimum the implicit reward of an answer is its true reward minus
#
# $$V(x)=\beta\log Z(x)=\beta\log\sum_y\pi_{\mathrm{ref}}(y\mid x)\,e^{r(x,y)/\beta}$$
#
# (line 5). The population's rates are known for every prompt; so is $V$, and so is the value that each curve should reach.

# %% [markdown] lang="zh"
# 指标沿用 TRL 库的叫法。看之前，先预言。在最优解处，一个回答的隐式奖励，等于真实奖励减去
#
# $$V(x)=\beta\log Z(x)=\beta\log\sum_y\pi_{\mathrm{ref}}(y\mid x)\,e^{r(x,y)/\beta}$$
#
# （第 5 行）。作者群体的各种比例，每个提示都算得出来，所以 $V$ 算得出来，每条曲线该停在哪里也算得出来。

# %%
class_reward = class_rewards("style+exact")  # (2, 2): [three numbers?, exact?]
classes = class_problem(task, "style+exact")  # a prompt's four classes as answers
V = beta * tabular.log_partition(classes, beta)  # one number a prompt
V_of = dict(zip(task.prompt_distribution, V.tolist()))


def true_reward(prompts, answers):
    verdicts = map(judge, prompts, answers)
    return np.array([class_reward[int(v.style), int(v.exact)] for v in verdicts])


V_here = np.array([V_of[prompt] for prompt in data.prompt])
implied, ref_logps, predicted = {}, {}, {}  # at the optimum, of each side
for side in ("chosen", "rejected"):
    implied[side] = true_reward(data.prompt, getattr(data, side)) - V_here
    ref_logps[side] = np.array(getattr(data, f"ref_{side}_logps"))
    predicted[f"rewards/{side}"] = implied[side].mean()
    predicted[f"logps/{side}"] = (ref_logps[side] + implied[side] / beta).mean()

# %% tags=["nbval-ignore-output"]
predicted["rewards/margins"] = (
    predicted["rewards/chosen"] - predicted["rewards/rejected"]
)
predicted |= {"loss": floor, "rewards/accuracies": ceiling}
order = sorted(predicted, key=list(history[0]).index)
rows = [(n, (history[0][n], last[n], float(predicted[n]))) for n in order]
table(("start", "end", "predicted"), rows)
assert abs(last["rewards/margins"] - predicted["rewards/margins"]) < 0.15
assert abs(last["logps/chosen"] - predicted["logps/chosen"]) < 0.6
assert abs(last["logps/rejected"] - predicted["logps/rejected"]) < 0.9

# %% tags=["figure"] alt_en="Two panels over 300 training steps, measured curves with dashed lines for the predicted values. Left: the loss falls from the line of ln 2 to its floor at about 0.61. Right: the log-probability of the chosen answers falls from about -6 to its dashed line at about -7.4; that of the rejected ones from about -5.3 to its line at about -8.9." alt_zh="左右两幅，横轴是 300 个训练步，实测曲线旁边有虚线表示预言值。左：损失从 ln 2 那条线降到 0.61 左右的下界。右：chosen 的对数概率从 -6 左右降到 -7.4 左右的虚线；rejected 的从 -5.3 左右降到 -8.9 左右的虚线。"
steps = [line["step"] for line in history]
dashed = {"color": COLORS["theory"], "linestyle": "--", "linewidth": 1.4}


@picture
def training_curves(say):
    fig, (left, right) = figure(columns=2, width=6.8, height=3.1)
    left.plot(steps, [line["loss"] for line in history], color=COLORS["policy"])
    for value, height, words in (
        (math.log(2), 0.696, say("no opinion yet: ln 2", "还没有看法：ln 2")),
        (floor, 0.603, say("floor: label entropy", "下界：标签的熵")),
    ):
        left.axhline(value, **dashed)
        left.text(60, height, words, color=COLORS["theory"])
    left.set(ylim=(0.597, 0.71), ylabel=say("DPO loss (nats)", "DPO 损失（奈特）"))
    for side, height in (("chosen", -6.6), ("rejected", -9.55)):
        curve = [line[f"logps/{side}"] for line in history]
        right.plot(steps, curve, color=COLORS[side])
        right.axhline(predicted[f"logps/{side}"], **dashed)
        right.text(300, height, side, ha="right", color=COLORS[side])
    right.set(
        ylim=(-9.9, -4.9), ylabel=say("log-probability (nats)", "对数概率（奈特）")
    )
    for panel in (left, right):
        panel.set_xlabel(say("training step", "训练步"))


# %% [markdown] lang="en"
# **Figure 9.1.** A whole DPO training (solid) and what the closed form predicts (dashed). Every curve settles near its prediction, the falling one included.

# %% [markdown] lang="zh"
# **图 9.1** 一次完整的 DPO 训练（实线）与闭式解（closed form）的预言（虚线）。每条曲线都停在预言附近，连 chosen 往下掉的那条也是。

# %% [markdown] lang="en"
# ## The chosen answer loses probability
# People who train with DPO ask about the falling `logps/chosen` again and again, and it has a name, **likelihood displacement** ([Pal et al. 2024](https://arxiv.org/abs/2402.13228); [Razin et al. 2025](https://arxiv.org/abs/2410.08847)). [Chapter 7](07_derivation.ipynb) proves two statements about it. Here we measure them.
#
# **An average answer of the reference must fall,** under any policy that has moved at all: the mean of $\Delta=\log(\pi/\pi_{\mathrm{ref}})$ over the reference's answers is $-\mathrm{KL}(\pi_{\mathrm{ref}}\,\|\,\pi)$. Both answers of our pairs are such draws. If $\overline m$ is the mean difference of their two log-ratios, $m=\Delta(y_w)-\Delta(y_l)$, then the means over the pairs are
#
# $$\overline{\Delta}_w=\tfrac12\,\overline m-\mathrm{KL}(\pi_{\mathrm{ref}}\,\|\,\pi),\qquad\overline{\Delta}_l=-\tfrac12\,\overline m-\mathrm{KL}(\pi_{\mathrm{ref}}\,\|\,\pi).$$
#
# So chosen answers fall as soon as this KL exceeds half of $\overline m$. We measure the KL on fresh answers that were in no pair, and the left-hand sides on the pairs.
#
# > **Before you run it.** Our network is not the optimum. Must the two sides agree all the same?
#
# <details><summary>Answer</summary>
#
# Yes: the line holds for any policy. What is left is chance, and that the pairs were trained on.
#
# </details>

# %% [markdown] lang="zh"
# ## chosen 的概率也在降
# `logps/chosen` 会降，用 DPO 训练的人一次次问起的就是这件事。它有个名字，叫**似然位移**（likelihood displacement，[Pal et al. 2024](https://arxiv.org/abs/2402.13228)、[Razin et al. 2025](https://arxiv.org/abs/2410.08847)）。[第 7 章](07_derivation.ipynb)就此证明了两句话，这里来量。
#
# **参考策略自己的回答，平均起来必降**，策略只要动过，都是如此：$\Delta=\log(\pi/\pi_{\mathrm{ref}})$ 对参考策略的回答取平均，等于 $-\mathrm{KL}(\pi_{\mathrm{ref}}\,\|\,\pi)$。我们的偏好对，两个回答都是这样抽来的。一对里两个对数比的差记作 $m=\Delta(y_w)-\Delta(y_l)$，它的平均是 $\overline m$，那么对所有偏好对取平均
#
# $$\overline{\Delta}_w=\tfrac12\,\overline m-\mathrm{KL}(\pi_{\mathrm{ref}}\,\|\,\pi),\qquad\overline{\Delta}_l=-\tfrac12\,\overline m-\mathrm{KL}(\pi_{\mathrm{ref}}\,\|\,\pi)$$
#
# 所以这个 KL 一超过 $\overline m$ 的一半，chosen 就降。KL 用另抽的回答来量，它们不在任何一对里；等号左边在偏好对上量。
#
# > **先猜一猜。** 网络还没到最优解，等号两边也非得相等吗？
#
# <details><summary>答案</summary>
#
# 非相等不可：这条式子对哪个策略都成立。剩下的一点出入，一来是抽样的偶然，二来这些偏好对训练时见过。
#
# </details>


# %% tags=["nbval-ignore-output"]
def log_ratio(model, prompts, answers):
    """Delta of each answer: log π - log π_ref."""
    return (score(model, prompts, answers) - score(base, prompts, answers)).double()


asked, drawn = own_answers(base, task, n=4_000, seed=8)  # answers that are in no pair
fresh = -log_ratio(policy, asked, drawn)
delta = {side: log_ratio(policy, data.prompt, getattr(data, side)) for side in implied}
forward = fresh.mean().item()  # KL(ref || policy)
m = (delta["chosen"] - delta["rejected"]).mean().item()
both_sides = {"chosen": m / 2 - forward, "rejected": -m / 2 - forward}
rows = [(side, (delta[side].mean().item(), both_sides[side])) for side in both_sides]
table(("on pairs", "m/2, KL"), rows)
for side in both_sides:
    gap = abs(delta[side].mean() - both_sides[side])
    assert gap < 0.15 + 3 * fresh.std() / 4_000**0.5
assert forward > m / 2 > 0  # so the chosen answers fall

# %% [markdown] lang="en"
# **Some chosen answers should fall further.** At the optimum an answer gains probability exactly if its reward exceeds $V(x)$ (equation 6.12), the soft maximum of the rewards within the base model's reach. On average $V$ is about 1.6 here. A chosen answer with one point won its comparison and is still below $V$: it must become rarer. That is so for about 60 % of them.
#
# So a falling `logps/chosen` alone is no alarm. The question, which no training curve answers, is where the probability goes.

# %% [markdown] lang="zh"
# **有些 chosen 该降得更多。** 在最优解处，一个回答的概率上升，当且仅当奖励高于 $V(x)$（式 6.12），即基座模型（base model）够得着的奖励的软最大值。这里 $V$ 平均约 1.6。一个只有一分的 chosen，虽说赢了对手，仍在 $V$ 之下，理应变少。这样的 chosen 约占 60%。
#
# 所以单看 `logps/chosen` 下降，用不着慌。要问的是概率去了哪里，而训练曲线不会说。

# %% tags=["proof"] checked_en="Checked: the mean of V, the share of chosen answers below it, and that they fall." checked_zh="已验证：V 的平均，chosen 里低于 V 的比例，以及 chosen 确实下降。"
must_lose = (implied["chosen"] < 0).mean()
assert abs(V_here.mean() - 1.6) < 0.05 and abs(must_lose - 0.60) < 0.02
assert last["logps/chosen"] < ref_logps["chosen"].mean() - 0.5  # measured: it falls

# %% [markdown] lang="en"
# ## Held against the prediction
# The curves are about the pairs. What does the new policy write? Here is the prediction, averaged over the population's prompts, and what 2,000 fresh prompts say, with half the width of 95 % intervals.

# %% [markdown] lang="zh"
# ## 同预言对账
# 曲线说的都是那些偏好对。我们想知道的，是新策略会写出什么。闭式解对群体的提示取平均，就是预言。旁边是 2,000 个新提示上的实测，± 后面是 95% 置信区间（confidence interval）的半宽。

# %% tags=["nbval-ignore-output"]
truth = rl.checker(task, "style+exact")  # the reward of each answer


def measure(model):
    options = {"n": 2_000, "seed": 7, "reference": base, "reward": truth, "beta": beta}
    return evaluate(model, task, **options)


def pm(estimate):
    return f"{estimate.value:.2f}±{(estimate.high - estimate.low) / 2:.2f}"


theory = predicted_optimum(task, "style+exact", beta)
measured = {"base": measure(base), "dpo": measure(policy)}
rows = [("optimum", [float(theory[name]) for name in theory])]
rows += [
    (model, [pm(report[name]) for name in theory]) for model, report in measured.items()
]
table(theory, rows, width=8)
live = {name: measured["dpo"][name].value for name in (*theory, "reward", "J")}
assert abs(live["style"] - theory["style"]) < 0.05
assert 0.8 < live["exact"] < theory["exact"] - 0.03
assert live["kl"] > theory["kl"] + 0.2 and measured["dpo"]["well_formed"].value > 0.99
shown = [f"{theory[name]:.2f}" for name in ("style", "exact", "both", "kl")]
assert shown == ["0.96", "0.99", "0.95", "1.26"]

# %% [markdown] lang="en"
# The style lands on the prediction, 96 %. Right values rise from 75 % but stop short of 99 %, and the policy has moved further than the optimum needs: more KL, less reward. Where is the gap?
#
# Sort the wrong answers. A *slip* is one that some author writes: ten too large. Everything else is *new*: a wrong text that no author ever writes.

# %% [markdown] lang="zh"
# 写三个数的比例正好是预言的 96%。答案正确的从 75% 升上来了，却没到 99%；策略走得也比最优解需要的更远：KL 更多，奖励反而更少。差在哪里？
#
# 把错的回答分成两类：「失误」（slip）是有作者会写的错，结果多了十；其余都是「新错」，没有哪个作者会这样写。


# %% tags=["nbval-ignore-output"]
def wrong_answers(model):
    prompts, _ = task.demonstrations(2_000, stream("evaluate", 7))  # those of `measure`
    texts = zip(prompts, generate(model, prompts, seed=7))
    wrong = [text for text in texts if not judge(*text).exact]
    new = [text for text in wrong if text not in task.log_conditional]
    return (len(wrong) - len(new)) / 2_000, len(new) / 2_000, new


for name, model in (("base", base), ("dpo", policy)):
    slips, new, examples = wrong_answers(model)
    print(f"{name:5} slips {slips:.3f}  new {new:.3f} ", *map("".join, examples[:3]))
    if name == "base":
        assert slips > 0.2 and new < 0.02
assert slips < 0.05 and new > 2 * slips
values = [(judge(*text).value, read_prompt(text[0])) for text in examples]
by_ten = [abs(value - target) == 10 for value, target in values if value is not None]
assert np.mean(by_ten) > 0.5
in_pairs = zip(data.prompt * 2, data.chosen + data.rejected)
rare = [t not in task.log_conditional and not judge(*t).exact for t in in_pairs]
assert np.mean(rare) < 0.02

# %% [markdown] lang="en"
# DPO has done what it was shown. The slips, a quarter of the base model's answers, are nearly gone. What came instead are new mistakes, most of them off by exactly ten in a way that no author slips. The base model makes them in fewer than 2 % of its answers, so the pairs hardly contain them.
#
# The leash should hold them. But DPO enforces the leash through pairs, too: where no pair looks, nothing holds. (“Where the probability goes”, below, adds it up.)

# %% [markdown] lang="zh"
# 给 DPO 看过的，它都做到了：占基座模型回答四分之一的失误，几乎绝迹。取而代之的是新错，大多恰好差十，却不是作者失误的那种差法。基座模型写出这种错的不到 2%，偏好对里几乎没有。
#
# 按说有绳子拴着。可是 DPO 的绳子也要靠偏好对来拉：没有一对覆盖到的地方，就什么也拉不住。（究竟流走了多少，后面「概率去了哪里」逐条加了出来。）

# %% [markdown] lang="en"
# <!-- lab: train -->
#
# ## A yardstick, and rivals that need no preference loss
# Is this run good? A share says little by itself: style can be bought with exactness, and both with KL. Line 3 says what we wanted, so $J$, with $\beta=0.25$, is the yardstick from here on.
#
# Four rivals need no preference loss, and each has a closed form.
#
# - **The base model.** No KL, and a reward of 0.30 + 0.75.
# - **Best of $n$.** Draw $n$ answers, let the checker pick one ([chapter 6](06_objective.ipynb)). No training; every answer costs $n$ draws and a judge.
# - **Imitation of the winners.** Fine-tune on the chosen answers of the file (SFT). An answer of probability $p$ is chosen with probability $2p\,P(\text{worse})+p\,P(\text{equal})$: it beats a worse one, drawn first or second, or it ties and is taken half of the time. That is the best of 2.
# - **Imitation without the ties.** The winner of a tie won nothing; leave it out. What remains is $2p\,P(\text{worse})$, divided by its sum over all answers.

# %% [markdown] lang="zh"
# <!-- lab: train -->
#
# ## 一把尺子，和用不着偏好损失的对手
# 这次训练算好吗？单看一个比例说明不了什么：风格可以拿正确率去换，两样又都可以拿 KL 去换。我们要什么，第 3 行说得清楚，所以后面一律用 $J$ 来量，$\beta=0.25$。
#
# 有四个对手用不着偏好损失，每一个都有闭式解。
#
# - **基座模型。** KL 为零，奖励是 0.30 + 0.75。
# - **best-of-$n$。** 抽 $n$ 个回答，由判分程序挑一个（[第 6 章](06_objective.ipynb)）。不用训练，但每答一次都要抽 $n$ 回、评一回。
# - **模仿赢家。** 只拿文件里的 chosen 做监督微调（SFT）。概率为 $p$ 的回答，成为 chosen 的概率是 $2p\,P(\text{更差})+p\,P(\text{同分})$：先抽到也好，后抽到也好，赢过更差的；或者打平，有一半机会被选上。这就是 best-of-2。
# - **丢掉平局再模仿。** 平局里的「赢家」什么也没赢，不要它。剩下 $2p\,P(\text{更差})$，再除以它对所有回答的总和。

# %%
ref_probs, worth = classes.ref_logps.exp(), classes.reward  # (prompts, 4) each
worse = ((worth[:, None, :] < worth[:, :, None]) * ref_probs[:, None, :]).sum(-1)
untied = (ref_probs * worse).log()
class_logps = {
    "base model": classes.ref_logps,
    "imitation": tabular.best_of_n(classes, 2),
    "imitation, no ties": untied - untied.logsumexp(-1, keepdim=True),
    "best of 4": tabular.best_of_n(classes, 4),
    "best of 8": tabular.best_of_n(classes, 8),
    "optimum": tabular.optimal_policy(classes, beta),
}
ends = {name: predicted_shares(task, logps) for name, logps in class_logps.items()}
for end in ends.values():
    end["reward"] = end["style"] + end["exact"]
    end["J"] = end["reward"] - beta * end["kl"]
COLUMNS = ("J", "reward", "kl", "style", "exact")
table(
    COLUMNS, [(name, [end[column] for column in COLUMNS]) for name, end in ends.items()]
)
J_of = [f"{end['J']:.2f}" for end in ends.values()]
assert J_of == ["1.05", "1.33", "1.51", "1.52", "1.63", "1.64"]

# %% [markdown] lang="en"
# Dropping the ties is free, and lifts the end of imitation from 1.33 to 1.51. DPO with soft labels is heading for 1.64: there are 0.13 to be won, if the training gets there. The best of 8 is all but there, and costs eight draws an answer for ever.
#
# > **Before you run it.** Train an imitator: the same start, file, steps, batch and learning rate, ties kept. By $J$, which is ahead, it or DPO?
#
# <details><summary>Answer</summary>
#
# Neither: their intervals overlap. DPO has half a point more reward, and has paid all of it in KL.
#
# </details>

# %% [markdown] lang="zh"
# 丢掉平局没有代价，模仿的终点就从 1.33 升到 1.51。用软标签的 DPO，奔的是 1.64：还有 0.13 可赚，前提是训练真能走到。best-of-8 几乎到了，代价是往后每答一次都得抽八回。
#
# > **先猜一猜。** 训练一个模仿者：起点、文件、步数、批量、学习率都一样，平局留着。按 $J$ 算，它和 DPO 哪个领先？
#
# <details><summary>答案</summary>
#
# 都不领先：两个区间重叠。DPO 的奖励多了半分，又全被 KL 惩罚扣掉了。
#
# </details>


# %% tags=["nbval-ignore-output"]
def imitation_batch(step):
    batch = batch_at(step)
    return {"input_ids": batch["chosen_ids"], "completion_mask": batch["chosen_mask"]}


imitator = copy.deepcopy(base)
train(imitator, imitation_batch, sft_step, config)
measured["imitation"] = measure(imitator)
rows = [("imitation, predicted", [ends["imitation"][name] for name in COLUMNS])]
for model in ("imitation", "dpo"):
    rows.append((model, [pm(measured[model][name]) for name in COLUMNS]))
table(COLUMNS, rows)
imitated = {name: measured["imitation"][name].value for name in COLUMNS}
assert all(abs(imitated[name] - ends["imitation"][name]) < 0.09 for name in COLUMNS)
assert 0.4 < live["reward"] - imitated["reward"] < 0.6  # half a point
assert 1.6 < live["kl"] - imitated["kl"] < 2.4  # two nats
assert measured["dpo"]["J"].low < measured["imitation"]["J"].high  # DPO is not ahead

# %% [markdown] lang="en"
# DPO has half a point more reward, has paid for it with about two nats, and by its own objective is not ahead. A run that looked like a success is no better than copying the winners. (Of three recorded below, two are better, by at most 0.06.)
#
# Why try to do better, then? Because of where the roads end. Imitation ends at the better of two samples of the base model. DPO's end is set by $\beta$, not by the sampler: it extrapolates from who wins to how much better, and multiplies by $e^{r/\beta}$. Here two points of reward are a factor of $e^8$, about 3,000. What reaches so far can also overshoot.

# %% [markdown] lang="zh"
# DPO 的奖励多了半分，代价是两奈特左右的 KL，按它自己的目标算，并没有领先。看着像是成功的一次训练，并不比模仿赢家好。（后面录下的三次里，有两次好一点，最多 0.06。）
#
# 那还图什么？图的是两条路通向哪里。模仿的终点，不过是基座模型的样本二选一。DPO 的终点由 $\beta$ 决定，与怎么采样无关：它从胜负推断好出多少，再乘上 $e^{r/\beta}$。这里两分奖励就是 $e^8$ 倍，约 3,000 倍。伸得这么远，也就容易冲过头。

# %% tags=["proof"] checked_en="Checked: the factor of two points." checked_zh="已验证：两分奖励的倍数。"
assert abs(math.exp(2 / beta) - 3_000) < 50

# %% [markdown] lang="en"
# ## One setting away
# Our labels said how sure they are. Most preference data do not: a judge names a winner. Three kinds of label ([chapter 5](05_preferences.ipynb)) look alike in a file.
#
# | label | value of $q$ | ties | what minimises the loss |
# |---|---|---|---|
# | **soft** | the Bradley–Terry probability | $q=\frac12$ | $\pi^*$ |
# | **sampled** | one draw from it, so $q=1$ after ordering | the coin decides | $\pi^*$, on average over the draws |
# | **deterministic** | $q=1$ for the better answer | dropped | no policy: every larger margin is better, at every $\beta$ |
#
# Human data are nearest to *sampled*: people disagree. A checker or a reward model that always names the better one is *deterministic*. Stretch the margins of $\pi^*$ on the three answers by a factor, and watch the loss:

# %% [markdown] lang="zh"
# ## 只差一个设置
# 我们的标签说明了有几分把握。多数偏好数据不说：裁判只点出胜者。有三种标签（[第 5 章](05_preferences.ipynb)），存进文件看起来差不多。
#
# | 标签 | $q$ 的值 | 平局 | 什么策略使损失最小 |
# |---|---|---|---|
# | **软标签**（soft） | Bradley–Terry 概率 | $q=\frac12$ | $\pi^*$ |
# | **采样标签**（sampled） | 按这个概率抽一次，排好序后 $q=1$ | 抛硬币 | 对抽签取平均，还是 $\pi^*$ |
# | **确定性标签**（deterministic） | 较好的一方 $q=1$ | 丢弃 | 没有：不论 $\beta$ 多大，间隔总是越大越好 |
#
# 人类数据最接近采样标签：各人看法不一。判分程序和奖励模型每次都点得出哪个更好，给的是确定性标签。还用那三个回答：把 $\pi^*$ 的间隔拉长几倍，看损失怎么变。

# %%
stretched, coin = {}, torch.Generator().manual_seed(0)
first_wins = torch.rand(100_000, 3, generator=coin) < toy_label  # one draw of each pair
for stretch in (1, 2, 4, 8):
    h = stretch * true_gap
    soft = -(toy_label * logsigmoid(h) + (1 - toy_label) * logsigmoid(-h)).mean().item()
    sampled_loss = -logsigmoid(torch.where(first_wins, h, -h)).mean().item()
    stretched[f"margins x {stretch}"] = soft, sampled_loss, -logsigmoid(h).mean().item()
    assert abs(soft - sampled_loss) < 0.02
table(("soft", "sampled", "determ."), stretched.items(), width=12)
by_kind = list(zip(*stretched.values()))
assert min(by_kind[0]) == by_kind[0][0] and min(by_kind[1]) == by_kind[1][0]
assert list(by_kind[2]) == sorted(by_kind[2], reverse=True) and by_kind[2][-1] < 0.001

# %% [markdown] lang="en"
# Soft labels punish an exaggerated margin, deterministic ones reward it without end. [Azar et al. 2024](https://arxiv.org/abs/2310.12036) state it for DPO: the more deterministic the preferences, the weaker the leash.
#
# Now the network: the same pairs, ties dropped, the better answer always wins. Those left serve nearly twice in 300 steps.
#
# > **Before you run it.** What will become of the loss, of `rewards/accuracies`, of the share of right values, and of the mean reward?
#
# <details><summary>Answer</summary>
#
# The loss falls far below 0.614, the accuracy goes to 1, the reward rises, and fewer values are right than before the training.
#
# </details>

# %% [markdown] lang="zh"
# 间隔夸大了，软标签会罚；确定性标签却是间隔越大损失越小，没有止境。[Azar et al. 2024](https://arxiv.org/abs/2310.12036) 就 DPO 指出：偏好越确定，KL 的约束越松。
#
# 放到网络上试。还是那些偏好对，丢掉平局，好的一方必胜；剩下的，300 步里各用近两次。
#
# > **先猜一猜。** 损失、`rewards/accuracies`、答案正确的比例、平均奖励，各会怎样？
#
# <details><summary>答案</summary>
#
# 损失远远降到 0.614 以下，准确率趋近 1，奖励上升，答案正确的却比训练前还少。
#
# </details>

# %% tags=["nbval-ignore-output"]
decided = np.flatnonzero(np.array(data.preference_prob) > 0.5)
untied_pairs = data.take(decided)
columns = {field.name: getattr(untied_pairs, field.name) for field in fields(Pairs)}
hard = Pairs(**columns | {"preference_prob": [1.0] * len(decided)})
hard_policy = copy.deepcopy(base)
hard_history = train(hard_policy, hard.batches(64, seed=0), dpo_step(beta), config)
measured["hard"] = measure(hard_policy)
NAMED = ("loss", "rewards/accuracies", "rewards/margins", "logps/chosen")
hard_first, hard_last = hard_history[0], hard_history[-1]
rows = [(name, (hard_first[name], hard_last[name])) for name in NAMED]
table(("start", "end"), rows)
table(COLUMNS, [("hard", [pm(measured["hard"][name]) for name in COLUMNS])], width=6)

# %% tags=["proof"] checked_en="Checked: each thing that the next paragraph says of this run." checked_zh="已验证：下一段就这次训练说的每一句。"
true_margin = float((implied["chosen"] - implied["rejected"])[decided].mean())
slips, new, _ = wrong_answers(hard_policy)
bad, start = measured["hard"], measured["base"]
assert 1.7 < 300 * 64 / len(decided) < 1.9  # how often each pair is used
assert hard_last["rewards/accuracies"] > 0.95 and hard_last["loss"] < 0.25
assert hard_last["rewards/margins"] > 2 * true_margin and slips < 0.02
assert hard_last["logps/chosen"] < hard_first["logps/chosen"] - 4
assert bad["exact"].value < start["exact"].value - 0.05 and bad["style"].value > 0.9
assert bad["kl"].value > 2.5 * theory["kl"] and bad["J"].high < start["J"].low
assert bad["reward"].low > start["reward"].high  # the reward has risen

# %% [markdown] lang="en"
# The loss is low, the accuracy near 1, the mean margin more than twice the true difference of rewards. And the model is ruined: fewer right values than the base model, nearly all mistakes new ones, more than 4 nats lost on the chosen answers, and a $J$ below the base model's.
#
# One thing has *not* fallen: the mean reward. A wrong answer of three numbers earns a point, and nearly all have three numbers now. So what is the right word?
#
# - **Over-optimisation** is the wide one: a better score on the proxy, here the loss on the pairs, goes with less of what was wanted, here $J$ and exactness.
# - **Reward hacking** is narrower: the *true reward* falls while the proxy rises ([chapter 12](12_rl.ipynb)).
#
# This run is over-optimised and not hacked: the reward was too lenient to notice, the KL was not. In language models, too, losses like DPO's “commonly deteriorate from over-optimization” ([Rafailov et al. 2024](https://arxiv.org/abs/2406.02900)), often before an epoch is over.
#
# The picture adds the shipped `dpo`; its recipe comes at the end.

# %% [markdown] lang="zh"
# 损失很低，准确率接近 1，平均间隔是真实奖励差的两倍以上。模型却毁了：答案正确的比基座模型还少，错的几乎全是新错，chosen 的对数概率掉了 4 奈特以上，$J$ 低于基座模型。
#
# 有一样没有降：平均奖励。三个数而算错，也得一分，如今几乎全写三个数。那该怎么叫它？
#
# - **过度优化**（over-optimisation）说得宽：代理指标（proxy）的分数涨了，真正想要的反而少了。这里代理指标是偏好对上的损失，想要的是 $J$ 和正确率。
# - **奖励作弊**（reward hacking，又译奖励黑客）说得窄：代理指标在升，「真实的奖励」在跌（[第 12 章](12_rl.ipynb)）。
#
# 这次训练是过度优化，不是奖励作弊：奖励太宽松，没有察觉；察觉的是 KL。语言模型也一样：DPO 这一类损失「commonly deteriorate from over-optimization」（常因过度优化而变差，[Rafailov et al. 2024](https://arxiv.org/abs/2406.02900)），往往一遍数据还没过完就开始了。
#
# 下一张图里，再添上随书的 `dpo`。它的配方留到本章末尾说。

# %% tags=["nbval-ignore-output"]
shipped = load_pretrained("dpo").to(device)
measured["shipped"] = measure(shipped)
MODELS = ("base", "imitation", "dpo", "shipped", "hard")
rows = [(name, [pm(measured[name][column]) for column in COLUMNS]) for name in MODELS]
table(COLUMNS, rows, width=10)
best = measured["shipped"]
assert abs(best["style"].value - theory["style"]) < 0.03 and best["exact"].value > 0.88
assert best["kl"].value > theory["kl"] and best["well_formed"].value > 0.995
assert best["J"].low > measured["imitation"]["J"].high
bars = {}  # of each measure, how `errorbar` wants it
for name in ("style", "exact", "J"):
    found = [measured[model][name] for model in MODELS]
    reach = [[e.value - e.low for e in found], [e.high - e.value for e in found]]
    bars[name] = {"x": [e.value for e in found], "y": range(5), "xerr": reach}


# %% tags=["figure"] alt_en="Two panels with five rows: base model, imitation, this chapter's DPO, the shipped DPO, DPO with deterministic labels. Left, shares: squares for three numbers, discs for the right value, dashed lines where the optimum has them, near the right edge. Imitation has more right values than the base model and little more style. Both DPO models are at the line for style; the shipped one nearly at the line for right values, the chapter's short of it; with deterministic labels right values are fewer than in the base model. Right, J: imitation and the chapter's DPO level at about 1.3, the shipped DPO near the optimum at 1.6, deterministic labels far below the base model." alt_zh="左右两幅，各五行：基座模型、模仿、本章的 DPO、随书的 DPO、确定性标签的 DPO。左边是比例：方块是写三个数的，圆点是答案正确的，虚线是最优解的位置，靠近右边缘。模仿的正确率比基座模型高，风格只高一点。两个 DPO 的风格都在线上；答案正确的，随书的几乎到线，本章的还差一截；确定性标签的比基座模型还少。右边是 J：模仿与本章的 DPO 持平，在 1.3 上下；随书的 DPO 靠近最优解，在 1.6 上下；确定性标签远低于基座模型。"
@picture
def five_models(say):
    fig, (left, right) = figure(columns=2, width=6.8, height=3.3)
    kinds = {
        "style": ("s", "policy", say("three numbers", "写三个数")),
        "exact": ("o", "chosen", say("right value", "答案正确")),
    }
    for name, (marker, color, words) in kinds.items():
        left.axvline(theory[name], color=COLORS[color], linestyle="--", linewidth=1.2)
        left.errorbar(**bars[name], fmt=marker, color=COLORS[color])
        place = bars[name]["x"][0], -0.3
        left.text(*place, words, ha="center", fontsize=9, color=COLORS[color])
    right.errorbar(**bars["J"], fmt="o", color=COLORS["policy"], capsize=3)
    right.axvline(ends["optimum"]["J"], **dashed)
    for panel in (left, right):
        panel.set(ylim=(4.5, -0.9), yticks=[])
    words = say(
        "base model,imitation,DPO here,shipped DPO,DPO with\nhard labels",
        "基座模型,模仿,本章的 DPO,随书的 DPO,确定性标签的 DPO",
    )
    left.set_yticks(range(5), words.split(","))
    left.set(xlim=(0.15, 1.03), xlabel=say("share of answers", "占回答的比例"))
    right.set_xlabel(say("objective $J$ (dashed: optimum)", "目标 $J$（虚线：最优解）"))


# %% [markdown] lang="en"
# **Figure 9.2.** Five models, measured on 2,000 prompts; dashed, where the optimum has them. The DPO of this chapter has the optimum's style and imitation's $J$. Deterministic labels get the style and lose everything else.

# %% [markdown] lang="zh"
# **图 9.2** 五个模型在 2,000 个提示上的实测；虚线是最优解的位置。本章的 DPO，风格同最优解，$J$ 同模仿；确定性标签得了风格，别的全丢了。

# %% [markdown] lang="en"
# ## What holds a run
# `dpo_arms.py` and `hot_imitation.py` in `chapters/data` recorded thirteen trainings on one footing: three seeds, each with its own base model, prompts and answers; 300 updates of 64; a learning rate chosen among three, on other draws. The yardstick is $J$ with $\beta=0.25$.
#
# Most of them take the file that ruined us and change one thing. Some give the margin an end: IPO's squared loss, or label smoothing, which counts each label as 0.75. One adds the next-token loss of the chosen answers (the **SFT term**). Others stop early, take another $\beta$, or draw the second answer of each pair **hot**, at temperatures 1.5 and 2.0 in turn. Beside them stand soft labels, and imitation of the same files. (Details: “The arms, one by one”, below.)
#
# > **Before you run it.** Which of the remedies beat imitation of the very same file, ties dropped?
#
# <details><summary>Answer</summary>
#
# One: the SFT term. Soft labels with hot second answers come level, with imitation of their own file too.
#
# </details>

# %% [markdown] lang="zh"
# ## 怎样拉得住
# `chapters/data` 里的 `dpo_arms.py` 和 `hot_imitation.py` 把十三种训练放在同一条起跑线上，录了下来：三个种子，各有各的基座模型、提示和回答；都更新 300 次，每次 64 对；学习率三个里挑一个，挑的时候用另外的抽样。尺子是 $\beta=0.25$ 的 $J$。
#
# 多数做法用的就是把我们毁了的那份文件，每种只改一处。有的给间隔一个尽头：IPO 的平方损失，或者标签平滑，把每个标签当 0.75。有一种加上 chosen 的下一个词元损失（**SFT 项**）。还有的早停，有的换个 $\beta$，有的给每一对的第二个回答**升温**，轮流用温度 1.5 和 2.0 去抽。旁边再放上软标签，以及这几份文件上的模仿。（细节见后面「各种做法，逐个说明」。）
#
# > **先猜一猜。** 丢掉平局，在同一份文件上模仿：有哪几种补救胜得过它？
#
# <details><summary>答案</summary>
#
# 只有一种：SFT 项。软标签配上升温的第二个回答，打了个平手；同它自己那份文件上的模仿比，也是平手。
#
# </details>

# %%
stored = json.loads(Path("data/dpo_arms.json").read_text(encoding="utf-8"))
hot_file = json.loads(Path("data/hot_imitation.json").read_text(encoding="utf-8"))
recorded = stored["runs"] + hot_file["runs"]
ARMS = {
    "sft term": ("hard + SFT term", "硬标签 + SFT 项"),
    "imitation, hot, no ties": ("imitation, hot, no ties", "模仿，升温，丢掉平局"),
    "hot soft": ("soft, hot", "软标签，升温"),
    "imitation, no ties": ("imitation, no ties", "模仿，丢掉平局"),
    "ipo": ("hard, IPO", "硬标签，IPO"),
    "smoothing": ("hard, smoothing", "硬标签，平滑"),
    "dpo soft": ("soft", "软标签"),
    "imitation": ("imitation", "模仿"),
    "beta 1": ("hard, beta 1", "硬标签，β=1"),
    "early stop": ("hard, early stop", "硬标签，早停"),
    "base": ("base model", "基座模型"),
    "hot": ("hard, hot", "硬标签，升温"),
    "dpo deterministic": ("hard", "硬标签"),
    "beta 0.1": ("hard, beta 0.1", "硬标签，β=0.1"),
}
WORDS = {name: words[0] for name, words in ARMS.items()}
copied, hot_copied = "imitation, no ties", "imitation, hot, no ties"
RIVALS = (copied, hot_copied, "imitation", "base")
arms.show(arms.table(recorded, WORDS, ("J", "kl", "style", "exact")))


# %% tags=["figure"] alt_en="Fourteen rows, three points each, one for a seed, on a horizontal axis of J with three dashed lines: base model 1.05, the end of imitation without ties 1.51, optimum 1.64. From below: hard labels with beta 0.1 and hard labels around 0 and less; hard and hot about 0.75; the base model and early stopping about 1.06; beta 1 about 1.2; imitation about 1.3; soft labels, smoothing and IPO between 1.3 and 1.4; imitation without ties 1.46; soft and hot about 1.48; imitation of the hot file 1.49; the SFT term 1.55, the only one beyond the line of imitation." alt_zh="十四行，每行三点，每个点是一个种子；横轴是 J，三条虚线：基座模型 1.05，丢掉平局的模仿的终点 1.51，最优解 1.64。从下往上：硬标签配 beta 0.1 和硬标签在 0 上下或更低；硬标签升温约 0.75；基座模型和早停约 1.06；beta 1 约 1.2；模仿约 1.3；软标签、平滑、IPO 在 1.3 与 1.4 之间；丢掉平局的模仿 1.46；软标签升温约 1.48；升温文件上的模仿 1.49；SFT 项 1.55，只有它越过了模仿那条线。"
@picture
def all_arms(say):
    fig, axes = figure(width=6.4, height=4.6)
    for y, name in enumerate(ARMS):
        J = list(arms.values(recorded, name).values())
        tint = "rejected" if ARMS[name][0].startswith("hard") else "policy"
        color = COLORS["baseline" if name in RIVALS else tint]
        axes.plot(J, [y - 0.15, y, y + 0.15], "o", color=color, markersize=5)
    for end, words in (
        ("base model", say("base", "基座模型")),
        ("imitation, no ties", say("end of\nimitation", "模仿的\n终点")),
        ("optimum", say("  optimum", "　最优解")),
    ):
        axes.axvline(ends[end]["J"], **dashed)
        side = "left" if end == "optimum" else "right"
        axes.text(
            ends[end]["J"], -1.7, words, ha=side, fontsize=9, color=COLORS["theory"]
        )
    axes.set_yticks(range(len(ARMS)), [say(*words) for words in ARMS.values()])
    axes.set(ylim=(13.6, -1.8), xlim=(-0.55, 2.0))
    axes.set_xlabel(
        say("objective $J$, a point for each seed", "目标 $J$，每个点是一个种子")
    )


# %% [markdown] lang="en"
# **Figure 9.3.** Thirteen trainings and the base model by their objective. “Hard”: deterministic labels, ties dropped. Only the SFT term lies beyond both imitations without ties in every seed.

# %% [markdown] lang="zh"
# **图 9.3** 十三种训练和基座模型，按目标 $J$ 排列。「硬标签」指确定性标签，平局丢掉。在每个种子上都胜过两种丢掉平局的模仿的，只有 SFT 项。

# %% tags=["proof"] checked_en="Checked in every seed: which arm beats which, and the spans that the text gives." checked_zh="已对每个种子验证：谁胜过谁，以及正文给出的范围。"
# concluded from the arms
rest = [n for n in ARMS if n not in (copied, hot_copied, "sft term", "hot soft")]
assert len(rest) == 10 and all(arms.beats(recorded, copied, name) for name in rest)
assert arms.beats(recorded, "hot soft", "dpo soft")
assert arms.beats(recorded, hot_copied, copied)  # hot answers help imitation as well
for winners in (copied, hot_copied):
    assert arms.beats(recorded, "sft term", winners)
    assert not arms.beats(recorded, "hot soft", winners)  # level: neither is ahead
    assert not arms.beats(recorded, winners, "hot soft")
assert arms.beats(recorded, "imitation", "base")
assert arms.beats(recorded, "base", "dpo deterministic")
for name in ("ipo", "smoothing", "dpo soft", "hot soft"):  # an end to the margin
    for other in ("base", "early stop", "beta 1", "beta 0.1", "hot"):
        assert arms.beats(recorded, name, other), (name, other)
assert min(arms.values(recorded, "sft term").values()) > ends[copied]["J"]
assert max(arms.values(recorded, copied).values()) < ends[copied]["J"]
assert f"{arms.arm_mean(recorded, copied).value:.2f}" == "1.46"
assert f"{arms.arm_mean(recorded, 'sft term').value:.2f}" == "1.55"
for name in ("ipo", "smoothing", "dpo soft"):
    assert 1.3 < arms.arm_mean(recorded, name).value < 1.4

# %% tags=["proof"] checked_en="Checked in every seed: how far imitation of the hot file comes, what helps less, and two runs of three ahead of imitation." checked_zh="已对每个种子验证：升温文件上的模仿走到哪里，哪些做法差些，三次里有两次超过模仿。"
# concluded of what helps less
assert f"{arms.arm_mean(recorded, hot_copied).value:.2f}" == "1.49"
assert arms.beats(recorded, "beta 1", "base")
for name in ("early stop", "hot"):
    assert not arms.beats(recorded, name, "base")
for end in ("ipo", "smoothing", "dpo soft", "hot soft"):
    assert arms.beats(recorded, end, "beta 1")
lead = list(arms.gaps(recorded, "dpo soft", "imitation").values())
assert sorted(gap > 0 for gap in lead) == [False, True, True] and max(lead) < 0.06

# %% [markdown] lang="en"
# **One remedy beats imitation of the same file, the SFT term,** in every seed, 1.55 on average against 1.46. By itself the term *is* imitation without ties, and the rest is the run that was ruined. Together they do what neither does alone: the chosen answers are held up, and DPO still moves the style. ([Liu et al. 2024](https://arxiv.org/abs/2405.16436) say why such a term guards against over-optimisation.)
#
# **A margin with an end helps, and not enough.** IPO, smoothing and soft labels lift $J$ from about 0 to between 1.3 and 1.4: above the base model, and in every seed below imitation without ties. Hot second answers add to soft labels, in every seed; they add to imitation too, which comes to 1.49 on their file.
#
# **Less still, as long as the labels have no end:** $\beta=1$ stays above the base model in every seed, stopping early and hot answers do not.
#
# DPO's remedies alone might have made one glad of 1.4; fine-tuning on the same file's winners gives 1.46.

# %% [markdown] lang="zh"
# **只有一种补救胜过同一份文件上的模仿：SFT 项**，每个种子都是如此，平均 1.55 对 1.46。单看这一项，它就是丢掉平局的模仿；剩下的，就是毁了的那种训练。两样合起来，做到了哪一样单独都做不到的事：chosen 被托住，DPO 的力气照样推动风格。这样一项为什么能防过度优化，[Liu et al. 2024](https://arxiv.org/abs/2405.16436) 讲了道理。
#
# **让间隔有个尽头，管用，但不够。** IPO、平滑、软标签把 $J$ 从 0 上下提到 1.3 与 1.4 之间：高过基座模型，却在每个种子上都低于丢掉平局的模仿。软标签再配上升温的第二个回答，每个种子都更高；模仿用上这份文件，也更高，到 1.49。
#
# **标签没有尽头，别的做法就差些**：$\beta=1$ 在每个种子上都高过基座模型，早停和升温则不然。
#
# 要是只看 DPO 的几种补救，得了 1.4 也许就很高兴；可是拿同一份文件的赢家做微调，就有 1.46。

# %% [markdown] lang="en"
# ## What closes the gap
# Hot second answers brought soft labels nearer. At a higher temperature the base model errs in every way it can, so the pairs contain its rare mistakes. With soft labels this does not move the optimum, as long as every answer can occur ([chapter 7](07_derivation.ipynb)).
#
# And 19,200 pairs are few: `dpo_longer.py` recorded longer runs from the same three seeds: soft labels, 96,000 pairs, each used once, Muon at 2e-3. In `longer` both answers are drawn at temperature 1. In `shipped`, the recipe of the book's `dpo`, the second ones are hot. They differ in nothing else.
#
# > **Before you run it.** Five times as many pairs of the old kind, five times the steps, a faster optimiser: does `longer` come nearer to the optimum than the 1.3 of soft labels above?
#
# <details><summary>Answer</summary>
#
# No: it falls below the base model. It wins its pairs, and more than 30 % of its answers are texts that no author writes.
#
# </details>

# %% [markdown] lang="zh"
# ## 怎样缩小差距
# 软标签配上升温的第二个回答，走近了些。温度一高，基座模型能犯的错都会犯出来，偏好对里就有了那些罕见的错。用软标签，只要每个回答都有机会出现，这样做就不会挪动最优解（[第 7 章](07_derivation.ipynb)）。
#
# 再说 19,200 个偏好对也太少。于是又录了更长的训练（`dpo_longer.py`），还是那三个种子：软标签，96,000 对，各用一次，Muon，学习率 2e-3。`longer` 的两个回答都在温度 1 下抽；`shipped` 是随书的 `dpo` 的配方，第二个回答升温。除此之外，没有不同。
#
# > **先猜一猜。** 老样子的偏好对加到五倍，步数加到五倍，优化器（optimiser）也更快：比起上面软标签的 1.3，`longer` 会离最优解更近吗？
#
# <details><summary>答案</summary>
#
# 不会，它掉到了基座模型以下。偏好对它都赢了，可是 30% 以上的回答，没有作者会写。
#
# </details>

# %%
longer = json.loads(Path("data/dpo_longer.json").read_text(encoding="utf-8"))["runs"]
together = recorded + longer
names = ("shipped", "sft term", copied, "dpo soft", "base", "longer")
called = {name: WORDS.get(name, name) for name in names}
arms.show(arms.table(together, called, ("J", "kl", "style", "exact", "unwritten")))
seeds = json.loads(Path("data/seeds.json").read_text(encoding="utf-8"))["seeds"]
recipe = {}  # the same recipe once more, on other prompts
for entry in seeds:
    found = {name: entry["dpo"][name]["value"] for name in ("style", "exact", "kl")}
    found["reward"] = found["style"] + found["exact"]
    recipe[entry["seed"]] = found | {"J": found["reward"] - beta * found["kl"]}
table(
    COLUMNS, [(f"recipe, seed {s}", [r[c] for c in COLUMNS]) for s, r in recipe.items()]
)

# %% tags=["proof"] checked_en="Checked in every seed: the recipe above every arm, longer below the base model, the spans." checked_zh="已对每个种子验证：配方胜过每一种做法，longer 低于基座模型，以及各个范围。"
# concluded of the longer runs
for name in (*ARMS, "longer"):
    assert arms.beats(together, "shipped", name), name
for name in ("base", "dpo soft", "imitation", copied):
    assert arms.beats(together, name, "longer"), name
kept = [run for run in longer if run["name"] == "longer"]
assert len(kept) == 3 and min(run["unwritten"]["value"] for run in kept) > 0.32
assert min(run["accuracy"] for run in kept) > 0.99
for name, stated in (("longer", "0.58"), ("shipped", "1.60")):
    assert f"{arms.arm_mean(together, name).value:.2f}" == stated
exactness = {
    n: arms.arm_mean(together, n, "exact").value for n in ("longer", "shipped")
}
assert [f"{100 * value:.0f}" for value in exactness.values()] == ["64", "98"]
style = arms.arm_mean(together, "shipped", "style").value
assert f"{100 * style:.0f}" == "96"

# %% tags=["proof"] checked_en="Checked: the recipe on other prompts, in every seed." checked_zh="已验证：同一配方在另一批提示上，每个种子。"
# concluded of the shipped recipe
again = {seed: values["J"] for seed, values in recipe.items()}
assert sorted(again) == [0, 1, 2]
for name in (copied, "sft term"):
    assert min(again.values()) > max(arms.values(recorded, name).values())
assert min(again.values()) > ends[copied]["J"]
assert max(again.values()) < ends["best of 8"]["J"]
on_report = arms.values(together, "shipped").values()
most = max(entry["J"] for entry in hot_file["most"])  # that its winners allow
assert len(hot_file["most"]) == 3 and f"{most:.2f}" == "1.56"
assert most < min(on_report) and max(on_report) < ends["best of 8"]["J"]
assert [f"{f(again.values()):.2f}" for f in (min, max)] == ["1.56", "1.60"]

# %% [markdown] lang="en"
# Only the temperature lies between a $J$ of 0.58 and one of 1.60, between 64 % right values and 98 %.
#
# The recipe is above every arm of the last section in every seed; on other prompts (`seeds.json`) its $J$ is between 1.56 and 1.60. Imitation of its hot winners can reach 1.56 at most. The price is 192,000 judged answers in place of 38,400; and the best of 8, at 1.63, is still ahead.
#
# One picture holds it all, on the two axes of the objective; [chapter 12](12_rl.ipynb) puts reinforcement learning on it.

# %% [markdown] lang="zh"
# $J$ 从 0.58 到 1.60，答案正确的从 64% 到 98%，只隔着一个温度。
#
# 这个配方，在每个种子上都超过上一节的每一种做法；换一批提示来量（`seeds.json`），$J$ 在 1.56 到 1.60 之间。升温文件里的赢家，模仿得再好也只到 1.56，它也超过了。代价是评判了 192,000 个回答，而不是 38,400 个。best-of-8 有 1.63，仍在它前面。
#
# 一张图就能收尽，两根轴正是目标里的两个量；[第 12 章](12_rl.ipynb)会把强化学习也放进来。

# %%
line = []  # the exact frontier
for strength in np.geomspace(20, 0.06, 80):
    best_there = predicted_optimum(task, "style+exact", float(strength))
    line.append((best_there["kl"], best_there["style"] + best_there["exact"]))
line.append((8.0, line[-1][1]))
PLACES = {  # colour, place of the words, words
    "base": ("ref", (8, -4), "base model", "基座模型"),
    copied: ("baseline", (9, -8), "imitation, no ties", "模仿，丢掉平局"),
    "sft term": ("rejected", (-4, -18), "hard + SFT term", "硬标签 + SFT 项"),
    "dpo soft": ("policy", (8, -4), "soft labels", "软标签"),
    "dpo deterministic": ("rejected", (-50, -20), "hard labels", "硬标签"),
    "longer": ("policy", (-20, 10), "soft, 96,000 pairs", "软标签，96,000 对"),
    "shipped": (
        "policy",
        (8, -6),
        "soft, 96,000 pairs, hot",
        "软标签，96,000 对，升温",
    ),
}
BESIDE = {"textcoords": "offset points", "fontsize": 10}
spots = {}
for name in PLACES:
    of_arm = [run for run in together if run["name"] == name]
    spots[name] = [(run["kl"]["value"], run["reward"]["value"]) for run in of_arm]
assert all(len(of_arm) == 3 for of_arm in spots.values())


# %% tags=["figure"] alt_en="KL on the horizontal axis, mean reward on the vertical axis. A curve, the exact frontier, rises steeply and is flat at 2 from a KL of 1.5 on; a star marks the optimum for the beta of this chapter, three crosses on or just below the curve the best of 2, 4 and 8. The base model lies at the left end, imitation without ties close to the curve, the SFT term a little below it. The shipped recipe lies close to the star. DPO with soft labels lies to the right of it, the longer runs on old pairs further right and lower. The runs with hard labels lie furthest to the right and lowest." alt_zh="横轴是 KL，纵轴是平均奖励。一条曲线是精确的前沿（frontier），先陡升，从 KL 等于 1.5 起在 2 处变平；星号是本章的 beta 对应的最优解，曲线上或贴着曲线下方的三个叉是 best-of-2、4、8。基座模型在最左端，丢掉平局的模仿贴近曲线，SFT 项略低一点。随书的配方紧挨着星号。软标签的 DPO 在它右边，老样子的偏好对训练更久，更靠右也更低。硬标签的几次最靠右，也最低。"
@picture
def reward_against_kl(say):
    fig, axes = figure(width=6.6, height=4.2)
    axes.plot(*zip(*line), color=COLORS["theory"])
    limit = say("no policy lies above", "没有策略在它上方")
    axes.text(4.6, 2.03, limit, color=COLORS["theory"])
    star = theory["kl"], ends["optimum"]["reward"]
    axes.plot(*star, "*", color=COLORS["theory"], markersize=13)
    for end in ("imitation", "best of 4", "best of 8"):  # imitation: best of 2
        axes.plot(ends[end]["kl"], ends[end]["reward"], "x", color=COLORS["theory"])
    for name, (tint, place, *words) in PLACES.items():
        look = {"color": COLORS[tint]}
        axes.plot(*zip(*spots[name]), "o", markersize=5, **look)
        axes.annotate(say(*words), max(spots[name]), place, **BESIDE, **look)
    axes.set(ylim=(0.98, 2.1), xlim=(-0.2, 7.2))
    axes.set_xlabel(say("KL from the base model (nats)", "与基座模型的 KL（奈特）"))
    axes.set_ylabel(say("mean reward", "平均奖励"))


# %% [markdown] lang="en"
# **Figure 9.4.** Reward against KL. The line is the most reward that any policy can have at that KL, the star its point for $\beta=0.25$, the crosses the best of 2, 4 and 8. A point is one seed. Two ways of going wrong lead to the right and down: labels without an end, and pairs that do not look where the policy goes.

# %% [markdown] lang="zh"
# **图 9.4** 奖励与 KL。曲线是 KL 给定时奖励的上限，任何策略都不在它上方；星号是 $\beta=0.25$ 的那一点，叉是 best-of-2、4、8。每个点是一个种子。两种走偏都通向右下方：标签没有尽头；偏好对覆盖不到策略要去的地方。

# %% [markdown] lang="en"
# > **What the toy hides.** Nobody knows the rewards of real answers. With no checker and no predicted optimum, the gap of this chapter cannot be seen. Answers run to hundreds of tokens, and a small change per token is a large one per answer; raters and DPO both drift towards long answers ([Park et al. 2024](https://arxiv.org/abs/2403.19159)). The pairs often come from other models, and then most of what the policy itself would write was never compared ([chapter 10](10_data.ipynb)). A 7B model needs two copies or stored log-probabilities, and learning rates hundreds of times smaller than ours.

# %% [markdown] lang="zh"
# > **玩具没告诉你的。** 真实的回答，奖励是多少没人知道。没有判分程序，也没有预言的最优解，本章的差距就看不见了。回答有几百个词元，每个词元动一点，整个回答就动很多；评分的人和 DPO 都会滑向长回答（[Park et al. 2024](https://arxiv.org/abs/2403.19159)）。偏好对常常来自别的模型，策略自己会写的东西，多半从来没人比较过（[第 10 章](10_data.ipynb)）。7B 的模型要放两份，或者存好对数概率；学习率要比我们的小上百倍。

# %% [markdown] lang="en"
# > **To remember.** DPO starts at $\ln 2$, moves probability by comparing two answers, and is told nothing about answers that no pair contains. Check the start. Know the floor. Judge by the objective, $J$, and beside imitation of the winners on the same file: a policy can gain reward and lose $J$. A falling `logps/chosen` can be right; a perfect accuracy can be wrong. Give the margin an end, or hold the chosen answers up, and let the pairs look where the policy may go. Watch the KL; sample and look.

# %% [markdown] lang="zh"
# > **记住。** DPO 从 $\ln 2$ 出发，靠两两比较搬动概率；哪一对里都没有的回答，没有东西管着。起点要查，下界要知道。用目标 $J$ 来评判，旁边放上同一份文件里模仿赢家的结果：奖励可以升，$J$ 却降。`logps/chosen` 下降可能是对的，准确率完美可能是错的。要让间隔有个尽头，或者托住 chosen；还要让偏好对覆盖到策略会去的地方。盯住 KL，采样出来看。

# %% [markdown] lang="en"
# ## ⋆ Which number would have warned us?
# The recorded experiment also looked at the way: soft and deterministic labels of the same pairs, learning rates 1e-4, 3e-4 and 1e-3, three seeds. The first three rows are measured on held-out pairs that differ in reward, the last two on fresh answers of the policy:
#
# | quantity | what it is | at the optimum |
# |---|---|---|
# | `displacement` | change of the chosen log-probability since the start, in nats | -0.1 |
# | `margin` | the mean of $h$ | 1.14 |
# | `accuracy` | the share of pairs with $h>0$; a tie, $h=0$, counts half | 1 |
# | `kl` | the mean of $\log(\pi/\pi_{\mathrm{ref}})$ over the policy's own answers | 1.26 |
# | `entropy` | the mean of $-\log\pi$ over the policy's own answers | 6.74 |
#
# The **entropy** of [chapter 3](03_sft.ipynb) says how widely a policy spreads. By hand: answers of probability 1/2, 1/4, 1/4 have entropy $\frac12\ln 2+2\cdot\frac14\ln 4=1.04$ nats, as much as $e^{1.04}=2.83$ equally likely answers. The authors have 5.74 nats, as much as 310 equally likely answers; the optimum has *more*, as much as 849, for there are more ways to write three numbers than two.

# %% [markdown] lang="zh"
# ## ⋆ 哪个数字本来能提醒我们
# 那组实验还记下了训练途中的样子：同样的偏好对，软标签、确定性标签各贴一遍；学习率取 1e-4、3e-4、1e-3；三个种子。前三行在留出的偏好对上量，只取奖励有高下的；后两行在策略新写的回答上量：
#
# | 量 | 它是什么 | 在最优解处 |
# |---|---|---|
# | `displacement` | chosen 的对数概率自起点以来的变化，单位奈特 | -0.1 |
# | `margin` | 间隔 $h$ 的平均 | 1.14 |
# | `accuracy` | $h>0$ 的比例；$h=0$ 是平局，算半个 | 1 |
# | `kl` | 对策略自己的回答，$\log(\pi/\pi_{\mathrm{ref}})$ 的平均 | 1.26 |
# | `entropy` | 对策略自己的回答，$-\log\pi$ 的平均 | 6.74 |
#
# **熵**（entropy）在[第 3 章](03_sft.ipynb)见过，说的是策略摊得有多开。手算一个：三个回答，概率 1/2、1/4、1/4，熵是 $\frac12\ln 2+2\cdot\frac14\ln 4=1.04$ 奈特，相当于 $e^{1.04}=2.83$ 个等可能的回答。作者群体的熵是 5.74 奈特，相当于 310 个等可能的回答；最优解反而更高，相当于 849 个，因为写三个数的写法比写两个数的多。

# %% tags=["proof"] checked_en="Checked: the entropies by hand, of the authors and of the optimum, and the column of the optimum." checked_zh="已验证：手算的熵，作者群体和最优解的熵，以及最优解那一列。"
small_entropy = -sum(p * math.log(p) for p in (1 / 2, 1 / 4, 1 / 4))
best_entropy = predicted_entropy(task, class_logps["optimum"])
assert f"{small_entropy:.2f} {math.exp(small_entropy):.2f}" == "1.04 2.83"
assert f"{task.entropy:.2f} {best_entropy:.2f}" == "5.74 6.74"
assert f"{math.exp(task.entropy):.0f} {math.exp(best_entropy):.0f}" == "310 849"
assert abs(implied["chosen"][decided].mean() / beta + 0.1) < 0.06
assert abs(true_margin - 1.14) < 0.01

# %%
by_run = {}  # (name, learning rate) -> one entry a seed
for run in stored["grid"]:
    by_run.setdefault((run["name"], run["rate"]), []).append(run)
LABELS, RATES = ("dpo soft", "dpo deterministic"), stored["settings"]["rates"]
good, edge = [(name, 3e-4) for name in LABELS]


def each(key, name):
    """A measure of the seeds, in order of size."""
    values = [run[name] for run in by_run[key]]
    return sorted(v["value"] if isinstance(v, dict) else v for v in values)


def span(key, name):
    values = each(key, name)
    return f"{values[0]:.2f} {values[-1]:.2f}"


# %%
SHOWN = ("J", "kl", "exact", "entropy", "accuracy", "margin", "displacement")
keys = [(name, rate) for name in LABELS for rate in RATES]
short_names = [f"{name.split()[1][:4]} {rate:.0e}" for name, rate in keys]
print(" " * 12, *(name.replace("dete", "hard").rjust(11) for name in short_names))
for name in SHOWN:  # least and greatest of the seeds
    print(f"{name:12}", *(span(key, name).rjust(11) for key in keys))
assert all(len(of_key) == 3 for of_key in by_run.values())

# %%
ways = {}  # measure, labels -> (seeds, steps)
for key in (good, edge):
    traces = [run["trace"] for run in by_run[key]]
    ways["step"] = [point["step"] for point in traces[0]]
    for name in ("kl", "exact"):
        way = [[point[name]["value"] for point in trace] for trace in traces]
        ways[name, key[0]] = np.array(way)


# %% tags=["figure"] alt_en="Two panels over 300 training steps, a curve with a band over three seeds for soft labels and one for deterministic labels. Left: with soft labels KL rises to about 2, a little above the dashed line of the optimum; with deterministic labels it jumps above 5 within 75 steps and stays there. Right: the share of right values rises to about 0.87 with soft labels, below the dashed line at 0.99; with deterministic labels it falls to about a half within 75 steps." alt_zh="左右两幅，横轴是 300 个训练步；软标签、确定性标签各一条曲线，带三个种子的范围。左：软标签的 KL 升到 2 左右，略高于最优解的虚线；确定性标签在 75 步之内跳过 5，此后停在那里。右：答案正确的比例，软标签升到 0.87 左右，低于 0.99 处的虚线；确定性标签在 75 步之内掉到一半左右。"
@picture
def on_the_way(say):
    fig, panels = figure(columns=2, width=6.8, height=3.1)
    spoken = say("soft labels,deterministic labels", "软标签,确定性标签").split(",")
    heights = {"kl": (2.6, 4.3), "exact": (0.8, 0.61)}
    for panel, name in zip(panels, ("kl", "exact")):
        for number, (labels, color) in enumerate(zip(LABELS, ("policy", "rejected"))):
            way = ways[name, labels]
            panel.plot(ways["step"], way.mean(0), color=COLORS[color])
            band = {"color": COLORS[color], "alpha": 0.2, "linewidth": 0}
            panel.fill_between(ways["step"], way.min(0), way.max(0), **band)
            place = (300, heights[name][number])
            panel.text(*place, spoken[number], ha="right", color=COLORS[color])
        panel.axhline(theory[name], **dashed)
        panel.set_xlabel(say("training step", "训练步"))
    panels[0].set(ylim=(0, 7.2), ylabel=say("KL (nats)", "KL（奈特）"))
    panels[1].set(
        ylim=(0.3, 1.04), ylabel=say("share of right values", "答案正确的比例")
    )


# %% [markdown] lang="en"
# **Figure 9.5.** KL and the share of right values along the training, at 3e-4: means and range over three seeds; dashed, the optimum. With deterministic labels the damage is done before any pair is used twice.

# %% [markdown] lang="zh"
# **图 9.5** 训练途中的 KL 和答案正确的比例，学习率 3e-4：画的是三个种子的平均与范围，虚线是最优解。用确定性标签，还没有哪一对用过第二次，就已经毁了。

# %% tags=["proof"] checked_en="Checked in every seed: what the next three paragraphs say." checked_zh="已对每个种子验证：下面三段所说的。"
# concluded from the grid
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
assert min(each(good, "entropy")) > 6.5 and 6 < each(edge, "entropy")[0] > task.entropy
assert max(each(good, "margin")) < 1.15 and min(each(edge, "margin")) > 3.9
assert min(each(good, "displacement")) > -0.35 and max(each(edge, "displacement")) < -5

# %% [markdown] lang="en"
# **Labels are the surer way over the edge.** With deterministic labels every rate goes over, in every seed: fewer than 60 % of the answers are right, the KL exceeds 5, and $J$ is far below the base model's. At 3e-4 the KL has passed 5 within 75 steps.
#
# **The learning rate is the other, and a moody one.** With soft labels 1e-4 has not arrived: its style is below 80 %. At 3e-4 the three seeds agree, with $J$ between 1.29 and 1.36. At 1e-3 they do not: 0.78 in one, 1.53 in another. Who had run the lucky seed alone would have recommended 1e-3.
#
# **What warns?** Compare the two kinds of label at 3e-4. The accuracy is near 1 in both, the entropy above the base model's in both: no warning. The margin is 1.1 with soft labels and about 4 with deterministic ones; it warns whoever knows that 1.14 was asked for. Two speak plainly: the KL, and the chosen answers of these pairs, which lose less than 0.4 nats in the one and more than 5 in the other.

# %% [markdown] lang="zh"
# **标签这条路，更容易失控。** 用确定性标签，每个学习率、每个种子都失控：答案正确的不到 60%，KL 超过 5，$J$ 远低于基座模型。3e-4 时，75 步之内 KL 就过了 5。
#
# **另一条路是学习率，它喜怒无常。** 用软标签，1e-4 还没走到，风格不到 80%。3e-4 的三个种子彼此一致，$J$ 在 1.29 到 1.36 之间。1e-3 就不一致了：有的种子得 0.78，有的得 1.53。谁要是只跑了走运的那个种子，就会推荐 1e-3。
#
# **什么在报警？** 取 3e-4，比一比两种标签。准确率都接近 1，熵都高于基座模型：没有警报。间隔，软标签是 1.1，确定性标签是 4 左右；谁知道该要的是 1.14，谁就会警觉。说得明白的有两个：一是 KL，二是这些偏好对的 chosen，一边降不到 0.4 奈特，一边降 5 奈特以上。

# %% [markdown] lang="en"
# ## ⋆ Where the probability goes
# What the pairs lose, something must gain. Nobody can search all texts. But those that some author can write are finitely many, about 2,000 for a prompt. Add up $\pi(y\mid x)$ over all of them, class by class, and subtract from 1. What is left is *exactly* the probability of all texts that no author writes, without listing one of them.
#
# By hand: authors write only `a`, `b` and `c`; a policy gives them 0.5, 0.2 and 0.1. Then everything else together has 0.2. `written_mass` does this for the network; here for three prompts drawn beforehand, under the reference, the DPO run, and the run with deterministic labels.

# %% [markdown] lang="zh"
# ## ⋆ 概率去了哪里
# 偏好对丢了概率，必有别的文本在得。谁也没法在所有文本里去找。可是作者写得出的文本是有限的，一个提示约 2,000 条。把它们的 $\pi(y\mid x)$ 分类全加起来，再用 1 去减，剩下的恰好就是所有没有作者会写的文本的概率，一条也不用列出来。
#
# 手算：作者只会写 `a`、`b`、`c`，策略给它们 0.5、0.2、0.1，那么其余一切加起来就是 0.2。对网络做这件事的是 `written_mass`。取三个事先抽好的提示，量三个策略：参考策略、DPO、确定性标签那一次。

# %% tags=["nbval-ignore-output"]
PROMPTS = stored["settings"]["prompts"]
counts = [task.table.prompts.count(prompt) for prompt in PROMPTS]
assert all(1_500 < count < 2_500 for count in counts)
three = {"base": base, "dpo": policy, "hard": hard_policy}
mass = {name: written_mass(model, task, PROMPTS) for name, model in three.items()}
table(
    ("2, slip", "2, right", "3, slip", "3, right", "rest"),
    [
        (f"{name} {prompt}", [*map(float, part.flatten()), float(1 - part.sum())])
        for name, parts in mass.items()
        for prompt, part in zip(PROMPTS, parts)
    ],
    width=9,
)
outside = {name: float(1 - parts.sum((1, 2)).mean()) for name, parts in mass.items()}
assert outside["base"] < 0.01 and 0.02 < outside["dpo"] < 0.3 < outside["hard"]

# %%
ORDER = {(1, 1): "chosen", (0, 1): "policy", (1, 0): "baseline", (0, 0): "ref"}
where = [list(task.prompt_distribution).index(prompt) for prompt in PROMPTS]
wanted = class_logps["optimum"][where].exp().mean(0)[3].item()  # right, three numbers
heights = {}  # labels -> layers from below, then the rest
for key in (good, edge):
    traces = [[point["mass"] for point in run["trace"]] for run in by_run[key]]
    at = np.array(traces).mean(0)  # (points, 2, 2): over seeds
    layers = [at[:, style, right] for style, right in ORDER]
    heights[key[0]] = [*layers, 1 - sum(layers)]
step_75 = ways["step"].index(75)
lies = {
    name: [round(float(v), 2) for v in (green[0], green[-1], blue[0], blue[-1])]
    + [round(float(rest[i]), 2) for i in (0, step_75, -1)]
    for name, (green, blue, _, _, rest) in heights.items()
}
columns = ("3, right", "at 300", "2, right", "at 300", "rest", "at 75", "at 300")
table(columns, lies.items(), width=17)
assert lies["dpo soft"] == [0.22, 0.83, 0.52, 0.05, 0.01, 0.12, 0.10]
assert lies["dpo deterministic"] == [0.22, 0.50, 0.52, 0.00, 0.01, 0.60, 0.50]
assert round(wanted, 2) == 0.95


# %% tags=["figure"] alt_en="Two stacked area charts over 300 steps, soft labels left, deterministic right; the areas add to 1. Left: the area of right three-number answers at the bottom grows from 0.22 to 0.83, right two-number answers shrink from 0.52 to 0.05, slips nearly vanish, and an orange area on top, the texts of no author, makes up about a tenth. Right: the right two-number answers and the slips are gone by step 75, the right three-number answers reach only 0.50, and the orange area fills the other half. A dashed line at 0.95 is the optimum for the lowest area." alt_zh="两幅堆叠面积图，横轴 300 步，左边软标签，右边确定性标签，各层加起来是 1。左：最下层是三个数且答案正确的回答，从 0.22 长到 0.83；两个数且答案正确的从 0.52 缩到 0.05；失误几乎消失；最上面的橙色是没有作者会写的文本，约占十分之一。右：到 75 步，两个数的回答和失误都没了，三个数且答案正确的只到 0.50，橙色占了另一半。0.95 处的虚线是最优解里最下层该到的高度。"
@picture
def where_it_goes(say):
    fig, panels = figure(columns=2, width=6.8, height=3.5)
    tints = [COLORS[name] for name in (*ORDER.values(), "rejected")]
    titles = say("soft labels,deterministic labels", "软标签,确定性标签").split(",")
    for panel, layers, title in zip(panels, heights.values(), titles):
        panel.stackplot(ways["step"], *layers, colors=tints, alpha=0.85)
        panel.axhline(wanted, color="black", linestyle="--", linewidth=1.4)
        panel.set(xlabel=say("training step", "训练步"), ylim=(0, 1), xlim=(0, 300))
        panel.set_title(title, fontsize=11)
    inside = {"ha": "center", "color": "black", "fontsize": 9}
    panels[0].text(190, 0.35, say("three numbers, right", "三个数，答案正确"), **inside)
    panels[0].text(
        8, 0.5, say("two,\nright", "两个数，\n正确"), **inside | {"ha": "left"}
    )
    panels[0].text(8, 0.86, say("slips", "失误"), **inside | {"ha": "left"})
    panels[1].text(180, 0.72, say("texts of no author", "没有作者会写的文本"), **inside)
    panels[1].text(180, 0.25, say("three numbers, right", "三个数，答案正确"), **inside)
    panels[1].text(295, 0.9, say("optimum", "最优解"), **inside | {"ha": "right"})
    panels[0].set_ylabel(say("probability", "概率"))
    panels[1].tick_params(labelleft=False)


# %% [markdown] lang="en"
# **Figure 9.6.** Where the probability lies, summed exactly: means over three prompts and the three seeds of the recorded experiment, at 3e-4. Green: three numbers and right; blue: two and right; yellow and grey: slips with three and with two; on top, in orange, all texts that no author writes. Dashed: the green share at the optimum.

# %% [markdown] lang="zh"
# **图 9.6** 概率在哪里，逐条加出来的精确值：三个提示、那组实验的三个种子取平均，学习率 3e-4。绿：三个数且答案正确；蓝：两个数且答案正确；黄和灰：三个数和两个数的失误；最上面的橙色是所有没有作者会写的文本。虚线：最优解里绿色该占的份额。

# %% [markdown] lang="en"
# On the left the green share goes from 22 % to 83 %, where the optimum has 95 %; one tenth ends up outside. On the right the blue and grey shares are gone by step 75, and 60 % lies outside; at the end it is still 50 %.
#
# [Razin et al. 2025](https://arxiv.org/abs/2410.08847) call displacement *benign* if what gains is as good as what lost, and *catastrophic* if it is much worse. Which is this? We drew answers from the three ruined policies:
#
# | | least of the seeds | greatest |
# |---|---|---|
# | right | 38 % | 55 % |
# | right, in a way that no author writes | 0 % | 0.1 % |
# | well formed and off by exactly ten, as no author slips | 23 % | 48 % |
# | mean reward (base model 1.05, optimum 1.95) | 1.37 | 1.51 |
#
# For whoever wants right values that is catastrophic. Our reward is milder, for a wrong answer of three numbers earns a point; so its mean even rises, at more than four times the optimum's KL.

# %% [markdown] lang="zh"
# 左边，绿的由 22% 升到 83%，最优解是 95%；有十分之一落到了外面。右边，到 75 步，蓝的灰的全没了，60% 落在外面，到最后还有 50%。
#
# [Razin et al. 2025](https://arxiv.org/abs/2410.08847) 把似然位移分成两种：得到概率的同失去的一样好，是「良性的」（benign）；差得多，是「灾难性的」（catastrophic）。这里是哪一种？我们从三个毁了的策略里抽了回答：
#
# | | 三个种子里最少 | 最多 |
# |---|---|---|
# | 答案正确 | 38% | 55% |
# | 答案正确，写法却是作者不会写的 | 0% | 0.1% |
# | 格式正确，恰好差十，又不是作者的失误 | 23% | 48% |
# | 平均奖励（基座模型 1.05，最优解 1.95） | 1.37 | 1.51 |
#
# 要的若是答案正确，这就是灾难。我们的奖励却没这么严，写三个数而答案错误，也得一分；所以平均奖励还涨了，KL 却是最优解的四倍以上。

# %% tags=["proof"] checked_en="Checked: the table above, and the KL." checked_zh="已验证：上表和 KL。"
# concluded of the ruined runs
kinds = [run["kinds"] for run in by_run[edge]]
ten = sorted(kind["new by ten"] for kind in kinds)
assert f"{ten[0]:.2f} {ten[-1]:.2f}" == "0.23 0.48"
assert sorted(round(kind["new right"], 3) for kind in kinds) == [0, 0.001, 0.001]
assert span(edge, "exact") == "0.38 0.55" and span(edge, "reward") == "1.37 1.51"
assert round(theory["style"] + theory["exact"], 2) == 1.95
assert task.style + 1 - task.slip == 1.05
assert min(each(edge, "kl")) > 4 * theory["kl"]

# %% [markdown] lang="en"
# ## ⋆ Three causes
# **Part of it is law.** Whatever the policy, an average answer of the reference loses $\mathrm{KL}(\pi_{\mathrm{ref}}\,\|\,\pi)$, as measured above. In the ruined runs this KL is enormous, more than 13 nats: they have all but given up answers of two numbers. Over all 18 runs of the grid, held-out pairs and fresh answers agree on it.
#
# **Part of it is wanted.** But on held-out pairs whose answers differ in reward the optimum asks the chosen ones for less than 0.2 nats, and the ruined runs took more than 5.
#
# **Shared parameters pass the push on.** [Chapter 7](07_derivation.ipynb) shows it with three answers (equation 7.11): the margin of a pair grows, both of its answers lose, and a third, in no pair, takes the probability. Does the network do that? One step of plain gradient descent from the reference, on 256 pairs that differ in reward, long enough to be seen. By how many nats does it move the answers of these pairs? And, for prompts drawn afresh, right three-number answers, and the new mistakes of the ruined policy? Those are picked with hindsight; beside them, without it, stand the new mistakes of the reference at temperature 1.5.

# %% [markdown] lang="zh"
# ## ⋆ 三个原因
# **有一部分是定律。** 不管什么策略，参考策略的回答平均都要降 $\mathrm{KL}(\pi_{\mathrm{ref}}\,\|\,\pi)$，前面量过。在毁了的那几次里，这个 KL 大得出奇，超过 13 奈特：它们几乎不再写两个数的回答了。那组实验的 18 次训练，在留出的偏好对上量，在另抽的回答上量，两边都一致。
#
# **有一部分是该降的。** 可是在留出的偏好对上，只看奖励有高下的，最优解要 chosen 降的不到 0.2 奈特，毁了的那几次却降了 5 奈特以上。
#
# **共用的参数，把推力传给了别人。**[第 7 章](07_derivation.ipynb)用三个回答演示过（式 7.11）：一对的间隔大了，两个回答都降，概率归了不在任何一对里的第三个。网络会这样吗？从参考策略出发，在 256 对奖励有高下的偏好对上做一步最朴素的梯度下降，步子大到看得见。这一步把各种回答移动了多少奈特？先量这些偏好对的 chosen 与 rejected。再另抽一批提示，量三个数且答案正确的回答，以及毁了的策略写出的新错。这些新错是事后挑的；所以再配一组事先就能得到的：参考策略自己在温度 1.5 下写出的新错。

# %%
# concluded of every run
rows = []
for run in stored["grid"]:
    both, divergence = run["moved"]["both"], run["forward_kl"]
    rows.append(
        (f"{run['name']} {run['rate']:.0e}", (both["value"], -divergence["value"]))
    )
    noise = both["high"] - both["low"] + divergence["high"] - divergence["low"]
    # two samples of one number
    assert abs(both["value"] + divergence["value"]) < noise
table(("pairs", "-KL"), rows, width=24)
assert len(rows) == 18 and all(-0.2 < v < 0 for v in stored["predicted_displacement"])
assert min(run["forward_kl"]["value"] for run in by_run[edge]) > 13
assert max(each(edge, "displacement")) < -5

# %% tags=["nbval-ignore-output"]
few = {k: v.to(device) for k, v in hard.batch(np.arange(256)).items()}
stepped = copy.deepcopy(base)
total, count = dpo_step(beta)(stepped, few)["loss"]
(total / count).backward()
norm = torch.nn.utils.clip_grad_norm_(stepped.parameters(), math.inf)
with torch.no_grad():
    for weights in stepped.parameters():
        weights -= 0.1 * weights.grad / norm  # a step of length 0.1
asked = task.demonstrations(600, stream("one step", 0))[0]
written = {}
for name, model, T in (("base", base, 1), ("hard", hard_policy, 1), ("hot", base, 1.5)):
    texts = zip(asked, generate(model, asked, temperature=T, seed=1))
    written[name] = [text for text in texts if judge(*text).well_formed]

# %% tags=["nbval-ignore-output"]
sides = {
    side: list(zip(hard.prompt[:256], getattr(hard, side)[:256])) for side in implied
}
groups = sides | {"right, three": []}
for text in written["base"]:
    if judge(*text).exact and judge(*text).style:
        groups["right, three"].append(text)
for name in ("hard", "hot"):
    new = [text for text in written[name] if text not in task.log_conditional]
    groups[f"new, {name}"] = [text for text in new if not judge(*text).exact]
change = {}
for name, texts in groups.items():
    moved = score(stepped, *zip(*texts)) - score(base, *zip(*texts))
    change[name] = moved.mean().item()
table(("texts", "nats"), [(n, (len(groups[n]), change[n])) for n in groups])
assert change["chosen"] > 0.05 and change["rejected"] < -0.05
assert change["new, hard"] > 1.5 * change["chosen"] and change["right, three"] > 0
assert change["new, hard"] > 2 * change["right, three"]
assert change["new, hot"] < 0.6 * change["new, hard"]

# %% [markdown] lang="en"
# Chosen goes up, rejected down, as told. But other texts move, too. Right three-number answers rise, as they should; the new mistakes of the ruined policy rise far more than the chosen answers themselves. Not every mistake does: those picked without hindsight move much less. Among the countless texts that no pair contains, some lie where the shared parameters lift them most, and those are the ones that we meet in the end. (One step, one seed: an illustration.)
#
# [Razin et al. 2025](https://arxiv.org/abs/2410.08847) trace the effect to pairs whose answers have similar embeddings inside the model; [Pal et al. 2024](https://arxiv.org/abs/2402.13228) find it above all where the two completions differ by a small edit distance.
#
# **No pair looks there.** What rises has to be pushed down by something, and pairs drawn from the reference hardly hold a new mistake. When half of the policy's answers are new mistakes, the accuracy on the old pairs is near 1, and the loss has next to nothing to say.

# %% [markdown] lang="zh"
# chosen 升，rejected 降，这是交代的事。可是别的文本也动了。三个数且答案正确的回答升，这是应该的；毁了的策略那些新错，升得比 chosen 自己还多得多。并不是什么错都这样：不是事后挑的那组，动得少得多。哪一对都没有的文本不计其数，总有一些正好在共用参数抬得最高的地方，最后冒出来的就是它们。（只走一步，只有一个种子，算是举例。）
#
# [Razin et al. 2025](https://arxiv.org/abs/2410.08847) 把这种效应归到一类偏好对：两个回答在模型内部的嵌入（embedding）很相似；[Pal et al. 2024](https://arxiv.org/abs/2402.13228) 发现，它在两个回答编辑距离小的数据上尤其明显。
#
# **没有一对覆盖到那里。** 升上来的，总得有东西压下去；从参考策略抽的偏好对里，却几乎没有新错。等到策略有一半回答是新错，在老的偏好对上，准确率接近 1，损失几乎无话可说。

# %% [markdown] lang="en"
# ## ⋆ The arms, one by one
# What the names in figure 9.3 stand for. All have the same base models, the same prompts and answers for each seed, and 300 updates of 64 with AdamW. Each may choose among the learning rates 1e-4, 3e-4 and 1e-3; the choice falls on draws of seed 0 that are not reported.
#
# | arm | what it does |
# |---|---|
# | hard | what ruined us: deterministic labels, $\beta=0.25$ |
# | beta 0.1, beta 1 | the same with another $\beta$ |
# | early stop | of the steps 10, 25, 50, 75, ... the one with the best $J$, on 1,000 draws kept for choosing |
# | hard, hot | second answers at temperatures 1.5 and 2.0 in turn |
# | IPO | the squared loss of IPO, which draws $m$ to 4 nats, what one point is worth at $\beta=0.25$ ([Azar et al. 2024](https://arxiv.org/abs/2310.12036)) |
# | smoothing | each label counts as 0.75 in place of 1, since a Bradley–Terry judge would prefer the worse answer in 25 % of the pairs |
# | SFT term | the next-token loss of the chosen answers added to the DPO loss |
# | soft | soft labels, ties included: the live run |
# | soft, hot | both: soft labels and hot second answers |
# | imitation | fine-tuning on the chosen answers, ties kept, or dropped; of the hot file, ties dropped (`hot_imitation.py`) |
#
# Early stopping took the first step on offer in every seed, the 10th; one seed gained by it, one lost, one stayed where it was. And who had trained nothing at all, but drawn four answers each time and kept the best, would have had 1.52, more than all arms but one.
#
# Three things are not settled. Soft labels know the doubt of each pair, smoothing only the average doubt; between these two and IPO the seeds show no clear order. Three learning rates were tried and one training length ([chapter 11](11_family.ipynb) compares the losses). And soft labels with hot second answers are level with imitation: ahead in two seeds of imitation of the other file, in one of imitation of their own.

# %% [markdown] lang="zh"
# ## ⋆ 各种做法，逐个说明
# 图 9.3 里那些名字各指什么。基座模型一样，每个种子的提示和回答一样，都用 AdamW 更新 300 次、每次 64 对。学习率都有三个可挑：1e-4、3e-4、1e-3；挑选用的是种子 0 另外的抽样，不计入结果。
#
# | 做法 | 做什么 |
# |---|---|
# | 硬标签 | 把我们毁了的那一种：确定性标签，$\beta=0.25$ |
# | β=0.1、β=1 | 同上，换个 $\beta$ |
# | 早停 | 在第 10、25、50、75……步里，取 $J$ 最好的一步；挑选另用 1,000 个抽样 |
# | 硬标签，升温 | 第二个回答轮流用温度 1.5 和 2.0 |
# | IPO | IPO 的平方损失，把 $m$ 拉向 4 奈特，正是 $\beta=0.25$ 时一分所值（[Azar et al. 2024](https://arxiv.org/abs/2310.12036)） |
# | 平滑 | 每个标签当 0.75，不当 1，因为 Bradley–Terry 的裁判会把其中 25% 判反 |
# | SFT 项 | DPO 损失再加 chosen 的下一个词元损失 |
# | 软标签 | 软标签，平局也留：前面现场跑的那次 |
# | 软标签，升温 | 两样一起：软标签，第二个回答升温 |
# | 模仿 | 只拿 chosen 微调，平局留着，或者丢掉；还有升温的那份，平局丢掉（`hot_imitation.py`） |
#
# 早停在每个种子上都停在可挑的头一步，第 10 步；三个种子，一个得益，一个吃亏，一个几乎没动。而要是什么也不训练，每次抽四个回答、留下最好的，就有 1.52，只有一种做法比它高。
#
# 有三件事还没有定论。软标签知道每一对有几分把握，平滑只知道一个平均数；这两种同 IPO，三个种子看不出明确的高下。学习率只试了三个，训练长度只试了一种（各种损失的比较在[第 11 章](11_family.ipynb)）。软标签配上升温的第二个回答，同模仿打平：对另一份文件上的模仿，两个种子领先；对自己那份文件上的，一个领先。

# %% tags=["proof"] checked_en="Checked: who is level with whom, the settings, and the share of labels that a Bradley–Terry judge would turn." checked_zh="已验证：谁同谁打平，各项设置，以及 Bradley–Terry 裁判会判反的比例。"
# concluded of the arms, one by one
assert [run["step"] for run in recorded if run["name"] == "early stop"] == [10] * 3
moved = sorted(arms.gaps(recorded, "early stop", "base").values())
assert moved[0] < -0.05 and abs(moved[1]) < 0.01 and moved[2] > 0.05
for winners, count in ((copied, 2), (hot_copied, 1)):
    gaps = arms.gaps(recorded, "hot soft", winners).values()
    assert sum(gap > 0 for gap in gaps) == count
for name in ("ipo", "smoothing"):  # closer than one run's interval
    wide = [
        run["J"]["high"] - run["J"]["low"] for run in recorded if run["name"] == name
    ]
    assert max(arms.gaps(recorded, name, "dpo soft").values()) < min(wide)
better = [
    n for n in ARMS if max(arms.values(recorded, n).values()) > ends["best of 4"]["J"]
]
assert better == ["sft term"] and f"{ends['best of 4']['J']:.2f}" == "1.52"
assert all(rate in stored["settings"]["rates"] for rate in stored["rates"].values())
assert abs(np.mean(stored["turned"]) - 0.25) < 0.005

# %% [markdown] lang="en"
# ## ⋆ What real recipes do
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
# ## ⋆ 真实的配方
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
# ## ⋆ From the command line
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
# ## ⋆ 命令行
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
import textwrap

from dpo_core.commands.parser import main

# %%
COMMANDS = (
    "train-dpo --model gen --pairs 512 --steps 8 --output dpo.model --device cpu",
    "evaluate dpo.model --n 200 --json --device cpu",
)
with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        for command in COMMANDS:
            assert main(command.split()) == 0
    pairs_file = next(Path().glob("dpo.model.pairs-*-*.jsonl"))
    pair_columns = list(json.loads(pairs_file.read_text().splitlines()[0]))
    files = sorted(
        path.as_posix() for path in Path().rglob("*.json*") if path != pairs_file
    )
*lines, report = said.getvalue().splitlines()
print(*lines, *files, sep="\n")
for found in (pair_columns, json.loads(report)):
    print(textwrap.fill(" ".join(found), 80))
assert {"dpo.model/metrics.jsonl", "dpo.model/recipe.json"} < set(files)
assert pair_columns[:3] == ["prompt", "chosen", "rejected"]
assert {"exact", "style", "kl", "predicted"} <= set(json.loads(report))

# %% [markdown] lang="en"
# ## ⋆ The classic setting, told honestly
# This book grew out of a small project, *Simple_RLHF_DPO*, whose task is harder than ours: numbers with two decimals up to 100 in size, four operators. Its preference pairs are cheap to make. Chosen: a right expression of *three* numbers, while the base model has only seen two. Rejected: the empty answer, `E` and nothing else. Such pairs ask: *write something*. Only `E` is pushed down; any expression may take its place, for no wrong one is ever rejected. And the base model does not write `E` alone anyway, so nothing that a reader sees has to change for the margin to grow.
#
# We ran it once: a base model trained on all tokens, as in the project, a right mask, its learning rate of 1e-4, and the two $\beta$ of its history, 1.0 and 0.1.

# %% [markdown] lang="zh"
# ## ⋆ 经典设置，照实说
# 这本书由一个小项目 *Simple_RLHF_DPO* 长成。它的任务比我们的难：绝对值不超过 100 的两位小数，四种运算。它的偏好对做起来很省事。chosen：一个正确的算式，写三个数，而基座模型只见过写两个数的。rejected：空回答，只有一个 `E`。这样的偏好对，要的只是「写点什么」。被压下去的只有 `E` 这一个回答，腾出的位置，随便哪个算式都能占，对的错的都行，因为从没有哪个错的算式被当作 rejected。何况基座模型本来就不写空回答：间隔要变大，读者看得见的东西一样也不用变。
#
# 我们跑了一次：基座模型照原项目那样在全部词元上训练，掩码用对的，学习率用它的 1e-4，$\beta$ 取它历史上用过的两个值：1.0 和 0.1。

# %%
classic = json.loads(Path("data/classic.json").read_text(encoding="utf-8"))["runs"]
CLASSIC = ("well_formed", "style", "exact", "logps/chosen", "logps/rejected")
rows, of_setting = [], {}
for run in classic:
    setting = run["beta"], run["mask"], run["steps"]
    values = [run[name] if "/" in name else run[name]["value"] for name in CLASSIC]
    of_setting[setting] = dict(zip(CLASSIC, values))
    label = (
        f"beta {setting[0]:g}, {setting[1]}, {setting[2]}" if setting[0] else "before"
    )
    rows.append((label, values))
table([name.replace("logps/", "") for name in CLASSIC], rows)

# %% tags=["proof"] checked_en="Checked: the figures that the next paragraph takes from these runs." checked_zh="已验证：下一段从这几次训练里引用的数。"
before = of_setting[None, None, 0]
mild, strong = of_setting[1.0, "right", 300], of_setting[0.1, "right", 300]
wrong_mask = of_setting[1.0, "wrong", 300]
gains = [
    mild[f"logps/{side}"] - before[f"logps/{side}"] for side in ("chosen", "rejected")
]
assert round(gains[0] - gains[1], 1) == 15.5 and 1 / (1 + math.exp(15.5)) < 1e-6
four = (before, mild, strong, wrong_mask)
assert [round(run["well_formed"], 2) for run in four] == [0.99, 0.99, 0.95, 0.99]
assert [round(run["style"], 2) for run in four] == [0.00, 0.08, 0.86, 0.08]
assert before["logps/rejected"] < -10  # the base model does not write the empty answer
assert round(before["exact"], 3) == 0.019 and round(strong["exact"], 3) == 0.001

# %% [markdown] lang="en"
# With $\beta=1.0$, after 300 steps, the mean margin is 15.5, where the pull $\sigma(-h)$ is below one in a million: training has in effect ended. Yet only 8 % of the answers have three numbers: the chosen ones started so low that many nats of gain leave them rare.
#
# With $\beta=0.1$ the same margin needs ten times the log-ratio, so the pull lasts. After 300 steps 86 % of the answers have three numbers, 95 % are well formed, and the share of right values, 1.9 % before, is 0.1 %.

# %% [markdown] lang="zh"
# $\beta=1.0$ 时，300 步后平均间隔是 15.5，拉力 $\sigma(-h)$ 不到百万分之一，训练实际上已经停了。可是只有 8% 的回答写三个数：chosen 起点太低，涨了许多奈特，仍然罕见。
#
# $\beta=0.1$ 时，同样的间隔要十倍的对数比，拉力就一直在。300 步后，86% 的回答写三个数，95% 格式正确，答案正确的却从 1.9% 掉到 0.1%。

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

# %%
tokenizer, batch_seed = CharTokenizer(), stream("chapter 9", 8)
prompts, answers = ClassicTask().demonstrations(64, batch_seed, numbers=3)
W = max(len(p) + len(a) for p, a in zip(prompts, answers))
masked_rows = []  # of a row: its letters, and what each is
for row, answer in ((56, answers[56]), (10, answers[10]), (10, "E")):
    n, L = len(prompts[row]), len(prompts[row] + answer)
    ids = tokenizer.encode(prompts[row] + answer)
    ids, real = tokenizer.pad([tokenizer.encode("P" * W), ids], side="left")
    label_mask = real[1] & (torch.arange(W) >= n)  # [:n] is masked, then the padding
    counted = int(label_mask[W - L : W - L + n].sum())
    assert counted == min(n, W - L)
    roles = ["padding"] * (W - L) + ["prompt"] * (n - counted)
    roles += ["counted"] * counted + ["answer"] * (L - n)
    masked_rows.append((tokenizer.decode(ids[1]), roles))
assert W == 30 and [30 - roles.count("padding") for _, roles in masked_rows] == [
    23,
    27,
    9,
]
assert [roles.count("counted") for _, roles in masked_rows] == [7, 3, 8]
assert [roles.count("prompt") for _, roles in masked_rows] == [0, 5, 0]


# %% tags=["figure"] alt_en="Three rows of characters aligned at the right edge of a grid of 30 columns. Green cells: the answer, rightly counted. Orange cells: prompt tokens that are counted by mistake. Grey cells: prompt tokens left out. The first row's prompt is all orange; the second row's has five grey and three orange cells; the third row's is all orange." alt_zh="30 列的方格里有三行字符，右端对齐。绿格：回答，理应计入。橙格：误被计入的提示词元。灰格：遮掉的提示词元。第一行的提示全是橙色；第二行的提示五格灰、三格橙；第三行的提示全是橙色。"
@picture
def what_is_counted(say):
    fig, axes = figure(width=7.6, height=2.0)
    tints = {"padding": "none", "prompt": COLORS["ref"]}
    tints |= {"counted": COLORS["rejected"], "answer": COLORS["chosen"]}
    letter = {"ha": "center", "va": "center", "color": "white", "fontsize": 9}
    for i, (text, roles) in enumerate(masked_rows):
        for j, role in enumerate(roles):
            box = Rectangle(
                (j, i), 1, 1, facecolor=tints[role], edgecolor=INK, linewidth=0.5
            )
            axes.add_patch(box)
            if role != "padding":
                axes.text(j + 0.5, i + 0.5, text[j], **letter)
    words = say(
        "padding,prompt left out,prompt counted by mistake,answer",
        "填充,遮掉的提示,误计的提示,回答",
    )
    for tint, word in zip(tints.values(), words.split(",")):
        axes.bar(0, 0, color=tint, edgecolor=INK, linewidth=0.5, label=word)
    axes.legend(ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1), fontsize=9)
    axes.set(xlim=(0, W), ylim=(3, 0), aspect="equal", yticks=[])
    axes.set_xticks([0.5, 9.5, 19.5, 29.5], [1, 10, 20, 30])
    axes.set_xlabel(say("place in the row", "在行里的位置"))
    axes.grid(False)


# %% [markdown] lang="en"
# **Figure 9.7.** What the script counts. Green: the answer. Orange: prompt tokens counted by mistake. Grey: prompt tokens masked as they should be.

# %% [markdown] lang="zh"
# **图 9.7** 脚本把哪些词元计入损失。绿：回答。橙：误被计入的提示词元。灰：照理遮掉的提示词元。

# %% [markdown] lang="en"
# With a right mask the prompt cannot matter: both answers share it, and it cancels in $h$. In the second and third row, one pair, it does not: the rejected row counts 8 of its tokens and the chosen row 3. Five remain with a minus sign: the loss falls when the prompts become improbable. Nothing crashes, and in our run nothing shows: 99 % well formed and 8 % with three numbers after 300 steps, as with the right mask. Counting gives it away: the marked tokens of a row must be the tokens of its answer.
#
# ### Two more lines
# [Chapter 8](08_tensors.ipynb) keeps a museum of such bugs; two more come from this project. The script takes `log(sigmoid(x))`. In float32, $\sigma(x)$ is rounded to 0 below about -88.7, and the logarithm of that is $-\infty$, with a gradient that is no number. `logsigmoid` computes the same function without the detour.

# %% [markdown] lang="zh"
# 掩码要是对的，提示就无关紧要：两个回答共用一个提示，在 $h$ 里抵消了。第二、三行合成一个偏好对，提示就抵消不掉了：rejected 那行计入 8 个，chosen 那行计入 3 个，剩下五个带着负号留在 $h$ 里；模型只要压低提示的概率，损失就降。程序照跑不误，我们这次训练也看不出什么：300 步后格式正确的 99%，三个数的 8%，同掩码正确时一样。数一数才会露馅：一行里标出的词元，必须正好是回答的词元。
#
# ### 还有两行
# [第 8 章](08_tensors.ipynb)为这类错误开了一座博物馆；这个项目里还有两件。脚本里写的是 `log(sigmoid(x))`。float32 下，$x$ 低于约 -88.7 时，$\sigma(x)$ 舍入成 0，取对数得 $-\infty$，梯度成了 nan（不是数）。`logsigmoid` 算的是同一个函数，不绕这个弯。

# %%
x = torch.tensor([-50.0, -88.0, -89.0, -200.0], requires_grad=True)
naive = torch.log(torch.sigmoid(x))
print(naive.tolist(), logsigmoid(x).tolist(), sep="\n")
assert naive[:2].isfinite().all() and (naive[2:] == -math.inf).all()
assert torch.equal(logsigmoid(x)[1:], x[1:])  # exact: to the last digit, it is x here
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
# $$\text{DPO：}0.1\,\sigma(-0.1\,m)\qquad\text{笔记本：} 0.1\,\sigma(0.1\,m)$$
#
# 一对赢了，DPO 就松手。笔记本却对已经赢了的用力最大，所以多大的间隔它都嫌不够。

# %%
m_axis = torch.linspace(-60, 240, 301, dtype=torch.float64, requires_grad=True)
pull = {}  # -d loss / d m
for name, loss in (
    ("chosen", -logsigmoid(0.1 * m_axis)),
    ("rejected", (torch.sigmoid(-0.1 * m_axis) + 1e-8).log()),
):
    pull[name] = -torch.autograd.grad(loss.sum(), m_axis)[0]
zero, hundred = 60, 160  # places of m = 0 and m = 100
assert all(abs(weight[zero] - 0.05) < 1e-6 for weight in pull.values())
assert pull["chosen"][hundred] < 1e-5 and pull["rejected"][hundred] > 0.099


# %% tags=["figure"] alt_en="Gradient weight against the margin m from -60 to 200. The DPO curve falls from 0.1 to 0 and crosses 0.05 at m = 0. The notebook's curve is its mirror image up to m = 120: it rises from 0 to 0.1; beyond that it drops to 0 near m = 200." alt_zh="梯度权重随间隔 m 的变化，m 从 -60 到 200。DPO 的曲线从 0.1 降到 0，在 m = 0 处经过 0.05。笔记本的曲线在 m = 120 以前是它的镜像，从 0 升到 0.1；再往后，在 m = 200 附近掉到 0。"
@picture
def two_pulls(say):
    fig, axes = figure(width=6.4, height=3.0)
    for name, weight in pull.items():
        axes.plot(m_axis.detach(), weight, color=COLORS[name])
    axes.text(-58, 0.087, say("DPO", "DPO"), color=COLORS["chosen"])
    place = (118, 0.087)
    axes.text(*place, say("notebook", "笔记本"), color=COLORS["rejected"], ha="right")
    axes.set_xlabel(say("margin $m$ of the pair (nats)", "偏好对的间隔 $m$（奈特）"))
    axes.set_ylabel(say("pull on the pair", "对这一对的拉力"))


# %% [markdown] lang="en"
# **Figure 9.8.** The pull on a pair against its margin $m$, in nats. Green: DPO. Orange: the notebook, whose pull grows until the tiny added number ends it.

# %% [markdown] lang="zh"
# **图 9.8** 对一个偏好对的拉力，随间隔 $m$（奈特）的变化。绿：DPO。橙：笔记本，拉力一直涨，直到那个加上去的极小数把它截断。

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
# The log-ratio $\Delta$ at the optimum is $(r-V)/\beta$ with $V=\beta\log Z$, and $Z=4.022$.
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
# 在最优解处，对数比 $\Delta$ 等于 $(r-V)/\beta$，其中 $V=\beta\log Z$，$Z=4.022$。
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
def label_floor(q): ...


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
# 写一个 `sampled(data, seed)`：由软标签的 `Pairs` 做出一份新的 `Pairs`，其中每一对都当真比过一次。chosen 以 `preference_prob` 的概率保持不变；否则两个回答对调，属于它们的东西也一起对调。标签全部变成 1.0。然后照前面那样训练，同软标签那次比一比：预言相同，噪声更大。
#
# <details><summary>提示</summary>
#
# 每一对有四列是成双的。`Pairs` 的六列依次是 `prompt`、`chosen`、`rejected`、`preference_prob`、`ref_chosen_logps`、`ref_rejected_logps`。用 `np.random.default_rng(seed)`。
#
# </details>


# %% tags=["exercise"]
def sampled(data, seed): ...


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
# Three answers share one parameter $\theta$, as in [chapter 7](07_derivation.ipynb). Chosen: probability 0.4, $\phi=1$. Rejected: 0.2, $\phi=0$. A third: 0.4, $\phi=2$. Before you compute: who gains, who loses? Then give the derivatives of the three log-probabilities with respect to $\theta$ at $\theta=0$, in the order chosen, rejected, third.
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
# 三个回答共用一个参数 $\theta$，同[第 7 章](07_derivation.ipynb)里一样。chosen：概率 0.4，$\phi=1$。rejected：0.2，$\phi=0$。第三个：0.4，$\phi=2$。动笔之前先猜：谁升，谁降？再求三个对数概率在 $\theta=0$ 处对 $\theta$ 的导数，按 chosen、rejected、第三个的顺序写。
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
answer_9_6 = (
    ...
)  # (entropy of the optimum, mean of -log ref over the optimum's answers)
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
# A report says: “Our remedy for DPO with deterministic labels lifts the share of three-number answers from 30 % to 80 %.” The reward is 1 for three numbers and 0 otherwise, every pair is two draws of the base model, which writes three numbers in 30 % of its answers to every prompt, the better answer is chosen, and ties are dropped. Which baseline is missing? What share does it end at on the very same file, and at what share would it end if ties had been kept?
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
# 有份报告说：「DPO 用确定性标签，加上我们的补救，写三个数的回答由 30% 升到 80%。」写三个数奖励 1，否则奖励 0；每一对都是基座模型的两次抽样，基座模型对每个提示都有 30% 的回答写三个数；好的那个是 chosen，平局丢掉。缺了哪个基线？它在同一份文件上，终点的比例是多少？要是平局留着，终点又是多少？
#
# <details><summary>提示</summary>
#
# 模仿 chosen。丢掉平局，一个回答成为 chosen 的机会与 $2p\,P(\text{更差})$ 成正比；留着平局，与 $2p\,P(\text{更差})+p\,P(\text{同分})$ 成正比。
#
# </details>

# %% tags=["exercise"]
answer_9_7 = ...  # (share on the same file, share with the ties kept)
check("9.7", answer_9_7)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# Without ties every chosen answer has three numbers: imitation of the winners ends at 100 %, above the remedy. With ties kept, two draws both have two numbers with probability $0.7^2=0.49$, and 51 % remain. A share is not $J$, either: the report should give both for both.
#
# ```python
# answer_9_7 = (1.0, 1 - 0.7**2)
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 丢掉平局，chosen 个个写三个数：模仿赢家，终点是 100%，比那个补救高。留着平局，两次都写两个数的概率是 $0.7^2=0.49$，剩下 51%。再说，比例不是 $J$：报告应当两样都给，两边都给。
#
# ```python
# answer_9_7 = (1.0, 1 - 0.7**2)
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 9.8 · Four runs, four reports
# ★★☆ · 10 minutes
#
# Four runs of DPO with the reward and the $\beta$ of this chapter, as a report would give them. The first three columns are measured on held-out pairs that differ in reward, KL on the policy's own answers.
#
# | run | accuracy | margin | chosen moved by | KL |
# |---|---|---|---|---|
# | A | 1.00 | 1.15 | -0.5 | 4.7 |
# | B | 0.99 | 0.71 | 0.2 | 1.6 |
# | C | 0.99 | 4.02 | -5.4 | 5.2 |
# | D | 1.00 | 1.08 | 0.0 | 1.3 |
#
# One is `"fine"`. In one the judge always named the better answer (`"labels"`), in one the learning rate is too low (`"rate"`), in one both answers of each pair were drawn at temperature 1 while the training was long (`"pairs"`). Which is which?
#
# <details><summary>Hint</summary>
#
# The true difference of rewards is 1.14, and the optimum's KL is 1.26. Which runs have the right margin? Of these, which has paid too much for it?
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 9.8 · 四次训练，四份报告
# ★★☆ · 10 分钟
#
# 四次 DPO 训练，奖励和 $\beta$ 同本章，报告里是这样写的。前三列在留出的偏好对上量，只取奖励有高下的；KL 在策略自己的回答上量。
#
# | 训练 | 准确率 | 间隔 | chosen 变化 | KL |
# |---|---|---|---|---|
# | A | 1.00 | 1.15 | -0.5 | 4.7 |
# | B | 0.99 | 0.71 | 0.2 | 1.6 |
# | C | 0.99 | 4.02 | -5.4 | 5.2 |
# | D | 1.00 | 1.08 | 0.0 | 1.3 |
#
# 有一次没有毛病（`"fine"`）；有一次，裁判总是点出较好的一方（`"labels"`）；有一次，学习率太低（`"rate"`）；还有一次，每一对的两个回答都在温度 1 下抽，训练又长（`"pairs"`）。各是哪一次？
#
# <details><summary>提示</summary>
#
# 真实的奖励差是 1.14，最优解的 KL 是 1.26。哪几次的间隔是对的？其中哪一次付出的太多？
#
# </details>

# %% tags=["exercise"]
answer_9_8 = ...  # ("fine", "labels", "rate", "pairs") in the order of A, B, C, D
check("9.8", answer_9_8)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# C overshoots the margin: labels without an end. B has not arrived: the rate. A and D have the right margin and a perfect accuracy, so the pairs cannot tell them apart. The KL does: A has moved far where no pair looks. (All four are recorded runs: `longer`, `dpo soft` at 1e-4, `dpo deterministic`, `shipped`.)
#
# ```python
# answer_9_8 = ("pairs", "rate", "labels", "fine")
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# C 的间隔冲过了头：标签没有尽头。B 还没走到：学习率。A 和 D 间隔都对，准确率都满分，光看偏好对分不出来；KL 分得出：A 在没有偏好对覆盖的地方走远了。（四次都是录下的训练：`longer`、学习率 1e-4 的 `dpo soft`、`dpo deterministic`、`shipped`。）
#
# ```python
# answer_9_8 = ("pairs", "rate", "labels", "fine")
# ```
#
# </details>

# %% tags=["proof"] checked_en="Checked: the table of exercise 9.8 against the recorded runs, and a number of exercise 9.9." checked_zh="已验证：练习 9.8 的表同录下的训练一致；还有练习 9.9 里的一个数。"
# concluded of exercise 9.8
reports = {}
for run in [*stored["grid"], *longer]:
    key = run["name"], run.get("rate")
    if run["seed"] == 0:
        reports[key] = [f"{run['accuracy']:.2f}", f"{run['margin']:.2f}"]
        reports[key] += [f"{run['displacement']:.1f}", f"{run['kl']['value']:.1f}"]
assert reports["longer", None] == ["1.00", "1.15", "-0.5", "4.7"]
assert reports["dpo soft", 1e-4] == ["0.99", "0.71", "0.2", "1.6"]
assert reports["dpo deterministic", 3e-4] == ["0.99", "4.02", "-5.4", "5.2"]
assert reports["shipped", None] == ["1.00", "1.08", "0.0", "1.3"]
assert f"{ends['optimum']['J'] - ends['base model']['J']:.2f}" == "0.59"  # exercise 9.9

# %% [markdown] lang="en"
# ### Exercise 9.9 · Other authors
# ★★☆ · 15 minutes
#
# Change the world. In another population one author in ten writes three numbers, and one in two slips, both independently and alike for every prompt. Reward and $\beta$ are those of this chapter. Predict, before you run anything: the optimum's share of three-number answers, its share of right values, and its $J$. Then hold the two shares against `predicted_optimum(BookTask(style=0.1, slip=0.5), "style+exact", 0.25)`, where the rates differ from prompt to prompt.
#
# <details><summary>Hint</summary>
#
# The reward is a sum, so $e^{r/\beta}$ is a product and each share tilts for itself, as in exercise 9.1. Put $\pi^*$ into $J$: what is left is $\beta\log Z$, and $\log Z$ is a sum of two terms.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 9.9 · 换一群作者
# ★★☆ · 15 分钟
#
# 换个世界：另一群作者，十个里有一个写三个数，两个里有一个会失误，两件事互不相干，每个提示都一样。奖励和 $\beta$ 同本章。先别运行，预言一下：最优解写三个数的比例、答案正确的比例，还有它的 $J$。然后拿前两个同 `predicted_optimum(BookTask(style=0.1, slip=0.5), "style+exact", 0.25)` 对照；那里各个提示的比例有高有低。
#
# <details><summary>提示</summary>
#
# 奖励是和，$e^{r/\beta}$ 就是积，两个比例各自加权，做法同练习 9.1。把 $\pi^*$ 代进 $J$，剩下的是 $\beta\log Z$，而 $\log Z$ 是两项之和。
#
# </details>

# %% tags=["exercise"]
answer_9_9 = ...  # (share of three numbers, share of right values, J)
check("9.9", answer_9_9)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# With $e^{1/\beta}=e^4=54.6$: three numbers $5.46/(5.46+0.9)=0.858$, right values $27.3/(27.3+0.5)=0.982$. And $J=\beta\log Z=0.25\,(\log 6.36+\log 27.8)=1.29$. The base model's is 0.6, so 0.69 are to be gained; in the world of this chapter it is 0.59.
#
# ```python
# tilt = math.exp(1 / 0.25)
# three, right = 0.1 * tilt + 0.9, 0.5 * tilt + 0.5
# answer_9_9 = (0.1 * tilt / three, 0.5 * tilt / right, 0.25 * math.log(three * right))
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# $e^{1/\beta}=e^4=54.6$：写三个数的 $5.46/(5.46+0.9)=0.858$，答案正确的 $27.3/(27.3+0.5)=0.982$。$J=\beta\log Z=0.25\,(\log 6.36+\log 27.8)=1.29$。基座模型是 0.6，可赚 0.69；在本章的世界里是 0.59。
#
# ```python
# tilt = math.exp(1 / 0.25)
# three, right = 0.1 * tilt + 0.9, 0.5 * tilt + 0.5
# answer_9_9 = (0.1 * tilt / three, 0.5 * tilt / right, 0.25 * math.log(three * right))
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
