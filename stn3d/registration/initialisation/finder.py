"""The search for candidates in rounds, and the outcome of an initialisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from stn3d.choices import AUTOMATIC, MetricChoice, MetricName
from stn3d.losses.similarity import METRICS
from stn3d.preprocessing.pair import Pair
from stn3d.registration.automatic import (
    SelectedMetric,
    select_metric,
    surely_same_contrast,
)
from stn3d.registration.content import SharedContent
from stn3d.registration.initialisation.candidates import CoarsePair, InitialTransform, coarse_mm
from stn3d.registration.initialisation.geometry import mean_distance_mm
from stn3d.registration.initialisation.strategies import NetworkEstimate, Proposed, Strategy
from stn3d.registration.stages import LinearStage
from stn3d.registration.structures import PairStructures, structures_of
from stn3d.transforms import LinearKind, Transform

_NEAR_VOX = 3.0  # coarse voxels; estimates this near agree
_ALIGNING_STEPS = 20  # iterations on each level, to compare the contrasts
_SAME_VOX = 1.0  # coarse voxels; refined candidates this near have converged to one transform


@dataclass(frozen=True)
class Initialisation:
    """How a registration starts.

    Args:
        metric: Metric of the linear stages.
        selected_metric: The automatic selection of the metric; None if the metric was given.
        candidates: Initial transforms, best first.
        network: The network's estimate, for the selection of the kind; computed on first use.
        content: What both images show, where one of them ends and the other goes on; else None.
        structures: The structures of both heads, where their contrast is not the same and the
            segmentation network knows them; else None.
    """

    metric: MetricName
    selected_metric: SelectedMetric | None
    candidates: list[InitialTransform]
    network: NetworkEstimate
    content: SharedContent | None = None
    structures: PairStructures | None = None

    @property
    def best(self) -> InitialTransform:
        """The initial transform that the registration uses."""
        return self.candidates[0]


@dataclass(frozen=True)
class Round:
    """Strategies that are tried together.

    Args:
        strategies: Strategies in the order of preference.
        num_refined: Maximum number of candidates to refine, of this round and earlier ones.
    """

    strategies: tuple[Strategy, ...]
    num_refined: int


@dataclass(frozen=True, eq=False)
class Finder:
    """Finds candidates for a pair, by any metric.

    Args:
        pair: The prepared images.
        kind: Kind of the linear transform sought.
        rounds: What to try, in turn.
        network: The network's estimate; if it is among the strategies, its agreement counts.
        use_structures: Whether the structures of two heads may be asked for.
    """

    pair: Pair
    kind: LinearKind
    rounds: tuple[Round, ...]
    network: NetworkEstimate
    use_structures: bool = False
    _coarse: dict[MetricName, CoarsePair] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def structures(self) -> PairStructures | None:
        """The structures of two heads; None where the networks do not find them."""
        if not self.use_structures or self.network.transform is None:
            return None
        found = structures_of(self.pair)
        return None if isinstance(found, str) or not found.correspond else found

    def coarse(self, metric: MetricName) -> CoarsePair:
        """The pair on the coarse grid; it remembers what was scored and refined."""
        if metric not in self._coarse:
            self._coarse[metric] = CoarsePair.of(self.pair, metric, self.kind)
        return self._coarse[metric]

    def find(
        self,
        metric: MetricName,
        earlier: Sequence[InitialTransform] = (),
        num_rounds: int | None = None,
    ) -> list[InitialTransform]:
        """The candidates by a metric, best first.

        Args:
            metric: Metric that scores them.
            earlier: Candidates found by another metric, which take part.
            num_rounds: Maximum number of rounds; all by default.
        """
        coarse = self.coarse(metric)
        candidates = Proposed([(c.name, c.linear) for c in earlier])(coarse)
        ranked: list[InitialTransform] = []
        tried: list[Strategy] = []
        rounds = self.rounds[:num_rounds]
        for each in rounds:
            for strategy in each.strategies:
                candidates += strategy(coarse)
            tried += each.strategies
            ranked = coarse.selected(candidates, each.num_refined)
            if each is not rounds[-1] and self._is_certain(ranked, coarse, self.network in tried):
                break
        return ranked

    def selected_metric(self, candidate: InitialTransform, ct: tuple[bool, ...]) -> SelectedMetric:
        """The metric for the images as a candidate aligns them.

        Where it is not beyond doubt that they have the same contrast, they may only be misaligned
        by a few millimetres. They are then aligned by the metric for different contrasts, which
        aligns the same contrast too, and compared again.
        """
        selected = select_metric(self.pair, candidate.transform, self.comparison_mm, ct)
        if selected.choice != AUTOMATIC.same or surely_same_contrast(selected):
            return selected
        factors = tuple(n * self.comparison_mm / self.pair.finest_mm for n in (2, 1))
        stage = LinearStage(self.kind, AUTOMATIC.different, factors, iterations=_ALIGNING_STEPS)
        aligned = stage(self.pair, candidate.transform, lambda *_: None)
        again = select_metric(self.pair, aligned, self.comparison_mm, ct)
        return selected if again.choice == selected.choice else again

    @property
    def comparison_mm(self) -> float:
        """Spacing of the grid on which the images are compared to select the metric."""
        return max(self.pair.finest_mm, coarse_mm(self.pair) / 2)

    def _is_certain(
        self, ranked: Sequence[InitialTransform], coarse: CoarsePair, network_tried: bool
    ) -> bool:
        """Whether the best candidate is beyond doubt: by its loss, by landmarks, by the network, or
        because another candidate that was proposed elsewhere converged to it."""
        best = ranked[0]
        if best.name == "landmarks" or coarse.is_convincing(best):
            return True
        if network_tried:  # only searches are left, which cost most
            estimate = self.network.transform
            if estimate is not None and self._distance_vox(best.transform, estimate) < _NEAR_VOX:
                return True
            if coarse.is_convincing_at_half(best):
                return True
            if METRICS[coarse.metric].contrast != "same" and self.structures is not None:
                return True  # they find the pose of a head, see `by_structures`
        return any(
            self._distance_vox(one.transform, best.transform) < _SAME_VOX
            and self._distance_vox(one.proposed, best.proposed) > 2 * _NEAR_VOX
            for one in ranked[1:]
        )

    def _distance_vox(self, a: Transform, b: Transform) -> float:
        return mean_distance_mm(self.pair.fixed.grid, a, b) / coarse_mm(self.pair)


def compares_same(metric: MetricChoice) -> bool:
    """Whether a metric was given that is for images of the same contrast."""
    return metric != "auto" and METRICS[metric].contrast == "same"
