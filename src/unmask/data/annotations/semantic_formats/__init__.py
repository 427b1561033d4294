"""One file per form of semantic maps."""
