"""A side that is kept is read and prepared once, and gives the same results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from stn3d import RegistrationImage, register
from stn3d.registration.inputs import pair as module
from stn3d.registration.inputs import read_pair
from stn3d.registration.inputs.memo import Memo
from stn3d.registration.settings import Settings
from tests.cohort.conftest import write_image


def test_a_value_is_made_once() -> None:
    memo, made = Memo(), []
    for _ in range(2):
        assert memo.of("a", lambda: made.append(1) or len(made)) == 1
    assert memo.of("b", lambda: made.append(1) or len(made)) == 2


def test_results_of_a_kept_image_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [write_image(tmp_path / f"im{n}.nii.gz", 0, n) for n in range(3)]
    read, seen = module.read_image, []

    def counted(source: Any, *rest: Any) -> Any:
        seen.append(source)
        return read(source, *rest)

    monkeypatch.setattr(module, "read_image", counted)
    options: dict[str, Any] = {"preset": "fast", "threads": 1}
    kept = RegistrationImage(images[0], keep=True)
    for moving in images[1:]:
        found = [register(fixed, moving, **options) for fixed in (images[0], kept)]
        texts = []
        for one in found:
            metrics = {k: v for k, v in one.metrics.items() if k != "timings_s"}
            texts.append(json.dumps(metrics, sort_keys=True, default=str))
        assert texts[0] == texts[1]
        assert torch.equal(found[0].moved.values, found[1].moved.values)
    assert seen.count(images[0]) == 3  # once for each that is not kept, and once
    pairs = [read_pair(kept, moving) for moving in images[1:]]
    prepared = [one.prepared(Settings(), torch.device("cpu")).fixed for one in pairs]
    assert prepared[0] is prepared[1]
