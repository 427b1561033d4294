"""Weights of any origin brought to one form."""
