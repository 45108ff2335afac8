"""References and page of the study of segmentations."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from scripts.bench.paths import SHARED
from scripts.bench.store import Results, write
from scripts.bench.studies.segmentation import references, report
from stn3d.structures import STRUCTURES

LABELS = SHARED / "data" / "brains" / "labels.csv"


@pytest.mark.skipif(not LABELS.exists(), reason="needs the project's shared data")
def test_manual_labels_have_the_structures_of_their_side() -> None:
    table = references.manual_classes()
    named = {
        i: "unknown" if c == references.UNKNOWN else STRUCTURES[c].full_name
        for i, c in enumerate(table.tolist())
    }
    assert named[0] == "background"
    assert (named[48], named[47]) == ("left hippocampus", "right hippocampus")
    assert (named[50], named[52]) == ("left lateral ventricle",) * 2
    assert (named[100], named[101]) == ("right cerebral cortex", "left cerebral cortex")
    assert (named[35], named[4], named[61]) == (
        "brain stem",
        "third ventricle",
        "right ventral diencephalon",
    )
    assert {named[i] for i in (63, 69, 71, 75)} == {"unknown"}  # vessel, chiasm, vermis


def test_voxels_without_a_counterpart_are_excluded() -> None:
    reference = torch.tensor([4, 4, 5, 5, 0, references.UNKNOWN, 3]).reshape(1, 1, 7).byte()
    found = torch.tensor([4, 4, 5, 4, 0, 4, 5]).reshape(1, 1, 7).byte()
    dice = references.structure_dice(found, reference)
    assert dice == {
        STRUCTURES[4].full_name: pytest.approx(4 / 5),
        STRUCTURES[5].full_name: pytest.approx(2 / 4),
    }


def test_the_page_gives_tuned_and_other_images_apart(tmp_path: Path) -> None:
    rows = [
        {"image": "brains/1000_t1", "dice": 0.5, "structures": {"left caudate": 0.4}, "seconds": 1},
        {
            "image": "brains/1002_t1",
            "dice": 0.7,
            "structures": {"right caudate": 0.8},
            "seconds": 3,
        },
        {"image": "ct_mr/scct", "brain_dice": 0.9, "seconds": 2},
    ]
    head = {"machine": "m", "threads": 1, "iterations": 7, "versions": {}, "command": "x"}
    write(tmp_path / "results.json", Results("segmentation", head, rows))
    report(tmp_path)
    page = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "| brains, tuned | 1 | 0.500 |  | 1.000 |" in page
    assert "| brains, reported | 1 | 0.700 |  | 3.000 |" in page
    assert "| templates | 1 |  | 0.900 | 2.000 |" in page
    assert "| caudate | 0.600 |" in page
