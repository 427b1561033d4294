"""Weights of any origin, converted to one form."""
