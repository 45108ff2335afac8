"""Segmentation of heads: images, files, pictures."""
