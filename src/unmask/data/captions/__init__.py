"""Captions of images: the tables and files that hold them, and their tokens."""
