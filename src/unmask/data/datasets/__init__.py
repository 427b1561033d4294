"""Data sets: decoded images with their labels."""
