"""One frozen dataclass of options per command: plain data."""
