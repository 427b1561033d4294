"""What makes a step faster or smaller: compilation, activation checkpointing, bf16 weights."""
