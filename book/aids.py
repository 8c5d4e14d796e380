"""What helps a reader along: explained terms, numbered equations, links to what a text mentions by number.

All of it is made at build time, so that a page reads well without scripts: a term is a link to the
glossary, "figure 9.2" a link to the figure. _static/aids.js shows what such a link leads to in a small
card; what it shows is written here into _static/glossary.js and _static/previews/CHAPTER.js, as scripts
because a page that is opened as a file may load those and nothing else.
"""

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.builders.html import StandaloneHTMLBuilder
from sphinx.environment import BuildEnvironment
from sphinx.transforms import SphinxTransform
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging

from book import contents, glossary
from book.editions import EDITIONS, Edition
from book.forms import EXERCISE, found_by_number
from book.mentions import ANCHOR, mentions

logger = logging.getLogger(__name__)

TAG = re.compile(r"\s*\\tag\{(.*?)\}")
# Nothing is marked inside these.
BARE = (
    nodes.title,
    nodes.thead,
    nodes.reference,
    nodes.literal,
    nodes.literal_block,
    nodes.math,
    nodes.math_block,
    nodes.raw,
)
DEFINED = (
    nodes.strong,
    nodes.caption,
)  # the text explains the term, or a figure needs its caption plain
REST = 3  # a term is marked again when this many sections have done without it
LIST_OF_WORKS = re.compile(r"References|Further reading|参考文献")


def number_of(docname: str) -> int | None:
    """The number of the chapter that a page is; None for other pages."""
    return int(docname[:2]) if re.match(r"\d\d_", docname) else None


class Equations(SphinxTransform):
    """Number the displayed formulas of a chapter in their order; those in folded hints and solutions stay without.

    A chapter that mentions one writes its number there too, as \\tag{7.3}, for readers of the notebook.
    """

    # after Exercises have their sections, before SecondReadings add folds of their own
    default_priority = 840

    def apply(self, **kwargs: object) -> None:
        chapter = number_of(self.env.docname)
        if chapter is None:
            return
        edition = EDITIONS[self.config.book_lang]
        for count, formula in enumerate([*unfolded(self.document, nodes.math_block)], 1):
            number = f"{chapter}.{count}"
            if (tag := TAG.search(formula.astext())) and tag[1] != number:
                logger.warning("\\tag{%s} stands at %s", tag[1], number, location=formula)
            self.wrap(formula, number, edition)

    def wrap(self, formula: nodes.math_block, number: str, edition: Edition) -> None:
        name = f"eq-{number.replace('.', '-')}"
        label = html.escape(edition.equation.format(number))
        link = f'<a class="eqno" href="#{name}" aria-label="{label}">({number})</a>'
        tex = TAG.sub("", formula.astext())
        box = nodes.container("", ids=[name], classes=["equation"])
        formula.replace_self([found_by_number("equation", number, name), box])
        box += nodes.math_block(tex, tex, nowrap=False, number=None)
        box += nodes.raw("", link, format="html")
        self.document.ids[name] = box


def unfolded(document: nodes.document, kind: type[nodes.Node]) -> Iterator[nodes.Node]:
    """The nodes of a kind that stand in no <details> of the chapter's own."""
    depth = 0
    for node in document.findall():
        if isinstance(node, nodes.raw):
            depth += len(re.findall(r"<details\b", node.astext()))
            depth -= node.astext().count("</details>")
        elif isinstance(node, kind) and depth == 0:
            yield node


class GlossaryRows(SphinxTransform):
    """Give each row of the glossary the id that terms lead to."""

    default_priority = 840

    def apply(self, **kwargs: object) -> None:
        if self.env.docname != "glossary":
            return
        anchors = {term.name: term.anchor for term in glossary.terms(self.config.book_lang)}
        for row in self.document.findall(nodes.row):
            if anchor := anchors.get(row[0].astext()):
                row["ids"].append(anchor)


class Marks(SphinxPostTransform):
    """Link the terms that a chapter uses, and what any page mentions by number.

    A marked text becomes raw HTML: as a node of its own each link would cut it in two for the search, which
    then would not find a Chinese word that begins in one half and ends in the other.
    """

    default_priority = 900  # after references have been resolved
    formats = ("html",)

    def run(self, **kwargs: object) -> None:
        page = self.env.docname
        if page in ("references", "index", "glossary"):
            return
        self.lang = self.config.book_lang
        self.places = places(self.env)
        self.seen: dict[str, int] = {}  # the section that used a term last
        for link in self.document.findall(nodes.reference):
            if self.leads_to_a_chapter(link):
                link["classes"].append("xref")
        for number, text in numbered_texts(self.document):
            if not inside(text, BARE):
                self.mark(text, number)

    def leads_to_a_chapter(self, link: nodes.reference) -> bool:
        name, _, anchor = link.get("refuri", "").partition(".html")
        return anchor == "" and link.get("internal", False) and number_of(name) is not None

    def mark(self, text: nodes.Text, section: int) -> None:
        source = str(text)
        links = [*self.mentioned(text, source)]
        taken = {at for start, end, _ in links for at in range(start, end)}
        if number_of(self.env.docname) is not None:
            links += self.explained(text, source, section, taken)
        if links:
            pieces, last = [], 0
            for start, end, opening in sorted(links):
                pieces += [html.escape(source[last:start], quote=False), opening]
                pieces += [html.escape(source[start:end], quote=False), "</a>"]
                last = end
            pieces.append(html.escape(source[last:], quote=False))
            text.parent.replace(text, nodes.raw("", "".join(pieces), format="html"))

    def mentioned(self, text: nodes.Text, source: str) -> Iterator[tuple[int, int, str]]:
        """The links to what a text mentions by number, and the book has, elsewhere than here."""
        for start, end, kind, number in mentions(source, self.lang):
            place = self.places.get((kind, number))
            if place is None or (kind == "equation" and is_cited(text, source, start, end)):
                continue
            page, anchor = place
            if page == self.env.docname and (not anchor or inside(text, nodes.strong)):
                continue  # the page itself, or the caption that bears the number
            target = f"#{anchor}" if anchor else ""
            address = target if page == self.env.docname else f"{page}.html{target}"
            yield start, end, f'<a class="xref mention" href="{address}">'

    def explained(
        self, text: nodes.Text, source: str, section: int, taken: set[int]
    ) -> Iterator[tuple[int, int, str]]:
        """The links of terms to the glossary: where one is new, or has rested."""
        quiet = inside(text, DEFINED)
        for start, end, term in glossary.uses(source, self.lang, self.env.docname):
            rested = section - self.seen.get(term.anchor, -REST - 1) > REST
            if quiet and inside(text, nodes.caption):
                continue
            self.seen[term.anchor] = section
            if rested and not quiet and taken.isdisjoint(range(start, end)):
                yield start, end, f'<a class="term" href="glossary.html#{term.anchor}">'


def is_cited(text: nodes.Text, source: str, start: int, end: int) -> bool:
    """Whether an equation is one of a work that is cited right before it or after it."""
    at = text.parent.index(text)
    before, after = (
        0 <= place < len(text.parent) and is_work(text.parent[place]) for place in (at - 1, at + 1)
    )
    return (before and start < 8) or (after and len(source) - end < 8)


def is_work(node: nodes.Node) -> bool:
    """Whether a node links to a work, not to a chapter of the book."""
    return isinstance(node, nodes.reference) and "xref" not in node["classes"]


def inside(node: nodes.Node, kinds: type | tuple[type, ...]) -> bool:
    """Whether a node stands in one of these kinds."""
    parent = node.parent
    while parent is not None:
        if isinstance(parent, kinds):
            return True
        parent = parent.parent
    return False


def numbered_texts(document: nodes.document) -> list[tuple[int, nodes.Text]]:
    """The texts of a page with the number of their section, of the level below its title; no list of works."""
    found = []
    page = next(iter(document.findall(nodes.section)), document)
    section = 0
    for child in page.children:
        if isinstance(child, nodes.section):
            section += 1
            if LIST_OF_WORKS.match(child[0].astext()):
                continue
        found += [(section, text) for text in child.findall(nodes.Text)]
    return found


def places(env: BuildEnvironment) -> dict[tuple[str, str], tuple[str, str]]:
    """Where each thing with a number stands: (kind, number) -> (page, anchor)."""
    if not hasattr(env, "book_places"):
        env.book_places = {}
    return env.book_places


def collect_places(app: Sphinx, doctree: nodes.document) -> None:
    """Write down where the chapter that was read, its figures, equations and exercises stand."""
    page = app.env.docname
    chapter = number_of(page)
    if chapter is None:
        return
    found = places(app.env)
    found["chapter", str(chapter)] = (page, "")
    for kind, number, node in numbered_things(doctree):
        found[kind, number] = (page, node["ids"][0])


def numbered_things(doctree: nodes.document) -> Iterator[tuple[str, str, nodes.Element]]:
    """What has a number in a chapter: (kind, number, node)."""
    for node in doctree.findall(nodes.Element):
        name = next(iter(node.get("ids", [])), "")
        if isinstance(node, nodes.section) and "exercise" in node["classes"]:
            yield "exercise", EXERCISE.match(node[0].astext())[1], node
        for kind in ("figure", "equation"):
            if match := re.fullmatch(rf"{ANCHOR[kind]}-(\d+)-(\d+)", name):
                yield kind, f"{match[1]}.{match[2]}", node


def write_data(app: Sphinx, exception: Exception | None) -> None:
    """Write the scripts that aids.js loads for its cards."""
    if exception or not isinstance(app.builder, StandaloneHTMLBuilder):
        return
    edition = EDITIONS[app.config.book_lang]
    static = Path(app.outdir) / "_static"
    cards = {
        term.anchor: [term.name, term.counterpart, term.meaning]
        for term in glossary.terms(edition.lang)
    }
    write_script(static / "glossary.js", "glossary", cards)
    for chapter in contents.chapters(edition):
        if chapter.file in app.env.found_docs:
            cards = previews(app.builder, chapter, edition)
            write_script(static / "previews" / f"{chapter.file}.js", chapter.file, cards)


def write_script(path: Path, name: str, data: dict) -> None:
    """A script that leaves `data` in BOOK_CARDS under a name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    path.write_text(f'(window.BOOK_CARDS ??= {{}})["{name}"] = {text};\n', encoding="utf-8")


def previews(
    builder: StandaloneHTMLBuilder, chapter: contents.Chapter, edition: Edition
) -> dict[str, dict[str, str]]:
    """What the cards show of a chapter, by anchor; the chapter itself has none."""
    title = f"{chapter.number} · {chapter.title}"
    found = {"": {"title": title, "text": html.escape(chapter.question)}}
    doctree = builder.env.get_doctree(chapter.file)
    for kind, number, node in numbered_things(doctree):
        card = found[node["ids"][0]] = {"kind": kind}
        if kind == "equation":
            card["title"] = edition.equation_title.format(number)
            card["tex"] = node.next_node(nodes.math_block).astext()
        elif kind == "figure":
            image = node.next_node(nodes.image)
            card["image"] = f"_images/{builder.images[image['uri']]}"
            card["alt"] = image.get("alt", "")
            card["text"] = inline_html(node.next_node(nodes.caption))
        else:
            card["title"] = node[0].astext()
            texts = (p for p in node.findall(nodes.paragraph) if "difficulty" not in p["classes"])
            card["text"] = inline_html(next(texts))
    return found


def inline_html(node: nodes.Node) -> str:
    """The inside of a paragraph as plain HTML without links; formulas as MathJax reads them."""
    if isinstance(node, nodes.Text):
        return html.escape(str(node), quote=False)
    if isinstance(node, nodes.math):
        return f'<span class="math">\\({html.escape(node.astext(), quote=False)}\\)</span>'
    inner = "".join(map(inline_html, node.children))
    tags = {nodes.strong: "strong", nodes.emphasis: "em", nodes.literal: "code"}
    tag = tags.get(type(node))
    return f"<{tag}>{inner}</{tag}>" if tag else inner


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_transform(Equations)
    app.add_transform(GlossaryRows)
    app.add_post_transform(Marks)
    app.connect("doctree-read", collect_places)
    app.connect("build-finished", write_data)
    return {"parallel_read_safe": False}  # the places are collected in one process
