"""Inputs of the fuzz test that take a command or a network to make, each made once."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from random import Random

import nibabel as nib
import numpy as np
import torch

from scripts.fuzz.mutations import damaged
from scripts.fuzz.sample import Sample, single
from scripts.fuzz.samples import image
from stn3d.cli.app import main
from stn3d.grid import Grid
from stn3d.io import read_image
from stn3d.nets.segmentation import SegmentationNetwork
from stn3d.nets.segmenter import Segmentation
from stn3d.nets.weights import save_weights
from stn3d.segmentation.result import SegmentationResult
from stn3d.structures import STRUCTURES

_HEAD_MM = 8.0  # edge length of the voxels of the head


class MadeInputs:
    """Results of a registration, a head, and weights that segment it.

    Args:
        folder: folder for them; what results refer to remains there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def results(self) -> Sample:
        """The folder of a registration."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, values in (("fixed", image()), ("moving", image()[::-1])):
            nib.save(nib.Nifti1Image(values, np.diag([2, 2, 2, 1])), self.folder / f"{name}.nii.gz")
        fixed, moving = (str(self.folder / f"{name}.nii.gz") for name in ("fixed", "moving"))
        out = self.folder / "results"
        options = ["--kind", "deformable", "--preset", "fast", "--threads", "1", "-q"]
        code = main(["register", fixed, moving, "--out", str(out), *options])
        assert code in (0, 3), code
        files = {f"results/{one.name}": one.read_bytes() for one in sorted(out.iterdir())}
        targets = ("results/metrics.json", *files)
        return Sample("results", files, "results", targets)

    @cached_property
    def segmentation(self) -> Sample:
        """The folder of a segmentation, of random probabilities."""
        grid = Grid.of_spacing((12, 12, 12), 16.0)
        logits = torch.randn(1, len(STRUCTURES), *grid.shape, generator=torch.manual_seed(0))
        found = Segmentation(logits.softmax(dim=1), grid, torch.ones(1, 1, *grid.shape))
        head = read_image(self.head.write(self.folder))
        name = "segmentation/volumes.json"
        content = json.dumps(SegmentationResult.of(head, found).to_dict()).encode()
        return Sample("results", {name: content}, "segmentation", (name,))

    @cached_property
    def head(self) -> Sample:
        """An image with the extents of a head."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path, affine = self.folder / "head.nii.gz", np.diag([_HEAD_MM] * 3 + [1])
        nib.save(nib.Nifti1Image(image((22, 26, 24)), affine), path)
        return single("nii", path)

    @cached_property
    def weights(self) -> str:
        """Weights of a small segmentation network, untrained."""
        self.folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(0)
        path = self.folder / "segmentation.safetensors"
        network = SegmentationNetwork(channels=(4, 4), voxel_channels=2)
        save_weights(path, network, {"spacing_mm": 8.0, "shape": [20, 24, 20]}, {})
        return str(path)

    def folder_of_results(self, out: Path, random: Random) -> str:
        """The folder of a registration or a segmentation; most have a damaged file."""
        sample = random.choice((self.results, self.results, self.segmentation))
        return str(damaged(sample, random).write(out / f"folder{random.randrange(10**6)}"))
