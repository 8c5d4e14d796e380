# %% [markdown] lang="en"
# # Ten minutes of DPO
# > **In this chapter.** You will see what the whole book is about: two models that answer the same question differently, the comparisons that made the difference, the loss that learns from comparisons in six lines of code, and half a minute of training with it. Nothing is derived yet; the map at the end says where each question is answered. You need Python, and to have seen a training loop. 10 minutes to read, 30 seconds to run.
#
# Two models have the same size and the same vocabulary. Both were asked to do one thing: given a number, write an expression that equals it, such as `27+27` for 54. Ask each of them the same three questions, four times.

# %% [markdown] lang="zh"
# # 十分钟看懂 DPO
# > **本章。** 全书讲的事，这里先看一遍：两个模型，同一个问题答得不一样；让它们不一样的，是一堆比较；从比较中学习的损失，六行代码写完；再拿它训练半分钟。这里什么也不推导，最后有一张地图，写着哪个问题在哪一章回答。需要会 Python，见过训练循环。阅读 10 分钟，运行 30 秒。
#
# 两个模型，大小一样，词表也一样，做的是同一件事：给一个数，写一个等于它的算式，比如 54 可以写成 `27+27`。同样的三道题，让它们各答四次。

# %% tags=["setup"]
import copy
import math

import torch
from torch.nn.functional import logsigmoid

from checks import check
from dpo_core import BookTask, generate, judge, load_pretrained, sequence_logps
from dpo_core.evaluation import evaluate
from dpo_core.plotting import COLORS, arrow, box, diagram, figure, picture, points
from dpo_core.preferences import on_policy_pairs
from dpo_core.progress import progress_bar
from dpo_core.steps import dpo_step
from dpo_core.threads import use_threads
from dpo_core.training import default_device

use_threads()
device = default_device()
gen, dpo = (load_pretrained(name).to(device) for name in ("gen", "dpo"))


# %%
def ask(model, prompts, times=4):
    """Print what `model` answers to each prompt: ✓ if it equals the number."""
    asked = [prompt for prompt in prompts for _ in range(times)]
    for i, answer in enumerate(generate(model, asked, seed=1)):
        mark = "✓" if judge(asked[i], answer).exact else "✗"
        start = f"{asked[i]:6}" if i % times == 0 else ""
        end = "\n" if i % times == times - 1 else ""
        print(f"{start}{answer.rstrip('E'):>10} {mark}", end=end)


prompts = ["S54=", "S-12=", "S7="]
print("gen")
ask(gen, prompts)
print("dpo")
ask(dpo, prompts)

# %% [markdown] lang="en"
# `S` starts a question, `=` ends it. The first model, `gen`, learnt from texts by many authors. Most of them use two numbers, some three; now and then one of them slips and is ten out. `gen` does as they do.
#
# The second, `dpo`, is `gen` after one more training. It writes three numbers nearly always, and it is nearly always right. Nobody wrote a single new text for that training. All that it got were comparisons.
#
# <!-- lab: ask -->
#
# ## A preference pair
# Let `gen` answer a prompt twice, and show both answers to a judge who says which is better. The winner is called **chosen**, the other one **rejected**; with their prompt they are a **preference pair**. Our judge has a taste: one point for three numbers, one for the right value. But it judges as people do: a lead of one point wins in 73 % of the comparisons, a lead of two in 88 % (the formula follows), and a tie goes either way. The points stay hidden: what we keep is who won.
#
# The next cell makes 19,200 such pairs and prints the first six. Look for a chosen answer that should have lost.

# %% [markdown] lang="zh"
# `S` 是题目的开头，`=` 是结尾。第一个模型叫 `gen`，它学的是许多作者写的文本：多数人用两个数，有些人用三个；偶尔有人失误，差了十。作者怎么写，`gen` 就怎么写。
#
# 第二个叫 `dpo`，由 `gen` 再训练一轮得来：几乎总写三个数，答案也几乎总是正确。可这一轮没有用一条新写的文本，用的全是比较。
#
# <!-- lab: ask -->
#
# ## 偏好对
# 让 `gen` 对同一个提示答两次，两个回答都交给裁判，由他说哪个更好。赢的叫 **chosen**（被偏好的），输的叫 **rejected**（不被偏好的）；连同提示，合称一个**偏好对**（preference pair）。这位裁判有自己的口味：写三个数得一分，答案正确得一分。不过他像人一样，会看走眼：回答领先一分，赢的概率是 73%；领先两分，是 88%（公式见后）；平局就随便判一个。分数谁也看不到，记下来的只有谁赢了。
#
# 下面做 19,200 个这样的偏好对，打印头六个。找一找，有没有本该输的回答赢了。

# %% tags=["nbval-ignore-output"]
task = BookTask()
pairs = on_policy_pairs(gen, task, 19_200, labels="sampled", seed=0, progress=True)
print(f"{'prompt':8}{'chosen':>10}{'rejected':>10}")
for row in zip(pairs.prompt[:6], pairs.chosen, pairs.rejected):
    print("{:8}{:>10}{:>10}".format(*(text.rstrip("E") for text in row)))
wins = [1 / (1 + math.exp(-lead)) for lead in (1, 2)]  # the two shares above
assert [round(100 * share) for share in wins] == [73, 88]

# %% [markdown] lang="en"
# Not every winner deserved it. That is how such data look.
#
# ## Six lines
# A language model gives a probability to every answer. Take its logarithm before the training and after: the difference is what the answer has **gained**, $\log\pi_\theta(y\mid x)-\log\pi_{\mathrm{ref}}(y\mid x)$. Here $x$ is the prompt, $y$ an answer, $\pi_\theta$ the model in training, the **policy**, and $\pi_{\mathrm{ref}}$ a copy from before, the **reference**.
#
# The idea of Direct Preference Optimization ([Rafailov et al. 2023](https://arxiv.org/abs/2305.18290)) is to make the chosen answer gain more than the rejected one. By how much more it gained, times a number $\beta$, is the pair's **margin**. The loss is
#
# $$-\log\sigma(\text{margin}),\qquad\sigma(z)=\frac{1}{1+e^{-z}}.$$
#
# The function $\sigma$ turns a lead into a probability; the judge's 73 % and 88 % were $\sigma(1)$ and $\sigma(2)$. So the loss is minus the log of the probability that the chosen answer wins: large while the rejected one leads, close to 0 once it is far behind. The larger $\beta$ is, the smaller the lead that suffices.
#
# In the code, `ids` holds prompt and answer, a number for each character; `mask` marks where the answer stands; `logp` adds up the log-probabilities of its characters. Those of the reference were stored with the pairs.

# %% [markdown] lang="zh"
# 赢家未必都赢得公道，这种数据就是这样。
#
# ## 六行
# 每个回答，语言模型都给一个概率。训练前取一次对数，训练后再取一次，差就是这个回答**涨**了多少，写作 $\log\pi_\theta(y\mid x)-\log\pi_{\mathrm{ref}}(y\mid x)$。这里 $x$ 是提示，$y$ 是回答；$\pi_\theta$ 是正在训练的模型，叫**策略**（policy）；$\pi_{\mathrm{ref}}$ 是训练前留的一份副本，叫**参考策略**（reference policy，实践中常叫参考模型）。
#
# 直接偏好优化（Direct Preference Optimization，[Rafailov et al. 2023](https://arxiv.org/abs/2305.18290)）的想法是：让 chosen 比 rejected 涨得多。chosen 多涨的部分，乘上一个数 $\beta$，就是这一对的**间隔**（margin）。损失是
#
# $$-\log\sigma(\text{间隔}),\qquad\sigma(z)=\frac{1}{1+e^{-z}}$$
#
# $\sigma$ 把领先多少换算成概率：前面裁判的 73% 和 88%，就是 $\sigma(1)$ 和 $\sigma(2)$。所以损失就是给「chosen 会赢」的概率取对数，再添个负号：rejected 领先时，损失大；rejected 远远落后了，损失就接近 0。$\beta$ 越大，不用领先多少就够了。
#
# 代码里，`ids` 是提示连同回答，每个字符一个数；`mask` 标出哪一段是回答；`logp` 把这一段各个字符的对数概率加起来。参考策略给的对数概率，早已同偏好对存在一起。


# %%
def logp(model, ids, mask):  # (B, T), (B, T) -> (B,)  one number for each answer
    return sequence_logps(model(ids), ids, mask)


def dpo_loss(policy, pair, beta):
    chosen = logp(policy, pair["chosen_ids"], pair["chosen_mask"])
    rejected = logp(policy, pair["rejected_ids"], pair["rejected_mask"])
    chosen_gain = chosen - pair["ref_chosen_logps"]
    rejected_gain = rejected - pair["ref_rejected_logps"]
    margin = beta * (chosen_gain - rejected_gain)
    return -logsigmoid(margin).mean()


# %% [markdown] lang="en"
# > **Before you run it.** The policy starts as a copy of the reference. What is the loss before the first step?
#
# <details><summary>Answer</summary>
#
# No answer has gained anything yet, so every margin is 0, and $-\log\sigma(0)=\ln 2$, about 0.69, whatever the pairs are. A run that starts elsewhere has a bug.
#
# </details>
#
# The cell computes it twice, by our lines and by the library's.

# %% [markdown] lang="zh"
# > **先猜一猜。** 策略一开始就是参考策略的副本。第一步之前，损失是多少？
#
# <details><summary>答案</summary>
#
# 哪个回答都还没涨，间隔全是 0，而 $-\log\sigma(0)=\ln 2$，约 0.69，与用什么偏好对无关。要是从别的数开始，程序里就有错。
#
# </details>
#
# 下面算两遍：一遍用上面几行，一遍用库里的。

# %%
batch_of = pairs.batches(64, seed=0)  # a step's number -> 64 pairs


def batch(step):
    return {name: tensor.to(device) for name, tensor in batch_of(step).items()}


with torch.no_grad():
    start = dpo_loss(gen, batch(0), beta=0.5)
    total, count = dpo_step(beta=0.5)(gen, batch(0))["loss"]  # the library's own
print(round(start.item(), 3))
assert abs(start.item() - math.log(2)) < 1e-4
assert torch.isclose(start, total / count)

# %% [markdown] lang="en"
# ## Half a minute of training
# Three hundred steps, 64 pairs each, so that every pair is used once. The loop is the usual one. Then we print what the chosen and the rejected answers of 1,024 pairs have gained on average.
#
# > **Before you run it.** The loss pushes the chosen answer up and the rejected one down. Will the chosen answers be more probable afterwards?
#
# <details><summary>Answer</summary>
#
# Look at the two numbers below: the rejected answers fall, and the chosen ones fall as well, only less. The loss asks for a difference, and a difference can also grow that way. Chapters 7 and 9 say why, and when to worry.
#
# </details>

# %% [markdown] lang="zh"
# ## 训练半分钟
# 三百步，每步 64 个偏好对，每个正好用一次。训练循环就是平常那种。练完取 1,024 个偏好对，打印两个数：chosen 平均涨了多少，rejected 平均涨了多少。
#
# > **先猜一猜。** 这个损失把 chosen 往上推，把 rejected 往下压。练完以后，chosen 的概率会更高吗？
#
# <details><summary>答案</summary>
#
# 看下面打印的两个数：rejected 在降，chosen 也在降，只是降得少些。损失要的是差距，而差距这样也能拉开。为什么会这样，什么时候该担心，第 7 章和第 9 章会讲。
#
# </details>

# %% tags=["nbval-ignore-output"]
policy = copy.deepcopy(gen)
optimizer = torch.optim.AdamW(policy.parameters(), lr=3e-4)
for step in progress_bar(range(300), shown=True):
    loss = dpo_loss(policy, batch(step), beta=0.5)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

every = pairs.batches(1024, seed=0)(0)  # 1,024 of the pairs
every = {name: tensor.to(device) for name, tensor in every.items()}
with torch.no_grad():
    gain = {
        side: logp(policy, every[f"{side}_ids"], every[f"{side}_mask"])
        - every[f"ref_{side}_logps"]
        for side in ("chosen", "rejected")
    }
print({side: round(change.mean().item(), 2) for side, change in gain.items()})
assert gain["rejected"].mean() < gain["chosen"].mean() < 0

# %% [markdown] lang="en"
# What does the new policy write? The same questions once more, and then two thousand others, whose answers are counted.
#
# > **Before you run it.** Nobody told the policy what a sum is. Will it be right more often than `gen`?
#
# <details><summary>Answer</summary>
#
# Yes. The right value was worth a point to the judge, so right answers won more often than wrong ones, and that is all the policy was told.
#
# </details>

# %% [markdown] lang="zh"
# 新策略会写出什么？先问同样的三道题，再问两千道别的，把回答数一数。
#
# > **先猜一猜。** 没有人教过策略什么是加法。它答对的时候，会比 `gen` 多吗？
#
# <details><summary>答案</summary>
#
# 会。答案正确，裁判就给一分，所以正确的回答赢得多些。策略知道的只有这些。
#
# </details>

# %% tags=["nbval-ignore-output"]
ask(policy, prompts)
models = {"gen": gen, "half a minute": policy, "dpo": dpo}
counted = {
    name: evaluate(model, task, n=2_000, seed=3) for name, model in models.items()
}
for share in ("style", "exact"):
    assert counted["gen"][share].high < counted["half a minute"][share].low
assert counted["half a minute"]["both"].high < counted["dpo"]["both"].low


# %% tags=["figure"] alt_en="Three groups of points: the share of answers with three numbers, with the right value, and with both. In each group the base model is lowest, the policy after half a minute of training higher, and the shipped dpo model highest, close to one. The first step is largest for three numbers: from about a third to four fifths." alt_zh="三组点：写三个数的回答、答案正确的回答、两样兼得的回答各占多大比例。每一组里，基座模型最低，训练半分钟的策略高一些，随书的 dpo 最高，接近一。头一步跨得最大的是写三个数：从三分之一左右升到五分之四左右。"
@picture
def before_and_after(say):
    fig, axes = figure(height=3.0)
    rows = {
        "gen": (say("gen, before", "gen，训练前"), "ref"),
        "half a minute": (say("after half a minute", "训练半分钟"), "policy"),
        "dpo": (say("dpo, trained longer", "dpo，练得更久"), "chosen"),
    }
    for shift, (name, (label, color)) in enumerate(rows.items()):
        estimates = [counted[name][share] for share in ("style", "exact", "both")]
        points(axes, [k + 0.2 * (shift - 1) for k in range(3)], estimates, color, label)
    names = say(
        ["three numbers", "right value", "both"], ["写三个数", "答案正确", "两样兼得"]
    )
    axes.set_xticks(range(3), names)
    axes.set(ylim=(0, 1.03), ylabel=say("share of the answers", "占回答的比例"))
    axes.legend(loc="lower center", ncols=3, bbox_to_anchor=(0.5, 1.0), fontsize=9)


# %% [markdown] lang="en"
# **Figure 0.1.** Half a minute with comparisons alone: three numbers and right values both become more common. `dpo` had five times as many pairs, and was told how sure the judge was, not only who won. Points with 95 % intervals, of one run.

# %% [markdown] lang="zh"
# **图 0.1** 只凭比较，练半分钟：写三个数的多了，答案正确的也多了。`dpo` 用的偏好对是这里的五倍，而且不只知道谁赢，还知道裁判有多大把握。点带 95% 置信区间，只跑了一次。

# %% [markdown] lang="en"
# ## Two roads
# Before DPO, learning from comparisons took two trainings, not one. First a **reward model** is fitted to the comparisons; then **reinforcement learning** lets the policy write, has the reward model score what it wrote, and pushes the scores up ([Ouyang et al. 2022](https://arxiv.org/abs/2203.02155)). DPO goes from the pairs to the policy in one training. That this is the same problem, solved in another way, is the derivation at the heart of this book.

# %% [markdown] lang="zh"
# ## 两条路
# 在 DPO 之前，要从比较中学习，得分两步走。先拿比较拟合一个**奖励模型**（reward model）；再做**强化学习**（reinforcement learning）：策略写，奖励模型打分，想办法把分数推高（[Ouyang et al. 2022](https://arxiv.org/abs/2203.02155)）。DPO 由偏好对直接训练出策略，一次了事。说到底，两条路解的是同一个问题，只是解法不同；这一点怎么推出来，正是这本书的核心。


# %% tags=["figure"] alt_en="A diagram. Texts lead by supervised fine-tuning to the base model, its answers are compared, and that gives preference pairs. From the pairs two roads lead to the final policy. The upper one passes through a reward model and reinforcement learning, in which the policy writes and is scored again and again. The lower one is a single arrow, DPO." alt_zh="流程图。文本经监督微调得到基座模型，它的回答两两比较，得到偏好对。从偏好对到最终的策略有两条路：上面一条先经过奖励模型，再经过强化学习，其间策略一边写、一边被打分；下面一条只有一个箭头，就是 DPO。"
@picture
def two_roads(say):
    fig, axes = diagram(width=7.2, height=2.5)
    texts = box(axes, 0.5, 0.6, say("texts", "文本"))
    base = box(axes, 2.0, 0.6, say("base model", "基座模型"))
    pairs = box(axes, 4.1, 0.6, say("preference pairs", "偏好对"))
    reward = box(axes, 4.1, 2.0, say("reward model", "奖励模型"))
    policy = box(axes, 6.7, 0.6, say("policy", "策略"))
    arrow(axes, texts, base, "SFT")
    arrow(axes, base, pairs, say("judge", "评判"))
    arrow(axes, pairs, policy, "DPO", COLORS["policy"])
    arrow(axes, pairs, reward, say("fit", "拟合"), COLORS["baseline"], shift=(0.3, 0))
    learning = say(
        "reinforcement learning:\nwrite, score, push", "强化学习：\n写，打分，推高"
    )
    arrow(axes, reward, policy, learning, COLORS["baseline"], shift=(0.85, 0.35))


# %% [markdown] lang="en"
# **Figure 0.2.** Two roads from comparisons to a policy. SFT is supervised fine-tuning: learning to imitate texts.

# %% [markdown] lang="zh"
# **图 0.2** 从比较到策略，有两条路。SFT 是监督微调，也就是照着文本学。

# %% [markdown] lang="en"
# ## The map
# You have seen all of it once. You should have questions.
#
# | You may ask | Chapter |
# |---|---|
# | What are `ids` and `mask`? | [1](01_strings.ipynb) |
# | What happens inside `model(ids)`? | [2](02_llama.ipynb) |
# | Where does `gen` come from, and what does it know? | [3](03_sft.ipynb) |
# | How is an answer drawn, and how far may one trust a share? | [4](04_sampling.ipynb) |
# | The points were hidden. Can they be found again from who won? | [5](05_preferences.ipynb) |
# | Why keep a reference? What is the best that a policy can do? | [6](06_objective.ipynb) |
# | Why these six lines and no others? What does $\beta$ do? | [7](07_derivation.ipynb) |
# | What can go wrong in six lines? | [8](08_tensors.ipynb) |
# | Why did the chosen answers fall? How good is `dpo`? | [9](09_dpo.ipynb) |
# | Would it not do to imitate the winners? Where should pairs come from? | [10](10_data.ipynb) |
# | There are many other losses. Which? | [11](11_family.ipynb) |
# | And the other road? | [12](12_rl.ipynb) |
# | How long does it take for a larger model? | [13](13_fast.ipynb) |
#
# > **What the toy hides.** A vocabulary of 22 characters, answers of about ten, 118,080 parameters (the cell counts them), a judge that is a program. In real work the answers are pages long, the pairs are bought or made by another model, and the policy has billions of parameters. The six lines stay as they are.

# %% [markdown] lang="zh"
# ## 地图
# 从头到尾，你已经看过一遍，想必攒下了一些问题。
#
# | 你可能会问 | 章 |
# |---|---|
# | `ids` 和 `mask` 是什么？ | [1](01_strings.ipynb) |
# | `model(ids)` 里面发生了什么？ | [2](02_llama.ipynb) |
# | `gen` 是怎么来的？它会些什么？ | [3](03_sft.ipynb) |
# | 回答是怎样抽出来的？量到的比例能信几分？ | [4](04_sampling.ipynb) |
# | 分数藏了起来，只看谁赢，能找回来吗？ | [5](05_preferences.ipynb) |
# | 为什么要留参考策略？策略最好能到什么程度？ | [6](06_objective.ipynb) |
# | 为什么偏偏是这六行？$\beta$ 管什么？ | [7](07_derivation.ipynb) |
# | 短短六行，会错在哪里？ | [8](08_tensors.ipynb) |
# | chosen 为什么也降了？`dpo` 到底有多好？ | [9](09_dpo.ipynb) |
# | 只照着赢家学，不行吗？偏好对该从哪里来？ | [10](10_data.ipynb) |
# | 还有许多别的损失，是哪些？ | [11](11_family.ipynb) |
# | 另一条路呢？ | [12](12_rl.ipynb) |
# | 模型大了，要练多久？ | [13](13_fast.ipynb) |
#
# > **玩具没告诉你的。** 词表只有 22 个字符，回答不过十来个字符，参数 118,080 个（下面数给你看），裁判是个程序。真正动手的时候，回答一写就是几页，偏好对要么花钱请人标，要么让别的模型来判，策略有几十亿参数。那六行不用改。

# %%
length = max(len(text) for text in pairs.chosen + pairs.rejected)
print(gen.config.vocab_size, length, sum(p.numel() for p in gen.parameters()))
assert gen.config.vocab_size == 22 and length < 12

# %% [markdown] lang="en"
# > **To remember.** A preference pair says that one answer beat another. DPO makes the winner's log-probability, measured from the reference, gain more than the loser's; the larger $\beta$, the smaller the lead that suffices. At the start the loss is $\ln 2$.

# %% [markdown] lang="zh"
# > **记住。** 一个偏好对说的是：这个回答胜过那个。从参考策略量起，DPO 让赢家的对数概率比输家涨得多；$\beta$ 越大，不用领先多少就够了。一开始，损失是 $\ln 2$。

# %% [markdown] lang="en"
# ## Exercises

# %% [markdown] lang="zh"
# ## 练习

# %% [markdown] lang="en"
# ### Exercise 0.1 · The loss of one pair
# ★☆☆ · 5 minutes
#
# After some steps the policy gives the chosen answer the log-probability $-5$ and the rejected one $-9$. The reference gave them $-4$ and $-6$. With $\beta=0.5$, what is the loss of this pair? Say first whether it is above or below $\ln 2$.
#
# <details><summary>Hint</summary>
#
# What has each answer gained? Both are negative; which one is less so?
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 0.1 · 一个偏好对的损失
# ★☆☆ · 5 分钟
#
# 训练几步以后，策略给 chosen 的对数概率是 $-5$，给 rejected 的是 $-9$；参考策略当初给的是 $-4$ 和 $-6$。设 $\beta=0.5$，这一对的损失是多少？先说它比 $\ln 2$ 大还是小。
#
# <details><summary>提示</summary>
#
# 两个回答各涨了多少？都是负的；哪个负得少些？
#
# </details>

# %% tags=["exercise"]
answer_0_1 = ...  # your answer
check("0.1", answer_0_1)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# The chosen answer has gained $-1$, the rejected one $-3$. The difference is 2, the margin $0.5\cdot 2=1$, the loss $-\log\sigma(1)=0.313$: below $\ln 2$, although both answers have become less probable.
#
# ```python
# answer_0_1 = -math.log(1 / (1 + math.exp(-0.5 * ((-5 - -4) - (-9 - -6)))))
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# chosen 涨了 $-1$，rejected 涨了 $-3$，差是 2，间隔是 $0.5\cdot 2=1$，损失是 $-\log\sigma(1)=0.313$：比 $\ln 2$ 小，尽管两个回答的概率都降了。
#
# ```python
# answer_0_1 = -math.log(1 / (1 + math.exp(-0.5 * ((-5 - -4) - (-9 - -6)))))
# ```
#
# </details>

# %% [markdown] lang="en"
# ## References
# - [Rafailov et al. 2023](https://arxiv.org/abs/2305.18290): DPO.
# - [Ouyang et al. 2022](https://arxiv.org/abs/2203.02155): the road with a reward model and PPO, as it was taken for InstructGPT.

# %% [markdown] lang="zh"
# ## 参考文献
# - [Rafailov et al. 2023](https://arxiv.org/abs/2305.18290)：DPO。
# - [Ouyang et al. 2022](https://arxiv.org/abs/2203.02155)：InstructGPT 走的那条路，奖励模型加 PPO。
