"""From the files of `stn3d evaluate` to metrics."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from torch import Tensor

from stn3d.errors import InputError
from stn3d.evaluation import evaluate, read_case
from stn3d.io import read_landmarks, read_transform
from stn3d.transforms import Affine, Transform

Two: TypeAlias = "tuple[Path | None, Path | None]"


@dataclass(frozen=True)
class EvaluationFiles:
    """The input files of an evaluation; in each tuple, that of the fixed image comes first.

    Args:
        images: the pair of images.
        volumes: volume numbers, for 4D images.
        labels: label maps of both images or of neither.
        points: landmark files of both images or of neither.
        mask: mask of the fixed image in which metrics are computed.
        transform: fixed points to moving points. Default: identity.
        inverse: moving points to fixed points.
        truth: the known true transform, fixed points to moving points.
    """

    images: tuple[Path, Path]
    volumes: tuple[int | None, int | None] = (None, None)
    labels: Two = (None, None)
    points: Two = (None, None)
    mask: Path | None = None
    transform: Path | None = None
    inverse: Path | None = None
    truth: Path | None = None


def evaluate_files(files: EvaluationFiles) -> dict[str, Any]:
    """All metrics that the files allow; see `stn3d.evaluation.evaluate`.

    Raises:
        InputError: a file cannot be read, or does not fit the others.
    """
    case, _ = read_case(*files.images, (files.mask, None), files.labels, files.volumes)
    ndim = case.fixed.grid.ndim
    fixed_mm, moving_mm = _landmarks(files.points, ndim)
    case = dataclasses.replace(
        case,
        fixed_points_mm=fixed_mm,
        moving_points_mm=moving_mm,
        true_transform=_transform(files.truth, ndim),
    )
    transform = _transform(files.transform, ndim) or Affine.identity(ndim)
    return evaluate(case, transform, _transform(files.inverse, ndim))


def _transform(path: Path | None, ndim: int) -> Transform | None:
    if path is None:
        return None
    transform = read_transform(path)
    if transform.ndim != ndim:
        raise InputError(
            f"the transform {path} is {transform.ndim}D and the images are {ndim}D; "
            "give one of their dimension."
        )
    return transform


def _landmarks(paths: Two, ndim: int) -> tuple[Tensor | None, Tensor | None]:
    """Paired landmarks of both images, ``(N, d)`` each; None for both without files."""
    fixed, moving = paths
    if fixed is None and moving is None:
        return None, None
    if fixed is None or moving is None:
        given, other = ("moving", "fixed") if fixed is None else ("fixed", "moving")
        raise InputError(f"only {given} points are given; give --{other}-points too, or neither.")
    pairs = read_landmarks(fixed, moving)
    if pairs.fixed_mm.shape[1] != ndim:
        raise InputError(
            f"{fixed} holds {pairs.fixed_mm.shape[1]}D points and the images are {ndim}D; "
            "give points of their dimension."
        )
    return pairs.fixed_mm, pairs.moving_mm
