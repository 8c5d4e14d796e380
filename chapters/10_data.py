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
# > **In this chapter.** You will be able to say what a set of preference pairs will teach before you train on it: what imitation of its winners converges to, what DPO makes of its noise and of its length, and what no pair can teach. You need [chapter 9](09_dpo.ipynb); the closed forms are those of [chapter 6](06_objective.ipynb) and [chapter 7](07_derivation.ipynb). 40 minutes to read, 30 seconds to run.

# %% [markdown] lang="zh"
# > **本章。** 读完后，你能在训练之前说出一份偏好数据会教出什么：照着赢家学，会收敛到哪里；数据里的噪声和长度，DPO 会怎样对待；哪些东西，什么样的偏好对都教不会。需要读过[第 9 章](09_dpo.ipynb)；闭式解出自[第 6 章](06_objective.ipynb)和[第 7 章](07_derivation.ipynb)。阅读 40 分钟，运行 30 秒。

# %%
import contextlib
import copy
import io
import json
import math
import tempfile
from pathlib import Path

import numpy as np
import torch
from checks import check

from dpo_core import BookTask, judge, load_pretrained, tabular, use_threads
from dpo_core.commands.parser import main
from dpo_core.evaluation import Estimate, evaluate
from dpo_core.pairs import read_pairs
from dpo_core.plotting import COLORS, figure, points
from dpo_core.preferences import on_policy_pairs
from dpo_core.steps import dpo_step, sft_step
from dpo_core.theory import class_problem, predicted_optimum, predicted_shares
from dpo_core.training import LoopConfig, train

# %% [markdown] lang="en"
# ## The same loss, other pairs
# Chapter 9 mostly changed the loss's settings and kept the pairs. Now the loss stays what it is, and the pairs change. Four things can differ between two files that look alike: who wrote the two answers, who judged them, which pairs were kept, and how many there are. Each of them moves the policy that training ends in, and for most of them we can say beforehand where to.
#
# Every experiment is run twice from the same pairs. Once by DPO. Once by **fine-tuning on the chosen answers** alone: throw the rejected ones away and imitate the rest, with the loss of [chapter 3](03_sft.ipynb). This baseline needs no reference and no $\beta$. A preference loss that does not beat it has not earned its rejected answers.
#
# The runs are recorded: three seeds, each with its own base model and its own pairs, 6,400 comparisons and 100 updates of 64 pairs unless said otherwise, each measured on 2,000 fresh prompts. So a full file is seen once; a file that lost pairs on the way is seen more than once. What a figure shows is the mean over the seeds; its bar goes from the lowest seed to the highest.

# %% [markdown] lang="zh"
# ## 损失不变，换数据
# 第 9 章主要改损失的设置，偏好对很少动。这一章反过来：损失不动，换偏好对。两份看起来一样的文件，有四处可以不同：两个回答是谁写的，谁来评，留下了哪些对，一共多少对。每一处都会改变训练的终点，而且多数时候，终点在哪里可以事先算出来。
#
# 每个实验都用同一批偏好对训练两次。一次用 DPO。另一次只在 chosen（被偏好的回答）上做**监督微调**（supervised fine-tuning，SFT）：扔掉 rejected（不被偏好的回答），照着剩下的学，损失就是[第 3 章](03_sft.ipynb)的那个。这条基线不要参考策略，也不要 $\beta$。偏好损失若赢不了它，就对不起那些 rejected。
#
# 实验都跑好存下了：三个种子，各有自己的基座和偏好对；不另说明的，都是 6,400 次比较，更新 100 步，每步 64 对，在 2,000 个新提示上测量。所以整份文件恰好过一遍；中途丢了一些对的，就不止一遍。图里的点是三个种子的平均，竖线从最低的种子画到最高的种子。

# %%
task = BookTask()
stored = json.loads(Path("data/data_decides.json").read_text(encoding="utf-8"))
assert stored["settings"]["pairs"] == 6_400 and stored["settings"]["steps"] == 100 and stored["settings"]["n"] == 2_000
assert len(stored["settings"]["seeds"]) == 3


def over_seeds(experiment, metric, **wanted):
    values = []
    for run in stored[experiment]:
        if all(run[key] == value for key, value in wanted.items()):
            values.append(run[metric]["value"] if isinstance(run[metric], dict) else run[metric])
    assert len(values) == 3, (experiment, wanted, len(values))
    return Estimate(sum(values) / 3, min(values), max(values))


def near(experiment, metric, value, **wanted):
    return f"{over_seeds(experiment, metric, **wanted).value:.2f}" == value

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
# One base model, one taste, and three results, from 0.397 to 1, depending on what was done with the label. In general, let $p$ be the distribution that both answers are drawn from. An answer $y$ becomes the chosen one if it was drawn, first or second, and beat the other. So the chosen answers have the distribution
#
# $$p_w(y)=2\,p(y)\;\mathbb{E}_{y'\sim p}\big[P(y\succ y')\big],$$
#
# where $P(y\succ y')$ is the probability that $y$ is chosen over $y'$. Cross-entropy on them is smallest where the policy equals $p_w$ (chapter 3: no distribution is coded more cheaply than by itself). Where pairs without a label are dropped, neither answer wins them ($P=0$ both ways), and the whole is divided by the share that is left. In the table of comparisons of chapter 5, `wins[i, j]`, the weight with which $i$ was preferred to $j$, it is the sum of row $i$ over the sum of everything. We check the formula against a minimiser, on 20 random problems with six answers each:

# %% [markdown] lang="zh"
# ## 照着赢家学，会学到哪里
# 先用手算得动的数。一个提示有两类回答：写三个数的，裁判喜欢（奖励 1）；写两个数的，奖励 0。基座有 30% 的回答写三个数。抽两个回答，裁判挑一个，照着它学。学成之后，写三个数的占多少？
#
# 分三种情形。两个都写三个数：概率 $0.3\cdot0.3=0.09$，chosen 也是三个数。两个都写两个数：$0.49$，chosen 是两个数。两类各一个：$2\cdot0.3\cdot0.7=0.42$，谁当 chosen 由标签定。
#
# - **采样标签**（sampled label）。好的一方以概率 $\sigma(1)=0.731$ 胜出。chosen 写三个数的概率是 $0.09+0.42\cdot0.731=0.397$。
# - **确定性标签**（deterministic label），**留着平局**（tie）。好的一方必胜：$0.09+0.42=0.51$。
# - **确定性标签，丢掉平局**。剩下的对都是两类各一个，赢的全是三个数：$1$。
#
# 同一个基座，同一种口味，只因标签的处理不同，结果从 0.397 到 1 都有。一般地说，设两个回答都从分布 $p$ 里抽。回答 $y$ 要成为 chosen，得先被抽到（第一个或第二个），再赢过对手。所以 chosen 的分布是
#
# $$p_w(y)=2\,p(y)\;\mathbb{E}_{y'\sim p}\big[P(y\succ y')\big]$$
#
# 其中 $P(y\succ y')$ 是 $y$ 赢过 $y'$ 的概率。在这些回答上，交叉熵在策略等于 $p_w$ 时最小（第 3 章：用自己给自己编码最省）。没有标签的对若被丢掉，谁也没赢（两边都是 $P=0$），最后再除以剩下的比例。用第 5 章的比较表来说，`wins[i, j]` 是 $i$ 胜过 $j$ 的权重，那么 $p_w$ 就是第 $i$ 行之和除以总和。拿 20 道随机小题，各有六个回答，用数值求最小来核对：

# %%
p, win = 0.3, 1 / (1 + math.exp(-1))
by_hand = {"sampled": p**2 + 2 * p * (1 - p) * win, "kept": p**2 + 2 * p * (1 - p), "dropped": 1.0}
print({name: round(value, 3) for name, value in by_hand.items()}, round(win, 3))
assert [round(value, 3) for value in by_hand.values()] == [0.397, 0.51, 1.0] and round(win, 3) == 0.731


def imitation(wins):
    """log p_w, the policy that imitates the chosen answers of a table of comparisons."""
    return (wins.sum(-1) / wins.sum((-1, -2)).unsqueeze(-1)).log()


problems = tabular.random_problems(20, 6, seed=10)
two_draws = tabular.independent_pairs(problems.ref_logps, problems.ref_logps)
for labels in ("soft", "deterministic"):
    wins = tabular.comparisons(problems.reward, two_draws, labels)
    target = imitation(wins)
    share = wins.sum(-1) / wins.sum((-1, -2)).unsqueeze(-1)
    if labels == "soft":
        found = tabular.minimise(lambda logits: -(share * logits.log_softmax(-1)).sum(-1), torch.zeros(20, 6).double())
        assert (found.softmax(-1) - target.exp()).abs().max() < 1e-9
    beaten = tabular.preference_probs(problems.reward) if labels == "soft" else (problems.reward[:, :, None] > problems.reward[:, None]).double()
    density = 2 * problems.ref_logps.exp() * (beaten * problems.ref_logps.exp()[:, None]).sum(-1)
    assert torch.allclose(density / density.sum(-1, keepdim=True), target.exp(), atol=1e-12)

# %% [markdown] lang="en"
# Now the network, with the same reward, style. The population's share of three numbers is 0.30 on average, but it differs from prompt to prompt, so the predictions are averages over the prompts. DPO at $\beta=0.5$ has its own prediction, 0.76, whichever way the pairs are drawn; under a deterministic judge it has none ([chapter 7](07_derivation.ipynb)).

# %% [markdown] lang="zh"
# 轮到网络，奖励还是风格。群体里写三个数的平均占 0.30，可是各个提示不同，所以预言要对提示取平均。DPO 在 $\beta=0.5$ 时有自己的预言，0.76，与怎么抽对无关；裁判若是确定性的，就没有预言（[第 7 章](07_derivation.ipynb)）。

# %%
styles = class_problem(task, "style")
style_pairs = tabular.independent_pairs(styles.ref_logps, styles.ref_logps)


def winners(reward, labels="soft", keep=1.0):
    """log p_w of each prompt's classes; a prompt whose pairs are all ties keeps its reference."""
    wins = tabular.comparisons(reward, style_pairs, labels) * keep
    return torch.where(wins.sum((-1, -2))[:, None] > 0, imitation(wins), styles.ref_logps)


imitate = {"sampled": predicted_shares(task, winners(styles.reward)),
           "kept": predicted_shares(task, tabular.best_of_n(styles, 2)),
           "dropped": predicted_shares(task, winners(styles.reward, "deterministic"))}  # fmt: skip
optimum = predicted_optimum(task, "style", 0.5)
print({name: round(value["style"], 3) for name, value in imitate.items()}, "dpo", round(optimum["style"], 3))
for name in ("sampled", "kept", "dropped"):
    for method in ("dpo", "sft") if name != "kept" else ("sft",):
        row = {metric: over_seeds("labels", metric, name=name, method=method) for metric in ("style", "exact", "kl")}
        print(f"{name:8} {method}", *(f"{metric} {value}" for metric, value in row.items()))
assert f"{optimum['style']:.2f}" == "0.76" and abs(sum(task.class_rates[:, 1].sum(-1) * np.array(list(task.prompt_distribution.values()))) - 0.3) < 1e-9

# %% alt_en="Share of three-number answers for three kinds of label, left to right: sampled, deterministic with ties kept, deterministic with ties dropped. Dashes mark the predictions. Imitation sits at about 0.4, 0.5 and 0.87. DPO sits near 0.6 for sampled labels, below its dash and a star near 0.74, and near 0.95 without ties. A second panel shows the share of right answers: imitation near 0.75 throughout, DPO clearly lower without ties." alt_zh="三种标签下写三个数的比例，从左到右：采样标签、确定性标签留平局、确定性标签丢平局。短横是预言。模仿约在 0.4、0.5、0.87。DPO 在采样标签下约 0.6，低于短横和 0.74 处的星号；丢掉平局时接近 0.95。另一幅是值对的比例：模仿一直在 0.75 附近，DPO 在丢掉平局时明显低。"
fig, panels = figure(2, width=7.4, height=3.2)
for panel, metric in zip(panels, ("style", "exact")):
    for x, name in enumerate(imitate):
        panel.plot([x - 0.25, x + 0.05], [imitate[name][metric]] * 2, color=COLORS["theory"])
        points(panel, [x - 0.1], [over_seeds("labels", metric, name=name, method="sft")], "baseline", marker="s")
        if name != "kept":
            points(panel, [x + 0.15], [over_seeds("labels", metric, name=name, method="dpo")], "policy")
    panel.plot([0, 0.3], [optimum[metric]] * 2, color=COLORS["theory"])
    panel.set(title=metric, ylim=(0, 1.05), xlim=(-0.5, 2.5))
    panel.set_xticks(range(3), ["$q$", "$q=1$\n$=$", "$q=1$\n$\\neq$"])
sweep = json.loads(Path("data/beta_sweep.json").read_text(encoding="utf-8"))["runs"]
longer_run = [run["style"]["value"] for run in sweep if run["labels"] == "sampled" and run["beta"] == 0.5]
panels[0].plot([0.15], [sum(longer_run) / 3], "*", color=COLORS["policy"], markersize=11)
assert all(near("labels", "style", value, name=name, method="sft") for name, value in
           (("sampled", "0.42"), ("kept", "0.52"), ("dropped", "0.87")))  # fmt: skip
assert near("labels", "style", "0.61", name="sampled", method="dpo") and f"{sum(longer_run) / 3:.2f}" == "0.74"
assert near("labels", "exact", "0.65", name="dropped", method="dpo") and near("labels", "exact", "0.75", name="dropped", method="sft")
assert near("labels", "style", "0.94", name="dropped", method="dpo")
arrived = over_seeds("labels", "style", name="sampled", method="sft")
assert (f"{arrived.low:.2f}", f"{arrived.high:.2f}") == ("0.41", "0.43")

# %% [markdown] lang="en"
# **Figure 10.1.** Three-number answers (left) and right answers (right): imitation of the chosen answers (squares) and DPO (dots) after 100 updates, and what is predicted (dashes). From left to right: sampled labels; deterministic ones, ties kept ($=$); deterministic ones, ties dropped ($\neq$). The star is DPO after the 375 updates of chapter 7.

# %% [markdown] lang="zh"
# **图 10.1** 写三个数的比例（左）与值对的比例（右），更新 100 步：模仿 chosen（方块）、DPO（圆点）、预言（短横）。从左到右：采样标签；确定性标签，留平局（$=$）；确定性标签，丢平局（$\neq$）。星号是第 7 章里更新 375 步的 DPO。

# %% [markdown] lang="en"
# Sampled labels: imitation is at 0.42 (0.41 to 0.43 over the seeds), 0.02 past its end of 0.40, and has nowhere left to go. DPO is at 0.61 and on its way to 0.76; the runs of chapter 7, with 24,000 pairs and 375 updates, stand at 0.74. A hundred updates do not exhaust what such pairs have to say, and so in this chapter DPO will often stop short of its line. Ties dropped: imitation is at 0.87 on its way to 1, and its exactness is untouched, 0.75. DPO is quicker, 0.94, and has lost right answers on the way: 0.65.

# %% [markdown] lang="zh"
# 采样标签：模仿在 0.42（三个种子从 0.41 到 0.43），终点是 0.40，还多走了 0.02，再学也没处去了。DPO 在 0.61，正往 0.76 去；第 7 章用 24,000 对、更新 375 步，走到 0.74。一百步还用不尽这些对里的信息，所以本章的 DPO 常常停在线的前面。丢掉平局：模仿在 0.87，正往 1 去，值对的比例没有动，0.75。DPO 更快，0.94，可是路上丢了正确的回答：0.65。

# %% [markdown] lang="en"
# So **when does the rejected side earn its keep?** When the judge is unsure and the label is one draw. Then a chosen answer is only a little better than a rejected one on average, and its imitation a little better than the base model; the difference between the two carries the strength of the preference, and DPO reads it and divides it by $\beta$. When the judge is certain and the question is a single yes or no, the chosen answers are already clean examples of what is wanted. Imitating them is called **rejection sampling**: draw, keep what passes, fine-tune. The rejected side can then add only one thing, pressure without end, and chapter 9 showed what comes of that.

# %% [markdown] lang="zh"
# 那么，**rejected 什么时候才有用？** 裁判没把握、标签又只抽一次的时候。这时 chosen 平均只比 rejected 好一点，照着它学，也只比基座好一点；偏好有多强，藏在两者之差里，DPO 把它读出来，再除以 $\beta$。若裁判有把握，问的又只是一个是与否，那么 chosen 本身就是干净的范例。照着它们学，叫**拒绝采样**（rejection sampling）：多抽，合格的留下，拿来微调。这时 rejected 能添的只有一样东西：没有尽头的压力。后果第 9 章见过了。

# %% [markdown] lang="en"
# ## Who wrote the answers
# Now the reward is the right value, and $\beta=0.25$. Pairs of four origins, all with 6,400 comparisons:
#
# - **population**: two texts of the authors to one prompt. The model wrote neither; they come from the same people as its training data.
# - **on-policy**: two answers of the model itself.
# - **other**: two answers of another model, one that has only begun to learn. Its mistakes are others than ours.
# - **checker**: the on-policy answers again, but the checker alone judges. It knows right and wrong and no degrees, so labels are deterministic, and pairs of two right or two wrong answers are dropped.
#
# The first three have soft labels, the probability itself in place of a draw. So the chosen answer is always the better one, or one of two equals. Imitation does not read the probability; it is heading for the **best of two** of whoever wrote them. For DPO, in chapter 7 the minimiser did not depend on who draws the pairs, as long as every answer can occur. Here is what is left of that promise in 100 updates of a network:

# %% [markdown] lang="zh"
# ## 回答是谁写的
# 现在奖励的是值对，$\beta=0.25$。四种来历的偏好对，都是 6,400 次比较：
#
# - **population**（作者群体）：同一个提示，取作者们写的两个文本。不是模型写的，但与它的训练数据出自同一批人。
# - **on-policy**（同策略）：模型自己的两个回答。
# - **other**（异策略）：另一个模型的两个回答，那个模型才刚开始学。它犯的错，不是我们这个模型会犯的错。
# - **checker**（判分程序）：还是同策略的那些回答，但只由判分程序来评。它只认对错，不分程度，所以标签是确定性的；两个都对或都错的，丢掉。
#
# 前三种用软标签（soft label）：不抽签，直接记概率。所以 chosen 总是好的那个，平局时是其中任一个。模仿不看这个概率，它的终点是写手的**二选一取优**（best of two）。DPO 呢？第 7 章说，只要每个回答都可能出现，谁来抽对都不影响最小点。这个保证落到网络上，更新 100 步，还剩多少？请看：

# %%
for name in ("population", "on-policy", "other", "checker"):
    for method in ("dpo", "sft"):
        row = [f"{metric} {over_seeds('source', metric, name=name, method=method)}" for metric in ("exact", "new", "kl")]
        print(f"{name:10} {method}  pairs {over_seeds('source', 'pairs', name=name, method=method).value:6.0f} ", *row)
exact = predicted_optimum(task, "exact", 0.25)
best_of_two = predicted_shares(task, tabular.best_of_n(class_problem(task, "exact"), 2))
print({"dpo": round(exact["exact"], 3), "sft": round(best_of_two["exact"], 3)})
assert round(exact["exact"], 3) == 0.994 and round(float(best_of_two["exact"]), 3) == 0.938

# %%
assert near("source", "exact", "0.89", name="population", method="sft")
assert near("source", "exact", "0.90", name="on-policy", method="sft")
assert near("source", "exact", "0.96", name="checker", method="sft")
assert near("source", "kl", "0.27", name="checker", method="sft")
assert near("source", "exact", "0.66", name="other", method="sft")
assert near("source", "exact", "0.88", name="on-policy", method="dpo")
assert near("source", "kl", "1.06", name="on-policy", method="dpo")
assert near("source", "exact", "0.81", name="population", method="dpo")
assert near("source", "kl", "1.58", name="population", method="dpo")
assert near("source", "new", "0.11", name="on-policy", method="dpo")
assert near("source", "new", "0.18", name="population", method="dpo")
assert near("source", "exact", "0.80", name="other", method="dpo")
assert near("source", "kl", "0.09", name="other", method="dpo")
assert near("source", "style", "0.15", name="other", method="dpo")
assert near("reach", "two_number_exact", "0.36", name="start", round=0)
assert near("reach", "three_number_exact", "0.17", name="start", round=0)
assert near("source", "exact", "0.39", name="checker", method="dpo")
assert near("source", "kl", "5.23", name="checker", method="dpo")
spread = [over_seeds("source", "exact", name=name, method="dpo") for name in ("on-policy", "population")]
assert [(f"{e.low:.2f}", f"{e.high:.2f}") for e in spread] == [("0.81", "0.91"), ("0.75", "0.89")]
assert 2_400 < over_seeds("source", "pairs", name="checker", method="dpo").value < 2_450

# %% [markdown] lang="en"
# Imitation first. From population and on-policy pairs it ends at 0.89 and 0.90, on its way to 0.938, the best of two of the authors, whom the base model copies. The checker's file takes it to 0.96, on its way to 1, for its winners are all right; KL 0.27. Pairs of the other model lead to 0.66: that model is right much more rarely, so its winners are often only the better of two wrong answers, or a coin's choice among them, and imitating them imports its mistakes.
#
# DPO depends more on what its pairs cover. With its own answers it is right in 0.88 at a KL of 1.06; with the population's in 0.81 at a KL of 1.58, though the seeds overlap (0.81 to 0.91, and 0.75 to 0.89). Look at the column `new`, the share of answers that are wrong in a way no author is: 0.11 and 0.18. In the population's pairs the base model's own rare mistakes do not occur at all, so nothing holds them down, and DPO moves probability into them. It is the leak of chapter 9, this time through the origin of the pairs. The other model's pairs leave us at 0.80 with a KL of only 0.09: there are mistakes enough in them, but somebody else's, and about ours they say little. They do say something that nobody asked for. Three numbers fall to 0.15, from 0.30. The early model is right in 0.36 of its two-number answers and in 0.17 of its three-number ones; so in its pairs "two numbers" is the better guess at "right", and our model, it seems, takes that from them.
#
# Under the checker, whose labels are deterministic, DPO ends at 0.39 with a KL of 5.23: over the edge, as in chapter 9. (Ties gone, 2,400 pairs are left, and each is seen more than twice.) The same file in the hands of imitation gave 0.96.

# %% [markdown] lang="zh"
# 先看模仿。用 population 和 on-policy 的对，停在 0.89 和 0.90，正往 0.938 去，即作者们的二选一取优，基座与作者们一样。判分程序的那份带到 0.96，正往 1 去，因为赢家全是对的；KL 是 0.27。用另一个模型的对，得 0.66：那个模型答对的少得多，赢家往往只是两个错答里的一个，由抛硬币选出；照着学，就把它的错学了进来。
#
# 对 DPO 更要紧的，是这些偏好对覆盖到哪里。用自己的回答，答对 0.88，KL 1.06；用群体的，0.81，KL 1.58，不过种子之间有重叠（前者 0.81 到 0.91，后者 0.75 到 0.89）。看 `new` 那一栏，即没有作者会那样写的错：0.11 和 0.18。群体的对里，基座自己那些罕见的错一次也没出现，没有东西压着它们，DPO 就把概率搬了过去。还是第 9 章那个漏洞，这回出在偏好对的来历上。用另一个模型的对，停在 0.80，KL 只有 0.09：那里错倒是多，却是别人的错，我们的错它说得很少。它还说了一件谁也没要的事：写三个数的从 0.30 掉到 0.15。那个早期模型，写两个数的答对 0.36，写三个数的答对 0.17；所以在它的对里，猜「两个数的对」更容易猜中，我们的模型看来学去的正是这个。
#
# 判分程序给的是确定性标签，DPO 停在 0.39，KL 5.23：同第 9 章一样，翻车了。（平局丢掉后只剩 2,400 对，每对见过两遍多。）同一份文件交给模仿，得的是 0.96。

# %% [markdown] lang="en"
# ## Easy and hard negatives
# The rejected answer is also called the **negative**; it is hard if it is difficult to tell from the chosen one. A pair teaches the difference between its two answers. Keep the checker's chosen answers, all of them right, and change only what they are compared with. Three kinds of rejected answer: a **near miss**, the model's own wrong answer, mostly off by ten (these are the checker's pairs); one **far off**, a right answer to another prompt; and one that is **malformed**, the chosen answer without its last number, `27+E`. Imitation sees no difference between the three: its data are the same.

# %% [markdown] lang="zh"
# ## 简单负例与困难负例
# rejected 又叫**负例**（negative）；与 chosen 难以分辨的，叫困难负例。一对回答教的是两者的差别。chosen 不动，还用判分程序选出的那些，全是对的；只换同它们比的 rejected。三种：**差一点**，模型自己的错答，多半差十（就是判分程序的那些对）；**差很远**，别的提示的正确答案；**格式错误**，把 chosen 的最后一个数去掉，如 `27+E`。对模仿来说三种没有区别：它的数据一模一样。

# %% alt_en="Two panels, share of right answers and KL, each with four groups of points: the base model's 0.75 as a dotted line; near miss, far off and malformed as dots for DPO; imitation as a square." alt_zh="两幅小图：值对的比例与 KL。点线是基座的 0.75；三个圆点是 DPO 的差一点、差很远、格式错误；方块是模仿。"
hard_to_easy = {"near": ("source", "checker"), "far": ("negatives", "far"), "malformed": ("negatives", "malformed")}
fig, panels = figure(2, width=7.4, height=3.0)
for panel, metric in zip(panels, ("exact", "kl")):
    for x, (name, (experiment, key)) in enumerate(hard_to_easy.items()):
        points(panel, [x], [over_seeds(experiment, metric, name=key, method="dpo")], "policy")
        print(metric, name, over_seeds(experiment, metric, name=key, method="dpo"), over_seeds(experiment, "accuracy", name=key, method="dpo"))
    points(panel, [3], [over_seeds("source", metric, name="checker", method="sft")], "baseline", marker="s")
    if metric == "exact":
        panel.axhline(1 - task.slip, color=COLORS["ref"], linestyle=":")
    panel.set(title=metric, xlim=(-0.5, 3.5), ylim=(0, 1.05 if metric == "exact" else None))
    panel.set_xticks(range(4), [r"$\pm10$", r"$y(x')$", "27+E", r"$y_w$"])

# %% [markdown] lang="en"
# **Figure 10.2.** Right answers (left) and KL (right) after DPO against a near miss ($\pm10$), a right answer to another prompt ($y(x')$) and a malformed one (`27+E`); the square is imitation, which sees the chosen answers $y_w$ alone. Dotted: the base model.

# %% [markdown] lang="zh"
# **图 10.2** 用三种 rejected 做 DPO 之后，答对的比例（左）与 KL（右）：差一点（$\pm10$）、别的提示的正确答案（$y(x')$）、格式错误（`27+E`）；方块是模仿，它只看 chosen，即 $y_w$。点线是基座。

# %%
assert near("source", "exact", "0.39", name="checker", method="dpo")
assert near("source", "kl", "5.23", name="checker", method="dpo")
assert near("negatives", "exact", "0.86", name="far", method="dpo")
assert near("negatives", "kl", "0.26", name="far", method="dpo")
assert near("negatives", "exact", "0.81", name="malformed", method="dpo")
assert near("negatives", "kl", "0.38", name="malformed", method="dpo")
assert near("source", "accuracy", "0.98", name="checker", method="dpo")
assert near("negatives", "accuracy", "0.99", name="far", method="dpo")
assert near("negatives", "accuracy", "1.00", name="malformed", method="dpo")
assert near("source", "exact", "0.88", name="on-policy", method="dpo")
assert near("source", "exact", "0.96", name="checker", method="sft")

# %% [markdown] lang="en"
# One would expect near misses to teach most. Measured, they end at 0.39, far below the base model's 0.75, at a KL of 5.23; far answers end at 0.86 (KL 0.26), malformed ones at 0.81 (KL 0.38). The training accuracy over the last 20 updates is 0.98, 0.99 and 1.00.
#
# All three look nearly perfect, so the accuracy does not tell them apart. The KL does. An easy pair can be won cheaply: a sum without its end, or a sum for another prompt, is improbable already, and a little more of that satisfies the loss. A near miss can be told apart by its value alone; to win it, probability has to be moved between well-formed sums that the base model often writes, and since the labels are deterministic nothing says when it is enough. Hard negatives carry the information *and* the danger. The same model's answers with soft labels gave 0.88, in the section above; and imitation, to which the rejected side is no matter, 0.96. So, in this setting, hard negatives want a judge who can say how sure he is, or an early stop.

# %% [markdown] lang="zh"
# 照理说，差一点的最该有收获。实测它停在 0.39，远低于基座的 0.75，KL 5.23；差很远的停在 0.86（KL 0.26），格式错误的停在 0.81（KL 0.38）。最后 20 步的训练准确率是 0.98、0.99、1.00。
#
# 三个都近乎完美，可见准确率分不出好坏。KL 分得出。简单负例赢得容易：缺了尾巴的算式、给别的提示的算式，本来就不大会写，再少写一点，损失就满意了。差一点的只能靠值来分；要赢，就得在基座常写的、格式正确的回答之间搬动概率，而标签是确定性的，没有什么告诉它够了。困难负例既带来信息，*也*带来危险。上一节里，同一个模型的回答配上软标签，得的是 0.88；而模仿根本不看 rejected，得的是 0.96。所以在这里，要用困难负例，裁判就得说得出有几分把握，否则就得早停。

# %% [markdown] lang="en"
# ## Noise
# Turn a share $\varepsilon$ of the labels round. If the better answer used to win with probability $q$, it now wins with
#
# $$q_\varepsilon=(1-\varepsilon)\,q+\varepsilon\,(1-q).$$
#
# The style reward knows only ties and differences of 1. Ties stay at one half, and for the rest $q_\varepsilon$ is again a probability of winning; so the noisy judge is again a Bradley–Terry judge, one with a smaller reward: $r_\varepsilon=\log\frac{q_\varepsilon}{1-q_\varepsilon}$. By hand, for $\varepsilon=0.2$: $q$ was 0.731, $q_\varepsilon=0.8\cdot0.731+0.2\cdot0.269=0.639$, and the reward shrinks from 1 to 0.569. The optimum is that of the smaller reward at the same $\beta$; the noise has shortened the leash. It does not point anywhere else: as long as $\varepsilon<\frac12$, the better answer stays the better one. (With differences of 1 and of 2 this holds only roughly: at $\varepsilon=0.2$ a difference of 2 shrinks to 0.987, which is less than twice 0.569.)
#
# The same formula turns one thing round. For a deterministic judge $q=1$, and $r_\varepsilon=\log\frac{1-\varepsilon}{\varepsilon}$, which is finite: noise *gives* it the leash that it lacked. Label smoothing does so on purpose. [Chapter 11](11_family.ipynb) has two losses for a known share of wrong labels: the conservative one, `cdpo`, smooths the labels and so shortens the leash further; `robust` undoes the flips on average.

# %% [markdown] lang="zh"
# ## 噪声
# 把占比 $\varepsilon$ 的标签翻过来。原先好的一方以概率 $q$ 胜出，现在变成
#
# $$q_\varepsilon=(1-\varepsilon)\,q+\varepsilon\,(1-q)$$
#
# 风格奖励只有平局和差 1 分两种情形。平局仍是一半对一半；其余的，$q_\varepsilon$ 仍是一个胜率。所以带噪声的裁判还是一个 Bradley–Terry 裁判，只是奖励小了：$r_\varepsilon=\log\frac{q_\varepsilon}{1-q_\varepsilon}$。手算 $\varepsilon=0.2$：$q$ 原是 0.731，$q_\varepsilon=0.8\cdot0.731+0.2\cdot0.269=0.639$，奖励从 1 缩到 0.569。最优解就是同一个 $\beta$ 下、奖励变小后的那个：噪声把绳子收短了。方向倒没变：只要 $\varepsilon<\frac12$，好的仍是好的。（若有差 1 分的，又有差 2 分的，这话就只是大致成立：$\varepsilon=0.2$ 时，差 2 分缩成 0.987，不到 0.569 的两倍。）
#
# 同一个公式还翻出另一层意思。裁判若是确定性的，$q=1$，$r_\varepsilon=\log\frac{1-\varepsilon}{\varepsilon}$，是有限的：它本来没有绳子，噪声反倒*给*了它一根。标签平滑（label smoothing）就是有意这么做。已知错标的比例时，[第 11 章](11_family.ipynb)有两种损失：保守的 `cdpo` 把标签平滑，绳子收得更短；稳健的 `robust` 平均而言抵消翻转的影响。

# %%
two = 0.8 / (1 + math.exp(-2)) + 0.2 / (1 + math.exp(2))  # a difference of 2, one label in five turned round
one = 0.8 * win + 0.2 * (1 - win)
print([round(math.log(q / (1 - q)), 3) for q in (one, two)])
assert [round(math.log(q / (1 - q)), 3) for q in (one, two)] == [0.569, 0.987]

# %% alt_en="Share of three-number answers against the share of flipped labels, 0 to 0.45. Two falling curves: DPO from 0.76 to 0.34, imitation from 0.40 to 0.31. Imitation's points at 0, 0.2 and 0.4 lie a little above their curve; those of DPO lie below theirs at 0 and 0.2 and on it at 0.4." alt_zh="写三个数的比例随翻转标签占比的变化，从 0 到 0.45。两条下降的曲线：DPO 从 0.76 降到 0.34，模仿从 0.40 降到 0.31。模仿在 0、0.2、0.4 的点比曲线略高；DPO 的点在 0 和 0.2 处低于曲线，在 0.4 处落在线上。"
def noisy_reward(epsilon):
    q = win + epsilon * (1 - 2 * win)
    return math.log(q / (1 - q))


def noisy_optimum(epsilon):
    return tabular.optimal_policy(tabular.Problem(styles.ref_logps, noisy_reward(epsilon) * styles.reward), 0.5)


grid = np.linspace(0, 0.45, 19)
fig, axes = figure(width=6.0, height=3.2)
for policy in (noisy_optimum, lambda epsilon: winners(noisy_reward(epsilon) * styles.reward)):
    axes.plot(grid, [predicted_shares(task, policy(epsilon))["style"] for epsilon in grid], color=COLORS["theory"])
for method, color, marker in (("dpo", "policy", "o"), ("sft", "baseline", "s")):
    noisy = [over_seeds("labels", "style", name="sampled", method=method)]
    noisy += [over_seeds("noise", "style", name=name, method=method) for name in ("0.2", "0.4")]
    points(axes, [0, 0.2, 0.4], noisy, color, marker=marker)
    print(method, *noisy)
    if method == "sft":
        ends = [predicted_shares(task, winners(noisy_reward(epsilon) * styles.reward))["style"] for epsilon in (0, 0.2, 0.4)]
        assert all(abs(estimate.value - end) < 0.04 for estimate, end in zip(noisy, ends))
axes.set(xlabel=r"$\varepsilon$", ylim=(0, 1))
assert near("noise", "style", "0.51", name="0.2", method="dpo") and near("noise", "style", "0.39", name="0.4", method="dpo")
assert [round(float(predicted_shares(task, noisy_optimum(e))["style"]), 2) for e in (0.2, 0.4)] == [0.57, 0.38]
assert round(noisy_reward(0.2), 3) == 0.569 and round(win + 0.2 * (1 - 2 * win), 3) == 0.639

# %% [markdown] lang="en"
# **Figure 10.3.** Style against the share of flipped labels: predictions (lines), DPO (dots) and imitation (squares), after 100 updates. The less there is to learn, the sooner it is learnt: without noise DPO is at 0.61 of 0.76, with 0.2 at 0.51 of 0.57, and with two labels in five turned round it has arrived: 0.39, and its end is 0.38.

# %% [markdown] lang="zh"
# **图 10.3** 风格随翻转标签占比的变化，更新 100 步：预言（线）、DPO（圆点）、模仿（方块）。要学的越少，学到得越早：没有噪声时 DPO 在 0.61，终点 0.76；0.2 时在 0.51，终点 0.57；五个标签翻了两个，反倒到站了：0.39，终点 0.38。

# %% [markdown] lang="en"
# One caution. This noise is fair: it turns every pair with the same probability. If a judge errs more often in one direction, that is not noise but another taste. The next section shows one, and nobody even erred.
#
# ## Length, which nobody asked for
# A judge cares for the right value and has no opinion on length. But between the judge and the file something happened: where the *shorter* answer won, three of four pairs were lost. Perhaps raters skipped them, perhaps a filter dropped what looked thin. Every label in the file is honest. What does the policy learn?
#
# Call the lengths 3 and 2 numbers, and let $\kappa=0.25$ be the share of shorter winners that is kept. Take one long and one short answer whose rewards differ by $g$ = long minus short. The long one wins with odds $e^{g}$, that is Bradley–Terry. Among the pairs that are left, the odds are those of before times $1/\kappa$, for only the short one's wins were thinned out. Take logarithms:
#
# $$\log\text{odds}=g+\log\frac1\kappa.$$
#
# Equal rewards are covered: there $g=0$, and a label that was a coin's now favours the long answer four to one. Pairs of equal length were not thinned, and their odds stay. So all pairs together come from a Bradley–Terry judge whose reward has a second term, $\log\frac1\kappa=\log4=1.386$ points for length. A selection that never touched a label is, to the loss, the same thing as a judge who likes long answers. DPO divides that by $\beta=0.5$ like any reward. The prediction for style, which is our length: from 0.30 to 0.87. Imitation sees only that winners are somewhat longer: 0.36.
#
# The cure works on the same place. **Balance** the file: drop pairs in which the longer one won, at random, until longer and shorter winners are equally many. Here, where length has nothing to do with being right, the extra log odds are then zero again. Where longer answers really are better on average, balancing takes that away too.
#
# For imitation the cure is not neutral. Pairs of one long and one short answer are now a quarter of what they were, in both directions; pairs of equal length are all still there, and most of them are short. By hand, with 0.3: $\frac{0.09+\frac12\cdot0.105}{0.09+0.49+0.105}=0.208$. DPO's minimiser does not mind how often a pair is drawn; the winners' distribution does.

# %% [markdown] lang="zh"
# 有一点要当心。这种噪声是公平的：每一对翻转的概率一样。若裁判老往一个方向错，那就不是噪声，而是另一种口味。下一节就有一种，而且谁也没犯错。
#
# ## 谁也没要的长度
# 裁判只看值对不对，对长短没有意见。可是从裁判到文件，中间出了点事：凡是*短*的一方赢了的，四对丢了三对。也许标注员跳过了，也许过滤规则嫌它单薄。文件里的标签每一个都诚实。策略会学到什么？
#
# 长度就分 3 个数和 2 个数，设 $\kappa=0.25$ 是短的一方获胜的对留下的比例。取一长一短两个回答，奖励差 $g$ 是长的减短的。按 Bradley–Terry，长的一方的胜负比（odds）是 $e^{g}$。留下的对里，只有短的一方的胜场变稀了，所以胜负比是原来的 $1/\kappa$ 倍。取对数：
#
# $$\log\text{odds}=g+\log\frac1\kappa$$
#
# 奖励相等的也在内：$g=0$，本来抛硬币的标签，现在四比一偏向长的。一样长的没有筛过，胜负比照旧。所以合起来看，这正是一个 Bradley–Terry 裁判，只是奖励多了一项：长的加 $\log\frac1\kappa=\log4=1.386$ 分。一次挑选，没动过一个标签，在损失看来，却与一个偏爱长回答的裁判毫无分别。DPO 照样拿它除以 $\beta=0.5$。风格在这里就是长度，预言是从 0.30 涨到 0.87。模仿只看到赢家略长一些：0.36。
#
# 补救也从这里下手。给文件做**平衡**：长的一方获胜的对，随机丢掉一些，直到两边赢得一样多。这里长短与对错无关，多出来的那一项就又是零了。若长回答真的平均更好，这点好处也会一并抹掉。
#
# 对模仿来说，这个补救并非没有代价。一长一短的对，两个方向都只剩四分之一；一样长的都还在，而且多半是短的。拿 0.3 手算：$\frac{0.09+\frac12\cdot0.105}{0.09+0.49+0.105}=0.208$。一种对抽到多少次，DPO 的最小点不在乎，赢家的分布在乎。

# %% alt_en="Share of three-number answers for three files: all pairs, skewed, balanced. DPO is at 0.37 with all pairs, at 0.64 with the skewed file, below its dash at 0.87, and back at 0.37 with the balanced one. Imitation is at 0.32, 0.36 and 0.24. In a second panel, the share of right answers, everything lies between 0.82 and 0.89." alt_zh="三份文件下写三个数的比例：全部、挑过的、平衡的。DPO 用全部的对时在 0.37，用挑过的升到 0.64，低于 0.87 处的短横，用平衡的回到 0.37。模仿依次是 0.32、0.36、0.24。另一幅是值对的比例，都在 0.82 与 0.89 之间。"
exacts, kappa = class_problem(task, "exact"), stored["settings"]["keep_shorter"]
longer = tabular.Problem(exacts.ref_logps, exacts.reward + math.log(1 / kappa) * styles.reward)
shorter_wins = torch.where(styles.reward[0][:, None] < styles.reward[0], kappa, 1.0).double()
fair = predicted_optimum(task, "exact", 0.5), predicted_shares(task, winners(exacts.reward))
skewed = predicted_shares(task, tabular.optimal_policy(longer, 0.5)), predicted_shares(task, winners(exacts.reward, keep=shorter_wins))
both_thinned = torch.where(styles.reward[0][:, None] != styles.reward[0], kappa, 1.0).double()
balanced_file = fair[0], predicted_shares(task, winners(exacts.reward, keep=both_thinned))
fig, panels = figure(2, width=7.4, height=3.0)
for x, (name, theory) in enumerate((("all", fair), ("skewed", skewed), ("balanced", balanced_file))):
    for method, color, marker, value, dx in (("dpo", "policy", "o", theory[0], -0.12), ("sft", "baseline", "s", theory[1], 0.12)):
        for panel, metric in zip(panels, ("style", "exact")):
            panel.plot([x + dx - 0.1, x + dx + 0.1], [value[metric]] * 2, color=COLORS["theory"])
            points(panel, [x + dx], [over_seeds("length", metric, name=name, method=method)], color, marker=marker)
            panel.set(title=metric, ylim=(0, 1.05), xlim=(-0.5, 2.5))
            panel.set_xticks(range(3), [r"$\kappa=1$", r"$\kappa=\frac{1}{4}$", "$=$"])
        print(name, method, *(f"{m} {over_seeds('length', m, name=name, method=method)}" for m in ("style", "exact", "tokens")))
assert (round(float(skewed[0]["style"]), 2), round(float(skewed[1]["style"]), 2)) == (0.87, 0.36) and round(math.log(4), 3) == 1.386
assert round(float(balanced_file[1]["style"]), 3) == 0.208 == round((0.09 + 0.0525) / (0.09 + 0.49 + 0.105), 3)

# %% [markdown] lang="en"
# **Figure 10.4.** Three-number answers (left) and right answers (right) from all pairs, from the skewed file, and from the balanced one: DPO (dots), imitation (squares), predictions (dashes), after 100 updates.

# %% [markdown] lang="zh"
# **图 10.4** 用全部的对、挑过的文件、平衡的文件，写三个数的比例（左）与值对的比例（右）：DPO（圆点）、模仿（方块）、预言（短横），更新 100 步。

# %%
assert near("length", "style", "0.64", name="skewed", method="dpo")
assert near("length", "style", "0.37", name="all", method="dpo")
assert near("length", "style", "0.37", name="balanced", method="dpo")
assert near("length", "style", "0.36", name="skewed", method="sft")
assert near("length", "style", "0.32", name="all", method="sft")
assert near("length", "style", "0.24", name="balanced", method="sft")
assert near("length", "tokens", "6.93", name="skewed", method="dpo")
assert near("length", "tokens", "6.37", name="balanced", method="dpo")

# %% [markdown] lang="en"
# The skewed file takes DPO's style to 0.64 in 100 updates, on its way to 0.87; an answer now has 6.93 tokens. All pairs and the balanced file both leave it at 0.37 (6.37 tokens with the balanced one), so the cure works. It is not 0.30, though: even a fair file lets style drift a little. Imitation stands at 0.36 with the skewed file and falls to 0.24 with the balanced one, from 0.32. The check costs one line and needs no model: count how often the longer answer won. The logarithm of those odds is the reward that the file gives to length on average (exercise 10.3); whether the judge meant it, you have to ask.

# %% [markdown] lang="zh"
# 更新 100 步，挑过的文件把 DPO 的风格带到 0.64，正往 0.87 去；按词元算，一个回答 6.93 个。用全部的对、用平衡的文件，都是 0.37（平衡的是 6.37 个词元），可见补救有效。不过也不是 0.30：就算文件公平，风格也会漂一点。模仿用挑过的是 0.36，用平衡的降到 0.24，原先是 0.32。要查只需一行，连模型都用不着：数一数长的一方赢了多少次。胜负比取对数，就是这份文件平均给长度的奖励（练习 10.3）；这是不是裁判的本意，还得去问。

# %% [markdown] lang="en"
# ## How many pairs, how many times
# With reward for both, sampled labels and $\beta=0.25$, three sizes of file get the same 100 updates: 6,400 pairs once, 1,600 four times, 400 sixteen times. Beside them the small files seen only once, with 25 and 6 updates.

# %% [markdown] lang="zh"
# ## 多少对，过几遍
# 两样都给奖励，采样标签，$\beta=0.25$。三种大小的文件，都更新 100 步：6,400 对过一遍，1,600 对过四遍，400 对过十六遍。旁边再放两份小文件只过一遍的：25 步和 6 步。

# %%
for name, method in (("6400", "dpo"), ("1600", "dpo"), ("400", "dpo"), ("1600 once", "dpo"), ("400 once", "dpo"),
                     ("6400", "sft"), ("1600", "sft"), ("400", "sft")):  # fmt: skip
    row = [f"{m} {over_seeds('amount', m, name=name, method=method)}" for m in ("style", "exact", "both", "kl")]
    print(f"{name:9} {method} ", *row, *([f"accuracy {over_seeds('amount', 'accuracy', name=name, method=method)}"] if method == "dpo" else []))
assert near("amount", "accuracy", "0.62", name="6400", method="dpo")
assert near("amount", "accuracy", "0.69", name="1600", method="dpo")
assert near("amount", "accuracy", "0.79", name="400", method="dpo")
assert near("amount", "exact", "0.77", name="6400", method="dpo")
assert near("amount", "exact", "0.81", name="1600", method="dpo")
assert near("amount", "exact", "0.73", name="400", method="dpo")
assert near("amount", "style", "0.65", name="6400", method="dpo")
assert near("amount", "style", "0.68", name="1600", method="dpo")
assert near("amount", "style", "0.66", name="400", method="dpo")
assert near("amount", "kl", "1.65", name="6400", method="dpo")
assert near("amount", "kl", "1.54", name="1600", method="dpo")
assert near("amount", "kl", "2.35", name="400", method="dpo")
assert near("amount", "exact", "0.82", name="1600 once", method="dpo")
assert near("amount", "kl", "0.12", name="1600 once", method="dpo")
assert near("amount", "style", "0.41", name="1600 once", method="dpo")
assert near("amount", "exact", "0.82", name="6400", method="sft")
assert near("amount", "exact", "0.83", name="1600", method="sft")
assert near("amount", "exact", "0.83", name="400", method="sft")
assert near("amount", "style", "0.41", name="6400", method="sft")
assert near("amount", "kl", "0.06", name="6400", method="sft") and near("amount", "kl", "0.24", name="400", method="sft")
assert over_seeds("amount", "kl", name="400 once", method="dpo").high < 0.01

# %% [markdown] lang="en"
# As many updates, fewer pairs: the training accuracy rises, 0.62, 0.69, 0.79. Sampled labels that come back sixteen times are learnt by heart, the unlucky ones too. The answers do not follow. Right values are 0.77, 0.81 and 0.73 of them, three numbers 0.65, 0.68 and 0.66, at a KL of 1.65, 1.54 and 2.35. Four times 1,600 is no worse than once 6,400; sixteen times 400 is, with more KL for fewer right answers.
#
# What matters more here is the number of updates. The 1,600 pairs seen once, 25 updates, give 0.82 right at a KL of 0.12, with 0.41 in style; the 400 pairs seen once hardly move. The 75 updates more buy style and sell exactness, from 1,600 pairs as from 6,400: the base model's rare mistakes hardly occur in either, and the leak of chapter 9 opens. Imitation keeps its exactness under repetition, 0.82, 0.83, 0.83, though its KL rises from 0.06 to 0.24; it gets little style, 0.41 at best. So do not let the training accuracy set the number of epochs (passes through the file). Sample during training, and stop when what you cared for before begins to fall.

# %% [markdown] lang="zh"
# 步数相同，偏好对越少，训练准确率越高：0.62、0.69、0.79。采样标签来上十六遍，就背下来了，运气不好标反的也背。写出的回答却没有跟着变好。值对的占 0.77、0.81、0.73，写三个数的占 0.65、0.68、0.66，KL 是 1.65、1.54、2.35。1,600 对过四遍，不比 6,400 对过一遍差；400 对过十六遍就差了，KL 花得多，对的反而少。
#
# 这里更要紧的是步数。1,600 对只过一遍，25 步，答对 0.82，KL 0.12，风格 0.41；400 对只过一遍，几乎没动。再走 75 步，是拿正确去换风格，1,600 对如此，6,400 对也如此：基座那些罕见的错，两份文件里都几乎没有，第 9 章的漏洞又开了。模仿重复多遍，正确率不降，0.82、0.83、0.83，只是 KL 从 0.06 升到 0.24；风格学得少，最多 0.41。所以，过几遍不要照训练准确率来定。边训练边采样，你本来就在意的东西一开始下降，就停。

# %% [markdown] lang="en"
# ## Again and again
# After a training one can draw fresh pairs from the new policy and train again. What it adds up to depends on one choice: whose log-probabilities stand in the loss?
#
# If the **reference moves** with the policy, each round tilts the last round's result once more by $e^{r/\beta}$. After $k$ rounds the factor is $e^{kr/\beta}$: the optimum of a leash $k$ times weaker. If the **reference stays** the first model, fresh pairs change who is compared and not where the minimum is. One may iterate for ever and stays at $\beta$. **Imitation**, repeated, squeezes a little more out of each round; it ends only when nothing is left but the best answers that the base model can write. We reward style with $\beta=1$ and do 60 updates a round, on fresh pairs: soft labels for DPO, sampled ones for imitation. The predictions for three rounds are 0.54, 0.76, 0.90 with a moving reference; 0.54 in each round with a fixed one; 0.40, 0.51, 0.62 by imitation of sampled winners.

# %% [markdown] lang="zh"
# ## 一轮又一轮
# 训练完一次，可以让新策略再写一批对，接着训练。这样下去会怎样，取决于一个选择：损失里用谁的对数概率作参考？
#
# **参考跟着走**：每一轮都在上一轮的结果上再乘一次 $e^{r/\beta}$。$k$ 轮之后是 $e^{kr/\beta}$ 倍，等于绳子松到 $k$ 倍时的最优解。**参考不动**，始终是最初的模型：新的对改变的是拿谁来比，最小点在哪里不变。迭代多少轮都停在 $\beta$ 那里。**模仿**一轮轮做下去，每轮再挤出一点，直到只剩基座写得出的最好的回答。这里奖励风格，$\beta=1$，每轮用新的对更新 60 步：DPO 用软标签，模仿用采样标签。三轮的预言是：参考跟着走，0.54、0.76、0.90；参考不动，每轮都是 0.54；模仿采样出的赢家，0.40、0.51、0.62。

# %% alt_en="Share of three-number answers after 0 to 3 rounds. Three predicted lines from 0.3: the moving reference rises to 0.90, imitation to 0.62, the fixed reference rises to 0.54 in the first round and stays. Points with bars lie near the lines." alt_zh="0 到 3 轮之后写三个数的比例。三条预言线都从 0.3 出发：参考跟着走的升到 0.90，模仿升到 0.62，参考不动的第一轮升到 0.54，此后不变。带竖线的点靠近各自的线。"
rounds = [styles.ref_logps]
for _ in range(3):
    pairs_of_round = tabular.independent_pairs(rounds[-1], rounds[-1])
    rounds.append(imitation(tabular.comparisons(styles.reward, pairs_of_round)))
lines = {"moved": [predicted_optimum(task, "style", 1 / k)["style"] for k in (1, 2, 3)],
         "fixed": [predicted_optimum(task, "style", 1.0)["style"]] * 3,
         "imitation": [float(predicted_shares(task, policy)["style"]) for policy in rounds[1:]]}  # fmt: skip
fig, axes = figure(width=6.0, height=3.2)
for (name, line), color, marker in zip(lines.items(), ("policy", "chosen", "baseline"), ("o", "^", "s")):
    axes.plot(range(4), [0.3, *line], color=COLORS["theory"], linewidth=1.2)
    reached = [over_seeds("iterate", "style", name=name, round=k) for k in (1, 2, 3)]
    points(axes, [1, 2, 3], reached, color, marker=marker)
    print(name, [round(value, 2) for value in line], *reached, "exact", over_seeds("iterate", "exact", name=name, round=3))
    assert all(abs(estimate.value - value) < 0.03 for estimate, value in zip(reached, line))
axes.set(xlabel="$k$", ylim=(0, 1), xticks=range(4))
assert all(near("iterate", "exact", value, name=name, round=3) for name, value in zip(lines, ("0.70", "0.75", "0.74")))
assert [[round(value, 2) for value in line] for line in lines.values()] == [[0.54, 0.76, 0.9], [0.54] * 3, [0.4, 0.51, 0.62]]

# %% [markdown] lang="en"
# **Figure 10.5.** Style after $k$ rounds: predictions (lines), DPO with a moving reference (dots) and with a fixed one (triangles), imitation (squares). All nine points lie within 0.03 of their lines. The moving reference has a price: after three rounds it is right in 0.70, the fixed one in 0.75, imitation in 0.74.

# %% [markdown] lang="zh"
# **图 10.5** $k$ 轮之后的风格：预言（线），参考跟着走的 DPO（圆点），参考不动的 DPO（三角），模仿（方块）。九个点离各自的线都不到 0.03。参考跟着走也有代价：三轮之后答对 0.70，参考不动的 0.75，模仿 0.74。

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
numbers = [judge(p, a).numbers for p, a in zip(own.prompt * 2, own.chosen + own.rejected)]
print({count: numbers.count(count) for count in sorted(set(numbers))})
assert numbers.count(4) == 0 and len(numbers) == 4_000
assert evaluate(base, task, n=500, seed=8, temperature=0)["exact"].value > 0.98  # greedy: it has the rule
verdicts = [(judge(p, c), judge(p, r)) for p, c, r in zip(own.prompt, own.chosen, own.rejected)]
off = [abs(c.value - r.value) for c, r in verdicts if c.exact and not r.exact and r.value is not None]
assert np.mean([gap == 10 for gap in off]) > 0.95  # near misses are off by ten

# %% [markdown] lang="en"
# **The second is a slope.** Take a skill that the base model has by halves. We give chapter 3's training 500 steps in place of 9,000, and authors who never slip, so that every wrong answer is inability and none is habit. What this early model writes by greedy decoding is right in 0.73 of the prompts, a sampled one in 0.27. Now five rounds: 4,096 prompts, two answers each, the checker ranks, 30 updates of 64 pairs, and again. Four ways:
#
# - **dpo**: DPO at $\beta=0.1$ and the learning rate of all this chapter's runs, 2e-3, reference moved each round;
# - **gentle**: $\beta=1$ and 4e-4, chosen after trying three settings on another early model;
# - **sft**: imitation of the chosen answers of such pairs, which the checker called right;
# - **demonstrations**: as many updates on fresh texts of the authors, the plain continuation of chapter 3.
#
# Beside the model's shares we record an accuracy on comparisons that no training has seen. Their prompts are 2,000, the answers the early model's, and only pairs of one right and one wrong answer count: how often the implicit reward, measured from the early model, ranks the right answer above the wrong one.

# %% [markdown] lang="zh"
# **第二堵是道坡。** 找一件基座只会一半的事。第 3 章的训练要 9,000 步，这里只给 500 步，作者换成从不失误的；这样，错的都是不会，没有一个是习惯。这个早期模型，贪心解码（greedy decoding）对 0.73，采样的回答对 0.27。然后做五轮：4,096 个提示，各答两次，判分程序排序，更新 30 步、每步 64 对，再来。四种做法：
#
# - **dpo**：DPO，$\beta=0.1$，学习率与本章别处一样是 2e-3，参考每轮跟着走；
# - **gentle**：$\beta=1$，学习率 4e-4，在另一个早期模型上试过三种设置选的；
# - **sft**：同样配对，只照着 chosen 学，即判分程序说对的回答；
# - **demonstrations**：同样的步数，用作者们新写的文本，就是第 3 章的训练接着做。
#
# 除了各种比例，还记一个准确率。2,000 个提示，早期模型各答两次，都没参加过训练，只取一对一错的；以早期模型为参考算隐式奖励（implicit reward），看它有多少次把对的排在错的前面。

# %% alt_en="Two panels over rounds 0 to 5: share of right greedy answers, and share of right sampled answers. DPO at beta 0.1 falls steeply in round one and stays down. In greedy decoding the other three fall too, to between 0.5 and 0.65. In sampling, imitation rises to 0.40, gentle DPO a little, and demonstrations stay near the start." alt_zh="两幅小图，横轴是第 0 到 5 轮：贪心回答答对的比例，采样回答答对的比例。beta 为 0.1 的 DPO 第一轮就猛跌，此后一直很低。贪心那幅里，另外三条也降到 0.5 与 0.65 之间。采样那幅里，模仿升到 0.40，温和的 DPO 略升，示范停在起点附近。"
fig, panels = figure(2, width=7.4, height=3.2)
for name, color, marker in (("dpo", "rejected", "o"), ("gentle", "policy", "^"), ("sft", "baseline", "s"), ("demonstrations", "ref", "D")):
    for panel, metric in zip(panels, ("greedy", "exact")):
        places = np.arange(6) + {"gentle": -0.08, "sft": 0.08}.get(name, 0)  # side by side, not on top of each other
        reached = [over_seeds("reach", metric, name=name if k else "start", round=k) for k in range(6)]
        panel.plot(places, [estimate.value for estimate in reached], color=COLORS[color], linewidth=1)
        points(panel, places, reached, color, marker=marker)
        panel.set(title=metric, xlabel="$k$", ylim=(0, 1))
    for k in (1, 5):
        row = [f"{m} {over_seeds('reach', m, name=name, round=k)}" for m in ("greedy", "exact", "kl", "held_out", "accuracy")[: 5 if name in ("dpo", "gentle") else 4]]
        print(f"{name:14} {k} ", *row)
print("start", *(over_seeds("reach", m, name="start", round=0) for m in ("greedy", "exact", "held_out")))

# %% [markdown] lang="en"
# **Figure 10.6.** An early model's right answers, greedy (left) and sampled (right), after $k$ rounds. Orange dots: DPO at $\beta=0.1$. Blue triangles: gentle DPO. Yellow squares: imitation of the answers that the checker passed. Grey diamonds: demonstrations.

# %% [markdown] lang="zh"
# **图 10.6** 早期模型 $k$ 轮之后答对的比例，左为贪心，右为采样。橙色圆点：$\beta=0.1$ 的 DPO。蓝色三角：温和的 DPO。黄色方块：照着判分程序认可的回答学。灰色菱形：示范。

# %%
assert near("reach", "greedy", "0.73", name="start", round=0)
assert near("reach", "exact", "0.27", name="start", round=0)
assert near("reach", "greedy", "0.54", name="gentle", round=5)
assert near("reach", "greedy", "0.62", name="sft", round=5)
assert near("reach", "greedy", "0.15", name="dpo", round=5)
assert near("reach", "greedy", "0.51", name="demonstrations", round=5)
assert near("reach", "exact", "0.40", name="sft", round=5)
assert near("reach", "exact", "0.32", name="gentle", round=5)
assert near("reach", "exact", "0.11", name="dpo", round=5)
assert near("reach", "exact", "0.17", name="dpo", round=1)
assert near("reach", "accuracy", "0.58", name="dpo", round=1)
assert near("reach", "accuracy", "0.80", name="dpo", round=5)
assert near("reach", "held_out", "0.55", name="dpo", round=1)
assert near("reach", "held_out", "0.48", name="dpo", round=5)
assert near("reach", "accuracy", "0.64", name="gentle", round=5)
assert near("reach", "held_out", "0.65", name="gentle", round=5)
assert near("reach", "exact", "0.26", name="demonstrations", round=5)
early = json.loads(Path("data/more_demonstrations.json").read_text(encoding="utf-8"))["runs"]
assert [f"{sum(run[name]['value'] for run in early) / 3:.2f}" for name in ("greedy", "exact")] == ["0.98", "0.54"]
assert all(over_seeds("reach", "greedy", name=name, round=5).value < over_seeds("reach", "greedy", name="start", round=0).value
           for name in ("dpo", "gentle", "sft", "demonstrations"))

# %% [markdown] lang="en"
# Look at the left panel first. No way through pairs ends above its start, 0.73: gentle DPO is at 0.54, imitation at 0.62, DPO at $\beta=0.1$ at 0.15. But demonstrations in rounds fall as well, to 0.51. Rounds of 30 updates, with a learning rate that starts anew in each, seem to shake loose what the first training's long decay had settled, and part of every fall on the left will be that price. What demonstrations do in one piece is recorded too: 900 updates of the first training in place of 500, for about the machine time of five rounds, give 0.98 greedy and 0.54 sampled.
#
# The right panel tells what pairs can do. Sampled answers get better with imitation, from 0.27 to 0.40, and a little with gentle DPO, 0.32; with demonstrations in rounds they do not, 0.26. The right answers among the draws become more frequent: the distribution **sharpens** towards what it could already write. DPO at $\beta=0.1$ ruins it, 0.11, after a single round 0.17. And the preference accuracy, which such a training shows its owner? It rises, from 0.58 in the first round to 0.80 in the fifth. On comparisons that no training has seen it goes from 0.55 to 0.48, no better than a coin. The gentle run ends at 0.64, lower, and has 0.65 on the unseen ones. So the number on the screen says how well the pairs of the round are fitted; whether the model has got better, it does not say.
#
# **Why?** A pair moves probability between two answers that were drawn. It can say "rather this one" of answers that are there; it cannot say what the sum of two numbers is. For a prompt whose draws are all wrong it has no label at all; for the others it names one right string out of many, and the network is left to find the rule. Where the base model already has the rule and only follows a bad habit, as in the sections above, that is enough: its greedy answers are nearly all right, and selection brings the others there. Where the rule is missing, demonstrations are the surer way, given enough updates: there every text is right, for every prompt.

# %% [markdown] lang="zh"
# 先看左图。靠偏好对的几条路，没有一条的终点高过起点 0.73：温和的 DPO 在 0.54，模仿在 0.62，$\beta=0.1$ 的 DPO 在 0.15。可是分轮给示范，也降了，到 0.51。每轮 30 步，学习率每轮都从头来，看来是把第一次训练靠慢慢降学习率才稳住的东西又晃松了；左图的每条下降，大概都有一部分是这笔代价。示范不分轮、一口气给完，结果也记录了：第一次训练由 500 步改为 900 步，多用的机时约等于五轮，贪心对 0.98，采样对 0.54。
#
# 右图说的是偏好对能做什么。采样的回答，照着合格的学会变好，从 0.27 到 0.40；温和的 DPO 也好一点，0.32；分轮给示范则没有，0.26。抽到的对答变多了：分布向它本来就写得出的东西**变尖**。$\beta=0.1$ 的 DPO 把它毁了，0.11，头一轮就只剩 0.17。训练者看得到的偏好准确率呢？它在升，从第一轮的 0.58 到第五轮的 0.80。在从没训练过的比较上，却是从 0.55 到 0.48，还不如抛硬币。温和的那次停在 0.64，数更低，没见过的比较上却有 0.65。可见屏幕上的那个数，只说明这一轮的对拟合得多好；模型有没有变好，它不说。
#
# **为什么？** 一对回答，只在抽到的两个之间搬动概率。已有的回答里，它能说「宁可要这个」；两个数相加得几，它说不出来。抽到的全是错的，这个提示就没有标签；抽到对的，它指出的也只是许多对答中的一串字符，规则要网络自己去猜。基座若已有规则，只是习惯不好，像前几节那样，这就够了：它的贪心回答几乎全对，挑一挑，别的也就跟过来。规则若没有，还是靠示范稳当，只要步数给够：示范里每个提示、每个文本都是对的。

# %% [markdown] lang="en"
# ## A small run, live
# Here is the first experiment again, reduced: the shipped base model, 4,800 comparisons for style, a deterministic judge, ties dropped, 100 updates. Imitation and DPO from the same pairs:

# %% [markdown] lang="zh"
# ## 现场跑一次
# 把第一个实验缩小，当场再做一遍：随书的基座，4,800 次风格比较，确定性裁判，丢掉平局，更新 100 步。同一批对，一次模仿，一次 DPO：

# %% tags=["nbval-ignore-output"]
certain = on_policy_pairs(base, task, 4_800, reward="style", labels="deterministic", seed=0)
pairs_at = certain.batches(64, seed=0)


def chosen_at(step):
    batch = pairs_at(step)
    return {"input_ids": batch["chosen_ids"], "completion_mask": batch["chosen_mask"]}


live = {}
for name, batch_at, step in (("sft", chosen_at, sft_step), ("dpo", pairs_at, dpo_step(0.5))):
    policy = copy.deepcopy(base)
    train(policy, batch_at, step, LoopConfig(steps=100, learning_rate=2e-3, optimizer="muon"), progress=False)
    live[name] = evaluate(policy, task, n=2_000, seed=8, reference=base)
    print(name, *(f"{metric} {live[name][metric]}" for metric in ("style", "exact", "kl")))
assert live["sft"]["style"].value > 0.7 and live["dpo"]["style"].value > 0.85
assert live["sft"]["kl"].value < live["dpo"]["kl"].value

# %% [markdown] lang="en"
# ## From the command line
# `dpo-core make-pairs` makes such files: JSON lines with the columns `prompt`, `chosen`, `rejected`, which TRL reads, and three of ours that it ignores. A file that exists is never replaced. `dpo-core train-dpo` takes any file with these three columns, ours or somebody else's, and computes the reference log-probabilities where they are missing.
#
# ```text
# dpo-core make-pairs --source population --labels sampled --noise 0.1 --output people.jsonl
# dpo-core make-pairs --source checker --model gen --output checked.jsonl
# dpo-core train-dpo --model gen --pairs-file checked.jsonl --steps 100
# ```

# %% [markdown] lang="zh"
# ## 命令行
# 这样的文件，用 `dpo-core make-pairs` 来做：每行一个 JSON，列名 `prompt`、`chosen`、`rejected`，TRL 能读；另有我们的三列，TRL 不看。已经有的文件，它绝不覆盖。`dpo-core train-dpo` 接受任何有这三列的文件，自己做的、别人给的都行；缺了参考对数概率，它会现算。
#
# ```text
# dpo-core make-pairs --source population --labels sampled --noise 0.1 --output people.jsonl
# dpo-core make-pairs --source checker --model gen --output checked.jsonl
# dpo-core train-dpo --model gen --pairs-file checked.jsonl --steps 100
# ```

# %%
with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()):
    for command in ("make-pairs --source checker --model gen --pairs 400 --output checked.jsonl",
                    "train-dpo --model gen --pairs-file checked.jsonl --steps 2 --output dpo.model"):  # fmt: skip
        assert main([*command.split(), "--device", "cpu"]) == 0
    checked = read_pairs(Path("checked.jsonl"))
    columns = list(json.loads(Path("checked.jsonl").read_text().splitlines()[0]))
print(columns, len(checked) < 400)
assert columns[:3] == ["prompt", "chosen", "rejected"] and 100 < len(checked) < 400
assert all(judge(p, c).exact and not judge(p, r).exact for p, c, r in zip(checked.prompt, checked.chosen, checked.rejected))

# %% [markdown] lang="en"
# ## Questions to ask of a data set
# | ask | why | what to do |
# |---|---|---|
# | Who wrote the answers? | What your policy writes and no pair shows is held by nothing | draw from your own model, some of it hot |
# | Does the judge doubt? | Sampled labels have a leash, deterministic ones none | count how often two raters agree; stop early; smooth; imitate |
# | What became of ties? | With them imitation ends at 0.51, without them at 1 | find out; keep them if labels are soft |
# | How do chosen and rejected differ, besides quality? | Any imbalance acts as a reward | log of longer wins over shorter wins; balance it if it is not meant |
# | How hard are the rejected ones? | Easy pairs are won cheaply, hard ones move much | look at twenty; hard ones want soft labels or an early stop |
# | How many labels are wrong, and are they wrong fairly? | Fair noise shortens the leash, unfair noise is a taste | relabel a hundred |
# | How many pairs, how many updates? | Hard labels seen often are learnt by heart; late updates leak | watch fresh answers, not training accuracy |
# | Can the base model do it at all? | What it never writes, no pair contains | sample before training; if it cannot, demonstrate |
# | Does imitation of the winners reach it? | Then the rejected side is not needed | always run it |

# %% [markdown] lang="zh"
# ## 拿到一份数据，先问什么
# | 要问的 | 为什么 | 怎么办 |
# |---|---|---|
# | 回答是谁写的？ | 策略会写、却没有一对覆盖到的，什么都管不住 | 从自己的模型采样，掺一些高温的 |
# | 裁判会犹豫吗？ | 采样标签有绳子，确定性标签没有 | 数一数两个人评得一样的有多少；早停；平滑；或者模仿 |
# | 平局去哪了？ | 留着，模仿的终点是 0.51；丢掉，是 1 | 问清楚；软标签就留着 |
# | 除了好坏，chosen 和 rejected 还差在哪？ | 任何不平衡都等于一份奖励 | 长的赢比短的赢，取对数；若非本意，就平衡 |
# | 负例难不难？ | 简单的赢得容易，困难的要搬动许多概率 | 看二十对；困难的要配软标签，或者早停 |
# | 错标有多少？错得公平吗？ | 公平的噪声收短绳子，不公平的就是口味 | 重标一百对 |
# | 多少对，多少步？ | 硬标签看多了会背下来；步数多了会漏 | 盯新采的回答，别盯训练准确率 |
# | 基座到底会不会？ | 它从不写的，哪一对里都没有 | 训练前先采样；不会，就给示范 |
# | 光模仿赢家到得了吗？ | 到得了，就用不着 rejected | 每次都跑一遍 |

# %% [markdown] lang="en"
# > **What the toy hides.** Here a program judges and the population's rates are known. With people the noise is neither known nor fair, and answers differ in a hundred ways at once, of which length is the one that is easiest to measure: [Singhal et al. 2023](https://arxiv.org/abs/2310.03716) find in three settings that the reward RLHF gains is largely driven by longer answers, and trace this to reward models that are easily influenced by length biases in the preference data. [Tang et al. 2024](https://arxiv.org/abs/2405.08448) compare online and offline methods in the regime of over-optimisation, find the online ones ahead, and find that coverage and quality of the offline data do not by themselves explain the gap. [Tajwar et al. 2024](https://arxiv.org/abs/2404.14367) find that on-policy samples and a "negative gradient" beat offline and maximum-likelihood training in general; in our runs without ties the negative gradient was the faster, too, and cost right answers. [Xu et al. 2024](https://arxiv.org/abs/2404.10719) argue that DPO may have fundamental limitations, among them solutions that favour answers outside the data's distribution. All runs here are one small network, three seeds, mostly 100 updates and one learning rate; the closed forms carry over, the measured numbers do not. And our pairs cost next to nothing; people's cost money, which makes "draw from your own model again" the dearest line of the table.

# %% [markdown] lang="zh"
# > **玩具没告诉你的。** 这里由程序来评，群体的比例都是已知的。换成人，噪声有多少、公不公平都不知道；回答之间同时有上百种差别，长度只是最好量的一种：[Singhal et al. 2023](https://arxiv.org/abs/2310.03716) 发现，在三种场景里，RLHF 涨的奖励主要来自回答变长，根子在奖励模型：它很容易受偏好数据里长度偏差的影响。[Tang et al. 2024](https://arxiv.org/abs/2405.08448) 在过度优化的情形下比较在线与离线方法，在线的占优；而离线数据的覆盖面与质量，单凭它们解释不了这个差距。[Tajwar et al. 2024](https://arxiv.org/abs/2404.14367) 发现，一般而言，同策略采样和「负梯度」胜过离线方法和最大似然；我们丢掉平局的那次，带负梯度的 DPO 也更快，只是赔了正确的回答。[Xu et al. 2024](https://arxiv.org/abs/2404.10719) 认为 DPO 可能有根本的局限，比如它的解可能偏向数据分布之外的回答。这里只有一个小网络、三个种子，多半更新 100 步，一个学习率；闭式解换个地方照样成立，实测的数就未必了。再说，我们的偏好对几乎不花钱，人评的要花钱，所以「再从自己的模型采一批」是表里最贵的一行。

# %% [markdown] lang="en"
# > **To remember.** A pair compares what was drawn, under the label that was kept. Work out beforehand what the winners' distribution is and which reward the labels amount to. What no pair shows, DPO does not see. And run imitation of the chosen answers beside it, every time.

# %% [markdown] lang="zh"
# > **记住。** 一对回答，比的是抽到的东西，凭的是留下来的标签。赢家的分布是什么，这些标签合起来相当于什么奖励，训练前先算出来。没有一对覆盖到的，DPO 看不见。还有，每次都在旁边跑一遍「照着 chosen 学」。

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
# 对某个提示，基座有 20% 的回答写三个数。Bradley–Terry 裁判给它们 2 分，给别的 0 分。标签是采样的。chosen 写三个数的对占多少？
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
# ### Exercise 10.3 · Measure the length in a file
# ★★☆ · 10 minutes
#
# Write `length_reward(data)`: from `Pairs` with hard labels, the reward that a file gives to length, as the natural logarithm of how many pairs the longer answer won over how many the shorter one won. Length is the number of characters; pairs of equal length do not count.
#
# <details><summary>Hint</summary>
#
# `zip(data.chosen, data.rejected)`, two counts, one logarithm.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 10.3 · 量一量文件里的长度
# ★★☆ · 10 分钟
#
# 写一个 `length_reward(data)`：输入硬标签的 `Pairs`，返回这份文件给长度的奖励，即长的一方赢的次数与短的一方赢的次数之比，取自然对数。长度按字符数算；一样长的不计。
#
# <details><summary>提示</summary>
#
# `zip(data.chosen, data.rejected)`，数两个数，取一次对数。
#
# </details>

# %% tags=["exercise"]
def length_reward(data):
    ...


check("10.3", length_reward)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# ```python
# def length_reward(data):
#     gaps = [len(chosen) - len(rejected) for chosen, rejected in zip(data.chosen, data.rejected)]
#     return math.log(sum(gap > 0 for gap in gaps) / sum(gap < 0 for gap in gaps))
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# ```python
# def length_reward(data):
#     gaps = [len(chosen) - len(rejected) for chosen, rejected in zip(data.chosen, data.rejected)]
#     return math.log(sum(gap > 0 for gap in gaps) / sum(gap < 0 for gap in gaps))
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
def balanced(data, seed):
    ...


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
# - [Singhal et al. 2023](https://arxiv.org/abs/2310.03716): how much of RLHF is length.
# - [Tajwar et al. 2024](https://arxiv.org/abs/2404.14367): when on-policy samples and the rejected side help.
# - [Tang et al. 2024](https://arxiv.org/abs/2405.08448): online against offline.
# - [Xu et al. 2024](https://arxiv.org/abs/2404.10719): DPO and answers outside the data.

# %% [markdown] lang="zh"
# ## 参考文献
# - [Singhal et al. 2023](https://arxiv.org/abs/2310.03716)：RLHF 里有多少是长度。
# - [Tajwar et al. 2024](https://arxiv.org/abs/2404.14367)：同策略样本和 rejected 什么时候有用。
# - [Tang et al. 2024](https://arxiv.org/abs/2405.08448)：在线与离线。
# - [Xu et al. 2024](https://arxiv.org/abs/2404.10719)：DPO 与数据之外的回答。
