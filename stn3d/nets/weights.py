"""Weight files of networks: safetensors with the architecture in the header.

The header holds the class name, the constructor arguments, the preprocessing of images and a record
of the training. Nothing is unpickled, so reading a file runs no code.
"""

from __future__ import annotations

import copy
import json
import os
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from stn3d.errors import InputError, shown_text
from stn3d.grid import Grid
from stn3d.io import atomic_write
from stn3d.io.texts import parse_json, shown_path
from stn3d.memory.limit import memory_shortage
from stn3d.nets.cascade import Cascade
from stn3d.nets.coordinates import CoordinateRegressor
from stn3d.nets.pyramid import PyramidCascade
from stn3d.nets.segmentation import SegmentationNetwork
from stn3d.nets.working_grid import axis_aligned_voxels
from stn3d.preprocessing.pair import Pair

ARCHITECTURES: dict[str, type[nn.Module]] = {
    "Cascade": Cascade,
    "CoordinateRegressor": CoordinateRegressor,
    "PyramidCascade": PyramidCascade,
    "SegmentationNetwork": SegmentationNetwork,
}
Role = Literal["affine", "deformable", "segmentation"]
Bundled = Literal["affine", "segmentation"]
_ROLES: dict[str, Role] = {"CoordinateRegressor": "affine", "SegmentationNetwork": "segmentation"}
_FORMAT = "stn3d weights 2"
_MOST = 4096  # channels, spacings and all other numbers are smaller
_EXTENTS = 1 / 4, 8  # of the images relative to those of the training, along the longest axis
_USUAL_SHAPE = 64  # longest axis of the images of the training where the file does not say
_FLOATS_PER_VOXEL = 160  # float32 values at the peak of a pass, measured with a PyramidCascade


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
        return self.extent_mismatch(pair.fixed.grid, pair.moving.grid)

    def extent_mismatch(self, *grids: Grid) -> str | None:
        """Why the extents of images, or the memory for them, do not suit the network."""
        spacing_mm = self.preprocessing["spacing_mm"]
        least_mm, most_mm = (spacing_mm * factor * self._longest_vox for factor in _EXTENTS)
        for longest_mm in (max(grid.size_mm) for grid in grids):
            if not least_mm <= longest_mm <= most_mm:
                least, most, longest = map(_length, (least_mm, most_mm, longest_mm))
                return f"is for images of {least} to {most} mm, and one measures {longest} mm"
        voxels = max(axis_aligned_voxels(grid, spacing_mm) for grid in grids)
        shortage = memory_shortage(_FLOATS_PER_VOXEL * voxels)
        return None if shortage is None else f"needs {shortage}"

    @property
    def _longest_vox(self) -> int:
        """Longest axis of the images of the training, in voxels of the working grid."""
        return max(self.preprocessing.get("shape", [_USUAL_SHAPE]))

    def to(self, device: torch.device) -> TrainedNetwork:
        """The same on a device, with a copy of its network if that is on another one."""
        if all(one.device == device for one in self.network.state_dict().values()):
            return self
        return replace(self, network=copy.deepcopy(self.network).to(device))


def _length(mm: float) -> str:
    return f"{mm:.0f}" if 100 <= mm < 10_000 else f"{mm:.3g}"


def bundled_weights(name: Bundled) -> Path:
    """A weight file of the package.

    Args:
        name: ``affine`` regresses head coordinates: for the initial transform of a registration,
            and for the upright frame in which a head is segmented. ``segmentation`` labels the
            structures of the head.
    """
    return Path(__file__).parents[1] / "weights" / f"{name}.safetensors"


@cache
def bundled_network(name: Bundled) -> TrainedNetwork:
    """A network of the package on the CPU, read when it is first asked for and kept.

    Args:
        name: as for `bundled_weights`.
    """
    return load_weights(bundled_weights(name), name)


def save_weights(
    path: str | os.PathLike[str],
    network: nn.Module,
    preprocessing: dict[str, Any],
    record: dict[str, Any],
    half: bool = False,
) -> None:
    """Write a network's weights and metadata; the file is written atomically.

    Args:
        path: Output file.
        network: One of `ARCHITECTURES`; its ``options`` are its constructor arguments.
        preprocessing: How images are resampled, plain JSON values.
        record: How it was trained, plain JSON values.
        half: Store the weights as float16, in half the space; they are read as float32.

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
        key: (value.half() if half else value).detach().cpu().contiguous()
        for key, value in network.state_dict().items()
    }
    with atomic_write(Path(path)) as part:
        save_file(tensors, part, header)
        part.chmod(0o644)  # safetensors makes the file readable by its owner only


def load_weights(path: str | os.PathLike[str], role: Role | None = None) -> TrainedNetwork:
    """Read a network from a file of `save_weights`.

    Args:
        path: The file.
        role: What the network must estimate: ``affine`` and ``segmentation`` as in
            `bundled_weights`, ``deformable`` for displacement fields; None allows any.

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
    metadata = _metadata(header, path)
    name = metadata["architecture"]
    if name not in ARCHITECTURES:
        raise InputError(
            f"{path} holds a {shown_text(name)}, unknown to this version of stn3d; "
            "install a newer version."
        )
    if role is not None and role != _ROLES.get(name, "deformable"):
        raise InputError(f"{path} holds a {name}, which is no {role} network; give other weights.")
    network = _network(ARCHITECTURES[name], metadata["options"], tensors, path)
    preprocessing, record = metadata["preprocessing"], metadata["record"]
    return TrainedNetwork(network.eval(), metadata["options"], preprocessing, record)


def _metadata(header: dict[str, str], path: str | os.PathLike[str]) -> dict[str, Any]:
    """The metadata of a header, with the types that the rest relies on."""
    kinds = {"architecture": str, "options": dict, "preprocessing": dict, "record": dict}
    try:
        found = parse_json(header["stn3d"])
        fits = all(isinstance(found[key], kind) for key, kind in kinds.items())
        spacing, shape = (
            found["preprocessing"]["spacing_mm"],
            found["preprocessing"].get("shape", [1]),
        )
        fits = fits and _is_plausible(found["options"]) and 0 < spacing < _MOST
        fits = fits and 0 < len(shape) <= 3 and all(0 < n < _MOST for n in shape)
    except (ValueError, KeyError, TypeError):
        fits = False
    if not fits:
        raise InputError(
            f"the header of {path} is damaged; copy the file again, or use another one that "
            "`stn3d train` wrote."
        )
    return found


def _is_plausible(options: Any, depth: int = 0) -> bool:
    """Whether constructor arguments describe a network of a size that anybody trains."""
    if isinstance(options, dict | list):
        inner = list(options.values() if isinstance(options, dict) else options)
        return depth < 5 and len(inner) <= 64 and all(_is_plausible(x, depth + 1) for x in inner)
    return not isinstance(options, int | float) or abs(options) < _MOST


def _network(
    architecture: type[nn.Module],
    options: dict[str, Any],
    tensors: dict[str, torch.Tensor],
    path: str | os.PathLike[str],
) -> nn.Module:
    """The network with its weights; nothing is allocated before the shapes are compared."""
    try:
        with torch.device("meta"):
            expected = architecture(**options).state_dict()
        if {k: v.shape for k, v in expected.items()} != {k: v.shape for k, v in tensors.items()}:
            raise ValueError("other names or shapes")
        network = architecture(**options)
        network.load_state_dict(tensors)
    except Exception as error:  # constructors raise many kinds for arguments of other types
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(
            f"the weights in {path} do not match their architecture ({reason}); copy the file "
            "again, or use another one that `stn3d train` wrote."
        ) from None
    if not all(bool(one.isfinite().all()) for one in network.state_dict().values()):
        raise InputError(f"the weights in {path} hold NaN or Inf; use an earlier checkpoint.")
    return network


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
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"the weight file {shown_path(path)} cannot be read: {reason}; check that it is a "
            "complete safetensors file."
        ) from None
