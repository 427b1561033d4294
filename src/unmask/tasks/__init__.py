"""Learn with labels, or use an encoder: one folder per task."""
