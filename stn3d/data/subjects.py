"""Where samples come from: label maps, random shapes, or a user's own pairs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from stn3d.data.datalist import read_pairs
from stn3d.data.pairs import LoadPair, pair_dataset
from stn3d.errors import InputError
from stn3d.synth import (
    SeededGenerator,
    SyntheticPairs,
    PairSettings,
    Subject,
    common_space,
    random_subject,
    read_subjects,
)


def load_subjects(
    folder: str | os.PathLike[str] | None,
    spatial_dims: int = 3,
    shapes: int = 8,
    seed: int = 0,
    part: slice | None = None,
) -> list[Subject]:
    """The label maps of a folder in their common space, or random shapes without any data.

    Args:
        folder: NIfTI label maps of one kind of body part; None or empty for random shapes.
        spatial_dims: 2 or 3, of random shapes.
        shapes: how many random subjects.
        seed: of the random subjects.
        part: which of the folder's maps, in the order of their names; all by default.

    Raises:
        InputError: the folder holds no label map, or one is of no use.
    """
    if not folder:
        return [random_subject(SeededGenerator(seed, i), spatial_dims) for i in range(shapes)]
    files = sorted(Path(folder).glob("*.nii*"))
    if not files:
        raise InputError(
            f"there are no NIfTI label maps in {folder}; set dataset_dir to a folder that holds "
            "some, or leave it empty for random shapes."
        )
    subjects = common_space(read_subjects(files))
    return subjects if part is None else subjects[part]


def evaluation_dataset(
    datalist: str | os.PathLike[str] | None,
    transform: LoadPair,
    label_maps: str | os.PathLike[str] | None = None,
    samples: int = 20,
    seed: int = 0,
) -> Any:
    """A dataset to evaluate on: a user's pairs, or else synthetic ones of the same grid.

    Args:
        datalist: see `stn3d.data.read_pairs`, key ``validation``; None or empty for synthetic.
        transform: brings pairs to the working grid; its shape and spacing hold for both.
        label_maps: see `load_subjects`.
        samples: how many synthetic pairs.
        seed: of the synthetic pairs.
    """
    if datalist:
        return pair_dataset(read_pairs(datalist, "validation"), transform, "none")
    shape = tuple(transform.shape)
    settings = PairSettings(
        shape=shape,
        spacing_mm=transform.spacing_mm,
        inter_subject_probability=0.3 if label_maps else 0.0,
        length=samples,
    )
    subjects = load_subjects(label_maps, len(shape), shapes=min(samples, 8), seed=seed)
    return SyntheticPairs(subjects, settings, seed)
