"""A valid input of the fuzz test."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Sample:
    """A valid input.

    Args:
        format: name of its format.
        files: content of each of its files by relative path.
        path: what a reader is given, relative; the folder of ``files`` for DICOM.
        targets: the files that may be damaged; the first one is most often.
    """

    format: str
    files: dict[str, bytes]
    path: str
    targets: tuple[str, ...]

    def write(self, folder: Path) -> Path:
        """Write the files below a folder and return the path for a reader."""
        for name, content in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return folder / self.path


def single(format: str, path: Path) -> Sample:
    """A sample of one file."""
    return Sample(format, {path.name: path.read_bytes()}, path.name, (path.name,))
