"""What people look at: the page and the picture of a registration, the index of many."""

from stn3d.report.folder import write_report
from stn3d.report.index import IndexEntry, write_index
from stn3d.report.picture import save_picture
from stn3d.report.table import row_of

__all__ = ["IndexEntry", "row_of", "save_picture", "write_index", "write_report"]
