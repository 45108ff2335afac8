"""Images, label maps and batches through a transform; Jacobian determinants; resampling.

`stn3d.apply` (`stn3d.warp.apply`) warps files and `Image` objects.
"""

from stn3d.warp.images import (
    fov_overlap_fraction,
    jacobian_determinant,
    non_diffeomorphic_volume,
    resample_image,
    warp_batch,
    warp_image,
    warp_labels,
)

__all__ = [
    "fov_overlap_fraction",
    "jacobian_determinant",
    "non_diffeomorphic_volume",
    "resample_image",
    "warp_batch",
    "warp_image",
    "warp_labels",
]
