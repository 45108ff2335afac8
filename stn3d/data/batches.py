"""Samples of each training iteration, as a function of the iteration, so that runs can resume."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from monai.transforms import Compose
from torch import Tensor
from torch.utils.data import Dataset, Sampler, default_collate

from stn3d.arguments import plain_tensor

Sample = dict[str, Any]


class InfiniteBatchSampler(Sampler[list[int]]):
    """Consecutive sample indices in batches, without end.

    In iteration i, n processes with batch size b read ``n b`` samples from index ``i n b`` on, the
    same samples as one process with batch size ``n b``.

    Args:
        batch_size: Batch size of one process.
        rank: Index of this process.
        world_size: Number of processes.
        start: First iteration, from 0.
    """

    def __init__(
        self, batch_size: int = 1, rank: int = 0, world_size: int = 1, start: int = 0
    ) -> None:
        self.batch_size, self.rank, self.world_size = batch_size, rank, world_size
        self.start = start

    def __iter__(self) -> Iterator[list[int]]:
        for iteration in itertools.count(self.start):
            first = (iteration * self.world_size + self.rank) * self.batch_size
            yield list(range(first, first + self.batch_size))


class SizedDataset(Protocol):
    """A dataset of finite length."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


class InfiniteDataset(Dataset[Sample]):
    """A finite dataset repeated without end, in a different order in each epoch.

    Args:
        dataset: Dataset of dictionaries.
        seed: Seed of the orders and the augmentation.
        augmentation: MONAI dictionary transforms; their random numbers depend only on the seed and
            the index.
    """

    def __init__(
        self, dataset: SizedDataset, seed: int = 0, augmentation: Compose | None = None
    ) -> None:
        self.dataset, self.seed, self.augmentation = dataset, seed, augmentation

    def __getitem__(self, index: int) -> Sample:
        epoch, place = divmod(index, len(self.dataset))
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.dataset))
        sample = dict(self.dataset[int(order[place])])
        if self.augmentation is not None:
            state = np.random.SeedSequence([self.seed, index]).generate_state(1)
            self.augmentation.set_random_state(seed=int(state[0]))
            sample = dict(self.augmentation(sample))
        return sample


def collate(samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A batch of the keys that all samples have; landmarks are padded with points of weight 0."""
    keys = [k for k in samples[0] if all(k in s for s in samples)]
    batch: dict[str, Any] = {}
    for key in keys:
        values = [s[key] for s in samples]
        if key in ("fixed_points", "moving_points", "points_weight"):
            values = _padded([torch.as_tensor(v) for v in values])
        batch[key] = default_collate(
            [plain_tensor(v) if isinstance(v, Tensor) else v for v in values]
        )
    return batch


def _padded(values: list[Tensor]) -> list[Tensor]:
    length = max(len(v) for v in values)
    return [F.pad(v, (0, 0) * (v.ndim - 1) + (0, length - len(v))) for v in values]
