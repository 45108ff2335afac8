"""An image of labels: texture, bias, blur, thick slices, noise, brain extraction, field of view."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from stn3d import kernels
from stn3d.preprocessing.intensity import scaled
from stn3d.preprocessing.prepared import bounding_box
from stn3d.synth.contrast import KINDS, Appearance, Kind
from stn3d.synth.draws import Draws
from stn3d.synth.loops import look_up
from stn3d.synth.subjects import OUTSIDE, Subject

OUTER_FLUID = 24  # the fluid around the brain in FreeSurfer's numbering


@dataclass(frozen=True)
class Contrast:
    """How images of labels look; shares are of the images, the rest is drawn from 0 to the most.

    Args:
        real_share: like T1, T2, FLAIR, PD or CT rather than any brightness for any label.
        kinds: the real kinds to draw from, see `stn3d.synth.KINDS`.
        same_share: of the pairs: both images of one kind.
        stripped_share: of the samples: the brain alone is there.
        mixed_share: of the pairs: whether it is, is drawn for each image on its own.
        bare_share: of these: without the fluid around the brain.
        rough_share: of these: the brain's outline is wrong here and there.
        max_spread: the standard deviation of texture and noise within one label.
        max_blur_mm: the standard deviation of the blur.
        max_bias: of the logarithm of the bias field.
        max_noise: the standard deviation of the noise.
        max_gamma: the logarithm of the exponent.
        thick_share: thick slices along one axis, up to `max_slice_mm`.
        max_slice_mm: how thick.
        cropped_share: the field of view ends within the head.
        lit_share: the background is not dark.
    """

    real_share: float = 0.5
    kinds: tuple[Kind, ...] = tuple(KINDS)
    same_share: float = 0.35
    stripped_share: float = 0.6
    mixed_share: float = 0.1
    bare_share: float = 0.4
    rough_share: float = 0.3
    max_spread: float = 0.06
    max_blur_mm: float = 1.5
    max_bias: float = 0.35
    max_noise: float = 0.06
    max_gamma: float = 0.4
    thick_share: float = 0.15
    max_slice_mm: float = 6.0
    cropped_share: float = 0.15
    lit_share: float = 0.1


@dataclass(frozen=True, eq=False)
class Picture:
    """An image, what is in it, and where there is an image at all.

    Args:
        image: ``(1, *shape)`` float32.
        labels: ``(1, *shape)`` int16, of what can be seen.
        weight: ``(1, *shape)`` float32, 0 beyond the field of view.
    """

    image: Tensor
    labels: Tensor
    weight: Tensor


@dataclass(frozen=True, eq=False)
class View:
    """What lies at the voxels of a working grid.

    Args:
        subject: whose label map.
        nodes: ``(d, *coarse)`` the map's indices at every second voxel, see `look_up`.
        shape: of the working grid.
        spacing_mm: of the working grid.
        samples: points in each voxel whose intensities are averaged: 1, 2 or 4.
    """

    subject: Subject
    nodes: Tensor
    shape: tuple[int, ...]
    spacing_mm: float
    samples: int

    def read(self, values: Tensor, average: bool = True) -> Tensor:
        """``(*shape)`` of values ``(n,)`` that each label id has; the mean in each voxel."""
        table = values.to(self.subject.ids.device)[self.subject.ids.long()]
        offsets = _offsets(self.samples if average else 1, len(self.shape))
        total = look_up(self.subject.codes, table, self.nodes, self.shape, offsets)
        return total / len(offsets) if len(offsets) > 1 else total


def _offsets(samples: int, ndim: int) -> Sequence[Sequence[float]]:
    """Points in a voxel: its centre, two across, or four that halve it along every axis."""
    if samples == 1:
        return [(0.0,) * ndim]
    signs = [(1, 1, 1), (-1, -1, -1)] if samples == 2 else []
    signs = signs or [(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)]
    return [tuple(0.25 * s for s in sign[:ndim]) for sign in signs]


@dataclass(frozen=True)
class Stripping:
    """What brain extraction leaves: everything, or the brain, with or without outer fluid."""

    stripped: bool = False
    bare: bool = False

    @classmethod
    def draw(cls, draws: Draws, contrast: Contrast) -> Stripping:
        """Drawn by the contrast's shares."""
        return cls(draws.chance(contrast.stripped_share), draws.chance(contrast.bare_share))

    def kept(self, num_ids: int) -> Tensor:
        """``(num_ids,)`` bool: which label ids stay."""
        ids = torch.arange(num_ids)
        kept = ids > 0
        if self.stripped:
            kept &= ids < OUTSIDE
        if self.stripped and self.bare:
            kept &= ids != OUTER_FLUID
        return kept


def take_picture(
    draws: Draws, view: View, look: Appearance, stripping: Stripping, contrast: Contrast
) -> Picture:
    """An image of what lies in view: the whole head is scanned, then the brain is taken out."""
    kept = stripping.kept(len(look.means)).to(draws.device)
    head = view.read(torch.arange(len(kept), dtype=torch.int16), average=False)
    labels = head * kept[head.int()]
    texture = look.spreads.to(draws.device)[head.int()] * draws.normals(*view.shape)
    image = (view.read(look.means) + texture).clamp(min=0)[None, None]
    image = _through_scanner(draws, image, view.spacing_mm, contrast)[0, 0]
    level = draws.uniform(0, 0.5) if draws.chance(contrast.lit_share) else 0.0
    rough = draws.chance(contrast.rough_share)
    if stripping.stripped or level > 0:
        mask = _mask(draws, labels > 0, view.spacing_mm, rough)
        image = level + (image - level) * mask
    weight = torch.ones_like(image)
    if draws.chance(contrast.cropped_share):
        weight = _field_of_view(draws, labels > 0)
    image = scaled(image, None if bool(weight.all()) else weight > 0) * weight
    return Picture(image[None], (labels * weight.to(labels.dtype))[None], weight[None])


def _mask(draws: Draws, inside: Tensor, spacing_mm: float, rough: bool) -> Tensor:
    """``(*shape)`` from 0 to 1: what brain extraction leaves, with a soft edge.

    A rough one is too wide here and too narrow there.
    """
    sigma = max(0.6, (2.0 if rough else 0.0) / spacing_mm)
    soft = kernels.gaussian_smooth(inside.float()[None, None], [sigma] * inside.ndim)
    edge = 0.5
    if rough:
        noise = draws.smooth_noise(1, inside.shape, 12.0 / spacing_mm)
        soft = soft + (0.2 * noise).clamp(-0.35, 0.35)
    return (((soft - edge) * 3 * sigma) + 0.5).clamp(0, 1)[0, 0]


def _through_scanner(draws: Draws, image: Tensor, spacing_mm: float, contrast: Contrast) -> Tensor:
    """Gamma, bias, blur, thick slices and noise; ``(1, 1, *shape)``."""
    shape = image.shape[2:]
    image = image ** math.exp(contrast.max_gamma * draws.uniform(-1, 1))
    bias = draws.smooth_noise(1, shape, draws.uniform(40, 80) / spacing_mm)
    image = image * (draws.uniform(0, contrast.max_bias) * bias).exp()
    blur = draws.uniform(0, contrast.max_blur_mm) / spacing_mm
    if blur > 0.3:
        image = kernels.gaussian_smooth(image, [blur] * len(shape))
    if draws.chance(contrast.thick_share):
        image = _thick_slices(draws, image, contrast.max_slice_mm / spacing_mm)
    noise = draws.uniform(0, contrast.max_noise)
    image = image + noise * draws.normals(*image.shape)
    if draws.chance(0.5):
        return image.abs()
    return torch.hypot(image, noise * draws.normals(*image.shape))


def _thick_slices(draws: Draws, image: Tensor, max_thick_vox: float) -> Tensor:
    """The image averaged over slices along one axis, and linear between their centres."""
    shape = list(image.shape)
    axis = 2 + draws.below(len(shape) - 2)
    thick = draws.uniform(1.2, max(1.2, max_thick_vox))
    few = max(2, round(shape[axis] / thick))
    rows = image.movedim(axis, -1).reshape(1, -1, shape[axis])
    rows = F.interpolate(
        F.adaptive_avg_pool1d(rows, few), size=shape[axis], mode="linear", align_corners=False
    )
    moved = [*shape[:axis], *shape[axis + 1 :], shape[axis]]
    return rows.reshape(moved).movedim(-1, axis).contiguous()


def _field_of_view(draws: Draws, inside: Tensor) -> Tensor:
    """``(*shape)`` 0 or 1: up to a third of what there is is cut away on one or two sides."""
    weight = torch.ones_like(inside, dtype=torch.float32)
    start, stop = bounding_box(inside)
    for _ in range(1 + draws.below(2)):
        axis = draws.below(inside.ndim)
        cut = round(draws.uniform(0.05, 0.33) * (stop[axis] - start[axis]))
        if draws.chance(0.5):
            weight.narrow(axis, 0, start[axis] + cut).zero_()
        else:
            weight.narrow(axis, stop[axis] - cut, inside.shape[axis] - stop[axis] + cut).zero_()
    return weight
