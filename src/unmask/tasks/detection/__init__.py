"""Boxes, and masks of objects: annotated pictures, torchvision's R-CNN on an encoder, its judgement and predictions."""
