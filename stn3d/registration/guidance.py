"""What steers a registration beside the images: labels and landmarks, read and joined to a pair."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from stn3d.errors import InputError
from stn3d.evaluation import EvaluationCase
from stn3d.io import Image, Landmarks, read_landmarks
from stn3d.landmarks.checks import paired
from stn3d.losses.supervised import common_labels
from stn3d.metrics import Array
from stn3d.preprocessing.landmark_term import LandmarkTerm
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import ChannelGroup, PreparedImage
from stn3d.registration.settings import Settings

PointSource: TypeAlias = "str | os.PathLike[str] | Array"
"""A file of points, see `stn3d.io.read_points`, or ``(N, d)`` of them, world RAS+ millimetres."""

MOST_CHANNELS = 16
"""Of labels that steer: more of them share channels."""

_ALL = 1 << 30


def read_points_of(
    case: EvaluationCase, fixed: PointSource | None, moving: PointSource | None
) -> EvaluationCase:
    """The case with landmarks of both its images.

    Args:
        case: the pair.
        fixed: landmarks of the fixed image; None for none.
        moving: the same landmarks in the moving image.

    Raises:
        InputError: only one side's are given, they do not belong together, or they are of another
            dimension than the images.
    """
    if fixed is None and moving is None:
        return case
    if fixed is None or moving is None:
        given, other = ("fixed", "moving") if moving is None else ("moving", "fixed")
        raise InputError(f"only {given} points are given; give --{other}-points too, or neither.")
    pairs = _landmarks(fixed, moving)
    ndim = case.fixed.grid.ndim
    if pairs.fixed_mm.shape[1] != ndim:
        raise InputError(
            f"the landmarks are {pairs.fixed_mm.shape[1]}D and the images are {ndim}D; give "
            "landmarks of the images' dimension."
        )
    return dataclasses.replace(
        case, fixed_points_mm=pairs.fixed_mm, moving_points_mm=pairs.moving_mm
    )


def _landmarks(fixed: PointSource, moving: PointSource) -> Landmarks:
    paths = [source for source in (fixed, moving) if isinstance(source, str | os.PathLike)]
    if len(paths) == 2:
        return read_landmarks(*paths)
    if paths:
        raise InputError("give both sides' landmarks as files, or both as arrays.")
    return paired(fixed, moving)  # type: ignore[arg-type]


def steered(pair: Pair, case: EvaluationCase, settings: Settings) -> Pair:
    """A pair with what steers beside its images, as far as it is given and counts.

    Args:
        pair: the scans.
        case: its labels and landmarks.
        settings: their weights.

    Raises:
        InputError: labels shall steer and there are none, or the images share none.
    """
    if settings.label_weight:
        if case.fixed_labels is None or case.moving_labels is None:
            raise InputError(
                f"the label weight is {settings.label_weight:g} and there are no labels; give "
                "--fixed-labels and --moving-labels."
            )
        pair = _with_labels(pair, case.fixed_labels, case.moving_labels, settings.label_weight)
    if (
        case.fixed_points_mm is None
        or case.moving_points_mm is None
        or not settings.landmark_weight
    ):
        return pair
    points = case.fixed_points_mm.double(), case.moving_points_mm.double()
    return dataclasses.replace(pair, landmarks=LandmarkTerm(*points, settings.landmark_weight))


def _with_labels(pair: Pair, fixed: Image, moving: Image, weight: float) -> Pair:
    """The pair with the labels that both images have for a further layer."""
    ids = _shared(fixed, moving)
    if not ids:
        raise InputError(
            f"{fixed.name} and {moving.name} share no label above 0, so none can steer; leave "
            "--label-weight out, or give maps that use the same numbers."
        )

    def labelled(scan: PreparedImage, labels: Image) -> PreparedImage:
        shares = label_channels(labels.values, ids).to(scan.image)
        layers = scan.channel_groups or (ChannelGroup(1.0, scan.image.shape[1]),)
        layer = ChannelGroup(weight, shares.shape[1], labels=True)
        image = torch.cat([scan.image, shares], dim=1)
        return dataclasses.replace(scan, image=image, channel_groups=(*layers, layer))

    return Pair(labelled(pair.fixed, fixed), labelled(pair.moving, moving), pair.landmarks)


def label_channels(labels: Tensor, ids: Sequence[int]) -> Tensor:
    """Labels as channels: one each, as far as `MOST_CHANNELS` go; of more, every so many share one.

    Labels that share a channel count alike, whatever their sizes: a voxel of one is the inverse
    square root of its volume, in units of the channel's mean.

    Args:
        labels: ``(1, 1, *shape)`` whole numbers from 0 upward.
        ids: the labels that count.

    Returns:
        ``(1, C, *shape)`` float32, 0 where no label is.
    """
    counted, n = labels.long(), min(len(ids), MOST_CHANNELS)
    volumes = torch.bincount(counted.flatten(), minlength=max(ids) + 1).float()
    value, channel = torch.zeros(len(volumes)), torch.zeros(len(volumes), dtype=torch.long)
    for first in range(n):
        together = torch.tensor(ids[first::n])
        mean = volumes[together].mean()
        value[together] = (mean / volumes[together].clamp(min=1)).sqrt()
        channel[together] = first
    out = torch.zeros(1, n, *labels.shape[2:])
    return out.scatter_(1, channel[counted], value[counted])


def steering_channels(case: EvaluationCase, settings: Settings) -> int:
    """How many channels labels will add to either scan."""
    if not settings.label_weight or case.fixed_labels is None or case.moving_labels is None:
        return 0
    return min(MOST_CHANNELS, len(_shared(case.fixed_labels, case.moving_labels)))


def _shared(fixed: Image, moving: Image) -> tuple[int, ...]:
    return common_labels(fixed.values.long(), moving.values.long(), _ALL)
