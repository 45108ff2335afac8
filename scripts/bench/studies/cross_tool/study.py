"""The cells of the table, and their measurement."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch

from scripts.bench.machine import machine
from scripts.bench.options import RunOptions, command_line, option
from scripts.bench.store import Row, Store
from scripts.bench.studies.cross_tool import libraries
from scripts.bench.studies.cross_tool.cases import ORIENTATIONS, Applied, Case
from scripts.bench.studies.cross_tool.page import report
from stn3d.choices import TransformFormat
from stn3d.io import read_transform, write_transform
from stn3d.io.geometry import itk_geometry
from stn3d.transforms import Transform

KEYS = ("format", "file", "tool", "written_by", "orientation")
JOBS_SCRIPT = Path(__file__).with_name("tool_jobs.py")
STN3D = "stn3d"


@dataclass(frozen=True, kw_only=True)
class Options(RunOptions):
    """Options of the study."""

    tools_python: str = option(sys.executable, "Python interpreter with ANTs, greedy and elastix")


@dataclass(frozen=True)
class Cell:
    """A tool, and a file that it reads and writes.

    Args:
        tool: name of the tool.
        format: stn3d's name of the format.
        file: name of the file or prefix.
        kind: ``linear``, ``field`` or ``both``.
        apply: applies what stn3d wrote; None if the tool reads no such file.
        write: writes a transform and applies it itself; None if the tool writes no such file.
    """

    tool: str
    format: TransformFormat
    file: str
    kind: str
    apply: Callable[[Case, list[Path]], Applied] | None
    write: Callable[[Case, Path], Applied] | None


def run(options: Options) -> None:
    """Measure and report."""
    torch.set_num_threads(options.threads)
    command = command_line("cross_tool", options)
    store = Store(options.out, "cross_tool", KEYS, {"machine": machine()}, command=command)
    with tempfile.TemporaryDirectory(prefix="stn3d-cross-") as folder:
        cases = {name: Case(name, Path(folder) / name) for name in ORIENTATIONS}
        cells = list(_cells(options.tools_python))
        wanted = [_row(cell, by, name) for cell in cells for by in _writers(cell) for name in cases]
        found = {(cell.tool, cell.format, cell.file): cell for cell in cells}
        store.measure(
            wanted,
            lambda row: _measured(
                found[row["tool"], row["format"], row["file"]],
                row["written_by"],
                cases[row["orientation"]],
            ),
        )
    report(options.out)


def _writers(cell: Cell) -> list[str]:
    return [STN3D] * (cell.apply is not None) + [cell.tool] * (cell.write is not None)


def _row(cell: Cell, written_by: str, orientation: str) -> Row:
    return {
        "format": cell.format,
        "file": cell.file,
        "kind": cell.kind,
        "tool": cell.tool,
        "written_by": written_by,
        "orientation": orientation,
    }


def _measured(cell: Cell, written_by: str, case: Case) -> Row:
    folder = Path(tempfile.mkdtemp(dir=case.folder.parent))
    fixed, moving = case.paths
    path = folder / cell.file
    try:
        transform: Transform
        if written_by == STN3D:
            assert cell.apply is not None
            transform = case.transform(cell.kind)
            files = write_transform(path, transform, fixed=fixed, moving=moving, format=cell.format)
            theirs = cell.apply(case, files)
        else:
            assert cell.write is not None
            theirs = cell.write(case, path)
            images: dict[str, Any] = {"fixed": fixed, "moving": moving}
            if cell.format == "freesurfer":  # nitransforms exchanges the two geometries
                images = {}
            transform = read_transform(path, **images, format=cell.format)
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {error}"[:300]}
    return case.errors(transform, theirs)


# -- tools ----------------------------------------------------------------------------------------


def _cells(python: str) -> Iterator[Cell]:
    """All cells."""
    yield from _simpleitk()
    yield from _nitransforms()
    yield Cell("MONAI", "monai", "ddf.npy", "both", _monai_apply, _monai_write)
    yield Cell(
        "ANTs", "ants", "a_", "both", partial(_ants_apply, python), partial(_ants_write, python)
    )
    matrix, both = partial(_greedy_write, python, False), partial(_greedy_write, python, True)
    apply = partial(_job_apply, python, "greedy")
    yield Cell("greedy", "greedy", "g.mat", "linear", apply, matrix)
    yield Cell("greedy", "greedy", "g.nii.gz", "both", apply, both)
    apply = partial(_job_apply, python, "elastix")
    yield Cell("elastix", "elastix", "affine.txt", "linear", apply, None)
    yield Cell("elastix", "elastix", "field.txt", "both", apply, None)
    for kind in ("Euler", "Similarity", "Affine", "BSpline"):
        write = partial(_elastix_write, python, kind)
        yield Cell("elastix", "elastix", f"{kind}.txt", "linear", None, write)


def _simpleitk() -> Iterator[Cell]:
    kinds = {"t.tfm": "linear", "t.mat": "linear", "t.txt": "linear", "t.h5": "both"}
    kinds |= {f"field{suffix}": "field" for suffix in libraries.FIELD_SUFFIXES}
    for name, kind in kinds.items():

        def write(case: Case, path: Path, kind: str = kind) -> Applied:
            libraries.sitk_write(case, kind, path)
            return libraries.sitk_apply(case, [path])

        yield Cell("SimpleITK", "itk", name, kind, libraries.sitk_apply, write)


def _nitransforms() -> Iterator[Cell]:
    known: Sequence[tuple[TransformFormat, str, str, str]] = (
        ("itk", "t.tfm", "linear", "itk"),
        ("itk", "field.nii.gz", "field", "itk"),
        ("fsl", "t.mat", "linear", "fsl"),
        ("freesurfer", "t.lta", "linear", "fs"),
        ("afni", "t.aff12.1D", "linear", "afni"),
        ("x5", "t.x5", "both", "x5"),
    )
    for format, name, kind, theirs in known:

        def apply(case: Case, files: list[Path], theirs: str = theirs, kind: str = kind) -> Applied:
            return libraries.nitransforms_apply(case, files[0], theirs, kind)

        def write(case: Case, path: Path, theirs: str = theirs, kind: str = kind) -> Applied:
            libraries.nitransforms_write(case, path, theirs, kind)
            return libraries.nitransforms_apply(case, path, theirs, kind)

        yield Cell("nitransforms", format, name, kind, apply, write)


def _monai_apply(case: Case, files: list[Path]) -> Applied:
    return libraries.monai_apply(case, np.load(files[0]))


def _monai_write(case: Case, path: Path) -> Applied:
    """Random smooth displacements in voxels, as a network outputs them."""
    from monai.networks.layers import GaussianFilter

    generator = torch.Generator().manual_seed(5)
    noise = torch.randn(1, 3, *case.fixed.shape, generator=generator)
    ddf = GaussianFilter(3, 3.0)(noise)
    ddf = (4 * ddf / ddf.abs().max())[0].numpy()
    np.save(path, ddf)
    return libraries.monai_apply(case, ddf)


@lru_cache
def _started(python: str, tool: str) -> subprocess.Popen[str]:
    """The process of a tool, which takes seconds to start; it ends with this one."""
    del tool
    pipe = subprocess.PIPE
    quiet = subprocess.DEVNULL
    return subprocess.Popen(
        [python, str(JOBS_SCRIPT)], stdin=pipe, stdout=pipe, stderr=quiet, text=True, bufsize=1
    )


def _run_job(python: str, job: dict[str, Any]) -> None:
    """Run a job of `tool_jobs`.

    Raises:
        RuntimeError: it failed.
    """
    process = _started(python, job["job"].split()[0])
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(job) + "\n")
    answer = process.stdout.readline().strip()
    if answer != "done":
        raise RuntimeError(answer or "its process ended")


def _images(case: Case, folder: Path) -> dict[str, str]:
    """Arguments of all jobs."""
    fixed, moving = case.paths
    np.save(folder / "points.npy", case.points)
    names = {"points": "points.npy", "points_out": "mapped.npy", "image_out": "moved.nii.gz"}
    found = {name: str(folder / file) for name, file in names.items()}
    return found | {"fixed": str(fixed), "moving": str(moving)}


def _job_apply(python: str, tool: str, case: Case, files: list[Path]) -> Applied:
    folder = files[0].parent
    job = _images(case, folder)
    shown = [str(file) for file in files if tool != "elastix" or file.suffix == ".txt"]
    _run_job(python, {"job": f"{tool} apply", **job, "files": shown})
    moved: Any = nib.load(job["image_out"])
    image = np.asarray(moved.dataobj, np.float32).reshape(case.fixed.shape)
    return Applied(image, np.load(job["points_out"]))


def _ants_apply(python: str, case: Case, files: list[Path]) -> Applied:
    affine, warp = files[:2]
    return _job_apply(python, "ants", case, [warp, affine])


def _ants_write(python: str, case: Case, path: Path) -> Applied:
    job = {"job": "ants write", **_images(case, path.parent), "prefix": str(path)}
    _run_job(python, job)
    names = ("0GenericAffine.mat", "1Warp.nii.gz")
    return _ants_apply(python, case, [path.with_name(path.name + name) for name in names])


def _greedy_write(python: str, dense: bool, case: Case, path: Path) -> Applied:
    other = path.with_name("affine.mat" if dense else "warp.nii.gz")
    affine, warp = (other, path) if dense else (path, other)
    job = {"job": "greedy write", **_images(case, path.parent), "files": [str(affine), str(warp)]}
    _run_job(python, job)
    return _job_apply(python, "greedy", case, [path])


def _elastix_write(python: str, kind: str, case: Case, path: Path) -> Applied:
    job = {"job": "elastix write", "map": elastix_map(kind, case), "files": [str(path)]}
    _run_job(python, job)
    return _job_apply(python, "elastix", case, [path])


def elastix_map(kind: str, case: Case) -> dict[str, list[Any]]:
    """Parameters of a transform of elastix about the centre of the fixed image."""
    origin, spacing, direction = itk_geometry(case.fixed.world_from_index.numpy())
    columns = np.reshape(direction, (3, 3)).T.ravel().tolist()
    centre = (case.fixed.centre_mm.numpy() * [-1, -1, 1]).tolist()
    parameters: list[float] = {
        "Euler": [0.06, -0.08, 0.1, 2.0, -3.0, 1.5],
        "Similarity": [0.03, -0.04, 0.05, 2.0, -3.0, 1.5, 1.05],
        "Affine": [1.04, 0.05, -0.02, -0.03, 0.97, 0.06, 0.01, -0.04, 1.02, 2.0, -3.0, 1.5],
    }.get(kind, [])
    further: dict[str, list[Any]] = {"CenterOfRotationPoint": centre, "ComputeZYX": ["false"]}
    if kind == "BSpline":
        size, apart = [9, 9, 9], [7 * n for n in spacing]
        rotation = np.reshape(direction, (3, 3))
        start = np.array(origin) - rotation @ (1.5 * np.array(apart))
        parameters = np.random.default_rng(6).normal(0, 2, 3 * 9**3).tolist()
        further = {
            "GridSize": size,
            "GridIndex": [0, 0, 0],
            "GridSpacing": apart,
            "GridOrigin": start.tolist(),
            "GridDirection": columns,
            "BSplineTransformSplineOrder": [3],
            "UseCyclicTransform": ["false"],
        }
    return {
        "Transform": [f"{kind}Transform"],
        "NumberOfParameters": [len(parameters)],
        "TransformParameters": parameters,
        "InitialTransformParameterFileName": ["NoInitialTransform"],
        "HowToCombineTransforms": ["Compose"],
        "FixedImageDimension": [3],
        "MovingImageDimension": [3],
        "FixedInternalImagePixelType": ["float"],
        "MovingInternalImagePixelType": ["float"],
        "Size": list(case.fixed.shape),
        "Index": [0, 0, 0],
        "Spacing": spacing,
        "Origin": origin,
        "Direction": columns,
        "UseDirectionCosines": ["true"],
        "ResampleInterpolator": ["FinalLinearInterpolator"],
        "Resampler": ["DefaultResampler"],
        "DefaultPixelValue": [0],
        "ResultImageFormat": ["nii.gz"],
        "ResultImagePixelType": ["float"],
        **further,
    }
