"""From the files of `stn3d evaluate` to metrics."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from stn3d.errors import InputError
from stn3d.evaluation import evaluate
from stn3d.io import read_spec
from stn3d.registration.inputs import RegistrationImage, read_pair
from stn3d.transforms import Affine

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
        transform: fixed points to moving points, as in `stn3d.io.read_spec`. Default: identity.
        inverse: moving points to fixed points, likewise.
        truth: the known true transform, fixed points to moving points, likewise.
    """

    images: tuple[Path, Path]
    volumes: tuple[int | None, int | None] = (None, None)
    labels: Two = (None, None)
    points: Two = (None, None)
    mask: Path | None = None
    transform: str | None = None
    inverse: str | None = None
    truth: str | None = None


def evaluate_files(files: EvaluationFiles) -> dict[str, Any]:
    """All metrics that the files allow; see `stn3d.evaluation.evaluate`.

    Raises:
        InputError: a file cannot be read, or does not fit the others.
    """
    roles = zip(files.images, files.volumes, files.labels, files.points, strict=True)
    fixed, moving = (
        RegistrationImage(image, volume=volume, labels=labels, landmarks=points)
        for image, volume, labels, points in roles
    )
    paths = files.transform, files.inverse, files.truth
    images = files.images
    transform, inverse, truth = (
        None if spec is None else read_spec(spec, fixed=one, moving=other)
        for spec, (one, other) in zip(paths, (images, images[::-1], images), strict=True)
    )
    wanted = 3 if transform is None else transform.ndim
    fixed = dataclasses.replace(fixed, mask=files.mask)
    case = read_pair(fixed, moving, wanted).evaluation_case
    ndim = case.fixed.grid.ndim
    for path, found in zip(paths, (transform, inverse, truth), strict=True):
        if found is not None and found.ndim != ndim:
            raise InputError(
                f"the transform {path} is {found.ndim}D and the images are {ndim}D; "
                "give one of their dimension."
            )
    case = dataclasses.replace(case, true_transform=truth)
    return evaluate(case, transform or Affine.identity(ndim), inverse)
