"""Weight files of networks: safetensors with the architecture in the header.

The header holds the class name, the constructor arguments, the preprocessing of images and a record
of the training. Nothing is unpickled, so reading a file runs no code.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from stn3d.errors import InputError
from stn3d.io import atomic_write
from stn3d.memory_limit import memory_shortage
from stn3d.nets.cascade import Cascade
from stn3d.nets.coordinates import CoordinateRegressor
from stn3d.nets.pyramid import PyramidCascade
from stn3d.nets.working_grid import axis_aligned_voxels
from stn3d.preprocessing.pair import Pair

ARCHITECTURES: dict[str, type[nn.Module]] = {
    "Cascade": Cascade,
    "CoordinateRegressor": CoordinateRegressor,
    "PyramidCascade": PyramidCascade,
}
_FORMAT = "stn3d weights 2"
_EXTENTS = 1 / 4, 8  # of the images relative to those of the training, along the longest axis
_USUAL_SHAPE = 64  # longest axis of the images of the training where the file does not say
_FLOATS_PER_VOXEL = 160  # float32 values at the peak of a pass, measured with the bundled networks


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A network with its weights and metadata.

    Args:
        network: In evaluation mode.
        options: Constructor arguments: ``spatial_dims``, ``in_channels`` and others.
        preprocessing: How images are resampled: ``spacing_mm``, ``shape``.
        record: How it was trained: data, iterations, seed, versions.
    """

    network: nn.Module
    options: dict[str, Any]
    preprocessing: dict[str, Any]
    record: dict[str, Any]

    @property
    def input_format(self) -> tuple[int, int]:
        """Spatial dimensions and channels of the network's images."""
        first = self.options.get("stages", [self.options])[0]  # all stages of a cascade agree
        return first["spatial_dims"], first["in_channels"]

    def accepts(self, pair: Pair) -> bool:
        """Whether the network can be used for a pair."""
        return self.mismatch(pair) is None

    def mismatch(self, pair: Pair) -> str | None:
        """Why the network cannot be used for a pair: its dimensions, channels, extents, or the
        memory that it needs; None if it can."""
        ndim, channels = self.input_format
        d, given = pair.fixed.grid.ndim, pair.fixed.image.shape[1]
        if (ndim, channels) != (d, given):
            return f"expects {ndim}D images with {channels} channel(s); these are {d}D with {given}"
        if any(image.grid.slice_axis is not None for image in (pair.fixed, pair.moving)):
            return "expects volumes; one image is a single slice"
        return self.size_mismatch(pair)

    def size_mismatch(self, pair: Pair) -> str | None:
        """Why the extents of a pair do not suit the network; None if they do."""
        spacing_mm = self.preprocessing["spacing_mm"]
        least_mm, most_mm = (spacing_mm * factor * self._longest_vox for factor in _EXTENTS)
        grids = pair.fixed.grid, pair.moving.grid
        for longest_mm in (max(grid.size_mm) for grid in grids):
            if not least_mm <= longest_mm <= most_mm:
                return (
                    f"is for images of {least_mm:.3g} to {most_mm:.3g} mm, "
                    f"and one measures {longest_mm:.3g} mm"
                )
        voxels = max(axis_aligned_voxels(grid, spacing_mm) for grid in grids)
        shortage = memory_shortage(_FLOATS_PER_VOXEL * voxels)
        return None if shortage is None else f"needs {shortage}"

    @property
    def _longest_vox(self) -> int:
        """Longest axis of the images of the training, in voxels of the working grid."""
        return max(self.preprocessing.get("shape", [_USUAL_SHAPE]))

    def to(self, device: torch.device) -> TrainedNetwork:
        """The same with its network on a device."""
        return replace(self, network=self.network.to(device))


def bundled_weights(name: Literal["affine", "dense"]) -> Path:
    """A weight file of the package.

    Args:
        name: ``affine`` regresses head coordinates for the initial transform, ``dense`` estimates
            displacement fields.
    """
    return Path(__file__).parents[1] / "weights" / f"{name}.safetensors"


def save_weights(
    path: str | os.PathLike[str],
    network: nn.Module,
    preprocessing: dict[str, Any],
    record: dict[str, Any],
) -> None:
    """Write a network's weights and metadata; the file is written atomically.

    Args:
        path: Output file.
        network: One of `ARCHITECTURES`; its ``options`` are its constructor arguments.
        preprocessing: How images are resampled, plain JSON values.
        record: How it was trained, plain JSON values.

    Raises:
        InputError: The network's class is unknown, or the file cannot be written.
    """
    name = type(network).__name__
    if ARCHITECTURES.get(name) is not type(network):
        known = ", ".join(ARCHITECTURES)
        raise InputError(f"weights of {name} cannot be saved; supported networks: {known}.")
    metadata = {
        "architecture": name,
        "options": network.options,
        "preprocessing": preprocessing,
        "record": record,
    }
    header = {"format": _FORMAT, "stn3d": json.dumps(metadata)}
    tensors = {
        key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()
    }
    with atomic_write(Path(path)) as part:
        save_file(tensors, part, header)
        part.chmod(0o644)  # safetensors makes the file readable by its owner only


def load_weights(path: str | os.PathLike[str]) -> TrainedNetwork:
    """Read a network from a file of `save_weights`.

    Raises:
        InputError: The file does not exist, holds no weights of stn3d, or the weights do not fit
            the architecture.
    """
    header, tensors = _read_file(path)
    if header.get("format") != _FORMAT:
        raise InputError(
            f"{path} is not a weight file of this version of stn3d; use a file that `stn3d train` "
            "wrote."
        )
    metadata = json.loads(header["stn3d"])
    architecture = ARCHITECTURES.get(metadata["architecture"])
    if architecture is None:
        raise InputError(
            f"{path} holds a {metadata['architecture']}, unknown to this version of stn3d; "
            "install a newer version."
        )
    network = architecture(**metadata["options"])
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise InputError(
            f"the weights in {path} do not match their architecture: {error}."
        ) from None
    preprocessing, record = metadata["preprocessing"], metadata["record"]
    return TrainedNetwork(network.eval(), metadata["options"], preprocessing, record)


def _read_file(
    path: str | os.PathLike[str],
) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    """The header and the tensors of a safetensors file."""
    try:
        with safe_open(str(path), framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return file.metadata() or {}, tensors
    except FileNotFoundError:
        raise InputError(f"the weight file {path} does not exist; check the path.") from None
    except (OSError, SafetensorError) as error:
        raise InputError(f"the weight file {path} cannot be read: {error}.") from None
