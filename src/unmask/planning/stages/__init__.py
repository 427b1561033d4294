"""Several trainings in a row: planned, made one after the other, and found again by later runs."""
