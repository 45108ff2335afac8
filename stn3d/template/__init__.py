"""Templates: unbiased means of a group of images, or of the visits of one subject."""

from stn3d.template.group import build
from stn3d.template.result import Template
from stn3d.template.settings import TemplateSettings
from stn3d.template.within_subject import build_within_subject

__all__ = ["Template", "TemplateSettings", "build", "build_within_subject"]
