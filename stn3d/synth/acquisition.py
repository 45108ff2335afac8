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
from stn3d.preprocessing.pair import bounds
from stn3d.synth.appearance import MODALITIES, Appearance, Modality
from stn3d.synth.generator import SeededGenerator
from stn3d.synth.lookup import look_up
from stn3d.synth.subjects import FIRST_NON_BRAIN_ID, Subject

OUTER_FLUID = 24  # the fluid around the brain in FreeSurfer's numbering


@dataclass(frozen=True)
class AcquisitionSettings:
    """How images of labels look; shares are of the images, the rest is drawn from 0 to the most.

    Args:
        modality_probability: like T1, T2, FLAIR, PD or CT rather than any brightness for any label.
        kinds: the real kinds to draw from, see `stn3d.synth.MODALITIES`.
        same_contrast_probability: of the pairs: both images of one kind.
        skull_strip_probability: of the samples: the brain alone is there.
        independent_strip_probability: of the pairs: whether it is, is drawn for each image on its own.
        no_csf_probability: of these: without the fluid around the brain.
        rough_mask_probability: of these: the brain's outline is wrong here and there.
        max_spread: the standard deviation of texture and noise within one label.
        max_blur_mm: the standard deviation of the blur.
        max_bias: of the logarithm of the bias field.
        max_noise: the standard deviation of the noise.
        max_gamma: the logarithm of the exponent.
        thick_slice_probability: thick slices along one axis, up to `max_slice_mm`.
        max_slice_mm: how thick.
        cropped_fov_probability: the field of view ends within the head.
        bright_background_probability: the background is not dark.
    """

    modality_probability: float = 0.5
    kinds: tuple[Modality, ...] = tuple(MODALITIES)
    same_contrast_probability: float = 0.35
    skull_strip_probability: float = 0.6
    independent_strip_probability: float = 0.1
    no_csf_probability: float = 0.4
    rough_mask_probability: float = 0.3
    max_spread: float = 0.06
    max_blur_mm: float = 1.5
    max_bias: float = 0.35
    max_noise: float = 0.06
    max_gamma: float = 0.4
    thick_slice_probability: float = 0.15
    max_slice_mm: float = 6.0
    cropped_fov_probability: float = 0.15
    bright_background_probability: float = 0.1


@dataclass(frozen=True, eq=False)
class SimulatedImage:
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
class LabelSampling:
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
class SkullStripping:
    """What brain extraction leaves: everything, or the brain, with or without outer fluid."""

    stripped: bool = False
    bare: bool = False

    @classmethod
    def draw(cls, rng: SeededGenerator, contrast: AcquisitionSettings) -> SkullStripping:
        """Drawn by the contrast's shares."""
        return cls(rng.chance(contrast.skull_strip_probability), rng.chance(contrast.no_csf_probability))

    def kept(self, num_ids: int) -> Tensor:
        """``(num_ids,)`` bool: which label ids stay."""
        ids = torch.arange(num_ids)
        kept = ids > 0
        if self.stripped:
            kept &= ids < FIRST_NON_BRAIN_ID
        if self.stripped and self.bare:
            kept &= ids != OUTER_FLUID
        return kept


def simulate_image(
    rng: SeededGenerator, view: LabelSampling, look: Appearance, stripping: SkullStripping, contrast: AcquisitionSettings
) -> SimulatedImage:
    """An image of what lies in view: the whole head is scanned, then the brain is taken out."""
    kept = stripping.kept(len(look.means)).to(rng.device)
    head = view.read(torch.arange(len(kept), dtype=torch.int16), average=False)
    labels = head * kept[head.int()]
    texture = look.spreads.to(rng.device)[head.int()] * rng.normals(*view.shape)
    image = (view.read(look.means) + texture).clamp(min=0)[None, None]
    image = _through_scanner(rng, image, view.spacing_mm, contrast)[0, 0]
    level = rng.uniform(0, 0.5) if rng.chance(contrast.bright_background_probability) else 0.0
    rough = rng.chance(contrast.rough_mask_probability)
    if stripping.stripped or level > 0:
        mask = _mask(rng, labels > 0, view.spacing_mm, rough)
        image = level + (image - level) * mask
    weight = torch.ones_like(image)
    if rng.chance(contrast.cropped_fov_probability):
        weight = _field_of_view(rng, labels > 0)
    image = scaled(image, None if bool(weight.all()) else weight > 0) * weight
    return SimulatedImage(image[None], (labels * weight.to(labels.dtype))[None], weight[None])


def _mask(rng: SeededGenerator, inside: Tensor, spacing_mm: float, rough: bool) -> Tensor:
    """``(*shape)`` from 0 to 1: what brain extraction leaves, with a soft edge.

    A rough one is too wide here and too narrow there.
    """
    sigma = max(0.6, (2.0 if rough else 0.0) / spacing_mm)
    soft = kernels.gaussian_smooth(inside.float()[None, None], [sigma] * inside.ndim)
    edge = 0.5
    if rough:
        noise = rng.smooth_noise(1, inside.shape, 12.0 / spacing_mm)
        soft = soft + (0.2 * noise).clamp(-0.35, 0.35)
    return (((soft - edge) * 3 * sigma) + 0.5).clamp(0, 1)[0, 0]


def _through_scanner(rng: SeededGenerator, image: Tensor, spacing_mm: float, contrast: AcquisitionSettings) -> Tensor:
    """Gamma, bias, blur, thick slices and noise; ``(1, 1, *shape)``."""
    shape = image.shape[2:]
    image = image ** math.exp(contrast.max_gamma * rng.uniform(-1, 1))
    bias = rng.smooth_noise(1, shape, rng.uniform(40, 80) / spacing_mm)
    image = image * (rng.uniform(0, contrast.max_bias) * bias).exp()
    blur = rng.uniform(0, contrast.max_blur_mm) / spacing_mm
    if blur > 0.3:
        image = kernels.gaussian_smooth(image, [blur] * len(shape))
    if rng.chance(contrast.thick_slice_probability):
        image = _thick_slices(rng, image, contrast.max_slice_mm / spacing_mm)
    noise = rng.uniform(0, contrast.max_noise)
    image = image + noise * rng.normals(*image.shape)
    if rng.chance(0.5):
        return image.abs()
    return torch.hypot(image, noise * rng.normals(*image.shape))


def _thick_slices(rng: SeededGenerator, image: Tensor, max_thick_vox: float) -> Tensor:
    """The image averaged over slices along one axis, and linear between their centres."""
    shape = list(image.shape)
    axis = 2 + rng.below(len(shape) - 2)
    thick = rng.uniform(1.2, max(1.2, max_thick_vox))
    few = max(2, round(shape[axis] / thick))
    rows = image.movedim(axis, -1).reshape(1, -1, shape[axis])
    rows = F.interpolate(
        F.adaptive_avg_pool1d(rows, few), size=shape[axis], mode="linear", align_corners=False
    )
    moved = [*shape[:axis], *shape[axis + 1 :], shape[axis]]
    return rows.reshape(moved).movedim(-1, axis).contiguous()


def _field_of_view(rng: SeededGenerator, inside: Tensor) -> Tensor:
    """``(*shape)`` 0 or 1: up to a third of what there is is cut away on one or two sides."""
    weight = torch.ones_like(inside, dtype=torch.float32)
    start, stop = bounds(inside)
    for _ in range(1 + rng.below(2)):
        axis = rng.below(inside.ndim)
        cut = round(rng.uniform(0.05, 0.33) * (stop[axis] - start[axis]))
        if rng.chance(0.5):
            weight.narrow(axis, 0, start[axis] + cut).zero_()
        else:
            weight.narrow(axis, stop[axis] - cut, inside.shape[axis] - stop[axis] + cut).zero_()
    return weight
