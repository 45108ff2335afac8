"""The memory that may be used."""

from __future__ import annotations

import pytest

from stn3d.errors import InputError
from stn3d.memory import limit as module
from stn3d.memory.limit import (
    allowed_gb,
    available_gb,
    memory_limit,
    memory_shortage,
    require_memory,
)

GIGA_FLOATS = 2**30 / 4


def test_a_limit_counts_what_the_process_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "free_gb", lambda: 100.0)
    monkeypatch.setattr(module, "resident_gb", lambda: 0.5)
    assert available_gb() == 80
    with memory_limit(2.0):
        assert available_gb() == 1.5
        assert memory_shortage(1.4 * GIGA_FLOATS) is None
        assert memory_shortage(1.6 * GIGA_FLOATS) == "about 1.6 GB, and 1.5 GB are available"
        with pytest.raises(InputError, match=r"a field needs about 1e\+04 GB, .*; crop it\.$"):
            require_memory(1e4 * GIGA_FLOATS, "a field", "crop it")
    assert available_gb() == 80


def test_free_memory_limits_where_no_limit_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "free_gb", lambda: 10.0)
    assert allowed_gb(None) == (8.0, "80% of the free memory")
    assert allowed_gb(3.0) == (3.0, "by --max-memory")
    with memory_limit(1e6):
        assert available_gb() == 8.0
    monkeypatch.setattr(module, "free_gb", lambda: None)
    assert available_gb() is None
    assert memory_shortage(1e30) is None
