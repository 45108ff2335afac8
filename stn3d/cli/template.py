"""The command `template`: images go to `stn3d.template.build` or `build_within_subject`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stn3d import choices
from stn3d.cli import file_options, options, progress, screen
from stn3d.cli.process import slow_imports
from stn3d.cli.screen import Screen
from stn3d.errors import InputError

if TYPE_CHECKING:
    from stn3d.template import Template

_GROUP, _VISITS = "Group template", "Within-subject template"

_Images = Annotated[
    list[Path],
    typer.Argument(metavar="IMAGES...", help="Images of one modality, two or more, of any grids."),
]
_Iterations = Annotated[
    int | None,
    typer.Option(
        "--iterations",
        metavar="N",
        rich_help_panel=options.METHOD,
        help="Number of updates of shape and intensity. Default: 4; 2 with --within-subject.",
    ),
]
_Spacing = Annotated[
    float | None,
    typer.Option(
        "--spacing",
        metavar="MM",
        rich_help_panel=options.METHOD,
        help="Edge length of the template's voxels, which are isotropic. Default: the median over "
        "the images of the cube root of the voxel volume.",
    ),
]
_Sharpening = Annotated[
    float,
    typer.Option(
        "--sharpening",
        metavar="STRENGTH",
        show_default=False,
        rich_help_panel=options.METHOD,
        help="Strength of the unsharp mask on each mean. Default: 0, none, with which labels "
        "match better through the template.",
    ),
]
_Metric = Annotated[
    str,
    options.choice(
        "metric",
        options.METHOD,
        choices.MetricChoice,
        options.described("Similarity metric", choices.METRIC_CHOICES, choices.AUTOMATIC.same),
    ),
]
_Preset = Annotated[
    str,
    options.choice(
        "preset",
        options.METHOD,
        choices.Preset,
        options.described(
            "Preset of the last iteration and the final registrations; earlier ones use fast",
            choices.PRESETS,
            "default",
        ),
    ),
]
_Symmetric = Annotated[
    bool,
    typer.Option(
        "--symmetric",
        rich_help_panel=_GROUP,
        help="Make the template symmetric: each image takes part with its mirror image.",
    ),
]
_Start = Annotated[
    Path | None,
    typer.Option(
        "--start",
        metavar="IMAGE",
        rich_help_panel=_GROUP,
        help="Initial target. Default: the image whose foreground has the median volume.",
    ),
]
_WithinSubject = Annotated[
    bool,
    typer.Option(
        "--within-subject",
        rich_help_panel=_VISITS,
        help="IMAGES are visits of one subject, in the order of time: rigid template halfway "
        "between them, with no bias towards a visit.",
    ),
]
_Jacobian = Annotated[
    bool,
    typer.Option(
        "--jacobian",
        rich_help_panel=_VISITS,
        help="Also deform the visits, and write maps of the volume change: jacobian.nii.gz (visit "
        "over template) and changes/A_to_B.nii.gz (visit B over visit A).",
    ),
]
_Labels = Annotated[
    list[Path] | None,
    typer.Option(
        "--labels",
        metavar="IMAGE",
        rich_help_panel=_VISITS,
        help="Label map of a visit; repeated, one for each visit in the same order. With "
        "--jacobian, the volume changes of the labels are reported in ml.",
    ),
]
_Jobs = Annotated[
    int,
    typer.Option(
        "--jobs",
        metavar="N",
        rich_help_panel=options.COMPUTING,
        help="Registrations at a time, each in a process of its own; they share the threads.",
    ),
]


def template(
    images: _Images,
    out: options.OutFolder,
    iterations: _Iterations = None,
    metric: _Metric = choices.AUTOMATIC.same,
    preset: _Preset = "default",
    spacing: _Spacing = None,
    sharpening: _Sharpening = 0.0,
    large_motion: options.LargeMotion = None,
    config: options.Config = None,
    symmetric: _Symmetric = False,
    start: _Start = None,
    within_subject: _WithinSubject = False,
    jacobian: _Jacobian = False,
    labels: _Labels = None,
    jobs: _Jobs = 1,
    threads: options.Threads = None,
    max_memory: options.MaxMemory = None,
    no_report: file_options.NoReport = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Unbiased template of a group of images, or of the visits of one subject.

    Writes template.nii.gz and template.json into --out, and a folder for each image with
    transform.h5 (template to image points), inverse.h5, moved.nii.gz, metrics.json and a report;
    index.html shows all of them. The result depends neither on the order of the images nor, beyond
    small differences, on the initial target.

    An interrupted build continues when the command is repeated.
    """
    unused = {"--jacobian": jacobian, "--labels": labels}
    if not within_subject and any(unused.values()):
        name = next(name for name, value in unused.items() if value)
        raise InputError(f"{name} belongs to visits of one subject; add --within-subject.")
    if within_subject and start is not None:
        raise InputError("--start biases a within-subject template towards an image; omit it.")
    settings = {
        "iterations": (2 if within_subject else 4) if iterations is None else iterations,
        "sharpening": sharpening,
        "preset": preset,
        "metric": metric,
        "symmetric": symmetric,
        "spacing_mm": spacing,
        "large_motion": large_motion,
        "config": config,
        "threads": threads,
        "jobs": jobs,
        "max_memory": max_memory,
    }
    visits = {"jacobian": jacobian, "labels": labels or ()} if within_subject else None
    doing = "visits" if within_subject else "images"
    with screen.opened(f"building a template of {len(images)} {doing}", quiet, verbose) as shown:
        _build((images, start), out, settings, visits, (not no_report, shown))


def _build(
    inputs: tuple[list[Path], Path | None],
    out: Path,
    settings: Mapping[str, Any],
    visits: Mapping[str, Any] | None,
    output: tuple[bool, Screen],
) -> None:
    """Build a template and show it.

    Args:
        inputs: the images, and the initial target.
        out: folder of the results.
        settings: arguments of `TemplateSettings`.
        visits: arguments of `build_within_subject`; None for a group.
        output: whether to write reports, and what shows progress and results.
    """
    (images, start), (report, shown) = inputs, output
    with slow_imports():
        from stn3d.registration.outputs import Outputs
        from stn3d.template import TemplateSettings, build, build_within_subject

    chosen, files = TemplateSettings(**settings), Outputs(report=report)
    with progress.work(shown) as show:
        if visits is None:
            found = build(images, out, start=start, settings=chosen, outputs=files, progress=show)
        else:
            found = build_within_subject(
                images, out, settings=chosen, outputs=files, progress=show, **visits
            )
    _show(found, shown)
    names = ("template.nii.gz", "template.json", "index.html")
    shown.wrote([path for name in names if (path := found.folder / name).exists()])


def _show(found: Template, shown: Screen) -> None:
    """The iterations, the volume changes and the registrations that need a look."""
    content = found.metrics
    columns = {
        "mean_displacement_mm": ("mean displacement, mm", ".3f"),
        "relative_change": ("change of intensity", ".4f"),
        "sharpness": ("sharpness, 1/mm", ".3f"),
    }
    rows = [
        [
            number,
            *(format(one[key], form) if key in one else "" for key, (_, form) in columns.items()),
        ]
        for number, one in enumerate(content["iterations"])
    ]
    if rows:
        shown.table(["iteration", *(name for name, _ in columns.values())], rows)
    if "forward_backward_mm" in content:
        shown.say(
            f"pairs of visits: both directions agree within {content['forward_backward_mm']:.3f} mm"
        )
    changes = content.get("volume_changes", [])
    if changes:
        names = ("label", "from", "to", "change_ml", "change_pct")
        table = [[one[n] if n in names[:3] else f"{one[n]:.3f}" for n in names] for one in changes]
        shown.table(["label", "from", "to", "change, ml", "change, %"], table)
    for one in content["images"]:
        if one.get("status", "good") != "good":
            shown.say(f"{one['name']}: {one['status']}; {one['reason']}")
