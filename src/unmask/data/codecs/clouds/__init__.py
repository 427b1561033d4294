"""Readers of the files that hold clouds of points and meshes."""
