"""Figures that speak the reader's language: drawn once for each, refused when an axis says only letters."""

import builtins
import logging

import matplotlib.pyplot as plt
import pytest

import sources
from dpo_core import plotting
from dpo_core.plotting import figure, picture


@pytest.fixture
def shown(monkeypatch):
    """What `display` was given, as (language, x label, y label)."""
    seen = []

    def display(fig, metadata):
        axes = fig.axes[0]
        seen.append((metadata["lang"], axes.get_xlabel(), axes.get_ylabel()))

    monkeypatch.setattr(builtins, "display", display, raising=False)
    monkeypatch.delenv("BOOK_LANG", raising=False)
    return seen


def drawing(
    x=("training steps", "训练步数"), y=("loss (nats)", "损失（nat）"), more=lambda axes, say: None
):
    def draw(say):
        _, axes = figure()
        axes.plot([0, 1], [0, 1], label=say("policy", "策略"))
        axes.set(xlabel=say(*x), ylabel=say(*y))
        more(axes, say)

    return draw


def test_a_picture_is_drawn_for_each_language_and_closed(shown):
    picture(drawing())
    assert shown == [("en", "training steps", "loss (nats)"), ("zh", "训练步数", "损失（nat）")]
    assert plt.get_fignums() == []


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_a_reader_of_one_language_gets_one_picture(shown, monkeypatch, lang):
    monkeypatch.setenv("BOOK_LANG", lang)
    picture(drawing())
    assert [row[0] for row in shown] == [lang]


def test_a_script_draws_and_shows_nothing(monkeypatch):
    monkeypatch.delattr(builtins, "display", raising=False)
    assert picture(drawing()) is not None


@pytest.mark.parametrize(
    "good",
    [
        drawing(x=("weight of the KL penalty, $\\beta$", "KL 惩罚的权重 $\\beta$")),
        drawing(more=lambda axes, say: axes.legend()),
        drawing(
            more=lambda axes, say: (
                axes.plot([0, 1], [1, 0], label="$\\beta=1$"),
                axes.legend(title=say("weight", "权重")),
            )
        ),
        drawing(
            x=("", ""),
            more=lambda axes, say: axes.set_xticks([0, 1], say(["two", "three"], ["两个", "三个"])),
        ),
        drawing(x=("", ""), y=("", ""), more=lambda axes, say: axes.axis("off")),
    ],
)
def test_words_are_welcome(shown, good):
    picture(good)
    assert len(shown) == 2


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (drawing(x=("$\\beta$", "$\\beta$")), "in en: the x axis says only"),
        (drawing(y=("J", "J")), "the y axis says only 'J'"),
        (drawing(y=("", "")), "the y axis says nothing"),
        (drawing(x=("steps", "steps")), "in zh: the x axis says only 'steps'"),
        (drawing(x=("步数", "步数")), "Chinese on an English picture: 步数"),
        (drawing(y=("loss", "损失𠮷")), "the font lacks 𠮷"),
        (drawing(more=lambda axes, say: (axes.plot([0], label="$q$"), axes.legend())), "the legend says only"),
        (drawing(more=lambda axes, say: axes.set_title("$J$")), "the title says only"),
        (drawing(more=lambda axes, say: figure()), "2 figures, where one is due"),
        (lambda say: None, "0 figures"),
        (drawing(x=("", ""), more=lambda axes, say: axes.set_xticks([0, 1], ["a", "b"])), "the x axis says nothing"),
    ],
)  # fmt: skip
def test_a_picture_that_says_nothing_is_refused(shown, bad, why):
    with pytest.raises(ValueError, match=why.replace("$", r"\$")):
        picture(bad)
    assert plt.get_fignums() == []


def test_a_panel_may_lean_on_its_neighbour(shown):
    def draw(say):
        _, (left, right) = plt.subplots(1, 2, sharey=True)
        for axes in (left, right):
            axes.plot([0, 1])
            axes.set_xlabel(say("training steps", "训练步数"))
        left.set_ylabel(say("loss", "损失"))

    picture(draw)
    assert len(shown) == 2


def test_a_colour_bar_is_an_axis(shown):
    def draw(say):
        fig, axes = figure()
        axes.set(xlabel=say("prompt", "提示"), ylabel=say("answer", "回答"))
        fig.colorbar(axes.imshow([[0, 1], [1, 0]]))

    with pytest.raises(ValueError, match="the y axis says nothing"):
        picture(draw)


def test_the_font_has_every_character_of_the_book(caplog):
    text = "".join(cell.source for path in sources.chapters() for cell in sources.cells(path))
    assert set(plotting.HAN.findall(text)) <= plotting.characters()
    with caplog.at_level(
        logging.WARNING
    ):  # mathematics and Chinese in one label: no sign is missing
        picture(drawing(x=("weight, $\\beta$", "权重（越大越近），$\\beta$")))
    assert not caplog.records
