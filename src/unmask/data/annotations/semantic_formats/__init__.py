"""Ways to keep segmented images on disk."""
