"""The command `landmarks`: files of points go to `stn3d.register_landmarks`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from stn3d.cli import options, screen, summary
from stn3d.cli.process import slow_imports
from stn3d.cli.screen import Screen
from stn3d.errors import InputError

_METRICS = (
    ("initial_distance_mm", "landmark distance before, mm"),
    ("residual_mm", "landmark error (residual), mm"),
    ("leave_one_out_error_mm", "leave-one-out landmark error, mm"),
)
_FIELD_METRICS = (
    ("discretisation_error_mm", "discretisation error, mm"),
    ("inverse_consistency_error_mm", "inverse-consistency error, mm"),
)


def landmarks(
    fixed: Annotated[
        Path,
        typer.Argument(
            metavar="FIXED.csv",
            help="Landmarks in the fixed image: columns x,y,z (x,y in 2D) in RAS+ mm, and name to "
            "match rows by; or 3D Slicer's .mrk.json or .fcsv.",
        ),
    ],
    moving: Annotated[
        Path, typer.Argument(metavar="MOVING.csv", help="The same landmarks in the moving image.")
    ],
    out: options.OutFolder,
    kind: options.LandmarkKind = "rigid",
    like: Annotated[
        Path | None,
        typer.Option(
            metavar="IMAGE",
            help="Reference image that defines the grid of the displacement field; "
            "required for tps.",
        ),
    ] = None,
    smoothing: Annotated[
        float,
        typer.Option(
            metavar="NUMBER",
            help="Regularisation of a tps: 0 interpolates exactly, large values approach affine.",
        ),
    ] = 0.0,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Find the transform that takes landmarks of FIXED to those of MOVING, without images.

    Writes transform.h5, inverse.h5 and metrics.json into the folder --out.
    """
    if kind == "tps" and like is None:
        raise InputError(
            "--kind tps is saved as a field on a grid; give the fixed image as --like."
        )
    with screen.opened(f"registering {moving.name} to {fixed.name}", quiet, verbose) as shown:
        with slow_imports():
            from stn3d.io import read_landmarks, refuse_inputs
            from stn3d.landmarks import LandmarkRegistration, register_landmarks
            from stn3d.registration.folders import results_folder

        refuse_inputs([out / n for n in LandmarkRegistration.FILES], [fixed, moving, like])
        pairs = read_landmarks(fixed, moving)
        chosen: Any = kind
        with results_folder(out) as folder:
            found = register_landmarks(
                pairs.fixed_mm, pairs.moving_mm, chosen, smoothing=smoothing, names=pairs.names
            )
            if like is not None:
                found = found.on_grid_of(like)
            files = found.save(folder)
        _show(shown, found.metrics)
        if found.metrics["linear_parameters"] is not None:
            summary.show_parameters(shown, f"{kind} transform", found.metrics["linear_parameters"])
        shown.wrote(files)


def _show(shown: Screen, metrics: dict[str, Any]) -> None:
    """Table of the errors, and outliers."""
    rows = [(label, metrics[key]) for key, label in _METRICS if metrics[key] is not None]
    field = metrics.get("displacement_field", {})
    rows += [(label, field[key]) for key, label in _FIELD_METRICS if key in field]
    cells = [[label, *(f"{one[key]:.3f}" for key in ("mean", "p95", "max"))] for label, one in rows]
    shown.table(["", "mean", "p95", "max"], cells)
    for one in metrics["landmarks"]:
        if one["outlier"]:
            shown.say(
                f"outlier: landmark {one['name']} lies {one['leave_one_out_error_mm']:.3f} mm from "
                "where the other landmarks predict it; check it in both images"
            )
    count = metrics["landmark_count"]
    undefined = count - metrics["leave_one_out_count"]
    if undefined:
        shown.say(
            f"leave-one-out error undefined for {undefined} of {count} landmarks (too few remain)"
        )
