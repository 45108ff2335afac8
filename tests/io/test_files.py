"""Atomic writing of files."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from stn3d.errors import InputError
from stn3d.io import (
    atomic_write,
    check_image_path,
    check_output,
    is_stdout,
    read_image,
    refuse_inputs,
    write_image,
)
from tests.helpers.geometry_cases import oblique

POSIX = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")


def write_and_fail(path: Path, error: Exception) -> None:
    with atomic_write(path) as part:
        part.write_text("half")
        raise error


def test_file_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    with atomic_write(path) as part:
        part.write_text("half")
        assert not path.exists()
        assert part.parent == path.parent
        assert part.name.endswith("a.nii.gz")
    assert path.read_text(encoding="utf-8") == "half"
    assert list(tmp_path.iterdir()) == [path]


def test_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="in the middle"):
        write_and_fail(path, RuntimeError("in the middle"))
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_success_replaces_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with atomic_write(path) as part:
        part.write_text("new")
    assert path.read_text(encoding="utf-8") == "new"


def test_a_full_disk_gives_an_error_of_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with pytest.raises(InputError, match=r"cannot write .*a\.txt: No space left"):
        write_and_fail(path, OSError(28, "No space left on device"))
    assert list(tmp_path.iterdir()) == []


def test_paths_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"there is no folder .*missing; create it"):
        check_output(tmp_path / "missing" / "a.txt")
    with pytest.raises(InputError, match="there is no folder"):
        check_output(tmp_path / "file" / "a.txt")
    with pytest.raises(InputError, match="is a folder; give the path"):
        check_output(tmp_path)
    assert check_output(str(tmp_path / "a.txt")) == tmp_path / "a.txt"


def test_read_only_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)  # for root every folder is writable
    with (
        pytest.raises(InputError, match="is not writable; choose another"),
        atomic_write(tmp_path / "a"),
    ):
        pytest.fail("the body must not run")


@pytest.mark.parametrize(
    ("name", "reason"),
    [("a" * 300, "File name too long"), ("a\0b", "no file can have this name"),
     ("b/" * 3000 + "c", "File name too long"), ("\ud800", "no file can have this name")],
)  # fmt: skip
def test_names_that_no_file_can_have(name: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"cannot write .*{reason}; choose another") as raised:
        check_output(tmp_path / name)
    assert len(str(raised.value)) < 500


@pytest.mark.parametrize("name", ["a" * 248 + ".nii.gz", "é" * 125 + ".csv", "漢" * 83 + ".txt"])
def test_the_longest_names_can_be_written(name: str, tmp_path: Path) -> None:
    with atomic_write(tmp_path / name) as part:
        assert part.name.endswith(name[-5:])
        part.write_text("whole")
    assert [one.name for one in tmp_path.iterdir()] == [name]


# -- links, pipes, devices ------------------------------------------------------------------------


def write(path: str | Path, text: str) -> None:
    with atomic_write(path) as part:
        part.write_text(text)


@pytest.mark.parametrize("relative", [False, True])
def test_links_are_written_through(tmp_path: Path, relative: bool) -> None:
    (tmp_path / "data").mkdir()
    target = tmp_path / "data" / "blob"
    target.write_text("old")
    link, other = tmp_path / "a.txt", tmp_path / "b.txt"
    link.symlink_to("data/blob" if relative else target)
    other.symlink_to(link)
    write(other, "new")
    assert target.read_text(encoding="utf-8") == "new"
    assert link.is_symlink()
    assert other.is_symlink()
    assert list(target.parent.iterdir()) == [target]
    with pytest.raises(RuntimeError, match="half"):
        write_and_fail(link, RuntimeError("half"))
    assert target.read_text(encoding="utf-8") == "new"


def test_a_link_to_nothing_makes_its_target(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    write(tmp_path / "a", "new")
    assert (tmp_path / "b").read_text(encoding="utf-8") == "new"
    (tmp_path / "c").symlink_to("missing/d")
    with pytest.raises(InputError, match=r"cannot write .*c: there is no folder .*missing"):
        check_output(tmp_path / "c")
    (tmp_path / "e").symlink_to("e")
    with pytest.raises(InputError, match="its links lead in a circle"):
        check_output(tmp_path / "e")
    (tmp_path / "f").symlink_to(".")
    with pytest.raises(InputError, match="it is a folder"):
        check_output(tmp_path / "f")


def test_permissions_stay_and_write_protected_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    path.chmod(0o640)
    write(path, "new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    path.chmod(0o444)
    (tmp_path / "link").symlink_to(path)
    for name in (path, tmp_path / "link"):
        with pytest.raises(InputError, match="the file is write-protected; give another path"):
            write(name, "newer")
    assert path.read_text(encoding="utf-8") == "new"


def reader(path: Path, found: list[bytes]) -> threading.Thread:
    thread = threading.Thread(target=lambda: found.append(path.read_bytes()))
    thread.start()
    return thread


@POSIX
def test_pipes_receive_the_content_and_stay(tmp_path: Path) -> None:
    pipe, link, found = tmp_path / "a.txt", tmp_path / "link", list[bytes]()
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    thread = reader(pipe, found)
    write(link, "all")
    thread.join(timeout=20)
    assert found == [b"all"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert sorted(tmp_path.iterdir()) == [pipe, link]


@POSIX
@pytest.mark.parametrize(("name", "start"), [("a.nii", b"\x5c\x01"), ("a.nii.gz", b"\x1f\x8b")])
def test_images_go_into_pipes(tmp_path: Path, name: str, start: bytes) -> None:
    grid, found = oblique(3), list[bytes]()
    image = read_image((torch.rand(grid.shape), grid))
    pipe = tmp_path / name
    os.mkfifo(pipe)
    thread = reader(pipe, found)
    write_image(pipe, image.values, image)
    thread.join(timeout=20)
    assert found[0].startswith(start)
    (tmp_path / f"file_{name}").write_bytes(found[0])
    assert torch.equal(read_image(tmp_path / f"file_{name}").values, image.values)


@POSIX
def test_a_pipe_without_extension_is_nifti(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert check_image_path(tmp_path / "pipe") == tmp_path / "pipe"
    with pytest.raises(InputError, match="use one of the extensions"):
        check_image_path(tmp_path / "file")


def device(kind: int) -> Callable[..., os.stat_result]:
    """`os.stat` for which the file `device` is one."""
    real = os.stat

    def fake(path: object, *args: object, **kwargs: object) -> os.stat_result:
        found = real(path, *args, **kwargs)  # type: ignore[call-overload]
        if str(path).endswith("device"):
            return os.stat_result((kind | 0o666, *found[1:]))
        return found

    return fake


@pytest.mark.parametrize(
    ("kind", "name"),
    [(stat.S_IFCHR, "a device"), (stat.S_IFBLK, "a device"), (stat.S_IFSOCK, "a socket")],
)
def test_devices_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: int, name: str
) -> None:
    (tmp_path / "device").write_text("old")
    (tmp_path / "link").symlink_to("device")
    monkeypatch.setattr(os, "stat", device(kind))
    for path in (tmp_path / "device", tmp_path / "link"):
        with pytest.raises(InputError, match=f"cannot write .*: it is {name}; give the path"):
            check_output(path)
        with pytest.raises(InputError, match=f"it is {name}"):
            write(path, "new")
    monkeypatch.undo()
    assert (tmp_path / "device").read_text(encoding="utf-8") == "old"


SCRIPT = """
import sys
from stn3d.io import atomic_write
with atomic_write(sys.argv[1]) as part:
    part.write_text("all")
"""


@POSIX
@pytest.mark.parametrize("name", ["-", "/dev/stdout", "/proc/self/fd/1", "link"])
@pytest.mark.parametrize("into", ["pipe", "file"])
def test_stdout(tmp_path: Path, name: str, into: str) -> None:
    if name != "-" and not Path("/proc/self/fd/1").exists():
        pytest.skip("no open files by name")
    if name == "link":
        (tmp_path / "link").symlink_to("/dev/stdout")
    with (tmp_path / "file").open("wb") as file:
        ended = subprocess.run(
            [sys.executable, "-c", SCRIPT, name],
            stdout=subprocess.PIPE if into == "pipe" else file,
            cwd=tmp_path,
            timeout=60,
            check=True,
        )
    assert (ended.stdout or (tmp_path / "file").read_bytes()) == b"all"
    left = {"file", "link"} if name == "link" else {"file"}
    assert {path.name for path in tmp_path.iterdir()} == left


def test_stdout_has_several_names(tmp_path: Path) -> None:
    assert is_stdout("-")
    assert not is_stdout(tmp_path / "a")


# -- outputs that are inputs ----------------------------------------------------------------------


def test_outputs_that_are_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    given = tmp_path / "in" / "a.nii"
    given.write_text("input")
    Path("soft").symlink_to(given)
    Path("hard").hardlink_to(given)
    Path("folder").symlink_to("in")
    same = (given, "in/a.nii", "in/../in/a.nii", "soft", "hard", "folder/a.nii", "./soft")
    for output in same:
        for inputs in ([given], [None, 3, "b"], [[(given,)]], ["in"], ["folder"]):
            if inputs[0] is None:
                refuse_inputs([Path(output)], inputs)
            elif Path(output).parent.name not in ("in", "folder") and inputs[0] in ("in", "folder"):
                continue  # a link elsewhere to a file of an input folder
            else:
                with pytest.raises(InputError, match=r"cannot write .*: it is an input of this"):
                    refuse_inputs([Path("b"), Path(output)], inputs)
    refuse_inputs([Path("in/new"), Path("b")], [given, "in", "missing"])
