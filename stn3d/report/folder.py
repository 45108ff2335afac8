"""Reports made later, from the files of a registration."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stn3d.errors import InputError
from stn3d.io import atomic_write, read_image, read_transform
from stn3d.io.texts import parse_json, read_text
from stn3d.registration.inputs import RegistrationImage, read_pair
from stn3d.report.case import ReportCase
from stn3d.report.report import Report

_BIDS = "_desc-registration_metrics.json"
_MOST_MB = 64  # of a metrics.json
_ADVICE = "give the folder of a registration"
_KEYS = ("quality", "before", "after", "fixed", "moving", "settings", "stages", "timings_s")


@dataclass(frozen=True)
class ResultFiles:
    """The files of one registration.

    Args:
        metrics: metrics.json, or its name in BIDS.
    """

    metrics: Path

    @property
    def folder(self) -> Path:
        return self.metrics.parent

    @property
    def name(self) -> str:
        """Its BIDS name, which distinguishes it from others in the folder; else empty."""
        return self.metrics.name.removesuffix(_BIDS) if self._is_bids else ""

    @property
    def transform(self) -> Path:
        return self.folder / (f"{self.name}_mode-image_xfm.h5" if self._is_bids else "transform.h5")

    @property
    def page(self) -> Path:
        return self._report("report.html")

    @property
    def picture(self) -> Path:
        return self._report("report.png")

    @property
    def moved(self) -> Path:
        """The moved image, in whatever format it was written."""
        found = [] if self._is_bids else sorted(self.folder.glob("moved.*"))
        return found[0] if found else self.folder / "moved.nii.gz"

    @property
    def uncertainty(self) -> Path | None:
        """The map of the expected error, in whatever format it was written; None if there is none,
        or it has a BIDS name."""
        found = [] if self._is_bids else sorted(self.folder.glob("uncertainty.*"))
        return found[0] if found else None

    def content(self) -> dict[str, Any]:
        """The content of metrics.json.

        Raises:
            InputError: it cannot be read, or is not that of a registration of two images.
        """
        try:
            content = parse_json(read_text(self.metrics, "metrics.json", _ADVICE, _MOST_MB))
        except ValueError:
            raise InputError(f"{self.metrics} is not JSON; {_ADVICE}.") from None
        if not isinstance(content, dict) or any(key not in content for key in _KEYS):
            raise InputError(f"{self.metrics} is not of a registration of two images; {_ADVICE}.")
        return content

    @property
    def _is_bids(self) -> bool:
        return self.metrics.name.endswith(_BIDS)

    def _report(self, name: str) -> Path:
        return self.folder / (f"{self.name}_desc-registration_{name}" if self._is_bids else name)


def registrations_in(folder: str | os.PathLike[str]) -> list[ResultFiles]:
    """The registrations whose files lie in a folder itself, by name."""
    folder = Path(folder)
    plain = [folder / "metrics.json"] if (folder / "metrics.json").is_file() else []
    return [ResultFiles(path) for path in (*plain, *sorted(folder.glob(f"*{_BIDS}")))]


def registrations_below(folder: str | os.PathLike[str]) -> Iterator[ResultFiles]:
    """The registrations in a folder and all folders below it, by path."""
    for place, folders, _ in os.walk(folder):
        folders.sort()
        yield from registrations_in(place)


def write_report(folder: str | os.PathLike[str]) -> list[Path]:
    """Make the page and the picture of the registrations whose files lie in a folder.

    Args:
        folder: folder with metrics.json and transform.h5; the images are read from where
            metrics.json says they were.

    Returns:
        The files written.

    Raises:
        InputError: it holds no registration, an image is no longer there, or a file cannot be
            written.
    """
    found = registrations_in(folder)
    if not found:
        raise InputError(
            f"{folder} holds no metrics.json of a registration; {_ADVICE} as written by "
            "stn3d register."
        )
    return [path for one in found for path in write_report_of(one)]


def write_report_of(files: ResultFiles) -> list[Path]:
    """Make the page and the picture of one registration, see `write_report`."""
    metrics = files.content()
    try:
        fixed, moving = (_side(metrics[role], role, files.metrics) for role in ("fixed", "moving"))
        names = {"moved": files.moved.name, "transform": files.transform.name}
        inputs = read_pair(fixed, moving)
        transform, errors = read_transform(files.transform), None
        if metrics.get("uncertainty") is not None and files.uncertainty is not None:
            errors = read_image(files.uncertainty, "map of the expected error")
        report = Report(ReportCase(inputs, transform, metrics, names, errors))
        with ExitStack() as parts:
            report.write_page(parts.enter_context(atomic_write(files.page)))
            report.write_picture(parts.enter_context(atomic_write(files.picture)))
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:  # edited, or of long ago
        raise InputError(
            f"{files.metrics} does not hold what this version of stn3d writes "
            f"({type(error).__name__}: {error}); register again to get a report."
        ) from error
    return [files.page, files.picture]


def _side(about: Mapping[str, Any], role: str, metrics: Path) -> RegistrationImage:
    """An image and its data from their recorded paths.

    Raises:
        InputError: they were not recorded, or a file is no longer there.
    """
    sources = about.get("sources")
    if not isinstance(sources, Mapping) or sources.get("image") is None:
        raise InputError(
            f"{metrics} does not say where the {role} image is (it was in memory, or an older "
            "version wrote the file); register again to get a report."
        )
    single = ("image", "mask", "exclude", "labels", "landmarks")
    for key in single:
        path = sources.get(key)
        if path is not None and not (isinstance(path, str) and os.path.exists(path)):
            what = "image" if key == "image" else key
            raise InputError(
                f"the {role} {what} {path} of {metrics} is no longer there; put it back, or "
                "register again."
            )
    given: dict[str, Any] = {key: sources.get(key) for key in (*single[1:], "volume", "colour")}
    return RegistrationImage(str(sources["image"]), **given)
