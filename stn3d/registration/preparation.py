"""From images, with their masks and windows, to the scans that estimators see."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stn3d.errors import InputError
from stn3d.io import Image
from stn3d.preprocessing.intensity import covered, scaled
from stn3d.preprocessing.prepared import PreparedImage


@dataclass(frozen=True, eq=False)
class Mask:
    """What counts of an image, and what does not.

    Args:
        role: of the image, for messages.
        include: voxels that count, on the image's grid; None for all.
        exclude: voxels that do not; None for none.
    """

    role: str
    include: Image | None
    exclude: Image | None

    @property
    def counted(self) -> Tensor | None:
        """``(1, 1, *shape)`` bool; None where all counts.

        Raises:
            InputError: nothing does.
        """
        parts = [] if self.include is None else [self.include.values > 0]
        parts += [] if self.exclude is None else [self.exclude.values == 0]
        counted = torch.stack(parts).all(dim=0) if parts else None
        if counted is not None and not bool(counted.any()):
            raise InputError(
                f"the {self.role} exclude mask covers all that the {self.role} mask marks; "
                "nothing would count."
            )
        return counted


def scan_of(image: Image, mask: Mask, window: str | None, device: torch.device) -> PreparedImage:
    """The scan of an image.

    Args:
        image: the first contrast.
        mask: on the image's grid.
        window: see `stn3d.preprocessing.intensity.scaled`.
        device: where the scan shall be.

    Raises:
        InputError: the window is unknown, or nothing counts.
    """
    counted = mask.counted
    try:
        values = scaled(image.values, counted, window)
    except InputError as error:
        raise InputError(f"{image.name}: {error}") from None
    if mask.exclude is not None:
        values = covered(values, mask.exclude.values != 0)
    weight = None if counted is None else counted.float().to(device)
    return PreparedImage(values.to(device), image.grid, weight)
