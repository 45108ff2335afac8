"""Automatic selection: which metric fits two images, and which kind of registration.

In images of the same contrast, a region that is brighter in one is brighter in the other. The sign
of the correlation in small windows shows this even before the images are well aligned. In images of
different contrasts some tissues keep their order of brightness and others change it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from stn3d import kernels
from stn3d.choices import AUTOMATIC, MetricName
from stn3d.losses.similarity import METRICS
from stn3d.preprocessing.pair import Pair
from stn3d.reductions import voxel_mean, voxel_sum
from stn3d.transforms import Affine, Linear, Transform
from stn3d.warp import warp_image

# Limits of `Relation`.
_SAME_CONTRAST = 0.8  # positive_local_correlation_fraction from here on: the same contrast
_DIFFERENT_CONTRAST = 0.12  # nonlinear_variance_fraction from here on: different contrasts
_MIXED = 0.4  # positive_local_correlation_fraction below it: the next limit applies instead
_DIFFERENT_IF_MIXED = 0.08
_CHANGED_CONTRAST = (
    0.055  # nonlinear_variance_fraction from here on: changed, as by a contrast agent
)
_SURELY_SAME = 0.93  # positive_local_correlation_fraction from here on: no doubt
_SAME_SUBJECT = 0.66  # local_r2_mean from here on: one subject

# What `relation` compares.
_BACKGROUND = 0.05  # intensities, scaled to 0 to 1, up to this one are background
_FLAT = 1e-3  # fraction of the image's variance; windows that vary less are omitted
_MIN_WINDOWS = 50  # fewer windows are no evidence
_BINS = 32

# Limits of the scale factors of an affine transform.
_SAME_SIZE = 0.03  # deviation from 1 within one subject, due to noise and distortion
_ONE_SUBJECT = 0.06  # the same where tissues show one subject: blurred images hardly show the size
_PLAUSIBLE = 1.5  # largest factor between two subjects


@dataclass(frozen=True)
class Selection:
    """An automatic selection and the reason for it.

    Args:
        choice: What was selected.
        reason: Half a sentence that continues "since".
        evidence: The measurements behind it.
    """

    choice: str
    reason: str
    evidence: dict[str, Any]


@dataclass(frozen=True)
class SelectedMetric(Selection):
    """The selected metric.

    Args:
        choice: Metric of the linear stages.
        deformable_metric: Metric of the deformable stage; None for ``choice``. The joint histogram
            of whole images says less about a voxel than its edges do, and local correlation is
            misled by contrast agents and noise. Edges of MRI and CT do not correspond.
    """

    choice: MetricName
    deformable_metric: MetricName | None = None

    def used(self, deformable_metric: MetricName | None) -> SelectedMetric:
        """The selection with the metric that the deformable stage uses; None for ``choice``."""
        if deformable_metric in (None, self.choice):
            return replace(self, deformable_metric=None)
        reason = f"{self.reason}; the deformable stage uses metric '{deformable_metric}'"
        return replace(self, reason=reason, deformable_metric=deformable_metric)


@dataclass(frozen=True)
class Relation:
    """The relation between the intensities of two images.

    Args:
        positive_local_correlation_fraction: Sum of ``r |r|`` divided by the sum of ``r^2``, for the
            correlation r in small windows within both foregrounds: 1 if it is positive everywhere,
            -1 if it is negative everywhere; None if there are too few windows.
        local_r2_mean: Mean of ``r^2`` over these windows; None if there are too few.
        local_r_mean: Mean of ``r`` over these windows; None if there are too few.
        nonlinear_variance_fraction: Fraction of the variance left by the best line that a curve
            explains (the correlation ratio of Roche et al. 1998, doi:10.1007/BFb0056301, compared
            with Pearson's correlation), in the better one of the two directions.
    """

    positive_local_correlation_fraction: float | None
    local_r2_mean: float | None
    local_r_mean: float | None
    nonlinear_variance_fraction: float


def select_metric(
    pair: Pair, transform: Transform, spacing_mm: float, ct: tuple[bool, ...]
) -> SelectedMetric:
    """Select the metrics for the same or for different contrasts.

    The deformable stage compares edges for MRI of different contrasts, and for MRI that agree in
    every small window as scans of one subject do, but not through one line for the whole image.

    Args:
        pair: The prepared images.
        transform: Rough alignment, fixed points to moving points.
        spacing_mm: Spacing of the grid on which the images are compared.
        ct: Whether the fixed and the moving image are CT.
    """
    if ct[0] != ct[1]:
        role = "fixed" if ct[0] else "moving"
        reason = f"the {role} image is CT in HU and the other is not"
        return SelectedMetric(AUTOMATIC.different, reason, {"ct": list(ct)})
    if ct[0]:
        reason = "both images are CT in HU"
        return SelectedMetric(AUTOMATIC.same, reason, {"ct": list(ct)})
    found = relation(pair, transform, spacing_mm)
    evidence = dict(vars(found))
    positive = found.positive_local_correlation_fraction
    nonlinear = found.nonlinear_variance_fraction
    edges = AUTOMATIC.edges
    if positive is not None and positive >= _SAME_CONTRAST:
        reason = "the images have the same contrast: "
        reason += f"{positive:.0%} of the local correlation is positive"
        if nonlinear >= _CHANGED_CONTRAST and (found.local_r2_mean or 0) >= _SAME_SUBJECT:
            reason += ", but the intensities are not linearly related, e.g. contrast agent or noise"
            return SelectedMetric(AUTOMATIC.same, reason, evidence, edges)
        return SelectedMetric(AUTOMATIC.same, reason, evidence)
    mixed = positive is not None and positive < _MIXED
    if nonlinear >= (_DIFFERENT_IF_MIXED if mixed else _DIFFERENT_CONTRAST):
        reason = "the images have different contrasts: their intensity relationship is not "
        reason += "monotonic"
        return SelectedMetric(AUTOMATIC.different, reason, evidence, edges)
    return SelectedMetric(AUTOMATIC.same, "there is no evidence of different contrasts", evidence)


def shows_same_contrast(selected: SelectedMetric) -> bool:
    """Whether there is evidence of the same contrast: local correlation, or CT in HU."""
    if all(selected.evidence.get("ct", [False])):
        return True
    positive = selected.evidence.get("positive_local_correlation_fraction")
    return positive is not None and positive >= _SAME_CONTRAST


def surely_same_contrast(selected: SelectedMetric) -> bool:
    """Whether the local correlation leaves no doubt. Images that are misaligned by some millimetres
    look alike in most windows, where both show the outline of the body."""
    return (selected.evidence.get("positive_local_correlation_fraction") or 0.0) >= _SURELY_SAME


def may_differ(selected: SelectedMetric) -> bool:
    """Whether the metric for the same contrast was selected although the intensities are not
    linearly related, as those of T1-weighted and FLAIR images, where only grey and white matter
    change their order."""
    nonlinear = selected.evidence.get("nonlinear_variance_fraction", 0.0)
    positive = selected.evidence.get("positive_local_correlation_fraction")
    is_same = METRICS[selected.choice].contrast == "same" and selected.deformable_metric is None
    return is_same and nonlinear >= _CHANGED_CONTRAST and (positive or 0.0) < _SURELY_SAME


def different_contrasts(selected: SelectedMetric) -> SelectedMetric:
    """The metrics for a stripped and a whole image that do not show the same contrast.

    The deformable stage compares the structure around each voxel: edges and joint histograms match
    the edge of the content to a neighbouring one.

    Args:
        selected: The selection at a transform that aligns the images whatever their contrast.
    """
    structure = AUTOMATIC.structure
    positive = selected.evidence.get("positive_local_correlation_fraction")
    reason = "the images have different contrasts: " + (
        "one is CT in HU and the other is not"
        if positive is None
        else f"{max(positive, 0.0):.0%} of the local correlation within the content is positive"
    )
    return SelectedMetric(AUTOMATIC.different, reason, selected.evidence, structure)


def relation(pair: Pair, transform: Transform, spacing_mm: float) -> Relation:
    """Compare the intensities of two images in their first channel.

    Args:
        pair: The prepared images.
        transform: Rough alignment, fixed points to moving points.
        spacing_mm: Spacing of the grid on which they are compared.
    """
    fixed, moving = pair.fixed.at(spacing_mm), pair.moving.at(spacing_mm)
    a, ones = fixed.image[:, :1], torch.ones_like(moving.image[:, :1])
    b = warp_image(moving.image[:, :1], moving.grid, transform, fixed.grid)
    covered = warp_image(ones, moving.grid, transform, fixed.grid) > 0.999
    if fixed.mask is not None:
        covered = covered & (fixed.mask > 0.5)
    if moving.mask is not None:
        covered = covered & (warp_image(moving.mask, moving.grid, transform, fixed.grid) > 0.5)
    foreground = covered & ((a > _BACKGROUND) | (b > _BACKGROUND))
    values = a[foreground].double(), b[foreground].double()
    return Relation(*_local_correlation(a, b, foreground), _nonlinear_fraction(*values))


def _local_correlation(
    a: Tensor, b: Tensor, foreground: Tensor
) -> tuple[float | None, float | None, float | None]:
    """The first three measures of `Relation`, in windows of 3 voxels along each axis."""
    weight, radii = foreground.to(a), [1] * (a.ndim - 2)

    def mean(values: Tensor) -> Tensor:
        return kernels.box_sum(weight * values, radii) / count

    full = math.prod(min(n, 3) for n in a.shape[2:]) - 0.5
    inside = kernels.box_sum(weight, radii)
    count = inside.clamp(min=1)
    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    valid = (inside > full) & (var_a > _FLAT * _variance(a, foreground))
    valid &= var_b > _FLAT * _variance(b, foreground)
    if int(valid.sum()) < _MIN_WINDOWS:
        return None, None, None
    covariance = (mean(a * b) - mean_a * mean_b)[valid]
    r = covariance / (var_a[valid] * var_b[valid]).sqrt()
    squared = r * r
    positive = voxel_sum(r * r.abs()) / voxel_sum(squared).clamp(min=1e-12)
    return float(positive), float(voxel_mean(squared)), float(voxel_mean(r))


def _variance(image: Tensor, where: Tensor) -> float:
    """Variance where a mask is set; 0 where it is not set anywhere."""
    values = image[where]
    return float(voxel_mean((values - voxel_mean(values)) ** 2)) if len(values) else 0.0


def _nonlinear_fraction(a: Tensor, b: Tensor) -> float:
    """`Relation.nonlinear_variance_fraction` of two lists of intensities."""
    if len(a) < _MIN_WINDOWS:
        return 0.0
    p, q = a - voxel_mean(a), b - voxel_mean(b)
    norms = voxel_sum(p * p) * voxel_sum(q * q)
    line = float(voxel_sum(p * q) ** 2 / norms) if norms > 0 else 0.0
    curve = max(_correlation_ratio(a, b), _correlation_ratio(b, a))
    return max(0.0, (curve - line) / max(1 - line, 1e-6))


def _correlation_ratio(a: Tensor, b: Tensor) -> float:
    """Fraction of b's variance explained by its mean in each bin of a, adjusted for the number of
    bins."""
    bins = (a.clamp(0, 1) * _BINS).long().clamp(max=_BINS - 1)
    count, total, squares = (
        a.new_zeros(_BINS).index_add_(0, bins, x) for x in (torch.ones_like(b), b, b**2)
    )
    within = float((squares - total**2 / count.clamp(min=1)).sum())
    whole = float(voxel_sum((b - voxel_mean(b)) ** 2))
    free = len(b) - int((count > 0).sum())
    return 1 - within / free * (len(b) - 1) / whole if whole > 0 and free > 0 else 0.0


def select_kind(
    metric: MetricName,
    transform: Transform,
    head: Affine | None,
    subjects: Selection | None = None,
) -> Selection:
    """Select ``rigid`` for one subject's head in different contrasts, else ``deformable``.

    Args:
        metric: Metric of the linear stages.
        transform: Result of the linear stages.
        head: The network's estimate of the transform between two heads; None if it has none.
        subjects: Whether the heads are of ``one`` or of ``two`` subjects; None if it is not known.
    """
    contrast = METRICS[metric].contrast
    if contrast == "any":
        return Selection("deformable", f"metric {metric} does not depend on the contrast", {})
    if contrast == "same":
        return Selection("deformable", "the images have the same contrast", {})
    if not isinstance(transform, Linear):
        return Selection("deformable", "the initial transform is", {})
    scales = affine_scales(transform)
    evidence = {"affine_scales": scales}
    difference = max(abs(s - 1) for s in scales)
    if subjects is not None:
        evidence |= subjects.evidence
    if subjects is None and head is None:
        reason = "the network did not detect a head in both images"
    elif subjects is None and not _has_plausible_scales(head):
        reason = "the images do not both show a head"
    elif subjects is not None and subjects.choice == "two":
        reason = subjects.reason
    elif difference > (_SAME_SIZE if subjects is None else _ONE_SUBJECT):
        reason = f"the heads differ in size (by {difference:.0%})"
    else:
        reason = "heads of the same size in different contrasts are taken to be one subject's"
        if subjects is not None:
            reason = f"the heads have the same size, and {subjects.reason}"
        return Selection("rigid", reason, evidence)
    return Selection("deformable", reason, evidence)


def _has_plausible_scales(head: Affine | None) -> bool:
    """Whether a transform may be that between two heads."""
    return head is not None and all(1 / _PLAUSIBLE < s < _PLAUSIBLE for s in affine_scales(head))


def affine_scales(transform: Linear) -> list[float]:
    """Scale factors along the principal directions of the transform."""
    values: list[float] = torch.linalg.svdvals(transform.matrix[:-1, :-1]).tolist()
    return values
