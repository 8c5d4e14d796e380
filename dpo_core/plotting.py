"""The book's figure style. Only chapters import this module.

One colour for one thing throughout, distinguishable in grey and for colour-blind readers (the
Okabe-Ito palette); a transparent ground and mid-grey ink, so that a figure reads on a light page
and on a dark one. Figures carry symbols and numerals; words stand in the captions.
"""

from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLORS = {
    "ref": "#7a8594",  # the reference policy, the base model
    "policy": "#0072b2",  # the trained policy
    "chosen": "#009e73",
    "rejected": "#d55e00",
    "theory": "#cc79a7",  # closed forms: always a line
    "baseline": "#e69f00",  # a rival method
}
INK = "#787878"

STYLE = {
    "figure.figsize": (6.4, 3.4),
    "figure.dpi": 110,
    "font.size": 11,
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


def use_style() -> None:
    """Make every later figure look like the book's."""
    plt.rcParams.update(STYLE)


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
