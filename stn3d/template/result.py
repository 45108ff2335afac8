"""The result of building a template."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stn3d.display import Described, Description, number
from stn3d.io import Image, read_image, read_transform
from stn3d.template.folder import TEMPLATE
from stn3d.transforms import Transform


@dataclass(frozen=True, eq=False, repr=False)
class Template(Described):
    """A template and the transforms from it to the images.

    Args:
        folder: folder with ``template.nii.gz``, ``template.json`` and a folder for each image.
        metrics: content of template.json.
    """

    folder: Path
    metrics: dict[str, Any]

    def description(self) -> Description:
        last = self.metrics["iterations"][-1:]
        rows = [
            ("images", f"{len(self.names)}"),
            ("folder", f"{self.folder}"),
            *(("last mean displacement", number(i["mean_displacement_mm"], "mm")) for i in last),
            ("time", number(sum(self.metrics["timings_s"].values()), "s")),
        ]
        return Description("Template", rows)

    @property
    def names(self) -> list[str]:
        """Names of the images, in the order given."""
        return [one["name"] for one in self.metrics["images"]]

    @property
    def files(self) -> list[Path]:
        """The files, template.json last."""
        return [self.folder / name for name in (*self.metrics["files"], "template.json")]

    def image(self) -> Image:
        """Read the template."""
        return read_image(self.folder / TEMPLATE, "template")

    def transform(self, name: str) -> Transform:
        """Read the transform from points of the template to points of an image."""
        return read_transform(self.folder / name / "transform.h5")

    def inverse(self, name: str) -> Transform:
        """Read the transform from points of an image to points of the template."""
        return read_transform(self.folder / name / "inverse.h5")
