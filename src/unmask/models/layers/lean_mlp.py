"""An MLP whose activation is recomputed in the backward pass. Chen et al. 2016, for the cheapest layer of a block.

Between its two matrix products an MLP keeps the input and the output of its GELU, the two largest tensors of a block.
The output is cheap to compute from the input, so only the input is kept. The second product is not computed again:
torch stops recomputing once it has what the backward pass needs.
"""

from jaxtyping import Float
from timm.layers import Mlp
from torch import Tensor, is_grad_enabled, nn
from torch.utils.checkpoint import checkpoint

ELEMENTWISE = (nn.GELU, nn.SiLU, nn.ReLU)  # without chance, and without parameters


class LeanMlp(nn.Module):
    """timm's `Mlp` with the same layers under the same names; values and state dict are the same."""

    def __init__(self, mlp: Mlp):
        super().__init__()
        self.fc1, self.act, self.drop1 = mlp.fc1, mlp.act, mlp.drop1
        self.norm, self.fc2, self.drop2 = mlp.norm, mlp.fc2, mlp.drop2
        self.train(mlp.training)

    def forward(self, x: Float[Tensor, "*b n d"]) -> Float[Tensor, "*b n e"]:
        hidden = self.fc1(x)
        if is_grad_enabled() and hidden.requires_grad:
            random = self.drop1.p > 0  # replaying random numbers takes time, so only if there are any
            y = checkpoint(self._project, hidden, use_reentrant=False, preserve_rng_state=random)
        else:
            y = self._project(hidden)
        return self.drop2(y)

    def _project(self, hidden: Float[Tensor, "*b n h"]) -> Float[Tensor, "*b n e"]:
        return self.fc2(self.norm(self.drop1(self.act(hidden))))


def make_lean(module: nn.Module) -> int:
    """Replaces every plain `Mlp` inside `module` by a lean one; returns their number."""
    plain = [
        (parent, name, child)
        for parent in module.modules()
        for name, child in parent.named_children()
        if type(child) is Mlp and isinstance(child.act, ELEMENTWISE) and isinstance(child.fc2, nn.Linear)
    ]
    for parent, name, mlp in plain:
        setattr(parent, name, LeanMlp(mlp))
    return len(plain)
