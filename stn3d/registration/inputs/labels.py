"""Label maps as channels that are compared by their overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

MAX_LABEL_CHANNELS = 16
"""Largest number of label channels; further labels share them."""


@dataclass(frozen=True)
class LabelGroup:
    """Labels in the objective.

    Args:
        ids: the labels.
        weight: weight of their overlap relative to the images.
    """

    ids: tuple[int, ...]
    weight: float


def label_channels(labels: Tensor, ids: Sequence[int]) -> Tensor:
    """Labels as channels: one each, up to `MAX_LABEL_CHANNELS`; further labels share channels.

    Labels in one channel have equal weight whatever their volume: the value of a label is the
    inverse square root of its volume, relative to the mean volume in the channel.

    Args:
        labels: ``(1, 1, *shape)`` whole numbers from 0 upward.
        ids: labels to use.

    Returns:
        ``(1, C, *shape)`` float32, 0 outside the labels.
    """
    known, n = torch.tensor(sorted(ids)), min(len(ids), MAX_LABEL_CHANNELS)
    # Ranks, since ids can be large; all other labels share the last rank.
    ranks = torch.searchsorted(known, labels.long().contiguous()).clamp_(max=len(known) - 1)
    ranks[known[ranks] != labels] = len(known)
    volumes = torch.bincount(ranks.flatten(), minlength=len(known) + 1).float()
    value, channel = torch.zeros(len(volumes)), torch.zeros(len(volumes), dtype=torch.long)
    for first in range(n):
        together = torch.searchsorted(known, torch.tensor(ids[first::n]))
        mean = volumes[together].mean()
        value[together] = (mean / volumes[together].clamp(min=1)).sqrt()
        channel[together] = first
    out = torch.zeros(1, n, *labels.shape[2:])
    return out.scatter_(1, channel[ranks], value[ranks])
