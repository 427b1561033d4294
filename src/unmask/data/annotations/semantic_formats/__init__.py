"""Ways to keep segmented pictures on disk."""
