"""The run of the MNIST study: choose rows, train them, collect the results, draw pictures."""

from __future__ import annotations

import fnmatch
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from scripts.bench.options import RunOptions, command_line, option
from scripts.bench.paths import SHARED
from scripts.bench.store import Row, Store
from scripts.bench.studies.mnist.networks import parts
from scripts.bench.studies.mnist.page import report
from scripts.bench.studies.mnist.pictures import draw, slug
from scripts.bench.studies.mnist.rows import ROWS, NetworkRow
from scripts.bench.studies.mnist.training import (
    HELD_OUT_SEED,
    TEST_SEED,
    TRAINED_ON,
    WEIGHTS,
    Schedule,
    device_name,
    error_pct,
    trained,
)
from stn3d import InputError
from stn3d.io import atomic_write
from stn3d.synth.digits import Digits, read_digits
from stn3d.train import prepare_output_dir, read_history, save_state

RESULT = "result.json"
KEYS = ("row",)


@dataclass(frozen=True, kw_only=True)
class Options(RunOptions):
    """Options of the study."""

    work: Path | None = option(None, "folder of the trainings")
    list: bool = option(False, "print the names of all rows and stop")
    rows: str = option("*", "patterns of row names, separated by commas")
    data: Path = option(SHARED / "data" / "mnist", "folder of MNIST's .gz files")
    steps: int = option(12_000, "training steps")
    batch_size: int = option(128, "digits per step")
    learning_rate: float = option(2e-3, "largest learning rate")
    localisation_rate: float = option(1.0, "fraction of the rate for localisation networks")
    device: str = option("cpu", "device of torch")


def run(options: Options) -> None:
    """Train the rows that are not finished, then report."""
    if options.list:
        print("\n".join(ROWS))
        return
    if options.work is None:
        raise SystemExit("Give --work, the folder of the trainings, or --list.")
    torch.set_num_threads(options.threads)
    try:
        train_rows(options, options.work)
    except InputError as error:
        raise SystemExit(str(error)) from None
    collect(options, options.work)
    draw(options.out, options.work, options.data)
    report(options.out)


def chosen(patterns: str) -> dict[str, NetworkRow]:
    """The rows that match one of several patterns.

    Raises:
        InputError: none matches one of them.
    """
    found: dict[str, NetworkRow] = {}
    for pattern in patterns.split(","):
        matching = {name: ROWS[name] for name in fnmatch.filter(ROWS, pattern.strip())}
        if not matching:
            raise InputError(f"no row is called {pattern.strip()!r}; --list prints all names.")
        found |= matching
    return found


def train_rows(options: Options, work: Path) -> None:
    """Train and evaluate all rows that are not finished; each then has a RESULT in its folder."""
    rows = chosen(options.rows)
    digits, test = read_digits(options.data, "train"), read_digits(options.data, "test")
    for name, row in rows.items():
        folder = prepare_output_dir(work / slug(name))
        if (folder / RESULT).exists():
            continue
        print(name, flush=True)
        result = _train_row(name, row, folder, (digits, test), options)
        with atomic_write(folder / RESULT) as part:
            part.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        print(json.dumps(result), flush=True)


def _train_row(
    name: str, row: NetworkRow, folder: Path, digits: tuple[Digits, Digits], options: Options
) -> Row:
    schedule = Schedule(
        options.steps,
        options.batch_size,
        options.learning_rate,
        options.localisation_rate,
        options.device,
    )
    network = trained(row, folder, digits[0], schedule)
    seconds = max(line["seconds"] for line in read_history(folder / "history.jsonl"))
    held_out = digits[0].subset(TRAINED_ON, len(digits[0]))
    result = {"row": name, **parts(network), **asdict(schedule)}
    result |= {"threads": options.threads, "device": device_name(options.device)}
    result |= {
        "wall_s": round(seconds),
        "held_out_error_pct": error_pct(network, row, held_out, HELD_OUT_SEED),
        "test_error_pct": error_pct(network, row, digits[1], TEST_SEED),
    }
    save_state(folder / WEIGHTS, {"network": network}, {"row": name})
    return result


def collect(options: Options, work: Path) -> None:
    """Add the results of all finished rows of a folder to the study's results."""
    shared = {"machine": "see the device of each row"}
    store = Store(options.out, "mnist", KEYS, shared, command=command_line("mnist", options))
    for file in sorted(work.glob(f"*/{RESULT}")):
        store.add(json.loads(file.read_text(encoding="utf-8")), show=False)
    known = {row["row"]: row for row in store.rows}
    store.replace(known[name] for name in ROWS if name in known)
