"""Readers of boxes, outlines and masks: one file per form. See `form.py`."""
