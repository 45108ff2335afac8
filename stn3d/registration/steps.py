"""The steps that a registration will take, with their expected work."""

from __future__ import annotations

from collections.abc import Sequence

from stn3d.preprocessing.pair import Pair
from stn3d.registration.runtime import Step
from stn3d.registration.settings import Settings
from stn3d.registration.stages import LinearStage, Stage

# Expected work beside the stages, in voxel visits: of every registration, and per voxel.
_INITIALISE, _QUALITY_CHECK = 8e6, 4e6
_INVERSE, _METRICS, _WARP = 0.8, 0.4, 0.1


def expected_steps(stages: Sequence[Stage], pair: Pair) -> list[Step]:
    """The stages and the steps after them, with their expected work."""
    levels = [(stage, stage.levels(pair)) for stage in stages]
    steps = [Step(stage.name, sum(one.work for one in each), True) for stage, each in levels]
    last, finest = levels[-1][0], levels[-1][1][-1]
    inverse = 0.0 if isinstance(last, LinearStage) else _INVERSE * finest.voxels
    size = pair.fixed.grid.num_voxels
    end = (
        ("inverse", inverse),
        ("metrics", _METRICS * size),
        ("warp", _WARP * size),
        ("metrics", _METRICS * size),
        ("quality_check", _QUALITY_CHECK),
    )
    return steps + [Step(name, work) for name, work in end]


def initial_steps(settings: Settings, pair: Pair) -> list[Step]:
    """The initialisation and all steps after it, before a metric is selected."""
    return [Step("initialise", _INITIALISE), *expected_steps(settings.stages(), pair)]
