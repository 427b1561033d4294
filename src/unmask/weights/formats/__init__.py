"""One file per family of checkpoints: how its keys are named."""
