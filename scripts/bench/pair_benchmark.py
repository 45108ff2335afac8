"""Measure tools on a list of pairs; the studies brains, contrasts, bodies and sliding use it.

Every tool registers every pair, one run at a time, as a process of its own with the same number of
threads. Each transform is then converted to one format and evaluated by ``stn3d evaluate``; neither
of these is timed. A tool that is not installed is omitted.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from scripts.bench.machine import machine
from scripts.bench.options import RunOptions, command_line, option
from scripts.bench.pairs import read_pairs
from scripts.bench.store import Row, Store
from scripts.bench.tools import available, evaluate_tool, needs_weights

KEYS = ("pair", "tool")


@dataclass(frozen=True, kw_only=True)
class PairOptions(RunOptions):
    """Options of studies that run tools on a list of pairs."""

    tools: str = option("stn3d default", "names from scripts/bench/tools.py and baselines.py")
    tools_python: str = option(sys.executable, "the Python interpreter that has the other tools")
    config: Path | None = option(None, "a config of stn3d register, for every run of stn3d")
    deformable_weights: Path | None = option(None, "weights for 'stn3d network' and 'stn3d both'")
    again: bool = option(False, "measure rows that have an outcome too")


def measure_pairs(
    study: str, pairs_path: Path, options: PairOptions, notes: Row | None = None
) -> None:
    """Measure all pairs with all tools; ``options.out`` then holds the results.

    Args:
        study: name of the study.
        pairs_path: CSV file or folder of pairs, see `scripts.bench.pairs`.
        options: of the study.
        notes: further entries of the results' head, such as ``title``.

    Raises:
        SystemExit: a file or a network's weights are missing, or there are results of another
            machine.
    """
    if options.config and not options.config.is_file():
        raise SystemExit(f"--config: there is no file {options.config}; check the path.")
    pairs = {pair["name"]: pair for pair in read_pairs(pairs_path)}
    versions = available(options.tools.split(","), options.tools_python)
    if options.deformable_weights is not None:
        files = {"deformable_weights": str(options.deformable_weights)}
        pairs = {name: {**pair, **files} for name, pair in pairs.items()}
    elif networks := [tool for tool in versions if needs_weights(tool)]:
        raise SystemExit(f"{networks[0]} needs --deformable-weights FILE, which stn3d train wrote.")
    shared: Row = {"machine": machine(), "threads": options.threads}
    store = Store(options.out, study, KEYS, shared, notes, command_line(study, options))
    wanted = [
        {"pair": name, "split": pair.get("split", ""), "tool": tool, "version": versions[tool]}
        for name, pair in pairs.items()
        for tool in versions
    ]
    run = partial(_measured, pairs, options)
    store.measure(wanted, run, options.again)


def _measured(pairs: dict[str, dict[str, str]], options: PairOptions, row: Row) -> Row:
    return evaluate_tool(
        row["tool"], pairs[row["pair"]], options.threads, options.tools_python, options.config
    )
