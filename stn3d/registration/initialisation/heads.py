"""Initialisation of two heads of different contrast by their structures."""

from __future__ import annotations

from dataclasses import replace

from stn3d.choices import MetricChoice
from stn3d.losses.similarity import METRICS
from stn3d.registration.automatic import shows_same_contrast
from stn3d.registration.initialisation.finder import Finder, Initialisation, compares_same


def by_structures(
    finder: Finder, found: Initialisation, metric: MetricChoice, ct: tuple[bool, ...]
) -> Initialisation | None:
    """The initialisation with the structures of two heads that do not show the same contrast.

    Mutual information of whole heads of two people, or of a stripped brain and a whole head, has
    minima at wrong poses. Where the structures overlap surely less than they can, they replace the
    best candidate, and the metric is selected again.
    """
    selected = found.selected_metric
    is_same = compares_same(metric) if selected is None else shows_same_contrast(selected)
    if is_same or _is_sure(finder, found) or finder.structures is None:
        return None
    structures = replace(finder.structures, is_ct=any(ct))
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


def _is_sure(finder: Finder, found: Initialisation) -> bool:
    """Whether there is neither evidence of different contrasts nor a doubt about the alignment."""
    if METRICS[found.metric].contrast != "same" or len(finder.rounds) == 1:
        return False
    return finder.coarse(found.metric).is_convincing(found.best)
