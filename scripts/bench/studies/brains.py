"""T1 brains of different people with manual labels: stn3d and other tools on the same pairs.

    python -m scripts.bench brains run [--pairs PAIRS] [--tools "stn3d fast,greedy"] [--out FOLDER]

With --pairs, any list of pairs can be measured: a CSV file or a folder, as scripts/bench/pairs.py
describes. Rows that are stored are kept unless --again is given; an interrupted run continues.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from scripts.bench.options import option
from scripts.bench.pair_benchmark import PairOptions, measure_pairs
from scripts.bench.pair_report import write_report
from scripts.bench.paths import PAIR_LISTS

TOOLS = "stn3d fast,stn3d default,stn3d accurate,greedy,ants-syn,elastix,demons"
TITLE = "T1 brains of different people"


@dataclass(frozen=True, kw_only=True)
class Options(PairOptions):
    """Options of the study."""

    pairs: Path = option(PAIR_LISTS / "brains.csv", "CSV file or folder of pairs")
    tools: str = option(TOOLS, "names from scripts/bench/tools.py and baselines.py")
    title: str = option("", "title of the page")
    about: str = option("", "text on the pairs at the head of the page")


def run(options: Options) -> None:
    """Measure the pairs that are not measured yet, then report."""
    notes = {"title": options.title, "about": options.about}
    notes = {key: text for key, text in notes.items() if text}
    measure_pairs("brains", options.pairs, options, notes)
    report(options.out)


def report(folder: Path) -> None:
    """Write README.md and plot.svg."""
    write_report(folder, TITLE)
