"""Options that commands share or that have a few values: panels, descriptions, checks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from stn3d import choices
from stn3d.choices import check_choice

INPUTS = "Inputs"
METHOD = "Method"
REGIONS = "Masks and intensity windows"
LABELS = "Labels and landmarks"
COMPUTING = "Computing"
_POINT_FILES = "CSV or TSV (x,y,z in RAS+ mm), .mrk.json, .fcsv, or a surface's vertices"


def described(what: str, values: Mapping[str, str], default: str) -> str:
    """The help of an option with a few values: a line for each, and the default."""
    lines = (f"[bold]{name}[/bold]: {text}." for name, text in values.items())
    return "\n\n".join([f"{what}. Default: {default}.", *lines])


def _option(metavar: str, panel: str | None, help: str, *names: str) -> Any:
    return typer.Option(*names, metavar=metavar, rich_help_panel=panel, help=help)


def choice(name: str, panel: str | None, known: Any, help: str) -> Any:
    """An option with a few values; others are refused before anything slow is imported."""

    def check(value: str | None) -> str | None:
        if value is not None:
            check_choice(name, value, known)
        return value

    def complete(incomplete: str) -> list[str]:
        return [value for value in get_args(known) if value.startswith(incomplete)]

    return typer.Option(
        f"--{name}",
        metavar=name.upper(),
        rich_help_panel=panel,
        callback=check,
        autocompletion=complete,
        show_default=False,
        help=help,
    )


def described_choice(
    name: str, known: Any, what: str, values: Mapping[str, str], default: str = "auto"
) -> Any:
    """An option of the method with a few values, which the help describes."""
    return choice(name, METHOD, known, described(what, values, default))


# -- all commands ---------------------------------------------------------------------------------

OutFolder = Annotated[
    Path, typer.Option("--out", "-o", metavar="FOLDER", help="Folder for the results.")
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print only errors and the final status line.")
]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Print more: settings, times and versions.")
]
Threads = Annotated[
    int | None, _option("N", COMPUTING, "Number of CPU threads. Default: PyTorch's.")
]

# -- inputs ---------------------------------------------------------------------------------------

Fixed = Annotated[Path, typer.Argument(metavar="FIXED", help="Fixed (reference, target) image.")]
Moving = Annotated[
    Path, typer.Argument(metavar="MOVING", help="Moving (source) image, warped onto FIXED.")
]
TransformFile = Annotated[
    Path,
    typer.Argument(metavar="TRANSFORM", help="ITK transform file (.h5, .tfm, .txt or .mat)."),
]
FixedVolume = Annotated[
    int | None, _option("N", INPUTS, "Volume of a 4D fixed image, counted from 0.")
]
MovingVolume = Annotated[
    int | None, _option("N", INPUTS, "Volume of a 4D moving image, counted from 0.")
]
FixedChannels = Annotated[
    list[Path] | None,
    _option(
        "IMAGE",
        INPUTS,
        "Additional image channel on FIXED's grid; may be repeated.",
        "--fixed-channel",
    ),
]
MovingChannels = Annotated[
    list[Path] | None,
    _option(
        "IMAGE",
        INPUTS,
        "Additional image channel on MOVING's grid; same order as --fixed-channel.",
        "--moving-channel",
    ),
]
ChannelWeights = Annotated[
    list[float] | None,
    _option(
        "WEIGHT",
        INPUTS,
        "Weight of each channel in order, FIXED itself first; repeated. Default: equal weights.",
        "--channel-weight",
    ),
]

# -- method ---------------------------------------------------------------------------------------

Kind = Annotated[
    str | None, described_choice("kind", choices.Kind, "Kind of transform", choices.KINDS)
]
Metric = Annotated[
    str | None,
    described_choice(
        "metric", choices.MetricChoice, "Similarity metric of the images", choices.METRIC_CHOICES
    ),
]
Preset = Annotated[
    str | None,
    described_choice("preset", choices.Preset, "Levels and iterations", choices.PRESETS, "default"),
]
_INITIAL = (
    "a transform file of any format, FORMAT:FILE, inverse:FILE or the folder of a registration; "
    "repeated, in the order of a fixed point"
)
Init = Annotated[
    list[str] | None,
    _option(
        "METHOD|TRANSFORM",
        METHOD,
        described(
            "Initial transform",
            {**choices.INITIAL_METHODS, "TRANSFORM": _INITIAL},
            "auto",
        ),
    ),
]
Estimator = Annotated[
    str | None,
    described_choice(
        "estimator", choices.Estimator, "Estimator of the transform", choices.ESTIMATORS
    ),
]
DeformableWeights = Annotated[
    Path | None,
    _option(
        "FILE",
        METHOD,
        "Weights of a deformable network that stn3d train wrote, for --estimator network and both.",
    ),
]
Features = Annotated[
    str | None,
    described_choice(
        "features", choices.Features, "Features of the deformable stage", choices.FEATURES
    ),
]
Structures = Annotated[
    str | None,
    described_choice(
        "structures",
        choices.Structures,
        "Structures of heads in the quality check",
        choices.STRUCTURES,
    ),
]
_LARGE_MOTION = described(
    "Discrete search over displacements before the deformable stage", choices.LARGE_MOTION, "auto"
)
LargeMotion = Annotated[
    str | None, choice("large-motion", METHOD, choices.LargeMotionChoice, _LARGE_MOTION)
]
Config = Annotated[
    Path | None,
    _option(
        "FILE",
        METHOD,
        "YAML file with these and advanced settings. Options on the command line win over it.",
    ),
]
LandmarkKind = Annotated[
    str,
    choice(
        "kind",
        None,
        choices.LandmarkKind,
        described("Kind of transform", choices.LANDMARK_KINDS, "rigid"),
    ),
]
ImageInterpolation = Annotated[
    str,
    choice(
        "interpolation",
        None,
        choices.ImageInterpolation,
        described("Interpolation", choices.IMAGE_INTERPOLATIONS, "auto"),
    ),
]


def _check_fill(value: str | None) -> str | None:
    if value is not None:
        choices.fill_choice(value)
    return value


_FILL: Any = typer.Option(
    "--fill",
    metavar="VALUE|background|nan",
    rich_help_panel=METHOD,
    callback=_check_fill,
    show_default=False,
    help=described("Value where the moving image shows nothing", choices.FILLS, "auto"),
)
Fill = Annotated[str, _FILL]
RegisterFill = Annotated[str | None, _FILL]

# -- masks and intensity windows ------------------------------------------------------------------

_MASK = "Binary mask of {}: only these voxels contribute to the metric."
_EXCLUSION = "Exclusion mask of {}, such as a lesion: the metric ignores these voxels."
_WINDOW = "Intensity window of {}: head, lung, abdomen or bone for CT in HU, or LOW,HIGH."
FixedMask = Annotated[Path | None, _option("IMAGE", REGIONS, _MASK.format("FIXED"))]
MovingMask = Annotated[Path | None, _option("IMAGE", REGIONS, _MASK.format("MOVING"))]
FixedExclude = Annotated[Path | None, _option("IMAGE", REGIONS, _EXCLUSION.format("FIXED"))]
MovingExclude = Annotated[Path | None, _option("IMAGE", REGIONS, _EXCLUSION.format("MOVING"))]
FixedWindow = Annotated[str | None, _option("WINDOW", REGIONS, _WINDOW.format("FIXED"))]
MovingWindow = Annotated[str | None, _option("WINDOW", REGIONS, _WINDOW.format("MOVING"))]

FixedColour = Annotated[
    str | None,
    choice(
        "fixed-colour",
        REGIONS,
        choices.ColourChannel,
        described("Channel of a colour FIXED", choices.COLOUR_CHANNELS, "luminance"),
    ),
]
MovingColour = Annotated[
    str | None,
    choice(
        "moving-colour",
        REGIONS,
        choices.ColourChannel,
        "Channel of a colour MOVING, as for FIXED; all channels are warped. Default: luminance.",
    ),
]

# -- labels and landmarks -------------------------------------------------------------------------

FixedLabels = Annotated[
    Path | None, _option("IMAGE", LABELS, "Label map of the fixed image, for Dice and HD95.")
]
MovingLabels = Annotated[
    Path | None, _option("IMAGE", LABELS, "Label map of the moving image, for Dice and HD95.")
]
LabelWeight = Annotated[
    float | None,
    _option(
        "WEIGHT",
        LABELS,
        "Weight of the label-overlap term relative to the image term. Default: 0, which only "
        "evaluates the labels.",
    ),
]
FixedPoints = Annotated[
    Path | None,
    _option("FILE", LABELS, f"Landmarks in FIXED, used as soft constraints: {_POINT_FILES}."),
]
MovingPoints = Annotated[Path | None, _option("FILE", LABELS, "The same landmarks in MOVING.")]
LandmarkWeight = Annotated[
    float | None,
    _option(
        "WEIGHT",
        LABELS,
        "Weight of the landmark term relative to the image term. Default: 1; 0 only reports the "
        "TRE.",
    ),
]
EvaluatedFixedPoints = Annotated[
    Path | None,
    _option("FILE", LABELS, f"Landmarks in the fixed image, for the TRE: {_POINT_FILES}."),
]
EvaluatedMovingPoints = Annotated[
    Path | None, _option("FILE", LABELS, "The same landmarks in the moving image.")
]

# -- computing ------------------------------------------------------------------------------------


def _check_device(value: str | None) -> str | None:
    """Refuse unknown devices before anything slow is imported."""
    if value is not None:
        choices.check_device(value)
    return value


Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="DEVICE",
        rich_help_panel=COMPUTING,
        callback=_check_device,
        show_default=False,
        help=described("Device", choices.DEVICES, "auto"),
    ),
]
MaxMemory = Annotated[
    float | None,
    _option(
        "GB",
        COMPUTING,
        "Memory limit; the finest level is coarsened if needed. Default: 80 % of free RAM.",
    ),
]
Seed = Annotated[int | None, _option("N", COMPUTING, "Random seed. Default: 0.")]
