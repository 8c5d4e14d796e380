"""What helps a reader along, as the build makes it: terms and mentions found in a text, equations numbered, what other
machines and language models are given.
"""

import json
import os
import re
import shutil
import subprocess

import nbformat
import pytest

from book import contents, downloads, glossary
from book.build import start_sphinx
from book.contents import Address
from book.editions import EDITIONS, EN, ZH
from book.languages import SourceError
from book.llms import index, markdown
from book.mentions import mentions
from book.page_context import machines

PLACED = "https://reader.example/book/"


def explained(text, lang, chapter="09_dpo"):
    return [
        (text[start:end], term.english) for start, end, term in glossary.uses(text, lang, chapter)
    ]


def mentioned(text, lang):
    return [(text[start:end], kind, number) for start, end, kind, number in mentions(text, lang)]


def test_both_glossaries_have_the_same_terms_under_the_same_ids():
    english, chinese = ([term.anchor for term in glossary.terms(lang)] for lang in EDITIONS)
    assert english == chinese and len(set(english)) == len(english) > 100
    assert all(term.meaning for lang in EDITIONS for term in glossary.terms(lang))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Policies differ; the policy’s reward", ["Policies", "policy", "reward"]),
        ("two reward models", ["reward models"]),
        ("its log-probabilities", ["log-probabilities"]),
        ("SFT, then FLOPs and RoPE", ["SFT", "FLOPs", "RoPE"]),
        ("Bradley–Terry, Bradley-Terry", ["Bradley–Terry", "Bradley-Terry"]),
        ("a KL-regularised optimum", []),
        ("Direct Preference Optimization", []),
        ("the exact optimum was chosen", []),
        ("sft, kl, ropes", []),
        ("propolicy, policyholder, top-kill", []),
    ],
)
def test_english_terms_are_whole_words_in_one_of_their_forms(text, found):
    assert [words for words, _ in explained(text, "en")] == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("奖励模型给出奖励", ["奖励模型", "奖励"]),
        ("参考策略，策略", ["参考策略", "策略"]),
        ("同KL 散度相比，KL惩罚、KL", ["KL 散度", "KL惩罚", "KL"]),
        ("种子项目 Simple_RLHF_DPO", []),
        ("还落在线上", []),
        ("四种运算", []),
    ],
)
def test_chinese_terms_are_the_longest_that_fit(text, found):
    assert [words for words, _ in explained(text, "zh")] == found


def test_a_word_with_a_sense_of_one_chapter_is_explained_there_only():
    assert explained("the advantage", "en", "12_rl") == [("advantage", "advantage")]
    assert explained("the advantage", "en", "03_sft") == []


@pytest.mark.parametrize(
    ("lang", "text", "found"),
    [
        ("en", "Figure 9.2.", [("Figure 9.2", "figure", "9.2")]),
        ("en", "see (figs. 9.2, 9.3)", [("9.2", "figure", "9.2"), ("9.3", "figure", "9.3")]),
        ("en", "equation (7.3)", [("equation (7.3)", "equation", "7.3")]),
        ("en", "eq. 7.3)", [("eq. 7.3", "equation", "7.3")]),
        ("en", "Chapters 5 to 8", [("5", "chapter", "5"), ("8", "chapter", "8")]),
        ("en", "chapter 1. After", [("chapter 1", "chapter", "1")]),
        ("en", "exercises 2.2 and 2.4", [("2.2", "exercise", "2.2"), ("2.4", "exercise", "2.4")]),
        ("en", "configure 9.2, equation 7, section 4.2", []),
        ("zh", "图 9.2）", [("图 9.2", "figure", "9.2")]),
        ("zh", "式（7.3）", [("式（7.3）", "equation", "7.3")]),
        ("zh", "第 6、7 章", [("6", "chapter", "6"), ("7", "chapter", "7")]),
        ("zh", "第 5 章到第 8 章", [("第 5 章", "chapter", "5"), ("第 8 章", "chapter", "8")]),
        ("zh", "第 4.2 节，式 7", []),
    ],
)
def test_mentions_are_numbers_that_follow_their_word(lang, text, found):
    assert mentioned(text, lang) == found


INDEX = "# Book\n\n```{toctree}\n06_objective\n07_derivation\n```\n"
SIX = """
# 6 · First

$$a=b.$$

<details><summary>Hint</summary>

$$z=0$$

</details>

$$c=d<e. \\tag{6.2}$$

Policy. The policy, by equation 6.2.
"""
SEVEN = """
# 7 · Second

Put in equation (6.2), not equation 6.3; equation 6.1 of [a work](https://example.org) is another, and so is
[that](https://example.org), eq. 6.1. See chapter 6, and chapter 7. That of [the first](06_objective.md), equation 6.2.

$$x=y \\tag{7.2}$$

## One
`policy` and **policy**

## Policy
The policy improves a policy.
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Two small chapters, built by Sphinx alone, and what it complains of."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "source").mkdir()
    for name, text in (("index", INDEX), ("06_objective", SIX), ("07_derivation", SEVEN)):
        (folder / "source" / f"{name}.md").write_text(text, encoding="utf-8")
    pipe = {"stderr": subprocess.PIPE, "text": True}
    complaints = start_sphinx(EN, folder, **pipe).communicate()[1]
    return folder / "html", complaints


def article(html, page):
    text = (html / f"{page}.html").read_text(encoding="utf-8")
    return re.search(r"<article.*?</article>", text, re.DOTALL)[0]


def test_displayed_formulas_have_numbers_and_folded_ones_none(small):
    text = article(small[0], "06_objective")
    assert re.findall(r'<div class="equation[^>]*id="([^"]+)"', text) == ["eq-6-1", "eq-6-2"]
    assert re.findall(r'class="eqno" href="#(eq-[\d-]+)"[^>]*>\(([\d.]+)\)', text) == [
        ("eq-6-1", "6.1"),
        ("eq-6-2", "6.2"),
    ]
    assert "tag{" not in text


def test_a_tag_that_is_not_the_number_of_its_formula_is_a_fault(small):
    assert "\\tag{7.2} stands at 7.1" in small[1]
    assert "\\tag{6.2}" not in small[1]


def test_mentions_lead_to_what_the_book_has_and_not_to_what_another_work_has(small):
    text = article(small[0], "07_derivation")
    assert re.findall(r'class="xref mention" href="([^"]+)">([^<]+)<', text) == [
        ("06_objective.html#eq-6-2", "equation (6.2)"),
        ("06_objective.html", "chapter 6"),
        ("06_objective.html#eq-6-2", "equation 6.2"),
    ]
    assert 'href="#eq-6-2">equation 6.2<' in article(small[0], "06_objective")


def test_a_term_is_marked_once_and_where_the_text_does_not_define_it(small):
    assert article(small[0], "06_objective").count('class="term"') == 1
    assert 'class="term"' not in article(small[0], "07_derivation")  # it stands bold in "One"


def test_the_cards_hold_what_is_previewed(small):
    script = (small[0] / "_static" / "previews" / "06_objective.js").read_text(encoding="utf-8")
    cards = json.loads(script.partition("] = ")[2].rstrip(";\n"))
    assert cards["eq-6-2"] == {"kind": "equation", "title": "Equation 6.2", "tex": "c=d<e."}


def test_an_equation_of_another_chapter_is_drawn_beside_its_mention(small, browser):
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.goto((small[0] / "07_derivation.html").as_uri())
    page.locator("a.mention[href*=eq-6-2]").first.hover()
    page.locator(".aid .math mjx-container").wait_for()
    assert "Equation 6.2" in page.locator(".aid").inner_text()
    assert page.locator(".aid mjx-merror").count() == 0
    page.close()


# ---------------------------------------------------------------- other machines, other readers


def test_without_an_address_no_page_offers_another_machine(monkeypatch):
    monkeypatch.delenv("BOOK_URL", raising=False)
    monkeypatch.delenv("BOOK_REPOSITORY", raising=False)
    assert contents.address() == Address()  # unless whoever builds says otherwise
    assert machines("07_derivation", "en", "") == []
    assert downloads.fetch("") == ""


@pytest.mark.parametrize("lang", EDITIONS)
def test_with_an_address_a_chapter_opens_elsewhere_in_the_language_of_the_page(lang):
    links = {name: href for href, name in machines("07_derivation", lang, "owner/name")}
    assert links == {
        "Colab": "https://colab.research.google.com/github/owner/name/blob/notebooks"
        f"/{lang}/07_derivation.ipynb",
        "Binder": "https://mybinder.org/v2/gh/owner/name/main"
        f"?labpath=reading/{lang}/07_derivation.ipynb",
    }


def test_with_an_address_a_chapters_page_has_the_links_and_without_it_none(small, tmp_path):
    source = small[0].parent / "source"
    shutil.copytree(source, tmp_path / "source")
    env = os.environ | {"BOOK_REPOSITORY": "owner/name", "BOOK_URL": PLACED}
    assert start_sphinx(EN, tmp_path, env=env, stderr=subprocess.DEVNULL).wait() is not None
    hosts = re.compile(r'href="(https://[^"/]+)/[^"]*" rel="noopener" title="Run it on')
    page = (tmp_path / "html" / "07_derivation.html").read_text(encoding="utf-8")
    assert hosts.findall(page) == ["https://colab.research.google.com", "https://mybinder.org"]
    assert not hosts.search((small[0] / "07_derivation.html").read_text(encoding="utf-8"))


def test_with_an_address_a_notebook_gets_the_project_where_it_is_alone(monkeypatch):
    monkeypatch.setattr(contents, "address", lambda: Address("owner/name"))
    cells = [nbformat.v4.new_code_cell("1")]
    notebook = downloads.one_language(nbformat.v4.new_notebook(cells=cells), "zh")
    source = notebook.cells[0].source
    assert source.startswith("%env BOOK_LANG=zh\n") and '"https://github.com/owner/name"' in source
    compile(source.partition("\n")[2], "start", "exec")


def test_whoever_builds_may_say_where_the_site_stands(monkeypatch):
    monkeypatch.setenv("BOOK_URL", "https://reader.example/book")
    monkeypatch.setenv("BOOK_REPOSITORY", "owner/name")
    assert contents.address() == Address("owner/name", PLACED)


@pytest.mark.parametrize("repository", ["owner", "https://github.com/a/b", 'a/b"', "a/b/c"])
def test_what_is_no_repository_is_refused(repository):
    with pytest.raises(SourceError, match="owner/name"):
        Address(repository)


def test_llms_txt_lists_every_chapter_in_both_languages_with_its_question():
    text = index(Address())
    assert text.startswith("# DPO from Zero · 从零推导 DPO\n\n> ")
    for edition in (EN, ZH):
        for chapter in contents.chapters(edition):
            line = f"[{chapter.number} · {chapter.title}]({edition.lang}/{chapter.file}.md): {chapter.question}"
            assert line in text
    assert f"]({PLACED}zh/07_derivation.md)" in index(Address(url=PLACED))


def test_a_chapters_markdown_is_in_one_language_with_code_output_and_folds_opened():
    for edition in (EN, ZH):
        chapter = next(c for c in contents.chapters(edition) if c.number == 7)
        text = markdown(chapter, edition)
        assert "```python\n" in text and "```text\n" in text and "](06_objective.md)" in text
        assert not re.search(r"<details|<summary|\]\(\d\d_\w+\.ipynb", text)
        assert bool(
            re.search(r"[\u4e00-\u9fff]{8}", re.sub(r"```.*?```", "", text, flags=re.S))
        ) == (edition is ZH)
