"""Training loss of registration networks: similarity, supervision and regularisation."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stn3d.arguments import tensor_arguments
from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.losses.levels import BatchPyramid, LevelComparison, level_factor
from stn3d.losses.masked import masked_mean
from stn3d.losses.regularity import bending, diffusion, jacobian
from stn3d.losses.similarity import lncc, mind_descriptor, mind_weight, mse, ncc, nmi
from stn3d.losses.supervised import dice, landmarks, truth_error


@dataclass(frozen=True, kw_only=True)
class RegistrationLoss:
    """Weighted sum of terms over the stages of a cascade; terms of weight 0 are not computed.

    ``sum_s level_weights[s] sum_t t * term_t(stage s)``. Each stage is evaluated on its own level,
    with the batch averaged over the level's voxels. Similarities and Dice use the overlap of both
    images; the overlap has no gradient.

    Args:
        truth: Weight of the endpoint error, voxels of the level.
        landmarks: Weight of the landmark distance, voxels of the level.
        dice: Weight of 1 - soft Dice.
        lncc: Weight of local normalised cross-correlation. Intensities from 0 to 1, as for the
            other similarities.
        nmi: Weight of normalised mutual information.
        mind_ssc: Weight of the MIND-SSC distance.
        ncc: Weight of normalised cross-correlation.
        mse: Weight of the mean squared error.
        diffusion: Weight of the squared gradient of the displacement.
        bending: Weight of the squared second derivatives, 1/mm^2.
        jacobian: Weight of the squared log-Jacobian determinant, which penalises folding.
        identity_deviation: Weight of the squared displacement, mm^2.
        level_weights: Weights of the stages, coarse to fine. Default: 1 for the last stage, for
            each stage before it half of the next.
        spacing_mm: Isotropic spacing of the batch's grid.
        factors: Downsampling factors of the stages. Default: the smallest powers of two by which
            the levels cover the grid; wrong only if padding doubled every axis.
        max_labels: Maximum number of labels compared in one call; see `common_labels`.
        lncc_radius_vox: Half-width of the LNCC window in voxels of the level.

    Raises:
        InputError: An option is unknown, a weight is negative or not finite, or all are 0.
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
    max_labels: int = 8
    lncc_radius_vox: int = 2

    def __new__(cls, **options: Any) -> RegistrationLoss:
        """Reject unknown options before the fields are set."""
        known = [field.name for field in dataclasses.fields(cls)]
        for name in options:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1, 0)[0]
                raise InputError(f"RegistrationLoss has no option {name!r}; did you mean {near!r}?")
        return super().__new__(cls)

    def __post_init__(self) -> None:
        values = {name: getattr(self, name) for name in _TERMS}
        values |= {f"level_weights[{i}]": w for i, w in enumerate(self.level_weights or ())}
        for name, value in values.items():
            if not (math.isfinite(value) and value >= 0):
                raise InputError(
                    f"RegistrationLoss: {name} is {value}; weights must be finite and at least 0."
                )
        if not self._terms:
            raise InputError(
                f"RegistrationLoss: all weights are 0; set one of {', '.join(_TERMS)}."
            )
        if self.level_weights is not None and not any(self.level_weights):
            raise InputError("RegistrationLoss: all level_weights are 0; set one.")

    @tensor_arguments()
    def __call__(
        self, stages: Sequence[Tensor], batch: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, float]]:
        """Evaluate the loss.

        Args:
            stages: Displacements ``(B, d, *level shape)``, coarse to fine, fixed to moving, in
                voxels of their own level; any floating dtype.
            batch: ``fixed``, ``moving`` ``(B, C, *shape)``, their ``_weight`` ``(B, 1, *shape)``
                from 0 to 1 and ``_labels`` ``(B, 1, *shape)``; ``displacement_vox``
                ``(B, d, *shape)`` and ``truth_weight``; ``fixed_points``, ``moving_points``
                ``(B, N, d)`` index coordinates and ``points_weight`` ``(B, N)``; ``same_contrast``
                ``(B, 1)``, 0 for pairs of different contrasts, which LNCC ignores. Entries that no
                term needs may be missing; missing weights are 1.

        Returns:
            The loss, and the unweighted terms of the last stage with a level weight above 0.

        Raises:
            InputError: The batch lacks an entry, or the stages do not match the settings.
        """
        factors, weights = self._factors(stages, batch), self._weights(len(stages))
        pyramid = BatchPyramid(batch, self.max_labels)
        strengths = torch.tensor([getattr(self, name) for name in self._terms])
        total = terms = torch.zeros(())
        with torch.autocast(stages[-1].device.type, enabled=False):  # sums need float32
            for stage, factor, weight in zip(stages, factors, weights, strict=True):
                if weight > 0:
                    level = LevelComparison(stage.float(), factor, pyramid)
                    terms = torch.stack([_TERMS[name](self, level) for name in self._terms])
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
                    f"the factor of a stage is {factor}; it must be a power of two of at least "
                    f"{needed}, so that the level covers the grid."
                )
        return self.factors


def _same_length(name: str, values: Sequence[float], count: int) -> None:
    if len(values) != count:
        raise InputError(
            f"RegistrationLoss: {name} has {len(values)} values, but the network has {count} "
            "stages; give one value for each, coarse to fine."
        )


Term = Callable[[RegistrationLoss, LevelComparison], Tensor]


def _truth(loss: RegistrationLoss, level: LevelComparison) -> Tensor:
    return truth_error(level.displacement_vox, level.truth_vox, level.truth_weight)


def _landmarks(loss: RegistrationLoss, level: LevelComparison) -> Tensor:
    fixed, moving = level.points("fixed_points"), level.points("moving_points")
    return landmarks(level.transformed(fixed), moving, level.points_weight)


def _dice(loss: RegistrationLoss, level: LevelComparison) -> Tensor:
    return dice(level.fixed_labels, level.moved_labels, level.overlap)


def _lncc(loss: RegistrationLoss, level: LevelComparison) -> Tensor:
    return lncc(
        level.fixed, level.moved, level.overlap_same_contrast, radius_mm=loss.lncc_radius_vox
    )


def _nmi(loss: RegistrationLoss, level: LevelComparison) -> Tensor:
    """NMI; the number of bins is the mean axis length, because coarse levels have few voxels."""
    voxels = level.fixed.shape[2:].numel()
    bins = min(max(round(voxels ** (1 / 3)), 8), 32)
    return nmi(level.fixed, level.moved, level.overlap, bins=bins)


def _mind_ssc(loss: RegistrationLoss, level: LevelComparison) -> Tensor:
    """Squared distance of MIND-SSC descriptors. Descriptors are warped, not recomputed from the
    warped image, because those would be undefined near its border."""
    with torch.no_grad():
        fixed = mind_descriptor(level.fixed, level.fixed_weight)
        moving = mind_descriptor(level.moving, level.moving_weight)
        fixed_known, moving_known = (
            mind_weight(level.fixed_weight),
            mind_weight(level.moving_weight),
        )
    moved_known = level.warp(moving_known)
    moved = level.warp(moving * moving_known, moved_known)
    return masked_mean((moved - fixed) ** 2, fixed_known * moved_known.detach())


def _similarity_term(similarity: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Term:
    return lambda loss, level: similarity(level.fixed, level.moved, level.overlap)


def _regularity_term(regularity: Callable[[Tensor, Grid], Tensor]) -> Term:
    """A regularisation term of the displacement in millimetres."""

    def term(loss: RegistrationLoss, level: LevelComparison) -> Tensor:
        spacing_mm = loss.spacing_mm * level.factor
        field = level.displacement_vox
        return regularity(field * spacing_mm, Grid.of_spacing(field.shape[2:], spacing_mm))

    return term


def _squared_displacement(displacement_mm: Tensor, grid: Grid) -> Tensor:
    """Mean squared length of the displacement, mm^2."""
    return masked_mean((displacement_mm**2).sum(dim=1), None)


_TERMS: dict[str, Term] = {
    "truth": _truth,
    "landmarks": _landmarks,
    "dice": _dice,
    "lncc": _lncc,
    "nmi": _nmi,
    "mind_ssc": _mind_ssc,
    "ncc": _similarity_term(ncc),
    "mse": _similarity_term(mse),
    "diffusion": _regularity_term(diffusion),
    "bending": _regularity_term(bending),
    "jacobian": _regularity_term(jacobian),
    "identity_deviation": _regularity_term(_squared_displacement),
}
