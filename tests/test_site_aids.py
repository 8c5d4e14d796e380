"""The aids of a page in a reader's browser: cards beside terms and mentions, and what was read."""

import gzip
import json
import re

import pytest

import sources
from book.aids import TAG
from book.editions import EDITIONS
from site_pages import CHAPTERS, PHONE, fresh, listen, until

LAPTOP = {"width": 1280, "height": 800}
CHAPTER, OTHER = "07_derivation", "09_dpo"
CARD = ".aid:not([hidden])"
TERMS = """[...document.querySelectorAll("a.term")].map((link) => ({
    href: link.getAttribute("href"),
    bare: !!link.closest("h1, h2, h3, h4, pre, code, .math, thead, strong, figcaption, a:not(.term)"),
    section: link.closest("article > section > section")?.id ?? "",
}))"""
SPILLS = """[...document.querySelectorAll(".aid mjx-container[display]")]
    .reduce((most, {scrollWidth, clientWidth}) => Math.max(most, scrollWidth - clientWidth), 0)"""
UNNUMBERED = """[...document.querySelectorAll(".bd-article div.math")]
    .filter((formula) => !formula.closest(".equation, details:not(.second-reading)")).length"""
# the contrast of each text of the card with what lies behind it, as WCAG reckons it
CONTRAST = """[...document.querySelectorAll(".aid *")].filter((each) => each.matches("p, span.aid-other, strong, a")).map((each) => {
    const light = (color) => {
        const [r, g, b] = color.match(/[\\d.]+/g).map(Number).map((part) => part / 255)
            .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const pair = [getComputedStyle(each).color, getComputedStyle(each.closest(".aid")).backgroundColor].map(light);
    return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
})"""


def centred(page, selector):
    """The first link that fits, unfolded and in the middle of the window."""
    link = page.locator(selector).first
    link.evaluate("""link => {
        for (let at = link; at; at = at.parentElement) if (at.matches("details")) at.open = true;
        link.scrollIntoView({block: "center", behavior: "instant"});
    }""")
    return link


def opened(page):
    card = page.locator(CARD)
    card.wait_for()
    return card


@pytest.fixture
def laptop(browser):
    with fresh(browser, viewport=LAPTOP) as page:
        yield page


@pytest.fixture
def phone(browser):
    with fresh(browser, viewport=PHONE, has_touch=True) as page:
        yield page


# ---------------------------------------------------------------- terms


@pytest.mark.parametrize("lang", EDITIONS)
def test_terms_are_marked_in_prose_alone_and_once_in_a_section(site, page, lang):
    page.goto(site.page(lang, "glossary"))
    rows = set(page.evaluate("[...document.querySelectorAll('tr[id]')].map((row) => row.id)"))
    for name in CHAPTERS:
        page.goto(site.page(lang, name))
        terms = page.evaluate(TERMS)
        assert len(terms) > 3, name
        assert [term for term in terms if term["bare"]] == []
        assert {term["href"].removeprefix("glossary.html#") for term in terms} <= rows
        places = [(term["href"], term["section"]) for term in terms]
        assert len(set(places)) == len(places), name


@pytest.mark.parametrize(("lang", "other"), [("en", "配分函数"), ("zh", "partition function")])
def test_the_mouse_rests_on_a_term_and_reads_its_card(site, laptop, lang, other):
    complaints = listen(laptop)
    laptop.goto(site.page(lang, CHAPTER))
    term = centred(laptop, "a.term[href$=partition-function]")
    assert laptop.locator(CARD).count() == 0
    term.hover()
    card = opened(laptop)
    assert other in card.inner_text() and EDITIONS[lang].in_glossary in card.inner_text()
    card.hover()  # it stays while one reads it
    laptop.wait_for_timeout(600)
    assert card.is_visible()
    laptop.mouse.move(2, 700)
    card.wait_for(state="hidden")
    assert complaints == []


@pytest.mark.parametrize("lang", EDITIONS)
def test_the_keyboard_reaches_a_term_hears_its_meaning_and_dismisses_it(site, laptop, lang):
    laptop.goto(site.page(lang, CHAPTER))
    term = centred(laptop, "a.term")
    term.focus()
    laptop.keyboard.press("Shift+Tab")
    laptop.locator(CARD).wait_for(state="hidden")
    laptop.keyboard.press("Tab")
    card = opened(laptop)
    described = laptop.locator(f"#{term.get_attribute('aria-describedby')}")
    assert described.get_attribute("role") == "tooltip" and described.locator("a").count() == 0
    assert term.inner_text().lower()[:3] in card.inner_text().lower()
    laptop.keyboard.press("Escape")
    card.wait_for(state="hidden")
    assert term.evaluate("link => link === document.activeElement")
    assert term.get_attribute("aria-describedby") is None
    laptop.keyboard.press("Enter")
    laptop.wait_for_url("**/glossary.html#term-*")
    assert laptop.locator("tr:target").count() == 1


@pytest.mark.parametrize("lang", EDITIONS)
def test_a_finger_taps_once_to_read_and_twice_to_go(site, phone, lang):
    complaints = listen(phone)
    address = site.page(lang, CHAPTER)
    phone.goto(address)
    term = centred(phone, "a.term")
    term.tap()
    card = opened(phone)
    assert phone.url == address
    box = card.bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= PHONE["width"]
    phone.touchscreen.tap(5, phone.evaluate("innerHeight") - 5)
    card.wait_for(state="hidden")
    term.tap()
    opened(phone).locator("a").tap()
    phone.wait_for_url("**/glossary.html#term-*")
    phone.goto(address)
    term = centred(phone, "a.term")
    term.tap()
    opened(phone)
    term.tap()
    phone.wait_for_url("**/glossary.html#term-*")
    assert complaints == []


def test_a_card_stays_on_the_page_wherever_its_link_stands(site, phone):
    phone.goto(site.page("en", OTHER))
    for link in phone.locator("p > :is(a.term, a.mention, a.citation)").all()[:25]:
        if not link.is_visible():
            continue
        link.scroll_into_view_if_needed()
        link.evaluate("link => link.scrollIntoView({block: 'center', behavior: 'instant'})")
        link.tap()
        box = opened(phone).bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= PHONE["width"]
        phone.keyboard.press("Escape")
    assert phone.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_texts_of_a_card_stand_out(site, browser, scheme):
    with fresh(browser, viewport=LAPTOP, color_scheme=scheme) as page:
        page.goto(site.page("en", CHAPTER))
        for selector in ("a.term", "a.mention[href*=fig-]", "a.citation"):
            centred(page, selector).hover()
            opened(page)
            ratios = page.evaluate(CONTRAST)
            assert ratios and min(ratios) >= 4.5, (selector, ratios)
            page.keyboard.press("Escape")
            page.mouse.move(2, 700)


def test_the_glossary_is_loaded_once_and_is_light(site, laptop):
    asked = []
    laptop.on("request", lambda request: asked.append(request.url))
    laptop.goto(site.page("en", CHAPTER))
    for number in range(3):
        laptop.locator("a.term").nth(number).hover()
        opened(laptop)
        laptop.keyboard.press("Escape")
    assert sum(url.endswith("/glossary.js") for url in asked) == 1
    for lang in EDITIONS:
        text = (site.folder / lang / "_static" / "glossary.js").read_bytes()
        assert len(gzip.compress(text)) < 15_000


def test_without_scripts_a_term_and_a_mention_are_links(site, browser):
    with fresh(browser, java_script_enabled=False) as page:
        page.goto(site.page("zh", CHAPTER))
        page.locator("a.term").first.click()
        page.wait_for_url("**/glossary.html#term-*")
        page.goto(site.page("zh", CHAPTER))
        page.locator("a.mention[href='#fig-7-2']").first.click()
        page.wait_for_url("**/07_derivation.html#fig-7-2")


# ---------------------------------------------------------------- mentions


@pytest.mark.parametrize("lang", EDITIONS)
def test_a_figure_that_the_text_mentions_is_shown_beside_it(site, laptop, lang):
    complaints = listen(laptop)
    laptop.goto(site.page(lang, CHAPTER))
    centred(laptop, "a.mention[href='#fig-7-2']").hover()
    card = opened(laptop)
    picture = card.locator("img")
    laptop.wait_for_function("document.querySelector('.aid img').naturalWidth > 0")
    assert picture.get_attribute("alt")
    assert re.match(r"Figure 7\.2|图 7\.2", card.inner_text().strip())
    laptop.wait_for_function(
        "document.querySelector('.aid mjx-container')"
    )  # its caption's formulas
    assert "\\(" not in card.inner_text()
    assert complaints == []


@pytest.mark.parametrize("lang", EDITIONS)
def test_a_long_equation_that_the_text_mentions_is_seen_whole(site, laptop, lang):
    for name, place in (("09_dpo", "6-5"), ("10_data", "6-1"), ("12_rl", "7-8")):
        laptop.goto(site.page(lang, name))
        centred(laptop, f"a.mention[href$='eq-{place}']").hover()
        card = opened(laptop)
        card.locator("mjx-container").wait_for()
        until(laptop, f"(({SPILLS}) <= 1)")


@pytest.mark.parametrize("lang", EDITIONS)
def test_a_chapter_an_exercise_and_a_work_have_cards_too(site, laptop, lang):
    laptop.goto(site.page(lang, "12_rl"))
    for selector, said in (
        ("a.xref[href='06_objective.html']", "KL"),
        ("a.mention[href*='09_dpo.html#exercise-9-1']", r"9\.1"),
        ("a.citation", r"\((19|20)\d\d\)"),
    ):
        centred(laptop, selector).hover()
        assert re.search(said, opened(laptop).inner_text())
        assert laptop.locator(f"{selector}[title]").count() == 0  # no second tip of the browser's
        laptop.keyboard.press("Escape")
        laptop.mouse.move(2, 700)


def test_every_figure_of_a_card_is_there(site):
    """Guards against a picture that the build renames after the cards were written."""
    for lang in EDITIONS:
        for name in CHAPTERS:
            text = (site.folder / lang / "_static" / "previews" / f"{name}.js").read_text("utf-8")
            cards = json.loads(text.partition("] = ")[2].rstrip(";\n"))
            pictures = [card["image"] for card in cards.values() if "image" in card]
            assert pictures, name
            assert [path for path in pictures if not (site.folder / lang / path).is_file()] == []


def test_the_numbers_of_equations_are_the_same_in_both_editions(site, page):
    numbers = {}
    for lang in EDITIONS:
        page.goto(site.page(lang, "06_objective"))
        links = page.locator("a.eqno")
        numbers[lang] = links.evaluate_all(
            "links => links.map((link) => [link.hash, link.innerText])"
        )
        assert page.evaluate(UNNUMBERED) == 0
    assert numbers["en"] == numbers["zh"] and numbers["en"][0] == ["#eq-6-1", "(6.1)"]


@pytest.mark.parametrize("lang", EDITIONS)
def test_a_notebook_shows_the_number_of_each_equation_that_the_book_mentions(site, lang):
    tagged, named = set(), set()
    for path in sources.chapters():
        text = (site.folder / lang / f"{path.stem}.html").read_text("utf-8")
        named |= set(re.findall(r'class="xref mention" href="[^"]*#eq-(\d+-\d+)"', text))
        for cell in sources.cells(path):
            if cell.lang == lang:
                tagged |= {number.replace(".", "-") for number in TAG.findall(cell.source)}
    assert named == tagged and len(named) > 10


def test_cards_come_from_a_folder_too(site, laptop):
    complaints = listen(laptop)
    laptop.goto((site.folder / "zh" / f"{OTHER}.html").as_uri())
    for selector in ("a.term", "a.xref[href='06_objective.html']", "a.mention[href*=fig-]"):
        centred(laptop, selector).hover()
        opened(laptop)
        laptop.keyboard.press("Escape")
        laptop.mouse.move(2, 700)
    assert complaints == []


# ---------------------------------------------------------------- what was read


def stay_at_the_end_of(page, section):
    page.evaluate(
        """id => {
            const { bottom } = document.getElementById(id).getBoundingClientRect();
            scrollBy({top: bottom - 0.7 * innerHeight, behavior: "instant"});
        }""",
        section,
    )


def remembered(page):
    return json.loads(page.evaluate("localStorage.getItem('progress')") or "{}")


def test_a_section_counts_as_read_when_its_end_stays_in_view(site, laptop):
    complaints = listen(laptop)
    laptop.goto(site.page("en", CHAPTER))
    for _ in range(12):  # somebody who looks for something reads nothing
        laptop.mouse.wheel(0, 1800)
        laptop.wait_for_timeout(150)
    assert remembered(laptop) == {}
    stay_at_the_end_of(laptop, "the-loss")
    laptop.locator(".page-toc a[href='#the-loss'] .read-sign").wait_for()
    kept = remembered(laptop)
    assert kept[CHAPTER]["read"] == ["the-loss"] and kept["last"] == [CHAPTER, "the-loss"]
    assert kept[CHAPTER]["of"] > 5
    entry = laptop.locator(f".bd-links a[href='#'], .bd-links a[href='{CHAPTER}.html']")
    assert "1 of" in entry.first.inner_text() or "1 of" in entry.first.text_content()
    assert complaints == []


def test_both_editions_know_what_was_read_and_the_home_page_forgets_it(site, laptop):
    laptop.goto(site.page("en", "index"))
    kept = {
        CHAPTER: {"of": 2, "read": ["the-loss", "what-the-weight-means"]},
        OTHER: {"of": 9, "read": ["before-the-first-step"]},
        "last": [CHAPTER, "the-loss"],
    }
    laptop.evaluate("kept => localStorage.setItem('progress', JSON.stringify(kept))", kept)
    laptop.goto(site.page("zh", "index"))
    marks = laptop.locator("ol.map .read-sign + .visually-hidden")
    assert marks.all_text_contents() == [" (已读)", " (共 9 节，已读 1 节)"]
    note = laptop.locator(".read-note")
    assert "7 · 推导 DPO" in note.inner_text()
    assert note.locator("a").get_attribute("href") == f"{CHAPTER}.html#the-loss"
    note.locator("button").click()
    assert laptop.locator(".read-sign, .read-note").count() == 0
    assert laptop.evaluate("localStorage.getItem('progress')") is None


@pytest.mark.parametrize("kept", ["", "{", "null", "[1]", '"x"', '{"07_derivation": 5, "last": 3}'])
def test_what_somebody_else_wrote_there_breaks_nothing(site, page, kept):
    complaints = listen(page)
    page.goto(site.page("en", "index"))
    page.evaluate("kept => localStorage.setItem('progress', kept)", kept)
    for name in ("index", CHAPTER):
        page.goto(site.page("en", name))
        page.wait_for_timeout(50)
    assert complaints == []


def test_nothing_of_what_was_read_leaves_the_browser(site, laptop):
    laptop.goto(site.page("en", CHAPTER))
    asked = []
    laptop.on("request", lambda request: asked.append(request.url))
    stay_at_the_end_of(laptop, "the-loss")
    laptop.locator(".page-toc a[href='#the-loss'] .read-sign").wait_for()
    assert [url for url in asked if not url.startswith(site.url)] == []
