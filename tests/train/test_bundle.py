"""configs/ is a MONAI bundle: MONAI's checks pass and every config runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import pytest
import torch

from tests.helpers.paths import ROOT

pytest.importorskip("ignite")

from monai.bundle import ConfigParser, ConfigWorkflow, verify_metadata, verify_net_in_out

import stn3d
from scripts.model_zoo import assemble
from stn3d.cli import main
from stn3d.errors import InputError
from stn3d.io import read_image, read_transform
from stn3d.nets.pyramid import PyramidCascade
from stn3d.nets.weights import bundled_weights, load_weights, save_weights
from stn3d.train import RegistrationInferer, bundle_weights, read_history, run_config
from tests.helpers.image_pairs import absolute, written_pair
from tests.helpers.training import TINY

CONFIGS = ROOT / "configs"
SCHEMA = Path(__file__).parent / "meta_schema.json"
TINY_NETWORK = {
    "channels": [4, 8],
    "hidden": [4, 8],
    "radii": [1, 1],
    "repeats": [1, 1],
    "steps": [1, 1],
}

# MONAI warns on every run that configs are code.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:parsing config_file:UserWarning"),
]


@pytest.mark.filterwarnings("ignore:No hash value:UserWarning")
def test_the_metadata_follow_the_schema(tmp_path: Path) -> None:
    shutil.copy(SCHEMA, tmp_path / "schema.json")  # the path to which MONAI downloads it
    verify_metadata(meta_file=str(CONFIGS / "metadata.json"), filepath=tmp_path / "schema.json")
    metadata = json.loads((CONFIGS / "metadata.json").read_text(encoding="utf-8"))
    del metadata["network_data_format"]["outputs"]["pred"]["num_channels"]
    (tmp_path / "wrong.json").write_text(json.dumps(metadata))
    with pytest.raises(ValueError, match="num_channels"):
        verify_metadata(meta_file=str(tmp_path / "wrong.json"), filepath=tmp_path / "schema.json")


def test_the_metadata_name_the_pinned_versions() -> None:
    metadata = json.loads((CONFIGS / "metadata.json").read_text(encoding="utf-8"))
    pins = dict(
        line.split(";")[0].strip().split("==")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    )
    assert metadata["monai_version"] == pins["monai"]
    assert metadata["pytorch_version"] == pins["torch"]
    assert metadata["numpy_version"] == pins["numpy"]
    for name, version in metadata["required_packages_version"].items():
        if name != "stn3d":
            assert version == pins[name], name


@pytest.mark.parametrize("config", ["train.yaml", "inference.yaml"])
def test_inputs_and_outputs_agree_with_the_metadata(
    tmp_path: Path, weights: Path, config: str
) -> None:
    options: dict[str, Any] = {
        "net_id": "network_def",
        "config_file": str(CONFIGS / config),
        **({"weights": str(weights)} if config == "inference.yaml" else {}),
        "device": "cpu",
        "any": 21,  # the shape need not be a multiple of anything
    }
    verify_net_in_out(meta_file=str(CONFIGS / "metadata.json"), **options)
    metadata = json.loads((CONFIGS / "metadata.json").read_text(encoding="utf-8"))
    metadata["network_data_format"]["outputs"]["pred"]["num_channels"] = 2
    wrong = tmp_path / "metadata.json"
    wrong.write_text(json.dumps(metadata), encoding="utf-8")
    with pytest.raises(ValueError, match="channel"):
        verify_net_in_out(meta_file=str(wrong), **options)


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        (["train.yaml"], "train"),
        (["train_affine.yaml"], "train"),
        (["train_segmentation.yaml"], "train"),
        (["train.yaml", "own_pairs.yaml"], "train"),
        (["evaluate.yaml"], "infer"),
        (["inference.yaml"], "infer"),
    ],
)
def test_configs_have_the_keys_of_the_model_zoo(
    files: list[str], kind: str, tmp_path: Path
) -> None:
    """Every property that MONAI requires exists under its id."""
    from monai.bundle.properties import InferProperties, TrainProperties

    parser = ConfigParser()
    parser.read_config([str(CONFIGS / name) for name in files])
    properties: Any = TrainProperties if kind == "train" else InferProperties
    missing = [p["id"] for p in properties.values() if p["required"] and p["id"] not in parser]
    assert missing == []


def test_the_monai_command_trains(tmp_path: Path) -> None:
    """The command, in a separate process."""
    changes = {**TINY, "output_dir": str(tmp_path / "out"), "epochs": 1, "epoch_length": 2}
    changes["log_interval"] = 1
    words = [w for k, v in changes.items() for w in (f"--{k.replace('.', '#')}", f"{v}")]
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file"]
    done = subprocess.run(
        [*command, str(CONFIGS / "train.yaml"), *words],
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(read_history(tmp_path / "out" / "history.jsonl")) == 3
    assert load_weights(tmp_path / "out" / "model.safetensors").record["iterations"] == 2


def test_the_workflow_can_be_controlled_by_its_properties(tmp_path: Path) -> None:
    workflow = ConfigWorkflow(
        config_file=str(CONFIGS / "train.yaml"),
        meta_file=str(CONFIGS / "metadata.json"),
        logging_file=str(CONFIGS / "logging.conf"),
        workflow_type="train",
        output_dir=str(tmp_path),
        **{key.replace(".", "#"): value for key, value in TINY.items()},
    )
    workflow.initialize()
    assert workflow.check_properties() == []
    workflow.max_epochs = 1
    workflow.initialize()
    workflow.run()
    assert workflow.trainer.state.iteration == TINY["epoch_length"]


def test_the_affine_network_trains(tmp_path: Path) -> None:
    changes = {k: v for k, v in TINY.items() if not k.startswith("network_def")}
    changes |= {"epochs": 1, "epoch_length": 2, "network_def.channels": [4, 8, 8]}
    run_config([CONFIGS / "train_affine.yaml"], changes | {"output_dir": str(tmp_path)})
    metrics = load_weights(tmp_path / "model.safetensors").record["validation"]
    assert metrics.keys() == {"val_loss", "val_coordinate_error_mm", "val_tissue_dice"}
    assert metrics["val_coordinate_error_mm"] > 0


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A small untrained 3D network: it gives the identity."""
    path = tmp_path / "model.safetensors"
    network = PyramidCascade(3, **TINY_NETWORK)
    save_weights(path, network, {"spacing_mm": 4.0, "shape": [16, 16, 16]}, {})
    return path


def test_evaluation_of_synthetic_pairs(weights: Path, tmp_path: Path) -> None:
    changes = {"weights": str(weights), "num_samples": 2, "device": "cpu"}
    run_config([CONFIGS / "evaluate.yaml"], changes | {"output_dir": str(tmp_path / "eval")})
    figures = json.loads((tmp_path / "eval" / "metrics.json").read_text(encoding="utf-8"))
    assert figures["truth_error_mm"] > 0.5
    assert 0 < figures["dice"] < 1
    assert figures["folding_pct"] == 0


def test_evaluation_of_image_pairs(weights: Path, tmp_path: Path) -> None:
    pair = written_pair(tmp_path, labels=True)
    (tmp_path / "pairs.json").write_text(json.dumps({"validation": [pair]}))
    changes = {"weights": str(weights), "datalist": str(tmp_path / "pairs.json"), "device": "cpu"}
    out = tmp_path / "eval"
    run_config([CONFIGS / "evaluate.yaml"], changes | {"output_dir": str(out), "init": "header"})
    before = json.loads((out / "metrics.json").read_text(encoding="utf-8"))["dice"]
    run_config([CONFIGS / "evaluate.yaml"], changes | {"output_dir": str(out), "init": "affine"})
    after = json.loads((out / "metrics.json").read_text(encoding="utf-8"))["dice"]
    assert after > before + 0.05
    assert json.loads((out / "metrics.json").read_text())["landmark_error_mm"] is None


def test_inference_is_the_registration_of_the_command_line(weights: Path, tmp_path: Path) -> None:
    """The same transform and metrics; pairs whose files are named alike have their own folders."""
    pairs = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        pairs.append(absolute(tmp_path / name, written_pair(tmp_path / name, labels=True)))
    for file in ("moving.nii.gz", "moving_labels.nii.gz"):
        crop(tmp_path / "two" / file)
    for pair in pairs:
        del pair["truth"]
    (tmp_path / "pairs.json").write_text(json.dumps({"testing": pairs}))
    out = tmp_path / "out"
    changes = {"weights": str(weights), "dataset_dir": str(tmp_path / "pairs.json")}
    changes |= {
        "output_dir": str(out),
        "device": "cpu",
        "init": "header",
        "settings.preset": "fast",
    }
    run_config([CONFIGS / "inference.yaml"], changes)
    names = ["one_moving_to_one_fixed", "two_moving_to_two_fixed"]
    assert sorted(folder.name for folder in out.iterdir()) == names
    pair, (first, second) = pairs[0], (out / name for name in names)
    options = ["--estimator", "network", "--init", "header", "--preset", "fast", "--device", "cpu"]
    options += [f"--{role}-labels={pair[f'{role}_labels']}" for role in ("fixed", "moving")]
    options += ["--deformable-weights", str(weights), "-o", str(tmp_path / "command")]
    assert main(["register", pair["fixed"], pair["moving"], *options]) in (0, 3)
    points = read_image(pair["fixed"]).grid.points_mm()
    folders = first, tmp_path / "command", second
    by_bundle, by_command, other = (
        read_transform(folder / "transform.h5")(points) for folder in folders
    )
    torch.testing.assert_close(by_bundle, by_command, rtol=0, atol=1e-9)
    assert float((by_bundle - other).norm(dim=-1).max()) > 0.01  # of the other pair
    ours, theirs = (
        json.loads((folder / "metrics.json").read_text(encoding="utf-8")) for folder in folders[:2]
    )
    assert ours["after"] == theirs["after"]
    assert ours["after"]["dice"] > 0.9
    assert "network" in ours["timings_s"]
    assert read_image(first / "moved.nii.gz").grid.shape == (30, 28, 26)


def crop(path: Path) -> None:
    """An image without some of its slices."""
    image = nib.load(path)
    nib.save(image.slicer[4:-4], path)


def test_inference_uses_the_network_of_the_config(weights: Path, tmp_path: Path) -> None:
    """Not the one of the weight file: the inferer is given the evaluator's network."""
    pair = absolute(tmp_path, written_pair(tmp_path))
    trained = load_weights(weights)
    network = PyramidCascade(3, **TINY_NETWORK).eval()
    seen: list[Any] = []
    network.register_forward_hook(lambda *_: seen.append(1))
    inferer = RegistrationInferer(trained, "header", {"preset": "fast", "metric": "lncc"})
    with torch.no_grad():
        (found,) = inferer([pair], network)
    assert seen == [1]
    assert found.metrics["settings"]["estimator"] == "network"


def test_monai_runs_the_bundle_from_the_root_of_the_repository(
    weights: Path, tmp_path: Path
) -> None:
    pair = absolute(tmp_path, written_pair(tmp_path))
    (tmp_path / "pairs.json").write_text(json.dumps([pair]))
    words = {
        "weights": weights,
        "dataset_dir": tmp_path / "pairs.json",
        "output_dir": tmp_path / "out",
        "init": "header",
    }
    command = [sys.executable, "-m", "monai.bundle", "run"]
    command += ["--config_file", "configs/inference.yaml", "--init", "header"]
    done = subprocess.run(
        [*command, *(w for k, v in words.items() for w in (f"--{k}", str(v)))],
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    names = {file.name for file in (tmp_path / "out" / "moving_to_fixed").iterdir()}
    report = {"report.html", "report.png"}
    assert names == {"moved.nii.gz", "transform.h5", "inverse.h5", "metrics.json"} | report


@pytest.mark.parametrize("config", ["inference.yaml", "evaluate.yaml"])
def test_a_bundle_without_weights_says_so_before_any_work(config: str, tmp_path: Path) -> None:
    pair = absolute(tmp_path, written_pair(tmp_path))
    (tmp_path / "pairs.json").write_text(json.dumps([pair]))
    changes = {"output_dir": str(tmp_path / "out"), "bundle_root": str(tmp_path)}
    changes["dataset_dir" if config == "inference.yaml" else "datalist"] = str(
        tmp_path / "pairs.json"
    )
    with pytest.raises(InputError, match=r"no trained network at .*model.safetensors; set weights"):
        run_config([CONFIGS / config], changes)
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore:No hash value:UserWarning")
def test_the_bundle_of_the_model_zoo(weights: Path, tmp_path: Path) -> None:
    """Assembled, it has the files that the zoo asks for, and its own weights are the default."""
    folder = tmp_path / "brain_mri_deformable_registration"
    assembled = {name.as_posix() for name in assemble(folder, weights)}
    needed = {"LICENSE", "configs/metadata.json", "configs/inference.yaml", "configs/train.yaml"}
    assert assembled >= needed | {"docs/README.md", "docs/data_license.txt"}
    assert all((folder / name).stat().st_size <= 25 * 2**20 for name in assembled)
    headings = (folder / "docs" / "README.md").read_text(encoding="utf-8")
    for heading in ("Model Description", "Data", "Performance", "System Configuration"):
        assert f"## **{heading}**" in headings
    shutil.copy(SCHEMA, tmp_path / "schema.json")
    metadata = folder / "configs" / "metadata.json"
    verify_metadata(meta_file=str(metadata), filepath=tmp_path / "schema.json")
    content = json.loads(metadata.read_text(encoding="utf-8"))
    assert content["version"] in content["changelog"]
    assert content["version"] == stn3d.__version__
    assert bundle_weights(folder) == str(folder / "models" / "model.safetensors")
    assert load_weights(bundle_weights(folder), "deformable").preprocessing["spacing_mm"] == 4.0
    with pytest.raises(InputError, match="is not empty; give a new folder"):
        assemble(folder, weights)
    with pytest.raises(InputError, match="which is no deformable network"):
        assemble(tmp_path / "other", bundled_weights("affine"))


def test_fine_tuning_on_image_pairs(weights: Path, tmp_path: Path) -> None:
    pair = written_pair(tmp_path, labels=True)
    back = {
        a.replace("fixed", "?").replace("moving", "fixed").replace("?", "moving"): b
        for a, b in pair.items()
        if a != "truth"
    }
    there = {key: file for key, file in pair.items() if key != "truth"}
    (tmp_path / "pairs.json").write_text(json.dumps({"training": [there, back]}))
    changes = {f"network_def.{key}": value for key, value in TINY_NETWORK.items()}
    changes |= {"dataset_dir": str(tmp_path / "pairs.json"), "pretrained": str(weights)}
    changes |= {"shape": [16, 16, 16], "spacing_mm": 4.0, "held_out": 1, "init": "header"}
    changes |= {
        "epochs": 1,
        "epoch_length": 8,
        "num_workers": 0,
        "learning_rate": 0.003,
        "warmup": 0,
        "log_interval": 1,
        "device": "cpu",
    }
    out = tmp_path / "out"
    files = [CONFIGS / "train.yaml", CONFIGS / "own_pairs.yaml"]
    run_config(files, changes | {"output_dir": str(out)})
    lines = [line for line in read_history(out / "history.jsonl") if "dice" in line]
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert "lncc" in lines[0]
