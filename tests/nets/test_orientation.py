"""Orientations of a real brain: the usual one costs nothing, a wrong header is corrected."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from stn3d.grid import Grid
from stn3d.nets import orientation
from stn3d.nets.orientation import segment_any_orientation
from stn3d.nets.segmentation_quality import SegmentationMeasures
from stn3d.nets.segmenter import segment, upright_frame
from stn3d.nets.weights import bundled_network
from stn3d.preprocessing.intensity import scaled
from stn3d.preprocessing.prepared import PreparedImage
from tests.helpers.brain import brain


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_a_wrong_header_is_corrected_and_a_right_one_costs_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The header puts the face backwards and the head upside down."""
    frames = []

    def counted(*arguments: object) -> object:
        frames.append(upright_frame(*arguments))  # type: ignore[arg-type]
        return frames[-1]

    monkeypatch.setattr(orientation, "upright_frame", counted)
    networks = bundled_network("affine"), bundled_network("segmentation")
    image, grid = brain(), brain().grid
    values = scaled(image.values)
    right = segment_any_orientation(*networks, PreparedImage(values, grid))
    assert len(frames) == 1
    assert SegmentationMeasures.of(right).has_plausible_anatomy
    upside_down = torch.diag(torch.tensor([1.0, -1, -1, 1])).double()
    wrong = PreparedImage(values, Grid(grid.shape, upside_down @ grid.world_from_index))
    found = segment_any_orientation(*networks, wrong)
    assert len(frames) > 2
    expected, labels = right.classes_on(grid), found.classes_on(wrong.grid)
    assert float((labels == expected)[expected > 3].float().mean()) > 0.9
    alone = segment(networks[1], wrong, frames[1])  # without the other frames
    assert not SegmentationMeasures.of(alone).has_plausible_anatomy
