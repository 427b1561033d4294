"""Boxes and masks of objects."""
