"""Decoders: what each predicts, that no gradient is lost, and which numbers must be equal."""

import pytest
import torch
from timm.models.vision_transformer import Block

from unmask.decoder import BLOCK, LastBlock


@pytest.mark.parametrize("fused", [False, True])
def test_the_last_block_is_timm_s_for_the_last_tokens(fused):
    torch.manual_seed(0)
    lean, whole, x = LastBlock(24, 3, **BLOCK), Block(24, 3, **BLOCK), torch.randn(2, 7, 24)
    for parameter in lean.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    whole.load_state_dict(lean.state_dict())
    lean.attn.fused_attn = whole.attn.fused_attn = fused
    want = whole(x)[:, -4:]
    torch.testing.assert_close(lean(x, 4), want)
    lean(x, 4).square().sum().backward()
    want.square().sum().backward()
    for a, b in zip(lean.parameters(), whole.parameters()):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-4)
