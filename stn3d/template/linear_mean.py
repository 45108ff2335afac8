"""Means of linear transforms, which determine where a template lies and how large it is.

Convention: a pose maps points of the template to points of an image, in world RAS+ mm.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stn3d.grid import homogeneous
from stn3d.transforms import Affine, Linear

Matrix = NDArray[np.float64]
_ITERATIONS = 100
_SMALL = 1e-4  # radians: the series of the logarithm is exact to rounding
_TOLERANCE = 1e-10  # radians, or mm


def centring(poses: Sequence[Linear], centre_mm: Tensor) -> Affine:
    """The map from the mean space to the present one, which centres affine poses.

    Size and shear of the mean space are the mean of those of the images: the Karcher mean of the
    metric tensors (Pennec et al. 2006, doi:10.1007/s11263-005-3222-z). It has no preferred image,
    and no rotation enters it. The rotations of the new poses have the identity as chordal mean, and
    their translations move a given point by 0 on average.

    Args:
        poses: points of the present space to points of each image.
        centre_mm: ``(d,)`` point of the mean space.

    Returns:
        Points of the mean space to points of the present space; ``centring(...).then(pose)`` are
        the centred poses.
    """
    matrices = torch.stack([pose.matrix.double() for pose in poses])
    linear, shift = matrices[:, :-1, :-1], matrices[:, :-1, -1]
    total = torch.eye(linear.shape[-1], dtype=torch.float64)
    for _ in range(_ITERATIONS):
        mean_log = _log_stretch(linear @ total).mean(0)
        total = total @ _symmetric(mean_log, lambda values: (-values).exp())
        if float(mean_log.norm()) < _TOLERANCE:
            break
    scaled = linear @ total
    rotations = scaled @ _symmetric(_log_stretch(scaled), lambda values: (-values).exp())
    u, _, vt = torch.linalg.svd(rotations.mean(0))
    total = total @ (u @ vt).T
    mean_linear, mean_shift = linear.mean(0), shift.mean(0)
    centre = centre_mm.double()
    origin = torch.linalg.solve(mean_linear, centre - mean_shift) - total @ centre
    return Affine.from_matrix(homogeneous(total, origin), centre)


def _log_stretch(linear: Tensor) -> Tensor:
    """``(N, d, d)`` logarithms of the right stretch tensors of matrices."""
    return _symmetric(linear.mT @ linear, lambda values: 0.5 * values.log())


def _symmetric(matrix: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """A function of symmetric matrices, by their eigenvalues."""
    values, vectors = torch.linalg.eigh(0.5 * (matrix + matrix.mT))
    return vectors @ torch.diag_embed(function(values)) @ vectors.mT


def rigid_log(matrix: Matrix) -> Matrix:
    """``(d + 1, d + 1)`` principal logarithm of a rigid matrix."""
    from scipy.spatial.transform import Rotation  # slow to import

    d = len(matrix) - 1
    rotation = np.eye(3)
    rotation[:d, :d] = matrix[:d, :d]
    x, y, z = Rotation.from_matrix(rotation).as_rotvec()
    skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = float(np.sqrt(x * x + y * y + z * z))
    factor = 1 / 12 if angle < _SMALL else (1 - angle / (2 * np.tan(angle / 2))) / angle**2
    left = (np.eye(3) - 0.5 * skew + factor * skew @ skew)[:d, :d]
    found = np.zeros((d + 1, d + 1))
    found[:d, :d], found[:d, d] = skew[:d, :d], left @ matrix[:d, d]
    return found


def rigid_exp(matrix: Matrix) -> Matrix:
    """Exponential of the logarithm of a rigid matrix."""
    return torch.linalg.matrix_exp(torch.from_numpy(matrix)).numpy()


def inverse_consistent(forward: Linear, backward: Linear) -> Affine:
    """The mean of a rigid transform and the inverse of the one found in the other direction.

    With both images exchanged the result is exactly inverted.

    Args:
        forward: points of the first image to points of the second.
        backward: points of the second image to points of the first.
    """
    one, other = forward.matrix.numpy(), np.linalg.inv(backward.matrix.numpy())
    gap = rigid_log(np.linalg.inv(one) @ other)
    return Affine.from_matrix(torch.from_numpy(one @ rigid_exp(0.5 * gap)))


def midpoint_poses(pairs: Mapping[tuple[int, int], Linear], count: int) -> list[Affine]:
    """Rigid poses of several images in the space halfway between them.

    Their logarithms have the mean 0 (of two images, the poses are the square root of the transform
    between them and its inverse), and they agree with all transforms between pairs in the
    least-squares sense in the Lie algebra (Reuter et al. 2012,
    doi:10.1016/j.neuroimage.2012.02.084).

    Args:
        pairs: for numbers of images ``(i, j)``, i < j, points of image i to points of image j.
        count: number of images.

    Returns:
        For each image, points of the midpoint space to points of the image.
    """
    between = {key: pair.matrix.numpy() for key, pair in pairs.items()}
    between |= {(j, i): np.linalg.inv(matrix) for (i, j), matrix in between.items()}
    poses = [between[0, j] if j else np.eye(len(between[0, 1])) for j in range(count)]
    poses = _centred(poses)
    for _ in range(_ITERATIONS):
        steps = [_step(poses, between, j) for j in range(count)]
        poses = _centred([p @ rigid_exp(s) for p, s in zip(poses, steps, strict=True)])
        if max(np.abs(step).max() for step in steps) < _TOLERANCE:
            break
    return [Affine.from_matrix(torch.from_numpy(pose)) for pose in poses]


def _step(poses: Sequence[Matrix], between: Mapping[tuple[int, int], Matrix], j: int) -> Matrix:
    """The mean change that all images propose for a pose, as a logarithm; its own is none."""
    own = np.linalg.inv(poses[j])
    others = [i for i in range(len(poses)) if i != j]
    changes = [rigid_log(own @ between[i, j] @ poses[i]) for i in others]
    return np.sum(changes, axis=0) / len(poses)


def _centred(poses: Sequence[Matrix]) -> list[Matrix]:
    """Poses from a space in which the mean of their logarithms is 0."""
    poses = list(poses)
    for _ in range(_ITERATIONS):
        mean = np.mean([rigid_log(pose) for pose in poses], axis=0)
        poses = [pose @ rigid_exp(-mean) for pose in poses]
        if np.abs(mean).max() < _TOLERANCE:
            break
    return poses


def product(first: Linear, second: Linear) -> Affine:
    """The affine transform that applies two linear transforms in this order."""
    return Affine.from_matrix(second.matrix @ first.matrix)


def reflection(plane_x_mm: float, ndim: int) -> Affine:
    """The reflection about a plane of constant x."""
    matrix = torch.eye(ndim + 1, dtype=torch.float64)
    matrix[0, 0], matrix[0, -1] = -1, 2 * plane_x_mm
    return Affine.from_matrix(matrix)


def mirrored(pose: Linear, mirror: Linear) -> Affine:
    """The pose of the mirror image, if the template is symmetric about the plane of the mirror."""
    return Affine.from_matrix(mirror.matrix @ pose.matrix @ mirror.matrix)


def symmetry_pose(to_mirror_image: Linear, mirror: Linear, centre_mm: Tensor) -> Affine:
    """The rigid map that places the plane of symmetry of an image at constant x.

    Args:
        to_mirror_image: rigid transform, points of the image to points of its mirror image.
        mirror: the reflection that made the mirror image.
        centre_mm: ``(d,)`` a point near the middle of the image.

    Returns:
        Points of the new space to points of the image. The plane contains the returned transform's
        centre.
    """
    onto_itself = mirror.matrix @ to_mirror_image.matrix  # nearly a reflection
    linear = onto_itself[:-1, :-1]
    normal = torch.linalg.eigh(0.5 * (linear + linear.T))[1][:, 0]
    normal = normal * normal[0].sign() if float(normal[0]) else normal
    centre = centre_mm.double()
    point = 0.5 * (centre + linear @ centre + onto_itself[:-1, -1])
    rotation = _from_x_axis_to(normal)
    return Affine.from_matrix(homogeneous(rotation, point - rotation @ point), point)


def _from_x_axis_to(direction: Tensor) -> Tensor:
    """The smallest rotation that takes the x axis to a direction with a positive x."""
    d = len(direction)
    x = torch.eye(d, dtype=torch.float64)[0]
    both = x + direction
    return (
        torch.eye(d, dtype=torch.float64)
        - torch.outer(both, both) / (1 + direction[0])
        + 2 * torch.outer(direction, x)
    )
