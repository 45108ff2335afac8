"""Measure how well a transform aligns a pair of images: the same as `stn3d evaluate`."""

import sys

from stn3d.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
