"""The site as a reader's browser sees it: both editions, built anew, in headless Chromium on a phone's screen."""

import base64
import hashlib
import json
import re
from pathlib import Path
from urllib.parse import quote, unquote, urldefrag, urljoin

import nbformat
import pytest

from book import contents
from book.editions import EDITIONS
from book.search import NUMBERED, terms
from site_pages import BROWSER, CHAPTERS, OPTIONS, PAGES, PHONE, fresh, listen, observe

OBSERVE = Path(__file__).with_name("site_observations.js")
HAN = re.compile(r"[\u4e00-\u9fff]")
KINDS = ("index", "lab", CHAPTERS[-1], "glossary", "search")  # one page of each kind
INLINE_SCRIPT = re.compile(r"<script(?![^>]*\ssrc=)[^>]*>(.*?)</script>", re.DOTALL)


def drawn(page):
    """Whether a page has its style sheets, its fonts, its copy buttons and its formulas."""
    page.wait_for_load_state("load")
    return page.evaluate("""async () => {
        const count = (selector) => document.querySelectorAll(selector).length;
        await window.MathJax?.startup?.promise;
        await document.fonts.ready;
        return count(".bd-article .math") === count("mjx-container")
          && count(".cell_input") === count(".cell_input .copybtn")
          && [...document.querySelectorAll("link[rel=stylesheet]")].every((link) => link.sheet)
          && [...document.fonts].every((font) => font.status !== "error");
    }""")


def found(page, site, lang, query):
    """Where the results of a search lead."""
    page.goto(f"{site.page(lang, 'search')}?q={quote(query)}")
    page.locator("#search-results .search-summary:not(:empty)").wait_for()
    links = page.locator("#search-results li > a")
    return links.evaluate_all("links => links.map(link => link.getAttribute('href'))")


@pytest.fixture(scope="session")
def seen(site, browser):
    """What each page of each edition looks like and asks for: {(lang, page): observations}."""
    addresses = {(lang, name): site.page(lang, name) for lang in EDITIONS for name in PAGES}
    with fresh(browser, viewport=PHONE) as page:
        return observe(page, addresses, OBSERVE.read_text(encoding="utf-8"))


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


LAPTOP = {"width": 1280, "height": 800}
SIDEWAYS = """[...document.querySelectorAll(".bd-article div.cell_input pre")]
    .filter((code) => code.scrollWidth > code.clientWidth)
    .map((code) => code.innerText)"""
FOLDS = """[...document.querySelectorAll(".bd-article section > h2")]
    .filter((title) => title.innerText.startsWith("⋆"))
    .map((title) => title.nextElementSibling)
    .map((fold) => [fold.matches("details.second-reading"), fold.open, fold.innerText])"""


@pytest.mark.parametrize("name", CHAPTERS)
def test_no_code_scrolls_sideways_on_a_laptop(site, page, name):
    page.set_viewport_size(LAPTOP)
    page.goto(site.page("en", name))
    page.evaluate("document.querySelectorAll('details').forEach((fold) => (fold.open = true))")
    assert page.evaluate(SIDEWAYS) == []


@pytest.mark.parametrize(
    ("lang", "line"), [("en", r"Second reading · \d+ min"), ("zh", r"第二遍再读 · \d+ 分钟")]
)
def test_second_readings_are_folded_and_say_how_long_they_are(site, page, lang, line):
    page.goto(site.page(lang, "07_derivation"))
    folds = page.evaluate(FOLDS)
    assert len(folds) > 2
    for is_fold, is_open, text in folds:
        assert is_fold and not is_open and re.fullmatch(line, text.strip())
    inside = page.evaluate("document.querySelector('details.second-reading').parentElement.id")
    page.goto(f"{site.page(lang, '07_derivation')}#{inside}")
    page.reload()
    assert page.evaluate(f"document.querySelector('#{inside} > details').open")


def test_the_picture_stands_before_the_code_that_draws_it(site, page):
    page.goto(site.page("en", "05_preferences"))
    order = page.evaluate(
        """[...document.querySelectorAll("figure.book-figure")].map((figure) => {
            const code = figure.nextElementSibling;
            return [code.matches("div.cell.tag_figure"), !!code.querySelector("details:not([open]) pre")];
        })"""
    )
    assert order and all(row == [True, True] for row in order)


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
            assert first.source.startswith(f"%env BOOK_LANG={lang}\n")
        both = [c.source for c in notebooks[2].cells if c.id != "start"]
        assert both == [c.source for c in contents.read_notebook(name).cells]


def test_code_can_be_copied(seen, site, browser):
    buttons = [count for observed in seen.values() for count in observed["copy"]]
    assert buttons and set(buttons) == {1}
    with fresh(browser, permissions=["clipboard-read", "clipboard-write"]) as page:
        page.goto(site.page("zh", CHAPTERS[0]))
        cell = page.locator(".cell_input").first
        cell.hover()
        cell.locator("button.copybtn").click()
        assert (
            page.evaluate("navigator.clipboard.readText()").strip()
            == cell.locator("pre").inner_text().strip()
        )


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


@pytest.mark.parametrize(
    ("lang", "query", "written"),
    [
        *((lang, "ＤＰＯ", "DPO") for lang in EDITIONS),
        *((lang, "ｅｎｔｒｏｐｙ　ｌｏｓｓ", "entropy loss") for lang in EDITIONS),
        ("zh", "強化學習", "强化学习"),
        ("zh", "獎勵", "奖励"),
        ("zh", "參考策略", "参考策略"),
        ("zh", "對數概率", "对数概率"),
    ],
)
def test_search_reads_full_width_and_traditional_characters(site, page, lang, query, written):
    assert found(page, site, lang, query) == found(page, site, lang, written) != []


def test_search_finds_each_figure_and_exercise_at_its_place_by_its_number(seen, site, page):
    places = {"figure": "figures", "exercise": "exercises"}
    look = """query => Search._performSearch(...Search._parseQuery(query))
        .map(([page, title, anchor]) => page + anchor).reverse()"""
    for lang in EDITIONS:
        page.goto(site.page(lang, "search"))
        for name in CHAPTERS:
            for kind, listed in places.items():
                assert seen[lang, name][listed]
                for anchor in seen[lang, name][listed]:
                    number = re.search(r"(\d+)-(\d+)", anchor)
                    number = f"{number[1]}.{number[2]}"
                    place = f"{name}#{anchor}"
                    assert page.evaluate(look, f"{kind} {number}")[0] == place
                    assert place in page.evaluate(look, number)


@pytest.mark.parametrize(
    ("lang", "form"),
    [
        *(("en", form) for form in ("{}", "Figure {}", "figure {}", "Fig. {}", "fig {}", "图 {}")),
        *(("zh", form) for form in ("{}", "图 {}", "图{}", "圖 {}", "图（{}）", "Figure {}")),
    ],
)
def test_search_reads_a_number_however_it_is_written(seen, site, page, lang, form):
    anchor = seen[lang, CHAPTERS[-1]]["figures"][-1]
    number = anchor.removeprefix("fig-").replace("-", ".")
    wide = number.translate({ord(c): ord(c) + 0xFEE0 for c in "0123456789."})
    place = f"{CHAPTERS[-1]}.html#{anchor}"
    for query in (form.format(number), form.format(wide)):
        assert found(page, site, lang, query)[0] == place
        quoted = page.locator(f"#search-results li:has(> a[href='{place}']) .context")
        assert number in quoted.inner_text()


@pytest.mark.parametrize(
    ("lang", "written", "forms"),
    [
        ("en", r"\bequation (\d+(?:\.\d+)*)", ("equation {}", "Eq. ({})", "式 {}")),
        ("zh", r"式 (\d+(?:\.\d+)*)", ("式 {}", "公式（{}）", "equation {}")),
    ],
)
def test_search_finds_the_pages_that_name_an_equation(seen, site, page, lang, written, forms):
    naming = {}
    for name in PAGES:
        for number in re.findall(written, seen[lang, name]["prose"]):
            naming.setdefault(number, set()).add(f"{name}.html")
    number = max(naming, key=lambda number: len(naming[number]))
    assert 1 < len(naming[number]) < len(PAGES)
    for form in forms:
        # tables of code and formulas are no part of the prose here, so there may be more
        # and the chapters' own, 7.1 beside 7, are many places on few pages
        results = {urldefrag(place)[0] for place in found(page, site, lang, form.format(number))}
        assert naming[number] <= results and len(results) < len(PAGES) / 2


@pytest.mark.parametrize("lang", EDITIONS)
@pytest.mark.parametrize(
    "text",
    [
        "ＤＰＯ 的損失",
        "图 9.2 与圖９．３",
        "Figures 9.2, eq. (4.7) in 0.25",
        "公式（7）",
        "練習 1.1",
    ],
)
def test_a_query_is_read_as_the_text_is(site, page, lang, text):
    """Guards against search-query.js and search.py drifting apart: a page found by its own words."""
    page.goto(site.page(lang, "search"))
    asked = page.evaluate("text => splitQuery(Search.plainQuery(text))", text)
    assert asked and {term.lower() for term in asked} <= {term.lower() for term in terms(text)}


@pytest.mark.parametrize("lang", EDITIONS)
def test_search_knows_no_more_characters_than_the_book_has(site, page, lang):
    page.goto(site.page(lang, "search"))
    known = set(page.evaluate("Object.values(BOOK_SEARCH.simplified)"))
    text = "".join(path.read_text(encoding="utf-8") for path in (site.folder / lang).glob("*.html"))
    index = (site.folder / lang / "searchindex.js").read_text(encoding="utf-8")
    text += str(json.loads(index.removeprefix("Search.setIndex(").removesuffix(")")))
    assert known and known <= set(text + str(NUMBERED))


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


@pytest.mark.parametrize(
    ("stored", "locale", "lang"),
    [
        (None, "zh-TW", "zh"),
        (None, "en-GB", "en"),
        (None, "fr-FR", "en"),
        ("zh", "en-GB", "zh"),
        ("en", "zh-CN", "en"),
        ("fr", "zh-CN", "zh"),
        ("", "zh-CN", "zh"),
        ("en zh", "zh-CN", "zh"),
        ("constructor", "fr-FR", "en"),
        ("../zh", "en-GB", "en"),
        ("//example.org/", "en-GB", "en"),
    ],
)
def test_front_door_opens_on_an_edition_that_exists(site, browser, stored, locale, lang):
    with fresh(browser, locale=locale) as page:
        if stored is not None:
            page.goto(f"{site.url}/en/_static/mark.svg")
            page.evaluate("edition => localStorage.setItem('edition', edition)", stored)
        page.goto(f"{site.url}/index.html")
        page.wait_for_url(site.page(lang, "index"))


def test_front_door_remembers_the_edition_that_was_read(site, browser):
    with fresh(browser, locale="en-GB") as page:
        page.goto(site.page("zh", CHAPTERS[0]))
        page.goto(f"{site.url}/index.html")
        page.wait_for_url(site.page("zh", "index"))


def test_front_door_needs_no_script(site, browser):
    with fresh(browser, java_script_enabled=False) as page:
        page.goto(f"{site.url}/")
        links = page.locator("a").evaluate_all("links => links.map(link => link.href)")
        assert links == [site.page(lang, "index") for lang in EDITIONS]


def test_site_works_where_the_browser_denies_storage(site, browser, tmp_path):
    """Guards against a script that stops at `localStorage`: no edition, no search, no language switch."""
    preferences = {"profile": {"default_content_setting_values": {"cookies": 2}}}
    (tmp_path / "Default").mkdir()
    (tmp_path / "Default" / "Preferences").write_text(json.dumps(preferences))
    context = browser.browser_type.launch_persistent_context(
        tmp_path, executable_path=BROWSER, args=OPTIONS, locale="zh-TW"
    )
    bare = context.new_page()  # a picture, without our stand-in; the browser looks for its icon
    bare.goto(f"{site.url}/en/_static/mark.svg")
    with pytest.raises(Exception, match="denied"):
        bare.evaluate("localStorage.getItem('edition')")
    page = context.new_page()
    complaints = listen(page)
    page.goto(f"{site.url}/index.html")
    page.wait_for_url(site.page("zh", "index"))
    assert "01_strings.html" in found(page, site, "en", "token")
    page.goto(site.page("en", CHAPTERS[0]))
    assert drawn(page)
    page.locator("a.language-switch:visible").click()
    page.wait_for_url(site.page("zh", CHAPTERS[0]) + "*")
    assert complaints == []
    context.close()


@pytest.mark.parametrize("lang", EDITIONS)
@pytest.mark.parametrize("ending", ["#%", "?q=%E4%zz&%#%zz"])
def test_a_malformed_address_breaks_nothing(site, page, lang, ending):
    complaints = listen(page)
    page.goto(f"{site.url}/index.html{ending}")
    page.wait_for_url(f"{site.url}/*/index.html")
    for name in KINDS:
        page.goto(site.page(lang, name) + ending)
        assert drawn(page), name
        page.locator("a.language-switch:visible").click()
        page.wait_for_url(re.compile(re.escape(site.page(EDITIONS[lang].other.lang, name))))
    assert complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("lang", EDITIONS)
def test_no_page_needs_what_its_policy_refuses(site, browser, lang, scheme):
    with fresh(browser, color_scheme=scheme, locale=lang) as page:
        complaints = listen(page)
        page.goto(f"{site.url}/index.html")
        page.wait_for_url(site.page(lang, "index"))
        for name in KINDS:
            page.goto(site.page(lang, name) + ("?q=DPO" if name == "search" else ""))
            assert drawn(page), name
            assert page.evaluate("document.documentElement.dataset.theme") == scheme
            if name == "search":
                page.locator("#search-results .context").first.wait_for()
            page.locator(".bd-header .theme-switch-button").click()
            page.locator(".bd-header .theme-change-button[data-mode=auto]").click()
            if name != "search":
                page.locator(".bd-header .search-button:visible").click()
                page.locator("dialog input[name=q]").wait_for()
        assert complaints == []


def test_pages_work_from_a_folder(site, page):
    complaints = listen(page)
    page.goto((site.folder / "index.html").as_uri())
    page.wait_for_url("**/en/index.html")
    for lang in EDITIONS:
        for name in KINDS:
            page.goto((site.folder / lang / f"{name}.html").as_uri())
            assert drawn(page), (lang, name)
        # what a browser denies to files is only a result's quotation
        assert complaints == []
        page.goto((site.folder / lang / "search.html").as_uri() + "?q=DPO")
        page.locator("#search-results li").first.wait_for()
        page.locator("#search-results .search-summary:not(:empty)").wait_for()
        complaints.clear()


def test_a_policy_stands_before_all_that_it_governs(site):
    pages = sorted(site.folder.rglob("*.html"))
    assert len(pages) == 1 + len(EDITIONS) * len([*PAGES, "search", *CHAPTERS])  # slides too
    for path in pages:
        text = path.read_text(encoding="utf-8")
        before, policy, after = re.split(
            r'<meta http-equiv="Content-Security-Policy" content="([^"]+)">', text
        )
        assert not re.search(r"<(script|link|style|img)\b", before), path
        directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
        assert directives["default-src"] == directives["object-src"] == "'none'"
        assert directives["base-uri"] == directives["form-action"] == "'self'"
        hashes = {
            f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
            for script in INLINE_SCRIPT.findall(after)
        }
        assert set(directives["script-src"].split()) == {"'self'", *hashes}, path


def test_no_script_of_ours_stands_in_a_page(site):
    for path in (contents.BOOK / "_templates").iterdir():
        text = path.read_text(encoding="utf-8")
        assert not INLINE_SCRIPT.search(text) and not re.search(r"\son\w+=", text), path.name
    assert not INLINE_SCRIPT.search((site.folder / "index.html").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", KINDS)
def test_a_policy_refuses_a_script_that_was_slipped_in(site, page, name):
    complaints = listen(page)
    page.goto(site.page("en", name))
    page.evaluate("""document.body.append(Object.assign(document.createElement("script"), {text: "window.slipped = 1"}));
        document.body.insertAdjacentHTML("beforeend", "<img src=data: onerror='window.slipped = 1'>")""")
    page.wait_for_timeout(100)
    assert page.evaluate("window.slipped") is None
    assert any("script-src" in complaint for complaint in complaints)


def test_no_template_is_shipped(site):
    """Guards against sources of a theme that Sphinx copies beside what a page uses."""
    syntax = re.compile(
        r"\{%-? *(?:block|extends|for|if|import|include|macro|set)\b|\{\{-? *pathto\("
    )
    names = re.compile(r"\.(?:jinja2?|j2|tmpl|tpl|\w+_t|\w+\.jinja)$")
    shipped = [path for path in site.folder.rglob("*") if path.is_file()]
    assert [path for path in shipped if names.search(path.name)] == []
    texts = [path for path in shipped if path.suffix in (".html", ".js", ".css", ".svg", ".txt")]
    assert [path for path in texts if syntax.search(path.read_text(encoding="utf-8"))] == []
    pages = {site.folder / "index.html"}
    pages |= {
        site.folder / lang / f"{name}.html" for lang in EDITIONS for name in [*PAGES, "search"]
    }
    pages |= {
        site.folder / "slides" / lang / f"{name}.html" for lang in EDITIONS for name in CHAPTERS
    }
    assert {path for path in shipped if path.suffix == ".html"} == pages
