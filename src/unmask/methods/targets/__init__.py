"""What a method predicts for a hidden unit: one file per target."""
