"""Segment the head in an image.

read -> scale -> upright frame -> network -> labels with the image's edges -> check the quality.
"""

from __future__ import annotations

import dataclasses

from stn3d.choices import check_device
from stn3d.errors import InputError, shown
from stn3d.io import Image, ImageSource, read_image
from stn3d.nets.orientation import segment_any_orientation
from stn3d.nets.weights import TrainedNetwork, bundled_network
from stn3d.preprocessing.intensity import looks_like_ct, scaled
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.registration.runtime import Clock, device_of, limited_threads
from stn3d.segmentation.result import SegmentationResult
from stn3d.structures import STRUCTURES


def segment(
    image: ImageSource,
    *,
    volume: int | None = None,
    device: str = "auto",
    threads: int | None = None,
    network: TrainedNetwork | None = None,
) -> SegmentationResult:
    """Label the structures of a head in an image of any contrast, and mask its brain.

    The head may be skull-stripped or not, in any orientation, with slices of up to about 6 mm; MR
    of any contrast, or CT in HU. What lies more than about 50 mm away from the brain, such as the
    neck, is background.

    Args:
        image: a path, `Image`, nibabel or SimpleITK image, MetaTensor, or an array with its affine
            or `Grid`.
        volume: number of the volume of a 4D image, from 0.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        threads: number of CPU threads. Default: PyTorch's.
        network: a segmentation network of `stn3d.nets.load_weights`. Default: that of the package.

    Returns:
        Labels and brain mask on the image's grid, volumes, uncertainty, and whether the network
        knows what the image shows.

    Raises:
        InputError: the image cannot be read, is 2D or a single slice, or its extents are not those
            of a head; the message says what to do.

    Examples:
        >>> from stn3d import segment
        >>> segment("slice.png")
        Traceback (most recent call last):
        ...
        stn3d.errors.InputError: there is no image slice.png; check the path.
    """
    check_device(device)
    clock, where, trained = Clock(), device_of(device), _checked(network)
    with limited_threads(threads):
        with clock("read"):
            read = read_image(image, "image", volume)
            require_head_extents(read)
        with clock("prepare"):
            values = scaled(read.values).to(where)
            prepared = PreparedImage(values, read.grid)
        with clock("network"):
            coordinates = bundled_network("affine").to(where)
            found = segment_any_orientation(coordinates, trained.to(where), prepared)
        with clock("labels"):
            result = SegmentationResult.of(read, found)
    about = {
        "is_ct": looks_like_ct(read.values),
        "network": {
            "spacing_mm": trained.preprocessing["spacing_mm"],
            "iterations": trained.record.get("iterations"),
        },
        "device": str(where),
        "timings_s": clock.seconds,
    }
    return dataclasses.replace(result, run=about)


def _checked(network: TrainedNetwork | None) -> TrainedNetwork:
    """A network that is given, or that of the package.

    Raises:
        InputError: it does not label the structures of 3D images.
    """
    trained = bundled_network("segmentation") if network is None else network
    classes = trained.options.get("classes")
    if trained.input_format != (3, 1) or classes != len(STRUCTURES):
        raise InputError(
            f"the network has {shown(classes)} classes, and those of {len(STRUCTURES)} structures "
            "of 3D images of one channel are needed; give weights of a segmentation network."
        )
    return trained


def require_head_extents(image: Image) -> None:
    """Check that an image is a volume that may show a head.

    Raises:
        InputError: it is 2D or a single slice, or is much smaller or larger than a head.
    """
    grid = image.grid
    if grid.ndim == 2 or grid.slice_axis is not None:
        what = "a 2D image" if grid.ndim == 2 else "a single slice"
        raise InputError(
            f"{image.name} is {what}, and segmentation needs a volume of the head; give the 3D "
            "image that it comes from."
        )
    mismatch = bundled_network("affine").extent_mismatch(grid)
    if mismatch is not None:
        raise InputError(
            f"{image.name} cannot be segmented: the network {mismatch}; check the voxel sizes in "
            "its header."
        )
