"""Batches that can be resumed, and a user's own pairs on a working grid."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.transforms import Compose, RandScaleIntensityd
from torch import Tensor

from stn3d.data import (
    Batches,
    Endless,
    LoadPair,
    collate,
    find_subjects,
    pair_dataset,
    read_pairs,
    working_grid,
)
from stn3d.data.pairs import _scan
from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.io import read_image, write_points, write_transform
from stn3d.sampler import sample
from stn3d.transforms import Affine


def test_batches_are_a_function_of_the_iteration() -> None:
    ten = list(islice(Batches(3), 10))
    assert ten[:2] == [[0, 1, 2], [3, 4, 5]]
    assert list(islice(Batches(3, start=4), 6)) == ten[4:]
    both = zip(*(islice(Batches(3, rank, 2), 5) for rank in range(2)), strict=True)
    assert [a + b for a, b in both] == list(islice(Batches(6), 5))


class Numbers:
    """A dataset of n samples that tell their number."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"image": torch.full((1, 2, 2), index + 1.0), "index": index}


def test_endless_reads_each_sample_once_a_turn_in_orders_of_its_own() -> None:
    endless = Endless(Numbers(5), seed=3)
    turns = [[endless[5 * turn + i]["index"] for i in range(5)] for turn in range(4)]
    assert all(sorted(turn) == list(range(5)) for turn in turns)
    assert len({tuple(turn) for turn in turns}) > 1
    assert turns != [
        [Endless(Numbers(5), 4)[5 * t + i]["index"] for i in range(5)] for t in range(4)
    ]


def test_augmentation_depends_on_the_running_number_alone() -> None:
    scale = RandScaleIntensityd(keys="image", factors=0.5, prob=1.0)
    endless = Endless(Numbers(2), 0, Compose([scale]))
    first = [endless[i]["image"].clone() for i in range(6)]
    backwards = [endless[i]["image"] for i in reversed(range(6))][::-1]
    assert all(torch.equal(a, b) for a, b in zip(first, backwards, strict=True))
    assert not torch.equal(first[0], first[2])


def test_collate_keeps_common_keys_and_pads_points() -> None:
    one = {
        "image": torch.ones(1, 2),
        "name": "a",
        "fixed_points": torch.ones(3, 2),
        "points_weight": torch.ones(3),
    }
    two = {
        "image": torch.ones(1, 2),
        "name": "b",
        "fixed_points": torch.ones(1, 2),
        "points_weight": torch.ones(1),
        "extra": 1,
    }
    batch = collate([one, two])
    assert batch.keys() == one.keys()
    assert batch["name"] == ["a", "b"]
    assert batch["points_weight"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["fixed_points"].shape == (2, 3, 2)


# -- pairs of files -------------------------------------------------------------------------------


def body(points_mm: Tensor) -> Tensor:
    """A bright lopsided blob with things in it, around 0."""
    x, y, z = points_mm.float().unbind(-1)
    shell = torch.sigmoid((24 - (x**2 + 1.5 * y**2 + 1.2 * (z + 0.1 * x) ** 2).sqrt()) / 1.5)
    inside = torch.exp(-((x - 8) ** 2 + (y + 4) ** 2 + z**2) / 60)
    other = torch.exp(-((x + 9) ** 2 + (y - 2) ** 2 + (z - 6) ** 2) / 40)
    return 100 * shell * (0.5 + inside - 0.4 * other)


TRUTH = Affine.from_matrix(
    torch.tensor(
        [[0.98, -0.17, 0.02, 7.0], [0.16, 1.01, 0.0, -6.0], [0.0, 0.03, 1.04, 5.0], [0, 0, 0, 1]]
    ).double()
)


def written_pair(folder: Path, labels: bool = False) -> dict[str, str]:
    """Two images of one body, the moving one elsewhere by `TRUTH` and on flipped, finer axes."""
    grids = {
        "fixed": _centred((30, 28, 26), [2.0, 2.0, 2.2]),
        "moving": _centred((44, 36, 40), [-1.7, 2.0, 1.8]),
    }
    for role, grid in grids.items():
        points = grid.points_mm()
        values = body(points if role == "fixed" else TRUTH.inverse()(points))[None, None]
        image = _written(folder / f"{role}.nii.gz", values, grid)
        if labels:
            _written(folder / f"{role}_labels.nii.gz", (values > 30).int() + (values > 70), grid)
        assert image.exists()
    write_transform(folder / "truth.tfm", TRUTH)
    pair = {role: f"{role}.nii.gz" for role in grids} | {"truth": "truth.tfm"}
    return pair | ({f"{role}_labels": f"{role}_labels.nii.gz" for role in grids} if labels else {})


def _centred(shape: Sequence[int], spacing_mm: Sequence[float]) -> Grid:
    matrix = torch.diag(torch.tensor([*spacing_mm, 1.0]).double())
    matrix[:3, 3] = -matrix[:3, :3] @ ((torch.tensor(shape).double() - 1) / 2)
    return Grid(tuple(shape), matrix)


def _written(path: Path, values: Tensor, grid: Grid) -> Path:
    import nibabel as nib

    array = values[0, 0].numpy()
    array = array.astype("int16") if not values.is_floating_point() else array
    nib.save(nib.Nifti1Image(array, grid.world_from_index.numpy()), path)
    return path


def absolute(folder: Path, pair: dict[str, str]) -> dict[str, str]:
    return {key: str(folder / file) for key, file in pair.items()}


def moved_by(sample_: dict[str, Any], name: str, how: Any = "linear") -> Tensor:
    """The moving volume of a sample as the sample's truth brings it onto the fixed one."""
    field = sample_["displacement_vox"]
    axes = [torch.arange(n).float() for n in field.shape[1:]]
    points = (torch.stack(torch.meshgrid(*axes, indexing="ij")) + field).movedim(0, -1)
    return sample(sample_[name][None], points[None], how)[0]


@pytest.mark.parametrize("start", ["header", "affine"])
def test_a_pair_comes_onto_one_grid_with_its_truth(tmp_path: Path, start: Any) -> None:
    pair = absolute(tmp_path, written_pair(tmp_path, labels=True))
    points = torch.tensor([[8.0, -4.0, 0.0], [-9.0, 2.0, 6.0]]).double()
    for role, where in (("fixed", points), ("moving", TRUTH(points))):
        pair[f"{role}_points"] = str(tmp_path / f"{role}.csv")
        write_points(pair[f"{role}_points"], where)
    made = LoadPair((20, 20, 20), 3.0, start)(pair)
    assert made["fixed"].shape == made["moving"].shape == (1, 20, 20, 20)
    assert made["fixed_labels"].dtype == torch.int16
    assert made["name"] == "moving_to_fixed"
    # the truth brings the moving image, labels and landmarks onto the fixed ones
    seen = (made["fixed_weight"] > 0.5) & (moved_by(made, "moving_weight") > 0.5)
    gap = float((moved_by(made, "moving") - made["fixed"]).abs()[seen].mean())
    still = float((made["moving"] - made["fixed"]).abs()[seen].mean())
    assert gap < 0.03
    if start == "header":
        assert still > 4 * gap
    moved = moved_by(made, "moving_labels", "nearest")
    assert float((moved == made["fixed_labels"])[seen].float().mean()) > 0.95
    ends = (
        made["fixed_points"]
        + sample(made["displacement_vox"][None], made["fixed_points"][None])[0].T
    )
    assert float((ends - made["moving_points"]).norm(dim=-1).max()) < 0.05
    # an affine start leaves next to nothing over, the headers leave it all
    left = float((made["displacement_vox"].norm(dim=0) * 3.0)[5:-5, 5:-5, 5:-5].mean())
    assert left < 1.0 if start == "affine" else left > 5.0


def test_a_given_start_comes_first(tmp_path: Path) -> None:
    pair = absolute(tmp_path, written_pair(tmp_path))
    made = LoadPair((16, 16, 16), 4.0, "header")(pair | {"initial": pair["truth"]})
    assert float(made["displacement_vox"].abs().max()) < 1e-3
    assert torch.equal(made["moving_from_fixed"], TRUTH.matrix)


def test_without_truth_nothing_is_known(tmp_path: Path) -> None:
    pair = absolute(tmp_path, written_pair(tmp_path))
    del pair["truth"]
    made = LoadPair((16, 16, 16), 4.0, "header")(pair)
    assert float(made["truth_weight"].max()) == 0
    assert "fixed_labels" not in made


def test_masks_weigh(tmp_path: Path) -> None:
    pair = absolute(tmp_path, written_pair(tmp_path))
    image = read_image(pair["fixed"])
    inside = torch.zeros_like(image.values)
    inside[:, :, 10:20, 8:20, 8:18] = 1
    pair["fixed_mask"] = str(_written(tmp_path / "mask.nii.gz", inside.int(), image.grid))
    made = LoadPair((20, 20, 20), 3.0, "header")(pair)
    share = float(made["fixed_weight"].sum() * 27 / (10 * 12 * 10 * 2 * 2 * 2.2))
    assert share == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("cache", ["memory", "disk", "none"])
def test_datasets_of_pairs_are_cached(tmp_path: Path, cache: Any) -> None:
    pair = absolute(tmp_path, written_pair(tmp_path))
    calls = []

    class Counting(LoadPair):
        def __call__(self, pair: Any) -> Any:
            calls.append(1)
            return super().__call__(pair)

    load = Counting((8, 8, 8), 8.0, "header")
    data = pair_dataset([pair], load, cache, tmp_path / "cache")
    first, second = data[0], data[0]
    assert torch.equal(first["fixed"], second["fixed"])
    assert len(calls) == (2 if cache == "none" else 1)
    if cache == "disk":
        pair_dataset([pair], Counting((8, 8, 8), 8.0, "header"), cache, tmp_path / "cache")[0]
        assert len(calls) == 1
        pair_dataset([pair], Counting((8, 8, 8), 9.0, "header"), cache, tmp_path / "cache")[0]
        assert len(calls) == 2  # another grid is another sample
        os.utime(pair["fixed"], (1, 1))
        pair_dataset([pair], load, cache, tmp_path / "cache")[0]
        assert len(calls) == 3  # so is a file that changed


def test_pairs_of_a_folder(tmp_path: Path) -> None:
    for name in (
        "a_t1.nii.gz",
        "a_labels.nii.gz",
        "b_t1.nii.gz",
        "b_labels.nii.gz",
        "notes.txt",
        "a_points.csv",
        "b_points.csv",
    ):
        (tmp_path / name).touch()
    pairs = read_pairs(tmp_path)
    assert [Path(p["fixed"]).name for p in pairs] == ["a_t1.nii.gz", "b_t1.nii.gz"]
    assert {key: Path(file).name for key, file in pairs[0].items()} == {
        "fixed": "a_t1.nii.gz",
        "moving": "b_t1.nii.gz",
        "fixed_labels": "a_labels.nii.gz",
        "moving_labels": "b_labels.nii.gz",
        "fixed_points": "a_points.csv",
        "moving_points": "b_points.csv",
    }


def test_pairs_of_a_datalist(tmp_path: Path) -> None:
    for name in ("a.nii", "b.nii"):
        (tmp_path / name).touch()
    pair = {"fixed": "a.nii", "moving": "b.nii"}
    path = tmp_path / "pairs.json"
    path.write_text(json.dumps({"training": [pair], "testing": [pair, pair]}))
    assert read_pairs(path) == [absolute(tmp_path, pair)]
    assert len(read_pairs(path, "testing")) == 2
    path.write_text(json.dumps([pair]))
    assert len(read_pairs(path, "whatever")) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"training": [{"fixd": "a.nii"}]}, "unknown key 'fixd'; did you mean 'fixed'"),
        ({"training": [{"fixed": "a.nii"}]}, "has no 'moving'"),
        ({"training": [{"fixed": "a.nii", "moving": "c.nii"}]}, r"c\.nii, which is not there"),
        ({"validation": []}, "no list 'training'; it has: validation"),
        ([], "holds no pairs"),
        (["a"], "is no list of pairs"),
        (
            [
                {"fixed": "a.nii", "moving": "a.nii"},
                {"fixed": "a.nii", "moving": "a.nii", "fixed_mask": "a.nii"},
            ],
            "differs from pair 0",
        ),
    ],
)
def test_bad_datalists(tmp_path: Path, content: Any, message: str) -> None:
    (tmp_path / "a.nii").touch()
    (tmp_path / "pairs.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        read_pairs(tmp_path / "pairs.json")


def test_bad_choices(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'affine'"):
        LoadPair((8, 8, 8), 4.0, "afine")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="did you mean 'memory'"):
        pair_dataset([], LoadPair((8, 8), 4.0), "memry")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="set cache_dir"):
        pair_dataset([], LoadPair((8, 8), 4.0), "disk")
    with pytest.raises(InputError, match="there is no datalist or folder"):
        read_pairs(tmp_path / "none.json")
    with pytest.raises(InputError, match="there are no NIfTI label maps"):
        find_subjects(tmp_path)


def test_the_working_grid_is_upright_and_centred(tmp_path: Path) -> None:
    pair = absolute(tmp_path, written_pair(tmp_path))
    moving = _scan(read_image(pair["moving"]), None, "moving")
    grid = working_grid(moving, (20, 21, 22), 3.0)
    assert grid.shape == (20, 21, 22)
    assert torch.equal(grid.world_from_index[:3, :3], 3.0 * torch.eye(3).double())
    centre = TRUTH(torch.zeros(1, 3).double())[0]
    assert float((grid.centre_mm - centre).abs().max()) < 4.0


def test_random_subjects_need_no_data() -> None:
    flat = find_subjects(None, 2, shapes=2, seed=5)
    assert [s.grid.ndim for s in flat] == [2, 2]
    again = find_subjects("", 2, shapes=2, seed=5)
    assert torch.equal(flat[1].codes, again[1].codes)
    assert not torch.equal(flat[0].codes, flat[1].codes)
