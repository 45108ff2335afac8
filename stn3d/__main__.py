"""`python -m stn3d`: the same as the console script."""

import sys

from stn3d.cli import main

if __name__ == "__main__":
    sys.exit(main())
