"""Bad input through the command line: one sentence, exit code 2, and nothing left behind."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import pytest
import torch

from stn3d.cli import main
from stn3d.grid import Grid, homogeneous
from stn3d.io import write_transform
from stn3d.transforms import Affine, DisplacementField

SHAPE = (9, 8, 7)
AFFINE = np.diag([-2.0, 2.0, 3.0, 1.0])


def ball(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """A bright ball with some texture, float32."""
    index = np.indices(shape).astype(np.float32)
    middle = (np.array(shape, np.float32) - 1).reshape(-1, *[1] * len(shape)) / 2
    distance = np.sqrt(np.square((index - middle) / (middle + 1)).sum(0))
    return (np.maximum(1 - distance, 0) * (2 + np.sin(index.sum(0)))).astype(np.float32)


def nifti(path: Path, array: np.ndarray, affine: np.ndarray | None = AFFINE) -> Path:
    nib.Nifti1Image(array, affine, dtype=array.dtype).to_filename(path)
    return path


def patched(path: Path, fields: dict[str, Any]) -> Path:
    """A good image whose stored header then gets other values, past all that nibabel mends."""
    nifti(path, ball())
    raw = bytearray(gzip.decompress(path.read_bytes()))
    header = np.frombuffer(raw, nib.nifti1.header_dtype, 1)
    for key, value in fields.items():
        header[key][0] = value
    path.write_bytes(gzip.compress(bytes(raw)))
    return path


def damaged(good: np.ndarray, value: float) -> np.ndarray:
    bad = good.copy()
    bad[3, 3, 3] = value
    return bad


def truncated(path: Path) -> None:
    noise = np.random.default_rng(0).random((20, 20, 20)).astype(np.float32)
    whole = nifti(path, noise).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def far_away() -> np.ndarray:
    affine = AFFINE.copy()
    affine[:3, 3] = 1000
    return affine


def make_files(folder: Path) -> None:
    """Good and bad files of every kind, small enough for all to be made."""
    good, labels = ball(), (ball() > 0.4).astype(np.uint8)
    for name, array in {
        "good": good,
        "other": np.roll(good, 1, 0),
        "constant": np.full_like(good, 7),
        "zeros": np.zeros_like(good),
        "nan": damaged(good, np.nan),
        "inf": damaged(good, np.inf),
        "plane": ball((9, 8)),
        "series": np.stack([good, good], axis=-1),
        "vectors": np.stack([good] * 3, axis=-1).reshape(*SHAPE, 1, 3),
        "complex": good.astype(np.complex64),
        "labels": labels,
        "fractions": labels * np.float32(0.5),
        "negative": -labels.astype(np.int16),
        "elsewhere": labels[1:],
    }.items():
        nifti(folder / f"{name}.nii.gz", array)
    nifti(folder / "shifted.nii.gz", labels, AFFINE + np.eye(4, k=3))
    nifti(folder / "far.nii.gz", good, far_away())
    zeros = [0.0, 0.0, 0.0, 0.0]
    rows = {"srow_x": zeros, "srow_y": zeros, "srow_z": zeros}
    patched(folder / "zero_affine.nii.gz", {"sform_code": 1, **rows})
    line = [1.0, 1.0, 1.0, 0.0]
    rows = {"srow_x": line, "srow_y": line, "srow_z": [0.0, 0.0, 1.0, 0.0]}
    patched(folder / "singular.nii.gz", {"sform_code": 1, **rows})
    patched(folder / "nan_affine.nii.gz", {"sform_code": 1, "srow_x": [np.nan] * 4})
    (folder / "empty.nii.gz").write_bytes(b"")
    (folder / "text.nii.gz").write_text("this is no image\n")
    (folder / "text.mha").write_text("this is no image\n")
    (folder / "folder").mkdir()
    truncated(folder / "truncated.nii.gz")
    make_other_files(folder)


def make_other_files(folder: Path) -> None:
    """Transforms, tables and configs."""
    for d in (2, 3):
        write_transform(folder / f"affine{d}.h5", Affine.identity(d))
    grid = Grid(SHAPE, torch.from_numpy(AFFINE))
    bend = DisplacementField(
        torch.rand(1, 3, *SHAPE, generator=torch.Generator().manual_seed(0)), grid
    )
    whole = folder / "bend.h5"
    write_transform(whole, bend)
    (folder / "truncated.h5").write_bytes(whole.read_bytes()[:2000])
    full = whole.read_bytes()
    for name, at in (("corrupt.h5", 1000), ("corrupt_end.h5", len(full) - 500)):
        (folder / name).write_bytes(full[:at] + bytes(400) + full[at + 400 :])
    with h5py.File(folder / "foreign.h5", "w") as file:
        file["numbers"] = np.arange(5)
    (folder / "text.h5").write_text("this is no transform\n")
    (folder / "text.tfm").write_text("this is no transform\n")
    (folder / "text.mat").write_text("this is no transform\n")
    away = homogeneous(torch.eye(3).double(), torch.tensor([5000.0, 0, 0]).double())
    write_transform(folder / "away.h5", Affine.from_matrix(away))
    for name, text in {
        "points.csv": "x,y,z\n1,2,3\n4,5,6\n",
        "points2.csv": "x,y\n1,2\n",
        "one.csv": "x,y,z\n1,2,3\n",
        "columns.csv": "a,b,c\n1,2,3\n",
        "headless.csv": "1,2,3\n4,5,6\n",
        "words.csv": "x,y,z\n1,two,3\n",
        "short.csv": "x,y,z\n1,2,3\n4,5\n",
        "no_rows.csv": "x,y,z\n",
        "empty.csv": "",
        "misspelt.yaml": "knd: rigid\n",
        "misspelt_inside.yaml": "deformable:\n  iteration: [3]\n",
        "wrong.yaml": "seed: many\n",
        "broken.yaml": "kind: [rigid\n",
        "list.yaml": "- rigid\n",
        "kind.yaml": "kind: ridgid\n",
    }.items():
        (folder / name).write_text(text)


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    make_files(folder)
    return folder


@pytest.fixture
def refused(
    bad: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[[str], str]:
    """Run a command among the bad files; the one sentence that it ends with, all else checked."""

    def run(command: str) -> str:
        monkeypatch.chdir(bad)
        before = {path: path.stat().st_mtime_ns for path in bad.rglob("*")}
        capfd.readouterr()
        code = main([word.replace("NEW", str(tmp_path)) for word in command.split()])
        out, err = capfd.readouterr()
        lines = err.splitlines()
        notes = [line for line in lines if line.startswith("note: ")]
        assert code == 2, err
        assert out == ""
        assert len(lines) == 1 + len(notes), err
        assert lines[-1].startswith("stn3d: ")
        assert lines[-1].endswith((".", "?"))
        assert list(tmp_path.rglob("*")) == [], "something was left in the output's place"
        assert {path: path.stat().st_mtime_ns for path in bad.rglob("*")} == before
        return lines[-1]

    return run


# What is wrong; the words that say what and where; the words that say what to do.
IMAGES = {
    "missing.nii.gz": ("there is no {role} image missing.nii.gz", "check the path"),
    "text.nii.gz": ("text.nii.gz cannot be read as an image", "check that it is complete"),
    "text.mha": ("text.mha cannot be read as an image", "check that it is complete"),
    "affine3.h5": ("affine3.h5 cannot be read as an image", "convert it to .nii.gz"),
    "empty.nii.gz": ("empty.nii.gz cannot be read as an image", "check that it is complete"),
    "truncated.nii.gz": ("truncated.nii.gz ends too early or is damaged", "again"),
    "folder": ("the folder folder holds no DICOM series", "give an image file"),
    "constant.nii.gz": ("constant.nii.gz is constant (every voxel is 7)", "give another"),
    "zeros.nii.gz": ("zeros.nii.gz is constant (every voxel is 0)", "give another"),
    "nan.nii.gz": ("nan.nii.gz has NaN or Inf in 1 of 504 voxels", "replace them"),
    "inf.nii.gz": ("inf.nii.gz has NaN or Inf in 1 of 504 voxels", "replace them"),
    "zero_affine.nii.gz": ("zero_affine.nii.gz", "mend its header"),
    "singular.nii.gz": ("singular.nii.gz: the image's affine is singular", "mend its header"),
    "nan_affine.nii.gz": ("nan_affine.nii.gz", "mend its header"),
    "series.nii.gz": ("series.nii.gz holds 2 volumes", "--{role}-volume N"),
    "vectors.nii.gz": ("vectors.nii.gz holds a vector in each voxel", "save one component"),
    "complex.nii.gz": ("complex.nii.gz holds complex numbers", "save its magnitude"),
}


@pytest.mark.parametrize("role", ["fixed", "moving"])
@pytest.mark.parametrize("name", IMAGES)
def test_images(refused: Callable[[str], str], name: str, role: str) -> None:
    pair = {"fixed": "good.nii.gz", "moving": "other.nii.gz"} | {role: name}
    sentence = refused(f"register {pair['fixed']} {pair['moving']} --out NEW/out")
    for words in IMAGES[name]:
        assert words.format(role=role) in sentence


def test_images_of_evaluate(refused: Callable[[str], str]) -> None:
    sentence = refused("evaluate --fixed good.nii.gz --moving series.nii.gz --out NEW/a.json")
    assert "series.nii.gz holds 2 volumes; choose one with --moving-volume N" in sentence


REGISTER = {
    # the pair
    "good plane": ("plane.nii.gz is 2D", "give two images of one dimension"),
    "good far --init header": (
        "good.nii.gz and far.nii.gz do not overlap under the initial transform (header)",
        "use --init auto",
    ),
    "good other --init away.h5": ("good.nii.gz and other.nii.gz do not overlap", "--init"),
    "good other --fixed-volume 1": ("good.nii.gz has no volume 1", "it holds 1"),
    "good series --moving-volume 2": ("series.nii.gz has no volume 2", "it holds 2"),
    # masks and labels
    "good other --fixed-mask gone.nii.gz": ("no fixed mask gone.nii.gz", "check the path"),
    "good other --fixed-mask zeros.nii.gz": ("fixed mask zeros.nii.gz is empty", "mark"),
    "good other --moving-mask nan.nii.gz": ("moving mask nan.nii.gz has NaN", "replace"),
    "good other --fixed-mask elsewhere.nii.gz": (
        "fixed mask elsewhere.nii.gz is on another grid than good.nii.gz: (8, 8, 7) voxels "
        "against (9, 8, 7)",
        "resample to its grid",
    ),
    "good other --moving-mask shifted.nii.gz": (
        "moving mask shifted.nii.gz is on another grid than other.nii.gz",
        "resample to its grid",
    ),
    "good other --fixed-mask plane.nii.gz": ("plane.nii.gz", "another grid"),
    "good other --fixed-mask series.nii.gz": ("series.nii.gz holds 2 volumes", "save the one"),
    "good other --fixed-labels labels.nii.gz": (
        "only fixed labels are given",
        "give --moving-labels too",
    ),
    "good other --moving-labels labels.nii.gz": (
        "only moving labels are given",
        "give --fixed-labels too",
    ),
    "good other --fixed-labels labels.nii.gz --moving-labels fractions.nii.gz": (
        "the moving labels fractions.nii.gz hold fractions, the first is 0.5",
        "give whole numbers",
    ),
    "good other --fixed-labels negative.nii.gz --moving-labels labels.nii.gz": (
        "the fixed labels negative.nii.gz hold negative numbers",
        "give labels from 0 upward",
    ),
    "good other --fixed-labels shifted.nii.gz --moving-labels labels.nii.gz": (
        "the fixed labels shifted.nii.gz are on another grid than good.nii.gz",
        "resample to its grid",
    ),
    "good other --fixed-labels zeros.nii.gz --moving-labels labels.nii.gz": (
        "zeros.nii.gz hold nothing but 0",
        "give a map with labels",
    ),
    # settings
    "good other --kind ridgid": ("the kind 'ridgid' is unknown", "did you mean rigid?"),
    "good other --metric ncd": ("the metric 'ncd' is unknown", "did you mean ncc?"),
    "good other --preset quick": ("the preset 'quick' is unknown", "Known: fast,"),
    "good other --device tpu": ("the device 'tpu' is unknown", "Known: auto, cpu, cuda"),
    "good other --threads 0": ("threads is 0", "give at least 1"),
    "good other --threads -2": ("threads is -2", "give a whole number"),
    "good other --threads two": ("invalid value for '--threads'", "valid int"),
    "good other --seed -1": ("seed is -1", "not negative"),
    "good other --init centers": ("--init centers is neither a file nor one of", "centres"),
    "good other --init affine2.h5": ("(--init) is 2D and the images are 3D", "give one"),
    "good other --init text.tfm": ("text.tfm cannot be read as a transform", "give an ITK"),
    "good other --config gone.yaml": ("there is no config gone.yaml", "check the path"),
    "good other --config misspelt.yaml": ("unknown setting knd", "did you mean kind?"),
    "good other --config misspelt_inside.yaml": (
        "unknown setting deformable.iteration",
        "did you mean deformable.iterations?",
    ),
    "good other --config wrong.yaml": ("the setting seed is 'many'", "give a whole number"),
    "good other --config kind.yaml": ("the kind 'ridgid' is unknown", "did you mean rigid?"),
    "good other --config broken.yaml": ("broken.yaml cannot be read as YAML or JSON", ""),
    "good other --config list.yaml": ("list.yaml holds no keys", "write lines such as"),
    # what the parser refuses
    "good other --knid rigid": ("no such option: --knid", "--kind"),
    "good": ("missing argument 'MOVING'", "register --help"),
    "good other another": ("unexpected extra argument", "another.nii.gz"),
}


def with_extensions(options: str) -> str:
    """The images at the front are all NIfTI files."""
    words = options.split()
    count = next((n for n, word in enumerate(words) if word.startswith("--")), len(words))
    return " ".join([*(f"{word}.nii.gz" for word in words[:count]), *words[count:]])


@pytest.mark.parametrize("options", REGISTER)
def test_register(refused: Callable[[str], str], options: str) -> None:
    sentence = refused(f"register --out NEW/deep/out {with_extensions(options)}")
    for words in REGISTER[options]:
        assert words in sentence


OUTPUTS = {
    "register good.nii.gz other.nii.gz": ("missing option '--out'", "register --help"),
    "register good.nii.gz other.nii.gz --out points.csv": (
        "cannot make the folder points.csv: File exists",
        "give another --out",
    ),
    "register good.nii.gz other.nii.gz --out points.csv/out": (
        "cannot make the folder points.csv/out: Not a directory",
        "give another --out",
    ),
    "apply affine3.h5 good.nii.gz --like good.nii.gz --out NEW/moved.jpg": (
        "moved.jpg",
        "end its name in one of .nii, .nii.gz",
    ),
    "apply affine3.h5 good.nii.gz --like good.nii.gz --out NEW/gone/moved.nii": (
        "there is no folder",
        "create it first",
    ),
    "apply affine3.h5 good.nii.gz --like good.nii.gz --out points.csv/moved.nii": (
        "there is no folder points.csv",
        "create it first",
    ),
    "apply affine3.h5 good.nii.gz --like good.nii.gz": ("missing option '--out'", "apply --help"),
    "points affine3.h5 points.csv --out NEW/gone/out.csv": ("there is no folder", "create it"),
    "points affine3.h5 points.csv --out folder": ("folder: it is a folder", "name a file in it"),
    "evaluate --fixed good.nii.gz --moving other.nii.gz --out points.csv/a.json": (
        "cannot write points.csv/a.json",
        "create it first",
    ),
    "demo --out points.csv/out": ("cannot make the folder points.csv/out", "give another --out"),
    "regster good.nii.gz other.nii.gz --out NEW/out": ("no such command 'regster'", "register"),
}


@pytest.mark.parametrize("command", OUTPUTS)
def test_outputs(refused: Callable[[str], str], command: str) -> None:
    sentence = refused(command)
    for words in OUTPUTS[command]:
        assert words in sentence


APPLY = {
    "gone.h5 good.nii.gz": ("there is no transform file gone.h5", "check the path"),
    "text.h5 good.nii.gz": ("text.h5 cannot be read as a transform", "give an ITK transform"),
    "text.tfm good.nii.gz": ("text.tfm cannot be read as a transform", "give an ITK transform"),
    "text.mat good.nii.gz": ("text.mat cannot be read as a transform", "give an ITK transform"),
    "corrupt.h5 good.nii.gz": ("corrupt.h5 cannot be read as a transform", "give an ITK"),
    "corrupt_end.h5 good.nii.gz": ("corrupt_end.h5 cannot be read as a", "that is complete"),
    "foreign.h5 good.nii.gz": ("foreign.h5 cannot be read as a transform", "give an ITK"),
    "truncated.h5 good.nii.gz": ("truncated.h5 cannot be read as a", "that is complete"),
    "good.nii.gz good.nii.gz": ("good.nii.gz cannot be read as a transform", "give an ITK"),
    "folder good.nii.gz": ("there is no transform file folder", "check the path"),
    "affine3.h5 gone.nii.gz": ("there is no image gone.nii.gz", "check the path"),
    "affine3.h5 plane.nii.gz": ("plane.nii.gz is 2D and the transform", "dimension"),
    "affine2.h5 good.nii.gz": ("good.nii.gz is 3D and the transform", "dimension"),
    "affine3.h5 series.nii.gz --volume 2": ("has no volume 2", "it holds 2, counted from 0"),
    "affine3.h5 nan.nii.gz": ("nan.nii.gz has NaN or Inf", "replace them"),
    "affine3.h5 good.nii.gz --interpolation cubik": (
        "the interpolation 'cubik' is unknown",
        "did you mean cubic?",
    ),
    "affine3.h5 good.nii.gz --interpolation label": ("good.nii.gz hold fractions", "whole"),
}


@pytest.mark.parametrize("options", APPLY)
def test_apply(refused: Callable[[str], str], options: str) -> None:
    sentence = refused(f"apply {options} --like good.nii.gz --out NEW/moved.nii.gz")
    for words in APPLY[options]:
        assert words in sentence


def test_apply_like(refused: Callable[[str], str]) -> None:
    onto = "--like plane.nii.gz --out NEW/moved.nii.gz"
    assert "plane.nii.gz is 2D" in refused(f"apply affine3.h5 good.nii.gz {onto}")
    onto = "--like gone.nii.gz --out NEW/moved.nii.gz"
    assert "gone.nii.gz; check the path" in refused(f"apply affine3.h5 good.nii.gz {onto}")


POINTS = {
    "affine3.h5 gone.csv": ("no file of points gone.csv", "check the path"),
    "affine3.h5 columns.csv": ("columns.csv, line 1", "must begin with x,y,z"),
    "affine3.h5 headless.csv": ("headless.csv, line 1", "must begin with x,y,z"),
    "affine3.h5 empty.csv": ("empty.csv, line 1", "must begin with x,y,z"),
    "affine3.h5 words.csv": ("words.csv, line 2: 1,two,3", "give millimetres"),
    "affine3.h5 short.csv": ("short.csv, line 3: 2 columns", "mend the row"),
    "affine3.h5 no_rows.csv": ("no_rows.csv holds no points", "add some"),
    "affine3.h5 good.nii.gz": ("good.nii.gz is no text", "give points as CSV"),
    "affine3.h5 points2.csv": ("points2.csv holds 2D points", "the transform's dimension"),
    "affine2.h5 points.csv": ("points.csv holds 3D points", "the transform's dimension"),
    "text.h5 points.csv": ("text.h5 cannot be read as a transform", "give an ITK transform"),
}


@pytest.mark.parametrize("options", POINTS)
def test_points(refused: Callable[[str], str], options: str) -> None:
    sentence = refused(f"points {options} --out NEW/out.csv")
    for words in POINTS[options]:
        assert words in sentence


EVALUATE = {
    "--transform affine2.h5": ("affine2.h5 is 2D and the images are 3D", "dimension"),
    "--transform truncated.h5": ("truncated.h5 cannot be read as a transform", "complete"),
    "--inverse affine2.h5": ("affine2.h5 is 2D and the images are 3D", "dimension"),
    "--true-transform affine2.h5": ("affine2.h5 is 2D and the images are 3D", "dimension"),
    "--fixed-points points.csv": ("only fixed points are given", "--moving-points too"),
    "--moving-points points.csv": ("only moving points are given", "--fixed-points too"),
    "--fixed-points points.csv --moving-points one.csv": (
        "points.csv holds 2 points and one.csv 1",
        "the same landmarks in both",
    ),
    "--fixed-points points.csv --moving-points points2.csv": ("points2.csv holds 2D", "dimension"),
    "--fixed-labels labels.nii.gz": ("only fixed labels are given", "--moving-labels too"),
    "--fixed-labels labels.nii.gz --moving-labels fractions.nii.gz": (
        "fractions.nii.gz hold fractions",
        "give whole numbers",
    ),
    "--fixed-mask elsewhere.nii.gz": ("elsewhere.nii.gz is on another grid", "resample"),
    "--fixd-mask labels.nii.gz": ("no such option: --fixd-mask", "--fixed-mask"),
}


@pytest.mark.parametrize("options", EVALUATE)
def test_evaluate(refused: Callable[[str], str], options: str) -> None:
    pair = "--fixed good.nii.gz --moving other.nii.gz"
    sentence = refused(f"evaluate {pair} {options} --out NEW/figures.json")
    for words in EVALUATE[options]:
        assert words in sentence


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_no_cuda_device(refused: Callable[[str], str]) -> None:
    sentence = refused("register good.nii.gz other.nii.gz --out NEW/out --device cuda")
    assert "--device cuda" in sentence
    assert "use cpu or auto" in sentence


def test_earlier_results_stay(bad: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    earlier = tmp_path / "out" / "moved.nii.gz"
    earlier.parent.mkdir()
    earlier.write_bytes(b"of an earlier run")
    pair = [str(bad / "good.nii.gz"), str(bad / "nan.nii.gz")]
    assert main(["register", *pair, "--out", str(earlier.parent)]) == 2
    assert earlier.read_bytes() == b"of an earlier run"
    assert [path.name for path in earlier.parent.iterdir()] == ["moved.nii.gz"]
