"""The command `points`: a transform from a file takes points, surfaces and streamlines along."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from stn3d import choices
from stn3d.choices import check_choice
from stn3d.cli import file_options, options, screen
from stn3d.cli.process import slow_imports


def _checked(name: str, choice: Any) -> Any:
    def check(value: str | None) -> str | None:
        if value is not None:
            check_choice(name, value, choice)
        return value

    return check


PointFile = Annotated[
    Path,
    typer.Argument(
        metavar="IN",
        help="Points (.csv, .tsv, .mrk.json, .fcsv), surface (.surf.gii, FreeSurfer, .vtk, "
        ".vtp, .stl, .ply, .obj) or streamlines (.tck, .trk, .trx).",
    ),
]
Out = Annotated[
    Path,
    typer.Option(
        "--out",
        "-o",
        metavar="OUT",
        help="File to write, in the format of its extension; - for stdout.",
    ),
]
PointsIn = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="IMAGE",
        show_default=False,
        callback=_checked("image that the points belong to", choices.ImageRole),
        help=options.described("Image that the points belong to", choices.POINT_SPACES, "fixed"),
    ),
]
Coordinates = Annotated[
    str | None,
    typer.Option(
        metavar="SYSTEM",
        show_default=False,
        callback=_checked("coordinate system", choices.CoordinateSystem),
        help=options.described(
            "Coordinate system of files that state none, in mm",
            choices.COORDINATE_SYSTEMS,
            "ras",
        ),
    ),
]
_GRID = (
    "transform formats that need it. Its grid goes into .trk, .trx and FreeSurfer's surfaces that "
    "are mapped to it, and what leaves its field of view is counted."
)
Fixed = Annotated[
    Path | None, typer.Option("--fixed", metavar="IMAGE", help=f"Fixed image, for {_GRID}")
]
Moving = Annotated[
    Path | None, typer.Option("--moving", metavar="IMAGE", help=f"Moving image, for {_GRID}")
]


def points(
    transform: file_options.TransformSpec,
    table: PointFile,
    out: Out,
    points_in: PointsIn = None,
    coordinates: Coordinates = None,
    then: file_options.Then = None,
    fixed: Fixed = None,
    moving: Moving = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Map points, surfaces and streamlines from fixed to moving space, or with --from moving back.

    Everything but the coordinates is kept.
    """
    with screen.opened(f"transforming the points of {table.name}", quiet, verbose) as shown:
        with slow_imports():
            from stn3d.io import check_output, is_stdout
            from stn3d.warp.points import transform_points

        check_output(out)
        shown = shown.beside(is_stdout(out))
        role: Any = points_in
        system: Any = coordinates
        done = transform_points(
            [transform, *(then or [])],
            table,
            out,
            points_in=role,
            coordinates=system,
            fixed=fixed,
            moving=moving,
        )
        shown.say(
            f"{done.size} in {done.source} space -> {done.target} space (through {done.name})"
        )
        for note in done.notes:
            shown.say(f"note: {note}")
        shown.wrote([out])
