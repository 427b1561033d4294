"""Evaluators on frozen features: features and labels in, predictions out."""
