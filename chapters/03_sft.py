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
# > **In this chapter.** You will be able to say how low a loss can possibly go, write the training step of a language model, train a small Llama with it, measure how far above the limit it ends, and tell what it has learnt from what it has only stored. You need the masks of [chapter 1](01_strings.ipynb), the network of [chapter 2](02_llama.ipynb), and logarithms. 32 minutes to read, and 15 more for the sections marked ⋆; 60 seconds to run.

# %% [markdown] lang="zh"
# > **本章。** 读完后，你能算出损失最低能到哪里，能写出语言模型的训练步，用它训练一个小 Llama，量出最后离这个极限有多远，还能分清哪些是它学会的、哪些只是存下来的。需要[第 1 章](01_strings.ipynb)的掩码、[第 2 章](02_llama.ipynb)的网络，以及对数。阅读 32 分钟，带 ⋆ 的几节另需 15 分钟；运行 60 秒。

# %%
import json
import math
import tempfile
from collections import Counter
from contextlib import chdir
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from checks import check
from torch.nn import functional as F

from dpo_core import BookTask, CharTokenizer, Llama, ModelConfig, arms, judge
from dpo_core import load_pretrained, score, sequence_logps, token_logps, use_threads

# %%
from dpo_core.checkpoint import model_folder
from dpo_core.commands.parser import main
from dpo_core.commands.train_gen import TrainGen
from dpo_core.evaluation import evaluate, excess_nats, mean_interval
from dpo_core.optim import learning_rate_factor, make_optimizers, orthogonalise
from dpo_core.plotting import COLORS, figure, picture, points
from dpo_core.progress import progress_bar
from dpo_core.steps import sft_step
from dpo_core.storage import workshop
from dpo_core.task import stream
from dpo_core.training import LoopConfig, default_device, train

# %% [markdown] lang="en"
# ## A population to imitate
# The texts of this book come from a **population of authors**. Here is how they write. An author picks two numbers from 0 to 49 and a sign, `+` or `-`. Three authors in ten add a third number from 0 to 9 with a sign of its own; this is their **style**. The target is the value of what the author means. Then one author in four **slips**: the second number is written ten too large, and the text misses its target. Numbers and signs are drawn uniformly, and all choices are independent.
#
# The first training of the book asks a network to write like them. Because we know the population exactly, we can ask what is usually out of reach: how well can *any* model do, and how close does ours come? (We say *answer* for what the code calls a completion. In Simple_RLHF_DPO, this book's *seed project*, the script of this training is called `train_gen`.)

# %% [markdown] lang="zh"
# ## 要模仿的那群人
# 这本书的文本，都出自一个**作者群体**（population of authors）。他们这样写：先从 0 到 49 里挑两个数，再挑一个符号，`+` 或 `-`。十个人里有三个还要添上第三个数，从 0 到 9 里挑，符号也另挑：这叫**风格**（style）。目标就是作者心里那个算式的值。落笔时，四个人里有一个会**失误**（slip）：第二个数多写了十，结果对不上目标。数和符号都是均匀地挑，各次挑选彼此独立。
#
# 全书的第一次训练，就是让网络学着像他们那样写。群体的底细我们全知道，于是可以问一个平常没法问的问题：随便什么模型，最好能做到什么地步？我们的模型又差多少？（代码里的 completion，正文里都叫回答。本书由种子项目 Simple_RLHF_DPO 长出来，在那里，这次训练的脚本叫 `train_gen`。）

# %%
use_threads()
task, tokenizer, device = BookTask(), CharTokenizer(), default_device()
table = task.table
for row in (27_126, 27_127):  # what an author means, and the slip
    text = table.prompts[row] + table.completions[row]
    print(f"{text}  p={table.probability[row]:.2e}  exact={table.exact[row]}")
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
assert abs(entropy - 1.22) < 0.005
assert abs((5 * 0.693 + 4 * 1.609 + 2.303) / 10 - entropy) < 0.001

# %% [markdown] lang="en"
# > **Before you run it.** Somebody who has not seen the answers believes that all four are equally frequent. Is this guesser's mean surprise above or below 1.22 nats?
#
# <details><summary>Answer</summary>
#
# Above: every answer surprises by $\log 4=1.386$. No guess does better than the true shares; why, comes next.
#
# </details>
#
# Call a guess $q(y)$. Its mean surprise at the answers that really come is the **cross-entropy** $H(p,q)$. How much it lies above the entropy is the **KL divergence** (after Kullback and Leibler), the gap between guess and truth. Here it is 0.166 nats.
#
# $$\mathrm{KL}(p\,\|\,q)=H(p,q)-H(p)=\sum_y p(y)\log\frac{p(y)}{q(y)},\qquad H(p,q)=-\sum_y p(y)\log q(y).$$
#
# The gap has a direction. Here the mean is taken over $p$, the data; the field calls this the **forward KL**, and chapter 6 will need the reverse.
#
# It is never negative. One inequality is enough, $\log u\le u-1$, with equality only at $u=1$. Put $u=q(y)/p(y)$ and take the mean over $p$ (the sums run over the answers that occur):
#
# $$-\mathrm{KL}(p\,\|\,q)=\sum_y p(y)\log\frac{q(y)}{p(y)}\le\sum_y p(y)\Big(\frac{q(y)}{p(y)}-1\Big)=\sum_y q(y)-1\le 0.$$
#
# So the best guess is the truth itself, and even the truth pays $H(p)$. The worst guess is a zero for something that happens: its surprise is infinite. Whoever lowers the forward KL learns to leave nothing out, mistakes included.

# %% [markdown] lang="zh"
# > **先猜一猜。** 有人没看过这些回答，以为四种一样多。他的平均惊讶，比 1.22 奈特大还是小？
#
# <details><summary>答案</summary>
#
# 大：不管来的是哪一种，惊讶都是 $\log 4=1.386$。没有哪种猜法胜得过真实的比例，道理马上就讲。
#
# </details>
#
# 把猜测记作 $q(y)$。真正来的那些回答，让他平均惊讶多少，叫**交叉熵**（cross-entropy），记作 $H(p,q)$。它比熵高出的部分，就是猜测与真相之间的差距，叫 **KL 散度**（KL divergence，以 Kullback 和 Leibler 命名）；这里是 0.166 奈特。
#
# $$\mathrm{KL}(p\,\|\,q)=H(p,q)-H(p)=\sum_y p(y)\log\frac{p(y)}{q(y)},\qquad H(p,q)=-\sum_y p(y)\log q(y)$$
#
# 差距有方向。这里按 $p$，也就是按数据，求平均，叫**正向 KL**（forward KL）；第 6 章要用的是反向的那个。
#
# 它不会是负数。证明只要一个不等式：$\log u\le u-1$，仅当 $u=1$ 时取等号。令 $u=q(y)/p(y)$，再按 $p$ 求平均（只对出现过的回答求和）：
#
# $$-\mathrm{KL}(p\,\|\,q)=\sum_y p(y)\log\frac{q(y)}{p(y)}\le\sum_y p(y)\Big(\frac{q(y)}{p(y)}-1\Big)=\sum_y q(y)-1\le 0$$
#
# 所以最好的猜测就是真相；而真相自己也要付 $H(p)$。最糟的猜测，是把会发生的事猜成零概率：惊讶无穷大。要把正向 KL 降下来，就什么都不能漏，连错误也不能。


# %%
def cross_entropy(p, q):
    return -sum(p[y] * math.log(q[y]) for y in p)


kl = cross_entropy(p, dict.fromkeys(p, 1 / 4)) - entropy
assert abs(math.log(4) - 1.386) < 5e-4 and abs(kl - 0.166) < 5e-4
assert abs(kl - sum(p[y] * math.log(p[y] / (1 / 4)) for y in p)) < 1e-12

# %% tags=["proof"] checked_en="Checked on 1,000 random guesses: none has a lower mean surprise than the truth." checked_zh="在 1,000 个随机的猜测上验证：没有一个的平均惊讶低于真相。"
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
    of_prompt = Counter()
    for x, _, weight in texts(task):
        of_prompt[x] += weight
    return -sum(w * math.log(w / of_prompt[x]) for x, _, w in texts(task))


tiny = BookTask(style=0.0, slip=0.0, largest=1)
for prompt in ("S-1=", "S0=", "S1=", "S2="):
    print(prompt, [y for x, y, _ in texts(tiny) if x == prompt])
assert len(texts(tiny)) == 8

# %% [markdown] lang="en"
# > **Before you run it.** What is the floor of these eight texts? And by how much does it rise if a quarter of the authors slip?
#
# <details><summary>Answer</summary>
#
# Two of the prompts leave nothing to guess: entropy zero. The other two have three equal answers each, $\log 3$ nats, and they take six of the eight texts: $\frac{6}{8}\log 3=0.824$ nats an answer. Slips add one more thing that is unknown about every answer, a yes or no: 0.562 nats.
#
# </details>

# %% [markdown] lang="zh"
# > **先猜一猜。** 这八种文本的下界是多少？如果四分之一的作者会失误，下界升高多少？
#
# <details><summary>答案</summary>
#
# 两个提示没什么可猜，熵为零。另外两个各有三种机会相同的回答，熵是 $\log 3$，它们占了八种文本里的六种：$\frac{6}{8}\log 3=0.824$ 奈特（每个回答）。有了失误，每个回答又多一件说不准的事，是或否：0.562 奈特。
#
# </details>

# %%
careless = BookTask(style=0.0, slip=0.25, largest=1)
yes_or_no = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
print(f"{floor(tiny):.3f}, with slips {floor(careless):.3f}")
assert (
    abs(floor(tiny) - 6 / 8 * math.log(3)) < 1e-12 and abs(floor(tiny) - 0.824) < 5e-4
)
assert abs(floor(careless) - floor(tiny) - yes_or_no) < 1e-12
assert abs(yes_or_no - 0.562) < 5e-4

# %% [markdown] lang="en"
# The same count over all 210,000 texts of our authors gives **5.74 nats an answer**; the library keeps it as `task.entropy`. Since $e^{5.74}\approx 310$, the authors are as hard to predict as a fair draw among 310 answers.
#
# Such an exponential is a **perplexity**. Language models are usually reported by the perplexity of a token. An answer has 6.25 tokens on average, so a token costs 0.918 nats, and the lowest possible perplexity is $e^{0.918}=2.50$: as if two or three tokens were possible each time.
#
# The table gives a second landmark. Keep only how frequent each answer is in the whole population, whatever the prompt: the entropy of that is $H(Y)=10.14$ nats. A model that does not read the prompt cannot get below it. The 4.40 nats between the two lines are what the prompt tells about the answer.

# %% [markdown] lang="zh"
# 对作者们的全部 210,000 种文本也这样数一遍，得到**每个回答 5.74 奈特**，程序库把它存在 `task.entropy` 里。$e^{5.74}\approx 310$，也就是说，猜这些作者写什么，难度相当于猜 310 支签里会抽中哪一支。
#
# 这样取指数得到的数叫**困惑度**（perplexity）。报告语言模型时，通常按词元来算。一个回答平均 6.25 个词元，摊到每个词元是 0.918 奈特，所以困惑度最低能到 $e^{0.918}=2.50$：好比每一步都在两三个词元里猜一个。
#
# 从这张表还能读出第二条线。不看提示，只看各个回答在整个群体里占多少，熵是 $H(Y)=10.14$ 奈特。不读提示的模型，损失不可能低于这条线。两条线相差 4.40 奈特，这就是提示透露的信息。

# %%
lengths = np.array([len(y) for y in table.completions])
tokens = float(table.probability @ lengths)
a_token = task.entropy / tokens
print(f"floor {task.entropy:.3f} nats an answer, {a_token:.3f} a token")
assert abs(floor(task) - task.entropy) < 1e-9 and f"{task.entropy:.2f}" == "5.74"
assert abs(tokens - 6.25) < 5e-3 and abs(a_token - 0.918) < 5e-4
assert round(math.exp(task.entropy)) == 310 and f"{math.exp(a_token):.2f}" == "2.50"
p_y = Counter()
for _, y, weight in texts(task):
    p_y[y] += weight
blind = -sum(weight * math.log(weight) for weight in p_y.values())  # H(Y)
print(f"without the prompt {blind:.3f}, difference {blind - task.entropy:.3f}")
assert f"{blind:.2f}" == "10.14" and f"{blind - task.entropy:.2f}" == "4.40"

# %% [markdown] lang="en"
# ## One text, many questions
# A network does not hand out a probability for a whole answer. It gives a distribution over the next token. The product rule turns one into the other. Write $\pi_\theta$ for the model with weights $\theta$, and $y_t$ for the $t$-th of the $|y|$ tokens of $y$:
#
# $$\log\pi_\theta(y\mid x)=\sum_{t=1}^{|y|}\log\pi_\theta(y_t\mid x,y_{<t}).$$
#
# So the surprise at an answer is the sum of the surprises at its tokens. And the sum of the surprises at all texts is, but for the sign, the logarithm of the probability that the model gives to the whole training set. To make it small is **maximum likelihood**, statistics' usual way to fit anything.
#
# The tokens' surprises answer the questions of chapter 1, with the shifted labels as the right answers. Here is one text under a network with random weights, which knows nothing and gives each of the 22 tokens about the same probability.

# %% [markdown] lang="zh"
# ## 一段文本，许多道题
# 网络不会直接给整个回答一个概率，它给的是下一个词元的分布。靠概率的乘法公式，就能由后者算出前者。记 $\pi_\theta$ 为权重是 $\theta$ 的模型，$y_t$ 为 $y$ 的第 $t$ 个词元，$y$ 共有 $|y|$ 个词元：
#
# $$\log\pi_\theta(y\mid x)=\sum_{t=1}^{|y|}\log\pi_\theta(y_t\mid x,y_{<t})$$
#
# 所以，对一个回答的惊讶，等于对它各个词元的惊讶之和。把所有文本的惊讶加起来，再变个号，就是模型给整个训练集的概率取对数。把它压小，就是统计学里最常用的办法：**最大似然**（maximum likelihood）。
#
# 第 1 章说的那些小题，问的就是各个词元，标准答案是移位后的标签。下面拿一段文本，问一个权重随机的网络。它什么也不懂，22 个词元差不多一视同仁。

# %%
model = Llama(ModelConfig()).reset_parameters(seed=0).to(device)
one_text, answer_mask = tokenizer.collate(["S54="], ["27+27E"])  # (1, 10) each
one_text, answer_mask = one_text.to(device), answer_mask.to(device)
with torch.no_grad():
    logits = model(one_text)  # (1, 10, 22)
    random_surprise = -token_logps(logits, one_text)[0]  # (9,)
for t in range(one_text.shape[1] - 1):
    read, label = (tokenizer.decode(one_text[0, s]) for s in (slice(t + 1), [t + 1]))
    counts = "counts" if answer_mask[0, t + 1] else ""
    print(f"reads {read:10} label {label}  surprise {random_surprise[t]:.1f} {counts}")
assert abs(random_surprise.mean() - math.log(22)) < 0.2
of_answer = random_surprise[answer_mask[0, 1:]].sum()
assert abs(of_answer + score(model, ["S54="], ["27+27E"])[0]) < 1e-4

# %% [markdown] lang="en"
# Note what the model reads: the author's tokens, never its own. If its guess at one position is wrong, the next starts from the right text all the same. This is called **teacher forcing**. It is what makes training fast: all inputs are known beforehand, causal attention keeps each position from seeing its label, and one forward pass answers every question of every row. When the model writes by itself, it reads its own tokens, mistakes included; chapter 4 looks at that.
#
# > **Before you run it.** The author's own surprise differs from token to token. Where in `27+27E` is it large, where is there nothing left to guess?
#
# <details><summary>Answer</summary>
#
# Large at the first number, which is nearly a free choice. Then the sum is all but settled: what the second number costs is the doubt whether this author slips, and the last token the doubt whether a third number comes.
#
# </details>

# %% [markdown] lang="zh"
# 注意模型读的是什么：是作者写的词元，从来不是它自己的。这一格猜错了，下一格照样从正确的文本读起。这叫**教师强制**（teacher forcing）。训练之所以快，就靠它：输入事先全知道，因果注意力又不让任何一格看见自己的标签，前向跑一遍，每一行的每道题都答完了。等到模型自己动笔，读的就是自己写的词元了，写错的也在内；那是第 4 章的事。
#
# > **先猜一猜。** 就连作者自己，对各个词元的惊讶也不一样大。`27+27E` 里，哪里大？哪里已经没什么可猜？
#
# <details><summary>答案</summary>
#
# 第一个数大，它几乎是随便挑的。这以后，算式差不多就定了：第二个数要付的，是说不准这位作者会不会失误；最后一个词元要付的，是说不准还有没有第三个数。
#
# </details>

# %% tags=["proof"] checked_en="Checked: asked with each beginning of the text alone, the network gives the same logits." checked_zh="已验证：只给文本的开头，逐个去问，网络给出的 logits 一模一样。"
with torch.no_grad():
    for t in range(one_text.shape[1]):
        alone = model(one_text[:, : t + 1])[0, -1]
        assert (alone - logits[0, t]).abs().max() < 1e-5


# %%
def along(prompt, answer):
    """The authors' surprise at each token of an answer, given what stands before."""
    possible = [(y, weight) for x, y, weight in texts(task) if x == prompt]
    mass = [
        sum(weight for y, weight in possible if y.startswith(answer[:end]))
        for end in range(len(answer) + 1)
    ]
    return [math.log(before / after) for before, after in pairwise(mass)]


author_surprise = along("S54=", "27+27E")
print([round(nats, 2) for nats in author_surprise])
assert abs(sum(author_surprise) + task.log_conditional["S54=", "27+27E"]) < 1e-9
assert min(author_surprise[:2]) > 1.4 and max(author_surprise[2:]) < 0.5


# %% tags=["figure"] alt_en="Bars over the six tokens of the answer 27+27E. The authors' surprise is 1.5 and 2.3 nats at the two digits of the first number, zero at the plus sign, 0.4 and 0.2 at the second number, nearly zero at E. A dashed line near 3.1 marks the random network, the same for every token." alt_zh="横轴是回答 27+27E 的六个词元，柱子是作者的惊讶：第一个数的两位是 1.5 和 2.3 奈特，加号处为零，第二个数是 0.4 和 0.2，E 处几乎为零。3.1 附近的虚线是随机网络，对每个词元都一样。"
@picture
def where_the_nats_are(say):
    _, axes = figure(height=3.0)
    axes.bar(range(6), author_surprise, color=COLORS["ref"])
    axes.axhline(math.log(22), color=COLORS["policy"], linestyle="--")
    axes.text(
        5.4,
        math.log(22) - 0.1,
        say("a network with random weights", "权重随机的网络"),
        color=COLORS["policy"],
        ha="right",
        va="top",
    )
    axes.text(1.5, 1.9, say("the authors", "作者群体"), color=COLORS["ref"])
    axes.set(
        xlabel=say("token of the answer to S54=", "对 S54= 的回答，逐个词元"),
        ylabel=say("surprise (nats)", "惊讶（奈特）"),
        ylim=(0, 3.4),
    )
    axes.set_xticks(range(6), list("27+27E"))


# %% [markdown] lang="en"
# **Figure 3.1.** Surprise at each token of one text. Bars: somebody who knows the authors; the first number costs nearly everything. Dashed: a network that knows nothing, $\log 22=3.09$ nats at every token. Training is the way from the line down to the bars.

# %% [markdown] lang="zh"
# **图 3.1** 对一段文本里各个词元的惊讶。柱子是知道作者底细的人，惊讶差不多全花在第一个数上；虚线是什么也不懂的网络，每个词元都是 $\log 22=3.09$ 奈特。训练，就是从虚线走到柱子。

# %% [markdown] lang="en"
# ## The loss, written out
# A step of training sees a batch of the authors' texts. The batch of a step is a function of the seed and the step, nothing else: whoever knows these two numbers can make it again.
#
# The loss has five lines. Run the network; turn the logits into log-probabilities; at each position pick out the one of its label; keep those that the loss mask marks; add up.

# %% [markdown] lang="zh"
# ## 把损失写出来
# 训练的一步，看一个批次的文本。第几步用哪个批次，只由种子和步数决定：知道这两个数，谁都能把它重新造出来。
#
# 损失只有五行：跑一遍网络；把 logits 变成对数概率；每一格取出标签的那一个；只留损失掩码标出的；加起来。


# %%
def batch_at(step):
    prompts, completions = task.demonstrations(128, stream("sft", seed=0, step=step))
    input_ids, completion_mask = tokenizer.collate(prompts, completions)
    batch = {"input_ids": input_ids, "completion_mask": completion_mask}
    return {name: tensor.to(device) for name, tensor in batch.items()}


def sft_loss(model, batch):
    """The surprise at the tokens of the answers: the sum, and how many they are."""
    ids, mask = batch["input_ids"], batch["completion_mask"]  # (B, T) each
    logps = model(ids)[:, :-1].log_softmax(-1)  # (B, T-1, V): no label after the last
    labels = ids[:, 1:, None]  # (B, T-1, 1): each position's label is the next token
    picked = logps.gather(-1, labels)[..., 0]  # (B, T-1)
    return -(picked * mask[:, 1:]).sum(), mask[:, 1:].sum()


batch = batch_at(0)
total, count = sft_loss(model, batch)
print(f"{total / count:.2f} nats a token, {total / 128:.1f} an answer")
assert abs(total / count - math.log(22)) < 0.1 and 18 < total / 128 < 20.5

# %% [markdown] lang="en"
# It returns a *sum and a count*, and whoever calls it divides. Why no mean? Because a batch that does not fit into memory is cut into pieces. Let one piece have 4 tokens with 8 nats in all, another 8 tokens with 8 nats. Together they have $16/12=1.33$ nats a token; the mean of their means is $(2+1)/2=1.5$, which is another loss. So every loss step in this book returns a sum and a count, and the training loop divides once.
#
# The library's `sft_step` gives the same two numbers. In Hugging Face's libraries the mask is written into the labels instead, as the value -100, which PyTorch's cross-entropy leaves out:

# %% [markdown] lang="zh"
# 它返回的是*总和与个数*，由调用的人去除。为什么不直接返回平均？因为内存装不下的批次要切成几块。设一块有 4 个词元，共 8 奈特；另一块有 8 个词元，也共 8 奈特。合起来是 $16/12=1.33$ 奈特（每个词元）；两块的平均再平均，是 $(2+1)/2=1.5$，那就是另一个损失了。所以本书的损失函数都返回总和与个数，由训练循环除一次。
#
# 程序库的 `sft_step` 给出同样两个数。Hugging Face 的库换了个写法：掩码写进标签，不计入损失的位置填 -100，PyTorch 的交叉熵遇到它就跳过。

# %%
assert abs((8 + 8) / (4 + 8) - 1.33) < 0.005 and (8 / 4 + 8 / 8) / 2 == 1.5
library_total, library_count = sft_step(model, batch)["loss"]
assert abs(total - library_total) < 1e-2 and count == library_count
ids, mask = batch["input_ids"], batch["completion_mask"]  # (128, T) each
logits = model(ids)
assert abs(total + sequence_logps(logits, ids, mask).sum()) < 1e-2
labels = ids[:, 1:].masked_fill(~mask[:, 1:], -100)
theirs = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels.flatten())
assert abs(total / count - theirs) < 1e-5

# %% [markdown] lang="en"
# Which tokens should count? We count the answer's alone. A prompt comes from outside when the model is used, and $\log\pi_\theta(y\mid x)$ is the quantity that DPO will compare.

# %% [markdown] lang="zh"
# 哪些词元该计入？我们只计回答的。用模型的时候，提示从外面来；而且 DPO 将来要比较的量正是 $\log\pi_\theta(y\mid x)$。

# %% [markdown] lang="en"
# ## ⋆ Should the prompt count too?
# The seed project counts all tokens except padding. Then the model is also asked to guess the prompt: which targets occur, and how often. That is a second thing to learn, with an entropy of its own, $H(X)=4.853$ nats. The floor of the sum is
#
# $$H(X,Y)=H(X)+H(Y\mid X)=4.853+5.736=10.589.$$
#
# Does the extra question harm the answers? Stored runs of 600 steps differ in the mask alone, and each was made from three seeds (`chapters/data/sft_optimizers.py`). The yardstick is the excess on the answers: how many nats they cost above their floor.
#
# With all tokens in the loss, the prompts are learnt to within 0.02 nats of their entropy. With answers alone a prompt costs 15 nats and more: that network cannot write one and will never have to.
#
# And the answers? In every seed they are a little *cheaper* where the prompts count too, by 0.07 nats on average. So the extra question does no harm here; after 600 steps it helps a little. Whether that lasts to the end of a full training, these runs do not say. Where prompts are long and answers short, [Shi et al. 2024](https://arxiv.org/abs/2405.14394) find that counting the prompt can help.

# %% [markdown] lang="zh"
# ## ⋆ 提示要不要也计入？
# 种子项目把填充以外的词元全部计入损失。这样一来，模型还得猜提示：哪些目标会出现、出现得多不多。这是另一件要学的事，自带一份熵，$H(X)=4.853$ 奈特。合起来的下界是
#
# $$H(X,Y)=H(X)+H(Y\mid X)=4.853+5.736=10.589$$
#
# 多出来的这道题会不会拖累回答？存下来的几次训练，各 600 步，只有掩码不同，每种都用三个种子跑过（`chapters/data/sft_optimizers.py`）。拿回答的超额来比：它比自己的下界高出多少奈特。
#
# 全部词元都计入，提示的损失离它的熵不到 0.02 奈特。只计回答，一个提示要付 15 奈特以上：这个网络不会写提示，也用不着会。
#
# 那么回答呢？三个种子都一样：提示也计入时，回答反而略微*便宜*，平均便宜 0.07 奈特。可见多出来的题没有拖累回答，到第 600 步还帮了一点小忙。跑完全程是否仍然如此，这几次训练回答不了。提示长、回答短的时候，[Shi et al. 2024](https://arxiv.org/abs/2405.14394) 发现把提示计入损失反而可能更好。

# %%
p_x = np.array(list(task.prompt_distribution.values()))
prompt_entropy = float(-(p_x * np.log(p_x)).sum())
joint = -sum(weight * math.log(weight) for _, _, weight in texts(task))
assert abs(prompt_entropy - 4.853) < 5e-4 and abs(joint - 10.589) < 5e-4
assert abs(task.entropy - 5.736) < 5e-4
assert abs(prompt_entropy + task.entropy - joint) < 1e-9

# %%
short = json.loads(Path("data/sft_optimizers.json").read_text())["runs"]
masks = {"muon": "answers only", "muon_all": "all tokens"}
arms.show(arms.table(short, masks, ("excess", "prompt_nats")))
learnt = arms.values(short, "muon_all", "prompt_nats").values()
assert max(abs(nats - prompt_entropy) for nats in learnt) < 0.02
assert min(arms.values(short, "muon", "prompt_nats").values()) > 15
assert arms.beats(short, "muon", "muon_all", "excess")  # more nats, in every seed
cheaper = arms.gaps(short, "muon", "muon_all", "excess").values()
assert f"{sum(cheaper) / 3:.2f}" == "0.07"

# %% [markdown] lang="en"
# ## ⋆ One step, however it is cut
# When a batch is cut into pieces, their gradients are added up before the weights move: **gradient accumulation**. The result should be that of the whole batch. The mean of means gives each token of a short piece more weight than each token of a long one. It is an easy mistake; Hugging Face's Trainer made it until 2024 ([Debut et al. 2024](https://huggingface.co/blog/gradient_accumulation)).
#
# The cell cuts one batch into eight pieces, sorted by length as one does to save padding. Sums divided once give the gradient of the whole to rounding error. The mean of means misses it by more than 1 %.

# %% [markdown] lang="zh"
# ## ⋆ 一步怎么切都一样
# 批次切成几块，各算各的梯度，加起来再动权重，叫**梯度累积**（gradient accumulation）。结果应该同整个批次一样。「平均的平均」却给短块里的词元加了分量。这个错很容易犯，Hugging Face 的 Trainer 直到 2024 年还在犯（[Debut et al. 2024](https://huggingface.co/blog/gradient_accumulation)）。
#
# 下面把一个批次按长度排好（为了少填充，大家常这么排），切成八块。总和最后除一次，得到的就是整体的梯度，只差舍入误差；「平均的平均」则偏了 1% 以上。


# %%
def gradient(pieces, mean_of_means):
    model.zero_grad()
    all_tokens = sum(piece["completion_mask"].sum() for piece in pieces)
    for piece in pieces:
        nats, marked = sft_step(model, piece)["loss"]
        divisor = marked * len(pieces) if mean_of_means else all_tokens
        (nats / divisor).backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


by_length = mask.sum(1).argsort(stable=True)
eighths = [{k: v[rows] for k, v in batch.items()} for rows in by_length.chunk(8)]
whole = gradient([batch], mean_of_means=False)
off = [
    float((gradient(eighths, way) - whole).norm() / whole.norm())
    for way in (False, True)
]
print("divided once {:.0e}, mean of means {:.3f}".format(*off))
assert off[0] < 1e-4 and off[1] > 0.01

# %% [markdown] lang="en"
# ## The step, written out
# A step of training has four moves: the loss of a batch, its gradient, a move of the weights against the gradient, and the gradients set back to zero. The second is autograd's. The third belongs to the **optimiser**.
#
# The plainest optimiser subtracts the gradient times a number, the **learning rate**. But gradients of different weights differ by powers of ten, so that one rate is too large for some and too small for others. **AdamW** ([Loshchilov & Hutter 2019](https://arxiv.org/abs/1711.05101); we set its weight decay to 0) keeps two running means for each weight, of its gradient and of the gradient's square, and moves along the first divided by the root of the second. Both means start at zero and are too small at first; a divisor makes up for that.

# %% [markdown] lang="zh"
# ## 把一步写出来
# 训练的一步有四个动作：算一个批次的损失；求梯度；权重逆着梯度走一点；把梯度清零。第二个动作交给自动求导，第三个归**优化器**（optimiser）管。
#
# 最朴素的优化器，是减去梯度乘一个数，这个数叫**学习率**（learning rate）。可是不同权重的梯度能差好几个数量级，一个学习率，对有的权重太大，对有的又太小。**AdamW**（[Loshchilov & Hutter 2019](https://arxiv.org/abs/1711.05101)；权重衰减我们设为 0）给每个权重记两个滑动平均，一个是梯度的，一个是梯度平方的；用前者除以后者的平方根，就是该走的方向。两个平均都从零开始，起初偏小，要除以一个数补回来。


# %%
def adamw_step(weight, gradient, mean, square, step, rate):
    """Step 1, 2, ... of AdamW; changes the weight and its running means in place."""
    mean.lerp_(gradient, 1 - 0.9)  # 0.9 of the old, 0.1 of the new
    square.lerp_(gradient**2, 1 - 0.95)
    size = (square / (1 - 0.95**step)).sqrt()
    weight -= rate * (mean / (1 - 0.9**step)) / (size + 1e-8)


# %% [markdown] lang="en"
# > **Before you run it.** Three weights have the gradients 100, 0.001 and −3. How far does the first step of AdamW move each?
#
# <details><summary>Answer</summary>
#
# All equally far, by the learning rate. After one step the first mean is the gradient and the second its square, so the quotient is 1 or −1. Only later, when gradients disagree, do the moves shrink.
#
# </details>

# %% [markdown] lang="zh"
# > **先猜一猜。** 三个权重的梯度是 100、0.001 和 −3。AdamW 的第一步，各走多远？
#
# <details><summary>答案</summary>
#
# 一样远，都是一个学习率。第一步之后，前一个平均就是梯度，后一个就是它的平方，相除得 1 或 −1。要等以后各步的梯度意见不一，步子才会变小。
#
# </details>

# %%
gradients = [torch.tensor([100.0, 0.001, -3.0]), torch.tensor([-50.0, 0.002, -3.0])]
ours, theirs = torch.zeros(3), torch.zeros(3, requires_grad=True)
settings = {"betas": (0.9, 0.95), "weight_decay": 0.0}
mean, square = torch.zeros(3), torch.zeros(3)
adamw = torch.optim.AdamW([theirs], lr=0.01, **settings)
for step, theirs.grad in enumerate(gradients, start=1):
    adamw_step(ours, theirs.grad, mean, square, step, rate=0.01)
    adamw.step()
    print(step, [f"{weight:.4f}" for weight in ours.tolist()])
    assert torch.allclose(ours, theirs, atol=1e-6)
    if step == 1:
        assert torch.allclose(ours.abs(), torch.full((3,), 0.01), rtol=1e-4)

# %% [markdown] lang="en"
# For the matrices inside the layers the book takes **Muon** ([Jordan et al. 2024](https://kellerjordan.github.io/posts/muon/)). To AdamW a matrix is a bag of numbers. Muon sees a map that stretches some directions much and others little, and evens the step out, so that a few strong directions do not take all of it. Embedding, output matrix and norms stay with AdamW, as the authors of Muon advise.
#
# Both follow one **schedule**. The learning rate rises over the first steps, while the running means are still filling (**warm-up**). Then it falls along a **cosine** to zero, so that the luck of single batches averages out at the end. And this is the whole training loop:

# %% [markdown] lang="zh"
# 层内的矩阵，本书用 **Muon**（[Jordan et al. 2024](https://kellerjordan.github.io/posts/muon/)）来训练。在 AdamW 眼里，矩阵只是一袋数；Muon 把它看成线性映射，有的方向拉得长，有的方向拉得短，于是先把步子摊匀，免得力气都花在少数几个方向上。嵌入、输出矩阵和各个 norm 仍交给 AdamW，这也是 Muon 作者的建议。
#
# 两者共用一套**学习率调度**（learning-rate schedule）。开头几步，学习率逐渐升高，等滑动平均攒起来，这是**预热**（warm-up）；之后沿**余弦**降到零（余弦退火，cosine schedule），让单个批次的运气在最后互相抵消。整个训练循环就是这样：


# %%
def rate_at(step, steps, warmup):
    """The learning rate, as a share of its peak: a line up, half a cosine down."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def train_here(model, steps, peak=0.01, warmup=50, watch=()):
    """Nats an answer at each step, and what the model wrote at the steps to watch."""
    optimizers = make_optimizers(model, "muon", peak)
    groups = [group for each in optimizers for group in each.param_groups]
    peaks, nats, seen = [group["lr"] for group in groups], [], {}
    for step in progress_bar(range(steps), shown=True):
        if step in watch:
            seen[step] = evaluate(model, task, n=500, seed=1)
        for group, its_peak in zip(groups, peaks):
            group["lr"] = its_peak * rate_at(step, steps, warmup)
        total, count = sft_step(model, batch_at(step))["loss"]
        (total / count).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        nats.append(float(total.detach()) / 128)
    return np.array(nats), seen


# %% [markdown] lang="en"
# `dpo_core.training.train` adds accumulation, a metrics file and resuming, and computes the same. The two agree over three steps:

# %% [markdown] lang="zh"
# 程序库的 `dpo_core.training.train` 多了梯度累积、指标文件和断点续训，算的是同一件事。跑三步对一对：

# %%
first, second = (Llama(ModelConfig()).reset_parameters(0).to(device) for _ in range(2))
by_hand, _ = train_here(first, steps=3)
config = LoopConfig(3, learning_rate=0.01, optimizer="muon", warmup=50, log_every=1)
by_library = train(second, batch_at, sft_step, config, progress=False)
lines = [line["nats_per_completion"] for line in by_library]
print(by_hand.round(2), np.round(lines, 2))
assert np.allclose(by_hand, lines, atol=1e-3)
schedule = [(rate_at(k, 600, 50), learning_rate_factor(k, 600, 50)) for k in range(600)]
assert all(math.isclose(own, library) for own, library in schedule)

# %% [markdown] lang="en"
# ## ⋆ Muon, and was it worth it?
# A matrix stretches each direction by a factor; the factors are its **singular values**. Those of a gradient fall off quickly, so a step along the gradient spends itself on a few directions. Muon keeps a running mean of the gradients (the momentum) and, before the step, *orthogonalises* it: same directions, all factors near 1. No singular vectors are computed. The matrix $X$ is divided by its norm and put through a polynomial five times; each singular value $s$ then goes through $f$:
#
# $$X\leftarrow aX+b\,XX^\top X+c\,(XX^\top)^2X,\qquad f(s)=as+bs^3+cs^5,$$
#
# with $a=3.4445$, $b=-4.775$, $c=2.0315$. By hand: a diagonal matrix with 3 and 4 has norm 5, so it starts at 0.6 and 0.8, and one round makes these 1.193 and 0.976.

# %% [markdown] lang="zh"
# ## ⋆ Muon，以及改用它值不值
# 矩阵把各个方向各拉长若干倍，这些倍数就是**奇异值**（singular value）。梯度的奇异值衰减得很快，顺着梯度走，力气都花在少数几个方向上。Muon 也留一份梯度的滑动平均（动量，momentum），迈步之前先把它*正交化*（orthogonalise）：方向不动，倍数都拉到 1 附近。它不求奇异向量，而是先把矩阵 $X$ 除以范数，再让它过五遍多项式；每个奇异值 $s$ 于是过五遍 $f$：
#
# $$X\leftarrow aX+b\,XX^\top X+c\,(XX^\top)^2X,\qquad f(s)=as+bs^3+cs^5$$
#
# 其中 $a=3.4445$，$b=-4.775$，$c=2.0315$。手算一个：对角线上是 3 和 4 的矩阵，范数是 5，于是从 0.6 和 0.8 出发，过一遍变成 1.193 和 0.976。

# %%
A, B, C = 3.4445, -4.775, 2.0315


def f(s):
    return A * s + B * s**3 + C * s**5


def orthogonal(matrix, rounds=5):
    """All singular values of one wide or square matrix pushed towards 1."""
    x = matrix / matrix.norm()
    for _ in range(rounds):
        gram = x @ x.T
        x = A * x + B * gram @ x + C * gram @ gram @ x
    return x


diagonal = torch.diag(torch.tensor([3.0, 4.0]))
once, five = orthogonal(diagonal, rounds=1).diag(), orthogonal(diagonal).diag()
print(f"{f(0.6):.3f} {f(0.8):.3f}, after five rounds {five[0]:.2f} {five[1]:.2f}")
assert abs(f(0.6) - 1.193) < 5e-4 and abs(f(0.8) - 0.976) < 1e-3
assert torch.allclose(once, torch.tensor([f(0.6), f(0.8)]), atol=1e-4)
assert torch.allclose(orthogonalise(diagonal[None])[0].diag(), five, atol=1e-4)

# %%
model.zero_grad()
sft_step(model, batch)["loss"][0].backward()
matrix = model.model.layers[1].mlp.up_proj.weight.grad.cpu()  # (64, 64)
before = torch.linalg.svdvals(matrix)
before = before / before[0]
after = torch.linalg.svdvals(orthogonal(matrix))
assert before[10] < 0.1 and after[0] < 1.3 and after[before > 0.01].min() > 0.6


# %% tags=["figure"] alt_en="Singular values of a gradient in order of size, on a logarithmic axis. Grey: they fall by four powers of ten. Blue: after orthogonalisation the first half lie near 1, then they fall." alt_zh="一个梯度的奇异值，从大到小排列，纵轴为对数。灰点：下降了四个数量级。蓝点：正交化之后，前一半都在 1 附近，随后才下降。"
@picture
def evened_out(say):
    _, axes = figure(height=3.0)
    order = np.arange(1, 65)
    axes.semilogy(order, before, ".", color=COLORS["ref"])
    axes.semilogy(order, after, ".", color=COLORS["policy"])
    axes.text(11, 0.002, say("gradient", "梯度"), color=COLORS["ref"])
    axes.text(34, 1.5, say("after five rounds", "五遍之后"), color=COLORS["policy"])
    axes.set(
        xlabel=say("singular value, from the largest", "第几个奇异值（从大到小）"),
        ylabel=say("size", "大小"),
        ylim=(1e-4, 5),
    )


# %% [markdown] lang="en"
# **Figure 3.2.** The singular values of a gradient, as shares of the largest (grey), and after Muon's five rounds (blue). All that were above 1 % of the largest end between 0.6 and 1.3.

# %% [markdown] lang="zh"
# **图 3.2** 一个梯度的奇异值，都除以最大的一个（灰）；过完 Muon 的五遍之后（蓝）。原先超过最大者 1% 的，都落到了 0.6 与 1.3 之间。

# %% [markdown] lang="en"
# Was it worth it? The stored runs of a seed start from the same weights and see the same batches; Muon was tried at one learning rate, AdamW at two. In each of three seeds Muon ends lower than AdamW at either, by about half a nat or more. One small task, 600 steps, two rates for AdamW: enough to choose by here, no verdict on optimisers.

# %% [markdown] lang="zh"
# 改用它值不值？存下来的训练里，同一个种子的几次，起点的权重相同，见到的批次也相同；Muon 只试了一个学习率，AdamW 试了两个。三个种子里，Muon 最后都比 AdamW 的任何一个更低，低了约半奈特，或者更多。一个小任务，600 步，AdamW 只试了两个学习率：在这里够做选择了，要评判优化器还差得远。

# %%
names = {"muon": "Muon 0.01", "adamw_0.003": "AdamW 0.003", "adamw_0.01": "AdamW 0.01"}
arms.show(arms.table(short, names, ("excess",)))
for name in ("adamw_0.003", "adamw_0.01"):
    assert arms.beats(short, name, "muon", "excess", by=0.45)  # nats: more is worse


# %% tags=["figure"] alt_en="Loss curves of 600 steps, falling from 11 nats, three seeds of each kind close together: AdamW at two rates ends above Muon; the dashed floor lies below all." alt_zh="600 步的损失曲线，从 11 奈特往下降，每种三个种子，挨得很近：两个学习率的 AdamW 最后都高于 Muon；虚线是下界，在所有曲线之下。"
@picture
def two_optimisers(say):
    _, axes = figure()
    looks = {"muon": ("policy", "-"), "adamw_0.003": ("baseline", "-")}
    looks["adamw_0.01"] = ("baseline", ":")
    for run in short:
        if run["name"] in looks:
            color, line = looks[run["name"]]
            label = names[run["name"]] if run["seed"] == 0 else None
            x, y = run["step"][2:], run["nats"][2:]
            axes.plot(x, y, line, color=COLORS[color], label=label, linewidth=1)
    axes.axhline(task.entropy, color=COLORS["theory"], linestyle="--")
    floor_word = say("entropy floor", "熵下界")
    axes.text(45, task.entropy + 0.1, floor_word, color=COLORS["theory"])
    axes.set(
        xlabel=say("training steps", "训练步数"),
        ylabel=say("nats an answer", "奈特（每个回答）"),
        ylim=(5.5, 11),
    )
    axes.legend(title=say("optimiser, learning rate", "优化器与学习率"))


# %% [markdown] lang="en"
# **Figure 3.3.** The loss over 600 steps, three seeds of each; runs of a seed have the same first weights and the same batches. Muon ends lower.

# %% [markdown] lang="zh"
# **图 3.3** 600 步里的损失，每种三个种子；同一个种子的各次训练，起点的权重和用到的批次都相同。Muon 最后更低。

# %% [markdown] lang="en"
# ## From random weights
# What follows has the loss and the mask of **supervised fine-tuning** (SFT), the first stage of the usual recipe for assistants ([Ouyang et al. 2022](https://arxiv.org/abs/2203.02155)). It lacks SFT's start. SFT begins with a *pretrained* model, which has learnt a language, and facts, and some arithmetic, by predicting the next token of an enormous mass of text. Fine-tuning then mostly shows it which of its abilities to use: [Zhou et al. 2023](https://arxiv.org/abs/2305.11206) fine-tune on 1,000 chosen examples and conclude that almost all knowledge comes from pretraining.
#
# Our network starts from **random weights**. It must learn from the same texts what a digit is, how a sum is written, how to add, and how careless the authors are. We can afford to leave pretraining out: the population writes as much as we want. Each batch is drawn afresh, and measured before the model has learnt from it, so the training loss estimates the expected loss on the next draw.
#
# > **Before you run it.** 600 steps, 128 texts each. After 100 of them: does the model write well-formed sums? Does it hit their targets?
#
# <details><summary>Answer</summary>
#
# It writes them nearly always well formed, and hardly ever hits. Form is the same in every text, so it is learnt first; arithmetic takes far longer.
#
# </details>

# %% [markdown] lang="zh"
# ## 从随机权重出发
# 接下来的训练，损失和掩码都是**监督微调**（supervised fine-tuning，SFT）的；训练对话助手的通行做法里，它是第一步（[Ouyang et al. 2022](https://arxiv.org/abs/2203.02155)）。缺的是它的起点。SFT 从一个**预训练**（pretraining）过的模型开始：那个模型在海量文本上预测下一个词元，已经学会了语言、常识，还有一点算术。微调主要是告诉它，该拿出哪样本事。[Zhou et al. 2023](https://arxiv.org/abs/2305.11206) 用 1,000 个精选的例子做微调，结论是：知识几乎都来自预训练。
#
# 我们的网络从**随机权重**开始。数字是什么、算式怎么写、加减怎么算、作者有多粗心，全得从同一批文本里学。预训练省得起：要多少文本，群体就写多少。每个批次都是新抽的，而且先量、后学，所以训练损失估计的，就是下一次抽取的期望损失。
#
# > **先猜一猜。** 训练 600 步，每步 128 段文本。走到第 100 步，模型写得出格式正确的算式吗？对得上目标吗？
#
# <details><summary>答案</summary>
#
# 格式差不多都对了，目标却几乎对不上。每段文本的形式都一样，所以先学会；算术要慢得多。
#
# </details>

# %% tags=["nbval-ignore-output"]
watch = (0, 25, 50, 100, 200, 400)
live = Llama(ModelConfig()).reset_parameters(0).to(device)
nats, seen = train_here(live, steps=600, watch=watch)
seen[600] = evaluate(live, task, n=500, seed=1)
live_excess = excess_nats(live, task, n=2_000)
SHARES = ("well_formed", "style", "exact")
print("step", *(f"{name:>11}" for name in SHARES))
for step, report in seen.items():
    print(f"{step:4}", *(f"{report[name].value:11.2f}" for name in SHARES))
print(f"above the floor at the end: {live_excess.value:.2f} nats")
assert nats[:5].mean() > 15 and nats[-50:].mean() < 8.5  # from about 19 nats an answer
assert seen[100]["well_formed"].value > 0.9 and seen[100]["exact"].value < 0.1
assert seen[600]["well_formed"].value > 0.95 and 0.1 < seen[600]["exact"].value < 0.5
assert 1.0 < live_excess.value < 2.5

# %% [markdown] lang="en"
# The rows are what the model wrote by itself at that step: 500 answers to prompts from a separate stream of random numbers, marked by the checker of chapter 1. After 100 steps more than 90 % of them are *well formed*, texts that the checker can read as a sum, and less than 10 % hit the target. The exact share climbs slowly from there; at step 600 it is still below one half.

# %% [markdown] lang="zh"
# 每一行是走到那一步时，模型自己写的东西：500 个回答，提示来自另一串随机数，由第 1 章的判分程序批改。到第 100 步，90% 以上*格式正确*（well formed），判分程序能当算式来读；命中目标的却不到 10%。此后，答案正确的比例慢慢往上爬，到第 600 步还不到一半。

# %%
smooth = np.array([nats[max(0, i - i // 8) : i + 1].mean() for i in range(len(nats))])
crossing = int(np.argmax(smooth < blind))
assert 30 < crossing < 150 and smooth[-1] > task.entropy


# %% tags=["figure"] alt_en="Two panels over the training step on a logarithmic axis. Left: the loss falls from 19 to below 8.5 nats, crossing the dashed line of a model that does not read the prompt before step 150 and staying above the entropy floor. Right: the well-formed share rises to nearly 1 within 100 steps, the share of three numbers settles near the authors' 0.30, the exact share is still climbing towards their 0.75." alt_zh="左右两图，横轴为训练步数（对数）。左图：损失从 19 降到 8.5 奈特以下，不到 150 步就穿过「不读提示」的虚线，始终在熵下界之上。右图：格式正确的比例在 100 步内升到 1 附近，写三个数的比例停在作者的 0.30 附近，答案正确的比例还在向作者的 0.75 爬。"
@picture
def form_before_arithmetic(say):
    _, (left, right) = figure(2, width=7.6, height=3.4)
    left.semilogx(np.arange(1, 601), smooth, color=COLORS["policy"])
    words = say("prompt not read", "不读提示"), say("entropy floor", "熵下界")
    for line, word in zip((blind, task.entropy), words):
        left.axhline(line, color=COLORS["theory"], linestyle="--")
        left.text(1.1, line + 0.3, word, color=COLORS["theory"])
    left.set(ylabel=say("nats an answer", "奈特（每个回答）"), ylim=(4.5, 20))
    en, zh = ("well formed", "three numbers", "exact"), ("格式正确", "三个数", "正确")
    for name, word, mark in zip(SHARES, say(en, zh), "os^"):
        y = [report[name].value for report in seen.values()]
        x = [max(1, step) for step in seen]
        right.semilogx(x, y, f"{mark}-", color=COLORS["policy"], markersize=4)
        right.text(800, y[-1], word, color=COLORS["policy"], va="center")
    for line in (0.30, 0.75):
        right.hlines(line, 1, 600, color=COLORS["theory"], linestyle="--")
        right.text(
            1.1, line + 0.02, say("the authors", "作者群体"), color=COLORS["theory"]
        )
    right.set(ylabel=say("share of answers", "占回答的比例"))
    right.set(xlim=(0.9, 3e4), xticks=(1, 10, 100))
    for axes in (left, right):
        axes.set(xlabel=say("training steps", "训练步数"))


# %% [markdown] lang="en"
# **Figure 3.4.** Form before arithmetic. Left: nats an answer during 600 steps. Below the upper line, $H(Y)$, no model can go without reading the prompt; the curve passes it within the first 150 steps. Right: what the model writes by itself; dashed, the authors' 0.30 (three numbers) and 0.75 (exact).

# %% [markdown] lang="zh"
# **图 3.4** 先有形式，后有算术。左：600 步里，每个回答的奈特数。不读提示的模型，到不了上面那条线 $H(Y)$ 以下；曲线在头 150 步里就穿了过去。右：模型自己写的东西；虚线是作者的 0.30（三个数）和 0.75（正确）。

# %% [markdown] lang="en"
# ## The whole run
# The model that comes with the book, `gen`, is the same recipe carried on for 9,000 steps, some minutes on two cores. Training wrote a line of metrics every 100 steps, and the file is shipped with the weights.

# %% [markdown] lang="zh"
# ## 跑完全程
# 随书附带的模型 `gen`，是同一个配方接着跑，一共 9,000 步，两个核心上要几分钟。训练时每 100 步记一行指标，这个文件和权重放在一起。

# %%
metrics_file = model_folder("gen") / "metrics.jsonl"
metrics = [json.loads(line) for line in metrics_file.read_text().splitlines()]
steps = np.array([line["step"] for line in metrics])
curve = np.array([line["nats_per_completion"] for line in metrics])
every_text = zip(table.prompts, table.completions)
surprises = np.array([-task.log_conditional[text] for text in every_text])
deviation = math.sqrt(table.probability @ (surprises - task.entropy) ** 2)
error = deviation / math.sqrt(100 * 128)  # of a point: the mean of 100 batches
print(f"standard deviation {deviation:.2f} nats, of a point {error:.3f}")
assert abs(deviation - 1.87) < 0.005 and abs(error - 0.017) < 0.001
assert steps[-1] == 9_000 and curve[9] - task.entropy < 2
assert abs(curve[-10:].mean() - task.entropy) < 0.06


# %% tags=["figure"] alt_en="Left: the loss of the shipped run falls from above 9 nats towards the dashed entropy floor at 5.74 and runs along it. Right: the same from step 1,000 on, magnified: the points come down from above 6.2 and end in a narrow band around the floor, or just above it." alt_zh="左图：随书模型的损失从 9 奈特以上降下来，贴着 5.74 处的熵下界走。右图：从第 1,000 步起放大来看，各点从 6.2 以上降下来，最后进入下界周围的窄带，或者略高一点。"
@picture
def down_to_the_floor(say):
    _, (left, right) = figure(2, width=7.6, height=3.2)
    left.plot(steps, curve, color=COLORS["policy"])
    right.plot(steps, curve, ".", color=COLORS["policy"], markersize=4)
    band = task.entropy - 1.96 * error, task.entropy + 1.96 * error
    right.axhspan(*band, color=COLORS["theory"], alpha=0.25, linewidth=0)
    for axes in (left, right):
        axes.axhline(task.entropy, color=COLORS["theory"], linestyle="--")
        axes.set(xlabel=say("training steps", "训练步数"))
        axes.set(ylabel=say("nats an answer", "奈特（每个回答）"))
    word = say("entropy floor", "熵下界")
    left.text(9_000, task.entropy - 0.4, word, color=COLORS["theory"], ha="right")
    word = say("the last stretch, magnified", "最后一段，放大")
    right.text(9_000, 6.17, word, ha="right")
    left.set(ylim=(5.1, 10))
    right.set(xlim=(1_000, None), ylim=(5.65, 6.25))


# %% [markdown] lang="en"
# **Figure 3.5.** Left: the shipped model's loss over 9,000 steps, and the floor. Most of the way is done in the first 1,000 steps. Right: the rest of it, magnified. The band is where 95 % of the points of a perfect model would lie.

# %% [markdown] lang="zh"
# **图 3.5** 左：随书模型 9,000 步的损失，以及下界；大半的路在头 1,000 步走完。右：剩下的部分，放大来看。假如有个完美的模型，它的点有 95% 落在这条带子里。

# %% [markdown] lang="en"
# How far above the floor does it end? The curve is a poor ruler: surprises differ from text to text, so that even a point that averages 12,800 texts has a standard error (its own standard deviation) of 0.017 nats; hence the band.
#
# A better ruler takes the difference text by text: the model's surprise minus the population's, at the same text. What is lucky for one is lucky for the other. The mean difference estimates $\mathrm{KL}(p\,\|\,\pi_\theta)$, and `excess_nats` computes it.
#
# > **Before you run it.** Suppose the model stands at the floor. How often does it hit the target when it draws its tokens at random? And when it takes the most probable token every time (*greedy* decoding, chapter 4)?
#
# <details><summary>Answer</summary>
#
# At random: three times in four, as the authors do, since a perfect imitation imitates the slips too. Greedily: nearly always, because slips are in the minority.
#
# </details>

# %% [markdown] lang="zh"
# 最后离下界还有多远？曲线不是一把好尺子：各段文本的惊讶有大有小，就算一个点平均了 12,800 段，标准误（这个平均数自己的标准差）也有 0.017 奈特，图里的带子就是这么来的。
#
# 换一把尺子：对同一段文本，用模型的惊讶减去群体的惊讶。抽到好猜的文本，两边一起占便宜，一减就抵消了。差的平均估计的是 $\mathrm{KL}(p\,\|\,\pi_\theta)$，由 `excess_nats` 来算。
#
# > **先猜一猜。** 假设模型已经到了下界。让它随机地抽词元来写，有多少答案正确？如果每次都取最可能的词元（*贪心*解码，见第 4 章）呢？
#
# <details><summary>答案</summary>
#
# 随机地写：四个里对三个，同作者一样，因为学得再像，连失误也一起学了。贪心：几乎全对，因为失误是少数。
#
# </details>

# %% tags=["nbval-ignore-output"]
gen = load_pretrained("gen").to(device)
excess = excess_nats(gen, task, n=8_000)
sampled = evaluate(gen, task, n=8_000)
greedy = evaluate(gen, task, n=500, temperature=0)
print(f"above the floor: {excess.value:.3f} nats")
print(f"{'':11}  sampled  greedy")
for name in SHARES:
    print(f"{name:11} {sampled[name].value:8.2f} {greedy[name].value:7.2f}")
assert excess.value > 0 and excess.high < 0.04
assert abs(sampled["style"].value - 0.30) < 0.03
assert abs(sampled["exact"].value - 0.75) < 0.03
assert greedy["exact"].value > 0.99 and greedy["style"].value < 0.02

# %% [markdown] lang="en"
# Less than 0.04 nats of 5.74: next-token training reaches the floor, or nearly. What lies there are the authors. Drawn at random, three answers in ten have three numbers and three in four are exact. Greedily, more than 99 % are exact.

# %% [markdown] lang="zh"
# 5.74 奈特里只多了不到 0.04：预测下一个词元，确实能走到下界，至少近在咫尺。站在那儿的就是作者：随机地写，十个回答里有三个写三个数，四个里有三个正确；贪心地写，正确的超过 99%。

# %% [markdown] lang="en"
# ## ⋆ The same from the command line
# Nothing here needs a notebook:
#
# ```bash
# dpo-core train-gen
# dpo-core train-gen --resume
# dpo-core train-gen --loss-on all
# dpo-core evaluate gen.model --n 2000
# ```
#
# The first command runs the whole recipe and writes `./gen.model`; the second continues an interrupted run; the third counts the prompts too; the last prints shares with intervals, the floor and the excess.
#
# `gen.model` is a folder: the weights and the tokenizer in Hugging Face's format. The file of the weights also carries the **recipe**, every option that shapes the result; `recipe.json` shows it to people, and `metrics.jsonl` has one line of JSON per 100 steps. While the run lasts there is also a folder `gen.model.partial` with the run's state, renewed every 1,000 steps; it goes when the model is complete. The cell runs the command on a very small scale and lists the files.

# %% [markdown] lang="zh"
# ## ⋆ 在命令行里做同样的事
# 这些都用不着笔记本：
#
# ```bash
# dpo-core train-gen
# dpo-core train-gen --resume
# dpo-core train-gen --loss-on all
# dpo-core evaluate gen.model --n 2000
# ```
#
# 第一条照配方从头训练，写出 `./gen.model`；第二条接着跑中断了的训练；第三条把提示也计入损失；最后一条打印各项比例和区间、下界、超额。
#
# `gen.model` 是一个文件夹：权重和分词器用 Hugging Face 的格式存放。影响结果的每一个选项合起来叫**配方**（recipe），就写在权重那个文件里；`recipe.json` 是抄给人看的一份，`metrics.jsonl` 每 100 步一行 JSON。训练途中，旁边还有一个文件夹 `gen.model.partial`，存着训练的状态，每 1,000 步更新一次，模型存好就删掉。下面用极小的规模跑一遍这条命令，列出文件。

# %%
defaults = TrainGen()
assert (defaults.steps, defaults.batch_size) == (9_000, 128)
assert (defaults.learning_rate, defaults.optimizer) == (0.01, "muon")
assert (defaults.log_every, defaults.save_every) == (100, 1_000)
small = "--steps 20 --batch-size 16 --log-every 10 --save-every 10".split()
with tempfile.TemporaryDirectory() as folder, chdir(folder):
    assert main(["train-gen", "--output", "small.model", *small]) == 0
    files = sorted(path.as_posix() for path in Path().rglob("*") if path.is_file())
    print(*files, sep="\n")

# %% [markdown] lang="en"
# How fast it runs depends on who else is computing. Torch computes with several *threads*, and in a model this small they spend much of a step waiting for each other, and they wait spinning, with their core at full load. On one machine with two cores we measured:
#
# | milliseconds a step | one thread | two threads |
# |---|---|---|
# | idle machine | 53 | 35 |
# | beside one busy process | 58 | 107 to 490 |
#
# So `use_threads()`, at the top of this chapter, goes by the cores that are idle, as the commands do when they start; `use_threads(1)` in its place, a command's `--threads`, or `OMP_NUM_THREADS` set before Python starts, overrides the choice.
#
# A run can be killed at any moment, by an impatient reader or a power cut, and what then lies on the disk must be whole. `dpo_core.storage` keeps one rule: what must hold together is *one* file, and a file changes in one step. The new file is written beside the old one, forced onto the disk (`fsync`), and moved into its place by `os.replace`, which the operating system does completely or not at all. So whoever reads finds the old file or the new one, and never has anything to repair. A lock keeps a second run out; when its owner ends, however it ends, the operating system frees it.
#
# Resuming must not change the result, or nobody could say what a resumed model is. The batch of a step is a function of the seed and the step, and the state holds the weights, the optimiser's running means, and the step. So a run that is stopped at step 15 and resumed from its state of step 10 ends in the same bits as one that was left alone:

# %% [markdown] lang="zh"
# 跑得快不快，还要看机器上有没有别的程序在忙。torch 用好几个*线程*（thread）一起算；模型这么小，它们大半工夫花在互相等待上，而且是空转着等，照样把核占满。在一台双核机器上量过：
#
# | 一步多少毫秒 | 一个线程 | 两个线程 |
# |---|---|---|
# | 机器空闲 | 53 | 35 |
# | 旁边有一个程序在忙 | 58 | 107 到 490 |
#
# 所以本章开头的 `use_threads()` 先看有几个核闲着，再定线程数，各条命令启动时也是这样；想自己定，就在那里改成 `use_threads(1)`，或者给命令加 `--threads`，或者在启动 Python 之前设好 `OMP_NUM_THREADS`。
#
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

    fresh = Llama(ModelConfig()).reset_parameters(0).to(device)
    often = {"log_every": 10, "save_every": 10}
    config = LoopConfig(20, learning_rate=0.01, optimizer="muon", **often)
    with workshop(output) as place:
        options = {"place": place, "resume": resume, "progress": False}
        train(fresh, small_batch, sft_step, config, **options)
    return fresh.state_dict()


# %%
with tempfile.TemporaryDirectory() as folder:
    uninterrupted = run(f"{folder}/a")
    try:
        run(f"{folder}/b", stop_at=15)
    except Stopped:
        resumed = run(f"{folder}/b", resume=True)
assert all(torch.equal(uninterrupted[k], resumed[k]) for k in uninterrupted)

# %% [markdown] lang="en"
# ## Learnt, or only stored?
# Has the model learnt to add? More than 99 % looks like a yes. But think of a *table* with 166 rows: for each prompt, the text that follows it most often. It adds nothing, and it is right every time. All these prompts were in the training, most of them thousands of times. Nothing measured so far tells an adder from that table.

# %% [markdown] lang="zh"
# ## 学会了，还是只是存下来了？
# 模型学会加减了吗？99% 以上，看起来是学会了。可是设想一张*表*，一共 166 行：每个提示后面，最常出现的是哪段文本，就记哪段。它什么也不会算，却次次都对。这些提示在训练里个个都有，大多出现过几千次。到现在为止量过的数，没有一个分得清它是会算，还是一张表。

# %%
best = {}  # what the table stores
for x, y, weight in texts(task):
    best[x] = max(best.get(x, (0, "")), (weight, y))
assert len(best) == 166 and all(judge(x, y).exact for x, (_, y) in best.items())
asked = 9_000 * 128 * np.array(list(task.prompt_distribution.values()))
print(f"a prompt was drawn {np.median(asked):.0f} times (median)")
assert (asked > 1_000).mean() > 0.8 and np.median(asked) > 2_000

# %% [markdown] lang="en"
# Prompts that the network has never seen can tell. We train again by the same recipe, from three seeds, each without any text of twenty prompts (**held-out prompts**), drawn beforehand from the targets that two numbers reach; a fresh draw for each seed (`chapters/data/held_out.py`). Then we ask those twenty, 200 answers each and one greedily. The yardstick is the share of exact answers; the authors have 0.75.
#
# For comparison, we ask the same prompts of the base model of the same seed; its training had those texts too, and as many in all. And three ways to answer without arithmetic, from the same texts: the table, which has no such row; the texts of the nearest seen prompt; any text at all. (The answers themselves are not all new. `27+27E` to `S54=` is kept out, but after `S44=` it occurs as a slip.)
#
# > **Before you run it.** Where between chance and 0.75 will the unseen prompts come out?
#
# <details><summary>Answer</summary>
#
# At 0.74, as good as those that were seen.
#
# </details>

# %% [markdown] lang="zh"
# 要分清，得拿网络从没见过的提示来问。照同一个配方再训练三次，种子各不相同，每次都把二十个提示的文本全部拿掉（**留出的提示**，held-out prompt）。这些提示事先从两个数够得着的目标里抽好，每个种子另抽一批（`chapters/data/held_out.py`）。训练完就问这二十个：每个抽 200 个回答，再贪心地答一次。拿正确率来比，作者们是 0.75。
#
# 作对照的，先有同一种子的基座模型：问它同样的提示；它的训练里有那些文本，文本的总数一样多。再有三种不用算术的答法，用的是同一批文本：查表，表里没有这一行；在见过的提示里找离它最近的，照抄那里的文本；随便拿一段。（回答本身并不全是新的：`S54=` 之后的 `27+27E` 拿掉了，但 `S44=` 之后它会作为失误出现。）
#
# > **先猜一猜。** 没见过的提示，正确率会落在瞎蒙和 0.75 之间的什么地方？
#
# <details><summary>答案</summary>
#
# 0.74，不比见过的差。
#
# </details>

# %%
held = json.loads(Path("data/held_out.json").read_text())
rows, networks = held["runs"], held["networks"]
WHO = {"authors": "the authors", "everything": "trained on all", "unseen": "kept out",
       "nearest": "nearest seen", "chance": "any text", "table": "table"}  # fmt: skip
arms.show(arms.table(rows, WHO, ("exact", "greedy", "style", "well_formed")))
for share in arms.values(rows, "authors", "exact").values():
    assert abs(share - 0.75) < 1e-6  # the yardstick
exact = arms.values(rows, "unseen", "exact")  # one share a seed
assert all(abs(share - 0.75) < 0.02 for share in exact.values()) and len(exact) == 3
assert f"{arms.arm_mean(rows, 'unseen', 'exact').value:.2f}" == "0.74"
full = arms.gaps(rows, "unseen", "everything", "exact")
assert max(map(abs, full.values())) < 0.03
assert set(arms.values(rows, "unseen", "greedy").values()) == {1.0}  # all sixty
for other in ("nearest", "chance", "table"):
    assert arms.beats(rows, "unseen", other, "exact", by=0.7)
    assert max(arms.values(rows, other, "exact").values()) < 0.01

# %% [markdown] lang="en"
# The sums after unseen prompts are right as often as the authors' are: within two points of 0.75 in every seed, and within three of what the model trained on all makes of the same prompts. Greedily, all sixty are right. Without arithmetic, next to nothing is: a text drawn blindly hits less than once in a hundred. So looking up explains next to nothing of it. Between the targets it has seen, the network *computes* a sum that fits.
#
# How far does that reach? Targets go from −58 to 107. We also ask for the twenty below and the twenty above, some of which could be written with numbers that the authors use: 108 is `49+59`, and the 59 is known from slips.

# %% [markdown] lang="zh"
# 没见过的提示，算式做对的比例同作者一样：每个种子的正确率，离 0.75 都不到两个百分点；同全部见过的模型在同样提示上的成绩相比，差距也不到三个百分点。贪心地答，六十个全对。不用算术的几种答法，几乎一个也答不对：随便拿一段，一百次里碰不对一次。可见靠查表，几乎什么也解释不了。在见过的目标之间，网络确实在*计算*。
#
# 这本事能用到多远？目标的范围是 −58 到 107。我们再往下问二十个，往上问二十个，其中有些用作者写过的数就写得出来：108 是 `49+59`，而 59 在失误里出现过。

# %%
for side in ("below", "above"):
    assert set(arms.values(rows, side, "greedy").values()) == {0.0}
    assert max(arms.values(rows, side, "exact").values()) < 0.1
    assert min(arms.values(rows, side, "well_formed").values()) > 0.95
    assert arms.beats(rows, "unseen", side, "exact", by=0.6)
arms.show(
    arms.table(rows, ("unseen", "below", "above"), ("exact", "greedy", "well_formed"))
)

# %%
dots = {"seen": [], "kept out": [], "beyond": []}
for net in networks:
    for at in net["targets"]:
        inside = -58 <= at["target"] <= 107
        known = "kept out" if at["target"] in net["held"] else "seen"
        dots[known if inside else "beyond"].append((at["target"], at["exact"]))
how_many = {kind: len(found) for kind, found in dots.items()}
assert how_many == {"seen": 3 * 146, "kept out": 60, "beyond": 120}


# %% tags=["figure"] alt_en="The share of exact answers over the target. Grey dots, seen targets, and blue dots, kept out of the training, lie together in a band around the dashed line at 0.75; near both ends, at 100 and more in one network at once, the grey ones come down. Beyond the ends the orange dots fall to zero within ten targets or so." alt_zh="横轴为目标，纵轴为答案正确的比例。灰点（见过的目标）和蓝点（训练时留出的目标）混在一起，都落在 0.75 那条虚线附近的一条带子里；靠近两端，灰点往下走，其中一个网络到 100 一下子就降下来。出了两端，橙点在十来个目标之内降到零。"
@picture
def in_between_and_beyond(say):
    _, axes = figure(height=3.6)
    words = say(("seen", "kept out", "beyond"), ("见过的", "留出的", "范围之外"))
    looks = ("ref", 3), ("policy", 5), ("rejected", 3)
    for found, word, (color, size) in zip(dots.values(), words, looks):
        axes.plot(*zip(*found), "o", color=COLORS[color], markersize=size, label=word)
    axes.hlines(0.75, -58, 107, color=COLORS["theory"], linestyle="--")
    axes.text(
        -60, 0.74, say("the authors", "作者群体"), color=COLORS["theory"], ha="right"
    )
    axes.set(
        xlabel=say("target", "目标"),
        ylabel=say("share of exact answers", "正确率"),
        ylim=(-0.03, 1.1),
    )
    axes.legend(loc="upper center", ncols=3)


# %% [markdown] lang="en"
# **Figure 3.6.** The share of exact answers, 200 to each target, of three networks that were trained without twenty prompts each: blue the prompts kept out, grey those seen, orange targets that no author has. The dashed line is the authors' 0.75.

# %% [markdown] lang="zh"
# **图 3.6** 三个网络，训练时各留出二十个提示；每个目标抽 200 个回答，看正确的占多少。蓝点是留出的提示，灰点是见过的，橙点是作者从来没有的目标。虚线是作者的 0.75。

# %% [markdown] lang="en"
# Beyond the ends the answers are still well formed, and fewer than one in ten is exact; of the greedy ones, none is right on either side, in any seed. Addition does not end at 107. What this network has learnt of it does.

# %% [markdown] lang="zh"
# 出了两端，写出来的照样格式正确，答案正确的却不到十分之一；贪心的回答，两边都是一个不对，三个种子都如此。加减法到 107 并没有完，网络学到的那部分却到头了。

# %% [markdown] lang="en"
# ## ⋆ Where the rule wears thin, and what is stored
# The rule grows thin before the range ends. The targets from 100 to 107 *were* in the training, a few times each to over a hundred times, and in every seed they are answered worse than the prompts that were never seen; in one seed, one answer in seven is exact. Greedy decoding hides this: it is right on every one of them. So the number of views alone does not make an answer right here.
#
# The prompts kept out lie between targets that were seen often, at most two away; these eight lie at the rim. (That the place is the cause, these runs do not prove. And a wide gap, say all targets from 30 to 39 kept out, would ask more; we have not tried it.) More than ten away from the range, where not even slipped texts reach, next to nothing is right.
#
# The style carries over less exactly than the sums. In two seeds of three the unseen prompts get a third number two to three points too often; the model trained on all is within half a point of the authors.

# %% [markdown] lang="zh"
# ## ⋆ 规律在哪里靠不住，又存下了什么
# 不等范围到头，规律就已经靠不住了。从 100 到 107 的目标，训练里*有*，少的几次，多的一百多次；可是每个种子里，它们都答得不如那些从没见过的提示，有一个种子，七个回答里才对一个。贪心解码看不出这一点：这八个它全答对。可见在这里，单凭见过多少次，决定不了答得对不对。
#
# 留出的提示夹在常见的目标中间，两步之内就有一个见过的；这八个目标却在边缘上。（原因是不是就在位置，这几次训练证明不了。要是把 30 到 39 一整段都留出来，题目会更难；我们也没有试。）离开范围十以上，连失误的文本也够不到，就几乎没有对的了。
#
# 换到没见过的提示上，风格不如算术保持得准。三个种子里有两个，没见过的提示多写了第三个数，多两到三个百分点；全部见过的模型，同作者相差不到半个百分点。

# %%
for net in networks:
    share = {at["target"]: at["exact"] for at in net["targets"]}
    hit = {at["target"] for at in net["targets"] if at["greedy_exact"]}
    far = [share[t] for t in share if not -58 - 10 <= t <= 107 + 10]
    rim, unseen = np.mean([share[t] for t in range(100, 108)]), exact[net["seed"]]
    print(f"seed {net['seed']}: 100 to 107 {rim:.2f}, kept out {unseen:.2f}")
    assert max(far) < 0.03 and rim < unseen - 0.1 and hit == set(range(-58, 108))
    others = [t for t in range(-58, 108) if t not in net["held"]]
    assert max(min(abs(t - other) for other in others) for t in net["held"]) <= 2
too_long = sorted(arms.gaps(rows, "unseen", "authors", "style").values())
assert 0.02 < too_long[1] <= too_long[2] < 0.03
all_known = arms.gaps(rows, "everything", "authors", "style").values()
assert max(map(abs, all_known)) < 0.005

# %% [markdown] lang="en"
# Is nothing stored, then? The texts can tell. The shipped model read 1,152,000 of them. On average a text of two numbers without a slip was drawn 121 times, one with a slip 40 times; of three numbers 2.6 and 0.86 times. So two in five of the three-number slips were never drawn, and which ones they were, we know: a batch is a function of seed and step. Chance alone decided, so the texts that were drawn differ from the others in nothing else.

# %% [markdown] lang="zh"
# 那么，一点也没有存下来吗？这要看文本。随书的模型读过 1,152,000 段。没有失误的两数文本，每一种平均抽到 121 次，有失误的 40 次；三个数的，分别是 2.6 次和 0.86 次。所以三个数的失误里，有五分之二一次也没抽到。是哪些，查得出来：批次由种子和步数决定。抽到没抽到纯凭运气，所以两类文本再没有别的差别。

# %% tags=["nbval-ignore-output"]
assert 9_000 * 128 == 1_152_000
kinds = [(s, e) for s in (False, True) for e in (True, False)]
of_kind = [
    1_152_000 * table.probability[(table.style == s) & (table.exact == e)]
    for s, e in kinds
]
assert [f"{draws.mean():.3g}" for draws in of_kind] == ["121", "40.3", "2.59", "0.864"]
views = np.zeros(len(table.prompts), dtype=int)  # of each text, in gen's training
cumulative = np.cumsum(table.probability)
for step in range(9_000):
    draws = stream("sft", seed=0, step=step).random(128) * cumulative[-1]
    np.add.at(views, np.searchsorted(cumulative, draws, side="right"), 1)
slips, above = table.style & ~table.exact, {}
for number in (0, 1, 2, 3):
    those = np.flatnonzero(slips & (views == number))
    some = np.random.default_rng(0).permutation(those)[:4_000]
    pairs = [(table.prompts[row], table.completions[row]) for row in some]
    logps = score(gen, *map(list, zip(*pairs))).double().cpu().numpy()
    above[number] = mean_interval([task.log_conditional[t] for t in pairs] - logps)
never = (slips & (views == 0)).sum() / slips.sum()
print(f"never drawn: {never:.2f} of the slips")
assert abs(never - 0.42) < 0.005
assert 0.06 < above[0].value < 0.085 and 0.03 < above[3].value < 0.045
assert above[0].low > above[3].high and abs(math.exp(-above[0].value) - 0.93) < 0.01


# %% tags=["figure"] alt_en="How far a three-number slip costs above the floor, against how often it was drawn in the training: about 0.07 nats if never, falling to about 0.04 if three times." alt_zh="三个数的失误比下界多付多少奈特，横轴是训练中抽到的次数：一次没抽到约 0.07 奈特，抽到三次降到约 0.04。"
@picture
def worth_of_a_view(say):
    _, axes = figure(height=3.0)
    points(axes, list(above), list(above.values()), "policy")
    axes.axhline(0, color=COLORS["theory"], linestyle="--")
    axes.text(
        3.2, 0.003, say("the authors", "作者群体"), color=COLORS["theory"], ha="right"
    )
    axes.set(
        xlabel=say("times that the text was drawn in training", "训练中抽到的次数"),
        ylabel=say("nats above the floor", "高出下界（奈特）"),
        xlim=(-0.3, 3.3),
        ylim=(-0.005, 0.1),
    )
    axes.set_xticks(range(4))


# %% [markdown] lang="en"
# **Figure 3.7.** What a three-number slip costs the shipped model above the floor, by how often its training drew it; means over up to 4,000 texts, with 95 % intervals. Never seen: 0.07 nats, which is 93 % of the true probability.

# %% [markdown] lang="zh"
# **图 3.7** 三个数的失误，随书的模型比下界多付多少，按训练中抽到的次数分开；每点最多 4,000 段文本的平均，附 95% 区间。从没见过的：0.07 奈特，也就是真实概率的 93%。

# %%
arms.show(
    arms.table(rows, ("unseen", "everything", "never drawn", "drawn"), ("excess",))
)
for new, old in (("never drawn", "drawn"), ("unseen", "everything")):
    assert arms.beats(rows, new, old, "excess")  # dearer, in every seed
dearer = sorted(arms.gaps(rows, "unseen", "everything", "excess").values())
assert dearer[1] < 0.01 and abs(dearer[2] - 0.05) < 0.005

# %% [markdown] lang="en"
# So a view is worth about a hundredth of a nat, and that much is stored. The three held-out runs agree. In each, the slips that were drawn cost less than those that were not, and a prompt's texts cost less where they were in the training, by 0.05 nats in one seed and by much less in two.
#
# What these runs carry is this. Within the range of its targets the network has learnt to add and to subtract, and it has its authors' habits as a rule, not as a list: to prompts and texts that it never saw it gives nearly the probabilities that the authors give them. A little of each text is stored besides. Towards the ends of the range the rule wears thin, and beyond them it fails.

# %% [markdown] lang="zh"
# 可见一段文本每多见一次，大约便宜百分之一奈特，存下来的就是这么多。三次留出的训练也是这样：每一次，抽到过的失误都比没抽到的便宜；同一个提示的文本，训练里有它，就比没有它便宜：有一个种子差 0.05 奈特，另外两个差得少得多。
#
# 这几次训练能支持的结论是：在目标的范围之内，网络学会了加减，作者的习惯它也是当作规律、而不是当作清单学来的；没见过的提示、没见过的文本，它给的概率同作者几乎一样。除此之外，每段文本也存下了一点点。越靠近两端，规律越靠不住；出了两端，就不灵了。

# %% [markdown] lang="en"
# ## Careless like its authors
# Left to itself the model writes a number ten too large one time in four, because the authors do. More of their texts will not change that: where the loss is lowest stand the authors themselves.
#
# Nor is a sharper choice the same as care. Greedy decoding makes the sums right, but it takes the third number away together with the slips; it prefers whatever is frequent. To want the one without the other, a model needs a signal other than imitation, something that says which answers are better. With a checker at hand one can filter the texts, keep the best of several answers, or reward exact ones ([chapter 12](12_rl.ipynb)). Preferences are another such signal, and the one that this book is about: [chapter 9](09_dpo.ipynb).

# %% [markdown] lang="zh"
# ## 和作者一样粗心
# 放手让模型写，四次里有一次，某个数多写了十，因为作者就是这样。再多读他们的文本也改不了：损失最低的地方，站着的就是作者自己。
#
# 只取最可能的，也不等于细心。贪心解码把算式做对了，可第三个数也同失误一起没了：什么常见，它就偏向什么。想要其一而不要其二，模型就得有模仿以外的信号，告诉它哪些回答更好。手边有判分程序，就可以筛选文本，可以多写几个、挑最好的留下，也可以奖励正确的回答（[第 12 章](12_rl.ipynb)）。偏好也是这样的信号，而且是本书的主角：见[第 9 章](09_dpo.ipynb)。

# %% [markdown] lang="en"
# > **What the toy hides.** A real base model is pretrained, on trillions of tokens, and SFT is a short last stretch with a small learning rate. Its texts are wrapped in a chat template, with several turns, of which only the assistant's count. To waste no cells on padding, short texts are *packed* into one row, and attention must then be kept from looking across their borders. The data are of mixed quality, and choosing among them is most of the work; here the quality is one number, the slip rate, and we left it bad on purpose. Texts are seen more than once or too few times, so training loss and test loss part. Whether the questions of a test were among the training texts is hard to find out; here we kept them out ourselves. And nobody knows the floor: outside a toy one can see a loss fall, but not how far it still could.

# %% [markdown] lang="zh"
# > **玩具没告诉你的。** 真实的基座模型经过预训练，读过数以万亿计的词元；SFT 只是最后一小段，学习率也小。文本套着对话模板，一来一回好几轮，只有助手说的话计入损失。为了不把格子浪费在填充上，短文本会*打包*（packing）进同一行，这时要拦住注意力，不让它看过界。数据良莠不齐，大部分功夫花在挑选上；而在这里，质量只是一个数，就是失误的比例，我们还故意让它不好。真实的文本要么反复读，要么读不够，训练损失和测试损失会分开。测试题有没有混进训练文本，事后很难查清；在这里，是我们自己留出来的。还有，没有人知道下界在哪里：出了玩具世界，只看得见损失在降，看不见还能降多少。

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
# 写一个函数 `count_floor(pairs)`：给一个列表，各项是（提示，回答），每一项算一次，返回回答的熵下界，单位是奈特。比例就用列表里的计数来算。
#
# <details><summary>提示</summary>
#
# 数每一项出现几次，也数每个提示出现几次。两个计数相除，就是这个回答在同一提示的回答里占多少。最后把列表里每一项的惊讶平均一下。
#
# </details>


# %% tags=["exercise"]
def count_floor(pairs): ...


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
def answer_step(model, batch): ...


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
# ### Exercise 3.5 · Four curves that ended somewhere else
# ★★☆ · 15 minutes
#
# Four trainings on the texts of our authors ended, flat, at these losses: 10.15, 10.60, 4.08 and 0.92. The metrics call each of them “nats an answer”. What was the matter in each? (a) Every token but padding was counted. (b) The numbers are nats a token. (c) The loader shuffled the prompts and the answers apart. (d) The mask began one token too late. Answer with four letters, in the order of the losses, such as `"abcd"`.
#
# <details><summary>Hint</summary>
#
# Each mistake has a floor of its own, and each curve ended just above one. Three of the floors are in the text. For the fourth: what does the first token of an answer cost?
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 3.5 · 停错地方的四条曲线
# ★★☆ · 15 分钟
#
# 用作者们的文本训练了四次，损失最后都平了，停在 10.15、10.60、4.08 和 0.92，指标文件里一律写作「每个回答的奈特数」。各出了什么毛病？(a) 除了填充，所有词元都计入了。(b) 这个数其实是每个词元的奈特数。(c) 读数据时，提示和回答各自打乱，配错了。(d) 掩码晚了一个词元才开始。按损失的次序写四个字母，例如 `"abcd"`。
#
# <details><summary>提示</summary>
#
# 每种毛病各有自己的下界，每条曲线都停在某个下界的上面一点。三个下界正文里有。第四个要想一想：回答的第一个词元要付多少？
#
# </details>

# %% tags=["exercise"]
answer_3_5 = ...  # four letters
check("3.5", answer_3_5)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# Prompts that do not belong to their answers say nothing: the floor is $H(Y)=10.14$. With the prompts counted it is $H(X,Y)=10.59$, or $H(X)=4.85$ more than 5.74. A token costs 0.918. What is left is the mask: without its first token an answer costs less than the floor allows, 4.06 nats. A loss *below* the floor is never good news.
#
# ```python
# answer_3_5 = "cadb"
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 提示配错了，就什么也没透露：下界是 $H(Y)=10.14$。提示也计入，下界是 $H(X,Y)=10.59$，也就是 5.74 再加 $H(X)=4.85$。每个词元是 0.918。剩下的是掩码：第一个词元不算，一个回答只要付 4.06 奈特，比下界还低。损失*低于*下界，从来不是好消息。
#
# ```python
# answer_3_5 = "cadb"
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 3.6 · Authors who try harder
# ★★☆ · 15 minutes
#
# Let the authors slip in 5 % of their texts instead of 25 %, all else the same. Predict three numbers, to two decimals: the share of exact answers that a perfect imitator draws; the new floor, in nats an answer; and how far above the new floor the shipped model stands, which still imitates the old authors (take it as perfect at that). Then run `BookTask(slip=0.05).entropy` and see whether your floor is right.
#
# <details><summary>Hint</summary>
#
# Whether an author slipped can be read off prompt and answer. So the slip's yes or no adds an entropy of its own to the floor; take the old one off 5.74 and put the new one in. For the third number, exercise 3.2 helps.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 3.6 · 认真一些的作者
# ★★☆ · 15 分钟
#
# 设作者失误的比例从 25% 降到 5%，别的都不变。请预测三个数，精确到两位小数：学得一丝不差的模型，抽出的回答有多少正确；新的下界是多少奈特（每个回答）；随书的模型学的还是原来的作者（就当它学得一丝不差），它的损失比新的下界高多少。然后运行 `BookTask(slip=0.05).entropy`，看看你的下界对不对。
#
# <details><summary>提示</summary>
#
# 看提示和回答，就知道作者失误了没有。所以「失误与否」的熵是单独加在下界上的：从 5.74 里减去旧的，加上新的。第三个数可以参考练习 3.2。
#
# </details>

# %% tags=["exercise"]
answer_3_6 = (..., ..., ...)  # exact share, floor, nats above it
check("3.6", answer_3_6)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# A perfect imitator slips as often as its authors: 0.95. The old yes or no had 0.56 nats, the new one has 0.20; the floor falls to 5.37. The old model gives slips 0.25 where they have 0.05, and care 0.75 where it has 0.95: $0.05\log\frac{0.05}{0.25}+0.95\log\frac{0.95}{0.75}=0.14$.
#
# ```python
# def coin(p, q):
#     return -p * math.log(q) - (1 - p) * math.log(1 - q)
#
#
# new_floor = 5.736 - coin(0.25, 0.25) + coin(0.05, 0.05)
# answer_3_6 = (0.95, new_floor, coin(0.05, 0.25) - coin(0.05, 0.05))
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 学得一丝不差，失误也和作者一样多：0.95。「失误与否」的熵原来是 0.56 奈特，现在是 0.20，下界降到 5.37。旧模型给失误 0.25，实际只有 0.05；给不失误 0.75，实际有 0.95：$0.05\log\frac{0.05}{0.25}+0.95\log\frac{0.95}{0.75}=0.14$。
#
# ```python
# def coin(p, q):
#     return -p * math.log(q) - (1 - p) * math.log(1 - q)
#
#
# new_floor = 5.736 - coin(0.25, 0.25) + coin(0.05, 0.05)
# answer_3_6 = (0.95, new_floor, coin(0.05, 0.25) - coin(0.05, 0.05))
# ```
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
