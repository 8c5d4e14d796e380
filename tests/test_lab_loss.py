"""The loss lab says what the library says, and works by mouse, finger and keyboard, as a file too."""

import json
import math
import random
from functools import partial
from pathlib import Path

import pytest
import torch

import sources
from book.editions import EDITIONS
from dpo_core import tabular
from dpo_core.family import FAMILY, Settings
from dpo_core.losses import preference_loss
from dpo_core.tabular import Problem
from site_pages import fresh, listen

expect = pytest.importorskip("playwright.sync_api").expect

AXE = Path(__file__).parent / "axe" / "axe.min.js"
CASES = json.loads((sources.CHAPTERS / "data" / "loss_cases.json").read_text(encoding="utf-8"))
LOGPS = ("policy_chosen_logps", "policy_rejected_logps", "ref_chosen_logps", "ref_rejected_logps")
ROWS = ("preference_prob", "chosen_lengths", "rejected_lengths")  # one number a pair, a tensor
RANGES = {
    "label_smoothing": (0.01, 0.49),
    "gamma_beta_ratio": (0.0, 3.0),
    "discopop_tau": (0.02, 2.0),
    "sft_weight": (0.0, 3.0),
}
float64 = partial(torch.tensor, dtype=torch.float64)
LABELS = ("soft", "deterministic")
PAGE = '[data-lab="loss"]'


def address(site, lang):
    """The lab as a file, opened from its folder."""
    return (site.folder / lang / "lab.html").as_uri()


@pytest.fixture(scope="module")
def run(site, browser):
    """Runs JavaScript on the lab's page, opened as a file."""
    page = browser.new_page()
    page.goto(address(site, "en"))
    yield page.evaluate
    page.close()


@pytest.fixture(params=EDITIONS)
def lab(request, site, browser):
    """The lab on a laptop's screen, in each language, opened as a file."""
    with fresh(browser, viewport={"width": 1280, "height": 900}) as page:
        page.complaints = listen(page)
        page.goto(address(site, request.param))
        page.locator(f"{PAGE}[data-ready]").wait_for()
        yield page
        assert page.complaints == []


def said(page, name):
    """The text of a named element, once what was asked for has been drawn."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return page.locator(f'{PAGE} [data-is="{name}"]').inner_text()


def number(page, name):
    return page.locator(f"{PAGE} input[name={name}]")


def slide(page, name, value):
    """Move a slider as a reader does, to a value of its own scale."""
    number(page, name).fill(f"{value}")


# ---------------------------------------------------------------- the losses


def torch_loss(given):
    """What the library makes of one pair: loss, gradients, implicit rewards; or that it refuses."""
    given = {
        name: float64([value]) if name in (*LOGPS, *ROWS) else value
        for name, value in given.items()
    }
    logps = [given.pop(name, None) for name in LOGPS]
    for side in logps[:2]:
        side.requires_grad_()
    try:
        losses, *rewards = preference_loss(*logps, **given)
    except ValueError:
        return None
    slopes = torch.autograd.grad(losses.sum(), logps[:2])
    return [value.item() for value in (losses, *slopes, *rewards)]


RUN = """(all) => all.map((given) => {
    try {
        const said = Lab.losses.preferenceLoss(given);
        return [said.loss, said.gradChosen, said.gradRejected, said.chosenReward, said.rejectedReward];
    } catch (error) {
        return null;
    }
})"""


def random_pairs(name, count):
    """Pairs that a member takes: near each other and far apart, sure labels and soft ones, every option."""
    rng, member = random.Random(name), FAMILY[name]
    for _ in range(count):
        spread = rng.choice((0.5, 5, 60))
        given = {place: -rng.expovariate(1 / spread) for place in LOGPS}
        given |= {"beta": 10 ** rng.uniform(-2, 1), "loss_type": name}
        given |= {f"{side}_lengths": rng.randint(1, 40) for side in ("chosen", "rejected")}
        soft = rng.random() < 0.5
        if soft:
            given["preference_prob"] = rng.choice((0.0, 0.5, 1.0, rng.random()))
        for option in member.options:
            wanted = option in member.required or (
                rng.random() < 0.7 and not (soft and option == "label_smoothing")
            )
            if wanted:
                given[option] = rng.uniform(*RANGES[option])
        yield given


@pytest.mark.parametrize("name", FAMILY)
def test_every_loss_and_its_gradients_are_the_librarys(run, name):
    """Guards against a sign, a length, a half of a soft label, an option lost on the way to JavaScript."""
    pairs = [*random_pairs(name, 300)]
    for given, found in zip(pairs, run(RUN, pairs), strict=True):
        wanted = torch_loss(given)
        assert found[:1] + found[3:] == pytest.approx(
            wanted[:1] + wanted[3:], rel=1e-9, abs=1e-12
        ), given
        assert found[1:3] == pytest.approx(wanted[1:3], rel=1e-6, abs=1e-12), given


def test_the_family_is_whole_and_its_defaults_are_the_librarys(run):
    read = "Object.entries(Lab.losses.FAMILY).map(([name, m]) => [name, m.reference, m.lengths, m.options, m.required])"
    assert run(read) == [
        [name, m.reference, m.lengths, [*m.options], [*m.required]] for name, m in FAMILY.items()
    ]
    defaults = {name: getattr(Settings(beta=1.0), name) for name in RANGES}
    assert run("Lab.losses.DEFAULTS") == defaults


@pytest.mark.parametrize("name", FAMILY)
def test_what_the_library_refuses_the_lab_refuses(run, name):
    """Guards against an option that is silently ignored."""
    rng = random.Random(name)
    tries = []
    for _ in range(100):
        given = {place: -rng.uniform(1, 9) for place in LOGPS} | {"beta": 0.5, "loss_type": name}
        given |= {f"{side}_lengths": 3 for side in ("chosen", "rejected")}
        given |= {
            option: rng.uniform(*span) for option, span in RANGES.items() if rng.random() < 0.2
        }
        given |= {"preference_prob": 0.7} if rng.random() < 0.3 else {}
        for left_out in rng.sample(("ref_chosen_logps", "rejected_lengths", ""), 1):
            given.pop(left_out, None)
        tries.append(given)
    refused = [torch_loss(given) is None for given in tries]
    assert [found is None for found in run(RUN, tries)] == refused
    assert any(refused) and not all(refused)


@pytest.mark.parametrize("case", CASES["losses"], ids=lambda case: case["name"])
def test_cases_computed_by_hand(run, case):
    given = {name: case[name][1] for name in LOGPS} | {"loss_type": "sigmoid"}
    given |= {
        name: case[name] for name in ("beta", "label_smoothing", "preference_prob") if name in case
    }
    quantities = ("loss", "grad_chosen", "grad_rejected", "chosen_reward", "rejected_reward")
    written = [case[name][1] for name in quantities]
    assert run(RUN, [given])[0] == pytest.approx(written, rel=1e-9, abs=1e-12)


# ---------------------------------------------------------------- the three answers


def problems(count):
    found = tabular.random_problems(count, 3, seed=5)
    toy = Problem(float64([0.5, 0.3, 0.2]).log(), float64([1, 0, -1]))  # the book's
    return [toy, *(Problem(*rows) for rows in zip(*found))]


def in_lab(problem):
    return {"refLogps": problem.ref_logps.tolist(), "reward": problem.reward.tolist()}


def test_optimum_objective_and_kl_are_the_librarys(run):
    for problem in problems(20):
        for beta in (0.05, 0.5, 3.0):
            found, objective, kl = run(
                """([problem, beta]) => {
                    const { optimum, objective, kl } = Lab.simplex;
                    const best = optimum(problem, beta);
                    return [best, [best, problem.refLogps].map((p) => objective(p, problem, beta)), kl(best, problem.refLogps)];
                }""",
                [in_lab(problem), beta],
            )
            best = tabular.optimal_policy(problem, beta)
            both = [tabular.objective(p, problem, beta).item() for p in (best, problem.ref_logps)]
            assert found == pytest.approx(best.tolist(), rel=1e-9, abs=1e-9)
            assert objective == pytest.approx(both, rel=1e-9, abs=1e-9)
            assert kl == pytest.approx(tabular.kl(best, problem.ref_logps).item(), abs=1e-9)


def torch_path(problem, loss, rate, steps):
    """Gradient descent in the logits, from the reference: the log-probabilities after each step, and the losses."""
    logits, walked = problem.ref_logps.clone().requires_grad_(), []
    for _ in range(steps + 1):
        value = loss(logits.log_softmax(-1))
        walked.append((logits.log_softmax(-1).tolist(), value.item()))
        (slope,) = torch.autograd.grad(value, logits)
        logits = (logits - rate * slope).detach().requires_grad_()
    return walked


def expected(name, problem, labels, settings):
    """The mean of a member over all pairs, as chapter 11 writes it."""
    wins = tabular.comparisons(problem.reward, tabular.uniform_pairs(3), labels)
    i, j = (wins > 0).nonzero().T
    ones = float64([1.0] * len(i))

    def loss(logps):
        sides = (logps[i], logps[j], problem.ref_logps[i], problem.ref_logps[j])
        lengths = {"chosen_lengths": ones, "rejected_lengths": ones}
        each = preference_loss(*sides, loss_type=name, **settings, **lengths)[0]
        return (wins[i, j] * each).sum() / wins.sum()

    return loss


WALK = """([problem, given]) => Lab.simplex.path(problem, given).map(({ logps, loss }) => [logps, loss])"""


def same_path(found, wanted):
    """Whether two paths agree at each step, in policies and in losses."""
    for (logps, loss), (true_logps, true_loss) in zip(found, wanted, strict=True):
        assert logps == pytest.approx(true_logps, rel=1e-9, abs=1e-9)
        assert loss == pytest.approx(true_loss, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("labels", LABELS)
def test_the_path_of_dpo_is_gradient_descent_on_the_exact_loss(run, labels):
    for problem in problems(4):
        for beta in (0.1, 0.5, 2.0):
            wins = tabular.comparisons(problem.reward, tabular.uniform_pairs(3), labels)
            rate = 0.5 / beta**2
            wanted = torch_path(
                problem,
                lambda logps: tabular.dpo_loss(logps, problem.ref_logps, wins, beta),  # noqa: B023
                rate,
                200,
            )
            given = {"loss_type": "sigmoid", "beta": beta, "labels": labels}
            given |= {"rate": rate, "steps": 200}
            same_path(run(WALK, [in_lab(problem), given]), wanted)


def test_with_soft_labels_the_path_ends_at_the_optimum(run):
    problem = problems(0)[0]
    given = {"loss_type": "sigmoid", "beta": 0.5, "labels": "soft", "rate": 2.0, "steps": 2000}
    end = run(WALK, [in_lab(problem), given])[-1][0]
    assert end == pytest.approx(tabular.optimal_policy(problem, 0.5).tolist(), abs=1e-6)


@pytest.mark.parametrize("name", FAMILY)
def test_the_path_of_each_member_is_gradient_descent_on_its_mean(run, name):
    settings = {"beta": 0.5}
    settings |= {"label_smoothing": 0.1} if "label_smoothing" in FAMILY[name].options else {}
    for problem in problems(1):
        wanted = torch_path(problem, expected(name, problem, "soft", settings), 0.05, 60)
        given = settings | {"loss_type": name, "labels": "soft", "rate": 0.05, "steps": 60}
        same_path(run(WALK, [in_lab(problem), given]), wanted)


def test_level_lines_are_level(run):
    """Every point of a line has the objective of the line, inside the triangle and up to its sides."""
    for problem in problems(3):
        lines = run(
            "([problem, beta]) => Lab.simplex.levels(problem, beta, 12)", [in_lab(problem), 0.5]
        )
        corners = [
            problem.reward[i] + 0.5 * problem.ref_logps[i] for i in range(3)
        ]  # certain answers
        span = tabular.objective(tabular.optimal_policy(problem, 0.5), problem, 0.5) - min(corners)
        seen = 0
        for level in lines:
            points = float64([p for line in level["lines"] for p in line])
            inside = points[(points > 0.02).all(-1)]
            seen += len(inside)
            off = tabular.objective(inside.log(), problem, 0.5) - level["value"]
            assert len(inside) == 0 or off.abs().max() < 0.01 * span
        assert len(lines) == 12 and seen > 100


# ---------------------------------------------------------------- in the reader's hands


def shown(page):
    """What the page says of the pair in its fields: margin, loss, both slopes."""
    names = ("margin", "loss", "chosen-slope", "rejected-slope")
    return [float(said(page, name)) for name in names]


def wanted(page):
    """What the library says of the pair in the page's fields, to the digits that the page shows."""
    given = {name: number(page, name).evaluate("field => field.valueAsNumber") for name in LOGPS}
    beta = float(page.locator(f"{PAGE} [data-out=beta]").inner_text())
    loss, up, down, won, lost = torch_loss(given | {"beta": beta})
    return pytest.approx([won - lost, loss, up, down], abs=6e-4, rel=0.05)


def test_the_page_opens_on_the_pair_of_chapter_11(lab):
    assert shown(lab) == wanted(lab)
    assert shown(lab) == [1.2, 0.263, -0.093, 0.093]
    table = lab.locator(f"{PAGE} [data-member]")
    assert table.evaluate_all("rows => rows.map((row) => row.dataset.member)") == [*FAMILY]
    cells = dict(
        table.evaluate_all(
            "rows => rows.map((row) => [row.dataset.member, row.cells[1].innerText])"
        )
    )
    assert cells["ipo_sum"] == "3.063" and cells["hinge"] == "0" and cells["simpo"] == "0.744"


def test_keys_move_a_handle(lab):
    handle = lab.locator(f'{PAGE} [data-name="policy_chosen_logps"]')
    handle.focus()
    before = shown(lab)
    keys = {"ArrowRight": -4.9, "PageUp": -3.9, "ArrowLeft": -4.0, "End": 0.0, "Home": -20.0}
    for key, value in keys.items():
        lab.keyboard.press(key)
        assert shown(lab) == wanted(lab)
        assert shown(lab) != before
        assert float(handle.get_attribute("aria-valuenow")) == value
        assert number(lab, "policy_chosen_logps").input_value() == f"{value:g}"
    assert f"{value:g}" in handle.get_attribute("aria-valuetext")


def test_every_control_is_reached_by_the_keyboard_and_named(lab):
    controls = lab.locator(f"{PAGE} :is(input, select, button, [role=slider])")
    assert controls.count() > 30
    for control in controls.all():
        assert control.evaluate("e => e.tabIndex") == 0
        control.focus()
        assert control.evaluate("e => e === document.activeElement")
    names = lab.locator(PAGE).aria_snapshot()
    assert 'slider ""' not in names and 'spinbutton ""' not in names


def test_numbers_can_be_typed_and_nonsense_changes_nothing(lab):
    number(lab, "policy_rejected_logps").fill("-150.5")
    assert shown(lab) == wanted(lab)
    least = lab.locator(f'{PAGE} [data-name="policy_rejected_logps"]')
    assert float(least.get_attribute("aria-valuemin")) < -150.5
    before = shown(lab)
    for nonsense in ("3", ""):  # a probability above 1, and none
        number(lab, "policy_chosen_logps").fill(nonsense)
        assert shown(lab) == before
    number(lab, "policy_chosen_logps").blur()
    assert number(lab, "policy_chosen_logps").input_value() == "-5"
    number(lab, "chosen_lengths").fill("0")
    assert shown(lab) == before


def test_a_mouse_drags_a_handle_and_the_reference(lab):
    for selector, name in (
        ('[data-name="ref_rejected_logps"] circle', "margin"),
        ("[data-is=reference]", "short"),
    ):
        before = said(lab, name)
        handle = lab.locator(f"{PAGE} {selector}").first
        handle.scroll_into_view_if_needed()
        box = handle.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        lab.mouse.move(x, y)
        lab.mouse.down()
        lab.mouse.move(x + 40, y + 30, steps=4)
        lab.mouse.up()
        assert said(lab, name) != before
        after = said(lab, name)
        lab.mouse.move(x, y)  # let go of
        assert said(lab, name) == after
    assert shown(lab) == wanted(lab)


@pytest.mark.parametrize("lang", EDITIONS)
@pytest.mark.parametrize(
    ("touched", "name"),
    [('[data-name="policy_chosen_logps"]', "margin"), ("[data-is=reference]", "short")],
)
def test_a_finger_drags_without_scrolling_the_page(site, browser, lang, touched, name):
    screen = {"width": 360, "height": 780}
    with fresh(browser, viewport=screen, has_touch=True, is_mobile=True) as page:
        page.goto(address(site, lang))
        handle = page.locator(f"{PAGE} {touched} .loss-touch")
        handle.evaluate("e => e.scrollIntoView({ block: 'center', behavior: 'instant' })")
        box = handle.bounding_box()
        assert min(box["width"], box["height"]) >= 24  # as a finger needs it
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        before, top = said(page, name), page.evaluate("scrollY")
        finger = page.context.new_cdp_session(page)
        seen = []
        for kind, far in (("touchStart", 0), *(("touchMove", 15 * k) for k in range(1, 5))):
            points = [{"x": x - far, "y": y + far}]
            finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
            seen.append(said(page, name))
        finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        assert seen[0] == before and len(set(seen)) == 5  # it follows all the way
        assert shown(page) == wanted(page)
        assert page.evaluate("scrollY") == top


def test_soft_labels_smoothing_and_settings_reach_the_table(lab):
    def cells(name):
        row = lab.locator(f'{PAGE} [data-member="{name}"]')
        said(lab, "margin")
        return [float(text) for text in row.locator("td").all_inner_texts()]

    pair = dict(zip(LOGPS, (-5.0, -10.0, -7.0, -9.0))) | {"beta": 0.4}
    pair |= {"chosen_lengths": 5, "rejected_lengths": 8}
    slide(lab, "label_smoothing", 0.2)
    for name, settings in {
        "robust": {"label_smoothing": 0.2},
        "exo_pair": {"label_smoothing": 0.2},
        "simpo": {"label_smoothing": 0.2, "gamma_beta_ratio": 0.5},
        "hinge": {},
    }.items():
        told = torch_loss(pair | settings | {"loss_type": name})[:3]
        assert cells(name) == pytest.approx(told, abs=6e-4)
    assert said(lab, "softened") == ""
    slide(lab, "preference_prob", 0.7)
    slide(lab, "discopop_tau", 0.5)
    slide(lab, "sft_weight", 0.25)
    assert said(lab, "softened") != ""
    for name, settings in {
        "robust": {},
        "exo_pair": {"label_smoothing": 0.2},
        "discopop": {"discopop_tau": 0.5},
        "sigmoid_sft": {"sft_weight": 0.25},
    }.items():
        told = torch_loss(pair | settings | {"loss_type": name, "preference_prob": 0.7})[:3]
        assert cells(name) == pytest.approx(told, abs=6e-4)


def test_the_chosen_member_is_drawn(lab):
    title = f"{PAGE} [data-is=curve] .lab-chart-title"
    curve = f"{PAGE} [data-is=curve] path.curve"
    before = lab.locator(curve).first.get_attribute("d")
    for name in FAMILY:
        lab.locator(f"{PAGE} [data-is=member]").select_option(name)
        said(lab, "margin")
        assert lab.locator(title).inner_text().startswith(name)
        drawn = lab.locator(curve).first.get_attribute("d")
        assert "NaN" not in drawn and (drawn != before) == (name not in ("sigmoid", "robust"))
        assert lab.locator(f"{PAGE} .loss-picked").get_attribute("data-member") == name


# ---------------------------------------------------------------- the walk


def row(page, name):
    said(page, "short")
    return [
        float(text) for text in page.locator(f'{PAGE} [data-row="{name}"] td').all_inner_texts()
    ]


def test_the_walk_goes_step_by_step_to_the_optimum(lab):
    assert row(lab, "reference") == row(lab, "policy") == [0.5, 0.3, 0.2, 0.3, 0.0]
    assert row(lab, "optimum")[:3] == [0.919, 0.075, 0.007]  # chapter 7's
    lab.locator(f"{PAGE} [data-is=forward]").click()
    problem = problems(0)[0]
    wins = tabular.comparisons(problem.reward, tabular.uniform_pairs(3))
    step = torch_path(problem, lambda p: tabular.dpo_loss(p, problem.ref_logps, wins, 0.5), 2.0, 1)
    assert row(lab, "policy")[:3] == pytest.approx([math.exp(p) for p in step[1][0]], abs=6e-4)
    lab.locator(f"{PAGE} [data-is=play]").click()
    expect(number(lab, "step")).to_have_value("200", timeout=30_000)
    assert row(lab, "policy")[:3] == pytest.approx(row(lab, "optimum")[:3], abs=0.005)
    lab.locator(f"{PAGE} [data-is=reset]").click()
    assert row(lab, "policy") == row(lab, "reference")


def test_deterministic_labels_lead_past_the_optimum(lab):
    slide(lab, "step", 200)
    lab.locator(f"{PAGE} [name=labels]").select_option("deterministic")
    assert row(lab, "policy")[0] > row(lab, "optimum")[0] + 0.03
    assert said(lab, "status") != ""
    for n in (1, 2, 3):
        slide(lab, f"reward_{n}", 0)
    ties = json.loads(lab.locator(PAGE).get_attribute("data-words"))["ties"]
    assert said(lab, "status") == ties
    assert row(lab, "policy") == row(lab, "reference") == row(lab, "optimum")


def test_reference_sliders_keep_a_distribution(lab):
    slide(lab, "probability_1", 0.9)
    slide(lab, "probability_3", 0.01)
    slide(lab, "leash", -1)
    probs = row(lab, "reference")[:3]
    assert sum(probs) == pytest.approx(1, abs=0.002) and min(probs) >= 0.0095
    optimum = tabular.optimal_policy(Problem(float64(probs).log(), float64([1, 0, -1])), 0.1)
    assert row(lab, "optimum")[:3] == pytest.approx(optimum.exp().tolist(), abs=2e-3)


def test_each_member_walks_or_says_what_it_needs(lab):
    slide(lab, "step", 200)
    for name in FAMILY:
        lab.locator(f"{PAGE} [name=loss_type]").select_option(name)
        probs = row(lab, "policy")[:3]
        assert sum(probs) == pytest.approx(1, abs=0.002)
        assert ("exo_pair" in said(lab, "status")) == (name == "exo_pair")


def test_who_wants_less_motion_sees_the_end_at_once(site, browser):
    with fresh(browser, reduced_motion="reduce") as page:
        page.goto(address(site, "en"))
        page.locator(f"{PAGE} [data-is=play]").click()
        assert number(page, "step").input_value() == "200"


# ---------------------------------------------------------------- the page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("lang", EDITIONS)
def test_nothing_overflows_a_narrow_phone(site, browser, lang, scheme):
    with fresh(browser, viewport={"width": 360, "height": 780}, color_scheme=scheme) as page:
        page.goto(address(site, lang))
        for value in ("-5", "-1234.5"):
            number(page, "policy_rejected_logps").fill(value)
            said(page, "margin")
            beyond = page.evaluate(
                f"""(() => {{
                    const root = document.querySelector('{PAGE}');
                    const right = root.getBoundingClientRect().right;
                    const over = (e) => e.getBoundingClientRect().right > right || e.scrollWidth > e.clientWidth + 1;
                    return [...root.querySelectorAll("div, table, td, th, p, svg, input, button, select")]
                        .filter((e) => !e.matches("input, svg *") && over(e)).map((e) => e.outerHTML.slice(0, 80));
                }})()"""
            )
            assert beyond == []


@pytest.mark.parametrize("lang", EDITIONS)
def test_words_are_of_the_pages_language(site, browser, lang):
    page = browser.new_page()
    page.goto(address(site, lang))
    words = json.loads(page.locator(PAGE).get_attribute("data-words"))
    shown = page.locator(f"{PAGE} :is(p, caption, .loss-slider label, button)").all_inner_texts()
    every = [text for text in (*words.values(), *shown) if text.strip()]
    han = [any("\u4e00" <= sign <= "\u9fff" for sign in text) for text in every]
    assert all(han) if lang == "zh" else not any(han)
    page.close()


@pytest.mark.skipif(not AXE.is_file(), reason="axe-core is not there")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(site, browser, scheme):
    with fresh(browser, color_scheme=scheme, bypass_csp=True) as page:
        page.goto(address(site, "zh"))
        page.locator(f"{PAGE}[data-ready]").wait_for()
        page.add_script_tag(path=AXE)
        found = page.evaluate(f"axe.run('{PAGE}')")["violations"]
        assert [(v["id"], [node["html"] for node in v["nodes"]]) for v in found] == []
