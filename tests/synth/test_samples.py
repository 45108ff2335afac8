"""Synthetic datasets: ground truth, reproducibility, shapes and types."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from stn3d import kernels
from stn3d.errors import InputError
from stn3d.grid import Grid, apply_matrix
from stn3d.synth import (
    AcquisitionSettings,
    CoordinateSettings,
    PairSettings,
    RandomAffine,
    RandomDeformation,
    SeededGenerator,
    Subject,
    SyntheticCoordinates,
    SyntheticPairs,
    common_space,
    make_subject,
    random_subject,
    read_subjects,
)

PLAIN = AcquisitionSettings(
    skull_strip_probability=0,
    cropped_fov_probability=0,
    thick_slice_probability=0,
    bright_background_probability=0,
)


SMALL = PairSettings(
    shape=(40, 48, 44), spacing_mm=4.0, inter_subject_probability=0, acquisition=PLAIN
)


FLAT = replace(SMALL, shape=(96, 90), spacing_mm=2.0)


def moved(labels: Tensor, displacement_vox: Tensor) -> Tensor:
    """The label with the largest interpolated fraction at ``x + u(x)``."""
    ids = torch.unique(labels)
    shares = torch.stack([(labels[0] == i).float() for i in ids])[None]
    d = len(displacement_vox)
    points = Grid.of_spacing(displacement_vox.shape[1:]).points_index(dtype=torch.float32)
    points = (points + displacement_vox.movedim(0, -1)).reshape(1, -1, d)
    best = kernels.sample_linear(shares, points)[0].argmax(dim=0)
    return ids[best].reshape(labels.shape)


def marbles(ndim: int) -> Subject:
    """Balls of one label each in a cube, 1 mm: their centres are landmarks."""
    n = 150
    grid = Grid.of_spacing((n,) * ndim)
    labels = torch.ones(grid.shape, dtype=torch.int16)
    generator = torch.Generator().manual_seed(5)
    ball = Grid.of_spacing((17,) * ndim).points_index() - 8
    inside = torch.linalg.vector_norm(ball, dim=-1) < 8
    steps = torch.cartesian_prod(*[torch.tensor([40, 70, 100])] * ndim)
    for label, step in enumerate(steps, start=2):
        where = step - 8 + torch.randint(-3, 4, (ndim,), generator=generator)
        box = tuple(slice(int(i), int(i) + 17) for i in where)
        labels[box] = torch.where(inside, label, labels[box])
    return make_subject(labels, grid)


def centres(labels: Tensor, displacement_vox: Tensor, weight: Tensor) -> dict[int, Tensor]:
    """The displaced weighted centre of each ball that is completely inside, in voxels."""
    found = {}
    for i in torch.unique(labels[labels > 1]).tolist():
        at = (labels[0] == i).nonzero()
        size = torch.tensor(labels.shape[1:])
        if bool(((at > 0) & (at < size - 1)).all()):
            share, where = weight[0][tuple(at.T)], at + displacement_vox[(slice(None), *at.T)].T
            found[i] = (share[:, None] * where).sum(dim=0) / share.sum()
    return found


@pytest.mark.parametrize(("ndim", "spacing_mm", "n"), [(2, 1.0, 160), (3, 2.0, 76)])
def test_landmarks_agree_with_the_true_displacement(ndim: int, spacing_mm: float, n: int) -> None:
    settings = replace(SMALL, shape=(n,) * ndim, spacing_mm=spacing_mm)
    samples = SyntheticPairs([marbles(ndim)], settings, seed=2)
    errors, moves = [], []
    for index in range(2):
        sample = samples[index]
        u = sample["displacement_vox"]
        swelling = kernels.jacobian_determinant(u[None])[0]
        fixed = centres(sample["fixed_labels"], u, swelling[None])
        moving = centres(sample["moving_labels"], 0 * u, torch.ones_like(swelling)[None])
        for label in fixed.keys() & moving.keys():
            errors.append((fixed[label] - moving[label]) * spacing_mm)
        moves.append(u.norm(dim=0).max() * spacing_mm)
    lengths = torch.stack(errors).norm(dim=1)
    assert len(errors) >= 2 * 3**ndim - 6
    assert lengths.mean() < 0.15 * spacing_mm
    assert max(moves) > 5


def test_moving_labels_warped_by_the_truth_are_the_fixed_labels(heads: list[Subject]) -> None:
    settings = replace(SMALL, shape=(90, 88, 92), spacing_mm=1.5)
    large = random_subject(SeededGenerator(3), num_labels=3)
    for index in range(1):
        sample = SyntheticPairs([large], settings, seed=1)[index]
        fixed = sample["fixed_labels"]
        warped = moved(sample["moving_labels"], sample["displacement_vox"])
        seen = sample["truth_weight"] == 1
        sizes = torch.bincount(fixed[seen].int())
        for label in sizes.topk(3).indices:
            a, b = (fixed == label) & seen, (warped == label) & seen
            dice = 2 * (a & b).sum() / (a.sum() + b.sum())
            still = (sample["moving_labels"] == label) & seen
            assert dice > 0.95
            assert 2 * (a & still).sum() / (a.sum() + still.sum()) < 0.9


def test_the_truth_does_not_fold(heads: list[Subject]) -> None:
    samples = SyntheticPairs(heads, SMALL, seed=7)
    for index in range(5):
        det = kernels.jacobian_determinant(samples[index]["displacement_vox"][None])
        assert det.min() > 0


def test_the_truth_is_unknown_for_two_subjects_and_outside_the_grid(heads: list[Subject]) -> None:
    sample = SyntheticPairs(heads, replace(SMALL, inter_subject_probability=1))[0]
    assert not sample["truth_weight"].any()
    far = replace(SMALL, relative_pose=RandomAffine(translation_mm=80), background_weight=0.25)
    sample = SyntheticPairs(heads, far, seed=3)[0]
    u, weight = sample["displacement_vox"], sample["truth_weight"][0]
    points = Grid.of_spacing(far.shape).points_index().movedim(-1, 0) + u
    size = torch.tensor(far.shape).reshape(3, 1, 1, 1)
    off = ((points < -0.5) | (points >= size - 0.5)).any(dim=0)
    assert off.any()
    assert torch.equal(weight == 0, off)
    assert set(weight[~off].unique().tolist()) == {0.25, 1.0}
    assert torch.equal(weight == 1, ~off & (sample["fixed_labels"][0] > 0))


def test_coordinates_agree_with_label_centroids(heads: list[Subject]) -> None:
    pose = RandomAffine(rotation_deg=60, translation_mm=10, scale=1.1)
    settings = CoordinateSettings((72, 72, 72), 4.0, pose, RandomDeformation(probability=0), PLAIN)
    gaps = []
    for index in range(3):
        sample = SyntheticCoordinates(heads[:1], settings, seed=4)[index]
        labels = sample["labels"][0]
        for code in (2, 5, 8):
            at = labels == heads[0].ids[code]
            edges = [at.movedim(a, 0)[[0, -1]].any() for a in range(3)]
            if at.sum() > 60 and not any(edges):
                expected = apply_matrix(
                    heads[0].canonical_from_world.matrix, heads[0].centroids_mm[code]
                )
                gaps.append(100 * sample["coordinates"][:, at].mean(dim=1) - expected)
        assert torch.equal(sample["coordinates_weight"] > 0, sample["labels"] > 0)
    assert len(gaps) >= 4
    assert torch.stack(gaps).norm(dim=1).max() < 1.5


@pytest.mark.parametrize("kind", ["coordinates", "pair", "flat"])
def test_a_sample_is_a_function_of_seed_and_index(
    kind: str, heads: list[Subject], slices: list[Subject]
) -> None:
    def samples(seed: int) -> SyntheticCoordinates | SyntheticPairs:
        if kind == "coordinates":
            return SyntheticCoordinates(heads, CoordinateSettings(shape=(32, 32, 32)), seed)
        if kind == "flat":
            return SyntheticPairs(slices, replace(FLAT, acquisition=AcquisitionSettings()), seed)
        return SyntheticPairs(heads, replace(SMALL, acquisition=AcquisitionSettings()), seed)

    image = "image" if kind == "coordinates" else "moving"
    many = samples(1)
    assert len(many) == 10_000
    before = torch.get_rng_state()
    wanted = [many[index] for index in (0, 1, 9_999)][1]
    assert torch.equal(torch.get_rng_state(), before)
    again = samples(1)[1]
    assert wanted.keys() == again.keys()
    assert all(torch.equal(wanted[key], again[key]) for key in wanted)
    assert not torch.equal(wanted[image], many[2][image])
    assert not torch.equal(wanted[image], samples(2)[1][image])
    with pytest.raises(IndexError, match="10000 samples"):
        many[10_000]


def test_keys_shapes_and_types_of_samples(heads: list[Subject], slices: list[Subject]) -> None:
    for subjects, settings in ((heads, SMALL), (slices, FLAT)):
        shape, d = settings.shape, len(settings.shape)
        sample = SyntheticPairs(subjects, settings)[0]
        assert sample.pop("same_contrast").shape == (1,)
        agreed = {"displacement_vox": (torch.float32, d), "truth_weight": (torch.float32, 1)}
        for role in ("fixed", "moving"):
            agreed[role] = agreed[f"{role}_weight"] = (torch.float32, 1)
            agreed[f"{role}_labels"] = (torch.int16, 1)
        assert {k: (v.dtype, len(v)) for k, v in sample.items()} == agreed
        assert all(v.shape[1:] == shape and v.is_contiguous() for v in sample.values())
        assert all(bool(torch.isfinite(v).all()) for v in sample.values())
        single = SyntheticCoordinates(subjects, CoordinateSettings(shape=shape))[0]
        assert single["coordinates"].shape == (d, *shape)
        assert single["image"].shape == single["coordinates_weight"].shape == (1, *shape)


def test_samples_from_torch_workers(slices: list[Subject]) -> None:
    samples = SyntheticPairs(slices, replace(FLAT, num_samples=4))
    loader = torch.utils.data.DataLoader(samples, batch_size=2, num_workers=1)
    batches = list(loader)
    assert torch.equal(batches[1]["fixed"][1], samples[3]["fixed"])


def test_invalid_subjects_are_an_error(heads: list[Subject], slices: list[Subject]) -> None:
    with pytest.raises(InputError, match="at least one subject"):
        SyntheticPairs([])
    with pytest.raises(InputError, match="is 3D"):
        SyntheticCoordinates(slices)
    with pytest.raises(InputError, match="no label map"):
        read_subjects([])
    few = make_subject(torch.ones(4, 4, 4, dtype=torch.int32), Grid.of_spacing((4, 4, 4)))
    with pytest.raises(InputError, match="share 1 labels"):
        common_space([few, few])
