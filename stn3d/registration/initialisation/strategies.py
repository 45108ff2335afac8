"""Where a registration starts, and by which metric it goes on: plain guesses, a network, a search.

Cheap guesses come first. Where they leave a doubt the network is asked, and where it cannot help
all turns are searched. A metric that is not given is chosen as soon as the images lie roughly on
each other, for only then do they tell whether they show one contrast or two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from stn3d.choices import AUTOMATIC, InitialMethod, MetricName
from stn3d.errors import InputError
from stn3d.losses.similarity import METRICS
from stn3d.preprocessing.pair import Pair
from stn3d.registration.automatic import SelectedMetric, choose_metric
from stn3d.registration.initialisation.candidates import (
    Candidate,
    Coarse,
    coarse_mm,
    initial_candidates,
)
from stn3d.registration.settings import Kind, Settings
from stn3d.transforms import Affine, LinearKind, Transform

if TYPE_CHECKING:  # networks take time to import, and most registrations ask none
    from stn3d.nets.weights import Trained

_LIKELY = 0.3  # of lncc: the images lie so well that they tell whether they show one contrast
_NEAR_VOX = 3.0  # of the coarse grid: guesses this near agree
_LANDED_VOX = 1.0  # improved guesses this near have landed at one place
_CHOSEN_FROM = 8  # of what a search found, with all other guesses, so many are improved


@dataclass(frozen=True, eq=False)
class Starts:
    """Makes the candidates for a pair.

    Args:
        pair: the scans.
        settings: kind, initial method, estimator and weights.
        ct: whether the fixed and the moving image are known to be CT.
    """

    pair: Pair
    settings: Settings
    ct: tuple[bool, ...] = (False, False)

    @property
    def kind(self) -> LinearKind:
        """Of the linear transform that is looked for."""
        return linear_kind(self.settings.kind)

    @cached_property
    def _trained(self) -> Trained:
        from stn3d.nets.weights import load_weights, shipped

        return load_weights(self.settings.affine_weights or shipped("affine"))

    @cached_property
    def head(self) -> Affine | None:
        """From head to head as the network sees them; None where it is not asked or sees none."""
        if self.settings.estimator == "optimiser" or not self._trained.fits(self.pair.first):
            return None
        from stn3d.nets.stages import NetworkStart

        return NetworkStart(self._trained.on(self.pair.fixed.image.device))(
            self.pair.first, self.kind
        )

    def _require_head(self) -> None:
        """Where the network alone may say where to start.

        Raises:
            InputError: it sees no head.
        """
        if self.settings.estimator == "network" and self.head is None:
            fits = self._trained.fits(self.pair.first)
            reason = (
                "sees no head in one of the images"
                if fits
                else self._trained.misfit(self.pair.first)
            )
            raise InputError(
                f"the affine network {reason}; use --estimator auto, or another --init."
            )

    def find(self) -> tuple[MetricName, SelectedMetric | None, list[Candidate]]:
        """The metric, why it was chosen if it was not given, and where to start, best first."""
        metric, method = self.settings.metric, self.settings.init
        if metric != "auto":
            return metric, None, self.candidates(metric)
        if method != "auto" or self.settings.estimator in ("network", "both"):
            found = self.candidates(AUTOMATIC.same)
            choice = self.metric_at(found[0].transform)
            return choice.value, choice, self.candidates(choice.value)
        plain = self._plain(AUTOMATIC.same) if self.ct[0] == self.ct[1] else []
        if plain and plain[0].loss < _LIKELY:
            choice = self.metric_at(plain[0].transform)
            chosen, sure = choice.value, plain[0].loss < METRICS[AUTOMATIC.same].convincing_loss
            if chosen == AUTOMATIC.same:
                return chosen, choice, plain if sure else self.candidates(chosen)
            again = self._plain if sure else self.candidates
            return chosen, choice, again(chosen, plain[:1])
        informed = self.candidates(AUTOMATIC.different)
        choice = self.metric_at(informed[0].transform)
        if choice.value == AUTOMATIC.different:
            return AUTOMATIC.different, choice, informed
        return AUTOMATIC.same, choice, self.candidates(AUTOMATIC.same, informed[:1])

    def metric_at(self, transform: Transform) -> SelectedMetric:
        """What the images tell where a transform lays them on each other."""
        spacing = max(self.pair.finest_mm, coarse_mm(self.pair) / 2)
        return choose_metric(self.pair, transform, spacing, self.ct)

    def candidates(self, metric: MetricName, others: Sequence[Candidate] = ()) -> list[Candidate]:
        """Where to start by a metric, best first.

        Args:
            metric: what scores them.
            others: guesses made elsewhere.
        """
        method: InitialMethod = self.settings.init  # type: ignore[assignment]
        if method != "auto":
            return initial_candidates(self.pair, method, metric, self.kind)
        if self.settings.estimator in ("network", "both"):
            self._require_head()
            known = [] if self.head is None else [("network", self.head)]
            return initial_candidates(
                self.pair, "auto" if not known else None, metric, self.kind, known
            )
        coarse = Coarse.of(self.pair, metric, self.kind)
        guesses = _guesses(coarse, others)
        found = coarse.chosen(guesses)
        if self._sure(found, metric):
            return found
        if self.head is not None:
            guesses.append(coarse.scored("network", self.head))
            found = coarse.chosen(guesses)
            if self._sure(found, metric, self.head):
                return found
        return coarse.chosen([*guesses, *coarse.searched()], _CHOSEN_FROM)

    def _plain(self, metric: MetricName, others: Sequence[Candidate] = ()) -> list[Candidate]:
        coarse = Coarse.of(self.pair, metric, self.kind)
        return coarse.chosen(_guesses(coarse, others))

    def _sure(
        self, found: Sequence[Candidate], metric: MetricName, head: Affine | None = None
    ) -> bool:
        """Whether the best is beyond doubt: by its loss, by landmarks, by the network, or since
        another guess that began elsewhere landed at the same place."""
        best, voxel = found[0], coarse_mm(self.pair)
        if best.loss < METRICS[metric].convincing_loss or best.name == "landmarks":
            return True
        if head is not None and self.apart_mm(best.transform, head) < _NEAR_VOX * voxel:
            return True
        return any(
            self.apart_mm(one.transform, best.transform) < _LANDED_VOX * voxel
            and self.apart_mm(one.guess, best.guess) > 2 * _NEAR_VOX * voxel
            for one in found[1:]
        )

    def apart_mm(self, a: Transform, b: Transform) -> float:
        """The mean distance of two transforms at the middles of the fixed grid's octants."""
        grid = self.pair.fixed.grid
        quarters = torch.tensor([0.25, 0.75], dtype=torch.float64)
        ends = [(n - 1) * quarters for n in grid.shape]
        index = torch.cartesian_prod(*ends)
        points = index @ grid.world_from_index[:-1, :-1].T + grid.world_from_index[:-1, -1]
        return float(torch.linalg.vector_norm(a(points) - b(points), dim=-1).mean())


def _guesses(coarse: Coarse, others: Sequence[Candidate]) -> list[Candidate]:
    """All plain ones, after others, which another metric may have scored."""
    near = [coarse.scored(one.name, one.transform) for one in others]
    return [*near, *(coarse.scored(*guess) for guess in coarse.guesses("auto"))]


def linear_kind(kind: Kind) -> LinearKind:
    """Of the linear transform that a kind of registration looks for."""
    return "affine" if kind in ("auto", "deformable") else kind  # type: ignore[return-value]
