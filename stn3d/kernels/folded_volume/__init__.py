"""Volume that displacement fields fold, by the criteria of digital diffeomorphisms."""

from __future__ import annotations

from torch import Tensor

from stn3d.kernels.common.dispatch import implementation


def folded_volume(displacement_vox: Tensor, mirrored: bool = False) -> Tensor:
    """Non-diffeomorphic volume at each voxel ``(B, *shape)`` of fields ``(B, d, *shape)``, voxels.

    In 3D the six neighbours of a voxel span eight tetrahedra with it, and six diagonal neighbours
    two more. They are the tetrahedra of both subdivisions of a cube into five. The result is half
    the volume of those that are inverted. In 2D it is half the area of the four triangles that are
    inverted. Beyond the faces the displacement continues unchanged. Not differentiable.

    Liu et al. 2024, doi:10.1007/s11263-024-02047-1.

    Args:
        displacement_vox: fields, d = 2 or 3.
        mirrored: a mirrored tetrahedron is the upright one, for a field that precedes a reflection.
    """
    volume = displacement_vox.shape[1] == 3
    module = implementation(__name__, displacement_vox, when=volume)
    result: Tensor = module.folded_volume(displacement_vox.detach(), mirrored)
    return result
