"""One file per format of shards."""
