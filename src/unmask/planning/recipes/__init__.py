"""Published recipes, with their sources."""
