"""The loss of a cascade in training: similarity, supervision and regularity, mixed by weights."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.losses.levels import Comparison, Pyramid, level_factor
from stn3d.losses.masked import masked_mean
from stn3d.losses.regularity import bending, diffusion, jacobian
from stn3d.losses.similarity import lncc, mind_descriptor, mind_weight, mse, ncc, nmi
from stn3d.losses.supervised import dice, landmarks, truth_error


@dataclass(frozen=True, kw_only=True)
class RegistrationLoss:
    """A weighted sum of terms over the stages of a cascade; a term of weight 0 costs no time.

    ``sum_s level_weights[s] sum_t t * term_t(stage s)``. Each stage is judged on its own level, by
    the batch's means over the level's voxels. The similarities and Dice count where both images
    are there; no gradient flows through that overlap.

    Args:
        truth: distance from the true displacement, voxels of the level.
        landmarks: distance of landmarks, voxels of the level.
        dice: overlap of labels.
        lncc, nmi, mind_ssc, ncc, mse: similarities of the images; intensities from 0 to 1.
        diffusion: squared gradient of the displacement.
        bending: squared second derivatives, 1/mm^2.
        jacobian: squared log of the Jacobian determinant, which punishes folding.
        identity_deviation: squared displacement, mm^2.
        level_weights: of the stages, coarse to fine; by default the last counts 1, each before it
            half as much as the next.
        spacing_mm: of the batch's grid, which is isotropic.
        factors: of the stages' levels; by default the least powers of two by which they cover the
            grid, which is wrong only if padding doubled every axis.
        labels: at most this many labels are compared in one call; see `common_labels`.
        window_vox: half a window's edge for lncc, in voxels of the level.

    Raises:
        InputError: a name is unknown, a weight is negative or not finite, or all are 0.
    """

    truth: float = 1.0
    landmarks: float = 0.0
    dice: float = 1.0
    lncc: float = 0.0
    nmi: float = 0.0
    mind_ssc: float = 0.0
    ncc: float = 0.0
    mse: float = 0.0
    diffusion: float = 0.1
    bending: float = 0.0
    jacobian: float = 0.0
    identity_deviation: float = 0.0
    level_weights: Sequence[float] | None = None
    spacing_mm: float = 1.0
    factors: Sequence[int] | None = None
    labels: int = 8
    window_vox: int = 2

    def __new__(cls, **options: Any) -> RegistrationLoss:
        """Refuse names that no field has, before the fields are set."""
        known = [field.name for field in dataclasses.fields(cls)]
        for name in options:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1, 0)[0]
                raise InputError(f"the loss has no option {name!r}; did you mean {near!r}?")
        return super().__new__(cls)

    def __post_init__(self) -> None:
        values = {name: getattr(self, name) for name in _TERMS}
        values |= {f"level_weights[{i}]": w for i, w in enumerate(self.level_weights or ())}
        for name, value in values.items():
            if not (math.isfinite(value) and value >= 0):
                raise InputError(
                    f"the loss's {name} is {value}; a weight is a number from 0 upward."
                )
        if not self._terms:
            raise InputError(f"all weights of the loss are 0; set one of {', '.join(_TERMS)}.")
        if self.level_weights is not None and not any(self.level_weights):
            raise InputError("the loss's level_weights are all 0; set one.")

    def __call__(
        self, stages: Sequence[Tensor], batch: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, float]]:
        """The loss of a cascade's answer.

        Args:
            stages: displacements ``(B, d, *level shape)``, coarse to fine, fixed to moving, each in
                voxels of its own level; any floating dtype.
            batch: ``fixed``, ``moving`` ``(B, C, *shape)``, their ``_weight`` ``(B, 1, *shape)``
                from 0 to 1 and ``_labels`` ``(B, 1, *shape)``; ``displacement_vox``
                ``(B, d, *shape)`` and ``truth_weight``; ``fixed_points``, ``moving_points``
                ``(B, N, d)`` index coordinates and ``points_weight`` ``(B, N)``; ``alike``
                ``(B, 1)``, 0 for pairs of two contrasts, which local correlation would mislead.
                What no term reads may be missing; a weight that is missing is 1.

        Returns:
            The loss, and by name the terms of the last stage that counts, before they are weighted.

        Raises:
            InputError: the batch lacks what a term reads, or the stages do not fit the settings.
        """
        factors, weights = self._factors(stages, batch), self._weights(len(stages))
        pyramid = Pyramid(batch, self.labels)
        strengths = torch.tensor([getattr(self, name) for name in self._terms])
        total = terms = torch.zeros(())
        with torch.autocast(stages[-1].device.type, enabled=False):  # half precision cannot sum
            for stage, factor, weight in zip(stages, factors, weights, strict=True):
                if weight > 0:
                    seen = Comparison(stage.float(), factor, pyramid)
                    terms = torch.stack([_TERMS[name](self, seen) for name in self._terms])
                    total = total.to(terms) + weight * (strengths.to(terms) * terms).sum()
        return total, dict(zip(self._terms, terms.detach().tolist(), strict=True))

    @property
    def _terms(self) -> list[str]:
        return [name for name in _TERMS if getattr(self, name) > 0]

    def _weights(self, count: int) -> Sequence[float]:
        weights = self.level_weights
        if weights is None:
            return tuple(0.5 ** (count - 1 - i) for i in range(count))
        _same_length("level_weights", weights, count)
        return weights

    def _factors(self, stages: Sequence[Tensor], batch: Mapping[str, Tensor]) -> Sequence[int]:
        shape = batch["fixed"].shape[2:]
        least = [level_factor(shape, stage.shape[2:]) for stage in stages]
        if self.factors is None:
            return least
        _same_length("factors", self.factors, len(stages))
        for factor, needed in zip(self.factors, least, strict=True):
            if factor < needed or factor & (factor - 1):
                raise InputError(
                    f"a stage's factor is {factor}; it must be a power of two from {needed} "
                    "upward, so that the level covers the grid."
                )
        return self.factors


def _same_length(name: str, values: Sequence[float], count: int) -> None:
    if len(values) != count:
        raise InputError(
            f"the loss's {name} are {len(values)} numbers, but the cascade has {count} stages; "
            "give one for each, coarse to fine."
        )


Term = Callable[[RegistrationLoss, Comparison], Tensor]


def _truth(loss: RegistrationLoss, seen: Comparison) -> Tensor:
    return truth_error(seen.displacement_vox, seen.truth_vox, seen.truth_weight)


def _landmarks(loss: RegistrationLoss, seen: Comparison) -> Tensor:
    fixed, moving = seen.points("fixed_points"), seen.points("moving_points")
    return landmarks(seen.transformed(fixed), moving, seen.points_weight)


def _dice(loss: RegistrationLoss, seen: Comparison) -> Tensor:
    return dice(seen.fixed_labels, seen.moved_labels, seen.overlap)


def _lncc(loss: RegistrationLoss, seen: Comparison) -> Tensor:
    return lncc(seen.fixed, seen.moved, seen.overlap_alike, radius_mm=loss.window_vox)


def _nmi(loss: RegistrationLoss, seen: Comparison) -> Tensor:
    """With as many bins as there are voxels along an axis: a coarse level cannot fill many."""
    voxels = seen.fixed.shape[2:].numel()
    bins = min(max(round(voxels ** (1 / 3)), 8), 32)
    return nmi(seen.fixed, seen.moved, seen.overlap, bins=bins)


def _mind_ssc(loss: RegistrationLoss, seen: Comparison) -> Tensor:
    """Of descriptors that are moved: those of a moved image would end well before it does."""
    with torch.no_grad():
        fixed = mind_descriptor(seen.fixed, seen.fixed_weight)
        moving = mind_descriptor(seen.moving, seen.moving_weight)
        fixed_known, moving_known = mind_weight(seen.fixed_weight), mind_weight(seen.moving_weight)
    reached = seen.read(moving_known)
    moved = seen.read(moving * moving_known, reached)
    return masked_mean((moved - fixed) ** 2, fixed_known * reached.detach())


def _by_images(similarity: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Term:
    return lambda loss, seen: similarity(seen.fixed, seen.moved, seen.overlap)


def _by_field(irregularity: Callable[[Tensor, Grid], Tensor]) -> Term:
    """A term of the displacement in millimetres."""

    def term(loss: RegistrationLoss, seen: Comparison) -> Tensor:
        spacing_mm = loss.spacing_mm * seen.factor
        field = seen.displacement_vox
        return irregularity(field * spacing_mm, Grid.of_spacing(field.shape[2:], spacing_mm))

    return term


def _squared_length(displacement_mm: Tensor, grid: Grid) -> Tensor:
    """`identity_deviation` of a transform that is a displacement of its own points."""
    return masked_mean((displacement_mm**2).sum(dim=1), None)


_TERMS: dict[str, Term] = {
    "truth": _truth,
    "landmarks": _landmarks,
    "dice": _dice,
    "lncc": _lncc,
    "nmi": _nmi,
    "mind_ssc": _mind_ssc,
    "ncc": _by_images(ncc),
    "mse": _by_images(mse),
    "diffusion": _by_field(diffusion),
    "bending": _by_field(bending),
    "jacobian": _by_field(jacobian),
    "identity_deviation": _by_field(_squared_length),
}
