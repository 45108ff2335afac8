"""A user's own pairs: from files to samples on one working grid."""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from monai.data import CacheDataset, Dataset, PersistentDataset
from monai.transforms import Transform as DictionaryTransform
from torch import Tensor

from stn3d.data.batches import Sample
from stn3d.data.datalist import ROLES, file_stem
from stn3d.errors import InputError
from stn3d.grid import Grid, apply_matrix
from stn3d.io import (
    Image,
    read_image,
    read_labels,
    read_mask,
    read_points,
    read_transform,
    require_same_grid,
)
from stn3d.nets.frame import on_grid, working_image
from stn3d.preprocessing.intensity import scaled
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.registration.initialisation.candidates import initial_candidates
from stn3d.registration.stages import LinearStage
from stn3d.transforms import Affine, Linear, Transform
from stn3d.warp import warp_labels

Start = Literal["header", "centres", "mass", "moments", "auto", "affine"]
Cache = Literal["memory", "disk", "none"]

# -- what is made of one --------------------------------------------------------------------------


@dataclass(frozen=True)
class LoadPair(DictionaryTransform):
    """A MONAI dictionary transform: the files of a pair -> a sample on one working grid.

    The grid is isotropic, along the world's axes, around what the fixed image shows; the moving
    image is seen on it through ``start``, so that a network learns what that leaves over.

    Args:
        shape: voxels of the working grid.
        spacing_mm: of the working grid.
        start: an initialisation method, or ``affine``: the affine transform that
            the optimiser finds. A pair's own ``initial`` comes before it.

    Raises:
        InputError: a file of the pair is of no use, or ``start`` is unknown.
    """

    shape: Sequence[int]
    spacing_mm: float
    start: Start = "affine"

    def __post_init__(self) -> None:
        if self.start not in get_args(Start):
            near = difflib.get_close_matches(str(self.start), get_args(Start), 1, 0)[0]
            raise InputError(f"start {self.start!r} is unknown; did you mean {near!r}?")

    def __call__(self, pair: Mapping[str, str]) -> Sample:
        images = {role: read_image(pair[role], role) for role in ROLES}
        scans = {role: _scan(images[role], pair.get(f"{role}_mask"), role) for role in ROLES}
        begin = self._begin(pair, scans["fixed"], scans["moving"])
        grid = working_grid(scans["fixed"], self.shape, self.spacing_mm)
        sample: Sample = {}
        for role, view in zip(ROLES, (Affine.identity(grid.ndim), begin), strict=True):
            image, weight = on_grid(scans[role], view, grid)
            sample[role], sample[f"{role}_weight"] = image[0], weight[0]
            if f"{role}_labels" in pair:
                labels = _labels(pair, role, images[role])
                seen = warp_labels(labels.values, labels.grid, view, grid)
                sample[f"{role}_labels"] = seen[0].short()
        sample |= _points(pair, begin, grid) | _truth(pair, begin, grid)
        sample["name"] = "_to_".join(file_stem(Path(pair[role])) or role for role in ROLES[::-1])
        sample["world_from_index"] = grid.world_from_index
        sample["moving_from_fixed"] = begin.matrix
        return sample

    def _begin(
        self, pair: Mapping[str, str], fixed: PreparedImage, moving: PreparedImage
    ) -> Linear:
        """Fixed points to moving points, as far as is known before a network looks."""
        if "initial" in pair:
            return _linear(pair["initial"])
        scans = Pair(fixed.at(self.spacing_mm), moving.at(self.spacing_mm))
        method: Any = "auto" if self.start == "affine" else self.start
        begin = initial_candidates(scans, method)[0].transform
        if self.start == "affine":
            begin = LinearStage("rigid", factors=(4,))(scans, begin, _silent)
            begin = LinearStage("affine", factors=(4, 2, 1))(scans, begin, _silent)
        assert isinstance(begin, Linear)
        return begin


def _silent(*_: Any) -> None:
    """No progress is told."""


def working_grid(fixed: PreparedImage, shape: Sequence[int], spacing_mm: float) -> Grid:
    """The upright isotropic grid of a shape whose centre is that of what a scan shows."""
    around = working_image(fixed, spacing_mm, 0.0).grid
    start = [(n - m) // 2 for n, m in zip(around.shape, shape, strict=True)]
    return around.cropped(start, [a + m for a, m in zip(start, shape, strict=True)])


def _linear(file: str) -> Linear:
    found = read_transform(file)
    if not isinstance(found, Linear):
        raise InputError(f"the initial transform {file} is not linear; give a matrix.")
    return found


def _scan(image: Image, mask: str | None, role: str) -> PreparedImage:
    if mask is None:
        return PreparedImage(scaled(image.values), image.grid)
    inside = read_mask(mask, f"{role} mask")
    require_same_grid(inside, image, f"{role} mask")
    return PreparedImage(scaled(image.values, inside.values), image.grid, inside.values.float())


def _labels(pair: Mapping[str, str], role: str, image: Image) -> Image:
    labels = read_labels(pair[f"{role}_labels"], f"{role} labels")
    require_same_grid(labels, image, f"{role} labels")
    if int(labels.values.max()) > torch.iinfo(torch.int16).max:
        raise InputError(f"{labels.name} holds labels beyond 32767; renumber them.")
    return labels


def _points(pair: Mapping[str, str], begin: Transform, grid: Grid) -> Sample:
    """Landmarks in indices of the grid: the moving ones as they are seen on it."""
    if "fixed_points" not in pair or "moving_points" not in pair:
        return {}
    fixed, moving = (read_points(pair[f"{role}_points"])[0] for role in ROLES)
    if len(fixed) != len(moving):
        raise InputError(
            f"{pair['fixed_points']} holds {len(fixed)} points and {pair['moving_points']} "
            f"{len(moving)}; give the same landmarks in the same order."
        )
    index = [apply_matrix(grid.index_from_world, p) for p in (fixed, begin.inverse()(moving))]
    weight = torch.ones(len(fixed))
    return {
        "fixed_points": index[0].float(),
        "moving_points": index[1].float(),
        "points_weight": weight,
    }


def _truth(pair: Mapping[str, str], begin: Transform, grid: Grid) -> Sample:
    """The true displacement in voxels, weight 0 where nothing is known."""
    if "truth" not in pair:
        return {
            "displacement_vox": torch.zeros(grid.ndim, *grid.shape),
            "truth_weight": torch.zeros(1, *grid.shape),
        }
    points = grid.points_mm()
    there = begin.inverse()(read_transform(pair["truth"])(points))
    moves = apply_matrix(grid.index_from_world, there) - grid.points_index()
    within: Tensor = torch.isfinite(moves).all(dim=-1)
    return {
        "displacement_vox": moves.movedim(-1, 0).float(),
        "truth_weight": within[None].float(),
    }


# -- all of them ----------------------------------------------------------------------------------


def pair_dataset(
    pairs: Sequence[Mapping[str, str]],
    transform: DictionaryTransform,
    cache: Cache = "memory",
    cache_dir: str | os.PathLike[str] | None = None,
) -> Dataset:
    """A MONAI dataset of pairs, each brought to the working grid once.

    Args:
        pairs: as `read_pairs` gives them.
        transform: such as `LoadPair`, alone or with further deterministic ones.
        cache: samples stay in ``memory`` (MONAI's CacheDataset), on ``disk`` (PersistentDataset,
            in ``cache_dir``), or are made anew each time (``none``).
        cache_dir: where samples on disk are kept.

    Raises:
        InputError: the kind of cache is unknown, or one on disk has no folder.
    """
    if cache not in get_args(Cache):
        near = difflib.get_close_matches(str(cache), get_args(Cache), 1, 0)[0]
        raise InputError(f"the cache {cache!r} is unknown; did you mean {near!r}?")
    items = [dict(pair) for pair in pairs]
    if cache == "memory":
        return CacheDataset(items, transform, num_workers=0, progress=False)
    if cache == "none":
        return Dataset(items, transform)
    if cache_dir is None:
        raise InputError("a cache on disk needs a folder; set cache_dir.")
    # Of what it loads weights_only, MONAI's default, lets through tensors and plain values alone.
    folder, mark = Path(cache_dir), _fingerprint
    return PersistentDataset(items, transform, folder, hash_func=mark, hash_transform=mark)


def _fingerprint(item: Any) -> bytes:
    """Tells pairs, or the transforms that they go through, apart, and a file from its successor."""
    told = repr(sorted(item.items()) if isinstance(item, dict) else item)
    files = item.values() if isinstance(item, dict) else ()
    changed = [os.stat(file).st_mtime_ns for file in files]
    return hashlib.sha256(f"{told} {changed}".encode()).hexdigest().encode()
