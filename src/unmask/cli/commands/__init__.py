"""One file per command: its steps, in order."""
