"""Synthetic digits."""

from __future__ import annotations

import torch

from stn3d.synth.digits import Digits


def digits(count: int = 40) -> Digits:
    """Bars: digit k is a centred bar of 2 by ``6 + k`` pixels."""
    images = torch.zeros(count, 28, 28, dtype=torch.uint8)
    labels = torch.arange(count) % 10
    for image, label in zip(images, labels.tolist(), strict=True):
        image[14 - (6 + label) // 2 : 14 + (7 + label) // 2, 13:15] = 255
    return Digits(images, labels)
