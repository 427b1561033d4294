"""Choose, measure, say why: model, batch, length, runtime, loaders."""
