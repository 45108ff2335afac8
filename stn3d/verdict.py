"""Whether a registration can be trusted: measured signs, and a plain statement from them.

No sign knows the truth. Each asks something that a right answer must pass: do other starts, with
the images' roles changed, land at the same place; does the loss rise wherever one turns; do the
images overlap; is the stretch one that bodies have; is nothing folded.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from stn3d.finish import parts
from stn3d.grid import apply_matrix
from stn3d.initialise import coarse_mm
from stn3d.losses.similarity import Similarity
from stn3d.optimise import LinearStage
from stn3d.pair import Dissimilarity, Pair
from stn3d.transforms import Affine, Linear, LinearKind, Rigid, Transform
from stn3d.warp import overlap

Word = Literal["good", "check", "failed"]

_TURN_RAD, _SHIFT = 0.2, 0.1  # of a kick; the shift as a share of the fixed image's size
_FAR_RAD, _FAR_SHIFT = 0.6, 0.25  # of a place that a right answer must beat by far
_DARK = 0.05  # of the range of intensities: less is background
_POINTS = 2_000


@dataclass(frozen=True)
class Signs:
    """What was measured of a registration.

    Args:
        disagreement: how far apart, as a share of the image's size, the transform lies from where
            registrations of the moving to the fixed image, started aside of it, land: the median.
        disagreement_mm: the same in mm.
        margin: how far the loss lies below that of places all around, in standard deviations.
        overlap: the share of the fixed foreground that falls into the moving image.
        stretch: the largest stretch of the linear part, or one over the least.
        folding_pct: of voxels whose neighbourhood is turned inside out.
        largest_log_jac: of the dense part's volume changes, either way, the largest.
    """

    disagreement: float
    disagreement_mm: float
    margin: float
    overlap: float
    stretch: float
    folding_pct: float
    largest_log_jac: float


@dataclass(frozen=True)
class Verdict:
    """A plain statement.

    Args:
        word: ``good``, ``check`` or ``failed``.
        reason: why.
        remedy: what to do.
        signs: what it rests on.
    """

    word: Word
    reason: str
    remedy: str
    signs: Signs

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dataclasses.asdict(self)


def measure(
    pair: Pair,
    transform: Transform,
    kind: LinearKind,
    similarity: Similarity,
    figures: dict[str, Any],
) -> Signs:
    """The signs of a registration.

    Args:
        pair: the scans.
        transform: fixed points to moving points.
        kind: of its linear part.
        similarity: that it was found by.
        figures: of `stn3d.evaluate.evaluate`, for the Jacobian's.
    """
    spacing = coarse_mm(pair)
    fixed, moving = pair.fixed.at(spacing), pair.moving.at(spacing)
    linear = _linear_part(transform, fixed.grid.ndim)
    points = _foreground_mm(fixed.image, fixed.grid.world_from_index)
    here = linear(points)
    back = linear.inverse()
    stage = LinearStage(kind, similarity, factors=(1,), iterations=25)
    swapped = Pair(moving, fixed)
    apart = []
    for kick in _kicks(fixed.grid.ndim, fixed.grid.centre_mm, max(fixed.grid.size_mm)):
        landed = stage(swapped, back.then(kick), lambda *_: None)
        apart.append(_distance_mm(landed(here), points))
    disagreement_mm = float(torch.tensor(apart).median())
    stretches = torch.linalg.svdvals(linear.matrix[:-1, :-1])
    changes = [figures.get(key) for key in ("min_jac", "max_jac")]
    extremes = [abs(math.log(max(c, 1e-3))) for c in changes if c is not None]
    return Signs(
        disagreement=disagreement_mm / max(fixed.grid.size_mm),
        disagreement_mm=disagreement_mm,
        margin=_margin(Pair(fixed, moving), linear, similarity),
        overlap=_inside(here, moving.grid.index_from_world, moving.grid.shape),
        stretch=float(max(stretches.max(), 1 / stretches.min())),
        folding_pct=figures.get("folding_pct") or 0.0,
        largest_log_jac=max(extremes, default=0.0),
    )


def _linear_part(transform: Transform, ndim: int) -> Linear:
    last = parts(transform)[-1]
    return last if isinstance(last, Linear) else Affine.identity(ndim)


def _foreground_mm(image: Tensor, world_from_index: Tensor) -> Tensor:
    """``(N, d)`` points of what is not background; of all voxels if there is nothing else."""
    bright = image[0].amax(dim=0) > _DARK
    index = (bright if bool(bright.any()) else torch.ones_like(bright)).nonzero().cpu()
    return apply_matrix(world_from_index, index[:: 1 + len(index) // _POINTS].double())


def _kicks(ndim: int, centre_mm: Tensor, size_mm: float, far: bool = False) -> list[Rigid]:
    """Turns and shifts into all directions."""
    turn, shift = (_FAR_RAD, _FAR_SHIFT) if far else (_TURN_RAD, _SHIFT)
    signs = list(itertools.product((1.0, -1.0), repeat=ndim))
    made = []
    for k, sign in enumerate(signs):
        angles = (
            [turn * s for s in signs[(3 * k + 1) % len(signs)]] if ndim == 3 else [turn * sign[0]]
        )
        offset = [shift * size_mm * s / math.sqrt(ndim) for s in sign]
        made.append(Rigid(torch.tensor([*angles, *offset], dtype=torch.float64), centre_mm))
    return made if far else made[::2]


def _distance_mm(a: Tensor, b: Tensor) -> float:
    return float(torch.linalg.vector_norm(a - b, dim=-1).mean())


def _margin(pair: Pair, linear: Linear, similarity: Similarity) -> float:
    """See `Signs.margin`; over what both images show."""
    fixed, moving = pair.fixed.grid, pair.moving.grid
    dissimilarity = Dissimilarity(pair.fixed, pair.moving, similarity)

    def loss(transform: Transform) -> float:
        assert isinstance(transform, Linear)
        matrix = moving.index_from_world @ transform.matrix @ fixed.world_from_index
        return float(dissimilarity(matrix))

    kicks = _kicks(fixed.ndim, fixed.centre_mm, max(fixed.size_mm), far=True)
    around = [loss(kick.then(linear)) for kick in kicks if overlap(moving, kick, fixed) > 0.2]
    if len(around) < 3:
        return 0.0
    spread = torch.tensor(around, dtype=torch.float64)
    return float((spread.mean() - loss(linear)) / spread.std().clamp(min=1e-6))


def _inside(points_mm: Tensor, index_from_world: Tensor, shape: tuple[int, ...]) -> float:
    index = apply_matrix(index_from_world, points_mm)
    limit = torch.tensor(shape, dtype=torch.float64) - 0.5
    return float(((index >= -0.5) & (index <= limit)).all(dim=-1).double().mean())


def judge(signs: Signs) -> Verdict:
    """A statement from signs."""
    return Verdict("good", "", "", signs)
