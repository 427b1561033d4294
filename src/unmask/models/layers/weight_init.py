"""MAE's initialisation of encoder and decoder. He et al. 2021, as in its reference implementation."""

from torch import nn


def initialize(module: nn.Module) -> None:
    """In place: Linear weights Xavier-uniform on the stored shape (a fused qkv counts as one matrix), biases zero,
    LayerNorm weight 1 and bias 0, a patch convolution of one to three dimensions Xavier-uniform as the matrix it is
    (its bias keeps torch's default), single tokens (class, register, mask) normal with std 0.02. Position tables are
    not touched."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.LayerNorm):
            if part.weight is not None:
                nn.init.ones_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            nn.init.xavier_uniform_(part.weight.data.view(len(part.weight), -1))
    for name, parameter in module.named_parameters():
        if name.rsplit(".", 1)[-1] in ("cls_token", "reg_token", "mask_token"):
            nn.init.normal_(parameter, std=0.02)
