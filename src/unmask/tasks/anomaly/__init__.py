"""What is unlike normal images."""
