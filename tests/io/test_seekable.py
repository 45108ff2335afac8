"""A gzip file read at any place: the same bytes, and no way back to the beginning."""

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
    """Of several members, the last one with rubbish behind it."""
    half = len(CONTENT) // 2
    packed = gzip.compress(CONTENT[:half]) + gzip.compress(CONTENT[half:], 1)
    (tmp_path / "a.gz").write_bytes(packed + b"rubbish")
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


def test_going_back_costs_little(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stn3d.io import seekable

    stream = SeekableGzip(path, interval=50_000)
    stream.read(len(CONTENT))
    came_out = 0
    plain = seekable._State.more

    def counted(self: seekable._State, *args: object) -> bytes:
        nonlocal came_out
        content = plain(self, *args)
        came_out += len(content)
        return content

    monkeypatch.setattr(seekable._State, "more", counted)
    for place in range(560_000, -1, -40_000):
        stream.seek(place)
        assert stream.read(40_000) == CONTENT[place : place + 40_000]
    assert came_out < 3 * len(CONTENT)  # from the beginning each time it would be eight times


def test_damage_is_told(path: Path) -> None:
    good = path.read_bytes()
    flipped = good[:1000] + bytes(byte ^ 255 for byte in good[1000:1100]) + good[1100:]
    for content in (good[:100_000], flipped, b"no gzip at all"):
        path.write_bytes(content)
        with pytest.raises(DAMAGED):
            SeekableGzip(path).read(len(CONTENT))
    path.write_bytes(good)
    with pytest.raises((EOFError, zlib.error)):
        SeekableGzip(path).read(len(CONTENT) + 1)


def test_what_it_does_not_do_is_refused(path: Path) -> None:
    stream = SeekableGzip(path)
    assert stream.readable()
    assert stream.seekable()
    with pytest.raises(ValueError, match="number of bytes"):
        stream.read()
    with pytest.raises(OSError, match="end of a gzip file is unknown"):
        stream.seek(0, 2)
