#!/usr/bin/env python3
"""Draw which modules of stn3d import which: an arc diagram, lowest modules at the bottom.

scripts/import_diagram.py OUT.svg [--package stn3d] [--title TEXT]

A node is a module or package directly below the package. An arc on the right connects an importer
to a lower module; its width grows with the number of import statements. Imports within one node
are not drawn. Nodes are ordered so that imports go down.
"""

from __future__ import annotations

import argparse
import ast
from collections import Counter
from pathlib import Path

TOP = "stn3d"


def nodes_of(package: Path) -> dict[str, list[Path]]:
    """Source files by module or package directly below a package; without its own ``__init__``.

    Args:
        package: folder of the package.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted(package.rglob("*.py")):
        node = path.relative_to(package).with_suffix("").parts[0]
        if node not in ("__init__", "__main__"):
            found.setdefault(node, []).append(path)
    return found


def imported_nodes(path: Path, nodes: dict[str, list[Path]]) -> list[str]:
    """Nodes that a file imports, once for each import statement."""
    found = []
    for statement in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(statement, ast.ImportFrom) and statement.module:
            parts = statement.module.split(".")
            names = [a.name for a in statement.names] if parts == [TOP] else parts[1:2]
            found += [n for n in names if parts[0] == TOP and n in nodes]
        elif isinstance(statement, ast.Import):
            parts_of = [alias.name.split(".") for alias in statement.names]
            found += [p[1] for p in parts_of if p[0] == TOP and len(p) > 1 and p[1] in nodes]
    return found


def imports_of(nodes: dict[str, list[Path]]) -> Counter[tuple[str, str]]:
    """Number of import statements from one node to another."""
    pairs = [
        (node, other)
        for node, paths in nodes.items()
        for path in paths
        for other in imported_nodes(path, nodes)
        if other != node
    ]
    return Counter(pairs)


def ordered(nodes: dict[str, list[Path]], imports: Counter[tuple[str, str]]) -> list[str]:
    """Nodes, lowest first: each time the one with the fewest imports of nodes not yet placed."""
    placed: list[str] = []
    left = set(nodes)
    while left:

        def missing(node: str, left: frozenset[str] = frozenset(left)) -> tuple[int, int, str]:
            above = sum(n for (a, b), n in imports.items() if a == node and b in left)
            used = sum(n for (a, b), n in imports.items() if b == node and a in left)
            return above, -used, node

        node = min(left, key=missing)
        placed.append(node)
        left.remove(node)
    return placed


def draw(package: Path, title: str, out: Path) -> None:
    """Write the diagram of a package as SVG."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.patches import Arc

    nodes = nodes_of(package)
    imports = imports_of(nodes)
    place = {node: height for height, node in enumerate(ordered(nodes, imports))}
    figure = Figure(figsize=(7, 0.24 * len(nodes) + 0.9), layout="constrained")
    axes = figure.add_subplot()
    for (importer, imported), count in imports.items():
        high, low = place[importer], place[imported]
        width = 0.4 + 0.25 * count**0.5
        colour = "tab:red" if low > high else "tab:blue"
        arc = Arc(
            (0, (high + low) / 2),
            abs(high - low),
            abs(high - low),
            theta1=-90,
            theta2=90,
            linewidth=width,
            color=colour,
            alpha=0.45,
        )
        axes.add_patch(arc)
    for node, height in place.items():
        files = len(nodes[node])
        label = node if files == 1 else f"{node}/ ({files} files)"
        axes.text(-0.4, height, label, ha="right", va="center", fontsize=8)
        axes.plot(0, height, "o", color="black", markersize=3)
    axes.set_xlim(-0.32 * len(nodes), 0.52 * len(nodes))
    axes.set_ylim(-1, len(nodes))
    axes.set_title(title, fontsize=9)
    axes.axis("off")
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": TOP}):
        figure.savefig(out, metadata={"Date": None})


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, help="SVG file to write")
    parser.add_argument("--package", type=Path, default=Path(__file__).parents[1] / TOP)
    parser.add_argument("--title", default="Imports between the modules of stn3d")
    arguments = parser.parse_args()
    draw(arguments.package, arguments.title, arguments.out)


if __name__ == "__main__":
    main()
