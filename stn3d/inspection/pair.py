"""Whether two images can be registered, and what to watch: both images, their sizes and overlap."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch

from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.inspection.image import ImageSummary, summarise_image
from stn3d.inspection.words import number
from stn3d.io.sources import ImageSource
from stn3d.registration.inputs import read_pair
from stn3d.registration.inputs.extents import require_similar_extents
from stn3d.registration.memory import budget
from stn3d.registration.settings import Settings
from stn3d.registration.working_space import working_space
from stn3d.transforms import Affine
from stn3d.warp import fov_overlap_fraction

_LITTLE = 0.5  # overlap of the fields of view


@dataclass(frozen=True, kw_only=True)
class PairSummary:
    """Two images and what matters for their registration.

    Args:
        fixed: the fixed image.
        moving: the moving image.
        overlap_fraction: share of the fixed image inside the moving one by their headers.
        centre_distance_mm: distance of the centres of their fields of view.
        memory_gb: estimated peak memory of a registration with the default settings.
        notes: what to watch, a sentence each.
        errors: why `register` refuses the pair, a sentence each; empty if it does not.
    """

    fixed: ImageSummary
    moving: ImageSummary
    overlap_fraction: float | None
    centre_distance_mm: float | None
    memory_gb: float | None
    notes: tuple[str, ...]
    errors: tuple[str, ...]

    def lines(self) -> list[str]:
        """Both images, then the pair."""
        lines = [f"fixed: {self.fixed.name}", *(f"   {one}" for one in self.fixed.lines())]
        lines += [f"moving: {self.moving.name}", *(f"   {one}" for one in self.moving.lines())]
        lines.append("pair")
        if self.overlap_fraction is not None and self.centre_distance_mm is not None:
            lines.append(
                f"   by the headers, {100 * self.overlap_fraction:.0f} % of the fixed image lie in "
                f"the moving image; their centres are {number(self.centre_distance_mm)} mm apart"
            )
        if self.memory_gb is not None:
            lines.append(f"   memory with default settings: about {self.memory_gb:.1f} GB")
        lines += [f"   note: {note}" for note in self.notes]
        return [*lines, *(f"   error: {error}" for error in self.errors)]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dataclasses.asdict(self)


def summarise_pair(fixed: ImageSource, moving: ImageSource) -> PairSummary:
    """Describe two images, and find out whether `stn3d.register` accepts them.

    Args:
        fixed: fixed image.
        moving: moving image.

    Raises:
        InputError: an image does not exist or cannot be read at all.
    """
    summaries = [summarise_image(source) for source in (fixed, moving)]
    try:
        loaded = read_pair(fixed, moving)
        require_similar_extents(loaded.fixed, loaded.moving)
        grids = working_space(loaded.fixed.grid, loaded.moving.grid)
        planned = budget(*grids.grids, Settings())
    except InputError as error:
        return PairSummary(
            fixed=summaries[0],
            moving=summaries[1],
            overlap_fraction=None,
            centre_distance_mm=None,
            memory_gb=None,
            notes=(),
            errors=(str(error),),
        )
    here, there = loaded.fixed.grid, loaded.moving.grid
    overlap = fov_overlap_fraction(there, Affine.identity(here.ndim), here)
    notes = [grids.note, planned.note, _on_overlap(overlap), *_on_contents(*summaries)]
    return PairSummary(
        fixed=summaries[0],
        moving=summaries[1],
        overlap_fraction=overlap,
        centre_distance_mm=_distance_mm(here, there),
        memory_gb=planned.estimated_gb,
        notes=tuple(note for note in notes if note),
        errors=(),
    )


def _distance_mm(fixed: Grid, moving: Grid) -> float:
    return float(torch.linalg.vector_norm(fixed.centre_mm - moving.centre_mm))


def _on_overlap(overlap: float) -> str | None:
    if overlap >= _LITTLE:
        return None
    return (
        "the headers hardly overlap, so the initial transform is found from the images; if the "
        "headers are right, give --init header"
    )


def _on_contents(fixed: ImageSummary, moving: ImageSummary) -> list[str]:
    """What the intensities of both images together suggest."""
    notes = []
    for role, one in (("fixed", fixed), ("moving", moving)):
        if one.intensities.labels is not None:
            notes.append(
                f"the {role} image looks like a label map; register the images and move the labels "
                "with stn3d apply"
            )
        if one.volumes > 1:
            notes.append(
                f"the {role} image has {one.volumes} volumes; choose one by --{role}-volume"
            )
    cut = [one.intensities.constant_background is not None for one in (fixed, moving)]
    if cut[0] != cut[1]:
        role = "fixed" if cut[0] else "moving"
        notes.append(
            f"only the {role} image has a constant background, as after skull stripping; if the "
            "other shows more anatomy, give a mask of the common part"
        )
    return notes
