"""Grids and masks."""
