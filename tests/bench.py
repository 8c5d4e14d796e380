"""How fast the library is beside TRL and transformers: the same model, data and work, in one run.

    make bench                        minutes; prints a table and writes build/bench.json
    make bench ARGS="--rounds 9"      more rounds, narrower spread
    python tests/bench.py --help

Every round runs every arm once, odd rounds backwards, and gives one ratio for each comparison: their seconds over our
seconds for the same work. Reported are the median over the rounds and the spread. Seconds are CPU seconds of this
process on one thread (on CUDA: wall seconds around a synchronisation), of whole steps: making the batch, forward,
backward, clipping, optimiser, metrics. Warm-up steps come first, on the very batches that are timed, so that every
shape has been seen (and compiled); an uncounted round comes before the others. Reported apart: compilation, set-up,
tokenising of the data set (TRL does it beforehand, we in each step), log-probabilities of the reference.

Nothing is reported unless loss and gradient of every pair of arms agree, and their answers are draws from one
distribution.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

import argparse
import copy
import gc
import inspect
import json
import math
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import datasets
import numpy as np
import torch
import transformers
import trl
from torch import nn

from dpo_core import checkpoint, cost
from dpo_core.model import Llama, ModelConfig
from dpo_core.pairs import Pairs, with_reference
from dpo_core.preferences import population_pairs
from dpo_core.progress import progress_bar
from dpo_core.sampling import TOKENIZER, generate, score
from dpo_core.steps import dpo_step, live_reference, sft_step
from dpo_core.task import BookTask, judge, stream
from dpo_core.training import Batch, LoopConfig, LossStep, train

ROOT = Path(__file__).resolve().parents[1]
ENGINES = ("eager", "compiled")
PARTS = ("dpo", "sft", "sampling")
PAIRS, TEXTS, PROMPTS, NEW_TOKENS = 64, 128, 1024, 32  # of a batch; of an answer
BETA, LEARNING_RATE, MAX_GRAD_NORM = 0.25, 1e-5, 1.0
COMPARISONS = {  # key -> what both sides do in it
    "dpo_vs_trl_precomputed": "dpo_stored",
    "dpo_vs_trl_live": "dpo_live",
    "sft_vs_trl": "sft",
    "sampling_vs_generate": "sampling",
}
PART = {"dpo_stored": "dpo", "dpo_live": "dpo", "sft": "sft", "sampling": "sampling"}
ROWS = {"dpo_stored": PAIRS, "dpo_live": PAIRS, "sft": TEXTS, "sampling": PROMPTS}


class Unfair(Exception):
    """The arms of a comparison do not do the same work; the message says which and by how much."""


@dataclass(frozen=True)
class Setting:
    """What all arms of one run share."""

    rounds: int
    steps: int  # timed, in a round
    draws: int  # timed calls of `generate`, in a round
    device: torch.device
    dtype: torch.dtype

    @property
    def on_cpu(self) -> bool:
        return self.device.type == "cpu"

    def clock(self) -> float:
        """CPU seconds of this process; on a GPU, wall seconds once it has nothing left to do."""
        if self.on_cpu:
            return time.process_time()
        torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def precision(self) -> AbstractContextManager:
        """float32 is float32 everywhere; bfloat16 is mixed precision, as TRL's `bf16=True` is."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def mixed(self, loss_step: LossStep) -> LossStep:
        """`loss_step` in this precision."""

        def step(model: nn.Module, batch: Batch) -> dict:
            with self.precision():
                return loss_step(model, batch)

        return loss_step if self.dtype == torch.float32 else step


@dataclass
class Timing:
    """One arm in one round."""

    seconds: float = math.nan  # of the timed part, by Setting.clock
    setup: float = 0.0  # until training could begin, by Setting.clock
    warm: float = math.nan  # wall seconds of the warm-up, since compilers are other processes
    graphs: int = 0  # compiled during the timed part; more than none is a fault of the measurement
    first: tuple[float, float] = (math.nan, math.nan)  # loss and gradient norm of the first step


class Stamps:
    """Reads the clock when step `warm` begins and when step `warm + timed` does."""

    def __init__(self, setting: Setting, warm: int, timed: int) -> None:
        self.setting, self.begin, self.end = setting, warm, warm + timed
        self.timing = Timing()
        self.start()

    def start(self) -> None:
        """The warm-up begins."""
        self.started = time.perf_counter()

    @property
    def steps(self) -> int:
        """One more than are timed, so that the last one's end is the beginning of another."""
        return self.end + 1

    def at(self, step: int) -> None:
        if step == self.begin:
            self.timing.warm = time.perf_counter() - self.started
            self.timing.graphs = -graphs()
            self.timing.seconds = -self.setting.clock()
        elif step == self.end:
            self.timing.seconds += self.setting.clock()
            self.timing.graphs += graphs()


def graphs() -> int:
    """How many graphs torch has compiled in this process."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    return dynamo.counters["stats"]["unique_graphs"] if dynamo else 0


# ---------------------------------------------------------------- the data and the models


class Data:
    """The models and the batches, the same for both sides: the batch of step `warm + i` is batch i."""

    def __init__(self, setting: Setting) -> None:
        self.setting, task = setting, BookTask()
        self.folder = checkpoint.model_folder("gen")
        models = {name: checkpoint.load_pretrained(name) for name in checkpoint.SHIPPED}
        self.weights = {name: model.state_dict() for name, model in models.items()}
        self.gen = models["gen"]
        # TRL has hard labels only
        self.pairs = population_pairs(self.gen, task, setting.steps * PAIRS, labels="sampled")
        reference, started = self.our_model(), setting.clock()
        again = with_reference(
            reference,
            *(self.pairs.prompt, self.pairs.chosen, self.pairs.rejected),
            self.pairs.preference_prob,
        )
        self.reference_seconds = (setting.clock() - started) / len(again)
        self.prompts, self.texts = task.demonstrations(setting.steps * TEXTS, stream("bench", 0))
        self.questions, _ = task.demonstrations(PROMPTS, stream("bench", 1))

    @cached_property
    def theirs(self) -> nn.Module:
        """The model's folder as transformers opens it."""
        return transformers.AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.float32)

    @cached_property
    def tokenizer(self) -> transformers.PreTrainedTokenizerBase:
        return transformers.AutoTokenizer.from_pretrained(self.folder)

    def our_model(self, start: str = "gen") -> Llama:
        model = copy.deepcopy(self.gen).to(self.setting.device)
        model.load_state_dict(self.weights[start])
        return model

    def their_model(self, start: str = "gen") -> nn.Module:
        model = copy.deepcopy(self.theirs).to(self.setting.device)
        model.load_state_dict(self.weights[start])
        return model

    def batch(self, step: int, warm: int) -> int:
        return (step - warm) % self.setting.steps

    def rows(self, steps: int, warm: int, size: int) -> list[int]:
        """The rows of all steps in order, as a data set that is read from front to back has them."""
        batches = (self.batch(step, warm) for step in range(steps))
        return [row for batch in batches for row in range(batch * size, (batch + 1) * size)]


# ---------------------------------------------------------------- our arms


def engine_option(function: Callable, engine: str) -> dict[str, bool]:
    """`compile=…`, where the function has it."""
    known = "compile" in inspect.signature(function).parameters
    return {"compile": engine == "compiled"} if known else {}


@dataclass(frozen=True)
class Arm:
    """One side of a comparison. `run(start, warm, timed)` trains from a shipped model."""

    work: str  # a key of ROWS
    side: str  # eager, compiled or theirs
    run: Callable[[str, int, int], Timing]


def our_training(
    data: Data, engine: str, loss_step: LossStep, batch_at: Callable[[int], Batch]
) -> Callable[[str, int, int], Timing]:
    """Our loop; one model for all rounds, set back before each: what was compiled for it stays."""
    setting, model = data.setting, data.our_model()
    loss_step = setting.mixed(loss_step)

    def run(start: str, warm: int, timed: int) -> Timing:
        model.load_state_dict(data.weights[start])
        stamps = Stamps(setting, warm, timed)
        config = LoopConfig(
            steps=stamps.steps,
            learning_rate=LEARNING_RATE,
            warmup=0,
            max_grad_norm=MAX_GRAD_NORM,
            log_every=stamps.steps,
        )

        def watched(step: int) -> Batch:
            stamps.at(step)
            return batch_at(data.batch(step, warm))

        lines = train(
            model, watched, loss_step, config, progress=False, **engine_option(train, engine)
        )
        if stamps.steps == 1:
            stamps.timing.first = lines[0]["loss"], lines[0]["grad_norm"]
        return stamps.timing

    return run


def our_dpo(data: Data, engine: str, work: str) -> Arm:
    """DPO with stored log-probabilities of the reference (`dpo_stored`) or a reference beside it."""
    step = dpo_step(BETA)
    if work == "dpo_live":
        step = live_reference(step, data.our_model())

    def batch_at(index: int) -> Batch:
        batch = data.pairs.batch(np.arange(index * PAIRS, (index + 1) * PAIRS))
        if work == "dpo_live":
            del batch["ref_chosen_logps"], batch["ref_rejected_logps"]
        return batch

    return Arm(work, engine, our_training(data, engine, step, batch_at))


def our_sft(data: Data, engine: str) -> Arm:
    def batch_at(index: int) -> Batch:
        rows = slice(index * TEXTS, (index + 1) * TEXTS)
        ids, mask = TOKENIZER.collate(data.prompts[rows], data.texts[rows])
        return {"input_ids": ids, "completion_mask": mask}

    return Arm("sft", engine, our_training(data, engine, sft_step, batch_at))


# ---------------------------------------------------------------- TRL's arms


class Watch(transformers.TrainerCallback):
    """Stamps the beginning of each step, once its batch is there, as our loop's next step begins."""

    def __init__(self, stamps: Stamps) -> None:
        self.stamps = stamps

    def on_step_begin(self, args, state, control, **kwargs) -> None:
        self.stamps.at(state.global_step)


def their_options(setting: Setting, steps: int, size: int, folder: str) -> dict:
    """What every trainer of TRL gets: our precision, order and clipping; nothing but training."""
    return {
        "output_dir": folder,
        "max_steps": steps,
        "per_device_train_batch_size": size,
        "learning_rate": LEARNING_RATE,
        "max_grad_norm": MAX_GRAD_NORM,
        "train_sampling_strategy": "sequential",
        "bf16": setting.dtype == torch.bfloat16,
        "gradient_checkpointing": False,
        "use_cpu": setting.on_cpu,
        "dataloader_pin_memory": not setting.on_cpu,
        "logging_strategy": "steps" if steps == 1 else "no",
        "logging_steps": 1,
        "save_strategy": "no",
        "eval_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "max_length": None,
    }


def their_training(
    data: Data, size: int, trainer_for: Callable[..., transformers.Trainer]
) -> Callable[[str, int, int], Timing]:
    """TRL's loop; a new trainer each time, as nothing of the last one must be left."""

    def run(start: str, warm: int, timed: int) -> Timing:
        gc.collect()
        stamps, begun = Stamps(data.setting, warm, timed), data.setting.clock()
        with tempfile.TemporaryDirectory() as folder:
            options = their_options(data.setting, stamps.steps, size, folder)
            rows = data.rows(stamps.steps, warm, size)
            trainer = trainer_for(data.their_model(start), options, rows)
            trainer.add_callback(Watch(stamps))
            trainer.remove_callback(transformers.PrinterCallback)
            stamps.timing.setup = data.setting.clock() - begun
            stamps.start()
            trainer.train()
        if stamps.steps == 1:
            line = trainer.state.log_history[0]
            stamps.timing.first = line["loss"], line["grad_norm"]
        return stamps.timing

    return run


def their_dpo(data: Data, work: str) -> Arm:
    def trainer_for(model: nn.Module, options: dict, rows: list[int]) -> transformers.Trainer:
        names = ("prompt", "chosen", "rejected")
        taken = data.pairs.take(rows)
        return trl.DPOTrainer(
            model=model,
            ref_model=data.their_model(),
            args=trl.DPOConfig(beta=BETA, precompute_ref_log_probs=work == "dpo_stored", **options),
            train_dataset=datasets.Dataset.from_dict({n: getattr(taken, n) for n in names}),
            processing_class=data.tokenizer,
        )

    return Arm(work, "theirs", their_training(data, PAIRS, trainer_for))


def their_sft(data: Data) -> Arm:
    def trainer_for(model: nn.Module, options: dict, rows: list[int]) -> transformers.Trainer:
        texts = {
            "prompt": [data.prompts[row] for row in rows],
            "completion": [data.texts[row] for row in rows],
        }
        return trl.SFTTrainer(
            model=model,
            args=trl.SFTConfig(completion_only_loss=True, **options),
            train_dataset=datasets.Dataset.from_dict(texts),
            processing_class=data.tokenizer,
        )

    return Arm("sft", "theirs", their_training(data, TEXTS, trainer_for))


# ---------------------------------------------------------------- sampling


def sampling_arm(
    data: Data, side: str, answers_of: Callable[[int], list[str]], kept: list[str]
) -> Arm:
    """`answers_of(seed)` answers all questions; what it answers goes into `kept`."""
    setting, rounds = data.setting, iter(range(10**9))

    def run(start: str, warm: int, timed: int) -> Timing:
        seeds = range(timed * (number := next(rounds)), timed * (number + 1))
        stamps = Stamps(setting, warm, timed)
        for seed in seeds:  # the very shapes that are timed
            answers_of(seed)
        stamps.at(warm)
        for seed in seeds:
            kept.extend(answers_of(seed))
        stamps.at(warm + timed)
        return stamps.timing

    return Arm("sampling", side, run)


def our_sampling(data: Data, engine: str, kept: list[str]) -> Arm:
    model, options = data.our_model(), engine_option(generate, engine)

    def answers_of(seed: int) -> list[str]:
        with data.setting.precision():
            return generate(
                model,
                data.questions,
                max_new_tokens=NEW_TOKENS,
                seed=seed,
                batch_size=PROMPTS,
                **options,
            )

    return sampling_arm(data, engine, answers_of, kept)


def their_sampling(data: Data, kept: list[str]) -> Arm:
    model = data.their_model().eval()

    @torch.no_grad()
    def answers_of(seed: int) -> list[str]:
        torch.manual_seed(seed)
        batch = data.tokenizer(
            data.questions, padding=True, return_tensors="pt", return_token_type_ids=False
        ).to(data.setting.device)
        with data.setting.precision():
            written = model.generate(
                **batch,
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                max_new_tokens=NEW_TOKENS,
            )[:, batch["input_ids"].shape[1] :]
        cut = (text.partition("E") for text in data.tokenizer.batch_decode(written))
        return [head + end for head, end, _ in cut]

    return sampling_arm(data, "theirs", answers_of, kept)


# ---------------------------------------------------------------- do they do the same work?


def check_training(
    arms: list[Arm], dtype: torch.dtype
) -> tuple[dict[str, dict[str, tuple]], dict[tuple[str, str], float]]:
    """Loss and gradient norm of each arm's first step, from a policy that is not its reference.

    Returns:
        The two numbers by work and side; and the wall seconds of the arm, compilation included.

    Raises:
        Unfair: two arms of one comparison differ by more than rounding.
    """
    tolerance = 1e-4 if dtype == torch.float32 else 5e-2
    found: dict[str, dict[str, tuple]] = defaultdict(dict)
    seconds = {}
    for arm in arms:
        if arm.work != "sampling":
            started = time.perf_counter()
            found[arm.work][arm.side] = arm.run("dpo", 0, 0).first
            seconds[arm.work, arm.side] = time.perf_counter() - started
    for work, sides in found.items():
        for side, ours in sides.items():
            for name, one, other in zip(("loss", "gradient norm"), ours, sides["theirs"]):
                if not abs(one - other) <= tolerance * abs(other):
                    raise Unfair(f"{work}: the {name} is {one:.6g} {side} and {other:.6g} in TRL")
    return dict(found), seconds


def features(data: Data, answers: list[str]) -> np.ndarray:
    """Of each answer: three numbers, exact, its length, its log-probability: (N, 4)."""
    questions = data.questions * (len(answers) // len(data.questions))
    verdicts = [judge(q, a) for q, a in zip(questions, answers)]
    logps = score(data.gen, questions, answers).tolist()
    return np.array(
        [(v.style, v.exact, len(a), lp) for v, a, lp in zip(verdicts, answers, logps)], dtype=float
    )


def check_sampling(data: Data, kept: dict[str, list[str]]) -> dict[str, dict[str, float]]:
    """Means of the answers' features, by side, and how many standard errors ours are from theirs.

    Raises:
        Unfair: a difference that equal distributions show once in 15,000 times.
    """
    names = ("three_numbers", "exact", "length", "log_prob")
    found = {side: features(data, answers) for side, answers in kept.items()}
    report = {side: dict(zip(names, table.mean(0).tolist())) for side, table in found.items()}
    theirs = found["theirs"]
    for side in found.keys() - {"theirs"}:
        ours = found[side]
        error = np.sqrt(ours.var(0) / len(ours) + theirs.var(0) / len(theirs)).clip(1e-12)
        for name, z in zip(names, (ours.mean(0) - theirs.mean(0)) / error):
            report[side][f"z_{name}"] = float(z)
            if not abs(z) < 4:
                raise Unfair(
                    f"sampling: {name} is {report[side][name]:.4g} {side} and "
                    f"{report['theirs'][name]:.4g} in transformers, {z:.1f} standard errors apart"
                )
    return report


# ---------------------------------------------------------------- how much work there is


def needed_flops(config: ModelConfig, prompt: int, chosen: int, rejected: int) -> int:
    """Operations in matrix products that a DPO step cannot do without, for one pair of such lengths.

    The prompt once, each answer once, no padding. An answer's last token is predicted and never
    read. The head works where an answer's token is predicted; both first ones in one place. A query
    meets the keys up to its own. Backward is twice forward.
    """
    shape = cost.Shape(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        num_key_value_heads=config.num_attention_heads,
        head_dim=config.head_dim,
        tie_word_embeddings=False,
    )
    layers, read = config.num_hidden_layers, (chosen - 1, rejected - 1)
    weights = layers * cost.layer_matrices(shape) * (prompt + sum(read))
    weights += config.vocab_size * config.hidden_size * (1 + sum(read))
    met = prompt * (prompt + 1) // 2 + sum(n * prompt + n * (n + 1) // 2 for n in read)
    return 3 * (2 * weights + 4 * layers * config.hidden_size * met)


def pairs_flops(config: ModelConfig, pairs: Pairs) -> int:
    """`needed_flops` of all pairs; a token is a character."""
    columns = (map(len, column) for column in (pairs.prompt, pairs.chosen, pairs.rejected))
    return sum(needed_flops(config, *lengths) for lengths in zip(*columns))


def matmul_peak(setting: Setting) -> float:
    """Operations a second of a product of two square matrices, large enough to fill the device.

    The best of many, so that whatever else runs beside it makes no share look larger.
    """
    size = 1024 if setting.on_cpu else 8192
    one = torch.randn(size, size, device=setting.device, dtype=setting.dtype)
    times = []
    for _ in range(30):
        started = setting.clock()
        torch.mm(one, one)
        times.append(setting.clock() - started)
    return 2 * size**3 / min(times)


# ---------------------------------------------------------------- the run


@contextmanager
def silence() -> Iterator[None]:
    """No bars, no advice from the other libraries. A bar of ours that is there already goes on."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    before = os.environ.get("TQDM_DISABLE")
    os.environ["TQDM_DISABLE"] = "1"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        os.environ.pop("TQDM_DISABLE")
        if before is not None:
            os.environ["TQDM_DISABLE"] = before


def arms_of(
    data: Data, parts: tuple[str, ...], engines: tuple[str, ...], kept: dict[str, list[str]]
) -> list[Arm]:
    """All arms, those of one comparison beside each other."""
    arms: list[Arm] = []
    for work, part in PART.items():
        if part not in parts:
            continue
        if part == "dpo":
            arms += [our_dpo(data, engine, work) for engine in engines] + [their_dpo(data, work)]
        elif part == "sft":
            arms += [our_sft(data, engine) for engine in engines] + [their_sft(data)]
        else:
            arms += [our_sampling(data, engine, kept[engine]) for engine in engines]
            arms += [their_sampling(data, kept["theirs"])]
    return arms


def spread(values: list[float]) -> dict[str, float]:
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    return {"min": min(values), "q1": low, "median": middle, "q3": high, "max": max(values)}


Times = dict[tuple[str, str], list[Timing]]  # (work, side) -> one a round, the uncounted one first


def measure(setting: Setting, arms: list[Arm], tick: Callable[[], object]) -> tuple[Times, list]:
    """Every arm in every round, and the matmul peak of each round."""
    times: Times = defaultdict(list)
    peaks = []
    for number in range(setting.rounds + 1):
        peaks.append(matmul_peak(setting))
        for arm in arms[:: -1 if number % 2 else 1]:
            count = setting.draws if arm.work == "sampling" else setting.steps
            times[arm.work, arm.side].append(arm.run("gen", count, count))
            tick()
    return times, peaks[1:]


def summary(setting: Setting, data: Data, times: Times, peaks: list[float]) -> dict:
    """Medians over the rounds and their spread, by engine."""
    seconds = {key: [timing.seconds for timing in list_[1:]] for key, list_ in times.items()}
    works = list(dict.fromkeys(work for work, _ in seconds))
    engines = [engine for engine in ENGINES if (works[0], engine) in seconds]
    ratios: dict[str, dict[str, list[float]]] = {engine: {} for engine in engines}
    for engine, found in ratios.items():
        for name, work in COMPARISONS.items():
            if work in works:
                both = zip(seconds[work, "theirs"], seconds[work, engine])
                found[name] = [theirs / ours for theirs, ours in both]
        if "dpo_stored" in works:
            found["matmul_share"] = shares(setting, data, seconds["dpo_stored", engine], peaks)
    per_second: dict[str, dict[str, float]] = defaultdict(dict)
    for (work, side), values in seconds.items():
        rows = ROWS[work] * (setting.draws if work == "sampling" else setting.steps)
        per_second[side][work] = rows / statistics.median(values)
    report = {
        engine: {name: statistics.median(values) for name, values in found.items()}
        for engine, found in ratios.items()
    }
    report["spread"] = {
        engine: {name: spread(values) for name, values in found.items()}
        for engine, found in ratios.items()
    }
    report["per_second"] = dict(per_second)
    if "dpo_stored" in works:
        trl_share = shares(setting, data, seconds["dpo_stored", "theirs"], peaks)
        report["matmul"] = {
            "peak_flops": spread(peaks),
            "needed_flops_of_a_step": pairs_flops(data.gen.config, data.pairs) / setting.steps,
            "share_of_trl": spread(trl_share),
        }
    return report


def shares(setting: Setting, data: Data, seconds: list[float], peaks: list[float]) -> list[float]:
    needed = pairs_flops(data.gen.config, data.pairs)
    return [needed / (second * peak) for second, peak in zip(seconds, peaks)]


def apart(data: Data, times: Times, checks: dict[tuple[str, str], float]) -> dict:
    """What is not in the ratios, and whether something was compiled after all.

    Compilation: the wall seconds of the first step and the first warm-up over those of a later
    warm-up.
    """
    compilation = {
        work: checks.get((work, side), 0.0)
        + list_[0].warm
        - statistics.median(timing.warm for timing in list_[1:])
        for (work, side), list_ in times.items()
        if side == "compiled"
    }
    setup = {
        work: statistics.median(timing.setup for timing in list_[1:])
        for (work, side), list_ in times.items()
        if side == "theirs" and work != "sampling"
    }
    graphs = sum(timing.graphs for list_ in times.values() for timing in list_[1:])
    return {
        "compilation_seconds": compilation,
        "reference_seconds_per_pair": data.reference_seconds,
        "trl_setup_seconds": setup,  # of 2 · steps + 1 batches
        "graphs_compiled_while_timed": graphs,
    }


def machine(setting: Setting) -> dict:
    """What the numbers were measured on and with."""
    cpu = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].partition(":")[2].strip() if names else cpu
    return {
        "torch": torch.__version__,
        "trl": trl.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "cpu": cpu,
        "device": "cpu" if setting.on_cpu else torch.cuda.get_device_name(setting.device),
        "dtype": str(setting.dtype).removeprefix("torch."),
        "seconds": "cpu" if setting.on_cpu else "wall",
        "threads": torch.get_num_threads(),
        "rounds": setting.rounds,
        "steps": setting.steps,
        "batch": {"pairs": PAIRS, "texts": TEXTS, "prompts": PROMPTS, "new_tokens": NEW_TOKENS},
        "compiles": {
            function.__name__: bool(engine_option(function, "compiled"))
            for function in (train, generate)
        },
    }


def bench(setting: Setting, parts: tuple[str, ...], engines: tuple[str, ...]) -> dict:
    """The whole measurement.

    Raises:
        Unfair: two arms do not do the same work; then there is nothing to report.
    """
    torch.set_num_threads(1)
    if "compiled" in engines and any(engine_option(f, "compiled") for f in (train, generate)):
        from torch._dynamo import config as dynamo

        # in use a process has one model; here five share the count of a function's compilations
        dynamo.recompile_limit *= 5
        dynamo.accumulated_recompile_limit *= 5
    kept: dict[str, list[str]] = defaultdict(list)
    works = [work for work, part in PART.items() if part in parts]
    total = (setting.rounds + 1) * len(works) * (len(engines) + 1)
    with progress_bar(total=total, desc="bench", unit="arm", shown=True) as bar, silence():
        data = Data(setting)
        arms = arms_of(data, parts, engines, kept)
        first, checks = check_training(arms, setting.dtype)
        times, peaks = measure(setting, arms, bar.update)
        drawn = check_sampling(data, kept) if "sampling" in parts else {}
        report = summary(setting, data, times, peaks)
    report["apart"] = apart(data, times, checks)
    report["same_work"] = {"loss_and_gradient_norm": first, "answers": drawn}
    return {**report, "machine": machine(setting)}


def table(report: dict) -> str:
    """The report for a reader: a row for each engine of each comparison."""
    head = f"{'':24}{'engine':10}{'median':>8}{'min':>8}{'q1':>8}{'q3':>8}{'max':>8}{'ours/s':>10}{'theirs/s':>10}"
    lines = [head]
    speeds = report["per_second"]
    for name in [*COMPARISONS, "matmul_share"]:
        for engine in ENGINES:
            if name not in report["spread"].get(engine, {}):
                continue
            numbers = report["spread"][engine][name]
            row = f"{name:24}{engine:10}" + "".join(
                f"{numbers[key]:8.3f}" for key in ("median", "min", "q1", "q3", "max")
            )
            if work := COMPARISONS.get(name):
                row += f"{speeds[engine][work]:10.0f}{speeds['theirs'][work]:10.0f}"
            lines.append(row)
    lines.append("")
    for work, seconds in report["apart"]["compilation_seconds"].items():
        if report["machine"]["compiles"]["generate" if work == "sampling" else "train"]:
            lines.append(f"compiling {work}: {seconds:.1f} s")
    if "dpo_stored" in speeds["theirs"]:
        ours, share = (
            report["apart"]["reference_seconds_per_pair"],
            report["matmul"]["share_of_trl"],
        )
        lines.append(f"log-probabilities of the reference: {1000 * ours:.2f} ms a pair, ours")
        lines.append(f"share of the matmul peak in TRL, precomputed: {share['median']:.3f}")
    for function, known in report["machine"]["compiles"].items():
        if not known:
            lines.append(
                f"{function}() cannot compile yet: its compiled arm is the eager one again"
            )
    if count := report["apart"]["graphs_compiled_while_timed"]:
        lines.append(f"{count} graphs were compiled in timed steps: the compiled arms are too slow")
    return "\n".join(lines)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="counted rounds")
    parser.add_argument("--steps", type=int, default=16, help="timed steps of an arm in a round")
    parser.add_argument("--quick", action="store_true", help="one round of four steps, for a test")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "bench.json")
    options = parser.parse_args(arguments)
    if torch.device(options.device).type == "cuda" and not torch.cuda.is_available():
        parser.error(f"--device {options.device}: torch finds no GPU")
    if options.rounds < 1 or options.steps < 1:
        parser.error("--rounds and --steps are whole numbers from 1")
    return options


def main() -> int:
    options = parse()
    setting = Setting(
        rounds=1 if options.quick else options.rounds,
        steps=4 if options.quick else options.steps,
        draws=1 if options.quick else 8,
        device=torch.device(options.device),
        dtype=getattr(torch, options.dtype),
    )
    try:
        report = bench(setting, tuple(options.parts), tuple(options.engines))
    except Unfair as error:
        print(
            f"bench: nothing to report, the arms do not do the same work: {error}", file=sys.stderr
        )
        return 1
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(table(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
