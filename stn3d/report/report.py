"""The report of a registration: its page and its picture, which share the planes they show."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path, PurePath

from stn3d.report.case import ReportCase
from stn3d.report.page import page_html
from stn3d.report.picture import metric_lines, picture_of, thumbnail_of, write_picture
from stn3d.report.views import View, views_of


class Report:
    """The page and the picture of a registration.

    Args:
        case: the registration.
    """

    def __init__(self, case: ReportCase) -> None:
        self.case = case

    @cached_property
    def _views(self) -> list[View]:
        return views_of(self.case)

    def write_page(self, path: Path) -> None:
        """Write the page, HTML."""
        path.write_text(page_html(self.case, self._views), encoding="utf8")

    def write_picture(self, path: Path) -> None:
        """Write the picture, PNG."""
        names = [
            PurePath(str(self.case.metrics[role]["name"])).name for role in ("moving", "fixed")
        ]
        title = f"{names[0]} registered to {names[1]}"
        picture = picture_of(self._views, title, metric_lines(self.case.metrics))
        write_picture(path, picture, thumbnail=thumbnail_of(self._views))
