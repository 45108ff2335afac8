"""Same or different contrasts, simulated by known maps of the intensity; and the selected kind."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from stn3d.grid import homogeneous
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.registration.automatic import (
    SelectedMetric,
    Selection,
    may_differ,
    relation,
    select_kind,
    select_metric,
    shows_same_contrast,
)
from stn3d.transforms import Affine, Transform
from tests.helpers.geometry_cases import DIMS, rotation, uniform
from tests.helpers.synthetic import Known, dense_truth, known_pair, linear_truth, plain_grid

NO_CT = (False, False)

ONE_CONTRAST: dict[str, Callable[[Tensor], Tensor]] = {
    "as it is": lambda x: x,
    "brighter and flatter": lambda x: 0.3 * x + 0.4,
    "bent, but rising": lambda x: x.clamp(min=0).sqrt(),
    "noisy": lambda x: x + 0.05 * uniform(-1, 1, *x.shape, seed=5).to(x),
}
TWO_CONTRASTS: dict[str, Callable[[Tensor], Tensor]] = {
    "the darkest and the brightest alike": lambda x: (2 * x - 1).abs(),
    "the middle brightest": lambda x: torch.where(x < 0.5, 2 * x, 1.6 - 1.2 * x),
    "fluid bright, tissue turned over": lambda x: torch.where(x < 0.3, 3 * x, 1.14 - 0.8 * x),
}


def a_pair(ndim: int, seed: int = 0) -> Known:
    shift = torch.tensor([3.0, -2, 1]).double()[:ndim]
    truth = linear_truth("rigid", torch.zeros(ndim).double(), shift, 6)
    return known_pair(truth, plain_grid(ndim, 40), plain_grid(ndim, 44), shift, seed)


def recoloured(known: Known, colours: Callable[[Tensor], Tensor], side: str = "fixed") -> Pair:
    """The pair with one image's intensity changed by a map."""
    pair = known.pair
    scan = getattr(pair, side)
    return replace(pair, **{side: replace(scan, image=colours(scan.image).clamp(0, 1.25))})


def nearly(known: Known, off_mm: float = 1.0) -> Transform:
    """The truth, slightly perturbed."""
    d = known.anatomy.ndim
    aside = torch.full((d,), off_mm / math.sqrt(d), dtype=torch.float64)
    return known.truth.then(Affine.from_matrix(homogeneous(torch.eye(d).double(), aside)))


# -- the metric -----------------------------------------------------------------------------------


@pytest.mark.parametrize("ndim", DIMS)
@pytest.mark.parametrize("colours", ONE_CONTRAST.values(), ids=ONE_CONTRAST)
@pytest.mark.parametrize("side", ["fixed", "moving"])
def test_the_same_contrast_is_lncc(
    ndim: int, colours: Callable[[Tensor], Tensor], side: str
) -> None:
    known = a_pair(ndim)
    for transform in (known.truth, nearly(known)):
        selected = select_metric(recoloured(known, colours, side), transform, 1.0, NO_CT)
        assert selected.choice == "lncc"
        assert "same contrast" in selected.reason
        assert 0.8 <= selected.evidence["positive_local_correlation_fraction"] <= 1


@pytest.mark.parametrize("ndim", DIMS)
@pytest.mark.parametrize("colours", TWO_CONTRASTS.values(), ids=TWO_CONTRASTS)
@pytest.mark.parametrize("side", ["fixed", "moving"])
@pytest.mark.parametrize("seed", [0, 1])
def test_different_contrasts_are_nmi(
    ndim: int, colours: Callable[[Tensor], Tensor], side: str, seed: int
) -> None:
    known = a_pair(ndim, seed)
    for transform in (known.truth, nearly(known)):
        selected = select_metric(recoloured(known, colours, side), transform, 1.0, NO_CT)
        assert selected.choice == "nmi"
        assert "different contrasts" in selected.reason
        assert selected.evidence["positive_local_correlation_fraction"] < 0.8
        json.dumps(selected.evidence, allow_nan=False)


@pytest.mark.parametrize("ndim", DIMS)
def test_under_noise_less_evidence_suffices_where_the_local_correlation_is_mixed(ndim: int) -> None:
    known = a_pair(ndim)
    noise = (ndim - 1) * uniform(-1, 1, *known.pair.fixed.image.shape, seed=7)

    two_contrasts = TWO_CONTRASTS["fluid bright, tissue turned over"]
    pair = recoloured(known, lambda x: two_contrasts(x) + noise.to(x))
    two = select_metric(pair, known.truth, 1.0, NO_CT)
    assert two.evidence["positive_local_correlation_fraction"] < 0.4
    assert 0.08 < two.evidence["nonlinear_variance_fraction"] < 0.12
    assert two.choice == "nmi"
    one = recoloured(known, lambda x: x + noise.to(x) / 6)
    assert select_metric(one, known.truth, 1.0, NO_CT).choice == "lncc"


@pytest.mark.parametrize("ndim", DIMS)
def test_relation_runs_from_the_same_to_the_opposite(ndim: int) -> None:
    known = a_pair(ndim)
    same = relation(recoloured(known, lambda x: x), known.truth, 1.0)
    opposite = relation(recoloured(known, lambda x: 1.25 - x), known.truth, 1.0)
    assert same.positive_local_correlation_fraction == pytest.approx(1, abs=1e-3)
    assert opposite.positive_local_correlation_fraction == pytest.approx(-1, abs=1e-3)
    assert same.nonlinear_variance_fraction < 0.05  # a line explains all of it
    assert (
        relation(recoloured(known, torch.sqrt), known.truth, 1.0).nonlinear_variance_fraction > 0.5
    )


@pytest.mark.parametrize("ndim", DIMS)
def test_the_deformable_stage_compares_edges_of_different_contrasts_except_with_ct(
    ndim: int,
) -> None:
    known = a_pair(ndim)
    pair = recoloured(known, TWO_CONTRASTS["the middle brightest"])
    selected = select_metric(pair, known.truth, 1.0, NO_CT)
    assert (selected.choice, selected.deformable_metric) == ("nmi", "gradient")
    used = selected.used("gradient")
    assert used.reason == f"{selected.reason}; the deformable stage uses metric 'gradient'"
    assert selected.used(None).deformable_metric is None
    selected = select_metric(pair, known.truth, 1.0, (True, False))
    assert (selected.choice, selected.deformable_metric) == ("nmi", None)
    both = select_metric(pair, known.truth, 1.0, (True, True))  # wherever they lie
    assert (both.choice, both.deformable_metric) == ("lncc", None)
    assert shows_same_contrast(both)


@pytest.mark.parametrize("ndim", DIMS)
def test_the_deformable_stage_compares_edges_where_one_subjects_tissues_changed(ndim: int) -> None:
    known = a_pair(ndim)
    pair = recoloured(known, torch.sqrt)
    selected = select_metric(pair, known.truth, 1.0, NO_CT)
    assert (selected.choice, selected.deformable_metric) == ("lncc", "gradient")
    assert "not linearly related" in selected.reason
    same = select_metric(known.pair, known.truth, 1.0, NO_CT)  # no tissue changed
    assert (same.choice, same.deformable_metric) == ("lncc", None)
    assert select_metric(pair, known.truth, 1.0, (True, True)).deformable_metric is None


@pytest.mark.parametrize("ndim", DIMS)
def test_a_poor_fit_in_small_windows_is_not_taken_for_one_subject(ndim: int) -> None:
    known = a_pair(ndim)
    noise = 0.25 * uniform(-1, 1, *known.pair.fixed.image.shape, seed=7)
    pair = recoloured(known, lambda x: (x.sqrt() + noise.to(x)).clamp(min=0))
    selected = select_metric(pair, known.truth, 1.0, NO_CT)
    assert (selected.choice, selected.deformable_metric) == ("lncc", None)
    assert selected.evidence["local_r2_mean"] < 0.66
    assert selected.evidence["nonlinear_variance_fraction"] > 0.055


@pytest.mark.parametrize("ndim", DIMS)
def test_few_voxels_do_not_look_nonlinear_by_chance(ndim: int) -> None:
    """Two noisy images of the same contrast that are related by a line."""
    known = a_pair(ndim)
    few = torch.zeros_like(known.pair.fixed.image)
    few[(..., *[slice(12, 26 if ndim == 2 else 18)] * ndim)] = 1
    fixed = replace(known.pair.fixed, mask=few)
    curved = []
    for seed in range(20):
        noise = 0.2 * uniform(-1, 1, *few.shape, seed=seed).to(few)
        image = 0.5 + 0.5 * known.pair.fixed.image + noise
        pair = Pair(replace(fixed, image=image), known.pair.moving)
        curved.append(relation(pair, known.truth, 1.0).nonlinear_variance_fraction)
    assert sum(curved) / len(curved) < 0.04  # 32 bins of about 200 voxels would explain 0.15


@pytest.mark.parametrize("ct", [(True, False), (False, True)])
def test_ct_and_anything_else_is_nmi_whatever_the_images_show(ct: tuple[bool, bool]) -> None:
    known = a_pair(2)
    selected = select_metric(known.pair, known.truth, 1.0, ct)
    assert selected.choice == "nmi"
    assert f"the {'fixed' if ct[0] else 'moving'} image is CT" in selected.reason


def test_two_ct_are_compared_like_any_other_images() -> None:
    known = a_pair(2)
    assert select_metric(known.pair, known.truth, 1.0, (True, True)).choice == "lncc"


@pytest.mark.parametrize("ndim", DIMS)
def test_too_little_in_common_is_no_evidence_of_different_contrasts(ndim: int) -> None:
    known = a_pair(ndim)
    pair = recoloured(known, TWO_CONTRASTS["the middle brightest"])
    far = Affine.from_matrix(
        homogeneous(torch.eye(ndim).double(), torch.full((ndim,), 300.0).double())
    )
    few = torch.zeros_like(pair.fixed.image)
    few[(..., *[slice(18, 21)] * ndim)] = 1
    peephole = replace(pair, fixed=replace(pair.fixed, mask=few))
    flat = replace(pair, fixed=replace(pair.fixed, image=torch.full_like(pair.fixed.image, 0.5)))
    for case, transform in ((pair, far), (peephole, known.truth), (flat, known.truth)):
        selected = select_metric(case, transform, 1.0, NO_CT)
        assert (selected.choice, selected.reason) == (
            "lncc",
            "there is no evidence of different contrasts",
        )
        assert selected.evidence == {
            "positive_local_correlation_fraction": None,
            "local_r2_mean": None,
            "local_r_mean": None,
            "nonlinear_variance_fraction": pytest.approx(0, abs=1e-9),
        }


@pytest.mark.parametrize("ndim", DIMS)
@pytest.mark.parametrize("side", ["fixed", "moving"])
def test_voxels_outside_the_mask_are_no_evidence(ndim: int, side: str) -> None:
    """Half of one image has another contrast."""
    known = a_pair(ndim)
    scan = getattr(known.pair, side)
    half, mask = scan.image.clone(), torch.ones_like(scan.image)
    part = (..., slice(scan.image.shape[2] // 2, None), *[slice(None)] * (ndim - 1))
    half[part], mask[part] = (1.2 - scan.image)[part], 0
    pair = replace(known.pair, **{side: replace(scan, image=half)})
    bare = relation(pair, known.truth, 1.0)
    masked = relation(
        replace(pair, **{side: replace(scan, image=half, mask=mask)}), known.truth, 1.0
    )
    assert bare.positive_local_correlation_fraction is not None
    assert bare.positive_local_correlation_fraction < 0.5
    assert masked.positive_local_correlation_fraction == pytest.approx(1, abs=1e-2)


def test_a_mask_shared_by_both_images_is_applied_in_the_space_of_each() -> None:
    known = a_pair(2)
    grid = plain_grid(2, 44)
    shift = Affine.from_matrix(homogeneous(torch.eye(2).double(), torch.tensor([20.0, 0]).double()))
    mask = torch.zeros(1, 1, *grid.shape)
    mask[..., :20, :] = 1
    scan = PreparedImage(known.pair.moving.image, grid, mask)
    apart = relation(Pair(scan, scan), shift, 1.0)  # 20 mm away: the masks do not overlap
    assert apart.positive_local_correlation_fraction is None


# -- the kind -------------------------------------------------------------------------------------


def stretched(ndim: int, *by: float) -> Affine:
    turn = rotation(ndim, (20, -30, 40))
    linear = turn @ torch.diag(torch.tensor(by).double()) @ turn
    return Affine.from_matrix(homogeneous(linear, torch.arange(ndim).double()))


def test_one_subjects_head_in_different_contrasts_is_rigid() -> None:
    selected = select_kind("nmi", stretched(3, 1.01, 0.99, 1), stretched(3, 1.2, 0.9, 1))
    assert selected.choice == "rigid"
    assert "one subject" in selected.reason
    assert selected.evidence["affine_scales"] == pytest.approx([1.01, 1, 0.99])


def test_heads_whose_tissues_differ_may_deform_whatever_their_size() -> None:
    found, head = stretched(3, 1.01, 0.99, 1), stretched(3, 1, 1, 1.9)
    two = Selection("two", "the tissues differ", {"tissue_correlation": 0.3})
    selected = select_kind("nmi", found, head, two)
    assert (selected.choice, selected.reason) == ("deformable", "the tissues differ")
    assert selected.evidence["tissue_correlation"] == 0.3
    one = replace(two, choice="one", reason="the tissues agree")
    selected = select_kind("nmi", found, head, one)
    assert selected.choice == "rigid"
    assert selected.reason == "the heads have the same size, and the tissues agree"
    blurred = stretched(3, 1, 1.045, 1)  # tissues are surer evidence than the size
    assert select_kind("nmi", blurred, head, one).choice == "rigid"
    assert select_kind("nmi", blurred, stretched(3, 1, 1, 1)).choice == "deformable"
    assert select_kind("nmi", stretched(3, 1, 1.07, 1), None, one).choice == "deformable"


@pytest.mark.parametrize("metric", ["lncc", "ncc", "mse"])
def test_the_same_contrast_may_deform(metric: str) -> None:
    selected = select_kind(metric, stretched(3, 1, 1, 1), stretched(3, 1, 1, 1))  # type: ignore[arg-type]
    assert selected.choice == "deformable"
    assert "same contrast" in selected.reason


@pytest.mark.parametrize(
    ("found", "head", "reason"),
    [
        (stretched(3, 1, 1, 1), None, "the network did not detect a head"),
        (stretched(2, 1, 1), None, "the network did not detect a head"),
        (stretched(3, 1, 1, 1), stretched(3, 1, 1, 1.6), "do not both show a head"),
        (stretched(3, 1, 1, 1), stretched(3, 0.6, 1, 1), "do not both show a head"),
        (stretched(3, 1, 1.07, 1), stretched(3, 1, 1, 1), r"differ in size \(by 7%\)"),
        (stretched(3, 0.9, 1, 1.05), stretched(3, 1, 1, 1), r"differ in size \(by 10%\)"),
        (
            dense_truth(plain_grid(3, 8)).then(stretched(3, 1, 1, 1)),
            None,
            "the initial transform is",
        ),
    ],
)
def test_other_pairs_of_different_contrasts_may_deform(
    found: Transform, head: Affine | None, reason: str
) -> None:
    selected = select_kind("nmi", found, head)
    assert selected.choice == "deformable"
    assert re.search(reason, selected.reason)


def test_the_contrast_is_in_doubt_where_intensities_are_hardly_linearly_related() -> None:
    evidence = {"positive_local_correlation_fraction": 0.85, "nonlinear_variance_fraction": 0.09}
    doubtful = SelectedMetric("lncc", "the contrast seems the same", evidence)
    assert may_differ(doubtful)
    for surer in (
        {**evidence, "nonlinear_variance_fraction": 0.03},
        {**evidence, "positive_local_correlation_fraction": 0.98},
    ):
        assert not may_differ(replace(doubtful, evidence=surer))
    assert not may_differ(replace(doubtful, deformable_metric="gradient"))
    assert not may_differ(replace(doubtful, choice="nmi"))
