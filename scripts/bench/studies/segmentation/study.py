"""The measurements of the study."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor

from scripts.bench.machine import machine
from scripts.bench.options import RunOptions, command_line, option, required
from scripts.bench.paths import image_path
from scripts.bench.store import Row, Store
from scripts.bench.studies.segmentation import references
from scripts.bench.studies.segmentation.page import report
from scripts.bench.studies.segmentation.pictures import save_pictures
from stn3d import Grid
from stn3d.io import Image, read_image
from stn3d.nets.segmentation_quality import assess_segmentation
from stn3d.nets.segmenter import Segmentation, segment, upright_frame
from stn3d.nets.tissues import sharp_classes
from stn3d.nets.weights import TrainedNetwork, bundled_network, load_weights
from stn3d.preprocessing.intensity import scaled
from stn3d.preprocessing.prepared import PreparedImage


@dataclass(frozen=True, kw_only=True)
class Options(RunOptions):
    """Options of the study."""

    weights: Path = required("model.safetensors of a training of configs/train_segmentation.yaml")
    images: str = option("*", "images, patterns separated by commas")
    again: bool = option(False, "measure again what is there already")


def run(options: Options) -> None:
    """Segment the images, compare, report."""
    torch.set_num_threads(options.threads)
    trained = load_weights(options.weights)
    iterations = trained.record.get("iterations")
    conditions = {"machine": machine(), "threads": options.threads, "iterations": iterations}
    shown = replace(options, out=Path("docs/results/segmentation"))
    store = Store(
        options.out,
        "segmentation",
        ["image"],
        conditions,
        command=command_line("segmentation", shown),
    )
    names = references.images(options.images)
    pictures: dict[str, tuple[Image, Tensor]] = {}

    def measured(row: Row) -> Row:
        image = read_image(image_path(row["image"]))
        begin = time.perf_counter()
        found, classes = segmented(trained, image)
        seconds = time.perf_counter() - begin
        pictures[row["image"]] = image, classes
        return {
            "seconds": round(seconds, 2),
            **compared(trained, row["image"], found, classes, image.grid),
        }

    store.measure([{"image": name} for name in names], measured, options.again)
    save_pictures(pictures, options.out)
    report(options.out)


def segmented(trained: TrainedNetwork, image: Image) -> tuple[Segmentation, Tensor]:
    """The segmentation of an image as it is read, and the class of each of its voxels."""
    prepared = PreparedImage(scaled(image.values), image.grid)
    frame = upright_frame(bundled_network("affine"), prepared)
    found = segment(trained, prepared, frame)
    return found, sharp_classes(prepared, found)


def compared(
    trained: TrainedNetwork, name: str, found: Segmentation, classes: Tensor, grid: Grid
) -> Row:
    """What the segmentation of an image is compared with, see the study's page."""
    brain = found.mask_on(grid)
    quality = assess_segmentation(found)
    row: Row = {
        "brain_ml": round(float(brain.sum()) * prod(grid.spacing_mm) / 1000, 1),
        "uncertainty": quality.measures.uncertainty_mean,
        "status": quality.status,
    }
    if name.startswith("ct_mr/"):
        return row | {"brain_dice": references.mni_brain_dice(brain, grid)}
    if name.startswith("contrasts/"):
        t1 = read_image(image_path("contrasts/p07_t1"))
        reference = segmented(trained, t1)[1]
    elif name.startswith("head_natives/") or name in references.WITHOUT_REFERENCE:
        return row
    else:
        reference = references.reference_classes(name)
    dice = references.structure_dice(classes, reference)
    return row | {"dice": mean(dice.values()), "structures": dice}
