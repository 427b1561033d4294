"""Tasks that train with labels or use an encoder: one folder each."""
