"""State files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

pytest.importorskip("ignite")

from stn3d.errors import InputError
from stn3d.train import (
    load_state,
    read_record,
    save_state,
)


class Twin:
    """An object whose state has values of every kind."""

    def __init__(self, value: float) -> None:
        self.state: dict[Any, Any] = {
            0: {"step": torch.tensor(value), "moments": torch.full((2, 3), value)},
            "lr": value,
            "betas": [0.9, 0.999],
            "flags": [True, None, "text", math.inf],
        }

    def state_dict(self) -> dict[Any, Any]:
        return self.state

    def load_state_dict(self, state: dict[Any, Any]) -> None:
        self.state = state


def test_a_state_is_restored(tmp_path: Path) -> None:
    saved, loaded, path = Twin(1 / 3), Twin(0), tmp_path / "a.safetensors"
    save_state(path, {"twin": saved}, {"iteration": 7})
    assert load_state(path, {"twin": loaded}) == {"iteration": 7}
    assert loaded.state["lr"] == 1 / 3
    assert list(loaded.state) == [0, "lr", "betas", "flags"]
    assert loaded.state["flags"] == [True, None, "text", math.inf]
    assert torch.equal(loaded.state[0]["moments"], saved.state[0]["moments"])
    with pytest.raises(InputError, match="holds the state of twin, but this run has other"):
        load_state(path, {"other": loaded})


def test_invalid_state_files_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_record(tmp_path / "none.safetensors")
    (tmp_path / "text").write_text("no safetensors")
    with pytest.raises(InputError, match="not a safetensors file"):
        read_record(tmp_path / "text")
    save_file({"a": torch.ones(1)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="not a checkpoint of this version"):
        read_record(tmp_path / "other.safetensors")


@pytest.mark.parametrize("failures", [2, 9])
def test_reading_a_replaced_state_file_is_repeated(
    failures: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.safetensors"
    save_state(path, {"network": nn.Linear(2, 2)}, {"iteration": 7})
    left = iter(range(failures))

    def replaced(*args: Any, **options: Any) -> Any:
        if next(left, None) is not None:
            raise RuntimeError("file size is smaller than the required mapping size")
        return safe_open(*args, **options)

    monkeypatch.setattr("stn3d.train.state.safe_open", replaced)
    if failures < 5:
        assert read_record(path)["iteration"] == 7
    else:
        with pytest.raises(InputError, match="smaller than the required"):
            read_record(path)
