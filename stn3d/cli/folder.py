"""The folder that a command's results go to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stn3d.registration import make_folder


@contextmanager
def results_folder(path: Path) -> Iterator[Path]:
    """A folder for results, made before any work and taken away if the work fails."""
    made = [one for one in (path, *path.parents) if not os.path.exists(one)]
    try:
        yield make_folder(path)
    except BaseException:
        for one in made:
            with suppress(OSError):  # it is not empty, or was never made
                one.rmdir()
        raise
