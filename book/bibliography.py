"""Reads references.bib. A link in a chapter to an entry's `url` is a citation of that entry."""

import html
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pybtex.database import Entry as BibEntry
from pybtex.database import parse_file

from book.editions import Edition

BIB = Path(__file__).parent / "references.bib"
MOST_AUTHORS = 4  # a longer list is cut to its first author


@dataclass(frozen=True)
class Entry:
    key: str
    authors: tuple[str, ...]
    title: str
    venue: str
    year: str
    url: str

    def names(self, edition: Edition) -> str:
        """The authors as a reference list prints them."""
        if len(self.authors) > MOST_AUTHORS:
            return f"{self.authors[0]} {edition.and_others}"
        return edition.comma.join(self.authors)

    def tooltip(self, edition: Edition) -> str:
        """What a citation shows before it is followed."""
        return f"{self.names(edition)} ({self.year}). {self.title}. {self.venue}."


@cache
def entries() -> tuple[Entry, ...]:
    """All entries, by first author and year."""
    found = [
        _entry(key, entry)
        for key, entry in parse_file(str(BIB), bib_format="bibtex").entries.items()
    ]
    return tuple(sorted(found, key=lambda entry: (entry.authors[0].split()[-1], entry.year)))


@cache
def by_url() -> dict[str, Entry]:
    """The entries under their addresses."""
    return {entry.url: entry for entry in entries()}


def _entry(key: str, entry: BibEntry) -> Entry:
    fields = entry.fields
    venue = (
        fields.get("journal")
        or fields.get("booktitle")
        or fields.get("publisher")
        or fields.get("howpublished")
    )
    if not venue:
        raise ValueError(
            f"references.bib: {key} names no journal, booktitle, publisher or howpublished"
        )
    people = (
        " ".join([*p.first_names, *p.middle_names, *p.prelast_names, *p.last_names])
        for p in entry.persons["author"]
    )
    return Entry(
        key,
        tuple(map(_plain, people)),
        _plain(fields["title"]),
        _plain(venue),
        fields["year"],
        fields["url"],
    )


def _plain(bibtex: str) -> str:
    """A field without the braces that protect capitals."""
    return re.sub(r"\s+", " ", bibtex.replace("{", "").replace("}", ""))


def reference_list(edition: Edition, cited_in: dict[str, list[str]]) -> str:
    """The reference list as Markdown; `cited_in` maps an address to links to the chapters that cite it."""
    return "\n\n".join(_item(entry, edition, cited_in.get(entry.url, [])) for entry in entries())


def _item(entry: Entry, edition: Edition, chapters: list[str]) -> str:
    text = html.escape(f"{entry.names(edition)} ({entry.year}). ", quote=False)
    text += f"[{html.escape(entry.title, quote=False)}]({entry.url}). *{html.escape(entry.venue, quote=False)}*."
    if chapters:
        text += f" {edition.cited_in} {edition.comma.join(chapters)}."
    return f"(references--ref-{entry.key})=\n\n{{.reference}}\n{text}"
