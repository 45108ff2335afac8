"""`stn3d.evaluate`: metrics of a transform on a pair."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import TypeAlias

from stn3d.errors import InputError
from stn3d.evaluation import Evaluation, EvaluationOptions, evaluate_case, measure_labels
from stn3d.io import ImageSource, read_labels, read_transform, require_same_grid
from stn3d.registration.inputs import PointSource, RegistrationImage, read_pair
from stn3d.transforms import Affine, Transform

TransformSource: TypeAlias = "Transform | str | os.PathLike[str]"


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
        >>> result = evaluate("fixed.nii.gz", "moving.nii.gz", "result/transform.h5",
        ...                   labels=("fixed_labels.nii.gz", "moving_labels.nii.gz"))  # doctest: +SKIP
        >>> result.dice, result.labels[17].hd95_mm  # doctest: +SKIP
    """
    sides = [RegistrationImage.of(fixed), RegistrationImage.of(moving)]
    for name, given in (("labels", labels), ("landmarks", landmarks)):
        if given is not None:
            sides = [
                dataclasses.replace(side, **{name: one})
                for side, one in zip(sides, given, strict=True)
            ]
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
    named = {
        "transform": data.transform,
        "inverse": data.inverse,
        "true transform": data.true_transform,
    }
    found = {name: None if one is None else _transform(one) for name, one in named.items()}
    wanted = 3 if found["transform"] is None else found["transform"].ndim
    case = read_pair(data.fixed, data.moving, wanted).evaluation_case
    ndim = case.fixed.grid.ndim
    for name, transform in found.items():
        if transform is not None and transform.ndim != ndim:
            shown = "" if isinstance(named[name], Transform) else f" {named[name]}"
            raise InputError(
                f"the transform{shown} is {transform.ndim}D and the images are {ndim}D; "
                "give one of their dimension."
            )
    case = dataclasses.replace(case, true_transform=found["true transform"])
    transform = found["transform"]
    return evaluate_case(
        case,
        Affine.identity(ndim) if transform is None else transform,
        found["inverse"],
        options=options,
    )


def _transform(source: TransformSource) -> Transform:
    return source if isinstance(source, Transform) else read_transform(source)


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
