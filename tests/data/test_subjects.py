"""Subjects from folders and random shapes."""

from __future__ import annotations

import torch

from stn3d.data import (
    load_subjects,
)


def test_random_subjects_need_no_data() -> None:
    flat = load_subjects(None, 2, num_random=2, seed=5)
    assert [s.grid.ndim for s in flat] == [2, 2]
    again = load_subjects("", 2, num_random=2, seed=5)
    assert torch.equal(flat[1].codes, again[1].codes)
    assert not torch.equal(flat[0].codes, flat[1].codes)
