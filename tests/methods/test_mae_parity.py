"""Our MAE against an independent implementation: the same weights and noise give the same loss and gradients."""

import pytest
import torch

from unmask.masking.mask import hide_top
from unmask.methods.mae import MAE
from unmask.models.encoder import create_encoder

SIZES = {
    "tiny": {"dim": 48, "depth": 2, "heads": 3, "decoder": (32, 2, 4), "image": 32, "patch": 8, "channels": 3},
    "grey": {"dim": 64, "depth": 3, "heads": 4, "decoder": (48, 1, 3), "image": 24, "patch": 4, "channels": 1},
}


@pytest.fixture(params=SIZES, name="size")
def _size(request):
    return SIZES[request.param]


def ours(size, normalize):
    torch.manual_seed(0)
    model = f"vit_tiny_patch16_224(embed_dim={size['dim']}, depth={size['depth']}, num_heads={size['heads']})"
    side = (size["image"], size["image"])
    encoder = create_encoder(model, image_size=side, patch_size=size["patch"], channels=size["channels"])
    dim, depth, heads = size["decoder"]
    decoder = f"full(dim={dim}, depth={depth}, heads={heads})"
    mae = MAE(encoder, target=f"pixels(normalize={normalize})", decoder=decoder)
    for parameter in mae.parameters():  # biases and norms away from their trivial start values
        if parameter.requires_grad and parameter.ndim == 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return mae


def theirs(size, normalize):
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    dim, depth, heads = size["decoder"]
    config = ViTMAEConfig(
        hidden_size=size["dim"], num_hidden_layers=size["depth"], num_attention_heads=size["heads"],
        intermediate_size=4 * size["dim"], image_size=size["image"], patch_size=size["patch"],
        num_channels=size["channels"], decoder_hidden_size=dim, decoder_num_hidden_layers=depth,
        decoder_num_attention_heads=heads, decoder_intermediate_size=4 * dim, layer_norm_eps=1e-6,
        norm_pix_loss=normalize, mask_ratio=0.75,
    )  # fmt: skip
    return ViTMAEForPreTraining(config)


def names(mae):
    """Each of our tensors with the names of theirs; a fused qkv is three."""
    table = {
        "encoder.net.cls_token": "vit.embeddings.cls_token",
        "encoder.net.patch_embed.proj": "vit.embeddings.patch_embeddings.projection",
        "encoder.net.norm": "vit.layernorm",
        "decoder.mask_token": "decoder.mask_token",
        "decoder.embed": "decoder.decoder_embed",
        "decoder.norm": "decoder.decoder_norm",
        "decoder.predict": "decoder.decoder_pred",
    }
    inner = {"norm1": "layernorm_before", "norm2": "layernorm_after", "attn.proj": "attention.output.dense",
             "mlp.fc1": "intermediate.dense", "mlp.fc2": "output.dense"}  # fmt: skip
    for mine, other in (("encoder.net.blocks", "vit.encoder.layer"), ("decoder.blocks", "decoder.decoder_layers")):
        for place in range(64):
            table |= {f"{mine}.{place}.{a}": f"{other}.{place}.{b}" for a, b in inner.items()}
            qkv = tuple(f"{other}.{place}.attention.attention.{x}" for x in ("query", "key", "value"))
            table[f"{mine}.{place}.attn.qkv"] = qkv
    for name, parameter in mae.named_parameters():
        if name == "encoder.net.pos_embed":
            continue
        stem, _, kind = name.rpartition(".")
        other = table[name] if name in table else table[stem]
        others = other if isinstance(other, tuple) else (other,)
        yield parameter, [o if name in table else f"{o}.{kind}" for o in others]


def load(hf, mae):
    """Copies our weights and position tables into theirs (whose tables are all zero when built from a config)."""
    state = {key: torch.full_like(value, float("nan")) for key, value in hf.state_dict().items()}
    for parameter, others in names(mae):
        for key, part in zip(others, parameter.detach().chunk(len(others))):
            state[_known(key, state)] = part.clone()
    state["vit.embeddings.position_embeddings"] = mae.encoder.net.pos_embed.detach().clone()
    table = torch.nn.functional.pad(mae.decoder.position, (0, 0, 1, 0))[None]
    state["decoder.decoder_pos_embed"] = table
    assert not [key for key, value in state.items() if value.isnan().any()], "a tensor of theirs got no value"
    hf.load_state_dict(state)


def _known(key, state):
    """transformers 5 renamed some inner modules; take whichever of the two names is there."""
    if key in state:
        return key
    new = key.replace(".encoder.layer.", ".layers.").replace("decoder_layers", "decoder_layers")
    for old, fresh in RENAMED.items():
        new = new.replace(old, fresh)
    assert new in state, f"neither {key} nor {new} among {sorted(state)[:60]}"
    return new


RENAMED = {
    "attention.attention.query": "attention.q_proj", "attention.attention.key": "attention.k_proj",
    "attention.attention.value": "attention.v_proj", "attention.output.dense": "attention.o_proj",
    "intermediate.dense": "mlp.fc1", "output.dense": "mlp.fc2",
}  # fmt: skip


@pytest.mark.parametrize("normalize", [True, False])
def test_loss_and_every_gradient_equal_an_independent_implementation(size, normalize):
    pytest.importorskip("transformers")
    mae, hf = ours(size, normalize).double(), theirs(size, normalize).double()
    load(hf, mae)
    x = torch.rand(3, size["channels"], size["image"], size["image"], dtype=torch.float64)
    noise = torch.rand(3, mae.encoder.grid.num_units, dtype=torch.float64)
    mae.encoder.normalize = lambda x: x  # its float32 would hide the last digits; mean 0 and std 1 here

    loss = mae({"views": [x], "mask": hide_top(noise, 0.75)})["loss"]
    want = hf(x, noise=noise).loss
    torch.testing.assert_close(loss.double(), want, rtol=1e-5, atol=0)

    loss.backward()
    want.backward()
    gradients = {key: parameter.grad for key, parameter in hf.named_parameters()}
    compared = 0
    for parameter, others in names(mae):
        theirs_grad = torch.cat([gradients[_known(key, gradients)] for key in others]).view_as(parameter.grad)
        error = (parameter.grad - theirs_grad).norm() / theirs_grad.norm().clamp(min=1e-12)
        if theirs_grad.norm() > 1e-7:  # the key bias has no gradient at all: softmax ignores it
            assert error < 1e-5, f"{others}: relative error {error:.1e}"
        compared += 1
    assert compared == sum(p.requires_grad for p in mae.parameters())
