"""The comparison of speeds (tests/bench.py): it runs, its report has its form, and it counts the work rightly."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from dpo_core.checkpoint import load_pretrained
from dpo_core.sampling import generate
from dpo_core.task import BookTask, stream

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[1]
for library in ("trl", "transformers", "datasets"):
    pytest.importorskip(library, reason="the comparison needs the `test` extra")


def test_the_report_has_a_ratio_for_each_comparison_and_engine(tmp_path):
    """One short round of DPO; it also says that loss and gradient equal TRL's, or fails."""
    path = tmp_path / "build" / "bench.json"
    command = [sys.executable, "tests/bench.py", "--quick", "--parts", "dpo", "--output", str(path)]
    here = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, cwd=ROOT, env=here, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr
    assert run.stderr == "" and "dpo_vs_trl_live" in run.stdout
    report = json.loads(path.read_text())
    keys = {"dpo_vs_trl_precomputed", "dpo_vs_trl_live", "matmul_share"}
    for engine in ("eager", "compiled"):
        assert report[engine].keys() == report["spread"][engine].keys() == keys
        for name, value in report[engine].items():
            assert math.isfinite(value) and value > 0
            assert value == report["spread"][engine][name]["median"]
        assert report[engine]["matmul_share"] < 1
    assert report["per_second"].keys() == {"eager", "compiled", "theirs"}
    assert report["apart"]["graphs_compiled_while_timed"] == 0
    assert report["machine"]["threads"] == 1


def test_the_work_of_a_pair_is_what_a_list_of_all_products_adds_up_to():
    """A prompt counted for each answer, or an answer's last token that is read, makes the share too large."""
    from bench import needed_flops

    model = load_pretrained("gen")
    config, prompt, answers = model.config, 4, (6, 3)
    inside = sum(p.numel() for n, p in model.named_parameters() if ".layers." in n and p.dim() == 2)
    read = [("prompt", place) for place in range(prompt)]
    read += [(which, prompt + i) for which in (0, 1) for i in range(answers[which] - 1)]
    predicting = {
        (which, place) if place >= prompt else ("prompt", place)
        for which in (0, 1)
        for place in range(prompt - 1, prompt + answers[which] - 1)
    }
    met = [(q, k) for q in read for k in read if k[0] in ("prompt", q[0]) and k[1] <= q[1]]
    forward = 2 * inside * len(read) + 2 * model.lm_head.weight.numel() * len(predicting)
    forward += 4 * config.num_hidden_layers * config.hidden_size * len(met)
    assert needed_flops(config, prompt, *answers) == 3 * forward


def arm(side: str, loss: float, norm: float):
    """An arm whose first step has this loss and gradient norm."""
    from bench import Arm, Timing

    return Arm("sft", side, lambda start, warm, timed: Timing(first=(loss, norm)))


@pytest.mark.parametrize(("loss", "norm"), [(1.25, 2.01), (1.251, 2.0), (math.nan, 2.0)])
def test_arms_whose_loss_or_gradient_differs_are_refused(loss, norm):
    """A faster arm that leaves out a part of the work must not be reported."""
    from bench import Unfair, check_training

    check_training([arm("eager", 1.25, 2.0), arm("theirs", 1.25, 2.0)], torch.float32)
    with pytest.raises(Unfair, match=r"sft: the (loss|gradient norm) is .* eager"):
        check_training([arm("eager", loss, norm), arm("theirs", 1.25, 2.0)], torch.float32)


def test_answers_of_another_distribution_are_refused():
    """At a temperature a little below 1 answers end sooner, and sampling seems faster than it is."""
    from bench import Unfair, check_sampling

    model = load_pretrained("gen")
    questions, _ = BookTask().demonstrations(1024, stream("test", 0))
    data = SimpleNamespace(gen=model, questions=questions)
    draws = {
        heat: [
            text
            for seed in seeds
            for text in generate(model, questions, temperature=heat, seed=seed)
        ]
        for heat, seeds in ((1.0, (0, 1, 2)), (0.8, (3, 4, 5)))
    }
    other = [text for seed in (6, 7, 8) for text in generate(model, questions, seed=seed)]
    check_sampling(data, {"eager": draws[1.0], "theirs": other})
    with pytest.raises(Unfair, match=r"sampling: .* standard errors apart"):
        check_sampling(data, {"eager": draws[0.8], "theirs": other})
