"""A class for every pixel: images with masks, an encoder with a dense head, its training and its predictions."""
