"""What a registration decides from the images: which metric fits them, and which kind.

Where two images show one contrast, what is brighter in one is brighter in the other wherever one
looks; the sign of the correlation in small windows tells that even before the images lie well on
each other. Of two contrasts some tissues keep their order and others change it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stn3d import kernels
from stn3d.choices import AUTOMATIC, MetricName
from stn3d.losses.similarity import METRICS
from stn3d.preprocessing.pair import Pair
from stn3d.transforms import Affine, Linear, Transform
from stn3d.warp import warp_image

_ALIKE = 0.8  # of the local correlation is positive: one contrast
_CURVED = 0.12  # of what a line leaves is told by a curve: two contrasts
_MIXED, _CURVED_IF_MIXED = 0.4, 0.08  # less of the local correlation is positive: so little is told
_BENT = 0.055  # of what a line leaves is told by a curve: one contrast, but changed
_ONE_PERSON = 0.66  # of the variance in small windows is told by a line: one person's scans
_DARK = 0.05  # of the range of intensities: less is background
_FLAT = 1e-3  # of the image's variance: a window that varies less tells nothing
_WINDOWS = 50  # fewer tell nothing of an image
_BINS = 32
_SAME_SIZE = 0.03  # stretches of one person's head, in any direction, by noise and optics
_PLAUSIBLE = 1.5  # stretches from one person to another, at most


@dataclass(frozen=True)
class Selection:
    """What was chosen, and why.

    Args:
        value: the choice.
        reason: half a sentence that goes after "since".
        figures: what it rests on.
    """

    value: str
    reason: str
    figures: dict[str, Any]


@dataclass(frozen=True)
class SelectedMetric(Selection):
    """Which metric was chosen.

    Args:
        value: of the linear stages.
        deformable_metric: metric of the deformable stage; None for ``value``. One
            histogram of the whole image tells less of each voxel than where the edges lie, and
            local correlation pulls at tissues that an agent made brighter, and at noise; but edges
            of MR and of CT are not the same.
    """

    value: MetricName
    deformable_metric: MetricName | None = None


@dataclass(frozen=True)
class Relation:
    """How the intensities of two images go together.

    Args:
        positive: the sum of ``r |r|`` over small windows within both foregrounds, as a share of
            that of ``r^2``, for the correlation r: 1 where brighter is brighter everywhere, -1
            where it is darker; None where too few windows tell.
        explained: the mean of ``r^2`` over these windows; None where too few tell.
        curved: of the variance that the best line leaves, the share that the best curve explains
            (the correlation ratio of Roche et al. 1998, doi:10.1007/BFb0056301, against Pearson's
            correlation), in the better direction of the two.
    """

    positive: float | None
    explained: float | None
    curved: float


def choose_metric(
    pair: Pair, transform: Transform, spacing_mm: float, ct: tuple[bool, ...]
) -> SelectedMetric:
    """``lncc`` for two images of one contrast, ``nmi`` for two contrasts.

    A dense stage of MR goes by ``gradient`` for two contrasts, and where two images of one contrast
    fit each other window by window as one person's do, while no one line tells all of it.

    Args:
        pair: the scans.
        transform: brings them roughly onto each other.
        spacing_mm: of the grid that they are compared on.
        ct: whether either image is known to be CT.
    """
    if ct[0] != ct[1]:
        one = "fixed" if ct[0] else "moving"
        told = f"the {one} image is CT in HU and the other is not"
        return SelectedMetric(AUTOMATIC.different, told, {"ct": list(ct)})
    found = relation(pair, transform, spacing_mm)
    figures = dataclasses.asdict(found)
    edges: MetricName | None = None if any(ct) else AUTOMATIC.edges
    then = f"; a dense stage, if any, goes by {edges}" if edges else ""
    if found.positive is not None and found.positive >= _ALIKE:
        told = f"the images show one contrast: {found.positive:.0%} of the local correlation is "
        told += "positive"
        if edges and found.curved >= _BENT and (found.explained or 0) >= _ONE_PERSON:
            told += ", but by no one line, as with an agent or noise in one person's scans" + then
            return SelectedMetric(AUTOMATIC.same, told, figures, edges)
        return SelectedMetric(AUTOMATIC.same, told, figures)
    mixed = found.positive is not None and found.positive < _MIXED
    if found.curved >= (_CURVED_IF_MIXED if mixed else _CURVED):
        told = "the images show two contrasts: what is brighter in one is not always brighter in "
        return SelectedMetric(AUTOMATIC.different, told + "the other" + then, figures, edges)
    return SelectedMetric(AUTOMATIC.same, "nothing tells of two contrasts", figures)


def relation(pair: Pair, transform: Transform, spacing_mm: float) -> Relation:
    """How the intensities go together where the transform lays the images on each other.

    Args:
        pair: the scans; of several channels the first tells.
        transform: fixed to moving points.
        spacing_mm: of the grid that they are compared on.
    """
    fixed, moving = pair.fixed.at(spacing_mm), pair.moving.at(spacing_mm)
    a, all_of_it = fixed.image[:, :1], torch.ones_like(moving.image[:, :1])
    b = warp_image(moving.image[:, :1], moving.grid, transform, fixed.grid)
    seen = warp_image(all_of_it, moving.grid, transform, fixed.grid) > 0.999
    if fixed.mask is not None:
        seen = seen & (fixed.mask > 0.5)
    if moving.mask is not None:
        seen = seen & (warp_image(moving.mask, moving.grid, transform, fixed.grid) > 0.5)
    bright = seen & ((a > _DARK) | (b > _DARK))
    return Relation(*_local(a, b, bright), _curved(a[bright].double(), b[bright].double()))


def _local(a: Tensor, b: Tensor, bright: Tensor) -> tuple[float | None, float | None]:
    """See `Relation.positive` and `Relation.explained`; windows of 3 voxels along each axis."""
    weight, radii = bright.to(a), [1] * (a.ndim - 2)

    def mean(values: Tensor) -> Tensor:
        return kernels.box_sum(weight * values, radii) / count

    full = 3 ** (a.ndim - 2) - 0.5
    held = kernels.box_sum(weight, radii)
    count = held.clamp(min=1)
    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    told = (held > full) & (var_a > _FLAT * _variance(a, bright))
    told &= var_b > _FLAT * _variance(b, bright)
    if int(told.sum()) < _WINDOWS:
        return None, None
    covariance = (mean(a * b) - mean_a * mean_b)[told]
    r = covariance / (var_a[told] * var_b[told]).sqrt()
    squared = r * r
    positive = (r * r.abs()).sum() / squared.sum().clamp(min=1e-12)
    return float(positive), float(squared.mean())


def _variance(image: Tensor, where: Tensor) -> float:
    return float(image[where].var(correction=0)) if bool(where.any()) else 0.0


def _curved(a: Tensor, b: Tensor) -> float:
    """See `Relation.curved`."""
    if len(a) < _WINDOWS:
        return 0.0
    line = float(torch.corrcoef(torch.stack([a, b]))[0, 1].nan_to_num() ** 2)
    curve = max(_correlation_ratio(a, b), _correlation_ratio(b, a))
    return max(0.0, (curve - line) / max(1 - line, 1e-6))


def _correlation_ratio(a: Tensor, b: Tensor) -> float:
    """The share of b's variance that its mean for each bin of a explains, beyond what as many bins
    would explain by chance."""
    bins = (a.clamp(0, 1) * _BINS).long().clamp(max=_BINS - 1)
    count, total, squares = (
        a.new_zeros(_BINS).index_add_(0, bins, x) for x in (torch.ones_like(b), b, b**2)
    )
    within = float((squares - total**2 / count.clamp(min=1)).sum())
    whole = float(((b - b.mean()) ** 2).sum())
    free = len(b) - int((count > 0).sum())
    return 1 - within / free * (len(b) - 1) / whole if whole > 0 and free > 0 else 0.0


def choose_kind(metric: MetricName, found: Transform, head: Affine | None) -> Selection:
    """``rigid`` for one person's head in two contrasts, else ``deformable``.

    Args:
        metric: what fits the images, see `choose_metric`.
        found: what the linear stages found.
        head: from head to head, as the network sees them; None where it sees none.
    """
    contrast = METRICS[metric].contrast
    if contrast == "any":
        return Selection("deformable", f"the metric {metric} fits one contrast and two alike", {})
    if contrast == "same":
        return Selection("deformable", "the images show one contrast", {})
    if not isinstance(found, Linear):
        return Selection("deformable", "the start is", {})
    stretches = _stretches(found)
    figures = {"stretches": stretches}
    if head is None:
        return Selection("deformable", "no network saw a head in both images", figures)
    if not all(1 / _PLAUSIBLE < s < _PLAUSIBLE for s in _stretches(head)):
        return Selection("deformable", "the images do not both show a head", figures)
    if max(abs(s - 1) for s in stretches) > _SAME_SIZE:
        told = f"the heads differ in size (by {max(abs(s - 1) for s in stretches):.0%})"
        return Selection("deformable", told, figures)
    return Selection(
        "rigid", "two contrasts of heads of one size are taken for one person's", figures
    )


def _stretches(transform: Linear) -> list[float]:
    """How much the transform stretches along its main directions."""
    values: list[float] = torch.linalg.svdvals(transform.matrix[:-1, :-1]).tolist()
    return values
