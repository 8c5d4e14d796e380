"""The slides: every deck as a lecturer's browser shows it, and what slides.toml may name."""

import hashlib
import re
from base64 import b64decode
from itertools import pairwise
from urllib.parse import urldefrag

import pytest
from nbformat.v4 import new_markdown_cell

from book import contents, slides
from book.editions import EDITIONS
from book.languages import SourceError
from book.passages import passages, sentences
from book.reading import LEFT_OUT, STAR
from site_pages import CHAPTERS, fresh, listen, observe

OBSERVE = (contents.BOOK.parent / "tests" / "slides_observations.js").read_text(encoding="utf-8")
STAGE = {"width": 1280, "height": 720}
READY = "html[data-ready]"
DISPLAYED = re.compile(r'<div class="math">\\\[(.*?)\\\]</div>', re.DOTALL)
NOTES = re.compile(r'<aside class="notes">.*?</aside>', re.DOTALL)


def deck_file(site, lang, name):
    return site.folder / "slides" / lang / f"{name}.html"


def open_deck(page, address):
    page.goto(address)
    page.locator(READY).wait_for(state="attached")


@pytest.fixture(scope="module")
def decks(site, browser):
    """What each deck looks like and asks for: {(lang, chapter): observations}."""
    addresses = {
        (lang, n): f"{site.url}/slides/{lang}/{n}.html" for lang in EDITIONS for n in CHAPTERS
    }
    with fresh(browser, viewport=STAGE) as page:
        ready = page.locator(READY)
        return observe(page, addresses, OBSERVE, lambda: ready.wait_for(state="attached"))


@pytest.fixture
def stage(browser):
    """A page of the size of a slide."""
    with fresh(browser, viewport=STAGE) as page:
        yield page


def test_each_chapter_has_ten_to_twenty_slides_in_each_language(decks):
    assert len(decks) == len(EDITIONS) * len(CHAPTERS) > 0
    sizes = {key: len(deck["slides"]) for key, deck in decks.items()}
    assert {key: size for key, size in sizes.items() if not 10 <= size <= 20} == {}


def test_decks_say_their_language_and_title(decks):
    for (lang, _), deck in decks.items():
        assert deck["lang"] == EDITIONS[lang].html_lang
        assert EDITIONS[lang].slides in deck["title"] and EDITIONS[lang].title in deck["title"]
    assert len({deck["title"] for deck in decks.values()}) == len(decks)


def test_no_slide_overflows(decks):
    spilt = {
        (*key, number): slide["spilt"]
        for key, deck in decks.items()
        for number, slide in enumerate(deck["slides"], 1)
        if slide["spilt"]
    }
    assert spilt == {}


def test_letters_and_pictures_are_large_enough_for_the_last_row(decks):
    for key, deck in decks.items():
        for slide in deck["slides"]:
            assert slide["size"] is None or slide["size"] >= 22, (key, slide["title"])
            assert all(height >= 280 for height in slide["heights"]), (key, slide["title"])


def test_pictures_are_those_of_the_decks_language(decks):
    for (lang, name), deck in decks.items():
        drawn = {
            hashlib.sha256(b64decode(output.data["image/png"])).hexdigest()
            for cell in contents.read_notebook(name).cells
            for output in cell.get("outputs", [])
            if "image/png" in output.get("data", {}) and output.metadata.get("lang") == lang
        }
        assert deck["images"], name
        for alt, width, file in deck["images"]:
            assert width > 0 and alt.strip() and file in drawn, (lang, name, file)


def test_mathematics_is_drawn(decks):
    drawn = [count for deck in decks.values() for count in deck["formulas"]]
    assert drawn and set(drawn) == {1}
    assert {key: deck["errors"] for key, deck in decks.items() if deck["errors"]} == {}


def test_no_request_leaves_the_site_and_the_console_is_silent(decks, site):
    asked = {url for deck in decks.values() for url in deck["requests"]}
    assert asked and {url for url in asked if not url.startswith((site.url, "data:"))} == set()
    assert {key: deck["console"] for key, deck in decks.items() if deck["console"]} == {}


def equations(site, lang, name):
    """The displayed formulas on the slides, without the words and marks in which languages differ."""
    page = NOTES.sub("", deck_file(site, lang, name).read_text(encoding="utf-8"))
    found = [re.sub(r"\\text\{[^}]*\}|\s", "", formula) for formula in DISPLAYED.findall(page)]
    return [re.sub(r"[.,]*(\\end\{aligned\})?$", r"\1", formula) for formula in found]


def test_both_languages_have_the_same_slides(decks, site):
    for name in CHAPTERS:
        english, chinese = (decks[lang, name]["slides"] for lang in EDITIONS)
        assert len(english) == len(chinese), name
        for one, other in zip(english, chinese):
            for kind in ("figures", "code", "questions"):
                assert one[kind] == other[kind], (name, one["title"], kind)
        assert equations(site, "en", name) == equations(site, "zh", name), name
    assert sum(len(equations(site, "en", name)) for name in CHAPTERS) > 50


def test_a_question_is_answered_on_the_next_step(decks, site, stage):
    asked = [held for deck in decks.values() for one in deck["slides"] for held in one["questions"]]
    assert len(asked) > 50 and all(asked)
    open_deck(stage, f"{site.url}/slides/en/07_derivation.html")
    number = stage.evaluate(
        "[...document.querySelectorAll('.slide')].findIndex((slide) => slide.querySelector('.ask'))"
    )
    stage.evaluate(f"Reveal.slide({number})")
    answer = stage.locator("section.present .answer")
    later = stage.locator("section.present .answer ~ *").first
    shown = "element => getComputedStyle(element).visibility"
    assert [answer.evaluate(shown), later.evaluate(shown)] == ["hidden"] * 2
    stage.keyboard.press("ArrowRight")
    for part in (answer, later):  # it comes within a fifth of a second
        part.wait_for(state="visible")
    stage.keyboard.press("ArrowRight")
    assert stage.evaluate("Reveal.getIndices().h") == number + 1


def test_a_slide_has_at_most_fifteen_lines_of_code(decks):
    lines = [
        sum(len(code.splitlines()) for code in slide["code"])
        for deck in decks.values()
        for slide in deck["slides"]
    ]
    assert 0 < max(lines) <= 15


@pytest.mark.parametrize("lang", EDITIONS)
@pytest.mark.parametrize("name", CHAPTERS)
def test_no_sentence_is_cut(name, lang):
    """Guards against a full stop that ends nothing: in a link, a formula, "eq. 5"; and one that is overlooked."""
    said = passages(contents.read_notebook(name).cells, lang)
    ends = re.compile(r"([.?!:…。？！：；][)\"”’）」』*]*|\$\$)$")
    for passage, following in pairwise([*said, None]):
        if passage.kind == "sentence" and not (following and following.kind == "table"):
            assert ends.search(passage.text.rstrip()) or passage.text[0] in "★☆", passage.text
            begins = re.compile(r"[a-z]" if lang == "en" else r"[，。；：？！、）」』]")
            assert not begins.match(passage.text) or passage.begins, passage.text


@pytest.mark.parametrize(
    ("lang", "paragraph", "found"),
    [
        ("en", "See eq. 5 of [A et al. 2023](https://a.b/c.d). It holds.", 2),
        ("en", "**A name.** It runs in. `x.y` has 0.5 of it.", 2),
        ("en", "Is it so? (It is.) “Yes.” And $a. B$ too.", 4),
        ("zh", "这样行吗？行。（真的行。）「行。」就这样。", 5),
        ("zh", "**小标题。** 接着说。*取对数。* 再说。", 2),
    ],
)
def test_sentences_of_a_paragraph(lang, paragraph, found):
    parts = sentences(paragraph, lang)
    assert len(parts) == found and "".join("".join(parts).split()) == "".join(paragraph.split())


def test_a_sentence_goes_on_after_its_formula():
    source = "# 1 A\n\nWe call\n\n$$x=y,$$\n\nits name. More: \n\n$$z.$$\n\nOther."
    said = passages([new_markdown_cell(source)], "en")
    assert [passage.text for passage in said[1:]] == [
        "We call\n\n$$x=y,$$\n\nits name.",
        "More:\n\n$$z.$$",
        "Other.",
    ]


WRONG = [
    ("figure 99.1", "0 passages"),
    (["No such words", "没有这几个字"], "0 passages"),
    ("$\\nothing", "0 passages"),
    ("code def nothing", "0 passages"),
    ("question 9", "0 passages"),
    (["", ""], "nothing of it"),
    (["T", "设"], "passages of"),
    ("picture 7.1", "is no name"),
]


@pytest.mark.parametrize(("name", "complaint"), WRONG)
def test_a_name_that_means_nothing_stops_the_build(monkeypatch, name, complaint):
    monkeypatch.setattr(slides, "plan", lambda: {"07_derivation": [["The loss", name]]})
    with pytest.raises(SourceError, match=f"slides.toml, 07_derivation, English.*{complaint}"):
        make_deck("07_derivation", "en")


@pytest.mark.parametrize(
    ("plan", "complaint"),
    [
        ({}, "nothing says"),
        ({"07_derivation": [["No such heading", "list"]]}, "no section"),
        (
            {"07_derivation": [["The loss", "question"], ["What we bring along", "list"]]},
            "stands before",
        ),
    ],
)
def test_a_plan_that_does_not_fit_its_chapter_stops_the_build(monkeypatch, plan, complaint):
    monkeypatch.setattr(slides, "plan", lambda: plan)
    with pytest.raises(SourceError, match=complaint):
        make_deck("07_derivation", "en")


def make_deck(name, lang):
    edition = EDITIONS[lang]
    chapter = next(one for one in contents.chapters(edition) if one.file == name)
    return slides.deck(chapter, edition, {})


def test_links_of_decks_arrive(decks, site):
    ids = {}
    for (lang, name), deck in decks.items():
        for link in deck["links"]:
            assert not link.startswith("/"), link  # the site may lie under any address
            if link.startswith("http"):
                continue
            address, anchor = urldefrag(link)
            target = (deck_file(site, lang, name).parent / address).resolve()
            assert target.is_file(), (lang, name, link)
            if target not in ids:
                ids[target] = set(re.findall(r'id="([^"]+)"', target.read_text("utf-8", "replace")))
            assert not anchor or anchor in ids[target], (lang, name, link)


def test_each_chapter_leads_to_its_slides_and_each_deck_to_the_next(site, page):
    for lang in EDITIONS:
        page.goto(site.page(lang, CHAPTERS[0]))
        page.locator(".slides-link a").click()
        page.wait_for_url(f"{site.url}/slides/{lang}/{CHAPTERS[0]}.html")
        following = page.locator(".slide.title h2 a").get_attribute("href")
        assert following == f"{CHAPTERS[1]}.html"
        assert site.page(lang, CHAPTERS[0]) in page.locator(".links a").evaluate_all(
            "links => links.map(link => link.href)"
        )


@pytest.mark.parametrize("lang", EDITIONS)
def test_decks_work_from_a_folder(site, stage, lang):
    complaints = listen(stage)
    open_deck(stage, deck_file(site, lang, "07_derivation").as_uri())
    seen = stage.evaluate(OBSERVE)
    assert set(seen["formulas"]) == {1} and all(width for _, width, _ in seen["images"])
    assert complaints == []


@pytest.mark.parametrize("lang", EDITIONS)
def test_the_notes_hold_the_main_road(site, lang):
    """Every sentence of it that has no markup stands, as it is, in the notes of some slide."""
    for name in CHAPTERS:
        notes = "".join(NOTES.findall(deck_file(site, lang, name).read_text(encoding="utf-8")))
        beside, looked = False, 0
        for passage in passages(contents.read_notebook(name).cells, lang):
            if passage.kind == "heading" and passage.level <= 2:
                beside = bool(LEFT_OUT.match(passage.text)) or passage.text.startswith(STAR)
            if (
                passage.kind == "sentence"
                and not beside
                and not re.search(r"\W[&<>]|[$*`\[\n\"]", passage.text)
            ):
                assert passage.text in notes, name
                looked += 1
        assert looked > 10, name


def test_the_speakers_window_keeps_pace(site, browser):
    with fresh(browser, viewport=STAGE) as page:
        complaints = listen(page)
        open_deck(page, f"{site.url}/slides/zh/07_derivation.html#/3")
        with page.context.expect_page() as opened:
            page.keyboard.press("s")
        speaker = opened.value
        speaker.locator(READY).wait_for(state="attached")
        speaker.locator(".speaker-notes mjx-container").first.wait_for()
        assert speaker.locator(".speaker-notes time").inner_text()
        at = "Reveal.getIndices().h"
        for one, other in ((page, speaker), (speaker, page)):
            before = other.evaluate(at)
            one.keyboard.press("PageDown")
            other.wait_for_function(f"{at} === {before + 1}")
        assert complaints == []


def test_a_deck_prints_a_page_a_slide(decks, site, stage):
    address = f"{site.url}/slides/en/07_derivation.html?print-pdf"
    open_deck(stage, address)
    pages = stage.locator(".pdf-page")
    assert pages.count() == len(decks["en", "07_derivation"]["slides"])
    assert stage.locator(".speaker-notes-pdf").count() == 0
    stage.goto(f"{address}&notes")
    stage.locator(READY).wait_for(state="attached")
    assert stage.locator(".speaker-notes-pdf mjx-container").count() > 50


def test_light_or_dark_as_on_the_pages(site, stage):
    ground = "getComputedStyle(document.body).backgroundColor"
    open_deck(stage, f"{site.url}/slides/en/07_derivation.html")
    light = stage.evaluate(ground)
    stage.keyboard.press("d")
    dark = stage.evaluate(ground)
    assert light != dark
    stage.goto(site.page("en", "07_derivation"))
    assert stage.evaluate("document.documentElement.dataset.theme") == "dark"
    open_deck(stage, f"{site.url}/slides/zh/08_tensors.html")
    assert stage.evaluate(ground) == dark


def test_no_markup_is_left(site):
    left = re.compile(r"\*\*|\$\$|\]\(|&lt;details|\((?:slides)--")
    for path in (site.folder / "slides").rglob("*.html"):
        text = re.sub(
            r"<pre.*?</pre>|<code.*?</code>|\\\(.*?\\\)|\\\[.*?\\\]",
            "",
            path.read_text(),
            flags=re.S,
        )
        assert left.findall(text) == [], path
