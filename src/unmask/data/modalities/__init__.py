"""Kinds of data, a file for each. See `modality.py`."""
