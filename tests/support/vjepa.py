"""A tiny V-JEPA 2 of transformers with weights at random, and what its weights are called here."""

import re

import torch

from support.parity import NEEDS, scrambled

SIZE, UNIT = (4, 16, 16), (2, 4, 4)
PREDICTOR = "rotary(dim=24, depth=2, heads=2, order='tiled')"
NAMES = {
    "embed": "embeddings.predictor_embeddings",
    "norm": "layernorm",
    "predict": "proj",
}


def tiny(name="VJEPA2Model", **changes):
    """Sharp attention, so that positions matter; in eval mode."""
    import pytest

    transformers = pytest.importorskip("transformers", reason=NEEDS)
    sizes = {
        "crop_size": 16, "patch_size": 4, "frames_per_clip": 4, "tubelet_size": 2, "hidden_size": 28,
        "num_hidden_layers": 2, "num_attention_heads": 2, "attn_implementation": "eager",
        "pred_hidden_size": 24, "pred_num_hidden_layers": 2, "pred_num_attention_heads": 2,
    }  # fmt: skip
    net = scrambled(getattr(transformers, name)(transformers.VJEPA2Config(**sizes | changes))).eval()
    with torch.no_grad():
        for key, weight in net.named_parameters():
            weight.mul_(8.0 if ".query." in key or ".key." in key else 1.0)
    return net


def of_predictor(values, decoder):
    """The values of V-JEPA 2's predictor, by name, as those of our decoder. Of its mask tokens, transformers uses the
    second."""
    own = {"mask_token": values["predictor.embeddings.mask_tokens"][1]}
    for name in decoder.state_dict():
        stem, _, kind = name.rpartition(".")
        if block := re.fullmatch(r"blocks\.(\d+)\.(.+)", stem):
            inner = f"predictor.layer.{block[1]}."
            parts = [f"attention.{part}" for part in ("query", "key", "value")]
            parts = parts if block[2] == "attn.qkv" else [block[2].replace("attn.", "attention.")]
            own[name] = torch.cat([values[f"{inner}{part}.{kind}"] for part in parts])
        elif stem:
            own[name] = values[f"predictor.{NAMES[stem]}.{kind}"]
    return own
