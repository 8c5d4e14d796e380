"""Makes a deck of slides for each chapter, in each language, from what the chapter itself says: for those who teach it.

slides.toml says what a slide shows, by names that it finds in the chapter: the English heading of a section, and in it
sentences by their first words, formulas by their first signs, figures by their numbers, questions, code. A name that
finds nothing stops the build, so no deck falls behind its chapter. The card, "What the toy hides", "To remember" and
the exercises are found by their own forms. The prose between two slides makes the notes of the first.
"""

import hashlib
import html
import re
import struct
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise, takewhile
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from book import bibliography, contents
from book.contents import Chapter
from book.editions import EDITIONS, Edition
from book.forms import CLOSING, EXERCISE
from book.languages import SourceError, slug
from book.passages import MARKDOWN, Passage, bare, passages, sentences
from book.reading import DISPLAYED, LEFT_OUT, STAR

Item = str | list[str]  # a name of slides.toml; of a sentence, its first words in each language
COUNTED = re.compile(r"(?P<kind>question|list|table|fence)(?: (?P<number>\d+))?$")
FORMULA = re.compile(r'(<span class="math">[^<]*</span>)(' + CLOSING.pattern + ")")
MAY_DIFFER = re.compile(r"\\text\{[^}]*\}|\s")  # between a formula and its twin
EXERCISES = ("Exercises", "练习")
SPOKEN = ("heading", "sentence", "formula", "list", "table", "fence", "quote", "ask")
PLAIN = HtmlFormatter(nowrap=True)
CHAPTER_LINK = re.compile(r"(?P<chapter>\d\d_\w+)\.ipynb(?P<anchor>#.*)?$")


@dataclass
class Slide:
    """What stands on one slide, as HTML."""

    kind: str  # section, or the name of a card
    title: str
    anchor: str  # where the chapter's page says it
    body: list[str] = field(default_factory=list)
    notes: str = ""


@cache
def plan() -> dict[str, list[list[Item]]]:
    """The slides of each chapter: a heading, and the names of what is shown."""
    return tomllib.loads((contents.BOOK / "slides.toml").read_text(encoding="utf-8"))


def write_slides(site: Path) -> None:
    """Write the decks into `site`/slides. They show the pictures that lie in the two editions there."""
    templates = Environment(loader=FileSystemLoader(contents.BOOK / "_templates"), autoescape=True)
    template = templates.get_template("slides.html")
    for edition in EDITIONS.values():
        folder = site / "slides" / edition.lang
        folder.mkdir(parents=True)
        pictures = {path.stem: path.name for path in (site / edition.lang / "_images").iterdir()}
        chapters = contents.chapters(edition)
        for chapter, following in zip(chapters, [*chapters[1:], None]):
            slides = deck(chapter, edition, pictures)
            page = template.render(
                edition=edition,
                chapter=chapter,
                following=following,
                slides=slides,
                static=f"../../{edition.lang}/_static",
            )
            (folder / f"{chapter.file}.html").write_text(page + "\n", encoding="utf-8")


def deck(chapter: Chapter, edition: Edition, pictures: dict[str, str]) -> list[Slide]:
    """The slides between a chapter's title and the next chapter's; `pictures` has the files of its pictures by digest.

    Raises:
        SourceError: slides.toml names what the chapter does not have, or in another order.
    """
    cells = contents.read_notebook(chapter.file).cells
    said = passages(cells, edition.lang)
    show = Show(chapter, edition, pictures)
    slides, places = [show.card(said, "opening")], [0]
    if chapter.file not in plan():
        raise show.problem("nothing says what its slides show")
    for heading, *names in plan()[chapter.file]:
        begin, section = show.section(said, heading)
        found = [(name, begin + show.find(name, section)) for name in names if show.is_said(name)]
        if not found:
            raise show.problem(f"a slide of “{heading}” shows nothing of it")
        first = min(place for _, place in found)
        anchor = section[0].section
        is_new = anchor != slides[-1].anchor and begin >= places[-1]
        places.append(begin if is_new else first)  # a section's first slide has its first words
        title = show.inline(section[0].text.removeprefix(STAR).strip())
        body = [show.shown(name, said[place]) for name, place in found]
        slides.append(Slide("section", title, anchor, body))
        if places != sorted(places):
            raise show.problem(f"a slide of “{heading}” stands before one that it should follow")
    for slide, begin, end in zip(slides, places, [*places[1:], len(said)]):
        slide.notes = show.notes(said[begin:end])
    return [*slides, show.card(said, "hides"), show.card(said, "remember"), show.exercises(said)]


@dataclass(frozen=True)
class Show:
    """Shows the passages of one chapter in one language as HTML."""

    chapter: Chapter
    edition: Edition
    pictures: dict[str, str]

    def problem(self, what: str) -> SourceError:
        return SourceError(f"book/slides.toml, {self.chapter.file}, {self.edition.name}: {what}")

    def section(self, said: list[Passage], heading: str) -> tuple[int, list[Passage]]:
        """The passages under an English heading, which comes first, and its place in the chapter."""
        anchor = slug(heading)
        begin = next((i for i, passage in enumerate(said) if passage.section == anchor), None)
        if begin is None:
            raise self.problem(f"no section has the heading “{heading}”")
        first, *rest = said[begin:]
        inside = takewhile(lambda one: one.kind != "heading" or one.level > first.level, rest)
        return begin, [first, *inside]

    def is_said(self, name: Item) -> bool:
        """Whether this language has what a name means: one sentence can be two in the other."""
        return isinstance(name, str) or bool(self.start(name))

    def start(self, name: list[str]) -> str:
        """The first words of a sentence in this language."""
        return name[list(EDITIONS).index(self.edition.lang)]

    def find(self, name: Item, section: Sequence[Passage]) -> int:
        """Which of a section's passages a name of slides.toml means."""
        places = [i for i, passage in enumerate(section) if self.means(name, passage)]
        counted = COUNTED.match(name) if isinstance(name, str) else None
        if counted and counted["number"]:
            places = places[int(counted["number"]) - 1 :]
        if not places or (len(places) > 1 and not counted):
            raise self.problem(f"{len(places)} passages of “{section[0].text}” are {name!r}")
        return places[0]

    def means(self, name: Item, passage: Passage) -> bool:
        """Whether a name of slides.toml, its number aside, may mean this passage."""
        if isinstance(name, list):
            return passage.kind == "sentence" and passage.text.startswith(self.start(name))
        if counted := COUNTED.match(name):
            return passage.kind == {"question": "ask"}.get(counted["kind"], counted["kind"])
        if name.startswith("$"):
            return bool(formula_in(passage.text, name)) and passage.kind in ("formula", "sentence")
        kind, rest = name.split(" ", 1)
        if kind == "figure":
            return passage.number == rest
        if kind == "code":
            return passage.kind == "code" and bool(excerpt(passage.text, rest))
        if kind == "prints":
            return bool(passage.printed) and rest in passage.text
        raise self.problem(f"{name!r} is no name of anything")

    def shown(self, name: Item, passage: Passage) -> str:
        """What a slide shows of a passage under a name."""
        if isinstance(name, list):
            return f'<div class="say">{self.rendered(passage.text)}</div>'
        if name.startswith("$"):
            return self.rendered(f"$${formula_in(passage.text, name)}$$")
        if passage.kind == "ask":
            return self.question(passage)
        if passage.kind == "figure":
            return self.figure(passage)
        if name.startswith("code"):
            return code(excerpt(passage.text, name.split(" ", 1)[1]))
        if name.startswith("prints"):
            return f'<pre class="printed">{html.escape(passage.printed)}</pre>'
        return self.rendered(passage.text)

    def figure(self, passage: Passage) -> str:
        """A figure with its caption."""
        files = [self.pictures[hashlib.sha256(png).hexdigest()] for png in passage.pictures]
        folder, alt = f"../../{self.edition.lang}/_images", html.escape(passage.alt)
        images = "".join(f'<img src="{folder}/{file}" alt="{alt}">' for file in files)
        tall = ' class="tall"' if all(map(is_tall, passage.pictures)) else ""
        caption = f"<figcaption>{self.inline(passage.text)}</figcaption>"
        return f"<figure{tall}>{images}{caption}</figure>"

    def question(self, passage: Passage) -> str:
        """A question; its answer comes with the next step."""
        answer = f'<p class="label">{passage.fold}</p>{self.rendered(passage.answer)}'
        return (
            f'<div class="ask"><p class="label">{passage.title}</p>{self.rendered(passage.text)}</div>'
            f'<div class="answer fragment">{answer}</div>'
        )

    def card(self, said: list[Passage], kind: str) -> Slide:
        """The slide of one of the chapter's cards."""
        card = next((passage for passage in said if passage.kind == kind), None)
        if card is None:
            raise self.problem(f"the chapter has no card of the kind “{kind}”")
        paragraphs = re.split(r"\n\s*\n", card.text.strip())
        if kind != "remember":  # a sentence a line
            paragraphs = [one for text in paragraphs for one in sentences(text, self.edition.lang)]
        return Slide(kind, card.title, card.section, [self.rendered("\n\n".join(paragraphs))])

    def exercises(self, said: list[Passage]) -> Slide:
        """The titles of the exercises, each with its difficulty."""
        items = []
        for passage, following in pairwise(said):
            if passage.kind == "heading" and EXERCISE.match(passage.text):
                link = f'<a href="{self.page(passage.section)}">{self.inline(passage.text)}</a>'
                items.append(f'<li>{link}<span class="difficulty">{following.text}</span></li>')
        heading = next(p for p in said if p.kind == "heading" and p.text in EXERCISES)
        body = [f'<ul class="exercises">{"".join(items)}</ul>']
        return Slide("exercises", heading.text, heading.section, body)

    def notes(self, said: list[Passage]) -> str:
        """The chapter's own words as a speaker's notes; what lies beside the main road is left out."""
        beside, parts = False, []
        for passage in said:
            if passage.kind == "heading":
                if passage.level <= 2:
                    beside = bool(LEFT_OUT.match(passage.text)) or passage.text.startswith(STAR)
                if passage is said[0] or beside:
                    continue
            if beside or passage.kind not in SPOKEN:
                continue
            if passage.kind == "sentence" and parts and not passage.begins:
                parts[-1] += f" {passage.text}" if self.edition.lang == "en" else passage.text
            elif passage.kind == "heading":
                parts.append(f"**{passage.text}**")
            else:
                parts.append(f"{passage.text}\n\n{passage.answer}".strip())
        return self.rendered("\n\n".join(parts))

    def rendered(self, text: str) -> str:
        """Markdown as HTML. A formula stays on one line with the punctuation that follows it."""
        result = MARKDOWN.render(text, {"show": self})
        return FORMULA.sub(r'<span class="together">\1\2</span>', result)

    def inline(self, text: str) -> str:
        """A paragraph of Markdown as HTML, without its tags."""
        return self.rendered(text).strip().removeprefix("<p>").removesuffix("</p>")

    def page(self, anchor: str = "", chapter: str = "") -> str:
        """The address of a place on a page of the book, from a deck."""
        place = f"#{anchor}" if anchor else ""
        return f"../../{self.edition.lang}/{chapter or self.chapter.file}.html{place}"

    def address(self, target: str) -> str:
        """Where a link of the chapter leads from a deck."""
        if match := CHAPTER_LINK.match(target):
            return self.page((match["anchor"] or "").lstrip("#"), match["chapter"])
        if entry := bibliography.by_url().get(target):
            return self.page(f"ref-{entry.key}", "references")
        return target


def formula_in(text: str, name: str) -> str:
    """The TeX of the displayed formula in a passage that begins as `name` does, without its last mark; else ""."""
    start = MAY_DIFFER.sub("", bare(name))
    for formula in DISPLAYED.findall(text):
        if MAY_DIFFER.sub("", bare(formula)).startswith(start):
            return bare(formula).rstrip(".,;")
    return ""


def is_tall(png: bytes) -> bool:
    """Whether a picture, by the size in its header, is better seen beside its caption than above it."""
    width, height = struct.unpack(">2I", png[16:24])
    return height > 0.8 * width


def excerpt(source: str, start: str) -> str:
    """The function, class or group of lines in a cell that begins with `start`; "" if none does."""
    lines = source.splitlines()
    begin = next((i for i, line in enumerate(lines) if line.startswith(start)), None)
    if begin is None:
        return ""
    end = begin + 1
    while end < len(lines) and not (lines[end - 1] == "" and lines[end][:1] not in ("", " ", ")")):
        end += 1
    return "\n".join(lines[begin:end]).rstrip()


def code(source: str) -> str:
    """Python as the site colours it."""
    return f'<pre class="highlight">{highlight(source, PythonLexer(), PLAIN)}</pre>'


def formula(self: RendererHTML, tokens: Sequence[Token], i: int, options: object, env: dict) -> str:
    """A formula as MathJax finds it."""
    tex = html.escape(tokens[i].content.strip())
    if tokens[i].type == "math_block":
        return f'<div class="math">\\[{tex}\\]</div>\n'
    return f'<span class="math">\\({tex}\\)</span>'


def link(self: RendererHTML, tokens: Sequence[Token], i: int, options: object, env: dict) -> str:
    """The beginning of a link, which leads from the deck to where it leads from the chapter."""
    tokens[i].attrSet("href", env["show"].address(str(tokens[i].attrGet("href"))))
    return self.renderToken(tokens, i, options, env)


def fence(self: RendererHTML, tokens: Sequence[Token], i: int, options: object, env: dict) -> str:
    """A block of code or of text."""
    if tokens[i].info.strip() == "python":
        return code(tokens[i].content)
    return f'<pre class="printed">{html.escape(tokens[i].content)}</pre>'


for kind in ("math_block", "math_inline", "math_inline_double"):
    MARKDOWN.add_render_rule(kind, formula)
MARKDOWN.add_render_rule("link_open", link)
MARKDOWN.add_render_rule("fence", fence)
