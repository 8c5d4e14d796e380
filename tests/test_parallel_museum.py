"""The museum of distributed bugs: each is planted in two real processes, and stopped.

An exhibit is (what went wrong, its public thread, how to plant it, the test that stops it). Both run in the same two
processes, which talk over gloo: first the library as it is, which must pass, then the same with the fault.
"""

import math
import traceback
from dataclasses import dataclass, replace

import pytest
import torch
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from dpo_core import parallel
from dpo_core.pairs import with_reference
from dpo_core.steps import dpo_step, sft_step
from dpo_core.task import stream
from dpo_core.training import LoopConfig, train
from ranks import together
from runs import TASK, sft_batch
from test_training import uneven
from toys import small_model

CONFIG = LoopConfig(steps=2, learning_rate=0.003, warmup=1, log_every=1)
AS_ONE = 1e-9  # in float64
STARTS_AT_THE_REFERENCE = 1e-5  # nats, in float32


# ---------------------------------------------------------------- the tests that stop them


def differences(sharding, batches=uneven, step=sft_step, config=CONFIG):
    """How far two processes are from one, the largest of all metrics and weights relative to them."""
    models = [small_model().double() for _ in range(2)]
    settings = {"progress": False, "compile": False}
    both = train(models[0], batches, step, config, sharding=sharding, **settings)
    alone = train(models[1], batches, step, config, **settings)
    found = [
        abs(line[name] - other[name]) / max(1.0, abs(other[name]))
        for line, other in zip(both, alone, strict=True)
        for name in other
        if name != "seconds"
    ]
    ours, theirs = (torch.cat([p.detach().flatten() for p in m.parameters()]) for m in models)
    return max(*found, float((ours - theirs).abs().max()))


def two_are_one(sharding, **settings):
    worst = max(parallel.everyone(differences(sharding, **settings)))
    assert worst < AS_ONE, f"two processes are {worst:.2g} away from one"


def scores():
    """Of 8 pairs by the model that training starts from, as a file of pairs would bring them."""
    prompts, chosen = TASK.demonstrations(8, stream("museum", 1))
    _, rejected = TASK.demonstrations(8, stream("museum", 2))
    return with_reference(reference(), prompts, chosen, rejected, [1.0] * 8)


def reference():
    return small_model()


def starts_at_ln_2():
    """Policy and reference are one model: no pair may be ahead before the first step."""
    data = scores()
    config = replace(CONFIG, steps=1)
    model = small_model()
    # scores come with the rows, which each process has; here each made its own
    batch = data.batches(8, seed=0)(0)
    kept = parallel.Team._checksum
    parallel.Team._checksum = lambda team, batch: 0
    try:
        line = train(model, lambda _: batch, dpo_step(0.25), config, sharding="ddp", progress=False)
    finally:
        parallel.Team._checksum = kept
    assert abs(line[0]["loss"] - math.log(2)) < STARTS_AT_THE_REFERENCE
    assert abs(line[0]["rewards/margins"]) < STARTS_AT_THE_REFERENCE


def dpo_is_one(data=None):
    data = data or scores()
    batches = data.batches(8, seed=0)
    two_are_one("ddp", batches=lambda s: doubled(batches(s)), step=dpo_step(0.25))


def doubled(batch):
    return {n: t.double() if t.is_floating_point() else t for n, t in batch.items()}


def one_writes():
    written = []
    parallel.from_first(lambda: written.append("a file of pairs"))
    assert sum(parallel.everyone(len(written))) == 1


# ---------------------------------------------------------------- the faults, as they were made


def mean_of_means(patch):
    """Each process divides by its own count, and the means are averaged."""

    def forward(step, batch):
        result = step.loss_step(step.model, batch)
        return {name: (total / count, 1) for name, (total, count) in result.items()}

    patch.setattr(parallel._Step, "forward", forward)


def averaged_again_fsdp(patch):
    """The sum is divided by the count of all, and FSDP2 divides by the number of processes."""
    patch.setattr(FSDPModule, "set_gradient_divide_factor", lambda *_: None)
    patch.setattr(FSDPModule, "set_force_sum_reduction_for_comms", lambda *_: None)


def averaged_again_ddp(patch):
    """The same by DDP, which averages unless it is told what to do."""
    patch.setattr(DistributedDataParallel, "register_comm_hook", lambda *_: None)


def scores_of_process_0(patch):
    """The rows are shared out, the cached scores are not: everyone reads the first ones."""
    shared = parallel.cut

    def cut(batch, count):
        pieces = list(shared(batch, count))
        for piece in pieces:
            yield piece | {n: t for n, t in pieces[0].items() if n.startswith("ref_")}

    patch.setattr(parallel, "cut", cut)


def scores_by_maximum(patch):
    """Each process scores its rows into a tensor of zeros, and the tensors are put together by maximum."""
    shared = parallel.cut

    def cut(batch, count):
        for piece in shared(batch, count):
            zeros = {n: t.clamp(min=0) for n, t in piece.items() if n.startswith("ref_")}
            yield piece | (zeros if count > 1 else {})

    patch.setattr(parallel, "cut", cut)


def padded(patch):
    """The last share is filled up with the first rows, which then count twice."""
    shared = parallel.cut

    def cut(batch, count):
        rows = len(next(iter(batch.values())))
        fill = torch.arange(-rows % count)
        return shared({n: torch.cat((t, t[fill])) for n, t in batch.items()}, count)

    patch.setattr(parallel, "cut", cut)


def dropped(patch):
    """Rows that do not fill a share are left out."""
    shared = parallel.cut

    def cut(batch, count):
        rows = len(next(iter(batch.values())))
        return shared({n: t[: rows - rows % count] for n, t in batch.items()}, count)

    patch.setattr(parallel, "cut", cut)


def seed_of_the_process(patch):
    """The order is drawn with seed + rank, so that some rows are seen twice and others by nobody."""
    same = stream
    patch.setattr("runs.stream", lambda name, seed, step: same(name, seed + parallel.rank(), step))


def reference_in_half(patch):
    """The reference only reads, so it is loaded in half precision; the policy is not."""
    patch.setitem(globals(), "reference", lambda: small_model().bfloat16())


def norm_of_a_part(patch):
    """Each process clips by the length of the part that it holds."""
    patch.setattr(parallel.Team, "norm", parallel.Alone.norm)


def metrics_of_one(patch):
    """The gradient is everyone's; what is logged is what the process saw itself."""
    heard = parallel.everyone

    def everyone(content):
        told = heard(content)
        if isinstance(content, dict) and "totals" in content:
            for one in told:
                one["totals"] = content["totals"] | {"loss": one["totals"]["loss"]}
        return told

    patch.setattr(parallel, "everyone", everyone)


def everybody_writes(patch):
    """Each process makes the file, under one name."""
    patch.setattr(parallel, "from_first", lambda make: make())


@dataclass(frozen=True)
class Exhibit:
    thread: str
    plants: tuple
    stopped_by: object


ODD = lambda step: sft_batch(step, rows=7)  # noqa: E731
CLIPPED = replace(CONFIG, max_grad_norm=0.5)
MUSEUM = {
    "a mean of means": Exhibit(
        "https://github.com/huggingface/transformers/issues/34242",
        (mean_of_means,),
        lambda: two_are_one("ddp"),
    ),
    "averaged once more": Exhibit(
        "https://github.com/verl-project/verl-SpeCo/pull/29",
        (averaged_again_fsdp, averaged_again_ddp),
        lambda: [two_are_one(sharding) for sharding in parallel.SHARDINGS],
    ),
    "scores beside other rows": Exhibit(
        "https://github.com/allenai/open-instruct/pull/1182",
        (scores_of_process_0, scores_by_maximum),
        dpo_is_one,
    ),
    "an uneven last share": Exhibit(
        "https://github.com/pytorch/pytorch/issues/25162",
        (padded, dropped),
        lambda: two_are_one("ddp", batches=ODD),
    ),
    "a seed that depends on the process": Exhibit(
        "https://github.com/karpathy/llm.c/issues/792",
        (seed_of_the_process,),
        lambda: two_are_one("ddp", batches=ODD),
    ),
    "a reference in another precision": Exhibit(
        "https://github.com/eric-mitchell/direct-preference-optimization/issues/34",
        (reference_in_half,),
        starts_at_ln_2,
    ),
    "the norm of a part": Exhibit(
        "https://github.com/pytorch/pytorch/issues/170862",
        (norm_of_a_part,),
        lambda: two_are_one("fsdp", config=CLIPPED),
    ),
    "the metrics of process 0": Exhibit(
        "https://github.com/huggingface/trl/issues/2468",
        (metrics_of_one,),
        lambda: two_are_one("ddp"),
    ),
    "everybody writes": Exhibit(
        "https://github.com/huggingface/lighteval/issues/1102",
        (everybody_writes,),
        one_writes,
    ),
}


def outcomes():
    """For each exhibit what its test said of the library, and of each plant; in the two processes."""
    said = {}
    for name, exhibit in MUSEUM.items():
        said[name] = [verdict(exhibit.stopped_by)]
        for plant in exhibit.plants:
            with pytest.MonkeyPatch.context() as patch:
                plant(patch)
                said[name].append(verdict(exhibit.stopped_by))
    return said


def verdict(test):
    """Passed, or by what it was stopped; a crash is told in full."""
    try:
        test()
    except (AssertionError, ValueError) as stop:
        return f"{type(stop).__name__}: {stop}"
    except Exception:
        return traceback.format_exc()
    return "passed"


@pytest.fixture(scope="module")
def said():
    return together(2, outcomes)


@pytest.mark.parametrize("name", MUSEUM)
def test_the_library_passes(name, said):
    """A test that stops everything stops no bug."""
    assert [one[name][0] for one in said] == ["passed", "passed"]


@pytest.mark.parametrize("name", MUSEUM)
def test_the_planted_bug_is_stopped(name, said):
    """By an assertion, or by the loop's own refusal: a bug that crashes is no exhibit."""
    for plant, *verdicts in zip(MUSEUM[name].plants, *[one[name][1:] for one in said], strict=True):
        for verdict in verdicts:
            assert verdict.startswith(("AssertionError", "ValueError")), (plant.__name__, verdict)


def test_enough_exhibits_each_with_a_thread():
    assert len(MUSEUM) >= 6
    assert len({exhibit.thread for exhibit in MUSEUM.values()}) == len(MUSEUM)
    assert all(exhibit.thread.startswith("https://github.com/") for exhibit in MUSEUM.values())
