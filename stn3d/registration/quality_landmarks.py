"""Errors at landmarks that were part of the objective, by cross-validation.

A deformation meets the landmarks it was given, also where the images say nothing about the places
between them. So the registration is repeated on coarse levels without a fifth of the landmarks at a
time, and the errors are those at the landmarks that were omitted.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from stn3d.choices import LinearKind, MetricName
from stn3d.preprocessing.landmark_term import LandmarkTerm
from stn3d.preprocessing.pair import Pair
from stn3d.registration.stages import DeformableStage, LinearStage, Stage
from stn3d.transforms import Linear, Transform

_FOLDS = 5
_LINEAR_ITERATIONS, _LINEAR_TOLERANCE = 25, 1e-4
_LEVELS = (4, 2, 1)  # of the deformation, in multiples of the finest level here
_ITERATIONS = (15, 15, 8)


def cross_validated_errors_mm(
    pair: Pair,
    spacing_mm: float,
    linear: Linear,
    kind: LinearKind,
    metric: MetricName,
    deformable: bool,
) -> Tensor | None:
    """The distance between transformed and moving landmarks, in registrations without them.

    Args:
        pair: The prepared images, with landmarks.
        spacing_mm: Spacing of the finest level.
        linear: The linear part of the result, fixed points to moving points.
        kind: Kind of the linear part.
        metric: Metric of the linear part.
        deformable: Whether the result has a deformation.

    Returns:
        ``(N,)`` distances in mm; None for fewer than two landmarks.
    """
    term, pair = pair.landmarks, pair.at(spacing_mm)
    assert term is not None
    count = len(term.fixed_mm)
    if count < 2:
        return None
    iterations, tolerance = _LINEAR_ITERATIONS, _LINEAR_TOLERANCE
    first = LinearStage(kind, metric, factors=(2,), iterations=iterations, tolerance=tolerance)
    stages: list[Stage] = [first]
    if deformable:
        stages.append(DeformableStage(metric, factors=_LEVELS, iterations=_ITERATIONS))
    errors_mm = torch.zeros(count, dtype=torch.float64)
    folds = min(_FOLDS, count)
    for fold in range(folds):
        omitted = torch.arange(count) % folds == fold
        found: Transform = linear
        for stage in stages:
            found = stage(replace(pair, landmarks=_part(term, ~omitted)), found, lambda *_: None)
        offsets_mm = found(term.fixed_mm[omitted]) - term.moving_mm[omitted]
        errors_mm[omitted] = torch.linalg.vector_norm(offsets_mm, dim=-1)
    return errors_mm


def _part(term: LandmarkTerm, kept: Tensor) -> LandmarkTerm:
    return replace(term, fixed_mm=term.fixed_mm[kept], moving_mm=term.moving_mm[kept])
