"""Selection of the implementation, and its signatures."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib import import_module

import pytest
import torch

from stn3d import kernels
from stn3d.kernels.common import dispatch

OPERATIONS = {
    "apply_boundary_window": "boundary_window",
    "box_sum": "box_sum",
    "compose": "compose",
    "cost_volume": "cost_volume",
    "diffuse_divergence": "smooth",
    "folded_volume": "folded_volume",
    "force": "force",
    "gaussian_smooth": "smooth",
    "invert": "invert",
    "jacobian_determinant": "jacobian",
    "joint_histogram": "histogram",
    "lncc": "lncc",
    "resample": "resample",
    "sample_affine": "sample_affine",
    "sample_linear": "sample_linear",
    "self_similarity": "self_similarity",
    "take_step": "compose",
    "warp": "warp",
    "warp_gradient": "warp",
}


def test_volumes_with_too_many_voxels_and_other_dtypes_go_to_plain_torch() -> None:
    voxel = torch.zeros(1, 1, 1, 1, 1)
    assert dispatch.supported(voxel.expand(1, 1, 2048, 2048, 511), None)
    assert not dispatch.supported(voxel, voxel.expand(1, 1, 2048, 2048, 512))
    assert not dispatch.supported(voxel.half())


@pytest.mark.parametrize("name", OPERATIONS)
def test_both_implementations_take_the_public_functions_arguments(name: str) -> None:
    public = list(inspect.signature(getattr(kernels, name)).parameters)
    for module in ("cpu", "reference"):
        function = getattr(import_module(f"stn3d.kernels.{OPERATIONS[name]}.{module}"), name)
        parameters = list(inspect.signature(function).parameters.values())
        assert [p.name for p in parameters[: len(public)]] == public
        assert all(p.default is not p.empty for p in parameters[len(public) :])


def test_numba_is_imported_when_a_kernel_first_runs_on_the_cpu() -> None:
    code = (
        "import sys, torch; from stn3d import kernels; assert 'numba' not in sys.modules;"
        "image = torch.zeros(1, 1, 4, 4); kernels.box_sum(image.half(), (1, 1));"
        "assert 'numba' not in sys.modules; kernels.box_sum(image, (1, 1));"
        "assert 'numba' in sys.modules"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=False
    )
    assert ended.returncode == 0, ended.stderr
