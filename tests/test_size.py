"""Files, functions and signatures stay small enough to read at once."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.helpers.paths import ROOT

FILE_LINES, FUNCTION_LINES, MEDIAN_LINES, PARAMETERS = 330, 70, 8, 10
# numba kernels take arrays and sizes one by one; the parameters of a command, and of a transform of
# dictionaries, are its options
MANY_PARAMETERS = ("stn3d/kernels/", "stn3d/cli/", "stn3d/integrations/monai/register.py")


class Function(NamedTuple):
    """A function and its size.

    Args:
        where: file, line and name.
        lines: lines from ``def`` to the end, without the docstring.
        parameters: number of parameters without ``self`` and ``cls``.
    """

    where: str
    lines: int
    parameters: int


def files() -> list[Path]:
    """Python files of the package and the scripts."""
    return sorted([*(ROOT / "stn3d").rglob("*.py"), *(ROOT / "scripts").rglob("*.py")])


def functions_of(path: Path) -> Iterator[Function]:
    """Functions and methods of a file."""
    name = path.relative_to(ROOT).as_posix()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            has_docstring = ast.get_docstring(node) is not None
            docstring = first.end_lineno - first.lineno + 1 if has_docstring else 0  # type: ignore[operator]
            lines = (node.end_lineno or node.lineno) - node.lineno + 1 - docstring
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            own = [a for a in arguments if a.arg not in ("self", "cls")]
            yield Function(f"{name}:{node.lineno} {node.name}", lines, len(own))


FUNCTIONS = [function for path in files() for function in functions_of(path)]


def test_files_are_short() -> None:
    lengths = {
        path.relative_to(ROOT).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in files()
    }
    assert {name: n for name, n in lengths.items() if n > FILE_LINES} == {}


def test_functions_are_short() -> None:
    assert [f for f in FUNCTIONS if f.lines > FUNCTION_LINES] == []
    assert statistics.median(f.lines for f in FUNCTIONS) <= MEDIAN_LINES


def test_functions_take_few_parameters() -> None:
    many = [f for f in FUNCTIONS if f.parameters > PARAMETERS]
    assert [f for f in many if not f.where.startswith(MANY_PARAMETERS)] == []
