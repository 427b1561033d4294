"""Known faults of runs, weights and data, each with a remedy."""
