"""How boxes, outlines and masks are written down: a file for each form. See `form.py`."""
