"""One training step of a masked autoencoder, as each library lets its users write it; what `step.py` compares.

The same model for all (encoder, decoder, 75 % hidden, normalised pixels as target, AdamW over everything), each through
its documented API with its own defaults. Ours goes through the code that `unmask pretrain` runs.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from limits import count_flops, device_memory, lacks_bf16, peaks, wait
from side_by_side import Variant, peak_memory

MEAN, STD = (123.7, 116.3, 103.5), (58.4, 57.1, 57.4)


@dataclass(frozen=True)
class Size:
    image: int
    patch: int
    dim: int
    depth: int
    heads: int
    decoder: tuple[int, int, int] = (512, 8, 16)  # width, blocks, heads
    name: str = ""  # of the timm model that has this encoder
    batch: int = 8


SIZES = {
    "vitb16": Size(224, 16, 768, 12, 12, name="vit_base_patch16_224"),
    "vits16": Size(224, 16, 384, 12, 6, name="vit_small_patch16_224"),
    "vitl16": Size(224, 16, 1024, 24, 16, name="vit_large_patch16_224"),
    "vith14": Size(224, 14, 1280, 32, 16, name="vit_huge_patch14_224"),
    "cifar4": Size(32, 4, 192, 12, 3, (192, 4, 3), name="vit_tiny_patch16_224", batch=128),
    "toy": Size(32, 8, 48, 2, 3, (32, 2, 4), name="vit_tiny_patch16_224(embed_dim=48, depth=2, num_heads=3)"),
}


def step(
    who: str,  # ours, hf, lightly, official
    size: str,
    batch: int | None = None,
    device: str = "cpu",
    precision: str = "32",  # of ours: what --precision takes; of the others: 32 or bf16 (autocast)
    decoder: str | None = None,  # of ours: text of another decoder
    target: str = "pixels",  # of ours: what is predicted
    settings: dict[str, Any] | None = None,  # of ours: other runtime settings than the chosen ones
    official: str | None = None,  # folder of the official implementation
    steps: int = 1,  # per measurement
    products: int | None = None,  # rows of the large products beside it; by default the device's own
) -> Callable[..., dict[str, Any]]:
    """Builds a model and returns what makes one measurement: a few steps, and the speed of large products beside it."""
    import torch

    import_library(who)
    imported = peak_memory()
    shape = SIZES[size]
    number = batch or shape.batch
    torch.manual_seed(0)
    if who == "ours":
        one, model = _ours(shape, number, device, precision, decoder, target, settings or {})
    else:
        one, model = _theirs(who, shape, number, device, precision, official)
    flops = count_flops(model)

    def measure(alone: bool = False) -> dict[str, Any]:
        """alone: without the products beside it."""
        wait(device)
        start, parts = time.perf_counter(), [0.0, 0.0]
        for _ in range(steps):
            for place, seconds in enumerate(one()):
                parts[place] += seconds
        wait(device)
        found = {"units": steps * number, "seconds": time.perf_counter() - start}
        found |= {
            "model_ms": 1e3 * parts[0] / steps,
            "optimizer_ms": 1e3 * parts[1] / steps,
            "gflop_per_image": flops,
            "imported_mb": imported,
        }
        if alone:
            return found
        return (
            found | {f"peak_{name}": value for name, value in peaks(device, products).items()} | device_memory(device)
        )

    return measure


def measurable(variants: list[Variant], device: str) -> tuple[list[Variant], dict[str, str]]:
    """Variants that the device can compute, and as a fact for the record which it cannot and why; that is said, too."""
    why = lacks_bf16(device)
    lacking = [variant for variant in variants if why and variant.arguments["precision"] != "32"]
    if not lacking:
        return variants, {}
    names = "; ".join(variant.name for variant in lacking)
    print(f"not measured: {names}, since {why}", file=sys.stderr, flush=True)
    return [variant for variant in variants if variant not in lacking], {"not measured": f"{names}, since {why}"}


def import_library(who: str) -> None:
    """So that the memory of the code is not counted as the step's."""
    import torch._dynamo  # noqa: F401

    import unmask.methods.mae
    import unmask.runtime.distributed.data_parallel
    import unmask.training.loop  # noqa: F401

    if who == "hf":
        import transformers.models.vit_mae  # noqa: F401
    if who == "lightly":
        import lightly.models.modules  # noqa: F401


def _ours(
    size: Size, batch: int, device: str, precision: str, decoder: str | None, target: str, asked: dict[str, Any]
) -> tuple[Callable[[], tuple[float, float]], Any]:
    import torch

    from unmask.methods.mae import MAE
    from unmask.models.encoder import create_encoder
    from unmask.runtime.distributed.data_parallel import make_devices
    from unmask.runtime.machine import choices, tune
    from unmask.runtime.settings import RuntimeSettings
    from unmask.training.loop import backward
    from unmask.training.optimizer import make_optimizer
    from unmask.training.settings import Fit
    from unmask.training.speed.compile import ready

    settings = {name: value for name, (value, _) in choices(device).items()} | asked
    runtime = RuntimeSettings(**settings | {"device": device, "precision": precision})
    tune(device, runtime)
    side = (size.image, size.image)
    encoder = create_encoder(size.name, image_size=side, patch_size=size.patch, mean=MEAN, std=STD)
    dim, depth, heads = size.decoder
    mae = MAE(encoder, target=target, decoder=decoder or f"full(dim={dim}, depth={depth}, heads={heads})")
    x = torch.randint(0, 256, (batch, 3, *side), dtype=torch.uint8)
    mae.prepare(iter([{"views": [x]}]))
    ready(mae, runtime)
    made = make_optimizer(mae, weight_decay=0.05, fused=runtime.fused == "on")
    devices = make_devices(runtime)
    model, optimizer = devices.setup(mae), made
    config = Fit(steps=1, batch=batch, lr=1e-4)
    stream = _images(x)

    def one() -> tuple[float, float]:
        start = time.perf_counter()
        backward(model, mae, optimizer, stream, config, devices)
        middle = time.perf_counter()
        optimizer.step()
        optimizer.zero_grad()
        return middle - start, time.perf_counter() - middle

    def once() -> None:
        model({"views": [next(stream)["views"][0][:1].to(device)]})["loss"].backward()
        optimizer.zero_grad()

    return one, once


def _images(x: Any) -> Iterator[dict[str, Any]]:
    while True:
        yield {"views": [x]}


def _theirs(
    who: str, size: Size, batch: int, device: str, precision: str, official: str | None
) -> tuple[Callable[[], tuple[float, float]], Any]:
    """PyTorch's defaults, as in the examples of these libraries: AdamW, and autocast for bf16."""
    import torch

    make = {"hf": _hf, "lightly": _lightly, "official": _official}[who]
    model, loss = make(size, official)
    model.to(device).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4, betas=(0.9, 0.95))
    x = torch.randn(batch, 3, size.image, size.image, device=device)
    context = (lambda: torch.autocast(device, torch.bfloat16)) if precision == "bf16" else nullcontext

    def one(images: Any = x) -> tuple[float, float]:
        start = time.perf_counter()
        with context():
            value = loss(images)
        value.backward()
        middle = time.perf_counter()
        optimizer.step()
        optimizer.zero_grad()
        return middle - start, time.perf_counter() - middle

    def once() -> None:
        with context():
            value = loss(x[:1])
        value.backward()
        optimizer.zero_grad()

    return one, once


def _hf(size: Size, official: Any) -> tuple[Any, Any]:
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    from unmask.masking.grid import Grid
    from unmask.models.layers.position import sincos

    dim, depth, heads = size.decoder
    config = ViTMAEConfig(
        hidden_size=size.dim, num_hidden_layers=size.depth, num_attention_heads=size.heads,
        intermediate_size=4 * size.dim, image_size=size.image, patch_size=size.patch, decoder_hidden_size=dim,
        decoder_num_hidden_layers=depth, decoder_num_attention_heads=heads, decoder_intermediate_size=4 * dim,
        norm_pix_loss=True, mask_ratio=0.75,
    )  # fmt: skip
    model = ViTMAEForPreTraining(config)
    grid = Grid((size.image // size.patch,) * 2, (size.patch,) * 2)
    for table, width in ((model.vit.embeddings.position_embeddings, size.dim), (model.decoder.decoder_pos_embed, dim)):
        table.data[0, 1:] = sincos(grid, width)  # some versions leave them at zero
    return model, lambda x: model(x).loss


def _lightly(size: Size, official: Any) -> tuple[Any, Any]:
    import warnings

    import torch
    from lightly.models import utils
    from lightly.models.modules import MaskedVisionTransformerTIMM
    from lightly.models.modules.masked_autoencoder_timm import MAEDecoderTIMM
    from timm.models.vision_transformer import VisionTransformer

    warnings.filterwarnings("ignore", module="lightly")
    net = VisionTransformer(
        img_size=size.image, patch_size=size.patch, embed_dim=size.dim, depth=size.depth, num_heads=size.heads,
        num_classes=0,
    )  # fmt: skip
    dim, depth, heads = size.decoder
    backbone = MaskedVisionTransformerTIMM(vit=net)
    decoder = MAEDecoderTIMM(
        num_patches=net.patch_embed.num_patches, patch_size=size.patch, embed_dim=size.dim, decoder_embed_dim=dim,
        decoder_depth=depth, decoder_num_heads=heads,
    )  # fmt: skip
    length = backbone.sequence_length

    def loss(x: Any) -> Any:
        keep, hide = utils.random_token_mask(size=(len(x), length), mask_ratio=0.75, device=x.device)
        tokens = decoder.embed(backbone.encode(images=x, idx_keep=keep))
        masked = utils.repeat_token(decoder.mask_token, (len(x), length))
        decoded = decoder.decode(utils.set_at_index(masked, keep, tokens.type_as(masked)))
        predicted = decoder.predict(utils.get_at_index(decoded, hide))
        target = utils.normalize_mean_var(utils.get_at_index(utils.patchify(x, size.patch), hide - 1))
        return (predicted - target).square().mean()

    return torch.nn.ModuleList([backbone, decoder]), loss


def _official(size: Size, official: Any) -> tuple[Any, Any]:
    """From a checkout, which is not part of this repository. It was written for an older timm and NumPy."""
    import sys
    from functools import partial

    import numpy as np
    import timm.models.vision_transformer as timm_vit
    import torch

    if not official:
        raise ValueError("give the folder of the official implementation by --official")
    block = timm_vit.Block
    setattr(np, "float", float)  # noqa: B010
    timm_vit.Block = lambda *args, qk_scale=None, **options: block(*args, **options)
    sys.path.insert(0, official)
    import models_mae

    dim, depth, heads = size.decoder
    model = models_mae.MaskedAutoencoderViT(
        img_size=size.image, patch_size=size.patch, embed_dim=size.dim, depth=size.depth, num_heads=size.heads,
        decoder_embed_dim=dim, decoder_depth=depth, decoder_num_heads=heads, mlp_ratio=4, norm_pix_loss=True,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
    )  # fmt: skip
    return model, lambda x: model(x, mask_ratio=0.75)[0]
