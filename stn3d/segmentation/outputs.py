"""Which files a segmentation writes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import get_args

from stn3d.choices import VolumeSuffix, check_choice


@dataclass(frozen=True, kw_only=True)
class SegmentationOutputs:
    """The files of a segmentation.

    Args:
        image_suffix: extension, and so the format, of images of one volume: ``.nii.gz``, ``.nii``,
            ``.nrrd`` or ``.mha``.
        probabilities: write the probability of each structure as 4D NIfTI in steps of 1/255.
        uncertainty: write the uncertainty of each voxel, from 0 to 1, as NIfTI in such steps.
        picture: write a picture of three planes.

    Raises:
        InputError: the extension is none of these.
    """

    image_suffix: VolumeSuffix = ".nii.gz"
    probabilities: bool = False
    uncertainty: bool = False
    picture: bool = True

    def __post_init__(self) -> None:
        check_choice("image-format", self.image_suffix, VolumeSuffix)

    def all_files(self) -> set[str]:
        """Names of all files that any outputs write."""
        wanted = {"probabilities": True, "uncertainty": True, "picture": True}
        others = [replace(self, image_suffix=one, **wanted) for one in get_args(VolumeSuffix)]
        return {name for one in others for name in one.files().values()}

    def files(self) -> dict[str, str]:
        """A name for each file that is written, by what it holds."""
        names = {
            "labels": f"labels{self.image_suffix}",
            "mask": f"mask{self.image_suffix}",
            "probabilities": "probabilities.nii.gz",
            "uncertainty": "uncertainty.nii.gz",
            "label_table": "labels.tsv",
            "volumes_csv": "volumes.csv",
            "volumes_json": "volumes.json",
            "picture": "segmentation.png",
        }
        wanted = {
            "probabilities": self.probabilities,
            "uncertainty": self.uncertainty,
            "picture": self.picture,
        }
        return {key: name for key, name in names.items() if wanted.get(key, True)}
