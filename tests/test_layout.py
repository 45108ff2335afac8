"""Imports only go down the table of modules in docs/architecture.md, without cycles.

No module uses a private name of another. Imports inside functions are checked too.
"""

from __future__ import annotations

import ast
import graphlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.helpers.paths import ROOT

PACKAGE = ROOT / "stn3d"

ARCHITECTURE = ROOT / "docs" / "architecture.md"


def modules_in_table(page: Path) -> tuple[str, ...]:
    """The modules in the first column of the page's table of modules, lowest first.

    A package named without any of its modules may hold any modules; a package with modules in the
    table may hold only those, and its own row stands above them.
    """
    section = page.read_text(encoding="utf-8").split("## Modules\n")[1].split("\n## ")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return tuple(name for cell in cells for name in re.findall(r"`([\w.]+)`", cell))


MODULES = modules_in_table(ARCHITECTURE)
TOP = "stn3d"


class Import(NamedTuple):
    """One import: the module that it stands in, the module and the name that it takes."""

    importer: str
    line: int
    module: str
    name: str | None


def modules_of(package: Path) -> dict[str, Path]:
    """Modules of a package by dotted name without the package's own; the package is ``stn3d``."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = list(path.relative_to(package).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        found[".".join(parts) or TOP] = path
    return found


def level(module: str) -> int | None:
    """The position of a module in the table, None if it has none."""
    if module == TOP:
        return len(MODULES)
    if module in MODULES:
        return MODULES.index(module)
    package = module.partition(".")[0]
    has_modules = any(name.startswith(package + ".") for name in MODULES)
    return MODULES.index(package) if package in MODULES and not has_modules else None


def imports_of(module: str, path: Path, known: dict[str, Path]) -> Iterator[Import]:
    """What a module takes from its own package, absolute or relative, at any depth of its code."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] == TOP:
                    target = alias.name.partition(".")[2] or TOP
                    yield Import(module, node.lineno, target, None)
        elif isinstance(node, ast.ImportFrom):
            source = _source(node, path, known)
            for alias in node.names if source else ():
                inner = alias.name if source == TOP else f"{source}.{alias.name}"
                whole = inner in known
                yield Import(
                    module, node.lineno, inner if whole else source, None if whole else alias.name
                )


def _source(node: ast.ImportFrom, path: Path, known: dict[str, Path]) -> str:
    """The dotted name below the package of what ``from ... import`` names; empty if foreign."""
    if node.level == 0:
        first, _, rest = (node.module or "").partition(".")
        return (rest or TOP) if first == TOP else ""
    package = path.parents[node.level - 1]
    folder = next(name for name, p in known.items() if p == package / "__init__.py")
    if not node.module:
        return folder
    return node.module if folder == TOP else f"{folder}.{node.module}"


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
            prefix = "" if source == TOP else source + "."
            aliases |= {a.asname or a.name for a in node.names if prefix + a.name in known}
        elif isinstance(node, ast.Import):
            aliases |= {a.asname for a in node.names if a.asname and a.name.startswith(TOP)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and _is_private(node.attr):
            owner = ast.unparse(node.value)
            if owner in aliases or owner.startswith(TOP + "."):
                yield f"{module}:{node.lineno} uses the private {owner}.{node.attr}"


def violations_of(package: Path) -> list[str]:
    """Violations of the order, one sentence each."""
    known = modules_of(package)
    violations = [
        f"{module} is not in the table of modules" for module in known if level(module) is None
    ]
    graph: dict[str, set[str]] = {module: set() for module in known}
    for module, path in known.items():
        violations += private_attributes(module, path, known)
        for found in imports_of(module, path, known):
            violations += _violations_of_import(found, known)
            if found.name != "__version__" and found.module in known:
                graph[module].add(found.module)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        violations.append("imports form a cycle: " + " <- ".join(error.args[1]))
    return violations


def _violations_of_import(found: Import, known: dict[str, Path]) -> Iterator[str]:
    where = f"{found.importer}:{found.line}"
    if found.module not in known:
        yield f"{where} imports {found.module}, which does not exist"
        return
    if found.importer != found.module and (_is_private(found.name) or _is_private(found.module)):
        yield f"{where} imports the private {found.module}.{found.name or ''}"
    here, there = level(found.importer), level(found.module)
    if found.module == TOP and found.name == "__version__":
        return
    same_package = here == there and "." in found.importer + found.module
    if here is not None and there is not None and there >= here and not same_package:
        yield f"{where} imports upward, from {found.module}"


def test_the_package_keeps_the_order() -> None:
    assert len(modules_of(PACKAGE)) > 5
    assert violations_of(PACKAGE) == []


def test_the_table_names_each_module_once() -> None:
    assert len(MODULES) > 50
    assert len(MODULES) == len(set(MODULES))
    assert [m for m in MODULES if m not in modules_of(PACKAGE)] == []


def package_of(root: Path, files: dict[str, str]) -> Path:
    """A small package to try the rules on, with all the ``__init__`` files it needs."""
    package = root / TOP
    for name, text in files.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for folder in [package, *(p for p in package.rglob("*") if p.is_dir())]:
        (folder / "__init__.py").touch()
    return package


BASE = {"errors.py": "", "grid.py": "from stn3d.errors import E", "transforms/base.py": "X = 1"}


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
def test_downward_imports_are_allowed(files: dict[str, str], tmp_path: Path) -> None:
    assert violations_of(package_of(tmp_path, BASE | files)) == []


@pytest.mark.parametrize(
    ("files", "violation"),
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
        ({"helpers.py": ""}, "helpers is not in the table"),
        ({"transforms/utils.py": ""}, "transforms.utils is not in the table"),
        ({"grid.py": "from stn3d.errors import _secret"}, "private errors._secret"),
        ({"grid.py": "from stn3d import errors\nerrors._secret()"}, "grid:2 uses the private"),
        ({"grid.py": "import stn3d.errors\nstn3d.errors._secret()"}, "grid:2 uses the private"),
        ({"grid.py": "import stn3d.errors as e\ne._secret()"}, "grid:2 uses the private e._secret"),
        ({"grid.py": "from stn3d.sampler import s"}, "sampler, which does not exist"),
        (
            {"losses/a.py": "from .b import x", "losses/b.py": "def f():\n    from .a import y"},
            "form a cycle",
        ),
    ],
)
def test_each_violation_is_reported(files: dict[str, str], violation: str, tmp_path: Path) -> None:
    violations = violations_of(package_of(tmp_path, BASE | files))
    assert any(violation in line for line in violations), violations
