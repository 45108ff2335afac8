"""Register a pair of images: the same as `stn3d register`."""

import sys

from stn3d.cli import main

if __name__ == "__main__":
    sys.exit(main(["register", *sys.argv[1:]]))
