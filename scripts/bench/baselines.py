#!/usr/bin/env python3
"""Other registration tools, run on a pair as their own documentation suggests, each as a process.

    baselines.py NAME FIXED MOVING OUT_DIR THREADS     register: writes the tool's own files
    baselines.py NAME FIXED MOVING OUT_DIR --convert   then writes OUT_DIR/transform.h5 from them
    baselines.py --versions                            prints what is installed, as JSON

The first is what the benchmarks time: read the images, affine and deformable registration (rigid
only for the tools named so), then write the tool's own transform files and OUT_DIR/moved.nii.gz.
The second is not timed; it converts the tool's transform to ITK's composite format, fixed points to
moving points in LPS mm.

Tools that draw random numbers get the seed 1 where they have none of their own: without it, two
runs of greedy on one pair of brains reached a Dice of 0.635 and 0.641. Threads that sum in another
order still cause small differences.

Pictures (PNG) are registered in 2D by their luminance.

This file does not need stn3d, so the other tools may be installed in an environment of their own:
python -m venv tools; tools/bin/pip install "antspyx>=0.6.3" picsl-greedy itk-elastix simpleitk

Heavy imports happen only once a tool is chosen, because the memory of its process is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import SimpleITK as sitk

THREAD_VARIABLES = (
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
)
FLAT = "_luminance.nii.gz"  # end of the names of 2D images


@dataclass(frozen=True)
class OtherTool:
    """A registration tool other than stn3d.

    Args:
        package: the distribution on PyPI that contains it.
        register: writes the tool's files; takes fixed, moving, folder and threads.
        convert: reads these files as one transform; takes moving and folder.
    """

    package: str
    register: Callable[[Path, Path, Path, int], None]
    convert: Callable[[Path, Path], sitk.Transform]

    def version(self) -> str | None:
        """Package and version; None if it is not installed."""
        try:
            return f"{self.package} {version(self.package)}"
        except PackageNotFoundError:
            return None


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name", choices=OTHER_TOOLS)
    for name in ("fixed", "moving", "out"):
        parser.add_argument(name, type=Path)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("threads", type=int, nargs="?")
    what.add_argument("--convert", action="store_true")
    args = parser.parse_args(arguments)
    tool = OTHER_TOOLS[args.name]
    args.out.mkdir(parents=True, exist_ok=True)
    fixed, moving = (plain(path, args.out) for path in (args.fixed, args.moving))
    if args.convert:
        import SimpleITK as sitk

        transform = tool.convert(moving, args.out)
        sitk.WriteTransform(transform, str(args.out / "transform.h5"))
        return
    os.environ |= dict.fromkeys(THREAD_VARIABLES, str(args.threads))
    tool.register(fixed, moving, args.out, args.threads)


def plain(path: Path, out: Path) -> Path:
    """The image itself, or the luminance of a picture (PNG) as a 2D NIfTI file."""
    if path.suffix != ".png":
        return path
    written = out / f"{path.stem}{FLAT}"
    if not written.exists():
        import SimpleITK as sitk

        image = sitk.ReadImage(str(path))
        if image.GetNumberOfComponentsPerPixel() > 1:
            r, g, b = (sitk.VectorIndexSelectionCast(image, c, sitk.sitkFloat32) for c in range(3))
            image = 0.2126 * r + 0.7152 * g + 0.0722 * b
        sitk.WriteImage(sitk.Cast(image, sitk.sitkFloat32), str(written))
    return written


def axes_of(image: Path) -> int:
    """2 for what `plain` wrote, else 3."""
    return 2 if image.name.endswith(FLAT) else 3


def greedy_of(image: Path) -> Any:
    """Greedy for images of so many axes."""
    from picsl_greedy import Greedy2D, Greedy3D

    return Greedy2D() if axes_of(image) == 2 else Greedy3D()


def greedy_pair(metric: str, fixed: Path, moving: Path, threads: int) -> str:
    """Options of all stages of greedy."""
    metric = metric.replace("2x2x2", "x".join("2" * axes_of(fixed)))
    return f'-threads {threads} -seed 1 -i "{fixed}" "{moving}" -m {metric} -n 100x50x10'


def greedy(metric: str, fixed: Path, moving: Path, out: Path, threads: int) -> None:
    """Affine, then greedy diffeomorphic registration, both by a metric such as ``NCC 2x2x2``."""
    tool, pair = greedy_of(fixed), greedy_pair(metric, fixed, moving, threads)
    affine, warp = out / "affine.mat", out / "warp.nii.gz"
    tool.execute(f'{pair} -a -dof 12 -ia-image-centers -o "{affine}"')
    tool.execute(f'{pair} -it "{affine}" -o "{warp}"')
    moved = out / "moved.nii.gz"
    reslice = f'-threads {threads} -rf "{fixed}" -rm "{moving}" "{moved}" -r "{warp}" "{affine}"'
    tool.execute(reslice)


def greedy_rigid(
    metric: str, fixed: Path, moving: Path, out: Path, threads: int, *, parameters: int = 6
) -> None:
    """Only the first stage, with 6 or 12 parameters."""
    tool, pair = greedy_of(fixed), greedy_pair(metric, fixed, moving, threads)
    matrix, moved = out / "affine.mat", out / "moved.nii.gz"
    tool.execute(f'{pair} -a -dof {parameters} -ia-image-centers -o "{matrix}"')
    tool.execute(f'-threads {threads} -rf "{fixed}" -rm "{moving}" "{moved}" -r "{matrix}"')


def convert_greedy(_: Path, out: Path) -> sitk.Transform:
    return warp_then(greedy_matrix(out), out / "warp.nii.gz")


def convert_greedy_rigid(_: Path, out: Path) -> sitk.Transform:
    import SimpleITK as sitk

    return sitk.CompositeTransform([greedy_matrix(out)])


def greedy_matrix(out: Path) -> sitk.Transform:
    """The matrix is text in RAS mm, the warp an image of LPS vectors."""
    import numpy as np
    import SimpleITK as sitk

    found = np.loadtxt(out / "affine.mat")
    d = len(found) - 1
    flip = np.diag([*[-1.0, -1.0, 1.0][:d], 1.0])
    matrix = flip @ found @ flip
    affine = sitk.AffineTransform(d)
    affine.SetMatrix(matrix[:d, :d].ravel().tolist())
    affine.SetTranslation(matrix[:d, d].tolist())
    return affine


def ants(kind: str, fixed: Path, moving: Path, out: Path, threads: int) -> None:
    """ANTs by antspyx with its defaults, a SyN of the given kind."""
    import ants as tool

    images = [tool.image_read(str(path)) for path in (fixed, moving)]
    prefix = str(out / "ants_")
    found = tool.registration(*images, type_of_transform=kind, outprefix=prefix, random_seed=1)
    tool.image_write(found["warpedmovout"], str(out / "moved.nii.gz"))


def ants_rigid(fixed: Path, moving: Path, out: Path, threads: int) -> None:
    """ANTs' rigid stage, on images shifted in intensity so that their minimum is 0.

    It is initialised from centres of mass. With negative voxels in the background these may be a
    metre away, and the registration would end there.
    """
    import ants as tool

    images = [tool.image_read(str(path)) for path in (fixed, moving)]
    images = [image - image.min() for image in images]
    prefix = str(out / "ants_")
    found = tool.registration(*images, type_of_transform="Rigid", outprefix=prefix, random_seed=1)
    tool.image_write(found["warpedmovout"], str(out / "moved.nii.gz"))


def convert_ants(_: Path, out: Path) -> sitk.Transform:
    import SimpleITK as sitk

    affine = sitk.ReadTransform(str(out / "ants_0GenericAffine.mat"))
    return warp_then(affine, out / "ants_1Warp.nii.gz")


def convert_ants_rigid(_: Path, out: Path) -> sitk.Transform:
    import SimpleITK as sitk

    return sitk.CompositeTransform([sitk.ReadTransform(str(out / "ants_0GenericAffine.mat"))])


def elastix(stages: tuple[str, ...], fixed: Path, moving: Path, out: Path, threads: int) -> None:
    """elastix with its default parameter maps of the given stages.

    Its own number_of_threads crashes the B-spline stage (itk-elastix 0.25.4), so only environment
    variables limit the threads. Some seconds of its time are the loading of the itk package.
    """
    import itk

    images = [itk.imread(str(path), itk.F) for path in (fixed, moving)]
    parameters = itk.ParameterObject.New()
    for stage in stages:
        parameters.AddParameterMap(parameters.GetDefaultParameterMap(stage))
    parameters.SetParameter(0, "AutomaticTransformInitialization", "true")
    itk.elastix_registration_method(*images, parameter_object=parameters, output_directory=str(out))


def convert_elastix(stages: tuple[str, ...], moving: Path, out: Path) -> sitk.Transform:
    import itk

    parameters = itk.ParameterObject.New()
    for place in range(len(stages)):
        parameters.AddParameterFile(str(out / f"TransformParameters.{place}.txt"))
    image = itk.imread(str(moving), itk.F)
    # without a folder it would write deformationField.nii to the working directory
    field = itk.transformix_deformation_field(image, parameters, output_directory=str(out))
    itk.imwrite(field, str(out / "field.nii.gz"))
    return warp_then(None, out / "field.nii.gz")


def demons(fixed_path: Path, moving_path: Path, out: Path, threads: int) -> None:
    """SimpleITK: affine by Mattes information, matched histograms, then diffeomorphic demons.

    Demons run at 1/4, 1/2 and full resolution, 100, 60 and 30 iterations, the field smoothed by
    1.5 voxels.
    """
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    fixed, moving = (sitk.ReadImage(str(p), sitk.sitkFloat32) for p in (fixed_path, moving_path))
    affine = mattes_affine(fixed, moving)
    moved = sitk.Resample(moving, fixed, affine, sitk.sitkLinear)
    moved = sitk.HistogramMatching(moved, fixed, 256, 10)
    field = None
    for shrink, iterations in ((4, 100), (2, 60), (1, 30)):
        pair = [sitk.Shrink(image, [shrink] * 3) for image in (fixed, moved)]
        method = sitk.DiffeomorphicDemonsRegistrationFilter()
        method.SetNumberOfIterations(iterations)
        method.SetStandardDeviations(1.5)
        initial: list[sitk.Image] = [] if field is None else [sitk.Resample(field, pair[0])]
        field = method.Execute(*pair, *initial)
    sitk.WriteTransform(affine, str(out / "affine.tfm"))
    sitk.WriteImage(sitk.Cast(field, sitk.sitkVectorFloat32), str(out / "warp.nii.gz"))
    total = sitk.CompositeTransform([affine, sitk.DisplacementFieldTransform(field)])
    sitk.WriteImage(sitk.Resample(moving, fixed, total), str(out / "moved.nii.gz"))


def mattes_affine(fixed: sitk.Image, moving: sitk.Image) -> sitk.Transform:
    """Affine from the images' moments, by Mattes mutual information."""
    import SimpleITK as sitk

    start = sitk.CenteredTransformInitializer(
        fixed, moving, sitk.AffineTransform(3), sitk.CenteredTransformInitializerFilter.MOMENTS
    )
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(0.2)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsGradientDescent(1.0, 100)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([2, 1, 0])
    method.SetInitialTransform(start, inPlace=False)
    return method.Execute(fixed, moving)


def convert_demons(_: Path, out: Path) -> sitk.Transform:
    import SimpleITK as sitk

    return warp_then(sitk.ReadTransform(str(out / "affine.tfm")), out / "warp.nii.gz")


def warp_then(affine: sitk.Transform | None, warp: Path) -> sitk.Transform:
    """A warp on the fixed grid (LPS mm), then an affine; a composite's last acts first."""
    import SimpleITK as sitk

    dense = sitk.DisplacementFieldTransform(sitk.ReadImage(str(warp), sitk.sitkVectorFloat64))
    total = sitk.CompositeTransform([dense] if affine is None else [affine, dense])
    total.FlattenTransform()
    return total


OTHER_TOOLS = {
    "greedy": OtherTool("picsl-greedy", partial(greedy, "NCC 2x2x2"), convert_greedy),
    "greedy-nmi": OtherTool("picsl-greedy", partial(greedy, "NMI"), convert_greedy),
    "ants-syn": OtherTool("antspyx", partial(ants, "SyN"), convert_ants),
    "ants-synquick": OtherTool(
        "antspyx", partial(ants, "antsRegistrationSyNQuick[s]"), convert_ants
    ),
    "elastix": OtherTool(
        "itk-elastix",
        partial(elastix, ("affine", "bspline")),
        partial(convert_elastix, ("affine", "bspline")),
    ),
    "demons": OtherTool("simpleitk", demons, convert_demons),
    "greedy-rigid": OtherTool("picsl-greedy", partial(greedy_rigid, "NMI"), convert_greedy_rigid),
    "ants-rigid": OtherTool("antspyx", ants_rigid, convert_ants_rigid),
    "elastix-rigid": OtherTool(
        "itk-elastix", partial(elastix, ("rigid",)), partial(convert_elastix, ("rigid",))
    ),
}


if __name__ == "__main__":
    if sys.argv[1:] == ["--versions"]:
        print(json.dumps({name: tool.version() for name, tool in OTHER_TOOLS.items()}))
    else:
        main()
