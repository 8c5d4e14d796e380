"""Writes the book for language models: llms.txt (see llmstxt.org), and each chapter as plain Markdown.

llms.txt at the site's root says what the book is and lists its chapters in both languages, each with its
question; the links lead to en/NN_name.md and zh/NN_name.md, which hold what a chapter says without the page
around it: prose, formulas, code, and what the code prints.
"""

import re
from pathlib import Path
from urllib.parse import urljoin

from nbformat import NotebookNode

from book import contents
from book.contents import Address, Chapter
from book.editions import EDITIONS, EN, Edition
from book.languages import in_language

SUMMARY = """# {en.title} · {zh.title}

> {en.tagline} It derives Direct Preference Optimization and checks every step in code, in English and in Chinese from one source.

> {zh.tagline}推导 DPO 的每一步都由代码验证；中英文出自同一份源文件。

Each chapter below is one Markdown file. Formulas are TeX; the library that the chapters import is `dpo_core`."""
HTML = re.compile(r"</?details>|<summary>(?P<summary>.*?)</summary>")
NOTEBOOK = re.compile(r"\]\((\d\d_\w+)\.ipynb")


def write_llms(site: Path) -> None:
    """Write llms.txt at the root of the site and the Markdown of every chapter beside its page."""
    (site / "llms.txt").write_text(index(contents.address()), encoding="utf-8")
    for edition in EDITIONS.values():
        for chapter in contents.chapters(edition):
            path = site / edition.lang / f"{chapter.file}.md"
            path.write_text(markdown(chapter, edition), encoding="utf-8")


def index(address: Address) -> str:
    """The text of llms.txt: what the book is, and links; whole addresses where the site's own is known."""
    blocks = [SUMMARY.format(en=EN, zh=EN.other)]
    for edition in EDITIONS.values():
        blocks.append(f"## {edition.title} ({edition.name})")
        lines = [
            f"- [{chapter.number} · {chapter.title}]({urljoin(address.url, f'{edition.lang}/{chapter.file}.md')})"
            f": {chapter.question}"
            for chapter in contents.chapters(edition)
        ]
        blocks.append("\n".join(lines))
    pages = [
        f"- [{name}]({urljoin(address.url, f'{edition.lang}/{page}.html')})"
        for edition in EDITIONS.values()
        for page, name in (("glossary", edition.in_glossary), ("references", edition.works))
    ]
    blocks.append("## Optional\n\n" + "\n".join(pages))
    return "\n\n".join(blocks) + "\n"


def markdown(chapter: Chapter, edition: Edition) -> str:
    """A chapter as Markdown in one language: the code with what it prints, a picture as its description."""
    cells = in_language(contents.read_notebook(chapter.file).cells, edition.lang)
    blocks = [part for cell in cells for part in cell_parts(cell, edition)]
    return "\n\n".join(part for part in blocks if part) + "\n"


def cell_parts(cell: NotebookNode, edition: Edition) -> list[str]:
    """What a cell says, block by block."""
    if cell.cell_type == "markdown":
        text = HTML.sub(
            lambda match: f"**{match['summary']}**" if match["summary"] else "", cell.source
        )
        return [re.sub(r"\n{3,}", "\n\n", NOTEBOOK.sub(r"](\1.md", text)).strip()]
    parts = [fenced("python", cell.source)]
    for output in cell.get("outputs", []):
        printed = output.get("text") or output.get("data", {}).get("text/plain", "")
        if "image/png" in output.get("data", {}) or "image/svg+xml" in output.get("data", {}):
            alt = cell.metadata.get(f"alt_{edition.lang}")
            parts.append(f"> {alt}" if alt else "")
        elif printed.strip():
            parts.append(fenced("text", printed))
    return parts


def fenced(language: str, text: str) -> str:
    """A block of code, with a fence that the text does not contain."""
    fence = "`" * max(3, 1 + max(map(len, re.findall(r"`+", text)), default=0))
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"
