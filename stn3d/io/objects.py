"""Images of other packages in memory: MONAI's MetaTensors, SimpleITK images, arrays with an affine.

Neither MONAI nor SimpleITK is imported here: an object of theirs exists only where they are.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stn3d.arguments import plain_tensor
from stn3d.errors import InputError
from stn3d.io.colours import colours_of
from stn3d.io.geometry import Matrix, lps_flip, matrix_from_itk, plane_in_space
from stn3d.io.nifti import Stored, in_memory
from stn3d.io.nifti_geometry import header_for


def is_metatensor(source: Any) -> bool:
    """Whether an object is a MONAI MetaTensor."""
    module = sys.modules.get("monai.data.meta_tensor")
    return module is not None and isinstance(source, module.MetaTensor)


def is_sitk_image(source: Any) -> bool:
    """Whether an object is a SimpleITK image."""
    module = sys.modules.get("SimpleITK")
    return module is not None and isinstance(source, module.Image)


def from_metatensor(source: Any, name: str) -> Stored:
    """Array and geometry of a MetaTensor.

    Args:
        source: ``(C, *shape)``, ``shape``, or a batch of one, ``(1, C, *shape)``. Its affine maps
            indices to RAS+ millimetres, or to LPS+ if its ``space`` is LPS. An array of three axes
            is a 2D image with channels if its first axis has length 1, or if its affine or
            ``spatial_shape`` is 2D.
        name: name in messages.

    Returns:
        The channels as volumes.

    Raises:
        InputError: it holds complex numbers or a batch of several images, or waits for resampling.
    """
    array, affine = plain_tensor(source).detach().cpu().numpy(), metatensor_affine(source, name)
    if array.dtype.kind == "c":
        raise InputError(f"{name} holds complex numbers; give its magnitude.")
    if source.pending_operations:
        raise InputError(
            f"{name} has pending operations (lazy resampling); apply them first with "
            "monai.transforms.apply_pending."
        )
    size = np.ravel(source.meta.get("spatial_shape", ()))
    planar = affine.shape == (3, 3) or (not source.is_batch and len(size) == 2)
    if source.is_batch:
        array = array[0]
    planar = planar or array.ndim == 2 or (array.ndim == 3 and array.shape[0] == 1)
    affine = plane_in_space(affine) if affine.shape == (3, 3) else affine
    if array.ndim > (2 if planar else 3):
        array = np.moveaxis(array, 0, -1)  # channels are volumes
        array = array[:, :, None] if planar else array
    header = header_for(affine, array.shape[:3])
    return Stored(array, tuple(array.shape), affine, header, name, planar)


def metatensor_affine(source: Any, name: str) -> Matrix:
    """RAS affine of a MetaTensor, of the only image of a batch."""
    if source.is_batch and len(source) != 1:
        raise InputError(
            f"{name} is a batch of {len(source)} images; give one at a time "
            "(monai.data.decollate_batch)."
        )
    affine = np.asarray(source.affine.detach().cpu().numpy(), dtype=np.float64)
    affine = affine[0] if affine.ndim > 2 else affine
    space = np.ravel(source.meta.get("space", "RAS"))[0]
    return lps_flip(len(affine) - 1) @ affine if str(space).upper().endswith("LPS") else affine


def from_sitk(image: Any, name: str) -> Stored:
    """Array and geometry of a SimpleITK image of 2, 3 or 4 axes.

    Raises:
        InputError: the voxels are vectors that are no colours, or complex numbers.
    """
    import SimpleITK as sitk

    array = sitk.GetArrayFromImage(image)
    if array.dtype.kind == "c":
        raise InputError(f"{name} holds complex numbers; give its magnitude.")
    axes, d = image.GetDimension(), min(image.GetDimension(), 3)
    if array.ndim > axes:
        array = _colours(array, name)
    direction = np.reshape(image.GetDirection(), (axes, axes))[:d, :d]
    matrix = matrix_from_itk(image.GetOrigin()[:d], image.GetSpacing()[:d], direction.ravel())
    affine = plane_in_space(matrix) if d == 2 else matrix
    return in_memory(np.transpose(array), affine, name)


def _colours(channels: NDArray[Any], name: str) -> NDArray[Any]:
    """Colours of an array with a last axis of channels."""
    colours = colours_of(channels)
    if colours is None:
        raise InputError(
            f"{name} holds vectors that are no colours (3 or 4 channels of 8 or 16 bits); give one "
            "scalar per voxel."
        )
    return colours


def from_array(values: Any, affine: Any, name: str) -> Stored:
    """Array and geometry of an array with its affine, as nibabel has them.

    Args:
        values: array ``(i, j[, k[, volumes]])``, or tensor ``([1, [1,]] *shape)``.
        affine: ``(4, 4)``, or ``(3, 3)`` for a 2D image, from index to world RAS+ millimetres.
        name: name in messages.

    Raises:
        InputError: the affine has another shape, or the array is no image.
    """
    array = plain_tensor(values).detach().cpu().numpy()
    matrix = plain_tensor(affine).detach().cpu().numpy().astype(np.float64)
    if matrix.shape not in ((3, 3), (4, 4)):
        raise InputError(
            f"the affine of {name} has shape {matrix.shape}; give the 4x4 matrix from index to "
            "world RAS+ millimetres (3x3 for a 2D image)."
        )
    if array.dtype.kind == "c":
        raise InputError(f"{name} holds complex numbers; give its magnitude.")
    planar = matrix.shape == (3, 3)
    leading = array.ndim - (2 if planar else 3)
    if isinstance(values, torch.Tensor) and leading > 0 and set(array.shape[:leading]) == {1}:
        array = array.reshape(array.shape[leading:])
    if planar and array.ndim != 2:
        raise InputError(
            f"{name} has shape {array.shape} and a 3x3 affine, which is that of a 2D image; "
            "give an array of 2 axes or a 4x4 affine."
        )
    return in_memory(array, plane_in_space(matrix) if planar else matrix, name)
