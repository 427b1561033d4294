"""Segmentation in three dimensions: volumes with volumes of labels."""
