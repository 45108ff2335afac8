"""Arguments of public functions as plain tensors: MONAI's MetaTensors, numpy arrays and lists.

Convention: public functions convert their arguments once, on entry, and return plain tensors. A
MetaTensor that went through a network would carry an affine that no longer belongs to it, and numba
kernels cannot take one.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ParamSpec, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stn3d.errors import InputError, shown

TensorLike: TypeAlias = "Tensor | NDArray[Any] | Sequence[Any]"
"""A tensor of any subclass, a numpy array, or a list of numbers or of tensors of one shape."""

P = ParamSpec("P")
R = TypeVar("R")

_PLAIN = (Tensor, torch.nn.Parameter)
_WIDER = {"u2": np.int32, "u4": np.int64, "u8": np.int64, "f16": np.float64}  # torch lacks these


def plain_tensor(values: TensorLike) -> Tensor:
    """A plain tensor of tensor-like values, without a copy where possible.

    Args:
        values: tensor, MetaTensor, numpy array, or (nested) list of numbers; a list of tensors of
            one shape is stacked along a new first axis.

    Returns:
        The values as a `torch.Tensor` of no subclass, on their device, in their dtype (unsigned
        integers of 16 bits or more as signed ones that hold them). Gradients flow to a tensor.

    Raises:
        InputError: these are no numbers, or lists of different lengths.

    Examples:
        >>> plain_tensor([[1, 2], [3, 4]])
        tensor([[1, 2],
                [3, 4]])
    """
    if type(values) in _PLAIN:
        return values  # type: ignore[return-value]
    if isinstance(values, Tensor):
        return values.as_subclass(Tensor)
    if isinstance(values, list | tuple) and values and all(isinstance(v, Tensor) for v in values):
        return _stacked([plain_tensor(value) for value in values])
    return _from_array(values)


def points_tensor(points: TensorLike) -> Tensor:
    """Like `plain_tensor`, for coordinates: integers are promoted to float64, never rounded to.

    Args:
        points: coordinates, of any shape.

    Returns:
        The coordinates as a floating-point tensor.

    Raises:
        InputError: as for `plain_tensor`, or the numbers are complex.

    Examples:
        >>> points_tensor([[-119, -135, -193]])
        tensor([[-119., -135., -193.]], dtype=torch.float64)
    """
    tensor = plain_tensor(points)
    if tensor.is_floating_point():
        return tensor
    if tensor.is_complex():
        raise InputError("coordinates are real numbers; these are complex.")
    return tensor.double()


def plain_batch(batch: Mapping[str, Any]) -> dict[str, Any]:
    """A batch with plain tensors in place of its tensors and arrays; other entries are kept."""
    return {
        key: plain_tensor(value) if isinstance(value, Tensor | np.ndarray) else value
        for key, value in batch.items()
    }


def tensor_arguments(
    coordinates: Iterable[str] = (),
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorator of public functions: arguments annotated as tensors may be tensor-like.

    Every argument whose annotation names ``Tensor`` goes through `plain_tensor`, also the elements
    of sequences and the tensors and arrays of mappings. The body sees plain tensors.

    Args:
        coordinates: parameters that hold points or vectors, which go through `points_tensor`.

    Examples:
        >>> @tensor_arguments(["points"])
        ... def shifted(image: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        ...     return image + 1, points + 1
        >>> shifted(np.ones(2, np.float32), [1, 2])
        (tensor([2., 2.]), tensor([2., 3.], dtype=torch.float64))
    """
    names = frozenset(coordinates)

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        parameters = inspect.signature(function).parameters
        assert names <= set(parameters), f"{function.__name__} lacks one of {sorted(names)}"
        by_name = {
            name: _converter(str(parameter.annotation), name in names)
            for name, parameter in parameters.items()
        }
        in_order = tuple(by_name.values())

        @functools.wraps(function)
        def converted(*args: P.args, **kwargs: P.kwargs) -> R:
            positional = [convert(value) for convert, value in zip(in_order, args, strict=False)]
            keyword = {
                name: by_name[name](value) if name in by_name else value
                for name, value in kwargs.items()
            }
            return function(*positional, *args[len(in_order) :], **keyword)  # type: ignore[arg-type]

        return converted

    return decorate


def _converter(annotation: str, coordinates: bool) -> Callable[[Any], Any]:
    """What converts the arguments of a parameter."""
    if not re.search(r"\bTensor\b", annotation):
        return _unchanged
    one = points_tensor if coordinates else plain_tensor
    if re.match(r"(Sequence|list|tuple)\[", annotation):
        return lambda values: [one(value) for value in values]
    if annotation.startswith("Mapping["):
        return plain_batch
    return lambda value: None if value is None else one(value)


def _unchanged(value: Any) -> Any:
    return value


def _stacked(tensors: list[Tensor]) -> Tensor:
    shapes = {tuple(tensor.shape) for tensor in tensors}
    if len(shapes) > 1:
        raise InputError(
            f"a list of tensors needs one shape; these have {sorted(shapes)}. Pad or resample them."
        )
    return torch.stack(tensors)


def _from_array(values: Any) -> Tensor:
    """Tensor of whatever numpy can read."""
    try:
        array = np.asarray(values)
    except ValueError:
        raise InputError(
            f"{shown(values)} holds lists of different lengths; give one number for each element "
            "of a regular array."
        ) from None
    if array.dtype.kind not in "biufc":
        raise InputError(f"{shown(values)} holds no numbers; give a tensor, an array or a list.")
    name = array.dtype.str[1:]
    if name == "u8" and array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise InputError(f"{shown(values)} holds integers beyond 2^63; give smaller ones.")
    array = array.astype(_WIDER.get(name, array.dtype.newbyteorder("=")), copy=False)
    if not array.flags.writeable or any(step < 0 for step in array.strides):
        array = array.copy()
    return torch.from_numpy(array)
