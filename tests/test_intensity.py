"""What is dark and what is bright, in images of any units and with any surroundings."""

from __future__ import annotations
