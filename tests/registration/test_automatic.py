"""One contrast or two, told by synthetic anatomy through known maps of its brightness; and which
kind of transform follows."""

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
from stn3d.registration.automatic import choose_kind, choose_metric, relation
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
    """The pair with one image's brightness through a map."""
    pair = known.pair
    scan = getattr(pair, side)
    return replace(pair, **{side: replace(scan, image=colours(scan.image).clamp(0, 1.25))})


def nearly(known: Known, off_mm: float = 1.0) -> Transform:
    """The truth, a little aside."""
    d = known.anatomy.ndim
    aside = torch.full((d,), off_mm / math.sqrt(d), dtype=torch.float64)
    return known.truth.then(Affine.from_matrix(homogeneous(torch.eye(d).double(), aside)))


# -- the metric -----------------------------------------------------------------------------------


@pytest.mark.parametrize("ndim", DIMS)
@pytest.mark.parametrize("colours", ONE_CONTRAST.values(), ids=ONE_CONTRAST)
@pytest.mark.parametrize("side", ["fixed", "moving"])
def test_one_contrast_is_lncc(ndim: int, colours: Callable[[Tensor], Tensor], side: str) -> None:
    known = a_pair(ndim)
    for transform in (known.truth, nearly(known)):
        choice = choose_metric(recoloured(known, colours, side), transform, 1.0, NO_CT)
        assert choice.value == "lncc"
        assert "one contrast" in choice.reason
        assert 0.8 <= choice.figures["positive"] <= 1


@pytest.mark.parametrize("ndim", DIMS)
@pytest.mark.parametrize("colours", TWO_CONTRASTS.values(), ids=TWO_CONTRASTS)
@pytest.mark.parametrize("side", ["fixed", "moving"])
@pytest.mark.parametrize("seed", [0, 1])
def test_two_contrasts_are_nmi(
    ndim: int, colours: Callable[[Tensor], Tensor], side: str, seed: int
) -> None:
    known = a_pair(ndim, seed)
    for transform in (known.truth, nearly(known)):
        choice = choose_metric(recoloured(known, colours, side), transform, 1.0, NO_CT)
        assert choice.value == "nmi"
        assert "two contrasts" in choice.reason
        assert choice.figures["positive"] < 0.8
        json.dumps(choice.figures, allow_nan=False)


@pytest.mark.parametrize("ndim", DIMS)
def test_under_noise_less_need_be_told_where_the_local_correlation_is_mixed(ndim: int) -> None:
    known = a_pair(ndim)
    noise = (ndim - 1) * uniform(-1, 1, *known.pair.fixed.image.shape, seed=7)

    two_contrasts = TWO_CONTRASTS["fluid bright, tissue turned over"]
    pair = recoloured(known, lambda x: two_contrasts(x) + noise.to(x))
    two = choose_metric(pair, known.truth, 1.0, NO_CT)
    assert two.figures["positive"] < 0.4
    assert 0.08 < two.figures["curved"] < 0.12
    assert two.value == "nmi"
    one = recoloured(known, lambda x: x + noise.to(x) / 6)
    assert choose_metric(one, known.truth, 1.0, NO_CT).value == "lncc"


@pytest.mark.parametrize("ndim", DIMS)
def test_relation_runs_from_the_same_to_the_opposite(ndim: int) -> None:
    known = a_pair(ndim)
    same = relation(recoloured(known, lambda x: x), known.truth, 1.0)
    opposite = relation(recoloured(known, lambda x: 1.25 - x), known.truth, 1.0)
    assert same.positive == pytest.approx(1, abs=1e-3)
    assert opposite.positive == pytest.approx(-1, abs=1e-3)
    assert same.curved < 0.05  # a line tells all that there is
    assert relation(recoloured(known, torch.sqrt), known.truth, 1.0).curved > 0.5


@pytest.mark.parametrize("ndim", DIMS)
def test_a_dense_stage_of_two_contrasts_goes_by_edges_unless_of_ct(ndim: int) -> None:
    known = a_pair(ndim)
    pair = recoloured(known, TWO_CONTRASTS["the middle brightest"])
    choice = choose_metric(pair, known.truth, 1.0, NO_CT)
    assert (choice.value, choice.deformable_metric) == ("nmi", "gradient")
    assert "a dense stage, if any, goes by gradient" in choice.reason
    for ct in ((True, True), (True, False)):
        choice = choose_metric(pair, known.truth, 1.0, ct)
        assert (choice.value, choice.deformable_metric) == ("nmi", None)
        assert "dense stage" not in choice.reason


@pytest.mark.parametrize("ndim", DIMS)
def test_a_dense_stage_goes_by_edges_where_one_persons_tissues_changed(ndim: int) -> None:
    known = a_pair(ndim)
    pair = recoloured(known, torch.sqrt)
    choice = choose_metric(pair, known.truth, 1.0, NO_CT)
    assert (choice.value, choice.deformable_metric) == ("lncc", "gradient")
    assert "one person" in choice.reason
    same = choose_metric(known.pair, known.truth, 1.0, NO_CT)  # no tissue changed
    assert (same.value, same.deformable_metric) == ("lncc", None)
    assert choose_metric(pair, known.truth, 1.0, (True, True)).deformable_metric is None


@pytest.mark.parametrize("ndim", DIMS)
def test_what_fits_less_well_in_small_windows_is_not_taken_for_one_person(ndim: int) -> None:
    known = a_pair(ndim)
    noise = 0.25 * uniform(-1, 1, *known.pair.fixed.image.shape, seed=7)
    pair = recoloured(known, lambda x: (x.sqrt() + noise.to(x)).clamp(min=0))
    choice = choose_metric(pair, known.truth, 1.0, NO_CT)
    assert (choice.value, choice.deformable_metric) == ("lncc", None)
    assert choice.figures["explained"] < 0.66
    assert choice.figures["curved"] > 0.055


@pytest.mark.parametrize("ndim", DIMS)
def test_few_voxels_do_not_look_curved_by_chance(ndim: int) -> None:
    """Two images of one contrast with noise that have nothing but a line between them."""
    known = a_pair(ndim)
    few = torch.zeros_like(known.pair.fixed.image)
    few[(..., *[slice(12, 26 if ndim == 2 else 18)] * ndim)] = 1
    fixed = replace(known.pair.fixed, mask=few)
    curved = []
    for seed in range(20):
        noise = 0.2 * uniform(-1, 1, *few.shape, seed=seed).to(few)
        image = 0.5 + 0.5 * known.pair.fixed.image + noise
        pair = Pair(replace(fixed, image=image), known.pair.moving)
        curved.append(relation(pair, known.truth, 1.0).curved)
    assert sum(curved) / len(curved) < 0.04  # 32 bins of about 200 voxels would tell 0.15


@pytest.mark.parametrize("ct", [(True, False), (False, True)])
def test_ct_beside_anything_else_is_nmi_whatever_the_images_tell(ct: tuple[bool, bool]) -> None:
    known = a_pair(2)
    choice = choose_metric(known.pair, known.truth, 1.0, ct)
    assert choice.value == "nmi"
    assert f"the {'fixed' if ct[0] else 'moving'} image is CT" in choice.reason


def test_two_ct_are_asked_like_any_other_images() -> None:
    known = a_pair(2)
    assert choose_metric(known.pair, known.truth, 1.0, (True, True)).value == "lncc"


@pytest.mark.parametrize("ndim", DIMS)
def test_too_little_in_common_tells_of_no_second_contrast(ndim: int) -> None:
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
        choice = choose_metric(case, transform, 1.0, NO_CT)
        assert (choice.value, choice.reason) == ("lncc", "nothing tells of two contrasts")
        assert choice.figures == {
            "positive": None,
            "explained": None,
            "curved": pytest.approx(0, abs=1e-9),
        }


@pytest.mark.parametrize("ndim", DIMS)
@pytest.mark.parametrize("side", ["fixed", "moving"])
def test_what_a_mask_leaves_out_tells_nothing(ndim: int, side: str) -> None:
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
    assert bare.positive is not None
    assert bare.positive < 0.5
    assert masked.positive == pytest.approx(1, abs=1e-2)


def test_one_mask_for_both_images_is_read_in_each_ones_place() -> None:
    known = a_pair(2)
    grid = plain_grid(2, 44)
    shift = Affine.from_matrix(homogeneous(torch.eye(2).double(), torch.tensor([20.0, 0]).double()))
    mask = torch.zeros(1, 1, *grid.shape)
    mask[..., :20, :] = 1
    scan = PreparedImage(known.pair.moving.image, grid, mask)
    apart = relation(Pair(scan, scan), shift, 1.0)  # 20 mm on: the mask meets itself nowhere
    assert apart.positive is None


# -- the kind -------------------------------------------------------------------------------------


def stretched(ndim: int, *by: float) -> Affine:
    turn = rotation(ndim, (20, -30, 40))
    linear = turn @ torch.diag(torch.tensor(by).double()) @ turn
    return Affine.from_matrix(homogeneous(linear, torch.arange(ndim).double()))


def test_one_persons_head_in_two_contrasts_is_rigid() -> None:
    choice = choose_kind("nmi", stretched(3, 1.01, 0.99, 1), stretched(3, 1.2, 0.9, 1))
    assert choice.value == "rigid"
    assert "one person" in choice.reason
    assert choice.figures["stretches"] == pytest.approx([1.01, 1, 0.99])


@pytest.mark.parametrize("metric", ["lncc", "ncc", "mse"])
def test_one_contrast_may_bend(metric: str) -> None:
    choice = choose_kind(metric, stretched(3, 1, 1, 1), stretched(3, 1, 1, 1))  # type: ignore[arg-type]
    assert choice.value == "deformable"
    assert "one contrast" in choice.reason


@pytest.mark.parametrize(
    ("found", "head", "reason"),
    [
        (stretched(3, 1, 1, 1), None, "no network saw a head"),
        (stretched(2, 1, 1), None, "no network saw a head"),
        (stretched(3, 1, 1, 1), stretched(3, 1, 1, 1.6), "do not both show a head"),
        (stretched(3, 1, 1, 1), stretched(3, 0.6, 1, 1), "do not both show a head"),
        (stretched(3, 1, 1.07, 1), stretched(3, 1, 1, 1), r"differ in size \(by 7%\)"),
        (stretched(3, 0.9, 1, 1.05), stretched(3, 1, 1, 1), r"differ in size \(by 10%\)"),
        (dense_truth(plain_grid(3, 8)).then(stretched(3, 1, 1, 1)), None, "the start is"),
    ],
)
def test_other_pairs_of_two_contrasts_may_bend(
    found: Transform, head: Affine | None, reason: str
) -> None:
    choice = choose_kind("nmi", found, head)
    assert choice.value == "deformable"
    assert re.search(reason, choice.reason)
