"""Good and bad files of every kind, for commands that must refuse them."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import torch

from stn3d.grid import Grid, homogeneous
from stn3d.io import write_transform
from stn3d.transforms import Affine, DisplacementField

SHAPE = (9, 8, 7)


AFFINE = np.diag([-2.0, 2.0, 3.0, 1.0])


def ball(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """A bright ball with some texture, float32."""
    index = np.indices(shape).astype(np.float32)
    middle = (np.array(shape, np.float32) - 1).reshape(-1, *[1] * len(shape)) / 2
    distance = np.sqrt(np.square((index - middle) / (middle + 1)).sum(0))
    return (np.maximum(1 - distance, 0) * (2 + np.sin(index.sum(0)))).astype(np.float32)


def nifti(path: Path, array: np.ndarray, affine: np.ndarray | None = AFFINE) -> Path:
    nib.Nifti1Image(array, affine, dtype=array.dtype).to_filename(path)
    return path


def patched(path: Path, fields: dict[str, Any]) -> Path:
    """A good image whose stored header then gets other values, past all that nibabel corrects."""
    nifti(path, ball())
    raw = bytearray(gzip.decompress(path.read_bytes()))
    header = np.frombuffer(raw, nib.nifti1.header_dtype, 1)
    for key, value in fields.items():
        header[key][0] = value
    path.write_bytes(gzip.compress(bytes(raw)))
    return path


def damaged(good: np.ndarray, value: float) -> np.ndarray:
    bad = good.copy()
    bad[3, 3, 3] = value
    return bad


def truncated(path: Path) -> None:
    noise = np.random.default_rng(0).random((20, 20, 20)).astype(np.float32)
    whole = nifti(path, noise).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def far_away() -> np.ndarray:
    affine = AFFINE.copy()
    affine[:3, 3] = 1000
    return affine


def make_bad_files(folder: Path) -> None:
    """Good and bad files of every kind, small enough for all to be made."""
    good, labels = ball(), (ball() > 0.4).astype(np.uint8)
    for name, array in {
        "good": good,
        "other": np.roll(good, 1, 0),
        "constant": np.full_like(good, 7),
        "zeros": np.zeros_like(good),
        "nan": damaged(good, np.nan),
        "inf": damaged(good, np.inf),
        "plane": ball((9, 8)),
        "series": np.stack([good, good], axis=-1),
        "vectors": np.stack([good] * 3, axis=-1).reshape(*SHAPE, 1, 3),
        "complex": good.astype(np.complex64),
        "labels": labels,
        "fractions": labels * np.float32(0.5),
        "negative": -labels.astype(np.int16),
        "elsewhere": labels[1:],
    }.items():
        nifti(folder / f"{name}.nii.gz", array)
    nifti(folder / "shifted.nii.gz", labels, AFFINE + np.eye(4, k=3))
    nifti(folder / "far.nii.gz", good, far_away())
    zeros = [0.0, 0.0, 0.0, 0.0]
    rows = {"srow_x": zeros, "srow_y": zeros, "srow_z": zeros}
    patched(folder / "zero_affine.nii.gz", {"sform_code": 1, **rows})
    line = [1.0, 1.0, 1.0, 0.0]
    rows = {"srow_x": line, "srow_y": line, "srow_z": [0.0, 0.0, 1.0, 0.0]}
    patched(folder / "singular.nii.gz", {"sform_code": 1, **rows})
    patched(folder / "nan_affine.nii.gz", {"sform_code": 1, "srow_x": [np.nan] * 4})
    (folder / "empty.nii.gz").write_bytes(b"")
    (folder / "text.nii.gz").write_text("this is no image\n")
    (folder / "text.mha").write_text("this is no image\n")
    (folder / "folder").mkdir()
    truncated(folder / "truncated.nii.gz")
    make_other_files(folder)


def make_other_files(folder: Path) -> None:
    """Transforms, tables and configs."""
    for d in (2, 3):
        write_transform(folder / f"affine{d}.h5", Affine.identity(d))
    grid = Grid(SHAPE, torch.from_numpy(AFFINE))
    bend = DisplacementField(
        torch.rand(1, 3, *SHAPE, generator=torch.Generator().manual_seed(0)), grid
    )
    whole = folder / "bend.h5"
    write_transform(whole, bend)
    (folder / "truncated.h5").write_bytes(whole.read_bytes()[:2000])
    full = whole.read_bytes()
    for name, at in (("corrupt.h5", 1000), ("corrupt_end.h5", len(full) - 500)):
        (folder / name).write_bytes(full[:at] + bytes(400) + full[at + 400 :])
    with h5py.File(folder / "foreign.h5", "w") as file:
        file["numbers"] = np.arange(5)
    (folder / "text.h5").write_text("this is no transform\n")
    (folder / "text.tfm").write_text("this is no transform\n")
    (folder / "text.mat").write_text("this is no transform\n")
    away = homogeneous(torch.eye(3).double(), torch.tensor([5000.0, 0, 0]).double())
    write_transform(folder / "away.h5", Affine.from_matrix(away))
    for name, text in {
        "points.csv": "x,y,z\n1,2,3\n4,5,6\n",
        "points2.csv": "x,y\n1,2\n",
        "one.csv": "x,y,z\n1,2,3\n",
        "columns.csv": "a,b,c\n1,2,3\n",
        "headless.csv": "1,2,3\n4,5,6\n",
        "words.csv": "x,y,z\n1,two,3\n",
        "short.csv": "x,y,z\n1,2,3\n4,5\n",
        "no_rows.csv": "x,y,z\n",
        "empty.csv": "",
        "both.yaml": "estimator: both\n",
        "misspelt.yaml": "knd: rigid\n",
        "misspelt_inside.yaml": "deformable:\n  iteration: [3]\n",
        "wrong.yaml": "seed: many\n",
        "broken.yaml": "kind: [rigid\n",
        "list.yaml": "- rigid\n",
        "kind.yaml": "kind: ridgid\n",
    }.items():
        (folder / name).write_text(text)
