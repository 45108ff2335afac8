"""The command line: parses, calls, prints. Only a command that runs imports torch."""

from stn3d.cli.app import console_script, main

__all__ = ["console_script", "main"]
