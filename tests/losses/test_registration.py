"""RegistrationLoss: minima at the truth on every level, weights, masks, odd shapes."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.losses import RegistrationLoss, diffusion, lncc, mse
from stn3d.losses.levels import level_factor
from stn3d.sampler import sample

TERMS = [
    "truth",
    "landmarks",
    "dice",
    "lncc",
    "nmi",
    "mind_ssc",
    "ncc",
    "mse",
    "diffusion",
    "bending",
    "jacobian",
    "identity_deviation",
]
DATA_TERMS = TERMS[:8]
SHAPES = [(60, 53), (26, 30, 23)]
Batch = dict[str, Tensor]


def only(**weights: Any) -> RegistrationLoss:
    """A loss of the given terms only."""
    return RegistrationLoss(**(dict.fromkeys(TERMS, 0.0) | weights))


def indices(shape: tuple[int, ...]) -> Tensor:
    axes = [torch.arange(n, dtype=torch.float64) for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)


def brightness(points: Tensor) -> Tensor:
    """A smooth image at index points ``(..., d)``, 0..1, constant nowhere."""
    phase = torch.tensor([0.31, 0.27, 0.35])[: points.shape[-1]] * points
    return (torch.sin(phase).sum(-1) + torch.cos(0.7 * phase).prod(-1)) / 8 + 0.5


def true_displacement(shape: tuple[int, ...]) -> Tensor:
    """``(d, *shape)`` smooth displacement of a few voxels."""
    x = indices(shape) / torch.tensor(shape)
    waves = torch.stack([torch.sin(3 * x.roll(a + 1, -1)[..., 0] + a) for a in range(len(shape))])
    return 1.5 + 0.8 * waves


def synthetic(shape: tuple[int, ...]) -> Batch:
    """A pair with an analytic true displacement, without interpolation."""
    d, u = len(shape), true_displacement(shape)
    mapped = indices(shape) + u.movedim(0, -1)
    fixed, moving = brightness(mapped), brightness(indices(shape))
    points = torch.full((1, 5, d), 4.0) + torch.arange(5.0)[None, :, None]
    moves = sample(u[None], points.double())[0].movedim(0, -1)
    ones = torch.ones(1, 1, *shape)
    return {
        "fixed": fixed.float()[None, None],
        "moving": moving.float()[None, None],
        "fixed_weight": ones,
        "moving_weight": ones,
        "fixed_labels": (fixed * 6).to(torch.int16)[None, None],
        "moving_labels": (moving * 6).to(torch.int16)[None, None],
        "displacement_vox": u.float()[None],
        "truth_weight": ones,
        "fixed_points": points,
        "moving_points": points + moves.float(),
        "points_weight": torch.ones(1, 5),
    }


def stage_of(field: Tensor, factor: int, padded: int) -> Tensor:
    """A field ``(1, d, *shape)`` on a level of a network that pads to a multiple of ``padded``."""
    shape = field.shape[2:]
    whole = [-(-n // padded) * padded for n in shape]
    ends = [p for n, m in zip(reversed(shape), reversed(whole), strict=True) for p in (0, m - n)]
    pool = F.avg_pool2d if len(shape) == 2 else F.avg_pool3d
    filled = F.pad(field, ends, mode="replicate")
    return pool(filled, factor) / factor if factor > 1 else field


def stages_of(field: Tensor) -> list[Tensor]:
    return [stage_of(field, factor, 8) for factor in (4, 2, 1)]


def test_the_factor_of_a_level() -> None:
    assert level_factor((80, 96, 80), (10, 12, 10)) == 8
    assert level_factor((33, 20), (2, 2)) == 32  # padded to 64
    assert level_factor((33, 20), (64, 32)) == 1
    assert level_factor((7, 7), (1, 1)) == 8
    with pytest.raises(InputError, match="cannot be a level"):
        level_factor((7, 7), (1, 1, 1))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", DATA_TERMS)
def test_each_term_is_smallest_at_the_truth(name: str, shape: tuple[int, ...]) -> None:
    batch = synthetic(shape)
    truth = batch["displacement_vox"]
    for level in range(3):
        weights = tuple(float(i == level) for i in range(3))
        loss = only(**{name: 1.0}, level_weights=weights)
        at_truth, _ = loss(stages_of(truth), batch)
        gap = (4, 2, 1)[level]  # one voxel of the level
        wrong = [truth + gap, truth - gap, truth.flip(2) + gap / 2]
        elsewhere = [loss(stages_of(field), batch)[0].item() for field in wrong]
        # A histogram of the coarsest level's few voxels is mostly soft bins.
        share = 1.0 if name == "nmi" else 0.75
        assert at_truth.item() < share * min(elsewhere), (level, at_truth, elsewhere)
        if name in ("truth", "landmarks"):
            assert at_truth.item() < (0.05 if name == "truth" else 0.12)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_term_is_differentiable_and_near_zero_for_equal_images(
    shape: tuple[int, ...],
) -> None:
    batch = synthetic(shape)
    batch |= {"moving": batch["fixed"], "moving_labels": batch["fixed_labels"]}
    batch |= {"moving_points": batch["fixed_points"]}
    batch["displacement_vox"] = torch.zeros_like(batch["displacement_vox"])
    for name in TERMS:
        stages = [s.requires_grad_() for s in stages_of(0 * batch["displacement_vox"])]
        value, terms = only(**{name: 1.0})(stages, batch)
        # Soft bins keep that of the histogram above 0.
        assert value.item() == pytest.approx(0, abs=1.4 if name == "nmi" else 5e-3), name
        assert terms.keys() == {name}
        stages = [(s.detach() + 0.3 * torch.rand_like(s)).requires_grad_() for s in stages]
        only(**{name: 1.0})(stages, batch)[0].backward()
        for stage in stages:
            assert stage.grad is not None
            assert stage.grad.isfinite().all()
            assert (stage.grad != 0).any(), name


def test_terms_and_levels_are_weighted() -> None:
    batch = synthetic((22, 19))
    stages = stages_of(0.7 * batch["displacement_vox"])
    parts = {}
    for name in ("truth", "dice", "diffusion"):
        for level in range(3):
            chosen = tuple(float(i == level) for i in range(3))
            value, terms = only(**{name: 1.0}, level_weights=chosen)(stages, batch)
            parts[name, level] = value.item()
            assert terms == {name: pytest.approx(value.item())}
    strengths = {"truth": 0.5, "dice": 2.0, "diffusion": 3.0}
    total, terms = only(**strengths)(stages, batch)
    expected = sum(
        w * strengths[name] * parts[name, level]
        for name in strengths
        for level, w in enumerate((0.25, 0.5, 1.0))
    )
    assert total.item() == pytest.approx(expected, rel=1e-5)
    assert terms == {name: pytest.approx(parts[name, 2], rel=1e-5) for name in strengths}


def test_regularity_does_not_depend_on_the_level() -> None:
    shape = (32, 24)
    slope = (0.1 * indices(shape)[..., :1].expand(*shape, 2)).movedim(-1, 0)[None].float()
    stages = stages_of(slope)
    for level, stage in enumerate(stages):
        chosen = tuple(float(i == level) for i in range(3))
        value, _ = only(diffusion=1.0, level_weights=chosen, spacing_mm=2.0)(
            stages, {"fixed": torch.zeros(1, 1, *shape)}
        )
        assert value.item() == pytest.approx(0.02, rel=1e-4)
        grid = Grid.of_spacing(stage.shape[2:], 2.0)
        assert diffusion(stage * 2.0, grid).item() == pytest.approx(0.02, rel=1e-4)
    moved, _ = only(identity_deviation=1.0, spacing_mm=2.0)(
        [torch.full((1, 2, *shape), 3.0)], {"fixed": torch.zeros(1, 1, *shape)}
    )
    assert moved.item() == pytest.approx(2 * 36)


def test_similarities_equal_the_functions() -> None:
    batch = synthetic((24, 21))
    u = 0.5 * batch["displacement_vox"]
    moved = sample(batch["moving"], (indices((24, 21)) + u[0].movedim(0, -1))[None].float())
    inside = (moved != 0).float()
    for name, plain in (
        ("mse", mse(batch["fixed"], moved, inside)),
        ("lncc", lncc(batch["fixed"], moved, inside, radius_mm=2)),
    ):
        assert only(**{name: 1.0})([u], batch)[0].item() == pytest.approx(plain.item(), rel=1e-4)


@pytest.mark.parametrize("name", ["mse", "lncc", "nmi", "mind_ssc", "ncc", "truth"])
def test_voxels_of_weight_zero_have_no_influence(name: str) -> None:
    batch = synthetic((30, 26))
    weight = torch.ones(1, 1, 30, 26)
    weight[:, :, :9] = 0
    role, key = (
        ("displacement_vox", "truth_weight") if name == "truth" else ("fixed", "fixed_weight")
    )
    batch[key] = weight
    other = dict(batch)
    other[role] = torch.where(weight == 0, 1 - batch[role], batch[role])
    stages = stages_of(0.5 * batch["displacement_vox"])
    value = only(**{name: 1.0})(stages, batch)[0].item()
    assert only(**{name: 1.0})(stages, other)[0].item() == pytest.approx(value, rel=1e-5)
    del other[key]
    assert only(**{name: 1.0})(stages, other)[0].item() != pytest.approx(value, rel=1e-3)


def test_the_overlap_has_no_gradient() -> None:
    shape = (20, 20)
    # Constant images: only the overlap could change the loss, and it has no gradient.
    batch = {"fixed": torch.zeros(1, 1, *shape), "moving": torch.ones(1, 1, *shape)}
    batch["moving_weight"] = torch.linspace(0.2, 1, 20).expand(1, 1, *shape)
    stage = torch.full((1, 2, *shape), 3.3, requires_grad=True)
    only(mse=1.0)([stage], batch)[0].backward()
    assert stage.grad is not None
    assert stage.grad.abs().max() < 1e-8


def test_landmarks_are_displaced_between_voxels_on_every_level() -> None:
    shape = (19, 21)
    x = indices(shape)
    linear = torch.tensor([[0.02, 0.05], [-0.03, 0.01]]).double()
    field = (x @ linear.T + 0.4).movedim(-1, 0)[None].float()
    points = torch.tensor([[[6.3, 8.7], [9.9, 7.2]]])
    batch = {"fixed": torch.zeros(1, 1, *shape), "fixed_points": points}
    batch["moving_points"] = points + (points.double() @ linear.T + 0.4).float()
    value, _ = only(landmarks=1.0)(stages_of(field), batch)
    assert value.item() == pytest.approx(0, abs=1e-4)
    batch["points_weight"] = torch.tensor([[1.0, 0.0]])
    batch["moving_points"] = batch["moving_points"] + torch.tensor([[[0.0, 2.0], [50, 0]]])
    levels = [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)]
    found = [
        only(landmarks=1.0, level_weights=w)(stages_of(field), batch)[0].item() for w in levels
    ]
    assert found == pytest.approx([0.5, 1, 2], abs=0.011)


def test_the_loss_of_bfloat16_networks_is_computed_in_float32() -> None:
    batch = synthetic((24, 20))
    stages = [s.bfloat16() for s in stages_of(0.5 * batch["displacement_vox"])]
    loss = only(truth=1.0, dice=1.0, lncc=1.0)
    expected, _ = loss([s.float() for s in stages], batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, _ = loss(stages, batch)
    assert found.dtype == torch.float32
    assert found.item() == expected.item()


def test_a_batch_of_two_and_a_pair_without_truth() -> None:
    one, other = synthetic((20, 18)), synthetic((20, 18))
    other["truth_weight"] = torch.zeros_like(other["truth_weight"])
    batch = {key: torch.cat([one[key], other[key]]) for key in one}
    both = torch.cat([0.5 * one["displacement_vox"], 99 + one["displacement_vox"]])
    value = only(truth=1.0)([both], batch)[0].item()
    assert value == pytest.approx(only(truth=1.0)([both[:1]], one)[0].item())
    nothing, _ = only(truth=1.0)([both[1:].requires_grad_()], other)
    assert nothing.item() == 0


def test_lncc_ignores_pairs_of_different_contrasts() -> None:
    one, other = synthetic((20, 18)), synthetic((20, 18))
    other["fixed"] = (3 * other["fixed"]).sin()
    batch = {key: torch.cat([one[key], other[key]]) for key in one}
    field = (0.5 * batch["displacement_vox"]).requires_grad_()
    loss = only(lncc=1.0)
    known, _ = loss([field], batch | {"same_contrast": torch.tensor([[1.0], [0.0]])})
    known.backward()
    assert field.grad is not None
    assert field.grad[0].abs().sum() > 0
    assert not field.grad[1].any()
    all_alike, _ = loss([field], batch | {"same_contrast": torch.ones(2, 1)})
    assert all_alike.item() == loss([field], batch)[0].item() != known.item()


def test_the_loss_is_deterministic() -> None:
    batch = synthetic((19, 22, 17))
    stages = stages_of(0.4 * batch["displacement_vox"])
    loss = only(truth=1.0, dice=1.0, diffusion=0.1, max_labels=2)
    values = {loss(stages, dict(batch))[0].item() for _ in range(3)}
    assert len(values) == 1


def test_invalid_settings_are_an_error() -> None:
    with pytest.raises(InputError, match=r"'difusion'; did you mean 'diffusion'"):
        RegistrationLoss(difusion=1.0)  # type: ignore[call-arg]
    with pytest.raises(InputError, match="at least 0"):
        RegistrationLoss(dice=-1.0)
    with pytest.raises(InputError, match="at least 0"):
        RegistrationLoss(level_weights=(1.0, float("nan")))
    with pytest.raises(InputError, match="all weights are 0"):
        only()
    with pytest.raises(InputError, match="all level_weights are 0"):
        RegistrationLoss(level_weights=(0.0, 0.0))
    batch = synthetic((16, 16))
    stages = stages_of(batch["displacement_vox"])
    with pytest.raises(InputError, match="2 values, but the network has 3 stages"):
        RegistrationLoss(level_weights=(0.5, 1.0))(stages, batch)
    with pytest.raises(InputError, match="power of two of at least 2"):
        RegistrationLoss(factors=(4, 3, 1))(stages, batch)
    del batch["displacement_vox"]
    with pytest.raises(InputError, match=r"'displacement_vox'.*weights"):
        RegistrationLoss()(stages, batch)


def test_factors_can_be_given() -> None:
    shape = (6, 5)  # padded to 8 by 8 and more than doubled on a level of factor 4 if given
    stage = torch.full((1, 2, 4, 4), 0.25)
    batch = {"fixed": torch.zeros(1, 1, *shape), "displacement_vox": torch.ones(1, 2, *shape)}
    assert only(truth=1.0, factors=(4,))([stage], batch)[0].item() == pytest.approx(0, abs=1e-6)
    assert only(truth=1.0)([stage], batch)[0].item() > 0.1


def test_the_loss_can_be_copied_and_replaced() -> None:
    loss = RegistrationLoss(dice=0.3)
    assert copy.deepcopy(loss) == loss
    assert dataclasses.replace(loss, dice=0.4).dice == 0.4


@pytest.mark.parametrize("name", ["truth", "dice", "lncc", "mind_ssc", "mse"])
def test_minimising_the_loss_recovers_the_truth(name: str) -> None:
    batch = synthetic((46, 41))
    truth, fields = batch["displacement_vox"], [torch.zeros(1, 2, 46, 41, requires_grad=True)]
    loss = only(**{name: 1.0}, diffusion=0.02, max_labels=20)
    optimiser = torch.optim.Adam(fields, lr=0.1)
    for _ in range(60):
        optimiser.zero_grad()
        loss(fields, batch)[0].backward()
        optimiser.step()
    middle = (..., slice(6, -6), slice(6, -6))
    before, after = (
        (u - truth)[middle].norm(dim=1).mean().item() for u in (0 * truth, fields[0].detach())
    )
    assert after < 0.5 * before
