"""Tokenizers: one file per network that turns the units of an image into ids."""
