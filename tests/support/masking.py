"""Samplers with what they must be told, for tests: attention, features and pixels of images that are not there."""

import torch

from unmask.registry import build


def sampler_of(name, grid, seed=0, **options):
    """The sampler of a text, with the network that it learns, if it has one."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build("mask", name, grid=grid, channels=1, **options)


def told(sampler, batch, grid, seed=0, progress=1.0):
    """What the sampler needs, of a batch of images that the seed decides."""
    generator = torch.Generator().manual_seed(1000 + seed)
    count = grid.num_units
    pixels = torch.randn(batch, count, torch.tensor(grid.unit).prod(), generator=generator)
    context = {
        "teacher_attention": torch.rand(batch, count, generator=generator),
        "features": torch.randn(batch, count, 5, generator=generator),
        "pixels": pixels,
    }
    return {name: context[name] for name in sampler.needs & context.keys()} | {"progress": progress}


def rows_of(context, first, count):
    """The same of some of the images."""
    return {k: v[first : first + count] if isinstance(v, torch.Tensor) else v for k, v in context.items()}
