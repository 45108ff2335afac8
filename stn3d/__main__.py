"""`python -m stn3d`: the same as the console script."""

from stn3d.cli import console_script

if __name__ == "__main__":
    console_script()
