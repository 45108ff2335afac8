"""Whether a registration can be trusted: measured signs, and a plain statement from them.

No sign knows the truth. Each asks something that a right answer must pass: do other starts, with
the images' roles changed, land at the same place; does the loss rise wherever one turns; do the
images overlap; is the stretch one that bodies have; is nothing folded.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from stn3d.grid import apply_matrix
from stn3d.losses.similarity import MetricName
from stn3d.preprocessing.pair import ImageLoss, Pair, PreparedImage
from stn3d.registration.initialisation.candidates import coarse_mm
from stn3d.registration.stages import LinearStage
from stn3d.transforms import Linear, LinearKind, Rigid, Transform, split_linear
from stn3d.transforms.fit import fit_linear
from stn3d.warp import fov_overlap_fraction

Word = Literal["good", "check", "failed"]

_TURN_RAD, _SHIFT = 0.2, 0.1  # of a kick; the shift as a share of the fixed image's size
_FAR_RAD, _FAR_SHIFT = 0.6, 0.25  # of a place that a right answer must beat by far
_ROUGH = 1e-4  # of the loss: where others land need be told to a part of a voxel only
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
        overlap: the share of what the smaller image shows that falls into the other.
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
    metric: MetricName,
    figures: dict[str, Any],
) -> Signs:
    """The signs of a registration.

    Args:
        pair: the scans.
        transform: fixed points to moving points.
        kind: of its linear part.
        metric: that it was found by.
        figures: of `stn3d.evaluation.evaluate`, for the Jacobian's.
    """
    spacing = coarse_mm(pair)
    coarse = pair.at(spacing)
    ours, other = coarse.fixed, coarse.moving
    ndim, size_mm = ours.grid.ndim, min(max(ours.grid.size_mm), max(other.grid.size_mm))
    linear = _linear_part(transform, ours)
    there: Transform = linear
    back: Transform = linear.inverse()
    if math.prod(other.grid.size_mm) < math.prod(ours.grid.size_mm):
        # What little there is must be found in the other.
        coarse = coarse.swapped
        ours, other, there, back = other, ours, linear.inverse(), linear
    points, held = _foreground_mm(ours, other, there)
    stage = LinearStage(kind, metric, factors=(1,), iterations=25, tolerance=_ROUGH)
    apart = []
    for kick in _kicks(ndim, ours.grid.centre_mm, size_mm):
        landed = stage(coarse.swapped, back.then(kick), lambda *_: None)
        apart.append(_distance_mm(landed(there(points)), points))
    disagreement_mm = float(torch.tensor(apart).median())
    stretches = torch.linalg.svdvals(linear.matrix[:-1, :-1])
    changes = [figures.get(key) for key in ("jacobian_min", "jacobian_max")]
    extremes = [abs(math.log(max(c, 1e-3))) for c in changes if c is not None]
    return Signs(
        disagreement=disagreement_mm / size_mm,
        disagreement_mm=disagreement_mm,
        margin=_margin(coarse, there, metric, size_mm),
        overlap=held,
        stretch=float(max(stretches.max(), 1 / stretches.min())),
        folding_pct=figures.get("folding_pct") or 0.0,
        largest_log_jac=max(extremes, default=0.0),
    )


def _linear_part(transform: Transform, fixed: PreparedImage) -> Linear:
    """What comes after the fields; where that is a field too, the best fit of an affine one."""
    _, linear = split_linear(transform)
    if linear is not None:
        return linear
    points = fixed.grid.points_mm().flatten(0, -2)
    return fit_linear("affine", points, transform(points))


def _foreground_mm(
    ours: PreparedImage, other: PreparedImage, there: Transform
) -> tuple[Tensor, float]:
    """``(N, d)`` points of what is not background and lands in the other image; and the share that
    does. All points where none does."""
    bright = ours.image[0].amax(dim=0) > _DARK
    index = (bright if bool(bright.any()) else torch.ones_like(bright)).nonzero().cpu()
    points = apply_matrix(ours.grid.world_from_index, index[:: 1 + len(index) // _POINTS].double())
    at = apply_matrix(other.grid.index_from_world, there(points))
    limit = torch.tensor(other.grid.shape, dtype=torch.float64) - 0.5
    inside = ((at >= -0.5) & (at <= limit)).all(dim=-1)
    return (points[inside] if bool(inside.any()) else points), float(inside.double().mean())


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


def _margin(pair: Pair, there: Transform, metric: MetricName, size_mm: float) -> float:
    """See `Signs.margin`; over what both images show."""
    fixed, moving = pair.fixed.grid, pair.moving.grid
    dissimilarity = ImageLoss(pair.fixed, pair.moving, metric)

    def loss(transform: Transform) -> float:
        assert isinstance(transform, Linear)
        matrix = moving.index_from_world @ transform.matrix @ fixed.world_from_index
        return float(dissimilarity(matrix))

    kicked = [kick.then(there) for kick in _kicks(fixed.ndim, fixed.centre_mm, size_mm, far=True)]
    around = [loss(one) for one in kicked if fov_overlap_fraction(moving, one, fixed) > 0.2]
    if len(around) < 3:
        return 0.0
    spread = torch.tensor(around, dtype=torch.float64)
    return float((spread.mean() - loss(there)) / spread.std().clamp(min=1e-6))


def judge(signs: Signs) -> Verdict:
    """A statement from signs: the first that is out of all bounds decides, or else the first that
    is out of the ordinary.

    The limits come from some of the cases of scripts/verdicts.py and were checked on the others.
    """
    against: list[tuple[Word, _Sign]] = [
        *(("failed", sign) for sign in _SIGNS if sign.of(signs) > sign.failed),
        *(("check", sign) for sign in _SIGNS if sign.of(signs) > sign.check),
    ]
    if against:
        word, sign = against[0]
        return Verdict(word, sign.reason(signs), sign.remedy, signs)
    told = (
        f"other starts land within {signs.disagreement_mm:.1f} mm, the images overlap by "
        f"{signs.overlap:.0%}, and no change of size or volume is out of the ordinary"
    )
    return Verdict("good", told, "", signs)


@dataclass(frozen=True)
class _Sign:
    """What speaks against a registration.

    Args:
        of: a number, the worse the higher.
        check: above it somebody should look.
        failed: above it the registration has failed.
        reason: what is said then.
        remedy: what to do.
    """

    of: Callable[[Signs], float]
    check: float
    failed: float
    reason: Callable[[Signs], str]
    remedy: str


_START = (
    "Look at the moved image; give a better --init, or masks of the part that both images show."
)
_SIGNS = (
    _Sign(
        lambda s: -s.overlap,
        -0.3,
        -0.1,
        lambda s: f"only {s.overlap:.0%} of the smaller image's content lies within the other",
        _START,
    ),
    _Sign(
        lambda s: s.disagreement,
        0.02,
        0.04,
        lambda s: f"other starts land {s.disagreement_mm:.0f} mm away",
        _START,
    ),
    _Sign(
        lambda s: s.stretch,
        1.35,
        1.6,
        lambda s: f"the image is stretched or shrunk by a factor of {s.stretch:.2f}",
        "Try --kind rigid or --kind similarity, or mend the voxel sizes in the headers.",
    ),
    _Sign(
        lambda s: -s.margin,
        -6.0,
        -2.0,
        lambda s: "the images match hardly better here than elsewhere",
        _START,
    ),
    _Sign(
        lambda s: s.folding_pct,
        0.1,
        2.0,
        lambda s: f"{s.folding_pct:.2f} % of the voxels are folded",
        "Try a larger deformable.field_sigma_vox in a --config, or --kind affine.",
    ),
    _Sign(
        lambda s: s.largest_log_jac,
        4.0,
        math.inf,
        lambda s: f"a volume changes by a factor of {math.exp(s.largest_log_jac):.0f} somewhere",
        "Noise may lead it: look at the moved image, or try --kind affine.",
    ),
)
