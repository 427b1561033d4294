"""The run folder: its configuration, and opening it."""
