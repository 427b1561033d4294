"""How much a classifier loses on corrupted images (ImageNet-C, Hendrycks & Dietterich 2019)."""
