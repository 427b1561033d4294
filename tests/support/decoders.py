"""Small decoders, and tokens for them."""

import inspect

import torch

from unmask.models.encoder import Tokens
from unmask.registry import build, find, parse

SIZE = "dim=24, depth=3, heads=2"


def sized(name, **options):
    """The text of a small decoder, with the options that it has."""
    takes = inspect.signature(find("decoder", name)).parameters
    options = {key: value for key, value in ({"dim": 24, "depth": 3, "heads": 2} | options).items() if key in takes}
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in options.items())})"


def make(text, grid, **context):
    """A decoder whose parameters are all away from their trivial start values."""
    torch.manual_seed(0)
    name, options = parse(text)
    written = ", ".join(f"{key}={value!r}" for key, value in (parse(sized(name))[1] | options).items())
    context = {"grid": grid, "in_dim": 20, "out_dim": 8, "num_layers": 3, **context}
    decoder = build("decoder", f"{name}({written})", **context)
    for parameter in decoder.parameters():
        if parameter.ndim < 3:
            torch.nn.init.normal_(parameter, std=0.3)
    return decoder.eval()


def tokens_of(decoder, visible, prefix=1):
    made = [Tokens(torch.randn(2, prefix, 20), torch.randn(2, visible, 20)) for _ in range(3)]
    return made if decoder.layers > 1 else made[-1]
