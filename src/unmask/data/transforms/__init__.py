"""What a method sees of an image: one file per recipe of views. See `transform.py`."""
