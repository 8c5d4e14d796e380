"""The browser that prints the book and turns its formulas into MathML: Chromium, without a window."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Page, Playwright, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


class NoBrowserError(Exception):
    """There is no Chromium; the message says what is missing."""


def find(playwright: Playwright) -> str:
    """The browser of this machine: one on the PATH, or the one that `playwright install` has put beside it.

    Raises:
        NoBrowserError: there is neither.
    """
    own = playwright.chromium.executable_path
    found = next(filter(None, map(shutil.which, NAMES)), own if os.path.exists(own) else None)
    if not found:
        raise NoBrowserError(
            f"no browser to print with: {', '.join(NAMES)} is not on the PATH "
            "(Debian: apt install chromium; elsewhere: python -m playwright install chromium)"
        )
    return found


@contextmanager
def page() -> Iterator[Page]:
    """An empty page in the browser. Raises NoBrowserError."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find(playwright), args=OPTIONS)
        try:
            yield browser.new_page()
        finally:
            browser.close()
