"""Options that several commands share, or whose values the package knows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, get_args

import typer

from stn3d.registration.settings import Device, Estimator, Kind, MetricChoice, Preset, Settings


def one_of(known: Sequence[str], default: str) -> str:
    """What the help says of an option with a few values."""
    return f"{', '.join(known[:-1])} or {known[-1]}; {default} if not given."


OutFolder = Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")]
FixedVolume = Annotated[int | None, typer.Option(help="Which volume of a 4D FIXED, from 0.")]
MovingVolume = Annotated[int | None, typer.Option(help="Which volume of a 4D MOVING, from 0.")]
FixedMask = Annotated[Path | None, typer.Option(help="Voxels of the fixed image that count.")]
FixedExclude = Annotated[
    Path | None, typer.Option(help="Voxels of the fixed image that do not count: a lesion.")
]
MovingExclude = Annotated[
    Path | None, typer.Option(help="Voxels of the moving image that do not count: a lesion.")
]
_WINDOW = "head, lung, abdomen or bone of a CT, or LOW,HIGH: intensities told apart in the"
FixedWindow = Annotated[str | None, typer.Option(metavar="WINDOW", help=f"{_WINDOW} fixed image.")]
MovingWindow = Annotated[
    str | None, typer.Option(metavar="WINDOW", help=f"{_WINDOW} moving image.")
]
FixedChannels = Annotated[
    list[Path] | None,
    typer.Option("--fixed-channel", help="A further contrast on FIXED's grid; may be repeated."),
]
MovingChannels = Annotated[
    list[Path] | None,
    typer.Option("--moving-channel", help="The same contrast on MOVING's grid; in that order."),
]
ChannelWeights = Annotated[
    list[float] | None,
    typer.Option(
        "--channel-weight", help="One for each contrast, FIXED's own first; all alike by default."
    ),
]
FixedLabels = Annotated[Path | None, typer.Option(help="Label map of the fixed image, to score.")]
MovingLabels = Annotated[Path | None, typer.Option(help="Label map of the moving image, to score.")]
Threads = Annotated[int | None, typer.Option(help="CPU threads; torch's choice by default.")]
MaxMemory = Annotated[
    float | None,
    typer.Option(
        metavar="GB", help="Take a coarser finest level rather than more; 80 % of what is free."
    ),
]
TransformFile = Annotated[Path, typer.Argument(metavar="TRANSFORM", help="An ITK transform file.")]
OfKind = Annotated[str | None, typer.Option(help=one_of(get_args(Kind), Settings.kind))]
OfMetric = Annotated[str | None, typer.Option(help=one_of(get_args(MetricChoice), Settings.metric))]
OfPreset = Annotated[str | None, typer.Option(help=one_of(get_args(Preset), Settings.preset))]
OfEstimator = Annotated[
    str | None, typer.Option(help=one_of(get_args(Estimator), Settings.estimator))
]
OfDevice = Annotated[str | None, typer.Option(help=one_of(get_args(Device), Settings.device))]
