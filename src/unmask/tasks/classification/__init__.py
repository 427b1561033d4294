"""Classification: a class, or several, for every image."""
