"""Atomic writing of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from stn3d.errors import InputError
from stn3d.io import atomic_write, check_output


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
