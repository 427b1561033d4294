"""Models of transformers with weights away from their trivial start values, and theirs compared with ours."""

import copy

import torch

from unmask.weights.open import open_weights

NEEDS = "dev extra: independent code to compare with"


def scrambled(net):
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in net.parameters():
            weight.copy_(0.1 * torch.randn(weight.shape, generator=generator) + (0.2 if weight.ndim == 1 else 0.0))
    return net


def opened(net, folder):
    """The encoder that `weights/` makes of a model of transformers, in training."""
    net.save_pretrained(folder)
    return open_weights(folder).encoder().train()


def gradients_as_weights(net, folder):
    """A copy of their model whose weights are its gradients, translated as weights are: what ours have to be."""
    copied = copy.deepcopy(net)
    with torch.no_grad():
        for mine, theirs in zip(copied.parameters(), net.parameters()):
            mine.copy_(torch.zeros_like(mine) if theirs.grad is None else theirs.grad)
    return opened(copied, folder).net


def require_equal_gradients(encoder, theirs):
    trained = {name: weight.grad for name, weight in encoder.net.named_parameters() if weight.requires_grad}
    other = dict(theirs.named_parameters())
    assert len(trained) > 20
    for name, gradient in trained.items():
        if name.endswith("qkv.bias"):  # BEiT has no bias of keys
            gradient, wanted = (value.unflatten(0, (3, -1))[[0, 2]] for value in (gradient, other[name]))
        else:
            wanted = other[name]
        torch.testing.assert_close(
            gradient, wanted, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
        )
        assert gradient.any(), name
