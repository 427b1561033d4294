"""Streams of shards, near or far."""
