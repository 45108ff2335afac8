"""What a format is read with; all of it must succeed or raise `InputError`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, cast

from scripts.fuzz.geometry_samples import GEOMETRY
from scripts.fuzz.transform_samples import SEPARATOR, grids
from stn3d.choices import TransformFormat
from stn3d.errors import InputError
from stn3d.io import (
    PointMap,
    open_volumes,
    read_geometry,
    read_image,
    read_labels,
    read_landmarks,
    read_mask,
    read_points,
    read_transform,
    write_geometry,
)
from stn3d.nets.weights import load_weights
from stn3d.registration.settings import settings_from
from stn3d.transforms import Affine

Reader = Callable[[Path], Any]


def _volumes(path: Path) -> None:
    for image in open_volumes(path):
        assert image.values.isfinite().all()


def _transform(path: Path, name: str) -> None:
    """A format with its name, or found by extension and content."""
    fixed, moving = grids()
    format = cast("TransformFormat", name.partition(SEPARATOR)[0])
    for one in (format, "auto"):
        with suppress(InputError) if one == "auto" else nullcontext():
            found = read_transform(path, fixed=fixed, moving=moving, format=one)
            assert found(fixed.points_mm()).isfinite().all()


def _landmarks(path: Path) -> None:
    read_landmarks(path, path)


def _geometry(path: Path) -> None:
    """Read a geometry, map it and write it in its own format."""
    mapped = read_geometry(path).mapped(PointMap(Affine.identity(3)))
    out = path.with_name(f"out-{path.name}" if path.suffix != ".white" else "lh.out")
    write_geometry(out, mapped)


def _bundle(path: Path) -> None:
    from stn3d.train.config import check_keys, read_config

    check_keys(read_config([path]), {"epochs": 1})


def _checkpoint(path: Path) -> None:
    import torch

    from stn3d.train.state import load_state

    load_state(path, {"network": torch.nn.Linear(2, 3)})


def _settings(path: Path) -> None:
    settings_from({}, path)


_IMAGE: tuple[Reader, ...] = (read_image, read_image, read_labels, read_mask, _volumes)
_OTHERS: dict[str, tuple[Reader, ...]] = {
    **dict.fromkeys(("h5", "tfm", "txt", "mat"), (read_transform,)),
    **dict.fromkeys(("csv", "tsv", "fcsv", "mrk.json"), (read_points, _landmarks)),
    **dict.fromkeys(GEOMETRY, (_geometry,)),
    "yaml": (_settings,),
    "bundle": (_bundle,),
    "safetensors": (load_weights,),
    "checkpoint": (_checkpoint,),
}


def reader(format: str, random: Random) -> Reader:
    """A function that reads a file of this format."""
    if SEPARATOR in format:
        return partial(_transform, name=format)
    return random.choice(_OTHERS.get(format, _IMAGE))
