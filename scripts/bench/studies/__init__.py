"""The studies: each is a module with ``Options``, ``run(options)`` and ``report(folder)``.

``Options`` is a frozen dataclass derived from `RunOptions`; its fields are the options of the
command line. ``run`` measures what ``options.out / "results.json"`` does not hold yet and then
calls ``report(options.out)``, which writes README.md and the plots from that file alone.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Protocol, cast

from scripts.bench.options import RunOptions

STUDIES = {
    "brains": "T1 brains of different people, stn3d and other tools; also any list of pairs",
    "contrasts": "T1 to T2 and FLAIR under known deformations",
    "clinical": "MR contrasts with thick slices and noise, under known deformations",
    "contrasts_rigid": "MR contrasts of one person under known rigid transforms",
    "ct_mr": "CT and MR head templates, rigid, from random initial poses",
    "segmentation": "structures of the head in real images of any contrast, and brain masks",
    "bodies": "abdomen CT and MR, lungs, prostate MR and ultrasound",
    "body_range": "bodies of many kinds and sizes, from mice to trunks, beside other tools",
    "aseg_pair": "two brains with the labels of FreeSurfer, beside greedy and ANTs",
    "other_contrast": "brains of two people in different contrasts, with and without features",
    "stripped": "stripped brains and whole heads of any contrast",
    "sliding": "lungs that slide along the chest wall under a known motion",
    "sliding_body": "abdomen and chest that slide within the wall of the body, in CT",
    "lesion": "effect of a lesion on a registration, with and without exclusion mask",
    "initialisation": "affine registration from random initial poses",
    "quality": "reliability of the automatic quality check",
    "uncertainty": "the expected error at every voxel, and the quality check of deformations",
    "template": "templates of 15 brains and of the visits of one person",
    "cross_tool": "transform files, written by stn3d and applied by other tools, and the reverse",
    "quality_examples": "the examples of the page about the quality check",
    "quality_limits": "measures of the quality check on many kinds of images",
    "fuzz": "damaged files and random command lines: tracebacks, crashes, hangs, memory",
    "floor": "kernel times against the lower bound set by memory bandwidth",
    "scaling": "time and memory against image size",
    "mnist": "spatial transformer networks on distorted MNIST",
    "transformer_speed": "speed of the affine transformer layer against torch and kornia",
    "cohort": "many pairs: pairs an hour, faults, and the load of the scheduler",
    "throughput": "training throughput of the networks against MONAI's",
    "training": "page about a training run of a network",
    "report": "pages of registrations: seconds, megabytes, screenshots",
    "synth": "picture of synthetic training samples",
}


class Study(Protocol):
    """What a study's module provides."""

    __doc__: str | None
    Options: type[Any]

    def run(self, options: Any) -> None:
        """Measure and report."""

    def report(self, folder: Path) -> None:
        """Write README.md and the plots from the stored results."""


def load(name: str) -> Study:
    """Import a study; only then its own imports happen.

    Raises:
        KeyError: there is no such study.
    """
    if name not in STUDIES:
        raise KeyError(name)
    study = cast(Study, importlib.import_module(f"scripts.bench.studies.{name}"))
    assert issubclass(study.Options, RunOptions)
    return study
