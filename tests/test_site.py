"""The site as a reader's browser sees it: both editions, built anew, in headless Chromium on a phone's screen.

Without a browser these tests skip in one line; with CI=1 or CI=true they fail.
"""

import functools
import http.server
import os
import re
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urldefrag, urljoin

import nbformat
import pytest

from book import contents
from book.build import build
from book.editions import EDITIONS, EN

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
if os.environ.get("CI", "").lower() not in ("1", "true"):
    pytest.importorskip("playwright")
    if not BROWSER:
        pytest.skip("no chromium or google-chrome on the PATH", allow_module_level=True)

from playwright.sync_api import sync_playwright  # noqa: E402  (only where there is a browser)

OBSERVE = Path(__file__).with_name("site_observations.js")
PHONE = {"width": 390, "height": 844}
CHAPTERS = [chapter.file for chapter in contents.chapters(EN)]
PAGES = ["index", *CHAPTERS, *contents.APPENDICES]
HAN = re.compile(r"[\u4e00-\u9fff]")


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
    folder = tmp_path_factory.mktemp("site") / "html"
    build(folder)
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(QuietHandler, directory=folder)
    )
    server.handle_error = lambda *_: None  # a browser that leaves a page drops its requests
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Site(folder, f"http://127.0.0.1:{server.server_port}")
    server.shutdown()


@pytest.fixture(scope="session")
def browser():
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=BROWSER, args=options)
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    context = browser.new_context(viewport=PHONE, color_scheme="light")
    yield context.new_page()
    context.close()


@pytest.fixture(scope="session")
def seen(site, browser):
    """What each page of each edition looks like and asks for: {(lang, page): observations}."""
    observations, requests, console = {}, [], []
    context = browser.new_context(viewport=PHONE)
    page = context.new_page()
    page.on("request", lambda request: requests.append(request.url))
    page.on(
        "console",
        lambda message: (
            console.append(message.text) if message.type in ("error", "warning") else None
        ),
    )
    page.on("pageerror", lambda error: console.append(str(error)))
    for lang in EDITIONS:
        for name in PAGES:
            requests.clear(), console.clear()
            page.goto(site.page(lang, name))
            found = page.evaluate(OBSERVE.read_text(encoding="utf-8"))
            observations[lang, name] = found | {"requests": [*requests], "console": [*console]}
    context.close()
    return observations


def test_there_are_chapters():
    assert CHAPTERS, "no chapters/*.ipynb: the tests of the site would test nothing"


def test_no_request_leaves_the_site(seen, site):
    asked = {url for observed in seen.values() for url in observed["requests"]}
    assert asked
    assert {url for url in asked if not url.startswith((site.url, "data:", "blob:"))} == set()


def test_pages_say_their_language_and_title(seen):
    for (lang, name), observed in seen.items():
        assert observed["lang"] == EDITIONS[lang].html_lang
        assert observed["title"].endswith(EDITIONS[lang].title), name
    for lang in EDITIONS:
        titles = [seen[lang, name]["title"] for name in PAGES]
        assert len(set(titles)) == len(titles)


def test_console_is_silent(seen):
    assert {key: observed["console"] for key, observed in seen.items() if observed["console"]} == {}


def test_pages_fit_a_phone(seen):
    assert {
        key: observed["width"]
        for key, observed in seen.items()
        if observed["width"] > PHONE["width"]
    } == {}


def test_editions_have_the_same_sections(seen):
    for name in PAGES:
        assert seen["en", name]["sections"] == seen["zh", name]["sections"], name
    assert all(
        not re.fullmatch(r"id\d+", section)
        for observed in seen.values()
        for section in observed["sections"]
    )


def test_mathematics_is_drawn(seen):
    drawn = [count for observed in seen.values() for count in observed["formulas"]]
    assert drawn and set(drawn) == {1}
    assert {key: observed["errors"] for key, observed in seen.items() if observed["errors"]} == {}


def test_no_markup_is_left_in_the_text(seen):
    raw = re.compile(
        r":::|\$\$|\\\(|\\\[|\{[\w:-]+\}`|\*\*\w|^\s*\((?:\w+--)[\w-]+\)=|<!--", re.MULTILINE
    )
    left = {key: raw.findall(observed["prose"]) for key, observed in seen.items()}
    assert {key: found for key, found in left.items() if found} == {}


def test_images_speak_the_language_of_the_page(seen):
    images = [
        (lang, name, *image)
        for (lang, name), observed in seen.items()
        for image in observed["images"]
    ]
    assert images
    for lang, name, alt, width in images:
        assert width > 0 and alt.strip(), name
        assert bool(HAN.search(alt)) == (lang == "zh"), (name, alt)


def test_chapters_have_their_cards_and_figures(seen):
    for lang in EDITIONS:
        for name in CHAPTERS:
            callouts, figures = seen[lang, name]["callouts"], seen[lang, name]["figures"]
            assert callouts[0] == "opening" and {"remember", "hides"} <= set(callouts), (
                lang,
                name,
                callouts,
            )
            assert (
                figures == [f"fig-{int(name[:2])}-{i}" for i in range(1, len(figures) + 1)] != []
            ), (lang, name)


def test_solutions_are_collected(seen):
    for lang in EDITIONS:
        folded = [f"#{section}" for name in CHAPTERS for section in seen[lang, name]["solutions"]]
        assert folded and seen[lang, "solutions"]["back"] == folded


def test_links_within_the_site_arrive(seen, site):
    ids = {site.page(*key): set(observed["ids"]) for key, observed in seen.items()}
    lost = set()
    for key, observed in seen.items():
        for link in filter(lambda link: link.startswith(site.url), observed["links"]):
            address, anchor = urldefrag(link)
            if not site.file(address).is_file() or (
                anchor and address in ids and unquote(anchor) not in ids[address]
            ):
                lost.add((key, link))
    assert lost == set()


def test_next_leads_through_the_whole_book(seen, site):
    for lang in EDITIONS:
        walk = [site.page(lang, "index")]
        while following := seen[lang, Path(walk[-1]).stem]["next"]:
            walk.append(urljoin(walk[-1], following))
        assert walk == [site.page(lang, name) for name in PAGES]


def test_notebooks_can_be_had_in_each_language(seen, site):
    for name in CHAPTERS:
        assert seen["en", name]["notebooks"] == seen["zh", name]["notebooks"]
        notebooks = [
            nbformat.read(site.file(url), as_version=4) for url in seen["en", name]["notebooks"]
        ]
        for lang, notebook in zip(EDITIONS, notebooks):
            nbformat.validate(notebook)
            assert {cell.metadata.get("lang", lang) for cell in notebook.cells} == {lang}
            first = next(cell for cell in notebook.cells if cell.cell_type == "code")
            assert first.source == f"%env BOOK_LANG={lang}"
        assert [c.source for c in notebooks[2].cells] == [
            c.source for c in contents.read_notebook(name).cells
        ]


def test_code_can_be_copied(seen, site, browser):
    buttons = [count for observed in seen.values() for count in observed["copy"]]
    assert buttons and set(buttons) == {1}
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(site.page("zh", CHAPTERS[0]))
    cell = page.locator(".cell_input").first
    cell.hover()
    cell.locator("button.copybtn").click()
    assert (
        page.evaluate("navigator.clipboard.readText()").strip()
        == cell.locator("pre").inner_text().strip()
    )
    context.close()


@pytest.mark.parametrize(("lang", "other"), [("en", "zh"), ("zh", "en")])
def test_language_switch_keeps_page_and_section(seen, site, page, lang, other):
    for name in (CHAPTERS[0], "troubleshooting"):
        section = seen[lang, name]["sections"][2]
        for anchor in (f"#{section}", ""):  # arriving by a link, or by scrolling
            page.goto(site.page(lang, name) + anchor)
            page.evaluate(
                "id => document.getElementById(id).scrollIntoView({behavior: 'instant'})", section
            )
            # a real click scrolls first
            page.locator("a.language-switch:visible").evaluate("link => link.click()")
            page.wait_for_url(f"{site.page(other, name)}#{section}")
            assert page.locator(f"#{section}").count() == 1


def test_language_switch_is_on_every_page(seen, site, page):
    for lang, edition in EDITIONS.items():
        for name in (*PAGES, "search"):
            if name == "search":
                page.goto(site.page(lang, name) + "?q=KL")
                page.locator("a.language-switch:visible").click()
                page.wait_for_url(site.page(edition.other.lang, name) + "?q=KL*")
            else:
                assert site.page(edition.other.lang, name) in seen[lang, name]["links"]


@pytest.mark.parametrize(
    ("lang", "query"),
    [
        *(("en", query) for query in ("KV cache", "entropy", "greedy decoding", "padding")),
        *(
            ("zh", query)
            for query in ("损失掩码", "填充", "贪心解码", "KV 缓存", "熵", "reward model", "chosen")
        ),
    ],
)
def test_search_finds(site, page, lang, query):
    page.goto(f"{site.page(lang, 'search')}?q={quote(query)}")
    page.locator("#search-results a[href^='glossary.html']").first.wait_for()
    quoted = page.locator(
        "#search-results li", has=page.locator("a[href='glossary.html']")
    ).first.locator(".context")
    assert query.lower() in quoted.inner_text().lower()


@pytest.mark.parametrize(
    ("lang", "query"), [("en", "xylophone"), ("zh", "木琴"), ("zh", "贪心掩码")]
)
def test_search_finds_nothing_where_there_is_nothing(site, page, lang, query):
    page.goto(f"{site.page(lang, 'search')}?q={quote(query)}")
    page.locator("#search-results .search-summary:not(:empty)").wait_for()
    assert page.locator("#search-results li").count() == 0


def test_dark_mode_is_kept(site, page):
    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto(site.page("zh", "index"))
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.locator(".bd-header .theme-switch-button").click()
    page.locator(".bd-header .theme-change-button[data-mode=dark]").click()
    page.wait_for_function(f"{ground} !== '{light}'")
    dark = page.evaluate(ground)
    page.goto(site.page("en", "notation"))
    assert page.evaluate(ground) == dark


def test_keyboard_reaches_the_text_first(site, page):
    page.goto(site.page("en", "index"))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('href')") == "#main-content"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


@pytest.mark.parametrize(("locale", "lang"), [("zh-TW", "zh"), ("en-GB", "en"), ("fr-FR", "en")])
def test_front_door_opens_on_the_readers_language(site, browser, locale, lang):
    context = browser.new_context(locale=locale)
    page = context.new_page()
    page.goto(f"{site.url}/index.html")
    page.wait_for_url(site.page(lang, "index"))
    context.close()


def test_front_door_needs_no_script(site, browser):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{site.url}/")
    links = page.locator("a").evaluate_all("links => links.map(link => link.href)")
    assert links == [site.page(lang, "index") for lang in EDITIONS]
    context.close()
