"""The results of a registration or an evaluation on the screen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stn3d.cli.screen import Screen

# Key in metrics.json, label in the table, format.
METRICS = (
    ("fov_overlap_pct", "overlap with the fixed image's field of view, %", ".1f"),
    ("correlation", "correlation", ".4f"),
    ("local_correlation", "local correlation", ".4f"),
    ("dice", "Dice, mean over labels", ".4f"),
    ("hd95_mm", "HD95, mean over labels, mm", ".3f"),
    ("tre_mm", "landmark error (TRE), mm", ".3f"),
    ("true_error_mm", "error vs. ground truth, mm", ".3f"),
    ("folding_pct", "folded voxels (det J <= 0), %", ".4f"),
    ("folding_whole_field_pct", "folded voxels in the whole field, %", ".4f"),
    ("log_jacobian_sd", "SD of log-Jacobian", ".4f"),
    ("inverse_consistency_error_mm", "inverse-consistency error, mm", ".4f"),
    ("framewise_displacement_mean_mm", "framewise displacement, mean, mm", ".3f"),
    ("framewise_displacement_max_mm", "framewise displacement, maximum, mm", ".3f"),
    ("rotation_max_deg", "rotation, maximum, degrees", ".3f"),
    ("translation_max_mm", "translation, maximum, mm", ".3f"),
)


def show_metrics(screen: Screen, **columns: Mapping[str, Any]) -> None:
    """A table of metrics, one column for each dictionary; what nobody measured is omitted."""
    rows = [
        [label, *(_cell(column.get(key), form) for column in columns.values())]
        for key, label, form in METRICS
        if any(column.get(key) is not None for column in columns.values())
    ]
    screen.table(["", *columns], rows)


def show_registration(screen: Screen, metrics: Mapping[str, Any]) -> None:
    """Metrics, linear parameters, automatic selections and excluded regions of a registration."""
    show_metrics(screen, before=metrics["before"], after=metrics["after"])
    if metrics["settings"]["kind"] != "deformable" or screen.verbose:
        _show_linear_parameters(screen, metrics["linear_parameters"])
    for what, selected in metrics["auto_selected"].items():
        screen.say(f"{what}: {selected['value']} (automatic), since {selected['reason']}")
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


def _show_linear_parameters(screen: Screen, parameters: Mapping[str, Any] | None) -> None:
    """Rotation, translation, scales and shears of the transform, or of its linear part."""
    if parameters is not None:
        from stn3d.transforms import LinearParameters

        for line in LinearParameters(**parameters).lines():
            screen.say(line)


def show_quality(screen: Screen, metrics: Mapping[str, Any]) -> None:
    """The quality status of a registration, with the reason and what to do."""
    quality = metrics["quality"]
    suggestion = f" {quality['suggestion']}" if quality["suggestion"] else ""
    screen.status(quality["status"], f"{quality['reason']}.{suggestion}")


def _show_details(screen: Screen, metrics: Mapping[str, Any]) -> None:
    """Initial transforms, times, settings and versions."""
    rows = [
        [one["name"], _cell(one["loss"], ".4f"), f"{100 * one['fov_overlap_fraction']:.1f}"]
        for one in metrics["initial_candidates"]
    ]
    screen.table(["initial transform", "loss", "overlap, %"], rows)
    for title in ("timings_s", "settings", "versions"):
        screen.detail(f"{title}: {_listed(metrics[title])}")
    screen.detail(f"device: {metrics['device']}, {metrics['threads']} threads")


def _listed(values: Mapping[str, Any], prefix: str = "") -> str:
    """``key value`` pairs in one line; keys of inner dictionaries as ``outer.inner``."""
    return ", ".join(
        _listed(value, f"{prefix}{key}.")
        if isinstance(value, Mapping)
        else f"{prefix}{key} {_plain(value)}"
        for key, value in values.items()
    )


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[" + " ".join(map(str, value)) + "]"
    return "none" if value is None else str(value)


def _cell(value: Any, form: str) -> str:
    """A number as text; of several, the mean with the 95th percentile and the maximum."""
    if isinstance(value, Mapping):
        mean, p95, largest = (_cell(value.get(key), form) for key in ("mean", "p95", "max"))
        return f"{mean} (p95 {p95}, max {largest})"
    return "-" if value is None else format(value, form)
