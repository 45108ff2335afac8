"""InfiniteBatchSampler of distorted digits: each a function of the iteration alone, so runs can be resumed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from stn3d.synth.digits import DISTORTIONS, Digits, Task
from stn3d.synth.generator import SeededGenerator


class DigitBatches:
    """InfiniteBatchSampler without end: every digit once in each turn, in another order and distorted anew.

    Args:
        digits: to draw from.
        task: how they are distorted.
        batch_size: images in a batch.
        seed: of the orders and distortions.
        start: the first iteration, counted from 0.
    """

    def __init__(
        self, digits: Digits, task: Task, batch_size: int, seed: int = 0, start: int = 0
    ) -> None:
        self.digits, self.distort = digits, DISTORTIONS[task]
        self.batch_size, self.seed, self.start = batch_size, seed, start

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for iteration in itertools.count(self.start):
            yield self.batch(iteration)

    def batch(self, iteration: int) -> dict[str, Tensor]:
        """``image`` ``(B, C, *shape)`` and ``label`` of an iteration, counted from 0."""
        first, n = iteration * self.batch_size, len(self.digits)
        numbers = np.arange(first, first + self.batch_size)
        orders = {turn: self._order(turn) for turn in np.unique(numbers // n)}
        index = torch.tensor([int(orders[number // n][number % n]) for number in numbers])
        image, label = self.distort(self.digits, index, SeededGenerator(self.seed, iteration))
        return {"image": image, "label": label}

    def _order(self, turn: int) -> np.ndarray:
        return np.random.default_rng([self.seed, int(turn)]).permutation(len(self.digits))


def evaluation_batches(
    digits: Digits, task: Task, batch_size: int, seed: int
) -> Iterator[dict[str, Tensor]]:
    """Every digit once, in order, each under one distortion that the seed tells.

    Args:
        digits: to show.
        task: how they are distorted.
        batch_size: images in a batch; it is part of what the distortions depend on.
        seed: of the distortions.
    """
    for number, index in enumerate(torch.arange(len(digits)).split(batch_size)):
        image, label = DISTORTIONS[task](digits, index, SeededGenerator(seed, number))
        yield {"image": image, "label": label}
