"""Subjects and their common space."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stn3d.errors import InputError
from stn3d.grid import Grid, apply_matrix
from stn3d.synth import (
    RandomAffine,
    SeededGenerator,
    Subject,
    common_space,
    make_subject,
    read_subjects,
)


def twisted(subject: Subject, seed: int) -> Subject:
    """The same head after a random affine transform of its world."""
    pose = RandomAffine(rotation_deg=40, translation_mm=50, scale=1.2, stretch=0.1, shear=0.1)
    world = pose.sample(SeededGenerator(seed), 3) @ subject.grid.world_from_index
    return replace(subject, grid=Grid(subject.grid.shape, world))


def test_the_common_space_removes_affine_differences(
    heads: list[Subject],
) -> None:
    aligned = common_space([twisted(heads[0], seed) for seed in range(5)])
    linear = torch.stack([s.canonical_from_world.matrix[:3, :3] for s in aligned])
    assert bool((torch.linalg.det(linear) > 0).all())
    torch.testing.assert_close(torch.linalg.inv(linear).mean(dim=0), torch.eye(3).double())
    codes = aligned[0].ids > 0
    places = torch.stack(
        [apply_matrix(s.canonical_from_world.matrix, s.centroids_mm[codes]) for s in aligned]
    )
    assert (places - places[0]).norm(dim=-1).max() < 0.01


def test_label_maps_of_heads_are_aligned_in_the_common_space(shared_data: Path) -> None:
    files = sorted((shared_data / "label_maps").glob("*.nii.gz"))[:3]
    subjects = common_space(read_subjects(files))
    assert sum(s.codes.nbytes for s in subjects) < 50e6
    wanted = [2, 41, 10, 49, 11, 50, 12, 51, 14, 16, 17, 53]
    places = torch.stack(
        [
            apply_matrix(
                s.canonical_from_world.matrix,
                s.centroids_mm[[s.ids.tolist().index(i) for i in wanted]],
            )
            for s in subjects
        ]
    )
    assert (places - places.mean(dim=0)).norm(dim=-1).max() < 6
    assert (places - places.mean(dim=0)).norm(dim=-1).mean() < 2.5
    left, right = places[:, 0].mean(dim=0), places[:, 1].mean(dim=0)
    assert 45 < right[0] - left[0] < 65  # RAS: the right hemisphere lies at larger x
    assert places.mean(dim=(0, 1)).norm() < 20


def test_a_subject_keeps_labels_and_positions() -> None:
    labels = torch.zeros(9, 8, 7, dtype=torch.int32)
    labels[3:5, 2:6, 4] = 530
    labels[6, 3, 5] = 2
    grid = Grid.of_spacing(labels.shape, 2.0)
    subject = make_subject(labels, grid)
    assert subject.codes.dtype == torch.uint8
    assert torch.equal(subject.labels, labels[3:7, 2:6, 4:6].to(torch.int16))
    assert subject.centroids_mm[1].tolist() == [12, 6, 10]
    assert subject.centroids_mm[2].tolist() == [7, 7, 8]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.zeros(5, 5, 5), "empty"),
        (torch.full((5, 5, 5), -2), "from -2 to -2"),
        (torch.full((5, 5, 5), 40_000), "0 to 32767"),
        (torch.arange(7**3).reshape(7, 7, 7), "342 labels"),
    ],
)
def test_invalid_label_maps_are_an_error(labels: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_subject(labels.int(), Grid.of_spacing(labels.shape))


def test_too_few_common_labels_are_an_error() -> None:
    few = make_subject(torch.ones(4, 4, 4, dtype=torch.int32), Grid.of_spacing((4, 4, 4)))
    with pytest.raises(InputError, match="share 1 labels"):
        common_space([few, few])
