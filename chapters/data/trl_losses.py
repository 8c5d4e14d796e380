"""What TRL's own code makes of eight pairs: losses and gradients of every loss type, for chapter 11: trl_losses.json.

    python chapters/data/trl_losses.py        (seconds; needs trl)

TRL computes a loss inside its trainers. Here its methods run unchanged on a model that returns given
log-probabilities, one pair at a time, so that a batch's mean is the pair's loss. Everything is float64 but ORPO's
log-probabilities and EXO's label smoothing, which TRL casts to float32.
"""

import json
import math
import sys
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import torch
import trl
from trl import DPOTrainer, KTOTrainer
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer

HERE = Path(__file__).resolve().parent
NAMES = ("policy_chosen_logps", "policy_rejected_logps", "ref_chosen_logps", "ref_rejected_logps")
PAIRS = [  # the four log-probabilities and the two lengths
    (-10.0, -14.0, -12.0, -11.0, 6, 8),
    (-9.5, -9.5, -9.5, -9.5, 5, 5),
    (-20.0, -3.0, -18.0, -6.0, 9, 2),
    (-6.25, -7.5, -8.0, -6.0, 7, 6),
    (-31.0, -45.0, -33.0, -30.0, 20, 25),
    (-2.0, -2.5, -1.0, -4.0, 3, 3),
    (-15.0, -12.0, -9.0, -13.0, 4, 8),
    (-1.5, -60.0, -5.0, -50.0, 2, 40),
]
SETTINGS = (
    [
        {"loss_type": name, "beta": beta}
        for name in (
            "sigmoid",
            "hinge",
            "ipo",
            "nca_pair",
            "bco_pair",
            "sppo_hard",
            "apo_zero",
            "apo_down",
            "discopop",
            "sigmoid_norm",
        )
        for beta in (0.1, 0.5)
    ]
    + [
        {"loss_type": name, "beta": beta, "label_smoothing": epsilon}
        for name in ("robust", "exo_pair")
        for beta, epsilon in ((0.1, 0.1), (0.5, 0.3))
    ]
    + [
        {"loss_type": "robust", "beta": 0.1},
        {"loss_type": "discopop", "beta": 0.5, "discopop_tau": 0.5},
        {"loss_type": "sigmoid_sft", "beta": 0.1, "sft_weight": 1.0},
        {"loss_type": "sigmoid_sft", "beta": 0.5, "sft_weight": 0.3},
        {"loss_type": "simpo", "beta": 2.0, "gamma_beta_ratio": 0.5},
        {"loss_type": "simpo", "beta": 2.5, "gamma_beta_ratio": 0.3, "label_smoothing": 0.1},
        {"loss_type": "orpo", "beta": 0.1},
        {"loss_type": "orpo", "beta": 1.0},
    ]
    + [
        {
            "loss_type": "kto",
            "beta": beta,
            "kl": kl,
            "desirable_weight": 1.0,
            "undesirable_weight": weight,
        }
        for beta, kl, weight in ((0.1, 0.0, 1.0), (0.5, 2.0, 1.5))
    ]
)


class Stop(Exception):
    """Carries the loss out of TRL's method."""


class Outputs:
    """A model's outputs, of which TRL's loss needs the log-probabilities; what it reads next is the entropy."""

    def __init__(self, log_probs: torch.Tensor) -> None:
        self.log_probs = log_probs

    @property
    def entropy(self) -> torch.Tensor:
        """The loss has been computed by now: it is among the caller's variables."""
        variables = sys._getframe(1).f_locals
        raise Stop(variables["losses"] if "losses" in variables else variables["loss"])


def trainer(setting: dict, **more: object) -> SimpleNamespace:
    """What the methods of TRL's trainers look up in `self`."""
    accelerator = SimpleNamespace(device="cpu", gather_for_metrics=lambda value: value)
    return SimpleNamespace(
        model=SimpleNamespace(training=True),
        accelerator=accelerator,
        aux_loss_enabled=False,
        beta=setting["beta"],
        label_smoothing=setting.get("label_smoothing", 0.0),
        precompute_ref_logps=True,
        _metrics={"train": defaultdict(list)},
        **more,
    )


def run(
    method, me: SimpleNamespace, logps: list[torch.Tensor], lengths: tuple[int, ...], inputs: dict
) -> torch.Tensor:
    """The loss that a trainer's method finds for answers of these log-probabilities and lengths."""
    width = max(lengths) + 1
    mask = torch.tensor([[0] + [1] * length + [0] * (width - 1 - length) for length in lengths])
    tokens = torch.zeros(len(lengths), width - 1, dtype=torch.float64)
    tokens[:, 0] = torch.stack(logps)  # only the sum over an answer's tokens matters
    try:
        inputs = {"input_ids": mask.clone(), "completion_mask": mask, **inputs}
        method(me, lambda **kwargs: Outputs(tokens), inputs, False)
    except Stop as stop:
        return stop.args[0]
    raise RuntimeError("TRL has changed: its loss was not reached")


def dpo(setting: dict, pair: tuple, four: list[torch.Tensor]) -> torch.Tensor:
    """One pair by DPOTrainer; our sigmoid_sft is its sum of sigmoid and sft."""
    names = {"sigmoid_sft": ["sigmoid", "sft"]}.get(setting["loss_type"], [setting["loss_type"]])
    me = trainer(
        setting,
        ld_alpha=None,
        f_divergence_type="reverse_kl",
        loss_types=names,
        loss_weights=[1.0, setting.get("sft_weight")][: len(names)],
        use_weighting=False,
        args=SimpleNamespace(discopop_tau=setting.get("discopop_tau", 0.05)),
    )
    inputs = {"ref_chosen_logps": four[2][None], "ref_rejected_logps": four[3][None]}
    return run(DPOTrainer._compute_loss, me, four[:2], pair[4:], inputs)


def kto(setting: dict, pair: tuple, four: list[torch.Tensor]) -> torch.Tensor:
    """Both answers of a pair by KTOTrainer, each by itself: chosen is desirable, rejected is not."""
    point = torch.tensor([setting["kl"]], dtype=torch.float64)
    weights = {name: setting[name] for name in ("desirable_weight", "undesirable_weight")}
    me = trainer(
        setting,
        loss_type="kto",
        calculate_KL=True,
        _compute_kl_logps=lambda model, batch: point,
        **weights,
    )
    label = torch.tensor([True, False])
    inputs = {
        "label": label,
        "ref_logps": torch.stack(four[2:]),
        "ref_KL_logps": torch.zeros_like(point),
    }
    return run(KTOTrainer._compute_loss, me, four[:2], pair[4:], inputs)


def without_reference(setting: dict, pair: tuple, four: list[torch.Tensor]) -> torch.Tensor:
    """SimPO by CPOTrainer.cpo_loss, ORPO by ORPOTrainer.odds_ratio_loss; both take means over tokens."""
    chosen, rejected = four[0][None] / pair[4], four[1][None] / pair[5]
    beta, accelerator = setting["beta"], SimpleNamespace(device="cpu")
    if setting["loss_type"] == "simpo":
        me = SimpleNamespace(
            alpha=0.0,
            accelerator=accelerator,
            beta=beta,
            loss_type="simpo",
            simpo_gamma=beta * setting["gamma_beta_ratio"],
            label_smoothing=setting.get("label_smoothing", 0.0),
        )
        return CPOTrainer.cpo_loss(me, chosen, rejected)[0][0]
    me = SimpleNamespace(beta=beta, accelerator=accelerator)
    # loss = NLL of chosen - losses
    return (-chosen - ORPOTrainer.odds_ratio_loss(me, chosen, rejected)[0])[0]


def measured(setting: dict) -> dict:
    """Loss and gradients of every pair under one setting; of KTO, the two answers' losses are added."""
    compute = {"simpo": without_reference, "orpo": without_reference, "kto": kto}.get(
        setting["loss_type"], dpo
    )
    rows = []
    for pair in PAIRS:
        four = [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in pair[:4]]
        loss = compute(setting, pair, four).sum()
        gradients = torch.autograd.grad(loss, four[:2], allow_unused=True)
        rows.append([loss.item(), *(0.0 if g is None else g.item() for g in gradients)])
    return setting | dict(zip(("loss", "grad_chosen", "grad_rejected"), map(list, zip(*rows))))


def main() -> None:
    """Compute, write."""
    report = {
        "command": "python chapters/data/trl_losses.py",
        "trl": trl.__version__,
        "torch": torch.__version__,
        "pairs": [
            dict(zip((*NAMES, "chosen_lengths", "rejected_lengths"), pair)) for pair in PAIRS
        ],
        "cases": [measured(setting) for setting in SETTINGS],
    }
    assert all(math.isfinite(value) for case in report["cases"] for value in case["loss"])
    (HERE / "trl_losses.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
