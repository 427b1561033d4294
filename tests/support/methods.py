"""Methods, small enough to be trained in a test: every one that exists, with its own views."""

import inspect
import re
import tempfile
from functools import cache
from pathlib import Path

import timm
import torch

from unmask.data.transform import make_transform
from unmask.models.encoder import create_encoder
from unmask.registry import build, find, parse
from unmask.weights.tokenizers import save_tokenizer

MODEL = "vit_tiny_patch16_224(depth=1, embed_dim=24, num_heads=2)"
SIDE, PATCH = 32, 8
SMALL = {"hidden": 16, "out": 8, "prototypes": 12, "dim": 16, "depth": 1, "heads": 2, "narrow": 8}
# Of methods that learn from captions
TEXT = {"vocabulary": 258, "context": 8, "text_width": 16, "text_depth": 1, "out": 8}
NUMBERS = TEXT | {"local": 2, "prototypes": 12, "masks_per_image": 2, "colours": 12, "side": 8, "codes": 12}


def shrunk(text):
    """The text of a part with its widths made small, those that are its defaults too."""
    name, options = parse(text)
    kind = next(k for k in ("projection", "decoder") if name in _names(k))
    known = inspect.signature(find(kind, name)).parameters
    options |= {key: value for key, value in SMALL.items() if key in known}
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in options.items())})"


def _names(kind):
    from unmask.registry import names

    return names(kind)


def small_encoder(channels=3, size=(SIDE, SIDE), mean=127.0, std=60.0):
    values = {"mean": (mean,) * channels, "std": (std,) * channels, "channels": channels}
    return create_encoder(MODEL, image_size=size, patch_size=PATCH, **values)


@cache
def teacher_file():
    """A file of weights to learn from: a ViT of one block for images of 32 pixels."""
    with torch.random.fork_rng():
        torch.manual_seed(0)  # the same weights in every process
        net = timm.create_model("vit_tiny_patch16_224", depth=1, img_size=32, patch_size=8, num_classes=0)
    path = Path(tempfile.mkdtemp()) / "teacher.pth"
    torch.save(net.state_dict(), path)
    return path


@cache
def tokenizer_file(channels=3):
    """A file of a tokenizer that nobody trained, for patches of 4 pixels."""
    values = {"mean": (127.0,) * channels, "std": (60.0,) * channels, "channels": channels}
    with torch.random.fork_rng():
        torch.manual_seed(0)  # the same weights in every process, and what is made next is the same in all
        encoder = create_encoder(MODEL, image_size=(16, 16), patch_size=4, **values)
        tokenizer = build("tokenizer", f"vqvae(codes=12, dim=8, decoder='{shrunk('full')}')", encoder=encoder)
    path = Path(tempfile.mkdtemp()) / "tokenizer.safetensors"
    save_tokenizer(tokenizer, path, None)
    return path


def with_teacher(text):
    """The same part, with a frozen teacher or tokenizer where it needs one, and a small palette."""
    text = re.sub(r"\bmix\b(?!\()", "mix(a=pixels, b=codes, weights=(1, 0.5))", text)
    text = re.sub(r"\bpalette\b(?!\()", "palette(colours=12, side=8)", text)
    text = re.sub(r"\bcodes\b(?![(=])", lambda _: f"codes(of={str(tokenizer_file())!r})", text)
    text = re.sub(r"\b(vqkd|distil|align)\b(?!\()", lambda name: f"{name[0]}(of={str(teacher_file())!r})", text)
    return re.sub(r"\bfeatures\b(?!\()", lambda _: f"features(of={str(teacher_file())!r})", text)


def small_method(text, seed=0, channels=3, size=(SIDE, SIDE), **options):
    """The method of a text, on an encoder of one block, with small heads."""
    torch.manual_seed(seed)
    text = with_teacher(text)
    name, written = parse(text)
    for key, parameter in inspect.signature(find("method", name)).parameters.items():
        if key in written or key in options:
            continue
        if key == "decoder" and parameter.default is None:
            continue  # chosen by the method, to be light
        if key in ("head", "predictor", "patch_head", "decoder"):
            usual = parameter.default if isinstance(parameter.default, str) else "prototypes"
            options[key] = shrunk(usual)
        elif key == "masks_per_image" and "mask" in written:
            options[key] = 1  # several masks without chance would be equal
        elif key in NUMBERS:
            options[key] = NUMBERS[key]
        elif key == "tokenizer":
            options[key] = str(tokenizer_file(channels))
        elif key == "teacher":
            options[key] = str(teacher_file())
    return build("method", text, encoder=small_encoder(channels, size), **options).train()


def views_of(method, count=4, seed=1, side=SIDE, channels=3, size=(SIDE, SIDE)):
    """A batch of random images, as the method's own views show them."""
    generator = torch.Generator().manual_seed(seed)
    transform = make_transform(tuple(method.views), size=size, channels=channels, patch=PATCH)
    coarse = torch.rand(count, channels, 6, 6, generator=generator)
    images = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic").clamp(0, 1)
    views = [transform((255 * image).to(torch.uint8), generator) for image in images]
    batch = {"views": [torch.stack(together) for together in zip(*views)]}
    if (captions := type(method).captions(TEXT)) is not None:  # words that tell the images apart
        tokens = torch.randint(2, captions.vocabulary, (count, captions.context), generator=generator)
        batch["tokens"] = tokens.masked_fill(torch.arange(captions.context) >= 3, 0)
        batch["tokens"][-1] = 0  # one image has no caption
    return batch


def part_of(batch, rows):
    """Some samples of a batch, by slice."""
    rest = {name: value[rows] for name, value in batch.items() if name != "views"}
    return {"views": [view[rows] for view in batch["views"]]} | rest
