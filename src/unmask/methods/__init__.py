"""Learn without labels: one file per method."""
