"""BIDS names, as fMRIPrep has them."""

from __future__ import annotations

import pytest

from stn3d.registration.bids import BidsName, BidsNames


def names(fixed: str, moving: str) -> dict[str, str]:
    return BidsNames(BidsName.of(fixed), BidsName.of(moving)).named()


def test_a_subject_onto_a_template() -> None:
    found = names("tpl-MNI152NLin2009cAsym_res-01_T1w.nii.gz", "sub-01_ses-2_run-1_T1w.nii.gz")
    stem = "sub-01_ses-2_run-1_"
    assert found["transform"] == f"{stem}from-T1w_to-MNI152NLin2009cAsym_mode-image_xfm.h5"
    assert found["inverse"] == f"{stem}from-MNI152NLin2009cAsym_to-T1w_mode-image_xfm.h5"
    assert found["moved"] == f"{stem}space-MNI152NLin2009cAsym_T1w.nii.gz"
    assert found["moved_labels"] == f"{stem}space-MNI152NLin2009cAsym_dseg.nii.gz"
    assert found["moved_sidecar"] == f"{stem}space-MNI152NLin2009cAsym_T1w.json"


@pytest.mark.parametrize(
    ("fixed", "moving", "transform"),
    [
        ("sub-01_T1w.nii.gz", "sub-01_task-rest_bold.nii", "sub-01_task-rest_from-bold_to-T1w"),
        ("sub-02_T1w.nii", "sub-01_T1w.nii", "sub-01_from-sub01T1w_to-sub02T1w"),
        ("a.b_c.nii.gz", "mov ing.mha", "from-moving_to-abc"),
        ("t1.nii", "t1.nii", "from-movingt1_to-fixedt1"),
    ],
)
def test_other_pairs(fixed: str, moving: str, transform: str) -> None:
    found = names(fixed, moving)
    assert found["transform"] == f"{transform}_mode-image_xfm.h5"
    assert len(set(found.values())) == len(found)
