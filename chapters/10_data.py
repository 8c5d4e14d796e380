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
# > **In this chapter.** You will be able to say what a set of preference pairs will teach before you train on it: where imitation of its winners ends, what DPO makes of its length and of its labels, when the rejected answers are worth having, and what no pair can teach. You need [chapter 9](09_dpo.ipynb); the closed forms are those of [chapter 6](06_objective.ipynb) and [chapter 7](07_derivation.ipynb). 26 minutes to read, and 19 more for the sections marked ⋆; 30 seconds to run.

# %% [markdown] lang="zh"
# > **本章。** 读完后，你能在训练之前说出一份偏好数据会教出什么：照着赢家学，会停在哪里；数据的长度和标签，DPO 会怎样对待；rejected 什么时候值得要；哪些东西，什么样的偏好对都教不会。需要读过[第 9 章](09_dpo.ipynb)；闭式解出自[第 6 章](06_objective.ipynb)和[第 7 章](07_derivation.ipynb)。阅读 26 分钟，带 ⋆ 的几节另需 19 分钟；运行 30 秒。

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
from dpo_core.evaluation import Estimate, evaluate
from dpo_core.pairs import read_pairs
from dpo_core.plotting import COLORS, figure, picture, points
from dpo_core.preferences import label, on_policy_pairs
from dpo_core.rl import checker
from dpo_core.sampling import generate
from dpo_core.steps import dpo_step, sft_step
from dpo_core.theory import class_problem, predicted_optimum, predicted_shares
from dpo_core.training import LoopConfig, train

# %% [markdown] lang="en"
# ## The same loss, other pairs
# Chapter 9 kept the pairs and changed the loss's settings. Now the loss stays and the pairs change. Two files that look alike can differ in four things: who wrote the answers, who judged them, which pairs were kept, and how many there are.
#
# Every file is used twice: by DPO, and by **fine-tuning on the chosen answers** alone: throw the rejected ones away and imitate the rest, with the loss of [chapter 3](03_sft.ipynb). This baseline needs no reference and no $\beta$. A preference loss that does not beat it has not earned its rejected answers.
#
# The yardstick is the objective of [chapter 6](06_objective.ipynb) (equation 6.1), $J=\mathbb{E}[r]-\beta\,\mathrm{KL}$, with the reward and the $\beta$ of the experiment and the base model as reference. The tables give $J$ for every arm and the base model.
#
# The runs were recorded by `chapters/data/pair_sources.py`: three seeds, each with its own base model and its own pairs; 6,400 comparisons and 100 updates of 64 pairs unless said otherwise; one learning rate, tuned for neither method; 2,000 fresh prompts to measure on. “Ahead” means ahead in every seed; where the seeds disagree, nothing is concluded. These runs are short: chapter 9's recipe has fifteen times the pairs. The next cells load them: `reached` is an arm's mean over the seeds, `end` what theory says of a policy.

# %% [markdown] lang="zh"
# ## 损失不变，换数据
# 第 9 章主要改损失的设置，偏好对很少动。这一章反过来：损失不动，换偏好对。两份看起来一样的文件，有四处可以不同：回答是谁写的，谁来评，留下了哪些，一共多少。
#
# 每份文件都用两次。一次做 DPO。另一次只在 chosen（被偏好的回答）上做**监督微调**（supervised fine-tuning，SFT）：扔掉 rejected（不被偏好的回答），照着剩下的学，损失就是[第 3 章](03_sft.ipynb)的那个。这条基线不要参考策略，也不要 $\beta$。偏好损失若赢不了它，那些 rejected 就白要了。
#
# 比什么呢？比[第 6 章](06_objective.ipynb)的目标（式 6.1）$J=\mathbb{E}[r]-\beta\,\mathrm{KL}$：奖励和 $\beta$ 用各实验自己的，参考是基座模型。表里每种做法都报 $J$，基座模型自己也报。
#
# 实验由 `chapters/data/pair_sources.py` 事先跑好：三个种子，各有自己的基座模型和偏好对；不另说明的，都是 6,400 次比较，更新 100 步，每步 64 对；只用一个学习率，对哪种方法都没有调过；在 2,000 个新提示上测量。说「领先」，是指三个种子个个领先；种子之间说法不一，就不下结论。这些训练都很短：第 9 章的配方用了十五倍的偏好对。下面几格把结果读进来：`reached` 给出一种做法在各种子上的平均，`end` 给出理论上一个策略的各项指标。

# %%
task = BookTask()
stored = json.loads(Path("data/pair_sources.json").read_text(encoding="utf-8"))
settings = stored["settings"]
assert [settings[name] for name in ("pairs", "steps", "n")] == [6_400, 100, 2_000]
assert settings["seeds"] == [0, 1, 2] and 15 * settings["pairs"] == 96_000
runs = {experiment: stored[experiment] for experiment in settings["yardstick"]}
MEASURES = ("J", "kl", "style", "exact", "well_formed")


# %%
def reached(experiment, arm, metric="J"):
    """The mean over the seeds, and the lowest and the highest of them."""
    found = list(arms.values(runs[experiment], arm, metric).values())
    return Estimate(sum(found) / len(found), min(found), max(found))


def near(experiment, arm, metric, value):
    return f"{reached(experiment, arm, metric).value:.2f}" == value


def end(experiment, policy):
    """What a policy over classes shows, J of the experiment included."""
    shares, (reward, beta) = (
        predicted_shares(task, policy),
        settings["yardstick"][experiment],
    )
    worth = sum(shares[name] for name in reward.split("+"))
    return shares | {"J": worth - beta * shares["kl"]}


# %% tags=["proof"] checked_en="Checked: in every stored run J is the mean reward minus β times KL, and the reward is what the experiment says." checked_zh="已验证：每次存下的训练里，J 都等于平均奖励减去 KL 的 β 倍，奖励也正是该实验所说的那一种。"
for experiment, (reward, beta) in settings["yardstick"].items():
    for run in runs[experiment]:
        for reading in run.get("rounds", [run]):
            value = {
                name: estimate["value"]
                for name, estimate in reading.items()
                if isinstance(estimate, dict)
            }
            worth = sum(value[name] for name in reward.split("+"))
            assert abs(value["reward"] - worth) < 1e-5
            assert abs(value["J"] - (worth - beta * value["kl"])) < 1e-5


# %% tags=["figure"]
def across(axes, y, estimate, color, marker, label=None):
    """One measurement on a row, its bar lying."""
    bar = [[estimate.value - estimate.low], [estimate.high - estimate.value]]
    look = {"color": COLORS[color], "fmt": marker, "capsize": 3, "label": label}
    axes.errorbar(estimate.value, y, xerr=bar, **look)


# %% tags=["figure"]
def row_panel(axes, say, experiment, names, metric, ends=()):
    """A row for each file: DPO and imitation, and where they end by theory."""
    imitated = say("imitation of chosen", "模仿 chosen")
    looks = ("dpo", "DPO", "policy", "o"), ("sft", imitated, "baseline", "s")
    theory = say("where it ends (theory)", "终点（理论）")
    for height, (method, word, color, marker) in zip((-0.14, 0.14), looks):
        for y, name in enumerate(names):
            arm, at = f"{name} {method}", y + height
            if arm in ends:
                goal, tall = [ends[arm][metric]] * 2, [at - 0.13, at + 0.13]
                axes.plot(goal, tall, color=COLORS["theory"], linewidth=3, label=theory)
                theory = None  # one line in the legend
            if any(run["name"] == arm for run in runs[experiment]):
                found = reached(experiment, arm, metric)
                across(axes, at, found, color, marker, word if y == 0 else None)
    style = {"color": COLORS["ref"], "linestyle": ":"}
    start = reached(experiment, "base", metric).value
    axes.axvline(start, label=say("base model", "基座模型"), **style)
    axes.set(ylim=(len(names) - 0.5, -0.5), yticks=range(len(names)), yticklabels=[])


# %% tags=["figure"]
def two_panels(say, experiment, names, metrics, rows, ends=(), height=3.6):
    """Two panels of rows under one legend; `rows` are the files in words."""
    fig, panels = figure(2, width=6.0, height=height)
    words = {
        "J": say("objective  $J$", "目标  $J$"),
        "style": say("share with three numbers", "写三个数的比例"),
        "new": say("mistakes no author makes", "没有作者会犯的错的占比"),
    }
    for axes, metric in zip(panels, metrics):
        row_panel(axes, say, experiment, names, metric, ends)
        axes.set_xlabel(words[metric])
    panels[0].set_yticklabels(rows.split("|"))
    marks = panels[0].get_legend_handles_labels()
    fig.legend(*marks, loc="outside lower center", ncols=2, fontsize=10)
    return panels


# %% [markdown] lang="en"
# ## Where imitation goes
# By hand first. A prompt has two kinds of answers: three numbers, which the judge likes (reward 1), and two numbers (reward 0). The base model writes the first kind in 30 % of its answers. Draw two answers, let the judge pick one, and imitate it. How often does the imitator write three numbers?
#
# Both answers have three numbers: probability $0.3\cdot0.3=0.09$, and the chosen one has three. Both have two: $0.49$, and it has two. They differ: $2\cdot0.3\cdot0.7=0.42$, and the label decides.
#
# - **Sampled labels.** The rewards differ by 1, so the better one wins with probability $\sigma(1)=0.731$. Three numbers are chosen with probability $0.09+0.42\cdot0.731=0.397$.
# - **Deterministic labels, ties kept.** The better one always wins: $0.09+0.42=0.51$.
# - **Deterministic labels, ties dropped.** Only the pairs that differ are left, and in all of them three numbers win: $1$.
#
# One base model, one taste, three results. The same by counting, with labels by a function of our own:

# %% [markdown] lang="zh"
# ## 照着赢家学，会学到哪里
# 先用手算得动的数。一个提示有两类回答：写三个数的，裁判喜欢（奖励 1）；写两个数的，奖励 0。基座模型有 30% 的回答写三个数。抽两个回答，裁判挑一个，照着它学。学成之后，写三个数的占多少？
#
# 两个都写三个数：概率 $0.3\cdot0.3=0.09$，chosen 也是三个数。两个都写两个数：$0.49$，chosen 是两个数。两类各一个：$2\cdot0.3\cdot0.7=0.42$，谁当 chosen 由标签定。
#
# - **采样标签**（sampled label）。奖励差 1，好的一方以概率 $\sigma(1)=0.731$ 胜出。chosen 写三个数的概率是 $0.09+0.42\cdot0.731=0.397$。
# - **确定性标签**（deterministic label），**留着平局**（tie）。好的一方必胜：$0.09+0.42=0.51$。
# - **确定性标签，丢掉平局**。剩下的都是两类各一个，赢的全是三个数：$1$。
#
# 同一个基座模型，同一种口味，只因标签的处理不同，就有三种结局。再用自己写的函数打标签，数一遍看看：

# %%
p, win = 0.3, 1 / (1 + math.exp(-1))  # the share of three numbers; σ(1)
by_hand = {
    "sampled": p**2 + 2 * p * (1 - p) * win,
    "kept": p**2 + 2 * p * (1 - p),
    "dropped": 1.0,
}


def label_by_hand(gap, kind, rng):
    """Is the first answer the chosen one; and is the pair kept?"""
    every = np.ones(len(gap), dtype=bool)
    if kind == "sampled":
        return rng.random(len(gap)) < 1 / (1 + np.exp(-gap)), every
    if kind == "kept":
        return gap >= 0, every
    return gap > 0, gap != 0


first, second = np.random.default_rng(10).random((2, 100_000)) < p  # three numbers?
gap = first.astype(float) - second  # of the rewards
for kind, share in by_hand.items():
    ahead, kept = label_by_hand(gap, kind, np.random.default_rng(11))
    counted = np.where(ahead, first, second)[kept].mean()
    print(f"{kind:8} by hand {share:.3f}  counted {counted:.3f}")
    assert abs(counted - share) < 0.005

# %% tags=["proof"] checked_en="Checked: the three shares as the text states them, and our labels equal to those of `dpo_core.preferences.label`." checked_zh="已验证：三个比例与正文一致；我们打的标签与 `dpo_core.preferences.label` 打的相同。"
assert [round(v, 3) for v in by_hand.values()] == [0.397, 0.51, 1.0]
assert round(win, 3) == 0.731
for kind, theirs in (("sampled", "sampled"), ("dropped", "deterministic")):
    ahead, kept = label_by_hand(gap, kind, np.random.default_rng(11))
    swap, _, stay = label(gap, theirs, np.random.default_rng(11))
    assert (ahead == ~swap)[kept].all() and (kept == stay).all()

# %% [markdown] lang="en"
# In general, let $p$ be the distribution that both answers are drawn from. An answer $y$ becomes the chosen one if it was drawn, first or second, and beat the other. So the chosen answers have the distribution
#
# $$p_w(y)=2\,p(y)\;\mathbb{E}_{y'\sim p}\big[P(y\succ y')\big],$$
#
# where $P(y\succ y')$ is the probability that $y$ is chosen over $y'$. Cross-entropy on them is smallest where the policy equals $p_w$ (chapter 3): that is where imitation ends. Where pairs without a label are dropped, the whole is divided by the share that is left.
#
# Three answers make it a table. Let them have the probabilities 0.5, 0.3 and 0.2 and the rewards 0, 1 and 2. Row $i$, column $j$ holds how often $i$ is chosen over $j$; the sum of row $i$ says how often $i$ is the chosen answer.

# %% [markdown] lang="zh"
# 一般地说，设两个回答都从分布 $p$ 里抽。回答 $y$ 要成为 chosen，得先被抽到（第一个或第二个），再赢过对手。所以 chosen 的分布是
#
# $$p_w(y)=2\,p(y)\;\mathbb{E}_{y'\sim p}\big[P(y\succ y')\big]$$
#
# 其中 $P(y\succ y')$ 是 $y$ 赢过 $y'$ 的概率。在这些回答上，交叉熵在策略等于 $p_w$ 时最小（第 3 章），模仿的终点就在那里。没有标签的样本对若被丢掉，最后再除以剩下的比例。
#
# 三个回答就成了一张表。设概率是 0.5、0.3、0.2，奖励是 0、1、2。第 $i$ 行第 $j$ 列，是 $i$ 赢过 $j$ 的次数占多少；chosen 是 $i$ 的比例，就是第 $i$ 行的和。

# %%
prob, points_each = [0.5, 0.3, 0.2], [0, 1, 2]
wins = torch.zeros(3, 3).double()
for i in range(3):
    for j in range(3):
        better = 1 / (1 + math.exp(points_each[j] - points_each[i]))
        wins[i, j] = 2 * prob[i] * prob[j] * better  # 2: either may be drawn first
for row in wins:
    print(*(f"{entry:.3f}" for entry in row), f" row in all {row.sum():.3f}")
assert abs(wins.sum() - 1) < 1e-12
assert f"{wins[2].sum():.2f}" == "0.30"


def imitation(wins):
    """log p_w, where imitation of the chosen answers of such a table ends."""
    return (wins.sum(-1) / wins.sum((-1, -2)).unsqueeze(-1)).log()


three = torch.tensor(prob).double().log()
drawn = tabular.independent_pairs(three, three)
assert torch.allclose(tabular.comparisons(torch.tensor(points_each), drawn), wins)

# %% tags=["proof"] checked_en="Checked on 20 random problems: six answers each, imitation's end is the formula's p_w, and the minimiser of the cross-entropy." checked_zh="在 20 个随机问题上验证：每题六个回答，模仿的终点等于公式里的 p_w，也在交叉熵的最小值处。"
problems = tabular.random_problems(20, 6, seed=10)
probs, rewards = problems.ref_logps.exp(), problems.reward
two_draws = tabular.independent_pairs(problems.ref_logps, problems.ref_logps)
beaten = {
    "soft": tabular.preference_probs(rewards),
    "deterministic": (rewards[:, :, None] > rewards[:, None]).double(),
}
for labels, beats_it in beaten.items():
    share = imitation(tabular.comparisons(rewards, two_draws, labels)).exp()
    density = 2 * probs * (beats_it * probs[:, None]).sum(-1)
    assert torch.allclose(density / density.sum(-1, keepdim=True), share, atol=1e-12)
    if labels == "soft":
        found = tabular.minimise(
            lambda logits: -(share * logits.log_softmax(-1)).sum(-1),
            torch.zeros(20, 6).double(),
        )
        assert (found.softmax(-1) - share).abs().max() < 1e-9

# %% [markdown] lang="en"
# The best answer is drawn in 0.2 of all answers and chosen in 0.30 of all pairs.
#
# Now the network, with style as the reward and $\beta=0.5$. The population's share of three numbers is 0.30 on average, but it differs from prompt to prompt, so the ends are averages over the prompts. DPO has its own end, the optimum at 0.76, whoever draws the pairs; under a deterministic judge it has none ([chapter 7](07_derivation.ipynb)).
#
# > **Before you run it.** Both methods on sampled labels, imitation of a judge who never errs with ties kept, both methods with ties dropped: which arm has the highest $J$, and which the lowest?
#
# <details><summary>Answer</summary>
#
# The highest: imitation of the judge who never errs, with or without ties. The lowest: DPO on the file without ties.
#
# </details>

# %% [markdown] lang="zh"
# 最好的那个回答，抽签时占 0.2，在 chosen 里占 0.30。
#
# 轮到网络，奖励是风格，$\beta=0.5$。作者群体写三个数的平均占 0.30，可是各个提示不同，所以终点要对提示取平均。DPO 有自己的终点，即最优解，写三个数的占 0.76，与样本对由谁来抽无关；裁判若是确定性的，就没有终点（[第 7 章](07_derivation.ipynb)）。
#
# > **先猜一猜。** 五种做法：采样标签，两种方法都做；裁判从不出错、留着平局，只做模仿；再丢掉平局，两种方法都做。哪一种的 $J$ 最高，哪一种最低？
#
# <details><summary>答案</summary>
#
# 最高的：照着从不出错的裁判选出的回答学，平局留不留都行。最低的：拿同一份丢掉平局的文件做 DPO。
#
# </details>

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
arms.show(arms.table(runs["labels"], None, MEASURES))
for name, value in ends.items():
    shown = (f"{metric} {value[metric]:.2f}" for metric in ("J", "kl", "style"))
    print(f"end of {name:12}", *shown)


# %% tags=["figure"] alt_en="Three rows: sampled labels, a certain judge with ties kept, one with ties dropped. Left, the share of three-number answers: imitation at 0.42, 0.52 and 0.82, near the theory's marks at 0.40 and 0.51, and below that at 1.00; DPO at 0.59, short of its mark at 0.76, and at 0.94 without ties. Right, J: four points between 0.40 and 0.45, all above the base model's 0.32; DPO on sampled labels and its imitation overlap, and DPO without ties is off the scale to the left." alt_zh="三行：采样标签，裁判必准留平局，裁判必准丢平局。左图是写三个数的比例：模仿在 0.42、0.52、0.82，前两个靠近理论终点 0.40 和 0.51，第三个低于终点 1.00；DPO 在 0.59，没到终点 0.76，丢掉平局时在 0.94。右图是 J：四个点在 0.40 与 0.45 之间，都高于基座模型的 0.32；采样标签下 DPO 与模仿的竖线相互重叠，丢平局的 DPO 远在左边界之外。"
@picture
def who_wins(say):
    files = ("sampled", "kept", "dropped")
    rows = say(
        "sampled\nlabels|always right,\nties kept|always right,\nties dropped",
        "采样标签|从不出错，\n留平局|从不出错，\n丢平局",
    )
    panels = two_panels(say, "labels", files, ("style", "J"), rows, ends)
    panels[0].set_xlim(0, 1.02)
    panels[1].set_xlim(0.11, 0.58)
    lost = f"{reached('labels', 'dropped dpo').value:.2f}".replace("-", "−")
    away = say(f"← DPO at {lost}", f"← DPO 在 {lost}")
    panels[1].text(0.115, 1.86, away, color=COLORS["policy"], fontsize=9, va="center")


# %% [markdown] lang="en"
# **Figure 10.1.** Three kinds of label, 100 updates. By $J$ nothing lies above imitation of a judge who is always right, and DPO without ties falls off the picture. Bars here and below: from the lowest of three seeds to the highest.

# %% [markdown] lang="zh"
# **图 10.1** 三种标签，更新 100 步。论 $J$，裁判从不出错时只做模仿，没有哪一种比它高；丢掉平局的 DPO 则跌出了图外。此处及以下，短线从三个种子里最低的画到最高的。

# %% tags=["proof"] checked_en="Checked in every seed: who is ahead of whom on the three kinds of label, by J and by style." checked_zh="已对每个种子验证：三种标签上，论 J 和论风格，谁领先于谁。"
# concluded of the three kinds of label
for one, other in (
    ("kept sft", "sampled dpo"),
    ("dropped sft", "sampled dpo"),
    ("sampled dpo", "base"),
    ("sampled sft", "base"),
    ("base", "dropped dpo"),
):
    assert arms.beats(runs["labels"], one, other), (one, other)
lead = arms.gaps(runs["labels"], "sampled dpo", "sampled sft")
assert sorted(gap > 0 for gap in lead.values()) == [False, True, True]  # undecided
assert arms.beats(runs["labels"], "sampled dpo", "sampled sft", "style", by=0.15)
assert f"{ends['dropped sft']['J']:.2f}" == "0.40"
assert ends["sampled dpo"]["J"] > ends["kept sft"]["J"] > ends["sampled sft"]["J"]
assert arms.beats(runs["labels"], "dropped sft", "dropped dpo", "exact")
needed = predicted_optimum(task, "style", 0.8)  # a share as DPO reached, at least KL
assert abs(needed["style"] - reached("labels", "sampled dpo", "style").value) < 0.01
assert 1.8 < reached("labels", "sampled dpo", "kl").value / needed["kl"] < 2.2
assert near("labels", "sampled sft", "style", "0.42")
assert near("labels", "sampled dpo", "style", "0.59")
assert [f"{ends['sampled ' + m]['style']:.2f}" for m in ("sft", "dpo")] == [
    "0.40",
    "0.76",
]
assert [f"{ends['sampled ' + m]['J']:.2f}" for m in ("sft", "dpo")] == ["0.39", "0.53"]

# %% [markdown] lang="en"
# On sampled labels $J$ does not tell the two methods apart: DPO is ahead for two of the base models and behind for the third. Imitation has arrived, at 0.42 three-number answers where theory says 0.40. DPO is at 0.59 of its 0.76, and has spent twice the KL that such a share needs.
#
# The highest $J$ belongs to imitation of a judge who is always right, with ties or without. (Without, it owes this to stopping on the way: at its end $J$ is 0.40.) DPO without ties falls below the base model: no leash holds it, and right answers are lost that imitation of the same file keeps.
#
# **What, then, is the rejected side good for?** For a further end. Where the label is one draw of an unsure judge, a chosen answer is only a little better than a rejected one, and so is its imitation. The *difference* between the two carries the strength of the preference; DPO reads it and divides it by $\beta$. So its end is the optimum, with $J=0.53$, and imitation's is 0.39. How much of that arrives is a matter of the training (How many pairs, below).
#
# Where the judge is certain and the question is one yes or no, the chosen answers are clean examples already. Imitating them is called **rejection sampling**: draw, keep what passes, fine-tune. With the bare sigmoid loss the rejected side then adds only a pressure that never ends; smoothed labels or IPO's square give it an end (chapter 9's remedies, [chapter 11](11_family.ipynb)).

# %% [markdown] lang="zh"
# 采样标签下，论 $J$ 分不出两种方法的高下：三个基座模型，DPO 在两个上领先，在另一个上落后。模仿已经到了：写三个数的占 0.42，理论值是 0.40。DPO 要去 0.76，才走到 0.59，花掉的 KL 却是到这个比例所需的两倍。
#
# $J$ 最高的，是照着从不出错的裁判选出的回答学，平局留不留都行。（丢掉平局的那一种，是因为还没走到头才这么高：到了终点，$J$ 只有 0.40。）丢掉平局的 DPO 跌到基座模型以下：什么绳子都拉不住它，还丢了正确的回答；同一份文件，模仿就没有丢。
#
# **那么 rejected 有什么用？** 它让终点更远。标签若由没把握的裁判只抽一次，chosen 平均只比 rejected 好一点，照着它学，也只好一点。偏好有多强，藏在两者之差里；DPO 把它读出来，再除以 $\beta$。所以 DPO 的终点就是最优解，$J=0.53$，模仿的终点只有 0.39。这段路能走多少，要看训练，见后面的「多少对，过几遍」。
#
# 若裁判有把握，问的又只是一个是与否，那么 chosen 本身就是干净的范例。照着它们学，叫**拒绝采样**（rejection sampling）：多抽，合格的留下，拿来微调。这时用不加处理的 sigmoid 损失，rejected 能添的只有没有尽头的压力；标签平滑，还有 IPO 的平方，才给它一个尽头（第 9 章的补救，[第 11 章](11_family.ipynb)）。

# %% [markdown] lang="en"
# ## Who wrote the answers
# Now the reward is the right value, and $\beta=0.25$. Pairs of four origins, all from 6,400 comparisons:
#
# - **population**: two texts of the authors, the same people whom the model learnt from.
# - **on-policy**: two answers of the model itself.
# - **other**: two answers of a model that has only begun to learn and is much more rarely right.
# - **checker**: the on-policy answers again, judged right or wrong by the checker: labels are deterministic, ties dropped.
#
# The first three have soft labels: the better answer stands as chosen, and beside it its probability of winning in place of a draw. So imitation is heading for the **best of two** of whoever wrote them. DPO's minimiser does not depend on who draws the pairs (chapter 7).
#
# > **Before you run it.** In which of the four files is DPO ahead of imitation?
#
# <details><summary>Answer</summary>
#
# In the third alone. Its winners are worse than what the base model writes anyway, so imitating them is unlearning; what sets a winner apart from its loser still points the right way.
#
# </details>

# %% [markdown] lang="zh"
# ## 回答是谁写的
# 现在奖励的是答案正确，$\beta=0.25$。四种来历的偏好对，都出自 6,400 次比较：
#
# - **population**（作者群体）：作者们写的两个文本，模型当初就是照着这些人学的。
# - **on-policy**（同策略）：模型自己的两个回答。
# - **other**（异策略）：另一个模型的两个回答，它才刚开始学，写对的少得多。
# - **checker**（判分程序）：还是同策略的那些回答，由判分程序来评，非对即错：标签是确定性的，平局丢掉。
#
# 前三种用软标签（soft label）：好的那个记作 chosen，不抽签，旁边直接写上它获胜的概率。所以模仿的终点，是写手的**二选一取优**（best of two）。DPO 损失的最小值在哪里，则与谁来抽无关（第 7 章）。
#
# > **先猜一猜。** 四份文件里，DPO 在哪一份上领先于模仿？
#
# <details><summary>答案</summary>
#
# 只有第三份。它的赢家还不如基座模型平时写的，照着学等于越学越差；赢家与输家差在哪里，却仍指着正确的方向。
#
# </details>

# %%
exacts = class_problem(task, "exact")
arms.show(arms.table(runs["source"], None, MEASURES))
for name, policy in (
    ("dpo, soft labels", tabular.optimal_policy(exacts, 0.25)),
    ("population sft", tabular.best_of_n(exacts, 2)),
    ("checker sft", tabular.best_of_n(exacts, 10_000)),
):
    value = end("source", policy)
    shown = (f"{metric} {value[metric]:.2f}" for metric in ("J", "kl", "exact"))
    print(f"end of {name:17}", *shown)


# %% tags=["figure"] alt_en="Four rows, by who wrote the answers. Left, J, with the base model at 0.76: imitation lies right of it for the population, the model's own answers and the checker, near 0.9, and far left, at 0.2, for the other model; DPO lies left of the base model in those three, at minus 1 for the checker, and slightly right of it for the other model. Right, the share of mistakes that no author makes: DPO at 0.15, 0.09 and 0.65 for the three, near 0 for the other model, where imitation has 0.2." alt_zh="四行，按回答由谁来写。左图是 J，基座模型在 0.76：作者群体、模型自己、判分程序这三行，模仿都在它右边，约 0.9；另一个模型那一行，模仿远在左边，约 0.2。DPO 在那三行都在基座模型左边，判分程序那一行低到负 1；另一个模型那一行略偏右。右图是没有作者会犯的错的占比：那三行的 DPO 依次是 0.15、0.09、0.65，另一个模型那一行近于 0，模仿则有 0.2。"
@picture
def who_wrote(say):
    files = ("population", "on-policy", "other", "checker")
    rows = say(
        "the authors|the model\nitself|a worse\nmodel|itself,\nchecked",
        "作者群体|模型自己|较差的模型|模型自己，\n程序判分",
    )
    two_panels(say, "source", files, ("J", "new"), rows, height=4.2)


# %% [markdown] lang="en"
# **Figure 10.2.** Pairs of four origins. Where DPO falls below the base model (left), it writes mistakes that no author makes (right). Where the winners are worse than the policy, it is imitation that falls.

# %% [markdown] lang="zh"
# **图 10.2** 四种来历的偏好对。DPO 跌到基座模型以下的地方（左），正是它写出没有作者会犯的错的地方（右）。赢家不如策略的那一份，跌下去的是模仿。

# %% tags=["proof"] checked_en="Checked in every seed: who is ahead on each of the four files, and where the mistakes that no author makes appear." checked_zh="已对每个种子验证：四份文件上谁领先，没有作者会犯的错出现在哪里。"
# concluded of who wrote the answers
for name in ("population", "on-policy", "checker"):
    assert arms.beats(runs["source"], f"{name} sft", "base")
    assert arms.beats(runs["source"], "base", f"{name} dpo")
    assert reached("source", f"{name} dpo", "new").low > 0.05
    assert reached("source", f"{name} sft", "new").high < 0.02
assert reached("source", "base", "new").high < 0.02
assert arms.beats(runs["source"], "other dpo", "base")
assert arms.beats(runs["source"], "base", "other sft")
lead = arms.gaps(runs["source"], "on-policy dpo", "population dpo")
assert min(lead.values()) < 0 < max(lead.values())  # undecided
assert arms.beats(runs["source"], "base", "other dpo", "style", by=0.1)
assert reached("source", "other dpo", "style").high < 0.2
assert near("source", "other sft", "J", "0.19")
assert near("source", "other dpo", "J", "0.78") and near("source", "base", "J", "0.76")

# %% [markdown] lang="en"
# In three of the four files imitation is ahead, and DPO ends below the base model. The right panel says why: it counts mistakes that no author makes. Imitation leaves them as rare as they were; after DPO they are more than one answer in twenty, in every run. A pair shows only what was drawn; nothing holds down the base model's own rare mistakes, and DPO moves probability into them. As chapter 9 saw, it **leaks** to texts of no author. (Less on the model's own answers than on the authors'? Three seeds do not say.)
#
# The third file turns it round. Its winners are often only the better of two wrong answers; imitation imports the mistakes, and $J$ falls from 0.76 to 0.19. DPO compares and learns what *distinguishes* the better from the worse: its $J$ is 0.78, a little ahead of the base model. Here the rejected side is needed: **winners worse than the policy, differences that still point the right way**. This is delta learning ([Geng et al. 2025](https://arxiv.org/abs/2507.06187)), and Olmo 3 was made so: from 70.3 points on average, further imitation of the chosen answers went to 64.5, DPO on the same pairs to 72.9 ([Team Olmo 2025](https://arxiv.org/abs/2512.13961), table 21). Our run paid a price: the share of three numbers, which are harder to get right, fell below 0.2.

# %% [markdown] lang="zh"
# 四份文件里有三份是模仿领先，DPO 在那三份上甚至不如基座模型。原因看右图，它数的是没有作者会犯的错。模仿之后，这种错还和原来一样罕见；DPO 之后，每一次训练都超过二十分之一。偏好对里只有抽到的东西；基座模型自己那些罕见的错，什么也压不住，DPO 就把概率搬了过去。第 9 章看到的也是这样：概率**漏**到了没有作者会写的文本上。（用模型自己的回答，是不是比用作者们的漏得少？三个种子说法不一。）
#
# 第三份文件反过来。它的赢家，往往只是两个错误回答里稍好的一个；照着学，就把错学了进来，$J$ 从 0.76 跌到 0.19。DPO 拿两个相比，学的是好的与差的差在哪里；它的 $J$ 是 0.78，略高于基座模型。rejected 的用处就在这里：**赢家还不如策略自己，差别却仍指着正确的方向**。这叫 delta learning（[Geng et al. 2025](https://arxiv.org/abs/2507.06187)），Olmo 3 就是这么做的：起点平均 70.3 分，照着 chosen 接着学，得 64.5；用同一批偏好对做 DPO，得 72.9（[Team Olmo 2025](https://arxiv.org/abs/2512.13961)，表 21）。我们这次也付了代价：三个数更难写对，写三个数的比例于是掉到了 0.2 以下。

# %% [markdown] lang="en"
# ## Length, which nobody asked for
# A judge gives the right value 1 point and has no opinion on length; labels are sampled, $\beta=0.5$. But then something happened: where the *shorter* answer won, three of four pairs were lost. Every label in this **skewed** file is honest.
#
# > **Before you run it.** No judge liked length and no label lies. Will DPO's answers grow longer? And imitation's?
#
# <details><summary>Answer</summary>
#
# Both; DPO's by far more. What is missing from a file teaches like what is in it.
#
# </details>
#
# Call the lengths 3 and 2 numbers, and let $\kappa=0.25$ be the share of shorter winners that is kept. Take one long and one short answer whose rewards differ by $g$ = long minus short. The long one wins with odds $e^{g}$, that is Bradley–Terry. Among the pairs that are left, the odds are those of before times $1/\kappa$, for only the short one's wins were thinned out. Take logarithms:
#
# $$\log\text{odds}=g+\log\frac1\kappa.$$
#
# Pairs of equal length were not thinned. So all pairs together come from a Bradley–Terry judge whose reward has a second term, $\log\frac1\kappa=\log4=1.386$ points for length. With two lengths, a selection that never touched a label is, to the loss, the same thing as a judge who likes long answers. DPO divides that by $\beta$ like any reward: its end in style, which is our length, moves from 0.30 to 0.87. Imitation sees only that winners are somewhat longer: 0.36.
#
# The cure is to **balance** the file: drop pairs in which the longer one won, at random, until longer and shorter winners are equally many. Where length has nothing to do with being right, as here, the extra log odds are zero again; where longer answers are better, that goes too. The three files and their ends:

# %% [markdown] lang="zh"
# ## 谁也没要的长度
# 裁判给正确的答案 1 分，对长短没有意见；标签是采样的，$\beta=0.5$。可是从裁判到文件，中间出了点事：凡是短的一方赢了的，四对丢了三对。这份**挑过的**（skewed）文件里，每一个标签都诚实。
#
# > **先猜一猜。** 没有哪个裁判偏爱长的，没有哪个标签作假。DPO 写的回答会变长吗？模仿呢？
#
# <details><summary>答案</summary>
#
# 都会，DPO 长得多得多。文件里缺了什么，和有什么一样，都在教。
#
# </details>
#
# 长度只有两种：3 个数和 2 个数。短的一方获胜的偏好对，留下来的占 $\kappa=0.25$。取一长一短两个回答，奖励相差 $g$，用长的减短的。按 Bradley–Terry，长的一方获胜的几率（odds）是 $e^{g}$。留下的偏好对里，只有短的一方的胜场变稀了，所以几率是原来的 $1/\kappa$ 倍。取对数：
#
# $$\log\text{odds}=g+\log\frac1\kappa$$
#
# 一样长的没有筛过。所以合起来看，这正是一个 Bradley–Terry 裁判，只是奖励多了一项：长的加 $\log\frac1\kappa=\log4=1.386$ 分。长度只有两种时，一次挑选，没动过一个标签，在损失看来，与一个偏爱长回答的裁判毫无分别。DPO 照样拿它除以 $\beta$：风格在这里就是长度，终点从 0.30 移到 0.87。模仿只看到赢家略长一些：0.36。
#
# 补救的办法是给文件做**平衡**：长的一方获胜的，随机丢掉一些，直到两边赢得一样多。这里长短与对错无关，多出来的那一项就又是零了。若长回答真的更好，这点好处也会一并抹掉。三份文件和它们的终点如下：

# %%
kappa, long = settings["keep_shorter"], styles.reward[0]
tilt = exacts.reward + math.log(1 / kappa) * styles.reward
longer = tabular.Problem(exacts.ref_logps, tilt)
shorter_wins = torch.where(long[:, None] < long, kappa, 1.0).double()
both_thinned = torch.where(long[:, None] != long, kappa, 1.0).double()
fair, tilted = (tabular.optimal_policy(problem, 0.5) for problem in (exacts, longer))
policies = {
    "all dpo": fair,
    "skewed dpo": tilted,
    "balanced dpo": fair,
    "all sft": winners(exacts.reward),
    "skewed sft": winners(exacts.reward, keep=shorter_wins),
    "balanced sft": winners(exacts.reward, keep=both_thinned),
}
length_ends = {name: end("length", policy) for name, policy in policies.items()}
arms.show(arms.table(runs["length"], None, MEASURES))
at_end = [f"{length_ends[name]['style']:.2f}" for name in ("skewed dpo", "skewed sft")]
assert at_end == ["0.87", "0.36"] and round(math.log(4), 3) == 1.386


# %% tags=["figure"] alt_en="Three rows: all pairs, shorter winners lost, balanced. Left, the share of three-number answers: DPO at 0.36, 0.63 and 0.38, imitation at 0.31, 0.35 and 0.24, each near its theoretical end but for DPO on the skewed file, which is short of its end at 0.87. Right, J: imitation near 0.8 in all rows, right of the base model's 0.76; DPO left of imitation, lowest and widest spread on the skewed and the balanced file." alt_zh="三行：全部、短的赢家丢了、平衡之后。左图是写三个数的比例：DPO 依次在 0.36、0.63、0.38，模仿在 0.31、0.35、0.24，都靠近各自的理论终点，只有挑过的文件上的 DPO 离终点 0.87 还远。右图是 J：模仿三行都约 0.8，在基座模型的 0.76 右边；DPO 都在模仿左边，挑过的和平衡的两份文件上最低，也最分散。"
@picture
def lost_winners(say):
    files = ("all", "skewed", "balanced")
    rows = say(
        "all pairs|shorter\nwinners lost|balanced\nagain",
        "全部|短的赢家\n丢了|再平衡",
    )
    panels = two_panels(say, "length", files, ("style", "J"), rows, length_ends)
    panels[0].set_xlim(0, 1.02)


# %% [markdown] lang="en"
# **Figure 10.3.** A file from which shorter winners were lost teaches DPO length (left) and costs $J$ (right). Balancing takes the length out again. Imitation hardly notices.

# %% [markdown] lang="zh"
# **图 10.3** 丢了短赢家的文件，教 DPO 写长的（左），还赔上 $J$（右）。平衡之后，长度的影响就没了。模仿几乎不受影响。

# %% tags=["proof"] checked_en="Checked in every seed: what the skewed file does to style and to J, what balancing mends, and imitation ahead of DPO on each file." checked_zh="已对每个种子验证：挑过的文件怎样改变风格和 J，平衡补回了什么，每份文件上模仿都领先于 DPO。"
# concluded of the lost winners
length = runs["length"]
assert arms.beats(length, "skewed dpo", "all dpo", "style", by=0.15)
assert arms.beats(length, "skewed dpo", "balanced dpo", "style", by=0.15)
back = arms.gaps(length, "balanced dpo", "all dpo", "style").values()
assert max(map(abs, back)) < 0.05
assert arms.beats(length, "all dpo", "skewed dpo")
assert arms.beats(length, "base", "skewed dpo")
cured = arms.gaps(length, "balanced dpo", "skewed dpo").values()
assert sorted(gap > 0 for gap in cured) == [False, True, True]  # undecided
for name in ("all", "skewed", "balanced"):
    assert arms.beats(length, f"{name} sft", f"{name} dpo")
    assert arms.beats(length, f"{name} sft", "base")

# %% [markdown] lang="en"
# The skewed file makes DPO's answers longer and costs $J$, down to below the base model. Balancing brings the length back in every seed, and $J$ in two of three; in the third, probability leaked. Imitation of the same files is ahead each time.
#
# All this holds for two lengths. With three, such a filter matches no reward at all (⋆ Three lengths, below). So count the longer winners in every file, length by length.

# %% [markdown] lang="zh"
# 挑过的文件让 DPO 的回答变长，还赔上 $J$，跌到了基座模型以下。平衡之后，每个种子的长度都回到原样；$J$ 只在两个种子上回升，第三个种子的概率又漏了出去。同样的文件，模仿每次都领先。
#
# 以上说的是两种长度。若有三种，这样的筛子就对应不上任何奖励（见后面的「⋆ 三种长度」）。所以，每份文件都一种长度对一种长度地数一数长的赢了多少。

# %% [markdown] lang="en"
# ## How many pairs, how many times
# The reward is now exactness plus style; labels are sampled, $\beta=0.25$. Three sizes of file get the same 100 updates: 6,400 pairs once, 1,600 four times, 400 sixteen times. Beside them the small files seen once only, which is 25 and 6 updates.
#
# > **Before you run it.** 400 pairs: sixteen times, or once, in six updates? And what will the training accuracy say?
#
# <details><summary>Answer</summary>
#
# Once. After sixteen times the model is worse than before, and its training accuracy is the highest of all.
#
# </details>

# %% [markdown] lang="zh"
# ## 多少对，过几遍
# 答案正确和风格都给奖励，采样标签，$\beta=0.25$。三种大小的文件，都更新 100 步：6,400 对过一遍，1,600 对过四遍，400 对过十六遍。两份小文件另外各做一次只过一遍的：25 步和 6 步。
#
# > **先猜一猜。** 400 对，过十六遍好，还是只过一遍、更新六步好？训练准确率又会怎么说？
#
# <details><summary>答案</summary>
#
# 过一遍好。过十六遍，模型比训练前还差，训练准确率却是所有做法里最高的。
#
# </details>

# %%
recipe = []  # chapter 9's, measured on 2,000 other prompts
for entry in json.loads(Path("data/seeds.json").read_text(encoding="utf-8"))["seeds"]:
    value = {name: estimate["value"] for name, estimate in entry["dpo"].items()}
    worth = {"value": value["style"] + value["exact"] - 0.25 * value["kl"]}
    recipe += [{"name": "96000 dpo", "seed": entry["seed"], **entry["dpo"], "J": worth}]
amount = runs["amount"] + recipe
arms.show(arms.table(amount, None, MEASURES))
wanted = class_problem(task, "style+exact")
goals = {
    "dpo": end("amount", tabular.optimal_policy(wanted, 0.25))["J"],
    "sft": end("amount", winners(wanted.reward))["J"],
}
print("ends", {name: round(goal, 2) for name, goal in goals.items()})
learnt = {
    size: [run["accuracy"] for run in amount if run["name"] == f"{size} dpo"]
    for size in (6400, 1600, 400)
}
print("training accuracy", {size: f"{np.mean(a):.2f}" for size, a in learnt.items()})

# %% tags=["figure"]
last = {
    "dpo": "6400 dpo",
    "once dpo": "6400 dpo",
    "sft": "6400 sft",
    "once sft": "6400 sft",
}
ways = {
    way: [reached("amount", arm) for arm in (f"400 {way}", f"1600 {way}", last[way])]
    for way in last
}


# %% tags=["figure"]
def levels_of_j(axes, say):
    """Chapter 9's recipe, the ends and the base model, named on the picture."""
    best = [run["J"]["value"] for run in recipe]
    found = Estimate(sum(best) / len(best), min(best), max(best))
    points(axes, [96_000], [found], "policy", marker="o")
    note = say("DPO,\nchapter 9's recipe", "DPO，\n第 9 章的配方")
    axes.text(120_000, found.value - 0.05, note, fontsize=10, ha="right", va="top")
    start = reached("amount", "base").value
    lines = {
        say("DPO ends here", "DPO 的终点"): (goals["dpo"], "theory", "-"),
        say("imitation ends here", "模仿的终点"): (goals["sft"], "theory", "-"),
        say("base model", "基座模型"): (start, "ref", ":"),
    }
    for word, (height, color, line) in lines.items():
        axes.axhline(height, color=COLORS[color], linestyle=line)
        axes.text(9_500, height + 0.015, word, fontsize=10)
    axes.set(xscale="log", xlim=(300, 130_000))
    axes.set_xticks([400, 1600, 6400, 96_000], ["400", "1,600", "6,400", "96,000"])
    axes.minorticks_off()


# %% tags=["figure"] alt_en="J against the number of pairs, 400, 1,600, 6,400 and 96,000. A dotted line marks the base model at 1.08, two lines the ends: imitation's at 1.21, DPO's at 1.64. Imitation at 100 updates runs level from 1.16 to 1.21. DPO seen once rises from 1.11 over 1.20, then falls at 6,400 to 0.90 with a long bar; DPO at 100 updates lies near 0.9 to 1.0 throughout. At 96,000 pairs the recipe of chapter 9 stands at 1.58, near DPO's end." alt_zh="J 随偏好对数的变化，横轴是 400、1,600、6,400、96,000。点线是基座模型，1.08；两条横线是终点：模仿的 1.21，DPO 的 1.64。更新 100 步的模仿从 1.16 平缓升到 1.21。只过一遍的 DPO 先从 1.11 升到 1.20，到 6,400 对时跌到 0.90，竖线很长；更新 100 步的 DPO 一直在 0.9 到 1.0 之间。96,000 对处，第 9 章的配方在 1.58，离 DPO 的终点不远。"
@picture
def how_many(say):
    _, axes = figure(width=6.0, height=4.2)
    words = say(
        "DPO, 100 updates|DPO, once through|imitation, 100 updates|imitation, once",
        "DPO，100 步|DPO，只过一遍|模仿，100 步|模仿，只过一遍",
    )
    looks = ("policy", "o"), ("policy", "D"), ("baseline", "s"), ("baseline", "^")
    for (way, found), (color, marker), word in zip(
        ways.items(), looks, words.split("|")
    ):
        shift = {"dpo": 0.94, "sft": 1.06}.get(way, 1)  # side by side
        places = [400 * shift, 1600 * shift, 6400 * (0.94 if "dpo" in way else 1.06)]
        means = [estimate.value for estimate in found]
        line = "--" if way.startswith("once") else "-"
        axes.plot(places, means, line, color=COLORS[color], linewidth=1)
        own = 2 if way.startswith("once") else 3  # the largest file: one run for both
        points(axes, places[:own], found[:own], color, marker=marker, label=word)
    levels_of_j(axes, say)
    axes.set_xlabel(say("preference pairs in the file", "文件里的偏好对数"))
    axes.set(ylabel=say("objective  $J$", "目标  $J$"), ylim=(0.45, 1.75))
    axes.legend(loc="lower right", fontsize=10)


# %% [markdown] lang="en"
# **Figure 10.4.** Small files are better seen once than often, and none shows where DPO ends. (6,400 pairs once are 100 updates.)

# %% [markdown] lang="zh"
# **图 10.4** 小文件看一遍比看许多遍好；DPO 的终点在哪里，它们都显示不出来。（6,400 对只过一遍，就是 100 步。）

# %% tags=["proof"] checked_en="Checked in every seed: who is ahead at each size of file and number of updates, and the order of the training accuracies." checked_zh="已对每个种子验证：每种文件大小和步数下谁领先，训练准确率怎样排序。"
# concluded of how many pairs, how many times
amount = runs["amount"] + recipe
for one, other in (
    ("6400 sft", "6400 dpo"),
    ("1600 sft", "1600 dpo"),
    ("400 sft", "400 dpo"),
    ("1600 once dpo", "1600 dpo"),
    ("400 once dpo", "400 dpo"),
    ("1600 once dpo", "1600 once sft"),
    ("6400 sft", "400 sft"),
    ("base", "400 dpo"),
    ("96000 dpo", "6400 sft"),
):
    assert arms.beats(amount, one, other), (one, other)
few, some, many = (learnt[size] for size in (400, 1600, 6400))
assert max(many) < min(some) and max(some) < min(few)
assert [f"{np.mean(a):.2f}" for a in (many, some, few)] == ["0.62", "0.68", "0.79"]
for one, other in (("1600 dpo", "1600 once dpo"), ("400 dpo", "400 once dpo")):
    assert arms.beats(amount, one, other, "style")  # what more updates buy
    assert arms.beats(amount, one, other, "new")  # and what they let in
assert [f"{goals[name]:.2f}" for name in ("dpo", "sft")] == ["1.64", "1.21"]
assert near("amount", "6400 sft", "J", "1.20")
assert 1.55 < np.mean([run["J"]["value"] for run in recipe]) < 1.6

# %% [markdown] lang="en"
# With as many updates and fewer pairs the training accuracy rises, from 0.62 to 0.79. Labels that come back sixteen times are learnt by heart, the unlucky ones too. With 400 pairs DPO ends below its base model.
#
# What matters more is the number of updates. Each small file does better seen once than often, for further updates buy style and let in mistakes that no author makes. After 25 updates DPO is *ahead* of imitation of the same pairs; after 100 it is behind, on each of the three files.
#
# That is no verdict on the loss. Imitation has arrived, at 1.20 of 1.21. DPO's end is 1.64, and chapter 9's recipe, with fifteen times the pairs and some remedies, comes near it. A short file is a reason to imitate, or to stop early. Nor let the training accuracy set the number of epochs: sample as you train, and stop when what you care for begins to fall.

# %% [markdown] lang="zh"
# 步数相同，偏好对越少，训练准确率越高，从 0.62 到 0.79。标签来上十六遍，就背下来了，运气不好标反的也背。只有 400 对时，DPO 训练完，$J$ 比基座模型还低。
#
# 更要紧的是步数。小文件过一遍，都比过许多遍好；多走的步买来了风格，也放进来没有作者会犯的错。同样的偏好对，更新 25 步，DPO 领先于模仿；更新 100 步，三份文件上全都落后。
#
# 对损失本身，这不算判决。模仿已经到了，终点 1.21，它在 1.20；DPO 的终点是 1.64，第 9 章的配方用上十五倍的偏好对，加上几样补救，就离它不远了。文件短，就宁可模仿，或者早停。过几遍也不要照训练准确率来定：边训练边采样，你本来就在意的东西一开始下降，就停。

# %% [markdown] lang="en"
# ## What preferences cannot teach
# **The first wall is exact.** $\pi^*=\frac1Z\pi_{\mathrm{ref}}\,e^{r/\beta}$: where $\pi_{\mathrm{ref}}$ is zero, so is the optimum, whatever the reward. A network's probabilities are never exactly zero, but they come close. Say we want four numbers. Of 4,000 answers of the base model none has four. So no pair contains one, no label speaks of one, no gradient aims at one.

# %% [markdown] lang="zh"
# ## 偏好教不会的东西
# **第一堵墙是严格的。** $\pi^*=\frac1Z\pi_{\mathrm{ref}}\,e^{r/\beta}$：$\pi_{\mathrm{ref}}$ 为零的地方，奖励再高，最优解也是零。网络给出的概率不会恰好是零，却可以小到等于没有。比方说想要写四个数的回答。基座模型写 4,000 个回答，一个也没有。于是哪个样本对里都没有它，没有哪个标签提到它，也没有哪个梯度冲着它去。

# %% tags=["nbval-ignore-output"]
use_threads()
base = load_pretrained("gen")
own = on_policy_pairs(base, task, 2_000, seed=10)
texts = zip(own.prompt * 2, own.chosen + own.rejected)
numbers = [judge(*text).numbers for text in texts]
print(dict(sorted(Counter(numbers).items())))
assert numbers.count(4) == 0 and len(numbers) == 4_000

# %% [markdown] lang="en"
# **The second wall is a slope**: steep, but it can be climbed. Take a skill that the base model has by halves. Chapter 3's training gets 500 steps in place of 9,000, and authors who never slip: every wrong answer is inability, none is habit. Then come 150 updates of 64 in one learning-rate schedule, on data drawn afresh every 30 (`chapters/data/wall.py`):
#
# - **dpo**: 4,096 prompts, two answers each from the policy of the moment, the checker ranks; the reference moves along every 30 updates. At $\beta=0.1$ and $\beta=1$;
# - **imitation**: the right answers of such pairs alone;
# - **demonstrations**: fresh texts of the authors, the plain continuation of chapter 3.
#
# Each arm has the best of three learning rates, tried on a fourth early model. The yardstick is the share of right answers, at temperature 1 and greedy; the table gives $J$ beside it, at $\beta=0.2$.
#
# > **Before you run it.** Which arm has the most right answers in the end, at temperature 1? And in greedy decoding?
#
# <details><summary>Answer</summary>
#
# At temperature 1: imitation of what the checker passed. Greedy: no arm is ahead of where it began.
#
# </details>

# %% [markdown] lang="zh"
# **第二堵墙是道坡**：陡，但爬得上。找一件基座模型只会一半的事。第 3 章的训练要 9,000 步，这里只给 500 步，作者换成从不失误的；这样，错的都是不会，没有一个是习惯。然后用一次学习率调度更新 150 步，每步 64 条，数据每 30 步重新取（`chapters/data/wall.py`）：
#
# - **dpo**：4,096 个提示，由当时的策略各答两次，判分程序排序；参考每 30 步跟着走一次。$\beta=0.1$ 和 $\beta=1$ 各做一遍；
# - **imitation**（模仿）：同样的偏好对，只照着正确的学；
# - **demonstrations**（示范）：作者们新写的文本，就是第 3 章的训练接着做。
#
# 每种做法都在第四个早期模型上试过三个学习率，取最好的。比的是正确率，温度 1 采样的和贪心的都看；表里还列出 $J$，取 $\beta=0.2$。
#
# > **先猜一猜。** 最后，温度 1 采样，哪种做法正确的最多？贪心解码呢？
#
# <details><summary>答案</summary>
#
# 温度 1 采样：照着判分程序认可的回答学。贪心：没有哪一种领先于起点。
#
# </details>

# %%
wall = json.loads(Path("data/wall.json").read_text(encoding="utf-8"))
finals, used = wall["runs"], wall["settings"]
assert (used["early_steps"], used["asked"], used["batch_size"]) == (500, 4_096, 64)
assert (used["rounds"], used["updates"], used["yardstick"][1]) == (5, 30, 0.2)
print({run["name"]: run["rate"] for run in finals}, used["rates"])
arms.show(arms.table(finals, None, ("exact", "greedy", "J", "kl", "style")))
WAYS = ("imitation", "demonstrations", "dpo 1", "dpo 0.1")


def curve(way, metric):
    """What was seen before the first update and after each 30, over the seeds."""
    rows = []
    for seed in used["seeds"]:
        of = {run["name"]: run["looks"] for run in finals if run["seed"] == seed}
        rows.append([look[metric]["value"] for look in of["start"] + of[way]])
    return [Estimate(c.mean(), c.min(), c.max()) for c in np.array(rows).T]


# %% tags=["figure"] alt_en="Two panels over 0 to 150 updates, the share of right answers. Left, at temperature 1, all from 0.28: imitation rises steadily to 0.42; demonstrations rise a little to 0.30; both kinds of DPO dip to about 0.2 and come back. Right, greedy, from 0.72: all but the demonstrations fall steeply at first; imitation and demonstrations end near 0.7, both kinds of DPO below 0.5." alt_zh="左右两幅，横轴是 0 到 150 步，纵轴是正确率。左图温度 1 采样，都从 0.28 出发：模仿稳稳升到 0.42；示范略升，到 0.30；两种 DPO 先降到 0.2 左右又回来。右图贪心，从 0.72 出发：除了示范，起先都猛跌；模仿和示范最后在 0.7 上下，两种 DPO 不到 0.5。"
@picture
def the_slope(say):
    fig, panels = figure(2, width=6.0, height=4.0)
    words = say(
        "imitation of right answers|demonstrations|DPO, β = 1|DPO, β = 0.1",
        "模仿正确回答|示范|DPO，β = 1|DPO，β = 0.1",
    )
    looks = ("baseline", "s"), ("chosen", "D"), ("policy", "o"), ("rejected", "^")
    updates = range(0, 151, 30)
    for axes, metric in zip(panels, ("exact", "greedy")):
        for way, (color, marker), word in zip(WAYS, looks, words.split("|")):
            found = curve(way, metric)
            means = [estimate.value for estimate in found]
            axes.plot(updates, means, color=COLORS[color], linewidth=1)
            points(axes, updates, found, color, marker=marker, label=word)
        axes.set(ylim=(0, 1), xticks=(0, 50, 100, 150))
        axes.set_xlabel(say("updates", "更新步数"))
    panels[0].set(ylabel=say("share of right answers", "正确率"))
    panels[0].set_title(say("at temperature 1", "温度 1 采样"), fontsize=11)
    panels[1].set_title(say("greedy", "贪心解码"), fontsize=11)
    panels[1].set_yticklabels([])
    marks = panels[0].get_legend_handles_labels()
    fig.legend(*marks, loc="outside lower center", ncols=2, fontsize=10)


# %% [markdown] lang="en"
# **Figure 10.5.** An early model goes on learning in four ways. At temperature 1 (left), imitation of checked answers is ahead. Greedy (right), no way is ahead of the start.

# %% [markdown] lang="zh"
# **图 10.5** 早期模型用四种办法接着学。温度 1 采样（左），模仿判分程序认可的回答领先。贪心（右），没有哪一种领先于起点。

# %% tags=["proof"] checked_en="Checked in every seed: which way is ahead of which, at temperature 1, greedy, and by J." checked_zh="已对每个种子验证：温度 1 采样、贪心解码和论 J 时，哪种做法领先于哪种。"
# concluded of the slope
for one, other, metric in (
    ("imitation", "demonstrations", "exact"),
    ("demonstrations", "start", "exact"),
    ("imitation", "dpo 1", "exact"),
    ("start", "dpo 0.1", "exact"),
    ("start", "dpo 0.1", "greedy"),
    ("start", "dpo 1", "greedy"),
    ("demonstrations", "start", "J"),
):
    assert arms.beats(finals, one, other, metric), (one, other, metric)
for way in WAYS:
    assert not arms.beats(finals, way, "start", "greedy")
    assert way == "demonstrations" or not arms.beats(finals, way, "start", "J")
assert not arms.beats(finals, "dpo 1", "start", "exact")
rates = {run["name"]: run["rate"] for run in finals}
at_edge = [way for way in WAYS if rates[way] == used["rates"][0]]  # the lowest tried
assert at_edge == ["demonstrations", "dpo 0.1"]
for way, stated in (
    ("start", "0.28"),
    ("imitation", "0.42"),
    ("demonstrations", "0.30"),
):
    assert f"{arms.arm_mean(finals, way, 'exact').value:.2f}" == stated

# %% [markdown] lang="en"
# At temperature 1, right answers grow from 0.28 to 0.42 by imitating what the checker passed and to 0.30 by demonstrations; DPO is ahead of the start at neither $\beta$. Greedy decoding gets better in no arm. By $J$ only the demonstrations are ahead of the start: they move least. So of these two neither is the surer way; imitation moves more, demonstrations cost less. (Demonstrations and DPO at $\beta=0.1$ took the lowest rate tried; a lower one might serve them better.)
#
# Does such training change *what* the model can write, or *how often*? Ask with **pass@k** ([chapter 4](04_sampling.ipynb), [Chen et al. 2021](https://arxiv.org/abs/2107.03374)): the probability that at least one of $k$ answers is right. For the shipped models, before and after DPO, with right meaning exact *and* three numbers.
#
# > **Before you run it.** One answer of `dpo` is right four times as often as one of `gen`. And one of 64?
#
# <details><summary>Answer</summary>
#
# Equally often, nearly always: what DPO made frequent was there before.
#
# </details>

# %% [markdown] lang="zh"
# 温度 1 采样，照着判分程序认可的学，正确率从 0.28 升到 0.42；示范升到 0.30；DPO 不论哪个 $\beta$，都没有领先于起点。贪心解码，哪一种都没有变好。论 $J$，只有示范领先于起点：它动得最少。可见模仿和示范，谁也谈不上更稳当：前者走得远，后者花费少。（示范和 $\beta=0.1$ 的 DPO，挑中的都是试过的最低的学习率；再低一些，也许更好。）
#
# 这样的训练改变了什么：是模型写得出什么，还是写得有多勤？用 **pass@k** 来问（[第 4 章](04_sampling.ipynb)，[Chen et al. 2021](https://arxiv.org/abs/2107.03374)）：$k$ 个回答里至少一个正确的概率。取随书的两个模型，DPO 之前和之后；「正确」指两样兼得：答案正确，而且写三个数。
#
# > **先猜一猜。** 只写一个回答，`dpo` 命中的次数是 `gen` 的四倍。写上 64 个呢？
#
# <details><summary>答案</summary>
#
# 一样多，几乎次次都有：DPO 让它变得常见，可它原来就在那里。
#
# </details>

# %% tags=["nbval-ignore-output"]
prompts, draws, ks = list(task.prompt_distribution), 64, (1, 2, 4, 8, 16, 32, 64)
of_prompts = np.array(list(task.prompt_distribution.values()))
passed = {}
for name in ("gen", "dpo"):
    answers = generate(load_pretrained(name), prompts * draws, seed=0)
    marks = [judge(*text) for text in zip(prompts * draws, answers)]
    right = np.array([mark.exact and mark.style for mark in marks]).reshape(draws, -1)
    passed[name] = []
    for k in ks:
        misses = [math.comb(draws - c, k) / math.comb(draws, k) for c in right.sum(0)]
        passed[name].append(1 - float(of_prompts @ misses))
    print(name, *(f"pass@{k} {value:.2f}" for k, value in zip(ks, passed[name])))
assert abs(passed["dpo"][0] / passed["gen"][0] - 4) < 0.5
assert passed["gen"][4] > passed["dpo"][0] and passed["gen"][-1] > 0.98
assert abs(passed["dpo"][-1] - passed["gen"][-1]) < 0.02


# %% tags=["figure"] alt_en="The probability that one answer of k is right, over k from 1 to 64. dpo begins at 0.92 and is near 1 from two answers on. gen begins at 0.22, passes 0.9 at 16 answers and meets dpo near 1 at 64." alt_zh="k 个回答里至少一个正确的概率，k 从 1 到 64。dpo 从 0.92 开始，两个回答起就接近 1。gen 从 0.22 开始，16 个回答时超过 0.9，到 64 个时在 1 附近与 dpo 会合。"
@picture
def one_of_many(say):
    _, axes = figure(width=6.0, height=3.4)
    words = {
        "dpo": ("policy", "o", say("after DPO", "DPO 之后"), (1.1, 0.83)),
        "gen": ("ref", "s", say("base model", "基座模型"), (4.4, 0.55)),
    }
    for name, (color, marker, word, place) in words.items():
        axes.plot(ks, passed[name], marker=marker, color=COLORS[color])
        axes.text(*place, word, color=COLORS[color])
    axes.set(xscale="log", ylim=(0, 1.05))
    axes.set_xlabel(say("answers that one may draw, $k$", "可以抽多少个回答，$k$"))
    axes.set_ylabel(say("at least one is right", "至少一个正确的概率"))
    axes.set_xticks(ks, [str(k) for k in ks])
    axes.minorticks_off()


# %% [markdown] lang="en"
# **Figure 10.6.** DPO makes frequent what was rare. Among 64 answers the base model finds what is wanted as surely as `dpo`.

# %% [markdown] lang="zh"
# **图 10.6** DPO 把罕见的变成常见的。写上 64 个，基座模型找到想要的回答，和 `dpo` 一样有把握。

# %% [markdown] lang="en"
# The training **sharpened** a distribution and hardly widened it. [Yue et al. 2025](https://arxiv.org/abs/2504.13837) report the same of reinforcement learning in large models; it is disputed (⋆ Sharper, or narrower?).
#
# **Why a slope?** A pair moves probability between two answers that were drawn. It can say “rather this one” of answers that are there; it cannot say what the sum of two numbers is. Where all draws are wrong there is no label at all. Where the base model has the rule and only follows a bad habit, as in the sections above, that is enough.

# %% [markdown] lang="zh"
# 训练让分布**变尖**了，几乎没有变宽。[Yue et al. 2025](https://arxiv.org/abs/2504.13837) 说，大模型做强化学习也是如此；这件事还有争议（见「⋆ 变尖，还是变窄」）。
#
# **为什么是道坡？** 一个偏好对，只在抽到的两个回答之间搬动概率。已有的回答里，它能说「宁可要这个」；两个数相加得几，它说不出来。抽到的全是错的，就连标签也没有。基座模型若已有规则，只是习惯不好，像前几节那样，这就够了。

# %% [markdown] lang="en"
# ## A small run, live
# The first experiment, reduced: the shipped base model, 4,800 comparisons, a judge who is always right, ties dropped. Imitation differs from DPO in its batch and its step. It has the higher $J$ again:

# %% [markdown] lang="zh"
# ## 现场跑一次
# 把第一个实验缩小，当场再做一遍：随书的基座模型，4,800 次比较，裁判从不出错，丢掉平局。模仿与 DPO，只差在批次和训练步。这一次，$J$ 还是模仿的高：

# %% tags=["nbval-ignore-output"]
soft = on_policy_pairs(base, task, 4_800, reward="style", seed=0)
sure = [row for row, prob in enumerate(soft.preference_prob) if prob > 0.5]
columns = vars(soft.take(sure)) | {"preference_prob": [1.0] * len(sure)}
certain = type(soft)(**columns)
pairs_at = certain.batches(64, seed=0)


def chosen_at(step):
    batch = pairs_at(step)
    return {"input_ids": batch["chosen_ids"], "completion_mask": batch["chosen_mask"]}


live, worth = {}, {"reference": base, "reward": checker(task, "style"), "beta": 0.5}
config = LoopConfig(steps=100, learning_rate=2e-3, optimizer="muon")
for name, batch_at, step in (
    ("sft", chosen_at, sft_step),
    ("dpo", pairs_at, dpo_step(0.5)),
):
    policy = copy.deepcopy(base)
    train(policy, batch_at, step, config, progress=False)
    live[name] = evaluate(policy, task, n=2_000, seed=8, **worth)
    print(name, *(f"{m} {live[name][m]}" for m in ("J", "style", "exact", "kl")))
assert live["sft"]["J"].value > live["dpo"]["J"].value

# %% [markdown] lang="en"
# ## Questions to ask of a data set
# | ask | why | what to do |
# |---|---|---|
# | Who wrote the answers? | Nothing holds what your policy writes and no pair shows | add draws of its own at a high temperature (chapter 9) |
# | Are the winners better than your policy? | If not, imitating them harms; the differences may still help | judge fifty of each side by side |
# | Does the judge doubt? | Deterministic labels under the bare sigmoid have no leash | count how often two raters agree; smooth, stop early, or imitate |
# | What became of ties? | By hand, imitation ended at 0.51 with them, at 1 without | keep them if labels are soft |
# | How do chosen and rejected differ, besides quality? | An imbalance acts like a reward, if its log odds add up | count longer winners, length by length; balance |
# | Are wrong labels wrong fairly? | Fair noise shortens the leash, unfair noise is a taste | relabel a hundred |
# | How many pairs, how many updates? | Labels seen often are learnt by heart; late updates leak | watch fresh answers, not training accuracy |
# | Can the base model do it at all? | What it never writes, no pair contains | sample before training: pass@k |
# | Does imitation of the winners reach it? | Then the rejected side is not needed | run it on the same file |

# %% [markdown] lang="zh"
# ## 拿到一份数据，先问什么
# | 要问的 | 为什么 | 怎么办 |
# |---|---|---|
# | 回答是谁写的？ | 策略会写、偏好对却没有覆盖到的，什么都管不住 | 掺一些它自己升温采样的回答（第 9 章） |
# | 赢家比你的策略写得好吗？ | 不如它，照着学只会变差；其中的差别也许还有用 | 两边各取五十个，并排评一评 |
# | 裁判会犹豫吗？ | 确定性标签配上不加处理的 sigmoid，没有绳子 | 数一数两个人评得一样的有多少；平滑、早停，或者模仿 |
# | 平局去哪了？ | 手算的例子里，留着，模仿的终点是 0.51；丢掉，是 1 | 软标签就留着 |
# | 除了好坏，chosen 和 rejected 还差在哪？ | 一种不平衡，对数几率若能相加，就等于一份奖励 | 一种长度对一种长度地数长的赢了多少；做平衡 |
# | 错标错得公平吗？ | 公平的噪声收短绳子，不公平的就是口味 | 重标一百对 |
# | 多少对，多少步？ | 标签看多了会背下来；步数多了会漏 | 盯新采的回答，别盯训练准确率 |
# | 基座模型到底会不会？ | 它从不写的，哪个偏好对里都没有 | 训练前先采样：pass@k |
# | 光模仿赢家到得了吗？ | 到得了，就用不着 rejected | 拿同一份文件跑一遍 |

# %% [markdown] lang="en"
# > **What the toy hides.** Here a program judges and the population's rates are known. With people the noise is neither known nor fair, and answers differ in a hundred ways at once. Length is only the easiest to measure: [Singhal et al. 2023](https://arxiv.org/abs/2310.03716) find in three settings that longer answers largely drive the reward that RLHF gains. [Tajwar et al. 2024](https://arxiv.org/abs/2404.14367) find that on-policy samples and a “negative gradient” beat offline and maximum-likelihood training in general; in our short runs it was ahead where winners were poor, updates few, or labels noisy (⋆ Noise). All of it is one small network, three seeds, one learning rate, mostly 100 updates: the closed forms carry over, the measured order of the arms need not.

# %% [markdown] lang="zh"
# > **玩具没告诉你的。** 这里由程序来评，作者群体的比例都是已知的。换成人，噪声有多少、公不公平都不知道；回答之间同时有上百种差别，长度只是最好量的一种：[Singhal et al. 2023](https://arxiv.org/abs/2310.03716) 发现，在三种场景里，RLHF 涨的奖励主要来自回答变长。[Tajwar et al. 2024](https://arxiv.org/abs/2404.14367) 发现，一般而言，同策略采样和「负梯度」胜过离线方法和最大似然；在我们这些很短的训练里，负梯度领先的情形有三：赢家不行，步数很少，标签带噪声（见「⋆ 噪声」）。这里只有一个小网络、三个种子，多半更新 100 步，一个学习率；闭式解换个地方照样成立，几种做法谁先谁后就未必了。

# %% [markdown] lang="en"
# > **To remember.** A pair compares what was drawn, under the label that was kept. Work out beforehand what the winners' distribution is, and whether the labels amount to a reward at all. Rejected answers give a further end where labels are drawn, and rescue a file whose winners are poor. Run imitation of the chosen answers on the same file, every time.

# %% [markdown] lang="zh"
# > **记住。** 一个偏好对，比的是抽到的东西，凭的是留下来的标签。赢家的分布是什么，这些标签合起来算不算一份奖励，训练前先弄清楚。标签是抽出来的，rejected 让终点更远；赢家本身不行，rejected 还能救这份文件。每次都拿同一份文件，在旁边跑一遍「照着 chosen 学」。

# %% [markdown] lang="en"
# ## ⋆ Easy and hard negatives
# The rejected answer is also called the **negative**; it is hard if it is difficult to tell from the chosen one. Keep the checker's chosen answers, all of them right, and change only what they are compared with. A **near miss**: the model's own wrong answer, mostly off by ten (these are the checker's pairs). One **far off**: a right answer to another prompt. One **malformed**: the chosen answer without its last number, `27+E`. Imitation sees no difference between the three.
#
# > **Before you run it.** Which of the three makes the policy move furthest from its reference, and does it pay?
#
# <details><summary>Answer</summary>
#
# The near miss, by far; and it is the one that ends below the base model.
#
# </details>

# %% [markdown] lang="zh"
# ## ⋆ 简单负例与困难负例
# rejected 又叫**负例**（negative）；与 chosen 难以分辨的，叫困难负例。chosen 不动，还用判分程序选出的那些，全是正确的；只换同它们比的 rejected。**差一点**：模型自己的错误回答，多半差十（就是判分程序的那些偏好对）。**差很远**：别的提示的正确答案。**格式错误**：把 chosen 的最后一个数去掉，如 `27+E`。对模仿来说三种没有区别。
#
# > **先猜一猜。** 三种里，哪一种让策略离参考最远？走这么远划算吗？
#
# <details><summary>答案</summary>
#
# 差一点的，远远超过另外两种；最后不如基座模型的，也正是它。
#
# </details>


# %% tags=["figure"] alt_en="Four rows. Left, J, right, KL to the base model. A near miss lies at minus 1.0 in J and above 5 in KL. Far off and malformed lie near the base model's 0.76 in J, below 0.5 in KL, malformed with a long bar. Imitation of the chosen answers alone has the highest J, 0.89. A dotted line marks the base model." alt_zh="四行。左图是 J，右图是到基座模型的 KL。差一点的，J 在负 1.0，KL 超过 5。差很远和格式错误的，J 在基座模型的 0.76 附近，KL 不到 0.5，后者的横线较长。只模仿 chosen 的 J 最高，0.89。点线是基座模型。"
@picture
def easy_and_hard(say):
    _, panels = figure(2, width=6.0, height=3.4)
    rows = say(
        "DPO:\na near miss|DPO:\nfar off|DPO:\nmalformed|imitation\nof chosen",
        "DPO：\n差一点|DPO：\n差很远|DPO：\n格式错误|只模仿\nchosen",
    )
    names = ("checker dpo", "far dpo", "malformed dpo", "checker sft")
    for axes, metric in zip(panels, ("J", "kl")):
        for y, arm in enumerate(names):
            place = "source" if arm.startswith("checker") else "negatives"
            look = ("policy", "o") if arm.endswith("dpo") else ("baseline", "s")
            across(axes, y, reached(place, arm, metric), *look)
        axes.set(ylim=(3.5, -0.5), yticks=range(4), yticklabels=[])
    start = reached("source", "base").value
    panels[0].axvline(start, color=COLORS["ref"], linestyle=":")
    note, look = say("base model", "基座模型"), {"ha": "right", "fontsize": 10}
    panels[0].text(start - 0.08, 0.5, note, color=COLORS["ref"], **look)
    panels[0].set_yticklabels(rows.split("|"))
    panels[0].set_xlabel(say("objective  $J$", "目标  $J$"))
    panels[1].set_xlabel(say("KL to the base model", "到基座模型的 KL"))


# %% [markdown] lang="en"
# **Figure 10.7.** The same chosen answers against three kinds of rejected ones, and without any. A near miss moves the policy far, and too far.

# %% [markdown] lang="zh"
# **图 10.7** 同一批 chosen，分别配三种 rejected，另加一行只模仿 chosen。差一点的让策略走得很远，远过了头。

# %%
compared = runs["source"] + [run for run in runs["negatives"] if run["name"] != "base"]
shown = ["checker sft", "far dpo", "malformed dpo", "checker dpo", "base"]
arms.show(arms.table(compared, shown, MEASURES))
verdicts = [
    (judge(prompt, chosen), judge(prompt, rejected))
    for prompt, chosen, rejected in zip(own.prompt, own.chosen, own.rejected)
]
told = [(c, r) for c, r in verdicts if c.exact and not r.exact and r.well_formed]
assert np.mean([abs(c.value - r.value) == 10 for c, r in told]) > 0.95  # off by ten
for one, other in (
    ("checker sft", "far dpo"),
    ("checker sft", "malformed dpo"),
    ("far dpo", "base"),
    ("base", "checker dpo"),
):
    assert arms.beats(compared, one, other), (one, other)
lead = arms.gaps(compared, "malformed dpo", "base").values()
assert min(lead) < 0 < max(lead)  # undecided
for name in ("checker dpo", "far dpo", "malformed dpo"):
    assert min(run["accuracy"] for run in compared if run["name"] == name) > 0.95
for name in ("far dpo", "malformed dpo"):
    assert arms.beats(compared, "checker dpo", name, "kl", by=4)

# %% [markdown] lang="en"
# The training accuracy is above 0.95 for all three and does not tell them apart; the KL does. An easy pair is won cheaply: a sum for another prompt is improbable already, and a little more of that satisfies the loss. So the far answers teach a little and cost little; the malformed ones end on either side of the base model, from seed to seed.
#
# A near miss can be told apart by its value alone. To win it, probability has to be moved between well-formed sums that the base model often writes, and since the labels are deterministic and the loss a bare sigmoid nothing says when it is enough. Hard negatives carry the information *and* the danger: they want a judge who can say how sure he is, a loss with an end, or an early stop. None of the three reaches imitation of the same winners.

# %% [markdown] lang="zh"
# 训练准确率三种都在 0.95 以上，分不出好坏；KL 分得出。简单负例赢得容易：为别的提示写的算式，策略本来就很少写，再少写一点，损失就满意了。所以差很远的教得不多，花费也少；格式错误的，换个种子就从基座模型的一边到了另一边。
#
# 差一点的只能靠值来分。要赢，就得在基座模型常写的、格式正确的回答之间搬动概率，而标签是确定性的，损失又是不加处理的 sigmoid，没有什么告诉它够了。困难负例带来信息，也带来危险：要么裁判说得出有几分把握，要么损失有个尽头，要么早停。同样的赢家，三种都不及模仿。

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
# 同一个公式还翻出另一层意思。裁判若是确定性的，$q=1$，$r_\varepsilon=\log\frac{1-\varepsilon}{\varepsilon}$，是有限的：它本来没有绳子，噪声反倒给了它一根。标签平滑（label smoothing）就是有意这么做。已知错标的比例时，[第 11 章](11_family.ipynb)有两种损失：`cdpo` 把标签平滑，绳子收得更短；`robust` 平均而言抵消翻转的影响。


# %%
def noisy_reward(epsilon, difference=1):
    """What a difference of rewards shrinks to when so many labels are turned round."""
    q = 1 / (1 + math.exp(-difference))
    q = (1 - epsilon) * q + epsilon * (1 - q)
    return math.log(q / (1 - q))


def noisy_optimum(epsilon):
    noisy = tabular.Problem(styles.ref_logps, noisy_reward(epsilon) * styles.reward)
    return tabular.optimal_policy(noisy, 0.5)


print([round(noisy_reward(0.2, difference), 3) for difference in (1, 2)])
assert [round(noisy_reward(0.2, d), 3) for d in (1, 2)] == [0.569, 0.987]
assert round(0.8 * win + 0.2 * (1 - win), 3) == 0.639
LEVELS = {0: ("labels", "sampled"), 0.2: ("noise", "0.2"), 0.4: ("noise", "0.4")}
grid = np.linspace(0, 0.45, 19)
curves = {
    "dpo": [predicted_shares(task, noisy_optimum(e))["style"] for e in grid],
    "sft": [
        predicted_shares(task, winners(noisy_reward(e) * styles.reward))["style"]
        for e in grid
    ],
}


# %% tags=["figure"] alt_en="Share of three-number answers against the share of flipped labels, 0 to 0.45. Two falling curves of theory: DPO's from 0.76 to 0.34, imitation's from 0.40 to 0.31. Imitation's points at 0, 0.2 and 0.4 lie a little above their curve; those of DPO lie below theirs at 0 and 0.2 and on it at 0.4." alt_zh="写三个数的比例随翻转标签占比的变化，从 0 到 0.45。两条下降的理论曲线：DPO 从 0.76 降到 0.34，模仿从 0.40 降到 0.31。模仿在 0、0.2、0.4 的点比曲线略高；DPO 的点在 0 和 0.2 处低于曲线，在 0.4 处落在线上。"
@picture
def turned_round(say):
    _, axes = figure(width=6.0, height=3.6)
    for method, color, marker in (("dpo", "policy", "o"), ("sft", "baseline", "s")):
        axes.plot(grid, curves[method], color=COLORS["theory"])
        arms_of = [(place, f"{level} {method}") for place, level in LEVELS.values()]
        found = [reached(*arm, "style") for arm in arms_of]
        points(axes, [*LEVELS], found, color, marker=marker)
    words = say(
        "where DPO ends|DPO|imitation|where imitation ends",
        "DPO 的终点|DPO|模仿|模仿的终点",
    )
    places = (0.03, 0.76), (0.015, 0.59), (0.015, 0.44), (0.03, 0.34)
    looks = ("theory", "policy", "baseline", "theory")
    for word, place, color in zip(words.split("|"), places, looks):
        axes.text(*place, word, color=COLORS[color], va="center")
    turned = say("share of labels turned round", "翻转的标签占多少")
    axes.set(xlabel=f"{turned}, $\\varepsilon$", ylim=(0.2, 0.9))
    axes.set_ylabel(say("share with three numbers", "写三个数的比例"))


# %% [markdown] lang="en"
# **Figure 10.8.** Style after 100 updates, against the share of labels turned round. The less there is to learn, the sooner it is learnt: with two labels in five turned round DPO has arrived.

# %% [markdown] lang="zh"
# **图 10.8** 更新 100 步之后的风格，随翻转的标签占比而变。路越短，到得越早：五个标签翻了两个，DPO 已经到了终点。

# %%
arms.show(arms.table(runs["noise"], None, MEASURES))
for epsilon in ("0.2", "0.4"):
    assert arms.beats(runs["noise"], f"{epsilon} dpo", f"{epsilon} sft")
    assert arms.beats(runs["noise"], f"{epsilon} sft", "base")
assert abs(curves["dpo"][16] - reached("noise", "0.4 dpo", "style").value) < 0.02
assert curves["dpo"][0] - reached("labels", "sampled dpo", "style").value > 0.1
assert abs(grid[16] - 0.4) < 1e-9
for level in ("0.2", "0.4"):  # shorter ways need less KL
    assert (
        reached("noise", f"{level} dpo", "kl").high
        < reached("labels", "sampled dpo", "kl").low
    )

# %% [markdown] lang="en"
# With labels turned round DPO is ahead of imitation in every seed, by little, and imitation ahead of the base model. With none turned round the seeds had disagreed. The shorter way explains it: DPO's end lies nearer, costs less KL, and is reached sooner, while imitation has next to nothing to imitate.
#
# One caution. This noise is fair: it turns every pair with the same probability. If a judge errs more often in one direction, that is not noise but another taste. The file that lost its shorter winners was one, and nobody had even erred.

# %% [markdown] lang="zh"
# 有标签翻转时，每个种子都是 DPO 领先于模仿，只是领先不多；模仿领先于基座模型。一个也不翻时，种子之间还说法不一。道理在于路短了：DPO 的终点近了，花的 KL 少，到得也早，而模仿几乎没有什么可学。
#
# 有一点要当心。这种噪声是公平的：每一对翻转的概率一样。若裁判老往一个方向错，那就不是噪声，而是另一种口味。丢了短赢家的那份文件就是一种，而且谁也没犯错。

# %% [markdown] lang="en"
# ## ⋆ Three lengths
# The filter that lost three of four shorter winners multiplies the odds of every unequal pair by four: between short and middle, between middle and long, and between short and long. A reward would have to give $\log4$ to each of the two steps, and so $2\log4$ to both together; the file says $\log4$. No Bradley–Terry reward has these odds. What does a loss do that believes in one? It finds the nearest, and which is nearest depends on how often each pair was drawn:

# %% [markdown] lang="zh"
# ## ⋆ 三种长度
# 短的赢了，四对丢三对：凡是长短不一的，这道筛子都把几率乘上四：短与中，中与长，短与长，都是四。若是一份奖励，每一级要给 $\log4$，两级合起来就是 $2\log4$；文件里却只有 $\log4$。没有哪一份 Bradley–Terry 奖励给得出这样的几率。可是损失偏偏假定有这样一份奖励，它会怎么办？它去找最接近的，而谁最接近，要看每一种样本对抽了多少次：


# %%
def fitted(shares, keep):
    """Log odds and rewards of a file with three lengths; its judge likes none."""
    logs = torch.tensor(shares).double().log()
    pairs = tabular.independent_pairs(logs, logs)
    table = tabular.comparisons(torch.zeros(3).double(), pairs) * keep
    fit, _ = tabular.fit_rewards(table)
    return (table / table.T).log(), fit - fit[0]


levels = torch.arange(3)[:, None] - torch.arange(3)  # by how much the winner is longer
filters = {
    "once": torch.where(levels < 0, 0.25, 1.0).double(),
    "each step": 0.25 ** (-levels).clamp(min=0).double(),  # as strict again for two
}
for name, keep in filters.items():
    for shares in ((0.4, 0.4, 0.2), (0.1, 0.8, 0.1), (0.45, 0.1, 0.45)):
        odds, fit = fitted(shares, keep)
        shown = [f"{odds[j, i]:.2f}" for i, j in ((0, 1), (1, 2), (0, 2))]
        print(f"{name:9} {shares}  odds", *shown, " reward", *(f"{r:.2f}" for r in fit))
        additive = abs(odds[2, 0] - odds[1, 0] - odds[2, 1]) < 1e-9
        assert additive == (name == "each step")
        assert math.log(4) < fit[2] < 2 * math.log(4) or name == "each step"

# %% [markdown] lang="en"
# With the filter as it was, the longest answers get a reward between $\log4$ and $2\log4$ that changes with the authors' habits. So what chapter 7 promised, a minimiser that does not depend on who draws the pairs, is lost, and with it the meaning of “the reward of this file”. (A filter that is as strict again for each further step has odds that add up; then there is a reward, and it is $\log4$ a step.) Odds of longer winners are worth counting in every file. They are a reward only if they add up.

# %% [markdown] lang="zh"
# 筛子照原来的样子，最长的回答得到的奖励在 $\log4$ 与 $2\log4$ 之间，随作者们的习惯而变。第 7 章保证过，最小值在哪里与谁来抽无关，这里就保不住了；「这份文件的奖励」也就没了确切的意思。（若每多一级就再严一倍，几率就能相加，奖励也就有了：每一级 $\log4$。）长的赢了多少，每份文件都值得数一数；要能相加，才算得上奖励。

# %% [markdown] lang="en"
# ## ⋆ Again and again
# After a training one can draw fresh pairs from the new policy and train again: iterative DPO ([Xu et al. 2023](https://arxiv.org/abs/2312.16682)). Where the model itself judges, it is self-rewarding ([Yuan et al. 2024](https://arxiv.org/abs/2401.10020)). What it adds up to depends on one choice: whose log-probabilities stand in the loss?
#
# If the **reference moves** with the policy, each round tilts the last round's result once more by $e^{r/\beta}$. After $j$ rounds the factor is $e^{jr/\beta}$: the optimum of a leash $j$ times weaker. (TR-DPO moves it slowly, on purpose: [Gorbatovski et al. 2024](https://arxiv.org/abs/2404.09656).) If the **reference stays** the first model, fresh pairs change who is compared and not where the minimum is. **Imitation**, repeated, squeezes a little more out of each round; it ends only when nothing is left but the best answers that the base model can write. (Rounds of pairs that a checker ranks, with a term of imitation besides, are Iterative RPO: [Pang et al. 2024](https://arxiv.org/abs/2404.19733).)
#
# We reward style with $\beta=1$ and do 60 updates a round, on fresh pairs: soft labels for DPO, sampled ones for imitation. The ends, by the closed forms:
#
# | | round 1 | round 2 | round 3 |
# |---|---|---|---|
# | the reference moves | 0.54 | 0.76 | 0.90 |
# | the reference stays | 0.54 | 0.54 | 0.54 |
# | imitation | 0.40 | 0.51 | 0.62 |

# %% [markdown] lang="zh"
# ## ⋆ 一轮又一轮
# 训练完一次，可以让新策略再写一批，接着训练：迭代 DPO（[Xu et al. 2023](https://arxiv.org/abs/2312.16682)）。由模型自己来评的，叫自我奖励（[Yuan et al. 2024](https://arxiv.org/abs/2401.10020)）。这样下去会怎样，取决于一个选择：损失里用谁的对数概率作参考？
#
# **参考跟着走**：每一轮都在上一轮的结果上再乘一次 $e^{r/\beta}$。$j$ 轮之后是 $e^{jr/\beta}$ 倍，等于绳子松到 $j$ 倍时的最优解。（TR-DPO 有意让它慢慢走：[Gorbatovski et al. 2024](https://arxiv.org/abs/2404.09656)。）**参考不动**，始终是最初的模型：新的偏好对改变的是拿谁来比，最小值的位置不变。**模仿**一轮轮做下去，每轮再挤出一点，直到只剩基座模型写得出的最好的回答。（偏好对由判分程序排序，几轮做下来，再加一项模仿，就是 Iterative RPO：[Pang et al. 2024](https://arxiv.org/abs/2404.19733)。）
#
# 这里奖励风格，$\beta=1$，每轮用新的偏好对更新 60 步：DPO 用软标签，模仿用采样标签。按闭式解，各轮的终点是：
#
# | | 第 1 轮 | 第 2 轮 | 第 3 轮 |
# |---|---|---|---|
# | 参考跟着走 | 0.54 | 0.76 | 0.90 |
# | 参考不动 | 0.54 | 0.54 | 0.54 |
# | 模仿 | 0.40 | 0.51 | 0.62 |

# %%
repeated = [styles.ref_logps]
for _ in range(3):
    pairs_of_round = tabular.independent_pairs(repeated[-1], repeated[-1])
    repeated.append(imitation(tabular.comparisons(styles.reward, pairs_of_round)))
lines = {
    "moved": [predicted_optimum(task, "style", 1 / j)["style"] for j in (1, 2, 3)],
    "fixed": [predicted_optimum(task, "style", 1.0)["style"]] * 3,
    "imitation": [predicted_shares(task, policy)["style"] for policy in repeated[1:]],
}


def by_round(of):
    """Each round as a run of its own, with J at three rounds' leash too."""
    flat = []
    for run in of:
        for j, found in enumerate(run["rounds"], 1):
            far = {"value": found["reward"]["value"] - found["kl"]["value"] / 3}
            named = {"name": f"{run['name']} {j}", "seed": run["seed"], "J3": far}
            flat.append(found | named)
    return flat


rounds = by_round(runs["iterate"])
stated = [["0.54", "0.76", "0.90"], ["0.54"] * 3, ["0.40", "0.51", "0.62"]]
assert [[f"{v:.2f}" for v in line] for line in lines.values()] == stated


# %% tags=["figure"] alt_en="Share of three-number answers after 0 to 3 rounds. Three lines of theory from 0.3: the moving reference rises to 0.90, imitation to 0.62, the fixed reference rises to 0.54 in the first round and stays. Points with bars lie near the lines." alt_zh="0 到 3 轮之后写三个数的比例。三条理论线都从 0.3 出发：参考跟着走的升到 0.90，模仿升到 0.62，参考不动的第一轮升到 0.54，此后不变。带竖线的点靠近各自的线。"
@picture
def three_rounds(say):
    _, axes = figure(width=6.0, height=3.6)
    words = say(
        "reference moves|reference stays|imitation",
        "参考跟着走|参考不动|模仿",
    )
    looks = ("policy", "o", 0.93), ("chosen", "^", 0.54), ("baseline", "s", 0.62)
    for (name, line), (color, marker, y), word in zip(
        lines.items(), looks, words.split("|")
    ):
        axes.plot(range(4), [0.3, *line], color=COLORS["theory"], linewidth=1.2)
        seen = [arms.values(rounds, f"{name} {j}", "style").values() for j in (1, 2, 3)]
        found = [Estimate(sum(v) / len(v), min(v), max(v)) for v in seen]
        points(axes, [1, 2, 3], found, color, marker=marker)
        axes.text(3.1, y, word, color=COLORS[color], va="center")
    note = say("lines: where each\nround ends (theory)", "线：每一轮的\n终点（理论）")
    axes.text(0.25, 0.78, note, color=COLORS["theory"], fontsize=10, linespacing=1.3)
    axes.set(ylim=(0.2, 1), xticks=range(4), xlim=(-0.1, 4.3))
    axes.set_xlabel(say("rounds", "轮数"))
    axes.set_ylabel(say("share with three numbers", "写三个数的比例"))


# %% [markdown] lang="en"
# **Figure 10.9.** Round after round, on fresh pairs. Where the reference moves, the rounds add up; where it stays, one was enough. All nine points lie within 0.04 of their lines.

# %% [markdown] lang="zh"
# **图 10.9** 一轮又一轮，每轮用新的偏好对。参考跟着走，各轮就累加起来；参考不动，一轮便够了。九个点离各自的线都不到 0.04。

# %%
rounds = by_round(runs["iterate"])
last = ["moved 3", "fixed 3", "imitation 3"]
start = [run | {"J3": run["reward"]} for run in runs["labels"] if run["name"] == "base"]
arms.show(
    arms.table(rounds + start, [*last, "base"], ("J", "J3", "kl", "style", "exact"))
)
for name, line in lines.items():
    for j, value in zip((1, 2, 3), line):
        assert abs(arms.arm_mean(rounds, f"{name} {j}", "style").value - value) < 0.04
for j in (1, 2, 3):
    assert arms.beats(rounds, f"fixed {j}", f"imitation {j}")
for other in ("fixed 3", "imitation 3"):
    assert arms.beats(rounds, other, "moved 3")
    assert arms.beats(rounds, "moved 3", other, "J3")
assert arms.beats(rounds + start, "base", "moved 3")

# %% [markdown] lang="en"
# Which is best? It depends on the $\beta$ that you meant. By $J$ at $\beta=1$ the fixed reference is ahead of imitation in each round, and the moving one ends below the base model. By $J$ at $\beta=\frac13$ (column `J3`), the leash that three rounds amount to, the moving reference is ahead of both. Whoever moves the reference has changed the question.

# %% [markdown] lang="zh"
# 哪一种最好？要看你本来想要哪个 $\beta$。按 $\beta=1$ 的 $J$，参考不动的每轮都领先于模仿，跟着走的则跌到基座模型以下。按 $\beta=\frac13$ 的 $J$（`J3` 一栏），也就是三轮合起来的那根绳子，跟着走的领先于另外两种。谁移动了参考，谁就改了题目。

# %% [markdown] lang="en"
# ## ⋆ Sharper, or narrower?
# The early models of the slope were each asked 256 times for every prompt, before and after, so that pass@$k$ can be estimated without bias. The second table counts as right only what is exact *and* has three numbers, which the early model finds hard.

# %% [markdown] lang="zh"
# ## ⋆ 变尖，还是变窄
# 那道坡上的早期模型，训练前后每个提示各问了 256 次，好无偏地估计 pass@$k$。第二张表里，答案正确而且写三个数才算正确，这对早期模型来说很难。

# %%
assert used["draws"] == 256
of_careful = np.array(list(BookTask(slip=0.0).prompt_distribution.values()))
for run in finals:
    for kind in ("exact", "both"):
        counts = [int(count) for count in run["right"][kind].split()]
        for k in (1, 4, 16, 64):
            misses = [math.comb(256 - c, k) / math.comb(256, k) for c in counts]
            run[f"{kind}@{k}"] = {"value": 1 - float(of_careful @ misses)}
for kind in ("exact", "both"):
    arms.show(arms.table(finals, None, [f"{kind}@{k}" for k in (1, 4, 16, 64)]))
assert arms.beats(finals, "imitation", "start", "both@64")
assert arms.beats(finals, "start", "dpo 1", "both@64")
for arm in ("start", "dpo 0.1", "dpo 1", "imitation", "demonstrations"):
    assert min(arms.values(finals, arm, "exact@64").values()) > 0.98

# %% [markdown] lang="en"
# At $k=64$ every arm passes above 0.98, and so does the early model itself: what the arms gain at $k=1$ was in it already. That is sharpening. It need not narrow: with three numbers asked for, imitation is ahead of the start at $k=64$ as well. But it can: there DPO at $\beta=1$ is *behind* the start.
#
# In large models, [Yue et al. 2025](https://arxiv.org/abs/2504.13837) find after reinforcement learning from checked answers that the base model is ahead at large $k$, and that distillation can add what was not there; they note themselves that with $k$ large enough any sampler passes. The matter is disputed: [Team Olmo 2025](https://arxiv.org/abs/2512.13961) report better pass@k after DPO.

# %% [markdown] lang="zh"
# 到了 $k=64$，各种做法都在 0.98 以上，早期模型自己也一样：它们在 $k=1$ 处挣来的，它本来就有。这就是变尖。变尖不一定变窄：若还要求三个数，到 $k=64$ 时模仿仍领先于起点。但也可能变窄：这里 $\beta=1$ 的 DPO 落在起点后面。
#
# 大模型呢？[Yue et al. 2025](https://arxiv.org/abs/2504.13837) 发现，用判分程序做强化学习之后，$k$ 大时反而是基座模型领先；蒸馏则能添进原来没有的东西。他们自己也指出，$k$ 足够大，什么采样器都能碰对。这件事还有争议：[Team Olmo 2025](https://arxiv.org/abs/2512.13961) 报告 DPO 之后 pass@k 变好了。

# %% [markdown] lang="en"
# ## ⋆ Win rates, and what they reward
# Real answers have no checker. What is reported instead is a **win rate**: for each prompt a judge sees the model's answer beside a baseline's, and the share of wins is counted. Judges have habits. Of 2023's models, GPT-4 gave the same verdict after the two answers had changed places in 65 % of hard cases, Claude-v1 in 23.8 %; a list that was only repeated fooled the weaker judges in 91.3 % ([Zheng et al. 2023](https://arxiv.org/abs/2306.05685), tables 2 and 3). Whether a judge favours itself their data could not decide. Their remedy for place: ask twice, in both orders, and count a win only if both agree.
#
# For length there is the **length-controlled win rate** ([Dubois et al. 2024](https://arxiv.org/abs/2404.04475)). “What would the preference be if the model's and baseline's output had the same length?” They “first fit a generalized linear model to predict the biased auto-annotator's preferences based on the mediators we want to control for (length difference) and other relevant features”, and “then obtain length-controlled preferences by predicting preferences while conditioning the GLM with a zero difference in lengths”. In its smallest form that is a logistic regression on a constant and on $\tanh((L-L')/s)$, where $L$ and $L'$ are the lengths of the model's and the baseline's answer and $s$ is the standard deviation of their difference; the controlled win rate is $\sigma$ of the constant.
#
# Ten lines, on the answers of DPO from the skewed file against the base model's, before the judge that this file amounts to: exactness counts 1, length $\log4$. The recording counted 2,000 pairs of answers a seed, by which is longer and which is better.

# %% [markdown] lang="zh"
# ## ⋆ 胜率，以及它奖励什么
# 真实的回答没有判分程序。通常报的是**胜率**（win rate）：每个提示，裁判看模型和基线各一个回答，数一数赢了多少。裁判有裁判的毛病。拿 2023 年的模型来说，两个回答调换位置之后，GPT-4 在难分高下的例子里有 65% 判得一样，Claude-v1 只有 23.8%；回答里的列表只是重复了一遍，较弱的裁判就有 91.3% 的时候上当（[Zheng et al. 2023](https://arxiv.org/abs/2306.05685)，表 2 和表 3）。裁判是否偏爱自己写的回答，他们的数据定不下来。位置的影响，他们这样对付：两种顺序各问一次，两次都赢才算赢。
#
# 对付长度，有**长度受控胜率**（length-controlled win rate，[Dubois et al. 2024](https://arxiv.org/abs/2404.04475)）。问题是：模型和基线的回答若一样长，裁判会偏爱哪个？他们先拟合一个广义线性模型，用长度差等因素去预测有偏的自动裁判的偏好；再让长度差为零，读出模型预测的偏好。最小的形式，就是对一个常数和 $\tanh((L-L')/s)$ 做逻辑回归，$L$ 和 $L'$ 是模型和基线的回答长度，$s$ 是两者之差的标准差；受控胜率就是那个常数的 $\sigma$ 值。
#
# 十行代码，拿用挑过的文件训练出来的 DPO 对基座模型，裁判就是那份文件所相当的那一位：答案正确算 1 分，长度算 $\log4$ 分。实验里每个种子数了 2,000 对回答：谁更长，谁更好。


# %%
def win_rates(counts, right, length):
    """The win rate as judged, and controlled; a judge gives points for both."""
    weight = torch.tensor(counts).double() / np.sum(counts)  # longer .. , better ..
    ahead = torch.tensor([1.0, 0.0, -1.0]).double()
    longer_by = ahead[:, None].expand(3, 3)
    judged = torch.sigmoid(right * ahead + length * longer_by)
    s = ((weight * longer_by**2).sum() - (weight * longer_by).sum() ** 2).sqrt()

    def loss(line):  # of a logistic regression on 1 and tanh(longer_by / s)
        logit = line[0] + line[1] * torch.tanh(longer_by / s)
        fit = judged * F.logsigmoid(logit) + (1 - judged) * F.logsigmoid(-logit)
        return -(weight * fit).sum()

    constant, _ = tabular.minimise(loss, torch.zeros(2).double())
    return (weight * judged).sum().item(), torch.sigmoid(constant).item()


# %%
for run in (run for run in runs["length"] if run["name"] == "skewed dpo"):
    counts = run["against_base"]
    raw, controlled = win_rates(counts, 1.0, math.log(4))
    honest, _ = win_rates(counts, 1.0, 0.0)
    print(
        f"as judged {raw:.2f}  controlled {controlled:.2f}  by exactness {honest:.2f}"
    )
    assert np.sum(counts) == 2_000 and raw > honest + 0.05
    assert abs(controlled - honest) < 0.03
    meant, gone = win_rates(counts, 0.0, 1.0)  # a judge who wants length alone
    print(f"length is all: as judged {meant:.2f}  controlled {gone:.2f}")
    assert meant > 0.55 and abs(gone - 0.5) < 0.01

# %% [markdown] lang="en"
# The judge's own count flatters the policy that writes three numbers; controlled, it is within 0.03 of what a judge says who sees exactness alone. The other lines show the reverse. If the judge *means* length, and length is all that he values, the control takes that away too and leaves a draw. It removes what length predicts, deserved or not.
#
# And a win rate has no leash. A policy can win more by going further from its reference, so methods are compared **at matched KL**: [Tang et al. 2024](https://arxiv.org/abs/2405.08448) find online methods ahead of offline ones “at the same optimization budget of KL divergence against the SFT policy”. [Gao et al. 2023](https://arxiv.org/abs/2210.10760), who plot against KL, warn that it is an inadequate measure across methods: reinforcement learning spends much more of it than best-of-$n$ for the same gain. Here we know $\beta$ and report $J$; where you do not, report both numbers.

# %% [markdown] lang="zh"
# 照裁判自己的数，爱写三个数的策略被抬高了；控制长度之后，与只看对错的裁判所说的，相差不到 0.03。另外几行是反面：裁判若本来就看重长度，而且只看重长度，这一控制也照样抹掉，只剩平局。凡是长度能预测的，应不应得，它都拿走。
#
# 再说，胜率没有绳子。策略离参考越远，越能多赢，所以要在 **KL 相同**的地方比：[Tang et al. 2024](https://arxiv.org/abs/2405.08448) 发现，相对 SFT 策略的 KL 预算相同时，在线方法领先于离线方法。[Gao et al. 2023](https://arxiv.org/abs/2210.10760) 的图以 KL 为横轴，他们却提醒：跨方法比，KL 不是合适的尺度，得到同样的好处，强化学习花的 KL 比 best-of-$n$ 多得多。我们这里知道 $\beta$，报的是 $J$；不知道的时候，两个数都要报。

# %% [markdown] lang="en"
# ## ⋆ From the command line
# `dpo-core make-pairs` makes such files: JSON lines with the columns `prompt`, `chosen`, `rejected`, which TRL reads, and three of ours that it ignores. `dpo-core train-dpo` takes any file with these three columns, ours or somebody else's, and computes the reference log-probabilities where they are missing.
#
# ```text
# dpo-core make-pairs --source population --labels sampled --noise 0.1 --output ours.jsonl
# dpo-core make-pairs --source checker --model gen --output checked.jsonl
# dpo-core train-dpo --model gen --pairs-file checked.jsonl --steps 100
# ```

# %% [markdown] lang="zh"
# ## ⋆ 命令行
# 这样的文件，用 `dpo-core make-pairs` 来做：每行一个 JSON，列名 `prompt`、`chosen`、`rejected`，TRL 能读；另有我们的三列，TRL 不看。`dpo-core train-dpo` 接受任何有这三列的文件，自己做的、别人给的都行；缺了参考对数概率，它会现算。
#
# ```text
# dpo-core make-pairs --source population --labels sampled --noise 0.1 --output ours.jsonl
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
    names = list(json.loads(Path("checked.jsonl").read_text().splitlines()[0]))
print(names, len(checked) < 400)
assert names[:3] == ["prompt", "chosen", "rejected"] and 100 < len(checked) < 400
for prompt, chosen, rejected in zip(checked.prompt, checked.chosen, checked.rejected):
    assert judge(prompt, chosen).exact and not judge(prompt, rejected).exact

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
# 这是人评出来的一个偏好对，原样照录，出自 [hh-rlhf](https://github.com/anthropics/hh-rlhf)（Anthropic，MIT 许可证，`harmless-base/test.jsonl.gz` 第 2052 行；[Bai et al. 2022](https://arxiv.org/abs/2204.05862)，其说明提醒：部分数据有冒犯性）：
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
# 两个回答都错。赢的是长的那个，结尾还断在下一轮的开头。偏好不等于正确，长度会搭车，原始文件的结尾也没有人修整。（那一部分共 2,312 对，长短不一的里面，chosen 更长的占 45%：长度未必偏向赢家。）
#
# | 来源 | 怎么做的 | 要知道的 |
# |---|---|---|
# | 人（[Ouyang et al. 2022](https://arxiv.org/abs/2203.02155)） | 给 4 到 9 个回答排序，丢掉平局 | 两个标注员意见一致的占 72.6% |
# | 人和模型（[Zheng et al. 2023](https://arxiv.org/abs/2306.05685)） | 比较聊天回答 | 不计平局，人与人一致的占 81%，GPT-4 与人一致的占 85% |
# | 一部宪法（[Bai et al. 2022](https://arxiv.org/abs/2212.08073)） | 由模型照着写好的原则来比 | 「AI 反馈强化学习」由此得名 |
# | 模型打的分（[Cui et al. 2023](https://arxiv.org/abs/2310.01377)） | UltraFeedback：64,000 个提示，各 4 个回答，GPT-4 打分 | 有 2,628 个回答起初得了 10 分，其中许多本该是 1 分 |
# | 步骤（[Lightman et al. 2024](https://arxiv.org/abs/2305.20050)） | 过程奖励：解答的每一步都评 | 在 MATH 上，好于只评结果 |
# | 文字（[Zhang et al. 2025](https://arxiv.org/abs/2408.15240)） | 生成式奖励模型：判决就是下一个词元 | 裁判可以先想一想 |
#
# 一致率是头一个要看的数。两个人只有 73% 判得一样，标签就是抽签，不是判决：正是本章的采样标签。若给的是整个名次，用 Plackett–Luce（[Plackett 1975](https://doi.org/10.2307/2346567)）：它之于名次，就像 Bradley–Terry 之于成对比较，先按 softmax 抽出第一，再从余下的里抽第一。Elo 等级分，则是对同一批 Bradley–Terry 分数边比边估；[LMSYS 2023](https://lmsys.org/blog/2023-12-07-leaderboard/) 后来弃了它，改用[第 5 章](05_preferences.ipynb)的最大似然拟合。

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
# 对某个提示，基座模型有 20% 的回答写三个数。Bradley–Terry 裁判给它们 2 分，给别的 0 分。标签是采样的。chosen 写三个数的偏好对占多少？
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
# 一个确定性裁判偏爱三个数；十个标签里有一个是翻过来的，平局留着，抛硬币定。基座模型有 30% 的回答写三个数，$\beta=1$。在 DPO 损失的最小值处，写三个数的占多少？
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
# 写一个 `length_odds(data)`：输入硬标签的 `Pairs`，返回一个字典，键是 `(短, 长)` 两个长度（按字符数），值是长的赢的次数与短的赢的次数之比，取自然对数。一样长的不计；两种长度里若有一方从没赢过，就不列出。在本章那份挑过的文件里，哪几项能说明它不来自任何奖励？
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
#     gap = np.array([len(c) - len(r) for c, r in zip(data.chosen, data.rejected)])
#     groups = gap > 0, gap < 0, gap == 0
#     long, short, equal = (np.flatnonzero(group) for group in groups)
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
#     gap = np.array([len(c) - len(r) for c, r in zip(data.chosen, data.rejected)])
#     groups = gap > 0, gap < 0, gap == 0
#     long, short, equal = (np.flatnonzero(group) for group in groups)
#     size, rng = min(len(long), len(short)), np.random.default_rng(seed)
#     kept = [rng.choice(group, size, replace=False) for group in (long, short)]
#     return data.take(sorted([*kept[0], *kept[1], *equal]))
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 10.5 · Whose curve is it?
# ★★☆ · 10 minutes
#
# Four runs of DPO from this chapter, each after 100 updates, means of three seeds. The base model has style 0.32 and exactness 0.76.
#
# | run | training accuracy | style | exact | KL |
# |---|---|---|---|---|
# | A | 0.99 | 0.94 | 0.61 | 3.02 |
# | B | 0.79 | 0.62 | 0.77 | 1.93 |
# | C | 0.50 | 0.39 | 0.73 | 0.07 |
# | D | 0.68 | 0.63 | 0.87 | 0.63 |
#
# What was done to each file? One of these each: `"no ties"` (a judge who never errs, ties dropped), `"few"` (400 pairs, sixteen times), `"noise"` (two labels in five turned round), `"skewed"` (shorter winners lost; the judge sees exactness alone). Answer with a dictionary from letters to names.
#
# <details><summary>Hint</summary>
#
# Which file can be ordered without a mistake? Which cannot even be learnt by heart in one pass? In which did exactness grow?
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 10.5 · 这是谁的曲线
# ★★☆ · 10 分钟
#
# 本章的四次 DPO，都更新 100 步，取三个种子的平均。基座模型写三个数的占 0.32，正确率 0.76。
#
# | 训练 | 训练准确率 | 写三个数 | 正确率 | KL |
# |---|---|---|---|---|
# | A | 0.99 | 0.94 | 0.61 | 3.02 |
# | B | 0.79 | 0.62 | 0.77 | 1.93 |
# | C | 0.50 | 0.39 | 0.73 | 0.07 |
# | D | 0.68 | 0.63 | 0.87 | 0.63 |
#
# 每份文件被怎样动过？四种，各对一份：`"no ties"`（裁判从不出错，丢掉平局），`"few"`（400 对，过十六遍），`"noise"`（五个标签翻了两个），`"skewed"`（短的赢家丢了；裁判只看对错）。用字典作答，键是字母，值是名称。
#
# <details><summary>提示</summary>
#
# 哪份文件能一对不错地排好？哪份只看一遍，连背都背不下来？哪份训练之后正确率升了？
#
# </details>

# %% tags=["exercise"]
answer_10_5 = ...  # {"A": ..., "B": ..., "C": ..., "D": ...}
check("10.5", answer_10_5)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# A: only a judge who never errs leaves labels that a policy can order almost without a mistake, and then nothing stops it: the KL is the largest. C: with two labels in five turned round there is little to order and little to learn. B and D look alike in style; but in D exactness grew, as only a judge of exactness makes it, at a third of the KL, and in B the accuracy is above what sampled labels allow: learnt by heart.
#
# ```python
# answer_10_5 = {"A": "no ties", "B": "few", "C": "noise", "D": "skewed"}
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# A：只有裁判从不出错，策略才能把偏好对排得几乎一对不错，于是什么都拦不住它，KL 也最大。C：五个标签翻了两个，能排的少，能学的也少。B 和 D 的风格差不多；但 D 的正确率升了，只有看对错的裁判做得到，KL 又只有三分之一；B 的准确率高过采样标签所能有的，是背下来的。
#
# ```python
# answer_10_5 = {"A": "no ties", "B": "few", "C": "noise", "D": "skewed"}
# ```
#
# </details>

# %% tags=["proof"] checked_en="Checked: the table of exercise 10.5 against the stored runs." checked_zh="已验证：练习 10.5 的表与存下的训练一致。"
stated_rows = {
    ("labels", "dropped dpo"): "0.99 0.94 0.61 3.02",
    ("amount", "400 dpo"): "0.79 0.62 0.77 1.93",
    ("noise", "0.4 dpo"): "0.50 0.39 0.73 0.07",
    ("length", "skewed dpo"): "0.68 0.63 0.87 0.63",
}
for (experiment, arm), stated in stated_rows.items():
    ordered = [run["accuracy"] for run in runs[experiment] if run["name"] == arm]
    found = [
        reached(experiment, arm, metric).value for metric in ("style", "exact", "kl")
    ]
    assert " ".join(f"{value:.2f}" for value in [np.mean(ordered), *found]) == stated
assert near("labels", "base", "style", "0.32") and near(
    "labels", "base", "exact", "0.76"
)

# %% [markdown] lang="en"
# ### Exercise 10.6 · Another filter
# ★★☆ · 15 minutes
#
# A judge without any opinion (a coin), and a filter that keeps the share `kept` of the pairs that the shorter answer won. The base model writes the long answer with probability `p`; both answers of a pair are its own. Write `predicted(p, kept, beta)`: the shares of long answers at the ends of DPO and of imitation, as a pair of numbers. Before you run it: with `p = 0.3`, which of the two moves when `beta` goes from 0.5 to 1?
#
# <details><summary>Hint</summary>
#
# DPO: the filter is a reward of $\log\frac1\kappa$ for length. Imitation: of the pairs that are left, in how many is the chosen one long?
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 10.6 · 换一道筛子
# ★★☆ · 15 分钟
#
# 裁判毫无意见（抛硬币），有一道筛子：短的一方赢的，只留下占比 `kept`。基座模型以概率 `p` 写长回答，一对里的两个都由它写。写一个 `predicted(p, kept, beta)`：返回 DPO 和模仿的终点上长回答的比例，两个数。运行之前先猜：`p = 0.3` 时，`beta` 从 0.5 变到 1，哪一个会动？
#
# <details><summary>提示</summary>
#
# DPO：这道筛子等于给长度 $\log\frac1\kappa$ 分奖励。模仿：留下来的偏好对里，chosen 是长的占多少？
#
# </details>


# %% tags=["exercise"]
def predicted(p, kept, beta): ...


check("10.6", predicted)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# Only DPO's moves; imitation knows no $\beta$. Of the pairs, $p^2$ are both long; one of each is drawn with $2p(1-p)$, half of them won by the long one, and of the other half the share `kept` stays.
#
# ```python
# def predicted(p, kept, beta):
#     odds = p / (1 - p) * (1 / kept) ** (1 / beta)
#     long_wins = p**2 + p * (1 - p)
#     short_wins = (1 - p) ** 2 + kept * p * (1 - p)
#     return odds / (1 + odds), long_wins / (long_wins + short_wins)
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 只有 DPO 的会动；模仿里没有 $\beta$。两个都长的样本对占 $p^2$；一长一短的占 $2p(1-p)$，其中一半是长的赢，另一半只留下占比 `kept` 的。
#
# ```python
# def predicted(p, kept, beta):
#     odds = p / (1 - p) * (1 / kept) ** (1 / beta)
#     long_wins = p**2 + p * (1 - p)
#     short_wins = (1 - p) ** 2 + kept * p * (1 - p)
#     return odds / (1 + odds), long_wins / (long_wins + short_wins)
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
