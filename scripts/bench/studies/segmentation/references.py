"""What segmentations are compared with: merged manual labels, masks, other contrasts."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from fnmatch import fnmatch

import torch
from torch import Tensor

from scripts.bench.paths import SHARED, existing, image_path
from stn3d import Grid, metrics
from stn3d.io import read_labels
from stn3d.structures import STRUCTURES, brain_classes, classes_of_ids

TUNED = ("brains/1000", "brains/1001", "brains/1006", "brains/1013", "aseg_pair")
UNKNOWN = 255  # manual labels without a counterpart
_FIRST_CORTEX = 100  # ids of the MICCAI labels from here on are cortex, the even ones right
_MANUAL = {
    "Accumbens Area": "accumbens",
    "Amygdala": "amygdala",
    "Caudate": "caudate",
    "Cerebellum Exterior": "cerebellar cortex",
    "Cerebellum White Matter": "cerebellar white matter",
    "Cerebral White Matter": "cerebral white matter",
    "Hippocampus": "hippocampus",
    "Inf Lat Vent": "lateral ventricle",
    "Lateral Ventricle": "lateral ventricle",
    "Pallidum": "pallidum",
    "Putamen": "putamen",
    "Thalamus Proper": "thalamus",
    "Ventral DC": "ventral diencephalon",
    "Brain Stem": "brain stem",
    "3rd Ventricle": "third ventricle",
    "4th Ventricle": "fourth ventricle",
}
SCORED = brain_classes()


def images(pattern: str) -> list[str]:
    """Names of the images below the shared data, such as ``brains/1000_t1``."""
    brains = sorted((SHARED / "data" / "brains").glob("*_t1.nii.gz"))
    names = [f"brains/{path.name.removesuffix('.nii.gz')}" for path in brains]
    names += ["aseg_pair/a_t1", "aseg_pair/b_t1"]
    names += [f"contrasts/p07_{one}" for one in ("t1", "t1post", "t2", "flair")]
    names += [f"ct_mr/{one}" for one in _TEMPLATES]
    names += [f"head_natives/inputs/{one}" for one in ("FLAIR_MICCAI2017", "T1w2mm", "T2w", "fmri")]
    names += [*OTHER_HEADS, *OTHER_BODIES]
    return [name for name in names if any(fnmatch(name, p) for p in pattern.split(","))]


_WEEKS = ["21_not", "23_not", "25_not", "25_", "27_", "29_", "31_", "33_"]
OTHER_HEADS = (
    *(
        f"ms_longitudinal/patient01/study{visit}_{contrast}"
        for visit in (1, 2)
        for contrast in ("T1W", "T2W", "FLAIR")
    ),
    *(f"pet_mr_templates/{one}" for one in ("T1", "T2", "PD", "EPI", "PET", "SPECT", "Transm")),
    *(f"fetal_atlas/fetal_SB_atlas_GA{one}operated/srr" for one in _WEEKS),
)
OTHER_BODIES = (
    *("abdomen/ct", "abdomen/mr", "lung_mr/0004", "lung_mr/0006", "lung_mr/0007"),
    *("ct_body/chest_ct", "ct_body/abdomen_ct", "prostate/case0_mr", "cord/t1/t1w", "cord/t2/t2"),
    *("liver_mr_breathing/dataset18/exhMaster", "liver_mr_breathing/dataset23/exhMaster"),
)
WITHOUT_REFERENCE = (*OTHER_HEADS, *OTHER_BODIES)
_TEMPLATES = (
    *("mni152_t1_2mm", "single_subj_T1", "avg152T2", "avg152PD"),
    *("scct", "scct_stripped"),
)


def manual_classes() -> Tensor:
    """``(256,)`` uint8, the class of each manual label id; `UNKNOWN` without a counterpart."""
    index = {one.full_name: i for i, one in enumerate(STRUCTURES)}
    table = torch.full((256,), UNKNOWN, dtype=torch.uint8)
    table[0] = 0
    with existing(SHARED / "data" / "brains" / "labels.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            number, name = int(row["Label Number"]), row["Label Name"].strip()
            side, _, rest = name.partition(" ")
            whole = side not in ("Left", "Right")
            known = _MANUAL.get(name if whole else rest)
            if number >= _FIRST_CORTEX:
                known = "cerebral cortex"
            if known is not None:
                table[number] = index[known if whole else f"{side.lower()} {known}"]
    return table


def reference_classes(name: str) -> Tensor:
    """``(1, 1, *shape)`` uint8 classes of an image with labels."""
    labels = read_labels(image_path(name.removesuffix("_t1") + "_labels")).values.long()
    table = manual_classes() if name.startswith("brains/") else classes_of_ids(256)
    return table[labels]


def structure_dice(found: Tensor, reference: Tensor) -> dict[str, float]:
    """The Dice of each structure that the reference contains.

    Args:
        found: ``(1, 1, *shape)`` classes.
        reference: ``(1, 1, *shape)`` classes; `UNKNOWN` voxels are excluded.
    """
    unknown = reference == UNKNOWN
    a, b = (classes.masked_fill(unknown, 0) for classes in (reference, found))
    present: Sequence[int] = sorted(set(SCORED) & set(a.unique().tolist()))
    return {STRUCTURES[i].full_name: v for i, v in metrics.dice(a, b, present).items()}


def mni_brain_dice(brain: Tensor, grid: Grid) -> float:
    """The Dice of a mask ``(1, 1, *shape)`` with the brain mask of MNI152 on its grid."""
    mask = read_labels(image_path("ct_mr/mni152_brainmask_2mm"))
    assert mask.grid.shape == grid.shape
    return metrics.dice((mask.values > 0).byte(), brain.byte(), [1])[1]
