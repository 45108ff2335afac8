"""The result of a registration, and the files it writes."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stn3d.choices import ImageInterpolation
from stn3d.display import Described, Description, number
from stn3d.io import (
    Image,
    ImageSource,
    atomic_folder,
    atomic_write,
    is_picture,
    write_colours,
    write_image,
    write_transform,
)
from stn3d.io.dicom_output import DicomTags, write_dicom_series
from stn3d.io.dicom_series import series_of
from stn3d.io.sources import open_source
from stn3d.registration.folders import make_folder, replaced_results, versions
from stn3d.registration.inputs import LoadedPair
from stn3d.registration.outputs import DICOM_SERIES, Outputs
from stn3d.report.case import ReportCase
from stn3d.report.report import Report
from stn3d.transforms import Transform
from stn3d.warp import jacobian_determinant
from stn3d.warp.apply import apply, apply_to_file

_WRITERS = 2  # files written at a time; more take more memory and are no faster on two cores
_SHOWN = "correlation", "local_correlation", "dice"  # metrics in the description of a result


@dataclass(frozen=True, eq=False, repr=False)
class Registration(Described):
    """The result of registering a pair.

    Args:
        transform: fixed points to moving points, world RAS+ mm.
        inverse: moving points to fixed points.
        moved: the moving image on the fixed image's grid.
        fixed: the fixed image.
        metrics: the content of metrics.json: metrics before and after, quality, timings, settings,
            versions.
        moving_labels: labels of the moving image, if there are any.
        moving_source: the moving image as given; pictures have its data type.
        inputs: both images with their masks, labels and landmarks, for the report.
        uncertainty: the expected registration error in mm on the fixed image's grid, 0 where
            nothing is known, see `stn3d.registration.uncertainty`; None if it was not asked for.
    """

    transform: Transform
    inverse: Transform
    moved: Image
    fixed: Image
    metrics: dict[str, Any]
    moving_labels: ImageSource | None = None
    moving_source: ImageSource | None = None
    inputs: LoadedPair | None = None
    uncertainty: Image | None = None

    def description(self) -> Description:
        found, settings = self.metrics, self.metrics["settings"]
        after, seconds = found["after"], sum(found["timings_s"].values())
        rows = [
            ("quality", found["quality"]["status"]),
            ("kind", settings["kind"]),
            ("metric", settings["metric"]),
            *((name.replace("_", " "), self._change(name)) for name in _SHOWN),
            ("TRE", number(after["tre_mm"]["mean"], "mm") if after.get("tre_mm") else ""),
            ("folding", number(after["folding_pct"] or 0.0, "%")),
            ("expected error", self._expected_error()),
            ("time", number(seconds, "s")),
        ]
        return Description("Registration", rows)

    def thumbnails(self) -> Sequence[NDArray[np.uint8]]:
        """The fixed and the moved image."""
        return [*self.fixed.thumbnails(), *self.moved.thumbnails()]

    def _change(self, name: str) -> str:
        """A metric before and after."""
        values = [self.metrics[when].get(name) for when in ("before", "after")]
        return "" if None in values else " -> ".join(f"{value:.3g}" for value in values)

    def _expected_error(self) -> str:
        """Its mean over the body, if it was estimated."""
        mean_mm = (self.metrics.get("uncertainty") or {}).get("mean_mm")
        return "" if mean_mm is None else number(mean_mm, "mm")

    def apply(
        self,
        image: ImageSource,
        interpolation: ImageInterpolation = "auto",
        fill: str | float = "auto",
    ) -> Image:
        """Warp another image or label map to fixed space, see `stn3d.warp.apply`."""
        return apply(self.transform, image, self.fixed, interpolation, fill=fill)

    def save(self, folder: str | os.PathLike[str], outputs: Outputs | None = None) -> list[Path]:
        """Write the moved image, the transform, its inverse, metrics.json and the report, all or
        none.

        Args:
            folder: folder for the files, created if needed. Files of an earlier registration are
                replaced, and those that are no longer written are removed.
            outputs: further files and other names. Default: ``moved.nii.gz``, ``transform.h5``,
                ``inverse.h5``, ``metrics.json``, ``report.html``, ``report.png``, and
                ``moved_labels.nii.gz`` if there are labels of the moving image, and
                ``uncertainty.nii.gz`` if the registration error was estimated.

        Returns:
            The files written.

        Raises:
            InputError: the folder cannot be written.
        """
        folder, outputs = make_folder(folder), outputs or Outputs()
        names = self._names(outputs)
        images = self._image_name("fixed"), self._image_name("moving")
        others = outputs.all_files(*images) - {*names.values()}
        with (
            replaced_results(folder, names["metrics"], others, self._inputs()),
            ExitStack() as files,
        ):
            parts = {
                key: files.enter_context(
                    atomic_folder(folder / name, ".dcm")
                    if key == DICOM_SERIES
                    else atomic_write(folder / name)
                )
                for key, name in names.items()
            }
            # Entered last, so left first: no thread writes when the parts are removed.
            threads = files.enter_context(ThreadPoolExecutor(_WRITERS))
            writers = self._writers(outputs)
            jobs = [threads.submit(writers[key], part) for key, part in parts.items()]
            for job in jobs:
                job.result()
        return [folder / name for name in names.values()]

    def _names(self, outputs: Outputs) -> dict[str, str]:
        labels = self.moving_labels is not None
        if self.inputs is None:  # no report without the images
            outputs = dataclasses.replace(outputs, report=False)
        images = self._image_name("fixed"), self._image_name("moving")
        return outputs.files(*images, labels=labels, uncertainty=self.uncertainty is not None)

    def _inputs(self) -> list[object]:
        """The files that were read."""
        sides = [self.metrics[role].get("sources") or {} for role in ("fixed", "moving")]
        return [self.metrics["settings"]["init"], *(one for side in sides for one in side.values())]

    def _image_name(self, role: str) -> str:
        """Path of an image, without the number of its volume."""
        return str(self.metrics[role]["name"]).partition(" (volume ")[0]

    def _writers(self, outputs: Outputs) -> dict[str, Callable[[Path], object]]:
        """What writes each kind of file."""
        images = self._image_name("fixed"), self._image_name("moving")
        texts = {"metrics": self.metrics}
        if outputs.bids:
            sidecars = outputs.bids_names(*images).sidecars(versions()["stn3d"], images)
            texts |= sidecars
        return {
            "moved": self._write_moved,
            "transform": lambda path: write_transform(path, self.transform),
            "inverse": lambda path: write_transform(path, self.inverse),
            "moved_labels": self._write_labels,
            "uncertainty": self._write_uncertainty,
            "jacobian": self._write_jacobian,
            **self._report_writers(outputs),
            DICOM_SERIES: self._write_dicom,
            "dicom_transform": self._write_dicom_transform,
            **{key: partial(_write_json, content) for key, content in texts.items()},
        }

    def _report_writers(self, outputs: Outputs) -> dict[str, Callable[[Path], object]]:
        if self.inputs is None:
            return {}
        names = self._names(outputs)
        case = ReportCase(self.inputs, self.transform, self.metrics, names, self.uncertainty)
        report = Report(case)
        return {"report": report.write_page, "picture": report.write_picture}

    def _write_moved(self, path: Path) -> None:
        if self.moved.colours is not None:
            write_colours(path, [self.moved.colours], self.fixed)
            return
        dtype = None
        if is_picture(path) and self.moving_source is not None:
            stored = open_source(self.moving_source, "moving image").dtype
            dtype = stored if stored in (np.uint8, np.uint16) else None
        write_image(path, self.moved.values, self.fixed, dtype)

    def _write_labels(self, path: Path) -> None:
        assert self.moving_labels is not None
        apply_to_file(self.transform, self.moving_labels, self.fixed, path, "label")

    def _write_dicom(self, folder: Path) -> None:
        fixed, moving = (series_of(self._image_name(role)) for role in ("fixed", "moving"))
        tags = DicomTags(moving, fixed, "stn3d: registered")
        write_dicom_series(folder, self.moved.values, self.moved.grid, tags)

    def _write_dicom_transform(self, path: Path) -> None:
        names = self._image_name("fixed"), self._image_name("moving")
        fixed, moving = (name if os.path.exists(name) else None for name in names)
        fixed_image = self.fixed if fixed is None else fixed
        write_transform(path, self.transform, fixed=fixed_image, moving=moving, format="dicom")

    def _write_uncertainty(self, path: Path) -> None:
        assert self.uncertainty is not None
        write_image(path, self.uncertainty.values, self.fixed)

    def _write_jacobian(self, path: Path) -> None:
        determinants = jacobian_determinant(self.transform, self.fixed.grid)
        write_image(path, determinants[None, None], self.fixed)


def _write_json(content: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf8")
