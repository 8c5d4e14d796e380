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
# > **In this chapter.** You will write a tokenizer, stack texts of different lengths into one batch, and mark which tokens a model is to learn; and you will state what must never change in any of this, so that a mistake is caught. You need Python and a first look at tensors. 15 minutes to read; 10 seconds to run.

# %% [markdown] lang="zh"
# > **本章。** 读完后，你能写出一个分词器，能把长短不一的文本叠成一个批次，还能标出模型该学哪些词元；并且说得出这中间有哪几件事绝不能变，还能写出当场抓住错误的测试。需要会 Python，对张量有初步了解。阅读 15 分钟，运行 10 秒。

# %%
import json
from pathlib import Path

import numpy as np
import torch
from checks import check
from checks.ch01 import faulty_masks
from matplotlib.patches import Rectangle

from dpo_core import BookTask, CharTokenizer, judge
from dpo_core.plotting import COLORS, INK, figure, picture
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
# The texts come from a *population of authors*. Some write two numbers, some three; some slip. Chapter 3 says exactly how often. For now we ask the population for six texts and let an exact checker mark them. (The checker is a parser; [chapter 4](04_sampling.ipynb) takes it apart.)

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
# 文本出自一个**作者群体**（population of authors）：有人爱写两个数，有人爱写三个，有人会失误。各占多少，第 3 章细说。先向他们要六段文本，交给一个精确的判分程序批改。（判分程序是一个语法分析器，[第 4 章](04_sampling.ipynb)再拆开来看。）

# %%
task = BookTask()
prompts, completions = task.demonstrations(6, stream("chapter 1", seed=0))
for prompt, completion in zip(prompts, completions):
    verdict = judge(prompt, completion)
    text = f"{prompt}{completion}"
    print(f"{text:14} {verdict.numbers} numbers  exact: {verdict.exact}")
first = completions[0]
assert not judge(prompts[0], first).exact
assert judge(prompts[0], first.replace("22-", "12-")).exact

# %% [markdown] lang="en"
# The first text misses its target: the author meant 12 and wrote 22 as the second number. That is the population's one kind of slip: a second number that is ten too large.
#
# The whole population can write 210,000 different texts to 166 different prompts. That is small enough to list, and the library does list it. We lean on this often: what other books estimate, this one can count.

# %% [markdown] lang="zh"
# 第一段没有命中目标：第二个数，作者心里想的是 12，写下来却是 22。这个群体只有这一种**失误**（slip）：第二个数多写了十。
#
# 整个群体能写出 210,000 种文本，对应 166 个提示。这点数目可以逐一列出，程序库里真的列了一张表。后面常要用它：别的书只能估计的量，这里数得出来。

# %% tags=["proof"] checked_en="Counted: 210,000 different texts, 166 prompts." checked_zh="在整个群体上验证：一共 210,000 种文本，166 个提示。"
everything = list(zip(task.table.prompts, task.table.completions))
assert len(everything) == len(set(everything)) == 210_000
assert len(task.prompt_distribution) == 166

# %% [markdown] lang="en"
# ## From characters to ids
# A network computes with numbers, not with letters. A **tokenizer** cuts a text into pieces, called **tokens**, and gives each piece a number, its **id**. The list of all pieces is the **vocabulary**.
#
# Ours is the simplest tokenizer there is: one character is one token. The vocabulary has 22 entries and never changes. `P` will fill gaps, `S` starts, `E` ends, and `U` is reserved for a character that nobody knows. Then come the digits, the four operators and `.:=_`. The position of a character in this string is its id, counted from 0:

# %% [markdown] lang="zh"
# ## 从字符到编号
# 网络只会算数，不认字。**分词器**（tokenizer）把文本切成小块，每一块叫一个**词元**（token），再给每块一个号码，叫**编号**（id）。所有词元列在一起，就是**词表**（vocabulary）。
#
# 我们用最简单的一种：一个字符就是一个词元。词表固定为 22 项。`P` 用来填空位，`S` 开头，`E` 收尾，`U` 留给谁也不认识的字符；然后是数字、四个运算符，以及 `.:=_`。字符在下面这个字符串里排第几（从 0 数起），编号就是几：

# %%
VOCABULARY = "PSEU0123456789+-*/.:=_"
id_of = {character: place for place, character in enumerate(VOCABULARY)}


def encode(text):
    return [id_of[character] for character in text]


def decode(ids):
    return "".join(VOCABULARY[i] for i in ids)


print(encode("S54=27+27E"))
tokenizer = CharTokenizer()  # the library's
assert tokenizer.vocabulary == VOCABULARY and len(VOCABULARY) == 22
assert encode("S54=27+27E") == tokenizer.encode("S54=27+27E")
assert decode(encode("S54=27+27E")) == "S54=27+27E"

# %% [markdown] lang="en"
# Check one by hand: `P` is 0, `S` is 1, `E` is 2, `U` is 3, so the digit `0` is 4 and the digit `5` is 9. The text above starts with 1, then 9.
#
# Two properties make this tokenizer easy to live with. First, nothing is lost: decoding gives the text back. Second, it respects gluing: for any two texts $x$ and $y$,
#
# $$\mathrm{encode}(x)+\mathrm{encode}(y)=\mathrm{encode}(x+y),$$
#
# where $+$ puts one list, or one text, behind the other. So the prompt and the completion can be encoded apart and joined later, and the first token of the completion stands where the prompt's length says.

# %% [markdown] lang="zh"
# 手算一个：`P` 是 0，`S` 是 1，`E` 是 2，`U` 是 3，于是数字 `0` 是 4，数字 `5` 是 9。上面那串编号，头两个正是 1 和 9。
#
# 这个分词器有两条好性质。第一，不丢东西：解码能还原文本。第二，先编码再拼接，与先拼接再编码，结果一样：对任意两段文本 $x$、$y$，
#
# $$\mathrm{encode}(x)+\mathrm{encode}(y)=\mathrm{encode}(x+y)$$
#
# 这里的 $+$ 表示首尾相接，对列表、对文本都一样。所以提示和回答可以分开编码，再接起来；提示有几个词元，回答就从第几格开始（从零数起）。

# %%
assert encode("S54=") + encode("27+27E") == encode("S54=27+27E")
assert decode(encode("S54=27+27E")[len("S54=") :]) == "27+27E"

# %% tags=["proof"] checked_en="Checked on 1,000 random texts: both properties, and that ours and the library's tokenizer agree." checked_zh="在 1,000 段随机文本上验证：两条性质都成立，我们的分词器与程序库的一致。"
rng = np.random.default_rng(0)
letters = list(VOCABULARY)
texts = ["".join(rng.choice(letters, size=rng.integers(0, 30))) for _ in range(1_000)]
for x, y in zip(texts, reversed(texts)):
    assert decode(encode(x)) == x == tokenizer.decode(encode(x))
    assert encode(x) + encode(y) == encode(x + y) == tokenizer.encode(x + y)

# %% [markdown] lang="en"
# The second property is not a matter of course. Tokenizers of real models glue frequent neighbours into one token (byte-pair encoding, [Sennrich et al. 2016](https://arxiv.org/abs/1508.07909)). Suppose that the pair `=2` were such a token.
#
# > **Before you run it.** Encode `S54=` and `27+27E` apart, and count; then encode `S54=27+27E` as a whole. Is the number of tokens the same?
#
# <details><summary>Answer</summary>
#
# No. Apart, `=` and `2` are two tokens; in the whole text they are neighbours and become one. The border between prompt and completion runs through its middle.
#
# </details>

# %% [markdown] lang="zh"
# 第二条并非理所当然。真实模型的分词器会把常挨在一起的字符并成一个词元（字节对编码，[Sennrich et al. 2016](https://arxiv.org/abs/1508.07909)）。假如 `=2` 这一对就是这样一个词元。
#
# > **先猜一猜。** 把 `S54=` 和 `27+27E` 分开编码，数一数有几个词元；再把 `S54=27+27E` 整段编码。两次的词元一样多吗？
#
# <details><summary>答案</summary>
#
# 不一样多。分开时，`=` 和 `2` 是两个词元；放在整段里，它们挨着，并成了一个。提示与回答的分界线，正好从它中间穿过去。
#
# </details>


# %%
def merging_tokens(text, pair="=2"):
    pieces = text.split(pair)
    before = [token for piece in pieces[:-1] for token in (*piece, pair)]
    return before + list(pieces[-1])


apart = merging_tokens("S54=") + merging_tokens("27+27E")
whole = merging_tokens("S54=" + "27+27E")
print(apart, whole, sep="\n")
assert apart != whole and "".join(apart) == "".join(whole)
assert len(whole) == len(apart) - 1

# %% [markdown] lang="en"
# Count the tokens of the prompt alone, and you point one token too far into the whole text. Mistakes of this kind are silent: nothing crashes, the model learns slightly the wrong thing. With characters they cannot happen. What can happen is a character that the vocabulary lacks; that is all which the library's `encode` adds to ours: it stops and names it.

# %% [markdown] lang="zh"
# 先单独数出提示有几个词元，再拿这个数到整段文本里去用，就会多指一格。这类错误没有声响：程序不崩，模型只是悄悄学歪了一点。按字符切，就不会出这种事。要出事，只能是碰上词表里没有的字符；程序库的 `encode` 比我们的只多做一件事：这时它会停下来，指明是哪一个。

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
row = torch.tensor(encode("S7=3+4E"))
inputs, labels = row[:-1], row[1:]
for t in range(len(inputs)):
    print(f"{t}: after {decode(row[: t + 1]):7} comes {decode(labels[t : t + 1])}")
assert len(labels) == len(row) - 1
assert all(labels[t] == row[t + 1] for t in range(len(labels)))

# %% [markdown] lang="en"
# What if one shifts wrongly? Forget the shift, and every label is the token that the model has just read. Shift by two, and position $t$ is asked for the token at position $t+2$.
#
# `chapters/data/shifts.py` trains three models of chapter 3 for 600 steps with each shift, from three seeds, and stores what they end with.
#
# > **Before you run it.** Which of the two mistakes shows in the loss, and which in the texts that the model writes?
#
# <details><summary>Answer</summary>
#
# No shift shows in both: the loss falls to 0, which no honest loss does, and the texts are one character repeated. A shift by two hides in the loss and shows in the texts.
#
# </details>

# %% [markdown] lang="zh"
# 移错了会怎样？忘了移位，标签就成了模型刚读到的那个词元。移了两格，位置 $t$ 要答的就成了位置 $t+2$ 上的词元。
#
# `chapters/data/shifts.py` 按每一种移位，用三个种子把第 3 章的模型各训练 600 步，存下最后的结果。
#
# > **先猜一猜。** 这两个错误，哪一个在损失里看得出来，哪一个在模型写的文本里看得出来？
#
# <details><summary>答案</summary>
#
# 不移位，两处都看得出来：损失降到 0，正常的损失做不到；文本是同一个字符写到底。移两格，损失里藏得住，文本里藏不住。
#
# </details>

# %%
shifts = json.loads(Path("data/shifts.json").read_text(encoding="utf-8"))
none, right, two = ([r for r in shifts["runs"] if r["shift"] == n] for n in (0, 1, 2))
print(shifts["command"], "·", shifts["steps"], "steps\n")
print("shift  seed   loss  well formed  exact  a sample")
for shift, runs in enumerate((none, right, two)):
    for run in runs:
        formed, exact = run["well_formed"]["value"], run["exact"]["value"]
        print(
            f"{shift:5} {run['seed']:5} {run['nats_per_token']:6.2f} {formed:12.2f}",
            end="",
        )
        print(f" {exact:6.2f}  {run['examples'][1][:20]}")
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
# Without the shift the model has learnt to repeat what it reads, and not one of its texts is well formed. With a shift by two the loss is less than a tenth above the right one, so the loss alone would hardly raise suspicion. The texts do: at most four in ten are well formed, against 99%, and at most one in a thousand is exact, where the right shift has come to about one in six after so few steps.
#
# Print what a model writes; one or two samples are enough here.

# %% [markdown] lang="zh"
# 不移位，模型学会的是把读到的再写一遍，没有一段文本格式正确。移了两格，损失比正确的高出不到一成，光看损失，很难起疑。文本却藏不住：格式正确的至多四成，正确的移位有 99%；答案正确的至多千分之一，而正确的移位练了这么几步，也到了六分之一左右。
#
# 把模型写的打印出来看看；在这里，看上一两段就够了。

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
def pad(rows, side="right"):
    """Rows of ids as one rectangle (B, T), and where its real tokens are."""
    width = max(len(row) for row in rows)
    input_ids = torch.full((len(rows), width), id_of["P"])
    attention_mask = torch.zeros(len(rows), width, dtype=torch.bool)
    for b, row in enumerate(rows):
        start = 0 if side == "right" else width - len(row)
        input_ids[b, start : start + len(row)] = torch.tensor(row)
        attention_mask[b, start : start + len(row)] = True
    return input_ids, attention_mask


rows = [encode("S7=3+4E"), encode("S54=27+27E")]
for side in ("right", "left"):
    input_ids, attention_mask = pad(rows, side)
    library_ids, library_mask = tokenizer.pad(rows, side)
    print(f"{side:6}", tuple(input_ids.shape), *(decode(ids) for ids in input_ids))
    assert torch.equal(input_ids, library_ids)
    assert torch.equal(attention_mask, library_mask)
    assert attention_mask.sum(1).tolist() == [7, 10]

# %% [markdown] lang="en"
# ## What is to be learnt
# Not every question is worth asking. The padding is nobody's text. The prompt is given: at the time of use it comes from outside, so there is no need to learn to write it. What remains is the completion, `E` included, because a writer who does not know when to stop is of no use. A second mask says so: the **loss mask**, true on the completion's tokens. In the code it is called `completion_mask`.
#
# > **Before you run it.** Position $t$ is asked for the token at position $t+1$. In `S7=3+4E`, which position carries the first label that counts: that of `=`, or that of `3`?
#
# <details><summary>Answer</summary>
#
# That of `=`. Having read it, the model must write the first character of the answer. A mask belongs to the token that *is* the label, so it moves one place to the left together with it.
#
# </details>
#
# `collate` does all of this at once for a list of prompts and a list of completions.

# %% [markdown] lang="zh"
# ## 该学哪些
# 不是每道题都值得考。填充不属于任何文本。提示是别人给的，用的时候从外面来，不必学着写。剩下的就是回答，连 `E` 在内：写起来不知道在哪儿停，就派不上用场。再用一张掩码把这件事记下来，叫**损失掩码**（loss mask），在回答的词元上为真；代码里的名字是 `completion_mask`。
#
# > **先猜一猜。** 位置 $t$ 要答的是位置 $t+1$ 上的词元。在 `S7=3+4E` 里，第一个计入损失的标签落在哪个位置上：`=` 的位置，还是 `3` 的位置？
#
# <details><summary>答案</summary>
#
# `=` 的位置。读完它，模型就得写出回答的第一个字符。掩码跟着的是*充当标签*的那个词元，所以要与标签一起左移一格。
#
# </details>
#
# 给一列提示和一列回答，`collate` 一次做完上面这些。


# %%
def collate(prompts, completions):
    """Right-padded ids (B, T), and the loss mask: true on the completions alone."""
    texts = [prompt + completion for prompt, completion in zip(prompts, completions)]
    input_ids, completion_mask = pad([encode(text) for text in texts])
    for b, prompt in enumerate(prompts):
        completion_mask[b, : len(prompt)] = False
    return input_ids, completion_mask


three = ["S7=", "S54=", "S-3="], ["3+4E", "27+27E", "5-9+1E"]
input_ids, completion_mask = collate(*three)
for ids, mask in zip(input_ids, completion_mask):
    print(decode(ids), "".join("x" if m else "." for m in mask))
for ours, library in zip((input_ids, completion_mask), tokenizer.collate(*three)):
    assert torch.equal(ours, library)
first_label = completion_mask[:, 1:].int().argmax(1)  # its place after the shift
assert [decode(ids[t : t + 1]) for ids, t in zip(input_ids, first_label)] == ["="] * 3

# %% [markdown] lang="en"
# Here is the first of these rows with everything that belongs to it, one line each.

# %% [markdown] lang="zh"
# 下面把其中第一行连同它带着的东西全画出来，一样占一行。


# %% tags=["figure"]
def strip(axes, y, letters, shades):
    """A line of cells with letters; a shade for each, None for an empty cell."""
    for x, (letter, shade) in enumerate(zip(letters, shades)):
        ground = COLORS.get(shade, shade) if shade else "none"
        style = {"facecolor": ground, "edgecolor": INK, "linewidth": 0.6}
        axes.add_patch(Rectangle((x, y), 1, 0.8, **style))
        ink = "white" if shade else INK
        axes.text(x + 0.5, y + 0.4, letter, ha="center", va="center", color=ink)


def frame(axes, width, names):
    """Axes around strips at y = 0, 1, ...: places below, names on the left."""
    axes.set(xlim=(-0.03, width + 0.03), ylim=(len(names) - 0.1, -0.1))
    axes.set_xticks(np.arange(width) + 0.5, range(width))
    axes.set_yticks(np.arange(len(names)) + 0.4, names)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.grid(False)


# %% tags=["figure"] alt_en="Five lines of ten cells. Tokens: S 7 = in grey, 3 + 4 E in blue, three empty cells with P. Ids: 1 11 20 7 14 8 2 0 0 0. Attention mask: seven ones, three zeros. Loss mask: three zeros, four ones, three zeros. Labels that count: 3 + 4 E in the places 2 to 5." alt_zh="五行，每行十格。词元：S 7 = 为灰色，3 + 4 E 为蓝色，三个空格里是 P。编号：1 11 20 7 14 8 2 0 0 0。注意力掩码：七个一，三个零。损失掩码：三个零，四个一，三个零。计入损失的标签：3 + 4 E，在第 2 到第 5 格。"
@picture
def one_row(say):
    _, axes = figure(width=6.4, height=3.2)
    letters, counts = decode(input_ids[0]), completion_mask[0].tolist()
    real = (input_ids[0] != id_of["P"]).tolist()
    labels, label_counts = letters[1:] + " ", [*counts[1:], False]
    kinds = ["policy" if c else "ref" if r else None for r, c in zip(real, counts)]
    strip(axes, 0, letters, kinds)
    strip(axes, 1, input_ids[0].tolist(), kinds)
    strip(axes, 2, map(int, real), [INK if r else None for r in real])
    strip(axes, 3, map(int, counts), [INK if c else None for c in counts])
    shown = [label if c else "" for label, c in zip(labels, label_counts)]
    strip(axes, 4, shown, ["policy" if c else None for c in label_counts])
    names = (
        say("token", "词元"),
        say("token id", "编号"),
        say("attention mask", "注意力掩码"),
        say("loss mask", "损失掩码"),
        say("label that counts", "计入损失的标签"),
    )
    frame(axes, 10, names)
    axes.set_xlabel(say("position in the row", "行内的位置"))


# %% [markdown] lang="en"
# **Figure 1.1.** One row of a batch, padded to ten places: prompt grey, completion blue. The attention mask marks what is real, the loss mask what is to be learnt. In the last line the labels have moved one place to the left, and the first that counts stands under `=`.
#
# The whole batch, before the shift and after it:

# %% [markdown] lang="zh"
# **图 1.1** 批次里的一行，填充到十格：提示为灰色，回答为蓝色。注意力掩码标出哪些是真正的词元，损失掩码标出该学哪些。最后一行里，标签左移了一格，第一个计入损失的标签就落在 `=` 下面。
#
# 再看整个批次，移位之前和之后：


# %% tags=["figure"] alt_en="Two groups of three lines of cells. Above, the tokens of three padded rows: prompts grey, completions blue, padding empty. Below, the labels that count: the same completion letters, one column further to the left, all other cells empty." alt_zh="两组，各三行方格。上面是三行带填充的文本的词元：提示为灰色，回答为蓝色，填充为空。下面是计入损失的标签：同样的回答字母整体左移一列，其余格子为空。"
@picture
def a_batch(say):
    _, axes = figure(width=6.4, height=4.0)
    names = [
        say("tokens", "词元"),
        "",
        "",
        "",
        say("labels\nthat count", "计入损失\n的标签"),
        "",
        "",
    ]
    for b, (ids, counts) in enumerate(zip(input_ids, completion_mask)):
        letters = decode(ids)
        kinds = ["policy" if c else "ref" if i else None for i, c in zip(ids, counts)]
        strip(axes, b, letters.replace("P", " "), kinds)
        moved = ["policy" if c else None for c in counts[1:]]
        strip(axes, b + 4, [x if c else "" for x, c in zip(letters[1:], moved)], moved)
    frame(axes, 10, names)
    axes.set_xlabel(say("position in the row", "行内的位置"))


# %% [markdown] lang="en"
# **Figure 1.2.** Above, three rows: prompt grey, completion blue, padding empty. Below, the labels that count, each one place to the left of its token.
#
# ## What must not change
# Wrong masks do not crash, so training code can be wrong here for a long time; [chapter 8](08_tensors.ipynb) has a museum of such mistakes from public code. The remedy is to state what must hold whatever the data, and to test it. Three statements cover this chapter:
#
# 1. The number of marked tokens is the number of tokens in the completions, no more, no less.
# 2. Reading the marked tokens of a row gives the completion back.
# 3. A longer neighbour in the batch adds padding to a row and changes nothing else: its own ids and marks stay, and no padding is marked.
#
# We hold three ways of collating against them: ours, and two with a classical mistake. One mask begins a token too late. The other forgets that rows end, and marks the padding.
#
# > **Before you run it.** Which of the three statements notices the late mask?
#
# <details><summary>Answer</summary>
#
# The first two: every row lacks its first token. The third does not, for the mask is just as wrong in a row that is alone. One statement is not enough.
#
# </details>

# %% [markdown] lang="zh"
# **图 1.2** 上：三行文本，提示为灰色，回答为蓝色，填充为空。下：计入损失的标签，每个都比自己的词元靠左一格。
#
# ## 什么不能变
# 掩码错了，程序并不崩，所以训练代码可能错了很久也没人知道；[第 8 章](08_tensors.ipynb)有一座博物馆，收的就是公开代码里的这类错误。对付的办法，是把无论什么数据都该成立的事写下来，逐条测试。这一章有三条：
#
# 1. 标出的词元有几个，各个回答合起来就有几个词元，不多也不少。
# 2. 把一行里标出的词元读出来，就是那个回答。
# 3. 同一批次里来了更长的邻居，这一行只多出填充，别的都不变：自己的编号和标记照旧，填充一格也不标。
#
# 拿三种写法来对一对：一种是我们的，另外两种各带一个经典错误。一张掩码晚开始了一格；另一张忘了行是有尽头的，把填充也标上了。
#
# > **先猜一猜。** 掩码晚开始一格，三条里哪几条会察觉？
#
# <details><summary>答案</summary>
#
# 前两条：每一行都少了第一个词元。第三条察觉不到，因为这一行单独放着时，掩码也照样错。可见只写一条是不够的。
#
# </details>


# %%
def statements(collate, prompts, completions):
    """Which of the three hold for a way of collating."""
    ids, marks = collate(prompts, completions)
    read = [decode(row[marked]) for row, marked in zip(ids, marks)]
    stays = True
    for row, marked, *text in zip(ids, marks, prompts, completions):
        alone, alone_marks = (z[0] for z in collate(*([part] for part in text)))
        width = len(alone)
        stays &= torch.equal(row[:width], alone) and (row[width:] == id_of["P"]).all()
        stays &= torch.equal(marked[:width], alone_marks) and not marked[width:].any()
    return marks.sum() == sum(map(len, completions)), read == completions, stays


def begins_late(prompts, completions):
    ids, marks = collate(prompts, completions)
    return ids, marks & marks.roll(1, dims=1)


def marks_padding(prompts, completions):
    ids, marks = collate(prompts, completions)
    return ids, marks.cumsum(1) > 0


# %%
right, late, padded = (
    [bool(holds) for holds in statements(way, *three)]
    for way in (collate, begins_late, marks_padding)
)
print("statement         1     2     3")
for name, found in (("ours", right), ("begins late", late), ("marks padding", padded)):
    print(f"{name:13}", *(f"{holds!s:>5}" for holds in found))
assert right == [True, True, True]
assert late == [False, False, True]
assert padded == [False, False, False]

# %% tags=["proof"] checked_en="Checked on 500 texts of the population: the three statements, for our collate and the library's, which are equal; the late mask is caught." checked_zh="在这个群体的 500 段文本上验证：三条对我们的 collate 和程序库的都成立，两者相等；晚开始一格的掩码会被抓住。"
many = task.demonstrations(500, stream("chapter 1", seed=1))
assert all(statements(collate, *many)) and all(statements(tokenizer.collate, *many))
for ours, library in zip(collate(*many), tokenizer.collate(*many)):
    assert torch.equal(ours, library)
assert not all(statements(begins_late, *many))

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
# The batch of Figure 1.2 has three rows: `S7=3+4E`, `S54=27+27E`, `S-3=5-9+1E`. What share of its cells is padding? Give a number between 0 and 1.
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
# 图 1.2 的批次有三行：`S7=3+4E`、`S54=27+27E`、`S-3=5-9+1E`。填充占全部格子的几分之几？写一个 0 到 1 之间的数。
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
# The rows have 7, 10 and 10 tokens, so the batch has 3×10 = 30 cells, 3 of them padding: one tenth.
#
# ```python
# answer_1_2 = 3 / 30
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 三行各有 7、10、10 个词元，整张表 3×10 = 30 格，其中 3 格是填充：十分之一。
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
def answer_1_3(prompt_lengths, lengths, width): ...


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
def answer_1_4(input_ids, completion_mask): ...


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
# ### Exercise 1.5 · Another population
# ★★☆ · 10 minutes
#
# Predict, then count. A completion of the population has 6.25 tokens on average. Suppose that 60% of the authors write a third number instead of 30%, and that 50% slip instead of 25%. The first two numbers are uniform from 0 to 49, the third from 0 to 9. By how many tokens does the mean completion grow? Predict it with pencil and paper; then count with `BookTask(style=0.6, slip=0.5).table`, which has `completions` and their `probability`.
#
# <details><summary>Hint</summary>
#
# How many characters does a third number cost? And for which second numbers does "ten too large" need another digit?
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 1.5 · 换一个群体
# ★★☆ · 10 分钟
#
# 先猜，再数。这个群体的回答平均有 6.25 个词元。假如写第三个数的作者由 30% 变成 60%，失误的由 25% 变成 50%。前两个数在 0 到 49 之间均匀取，第三个数在 0 到 9 之间均匀取。回答的平均长度会增加几个词元？先用纸笔算出来，再用 `BookTask(style=0.6, slip=0.5).table` 数一遍，里面有 `completions` 和各自的 `probability`。
#
# <details><summary>提示</summary>
#
# 多写一个数，要多几个字符？第二个数是哪些时，「多写十」才会多出一位？
#
# </details>

# %% tags=["exercise"]
answer_1_5 = ...  # a number of tokens
check("1.5", answer_1_5)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# A third number is one sign and one digit: 2 tokens, for 30% more of the texts. A slip lengthens the text only if the second number has one digit, 10 of 50, and then by 1: this happens to another 25% of the texts. Together $0.3\cdot2+0.25\cdot0.2=0.65$.
#
# ```python
# answer_1_5 = 0.3 * 2 + 0.25 * 10 / 50
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 多写一个数，就是一个符号加一位数字，2 个词元；这样的文本多了 30%。失误要让文本变长，第二个数得是一位数：50 个里有 10 个，各长出 1 个词元；失误的文本多了 25%。合起来是 $0.3\cdot2+0.25\cdot0.2=0.65$。
#
# ```python
# answer_1_5 = 0.3 * 2 + 0.25 * 10 / 50
# ```
#
# </details>

# %% [markdown] lang="en"
# Four colleagues have each written a loss mask for 500 right-padded texts of the population, and each has one mistake. We count what their masks mark; the first line is the right mask.

# %% [markdown] lang="zh"
# 四位同事各给群体的 500 段右填充文本写了一张损失掩码，各有一个错。数一数他们标出了些什么；第一行是正确的掩码。

# %%
print("mask   tokens    E    =    P")
for name, marked in faulty_masks().items():
    print(f"{name:6} {len(marked):6}", *(f"{marked.count(c):4}" for c in "E=P"))

# %% [markdown] lang="en"
# ### Exercise 1.6 · Which line is it?
# ★★☆ · 10 minutes
#
# `place` is the position in the row, `prompt` the length of the prompt, `length` that of the row. These are the colleagues' lines, in another order:
#
# 1. `(place >= prompt - 1) & (place < length)`
# 2. `(place >= prompt) & (ids != pad)`, where the tokenizer has no token for padding and `pad` is the id of `E`
# 3. `place >= prompt`
# 4. `(place > prompt) & (place < length)`
#
# Which line made the masks A, B, C and D? Write a string of four digits.
#
# <details><summary>Hint</summary>
#
# Every text has one `=` and one `E`. Compare each count with 500.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 1.6 · 是哪一行
# ★★☆ · 10 分钟
#
# `place` 是行内的位置，`prompt` 是提示的长度，`length` 是整行的长度。四位同事写的是下面这几行，次序打乱了：
#
# 1. `(place >= prompt - 1) & (place < length)`
# 2. `(place >= prompt) & (ids != pad)`，分词器没有填充词元，`pad` 用的是 `E` 的编号
# 3. `place >= prompt`
# 4. `(place > prompt) & (place < length)`
#
# 掩码 A、B、C、D 各出自哪一行？写成四个数字的字符串。
#
# <details><summary>提示</summary>
#
# 每段文本都有一个 `=`、一个 `E`。把每个数同 500 比一比。
#
# </details>

# %% tags=["exercise"]
answer_1_6 = ...  # a string of four digits
check("1.6", answer_1_6)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# A and D mark 500 tokens too few, one a text. D has lost every `E`: its model never learns to stop. A still has them, so it lacks the first token. C marks `=`, one place too early. B marks padding. The count of marked tokens alone cannot tell A from D.
#
# ```python
# answer_1_6 = "4312"
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# A 和 D 都少标了 500 个，每段一个。D 的 `E` 全丢了，这样训练出来的模型永远学不会停；A 的 `E` 都在，少的是第一个词元。C 标上了 `=`，早了一格。B 标上了填充。只看标出的总数，分不清 A 和 D。
#
# ```python
# answer_1_6 = "4312"
# ```
#
# </details>

# %% [markdown] lang="en"
# ## References
# - [Sennrich et al. 2016](https://arxiv.org/abs/1508.07909): byte-pair encoding for text.
#
# Next: [chapter 2](02_llama.ipynb) builds the network that reads these rows.

# %% [markdown] lang="zh"
# ## 参考文献
# - [Sennrich et al. 2016](https://arxiv.org/abs/1508.07909)：把字节对编码用于文本。
#
# 下一步：[第 2 章](02_llama.ipynb)来搭建读取这些行的网络。
