"""What keeps a reader out of the site, or waiting: barriers, weight, a place that is not the root of a server.

Barriers are looked for by axe-core (vendored, see book/vendor.sh): WCAG 2.1 A and AA, and its best practices.
"""

import functools
import gzip
import http.server
import io
import re
import threading
from base64 import b64decode
from pathlib import Path
from types import SimpleNamespace

import pytest
from fontTools.ttLib import TTFont
from PIL import Image

from book import contents, trim
from book.editions import EDITIONS
from book.home_figure import STATIC
from book.page_context import add_context
from site_pages import CHAPTERS, PAGES, PHONE, QuietHandler, fresh, listen, until

AXE = Path(__file__).with_name("axe") / "axe.min.js"
OBSERVE = Path(__file__).with_name("axe_observations.js")
LAPTOP = {"width": 1280, "height": 800}
KINDS = ("index", "07_derivation", "glossary", "solutions", "references", "search")
FIRST_VISIT = 1_500_000  # bytes, as a server sends them that compresses text


def is_compressed(path):
    return path.suffix in (".webp", ".png", ".woff", ".woff2")


def served(path):
    """How many bytes a server sends that compresses."""
    content = path.read_bytes()
    return len(content if is_compressed(path) else gzip.compress(content, 6))


@pytest.fixture
def calm(browser):
    """A page on which nothing moves, so that colours are what they will be."""
    with fresh(browser, viewport=LAPTOP, reduced_motion="reduce") as page:
        yield page


def barriers(page, theme):
    """What axe finds on a page with every fold open, in one theme: (rule, what it is about) each."""
    return {tuple(found) for found in page.evaluate(OBSERVE.read_text(encoding="utf-8"), theme)}


@pytest.mark.parametrize("lang", EDITIONS)
def test_no_page_has_a_barrier_in_either_theme(site, calm, lang):
    found = {}
    for name in (*PAGES, "search"):
        calm.goto(site.page(lang, name) + ("?q=KL" if name == "search" else ""))
        calm.evaluate(AXE.read_text(encoding="utf-8"))
        found |= {(name, theme): barriers(calm, theme) for theme in ("light", "dark")}
    assert {place: rules for place, rules in found.items() if rules} == {}


@pytest.mark.parametrize("lang", EDITIONS)
def test_no_page_has_a_barrier_on_a_phone(site, calm, lang):
    calm.set_viewport_size(PHONE)
    calm.route("**/front-door.js", lambda route: route.abort())  # it would lead away
    for address in (f"{site.url}/", *(site.page(lang, name) for name in KINDS)):
        calm.goto(address)
        calm.evaluate(AXE.read_text(encoding="utf-8"))
        assert barriers(calm, "light") == set(), address


@pytest.mark.parametrize("lang", EDITIONS)
def test_no_slides_have_a_barrier(site, calm, lang):
    for name in ("00_ten_minutes", "07_derivation"):
        calm.goto(f"{site.url}/slides/{lang}/{name}.html")
        until(calm, "document.documentElement.dataset.ready !== undefined")
        calm.evaluate(AXE.read_text(encoding="utf-8"))
        assert [barriers(calm, theme) for theme in ("light", "dark")] == [set(), set()], name


def test_axe_sees_a_barrier(site, calm):
    """Guards against an observation that is always empty."""
    calm.goto(site.page("en", "07_derivation"))
    calm.add_style_tag(content=".bd-article .highlight .c1 { color: #bbb !important; }")
    calm.evaluate("document.querySelector('.bd-article img').removeAttribute('alt')")
    calm.evaluate(AXE.read_text(encoding="utf-8"))
    assert {rule for rule, _ in barriers(calm, "light")} == {"color-contrast", "image-alt"}


WIDE = """[...document.querySelectorAll(".bd-article *")].filter((element) =>
    ["auto", "scroll"].includes(getComputedStyle(element).overflowX)
    && element.scrollWidth > element.clientWidth)"""


def test_the_keyboard_reaches_what_is_pushed_sideways(site, page):
    page.goto(site.page("en", "06_objective"))
    page.evaluate("window.MathJax.startup.promise")
    page.evaluate("document.querySelectorAll('details').forEach((fold) => (fold.open = true))")
    until(page, f"{WIDE}.every((element) => element.tabIndex === 0)")
    wide = page.evaluate(f"{WIDE}.map((element) => element.tagName)")
    assert set(wide) == {"PRE", "MJX-CONTAINER", "FIGURE"}
    page.evaluate(f"{WIDE}.find((element) => element.matches('mjx-container')).focus()")
    page.keyboard.press("ArrowRight")
    until(page, "document.activeElement.scrollLeft > 0")
    page.set_viewport_size(LAPTOP)
    stops = ".bd-article :is(mjx-container, figure)[tabindex='0']"
    until(page, f'document.querySelectorAll("{stops}").length === 0')


@pytest.mark.parametrize("lang", EDITIONS)
def test_formulas_are_as_large_as_ever_where_the_font_comes_late(site, page, lang):
    """Guards against measuring a stand-in for the font: formulas stayed a tenth too large, and too wide."""
    page.route("**/*.woff2", lambda route: route.abort())
    page.goto(site.page(lang, "06_objective"))
    page.evaluate("window.MathJax.startup.promise")
    formulas = page.locator("mjx-container")
    sizes = formulas.evaluate_all("all => all.map((formula) => formula.style.fontSize)")
    assert len(sizes) > 100 and set(sizes) == {"107.5%"}


@pytest.mark.parametrize("lang", EDITIONS)
def test_a_chapter_is_light(site, browser, lang):
    for name in CHAPTERS:
        with fresh(browser, viewport=LAPTOP) as page:
            asked = {site.page(lang, name)}
            page.on(
                "request", lambda request, asked=asked: asked.add(request.url.partition("?")[0])
            )
            page.goto(site.page(lang, name))
            page.evaluate("window.MathJax?.startup?.promise")
            page.wait_for_load_state("networkidle")
            files = {site.file(url) for url in asked}
            pictures = {path for path in files if "_images" in path.parts}
            every = page.evaluate("[...document.images].map((image) => image.src)")
        files |= {site.file(url) for url in every}  # as if the reader went to the end at once
        assert sum(map(served, files)) < FIRST_VISIT, name
        assert len(pictures) < len(every), f"{name}: no picture waits"


def test_pictures_lose_nothing_and_keep_their_place(site):
    for path in site.folder.glob("*/*.html"):
        text = path.read_text(encoding="utf-8")
        article = text[text.index('<main id="main-content"') :]
        images = re.findall(r"<img\b[^>]*>", article)
        assert all(re.search(r' width="\d+" height="\d+"', image) for image in images), path.name
        assert [image for image in images[1:] if 'loading="lazy"' not in image] == [], path.name
    stored = next(
        output.data["image/png"]
        for cell in contents.read_notebook("01_strings").cells
        for output in cell.get("outputs", [])
        if output.get("metadata", {}).get("lang") == "en" and "image/png" in output.get("data", {})
    )
    page = (site.folder / "en" / "01_strings.html").read_text(encoding="utf-8")
    shown = site.folder / "en" / re.search(r'src="(_images/\w+\.webp)"', page)[1]
    pictures = [
        Image.open(source).convert("RGBA") for source in (io.BytesIO(b64decode(stored)), shown)
    ]
    clear = [picture.getchannel("A").point(lambda a: 255 * (a > 0)) for picture in pictures]
    ink = [Image.composite(p, Image.new("RGBA", p.size), c) for p, c in zip(pictures, clear)]
    assert ink[0].tobytes() == ink[1].tobytes()


def test_each_icon_that_is_shown_is_in_the_font(site):
    for lang in EDITIONS:
        static = site.folder / lang / "_static"
        style = (static / trim.STYLE).read_text(encoding="utf-8")
        codes = {
            icon: int(code, 16)
            for icons, code in trim.ICON_RULE.findall(style)
            for icon in trim.ICON.findall(icons)
        }
        pages = "".join(p.read_text(encoding="utf-8") for p in (site.folder / lang).glob("*.html"))
        shown = set(re.findall(r"fa-solid (fa-[\w-]+)", pages))
        shown |= set(re.findall(r"theme-switch fa-solid (fa-[\w-]+)", pages))
        assert {"fa-magnifying-glass", "fa-moon", "fa-bars"} <= shown <= codes.keys()
        font = TTFont(static / trim.ICONS).getBestCmap()
        assert {codes[icon] for icon in shown} <= font.keys() and len(font) < 100


def test_the_site_works_below_a_path(site, browser, tmp_path):
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "book").symlink_to(site.folder, target_is_directory=True)
    handler = functools.partial(QuietHandler, directory=tmp_path)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.handle_error = lambda *_: None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    root = f"http://127.0.0.1:{server.server_port}/some/book/"
    with fresh(browser, locale="zh-CN") as page:
        complaints, lost = listen(page), []
        page.on(
            "response", lambda answer: lost.append(answer.url) if answer.status >= 400 else None
        )
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(root)
        page.wait_for_url(f"{root}zh/index.html")
        for lang, edition in EDITIONS.items():
            for name in KINDS:
                page.goto(f"{root}{lang}/{name}.html" + ("?q=KL" if name == "search" else ""))
                page.evaluate("window.MathJax?.startup?.promise")
                if name == "search":
                    page.locator("#search-results .context").first.wait_for()
                page.locator("a.language-switch:visible").click()
                page.wait_for_url(f"{root}{edition.other.lang}/{name}.html*")
    server.shutdown()
    assert complaints == lost == []
    assert [url for url in asked if not url.startswith((root, "data:", "blob:"))] == []


@pytest.mark.parametrize("lang", EDITIONS)
def test_a_link_to_a_page_has_a_preview(site, lang):
    edition = EDITIONS[lang]
    descriptions = {}
    for name in PAGES:
        page = (site.folder / lang / f"{name}.html").read_text(encoding="utf-8")
        said = dict(re.findall(r'<meta property="og:([\w:]+)" content="([^"]*)"', page))
        assert said["title"] and said["site_name"] == edition.title, name
        assert f'name="description" content="{said["description"]}"' in page
        with Image.open(site.folder / lang / said["image"]) as picture:
            assert picture.size == (int(said["image:width"]), int(said["image:height"]))
        descriptions[name] = said["description"]
    assert len({descriptions[name] for name in CHAPTERS}) == len(CHAPTERS)


def test_a_preview_has_a_whole_address_where_the_site_has_one(tmp_path):
    context = {}
    address = "https://example.org/book/zh/"
    config = SimpleNamespace(book_lang="zh", book_paper=str(tmp_path), html_baseurl=address)
    add_context(SimpleNamespace(config=config), "glossary", "page.html", context, None)
    assert context["preview"] == "https://example.org/book/zh/_static/social-zh.png"


@pytest.mark.parametrize("lang", EDITIONS)
def test_covers_have_the_size_of_covers(lang):
    for name, size in (("cover", (1600, 2400)), ("social", (1200, 630))):
        with Image.open(STATIC / f"{name}-{lang}.png") as picture:
            assert picture.size == size


@pytest.mark.parametrize(
    ("stored", "system", "theme"),
    [
        (None, "dark", "dark"),
        (None, "light", "light"),
        ("dark", "light", "dark"),
        ("light", "dark", "light"),
        ("purple", "dark", "dark"),
    ],
)
def test_light_or_dark_is_known_before_the_page_is_drawn(site, browser, stored, system, theme):
    with fresh(browser, color_scheme=system) as page:
        page.goto(f"{site.url}/en/_static/mark.svg")
        if stored:
            page.evaluate("mode => localStorage.setItem('mode', mode)", stored)
        page.add_init_script("""new MutationObserver((_, watch) => {
            if (!document.body) return;
            window.early = document.documentElement.dataset.theme;
            watch.disconnect();
        }).observe(document, { childList: true, subtree: true });""")
        page.goto(site.page("en", "notation"))
        assert page.evaluate("window.early") == theme


def test_a_printed_chapter_has_all_of_its_text_and_nothing_to_click(site, page):
    page.set_viewport_size({"width": 718, "height": 1000})
    page.goto(site.page("en", "07_derivation"))
    page.evaluate("window.MathJax.startup.promise")
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    hidden = "header.bd-header, #pst-primary-sidebar, #pst-secondary-sidebar, .prev-next-footer, .copybtn"
    assert (
        page.evaluate(f"""[...document.querySelectorAll("{hidden}")]
        .filter((element) => element.checkVisibility()).length""")
        == 0
    )
    assert page.evaluate("""[...document.querySelectorAll("details.second-reading")]
        .every((fold) => fold.open)""")
    until(page, "[...document.images].every((image) => image.complete && image.naturalWidth)")
    assert page.evaluate(f"{WIDE}.length") == 0
    ends = page.evaluate("""[...document.querySelectorAll(".bd-article :is(pre, figure, table)")]
        .filter((part) => part.checkVisibility())
        .map((part) => part.getBoundingClientRect().right)""")
    assert ends and max(ends) <= 718
