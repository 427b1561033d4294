"""By what is looked at; every function named in a file's `__all__` is a check."""
