"""A killed process and a full disk leave whole files, or temporary ones that a rerun ignores."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from scripts.fuzz.samples import image
from stn3d.cli.app import main
from stn3d.io import write_transform
from stn3d.transforms import Affine
from tests.helpers.paths import ROOT
from tests.helpers.training import TINY

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and limits of POSIX")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small image, the same shifted, a series of both, and a transform."""
    folder = tmp_path_factory.mktemp("inputs")
    fixed = image((24, 22, 20))
    moving = np.roll(fixed, 1, 0)
    affine = np.diag([4.0, 4, 4, 1])
    for name, array in {
        "fixed": fixed, "moving": moving, "series": np.stack([fixed, moving], axis=-1)
    }.items():  # fmt: skip
        nib.Nifti1Image(array, affine).to_filename(folder / f"{name}.nii.gz")
    write_transform(folder / "transform.h5", Affine.identity(3))
    return folder


def register(inputs: Path, out: Path) -> list[str]:
    images = [str(inputs / f"{name}.nii.gz") for name in ("fixed", "moving")]
    return ["register", *images, "--out", str(out), "--kind", "rigid", "--preset", "fast"]


def series(inputs: Path, out: Path) -> list[str]:
    return ["series", str(inputs / "series.nii.gz"), "--out", str(out)]


def apply(inputs: Path, out: Path) -> list[str]:
    out.mkdir(exist_ok=True)
    images = [str(inputs / f"{name}.nii.gz") for name in ("moving", "fixed")]
    return ["apply", str(inputs / "transform.h5"), images[0], "--like", images[1],
            "--out", str(out / "moved.nii.gz")]  # fmt: skip


def train(inputs: Path, out: Path) -> list[str]:
    pytest.importorskip("ignite")
    values = [f"{key}={json.dumps(value)}" for key, value in TINY.items()]
    return ["train", str(ROOT / "configs" / "train.yaml"), f"output_dir={out}", *values]


Command = Callable[[Path, Path], list[str]]
COMMANDS = (register, series, apply, train)


def files_in(folder: Path) -> list[Path]:
    return [one for one in folder.rglob("*") if one.is_file()]


def unfinished(folder: Path) -> list[str]:
    """Files of a folder that are neither whole nor named as temporary."""
    logs = ("events.out.tfevents", "history.jsonl")  # written line by line
    return [one.name for one in files_in(folder) if not one.name.startswith((".part-", *logs))]


KILLED = """
import os, signal, sys
from stn3d.cli.app import main

os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
main(sys.argv[1:])
"""


@pytest.mark.parametrize("command", COMMANDS)
def test_a_kill_before_the_end_leaves_temporary_files_only(
    command: Command, inputs: Path, tmp_path: Path
) -> None:
    words = command(inputs, tmp_path / "out")
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLED, *words],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert any(one.name.startswith(".part-") for one in files_in(tmp_path / "out"))
    assert unfinished(tmp_path / "out") == []
    assert main(words) in (0, 3)
    assert unfinished(tmp_path / "out") != []


@contextmanager
def full_disk(most_bytes: int) -> Iterator[None]:
    """No file of this process grows beyond a size, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_during_a_training_is_one_sentence(
    inputs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = Path.open

    def full(path: Path, *how: Any, **more: Any) -> Any:
        if path.name == "history.jsonl":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return whole(path, *how, **more)

    words = train(inputs, tmp_path / "out")
    monkeypatch.setattr(Path, "open", full)
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "cannot write the results of the training: No space left" in said
    assert "Traceback" not in said.rpartition("stn3d:")[2]


@pytest.mark.parametrize("command", [register, series, apply])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(
    command: Command, inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = command(inputs, tmp_path / "out")
    with full_disk(200):
        code = main(words)
    said = capsys.readouterr().err
    assert code == 2, said
    assert "cannot write" in said
    assert os.strerror(errno.EFBIG) in said or "space" in said
    assert unfinished(tmp_path / "out") == []
    assert [one for one in files_in(tmp_path / "out") if one.name.startswith(".part-")] == []
