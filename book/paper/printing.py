"""Prints the one page that holds the book: `python -m book.paper.printing PAGE.html BOOK.pdf`.

It is printed twice: the first time shows on which page each heading falls, and these numbers go into the contents and
the links of the second.
"""

import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

import pikepdf
from playwright.sync_api import Page

from book.paper import browser

READY = "Promise.all([window.MathJax?.startup?.promise, document.fonts.ready])"
MINUTES = 60_000  # milliseconds in one
# <glyph> <character>, or <first glyph> <last glyph> <first character>; radicals are U+2E80 to U+2FD5
RADICAL = re.compile(
    rb"^(?P<glyphs><\w+>(?: <\w+>)?) <(?P<radical>2[EF][0-9A-F]{2})>$", re.MULTILINE
)
SIMPLIFIED = str.maketrans(  # those that Unicode's normalisation leaves as they are
    "⺟⻄⻅⻆⻉⻋⻓⻔⻘⻙⻚⻛⻜⻝⻢⻣⻤⻥⻦⻧⻨⻩⻬⻮⻰⻳",
    "母西见角贝车长门青韦页风飞食马骨鬼鱼鸟卤麦黄齐齿龙龟",
)


def print_book(source: Path, target: Path) -> None:
    """Print the page at `source`. Raises NoBrowserError."""
    draft = target.with_name(f"draft-{target.name}")
    with browser.page() as page:
        page.set_default_timeout(10 * MINUTES)
        page.goto(source.resolve().as_uri())
        page.evaluate(f"{READY}.then(arrange)")
        write(page, draft)
        page.evaluate("numbers => showPages(numbers)", numbers(draft))
        write(page, draft)
        headings = page.locator("h1, h2, h3, h4").all_text_contents()
        author = page.locator("meta[name=author]").get_attribute("content")
        facts = {"/Title": page.title(), "/Author": author}
    finish(draft, target, headings, facts)
    draft.unlink()


def write(page: Page, target: Path) -> None:
    """Print as the style sheet says, with bookmarks and with the structure that screen readers need."""
    page.pdf(
        path=target, prefer_css_page_size=True, print_background=True, outline=True, tagged=True
    )


def numbers(pdf: Path) -> dict[str, int]:
    """The page of each place that a link leads to, by its id."""
    with pikepdf.open(pdf) as book:
        page_of = {page.objgen: number for number, page in enumerate(book.pages, 1)}
        places = book.Root.Dests.items()
        return {name.removeprefix("/"): page_of[place[0].objgen] for name, place in places}


def finish(draft: Path, target: Path, headings: list[str], facts: dict[str, str]) -> None:
    """Say in the file what it is, put its bookmarks right, and pack it: what screen readers need is large.

    A bookmark lacks the space where its heading goes on in a second line.
    """
    with pikepdf.open(draft) as book:
        with book.open_outline() as outline:
            for bookmark, heading in zip(flat(outline.root), headings, strict=True):
                bookmark.title = " ".join(heading.split())
        for font in book.objects:
            if isinstance(font, pikepdf.Dictionary) and "/ToUnicode" in font:
                said = font.ToUnicode.read_bytes()
                font.ToUnicode.write(RADICAL.sub(as_character, said))
        book.docinfo = book.make_indirect(pikepdf.Dictionary(facts))
        book.Root.PageMode = pikepdf.Name.UseOutlines
        book.save(target, object_stream_mode=pikepdf.ObjectStreamMode.generate)


def as_character(line: re.Match) -> bytes:
    """A line of a font's table that names a character where the browser named the radical of the same shape.

    Without this, nobody finds 一 in a file that says U+2F00.
    """
    codes = re.findall(rb"<(\w+)>", line["glyphs"])
    first, last = int(codes[0], 16), int(codes[-1], 16)
    start = int(line["radical"], 16)
    same = [
        unicodedata.normalize("NFKC", chr(radical).translate(SIMPLIFIED))
        for radical in range(start, start + last - first + 1)
    ]
    said = " ".join(f"<{ord(character):04X}>" for character in same).encode()
    return line["glyphs"] + b" " + (b"[" + said + b"]" if len(codes) == 2 else said)


def flat(bookmarks: Iterable[pikepdf.OutlineItem]) -> Iterator[pikepdf.OutlineItem]:
    """Bookmarks with those below them, in the order of the book."""
    for bookmark in bookmarks:
        yield bookmark
        yield from flat(bookmark.children)


if __name__ == "__main__":
    try:
        print_book(*map(Path, sys.argv[1:]))
    except browser.NoBrowserError as error:
        sys.exit(f"book: {error}")
