"""What an image file holds, and what is unusual about its header and its intensities."""

from __future__ import annotations

import dataclasses
import warnings
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import torch
from torch import Tensor

from stn3d.errors import GeometryWarning, InputError
from stn3d.inspection.words import (
    directions,
    number,
    obliqueness_deg,
    orientation,
    position,
    shear_deg,
    sizes,
)
from stn3d.io import Image, Volumes, open_volumes
from stn3d.io.sources import ImageSource, convert
from stn3d.preprocessing.intensity import constant_background, looks_like_ct
from stn3d.warp.label_maps import by_values

_OBLIQUE_DEG = 0.5  # smaller angles are rounding errors of headers
_SHEARED_DEG = 0.05
_ANISOTROPIC = 2.0  # ratio of the largest and the smallest voxel edge
_FEW_SLICES = 10
_HUMAN_MM = (10.0, 2500.0)  # extents of images of people; others may have other units
_SAMPLE = 1 << 20  # voxels whose percentiles are computed


@dataclass(frozen=True, kw_only=True)
class Intensities:
    """The intensities of the first volume of an image.

    Args:
        low: smallest value.
        high: largest value.
        median: median.
        p99: 99th percentile.
        not_finite: number of voxels with NaN or Inf.
        labels: number of labels without the background, if it looks like a label map.
        ct: whether they look like Hounsfield units.
        constant_background: value of a background without noise, if there is one.
    """

    low: float
    high: float
    median: float
    p99: float
    not_finite: int
    labels: int | None
    ct: bool
    constant_background: float | None


@dataclass(frozen=True, kw_only=True)
class ImageSummary:
    """An image in words.

    Args:
        name: its path.
        shape: voxels along each spatial axis.
        volumes: number of volumes.
        spacing_mm: voxel edges.
        extent_mm: edges of the field of view.
        orientation: closest anatomical directions of the axes, such as ``RAS``.
        oblique_deg: largest angle between an axis and the closest anatomical one.
        centre_mm: centre of the field of view, world RAS+ mm.
        dtype: data type as stored.
        scaling: slope and intercept of the stored values; None without scaling.
        codes: NIfTI's sform and qform codes; None for other formats.
        unit: unit of length in a NIfTI header; None for other formats.
        intensities: of the first volume.
        notes: what is unusual, a sentence each.
    """

    name: str
    shape: tuple[int, ...]
    volumes: int
    spacing_mm: tuple[float, ...]
    extent_mm: tuple[float, ...]
    orientation: str
    oblique_deg: float
    centre_mm: tuple[float, ...]
    dtype: str
    scaling: tuple[float, float] | None
    codes: dict[str, int] | None
    unit: str | None
    intensities: Intensities
    notes: tuple[str, ...]

    def lines(self) -> list[str]:
        """The image in words, a line for each group of properties."""
        several = f", {self.volumes} volumes" if self.volumes > 1 else ""
        tilt = f", oblique by {self.oblique_deg:.1f} degrees" if self._is_oblique else ""
        lines = [
            f"{sizes(self.shape)} voxels of {sizes(self.spacing_mm, 'mm')}{several}",
            f"axes: {self.orientation} (first axis to the {directions(self.orientation)}){tilt}"
            if len(self.shape) == 3
            else f"axes: {self.orientation}{tilt}",
            f"field of view: {sizes(self.extent_mm, 'mm')}, centre {position(self.centre_mm)} in "
            "world RAS+ mm",
            f"stored as {self.dtype}{self._scaling()}{self._codes()}",
            f"intensities: {self._range()}",
            f"looks like {self._content()}",
        ]
        return [*lines, *(f"note: {note}" for note in self.notes)]

    @property
    def _is_oblique(self) -> bool:
        return self.oblique_deg > _OBLIQUE_DEG

    def _scaling(self) -> str:
        if self.scaling is None:
            return ""
        slope, intercept = self.scaling
        return f", scaled: value = {number(slope)} x stored + {number(intercept)}"

    def _codes(self) -> str:
        if self.codes is None:
            return ""
        sform, qform = self.codes["sform"], self.codes["qform"]
        return f"; sform code {sform}, qform code {qform}, unit {self.unit}"

    def _range(self) -> str:
        values = self.intensities
        return (
            f"{number(values.low)} to {number(values.high)}, median {number(values.median)}, "
            f"99th percentile {number(values.p99)}"
        )

    def _content(self) -> str:
        values = self.intensities
        if values.labels is not None:
            return f"a label map with {values.labels} label{'s' * (values.labels != 1)}"
        kind = "a CT in Hounsfield units" if values.ct else "an image"
        if values.constant_background is None:
            return kind
        return f"{kind} with a constant background of {number(values.constant_background)}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dataclasses.asdict(self)


def summarise_image(source: ImageSource) -> ImageSummary:
    """Describe an image and what is unusual about it.

    Args:
        source: image source, see `stn3d.io.read_image`. Of several volumes the first is measured.

    Raises:
        InputError: the image does not exist or cannot be read.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", category=GeometryWarning)
        volumes = open_volumes(source)
        image = _first_volume(volumes)
    issued = [str(w.message) for w in caught if issubclass(w.category, GeometryWarning)]
    grid, stored = image.grid, volumes.stored
    is_nifti = str(stored.name).lower().endswith((".nii", ".nii.gz"))
    summary = ImageSummary(
        name=stored.name,
        shape=grid.shape,
        volumes=stored.num_volumes,
        spacing_mm=grid.spacing_mm,
        extent_mm=grid.size_mm,
        orientation=orientation(grid),
        oblique_deg=obliqueness_deg(grid),
        centre_mm=tuple(grid.centre_mm.tolist()),
        dtype=str(stored.dtype),
        scaling=stored.scaling,
        codes=_codes_of(stored.header) if is_nifti else None,
        unit=stored.header.get_xyzt_units()[0] if is_nifti else None,
        intensities=_intensities(image.values),
        notes=(),
    )
    notes = dict.fromkeys([*issued, *_notes(summary, shear_deg(grid))])
    return dataclasses.replace(summary, notes=tuple(notes))


def _first_volume(volumes: Volumes) -> Image:
    """The first volume, also with NaN in it, as `read_exact` refuses it."""
    return convert(volumes.stored, "image", "volume", volumes.numbers[0], volumes.ndim, None)


def _intensities(values: Tensor) -> Intensities:
    flat = values.flatten()
    finite = torch.isfinite(flat) if flat.is_floating_point() else torch.ones_like(flat).bool()
    kept = flat[finite].double()
    if not len(kept):
        raise InputError("the image holds no number, only NaN or Inf; convert it again.")
    few = kept[:: max(1, len(kept) // _SAMPLE)]
    median, p99 = torch.quantile(few, few.new_tensor([0.5, 0.99])).tolist()
    clean = torch.where(torch.isfinite(values), values, 0) if len(kept) < len(flat) else values
    as_float = clean.float()
    is_map = by_values(clean).labels
    low, high = (float(x) for x in kept.aminmax())
    constant = low == high
    return Intensities(
        low=low,
        high=high,
        median=median,
        p99=p99,
        not_finite=len(flat) - len(kept),
        labels=int((clean.unique() != 0).sum()) if is_map else None,
        ct=not constant and not is_map and looks_like_ct(as_float),
        constant_background=None if constant or is_map else constant_background(as_float),
    )


def _codes_of(header: nib.Nifti1Header) -> dict[str, int]:
    return {"sform": int(header["sform_code"]), "qform": int(header["qform_code"])}


def _notes(summary: ImageSummary, shear: float) -> list[str]:
    """What is unusual, a sentence each; what reading reported is not repeated."""
    found = [_on_voxels(summary), _on_extent(summary), _on_codes(summary), _on_values(summary)]
    if shear > _SHEARED_DEG:
        found.append(
            f"the axes are not orthogonal (by {shear:.1f} degrees), as with a tilted gantry"
        )
    return [note for note in found if note]


def _on_voxels(summary: ImageSummary) -> str | None:
    ratio = max(summary.spacing_mm) / min(summary.spacing_mm)
    if min(summary.shape) == 1 and len(summary.shape) == 3:
        return "it is a single slice, which stn3d registers in its plane or within a volume"
    if min(summary.shape) < _FEW_SLICES and len(summary.shape) == 3:
        return f"it has only {min(summary.shape)} slices along one axis"
    if ratio > _ANISOTROPIC:
        return f"its voxels are {ratio:.1f} times as long along one axis as along another"
    return None


def _on_extent(summary: ImageSummary) -> str | None:
    small, large = _HUMAN_MM
    longest = max(summary.extent_mm)
    if small <= longest <= large:
        return None
    size = f"only {number(longest)}" if longest < small else number(longest)
    return f"its field of view is {size} mm; if that is wrong, check the unit of length"


def _on_codes(summary: ImageSummary) -> str | None:
    codes = summary.codes
    if summary.unit == "unknown":
        return "its header states no unit of length; millimetres are assumed"
    if codes is not None and codes["sform"] == 0 < codes["qform"]:
        return "its sform code is 0, so the qform is used, as in nibabel and ITK"
    return None


def _on_values(summary: ImageSummary) -> str | None:
    values = summary.intensities
    if values.not_finite:
        return f"{values.not_finite} voxels hold NaN or Inf; replace them before you register it"
    if values.low == values.high:
        return "it is constant, so nothing can be registered to it"
    return None
