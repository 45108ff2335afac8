"""What the synthetic datasets share: their subjects, working grid and simulated images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from torch import Tensor
from torch.utils.data import Dataset

from stn3d.errors import InputError
from stn3d.grid import apply_matrix, centred_grid
from stn3d.synth.acquisition import (
    AcquisitionSettings,
    LabelSampling,
    SimulatedImage,
    SkullStripping,
    simulate_image,
)
from stn3d.synth.appearance import Appearance, sample_appearance
from stn3d.synth.generator import SeededGenerator
from stn3d.synth.geometry import Lattice, RandomDeformation
from stn3d.synth.subjects import Subject

Sample = dict[str, Tensor]


class SampleSettings(Protocol):
    """Settings that every synthetic dataset has."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the working grid."""

    @property
    def spacing_mm(self) -> float:
        """Spacing of the working grid."""

    @property
    def acquisition(self) -> AcquisitionSettings:
        """Simulated acquisition."""

    @property
    def points_per_voxel(self) -> int:
        """Points whose intensities are averaged in each voxel: 1, 2 or 4."""

    @property
    def num_samples(self) -> int:
        """Length of the dataset."""


Settings = TypeVar("Settings", bound=SampleSettings)


class SyntheticDataset(Dataset[Sample], Generic[Settings]):
    """Common base of the synthetic datasets.

    Args:
        subjects: Label maps in a common space; samples are made on their device.
        settings: Settings of the samples.
        seed: Seed of all random numbers, together with the index.

    Raises:
        InputError: There is no subject, or a subject and the working grid differ in dimensions.
    """

    def __init__(self, subjects: Sequence[Subject], settings: Settings, seed: int = 0) -> None:
        if not subjects:
            raise InputError(
                "synthetic data need at least one subject; see `stn3d.synth.random_subject`."
            )
        d = len(settings.shape)
        if any(s.grid.ndim != d for s in subjects):
            raise InputError(f"the working grid is {d}D; all subjects must be {d}D too.")
        self.subjects, self.seed = list(subjects), seed
        self.settings: Settings = settings
        self.grid = centred_grid(settings.shape, settings.spacing_mm)
        self.nodes = Lattice(self.grid, 2, 0)
        self._num_ids = 1 + max(int(s.ids.max()) for s in subjects)

    def __len__(self) -> int:
        return self.settings.num_samples

    def generator_of(self, index: int) -> SeededGenerator:
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} is out of range: the dataset has {len(self)} samples.")
        return SeededGenerator(self.seed, index, device=self.subjects[0].codes.device)

    def appearance(self, rng: SeededGenerator) -> Appearance:
        a = self.settings.acquisition
        return sample_appearance(
            rng, self._num_ids, a.modality_probability, a.max_std, a.modalities
        )

    def simulate(
        self,
        rng: SeededGenerator,
        subject: Subject,
        points_mm: Tensor,
        appearance: Appearance,
        stripping: SkullStripping,
    ) -> SimulatedImage:
        """An image of a subject at canonical points ``(*nodes, d)``."""
        s = self.settings
        index = apply_matrix(subject.index_from_canonical, points_mm).movedim(-1, 0).contiguous()
        sampling = LabelSampling(subject, index, s.shape, s.spacing_mm, s.points_per_voxel)
        return simulate_image(rng, sampling, appearance, stripping, s.acquisition)


def sample_field(rng: SeededGenerator, deformation: RandomDeformation, knots: Lattice) -> Tensor:
    """``(1, d, *knots)`` random displacements in mm."""
    return knots.spacing_mm * deformation.sample(rng, knots.shape, knots.spacing_mm)


def vectors(field: Tensor) -> Tensor:
    """``(*shape, d)`` of ``(1, d, *shape)``."""
    return field[0].movedim(0, -1)
