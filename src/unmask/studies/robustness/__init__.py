"""How much a classifier loses on corrupted images and on groups (ImageNet-C, Hendrycks & Dietterich 2019)."""
