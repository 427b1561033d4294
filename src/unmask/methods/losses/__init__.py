"""Losses that several methods share: one file per family."""
