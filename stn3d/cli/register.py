"""The command `register`: options go to `stn3d.register`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from stn3d.cli import file_options, options, progress, screen, summary
from stn3d.cli.process import slow_imports
from stn3d.cli.screen import Screen
from stn3d.cli.setting_options import with_settings


@with_settings
def register(
    fixed: options.Fixed,
    moving: options.Moving,
    out: options.OutFolder,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    fixed_volume: options.FixedVolume = None,
    moving_volume: options.MovingVolume = None,
    fixed_channel: options.FixedChannels = None,
    moving_channel: options.MovingChannels = None,
    channel_weight: options.ChannelWeights = None,
    fixed_mask: options.FixedMask = None,
    moving_mask: options.MovingMask = None,
    fixed_exclude: options.FixedExclude = None,
    moving_exclude: options.MovingExclude = None,
    fixed_window: options.FixedWindow = None,
    moving_window: options.MovingWindow = None,
    fixed_colour: options.FixedColour = None,
    moving_colour: options.MovingColour = None,
    *,
    settings: dict[str, Any],
    fixed_labels: options.FixedLabels = None,
    moving_labels: options.MovingLabels = None,
    fixed_points: options.FixedPoints = None,
    moving_points: options.MovingPoints = None,
    image_format: file_options.ImageFormat = ".nii.gz",
    jacobian: file_options.Jacobian = False,
    dicom: file_options.Dicom = False,
    bids: file_options.Bids = False,
    no_report: file_options.NoReport = False,
) -> None:
    """Find the transform that aligns MOVING with FIXED, and warp MOVING onto FIXED's grid.

    Writes moved.nii.gz, transform.h5, inverse.h5, metrics.json and a report (stn3d view) into the
    folder --out, and prints a quality status: good, check or failed (then the exit code is 3).
    """
    init = settings["init"]
    settings["init"] = tuple(init) if init and len(init) > 1 else init and init[0]
    settings["channel_weights"] = channel_weight
    sides = {
        "mask": (fixed_mask, moving_mask),
        "exclude": (fixed_exclude, moving_exclude),
        "channels": (fixed_channel or (), moving_channel or ()),
        "labels": (fixed_labels, moving_labels),
        "landmarks": (fixed_points, moving_points),
        "window": (fixed_window, moving_window),
        "volume": (fixed_volume, moving_volume),
        "colour": (fixed_colour, moving_colour),
    }
    with screen.opened(f"registering {moving.name} to {fixed.name}", quiet, verbose) as shown:
        files: dict[str, Any] = {"jacobian": jacobian, "dicom": dicom, "bids": bids}
        files |= {"image_suffix": image_format, "report": not no_report}
        _register((fixed, moving), sides, settings, (out, files), shown)


def _register(
    images: tuple[Path, Path],
    sides: Mapping[str, tuple[Any, Any]],
    settings: Mapping[str, Any],
    output: tuple[Path, Mapping[str, Any]],
    shown: Screen,
) -> None:
    """Run a registration and show it.

    Args:
        images: fixed and moving image.
        sides: arguments of `RegistrationImage`, of the fixed and of the moving image.
        settings: further arguments of `stn3d.register`.
        output: folder for the results, and arguments of `Outputs`.
        shown: shows progress and results.
    """
    with slow_imports():
        from stn3d.io import refuse_inputs
        from stn3d.registration.api import register as run
        from stn3d.registration.folders import results_folder
        from stn3d.registration.inputs import RegistrationImage
        from stn3d.registration.outputs import Outputs
        from stn3d.registration.stages import ProgressEvent

    out, outputs = output[0], Outputs(**output[1])
    labels = sides["labels"][1] is not None
    names = outputs.files(*map(str, images), labels=labels, uncertainty=True)
    inputs = [*images, *sides.values(), *settings.values()]
    refuse_inputs([out / name for name in names.values()], inputs)
    outputs.check(images[0])
    fixed, moving = (
        RegistrationImage(image, **{key: both[role] for key, both in sides.items()})
        for role, image in enumerate(images)
    )
    with results_folder(out) as folder, progress.registration(shown) as show:
        registration = run(fixed, moving, **settings, progress=show)
        show(ProgressEvent("save", 1.0))
        files = registration.save(folder, outputs)
    summary.show_registration(shown, registration.metrics)
    shown.wrote(files, final=False)
    summary.show_quality(shown, registration.metrics)
    if registration.metrics["quality"]["status"] == "failed":
        raise typer.Exit(3)
