"""Tables of numbers: text with separators, columns that are times, several recordings in one file."""
