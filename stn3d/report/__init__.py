"""What people look at: the page and the picture of a registration, the index of many."""

from stn3d.report.picture import save_picture

__all__ = ["save_picture"]
