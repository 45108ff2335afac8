"""Compression with and without ISA-L: other readers, equal bytes, damaged files."""

from __future__ import annotations

import gzip
import importlib.util
import sys
import zlib
from pathlib import Path
from types import ModuleType

import pytest

from stn3d.io import deflate

CONTENT = b"".join(n.to_bytes(2, "little") for n in range(30000)) + bytes(100000)


@pytest.fixture(params=["isal", "zlib"])
def module(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module with and without the package isal."""
    if request.param == "isal":
        pytest.importorskip("isal")
        return deflate
    monkeypatch.setitem(sys.modules, "isal", None)
    spec = importlib.util.spec_from_file_location("deflate_by_zlib", deflate.__file__)
    assert spec is not None
    assert spec.loader is not None
    without = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(without)
    return without


def test_the_standard_library_reads_it(module: ModuleType) -> None:
    packed = module.deflated(CONTENT, "zlib"), module.deflated(memoryview(CONTENT), "gzip")
    assert zlib.decompress(packed[0]) == CONTENT
    assert gzip.decompress(packed[1]) == CONTENT
    assert max(map(len, packed)) < len(CONTENT) / 2
    assert gzip.decompress(module.deflated(b"", "gzip")) == b""


def test_the_header_has_no_time_stamp(module: ModuleType) -> None:
    packed = module.deflated(CONTENT, "gzip")
    assert packed[4:8] == bytes(4)
    assert packed == module.deflated(CONTENT, "gzip")


def test_gzip_files_of_other_tools_are_read(module: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(CONTENT[:500]) + gzip.compress(CONTENT[500:], 9))
    with module.open_gzip(path) as stream:
        stream.seek(300)
        assert stream.read() == CONTENT[300:]


def test_damaged_files_raise_listed_exceptions(module: ModuleType, tmp_path: Path) -> None:
    path, good = tmp_path / "a.gz", gzip.compress(CONTENT)
    spoilt = good[:1000] + bytes(byte ^ 255 for byte in good[1000:1100]) + good[1100:]
    for content in (good[:-50], spoilt, b"no gzip at all"):
        path.write_bytes(content)
        with pytest.raises(module.DAMAGED), module.open_gzip(path) as stream:
            stream.read()
