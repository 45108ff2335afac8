"""`stn3d.evaluate`: metrics of a transform on a pair."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass

from stn3d.errors import InputError
from stn3d.evaluation import Evaluation, EvaluationOptions, evaluate_case, measure_labels
from stn3d.io import (
    ImageSource,
    TransformSource,
    as_transform,
    read_labels,
    require_same_grid,
)
from stn3d.registration.inputs import PointSource, RegistrationImage, read_pair
from stn3d.transforms import Affine


@dataclass(frozen=True, eq=False)
class PairData:
    """What is known of a pair: files or data in memory.

    Args:
        fixed: the fixed image, with its mask, labels and landmarks.
        moving: the moving image, with its labels and landmarks. May be omitted together with the
            fixed image if ``moved_labels`` is given.
        transform: fixed points to moving points. Default: identity.
        inverse: moving points to fixed points, to measure the inverse consistency.
        true_transform: the known true transform, fixed points to moving points.
        fixed_labels: label map of the fixed image, beside ``moved_labels``.
        moved_labels: moving label map on the fixed grid, warped already: labels alone are measured.
        moving_labels: moving label map before warping. Labels are then chosen by both maps, and a
            label that is lost counts.
    """

    fixed: RegistrationImage | ImageSource | None = None
    moving: RegistrationImage | ImageSource | None = None
    transform: TransformSource | None = None
    inverse: TransformSource | None = None
    true_transform: TransformSource | None = None
    fixed_labels: ImageSource | None = None
    moved_labels: ImageSource | None = None
    moving_labels: ImageSource | None = None


def evaluate(
    fixed: RegistrationImage | ImageSource,
    moving: RegistrationImage | ImageSource,
    transform: TransformSource | None = None,
    *,
    labels: tuple[ImageSource, ImageSource] | None = None,
    landmarks: tuple[PointSource, PointSource] | None = None,
    inverse: TransformSource | None = None,
    true_transform: TransformSource | None = None,
    options: EvaluationOptions | None = None,
) -> Evaluation:
    """Measure how well a transform aligns a pair of images.

    Args:
        fixed: the fixed image: a path, image or array, or a `RegistrationImage` with a mask, labels
            and landmarks.
        moving: the moving image, likewise.
        transform: fixed points to moving points, or its file. Default: identity.
        labels: label maps of the fixed and of the moving image, not warped.
        landmarks: the same landmarks in the fixed and in the moving image: files, or ``(N, d)``
            world RAS+ mm.
        inverse: moving points to fixed points, to measure the inverse consistency.
        true_transform: the known true transform, fixed points to moving points.
        options: labels, protocol, tolerance of the surface Dice.

    Returns:
        The metrics; ``to_dict()`` has the keys of docs/metrics-json.md.

    Raises:
        InputError: an input cannot be read, or does not fit the others.

    Examples:
        >>> labels = ("fixed_labels.nii.gz", "moving_labels.nii.gz")
        >>> result = evaluate("fixed.nii.gz", "moving.nii.gz", "result", labels=labels)
        ... # doctest: +SKIP
        >>> result.dice, result.labels[17].hd95_mm  # doctest: +SKIP
    """
    sides = [RegistrationImage.of(fixed), RegistrationImage.of(moving)]
    if labels is not None:
        both = zip(sides, labels, strict=True)
        sides = [dataclasses.replace(side, labels=one) for side, one in both]
    if landmarks is not None:
        points = zip(sides, landmarks, strict=True)
        sides = [dataclasses.replace(side, landmarks=one) for side, one in points]
    return evaluate_data(PairData(sides[0], sides[1], transform, inverse, true_transform), options)


def evaluate_data(data: PairData, options: EvaluationOptions | None = None) -> Evaluation:
    """All metrics that the data of a pair allow.

    Raises:
        InputError: an input cannot be read, or does not fit the others.
    """
    options = EvaluationOptions() if options is None else options
    if data.moved_labels is not None:
        return _evaluate_labels(data, options)
    if data.fixed is None or data.moving is None:
        raise InputError(
            "there are no images; give a fixed and a moving image, or fixed and moved labels."
        )
    sides = RegistrationImage.of(data.fixed), RegistrationImage.of(data.moving)
    sources = {
        "transform": data.transform,
        "inverse": data.inverse,
        "true transform": data.true_transform,
    }
    fixed, moving = (side.image for side in sides)
    found = {
        name: None if source is None else as_transform(source, fixed=ends[0], moving=ends[1])
        for (name, source), ends in zip(
            sources.items(), [(fixed, moving), (moving, fixed), (fixed, moving)], strict=True
        )
    }
    transform = found["transform"]
    case = read_pair(*sides, 3 if transform is None else transform.ndim).evaluation_case
    ndim = case.fixed.grid.ndim
    for name, one in found.items():
        if one is not None and one.ndim != ndim:
            source = sources[name]
            shown = f" {source}" if isinstance(source, str | os.PathLike) else ""
            raise InputError(
                f"the transform{shown} is {one.ndim}D and the images are {ndim}D; "
                "give one of their dimension."
            )
    case = dataclasses.replace(case, true_transform=found["true transform"])
    identity = Affine.identity(ndim)
    return evaluate_case(case, transform or identity, found["inverse"], options=options)


def _evaluate_labels(data: PairData, options: EvaluationOptions) -> Evaluation:
    """Metrics of labels that were warped already."""
    if data.fixed_labels is None or data.moved_labels is None:
        raise InputError("moved labels are given and no fixed labels; give --fixed-labels too.")
    if data.transform is not None:
        raise InputError(
            "moved labels and a transform are given; moved labels are warped already, so give one "
            "of the two."
        )
    fixed, moved = read_labels(data.fixed_labels), read_labels(data.moved_labels)
    require_same_grid(moved, fixed)
    moving = None if data.moving_labels is None else read_labels(data.moving_labels).values
    results = measure_labels(fixed.values, moved.values, moving, fixed.grid, options)
    return Evaluation(options, label_results=results)
