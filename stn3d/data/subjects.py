"""Sources of samples: label maps, random shapes, or pairs of image files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from stn3d.data.datalist import read_pairs
from stn3d.data.pairs import LoadPair, pair_dataset
from stn3d.errors import InputError
from stn3d.synth import (
    PairSettings,
    SeededGenerator,
    Subject,
    SyntheticPairs,
    common_space,
    random_subject,
    read_subjects,
)


def load_subjects(
    folder: str | os.PathLike[str] | None,
    spatial_dims: int = 3,
    num_random: int = 8,
    seed: int = 0,
    part: slice | None = None,
) -> list[Subject]:
    """The label maps of a folder in their common space, or random shapes.

    Args:
        folder: NIfTI label maps of one body part; None or empty for random shapes.
        spatial_dims: Dimensions of random shapes, 2 or 3.
        num_random: Number of random subjects; 0: label maps are required.
        seed: Seed of the random subjects.
        part: Slice of the folder's maps in the order of their names. Default: all.

    Raises:
        InputError: The folder holds no label map, or one is invalid; or label maps are required
            and there is no folder.
    """
    if not folder and num_random < 1:
        raise InputError(
            "no label maps are given; set dataset_dir to a folder with NIfTI label maps."
        )
    if not folder:
        rngs = (SeededGenerator(seed, i) for i in range(num_random))
        return [random_subject(rng, spatial_dims) for rng in rngs]
    files = sorted(Path(folder).glob("*.nii*"))
    if not files:
        raise InputError(
            f"there are no NIfTI label maps in {folder}; set dataset_dir to a folder with label "
            "maps, or leave it empty for random shapes."
        )
    subjects = common_space(read_subjects(files))
    return subjects if part is None else subjects[part]


def evaluation_dataset(
    datalist: str | os.PathLike[str] | None,
    transform: LoadPair,
    label_maps: str | os.PathLike[str] | None = None,
    num_samples: int = 20,
    seed: int = 0,
) -> Any:
    """A dataset to evaluate on: pairs of files, or synthetic pairs on the same grid.

    Args:
        datalist: As for `stn3d.data.read_pairs`, key ``validation``; None or empty for synthetic
            pairs.
        transform: Resamples pairs to the working grid; its shape and spacing apply to both, so
            synthetic pairs need a shape.
        label_maps: Folder as for `load_subjects`.
        num_samples: Number of synthetic pairs.
        seed: Seed of the synthetic pairs.
    """
    if datalist:
        return pair_dataset(read_pairs(datalist, "validation"), transform, "none")
    if transform.shape is None:
        raise InputError("synthetic pairs need a working grid; set shape, such as [64, 64, 64].")
    shape = tuple(transform.shape)
    settings = PairSettings(
        shape=shape,
        spacing_mm=transform.spacing_mm,
        inter_subject_probability=0.3 if label_maps else 0.0,
        num_samples=num_samples,
    )
    num_random = min(num_samples, 8)
    subjects = load_subjects(label_maps, len(shape), num_random=num_random, seed=seed)
    return SyntheticPairs(subjects, settings, seed)
