"""Grouped by subject; every function named in a file's `__all__` is a check."""
