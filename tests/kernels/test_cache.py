"""The folder of compiled kernels is private, and damaged files in it are replaced."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path
from typing import Any

import numba
import pytest
from numba.core import config

from stn3d.kernels.common import cache
from stn3d.kernels.common.cache import RepairingCache, cache_folder, reason_against

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="paths of Linux")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home folder, and a working folder that someone else filled."""
    for name in ("home", "data"):
        (tmp_path / name).mkdir(mode=0o755)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "data")
    return tmp_path / "home"


@pytest.mark.parametrize("given", ["", "cache", "./cache", "~/cache"])
def test_a_relative_cache_folder_is_ignored(
    given: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", given)
    path, reason = cache_folder()
    assert path is not None
    assert path.parent == home / ".cache" / "stn3d"
    assert reason == ""
    assert list(Path.cwd().iterdir()) == []


def test_a_relative_home_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "data")
    assert cache_folder() == (None, "the home folder data is not an absolute path")
    assert list(Path.cwd().iterdir()) == []


def test_the_folder_is_private_whatever_the_umask(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "a" / "b"))
    before = os.umask(0)
    try:
        path, _ = cache_folder()
    finally:
        os.umask(before)
    assert path is not None
    made = (path, path.parent, home / "a" / "b", home / "a")
    assert [one.stat().st_mode & 0o777 for one in made] == [0o700] * 4


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o702, 0o1777])
@pytest.mark.parametrize("which", ["kernels", "stn3d", "cache"])
def test_a_folder_that_others_may_write_to_is_not_used(
    which: str, mode: int, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    folder, _ = cache_folder()
    assert folder is not None
    opened = {"kernels": folder, "stn3d": folder.parent, "cache": home / "cache"}[which]
    opened.chmod(mode)
    path, reason = cache_folder()
    if mode == 0o1777 and which != "kernels":  # like /tmp: others cannot replace what is ours
        assert path == folder
    else:
        assert path is None
        assert reason == f"other users may write to {opened}; remove that right with chmod go-w"


def test_a_folder_of_another_user_is_not_used(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    folder, _ = cache_folder()
    assert folder is not None
    foreign = os.stat_result([0o40755, *folder.stat()[1:4], os.getuid() + 1, *folder.stat()[5:]])
    whole = Path.stat
    shown = home / "cache" / "stn3d"
    monkeypatch.setattr(
        Path, "stat", lambda one, **how: foreign if one == shown else whole(one, **how)
    )
    assert cache_folder() == (None, f"{shown} belongs to another user")


def test_both_sides_of_a_link_are_checked(tmp_path: Path) -> None:
    real, link = tmp_path / "open" / "real", tmp_path / "link"
    real.mkdir(parents=True, mode=0o700)
    link.symlink_to(real)
    assert reason_against(link) is None
    (tmp_path / "open").chmod(0o777)
    assert reason_against(link) is not None


def _square_plus_one(x: float) -> float:
    return x * x + 1


def _compiled(folder: Path) -> Any:
    settings: Any = config
    before, settings.CACHE_DIR = settings.CACHE_DIR, str(folder)
    try:
        function: Any = numba.njit(_square_plus_one)
        function._cache = RepairingCache(_square_plus_one)
    finally:
        settings.CACHE_DIR = before
    return function


class _Bomb:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return exec, ("raise SystemError",)


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
@pytest.mark.parametrize("damage", ["empty", "cut", "zeros", "foreign"])
def test_a_damaged_cache_is_replaced(suffix: str, damage: str, tmp_path: Path) -> None:
    assert _compiled(tmp_path)(3.0) == 10
    [file] = tmp_path.rglob(f"*{suffix}")
    whole = file.read_bytes()
    versioned = pickle.dumps(numba.__version__) if suffix == ".nbi" else b""
    file.write_bytes(
        {
            "empty": b"",
            "cut": whole[: len(whole) // 2],
            "zeros": bytes(len(whole)),
            "foreign": versioned + pickle.dumps(_Bomb()),
        }[damage]
    )
    again = _compiled(tmp_path)
    assert again(3.0) == 10
    assert not again.stats.cache_hits
    third = _compiled(tmp_path)
    assert third(3.0) == 10
    assert third.stats.cache_hits


def test_a_full_disk_ends_no_computation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numba.core.caching.IndexDataCacheFile._save_data", full)
    assert _compiled(tmp_path)(3.0) == 10


def test_a_home_that_cannot_be_written_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(folder: Path) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(cache, "_make_private", denied)
    assert cache_folder() == (None, "Read-only file system")
