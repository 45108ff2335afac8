"""Subjects: label maps of heads in a common space, or random shapes that need no data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from stn3d.arguments import tensor_arguments
from stn3d.errors import InputError
from stn3d.grid import Grid, apply_matrix, homogeneous
from stn3d.io import ImageSource, read_labels
from stn3d.preprocessing.prepared import bounding_box
from stn3d.synth.generator import SeededGenerator
from stn3d.transforms import Affine

FIRST_NON_BRAIN_ID = 500  # larger ids are outside the brain, as in SynthSeg's training maps
_MAX_LABELS = 255


@dataclass(frozen=True, eq=False)
class Subject:
    """A label map and its affine transform to the common head space.

    Args:
        codes: ``(*grid.shape)`` uint8; code c stands for the label ``ids[c]``, 0 is background.
        ids: ``(256,)`` int16 label ids, 0 for unused codes.
        grid: Grid of the map.
        canonical_from_world: World of the map to the common space, both in millimetres.
    """

    codes: Tensor
    ids: Tensor
    grid: Grid
    canonical_from_world: Affine

    @property
    def labels(self) -> Tensor:
        """``(*grid.shape)`` int16 label ids."""
        return self.ids[self.codes.long()]

    @property
    def index_from_canonical(self) -> Tensor:
        """``(d + 1, d + 1)`` indices of the map from canonical millimetres."""
        return self.grid.index_from_world @ torch.linalg.inv(self.canonical_from_world.matrix)

    @cached_property
    def voxel_counts(self) -> Tensor:
        """``(256,)`` number of voxels of each code, float64."""
        return torch.bincount(self.codes.flatten(), minlength=256).double()

    @cached_property
    def centroids_mm(self) -> Tensor:
        """``(256, d)`` world position of each code's centroid, float64; NaN for unused codes."""
        index = []
        for axis, n in enumerate(self.grid.shape):
            planes = self.codes.movedim(axis, 0).flatten(1)
            counts = torch.stack([torch.bincount(p, minlength=256) for p in planes]).double()
            index.append(
                (torch.arange(n).double()[:, None] * counts).sum(dim=0) / self.voxel_counts
            )
        return apply_matrix(self.grid.world_from_index, torch.stack(index, dim=-1))

    def to(self, device: torch.device | str) -> Subject:
        """The same subject with its label map on a device."""
        return replace(self, codes=self.codes.to(device), ids=self.ids.to(device))


@tensor_arguments()
def make_subject(labels: Tensor, grid: Grid) -> Subject:
    """A subject from a label map, cropped to its foreground.

    Its canonical space is its world, translated so that the centre of the foreground is 0.

    Args:
        labels: ``(*grid.shape)`` integers from 0 to 32767.
        grid: Grid of the map.

    Raises:
        InputError: The map is empty, has more than 255 labels, or labels out of range.
    """
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high > torch.iinfo(torch.int16).max:
        raise InputError(f"labels range from {low} to {high}; only 0 to 32767 is supported.")
    if high == 0:
        raise InputError("the label map is empty: every voxel is 0.")
    start, stop = bounding_box(labels > 0)
    part = labels[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))].long()
    ids = torch.bincount(part.flatten(), minlength=high + 1)[1:].nonzero()[:, 0] + 1
    if len(ids) > _MAX_LABELS:
        raise InputError(
            f"the label map has {len(ids)} labels; at most {_MAX_LABELS} are supported."
        )
    codes = torch.zeros(high + 1, dtype=torch.uint8)
    codes[ids] = torch.arange(1, len(ids) + 1, dtype=torch.uint8)
    table = torch.zeros(256, dtype=torch.int16)
    table[1 : len(ids) + 1] = ids.to(torch.int16)
    box = grid.cropped(start, stop)
    centred = torch.eye(grid.ndim + 1, dtype=torch.float64)
    centred[:-1, -1] = -box.centre_mm
    return Subject(codes[part], table, box, Affine.from_matrix(centred))


def read_subjects(sources: Sequence[ImageSource]) -> list[Subject]:
    """Read label maps as subjects, each in its own space; see `common_space`.

    Args:
        sources: Label maps in any form that `stn3d.io.read_labels` supports.

    Raises:
        InputError: There is no label map, or one is invalid.
    """
    if not sources:
        raise InputError("no label map is given; give at least one, or use random shapes.")
    images = (read_labels(source) for source in sources)
    return [make_subject(image.values[0, 0], image.grid) for image in images]


def common_space(subjects: Sequence[Subject], rounds: int = 10) -> list[Subject]:
    """Align subjects to a common space by generalised Procrustes analysis of label centroids.

    Gower 1975, doi:10.1007/BF02291478, with affine transforms. The mean of the linear parts from
    the common space to the subjects is the identity, so the space has the subjects' mean size and
    orientation. Its origin is the centroid of the labels in use: the brain labels (below 500)
    common to all subjects, or all common labels if there are too few of these.

    Args:
        subjects: Subjects in their own spaces.
        rounds: Iterations.

    Returns:
        The subjects with their affine transforms to the common space.

    Raises:
        InputError: Too few labels are common to all subjects.
    """
    d = subjects[0].grid.ndim
    shared = set.intersection(*({int(i) for i in s.ids if i > 0} for s in subjects))
    ids = [i for i in sorted(shared) if i < FIRST_NON_BRAIN_ID]
    ids = ids if len(ids) > d + 1 else sorted(shared)
    if len(ids) <= d + 1:
        raise InputError(
            f"the label maps share {len(ids)} labels; aligning them needs more than {d + 1}."
        )
    codes = [[s.ids.tolist().index(i) for i in ids] for s in subjects]
    points = torch.stack([s.centroids_mm[c] for s, c in zip(subjects, codes, strict=True)])
    counts = torch.stack([s.voxel_counts[c] for s, c in zip(subjects, codes, strict=True)]).mean(
        dim=0
    )
    weights = counts.sqrt()
    centres = (weights[:, None] * points).sum(dim=1) / weights.sum()
    reference = (points - centres[:, None]).mean(dim=0)
    for _ in range(rounds):
        affines = torch.stack([fit_affine(own, reference, weights) for own in points])
        back = torch.linalg.inv(affines)[:, :-1, :-1].mean(dim=0)
        reference = apply_matrix(affines, points).mean(dim=0)
        centre = (counts[:, None] * reference).sum(dim=0) / counts.sum()
        gauge = homogeneous(back, -back @ centre)
        affines, reference = gauge @ affines, apply_matrix(gauge, reference)
    return [
        replace(s, canonical_from_world=Affine.from_matrix(a))
        for s, a in zip(subjects, affines, strict=True)
    ]


def fit_affine(points: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Weighted least-squares affine ``(d + 1, d + 1)`` from points ``(N, d)`` to targets."""
    root = weights.sqrt()[:, None]
    extended = torch.cat([points, torch.ones_like(points[:, :1])], dim=1)
    solution = torch.linalg.lstsq(root * extended, root * targets).solution
    return homogeneous(solution[:-1].T, solution[-1])


def random_subject(
    rng: SeededGenerator,
    spatial_dims: int = 3,
    size_mm: float = 160.0,
    num_labels: int = 24,
    spacing_mm: float = 2.0,
) -> Subject:
    """A subject of random shapes.

    Each voxel gets the label whose smooth noise is largest (Hoffmann et al. 2022,
    doi:10.1109/TMI.2021.3116879), within an irregular ellipsoid. A dark shell (500) and a bright
    shell (501) around it resemble skull and skin.

    Args:
        rng: Random number generator.
        spatial_dims: 2 or 3.
        size_mm: Mean diameter of the ellipsoid within the shells.
        num_labels: Number of labels within the ellipsoid, with ids from 201 on.
        spacing_mm: Spacing of the label map.
    """
    n = round(1.6 * size_mm / spacing_mm)
    shape = (n,) * spatial_dims
    grid = Grid.of_spacing(shape, spacing_mm)
    largest, labels = torch.full(shape, -torch.inf), torch.zeros(shape, dtype=torch.int16)
    scale = rng.log_uniform(6, 14) / spacing_mm
    for label in range(num_labels):
        noise = rng.smooth_noise(1, shape, scale * (2 if label < num_labels // 4 else 1))[0, 0]
        labels = torch.where(noise > largest, 201 + label, labels)
        largest = torch.maximum(largest, noise)
    half = torch.tensor([size_mm / 2 * rng.uniform(0.8, 1.2) for _ in shape])
    from_centre = (grid.points_mm(dtype=torch.float32) - grid.centre_mm.float()) / half
    radius = torch.linalg.vector_norm(from_centre, dim=-1)
    radius = radius + 0.07 * rng.smooth_noise(1, shape, 20 / spacing_mm)[0, 0]
    skull, skin = 1 + rng.uniform(0.05, 0.12), 1 + rng.uniform(0.16, 0.28)
    labels = torch.where(radius > 1, FIRST_NON_BRAIN_ID, labels)
    labels = torch.where(radius > skull, FIRST_NON_BRAIN_ID + 1, labels)
    return make_subject(torch.where(radius > skin, 0, labels).to(torch.int16), grid)
