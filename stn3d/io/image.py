"""`Image`: values on their grid, and its conversion to files and to objects of other packages."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stn3d.arguments import plain_tensor
from stn3d.display import Described, Description, thumbnail
from stn3d.grid import Grid
from stn3d.io import itk, objects
from stn3d.io.colours import channels_of
from stn3d.io.dtypes import exact
from stn3d.io.geometry import Matrix, grid_of, plane_in_space
from stn3d.io.image_output import dtype_in_file, write_colours, write_image
from stn3d.io.nifti_geometry import header_for

if TYPE_CHECKING:
    import SimpleITK as sitk
    from monai.data.meta_tensor import MetaTensor


@dataclass(frozen=True, eq=False, repr=False)
class Image(Described):
    """An image on its grid.

    Args:
        values: ``(1, 1, *grid.shape)``, float32, integer for labels, bool for masks;
            ``(1, V, *grid.shape)`` for several warped volumes.
        grid: grid of the voxels.
        name: name in messages, e.g. the path.
        header: shape, affine, codes and units as stored, for `write_image`.
        colours: ``grid.shape`` colours whose luminance the values are, see `stn3d.io.colours`; None
            for an image without colours.

    Examples:
        >>> from stn3d.io import as_image
        >>> image = as_image((np.zeros((4, 3, 2), np.float32), np.diag([2.0, 2.0, 5.0, 1.0])))
        >>> image.grid.spacing_mm, image.numpy().shape
        ((2.0, 2.0, 5.0), (4, 3, 2))
        >>> image.to_sitk().GetSpacing()
        (2.0, 2.0, 5.0)
    """

    values: Tensor
    grid: Grid
    name: str
    header: nib.Nifti1Header
    colours: NDArray[Any] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", plain_tensor(self.values))

    def description(self) -> Description:
        low, high = (value.item() for value in self.values.detach().aminmax())
        volumes = self.values.shape[1]
        rows = [
            ("of", self.name),
            *self.grid.description().rows,
            ("volumes", f"{volumes}" if volumes > 1 else ""),
            ("values", f"{low:.4g} to {high:.4g}, {str(self.values.dtype).split('.')[-1]}"),
            ("colours", "yes" if self.colours is not None else ""),
        ]
        return Description("Image", rows)

    def thumbnails(self) -> Sequence[NDArray[np.uint8]]:
        """The middle axial slice, the subject's right to the right, anterior up."""
        letters = self.grid.orientation
        axes = [next(a for a, one in enumerate(letters) if one in pair) for pair in ("RL", "AP")]
        middle = [n // 2 if a not in axes else slice(None) for a, n in enumerate(self.grid.shape)]
        plane = self.values[(0, 0, *middle)].detach().cpu().numpy()
        plane = plane if axes[0] < axes[1] else plane.T
        flips = [axis for axis, a in enumerate(axes) if letters[a] in "LP"]
        return [thumbnail(np.flip(plane, tuple(flips)))]

    @classmethod
    def from_metatensor(cls, source: MetaTensor) -> Image:
        """The image of a MONAI MetaTensor, exactly; its channels become volumes.

        Args:
            source: ``(C, *shape)``, ``shape``, or a batch of one.

        Raises:
            InputError: it holds complex numbers or several images, or its affine cannot be used.
        """
        name = str(np.ravel(source.meta.get("filename_or_obj", "the image in memory"))[0])
        stored = objects.from_metatensor(source, name)
        sizes = stored.shape[: 2 if stored.planar else 3]
        grid = grid_of(stored.affine, sizes, 2 if stored.planar else None)
        array = exact(np.asarray(stored.array), name).reshape(*grid.shape, -1)
        values = torch.from_numpy(np.ascontiguousarray(np.moveaxis(array, -1, 0)))[None]
        header, count = stored.header.copy(), values.shape[1]
        header.set_data_shape((*(*grid.shape, 1)[:3], count) if count > 1 else grid.shape)
        return cls(values, grid, name, header)

    @property
    def num_volumes(self) -> int:
        """Number of volumes of a file with this header."""
        return int(np.prod(self.header.get_data_shape()[3:], dtype=int))

    @property
    def affine(self) -> Matrix:
        """``(4, 4)`` matrix from index to world RAS+ millimetres; a 2D image lies in z = 0."""
        matrix = self.grid.world_from_index.numpy()
        return plane_in_space(matrix) if self.grid.ndim == 2 else matrix.copy()

    def numpy(self) -> NDArray[Any]:
        """The values as an array ``grid.shape``, ``(*grid.shape, V)`` for V volumes."""
        array: NDArray[Any] = self.values.detach().cpu()[0].movedim(0, -1).numpy()
        return array[..., 0] if array.shape[-1] == 1 else array

    def save(self, path: str | os.PathLike[str], dtype: np.dtype[Any] | None = None) -> None:
        """Write the image: its colours, or its values.

        Args:
            path: output file, ``.nii.gz``, ``.nii``, ``.mha`` or ``.nrrd``.
            dtype: data type of the values in the file. Default: that of the header for whole
                numbers if it holds them, else the smallest that does, see `stn3d.io.write_image`.

        Raises:
            InputError: the file cannot be written.
        """
        if self.colours is not None and dtype is None:
            write_colours(path, [self.colours], self)
        else:
            write_image(path, self.values, self, dtype or self._dtype_in_file)

    @property
    def _dtype_in_file(self) -> np.dtype[Any]:
        return dtype_in_file(self.values, np.dtype(self.header.get_data_dtype()))

    def to_nibabel(self) -> nib.Nifti1Image:
        """As a nibabel image, with the codes and units of the header; bool becomes uint8."""
        array = self.numpy() if self.colours is None else self.colours
        header = self.header.copy()
        placed = int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0
        if not placed:  # nibabel would place the voxels elsewhere
            header = header_for(self.affine, array.shape)
        dtype = self._dtype_in_file if self.colours is None else array.dtype
        header.set_data_dtype(dtype)
        header.set_slope_inter(1, 0)
        array = array.reshape(self.header.get_data_shape()).astype(dtype, copy=False)
        return nib.Nifti1Image(array, header.get_best_affine(), header, dtype=dtype)

    def to_sitk(self) -> sitk.Image:
        """As a SimpleITK image in LPS; several volumes or colours become components."""
        matrix = self.grid.world_from_index.numpy()
        if self.colours is not None:
            return itk.to_sitk(channels_of(self.colours), matrix)
        array = self.numpy()
        return itk.to_sitk(array.astype(np.uint8) if array.dtype == bool else array, matrix)

    def to_metatensor(self) -> MetaTensor:
        """As a MONAI MetaTensor ``(V, *grid.shape)`` with the ``(4, 4)`` affine in RAS+ mm."""
        from monai.data.meta_tensor import MetaTensor

        values = self.values.detach().clone()[0]
        affine = torch.from_numpy(self.affine)
        meta = {
            "filename_or_obj": self.name,
            "space": "RAS",
            "original_affine": affine.clone(),
            "spatial_shape": np.array(self.grid.shape),
            "original_channel_dim": "no_channel" if len(values) == 1 else -1,
        }
        return MetaTensor(values, affine=affine, meta=meta)
