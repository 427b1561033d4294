"""Segmentation of clouds: a class for every point, such as the parts of an object."""
