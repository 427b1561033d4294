"""One file per dense head."""
