"""A cascade of spatial transformers: each sees the pair as moved so far and adds its residual."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from stn3d.nets.spatial_transformer import SpatialTransformer, moved, voxels
from stn3d.transforms import Transform, chain


class Cascade(nn.Module):
    """Spatial transformers one after another, coarse to fine; the identity at birth.

    The moving image is read once for each stage, through all that was found before (de Vos et al.
    2019, doi:10.1016/j.media.2018.11.010; Zhao et al. 2019, arXiv:1907.12353).

    Args:
        stages: the transformers, or the options that make them.
        repeats: how often each is applied in turn, with the same weights; once by default.
    """

    def __init__(
        self,
        stages: Sequence[SpatialTransformer | Mapping[str, Any]],
        repeats: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        made = [s if isinstance(s, SpatialTransformer) else SpatialTransformer(**s) for s in stages]
        self.repeats = [1] * len(made) if repeats is None else list(repeats)
        self.transformers = nn.ModuleList(made)
        self.options: dict[str, Any] = {
            "stages": [stage.options for stage in made],
            "repeats": self.repeats,
        }

    def transforms(self, pair: Tensor) -> list[Transform]:
        """The transform so far after each stage, in voxels of the pair's grid."""
        fixed, moving = pair.chunk(2, dim=1)
        found: list[Transform] = []
        for stage, count in zip(self.transformers, self.repeats, strict=True):
            assert isinstance(stage, SpatialTransformer)
            for _ in range(count):
                seen = moved(moving, found[-1]) if found else moving
                residual = stage.transform(torch.cat([fixed, seen], dim=1))
                found.append(chain(residual, found[-1]) if found else residual)
        return found

    def stages(self, pair: Tensor) -> tuple[Tensor, ...]:
        """The displacement after each stage, ``(B, d, *shape)`` in voxels."""
        points = voxels(pair)
        return tuple(
            (transform(points) - points).movedim(-1, 1) for transform in self.transforms(pair)
        )

    def forward(self, pair: Tensor) -> Tensor:
        """Displacements of pairs.

        Args:
            pair: ``(B, 2 C, *shape)``, the fixed image's channels before the moving image's.

        Returns:
            ``(B, d, *shape)`` in voxels: ``moved(x) = moving(x + u(x))``.
        """
        points = voxels(pair)
        return (self.transforms(pair)[-1](points) - points).movedim(-1, 1)
