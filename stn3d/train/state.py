"""The state of a training run in a safetensors file: tensors by name, everything else as JSON.

Nothing is pickled, so reading a file runs no code.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Protocol

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from stn3d.errors import InputError
from stn3d.io import atomic_write
from stn3d.io.texts import parse_json, shown_path

_VERSION = 1


class Stateful(Protocol):
    """An object with a state: module, optimiser, learning rate schedule."""

    def state_dict(self) -> Any:
        """The state as mappings, lists, numbers, strings and tensors."""

    def load_state_dict(self, state_dict: Any) -> Any:
        """Restore a state."""


def save_state(
    path: str | os.PathLike[str], objects: Mapping[str, Stateful], record: Mapping[str, Any]
) -> None:
    """Write the state of several objects atomically.

    Args:
        path: Output file.
        objects: Objects by name.
        record: Additional plain JSON values, such as the iteration.

    Raises:
        InputError: The file cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    tree = {name: _plain(one.state_dict(), name, tensors) for name, one in objects.items()}
    header = {
        "stn3d_state": str(_VERSION),
        "record": json.dumps(dict(record)),
        "tree": json.dumps(tree),
    }
    with atomic_write(path) as part:
        save_file(tensors, part, header)


def read_record(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The record of a state file, without reading tensors.

    Raises:
        InputError: The file is missing, damaged or not a state file.
    """
    return _header(path)[0]


def load_state(path: str | os.PathLike[str], objects: Mapping[str, Stateful]) -> dict[str, Any]:
    """Restore the saved state of several objects.

    Args:
        path: File of `save_state`.
        objects: Objects by the names under which they were saved.

    Returns:
        The record.

    Raises:
        InputError: The file is missing, damaged, not a state file, or of other objects.
    """
    record, tree = _header(path)
    if tree.keys() != objects.keys():
        raise InputError(
            f"{path} holds the state of {', '.join(sorted(tree))}, but this run has "
            f"{', '.join(sorted(objects))}; resume with the original config, or use --fresh."
        )
    with safe_open(path, framework="pt") as file:
        for name, one in objects.items():
            try:
                one.load_state_dict(_rebuilt(tree[name], file))
            except Exception as error:  # each object has its own for a state of another structure
                reason = " ".join(str(error).split())[:300]
                raise InputError(
                    f"the state of {name} in {path} does not match this run ({reason}); resume "
                    "with the original config, or use --fresh."
                ) from error
    return record


def _header(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    if not os.path.isfile(path):
        raise InputError(f"the checkpoint {shown_path(path)} does not exist; check the path.")
    try:
        header = _metadata(path)
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise InputError(
            f"{path} is not a safetensors file ({error}); give a checkpoint of stn3d train."
        ) from error
    if header.get("stn3d_state") != str(_VERSION):
        raise InputError(f"{path} is not a checkpoint of this version of stn3d.")
    try:
        record, tree = parse_json(header["record"]), parse_json(header["tree"])
    except (KeyError, ValueError):
        record = tree = None
    if not isinstance(record, dict) or not isinstance(tree, dict):
        raise InputError(f"the header of {path} is damaged; use another checkpoint, or --fresh.")
    return record, tree


def _metadata(path: str | os.PathLike[str], trials: int = 5) -> dict[str, str]:
    """The header of a file.

    safetensors opens a file twice. If a running training replaces the file in between, reading
    fails and is repeated.
    """
    for _ in range(trials - 1):
        with suppress(RuntimeError), safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    with safe_open(path, framework="pt") as file:
        return file.metadata() or {}


def _plain(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """A state as JSON; its tensors are added to ``tensors`` and replaced by their names."""
    if isinstance(value, Tensor):
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(value, Mapping):
        return {"mapping": [[k, _plain(v, f"{name}/{k}", tensors)] for k, v in value.items()]}
    if isinstance(value, list | tuple):
        return [_plain(v, f"{name}/{i}", tensors) for i, v in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{name} is a {type(value).__name__}, which cannot be saved in a checkpoint.")


def _rebuilt(value: Any, file: Any) -> Any:
    """Inverse of `_plain`; tuples are restored as lists."""
    if isinstance(value, dict):
        if "tensor" in value:
            tensor: Tensor = file.get_tensor(value["tensor"])
            return tensor
        return {k: _rebuilt(v, file) for k, v in value["mapping"]}
    return [_rebuilt(v, file) for v in value] if isinstance(value, list) else value
