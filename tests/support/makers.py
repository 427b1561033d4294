"""Networks of other programs with weights at random, and whether what was opened computes the same."""

import pytest
import timm
import torch

from unmask.weights.canonical import IMAGENET
from unmask.weights.reading import Reading

WIDTH = 384


EMA, STUDENT = Reading(ema=True), Reading(student=True)


def vit(model="vit_small_patch16_224", **options):
    """timm's ViT of two blocks, every weight at random."""
    pooling = {"global_pool": "avg", "fc_norm": False} if options.get("class_token") is False else {}
    net = timm.create_model(model, **({"num_classes": 0, "depth": 2, "img_size": 64} | pooling | options)).eval()
    return scrambled(net)


def scrambled(net):
    generator = torch.Generator().manual_seed(sum(map(ord, type(net).__name__)) + scrambled.count)
    scrambled.count += 1
    with torch.no_grad():
        for weight in net.parameters():
            weight.copy_(0.1 * torch.randn(weight.shape, generator=generator) + (0.2 if weight.ndim == 1 else 0.0))
    return net


scrambled.count = 0


def prefixed(prefix, net):
    return {prefix + key: value for key, value in net.state_dict().items()}


def saved(content, path):
    torch.save(content, path)
    return path


def same_features(opened, forward, statistics=IMAGENET):
    encoder = opened.encoder()
    assert (encoder.mean.tolist(), encoder.std.tolist()) == (pytest.approx(statistics[0]), pytest.approx(statistics[1]))
    x = torch.randint(0, 256, (2, 3, *opened.grid.size)).float()
    with torch.no_grad():
        tokens, want = encoder(x), forward(encoder.normalize(x))
    torch.testing.assert_close(torch.cat(tokens, dim=1), want, rtol=1e-5, atol=1e-5)
    return " ".join(opened.lines)
