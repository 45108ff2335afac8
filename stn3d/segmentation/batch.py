"""Segmentation of one or many images from files to files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stn3d.errors import InputError
from stn3d.io import ImageSource, atomic_write, refuse_inputs
from stn3d.registration.folders import results_folder
from stn3d.registration.progress_bar import ShowWork
from stn3d.registration.runtime import device_of, limited_threads
from stn3d.segmentation.api import segment
from stn3d.segmentation.outputs import SegmentationOutputs
from stn3d.segmentation.volumes import Row, volumes_csv
from stn3d.template.subjects import names_of

_SUMMARY = "volumes.csv"


@dataclass(frozen=True, eq=False)
class SegmentedFile:
    """What became of an image.

    Args:
        name: name of the image, unique among all images.
        metrics: content of its volumes.json; None if it could not be segmented.
        rows: its rows of volumes.csv.
        files: the files written.
        error: why it could not be segmented; empty if it could.
    """

    name: str
    metrics: dict[str, Any] | None = None
    rows: Sequence[Row] = ()
    files: Sequence[Path] = ()
    error: str = ""


def segment_files(
    images: Sequence[ImageSource],
    folder: str | os.PathLike[str],
    *,
    outputs: SegmentationOutputs | None = None,
    progress: ShowWork | None = None,
    **settings: Any,
) -> list[SegmentedFile]:
    """Segment images and write the results: of one image into the folder itself, of several into a
    folder for each, and ``volumes.csv`` with the volumes of all.

    Args:
        images: image sources, see `stn3d.segment`.
        folder: folder for the results, created if needed.
        outputs: files to write for each image.
        progress: called before and after each image with how many are done, of how many, and its
            name.
        **settings: settings of `stn3d.segment`.

    Returns:
        What became of each image, in the same order. One of several that cannot be segmented does
        not end the others.

    Raises:
        InputError: a setting cannot be used, an output is one of the images, the folder cannot be
            written, an image is given twice, or the only image cannot be segmented.
    """
    outputs, out = outputs or SegmentationOutputs(), Path(folder)
    names = names_of(images)
    single = len(images) == 1
    folders = [out if single else out / name for name in names]
    files = [one / file for one in folders for file in outputs.files().values()]
    refuse_inputs([*files, out / _SUMMARY], images)
    device_of(settings.get("device", "auto"))  # no image is needed to refuse a setting
    found: list[SegmentedFile] = []
    show = progress or (lambda *_: None)
    with limited_threads(settings.get("threads")), results_folder(out):
        for number, (image, name, into) in enumerate(zip(images, names, folders, strict=True)):
            show(number, len(images), name)
            try:
                found.append(_segmented(image, name, into, outputs, settings))
            except InputError as error:
                if single:
                    raise
                found.append(SegmentedFile(name, error=str(error)))
            show(number + 1, len(images), name)
        if not single and any(one.files for one in found):
            with atomic_write(out / _SUMMARY) as part:
                text = volumes_csv([row for one in found for row in one.rows])
                part.write_text(text, encoding="utf8")
    return found


def _segmented(
    image: ImageSource,
    name: str,
    folder: Path,
    outputs: SegmentationOutputs,
    settings: dict[str, Any],
) -> SegmentedFile:
    result = segment(image, **settings)
    with results_folder(folder):
        files = result.save(folder, outputs)
    return SegmentedFile(name, result.to_dict(), result.rows(), files)
