"""The results of a registration or an evaluation on the screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stn3d.cli.screen import Screen

# Key in metrics.json, label in the table, format; docs/metrics.md defines each metric.
METRICS = (
    ("fov_overlap_pct", "field-of-view overlap, %", ".1f"),
    ("correlation", "correlation", ".4f"),
    ("local_correlation", "local correlation", ".4f"),
    ("dice", "Dice, mean over labels", ".4f"),
    ("hd95_mm", "HD95, mean over labels, mm", ".3f"),
    ("hd95_vox", "HD95, mean over labels, voxels", ".3f"),
    ("assd_mm", "ASSD, mean over labels, mm", ".3f"),
    ("nsd", "surface Dice (NSD), mean over labels", ".4f"),
    ("tre_mm", "landmark error (TRE), mm", ".3f"),
    ("landmark_robustness", "landmarks improved, 0 to 1", ".3f"),
    ("true_error_mm", "error vs. ground truth, mm", ".3f"),
    ("folding_pct", "folded voxels (det J <= 0), %", ".4f"),
    ("folding_whole_field_pct", "folded voxels, whole image, %", ".4f"),
    ("ndv_pct", "non-diffeomorphic volume (NDV), %", ".4f"),
    ("log_jacobian_sd", "SD of log-Jacobian", ".4f"),
    ("sdlogj", "SD of log(det J + 3) (SDlogJ)", ".4f"),
    ("inverse_consistency_error_mm", "inverse-consistency error, mm", ".3f"),
    ("framewise_displacement_mean_mm", "framewise displacement, mean, mm", ".3f"),
    ("framewise_displacement_max_mm", "framewise displacement, maximum, mm", ".3f"),
    ("rotation_max_deg", "rotation, maximum, degrees", ".3f"),
    ("translation_max_mm", "translation, maximum, mm", ".3f"),
)
_TINY_MM = 1e-2  # three decimals would show a single digit of a length below this
REGIONS = {
    "mask": "fixed mask",
    "foreground": "foreground of the fixed image",
    "image": "whole fixed image",
}


def show_metrics(screen: Screen, **columns: Mapping[str, Any]) -> None:
    """A table of metrics, one column for each dictionary, and the region they are computed in.

    Metrics that nobody measured are omitted.
    """
    measured = [
        (label, form, [column.get(key) for column in columns.values()])
        for key, label, form in METRICS
    ]
    rows = [
        [label, *(_cell(value, _form(label, form, values)) for value in values)]
        for label, form, values in measured
        if any(value is not None for value in values)
    ]
    losses = [column.get("image_loss") for column in columns.values()]
    known = next((loss for loss in losses if loss is not None), None)
    if known is not None:
        label = f"image loss ({known['metric']}, {known['spacing_mm']:.3g} mm)"
        values = [_cell(loss and loss["value"], ".4f") for loss in losses]
        rows.insert(1, [label, *values])
    screen.table(["", *columns], rows)
    last = list(columns.values())[-1]
    if any(isinstance(last.get(key), Mapping) for key, _, _ in METRICS):
        screen.say("errors: mean (95th percentile, maximum)")
    if "region" in last:
        region = last["region"]
        name = REGIONS.get(region["name"], region["name"])
        screen.say(f"region: {name}, {region['voxels']} voxels ({region['image_pct']:.1f} %)")


def show_registration(screen: Screen, metrics: Mapping[str, Any]) -> None:
    """The metrics of a registration, its parameters, selections and excluded regions."""
    show_metrics(screen, before=metrics["before"], after=metrics["after"])
    kind = metrics["settings"]["kind"]
    if metrics["linear_parameters"] is not None and (kind != "deformable" or screen.verbose):
        name = "affine part" if kind == "deformable" else f"{kind} transform"
        show_parameters(screen, name, metrics["linear_parameters"])
    for role in ("fixed", "moving"):
        if metrics[role]["colour"] is not None:
            screen.say(f"{role} image: registered by {metrics[role]['colour']}")
    if metrics["geometry"]["note"] is not None:
        screen.say(f"note: {metrics['geometry']['note']}")
    for what, selected in metrics["auto_selected"].items():
        screen.say(f"{what}: {selected['choice']} (automatic), since {selected['reason']}")
    if metrics["outside_value"] != 0:
        value = metrics["outside_value"]
        shown = "nan" if value is None else f"{value:g}"
        screen.say(f"outside the field of view of the moving image: {shown}")
    if metrics["used_in_optimisation"]:
        used = " and ".join(metrics["used_in_optimisation"])
        screen.say(
            f"note: {used} were used in the registration, so their metrics are not an independent "
            "test"
        )
    for role, part in metrics["excluded_regions"].items():
        screen.say(
            f"excluded region of the {role} image: {part['volume_ml']:.2f} ml, "
            f"{part['volume_after_ml']:.2f} ml in the other image "
            f"({_cell(part['volume_change_pct'], '+.1f')} %; "
            f"its surroundings {_cell(part['surrounding_volume_change_pct'], '+.1f')} %)"
        )
    if screen.verbose:
        _show_details(screen, metrics)


def show_quality(screen: Screen, metrics: Mapping[str, Any]) -> None:
    """The quality status of a registration, with the reason and what to do."""
    quality = metrics["quality"]
    suggestion = f" {quality['suggestion']}" if quality["suggestion"] else ""
    screen.status(quality["status"], f"{quality['reason']}.{suggestion}")
    for warning in quality.get("warnings", ()):
        screen.say(f"warning: {warning}")


def show_parameters(screen: Screen, name: str, parameters: Mapping[str, Any]) -> None:
    """The parameters of a linear transform, a line for each group.

    Args:
        screen: where to show them.
        name: of the transform.
        parameters: fields of `stn3d.transforms.LinearParameters`.
    """
    from stn3d.transforms import LinearParameters

    screen.say(f"{name}, fixed points to moving points:")
    for line in LinearParameters(**parameters).lines():
        screen.say(f"- {line}")


def _show_details(screen: Screen, metrics: Mapping[str, Any]) -> None:
    """Initial transforms, times, settings and versions."""
    rows = [
        [one["name"], _cell(one["loss"], ".4f"), f"{100 * one['fov_overlap_fraction']:.1f}"]
        for one in metrics["initial_candidates"]
    ]
    screen.table(["initial transform", "loss", "field-of-view overlap, %"], rows)
    settings = metrics["settings"]
    plain = {key: value for key, value in settings.items() if not isinstance(value, Mapping)}
    screen.say(f"settings: {_listed(plain)}")
    for key, value in settings.items():
        if isinstance(value, Mapping):
            screen.say(f"settings, {key} stages: {_listed(value)}")
    screen.say(f"times, s: {_listed(metrics['timings_s'])}")
    screen.say(f"versions: {_listed(metrics['versions'])}")
    screen.say(f"device: {metrics['device']}, {metrics['threads']} threads")


def _listed(values: Mapping[str, Any]) -> str:
    """``key value`` pairs in one line."""
    return ", ".join(f"{key} {_plain(value)}" for key, value in values.items())


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[" + " ".join(map(str, value)) + "]"
    return "none" if value is None else str(value)


def _form(label: str, form: str, values: Sequence[Any]) -> str:
    """The format of a row; significant digits for lengths that decimals would hide."""
    numbers = [n for v in values for n in (v.values() if isinstance(v, Mapping) else [v]) if n]
    tiny = label.endswith(", mm") and 0 < max(map(abs, numbers), default=0) < _TINY_MM
    return ".3g" if tiny else form


def _cell(value: Any, form: str) -> str:
    """A number as text; of several, the mean with the 95th percentile and the maximum."""
    if isinstance(value, Mapping):
        mean, p95, largest = (_cell(value.get(key), form) for key in ("mean", "p95", "max"))
        return f"{mean} ({p95}, {largest})"
    return "-" if value is None else format(value, form)
