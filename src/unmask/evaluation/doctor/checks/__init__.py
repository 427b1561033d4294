"""Known faults by what is looked at. Every function named in a file's `__all__` is a check."""
