"""Where the time of a DPO step goes, and what each trick saves, for chapter 13: writes fast.json beside this file.

    OMP_NUM_THREADS=1 python chapters/data/fast.py [PART ...]        (about 7 minutes on two idle cores)

Parts: machine, profile, ledger, head, precision, growth, workers; all of them without an argument. A part that is
named replaces its own results and leaves the others. Seconds are CPU seconds of one thread (workers: wall seconds);
arms are interleaved, a round runs every arm once, odd rounds backwards, and a gain is the median over the rounds of
the ratio within a round. The prediction of an arm is made before the arm is timed: its operations are counted while it
runs once, and each takes

    overhead + max(operations / peak, bytes / bandwidth),

the numbers being those of `machine` (the bandwidth is the memory's where the bytes do not fit into the cache). Loss and gradient of both sides of a gain are held against each other.

Shapes: B pairs, T positions, N tokens, D width, V vocabulary.
"""

import copy
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode, flop_registry, sdpa_backward_flop, sdpa_flop

import dpo_core.kernels
import dpo_core.model
from dpo_core import load_pretrained, use_threads
from dpo_core.compilation import compiled
from dpo_core.kernels import plain_attend, plain_rms_norm, swiglu
from dpo_core.losses import preference_loss, sequence_logps
from dpo_core.model import Llama, ModelConfig
from dpo_core.packing import pack
from dpo_core.pairs import Pairs
from dpo_core.preferences import population_pairs
from dpo_core.task import BookTask

HERE = Path(__file__).resolve().parent
PARTS = ("machine", "profile", "ledger", "head", "precision", "growth", "workers")
B, BETA, ROUNDS, SEED = 64, 0.25, 15, 0
# torch counts no attention of the CPU's own kernel
FLOPS = flop_registry | {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: sdpa_flop,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: sdpa_backward_flop,
}
CACHE = 2**25  # bytes of the last level
VOCABULARIES = (22, 256, 2_048, 16_384, 49_152, 151_936)


# ---------------------------------------------------------------- counting, and predicting


@dataclass
class Op:
    """One call of an operation: its name, operations, bytes read and written, and which memory these are in."""

    name: str
    flops: int
    moved: int
    reads: dict[int, int]
    writes: dict[int, int]


class Counter(TorchDispatchMode):
    """Notes every operation that torch performs while it is active, backward passes included."""

    def __init__(self, keep: bool = False) -> None:
        super().__init__()
        self.ops: list[Op] = []
        self.keep, self.kept = keep, []  # kept, so that no address is used twice

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        sides = [
            [x for x in tree_leaves(side) if isinstance(x, Tensor)]
            for side in ((args, kwargs), out)
        ]
        sizes = [
            {x.untyped_storage().data_ptr(): x.numel() * x.element_size() for x in side}
            for side in sides
        ]
        moved = (
            0 if func.is_view else sum(x.numel() * x.element_size() for side in sides for x in side)
        )
        count = FLOPS.get(func.overloadpacket)
        flops = count(*args, **kwargs, out_val=out) if count else 0
        self.ops.append(Op(func.overloadpacket.__name__, flops, moved, *sizes))
        if self.keep:
            self.kept.append(sides[1])
        return out


def fused(ops: list[Op]) -> list[Op]:
    """What a compiler could make of `ops` at best: all between two products in one loop, nothing written in vain."""
    last_read = {address: at for at, op in enumerate(ops) for address in op.reads}
    result, run = [], []
    for at, op in enumerate([*ops, None]):
        if op is not None and not op.flops and not op.name.startswith("_fused"):
            run.append(op)
            continue
        if run:
            written, reads, writes = set(), {}, {}
            for one in run:
                reads |= {k: v for k, v in one.reads.items() if k not in written}
                written |= one.writes.keys()
                writes |= one.writes
            moved = sum(reads.values()) + sum(
                v for k, v in writes.items() if last_read.get(k, at) >= at
            )
            result.append(Op("fused", 0, moved, {}, {}))
            run = []
        if op is not None:
            result.append(op)
    return result


def seconds_for(ops: list[Op], machine: dict) -> float:
    """What the operations take by the numbers of the machine."""
    rates = machine["bandwidth"], machine["from_memory"]
    return sum(
        machine["overhead"]
        + max(op.flops / machine["peak"], op.moved / rates[op.moved > machine["cache"]])
        for op in ops
    )


def totals(ops: list[Op]) -> dict:
    return {
        "calls": len(ops),
        "flops": sum(op.flops for op in ops),
        "bytes": sum(op.moved for op in ops),
    }


# ---------------------------------------------------------------- the machine


def best(function: Callable, calls: int, rounds: int = 7) -> float:
    """CPU seconds a call of `function`, the best of some rounds."""
    function()
    found = []
    for _ in range(rounds):
        started = time.process_time()
        for _ in range(calls):
            function()
        found.append((time.process_time() - started) / calls)
    return min(found)


def machine_part() -> dict:
    """The three numbers, and what lies behind them."""
    square = torch.randn(1024, 1024)
    peak = 2 * 1024**3 / best(lambda: square @ square, 5)
    sweep = []
    for power in range(10, 25, 2):  # 2**power numbers in each of three tensors
        size = 2**power
        a, b, c = torch.randn(3, size)
        add = partial(torch.add, a, b, out=c)
        sweep.append([12 * size, best(add, max(1, 2**22 // size))])
    bandwidth = max(moved / took for moved, took in sweep if 12 * 2**16 <= moved <= 12 * 2**18)
    tiny = torch.ones(8, requires_grad=True)

    def chain() -> None:
        x = tiny
        for _ in range(200):
            x = x * 1.0001
        x.sum().backward()

    with Counter() as counter:
        chain()
    overhead = best(chain, 10) / len(counter.ops)
    rows = {columns: torch.randn(2**18 // columns, columns) for columns in (13, 16, 20, 64, 1024)}
    softmax = {
        columns: best(lambda x=x: x.softmax(-1), 20) / x.numel() for columns, x in rows.items()
    }
    return {
        "processor": processor(),
        "torch": torch.__version__,
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "peak": peak,
        "bandwidth": bandwidth,
        "cache": CACHE,
        "from_memory": sweep[-1][0] / sweep[-1][1],
        "overhead": overhead,
        "sweep": sweep,
        "softmax": softmax,  # seconds a number, by the columns of a row
        "operations": operations(),
    }


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def operations() -> list[dict]:
    """Operations of a step in its own shapes: N tokens of width 64, 64 rows of 4 heads with 20 places."""
    n, d, rows, places = 1000, 64, 64, 20
    x, other, three, inner, head = (torch.randn(n, k) for k in (d, d, 3 * d, 2 * d, 22))
    query = torch.randn(rows * 4, places, 16)
    scores = torch.randn(rows * 4, places, places)
    wide, out, weights = torch.randn(3 * d, d), torch.randn(d, d), torch.randn(2 * d, d)
    words = torch.randn(22, d)
    index = torch.randint(0, n, (n,))
    flat = [torch.randn(64, 64) for _ in range(28)]
    moments = [[torch.zeros_like(p) for p in flat] for _ in range(2)]
    steps = [torch.tensor(1.0) for _ in flat]
    adamw = {
        "lr": 0.0,
        "beta1": 0.9,
        "beta2": 0.95,
        "weight_decay": 0.0,
        "eps": 1e-8,
        "amsgrad": False,
    }
    work = {
        "qkv": (lambda: F.linear(x, wide), 0),
        "o_proj": (lambda: F.linear(x, out), 0),
        "gate_up": (lambda: F.linear(x, weights), 0),
        "lm_head": (lambda: F.linear(x, words), 0),
        "scores": (lambda: query @ query.mT, 0),
        "mix": (lambda: scores @ query, 0),
        "softmax": (lambda: scores.softmax(-1), 5 * scores.numel()),
        "rms_norm": (lambda: plain_rms_norm(x, x[0], 1e-6), 4 * x.numel()),
        "rope": (lambda: three[:, :d] * x, x.numel()),
        "swiglu": (lambda: swiglu(inner), 5 * x.numel()),
        "residual": (lambda: x + other, x.numel()),
        "index": (lambda: x.index_select(0, index), 0),
        "cross_entropy": (lambda: F.cross_entropy(head, index % 22), 5 * head.numel()),
        "adamw": (
            lambda: torch._fused_adamw_(flat, flat, *moments, [], steps, maximize=False, **adamw),
            12 * sum(p.numel() for p in flat),
        ),
    }
    found = []
    for name, (function, arithmetic) in work.items():
        with torch.no_grad(), Counter() as counter:
            function()
        count = totals(counter.ops)
        with torch.no_grad():
            took = best(function, 200)
        found.append(
            {"name": name, **count, "flops": count["flops"] or arithmetic, "seconds": took}
        )
    return found


# ---------------------------------------------------------------- one step, done in several ways


@dataclass(frozen=True)
class How:
    """A way to do the same step; each field is a trick, off at first."""

    stored: bool = False  # the reference's log-probabilities are read, not computed
    joint: bool = False  # both answers in one forward pass
    wide: bool = False  # softmax over rows of whole vectors
    packed: bool = False  # no padding
    shared: bool = False  # the prompt once for both answers
    answers: bool = False  # the head where a log-probability is asked for
    last: bool = False  # the last layer's own work there too
    half: bool = False  # RoPE in halves, not over the whole width with a turned copy
    by_hand: bool = False  # kernels with a gradient of their own
    fused: bool = False  # one call of the optimiser for all parameters
    compiled: bool = False
    attention: str = "softmax"  # or sdpa
    norm: str = "plain"  # or torch
    chunks: int = 0  # tokens that the head sees at once
    bfloat16: bool = False


LADDER = tuple(How.__dataclass_fields__)[:11]


def narrow_weights(query: Tensor, key: Tensor, bias: Tensor) -> Tensor:
    """Attention's weights over rows as wide as they are."""
    scores = torch.baddbmm(bias, query, key.mT, alpha=query.shape[-1] ** -0.5)
    return scores.softmax(-1).to(query.dtype)


def whole_width(qkv: Tensor, frame, heads: int) -> Tensor:
    """RoPE as chapter 2 writes it: x·cos + turned(x)·sin over the whole width."""
    left, right, value = qkv.chunk(3, dim=1)
    both, turned = torch.cat((left, right), 1), torch.cat((-right, left), 1)
    cos, sin = frame.cos.repeat(1, 2), frame.sin.repeat(1, 2)
    return torch.cat((both * cos + turned * sin, value), dim=1)


def torch_attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    heads = (
        part[None] for part in (query, key, value)
    )  # with fewer than four dimensions nothing is fused
    return F.scaled_dot_product_attention(
        *heads, attn_mask=bias[None] if bias.dim() == 3 else bias
    )[0]


def causal_attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    heads = (part[None] for part in (query, key, value))
    return F.scaled_dot_product_attention(*heads, is_causal=True)[0]


def torch_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return F.rms_norm(x, (x.shape[-1],), weight, eps)


@contextmanager
def kernels_of(how: How) -> Iterator[None]:
    """The library's kernels, or their definitions, for as long as the context lasts."""
    changed = {}
    if not how.by_hand and not how.compiled:
        norm = plain_rms_norm if how.norm == "plain" else torch_norm
        changed[dpo_core.model] = {"attend": plain_attend, "rms_norm": norm}
        kernels = {} if how.half else {"turn": whole_width}
        if how.attention == "sdpa":
            kernels["mix"] = torch_attention if how.packed else causal_attention
        if not how.wide:
            kernels["_weights"] = narrow_weights
        changed[dpo_core.kernels] = kernels
    before = [
        (module, name, getattr(module, name)) for module, names in changed.items() for name in names
    ]
    for module, names in changed.items():
        for name, value in names.items():
            setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def head_logps(head, states: Tensor, target: Tensor, chunks: int) -> Tensor:
    """Log-probabilities of the targets, (A,), in one piece or `chunks` tokens at a time."""

    def piece(states: Tensor, target: Tensor) -> Tensor:
        return -F.cross_entropy(head(states).float(), target, reduction="none")

    if not chunks:
        return piece(states, target)
    parts = zip(states.split(chunks), target.split(chunks))
    return torch.cat([checkpoint(piece, *part, use_reentrant=False) for part in parts])


def answers_logps(model: Llama, ids: Tensor, mask: Tensor, how: How) -> Tensor:
    """log π(y|x) of rows, (R,) from (R, T), or of answers to one prompt, (B, 2) from (B, 2, T)."""
    if not how.packed:
        return sequence_logps(model(ids), ids, mask)
    packed = pack(ids, mask, even=how.compiled)
    read = packed.source if how.last else None
    states = model.model(packed.input_ids, packed.layout, read=read)
    if how.answers:
        states = states if how.last else states.index_select(0, packed.source)
        logps = head_logps(model.lm_head, states, packed.target, how.chunks)
    else:
        logits = model.lm_head(states).index_select(0, packed.source)
        logps = -F.cross_entropy(logits, packed.target, reduction="none")
    *rows, length = ids.shape
    grid = logps.new_zeros(int(np.prod(rows)) * (length - 1))
    return grid.index_put((packed.entry,), logps).view(*rows, length - 1).sum(-1)


def both_logps(model: Llama, batch: dict, how: How) -> tuple[Tensor, Tensor]:
    ids, mask = (
        [batch[f"{side}_{name}"] for side in ("chosen", "rejected")] for name in ("ids", "mask")
    )
    if how.shared:
        return answers_logps(model, torch.stack(ids, 1), torch.stack(mask, 1), how).unbind(1)
    if how.joint:
        return answers_logps(model, torch.cat(ids), torch.cat(mask), how).chunk(2)
    return tuple(answers_logps(model, i[:, : int(m.nonzero()[:, 1].max()) + 1], m[:, : i.shape[1]], how)
                 if how.packed else answers_logps(model, i, m, how) for i, m in zip(ids, mask))  # fmt: skip


class Arm:
    """One way to do the work: forward and backward of some batches, and the optimiser with a rate of 0."""

    def __init__(self, gen: Llama, batches: list[dict], how: How) -> None:
        self.how, self.batches = how, batches
        self.model, self.reference = copy.deepcopy(gen).train(), copy.deepcopy(gen)
        options = {"fused": True} if how.fused or how.compiled else {"foreach": False}
        self.context = ExitStack()
        self.context.enter_context(compiled(self.model, how.compiled))
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=0.0, weight_decay=0.0, **options
        )

    def loss(self, batch: dict) -> Tensor:
        how = self.how
        mixed = torch.autocast("cpu", torch.bfloat16) if how.bfloat16 else nullcontext()
        with mixed:
            chosen, rejected = both_logps(self.model, batch, how)
            if how.stored:
                ref = batch["ref_chosen_logps"], batch["ref_rejected_logps"]
            else:
                with torch.no_grad():
                    ref = both_logps(self.reference, batch, how)
            return preference_loss(chosen, rejected, *ref, beta=BETA)[0].sum()

    def __call__(self) -> float:
        with kernels_of(self.how):
            total = 0.0
            for batch in self.batches:
                loss = self.loss(batch) / len(batch["chosen_ids"])
                loss.backward()
                total += float(loss.detach())
                self.gradient = torch.cat([p.grad.flatten() for p in self.model.parameters()])
                self.optimizer.step()
                self.optimizer.zero_grad()
            return total / len(self.batches)

    def whole_gradient(self) -> Tensor:
        """The gradient of all batches together, whatever they are cut into."""
        total = 0.0
        with kernels_of(self.how):
            for batch in self.batches:
                self.loss(batch).backward()
            total = torch.cat([p.grad.flatten() for p in self.model.parameters()])
            self.optimizer.zero_grad()
        return total

    def count(self) -> list[Op]:
        self()  # the optimiser makes its moments
        with Counter(keep=True) as counter:
            self()
        counter.kept.clear()
        return counter.ops


def step_seconds(arm: Callable, repeats: int) -> float:
    started = time.process_time()
    for _ in range(repeats):
        arm()
    return (time.process_time() - started) / repeats


def interleave(
    arms: dict[str, Callable], rounds: int = ROUNDS, repeats: int = 3
) -> dict[str, list[float]]:
    """CPU seconds of every arm in every round."""
    for arm in arms.values():
        arm()
        arm()
    found = defaultdict(list)
    for number in range(rounds):
        for name in list(arms)[:: -1 if number % 2 else 1]:
            found[name].append(step_seconds(arms[name], repeats))
    return found


def entry(before: Arm, after: Arm, machine: dict, guess: float | None = None) -> dict:
    """What is counted, predicted and equal, before anything is timed."""
    ops = [arm.count() for arm in (before, after)]
    expected = [seconds_for(one, machine) for one in ops]
    gradients = [arm.whole_gradient() for arm in (before, after)]
    losses = [arm() for arm in (before, after)]
    return {
        "before": totals(ops[0]),
        "after": totals(ops[1]),
        "predicted": guess or expected[0] / expected[1],
        "seconds_predicted": expected,
        "loss_difference": abs(losses[0] - losses[1]),
        "gradient_difference": (
            (gradients[0] - gradients[1]).abs().max() / gradients[0].abs().max()
        ).item(),
    }


def measured(seconds: dict[str, list[float]], before: str, after: str) -> dict:
    ratios = [a / b for a, b in zip(seconds[before], seconds[after])]
    low, high = np.quantile(ratios, (0.1, 0.9))
    took = [statistics.median(seconds[name]) for name in (before, after)]
    return {"measured": statistics.median(ratios), "low": low, "high": high, "seconds": took}


def data(gen: Llama, count: int) -> Pairs:
    return population_pairs(gen, BookTask(), count, labels="sampled", seed=SEED)


def long_prompts(gen: Llama) -> tuple[Llama, list[dict]]:
    """16 pairs of random tokens: prompts of 96, answers of 16. The model is the book's, untrained."""
    generator = torch.Generator().manual_seed(SEED)
    model = Llama(ModelConfig()).reset_parameters(SEED)
    ids = torch.randint(0, 22, (2, 16, 112), generator=generator)
    ids[1, :, :96] = ids[0, :, :96]
    ids[1, :, 96] = (ids[0, :, 96] + 1) % 22
    mask = torch.zeros(16, 112, dtype=torch.int64)
    mask[:, 96:] = 1
    zero = torch.zeros(16)
    batch = {
        "chosen_ids": ids[0],
        "rejected_ids": ids[1],
        "chosen_mask": mask,
        "rejected_mask": mask,
    }
    return model, [{**batch, "ref_chosen_logps": zero, "ref_rejected_logps": zero}]


def ledger_part(machine: dict) -> dict:
    """The ladder, trick upon trick, and what stands beside it."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = tempfile.mkdtemp()  # nothing compiled before counts
    gen = load_pretrained("gen")
    pairs = data(gen, 16 * B)
    one = [pairs.batch(np.arange(B))]
    rows = np.arange(len(pairs))
    by_length = np.argsort(pairs.tokens[2].amax(0).numpy(), kind="stable")
    many, in_order = (
        [pairs.batch(part) for part in order.reshape(16, B)] for order in (rows, by_length)
    )
    sizes = [
        [pairs.batch(part) for part in rows[: 4 * B].reshape(-1, size)] for size in (16, B, 4 * B)
    ]
    how, steps = How(), {"plain": Arm(gen, one, How())}
    for name in LADDER:
        how = replace(how, **{name: True})
        steps[name] = Arm(gen, one, how)
    rungs = list(steps)
    wide, half, library = (steps[name].how for name in ("wide", "half", "fused"))
    model, long = long_prompts(gen)
    beside = {  # name: before, after
        "sdpa_padded": (steps["wide"], Arm(gen, one, replace(wide, attention="sdpa"))),
        "sdpa_packed": (steps["half"], Arm(gen, one, replace(half, attention="sdpa"))),
        "torch_norm": (steps["half"], Arm(gen, one, replace(half, norm="torch"))),
        "sorted": (Arm(gen, many, wide), Arm(gen, in_order, wide)),
        "packed_beside_sorted": (
            Arm(gen, in_order, wide),
            Arm(gen, in_order, replace(wide, packed=True)),
        ),
        "shared_long": (
            Arm(model, long, replace(library, shared=False)),
            Arm(model, long, library),
        ),
        "batch_64": (Arm(gen, sizes[0], library), Arm(gen, sizes[1], library)),
        "batch_256": (Arm(gen, sizes[1], library), Arm(gen, sizes[2], library)),
        "chunked_22": (steps["fused"], Arm(gen, one, replace(library, chunks=64))),
        "bfloat16": (steps["fused"], Arm(gen, one, replace(library, bfloat16=True))),
    }
    report: dict[str, dict] = {}
    for before, after in pairwise(rungs):
        guess = None
        if after == "compiled":  # the definitions' operations, fused as far as can be
            plain = replace(library, by_hand=False)
            ops = fused(Arm(gen, one, plain).count())
            guess = seconds_for(steps[before].count(), machine) / seconds_for(ops, machine)
            started = time.perf_counter()
            for _ in range(2):
                steps[after]()
            warm = time.perf_counter() - started
            report[after] = compiled_entry(steps[before], steps[after], guess) | {
                "compile_seconds": warm
            }
            continue
        report[after] = entry(steps[before], steps[after], machine)
    for name, (before, after) in beside.items():
        report[name] = entry(before, after, machine)
    seconds = interleave(steps)
    for before, after in pairwise(rungs):
        report[after] |= measured(seconds, before, after)
    for name, (before, after) in beside.items():
        several = len(before.batches) > 4
        taken = interleave(
            {"before": before, "after": after}, 7 if several else ROUNDS, 1 if several else 3
        )
        report[name] |= measured(taken, "before", "after")
    whole = [a / b for a, b in zip(seconds["plain"], seconds["fused"])]
    every = [a / b for a, b in zip(seconds["plain"], seconds["compiled"])]
    return {
        "ladder": list(LADDER),
        "beside": list(beside),
        "entries": report,
        "step": {name: statistics.median(values) for name, values in seconds.items()},
        "all_eager": statistics.median(whole),
        "all_compiled": statistics.median(every),
        "tokens": token_counts(one[0]),
    }


def compiled_entry(before: Arm, after: Arm, guess: float) -> dict:
    gradients = [arm.whole_gradient() for arm in (before, after)]
    losses = [arm() for arm in (before, after)]
    return {
        "predicted": guess,
        "loss_difference": abs(losses[0] - losses[1]),
        "gradient_difference": (
            (gradients[0] - gradients[1]).abs().max() / gradients[0].abs().max()
        ).item(),
    }


def token_counts(batch: dict) -> dict:
    """How many positions a forward pass of both answers computes, padded, packed and shared; and answers' tokens."""
    ids, mask = (
        torch.stack([batch[f"{s}_{n}"] for s in ("chosen", "rejected")], 1) for n in ("ids", "mask")
    )
    rows = [part.flatten(0, 1) for part in (ids, mask)]
    packed, shared = pack(*rows), pack(ids, mask)
    return {"padded": ids.numel(), "packed": len(packed.input_ids), "shared": len(shared.input_ids),
            "answers": len(shared.target), "width": shared.layout.token.shape[1]}  # fmt: skip


# ---------------------------------------------------------------- where the time goes


def profile_part(machine: dict) -> dict:
    """Self time by operation, of the plain step and of the library's."""
    gen = load_pretrained("gen")
    batches = [data(gen, B).batch(np.arange(B))]
    library = How(**dict.fromkeys(LADDER[:-1], True))
    return {
        name: profile_of(Arm(gen, batches, how))
        for name, how in (("plain", How()), ("library", library))
    }


def profile_of(arm: Arm) -> dict:
    for _ in range(3):
        arm()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as run:
        for _ in range(10):
            arm()
    spent, calls = defaultdict(float), defaultdict(int)
    for event in run.key_averages():
        if event.key.startswith("aten::"):
            name = event.key.removeprefix("aten::")
            spent[name] += event.self_cpu_time_total
            calls[name] += event.count / 10
    everything = sum(spent.values())
    rows = sorted(spent, key=spent.get, reverse=True)
    return {
        "seconds": step_seconds(arm, 10),
        "calls": sum(calls.values()),
        "operations": [[name, spent[name] / everything, calls[name]] for name in rows[:24]],
    }


# ---------------------------------------------------------------- the head and the vocabulary


def head_part(machine: dict) -> dict:
    """Time and peak memory of the head with its loss and gradient, at once and in chunks: 512 tokens of width 64."""
    found = []
    for size in VOCABULARIES:
        parts, row = head_at(size), {"vocabulary": size}
        works = {
            name: partial(head_and_back, *parts, chunks)
            for name, chunks in (("whole", 0), ("chunked", 64))
        }
        for name, work in works.items():
            with Counter() as counter:
                work()
            row[name] = {**totals(counter.ops), "predicted": seconds_for(counter.ops, machine)}
        seconds = interleave(works, 5, min(20, max(1, 4_000 // size)))
        for name, chunks in (("whole", 0), ("chunked", 64)):
            row[name]["seconds"] = statistics.median(seconds[name])
            row[name]["peak"] = peak_memory(size, chunks)
        found.append(row)
    return {"tokens": 512, "chunk": 64, "width": 64, "sweep": found}


def head_and_back(head: torch.nn.Linear, states: Tensor, target: Tensor, chunks: int) -> None:
    head_logps(head, states, target, chunks).sum().backward()
    head.zero_grad()
    states.grad = None


def head_at(size: int) -> tuple:
    torch.manual_seed(SEED)
    head = torch.nn.Linear(64, size, bias=False)
    return head, torch.randn(512, 64).requires_grad_(), torch.randint(0, size, (512,))


def peak_memory(size: int, chunks: int) -> int:
    """Bytes that the head needs at once beyond what was there before, in a process of its own (Linux)."""
    command = [sys.executable, __file__, "peak", str(size), str(chunks)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def peak(size: int, chunks: int) -> None:
    """Prints what `peak_memory` returns."""

    def line(name: str) -> int:  # ru_maxrss would be the parent's
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(row.split()[1]) for row in lines if row.startswith(name)) * 1024

    use_threads(1)
    head_logps(*head_at(32), chunks).sum().backward()  # what torch loads when it is first asked
    parts = head_at(size)
    before = line("VmRSS")
    head_logps(*parts, chunks).sum().backward()
    print(line("VmHWM") - before)


# ---------------------------------------------------------------- half precision


def precision_part(machine: dict) -> list[dict]:
    """Products in float32 and bfloat16, of the step's shapes and of a large model's."""
    found = []
    for rows, inner, columns in (
        (1000, 64, 192),
        (1000, 64, 64),
        (1000, 576, 1536),
        (1024, 2048, 2048),
    ):
        took = {}
        for dtype in (torch.float32, torch.bfloat16):
            a, b = torch.randn(rows, inner).to(dtype), torch.randn(columns, inner).to(dtype)
            calls = max(1, 2**28 // (rows * inner * columns))
            took[str(dtype).removeprefix("torch.")] = best(partial(F.linear, a, b), calls)
        a = torch.randn(rows, inner)
        took["cast"] = best(a.bfloat16, 20)
        found.append({"shape": [rows, inner, columns], "flops": 2 * rows * inner * columns, **took})
    return found


# ---------------------------------------------------------------- growth

GROWTH = {
    "batch": (4, 8, 16, 32, 64, 128, 256, 512),
    "length": (8, 16, 32, 64, 128, 256, 512),
    "width": (32, 64, 128, 256, 512, 1024),
    "depth": (1, 2, 4, 8, 16, 32),
    "vocabulary": (22, 128, 1_024, 8_192, 32_768, 131_072),
}


def growth_part(machine: dict) -> dict:
    """Time, counted operations and memory kept for the backward pass, along five axes."""
    return {axis: [grown(axis, size, machine) for size in sizes] for axis, sizes in GROWTH.items()}


def grown(axis: str, size: int, machine: dict) -> dict:
    rows, length = (size if axis == "batch" else 16), (size if axis == "length" else 16)
    width = size if axis == "width" else 64
    config = ModelConfig(
        vocab_size=size if axis == "vocabulary" else 22,
        hidden_size=width,
        intermediate_size=width,
        num_attention_heads=width // 16,
        num_hidden_layers=size if axis == "depth" else 4,
        max_position_embeddings=512,
    )
    model = Llama(config).reset_parameters(SEED)
    ids = torch.randint(
        0, config.vocab_size, (rows, length), generator=torch.Generator().manual_seed(SEED)
    )

    def loss() -> Tensor:
        return F.cross_entropy(model(ids).flatten(0, 1), ids.flatten())

    def work() -> None:
        loss().backward()
        model.zero_grad()

    saved: dict[int, int] = {}
    own = {p.untyped_storage().data_ptr() for p in [*model.parameters(), *model.buffers()]}

    def note(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        kept = loss()
    del kept
    with FlopCounterMode(display=False) as counter:
        work()
    with Counter() as every:
        work()
    expected = seconds_for(every.ops, machine)
    calls = max(1, min(20, int(0.1 / expected)))
    return {
        "size": size,
        "flops": counter.get_total_flops(),
        "predicted": expected,
        "seconds": best(work, calls, 5),
        "saved": sum(saved.values()),
    }


# ---------------------------------------------------------------- threads and processes


def worker(rank: int, world: int, threads: int, seconds: float, place: str) -> None:
    """Steps on pairs of its own, gradients averaged over the processes; prints pairs a wall second of all."""
    use_threads(threads)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{place}", rank=rank, world_size=world
    )
    gen = load_pretrained("gen")
    pairs = data(gen, world * B)
    arm = Arm(
        gen,
        [pairs.batch(np.arange(rank, world * B, world))],
        How(**dict.fromkeys(LADDER[:-1], True)),
    )

    def step() -> None:
        arm()
        if world > 1:
            torch.distributed.all_reduce(arm.gradient)

    for _ in range(5):
        step()
    torch.distributed.barrier()
    steps, started, used = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - started < seconds:
        for _ in range(10):
            step()
        steps += 10
        done = torch.tensor(float(time.perf_counter() - started >= seconds))
        torch.distributed.all_reduce(done)
        if done:
            break
    took = time.perf_counter() - started
    if rank == 0:
        print(json.dumps({"pairs_per_second": world * steps * B / took,
                          "cpu": (time.process_time() - used) / took}))  # fmt: skip
    torch.distributed.destroy_process_group()


def workers_part(machine: dict) -> dict:
    """Pairs a wall second, with both cores to ourselves and beside a program that keeps one of them busy."""
    idle = worked()
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as neighbour:
        busy = worked()
        neighbour.kill()
    return {"idle": idle, "busy": busy}


def worked() -> dict:
    """One thread, two threads, two processes of one thread each; three rounds in turn."""
    found = defaultdict(list)
    for _ in range(3):
        for name, world, threads in (("one", 1, 1), ("threads", 1, 2), ("processes", 2, 1)):
            with tempfile.TemporaryDirectory() as folder:
                rest = [str(world), str(threads), "4", f"{folder}/meet"]
                environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
                runs = [
                    subprocess.Popen(
                        [sys.executable, __file__, "worker", str(rank), *rest],
                        stdout=subprocess.PIPE,
                        env=environment,
                    )
                    for rank in range(world)
                ]
                outputs = [run.communicate()[0] for run in runs]
            found[name].append(json.loads(outputs[0].splitlines()[-1]))
    return {"load": os.getloadavg()[0], **found}


# ---------------------------------------------------------------- the command


def rounded(value):
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(one) for one in value]
    return float(f"{value:.4g}") if isinstance(value, (float, np.floating)) else value


def main() -> None:
    target = HERE / "fast.json"
    report = json.loads(target.read_text(encoding="utf-8")) if target.exists() else {}
    use_threads(1)
    for name in sys.argv[1:] or PARTS:
        started = time.perf_counter()
        part = globals()[f"{name}_part"]
        report[name] = rounded(part() if name == "machine" else part(report["machine"]))
        report.setdefault("load", {})[name] = rounded(os.getloadavg()[0])
        print(
            f"{name}: {time.perf_counter() - started:.0f} s, load {os.getloadavg()[0]:.1f}",
            flush=True,
        )
        target.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["peak"]:
        peak(*map(int, sys.argv[2:]))
    elif sys.argv[1:2] == ["worker"]:
        rank, world, threads, seconds, place = sys.argv[2:]
        worker(int(rank), int(world), int(threads), float(seconds), place)
    else:
        main()
