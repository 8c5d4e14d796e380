"""The checks of a run, by what it logged (chapter 14)."""

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from dpo_core.doctor import Finding, Report
from dpo_core.family import FAMILY, Answer, Settings
from dpo_core.rows import Row
from dpo_core.storage import METRICS, StorageError, parse_json, read_json, read_text

UNKNOWN_STARTS = ("sigmoid_sft", "sft")  # losses that depend on the model's own probabilities
LOSS_TYPES = (*FAMILY, "kto", "aot", "aot_unpaired", "sft")
LOWEST_RATE, HIGHEST_RATE, HIGHEST_ADAPTER_RATE = 8e-8, 1e-5, 1e-4
BETAS = {  # where published recipes and their ablations lie, with some room
    **dict.fromkeys(("sigmoid", "robust", "apo_zero", "apo_down", "kto", "sigmoid_sft"), (0.01, 1)),
    **dict.fromkeys(("hinge", "ipo", "ipo_sum", "orpo"), (0.01, 1)),
    "sigmoid_norm": (1.0, 20.0),
    "simpo": (1.0, 20.0),
}
LARGEST = 1e30
SMALL_WIDTH = 256  # a model this narrow is a toy, whose learning rates and betas are its own
REWARDS = ("rewards/chosen", "rewards/rejected", "rewards/margins")
NUMBERS = (*REWARDS, "loss", "logps/chosen", "logps/rejected", "logits/chosen", "logits/rejected")
NOT_NEGATIVE = {"sigmoid", "sigmoid_norm", "hinge", "ipo", "ipo_sum", "bco_pair", "nca_pair", "kto"}


@dataclass(frozen=True)
class Log:
    """The training of one run, as far as it is known.

    Attributes:
        lines: what was logged, in order; each has `step`, and numbers by TRL's names.
        loss_type, beta: of the run; None where nothing says.
        settings: other numbers of the loss, by the names of `family.Settings`.
        hard: True if no label is between 0 and 1; None where nothing says.
        width: of the model; None where it is not known.
        adapters: True if only adapters were trained; None where it is not known.
    """

    lines: tuple[dict[str, float], ...]
    loss_type: str | None = None
    beta: float | None = None
    settings: dict[str, float] = field(default_factory=dict)
    hard: bool | None = None
    width: int | None = None
    adapters: bool | None = None


def read_log(path: str | Path) -> Log:
    """The log of a run: our `metrics.jsonl`, TRL's `trainer_state.json`, or a folder with either.

    What lies beside it tells the rest: our `recipe.json` the loss, a `config.json` the model's
    width, an `adapter_config.json` that adapters were trained.

    Raises:
        StorageError: the file cannot be read.
        ValueError: it is no log; the message says what is accepted.
    """
    path = Path(path)
    if path.is_dir():
        names = (METRICS, "trainer_state.json")
        path = next((path / name for name in names if (path / name).is_file()), path / names[1])
    lines = _log_lines(path)
    recipe, config = (_beside(path, name) for name in ("recipe.json", "config.json"))
    smoothing = ("label_smoothing", "gamma_beta_ratio", "discopop_tau", "sft_weight")
    labels, beta = recipe.get("labels"), _real(recipe.get("beta"))
    width = config.get("hidden_size")
    known = bool(config)
    return Log(
        lines=tuple(lines),
        loss_type=recipe.get("loss_type") if recipe.get("loss_type") in LOSS_TYPES else None,
        beta=beta if beta and beta > 0 else None,
        settings={n: v for n in smoothing if (v := _real(recipe.get(n))) is not None},
        hard=labels != "soft" if isinstance(labels, str) else None,
        width=width if isinstance(width, int) else None,
        adapters=bool(_beside(path, "adapter_config.json")) or (False if known else None),
    )


def _log_lines(path: Path) -> list[dict[str, float]]:
    """The lines of a log, with their numbers alone.

    Raises:
        StorageError, ValueError: as `read_log`.
    """
    if not path.exists():
        raise StorageError(f"no log {path}")
    text = read_text(path)
    accepted = "accepted are metrics.jsonl of this book and TRL's trainer_state.json"
    try:
        try:
            content = parse_json(text, constants=True)
        except ValueError:
            lines = [line for line in text.split("\n") if line.strip()]
            content = [parse_json(line, constants=True) for line in lines]
    except ValueError as error:
        raise ValueError(f"{path} is no log: {error}; {accepted}") from None
    if isinstance(content, dict):
        content = content.get("log_history", [content])
    if not isinstance(content, list) or not all(isinstance(line, dict) for line in content):
        raise ValueError(f"{path} is no log; {accepted}")
    found = [
        {name: number for name, value in line.items() if (number := _value(value)) is not None}
        for line in content
        if _real(line.get("step")) is not None
    ]
    if not any("loss" in line for line in found):
        raise ValueError(f"{path} is no log: no line has a step and a loss; {accepted}")
    return found


def _beside(path: Path, name: str) -> dict[str, Any]:
    """A JSON object in the folder of a log; empty if there is none that can be read."""
    try:
        return read_json(path.parent / name)
    except StorageError:
        return {}


def _real(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < LARGEST else None


def _value(value: Any) -> float | None:
    """A logged number; null, which some writers put for NaN, is NaN, and what no float32 holds is
    infinite.
    """
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return math.copysign(math.inf, value) if abs(value) >= LARGEST else float(value)


def start_loss(loss_type: str, beta: float | None, settings: dict[str, float]) -> float | None:
    """The mean loss of any pairs under a policy that equals its reference.

    Every log-ratio is zero there, and the family's formula gives the number: ln 2 for the logistic
    losses, 1 for hinge, 1 / (4 beta^2) for IPO. Label smoothing and soft labels change nothing at a
    margin of zero. None where the loss depends on the model's own probabilities, or on a beta that
    is not known.
    """
    if loss_type == "kto":
        return 0.5
    if loss_type in ("aot", "aot_unpaired"):
        return math.log(2)
    if loss_type in UNKNOWN_STARTS or not FAMILY[loss_type].reference:
        return None
    if beta is None and loss_type in ("ipo", "ipo_sum", "sppo_hard"):
        return None
    number = {name: value for name, value in settings.items() if value}
    if loss_type == "exo_pair":
        number = {"label_smoothing": 1e-3} | number
    same = torch.full((1,), -10.0, dtype=torch.float64)
    answer = Answer(same, same, torch.full_like(same, 10.0))
    loss = FAMILY[loss_type].formula(answer, answer, Settings(beta or 0.1, **number)).item()
    return loss if math.isfinite(loss) else None


def run_report(log: Log, rows: Sequence[Row] = ()) -> Report:
    """Facts and findings of a run.

    Args:
        rows: the pairs that it was trained on: they tell what labels there are, and, where they
            have the reference's log-probabilities, where the policy must begin.

    A line of a log is a mean over the steps since the last one. Only a first line of step 1 is
    known exactly beforehand; the checks of the start allow others what a few steps can do. A
    loss type that nothing names is taken to be sigmoid, TRL's default.
    """
    train = [line for line in log.lines if "loss" in line]
    preferences = any(name in line for line in train for name in REWARDS)
    facts: dict[str, Any] = {
        "lines": len(train),
        "steps": int(train[-1]["step"]),
        "kind": "preferences" if preferences else "other",
    }
    broken = _check_finite(train)
    if not preferences:
        return Report(facts, tuple(one for one in (broken, *_check_impossible(log, None)) if one))
    loss_type = log.loss_type or "sigmoid"
    facts["loss_type"] = loss_type + ("" if log.loss_type else " (assumed)")
    facts["beta"] = log.beta
    expected = start_loss(loss_type, log.beta, log.settings)
    facts["start_must_be"] = expected
    last = {name: train[-1].get(name, math.nan) for name in ("loss", *REWARDS)}
    facts |= {f"last {name}": value for name, value in last.items() if math.isfinite(value)}
    sound = [line for line in train if all(math.isfinite(line.get(n, 0.0)) for n in NUMBERS)]
    hard = log.hard if log.hard is not None else _hard(rows)
    found = [broken]
    if sound:
        first = sound[0] is train[0]
        mismatch = _check_reference(log, sound[0], rows) if first else None
        start = _check_start(sound[0], expected) if first and not mismatch else None
        found += [start, mismatch]
        if not start and not mismatch:
            found.append(_check_jensen(sound, loss_type, log, hard))
        well = not start and not mismatch
        found += _check_course(sound, log, loss_type, expected, started_well=well)
    found += [*_check_impossible(log, loss_type), _check_margins(log.lines)]
    found += [_check_rate(train, log), _check_beta(log, loss_type)]
    return Report(facts, tuple(one for one in found if one))


def _hard(rows: Sequence[Row]) -> bool | None:
    """True if no label of the pairs is a doubt; None without pairs."""
    return all(row.preference_prob in (None, 1.0) for row in rows) if rows else None


def _steps(lines: Iterable[dict[str, float]]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(int(line["step"]) for line in lines))


def _check_finite(train: Sequence[dict[str, float]]) -> Finding | None:
    """Losses, rewards or log-probabilities that are NaN or infinite, and gradients that stay so.

    A gradient norm that is infinite once is float16's loss scaler at work: that step is left out,
    and the run goes on.
    """
    bad = [line for line in train if any(not math.isfinite(line.get(n, 0.0)) for n in NUMBERS)]
    norms = [line for line in train if not math.isfinite(line.get("grad_norm", 0.0))]
    if not bad and norms and norms[-1] is train[-1] and 5 * len(norms) > len(train):
        bad = norms
    if not bad:
        return None
    names = [n for n in (*NUMBERS, "grad_norm") if not math.isfinite(bad[0].get(n, 0.0))]
    step = int(bad[0]["step"])
    return Finding("not-finite", f"{', '.join(names)} not finite from step {step} on", _steps(bad))


def _check_impossible(log: Log, loss_type: str | None) -> list[Finding]:
    """Numbers that no run can have, in the lines of training and of evaluation."""
    cases: dict[str, list[dict[str, float]]] = defaultdict(list)
    for line in log.lines:
        for key, value in line.items():
            name = key.removeprefix("eval_")
            if not math.isfinite(value):
                continue
            if "accurac" in name and not -1e-6 <= value <= 1 + 1e-6:
                cases[f"{key} is not within 0 to 1"].append(line)
            if name in ("logps/chosen", "logps/rejected") and value > 1e-3:
                cases[f"{key}, the logarithm of a probability, is above 0"].append(line)
            if name in ("grad_norm", "learning_rate") and value < 0:
                cases[f"{key} is negative"].append(line)
            if name == "loss" and value < -1e-6 and loss_type in NOT_NEGATIVE:
                cases[f"{key} is negative, which {loss_type} never is"].append(line)
        accuracy, margin = (line.get(f"rewards/{n}", 0.5) for n in ("accuracies", "margins"))
        if accuracy == 1 and margin < -1e-3:
            cases["every pair is ranked right, and the mean margin is negative"].append(line)
        if accuracy == 0 and margin > 1e-3:
            cases["no pair is ranked right, and the mean margin is positive"].append(line)
    return [Finding("impossible", what, _steps(lines)) for what, lines in cases.items()]


def _check_margins(lines: Sequence[dict[str, float]]) -> Finding | None:
    """Margins that are not the difference of the rewards, within 2 % and a thousandth."""
    bad = []
    for line in lines:
        for start in ("", "eval_"):
            chosen, rejected, margin = (line.get(start + name, math.nan) for name in REWARDS)
            room = 0.02 * max(abs(chosen), abs(rejected), abs(margin)) + 1e-3
            if abs(margin - (chosen - rejected)) > room:  # never with NaN
                bad.append(line)
    if not bad:
        return None
    chosen, rejected, margin = (bad[0].get(name, math.nan) for name in REWARDS)
    what = "rewards/margins is not rewards/chosen minus rewards/rejected"
    if math.isfinite(margin):
        what += f": {margin:.4g} beside {chosen:.4g} - {rejected:.4g} at step {_steps(bad)[0]}"
    return Finding("margins", what, _steps(bad))


def _check_start(first: dict[str, float], expected: float | None) -> Finding | None:
    """A first loss that is not what a policy equal to its reference has.

    At step 1 within 2 %. A mean over more steps may lie below, as the policy learns, and above by
    15 %.
    """
    if expected is None or expected <= 0:
        return None
    loss, step = first["loss"], int(first["step"])
    ratio = loss / expected
    exact = step <= 1
    if (exact and abs(ratio - 1) <= 0.02) or (not exact and ratio <= 1.15):
        return None
    what = f"the first loss is {loss:.4g} (step {step}); where training begins it is {expected:.4g}"
    if round(ratio) >= 2 and abs(ratio - round(ratio)) < 0.02 * ratio:
        what += f", of which this is {round(ratio)} times: a sum over as many pieces?"
    return Finding("start", what, (step,))


def _check_reference(log: Log, first: dict[str, float], rows: Sequence[Row]) -> Finding | None:
    """Rewards that are not zero where training begins.

    At step 1 they are zero but for rounding (0.02, and half a nat for bfloat16). Later lines are
    told from learning by both rewards lying on one side, three nats off and twice the margin. With
    pairs that were scored, log p(chosen) must begin within a nat and a standard deviation of
    theirs.
    """
    step = int(first["step"])
    beta = log.beta or 0.1
    chosen, rejected = (first.get(name, 0.0) for name in REWARDS[:2])
    largest = max(abs(chosen), abs(rejected))
    reads = log.loss_type is None or log.loss_type not in FAMILY or FAMILY[log.loss_type].reference
    shift, margin = abs(chosen + rejected) / 2, abs(chosen - rejected)
    off = largest > 0.02 + 0.5 * beta if step <= 1 else shift > max(3 * beta, 2 * margin)
    if reads and off:
        what = (
            f"the rewards are {chosen:.4g} and {rejected:.4g} at step {step}; they must begin at 0"
        )
        return Finding("reference-mismatch", what, (step,))
    scored = [row.ref_logps[0] for row in rows if row.ref_logps]
    if len(scored) > 1 and "logps/chosen" in first and reads:
        mean, spread = statistics.fmean(scored), statistics.stdev(scored)
        moved = chosen / beta if log.beta else 0.0
        if abs(first["logps/chosen"] - moved - mean) > 1 + spread:
            what = (
                f"logps/chosen begins at {first['logps/chosen']:.4g}; under the reference of the "
                f"pairs it is {mean:.4g}"
            )
            return Finding("reference-mismatch", what, (step,))
    return None


def _check_jensen(
    lines: Sequence[dict[str, float]], loss_type: str, log: Log, hard: bool | None
) -> Finding | None:
    """Losses below softplus(-margin), for DPO's own loss with hard labels.

    Where nothing tells of the labels: not in a log of ours, whose labels may be soft. The margin is
    that of the two rewards, as `_check_margins` looks at the third number.
    """
    ours = any("seconds" in line for line in lines)
    if loss_type != "sigmoid" or log.settings.get("label_smoothing") or hard is False:
        return None
    if hard is None and ours:
        return None
    bad = []
    for line in lines:
        margin = line.get(REWARDS[0], math.nan) - line.get(REWARDS[1], math.nan)
        if 0 <= line["loss"] < 0.98 * _softplus(-margin) - 2e-3:  # never with NaN
            bad.append((line, margin))
    if not bad:
        return None
    line, margin = bad[0]
    what = (
        f"loss {line['loss']:.4g} at step {int(line['step'])} with a margin of {margin:.4g}: "
        f"it can be {_softplus(-margin):.4g} at the least"
    )
    return Finding("loss-and-margins", what, _steps(line for line, _ in bad))


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def _check_course(
    lines: Sequence[dict[str, float]],
    log: Log,
    loss_type: str,
    expected: float | None,
    started_well: bool,
) -> list[Finding | None]:
    """What the last tenth of a run says: it stood still, it went up, or chosen fell.

    A fall of the chosen answers counts from one nat and a fiftieth of their log-probability on.
    With accuracies of 0.97 and more it is over-optimisation; before that it is displacement, if it
    is a quarter of the margin or more.
    """
    tail = lines[-max(1, len(lines) // 10) :]

    def late(name: str) -> float:
        values = [line[name] for line in tail if name in line]
        return statistics.fmean(values) if values else math.nan

    found: list[Finding | None] = []
    last_step = int(lines[-1]["step"])
    losses = [line["loss"] for line in lines]
    still = max(losses) - min(losses) <= 1e-4 * abs(losses[0])
    margins = [abs(line.get("rewards/margins", 0.0)) for line in lines]
    if len(lines) >= 10 and still and max(margins) - min(margins) < 1e-3:
        what = f"the loss is {losses[-1]:.4g} from the first line to the last"
        return [Finding("not-learning", what, (int(lines[0]["step"]), last_step))]
    begin = expected if expected is not None else losses[0]
    if len(lines) >= 5 and started_well and late("loss") > 1.15 * begin > 0:
        what = f"the loss ends at {late('loss'):.4g}; it began at {begin:.4g}"
        found.append(Finding("diverging", what, (last_step,)))
    found.append(None if found else _check_fall(lines, log, loss_type, late, started_well))
    return found


def _check_fall(
    lines: Sequence[dict[str, float]],
    log: Log,
    loss_type: str,
    late: Callable[[str], float],
    started_well: bool,
) -> Finding | None:
    """Displacement or over-optimisation, as `_check_course` says; of rewards that did not begin at
    0, by what has changed since.
    """
    beta = log.beta or 0.1
    if loss_type in FAMILY and not FAMILY[loss_type].reference:
        first, name, unit = lines[0], "logps/{}", 1.0
    else:
        first, name, unit = {} if started_well else lines[0], "rewards/{}", beta
    chosen, rejected = (
        (late(name.format(side)) - first.get(name.format(side), 0.0)) / unit
        for side in ("chosen", "rejected")
    )
    needed = max(1.0, 0.02 * abs(lines[0].get("logps/chosen", 0.0)))
    if not chosen <= -needed:
        return None
    accuracy, last = late("rewards/accuracies"), (int(lines[-1]["step"]),)
    fell = f"chosen lost {-chosen:.3g} nats and rejected {-rejected:.3g}"
    if accuracy >= 0.97:
        what = f"{fell} while the accuracy stands at {accuracy:.3f}"
        return Finding("over-optimisation", what, last)
    if -chosen >= 0.25 * abs(chosen - rejected):
        return Finding("displacement", f"{fell}, at an accuracy of {accuracy:.3f}", last)
    return None


def _check_rate(train: Sequence[dict[str, float]], log: Log) -> Finding | None:
    """A peak outside published recipes, by more than a factor of two; not of a small model, nor of
    a log of ours whose model is not known.
    """
    rates = [line["learning_rate"] for line in train if line.get("learning_rate", -1) >= 0]
    ours = any("seconds" in line for line in train)
    if not rates or (log.width is None and ours) or (log.width or SMALL_WIDTH + 1) <= SMALL_WIDTH:
        return None
    peak = max(rates)
    highest = 2 * HIGHEST_RATE if log.adapters is False else 2 * HIGHEST_ADAPTER_RATE
    warming = rates[-1] == peak and len(rates) > 1  # it may still rise
    if peak > highest:
        return Finding("learning-rate", f"its peak is {peak:.3g}")
    if peak < LOWEST_RATE / 2 and not warming:
        return Finding("learning-rate", f"its peak is {peak:.3g}")
    return None


def _check_beta(log: Log, loss_type: str) -> Finding | None:
    """A beta outside published recipes of its loss; not of a small model."""
    small = log.width is not None and log.width <= SMALL_WIDTH
    if log.beta is None or small or loss_type not in BETAS:
        return None
    low, high = BETAS[loss_type]
    if low <= log.beta <= high:
        return None
    what = f"beta is {log.beta:g} with the loss {loss_type}; recipes have {low:g} to {high:g}"
    return Finding("beta", what)
