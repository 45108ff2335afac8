"""What the operations share: selection of the implementation, regions, tensors, numba helpers."""
