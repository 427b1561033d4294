"""What the file of a scene says: where it lies, what its bands are called, when it was taken."""
