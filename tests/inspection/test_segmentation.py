"""volumes.json in plain words."""

from __future__ import annotations

from typing import Any

from stn3d.inspection import explain_volumes, is_segmentation

CONTENT: dict[str, Any] = {
    "image": {"name": "head.nii.gz", "shape": [160, 192, 160], "spacing_mm": [1.0, 1.0, 1.25]},
    "quality": {
        "status": "check",
        "reason": "the brain may be cut",
        "suggestion": "Look at it.",
        "measures": {"uncertainty_mean": 0.21, "brain_at_edge_fraction": 0.03, "brain_mask_ml": 9},
    },
    "brain_mask_ml": 1234.5,
    "structures": [
        {"index": 17, "name": "left hippocampus", "voxels": 3510, "volume_ml": 3.5104},
        {"index": 53, "name": "right hippocampus", "voxels": 3600, "volume_ml": 3.6},
        {"index": 16, "name": "brain stem", "voxels": 20000, "volume_ml": 20.0},
    ],
}


def test_a_segmentation() -> None:
    assert is_segmentation(CONTENT)
    lines = explain_volumes(CONTENT)
    assert lines[0] == "segmentation of head.nii.gz, 160 x 192 x 160 voxels of 1 x 1 x 1.25 mm"
    assert lines[1] == "quality: check, look at segmentation.png before you use the result"
    for line in (
        "   reason: the brain may be cut",
        "   suggestion: Look at it.",
        "uncertainty in the brain: 0.21 (0 to 1; lower is better)",
        "brain mask: 1234 ml (brain, ventricles, and fluid up to 6 mm from them)",
        "hippocampus: left 3.51 ml, right 3.60 ml",
        "brain stem: 20.00 ml",
    ):
        assert line in lines


def test_other_types_are_omitted() -> None:
    broken = {"brain_mask_ml": None, "structures": [3, {"name": ["x"], "volume_ml": 10**400}]}
    lines = explain_volumes({**broken, "image": 3, "quality": {"measures": 7, "status": {}}})
    assert lines == ["segmentation of None", "quality: {}, an unknown status"]
