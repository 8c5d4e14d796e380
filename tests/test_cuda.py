"""CPU and CUDA agree. Without a GPU all of this is skipped."""

import copy

import pytest
import torch

from dpo_core.checkpoint import load_pretrained
from dpo_core.compilation import can_compile, compiled
from dpo_core.packing import completion_logps
from dpo_core.preferences import population_pairs
from dpo_core.sampling import generate, score
from dpo_core.steps import dpo_step, live_reference, sft_step
from dpo_core.task import make_task, stream
from dpo_core.training import LoopConfig, train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
TOLERANCE = (
    1e-4  # nats a log-probability of an answer, float32 without TF32; and of a gradient's length
)


@pytest.fixture(scope="module")
def world():
    """The base model on both devices, and pairs with its log-probabilities from the CPU."""
    model = load_pretrained("gen")
    pairs = population_pairs(model, make_task("book"), 512, seed=3)
    return model, copy.deepcopy(model).cuda(), pairs


def on_cuda(batch):
    return {name: tensor.cuda() for name, tensor in batch.items()}


def difference(ours, theirs) -> float:
    """The largest difference of two models' gradients, as a share of the largest entry of each."""
    pairs = zip(ours.parameters(), theirs.parameters(), strict=True)
    return max(float((p.grad - q.grad.cpu()).abs().max() / p.grad.abs().max()) for p, q in pairs)


def test_log_probabilities_agree(world):
    cpu, gpu, pairs = world
    texts = pairs.prompt, pairs.chosen
    assert (score(cpu, *texts) - score(gpu, *texts)).abs().max() < TOLERANCE


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("engine", ["eager", "compiled"])
def test_loss_and_gradients_of_dpo_agree(world, engine, live):
    cpu, gpu, pairs = world
    if engine == "compiled" and not can_compile("cuda"):
        pytest.skip("no compiler here")
    batch = pairs.batches(64, seed=0)(0)
    steps = {"cpu": dpo_step(0.25), "cuda": dpo_step(0.25)}
    if live:
        references = {"cpu": copy.deepcopy(cpu), "cuda": copy.deepcopy(gpu)}
        steps = {name: live_reference(steps[name], references[name]) for name in steps}
    losses = []
    for model, step, data in ((cpu, steps["cpu"], batch), (gpu, steps["cuda"], on_cuda(batch))):
        model.zero_grad()
        with compiled(model, engine == "compiled" and model is gpu):
            loss, count = step(model, data)["loss"]
            loss.backward()
        losses.append(loss.item() / count)
    assert abs(losses[0] - losses[1]) < TOLERANCE
    assert difference(cpu, gpu) < 1e-3


def test_a_short_training_agrees(world):
    """Twenty steps of SFT: the rounding of each step feeds the next, and still nothing parts."""
    task, ends = make_task("book"), []

    def batch_at(step):
        from dpo_core.sampling import TOKENIZER

        ids, mask = TOKENIZER.collate(*task.demonstrations(64, stream("sft", 0, step)))
        return {"input_ids": ids, "completion_mask": mask}

    for model in world[:2]:
        mine = copy.deepcopy(model)
        config = LoopConfig(steps=20, learning_rate=1e-3, optimizer="muon", log_every=1)
        ends.append(train(mine, batch_at, sft_step, config, progress=False, compile=False))
    for ours, theirs in zip(*ends, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-3)


def test_the_same_answers_are_drawn(world):
    """The random numbers come from the CPU; an answer changes only where a draw lies on an edge."""
    cpu, gpu, pairs = world
    drawn = [generate(model, pairs.prompt, seed=5) for model in (cpu, gpu)]
    assert sum(a != b for a, b in zip(*drawn, strict=True)) <= 3


def test_autocast_to_bfloat16_is_near(world):
    """Products in bfloat16, sums and losses in float32: three digits of the loss stay."""
    _, gpu, pairs = world
    batch = on_cuda(pairs.batches(64, seed=0)(0))
    ids, mask = batch["chosen_ids"], batch["chosen_mask"]
    with torch.no_grad():
        exact = completion_logps(gpu, ids, mask).sum(-1)
        with torch.autocast("cuda", torch.bfloat16):
            near = completion_logps(gpu, ids, mask).sum(-1)
    assert near.dtype == torch.float32
    assert (near - exact).abs().max() < 0.5 and (near - exact).mean().abs() < 0.05
