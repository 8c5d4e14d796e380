"""One process is two is four is one that cuts its batch into pieces: weights, metrics, state, and what goes wrong."""

import math
import os
from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from itertools import product

import pytest
import torch

from dpo_core import parallel
from dpo_core.checkpoint import CheckpointError, load_model, load_pretrained
from dpo_core.commands.parser import main
from dpo_core.model import ModelConfig
from dpo_core.policy_gradient import METHODS
from dpo_core.reward import ActorCritic
from dpo_core.rl import checker, rollouts
from dpo_core.steps import dpo_step, rl_step, sft_step
from dpo_core.storage import Workshop, workshop
from dpo_core.task import make_task
from dpo_core.training import LoopConfig, train
from ranks import together
from runs import killed_at, pairs, sft_batch, stored_progress
from toys import small_model

EXACT = 1e-9  # in float64: what is left is the order of the sums
CLOSE = 1e-6  # in float32, on the shipped model
SHARDINGS = parallel.SHARDINGS
TIED = ModelConfig(
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
    tie_word_embeddings=True,
)


def rows_of_step(step):
    """Six rows, then three, one, and seven: no share is like another, and some ranks have no row."""
    return (6, 3, 1, 7)[step % 4]


def sft_batches(step):
    return sft_batch(step, rows_of_step(step))


@cache
def all_pairs():
    return pairs().batches(7, seed=0)


def dpo_batches(step):
    batch = all_pairs()(step % 2)
    doubles = {name: t.double() if t.is_floating_point() else t for name, t in batch.items()}
    return {name: tensor[: rows_of_step(step)] for name, tensor in doubles.items()}


CONFIG = LoopConfig(steps=4, learning_rate=0.003, warmup=2, log_every=1)
CASES = {
    "sft, muon": (sft_batches, sft_step, replace(CONFIG, optimizer="muon")),
    "sft, adamw, clipped": (sft_batches, sft_step, replace(CONFIG, max_grad_norm=0.5)),
    "dpo, muon, pieces": (
        dpo_batches,
        dpo_step(0.25),
        replace(CONFIG, optimizer="muon", accumulate=2),
    ),
    "dpo, adamw, pieces": (dpo_batches, dpo_step(0.25), replace(CONFIG, accumulate=3)),
}


def double_model(config=None):
    return (small_model(config=config) if config else small_model()).double()


def learnt(case, model=None, **more):
    """The history without its seconds, and all weights in a row."""
    batches, step, config = CASES[case]
    model = model or double_model()
    more = {"sharding": None, **more}
    history = train(model, batches, step, config, progress=False, compile=False, **more)
    weights = torch.cat([p.detach().flatten() for p in model.parameters()]).tolist()
    lines = [{k: v for k, v in line.items() if k != "seconds"} for line in history]
    return lines, weights


def check_same(found, expected, tolerance=EXACT):
    (lines, weights), (right_lines, right_weights) = found, expected
    assert [line.keys() for line in lines] == [line.keys() for line in right_lines]
    for line, right in zip(lines, right_lines, strict=True):
        assert line == pytest.approx(right, rel=tolerance, abs=tolerance)
    weights, right_weights = torch.tensor([weights, right_weights], dtype=torch.float64)
    assert torch.allclose(weights, right_weights, rtol=tolerance, atol=tolerance)


# ---------------------------------------------------------------- one number


@pytest.mark.parametrize("count", [2, 4])
def test_processes_are_one_process(count):
    """A mean of means, a factor of the number of processes, a norm of a part, a row that is lost or seen twice."""
    work = list(product(CASES, SHARDINGS))
    work = work if count == 2 else work[1::2]  # with four, what is cut most
    found = together(count, lambda: [learnt(case, sharding=how) for case, how in work])
    for rank in range(count):
        for (case, _), one in zip(work, found[rank], strict=True):
            check_same(one, learnt(case))


def test_processes_are_pieces():
    """Gradient accumulation in one process is the same sum in another order."""
    batches, step, config = CASES["dpo, adamw, pieces"]
    expected = learnt("dpo, adamw, pieces")
    for pieces in (1, 2, 7):
        CASES["once"] = batches, step, replace(config, accumulate=pieces)
        check_same(learnt("once"), expected)
    del CASES["once"]


@pytest.mark.parametrize("sharding", SHARDINGS)
def test_tied_embeddings_and_grouped_heads(sharding):
    """A matrix at both ends is in two units or counted twice; heads that share keys are cut apart."""
    expected = learnt("dpo, muon, pieces", double_model(TIED))
    found = together(2, lambda: learnt("dpo, muon, pieces", double_model(TIED), sharding=sharding))
    check_same(found[1], expected)


def test_the_shipped_model_in_float32():
    """To 1e-6, what several processes leave of a run is what one leaves."""

    def work(sharding=None):
        return learnt("dpo, float32", load_pretrained("gen"), sharding=sharding)

    config = replace(CONFIG, optimizer="muon", learning_rate=2e-3, steps=4)
    data = pairs()
    CASES["dpo, float32"] = data.batches(7, seed=0), dpo_step(0.25), config
    try:
        expected = work()
        for found in together(2, lambda: [work(sharding) for sharding in SHARDINGS])[0]:
            check_same(found, expected, CLOSE)
    finally:
        del CASES["dpo, float32"]


@pytest.mark.parametrize("method", ["rloo", "ppo"])
def test_reinforcement_learning(method):
    """Answers drawn from weights that are a step old, or other answers in each process."""
    task = make_task("book")
    step = rl_step(method, beta=0.1)
    config = replace(CONFIG, steps=3, max_grad_norm=1.0)

    def work(sharding=None):
        policy, reference = (load_pretrained("gen").double() for _ in range(2))
        model = ActorCritic(policy).double() if METHODS[method].baseline is None else policy
        judge = checker(task, "style+exact")
        batches = rollouts(
            model, reference, task, judge, method, beta=0.1, prompts=5, answers=3, seed=0
        )
        history = train(model, batches, step, config, sharding=sharding, drawing=True)
        weights = torch.cat([p.detach().flatten() for p in model.parameters()])
        lines = [{k: v for k, v in line.items() if k != "seconds"} for line in history]
        return lines, weights[::7].tolist()

    expected = work()
    for found in together(2, lambda: [work(sharding) for sharding in SHARDINGS])[1]:
        check_same(found, expected)


# ---------------------------------------------------------------- a run that goes on elsewhere


def part_of_a_run(folder, sharding, *, killed=None, resume=False, steps=8):
    """Eight steps with a state every four; in `folder`, as one process or as one of several."""
    config = replace(CONFIG, optimizer="muon", steps=steps, save_every=4, log_every=2)
    batches = killed_at(killed, sft_batches) if killed else sft_batches
    output, model = folder / "a.model", small_model(seed=9 if resume else 0).double()
    first = parallel.rank() == 0
    outside = nullcontext(Workshop(output, folder / "a.model.partial"))
    with workshop(output) if first else outside as place:
        try:
            history = train(
                model,
                batches,
                sft_step,
                config,
                place=place,
                record={"seed": 0},
                resume=resume,
                sharding=sharding,
                compile=False,
                progress=False,
            )
        except KeyboardInterrupt:
            return None
    weights = torch.cat([p.detach().flatten() for p in model.parameters()]).tolist()
    return [{k: v for k, v in line.items() if k != "seconds"} for line in history], weights


HANDS = [(2, "fsdp"), (1, None), (3, "ddp"), (3, "fsdp"), (2, "ddp")]


def by(count, sharding, work):
    """What `work(sharding)` gives in the first of `count` processes."""
    return work(sharding) if sharding is None else together(count, lambda: work(sharding))[0]


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(*pair, marks=[SLOW] if number > 2 else [])
        for number, pair in enumerate(zip(HANDS, HANDS[1:] + HANDS[:1]))
    ],
)
def test_a_run_goes_on_with_any_number_of_processes(before, after, tmp_path):
    """A state that holds one process's part, or moments that belong to other rows."""
    (tmp_path / "whole").mkdir()
    whole = part_of_a_run(tmp_path / "whole", None)
    assert by(*before, lambda how: part_of_a_run(tmp_path, how, killed=6)) is None
    assert stored_progress(tmp_path)["step"] == 4
    assert stored_progress(tmp_path)["ranks"] == before[0]
    resumed = by(*after, lambda how: part_of_a_run(tmp_path, how, resume=True))
    check_same(resumed, whole)


def test_what_cannot_be_resumed_is_said_by_the_first(tmp_path):
    """The others, who read no file, would wait for ever."""

    def work():
        try:
            part_of_a_run(tmp_path, "fsdp", resume=True)
        except (CheckpointError, parallel.Lost) as error:
            return [type(error).__name__, str(error)]

    found = together(2, work)
    assert found[0][0] == "CheckpointError" and "nothing to resume" in found[0][1]
    assert found[1][0] == "Lost"


# ---------------------------------------------------------------- the command


DPO = "train-dpo --steps 4 --batch-size 5 --pairs 16 --log-every 2 --save-every 2 --device cpu"


@pytest.mark.parametrize("sharding", ["", *SHARDINGS])
def test_only_the_first_process_needs_the_disk(sharding, tmp_path):
    """Two writers of one file, or a machine that looks for what another has written."""
    options = DPO.split() + (["--sharding", sharding] if sharding else [])
    for name in ("0", "1", "alone"):
        (tmp_path / name).mkdir()

    def work():
        os.chdir(tmp_path / str(parallel.rank()))
        return main(options)

    assert together(2, work) == [0, 0]
    assert sorted(path.name[:15] for path in (tmp_path / "0").iterdir()) == [
        "dpo.model",
        "dpo.model.pairs",
    ]
    assert not list((tmp_path / "1").iterdir())
    here = os.getcwd()
    try:
        os.chdir(tmp_path / "alone")
        assert main(DPO.split()) == 0
    finally:
        os.chdir(here)
    both = [load_model(tmp_path / name / "dpo.model").state_dict() for name in ("0", "alone")]
    for name, weight in both[0].items():
        assert torch.allclose(weight, both[1][name], rtol=0, atol=CLOSE)


@pytest.mark.parametrize("more", ["--lora-rank 2 --accumulate 2", "--checkpointing --accumulate 3"])
def test_adapters_pieces_and_checkpointing(more, tmp_path):
    """Frozen weights beside trained ones, layers that are computed twice, and shares that are cut again."""

    def work():
        said = []
        for sharding in SHARDINGS:
            output = str(tmp_path / f"{sharding}.{parallel.rank()}")
            arguments = [*DPO.split(), *more.split(), "--sharding", sharding, "--output", output]
            said.append(main(arguments))
        return said

    assert together(2, work) == [[0, 0], [0, 0]]
    assert main([*DPO.split(), *more.split(), "--output", str(tmp_path / "alone")]) == 0
    alone = load_model(tmp_path / "alone").state_dict()
    for sharding in SHARDINGS:
        for name, weight in load_model(tmp_path / f"{sharding}.0").state_dict().items():
            assert torch.allclose(weight, alone[name], rtol=0, atol=CLOSE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("train-gen --batch-size 1", "batch_size is 1; accepted with 2 processes are whole"),
        ("train-rl --prompts 1 --answers 2 --minibatches 2 --method ppo", "minibatches, is 1;"),
        ("train-gen --compile yes", "compile yes has no effect on several processes"),
        ("train-gen --sharding zero", "unknown sharding 'zero'; accepted are ddp, fsdp"),
        ("train-dpo --pairs-file none.jsonl", "no file of pairs none.jsonl"),
        ("train-gen --resume", "nothing to resume"),
    ],
)
def test_bad_input_is_one_line_of_the_first(options, message, tmp_path, capfd):
    """Every process prints the same fault, or the others wait for one that has ended."""

    def work():
        os.chdir(tmp_path)
        try:
            return main([*options.split(), "--device", "cpu"])
        except parallel.Lost:
            return "lost"

    found = together(2, work)
    assert found[0] == 2 and found[1] in (2, "lost")
    assert message in capfd.readouterr().err
    assert not list(tmp_path.iterdir())


def test_options_that_differ_between_processes_are_named():
    """Another seed on another machine trains on rows that nobody can name afterwards."""

    def work():
        return main(["train-gen", "--device", "cpu", "--seed", str(parallel.rank())])

    assert together(2, work) == [2, 2]


def test_a_sharding_needs_processes(capsys):
    """An option that is silently ignored."""
    assert main(["train-gen", "--sharding", "ddp"]) == 2
    assert "sharding has no effect on one process; start several" in capsys.readouterr().err
    with pytest.raises(ValueError, match="needs processes that have joined"):
        learnt("sft, muon", sharding="ddp")


# ---------------------------------------------------------------- what processes must agree on


def fault_of(work):
    """The message of what `work` raises in each of two processes."""

    def told():
        try:
            work()
        except (ValueError, FloatingPointError, parallel.Lost) as error:
            return f"{type(error).__name__}: {error}"

    return together(2, told)


def test_other_weights_at_the_start_are_refused():
    """DDP would take the first one's, FSDP a part of each."""

    def work():
        learnt("sft, muon", small_model(seed=parallel.rank()).double(), sharding="fsdp")

    for message in fault_of(work):
        assert (
            "ValueError: the start of a run must be the same in all processes: weights" in message
        )


def test_a_batch_that_depends_on_the_process_is_refused():
    """A shuffle seeded by the rank: rows that are seen twice, and rows that never are."""
    CASES["by rank"] = lambda s: sft_batch(s + parallel.rank()), *CASES["sft, muon"][1:]
    for message in fault_of(lambda: learnt("by rank", sharding="ddp")):
        assert "the batch of a step is not the same in all processes" in message
    del CASES["by rank"]


@pytest.mark.parametrize("sharding", SHARDINGS)
def test_a_share_without_a_marked_token_is_refused(sharding):
    """One process would not walk through the layers, and the others would wait for it."""

    def batches(step):
        batch = sft_batch(step)
        batch["completion_mask"][3:] = False
        return batch

    CASES["unmarked"] = batches, *CASES["sft, muon"][1:]
    for message in fault_of(lambda: learnt("unmarked", sharding=sharding)):
        assert message.startswith("ValueError: the rows of process 1 have nothing to learn from")
    del CASES["unmarked"]


def test_parameters_of_two_types_are_refused_by_name():
    """FSDP2 says so in a traceback, after the first step has begun."""

    def work():
        model = double_model()
        model.lm_head.float()
        learnt("sft, muon", model, sharding="fsdp")

    for message in fault_of(work):
        assert "fsdp needs parameters of one type" in message and "lm_head.weight" in message


@pytest.mark.parametrize("sharding", SHARDINGS)
def test_weights_that_one_process_sees_break_are_named_by_all(sharding):
    """Half of the processes go on, and wait."""

    def broken(model, batch):
        result = sft_step(model, batch)
        return {**result, "loss": (result["loss"][0] * math.inf, result["loss"][1])}

    CASES["broken"] = sft_batches, broken, CONFIG
    for message in fault_of(lambda: learnt("broken", sharding=sharding)):
        assert "FloatingPointError: loss or gradient at step 0 is not finite" in message
    del CASES["broken"]


def test_a_process_that_is_gone_is_noticed():
    """The others would wait for its message for ever."""

    def batches(step):
        if step == 2 and parallel.rank() == 1:
            os._exit(0)
        return sft_batches(step)

    CASES["gone"] = batches, *CASES["sft, muon"][1:]
    assert fault_of(lambda: learnt("gone", sharding="ddp")) == [
        "Lost: the run has lost one of its processes",
        None,
    ]
    del CASES["gone"]


# ---------------------------------------------------------------- what they tell each other


def test_everyone_is_heard_in_order():
    """Messages of different lengths that end in each other's padding."""

    def work():
        return parallel.everyone({"rank": parallel.rank(), "text": "é" * 10 ** parallel.rank()})

    for found in together(3, work):
        assert [one["rank"] for one in found] == [0, 1, 2]
        assert [len(one["text"]) for one in found] == [1, 10, 100]


def test_the_first_makes_and_all_have():
    """Two writers; or a fault of the first that leaves the others waiting."""

    def work():
        made = []
        content = parallel.from_first(lambda: made.append(1) or ["made once", 0.1 + 0.2])
        return content, len(made)

    assert together(3, work) == [[["made once", 0.1 + 0.2], int(rank == 0)] for rank in range(3)]


def test_rows_of_a_part_and_of_all():
    """A matrix whose rows do not divide, one with fewer rows than processes, and Muon on both."""

    def work():
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.tensor import Shard, distribute_tensor

        mesh = init_device_mesh("cpu", (parallel.ranks(),))
        said = []
        for rows in (1, 3, 7, 8):
            full = torch.arange(rows * 2.0).view(rows, 2)
            like = distribute_tensor(full, mesh, [Shard(0)])
            own = parallel.own_rows(full[None], like)
            assert torch.equal(own[0], parallel.local(like))
            assert torch.equal(parallel.all_rows(own, like)[0], full)
            assert torch.equal(parallel.whole(parallel.sharded_as(full + 1, like)), full + 1)
            said.append(own.shape[1])
        return said

    assert together(4, work) == [[1, 1, 2, 2], [0, 1, 2, 2], [0, 1, 2, 2], [0, 0, 1, 2]]


@pytest.mark.parametrize(
    ("cards", "said"), [([""], "this torch has no NCCL"), (["a", "a"], "processes share a GPU")]
)
def test_sharding_on_gpus_without_nccl_is_refused(monkeypatch, cards, said):
    """Over gloo fully_shard ends a process on a GPU with signal 11."""
    monkeypatch.setattr(parallel.dist, "is_nccl_available", lambda: False)
    monkeypatch.setattr(parallel, "everyone", lambda content: cards)
    with pytest.raises(ValueError, match=f"{said}, and fsdp needs NCCL"):
        parallel._group(torch.device("cuda"), "fsdp")
