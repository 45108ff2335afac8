"""stn3d: spatial transformers for volumes; register 2D and 3D medical images.

Names, and modules such as `stn3d.nets`, are imported when they are first used, so that `import
stn3d` and `stn3d --help` need no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from stn3d.errors import InputError
from stn3d.startup import set_environment, starting

if TYPE_CHECKING:
    from stn3d import data as data
    from stn3d import evaluation as evaluation
    from stn3d import grid as grid
    from stn3d import io as io
    from stn3d import landmarks as landmarks
    from stn3d import losses as losses
    from stn3d import metrics as metrics
    from stn3d import nets as nets
    from stn3d import report as report
    from stn3d import sampler as sampler
    from stn3d import segmentation as segmentation
    from stn3d import synth as synth
    from stn3d import train as train
    from stn3d import transforms as transforms
    from stn3d import warp as warp
    from stn3d.evaluation import Evaluation, EvaluationCase, EvaluationOptions
    from stn3d.grid import Grid
    from stn3d.io import (
        Image,
        as_image,
        as_transform,
        from_ddf,
        read_image,
        read_transform,
        to_ddf,
        write_image,
        write_transform,
    )
    from stn3d.landmarks import register_landmarks
    from stn3d.registration.api import register
    from stn3d.registration.inputs import RegistrationImage
    from stn3d.registration.result import Registration
    from stn3d.scoring.api import evaluate
    from stn3d.segmentation.api import segment
    from stn3d.segmentation.result import SegmentationResult
    from stn3d.series.api import register_series
    from stn3d.series.result import SeriesRegistration
    from stn3d.transforms import (
        Affine,
        Chain,
        DisplacementField,
        Rigid,
        Similarity,
        Transform,
        VelocityField,
    )
    from stn3d.warp.apply import apply
    from stn3d.warp.points import transform_points

__version__ = "0.2.0"

__all__ = [
    "Affine",
    "Chain",
    "DisplacementField",
    "Evaluation",
    "EvaluationCase",
    "EvaluationOptions",
    "Grid",
    "Image",
    "InputError",
    "Registration",
    "RegistrationImage",
    "Rigid",
    "SegmentationResult",
    "SeriesRegistration",
    "Similarity",
    "Transform",
    "VelocityField",
    "__version__",
    "apply",
    "as_image",
    "as_transform",
    "evaluate",
    "from_ddf",
    "read_image",
    "read_transform",
    "register",
    "register_landmarks",
    "register_series",
    "segment",
    "to_ddf",
    "transform_points",
    "write_image",
    "write_transform",
]

_MODULES = {
    "stn3d.warp.apply": ("apply",),
    "stn3d.evaluation": ("Evaluation", "EvaluationCase", "EvaluationOptions"),
    "stn3d.warp.points": ("transform_points",),
    "stn3d.grid": ("Grid",),
    "stn3d.io": (
        "Image",
        "as_image",
        "as_transform",
        "from_ddf",
        "read_image",
        "read_transform",
        "to_ddf",
        "write_image",
        "write_transform",
    ),
    "stn3d.landmarks": ("register_landmarks",),
    "stn3d.registration.api": ("register",),
    "stn3d.registration.inputs": ("RegistrationImage",),
    "stn3d.registration.result": ("Registration",),
    "stn3d.scoring.api": ("evaluate",),
    "stn3d.segmentation.api": ("segment",),
    "stn3d.segmentation.result": ("SegmentationResult",),
    "stn3d.series.api": ("register_series",),
    "stn3d.series.result": ("SeriesRegistration",),
    "stn3d.transforms": (
        "Affine",
        "Chain",
        "DisplacementField",
        "Rigid",
        "Similarity",
        "Transform",
        "VelocityField",
    ),
}
_SUBMODULES = (
    "data",
    "evaluation",
    "grid",
    "io",
    "landmarks",
    "losses",
    "metrics",
    "nets",
    "report",
    "sampler",
    "segmentation",
    "synth",
    "train",
    "transforms",
    "warp",
)
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

set_environment()


def __getattr__(name: str) -> Any:
    """Import a public name from its module, or a module (PEP 562)."""
    if name in _SUBMODULES:
        with starting():
            return import_module(f"stn3d.{name}")
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with starting():
        value = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_SUBMODULES})
