"""The state of a training run in one safetensors file: tensors by name, all else as JSON.

No pickle anywhere: reading such a file runs no code.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from stn3d.errors import InputError
from stn3d.io import atomic_write

_VERSION = 1


class Stateful(Protocol):
    """What has a state: modules, optimisers, learning rate schedules."""

    def state_dict(self) -> Any:
        """The state, made of mappings, lists, numbers, text and tensors."""

    def load_state_dict(self, state_dict: Any) -> Any:
        """Take a state."""


def save_state(
    path: str | os.PathLike[str], objects: Mapping[str, Stateful], record: Mapping[str, Any]
) -> None:
    """Write the state of several objects, whole or not at all.

    Args:
        path: the file.
        objects: by the names that they are kept under.
        record: further plain JSON values, such as the iteration.

    Raises:
        InputError: the file cannot be written here.
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
    """The record of a state, without its tensors.

    Raises:
        InputError: the file is missing, broken or no state.
    """
    return _header(path)[0]


def load_state(path: str | os.PathLike[str], objects: Mapping[str, Stateful]) -> dict[str, Any]:
    """Give several objects the state that was saved.

    Returns:
        The record.

    Raises:
        InputError: the file is missing, broken, no state, or of other objects.
    """
    record, tree = _header(path)
    if tree.keys() != objects.keys():
        raise InputError(
            f"{path} holds the state of {', '.join(sorted(tree))}, and this run has "
            f"{', '.join(sorted(objects))}; resume with the config that made it, or start anew."
        )
    with safe_open(path, framework="pt") as file:
        for name, one in objects.items():
            try:
                one.load_state_dict(_rebuilt(tree[name], file))
            except (RuntimeError, ValueError, KeyError) as error:
                reason = " ".join(str(error).split())[:300]
                raise InputError(
                    f"the state of {name} in {path} is of another {name} ({reason}); resume with "
                    "the config that made it, or start anew."
                ) from error
    return record


def _header(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    if not Path(path).is_file():
        raise InputError(f"there is no state of a training run {path}; check the path.")
    try:
        header = _metadata(path)
    except (SafetensorError, OSError, RuntimeError) as error:
        raise InputError(
            f"{path} is no safetensors file ({error}); give a checkpoint of stn3d train."
        ) from error
    if header.get("stn3d_state") != str(_VERSION):
        raise InputError(f"{path} is no checkpoint that this stn3d reads; give one it wrote.")
    return json.loads(header["record"]), json.loads(header["tree"])


def _metadata(path: str | os.PathLike[str], trials: int = 5) -> dict[str, str]:
    """A file's header. safetensors opens a file twice: where a run that goes on has put a new one
    in its place in between, it is read again."""
    for _ in range(trials - 1):
        with suppress(RuntimeError), safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    with safe_open(path, framework="pt") as file:
        return file.metadata() or {}


def _plain(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """JSON for a state; its tensors go into ``tensors``, their names into the JSON."""
    if isinstance(value, Tensor):
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(value, Mapping):
        return {"mapping": [[k, _plain(v, f"{name}/{k}", tensors)] for k, v in value.items()]}
    if isinstance(value, list | tuple):
        return [_plain(v, f"{name}/{i}", tensors) for i, v in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{name} is a {type(value).__name__}, which no checkpoint can hold.")


def _rebuilt(value: Any, file: Any) -> Any:
    """The reverse of `_plain`; tuples come back as lists."""
    if isinstance(value, dict):
        if "tensor" in value:
            tensor: Tensor = file.get_tensor(value["tensor"])
            return tensor
        return {k: _rebuilt(v, file) for k, v in value["mapping"]}
    return [_rebuilt(v, file) for v in value] if isinstance(value, list) else value
