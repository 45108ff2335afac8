"""The result of a segmentation, and the files it writes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow
from torch import Tensor

from stn3d import kernels
from stn3d.display import Described, Description, number
from stn3d.io import Image, atomic_write, write_image, write_volumes
from stn3d.nets.segmentation_quality import SegmentationQuality, assess_segmentation
from stn3d.nets.segmenter import Segmentation
from stn3d.nets.tissues import sharp_classes, sharp_weights
from stn3d.preprocessing.intensity import scaled
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.registration.folders import make_folder, replaced_results, versions
from stn3d.report.picture import write_picture
from stn3d.segmentation.label_table import label_table_tsv
from stn3d.segmentation.outputs import SegmentationOutputs
from stn3d.segmentation.picture import segmentation_picture
from stn3d.segmentation.volumes import (
    Row,
    StructureVolume,
    structure_volumes,
    volumes_csv,
    voxel_ml,
)
from stn3d.structures import STRUCTURES

_STEPS = 255  # of values from 0 to 1 in a file
_LABELS = np.dtype(np.int16)  # whichever labels there are


@dataclass(frozen=True, eq=False, repr=False)
class SegmentationResult(Described):
    """The segmentation of an image.

    Args:
        image: the image.
        labels: ids of FreeSurferColorLUT.txt on the image's grid, int16; 0 is background.
        mask: brain mask on the image's grid, bool: brain, ventricles, and the fluid up to 8 mm from
            them.
        segmentation: probabilities on the working grid.
        quality: whether the network knows what the image shows, and whether all of the brain is
            seen.
        volumes: volume of each structure within the image: its voxels in ``labels``.
        run: network, device and timings, for volumes.json.
    """

    image: Image
    labels: Image
    mask: Image
    segmentation: Segmentation
    quality: SegmentationQuality
    volumes: tuple[StructureVolume, ...]
    run: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, image: Image, segmentation: Segmentation) -> SegmentationResult:
        """The result on the grid of an image, with the edges that its intensities show."""
        classes = sharp_classes(_prepared(image, segmentation), segmentation)
        ids = np.array([one.label for one in STRUCTURES], np.int16)
        plain = replace(image, colours=None)
        labels = torch.from_numpy(ids[classes.numpy()])
        mask = segmentation.mask_on(image.grid)
        mask_ml = round(int(mask.sum()) * voxel_ml(image.grid), 3)
        return cls(
            image,
            replace(plain, values=labels, name=f"labels of {image.name}"),
            replace(plain, values=mask, name=f"brain mask of {image.name}"),
            segmentation,
            assess_segmentation(segmentation, mask_ml),
            structure_volumes(classes, image.grid),
        )

    @property
    def brain_mask_ml(self) -> float:
        """Volume of the brain mask within the image: its voxels in ``mask``."""
        return self.quality.measures.brain_mask_ml

    def probabilities(self) -> Image:
        """The probability of each structure on the image's grid, in the order of
        `stn3d.structures.STRUCTURES`, given the network and the intensities: ``(1, 33, *shape)``
        float32, 0 outside the working grid."""
        header = self.image.header.copy()
        header.set_data_shape((*self.image.grid.shape, len(STRUCTURES)))
        values = torch.cat(list(self._probability_volumes()), dim=1)
        name = f"probabilities of {self.image.name}"
        return replace(self.image, values=values, header=header, name=name, colours=None)

    def uncertainty(self) -> Image:
        """The entropy of the network's probabilities as a fraction of the largest possible, from 0
        to 1, on the image's grid; 0 outside the working grid."""
        values = _on_grid(self.segmentation, self.segmentation.uncertainty, self.image)
        name = f"uncertainty of {self.image.name}"
        return replace(self.image, values=values, name=name, colours=None)

    def picture(self) -> Pillow.Image:
        """Three planes through the brain, with the outline of its mask and the structures."""
        title = f"{Path(self.image.name).name}: {self.quality.status}"
        title = f"{title}; brain mask {self.brain_mask_ml:.0f} ml"
        return segmentation_picture(self.image, self.labels, self.mask, title)

    def description(self) -> Description:
        rows = [
            ("of", self.image.name),
            ("status", self.quality.status),
            ("brain mask", f"{self.brain_mask_ml:.0f} ml"),
            ("uncertainty", number(self.quality.measures.uncertainty_mean or 0.0)),
        ]
        return Description("SegmentationResult", rows)

    def thumbnails(self) -> Sequence[NDArray[np.uint8]]:
        """The image and its labels."""
        return [*self.image.thumbnails(), *self.labels.thumbnails()]

    def rows(self) -> list[Row]:
        """A row of volumes.csv for each structure, in the order of `volumes.COLUMNS`."""
        about = [self.image.name, self.quality.status]
        return [
            [*about, one.index, one.name, one.volume_ml, self.brain_mask_ml] for one in self.volumes
        ]

    def to_dict(self) -> dict[str, Any]:
        """The content of volumes.json."""
        grid = self.image.grid
        return {
            "image": {
                "name": self.image.name,
                "shape": list(grid.shape),
                "spacing_mm": [round(mm, 6) for mm in grid.spacing_mm],
            },
            "quality": self.quality.as_dict(),
            "brain_mask_ml": self.brain_mask_ml,
            "structures": [one.to_dict() for one in self.volumes],
            **self.run,
            "versions": versions(),
        }

    def save(
        self, folder: str | os.PathLike[str], outputs: SegmentationOutputs | None = None
    ) -> list[Path]:
        """Write labels, brain mask, volumes and a picture, all or none.

        Args:
            folder: folder for the files, created if needed. Files of an earlier segmentation are
                replaced, and those that are no longer written are removed.
            outputs: further files and the format of images. Default: ``labels.nii.gz``,
                ``mask.nii.gz``, ``labels.tsv``, ``volumes.csv``, ``volumes.json`` and
                ``segmentation.png``.

        Returns:
            The files written.

        Raises:
            InputError: the folder cannot be written.
        """
        folder, outputs = make_folder(folder), outputs or SegmentationOutputs()
        names, writers = outputs.files(), self._writers()
        others = outputs.all_files() - {*names.values()}
        read = [self.image.name.partition(" (volume ")[0]]
        with replaced_results(folder, names["volumes_json"], others, read), ExitStack() as files:
            parts = {
                key: files.enter_context(atomic_write(folder / name)) for key, name in names.items()
            }
            # Entered last, so left first: no thread writes when the parts are removed.
            threads = files.enter_context(ThreadPoolExecutor(max(1, torch.get_num_threads())))
            for job in [threads.submit(writers[key], part) for key, part in parts.items()]:
                job.result()
        return [folder / name for name in names.values()]

    def _writers(self) -> dict[str, Callable[[Path], object]]:
        """What writes each kind of file."""
        return {
            "labels": lambda path: write_image(path, self.labels.values, self.labels, _LABELS),
            "mask": lambda path: write_image(path, self.mask.values, self.mask),
            "probabilities": self._write_probabilities,
            "uncertainty": self._write_uncertainty,
            "label_table": lambda path: _write_text(path, label_table_tsv()),
            "volumes_csv": lambda path: _write_text(path, volumes_csv(self.rows())),
            "volumes_json": lambda path: _write_text(path, json.dumps(self.to_dict(), indent=2)),
            "picture": lambda path: write_picture(path, self.picture()),
        }

    def _probability_volumes(self) -> Iterator[Tensor]:
        weights = sharp_weights(_prepared(self.image, self.segmentation), self.segmentation)
        for index, one in enumerate(self.segmentation.probabilities.split(1, dim=1)):
            yield _on_grid(self.segmentation, one, self.image) * weights.of_class(index)

    def _write_probabilities(self, path: Path) -> None:
        header = self.image.header.copy()
        header.set_data_shape((*self.image.grid.shape, len(STRUCTURES)))
        _write_steps(path, self._probability_volumes(), replace(self.image, header=header))

    def _write_uncertainty(self, path: Path) -> None:
        image = self.uncertainty()
        _write_steps(path, [image.values], image)


def _prepared(image: Image, segmentation: Segmentation) -> PreparedImage:
    values = scaled(image.values).to(segmentation.probabilities.device)
    return PreparedImage(values, image.grid)


def _on_grid(segmentation: Segmentation, values: Tensor, image: Image) -> Tensor:
    """Values of the working grid on the grid of an image, 0 outside, on the CPU."""
    matrix = segmentation.grid.index_from_world @ image.grid.world_from_index
    return kernels.resample(values, matrix, image.grid.shape).cpu()


def _write_steps(path: Path, volumes: Iterable[Tensor], like: Image) -> None:
    """Write values from 0 to 1 in whole steps: as floats the file would be 20 times as large."""
    steps = (volume * _STEPS for volume in volumes)
    write_volumes(path, steps, like, np.dtype(np.uint8), slope=1 / _STEPS)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text if text.endswith("\n") else text + "\n", encoding="utf8")
