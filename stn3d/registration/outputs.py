"""Which files a registration writes, and their names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from stn3d.choices import ImageSuffix, check_choice
from stn3d.io import ImageSource, is_picture, require_2d
from stn3d.io.sources import open_source
from stn3d.registration.bids import BidsName, BidsNames

DICOM_SERIES = "moved_dicom"
"""What a folder of files holds; all other names are files."""


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """The files of a registration.

    Args:
        image_suffix: extension, and so the format, of images: ``.nii.gz``, ``.nii``, ``.nrrd``,
            ``.mha``, and of 2D images ``.png`` or ``.tif``.
        jacobian: write the Jacobian determinant of the transform at each voxel of the fixed image.
        dicom: write the moved image as a DICOM series in the frame of reference of the fixed one,
            and the transform as a DICOM registration object.
        bids: BIDS names with JSON sidecars, made from the names of the images.
        report: write report.html, a page to look at, and report.png, its picture.

    Raises:
        InputError: the extension is none of these.
    """

    image_suffix: ImageSuffix = ".nii.gz"
    jacobian: bool = False
    dicom: bool = False
    bids: bool = False
    report: bool = True

    def __post_init__(self) -> None:
        check_choice("image-format", self.image_suffix, ImageSuffix)

    def files(
        self, fixed: str, moving: str, *, labels: bool = False, uncertainty: bool = False
    ) -> dict[str, str]:
        """A name for each file that is written.

        Args:
            fixed: name or path of the fixed image.
            moving: name or path of the moving image.
            labels: whether there are labels of the moving image.
            uncertainty: whether the registration error was estimated.

        Returns:
            Names by what the files hold: ``moved``, ``transform``, ``inverse``, ``metrics``, where
            wanted ``report``, ``picture``, ``moved_labels``, ``uncertainty``, ``jacobian``,
            ``moved_dicom`` and ``dicom_transform``, and for BIDS ``..._sidecar``.
        """
        names = self.bids_names(fixed, moving).named() if self.bids else self._plain()
        if self.image_suffix == ".png":  # it holds no fractions
            for key in ("jacobian", "uncertainty"):
                names[key] = names[key].removesuffix(".png") + ".tif"
        names |= {DICOM_SERIES: "moved_dicom", "dicom_transform": "transform.dcm"}
        omitted = {
            "moved_labels": not labels,
            "uncertainty": not uncertainty,
            "jacobian": not self.jacobian,
            DICOM_SERIES: not self.dicom,
            "dicom_transform": not self.dicom,
            "report": not self.report,
            "picture": not self.report,
        }
        return {key: name for key, name in names.items() if not omitted.get(key, False)}

    def all_files(self, fixed: str, moving: str) -> set[str]:
        """Names of all files that any options write, plain names or BIDS names as here.

        Args:
            fixed: name or path of the fixed image.
            moving: name or path of the moving image.
        """
        wanted = {"jacobian": True, "dicom": True, "report": True}
        others = [replace(self, image_suffix=one, **wanted) for one in get_args(ImageSuffix)]
        extra = {"labels": True, "uncertainty": True}
        return {name for one in others for name in one.files(fixed, moving, **extra).values()}

    def check(self, fixed: ImageSource) -> None:
        """Check, before any work, that the format can hold images on the grid of the fixed image.

        Raises:
            InputError: it is for 2D images and the fixed image is 3D; or that cannot be read.
        """
        if is_picture(self.image_suffix):
            stored = open_source(fixed, "fixed image")
            require_2d(self.image_suffix, 2 if stored.planar else len(stored.shape[:3]))

    def bids_names(self, fixed: str, moving: str) -> BidsNames:
        """The BIDS names for two images."""
        first, second = (BidsName.of(Path(name).name) for name in (fixed, moving))
        return BidsNames(first, second, self.image_suffix)

    def _plain(self) -> dict[str, str]:
        suffix = self.image_suffix
        return {
            "moved": f"moved{suffix}",
            "transform": "transform.h5",
            "inverse": "inverse.h5",
            "metrics": "metrics.json",
            "moved_labels": f"moved_labels{suffix}",
            "uncertainty": f"uncertainty{suffix}",
            "jacobian": f"jacobian{suffix}",
            "report": "report.html",
            "picture": "report.png",
        }
