"""Weights of one model in the layouts of others."""

import torch

from unmask.masking.grid import Grid
from unmask.models.layers.position import sincos

DIM, DEPTH, HEADS, SIDE, PATCH = 64, 2, 4, 32, 8
DECODER = (32, 1, 2)
GRID = Grid((SIDE // PATCH,) * 2, (PATCH,) * 2)
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def mmpretrain(state):
    rename = {"norm1": "ln1", "norm2": "ln2", "mlp.fc1": "ffn.layers.0.0", "mlp.fc2": "ffn.layers.1"}
    new = {"data_preprocessor.mean": torch.tensor(MEAN), "data_preprocessor.std": torch.tensor(STD)}
    for key, value in state.items():
        for old, name in rename.items():
            key = key.replace(old, name)
        key = key.replace("decoder_norm", "ln1") if key.startswith("decoder_norm") else key
        if key.startswith(("decoder_", "mask_token", "ln1")):
            new[f"neck.{key}"] = value
        else:
            key = key.replace("patch_embed.proj", "patch_embed.projection").replace("blocks.", "layers.")
            new["backbone." + ("ln1" + key[4:] if key.startswith("norm.") else key)] = value
    return {"state_dict": new, "meta": {"epoch": 300}}


def solo(state):
    decoder = {f"decoder.{k}": v for k, v in state.items() if k.startswith(("decoder_", "mask_token"))}
    encoder = {f"backbone.{k}": v for k, v in state.items() if f"decoder.{k}" not in decoder}
    return {"state_dict": encoder | decoder | {"classifier.weight": torch.zeros(10, DIM)}, "epoch": 3}


def lightly(state):
    content = solo(state)["state_dict"]
    content = {k.replace("backbone.", "backbone.vit."): v for k, v in content.items() if "classifier" not in k}
    return {"state_dict": content | {"backbone.mask_token": torch.zeros(1, 1, DIM)}, "hyper_parameters": {"lr": 0.1}}


def lightly_torchvision(state):
    inner = {"norm1": "ln_1", "norm2": "ln_2", "attn.qkv.": "self_attention.in_proj_",
             "attn.proj": "self_attention.out_proj", "mlp.fc1": "mlp.0", "mlp.fc2": "mlp.3"}  # fmt: skip
    outer = {"cls_token": "class_token", "patch_embed.proj": "conv_proj", "pos_embed": "encoder.pos_embedding"}
    new = {}
    for key, value in state.items():
        for old, name in (inner if "blocks." in key else {}).items():
            key = key.replace(old, name)
        key = key.replace("blocks.", "layers.encoder_layer_")
        if key.startswith("decoder_layers"):
            new["decoder." + key.removeprefix("decoder_")] = value
        elif key.startswith("decoder_"):
            names = {"decoder_pos_embed": "pos_embedding", "decoder_norm": "ln", "decoder_pred": "prediction_head"}
            stem, dot, kind = key.partition(".")
            new[f"decoder.{names.get(stem, stem)}{dot}{kind}"] = value
        elif key == "mask_token":
            new[key] = value
        elif key.startswith("layers."):
            new[f"backbone.encoder.{key}"] = value
        elif key.startswith("norm."):
            new[f"backbone.encoder.ln.{key[5:]}"] = value
        else:
            for old, name in outer.items():
                key = key.replace(old, name)
            new[f"backbone.{key}"] = value
    return {"state_dict": new}


def vit_mae():
    """transformers' own ViTMAE: the reference that every layout with a decoder is measured against."""
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    torch.manual_seed(0)
    config = ViTMAEConfig(
        hidden_size=DIM, num_hidden_layers=DEPTH, num_attention_heads=HEADS, intermediate_size=4 * DIM,
        image_size=SIDE, patch_size=PATCH, decoder_hidden_size=DECODER[0], decoder_num_hidden_layers=DECODER[1],
        decoder_num_attention_heads=DECODER[2], decoder_intermediate_size=4 * DECODER[0], norm_pix_loss=True,
        layer_norm_eps=1e-6,
    )  # fmt: skip
    model = ViTMAEForPreTraining(config).eval()
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, std=0.3 if parameter.ndim == 1 else 0.1)
        if ("layernorm" in name and name.endswith("weight")) or name.endswith("decoder_norm.weight"):
            parameter.data += 1
    with torch.no_grad():
        tables = model.vit.embeddings.position_embeddings, model.decoder.decoder_pos_embed
        for table in tables:
            table.copy_(torch.nn.functional.pad(sincos(GRID, table.shape[-1]), (0, 0, 1, 0))[None])
    return model
