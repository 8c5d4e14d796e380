"""The cover and the picture that a link to the book shows: `python -m book.cover` writes book/_static/cover-en.png
(1600 x 2400), the same for the home page (480 x 720), book/_static/social-en.png (1200 x 630), and all in Chinese;
and book/_static/mark.png, the mark of the site as a phone's home screen shows it (180 x 180; needs Chromium).

They are the book's finding and nothing else: the lines are optima, computed for a leash that is let out from one line
to the next; the points are the two shipped networks, one near the first line and one near the last.
"""

import tempfile
from pathlib import Path

import numpy as np
from fontTools.ttLib import TTFont
from fontTools.varLib import instancer
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patheffects import withStroke

from book.editions import EDITIONS, Edition
from book.home_figure import BETA, STATIC, Shares, optimum, shares
from book.paper import browser
from dpo_core.plotting import FONT

GROUND, PAPER, CORAL, MIST = "#173b52", "#fdfcf9", "#f0967d", "#8fb0c4"
LINES = 15  # from the population, which is beta without bound, to the optimum of the book's beta
Fonts = dict[str, FontProperties]


def main() -> None:
    """Draw the mark; sample both networks, then draw the cover and the social preview of each edition."""
    draw_mark()
    found = shares()
    with tempfile.TemporaryDirectory() as folder:
        fonts = read_fonts(Path(folder))
        for edition in EDITIONS.values():
            for name, draw, dpi in (
                ("cover", cover, 200),
                ("home-cover", cover, 60),
                ("social", social, 200),
            ):
                path = STATIC / f"{name}-{edition.lang}.png"
                draw(found, edition, fonts).savefig(path, dpi=dpi, metadata={"Software": None})
                plt.close("all")


def draw_mark() -> None:
    """The mark without its round corners, which the phone cuts itself."""
    with browser.page() as page:
        page.set_viewport_size({"width": 180, "height": 180})
        page.goto((STATIC / "mark.svg").as_uri())
        page.evaluate("document.querySelector('rect').removeAttribute('rx')")
        page.screenshot(path=STATIC / "mark.png")


def read_fonts(folder: Path) -> Fonts:
    """The site's serif, semi-bold, and the figures' font; the first is unpacked into `folder`."""
    serif = TTFont(STATIC / "fonts" / "source-serif-4-latin-wght-normal.woff2")
    serif.flavor = None
    instancer.instantiateVariableFont(serif, {"wght": 600}, inplace=True)
    serif.save(folder / "serif.ttf")
    return {"en": FontProperties(fname=folder / "serif.ttf"), "zh": FontProperties(fname=FONT)}


def bands(axes: Axes, found: Shares, size: float) -> None:
    """The lines from the population to the optimum, and the two networks' points; `size` in points."""
    axes.axis("off")
    shades = LinearSegmentedColormap.from_list("leash", [MIST, PAPER, CORAL])
    betas = BETA / np.linspace(0, 1, LINES)[1:]
    for i, line in enumerate([found.population, *map(optimum, betas)]):
        first_or_last = i in (0, LINES - 1)
        axes.plot(
            found.targets,
            line,
            color=shades(i / (LINES - 1)),
            linewidth=size * (0.28 if first_or_last else 0.14),
            alpha=1 if first_or_last else 0.7,
        )
    for name, color in (("gen", MIST), ("dpo", CORAL)):
        values = [estimate.value for estimate in found.measured[name]]
        edge = {"markeredgecolor": GROUND, "markeredgewidth": size * 0.12}
        axes.plot(found.targets[found.some], values, "o", color=color, markersize=size, **edge)
    axes.set(xlim=(-50, 99), ylim=(0.17, 1.02))  # beyond, every answer has three numbers


def write(
    sheet: Figure,
    place: tuple[float, float],
    text: str,
    font: FontProperties,
    size: int,
    color: str,
) -> None:
    """A line of text from `place` on. The Chinese font has one weight: what is large is made bolder."""
    weight = size / 36 if font.get_file() == str(FONT) and size > 20 else 0
    bolder = [withStroke(linewidth=weight, foreground=color)]
    sheet.text(*place, text, font=font, size=size, color=color, path_effects=bolder)


def cover(found: Shares, edition: Edition, fonts: Fonts) -> Figure:
    """The cover, two to three."""
    sheet = plt.figure(figsize=(8, 12), facecolor=GROUND)
    bands(sheet.add_axes((0, 0.2, 1, 0.46)), found, 7)
    what, where = edition.taglines
    where = where[0].upper() + where[1:]
    font, small = fonts[edition.lang], fonts["zh"]
    write(sheet, (0.1, 0.86), edition.title, font, 54, PAPER)
    write(sheet, (0.1, 0.80), what, font, 23, CORAL)
    write(sheet, (0.1, 0.115), where, small, 13, PAPER)
    write(sheet, (0.1, 0.085), edition.on_the_cover, small, 10, MIST)
    return sheet


def social(found: Shares, edition: Edition, fonts: Fonts) -> Figure:
    """What stands beside a link, 1200 to 630."""
    sheet = plt.figure(figsize=(6, 3.15), facecolor=GROUND)
    bands(sheet.add_axes((0, 0.04, 1, 0.56)), found, 3)
    font = fonts[edition.lang]
    write(sheet, (0.07, 0.78), edition.title, font, 32, PAPER)
    write(sheet, (0.07, 0.665), edition.taglines[0], font, 14, CORAL)
    return sheet


if __name__ == "__main__":
    main()
