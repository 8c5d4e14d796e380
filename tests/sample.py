"""A small chapter that keeps every rule. Tests damage copies of it and look whether the rules notice."""

CHAPTER = """\
# %% [markdown] lang="en"
# # Strings that are sums
# > **In this chapter.** You count 10 tokens.

# %% [markdown] lang="zh"
# # 会算的字符串
# > **本章。** 数 10 个词元。

# %%
import math

from checks import check

# %% [markdown] lang="en"
# ## A line
# See [Rafailov et al. 2023](https://arxiv.org/abs/2305.18290).
#
# $$a=b \\\\text{ where } c.$$

# %% [markdown] lang="zh"
# ## 一条线
# 见 [Rafailov et al. 2023](https://arxiv.org/abs/2305.18290)。
#
# $$a=b \\\\text{ 其中 } c$$

# %% tags=["figure"] alt_en="A line from 0 to 1." alt_zh="从 0 到 1 的一条线。"
from dpo_core.plotting import figure, picture


@picture
def rising(say):
    _, axes = figure()
    axes.plot([0, 1])
    axes.set(xlabel=say("steps", "步数"), ylabel=say("height", "高度"))

# %% [markdown] lang="en"
# **Figure 99.1.** It rises.

# %% [markdown] lang="zh"
# **图 99.1** 它在上升。

# %% [markdown] lang="en"
# ### Exercise 99.1 · Count the tokens
# ★☆☆ · 5 minutes
#
# How many tokens has `S54=27+27E`?
#
# <details><summary>Hint</summary>
#
# One character is one token.
#
# </details>

# %% [markdown] lang="zh"
# ### 练习 99.1 · 数词元
# ★☆☆ · 5 分钟
#
# `S54=27+27E` 有几个词元？
#
# <details><summary>提示</summary>
#
# 一个字符就是一个词元。
#
# </details>

# %% tags=["exercise"]
text = "S54=27+27E"
answer_99_1 = ...  # your answer
check("99.1", answer_99_1)

# %% [markdown] lang="en"
# <details><summary>Solution</summary>
#
# Ten: one for each character.
#
# ```python
# answer_99_1 = len(text)
# ```
#
# </details>

# %% [markdown] lang="zh"
# <details><summary>解答</summary>
#
# 十个：一个字符一个。
#
# ```python
# answer_99_1 = len(text)
# ```
#
# </details>
""".replace("\\\\", "\\")

CHECKS = """\
from checks import exercise, expect, number


@exercise("99.1")
def count_the_tokens(answer):
    number(answer)
    expect(answer == 10, "Count E as well.", "E 也要算。")
"""
