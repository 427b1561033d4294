"""Transforms of images together with what is annotated in them: one file per task."""
