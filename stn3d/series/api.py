"""Rigid registration of the volumes of a 4D image, outwards from the reference volume."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from stn3d import kernels
from stn3d.choices import AUTOMATIC, MetricName, SeriesInterpolation, check_choice
from stn3d.errors import InputError
from stn3d.evaluation.json_values import json_value
from stn3d.grid import Grid
from stn3d.io import Image, ImageSource, Volumes, open_series, read_image
from stn3d.losses.similarity import ncc
from stn3d.metrics import foreground
from stn3d.preprocessing.intensity import scaled
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.registration.folders import versions
from stn3d.registration.initialisation.strategies import refined_candidates, simple_candidates
from stn3d.registration.progress_bar import chosen_volume_progress
from stn3d.registration.runtime import Clock, limited_threads
from stn3d.registration.settings import settings_from
from stn3d.registration.stages import LinearStage
from stn3d.registration.working_space import working_space
from stn3d.series.gradients import Directions, read_bvecs
from stn3d.series.result import Motion, SeriesRegistration, rotation_radius_mm
from stn3d.series.target import Normalisation
from stn3d.transforms import Linear, Rigid
from stn3d.warp import warp_image
from stn3d.warp.colour import outside_colour
from stn3d.warp.fill import outside_value

SCHEMA_VERSION = 1
"""Version of metrics.json; rises when a key is renamed or removed, or changes its meaning."""

Report = Callable[[int, int, int, float], None]
"""Called with the number of volumes done, their total number, the volume and its correlation."""

_LEVELS = (2.0, 1.0)  # multiples of the finest spacing; candidates are refined on coarser levels
_TOLERANCE = 1e-5
# Gaussian smoothing before registration, in voxels of the finest spacing. Interpolation reduces
# noise, most at half-voxel shifts, which biases the estimate; smooth images are less affected.
_SIGMA_VOX = 0.8


def register_series(
    series: ImageSource,
    reference: ImageSource | None = None,
    *,
    reference_volume: int | None = None,
    metric: MetricName = AUTOMATIC.series,
    interpolation: SeriesInterpolation = "linear",
    fill: str | float = "auto",
    bvecs: str | os.PathLike[str] | None = None,
    normalisation: Normalisation | None = None,
    threads: int | None = None,
    progress: Report | bool | None = None,
) -> SeriesRegistration:
    """Rigid motion correction: register every volume of a 4D image to a reference.

    One volume at a time is in memory; NIfTI and MGH files are read volume by volume.

    Args:
        series: 4D image: path, nibabel image, or MetaTensor whose channels are the volumes.
        reference: reference image of any shape and spacing. Default: a volume of the series.
        reference_volume: reference volume of the series, counted from 0 (default: the middle one),
            or volume of a 4D reference.
        metric: ``ncc``, ``mse``, ``lncc`` for brightness that drifts across the field of view, or
            ``nmi`` for volumes of different contrast, as in diffusion MRI.
        interpolation: interpolation of the moved volumes, ``linear`` or ``cubic``. Each volume is
            resampled once.
        fill: value of the moved volumes where a volume shows nothing: ``auto`` (the background for
            CT, else 0), ``background`` (that of the first volume), ``nan`` or a number.
        bvecs: file of the diffusion gradient directions of the series (FSL's bvecs), which are
            rotated with the volumes.
        normalisation: target image and transforms from it to the reference, such as those of a
            registration to a template; the moved volumes then lie on the grid of the target image.
            Motion correction and normalisation are composed, so each volume is interpolated once.
            The motion and the correlations are those in the space of the reference.
        threads: number of CPU threads.
        progress: true for a progress bar, or a function that is called after each volume, see
            `Report`.

    Returns:
        The transforms, the motion and the metrics; `SeriesRegistration.save` writes the moved
        volumes.

    Raises:
        InputError: the series has a single volume, a volume is constant or holds NaN, the reference
            or the target image cannot be used or has another dimension, a transform cannot be read,
            or an option is unknown.
    """
    check_choice("interpolation", interpolation, SeriesInterpolation)
    check_choice("metric", metric, MetricName)
    options = {"kind": "rigid", "metric": metric, "threads": threads, "fill": fill}
    settings = settings_from(options)
    clock = Clock()
    with limited_threads(settings.threads):
        with clock("read"):
            volumes = open_series(series)
            first = len(volumes) // 2
            if reference is None:
                first = first if reference_volume is None else reference_volume
                fixed = read_image(volumes.stored, "series", first)
            else:
                fixed = read_image(reference, "reference", reference_volume)
            grid, outside = _checked(volumes, fixed, fill)
            directions = None if bvecs is None else _directions(bvecs, len(volumes), grid)
            target = None if normalisation is None else normalisation.read(fixed)
            finest_mm = max(min(fixed.grid.spacing_mm), min(grid.spacing_mm))
        with clock("register"):
            search = _Search(fixed, settings.metric_name, finest_mm)
            with chosen_volume_progress(progress) as report:
                found = _outwards(volumes, search, first, reference is None, report)
        used = torch.get_num_threads()
    metrics = {
        "schema_version": SCHEMA_VERSION,
        "series": {"name": volumes.name, "volume_count": len(volumes)},
        "reference": {"name": fixed.name},
        **_metrics(found, rotation_radius_mm(fixed.grid)),
        "settings": {
            "metric": settings.metric_name,
            "interpolation": interpolation,
            "fill": settings.fill,
        },
        "target": None if target is None else target.metrics(),
        "outside_value": json_value(outside),
        "timings_s": clock.seconds,
        "versions": versions(),
        "threads": used,
    }
    result = SeriesRegistration(
        tuple(one.transform for one in found),
        volumes,
        fixed,
        interpolation,
        tuple(one.after for one in found),
        metrics,
        outside,
        fill,
        target=target,
    )
    return result if directions is None else result.with_bvecs(directions)


def _directions(path: str | os.PathLike[str], count: int, grid: Grid) -> Directions:
    """Gradient directions of the volumes.

    Raises:
        InputError: the file does not fit the series, or the series is 2D.
    """
    if grid.ndim == 2:
        raise InputError("gradient directions belong to 3D volumes; omit --bvecs for a 2D series.")
    return read_bvecs(path, count)


@dataclass(frozen=True)
class _Found:
    """Transform of a volume, and its correlation with the reference before and after."""

    transform: Rigid
    before: float
    after: float


def _checked(volumes: Volumes, fixed: Image, fill: str | float) -> tuple[Grid, float]:
    """Grid of the volumes and the value outside of them, after a check of each.

    Raises:
        InputError: a volume cannot be used or has another dimension than the reference, or the fill
            is unknown.
    """
    outside = 0.0
    for number, image in enumerate(volumes):
        low, high = (float(value) for value in image.values.aminmax())
        if low == high:
            raise InputError(
                f"volume {number} of the series {volumes.name} is constant (every voxel is "
                f"{low:g}); remove it from the series."
            )
        if number == 0:
            outside = (
                outside_colour(image.colours, fill)[0]
                if image.colours is not None
                else outside_value(fill, image.values)
            )
    if image.grid.ndim != fixed.grid.ndim:
        raise InputError(
            f"the volumes of {volumes.name} are {image.grid.ndim}D and the reference "
            f"{fixed.name} is {fixed.grid.ndim}D; both need the same dimension."
        )
    return image.grid, outside


def _outwards(
    volumes: Volumes, search: _Search, first: int, is_reference: bool, progress: Report | None
) -> list[_Found]:
    """Transforms of all volumes, from the first one outwards.

    Args:
        volumes: the series.
        search: registration of one volume.
        first: number of the volume to start at.
        is_reference: whether that volume is the reference.
        progress: called after each volume.
    """
    found: dict[int, _Found] = {}
    count, identity = len(volumes), Rigid.identity(search.fixed.grid.ndim, search.centre_mm)
    for done, number in enumerate([*range(first, count), *range(first - 1, -1, -1)], start=1):
        image = volumes.image(number)
        if number == first:
            transform = identity if is_reference else search(image)
        else:
            neighbour = found[number - 1 if number > first else number + 1].transform
            transform = search(image, neighbour, found[first].transform)
        correlation = search.correlation(image, transform)
        found[number] = _Found(transform, search.correlation(image, identity), correlation)
        if progress is not None:
            progress(done, count, number, correlation)
    return [found[number] for number in range(count)]


@dataclass(frozen=True, eq=False)
class _Search:
    """Registration of single volumes to the reference.

    Args:
        fixed: reference image.
        metric: similarity metric.
        finest_mm: smallest spacing of the reference or of the volumes, whichever is larger.
    """

    fixed: Image
    metric: MetricName
    finest_mm: float

    @property
    def centre_mm(self) -> Tensor:
        """Centre of the transforms."""
        return self.fixed.grid.centre_mm

    def __call__(self, image: Image, *initial: Linear) -> Rigid:
        """Transform of a volume, from the best of the initial transforms (default: simple ones)."""
        space = working_space(self.fixed.grid, image.grid)
        pair = space.pair(Pair(self._reference, self._prepared(image)))
        if initial:
            starts = [space.given(transform) for transform in initial]
            known = [(f"initial {n}", t) for n, t in enumerate(starts) if isinstance(t, Linear)]
            candidates = refined_candidates(pair, known, self.metric, "rigid")
        else:
            candidates = simple_candidates(pair, "auto", self.metric, "rigid")
        stage = LinearStage("rigid", self.metric, _LEVELS, tolerance=_TOLERANCE)
        estimate = stage(pair, candidates[0].transform, lambda *_: None)
        found, _ = space.result(estimate, estimate.inverse())
        assert isinstance(found, Linear)
        return Rigid.from_matrix(found.matrix, self.centre_mm)

    def correlation(self, image: Image, transform: Rigid) -> float:
        """Correlation of the moved volume with the reference in the overlapping foreground."""
        grid, values = self.fixed.grid, image.values
        moved = warp_image(values, image.grid, transform, grid)
        seen = warp_image(torch.ones_like(values), image.grid, transform, grid)
        return 1 - float(ncc(self.fixed.values, moved, seen * self._foreground))

    @cached_property
    def _reference(self) -> PreparedImage:
        return self._prepared(self.fixed)

    @cached_property
    def _foreground(self) -> Tensor:
        return foreground(self.fixed.values)

    def _prepared(self, image: Image) -> PreparedImage:
        sigmas = [_SIGMA_VOX * self.finest_mm / s for s in image.grid.spacing_mm]
        return PreparedImage(kernels.gaussian_smooth(scaled(image.values), sigmas), image.grid)


def _metrics(found: Sequence[_Found], radius_mm: float) -> dict[str, dict[str, float]]:
    """Mean correlation before and after, and the motion, for metrics.json."""
    return {
        "before": {"correlation": sum(one.before for one in found) / len(found)},
        "after": {"correlation": sum(one.after for one in found) / len(found)},
        "motion": Motion.of([one.transform for one in found], radius_mm).metrics(),
    }
