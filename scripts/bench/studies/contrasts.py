"""T1 to T2 and FLAIR of one person under known deformations: networks, optimiser and greedy.

    python -m scripts.bench contrasts run --work DIR [--seeds 4,5,6,7,8] [--pairs "t1 t2,t1 flair"]

A pair is "FIXED MOVING", two MR contrasts of one person (shared/data/contrasts). The moving one is
deformed by a random affine and a random smooth diffeomorphism and resampled to another grid, with
noise and a bias field: shared/bench/make_truth.py with its defaults (up to 10 degrees about each
axis, up to 10 mm, scale 1.1, a velocity of up to 8 mm), once for each pair and seed, kept in DIR.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from scripts.bench.known_truth import contrast_pairs, make_contrast_pair
from scripts.bench.options import option, required
from scripts.bench.pair_benchmark import PairOptions, measure_pairs
from scripts.bench.pair_report import write_report

TOOLS = "stn3d nmi,stn3d nmi fast,stn3d fast,stn3d default,greedy-nmi"
TITLE = "MR contrasts of one person under known deformations"
ABOUT = """\
Two MR contrasts of one person; the moving one is deformed by a random affine and a random smooth
diffeomorphism (shared/bench/make_truth.py with its defaults), with noise and a bias field. The
error is the mean distance to the true transform over the fixed foreground."""


@dataclass(frozen=True, kw_only=True)
class Options(PairOptions):
    """Options of the study."""

    work: Path = required("folder for the pairs")
    seeds: str = option("4,5,6,7,8", "seeds of make_truth.py")
    pairs: str = option("t1 t2,t1 flair", "pairs of contrasts, fixed and moving")
    tools: str = option(TOOLS, "names from scripts/bench/tools.py and baselines.py")


def run(options: Options) -> None:
    """Make the pairs, measure what is not measured yet, then report."""
    try:
        seeds = [int(seed) for seed in options.seeds.split(",")]
    except ValueError:
        raise SystemExit(f"--seeds {options.seeds!r}: give integers such as 1,2,3.") from None
    pairs = options.work / "pairs"
    wanted = [
        make_contrast_pair(pairs, moving, seed, fixed)
        for fixed, moving in contrast_pairs(options.pairs)
        for seed in seeds
    ]
    others = sorted({path for path in pairs.iterdir() if path.is_dir()} - set(wanted))
    if others:
        raise SystemExit(
            f"{pairs} also holds {others[0].name}; add its seed or use another --work."
        )
    measure_pairs("contrasts", pairs, options)
    report(options.out)


def report(folder: Path) -> None:
    """Write README.md and plot.svg."""
    write_report(folder, TITLE, ABOUT)
