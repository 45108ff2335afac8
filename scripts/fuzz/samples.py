"""Small valid files of each format that stn3d reads."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray

from scripts.fuzz.geometry_samples import geometry_files
from scripts.fuzz.sample import Sample, single
from scripts.fuzz.transform_samples import transform_samples
from stn3d.nets.coordinates import CoordinateRegressor
from stn3d.nets.pyramid import PyramidCascade
from stn3d.nets.weights import save_weights

SHAPE = (12, 10, 8)
_AFFINE = np.array([[-2.0, 0, 0, 11], [0, 2.0, 0.2, -9], [0, -0.2, 2.5, -8], [0, 0, 0, 1]])


def image(shape: tuple[int, ...] = SHAPE) -> NDArray[np.float32]:
    """A bright ellipsoid with texture on a dark background, 0 to about 200."""
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    radius = np.sqrt(sum(axis**2 for axis in axes))
    texture = 20 * np.sin(5 * axes[0]) + 15 * np.cos(7 * axes[1])
    values: NDArray[np.float32] = ((radius < 0.8) * (150 + texture)).astype(np.float32)
    return values


def all_samples() -> list[Sample]:
    """Samples of all formats, the same in each process."""
    with tempfile.TemporaryDirectory(prefix="stn3d-fuzz-") as name:
        folder = Path(name)
        makers = (
            *(_nifti, _mgh, _analyze, _itk, _planar, _dicom, transform_samples, _texts, _weights),
            _geometry,
        )
        return [sample for maker in makers for sample in maker(folder)]


def _pair(format: str, folder: Path, header: str, data: str) -> Sample:
    files = {name: (folder / name).read_bytes() for name in (header, data)}
    return Sample(format, files, header, (header, data))


def _arrays() -> Iterator[tuple[str, NDArray[Any]]]:
    values = image()
    yield "float", values
    yield "int", values.astype(np.int16)
    yield "labels", (values > 0).astype(np.uint8) + (values > 160).astype(np.uint8)
    yield "series", np.stack([values, values[::-1]], axis=-1).astype(np.int16)
    yield "slice", values[:, :, 4:5].astype(np.float64)


def _nifti(folder: Path) -> Iterator[Sample]:
    for name, array in _arrays():
        for suffix, kind in ((".nii", nib.Nifti1Image), (".nii", nib.Nifti2Image)):
            one = kind(array, _AFFINE)
            one.header.set_xyzt_units("mm", "sec")
            path = folder / f"{name}{suffix}"
            one.to_filename(path)
            yield single("nii", path)
            # compressed after the damage, see `mutations`
            yield Sample(
                "nii.gz",
                {f"{name}.nii.gz": path.read_bytes()},
                f"{name}.nii.gz",
                (f"{name}.nii.gz",),
            )


def _mgh(folder: Path) -> Iterator[Sample]:
    for name, array in _arrays():
        if array.dtype != np.float64:
            path = folder / f"{name}.mgh"
            nib.MGHImage(array, _AFFINE).to_filename(path)
            yield single("mgh", path)
            yield Sample("mgz", {f"{name}.mgz": path.read_bytes()}, f"{name}.mgz", (f"{name}.mgz",))


def _analyze(folder: Path) -> Iterator[Sample]:
    for kind in (nib.AnalyzeImage, nib.Nifti1Pair):
        for name, array in _arrays():
            if name != "series":
                stem = f"{name}_{kind.__name__}"
                kind(array.astype(np.int16), _AFFINE).to_filename(folder / f"{stem}.img")
                yield _pair("hdr/img", folder, f"{stem}.hdr", f"{stem}.img")


def _sitk_image(array: NDArray[Any]) -> Any:
    import SimpleITK as sitk

    found = sitk.GetImageFromArray(array.T)
    found.SetSpacing([2.0, 2.0, 2.5][: array.ndim])
    found.SetOrigin([-5.0, 3.0, 7.0][: array.ndim])
    return found


def _itk(folder: Path) -> Iterator[Sample]:
    import SimpleITK as sitk

    for name, array in _arrays():
        if name in ("series", "slice"):
            continue
        found = _sitk_image(array)
        for suffix, data, format in (
            (".mha", None, "mha"),
            (".mhd", ".raw", "mhd+raw"),
            (".nrrd", None, "nrrd"),
            (".nhdr", ".raw", "nhdr+raw"),
        ):
            path = folder / f"{name}{suffix}"
            sitk.WriteImage(found, str(path))
            yield _pair(format, folder, path.name, name + data) if data else single(format, path)
        for suffix in (".mha", ".nrrd"):
            path = folder / f"{name}_packed{suffix}"
            sitk.WriteImage(found, str(path), useCompression=True)
            yield single(suffix[1:], path)


def _planar(folder: Path) -> Iterator[Sample]:
    import SimpleITK as sitk

    for suffix in (".png", ".tif", ".jpg"):
        path = folder / f"plane{suffix}"
        sitk.WriteImage(_sitk_image(image((24, 20)).astype(np.uint8)), str(path))
        yield single(suffix[1:], path)


def _dicom(folder: Path) -> Iterator[Sample]:
    import SimpleITK as sitk

    volume, uid = _sitk_image(image().astype(np.int16)), "1.2.826.0.1.3680043.2.1125"
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    files = {}
    for n in range(SHAPE[2]):
        one = volume[:, :, n]
        position = volume.TransformIndexToPhysicalPoint((0, 0, n))
        for key, value in {
            "0008|0060": "MR",
            "0008|0020": "20200101",
            "0008|0030": "120000",
            "0008|0016": "1.2.840.10008.5.1.4.1.1.4",
            "0008|0018": f"{uid}.3.{n + 1}",
            "0020|000d": f"{uid}.1",
            "0020|000e": f"{uid}.2",
            "0020|0013": str(n + 1),
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0020|0032": "\\".join(f"{x:g}" for x in position),
            "0018|0050": "2.5",
        }.items():
            one.SetMetaData(key, value)
        path = folder / f"{n:02d}.dcm"
        writer.SetFileName(str(path))
        writer.Execute(one)
        files[f"series/{path.name}"] = path.read_bytes()
    yield Sample("dicom", files, "series", tuple(files))


def _text(format: str, name: str, content: str) -> Sample:
    return Sample(format, {name: content.encode()}, name, (name,))


def _texts(_: Path) -> Iterator[Sample]:
    points = [
        (name, x, 2.5 * (x % 3) - 4, 7.0 - x * x)
        for x, name in enumerate(("a", "b", "c", "d", "e"))
    ]
    rows = "".join(f"{x},{y},{z},{name}\n" for name, x, y, z in points)
    yield _text("csv", "points.csv", f"x,y,z,name\n{rows}")
    yield _text("csv", "plane.csv", "x,y\n1,2\n3.5,4e1\n-5,6\n")
    rows = "".join(
        f"n{n},{x},{y},{z},0,0,0,1,1,1,0,{name},,\n" for n, (name, x, y, z) in enumerate(points)
    )
    head = "# Markups fiducial file version = 5.0\n# CoordinateSystem = LPS\n"
    yield _text(
        "fcsv",
        "points.fcsv",
        f"{head}# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID\n{rows}",
    )
    controls = ",".join(
        f'{{"id":"{name}","label":"{name}","position":[{x},{y},{z}],"positionStatus":"defined"}}'
        for name, x, y, z in points
    )
    yield _text(
        "mrk.json",
        "points.mrk.json",
        '{"@schema":"markups-v1.0.3","markups":[{"type":"Fiducial","coordinateSystem":"LPS"'
        f',"coordinateUnits":"mm","controlPoints":[{controls}]}}]}}',
    )
    yield _text(
        "yaml",
        "config.yaml",
        "kind: deformable\nmetric: lncc\nseed: 3\nmax_memory: 2.5\nlabel_weight: 0.1\n"
        "channel_weights: [1, 2]\ninit: auto\ndevice: cpu\nlinear:\n  factors: [8, 4]\n"
        "deformable:\n  iterations: [20, 10]\n  factors: [4, 2]\n  radius: 2\n"
        "  field_sigma_vox: 0.5\n",
    )
    yield _text("yaml", "config.json", '{"kind": "rigid", "threads": 1, "linear": {"factors": 4}}')
    yield _text(
        "bundle",
        "bundle.yaml",
        "imports:\n  - $import os\nepochs: 3\nshape: [8, 8]\nnetwork_def:\n"
        "  _target_: PyramidCascade\n  spatial_dims: '@dims'\ndims: 2\n"
        "train:\n  dataset: {_target_: Dataset, data: [1, 2]}\n",
    )


def _geometry(folder: Path) -> Iterator[Sample]:
    for format, path in geometry_files(folder):
        yield single(format, path)


def _weights(folder: Path) -> Iterator[Sample]:
    torch.manual_seed(0)
    small: dict[str, Any] = {"spatial_dims": 2, "in_channels": 1, "channels": [2, 2]}
    networks = {
        "dense": PyramidCascade(**small, hidden=[2, 2], radii=[1, 1], repeats=[1, 1], steps=[1, 1]),
        "affine": CoordinateRegressor(**small),
    }
    for name, network in networks.items():
        path = folder / f"{name}.safetensors"
        save_weights(path, network, {"spacing_mm": 4.0, "shape": [16, 16]}, {"iterations": 0})
        yield _sorted("safetensors", path)
    yield from _checkpoint(folder)


def _checkpoint(folder: Path) -> Iterator[Sample]:
    from stn3d.train.state import save_state

    network = torch.nn.Linear(2, 3)
    path = folder / "last.ckpt.safetensors"
    record = {"iteration": 3, "epoch_length": 5, "best_metric": None, "best_epoch": -1}
    save_state(path, {"network": network}, record)
    yield _sorted("checkpoint", path)


def _sorted(format: str, path: Path) -> Sample:
    """A safetensors file with its header in order; the library writes it in any order."""
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    text = json.dumps(json.loads(data[8:end]), sort_keys=True).encode()
    content = len(text).to_bytes(8, "little") + text + data[end:]
    return Sample(format, {path.name: content}, path.name, (path.name,))
