"""Random access to gzip files."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
import pytest

from stn3d.io.deflate import DAMAGED
from stn3d.io.seekable import SeekableGzip

CONTENT = np.random.default_rng(0).integers(0, 40, 600_000, dtype=np.uint8).tobytes()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of two members with trailing garbage."""
    half = len(CONTENT) // 2
    packed = gzip.compress(CONTENT[:half]) + gzip.compress(CONTENT[half:], 1)
    (tmp_path / "a.gz").write_bytes(packed + b"garbage")
    return tmp_path / "a.gz"


def test_any_part_in_any_order(path: Path) -> None:
    stream = SeekableGzip(path, interval=50_000)
    for place in (*range(0, 600_000, 70_000), *range(560_000, -1, -70_000), 299_990, 300_000):
        stream.seek(place)
        assert stream.read(40_000) == CONTENT[place : place + 40_000]
        assert stream.tell() == place + 40_000
    stream.seek(-20, 1)
    assert stream.read(10) == CONTENT[stream.tell() - 10 : stream.tell()]
    assert stream.read(0) == b""


def test_backward_seeks_do_not_restart_from_the_beginning(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stn3d.io import seekable

    stream = SeekableGzip(path, interval=50_000)
    stream.read(len(CONTENT))
    decompressed = 0
    plain = seekable._State.more

    def counted(self: seekable._State, *args: object) -> bytes:
        nonlocal decompressed
        content = plain(self, *args)
        decompressed += len(content)
        return content

    monkeypatch.setattr(seekable._State, "more", counted)
    for place in range(560_000, -1, -40_000):
        stream.seek(place)
        assert stream.read(40_000) == CONTENT[place : place + 40_000]
    assert decompressed < 3 * len(CONTENT)  # restarts from the beginning: eight times


def test_damage_raises_an_error(path: Path) -> None:
    good = path.read_bytes()
    flipped = good[:1000] + bytes(byte ^ 255 for byte in good[1000:1100]) + good[1100:]
    for content in (good[:100_000], flipped, b"no gzip at all"):
        path.write_bytes(content)
        with pytest.raises(DAMAGED):
            SeekableGzip(path).read(len(CONTENT))
    path.write_bytes(good)
    with pytest.raises((EOFError, zlib.error)):
        SeekableGzip(path).read(len(CONTENT) + 1)


def test_unsupported_operations_raise_errors(path: Path) -> None:
    stream = SeekableGzip(path)
    assert stream.readable()
    assert stream.seekable()
    with pytest.raises(ValueError, match="number of bytes"):
        stream.read()
    with pytest.raises(OSError, match="end of a gzip file is unknown"):
        stream.seek(0, 2)
