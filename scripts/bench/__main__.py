"""Command line of the benchmarks: ``python -m scripts.bench STUDY run|report``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from scripts.bench.options import add_options, options_from
from scripts.bench.paths import RESULTS
from scripts.bench.studies import STUDIES, load

PROGRAM = "python -m scripts.bench"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a study, or write its page from stored results."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if len(given) > 1 and given[0] in STUDIES and given[1] in ("run", "report"):
        _run_or_report(given[0], given[1], given[2:])
        return
    lines = [f"  {name:20} {summary}" for name, summary in STUDIES.items()]
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Run a study, or write its page and plots from stored results.",
        epilog="\n".join(["studies:", *lines, "", f"Options: {PROGRAM} STUDY run --help"]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("study", choices=STUDIES, metavar="STUDY", help="one of the list below")
    parser.add_argument("action", choices=("run", "report"))
    parser.parse_args(given)


def _run_or_report(name: str, action: str, arguments: Sequence[str]) -> None:
    study = load(name)
    parser = argparse.ArgumentParser(
        prog=f"{PROGRAM} {name} {action}",
        description=study.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if action == "report":
        parser.add_argument(
            "--out", type=Path, default=RESULTS / name, help="folder that holds results.json"
        )
        study.report(parser.parse_args(arguments).out)
        return
    add_options(parser, study.Options, {"out": RESULTS / name})
    study.run(options_from(study.Options, parser.parse_args(arguments)))


if __name__ == "__main__":
    main()
