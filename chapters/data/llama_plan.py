"""Draws the plan of a Llama, Figure 2.1: the whole model, and one of its blocks with the shapes."""

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from dpo_core.plotting import COLORS, INK, figure

HEIGHT = 0.96  # of a box, in the units of the axes
CENTRED = {"ha": "center", "va": "center"}


def plan(say: Callable[[str, str], str]) -> None:
    """The figure, in the words that `say` picks."""
    _, axes = figure(width=5.4, height=6.8)
    axes.set(xlim=(0, 10.6), ylim=(-0.7, 13.2))
    axes.axis("off")
    same, heads = "(B,T,D)", "(B,H,T,K)"
    norm = ("RMSNorm", same)
    blocks = [(f"{say('block', '块')} {i}", same) for i in (1, 2, 3, 4)]
    out = (say("output matrix", "输出矩阵"), "(B,T,V)")
    column = [(say("embedding", "嵌入"), same), *blocks, norm, out]
    reads = [norm, (say("queries, keys, values", "查询、键、值"), r"3\times" + heads)]
    reads += [(say("RoPE turns queries, keys", "RoPE 转动查询和键"), heads)]
    reads += [(say("scores, mask, softmax", "打分、掩码、softmax"), "(B,H,T,T)")]
    reads += [(say("mix values, join heads", "混合各个值，拼回各头"), same)]
    thinks = [norm, (say("gate and up", "gate 和 up"), r"2\times(B,T,M)"), ("down", same)]
    tower(axes, 1.55, 1.5, 1.65, 2.7, "ref", column)
    branch(axes, say("attention", "注意力"), "policy", 1.0, reads)
    branch(axes, "MLP", "chosen", 7.9, thinks)
    ids = say("token ids", "词元编号") + "\n$(B,T)$"
    for y, words, low, high in ((-0.1, ids, 0.3, 1.02), (12.7, "logits", 11.88, 12.45)):
        axes.text(1.55, y, words, fontsize=10, linespacing=1.15, **CENTRED)
        arrow(axes, (1.55, low), (1.55, high))
    for start, end in ((-0.4, 6.15), (6.65, 10.35), (10.85, 12.9)):
        arrow(axes, (4.6, start), (4.6, end))
    axes.text(4.2, 7.8, say("residual stream", "残差流"), rotation=90, **CENTRED)
    axes.plot((2.9, 3.75, 3.75, 2.9), (4.3, 0, 12.6, 5.3), ":", color=INK, lw=0.8)


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    """An arrow from `start` to `end`."""
    line = {"arrowstyle": "-|>", "color": INK, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", end, start, arrowprops=line)


def tower(
    axes: Axes,
    x: float,
    lowest: float,
    step: float,
    width: float,
    color: str,
    parts: Sequence[tuple[str, str]],
) -> float:
    """Boxes above one another, the first at (x, lowest), and arrows between them; where the last one is.

    `parts` are (words, shape): the shape stands below the words, as a formula.
    """
    for i, (words, shape) in enumerate(parts):
        y = lowest + i * step
        corner, form = (x - width / 2, y - HEIGHT / 2), "round,pad=0,rounding_size=0.15"
        edge = {"facecolor": "none", "edgecolor": COLORS[color], "linewidth": 1.3}
        axes.add_patch(FancyBboxPatch(corner, width, HEIGHT, boxstyle=form, **edge))
        axes.text(x, y, f"{words}\n${shape}$", fontsize=10, linespacing=1.15, **CENTRED)
        if i:
            arrow(axes, (x, y - step + HEIGHT / 2), (x, y - HEIGHT / 2))
    return y


def branch(
    axes: Axes, name: str, color: str, lowest: float, parts: Sequence[tuple[str, str]]
) -> None:
    """A tower beside the stream at x = 4.6: it reads from the stream below and adds to it above."""
    top = tower(axes, 8.1, lowest, 1.35, 4.7, color, parts)
    arrow(axes, (4.6, lowest), (5.75, lowest))
    arrow(axes, (5.75, top), (4.85, top))
    style = {"color": COLORS[color], **CENTRED}
    axes.text(5.3, (lowest + top) / 2, name, rotation=90, **style)
    axes.text(4.6, top, "+", fontsize=12, **style)
    ring = {"markersize": 12, "markerfacecolor": "none", "markeredgewidth": 1.3}
    axes.plot(4.6, top, "o", markeredgecolor=COLORS[color], **ring)
