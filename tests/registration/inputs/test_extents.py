"""Images of very different extents: probably an error of units."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

import stn3d
from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.io import read_image
from stn3d.registration.inputs import LoadedImage, Role, require_similar_extents


def side(role: Role, shape: Sequence[int], spacing_mm: float | Sequence[float]) -> LoadedImage:
    values = torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(0))
    return LoadedImage(role, read_image((values, Grid.of_spacing(shape, spacing_mm)), role))


@pytest.mark.parametrize(
    ("fixed_mm", "moving_mm", "words"),
    [
        (0.3, 3.0, ["moving", "about 10 times", "centimetres"]),
        (3.0, 0.3, ["fixed", "about 10 times", "centimetres"]),
        (25.0, 1.0, ["fixed", "about 25 times", "voxels of 25 um"]),
        (3.0, 3000.0, ["moving", "about 1000 times", "micrometres or metres", "30000 x 30000"]),
        (0.001, 100.0, ["moving", "about 100000 times", "micrometres"]),
    ],
)
def test_an_error_of_units_is_told_in_one_sentence(
    fixed_mm: float, moving_mm: float, words: list[str]
) -> None:
    images = side("fixed", (10, 10, 10), fixed_mm), side("moving", (10, 10, 10), moving_mm)
    with pytest.raises(InputError) as caught:
        require_similar_extents(*images)
    sentence = str(caught.value)
    for word in (*words, "--init header"):
        assert word in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("shape", "spacing_mm"),
    [
        ((10, 10, 10), 1.5),
        ((10, 10, 2), 1.0),  # a slab
        ((10, 10, 1), (1.0, 1.0, 0.001)),  # a thin slice
        ((2, 10, 1), (0.4, 1.0, 2.0)),  # part of a slice
        ((10, 10, 10), 1 / 7),  # a small part, or another animal
    ],
)
def test_slabs_slices_and_parts_are_accepted(
    shape: tuple[int, ...], spacing_mm: float | tuple[float, ...]
) -> None:
    def refused(fixed: LoadedImage, moving: LoadedImage) -> bool:
        try:
            require_similar_extents(fixed, moving)
        except InputError:
            return True
        return False

    assert not refused(side("fixed", (10, 10, 10), 1.0), side("moving", shape, spacing_mm))
    assert not refused(side("fixed", shape, spacing_mm), side("moving", (10, 10, 10), 1.0))
    scaled = torch.tensor(spacing_mm) * 1000  # the same in another unit
    assert refused(side("fixed", (10, 10, 10), 1.0), side("moving", shape, scaled.tolist()))


def test_registration_refuses_lost_units_unless_a_start_is_given() -> None:
    image = torch.rand(1, 1, 12, 12, 12, generator=torch.Generator().manual_seed(0))
    fixed, moving = (Grid.of_spacing((12,) * 3, s) for s in (1.0, 1000.0))
    pair = (image, fixed), (image, moving)
    with pytest.raises(InputError, match="another unit"):
        stn3d.register(*pair, kind="rigid")
    found = stn3d.register(*pair, kind="rigid", init="header")
    assert found.metrics["quality"]["status"] == "failed"
