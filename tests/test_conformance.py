"""The conformance cases: well formed, independent of what they judge, passed by dpo_core, and able to fail.

TRL's results are held as they were recorded for 1.16, so that a change of its conventions is seen here.
"""

import json
import math
import subprocess
import sys
from collections import Counter

import jsonschema
import pytest
import torch

import sources
from tests.conformance import adapters, make_cases, run

CASES = run.read_cases()
ROOT = sources.CHAPTERS.parent
CORE = adapters.DpoCore()
TRL_CONVENTIONS = {
    "cdpo",
    "book-label-smoothing-met",
    "book-label-smoothing-at-the-start",
    "ipo",
    "ipo-past-target",
    "step-uneven-accumulation",
    "implicit-prompt-shared-digit",
    "end-twice",
    "cut-to-the-same",
    "merge-one",
    "merge-both",
}
TRL_FAILURES = {"one-text-begins-the-other"}
TRL_NOT_ASKED = {
    *("soft-label", "soft-half", "tie", "book-soft-label-met", "book-tie"),
    *("book-label-turned-round", "positions-left-padding", "sft-uneven-accumulation"),
}


def by_id(name):
    return next(case for case in CASES if case["id"] == name)


def titled(case):
    return case["id"]


# ---------------------------------------------------------------- the files


@pytest.mark.parametrize("kind", run.KINDS)
def test_files_keep_to_the_schema_and_are_what_the_generator_writes(kind):
    """A value edited by hand, a generator changed without its files, a column that the format does not know."""
    text = (run.HERE / f"{kind}.json").read_text(encoding="utf-8")
    schema = json.loads((run.HERE / "schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(json.loads(text), schema)
    assert text == make_cases.made()[f"{kind}.json"]
    assert "MIT" in json.loads(text)["licence"]


def test_the_schema_refuses():
    """A case without its expectation, or with a loss that the format does not know."""
    schema = json.loads((run.HERE / "schema.json").read_text(encoding="utf-8"))
    for spoil in (lambda c: c.pop("expect"), lambda c: c.update(loss_type="dpo")):
        content = json.loads((run.HERE / "loss.json").read_text(encoding="utf-8"))
        spoil(content["cases"][0])
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(content, schema)


def test_the_generator_knows_neither_library_nor_tensors():
    """An expectation taken from what it judges would agree with every mistake."""
    code = "import sys, tests.conformance.make_cases as m; m.made(); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert not {"torch", "trl", "dpo_core", "numpy"} & set(done.stdout.split())


def test_ids_are_unique_and_the_cases_many():
    assert max(Counter(case["id"] for case in CASES).values()) == 1
    assert len(CASES) >= 60


def test_the_shipped_tokenizer_is_the_one_of_the_cases():
    shipped = ROOT / "dpo_core" / "pretrained" / "gen.model" / "tokenizer.json"
    assert (
        run.HERE / "tokenizers" / "char" / "tokenizer.json"
    ).read_bytes() == shipped.read_bytes()


SMOOTH = [c for c in CASES if c["kind"] == "loss" and "not_finite" not in c["expect"]]


@pytest.mark.parametrize("case", SMOOTH, ids=titled)
def test_written_derivatives_are_differences_of_the_written_losses(case):
    """A slip in a derivative that was worked out by hand: a sign, a length, a beta."""
    small = 1e-5
    for name, grad in (
        ("policy_chosen_logps", "grad_chosen"),
        ("policy_rejected_logps", "grad_rejected"),
    ):
        up, down = (
            make_cases.pair_loss({**case, name: case[name] + s})[0] for s in (small, -small)
        )
        assert case["expect"][grad] == pytest.approx((up - down) / (2 * small), rel=1e-6, abs=1e-6)


def test_a_written_step_is_a_difference_of_written_losses():
    """The gradient of a table entry, by moving its logit and normalising the row again."""
    case, small = by_id("step-uneven-accumulation"), 1e-6

    def loss(shift):
        case_moved = json.loads(json.dumps(case))
        line = [float(make_cases.Fraction(p)) for p in case["policy"][3]]
        line[4] *= math.exp(shift)
        case_moved["policy"][3] = [p / sum(line) for p in line]
        return make_cases.step_expected(case_moved)["loss"]

    slope = (loss(small) - loss(-small)) / (2 * small)
    assert case["expect"]["grad"][3][4] == pytest.approx(slope, rel=1e-6)
    assert abs(slope) > 1e-3


# ---------------------------------------------------------------- dpo_core and TRL


@pytest.mark.parametrize("case", CASES, ids=titled)
def test_dpo_core_passes(case):
    result = run.judge(CORE, case)
    assert result.status == "pass", result.note


def test_trl_does_as_recorded():
    """A TRL that changed a convention: then the explanations in the cases are to be read again."""
    trl = pytest.importorskip("trl")
    found = {r.case: r.status for r in run.run([adapters.Trl()])}
    # without a prompt the chat template is applied to no message: what is raised is not TRL's
    assert found.pop("unequal-prompts") in ("pass", "fail")
    expected = dict.fromkeys(found, "pass")
    expected |= dict.fromkeys(TRL_CONVENTIONS, "convention") | dict.fromkeys(TRL_FAILURES, "fail")
    expected |= dict.fromkeys(TRL_NOT_ASKED, "not asked")
    assert found == expected, trl.__version__


# ---------------------------------------------------------------- the cases can fail


class Means(adapters.DpoCore):
    """Mean instead of sum."""

    def logps(self, case):
        found = super().logps(case)["logps"]
        return {"logps": [v / sum(row["mask"]) for v, row in zip(found, case["rows"])]}


class OffByOne(adapters.DpoCore):
    """The mask applied a place too late: the first token is lost, and what follows the last one counts."""

    def logps(self, case):
        rows = [{**row, "mask": [0, *row["mask"][:-1]]} for row in case["rows"]]
        return super().logps({**case, "rows": rows})


class NoEnd(adapters.DpoCore):
    """The end token left out of the mask, as by `id != pad` where the pad token is the end token."""

    def logps(self, case):
        rows = [
            {**r, "mask": [m * (i != 2) for i, m in zip(r["ids"], r["mask"])]} for r in case["rows"]
        ]
        return super().logps({**case, "rows": rows})


class SigmoidThenLog(adapters.DpoCore):
    """log(sigmoid(h)) in float32."""

    def loss(self, case):
        if case["loss_type"] != "sigmoid" or {"label_smoothing", "preference_prob"} & set(case):
            return super().loss(case)
        four = [torch.tensor(float(case[n]), requires_grad=True) for n in adapters.FOUR]
        loss = -(case["beta"] * (four[0] - four[2] - four[1] + four[3])).sigmoid().log()
        grads = torch.autograd.grad(loss, four[:2])
        return {
            "loss": loss.item(),
            "grad_chosen": grads[0].item(),
            "grad_rejected": grads[1].item(),
        }


class MeanOfMeans(adapters.DpoCore):
    """Every micro-batch divided by its own count, then by their number."""

    def step(self, case):
        parts = [
            super(MeanOfMeans, self).step({**case, "micro_batches": [m]})
            for m in case["micro_batches"]
        ]
        grad = torch.tensor([part["grad"] for part in parts]).mean(0)
        return {"loss": sum(p["loss"] for p in parts) / len(parts), "grad": grad.tolist()}


class PromptInLoss(adapters.DpoCore):
    """Every token counts but the first."""

    def logps(self, case):
        rows = [{**r, "mask": [0] + [1] * (len(r["ids"]) - 1)} for r in case["rows"]]
        return super().logps({**case, "rows": rows})


LOGPS = {case["id"] for case in CASES if case["kind"] == "logps"}
PLANTED = {
    # all that have more than one token in some answer
    Means: LOGPS - {"first-answer-token", "end-counts", "only-end"},
    OffByOne: LOGPS,
    NoEnd: LOGPS - {"first-answer-token", "long-sum-bfloat16"},  # without an end
    SigmoidThenLog: {"lost-by-200", "book-hopelessly-lost"},
    MeanOfMeans: {"step-uneven-accumulation", "sft-uneven-accumulation"},
    PromptInLoss: {
        "prompt-not-counted",
        "first-answer-token",
        "end-counts",
        "padding-not-counted",
        "mask-inside",
    },
}


@pytest.mark.parametrize("adapter", PLANTED, ids=lambda a: a.__doc__)
def test_a_planted_fault_fails_exactly_its_cases(adapter):
    """A fault that no case sees, or a case that fails for another reason than its own."""
    results = run.run([adapter()])
    assert {r.case for r in results if r.status != "pass"} == PLANTED[adapter]


# ---------------------------------------------------------------- the runner


class OnlyLosses:
    """The smallest adapter: one method, of another library's making."""

    def loss(self, case):
        return CORE.loss(case)


class Broken:
    """An adapter whose trainer fails."""

    def kto(self, case):
        raise KeyError("no such loss")


class Nothing:
    """No adapter."""


def test_what_an_adapter_has_no_method_for_is_not_asked(capsys):
    assert run.main(["--adapter", "test_conformance:OnlyLosses"]) == 0
    assert (
        f"{len(CASES) - sum(c['kind'] == 'loss' for c in CASES)} not asked"
        in capsys.readouterr().out
    )


def test_a_failure_is_told_and_counted(capsys):
    assert run.main(["--adapter", "test_conformance:Broken", "--json"]) == 1
    failed = [r for r in json.loads(capsys.readouterr().out) if r["status"] == "fail"]
    assert len(failed) == 3 and all("no such loss" in r["note"] for r in failed)


@pytest.mark.parametrize(
    "path", ["nowhere", "no.such.module:A", "test_conformance:Absent", "test_conformance:Nothing"]
)
def test_a_bad_adapter_is_one_line(path, capsys):
    assert run.main(["--adapter", path]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and path in said.err


def test_the_readme_shows_an_adapter_that_works(tmp_path, monkeypatch, capsys):
    """An example that has gone stale is worse than none; both languages show the same one."""
    shown = [
        (run.HERE / name).read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
        for name in ("README.md", "README.zh.md")
    ]
    assert shown[0] == shown[1] and len(shown[0].splitlines()) <= 16
    (tmp_path / "my_trainer_cases.py").write_text(shown[0], encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert run.main(["--adapter", "my_trainer_cases:MyTrainer"]) == 0
    assert ", 0 fail" in capsys.readouterr().out
