"""Tables of numbers: text with separators, and columns that are times."""
