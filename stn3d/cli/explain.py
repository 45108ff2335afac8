"""The command `explain`: a transform, an image or a result in JSON in plain words."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from stn3d import choices
from stn3d.cli import options, screen
from stn3d.cli.process import slow_imports
from stn3d.errors import InputError

_IMAGES = (
    ".nii", ".nii.gz", ".hdr", ".img", ".img.gz", ".mgh", ".mgz", ".mha", ".mhd", ".nrrd", ".nhdr",
    ".dcm", ".png", ".jpg", ".jpeg", ".tif", ".tiff",
)  # fmt: skip
_MOST_MB = 64  # of a metrics.json


def explain(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="Transform, image, metrics.json, volumes.json, or the folder of a registration or "
            "segmentation.",
        ),
    ],
    like: Annotated[
        Path | None,
        typer.Option(
            metavar="FIXED", help="Fixed image of a transform: displacements over this image."
        ),
    ] = None,
    moving: Annotated[
        Path | None, typer.Option(metavar="IMAGE", help="Moving image of a transform: overlap.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, not sentences.")] = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Explain a file in plain words.

    Of a transform: its format, its direction and frame, rotation, translation, scales, largest
    displacement and folding. Of an image: its geometry, its intensities and what is unusual about
    them. Of a metrics.json and of the volumes.json of a segmentation: what each value means.
    """
    with screen.opened(f"explaining {file}", quiet, verbose) as shown:
        with slow_imports():
            import stn3d.inspection  # noqa: F401

        metrics, volumes = (Path(file) / name for name in ("metrics.json", "volumes.json"))
        if os.path.isfile(metrics):
            lines, content = _metrics(metrics)
            below, whole = _transform(file, like, moving)
            lines, content = [*lines, "", *below], {"metrics": content, "transform": whole}
        elif os.path.isfile(volumes):
            lines, content = _metrics(volumes)
        elif file.lower().endswith(".json") and not file.lower().endswith(".mrk.json"):
            lines, content = _metrics(Path(file))
        elif _is_image(file):
            lines, content = _image(Path(file))
        else:
            lines, content = _transform(file, like, moving)
        if as_json:
            typer.echo(json.dumps(content, indent=2))
        else:
            shown.lines(lines)


def _is_image(file: str) -> bool:
    """Whether a file is an image and not a transform; a field may have an image's extension."""
    from stn3d.io import format_of_spec
    from stn3d.io.transforms.dicom import is_registration_object

    if not (os.path.isdir(file) or file.lower().endswith(_IMAGES)):
        return False
    if file.lower().endswith(".dcm"):
        return not is_registration_object(file)
    try:
        format_of_spec(file)
    except InputError:
        return True
    return False


def _transform(
    spec: str, like: Path | None, moving: Path | None
) -> tuple[Sequence[str], dict[str, Any]]:
    from stn3d.inspection import summarise_transform
    from stn3d.io import format_of_spec, grid_of_reference, read_spec

    found = read_spec(spec, fixed=like, moving=moving)
    grids = [
        None if like is None else grid_of_reference(like, "fixed"),
        None if moving is None else grid_of_reference(moving, "moving"),
    ]
    for grid, path in zip(grids, (like, moving), strict=True):
        if grid is not None and grid.ndim != found.ndim:
            raise InputError(
                f"the transform {spec} is {found.ndim}D and {path} is {grid.ndim}D; give images of "
                "the transform's dimension."
            )
    summary = summarise_transform(found, *grids)
    format = format_of_spec(spec)
    about = choices.TRANSFORM_FORMATS[format].partition(":")[0]
    lines = [
        f"{spec}: transform, {found.ndim}D, format {format} ({about})",
        "direction: maps points of the fixed image to points of the moving image; the image moves "
        "the other way, from moving to fixed",
        "coordinates below: world RAS+ mm",
        *summary.lines(),
    ]
    return lines, {"file": spec, "format": format, **summary.as_dict()}


def _image(path: Path) -> tuple[Sequence[str], dict[str, Any]]:
    from stn3d.inspection import summarise_image

    summary = summarise_image(path)
    return [f"{path}: image", *summary.lines()], summary.as_dict()


def _metrics(path: Path) -> tuple[Sequence[str], dict[str, Any]]:
    from stn3d.inspection import explain_metrics, explain_volumes, is_segmentation
    from stn3d.io.texts import parse_json, read_text

    advice = "give the metrics.json of a registration or the volumes.json of a segmentation"
    try:
        content = parse_json(read_text(path, "JSON file", advice, _MOST_MB))
    except ValueError:
        raise InputError(f"{path} is not JSON; {advice}.") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no metrics; {advice}.")
    explained = explain_volumes if is_segmentation(content) else explain_metrics
    return explained(content), content
