"""A class for every pixel: pictures with masks, an encoder with a dense head, its training and its predictions."""
