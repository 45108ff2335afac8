"""What a person looks at: the picture of one registration."""

from stn3d.report.picture import picture_of, require_matplotlib, save_picture

__all__ = ["picture_of", "require_matplotlib", "save_picture"]
