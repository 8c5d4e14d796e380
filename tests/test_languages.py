"""The two languages say the same: every cell has its twin, twins agree, and each language keeps its own typography.

The rules are in tests/twins.py and tests/typography.py. Below the tests of the text, each rule is tested itself: on
pairs that break it, and on pairs that only look as if they did.
"""

import pytest

import sample
import sources
import twins
import typography
from book import notebooks

BIBLIOGRAPHY = frozenset({"https://arxiv.org/abs/2305.18290"})
TEXTS = [*sources.chapters(), *sources.pages()]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.stem)
def test_languages_agree(path):
    faults = twins.pair(sources.cells(path), sources.citable())
    assert not faults, "\n\n" + "\n\n".join(map(str, faults))


# ---------------------------------------------------------------- the rules about twins

CITE = "[R 2023](https://arxiv.org/abs/2305.18290)"


@pytest.mark.parametrize(
    ("rule", "en", "zh"),
    [
        ("headings", "# A\n\n## B", "# 甲\n\n### 乙"),
        ("headings", "## A", "甲"),
        ("citations", f"See {CITE}.", "见。"),
        ("citations", f"See {CITE}.", f"见 {CITE}，{CITE}。"),
        ("links", "[a](https://a.org/x)", "[a](https://a.org/y)"),
        ("links", "[a](03_sft.ipynb)", "[a](04_sampling.ipynb)"),
        ("links", "![a](picture.png)", "![a](other.png)"),
        ("links", '<a href="https://a.org">a</a>', "a"),
        ("links", "See https://a.org/x", "见"),
        ("links", "[a](https://en.wikipedia.org/wiki/A)", "[a](https://a.org)"),
        ("labels", "> **In this chapter.** A", "> 甲"),
        ("labels", "> **To remember.** A", "> **本章。** 甲"),
        ("labels", "> **What the toy hides.** A", "> **玩具没有告诉你的。** 甲"),
        ("labels", "**Figure 1.1.** A", "**图 1.1.** 甲"),
        ("labels", "**Figure 1.1.** A", "**图 1.2** 甲"),
        ("labels", "### Exercise 1.1 · A", "### 练习 1.1 甲"),
        ("labels", '<a id="here"></a>', '<a id="there"></a>'),
        ("labels", r"$$x\tag{1}$$", r"$$x\tag{2}$$"),
        ("labels", "<summary>Hint</summary>", "<summary>解答</summary>"),
        ("mathematics", "$$a+b$$", "$$a-b$$"),
        ("mathematics", "$$a$$\n\n$$b$$", "$$b$$\n\n$$a$$"),
        ("mathematics", "$$a$$\n\n$$b$$", "$$a$$"),
        ("mathematics", "> $$a$$", "> $$b$$"),
        ("code", "```python\nx = 1\n```", "```python\nx = 2\n```"),
        ("code", "```python\nx = 1\n```", "```bash\nx = 1\n```"),
        ("code", "```\nx = 1\n```", ""),
        ("numerals", "It has 4 layers.", "它有 5 层。"),
        ("numerals", "It has 4 layers and 4 heads.", "它有 4 层。"),
        ("numerals", "1,200 pairs", "120 对"),
        ("numerals", "93.5 %", "93%"),
        ("numerals", "0.50", "0.5"),
        ("numerals", "10 thousand", "10 亿"),
        ("folds", "<details>\n</details>", ""),
        ("folds", "<details>", "<details>"),
    ],
)
def test_rule_notices(rule, en, zh):
    assert rule in dict(twins.compare(en, zh, BIBLIOGRAPHY))


@pytest.mark.parametrize(
    ("en", "zh"),
    [
        ("# A\n\n```\n# no heading\n```", "# 甲\n\n```\n# no heading\n```"),
        (f"{CITE} and [b](b.md)", f"[b](b.md) 与 {CITE}"),
        ("[a](https://en.wikipedia.org/wiki/Token)", "[a](https://zh.wikipedia.org/wiki/词元)"),
        (
            "[a](https://docs.python.org/3/library/re.html)",
            "[a](https://docs.python.org/zh-cn/3/library/re.html)",
        ),
        ("[a](03_sft.ipynb#the-loss)", "[a](03_sft.ipynb#损失)"),
        ("[a](#the-loss)", "[a](#损失)"),
        ("[a](https://a.org/x_(y))", "[a](https://a.org/x_(y))"),
        ("$$a = b,$$", "$$a=b$$"),
        (r"$$a\text{ for all } b.$$", r"$$a\text{ 对任意 } b$$"),
        (r"$$\begin{aligned}a.\end{aligned}$$", r"$$\begin{aligned}a\end{aligned}$$"),
        ("> $$a\n> +b$$", "> $$a+b$$"),
        ("1,200 pairs, 20 %", "1200 对，20%"),
        ("10,000 or 10k or 10 thousand", "1 万、1 万或 1 万"),
        ("a 7B model", "70 亿参数的模型"),
        ("1.5 million", "150 万"),
        ("two numbers", "2 个数".replace("2", "两")),
        ("$x=1$, `a[2]`, [a](https://a.org/3)", "甲：`a[2]`，[a](https://a.org/3)"),
        ("It ends in 2023. Then", "到 2023 年为止。然后"),
        (".5", "0.5"),
        ("```bash\nmake book  # both\n```", "```bash\nmake book  # 两种\n```"),
    ],
)
def test_rules_are_content(en, zh):
    assert list(twins.compare(en, zh, BIBLIOGRAPHY)) == []


def test_free_twins_may_differ_in_numerals_alone():
    assert list(twins.compare("3 apples", "4 个梨", free=True)) == []
    assert "headings" in dict(twins.compare("# 3 apples", "4 个梨", free=True))


# ---------------------------------------------------------------- the rules about one language


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("space", "一个token"),
        ("space", "共12个"),
        ("space", "由$r$决定"),
        ("space", "调用`encode`得到"),
        ("space", "见[第 3 章](a.ipynb)和[Rafailov](b)的"),
        ("space", "**词元**token"),
        ("space", "温度β越高"),
        ("punctuation", "甲,乙"),
        ("punctuation", "甲."),
        ("punctuation", "词元(token)"),
        ("punctuation", "用 PyTorch, 然后"),
        ("punctuation", '"甲"'),
        ("punctuation", "是吗?"),
        ("full-width", "共１２ 个"),
        ("no space", "调用 `encode` ，得到"),
        ("one line", "这一段\n断成两行"),
        ("one line", "> 引文，\n> 断成两行"),
        ("word", "一个令牌"),
    ],
)
def test_chinese_rule_notices(rule, text):
    assert rule in dict(typography.faults(text, "zh"))


@pytest.mark.parametrize(
    "text",
    [
        "一个 token，共 12 个（见 [Rafailov et al. 2023](a)）。",
        "由 $r$ 决定，$Z$ 没了；调用 `encode(x)`，得到 **ids**。",
        "### 练习 1.1 · 数词元\n★☆☆ · 5 分钟\n\n正文",
        "# 标题\n正文",
        "| 甲 | a |\n|---|---|\n| 乙 | b |",
        "1. 甲\n2. 乙\n\n- 丙\n- 丁",
        "> **本章。** 甲。",
        "不说「令牌」",
        "```python\nx = '甲,乙a'\n```",
        "<details><summary>提示</summary>\n\n甲。\n\n</details>",
        "$$\n甲a\n$$",
        "比例是 93%，区间 [0.1, 0.2]。",
    ],
)
def test_chinese_rules_are_content(text):
    assert typography.faults(text, "zh") == []


@pytest.mark.parametrize("text", ["The 词元 is short.", "A stop。", "[see 词元](a)"])
def test_english_rule_notices(text):
    assert "english" in dict(typography.faults(text, "en"))


@pytest.mark.parametrize(
    "text",
    [
        "A token, “词元” in Chinese.",
        "`词元`",
        "[中文](README.zh.md)",
        "DPO from Zero · 从零推导 DPO",
        "It’s fine.",
    ],
)
def test_english_rule_is_content(text):
    assert typography.faults(text, "en") == []


# ---------------------------------------------------------------- whole files


def faults_of(tmp_path, text, name="99_sample.py"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return twins.pair(sources.cells(path), BIBLIOGRAPHY)


def test_sample_chapter_is_sound(tmp_path):
    assert faults_of(tmp_path, sample.CHAPTER) == []


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ('lang="zh"\n# # 会算', "\n# # 会算", "twin"),
        ('lang="en"\n# ## A line', "\n# ## A line", "twin"),
        ('lang="zh"\n# ## 一条线', 'lang="cn"\n# ## 一条线', "lang"),
        ("# ## 一条线", "# ### 一条线", "headings"),
        ("从 0 到 1", "从 0 到 2", "alt texts"),
        ("从 0 到 1", "从0 到 1", "alt_zh: space"),
        ("A line from", "一 line from", "alt_en: english"),
        ("数 10 个", "数10 个", "space"),
        ("You count", "You 数", "english"),
    ],
)
def test_file_with_one_fault(tmp_path, old, new, rule):
    assert old in sample.CHAPTER
    faults = faults_of(tmp_path, sample.CHAPTER.replace(old, new, 1))
    assert rule in {fault.rule for fault in faults}
    assert all("99_sample.py, cell" in str(fault) for fault in faults)


def test_failure_shows_both_texts(tmp_path):
    (fault,) = faults_of(tmp_path, sample.CHAPTER.replace("数 10 个", "数 11 个"))
    assert "99_sample.py, cell 1: numerals" in str(fault)
    assert "You count 10 tokens." in str(fault)
    assert "数 11 个词元。" in str(fault)


def test_pages_are_read_by_their_regions(tmp_path):
    page = '<!-- #region lang="en" -->\n# A\n\n```python\nx = 1\n```\n<!-- #endregion -->\n\n'
    page += '<!-- #region lang="zh" -->\n# 甲\n\n```python\nx = {}\n```\n<!-- #endregion -->\n'
    assert faults_of(tmp_path, page.replace("{}", "1"), "page.md") == []
    assert [fault.rule for fault in faults_of(tmp_path, page.replace("{}", "2"), "page.md")] == [
        "code"
    ]


def test_unknown_metadata_is_named(tmp_path):
    with pytest.raises(
        notebooks.ChapterError, match=r"99_sample\.py, cell 1: unknown metadata lnag"
    ):
        faults_of(tmp_path, sample.CHAPTER.replace("lang=", "lnag=", 1))
