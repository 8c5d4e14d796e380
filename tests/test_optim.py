"""Chapter 3: Muon and the schedule."""

import math

import pytest
import torch

from dpo_core.model import Llama, ModelConfig
from dpo_core.optim import Muon, learning_rate_factor, make_optimizers, orthogonalise
from toys import small_model


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 16, 40), (2, 40, 16)])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_orthogonalise_brings_singular_values_near_one(shape, scale):
    """Wrong coefficients, a norm over the whole stack, or a tall matrix not transposed."""
    found = orthogonalise(random(*shape) * scale)
    values = torch.linalg.svdvals(found)
    assert found.shape == shape
    assert values.min() > 0.3 and values.max() < 1.3
    assert values.mean() == pytest.approx(0.95, abs=0.15)


def test_orthogonalise_keeps_the_singular_vectors():
    """The step must be UVᵀ of the gradient, not some other orthogonal matrix: ⟨UVᵀ, X⟩ is the sum of σ."""
    matrix = random(1, 12, 20, seed=1)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    between = u.mT @ orthogonalise(matrix) @ v.mT  # diagonal, if the vectors are kept
    off_diagonal = between - torch.diag_embed(between.diagonal(dim1=-2, dim2=-1))
    assert off_diagonal.abs().max() < 1e-4
    assert between.diagonal(dim1=-2, dim2=-1).min() > 0.3


def test_a_zero_gradient_gives_a_zero_step():
    """0 / 0: a matrix that no token has touched would turn to NaN."""
    assert torch.equal(orthogonalise(torch.zeros(1, 4, 4)), torch.zeros(1, 4, 4))


def test_muon_on_a_stack_equals_muon_one_by_one():
    """Matrices of one shape are batched for speed: a norm over the stack would couple them."""
    start = [
        random(8, 8, seed=1),
        random(8, 8, seed=2) * 10,
        random(8, 24, seed=3),
        random(24, 8, seed=4),
    ]

    def run(groups):
        matrices = [torch.nn.Parameter(m.clone()) for m in start]
        optimizers = [Muon([matrices[i] for i in group], lr=0.1) for group in groups]
        for step in range(3):
            for i, matrix in enumerate(matrices):
                matrix.grad = random(*matrix.shape, seed=10 * step + i)
            for optimizer in optimizers:
                optimizer.step()
        return matrices

    for together, alone in zip(run([[0, 1, 2, 3]]), run([[0], [1], [2], [3]])):
        assert torch.allclose(together, alone, atol=1e-5)


def test_first_muon_step_is_the_orthogonalised_gradient():
    """Sign, scale sqrt(max(1, R/C)) and learning rate: with zero momentum the direction is the gradient's own."""
    for rows, columns in ((8, 8), (16, 4), (4, 16)):
        matrix = torch.nn.Parameter(torch.zeros(rows, columns))
        gradient = random(rows, columns, seed=5)
        matrix.grad = gradient.clone()
        Muon([matrix], lr=0.5).step()
        expected = -0.5 * orthogonalise(gradient[None])[0] * math.sqrt(max(1, rows / columns))
        assert torch.allclose(matrix, expected, atol=1e-4)


def test_muon_remembers_its_velocity():
    """Without the copy back into the state, every step is a first step."""
    matrix = torch.nn.Parameter(torch.zeros(4, 4))
    optimizer = Muon([matrix], lr=0.1, momentum=0.9)
    first, second = random(4, 4, seed=6), random(4, 4, seed=7)
    for gradient in (first, second):
        matrix.grad = gradient
        optimizer.step()
    velocity = optimizer.state[matrix]["velocity"]
    assert torch.allclose(velocity, 0.9 * (0.1 * first) + 0.1 * second, atol=1e-6)


def test_muon_leaves_a_parameter_without_a_gradient_alone():
    """A frozen matrix must neither move nor crash the stack."""
    moved, frozen = (torch.nn.Parameter(random(4, 4, seed=8)) for _ in range(2))
    before = frozen.detach().clone()
    moved.grad = random(4, 4)
    Muon([moved, frozen], lr=0.1).step()
    assert torch.equal(frozen, before) and not torch.equal(moved, before)


@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_every_parameter_is_in_exactly_one_group(name):
    """A head left out never learns; one listed twice learns twice as fast."""
    model = small_model()
    covered = [
        p
        for opt in make_optimizers(model, name, 0.01)
        for group in opt.param_groups
        for p in group["params"]
    ]
    assert len(covered) == len({id(p) for p in covered})
    assert {id(p) for p in covered} == {id(p) for p in model.parameters()}


def test_muon_takes_the_matrices_inside_the_layers_only():
    """Embedding and head are tables of vectors, not maps: orthogonalising them wrecks rare tokens."""
    model = Llama(ModelConfig())
    muon, adamw = make_optimizers(model, "muon", 0.01)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    inside = {names[id(p)] for p in muon.param_groups[0]["params"]}
    assert inside == {name for name in names.values() if name.endswith("_proj.weight")}
    assert len(inside) == 4 * 7
    assert muon.param_groups[0]["lr"] == 0.01
    assert adamw.param_groups[0]["lr"] == pytest.approx(0.003)
    assert adamw.param_groups[0]["weight_decay"] == 0


def test_unknown_optimizer_is_named():
    """A misspelt optimizer must not train with another."""
    with pytest.raises(ValueError, match="'adam'; accepted are muon, adamw"):
        make_optimizers(small_model(), "adam", 0.01)


def test_schedule_by_hand():
    """Linear to the peak at the last step of the warm-up, half of it half-way down, nearly nothing at the end."""
    factors = [learning_rate_factor(step, steps=110, warmup=10) for step in range(110)]
    assert factors[0] == pytest.approx(0.1) and factors[4] == pytest.approx(0.5)
    assert factors[9] == factors[10] == 1.0
    assert factors[60] == pytest.approx(0.5)
    assert 0 < factors[109] < 0.001
    assert factors[10:] == sorted(factors[10:], reverse=True)


@pytest.mark.parametrize("warmup", [0, 5, 50])
def test_schedule_never_divides_by_zero_nor_leaves_its_range(warmup):
    """No warm-up, and a warm-up longer than the run."""
    factors = [learning_rate_factor(step, steps=5, warmup=warmup) for step in range(5)]
    assert all(0 < factor <= 1 for factor in factors)
