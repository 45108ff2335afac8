"""Subjects: label maps of whole heads in one common space, or random shapes that need no data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from stn3d.errors import InputError
from stn3d.grid import Grid, apply_matrix, homogeneous
from stn3d.io import ImageSource, read_labels
from stn3d.preprocessing.prepared import bounding_box
from stn3d.synth.draws import Draws
from stn3d.transforms import Affine

OUTSIDE = 500  # label ids from here on lie outside of the brain, as in SynthSeg's training maps


@dataclass(frozen=True, eq=False)
class Subject:
    """A label map and its place in the common head space.

    Args:
        codes: ``(*grid.shape)`` uint8; code c stands for the label ``ids[c]``, 0 is background.
        ids: ``(256,)`` int16 label ids, 0 where a code is not in use.
        grid: where the voxels lie.
        canonical: the map's world -> the common space, both in millimetres.
    """

    codes: Tensor
    ids: Tensor
    grid: Grid
    canonical: Affine

    @property
    def labels(self) -> Tensor:
        """``(*grid.shape)`` int16 label ids."""
        return self.ids[self.codes.long()]

    @property
    def canonical_index(self) -> Tensor:
        """``(d + 1, d + 1)`` the map's indices from canonical millimetres."""
        return self.grid.index_from_world @ torch.linalg.inv(self.canonical.matrix)

    @cached_property
    def sizes(self) -> Tensor:
        """``(256,)`` voxels of each code, float64."""
        return torch.bincount(self.codes.flatten(), minlength=256).double()

    @cached_property
    def centroids_mm(self) -> Tensor:
        """``(256, d)`` centre of each code in the map's world, float64; NaN where it has none."""
        index = []
        for axis, n in enumerate(self.grid.shape):
            planes = self.codes.movedim(axis, 0).flatten(1)
            counts = torch.stack([torch.bincount(p, minlength=256) for p in planes]).double()
            index.append((torch.arange(n).double()[:, None] * counts).sum(dim=0) / self.sizes)
        return apply_matrix(self.grid.world_from_index, torch.stack(index, dim=-1))

    def to(self, device: torch.device | str) -> Subject:
        """The same subject with its map on a device."""
        return replace(self, codes=self.codes.to(device), ids=self.ids.to(device))


def make_subject(labels: Tensor, grid: Grid) -> Subject:
    """A subject of a label map; its canonical space is its world, with the content's centre at 0.

    Args:
        labels: ``(*grid.shape)`` whole numbers from 0 to 32767; what is 0 all around is cut away.
        grid: where its voxels lie.

    Raises:
        InputError: the map is empty, has more than 255 labels, or labels that are out of range.
    """
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high > torch.iinfo(torch.int16).max:
        raise InputError(f"labels go from {low} to {high}; 0 to 32767 is what can be used.")
    if high == 0:
        raise InputError("the label map is empty (every voxel is 0); give another one.")
    start, stop = bounding_box(labels > 0)
    part = labels[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))].long()
    ids = torch.bincount(part.flatten(), minlength=high + 1)[1:].nonzero()[:, 0] + 1
    if len(ids) > 255:
        raise InputError(f"the label map has {len(ids)} labels; at most 255 can be used.")
    codes = torch.zeros(high + 1, dtype=torch.uint8)
    codes[ids] = torch.arange(1, len(ids) + 1, dtype=torch.uint8)
    table = torch.zeros(256, dtype=torch.int16)
    table[1 : len(ids) + 1] = ids.to(torch.int16)
    box = grid.cropped(start, stop)
    centred = torch.eye(grid.ndim + 1, dtype=torch.float64)
    centred[:-1, -1] = -box.centre_mm
    return Subject(codes[part], table, box, Affine.from_matrix(centred))


def read_subjects(sources: Sequence[ImageSource]) -> list[Subject]:
    """Label maps as subjects, each in its own space; see `common_space`.

    Args:
        sources: label maps, as `stn3d.io.read_labels` takes them.

    Raises:
        InputError: there is none, or one cannot be used.
    """
    if not sources:
        raise InputError("no label map was given; give at least one, or use random shapes.")
    images = (read_labels(source) for source in sources)
    return [make_subject(image.values[0, 0], image.grid) for image in images]


def common_space(subjects: Sequence[Subject], rounds: int = 10) -> list[Subject]:
    """Subjects with affines to one common space: generalised Procrustes over label centroids.

    Gower 1975, doi:10.1007/BF02291478, with affines. The mean of the maps from the common space to
    the subjects is no turn, scale or shear, so the space is as large as the subjects are on average
    and lies as they do. Its origin is the centre of the labels that are used: those below 500 that
    all subjects have, or all common ones if these are too few.

    Raises:
        InputError: too few labels are common to all subjects.
    """
    d = subjects[0].grid.ndim
    shared = set.intersection(*({int(i) for i in s.ids if i > 0} for s in subjects))
    ids = [i for i in sorted(shared) if i < OUTSIDE]
    ids = ids if len(ids) > d + 1 else sorted(shared)
    if len(ids) <= d + 1:
        raise InputError(
            f"the label maps share {len(ids)} labels; more than {d + 1} are needed to align them."
        )
    codes = [[s.ids.tolist().index(i) for i in ids] for s in subjects]
    points = torch.stack([s.centroids_mm[c] for s, c in zip(subjects, codes, strict=True)])
    sizes = torch.stack([s.sizes[c] for s, c in zip(subjects, codes, strict=True)]).mean(dim=0)
    weights = sizes.sqrt()
    centres = (weights[:, None] * points).sum(dim=1) / weights.sum()
    reference = (points - centres[:, None]).mean(dim=0)
    for _ in range(rounds):
        affines = torch.stack([affine_between(own, reference, weights) for own in points])
        back = torch.linalg.inv(affines)[:, :-1, :-1].mean(dim=0)
        reference = apply_matrix(affines, points).mean(dim=0)
        centre = (sizes[:, None] * reference).sum(dim=0) / sizes.sum()
        gauge = homogeneous(back, -back @ centre)
        affines, reference = gauge @ affines, apply_matrix(gauge, reference)
    return [
        replace(s, canonical=Affine.from_matrix(a)) for s, a in zip(subjects, affines, strict=True)
    ]


def affine_between(points: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """``(d + 1, d + 1)`` affine of least weighted squares from points ``(N, d)`` to targets."""
    root = weights.sqrt()[:, None]
    extended = torch.cat([points, torch.ones_like(points[:, :1])], dim=1)
    solution = torch.linalg.lstsq(root * extended, root * targets).solution
    return homogeneous(solution[:-1].T, solution[-1])


def random_subject(
    draws: Draws,
    spatial_dims: int = 3,
    size_mm: float = 160.0,
    num_labels: int = 24,
    spacing_mm: float = 2.0,
) -> Subject:
    """A subject of random shapes, without any data.

    Where smooth noise of several channels is largest tells the label (Hoffmann et al. 2022,
    doi:10.1109/TMI.2021.3116879), within a wavy ellipsoid; around it lie a dark shell (500) and a
    bright one (501), as skull and skin.

    Args:
        draws: where the random numbers come from.
        spatial_dims: 2 or 3.
        size_mm: the mean extent of the ellipsoid within the shells.
        num_labels: how many labels there are within it, with ids from 201 on, which have no tissue.
        spacing_mm: of the label map.
    """
    n = round(1.6 * size_mm / spacing_mm)
    shape = (n,) * spatial_dims
    grid = Grid.of_spacing(shape, spacing_mm)
    best, labels = torch.full(shape, -torch.inf), torch.zeros(shape, dtype=torch.int16)
    scale = draws.log_uniform(6, 14) / spacing_mm
    for label in range(num_labels):
        noise = draws.smooth_noise(1, shape, scale * (2 if label < num_labels // 4 else 1))[0, 0]
        labels = torch.where(noise > best, 201 + label, labels)
        best = torch.maximum(best, noise)
    half = torch.tensor([size_mm / 2 * draws.uniform(0.8, 1.2) for _ in shape])
    from_centre = (grid.points_mm(dtype=torch.float32) - grid.centre_mm.float()) / half
    radius = torch.linalg.vector_norm(from_centre, dim=-1)
    radius = radius + 0.07 * draws.smooth_noise(1, shape, 20 / spacing_mm)[0, 0]
    skull, skin = 1 + draws.uniform(0.05, 0.12), 1 + draws.uniform(0.16, 0.28)
    labels = torch.where(radius > 1, OUTSIDE, labels)
    labels = torch.where(radius > skull, OUTSIDE + 1, labels)
    return make_subject(torch.where(radius > skin, 0, labels).to(torch.int16), grid)
