"""The lab computes what Python computes, and trains what Python trains; in headless Chromium, on the built site."""

import contextlib
import hashlib
import json
from fractions import Fraction

import numpy as np
import pytest
import torch

from book import contents, lab, lab_pairs
from dpo_core import judge, load_pretrained, score
from dpo_core.evaluation import wilson
from dpo_core.optim import learning_rate_factor
from dpo_core.preferences import label
from dpo_core.sampling import next_token_probs
from dpo_core.steps import dpo_step
from dpo_core.task import BookTask, stream
from dpo_core.theory import class_rewards, predicted_optimum, predicted_shares
from dpo_core.tokenizer import CharTokenizer
from dpo_core.training import LoopConfig, train
from site_pages import fresh

ANSWERS = json.loads(lab_pairs.PLACE.read_text(encoding="utf-8"))
TEXTS = ["S54=27+27E", "S-3=9-12E", "S7=45-32-6E", "S0=", "S108=49+59+0E", "S12=*/.:_U--E"]
CASES = json.loads((contents.CHAPTERS / "data" / "loss_cases.json").read_text(encoding="utf-8"))
SETTINGS = {"beta": 0.25, "reward": "style+exact", "labels": "soft", "rate": 2e-3}
SETTINGS |= {"steps": 200, "bug": "none", "seed": 0}


@pytest.fixture(scope="module")
def engine(site, browser):
    """Runs JavaScript beside the lab's engine: `engine("modules.task.judge(...)")`."""
    with fresh(browser) as page:
        page.goto(f"{site.url}/lab/world.json")  # a document without a policy of its own
        names = "tokens task safetensors llama sampling world network optimizer pairs training"
        page.evaluate(
            """async (names) => {
                const found = names.split(" ").map((name) => import(new URL(`engine/${name}.js`, location.href)));
                window.modules = Object.fromEntries((await Promise.all(found)).map((one, k) => [names.split(" ")[k], one]));
                window.jax = await import(new URL("vendor/jax/index.js", location.href));
                const get = async (name) => (await fetch(new URL(name, location.href)));
                window.world = await (await get("world.json")).json();
                window.answers = await (await get("pairs.json")).json();
                window.models = {};
                for (const name of ["gen", "dpo"]) {
                    const config = await (await get(`models/${name}.model/config.json`)).json();
                    const tensors = modules.safetensors.read(await (await get(`models/${name}.model/model.safetensors`)).arrayBuffer());
                    models[name] = { config, tensors, llama: new modules.llama.Llama(config, tensors) };
                }
                await modules.training.startDevice("wasm");
            }""",
            names,
        )
        yield page.evaluate


def random_expressions(count, seed):
    """Texts that are expressions, nearly are, or are not."""
    rng = np.random.default_rng(seed)
    numbers = (
        "0",
        "7",
        "54",
        "3.5",
        "0.05",
        "10.00",
        "007",
        "1.",
        ".5",
        "120",
        "99999999999999999999",
    )
    for _ in range(count):
        text = rng.choice(("", "-", "+")) + rng.choice(numbers)
        for _ in range(rng.integers(5)):
            text += rng.choice(("+", "-", "*", "/", "*-", "--", "/-")) + rng.choice(numbers)
        yield str(text + rng.choice(("E", "E", "E", "", "EE", "E0")))


def test_the_checker_is_pythons(engine):
    prompts = ("S54=", "S0=", "S-3.5=", "S0.25=")
    cases = [(prompts[i % 4], text) for i, text in enumerate(random_expressions(4000, 0))]
    cases += [("S54=", "27+27E"), ("S54=", "1" * 121 + "E"), ("S54=", ""), ("S54=", "E")]
    cases += [(f"S{a}=", x) for a, *xs in ANSWERS["pairs"][:500] for x in xs]
    found = engine("(cases) => cases.map(([p, c]) => modules.task.judge(p, c))", cases)
    kinds = set()
    for (prompt, text), seen in zip(cases, found, strict=True):
        right = judge(prompt, text)
        value = None if seen["value"] is None else Fraction(seen["value"])
        assert (seen["wellFormed"], seen["numbers"], value, seen["exact"], seen["style"]) == (
            *(right.well_formed, right.numbers, right.value, right.exact, right.style),
        ), (prompt, text)
        kinds.add((right.well_formed, right.value is None, right.exact))
    assert len(kinds) == 4  # no expression, a division by zero, a miss, a hit


@pytest.mark.parametrize("name", ["gen", "dpo"])
def test_logits_are_pythons(engine, name):
    model, tokenizer = load_pretrained(name), CharTokenizer()
    for text in TEXTS:
        with torch.no_grad():
            right = model(torch.tensor([tokenizer.encode(text)]))[0]
        code = """([name, text]) => {
            const { llama } = models[name];
            const cache = llama.start();
            return modules.tokens.encode(text).map((id) => [...llama.step(id, cache)]);
        }"""
        assert (torch.tensor(engine(code, [name, text])) - right).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("temperature", "top_k"), [(1, 0), (0.5, 0), (2, 3), (1, 1), (0, 0), (0.1, 22)]
)
def test_the_next_token_is_drawn_as_in_python(engine, temperature, top_k):
    logits = 3 * torch.randn(22, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    right = next_token_probs(logits[None], temperature, top_k or None)[0]
    settings = {"temperature": temperature, "topK": top_k}
    code = "([logits, settings]) => [...modules.sampling.nextTokenProbs(logits, settings)]"
    assert np.allclose(engine(code, [logits.tolist(), settings]), right, atol=1e-12)


def test_what_theory_says_is_what_python_says(engine):
    task = BookTask()
    for hits, n in ((0, 200), (7, 200), (200, 200)):
        seen, right = engine("([k, n]) => modules.world.wilson(k, n)", [hits, n]), wilson(hits, n)
        assert np.allclose(
            (seen["value"], seen["low"], seen["high"]), (right.value, right.low, right.high)
        )
    code = "([reward, beta]) => modules.world.predicted(world, reward, beta)"
    for reward, beta in (("style", 0.1), ("exact", 1.0), ("style+exact", 0.25)):
        right = predicted_optimum(task, reward, beta)
        assert engine(code, [reward, beta]) == pytest.approx(right, rel=1e-9)
    rates = torch.from_numpy(task.class_rates).flatten(1).log()
    assert engine(code, ["style", 0]) == pytest.approx(predicted_shares(task, rates), abs=1e-9)
    assert lab.world()["dpo"] == {"reward": "style+exact", "beta": 0.25}


@pytest.mark.parametrize("reward", ["style", "exact", "style+exact"])
def test_labels_are_pythons(engine, reward):
    rows = ANSWERS["pairs"][:600]
    worth = np.array(
        [[class_rewards(reward)[int(v.style), int(v.exact)] for v in (judge(f"S{t}=", x) for x in both)]
         for t, *both in rows]
    )  # fmt: skip
    for kind in ("soft", "deterministic"):
        swap, prob, kept = label(worth[:, 0] - worth[:, 1], kind, stream("lab", 0))
        right = [
            {"prompt": f"S{t}=", "chosen": both[int(s)], "rejected": both[1 - int(s)], "prob": p}
            for (t, *both), s, p, k in zip(rows, swap, prob, kept, strict=True)
            if k
        ]
        code = "([rows, reward, kind]) => modules.pairs.labelled(rows, reward, kind)"
        seen = engine(code, [rows, reward, kind])
        assert [{**row, "prob": pytest.approx(row["prob"])} for row in seen] == right
    drawn = [engine(code, [rows, reward, "sampled"]) for _ in range(2)]
    assert drawn[0] == drawn[1] and {row["prob"] for row in drawn[0]} == {1}
    gaps = worth[:, 0] - worth[:, 1]
    wins = np.array([row["chosen"] == both[0] for row, (_, *both) in zip(drawn[0], rows)])
    differ = np.array([both[0] != both[1] for _, *both in rows])
    expected = 1 / (1 + np.exp(-gaps[differ]))
    spread = np.sqrt((expected * (1 - expected)).sum())
    assert abs((wins[differ] - expected).sum()) < 3 * spread


def test_the_stored_loss_cases_hold(engine):
    """Losses and gradients; in float32, so what is smaller than its least number is 0."""
    code = """([policy, ref, beta, prob]) => {
        const { numpy: np } = jax;
        const [logps, refs, strength, q] = [[policy], [ref], [beta], [prob]].map((x) => np.array(x));
        const [loss, gradient] = jax.valueAndGrad(modules.network.dpoLoss)(logps, refs, strength, q);
        return [loss.js(), ...gradient.js()[0]];
    }"""
    for case in CASES["losses"]:
        logps = {name: value[1] for name, value in case.items() if name.endswith("_logps")}
        both = [
            [logps[f"{who}_{side}_logps"] for side in ("chosen", "rejected")]
            for who in ("policy", "ref")
        ]
        prob = case.get("preference_prob", 1 - case.get("label_smoothing", 0))
        seen = engine(code, [*both, case["beta"], prob])
        right = [case[name][1] for name in ("loss", "grad_chosen", "grad_rejected")]
        assert seen == pytest.approx(right, rel=1e-6, abs=1e-7), case["name"]


def batch_of(rows):
    """Rows of pairs as Python's loop takes them, the reference's log-probabilities beside them."""
    tokenizer = CharTokenizer()
    prompts = [row["prompt"] for row in rows]
    batch, reference = {}, load_pretrained("gen")
    for side in ("chosen", "rejected"):
        texts = [row[side] for row in rows]
        ids, mask = tokenizer.collate(prompts, texts)
        room = ANSWERS["longest"] - ids.shape[1]
        batch[f"{side}_ids"] = torch.nn.functional.pad(ids, (0, room))
        batch[f"{side}_mask"] = torch.nn.functional.pad(mask, (0, room))
        batch[f"ref_{side}_logps"] = score(reference, prompts, texts)
    batch["preference_prob"] = torch.tensor([row["prob"] for row in rows])
    return batch


TRAINING = """(settings) => {
    const { config, tensors } = models.gen;
    window.run?.dispose();
    window.run = new modules.training.Training(config, tensors, answers, settings);
}"""


def test_a_run_begins_where_the_numbers_are_right(engine):
    """Guards against a graphics card that computes something else: WebAssembly takes its place."""
    code = """async ([devices, spoil]) => {
        const { Training, begin } = modules.training;
        const agrees = Training.prototype.agrees;
        let asked = 0;
        Training.prototype.agrees = async function () { return asked++ < spoil ? false : agrees.call(this); };
        const { config, tensors } = models.gen;
        try {
            const { training, where } = await begin(config, tensors, answers, settings, devices);
            training.dispose();
            return [where, asked];
        } catch (error) { return error.message; } finally { Training.prototype.agrees = agrees; }
    }""".replace("answers, settings", f"answers, {json.dumps(SETTINGS)}")
    assert engine(code, [["nothing", "wasm"], 0]) == ["wasm", 1]
    assert engine(code, [["wasm", "wasm"], 1]) == ["wasm", 2]
    assert "tried wasm" in engine(code, [["wasm"], 1])
    wrong = """async (settings) => {
        const { config, tensors } = models.gen;
        const run = new modules.training.Training(config, tensors, answers, settings);
        run.reference = models.dpo.llama;
        const found = await run.agrees();
        run.dispose();
        return found;
    }"""
    assert engine(wrong, SETTINGS) is False


def test_loss_and_gradient_of_a_real_batch_are_torchs(engine):
    """After some steps, so that policy and reference differ."""
    engine(TRAINING, SETTINGS)
    engine("async () => { for (let k = 0; k < 5; k++) await run.advance(); }")
    seen = engine("""async () => {
        const rows = run.pairsAt(run.step);
        const { loss, logps, gradients } = run.learnFrom(rows);
        const parts = await modules.network.unpack(run.config, gradients);
        const file = modules.safetensors.write(await modules.network.unpack(run.config, run.weights));
        return { rows, loss: await loss.data(), logps: await logps.data(), file: [...file],
                 gradients: Object.fromEntries(Object.entries(parts).map(([name, { data }]) => [name, [...data]])) };
    }""")
    from safetensors.torch import load

    model = load_pretrained("gen")
    model.load_state_dict(load(bytes(seen["file"])))
    sums = dpo_step(SETTINGS["beta"])(model, batch_of(seen["rows"]))
    loss = sums["loss"][0] / sums["loss"][1]
    loss.backward()
    assert seen["loss"][0] == pytest.approx(loss.item(), rel=1e-4)
    for name, parameter in model.named_parameters():
        found = torch.tensor(seen["gradients"][name]).view_as(parameter)
        assert (found - parameter.grad).norm() < 1e-4 * parameter.grad.norm(), name


def test_steps_are_pythons(engine):
    """The same pairs in the same order, the same optimiser: the same losses, until rounding has grown."""
    lines = engine("""async ([make, settings]) => {
        (0, eval)(make)(settings);
        const lines = [];
        for (let k = 0; k < 30; k++) lines.push(await run.advance());
        return lines;
    }""", [TRAINING, SETTINGS])  # fmt: skip
    pairs = engine("() => run.pairs.slice(0, 30 * 32)")
    steps = python_run(pairs, steps=200, until=30)
    assert [line["loss"] for line in lines[:20]] == pytest.approx(steps[:20], rel=1e-4)
    assert [line["loss"] for line in lines] == pytest.approx(steps, rel=5e-3)


def python_run(pairs, steps, until=None, model=None):
    """The losses of Python's loop on the pairs in their order, 32 a step."""
    model = model or load_pretrained("gen")
    data = batch_of(pairs)
    losses = []

    class Enough(Exception):
        pass

    def batch_at(step):
        if step == until:
            raise Enough
        rows = [(step * 32 + k) % len(pairs) for k in range(32)]
        return {name: tensor[rows] for name, tensor in data.items()}

    inner = dpo_step(SETTINGS["beta"])

    def step(model, batch):
        sums = inner(model, batch)
        losses.append(float(sums["loss"][0].detach() / sums["loss"][1]))
        return sums

    config = LoopConfig(steps=steps, learning_rate=SETTINGS["rate"], optimizer="muon", log_every=1)
    with contextlib.suppress(Enough):
        train(model, batch_at, step, config, compile=False, progress=False)
    return losses


def test_the_schedule_is_pythons(engine):
    code = "([steps, warmup]) => Array.from({length: steps}, (_, k) => modules.optimizer.schedule(k, steps, warmup))"
    for steps, warmup in ((200, 20), (20, 20), (37, 0)):
        right = [learning_rate_factor(step, steps, warmup) for step in range(steps)]
        assert engine(code, [steps, warmup]) == pytest.approx(right)


def test_each_bug_does_what_it_says(engine):
    """Which tokens count, what becomes of beta, who is the reference; and what the log then shows."""
    row = {"prompt": "S54=", "chosen": "27+27E", "rejected": "4+50E", "prob": 1}
    code = "([row, bug]) => modules.pairs.rowsOf(row, modules.pairs.BUGS[bug])[0].weights"
    counted = {bug: engine(code, [row, bug]) for bug in ("none", "end", "mean")}
    assert counted["none"] == [0] * 4 + [1] * 6
    assert counted["end"] == [0] * 3 + [1] * 6 + [0]
    assert counted["mean"] == pytest.approx([0] * 4 + [1 / 6] * 6)
    assert engine("() => modules.pairs.BUGS.beta.beta(0.1)") == pytest.approx(0.01)
    assert engine("() => modules.pairs.BUGS.self.reference") == "policy"
    first = {}
    for bug in ("none", "shift", "mean"):
        engine(TRAINING, SETTINGS | {"bug": bug})
        first[bug] = engine("async () => [await run.advance(), await run.advance()]")
    assert first["shift"][0]["chosen"] < first["none"][0]["chosen"] - 20  # as of random tokens
    assert abs(first["mean"][0]["chosen"]) < 2
    engine(TRAINING, SETTINGS | {"bug": "self"})
    code = "async () => { for (let k = 0; k < 14; k++) await run.advance(); return [await run.advance()]; }"
    (last,) = engine(code)  # the policy runs, and the loss does not see it
    assert last["loss"] == pytest.approx(np.log(2), abs=1e-4)


def test_the_answers_are_those_of_the_shipped_model():
    """Guards against pairs that another model wrote: the ratio to the reference would be another one."""
    assert hashlib.sha256(lab_pairs.WEIGHTS.read_bytes()).hexdigest() == ANSWERS["weights_sha256"]
    assert len(ANSWERS["pairs"]) == lab_pairs.PAIRS
    longest = max(len(t) + 2 + max(map(len, both)) for t, *both in ANSWERS["pairs"])
    assert longest == ANSWERS["longest"]
