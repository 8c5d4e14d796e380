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
# # 8 From formula to tensors

# %% [markdown] lang="zh"
# # 8 从公式到张量

# %% [markdown] lang="en"
# > **In this chapter.** You will be able to turn the loss of chapter 7 into tensors, to test every step on cases whose answer is known beforehand, to say what a mean in place of a sum does to $\beta$, and to recognise fourteen bugs that train without a message. You need [chapter 1](01_strings.ipynb) (masks), [chapter 3](03_sft.ipynb) (the chain rule) and [chapter 7](07_derivation.ipynb); in its place, the ten lines at the head of [chapter 9](09_dpo.ipynb) will do. 35 minutes to read, and 9 more for the sections marked ⋆; 15 seconds to run.
#
# Chapter 7 ended with a loss of one line. Between that line and a training run stand perhaps thirty lines of code, and hardly any of them can crash. A mask that is off by one, a mean where a sum belongs, a reference that moves: shapes fit, the loss falls, the curves look as curves look. So each step here comes with a test that fails when the step is wrong.

# %% [markdown] lang="zh"
# > **本章。** 读完后，你能把第 7 章的损失写成张量运算，每一步都拿答案已知的例子来测试；能说清求和一旦换成求平均，$\beta$ 会变成什么；还能认出十四种不报错、训练照跑的错误。需要读过[第 1 章](01_strings.ipynb)（掩码）、[第 3 章](03_sft.ipynb)（概率的乘法公式）和[第 7 章](07_derivation.ipynb)；末一项可以换成[第 9 章](09_dpo.ipynb)开头的十行。阅读 35 分钟，带 ⋆ 的几节另需 9 分钟；运行 15 秒。
#
# 第 7 章最后得到一行损失。从这一行到跑起来的训练，中间大约隔着三十行代码，而这三十行写错了，多半也不报错。掩码错一位，该求和的求了平均，参考策略自己在动：形状照样对得上，损失照样下降，曲线也像那么回事。所以这一章每走一步，都配一个测试；这一步错了，测试就通不过。

# %%
import copy
import json
import math
from fractions import Fraction
from pathlib import Path

import torch
from checks import check
from matplotlib.patches import Rectangle
from torch.nn import functional as F

from dpo_core import BookTask, CharTokenizer, Llama, ModelConfig, load_pretrained
from dpo_core import score, sequence_logps, tabular, use_threads
from dpo_core.losses import preference_loss
from dpo_core.model import apply_rope, rope_tables
from dpo_core.plotting import COLORS, INK, figure, picture
from dpo_core.training import default_device

# %% tags=["setup"]
SEED = 0
INSTANCES = 20
generator = torch.Generator().manual_seed(SEED)
use_threads()
tokenizer, device = CharTokenizer(), default_device()
gen = load_pretrained("gen").to(device)


def normal(*shape):
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def any_ids(vocabulary, *shape):
    return torch.randint(vocabulary, shape, generator=generator)


# %% [markdown] lang="en"
# ## The log-probability of an answer
# The loss needs one number of each answer, $\log\pi(y\mid x)$. A network gives logits: at each position, one real number for each token of the vocabulary. Chapter 3 wrote down how the first comes from the second, with $y_t$ for the $t$-th of the answer's $|y|$ tokens:
#
# $$\log\pi(y\mid x)=\sum_{t=1}^{|y|}\log\pi(y_t\mid x,y_{<t})\tag{8.1}.$$
#
# To test code for this sum, build logits whose answer is known. Take a vocabulary of three tokens: `a`, `b` and the end token `E`. The prompt is `ab`, the answer `aE`. Choose the probabilities by hand:
#
# | after reading | `a` | `b` | `E` | and the next token is |
# |---|---|---|---|---|
# | `a` | 1/2 | 1/4 | 1/4 | `b` (prompt) |
# | `ab` | 1/4 | 1/4 | 1/2 | `a`: 1/4 |
# | `aba` | 1/8 | 3/8 | 1/2 | `E`: 1/2 |
# | `abaE` | 1/3 | 1/3 | 1/3 | nothing |
#
# The answer has probability $\frac14\cdot\frac12=\frac18$, so its log-probability is $\log\frac18=-2.079$. As logits take the logarithms of the table, and add to each row a number of our choice: in softmax it cancels.
#
# > **Before you run it.** The tokens stand at positions 0 to 3. At which positions must the code read the log-probabilities of the answer `aE`?
#
# <details><summary>Answer</summary>
#
# At 1 and 2. The row of a position speaks about the *next* token: that of token $t+1$ is read at position $t$. The first token has no row that speaks about it, and the last row speaks about nothing.
#
# </details>
#
# That is **the shift**. The code is five lines, and they are the library's, which adds only checks of the shapes:

# %% [markdown] lang="zh"
# ## 一个回答的对数概率
# 对每个回答，损失只要一个数：$\log\pi(y\mid x)$。网络给的却是 logits：在每个位置上，给词表里的每个词元一个实数。怎样从 logits 算到对数概率，第 3 章写过。记 $y_t$ 为回答的第 $t$ 个词元，回答共 $|y|$ 个词元，那么
#
# $$\log\pi(y\mid x)=\sum_{t=1}^{|y|}\log\pi(y_t\mid x,y_{<t})\tag{8.1}$$
#
# 要测试算这个和的代码，就造一组答案已知的 logits。词表取三个词元：`a`、`b` 和结束词元 `E`。提示是 `ab`，回答是 `aE`。概率由我们来定：
#
# | 读完 | `a` | `b` | `E` | 下一个词元是 |
# |---|---|---|---|---|
# | `a` | 1/2 | 1/4 | 1/4 | `b`（提示） |
# | `ab` | 1/4 | 1/4 | 1/2 | `a`，概率 1/4 |
# | `aba` | 1/8 | 3/8 | 1/2 | `E`，概率 1/2 |
# | `abaE` | 1/3 | 1/3 | 1/3 | 没有了 |
#
# 回答的概率是 $\frac14\cdot\frac12=\frac18$，对数概率是 $\log\frac18=-2.079$。logits 就取表中概率的对数，每一行再各加一个随便选的数：经过 softmax，正好约掉。
#
# > **先猜一猜。** 四个词元站在位置 0 到 3。回答 `aE` 的对数概率，代码该到哪几个位置去读？
#
# <details><summary>答案</summary>
#
# 位置 1 和 2。一个位置上的那行概率，说的是*下一个*词元：词元 $t+1$ 的对数概率，要到位置 $t$ 去读。第一个词元，没有哪一行说到它；最后一行，没有词元可说。
#
# </details>
#
# 这就是**移位**（shift）。代码五行；库里的也是这五行，只多了对形状的检查：

# %% tags=["setup"]
probs = [
    [1 / 2, 1 / 4, 1 / 4],
    [1 / 4, 1 / 4, 1 / 2],
    [1 / 8, 3 / 8, 1 / 2],
    [1 / 3] * 3,
]
added = torch.tensor([[3.0], [-7.0], [0.5], [100.0]])
HAND = (
    torch.tensor([probs], dtype=torch.float64).log() + added,  # logits (1, 4, 3)
    torch.tensor([[0, 1, 0, 2]]),  # ids of a b a E
    torch.tensor([[0, 0, 1, 1]]),  # the answer: a E
)


def logps_of_tokens(logits, ids):
    logps = logits[:, :-1].log_softmax(-1)  # (B, T-1, V): t speaks about t + 1
    return logps.gather(-1, ids[:, 1:, None]).squeeze(-1)  # (B, T-1)


def logps_of_answers(logits, ids, mask):
    counted_logps = logps_of_tokens(logits, ids).masked_fill(mask[:, 1:] == 0, 0.0)
    return counted_logps.sum(-1)  # (B,)


# %%
print(f"{logps_of_answers(*HAND).item():.3f} {math.log(1 / 8):.3f}")
assert abs(logps_of_answers(*HAND).item() - math.log(1 / 8)) < 1e-12
assert torch.equal(logps_of_answers(*HAND), sequence_logps(*HAND))

# %% [markdown] lang="en"
# `gather` picks from each row the entry of the token that really came. `masked_fill` writes 0 where the mask is 0. (Multiplying by the mask would do as long as nothing is infinite; $0\cdot(-\infty)$ is not a number.)
#
# One case by hand is one case. A proof needs the chain rule itself, equation 8.1: 20 random probability tables over all $3^4=81$ strings of four tokens. Adding up gives every conditional probability; fed in as logits, they must return what the table says.

# %% [markdown] lang="zh"
# `gather` 从每一行里挑出一项，就是真正出现的那个词元的对数概率。`masked_fill` 在掩码为 0 处写 0。（不出现无穷大的话，直接乘以掩码也行；可 $0\cdot(-\infty)$ 得 nan，「不是数」。）
#
# 手算的例子，终究只有一个。要证明，得拿乘法公式本身（式 8.1）来对：随机造 20 张概率表，每张列出四个词元能排成的全部 $3^4=81$ 个串。加一加就得到条件概率；当作 logits 喂进去，返回的必须正是表里写的。

# %% tags=["proof"] checked_en="Checked on 20 random tables of 81 strings: the code returns log p(abcd) - log p(ab), and the nine answers to a prompt sum to 1." checked_zh="在 20 张随机的表上验证：每张 81 个串，代码返回 log p(abcd) - log p(ab)；同一个提示的九个回答，概率之和是 1。"
joint = normal(INSTANCES, 81).log_softmax(-1).view(INSTANCES, 3, 3, 3, 3)
p_two, p_three = joint.logsumexp((3, 4)), joint.logsumexp(4)  # of the first tokens
strings = torch.cartesian_prod(*[torch.arange(3)] * 4)  # (81, 4)
a, b, c, d = strings.unbind(1)
at_positions = (
    p_two[:, a],
    p_three[:, a, b],
    joint[:, a, b, c],
    normal(INSTANCES, 81, 3),
)
table_logits = torch.stack(at_positions, dim=2).flatten(0, 1)  # (1620, 4, 3)
table_ids = strings.repeat(INSTANCES, 1)  # (1620, 4)
last_two = torch.tensor([0, 0, 1, 1]).expand(len(table_ids), 4)
by_library = sequence_logps(table_logits, table_ids, last_two)
by_table = joint[:, a, b, c, d] - p_two[:, a, b]
assert (by_library.view(INSTANCES, 81) - by_table).abs().max() < 1e-12
assert (by_library.exp().view(INSTANCES, 9, 9).sum(-1) - 1).abs().max() < 1e-12
by_us = logps_of_answers(table_logits, table_ids, last_two)
assert (by_us - by_library).abs().max() < 1e-12

# %% [markdown] lang="en"
# ## Which tokens count
# Here is a real row: a prompt and an answer of the book's task, padded to the length of a longer neighbour. The **loss mask** marks the tokens of the answer, `E` among them. It belongs to the tokens; when the log-probabilities are shifted, the mask is shifted with them, once.

# %% [markdown] lang="zh"
# ## 哪些词元计入
# 下面是真实的一行：本书任务里的一个提示和一个回答，填充到和旁边更长的一行等长。**损失掩码**（loss mask）标出回答的词元，包括 `E`。掩码是给词元标的；对数概率移了位，掩码就跟着移一次，只移一次。

# %% tags=["setup"]
row_ids, row_marks = tokenizer.collate(["S54="] * 2, ["27+27E", "27+27-0E"])

# %%
with torch.no_grad():
    row_logits = gen(row_ids.to(device))
surprise = -logps_of_tokens(row_logits, row_ids.to(device))[0].cpu()
text = tokenizer.decode(row_ids[0])
marked = "".join(letter for letter, mark in zip(text, row_marks[0]) if mark)
print(text, marked, *(f"{value:.1f}" for value in surprise[3:9]))
assert (text, marked) == ("S54=27+27EPP", "27+27E")
by_eye = torch.tensor([1.5, 2.3, 0.0, 0.4, 0.2, 0.0])
assert (surprise[3:9] - by_eye).abs().max() < 0.05


# %% tags=["figure"]
def strip(axes, text, marks, y, shift=0):
    """A row of tokens as cells at height y: green where marked, grey elsewhere."""
    for t, letter in enumerate(text):
        at, padding = t - shift, letter == "P"
        color = COLORS["chosen"] if marks[t] else COLORS["ref"]
        ground, ink = ("none", INK) if padding else (color, "white")
        if at >= 0:
            box = Rectangle((at, y), 1, 0.8, facecolor=ground, edgecolor=INK)
            axes.add_patch(box)
            place = {"ha": "center", "va": "center", "family": "monospace"}
            axes.text(at + 0.5, y + 0.4, letter, color=ink, **place)


# %% tags=["figure"] alt_en="Two strips of cells above an axis of positions 0 to 11. The upper strip holds the row S54=27+27EPP. The lower strip holds its labels, the same row moved left by one. A line leads from each token down to the left, to the label cell under the position before it. The labels 5, 4 and = are grey; 2, 7, +, 2, 7 and E are green; the padding has no colour. Bars below the green labels give their surprise: 1.5, 2.3, 0.0, 0.4, 0.2 and 0.0." alt_zh="横轴是位置 0 到 11，上方有两排方格。上排是整行 S54=27+27EPP。下排是标签，即同一行左移一格。每个词元有一条线引向左下方，连到前一个位置的标签格。标签 5、4、= 是灰色；2、7、+、2、7、E 是绿色；填充的格子不上色。绿色标签下的柱子是各自的惊讶：1.5、2.3、0.0、0.4、0.2、0.0。"
@picture
def row_and_labels(say):
    _, axes = figure(width=7.4, height=3.2)
    strip(axes, text, [False] * len(text), 1.5)
    strip(axes, text, row_marks[0], 0.0, shift=1)
    for t in range(1, 10):
        axes.plot([t + 0.5, t - 0.5], [1.5, 0.8], color=INK, linewidth=0.8)
    for t in range(3, 9):
        depth = -surprise[t].item() / 3
        axes.bar(t + 0.5, depth, 0.8, bottom=-0.1, color=COLORS["policy"])
        number = f"{surprise[t]:.1f}"
        axes.text(t + 0.5, depth - 0.25, number, ha="center", va="top", color=INK)
    axes.set(xlim=(-0.1, 12.1), ylim=(-1.5, 2.4), xlabel=say("position", "位置"))
    axes.set_xticks([t + 0.5 for t in range(12)], range(12))
    names = (
        say("as read", "读入"),
        say("labels (green\nare counted)", "标签\n（绿的计入）"),
        say("surprise\n(nats)", "惊讶\n（奈特）"),
    )
    axes.set_yticks([1.9, 0.4, -0.5], names)
    axes.grid(False)


# %% [markdown] lang="en"
# **Figure 8.1.** The mask on a real row: each position predicts the token to its right (lines). Grey labels, those of the prompt, do not count. Green: the six that do, from the answer's first token, predicted at the `=` of the prompt, to `E`. Blue: the surprise of `gen`, the base model of chapter 3, at each (the field says *self-information*), in nats; their sum is $-\log\pi(y\mid x)$.

# %% [markdown] lang="zh"
# **图 8.1** 掩码落在真实的一行上：每个位置预测它右边的词元（连线）。灰色标签属于提示，不计入。绿：计入的六个，从回答的第一个词元（在提示的 `=` 那里预测）到 `E`。蓝：`gen`（第 3 章的基座模型）对这六个标签各有多惊讶（术语叫**自信息**，self-information），单位奈特；加起来就是 $-\log\pi(y\mid x)$。

# %% [markdown] lang="en"
# **The prompt is not counted,** because $\pi(y\mid x)$ is a probability *given* the prompt. What if it is counted by mistake?
#
# > **Before you run it.** A trainer counts the whole prompt, in both answers of each pair and in both models. Does it train another policy?
#
# <details><summary>Answer</summary>
#
# No. Both answers follow the same prompt, so its terms cancel in the margin: no loss and no gradient changes. Only the logged log-probabilities are spoilt.
#
# </details>
#
# A prompt that is counted on one side, or in different amounts, does not cancel. Chapter 9 meets one such mask, and the museum below another.

# %% [markdown] lang="zh"
# **提示不计入**，因为 $\pi(y\mid x)$ 是*给定*提示之后的概率。误把它算进去会怎样？
#
# > **先猜一猜。** 有份训练代码把提示完整地算了进去，每个偏好对的两个回答都算，两个模型都算。训练出来的策略会不同吗？
#
# <details><summary>答案</summary>
#
# 不会。两个回答接在同一个提示后面，提示的那几项在间隔里抵消：损失不变，梯度也不变。只是日志里的对数概率不对了。
#
# </details>
#
# 可要是只有一边算了提示，或者两边算得不一样多，就抵消不掉。第 9 章有一个这样的掩码，下面的博物馆里还有一个。

# %% tags=["proof"] checked_en="Checked on 20 random pairs: the prompt cancels in the margin and gets no gradient; the logged log-ratios change." checked_zh="在 20 个随机样本对上验证：提示在间隔里抵消，也得不到梯度；日志里的对数比变了。"
T, V, n = 9, 5, 4  # positions, vocabulary, tokens of the prompt
prompt = any_ids(V, INSTANCES, n)  # one prompt for both answers
pair_ids = torch.cat((prompt.repeat(2, 1), any_ids(V, 2 * INSTANCES, T - n)), dim=1)
so_far = [normal(INSTANCES, n, V).requires_grad_() for _ in range(2)]
policy, ref = (
    torch.cat((x.repeat(2, 1, 1), normal(2 * INSTANCES, T - n, V)), dim=1)
    for x in so_far
)


def differences(begin):
    """m of each pair, and the chosen log-ratios; tokens from `begin` on count."""
    mask = (torch.arange(T) >= begin).expand(2 * INSTANCES, T)
    logps, ref_logps = (sequence_logps(x, pair_ids, mask) for x in (policy, ref))
    chosen, rejected = (logps - ref_logps).chunk(2)
    return chosen - rejected, chosen


assert (differences(n)[0] - differences(1)[0]).abs().max() < 1e-12
assert (differences(n)[1] - differences(1)[1]).abs().min() > 1e-3
(slope,) = torch.autograd.grad(differences(1)[0].sum(), so_far[0])
assert slope[:, :-1].abs().max() < 1e-12

# %% [markdown] lang="en"
# **The end token is counted,** because without it there is no answer yet, only a beginning. The authors of the task answer `S54=` with `27+27E` in 1.17 % of the cases; everything that begins with `27+27` makes up 1.22 %. Drop `E` from the sum, and the code reports the second number for the first. The short answer gets the credit of all that begins like it, and no term of the loss says: here you stop.
#
# One well-known recipe leaves end tokens out on purpose: for Llama 3, [Grattafiori et al. 2024](https://arxiv.org/abs/2407.21783) mask the tokens of the template in both answers, the terminating ones among them, since with these in the loss they saw answers that repeat their tail or break off. Then stopping has to be learnt elsewhere, in SFT. To drop a token knowingly is a method; to drop it unknowingly is a bug.
#
# **Padding is not counted.** It stands where a row has no text, and which rows have it depends on who sits beside them in the batch.

# %% [markdown] lang="zh"
# **结束词元要计入**，因为没有它，就还不是一个回答，只是一个开头。任务的作者们看到 `S54=`，写 `27+27E` 的占 1.17%；凡是以 `27+27` 开头的，一共占 1.22%。求和时丢掉 `E`，代码就把后一个数当成前一个报出来。凡是以它开头的回答，功劳都让这个短回答领了去；损失里又没有哪一项告诉模型：写到这里该停。
#
# 有一份知名的配方，是故意把结束词元排除在外的：训练 Llama 3 时，[Grattafiori et al. 2024](https://arxiv.org/abs/2407.21783) 在两个回答里都遮掉模板的词元，连表示结束的在内；他们看到，这些词元留在损失里，回答会反复重复结尾，或者突然断掉。这样一来，什么时候停，只能在别处（SFT 里）学。明知而丢，是一种方法；不知不觉丢了，就是错误。
#
# **填充不计入。** 填充只是补空位；一行要补多少，全看同一批里还有哪些行。

# %%
table = BookTask().table
weight = {
    y: w
    for x, y, w in zip(table.prompts, table.completions, table.probability)
    if x == "S54="
}
share = {y: w / sum(weight.values()) for y, w in weight.items()}


def begins_with(beginning):
    return sum(p for y, p in share.items() if y.startswith(beginning))


assert len(share) == 1_880 and abs(share["27+27E"] - 0.0117) < 5e-5
assert abs(begins_with("27+27") - 0.0122) < 5e-5
assert abs(sum(share.values()) - 1) < 1e-9
assert abs(sum(begins_with(y[:-1]) for y in share) - 1.03) < 5e-3

# %% [markdown] lang="en"
# ## A row does not notice its batch
# A sequence has one log-probability. It cannot depend on the side of the padding, on its width, on the order of the rows, on the number of rows, or on what the logits say at positions that predict no answer token. These are five tests, and they need no known answer: compute twice, compare.
#
# The sum passes them by construction. A network can break what the sum keeps: attention may look at padding, positions may count it. So the test goes through a network, here a small Llama with random weights in float64, and three answers of 8, 4 and 1 tokens: all in one batch with padding on the right; on the left; in another order; each alone.

# %% [markdown] lang="zh"
# ## 一行不该察觉自己在哪个批次里
# 一个序列只有一个对数概率。有五样东西不该影响它：填充在左还是在右，填充有多宽，各行怎样排，一共几行，以及不预测回答词元的那些位置上 logits 是多少。五样就是五个测试，而且不必知道答案：算两遍，比一比。
#
# 求和这一步，天生通得过。求和守得住的，网络可能守不住：注意力也许会看到填充，位置也许会把填充数进去。所以测试要走一遍网络，这里用一个权重随机的小 Llama，float64，三个回答长 8、4、1 个词元。算四遍：放在一批里，右填充；改成左填充；换个次序；一个一个单独算。

# %% tags=["setup"]
config = ModelConfig(
    hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2
)
prompts, answers = ["S54=", "S-1=", "S7="], ["27+27-0E", "1-2E", "E"]


def batch_logps(model, which, side="right"):
    encoded = [tokenizer.encode(prompts[i] + answers[i]) for i in which]
    of_answer = [[0] * len(prompts[i]) + [1] * len(answers[i]) for i in which]
    ids, real = tokenizer.pad(encoded, side)
    with torch.no_grad():
        return sequence_logps(model(ids, real), ids, tokenizer.pad(of_answer, side)[0])


# %%
model = Llama(config).reset_parameters(SEED).double()
for parameter in model.parameters():
    if parameter.dim() == 2:
        parameter.data.mul_(10)  # far from uniform
together = batch_logps(model, [0, 1, 2])
alone = torch.cat([batch_logps(model, [i]) for i in range(3)])
assert (together - alone).abs().max() < 1e-6  # batch = single
assert (together - batch_logps(model, [0, 1, 2], "left")).abs().max() < 1e-6
assert (together[[2, 0, 1]] - batch_logps(model, [2, 0, 1])).abs().max() < 1e-6

# %% tags=["proof"] checked_en="Checked on 20 random rows: noise at every position that does not matter, another order, another division of the batch, and the sum is the same bit for bit; and 20 random Llamas." checked_zh="在 20 行随机数据上验证：无关的位置换成噪声，换个次序，换个分法，求得的和一个比特也不差；又在 20 个随机的 Llama 上验证：一批算与单个算、左填充与右填充，结果相同。"
marks = torch.zeros(INSTANCES, T, dtype=torch.bool)
for k in range(INSTANCES):
    marks[k, 1 + k % 4 : 6 + k % 4] = True  # answers in different places
speaks = marks.roll(-1, 1)  # the positions that predict an answer token
logits, ids = normal(INSTANCES, T, V), any_ids(V, INSTANCES, T)
noisy_logits = torch.where(speaks[..., None], logits, 50 * normal(INSTANCES, T, V))
noisy_ids = torch.where(marks, ids, any_ids(V, INSTANCES, T))
whole = sequence_logps(logits, ids, marks)
assert torch.equal(whole, sequence_logps(noisy_logits, noisy_ids, marks))
order = torch.randperm(INSTANCES, generator=generator)
assert torch.equal(
    whole[order], sequence_logps(logits[order], ids[order], marks[order])
)
split = [x.tensor_split(2) for x in (logits, ids, marks)]
assert torch.equal(whole, torch.cat([sequence_logps(*part) for part in zip(*split)]))
for seed in range(1, INSTANCES):
    model = Llama(config).reset_parameters(seed).double()
    for parameter in model.parameters():
        parameter.data.mul_(10 if parameter.dim() == 2 else 1)
    together = batch_logps(model, [0, 1, 2])
    alone = torch.cat([batch_logps(model, [i]) for i in range(3)])
    assert (together - alone).abs().max() < 1e-6
    assert (together - batch_logps(model, [0, 1, 2], "left")).abs().max() < 1e-6

# %% [markdown] lang="en"
# ## From four numbers to a loss
# The rest is arithmetic on four numbers a pair. Write $\Delta=\log\pi_\theta-\log\pi_{\mathrm{ref}}$ for the **log-ratio** of an answer and $m$ for the difference of the two. With $q$, the probability that $y_w$ is preferred, the loss of [Rafailov et al. 2023](https://arxiv.org/abs/2305.18290) ($q=1$ there) reads
#
# $$h=\beta\,m=\beta\,(\Delta_w-\Delta_l),\qquad\ell=-q\log\sigma(h)-(1-q)\log\sigma(-h).$$
#
# A case by hand, with $\beta=0.5$ and $q=1$. Let the reference give the two answers -4 and -6, and the policy $2\ln 3-4$ and -6. Then $m=2\ln 3$, $h=\ln 3$, $\sigma(h)=\frac34$, and the loss is $\ln\frac43=0.288$.

# %% [markdown] lang="zh"
# ## 从四个数到损失
# 剩下的只是算术，每个偏好对四个数。记 $\Delta=\log\pi_\theta-\log\pi_{\mathrm{ref}}$，即一个回答的**对数比**（log-ratio），两者之差记作 $m$；$q$ 是 $y_w$ 胜出的概率。[Rafailov et al. 2023](https://arxiv.org/abs/2305.18290) 的损失（那里 $q=1$）就是
#
# $$h=\beta\,m=\beta\,(\Delta_w-\Delta_l),\qquad\ell=-q\log\sigma(h)-(1-q)\log\sigma(-h)$$
#
# 手算一个，取 $\beta=0.5$、$q=1$。参考策略给两个回答的是 -4 和 -6，策略给的是 $2\ln 3-4$ 和 -6。于是 $m=2\ln 3$，$h=\ln 3$，$\sigma(h)=\frac34$，损失是 $\ln\frac43=0.288$。


# %% tags=["setup"]
def loss_of_pairs(
    policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta, q=1.0
):
    m = (policy_chosen - ref_chosen) - (policy_rejected - ref_rejected)  # (B,)
    h = beta * m
    # one loss a pair, no mean yet
    return -q * F.logsigmoid(h) - (1 - q) * F.logsigmoid(-h)


def numbers(*values):
    return [torch.tensor([value], dtype=torch.float64) for value in values]


# %%
by_paper = numbers(2 * math.log(3) - 4, -6, -4, -6)
paper_loss = loss_of_pairs(*by_paper, beta=0.5)
print(f"{paper_loss.item():.3f} {math.log(4 / 3):.3f}")
assert abs(paper_loss.item() - math.log(4 / 3)) < 1e-12
assert f"{math.log(4 / 3):.3f}" == "0.288"
assert abs(preference_loss(*by_paper, beta=0.5)[0] - paper_loss).item() < 1e-12

# %% tags=["proof"] checked_en="Checked on 20 random pairs with soft labels: the library's loss and rewards, and the same loss by way of the odds." checked_zh="在 20 个随机样本对上验证：标签是软的；损失和奖励与库里的一致；换一条路，由几率算，损失相同。"
four, q, beta = 10 * normal(4, INSTANCES), normal(INSTANCES).sigmoid(), 0.3
losses, chosen_rewards, _ = preference_loss(*four, beta=beta, preference_prob=q)
assert (losses - loss_of_pairs(*four, beta, q)).abs().max() < 1e-12
odds = ((four[0] - four[2]) - (four[1] - four[3])).exp() ** beta  # e^h
by_odds = q * (1 + 1 / odds).log() + (1 - q) * (1 + odds).log()
assert (losses - by_odds).abs().max() < 1e-9
assert (chosen_rewards - beta * (four[0] - four[2])).abs().max() < 1e-12

# %% [markdown] lang="en"
# Two implementations that agree may share a mistake. The file `data/loss_cases.json` holds cases worked out on paper like this one, each number beside its closed form: soft labels, label smoothing ($q=1$ replaced by $1-\varepsilon$), five values of $\beta$, a pair whose answers both fall, margins of $\pm 200$; and seven sequences. The tests of the library read the same file. Use it for your own code, in any language.

# %% [markdown] lang="zh"
# 两份实现对得上，也可能犯的是同一个错。文件 `data/loss_cases.json` 里的例子，都像上面这个一样在纸上算好，每个数旁边写着它的闭式：有软标签、标签平滑（label smoothing，把 $q=1$ 换成 $1-\varepsilon$）、五种 $\beta$；有一对，两个回答的概率都下降；有 $\pm 200$ 的间隔；还有七个序列。库的测试读的是同一个文件。你自己的代码，无论用什么语言写，也可以拿它来试。

# %%
cases = json.loads(Path("data/loss_cases.json").read_text(encoding="utf-8"))
logp_names = [
    f"{m}_{a}_logps" for m in ("policy", "ref") for a in ("chosen", "rejected")
]
for case in cases["losses"]:
    given = [t.requires_grad_() for t in numbers(*(case[n][1] for n in logp_names))]
    label = case.get("preference_prob", 1 - case.get("label_smoothing", 0.0))
    loss = loss_of_pairs(*given, case["beta"], label)
    pulls = torch.autograd.grad(loss.sum(), given[:2])
    for value, name in zip((loss, *pulls), ("loss", "grad_chosen", "grad_rejected")):
        expected = case[name][1]
        assert math.isclose(value.item(), expected, rel_tol=1e-9, abs_tol=1e-12)
    print(f"beta {case['beta']:4}  q {label:4}  loss {case['loss'][0]}")
for case in cases["sequences"]:
    rows_of_probs = [[float(Fraction(p)) for p in row] for row in case["probs"]]
    case_logits = torch.tensor([rows_of_probs], dtype=torch.float64).log()
    ids_and_mask = torch.tensor([case["ids"]]), torch.tensor([case["mask"]])
    got = logps_of_answers(case_logits, *ids_and_mask).item()
    assert abs(got - case["logp"][1]) < 1e-12
betas = {case["beta"] for case in cases["losses"]}
assert len(betas) == 5 and len(cases["sequences"]) == 7

# %% [markdown] lang="en"
# ## The first test of any run, and what it cannot see
# A run starts with $\pi_\theta=\pi_{\mathrm{ref}}$. Then $h=0$, and whatever the labels, the lengths and $\beta$, the loss is
#
# $$-q\log\tfrac12-(1-q)\log\tfrac12=\ln 2=0.6931.$$
#
# If the first number that your code prints is another one, stop. Policy and reference are not the same function, or the reduction over the batch is wrong. Suspects: dropout (units switched off at random in training) left on in one pass; other precision; another checkpoint, template or mask when the reference was scored; an extra term in the loss; a logger whose first number is a mean over steps already taken. (A companion: `rewards/accuracies`. Every pair is a tie at step 0. This library counts a tie half and prints 0.5; in TRL 1.16 the comparison is a strict `>`, and it prints 0. Neither is a bug.)
#
# > **Before you run it.** Which of these does the test notice: a mask off by one, a mean in place of the sum, another checkpoint as the reference?
#
# <details><summary>Answer</summary>
#
# The last only. The argument used that the *same* function is applied to both models, not that this function is the log-probability. Any mask, any shift, a mean for a sum: applied to both sides, it gives $\ln 2$.
#
# </details>
#
# So the test says that policy and reference agree, and nothing about whether either is right. That is why the hand-made cases exist.

# %% [markdown] lang="zh"
# ## 训练的头一项检查，以及它看不见的
# 训练开始时 $\pi_\theta=\pi_{\mathrm{ref}}$。于是 $h=0$；无论标签、长度和 $\beta$ 是什么，损失都是
#
# $$-q\log\tfrac12-(1-q)\log\tfrac12=\ln 2=0.6931$$
#
# 如果你的代码打印的第一个数不是它，就停下来。要么策略与参考策略算得不一样，要么批次上的归约（reduction，求和或求平均）写错了。可疑的有：某一遍前向计算忘了关 dropout（训练时随机关掉一部分单元）；两边精度不同；给参考策略打分时用了别的检查点、模板或掩码；损失里多了一项；日志的第一个数，是已经走过的几步的平均。（同时看一眼 `rewards/accuracies`。第 0 步时每一对都是平局。本书的库把平局算半个，打印 0.5；TRL 1.16 用严格的 `>`，打印 0。两者都不算错。）
#
# > **先猜一猜。** 掩码错一位，求和写成求平均，参考策略用了别的检查点：这项检查能发现哪些？
#
# <details><summary>答案</summary>
#
# 只有最后一个。论证靠的是两个模型用*同一个*函数来算；这个函数算的是不是对数概率，它没有问。随便什么掩码，随便怎么移位，把求和换成求平均，只要两边一样，就得 $\ln 2$。
#
# </details>
#
# 所以这项检查只说明策略与参考策略一致；两边是不是都错了，它看不见。前面那些手算的例子，正是为此准备的。

# %% tags=["proof"] checked_en="Checked on 20 random pairs: with any mask, any labels and three values of β the loss is ln 2; another reference shows at once." checked_zh="在 20 个随机样本对上验证：随便什么掩码、什么标签，三个 β，损失都是 ln 2；换一个参考策略，立刻看得出。"
any_mask = torch.rand((2 * INSTANCES, T), generator=generator) < 0.5
any_mask[:, 0] = False
logits, ids = normal(2 * INSTANCES, T, V), any_ids(V, 2 * INSTANCES, T)
same = sequence_logps(logits, ids, any_mask).chunk(2)
labels = normal(INSTANCES).sigmoid()
for beta in (0.05, 1.0, 7.0):
    at_start = loss_of_pairs(*same, *same, beta, labels)
    assert (at_start - math.log(2)).abs().max() < 1e-12
moved = logits + 0.1 * normal(2 * INSTANCES, T, V)
other = sequence_logps(moved, ids, any_mask).chunk(2)
assert (loss_of_pairs(*same, *other, 1.0) - math.log(2)).abs().max() > 1e-2

# %% [markdown] lang="en"
# ## Sum or mean
# Long answers have log-probabilities of hundreds of nats, short ones of ten. It is tempting to divide by the number of tokens, and people ask why DPO does not ([TRL #789](https://github.com/huggingface/trl/issues/789)). Put the mean into the margin, with $|y|$ the number of tokens of an answer:
#
# $$\bar h=\beta\left(\frac{\Delta_w}{|y_w|}-\frac{\Delta_l}{|y_l|}\right).$$
#
# Let both answers have $L$ tokens. Take $1/L$ out of the bracket: $\bar h=\frac{\beta}{L}(\Delta_w-\Delta_l)$. This is DPO with $\beta/L$ in place of $\beta$, exactly. With answers of 200 tokens, $\beta=0.1$ acts as 0.0005: hardly a leash at the end, and on the way a gradient 200 times shorter. (With unequal lengths no single $\beta$ does it, and the optimum is another policy.)
#
# A mean is not forbidden; it is another method, and its $\beta$ is another quantity. SimPO and others choose it on purpose ([chapter 11](11_family.ipynb)). Tülu 3 ([Lambert et al. 2024](https://arxiv.org/abs/2411.15124)) trains DPO with means and $\beta=5$: by the rule above, as $\beta=0.1$ would act on sums for answers of 50 tokens. What must not happen is that one library divides, the other does not, and a $\beta$ is copied from one to the other.

# %% [markdown] lang="zh"
# ## 求和还是求平均
# 长回答的对数概率有几百奈特，短回答只有十来奈特。于是很想除以词元数；DPO 为什么不除，有人问过（[TRL #789](https://github.com/huggingface/trl/issues/789)）。间隔里改用平均，$|y|$ 是回答的词元数：
#
# $$\bar h=\beta\left(\frac{\Delta_w}{|y_w|}-\frac{\Delta_l}{|y_l|}\right)$$
#
# 设两个回答都是 $L$ 个词元。把 $1/L$ 提到括号外：$\bar h=\frac{\beta}{L}(\Delta_w-\Delta_l)$。这就是 DPO，只是 $\beta$ 换成了 $\beta/L$，一点不差。若回答有 200 个词元，$\beta=0.1$ 就相当于 0.0005：到头来绳子几乎没了，训练途中的梯度也只有原来的 200 分之一。（长度不同，换哪个 $\beta$ 都不顶用，最优解成了另一个策略。）
#
# 求平均不是不能用；它是另一种方法，$\beta$ 也是另一个量。SimPO 等方法就是有意选它（[第 11 章](11_family.ipynb)）。Tülu 3（[Lambert et al. 2024](https://arxiv.org/abs/2411.15124)）的 DPO 用平均，取 $\beta=5$：照上面的规则，回答有 50 个词元时，相当于求和时的 $\beta=0.1$。要防的是：一个库除，另一个库不除，却有人把 $\beta$ 从这边抄到那边。

# %%
L, beta = 200, 0.1
four = 10 * normal(4, INSTANCES)
by_mean = loss_of_pairs(*four / L, beta)
assert (by_mean - loss_of_pairs(*four, beta / L)).abs().max() < 1e-12
print(f"{beta / L:g} {5 / 50:g}")
assert abs(beta / L - 0.0005) < 1e-12 and 5 / 50 == 0.1

# %% [markdown] lang="en"
# ## ⋆ Unequal lengths: another policy
# With soft Bradley–Terry labels of a reward $r$ the loss is least where every margin equals the difference of the rewards (chapter 7). With means this asks that $\frac{\beta}{|y|}\Delta(y)$ equals $r(x,y)$ up to one number $c$ for the prompt. Multiply by $|y|/\beta$; then add $\log\pi_{\mathrm{ref}}$ and take the exponential:
#
# $$\Delta(y)=\frac{|y|}{\beta}\bigl(r(x,y)-c\bigr),\qquad\pi(y\mid x)=\pi_{\mathrm{ref}}(y\mid x)\,e^{|y|(r(x,y)-c)/\beta}.$$
#
# The number $c$ is the one for which these probabilities sum to 1. There is exactly one: the sum falls as $c$ grows. For the sum of log-probabilities, $|y|$ is replaced by 1, and $c$ is the soft maximum of chapter 6. So the mean multiplies an answer's distance from $c$ by its length: of two answers whose reward is equally far above $c$ the longer is raised more; equally far below, the longer is lowered more. Where all rewards are equal, nothing moves.
#
# The book's answers have 5.65 tokens on average with two numbers and 7.65 with three, so with means $\beta=0.5$ would act as 0.088 and as 0.065; Tülu 3's 5, with answers of 500 tokens, as 0.01.
#
# TRL's IPO ([Azar et al. 2024](https://arxiv.org/abs/2310.12036)) divides by the length since [PR #1265](https://github.com/huggingface/trl/pull/1265) (it still does in 1.16), "so that the beta is not dependent on the sequence length". IPO asks each pair for a fixed difference of log-ratios; dividing makes that a difference per token, whatever the length. As a price for the nats of a whole answer, $\beta$ then depends on the length, as above.

# %% [markdown] lang="zh"
# ## ⋆ 长度不同：另一个策略
# 标签若是奖励 $r$ 的 Bradley–Terry 软标签，那么每个间隔都等于奖励之差时，损失最小（第 7 章）。换成求平均，就是要求 $\frac{\beta}{|y|}\Delta(y)$ 与 $r(x,y)$ 只差一个数 $c$，同一个提示用同一个 $c$。两边乘 $|y|/\beta$；再加上 $\log\pi_{\mathrm{ref}}$，取指数：
#
# $$\Delta(y)=\frac{|y|}{\beta}\bigl(r(x,y)-c\bigr),\qquad\pi(y\mid x)=\pi_{\mathrm{ref}}(y\mid x)\,e^{|y|(r(x,y)-c)/\beta}$$
#
# $c$ 的取值要让概率之和等于 1。这样的 $c$ 恰有一个，因为和随 $c$ 增大而减小。若用的是求和，就把 $|y|$ 换成 1，$c$ 便是第 6 章的软最大值。可见求平均，等于把奖励与 $c$ 之差再乘上回答的长度：奖励同样高于 $c$ 的两个回答，长的抬得更高；同样低于 $c$ 的，长的压得更低。所有奖励都相等时，谁也不动。
#
# 本书的回答，写两个数的平均 5.65 个词元，写三个数的平均 7.65 个，所以求平均时 $\beta=0.5$ 实际相当于 0.088 和 0.065；Tülu 3 的 5，回答有 500 个词元时，相当于 0.01。
#
# TRL 的 IPO（[Azar et al. 2024](https://arxiv.org/abs/2310.12036)）从 [PR #1265](https://github.com/huggingface/trl/pull/1265) 起除以长度（1.16 版仍是这样），理由是「so that the beta is not dependent on the sequence length」（让 beta 不随序列长度变）。IPO 要求每一对的对数比之差等于一个定值；除以长度，就成了每个词元的差等于定值，与长度无关。可要是把 $\beta$ 看作整个回答一奈特的单价，它就随长度变了，道理同上。

# %%
for three_numbers, expected in ((False, 5.65), (True, 7.65)):
    of_style = [
        (len(y), p)
        for y, p, s in zip(table.completions, table.probability, table.style)
        if s == three_numbers
    ]
    mean_length = sum(n * p for n, p in of_style) / sum(p for _, p in of_style)
    print(f"{mean_length:.2f} {0.5 / mean_length:.3f}")
    assert abs(mean_length - expected) < 5e-3
assert abs(0.5 / 5.65 - 0.088) < 6e-4 and abs(0.5 / 7.65 - 0.065) < 5e-4
assert 5 / 500 == 0.01  # Tülu 3


# %% tags=["setup"]
def mean_optimum(problem, lengths, beta):
    """Where the loss with means is least, as log-probabilities (..., A)."""
    low = problem.reward.amin(-1, keepdim=True)
    high = problem.reward.amax(-1, keepdim=True)
    for _ in range(100):  # halve the interval that holds c
        c = (low + high) / 2
        logps = problem.ref_logps + lengths * (problem.reward - c) / beta
        too_much = logps.logsumexp(-1, keepdim=True) > 0
        low, high = torch.where(too_much, c, low), torch.where(too_much, high, c)
    return logps


# %% tags=["proof"] checked_en="Checked on 20 random problems: the formula is where an optimiser ends; with equal lengths it is the optimum of β / L; with equal rewards nothing moves." checked_zh="在 20 个随机问题上验证：优化器的终点就是这个公式；长度相同，就是 β / L 的最优解；奖励相同，谁也不动。"
problem = tabular.random_problems(INSTANCES, 6, SEED)
lengths = any_ids(5, INSTANCES, 6).double() + 4
judged = tabular.comparisons(problem.reward, tabular.uniform_pairs(6))


def mean_loss(logits):
    log_ratio = logits.log_softmax(-1) - problem.ref_logps
    return tabular.bradley_terry_nll(3.0 * log_ratio / lengths, judged)


minimiser = tabular.minimise(mean_loss, problem.ref_logps).log_softmax(-1)
assert (minimiser - mean_optimum(problem, lengths, 3.0)).abs().max() < 1e-8
with_sum = tabular.optimal_policy(problem, 0.5)
assert (minimiser - with_sum).abs().amax(-1).min() > 1e-2  # another policy
equal = mean_optimum(problem, torch.tensor(6.0), 3.0)
assert (equal - with_sum).abs().max() < 1e-9
flat = tabular.Problem(problem.ref_logps, torch.full_like(problem.reward, 0.7))
unmoved = mean_optimum(flat, lengths, 3.0)
assert (unmoved - problem.ref_logps).abs().max() < 1e-9

# %%
token_counts = torch.arange(4, 9).double()
fan = tabular.Problem(
    torch.full((15,), 1 / 15).double().log(),
    torch.tensor([1.0, 0.0, -1.0]).double().repeat_interleave(5),
)
fan_mean = mean_optimum(fan, token_counts.repeat(3), 3.0) - fan.ref_logps
fan_sum = tabular.optimal_policy(fan, 0.5) - fan.ref_logps
fan_mean, fan_sum = fan_mean.view(3, 5), fan_sum.view(3, 5)  # reward by length
corners = fan_mean[[0, 0, 2, 2], [0, 4, 0, 4]]
print(*(f"{value:.2f}" for value in corners))
expected = torch.tensor([0.62, 1.24, -2.05, -4.10]).double()
assert (corners - expected).abs().max() < 5e-3


# %% tags=["figure"] alt_en="Log-ratio against answer length 4 to 8, for rewards 1, 0 and -1. Three horizontal lines at 0.96, -1.04 and -3.04: the sum. Three lines of points that fan out: the mean. They go from 0.62 up to 1.24, from -0.72 down to -1.43, and from -2.05 down to -4.10, and cross the horizontal lines near length 6." alt_zh="横轴是回答长度 4 到 8，纵轴是对数比，奖励有 1、0、-1 三种。三条水平线在 0.96、-1.04、-3.04：求和。三串点像扇子一样张开：求平均。它们从 0.62 升到 1.24，从 -0.72 降到 -1.43，从 -2.05 降到 -4.10，在长度 6 附近与水平线相交。"
@picture
def sum_and_mean(say):
    _, axes = figure(width=6.4, height=3.5)
    for k, (reward, color) in enumerate(zip((1, 0, -1), ("chosen", "ref", "rejected"))):
        label = say("sum", "求和") if k == 0 else None
        axes.plot(token_counts, fan_sum[k], color=COLORS["theory"], label=label)
        label = say(f"mean, reward {reward}", f"求平均，奖励 {reward}")
        axes.plot(token_counts, fan_mean[k], "o--", color=COLORS[color], label=label)
    axes.set_xlabel(say("tokens of the answer", "回答的词元数"))
    axes.set_ylabel(say("log-ratio at the minimum", "最小值处的对数比"))
    axes.set(xticks=range(4, 9), ylim=(-6.4, 2))
    axes.legend(ncols=2, loc="lower left", fontsize=9)


# %% [markdown] lang="en"
# **Figure 8.2.** What each loss asks for, fifteen equally likely answers, $\beta=0.5$ for the sum (lines) and $6\cdot 0.5=3$ for the mean (points), so that the two all but agree at six tokens. The sum treats answers of equal reward alike; the mean fans out with length.

# %% [markdown] lang="zh"
# **图 8.2** 两种损失各要什么。十五个等可能的回答；求和用 $\beta=0.5$（线），求平均用 $6\cdot 0.5=3$（点），这样六个词元时两者几乎一致。求和对奖励相同的回答一视同仁；求平均则按长度拉开差距。

# %% [markdown] lang="en"
# ## Where the numbers run out
# A float has a largest number and a last digit. DPO meets both.
#
# **The largest number.** `log(sigmoid(x))` and `logsigmoid(x)` are the same function on paper. In the first, $\sigma(x)=1/(1+e^{-x})$ is computed and rounded before the logarithm is taken.
#
# > **Before you run it.** In float32 $e^{89}$ is too large for a number. What are `log(sigmoid(x))` and its gradient at $x=-100$?
#
# <details><summary>Answer</summary>
#
# $\sigma(x)$ is 0, its logarithm $-\infty$, and the gradient $\sigma'/\sigma=0/0$, nan. One such pair in one batch, and every weight is nan after the step.
#
# </details>
#
# On the other side $\sigma(x)$ rounds to 1, in float32 from 17 on; in bfloat16, which has the range of float32 but only two to three decimal digits, already from 7 on. There loss and gradient are exactly 0.

# %% [markdown] lang="zh"
# ## 浮点数到了头
# 浮点数有个最大的数，也有个最后一位。这两头，DPO 都会碰到。
#
# **最大的数。** `log(sigmoid(x))` 与 `logsigmoid(x)` 在纸上是同一个函数。前一种写法先算 $\sigma(x)=1/(1+e^{-x})$，舍入，再取对数。
#
# > **先猜一猜。** float32 装不下 $e^{89}$。在 $x=-100$ 处，`log(sigmoid(x))` 是多少，梯度又是多少？
#
# <details><summary>答案</summary>
#
# $\sigma(x)$ 是 0，对数是 $-\infty$；梯度 $\sigma'/\sigma=0/0$，是 nan。一个批次里只要有这样一对，走完这一步，所有权重都成了 nan。
#
# </details>
#
# $x$ 是很大的正数时，$\sigma(x)$ 舍入成 1：float32 从 17 开始；bfloat16 的范围同 float32 一样大，十进制有效数字却只有两三位，从 7 就开始了。在那里，损失和梯度恰好都是 0。


# %%
def first_dead(dtype, sign):
    """The first whole n at which log(sigmoid(sign * n)) is infinite, or exactly 0."""
    value = (sign * torch.arange(1, 200)).to(dtype).sigmoid().log()
    dead = value.isinf() if sign < 0 else value == 0
    return int(dead.nonzero()[0]) + 1


print("dtype      -inf at   0 at   gradients at -100: log(sigmoid), logsigmoid")
for dtype in (torch.float32, torch.bfloat16, torch.float16):
    x = torch.tensor([-100.0, 10.0], dtype=dtype, requires_grad=True)
    naive, exact = x.sigmoid().log(), F.logsigmoid(x)
    slopes = [torch.autograd.grad(y.sum(), x)[0][0].item() for y in (naive, exact)]
    places = -first_dead(dtype, -1), first_dead(dtype, +1)
    print(f"{str(dtype)[6:]:10} {places[0]:7} {places[1]:6}  ", *slopes)
    assert exact[0] == -100 and slopes[1] == 1 and math.isnan(slopes[0])
assert [first_dead(torch.float32, sign) for sign in (-1, +1)] == [89, 17]
assert first_dead(torch.bfloat16, +1) == 7
assert 88 < math.log(torch.finfo(torch.float32).max) < 89

# %% [markdown] lang="en"
# **The last digit.** A log-ratio is a small difference of two large sums: $-399.6-(-400)$. bfloat16 keeps 8 binary digits, so between 256 and 512 its numbers are 2 apart. There $-399.6$ *is* $-400$, and with $\beta=0.1$ the margin moves in steps of 0.2 or not at all.
#
# So: weights and activations in sixteen bits if you must, but logits to float32 before `log_softmax`, and sums, log-ratios and the loss in float32.

# %% [markdown] lang="zh"
# **最后一位。** 对数比是两个大数相减，剩下的差很小：$-399.6-(-400)$。bfloat16 只有 8 位二进制有效数字，在 256 与 512 之间，相邻两数隔 2。在那里，$-399.6$ *就是* $-400$；$\beta=0.1$ 时，奖励间隔要么不动，一动就是 0.2。
#
# 所以，权重和激活值实在要省，可以用十六位；但 logits 要先转成 float32 再做 `log_softmax`，求和、对数比和损失也都用 float32。

# %%
true_ratio = torch.linspace(-4, 4, 801, dtype=torch.float64)
computed = {
    dtype: (true_ratio - 400).to(dtype) - torch.tensor(-400.0, dtype=dtype)
    for dtype in (torch.float32, torch.bfloat16)
}
assert computed[torch.bfloat16].unique().tolist() == [-4, -2, 0, 2, 4]
assert torch.tensor(-399.6).bfloat16() == -400
assert torch.finfo(torch.bfloat16).eps * 256 == 2


# %% tags=["figure"] alt_en="The log-ratio as computed against the true log-ratio, both from -4 to 4 nats, around a log-probability of -400. float32 is the diagonal. bfloat16 is a staircase with steps of 2: 0 from -1 to 1, then 2, then 4." alt_zh="横轴是真实的对数比，纵轴是算出来的，都从 -4 到 4 奈特，对数概率在 -400 附近。float32 是对角线。bfloat16 是台阶，每级高 2：从 -1 到 1 都是 0，再往上是 2，再是 4。"
@picture
def last_digit(say):
    _, axes = figure(width=5.6, height=3.4)
    for (dtype, values), color in zip(computed.items(), ("policy", "rejected")):
        name = str(dtype).removeprefix("torch.")
        axes.plot(true_ratio, values.float(), color=COLORS[color], label=name)
    axes.set_xlabel(say("true log-ratio (nats)", "真实的对数比（奈特）"))
    axes.set_ylabel(say("computed log-ratio (nats)", "算出来的对数比（奈特）"))
    axes.set(xticks=range(-4, 5, 2), yticks=range(-4, 5, 2))
    axes.legend()


# %% [markdown] lang="en"
# **Figure 8.3.** A log-ratio, computed as a difference of two log-probabilities near -400. float32 gives the true value. bfloat16 gives a staircase: every log-ratio between -1 and 1 is reported as 0.

# %% [markdown] lang="zh"
# **图 8.3** 对数比，由 -400 附近的两个对数概率相减得到。float32 给出真值。bfloat16 给出台阶：-1 与 1 之间的对数比，报出来全是 0。

# %% [markdown] lang="en"
# ## ⋆ Three additions
# **How far from $\ln 2$ is far?** Margins that scatter about 0 with standard deviation $s$ raise the mean loss by about $s^2/8$. So a start at 0.71 means $s\approx 0.37$, and a small scatter hardly shows.
#
# **A helping epsilon.** `(softmax + 1e-8).log()` is sometimes written to avoid $\log 0$. No log-probability can then be below $\ln 10^{-8}=-18.42$. A token of true log-probability -30 is reported as -18.42, with a gradient of about $10^{-5}$ instead of 1: what is very unlikely cannot be learnt. `log_softmax` needs no help.
#
# **A running sum.** It gets worse where the sum over tokens itself is kept in bfloat16. Add -0.7 two hundred times, and the result is -120.5, not -140; add -0.5 for ever, and the sum stops at -128: from there on the numbers are 1 apart, and half a nat is rounded away. In float32 the numbers between 256 and 512 are 0.00003 apart.

# %% [markdown] lang="zh"
# ## ⋆ 三条补充
# **离 $\ln 2$ 多远才算远？** 各对的间隔若散布在 0 的两边，标准差是 $s$，平均损失就高出约 $s^2/8$。所以从 0.71 起步，说明 $s\approx 0.37$；散布若窄，损失里几乎看不出来。
#
# **帮倒忙的 epsilon。** `(softmax + 1e-8).log()` 也有人写，是为了避开 $\log 0$。这样算，对数概率低不过 $\ln 10^{-8}=-18.42$。一个词元真正的对数概率是 -30，报出来却是 -18.42，梯度本该是 1，却只有 $10^{-5}$ 左右：概率极小的词元，再也学不会。`log_softmax` 用不着这样帮忙。
#
# **累加。** 要是连词元之和都用 bfloat16 来累加，更糟。把 -0.7 加两百次，得到 -120.5，而不是 -140；一直加 -0.5，和停在 -128：从那里起，相邻两数隔 1，半个奈特一舍入就没了。用 float32，256 与 512 之间的相邻两数只隔 0.00003。

# %%
quantiles = torch.linspace(0, 1, 10_002, dtype=torch.float64)[1:-1]
scatter = torch.special.ndtri(quantiles)  # a normal distribution in 10,000 points
raised = {s: F.softplus(s * scatter).mean().item() for s in (0.1, 0.37)}
assert abs(raised[0.37] - 0.71) < 5e-4
assert all(abs(v - math.log(2) - s**2 / 8) < 5e-4 for s, v in raised.items())
z = torch.tensor([0.0, -30.0], requires_grad=True)
for value in ((z.softmax(-1) + 1e-8).log()[1], z.log_softmax(-1)[1]):
    print(f"{value.item():.2f} {torch.autograd.grad(value, z)[0][1].item():.0e}")
assert abs((z.softmax(-1) + 1e-8).log()[1].item() + 18.42) < 5e-3
sums = {}
for value, count in ((-0.7, 200), (-0.5, 1_000)):
    running = torch.zeros((), dtype=torch.bfloat16)
    for _ in range(count):
        running = running + torch.tensor(value).bfloat16()
    sums[value] = running.item()
print(sums)
assert sums == {-0.7: -120.5, -0.5: -128.0} and abs(200 * -0.7 + 140) < 1e-9
assert torch.finfo(torch.bfloat16).eps * 128 == 1
assert 3e-5 < torch.finfo(torch.float32).eps * 256 < 3.1e-5

# %% [markdown] lang="en"
# ## The bug museum: which tokens
# All fourteen exhibits were found in public code, by people who wrote it down; follow the links for their words. The faulty lines are written afresh, in miniature. First comes what one sees, then the code. Look for the fault before you open the answer. Last comes a test that lets the right code pass and stops the bug.

# %% [markdown] lang="zh"
# ## 错误博物馆：算哪些词元
# 十四件展品全都出自公开的代码，发现的人把它们写了下来，原话请点链接去看。出错的那几行，我们另写了一份缩微的。每件先说看到了什么，再给代码。自己找出毛病，再翻开答案。最后是测试：代码对，就放行；有错，就拦下。

# %% tags=["setup"]
MUSEUM = {}


def exhibit(number, right, buggy, test):
    """Hang an exhibit: `test` must let the right code pass and stop the buggy code."""
    test(right)
    try:
        test(buggy)
    except AssertionError:
        MUSEUM[number] = (right, buggy, test)
    else:
        raise RuntimeError(f"exhibit {number}: its test does not notice the bug")


def counted(logps, ids, mask):
    """The text that `logps` counts: where the logits before a token have a gradient."""
    logits = torch.zeros(*ids.shape, 22, dtype=torch.float64, requires_grad=True)
    logps(logits, ids, mask).sum().backward()
    position = logits.grad.abs().sum(-1)[0].nonzero()[:, 0]
    return tokenizer.decode(ids[0, (position + 1).clamp(max=ids.shape[1] - 1)])


# %% [markdown] lang="en"
# ### 1 · Log-probabilities as of random tokens

# %% [markdown] lang="zh"
# ### 1 · 对数概率低得像随机词元


# %% tags=["setup"]
def suspect_1(logits, ids, mask):
    logps = logits.log_softmax(-1).gather(-1, ids[..., None]).squeeze(-1)
    return (logps * mask).sum(-1)


# %% [markdown] lang="en"
# > **What is wrong?**
#
# <details><summary>Answer</summary>
#
# No shift: position $t$ is asked about token $t$, which it has just read. In a training the loss would still fall, all the way to 0: the model learns to repeat what it reads ([chapter 1](01_strings.ipynb) has such a run). Fix: `logits[:, :-1]` with `ids[:, 1:]`.
#
# </details>
#
# [maxtext #2103](https://github.com/AI-Hypercomputer/maxtext/issues/2103), about an inference engine, "observed very large negative logprobs across all prompt positions". The test is the case made by hand.

# %% [markdown] lang="zh"
# > **错在哪里？**
#
# <details><summary>答案</summary>
#
# 没有移位：拿位置 $t$ 去问词元 $t$，也就是它刚读过的那个。放到训练里，损失照样会降，一直降到 0：模型学的是把读到的再写一遍（[第 1 章](01_strings.ipynb)跑过一次）。改法：`logits[:, :-1]` 配 `ids[:, 1:]`。
#
# </details>
#
# [maxtext #2103](https://github.com/AI-Hypercomputer/maxtext/issues/2103) 说的是一个推理引擎：「observed very large negative logprobs across all prompt positions」（提示的每个位置上，对数概率都负得厉害）。测试用开头手算的例子。


# %% tags=["museum"]
def by_hand(logps):
    assert abs(logps(*HAND).item() - math.log(1 / 8)) < 1e-9


exhibit(1, logps_of_answers, suspect_1, by_hand)
with torch.no_grad():
    case = gen(row_ids[:1].to(device)).cpu(), row_ids[:1], row_marks[:1]
right_logp, wrong_logp = (f(*case).item() for f in (logps_of_answers, suspect_1))
print(f"{right_logp:.1f} {wrong_logp:.0f}")  # of 27+27E, by gen
assert abs(right_logp + 4.4) < 0.1 and wrong_logp < -40

# %% [markdown] lang="en"
# ### 2 · Two answers, no gradient

# %% [markdown] lang="zh"
# ### 2 · 两个回答，没有梯度


# %% tags=["setup"]
def suspect_2(logits, ids, mask):
    start = mask.long().argmax(-1)  # where the answer begins among the ids
    logps = logps_of_tokens(logits, ids)
    return torch.stack([row[first:].sum() for row, first in zip(logps, start)])


# %% [markdown] lang="en"
# > **What is wrong?**
#
# <details><summary>Answer</summary>
#
# The shifted array is one entry shorter than the ids, and its entry $j$ speaks about token $j+1$. Cut with an index that belongs to the ids, it loses the answer's first token. Fix: cut at `start - 1`, or keep one mask and shift it with the labels.
#
# </details>
#
# [cookbook #388](https://github.com/fw-ai/cookbook/pull/388): for a pair that differs only in its first token, the loss "collapses to log(2) with zero gradient". The test is such a pair.

# %% [markdown] lang="zh"
# > **错在哪里？**
#
# <details><summary>答案</summary>
#
# 移位后的数组比编号少一项，第 $j$ 项说的是词元 $j+1$。下标是在编号里数出来的，拿来切这个数组就晚了一格，回答的第一个词元没了。改法：从 `start - 1` 切起；或者只用掩码，让它跟标签一起移位。
#
# </details>
#
# [cookbook #388](https://github.com/fw-ai/cookbook/pull/388)：两个回答若只有第一个词元不同，损失「collapses to log(2) with zero gradient」（塌到 $\ln 2$，梯度为零）。测试就用这样一对。


# %% tags=["museum"]
def differ_at_the_first_token(logps):
    logits, ids, mask = HAND
    other = torch.tensor([[0, 1, 2, 2]])  # E in place of a: 1/2 against 1/4
    gap = logps(logits, ids, mask) - logps(logits, other, mask)
    assert abs(gap.item() + math.log(2)) < 1e-9


exhibit(2, logps_of_answers, suspect_2, differ_at_the_first_token)

# %% [markdown] lang="en"
# ### 3 · Answers that never end

# %% [markdown] lang="zh"
# ### 3 · 停不下来的回答


# %% tags=["setup"]
def suspect_3(logits, ids, mask):
    stored = mask.roll(-1, 1)  # as the data set keeps it
    return (logps_of_tokens(logits, ids) * stored[:, 1:]).sum(-1)


# %% [markdown] lang="en"
# > **What is wrong?**
#
# <details><summary>Answer</summary>
#
# The mask is shifted twice: the data set stores it already shifted, the trainer shifts it again. What counts is now the last token of the prompt and the answer without `E`. Fix: one convention, stated; here the mask marks tokens.
#
# </details>
#
# In verl one trainer served data sets of both conventions; a repair for one kind spoilt the other ([#5362](https://github.com/verl-project/verl/pull/5362)), and [verl #3562](https://github.com/verl-project/verl/issues/3562), an SFT run, saw replies that loop at the end and cannot stop. The test lists the counted tokens.

# %% [markdown] lang="zh"
# > **错在哪里？**
#
# <details><summary>答案</summary>
#
# 掩码移了两次：数据集存下的已经移过位，训练代码又移一次。于是计入的成了提示的最后一个词元，加上不带 `E` 的回答。改法：只用一种约定，并且写明；本书的掩码标的是词元。
#
# </details>
#
# verl 有一份训练代码，用的数据集有两种约定，照一种修好，另一种就坏了（[#5362](https://github.com/verl-project/verl/pull/5362)）；[verl #3562](https://github.com/verl-project/verl/issues/3562) 做的是 SFT，训练后的模型「经常在回复的结尾陷入循环回复，无法终止」。测试把计入的词元列出来。


# %% tags=["museum"]
def counts_the_answer(logps):
    assert counted(logps, row_ids[:1], row_marks[:1]) == "27+27E"


exhibit(3, logps_of_answers, suspect_3, counts_the_answer)
for logps in (logps_of_answers, suspect_3):
    print(counted(logps, row_ids[:1], row_marks[:1]))

# %% [markdown] lang="en"
# ### 4 · Splendid margins

# %% [markdown] lang="zh"
# ### 4 · 漂亮得很的间隔


# %% tags=["setup"]
def suspect_4(attention_mask, prompt_lengths):  # (2B, T), chosen first; B lengths
    mask = attention_mask.clone()
    for row, length in zip(mask, prompt_lengths):
        row[:length] = False
    return mask


# %% [markdown] lang="en"
# > **What is wrong?**
#
# <details><summary>Answer</summary>
#
# Chosen and rejected rows are stacked, $2B$ of them, but there are $B$ prompt lengths, and `zip` stops at the shorter list without a word: the rejected prompts stay in. The margin grows when the model makes its prompts improbable. Fix: `prompt_lengths * 2`, and `strict=True`.
#
# </details>
#
# [OpenRLHF #294](https://github.com/OpenRLHF/OpenRLHF/issues/294): "it will only mask the chosen prompt ids". The test counts: marked tokens = tokens of the answer, row by row.

# %% [markdown] lang="zh"
# > **错在哪里？**
#
# <details><summary>答案</summary>
#
# chosen 与 rejected 叠在一起，共 $2B$ 行，提示长度却只有 $B$ 个。`zip` 走完短的那个列表就停，一声不响：rejected 的提示全没遮。模型只要压低提示的概率，间隔就变大。改法：`prompt_lengths * 2`，并加上 `strict=True`。
#
# </details>
#
# [OpenRLHF #294](https://github.com/OpenRLHF/OpenRLHF/issues/294)：「it will only mask the chosen prompt ids」（只会遮 chosen 的提示）。测试就是数数：回答有几个词元，那一行就该标出几个。


# %% tags=["museum"]
def mask_both(attention_mask, prompt_lengths):
    mask = attention_mask.clone()
    for row, length in zip(mask, prompt_lengths * 2, strict=True):
        row[:length] = False
    return mask


def marks_each_answer(masks):
    written = ["S54=27+27E", "S7=3+4E", "S54=30+24E", "S7=E"]
    _, attention_mask = tokenizer.pad([tokenizer.encode(line) for line in written])
    assert masks(attention_mask, [4, 3]).sum(-1).tolist() == [6, 4, 6, 1]


exhibit(4, mask_both, suspect_4, marks_each_answer)

# %% [markdown] lang="en"
# ### 5 · Answers that never end, again

# %% [markdown] lang="zh"
# ### 5 · 又停不下来


# %% tags=["setup"]
def suspect_5(ids, lengths, pad_id):  # which tokens are real
    return ids != pad_id


# %% [markdown] lang="en"
# > **What is wrong?**
#
# <details><summary>Answer</summary>
#
# A model without a padding token is given its end token for that purpose. Then everything that *is called* padding is masked, and the one `E` that ends the answer goes with it. Fix: mask by place, from the lengths, not by the name of a token.
#
# </details>
#
# [TRL #976](https://github.com/huggingface/trl/issues/976): "we never teach the model to end a sentence". The loss curve is normal; answers run to the length limit. The test counts again.

# %% [markdown] lang="zh"
# > **错在哪里？**
#
# <details><summary>答案</summary>
#
# 有的模型没有填充词元，就拿结束词元来顶替。凡是*叫作*填充的一律遮掉，真正收尾的那个 `E` 也一起遮掉了。改法：遮哪里，由各行的长度来定，别看词元叫什么。
#
# </details>
#
# [TRL #976](https://github.com/huggingface/trl/issues/976)：「we never teach the model to end a sentence」（我们从没教过模型怎样结束一句话）。损失曲线一切正常，回答却一直写到长度上限。测试还是数数。


# %% tags=["museum"]
def real_by_place(ids, lengths, pad_id):
    return torch.arange(ids.shape[1]) < lengths[:, None]


def keeps_the_end(real):
    E = tokenizer.eos_id
    encoded = [tokenizer.encode("S54=27+27E"), tokenizer.encode("S7=3+4E")]
    lengths = torch.tensor([len(row) for row in encoded])
    ids = torch.tensor([row + [E] * (10 - len(row)) for row in encoded])
    assert torch.equal(real(ids, lengths, E).sum(-1), lengths)


exhibit(5, real_by_place, suspect_5, keeps_the_end)

# %% [markdown] lang="en"
# ### 6 · A log-probability of exactly 0

# %% [markdown] lang="zh"
# ### 6 · 恰好是 0 的对数概率


# %% tags=["setup"]
def suspect_6(encoded, keep):  # the last `keep` columns of a batch that is too long
    return tokenizer.pad(encoded)[0][:, -keep:]


# %% [markdown] lang="en"
# > **What is wrong?**
#
# <details><summary>Answer</summary>
#
# Rows are padded on the right first, then the rectangle is cut: from short rows that takes text and leaves padding. A row of padding alone has log-probability 0 under every model, so its reward is 0 for ever. Fix: cut every row before padding.
#
# </details>
#
# [TRL #3382](https://github.com/huggingface/trl/issues/3382) reports rows that consist of padding alone. The test asks that each row keeps its own end.

# %% [markdown] lang="zh"
# > **错在哪里？**
#
# <details><summary>答案</summary>
#
# 代码先右填充，再切整个矩形：短行被切走的是文本，留下的是填充。只剩填充的一行，不管什么模型来算，对数概率都是 0，奖励也就永远是 0。改法：先逐行切，再填充。
#
# </details>
#
# [TRL #3382](https://github.com/huggingface/trl/issues/3382) 报告说，有的行切完只剩填充。测试要求每一行都留住自己的末尾。


# %% tags=["museum"]
def cut_rows(encoded, keep):
    return tokenizer.pad([row[-keep:] for row in encoded])[0]


long_and_short = [tokenizer.encode("S54=27+27-0E"), tokenizer.encode("S7=3+4E")]


def keeps_each_end(cut):
    kept = [tokenizer.decode(row).rstrip("P") for row in cut(long_and_short, 5)]
    assert kept == ["27-0E", "=3+4E"]


exhibit(6, cut_rows, suspect_6, keeps_each_end)
print([tokenizer.decode(row) for row in suspect_6(long_and_short, 5)])


# %% tags=["figure"] alt_en="Five copies of the row S54=27+27EPP, one below the other; green cells are counted. Right: 27+27E. Exhibit 2: 7+27E, the first 2 is missing. Exhibit 3: =27+27, one too early. Exhibit 4, rejected rows: S54=27+27E without the S, the whole prompt. Exhibit 5: 27+27, without E." alt_zh="同一行 S54=27+27EPP 上下排了五遍，绿格计入。正确：27+27E。展品 2：7+27E，少了第一个 2。展品 3：=27+27，早了一格。展品 4 的 rejected 行：S54=27+27E，除 S 之外，整个提示都算了进去。展品 5：27+27，少了 E。"
@picture
def what_each_counts(say):
    _, axes = figure(width=6.8, height=3.4)
    spans = ((4, 10), (5, 10), (3, 9), (1, 10), (4, 9))
    names = [
        say("right", "正确"),
        *(say(f"exhibit {k}", f"展品 {k}") for k in (2, 3, 4, 5)),
    ]
    for k, (begin, end) in enumerate(spans):
        strip(axes, text, [begin <= t < end for t in range(12)], -k)
    axes.text(4, 0.95, say("green: counted", "绿：计入"), color=COLORS["chosen"])
    axes.set(xlim=(-0.1, 12.1), ylim=(-4.2, 1.5), xlabel=say("position", "位置"))
    axes.set_xticks([t + 0.5 for t in range(12)], range(12))
    axes.set_yticks([0.4 - k for k in range(5)], names)
    axes.grid(False)


# %% [markdown] lang="en"
# **Figure 8.4.** What each bug counts of one row (green; of exhibit 4, a rejected row). Printed as text, every one of them shows at a glance; in a loss curve, none.

# %% [markdown] lang="zh"
# **图 8.4** 同一行里，各个错误计入了哪些词元（绿；展品 4 取的是 rejected 的一行）。打印成文本，个个一眼就看得出；只看损失曲线，一个也看不出。

# %%
no_padding = row_ids[:1, :10], row_marks[:1, :10]
three = logps_of_answers, suspect_2, suspect_3
as_text = [counted(logps, *no_padding) for logps in three]
assert as_text == ["27+27E", "7+27E", "=27+27"]
assert as_text == [text[4:10], text[5:10], text[3:9]]
two_rows = torch.ones(2, 10, dtype=torch.bool)
assert suspect_4(two_rows, [4])[:, 1:].sum(-1).tolist() == [6, 9]  # nothing predicts S
by_name = suspect_5(row_ids[:1, :10], torch.tensor([10]), tokenizer.eos_id)
assert by_name[0].tolist() == [True] * 9 + [False]

# %% [markdown] lang="en"
# ## ⋆ The bug museum: positions and columns
# A **position id** tells the network where a token stands. This library counts real tokens only, by a running sum over the attention mask. What if one numbers the columns? That depends on the model. With RoPE, attention sees only *differences* of positions (chapter 2); all tokens of a row move by the same number, and nothing changes. GPT-2 adds a learned vector for each position to the embedding; there a row that starts at 4 is another input. We build both in miniature, one attention and no layers around it.

# %% [markdown] lang="zh"
# ## ⋆ 错误博物馆：位置与列
# **位置编号**（position id）告诉网络一个词元站在哪里。本书的库只数真正的词元，办法是沿注意力掩码累加。要是拿列号当位置呢？看是什么模型。用 RoPE，注意力只看位置之*差*（第 2 章），一行的词元挪的格数一样，什么也不变。GPT-2 则给每个位置学一个向量，加到嵌入上；一行从位置 4 开始，就成了另一个输入。两种都做一个最小的：只有一层注意力，别的都不要。


# %% tags=["setup"]
def real_tokens(real):
    return (real.cumsum(1) - 1).clamp(min=0)


def tiny_logits(tokens, places, ids, real, positions):
    """One attention: `places` are learned positions, or None for RoPE."""
    x = tokens[ids] if places is None else tokens[ids] + places[positions]  # (B, T, 8)
    turned = x
    if places is None:
        tables = rope_tables(32, 8, 10_000.0)
        cos, sin = (angles[positions].double()[:, None] for angles in tables)
        turned = apply_rope(x[:, None], cos, sin)[:, 0]
    future = torch.ones(2 * ids.shape[1:]).triu(1).bool()
    scores = turned @ turned.transpose(1, 2)
    weights = scores.masked_fill(future | ~real[:, None], -1e9).softmax(-1)  # (B, T, T)
    return (x + weights @ x) @ tokens.T  # (B, T, V)


# %% tags=["setup"]
def padded_gap(tokens, places, number):
    """How far 4 columns of left padding move the log-probability of an answer."""
    real = torch.arange(14)[None] >= 4
    ids = torch.tensor([[0] * 4 + tokenizer.encode("S54=27+27E")])
    found = []
    for cut in (4, 0):  # without the padding, with it
        part, kept = real[:, cut:], ids[:, cut:]
        logits = tiny_logits(tokens, places, kept, part, number(part))
        found.append(sequence_logps(logits, kept, torch.arange(14)[None, cut:] >= 8))
    return abs(found[1] - found[0]).item()


# %% [markdown] lang="en"
# ### 7 · Scores that depend on the batch

# %% [markdown] lang="zh"
# ### 7 · 随批次变的分数


# %% tags=["setup"]
def suspect_7(real):  # (B, T), True where a token is real: the position ids
    return torch.arange(real.shape[1])[None]


# %% [markdown] lang="en"
# > **What is wrong?**
#
# <details><summary>Answer</summary>
#
# With padding on the left the first real token stands in column 4, say, but it is still the first token. With RoPE all tokens move by the same 4 and nothing changes; learned positions make it another input. At step 0 nothing shows, since both models are shifted alike. Fix: a running sum over the attention mask.
#
# </details>
#
# [TRL #6800](https://github.com/huggingface/trl/issues/6800) reports it for online DPO and says itself that for RoPE models "this is a genuine no-op"; with GPT-2 the difference was 34.005 nats for one sequence ([PR #6819](https://github.com/huggingface/trl/pull/6819)). The test: padding on the left, or none, must give the same number, on a model with learned positions.

# %% [markdown] lang="zh"
# > **错在哪里？**
#
# <details><summary>答案</summary>
#
# 左边填充之后，第一个真正的词元可能站在第 4 列，可它仍然是第一个。用 RoPE，所有词元一起挪 4 格，什么也不变；位置向量是学来的，就成了另一个输入。第 0 步什么也看不出，因为两个模型的位置挪得一样多。改法：沿注意力掩码累加。
#
# </details>
#
# [TRL #6800](https://github.com/huggingface/trl/issues/6800) 报告的是在线 DPO（online DPO），并且自己说明：对 RoPE 模型「this is a genuine no-op」（确实毫无影响）；换成 GPT-2，一个序列就差了 34.005 奈特（[PR #6819](https://github.com/huggingface/trl/pull/6819)）。测试要用位置向量可学习的模型：左填充与不填充，必须得到同一个数。


# %% tags=["museum"]
def ignores_left_padding(number):
    drawn = torch.Generator().manual_seed(3)
    tokens, places = (
        torch.randn(n, 8, generator=drawn, dtype=torch.float64) for n in (22, 32)
    )
    assert padded_gap(tokens, places, number) < 1e-9


exhibit(7, real_tokens, suspect_7, ignores_left_padding)

# %% tags=["proof"] checked_en="Checked on 20 random models: counting real tokens moves nothing; counting columns moves learned positions, and RoPE not." checked_zh="在 20 个随机模型上验证：只数真正的词元，什么也不变；拿列号当位置，学来的位置向量使结果变了，RoPE 不变。"
tokens, places = normal(INSTANCES, 22, 8), normal(INSTANCES, 32, 8)
for vectors, learned in zip(tokens, places):
    assert padded_gap(vectors, learned, real_tokens) < 1e-9
    assert padded_gap(vectors, None, real_tokens) < 1e-9
    assert padded_gap(vectors, None, suspect_7) < 1e-4  # RoPE: angles in float32
    assert padded_gap(vectors, learned, suspect_7) > 1e-3

# %% [markdown] lang="en"
# ### 8 · A leash that loosens with padding

# %% [markdown] lang="zh"
# ### 8 · 随填充变松的绳子


# %% tags=["setup"]
def suspect_8(logits, ids, mask):
    return (logps_of_tokens(logits, ids) * mask[:, 1:]).mean(-1)


# %% [markdown] lang="en"
# > **What is wrong?**
#
# <details><summary>Answer</summary>
#
# The mean runs over all columns, padding included, so the sum is divided by the width of the rectangle. The effective $\beta$ is $\beta$ over the width: pad more, and the leash gets looser. Fix: the sum.
#
# </details>
#
# A reader of [minimind #298](https://github.com/jingyaogong/minimind/issues/298) noticed that every answer was divided by the same `seq_length`. The test pads one row further and compares.

# %% [markdown] lang="zh"
# > **错在哪里？**
#
# <details><summary>答案</summary>
#
# 平均值是按全部列求的，连填充也算在内，等于把总和除以矩形的宽度。实际起作用的是 $\beta$ 除以宽度：填充越多，绳子越松。改法：求和。
#
# </details>
#
# [minimind #298](https://github.com/jingyaogong/minimind/issues/298) 的提问者看出来了：「相当于每个句子都同时除以同一个数字 seq_length」。测试：把一行多填几格，结果不该变。


# %% tags=["museum"]
def ignores_more_padding(logps):
    logits, ids, mask = HAND
    wider = F.pad(logits, (0, 0, 0, 8)), F.pad(ids, (0, 8)), F.pad(mask, (0, 8))
    assert abs(logps(*HAND) - logps(*wider)).item() < 1e-9


exhibit(8, logps_of_answers, suspect_8, ignores_more_padding)

# %% [markdown] lang="en"
# ## The bug museum: the loss
# From here on the log-probabilities are right, and the arithmetic on them is not.

# %% [markdown] lang="zh"
# ## 错误博物馆：损失
# 从这里起，对数概率没有错，错在拿它们做的算术。

# %% [markdown] lang="en"
# ### 9 · A slow loss, a far drift

# %% [markdown] lang="zh"
# ### 9 · 损失降得慢，策略跑得远


# %% tags=["setup"]
def suspect_9(policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta):
    m = (policy_chosen - ref_chosen) - (policy_rejected - ref_rejected)
    rewards = beta * m
    return -F.logsigmoid(beta * rewards)


# %% [markdown] lang="en"
# > **What is wrong?**
#
# <details><summary>Answer</summary>
#
# $\beta$ twice: the loss is DPO with $\beta^2$. Set 0.1, get 0.01: a smaller push at every plain gradient step, and a looser leash at the end. At $\beta=1$ the bug cannot be seen, so never test there. Fix: one $\beta$.
#
# </details>
#
# [maxtext #1530](https://github.com/AI-Hypercomputer/maxtext/issues/1530) asks: "there are two BETA in the DPO loss, but there should be only one. Is this intentional?" The test is the case by hand.

# %% [markdown] lang="zh"
# > **错在哪里？**
#
# <details><summary>答案</summary>
#
# 乘了两次 $\beta$：成了用 $\beta^2$ 的 DPO。设成 0.1，实际是 0.01：用普通的梯度步，每一步推得更轻，最后绳子却更松。$\beta=1$ 时这个错看不出来，所以测试时别取 $\beta=1$。改法：只乘一次。
#
# </details>
#
# [maxtext #1530](https://github.com/AI-Hypercomputer/maxtext/issues/1530) 问：「there are two BETA in the DPO loss, but there should be only one. Is this intentional?」（DPO 损失里有两个 BETA，本该只有一个，是故意的吗？）测试用手算的例子。


# %% tags=["museum"]
def quarter_left(loss):
    found = loss(*numbers(2 * math.log(3) - 4, -6, -4, -6), beta=0.5)
    assert abs(found.item() - math.log(4 / 3)) < 1e-9


exhibit(9, loss_of_pairs, suspect_9, quarter_left)

# %% [markdown] lang="en"
# ### 10 · A loss that starts at 5.545

# %% [markdown] lang="zh"
# ### 10 · 从 5.545 起步的损失


# %% tags=["setup"]
def suspect_10(pieces):  # the losses of a step, in pieces that fit into memory
    return sum(losses.mean() for losses in pieces)


# %% [markdown] lang="en"
# > **What is wrong?**
#
# <details><summary>Answer</summary>
#
# A step of $G$ pieces adds up $G$ means and forgets to divide; $8\ln 2=5.545$. The gradient is eight times as long as it should be, which Adam mostly hides, while clipping sets in eight times too early. (Dividing by $G$ is right only for pieces of equal size.) Fix: collect sums and counts, divide once (chapter 3).
#
# </details>
#
# [TRL #2615](https://github.com/huggingface/trl/pull/2615) repaired it in early 2025. $\ln 2$ sees it at once. The test: one batch and its pieces give one number.

# %% [markdown] lang="zh"
# > **错在哪里？**
#
# <details><summary>答案</summary>
#
# 一步分成 $G$ 块，把 $G$ 个平均值加起来，忘了除以 $G$；$8\ln 2=5.545$。梯度是应有的八倍长；用 Adam，这一点大体看不出；有梯度裁剪，裁剪就启动得太早，早了八倍。（除以 $G$，只在各块一样大时才对。）改法：分别累计总和与个数，最后除一次（第 3 章）。
#
# </details>
#
# [TRL #2615](https://github.com/huggingface/trl/pull/2615) 在 2025 年初修好。同 $\ln 2$ 一比，一眼就能看出来。测试：整批算与分块算，得到同一个数。


# %% tags=["museum"]
def divide_once(pieces):
    return sum(losses.sum() for losses in pieces) / sum(map(len, pieces))


def pieces_equal_the_batch(reduce):
    losses = torch.tensor([0.6, 0.7, 0.8, 0.5, 0.9])
    assert abs(reduce([losses]) - reduce(list(losses.split(2)))) < 1e-6


exhibit(10, divide_once, suspect_10, pieces_equal_the_batch)
eight = torch.full((16,), math.log(2)).split(2)
print(f"{divide_once(eight):.3f} {suspect_10(eight):.3f}")
assert abs(suspect_10(eight) - 5.545) < 5e-4

# %% [markdown] lang="en"
# ### 11 · All is well, and then nan

# %% [markdown] lang="zh"
# ### 11 · 本来好好的，忽然全是 nan


# %% tags=["setup"]
def suspect_11(policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta):
    m = (policy_chosen - ref_chosen) - (policy_rejected - ref_rejected)
    return -torch.log(torch.sigmoid(beta * m))


# %% [markdown] lang="en"
# > **What is wrong?**
#
# <details><summary>Answer</summary>
#
# The logarithm of a sigmoid, as above: one pair that goes badly wrong is enough. Fix: `logsigmoid`.
#
# </details>
#
# [tinker #188](https://github.com/thinking-machines-lab/tinker-cookbook/pull/188) replaced it: "This prevents `NaN` gradients caused by floating point underflow when the scaled log-ratios are large negative numbers." The test: a margin of -200, in float32.

# %% [markdown] lang="zh"
# > **错在哪里？**
#
# <details><summary>答案</summary>
#
# 先 sigmoid 再取对数，前面已经看过：只要有一对错得离谱就够了。改法：`logsigmoid`。
#
# </details>
#
# [tinker #188](https://github.com/thinking-machines-lab/tinker-cookbook/pull/188) 把它换掉了：「This prevents `NaN` gradients caused by floating point underflow when the scaled log-ratios are large negative numbers.」（对数比乘上系数后若是绝对值很大的负数，浮点数会下溢，梯度成了 `NaN`；换掉就不会。）测试：float32 下把间隔设成 -200。


# %% tags=["museum"]
def survives_a_lost_pair(loss):
    chosen, zero = torch.tensor([-2000.0], requires_grad=True), torch.zeros(1)
    found = loss(chosen, zero, zero, zero, beta=0.1)
    assert abs(found.item() - 200) < 1e-3
    assert abs(torch.autograd.grad(found.sum(), chosen)[0].item() + 0.1) < 1e-6


exhibit(11, loss_of_pairs, suspect_11, survives_a_lost_pair)

# %% [markdown] lang="en"
# ## The bug museum: two models
# The last three concern what a pair is held against: the reference, and the other answer.

# %% [markdown] lang="zh"
# ## 错误博物馆：两个模型
# 最后三件，错在拿什么来比：参考策略，还有另一个回答。

# %% [markdown] lang="en"
# ### 12 · Rewards that start beside 0

# %% [markdown] lang="zh"
# ### 12 · 不从 0 起步的奖励


# %% tags=["setup"]
def suspect_12(model):  # makes the reference
    return copy.deepcopy(model).half()


# %% [markdown] lang="en"
# > **What is wrong?**
#
# <details><summary>Answer</summary>
#
# The reference is in half precision, the policy is not. The mean loss still reads 0.693: errors of both signs average out. Fix: the same precision on both sides, or stored log-probabilities from the policy itself. Dropout in one of the passes has the same symptom ([TRL #639](https://github.com/huggingface/trl/pull/639)).
#
# </details>
#
# In [DPO #34](https://github.com/eric-mitchell/direct-preference-optimization/issues/34) a reader asks why the rewards of the authors' own run do not start at 0. Answer: the reference was loaded in fp16, "because we're only using it for inference". The test looks at each reward, not the mean.

# %% [markdown] lang="zh"
# > **错在哪里？**
#
# <details><summary>答案</summary>
#
# 参考策略用了半精度，策略则没有。平均损失看上去仍是 0.693：误差有正有负，平均掉了。改法：两边用同一种精度，或者训练前用策略自己算好参考的对数概率，存下来用。两边的前向计算若有一边开着 dropout，症状相同（[TRL #639](https://github.com/huggingface/trl/pull/639)）。
#
# </details>
#
# [DPO #34](https://github.com/eric-mitchell/direct-preference-optimization/issues/34) 里有人问：作者自己那次训练，奖励怎么不从 0 起步？答复是：参考策略用 fp16 载入，「because we're only using it for inference」（因为只拿它做推理）。测试看每一个奖励，不看平均。

# %% tags=["museum"]
PROMPTS = ["S54=", "S-12=", "S7=", "S33="]
ANSWERS = ["27+27E", "3-15E", "9-2E", "40-7E"]


def rewards_start_at_zero(make_reference):
    models = gen, make_reference(gen)
    logps, ref_logps = (score(model, PROMPTS, ANSWERS).double() for model in models)
    assert (0.1 * (logps - ref_logps)).abs().max() < 1e-5


exhibit(12, copy.deepcopy, suspect_12, rewards_start_at_zero)
models = gen, suspect_12(gen)
scores = [score(model, PROMPTS, ANSWERS).double() for model in models]
off = scores[0] - scores[1]
first_loss = F.softplus(-0.1 * (off[:2] - off[2:])).mean().item()
assert abs(first_loss - math.log(2)) < 1e-3 and off.abs().max() > 1e-4

# %% [markdown] lang="en"
# ### 13 · A loss that stays at 0.693

# %% [markdown] lang="zh"
# ### 13 · 停在 0.693 的损失


# %% tags=["setup"]
def suspect_13(policy):  # makes the reference
    return policy


# %% [markdown] lang="en"
# > **What is wrong?**
#
# <details><summary>Answer</summary>
#
# The reference is the policy itself, evaluated at each step, so $h=0$ for ever. But the model *is* training: the reference has no gradient, the policy has one, a pull of $\beta/2$ for every label with $q=1$, whatever the margin. The weights run, and no leash holds them. Fix: a copy, or stored log-probabilities.
#
# </details>
#
# [TRL #1962](https://github.com/huggingface/trl/issues/1962) (cached references were computed but not used) concludes that "the model is not training". On the three-answer toy of chapter 7, figure 8.5 shows what it does. The test moves the policy and asks whether the reference stood still.

# %% [markdown] lang="zh"
# > **错在哪里？**
#
# <details><summary>答案</summary>
#
# 参考策略就是策略本身，每一步现算，所以永远有 $h=0$。可是模型*在*训练：参考那边没有梯度，策略这边有；凡是标签 $q=1$ 的，不管间隔多大，都用 $\beta/2$ 的力拉着。权重一路狂奔，没有绳子拉着。改法：复制一份，或者把对数概率存下来。
#
# </details>
#
# [TRL #1962](https://github.com/huggingface/trl/issues/1962)（参考策略的对数概率算好存下了，却没用上）的结论是「the model is not training」（模型没在训练）。放到第 7 章三个回答的例子上，图 8.5 让人看到它在做什么。测试：动一下策略，看参考策略动没动。


# %% tags=["museum"]
def stands_still(make_reference):
    policy = copy.deepcopy(gen)
    reference = make_reference(policy)
    before = score(reference, PROMPTS, ANSWERS)
    with torch.no_grad():
        head = policy.lm_head.weight
        head += 0.1 * torch.randn(head.shape).to(device)
    assert torch.equal(before, score(reference, PROMPTS, ANSWERS))


exhibit(13, copy.deepcopy, suspect_13, stands_still)

# %%
toy = tabular.Problem(
    torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64).log(),
    torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64),
)
toy_wins = tabular.comparisons(toy.reward, tabular.uniform_pairs(3))


def train_toy(loss_at, steps=60):
    """Loss and log π(y_3) at each step of plain descent with step size 2."""
    logits, log = toy.ref_logps.clone().requires_grad_(), []
    for _ in range(steps + 1):
        logps = logits.log_softmax(-1)
        loss = loss_at(logps)
        log.append((loss.item(), logps[2].item()))
        (gradient,) = torch.autograd.grad(loss, logits)
        logits = (logits - 2 * gradient).detach().requires_grad_()
    return log


# %%
curves = {
    "fixed": train_toy(lambda p: tabular.dpo_loss(p, toy.ref_logps, toy_wins, 0.5)),
    "moving": train_toy(lambda p: tabular.dpo_loss(p, p.detach(), toy_wins, 0.5)),
}
for name, log in curves.items():
    print(f"{name:7}", *(f"{value:8.3f}" for value in log[-1]))
assert all(abs(loss - math.log(2)) < 1e-12 for loss, _ in curves["moving"])
assert curves["moving"][60][1] < -20
assert abs(curves["fixed"][60][0] - 0.51) < 5e-3
assert abs(curves["fixed"][60][1] - math.log(0.00673)) < 0.1


# %% tags=["figure"] alt_en="Two panels over 60 steps. Left, the loss: with a fixed reference it falls from 0.693 to 0.51; with the moving reference it is a flat line at 0.693. Right, the log-probability of the third answer: with a fixed reference it settles at -5; with the moving reference it falls in a straight line to -25." alt_zh="两幅图，横轴 60 步。左边是损失：参考策略固定时，从 0.693 降到 0.51；参考策略会动时，是 0.693 处的一条水平线。右边是第三个回答的对数概率：参考策略固定时，停在 -5；会动时，沿直线一路降到 -25。"
@picture
def moving_reference(say):
    _, panels = figure(2, width=7.4, height=3.2)
    words = {"fixed": say("fixed reference", "参考策略固定")}
    words["moving"] = say("moving reference", "参考策略会动")
    looks = {"fixed": ("policy", "-"), "moving": ("rejected", "--")}
    for name, (color, style) in looks.items():
        for panel, values in zip(panels, zip(*curves[name])):
            panel.plot(values, style, color=COLORS[color], label=words[name])
            panel.set_xlabel(say("training steps", "训练步数"))
    panels[0].set_ylabel(say("mean loss", "平均损失"))
    panels[1].set_ylabel(say(r"log-probability of $y_3$", r"$y_3$ 的对数概率"))
    panels[1].legend(fontsize=9)


# %% [markdown] lang="en"
# **Figure 8.5.** A moving reference against a fixed one, soft labels. Left: the loss stays at $\ln 2$ although the model trains. Right: it trains without a leash; the fixed one comes to rest at its optimum. (To update the reference during training on purpose is a method of its own: TR-DPO, [Gorbatovski et al. 2024](https://arxiv.org/abs/2404.09656).)

# %% [markdown] lang="zh"
# **图 8.5** 会动的参考策略与固定的，软标签。左：参考策略会动时，模型在训练，损失却停在 $\ln 2$。右：没有绳子，对数概率一路掉下去；参考策略固定时，停在最优解上。（有意在训练中更新参考策略，则是另一种方法：TR-DPO，[Gorbatovski et al. 2024](https://arxiv.org/abs/2404.09656)。）

# %% [markdown] lang="en"
# ### 14 · Accuracy 1 before the first step

# %% [markdown] lang="zh"
# ### 14 · 一步没走，准确率已是 1


# %% tags=["setup"]
def suspect_14(chosen_rewards, rejected_rewards):
    best = torch.stack((chosen_rewards, rejected_rewards), -1).argmax(-1)
    return (best == 0).double().mean()


# %% [markdown] lang="en"
# > **What is wrong?**
#
# <details><summary>Answer</summary>
#
# An untrained model scores both answers alike. `argmax` returns index 0 for a tie, and index 0 is chosen. In a trained model it happens too: numbers that are too coarse (4.00 and 4.01 are one number in bfloat16), and two answers that are the same. Fix: a tie counts half.
#
# </details>
#
# [TRL #1012](https://github.com/huggingface/trl/pull/1012) found it in the metric of a reward model. The test is step 0.

# %% [markdown] lang="zh"
# > **错在哪里？**
#
# <details><summary>答案</summary>
#
# 没训练过的模型给两个回答打一样的分。平局时 `argmax` 返回下标 0，而 0 正是 chosen。训练过的模型也会碰上：数存得太粗（4.00 和 4.01 在 bfloat16 里是同一个数），或者两个回答一模一样。改法：平局算半个。
#
# </details>
#
# [TRL #1012](https://github.com/huggingface/trl/pull/1012) 在奖励模型的指标里发现了它。测试就看第 0 步。


# %% tags=["museum"]
def half_a_tie(chosen_rewards, rejected_rewards):
    won = (chosen_rewards > rejected_rewards).double()
    return (won + 0.5 * (chosen_rewards == rejected_rewards).double()).mean()


def half_at_the_start(accuracy):
    assert accuracy(torch.zeros(8), torch.zeros(8)) == 0.5
    assert accuracy(torch.tensor([1.0, -1.0]), torch.tensor([0.0, 0.0])) == 0.5


exhibit(14, half_a_tie, suspect_14, half_at_the_start)
assert torch.tensor(4.00).bfloat16() == torch.tensor(4.01).bfloat16()  # a tie

# %% [markdown] lang="en"
# ## The whole collection
# The column $\ln 2$ says whether the loss at step 0 gives the bug away.
#
# | | exhibit | found in | what one sees | $\ln 2$ | caught by |
# |---|---|---|---|---|---|
# | 1 | no shift | [maxtext #2103](https://github.com/AI-Hypercomputer/maxtext/issues/2103) | log-probabilities as of random tokens | no | a case by hand |
# | 2 | first token dropped | [cookbook #388](https://github.com/fw-ai/cookbook/pull/388) | margin 0 for short answers | no | answers that differ there |
# | 3 | mask shifted twice | [verl #3562](https://github.com/verl-project/verl/issues/3562) | answers never end | no | list the counted tokens |
# | 4 | only the chosen prompt masked | [OpenRLHF #294](https://github.com/OpenRLHF/OpenRLHF/issues/294) | splendid margins | no | count the counted tokens |
# | 5 | `E` taken for padding | [TRL #976](https://github.com/huggingface/trl/issues/976) | answers never end | no | count the counted tokens |
# | 6 | short rows cut away | [TRL #3382](https://github.com/huggingface/trl/issues/3382) | log-probability exactly 0 | no | every row keeps its end |
# | 7 | positions count padding | [TRL #6800](https://github.com/huggingface/trl/issues/6800) | scores depend on the batch | no | left padding = none |
# | 8 | mean over the width | [minimind #298](https://github.com/jingyaogong/minimind/issues/298) | $\beta$ depends on padding | no | pad more, compare |
# | 9 | $\beta$ twice | [maxtext #1530](https://github.com/AI-Hypercomputer/maxtext/issues/1530) | slow loss, far drift | no | a case by hand, $\beta\ne1$ |
# | 10 | pieces summed | [TRL #2615](https://github.com/huggingface/trl/pull/2615) | loss a multiple of 0.693 | yes | one batch = its pieces |
# | 11 | `log(sigmoid)` | [tinker #188](https://github.com/thinking-machines-lab/tinker-cookbook/pull/188) | nan gradients | no | a margin of -200 |
# | 12 | reference in 16 bits | [DPO #34](https://github.com/eric-mitchell/direct-preference-optimization/issues/34) | rewards start beside 0 | hardly | each reward, not the mean |
# | 13 | reference that moves | [TRL #1962](https://github.com/huggingface/trl/issues/1962) | loss stays at 0.693 | no | take a step, look again |
# | 14 | ties are wins | [TRL #1012](https://github.com/huggingface/trl/pull/1012) | untrained accuracy 1 | no | accuracy at step 0 |

# %% [markdown] lang="zh"
# ## 全部展品
# $\ln 2$ 一列说的是：只看第 0 步的损失是不是 $\ln 2$，能不能发现这个错。
#
# | | 展品 | 出处 | 看到的现象 | $\ln 2$ | 靠什么抓住 |
# |---|---|---|---|---|---|
# | 1 | 没有移位 | [maxtext #2103](https://github.com/AI-Hypercomputer/maxtext/issues/2103) | 对数概率低得像随机词元 | 否 | 手算的例子 |
# | 2 | 丢了第一个词元 | [cookbook #388](https://github.com/fw-ai/cookbook/pull/388) | 短回答的间隔是 0 | 否 | 第一个词元就不同的一对 |
# | 3 | 掩码移了两次 | [verl #3562](https://github.com/verl-project/verl/issues/3562) | 回答停不下来 | 否 | 列出计入的词元 |
# | 4 | 只遮了一边的提示 | [OpenRLHF #294](https://github.com/OpenRLHF/OpenRLHF/issues/294) | 间隔漂亮得很 | 否 | 数一数计入的词元 |
# | 5 | 把 `E` 当成填充 | [TRL #976](https://github.com/huggingface/trl/issues/976) | 回答停不下来 | 否 | 数一数计入的词元 |
# | 6 | 短行被切得只剩填充 | [TRL #3382](https://github.com/huggingface/trl/issues/3382) | 对数概率恰好是 0 | 否 | 每一行都要留住末尾 |
# | 7 | 位置把填充也数了 | [TRL #6800](https://github.com/huggingface/trl/issues/6800) | 分数随批次变 | 否 | 左填充等于不填充 |
# | 8 | 按整行宽度求平均 | [minimind #298](https://github.com/jingyaogong/minimind/issues/298) | $\beta$ 随填充变 | 否 | 多填几格，再比 |
# | 9 | 乘了两次 $\beta$ | [maxtext #1530](https://github.com/AI-Hypercomputer/maxtext/issues/1530) | 损失降得慢，策略跑得远 | 否 | 手算的例子，$\beta\ne1$ |
# | 10 | 各块只加不除 | [TRL #2615](https://github.com/huggingface/trl/pull/2615) | 损失是 0.693 的好几倍 | 是 | 整批等于分块 |
# | 11 | `log(sigmoid)` | [tinker #188](https://github.com/thinking-machines-lab/tinker-cookbook/pull/188) | 梯度是 nan | 否 | 间隔取 -200 |
# | 12 | 参考策略用 16 位 | [DPO #34](https://github.com/eric-mitchell/direct-preference-optimization/issues/34) | 奖励不从 0 起步 | 很难 | 看每个奖励，别看平均 |
# | 13 | 参考策略自己在动 | [TRL #1962](https://github.com/huggingface/trl/issues/1962) | 损失停在 0.693 | 否 | 走一步再看 |
# | 14 | 平局算赢 | [TRL #1012](https://github.com/huggingface/trl/pull/1012) | 还没训练，准确率就是 1 | 否 | 第 0 步的准确率 |

# %% [markdown] lang="en"
# ## Before the first step
# > **What the toy hides.** A character is one token here, so a prompt ends where its tokens end. With merged tokens the boundary can fall inside one: `"A: "` followed by `"def"` may become a token `" def"`, and a prompt length counted on the prompt alone cuts one token too late (in [OpenRLHF #705](https://github.com/OpenRLHF/OpenRLHF/issues/705) somebody was stuck on it for over ten days). Chat templates add tokens of which it must be decided who owns them, the end of turn above all. Packing puts several texts into one row; then the shift must not reach across their borders, and attention neither. With a vocabulary of 100,000, softmax sums 100,000 terms, and in sixteen bits that sum has an error of its own. With LoRA (the weights are frozen, and small matrices beside them, the adapter, are trained), "switch the adapter off" gives the base model, which is the right reference only if the adapter started from zero. Every one of these is caught by the tests of this chapter: a known case, a list of the counted tokens, two ways to compute one number.

# %% [markdown] lang="zh"
# ## 走第一步之前
# > **玩具没告诉你的。** 这里一个字符就是一个词元，提示到哪里结束，一清二楚。真实的分词器会合并字符，边界可能落在一个词元中间：`"A: "` 后面接 `"def"`，也许合成一个 `" def"`；拿提示单独去数长度，就会切晚一个词元（[OpenRLHF #705](https://github.com/OpenRLHF/OpenRLHF/issues/705) 里有人为它卡了十多天）。对话模板会添词元，它们算谁的，得先定好，尤其是标记一轮结束的那个。打包（packing）把几段文本放进一行，移位和注意力都不能越过文本之间的边界。词表有 10 万项，softmax 就要加 10 万项，用十六位，单这个和就有误差。用 LoRA 时（原来的权重冻住，只训练旁边添上的小矩阵，即适配器），「关掉适配器」得到的是基座模型；只有适配器是从零起步的，它才是正确的参考策略。这些错，本章的测试都抓得住：一个答案已知的例子，一张计入词元的清单，同一个数用两种办法算。

# %% [markdown] lang="en"
# > **To remember.** Before the first step of a DPO run: (1) a log-probability worked out by hand, on your own tensors; (2) the counted tokens of a real row, printed as text: the answer, all of it, `E` included; (3) batch = single, left = right, wide = narrow; (4) the loss cases, at a $\beta$ other than 1 and with margins of $\pm 200$; (5) every reward 0, the loss $\ln 2$; (6) one step: the loss moves, the reference does not. It takes ten minutes. The curve of the loss shows hardly any of it: of the fourteen bugs above its first value gave away one.

# %% [markdown] lang="zh"
# > **记住。** DPO 训练走第一步之前：(1) 手算一个对数概率，拿自己的张量来对；(2) 取真实的一行，把计入的词元打印成文本：正好是回答，连 `E` 在内，一个不少；(3) 整批等于单个，左填充等于右填充，填得宽等于填得窄；(4) 跑一遍算好的损失例子，$\beta$ 不取 1，间隔要有 $\pm 200$；(5) 每个奖励都是 0，损失是 $\ln 2$；(6) 走一步：损失动了，参考策略没动。十分钟就够。这些事，损失曲线几乎都不会告诉你：上面十四个错误，看它的第一个值，只抓得住一个。

# %% [markdown] lang="en"
# ## Exercises

# %% [markdown] lang="zh"
# ## 练习

# %% [markdown] lang="en"
# ### Exercise 8.1 · One log-probability by hand
# ★☆☆ · 5 minutes
#
# A model reads `S7=3+4E`. The probabilities that it gives to the token that comes next are: after `S` 0.1; after `S7` 0.5; after `S7=` 0.2; after `S7=3` 0.5; after `S7=3+` 0.25; after `S7=3+4` 0.8. What is $\log\pi(y\mid x)$, for the prompt `S7=` and the answer `3+4E`? Two decimals will do.
#
# <details><summary>Hint</summary>
#
# The answer has four tokens. Which of the six numbers speak about them?
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 8.1 · 手算一个对数概率
# ★☆☆ · 5 分钟
#
# 模型读 `S7=3+4E`。它给接下来那个词元的概率依次是：读完 `S`，0.1；读完 `S7`，0.5；读完 `S7=`，0.2；读完 `S7=3`，0.5；读完 `S7=3+`，0.25；读完 `S7=3+4`，0.8。提示是 `S7=`，回答是 `3+4E`，$\log\pi(y\mid x)$ 等于多少？保留两位小数即可。
#
# <details><summary>提示</summary>
#
# 回答有四个词元。六个数里，说到它们的是哪几个？
#
# </details>

# %% tags=["exercise"]
answer_8_1 = ...  # a number of nats
check("8.1", answer_8_1)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# The last four: the token `3` is predicted after `S7=`, and `E` after `S7=3+4`. Their product is 0.02.
#
# ```python
# answer_8_1 = math.log(0.2 * 0.5 * 0.25 * 0.8)
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 是后四个：词元 `3` 在读完 `S7=` 时预测，`E` 在读完 `S7=3+4` 时预测。乘积是 0.02。
#
# ```python
# answer_8_1 = math.log(0.2 * 0.5 * 0.25 * 0.8)
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 8.2 · From labels
# ★★☆ · 15 minutes
#
# Hugging Face's models take no loss mask. They take `labels`: a copy of the ids in which every token that does not count is replaced by -100, not yet shifted. Write `logps_from_labels(logits, labels)`: from `(B, T, V)` logits and `(B, T)` labels to the `(B,)` log-probabilities of the answers.
#
# <details><summary>Hint</summary>
#
# `F.cross_entropy` skips the label -100, and with `reduction="none"` it keeps one number a token. It wants the vocabulary in the second dimension. Or do what `logps_of_tokens` does, after replacing -100 by some valid id.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 8.2 · 从标签出发
# ★★☆ · 15 分钟
#
# Hugging Face 的模型不收损失掩码，收的是 `labels`：把编号复制一份，不计入的词元一律换成 -100，还没有移位。写一个 `logps_from_labels(logits, labels)`：输入 `(B, T, V)` 的 logits 和 `(B, T)` 的标签，返回各个回答的对数概率，形状 `(B,)`。
#
# <details><summary>提示</summary>
#
# `F.cross_entropy` 会跳过标签 -100；加上 `reduction="none"`，就每个词元给一个数。它要求词表在第二维。也可以照 `logps_of_tokens` 的办法，先把 -100 换成随便哪个合法的编号。
#
# </details>


# %% tags=["exercise"]
def logps_from_labels(logits, labels): ...


check("8.2", logps_from_labels)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# Shift both, then let the cross-entropy do the masking. It is the negative log-probability, hence the minus.
#
# ```python
# def logps_from_labels(logits, labels):
#     surprise = F.cross_entropy(
#         logits[:, :-1].transpose(1, 2), labels[:, 1:], reduction="none"
#     )
#     return -surprise.sum(-1)
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 两边都移位，掩码的事交给交叉熵。交叉熵是对数概率的相反数，所以要加负号。
#
# ```python
# def logps_from_labels(logits, labels):
#     surprise = F.cross_entropy(
#         logits[:, :-1].transpose(1, 2), labels[:, 1:], reduction="none"
#     )
#     return -surprise.sum(-1)
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 8.3 · A test that catches it
# ★★☆ · 20 minutes
#
# You are handed functions `logps(logits, ids, mask)` that ought to return the log-probabilities of answers, `(B,)`. Some are wrong: no shift, a mask that is not shifted, the prompt counted, `E` left out, padding counted, a mean in place of a sum. Write `is_wrong(logps)` that returns True for these and False for a right one. `HAND` holds a case whose answer is $\ln\frac18$.
#
# <details><summary>Hint</summary>
#
# One case without padding cannot catch a function that counts padding. Pad `HAND` on the right: `F.pad(x, (0, 2))` adds two columns; for logits the last dimension comes first, `(0, 0, 0, 2)`.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 8.3 · 抓得住错误的测试
# ★★☆ · 20 分钟
#
# 有人交给你一批函数 `logps(logits, ids, mask)`，本该返回各个回答的对数概率，形状 `(B,)`。其中有些是错的：没有移位，掩码没跟着移，把提示算进去，丢了 `E`，把填充算进去，求和写成求平均。写一个 `is_wrong(logps)`：错的返回 True，对的返回 False。`HAND` 是一个答案已知的例子，答案是 $\ln\frac18$。
#
# <details><summary>提示</summary>
#
# 没有填充的例子，抓不住把填充算进去的函数。把 `HAND` 右填充：`F.pad(x, (0, 2))` 加两列；对 logits，最后一维写在最前面，用 `(0, 0, 0, 2)`。
#
# </details>


# %% tags=["exercise"]
def is_wrong(logps): ...


check("8.3", is_wrong)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# Two cases with one answer.
#
# ```python
# def is_wrong(logps):
#     logits, ids, mask = HAND
#     padded = (F.pad(logits, (0, 0, 0, 2)), F.pad(ids, (0, 2)), F.pad(mask, (0, 2)))
#     right = math.log(1 / 8)
#     return any(abs(logps(*case).item() - right) > 1e-6 for case in (HAND, padded))
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 两个例子，同一个答案。
#
# ```python
# def is_wrong(logps):
#     logits, ids, mask = HAND
#     padded = (F.pad(logits, (0, 0, 0, 2)), F.pad(ids, (0, 2)), F.pad(mask, (0, 2)))
#     right = math.log(1 / 8)
#     return any(abs(logps(*case).item() - right) > 1e-6 for case in (HAND, padded))
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 8.4 · Find the bugs
# ★★★ · 20 minutes
#
# This function starts at $\ln 2$ and trains. It gets `(2B,)` log-probabilities under the policy and under the reference; the $B$ chosen rows come first, then the $B$ rejected rows. It has two mistakes, one of them in two lines. Write `repaired_loss(policy_logps, ref_logps, beta)`, which returns the mean loss.
#
# ```python
# def suspicious_loss(policy_logps, ref_logps, beta):
#     chosen, rejected = policy_logps[::2], policy_logps[1::2]
#     ref_chosen, ref_rejected = ref_logps[::2], ref_logps[1::2]
#     chosen_rewards = beta * (chosen - ref_chosen)
#     rejected_rewards = beta * (rejected - ref_rejected)
#     margins = chosen_rewards - rejected_rewards
#     losses = -torch.log(torch.sigmoid(margins))
#     return losses.mean()
# ```
#
# <details><summary>Hint</summary>
#
# Which rows make up the first pair? And what happens at a margin of -200?
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 8.4 · 找出错误
# ★★★ · 20 分钟
#
# 下面的函数从 $\ln 2$ 起步，训练也照跑。传给它的是策略和参考策略下的对数概率，形状都是 `(2B,)`；前 $B$ 行是 chosen，后 $B$ 行是 rejected。里面有两处错误，其中一处占两行。写一个 `repaired_loss(policy_logps, ref_logps, beta)`，返回平均损失。
#
# ```python
# def suspicious_loss(policy_logps, ref_logps, beta):
#     chosen, rejected = policy_logps[::2], policy_logps[1::2]
#     ref_chosen, ref_rejected = ref_logps[::2], ref_logps[1::2]
#     chosen_rewards = beta * (chosen - ref_chosen)
#     rejected_rewards = beta * (rejected - ref_rejected)
#     margins = chosen_rewards - rejected_rewards
#     losses = -torch.log(torch.sigmoid(margins))
#     return losses.mean()
# ```
#
# <details><summary>提示</summary>
#
# 第一对是由哪两行组成的？间隔是 -200 时又会怎样？
#
# </details>


# %% tags=["exercise"]
def repaired_loss(policy_logps, ref_logps, beta): ...


check("8.4", repaired_loss)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# Every other row pairs one chosen answer with another chosen answer; the rows come in halves. And `logsigmoid`.
#
# ```python
# def repaired_loss(policy_logps, ref_logps, beta):
#     chosen_rewards, rejected_rewards = (beta * (policy_logps - ref_logps)).chunk(2)
#     return -F.logsigmoid(chosen_rewards - rejected_rewards).mean()
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 隔行取，就把一个 chosen 和另一个 chosen 配成了一对；其实前一半是 chosen，后一半是 rejected。另外，要用 `logsigmoid`。
#
# ```python
# def repaired_loss(policy_logps, ref_logps, beta):
#     chosen_rewards, rejected_rewards = (beta * (policy_logps - ref_logps)).chunk(2)
#     return -F.logsigmoid(chosen_rewards - rejected_rewards).mean()
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 8.5 · A beta that undoes a bug
# ★☆☆ · 10 minutes
#
# A trainer has the bug of exhibit 8, and you may not touch it. Every batch is padded to 48 tokens a row. You want the leash that $\beta=0.1$ is on sums. Predict, then try it on `suspect_8`: which $\beta$ do you set? And what leash would the same setting be if somebody padded to 24?
#
# <details><summary>Hint</summary>
#
# Of 48 tokens how many are predicted? The mean divides by that number.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 8.5 · 抵消错误的 β
# ★☆☆ · 10 分钟
#
# 有份训练代码带着展品 8 的错误，又不许你动它。每个批次都填充到一行 48 个词元。你想要的，是求和时 $\beta=0.1$ 的那条绳子。先猜，再拿 `suspect_8` 试：$\beta$ 该设成多少？同样的设置，要是有人改成填充到 24，又相当于求和时的多少？
#
# <details><summary>提示</summary>
#
# 48 个词元里，要预测的有几个？求平均除的就是这个数。
#
# </details>

# %% tags=["exercise"]
answer_8_5 = ...  # (beta to set, beta on sums that it is at 24 tokens)
check("8.5", answer_8_5)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# The first token is not predicted, so the mean divides by 47, and later by 23.
#
# ```python
# answer_8_5 = (0.1 * 47, 0.1 * 47 / 23)
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 第一个词元不用预测，所以求平均除的是 47，后来是 23。
#
# ```python
# answer_8_5 = (0.1 * 47, 0.1 * 47 / 23)
# ```
#
# </details>

# %% [markdown] lang="en"
# The last exercise asks about four trainings of the three-answer toy. One is right; the others have one exhibit each.

# %% [markdown] lang="zh"
# 最后一题问的是三个回答的例子上的四次训练。一次正常；另外三次，各有一件展品。

# %%
tried = (
    lambda p: tabular.dpo_loss(p, toy.ref_logps, toy_wins, 0.5),  # as it should be
    lambda p: tabular.dpo_loss(p, p.detach(), toy_wins, 0.5),  # exhibit 13
    lambda p: tabular.dpo_loss(p, toy.ref_logps, toy_wins, 0.25),  # exhibit 9
    lambda p: 2 * tabular.dpo_loss(p, toy.ref_logps, toy_wins, 0.5),  # exhibit 10
)
# in an order that the code does not give away
shuffled = torch.randperm(4, generator=torch.Generator().manual_seed(16)).tolist()
four_runs = {name: train_toy(tried[k]) for name, k in zip("ABCD", shuffled)}


# %% tags=["figure"] alt_en="Two panels over 60 steps, runs A to D. Left, loss: A is a flat line at 0.69; B starts at 1.39 and comes to rest at 1.02; C and D start at 0.69 and fall to 0.51, D much more slowly. Right, the log-probability of the third answer, all from -1.6: A falls in a straight line to -25; B and C settle at -5, B first; D is still falling past -5." alt_zh="两幅图，横轴 60 步，四次训练 A 到 D。左，损失：A 是 0.69 处的水平线；B 从 1.39 起，停在 1.02；C 和 D 都从 0.69 降到 0.51，D 慢得多。右，第三个回答的对数概率，都从 -1.6 起：A 沿直线降到 -25；B 和 C 停在 -5，B 先到；D 过了 -5 还在降。"
@picture
def four_trainings(say):
    _, panels = figure(2, width=7.4, height=3.4)
    hues = ("rejected", "baseline", "policy", "ref")
    for (name, log), hue, style in zip(four_runs.items(), hues, ("--", ":", "-", "-.")):
        for panel, values in zip(panels, zip(*log)):
            label = say(f"run {name}", f"训练 {name}")
            panel.plot(values, style, color=COLORS[hue], label=label)
            panel.set_xlabel(say("training steps", "训练步数"))
    panels[0].set_ylabel(say("mean loss", "平均损失"))
    panels[1].set_ylabel(say(r"log-probability of $y_3$", r"$y_3$ 的对数概率"))
    panels[0].legend(fontsize=9)


# %% [markdown] lang="en"
# **Figure 8.6.** Four trainings of the toy, three of them with a bug.

# %% [markdown] lang="zh"
# **图 8.6** 例子上的四次训练，其中三次有错。

# %% [markdown] lang="en"
# ### Exercise 8.6 · Which exhibit?
# ★★☆ · 10 minutes
#
# For each run of figure 8.6 give the number of the exhibit that it has, or 0 for the right one. They are $\beta$ twice (9), two pieces summed (10), a reference that moves (13).
#
# <details><summary>Hint</summary>
#
# Look at the first loss, then at the last; where both are as they should be, at the speed.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 8.6 · 是哪件展品？
# ★★☆ · 10 分钟
#
# 图 8.6 里的四次训练，各有哪件展品？写展品的号码，正常的写 0。三件是：乘了两次 $\beta$（9），两块只加不除（10），参考策略自己在动（13）。
#
# <details><summary>提示</summary>
#
# 先看第一个损失，再看最后一个；两个都正常，就看快慢。
#
# </details>

# %% tags=["exercise"]
answer_8_6 = {"A": ..., "B": ..., "C": ..., "D": ...}
check("8.6", answer_8_6)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# A never leaves $\ln 2$ and yet moves: its reference moves with it. B starts at $2\ln 2$. C and D both go from $\ln 2$ to the same loss; D is four times slower, because the slope carries $\beta^2$, and ends further away.
#
# ```python
# answer_8_6 = {"A": 13, "B": 10, "C": 0, "D": 9}
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# A 的损失始终停在 $\ln 2$，对数概率却一直在动：参考策略跟着它动。B 从 $2\ln 2$ 起步。C 和 D 都从 $\ln 2$ 降到同一个损失；D 慢四倍，因为斜率里带着 $\beta^2$，终点也更远。
#
# ```python
# answer_8_6 = {"A": 13, "B": 10, "C": 0, "D": 9}
# ```
#
# </details>

# %% [markdown] lang="en"
# ## References
# - [Azar et al. 2024](https://arxiv.org/abs/2310.12036): IPO, the loss that TRL divides by the length.
# - [Gorbatovski et al. 2024](https://arxiv.org/abs/2404.09656): a reference that is moved on purpose.
# - [Grattafiori et al. 2024](https://arxiv.org/abs/2407.21783): Llama 3; end tokens left out of the loss.
# - [Lambert et al. 2024](https://arxiv.org/abs/2411.15124): Tülu 3; DPO with means over tokens.
# - [Rafailov et al. 2023](https://arxiv.org/abs/2305.18290): DPO; its equation 7 is the loss of this chapter.
#
# The threads of the museum are linked where they are told.

# %% [markdown] lang="zh"
# ## 参考文献
# - [Azar et al. 2024](https://arxiv.org/abs/2310.12036)：IPO；TRL 里要除以长度的，就是这个损失。
# - [Gorbatovski et al. 2024](https://arxiv.org/abs/2404.09656)：有意让参考策略动。
# - [Grattafiori et al. 2024](https://arxiv.org/abs/2407.21783)：Llama 3；损失里不算结束词元。
# - [Lambert et al. 2024](https://arxiv.org/abs/2411.15124)：Tülu 3；按词元求平均的 DPO。
# - [Rafailov et al. 2023](https://arxiv.org/abs/2305.18290)：DPO；它的式 7 就是本章的损失。
#
# 博物馆里那些讨论的链接，就在各件展品下面。
