"""Folders that the benchmarks read and write."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "results"
PAIR_LISTS = Path(__file__).resolve().parent / "data"
SHARED = ROOT.parent / "shared"  # images that are not part of the repository


def image_path(name: str) -> Path:
    """The file of an image in the shared data.

    Args:
        name: path below ``shared/data`` without extension, such as ``brains/1000_t1``.

    Raises:
        SystemExit: the file does not exist.
    """
    return existing(SHARED / "data" / f"{name}.nii.gz")


def contrast_path(contrast: str) -> Path:
    """The image of one MR contrast (``t1``, ``t1post``, ``t2``, ``flair``) of the same person."""
    return image_path(f"contrasts/p07_{contrast}")


def existing(path: Path) -> Path:
    """The path itself.

    Raises:
        SystemExit: there is no such file.
    """
    if not path.is_file():
        raise SystemExit(f"No file {path}; this study needs the project's shared data there.")
    return path
