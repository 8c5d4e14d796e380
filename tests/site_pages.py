"""The site in a reader's browser, for every test that looks at it: both editions, built anew, in headless Chromium.

A plugin of pytest (see conftest.py). Without a browser such tests skip; with CI=1 or CI=true they fail.
"""

import functools
import http.server
import os
import shutil
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import pytest
from filelock import FileLock

from book import contents
from book.build import build
from book.editions import EN
from book.paper import files

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
PHONE = {"width": 390, "height": 844}
CHAPTERS = [chapter.file for chapter in contents.chapters(EN)]
PAGES = ["index", CHAPTERS[0], contents.LAB, *CHAPTERS[1:], *contents.APPENDICES]


@dataclass
class Site:
    folder: Path
    url: str

    def page(self, lang, name):
        return f"{self.url}/{lang}/{name}.html"

    def file(self, url):
        path = self.folder / unquote(url.removeprefix(self.url).partition("?")[0].lstrip("/"))
        return path / "index.html" if path.is_dir() else path


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The built site, one for all workers: a build takes the better part of a minute."""
    own = tmp_path_factory.getbasetemp()
    place = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "site"
    place.mkdir(exist_ok=True)
    folder, paper = place / "html", place / "paper"
    with FileLock(place / "lock"):
        if not folder.exists():  # where a build ends
            paper.mkdir(exist_ok=True)  # English has been made for paper, Chinese has not
            for form in files.FORMS:
                files.path(EN, form, paper).write_bytes(b"a book")
            build(folder, paper)
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(QuietHandler, directory=folder)
    )
    server.handle_error = lambda *_: None  # a browser that leaves a page drops its requests
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Site(folder, f"http://127.0.0.1:{server.server_port}")
    server.shutdown()


@pytest.fixture(scope="session")
def browser():
    if os.environ.get("CI", "").lower() not in ("1", "true"):
        pytest.importorskip("playwright")
        if not BROWSER:
            pytest.skip("no chromium or google-chrome on the PATH")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=OPTIONS)
        yield browser
        browser.close()


@contextmanager
def fresh(browser, **settings):
    """A page of a browser that has seen nothing yet; by light, unless the settings say otherwise."""
    with closing(browser.new_context(**{"color_scheme": "light"} | settings)) as context:
        yield context.new_page()


@pytest.fixture
def page(browser):
    with fresh(browser, viewport=PHONE) as page:
        yield page


def observe(page, addresses, script, ready=lambda: None):
    """What a script finds in each page once it is `ready`, with what the page asks for and complains of.

    Returns:
        {key: observations} for {key: address}.
    """
    observations, requests = {}, []
    page.on("request", lambda request: requests.append(request.url))
    console = listen(page)
    for key, address in addresses.items():
        requests.clear(), console.clear()
        page.goto(address)
        ready()
        seen = page.evaluate(script)
        observations[key] = seen | {"requests": [*requests], "console": [*console]}
    return observations


def listen(page):
    """The list of what goes wrong on `page` from now on: errors, warnings, and what its policy refuses."""
    complaints = []
    page.on(
        "console",
        lambda message: (
            complaints.append(message.text) if message.type in ("error", "warning") else None
        ),
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.add_init_script("""document.addEventListener("securitypolicyviolation", (event) =>
        console.error("refused", event.effectiveDirective, event.blockedURI));""")
    return complaints


def until(page, condition, arg=None, seconds=30):
    """Wait until an expression, or a function of `arg`, is true in the page; its policy forbids the browser's own way."""
    end = time.monotonic() + seconds
    while not page.evaluate(condition, arg):
        assert time.monotonic() < end, f"not within {seconds} s: {condition}"
        time.sleep(0.02)
