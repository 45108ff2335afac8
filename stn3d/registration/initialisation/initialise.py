"""Initialisation of a registration: strategies in the order of their cost, and the metric.

Simple candidates come first. If the best of them is not certain, the network's estimate is added,
and if a doubt remains, all rotations are searched. A metric that is not given is selected as soon
as the images are roughly aligned, because only then do they show whether their contrast is the
same. Where one image ends and the other goes on, all of this is repeated within the shared content.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from stn3d.choices import AUTOMATIC, InitialMethod, MetricChoice, MetricName
from stn3d.losses.similarity import METRICS
from stn3d.preprocessing.pair import Pair
from stn3d.registration.automatic import (
    SelectedMetric,
    different_contrasts,
    select_metric,
    shows_same_contrast,
)
from stn3d.registration.content import SURELY_FILLED, SharedContent, shared_content, unscaled
from stn3d.registration.initialisation.candidates import CoarsePair, InitialTransform, coarse_mm
from stn3d.registration.initialisation.geometry import mean_distance_mm, rotation_rad_of
from stn3d.registration.initialisation.strategies import (
    NUM_REFINED,
    SIMPLE,
    Given,
    NetworkEstimate,
    Proposed,
    Strategy,
    exhaustive_search,
)
from stn3d.registration.initialisation.within import aligned_within, is_aligned
from stn3d.registration.settings import Settings
from stn3d.registration.structures import PairStructures, structures_of
from stn3d.transforms import Linear, LinearKind, Transform

_PROBABLY_ALIGNED = 0.3  # loss of AUTOMATIC.same; below it the contrasts can be compared
_NEAR_VOX = 3.0  # coarse voxels; estimates this near agree
_SAME_VOX = 1.0  # coarse voxels; refined candidates this near have converged to one transform
_NUM_REFINED_AFTER_SEARCH = 8


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


def initialise(
    pair: Pair,
    settings: Settings,
    ct: tuple[bool, ...] = (False, False),
    given: Transform | None = None,
    constant_background: tuple[bool, bool] = (True, True),
) -> Initialisation:
    """Find the initial transform, and select the metric unless it is given.

    Args:
        pair: The prepared images.
        settings: Kind, metric, initial method and estimator.
        ct: Whether the fixed and the moving image are CT.
        given: The initial transform if the user gives one.
        constant_background: Whether the fixed and the moving image, as read, have a constant
            background.

    Raises:
        InputError: The network alone may be used, and it has no estimate.
    """
    kind = settings.linear_kind
    use_network = settings.estimator != "optimiser"
    network = NetworkEstimate(pair, kind, settings.affine_weights, use_network)
    rounds = _rounds(pair, settings, network, given)
    finder = Finder(pair, kind, rounds, network)
    found = _found(finder, settings.metric, ct)
    if settings.features == "auto":
        heads = _by_structures(finder, found, settings.metric, ct)
        if heads is not None:
            return heads
    return _within_content(finder, found, settings.metric, ct, constant_background) or found


def _by_structures(
    finder: Finder, found: Initialisation, metric: MetricChoice, ct: tuple[bool, ...]
) -> Initialisation | None:
    """The initialisation with the structures of two heads that do not show the same contrast.

    Mutual information of whole heads of two people, or of a stripped brain and a whole head, has
    minima at wrong poses. Where the structures overlap surely less than they can, they replace the
    best candidate, and the metric is selected again.
    """
    selected = found.selected_metric
    is_same = _compares_same(metric) if selected is None else shows_same_contrast(selected)
    if is_same or finder.network.transform is None:
        return None
    structures = structures_of(finder.pair)
    if isinstance(structures, str):
        return None
    structures = replace(structures, is_ct=any(ct))
    aligned = structures.aligned(finder.kind)
    if len(finder.rounds) == 1 or not structures.is_worse(found.best.transform, aligned):
        return replace(found, structures=structures)
    best = finder.coarse(found.metric).scored("structures", aligned)
    candidates = [best, *found.candidates]
    chosen = found.metric
    if selected is not None:
        within = replace(finder, pair=structures.masked(finder.pair))
        selected = within.selected_metric(best, ct)
        chosen = selected.choice
    return Initialisation(chosen, selected, candidates, finder.network, structures=structures)


def _within_content(
    finder: Finder,
    found: Initialisation,
    metric: MetricChoice,
    ct: tuple[bool, ...],
    constant: tuple[bool, bool],
) -> Initialisation | None:
    """The initialisation within the content, if one image ends where the other goes on.

    Within the content, the simple candidates show whether the contrast is the same. Otherwise
    outlines are no guide, and `aligned_within` finds the transform by the different contrast alone.
    """
    suspected = _suspected(finder, found, metric, constant)
    if suspected is None:
        return None
    content, rough = suspected
    inner = replace(finder, pair=content.within)
    if metric == "auto" and ct[0] == ct[1]:
        selected = inner.selected_metric(inner.find(AUTOMATIC.same, num_rounds=1)[0], ct)
        is_same = shows_same_contrast(selected)
    else:
        is_same = _compares_same(metric)
    if is_same and content.is_confirmed(_refined_within(content, found), SURELY_FILLED):
        again = _found(inner, metric, ct)
        is_same = again.selected_metric is None or shows_same_contrast(again.selected_metric)
        if is_same and content.is_confirmed(again.best.transform):
            return replace(again, content=replace(content, is_ct=all(ct)))
    if not rough or len(finder.rounds) == 1 or _compares_same(metric):
        return None  # the initial transform is as the user asked
    starts = [*rough, *(unscaled(one, finder.pair) for one in rough)]
    aligned = aligned_within(content, starts, finder.kind, finder.comparison_mm)
    if not content.is_confirmed(aligned.transform, SURELY_FILLED):
        return None
    if not is_aligned(content, aligned, finder.comparison_mm):
        return None
    if metric != "auto":
        return Initialisation(metric, None, [aligned], finder.network, content)
    selected = inner.selected_metric(aligned, ct)
    if not shows_same_contrast(selected):
        selected = different_contrasts(selected)
    return Initialisation(selected.choice, selected, [aligned], finder.network, content)


def _suspected(
    finder: Finder, found: Initialisation, metric: MetricChoice, constant: tuple[bool, bool]
) -> tuple[SharedContent, list[Linear]] | None:
    """The content that may be shared, and rough alignments of it.

    Outlines align a stripped image with a whole one at the wrong scale, so the network's estimate,
    which does not depend on them, is asked too where the contrast does not confirm the alignment.
    """
    best = found.best.transform
    rough = [best] if isinstance(best, Linear) else []
    if rough and len(found.candidates) > 1:  # outlines say little about the orientation
        rough.append(min((each.linear for each in found.candidates), key=rotation_rad_of))
    content = shared_content(finder.pair, best, finder.comparison_mm, constant)
    selected = found.selected_metric
    is_same = _compares_same(metric) if selected is None else shows_same_contrast(selected)
    if not is_same and any(constant) and len(finder.rounds) > 1:
        estimate = finder.network.transform
        if estimate is not None:
            rough = [estimate, *rough]
            content = content or shared_content(
                finder.pair, estimate, finder.comparison_mm, constant
            )
    return None if content is None else (content, rough)


def _compares_same(metric: MetricChoice) -> bool:
    """Whether a metric was given that is for images of the same contrast."""
    return metric != "auto" and METRICS[metric].contrast == "same"


def _refined_within(content: SharedContent, found: Initialisation) -> Transform:
    """The initial transform refined within the content, with any scale."""
    rough = found.best.transform
    if not isinstance(rough, Linear):
        return rough
    proposed = Proposed([("unscaled", unscaled(rough, content.pair)), ("rough", rough)])
    finder = Finder(content.within, "similarity", (Round((proposed,), 2),), found.network)
    return finder.find(found.metric)[0].transform


def _found(finder: Finder, metric: MetricChoice, ct: tuple[bool, ...]) -> Initialisation:
    """The initial transform by a metric, which is selected on the way if it is ``auto``."""
    if metric != "auto":
        return Initialisation(metric, None, finder.find(metric), finder.network)
    selected, found = _with_metric(finder, ct)
    return Initialisation(selected.choice, selected, found, finder.network)


def _with_metric(
    finder: Finder, ct: tuple[bool, ...]
) -> tuple[SelectedMetric, list[InitialTransform]]:
    """The metric and the candidates, where either depends on the other."""
    same, different = AUTOMATIC.same, AUTOMATIC.different
    if len(finder.rounds) == 1:  # one strategy alone, whatever the metric
        selected = finder.selected_metric(finder.find(same)[0], ct)
        return selected, finder.find(selected.choice)

    # Most images have the same contrast, and simple candidates align them.
    simple = finder.find(same, num_rounds=1) if ct[0] == ct[1] else []
    if simple and simple[0].loss < _PROBABLY_ALIGNED:
        selected = finder.selected_metric(simple[0], ct)
        is_certain = finder.coarse(same).is_convincing(simple[0])
        num_rounds = 1 if is_certain else len(finder.rounds)
        earlier = [] if selected.choice == same else simple[:1]
        return selected, finder.find(selected.choice, earlier, num_rounds)

    # A metric for different contrasts aligns images of the same contrast too, if less precisely.
    found = finder.find(different)
    selected = finder.selected_metric(found[0], ct)
    if selected.choice != different:
        found = finder.find(selected.choice, found[:1])
    return selected, found


@dataclass(frozen=True)
class Round:
    """Strategies that are tried together.

    Args:
        strategies: Strategies in the order of preference.
        num_refined: Maximum number of candidates to refine, of this round and earlier ones.
    """

    strategies: tuple[Strategy, ...]
    num_refined: int


def _rounds(
    pair: Pair, settings: Settings, network: NetworkEstimate, given: Transform | None
) -> tuple[Round, ...]:
    """What to try, in turn, until the best candidate is certain."""
    if given is not None:
        return (Round((Given(pair, given),), 0),)
    if settings.init != "auto":
        method: InitialMethod = settings.init  # type: ignore[assignment]
        return (Round(SIMPLE[method], 0),)
    simple, by_network = Round(SIMPLE["auto"], NUM_REFINED), Round((network,), NUM_REFINED)
    if settings.estimator == "network":
        network.require()
    if settings.estimator in ("network", "both"):
        return (simple if network.transform is None else by_network,)
    return simple, by_network, Round((exhaustive_search,), _NUM_REFINED_AFTER_SEARCH)


@dataclass(frozen=True, eq=False)
class Finder:
    """Finds candidates for a pair, by any metric.

    Args:
        pair: The prepared images.
        kind: Kind of the linear transform sought.
        rounds: What to try, in turn.
        network: The network's estimate; if it is among the strategies, its agreement counts.
    """

    pair: Pair
    kind: LinearKind
    rounds: tuple[Round, ...]
    network: NetworkEstimate
    _coarse: dict[MetricName, CoarsePair] = field(default_factory=dict, init=False, repr=False)

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
        """The metric for the images as a candidate aligns them."""
        return select_metric(self.pair, candidate.transform, self.comparison_mm, ct)

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
        if network_tried:  # only the search is left, which costs most
            estimate = self.network.transform
            if estimate is not None and self._distance_vox(best.transform, estimate) < _NEAR_VOX:
                return True
            if coarse.is_convincing_at_half(best):
                return True
        return any(
            self._distance_vox(one.transform, best.transform) < _SAME_VOX
            and self._distance_vox(one.proposed, best.proposed) > 2 * _NEAR_VOX
            for one in ranked[1:]
        )

    def _distance_vox(self, a: Transform, b: Transform) -> float:
        return mean_distance_mm(self.pair.fixed.grid, a, b) / coarse_mm(self.pair)
