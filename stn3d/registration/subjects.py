"""Whether two heads are of one subject, by how their tissues agree in small windows.

The folds of the cortex differ between people, so after an affine alignment white and grey matter
agree in small windows only within one subject, whatever the contrast, and there better than some
millimetres away. Thick slices show less of the folds, so the other image is made as smooth first.

Noise, blur and thick slices lower the agreement of one subject's heads to that of two heads, or of
a head and a template, an average of many heads that is smooth everywhere. Such pairs are compared
with the mirrored head too: templates are almost symmetric, folds are not. Where an image is so
blurred that it shows no folds, as a template of PET, heads of one size are taken to be one
subject's.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stn3d.preprocessing import noise
from stn3d.preprocessing.frequencies import is_blurred
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.preprocessing.resolution import at_common_resolution
from stn3d.registration.automatic import Selection, affine_scales, relation
from stn3d.transforms import Linear, Transform, Translation

# `TissueAgreement.here_only` is 0.06 and more within one subject (0.00 with slices of 6 mm and much
# noise, -0.20 in an image smoothed by 9 mm), 0.01 and less between a subject and a template, and
# -0.15 and less between subjects. `TissueAgreement.sided_fraction` is 0.29 and more within one
# subject, 0.14 and less between others, 0.16 and less between templates. The sizes of two heads
# differ by up to 0.03 within one blurred subject and between templates of one space, one of them
# PET or SPECT, and by 0.045 and more between others (0.075 where one is blurred). See
# docs/experiments/clinical.md.
_ONE_SUBJECT = 0.035
_PERHAPS_ONE = -0.25
_SIDED = 0.22
_SAME_SIZE = 0.04
_DISPLACED_MM = 8.0  # about the distance of folds
_COMPARED_MM = 2.0
_LARGEST_MM = 2.6  # voxels above do not show the folds


@dataclass(frozen=True)
class TissueAgreement:
    """How the tissues of two heads agree in small windows.

    Args:
        correlation: Mean correlation r without the images' noise, -1 to 1.
        displaced_fraction: Mean ``r^2`` of tissues that are displaced, relative to that of tissues
            in their place. Noise, blur and contrast change both alike.
        mirrored_fraction: Mean ``r^2`` of the mirrored head and the other one, aligned, relative
            to that of the heads as they are; None if it was not compared.
    """

    correlation: float
    displaced_fraction: float
    mirrored_fraction: float | None = None

    @property
    def here_only(self) -> float:
        """How much of the agreement is lost elsewhere: 1 if all, below 0 if little."""
        return self.correlation - self.displaced_fraction

    @property
    def sided_fraction(self) -> float | None:
        """How much of the agreement that is lost elsewhere is lost in the mirrored head too, 0 if
        none: what heads have in common at any place counts in neither."""
        if self.mirrored_fraction is None or self.displaced_fraction >= 1:
            return None
        return (1 - self.mirrored_fraction) / (1 - self.displaced_fraction)

    @property
    def is_doubtful(self) -> bool:
        """Whether `here_only` does not distinguish one subject from a subject and a template."""
        return _PERHAPS_ONE <= self.here_only < _ONE_SUBJECT

    @property
    def is_one_subject(self) -> bool:
        """Whether the heads are one subject's."""
        if self.is_doubtful and self.sided_fraction is not None:
            return self.sided_fraction >= _SIDED
        return self.here_only >= _ONE_SUBJECT


@dataclass(frozen=True, eq=False)
class Heads:
    """Two heads and their tissues, aligned.

    Args:
        images: The images.
        tissues: ``(1, 3, *shape)`` probabilities of white matter, grey matter and fluid on the
            grids of the fixed and the moving image.
        aligned: Affine alignment, fixed points to moving points.
        mirrored: Makes the affine alignment of the fixed head mirrored about the plane ``x = 0``.
    """

    images: Pair
    tissues: tuple[Tensor, Tensor]
    aligned: Linear
    mirrored: Callable[[], Linear]

    @property
    def spacing_mm(self) -> float:
        """Spacing at which the tissues are compared."""
        return max(self.images.finest_mm, _COMPARED_MM)


def shows_folds(images: Pair) -> bool:
    """Whether the voxels of both images are small enough to show folds."""
    return images.finest_mm <= _LARGEST_MM


def select_subjects(heads: Heads) -> Selection:
    """Whether two heads are of ``one`` or of ``two`` subjects.

    Args:
        heads: The heads; CT does not show the tissues.
    """
    found = tissue_agreement(heads)
    evidence = {
        "tissue_correlation": found.correlation,
        "tissue_displaced_r2_fraction": found.displaced_fraction,
    }
    numbers = f"correlation {found.correlation:.2f}, {found.displaced_fraction:.0%} of r² remain "
    numbers += f"at a distance of {_DISPLACED_MM:g} mm"
    if found.mirrored_fraction is not None:
        evidence["tissue_mirrored_r2_fraction"] = found.mirrored_fraction
        numbers += f" and {found.mirrored_fraction:.0%} in the mirrored head"
    images = heads.images.fixed, heads.images.moving
    if not found.is_one_subject and any(map(is_blurred, images)):
        difference = max(abs(scale - 1) for scale in affine_scales(heads.aligned))
        if difference <= _SAME_SIZE:
            return Selection("one", "an image is too blurred to show folds", evidence)
    choice, whose = ("one", "one subject") if found.is_one_subject else ("two", "two subjects")
    reason = f"the tissues agree in small windows as those of {whose} do ({numbers})"
    return Selection(choice, reason, evidence)


def tissue_agreement(heads: Heads) -> TissueAgreement:
    """The agreement of the tissues at the resolution of both images.

    Args:
        heads: The heads.
    """
    tissues, aligned, spacing_mm = _tissue_images(heads), heads.aligned, heads.spacing_mm
    shown = _shown(tissues, aligned, spacing_mm)
    here = relation(shown, aligned, spacing_mm)
    r2 = here.local_r2_mean or 0.0
    shifts = _shifts(shown.fixed.grid.ndim)
    elsewhere = [_local_r2(shown, shift.then(aligned), spacing_mm) for shift in shifts]
    correlation = noise.without_noise(here.local_r_mean or 0.0, heads.images, spacing_mm)
    if r2 <= 0:
        return TissueAgreement(correlation, 1.0)
    found = TissueAgreement(correlation, sum(elsewhere) / len(elsewhere) / r2)
    if not found.is_doubtful:
        return found
    mirrored = heads.mirrored()
    both = _shown(Pair(tissues.fixed.mirrored(), tissues.moving), mirrored, spacing_mm)
    return replace(found, mirrored_fraction=_local_r2(both, mirrored, spacing_mm) / r2)


def _tissue_images(heads: Heads) -> Pair:
    """White and grey matter of both images on their grids, as bright in both."""
    from stn3d.nets.tissues import contrast_of

    images = heads.images.fixed, heads.images.moving
    fixed, moving = (
        PreparedImage(contrast_of(tissues), image.grid, image.mask)
        for image, tissues in zip(images, heads.tissues, strict=True)
    )
    return Pair(fixed, moving)


def _shown(tissues: Pair, aligned: Linear, spacing_mm: float) -> Pair:
    """Tissues at the resolution of both images."""
    return Pair(*at_common_resolution(tissues, aligned, spacing_mm))


def _local_r2(pair: Pair, transform: Transform, spacing_mm: float) -> float:
    return relation(pair, transform, spacing_mm).local_r2_mean or 0.0


def _shifts(ndim: int) -> Iterator[Translation]:
    """Translations along each world axis, in both directions."""
    for axis, sign in itertools.product(range(ndim), (-1, 1)):
        shift = torch.zeros(ndim)
        shift[axis] = sign * _DISPLACED_MM
        yield Translation(shift, torch.zeros(ndim))
