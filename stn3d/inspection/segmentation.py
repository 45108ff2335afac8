"""A volumes.json in plain words; docs/segmentation.md defines its keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stn3d.inspection.words import (
    list_of,
    mapping_of,
    number,
    number_of,
    quality_lines,
    sizes,
    text_of,
)

_STATUS = {
    "good": "the network knows what the image shows",
    "check": "look at segmentation.png before you use the result",
    "failed": "the network does not know what the image shows; do not use the result",
}
# Key, what it measures, what its value means.
_MEASURES = (
    ("uncertainty_mean", "uncertainty in the brain", "0 to 1; lower is better"),
    ("brain_at_edge_fraction", "surface of the brain at the edge of the image", "0 to 1; above 0 "
     "the brain may be cut"),
    ("least_relative_volume", "smallest of three structures, relative to the usual volume",
     "about 1 in complete heads"),
)  # fmt: skip
_SIDES = ("left", "right")


def is_segmentation(content: Mapping[str, Any]) -> bool:
    """Whether a JSON object is the content of a volumes.json."""
    return "brain_mask_ml" in content and "structures" in content


def explain_volumes(content: Mapping[str, Any]) -> list[str]:
    """The content of a volumes.json in plain words.

    Args:
        content: the parsed JSON object; what is missing or of another type is omitted.

    Returns:
        Lines of text, the most important first.
    """
    quality = mapping_of(content.get("quality"))
    return [
        *_image(mapping_of(content.get("image"))),
        *quality_lines(quality, _STATUS),
        *_measures(mapping_of(quality.get("measures"))),
        *_brain(content.get("brain_mask_ml")),
        *_structures(content.get("structures")),
    ]


def _image(image: Mapping[str, Any]) -> Iterator[str]:
    shape, spacing = (
        [one for one in map(number_of, list_of(image.get(key))) if one is not None]
        for key in ("shape", "spacing_mm")
    )
    about = f", {sizes(shape)} voxels of {sizes(spacing, 'mm')}" if shape and spacing else ""
    yield f"segmentation of {text_of(image.get('name'))}{about}"


def _measures(measures: Mapping[str, Any]) -> Iterator[str]:
    for key, name, meaning in _MEASURES:
        value = number_of(measures.get(key))
        if value is not None:
            yield f"{name}: {number(value)} ({meaning})"


def _brain(volume_ml: Any) -> Iterator[str]:
    value = number_of(volume_ml)
    if value is not None:
        yield f"brain mask: {number(value)} ml (brain, ventricles, and fluid up to 6 mm from them)"


def _structures(structures: Any) -> Iterator[str]:
    """A line for each structure, with both sides where it has them."""
    volumes: dict[str, list[str]] = {}
    for one in map(mapping_of, list_of(structures)):
        value = number_of(one.get("volume_ml"))
        side, _, rest = text_of(one.get("name")).partition(" ")
        name, sided = (rest, f"{side} ") if side in _SIDES else (text_of(one.get("name")), "")
        if value is not None:
            volumes.setdefault(name, []).append(f"{sided}{value:.2f} ml")
    for name, sides in volumes.items():
        yield f"{name}: {', '.join(sides)}"
    if volumes:
        yield "volumes are numbers of voxels in the label map times the volume of a voxel"
