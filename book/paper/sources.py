"""Writes the sources of one edition as paper wants them: nothing is folded, and nothing asks to be clicked.

What the site folds stands open: second readings, under a line that says so; hints and answers, under their word; a
proof, under what it has checked. Solutions are left to the appendix. Code that only draws is left to the notebooks, the
lab to the site, and what a check says before there is an answer to nobody.
"""

import html
import re
from collections.abc import Iterable
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from book import contents, reading
from book.contents import Chapter, Part
from book.editions import Edition
from book.lab import MARK
from book.languages import headings
from book.solutions import EXERCISE
from book.sources import appendix_pages, chapter_cells, chapter_list, page_text

FOLD = re.compile(r"<details>\s*<summary>(?P<word>.*?)</summary>(?P<text>.*?)</details>", re.DOTALL)
KINDS = {"Hint": "hint", "提示": "hint", "Answer": "answer", "答案": "answer"}
HIDDEN = {"figure": "remove-input", "exercise": "remove-output"}  # a cell's tag, what becomes of it


def write_sources(edition: Edition, folder: Path, form: str) -> None:
    """Write all that Sphinx reads for one edition into a fresh `folder`, for a "pdf" or an "epub"."""
    folder.mkdir(parents=True)
    chapters = contents.chapters(edition)
    cells = {chapter.file: chapter_cells(chapter, edition) for chapter in chapters}
    pages = appendix_pages(chapters, cells, edition)
    for chapter in chapters:
        notebook = contents.read_notebook(chapter.file)
        notebook.cells = on_paper(cells[chapter.file], chapter, edition)
        nbformat.write(notebook, folder / f"{chapter.file}.ipynb")
    pages["paper"] = page_text("paper", edition)
    parts = [part for part in contents.parts(edition) if any(c.exists for c in part.chapters)]
    names = [f"part-{number}" for number in range(len(parts))]
    for name, part in zip(names, parts, strict=True):
        pages[name] = part_page(name, part)
    pages["appendices"] = list_page("appendices", edition.appendices, contents.APPENDICES)
    pages["index"] = title_page(edition, form) + toctree(["paper", *names, "appendices"])
    for name, text in pages.items():
        (folder / f"{name}.md").write_text(text + "\n", encoding="utf-8")


def title_page(edition: Edition, form: str) -> str:
    """The book's title. An EPUB lists this page under its heading; in the PDF its parts come first."""
    title = f"# {edition.title}" if form == "epub" else f"{{.book-title}}\n{edition.title}"
    return (
        f"{title}\n\n{{.tagline}}\n{edition.tagline}\n\n{{.imprint}}\n{edition.colophon}\\\n"
        f"{edition.colophon_paper}"
    )


def part_page(name: str, part: Part) -> str:
    """A part's title, its chapters with their questions, and their order."""
    chapters = [chapter for chapter in part.chapters if chapter.exists]
    text = f"({name}--part)=\n# {part.heading}\n\n{chapter_list(chapters)}"
    return text + toctree(chapter.file for chapter in chapters)


def list_page(name: str, title: str, pages: Iterable[str]) -> str:
    """A title, the pages under it, and their order."""
    links = "\n".join(f"- []({page}.md)" for page in pages)
    return f"({name}--part)=\n# {title}\n\n{{.map}}\n{links}{toctree(pages)}"


def toctree(names: Iterable[str]) -> str:
    """The order of the pages."""
    return "\n\n" + "\n".join(["```{toctree}", ":hidden:", "", *names, "```"])


def on_paper(cells: list[NotebookNode], chapter: Chapter, edition: Edition) -> list[NotebookNode]:
    """A chapter's cells with all that is folded on the site laid open, or left out."""
    minutes = reading.second_minutes(chapter.file)
    exercise = None
    shown = []
    for cell in cells:
        tags = set(cell.metadata.get("tags", []))
        if cell.cell_type == "markdown":
            for line in cell.source.splitlines():
                if match := EXERCISE.match(line):
                    exercise = match["number"]
            source = MARK.sub("", cell.source)
            cell.source = unfolded(marked(source, minutes, edition), exercise, edition)
        elif "proof" in tags:
            line = html.escape(cell.metadata.mystnb["code_prompt_show"], quote=False)
            line = re.sub("`(.+?)`", r"<code>\1</code>", line)
            shown.append(nbformat.v4.new_markdown_cell(f'<p class="checked">{line}</p>'))
        cell.metadata["tags"] = sorted(
            tags - {"hide-input"} | {HIDDEN[tag] for tag in tags & set(HIDDEN)}
        )
        shown.append(cell)
    return shown


def marked(source: str, minutes: dict[str, int], edition: Edition) -> str:
    """A text whose second readings say below their heading that they are, and how long."""
    lines = source.splitlines()
    for number, title in headings(source):
        if title.startswith(reading.STAR):
            name = lines[number - 1].rpartition("--")[2].removesuffix(")=")
            line = edition.second_reading.format(minutes[name])
            lines[number] += f"\n\n{{.second-reading}}\n{line}\n"
    return "\n".join(lines)


def unfolded(source: str, exercise: str | None, edition: Edition) -> str:
    """A text whose hints and answers stand open, and whose solution is a way to the appendix."""

    def opened(fold: re.Match) -> str:
        word, text = fold["word"], fold["text"].strip()
        if word in KINDS:
            return f'<div class="{KINDS[word]}">\n<p class="fold">{word}</p>\n\n{text}\n\n</div>'
        label = f"solutions--exercise-{exercise.replace('.', '-')}"
        return f"{{.to-solution}}\n[{edition.to_solution}](#{label})"

    return FOLD.sub(opened, source)
