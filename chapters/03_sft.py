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
# # 3 Learning to imitate

# %% [markdown] lang="zh"
# # 3 学会模仿

# %% [markdown] lang="en"
# > **In this chapter.** You will be able to say how low a loss can possibly go, train a small Llama by next-token prediction, measure how far above that limit it stands, and tell what it has learnt from what it has only stored. You need the masks of [chapter 1](01_strings.ipynb), the network of [chapter 2](02_llama.ipynb), and logarithms. 45 minutes to read, 60 seconds to run.

# %% [markdown] lang="zh"
# > **本章。** 读完后，你能算出损失最低能到哪里，能用「预测下一个词元」训练一个小 Llama，还能量出它离这个极限有多远，分清哪些是它学会的、哪些只是存下来的。需要[第 1 章](01_strings.ipynb)的掩码、[第 2 章](02_llama.ipynb)的网络，以及对数。阅读 45 分钟，运行 60 秒。

# %%
import json
import math
import tempfile
from collections import Counter
from contextlib import chdir
from pathlib import Path

import numpy as np
import torch
from checks import check
from torch.nn import functional as F

from dpo_core import (BookTask, CharTokenizer, Llama, ModelConfig, arms, judge,
                      load_pretrained, score, sequence_logps, token_logps, use_threads)  # fmt: skip
from dpo_core.checkpoint import model_folder
from dpo_core.commands.parser import main
from dpo_core.commands.train_gen import TrainGen
from dpo_core.evaluation import evaluate, excess_nats, mean_interval
from dpo_core.optim import learning_rate_factor, make_optimizers, orthogonalise
from dpo_core.plotting import COLORS, figure
from dpo_core.progress import progress_bar
from dpo_core.steps import sft_step
from dpo_core.storage import workshop
from dpo_core.task import stream
from dpo_core.training import LoopConfig, default_device, train

# %% [markdown] lang="en"
# ## A population to imitate
# The texts of this book come from a *population of authors*. Here is how they write. An author picks two numbers from 0 to 49 and a sign, `+` or `-`. Three authors in ten add a third number from 0 to 9 with a sign of its own; this is their *style*. The target is the value of what the author means. Then one author in four *slips*: the second number is written ten too large, and the text misses its target. Numbers and signs are drawn uniformly, and all choices are independent.
#
# The first training of the book asks a network to write like them. (In Simple_RLHF_DPO, this book's *seed project*, the script is called `train_gen`.) Because we know the population exactly, we can ask what is usually out of reach: how well can *any* model do, and how close does ours come? (We say *answer* for what the code calls a completion.)

# %% [markdown] lang="zh"
# ## 要模仿的那群人
# 这本书的文本，都出自一个**作者群体**（population of authors）。他们这样写：先从 0 到 49 里挑两个数，再挑一个符号，`+` 或 `-`。十个人里有三个还要添上第三个数，从 0 到 9 里挑，符号也另挑：这叫**风格**（style）。目标就是作者心里那个算式的值。落笔时，四个人里有一个会**失误**（slip）：第二个数多写了十，结果对不上目标。数和符号都是均匀地挑，各次挑选彼此独立。
#
# 全书的第一次训练，就是让网络学着像他们那样写。（本书由**种子项目**（seed project）Simple_RLHF_DPO 长出来，在那里，这个脚本叫 `train_gen`。）群体的底细我们全知道，于是可以问一个平常没法问的问题：随便什么模型，最好能做到什么地步？我们的模型又差多少？（代码里的 completion，正文里都叫回答。）

# %%
use_threads()  # why, the section on training says
task, tokenizer, device = BookTask(), CharTokenizer(), default_device()
table = task.table
for i in (27_126, 27_127):  # what an author means, and the slip
    print(f"{table.prompts[i]}{table.completions[i]}  p={table.probability[i]:.2e}  exact={table.exact[i]}")
assert len(table.prompts) == 210_000 and abs(table.probability.sum() - 1) < 1e-9
assert abs(table.probability[table.style].sum() - 0.30) < 1e-9
assert abs(table.probability[table.exact].sum() - 0.75) < 1e-9

# %% [markdown] lang="en"
# ## Surprise, counted
# We need a number for how well a guess fits what people write. Begin with ten authors who answer one prompt, `S2=`. Five write `1+1E`, two `2+0E`, two `0+2E`, one `3-1E`. Write $p(y)$ for the share of the answer $y$: one half, one fifth, one fifth, one tenth.
#
# The **surprise** of an answer is $-\log p(y)$; textbooks say *self-information*. It is zero for an answer that everybody gives and grows as the answer gets rarer. The logarithm is there because probabilities multiply and we would rather add. It is the natural logarithm, and its unit is the **nat**. The mean surprise is the **entropy** ([Shannon 1948](https://doi.org/10.1002/j.1538-7305.1948.tb01338.x)):
#
# $$H(p)=-\sum_y p(y)\log p(y).$$
#
# By hand: five surprises of $\log 2=0.693$, four of $\log 5=1.609$, one of $\log 10=2.303$; add them, divide by ten, and the entropy is 1.22 nats.

# %% [markdown] lang="zh"
# ## 数出来的惊讶
# 一个猜测与大家的写法合不合，得有个数来衡量。先看十位作者回答同一个提示 `S2=`：五人写 `1+1E`，两人写 `2+0E`，两人写 `0+2E`，一人写 `3-1E`。用 $p(y)$ 记回答 $y$ 所占的比例：二分之一、五分之一、五分之一、十分之一。
#
# 一个回答的**惊讶**（surprise）是 $-\log p(y)$，教科书里叫**自信息**（self-information）。人人都这么答，惊讶为零；越少见，惊讶越大。取对数，是因为概率要连乘，而我们宁愿做加法。这里用自然对数，单位叫**奈特**（nat）。惊讶的平均就是**熵**（entropy，[Shannon 1948](https://doi.org/10.1002/j.1538-7305.1948.tb01338.x)）：
#
# $$H(p)=-\sum_y p(y)\log p(y)$$
#
# 手算一遍：五份 $\log 2=0.693$，四份 $\log 5=1.609$，一份 $\log 10=2.303$，加起来除以十，熵是 1.22 奈特。

# %%
answers = ["1+1E"] * 5 + ["2+0E"] * 2 + ["0+2E"] * 2 + ["3-1E"]
p = {y: count / len(answers) for y, count in Counter(answers).items()}
for y in p:
    print(f"{y}  p={p[y]:.1f}  surprise={-math.log(p[y]):.3f}")
entropy = -sum(p[y] * math.log(p[y]) for y in p)
assert abs(entropy - 1.22) < 0.005 and abs((5 * 0.693 + 4 * 1.609 + 2.303) / 10 - entropy) < 0.001

# %% [markdown] lang="en"
# Now somebody guesses the shares without having seen the answers. Call the guess $q(y)$. The guesser's mean surprise at the same answers is the **cross-entropy** $H(p,q)$. Who guesses four equal shares, for example, is surprised by $\log 4=1.386$ every time. That is 0.166 nats worse than the truth. The gap between guess and truth is the **KL divergence** (after Kullback and Leibler). It has a direction. Here the mean is taken over $p$, the data; the field calls this the **forward KL**, and chapter 6 will need the reverse.
#
# $$\mathrm{KL}(p\,\|\,q)=H(p,q)-H(p)=\sum_y p(y)\log\frac{p(y)}{q(y)},\qquad H(p,q)=-\sum_y p(y)\log q(y).$$
#
# It is never negative. One inequality is enough, $\log u\le u-1$, with equality only at $u=1$. Put $u=q(y)/p(y)$ and take the mean over $p$ (the sums run over the answers that occur):
#
# $$-\mathrm{KL}(p\,\|\,q)=\sum_y p(y)\log\frac{q(y)}{p(y)}\le\sum_y p(y)\Big(\frac{q(y)}{p(y)}-1\Big)=\sum_y q(y)-1\le 0.$$
#
# So the best guess is the truth itself, and even the truth pays $H(p)$. The worst guess is a zero for something that happens: its surprise is infinite. So whoever lowers the forward KL learns to leave nothing out, mistakes included. The cell tries 1,000 random guesses.

# %% [markdown] lang="zh"
# 现在来了一个人，没看过这些回答，凭空猜各占多少，他的猜测记作 $q(y)$。面对同样的回答，他的平均惊讶叫**交叉熵**（cross-entropy），记作 $H(p,q)$。比如他猜四种一样多，那么每次的惊讶都是 $\log 4=1.386$，比真相多 0.166 奈特。猜测与真相之间的这个差，叫 **KL 散度**（KL divergence，以 Kullback 和 Leibler 命名）。它有方向。这里按 $p$，也就是按数据，求平均，叫**正向 KL**（forward KL）；第 6 章要用的是反向的那个。
#
# $$\mathrm{KL}(p\,\|\,q)=H(p,q)-H(p)=\sum_y p(y)\log\frac{p(y)}{q(y)},\qquad H(p,q)=-\sum_y p(y)\log q(y)$$
#
# 它不会是负数。证明只要一个不等式：$\log u\le u-1$，仅当 $u=1$ 时取等号。令 $u=q(y)/p(y)$，再按 $p$ 求平均（只对出现过的回答求和）：
#
# $$-\mathrm{KL}(p\,\|\,q)=\sum_y p(y)\log\frac{q(y)}{p(y)}\le\sum_y p(y)\Big(\frac{q(y)}{p(y)}-1\Big)=\sum_y q(y)-1\le 0$$
#
# 所以最好的猜测就是真相；而真相自己也要付 $H(p)$。最糟的猜测，是把会发生的事猜成零概率：惊讶无穷大。所以，要把正向 KL 降下来，就什么都不能漏，连错误也不能。下面随机猜 1,000 次试试。

# %%
def cross_entropy(p, q):
    return -sum(p[y] * math.log(q[y]) for y in p)


gap = cross_entropy(p, dict.fromkeys(p, 1 / 4)) - entropy
assert abs(math.log(4) - 1.386) < 5e-4 and abs(gap - 0.166) < 5e-4
assert abs(gap - sum(p[y] * math.log(p[y] / (1 / 4)) for y in p)) < 1e-12
guesses = np.random.default_rng(0).dirichlet(np.ones(4), size=1_000)
assert all(cross_entropy(p, dict(zip(p, guess))) > entropy for guess in guesses)

# %% [markdown] lang="en"
# ## The floor
# In our world each prompt $x$ has shares of its own, $p(y\mid x)$, and prompts differ in frequency, $p(x)$. The mean surprise of someone who knows all of this is
#
# $$H(Y\mid X)=-\sum_{x,y}p(x,y)\log p(y\mid x).$$
#
# For each prompt the argument above holds, so no model, however large, can have a lower expected loss. Its name in information theory is the **conditional entropy** of the answer given the prompt. What it is to us is a limit: we call it the **entropy floor**.
#
# Count it once on a population that fits on four lines: authors who know only 0 and 1, write two numbers, and never slip. They have eight texts, all equally likely.

# %% [markdown] lang="zh"
# ## 下界
# 在我们的世界里，每个提示 $x$ 各有自己的比例 $p(y\mid x)$，提示本身出现得也有多有少，记作 $p(x)$。把这些全知道的人，平均惊讶是
#
# $$H(Y\mid X)=-\sum_{x,y}p(x,y)\log p(y\mid x)$$
#
# 对每个提示，上面的论证都成立。所以模型再大，期望损失也低不过这个数。它在信息论里叫**条件熵**（conditional entropy）：给定提示之后，回答的熵。对我们来说它是一道极限，所以叫它**熵下界**（entropy floor）。
#
# 先在一个四行就能写完的群体上数一遍：作者只认得 0 和 1，只写两个数，从不失误。他们一共能写八种文本，每种机会均等。

# %%
def texts(task):
    rows = zip(task.table.prompts, task.table.completions, task.table.probability)
    return [(x, y, weight) for x, y, weight in rows if weight > 0]


def floor(task):
    p_x = Counter()
    for x, _, weight in texts(task):
        p_x[x] += weight
    return -sum(weight * math.log(weight / p_x[x]) for x, _, weight in texts(task))


tiny = BookTask(style=0.0, slip=0.0, largest=1)
for prompt in ("S-1=", "S0=", "S1=", "S2="):
    print(prompt, [y for x, y, _ in texts(tiny) if x == prompt])
careless = BookTask(style=0.0, slip=0.25, largest=1)
yes_or_no = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
assert len(texts(tiny)) == 8 and abs(floor(tiny) - 6 / 8 * math.log(3)) < 1e-12 and abs(floor(tiny) - 0.824) < 5e-4
assert abs(floor(careless) - floor(tiny) - yes_or_no) < 1e-12 and abs(yes_or_no - 0.562) < 5e-4

# %% [markdown] lang="en"
# For two of the prompts there is nothing to guess: entropy zero. The other two have three equal answers each, $\log 3$ nats, and they take six of the eight texts. The floor is $\frac{6}{8}\log 3=0.824$ nats an answer. Let a quarter of these authors slip, and one more thing is unknown about every answer: did this author slip? That yes or no adds its own entropy, 0.562 nats.
#
# The library does the same with all 210,000 texts. `BookTask.table` lists them with their probabilities, `prompt_distribution` adds up the rows of a prompt, `log_conditional` divides by that and takes the logarithm, and `entropy` is the mean. The result: **5.736 nats an answer**. Since $e^{5.736}\approx 310$, the authors are as hard to predict as a fair draw among 310 answers. An answer has 6.25 tokens on average, so a token costs 0.918 nats.
#
# Such an exponential is a **perplexity**. Language models are usually reported by the perplexity of a token. Here the lowest possible is $e^{0.918}=2.50$: as if two or three tokens were possible each time.
#
# The same table gives a second landmark. Take away the prompt, and keep the shares of the answers over the whole population: their entropy is $H(Y)=10.139$. A model that ignores the prompt cannot get below this line. The 4.403 nats between the two lines are what the prompt tells about the answer.

# %% [markdown] lang="zh"
# 四个提示里，两个没什么可猜，熵为零。另外两个各有三种机会相同的回答，熵是 $\log 3$，它们占了八种文本里的六种。于是下界是 $\frac{6}{8}\log 3=0.824$ 奈特（每个回答）。再让四分之一的作者失误，每个回答就多了一件说不准的事：这个人失误了没有？这一问的熵是 0.562 奈特，恰好加在下界上。
#
# 对全部 210,000 种文本，程序库做的是同一件事：`BookTask.table` 列出文本和概率，`prompt_distribution` 把同一提示的各行加起来，`log_conditional` 用各行除以这个和、再取对数，`entropy` 求平均。结果是**每个回答 5.736 奈特**。$e^{5.736}\approx 310$，也就是说，猜这些作者写什么，难度相当于猜 310 支签里会抽中哪一支。一个回答平均 6.25 个词元，摊到每个词元是 0.918 奈特。
#
# 这样取指数得到的数叫**困惑度**（perplexity）。报告语言模型时，通常按词元来算。在这里最低能到 $e^{0.918}=2.50$：好比每一步都在两三个词元里猜一个。
#
# 从这张表还能读出第二条线。不看提示，只看各个回答在整个群体里占多少，熵是 $H(Y)=10.139$。不理会提示的模型，损失不可能低于这条线。两条线相差 4.403 奈特，这就是提示透露的信息。

# %%
lengths = np.array([len(y) for y in table.completions])
tokens = float(table.probability @ lengths)
print(f"floor {task.entropy:.3f} nats an answer, {task.entropy / tokens:.3f} a token, e^floor {math.exp(task.entropy):.0f}")
assert abs(floor(task) - task.entropy) < 1e-9 and abs(task.entropy - 5.736) < 5e-4
assert abs(tokens - 6.25) < 5e-3 and abs(task.entropy / tokens - 0.918) < 5e-4 and round(math.exp(task.entropy)) == 310
assert f"{math.exp(task.entropy / tokens):.2f}" == "2.50"  # perplexity, a token
p_y = Counter()
for _, y, weight in texts(task):
    p_y[y] += weight
blind = -sum(weight * math.log(weight) for weight in p_y.values())  # H(Y)
print(f"without the prompt {blind:.3f}, difference {blind - task.entropy:.3f}")
assert abs(blind - 10.139) < 5e-4 and abs(blind - task.entropy - 4.403) < 5e-4

# %% [markdown] lang="en"
# ## One text, many questions
# A network does not hand out a probability for a whole answer. It gives a distribution over the next token. The product rule turns one into the other. Write $\pi_\theta$ for the model with weights $\theta$, and $y_t$ for the $t$-th of the $|y|$ tokens of $y$:
#
# $$\log\pi_\theta(y\mid x)=\sum_{t=1}^{|y|}\log\pi_\theta(y_t\mid x,y_{<t}).$$
#
# So the surprise at an answer is the sum of the surprises at its tokens. And the sum of the surprises at all texts is, but for the sign, the logarithm of the probability that the model gives to the whole training set. To make it small is **maximum likelihood**, statistics' usual way to fit anything.
#
# The tokens' surprises answer the questions of chapter 1, with the shifted labels as the right answers. Below is one text under a network with random weights. Such a network knows nothing and gives each of the 22 tokens about the same probability; the surprise at each label is near $\log 22=3.09$.

# %% [markdown] lang="zh"
# ## 一段文本，许多道题
# 网络不会直接给整个回答一个概率，它给的是下一个词元的分布。靠概率的乘法公式，就能由后者算出前者。记 $\pi_\theta$ 为权重是 $\theta$ 的模型，$y_t$ 为 $y$ 的第 $t$ 个词元，$y$ 共有 $|y|$ 个词元：
#
# $$\log\pi_\theta(y\mid x)=\sum_{t=1}^{|y|}\log\pi_\theta(y_t\mid x,y_{<t})$$
#
# 所以，对一个回答的惊讶，等于对它各个词元的惊讶之和。把所有文本的惊讶加起来，再变个号，就是模型给整个训练集的概率取对数。把它压小，就是统计学里最常用的办法：**最大似然**（maximum likelihood）。
#
# 第 1 章说的那些小题，问的就是各个词元，标准答案是移位后的标签。下面拿一段文本，问一个权重随机的网络。它什么也不懂，22 个词元差不多一视同仁，对每个标签的惊讶都在 $\log 22=3.09$ 上下。

# %%
model = Llama(ModelConfig()).reset_parameters(seed=0).to(device)
ids, mask = tokenizer.collate(["S7="], ["3+4E"])
ids, mask = ids.to(device), mask.to(device)
with torch.no_grad():
    logits = model(ids)
    surprise = -token_logps(logits, ids)[0]
for t in range(ids.shape[1] - 1):
    counts = "counts" if mask[0, t + 1] else ""
    print(f"reads {tokenizer.decode(ids[0, : t + 1]):7} label {tokenizer.decode(ids[0, t + 1 : t + 2])} {surprise[t]:.1f} {counts}")
assert abs(math.log(22) - 3.09) < 5e-3 and abs(surprise.mean() - math.log(22)) < 0.2
assert abs(surprise[mask[0, 1:]].sum() + score(model, ["S7="], ["3+4E"])[0]) < 1e-4

# %% [markdown] lang="en"
# Note what the model reads: the author's tokens, never its own. If its guess at position 3 is wrong, position 4 starts from the right text all the same. This is called **teacher forcing**. It is what makes training fast: all inputs are known beforehand, causal attention keeps each position from seeing its label, and one forward pass answers every question of every row. The cell checks it: asked with the prefix alone, the network says the same.
#
# When the model writes by itself, it reads its own tokens, mistakes included. Chapter 4 looks at that.

# %% [markdown] lang="zh"
# 注意模型读的是什么：是作者写的词元，从来不是它自己的。第 3 格猜错了，第 4 格照样从正确的文本读起。这叫**教师强制**（teacher forcing）。训练之所以快，就靠它：输入事先全知道，因果注意力又不让任何一格看见自己的标签，前向跑一遍，每一行的每道题都答完了。下面验证：只给前缀，网络的回答一模一样。
#
# 等到模型自己动笔，读的就是自己写的词元了，写错的也在内。那是第 4 章的事。

# %%
with torch.no_grad():
    for t in range(ids.shape[1]):
        alone = model(ids[:, : t + 1])[0, -1]
        assert (alone - logits[0, t]).abs().max() < 1e-5

# %% [markdown] lang="en"
# ## Which tokens count
# `sft_step` is the loss of this chapter: run the network, sum the surprises that the loss mask marks, return the sum and how many there were. In Hugging Face's libraries the mask is written into the labels instead, as the value -100, which PyTorch's cross-entropy leaves out. The two agree:

# %% [markdown] lang="zh"
# ## 哪些词元计入损失
# 本章的损失叫 `sft_step`：跑一遍网络，把损失掩码标出的惊讶加起来，返回总和与个数。Hugging Face 的库换了个写法：掩码写进标签，不计入损失的位置填 -100，PyTorch 的交叉熵遇到它就跳过。两种写法结果相同：

# %%
def batch_at(step):
    prompts, completions = task.demonstrations(128, stream("sft", seed=0, step=step))
    input_ids, completion_mask = tokenizer.collate(prompts, completions)
    return {"input_ids": input_ids.to(device), "completion_mask": completion_mask.to(device)}


batch = batch_at(0)
ids, mask = batch["input_ids"], batch["completion_mask"]
total, count = sft_step(model, batch)["loss"]
assert abs(total + sequence_logps(model(ids), ids, mask).sum()) < 1e-2 and count == mask.sum()
labels = ids[:, 1:].masked_fill(~mask[:, 1:], -100)
theirs = F.cross_entropy(model(ids)[:, :-1].flatten(0, 1), labels.flatten())
assert abs(total / count - theirs) < 1e-5
assert abs(total / count - math.log(22)) < 0.1 and 18 < total / len(ids) < 20.5

# %% [markdown] lang="en"
# The seed project counts all tokens except padding. Then the model is also asked to guess the prompt: which targets occur, and how often. That is a second thing to learn, with an entropy of its own, $H(X)=4.853$ nats. The floor of the sum is
#
# $$H(X,Y)=H(X)+H(Y\mid X)=4.853+5.736=10.589.$$
#
# Does the extra question harm the answers? Stored runs of 600 steps differ in the mask alone, and each was made from three seeds (`chapters/data/sft_optimizers.py`). The yardstick is the excess on the answers: how many nats they cost above their floor.
#
# With all tokens in the loss, the prompts are learnt to within 0.02 nats of their entropy. With answers alone a prompt costs 15 nats and more: that network cannot write one and will never have to. And the answers? In every seed they are a little *cheaper* where the prompts count too, by 0.07 nats on average. So the extra question does no harm here; after 600 steps it helps a little. Whether that lasts to the end of a full training, these runs do not say.
#
# We count answers only. A prompt comes from outside when the model is used, and $\log\pi_\theta(y\mid x)$ is the quantity that DPO will compare. The choice is not free of doubt: where prompts are long and answers short, [Shi et al. 2024](https://arxiv.org/abs/2405.14394) find that counting the prompt can help.

# %% [markdown] lang="zh"
# 种子项目把填充以外的词元全部计入损失。这样一来，模型还得猜提示：哪些目标会出现、出现得多不多。这是另一件要学的事，自带一份熵，$H(X)=4.853$ 奈特。合起来的下界是
#
# $$H(X,Y)=H(X)+H(Y\mid X)=4.853+5.736=10.589$$
#
# 多出来的这道题会不会拖累回答？存下来的几次训练，各 600 步，只有掩码不同，每种都用三个种子跑过（`chapters/data/sft_optimizers.py`）。拿回答的超额来比：它比自己的下界高出多少奈特。
#
# 全部词元都计入，提示的损失离它的熵不到 0.02 奈特。只计回答，一个提示要付 15 奈特以上：这个网络不会写提示，也用不着会。那么回答呢？三个种子都一样：提示也计入时，回答反而略微**便宜**，平均便宜 0.07 奈特。可见多出来的题没有拖累回答，到第 600 步还帮了一点小忙。跑完全程是否仍然如此，这几次训练回答不了。
#
# 我们只把回答计入损失。用模型的时候，提示从外面来；而且 DPO 将来要比较的量正是 $\log\pi_\theta(y\mid x)$。这个选择并非板上钉钉：提示长、回答短的时候，[Shi et al. 2024](https://arxiv.org/abs/2405.14394) 发现把提示计入损失反而可能更好。

# %%
p_x = np.array(list(task.prompt_distribution.values()))
prompt_entropy = float(-(p_x * np.log(p_x)).sum())
joint = -sum(weight * math.log(weight) for _, _, weight in texts(task))
assert abs(prompt_entropy - 4.853) < 5e-4 and abs(joint - 10.589) < 5e-4
assert abs(prompt_entropy + task.entropy - joint) < 1e-9

# %%
short = json.loads(Path("data/sft_optimizers.json").read_text())["runs"]
masks = {"muon": "answers only", "muon_all": "all tokens"}
print(arms.table(short, masks, ("excess", "prompt_nats")))
learnt = arms.values(short, "muon_all", "prompt_nats").values()
assert max(abs(nats - prompt_entropy) for nats in learnt) < 0.02
assert min(arms.values(short, "muon", "prompt_nats").values()) > 15
assert arms.beats(short, "muon", "muon_all", "excess")  # more nats, in every seed
cheaper = arms.gaps(short, "muon", "muon_all", "excess").values()
assert f"{sum(cheaper) / 3:.2f}" == "0.07"

# %% [markdown] lang="en"
# ## One step, however it is cut
# A batch that does not fit into memory is cut into pieces, and their gradients are added up before the weights move: **gradient accumulation**. The result should be that of the whole batch. By what, then, does one divide?
#
# Take two pieces. The first has 4 tokens with 8 nats in all, the second has 8 tokens with 8 nats. The loss of the whole is $16/12=1.33$ nats a token. The mean of the two means is $(2+1)/2=1.5$. That is another loss, with another gradient: each token of the short piece weighs twice as much as each token of the long one. For this reason every loss step in this book returns (sum, count), and the loop divides once, by the count of the whole step. The mean of means is an easy mistake; Hugging Face's Trainer made it until 2024 ([Debut et al. 2024](https://huggingface.co/blog/gradient_accumulation)).
#
# The cell cuts one batch into eight pieces, sorted by length as one does to save padding. Sums divided once give the gradient of the whole to rounding error. The mean of means misses it by more than 1 %.

# %% [markdown] lang="zh"
# ## 一步怎么切都一样
# 内存装不下一个批次，就切成几块，各算各的梯度，加起来再动权重：这叫**梯度累积**（gradient accumulation）。结果应该同整个批次一样。那么，该除以什么？
#
# 设有两块。第一块 4 个词元，共 8 奈特；第二块 8 个词元，也共 8 奈特。整体的损失是 $16/12=1.33$ 奈特（每个词元）。两块各求平均再平均，是 $(2+1)/2=1.5$。这已经是另一个损失，梯度也不同：短块里的一个词元，分量是长块里的两倍。所以本书的损失函数都返回（总和，个数），由循环在最后除一次，除以这一步的总个数。「平均的平均」这个错很容易犯，Hugging Face 的 Trainer 直到 2024 年还在犯（[Debut et al. 2024](https://huggingface.co/blog/gradient_accumulation)）。
#
# 下面把一个批次按长度排好（为了少填充，大家常这么排），切成八块。总和最后除一次，得到的就是整体的梯度，只差舍入误差；「平均的平均」则偏了 1% 以上。

# %%
def gradient(pieces, mean_of_means):
    model.zero_grad()
    whole = sum(piece["completion_mask"].sum() for piece in pieces)
    for piece in pieces:
        total, count = sft_step(model, piece)["loss"]
        (total / count / len(pieces) if mean_of_means else total / whole).backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


assert abs((8 + 8) / (4 + 8) - 1.33) < 0.005 and (8 / 4 + 8 / 8) / 2 == 1.5
by_length = mask.sum(1).argsort(stable=True)
pieces = [{name: tensor[rows] for name, tensor in batch.items()} for rows in by_length.chunk(8)]
whole = gradient([batch], mean_of_means=False)
off = {way: float((gradient(pieces, way) - whole).norm() / whole.norm()) for way in (False, True)}
assert off[False] < 1e-4 and off[True] > 0.01

# %% [markdown] lang="en"
# ## The optimiser, and why this one
# The **optimiser** turns gradients into steps. The usual one is **AdamW** ([Loshchilov & Hutter 2019](https://arxiv.org/abs/1711.05101); we set its weight decay to 0). For each weight it divides a running mean of the gradient by the root of a running mean of its square, so that all weights move at a similar pace. To AdamW a matrix is a bag of numbers.
#
# **Muon** ([Jordan et al. 2024](https://kellerjordan.github.io/posts/muon/)) sees a matrix as a linear map. Such a map stretches some directions much and others little; the factors are its **singular values**. Those of a gradient fall off quickly, so a step along the gradient spends itself on a few directions. Muon keeps a running mean of the gradients (the momentum) and, before the step, *orthogonalises* it: same directions, all factors near 1. No singular vectors are computed. The matrix $X$ is divided by its norm and put through a polynomial five times; each singular value $s$ then goes through $f$:
#
# $$X\leftarrow aX+b\,XX^\top X+c\,(XX^\top)^2X,\qquad f(s)=as+bs^3+cs^5,$$
#
# with $a=3.4445$, $b=-4.775$, $c=2.0315$. By hand: a diagonal matrix with 3 and 4 has norm 5, so it starts at 0.6 and 0.8, and one round makes these 1.193 and 0.976.

# %% [markdown] lang="zh"
# ## 优化器，以及为什么选它
# **优化器**（optimiser）把梯度变成步子。常用的是 **AdamW**（[Loshchilov & Hutter 2019](https://arxiv.org/abs/1711.05101)；权重衰减我们设为 0）。它对每个权重分别计算：梯度的滑动平均，除以梯度平方的滑动平均的平方根，好让所有权重走得差不多快。在 AdamW 眼里，矩阵只是一袋数。
#
# **Muon**（[Jordan et al. 2024](https://kellerjordan.github.io/posts/muon/)）把矩阵看成线性映射。它在有的方向上拉得长，有的方向上拉得短，这些倍数就是**奇异值**（singular value）。梯度的奇异值衰减得很快，顺着梯度走，力气都花在少数几个方向上。Muon 也留一份梯度的滑动平均（动量，momentum），迈步之前先把它**正交化**（orthogonalise）：方向不动，倍数都拉到 1 附近。它不求奇异向量，而是先把矩阵 $X$ 除以范数，再让它过五遍多项式；每个奇异值 $s$ 于是过五遍 $f$：
#
# $$X\leftarrow aX+b\,XX^\top X+c\,(XX^\top)^2X,\qquad f(s)=as+bs^3+cs^5$$
#
# 其中 $a=3.4445$，$b=-4.775$，$c=2.0315$。手算一个：对角线上是 3 和 4 的矩阵，范数是 5，于是从 0.6 和 0.8 出发，过一遍变成 1.193 和 0.976。

# %%
def f(s, a=3.4445, b=-4.775, c=2.0315):
    return a * s + b * s**3 + c * s**5


once = orthogonalise(torch.diag(torch.tensor([3.0, 4.0]))[None], rounds=1)[0]
five = orthogonalise(torch.diag(torch.tensor([3.0, 4.0]))[None])[0]
print(f"{f(0.6):.3f} {f(0.8):.3f}", "after five rounds:", [round(float(s), 2) for s in five.diag()])
assert abs(f(0.6) - 1.193) < 5e-4 and abs(f(0.8) - 0.976) < 1e-3
assert torch.allclose(once.diag(), torch.tensor([f(0.6), f(0.8)]), atol=1e-4)
model.zero_grad()
sft_step(model, batch)["loss"][0].backward()
matrix = model.model.layers[1].mlp.up_proj.weight.grad  # (64, 64)
before = torch.linalg.svdvals(matrix.cpu())
after = torch.linalg.svdvals(orthogonalise(matrix[None])[0].cpu())
assert before[10] < 0.1 * before[0] and after[0] < 1.3 and after[before > 0.01 * before[0]].min() > 0.6

# %% [markdown] lang="en"
# Muon is for the matrices inside the layers. Embedding, head and norms stay with AdamW, as the authors of Muon advise. Both follow one schedule: the learning rate rises over the first steps, while the running means are still filling (**warm-up**), then falls along a **cosine** to zero, so that the luck of single batches averages out at the end.
#
# Was it worth it? The stored runs of a seed start from the same weights and see the same batches; Muon was tried at one learning rate, AdamW at two. In each of three seeds Muon ends lower than AdamW at either, by about half a nat or more. One small task, 600 steps, two rates for AdamW: enough to choose by here, no verdict on optimisers.

# %% [markdown] lang="zh"
# Muon 只管层内的矩阵；嵌入、输出头和归一化仍交给 AdamW，这也是 Muon 作者的建议。两者共用一套学习率调度：开头几步学习率逐渐升高，等滑动平均攒起来（**预热**，warm-up），之后沿**余弦**降到零（余弦退火，cosine schedule），让单个批次的运气在最后互相抵消。
#
# 换它值不值？存下来的训练里，同一个种子的几次，起点的权重相同，见到的批次也相同；Muon 只试了一个学习率，AdamW 试了两个。三个种子里，Muon 最后都比 AdamW 的任何一个更低，低了约半奈特，或者更多。一个小任务，600 步，AdamW 只试了两个学习率：在这里够做选择了，要评判优化器还差得远。

# %%
names = {"muon": "Muon 0.01", "adamw_0.003": "AdamW 0.003", "adamw_0.01": "AdamW 0.01"}
print(arms.table(short, names, ("excess",)))
for name in ("adamw_0.003", "adamw_0.01"):
    assert arms.beats(short, name, "muon", "excess", by=0.45)  # nats: more is worse

# %% alt_en="Two panels. Left, on a logarithmic axis: the singular values of a gradient fall by four powers of ten, while after orthogonalisation the first half lie near 1. Right: falling loss curves, three of each kind close together; the blue ones, Muon, end below the orange ones, AdamW; a dashed line marks the floor." alt_zh="左右两图。左图纵轴为对数：梯度的奇异值下降了四个数量级，正交化之后前一半都在 1 附近。右图：下降的损失曲线，每种三条，挨得很近；蓝色的 Muon 最后低于橙色的 AdamW；虚线是下界。"
fig, (left, right) = figure(2, width=7.6, height=3.0)
left.semilogy(np.arange(1, 65), before / before[0], ".", color=COLORS["ref"], label="$s_i/s_1$")
left.semilogy(np.arange(1, 65), after, ".", color=COLORS["policy"], label="Muon")
left.set(xlabel="$i$", ylim=(1e-4, 3))
left.legend(loc="lower left")
STYLES = {"adamw_0.01": ("AdamW", "baseline", ":"), "muon": ("Muon", "policy", "-"),
          "adamw_0.003": ("AdamW", "baseline", "-")}  # fmt: skip
for run in short:
    if run["name"] in STYLES:
        word, color, line = STYLES[run["name"]]
        label = f"{word} {run['learning_rate']}" if run["seed"] == 0 else None
        x, y = run["step"][2:], run["nats"][2:]
        right.plot(x, y, line, color=COLORS[color], label=label, linewidth=1)
right.axhline(task.entropy, color=COLORS["theory"], linestyle="--")
right.text(600, task.entropy + 0.1, "$H(Y|X)$", color=COLORS["theory"], ha="right")
right.set(xlabel="step", ylabel="nats", ylim=(5.5, 11))
right.legend()
assert sum(run["name"] in STYLES for run in short) == 9

# %% [markdown] lang="en"
# **Figure 3.1.** Left: the singular values of a gradient, as shares of the largest (grey), and after Muon's five rounds (blue). All that were above 1 % of the largest end between 0.6 and 1.3. Right: 600 steps, three seeds of each; runs of a seed have the same first weights and the same batches; the number is the learning rate.

# %% [markdown] lang="zh"
# **图 3.1** 左：一个梯度的奇异值，都除以最大的一个（灰）；过完 Muon 的五遍之后（蓝）。原先超过最大者 1% 的，都落到了 0.6 与 1.3 之间。右：训练 600 步，每种三个种子；同一个种子的各次训练，起点的权重和用到的批次都相同；数字是学习率。

# %% [markdown] lang="en"
# ## From random weights
# What follows has the loss and the mask of **supervised fine-tuning** (SFT), the first stage of the usual recipe for assistants ([Ouyang et al. 2022](https://arxiv.org/abs/2203.02155)). It lacks SFT's start. SFT begins with a *pretrained* model, which has learnt a language, and facts, and some arithmetic, by predicting the next token of an enormous mass of text. Fine-tuning then mostly shows it which of its abilities to use: [Zhou et al. 2023](https://arxiv.org/abs/2305.11206) fine-tune on 1,000 chosen examples and conclude that almost all knowledge comes from pretraining.
#
# Our network starts from **random weights**. It must learn from the same texts what a digit is, how a sum is written, how to add, and how careless the authors are. Pretraining would have brought the first three. We leave it out because this world contains no other texts to learn from, and because we can afford to: the population writes as much as we want. The shipped model saw 1,152,000 texts, each drawn afresh.
#
# So the training loss estimates the expected loss on the next draw: each batch is measured before the model has learnt from it. That is not the loss on *new* texts. A text of two numbers without a slip is drawn 121 times on average, one with a slip 40 times; of three numbers 2.6 and 0.86 times. What the model makes of texts and prompts that it never saw must be measured apart, and the end of this chapter does.
#
# Here is the whole loop. `dpo_core.training.train` adds accumulation, a metrics file and resuming, and computes the same; the second cell compares the two over three steps.

# %% [markdown] lang="zh"
# ## 从随机权重出发
# 接下来的训练，损失和掩码都是**监督微调**（supervised fine-tuning，SFT）的；训练对话助手的通行做法里，它是第一步（[Ouyang et al. 2022](https://arxiv.org/abs/2203.02155)）。缺的是它的起点。SFT 从一个**预训练**（pretraining）过的模型开始：那个模型在海量文本上预测下一个词元，已经学会了语言、常识，还有一点算术。微调主要是告诉它，该拿出哪样本事。[Zhou et al. 2023](https://arxiv.org/abs/2305.11206) 用 1,000 个精选的例子做微调，结论是：知识几乎都来自预训练。
#
# 我们的网络从**随机权重**开始。数字是什么、算式怎么写、加减怎么算、作者有多粗心，全得从同一批文本里学。前三样，本来可以由预训练带来。我们省掉它，一是因为这个世界里没有别的文本可读，二是因为省得起：要多少文本，群体就写多少。随书的模型读过 1,152,000 段，段段都是新抽的。
#
# 每个批次都是先量、后学，所以训练损失估计的，就是下一次抽取的期望损失。但这不等于在**没见过**的文本上的损失：没有失误的两数文本，每一种平均抽到 121 次，有失误的 40 次；三个数的，分别是 2.6 次和 0.86 次。没读过的文本、没见过的提示，模型答得怎样，得另外量，本章末尾就来量。
#
# 整个循环就在下面。`dpo_core.training.train` 多了梯度累积、指标文件和断点续训，算的是同一件事；第二个单元格拿两者跑三步，对一对。

# %%
def train_here(model, steps, peak=0.01, warmup=50, watch=()):
    optimizers = make_optimizers(model, "muon", peak)
    groups = [(group, group["lr"]) for optimizer in optimizers for group in optimizer.param_groups]
    nats, seen = [], {}
    for step in progress_bar(range(steps), shown=True):
        if step in watch:
            seen[step] = evaluate(model, task, n=500, seed=1)
        for group, group_peak in groups:
            group["lr"] = group_peak * learning_rate_factor(step, steps, warmup)
        batch = batch_at(step)
        total, count = sft_step(model, batch)["loss"]
        (total / count).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        nats.append(float(total.detach()) / len(batch["input_ids"]))
    return np.array(nats), seen


# %%
ours, _ = train_here(Llama(ModelConfig()).reset_parameters(0).to(device), steps=3)
config = LoopConfig(steps=3, learning_rate=0.01, optimizer="muon", warmup=50, log_every=1)
theirs = train(Llama(ModelConfig()).reset_parameters(0).to(device), batch_at, sft_step, config, progress=False)
assert np.allclose(ours, [line["nats_per_completion"] for line in theirs], atol=1e-3)
assert 9_000 * 128 == 1_152_000
views = 1_152_000 * table.probability  # of each text, on average
kinds = [(s, e) for s in (False, True) for e in (True, False)]
means = [float(views[(table.style == s) & (table.exact == e)].mean()) for s, e in kinds]
assert [f"{mean:.3g}" for mean in means] == ["121", "40.3", "2.59", "0.864"]

# %% [markdown] lang="en"
# How fast this runs depends on who else is computing. Torch computes with several *threads*, and in a model this small they spend much of a step waiting for each other, and they wait spinning, with their core at full load: on one machine with two cores we measured a step at 53 ms with one thread and 35 ms with two, but beside one busy process at 58 ms with one and 107 to 490 ms with two. So `use_threads()`, at the top of this chapter, goes by the cores that are idle, as the commands do when they start; `use_threads(1)` in its place, a command's `--threads`, or `OMP_NUM_THREADS` set before Python starts, overrides the choice.
#
# Now 600 steps: one of the blue curves of Figure 3.1 once more, live, with a look at the model's own writing at a few of them: 500 answers each, to prompts from a separate stream of random numbers, marked by the checker of chapter 1.

# %% [markdown] lang="zh"
# 跑得快不快，还要看机器上有没有别的程序在忙。torch 用好几个**线程**（thread）一起算；模型这么小，它们大半工夫花在互相等待上，而且是空转着等，照样把核占满：在一台双核机器上量过，一个线程一步 53 毫秒，两个线程 35 毫秒；旁边有一个程序在忙，一个线程 58 毫秒，两个反而要 107 到 490 毫秒。所以本章开头的 `use_threads()` 先看有几个核闲着，再定线程数，各条命令启动时也是这样；想自己定，就在那里改成 `use_threads(1)`，或者给命令加 `--threads`，或者在启动 Python 之前设好 `OMP_NUM_THREADS`。
#
# 现在训练 600 步，也就是图 3.1 里的一条蓝线，现场再跑一遍，中途停下来看几次它自己写的东西：每次 500 个回答，提示来自另一串随机数，由第 1 章的判分程序批改。

# %% tags=["nbval-ignore-output"]
watch = (0, 25, 50, 100, 200, 400)
live = Llama(ModelConfig()).reset_parameters(0).to(device)
nats, seen = train_here(live, steps=600, watch=watch)
seen[600] = evaluate(live, task, n=500, seed=1)
excess = excess_nats(live, task, n=2_000)
for step, report in seen.items():
    print(f"{step:4}", "  ".join(f"{name} {report[name].value:.2f}" for name in ("well_formed", "style", "exact")))
print(f"above the floor at the end: {excess.value:.2f} nats")
assert nats[:5].mean() > 15 and nats[-50:].mean() < 8.5  # from about 19 nats an answer
assert seen[100]["well_formed"].value > 0.9 and seen[100]["exact"].value < 0.1
assert seen[600]["well_formed"].value > 0.95 and 0.1 < seen[600]["exact"].value < 0.5
assert 1.0 < excess.value < 2.5

# %% [markdown] lang="en"
# Form comes before arithmetic. After 100 steps more than 90 % of what the model writes is *well formed*, a text that the checker can read as a sum; less than 10 % of it hits the target. This run has learnt how authors write before it has learnt what they mean. The exact share climbs slowly from there; at step 600 it is still below one half.

# %% [markdown] lang="zh"
# 先有形式，后有算术。100 步之后，它写的东西 90% 以上**格式正确**（well formed），判分程序能当算式来读；命中目标的却不到 10%：这次训练里，它先学会作者怎么写，再学作者写的是什么意思。此后，答案正确的比例慢慢往上爬，到第 600 步还不到一半。

# %% alt_en="Two panels over the step on a logarithmic axis. Left: the loss falls from 19 to below 8.5 nats, crossing the upper dashed line H(Y) before step 150 and staying above the lower one. Right: the well-formed share rises to nearly 1 within 100 steps, the style share settles near its dotted line at 0.30, the exact share is still climbing towards its own." alt_zh="左右两图，横轴为步数（对数）。左图：损失从 19 降到 8.5 奈特以下，不到 150 步就穿过上面的虚线 H(Y)，始终在下面的虚线之上。右图：格式正确的比例在 100 步内升到 1 附近，风格的比例停在 0.30 的点线附近，答案正确的比例还在向自己的点线爬。"
fig, (left, right) = figure(2, width=7.6, height=3.0)
smooth = np.array([nats[max(0, i - i // 8) : i + 1].mean() for i in range(len(nats))])
left.semilogx(np.arange(1, 601), smooth, color=COLORS["policy"])
for value, name in ((blind, "$H(Y)$"), (task.entropy, "$H(Y|X)$")):
    left.axhline(value, color=COLORS["theory"], linestyle="--")
    left.text(1.2, value + 0.3, name, color=COLORS["theory"])
left.set(xlabel="step", ylabel="nats", ylim=(5, 20))
for name, line in (("well_formed", "o-"), ("style", "s--"), ("exact", "^:")):
    right.semilogx([max(1, step) for step in seen], [r[name].value for r in seen.values()], line,
                   color=COLORS["policy"], markersize=4, label=name)  # fmt: skip
for share in (0.30, 0.75):
    right.axhline(share, color=COLORS["theory"], linestyle=":")
right.set(xlabel="step", ylim=(-0.03, 1.05))
right.legend(loc=(0.01, 0.36))
crossing = int(np.argmax(smooth < blind))
assert 30 < crossing < 150 and smooth[-1] > task.entropy

# %% [markdown] lang="en"
# **Figure 3.2.** Left: nats an answer during 600 steps. Below the upper line, $H(Y)$, no model can go without reading the prompt; the curve passes it within the first 150 steps. Right: shares of well-formed, three-number and exact answers; the dotted lines are the population's 0.30 (style) and 0.75 (exact).

# %% [markdown] lang="zh"
# **图 3.2** 左：600 步里，每个回答的奈特数。不读提示的模型，到不了上面那条线 $H(Y)$ 以下；曲线在头 150 步里就穿了过去。右：格式正确的、写三个数的、答案正确的回答各占多少；点线是群体的 0.30（风格）和 0.75（正确）。

# %% [markdown] lang="en"
# ## The whole run
# The model that comes with the book, `gen`, is the same recipe carried on for 9,000 steps, some minutes on two cores. Training wrote a line of metrics every 100 steps, and the file is shipped with the weights.

# %% [markdown] lang="zh"
# ## 跑完全程
# 随书附带的模型 `gen`，是同一个配方接着跑，一共 9,000 步，两个核心上要几分钟。训练时每 100 步记一行指标，这个文件和权重放在一起。

# %% alt_en="Left: the loss of the shipped run falls from above 9 nats towards the dashed floor at 5.736 and runs along it. Right: the same from step 1,000 on, magnified: the points come down from above 6.2 and end in a narrow band around the floor, or just above it." alt_zh="左图：随书模型的损失从 9 奈特以上降下来，贴着 5.736 处的虚线走。右图：从第 1,000 步起放大来看，各点从 6.2 以上降下来，最后进入下界周围的窄带，或者略高一点。"
metrics_file = model_folder("gen") / "metrics.jsonl"
metrics = [json.loads(line) for line in metrics_file.read_text().splitlines()]
steps = np.array([line["step"] for line in metrics])
curve = np.array([line["nats_per_completion"] for line in metrics])
surprises = np.array([-task.log_conditional[text] for text in zip(table.prompts, table.completions)])
deviation = math.sqrt(table.probability @ (surprises - task.entropy) ** 2)
error = deviation / math.sqrt(100 * 128)
fig, (left, right) = figure(2, width=7.6, height=3.0)
left.plot(steps, curve, color=COLORS["policy"])
right.plot(steps, curve, ".", color=COLORS["policy"], markersize=4)
right.axhspan(task.entropy - 1.96 * error, task.entropy + 1.96 * error, color=COLORS["theory"], alpha=0.25, linewidth=0)
for axes in (left, right):
    axes.axhline(task.entropy, color=COLORS["theory"], linestyle="--")
    axes.set(xlabel="step", ylabel="nats")
left.text(steps[-1], task.entropy - 0.4, "$H(Y|X)=5.736$", color=COLORS["theory"], ha="right")
left.set(ylim=(5.1, 10))
right.set(xlim=(1_000, None), ylim=(5.65, 6.25))
assert abs(deviation - 1.87) < 0.005 and abs(error - 0.017) < 0.001
assert steps[-1] == 9_000 and curve[9] - task.entropy < 2 and abs(curve[-10:].mean() - task.entropy) < 0.06

# %% [markdown] lang="en"
# **Figure 3.3.** Left: the shipped model's loss over 9,000 steps, and the floor. Most of the way is done in the first 1,000 steps. Right: the rest of it, magnified. The band is where 95 % of the points of a perfect model would lie.

# %% [markdown] lang="zh"
# **图 3.3** 左：随书模型 9,000 步的损失，以及下界；大半的路在头 1,000 步走完。右：剩下的部分，放大来看。假如有个完美的模型，它的点有 95% 落在这条带子里。

# %% [markdown] lang="en"
# How far above the floor does it end? The curve is a poor ruler. Surprises differ from text to text with a standard deviation of 1.87 nats, so a point of the curve, the mean of 12,800 texts, has a standard error of 0.017; hence the band. A better ruler takes the difference text by text: the model's surprise minus the population's, at the same text. What is lucky for one is lucky for the other. The mean difference estimates $\mathrm{KL}(p\,\|\,\pi_\theta)$, and `excess_nats` computes it.

# %% [markdown] lang="zh"
# 最后离下界还有多远？曲线不是一把好尺子。各段文本的惊讶有大有小，标准差 1.87 奈特，于是曲线上的一点（12,800 段文本的平均）标准误有 0.017，图里的带子就是这么来的。换一把尺子：对同一段文本，用模型的惊讶减去群体的惊讶。抽到好猜的文本，两边一起占便宜，一减就抵消了。差的平均估计的是 $\mathrm{KL}(p\,\|\,\pi_\theta)$，由 `excess_nats` 来算。

# %% tags=["nbval-ignore-output"]
gen = load_pretrained("gen").to(device)
excess = excess_nats(gen, task, n=8_000)
sampled = evaluate(gen, task, n=8_000)
greedy = evaluate(gen, task, n=500, temperature=0)
print(f"above the floor: {excess.value:.3f} nats")
for name in ("well_formed", "style", "exact"):
    print(f"{name:11}  sampled {sampled[name].value:.2f}  greedy {greedy[name].value:.2f}")
assert excess.value > 0 and excess.high < 0.04
assert abs(sampled["style"].value - 0.30) < 0.03 and abs(sampled["exact"].value - 0.75) < 0.03
assert greedy["exact"].value > 0.99 and greedy["style"].value < 0.02

# %% [markdown] lang="en"
# Less than 0.04 nats of 5.736: next-token training reaches the floor, or nearly. Now look at what lies there. Drawn at random from the model, three answers in ten have three numbers and three in four are exact, as among the authors. If it takes the most probable token every time (*greedy* decoding, chapter 4), more than 99 % of its answers are exact.

# %% [markdown] lang="zh"
# 5.736 奈特里只多了不到 0.04：预测下一个词元，确实能走到下界，至少近在咫尺。再看看那儿有什么。让模型随机地写，十个回答里有三个写三个数，四个里有三个正确，同作者们一样。如果每次都取最可能的词元（**贪心**解码，见第 4 章），正确的超过 99%。

# %% [markdown] lang="en"
# ## Learnt, or only stored?
# Has the model learnt to add? More than 99 % looks like a yes. But think of a *table* with 166 rows: for each prompt, the text that follows it most often. It adds nothing, and it is right every time. All these prompts were in the training, most of them thousands of times, and the texts that greedy decoding picks are of the commonest kind. Nothing measured so far tells an adder from that table.

# %% [markdown] lang="zh"
# ## 学会了，还是只是存下来了？
# 模型学会加减了吗？99% 以上，看起来是学会了。可是设想一张**表**，一共 166 行：每个提示后面，最常出现的是哪段文本，就记哪段。它什么也不会算，却次次都对。这些提示在训练里个个都有，大多出现过几千次；贪心解码挑中的，又是最常见的那类文本。到现在为止量过的数，没有一个分得清它是会算，还是一张表。

# %%
best = {}  # what the table stores
for x, y, weight in texts(task):
    best[x] = max(best.get(x, (0, "")), (weight, y))
assert len(best) == 166 and all(judge(x, y).exact for x, (_, y) in best.items())
asked = 1_152_000 * p_x  # how often each prompt was drawn, on average
assert (asked > 1_000).mean() > 0.8 and np.median(asked) > 2_000

# %% [markdown] lang="en"
# Prompts that the network has never seen can tell. We train again by the same recipe, from three seeds, each without any text of twenty prompts (**held-out prompts**), drawn beforehand from the targets that two numbers reach; a fresh draw for each seed (`chapters/data/held_out.py`). Then we ask those twenty, 200 answers each and one greedily. The yardstick is the share of exact answers; the authors have 0.75.
#
# For comparison, the same prompts are asked of the base model of the same seed; its training had those texts too, and as many texts in all. And three ways to answer without arithmetic, from the same texts: the table, which has no such row; the texts of the nearest seen prompt; any text at all. (The answers themselves are not all new. `27+27E` to `S54=` is kept out, but after `S44=` it occurs as a slip.)
#
# Before you run the cell: where between chance and 0.75 will the unseen prompts come out?

# %% [markdown] lang="zh"
# 要分清，得拿网络从没见过的提示来问。照同一个配方再训练三次，种子各不相同，每次都把二十个提示的文本全部拿掉（**留出的提示**，held-out prompt）。这些提示事先从两个数够得着的目标里抽好，每个种子另抽一批（`chapters/data/held_out.py`）。训练完就问这二十个：每个抽 200 个回答，再贪心地答一次。拿正确率来比，作者们是 0.75。
#
# 作对照的，先有同一种子的基座模型：问它同样的提示；它的训练里有那些文本，文本的总数一样多。再有三种不用算术的答法，用的是同一批文本：查表，表里没有这一行；照抄最近的、见过的提示的文本；随便拿一段。（回答本身并不全是新的：`S54=` 之后的 `27+27E` 拿掉了，但 `S44=` 之后它会作为失误出现。）
#
# 运行之前先猜：没见过的提示，正确率会落在瞎蒙和 0.75 之间的什么地方？

# %%
held = json.loads(Path("data/held_out.json").read_text())
rows, networks = held["runs"], held["networks"]
WHO = {"authors": "the authors", "everything": "trained on all", "unseen": "kept out",
       "nearest": "nearest seen", "chance": "any text", "table": "table"}  # fmt: skip
print(arms.table(rows, WHO, ("exact", "greedy", "style", "well_formed")))
exact = arms.values(rows, "unseen", "exact")  # one share a seed
assert all(abs(share - 0.75) < 0.02 for share in exact.values()) and len(exact) == 3
full = arms.gaps(rows, "unseen", "everything", "exact")
assert max(map(abs, full.values())) < 0.03
assert set(arms.values(rows, "unseen", "greedy").values()) == {1.0}  # all sixty
too_long = sorted(arms.gaps(rows, "unseen", "authors", "style").values())
assert 0.02 < too_long[1] <= too_long[2] < 0.03
known = arms.gaps(rows, "everything", "authors", "style").values()
assert max(map(abs, known)) < 0.005
for other in ("nearest", "chance", "table"):
    assert arms.beats(rows, "unseen", other, "exact", by=0.7)
    assert max(arms.values(rows, other, "exact").values()) < 0.01
for net in networks:  # a seen target is never far away
    others = [t for t in range(-58, 108) if t not in net["held"]]
    assert max(min(abs(t - other) for other in others) for t in net["held"]) <= 2

# %% [markdown] lang="en"
# The sums after unseen prompts are right as often as the authors' are: within two points of 0.75 in every seed, and within three of what the model trained on all makes of the same prompts. Greedily, all sixty are right. Without arithmetic, next to nothing is: the table has no row, the nearest prompt has another value, and a text drawn blindly hits less than once in a hundred. So looking up explains next to nothing of it. Between the targets it has seen, the network *computes* a sum that fits.
#
# Its style carries over less exactly. In two seeds of three the unseen prompts get a third number two to three points too often; the model trained on all is within half a point of the authors.
#
# How far does that reach? Targets go from −58 to 107. We also ask for the twenty below and the twenty above. Some of the sums there could be written with numbers that authors do write: 108 is `49+59`, and the 59 is known from slips.

# %% [markdown] lang="zh"
# 没见过的提示，算式做对的比例同作者一样：每个种子的正确率，离 0.75 都不到两个百分点；同全部见过的模型在同样提示上的成绩相比，差距也不到三个百分点。贪心地答，六十个全对。不用算术的三种答法几乎一无所获：表里没有这一行；最近的提示，值不是这一个；随便拿一段，一百次里碰不对一次。可见靠查表，几乎什么也解释不了。在见过的目标之间，网络确实在**计算**。
#
# 风格就没有这么准。三个种子里有两个，没见过的提示多写了第三个数，多两到三个百分点；全部见过的模型，同作者相差不到半个百分点。
#
# 这本事能用到多远？目标的范围是 −58 到 107。我们再往下问二十个，往上问二十个。其中有些算式，用作者写过的数就写得出来：108 是 `49+59`，而 59 在失误里出现过。

# %% alt_en="The share of exact answers over the target. Grey dots, seen targets, and blue dots, kept out of the training, lie together in a band around the dashed line at 0.75; near both ends, at 100 and more in one network at once, the grey ones come down. Beyond the ends the orange dots fall to zero within ten targets or so." alt_zh="横轴为目标，纵轴为答案正确的比例。灰点（见过的目标）和蓝点（训练时留出的目标）混在一起，都落在 0.75 那条虚线附近的一条带子里；靠近两端，灰点往下走，其中一个网络到 100 一下子就降下来。出了两端，橙点在十来个目标之内降到零。"
fig, axes = figure(width=7.2, height=3.2)
KINDS = {"seen": ("ref", 3), "kept out": ("policy", 5), "beyond": ("rejected", 3)}
many = {}
for kind, (color, size) in KINDS.items():
    dots = []
    for net in networks:
        for at in net["targets"]:
            inside = -58 <= at["target"] <= 107
            out = "kept out" if at["target"] in net["held"] else "seen"
            if kind == (out if inside else "beyond"):
                dots.append((at["target"], at["exact"]))
    axes.plot(*zip(*dots), "o", color=COLORS[color], markersize=size, label=kind)
    many[kind] = len(dots)
axes.hlines(0.75, -58, 107, color=COLORS["theory"], linestyle="--")
axes.set(xlabel="target", ylabel="exact", ylim=(-0.03, 1.03))
axes.legend(loc="upper right", ncols=3)
assert many == {"seen": 3 * 146, "kept out": 60, "beyond": 120}
# %% [markdown] lang="en"
# **Figure 3.4.** The share of exact answers, 200 to each target, of three networks that were trained without twenty prompts each: blue the prompts kept out, grey those seen, orange targets that no author has. The dashed line is the authors' 0.75.

# %% [markdown] lang="zh"
# **图 3.4** 三个网络，训练时各留出二十个提示；每个目标抽 200 个回答，看正确的占多少。蓝点是留出的提示，灰点是见过的，橙点是作者从来没有的目标。虚线是作者的 0.75。

# %%
for side in ("below", "above"):
    assert set(arms.values(rows, side, "greedy").values()) == {0.0}
    assert max(arms.values(rows, side, "exact").values()) < 0.1
    assert min(arms.values(rows, side, "well_formed").values()) > 0.95
    assert arms.beats(rows, "unseen", side, "exact", by=0.6)
for net in networks:
    share = {at["target"]: at["exact"] for at in net["targets"]}
    right = {at["target"] for at in net["targets"] if at["greedy_exact"]}
    far = [share[t] for t in share if not -58 - 10 <= t <= 107 + 10]
    rim = np.mean([share[t] for t in range(100, 108)])
    unseen = exact[net["seed"]]
    print(f"seed {net['seed']}: 100 to 107 {rim:.2f}, kept out {unseen:.2f}")
    assert max(far) < 0.03 and rim < unseen - 0.1 and right == set(range(-58, 108))

# %% [markdown] lang="en"
# Beyond the ends the answers are still well formed, and fewer than one in ten is exact; of the greedy ones, none is right on either side, in any seed. More than ten away from the range, where not even slipped texts reach, next to nothing is right. Addition does not end at 107. What this network has learnt of it does.
#
# It grows thin before that. The targets from 100 to 107 *were* in the training, a few times each to over a hundred times, and in every seed they are answered worse than the prompts that were never seen; in one seed, one answer in seven is exact. Greedy decoding hides this: it is right on every one of them. So the number of views alone does not make an answer right here. The prompts kept out lie between targets that were seen often, at most two away; these eight lie at the rim. (That the place is the cause, these runs do not prove. And a wide gap, say all targets from 30 to 39 kept out, would ask more; we have not tried it.)
#
# Is nothing stored, then? The texts can tell. Two in five of the three-number slips were never drawn in the shipped model's training, and which ones they were, we know: a batch is a function of seed and step. Chance alone decided, so the texts that were drawn differ from the others in nothing else.

# %% [markdown] lang="zh"
# 出了两端，写出来的照样格式正确，答案正确的却不到十分之一；贪心的回答，两边都是一个不对，三个种子都如此。离开范围十以上，连失误的文本也够不到，就几乎没有对的了。加减法到 107 并没有完，网络学到的那部分却到头了。
#
# 其实不到头就已经变薄。从 100 到 107 的目标，训练里**有**，少的几次，多的一百多次；可是每个种子里，它们都答得不如那些从没见过的提示，有一个种子，七个回答里才对一个。贪心解码看不出这一点：这八个它全答对。可见在这里，单凭见过多少次，决定不了答得对不对。留出的提示夹在常见的目标中间，两步之内就有一个见过的；这八个目标却在边缘上。（原因是不是就在位置，这几次训练证明不了。要是把 30 到 39 一整段都留出来，题目会更难；我们也没有试。）
#
# 那么，一点也没有存下来吗？这要看文本。三个数的失误里，有五分之二在随书模型的训练中一次也没抽到。是哪些，查得出来：批次由种子和步数决定。抽到没抽到纯凭运气，所以两类文本再没有别的差别。

# %% tags=["nbval-ignore-output"]
views = np.zeros(len(table.prompts), dtype=int)  # of each text, in gen's training
cumulative = np.cumsum(table.probability)
for step in range(9_000):
    draws = stream("sft", seed=0, step=step).random(128) * cumulative[-1]
    np.add.at(views, np.searchsorted(cumulative, draws, side="right"), 1)
slips, above = table.style & ~table.exact, {}
for count in (0, 1, 2, 3):
    those = np.flatnonzero(slips & (views == count))
    some = np.random.default_rng(0).permutation(those)[:4_000]
    pairs = [(table.prompts[row], table.completions[row]) for row in some]
    logps = score(gen, *map(list, zip(*pairs))).double().cpu().numpy()
    above[count] = mean_interval([task.log_conditional[t] for t in pairs] - logps)
    share = len(those) / slips.sum()
    print(f"{count} views: {share:.2f} of the slips, +{above[count].value:.3f} nats")
assert abs((slips & (views == 0)).sum() / slips.sum() - 0.42) < 0.005
assert 0.06 < above[0].value < 0.085 and 0.03 < above[3].value < 0.045
assert above[0].low > above[3].high and abs(math.exp(-above[0].value) - 0.93) < 0.01

# %%
print(arms.table(rows, ("unseen", "everything", "never drawn", "drawn"), ("excess",)))
for new, old in (("never drawn", "drawn"), ("unseen", "everything")):
    assert arms.beats(rows, new, old, "excess")  # dearer, in every seed
dearer = sorted(arms.gaps(rows, "unseen", "everything", "excess").values())
assert dearer[1] < 0.01 and abs(dearer[2] - 0.05) < 0.005

# %% [markdown] lang="en"
# A slip that the network never saw costs 0.07 nats more than the floor: it gets 93 % of its true probability. One that was drawn three times costs 0.04. So a view is worth about a hundredth of a nat, and that much is stored. The three held-out runs agree. In each, the slips that were drawn cost less than those that were not, and a prompt's texts cost less where they were in the training, by 0.05 nats in one seed and by much less in two.
#
# What these runs carry is this. Within the range of its targets the network has learnt to add and to subtract, and it has its authors' habits as a rule, not as a list: to prompts and texts that it never saw it gives nearly the probabilities that the authors give them. A little of each text is stored besides. Towards the ends of the range the rule wears thin, and beyond them it fails.

# %% [markdown] lang="zh"
# 从没见过的失误，比下界多花 0.07 奈特，也就是说，网络给它的概率是真实概率的 93%；抽到过三次的，多花 0.04 奈特。可见每见一次，大约值百分之一奈特，存下来的就是这么多。三次留出的训练也是这样：每一次，抽到过的失误都比没抽到的便宜；同一个提示的文本，训练里有它，就比没有它便宜：有一个种子差 0.05 奈特，另外两个差得少得多。
#
# 这几次训练能支持的结论是：在目标的范围之内，网络学会了加减，作者的习惯它也是当作规律、而不是当作清单学来的；没见过的提示、没见过的文本，它给的概率同作者几乎一样。除此之外，每段文本也存下了一点点。越靠近两端，规律越不牢；出了两端，就不灵了。

# %% [markdown] lang="en"
# ## Careless like its authors
# Left to itself the model writes a number ten too large one time in four, because the authors do. A faithful imitation of careless authors is careless, and more of their texts will not change that: where the loss is lowest stand the authors themselves.
#
# Nor is a sharper choice the same as care. Greedy decoding makes the sums right, but it takes the third number away together with the slips; it prefers whatever is frequent. To want the one without the other, a model needs a signal other than imitation, something that says which answers are better. With a checker at hand one can filter the texts, keep the best of several answers, or reward exact ones ([chapter 12](12_rl.ipynb)). Preferences are another such signal, and the one that this book is about: [chapter 9](09_dpo.ipynb).

# %% [markdown] lang="zh"
# ## 和作者一样粗心
# 放手让模型写，四次里有一次，某个数多写了十，因为作者就是这样。学粗心的人，学得再像也是粗心；再多读他们的文本也改不了，因为损失最低的地方，站着的就是作者自己。
#
# 挑得更尖，也不等于细心。贪心解码把算式做对了，可第三个数也同失误一起没了：什么常见，它就偏向什么。想要其一而不要其二，模型就得有模仿以外的信号，告诉它哪些回答更好。手边有判分程序，就可以筛选文本，可以多写几个、挑最好的留下，也可以奖励正确的回答（[第 12 章](12_rl.ipynb)）。偏好也是这样的信号，而且是本书的主角：见[第 9 章](09_dpo.ipynb)。

# %% [markdown] lang="en"
# ## The same from the command line
# Nothing here needs a notebook:
#
# ```bash
# dpo-core train-gen                      # the whole recipe; writes ./gen.model
# dpo-core train-gen --resume             # continue an interrupted run
# dpo-core train-gen --loss-on all        # count the prompts too
# dpo-core evaluate gen.model --n 2000    # shares with intervals, floor, excess
# ```
#
# `gen.model` is a folder: the weights and the tokenizer in Hugging Face's format. The file of the weights also carries the *recipe*, every option that shapes the result; `recipe.json` shows it to people, and `metrics.jsonl` has one line of JSON per 100 steps. While the run lasts there is also a folder `gen.model.partial` with the run's state, renewed every 1,000 steps; it goes when the model is complete. The cell runs the command on a very small scale and lists the files.

# %% [markdown] lang="zh"
# ## 在命令行里做同样的事
# 这些都用不着笔记本：
#
# ```bash
# dpo-core train-gen                      # the whole recipe; writes ./gen.model
# dpo-core train-gen --resume             # continue an interrupted run
# dpo-core train-gen --loss-on all        # count the prompts too
# dpo-core evaluate gen.model --n 2000    # shares with intervals, floor, excess
# ```
#
# `gen.model` 是一个文件夹：权重和分词器用 Hugging Face 的格式存放。影响结果的每一个选项合起来叫**配方**（recipe），就写在权重那个文件里；`recipe.json` 是抄给人看的一份，`metrics.jsonl` 每 100 步一行 JSON。训练途中，旁边还有一个文件夹 `gen.model.partial`，存着训练的状态，每 1,000 步更新一次，模型存好就删掉。下面用极小的规模跑一遍这条命令，列出文件。

# %%
defaults = TrainGen()
assert (defaults.steps, defaults.batch_size, defaults.learning_rate) == (9_000, 128, 0.01)
assert (defaults.optimizer, defaults.log_every, defaults.save_every) == ("muon", 100, 1_000)
small = ["--steps", "20", "--batch-size", "16", "--log-every", "10", "--save-every", "10"]
with tempfile.TemporaryDirectory() as folder, chdir(folder):
    assert main(["train-gen", "--output", "small.model", *small]) == 0
    print(*sorted(path.as_posix() for path in Path().rglob("*") if path.is_file()), sep="\n")

# %% [markdown] lang="en"
# A run can be killed at any moment, by an impatient reader or a power cut, and what then lies on the disk must be whole. `dpo_core.storage` keeps one rule: what must hold together is *one* file, and a file changes in one step. The new file is written beside the old one, forced onto the disk (`fsync`), and moved into its place by `os.replace`, which the operating system does completely or not at all. So whoever reads finds the old file or the new one, and never has anything to repair. A lock keeps a second run out; when its owner ends, however it ends, the operating system frees it.
#
# Resuming must not change the result, or nobody could say what a resumed model is. The batch of a step is a function of the seed and the step, and the state holds the weights, the optimiser's running means, and the step. So a run that is stopped at step 15 and resumed from its state of step 10 ends in the same bits as one that was left alone:

# %% [markdown] lang="zh"
# 训练随时会断：等烦了，按了停止；或者干脆停电。断在哪一刻都一样，留在磁盘上的东西必须完整。`dpo_core.storage` 只守一条规矩：彼此要对得上的内容，放进*同一个*文件；换文件，一步到位。新文件先写在旁边，用 `fsync` 催它真正落盘，再由 `os.replace` 顶掉旧的。这一步操作系统要么做完，要么没做。所以不管谁来读，读到的不是旧文件就是新文件，没有什么要修补。另有一把锁，不让第二个训练往同一处写；拿锁的进程一结束，不论怎么结束的，操作系统都会把锁放开。
#
# 续训不能改变结果，否则续出来的模型就说不清来历了。一步用哪个批次，只由种子和步数决定；状态里存着权重、优化器的滑动平均和步数。所以，第 15 步中断、从第 10 步的状态续起的训练，和一口气跑完的训练比，结果每个比特都相同：

# %%
class Stopped(Exception):
    pass


def run(output, stop_at=None, resume=False):
    def small_batch(step):
        if step == stop_at:
            raise Stopped
        return {key: tensor[:16] for key, tensor in batch_at(step).items()}

    model = Llama(ModelConfig()).reset_parameters(0).to(device)
    config = LoopConfig(steps=20, learning_rate=0.01, optimizer="muon", log_every=10, save_every=10)
    with workshop(output) as place:
        train(model, small_batch, sft_step, config, place=place, resume=resume, progress=False)
    return model.state_dict()


with tempfile.TemporaryDirectory() as folder:
    uninterrupted = run(f"{folder}/a")
    try:
        run(f"{folder}/b", stop_at=15)
    except Stopped:
        resumed = run(f"{folder}/b", resume=True)
assert all(torch.equal(uninterrupted[name], resumed[name]) for name in uninterrupted)

# %% [markdown] lang="en"
# > **What the toy hides.** A real base model is pretrained, on trillions of tokens, and SFT is a short last stretch with a small learning rate. Its texts are wrapped in a chat template, with several turns, of which only the assistant's count. To waste no cells on padding, short texts are *packed* into one row, and attention must then be kept from looking across their borders. The data are of mixed quality, and choosing among them is most of the work; here the quality is one number, the slip rate, and we left it bad on purpose. Texts are seen more than once or too few times, so training loss and test loss part. Whether the questions of a test were among the training texts is hard to find out; here we kept them out ourselves. And nobody knows the floor: outside a toy one can see a loss fall, but not how far it still could.

# %% [markdown] lang="zh"
# > **玩具没告诉你的。** 真实的基座模型经过预训练，读过数以万亿计的词元；SFT 只是最后一小段，学习率也小。文本套着对话模板，一来一回好几轮，只有助手说的话计入损失。为了不把格子浪费在填充上，短文本会**打包**（packing）进同一行，这时要拦住注意力，不让它看过界。数据良莠不齐，大部分功夫花在挑选上；而在这里，质量只是一个数，就是失误的比例，我们还故意让它不好。真实的文本要么反复读，要么读不够，训练损失和测试损失会分开。测试题有没有混进训练文本，事后很难查清；在这里，是我们自己留出来的。还有，没有人知道下界在哪里：出了玩具世界，只看得见损失在降，看不见还能降多少。

# %% [markdown] lang="en"
# > **To remember.** The loss of a model is the entropy of its data plus the KL divergence from the data to the model. The first part is fixed by the authors; training works on the second, and ours brought it close to zero. What it reaches is the authors: their form first, then their arithmetic, and in the end their mistakes. Whether that was learnt or stored, only prompts can tell that were kept out of the training.

# %% [markdown] lang="zh"
# > **记住。** 模型的损失，等于数据的熵，加上从数据到模型的 KL 散度。前一半由作者定死，训练只能动后一半，我们把它压到了接近零。训练最终走到的地方就是作者：先是他们的形式，再是他们的算术，最后连他们的错误也一并学来。是学会了还是存下来了，只有留出来不让它见的提示才分得清。

# %% [markdown] lang="en"
# ## Exercises

# %% [markdown] lang="zh"
# ## 练习

# %% [markdown] lang="en"
# ### Exercise 3.1 · Entropy by hand
# ★☆☆ · 5 minutes
#
# Eight authors answer one prompt: four write `2+1E`, two `3-0E`, one `4-1E`, one `0+3E`. What is the entropy of their answers, in nats, to two decimals? ($\log 2=0.693$.)
#
# <details><summary>Hint</summary>
#
# The shares are powers of one half, so each surprise is a multiple of $\log 2$.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 3.1 · 手算熵
# ★☆☆ · 5 分钟
#
# 八位作者回答同一个提示：四人写 `2+1E`，两人写 `3-0E`，一人写 `4-1E`，一人写 `0+3E`。他们的回答，熵是多少奈特？精确到两位小数。（$\log 2=0.693$。）
#
# <details><summary>提示</summary>
#
# 各个比例都是二分之一的幂，所以每份惊讶都是 $\log 2$ 的倍数。
#
# </details>

# %% tags=["exercise"]
answer_3_1 = ...  # nats
check("3.1", answer_3_1)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# Four surprises of $\log 2$, two of $2\log 2$, two of $3\log 2$; the mean is $\frac{4+4+6}{8}\log 2=1.75\cdot 0.693=1.21$. (The factor 1.75 is the entropy in bits.)
#
# ```python
# answer_3_1 = 1.75 * math.log(2)
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 四份 $\log 2$，两份 $2\log 2$，两份 $3\log 2$，平均是 $\frac{4+4+6}{8}\log 2=1.75\cdot 0.693=1.21$。（系数 1.75 就是以比特计的熵。）
#
# ```python
# answer_3_1 = 1.75 * math.log(2)
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 3.2 · The price of optimism
# ★★☆ · 10 minutes
#
# A model has learnt everything about the population but one thing: it believes that 10 % of the authors slip, where 25 % do. How far above the floor is its loss, in nats an answer, to three decimals?
#
# <details><summary>Hint</summary>
#
# Given prompt and answer, one can tell whether the author slipped. So the two distributions differ in one yes or no, and the gap is the KL divergence between two coins. Mind the direction: the data do the averaging.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 3.2 · 乐观的代价
# ★★☆ · 10 分钟
#
# 有个模型，对群体样样都清楚，只有一件事弄错：它以为 10% 的作者会失误，其实是 25%。它的损失比下界高多少奈特（每个回答）？精确到三位小数。
#
# <details><summary>提示</summary>
#
# 给定提示和回答，就能看出作者失误了没有。所以两个分布只差在一个「是或否」上，差距就是两枚硬币之间的 KL 散度。当心方向：按数据求平均。
#
# </details>

# %% tags=["exercise"]
answer_3_2 = ...  # nats an answer
check("3.2", answer_3_2)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# Slipped answers, a quarter of the data, get 0.10 instead of 0.25; careful ones get 0.90 instead of 0.75. The mean of the logarithms of the ratios is $0.25\log\frac{0.25}{0.10}+0.75\log\frac{0.75}{0.90}=0.229-0.137=0.092$.
#
# ```python
# answer_3_2 = 0.25 * math.log(0.25 / 0.10) + 0.75 * math.log(0.75 / 0.90)
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 失误的回答占数据的四分之一，模型给 0.10，应是 0.25；没失误的，模型给 0.90，应是 0.75。比值取对数，再求平均：$0.25\log\frac{0.25}{0.10}+0.75\log\frac{0.75}{0.90}=0.229-0.137=0.092$。
#
# ```python
# answer_3_2 = 0.25 * math.log(0.25 / 0.10) + 0.75 * math.log(0.75 / 0.90)
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 3.3 · The floor of any data
# ★★☆ · 15 minutes
#
# Write `count_floor(pairs)`: given a list of (prompt, answer) pairs, each counting once, return the entropy floor of the answers in nats. Shares are counts within the list.
#
# <details><summary>Hint</summary>
#
# Count pairs, and count prompts. The share of an answer among those to its prompt is the one count divided by the other. Average the surprise over all pairs in the list.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 3.3 · 任意数据的下界
# ★★☆ · 15 分钟
#
# 写一个函数 `count_floor(pairs)`：给一个列表，各项是（提示，回答），每一对算一次，返回回答的熵下界，单位是奈特。比例就用列表里的计数来算。
#
# <details><summary>提示</summary>
#
# 数每一对出现几次，也数每个提示出现几次。两个计数相除，就是这个回答在同一提示的回答里占多少。最后对列表里所有的对，把惊讶平均一下。
#
# </details>

# %% tags=["exercise"]
def count_floor(pairs):
    ...


check("3.3", count_floor)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# ```python
# def count_floor(pairs):
#     together = Counter(pairs)
#     of_prompt = Counter(prompt for prompt, _ in pairs)
#     shares = [together[prompt, answer] / of_prompt[prompt] for prompt, answer in pairs]
#     return -sum(math.log(share) for share in shares) / len(pairs)
# ```
#
# On real data this number misleads: most prompts occur once, so their share is 1 and the floor comes out as zero.
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# ```python
# def count_floor(pairs):
#     together = Counter(pairs)
#     of_prompt = Counter(prompt for prompt, _ in pairs)
#     shares = [together[prompt, answer] / of_prompt[prompt] for prompt, answer in pairs]
#     return -sum(math.log(share) for share in shares) / len(pairs)
# ```
#
# 在真实数据上，这个数会骗人：提示大多只出现一次，比例是 1，下界就成了零。
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 3.4 · One answer, one vote
# ★★★ · 20 minutes
#
# In `sft_step` every token weighs the same, so long answers weigh more than short ones. Write `answer_step(model, batch)` in which every answer weighs the same: its loss is the mean surprise of its own tokens, and the loss of a step is the mean over answers. Return `{"loss": (sum, count)}`, so that cutting a batch into pieces changes nothing.
#
# <details><summary>Hint</summary>
#
# `sequence_logps(logits, input_ids, completion_mask)` gives one sum per row. Divide each by its own number of marked tokens. What does the loop have to divide by?
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 3.4 · 一个回答一票
# ★★★ · 20 分钟
#
# 在 `sft_step` 里，每个词元分量相同，长回答就比短回答重。写一个 `answer_step(model, batch)`，让每个回答分量相同：一个回答的损失，是它自己各词元惊讶的平均；一步的损失，是各个回答的平均。返回 `{"loss": (sum, count)}`，让批次怎么切都不影响结果。
#
# <details><summary>提示</summary>
#
# `sequence_logps(logits, input_ids, completion_mask)` 给出每一行的总和。各除以各行标出的词元数。那么，循环最后该除以什么？
#
# </details>

# %% tags=["exercise"]
def answer_step(model, batch):
    ...


check("3.4", answer_step)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# ```python
# def answer_step(model, batch):
#     ids, mask = batch["input_ids"], batch["completion_mask"]
#     logps = sequence_logps(model(ids), ids, mask)  # (B,)
#     nats = -(logps / mask.sum(1)).sum()
#     return {"loss": (nats, len(ids))}
# ```
#
# The count is the number of answers. Pass `answer_step` to `train` in place of `sft_step`, and accumulation works as before.
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# ```python
# def answer_step(model, batch):
#     ids, mask = batch["input_ids"], batch["completion_mask"]
#     logps = sequence_logps(model(ids), ids, mask)  # (B,)
#     nats = -(logps / mask.sum(1)).sum()
#     return {"loss": (nats, len(ids))}
# ```
#
# 个数就是回答的个数。把 `answer_step` 交给 `train`，顶替 `sft_step`，梯度累积照常。
#
# </details>

# %% [markdown] lang="en"
# ## References
# - [Debut et al. 2024](https://huggingface.co/blog/gradient_accumulation), *Fixing Gradient Accumulation*: the mean of means in transformers, and its repair.
# - [Jordan et al. 2024](https://kellerjordan.github.io/posts/muon/), *Muon: An Optimizer for Hidden Layers in Neural Networks*.
# - [Loshchilov & Hutter 2019](https://arxiv.org/abs/1711.05101), *Decoupled Weight Decay Regularization*: AdamW.
# - [Ouyang et al. 2022](https://arxiv.org/abs/2203.02155), *Training Language Models to Follow Instructions with Human Feedback*: SFT, then a reward model, then reinforcement learning.
# - [Shannon 1948](https://doi.org/10.1002/j.1538-7305.1948.tb01338.x), *A Mathematical Theory of Communication*: entropy.
# - [Shi et al. 2024](https://arxiv.org/abs/2405.14394), *Instruction Tuning With Loss Over Instructions*.
# - [Zhou et al. 2023](https://arxiv.org/abs/2305.11206), *LIMA: Less Is More for Alignment*.
#
# Next: [chapter 4](04_sampling.ipynb) lets the model write, and asks how sure we can be of what we measure.

# %% [markdown] lang="zh"
# ## 参考文献
# - [Debut et al. 2024](https://huggingface.co/blog/gradient_accumulation)，*Fixing Gradient Accumulation*：transformers 里「平均的平均」，以及怎么修。
# - [Jordan et al. 2024](https://kellerjordan.github.io/posts/muon/)，*Muon: An Optimizer for Hidden Layers in Neural Networks*。
# - [Loshchilov & Hutter 2019](https://arxiv.org/abs/1711.05101)，*Decoupled Weight Decay Regularization*：AdamW。
# - [Ouyang et al. 2022](https://arxiv.org/abs/2203.02155)，*Training Language Models to Follow Instructions with Human Feedback*：先 SFT，再奖励模型，再强化学习。
# - [Shannon 1948](https://doi.org/10.1002/j.1538-7305.1948.tb01338.x)，*A Mathematical Theory of Communication*：熵。
# - [Shi et al. 2024](https://arxiv.org/abs/2405.14394)，*Instruction Tuning With Loss Over Instructions*。
# - [Zhou et al. 2023](https://arxiv.org/abs/2305.11206)，*LIMA: Less Is More for Alignment*。
#
# 下一步：[第 4 章](04_sampling.ipynb)让模型动笔，再问：量出来的数，有几分把握。
