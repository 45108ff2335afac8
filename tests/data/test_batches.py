"""Batches that can resume, repeated datasets, collation."""

from __future__ import annotations

from itertools import islice
from typing import Any

import torch
from monai.transforms import Compose, RandScaleIntensityd

from stn3d.data import (
    InfiniteBatchSampler,
    InfiniteDataset,
    collate,
)


def test_batches_are_a_function_of_the_iteration() -> None:
    ten = list(islice(InfiniteBatchSampler(3), 10))
    assert ten[:2] == [[0, 1, 2], [3, 4, 5]]
    assert list(islice(InfiniteBatchSampler(3, start=4), 6)) == ten[4:]
    both = zip(*(islice(InfiniteBatchSampler(3, rank, 2), 5) for rank in range(2)), strict=True)
    assert [a + b for a, b in both] == list(islice(InfiniteBatchSampler(6), 5))


class Numbers:
    """A dataset of n samples that hold their index."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"image": torch.full((1, 2, 2), index + 1.0), "index": index}


def test_an_infinite_dataset_reads_each_sample_once_an_epoch() -> None:
    dataset = InfiniteDataset(Numbers(5), seed=3)
    epochs = [[dataset[5 * epoch + i]["index"] for i in range(5)] for epoch in range(4)]
    assert all(sorted(epoch) == list(range(5)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    assert epochs != [
        [InfiniteDataset(Numbers(5), 4)[5 * t + i]["index"] for i in range(5)] for t in range(4)
    ]


def test_augmentation_depends_only_on_the_index() -> None:
    scale = RandScaleIntensityd(keys="image", factors=0.5, prob=1.0)
    dataset = InfiniteDataset(Numbers(2), 0, Compose([scale]))
    first = [dataset[i]["image"].clone() for i in range(6)]
    backwards = [dataset[i]["image"] for i in reversed(range(6))][::-1]
    assert all(torch.equal(a, b) for a, b in zip(first, backwards, strict=True))
    assert not torch.equal(first[0], first[2])


def test_collate_keeps_common_keys_and_pads_points() -> None:
    one = {
        "image": torch.ones(1, 2),
        "name": "a",
        "fixed_points": torch.ones(3, 2),
        "points_weight": torch.ones(3),
    }
    two = {
        "image": torch.ones(1, 2),
        "name": "b",
        "fixed_points": torch.ones(1, 2),
        "points_weight": torch.ones(1),
        "extra": 1,
    }
    batch = collate([one, two])
    assert batch.keys() == one.keys()
    assert batch["name"] == ["a", "b"]
    assert batch["points_weight"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["fixed_points"].shape == (2, 3, 2)
