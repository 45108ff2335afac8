"""The networks of the throughput study, each with its loss.

PyramidCascade is built as configs/train.yaml builds it, once with the losses from there and once
with LNCC and diffusion, like MONAI's networks; Cascade is two affine spatial transformers. MONAI's
LocalNet has 32 channels and the levels 0 to 3, VoxelMorph its defaults; their losses are MONAI's
own, LNCC (in windows of 5 voxels, as stn3d's) with bending energy and with diffusion.

torch and monai are imported late: the process that lists the names does not need them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

Batch = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Contender:
    """A network and what training needs of it.

    Args:
        network: its parameters are trained.
        output: maps ``(B, 2, *shape)`` to the network's output.
        loss: loss of an output and the batch.
    """

    network: nn.Module
    output: Callable[[Tensor], Any]
    loss: Callable[[Any, Batch], Tensor]


def ours(network: Any, loss: Any) -> Contender:
    """A network with ``stages``, all of which enter the loss."""
    return Contender(network, network.stages, lambda stages, batch: loss(stages, batch)[0])


def pyramid_as_trained(config: Any) -> Contender:
    network = config.get_parsed_content("network_def")
    return ours(network, config.get_parsed_content("loss"))


def pyramid(config: Any) -> Contender:
    from stn3d.losses import RegistrationLoss

    network = config.get_parsed_content("network_def")
    loss = RegistrationLoss(truth=0.0, dice=0.0, lncc=1.0, spacing_mm=config["spacing_mm"])
    return ours(network, loss)


def affine_cascade(config: Any) -> Contender:
    from stn3d.losses import RegistrationLoss
    from stn3d.nets.cascade import Cascade

    network = Cascade([{"head": "affine", "factor": 4}, {"head": "affine", "factor": 2}])
    loss = RegistrationLoss(
        truth=0.0, dice=0.0, lncc=1.0, diffusion=0.0, spacing_mm=config["spacing_mm"]
    )
    return ours(network, loss)


def local_net(config: Any) -> Contender:
    from monai.losses import BendingEnergyLoss
    from monai.networks.blocks import Warp
    from monai.networks.nets import LocalNet

    levels: Any = (0, 1, 2, 3)  # MONAI's annotation is a tuple of one
    network = LocalNet(3, 2, num_channel_initial=32, extract_levels=levels)
    return of_monai(network, network, Warp(), BendingEnergyLoss())


def voxel_morph(config: Any) -> Contender:
    from monai.losses import DiffusionLoss
    from monai.networks.nets import VoxelMorph

    network = VoxelMorph()

    def output(pair: Tensor) -> tuple[Tensor, Tensor]:
        fixed, moving = pair.chunk(2, dim=1)
        found: tuple[Tensor, Tensor] = network(moving, fixed)
        return found

    return of_monai(network, output, None, DiffusionLoss())


def of_monai(network: Any, output: Any, warp: Any, regularity: Any) -> Contender:
    """MONAI's LNCC and a regularity of the field, in float32.

    Args:
        network: its parameters are trained.
        output: the field, or with no ``warp`` the moved image and the field.
        warp: warps the moving image by the field.
        regularity: regularisation of the field.
    """
    from monai.losses import LocalNormalizedCrossCorrelationLoss

    similarity = LocalNormalizedCrossCorrelationLoss(spatial_dims=3, kernel_size=5)

    def loss(found: Any, batch: Batch) -> Tensor:
        if warp is None:
            moved, field = (part.float() for part in found)
        else:
            field = found.float()
            moved = warp(batch["moving"], field)
        total: Tensor = similarity(moved, batch["fixed"]) + regularity(field)
        return total

    return Contender(network, output, loss)


CONTENDERS: dict[str, Callable[[Any], Contender]] = {
    "PyramidCascade": pyramid_as_trained,
    "PyramidCascade LNCC": pyramid,
    "Cascade affine": affine_cascade,
    "LocalNet": local_net,
    "VoxelMorph": voxel_morph,
}
