"""The nearest pictures, copies among them, and a map of them all."""
