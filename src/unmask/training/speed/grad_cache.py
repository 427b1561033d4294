"""Large batches for methods that compare samples: two passes over its parts give the gradient of the whole batch.

GradCache, Gao et al. 2021 (https://arxiv.org/abs/2101.06983). The first pass embeds all parts without keeping
activations; the loss of all embeddings gives the gradient of each; the second pass embeds every part again and sends
its gradients back. Memory is that of one part, time that of one more forward pass.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from unmask.data.batch import Batch
from unmask.runtime.distributed.data_parallel import Devices, Wrapped
from unmask.seeds import mix


def backward_in_two_passes(model: Wrapped, batches: Sequence[Batch], devices: Devices, seed: int) -> dict[str, Tensor]:
    """Leaves the gradient of the whole batch in the parameters, averaged over processes; returns the loss's scalars.

    model: around a `Comparing` objective. seed: of dropout, so that both passes drop the same.
    """
    with model.accumulating():  # gradients meet once, at the end
        parts = []
        for micro, batch in enumerate(batches):
            torch.manual_seed(mix(seed, micro))
            with torch.no_grad():
                parts.append(model(batch | {"embed": True}))
        names = list(parts[0])
        whole = {name: _leaf(torch.cat([part[name] for part in parts])) for name in names}
        outputs = model({"embeddings": whole, "views": [next(iter(whole.values()))]})
        outputs["loss"].backward()
        sizes = [[len(part[name]) for part in parts] for name in names]
        gradients = {name: _gradient(whole[name]).split(size) for name, size in zip(names, sizes)}
        for micro, batch in enumerate(batches):
            torch.manual_seed(mix(seed, micro))
            embeddings = model(batch | {"embed": True})
            trained = [name for name in names if embeddings[name].requires_grad]  # not what a teacher says
            torch.autograd.backward([embeddings[n] for n in trained], [gradients[n][micro] for n in trained])
    if devices.world > 1:
        for parameter in model.parameters():
            if parameter.grad is not None:
                devices.mean(parameter.grad)
    return {name: value.detach().float() for name, value in outputs.items()}


def _leaf(x: Tensor) -> Tensor:
    """What gathers a gradient, unless it is made of whole numbers."""
    return x.requires_grad_() if x.is_floating_point() else x


def _gradient(x: Tensor) -> Tensor:
    return torch.zeros_like(x) if x.grad is None else x.grad
