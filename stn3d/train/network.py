"""A network as the trainer calls it: all stages as output, in mixed precision."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from stn3d.arguments import tensor_arguments


@runtime_checkable
class MultiStageNetwork(Protocol):
    """A network that returns the output of each of its stages."""

    def stages(self, pair: Tensor) -> tuple[Tensor, ...]:
        """The output after each stage, coarse to fine."""


class DeepSupervision(nn.Module):
    """Wraps a network so that forward returns the outputs of all its stages.

    The stages must pass through forward for DistributedDataParallel to synchronise their gradients.

    Args:
        network: A `MultiStageNetwork`, or a network whose output is the only stage.
        bfloat16: Autocast to bfloat16, on any device. It has the range of float32, so no loss
            scaling is needed.
    """

    def __init__(self, network: nn.Module, bfloat16: bool = False) -> None:
        super().__init__()
        self.network = network
        self.autocast = bfloat16  # nn.Module.bfloat16 is a method

    @tensor_arguments()
    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.autocast):
            if isinstance(self.network, MultiStageNetwork):
                return self.network.stages(images)
            return (self.network(images),)
