"""Cases for the study of uncertainty: pairs with known truth, registered well or badly."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

import stn3d
from scripts.bench import paths
from scripts.bench.paths import existing
from scripts.bench.quality_cases import BRAINS, noisy
from scripts.bench.studies.sliding import moves_vox, vertical
from scripts.bench.studies.sliding_body import content_of
from scripts.bench.uncertainty_truths import Landmarks, VoxelShifts
from scripts.bench.written_pairs import LUNGS, load
from stn3d import Grid, Rigid, Transform, VelocityField, read_image
from stn3d.io import read_transform, write_transform
from stn3d.length_unit import length_unit_mm
from stn3d.preprocessing.intensity import limits
from stn3d.transforms import chain
from stn3d.transforms.fit import fit_linear
from stn3d.warp import resample_image, warp_image

Volume = tuple[Tensor, Grid]
BODY_KINDS = (
    "brains",
    "two people",
    "contrasts",
    "fetal brains",
    "mouse brains",
    "lungs",
    "sliding",
    "CT of the body",
)
UNRELATED, LIVERS = "other anatomy", "livers"
ONLY_LIVERS = 1000  # from this number on, pairs with landmarks of experts
FULL_RESOLUTION = 2000  # from this number on, brains of 1 mm and the preset `default`
SHARP = "brains, 1 mm"
_CONTRASTS = ("t1", "t1post", "t2", "flair")
_WEEKS = ("23_notoperated", "25_operated", "27_operated", "31_operated")
_OTHERS = (
    ("brains/1000_t1.nii.gz", "lung_mr/0004.nii.gz"),
    ("ct_body/abdomen_ct.nii.gz", "ct_body/chest_ct.nii.gz"),
    ("lung_mr/0006.nii.gz", "abdomen/mr.nii.gz"),
    ("contrasts/p07_t2.nii.gz", "lung_mr/0007.nii.gz"),
)
_LIVERS = (("18", "1_10"), ("18", "3_10"), ("23", "1_4"), ("23", "5_4"))
_LIVER_WAYS = (
    "as it should be",
    "large motion off",
    "no deformation",
    "strong smoothing",
    "weak smoothing",
    "one level",
)
_PEOPLE = (("1000", "1001"), ("1006", "1013"), ("1036", "1007"), ("1010", "1000"))


@dataclass(frozen=True, eq=False)
class Case:
    """Two images, how they are registered, and the truth if there is one.

    Args:
        kind: kind of images.
        way: what is done wrong, see `WAYS`.
        fixed: ``(1, 1, *shape)`` and its grid.
        moving: likewise.
        truth: fixed points ``(N, d)`` to moving points; None if the images are unrelated.
        options: arguments of `stn3d.register`.
        points_mm: fixed points where the truth is known; None for the whole foreground.
    """

    kind: str
    way: str
    fixed: Volume
    moving: Volume
    truth: Callable[[Tensor], Tensor] | None
    options: dict[str, Any] = field(default_factory=dict)
    points_mm: Tensor | None = None


WAYS: dict[str, dict[str, Any]] = {
    "as it should be": {},
    "no deformation": {"kind": "affine"},
    "wrong metric": {"deformable_metric": "mse"},
    "weak smoothing": {
        "deformable": {
            "field_sigma_vox": 0.1,
            "update_sigma_vox": 0.6,
            "divergence_weight": 0.01,
        }
    },
    "strong smoothing": {"deformable": {"field_sigma_vox": 2.5, "update_sigma_vox": 4.0}},
    "one level": {"large_motion": "off", "deformable": {"factors": (2,), "iterations": (40,)}},
    "large motion off": {"large_motion": "off"},
    "wrong start": {"large_motion": "off", "linear": {"iterations": 1}},
}
_LEVELS = {"fast": 3, "default": 4}  # of a preset
_OFTEN = (0, 0, 0, 0, 1, 2, 2, 3, 4, 5, 6, 6, 7, 7)


@cache
def image(name: str, spacing_mm: float) -> Volume:
    """``(1, 1, *shape)`` of shared/data at a spacing, or its own if that is coarser."""
    read = read_image(existing(paths.SHARED / "data" / name), "image")
    grid = read.grid.coarsened(spacing_mm)
    return resample_image(read.values, read.grid, grid), grid


class Draw:
    """Random numbers of one case."""

    def __init__(self, number: int) -> None:
        self.generator = torch.Generator().manual_seed(number)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Numbers of a range."""
        numbers = torch.rand(shape, generator=self.generator, dtype=torch.float64)
        return low + (high - low) * numbers

    def pick(self, values: Any) -> Any:
        """One of some values."""
        return values[int(torch.randint(len(values), (), generator=self.generator))]

    def deformation(self, grid: Grid, amplitude_mm: float, lattice_mm: float) -> Transform:
        """The exponential of noise on a lattice, with vectors up to an amplitude."""
        coarse, fine = grid.coarsened(lattice_mm), grid.coarsened(lattice_mm / 3)
        v = torch.randn(1, grid.ndim, *coarse.shape, generator=self.generator)
        smooth = resample_image(v, coarse, fine)
        smooth *= amplitude_mm / float(smooth.norm(dim=1).max())
        return VelocityField(smooth, fine).displacement

    def motion(self, grid: Grid, unit_mm: float) -> Rigid:
        """Up to 12 degrees about each axis and 12 units along it."""
        turn = self.uniform(-1, 1, 3) * math.radians(12)
        return Rigid(torch.cat([turn, self.uniform(-12, 12, 3) * unit_mm]), grid.centre_mm)

    def appearance(self, values: Tensor, grid: Grid) -> Tensor:
        """Another gamma, a bias field of 15 % and noise."""
        low, high = limits(values)
        scaled = ((values - low) / (high - low)).clamp(0, 1.5)
        scaled = scaled ** float(self.uniform(0.75, 1.35))
        bias = torch.randn(1, 1, 4, 4, 4, generator=self.generator)
        bias = torch.nn.functional.interpolate(bias, size=grid.shape, mode="trilinear")
        scaled = scaled * (1 + 0.15 * bias / bias.abs().max())
        return noisy(scaled, float(self.pick((0.02, 0.05, 0.1))), self.generator)


def draw(number: int, work: Path) -> Case:
    """The case of a number.

    Args:
        number: seed; from `ONLY_LIVERS` on, livers with landmarks.
        work: folder where fields of registrations are kept.
    """
    if ONLY_LIVERS <= number < FULL_RESOLUTION:
        return _liver(number - ONLY_LIVERS)
    d, sharp = Draw(number), number >= FULL_RESOLUTION
    kind = SHARP if sharp else BODY_KINDS[number % len(BODY_KINDS)]
    if number % 20 == 19 and not sharp:
        fixed, moving = (image(name, 3.0) for name in d.pick(_OTHERS))
        return Case(UNRELATED, UNRELATED, fixed, moving, None, {"preset": "fast"})
    way = list(WAYS)[d.pick(_OFTEN)]
    if kind == "sliding":
        return _sliding(d, way)
    source, content = _images(kind, d)
    grid = source[1]
    unit_mm = length_unit_mm(grid, grid)
    far = way in ("large motion off", "one level")
    amplitude = float(d.uniform(14, 34)) if far else float(d.uniform(2, 14))
    lattice = 48.0 if far else float(d.pick((18.0, 30.0)))
    elsewhere = grid
    if kind == "two people":
        between, elsewhere = _between_people(source, work)
        truth = chain(d.deformation(grid, 0.4 * amplitude * unit_mm, lattice * unit_mm), between)
    else:
        motion = d.motion(grid, unit_mm)
        elsewhere = Grid(grid.shape, motion.matrix @ grid.world_from_index).padded(10 * unit_mm)
        truth = chain(d.deformation(grid, amplitude * unit_mm, lattice * unit_mm), motion)
    if way == "wrong metric" and kind not in ("contrasts", "CT of the body"):
        low, high = limits(content)
        content = (high - content).clamp(min=low) * (source[0] > low + 0.05 * (high - low))
    moved = warp_image(content, grid, truth.inverse(), elsewhere)
    moving = d.appearance(moved, elsewhere), elsewhere
    options = _options(way, d, truth, grid, unit_mm, "default" if sharp else "fast")
    return Case(kind, way, source, moving, truth, options)


def _faults(way: str, preset: str) -> dict[str, Any]:
    """What is done wrong; more iterations where little is smoothed."""
    found = dict(WAYS[way])
    if way == "weak smoothing":
        found["deformable"] = found["deformable"] | {"iterations": (40,) * _LEVELS[preset]}
    return found


def _options(
    way: str, d: Draw, truth: Any, grid: Grid, unit_mm: float, preset: str
) -> dict[str, Any]:
    """Arguments of the registration."""
    options: dict[str, Any] = {"preset": preset, "init": "centres", "features": "none"}
    options["config"] = {"kind": "deformable"} | _faults(way, preset)
    if way == "wrong start":
        points = grid.points_mm().flatten(0, -2)[::97]
        near = fit_linear("affine", points, truth(points))
        turn = torch.cat([d.uniform(-1, 1, 3) * 0.2, d.uniform(-18, 18, 3) * unit_mm])
        options["init"] = chain(Rigid(turn, grid.centre_mm), near)
    return options


def _images(kind: str, d: Draw) -> tuple[Volume, Tensor]:
    """The fixed image, and the content of the moving image on its grid."""
    if kind == "contrasts":
        first = d.pick(("t1", "t2"))
        second = d.pick([name for name in _CONTRASTS if name != first])
        fixed = image(f"contrasts/p07_{first}.nii.gz", 2.0)
        return fixed, image(f"contrasts/p07_{second}.nii.gz", 2.0)[0]
    names = {
        "brains": [(name, 2.0) for name in BRAINS],
        SHARP: [(name, 1.0) for name in BRAINS],
        "two people": [(f"brains/{a}_t1.nii.gz", 2.0) for a, _ in _PEOPLE],
        "fetal brains": [(f"fetal_atlas/fetal_SB_atlas_GA{w}/srr.nii.gz", 1.6) for w in _WEEKS],
        "mouse brains": [
            (f"mouse_brains/template/FVB_NCrl_in_vivo_{m}.nii.gz", 0.3) for m in (1, 2, 3, 4)
        ],
        "lungs": [(f"lung_mr/{person}.nii.gz", 3.9) for person in LUNGS],
        "CT of the body": [
            ("ct_body/abdomen_ct.nii.gz", 4.0),
            ("ct_body/chest_ct.nii.gz", 4.0),
            ("abdomen/ct.nii.gz", 3.0),
        ],
    }
    fixed = image(*d.pick(names[kind]))
    return fixed, fixed[0]


def _between_people(source: Volume, work: Path) -> tuple[Transform, Grid]:
    """The result of registering two people, and the grid of the second."""
    pairs = [[image(f"brains/{one}_t1.nii.gz", 2.0) for one in both] for both in _PEOPLE]
    which = next(n for n, (first, _) in enumerate(pairs) if first is source)
    (a, b), (fixed, moving) = _PEOPLE[which], pairs[which]
    path = work / "fields" / f"{a}-{b}.h5"
    if not path.exists():
        found = stn3d.register(*((v[0, 0], g) for v, g in (fixed, moving)), preset="default")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_transform(path, found.transform)
    return read_transform(path), moving[1]


def _sliding(d: Draw, way: str) -> Case:
    """Lungs or a body that slide."""
    name = d.pick([*(f"lung_mr/{p}" for p in LUNGS), "ct_body/abdomen_ct", "ct_body/chest_ct"])
    values, grid = image(f"{name}.nii.gz", 3.9)
    affine = grid.world_from_index.numpy()
    if name.startswith("lung"):
        inner = load(f"{name}_lobes")[0].round() > 0
    else:
        inner = content_of(values[0, 0].numpy(), affine)
    axis, upwards = vertical(affine)
    step = grid.spacing_mm[axis]
    far = way in ("large motion off", "one level")
    sink = float(d.uniform(25, 45) if far else d.uniform(8, 30))
    depth = moves_vox(inner, axis, upwards, sink / step, 140 / step)
    u = torch.zeros(1, 3, *grid.shape)
    u[:, axis] = torch.from_numpy(depth)
    seen = _pulled(values, u)
    moving = d.appearance(values, grid) if not name.startswith("ct") else values
    options: dict[str, Any] = {"preset": "fast", "init": "header"}
    options["config"] = _faults(way, "fast")
    if way == "wrong start":
        options["init"] = d.motion(grid, 1.2)
    if way == "wrong metric":
        low, high = limits(moving)
        moving = (high - moving).clamp(min=low)
    fixed = noisy(seen, 0.01, d.generator), grid
    return Case("sliding", way, fixed, (moving, grid), VoxelShifts(grid, u), options)


def _pulled(values: Tensor, u: Tensor) -> Tensor:
    index = np.indices(values.shape[2:]).astype(float) + u[0].numpy()
    found = ndimage.map_coordinates(
        values[0, 0].numpy().astype(float), index, order=1, mode="nearest"
    )
    return torch.from_numpy(found)[None, None].float()


def _liver(number: int) -> Case:
    """A liver that breathes, with landmarks of experts."""
    person, state = _LIVERS[number % len(_LIVERS)]
    way = _LIVER_WAYS[number // len(_LIVERS)]
    folder = paths.SHARED / "data" / f"liver_mr_breathing/dataset{person}"
    images = []
    for name in ("exhMaster", f"cyc_{state}"):
        read = read_image(existing(folder / f"{name}.nii.gz"), "image")
        matrix = read.grid.world_from_index.clone()
        matrix[:3, 2] *= 4.0 / torch.linalg.vector_norm(matrix[:3, 2])  # one header says 5 mm
        images.append((read.values, Grid(read.grid.shape, matrix)))
    with (folder / f"landmarks_exhMaster_cyc_{state}.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    lps = torch.tensor([-1.0, -1.0, 1.0], dtype=torch.float64)
    fixed, goals = (
        lps * torch.tensor([[float(row[f"{role}_{a}"]) for a in "xyz"] for row in rows]).double()
        for role in ("fixed", "moving")
    )
    options = {"preset": "default", "config": _faults(way, "default")}
    return Case(LIVERS, way, images[0], images[1], Landmarks(fixed, goals), options, fixed)
