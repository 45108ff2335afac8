"""Pairs that stages must register, and the run of stages without progress."""

from __future__ import annotations

import torch

from stn3d.preprocessing.pair import Pair
from stn3d.registration.stages import ProgressEvent, Stage
from stn3d.transforms import Transform
from tests.helpers.synthetic import Known, known_pair, linear_truth, plain_grid


def silent(event: ProgressEvent) -> None:
    """No progress."""


def zeros(ndim: int) -> torch.Tensor:
    return torch.zeros(ndim, dtype=torch.float64)


def run(pair: Pair, start: Transform, *stages: Stage) -> Transform:
    for stage in stages:
        start = stage(pair, start, silent)
    return start


def linear_pair(ndim: int, kind: str, turn_deg: float = 12) -> Known:
    """A pair ten voxels apart, rotated and so on, with a margin around the body."""
    shift = torch.tensor([7.0, -6, 4.5]).double()[:ndim]
    truth = linear_truth(kind, zeros(ndim), shift, turn_deg)
    return known_pair(truth, plain_grid(ndim, 40), plain_grid(ndim, 48), shift + 1)
