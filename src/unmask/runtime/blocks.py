"""Walks the blocks of a network."""

from collections.abc import Iterator

from torch import nn

STACK = "blocks"  # attribute in which encoders and decoders keep their blocks


def stacked(objective: nn.Module) -> Iterator[tuple[bool, nn.Module]]:
    """All blocks of encoders and decoders, each with True if it is the last one of its stack."""
    for name, stack in objective.named_modules():
        if name.rpartition(".")[2] == STACK and isinstance(stack, nn.ModuleList | nn.Sequential):
            for index, block in enumerate(stack):
                yield index == len(stack) - 1, block
