"""Where chapters/data/rl_ends.py says that GRPO and its relatives come to rest, nothing pulls: every group enumerated."""

import importlib.util
from itertools import product

import numpy as np
import pytest
import torch

import sources
from dpo_core import tabular
from dpo_core.policy_gradient import METHODS, advantages, kl_penalty, policy_gradient_loss

# three forks; two, three, four tokens
TEXTS = [("xE", 0.45, 0), ("yaE", 0.25, 1), ("ybcE", 0.2, 2), ("ybdE", 0.1, 3)]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location(
        "rl_ends", sources.CHAPTERS / "data" / "rl_ends.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def steps(forks):
    """Log-probabilities of each text's tokens, (4, 4), padded with 0, from those of its three forks."""
    (x, y), (a, b), (c, d) = (fork.log_softmax(-1) for fork in forks)
    zero = torch.zeros((), dtype=torch.float64)
    rows = [(x, zero, zero, zero), (y, a, zero, zero), (y, b, c, zero), (y, b, d, zero)]
    return torch.stack([torch.stack(row) for row in rows])


def forks_of(shares):
    """The three forks' log-probabilities, from the shares of the four texts, to be differentiated."""
    pairs = (
        (shares[0], shares[1:].sum()),
        (shares[1], shares[2:].sum()),
        (shares[2], shares[3]),
    )
    return [torch.tensor(p, dtype=torch.float64).log().requires_grad_() for p in pairs]


def reference():
    return forks_of(np.array([mass for _, mass, _ in TEXTS]))


@pytest.mark.parametrize(
    "name", ["dr_grpo", "grpo", "dapo", "dr_grpo_ratio", "grpo_ratio", "dapo_ratio"]
)
def test_nothing_pulls_where_the_forks_are_at_rest(script, name):
    """A fork that hears of later charges, a mean that forgets the length, a group's deviation for a prompt's."""
    method, kl_term, hears = script.ENDS[name]
    how, masses = METHODS[method], np.array([mass for _, mass, _ in TEXTS])
    assert not hears
    (shares,), (kl,) = script.settle([TEXTS], name)
    found, ref = forks_of(shares), [fork.detach() for fork in reference()]
    logps, ref_logps = steps(found), steps(ref)
    probs = logps.sum(-1).exp().detach()
    assert probs.numpy() == pytest.approx(shares, abs=1e-9)
    assert kl == pytest.approx(
        float((probs * (logps.detach().sum(-1) - torch.tensor(masses).log())).sum()), abs=1e-4
    )
    lengths = (
        torch.tensor([len(text) for text, _, _ in TEXTS]) if how.length_mean else torch.ones(4)
    )
    groups = torch.tensor(list(product(range(4), repeat=script.GROUP)))  # (256, 4)
    worth = torch.tensor(script.WORTH)[torch.tensor([kind for _, _, kind in TEXTS])]
    A = advantages(worth[groups], "group", how.scale)
    losses = policy_gradient_loss(logps[groups], A[..., None].expand(-1, -1, 4))
    penalties = kl_penalty(logps, logps.detach(), ref_logps, kl_term)
    losses = (losses + script.BETA * penalties[groups]).sum(-1) / lengths[groups]
    (probs[groups].prod(-1) * losses.mean(-1)).sum().backward()
    assert max(fork.grad.abs().max().item() for fork in found) < 1e-4
    start = torch.stack([fork.detach()[0] for fork in found])
    # it has moved
    assert (start.exp() - torch.tensor([0.45, 0.25 / 0.55, 2 / 3])).abs().max() > 0.02


def test_prompts_do_not_mix(script):
    """Prompts are solved side by side; what one pulls may not reach its neighbour."""
    other = [("aE", 0.5, 3), ("bE", 0.5, 0)]
    together, kls = script.settle([TEXTS, other, TEXTS], "grpo_ratio")
    for texts, shares, kl in zip((TEXTS, other, TEXTS), together, kls):
        (alone,), (spent,) = script.settle([texts], "grpo_ratio")
        assert shares == pytest.approx(alone, abs=1e-5) and kl == pytest.approx(spent, abs=1e-5)


@pytest.mark.parametrize("name", ["dr_grpo_heard", "dr_grpo_ratio_heard"])
def test_heard_charges_are_those_of_the_whole_tree(script, name):
    """Counting a later fork's charge twice, or by the other KL: here the charge is differentiated whole."""
    (shares,), _ = script.settle([TEXTS], name)
    ref, forks = [fork.detach() for fork in reference()], forks_of(shares)
    logps = [fork.log_softmax(-1) for fork in forks]
    turned = name == "dr_grpo_heard"
    kl = [
        tabular.kl(r.log_softmax(-1), p) if turned else tabular.kl(p, r.log_softmax(-1))
        for r, p in zip(ref, logps)
    ]
    # reached with the policy's probability
    charge = kl[0] + logps[0][1].exp() * (kl[1] + logps[1][1].exp() * kl[2])
    probs = steps(forks).sum(-1).exp()
    gain = (1 - 1 / script.GROUP) * (
        probs * torch.tensor(script.WORTH)[[kind for _, _, kind in TEXTS]]
    ).sum()
    (gain - script.BETA * charge).backward()
    assert max(fork.grad.abs().max().item() for fork in forks) < 1e-4
    (deaf,), _ = script.settle([TEXTS], name.removesuffix("_heard"))
    assert np.abs(deaf - shares).max() > 0.01


def test_heard_and_unturned_the_end_is_the_optimum(script):
    """The sum over the forks is the answer's own KL: the closed form, with the leash that a group tightens."""
    (shares,), _ = script.settle([TEXTS], "dr_grpo_ratio_heard")
    masses = torch.tensor([mass for _, mass, _ in TEXTS], dtype=torch.float64)
    worth = torch.tensor(script.WORTH)[[kind for _, _, kind in TEXTS]].double()
    beta = script.BETA * script.GROUP / (script.GROUP - 1)
    best = tabular.optimal_policy(tabular.Problem(masses.log(), worth), beta).exp().flatten()
    assert shares == pytest.approx(best.numpy(), abs=1e-5)
