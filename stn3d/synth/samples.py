"""Synthetic datasets with ground truth: image pairs, and images with canonical coordinates.

Every sample is a function of the settings, the seed and its index.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stn3d import kernels
from stn3d.grid import apply_matrix
from stn3d.losses.coordinates import COORDINATE_UNIT_MM
from stn3d.synth.acquisition import AcquisitionSettings, SkullStripping
from stn3d.synth.appearance import jitter_appearance
from stn3d.synth.dataset import Sample, SyntheticDataset, sample_field, vectors
from stn3d.synth.generator import SeededGenerator
from stn3d.synth.geometry import Lattice, RandomAffine, RandomDeformation
from stn3d.synth.subjects import Subject

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
_RELATIVE_POSE = RandomAffine(
    rotation_deg=6, translation_mm=6, scale=1.06, stretch=0.02, shear=0.02
)
_ANATOMY = RandomDeformation(amplitude_mm=10, min_sigma_mm=16, max_sigma_mm=50)
_PAIR_DEFORMATION = RandomDeformation(amplitude_mm=12, min_sigma_mm=8, max_sigma_mm=40)
_TYPICAL_ACQUISITION = AcquisitionSettings()
_COARSE_ACQUISITION = AcquisitionSettings(
    max_blur_mm=3,
    max_slice_mm=8,
    thick_slice_probability=0.2,
    cropped_fov_probability=0.35,
    max_noise=0.05,
)


@dataclass(frozen=True)
class CoordinateSettings:
    """Settings of `SyntheticCoordinates`.

    Args:
        shape: Shape of the working grid.
        spacing_mm: Spacing of the working grid.
        pose: Pose of the head in the working grid.
        anatomy: Deformation of the head against its label map.
        acquisition: Simulated acquisition.
        points_per_voxel: Points whose intensities are averaged in each voxel: 1, 2 or 4.
        num_samples: Length of the dataset.
    """

    shape: tuple[int, ...] = (64, 64, 64)
    spacing_mm: float = 4.0
    pose: RandomAffine = _ANY_POSE
    anatomy: RandomDeformation = _ANATOMY
    acquisition: AcquisitionSettings = _COARSE_ACQUISITION
    points_per_voxel: int = 4
    num_samples: int = 10_000


@dataclass(frozen=True)
class PairSettings:
    """Settings of `SyntheticPairs`.

    Args:
        shape: Shape of the working grid of both images.
        spacing_mm: Spacing of the working grid.
        pose: Pose of the moving head in the working grid.
        relative_pose: Pose of the fixed head relative to the moving head, about the grid's centre.
        anatomy: Deformation of both heads against their label map.
        deformation: Deformation between the fixed and the moving head.
        inter_subject_probability: Probability that the fixed head is another subject's; then the
            truth is unknown. Useful only if subjects share labels: 0 for random shapes.
        acquisition: Simulated acquisition.
        background_weight: Weight of the truth in the background.
        points_per_voxel: Points whose intensities are averaged in each voxel: 1, 2 or 4.
        num_samples: Length of the dataset.
    """

    shape: tuple[int, ...] = (80, 96, 80)
    spacing_mm: float = 2.0
    pose: RandomAffine = _NEAR_POSE
    relative_pose: RandomAffine = _RELATIVE_POSE
    anatomy: RandomDeformation = _ANATOMY
    deformation: RandomDeformation = _PAIR_DEFORMATION
    inter_subject_probability: float = 0.3
    acquisition: AcquisitionSettings = _TYPICAL_ACQUISITION
    background_weight: float = 0.1
    points_per_voxel: int = 2
    num_samples: int = 10_000


class SyntheticCoordinates(SyntheticDataset[CoordinateSettings]):
    """Synthetic images with the canonical coordinates of their voxels.

    Args:
        subjects: Label maps in a common space.
        settings: Settings of the samples.
        seed: Seed of all random numbers, together with the index.
    """

    def __init__(
        self, subjects: Sequence[Subject], settings: CoordinateSettings | None = None, seed: int = 0
    ) -> None:
        super().__init__(subjects, settings or CoordinateSettings(), seed)

    def __getitem__(self, index: int) -> Sample:
        """``image``, ``coordinates`` in units of 100 mm, ``coordinates_weight``, ``labels``."""
        s, nodes = self.settings, self.nodes
        rng = self.generator_of(index)
        subject = self.subjects[rng.integer(len(self.subjects))]
        canonical_from_grid = torch.linalg.inv(s.pose.sample(rng, self.grid.ndim))
        knots = Lattice(self.grid, 2, 3)
        anatomy = knots.resample_to(nodes, sample_field(rng, s.anatomy, knots))
        grid_points = nodes.points_mm().float().to(rng.device)
        points = apply_matrix(canonical_from_grid, grid_points + vectors(anatomy))
        stripping = SkullStripping.sample(rng, s.acquisition)
        simulated = self.simulate(rng, subject, points, self.appearance(rng), stripping)
        coordinates = points.movedim(-1, 0)[None].contiguous() / COORDINATE_UNIT_MM
        return {
            "image": simulated.image,
            "coordinates": kernels.resample(coordinates, nodes.node_from_voxel, s.shape)[0],
            "coordinates_weight": (simulated.labels > 0).float(),
            "labels": simulated.labels,
        }


class SyntheticPairs(SyntheticDataset[PairSettings]):
    """Synthetic image pairs on one grid, with the true displacement where it is known.

    Args:
        subjects: Label maps in a common space.
        settings: Settings of the samples.
        seed: Seed of all random numbers, together with the index.
    """

    def __init__(
        self, subjects: Sequence[Subject], settings: PairSettings | None = None, seed: int = 0
    ) -> None:
        super().__init__(subjects, settings or PairSettings(), seed)

    def __getitem__(self, index: int) -> Sample:
        """A pair.

        ``fixed``, ``moving``, their ``_labels`` and ``_weight``; ``displacement_vox``, fixed to
        moving, in voxels of the grid; ``truth_weight``; ``same_contrast``, 1 if both images have
        the same contrast, else 0.
        """
        s = self.settings
        rng = self.generator_of(index)
        moving, fixed, same_subject = self._choose_subjects(rng)
        moving_mm, fixed_mm, displacement_mm = self._sample_geometry(rng)
        stripping = {"fixed": SkullStripping.sample(rng, s.acquisition)}
        independent = rng.bernoulli(s.acquisition.independent_strip_probability)
        stripping["moving"] = (
            SkullStripping.sample(rng, s.acquisition) if independent else stripping["fixed"]
        )
        appearance = {"fixed": self.appearance(rng)}
        same_contrast = rng.bernoulli(s.acquisition.same_contrast_probability)
        appearance["moving"] = (
            jitter_appearance(rng, appearance["fixed"]) if same_contrast else self.appearance(rng)
        )
        content = {"fixed": (fixed, fixed_mm), "moving": (moving, moving_mm)}
        images = {
            role: self.simulate(rng, *content[role], appearance[role], stripping[role])
            for role in ("fixed", "moving")
        }
        displacement = displacement_mm / s.spacing_mm
        truth = kernels.resample(displacement, self.nodes.node_from_voxel, s.shape)[0]
        weight = torch.zeros_like(truth[:1])
        if same_subject:
            foreground = (images["fixed"].labels > 0).float()
            weight = inside_grid(truth) * foreground.clamp(min=s.background_weight)
        sample = {"displacement_vox": truth, "truth_weight": weight}
        sample["same_contrast"] = torch.tensor([float(same_contrast)])
        for role, simulated in images.items():
            sample[role] = simulated.image
            sample[f"{role}_labels"] = simulated.labels
            sample[f"{role}_weight"] = simulated.weight
        return sample

    def _choose_subjects(self, rng: SeededGenerator) -> tuple[Subject, Subject, bool]:
        """The moving and the fixed subject, and whether they are the same."""
        n = len(self.subjects)
        moving, step = rng.integer(n), 1 + rng.integer(max(1, n - 1))
        different = rng.bernoulli(self.settings.inter_subject_probability) and n > 1
        fixed = (moving + step) % n if different else moving
        return self.subjects[moving], self.subjects[fixed], not different

    def _sample_geometry(self, rng: SeededGenerator) -> tuple[Tensor, Tensor, Tensor]:
        """Canonical coordinates and displacement at the nodes.

        Both images show one anatomy a(y): the moving image ``Q a(y)``, the fixed image
        ``Q a(x + u(x))``, so that u is exact up to the interpolation of the lattice.

        Returns:
            Canonical coordinates ``(*nodes, d)`` of the moving and of the fixed head, and the
            displacement ``(1, d, *nodes)`` from fixed to moving, in mm.
        """
        s, d, nodes = self.settings, self.grid.ndim, self.nodes
        knots = Lattice(self.grid, 4, 3)
        canonical_from_grid = torch.linalg.inv(s.pose.sample(rng, d))
        relative_pose = s.relative_pose.sample(rng, d)
        anatomy = sample_field(rng, s.anatomy, knots)
        deformation = vectors(knots.resample_to(nodes, sample_field(rng, s.deformation, knots)))
        fixed_points = nodes.points_mm().float().to(rng.device)
        moving_points = apply_matrix(relative_pose, fixed_points + deformation)
        moving = fixed_points + vectors(knots.resample_to(nodes, anatomy))
        fixed = moving_points + vectors(knots.interpolate(anatomy, moving_points))
        displacement = (moving_points - fixed_points).movedim(-1, 0)[None].contiguous()
        return (
            apply_matrix(canonical_from_grid, moving),
            apply_matrix(canonical_from_grid, fixed),
            displacement,
        )


def inside_grid(displacement_vox: Tensor) -> Tensor:
    """``(1, *shape)`` 1 where ``x + u(x)`` is inside the grid of ``(d, *shape)``, else 0."""
    shape = displacement_vox.shape[1:]
    inside = torch.ones(shape, dtype=torch.bool, device=displacement_vox.device)
    for axis, n in enumerate(shape):
        index = torch.arange(n, device=inside.device, dtype=torch.float32)
        at = displacement_vox[axis] + index.reshape(-1, *[1] * (len(shape) - 1 - axis))
        inside &= (at >= -0.5) & (at < n - 0.5)
    return inside.float()[None]
