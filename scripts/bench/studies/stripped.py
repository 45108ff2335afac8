"""Skull-stripped brains and whole heads of any contrast, either of them fixed.

    python -m scripts.bench stripped run --work DIR [--tools "stn3d --preset fast"]

Images are averaged to about 2 mm; CT is in HU. A whole head is stripped by its brain mask. The Dice
is that of the brain masks. Pairs marked held-out were not used to choose the settings.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from scripts.bench.options import option, required
from scripts.bench.pair_benchmark import PairOptions, measure_pairs
from scripts.bench.pair_report import HELD_OUT, write_report
from scripts.bench.written_pairs import Floats, LabelledImage, empty_folder, load, write_pair

TITLE = "Stripped brains and whole heads"
ABOUT = """\
Templates and single people, averaged to 2 mm, either as they are or multiplied by their brain mask
("stripped"). Each pair is "FIXED <- MOVING". The Dice compares the brain masks; the target was
0.93."""
AIR_HU, WATER_HU = -1024.0, 0.0
CHOSEN = """\
mni_t1 p07_t2*, p07_t2* mni_t1, avg152_t2 p07_t1*, p07_t1* avg152_t2, mni_t1 avg152_t2*,
avg152_t2* mni_t1, mni_t1 p07_flair*, p07_flair* mni_t1, avg152_pd 1007_t1*, ct 1001_t1*,
1001_t1* ct, mni_t1 ct*, ct* mni_t1, mni_t1 ct_water*, ct ct*, ct* ct"""
LEFT_OUT = "spm_t1 spm_t2*, spm_t2 1036_t1*, 1036_t1* spm_t2, colin spm_pd*"
WHOLE = {
    "mni_t1": "ct_mr/mni152_t1_2mm",
    "avg152_t2": "ct_mr/avg152T2",
    "avg152_pd": "ct_mr/avg152PD",
    "colin": "ct_mr/single_subj_T1",
    "spm_t1": "pet_mr_templates/T1",
    "spm_t2": "pet_mr_templates/T2",
    "spm_pd": "pet_mr_templates/PD",
}
MASKS = {"ct_mr": "ct_mr/mni152_brainmask_2mm", "pet_mr_templates": "pet_mr_templates/brainmask"}


@dataclass(frozen=True, kw_only=True)
class Options(PairOptions):
    """Options of the study."""

    work: Path = required("folder for the pairs")
    tools: str = option("stn3d --preset fast", "names from scripts/bench/tools.py and baselines.py")


def run(options: Options) -> None:
    """Write the pairs, measure what is not measured yet, then report."""
    pairs = empty_folder(options.work / "pairs")
    for split, listed in (("chosen", CHOSEN), (HELD_OUT, LEFT_OUT)):
        for fixed, moving in (pair.split() for pair in listed.split(",")):
            name = f"{fixed} <- {moving}".replace("*", " stripped")
            write_pair(pairs / name, split, head(fixed), head(moving))
    measure_pairs("stripped", pairs, options)
    report(options.out)


def report(folder: Path) -> None:
    """Write README.md and plot.svg."""
    write_report(folder, TITLE, ABOUT)


def head(name: str) -> LabelledImage:
    """A head with its brain mask as labels; a name that ends with ``*`` is stripped."""
    whole, outside = _whole(name.rstrip("*"))
    if not name.endswith("*"):
        return whole
    return LabelledImage(
        np.where(whole.labels > 0, whole.values, outside), whole.affine, whole.labels
    )


def _whole(name: str) -> tuple[LabelledImage, float]:
    """A head and the value outside of the brain when it is stripped."""
    if name.startswith("ct"):
        values, affine = load("ct_mr/scct")
        brain = filled(load("ct_mr/scct_stripped")[0] > 1250)
        outside = WATER_HU if name == "ct_water" else AIR_HU
        return LabelledImage(hounsfield(values.astype(float)), affine, brain), outside
    if name in WHOLE:
        values, affine = load(WHOLE[name])
        brain, mask_affine = load(MASKS[WHOLE[name].split("/")[0]])
        assert np.allclose(mask_affine, affine)
        return LabelledImage(values, affine, filled(brain > 0.5)), 0.0
    folder = "contrasts" if name.startswith("p07") else "brains"
    values, affine = load(f"{folder}/{name}")
    shares, coarse = halved(filled(values != 0).astype(float), affine)
    return LabelledImage(halved(values, affine)[0], coarse, shares > 0.5), 0.0


def hounsfield(stored: Floats) -> Floats:
    """HU of the CT template, whose range of soft tissue is stretched."""
    dense = np.where(stored <= 3100, 900 + (stored - 900) / 11, 1100 + (stored - 3100))
    return np.round(np.where(stored <= 900, stored, dense) - 1024)


def filled(voxels: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest connected part, without holes."""
    parts, _ = ndimage.label(voxels)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    solid: NDArray[np.bool_] = ndimage.binary_fill_holes(parts == sizes.argmax())
    return solid


def halved(values: Floats, affine: Floats) -> tuple[Floats, Floats]:
    """Means of blocks of two voxels along each axis, and their affine."""
    even = values[tuple(slice(0, n // 2 * 2) for n in values.shape)].astype(float)
    blocks = even.reshape([size for n in even.shape for size in (n // 2, 2)])
    coarse = affine.copy()
    coarse[:3, 3] += affine[:3, :3] @ np.full(3, 0.5)
    coarse[:3, :3] *= 2
    return blocks.mean((1, 3, 5)), coarse
