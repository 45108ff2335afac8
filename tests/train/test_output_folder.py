"""The output folder of a run: what is removed, and which inputs it may not hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ignite")

from stn3d.errors import InputError
from stn3d.nets.pyramid import PyramidCascade
from stn3d.nets.weights import save_weights
from stn3d.train import prepare_output_dir, run_config
from tests.helpers.image_pairs import written_pair
from tests.helpers.training import CONFIGS, TINY


def test_an_output_folder_is_cleared_without_resume(tmp_path: Path) -> None:
    for name in ("last.ckpt.safetensors", "history.jsonl", ".part-1-a", "mine.txt"):
        (tmp_path / name).write_text("x")
    prepare_output_dir(tmp_path, resume=True)
    assert {f.name for f in tmp_path.iterdir()} == {
        "last.ckpt.safetensors",
        "history.jsonl",
        "mine.txt",
    }
    prepare_output_dir(tmp_path, resume=False)
    assert [f.name for f in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(InputError, match="cannot create the folder"):
        prepare_output_dir(tmp_path / "mine.txt" / "folder")


def test_an_output_folder_may_not_hold_the_data(tmp_path: Path) -> None:
    data, elsewhere = tmp_path / "data" / "images", tmp_path / "out"
    data.mkdir(parents=True)
    (data / "a.nii.gz").write_bytes(b"x")
    (tmp_path / "link").symlink_to(data)
    pair = {"fixed": str(data / "a.nii.gz"), "moving": str(data / "a.nii.gz")}
    inputs: list[Any] = [[pair], str(data)]
    for one in inputs:
        for folder in (data, data.parent, tmp_path / "link"):
            with pytest.raises(InputError, match=r"holds the input .*give another output_dir"):
                prepare_output_dir(folder, resume=False, inputs=[one, ""])
        prepare_output_dir(elsewhere, inputs=[one, ""])
        prepare_output_dir(data / "out", inputs=[one, ""])
    assert (data / "a.nii.gz").exists()


def test_an_output_file_may_not_be_an_input(tmp_path: Path) -> None:
    for name in ("model.safetensors", "last.ckpt.safetensors", "metrics.json"):
        (tmp_path / name).write_bytes(b"x")
        (tmp_path / "link").unlink(missing_ok=True)
        (tmp_path / "link").hardlink_to(tmp_path / name)
        for given in (tmp_path / name, tmp_path / "link"):
            with pytest.raises(InputError, match=f"{name}: it is an input of this command"):
                prepare_output_dir(tmp_path, resume=False, inputs=[str(given)])
        assert (tmp_path / name).exists()
    (tmp_path / "link").unlink()
    (tmp_path / "other.safetensors").write_bytes(b"x")
    prepare_output_dir(tmp_path, inputs=[tmp_path / "other.safetensors"])


def test_training_does_not_replace_what_it_reads(tmp_path: Path) -> None:
    """By the configs: initial weights, label maps, pairs, and the weights of an evaluation."""
    pair = written_pair(tmp_path, labels=True)
    datalist = tmp_path / "lists" / "pairs.json"
    datalist.parent.mkdir()
    datalist.write_text(json.dumps([{k: f"../{v}" for k, v in pair.items()}]))
    out = tmp_path / "out"
    out.mkdir()
    weights = out / "model.safetensors"
    save_weights(weights, PyramidCascade(2), {"spacing_mm": 8.0, "shape": [24, 24]}, {})
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    (out / "metrics.json").symlink_to(weights)
    own = {"dataset_dir": str(datalist), "validation_dir": str(datalist)}
    cases: list[tuple[list[str], dict[str, Any], str]] = [
        (["train.yaml"], {"pretrained": str(weights), "output_dir": str(out)}, "is an input"),
        (["train_affine.yaml"], {"pretrained": str(weights), "output_dir": str(out)}, "an input"),
        (["train.yaml"], {"dataset_dir": str(tmp_path), "output_dir": str(tmp_path)}, "holds the"),
        (["train.yaml", "own_pairs.yaml"], {**own, "output_dir": str(tmp_path)}, "holds the input"),
        (["evaluate.yaml"], {"weights": str(weights), "output_dir": str(out)}, "is an input"),
        (
            ["evaluate.yaml"],
            {"weights": str(weights), "datalist": str(datalist), "output_dir": str(tmp_path)},
            "holds the input",
        ),
    ]
    tiny = {k: v for k, v in TINY.items() if not k.startswith("network_def")}
    for names, changes, message in cases:
        files = [CONFIGS / name for name in names]
        options = tiny if names[0] == "train.yaml" else {"device": "cpu"}
        with pytest.raises(InputError, match=message):
            run_config(files, options | changes)
    assert {f: f.read_bytes() for f in before} == before
    assert {f for f in tmp_path.rglob("*") if f.is_file()} == {*before, out / "metrics.json"}
