"""The page of a registration: one HTML file that needs no other file and no network."""

from stn3d.report.page.render import page_html

__all__ = ["page_html"]
