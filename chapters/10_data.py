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
# # 10 Data decides

# %% [markdown] lang="zh"
# # 10 数据说了算

# %% [markdown] lang="en"
# > **In this chapter.** You will be able to say what a set of preference pairs will teach before you train on it: what imitation of its winners converges to, what DPO makes of its noise and of its length, when the rejected answers are worth having, and what no pair can teach. You need [chapter 9](09_dpo.ipynb); the closed forms are those of [chapter 6](06_objective.ipynb) and [chapter 7](07_derivation.ipynb). 35 minutes to read, and 25 more for the sections marked ⋆; 30 seconds to run.

# %% [markdown] lang="zh"
# > **本章。** 读完后，你能在训练之前说出一份偏好数据会教出什么：照着赢家学，会收敛到哪里；数据里的噪声和长度，DPO 会怎样对待；rejected 什么时候值得要；哪些东西，什么样的偏好对都教不会。需要读过[第 9 章](09_dpo.ipynb)；闭式解出自[第 6 章](06_objective.ipynb)和[第 7 章](07_derivation.ipynb)。阅读 35 分钟，带 ⋆ 的几节另需 25 分钟；运行 30 秒。

# %%
import contextlib
import copy
import io
import json
import math
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from checks import check
from torch.nn import functional as F

from dpo_core import BookTask, arms, judge, load_pretrained, tabular, use_threads
from dpo_core.commands.parser import main
from dpo_core.evaluation import Estimate, evaluate, own_answers
from dpo_core.pairs import read_pairs
from dpo_core.plotting import COLORS, figure, points
from dpo_core.preferences import on_policy_pairs
from dpo_core.rl import checker
from dpo_core.sampling import generate
from dpo_core.steps import dpo_step, sft_step
from dpo_core.theory import class_problem, predicted_optimum, predicted_shares
from dpo_core.training import LoopConfig, train

# %% [markdown] lang="en"
# ## The same loss, other pairs
# Chapter 9 mostly changed the loss's settings and kept the pairs. Now the loss stays what it is, and the pairs change. Two files that look alike can differ in four things: who wrote the two answers, who judged them, which pairs were kept, and how many there are.
#
# Every file is used twice. Once by DPO. Once by **fine-tuning on the chosen answers** alone: throw the rejected ones away and imitate the rest, with the loss of [chapter 3](03_sft.ipynb). This baseline needs no reference and no $\beta$. A preference loss that does not beat it has not earned its rejected answers.
#
# Beat it at what? At the objective of [chapter 6](06_objective.ipynb), $J=\mathbb{E}[r]-\beta\,\mathrm{KL}$, with the reward and the $\beta$ of the experiment, measured from the base model, for every arm and for the base model itself. Beside $J$ the tables show what it is made of.
#
# The runs are recorded: three seeds, each with its own base model and its own pairs; 6,400 comparisons and 100 updates of 64 pairs unless said otherwise; one learning rate, tuned for neither method; 2,000 fresh prompts to measure on (the base models: 2,000 others). "Ahead" means ahead in every seed. In a figure, a bar goes from the lowest seed to the highest. These runs are short: chapter 9's recipe has fifteen times the pairs.

# %% [markdown] lang="zh"
# ## 损失不变，换数据
# 第 9 章主要改损失的设置，偏好对很少动。这一章反过来：损失不动，换偏好对。两份看起来一样的文件，有四处可以不同：两个回答是谁写的，谁来评，留下了哪些，一共多少。
#
# 每份文件都用两次。一次做 DPO。另一次只在 chosen（被偏好的回答）上做**监督微调**（supervised fine-tuning，SFT）：扔掉 rejected（不被偏好的回答），照着剩下的学，损失就是[第 3 章](03_sft.ipynb)的那个。这条基线不要参考策略，也不要 $\beta$。偏好损失若赢不了它，就对不起那些 rejected。
#
# 比什么呢？比[第 6 章](06_objective.ipynb)的目标，$J=\mathbb{E}[r]-\beta\,\mathrm{KL}$：奖励和 $\beta$ 用各实验自己的，从基座算起，每种做法都报，基座自己也报。表里除了 $J$，还列出它由什么组成。
#
# 实验都跑好存下了：三个种子，各有自己的基座和偏好对；不另说明的，都是 6,400 次比较，更新 100 步，每步 64 对；一个学习率，对哪种方法都没有调过；在 2,000 个新提示上测量（基座用的是另外 2,000 个）。说「领先」，是指三个种子个个领先。图里的竖线从最低的种子画到最高的种子。这些训练都很短：第 9 章的配方用了十五倍的偏好对。

# %%
task = BookTask()
stored = json.loads(Path("data/data_decides.json").read_text(encoding="utf-8"))
bases = json.loads(Path("data/seeds.json").read_text(encoding="utf-8"))["seeds"]
settings = stored["settings"]
assert [settings[name] for name in ("pairs", "steps", "n")] == [6_400, 100, 2_000]
assert settings["seeds"] == [entry["seed"] for entry in bases] == [0, 1, 2]
assert 15 * settings["pairs"] == 96_000
YARDSTICK = {  # of each experiment: reward and beta
    "labels": ("style", 0.5),
    "noise": ("style", 0.5),
    "source": ("exact", 0.25),
    "negatives": ("exact", 0.25),
    "length": ("exact", 0.5),
    "amount": ("style+exact", 0.25),
    "iterate": ("style", 1.0),
}
MEASURES = ("J", "reward", "kl", "style", "exact", "both", "well_formed")


# %%
def weighed(run, name, experiment):
    """The run under its arm's name, with the mean reward and J."""
    reward, beta = YARDSTICK[experiment]
    worth = sum(run[part]["value"] for part in reward.split("+"))
    price = beta * run["kl"]["value"]
    return run | {
        "name": name,
        "reward": {"value": worth},
        "J": {"value": worth - price},
    }


runs = {}
for experiment in YARDSTICK:
    runs[experiment] = [
        weighed(run, f"{run['name']} {run.get('method', run.get('round'))}", experiment)
        for run in stored[experiment]
    ]
    for entry in bases:  # a base model is at no distance from itself
        start = {"seed": entry["seed"], **entry["base"], "kl": {"value": 0.0}}
        runs[experiment].append(weighed(start, "base", experiment))


# %%
def reached(experiment, arm, metric="J"):
    """The mean over the seeds, and the lowest and the highest of them."""
    found = list(arms.values(runs[experiment], arm, metric).values())
    return Estimate(sum(found) / len(found), min(found), max(found))


def near(experiment, arm, metric, value):
    return f"{reached(experiment, arm, metric).value:.2f}" == value


def end(experiment, policy):
    """What a policy over classes shows, J of the experiment included."""
    shares, (reward, beta) = predicted_shares(task, policy), YARDSTICK[experiment]
    worth = sum(shares[name] for name in reward.split("+"))
    return shares | {"J": worth - beta * shares["kl"]}


# %% [markdown] lang="en"
# ## Where imitation goes
# Start with numbers that fit on a hand. A prompt has two kinds of answers: three numbers, which the judge likes (reward 1), and two numbers (reward 0). The base model writes the first kind in 30 % of its answers. Draw two answers, let the judge pick one, and imitate it. How often does the imitator write three numbers?
#
# There are three cases. Both answers have three numbers: probability $0.3\cdot0.3=0.09$, and the chosen one has three. Both have two: $0.49$, and it has two. They differ: $2\cdot0.3\cdot0.7=0.42$, and the label decides.
#
# - **Sampled labels.** The better one wins with probability $\sigma(1)=0.731$. Three numbers are chosen with probability $0.09+0.42\cdot0.731=0.397$.
# - **Deterministic labels, ties kept.** The better one always wins: $0.09+0.42=0.51$.
# - **Deterministic labels, ties dropped.** Only the pairs that differ are left, and in all of them three numbers win: $1$.
#
# One base model, one taste, and three results, depending on what was done with the label. In general, let $p$ be the distribution that both answers are drawn from. An answer $y$ becomes the chosen one if it was drawn, first or second, and beat the other. So the chosen answers have the distribution
#
# $$p_w(y)=2\,p(y)\;\mathbb{E}_{y'\sim p}\big[P(y\succ y')\big],$$
#
# where $P(y\succ y')$ is the probability that $y$ is chosen over $y'$. Cross-entropy on them is smallest where the policy equals $p_w$ (chapter 3). Where pairs without a label are dropped, neither answer wins them, and the whole is divided by the share that is left. In the table of comparisons of chapter 5, it is the sum of row $i$ of `wins` over the sum of everything.

# %% [markdown] lang="zh"
# ## 照着赢家学，会学到哪里
# 先用手算得动的数。一个提示有两类回答：写三个数的，裁判喜欢（奖励 1）；写两个数的，奖励 0。基座有 30% 的回答写三个数。抽两个回答，裁判挑一个，照着它学。学成之后，写三个数的占多少？
#
# 分三种情形。两个都写三个数：概率 $0.3\cdot0.3=0.09$，chosen 也是三个数。两个都写两个数：$0.49$，chosen 是两个数。两类各一个：$2\cdot0.3\cdot0.7=0.42$，谁当 chosen 由标签定。
#
# - **采样标签**（sampled label）。好的一方以概率 $\sigma(1)=0.731$ 胜出。chosen 写三个数的概率是 $0.09+0.42\cdot0.731=0.397$。
# - **确定性标签**（deterministic label），**留着平局**（tie）。好的一方必胜：$0.09+0.42=0.51$。
# - **确定性标签，丢掉平局**。剩下的都是两类各一个，赢的全是三个数：$1$。
#
# 同一个基座，同一种口味，只因标签的处理不同，就有三种结局。一般地说，设两个回答都从分布 $p$ 里抽。回答 $y$ 要成为 chosen，得先被抽到（第一个或第二个），再赢过对手。所以 chosen 的分布是
#
# $$p_w(y)=2\,p(y)\;\mathbb{E}_{y'\sim p}\big[P(y\succ y')\big]$$
#
# 其中 $P(y\succ y')$ 是 $y$ 赢过 $y'$ 的概率。在这些回答上，交叉熵在策略等于 $p_w$ 时最小（第 3 章）。没有标签的偏好对若被丢掉，就谁也没赢，最后再除以剩下的比例。用第 5 章的比较表来说，它是 `wins` 第 $i$ 行之和除以总和。

# %%
p, win = 0.3, 1 / (1 + math.exp(-1))
by_hand = {
    "sampled": p**2 + 2 * p * (1 - p) * win,
    "kept": p**2 + 2 * p * (1 - p),
    "dropped": 1.0,
}
print({name: round(value, 3) for name, value in by_hand.items()}, round(win, 3))
assert [round(v, 3) for v in by_hand.values()] == [0.397, 0.51, 1.0] and round(
    win, 3
) == 0.731


def imitation(wins):
    """log p_w, the imitator of the chosen answers of a table of comparisons."""
    return (wins.sum(-1) / wins.sum((-1, -2)).unsqueeze(-1)).log()


toy = torch.tensor([p, 1 - p]).double().log()  # three numbers, two numbers
two = tabular.independent_pairs(toy, toy)
for name, labels in (("sampled", "soft"), ("dropped", "deterministic")):
    wins = tabular.comparisons(torch.tensor([1.0, 0.0]).double(), two, labels)
    assert abs(imitation(wins).exp()[0] - by_hand[name]) < 1e-6

# %% [markdown] lang="en"
# The formula against a minimiser, on 20 random problems with six answers each:

# %% [markdown] lang="zh"
# 再拿 20 道随机小题，各有六个回答，用数值方法求最小来核对公式：

# %%
problems = tabular.random_problems(20, 6, seed=10)
probs = problems.ref_logps.exp()
two_draws = tabular.independent_pairs(problems.ref_logps, problems.ref_logps)
reward = problems.reward
beaten = {
    "soft": tabular.preference_probs(reward),
    "deterministic": (reward[:, :, None] > reward[:, None]).double(),
}
for labels, beats_it in beaten.items():
    share = imitation(tabular.comparisons(reward, two_draws, labels)).exp()
    density = 2 * probs * (beats_it * probs[:, None]).sum(-1)
    assert torch.allclose(density / density.sum(-1, keepdim=True), share, atol=1e-12)
    if labels == "soft":
        found = tabular.minimise(
            lambda logits: -(share * logits.log_softmax(-1)).sum(-1),
            torch.zeros(20, 6).double(),
        )
        assert (found.softmax(-1) - share).abs().max() < 1e-9

# %% [markdown] lang="en"
# Now the network, with the same reward, style, and $\beta=0.5$. The population's share of three numbers is 0.30 on average, but it differs from prompt to prompt, so the ends are averages over the prompts. DPO has its own end, 0.76, whichever way the pairs are drawn; under a deterministic judge it has none ([chapter 7](07_derivation.ipynb)). **Before you read the table:** which of the five arms will have the highest $J$?

# %% [markdown] lang="zh"
# 轮到网络，奖励还是风格，$\beta=0.5$。群体里写三个数的平均占 0.30，可是各个提示不同，所以终点要对提示取平均。DPO 有自己的终点，0.76，与怎么抽样本对无关；裁判若是确定性的，就没有终点（[第 7 章](07_derivation.ipynb)）。**看表之前先猜：** 五种做法里，哪一种的 $J$ 最高？

# %%
styles = class_problem(task, "style")
style_pairs = tabular.independent_pairs(styles.ref_logps, styles.ref_logps)


def winners(reward, labels="soft", keep=1.0):
    """log p_w for each prompt; where all pairs are ties, the reference."""
    wins = tabular.comparisons(reward, style_pairs, labels) * keep
    some = wins.sum((-1, -2))[:, None] > 0
    return torch.where(some, imitation(wins), styles.ref_logps)


ends = {
    "sampled sft": end("labels", winners(styles.reward)),
    "kept sft": end("labels", tabular.best_of_n(styles, 2)),
    "dropped sft": end("labels", winners(styles.reward, "deterministic")),
    "sampled dpo": end("labels", tabular.optimal_policy(styles, 0.5)),
}
print(arms.table(runs["labels"], None, MEASURES))
for name, value in ends.items():
    print(
        f"end of {name:12}",
        *(f"{m} {value[m]:.2f}" for m in ("J", "style", "exact", "kl")),
    )
assert f"{ends['sampled dpo']['style']:.2f}" == "0.76"

# %% alt_en="Share of three-number answers for three kinds of label, left to right: sampled, deterministic with ties kept, deterministic with ties dropped. Dashes mark the predictions. Imitation sits near its dashes at 0.4 and 0.5, and at 0.87 below 1. DPO sits near 0.6 for sampled labels, below its dash at 0.76, and near 0.95 without ties. A second panel shows J: everything lies near 0.4 but DPO without ties, far below zero." alt_zh="三种标签下写三个数的比例，从左到右：采样标签、确定性标签留平局、确定性标签丢平局。短横是预言。模仿靠近 0.4 和 0.5 处的短横，第三种在 0.87，低于 1。DPO 在采样标签下约 0.6，低于 0.76 处的短横；丢掉平局时接近 0.95。另一幅是 J：都在 0.4 上下，只有丢平局的 DPO 远在零以下。"
fig, panels = figure(2, width=7.4, height=3.2)
for panel, metric in zip(panels, ("style", "J")):
    for x, name in enumerate(("sampled", "kept", "dropped")):
        line = [ends[f"{name} sft"][metric]] * 2
        panel.plot([x - 0.25, x + 0.05], line, color=COLORS["theory"])
        found = [reached("labels", f"{name} sft", metric)]
        points(panel, [x - 0.1], found, "baseline", marker="s")
        if name != "kept":
            found = [reached("labels", f"{name} dpo", metric)]
            points(panel, [x + 0.15], found, "policy")
    panel.plot([0, 0.3], [ends["sampled dpo"][metric]] * 2, color=COLORS["theory"])
    start = reached("labels", "base", metric).value
    panel.axhline(start, color=COLORS["ref"], linestyle=":")
    panel.set(title=metric, xlim=(-0.5, 2.5))
    panel.set_xticks(range(3), ["$q$", "$q=1$\n$=$", "$q=1$\n$\\neq$"])

# %% [markdown] lang="en"
# **Figure 10.1.** Three-number answers (left) and $J$ (right) after 100 updates: imitation of the chosen answers (squares), DPO (dots), the ends (dashes), the base model (dotted). From left to right: sampled labels; deterministic ones, ties kept ($=$); deterministic ones, ties dropped ($\neq$).

# %% [markdown] lang="zh"
# **图 10.1** 更新 100 步之后写三个数的比例（左）与 $J$（右）：模仿 chosen（方块）、DPO（圆点）、终点（短横）、基座（点线）。从左到右：采样标签；确定性标签，留平局（$=$）；确定性标签，丢平局（$\neq$）。

# %%
for one, other in (
    ("sampled dpo", "sampled sft"),
    ("kept sft", "sampled dpo"),
    ("sampled sft", "base"),
    ("dropped sft", "base"),
    ("base", "dropped dpo"),
):
    assert arms.beats(runs["labels"], one, other), (one, other)
assert ends["sampled dpo"]["J"] > ends["kept sft"]["J"] > ends["sampled sft"]["J"]
assert arms.beats(runs["labels"], "dropped sft", "dropped dpo", "exact")

# %% [markdown] lang="en"
# From sampled labels DPO is ahead of imitation of the same file, so narrowly that other base models may turn it round, but it has still a way to go: imitation has reached its end and DPO has not. But the highest $J$ belongs to imitation of a file whose judge never errs, with ties kept: the best of two. Its end is lower than DPO's, it is simply there already. With ties dropped, DPO falls below the base model; it goes past every leash, and right answers are lost on the way, which imitation of the same file keeps.
#
# So **when does the rejected side earn its keep?** When the label is one draw of an unsure judge. Then a chosen answer is only a little better than a rejected one on average, and so is its imitation; the difference between the two carries the strength of the preference, and DPO reads it and divides it by $\beta$. When the judge is certain and the question is a single yes or no, the chosen answers are already clean examples. Imitating them is called **rejection sampling**: draw, keep what passes, fine-tune. With the bare sigmoid the rejected side can then add only a pressure that never ends. That is a property of this loss, not of rejected answers: smoothed labels, and IPO's square, give the pressure an end (chapter 9's remedies, [chapter 11](11_family.ipynb)).

# %% [markdown] lang="zh"
# 采样标签下，DPO 领先于同一份文件的模仿，只是领先不多，换一批基座也许就反过来；不过它还有路可走：模仿到了终点，DPO 没到。可是 $J$ 最高的，是另一份文件的模仿：裁判从不出错，平局留着，即二选一取优。它的终点比 DPO 的低，只是已经到了。丢掉平局，DPO 跌到基座以下：什么绳子都拉不住它，路上还丢了正确的回答；同一份文件，模仿就没有丢。
#
# 那么，**rejected 什么时候才有用？** 裁判没把握、标签又只抽一次的时候。这时 chosen 平均只比 rejected 好一点，照着它学，也只好一点；偏好有多强，藏在两者之差里，DPO 把它读出来，再除以 $\beta$。若裁判有把握，问的又只是一个是与否，那么 chosen 本身就是干净的范例。照着它们学，叫**拒绝采样**（rejection sampling）：多抽，合格的留下，拿来微调。这时用光秃秃的 sigmoid，rejected 能添的只有没有尽头的压力。不过这是这个损失的性质，怪不得 rejected：标签平滑，还有 IPO 的平方，都给压力一个尽头（第 9 章的补救，[第 11 章](11_family.ipynb)）。

# %% [markdown] lang="en"
# ## Who wrote the answers
# Now the reward is the right value, and $\beta=0.25$. Pairs of four origins, all from 6,400 comparisons:
#
# - **population**: two texts of the authors to one prompt. The model wrote neither; they come from the same people as its training data.
# - **on-policy**: two answers of the model itself.
# - **other**: two answers of another model, one that has only begun to learn and is much more rarely right.
# - **checker**: the on-policy answers again, but the checker alone judges, right or wrong: labels are deterministic, and pairs of two right or two wrong answers are dropped.
#
# The first three have soft labels, the probability itself in place of a draw. So the chosen answer is always the better one, or one of two equals, and imitation is heading for the **best of two** of whoever wrote them. DPO's minimiser does not depend on who draws the pairs, as long as every answer can occur (chapter 7). What is left of that promise in 100 updates?

# %% [markdown] lang="zh"
# ## 回答是谁写的
# 现在奖励的是答案正确，$\beta=0.25$。四种来历的偏好对，都出自 6,400 次比较：
#
# - **population**（作者群体）：同一个提示，取作者们写的两个文本。不是模型写的，但与它的训练数据出自同一批人。
# - **on-policy**（同策略）：模型自己的两个回答。
# - **other**（异策略）：另一个模型的两个回答，那个模型才刚开始学，答对的少得多。
# - **checker**（判分程序）：还是同策略的那些回答，但只由判分程序来评，不是对就是错：标签是确定性的，两个都对或都错的，丢掉。
#
# 前三种用软标签（soft label）：不抽签，直接记概率。所以 chosen 总是好的那个，平局时是其中任一个；模仿的终点是写手的**二选一取优**（best of two）。DPO 的最小点，只要每个回答都可能出现，就与谁来抽无关（第 7 章）。这个保证落到网络上，更新 100 步，还剩多少？

# %%
exacts = class_problem(task, "exact")
print(arms.table(runs["source"], None, MEASURES))
for name in ("population", "on-policy", "other", "checker"):
    found = [
        f"{m} {reached('source', f'{name} {m}', 'new').value:.2f}"
        for m in ("dpo", "sft")
    ]
    print(f"new, {name:10}", *found)
for name, policy in (
    ("dpo, soft labels", tabular.optimal_policy(exacts, 0.25)),
    ("population sft", tabular.best_of_n(exacts, 2)),
    ("checker sft", tabular.best_of_n(exacts, 10_000)),
):
    value = end("source", policy)
    print(f"end of {name:17}", *(f"{m} {value[m]:.3f}" for m in ("J", "exact", "kl")))

# %%
for name in ("population", "on-policy", "checker"):
    assert arms.beats(runs["source"], f"{name} sft", "base")
    assert arms.beats(runs["source"], "base", f"{name} dpo")
assert arms.beats(runs["source"], "other dpo", "base")
assert arms.beats(runs["source"], "base", "other sft")
assert arms.beats(runs["source"], "on-policy dpo", "population dpo")
assert arms.beats(runs["source"], "population dpo", "on-policy dpo", "new")
assert reached("source", "other dpo", "style").high < 0.2
for name in ("population", "on-policy", "checker"):
    assert reached("source", f"{name} dpo", "new").value > 0.105
assert near("source", "other sft", "J", "0.15")
assert near("source", "other dpo", "J", "0.78")

# %% [markdown] lang="en"
# By $J$, imitation is ahead in three of the four files, and there DPO even ends below the base model. The share of answers that are wrong in a way no author is, `new`, says why: it is 0.11 and more after DPO. Where a pair shows only the authors' mistakes, the base model's own rare ones are held down by nothing, and DPO moves probability into them: the leak of chapter 9, this time through the origin of the pairs. So the model's own answers serve it better than the population's. Imitation never pushes anything down.
#
# The fourth file turns it round. The other model's winners are often only the better of two wrong answers, and imitating them imports its mistakes: $J$ falls to 0.15. DPO compares them and learns what *distinguishes* the better from the worse: 0.78, ahead of the base model. This is the case for rejected answers: **winners worse than the policy, differences that still point the right way**. It is called delta learning ([Geng et al. 2025](https://arxiv.org/abs/2507.06187)), and Olmo 3 was made so: of its starting point, 70.3 points on average, further imitation of the chosen answers made 64.5, DPO on the same pairs 72.9 ([Team Olmo 2025](https://arxiv.org/abs/2512.13961), table 21). Our run paid a price as well: three numbers fell below 0.2, from 0.3, for in that model's pairs two numbers are the better guess at right.

# %% [markdown] lang="zh"
# 论 $J$，四份文件里有三份是模仿领先，DPO 在那三份上甚至不如基座。原因看 `new`，即没有作者会那样写的错误回答所占的比例：DPO 之后，不低于 0.11。偏好对里若只有作者们会犯的错，基座自己那些罕见的错就没有东西压着，DPO 把概率搬了过去：还是第 9 章那个漏洞，这回出在偏好对的来历上。所以用模型自己的回答，比用群体的好。模仿从不往下压。
#
# 第四份文件反过来。另一个模型的赢家，往往只是两个错误回答里稍好的一个；照着学，就把它的错学了进来：$J$ 跌到 0.15。DPO 拿两个相比，学的是好的与差的*差在哪里*：0.78，领先于基座。rejected 的用处就在这里：**赢家还不如策略自己，差别却仍指着对的方向**。这叫 delta learning（[Geng et al. 2025](https://arxiv.org/abs/2507.06187)），Olmo 3 就是这么做的：起点平均 70.3 分，照着 chosen 接着学，得 64.5；用同一批偏好对做 DPO，得 72.9（[Team Olmo 2025](https://arxiv.org/abs/2512.13961)，表 21）。我们这次也付了代价：写三个数的从 0.3 掉到 0.2 以下，因为在那个模型的偏好对里，猜两个数的更容易猜对。

# %% [markdown] lang="en"
# ## Length, which nobody asked for
# A judge cares for the right value and has no opinion on length. But between the judge and the file something happened: where the *shorter* answer won, three of four pairs were lost. Every label in the file is honest. What does the policy learn?
#
# Call the lengths 3 and 2 numbers, and let $\kappa=0.25$ be the share of shorter winners that is kept. Take one long and one short answer whose rewards differ by $g$ = long minus short. The long one wins with odds $e^{g}$, that is Bradley–Terry. Among the pairs that are left, the odds are those of before times $1/\kappa$, for only the short one's wins were thinned out. Take logarithms:
#
# $$\log\text{odds}=g+\log\frac1\kappa.$$
#
# Pairs of equal length were not thinned. So all pairs together come from a Bradley–Terry judge whose reward has a second term, $\log\frac1\kappa=\log4=1.386$ points for length. With two lengths, a selection that never touched a label is, to the loss, the same thing as a judge who likes long answers. DPO divides that by $\beta=0.5$ like any reward: its end in style, which is our length, moves from 0.30 to 0.87. Imitation sees only that winners are somewhat longer: 0.36.
#
# The cure works on the same place. **Balance** the file: drop pairs in which the longer one won, at random, until longer and shorter winners are equally many. Here, where length has nothing to do with being right, the extra log odds are then zero again. Where longer answers really are better, balancing takes that away too. For imitation the cure is not neutral: pairs of unequal length are now a quarter of what they were, and most pairs of equal length are short; its end in style is 0.208.

# %% [markdown] lang="zh"
# ## 谁也没要的长度
# 裁判只看答案对不对，对长短没有意见。可是从裁判到文件，中间出了点事：凡是*短*的一方赢了的，四对丢了三对。文件里的标签每一个都诚实。策略会学到什么？
#
# 长度就分 3 个数和 2 个数，设 $\kappa=0.25$ 是短的一方获胜的对留下的比例。取一长一短两个回答，奖励差 $g$ 是长的减短的。按 Bradley–Terry，长的一方获胜的几率（odds）是 $e^{g}$。留下的对里，只有短的一方的胜场变稀了，所以几率是原来的 $1/\kappa$ 倍。取对数：
#
# $$\log\text{odds}=g+\log\frac1\kappa$$
#
# 一样长的没有筛过。所以合起来看，这正是一个 Bradley–Terry 裁判，只是奖励多了一项：长的加 $\log\frac1\kappa=\log4=1.386$ 分。长度只有两种时，一次挑选，没动过一个标签，在损失看来，与一个偏爱长回答的裁判毫无分别。DPO 照样拿它除以 $\beta=0.5$：风格在这里就是长度，终点从 0.30 移到 0.87。模仿只看到赢家略长一些：0.36。
#
# 补救也从这里下手。给文件做**平衡**：长的一方获胜的对，随机丢掉一些，直到两边赢得一样多。这里长短与对错无关，多出来的那一项就又是零了。若长回答真的更好，这点好处也会一并抹掉。对模仿来说，这个补救并非没有代价：长短不一的对只剩四分之一，而一样长的多半是短的；它在风格上的终点是 0.208。

# %%
kappa, long = settings["keep_shorter"], styles.reward[0]
tilt = exacts.reward + math.log(1 / kappa) * styles.reward
longer = tabular.Problem(exacts.ref_logps, tilt)
shorter_wins = torch.where(long[:, None] < long, kappa, 1.0).double()
both_thinned = torch.where(long[:, None] != long, kappa, 1.0).double()
fair, tilted = (tabular.optimal_policy(problem, 0.5) for problem in (exacts, longer))
theory = {
    "all": (fair, winners(exacts.reward)),
    "skewed": (tilted, winners(exacts.reward, keep=shorter_wins)),
    "balanced": (fair, winners(exacts.reward, keep=both_thinned)),
}
theory = {name: [end("length", p) for p in two] for name, two in theory.items()}

# %% alt_en="Share of three-number answers for three files: all pairs, skewed, balanced. DPO is near 0.37 with all pairs, near 0.64 with the skewed file, below its dash at 0.87, and back near 0.37 with the balanced one. Imitation is near 0.32, 0.36 and 0.24. In a second panel, J: imitation is near 0.81 for all three files, DPO lower, lowest for the skewed one." alt_zh="三份文件下写三个数的比例：全部、挑过的、平衡的。DPO 用全部的对时约 0.37，用挑过的约 0.64，低于 0.87 处的短横，用平衡的回到 0.37 左右。模仿依次约 0.32、0.36、0.24。另一幅是 J：模仿三份都在 0.81 附近，DPO 更低，挑过的最低。"
fig, panels = figure(2, width=7.4, height=3.0)
looks = ("dpo", "policy", "o", -0.12), ("sft", "baseline", "s", 0.12)
for x, (name, lines) in enumerate(theory.items()):
    for (method, color, marker, dx), line in zip(looks, lines):
        for panel, metric in zip(panels, ("style", "J")):
            place, level = [x + dx - 0.1, x + dx + 0.1], [line[metric]] * 2
            panel.plot(place, level, color=COLORS["theory"])
            mark = reached("length", f"{name} {method}", metric)
            points(panel, [x + dx], [mark], color, marker=marker)
for panel, metric in zip(panels, ("style", "J")):
    start = reached("length", "base", metric).value
    panel.axhline(start, color=COLORS["ref"], linestyle=":")
    panel.set(title=metric, ylim=(0, 1.05), xlim=(-0.5, 2.5))
    panel.set_xticks(range(3), [r"$\kappa=1$", r"$\kappa=\frac{1}{4}$", "$=$"])

# %% [markdown] lang="en"
# **Figure 10.2.** Three-number answers (left) and $J$ (right) from all pairs, from the skewed file, and from the balanced one: DPO (dots), imitation (squares), the ends (dashes), the base model (dotted), after 100 updates.

# %% [markdown] lang="zh"
# **图 10.2** 用全部的对、挑过的文件、平衡的文件，写三个数的比例（左）与 $J$（右）：DPO（圆点）、模仿（方块）、终点（短横）、基座（点线），更新 100 步。

# %%
print(arms.table(runs["length"], None, MEASURES))
styles_at_end = [f"{theory['skewed'][side]['style']:.2f}" for side in (0, 1)]
assert styles_at_end == ["0.87", "0.36"] and round(math.log(4), 3) == 1.386
assert f"{theory['balanced'][1]['style']:.3f}" == "0.208"
assert arms.beats(runs["length"], "skewed dpo", "all dpo", "style", by=0.15)
assert arms.beats(runs["length"], "skewed dpo", "balanced dpo", "style", by=0.15)
assert arms.beats(runs["length"], "all dpo", "skewed dpo")
assert arms.beats(runs["length"], "balanced dpo", "skewed dpo")
for name in theory:
    assert arms.beats(runs["length"], f"{name} sft", f"{name} dpo")
    assert arms.beats(runs["length"], f"{name} sft", "base")

# %% [markdown] lang="en"
# The skewed file makes DPO's answers longer and costs $J$; the balanced one repairs both. Imitation of the same files is ahead each time, again for the leak's sake: the reward is exactness, and the runs of DPO lose to the base model's rare mistakes what they gain elsewhere.
#
# All this holds for two lengths. With three, such a filter matches no reward at all, and what the loss then learns depends on who drew the pairs (⋆ Three lengths, below). So count the longer winners in every file, length by length; it takes one line and no model.

# %% [markdown] lang="zh"
# 挑过的文件让 DPO 的回答变长，还赔了 $J$；平衡之后，两样都修好了。同样的文件，模仿每次都领先，又是那个漏洞的缘故：奖励的是答案正确，DPO 在别处挣来的，被基座那些罕见的错误抵掉了。
#
# 以上说的是两种长度。若有三种，这样的筛子就对应不上任何奖励，损失学到什么，要看样本对是谁抽的（见后面的「⋆ 三种长度」）。所以，每份文件都一种长度对一种长度地数一数长的赢了多少；只需一行，连模型都用不着。

# %% [markdown] lang="en"
# ## What preferences cannot teach
# Two walls stand here, and one can walk into either.
#
# **The first is exact.** $\pi^*=\frac1Z\pi_{\mathrm{ref}}\,e^{r/\beta}$: where $\pi_{\mathrm{ref}}$ is zero, so is the optimum, whatever the reward. A network's probabilities are never exactly zero, but they come close. Say we want four numbers. In 4,000 answers of the base model there is not one such answer. So no pair drawn from them contains one, no label speaks of one, and no gradient aims at one.

# %% [markdown] lang="zh"
# ## 偏好教不会的东西
# 这里有两堵墙，哪一堵都可能撞上。
#
# **第一堵是严格的。** $\pi^*=\frac1Z\pi_{\mathrm{ref}}\,e^{r/\beta}$：$\pi_{\mathrm{ref}}$ 为零的地方，奖励再高，最优解也是零。网络给出的概率不会恰好是零，却可以小到等于没有。比方说想要写四个数的回答。基座写 4,000 个回答，一个也没有。于是抽出来的哪一对里都没有它，没有哪个标签提到它，也没有哪个梯度冲着它去。

# %% tags=["nbval-ignore-output"]
use_threads()
base = load_pretrained("gen")
own = on_policy_pairs(base, task, 2_000, seed=10)
texts = zip(own.prompt * 2, own.chosen + own.rejected)
numbers = [judge(*text).numbers for text in texts]
print(dict(sorted(Counter(numbers).items())))
assert numbers.count(4) == 0 and len(numbers) == 4_000

# %% [markdown] lang="en"
# **The second is a slope.** Take a skill that the base model has by halves. We give chapter 3's training 500 steps in place of 9,000, and authors who never slip, so that every wrong answer is inability and none is habit. Then five rounds of 30 updates of 64, the learning-rate schedule starting anew in each, for every arm alike:
#
# - **dpo**: 4,096 prompts, two answers each from the policy of the moment, the checker ranks; DPO at $\beta=0.1$, the reference moved each round. Such rounds, with a term of imitation besides, are Iterative RPO ([Pang et al. 2024](https://arxiv.org/abs/2404.19733));
# - **sft**: the right answers of such pairs alone;
# - **demonstrations**: fresh texts of the authors, the plain continuation of chapter 3;
# - **gentle**: DPO again, at $\beta=1$ and a fifth of the rate, chosen after three settings on another early model. It alone was tuned, so it may lose to the others and may not win.
#
# The yardstick is the share of right answers, sampled and greedy. With data and updates without end all arms would end at 1. $J$ stands beside it, at $\beta=0.2$, which is what five rounds at $\beta=1$ amount to. Who comes furthest?

# %% [markdown] lang="zh"
# **第二堵是道坡。** 找一件基座只会一半的事。第 3 章的训练要 9,000 步，这里只给 500 步，作者换成从不失误的；这样，错的都是不会，没有一个是习惯。然后做五轮，每轮更新 30 步，每步 64；学习率调度每轮从头来，每种做法都一样：
#
# - **dpo**：4,096 个提示，由当时的策略各答两次，判分程序排序；DPO，$\beta=0.1$，参考每轮跟着走。这样的几轮，再加一项模仿，就是 Iterative RPO（[Pang et al. 2024](https://arxiv.org/abs/2404.19733)）；
# - **sft**：同样的偏好对，只照着对的学；
# - **demonstrations**：作者们新写的文本，就是第 3 章的训练接着做；
# - **gentle**：还是 DPO，$\beta=1$，学习率是五分之一，在另一个早期模型上试过三种设置选的。只有它调过，所以它输了作数，赢了不作数。
#
# 比的是答案正确的比例，采样的和贪心的。数据和步数若没有尽头，各种做法的终点都是 1。旁边列出 $J$，取 $\beta=0.2$：五轮 $\beta=1$ 合起来就是它。谁走得最远？

# %%
reach = []
for run in stored["reach"]:
    name = "start" if run["name"] == "start" else f"{run['name']} {run['round']}"
    worth, price = run["exact"]["value"], 0.2 * run["kl"]["value"]
    reach.append(run | {"name": name, "J": {"value": worth - price}})
    assert run["steps"] == (0 if name == "start" else 30)
assert settings["early_steps"] == 500 and settings["asked"] == 4_096
WAYS = ("dpo", "gentle", "sft", "demonstrations")
shown = {"start": "start"} | {f"{way} 5": way for way in WAYS}
print(arms.table(reach, shown, ("exact", "greedy", "J", "kl", "style", "well_formed")))

# %% alt_en="Two panels over rounds 0 to 5: share of right greedy answers, and share of right sampled answers. DPO at beta 0.1 falls steeply in round one and stays down. In greedy decoding the other three fall too, to between 0.5 and 0.65. In sampling, imitation rises to 0.40, gentle DPO a little, and demonstrations stay near the start." alt_zh="两幅小图，横轴是第 0 到 5 轮：贪心回答的正确率，采样回答的正确率。beta 为 0.1 的 DPO 第一轮就猛跌，此后一直很低。贪心那幅里，另外三条也降到 0.5 与 0.65 之间。采样那幅里，模仿升到 0.40，温和的 DPO 略升，示范停在起点附近。"
fig, panels = figure(2, width=7.4, height=3.2)
looks = ("rejected", "o"), ("policy", "^"), ("baseline", "s"), ("ref", "D")
for way, (color, marker) in zip(WAYS, looks):
    places = np.arange(6) + {"gentle": -0.08, "sft": 0.08}.get(way, 0)  # side by side
    for panel, metric in zip(panels, ("greedy", "exact")):
        rounds = ["start", *(f"{way} {k}" for k in range(1, 6))]
        found = [list(arms.values(reach, name, metric).values()) for name in rounds]
        spread = [Estimate(sum(v) / 3, min(v), max(v)) for v in found]
        line = [estimate.value for estimate in spread]
        panel.plot(places, line, color=COLORS[color], linewidth=1)
        points(panel, places, spread, color, marker=marker)
        panel.set(title=metric, xlabel="$k$", ylim=(0, 1))

# %% [markdown] lang="en"
# **Figure 10.3.** An early model's right answers, greedy (left) and sampled (right), after $k$ rounds. Orange dots: DPO at $\beta=0.1$. Blue triangles: gentle DPO. Yellow squares: imitation of the answers that the checker passed. Grey diamonds: demonstrations.

# %% [markdown] lang="zh"
# **图 10.3** 早期模型 $k$ 轮之后的正确率，左为贪心，右为采样。橙色圆点：$\beta=0.1$ 的 DPO。蓝色三角：温和的 DPO。黄色方块：照着判分程序认可的回答学。灰色菱形：示范。

# %%
for one, other in (
    ("sft 5", "start"),
    ("sft 5", "gentle 5"),
    ("sft 5", "demonstrations 5"),
    ("start", "demonstrations 5"),
    ("start", "dpo 5"),
):
    assert arms.beats(reach, one, other, "exact"), (one, other)
for way in WAYS:
    assert arms.beats(reach, "start", f"{way} 5", "greedy")
    assert arms.beats(reach, "start", f"{way} 5", "J")
assert arms.beats(reach, "sft 5", "demonstrations 5", "greedy")
assert arms.beats(reach, "sft 5", "demonstrations 5", "both")
for run in reach:
    if run["name"] == "start":
        assert (
            run["two_number_exact"]["value"] > 1.5 * run["three_number_exact"]["value"]
        )
whole = json.loads(Path("data/more_demonstrations.json").read_text(encoding="utf-8"))
assert whole["steps"] == 900 and all(
    run["greedy"]["value"] > 0.95 for run in whole["runs"]
)
assert all(run["exact"]["value"] > 0.5 for run in whole["runs"])

# %% [markdown] lang="en"
# Sampled answers get better by imitating what the checker passed, and by nothing else as much: not by DPO on the same kind of pairs, and not by demonstrations under the same schedule, which end where they began. Greedy decoding gets worse in every arm, and by $J$ none is above its start. So in these rounds demonstrations are *not* the surer way (nor without restarts: ⋆ One schedule, below). How far one comes depends on the schedule at least as much as on the data: the same demonstrations in one piece, with the first training's larger batches, its rate and one decay (900 updates instead of 500), make greedy decoding right in more than 0.95 and sampling in more than 0.5. There everything differs at once.
#
# What does such training change, what the model *can* write or how often? Ask with **pass@k** ([chapter 4](04_sampling.ipynb), [Chen et al. 2021](https://arxiv.org/abs/2107.03374)): the probability that at least one of $k$ answers is right. For the shipped models, before and after DPO, with right meaning both, exact and three numbers:

# %% [markdown] lang="zh"
# 采样的回答，照着判分程序认可的学，进步最大：同类的偏好对做 DPO 不如它；同样的调度给示范也不如它，学完还在原地。贪心解码每一种都变差；论 $J$，没有一种高过起点。可见在这几轮里，示范*并不*更稳当（不从头来也一样，见后面的「⋆ 一次调度」）。能走多远，学习率调度至少和数据一样要紧：同样是示范，一口气给完，用第一次训练的大批次、那时的学习率、一次衰减（900 步，不是 500 步），贪心的正确率就超过 0.95，采样的超过 0.5。那里样样都不同。
#
# 这样的训练改变了什么：是模型*会*写什么，还是多久写一次？用 **pass@k** 来问（[第 4 章](04_sampling.ipynb)，[Chen et al. 2021](https://arxiv.org/abs/2107.03374)）：$k$ 个回答里至少一个正确的概率。取随书的两个模型，DPO 之前和之后；「正确」指两样兼得，值对而且三个数：

# %% tags=["nbval-ignore-output"]
prompts, draws = list(task.prompt_distribution), 64
share = np.array(list(task.prompt_distribution.values()))
passed = {}
for name in ("gen", "dpo"):
    answers = generate(load_pretrained(name), prompts * draws, seed=0)
    marks = [judge(*text) for text in zip(prompts * draws, answers)]
    right = np.array([mark.exact and mark.style for mark in marks]).reshape(draws, -1)
    for k in (1, 4, 16, 64):
        misses = [math.comb(draws - c, k) / math.comb(draws, k) for c in right.sum(0)]
        passed[name, k] = 1 - float(share @ misses)
    print(name, *(f"pass@{k} {passed[name, k]:.3f}" for k in (1, 4, 16, 64)))
assert abs(passed["dpo", 1] / passed["gen", 1] - 4) < 0.5
assert passed["gen", 16] > passed["dpo", 1] and passed["gen", 64] > 0.98
assert abs(passed["dpo", 64] - passed["gen", 64]) < 0.02

# %% [markdown] lang="en"
# One answer of `dpo` hits four times as often as one of `gen`; among 64 answers, `gen` finds what is wanted as surely as `dpo`. The training made frequent what was rare. It **sharpened** a distribution and hardly widened it. [Yue et al. 2025](https://arxiv.org/abs/2504.13837) report the same of reinforcement learning from checked answers in large models, with base models even ahead at large $k$, and that distillation can add what was not there; they note themselves that with $k$ large enough any sampler passes. The matter is disputed: [Team Olmo 2025](https://arxiv.org/abs/2512.13961) report better pass@k after DPO.
#
# **Why a slope?** A pair moves probability between two answers that were drawn. It can say "rather this one" of answers that are there; it cannot say what the sum of two numbers is. For a prompt whose draws are all wrong it has no label at all; for the others it names one right string out of many. Where the base model has the rule and only follows a bad habit, as in the sections above, that is enough.

# %% [markdown] lang="zh"
# `dpo` 写一个回答，命中的机会是 `gen` 的四倍；写上 64 个，`gen` 找到想要的回答，和 `dpo` 一样有把握。训练把罕见的变成了常见的：分布**变尖**了，几乎没有变宽。[Yue et al. 2025](https://arxiv.org/abs/2504.13837) 说，大模型用判分程序做强化学习也是如此，$k$ 大时基座甚至领先；蒸馏则能添进原来没有的东西。他们自己也指出，$k$ 足够大，什么采样器都能碰对。这件事还有争议：[Team Olmo 2025](https://arxiv.org/abs/2512.13961) 报告 DPO 之后 pass@k 变好了。
#
# **为什么是道坡？** 一个偏好对，只在抽到的两个回答之间搬动概率。已有的回答里，它能说「宁可要这个」；两个数相加得几，它说不出来。抽到的全是错的，这个提示就没有标签；抽到正确的，它指出的也只是许多正确回答中的一串字符。基座若已有规则，只是习惯不好，像前几节那样，这就够了。

# %% [markdown] lang="en"
# ## A small run, live
# Here is the first experiment again, reduced: the shipped base model, 4,800 comparisons for style, a deterministic judge, ties dropped, 100 updates. Imitation and DPO from the same file:

# %% [markdown] lang="zh"
# ## 现场跑一次
# 把第一个实验缩小，当场再做一遍：随书的基座，4,800 次风格比较，确定性裁判，丢掉平局，更新 100 步。同一份文件，一次模仿，一次 DPO：

# %% tags=["nbval-ignore-output"]
made = {"reward": "style", "labels": "deterministic", "seed": 0}
certain = on_policy_pairs(base, task, 4_800, **made)
pairs_at = certain.batches(64, seed=0)


def chosen_at(step):
    batch = pairs_at(step)
    return {"input_ids": batch["chosen_ids"], "completion_mask": batch["chosen_mask"]}


live, worth = {}, {"reference": base, "reward": checker(task, "style"), "beta": 0.5}
config = LoopConfig(steps=100, learning_rate=2e-3, optimizer="muon")
steps = {"sft": (chosen_at, sft_step), "dpo": (pairs_at, dpo_step(0.5))}
for name, (batch_at, step) in steps.items():
    policy = copy.deepcopy(base)
    train(policy, batch_at, step, config, progress=False)
    live[name] = evaluate(policy, task, n=2_000, seed=8, **worth)
    print(name, *(f"{m} {live[name][m]}" for m in ("J", "style", "exact", "kl")))
assert live["sft"]["J"].value > live["dpo"]["J"].value

# %% [markdown] lang="en"
# ## From the command line
# `dpo-core make-pairs` makes such files: JSON lines with the columns `prompt`, `chosen`, `rejected`, which TRL reads, and three of ours that it ignores. `dpo-core train-dpo` takes any file with these three columns, ours or somebody else's, and computes the reference log-probabilities where they are missing.
#
# ```text
# dpo-core make-pairs --source population --labels sampled --noise 0.1 --output people.jsonl
# dpo-core make-pairs --source checker --model gen --output checked.jsonl
# dpo-core train-dpo --model gen --pairs-file checked.jsonl --steps 100
# ```

# %% [markdown] lang="zh"
# ## 命令行
# 这样的文件，用 `dpo-core make-pairs` 来做：每行一个 JSON，列名 `prompt`、`chosen`、`rejected`，TRL 能读；另有我们的三列，TRL 不看。`dpo-core train-dpo` 接受任何有这三列的文件，自己做的、别人给的都行；缺了参考对数概率，它会现算。
#
# ```text
# dpo-core make-pairs --source population --labels sampled --noise 0.1 --output people.jsonl
# dpo-core make-pairs --source checker --model gen --output checked.jsonl
# dpo-core train-dpo --model gen --pairs-file checked.jsonl --steps 100
# ```

# %%
with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
    for command in (
        "make-pairs --source checker --model gen --pairs 400 --output checked.jsonl",
        "train-dpo --model gen --pairs-file checked.jsonl --steps 2 --output dpo.model",
    ):
        with contextlib.redirect_stdout(io.StringIO()):
            assert main([*command.split(), "--device", "cpu"]) == 0
    checked = read_pairs(Path("checked.jsonl"))
    columns = list(json.loads(Path("checked.jsonl").read_text().splitlines()[0]))
print(columns, len(checked) < 400)
assert columns[:3] == ["prompt", "chosen", "rejected"] and 100 < len(checked) < 400
for prompt, chosen, rejected in zip(checked.prompt, checked.chosen, checked.rejected):
    assert judge(prompt, chosen).exact and not judge(prompt, rejected).exact

# %% [markdown] lang="en"
# ## Questions to ask of a data set
# | ask | why | what to do |
# |---|---|---|
# | Who wrote the answers? | What your policy writes and no pair shows is held by nothing | draw from your own model, some of it hot |
# | Are the winners better than what your policy writes? | If not, imitating them makes it worse; the differences may still help | judge fifty of each side by side |
# | Does the judge doubt? | Sampled labels have a leash; deterministic ones, under the bare sigmoid, have none | count how often two raters agree; smooth, use a loss with an end, stop early, or imitate |
# | What became of ties? | With them imitation ends at 0.51, without them at 1 | find out; keep them if labels are soft |
# | How do chosen and rejected differ, besides quality? | An imbalance acts like a reward if its log odds add up; if not, what it does depends on who drew the pairs | log odds of longer over shorter winners, length by length; balance if it is not meant |
# | How hard are the rejected ones? | Easy pairs are won cheaply, hard ones move much | look at twenty |
# | How many labels are wrong, and are they wrong fairly? | Fair noise shortens the leash, unfair noise is a taste | relabel a hundred |
# | How many pairs, how many updates? | Labels seen often are learnt by heart; late updates leak | watch fresh answers, not training accuracy |
# | Can the base model do it at all? | What it never writes, no pair contains | sample before training: pass@k |
# | Does imitation of the winners reach it? | Then the rejected side is not needed | run it on the same file, and compare what you care for |

# %% [markdown] lang="zh"
# ## 拿到一份数据，先问什么
# | 要问的 | 为什么 | 怎么办 |
# |---|---|---|
# | 回答是谁写的？ | 策略会写、却没有一对覆盖到的，什么都管不住 | 从自己的模型采样，掺一些高温的 |
# | 赢家比你的策略写得好吗？ | 不如它，照着学只会变差；其中的差别也许还有用 | 两边各取五十个，并排评一评 |
# | 裁判会犹豫吗？ | 采样标签有绳子；确定性标签，配上光秃秃的 sigmoid，没有 | 数一数两个人评得一样的有多少；平滑，换个有尽头的损失，早停，或者模仿 |
# | 平局去哪了？ | 留着，模仿的终点是 0.51；丢掉，是 1 | 问清楚；软标签就留着 |
# | 除了好坏，chosen 和 rejected 还差在哪？ | 不平衡的对数几率若能相加，就等于一份奖励；不能，后果就看样本对是谁抽的 | 一种长度对一种长度地算：长的赢比短的赢，取对数；若非本意，就平衡 |
# | 负例难不难？ | 简单的赢得容易，困难的要搬动许多概率 | 看二十对 |
# | 错标有多少？错得公平吗？ | 公平的噪声收短绳子，不公平的就是口味 | 重标一百对 |
# | 多少对，多少步？ | 标签看多了会背下来；步数多了会漏 | 盯新采的回答，别盯训练准确率 |
# | 基座到底会不会？ | 它从不写的，哪一对里都没有 | 训练前先采样：pass@k |
# | 光模仿赢家到得了吗？ | 到得了，就用不着 rejected | 同一份文件跑一遍，比你在意的那个量 |

# %% [markdown] lang="en"
# > **What the toy hides.** Here a program judges and the population's rates are known. With people the noise is neither known nor fair, and answers differ in a hundred ways at once, of which length is the one that is easiest to measure: [Singhal et al. 2023](https://arxiv.org/abs/2310.03716) find in three settings that the reward RLHF gains is largely driven by longer answers. [Tajwar et al. 2024](https://arxiv.org/abs/2404.14367) find that on-policy samples and a "negative gradient" beat offline and maximum-likelihood training in general; in our short runs the latter was ahead where labels were drawn or winners poor. All runs here are one small network, three seeds, mostly 100 updates and one learning rate; the closed forms carry over, the measured order of the arms need not. And people's pairs cost money, which makes "draw from your own model" the dearest line of the table.

# %% [markdown] lang="zh"
# > **玩具没告诉你的。** 这里由程序来评，群体的比例都是已知的。换成人，噪声有多少、公不公平都不知道；回答之间同时有上百种差别，长度只是最好量的一种：[Singhal et al. 2023](https://arxiv.org/abs/2310.03716) 发现，在三种场景里，RLHF 涨的奖励主要来自回答变长。[Tajwar et al. 2024](https://arxiv.org/abs/2404.14367) 发现，一般而言，同策略采样和「负梯度」胜过离线方法和最大似然；在我们这些很短的训练里，标签是抽出来的、或赢家本身不行的，带负梯度的领先。这里只有一个小网络、三个种子，多半更新 100 步，一个学习率；闭式解换个地方照样成立，几种做法谁先谁后就未必了。再说，人评的偏好对要花钱，所以「从自己的模型采样」是表里最贵的一行。

# %% [markdown] lang="en"
# > **To remember.** A pair compares what was drawn, under the label that was kept. Work out beforehand what the winners' distribution is, and whether the labels amount to a reward at all. The rejected side earns its keep where labels are drawn and where winners are poor. Run imitation of the chosen answers on the same file, every time.

# %% [markdown] lang="zh"
# > **记住。** 一对回答，比的是抽到的东西，凭的是留下来的标签。赢家的分布是什么，这些标签合起来算不算一份奖励，训练前先弄清楚。标签是抽出来的，或者赢家本身不行，rejected 才有用武之地。每次都拿同一份文件，在旁边跑一遍「照着 chosen 学」。

# %% [markdown] lang="en"
# ## ⋆ Easy and hard negatives
# The rejected answer is also called the **negative**; it is hard if it is difficult to tell from the chosen one. Keep the checker's chosen answers, all of them right, and change only what they are compared with. A **near miss**: the model's own wrong answer, mostly off by ten (these are the checker's pairs). One **far off**: a right answer to another prompt. One **malformed**: the chosen answer without its last number, `27+E`. Imitation sees no difference between the three. **Which will teach most?**

# %% [markdown] lang="zh"
# ## ⋆ 简单负例与困难负例
# rejected 又叫**负例**（negative）；与 chosen 难以分辨的，叫困难负例。chosen 不动，还用判分程序选出的那些，全是正确的；只换同它们比的 rejected。**差一点**：模型自己的错误回答，多半差十（就是判分程序的那些偏好对）。**差很远**：别的提示的正确答案。**格式错误**：把 chosen 的最后一个数去掉，如 `27+E`。对模仿来说三种没有区别。**猜猜看：哪一种教得最多？**

# %% alt_en="Two panels, J and KL, each with four groups of points: the base model's 0.75 as a dotted line; near miss, far off and malformed as dots for DPO; imitation as a square. Near misses lie far below zero in J, at a KL above 5; the other two are near the dotted line; imitation is highest." alt_zh="两幅小图：J 与 KL。点线是基座的 0.75；三个圆点是 DPO 的差一点、差很远、格式错误；方块是模仿。差一点的 J 远在零以下，KL 超过 5；另外两个在点线附近；模仿最高。"
negatives = {
    "near": ("source", "checker dpo"),
    "far": ("negatives", "far dpo"),
    "malformed": ("negatives", "malformed dpo"),
}
fig, panels = figure(2, width=7.4, height=3.0)
for panel, metric in zip(panels, ("J", "kl")):
    for x, place in enumerate(negatives.values()):
        points(panel, [x], [reached(*place, metric)], "policy")
    found = [reached("source", "checker sft", metric)]
    points(panel, [3], found, "baseline", marker="s")
    start = reached("source", "base", metric).value
    panel.axhline(start, color=COLORS["ref"], linestyle=":")
    panel.set(title={"J": "$J$", "kl": "KL"}[metric], xlim=(-0.5, 3.5))
    panel.set_xticks(range(4), [r"$\pm10$", r"$y(x')$", "27+E", r"$y_w$"])

# %% [markdown] lang="en"
# **Figure 10.4.** $J$ (left) and KL (right) after DPO against a near miss ($\pm10$), a right answer to another prompt ($y(x')$) and a malformed one (`27+E`); the square is imitation, which sees the chosen answers $y_w$ alone. Dotted: the base model.

# %% [markdown] lang="zh"
# **图 10.4** 用三种 rejected 做 DPO 之后的 $J$（左）与 KL（右）：差一点（$\pm10$）、别的提示的正确答案（$y(x')$）、格式错误（`27+E`）；方块是模仿，它只看 chosen，即 $y_w$。点线是基座。

# %%
print(arms.table(runs["negatives"], None, MEASURES))
verdicts = [
    (judge(prompt, chosen), judge(prompt, rejected))
    for prompt, chosen, rejected in zip(own.prompt, own.chosen, own.rejected)
]
right = [(c, r) for c, r in verdicts if c.exact and not r.exact and r.well_formed]
off = [abs(c.value - r.value) for c, r in right]
assert np.mean([gap == 10 for gap in off]) > 0.95  # near misses are off by ten
both = runs["source"] + [run for run in runs["negatives"] if run["name"] != "base"]
for one, other in (
    ("checker sft", "far dpo"),
    ("far dpo", "base"),
    ("base", "checker dpo"),
    ("far dpo", "malformed dpo"),
):
    assert arms.beats(both, one, other), (one, other)
for name in ("checker dpo", "far dpo", "malformed dpo"):
    assert min(run["accuracy"] for run in both if run["name"] == name) > 0.95

# %% [markdown] lang="en"
# The training accuracy is above 0.95 for all three and does not tell them apart; the KL does. An easy pair is won cheaply: a sum for another prompt is improbable already, and a little more of that satisfies the loss. So the far answers teach a little and cost little. A near miss can be told apart by its value alone; to win it, probability has to be moved between well-formed sums that the base model often writes, and since the labels are deterministic and the loss a bare sigmoid nothing says when it is enough. Hard negatives carry the information *and* the danger: they want a judge who can say how sure he is, a loss with an end, or an early stop. None of the three reaches imitation of the same winners.

# %% [markdown] lang="zh"
# 训练准确率三个都在 0.95 以上，分不出好坏；KL 分得出。简单负例赢得容易：给别的提示的算式，本来就不大会写，再少写一点，损失就满意了。所以差很远的教得不多，花费也少。差一点的只能靠值来分；要赢，就得在基座常写的、格式正确的回答之间搬动概率，而标签是确定性的，损失又是光秃秃的 sigmoid，没有什么告诉它够了。困难负例既带来信息，*也*带来危险：要么裁判说得出有几分把握，要么损失有个尽头，要么早停。同样的赢家，三种都不及模仿。

# %% [markdown] lang="en"
# ## ⋆ Noise
# Turn a share $\varepsilon$ of the labels round. If the better answer used to win with probability $q$, it now wins with
#
# $$q_\varepsilon=(1-\varepsilon)\,q+\varepsilon\,(1-q).$$
#
# The style reward knows only ties and differences of 1. Ties stay at one half, and for the rest $q_\varepsilon$ is again a probability of winning; so the noisy judge is again a Bradley–Terry judge, one with a smaller reward, $r_\varepsilon=\log\frac{q_\varepsilon}{1-q_\varepsilon}$. By hand, for $\varepsilon=0.2$: $q$ was 0.731, $q_\varepsilon=0.8\cdot0.731+0.2\cdot0.269=0.639$, and the reward shrinks from 1 to 0.569. The noise has shortened the leash. It does not point anywhere else: as long as $\varepsilon<\frac12$, the better answer stays the better one. (With differences of 1 and 2 this holds only roughly: a difference of 2 shrinks to 0.987, less than twice 0.569.)
#
# The same formula turns one thing round. For a deterministic judge $q=1$, and $r_\varepsilon=\log\frac{1-\varepsilon}{\varepsilon}$, which is finite: noise *gives* it the leash that it lacked. Label smoothing does so on purpose. [Chapter 11](11_family.ipynb) has two losses for a known share of wrong labels: `cdpo` smooths the labels and so shortens the leash further; `robust` undoes the flips on average.

# %% [markdown] lang="zh"
# ## ⋆ 噪声
# 把占比 $\varepsilon$ 的标签翻过来。原先好的一方以概率 $q$ 胜出，现在变成
#
# $$q_\varepsilon=(1-\varepsilon)\,q+\varepsilon\,(1-q)$$
#
# 风格奖励只有平局和差 1 分两种情形。平局仍是一半对一半；其余的，$q_\varepsilon$ 仍是一个胜率。所以带噪声的裁判还是一个 Bradley–Terry 裁判，只是奖励小了，$r_\varepsilon=\log\frac{q_\varepsilon}{1-q_\varepsilon}$。手算 $\varepsilon=0.2$：$q$ 原是 0.731，$q_\varepsilon=0.8\cdot0.731+0.2\cdot0.269=0.639$，奖励从 1 缩到 0.569。噪声把绳子收短了，方向倒没变：只要 $\varepsilon<\frac12$，好的仍是好的。（若有差 1 分的，又有差 2 分的，这话就只是大致成立：差 2 分缩成 0.987，不到 0.569 的两倍。）
#
# 同一个公式还翻出另一层意思。裁判若是确定性的，$q=1$，$r_\varepsilon=\log\frac{1-\varepsilon}{\varepsilon}$，是有限的：它本来没有绳子，噪声反倒*给*了它一根。标签平滑（label smoothing）就是有意这么做。已知错标的比例时，[第 11 章](11_family.ipynb)有两种损失：`cdpo` 把标签平滑，绳子收得更短；`robust` 平均而言抵消翻转的影响。

# %%
two = 0.8 / (1 + math.exp(-2)) + 0.2 / (1 + math.exp(2))  # a difference of 2
one = 0.8 * win + 0.2 * (1 - win)
print([round(math.log(q / (1 - q)), 3) for q in (one, two)])
assert [round(math.log(q / (1 - q)), 3) for q in (one, two)] == [0.569, 0.987]
assert round(one, 3) == 0.639

# %%
LEVELS = ("labels", "sampled"), ("noise", "0.2"), ("noise", "0.4")


def noisy_reward(epsilon):
    q = win + epsilon * (1 - 2 * win)
    return math.log(q / (1 - q)) * styles.reward


def noisy_optimum(epsilon):
    noisy = tabular.Problem(styles.ref_logps, noisy_reward(epsilon))
    return tabular.optimal_policy(noisy, 0.5)


# %% alt_en="Share of three-number answers against the share of flipped labels, 0 to 0.45. Two falling curves: DPO from 0.76 to 0.34, imitation from 0.40 to 0.31. Imitation's points at 0, 0.2 and 0.4 lie a little above their curve; those of DPO lie below theirs at 0 and 0.2 and on it at 0.4." alt_zh="写三个数的比例随翻转标签占比的变化，从 0 到 0.45。两条下降的曲线：DPO 从 0.76 降到 0.34，模仿从 0.40 降到 0.31。模仿在 0、0.2、0.4 的点比曲线略高；DPO 的点在 0 和 0.2 处低于曲线，在 0.4 处落在线上。"
grid = np.linspace(0, 0.45, 19)
fig, axes = figure(width=6.0, height=3.2)
for policy in (noisy_optimum, lambda epsilon: winners(noisy_reward(epsilon))):
    curve = [predicted_shares(task, policy(epsilon))["style"] for epsilon in grid]
    axes.plot(grid, curve, color=COLORS["theory"])
for method, color, marker in (("dpo", "policy", "o"), ("sft", "baseline", "s")):
    noisy = [reached(*place, f"{e} {method}", "style") for *place, e in LEVELS]
    points(axes, [0, 0.2, 0.4], noisy, color, marker=marker)
_ = axes.set(xlabel=r"$\varepsilon$", ylim=(0, 1))

# %% [markdown] lang="en"
# **Figure 10.5.** Style against the share of flipped labels: the ends (lines), DPO (dots) and imitation (squares), after 100 updates. The less there is to learn, the sooner it is learnt: with two labels in five turned round DPO has arrived.

# %% [markdown] lang="zh"
# **图 10.5** 风格随翻转标签占比的变化，更新 100 步：终点（线）、DPO（圆点）、模仿（方块）。要学的越少，学到得越早：五个标签翻了两个，DPO 反倒到站了。

# %%
print(arms.table(runs["noise"], None, MEASURES))
for place, epsilon in LEVELS:
    assert arms.beats(runs[place], f"{epsilon} dpo", f"{epsilon} sft")
    assert arms.beats(runs[place], f"{epsilon} sft", "base")
for name, arm, policy in (
    ("arrived", "0.4 dpo", noisy_optimum(0.4)),
    ("on the way", "sampled dpo", noisy_optimum(0)),
):
    place = "labels" if arm.startswith("sampled") else "noise"
    left = predicted_shares(task, policy)["style"] - reached(place, arm, "style").value
    print(name, f"{left:.3f}")
    assert abs(left) < 0.02 if name == "arrived" else left > 0.1

# %% [markdown] lang="en"
# At each level of noise DPO is ahead of imitation, and imitation of the base model. The reward here is style, which the base model writes without mistakes; there is no leak to fall into, and the label is a draw: the case for DPO that the sampled labels made above.
#
# One caution. This noise is fair: it turns every pair with the same probability. If a judge errs more often in one direction, that is not noise but another taste. The file that lost its shorter winners was one, and nobody had even erred.

# %% [markdown] lang="zh"
# 每一档噪声下，DPO 都领先于模仿，模仿领先于基座。这里奖励的是风格，基座写来不会出错，没有漏洞可掉，标签又是抽出来的：正是前面说的、DPO 该用的地方。
#
# 有一点要当心。这种噪声是公平的：每一对翻转的概率一样。若裁判老往一个方向错，那就不是噪声，而是另一种口味。丢了短赢家的那份文件就是一种，而且谁也没犯错。

# %% [markdown] lang="en"
# ## ⋆ Three lengths
# The filter that lost three of four shorter winners multiplies the odds of every unequal pair by four: between short and middle, between middle and long, and between short and long. A reward would have to give $\log4$ to each of the two steps, and so $2\log4$ to both together; the file says $\log4$. No Bradley–Terry reward has these odds. What does a loss do that believes in one? It finds the nearest, and which is nearest depends on how often each pair was drawn:

# %% [markdown] lang="zh"
# ## ⋆ 三种长度
# 短的赢了，四对丢三对：凡是长短不一的，这道筛子都把几率乘上四：短与中，中与长，短与长，都是四。若是一份奖励，每一级要给 $\log4$，两级合起来就是 $2\log4$；文件里却只有 $\log4$。没有哪一份 Bradley–Terry 奖励有这样的几率。那么，相信有这样一份奖励的损失会怎么办？它去找最接近的，而谁最接近，要看每一种对抽了多少次：


# %%
def fitted(shares, keep):
    """Log odds and rewards of a file with three lengths; its judge likes none."""
    drawn = torch.tensor(shares).double().log()
    pairs = tabular.independent_pairs(drawn, drawn)
    wins = tabular.comparisons(torch.zeros(3).double(), pairs) * keep
    reward, _ = tabular.fit_rewards(wins)
    return (wins / wins.T).log(), reward - reward[0]


steps = torch.arange(3)[:, None] - torch.arange(3)  # by how much the winner is longer
once = torch.where(steps < 0, 0.25, 1.0).double()
each = 0.25 ** (-steps).clamp(min=0).double()  # as strict again for two steps
for name, keep in (("once", once), ("each step", each)):
    for shares in ((0.4, 0.4, 0.2), (0.1, 0.8, 0.1), (0.45, 0.1, 0.45)):
        odds, reward = fitted(shares, keep)
        shown = [f"{odds[j, i]:.3f}" for i, j in ((0, 1), (1, 2), (0, 2))]
        print(
            f"{name:9} {shares}  odds", *shown, " reward", *(f"{r:.3f}" for r in reward)
        )
        additive = abs(odds[2, 0] - odds[1, 0] - odds[2, 1]) < 1e-9
        assert additive == (name == "each step")
        assert math.log(4) < reward[2] < 2 * math.log(4) or name == "each step"

# %% [markdown] lang="en"
# With the filter as it was, the longest answers get a reward between $\log4$ and $2\log4$ that changes with the authors' habits. So what chapter 7 promised, a minimiser that does not depend on who draws the pairs, is lost, and with it the meaning of "the reward of this file". (A filter that is as strict again for each further step has odds that add up; then there is a reward, and it is $\log4$ a step.) Odds of longer winners are worth counting in every file. They are a reward only if they add up.

# %% [markdown] lang="zh"
# 筛子照原来的样子，最长的回答得到的奖励在 $\log4$ 与 $2\log4$ 之间，随作者们的习惯而变。第 7 章保证过最小点与谁来抽无关，这里就保不住了；「这份文件的奖励」也就没了确切的意思。（若每多一级就再严一倍，几率就能相加，奖励也就有了：每一级 $\log4$。）长的赢了多少，每份文件都值得数一数；要能相加，才算得上奖励。

# %% [markdown] lang="en"
# ## ⋆ How many pairs, how many times
# With reward for both, sampled labels and $\beta=0.25$, three sizes of file get the same 100 updates: 6,400 pairs once, 1,600 four times, 400 sixteen times. Beside them the small files seen only once, with 25 and 6 updates, and the recipe of chapter 9 with its 96,000 pairs, three seeds of it too.

# %% [markdown] lang="zh"
# ## ⋆ 多少对，过几遍
# 两样都给奖励，采样标签，$\beta=0.25$。三种大小的文件，都更新 100 步：6,400 对过一遍，1,600 对过四遍，400 对过十六遍。旁边再放两份小文件只过一遍的：25 步和 6 步；还有第 9 章的配方，96,000 对，也是三个种子。

# %%
for seed in bases:
    recipe = {"seed": seed["seed"], **seed["dpo"]}
    recipe = weighed(recipe, "96000 dpo", "amount")
    runs["amount"] = [
        run
        for run in runs["amount"]
        if (run["name"], run["seed"]) != ("96000 dpo", seed["seed"])
    ] + [recipe]
print(arms.table(runs["amount"], None, MEASURES))
wanted = class_problem(task, "style+exact")
for name, policy in (
    ("dpo", tabular.optimal_policy(wanted, 0.25)),
    ("sft", winners(wanted.reward)),
):
    value = end("amount", policy)
    print(
        "end of", name, *(f"{m} {value[m]:.3f}" for m in ("J", "style", "exact", "kl"))
    )
learnt = [
    [run["accuracy"] for run in runs["amount"] if run["name"] == f"{size} dpo"]
    for size in (6400, 1600, 400)
]
print("training accuracy", learnt)
assert max(learnt[0]) < min(learnt[1]) and max(learnt[1]) < min(learnt[2])

# %%
for one, other in (
    ("6400 sft", "6400 dpo"),
    ("1600 sft", "1600 dpo"),
    ("400 sft", "400 dpo"),
    ("1600 once dpo", "1600 dpo"),
    ("400 once dpo", "400 dpo"),
    ("6400 sft", "400 sft"),
    ("base", "400 dpo"),
    ("96000 dpo", "6400 sft"),
):
    assert arms.beats(runs["amount"], one, other), (one, other)
assert end("amount", tabular.optimal_policy(wanted, 0.25))["J"] > 1.6
assert end("amount", winners(wanted.reward))["J"] < 1.25

# %% [markdown] lang="en"
# As many updates, fewer pairs: the training accuracy rises from file to file. Sampled labels that come back sixteen times are learnt by heart, the unlucky ones too. The answers do not follow: with 400 pairs DPO ends below its base model.
#
# What matters more here is the number of updates. Each small file does better seen once than seen often; the updates more buy style and sell exactness, for the base model's rare mistakes hardly occur in the file, and the leak of chapter 9 opens. Imitation of each file is ahead of as many updates of DPO on it. But look at the ends. Imitation has arrived, below 1.25; DPO's end is above 1.6, and with fifteen times the pairs (and more in the recipe: chapter 9) DPO is ahead of all of them. So a short file is a reason to prefer imitation, or to stop early; it is no verdict on the loss. And do not let the training accuracy set the number of epochs (passes through the file). Sample during training, and stop when what you cared for before begins to fall.

# %% [markdown] lang="zh"
# 步数相同，偏好对越少，训练准确率越高。采样标签来上十六遍，就背下来了，运气不好标反的也背。写出的回答却没有跟着变好：只有 400 对时，DPO 的终点比基座还低。
#
# 这里更要紧的是步数。小文件过一遍，都比过许多遍好；多走的步，是拿正确去换风格：基座那些罕见的错，文件里几乎没有，第 9 章的漏洞又开了。步数相同，每份文件都是模仿领先于 DPO。可是看看终点：模仿已经到了，不到 1.25；DPO 的终点在 1.6 以上，用上十五倍的偏好对（配方也另有讲究，见第 9 章），DPO 就领先于这里所有的做法。所以文件短，就宁可模仿，或者早停；对损失本身，这不算判决。还有，过几遍不要照训练准确率来定。边训练边采样，你本来就在意的东西一开始下降，就停。

# %% [markdown] lang="en"
# ## ⋆ Again and again
# After a training one can draw fresh pairs from the new policy and train again: iterative DPO ([Xu et al. 2023](https://arxiv.org/abs/2312.16682)). Where the model itself judges, it is self-rewarding ([Yuan et al. 2024](https://arxiv.org/abs/2401.10020)). What it adds up to depends on one choice: whose log-probabilities stand in the loss?
#
# If the **reference moves** with the policy, each round tilts the last round's result once more by $e^{r/\beta}$. After $k$ rounds the factor is $e^{kr/\beta}$: the optimum of a leash $k$ times weaker. (TR-DPO moves it slowly, on purpose: [Gorbatovski et al. 2024](https://arxiv.org/abs/2404.09656).) If the **reference stays** the first model, fresh pairs change who is compared and not where the minimum is. **Imitation**, repeated, squeezes a little more out of each round; it ends only when nothing is left but the best answers that the base model can write. We reward style with $\beta=1$ and do 60 updates a round, on fresh pairs: soft labels for DPO, sampled ones for imitation. The ends of three rounds are 0.54, 0.76, 0.90 with a moving reference; 0.54 in each round with a fixed one; 0.40, 0.51, 0.62 by imitation.

# %% [markdown] lang="zh"
# ## ⋆ 一轮又一轮
# 训练完一次，可以让新策略再写一批，接着训练：迭代 DPO（[Xu et al. 2023](https://arxiv.org/abs/2312.16682)）。由模型自己来评的，叫自我奖励（[Yuan et al. 2024](https://arxiv.org/abs/2401.10020)）。这样下去会怎样，取决于一个选择：损失里用谁的对数概率作参考？
#
# **参考跟着走**：每一轮都在上一轮的结果上再乘一次 $e^{r/\beta}$。$k$ 轮之后是 $e^{kr/\beta}$ 倍，等于绳子松到 $k$ 倍时的最优解。（TR-DPO 有意让它慢慢走：[Gorbatovski et al. 2024](https://arxiv.org/abs/2404.09656)。）**参考不动**，始终是最初的模型：新的样本对改变的是拿谁来比，最小点在哪里不变。**模仿**一轮轮做下去，每轮再挤出一点，直到只剩基座写得出的最好的回答。这里奖励风格，$\beta=1$，每轮用新的偏好对更新 60 步：DPO 用软标签，模仿用采样标签。三轮的终点是：参考跟着走，0.54、0.76、0.90；参考不动，每轮都是 0.54；模仿，0.40、0.51、0.62。

# %%
rounds = [styles.ref_logps]
for _ in range(3):
    pairs_of_round = tabular.independent_pairs(rounds[-1], rounds[-1])
    rounds.append(imitation(tabular.comparisons(styles.reward, pairs_of_round)))
lines = {
    "moved": [predicted_optimum(task, "style", 1 / k)["style"] for k in (1, 2, 3)],
    "fixed": [predicted_optimum(task, "style", 1.0)["style"]] * 3,
    "imitation": [predicted_shares(task, policy)["style"] for policy in rounds[1:]],
}

# %% alt_en="Share of three-number answers after 0 to 3 rounds. Three predicted lines from 0.3: the moving reference rises to 0.90, imitation to 0.62, the fixed reference rises to 0.54 in the first round and stays. Points with bars lie near the lines." alt_zh="0 到 3 轮之后写三个数的比例。三条预言线都从 0.3 出发：参考跟着走的升到 0.90，模仿升到 0.62，参考不动的第一轮升到 0.54，此后不变。带竖线的点靠近各自的线。"
fig, axes = figure(width=6.0, height=3.2)
looks = ("policy", "o"), ("chosen", "^"), ("baseline", "s")
for (name, line), (color, marker) in zip(lines.items(), looks):
    axes.plot(range(4), [0.3, *line], color=COLORS["theory"], linewidth=1.2)
    found = [reached("iterate", f"{name} {k}", "style") for k in (1, 2, 3)]
    points(axes, [1, 2, 3], found, color, marker=marker)
    assert all(abs(e.value - value) < 0.04 for e, value in zip(found, line))
_ = axes.set(xlabel="$k$", ylim=(0, 1), xticks=range(4))

# %% [markdown] lang="en"
# **Figure 10.6.** Style after $k$ rounds: the ends (lines), DPO with a moving reference (dots) and with a fixed one (triangles), imitation (squares). All nine points lie within 0.04 of their lines.

# %% [markdown] lang="zh"
# **图 10.6** $k$ 轮之后的风格：终点（线），参考跟着走的 DPO（圆点），参考不动的 DPO（三角），模仿（方块）。九个点离各自的线都不到 0.04。

# %%
for run in runs["iterate"]:  # J at the leash of three rounds, moved
    run["J3"] = {"value": run["reward"]["value"] - run["kl"]["value"] / 3}
print(arms.table(runs["iterate"], None, ("J", "J3", *MEASURES[1:6])))
for k in (1, 2, 3):
    assert arms.beats(runs["iterate"], f"fixed {k}", f"imitation {k}")
for other in ("fixed 3", "imitation 3"):
    assert arms.beats(runs["iterate"], other, "moved 3")
    assert arms.beats(runs["iterate"], "moved 3", other, "J3")
assert reached("iterate", "moved 3").high < reached("labels", "base").low
assert [[round(v, 2) for v in line] for line in lines.values()] == [
    [0.54, 0.76, 0.9],
    [0.54] * 3,
    [0.4, 0.51, 0.62],
]

# %% [markdown] lang="en"
# Which is best? It depends on the $\beta$ that you meant. By $J$ at $\beta=1$ the fixed reference is ahead of imitation in each round, and the moving one ends below the base model. By $J$ at $\beta=\frac13$ (column `J3`), the leash that three rounds amount to, the moving reference is ahead of both. Whoever moves the reference has changed the question.

# %% [markdown] lang="zh"
# 哪一种最好？要看你本来想要哪个 $\beta$。按 $\beta=1$ 的 $J$，参考不动的每轮都领先于模仿，跟着走的则跌到基座以下。按 $\beta=\frac13$ 的 $J$（`J3` 一栏），也就是三轮合起来的那根绳子，跟着走的领先于另外两种。谁移动了参考，谁就改了题目。

# %% [markdown] lang="en"
# ## ⋆ One schedule, without restarts
# In the rounds above the learning rate started anew every 30 updates. A second recording leaves that out: 150 updates in one piece, warmed up and decaying once, the data still drawn afresh every 30. For each arm three rates were tried on a fourth early model, used for nothing else, and the one with the most right answers sampled was kept; pairs by DPO at two values of $\beta$. Each end was then asked 256 times for every prompt, so that pass@$k$ can be estimated without bias. The last table counts as right only what is exact *and* has three numbers, which the early model finds hard.

# %% [markdown] lang="zh"
# ## ⋆ 一次调度，不从头来
# 上面那几轮，学习率每 30 步从头来一次。另一份录好的实验去掉了这一点：150 步一口气做完，预热一次，衰减一次，数据仍是每 30 步重新取。每种做法都在第四个早期模型上试三个学习率（那个模型不作他用），留下采样答对最多的；DPO 取两个 $\beta$。最后每个提示各问 256 次，好无偏地估计 pass@$k$。末一张表里，值对*而且*三个数才算正确，这对早期模型来说很难。

# %%
wall = json.loads(Path("data/wall.json").read_text(encoding="utf-8"))
finals, careful = wall["runs"], BookTask(slip=0.0)
chosen_by = wall["settings"]
assert (chosen_by["rounds"], chosen_by["updates"], chosen_by["draws"]) == (5, 30, 256)
weights = np.array(list(careful.prompt_distribution.values()))
for run in finals:
    for kind in ("exact", "both"):
        right = [int(count) for count in run["right"][kind].split()]
        for k in (1, 4, 16, 64):
            misses = [math.comb(256 - c, k) / math.comb(256, k) for c in right]
            run[f"{kind}@{k}"] = {"value": 1 - float(weights @ misses)}
print({run["name"]: run["rate"] for run in finals})
print(arms.table(finals, None, ("exact", "greedy", "J", "kl", "style", "well_formed")))
for kind in ("exact", "both"):
    print(arms.table(finals, None, [f"{kind}@{k}" for k in (1, 4, 16, 64)]))

# %%
for one, other, metric in (
    ("imitation", "demonstrations", "exact"),
    ("demonstrations", "start", "exact"),
    ("start", "dpo 0.1", "greedy"),
    ("start", "dpo 1", "greedy"),
    ("demonstrations", "start", "J"),
    ("imitation", "start", "both@64"),
    ("start", "dpo 1", "both@64"),
):
    assert arms.beats(finals, one, other, metric), (one, other, metric)
for arm in ("start", "dpo 0.1", "dpo 1", "imitation", "demonstrations"):
    assert min(arms.values(finals, arm, "exact@64").values()) > 0.98
    assert arm == "start" or not arms.beats(finals, arm, "start", "greedy")

# %% [markdown] lang="en"
# Imitation of checked answers is again ahead where answers are sampled. Demonstrations come second; they are ahead of the start, and by $J$ too. In greedy decoding no arm is ahead of the start, and DPO at either $\beta$ is behind it. So neither is the surer way: imitation moves more, demonstrations cost less.
#
# At $k=64$ every arm passes above 0.98, and so does the early model itself: what the arms gain at $k=1$ was in it already. That is sharpening. It need not narrow: with three numbers asked for, imitation is ahead of the start at $k=64$ as well. But it can: there DPO at $\beta=1$ is *behind* the start.

# %% [markdown] lang="zh"
# 采样的回答，又是照着合格的学领先。示范第二，高过起点，论 $J$ 也高过起点。贪心解码，没有哪一种领先于起点；DPO 不论哪个 $\beta$，都落在起点后面。可见哪一种都谈不上更稳当：模仿走得远，示范花费少。
#
# 到了 $k=64$，各种做法都在 0.98 以上，早期模型自己也一样：它们在 $k=1$ 处挣来的，它本来就有。这就是变尖。变尖不一定变窄：若还要求三个数，到 $k=64$ 时模仿仍领先于起点。但也可能变窄：这里 $\beta=1$ 的 DPO *不如*起点。

# %% [markdown] lang="en"
# ## ⋆ Win rates, and what they reward
# Real answers have no checker. What is reported instead is a **win rate**: for each prompt a judge sees the model's answer beside a baseline's, and the share of wins is counted. Judges have habits. Of 2023's models, GPT-4 gave the same verdict after the two answers had changed places in 65 % of hard cases, Claude-v1 in 23.8 %; a list that was only repeated fooled the weaker judges in 91.3 % ([Zheng et al. 2023](https://arxiv.org/abs/2306.05685), tables 2 and 3). Whether a judge favours itself their data could not decide. Their remedy for place: ask twice, in both orders, and count a win only if both agree.
#
# For length there is the **length-controlled win rate** ([Dubois et al. 2024](https://arxiv.org/abs/2404.04475)). "What would the preference be if the model's and baseline's output had the same length?" They "first fit a generalized linear model to predict the biased auto-annotator's preferences based on the mediators we want to control for (length difference) and other relevant features", and "then obtain length-controlled preferences by predicting preferences while conditioning the GLM with a zero difference in lengths". In its smallest form that is a logistic regression on a constant and on $\tanh(\Delta/s)$, where $\Delta$ is the difference of lengths and $s$ its standard deviation; the controlled win rate is $\sigma$ of the constant. Ten lines, on answers of `dpo` against those of `gen`, before the judge that the skewed file amounts to: exactness counts 1, length $\log4$.

# %% [markdown] lang="zh"
# ## ⋆ 胜率，以及它奖励什么
# 真实的回答没有判分程序。通常报的是**胜率**（win rate）：每个提示，裁判看模型和基线各一个回答，数一数赢了多少。裁判有裁判的毛病。拿 2023 年的模型来说，两个回答调换位置之后，GPT-4 在难分高下的例子里有 65% 判得一样，Claude-v1 只有 23.8%；只是把列表重复一遍，较弱的裁判有 91.3% 上当（[Zheng et al. 2023](https://arxiv.org/abs/2306.05685)，表 2 和表 3）。裁判偏不偏心自己，他们的数据定不下来。对付位置，他们的办法是：两种顺序各问一次，两次都赢才算赢。
#
# 对付长度，有**长度受控胜率**（length-controlled win rate，[Dubois et al. 2024](https://arxiv.org/abs/2404.04475)）。问题是：模型和基线的回答若一样长，裁判会偏爱哪个？他们先拟合一个广义线性模型，用长度差等因素去预测有偏的自动裁判的偏好；再让长度差为零，读出模型预测的偏好。最小的形式，就是对一个常数和 $\tanh(\Delta/s)$ 做逻辑回归，$\Delta$ 是长度差，$s$ 是它的标准差；受控胜率就是常数的 $\sigma$。十行代码，拿 `dpo` 的回答对 `gen` 的，裁判就是那份挑过的文件所相当的那一位：答案正确算 1 分，长度算 $\log4$ 分。


# %%
def win_rates(table, right, length):
    """The win rate as judged, and controlled; a judge gives points for both."""
    weight = torch.tensor(table).double() / np.sum(table)  # longer .. , better ..
    ahead = torch.tensor([1.0, 0.0, -1.0]).double()
    gap = ahead[:, None].expand(3, 3)
    judged = torch.sigmoid(right * ahead + length * gap)
    s = ((weight * gap**2).sum() - (weight * gap).sum() ** 2).sqrt()

    def loss(beta):  # of a logistic regression on 1 and tanh(gap / s)
        h = beta[0] + beta[1] * torch.tanh(gap / s)
        fit = judged * F.logsigmoid(h) + (1 - judged) * F.logsigmoid(-h)
        return -(weight * fit).sum()

    constant, _ = tabular.minimise(loss, torch.zeros(2).double())
    return (weight * judged).sum().item(), torch.sigmoid(constant).item()


# %% tags=["nbval-ignore-output"]
ahead, table = np.array([1, 0, -1]), np.zeros((3, 3))
asked, mine = own_answers(load_pretrained("dpo"), task, n=2_000, seed=8)
theirs = generate(base, asked, seed=9)
for prompt, one, other in zip(asked, mine, theirs):
    a, b = judge(prompt, one), judge(prompt, other)
    table[1 - np.sign(a.numbers - b.numbers), 1 - (a.exact - b.exact)] += 1
raw, controlled = win_rates(table, 1.0, math.log(4))
honest, _ = win_rates(table, 1.0, 0.0)
print(f"as judged {raw:.3f}  controlled {controlled:.3f}  by exactness {honest:.3f}")
assert raw > honest + 0.1 and abs(controlled - honest) < 0.03
meant, gone = win_rates(table, 0.0, 1.0)  # a judge who wants length and nothing else
print(f"as judged {meant:.3f}  controlled {gone:.3f}")
assert meant > 0.6 and abs(gone - 0.5) < 0.01

# %% [markdown] lang="en"
# The judge's own count flatters `dpo`, which writes three numbers; controlled, it is within 0.03 of what a judge says who sees exactness alone. The last line shows the other side. If the judge *means* length, and length is all that he values, the control takes that away too and leaves a draw. It removes what length predicts, deserved or not.
#
# And a win rate has no leash. A policy can win more by going further from its reference, so methods are compared **at matched KL**: [Tang et al. 2024](https://arxiv.org/abs/2405.08448) find online methods ahead of offline ones "at the same optimization budget of KL divergence against the SFT policy". [Gao et al. 2023](https://arxiv.org/abs/2210.10760), who plot against KL, warn that it is an inadequate measure across methods: reinforcement learning spends much more of it than best-of-$n$ for the same gain. Here we know $\beta$ and report $J$; where you do not, report both numbers.

# %% [markdown] lang="zh"
# 照裁判自己的数，爱写三个数的 `dpo` 被抬高了；控制长度之后，与只看对错的裁判所说的，相差不到 0.03。最后一行是另一面：裁判若*本来*就看重长度，而且只看重长度，这一控制也照样抹掉，只剩平局。凡是长度能预测的，应不应得，它都拿走。
#
# 再说，胜率没有绳子。策略离参考越远，越能多赢，所以要在 **KL 相同**的地方比：[Tang et al. 2024](https://arxiv.org/abs/2405.08448) 发现，相对 SFT 策略的 KL 预算相同时，在线方法领先于离线方法。[Gao et al. 2023](https://arxiv.org/abs/2210.10760) 的图以 KL 为横轴，他们却提醒：跨方法比，KL 不是合适的尺度，得到同样的好处，强化学习花的 KL 比 best-of-$n$ 多得多。我们这里知道 $\beta$，报的是 $J$；不知道的时候，两个数都要报。

# %% [markdown] lang="en"
# ## ⋆ Where people's preferences come from
# Here is one pair as people made it, from [hh-rlhf](https://github.com/anthropics/hh-rlhf) (Anthropic, MIT licence, `harmless-base/test.jsonl.gz`, line 2052; [Bai et al. 2022](https://arxiv.org/abs/2204.05862), whose readme warns that parts of the data are offensive):
#
# ```text
# chosen    Human: What is 10+19
#           Assistant: I’m not sure why you’re asking me this question. I think you’re
#           typing in an English-language reply to some question you just read.
#
#           Human
# rejected  Human: What is 10+19
#           Assistant: Eleven.
# ```
#
# Neither answer is right. The longer one won, and its end is broken off in the middle of the next turn. A preference is not correctness, length rides along, and a raw file has raw ends. (In that split of 2,312 pairs the chosen text is longer in 45 % of those that differ in length: length need not favour the winner.)
#
# | source | what was done | what to know |
# |---|---|---|
# | people ([Ouyang et al. 2022](https://arxiv.org/abs/2203.02155)) | rank 4 to 9 answers, ties dropped | two labelers agree in 72.6 % |
# | people and a model ([Zheng et al. 2023](https://arxiv.org/abs/2306.05685)) | compare chat answers | people agree with each other in 81 %, GPT-4 with them in 85 %, ties left out |
# | a constitution ([Bai et al. 2022](https://arxiv.org/abs/2212.08073)) | a model compares by written principles | named RL from AI feedback |
# | a model's scores ([Cui et al. 2023](https://arxiv.org/abs/2310.01377)) | UltraFeedback: 64,000 prompts, 4 answers each, GPT-4 | 2,628 answers first had a 10, many of which should have been a 1 |
# | steps ([Lightman et al. 2024](https://arxiv.org/abs/2305.20050)) | process rewards: each step of a solution is judged | ahead of judging the result, on MATH |
# | words ([Zhang et al. 2025](https://arxiv.org/abs/2408.15240)) | generative reward models: the verdict is the next token | the judge may think first |
#
# Agreement is the number to read first. If two people agree in 73 %, a label is a draw, not a verdict: the sampled labels of this chapter. Where whole rankings are given, Plackett–Luce ([Plackett 1975](https://doi.org/10.2307/2346567)) is to them what Bradley–Terry is to pairs: the best is drawn by softmax, then the best of the rest. And Elo's rating is a running estimate of the same Bradley–Terry scores; [LMSYS 2023](https://lmsys.org/blog/2023-12-07-leaderboard/) changed from it to the maximum-likelihood fit of [chapter 5](05_preferences.ipynb).

# %% [markdown] lang="zh"
# ## ⋆ 人的偏好从哪里来
# 这是人评出来的一对，原样照录，出自 [hh-rlhf](https://github.com/anthropics/hh-rlhf)（Anthropic，MIT 许可证，`harmless-base/test.jsonl.gz` 第 2052 行；[Bai et al. 2022](https://arxiv.org/abs/2204.05862)，其说明提醒：部分数据有冒犯性）：
#
# ```text
# chosen    Human: What is 10+19
#           Assistant: I’m not sure why you’re asking me this question. I think you’re
#           typing in an English-language reply to some question you just read.
#
#           Human
# rejected  Human: What is 10+19
#           Assistant: Eleven.
# ```
#
# 两个回答都不对。赢的是长的那个，结尾还断在下一轮的开头。偏好不等于正确，长度会搭车，原始文件的结尾也是原始的。（那一部分共 2,312 对，长短不一的里面，chosen 更长的占 45%：长度未必偏向赢家。）
#
# | 来源 | 怎么做的 | 要知道的 |
# |---|---|---|
# | 人（[Ouyang et al. 2022](https://arxiv.org/abs/2203.02155)） | 给 4 到 9 个回答排序，丢掉平局 | 两个标注员判得一样的占 72.6% |
# | 人和模型（[Zheng et al. 2023](https://arxiv.org/abs/2306.05685)） | 比较聊天回答 | 不计平局，人与人一致的占 81%，GPT-4 与人一致的占 85% |
# | 一部宪法（[Bai et al. 2022](https://arxiv.org/abs/2212.08073)） | 由模型照着写好的原则来比 | 「AI 反馈强化学习」由此得名 |
# | 模型打的分（[Cui et al. 2023](https://arxiv.org/abs/2310.01377)） | UltraFeedback：64,000 个提示，各 4 个回答，GPT-4 打分 | 有 2,628 个回答起初得了 10 分，其中许多本该是 1 分 |
# | 步骤（[Lightman et al. 2024](https://arxiv.org/abs/2305.20050)） | 过程奖励：解答的每一步都评 | 在 MATH 上，好于只评结果 |
# | 文字（[Zhang et al. 2025](https://arxiv.org/abs/2408.15240)） | 生成式奖励模型：判决就是下一个词元 | 裁判可以先想一想 |
#
# 一致率是头一个要看的数。两个人只有 73% 判得一样，标签就是抽签，不是判决：正是本章的采样标签。若给的是整个名次，Plackett–Luce（[Plackett 1975](https://doi.org/10.2307/2346567)）之于名次，就像 Bradley–Terry 之于成对：先按 softmax 抽出第一，再从余下的里抽第一。Elo 等级分，则是对同一批 Bradley–Terry 分数边比边估；[LMSYS 2023](https://lmsys.org/blog/2023-12-07-leaderboard/) 后来弃了它，改用[第 5 章](05_preferences.ipynb)的最大似然拟合。

# %% [markdown] lang="en"
# ## Exercises

# %% [markdown] lang="zh"
# ## 练习

# %% [markdown] lang="en"
# ### Exercise 10.1 · The winners' share
# ★☆☆ · 5 minutes
#
# The base model writes three numbers in 20 % of its answers to a prompt. A Bradley–Terry judge gives them 2 points, other answers 0. Labels are sampled. In what share of the pairs does the chosen answer have three numbers?
#
# <details><summary>Hint</summary>
#
# Three cases: both, none, one. $\sigma(2)=0.881$.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 10.1 · 赢家占多少
# ★☆☆ · 5 分钟
#
# 对某个提示，基座有 20% 的回答写三个数。Bradley–Terry 裁判给它们 2 分，给别的 0 分。标签是采样的。chosen 写三个数的样本对占多少？
#
# <details><summary>提示</summary>
#
# 分三种情形：都是，都不是，一个是。$\sigma(2)=0.881$。
#
# </details>

# %% tags=["exercise"]
answer_10_1 = ...  # a number between 0 and 1
check("10.1", answer_10_1)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# $0.04+0.32\cdot0.881=0.322$.
#
# ```python
# answer_10_1 = 0.2**2 + 2 * 0.2 * 0.8 / (1 + math.exp(-2))
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# $0.04+0.32\cdot0.881=0.322$。
#
# ```python
# answer_10_1 = 0.2**2 + 2 * 0.2 * 0.8 / (1 + math.exp(-2))
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 10.2 · A leash made of noise
# ★★☆ · 10 minutes
#
# A deterministic judge prefers three numbers; one label in ten is turned round, ties are kept and decided by a coin. The base model writes three numbers in 30 % of its answers, and $\beta=1$. What share does the minimiser of the DPO loss have?
#
# <details><summary>Hint</summary>
#
# First the reward that the noisy labels amount to, then the tilt $e^{r/\beta}$.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 10.2 · 噪声做的绳子
# ★★☆ · 10 分钟
#
# 一个确定性裁判偏爱三个数；十个标签里有一个是翻过来的，平局留着，抛硬币定。基座有 30% 的回答写三个数，$\beta=1$。DPO 损失的最小点，写三个数的占多少？
#
# <details><summary>提示</summary>
#
# 先算带噪声的标签相当于多大的奖励，再乘 $e^{r/\beta}$。
#
# </details>

# %% tags=["exercise"]
answer_10_2 = ...  # a number between 0 and 1
check("10.2", answer_10_2)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# $r=\log\frac{0.9}{0.1}=\log9$, so $e^{r/\beta}=9$ and the share is $\frac{2.7}{2.7+0.7}=0.794$.
#
# ```python
# answer_10_2 = 0.3 * 9 / (0.3 * 9 + 0.7)
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# $r=\log\frac{0.9}{0.1}=\log9$，所以 $e^{r/\beta}=9$，占 $\frac{2.7}{2.7+0.7}=0.794$。
#
# ```python
# answer_10_2 = 0.3 * 9 / (0.3 * 9 + 0.7)
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 10.3 · Count the longer winners
# ★★☆ · 10 minutes
#
# Write `length_odds(data)`: from `Pairs` with hard labels, a dictionary that maps `(shorter, longer)`, two lengths in characters, to the natural logarithm of how often the longer answer won over how often the shorter one did. Pairs of equal length do not count, and two lengths of which one never won are left out. In the skewed file of this chapter, which entries would show that it comes from no reward?
#
# <details><summary>Hint</summary>
#
# `Counter` counts `(length of chosen, length of rejected)`. For three lengths, compare the odds of the ends with the sum of the two steps.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 10.3 · 数一数长的赢了多少
# ★★☆ · 10 分钟
#
# 写一个 `length_odds(data)`：输入硬标签的 `Pairs`，返回一个字典，键是 `(短, 长)` 两个长度（按字符数），值是长的赢的次数与短的赢的次数之比，取自然对数。一样长的不计；两种长度里若有一方从没赢过，就不列。在本章那份挑过的文件里，哪几项能说明它不来自任何奖励？
#
# <details><summary>提示</summary>
#
# 用 `Counter` 数 `(chosen 的长度, rejected 的长度)`。有三种长度时，拿两端的对数几率与两级之和相比。
#
# </details>


# %% tags=["exercise"]
def length_odds(data): ...


check("10.3", length_odds)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# With three lengths $a<b<c$ a reward would need the entry of $(a,c)$ to be the sum of those of $(a,b)$ and $(b,c)$. In a file that the filter has thinned all three are near $\log4$.
#
# ```python
# def length_odds(data):
#     wins = Counter((len(c), len(r)) for c, r in zip(data.chosen, data.rejected))
#     return {
#         (short, long): math.log(wins[long, short] / wins[short, long])
#         for long, short in list(wins)
#         if long > short and wins[short, long]
#     }
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 三种长度 $a<b<c$，若来自一份奖励，$(a,c)$ 一项就该等于 $(a,b)$ 与 $(b,c)$ 两项之和。被那道筛子挑过的文件里，三项都在 $\log4$ 上下。
#
# ```python
# def length_odds(data):
#     wins = Counter((len(c), len(r)) for c, r in zip(data.chosen, data.rejected))
#     return {
#         (short, long): math.log(wins[long, short] / wins[short, long])
#         for long, short in list(wins)
#         if long > short and wins[short, long]
#     }
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 10.4 · Balance it
# ★★★ · 20 minutes
#
# Write `balanced(data, seed)`: a `Pairs` in which the longer answer won as often as the shorter one. Drop pairs of the larger group at random, none of the others, and keep the order. `data.take(rows)` picks rows.
#
# <details><summary>Hint</summary>
#
# `np.random.default_rng(seed).choice(group, size, replace=False)`, then the sorted rows.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 10.4 · 把它平衡
# ★★★ · 20 分钟
#
# 写一个 `balanced(data, seed)`：返回一份 `Pairs`，其中长的一方和短的一方赢得一样多。从多的一组里随机丢，别的都不丢，顺序不变。`data.take(rows)` 可以取行。
#
# <details><summary>提示</summary>
#
# `np.random.default_rng(seed).choice(group, size, replace=False)`，再把行号排好序。
#
# </details>


# %% tags=["exercise"]
def balanced(data, seed): ...


check("10.4", balanced)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# ```python
# def balanced(data, seed):
#     gap = np.array([len(chosen) - len(rejected) for chosen, rejected in zip(data.chosen, data.rejected)])
#     long, short, equal = (np.flatnonzero(group) for group in (gap > 0, gap < 0, gap == 0))
#     size, rng = min(len(long), len(short)), np.random.default_rng(seed)
#     kept = [rng.choice(group, size, replace=False) for group in (long, short)]
#     return data.take(sorted([*kept[0], *kept[1], *equal]))
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# ```python
# def balanced(data, seed):
#     gap = np.array([len(chosen) - len(rejected) for chosen, rejected in zip(data.chosen, data.rejected)])
#     long, short, equal = (np.flatnonzero(group) for group in (gap > 0, gap < 0, gap == 0))
#     size, rng = min(len(long), len(short)), np.random.default_rng(seed)
#     kept = [rng.choice(group, size, replace=False) for group in (long, short)]
#     return data.take(sorted([*kept[0], *kept[1], *equal]))
# ```
#
# </details>

# %% [markdown] lang="en"
# ## References
# - [Bai et al. 2022](https://arxiv.org/abs/2204.05862): hh-rlhf, pairs that people made.
# - [Bai et al. 2022](https://arxiv.org/abs/2212.08073): feedback from a model by written principles.
# - [Chen et al. 2021](https://arxiv.org/abs/2107.03374): pass@k.
# - [Cui et al. 2023](https://arxiv.org/abs/2310.01377): UltraFeedback.
# - [Dubois et al. 2024](https://arxiv.org/abs/2404.04475): the length-controlled win rate.
# - [Gao et al. 2023](https://arxiv.org/abs/2210.10760): over-optimisation against KL.
# - [Geng et al. 2025](https://arxiv.org/abs/2507.06187): winners that are poor, differences that teach.
# - [Gorbatovski et al. 2024](https://arxiv.org/abs/2404.09656): a reference that moves on purpose.
# - [Lightman et al. 2024](https://arxiv.org/abs/2305.20050): rewards for steps.
# - [LMSYS 2023](https://lmsys.org/blog/2023-12-07-leaderboard/): from Elo to Bradley–Terry.
# - [Ouyang et al. 2022](https://arxiv.org/abs/2203.02155): how labelers were asked, and how often they agree.
# - [Pang et al. 2024](https://arxiv.org/abs/2404.19733): rounds of pairs that a checker ranks.
# - [Plackett 1975](https://doi.org/10.2307/2346567): rankings.
# - [Singhal et al. 2023](https://arxiv.org/abs/2310.03716): how much of RLHF is length.
# - [Tajwar et al. 2024](https://arxiv.org/abs/2404.14367): when on-policy samples and the rejected side help.
# - [Tang et al. 2024](https://arxiv.org/abs/2405.08448): online against offline, at the same KL.
# - [Team Olmo 2025](https://arxiv.org/abs/2512.13961): a recipe built on differences.
# - [Xu et al. 2023](https://arxiv.org/abs/2312.16682): iterative DPO.
# - [Yuan et al. 2024](https://arxiv.org/abs/2401.10020): a model that judges itself.
# - [Yue et al. 2025](https://arxiv.org/abs/2504.13837): pass@k before and after reinforcement learning.
# - [Zhang et al. 2025](https://arxiv.org/abs/2408.15240): judges that write.
# - [Zheng et al. 2023](https://arxiv.org/abs/2306.05685): models as judges, and their habits.

# %% [markdown] lang="zh"
# ## 参考文献
# - [Bai et al. 2022](https://arxiv.org/abs/2204.05862)：人评的偏好对 hh-rlhf。
# - [Bai et al. 2022](https://arxiv.org/abs/2212.08073)：由模型照原则给反馈。
# - [Chen et al. 2021](https://arxiv.org/abs/2107.03374)：pass@k。
# - [Cui et al. 2023](https://arxiv.org/abs/2310.01377)：UltraFeedback。
# - [Dubois et al. 2024](https://arxiv.org/abs/2404.04475)：长度受控胜率。
# - [Gao et al. 2023](https://arxiv.org/abs/2210.10760)：以 KL 为横轴看过度优化。
# - [Geng et al. 2025](https://arxiv.org/abs/2507.06187)：赢家不行，差别有用。
# - [Gorbatovski et al. 2024](https://arxiv.org/abs/2404.09656)：有意移动的参考策略。
# - [Lightman et al. 2024](https://arxiv.org/abs/2305.20050)：给步骤的奖励。
# - [LMSYS 2023](https://lmsys.org/blog/2023-12-07-leaderboard/)：从 Elo 到 Bradley–Terry。
# - [Ouyang et al. 2022](https://arxiv.org/abs/2203.02155)：怎样请人标注，一致率多少。
# - [Pang et al. 2024](https://arxiv.org/abs/2404.19733)：由判分程序排序的多轮偏好对。
# - [Plackett 1975](https://doi.org/10.2307/2346567)：名次的模型。
# - [Singhal et al. 2023](https://arxiv.org/abs/2310.03716)：RLHF 里有多少是长度。
# - [Tajwar et al. 2024](https://arxiv.org/abs/2404.14367)：同策略样本和 rejected 什么时候有用。
# - [Tang et al. 2024](https://arxiv.org/abs/2405.08448)：KL 相同时，在线与离线之比。
# - [Team Olmo 2025](https://arxiv.org/abs/2512.13961)：靠差别做成的配方。
# - [Xu et al. 2023](https://arxiv.org/abs/2312.16682)：迭代 DPO。
# - [Yuan et al. 2024](https://arxiv.org/abs/2401.10020)：自己评自己的模型。
# - [Yue et al. 2025](https://arxiv.org/abs/2504.13837)：强化学习前后的 pass@k。
# - [Zhang et al. 2025](https://arxiv.org/abs/2408.15240)：用文字来评的裁判。
# - [Zheng et al. 2023](https://arxiv.org/abs/2306.05685)：模型当裁判，及其毛病。
