"""One file per feature pyramid."""
