"""One file per form of boxes and outlines."""
