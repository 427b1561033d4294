"""Several processes: launch, DDP, FSDP2, collectives."""
