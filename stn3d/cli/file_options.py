"""Options on transform files, and on the files that commands write."""

from __future__ import annotations

from typing import Annotated

import typer

from stn3d import choices
from stn3d.cli.options import choice, described

FILES = "Files"

TransformSpec = Annotated[
    str,
    typer.Argument(
        metavar="TRANSFORM",
        help="Transform file of any format, FORMAT:FILE (such as fsl:warp.nii.gz), inverse:FILE, "
        "or the folder of a registration.",
    ),
]
Then = Annotated[
    list[str] | None,
    typer.Option(
        "--then",
        metavar="TRANSFORM",
        help="A further transform that fixed points go through after TRANSFORM; may be repeated.",
    ),
]
ImageFormat = Annotated[
    str,
    choice(
        "image-format",
        FILES,
        choices.ImageSuffix,
        described("Format of the images that are written", choices.IMAGE_SUFFIXES, ".nii.gz"),
    ),
]
Jacobian = Annotated[
    bool,
    typer.Option(
        "--jacobian",
        rich_help_panel=FILES,
        help="Also write the Jacobian determinant: 2 where a fixed voxel covers twice its volume "
        "in the moving image.",
    ),
]
Uncertainty = Annotated[
    bool | None,
    typer.Option(
        "--uncertainty",
        rich_help_panel=FILES,
        show_default=False,
        help="Also write the expected registration error at every voxel, in mm (0: not known), and "
        "rest the quality check on it.",
    ),
]
Dicom = Annotated[
    bool,
    typer.Option(
        "--dicom",
        rich_help_panel=FILES,
        help="Also write the moved image as a DICOM series (moved_dicom) in FIXED's frame of "
        "reference, and the transform as a DICOM registration object (transform.dcm).",
    ),
]
Bids = Annotated[
    bool,
    typer.Option(
        "--bids",
        rich_help_panel=FILES,
        help="BIDS names with JSON sidecars (from-..._to-..._mode-image_xfm.h5, space-...), made "
        "from the names of the images.",
    ),
]
NoReport = Annotated[
    bool,
    typer.Option(
        "--no-report",
        rich_help_panel=FILES,
        help="Leave out report.html, the page to look at, and report.png, its picture.",
    ),
]
