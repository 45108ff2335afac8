"""Synthetic images with the structure of every voxel, for the training of a segmentation.

Every sample is a function of the settings, the seed and its index.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from stn3d.errors import InputError
from stn3d.grid import apply_matrix
from stn3d.structures import classes_of_ids
from stn3d.synth.acquisition import AcquisitionSettings, SkullStripping
from stn3d.synth.dataset import Sample, SyntheticDataset, sample_field, vectors
from stn3d.synth.geometry import Lattice, RandomAffine, RandomDeformation
from stn3d.synth.subjects import Subject

_POSE = RandomAffine(rotation_deg=20, translation_mm=25, scale=1.2, stretch=0.08, shear=0.05)
_ANATOMY = RandomDeformation(amplitude_mm=12, min_sigma_mm=10, max_sigma_mm=50)
_ACQUISITION = AcquisitionSettings(
    skull_strip_probability=0.45,
    thick_slice_probability=0.3,
    cropped_fov_probability=0.2,
    lesion_probability=0.15,
    max_blur_mm=2.0,
    max_noise=0.08,
)


@dataclass(frozen=True)
class SegmentationSettings:
    """Settings of `SyntheticSegmentations`.

    Args:
        shape: Shape of the working grid.
        spacing_mm: Spacing of the working grid.
        pose: Pose of the head in the working grid, whose centre is that of the brain.
        mirror_probability: Probability that left and right are exchanged.
        anatomy: Deformation of the head against its label map.
        acquisition: Simulated acquisition.
        points_per_voxel: Points whose intensities are averaged in each voxel: 1, 2 or 4.
        num_samples: Length of the dataset.
    """

    shape: tuple[int, ...] = (80, 96, 80)
    spacing_mm: float = 2.0
    pose: RandomAffine = _POSE
    mirror_probability: float = 0.5
    anatomy: RandomDeformation = _ANATOMY
    acquisition: AcquisitionSettings = _ACQUISITION
    points_per_voxel: int = 4
    num_samples: int = 10_000


class SyntheticSegmentations(SyntheticDataset[SegmentationSettings]):
    """Synthetic images with the class number of each voxel, see `stn3d.structures`.

    What a sample's image does not show, because of skull stripping or a small field of view, is
    background in its classes.

    Args:
        subjects: Label maps in a common space.
        settings: Settings of the samples.
        seed: Seed of all random numbers, together with the index.

    Raises:
        InputError: A label map holds no structure that `stn3d.structures` knows.
    """

    def __init__(
        self,
        subjects: Sequence[Subject],
        settings: SegmentationSettings | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(subjects, settings or SegmentationSettings(), seed)
        size = torch.iinfo(torch.int16).max + 1
        self._classes = [classes_of_ids(size, mirrored) for mirrored in (False, True)]
        if any(not bool(self._classes[0][s.ids.long()].any()) for s in subjects):
            raise InputError(
                "a label map holds none of the structures of the segmentation; its ids must be "
                "FreeSurfer's, such as 2 and 41 for the white matter. See `stn3d.structures`."
            )

    def __getitem__(self, index: int) -> Sample:
        """``image`` float32 and ``classes`` uint8, both ``(1, *shape)``."""
        s = self.settings
        rng = self.generator_of(index)
        subject = self.subjects[rng.integer(len(self.subjects))]
        canonical_from_grid = torch.linalg.inv(s.pose.sample(rng, self.grid.ndim))
        mirrored = rng.bernoulli(s.mirror_probability)
        if mirrored:
            canonical_from_grid[0] *= -1
        knots = Lattice(self.grid, 4, 3)
        anatomy = knots.resample_to(self.nodes, sample_field(rng, s.anatomy, knots))
        grid_points = self.nodes.points_mm().float().to(rng.device)
        points = apply_matrix(canonical_from_grid, grid_points + vectors(anatomy))
        stripping = SkullStripping.sample(rng, s.acquisition)
        simulated = self.simulate(rng, subject, points, self.appearance(rng), stripping)
        classes = self._classes[mirrored].to(rng.device)[simulated.labels.long()]
        return {"image": simulated.image, "classes": classes}
