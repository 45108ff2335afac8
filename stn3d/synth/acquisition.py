"""Simulated image acquisition of a label map.

Texture, bias field, blur, thick slices, noise, skull stripping and field of view.
"""

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
from stn3d.synth.appearance import MODALITIES, TISSUES, Appearance, Modality
from stn3d.synth.generator import SeededGenerator
from stn3d.synth.lookup import look_up
from stn3d.synth.subjects import FIRST_NON_BRAIN_ID, Subject

CSF_ID = 24  # cerebrospinal fluid around the brain in FreeSurfer's numbering


@dataclass(frozen=True)
class AcquisitionSettings:
    """Ranges and probabilities of the simulated acquisition.

    Values with ``max`` have a uniform distribution from 0 (``max_gamma``: from its negative).

    Args:
        modality_probability: Probability of typical T1, T2, FLAIR, PD or CT intensities instead of
            random intensities.
        modalities: Modalities to choose from, see `stn3d.synth.MODALITIES`.
        same_contrast_probability: Probability that both images of a pair have the same contrast.
        skull_strip_probability: Probability of skull stripping.
        independent_strip_probability: Probability that skull stripping is drawn for each image of a
            pair independently.
        no_csf_probability: Probability that skull stripping also removes the outer fluid.
        rough_mask_probability: Probability of an inaccurate brain mask.
        max_std: Standard deviation of the texture within one label.
        max_blur_mm: Standard deviation of the blur.
        max_bias: Amplitude of the logarithmic bias field.
        max_noise: Standard deviation of the noise.
        max_gamma: Logarithm of the exponent of the intensities.
        thick_slice_probability: Probability of thick slices along one axis.
        max_slice_mm: Maximum slice thickness.
        cropped_fov_probability: Probability that the field of view ends within the head.
        bright_background_probability: Probability of a background intensity above 0.
        lesion_probability: Probability of lesions in the white matter, with a random intensity.
    """

    modality_probability: float = 0.5
    modalities: tuple[Modality, ...] = tuple(MODALITIES)
    same_contrast_probability: float = 0.35
    skull_strip_probability: float = 0.6
    independent_strip_probability: float = 0.1
    no_csf_probability: float = 0.4
    rough_mask_probability: float = 0.3
    max_std: float = 0.06
    max_blur_mm: float = 1.5
    max_bias: float = 0.35
    max_noise: float = 0.06
    max_gamma: float = 0.4
    thick_slice_probability: float = 0.15
    max_slice_mm: float = 6.0
    cropped_fov_probability: float = 0.15
    bright_background_probability: float = 0.1
    lesion_probability: float = 0.0


@dataclass(frozen=True, eq=False)
class SimulatedImage:
    """An image with its labels and field of view.

    Args:
        image: ``(1, *shape)`` float32.
        labels: ``(1, *shape)`` int16, visible labels only.
        weight: ``(1, *shape)`` float32, 0 outside the field of view.
    """

    image: Tensor
    labels: Tensor
    weight: Tensor


@dataclass(frozen=True, eq=False)
class LabelSampling:
    """A subject's label map at the voxels of a working grid.

    Args:
        subject: Subject with the label map.
        nodes: ``(d, *coarse)`` indices into the map at every second voxel, see `look_up`.
        shape: Shape of the working grid.
        spacing_mm: Spacing of the working grid.
        points_per_voxel: Points whose intensities are averaged in each voxel: 1, 2 or 4.
    """

    subject: Subject
    nodes: Tensor
    shape: tuple[int, ...]
    spacing_mm: float
    points_per_voxel: int

    def read(self, values: Tensor, average: bool = True) -> Tensor:
        """Values of the label ids at each voxel.

        Args:
            values: ``(n,)`` value of each label id.
            average: Average over the points in each voxel; False reads the centre only.

        Returns:
            ``(*shape)``.
        """
        table = values.to(self.subject.ids.device)[self.subject.ids.long()]
        offsets = _offsets(self.points_per_voxel if average else 1, len(self.shape))
        total = look_up(self.subject.codes, table, self.nodes, self.shape, offsets)
        return total / len(offsets) if len(offsets) > 1 else total


def _offsets(points: int, ndim: int) -> Sequence[Sequence[float]]:
    """Points in a voxel: the centre, two on a diagonal, or four that halve it along every axis."""
    if points == 1:
        return [(0.0,) * ndim]
    signs = [(1, 1, 1), (-1, -1, -1)] if points == 2 else []
    signs = signs or [(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)]
    return [tuple(0.25 * s for s in sign[:ndim]) for sign in signs]


@dataclass(frozen=True)
class SkullStripping:
    """Skull stripping: none, or the brain with or without the fluid around it.

    Args:
        enabled: Remove all labels outside the brain.
        remove_csf: Remove the fluid around the brain too.
    """

    enabled: bool = False
    remove_csf: bool = False

    @classmethod
    def sample(cls, rng: SeededGenerator, settings: AcquisitionSettings) -> SkullStripping:
        """Random skull stripping with the probabilities of the settings."""
        return cls(
            rng.bernoulli(settings.skull_strip_probability),
            rng.bernoulli(settings.no_csf_probability),
        )

    def kept(self, num_ids: int) -> Tensor:
        """``(num_ids,)`` bool: label ids that remain."""
        ids = torch.arange(num_ids)
        kept = ids > 0
        if self.enabled:
            kept &= ids < FIRST_NON_BRAIN_ID
        if self.enabled and self.remove_csf:
            kept &= ids != CSF_ID
        return kept


def simulate_image(
    rng: SeededGenerator,
    sampling: LabelSampling,
    appearance: Appearance,
    stripping: SkullStripping,
    settings: AcquisitionSettings,
) -> SimulatedImage:
    """A simulated image: acquisition of the whole head, then skull stripping and field of view.

    Args:
        rng: Random number generator.
        sampling: Label map at the voxels of the image.
        appearance: Intensities of the labels.
        stripping: Skull stripping.
        settings: Ranges and probabilities of the acquisition.
    """
    kept = stripping.kept(len(appearance.means)).to(rng.device)
    head = sampling.read(torch.arange(len(kept), dtype=torch.int16), average=False)
    labels = head * kept[head.int()]
    texture = appearance.stds.to(rng.device)[head.int()] * rng.normal_tensor(*sampling.shape)
    means = sampling.read(appearance.means)
    if rng.bernoulli(settings.lesion_probability):
        means = _with_lesions(rng, means, head, sampling.spacing_mm)
    image = (means + texture).clamp(min=0)[None, None]
    image = _acquire(rng, image, sampling.spacing_mm, settings)[0, 0]
    bright = rng.bernoulli(settings.bright_background_probability)
    background = rng.uniform(0, 0.5) if bright else 0.0
    rough = rng.bernoulli(settings.rough_mask_probability)
    if stripping.enabled or background > 0:
        mask = _soft_mask(rng, labels > 0, sampling.spacing_mm, rough)
        image = background + (image - background) * mask
    weight = torch.ones_like(image)
    if rng.bernoulli(settings.cropped_fov_probability):
        weight = _field_of_view(rng, labels > 0)
    image = scaled(image, None if bool(weight.all()) else weight > 0) * weight
    labels = labels * weight.to(labels.dtype)
    return SimulatedImage(image[None], labels[None], weight[None])


def _with_lesions(rng: SeededGenerator, means: Tensor, labels: Tensor, spacing_mm: float) -> Tensor:
    """``(*shape)`` intensities with soft spots of one other intensity in the white matter."""
    white = torch.zeros_like(means)
    for label in TISSUES["white matter"]:
        white += labels == label
    noise = rng.smooth_noise(1, means.shape, rng.log_uniform(2, 8) / spacing_mm)[0, 0]
    share = ((noise - rng.uniform(1.2, 2.2)) * 3).clamp(0, 1) * white
    return means + share * (rng.uniform(0, 1.2) - means)


def _soft_mask(rng: SeededGenerator, inside: Tensor, spacing_mm: float, rough: bool) -> Tensor:
    """``(*shape)`` foreground mask from 0 to 1 with a soft edge.

    A rough mask is too large in some places and too small in others.
    """
    sigma = max(0.6, (2.0 if rough else 0.0) / spacing_mm)
    soft = kernels.gaussian_smooth(inside.float()[None, None], [sigma] * inside.ndim)
    edge = 0.5
    if rough:
        noise = rng.smooth_noise(1, inside.shape, 12.0 / spacing_mm)
        soft = soft + (0.2 * noise).clamp(-0.35, 0.35)
    return (((soft - edge) * 3 * sigma) + 0.5).clamp(0, 1)[0, 0]


def _acquire(
    rng: SeededGenerator, image: Tensor, spacing_mm: float, settings: AcquisitionSettings
) -> Tensor:
    """Gamma, bias field, blur, thick slices and noise; ``(1, 1, *shape)``."""
    shape = image.shape[2:]
    image = image ** math.exp(settings.max_gamma * rng.uniform(-1, 1))
    bias = rng.smooth_noise(1, shape, rng.uniform(40, 80) / spacing_mm)
    image = image * (rng.uniform(0, settings.max_bias) * bias).exp()
    blur = rng.uniform(0, settings.max_blur_mm) / spacing_mm
    if blur > 0.3:
        image = kernels.gaussian_smooth(image, [blur] * len(shape))
    if rng.bernoulli(settings.thick_slice_probability):
        image = _thick_slices(rng, image, settings.max_slice_mm / spacing_mm)
    noise = rng.uniform(0, settings.max_noise)
    image = image + noise * rng.normal_tensor(*image.shape)
    if rng.bernoulli(0.5):
        return image.abs()
    return torch.hypot(image, noise * rng.normal_tensor(*image.shape))  # Rician


def _thick_slices(rng: SeededGenerator, image: Tensor, max_thickness_vox: float) -> Tensor:
    """The image averaged over slices along one axis and interpolated between slice centres."""
    shape = list(image.shape)
    axis = 2 + rng.integer(len(shape) - 2)
    thickness = rng.uniform(1.2, max(1.2, max_thickness_vox))
    slices = max(2, round(shape[axis] / thickness))
    rows = image.movedim(axis, -1).reshape(1, -1, shape[axis])
    rows = F.interpolate(
        F.adaptive_avg_pool1d(rows, slices), size=shape[axis], mode="linear", align_corners=False
    )
    last_axis = [*shape[:axis], *shape[axis + 1 :], shape[axis]]
    return rows.reshape(last_axis).movedim(-1, axis).contiguous()


def _field_of_view(rng: SeededGenerator, inside: Tensor) -> Tensor:
    """``(*shape)`` 0 or 1: cuts off up to a third of the foreground on one or two sides."""
    weight = torch.ones_like(inside, dtype=torch.float32)
    start, stop = bounding_box(inside)
    for _ in range(1 + rng.integer(2)):
        axis = rng.integer(inside.ndim)
        cut = round(rng.uniform(0.05, 0.33) * (stop[axis] - start[axis]))
        if rng.bernoulli(0.5):
            weight.narrow(axis, 0, start[axis] + cut).zero_()
        else:
            weight.narrow(axis, stop[axis] - cut, inside.shape[axis] - stop[axis] + cut).zero_()
    return weight
