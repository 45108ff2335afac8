"""The house's order: imports only go downward, nothing private crosses a wall, no circles.

The order is the design's list (docs/architecture.md); every import counts, wherever it stands.
"""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "stn3d"

# Of the kernels, from the ground up: each has a room in `reference`, one in `cpu`, one in the face.
SUBJECTS = (
    "sampling",
    "affine",
    "resampling",
    "warping",
    "composition",
    "jacobian",
    "inversion",
    "windows",
    "correlation",
    "smoothing",
    "histogram",
    "matching",
    "self_similarity",
)

# From the ground floor up. A package named here alone may hold any modules; a package with rooms of
# its own may hold only those, and its __init__ stands above them.
ROOMS = (
    "startup",
    "errors",
    "grid",
    "kernels.region",
    *(f"kernels.reference.{subject}" for subject in SUBJECTS),
    "kernels.reference",
    "kernels.cpu.jit",
    "kernels.cpu.tensors",
    "kernels.cpu.interpolation",
    "kernels.cpu.correlation_rows",
    *(f"kernels.cpu.{subject}" for subject in SUBJECTS),
    "kernels.cpu",
    "kernels.dispatch",
    *(f"kernels.{subject}" for subject in SUBJECTS),
    "kernels",
    "sampler",
    "transforms.base",
    "transforms.linear",
    "transforms.normalised",
    "transforms.inverse",
    "transforms.spline",
    "transforms.dense",
    "transforms.fit",
    "transforms",
    "warp",
    "intensity",
    "losses",
    "metrics",
    "io.files",
    "io.geometry",
    "io.deflate",
    "io.seekable",
    "io.hdf5",
    "io.nifti",
    "io.itk",
    "io.sources",
    "io.images",
    "io.volumes",
    "io.markups",
    "io.points",
    "io.transforms",
    "io",
    "apply",
    "evaluate",
    "pair",
    "channels",
    "optimise.stage",
    "nets",
    "optimise.quasi_newton",
    "optimise.pull",
    "optimise.linear",
    "optimise.dense",
    "optimise",
    "search",
    "initialise",
    "settings",
    "running",
    "scans",
    "finish",
    "decisions",
    "starts",
    "verdict",
    "registration",
    "landmarks",
    "steering",
    "memory",
    "register",
    "motion",
    "series",
    "synth",
    "data",
    "train",
    "integrations",
    "cohort",
    "report",
    "demo",
    "cli",
    "__main__",
)
ROOF = "stn3d"


class Import(NamedTuple):
    """One import: the module that it stands in, the module and the name that it takes."""

    importer: str
    line: int
    module: str
    name: str | None


def modules_of(package: Path) -> dict[str, Path]:
    """Every module of a package by its dotted name below the package; the roof is ``stn3d``."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = list(path.relative_to(package).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        found[".".join(parts) or ROOF] = path
    return found


def height(module: str) -> int | None:
    """The floor of a module: its room's place in the list, None where it has no room."""
    if module == ROOF:
        return len(ROOMS)
    if module in ROOMS:
        return ROOMS.index(module)
    package = module.partition(".")[0]
    has_rooms = any(room.startswith(package + ".") for room in ROOMS)
    return ROOMS.index(package) if package in ROOMS and not has_rooms else None


def imports_of(module: str, path: Path, known: dict[str, Path]) -> Iterator[Import]:
    """What a module takes from its own package, absolute or relative, at any depth of its code."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] == ROOF:
                    target = alias.name.partition(".")[2] or ROOF
                    yield Import(module, node.lineno, target, None)
        elif isinstance(node, ast.ImportFrom):
            source = _source(node, path, known)
            for alias in node.names if source else ():
                inner = alias.name if source == ROOF else f"{source}.{alias.name}"
                whole = inner in known
                yield Import(
                    module, node.lineno, inner if whole else source, None if whole else alias.name
                )


def _source(node: ast.ImportFrom, path: Path, known: dict[str, Path]) -> str:
    """The dotted name below the package of what ``from ... import`` names; empty if foreign."""
    if node.level == 0:
        first, _, rest = (node.module or "").partition(".")
        return (rest or ROOF) if first == ROOF else ""
    package = path.parents[node.level - 1]
    folder = next(name for name, p in known.items() if p == package / "__init__.py")
    if not node.module:
        return folder
    return node.module if folder == ROOF else f"{folder}.{node.module}"


def _is_private(name: str | None) -> bool:
    return bool(name) and any(
        part.startswith("_") and not part.endswith("__") for part in str(name).split(".")
    )


def private_attributes(module: str, path: Path, known: dict[str, Path]) -> Iterator[str]:
    """Uses of ``other._name`` where ``other`` is a module of the package."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    aliases = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (source := _source(node, path, known)):
            prefix = "" if source == ROOF else source + "."
            aliases |= {a.asname or a.name for a in node.names if prefix + a.name in known}
        elif isinstance(node, ast.Import):
            aliases |= {a.asname for a in node.names if a.asname and a.name.startswith(ROOF)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and _is_private(node.attr):
            owner = ast.unparse(node.value)
            if owner in aliases or owner.startswith(ROOF + "."):
                yield f"{module}:{node.lineno} uses the private {owner}.{node.attr}"


def faults_of(package: Path) -> list[str]:
    """What breaks the house's order, one sentence each."""
    known = modules_of(package)
    faults = [f"{module} is in no room of the list" for module in known if height(module) is None]
    graph: dict[str, set[str]] = {module: set() for module in known}
    for module, path in known.items():
        faults += private_attributes(module, path, known)
        for found in imports_of(module, path, known):
            faults += _faults_of_import(found, known)
            if found.name != "__version__" and found.module in known:
                graph[module].add(found.module)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        faults.append("imports run in a circle: " + " <- ".join(error.args[1]))
    return faults


def _faults_of_import(found: Import, known: dict[str, Path]) -> Iterator[str]:
    where = f"{found.importer}:{found.line}"
    if found.module not in known:
        yield f"{where} imports {found.module}, which is not there"
        return
    if found.importer != found.module and (_is_private(found.name) or _is_private(found.module)):
        yield f"{where} imports the private {found.module}.{found.name or ''}"
    here, there = height(found.importer), height(found.module)
    if found.module == ROOF and found.name == "__version__":
        return
    same_room = here == there and "." in found.importer + found.module
    if here is not None and there is not None and there >= here and not same_room:
        yield f"{where} imports upward, from {found.module}"


def test_the_package_keeps_the_order() -> None:
    assert len(modules_of(PACKAGE)) > 5
    assert faults_of(PACKAGE) == []


@pytest.mark.parametrize("storey", ["kernels.reference", "kernels.cpu", "kernels"])
def test_every_storey_of_the_kernels_has_the_same_subjects(storey: str) -> None:
    assert {f"{storey}.{subject}" for subject in SUBJECTS} <= modules_of(PACKAGE).keys()


def house(root: Path, files: dict[str, str]) -> Path:
    """A small package to try the rules on, with all the ``__init__`` files it needs."""
    package = root / ROOF
    for name, text in files.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for folder in [package, *(p for p in package.rglob("*") if p.is_dir())]:
        (folder / "__init__.py").touch()
    return package


GROUND = {"errors.py": "", "grid.py": "from stn3d.errors import E", "transforms/base.py": "X = 1"}


@pytest.mark.parametrize(
    "files",
    [
        {"sampler.py": "import stn3d.grid\nfrom stn3d import grid as g\nfrom .errors import E"},
        {"transforms/__init__.py": "from stn3d.transforms.base import X\nfrom .base import X"},
        {"transforms/dense.py": "from .base import X\nfrom ..grid import Grid\n"},
        {"losses/similarity.py": "", "losses/regularity.py": "from .similarity import x"},
        {"cli.py": "from stn3d import __version__\ndef f():\n    from stn3d.grid import Grid"},
        {"__init__.py": "def __getattr__(name):\n    from stn3d.grid import Grid"},
        {"sampler.py": "import torch\nfrom torch import _C\nself._x = torch._y"},
    ],
)
def test_downward_imports_are_let_through(files: dict[str, str], tmp_path: Path) -> None:
    assert faults_of(house(tmp_path, GROUND | files)) == []


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        ({"grid.py": "from stn3d.sampler import s", "sampler.py": ""}, "grid:1 imports upward"),
        ({"grid.py": "def f():\n    import stn3d.warp", "warp.py": ""}, "grid:2 imports upward"),
        ({"grid.py": "from . import warp", "warp.py": ""}, "grid:1 imports upward"),
        (
            {"grid.py": "if TYPE_CHECKING:\n    from .warp import w", "warp.py": ""},
            "grid:2 imports",
        ),
        ({"transforms/base.py": "from .dense import d", "transforms/dense.py": ""}, "upward"),
        (
            {"transforms/dense.py": "from stn3d.transforms import X"},
            "transforms.dense:1 imports up",
        ),
        ({"grid.py": "from stn3d import Grid"}, "upward, from stn3d"),
        ({"helpers.py": ""}, "helpers is in no room"),
        ({"transforms/utils.py": ""}, "transforms.utils is in no room"),
        ({"grid.py": "from stn3d.errors import _secret"}, "private errors._secret"),
        ({"grid.py": "from stn3d import errors\nerrors._secret()"}, "grid:2 uses the private"),
        ({"grid.py": "import stn3d.errors\nstn3d.errors._secret()"}, "grid:2 uses the private"),
        ({"grid.py": "import stn3d.errors as e\ne._secret()"}, "grid:2 uses the private e._secret"),
        ({"grid.py": "from stn3d.sampler import s"}, "sampler, which is not there"),
        (
            {"losses/a.py": "from .b import x", "losses/b.py": "def f():\n    from .a import y"},
            "in a circle",
        ),
    ],
)
def test_each_breach_is_told(files: dict[str, str], fault: str, tmp_path: Path) -> None:
    faults = faults_of(house(tmp_path, GROUND | files))
    assert any(fault in told for told in faults), faults
