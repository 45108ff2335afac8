"""Pictures of a registration."""

from stn3d.report.picture import require_matplotlib, save_picture, save_registration_picture

__all__ = ["require_matplotlib", "save_picture", "save_registration_picture"]
