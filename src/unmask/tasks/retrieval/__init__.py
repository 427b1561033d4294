"""The nearest images, copies among them, and a map of them all."""
