"""Segmentation of a head in any orientation, also with a wrong header.

The affine network finds the upright frame of a head that is rotated by up to 90 degrees. Beyond
that the frame may be upside down or face backwards, and the segmentation network finds little of
the cerebellum, the brain stem and the hippocampus there. Then other orientations are tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from stn3d.grid import Grid
from stn3d.nets.segmentation_quality import SegmentationMeasures
from stn3d.nets.segmenter import Segmentation, segment, upright_frame
from stn3d.nets.weights import TrainedNetwork
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.transforms import Affine

# Rotations by 180 degrees about each axis, and by 120 degrees about a diagonal.
_HALF_TURNS = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]).double()
_THIRD_OF_TURN = torch.tensor([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]]).double()
_COARSER = 2.0  # spacing of the grid on which they are compared, relative to the network's


def segment_any_orientation(
    coordinates: TrainedNetwork, trained: TrainedNetwork, image: PreparedImage
) -> Segmentation:
    """Segment the head in an image of any orientation.

    Args:
        coordinates: As for `upright_frame`.
        trained: As for `segment`.
        image: Any orientation, spacing and field of view.
    """
    frame = upright_frame(coordinates, image)
    found = segment(trained, image, frame)
    for turns in _starts():
        if not SegmentationMeasures.of(found).may_show_a_turned_head:
            break
        frames = [_upright_from(coordinates, image, frame.then(turn)) for turn in turns]
        best = min(frames, key=lambda one: _coarse_doubt(trained, image, one))
        found = min(found, segment(trained, image, best), key=_doubt)
    return found


def _starts() -> Sequence[Sequence[Affine]]:
    """Rotations from which the upright frame is estimated again, the likelier ones first."""
    half = [torch.diag(signs) for signs in _HALF_TURNS]
    thirds = [turn @ one for one in half for turn in (_THIRD_OF_TURN, _THIRD_OF_TURN.T)]
    return [[_rotation(one) for one in some] for some in (half[1:], thirds)]


def _rotation(linear: torch.Tensor) -> Affine:
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :3] = linear
    return Affine.from_matrix(matrix)


def _coarse_doubt(trained: TrainedNetwork, image: PreparedImage, frame: Affine) -> float:
    preprocessing = trained.preprocessing
    spacing_mm = _COARSER * preprocessing["spacing_mm"]
    coarse = replace(trained, preprocessing={**preprocessing, "spacing_mm": spacing_mm})
    return _doubt(segment(coarse, image, frame))


def _doubt(segmentation: Segmentation) -> float:
    uncertainty = SegmentationMeasures.of(segmentation).uncertainty_mean
    return 1.0 if uncertainty is None else uncertainty


def _upright_from(coordinates: TrainedNetwork, image: PreparedImage, start: object) -> Affine:
    """The upright frame as the affine network finds it from another orientation."""
    assert isinstance(start, Affine)
    grid = Grid(image.grid.shape, start.matrix @ image.grid.world_from_index)
    frame = start.then(upright_frame(coordinates, PreparedImage(image.image, grid, image.mask)))
    assert isinstance(frame, Affine)
    return frame
