"""Nearest images, duplicates and maps."""
