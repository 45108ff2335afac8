"""The hot loops behind one small face; today in plain torch."""

from stn3d.kernels.reference import box_sum, gaussian_smooth

__all__ = ["box_sum", "gaussian_smooth"]
