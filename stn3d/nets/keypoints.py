"""Keypoint locations from feature maps (spatial softmax).

An affine map fitted from fixed reference locations to the keypoints is linear in the keypoints, so
a `ParameterHead` on them needs no hidden layer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stn3d.arguments import tensor_arguments
from stn3d.nets.precision import no_autocast


class SpatialSoftmax(nn.Module):
    """Expected location of each feature map under a softmax over space.

    Levine et al. 2016, End-to-end training of deep visuomotor policies (arXiv:1504.00702). A linear
    position bias is added to the logits, learned or given, so that a map with several maxima can
    prefer, for example, the leftmost.

    Args:
        channels: Number of feature maps, one keypoint each.
        spatial_dims: 2 or 3.
    """

    def __init__(self, channels: int, spatial_dims: int) -> None:
        super().__init__()
        self.position_bias = nn.Parameter(torch.zeros(channels, spatial_dims))

    @tensor_arguments()
    def forward(self, features: Tensor, position_bias: Tensor | None = None) -> Tensor:
        """Keypoints in normalised coordinates: -1 and 1 are the faces of the grid along an axis.

        Args:
            features: ``(B, C, *shape)``.
            position_bias: ``(B, C, d)`` slope of the logits, added to the learned bias.

        Returns:
            ``(B, C d)``.
        """
        axes = [(2 * torch.arange(n) + 1) / n - 1 for n in features.shape[2:]]
        points = torch.stack(torch.meshgrid(axes, indexing="ij"), dim=-1).flatten(0, -2)
        with no_autocast(features.device):
            points = points.to(self.position_bias)
            bias: Tensor = self.position_bias
            if position_bias is not None:
                bias = bias + position_bias.to(bias)
            logits = features.flatten(2).to(bias) + bias @ points.mT
            return (logits.softmax(dim=-1) @ points).flatten(1)
