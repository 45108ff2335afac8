"""Weight files: saving, loading, errors, and the bundled weights."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import save_file

import stn3d
from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.memory import limit as memory_limit
from stn3d.nets.cascade import Cascade
from stn3d.nets.pyramid import PyramidCascade
from stn3d.nets.weights import (
    Bundled,
    bundled_network,
    bundled_weights,
    load_weights,
    save_weights,
)
from stn3d.preprocessing.intensity import scaled
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.transforms import Rigid
from stn3d.warp import resample_image
from tests.helpers.networks import SMALL
from tests.helpers.synthetic import Anatomy


def network(seed: int = 0) -> PyramidCascade:
    torch.manual_seed(seed)
    made = PyramidCascade(**SMALL)
    for parameter in made.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return made.eval()


def test_weights_and_metadata_are_restored(tmp_path: Path) -> None:
    path, made = tmp_path / "model.safetensors", network()
    preprocessing, record = {"spacing_mm": 2.0}, {"seed": 3, "data": "shapes"}
    save_weights(path, made, preprocessing, record)
    read = load_weights(path)
    assert (read.preprocessing, read.record) == (preprocessing, record)
    assert read.options == made.options
    pair = torch.rand(1, 2, 12, 9, 10)
    assert torch.equal(read.network(pair), made(pair))
    assert path.stat().st_mode & 0o044  # readable by others
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


def test_weights_in_half_precision_take_half_the_space(tmp_path: Path) -> None:
    made = network()
    for half in (False, True):
        save_weights(tmp_path / f"{half}", made, {"spacing_mm": 2.0}, {}, half)
    read, exact = load_weights(tmp_path / "True").network, made.state_dict()
    assert all(value.dtype == torch.float32 for value in read.state_dict().values())
    for name, value in read.state_dict().items():
        assert torch.equal(value, exact[name].half().float())
    header = 8 + int.from_bytes((tmp_path / "True").read_bytes()[:8], "little")
    whole, small = ((tmp_path / name).stat().st_size for name in ("False", "True"))
    assert small - header <= (whole - header) / 2 + 1024


def test_a_cascade_of_spatial_transformers_is_saved_and_loaded(tmp_path: Path) -> None:
    stage = {"head": "affine", "spatial_dims": 2, "in_channels": 1, "channels": [4, 6]}
    made = Cascade([stage, {**stage, "head": "velocity"}], [2, 1])
    path = tmp_path / "model.safetensors"
    save_weights(path, made, {"spacing_mm": 1.0}, {})
    read = load_weights(path)
    assert read.input_format == (2, 1)
    assert isinstance(read.network, Cascade)
    assert read.network.composed.repeats == [2, 1]


def other_format(path: Path) -> None:
    save_file({"a": torch.zeros(3)}, path)


def unknown_architecture(path: Path) -> None:
    metadata = {
        "architecture": "Oracle",
        "options": {},
        "preprocessing": {"spacing_mm": 2},
        "record": {},
    }
    save_file(
        {"a": torch.zeros(3)}, path, {"format": "stn3d weights 2", "stn3d": json.dumps(metadata)}
    )


def other_tensors(path: Path) -> None:
    metadata = {
        "architecture": "PyramidCascade",
        "options": network().options,
        "preprocessing": {"spacing_mm": 2},
        "record": {},
    }
    save_file(
        {"a": torch.zeros(3)}, path, {"format": "stn3d weights 2", "stn3d": json.dumps(metadata)}
    )


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.write_bytes(b"nothing of the kind" * 10), "cannot be read"),
        (other_format, "is not a weight file"),
        (unknown_architecture, "Oracle"),
        (other_tensors, "do not match"),
    ],
)
def test_an_invalid_weight_file_is_an_error(write: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write(path)
    with pytest.raises(InputError, match=message):
        load_weights(path)


def _header(**changes: Any) -> dict[str, Any]:
    options = network().options
    header = {
        "architecture": "PyramidCascade",
        "options": options,
        "preprocessing": {"spacing_mm": 2},
        "record": {},
    }
    return {**header, **changes}


@pytest.mark.parametrize(
    "header",
    [
        [],
        "[" * 20_000,
        None,
        _header(architecture=["PyramidCascade"]),
        _header(options=[]),
        _header(options={"spatial_dims": 7}),
        _header(options={**network().options, "channels": "many"}),
        _header(options={**network().options, "channels": [2**40, 2**40]}),  # 2^80 weights
        _header(options={**network().options, "channels": [4096, 4095]}),
        _header(options={**network().options, "channels": [1] * 10**5}),
        _header(options={**network().options, "unknown": 1}),
        _header(preprocessing={}),
        _header(preprocessing={"spacing_mm": "wide"}),
        _header(preprocessing={"spacing_mm": float("nan")}),
        _header(record=3),
        _header(preprocessing={"spacing_mm": 2, "shape": "wide"}),
        _header(preprocessing={"spacing_mm": 2, "shape": []}),
        {"architecture": "PyramidCascade"},
    ],
    ids=range(18),
)
def test_a_damaged_header_is_one_sentence(header: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    text = header if isinstance(header, str) else json.dumps(header)
    save_file(network().state_dict(), path, {"format": "stn3d weights 2", "stn3d": text})
    with pytest.raises(
        InputError, match=r"(is damaged|do not match their architecture).*file"
    ) as e:
        load_weights(path)
    assert len(str(e.value)) < 600


def test_weights_of_another_role_or_of_nan_are_refused(tmp_path: Path) -> None:
    path, made = tmp_path / "model.safetensors", network()
    save_weights(path, made, {"spacing_mm": 1.0}, {})
    assert load_weights(path, "deformable").options == made.options
    with pytest.raises(InputError, match="holds a PyramidCascade, which is no affine network"):
        load_weights(path, "affine")
    with pytest.raises(InputError, match="is no deformable network"):
        load_weights(bundled_weights("affine"), "deformable")
    with torch.no_grad():
        next(made.parameters()).fill_(torch.nan)
    save_weights(path, made, {"spacing_mm": 1.0}, {})
    with pytest.raises(InputError, match="hold NaN or Inf"):
        load_weights(path)


SHIPPED = sorted(bundled_weights("affine").parent.glob("*.safetensors"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_bundled_weights_load_and_record_their_training(path: Path) -> None:
    assert path.stem in get_args(Bundled)
    assert path.stat().st_size <= 8e6
    trained = load_weights(path)
    assert trained.record["data"] == "label_maps"
    assert {"seed", "iterations", "versions", "validation"} <= trained.record.keys()
    assert trained.preprocessing["spacing_mm"] in (2.0, 4.0)
    assert trained.input_format == (3, 1)


def test_a_bundled_network_is_read_once_and_copied_to_another_device() -> None:
    trained = bundled_network("segmentation")
    assert bundled_network("segmentation") is trained
    assert trained.to(torch.device("cpu")) is trained
    elsewhere = trained.to(torch.device("meta"))
    assert {one.device.type for one in elsewhere.network.parameters()} == {"meta"}
    assert {one.device.type for one in trained.network.parameters()} == {"cpu"}


@pytest.fixture(scope="module")
def template() -> tuple[torch.Tensor, Grid]:
    """The MNI template at 4 mm; it is not in the training data."""
    datasets = pytest.importorskip("nilearn.datasets")
    image = datasets.load_mni152_template(resolution=2)
    grid = Grid(image.shape, torch.from_numpy(image.affine.copy()))
    coarse = grid.resampled(4.0)
    values = torch.from_numpy(image.get_fdata().astype("float32"))[None, None]
    return resample_image(scaled(values), grid, coarse), coarse


@pytest.mark.parametrize("axis", [(1.0, 0.0, 0.0), (0.0, 1.0, 1.0), (-1.0, 1.0, 0.5)])
def test_a_head_rotated_by_55_degrees_is_registered(
    axis: tuple[float, float, float], template: tuple[torch.Tensor, Grid]
) -> None:
    image, grid = template
    direction = torch.tensor(axis).double()
    turn = math.radians(55) * direction / direction.norm()
    truth = Rigid(torch.cat([turn, torch.tensor([30.0, -20, 10]).double()]), grid.centre_mm)
    moving = (image, Grid(grid.shape, truth.matrix @ grid.world_from_index))
    found = stn3d.register((image, grid), moving, kind="rigid", estimator="network")
    points = grid.points_mm()[image[0, 0] > 0.3]
    error_mm = (found.transform(points) - truth(points)).norm(dim=-1).mean()
    assert found.metrics["initial_candidates"][0]["name"] == "network"
    assert error_mm < 0.5
    assert abs(torch.linalg.det(found.transform.matrix) - 1) < 1e-6  # type: ignore[attr-defined]


def test_auto_does_not_ask_the_network_if_simple_candidates_are_good() -> None:
    """With ``auto`` the network is not used if a simple candidate is good."""
    anatomy = Anatomy(torch.zeros(3).double())
    grid = Grid.of_spacing((32, 26, 22))
    shift = torch.eye(4, dtype=torch.float64)
    shift[:3, 3] = torch.tensor([-16.0, -13, -11])
    grid = Grid(grid.shape, shift)
    image = (anatomy(grid.points_mm())[None, None], grid)
    found = stn3d.register(image, image, kind="rigid")
    assert {c["name"] for c in found.metrics["initial_candidates"]} == {
        "header",
        "centres",
        "centre_of_mass",
        "moments",
    }


@pytest.mark.parametrize("role", ["affine", "deformable"])
def test_networks_are_for_images_of_the_size_of_those_of_the_training(
    role: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_limit, "free_gb", lambda: 8.0)
    path = bundled_weights("affine")
    if role == "deformable":
        path = tmp_path / "model.safetensors"
        save_weights(path, network(), {"spacing_mm": 2.0, "shape": [64, 64, 64]}, {})
    trained = load_weights(path)

    def mismatch(spacing_mm: float) -> str | None:
        grid = Grid.of_spacing((100, 90, 100), spacing_mm)
        image = PreparedImage(torch.zeros(1, 1, *grid.shape), grid)
        return trained.mismatch(Pair(image, image))

    assert mismatch(2.0) is None  # a head
    assert "measures 15 mm" in str(mismatch(0.15))  # a mouse
    assert "measures 3e+05 mm" in str(mismatch(3000))  # um written as mm: tebibytes are needed
    assert "GB are available" in str(mismatch(10.0 if role == "deformable" else 17.0))
