"""Pairs of image files on a working grid."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from stn3d.data import (
    LoadPair,
    load_subjects,
    pair_dataset,
    read_pairs,
    working_grid,
)
from stn3d.data.pairs import _prepare
from stn3d.errors import InputError
from stn3d.io import read_image, write_points
from stn3d.nets.working_grid import working_image
from stn3d.preprocessing.intensity import scaled
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.sampler import sample
from tests.helpers.image_pairs import TRUTH, absolute, write_image_file, written_pair


def moved_by(sample_: dict[str, Any], name: str, how: Any = "linear") -> Tensor:
    """A moving volume of a sample, warped by the true displacement."""
    field = sample_["displacement_vox"]
    axes = [torch.arange(n).float() for n in field.shape[1:]]
    points = (torch.stack(torch.meshgrid(*axes, indexing="ij")) + field).movedim(0, -1)
    return sample(sample_[name][None], points[None], how)[0]


@pytest.mark.parametrize("init", ["header", "affine"])
def test_a_pair_is_resampled_with_its_truth(tmp_path: Path, init: Any) -> None:
    pair = absolute(tmp_path, written_pair(tmp_path, labels=True))
    points = torch.tensor([[8.0, -4.0, 0.0], [-9.0, 2.0, 6.0]]).double()
    for role, where in (("fixed", points), ("moving", TRUTH(points))):
        pair[f"{role}_points"] = str(tmp_path / f"{role}.csv")
        write_points(pair[f"{role}_points"], where)
    made = LoadPair((20, 20, 20), 3.0, init)(pair)
    assert made["fixed"].shape == made["moving"].shape == (1, 20, 20, 20)
    assert made["fixed_labels"].dtype == torch.int16
    assert made["name"] == "moving_to_fixed"
    # the truth aligns the moving image, labels and landmarks with the fixed ones
    seen = (made["fixed_weight"] > 0.5) & (moved_by(made, "moving_weight") > 0.5)
    gap = float((moved_by(made, "moving") - made["fixed"]).abs()[seen].mean())
    still = float((made["moving"] - made["fixed"]).abs()[seen].mean())
    assert gap < 0.03
    if init == "header":
        assert still > 4 * gap
    moved = moved_by(made, "moving_labels", "nearest")
    assert float((moved == made["fixed_labels"])[seen].float().mean()) > 0.95
    ends = (
        made["fixed_points"]
        + sample(made["displacement_vox"][None], made["fixed_points"][None])[0].T
    )
    assert float((ends - made["moving_points"]).norm(dim=-1).max()) < 0.05
    # after affine initialisation the residual is small, with the headers it is not
    left = float((made["displacement_vox"].norm(dim=0) * 3.0)[5:-5, 5:-5, 5:-5].mean())
    assert left < 1.0 if init == "affine" else left > 5.0


def test_a_given_initial_transform_takes_precedence(tmp_path: Path) -> None:
    pair = absolute(tmp_path, written_pair(tmp_path))
    made = LoadPair((16, 16, 16), 4.0, "header")(pair | {"initial": pair["truth"]})
    assert float(made["displacement_vox"].abs().max()) < 1e-3
    assert torch.equal(made["moving_from_fixed"], TRUTH.matrix)


def test_without_truth_its_weight_is_zero(tmp_path: Path) -> None:
    pair = absolute(tmp_path, written_pair(tmp_path))
    del pair["truth"]
    made = LoadPair((16, 16, 16), 4.0, "header")(pair)
    assert float(made["truth_weight"].max()) == 0
    assert "fixed_labels" not in made


def test_masks_are_weights(tmp_path: Path) -> None:
    pair = absolute(tmp_path, written_pair(tmp_path))
    image = read_image(pair["fixed"])
    inside = torch.zeros_like(image.values)
    inside[:, :, 10:20, 8:20, 8:18] = 1
    pair["fixed_mask"] = str(write_image_file(tmp_path / "mask.nii.gz", inside.int(), image.grid))
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
        assert len(calls) == 2  # another grid changes the sample
        os.utime(pair["fixed"], (1, 1))
        pair_dataset([pair], load, cache, tmp_path / "cache")[0]
        assert len(calls) == 3  # so does a modified file


def test_invalid_options_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'affine'"):
        LoadPair((8, 8, 8), 4.0, "afine")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="did you mean 'memory'"):
        pair_dataset([], LoadPair((8, 8), 4.0), "memry")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="set cache_dir"):
        pair_dataset([], LoadPair((8, 8), 4.0), "disk")
    with pytest.raises(InputError, match="does not exist"):
        read_pairs(tmp_path / "none.json")
    with pytest.raises(InputError, match="there are no NIfTI label maps"):
        load_subjects(tmp_path)


def test_without_a_shape_the_grid_covers_the_fixed_image(tmp_path: Path) -> None:
    """As in a registration: its foreground and a margin, whatever the shape of the training."""
    pair = absolute(tmp_path, written_pair(tmp_path))
    made = LoadPair(None, 3.0, "header")(pair)
    image = read_image(pair["fixed"], "fixed")
    expected = working_image(PreparedImage(scaled(image.values), image.grid), 3.0).grid
    assert tuple(made["fixed"].shape[1:]) == expected.shape
    torch.testing.assert_close(made["world_from_index"], expected.world_from_index)
    seen = (made["fixed"][0] > 0.05).nonzero()
    assert seen.amin(0).tolist() == [4, 4, 4]
    assert (torch.tensor(expected.shape) - 1 - seen.amax(0)).tolist() == [4, 4, 4]


def test_the_working_grid_is_upright_andcentred_grid(tmp_path: Path) -> None:
    pair = absolute(tmp_path, written_pair(tmp_path))
    moving = _prepare(read_image(pair["moving"]), None, "moving")
    grid = working_grid(moving, (20, 21, 22), 3.0)
    assert grid.shape == (20, 21, 22)
    assert torch.equal(grid.world_from_index[:3, :3], 3.0 * torch.eye(3).double())
    centre = TRUTH(torch.zeros(1, 3).double())[0]
    assert float((grid.centre_mm - centre).abs().max()) < 4.0
