"""Pairs whose true transform is known, as evaluation cases."""

from __future__ import annotations

from typing import Any

import torch

from stn3d.evaluation import EvaluationCase, evaluate_case
from stn3d.grid import homogeneous
from stn3d.io import read_image
from stn3d.transforms import Affine
from tests.helpers.synthetic import Known, grid_about, known_pair, plain_grid


def case_of(known: Known) -> EvaluationCase:
    return EvaluationCase(read_image(known.sources[0]), read_image(known.sources[1]))


def shifted(ndim: int, shift_mm: float) -> Affine:
    shift = torch.zeros(ndim).double()
    shift[0] = shift_mm
    return Affine.from_matrix(homogeneous(torch.eye(ndim).double(), shift))


def a_pair(ndim: int, shift_mm: float = 4.0) -> Known:
    moving = grid_about(torch.zeros(ndim).double(), [44] * ndim, [0.8] * ndim)
    return known_pair(shifted(ndim, shift_mm), plain_grid(ndim), moving)


def evaluated(*arguments: Any, **named: Any) -> dict[str, Any]:
    """All metrics of a case as a dictionary."""
    return evaluate_case(*arguments, **named).to_dict()
