#!/usr/bin/env python3
"""Run a peer tool on a pair, as its own documentation would, in a process of its own.

    scripts/peers.py NAME FIXED MOVING OUT_DIR THREADS     register: the tool's own files
    scripts/peers.py NAME FIXED MOVING OUT_DIR --convert   then OUT_DIR/transform.h5 from them
    scripts/peers.py --versions                            what is installed, as JSON

The first is what scripts/benchmark.py times: images read, affine and deformable registration (rigid
alone for the tools named so), then the tool's own transform files and OUT_DIR/moved.nii.gz written.
The second is not timed; it puts the tool's transform into ITK's composite format, fixed points to
moving points in LPS mm.

Tools that draw random numbers get the seed 1 where they have none of their own: without it, two
runs of greedy on one pair of brains came to a Dice of 0.635 and 0.641. Threads that sum in another
order still leave small differences.

This file needs no stn3d, so the peers may live in an environment of their own, made by
python -m venv peers; peers/bin/pip install "antspyx>=0.6.3" picsl-greedy itk-elastix simpleitk

Nothing heavy is imported before a tool is known, for its process's memory is measured.
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
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import SimpleITK as sitk

THREAD_VARIABLES = (
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
)


@dataclass(frozen=True)
class Peer:
    """A registration tool.

    Args:
        package: the distribution that it comes in.
        register: writes the tool's files; takes fixed, moving, folder and threads.
        convert: reads them as one transform; takes moving and folder.
    """

    package: str
    register: Callable[[Path, Path, Path, int], None]
    convert: Callable[[Path, Path], sitk.Transform]

    def version(self) -> str | None:
        """Package and version; None where it is not installed."""
        try:
            return f"{self.package} {version(self.package)}"
        except PackageNotFoundError:
            return None


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name", choices=PEERS)
    for name in ("fixed", "moving", "out"):
        parser.add_argument(name, type=Path)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("threads", type=int, nargs="?")
    what.add_argument("--convert", action="store_true")
    args = parser.parse_args(arguments)
    peer = PEERS[args.name]
    if args.convert:
        import SimpleITK as sitk

        transform = peer.convert(args.moving, args.out)
        sitk.WriteTransform(transform, str(args.out / "transform.h5"))
        return
    os.environ |= dict.fromkeys(THREAD_VARIABLES, str(args.threads))
    args.out.mkdir(parents=True, exist_ok=True)
    peer.register(args.fixed, args.moving, args.out, args.threads)


def greedy_pair(metric: str, fixed: Path, moving: Path, threads: int) -> str:
    """What all stages of greedy are told."""
    return f'-threads {threads} -seed 1 -i "{fixed}" "{moving}" -m {metric} -n 100x50x10'


def greedy(metric: str, fixed: Path, moving: Path, out: Path, threads: int) -> None:
    """Affine, then greedy diffeomorphic registration, both by a metric such as ``NCC 2x2x2``."""
    from picsl_greedy import Greedy3D

    tool, pair = Greedy3D(), greedy_pair(metric, fixed, moving, threads)
    affine, warp = out / "affine.mat", out / "warp.nii.gz"
    tool.execute(f'{pair} -a -dof 12 -ia-image-centers -o "{affine}"')
    tool.execute(f'{pair} -it "{affine}" -o "{warp}"')
    moved = out / "moved.nii.gz"
    reslice = f'-threads {threads} -rf "{fixed}" -rm "{moving}" "{moved}" -r "{warp}" "{affine}"'
    tool.execute(reslice)


def greedy_rigid(metric: str, fixed: Path, moving: Path, out: Path, threads: int) -> None:
    """The first stage alone, with 6 parameters."""
    from picsl_greedy import Greedy3D

    tool, pair = Greedy3D(), greedy_pair(metric, fixed, moving, threads)
    matrix, moved = out / "affine.mat", out / "moved.nii.gz"
    tool.execute(f'{pair} -a -dof 6 -ia-image-centers -o "{matrix}"')
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

    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    matrix = flip @ np.loadtxt(out / "affine.mat") @ flip
    affine = sitk.AffineTransform(3)
    affine.SetMatrix(matrix[:3, :3].ravel().tolist())
    affine.SetTranslation(matrix[:3, 3].tolist())
    return affine


def ants(kind: str, fixed: Path, moving: Path, out: Path, threads: int) -> None:
    """ANTs by antspyx with its defaults, a SyN of the given kind."""
    import ants as tool

    images = [tool.image_read(str(path)) for path in (fixed, moving)]
    prefix = str(out / "ants_")
    found = tool.registration(*images, type_of_transform=kind, outprefix=prefix, random_seed=1)
    tool.image_write(found["warpedmovout"], str(out / "moved.nii.gz"))


def ants_rigid(fixed: Path, moving: Path, out: Path, threads: int) -> None:
    """ANTs' rigid stage, on images whose least voxel is raised to 0.

    It starts from centres of mass, and where an image has negative voxels in its background these
    may lie a metre away; it would end there.
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

    Its own number_of_threads crashes the B-spline stage (itk-elastix 0.25.4), so only the
    environment limits it. Some seconds of its time are the itk package's own loading.
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
    # without a folder it would leave a deformationField.nii where one stands
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
        start = [] if field is None else [sitk.Resample(field, pair[0])]
        field = method.Execute(*pair, *start)
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


PEERS = {
    "greedy": Peer("picsl-greedy", partial(greedy, "NCC 2x2x2"), convert_greedy),
    "greedy-nmi": Peer("picsl-greedy", partial(greedy, "NMI"), convert_greedy),
    "ants-syn": Peer("antspyx", partial(ants, "SyN"), convert_ants),
    "ants-synquick": Peer("antspyx", partial(ants, "antsRegistrationSyNQuick[s]"), convert_ants),
    "elastix": Peer(
        "itk-elastix",
        partial(elastix, ("affine", "bspline")),
        partial(convert_elastix, ("affine", "bspline")),
    ),
    "demons": Peer("simpleitk", demons, convert_demons),
    "greedy-rigid": Peer("picsl-greedy", partial(greedy_rigid, "NMI"), convert_greedy_rigid),
    "ants-rigid": Peer("antspyx", ants_rigid, convert_ants_rigid),
    "elastix-rigid": Peer(
        "itk-elastix", partial(elastix, ("rigid",)), partial(convert_elastix, ("rigid",))
    ),
}


if __name__ == "__main__":
    if sys.argv[1:] == ["--versions"]:
        print(json.dumps({name: peer.version() for name, peer in PEERS.items()}))
    else:
        main()
