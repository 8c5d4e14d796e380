"""Fast equals plain: packed rows, shared prompts, gradients by hand, compiled layers, against their definitions."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dpo_core import compilation, kernels
from dpo_core.compilation import backbones, can_compile, compiled, follow, worth_compiling
from dpo_core.losses import token_logps
from dpo_core.model import Layout, Llama, ModelConfig, grid_layout
from dpo_core.packing import completion_logps, pack
from toys import small_model

IDS = 22  # of the vocabulary


def plain_logps(model, ids, mask):
    """The definition: each answer a row of its own, padding and all."""
    flat, marks = ids.flatten(0, -2), mask.flatten(0, -2).bool()
    logps = token_logps(model(flat), flat).masked_fill(~marks[:, 1:], 0.0)
    return logps.view(*ids.shape[:-1], -1)


def gradients(model, value):
    """Every parameter's gradient of a number that weighs each entry of `value` differently."""
    weights = torch.linspace(0.5, 1.5, value.numel(), dtype=value.dtype).view(value.shape)
    model.zero_grad()
    (value * weights).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_equal(model, ids, mask, tolerance=1e-9):
    fast, plain = completion_logps(model, ids, mask), plain_logps(model, ids, mask)
    assert fast.shape == plain.shape and (fast - plain).abs().max() < tolerance
    ours, theirs = gradients(model, fast), gradients(model, plain)
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        assert (ours[name] - gradient).abs().max() <= tolerance * max(1.0, gradient.abs().max()), (
            name
        )


@st.composite
def batches(draw):
    """Rows of K answers that share anything from nothing to everything, with marks anywhere but at the start."""
    rows, answers, length = (
        draw(st.integers(1, 4)),
        draw(st.integers(1, 3)),
        draw(st.integers(2, 9)),
    )
    seed = draw(st.integers(0, 2**32 - 1))
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(IDS, (rows, answers, length), generator=generator)
    common = torch.randint(length + 1, (rows, 1, 1), generator=generator)
    ids = torch.where(torch.arange(length) < common, ids[:, :1], ids)
    mask = torch.rand(ids.shape, generator=generator) < draw(st.sampled_from([0.1, 0.5, 0.9]))
    mask[..., 0] = False
    return ids, mask


MODEL = small_model(3).double()


@settings(max_examples=60, deadline=None)
@given(batches())
def test_packed_log_probabilities_and_gradients_are_those_of_plain_rows(batch):
    """A prompt read once, no padding, the head on marks alone: nothing of it may show."""
    ids, mask = batch
    if mask.any():
        assert_equal(MODEL, ids, mask)
        assert_equal(MODEL, ids[:, 0], mask[:, 0]) if mask[:, 0].any() else None
    else:
        assert completion_logps(MODEL, ids, mask).abs().max() == 0


@settings(max_examples=60, deadline=None)
@given(batches())
def test_a_pack_has_no_token_that_nothing_depends_on(batch):
    """Each row holds its common beginning once and each answer as far as its last mark, which nothing reads; no place is
    taken twice."""
    ids, mask = batch
    packed = pack(ids, mask)
    rows, answers, length = ids.shape
    expected = 0
    for row in range(rows):
        last = [
            max((t for t in range(length) if mask[row, k, t]), default=0) for k in range(answers)
        ]
        same = [bool((ids[row, :, t] == ids[row, 0, t]).all()) for t in range(length)]
        shared = min([*last, next((t for t in range(length) if not same[t]), length)])
        expected += last[0] + sum(end - shared for end in last[1:])
    assert len(packed.input_ids) == expected
    assert len(packed.target) == mask.sum() == len(packed.entry.unique())
    assert len(packed.layout.place.unique()) == expected
    assert packed.layout.positions.shape == (expected,)


def test_an_answer_does_not_see_the_other():
    """Both stand in one row; a change in one must not move the other's log-probabilities by a bit of their value."""
    ids = torch.tensor([[[1, 5, 6, 20, 7, 8, 2], [1, 5, 6, 20, 9, 10, 2]]])
    mask = (torch.arange(7) > 3).expand(1, 2, 7)
    before = completion_logps(MODEL, ids, mask)
    changed = ids.clone()
    changed[0, 0, 5] = 11
    after = completion_logps(MODEL, changed, mask)
    assert (after[0, 1] - before[0, 1]).abs().max() < 1e-12
    assert (after[0, 0, 4:] - before[0, 0, 4:]).abs().min() > 1e-6


@pytest.mark.parametrize(
    ("ids", "mask", "message"),
    [
        (torch.ones(2, 3), torch.ones(2, 4), "do not fit"),
        (torch.ones(3), torch.ones(3), "do not fit"),
        (torch.ones(1, 3), torch.ones(1, 3), "marks the first token"),
        (
            torch.ones(1, 200),
            torch.ones(1, 200) * (torch.arange(200) > 1),
            "200 positions; the model has 64",
        ),
    ],
)
def test_what_does_not_fit_is_named(ids, mask, message):
    with pytest.raises(ValueError, match=message):
        completion_logps(small_model(1), ids.long(), mask.bool())


def test_a_mask_is_checked_for_any_module():
    """A marked first token is not passed over where whole rows are read."""
    with pytest.raises(ValueError, match="marks the first token"):
        completion_logps(torch.nn.Identity(), torch.ones(1, 3).long(), torch.ones(1, 3).bool())


def test_a_module_that_only_gives_logits_gets_whole_rows():
    """Any model can be trained by our steps; only a Llama of ours is handed packed rows."""

    class Wrapped(torch.nn.Module):
        def forward(self, ids):
            return MODEL(ids)

    ids = torch.randint(IDS, (3, 2, 6), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(6) > 2).expand(3, 2, 6)
    for rows, marks in ((ids, mask), (ids[:, 0], mask[:, 0])):
        fast, plain = (completion_logps(m, rows, marks) for m in (MODEL, Wrapped()))
        assert (fast - plain).abs().max() < 1e-9


# ---------------------------------------------------------------- gradients by hand


def compared(fast, plain, *inputs):
    """Value and gradients of a kernel against those of its definition, for an uneven weighing of the result."""
    results = []
    for function in (fast, plain):
        leaves = [x.clone().requires_grad_() for x in inputs]
        value = function(*(x * 1 for x in leaves))  # a kernel may overwrite what it is given
        weights = torch.linspace(-1, 1, value.numel(), dtype=value.dtype).view(value.shape)
        (value * weights).sum().backward()
        results.append([value.detach(), *(x.grad for x in leaves)])
    for ours, theirs in zip(*results, strict=True):
        assert (ours - theirs).abs().max() <= 1e-10 * max(1.0, theirs.abs().max())


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(5, 8), (2, 3, 8), (1, 1)])
def test_rms_norm_by_hand_is_autograds(shape):
    compared(
        lambda x, w: kernels.rms_norm(x, w, 1e-3),
        lambda x, w: kernels.plain_rms_norm(x, w, 1e-3),
        3 * normal(*shape),
        normal(shape[-1], seed=1),
    )


@pytest.mark.parametrize("packed", [False, True])
def test_attention_by_hand_is_autograds(packed):
    ids = torch.randint(IDS, (3, 2, 7), generator=torch.Generator().manual_seed(2))
    ids[:, 1, :3] = ids[:, 0, :3]
    mask = (torch.arange(7) > 2).expand(3, 2, 7)
    layout = pack(ids, mask).layout if packed else grid_layout(ids[:, 0])
    frame = MODEL.model.frame(layout)
    compared(
        lambda x: kernels.attend(x, frame, 2),
        lambda x: kernels.plain_attend(x, frame, 2),
        3 * normal(len(layout.positions), 48),
    )


def test_half_precision_is_normalised_in_float32():
    x = (300 * normal(4, 8)).to(torch.bfloat16)
    weight = torch.ones(8, dtype=torch.bfloat16)
    exact = kernels.plain_rms_norm(x.double(), weight.double(), 1e-6)
    for norm in (kernels.rms_norm, kernels.plain_rms_norm):
        assert norm(x, weight, 1e-6).dtype == torch.bfloat16
        assert (norm(x, weight, 1e-6).double() - exact).abs().max() < 0.02


# ---------------------------------------------------------------- compiled


@pytest.fixture(scope="module")
def compiler():
    if not can_compile("cpu"):
        pytest.skip("no compiler here")


def test_compiled_layers_give_the_same(compiler):
    """Loss and gradients to 1e-5 in float32, for two numbers of tokens, by one program each width."""
    model = small_model(1)
    for seed in (0, 1):
        generator = torch.Generator().manual_seed(seed)
        ids = torch.randint(3, IDS, (4, 2, 9), generator=generator)
        ids[:, 1, :4] = ids[:, 0, :4]
        mask = (torch.arange(9) > 3) & (torch.arange(9) < torch.tensor([[9], [7 + seed]])).expand(
            4, 2, 9
        )
        eager = completion_logps(model, ids, mask)
        expected = gradients(model, eager)
        with compiled(model) as on:
            assert on and all(part.compiled for part in backbones(model))
            fast = completion_logps(model, ids, mask)
            found = gradients(model, fast)
        assert not any(part.compiled for part in backbones(model))
        assert (fast - eager).abs().max() < 1e-5
        for name, gradient in expected.items():
            assert (found[name] - gradient).abs().max() < 1e-5 * max(1.0, gradient.abs().max()), (
                name
            )


def test_a_machine_without_a_compiler_goes_on_and_is_told_once(monkeypatch, capsys):
    def broken(*args, **kwargs):
        raise RuntimeError("no C++ compiler\nand much more")

    monkeypatch.setattr(compilation.torch, "compile", broken)
    can_compile.cache_clear()
    try:
        model = small_model(1)
        for _ in range(2):
            with compiled(model) as on:
                assert not on and not backbones(model)[0].compiled
        said = capsys.readouterr()
        assert (said.out + said.err).count("without a compiler: no C++ compiler") == 1
        assert "much more" not in said.out + said.err
    finally:
        can_compile.cache_clear()


def test_a_reference_follows_its_policy():
    policy, reference = small_model(1), small_model(2)
    backbones(policy)[0].program = lambda *args: None
    follow(reference, policy)
    assert backbones(reference)[0].compiled
    backbones(policy)[0].program = None
    follow(reference, policy)
    assert not backbones(reference)[0].compiled


def test_only_long_runs_are_compiled():
    """The book's base model is worth it, its DPO and a chapter's minute are not."""
    model = Llama(ModelConfig())
    assert worth_compiling(model, 9000 * 128 * 14)
    assert not worth_compiling(model, 1500 * 128 * 14)


def test_a_layout_of_rows_with_holes_is_refused_nowhere_and_seen_by_nobody():
    """What stands in an empty place may be anything: nobody looks at it, and no gradient comes from it."""
    ids = torch.tensor([[1, 5, 20, 7, 2], [1, 6, 20, 2, 0]])
    mask = torch.tensor([[0, 0, 0, 1, 1], [0, 0, 0, 1, 0]]).bool()
    packed = pack(ids, mask)
    states = MODEL.model(packed.input_ids, packed.layout)
    other = packed.layout._replace(token=packed.layout.token.clone())
    other.token[1, 4] = 3
    assert (
        isinstance(other, Layout)
        and (MODEL.model(packed.input_ids, other) - states).abs().max() < 1e-12
    )


def test_only_what_is_read_passes_the_last_layer():
    """The states of the tokens `read`, twice where asked twice, are those of the whole pass; so are the gradients."""
    ids = torch.tensor([[1, 5, 20, 7, 2], [1, 6, 20, 2, 0]])
    mask = torch.tensor([[0, 0, 0, 1, 1], [0, 0, 0, 1, 0]]).bool()
    packed, read = pack(ids, mask), torch.tensor([2, 3, 3, 6])
    whole = MODEL.model(packed.input_ids, packed.layout)[read]
    part = MODEL.model(packed.input_ids, packed.layout, read=read)
    assert part.shape == whole.shape and (part - whole).abs().max() < 1e-12
    expected, found = gradients(MODEL, whole[:, 0]), gradients(MODEL, part[:, 0])
    for name, gradient in expected.items():
        assert (found[name] - gradient).abs().max() < 1e-12, name
