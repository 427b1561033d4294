"""How boxes and masks are written down: each file reads one form. See `annotation.py`."""
