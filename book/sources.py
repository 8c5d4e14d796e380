"""Writes the source tree of one edition, which Sphinx then reads: chapters and pages in one language."""

import re
from collections.abc import Iterable
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from book import bibliography, conformance, contents
from book.contents import Chapter
from book.editions import Edition
from book.lab import with_lab
from book.languages import in_language, label_headings
from book.solutions import solutions

PICTURE = re.compile(r"<!-- picture: (?P<alt>.+?) \| (?P<caption>.+?) -->")
MAP = "<!-- map of the chapters -->"


def write_sources(edition: Edition, folder: Path) -> None:
    """Write all that Sphinx reads for one edition into a fresh `folder`."""
    folder.mkdir(parents=True)
    chapters = contents.chapters(edition)
    cells = {chapter.file: chapter_cells(chapter, edition) for chapter in chapters}
    for chapter in chapters:
        notebook = contents.read_notebook(chapter.file)
        notebook.cells = cells[chapter.file]
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = with_lab(cell.source, edition)
        nbformat.write(notebook, folder / f"{chapter.file}.ipynb")
    pages = appendix_pages(chapters, cells, edition)
    pages[contents.LAB] = page_text(contents.LAB, edition)
    home = with_cover(with_picture(page_text("index", edition), edition), edition)
    pages["index"] = home.replace(MAP, chapter_map(edition)) + toctrees(edition)
    for name, text in pages.items():
        (folder / f"{name}.md").write_text(text + "\n", encoding="utf-8")


def appendix_pages(
    chapters: list[Chapter], cells: dict[str, list[NotebookNode]], edition: Edition
) -> dict[str, str]:
    """The appendices, with what they collect from the chapters' cells in one language."""
    pages = {name: page_text(name, edition) for name in contents.APPENDICES}
    pages["conformance"] = pages["conformance"].replace(
        conformance.MARK, conformance.tables(edition)
    )
    pages["solutions"] += "\n\n" + collected_solutions(chapters, cells, edition)
    pages["references"] += "\n\n" + bibliography.reference_list(
        edition, citations(chapters, cells, edition)
    )
    return pages


def chapter_cells(chapter: Chapter, edition: Edition) -> list[NotebookNode]:
    """A chapter's cells in one language: headings labelled, figures described, the title numbered."""
    cells = contents.read_notebook(chapter.file).cells
    label_headings(cells, chapter.file)
    cells = in_language(cells, edition.lang)
    for cell in cells:
        fold(cell, edition)
    first = next(cell for cell in cells if cell.cell_type == "markdown")
    title = f"# {chapter.number} · {chapter.title}"
    first.source = re.sub(r"^# .*$", lambda _: title, first.source, count=1, flags=re.MULTILINE)
    return cells


def fold(cell: NotebookNode, edition: Edition) -> None:
    """Tell Sphinx how to show a cell of code, in place: its picture's alt text, and what is folded behind a line.

    Code that draws is folded below its picture; code that only checks, under what it has checked.
    """
    tags = cell.metadata.get("tags", [])
    shown = cell.metadata.setdefault("mystnb", {})
    if alt := cell.metadata.get(f"alt_{edition.lang}"):
        shown["image"] = {"alt": alt}
    if "proof" in tags:
        shown["code_prompt_show"] = cell.metadata.get(f"checked_{edition.lang}", edition.checked)
        shown["code_prompt_hide"] = shown["code_prompt_show"]
    if {"proof", "figure"} & set(tags):
        cell.metadata["tags"] = [*tags, "hide-input"]


def page_text(name: str, edition: Edition) -> str:
    """A page of pages/ in one language."""
    cells = contents.read_page(name)
    label_headings(cells, name)
    text = "\n\n".join(cell.source for cell in in_language(cells, edition.lang))
    return with_lab(text, edition, now=True)


def with_picture(text: str, edition: Edition) -> str:
    """Put the home page's picture where its marker stands."""

    def figure(match: re.Match) -> str:
        image = (
            f'<img src="_static/home-{edition.lang}.png" class="dark-light" alt="{match["alt"]}">'
        )
        caption = f"<figcaption>{match['caption']}</figcaption>"
        return f'<figure class="home-picture">{image}{caption}</figure>'

    return PICTURE.sub(figure, text)


def with_cover(text: str, edition: Edition) -> str:
    """Put the cover beside the home page's first words."""
    source = f"_static/home-cover-{edition.lang}.png"
    cover = f'<img src="{source}" class="home-cover dark-light" alt="{edition.cover_alt}">'
    return re.sub(r"^# .*$", lambda title: f"{title[0]}\n\n{cover}", text, count=1, flags=re.M)


def chapter_map(edition: Edition) -> str:
    """The parts and chapters of the book as lists; a chapter that exists is a link."""
    blocks = []
    for part in contents.parts(edition):
        label = f"**{part.label}** " if part.label else ""
        blocks.append(f"{{.map-part}}\n{label}{part.title}")
        blocks.append(chapter_list(part.chapters))
    return "\n\n".join(blocks)


def chapter_list(chapters: Iterable[Chapter]) -> str:
    """Chapters with their questions; one that exists is a link."""
    items = []
    for chapter in chapters:
        title = (
            f"[{chapter.title}]({chapter.file}.ipynb)" if chapter.exists else f"**{chapter.title}**"
        )
        items.append(f"{chapter.number}. {title}\\\n   {chapter.question}")
    return "{.map}\n" + "\n".join(items)


def toctrees(edition: Edition) -> str:
    """The order of the pages, for the navigation."""
    groups = [
        (part.heading, [chapter.file for chapter in part.chapters if chapter.exists])
        for part in contents.parts(edition)
    ]
    groups[0][1].append(contents.LAB)
    groups.append((edition.appendices, list(contents.APPENDICES)))
    trees = (
        "\n".join(["```{toctree}", ":hidden:", f":caption: {caption}", "", *files, "```"])
        for caption, files in groups
        if files
    )
    return "\n\n" + "\n\n".join(trees)


def collected_solutions(
    chapters: list[Chapter], cells: dict[str, list[NotebookNode]], edition: Edition
) -> str:
    """The solutions of all chapters, as the body of the appendix."""
    blocks = []
    for chapter in chapters:
        if found := solutions(cells[chapter.file]):
            blocks.append(
                f"(solutions--chapter-{chapter.number})=\n## {chapter.number} · {chapter.title}"
            )
            blocks += [solution.markdown(edition) for solution in found]
    return "\n\n".join(blocks)


def citations(
    chapters: list[Chapter], cells: dict[str, list[NotebookNode]], edition: Edition
) -> dict[str, list[str]]:
    """Which chapters link to which address, as links to those chapters."""
    found: dict[str, list[str]] = {}
    for chapter in chapters:
        text = "\n".join(
            cell.source for cell in cells[chapter.file] if cell.cell_type == "markdown"
        )
        for url in sorted(set(re.findall(r"\]\((https?://[^)\s]+)\)", text))):
            found.setdefault(url, []).append(
                f"[{edition.chapter.format(chapter.number)}]({chapter.file}.ipynb)"
            )
    return found
