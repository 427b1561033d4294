"""The corruptions of ImageNet-C, one part each."""
