"""The book's figures: one style, each picture in the reader's language. For chapters alone.

One colour for one thing throughout, distinguishable in grey and for colour-blind readers (the
Okabe-Ito palette); a transparent ground and mid-grey ink, so that a figure reads on a light page
and on a dark one. What is on a picture is in words: `picture` draws it once for each language and
refuses one whose axes are letters. The finding stands in the caption.
"""

import builtins
import os
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

COLORS = {
    "ref": "#7a8594",  # the reference policy, the base model
    "policy": "#0072b2",  # the trained policy
    "chosen": "#009e73",
    "rejected": "#d55e00",
    "theory": "#cc79a7",  # closed forms: always a line
    "baseline": "#e69f00",  # a rival method
}
INK = "#787878"
LANGUAGES = ("en", "zh")
# The library carries its font (SIL Open Font License, beside it), so that Chinese is drawn on every
# machine: letters, signs, the everyday characters of GB 2312. book/vendor.sh makes it.
FONT = Path(__file__).parent / "fonts" / "NotoSansSC-Regular.ttf"
HAN = re.compile(r"[\u3400-\u9fff\U00020000-\U0003ffff]")
WORD = re.compile(r"[A-Za-z]{3}|[\u4e00-\u9fff]{2}")

STYLE = {
    "figure.figsize": (6.4, 3.4),
    "figure.dpi": 110,
    "font.size": 11,
    "font.family": ["Noto Sans SC", "DejaVu Sans"],  # a sign that the first lacks is the second's
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), "none"),
    **dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "text.color"), INK),
    **dict.fromkeys(("xtick.color", "ytick.color", "grid.color"), INK),
}

Say = Callable[[str, str], str]


@cache
def register_font() -> None:
    """Let matplotlib know the book's font; once a process."""
    font_manager.fontManager.addfont(FONT)


@cache
def characters() -> frozenset[str]:
    """What the book's font can write."""
    return frozenset(map(chr, FT2Font(FONT).get_charmap()))


def use_style() -> None:
    """Make every later figure look like the book's."""
    register_font()
    plt.rcParams.update(STYLE)


def languages() -> tuple[str, ...]:
    """The languages in which pictures are drawn: that of BOOK_LANG, or all."""
    asked = os.environ.get("BOOK_LANG")
    return (asked,) if asked in LANGUAGES else LANGUAGES


def picture(draw: Callable[[Say], None]) -> Callable[[Say], None]:
    """Draw a figure at once, in each language, and show it: decorates the function that draws.

    `draw(say)` makes one figure (with `figure`); `say(english, chinese)` gives it the words of the
    language that is being drawn. Each picture is shown with its language in the output's metadata:
    the site, and a notebook of one language, keep their own.

    Raises
    ------
    ValueError
        when `draw` makes no figure or more than one, or one that `faults` objects to.
    """
    display = getattr(builtins, "display", None)  # a kernel has it; a script shows nothing
    for lang in languages():
        try:
            shown = drawn(draw, lang)
            if display:
                display(shown, metadata={"lang": lang})
        finally:
            plt.close("all")
    return draw


def drawn(draw: Callable[[Say], None], lang: str) -> Figure:
    """The figure that `draw` makes in `lang`; raises as `picture` does."""
    plt.close("all")
    draw(lambda en, zh: en if lang == "en" else zh)
    if len(numbers := plt.get_fignums()) != 1:
        raise ValueError(f"{draw.__name__}: {len(numbers)} figures, where one is due")
    shown = plt.figure(numbers[0])
    if found := list(faults(shown, lang)):
        raise ValueError(f"{draw.__name__}, in {lang}: {'; '.join(found)}")
    return shown


def faults(shown: Figure, lang: str) -> Iterator[str]:
    """What on a figure says nothing to a reader of `lang`: a line for each axis, legend or title.

    An axis with numbers says in words what they are. It may be without a label where it shares its
    scale with one that has it, where it is switched off, or where its marks are words. A legend's
    entries are words, or stand under a title in words. In Chinese, an axis has Chinese words; in
    English, nothing is Chinese. No character is missing from the font.
    """
    shown.draw_without_rendering()  # the marks of an axis exist from here on
    for text in {text.get_text() for text in shown.findobj(Text) if text.get_visible()}:
        if lang == "en" and HAN.search(text):
            yield f"Chinese on an English picture: {text}"
        if missing := set(HAN.findall(text)) - characters():
            yield f"the font lacks {''.join(sorted(missing))}"
    for axes in shown.axes:
        if not axes.axison:
            continue
        for name, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
            label = axis.get_label_text()
            if label:
                if not in_words(label, lang):
                    yield f"the {name} axis says only {label!r}"
            elif marks(axis) and not has_labelled_neighbour(axes, name):
                yield f"the {name} axis says nothing"
        legend = axes.get_legend()
        if legend and not in_words(legend.get_title().get_text(), lang):
            for entry in legend.get_texts():
                if not WORD.search(plain(entry.get_text())):
                    yield f"the legend says only {entry.get_text()!r}"
        if axes.get_title() and not WORD.search(plain(axes.get_title())):
            yield f"the title says only {axes.get_title()!r}"


def plain(text: str) -> str:
    """`text` without its mathematics."""
    return re.sub(r"\$[^$]*\$", " ", text)


def in_words(text: str, lang: str) -> bool:
    """Whether `text`, its mathematics aside, has words of the language."""
    return bool(HAN.search(plain(text)) if lang == "zh" else WORD.search(plain(text)))


def marks(axis: Axis) -> list[str]:
    """What an axis shows beside its ticks that is no word: numbers, letters, symbols."""
    shown = [tick.label1 for tick in axis.get_major_ticks()]
    shown += [tick.label2 for tick in axis.get_major_ticks()]
    texts = [label.get_text() for label in shown if label.get_visible()]
    return [text for text in texts if text.strip() and not WORD.search(plain(text))]


def has_labelled_neighbour(axes: Axes, name: str) -> bool:
    """Whether an axis shares its scale with one that has a label."""
    group = getattr(axes, f"get_shared_{name}_axes")().get_siblings(axes)
    return any(getattr(one, f"{name}axis").get_label_text() for one in group)


def figure(
    columns: int = 1, width: float = 6.4, height: float = 3.4
) -> tuple[Figure, Axes | Sequence[Axes]]:
    """A figure in the book's style with `columns` panels side by side; sizes in inches."""
    use_style()
    return plt.subplots(1, columns, figsize=(width, height), layout="constrained")


def points(
    axes: Axes,
    x: Sequence[float],
    estimates: Sequence,
    color: str,
    label: str | None = None,
    marker: str = "o",
) -> None:
    """Measurements: points with their intervals (`estimates` have value, low and high)."""
    values = [e.value for e in estimates]
    below = [e.value - e.low for e in estimates]
    above = [e.high - e.value for e in estimates]
    axes.errorbar(
        x,
        values,
        yerr=(below, above),
        fmt=marker,
        capsize=3,
        color=COLORS[color],
        label=label,
        zorder=3,
    )


def diagram(width: float = 6.4, height: float = 3.0) -> tuple[Figure, Axes]:
    """An empty figure for boxes and arrows; its places are inches, from the lower left."""
    shown, axes = figure(width=width, height=height)
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    return shown, axes


def box(axes: Axes, x: float, y: float, text: str, color: str = INK, **options: object) -> Text:
    """A framed text, its middle at (x, y)."""
    frame = {"boxstyle": "round,pad=0.45", "facecolor": "none", "edgecolor": color}
    options = {"ha": "center", "va": "center", "color": color, "bbox": frame} | options
    return axes.text(x, y, text, **options)


def arrow(
    axes: Axes,
    one: Text,
    other: Text,
    text: str = "",
    color: str = INK,
    shift: tuple[float, float] = (0, 0.16),
    bend: float = 0.0,
) -> None:
    """An arrow from the edge of one box to the edge of another; its text stands `shift` from the
    middle.
    """
    (x1, y1), (x2, y2) = one.get_position(), other.get_position()
    axes.annotate(
        "",
        (x2, y2),
        (x1, y1),
        arrowprops={
            "arrowstyle": "-|>",
            "color": color,
            "lw": 1.6,
            "patchA": one.get_bbox_patch(),
            "patchB": other.get_bbox_patch(),
            "shrinkA": 4,
            "shrinkB": 4,
            "connectionstyle": f"arc3,rad={bend}",
        },
    )
    if text:
        place = (x1 + x2) / 2 + shift[0], (y1 + y2) / 2 + shift[1]
        axes.text(*place, text, color=color, ha="center", va="center", fontsize=9.5)
