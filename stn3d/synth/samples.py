"""Samples with known truth: single images with canonical coordinates, and pairs.

A sample is a function of the settings, the seed and its index, whatever came before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor
from torch.utils.data import Dataset

from stn3d import kernels
from stn3d.errors import InputError
from stn3d.grid import apply_matrix
from stn3d.losses.coordinates import COORDINATE_UNIT_MM
from stn3d.synth.appearance import Appearance, sample_appearance, jitter_appearance
from stn3d.synth.generator import SeededGenerator
from stn3d.synth.geometry import RandomDeformation, Lattice, RandomAffine, working_grid
from stn3d.synth.acquisition import AcquisitionSettings, SimulatedImage, SkullStripping, LabelSampling, simulate_image
from stn3d.synth.subjects import Subject

Sample = dict[str, Tensor]

_ANY_POSE = RandomAffine(
    rotation_deg=60,
    translation_mm=30,
    scale=1.3,
    stretch=0.08,
    shear=0.08,
    large_rotation_deg=75,
    large_rotation_probability=0.1,
)
_NEAR_POSE = RandomAffine(rotation_deg=15, translation_mm=8, scale=1.15, stretch=0.05, shear=0.04)
_JITTER = RandomAffine(rotation_deg=6, translation_mm=6, scale=1.06, stretch=0.02, shear=0.02)
_OTHER_ANATOMY = RandomDeformation(amplitude_mm=10, min_sigma_mm=16, max_sigma_mm=50)
_DIFFERENCE = RandomDeformation(amplitude_mm=12, min_sigma_mm=8, max_sigma_mm=40)
_USUAL = AcquisitionSettings()
_COARSE = AcquisitionSettings(
    max_blur_mm=3, max_slice_mm=8, thick_slice_probability=0.2, cropped_fov_probability=0.35, max_noise=0.05
)


@dataclass(frozen=True)
class CoordinateSettings:
    """What single images are like.

    Args:
        shape: voxels of the working grid.
        spacing_mm: of the working grid.
        pose: how the head lies in it.
        anatomy: how the head differs from the label map.
        contrast: how it looks.
        samples_per_voxel: points whose intensities are averaged: 1, 2 or 4.
        length: how many samples there are in a round.
    """

    shape: tuple[int, ...] = (64, 64, 64)
    spacing_mm: float = 4.0
    pose: RandomAffine = _ANY_POSE
    anatomy: RandomDeformation = _OTHER_ANATOMY
    contrast: AcquisitionSettings = _COARSE
    samples_per_voxel: int = 4
    length: int = 10_000


@dataclass(frozen=True)
class PairSettings:
    """What pairs of images are like.

    Args:
        shape: voxels of the working grid that both images are on.
        spacing_mm: of the working grid.
        pose: how the moving head lies in it.
        jitter: how the fixed head lies to the moving one, about the grid's centre.
        anatomy: how both heads differ from the label map.
        difference: how the fixed head is bent against the moving one.
        inter_subject_probability: of the pairs: the fixed head is another person's, and no truth is known. Of
            use only where people have the same labels: for random shapes give 0.
        contrast: how they look.
        background_weight: of the truth where nothing can be seen.
        samples_per_voxel: points whose intensities are averaged: 1, 2 or 4.
        length: how many samples there are in a round.
    """

    shape: tuple[int, ...] = (80, 96, 80)
    spacing_mm: float = 2.0
    pose: RandomAffine = _NEAR_POSE
    jitter: RandomAffine = _JITTER
    anatomy: RandomDeformation = _OTHER_ANATOMY
    difference: RandomDeformation = _DIFFERENCE
    inter_subject_probability: float = 0.3
    contrast: AcquisitionSettings = _USUAL
    background_weight: float = 0.1
    samples_per_voxel: int = 2
    length: int = 10_000


Settings = TypeVar("Settings", CoordinateSettings, PairSettings)


class _Samples(Dataset[Sample], Generic[Settings]):
    """What both kinds share.

    Args:
        subjects: label maps in one common space; their device is the samples'.
        settings: what the samples are like.
        seed: of all random numbers, together with the index.

    Raises:
        InputError: there is no subject, or one has not as many axes as the working grid.
    """

    def __init__(self, subjects: Sequence[Subject], settings: Settings, seed: int = 0) -> None:
        if not subjects:
            raise InputError("samples need at least one subject; see `stn3d.synth.random_subject`.")
        d = len(settings.shape)
        if any(s.grid.ndim != d for s in subjects):
            raise InputError(f"the working grid has {d} axes; give subjects with {d} axes too.")
        self.subjects, self.seed = list(subjects), seed
        self.settings: Settings = settings
        self.grid = working_grid(settings.shape, settings.spacing_mm)
        self.nodes = Lattice(self.grid, 2, 0)
        self._num_ids = 1 + max(int(s.ids.max()) for s in subjects)

    def __len__(self) -> int:
        return self.settings.length

    def _draws(self, index: int) -> SeededGenerator:
        if not 0 <= index < len(self):
            raise IndexError(f"there are {len(self)} samples; {index} is not one of them.")
        return SeededGenerator(self.seed, index, device=self.subjects[0].codes.device)

    def _look(self, rng: SeededGenerator) -> Appearance:
        c = self.settings.contrast
        return sample_appearance(rng, self._num_ids, c.modality_probability, c.max_spread, c.kinds)

    def _picture(
        self, rng: SeededGenerator, subject: Subject, points_mm: Tensor, look: Appearance, keep: SkullStripping
    ) -> SimulatedImage:
        """What lies at canonical points ``(*nodes, d)``, as an image."""
        s = self.settings
        index = apply_matrix(subject.canonical_index, points_mm).movedim(-1, 0).contiguous()
        view = LabelSampling(subject, index, s.shape, s.spacing_mm, s.samples_per_voxel)
        return simulate_image(rng, view, look, keep, s.contrast)


class SyntheticCoordinates(_Samples[CoordinateSettings]):
    """Single images, each with the canonical coordinates of its voxels."""

    def __init__(
        self, subjects: Sequence[Subject], settings: CoordinateSettings | None = None, seed: int = 0
    ) -> None:
        """See `CoordinateSettings`; subjects in one common space, and a seed."""
        super().__init__(subjects, settings or CoordinateSettings(), seed)

    def __getitem__(self, index: int) -> Sample:
        """``image``, ``coordinates`` in units of 100 mm, ``coordinates_weight``, ``labels``."""
        s, nodes = self.settings, self.nodes
        rng = self._draws(index)
        subject = self.subjects[rng.below(len(self.subjects))]
        canonical = torch.linalg.inv(s.pose.draw(rng, self.grid.ndim))
        knots = Lattice(self.grid, 2, 3)
        bend = knots.at(nodes, _bend(rng, s.anatomy, knots))
        here = nodes.points_mm().float().to(rng.device)
        points = apply_matrix(canonical, here + _vectors(bend))
        keep = SkullStripping.draw(rng, s.contrast)
        picture = self._picture(rng, subject, points, self._look(rng), keep)
        places = points.movedim(-1, 0)[None].contiguous() / COORDINATE_UNIT_MM
        return {
            "image": picture.image,
            "coordinates": kernels.resample(places, nodes.node_from_voxel, s.shape)[0],
            "coordinates_weight": (picture.labels > 0).float(),
            "labels": picture.labels,
        }


class SyntheticPairs(_Samples[PairSettings]):
    """Pairs of images on one grid, with the displacement between them where it is known."""

    def __init__(
        self, subjects: Sequence[Subject], settings: PairSettings | None = None, seed: int = 0
    ) -> None:
        """See `PairSettings`; subjects in one common space, and a seed."""
        super().__init__(subjects, settings or PairSettings(), seed)

    def __getitem__(self, index: int) -> Sample:
        """``fixed``, ``moving``, their labels and weights, ``displacement_vox``, ``truth_weight``.

        The displacement is fixed -> moving, in voxels of the grid. ``alike`` is 1 if both images
        are of one contrast, else 0.
        """
        s = self.settings
        rng = self._draws(index)
        moving, fixed, same = self._people(rng)
        moving_mm, fixed_mm, displacement_mm = self._places(rng)
        keep = SkullStripping.draw(rng, s.contrast)
        mixed = rng.chance(s.contrast.independent_strip_probability)
        keep_moving = SkullStripping.draw(rng, s.contrast) if mixed else keep
        look = self._look(rng)
        alike = rng.chance(s.contrast.same_contrast_probability)
        other = jitter_appearance(rng, look) if alike else self._look(rng)
        pictures = {
            "fixed": self._picture(rng, fixed, fixed_mm, look, keep),
            "moving": self._picture(rng, moving, moving_mm, other, keep_moving),
        }
        displacement = displacement_mm / s.spacing_mm
        truth = kernels.resample(displacement, self.nodes.node_from_voxel, s.shape)[0]
        known = torch.zeros_like(truth[:1])
        if same:
            visible = (pictures["fixed"].labels > 0).float()
            known = within(truth) * visible.clamp(min=s.background_weight)
        sample = {"displacement_vox": truth, "truth_weight": known}
        sample["same_contrast"] = torch.tensor([float(alike)])
        for role, picture in pictures.items():
            sample[role] = picture.image
            sample[f"{role}_labels"] = picture.labels
            sample[f"{role}_weight"] = picture.weight
        return sample

    def _people(self, rng: SeededGenerator) -> tuple[Subject, Subject, bool]:
        """The moving and the fixed subject, and whether they are one."""
        n = len(self.subjects)
        moving, step = rng.below(n), 1 + rng.below(max(1, n - 1))
        other = rng.chance(self.settings.inter_subject_probability) and n > 1
        fixed = (moving + step) % n if other else moving
        return self.subjects[moving], self.subjects[fixed], not other

    def _places(self, rng: SeededGenerator) -> tuple[Tensor, Tensor, Tensor]:
        """At the nodes: the moving and the fixed head's canonical coordinates ``(*nodes, d)``, and
        the displacement between them ``(1, d, *nodes)`` in mm.

        One anatomy a(y) serves both: the moving image shows ``Q a(y)`` and the fixed one
        ``Q a(x + u(x))``, so that u is the truth to within the lattice.
        """
        s, d, nodes = self.settings, self.grid.ndim, self.nodes
        knots = Lattice(self.grid, 4, 3)
        canonical = torch.linalg.inv(s.pose.draw(rng, d))
        jitter = s.jitter.draw(rng, d)
        anatomy = _bend(rng, s.anatomy, knots)
        difference = _bend(rng, s.difference, knots)
        here = nodes.points_mm().float().to(rng.device)
        there = apply_matrix(jitter, here + _vectors(knots.at(nodes, difference)))
        moving = here + _vectors(knots.at(nodes, anatomy))
        fixed = there + _vectors(knots.read(anatomy, there))
        displacement = (there - here).movedim(-1, 0)[None].contiguous()
        return apply_matrix(canonical, moving), apply_matrix(canonical, fixed), displacement


def within(displacement_vox: Tensor) -> Tensor:
    """``(1, *shape)`` 1 where ``x + u(x)`` is on the grid of ``(d, *shape)``, else 0."""
    shape = displacement_vox.shape[1:]
    inside = torch.ones(shape, dtype=torch.bool, device=displacement_vox.device)
    for axis, n in enumerate(shape):
        index = torch.arange(n, device=inside.device, dtype=torch.float32)
        at = displacement_vox[axis] + index.reshape(-1, *[1] * (len(shape) - 1 - axis))
        inside &= (at >= -0.5) & (at < n - 0.5)
    return inside.float()[None]


def _bend(rng: SeededGenerator, deformation: RandomDeformation, knots: Lattice) -> Tensor:
    """``(1, d, *knots)`` displacements in mm."""
    return knots.spacing_mm * deformation.draw(rng, knots.shape, knots.spacing_mm)


def _vectors(field: Tensor) -> Tensor:
    """``(*shape, d)`` of ``(1, d, *shape)``."""
    return field[0].movedim(0, -1)
