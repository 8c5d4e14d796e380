"""A chapter in one language as a row of passages: its headings, sentences, formulas, pictures, questions, code.

The slides are made of passages (`book/slides.py`). A sentence is never cut: one that runs through a displayed
formula, over the end of a paragraph, is one passage.
"""

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass

from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin
from nbformat import NotebookNode

from book.forms import CALLOUTS, FOLDS
from book.languages import label_headings

MARKDOWN = MarkdownIt("commonmark").enable("table").use(dollarmath_plugin, double_inline=True)
LABEL = re.compile(r"\(.+?--(?P<anchor>.+)\)=$")
BOLD = re.compile(r"\*\*(?P<words>.+?)\*\* *")
CAPTION = re.compile(r"\*\*(?:Figure|图) *(?P<number>\d+\.\d+)")
SUMMARY = re.compile(r"<summary>(?P<title>.+?)</summary>")
# what no sentence ends in
WHOLE = re.compile(
    r"\$\$.+?\$\$|\$[^$\n]+\$"  # formulas
    r"|`[^`]+`|\[[^\]]*\]\([^)\s]*\)"  # code, links
    r"|\*\*.+?\*\*|\*[^*\s][^*]*\*",  # stressed words, which may begin a paragraph, full stop and all
    re.DOTALL,
)
END = {
    "en": re.compile(r"(?<!\beq)[.?!][)”’\"]*(?=\s|$)(?!\s+[a-z])"),
    "zh": re.compile(r"[。？！][」』）”]*"),
}
KINDS = {
    "paragraph_open": "paragraph",
    "math_block": "formula",
    "ordered_list_open": "list",
    "bullet_list_open": "list",
    "table_open": "table",
    "fence": "fence",
    "blockquote_open": "quote",
    "html_block": "html",
    "heading_open": "heading",
}


@dataclass
class Passage:
    """One thing that a chapter shows or says."""

    kind: str  # of `KINDS`, sentence, figure, code; of a card, as forms.py calls it
    text: str  # Markdown; of code, the source
    title: str = ""  # of a card or a question: its first words
    section: str = ""  # the anchor of the heading that it stands under
    level: int = 0  # of a heading
    answer: str = ""  # of a question
    fold: str = ""  # the words that the answer is folded under
    number: str = ""  # of a figure
    pictures: tuple[bytes, ...] = ()
    alt: str = ""
    printed: str = ""  # by code
    begins: bool = False  # a paragraph


def passages(cells: list[NotebookNode], lang: str) -> list[Passage]:
    """The passages of a chapter's cells (of both languages together), as a reader of `lang` meets them."""
    label_headings(cells, "slides")
    ends = formulas_that_end(cells)
    found: list[Passage] = []
    section = ""
    for cell in cells:
        if cell.metadata.get("lang", lang) != lang:
            continue
        if cell.cell_type == "code":
            parts = [of_code(cell, lang)]
        else:
            parts = of_text(blocks(cell.source), lang, ends)
        for passage in parts:
            section = passage.section = passage.section or section
            if passage.kind == "caption" and found and found[-1].kind == "figure":
                found[-1].number, found[-1].text = passage.number, passage.text
            else:
                found.append(passage)
    return found


def formulas_that_end(cells: list[NotebookNode]) -> Iterator[bool]:
    """Of each displayed formula whether its sentence ends with it. The English edition has the full stops."""
    for cell in cells:
        if cell.cell_type == "markdown" and cell.metadata.get("lang", "en") == "en":
            for kind, text in blocks(cell.source):
                if kind == "formula":
                    yield bare(text).removesuffix(r"\end{aligned}").rstrip()[-1] in ".?!"


def bare(formula: str) -> str:
    """The TeX of a displayed formula."""
    return formula.strip().strip("$").strip()


def blocks(source: str) -> list[tuple[str, str]]:
    """The outermost blocks of a Markdown text, each with its kind."""
    lines = source.splitlines()
    return [
        (KINDS[token.type], "\n".join(lines[slice(*token.map)]).strip("\n"))
        for token in MARKDOWN.parse(source)
        if token.level == 0 and token.type in KINDS
    ]


def of_code(cell: NotebookNode, lang: str) -> Passage:
    """A cell of code with what it printed, or with the pictures that it drew in this language."""
    shown = [out for out in cell.outputs if out.get("metadata", {}).get("lang", lang) == lang]
    pictures = tuple(
        base64.b64decode(out["data"]["image/png"])
        for out in shown
        if "image/png" in out.get("data", {})
    )
    return Passage(
        "figure" if pictures else "code",
        "" if pictures else cell.source,
        pictures=pictures,
        alt=cell.metadata.get(f"alt_{lang}", ""),
        printed="".join(out.text for out in shown if out.get("name") == "stdout").rstrip(),
    )


def of_text(found: list[tuple[str, str]], lang: str, ends: Iterator[bool]) -> list[Passage]:
    """The passages of a cell of prose. What is folded is left out, but for the answers to questions."""
    passages: list[Passage] = []
    anchor = fold = ""
    unfinished = False  # whether the last sentence goes on in this block
    before = ""
    for kind, text in found:
        if kind == "html":
            fold = opened(text, fold)
            continue
        if fold:
            if FOLDS.get(fold) == "answer":
                passages[-1].fold = fold
                passages[-1].answer += f"{text}\n\n"
            continue
        if label := LABEL.match(text):
            anchor = label["anchor"]
        elif kind == "heading":
            level, title = text.split(" ", 1)
            passages.append(Passage(kind, title, section=anchor, level=len(level)))
        elif kind == "formula":
            over = next(ends)
            if unfinished:
                passages[-1].text += f"\n\n{text}"
            else:
                passages.append(Passage(kind, text))
            unfinished = not over and bool(passages) and passages[-1].kind == "sentence"
        elif kind == "quote":
            passages.append(of_quote(text))
        elif kind == "paragraph" and (caption := CAPTION.match(text)):
            passages.append(Passage("caption", text, number=caption["number"]))
        elif kind == "paragraph":
            first, *rest = sentences(text, lang)
            if unfinished and before == "formula":
                passages[-1].text += f"\n\n{first}"
            else:
                passages.append(Passage("sentence", first, begins=True))
            passages += [Passage("sentence", sentence) for sentence in rest]
            unfinished = not END[lang].search(masked(passages[-1].text)[-3:])
        else:
            passages.append(Passage(kind, text))
        unfinished = unfinished and kind in ("paragraph", "formula")
        before = kind
    return passages


def of_quote(text: str) -> Passage:
    """A card, a question with its answer if it stands inside, or a plain quotation."""
    text = "\n".join(line.removeprefix(">").removeprefix(" ") for line in text.splitlines())
    opening = BOLD.match(text)
    if not opening:
        return Passage("quote", text)
    words, body = opening["words"], text[opening.end() :]
    kind = CALLOUTS.get(words, "quote" if body else "ask")  # words alone are a question too
    if kind == "quote":
        return Passage("quote", text)
    body, _, folded = body.partition("<details>")
    passage = Passage(kind, body, words.rstrip(".。"))
    if folded:
        passage.fold = SUMMARY.search(folded)["title"]
        passage.answer = folded.partition("</summary>")[2].replace("</details>", "")
    return passage


def opened(html: str, fold: str) -> str:
    """The title of the fold that stands open after a piece of HTML."""
    if title := SUMMARY.search(html):
        fold = title["title"]
    return "" if "</details>" in html else fold


def masked(text: str) -> str:
    """A text of the same length without what no sentence ends in."""
    return WHOLE.sub(lambda match: "X" * len(match[0]), text)


def sentences(text: str, lang: str) -> list[str]:
    """The sentences of a paragraph."""
    stops = [match.end() for match in END[lang].finditer(masked(text))]
    if not stops or stops[-1] < len(text.rstrip()):
        stops.append(len(text))
    return [text[begin:end].strip() for begin, end in zip([0, *stops], stops)]
