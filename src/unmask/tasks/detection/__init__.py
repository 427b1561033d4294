"""Boxes, and masks of objects: annotated images, torchvision's R-CNN on an encoder, its judgement and predictions."""
