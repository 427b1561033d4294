"""Models taken out and checked."""
