"""Pairs of image files as training samples on a common working grid."""

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
from stn3d.io.pair_tables import ROLES, file_stem
from stn3d.nets.working_grid import resample_through, working_image
from stn3d.preprocessing.intensity import scaled
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.registration.initialisation.strategies import simple_candidates
from stn3d.registration.stages import LinearStage
from stn3d.transforms import Affine, Linear, Transform
from stn3d.warp import warp_labels

Initialisation = Literal["header", "centres", "mass", "moments", "auto", "affine"]
Cache = Literal["memory", "disk", "none"]

# -- one pair ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LoadPair(DictionaryTransform):
    """MONAI dictionary transform from the files of a pair to a sample on a working grid.

    The grid is isotropic, along the world axes, centred on the foreground of the fixed image. The
    moving image is resampled through the initial transform, so that a network learns the residual.

    Args:
        shape: Shape of the working grid; None to cover the foreground of the fixed image with the
            margin that a registration has.
        spacing_mm: Spacing of the working grid.
        init: Initialisation method, or ``affine`` for the affine transform of the optimiser. The
            ``initial`` of a pair takes precedence.

    Raises:
        InputError: ``init`` is unknown; on a call: a file of the pair is invalid.
    """

    shape: Sequence[int] | None
    spacing_mm: float
    init: Initialisation = "affine"

    def __post_init__(self) -> None:
        if self.init not in get_args(Initialisation):
            near = difflib.get_close_matches(str(self.init), get_args(Initialisation), 1, 0)[0]
            raise InputError(f"init {self.init!r} is unknown; did you mean {near!r}?")

    def __call__(self, pair: Mapping[str, str]) -> Sample:
        images = {role: read_image(pair[role], role) for role in ROLES}
        prepared = {role: _prepare(images[role], pair.get(f"{role}_mask"), role) for role in ROLES}
        initial = self._initial_transform(pair, prepared["fixed"], prepared["moving"])
        if self.shape is None:
            grid = working_image(prepared["fixed"], self.spacing_mm).grid
        else:
            grid = working_grid(prepared["fixed"], self.shape, self.spacing_mm)
        transforms = {"fixed": Affine.identity(grid.ndim), "moving": initial}
        sample: Sample = {}
        for role, transform in transforms.items():
            image, weight = resample_through(prepared[role], transform, grid)
            sample[role], sample[f"{role}_weight"] = image[0], weight[0]
            if f"{role}_labels" in pair:
                labels = _labels(pair, role, images[role])
                warped = warp_labels(labels.values, labels.grid, transform, grid)
                sample[f"{role}_labels"] = warped[0].short()
        sample |= _points(pair, initial, grid) | _truth(pair, initial, grid)
        sample["name"] = "_to_".join(file_stem(Path(pair[role])) or role for role in ROLES[::-1])
        sample["world_from_index"] = grid.world_from_index
        sample["moving_from_fixed"] = initial.matrix
        return sample

    def _initial_transform(
        self, pair: Mapping[str, str], fixed: PreparedImage, moving: PreparedImage
    ) -> Linear:
        """Fixed points to moving points."""
        if "initial" in pair:
            return _read_linear(pair["initial"])
        coarse = Pair(fixed.at(self.spacing_mm), moving.at(self.spacing_mm))
        method: Any = "auto" if self.init == "affine" else self.init
        initial = simple_candidates(coarse, method)[0].transform
        if self.init == "affine":
            initial = LinearStage("rigid", factors=(4,))(coarse, initial, _no_progress)
            initial = LinearStage("affine", factors=(4, 2, 1))(coarse, initial, _no_progress)
        assert isinstance(initial, Linear)
        return initial


def _no_progress(*_: Any) -> None:
    """Progress callback that does nothing."""


def working_grid(fixed: PreparedImage, shape: Sequence[int], spacing_mm: float) -> Grid:
    """An axis-aligned isotropic grid of a shape, centred on the foreground of an image."""
    foreground = working_image(fixed, spacing_mm, 0).grid
    start = [(n - m) // 2 for n, m in zip(foreground.shape, shape, strict=True)]
    return foreground.cropped(start, [a + m for a, m in zip(start, shape, strict=True)])


def _read_linear(file: str) -> Linear:
    transform = read_transform(file)
    if not isinstance(transform, Linear):
        raise InputError(f"the initial transform {file} is not linear; give a linear transform.")
    return transform


def _prepare(image: Image, mask: str | None, role: str) -> PreparedImage:
    if mask is None:
        return PreparedImage(scaled(image.values), image.grid)
    inside = read_mask(mask, f"{role} mask")
    require_same_grid(inside, image, f"{role} mask")
    return PreparedImage(scaled(image.values, inside.values), image.grid, inside.values.float())


def _labels(pair: Mapping[str, str], role: str, image: Image) -> Image:
    labels = read_labels(pair[f"{role}_labels"], f"{role} labels")
    require_same_grid(labels, image, f"{role} labels")
    if int(labels.values.max()) > torch.iinfo(torch.int16).max:
        raise InputError(f"{labels.name} holds labels above 32767; renumber them.")
    return labels


def _points(pair: Mapping[str, str], initial: Transform, grid: Grid) -> Sample:
    """Landmarks in index coordinates of the grid, the moving ones through the initial transform."""
    if "fixed_points" not in pair or "moving_points" not in pair:
        return {}
    fixed, moving = (read_points(pair[f"{role}_points"])[0] for role in ROLES)
    if len(fixed) != len(moving):
        raise InputError(
            f"{pair['fixed_points']} holds {len(fixed)} points and {pair['moving_points']} "
            f"{len(moving)}; give the same landmarks in the same order."
        )
    index = [apply_matrix(grid.index_from_world, p) for p in (fixed, initial.inverse()(moving))]
    weight = torch.ones(len(fixed))
    return {
        "fixed_points": index[0].float(),
        "moving_points": index[1].float(),
        "points_weight": weight,
    }


def _truth(pair: Mapping[str, str], initial: Transform, grid: Grid) -> Sample:
    """The true residual displacement in voxels, with weight 0 where it is unknown."""
    if "truth" not in pair:
        return {
            "displacement_vox": torch.zeros(grid.ndim, *grid.shape),
            "truth_weight": torch.zeros(1, *grid.shape),
        }
    points = grid.points_mm()
    targets = initial.inverse()(read_transform(pair["truth"])(points))
    moves = apply_matrix(grid.index_from_world, targets) - grid.points_index()
    within: Tensor = torch.isfinite(moves).all(dim=-1)
    return {
        "displacement_vox": moves.movedim(-1, 0).float(),
        "truth_weight": within[None].float(),
    }


# -- datasets ------------------------------------------------------------------------------------


def pair_dataset(
    pairs: Sequence[Mapping[str, str]],
    transform: DictionaryTransform,
    cache: Cache = "memory",
    cache_dir: str | os.PathLike[str] | None = None,
) -> Dataset:
    """A MONAI dataset of pairs, each resampled to the working grid once.

    Args:
        pairs: Pairs from `read_pairs`.
        transform: `LoadPair`, alone or with other deterministic transforms.
        cache: Cache of the samples: ``memory`` (MONAI's CacheDataset), ``disk``
            (PersistentDataset in ``cache_dir``) or ``none``.
        cache_dir: Folder of the cache on disk.

    Raises:
        InputError: The kind of cache is unknown, or a cache on disk has no folder.
    """
    if cache not in get_args(Cache):
        near = difflib.get_close_matches(str(cache), get_args(Cache), 1, 0)[0]
        raise InputError(f"cache {cache!r} is unknown; did you mean {near!r}?")
    items = [dict(pair) for pair in pairs]
    if cache == "memory":
        return CacheDataset(items, transform, num_workers=0, progress=False)
    if cache == "none":
        return Dataset(items, transform)
    if cache_dir is None:
        raise InputError("cache=disk needs a folder; set cache_dir.")
    # MONAI loads with weights_only, so a cache file runs no code.
    return PersistentDataset(
        items, transform, Path(cache_dir), hash_func=_fingerprint, hash_transform=_fingerprint
    )


def _fingerprint(item: Any) -> bytes:
    """A hash of a pair or a transform, and of the modification times of a pair's files."""
    content = repr(sorted(item.items()) if isinstance(item, dict) else item)
    files = item.values() if isinstance(item, dict) else ()
    modified = [os.stat(file).st_mtime_ns for file in files]
    return hashlib.sha256(f"{content} {modified}".encode()).hexdigest().encode()
