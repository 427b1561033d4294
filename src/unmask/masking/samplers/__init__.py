"""One file per mask sampler."""
