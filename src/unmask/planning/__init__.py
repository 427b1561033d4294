"""Chooses and measures, with reasons: model, batch, length, runtime, loaders."""
