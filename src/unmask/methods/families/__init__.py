"""What methods of one family have in common: the settings that they choose."""
