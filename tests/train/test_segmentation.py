"""Training of the segmentation network: its config, exact resumption, metrics, schedule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

pytest.importorskip("ignite")

from stn3d.errors import InputError
from stn3d.losses.segmentation import SegmentationLoss
from stn3d.nets.segmentation import SegmentationNetwork
from stn3d.nets.weights import load_weights
from stn3d.structures import STRUCTURES
from stn3d.train import SegmentationMetrics, read_history, run_config, warmup_constant
from tests.helpers.paths import ROOT
from tests.helpers.training import require_equal

CONFIG = ROOT / "configs" / "train_segmentation.yaml"
TINY: dict[str, Any] = {
    "shape": [16, 16, 16],
    "spacing_mm": 8.0,
    "held_out": 1,
    "num_workers": 0,
    "val_samples": 2,
    "epochs": 2,
    "epoch_length": 3,
    "save_interval": 2,
    "log_interval": 1,
    "warmup": 2,
    "network_def.channels": [4, 6],
    "network_def.voxel_channels": 4,
    "network_def.dropout": 0.2,
    "amp": False,
    "device": "cpu",
}

pytestmark = pytest.mark.filterwarnings("ignore:parsing config_file:UserWarning")


@pytest.fixture(scope="module")
def label_maps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two heads of boxes with FreeSurfer's ids."""
    folder = tmp_path_factory.mktemp("maps")
    for number in range(2):
        labels = np.zeros((20, 24, 22), np.int16)
        labels[2:18, 2:22, 2:20] = 511
        labels[4:10, 4:20, 4:18], labels[10:16, 4:20, 4:18] = 2, 41
        labels[5:8, 8 + number : 12, 6:10], labels[12:15, 8:12, 6:10] = 17, 53
        labels[9:11, 8:12, 10:14] = 14
        affine = np.diag([6.0, 6.0, 6.0, 1.0])
        nib.save(nib.Nifti1Image(labels, affine), folder / f"map{number}.nii.gz")
    return folder


def train(maps: Path, out: Path, **changes: Any) -> Path:
    run_config([CONFIG], TINY | {"dataset_dir": str(maps), "output_dir": str(out)} | changes)
    return out


def test_a_run_that_is_resumed_equals_one_that_is_not(label_maps: Path, tmp_path: Path) -> None:
    whole = train(label_maps, tmp_path / "whole")
    part = train(label_maps, tmp_path / "parts", epochs=1)
    assert read_history(part / "history.jsonl")[-1]["iteration"] == 3
    require_equal(train(label_maps, part), whole)
    trained = load_weights(whole / "model.safetensors", "segmentation")
    assert isinstance(trained.network, SegmentationNetwork)
    assert trained.options["classes"] == len(STRUCTURES)
    assert trained.record["data"] == label_maps.name
    assert trained.record["validation"].keys() == {"val_loss", "val_dice"}
    assert 0 <= trained.record["validation"]["val_dice"] < 1


def test_label_maps_are_required(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="label maps"):
        run_config([CONFIG], TINY | {"dataset_dir": "", "output_dir": str(tmp_path / "out")})


def test_metrics_of_a_segmentation() -> None:
    classes = torch.zeros(1, 1, 4, 4, 4, dtype=torch.uint8)
    classes[:, :, :2], classes[:, :, 2, :2], classes[:, :, 3] = 4, 5, 1
    logits = torch.zeros(1, len(STRUCTURES), 4, 4, 4).scatter_(1, classes.long(), 9.0)
    logits[:, :, 2] = 0
    logits[:, 5, 2] = 9.0  # twice as large as it is
    found = SegmentationMetrics(SegmentationLoss())(
        {"pred": (logits,), "label": {"classes": classes}}
    )
    assert found["dice"] == [pytest.approx((1 + 2 / 3) / 2)]  # outside the brain nothing counts
    assert found["loss"][0] > 0


def test_a_constant_rate_decays_when_asked_to() -> None:
    constant, decaying = warmup_constant(4), warmup_constant(4, 10, 8, 0.1)
    assert [constant(i) for i in (0, 1, 3, 4, 10**6)] == [0.25, 0.5, 1, 1, 1]
    assert [decaying(i) for i in (0, 9, 10)] == [0.25, 1, 1]
    assert decaying(14) == pytest.approx(0.55)
    assert [decaying(i) for i in (18, 100)] == [pytest.approx(0.1)] * 2
