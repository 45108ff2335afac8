"""From the files that `stn3d evaluate` is given to figures."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from stn3d.errors import InputError
from stn3d.evaluation import evaluate
from stn3d.io import read_transform
from stn3d.registration.inputs import RegistrationImage, read_pair
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
    roles = zip(files.images, files.volumes, files.labels, files.points, strict=True)
    fixed, moving = (
        RegistrationImage(image, volume=volume, labels=labels, landmarks=points)
        for image, volume, labels, points in roles
    )
    case = read_pair(dataclasses.replace(fixed, mask=files.mask), moving).evaluation_case
    ndim = case.fixed.grid.ndim
    case = dataclasses.replace(case, true_transform=_transform(files.truth, ndim))
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
