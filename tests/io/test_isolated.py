"""Files read in a process of its own: its death, its limits, its end."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from stn3d.errors import InputError
from stn3d.io import isolated, read_image
from tests.io.cases import numbers


def test_arrays_arrive_whole(tmp_path: Path) -> None:
    array = np.random.default_rng(0).random((40, 50, 60)).astype(np.float32)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / "a.vtk"))
    got = read_image(tmp_path / "a.vtk").values[0, 0].numpy()
    np.testing.assert_array_equal(got, array.T)


def test_a_crash_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = tmp_path / "child.py"
    child.write_text("import os, signal\ninput()\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    monkeypatch.setattr(isolated, "_CHILD", child)
    (tmp_path / "a.vtk").write_bytes(b"anything")
    with pytest.raises(InputError, match=r"a\.vtk cannot be read as an image \(it is damaged\)"):
        read_image(tmp_path / "a.vtk")


def test_an_incomplete_answer_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = tmp_path / "child.py"
    child.write_text('input()\nprint(\'{"shape": [9], "dtype": "<f4"}\', flush=True)\nprint("few")')
    monkeypatch.setattr(isolated, "_CHILD", child)
    with isolated.reader("x", 0) as reader, pytest.raises(InputError, match="it is damaged"):
        reader.array(reader.ask("image", "x"))


def test_endless_reading_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = tmp_path / "child.py"
    child.write_text(
        "import resource, sys\nresource.setrlimit(resource.RLIMIT_CPU, (int(sys.argv[2]),) * 2)\n"
        "input()\nwhile True: pass\n"
    )
    monkeypatch.setattr(isolated, "_CHILD", child)
    monkeypatch.setattr(isolated, "_CPU_S", 1)
    with isolated.reader("x", 0) as reader, pytest.raises(InputError, match="cannot be read"):
        reader.ask("image", "x")


def test_the_process_has_limits_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def start(*args: object, **options: object) -> subprocess.Popen[bytes]:
        started.append(popen(*args, **options))  # type: ignore[call-overload]
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr(isolated, "free_gb", lambda: 2.0)
    with isolated.reader("x", 100_000_000) as reader:
        with pytest.raises(InputError):
            reader.ask("image", "/nowhere")
        limits = Path(f"/proc/{started[0].pid}/limits").read_text(encoding="utf8")
        words = {line[:20].strip(): line[26:].split()[0] for line in limits.splitlines()}
        assert words["Max address space"] == str(2 << 30)
        assert words["Max cpu time"] == "20"
        assert words["Max core file size"] == "0"
    assert started[0].returncode == -signal.SIGKILL
    with pytest.raises(ProcessLookupError):
        os.kill(started[0].pid, 0)


def test_formats_that_name_other_files_are_not_read(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(numbers()), str(tmp_path / "a.mhd"))
    with (
        isolated.reader("x", 0) as reader,
        pytest.raises(InputError, match="its extension does not fit its content"),
    ):
        reader.ask("image", str(tmp_path / "a.mhd"))
