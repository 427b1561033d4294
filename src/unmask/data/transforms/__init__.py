"""Views: crops, colour, and what the tasks do to images."""
