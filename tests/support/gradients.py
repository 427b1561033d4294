"""One backward pass."""

import torch


def gradients(model, batch):
    torch.manual_seed(1)
    model.zero_grad()
    loss = model(batch)["loss"]
    loss.backward()
    return loss.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
