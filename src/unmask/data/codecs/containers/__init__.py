"""Files of moving pictures and of sound, as they lie on disk."""
