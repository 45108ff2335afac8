"""Synthetic images and pairs: is the truth true, and is a sample what its settings say?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stn3d import kernels
from stn3d.errors import InputError
from stn3d.grid import Grid, apply_matrix
from stn3d.synth import (
    KINDS,
    ChartSamples,
    ChartSettings,
    Contrast,
    Deformation,
    Draws,
    PairSamples,
    PairSettings,
    Pose,
    Subject,
    common_space,
    make_subject,
    random_subject,
    read_subjects,
)
from stn3d.synth.contrast import draw_appearance
from stn3d.synth.geometry import Lattice, working_grid
from stn3d.synth.loops import look_up, plain_look_up

PLAIN = Contrast(stripped_share=0, cropped_share=0, thick_share=0, lit_share=0)
SMALL = PairSettings(shape=(40, 48, 44), spacing_mm=4.0, other_share=0, contrast=PLAIN)
FLAT = replace(SMALL, shape=(96, 90), spacing_mm=2.0)


@pytest.fixture(scope="module")
def heads() -> list[Subject]:
    return [random_subject(Draws(0, i), spacing_mm=3.0, num_labels=10) for i in range(2)]


@pytest.fixture(scope="module")
def slices() -> list[Subject]:
    return [random_subject(Draws(1, i), spatial_dims=2) for i in range(2)]


def moved(labels: Tensor, displacement_vox: Tensor) -> Tensor:
    """Each label's share ``(L, *shape)`` read at ``x + u(x)``, independently of the sampling."""
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
    """The weighted centre of each ball that is there as a whole, displaced, in voxels."""
    found = {}
    for i in torch.unique(labels[labels > 1]).tolist():
        at = (labels[0] == i).nonzero()
        size = torch.tensor(labels.shape[1:])
        if bool(((at > 0) & (at < size - 1)).all()):
            share, where = weight[0][tuple(at.T)], at + displacement_vox[(slice(None), *at.T)].T
            found[i] = (share[:, None] * where).sum(dim=0) / share.sum()
    return found


# -- the truth -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ndim", "spacing_mm", "n"), [(2, 1.0, 160), (3, 2.0, 76)])
def test_landmarks_lie_where_the_truth_puts_them(ndim: int, spacing_mm: float, n: int) -> None:
    settings = replace(SMALL, shape=(n,) * ndim, spacing_mm=spacing_mm)
    samples = PairSamples([marbles(ndim)], settings, seed=2)
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


def test_the_moving_labels_through_the_truth_are_the_fixed_labels(heads: list[Subject]) -> None:
    settings = replace(SMALL, shape=(90, 88, 92), spacing_mm=1.5)
    large = random_subject(Draws(3), num_labels=3)
    for index in range(1):
        sample = PairSamples([large], settings, seed=1)[index]
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
    samples = PairSamples(heads, SMALL, seed=7)
    for index in range(5):
        det = kernels.jacobian_determinant(samples[index]["displacement_vox"][None])
        assert det.min() > 0


def test_nothing_is_known_of_two_people_or_off_the_grid(heads: list[Subject]) -> None:
    sample = PairSamples(heads, replace(SMALL, other_share=1))[0]
    assert not sample["truth_weight"].any()
    far = replace(SMALL, jitter=Pose(shift_mm=80), background_weight=0.25)
    sample = PairSamples(heads, far, seed=3)[0]
    u, weight = sample["displacement_vox"], sample["truth_weight"][0]
    points = Grid.of_spacing(far.shape).points_index().movedim(-1, 0) + u
    size = torch.tensor(far.shape).reshape(3, 1, 1, 1)
    off = ((points < -0.5) | (points >= size - 0.5)).any(dim=0)
    assert off.any()
    assert torch.equal(weight == 0, off)
    assert set(weight[~off].unique().tolist()) == {0.25, 1.0}
    assert torch.equal(weight == 1, ~off & (sample["fixed_labels"][0] > 0))


def test_coordinates_are_those_of_the_tissue(heads: list[Subject]) -> None:
    pose = Pose(rotation_deg=60, shift_mm=10, scale=1.1)
    settings = ChartSettings((72, 72, 72), 4.0, pose, Deformation(share=0), PLAIN)
    gaps = []
    for index in range(3):
        sample = ChartSamples(heads[:1], settings, seed=4)[index]
        labels = sample["labels"][0]
        for code in (2, 5, 8):
            at = labels == heads[0].ids[code]
            edges = [at.movedim(a, 0)[[0, -1]].any() for a in range(3)]
            if at.sum() > 60 and not any(edges):
                expected = apply_matrix(heads[0].canonical.matrix, heads[0].centroids_mm[code])
                gaps.append(100 * sample["coordinates"][:, at].mean(dim=1) - expected)
        assert torch.equal(sample["coordinates_weight"] > 0, sample["labels"] > 0)
    assert len(gaps) >= 4
    assert torch.stack(gaps).norm(dim=1).max() < 1.5


# -- the same again, or something else -------------------------------------------------------------


@pytest.mark.parametrize("kind", ["chart", "pair", "flat"])
def test_a_sample_is_a_function_of_seed_and_index(
    kind: str, heads: list[Subject], slices: list[Subject]
) -> None:
    def samples(seed: int) -> ChartSamples | PairSamples:
        if kind == "chart":
            return ChartSamples(heads, ChartSettings(shape=(32, 32, 32)), seed)
        if kind == "flat":
            return PairSamples(slices, replace(FLAT, contrast=Contrast()), seed)
        return PairSamples(heads, replace(SMALL, contrast=Contrast()), seed)

    image = "image" if kind == "chart" else "moving"
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


def test_samples_are_as_agreed(heads: list[Subject], slices: list[Subject]) -> None:
    for subjects, settings in ((heads, SMALL), (slices, FLAT)):
        shape, d = settings.shape, len(settings.shape)
        sample = PairSamples(subjects, settings)[0]
        assert sample.pop("alike").shape == (1,)
        agreed = {"displacement_vox": (torch.float32, d), "truth_weight": (torch.float32, 1)}
        for role in ("fixed", "moving"):
            agreed[role] = agreed[f"{role}_weight"] = (torch.float32, 1)
            agreed[f"{role}_labels"] = (torch.int16, 1)
        assert {k: (v.dtype, len(v)) for k, v in sample.items()} == agreed
        assert all(v.shape[1:] == shape and v.is_contiguous() for v in sample.values())
        assert all(bool(torch.isfinite(v).all()) for v in sample.values())
        chart = ChartSamples(subjects, ChartSettings(shape=shape))[0]
        assert chart["coordinates"].shape == (d, *shape)
        assert chart["image"].shape == chart["coordinates_weight"].shape == (1, *shape)


def test_a_batch_comes_from_torch_workers(slices: list[Subject]) -> None:
    samples = PairSamples(slices, replace(FLAT, length=4))
    loader = torch.utils.data.DataLoader(samples, batch_size=2, num_workers=1)
    batches = list(loader)
    assert torch.equal(batches[1]["fixed"][1], samples[3]["fixed"])


# -- how images look -------------------------------------------------------------------------------


def test_a_stripped_image_has_the_brain_alone(heads: list[Subject]) -> None:
    bare = replace(PLAIN, stripped_share=1, rough_share=0)
    for index in range(3):
        sample = PairSamples(heads, replace(SMALL, contrast=bare))[index]
        for role in ("fixed", "moving"):
            brain = sample[f"{role}_labels"] > 0
            near = kernels.box_sum(brain.float()[None], [1, 1, 1])[0] > 0
            assert sample[f"{role}_labels"].max() < 500
            assert sample[role][brain].mean() > 0.1
            assert not sample[role][~near].any()
            assert bool((sample[f"{role}_weight"] == 1).all())


def test_beyond_the_field_of_view_there_is_nothing(heads: list[Subject]) -> None:
    cut = replace(PLAIN, cropped_share=1)
    for index in range(3):
        sample = PairSamples(heads, replace(SMALL, contrast=cut))[index]
        for role in ("fixed", "moving"):
            beyond = sample[f"{role}_weight"] == 0
            assert beyond.any()
            assert not beyond.all()
            assert not sample[role][beyond].any()
            assert not sample[f"{role}_labels"][beyond].any()


def test_averages_show_how_much_of_a_voxel_is_filled() -> None:
    codes = torch.zeros(40, 40, dtype=torch.uint8)
    codes[:, 20:] = 1
    table = torch.zeros(256)
    table[1] = 8
    nodes = Lattice(working_grid((6, 6), 1.0), 2, 0)
    index = torch.stack(
        torch.meshgrid(*[torch.arange(n) * 2.0 for n in nodes.shape], indexing="ij")
    )
    index = index * 4 + 3.4  # voxel j lies at 4 j + 3.4: voxel 4's left half is filled with 0
    quarters = [(-0.25, -0.25), (-0.25, 0.25), (0.25, -0.25), (0.25, 0.25)]
    mean = look_up(codes, table, index, (6, 6), quarters) / 4
    assert mean[0].tolist() == [0, 0, 0, 0, 4, 8]


@pytest.mark.parametrize("dtype", [torch.float32, torch.int16])
@pytest.mark.parametrize("ndim", [2, 3])
def test_the_loop_reads_what_plain_torch_reads(ndim: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(ndim)
    codes = torch.randint(0, 9, (30,) * ndim, generator=generator).to(torch.uint8)
    table = (100 * torch.rand(256, generator=generator)).to(dtype)
    shape = (21, 16, 24)[:ndim]
    lattice = Lattice(working_grid(shape, 1.0), 2, 0)
    nodes = 40 * torch.rand(ndim, *lattice.shape, generator=generator) - 5
    options = codes, table, nodes, shape, [(0.0,) * ndim]
    fast, plain = look_up(*options), plain_look_up(*options)
    assert fast.dtype == dtype
    assert (fast != plain).float().mean() < 1e-3  # ties are decided by the last digit


def test_an_appearance_is_dark_in_the_background_and_even_across_the_midline() -> None:
    kinds = set()
    for seed in range(40):
        look = draw_appearance(Draws(seed), 600, real_share=0.7, max_spread=0.05)
        kinds.add(look.kind)
        assert look.means[0] == look.spreads[0] == 0
        if look.kind == "CT":
            assert look.means[515] > 2 * look.means[[2, 3, 4, 507]].max()
        if look.kind == "T1":
            assert look.means[24] < look.means[3] < look.means[2]
    assert kinds == {None, *KINDS}
    only = draw_appearance(Draws(0), 600, real_share=1, max_spread=0, kinds=["PD"])
    assert only.kind == "PD"


# -- subjects --------------------------------------------------------------------------------------


def twisted(subject: Subject, seed: int) -> Subject:
    """The same head in another place of its world."""
    pose = Pose(rotation_deg=40, shift_mm=50, scale=1.2, stretch=0.1, shear=0.1)
    world = pose.draw(Draws(seed), 3) @ subject.grid.world_from_index
    return replace(subject, grid=Grid(subject.grid.shape, world))


def test_the_common_space_undoes_affines_and_is_as_large_as_the_subjects(
    heads: list[Subject],
) -> None:
    aligned = common_space([twisted(heads[0], seed) for seed in range(5)])
    linear = torch.stack([s.canonical.matrix[:3, :3] for s in aligned])
    assert bool((torch.linalg.det(linear) > 0).all())
    torch.testing.assert_close(torch.linalg.inv(linear).mean(dim=0), torch.eye(3).double())
    codes = aligned[0].ids > 0
    places = torch.stack([apply_matrix(s.canonical.matrix, s.centroids_mm[codes]) for s in aligned])
    assert (places - places[0]).norm(dim=-1).max() < 0.01


def test_the_label_maps_of_heads_meet_in_the_common_space(shared_data: Path) -> None:
    files = sorted((shared_data / "label_maps").glob("*.nii.gz"))[:3]
    subjects = common_space(read_subjects(files))
    assert sum(s.codes.nbytes for s in subjects) < 50e6
    wanted = [2, 41, 10, 49, 11, 50, 12, 51, 14, 16, 17, 53]
    places = torch.stack(
        [
            apply_matrix(
                s.canonical.matrix, s.centroids_mm[[s.ids.tolist().index(i) for i in wanted]]
            )
            for s in subjects
        ]
    )
    assert (places - places.mean(dim=0)).norm(dim=-1).max() < 6
    assert (places - places.mean(dim=0)).norm(dim=-1).mean() < 2.5
    left, right = places[:, 0].mean(dim=0), places[:, 1].mean(dim=0)
    assert 45 < right[0] - left[0] < 65  # RAS: the right hemisphere lies at larger x
    assert places.mean(dim=(0, 1)).norm() < 20


def test_a_subject_keeps_the_labels_and_where_they_lie() -> None:
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
def test_label_maps_of_no_use_are_refused(labels: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_subject(labels.int(), Grid.of_spacing(labels.shape))


def test_what_cannot_be_sampled_is_refused(heads: list[Subject], slices: list[Subject]) -> None:
    with pytest.raises(InputError, match="at least one subject"):
        PairSamples([])
    with pytest.raises(InputError, match="3 axes"):
        ChartSamples(slices)
    with pytest.raises(InputError, match="no label map"):
        read_subjects([])
    few = make_subject(torch.ones(4, 4, 4, dtype=torch.int32), Grid.of_spacing((4, 4, 4)))
    with pytest.raises(InputError, match="share 1 labels"):
        common_space([few, few])
