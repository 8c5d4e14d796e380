"""Gives the plain Markdown forms of a chapter (see CONTRIBUTING.md) their look on the site.

A chapter must read well in Jupyter and on a code host, so it uses no site directives. These transforms
find the forms in the parsed document: cards, figures with captions, exercises, citations, section ids;
and what only a page needs: second readings that are folded, formulas that stay with their punctuation.
"""

import re
from html import escape

from docutils import nodes
from myst_nb.sphinx_ import HideCodeCellNode
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

from book import bibliography, reading
from book.editions import EDITIONS

logger = logging.getLogger(__name__)

CALLOUTS = {
    "In this chapter.": "opening",
    "本章。": "opening",
    "To remember.": "remember",
    "记住。": "remember",
    "What the toy hides.": "hides",
    "玩具没告诉你的。": "hides",
    "Before you run it.": "ask",
    "先猜一猜。": "ask",
}
CAPTION = re.compile(r"(?:Figure|图) *(\d+\.\d+)[.。]?$")
EXERCISE = re.compile(r"(?:Exercise|练习) *(\d+\.\d+)")
CLOSING = re.compile(r"[，。；：？！、）」』》,.;:?!)\]]+")
FOLDS = {
    "Answer": "answer",
    "答案": "answer",
    "Hint": "hint",
    "提示": "hint",
    "Solution": "solution",
    "解答": "solution",
}


class SectionIds(SphinxTransform):
    """Give what a label names the label's id (`page--id`), the same in both editions, and no other id."""

    # after labels have been attached to sections, before Sphinx collects them
    default_priority = 800

    def apply(self, **kwargs: object) -> None:
        for node in self.document.findall(nodes.Element):
            labels = [name for name in node.get("names", []) if "--" in name]
            if labels and not isinstance(node, nodes.target):
                self.rename(node, labels[0])
        for target in list(self.document.findall(nodes.target)):
            if "refid" in target and any("--" in name for name in target.get("names", [])):
                target.parent.remove(target)

    def rename(self, node: nodes.Element, label: str) -> None:
        name = self.new_id(label)
        for old in node["ids"]:
            self.document.ids.pop(old, None)
        node["ids"] = [name]
        self.document.ids[name] = node
        self.document.nameids[label] = name

    def new_id(self, label: str) -> str:
        """The id that a label stands for."""
        return label.split("--", 1)[1]


class Callouts(SphinxTransform):
    """Turn the blockquotes that open with a known phrase into admonitions with that phrase as title."""

    default_priority = 500

    def apply(self, **kwargs: object) -> None:
        for quote in list(self.document.findall(nodes.block_quote)):
            opening = first_strong(quote.children[0]) if quote.children else None
            kind = CALLOUTS.get(opening.astext()) if opening else None
            if kind is None:
                continue
            paragraph = opening.parent
            paragraph.remove(opening)
            trim_left(paragraph)
            body = quote.children if paragraph.children else quote.children[1:]
            title = nodes.title("", opening.astext().rstrip(".。"))
            quote.replace_self(nodes.admonition("", title, *body, classes=["callout", kind]))


class Figures(SphinxTransform):
    """Join the image that a cell shows with the caption that follows it."""

    default_priority = 500

    def apply(self, **kwargs: object) -> None:
        for paragraph in list(self.document.findall(nodes.paragraph)):
            opening = first_strong(paragraph)
            match = CAPTION.match(opening.astext()) if opening else None
            if match:
                self.join(paragraph, match[1])

    def join(self, paragraph: nodes.paragraph, number: str) -> None:
        name = f"fig-{number.replace('.', '-')}"
        parent = paragraph.parent
        place = parent.index(paragraph)
        cell = parent[place - 1] if place else None
        shown = [] if cell is None else outputs_with_image(cell)
        if not shown:
            logger.warning("%s: no image stands before this caption", name, location=paragraph)
            return
        figure = nodes.figure("", ids=[name], classes=["book-figure"])
        for output in shown:
            remove_with_empty_parents(output, parent)
            figure += output
        figure += nodes.caption("", "", *paragraph.children)
        self.document.ids[name] = figure
        parent.replace(paragraph, [found_by_number("figure", number, name), figure])
        if "tag_figure" in cell.get("classes", []) and cell in parent.children:
            # the picture first, then the code that draws it, where that is shown
            parent.remove(cell)
            parent.insert(parent.index(figure) + 1, cell)


class SecondReadings(SphinxTransform):
    """Fold what stands under a heading that begins with ⋆, and say how long it is."""

    # after SectionIds
    default_priority = 850

    def apply(self, **kwargs: object) -> None:
        edition = EDITIONS[self.config.book_lang]
        for section in list(self.document.findall(nodes.section)):
            if not section[0].astext().startswith(reading.STAR):
                continue
            minutes = reading.second_minutes(self.env.docname)[section["ids"][0]]
            line = edition.second_reading.format(minutes)
            opening = f'<details class="second-reading"><summary>{line}</summary>'
            section.insert(1, nodes.raw("", opening, format="html"))
            section += nodes.raw("", "</details>", format="html")


class Exercises(SphinxTransform):
    """Mark exercises, their difficulty and their folds, so that the style sheet can find them, and the search."""

    # after SectionIds
    default_priority = 850

    def apply(self, **kwargs: object) -> None:
        for section in self.document.findall(nodes.section):
            if match := EXERCISE.match(section[0].astext()):
                section["classes"].append("exercise")
                section.insert(1, found_by_number("exercise", match[1], section["ids"][0]))
                for paragraph in section.findall(nodes.paragraph):
                    if paragraph.astext()[:1] in "★☆":
                        paragraph["classes"].append("difficulty")
        for raw in list(self.document.findall(nodes.raw)):
            text = raw.astext()
            for summary, kind in FOLDS.items():
                text = re.sub(
                    rf"<details>(\s*<summary>{summary}</summary>)",
                    rf'<details class="{kind}">\1',
                    text,
                )
            if text != raw.astext():
                raw.replace_self(nodes.raw("", text, format="html"))


class Formulas(SphinxTransform):
    """Keep a formula on one line with the punctuation that follows it; browsers break between the two."""

    default_priority = 500

    def apply(self, **kwargs: object) -> None:
        for formula in list(self.document.findall(nodes.math)):
            parent = formula.parent
            after = parent.index(formula) + 1
            text = (
                parent[after].astext()
                if after < len(parent) and isinstance(parent[after], nodes.Text)
                else ""
            )
            if mark := CLOSING.match(text):
                together = nodes.inline("", "", formula, nodes.Text(mark[0]), classes=["together"])
                parent[after - 1 : after + 1] = [together, nodes.Text(text[mark.end() :])]


class Citations(SphinxPostTransform):
    """Lead a link to a work in the bibliography to its entry in the reference list."""

    default_priority = 500

    def run(self, **kwargs: object) -> None:
        edition = EDITIONS[self.config.book_lang]
        where = self.app.builder.get_relative_uri(self.env.docname, "references")
        for link in self.document.findall(nodes.reference):
            if "reference" in link.parent.get("classes", []):
                continue  # it stands in the list itself
            if entry := bibliography.by_url().get(link.get("refuri", "")):
                link["refuri"] = f"{where}#{self.place(entry.key)}"
                link["reftitle"] = entry.tooltip(edition)
                link["internal"] = True
                link["classes"].append("citation")

    def place(self, key: str) -> str:
        """The id of an entry in the reference list."""
        return f"ref-{key}"


def visit_folded_code(writer: HTML5Translator, node: HideCodeCellNode) -> None:
    """Open the fold of a cell's code. myst_nb's own names every fold alike, in English, for those who do not see."""
    show, hide = node["prompt_show"], node["prompt_hide"]
    states = {"": show} if show == hide else {"collapsed": show, "expanded": hide}
    lines = "".join(
        f'<span class="{state}">{escape(text)}</span>' for state, text in states.items()
    )
    classes = " ".join(["hide", *node["classes"]])
    writer.body.append(f'<details class="{classes}"><summary>{lines}</summary>\n')


def depart_folded_code(writer: HTML5Translator, node: HideCodeCellNode) -> None:
    writer.body.append("</details>\n")


def found_by_number(kind: str, number: str, anchor: str) -> addnodes.index:
    """What leads a search for "figure 9.2", or for 9.2 alone, to the place; a page does not show it."""
    names = (f"{kind} {number}", number)
    return addnodes.index(entries=[("single", name, anchor, "main", None) for name in names])


def first_strong(node: nodes.Node) -> nodes.strong | None:
    """The bold words that a paragraph opens with."""
    if not isinstance(node, nodes.paragraph):
        return None
    opening = next((child for child in node.children if child.astext().strip()), None)
    return opening if isinstance(opening, nodes.strong) else None


def trim_left(paragraph: nodes.paragraph) -> None:
    """Drop the space that the removed opening words leave."""
    while paragraph.children and not paragraph[0].astext().strip():
        paragraph.pop(0)
    if paragraph.children and isinstance(paragraph[0], nodes.Text):
        paragraph[0] = nodes.Text(paragraph[0].astext().lstrip())


def outputs_with_image(cell: nodes.Node) -> list[nodes.Node]:
    """The outputs of a code cell that are images, with their alternatives in other formats."""
    return [
        output
        for part in cell.findall(nodes.container)
        if "cell_output" in part.get("classes", [])
        for output in part.children
        if next(iter(output.findall(nodes.image)), None) is not None
    ]


def remove_with_empty_parents(node: nodes.Node, top: nodes.Node) -> None:
    """Take a node out of the document, and the containers that it leaves empty, below `top`."""
    parent = node.parent
    parent.remove(node)
    if not parent.children and parent is not top:
        remove_with_empty_parents(parent, top)


def setup(app: Sphinx) -> dict[str, bool]:
    for transform in (SectionIds, Callouts, Figures, SecondReadings, Exercises, Formulas):
        app.add_transform(transform)
    app.add_post_transform(Citations)
    folded = (visit_folded_code, depart_folded_code)
    app.add_node(HideCodeCellNode, override=True, html=folded)
    return {"parallel_read_safe": True}
