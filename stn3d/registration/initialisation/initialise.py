"""Initialisation of a registration: strategies in the order of their cost, and the metric.

Simple candidates come first. If the best of them is not certain, the network's estimate is added,
and if a doubt remains, all rotations are searched. A metric that is not given is selected as soon
as the images are roughly aligned, because only then do they show whether their contrast is the
same. Where one image ends and the other goes on, all of this is repeated within the shared content.
"""

from __future__ import annotations

from dataclasses import replace

from stn3d.choices import AUTOMATIC, InitialMethod, MetricChoice
from stn3d.preprocessing.pair import Pair
from stn3d.registration.automatic import (
    SelectedMetric,
    different_contrasts,
    shows_same_contrast,
)
from stn3d.registration.content import SURELY_FILLED, SharedContent, shared_content, unscaled
from stn3d.registration.initialisation.candidates import InitialTransform
from stn3d.registration.initialisation.finder import (
    Finder,
    Initialisation,
    Round,
    compares_same,
)
from stn3d.registration.initialisation.geometry import rotation_rad_of
from stn3d.registration.initialisation.heads import by_structures
from stn3d.registration.initialisation.strategies import (
    NUM_REFINED,
    SIMPLE,
    Given,
    NetworkEstimate,
    Proposed,
    exhaustive_search,
    shared_part,
)
from stn3d.registration.initialisation.within import aligned_within, is_aligned
from stn3d.registration.settings import Settings
from stn3d.transforms import Linear, Transform

_PROBABLY_ALIGNED = 0.3  # loss of AUTOMATIC.same; below it the contrasts can be compared
_NUM_REFINED_AFTER_SEARCH = 8


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
    finder = Finder(pair, kind, rounds, network, use_structures=settings.features == "auto")
    found = _found(finder, settings.metric, ct)
    suspected = _suspected(finder, found, settings.metric, constant_background)
    if suspected is None:
        return by_structures(finder, found, settings, ct) or found
    return (
        _within_same_contrast(finder, found, suspected[0], settings.metric, ct)
        or by_structures(finder, found, settings, ct)
        or _within_different_contrast(finder, found, suspected, settings.metric, ct)
        or found
    )


def _within_same_contrast(
    finder: Finder,
    found: Initialisation,
    content: SharedContent,
    metric: MetricChoice,
    ct: tuple[bool, ...],
) -> Initialisation | None:
    """The initialisation within the content of images of the same contrast, where one of them ends
    and the other goes on. Simple candidates within it show whether the contrast is the same."""
    inner = replace(finder, pair=content.within, use_structures=False)
    if metric == "auto" and ct[0] == ct[1]:
        selected = inner.selected_metric(inner.find(AUTOMATIC.same, num_rounds=1)[0], ct)
        is_same = shows_same_contrast(selected)
    else:
        is_same = compares_same(metric)
    if is_same and content.is_confirmed(_refined_within(content, found), SURELY_FILLED):
        again = _found(inner, metric, ct)
        is_same = again.selected_metric is None or shows_same_contrast(again.selected_metric)
        if is_same and content.is_confirmed(again.best.transform):
            return replace(again, content=replace(content, is_ct=all(ct)))
    return None


def _within_different_contrast(
    finder: Finder,
    found: Initialisation,
    suspected: tuple[SharedContent, list[Linear]],
    metric: MetricChoice,
    ct: tuple[bool, ...],
) -> Initialisation | None:
    """The initialisation within the content, where outlines are no guide: `aligned_within` finds
    the transform by the different contrast alone."""
    content, rough = suspected
    if not rough or len(finder.rounds) == 1 or compares_same(metric):
        return None  # the initial transform is as the user asked
    starts = [*rough, *(unscaled(one, finder.pair) for one in rough)]
    aligned = aligned_within(content, starts, finder.kind, finder.comparison_mm)
    if not content.is_confirmed(aligned.transform, SURELY_FILLED):
        return None
    if not is_aligned(content, aligned, finder.comparison_mm):
        return None
    if metric != "auto":
        return Initialisation(metric, None, [aligned], finder.network, content)
    within = replace(finder, pair=content.within, use_structures=False)
    selected = within.selected_metric(aligned, ct)
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
    is_same = compares_same(metric) if selected is None else shows_same_contrast(selected)
    if not is_same and any(constant) and len(finder.rounds) > 1:
        estimate = finder.network.transform
        if estimate is not None:
            rough = [estimate, *rough]
            content = content or shared_content(
                finder.pair, estimate, finder.comparison_mm, constant
            )
    return None if content is None else (content, rough)


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

    if all(ct):
        found = finder.find(same)
        return finder.selected_metric(found[0], ct), found

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
    by_part = Round((shared_part,), NUM_REFINED)
    return simple, by_network, by_part, Round((exhaustive_search,), _NUM_REFINED_AFTER_SEARCH)
