"""Bodies of many kinds and sizes: mice, fetuses, cords, histology, hands, trunks, PET, livers.

    python -m scripts.bench body_range run --work DIR [--kinds "livers,hands"]
        [--tools "before,stn3d default,greedy,ants-syn,elastix"] [--tools-python tools/bin/python]

Every kind is an entry of `scripts.bench.studies.body_range.kinds`. "stn3d --preset default" gets no
option but the files, "stn3d default" uses no networks. Pairs are written to DIR. Results are stored
run by run, so kinds and tools may be measured one after another.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from scripts.bench.options import option, required
from scripts.bench.pair_benchmark import PairOptions, measure_pairs
from scripts.bench.studies.body_range.kinds import KINDS
from scripts.bench.studies.body_range.page import report as report
from scripts.bench.written_pairs import empty_folder, write_pair

TOOLS = "before,stn3d default,stn3d --preset default,greedy,ants-syn,elastix"


@dataclass(frozen=True, kw_only=True)
class Options(PairOptions):
    """Options of the study."""

    work: Path = required("folder for the pairs")
    kinds: str = option(",".join(KINDS), "kinds of pairs")
    tools: str = option(TOOLS, "names from scripts/bench/tools.py and baselines.py")


def run(options: Options) -> None:
    """Write the pairs, measure what is not measured yet, then report."""
    kinds = options.kinds.split(",")
    if unknown := set(kinds) - set(KINDS):
        raise SystemExit(f"--kinds: there is no {min(unknown)!r}; choose from {list(KINDS)}.")
    pairs = empty_folder(options.work / "pairs")
    for kind in kinds:
        for pair in KINDS[kind].pairs():
            write_pair(pairs / f"{kind}: {pair.name}", kind, pair.fixed, pair.moving, pair.truth)
    measure_pairs("body_range", pairs, options)
    report(options.out)
