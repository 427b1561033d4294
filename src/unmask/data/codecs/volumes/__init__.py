"""Of volumes: stacks that do not say where they lie, and slices that do."""
