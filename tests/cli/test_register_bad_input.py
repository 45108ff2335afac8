"""Bad input to `stn3d register`: one sentence, exit code 2, and nothing left behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from stn3d.cli import main

# What is wrong; the words that say what and where; the words that say what to do.
IMAGES = {
    "missing.nii.gz": ("there is no {role} image missing.nii.gz", "check the path"),
    "text.nii.gz": ("text.nii.gz cannot be read as an image", "check that it is complete"),
    "text.mha": ("text.mha cannot be read as an image", "check that it is complete"),
    "affine3.h5": ("affine3.h5 cannot be read as an image", "convert it to .nii.gz"),
    "empty.nii.gz": ("empty.nii.gz cannot be read as an image", "check that it is complete"),
    "truncated.nii.gz": ("truncated.nii.gz is truncated or damaged", "again"),
    "folder": ("the folder folder holds no DICOM series", "give an image file"),
    "constant.nii.gz": ("constant.nii.gz is constant (every voxel is 7)", "give another"),
    "zeros.nii.gz": ("zeros.nii.gz is constant (every voxel is 0)", "give another"),
    "nan.nii.gz": ("nan.nii.gz has NaN or Inf in 1 of 504 voxels", "replace them"),
    "inf.nii.gz": ("inf.nii.gz has NaN or Inf in 1 of 504 voxels", "replace them"),
    "zero_affine.nii.gz": ("zero_affine.nii.gz", "correct its header"),
    "singular.nii.gz": ("singular.nii.gz: the image's affine is singular", "correct its header"),
    "nan_affine.nii.gz": ("nan_affine.nii.gz", "correct its header"),
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
    "good other --fixed-mask zeros.nii.gz": ("fixed mask zeros.nii.gz is empty", "give a mask"),
    "good other --moving-mask nan.nii.gz": ("moving mask nan.nii.gz has NaN", "replace"),
    "good other --fixed-mask elsewhere.nii.gz": (
        "fixed mask elsewhere.nii.gz is on another grid than good.nii.gz: (8, 8, 7) voxels "
        "against (9, 8, 7)",
        "resample to that grid",
    ),
    "good other --moving-mask shifted.nii.gz": (
        "moving mask shifted.nii.gz is on another grid than other.nii.gz",
        "resample to that grid",
    ),
    "good other --fixed-mask plane.nii.gz": ("plane.nii.gz", "another grid"),
    "good other --fixed-mask series.nii.gz": ("series.nii.gz holds 2 volumes", "save the volume"),
    "good other --fixed-labels labels.nii.gz": (
        "only fixed labels are given",
        "give --moving-labels too",
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
        "resample to that grid",
    ),
    "good other --fixed-labels zeros.nii.gz --moving-labels labels.nii.gz": (
        "zeros.nii.gz hold only 0",
        "give a map with at least one label",
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
    "good other --init text.tfm": ("text.tfm cannot be read as a transform", "give a complete"),
    "good other --estimator network": (
        "--estimator network needs a trained deformable network, and stn3d includes none",
        "give one as --deformable-weights FILE (stn3d train makes it, see docs/training.md), or "
        "use --estimator optimiser",
    ),
    "gone other --config both.yaml": (  # before any image is read
        "--estimator both needs a trained deformable network",
        "--deformable-weights FILE",
    ),
    "good other --estimator network --deformable-weights gone.safetensors": (
        "the weight file gone.safetensors does not exist",
        "check the path",
    ),
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
