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
# # 1 Strings that are sums

# %% [markdown] lang="zh"
# # 1 字符串里的算式

# %% [markdown] lang="en"
# > **In this chapter.** You will be able to turn a text into numbers and back, stack texts of different lengths into one batch, and mark which tokens a model is to learn. You need Python and a first look at tensors. 20 minutes to read, 10 seconds to run.

# %% [markdown] lang="zh"
# > **本章。** 读完后，你能把一段文本变成数字、再变回来，能把长短不一的文本叠成一个批次，还能标出模型该学哪些词元。需要会 Python，对张量有初步了解。阅读 20 分钟，运行 10 秒。

# %%
import json
from pathlib import Path

import numpy as np
import torch
from checks import check
from matplotlib.patches import Rectangle

from dpo_core import BookTask, CharTokenizer, judge
from dpo_core.plotting import COLORS, INK, figure
from dpo_core.task import stream

# %% [markdown] lang="en"
# ## A task that can be marked by machine
# This book trains a language model, then changes what it prefers. For that we want a task so small that every answer can be marked right or wrong without asking anyone. Here it is: given a number, write a sum that makes it.
#
# A text of our world looks like this:
#
# ```text
# S54=27+27E
# ```
#
# `S` starts the text, `E` ends it. The part up to and including `=` is the **prompt**: it names the target, 54. The rest, `27+27E`, is the **completion**: what the model has to write. There are many right completions for one prompt, such as `50+4E` or `30+33-9E`. There are more wrong ones.
#
# The texts come from a *population of authors*. Some write two numbers, some three; some slip. Chapter 3 says exactly how often. For now we ask the population for six texts and let an exact checker mark them.

# %% [markdown] lang="zh"
# ## 一个机器就能判分的任务
# 这本书要训练一个语言模型，再改变它的偏好。为此要找一个很小的任务，小到每个回答是对是错，机器自己就能判，不用问人。任务就是：给一个数，写一道算式，让结果等于它。
#
# 我们这个世界里的文本长这样：
#
# ```text
# S54=27+27E
# ```
#
# `S` 开头，`E` 收尾。到 `=` 为止（连 `=` 一起）是**提示**（prompt），它给出目标 54。后面的 `27+27E` 是**回答**（completion），由模型来写。同一个提示有许多正确的回答，比如 `50+4E`、`30+33-9E`；错误的更多。
#
# 文本出自一个**作者群体**（population of authors）：有人爱写两个数，有人爱写三个，有人会失误。各占多少，第 3 章细说。先向他们要六段文本，交给一个精确的判分程序批改。

# %%
task = BookTask()
prompts, completions = task.demonstrations(6, stream("chapter 1", seed=0))
for prompt, completion in zip(prompts, completions):
    verdict = judge(prompt, completion)
    print(f"{prompt + completion:14} numbers: {verdict.numbers}  value: {verdict.value}  exact: {verdict.exact}")
assert not judge(prompts[0], completions[0]).exact and judge(prompts[0], completions[0].replace("22-", "12-")).exact

# %% [markdown] lang="en"
# The first text misses its target: the author meant 12 and wrote 22 as the second number. That is the population's one kind of slip: a second number that is ten too large.
#
# The whole population can write 210,000 different texts to 166 different prompts. That is small enough to list, and the library does list it. We lean on this often: what other books estimate, this one can count.

# %% [markdown] lang="zh"
# 第一段没有命中目标：第二个数，作者心里想的是 12，写下来却是 22。这个群体只有这一种**失误**（slip）：第二个数多写了十。
#
# 整个群体能写出 210,000 种文本，对应 166 个提示。这点数目可以逐一列出，程序库里真的列了一张表。后面常要用它：别的书只能估计的量，这里数得出来。

# %%
assert len(task.table.completions) == len(set(zip(task.table.prompts, task.table.completions))) == 210_000
assert len(task.prompt_distribution) == 166

# %% [markdown] lang="en"
# ## From characters to ids
# A network computes with numbers, not with letters. A **tokenizer** cuts a text into pieces, called **tokens**, and gives each piece a number, its **id**. The list of all pieces is the **vocabulary**.
#
# Ours is the simplest tokenizer there is: one character is one token. The vocabulary has 22 entries and never changes. `P` will fill gaps, `S` starts, `E` ends, and `U` is reserved for a character that nobody knows. Then come the digits, the four operators and `.:=_`. The position of a character in this string is its id:

# %% [markdown] lang="zh"
# ## 从字符到编号
# 网络只会算数，不认字。**分词器**（tokenizer）把文本切成小块，每一块叫一个**词元**（token），再给每块一个号码，叫**编号**（id）。所有词元列在一起，就是**词表**（vocabulary）。
#
# 我们用最简单的一种：一个字符就是一个词元。词表固定为 22 项。`P` 用来填空位，`S` 开头，`E` 收尾，`U` 留给谁也不认识的字符；然后是数字、四个运算符，以及 `.:=_`。字符在下面这个字符串里排第几（从零数起），编号就是几：

# %%
tokenizer = CharTokenizer()
print(tokenizer.vocabulary, tokenizer.vocab_size)
print(tokenizer.encode("S54=27+27E"))
assert tokenizer.vocab_size == 22
assert [tokenizer.vocabulary[i] for i in tokenizer.encode("S54=27+27E")] == list("S54=27+27E")

# %% [markdown] lang="en"
# Check one by hand: `P` is 0, `S` is 1, `E` is 2, `U` is 3, so the digit `0` is 4 and the digit `5` is 9. The text above starts with 1, then 9.
#
# Two properties make this tokenizer easy to live with. First, nothing is lost: decoding gives the text back. Second, it respects gluing: for any two texts $x$ and $y$,
#
# $$\mathrm{encode}(x)+\mathrm{encode}(y)=\mathrm{encode}(x+y),$$
#
# where $+$ puts one list, or one text, behind the other. So the prompt and the completion can be encoded apart and joined later, and the first token of the completion stands where the prompt's length says. We try both on 1,000 random texts.

# %% [markdown] lang="zh"
# 手算一个：`P` 是 0，`S` 是 1，`E` 是 2，`U` 是 3，于是数字 `0` 是 4，数字 `5` 是 9。上面那串编号，头两个正是 1 和 9。
#
# 这个分词器有两条好性质。第一，不丢东西：解码能还原文本。第二，先编码再拼接，与先拼接再编码，结果一样：对任意两段文本 $x$、$y$，
#
# $$\mathrm{encode}(x)+\mathrm{encode}(y)=\mathrm{encode}(x+y)$$
#
# 这里的 $+$ 表示首尾相接，对列表、对文本都一样。所以提示和回答可以分开编码，再接起来；提示有几个词元，回答就从第几格开始（从零数起）。下面拿 1,000 段随机文本来验证这两条。

# %%
rng = np.random.default_rng(0)
letters = list(tokenizer.vocabulary)
texts = ["".join(rng.choice(letters, size=rng.integers(0, 30))) for _ in range(1_000)]
for x, y in zip(texts, reversed(texts)):
    assert tokenizer.decode(tokenizer.encode(x)) == x
    assert tokenizer.encode(x) + tokenizer.encode(y) == tokenizer.encode(x + y)

# %% [markdown] lang="en"
# The second property is not a matter of course. Tokenizers of real models glue frequent neighbours into one token (byte-pair encoding, [Sennrich et al. 2016](https://arxiv.org/abs/1508.07909)). Suppose that the pair `=2` were such a token. Then the border between prompt and completion would run through the middle of it:

# %% [markdown] lang="zh"
# 第二条并非理所当然。真实模型的分词器会把常挨在一起的字符并成一个词元（字节对编码，[Sennrich et al. 2016](https://arxiv.org/abs/1508.07909)）。假如 `=2` 这一对就是这样一个词元，提示和回答的分界线就从它中间穿过去了：

# %%
def merging_tokens(text, pair="=2"):
    pieces = text.split(pair)
    return [token for piece in pieces[:-1] for token in (*piece, pair)] + list(pieces[-1])


apart, joined = merging_tokens("S54=") + merging_tokens("27+27E"), merging_tokens("S54=" + "27+27E")
print(apart, joined, sep="\n")
assert apart != joined and "".join(apart) == "".join(joined)
assert len(joined) == len(apart) - 1

# %% [markdown] lang="en"
# Count the tokens of the prompt alone, and you point one token too far into the joined text. Mistakes of this kind are silent: nothing crashes, the model learns slightly the wrong thing. With characters they cannot happen. What can happen is a character that the vocabulary lacks; then `encode` stops and names it.

# %% [markdown] lang="zh"
# 先单独数出提示有几个词元，再拿这个数到拼好的文本里去用，就会多指一格。这类错误没有声响：程序不崩，模型只是悄悄学歪了一点。按字符切，就不会出这种事。要出事，只能是碰上词表里没有的字符；这时 `encode` 会停下来，指明是哪一个。

# %%
try:
    tokenizer.encode("S54=9×6E")
except ValueError as error:
    print(error)

# %% [markdown] lang="en"
# ## What the model is asked
# A language model reads tokens from left to right and, at every position, guesses the next one. So one text of $T$ tokens holds $T-1$ small questions. The answer to the question at position $t$ is the token at position $t+1$. These answers are called **labels**; because each stands one place to the left of where it stood in the text, one speaks of **shifted labels**.

# %% [markdown] lang="zh"
# ## 模型要答什么
# 语言模型从左往右读词元，读到每个位置，都要猜下一个词元是什么。一段 $T$ 个词元的文本，就是 $T-1$ 道小题。第 $t$ 个位置的标准答案，是第 $t+1$ 个位置上的词元。这些答案叫**标签**（label）；每个标签都比它在原文里的位置左移了一格，所以叫**标签移位**（shifted labels）。

# %%
row = torch.tensor(tokenizer.encode("S7=3+4E"))
inputs, labels = row[:-1], row[1:]
for t in range(len(inputs)):
    print(f"{t}: after {tokenizer.decode(row[: t + 1]):7} comes {tokenizer.decode(labels[t : t + 1])}")
assert len(labels) == len(row) - 1
assert all(labels[t] == row[t + 1] for t in range(len(labels)))

# %% [markdown] lang="en"
# What if one shifts wrongly? Forget the shift, and every label is the token that the model has just read. Shift by two, and position $t$ is asked for the token at position $t+2$. Before you read on: which of the two mistakes shows in the loss, and which in the texts?
#
# `chapters/data/shifts.py` trains three models of chapter 3 for 600 steps with each shift, from three seeds, and stores what they end with.

# %% [markdown] lang="zh"
# 移错了会怎样？忘了移位，标签就成了模型刚读到的那个词元。移了两格，位置 $t$ 要答的就成了位置 $t+2$ 上的词元。先别往下看：这两个错误，哪一个在损失里看得出来，哪一个在文本里看得出来？
#
# `chapters/data/shifts.py` 按每一种移位，用三个种子把第 3 章的模型各训练 600 步，存下最后的结果。

# %%
shifts = json.loads(Path("data/shifts.json").read_text(encoding="utf-8"))
none, right, two = ([r for r in shifts["runs"] if r["shift"] == n] for n in (0, 1, 2))
print(shifts["command"], "·", shifts["steps"], "steps")
for shift, runs in enumerate((none, right, two)):
    print(f"shift {shift}  loss       ", *(f"{run['nats_per_token']:.3f}" for run in runs))
    for name in ("well_formed", "exact"):
        print(f"         {name:11}", *(f"{run[name]['value']:.3f}" for run in runs))
    print("        ", *(run["examples"][1] for run in runs))
    assert len(runs) == len({run["seed"] for run in runs}) == 3
for run in none:
    assert run["nats_per_token"] == run["well_formed"]["value"] == 0
    assert all(len(set(text.split("=")[1])) == 1 for text in run["examples"])
for run in right:
    assert run["well_formed"]["low"] > 0.99 and 0.14 < run["exact"]["value"] < 0.18
for run, other in zip(two, right):  # seed by seed
    assert run["well_formed"]["high"] < 0.4 and run["exact"]["value"] <= 0.001
    assert 1 < run["nats_per_token"] / other["nats_per_token"] < 1.1

# %% [markdown] lang="en"
# Without the shift the loss reads 0, and the model writes one character up to the limit of length: it has learnt to repeat what it reads, and not one of its texts is well formed. With a shift by two the loss is less than a tenth above the right one, so the loss alone would hardly raise suspicion. The texts do: at most four in ten are well formed, against 99 %, and at most one in a thousand is exact, where the right shift has come to about one in six after so few steps. Print what a model writes; one or two samples are enough here.

# %% [markdown] lang="zh"
# 不移位，损失是 0，模型却把同一个字符一直写到长度上限：它学会的是把读到的再写一遍，没有一段文本格式正确。移了两格，损失比正确的高出不到一成，光看损失，很难起疑。文本却藏不住：格式正确的至多四成，正确的移位有 99%；答案正确的至多千分之一，而正确的移位练了这么几步，也到了六分之一左右。把模型写的打印出来看看；在这里，看上一两段就够了。

# %% [markdown] lang="en"
# ## Many rows at once
# A processor is fast when it does the same thing to many numbers. So texts are stacked into a **batch**: a rectangle of ids, written $(B,T)$, with $B$ rows and $T$ positions. Texts differ in length, rectangles do not. The gaps are filled with `P`; this is **padding**. Along with the ids goes an **attention mask** of the same shape, true where a token is real.
#
# Padding may stand on the right or on the left. For training, right padding is convenient: a model that only looks to the left never sees it. For writing, left padding is convenient: then all rows end where the next token is to be put (chapter 4).

# %% [markdown] lang="zh"
# ## 一次处理许多行
# 处理器要对一大片数做同一件事，才跑得快。于是把文本叠成一个**批次**（batch）：一张写满编号的矩形表，记作 $(B,T)$，$B$ 行，$T$ 个位置。文本有长有短，矩形却要各行一样长，空出来的格子用 `P` 填满，这叫**填充**（padding）。除了编号，还有一张同样大小的**注意力掩码**（attention mask）：格子里原本就有词元的为真，填充的为假。
#
# 填充可以放右边，也可以放左边。训练时放右边方便：模型只往左看，根本看不到填充。生成时放左边方便：下一个词元写在行尾，这样各行的行尾就对齐了（第 4 章）。

# %%
rows = [tokenizer.encode(text) for text in ("S7=3+4E", "S54=27+27E")]
for side in ("right", "left"):
    input_ids, attention_mask = tokenizer.pad(rows, side=side)
    print(side, tuple(input_ids.shape), [tokenizer.decode(ids) for ids in input_ids])
    assert (attention_mask.sum(1) == torch.tensor([7, 10])).all()
    assert ((input_ids == tokenizer.pad_id) == ~attention_mask).all()

# %% [markdown] lang="en"
# ## What is to be learnt
# Not every question is worth asking. The padding is nobody's text. The prompt is given: at the time of use it comes from outside, so there is no need to learn to write it. What remains is the completion, `E` included, because a writer who does not know when to stop is of no use. A third rectangle says so: the **loss mask**, true on the completion's tokens. In the code it is called `completion_mask`.
#
# `collate` does all of this at once for a list of prompts and a list of completions.

# %% [markdown] lang="zh"
# ## 该学哪些
# 不是每道题都值得考。填充不属于任何文本。提示是别人给的，用的时候从外面来，不必学着写。剩下的就是回答，连 `E` 在内：写起来不知道在哪儿停，就派不上用场。第三张矩形表记的正是这件事，叫**损失掩码**（loss mask），在回答的词元上为真；代码里的名字是 `completion_mask`。
#
# 给一列提示和一列回答，`collate` 一次做完上面这些。

# %%
input_ids, completion_mask = tokenizer.collate(["S7=", "S54=", "S-3="], ["3+4E", "27+27E", "5-9+1E"])
for ids, mask in zip(input_ids, completion_mask):
    print(tokenizer.decode(ids), "".join("x" if m else "." for m in mask))
assert completion_mask.sum().item() == len("3+4E") + len("27+27E") + len("5-9+1E")
assert not (completion_mask & (input_ids == tokenizer.pad_id)).any()

# %% [markdown] lang="en"
# The picture below puts the three rectangles together. On the left are the tokens, on the right the labels that count: the same rows, moved one place to the left, with everything dropped that the loss mask does not mark. The position of `=` carries the first label that counts. It asks for the first character of the answer.

# %% [markdown] lang="zh"
# 下图把三张表放到一起。左边是词元；右边是计入损失的标签：还是那几行，左移一格，凡是损失掩码没标的都去掉。第一个计入损失的标签，落在 `=` 的位置上：它要模型写出回答的第一个字符。

# %% alt_en="Two grids of letters side by side. Left: three padded rows; prompt cells are grey, completion cells blue, padding cells empty. Right: the same completion letters one column further to the left, all other cells empty." alt_zh="左右两张字母表格。左：三行带填充的文本，提示格为灰色，回答格为蓝色，填充格为空。右：同样的回答字母整体左移一列，其余格子为空。"
def draw(axes, letters, shades):
    for (i, j), letter in np.ndenumerate(letters):
        color = {0: "none", 1: COLORS["ref"], 2: COLORS["policy"]}[shades[i, j]]
        axes.add_patch(Rectangle((j, i), 1, 1, facecolor=color, edgecolor=INK, linewidth=0.6))
        if color != "none":
            axes.text(j + 0.5, i + 0.5, letter, ha="center", va="center", color="white", family="monospace")
    axes.set(xlim=(0, letters.shape[1]), ylim=(len(letters), 0), aspect="equal", yticks=[])
    axes.set_xticks(np.arange(letters.shape[1]) + 0.5, range(letters.shape[1]))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.grid(False)


letters = np.array([list(tokenizer.decode(ids)) for ids in input_ids])
kinds = (input_ids != tokenizer.pad_id).int().numpy() + completion_mask.int().numpy()
fig, (left, right) = figure(2, width=7.6, height=1.9)
draw(left, letters, kinds)
draw(right, letters[:, 1:], np.where(completion_mask[:, 1:], 2, 0))
left.set_xlabel("t")
right.set_xlabel("t")
first_label = completion_mask[:, 1:].int().argmax(dim=1)
assert first_label.tolist() == [text.index("=") for text in map(tokenizer.decode, input_ids)]

# %% [markdown] lang="en"
# **Figure 1.1.** Left: tokens of three rows (grey: prompt, blue: completion, empty: padding). Right: the labels that count, each one place to the left of its token.

# %% [markdown] lang="zh"
# **图 1.1** 左：三行的词元（灰：提示；蓝：回答；空：填充）。右：计入损失的标签，每个都比自己的词元靠左一格。

# %% [markdown] lang="en"
# ## What must not change
# Wrong masks do not crash, so training code can be wrong here for a long time; [chapter 8](08_tensors.ipynb) has a museum of such mistakes from public code. The remedy is to state what must hold whatever the data, and to test it. Three statements cover this chapter:
#
# 1. The number of marked tokens is the number of tokens in the completions, no more, no less.
# 2. Reading the marked tokens of a row gives the completion back.
# 3. A longer neighbour in the batch adds padding to a row and changes nothing else.
#
# Here they are for 500 texts of the population. The last two lines plant the classical mistake, a mask that begins one token too late, and see that statement 2 catches it.

# %% [markdown] lang="zh"
# ## 什么不能变
# 掩码错了，程序并不崩，所以训练代码可能错了很久也没人知道；[第 8 章](08_tensors.ipynb)有一座博物馆，收的就是公开代码里的这类错误。对付的办法，是把无论什么数据都该成立的事写下来，逐条测试。这一章有三条：
#
# 1. 标出的词元有几个，各个回答合起来就有几个词元，不多也不少。
# 2. 把一行里标出的词元读出来，就是那个回答。
# 3. 同一批次里来了更长的邻居，这一行只多出填充，别的都不变。
#
# 下面拿这个群体的 500 段文本来查。最后还故意种下一个经典错误：掩码晚开始一格；第 2 条当场把它抓住。

# %%
prompts, completions = task.demonstrations(500, stream("chapter 1", seed=1))
ids, mask = tokenizer.collate(prompts, completions)
read_back = [tokenizer.decode(row[marked]) for row, marked in zip(ids, mask)]
assert mask.sum().item() == sum(map(len, completions))  # 1
assert read_back == completions  # 2
for i in range(0, 500, 50):  # 3
    alone_ids, alone_mask = tokenizer.collate(prompts[i : i + 1], completions[i : i + 1])
    width = alone_ids.shape[1]
    assert (ids[i, :width] == alone_ids).all() and (mask[i, :width] == alone_mask).all()
    assert (ids[i, width:] == tokenizer.pad_id).all() and not mask[i, width:].any()
late = mask & mask.roll(1, dims=1)
assert [tokenizer.decode(row[marked]) for row, marked in zip(ids, late)] != completions

# %% [markdown] lang="en"
# > **What the toy hides.** Real vocabularies have tens of thousands of tokens or more, and encoding is not a look-up but a search for merges, so the border between prompt and completion needs care. Real prompts come in a *chat template*: special tokens around each turn, which must be masked too. And `P` is our own letter; some released models have no padding token, and people reuse the end token for it (chapter 8 shows a case). Then a mask computed as "everything that is not padding" also drops the real end of the text, and the model never learns to stop.

# %% [markdown] lang="zh"
# > **玩具没告诉你的。** 真实的词表有几万个词元，甚至更多；编码也不靠查表，而要搜索该怎样合并，所以提示与回答的分界要小心处理。真实的提示套着**对话模板**（chat template）：每一轮前后都有特殊词元，它们也得遮掉。还有，`P` 是我们自己留的字母；有些公开的模型没有填充词元，大家就拿结束词元顶替（第 8 章有一例）。这时若把掩码写成「不是填充的都算」，文本真正的结尾也会一起遮掉，模型就永远学不会停。

# %% [markdown] lang="en"
# > **To remember.** A text is a row of ids. A batch is a rectangle, and padding makes it one. The label of a position is the next token. The loss mask marks the completion, `E` included, and nothing else. Each of these can be stated as an equality, and each equality can be tested.

# %% [markdown] lang="zh"
# > **记住。** 一段文本是一行编号。一个批次是一张矩形表，靠填充补齐。一个位置的标签，是下一个词元。损失掩码只标回答，连 `E` 在内，别的都不标。这几件事都能写成等式，等式都能测试。

# %% [markdown] lang="en"
# ## Exercises

# %% [markdown] lang="zh"
# ## 练习

# %% [markdown] lang="en"
# ### Exercise 1.1 · Encode by hand
# ★☆☆ · 5 minutes
#
# Write the ids of `S8=9-1E` as a list, without calling `encode`.
#
# <details><summary>Hint</summary>
#
# The digit `0` has id 4. After the digit `9` come `+`, `-`, `*`, `/`, then `.`, `:`, `=`.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 1.1 · 手工编码
# ★☆☆ · 5 分钟
#
# 不调用 `encode`，把 `S8=9-1E` 的编号写成一个列表。
#
# <details><summary>提示</summary>
#
# 数字 `0` 的编号是 4。数字 `9` 后面依次是 `+`、`-`、`*`、`/`，再往后是 `.`、`:`、`=`。
#
# </details>

# %% tags=["exercise"]
answer_1_1 = ...  # a list of seven ids
check("1.1", answer_1_1)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# `S` is 1. A digit $d$ has id $d+4$. `+` is 14, so `-` is 15 and `=` is 20. `E` is 2.
#
# ```python
# answer_1_1 = [1, 12, 20, 13, 15, 5, 2]
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# `S` 是 1。数字 $d$ 的编号是 $d+4$。`+` 是 14，所以 `-` 是 15，`=` 是 20。`E` 是 2。
#
# ```python
# answer_1_1 = [1, 12, 20, 13, 15, 5, 2]
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 1.2 · How much is padding?
# ★☆☆ · 5 minutes
#
# The batch of Figure 1.1 has three rows: `S7=3+4E`, `S54=27+27E`, `S-3=5-9+1E`. What share of its cells is padding? Give a number between 0 and 1.
#
# <details><summary>Hint</summary>
#
# The width is the length of the longest row. Count the cells, then the letters.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 1.2 · 填充占多少
# ★☆☆ · 5 分钟
#
# 图 1.1 的批次有三行：`S7=3+4E`、`S54=27+27E`、`S-3=5-9+1E`。填充占全部格子的几分之几？写一个 0 到 1 之间的数。
#
# <details><summary>提示</summary>
#
# 宽度就是最长那一行的长度。先数格子，再数字母。
#
# </details>

# %% tags=["exercise"]
answer_1_2 = ...  # a number between 0 and 1
check("1.2", answer_1_2)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# The rows have 7, 10 and 10 tokens, so the batch has 3 · 10 = 30 cells, 3 of them padding: one tenth.
#
# ```python
# answer_1_2 = 3 / 30
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 三行各有 7、10、10 个词元，整张表 3 · 10 = 30 格，其中 3 格是填充：十分之一。
#
# ```python
# answer_1_2 = 3 / 30
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 1.3 · A loss mask for left padding
# ★★☆ · 15 minutes
#
# `collate` pads on the right. Write the function `answer_1_3(prompt_lengths, lengths, width)`: the loss mask of the same rows when the padding stands on the *left*. The first two arguments are lists of whole numbers, one entry a row: the length of the prompt and the length of the whole row. Return a tensor of booleans of shape `(B, width)`.
#
# This is the mask that the script of *Simple_RLHF_DPO*, the small public project from which this book grew, gets wrong; chapter 9 shows why nobody noticed.
#
# <details><summary>Hint</summary>
#
# On the left, a row ends at `width`. Where does its completion begin?
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 1.3 · 左填充的损失掩码
# ★★☆ · 15 分钟
#
# `collate` 在右边填充。请写函数 `answer_1_3(prompt_lengths, lengths, width)`：还是那些行，填充改放**左边**，损失掩码该是什么？前两个参数都是整数列表，每行一项：前一个是提示的长度，后一个是整行的长度。返回形状为 `(B, width)` 的布尔张量。
#
# *Simple_RLHF_DPO* 是一个公开的小项目，本书由它长成；它的脚本，错的正是这个掩码。为什么一直没人发现，见第 9 章。
#
# <details><summary>提示</summary>
#
# 填充放左边时，每一行都在 `width` 处结束。那么回答从哪一格开始？
#
# </details>

# %% tags=["exercise"]
def answer_1_3(prompt_lengths, lengths, width):
    ...


check("1.3", answer_1_3)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# All rows end at `width`, and a completion has `length - prompt_length` tokens. So it begins at `width - (length - prompt_length)`, and it runs to the end of the row.
#
# ```python
# def answer_1_3(prompt_lengths, lengths, width):
#     completion_lengths = torch.tensor(lengths) - torch.tensor(prompt_lengths)
#     return torch.arange(width) >= width - completion_lengths[:, None]
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 每一行都在 `width` 处结束，回答有 `length - prompt_length` 个词元。所以它从 `width - (length - prompt_length)` 开始，一直到行尾。
#
# ```python
# def answer_1_3(prompt_lengths, lengths, width):
#     completion_lengths = torch.tensor(lengths) - torch.tensor(prompt_lengths)
#     return torch.arange(width) >= width - completion_lengths[:, None]
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 1.4 · Labels with a hole
# ★★☆ · 10 minutes
#
# Many libraries store labels and loss mask in one tensor: the label where it counts, and -100 where it does not (`CrossEntropyLoss` of PyTorch ignores -100). Write the function `answer_1_4(input_ids, completion_mask)` that returns such a tensor of shape `(B, T-1)`: already shifted, so that entry `t` is the label of position `t`.
#
# <details><summary>Hint</summary>
#
# Shift the ids and the mask by the same one place. The mask that belongs to a label is the mask of the token which the label is.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 1.4 · 带空洞的标签
# ★★☆ · 10 分钟
#
# 许多库把标签和损失掩码存进同一个张量：计入损失的位置放标签，不计入的位置放 -100（PyTorch 的 `CrossEntropyLoss` 会跳过 -100）。请写函数 `answer_1_4(input_ids, completion_mask)`，返回这样一个形状为 `(B, T-1)` 的张量；要先移好位，第 `t` 项就是位置 `t` 的标签。
#
# <details><summary>提示</summary>
#
# 编号和掩码要一起移，都移一格。一个标签计不计入损失，看它自己那个词元的掩码。
#
# </details>

# %% tags=["exercise"]
def answer_1_4(input_ids, completion_mask):
    ...


check("1.4", answer_1_4)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# Both lose their first column. Where the shifted mask is false, the label is replaced.
#
# ```python
# def answer_1_4(input_ids, completion_mask):
#     return input_ids[:, 1:].masked_fill(~completion_mask[:, 1:], -100)
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 两者都去掉第一列。移位后的掩码为假的地方，把标签换掉。
#
# ```python
# def answer_1_4(input_ids, completion_mask):
#     return input_ids[:, 1:].masked_fill(~completion_mask[:, 1:], -100)
# ```
#
# </details>

# %% [markdown] lang="en"
# ## References
# - [Sennrich et al. 2016](https://arxiv.org/abs/1508.07909), *Neural Machine Translation of Rare Words with Subword Units*: byte-pair encoding for text.
#
# Next: [chapter 2](02_llama.ipynb) builds the network that reads these rows.

# %% [markdown] lang="zh"
# ## 参考文献
# - [Sennrich et al. 2016](https://arxiv.org/abs/1508.07909)，*Neural Machine Translation of Rare Words with Subword Units*：把字节对编码用于文本。
#
# 下一步：[第 2 章](02_llama.ipynb)来搭建读取这些行的网络。
