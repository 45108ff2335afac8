"""The command `jacobian`: a map of local volume changes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stn3d.cli import file_options, options, screen
from stn3d.cli.process import slow_imports


def jacobian(
    transform: file_options.TransformSpec,
    like: Annotated[
        Path,
        typer.Option(metavar="FIXED", help="Fixed image, whose grid the map lies on."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="IMAGE", help="Image to write.")],
    log: Annotated[
        bool,
        typer.Option("--log", help="Natural logarithm of the determinant; det J <= 0 is an error."),
    ] = False,
    moving: Annotated[
        Path | None,
        typer.Option(metavar="IMAGE", help="Moving image, which some transform formats need."),
    ] = None,
    then: file_options.Then = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Write the Jacobian determinant of a transform at each voxel of the fixed image.

    The transform maps fixed points to moving points: 2 means that a fixed voxel covers twice its
    volume in the moving image, 0.5 half of it, 0 and below that the transform folds. For volume
    changes the other way give the inverse.
    """
    opening = f"Jacobian determinant of {transform} on {like.name}"
    with screen.opened(opening, quiet, verbose) as shown:
        with slow_imports():
            from stn3d.errors import InputError
            from stn3d.io import (
                check_image_path,
                in_dimension,
                is_stdout,
                read_image,
                read_specs,
                refuse_inputs,
                spec_files,
                write_image,
            )
            from stn3d.warp import jacobian_determinant

        specs = [transform, *(then or [])]
        check_image_path(out)
        refuse_inputs([out], [like, moving, *(one for spec in specs for one in spec_files(spec))])
        shown = shown.beside(is_stdout(out))
        found = read_specs(specs, fixed=like, moving=moving)
        image = in_dimension(read_image(like, "fixed", allow_constant=True), found.ndim)
        if image.grid.ndim != found.ndim:
            raise InputError(
                f"the transform {transform} is {found.ndim}D and {like} is {image.grid.ndim}D; "
                "give the fixed image of this transform."
            )
        values = jacobian_determinant(found, image.grid)
        folded = int((values <= 0).sum())
        if log and folded:
            raise InputError(
                f"the transform folds in {folded} voxels, where the determinant has no logarithm; "
                "omit --log to see where."
            )
        values = values.log() if log else values
        write_image(out, values[None, None], image)
        name = "log-Jacobian" if log else "Jacobian determinant"
        low, high = (float(value) for value in values.aminmax())
        shown.say(f"{name}: {low:.4g} to {high:.4g}; folded voxels: {folded}")
        shown.wrote([out])
