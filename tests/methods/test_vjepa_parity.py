"""V-JEPA 2 against transformers' code: encoder, predictor, and the gradients of the whole method."""

import torch
from support.parity import gradients_as_weights, opened
from support.vjepa import PREDICTOR, SIZE, of_predictor, tiny
from torch.nn.functional import layer_norm, smooth_l1_loss

from unmask.masking.grid import take
from unmask.masking.mask import Mask, Noise
from unmask.masking.samplers.multiblock import MultiBlock
from unmask.methods.ijepa import IJEPA
from unmask.models.encoder import Tokens, create_encoder
from unmask.models.state import model_text

TUBES = ((8, 0.15), (2, 0.7))
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def clips():
    return torch.randint(0, 256, (2, 3, *SIZE), generator=torch.Generator().manual_seed(1)).float()


def drawn(grid):
    """Context and targets of both ranges, in the order of our masks, which is not that of places."""
    return [
        (seen, targets[:, 0])
        for seen, targets in MultiBlock(tubes=TUBES).parts(2, grid, Noise("cpu", torch.Generator().manual_seed(0)))
    ]


def seen_by(other, pixels, visible):
    """What their encoder makes of the visible units alone, as in training; transformers' model encodes all of them."""
    tokens = take(other.encoder.embeddings(pixels), visible)
    for layer in other.encoder.layer:
        tokens = layer(tokens, visible)[0]
    return other.encoder.layernorm(tokens)


def method_of(other, folder):
    """I-JEPA with the weights of their encoder and predictor, in training."""
    method = IJEPA(opened(other, folder), mask=f"multiblock(tubes={TUBES})", decoder=PREDICTOR).train()
    method.decoder.load_state_dict(of_predictor(other.state_dict(), method.decoder))
    return method


def test_the_encoder_is_vjepa2s_with_and_without_a_mask(tmp_path):
    other, x = tiny(), clips()
    encoder = opened(other, tmp_path).eval()
    pixels = encoder.normalize(x).transpose(1, 2)
    with torch.no_grad():
        wanted = other(pixels, skip_predictor=True).last_hidden_state
        torch.testing.assert_close(encoder(x).units, wanted, **CLOSE)
        for visible, hidden in drawn(encoder.grid):
            mine = encoder(x, Mask(visible, hidden)).units
            torch.testing.assert_close(mine, seen_by(other, pixels, visible), **CLOSE)
        text = model_text(encoder)
        assert "rotary_order='tiled'" in text
        paired = create_encoder(
            text.replace("tiled", "paired"), image_size=SIZE, patch_size=encoder.grid.unit,
            mean=tuple(encoder.mean.tolist()), std=tuple(encoder.std.tolist()),
        ).eval()  # fmt: skip
        paired.net.load_state_dict(encoder.net.state_dict())
        assert (paired(x).units - wanted).abs().max() > 1e-2  # the order of the angles matters


def test_the_predictor_is_vjepa2s_for_masks_of_both_ranges(tmp_path):
    other, x = tiny(), clips()
    method = method_of(other, tmp_path).eval()
    pixels = method.encoder.normalize(x).transpose(1, 2)
    with torch.no_grad():
        tokens = method.encoder(x)
        for visible, hidden in drawn(method.encoder.grid):
            outputs = other(pixels, context_mask=[visible], target_mask=[hidden])
            mine = method.decoder(Tokens(tokens.prefix, take(tokens.units, visible)), Mask(visible, hidden))
            torch.testing.assert_close(mine, outputs.predictor_output.last_hidden_state, **CLOSE)


def test_loss_and_gradients_of_the_method_are_those_of_vjepa2s_networks(tmp_path):
    other, x = tiny(), clips()
    method = method_of(other, tmp_path)
    parts = drawn(method.encoder.grid)
    method.mask.parts = lambda *_: [(visible, hidden[:, None]) for visible, hidden in parts]
    loss = method({"views": [x]})["loss"]
    loss.backward()

    pixels = method.encoder.normalize(x).transpose(1, 2)
    with torch.no_grad():
        features = other.encoder(pixels).last_hidden_state
        features = layer_norm(features, features.shape[-1:])
    losses = []
    for visible, hidden in parts:
        context = seen_by(other, pixels, visible)
        index = visible[..., None].expand_as(context)
        spread = torch.zeros_like(features).scatter(1, index, context)  # the predictor picks the context out of all
        predicted = other.predictor(spread, [visible], [hidden]).last_hidden_state
        losses.append(smooth_l1_loss(predicted, take(features, hidden)))
    wanted = torch.stack(losses).mean()
    torch.testing.assert_close(loss, wanted, **CLOSE)
    wanted.backward()

    of_encoder = dict(gradients_as_weights(other, tmp_path / "gradients").named_parameters())
    of_decoder = of_predictor({name: weight.grad for name, weight in other.named_parameters()}, method.decoder)
    trained = {name: weight.grad for name, weight in method.named_parameters() if weight.requires_grad}
    assert len(trained) > 50
    for name, gradient in trained.items():
        room, _, own = name.partition(".")
        theirs = of_encoder[own.removeprefix("net.")] if room == "encoder" else of_decoder[own]
        assert gradient.any(), name
        told = f"{name}: ".__add__
        torch.testing.assert_close(gradient, theirs, rtol=1e-3, atol=1e-6, msg=told)
