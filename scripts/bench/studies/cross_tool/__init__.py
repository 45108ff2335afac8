"""Transform files between stn3d and other tools: written by one, applied by the other.

    python -m scripts.bench cross_tool run [--tools-python PYTHON]

For each format, tool and orientation of the images (RAS, LAS, LPS, oblique; the voxels are
anisotropic and both images have other grids), a transform is written by stn3d and applied by the
tool, and written by the tool and applied by stn3d. Compared are mapped points, in millimetres, and
the moving image resampled by linear interpolation, in percent of its range.
"""

from scripts.bench.studies.cross_tool.page import report
from scripts.bench.studies.cross_tool.study import Options, run

__all__ = ["Options", "report", "run"]
