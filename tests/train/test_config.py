"""Configs and overrides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ignite")

from stn3d.errors import InputError
from stn3d.train import (
    run_config,
)
from stn3d.train.config import check_counts, parse_override, read_config
from tests.helpers.training import TRAIN


@pytest.mark.parametrize(
    ("key", "right"),
    [
        ("epoch", "epochs"),
        ("train.dataset.sed", "train.dataset.seed"),
        ("train#trainer#max_epoch", "train.trainer.max_epochs"),
        ("network_def.dropuot", "network_def.dropout"),
        ("network_def.chanels", "network_def.channels"),
        ("learning_rates", "learning_rate"),
    ],
)
def test_an_unknown_key_suggests_the_closest(key: str, right: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"did you mean '{right}'"):
        run_config([TRAIN], {key: 1, "output_dir": str(tmp_path / "never")})
    assert not (tmp_path / "never").exists()


def test_override_values() -> None:
    texts = ["a=1e-4", "b=[1, 2]", "c.d=true", "e=", "f=text=more"]
    assert dict(map(parse_override, texts)) == {
        "a": 1e-4,
        "b": [1, 2],
        "c.d": True,
        "e": "",
        "f": "text=more",
    }
    with pytest.raises(InputError, match="not of the form key=value"):
        parse_override("epochs")


def test_invalid_configs_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_config([tmp_path / "none.yaml"])
    (tmp_path / "broken.yaml").write_text("a: [1\n")
    with pytest.raises(InputError, match="invalid config"):
        read_config([tmp_path / "broken.yaml"])


@pytest.mark.parametrize(
    "text",
    [
        "[" * 20_000,
        "3",
        "",
        "- a\n- b",
        "a: 2001-99-99",
        "a: !!python/name:os.system",
        "\x00",
        "{}",
        "imports: [a]",
    ],
)
def test_configs_of_odd_content_are_one_sentence(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(InputError, match="invalid config in"):
        read_config([tmp_path / "a.yaml"])


@pytest.mark.parametrize("depth", [980, 5000])
def test_deep_nesting_is_one_sentence(depth: int, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": ' + "[" * depth + "]" * depth + "}")
    with pytest.raises(InputError, match="nested too deeply"):
        read_config([tmp_path / "a.json"])


@pytest.mark.parametrize("value", [0, -1, 1e300, None, "many", [3], True, 1.5, float("nan")])
def test_counts_of_epochs_are_whole_numbers(value: Any) -> None:
    parser = read_config([TRAIN])
    check_counts(parser, {"epochs": 3, "epoch_length": "$2 * 3"})
    with pytest.raises(InputError, match=r"epochs is .* in the config; give a (whole )?number"):
        check_counts(parser, {"epochs": value})
