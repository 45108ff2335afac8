"""stn3d as a part of other packages."""
