"""What a stage of a cascade is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from stn3d.preprocessing.pair import Pair
from stn3d.transforms import Transform

Progress = Callable[[str, float, int, float], None]
"""Called with the stage's name, the level's spacing in mm, the iteration and the loss."""


class Stage(Protocol):
    """A localiser: finds the transform of a pair, given the transform so far."""

    @property
    def name(self) -> str:
        """What the progress bar and metrics.json call it."""

    def __call__(self, pair: Pair, so_far: Transform, progress: Progress) -> Transform:
        """The transform so far with this stage's residual before it."""
