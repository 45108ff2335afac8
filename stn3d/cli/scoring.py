"""From the files that `stn3d evaluate` is given to figures."""

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
class Scored:
    """What is scored, each as a file; of pairs the fixed image's comes first.

    Args:
        images: the pair.
        volumes: which volumes of 4D images.
        labels: label maps, both or none.
        points: landmarks, both or none.
        mask: where figures are taken.
        transform: fixed points to moving points; None is the identity.
        inverse: moving points to fixed points.
        truth: the known truth of the transform.
    """

    images: tuple[Path, Path]
    volumes: tuple[int | None, int | None] = (None, None)
    labels: Two = (None, None)
    points: Two = (None, None)
    mask: Path | None = None
    transform: Path | None = None
    inverse: Path | None = None
    truth: Path | None = None


def score(files: Scored) -> dict[str, Any]:
    """All figures that the files allow; see `stn3d.evaluation.evaluate`.

    Raises:
        InputError: a file is of no use, or does not fit the others.
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
    """Both sets of landmarks, ``(N, d)``, in pairs; or none."""
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
