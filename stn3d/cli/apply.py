"""The command `apply`: a transform from a file takes images along."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from stn3d.cli import file_options, options, screen
from stn3d.cli.process import slow_imports


def apply(
    transform: file_options.TransformSpec,
    image: Annotated[
        Path, typer.Argument(metavar="IMAGE", help="Image or label map in moving space; 3D or 4D.")
    ],
    like: Annotated[
        Path, typer.Option(metavar="IMAGE", help="Reference image that defines the output grid.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="IMAGE", help="Image to write; - for stdout.")
    ],
    interpolation: options.ImageInterpolation = "auto",
    volume: Annotated[
        int | None,
        typer.Option(metavar="N", help="Volume of a 4D IMAGE, counted from 0. Default: all."),
    ] = None,
    fill: options.Fill = "auto",
    then: file_options.Then = None,
    dicom: Annotated[
        bool,
        typer.Option(
            "--dicom",
            help="Write a DICOM series into the folder --out, in the frame of reference of --like.",
        ),
    ] = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Warp another image or label map from moving to fixed space.

    Of a 4D IMAGE, all volumes are warped one after another. Several transforms are composed, so
    that the image is interpolated once: for an image registered to T1 and T1 to a template, give
    the transform of the template first, then that of T1 with --then.
    """
    with screen.opened(f"warping {image.name} onto the grid of {like.name}", quiet, verbose) as to:
        with slow_imports():
            from stn3d.io import (
                check_image_path,
                is_stdout,
                read_specs,
                refuse_inputs,
                spec_files,
            )
            from stn3d.warp.apply import apply_to_file
            from stn3d.warp.dicom import apply_to_dicom

        if not dicom:
            check_image_path(out)
        specs = [transform, *(then or [])]
        files = [file for spec in specs for file in spec_files(spec)]
        refuse_inputs([out], [*files, image, like])
        to = to.beside(is_stdout(out))
        how: Any = interpolation
        found = read_specs(specs, fixed=like, moving=image)
        if dicom:
            apply_to_dicom(found, image, like, out, how, volume, fill)
            to.wrote([out])
            return
        done = apply_to_file(found, image, like, out, how, volume, fill)
        if done.reason is not None:
            to.say(f"interpolation: {done.interpolation} (automatic), since {done.reason}")
        if done.lost:
            lost = ", ".join(str(label) for label in done.lost[:10])
            more = f" and {len(done.lost) - 10} more" if len(done.lost) > 10 else ""
            to.say(
                f"note: no voxel of the output has label {lost}{more}; to move landmarks exactly, "
                "use stn3d points"
            )
        if done.outside_value != 0:
            to.say(f"outside the field of view of {image.name}: {done.outside_value:g}")
        to.wrote([out])
