"""Weights of networks in files: safetensors that tell what they are.

The header holds the architecture with its options, how images are prepared and how the weights were
trained; nothing is unpickled, so a file of weights can run no code.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from stn3d.errors import InputError
from stn3d.io import atomic_write
from stn3d.nets.cascade import Cascade
from stn3d.nets.chart import ChartNetwork
from stn3d.nets.pyramid import PyramidCascade
from stn3d.preprocessing.pair import Pair

ARCHITECTURES: dict[str, type[nn.Module]] = {
    "Cascade": Cascade,
    "ChartNetwork": ChartNetwork,
    "PyramidCascade": PyramidCascade,
}
_FORMAT = "stn3d weights 1"


@dataclass(frozen=True, eq=False)
class Trained:
    """A network with its weights and what is known of them.

    Args:
        network: ready to use, in evaluation mode.
        options: that rebuild it: ``spatial_dims``, ``in_channels`` and the like.
        preparation: how images come onto its grid: ``spacing_mm`` and the like.
        record: how it was trained: data, steps, seconds, seed, versions.
    """

    network: nn.Module
    options: dict[str, Any]
    preparation: dict[str, Any]
    record: dict[str, Any]

    @property
    def images(self) -> tuple[int, int]:
        """The dimensions and the channels of the images that the network is for."""
        first = self.options.get("stages", [self.options])[0]  # all stages of a cascade agree
        return first["spatial_dims"], first["in_channels"]

    def fits(self, pair: Pair) -> bool:
        """Whether the network is for images like a pair's."""
        return self.images == (pair.fixed.grid.ndim, pair.fixed.image.shape[1])

    def misfit(self, pair: Pair) -> str:
        """Why the network is not for a pair that it does not fit."""
        d, channels = pair.fixed.grid.ndim, pair.fixed.image.shape[1]
        wanted, of = self.images
        return f"is for {wanted}D images of {of} channel(s), and these are {d}D of {channels}"

    def on(self, device: torch.device) -> Trained:
        """The same with its network on a device."""
        return Trained(self.network.to(device), self.options, self.preparation, self.record)


def shipped(name: Literal["affine", "dense"]) -> Path:
    """The file of weights that comes with the package.

    ``affine`` charts heads and gives starts, ``dense`` gives displacements.
    """
    return Path(__file__).parents[1] / "weights" / f"{name}.safetensors"


def save_weights(
    path: str | os.PathLike[str],
    network: nn.Module,
    preparation: dict[str, Any],
    record: dict[str, Any],
) -> None:
    """Write a network's weights and what they are; the file appears whole or not at all.

    Args:
        path: where to.
        network: one of `ARCHITECTURES`; its ``options`` rebuild it.
        preparation: how images come onto its grid, plain JSON values.
        record: how it was trained, plain JSON values.

    Raises:
        InputError: the network's class is not known, or the file cannot be written.
    """
    name = type(network).__name__
    if ARCHITECTURES.get(name) is not type(network):
        known = ", ".join(ARCHITECTURES)
        raise InputError(f"weights of a {name} cannot be kept in a file; known are {known}.")
    told = {
        "architecture": name,
        "options": network.options,
        "preparation": preparation,
        "record": record,
    }
    header = {"format": _FORMAT, "stn3d": json.dumps(told)}
    tensors = {
        key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()
    }
    with atomic_write(Path(path)) as part:
        save_file(tensors, part, header)
        part.chmod(0o644)  # safetensors lets nobody else read it


def load_weights(path: str | os.PathLike[str]) -> Trained:
    """Read a network from a file that `save_weights` wrote.

    Raises:
        InputError: there is no such file, it holds no weights of stn3d, or they do not fit.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            header = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise InputError(f"there are no weights {path}; check the path.") from None
    except (OSError, SafetensorError) as error:
        raise InputError(f"the weights {path} cannot be read: {error}.") from None
    if header.get("format") != _FORMAT:
        raise InputError(f"{path} holds no weights of stn3d; give a file that `stn3d train` wrote.")
    told = json.loads(header["stn3d"])
    make = ARCHITECTURES.get(told["architecture"])
    if make is None:
        raise InputError(
            f"{path} holds a {told['architecture']}, which this version of stn3d does not know; "
            "install a newer one."
        )
    network = make(**told["options"])
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise InputError(f"the weights in {path} do not fit their network: {error}.") from None
    return Trained(network.eval(), told["options"], told["preparation"], told["record"])
