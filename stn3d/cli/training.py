"""The command `train`: configs and overrides are passed to `stn3d.train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from stn3d.cli import options, screen
from stn3d.cli.process import slow_imports
from stn3d.errors import InputError

Configs = Annotated[
    list[str],
    typer.Argument(
        metavar="CONFIG [CONFIG ...] [KEY=VALUE ...]",
        help="YAML configs of a MONAI bundle, later ones winning, then keys to change, such as "
        "epochs=10 or train.dataset.seed=1. A config is code: run only what you trust.",
    ),
]


def train(
    config: Configs,
    fresh: Annotated[
        bool,
        typer.Option(
            "--fresh/--resume",
            help="Start again and discard the checkpoint in output_dir, or resume from it if "
            "there is one.",
        ),
    ] = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Train a network from a config; resumes automatically.

    Checkpoints, model.safetensors, history.jsonl and TensorBoard events go to the config's
    output_dir.
    """
    files = [text for text in config if "=" not in text]
    if not files:
        raise InputError("no config is given; name one, such as configs/train.yaml.")
    with screen.opened(f"training with {', '.join(files)}", quiet, verbose) as shown:
        try:
            with slow_imports():
                from stn3d.train import run_config
                from stn3d.train.config import parse_override
        except ImportError as error:
            raise InputError(
                f"training needs {error.name}, which is not installed; pip install 'stn3d[train]'."
            ) from error
        overrides: dict[str, Any] = dict(parse_override(text) for text in config if "=" in text)
        if fresh:
            overrides["resume"] = False
        run_config([Path(file) for file in files], overrides)
        shown.wrote([])
