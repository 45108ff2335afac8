"""Options of `stn3d evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from stn3d import choices
from stn3d.cli import options

_PAIRS = "Many pairs"
_OUTPUTS = "Outputs"


def _file(metavar: str, help: str, panel: str | None = None) -> Any:
    return typer.Option(metavar=metavar, help=help, rich_help_panel=panel)


Fixed = Annotated[Path | None, _file("IMAGE", "Fixed image.")]
Moving = Annotated[Path | None, _file("IMAGE", "Moving image.")]
Transform = Annotated[
    str | None, _file("TRANSFORM", "Transform, fixed points to moving points. Default: identity.")
]
Inverse = Annotated[
    str | None, _file("TRANSFORM", "Inverse transform, to report the inverse-consistency error.")
]
TrueTransform = Annotated[
    str | None, _file("TRANSFORM", "Ground-truth transform, fixed points to moving points.")
]
FixedMask = Annotated[
    Path | None,
    _file(
        "IMAGE",
        "Binary mask of the fixed image: the region that is evaluated. Default: the foreground; "
        "with --protocol l2r the whole image.",
    ),
]
MovedLabels = Annotated[
    Path | None,
    _file(
        "IMAGE",
        "Moving label map that another tool has warped onto the fixed grid, instead of images and "
        "a transform. With --moving-labels, a label that was lost counts.",
        options.LABELS,
    ),
]
Labels = Annotated[
    str | None,
    _file(
        "LIST",
        "Labels to measure: numbers, ranges and names of --label-table, such as "
        "'4,10-13,Left-Hippocampus'. Default: all.",
        options.LABELS,
    ),
]
LabelTable = Annotated[
    Path | None,
    _file(
        "FILE",
        "Names of labels: BIDS .tsv (index, name), FreeSurfer, 3D Slicer or ITK-SNAP label file.",
        options.LABELS,
    ),
]
MinVoxels = Annotated[
    int | None,
    _file(
        "N",
        "Omit labels with fewer voxels in either map. Default: 100; 1 with --labels or "
        "--protocol l2r.",
        options.LABELS,
    ),
]
Tolerance = Annotated[
    float | None,
    _file(
        "MM",
        "Distance up to which surfaces agree: reports the normalised surface Dice (NSD).",
        options.LABELS,
    ),
]
Protocol = Annotated[
    str | None,
    options.choice(
        "protocol",
        options.LABELS,
        choices.EvaluationProtocol,
        options.described("Definitions of the metrics", choices.EVALUATION_PROTOCOLS, "strict"),
    ),
]
Pairs = Annotated[
    Path | None,
    _file(
        "FILE",
        "CSV table of pairs, instead of one pair: columns fixed, moving, transform or "
        "moved_labels, fixed_labels, moving_labels, fixed_points, moving_points, fixed_mask, "
        "method, pair. Reports means with bootstrap confidence intervals and compares the methods.",
        _PAIRS,
    ),
]
Seed = Annotated[int | None, _file("N", "Seed of the bootstrap. Default: 0.", _PAIRS)]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        metavar="FILE",
        rich_help_panel=_OUTPUTS,
        help="JSON file for the metrics; - for stdout.",
    ),
]
LabelCsv = Annotated[
    Path | None,
    typer.Option(
        "--csv",
        metavar="FILE",
        rich_help_panel=_OUTPUTS,
        help="CSV file with a row for each label; - for stdout.",
    ),
]
AsJson = Annotated[
    bool,
    typer.Option(
        "--json", rich_help_panel=_OUTPUTS, help="Print the metrics as JSON, not as a table."
    ),
]
