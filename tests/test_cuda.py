"""CPU and CUDA agree. Without a GPU all of this is skipped."""

import copy

import pytest
import torch

from dpo_core import lora
from dpo_core.checkpoint import load_pretrained, read_recipe
from dpo_core.commands.parser import main
from dpo_core.compilation import can_compile, compiled
from dpo_core.model import Llama, ModelConfig
from dpo_core.packing import completion_logps
from dpo_core.preferences import population_pairs
from dpo_core.sampling import generate, score
from dpo_core.steps import dpo_step, in_precision, live_reference, sft_step
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


def curve(model, pairs, step, **how):
    """The losses of 20 steps of DPO."""
    config = LoopConfig(
        steps=20, learning_rate=3e-4, warmup=2, log_every=1, optimizer="adamw", **how
    )
    history = train(model, pairs.batches(64, 0), step, config, compile=False, progress=False)
    return torch.tensor([line["loss"] for line in history])


def test_a_training_in_bfloat16_follows_one_in_float32(world):
    """Products of eight bits; weights and the optimiser keep float32, or small steps would be lost."""
    _, gpu, pairs = world
    exact, mixed = copy.deepcopy(gpu), copy.deepcopy(gpu)
    gap = curve(exact, pairs, dpo_step(0.25)) - curve(
        mixed, pairs, in_precision(dpo_step(0.25), "bfloat16")
    )
    assert 0 < gap.abs().max() < 0.02
    assert all(parameter.dtype == torch.float32 for parameter in mixed.parameters())
    moved = [
        torch.cat([(p - q).flatten() for p, q in zip(model.parameters(), gpu.parameters())])
        for model in (exact, mixed)
    ]
    assert torch.cosine_similarity(*moved, dim=0) > 0.9


def test_adapters_train_alike_on_both_devices(world):
    cpu, gpu, pairs = world
    losses = [
        curve(lora.add_adapters(copy.deepcopy(model), 4), pairs, live_reference(dpo_step(0.25)))
        for model in (cpu, gpu)
    ]
    assert losses[0][-5:].mean() < losses[0][0] - 1e-3
    assert (losses[0] - losses[1]).abs().max() < 1e-3


def test_layers_computed_again_need_less_memory():
    config = ModelConfig(
        hidden_size=512, intermediate_size=1536, num_hidden_layers=12, num_attention_heads=8,
        num_key_value_heads=2, max_position_embeddings=512,
    )  # fmt: skip
    model = Llama(config).reset_parameters(0).cuda()
    ids = torch.randint(0, 22, (8, 512), generator=torch.Generator().manual_seed(0)).cuda()
    batch = {"input_ids": ids, "completion_mask": torch.arange(512).expand(8, -1).cuda() > 99}
    peaks, gradients = [], []
    for checkpointing in (False, True):
        model.model.checkpointing = checkpointing
        model.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        sft_step(model, batch)["loss"][0].backward()
        peaks.append(torch.cuda.max_memory_allocated() - before)
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert peaks[1] < 0.5 * peaks[0]
    assert (gradients[0] - gradients[1]).norm() < 1e-5 * gradients[0].norm()


@pytest.mark.parametrize(
    "more", ["--precision bfloat16", "--precision bfloat16 --lora-rank 4 --checkpointing"]
)
def test_the_command_trains_on_cuda(tmp_path, monkeypatch, more):
    monkeypatch.chdir(tmp_path)
    command = "train-dpo --model gen --pairs 512 --steps 20 --batch-size 64 --optimizer adamw --device cuda"
    assert main(f"{command} --learning-rate 1e-3 --output out {more}".split()) == 0
    recipe = read_recipe("out")
    assert recipe["precision"] == "bfloat16" and recipe["last"]["loss"] < 0.692
