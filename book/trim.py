"""What a built page loads, made light: pictures, icons, and the files that nobody asks for.

Pictures become lossless WebP, half as large as PNG, and say their size, so that a page does not jump when they come;
all but a page's first wait until a reader comes near. Of the theme's two thousand icons those stay that a page shows.
"""

import re
from functools import partial
from html import escape, unescape
from pathlib import Path

from fontTools.subset import Options, Subsetter
from fontTools.ttLib import TTFont
from PIL import Image

PICTURE = re.compile(r'<img(?P<before>[^>]*?) src="(?P<src>[^"]+\.png)"(?P<after>[^>]*?)/?>')
CARD_PICTURE = re.compile(r'("image":"_images/[^"]+)\.png(?=")')  # as book/aids.py writes it
EMPTY_HEAD = re.compile(r"<th\b[^>]*>\s*(?:<p>\s*</p>\s*)?</th>")
ICON = re.compile(r"\bfa-[a-z][\w-]*")
ICON_RULE = re.compile(r'((?:\.fa-[\w-]+,?)+)\{--fa:"\\([0-9a-f]+)"\}')
THEME_ICON = re.compile(r'--pst-icon-[\w-]+:"(?:\\([0-9a-f]+)|([^"\\]))"')
ICON_FACES = re.compile(r"@font-face\{[^}]*fa-(?:brands|regular)-400\.woff2\)\}")
STYLE = Path("styles", "pydata-sphinx-theme.css")
SCRIPT = Path("scripts", "pydata-sphinx-theme.js")
ICONS = Path("vendor", "fontawesome", "webfonts", "fa-solid-900.woff2")
UNUSED = ("**/*.map", "scripts/fontawesome.js*", "**/fa-brands-*.woff2", "**/fa-regular-*.woff2")
UNUSED += (
    "file.png",
    "plus.png",
    "minus.png",
    "copybutton_funcs.js",
    "cover-*.png",
    "VENDORED",
    "home-*.png",
)


def trim(edition: Path) -> None:
    """Make the pages of one edition light, in place; `edition` is its folder."""
    pages = {path: path.read_text(encoding="utf-8") for path in sorted(edition.glob("*.html"))}
    texts = [*pages.values(), (edition / "_static" / SCRIPT).read_text(encoding="utf-8")]
    shown = {icon for text in texts for icon in ICON.findall(text)}
    for path, page in pages.items():
        page = EMPTY_HEAD.sub("<td></td>", page)  # a head that says nothing heads nothing
        page = PICTURE.sub(partial(light_picture, edition, first_picture(page)), page)
        path.write_text(page, encoding="utf-8")
    for cards in edition.glob("_static/previews/*.js"):
        cards.write_text(CARD_PICTURE.sub(r"\1.webp", cards.read_text("utf-8")), encoding="utf-8")
    for png in edition.glob("_images/*.png"):
        png.unlink()
    trim_icons(edition / "_static", shown)
    for pattern in UNUSED:
        for path in (edition / "_static").glob(pattern):
            path.unlink()


def first_picture(page: str) -> str:
    """The source of the picture that a page shows first, or nothing."""
    match = PICTURE.search(page)
    return match["src"] if match else ""


def light_picture(edition: Path, first: str, match: re.Match) -> str:
    """The same picture in a page: smaller, with its size, loaded when it is needed."""
    png = edition / unescape(match["src"])
    webp = png.with_suffix(".webp")
    with Image.open(png) as image:
        width, height = image.size
        if not webp.exists():
            image.save(webp, lossless=True, method=4)
    source = escape(match["src"].removesuffix("png") + "webp")
    load = "" if match["src"] == first else ' loading="lazy"'
    size = f'width="{width}" height="{height}"'
    return f'<img{match["before"]} src="{source}" {size}{load} decoding="async"{match["after"]}/>'


def trim_icons(static: Path, shown: set[str]) -> None:
    """Leave of the theme's icons, in its style sheet and its font, those that are shown."""
    style = (static / STYLE).read_text(encoding="utf-8")
    kept = {int(code, 16) if code else ord(sign) for code, sign in THEME_ICON.findall(style)}

    def keep(rule: re.Match) -> str:
        if not shown.intersection(ICON.findall(rule[1])):
            return ""
        kept.add(int(rule[2], 16))
        return rule[0]

    style = ICON_FACES.sub("", ICON_RULE.sub(keep, style))
    (static / STYLE).write_text(style, encoding="utf-8")
    options = Options(flavor="woff2")
    font = TTFont(static / ICONS)
    subsetter = Subsetter(options)
    subsetter.populate(unicodes=kept)
    subsetter.subset(font)
    font.flavor = "woff2"
    font.save(static / ICONS)
