"""Annotations of images: boxes, outlines, masks."""
