"""Means of linear transforms against their defining properties and scipy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.linalg import logm, sqrtm

from stn3d.template.linear_mean import (
    centring,
    inverse_consistent,
    midpoint_poses,
    mirrored,
    product,
    reflection,
    symmetry_pose,
)
from stn3d.transforms import Affine, Rigid
from tests.helpers.geometry_cases import rotation, uniform


def affines(count: int, ndim: int, seed: int = 0) -> list[Affine]:
    matrices = torch.eye(ndim + 1).double().repeat(count, 1, 1)
    matrices[:, :ndim, :ndim] += uniform(-0.25, 0.25, count, ndim, ndim, seed=seed)
    matrices[:, :ndim, -1] = uniform(-30, 30, count, ndim, seed=seed + 1)
    return [Affine.from_matrix(matrix) for matrix in matrices]


def rigids(count: int, degrees: float = 20.0, seed: int = 0) -> list[Rigid]:
    parameters = uniform(-1, 1, count, 6, seed=seed)
    parameters[:, :3] *= np.radians(degrees)
    parameters[:, 3:] *= 10
    return [Rigid(p, torch.tensor([5.0, -20.0, 30.0]).double()) for p in parameters]


@pytest.mark.parametrize("ndim", [2, 3])
def test_centred_poses_have_the_identity_as_mean(ndim: int) -> None:
    poses, centre = affines(5, ndim), torch.tensor([4.0, -7.0, 11.0]).double()[:ndim]
    change = centring(poses, centre)
    centred = [product(change, pose).matrix[:-1, :-1].numpy() for pose in poses]
    stretches = [np.real(sqrtm(one.T @ one)) for one in centred]
    mean_log = np.mean([np.real(logm(one)) for one in stretches], axis=0)
    np.testing.assert_allclose(mean_log, 0, atol=1e-9)
    rotations = [one @ np.linalg.inv(s) for one, s in zip(centred, stretches, strict=True)]
    mean = np.mean(rotations, axis=0)
    np.testing.assert_allclose(mean, mean.T, atol=1e-9)  # its nearest rotation is the identity
    moved = torch.stack([product(change, pose)(centre) for pose in poses]).mean(0)
    torch.testing.assert_close(moved, centre, atol=1e-9, rtol=0)


def test_the_mean_space_does_not_depend_on_the_present_space() -> None:
    """Another target of the registrations precedes all poses by one transform."""
    poses, centre = affines(4, 3), torch.tensor([4.0, -7.0, 11.0]).double()
    other = affines(1, 3, seed=7)[0]
    for pose in poses:
        seen = product(centring(poses, centre), pose)
        again = product(
            centring([product(other, one) for one in poses], centre), product(other, pose)
        )
        torch.testing.assert_close(seen.matrix, again.matrix, atol=1e-8, rtol=0)


def test_two_visits_meet_at_the_square_root_of_their_transform() -> None:
    between = rigids(1, 40)[0]
    first, second = midpoint_poses({(0, 1): between}, 2)
    root = np.real(sqrtm(between.matrix.numpy()))
    np.testing.assert_allclose(second.matrix.numpy(), root, atol=1e-9)
    np.testing.assert_allclose(first.matrix.numpy(), np.linalg.inv(root), atol=1e-9)
    swapped = midpoint_poses({(0, 1): between.inverse()}, 2)
    np.testing.assert_allclose(swapped[1].matrix.numpy(), first.matrix.numpy(), atol=1e-9)


def test_more_visits_agree_with_all_pairs_and_have_the_mean_log_0() -> None:
    truth = rigids(4)
    pairs = {
        (i, j): product(truth[i].inverse(), truth[j])
        for i, j in itertools.combinations(range(4), 2)
    }
    poses = midpoint_poses(pairs, 4)
    for (i, j), pair in pairs.items():
        found = product(poses[i].inverse(), poses[j])
        torch.testing.assert_close(found.matrix, pair.matrix, atol=1e-8, rtol=0)
    mean = np.mean([np.real(logm(pose.matrix.numpy())) for pose in poses], axis=0)
    np.testing.assert_allclose(mean, 0, atol=1e-9)
    order = [2, 0, 3, 1]  # the same visits in another order
    again = midpoint_poses(
        {(a, b): product(truth[order[a]].inverse(), truth[order[b]]) for a, b in pairs}, 4
    )
    for place, number in enumerate(order):
        torch.testing.assert_close(again[place].matrix, poses[number].matrix, atol=1e-7, rtol=0)


def test_noisy_pairs_are_balanced() -> None:
    """One wrong pair is spread over all; the poses stay centred and nearer to the truth."""
    truth = rigids(4)
    pairs: dict[tuple[int, int], Affine] = {
        (i, j): product(truth[i].inverse(), truth[j])
        for i, j in itertools.combinations(range(4), 2)
    }
    shift = torch.eye(4).double()
    shift[0, 3] = 1.0
    pairs[0, 1] = Affine.from_matrix(shift @ pairs[0, 1].matrix)
    poses = midpoint_poses(pairs, 4)
    found = product(poses[0].inverse(), poses[1])(torch.zeros(3))
    wrong = float((found - product(truth[0].inverse(), truth[1])(torch.zeros(3))).norm())
    assert wrong == pytest.approx(0.5, abs=0.02)  # least squares with 4 visits


def test_both_directions_are_exchangeable() -> None:
    there, noise = rigids(2, seed=3)
    back = product(there.inverse(), Rigid(0.05 * noise.parameters, noise.centre_mm))
    mean, swapped = inverse_consistent(there, back), inverse_consistent(back, there)
    torch.testing.assert_close(swapped.matrix, torch.linalg.inv(mean.matrix), atol=1e-9, rtol=0)


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_plane_of_symmetry_is_found(ndim: int) -> None:
    """An image that is symmetric about a tilted plane equals its mirror image after a rotation."""
    tilt = rotation(ndim, [12, -9, 20][: 1 if ndim == 2 else 3]).double()
    normal, middle = tilt[:, 0], torch.tensor([3.0, -4.0, 6.0]).double()[:ndim]
    own = torch.eye(ndim + 1).double()
    own[:-1, :-1] -= 2 * torch.outer(normal, normal)
    own[:-1, -1] = 2 * normal * (normal @ middle)
    mirror = reflection(
        1.5, ndim
    )  # points of the image to points of the mirror image: mirror * own
    pose = symmetry_pose(Affine.from_matrix(mirror.matrix @ own), mirror, middle)
    plane = reflection(float(pose.centre_mm[0]), ndim)
    again = mirrored(pose, plane)  # the same pose after the symmetry of the image
    torch.testing.assert_close(own @ pose.matrix, pose.matrix @ plane.matrix, atol=1e-9, rtol=0)
    assert float(torch.linalg.det(again.matrix)) == pytest.approx(1)
