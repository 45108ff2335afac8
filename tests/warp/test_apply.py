"""Images and label maps through a transform; `auto` distinguishes them."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from stn3d.choices import ImageInterpolation
from stn3d.errors import InputError
from stn3d.grid import homogeneous
from stn3d.io import read_exact, read_image, write_image
from stn3d.transforms import Affine
from stn3d.warp import warp_image, warp_labels
from stn3d.warp.apply import apply, apply_to_file
from stn3d.warp.label_maps import by_values
from tests.helpers.geometry_cases import DIMS
from tests.helpers.synthetic import Known, grid_about, known_pair, linear_truth, plain_grid


def a_pair(ndim: int) -> Known:
    zeros = torch.zeros(ndim).double()
    moving = grid_about(zeros + 2, [38] * ndim, [1.1, 0.9, 1.4][:ndim], (10, 5, 20), True)
    return known_pair(linear_truth("affine", zeros, zeros + 2, 10), plain_grid(ndim, 30), moving)


def regions(image: torch.Tensor) -> torch.Tensor:
    """Five regions of whole numbers that lie inside each other."""
    return torch.bucketize(image, torch.tensor([0.2, 0.5, 0.6, 0.8])).int() * 10


def as_bytes(image: torch.Tensor) -> torch.Tensor:
    """An image as scanners store it, in whole numbers from 0 to 255 on a background of 0."""
    noise = 6 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    return (200 * image + noise * (image > 0.02)).clamp(0, 255).to(torch.uint8)


@pytest.mark.parametrize("ndim", DIMS)
def test_labels_and_images_of_whole_numbers_are_distinguished(ndim: int) -> None:
    image = a_pair(ndim).moving
    assert by_values(regions(image)).labels
    assert by_values((image > 0.3).int()).labels
    assert not by_values(as_bytes(image).float()).labels
    assert not by_values(image).labels
    assert not by_values(torch.zeros_like(image)).labels


@pytest.mark.parametrize("ndim", DIMS)
def test_auto_is_linear_for_an_image_and_label_for_labels(ndim: int) -> None:
    known = a_pair(ndim)
    fixed, moving = known.sources
    image = apply(known.truth, moving, fixed)
    expected = warp_image(known.moving, known.moving_grid, known.truth, known.fixed_grid)
    assert torch.equal(image.values, expected)
    assert float((image.values - known.fixed).abs().mean()) < 0.02
    labels = regions(known.moving)
    moved = apply(known.truth, (labels, known.moving_grid), fixed)
    assert moved.values.dtype == torch.int32
    assert torch.equal(
        moved.values,
        warp_labels(labels, known.moving_grid, known.truth, known.fixed_grid, smooth=True),
    )
    agree = (moved.values == regions(known.fixed)).float().mean()
    assert float(agree) > 0.85
    assert moved.grid.same_as(known.fixed_grid)


def test_smooth_labels_are_nearer_to_the_truth_than_nearest_ones() -> None:
    known = a_pair(3)
    truth, labels = known.fixed > 0.3, ((known.moving > 0.3).int(), known.moving_grid)
    wrong = [
        int(((apply(known.truth, labels, known.sources[0], how).values > 0) != truth).sum())
        for how in ("label", "nearest")
    ]
    assert wrong[0] < 0.8 * wrong[1]


@pytest.mark.parametrize("how", ["linear", "nearest", "cubic"])
def test_what_is_asked_for_is_done(how: str) -> None:
    known = a_pair(3)
    values = apply(known.truth, known.sources[1], known.sources[0], how).values
    expected = warp_image(known.moving, known.moving_grid, known.truth, known.fixed_grid, how)
    assert torch.equal(values, expected)


def test_one_volume_of_several_by_its_number(tmp_path: Path) -> None:
    known = a_pair(3)
    labels = regions(known.moving)[0, 0].numpy().astype(np.int16)
    affine = known.moving_grid.world_from_index.numpy()
    nib.save(nib.Nifti1Image(np.stack([labels, labels // 10], -1), affine), tmp_path / "4d.nii.gz")
    first, second = (
        apply(known.truth, tmp_path / "4d.nii.gz", known.sources[0], volume=n) for n in (0, 1)
    )
    assert torch.equal(first.values, 10 * second.values)
    with pytest.raises(InputError, match="has no volume 2; it holds 2"):
        apply(known.truth, tmp_path / "4d.nii.gz", known.sources[0], volume=2)


def a_series(folder: Path, known: Known, labels: bool = False) -> Path:
    """Three volumes of the moving side, with their time; one of three label maps is empty."""
    image = regions(known.moving).to(torch.int16) if labels else known.moving
    volumes = [image[0, 0] * k for k in (1, 0 if labels else 3, 2)]
    affine = np.eye(4)
    d = known.moving_grid.ndim
    affine[:d, :d] = known.moving_grid.world_from_index[:d, :d]
    affine[:d, 3] = known.moving_grid.world_from_index[:d, d]
    array = torch.stack(volumes, dim=-1).numpy()
    series = nib.Nifti1Image(array[:, :, None] if d == 2 else array, affine)
    series.header.set_xyzt_units("mm", "msec")
    series.header["pixdim"][4] = 700
    series.to_filename(folder / "series.nii.gz")
    return folder / "series.nii.gz"


@pytest.mark.parametrize("ndim", DIMS)
@pytest.mark.parametrize("how", ["auto", "nearest", "cubic", "label"])
def test_all_volumes_are_each_volume(tmp_path: Path, ndim: int, how: ImageInterpolation) -> None:
    known = a_pair(ndim)
    series, like = a_series(tmp_path, known, labels=how == "label"), known.sources[0]
    moved = apply(known.truth, series, like, how)
    assert moved.values.shape == (1, 3, *known.fixed_grid.shape)
    for number in (0, 2) if how == "label" else range(3):
        alone = apply(known.truth, series, like, how, volume=number)
        assert torch.equal(moved.values[:, number : number + 1], alone.values)
    assert (
        apply_to_file(known.truth, series, like, tmp_path / "b.nii.gz", how).interpolation != "auto"
    )
    write_image(tmp_path / "a.nii.gz", moved.values, moved)
    by_file, by_hand = (nib.load(tmp_path / f"{name}.nii.gz") for name in "ba")
    np.testing.assert_array_equal(by_file.dataobj, by_hand.dataobj)
    assert by_file.shape == (*(*known.fixed_grid.shape, 1)[:3], 3)
    for image in (by_file, by_hand):
        assert image.header["pixdim"][4] == 700
        assert image.header.get_xyzt_units() == ("mm", "msec")
    again = read_image(moved, volume=2)  # what apply gives is a source too
    assert torch.equal(again.values, moved.values[:, 2:].float())
    assert again.grid.same_as(known.fixed_grid)


def test_auto_looks_at_all_volumes(tmp_path: Path) -> None:
    known = a_pair(3)
    series = a_series(tmp_path, known, labels=True)
    out = tmp_path / "out.nii.gz"
    assert apply_to_file(known.truth, series, known.sources[0], out).interpolation == "label"
    assert nib.load(out).get_data_dtype() == np.int16
    image = nib.load(series)
    array = np.asanyarray(image.dataobj).astype(np.float32)
    array[..., 2] += 0.25
    nib.Nifti1Image(array, image.affine).to_filename(series)
    assert apply_to_file(known.truth, series, known.sources[0], out).interpolation == "linear"


def test_several_volumes_go_into_nifti_alone(tmp_path: Path) -> None:
    known = a_pair(3)
    series = a_series(tmp_path, known)
    with pytest.raises(
        InputError, match=r"cannot write 3 volumes as .*a\.mha: use one of the extensions"
    ):
        apply_to_file(known.truth, series, known.sources[0], tmp_path / "a.mha")
    apply_to_file(known.truth, series, known.sources[0], tmp_path / "a.mha", volume=1)
    assert read_image(tmp_path / "a.mha").grid.same_as(known.fixed_grid)


def test_a_bad_volume_leaves_nothing(tmp_path: Path) -> None:
    known = a_pair(3)
    series = a_series(tmp_path, known)
    image = nib.load(series)
    array = np.asanyarray(image.dataobj).copy()
    array[5, 5, 5, 2] = np.inf
    nib.Nifti1Image(array, image.affine).to_filename(series)
    with pytest.raises(InputError, match=r"series.nii.gz \(volume 2\) has NaN or Inf in 1 of"):
        apply_to_file(known.truth, series, known.sources[0], tmp_path / "out.nii.gz", "linear")
    assert list(tmp_path.iterdir()) == [series]


IDS = np.array([0, 614454277, 614454281, 2**24 + 1, 2**53 - 1])


def stored_ids(path: Path, dtype: type, slope: float = 1) -> np.ndarray:
    """A label map of large ids in a file of a data type; what the file holds."""
    ids = IDS if np.dtype(dtype).itemsize == 8 else IDS[:4]
    array = np.repeat(ids, 4)[:, None, None] + np.zeros((1, 5, 6), np.int64)
    if path.suffix in (".nrrd", ".mha"):
        sitk.WriteImage(sitk.GetImageFromArray(array.astype(dtype).T), str(path))
        return array
    image = nib.Nifti1Image((array // slope).astype(dtype), np.eye(4), dtype=dtype)
    image.header.set_slope_inter(slope, 0)
    image.header.set_sform(np.eye(4), 1)
    with path.open("wb") as file:  # nibabel would choose another scale
        header = image.header.copy()
        header["vox_offset"] = 352
        raw = np.asarray((array // slope).astype(dtype)).tobytes(order="F")
        file.write(header.binaryblock + bytes(4) + raw)
    return (array // slope).astype(dtype).astype(np.float64) * slope


@pytest.mark.parametrize("how", ["auto", "label", "nearest"])
@pytest.mark.parametrize(
    ("name", "dtype", "slope"),
    [
        ("a.nii", np.float64, 1),
        ("a.nii", np.int64, 1),
        ("a.nii", np.uint64, 1),
        ("a.nii", np.uint32, 1),
        ("a.nii", np.int32, 1),
        ("a.nii", np.int32, 3),
        ("a.nrrd", np.float64, 1),
        ("a.mha", np.float64, 1),
        ("a.nrrd", np.int64, 1),
    ],
)
def test_ids_survive_exactly(
    tmp_path: Path, how: ImageInterpolation, name: str, dtype: type, slope: float
) -> None:
    expected = stored_ids(tmp_path / name, dtype, slope)
    identity = Affine.identity(3)
    for out in ("out.nii.gz", "out.nrrd"):
        apply_to_file(identity, tmp_path / name, tmp_path / name, tmp_path / out, how)
    found = nib.load(tmp_path / "out.nii.gz")
    np.testing.assert_array_equal(np.asanyarray(found.dataobj), expected)
    np.testing.assert_array_equal(
        sitk.GetArrayFromImage(sitk.ReadImage(tmp_path / "out.nrrd")).T, expected
    )
    assert found.get_data_dtype() == (dtype if slope == 1 else np.int32)
    moved = apply(identity, tmp_path / name, tmp_path / name, how)
    assert moved.values.dtype in (torch.int32, torch.int64, torch.float64)
    np.testing.assert_array_equal(moved.values[0, 0].numpy(), expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint16, np.float32])
@pytest.mark.parametrize("how", ["label", "nearest"])
def test_the_data_type_is_kept(tmp_path: Path, dtype: type, how: ImageInterpolation) -> None:
    array = np.zeros((6, 5, 4), dtype)
    array[2:4] = 100
    nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / "a.nii")
    shift = Affine.from_matrix(
        homogeneous(torch.eye(3).double(), torch.tensor([0.7, 0, 0]).double())
    )
    apply_to_file(shift, tmp_path / "a.nii", tmp_path / "a.nii", tmp_path / "b.nii", how)
    moved = nib.load(tmp_path / "b.nii")
    assert moved.get_data_dtype() == dtype
    np.testing.assert_array_equal(np.asanyarray(moved.dataobj)[:, 0, 0], [0, 100, 100, 0, 0, 0])
    used = apply_to_file(
        shift, tmp_path / "a.nii", tmp_path / "a.nii", tmp_path / "b.nii", how, fill=-300
    )
    assert used.outside_value == -300
    kept = np.float32 if dtype == np.float32 else np.int16  # uint8 does not hold -300
    moved = nib.load(tmp_path / "b.nii")
    assert moved.get_data_dtype() == kept
    assert np.asanyarray(moved.dataobj)[-1, 0, 0] == -300


def test_fractions_are_kept_by_nearest(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(4, 5, 6))
    nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / "a.nii")
    file = tmp_path / "a.nii"
    apply_to_file(Affine.identity(3), file, file, tmp_path / "b.nii", "nearest")
    np.testing.assert_array_equal(nib.load(tmp_path / "b.nii").get_fdata(), array)


def test_landmarks_of_one_voxel_stay(tmp_path: Path) -> None:
    array = np.zeros((30, 30, 30), np.int16)
    array[tuple(np.random.default_rng(0).integers(3, 25, (3, 12)))] = np.arange(1, 13)
    file, out = tmp_path / "a.nii", tmp_path / "b.nii"
    nib.save(nib.Nifti1Image(array, np.eye(4)), file)
    eye, half = torch.eye(3).double(), torch.tensor([0.5, -1.5, 0.5]).double()
    used = apply_to_file(Affine.from_matrix(homogeneous(eye, half)), file, file, out)
    assert (used.interpolation, used.lost) == ("nearest", ())
    assert set(np.unique(nib.load(out).dataobj)) == set(range(13))
    coarse = Affine.from_matrix(homogeneous(3 * eye, half))
    used = apply_to_file(coarse, file, file, out)
    kept = set(np.unique(nib.load(out).dataobj))
    assert set(used.lost) == set(range(13)) - kept != set()


def test_an_output_that_is_the_image_is_refused(tmp_path: Path) -> None:
    known = a_pair(3)
    file = a_series(tmp_path, known)
    before = file.read_bytes()
    with pytest.raises(InputError, match="it is an input of this command; give another output"):
        apply_to_file(known.truth, file, known.sources[0], str(file))
    assert file.read_bytes() == before


def test_fill_beyond_the_image(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    hu = np.where(np.indices((20, 20, 20)).sum(0) < 30, 40, -1000)
    hu = hu + generator.normal(0, 3, hu.shape)
    nib.save(nib.Nifti1Image(hu.astype(np.int16), np.eye(4)), tmp_path / "ct.nii")
    nib.save(nib.Nifti1Image((hu > -500).astype(np.int16), np.eye(4)), tmp_path / "seg.nii")
    far = Affine.from_matrix(
        homogeneous(torch.eye(3).double(), torch.tensor([15.0, 0, 0]).double())
    )

    def beyond(name: str, how: ImageInterpolation, fill: str | float = "auto") -> float:
        moved = apply(far, tmp_path / name, tmp_path / name, how, fill=fill).values
        assert len(moved[..., 8:, :, :].nan_to_num(0.5).unique()) == 1
        return float(moved[0, 0, -1, 0, 0])

    for how in ("linear", "nearest", "cubic", "auto"):
        assert beyond("ct.nii", how) == pytest.approx(-1000, abs=1)
        assert beyond("ct.nii", how, 0) == 0
        assert beyond("ct.nii", how, "-2000") == -2000
    assert np.isnan(beyond("ct.nii", "linear", "nan"))
    for name, how in (("ct.nii", "nearest"), ("seg.nii", "auto"), ("seg.nii", "label")):
        for fill in ("nan", 0.5):
            with pytest.raises(InputError, match=rf"{name} holds whole numbers, which cannot"):
                beyond(name, how, fill)
    assert beyond("seg.nii", "auto", "background") == 0
    assert beyond("seg.nii", "auto", 7) == 7
    with pytest.raises(InputError, match="fill 'air' is unknown; give a number, background, nan"):
        beyond("seg.nii", "auto", "air")


def test_dimensions_must_agree() -> None:
    flat, deep = a_pair(2), a_pair(3)
    for transform, image, like in (
        (deep.truth, deep.sources[1], flat.sources[0]),
        (deep.truth, flat.sources[1], deep.sources[0]),
        (flat.truth, deep.sources[1], deep.sources[0]),
    ):
        with pytest.raises(InputError, match="the transform"):
            apply(transform, image, like)


def test_beyond_the_moving_image_is_0() -> None:
    known = a_pair(2)
    far = Affine.from_matrix(homogeneous(torch.eye(2).double(), torch.tensor([1e3, 0.0]).double()))
    moved = apply(far, (known.moving + 5, known.moving_grid), known.sources[0])
    assert bool((moved.values == 0).all())


def test_real_labels_and_images_are_distinguished(shared_data: Path) -> None:
    folder = shared_data / "abdomen"
    for name, expected in (("ct", False), ("mr", False), ("ct_labels", True), ("mr_labels", True)):
        assert by_values(read_image(folder / f"{name}.nii.gz").values).labels is expected, name


NEIGHBOURS = 614454277, 614454278  # one number in float32


@pytest.mark.parametrize("interpolation", ["auto", "nearest", "label", "linear", "cubic"])
@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.int64])
def test_labels_keep_their_numbers_and_data_type(
    interpolation: ImageInterpolation, dtype: type, tmp_path: Path
) -> None:
    array = np.full((8, 7, 6), NEIGHBOURS[0], dtype)
    array[3:] = NEIGHBOURS[1]
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    nib.Nifti1Image(array, affine, dtype=dtype).to_filename(tmp_path / "labels.nii")
    like = np.random.default_rng(0).random((8, 7, 6)).astype(np.float32), affine
    shift = np.eye(4)
    shift[0, 3] = 0.25
    moved = apply(shift, tmp_path / "labels.nii", like, interpolation)
    assert not moved.values.is_floating_point()
    assert set(moved.values.unique().tolist()) == set(NEIGHBOURS)
    boundary = moved.numpy()[2:4, 3, 3].tolist()
    assert boundary == ([NEIGHBOURS[0], NEIGHBOURS[1]])
    apply_to_file(shift, tmp_path / "labels.nii", like, tmp_path / "out.nii", interpolation)
    assert nib.load(tmp_path / "out.nii").get_data_dtype() == dtype
    assert torch.equal(read_exact(tmp_path / "out.nii").values, moved.values)
    moved.save(tmp_path / "saved.nii")
    assert torch.equal(read_exact(tmp_path / "saved.nii").values, moved.values)
    assert nib.load(tmp_path / "saved.nii").get_data_dtype() == dtype


def test_any_source_of_images_and_transforms(tmp_path: Path) -> None:
    known = a_pair(3)
    fixed, moving = (read_image(source) for source in known.sources)
    expected = apply(known.truth, moving, fixed).values
    matrix = known.truth.matrix.numpy()  # type: ignore[attr-defined]
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    lps = flip @ matrix @ flip
    itk = sitk.AffineTransform(lps[:3, :3].ravel().tolist(), lps[:3, 3].tolist())
    sitk.WriteTransform(itk, str(tmp_path / "a.tfm"))
    for transform in (matrix, matrix.tolist(), itk, tmp_path / "a.tfm", str(tmp_path / "a.tfm")):
        found = apply(transform, moving.to_sitk(), fixed.to_metatensor())
        torch.testing.assert_close(found.values, expected, rtol=0, atol=1e-4)
    found = apply(matrix, (moving.numpy(), moving.affine), fixed.to_nibabel())
    torch.testing.assert_close(found.values, expected, rtol=0, atol=1e-4)
