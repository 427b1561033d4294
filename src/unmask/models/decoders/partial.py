"""MAE's decoder on a share of the hidden units: the others are neither decoded nor predicted in that step.

The idea of dropping hidden tokens is PR-MIM's (Li et al. 2024, https://arxiv.org/abs/2411.15746); its cheap
reconstruction of the dropped ones is not included. The weights are those of `full`; with keep=1, so are the results.
"""

from unmask.masking.grid import Grid
from unmask.models.decoder import SelfAttention, require_share

__all__ = ["Partial"]


class Partial(SelfAttention):
    def __init__(
        self,
        grid: Grid,
        in_dim: int,
        out_dim: int,
        keep: float = 0.5,
        dim: int = 512,
        depth: int = 8,
        heads: int = 16,
        filled: bool = False,
    ):
        """keep: share of the hidden units that each training step decodes, drawn anew for every sample; the paper's
        lossless half is the default. Drawn images have all of them predicted."""
        require_share("keep", keep)
        super().__init__(grid, in_dim, out_dim, dim, depth, heads, filled=filled)
        self.share = keep
