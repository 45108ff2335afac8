"""The networks that scripts/throughput.py trains, each with its loss.

PyramidCascade is built as configs/train.yaml builds it, once with the losses from there and once
with LNCC and diffusion, like MONAI's networks; Cascade is two affine spatial transformers. MONAI's
LocalNet has 32 channels and the levels 0 to 3, VoxelMorph its defaults; their losses are MONAI's
own, LNCC (in windows of 5 voxels, as stn3d's) with bending energy and with diffusion.
"""

# torch and monai are imported late: see scripts/throughput.py.
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

Batch = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Contender:
    """A network with what training asks of it.

    Args:
        network: its parameters are trained.
        answer: of the network, to ``(B, 2, *shape)``.
        loss: of an answer and the batch.
    """

    network: nn.Module
    answer: Callable[[Tensor], Any]
    loss: Callable[[Any, Batch], Tensor]


def ours(network: Any, loss: Any) -> Contender:
    """A network with ``stages``, each of which the loss judges."""
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

    network = LocalNet(3, 2, num_channel_initial=32, extract_levels=(0, 1, 2, 3))
    return of_monai(network, network, Warp(), BendingEnergyLoss())


def voxel_morph(config: Any) -> Contender:
    from monai.losses import DiffusionLoss
    from monai.networks.nets import VoxelMorph

    network = VoxelMorph()

    def answer(pair: Tensor) -> tuple[Tensor, Tensor]:
        fixed, moving = pair.chunk(2, dim=1)
        found: tuple[Tensor, Tensor] = network(moving, fixed)
        return found

    return of_monai(network, answer, None, DiffusionLoss())


def of_monai(network: Any, answer: Any, warp: Any, regularity: Any) -> Contender:
    """MONAI's LNCC and a regularity of the field, in float32.

    Args:
        network: its parameters are trained.
        answer: the field, or with no ``warp`` the moved image and the field.
        warp: moves the moving image by the field.
        regularity: of the field.
    """
    from monai.losses import LocalNormalizedCrossCorrelationLoss

    similarity = LocalNormalizedCrossCorrelationLoss(spatial_dims=3, kernel_size=5)

    def loss(found: Any, batch: Batch) -> Tensor:
        moved, field = (None, found) if warp else found
        field = field.float()
        moved = warp(batch["moving"], field) if warp else moved.float()
        total: Tensor = similarity(moved, batch["fixed"]) + regularity(field)
        return total

    return Contender(network, answer, loss)


CONTENDERS: dict[str, Callable[[Any], Contender]] = {
    "PyramidCascade": pyramid_as_trained,
    "PyramidCascade LNCC": pyramid,
    "Cascade affine": affine_cascade,
    "LocalNet": local_net,
    "VoxelMorph": voxel_morph,
}
