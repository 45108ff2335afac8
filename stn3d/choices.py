"""The names that options accept, and a sentence on each. Nothing here imports torch.

Help texts and checks of the command line use these before anything slow is imported.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from stn3d.errors import InputError, shown, shown_text

LinearKind = Literal["rigid", "similarity", "affine"]
Kind = Literal["auto", LinearKind, "deformable"]
LandmarkKind = Literal[LinearKind, "tps"]
MetricName = Literal["mse", "ncc", "lncc", "nmi", "mind", "gradient"]
MetricChoice = Literal["auto", MetricName]
Preset = Literal["fast", "default", "accurate"]
InitialMethod = Literal["auto", "header", "centres", "mass", "moments"]
Estimator = Literal["auto", "optimiser", "network", "both"]
Features = Literal["auto", "none"]
Structures = Literal["auto", "always"]
LargeMotionChoice = Literal["auto", "on", "off"]
Device = Literal["auto", "cpu", "cuda"]
WindowName = Literal["head", "lung", "abdomen", "bone"]
ImageInterpolation = Literal["auto", "linear", "nearest", "cubic", "label"]
ColourChannel = Literal["luminance", "haematoxylin", "eosin", "dab"]
SeriesInterpolation = Literal["linear", "cubic"]
EvaluationProtocol = Literal["strict", "l2r"]
ImageRole = Literal["fixed", "moving"]
CoordinateSystem = Literal["ras", "lps"]
GeometryKind = Literal["points", "surface", "streamlines"]
VolumeSuffix = Literal[".nii.gz", ".nii", ".nrrd", ".mha"]
ImageSuffix = Literal[VolumeSuffix, ".png", ".tif"]
TransformFormat = Literal[
    "auto",
    "itk",
    "ants",
    "greedy",
    "fsl",
    "freesurfer",
    "afni",
    "elastix",
    "x5",
    "dicom",
    "monai",
]

KINDS: dict[str, str] = {
    "auto": "rigid for one person's head in two modalities, else deformable",
    "rigid": "rotation and translation",
    "similarity": "rigid and one scale for all axes",
    "affine": "rigid, scales and shears",
    "deformable": "affine, then a displacement field",
}
LANDMARK_KINDS: dict[str, str] = {
    "rigid": "rotation and translation",
    "similarity": "rigid and one scale for all axes",
    "affine": "rigid, scales and shears; least squares",
    "tps": "thin-plate spline through the landmarks",
}
METRICS: dict[str, str] = {
    "lncc": "local normalised cross-correlation: same modality, robust to bias fields",
    "ncc": "normalised cross-correlation: same modality, even brightness",
    "mse": "mean squared error: same modality, equal intensities",
    "nmi": "normalised mutual information: different modalities",
    "mind": "MIND self-similarity descriptors: different modalities",
    "gradient": "normalised gradient fields (edges): different modalities, contrast agent",
}


_LARGEST = 3.4e38  # float32


@dataclass(frozen=True)
class AutomaticMetrics:
    """The metrics among which automatic selection chooses, and the defaults.

    Args:
        same: Metric for images of the same contrast.
        different: Metric for images of different contrasts.
        edges: Metric of the deformable stage for different contrasts in MRI.
        structure: Metric of the deformable stage for different contrasts, where one image ends and
            the other goes on.
        series: Metric for the volumes of a series.
    """

    same: MetricName = "lncc"
    different: MetricName = "nmi"
    edges: MetricName = "gradient"
    structure: MetricName = "mind"
    series: MetricName = "ncc"


AUTOMATIC = AutomaticMetrics()

METRIC_CHOICES: dict[str, str] = {
    "auto": f"{AUTOMATIC.different} for different modalities, else {AUTOMATIC.same}",
    **METRICS,
}
PRESETS: dict[str, str] = {
    "fast": "fewer levels and iterations",
    "default": "the best trade-off of accuracy and time",
    "accurate": "more levels and iterations",
}
INITIAL_METHODS: dict[str, str] = {
    "auto": "the best of the following; where none is reliable, a network and a search",
    "header": "world coordinates as the headers have them",
    "centres": "centres of the fields of view aligned",
    "mass": "centres of mass aligned",
    "moments": "centres of mass and principal axes aligned",
}
ESTIMATORS: dict[str, str] = {
    "auto": "the optimiser; a network adds an initial transform where none is reliable",
    "optimiser": "iterative optimisation only",
    "network": "networks, with --deformable-weights; linear stages stay with the optimiser",
    "both": "the same, then the optimiser from there",
}
FEATURES: dict[str, str] = {
    "auto": "tissues that a network finds, for heads of different contrast that it knows",
    "none": "the images alone",
}
STRUCTURES: dict[str, str] = {
    "auto": "compared in heads that do not show the same contrast",
    "always": "compared in all heads, for the time of two segmentations",
}
LARGE_MOTION: dict[str, str] = {
    "auto": "on where a coarse search displaces much of the image far (same contrast)",
    "on": "for organs that move by more than 10 mm or slide, as in breathing",
    "off": "the deformable stage alone",
}
DEVICES: dict[str, str] = {
    "auto": "cuda where there is one, else cpu",
    "cpu": "the CPU",
    "cuda": "an NVIDIA GPU; cuda:1 is the second one",
}
IMAGE_INTERPOLATIONS: dict[str, str] = {
    "auto": "label for a label map (by its header, name and values), nearest if its labels are "
    "single voxels; else linear",
    "linear": "bilinear or trilinear",
    "nearest": "nearest neighbour",
    "cubic": "cubic B-spline",
    "label": "the label of the largest linear weight: smooth borders, no new values",
}
FILLS: dict[str, str] = {
    "auto": "the background for CT in HU (air), else 0",
    "background": "the moving image's own background",
    "nan": "not a number; not for label maps and other whole numbers",
    "VALUE": "this number, such as -1000",
}
COLOUR_CHANNELS: dict[str, str] = {
    "luminance": "brightness (Rec. 709), inverted where the background is bright",
    "haematoxylin": "density of this stain, by colour deconvolution",
    "eosin": "density of this stain",
    "dab": "density of diaminobenzidine",
}
POINT_SPACES: dict[str, str] = {
    "fixed": "the points belong to the fixed image; they are mapped to the moving image",
    "moving": "the points belong to the moving image; they are mapped to the fixed image, by the "
    "inverse transform",
}
COORDINATE_SYSTEMS: dict[str, str] = {
    "ras": "x increases to the right, y to anterior (NIfTI, nibabel, FreeSurfer, MRtrix)",
    "lps": "x increases to the left, y to posterior (DICOM, ITK, ANTs, 3D Slicer)",
}
VOLUME_SUFFIXES: dict[str, str] = {
    ".nii.gz": "compressed NIfTI",
    ".nii": "NIfTI",
    ".nrrd": "NRRD",
    ".mha": "MetaImage",
}
IMAGE_SUFFIXES: dict[str, str] = {
    **VOLUME_SUFFIXES,
    ".png": "PNG, of 2D images; a Jacobian map is TIFF",
    ".tif": "TIFF, of 2D images",
}
SERIES_INTERPOLATIONS: dict[str, str] = {
    "linear": "trilinear",
    "cubic": "cubic B-spline",
}
EVALUATION_PROTOCOLS: dict[str, str] = {
    "strict": "distances in mm, log-Jacobian SD in the eroded foreground, labels of 100 voxels",
    "l2r": "as Learn2Reg: HD95 in voxels, SD of log(det J + 3) in the whole image, all labels",
}
TRANSFORM_FORMATS: dict[str, str] = {
    "auto": "by the extension and the content of the file",
    "itk": "ITK, SimpleITK, 3D Slicer: .h5, .tfm, .txt, .mat, and fields as .nii.gz, .nrrd, .mha",
    "ants": "the files of antsRegistration, named by their prefix",
    "greedy": "greedy: a matrix (.mat), a field (.nii.gz)",
    "fsl": "FSL: a matrix of FLIRT (.mat), a field of FNIRT (.nii.gz)",
    "freesurfer": "FreeSurfer: .lta",
    "afni": "AFNI: a matrix (.aff12.1D), a field of 3dQwarp (.nii.gz)",
    "elastix": "elastix: TransformParameters (.txt)",
    "x5": "X5, the BIDS draft (.x5)",
    "dicom": "DICOM spatial registration, linear and deformable (.dcm)",
    "monai": "voxel displacements of MONAI and VoxelMorph (.npy, .npz, .nii.gz)",
}


def fill_choice(value: Any) -> str | float:
    """The value outside of the moving image as it was asked for: a name in `FILLS`, or a number.

    Raises:
        InputError: it is neither.
    """
    text = shown_text(value).strip().lower() if not isinstance(value, float) else str(value)
    if text in ("auto", "background", "nan"):
        return text
    try:
        number = float(text)
    except ValueError:
        number = math.inf
    if isinstance(value, bool) or not abs(number) < _LARGEST:
        raise InputError(
            f"the fill {shown(value)} is unknown; give a number, background, nan or auto."
        )
    return number


def check_choice(name: str, value: Any, choice: Any) -> None:
    """Make sure that a value is one of a Literal's.

    Args:
        name: Name of the option, for the message.
        value: The value.
        choice: The Literal.

    Raises:
        InputError: It is not; the message suggests the closest one and lists all.
    """
    check_known(name, value, get_args(choice))


def check_device(value: Any) -> None:
    """Make sure that a value is a device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        InputError: It is not.
    """
    if not (isinstance(value, str) and re.fullmatch(r"cuda:\d{1,3}", value)):
        check_choice("device", value, Device)


def check_known(name: str, value: Any, known: Sequence[str]) -> None:
    """Make sure that a value is one of the known ones.

    Args:
        name: Name of the option, for the message.
        value: The value.
        known: All values that are allowed.

    Raises:
        InputError: It is not; the message suggests the closest one and lists all.
    """
    if value not in known:
        near = difflib.get_close_matches(shown_text(value).lower(), known, 1, 0)[0]
        listed = ", ".join(known)
        raise InputError(
            f"the {name} {shown(value)} is unknown; did you mean {near}? Known: {listed}."
        )
