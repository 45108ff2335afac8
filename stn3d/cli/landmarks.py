"""The command `landmarks`: files of points go to `stn3d.landmarks`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from stn3d.cli import screen
from stn3d.cli.options import OutFolder, one_of
from stn3d.errors import InputError
from stn3d.io import read_landmarks
from stn3d.landmarks import LandmarkKind, register_landmarks
from stn3d.registration.result import results_folder
from stn3d.registration.settings import check_choice

_FIGURES = (
    ("before_mm", "landmark distance before, mm"),
    ("residual_mm", "landmark error (residual), mm"),
    ("left_out_mm", "landmark error when left out, mm"),
)
_SAMPLING = (
    ("sampling_mm", "field beside the spline, mm"),
    ("inverse_mm", "inverse error of the fields, mm"),
)


def landmarks(
    fixed: Annotated[
        Path,
        typer.Argument(
            metavar="FIXED.csv",
            help="Landmarks of the fixed image: columns x,y,z (x,y in 2D), RAS+ mm, and name if "
            "rows go by it; or 3D Slicer's .mrk.json or .fcsv.",
        ),
    ],
    moving: Annotated[
        Path, typer.Argument(metavar="MOVING.csv", help="The same landmarks in the moving image.")
    ],
    out: OutFolder,
    kind: Annotated[str, typer.Option(help=one_of(get_args(LandmarkKind), "rigid"))] = "rigid",
    like: Annotated[
        Path | None, typer.Option(help="The fixed image: gives the grid of a tps' field.")
    ] = None,
    smoothing: Annotated[
        float,
        typer.Option(help="Of a tps: 0 passes through all landmarks, much is nearly affine."),
    ] = 0.0,
) -> None:
    """Find the transform that takes landmarks of FIXED to those of MOVING, without images.

    Writes the transform, its inverse and metrics.json into the folder --out.
    """
    check_choice("kind", kind, LandmarkKind)
    if kind == "tps" and like is None:
        raise InputError(
            "--kind tps is saved as a field on a grid; give the fixed image as --like."
        )
    pairs = read_landmarks(fixed, moving)
    chosen: Any = kind
    with results_folder(out) as folder:
        found = register_landmarks(
            pairs.fixed_mm, pairs.moving_mm, chosen, smoothing=smoothing, names=pairs.names
        )
        if like is not None:
            found = found.on_grid_of(like)
        files = found.save(folder)
    _show(found.metrics)
    screen.show_end(files)


def _show(figures: dict[str, Any]) -> None:
    """Tables of the errors, and who stands out."""
    rows = [(label, figures[key]) for key, label in _FIGURES if figures[key] is not None]
    rows += [(label, figures["sampling"][key]) for key, label in _SAMPLING if "sampling" in figures]
    cells = [[label, *(f"{one[key]:.3f}" for key in ("mean", "p95", "max"))] for label, one in rows]
    screen.show_table(["", "mean", "p95", "max"], cells)
    for one in figures["landmarks"]:
        if one["suspect"]:
            typer.echo(
                f"suspect: landmark {one['name']}, {one['left_out_mm']:.3f} mm from where the "
                "others have it; look at it in both images"
            )
    unknown = figures["count"] - figures["left_out_count"]
    if unknown:
        typer.echo(f"{unknown} of {figures['count']} cannot be left out: the others are too few")
