"""One file per projection head. See `projection.py`."""
