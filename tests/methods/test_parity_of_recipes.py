"""What recipes train, against transformers: the loss and gradients of Hiera's MAE, the features of Pixio."""

import pytest
import torch
from support.parity import NEEDS, gradients_as_weights, opened, require_equal_gradients, scrambled

from unmask.masking.mask import hide_top
from unmask.registry import build
from unmask.weights.open import open_weights

HIERA = {
    "embed_dim": 8,
    "depths": (1, 2, 1, 1),
    "num_heads": (1, 2, 4, 8),
    "image_size": (96, 96),
    "decoder_hidden_size": 24,
    "decoder_depth": 2,
    "decoder_num_heads": 2,
    "mask_ratio": 0.6,
}
NAMES = {  # our decoder's -> theirs; a block's are the same but for its norms
    "embed.": "decoder_embeddings.",
    "blocks.": "decoder_block.layers.",
    "norm.": "decoder_norm.",
    "predict.": "decoder_pred.",
    ".norm1.": ".layernorm_before.",
    ".norm2.": ".layernorm_after.",
}


def in_their_order(x, side):
    """Their pixels of a cell lie channel first, ours last: rows of the last layer in our order."""
    return x.unflatten(0, (3, side, side)).movedim(0, 2).flatten(0, 2)


def pairs(method, theirs, side, value):
    """Our decoder's parameters, each with theirs in our order. value: what of theirs, itself or its gradient."""
    names = dict(theirs.named_parameters())
    for name, parameter in method.decoder.named_parameters():
        if name.startswith("fusion."):
            other = name.replace("fusion.", "multiscale_fusion.multi_scale_fusion_heads.")
        else:
            for old, new in NAMES.items():
                start = name.startswith(old) and not old.startswith(".")
                name = new + name.removeprefix(old) if start else name.replace(old, new) if old[0] == "." else name
            other = f"decoder.{name}"
        tensor = value(names.pop(other))
        yield parameter, in_their_order(tensor, side) if "decoder_pred" in other else tensor


@pytest.mark.parametrize(("pools", "cells"), [(3, 1), (2, 2)])
def test_hieras_loss_and_gradients_are_those_of_transformers(tmp_path, pools, cells):
    """pools: stages that tokens are pooled before; with two, as in its pretraining, a patch has four cells."""
    transformers = pytest.importorskip("transformers", reason=NEEDS)
    torch.manual_seed(0)
    config = transformers.HieraConfig(**HIERA, num_query_pool=pools)
    theirs = scrambled(transformers.HieraForPreTraining(config)).train()
    encoder = opened(theirs, tmp_path / "weights")
    target, decoder = f"pixels(cells={cells})", "multiscale(dim=24, depth=2, heads=2)"
    method = build("method", "mae", encoder=encoder, target=target, decoder=decoder).train()
    side = 32 // cells
    with torch.no_grad():
        theirs.decoder.decoder_position_embeddings.copy_(method.decoder.position)
        for parameter, other in pairs(method, theirs, side, lambda tensor: tensor):
            parameter.copy_(other)
    x = torch.randint(0, 256, (3, 3, 96, 96), generator=torch.Generator().manual_seed(1)).byte()
    noise = torch.rand(3, 9, generator=torch.Generator().manual_seed(2))
    mask = hide_top(noise, 0.6)
    loss = method({"views": [x], "mask": mask})["loss"]
    outputs = theirs(method.encoder.normalize(x), noise=noise)
    torch.testing.assert_close(loss, outputs.loss, rtol=1e-5, atol=0)
    guesses, places = method.predict(x, mask), method.encoder.grid.cells(mask.hidden, cells)
    guesses = method.encoder.grid.split(guesses, cells).unflatten(2, (-1, 3)).transpose(2, 3).flatten(2)
    wanted = outputs.logits.gather(1, places[..., None].expand_as(guesses))
    torch.testing.assert_close(guesses, wanted, rtol=1e-4, atol=1e-5)
    (1000 * loss).backward()  # so that gradients are large beside what may differ
    (1000 * outputs.loss).backward()
    require_equal_gradients(method.encoder, gradients_as_weights(theirs, tmp_path / "gradients"))
    compared = 0
    for parameter, gradient in pairs(method, theirs, side, lambda tensor: tensor.grad):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-4)
        compared += bool(gradient.any())
    assert compared == len(list(method.decoder.parameters()))


def test_pixios_features_are_those_of_transformers(tmp_path):
    transformers = pytest.importorskip("transformers", reason=NEEDS)
    if not hasattr(transformers, "PixioModel"):
        pytest.skip("this transformers has no Pixio")
    sizes = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 32, "patch_size": 8}
    theirs = scrambled(transformers.PixioModel(transformers.PixioConfig(**sizes, n_cls_tokens=8))).eval()
    theirs.save_pretrained(tmp_path / "weights")
    weights = open_weights(tmp_path / "weights")
    encoder = weights.encoder()
    assert "class_tokens=8" in weights.model
    assert "FAIR Noncommercial" in weights.licence
    x = torch.randint(0, 256, (3, 3, 32, 32), generator=torch.Generator().manual_seed(1)).byte()
    with torch.no_grad():
        tokens, wanted = encoder(x), theirs(encoder.normalize(x))
    close = {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(torch.cat([tokens.prefix, tokens.units], dim=1), wanted.last_hidden_state, **close)
    torch.testing.assert_close(encoder.class_token(tokens), wanted.pooler_output, **close)
    outputs = dict(zip(encoder.outputs, encoder.traced(x)))
    torch.testing.assert_close(outputs["class_token"], wanted.pooler_output, **close)
