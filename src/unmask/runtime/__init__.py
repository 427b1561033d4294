"""The machine, threads, processes."""
