"""A class for every image."""
