"""The command line: parses, calls, prints."""

from stn3d.cli.commands import console_script, main

__all__ = ["console_script", "main"]
