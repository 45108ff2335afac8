"""Initialisation of two heads of different contrast by their structures."""

from __future__ import annotations

from dataclasses import replace

from stn3d.losses.similarity import METRICS
from stn3d.registration.automatic import may_differ, shows_same_contrast
from stn3d.registration.initialisation.finder import Finder, Initialisation, compares_same
from stn3d.registration.settings import Settings

# Loss of mutual information from which on heads may be misaligned: 0.66 to 0.69 in images of one
# subject, 0.77 to 0.79 between templates, 0.80 to 0.90 between subjects at wrong and right poses.
_ALIGNED = 0.75
_FITS = 0.6  # of the loss where the structures fit; below it the intensities are aligned


def by_structures(
    finder: Finder, found: Initialisation, settings: Settings, ct: tuple[bool, ...]
) -> Initialisation | None:
    """The initialisation with the structures of two heads that do not show the same contrast.

    Mutual information of whole heads of two people, or of a stripped brain and a whole head, has
    minima at wrong poses. Where the structures overlap surely less than they can, they replace the
    best candidate, and the metric is selected again.

    Args:
        finder: The search for candidates.
        found: The initialisation by intensities.
        settings: Kind and metric asked for.
        ct: Whether the fixed and the moving image are CT.
    """
    metric, selected = settings.metric, found.selected_metric
    if selected is None:
        is_same = compares_same(metric)
    else:
        is_same = shows_same_contrast(selected) and not may_differ(selected)
    if is_same or _is_sure(finder, found, settings) or finder.structures is None:
        return None
    structures = replace(finder.structures, is_ct=any(ct))
    aligned = structures.aligned(finder.kind)
    best = finder.coarse(found.metric).scored("structures", aligned)
    if METRICS[found.metric].contrast == "same" and found.best.loss < _FITS * best.loss:
        return None  # the network knows neither image: a fetal brain, for example
    if len(finder.rounds) == 1 or not structures.is_worse(found.best.transform, aligned):
        return replace(found, structures=structures)
    structures = replace(structures, intensities_mislead=True)
    candidates = [best, *found.candidates]
    chosen = found.metric
    if selected is not None:
        within = replace(finder, pair=structures.masked(finder.pair))
        selected = within.selected_metric(best, ct)
        chosen = selected.choice
    return Initialisation(chosen, selected, candidates, finder.network, structures=structures)


def _is_sure(finder: Finder, found: Initialisation, settings: Settings) -> bool:
    """Whether the alignment is not in doubt, and nothing else depends on the contrast."""
    if METRICS[found.metric].contrast == "same":
        return len(finder.rounds) > 1 and finder.coarse(found.metric).is_convincing(found.best)
    if settings.kind in ("auto", "deformable"):
        return False
    return len(finder.rounds) == 1 or found.best.loss < _ALIGNED
