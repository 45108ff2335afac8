"""The result of a registration, and the files it writes."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar

from stn3d.choices import ImageInterpolation
from stn3d.errors import InputError
from stn3d.io import (
    STDOUT,
    Image,
    ImageSource,
    atomic_write,
    write_colours,
    write_image,
    write_transform,
)
from stn3d.io.texts import shown_path
from stn3d.transforms import Transform
from stn3d.warp.apply import apply


@dataclass(frozen=True, eq=False)
class Registration:
    """The result of registering a pair.

    Args:
        transform: fixed points to moving points, world RAS+ mm.
        inverse: moving points to fixed points.
        moved: the moving image on the fixed image's grid.
        fixed: the fixed image.
        metrics: the content of metrics.json: metrics before and after, quality, timings, settings,
            versions.
    """

    transform: Transform
    inverse: Transform
    moved: Image
    fixed: Image
    metrics: dict[str, Any]

    FILES: ClassVar = ("moved.nii.gz", "transform.h5", "inverse.h5", "metrics.json")

    def apply(
        self,
        image: ImageSource,
        interpolation: ImageInterpolation = "auto",
        fill: str | float = "auto",
    ) -> Image:
        """Warp another image or label map to fixed space, see `stn3d.warp.apply`."""
        return apply(self.transform, image, self.fixed, interpolation, fill=fill)

    def save(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write moved.nii.gz, transform.h5, inverse.h5 and metrics.json, all or none.

        Returns:
            The files written.

        Raises:
            InputError: the folder cannot be written.
        """
        folder = make_folder(folder)
        written = [folder / name for name in self.FILES]
        with ExitStack() as files:
            moved, transform, inverse, metrics = (
                files.enter_context(atomic_write(p)) for p in written
            )
            # Entered last, so left first: no thread writes when the parts are removed.
            threads = files.enter_context(ThreadPoolExecutor())
            jobs: list[Future[Any]] = [
                threads.submit(write_transform, transform, self.transform),
                threads.submit(write_transform, inverse, self.inverse),
                threads.submit(self._write_moved, moved),
            ]
            text = json.dumps(self.metrics, indent=2) + "\n"
            metrics.write_text(text, encoding="utf8")
            for job in jobs:
                job.result()
        return written

    def _write_moved(self, path: Path) -> None:
        if self.moved.colours is None:
            write_image(path, self.moved.values, self.fixed)
        else:
            write_colours(path, [self.moved.colours], self.fixed)


def make_folder(folder: str | os.PathLike[str]) -> Path:
    """A folder for results, created if needed.

    Raises:
        InputError: it cannot be created or written.
    """
    folder = Path(folder)
    if folder == STDOUT:
        raise InputError("stdout cannot take several files; give a folder as --out.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no folder can have this name"
        raise InputError(
            f"cannot make the folder {shown_path(folder)}: {reason}; give another --out."
        ) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"the folder {folder} is not writable; give another --out.")
    return folder


@contextmanager
def results_folder(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """A folder for results, created before any work and removed if the work fails.

    Raises:
        InputError: see `make_folder`.
    """
    folder = Path(folder)
    made = [one for one in (folder, *folder.parents) if not os.path.exists(one)]
    try:
        yield make_folder(folder)
    except BaseException:
        for one in made:
            with suppress(OSError):  # it is not empty, or was never made
                one.rmdir()
        raise


def versions() -> dict[str, str]:
    """Versions of the packages that a result depends on."""
    found = {"python": platform.python_version()}
    for name in ("stn3d", "torch", "numpy", "scipy", "nibabel", "simpleitk"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
