"""The PDF and the EPUB of both editions, as a reader's programs take them: of a small book; of the whole one, slowly.

Without Chromium, or without epubcheck, tests skip in one line; with CI=1 or CI=true the former fail.
"""

import base64
import copy
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote, urldefrag, urljoin
from xml.etree import ElementTree

import nbformat
import pypdf
import pytest

from book import contents
from book.build import offer
from book.editions import EDITIONS, EN, ZH
from book.paper import files
from book.paper.__main__ import make
from site_pages import BROWSER

if not BROWSER and os.environ.get("CI", "").lower() not in ("1", "true"):
    pytest.skip("no chromium or google-chrome on the PATH", allow_module_level=True)

ROOT = Path(__file__).resolve().parent.parent
HAN = re.compile(r"[\u4e00-\u9fff]")
X = "{http://www.w3.org/1999/xhtml}"
MATH = "{http://www.w3.org/1998/Math/MathML}math"
DOT = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
TEXT = {
    "en": r"""# 1 A small chapter
> **In this chapter.** You will see every form once, and $\frac{a}{b}$.

It cites [Rafailov et al. 2023](https://arxiv.org/abs/2305.18290) and leads to [chapter 2](02_llama.ipynb).

$$\begin{aligned}J(\pi)&=\sum_y \pi(y)\Big(r(y)-\beta\log\frac{\pi(y)}{\pi_{\mathrm{ref}}(y)}\Big)\\&=1\end{aligned}$$

<!-- lab: ask -->

> **Before you run it.** Which way?

<details><summary>Answer</summary>

Downwards, by $\ln 2$.

</details>

## ⋆ Beside the road
Nothing needs this section.
|||**Figure 1.1.** A dot.
|||### Exercise 1.1 · Count
★☆☆ · 5 minutes

How many?

<details><summary>Hint</summary>

Few.

</details>
|||<details><summary>Solution</summary>

One, and only one.

</details>""",
    "zh": r"""# 1 小小的一章
> **本章。** 每种形式都出现一次，还有 $\frac{a}{b}$。

引用 [Rafailov et al. 2023](https://arxiv.org/abs/2305.18290)，也通向[第 2 章](02_llama.ipynb)。

$$\begin{aligned}J(\pi)&=\sum_y \pi(y)\Big(r(y)-\beta\log\frac{\pi(y)}{\pi_{\mathrm{ref}}(y)}\Big)\\&=1\end{aligned}$$

<!-- lab: ask -->

> **先猜一猜。** 往哪边？

<details><summary>答案</summary>

往下，$\ln 2$。

</details>

## ⋆ 路旁
别处都用不到这一节。
|||**图 1.1** 一个点。
|||### 练习 1.1 · 数一数
★☆☆ · 5 分钟

有几个？

<details><summary>提示</summary>

不多。

</details>
|||<details><summary>解答</summary>

一个，只有一个。

</details>""",
}
OTHER = {"en": "# 2 Another one\nBack to [chapter 1](01_strings.ipynb).",
         "zh": "# 2 另一章\n回到[第 1 章](01_strings.ipynb)。"}  # fmt: skip


def prose(texts):
    return [nbformat.v4.new_markdown_cell(texts[lang], metadata={"lang": lang}) for lang in texts]


def code(source, *tags, outputs=(), **metadata):
    cell = nbformat.v4.new_code_cell(source, metadata={"tags": list(tags), **metadata})
    cell.outputs = list(outputs)
    return cell


def write_small_book(folder):
    """Two chapters with every form of CONTRIBUTING.md, and appendices of one line."""
    opening, caption, exercise, solution = (
        prose(dict(zip(TEXT, part))) for part in zip(*(text.split("|||") for text in TEXT.values()))
    )
    png = base64.b64encode(DOT).decode()
    pictures = [
        nbformat.v4.new_output("display_data", {"image/png": png}, metadata={"lang": lang})
        for lang in TEXT
    ]
    printed = nbformat.v4.new_output("stream", name="stdout", text="1.1 … not answered yet\n")
    cells = [
        *opening,
        code("draw_it()", "figure", outputs=pictures, alt_en="A dot.", alt_zh="一个点。"),
        *caption,
        code("assert proven", "proof", checked_en="Checked: `all`.", checked_zh="已验证：`all`。"),
        *exercise,
        code("answer_1_1 = ...", "exercise", outputs=[printed]),
        *solution,
    ]
    for name, these in (("01_strings", cells), ("02_llama", prose(OTHER))):
        notebook = nbformat.v4.new_notebook(cells=these)
        notebook.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
        nbformat.write(notebook, folder / f"{name}.ipynb")
    for name in contents.APPENDICES:
        regions = (
            f'<!-- #region lang="{lang}" -->\n# {title}\n\n…\n\n…\n<!-- #endregion -->'
            for lang, title in (("en", name.title()), ("zh", f"附录：{name}"))
        )
        (folder / f"{name}.md").write_text("\n\n".join(regions), encoding="utf-8")
    shutil.copy(contents.PAGES / "paper.md", folder)


@pytest.fixture(
    scope="module", params=["small", pytest.param("whole", marks=pytest.mark.slow)], ids=str
)
def book(request, tmp_path_factory):
    """Both forms of both editions, of a small book or of the whole one, and which chapters it has."""
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "small":
            small = tmp_path_factory.mktemp("chapters")
            write_small_book(small)
            patch.setattr(contents, "CHAPTERS", small)
            patch.setattr(contents, "PAGES", small)
            patch.setattr(
                contents, "parts", contents.parts.__wrapped__
            )  # without what it remembers
        for form in files.FORMS:
            make(form, folder)
        parts = {lang: contents.parts(edition) for lang, edition in EDITIONS.items()}
    titles = {
        lang: [
            title
            for part in parts[lang]
            if (chapters := [c for c in part.chapters if c.exists])
            for title in (part.heading, *(f"{c.number} · {c.title}" for c in chapters))
        ]
        for lang in parts
    }
    yield SimpleNamespace(folder=folder, titles=titles, small=request.param == "small")


@pytest.fixture(scope="module")
def epub(book):
    """The pages of each EPUB as trees, in the order of reading: {lang: {name: tree}}."""
    found = {}
    for lang, edition in EDITIONS.items():
        with zipfile.ZipFile(files.path(edition, "epub", book.folder)) as archive:
            package = ElementTree.fromstring(archive.read("content.opf"))
            names = {
                item.get("id"): item.get("href") for item in package.iter() if item.get("href")
            }
            spine = [names[item.get("idref")] for item in package.iter() if item.get("idref")]
            found[lang] = {
                name: ElementTree.fromstring(archive.read(name)) for name in (*spine, "nav.xhtml")
            }
    return found


@pytest.fixture(scope="module")
def pdf(book):
    return {
        lang: pypdf.PdfReader(files.path(edition, "pdf", book.folder))
        for lang, edition in EDITIONS.items()
    }


def text(element):
    return " ".join("".join(element.itertext()).split())


def elements(page, tag, *classes):
    return [e for e in page.iter(f"{X}{tag}") if set(classes) <= set(e.get("class", "").split())]


# ---------------------------------------------------------------- EPUB


def epubcheck():
    """How epubcheck is called; Debian's is a jar that not every kernel starts by itself."""
    found = shutil.which("epubcheck")
    if not found:
        pytest.skip("no epubcheck on the PATH (Debian: apt install epubcheck)")
    with Path(found).open("rb") as program:
        return ["java", "-jar", found] if program.read(2) == b"PK" else [found]


@pytest.mark.parametrize("edition", EDITIONS.values(), ids=lambda edition: edition.lang)
def test_epubcheck_finds_nothing(book, edition):
    command = [*epubcheck(), files.path(edition, "epub", book.folder)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "0 fatals / 0 errors / 0 warnings" in run.stdout + run.stderr


def test_formulas_are_mathml_and_no_tex_is_left(epub):
    raw = re.compile(r"\\\(|\\\[|\$|\\(?:frac|pi|beta|log|sum|mathrm|begin)\b|<!--|:::|\{\.\w")
    for lang, pages in epub.items():
        formulas = [math for page in pages.values() for math in page.iter(MATH)]
        assert formulas, lang
        assert all(text(math) for math in formulas)
        for name, page in copy.deepcopy(pages).items():
            for plain in (*page.iter(f"{X}pre"), *page.iter(f"{X}code")):
                plain.clear()
            assert raw.findall(text(page)) == [], (lang, name)


def test_a_function_stands_apart_from_what_has_no_bracket(epub, book):
    """Guards against logx: MathML has no rule by which TeX parts the two."""
    if not book.small:
        pytest.skip("the small book has each form once")
    for pages in epub.values():
        formulas = [list(math) for math in pages["01_strings.xhtml"].iter(MATH)]
        logarithm = next(parts for parts in formulas if parts[0].text == "ln")
        assert [part.tag.partition("}")[2] for part in logarithm] == ["mi", "mo", "mspace", "mn"]


def test_every_picture_is_described_in_the_language_of_the_edition(epub):
    for lang, pages in epub.items():
        alts = [img.get("alt", "") for page in pages.values() for img in page.iter(f"{X}img")]
        assert len(alts) > 1  # the cover is one
        assert all(alt.strip() and bool(HAN.search(alt)) == (lang == "zh") for alt in alts), alts
        langs = {page.get("lang") for page in pages.values()}
        assert langs == {EDITIONS[lang].html_lang}


def test_links_within_the_epub_arrive(epub):
    for lang, pages in epub.items():
        ids = {name: {e.get("id") for e in page.iter()} for name, page in pages.items()}
        links = [
            (name, urljoin(name, a.get("href")))
            for name, page in pages.items()
            for a in page.iter(f"{X}a")
            if "://" not in a.get("href")
        ]
        lost = [
            (name, link)
            for name, link in links
            for page, anchor in [urldefrag(link)]
            if page not in ids or (anchor and unquote(anchor) not in ids[page])
        ]
        assert lost == [], lang
        assert any("references.xhtml#" in link for _, link in links)
        assert any("solutions.xhtml#" in link for _, link in links)


def test_the_epubs_contents_have_all_in_order(epub, book):
    for lang, pages in epub.items():
        assert text(next(pages["nav.xhtml"].iter(f"{X}h1"))) == EDITIONS[lang].contents
        titles = [text(a) for a in pages["nav.xhtml"].iter(f"{X}a")]
        expected = [EDITIONS[lang].title, *book.titles[lang], EDITIONS[lang].appendices]
        places = [titles.index(title) for title in expected]
        assert places == sorted(places)
        appendices = [text(next(pages[f"{a}.xhtml"].iter(f"{X}h1"))) for a in contents.APPENDICES]
        last = titles[places[-1] :]  # a chapter has a section of its own called "References"
        assert [title for title in last if title in appendices] == appendices


def test_second_readings_say_so_and_stand_open(epub):
    for lang, pages in epub.items():
        stars = 0
        for page in pages.values():
            assert not list(page.iter(f"{X}details"))
            for section in page.iter(f"{X}section"):
                if text(section[0]).startswith("⋆"):
                    stars += 1
                    assert section[1].get("class") == "second-reading", text(section[0])
                    line = re.escape(EDITIONS[lang].second_reading).replace(r"\{\}", r"\d+")
                    assert re.fullmatch(line, text(section[1]))
                    assert len(section) > 2
        assert stars


def test_hints_and_answers_stand_open_and_solutions_in_the_appendix(epub, book):
    if not book.small:
        pytest.skip("the small book has each form once")
    for lang, answer, hint, solution in (
        ("en", "Answer Downwards, by", "Hint Few.", "One, and only one."),
        ("zh", "答案 往下，", "提示 不多。", "一个，只有一个。"),
    ):
        chapter = epub[lang]["01_strings.xhtml"]
        assert text(elements(chapter, "div", "answer")[0]).startswith(answer)
        assert text(elements(chapter, "div", "hint")[0]) == hint
        assert solution not in text(chapter) and solution in text(epub[lang]["solutions.xhtml"])
        assert text(elements(chapter, "p", "to-solution")[0]) == EDITIONS[lang].to_solution


def test_code_that_draws_and_unanswered_checks_are_left_out(epub, book):
    if not book.small:
        pytest.skip("the small book has each form once")
    for lang, checked in (("en", "Checked: all."), ("zh", "已验证：all。")):
        chapter = epub[lang]["01_strings.xhtml"]
        listing = " ".join(text(pre) for pre in chapter.iter(f"{X}pre"))
        assert "assert proven" in listing and "answer_1_1" in listing
        assert "draw_it" not in listing and "not answered" not in listing
        assert [text(p) for p in elements(chapter, "p", "checked")] == [checked]
        assert len(list(chapter.iter(f"{X}img"))) == 1


# ---------------------------------------------------------------- PDF


def outline(reader, items=None, depth=0):
    """The bookmarks as (depth, title, page from 1)."""
    for item in reader.outline if items is None else items:
        if isinstance(item, list):
            yield from outline(reader, item, depth + 1)
        else:
            yield depth, item.title, reader.get_destination_page_number(item) + 1


def test_the_bookmarks_have_all_in_order(pdf, book):
    for lang, reader in pdf.items():
        marks = list(outline(reader))
        titles = [title for depth, title, _ in marks if depth < 2]
        places = [titles.index(title) for title in (*book.titles[lang], EDITIONS[lang].appendices)]
        assert places == sorted(places)
        pages = [page for *_, page in marks]
        assert pages == sorted(pages)
        assert sum(depth == 1 for depth, *_ in marks) >= len(contents.APPENDICES)
        for _, title, page in marks:
            if title in book.titles[lang]:
                found = reader.pages[page - 1].extract_text()
                assert "".join(title.split()) in "".join(found.split()), title


def test_links_within_the_pdf_arrive(pdf):
    for lang, reader in pdf.items():
        known, inner, outer = reader.named_destinations, 0, 0
        for page in reader.pages:
            for note in page.get("/Annots", ()):
                link = note.get_object()
                if "/Dest" in link:
                    inner += 1
                    assert str(link["/Dest"]) in known, link["/Dest"]
                elif "/A" in link:
                    outer += 1
                    assert str(link["/A"]["/URI"]).startswith("http"), link["/A"]
        assert inner > 20 and outer, lang


def test_the_contents_and_the_ways_back_name_the_right_pages(pdf, book):
    for lang, reader in pdf.items():
        pages = {title: page for _, title, page in outline(reader)}
        first = min(page for title, page in pages.items() if title in book.titles[lang])
        shown = "\n".join(page.extract_text() for page in reader.pages[1 : first - 1])
        flat = re.sub(r"\s+", "", shown)
        for title in book.titles[lang]:
            assert f"{''.join(title.split())}{pages[title]}" in flat, title
    way = EN.on_page.format(next(p for _, t, p in outline(pdf["en"]) if t.startswith("Exercise")))
    assert way in " ".join("".join(p.extract_text() for p in pdf["en"].pages).split())


def test_both_languages_can_be_read_out_of_the_pdf(pdf):
    han = {}
    for lang, reader in pdf.items():
        found = "".join(page.extract_text() for page in reader.pages)
        assert not re.search(r"[\u2e80-\u2fdf\ufffd]|\\frac|<!--", found)  # radicals for characters
        han[lang] = len(HAN.findall(found))
        assert reader.metadata.title == EDITIONS[lang].title and reader.metadata.author
        assert reader.trailer["/Root"]["/Lang"] == EDITIONS[lang].html_lang
    assert han["zh"] > max(500, 10 * han["en"])  # the English glossary has some


def test_the_pdf_has_a_cover_no_empty_page_and_as_many_as_one_expects(pdf, book):
    for lang, reader in pdf.items():
        assert (
            reader.pages[0].images
            and reader.pages[0].mediabox.width < reader.pages[1].mediabox.width
        )
        lines = [len(page.extract_text().splitlines()) for page in reader.pages[1:]]
        assert min(lines) > 1, lang  # the chapter's title and the page's number are one
        low, high = (15, 40) if book.small else (400, 700)
        assert low <= len(reader.pages) <= high


# ---------------------------------------------------------------- the commands, the site


def test_without_a_browser_one_line_says_so(tmp_path):
    environment = {"PATH": "", "PLAYWRIGHT_BROWSERS_PATH": str(tmp_path), "PYTHONPATH": str(ROOT)}
    before = sorted(files.FOLDER.glob("*"))
    run = subprocess.run(
        [sys.executable, "-m", "book.paper", "pdf", "epub"],
        env=environment, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 2 and run.stdout == ""
    assert run.stderr.startswith("book: no browser to print with") and run.stderr.count("\n") == 1
    assert sorted(files.FOLDER.glob("*")) == before


def test_a_form_that_there_is_not_is_named():
    run = subprocess.run(
        [sys.executable, "-m", "book.paper", "mobi"], cwd=ROOT, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert run.returncode == 2 and run.stderr == "book: name one or both of: pdf, epub\n"


def test_the_site_says_which_files_the_text_has_left_behind(tmp_path, capsys):
    old, new = (files.path(EN, form, tmp_path) for form in ("pdf", "epub"))
    for path, time in ((old, 1), (new, 2**31)):
        path.write_bytes(b"a book")
        os.utime(path, (time, time))
    offer(tmp_path, tmp_path / "site")
    assert sorted(p.name for p in (tmp_path / "site").iterdir()) == sorted([old.name, new.name])
    assert (
        capsys.readouterr().err
        == f"book: {old.name} is older than the chapters; make pdf renews it\n"
    )


def test_the_site_offers_what_was_made_and_nothing_else(site):
    """`site` is built with a PDF and an EPUB in English and none in Chinese."""
    links = {
        path: re.findall(r'href="(\.\./paper/[^"]+)" download', path.read_text(encoding="utf-8"))
        for lang in EDITIONS
        for path in (site.folder / lang).glob("*.html")
    }
    assert all((path.parent / link).is_file() for path, found in links.items() for link in found)
    for path, found in links.items():
        times = 2 if path.stem == "index" else 1  # above the text, and in the footer
        assert len(found) == (2 * times if path.parent.name == "en" else 0), path
    home = (site.folder / "en" / "index.html").read_text(encoding="utf-8")
    assert EN.download in home and ZH.download not in home
