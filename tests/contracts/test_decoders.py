"""What every decoder keeps: the order of the mask, a gradient for every parameter, the same meaning in bf16."""

import pytest
import torch
from support.decoders import make, sized, tokens_of

from unmask.errors import UserError
from unmask.masking.grid import Grid
from unmask.masking.mask import Mask, hide_top
from unmask.methods.mae import MAE
from unmask.registry import names
from unmask.runtime.settings import RuntimeSettings
from unmask.training.speed.compile import ready

DECODERS = names("decoder")
GRIDS = [Grid((7,), (2,)), Grid((5, 3), (2, 2)), Grid((2, 3, 2), (1, 2, 2))]


@pytest.mark.parametrize("grid", GRIDS, ids=lambda g: f"{len(g.shape)}d")
@pytest.mark.parametrize("name", DECODERS)
def test_every_decoder_predicts_hidden_units_and_wastes_no_parameter(name, grid):
    """In the order of the mask, with and without prefix tokens, on grids of any dimension."""
    decoder = make(f"{name}(window=2)" if name == "windowed" else name, grid)
    mask = hide_top(torch.rand(2, grid.num_units), 0.6)
    turned = Mask(mask.visible, mask.hidden.flip(1))
    for prefix in (0, 2):
        tokens = tokens_of(decoder, mask.visible.shape[1], prefix)
        found = decoder(tokens, mask)
        assert found.shape == (2, mask.hidden.shape[1], 8)
        torch.testing.assert_close(decoder(tokens, turned), found.flip(1), atol=1e-4, rtol=1e-4)
    found.square().sum().backward()
    for key, parameter in decoder.named_parameters():
        assert parameter.grad is not None, f"{key} gets no gradient"
        assert parameter.grad.abs().max() > 0, f"{key} gets no gradient"


@pytest.mark.parametrize("name", DECODERS)
def test_every_decoder_runs_in_bf16_with_either_attention_and_means_the_same(name, encoder):
    """Autocast, and blocks whose weights are bf16: windows add their bias to attention of another type than tokens."""
    torch.manual_seed(0)
    text = sized(name, window=3)
    x, mask = torch.rand(2, 3, 32, 32) * 255, hide_top(torch.rand(2, 16), 0.75)
    mae = MAE(encoder, decoder=text).train()
    mae.asked = lambda mask, rows=None: mask.hidden  # all, so that losses can be compared
    want, found = mae({"views": [x], "mask": mask})["loss"], []
    for attention in ("matmul", "sdpa", "by-length"):
        ready(mae, RuntimeSettings(attention=attention))
        with torch.autocast("cpu", torch.bfloat16):
            found.append(mae({"views": [x], "mask": mask})["loss"])
    ready(mae, RuntimeSettings(precision="bf16-weights"))
    found.append(mae({"views": [x], "mask": mask})["loss"])
    found[-1].backward()
    assert [n for n, p in mae.named_parameters() if p.requires_grad and p.grad is None] == []
    torch.testing.assert_close(torch.stack(found), want.expand(4), rtol=0.02, atol=0.02)


def test_symmetric_goes_with_self_attention_only(encoder):
    for text in DECODERS:
        if text in ("cross", "conv", "per_part"):
            with pytest.raises(UserError, match=rf"the decoder {text}.* cannot take tokens of all units"):
                MAE(encoder, decoder=sized(text), symmetric=True)
        else:
            mae = MAE(encoder, decoder=sized(text), symmetric=True)
            mae({"views": [torch.zeros(2, 3, 32, 32).byte()]})["loss"].backward()
            assert [n for n, p in mae.named_parameters() if p.requires_grad and p.grad is None] == []
