"""Which samples an iteration reads: a function of the iteration alone, so runs can be resumed."""

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

Sample = dict[str, Any]


class InfiniteBatchSampler(Sampler[list[int]]):
    """Running numbers of samples, batch after batch, without end.

    Iteration i of n processes with batches of b reads the samples from ``i n b`` on, b each: what n
    processes read together is what one process with batches of ``n b`` reads.

    Args:
        batch_size: samples of one process.
        rank: this process.
        world_size: how many processes.
        start: the first iteration, counted from 0.
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


class Sized(Protocol):
    """A dataset with an end."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


class InfiniteDataset(Dataset[Sample]):
    """A finite dataset read again and again, each time in another order.

    Args:
        dataset: its samples are dictionaries.
        seed: of the orders and the augmentation.
        augmentation: MONAI dictionary transforms; what they draw depends on the seed and the
            running number alone.
    """

    def __init__(self, dataset: Sized, seed: int = 0, augmentation: Compose | None = None) -> None:
        self.dataset, self.seed, self.augmentation = dataset, seed, augmentation

    def __getitem__(self, number: int) -> Sample:
        turn, place = divmod(number, len(self.dataset))
        order = np.random.default_rng([self.seed, turn]).permutation(len(self.dataset))
        sample = dict(self.dataset[int(order[place])])
        if self.augmentation is not None:
            words = np.random.SeedSequence([self.seed, number]).generate_state(1)
            self.augmentation.set_random_state(seed=int(words[0]))
            sample = dict(self.augmentation(sample))
        return sample


def collate(samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A batch of samples: the keys that all have; points padded to one number, with weight 0."""
    keys = [k for k in samples[0] if all(k in s for s in samples)]
    batch: dict[str, Any] = {}
    for key in keys:
        values = [s[key] for s in samples]
        if key in ("fixed_points", "moving_points", "points_weight"):
            values = _padded([torch.as_tensor(v) for v in values])
        batch[key] = default_collate([_plain(v) for v in values])
    return batch


def _padded(values: list[Tensor]) -> list[Tensor]:
    most = max(len(v) for v in values)
    return [F.pad(v, (0, 0) * (v.ndim - 1) + (0, most - len(v))) for v in values]


def _plain(value: Any) -> Any:
    """Tensors without MONAI's metadata."""
    return value.as_subclass(Tensor) if isinstance(value, Tensor) else value
