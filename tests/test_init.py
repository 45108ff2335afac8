"""The public names of the package, which are imported when they are first used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import stn3d

PUBLIC = [
    "Affine",
    "Chain",
    "DisplacementField",
    "Evaluation",
    "EvaluationCase",
    "EvaluationOptions",
    "Grid",
    "Image",
    "InputError",
    "Registration",
    "RegistrationImage",
    "Rigid",
    "SegmentationResult",
    "SeriesRegistration",
    "Similarity",
    "Transform",
    "VelocityField",
    "__version__",
    "apply",
    "as_image",
    "as_transform",
    "evaluate",
    "from_ddf",
    "read_image",
    "read_transform",
    "register",
    "register_landmarks",
    "register_series",
    "segment",
    "to_ddf",
    "transform_points",
    "write_image",
    "write_transform",
]


def test_the_public_names_are_these() -> None:
    assert stn3d.__all__ == PUBLIC
    assert set(PUBLIC) <= set(dir(stn3d))


@pytest.mark.parametrize("name", PUBLIC)
def test_every_name_resolves_to_what_it_is_called(name: str) -> None:
    value = getattr(stn3d, name)
    if name != "__version__":
        assert value.__name__ == name
        assert value.__module__.startswith("stn3d.")


def test_modules_are_attributes_and_are_imported_when_they_are_used() -> None:
    program = (
        "import sys, stn3d; assert 'torch' not in sys.modules; "
        "assert {'nets', 'metrics', 'losses'} <= set(dir(stn3d)); "
        "print(stn3d.losses.ncc.__name__, stn3d.metrics.dice.__name__, 'stn3d.nets' in sys.modules,"
        " stn3d.nets.PyramidCascade.__name__)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8")
    assert ran.stdout.split() == ["ncc", "dice", "False", "PyramidCascade"], ran.stderr


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'registr'"):
        stn3d.registr  # noqa: B018
    with pytest.raises(ImportError):
        from stn3d import registr  # noqa: F401


def test_names_are_functions_in_whatever_order_modules_are_imported() -> None:
    """A module of the same name as a function would hide the function once it is imported."""
    program = (
        "import pkgutil, importlib, stn3d\n"
        "for module in pkgutil.iter_modules(stn3d.__path__): "
        "module.name != '__main__' and importlib.import_module('stn3d.' + module.name)\n"
        "assert callable(stn3d.apply) and callable(stn3d.register)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


SLOW = ["torch", "numba", "scipy", "monai", "nibabel", "SimpleITK", "numpy"]


@pytest.mark.parametrize(
    "statement",
    [
        "import stn3d",
        "import stn3d.choices",
        "from stn3d.cli import main; assert main(['--version']) == 0",
        "from stn3d.cli import main; assert main(['--help']) == 0",
        "from stn3d.cli import main; assert main(['register', '--help']) == 0",
        "from stn3d.cli import main; assert main(['apply', '-h']) == 0",
        "from stn3d.cli import main; assert main(['register', 'a', 'b', '--knd', 'x']) == 2",
        "from stn3d.cli import main; "
        "assert main(['register', 'a', 'b', '--out', 'c', '--kind', 'x']) == 2",
    ],
)
def test_nothing_slow_is_imported_before_it_is_needed(statement: str) -> None:
    program = f"{statement}\nimport sys; print([name for name in {SLOW!r} if name in sys.modules])"
    command = [sys.executable, "-X", "utf8", "-c", program]
    ran = subprocess.run(command, capture_output=True, encoding="utf-8")
    assert ran.stdout.splitlines()[-1] == "[]", ran.stderr
