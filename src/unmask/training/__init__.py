"""The loop, and what it needs: objective, optimizer, schedule, checkpoints, log."""
