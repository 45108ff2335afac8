"""The command `segment`: images go to `stn3d.segmentation.segment_files`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stn3d import choices
from stn3d.cli import options, progress, screen
from stn3d.cli.file_options import FILES
from stn3d.cli.process import slow_imports
from stn3d.cli.screen import Screen

if TYPE_CHECKING:  # it imports torch
    from stn3d.segmentation.batch import SegmentedFile

_Images = Annotated[
    list[Path],
    typer.Argument(
        metavar="IMAGE",
        help="Heads or brains of any contrast: NIfTI, MGH, NRRD, MetaImage or the folder of a "
        "DICOM series.",
    ),
]
_Volume = Annotated[
    int | None,
    typer.Option(metavar="N", help="Volume of 4D images, counted from 0."),
]
_Weights = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Weights of a segmentation network that stn3d train wrote. Default: those of the "
        "package.",
    ),
]
_ImageFormat = Annotated[
    str,
    options.choice(
        "image-format",
        FILES,
        choices.VolumeSuffix,
        options.described("Format of the images", choices.VOLUME_SUFFIXES, ".nii.gz"),
    ),
]
_Probabilities = Annotated[
    bool,
    typer.Option(
        "--probabilities",
        rich_help_panel=FILES,
        help="Also write probabilities.nii.gz: a volume for each row of labels.tsv.",
    ),
]
_Uncertainty = Annotated[
    bool,
    typer.Option(
        "--uncertainty",
        rich_help_panel=FILES,
        help="Also write uncertainty.nii.gz: the entropy of each voxel's probabilities, from 0 to "
        "1.",
    ),
]
_NoPicture = Annotated[
    bool,
    typer.Option("--no-picture", rich_help_panel=FILES, help="Leave out segmentation.png."),
]
_AsJson = Annotated[
    bool,
    typer.Option(
        "--json",
        rich_help_panel=FILES,
        help="Print the content of volumes.json (a list for several images), not a table.",
    ),
]


def segment(
    images: _Images,
    out: options.OutFolder,
    volume: _Volume = None,
    weights: _Weights = None,
    image_format: _ImageFormat = ".nii.gz",
    probabilities: _Probabilities = False,
    uncertainty: _Uncertainty = False,
    no_picture: _NoPicture = False,
    as_json: _AsJson = False,
    device: options.Device = None,
    threads: options.Threads = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Label the structures of a head in an image of any contrast, and mask its brain.

    Writes labels.nii.gz (FreeSurfer's numbers) on the image's grid, mask.nii.gz, labels.tsv (names
    and colours), volumes.csv, volumes.json and segmentation.png into --out; of several images into
    a folder for each, and the volumes of all into volumes.csv.

    Prints a quality status: good, check, or failed where the network does not know what the image
    shows (then the exit code is 3).
    """
    several = f"{len(images)} images" if len(images) > 1 else images[0].name
    with screen.opened(f"segmenting {several}", quiet, verbose) as opened:
        shown = opened.beside(as_json)
        with slow_imports():
            from stn3d.nets.weights import load_weights
            from stn3d.segmentation.batch import segment_files
            from stn3d.segmentation.outputs import SegmentationOutputs

        suffix: Any = image_format
        outputs = SegmentationOutputs(
            image_suffix=suffix,
            probabilities=probabilities,
            uncertainty=uncertainty,
            picture=not no_picture,
        )
        settings = {
            "volume": volume,
            "device": device or "auto",
            "threads": threads,
            "network": None if weights is None else load_weights(weights, "segmentation"),
        }
        with progress.work(shown) as show:
            each = show if len(images) > 1 else None
            found = segment_files(images, out, outputs=outputs, progress=each, **settings)
        if as_json:
            metrics = [one.metrics for one in found]
            typer.echo(json.dumps(metrics if len(found) > 1 else metrics[0], indent=2))
        _show(found, shown, out)
    _end(found)


def _show(found: Sequence[SegmentedFile], shown: Screen, out: Path) -> None:
    """The volumes of an image, or a line for each of several; the files; the status."""
    only = found[0].metrics if len(found) == 1 else None
    if only is None:
        shown.table(["image", "status", "brain mask, ml", "uncertainty"], [*map(_row, found)])
        for one in found:
            if one.error:
                screen.error(one.error)
            elif one.metrics is not None and one.metrics["quality"]["status"] != "good":
                shown.say(f"{one.name}: {_sentence(one.metrics)}")
        folders = [one.files[0].parent for one in found if one.files]
        if folders:
            shown.wrote([out / "volumes.csv", *folders])
        return
    shown.table(["", "left, ml", "right, ml"], _structures(only))
    shown.say(f"brain mask: {only['brain_mask_ml']:.1f} ml")
    if shown.verbose:
        shown.say("times, s: " + ", ".join(f"{k} {v}" for k, v in only["timings_s"].items()))
    shown.wrote(found[0].files, final=False)
    shown.status(only["quality"]["status"], _sentence(only).partition("; ")[2])


def _row(one: SegmentedFile) -> list[str]:
    if one.metrics is None:
        return [one.name, "error", "-", "-"]
    quality = one.metrics["quality"]
    uncertainty = quality["measures"]["uncertainty_mean"]
    shown = "-" if uncertainty is None else f"{uncertainty:.3f}"
    return [one.name, quality["status"], f"{one.metrics['brain_mask_ml']:.1f}", shown]


def _structures(metrics: Mapping[str, Any]) -> list[list[str]]:
    """A row for each structure; those without a side in the first column."""
    rows: dict[str, list[str]] = {}
    for one in metrics["structures"]:
        side, _, rest = one["name"].partition(" ")
        name = rest if side in ("left", "right") else one["name"]
        rows.setdefault(name, [name]).append(f"{one['volume_ml']:.2f}")
    return [[*row, ""][:3] for row in rows.values()]


def _sentence(metrics: Mapping[str, Any]) -> str:
    """The status with its reason and what to do."""
    quality = metrics["quality"]
    return f"{quality['status']}; {quality['reason']}. {quality['suggestion']}".rstrip()


def _end(found: Sequence[SegmentedFile]) -> None:
    """Exit codes: 2 if an image could not be read, 3 if the network does not know one."""
    if any(one.error for one in found):
        raise typer.Exit(2)
    if any(one.metrics and one.metrics["quality"]["status"] == "failed" for one in found):
        raise typer.Exit(3)
