"""Batches of distorted digits."""

from __future__ import annotations

import torch

from stn3d.data import DigitBatches, evaluation_batches
from tests.helpers.digits import digits


def test_batches_are_a_function_of_the_iteration() -> None:
    source = digits(37)
    batches = DigitBatches(source, "R", 10, seed=5)
    first = [batch for batch, _ in zip(batches, range(8), strict=False)]
    later = next(iter(DigitBatches(source, "R", 10, seed=5, start=6)))
    assert torch.equal(later["image"], first[6]["image"])
    assert torch.equal(later["label"], first[6]["label"])
    labels = torch.cat([batch["label"] for batch in first])[:37]
    assert torch.equal(labels.bincount(), source.labels.bincount())  # each once in an epoch
    other = next(iter(DigitBatches(source, "R", 10, seed=6)))
    assert not torch.equal(other["image"], first[0]["image"])


def test_evaluation_batches_show_each_digit_once_in_order() -> None:
    source = digits(23)
    shown = list(evaluation_batches(source, "TC", 10, seed=1))
    assert [len(batch["label"]) for batch in shown] == [10, 10, 3]
    assert torch.equal(torch.cat([batch["label"] for batch in shown]), source.labels)
    again = list(evaluation_batches(source, "TC", 10, seed=1))
    assert all(torch.equal(a["image"], b["image"]) for a, b in zip(shown, again, strict=True))
