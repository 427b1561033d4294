"""The training loop and its parts: objective, optimizer, schedule, checkpoints, log."""
