"""Batches of distorted digits, as a function of the iteration, so that runs can resume."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from stn3d.synth.digits import DISTORTIONS, Digits, Task
from stn3d.synth.generator import SeededGenerator


class DigitBatches:
    """Batches without end: each digit once per epoch, with a new order and new distortions.

    Args:
        digits: The digits.
        task: Distortion of the digits.
        batch_size: Images in a batch.
        seed: Seed of the orders and distortions.
        start: First iteration, from 0.
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
        """``image`` ``(B, C, *shape)`` and ``label`` of an iteration, from 0."""
        first, n = iteration * self.batch_size, len(self.digits)
        numbers = np.arange(first, first + self.batch_size)
        orders = {epoch: self._order(epoch) for epoch in np.unique(numbers // n)}
        index = torch.tensor([int(orders[number // n][number % n]) for number in numbers])
        image, label = self.distort(self.digits, index, SeededGenerator(self.seed, iteration))
        return {"image": image, "label": label}

    def _order(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self.seed, int(epoch)]).permutation(len(self.digits))


def evaluation_batches(
    digits: Digits, task: Task, batch_size: int, seed: int
) -> Iterator[dict[str, Tensor]]:
    """Each digit once, in order, with a distortion fixed by the seed.

    Args:
        digits: The digits.
        task: Distortion of the digits.
        batch_size: Images in a batch; the distortions depend on it.
        seed: Seed of the distortions.
    """
    for number, index in enumerate(torch.arange(len(digits)).split(batch_size)):
        image, label = DISTORTIONS[task](digits, index, SeededGenerator(seed, number))
        yield {"image": image, "label": label}
