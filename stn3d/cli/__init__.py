"""The command line: parses, calls, prints."""

from stn3d.cli.commands import main

__all__ = ["main"]
