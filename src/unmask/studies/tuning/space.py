"""What is searched: named axes with the values that are worth trying, or any axis of `ablate`."""

import math
from collections.abc import Sequence

from unmask.errors import UserError, closest
from unmask.registry import names, parse
from unmask.runs.config import Config
from unmask.studies.ablation.any_axis import Text
from unmask.studies.ablation.axes import decoder_size

RATIOS = (0.5, 0.65, 0.75, 0.85, 0.9)
CROPS = (0.1, 0.2, 0.4, 0.7, 1.0)
TARGETS = ("pixels", "pixels(normalize=False)", "hog", "frequency", "ema")  # those that need no other weights
NAMED = ("ratio", "target", "patch_size", "crop", "decoder", "depth", "image_size", "lr", "views_per_image")
FEWEST = 4  # patches along a side, below which there is little to hide
MOST = 256  # patches in an image, above which short runs see few images


def chosen_axes(texts: Sequence[str]) -> list[str]:
    """The axes as texts: names of `NAMED`, or an option with its values. UserError for others, and for none."""
    if not texts:
        raise UserError(f"say what to tune: --axes ratio target; there are: {', '.join(NAMED)}, or mask.ratio=0.5,0.9")
    for text in texts:
        if "=" in text:
            Text.parse(text)
        elif text not in NAMED:
            raise UserError(
                f"no axis {text!r}{closest(text, NAMED)} There are: {', '.join(NAMED)}; or write an option with its"
                ' values: "mask.ratio=0.5,0.9"'
            )
    options = [option_of(text) for text in texts]
    for option in options:
        if options.count(option) > 1:
            raise UserError(f"the axis {option} is asked for twice: give all its values at once")
    return list(texts)


def option_of(text: str) -> str:
    """The option that an axis varies: `ratio` is `mask.ratio`."""
    if "=" in text:
        return Text.parse(text).name
    return {"ratio": "mask.ratio", "depth": "model.depth"}.get(text, text)


def axis_of(text: str, config: Config) -> Text:
    """The axis with its values, for the settings that are the best so far. Raises UserError where there is nothing to
    choose between."""
    if "=" in text:
        return Text.parse(text)
    values = _values(text, config)
    if len(values) < 2:
        raise UserError(f"--axes {text}: there is only {', '.join(values) or 'nothing'} to try here; leave it out")
    return Text(option_of(text), tuple(values))


def _values(name: str, config: Config) -> list[str]:
    data, patch = config.data, config.model.patch_size
    if name == "ratio":
        return [f"{ratio:g}" for ratio in RATIOS]
    if name == "crop":
        return [f"{crop:g}" for crop in sorted({*CROPS, data.crop})]
    if name == "target":
        return [target for target in TARGETS if parse(target)[0] in names("target")]
    if name == "lr":
        return [f"{config.training.lr * factor:.3g}" for factor in (0.5, 1.0, 2.0)]
    if name == "views_per_image":
        return [str(count) for count in (1, 2, 4) if config.training.batch % count == 0]
    if name == "patch_size":
        return [str(size) for size in (patch // 2, patch, 2 * patch) if size and _fits(data.image_size, size)]
    if name == "image_size":
        sizes = [tuple(round(f * side / patch) * patch for side in data.image_size) for f in (0.5, 1.0, 1.5)]
        return ["x".join(map(str, size)) for size in sizes if _fits(size, patch)]
    if name == "depth":
        depth = _depth(config)
        return [str(d) for d in sorted({max(1, depth // 2), depth, max(depth + 1, round(1.5 * depth))})]
    size = decoder_size(config)
    dim, heads = size["dim"], size["heads"]
    full = [f"full(dim={dim}, depth={depth}, heads={heads})" for depth in sorted({1, 2, 4, size["depth"]})]
    return [*full, f"cross(dim={dim}, depth=2, heads={heads})"]


def _fits(size: Sequence[int], patch: int) -> bool:
    units = [side // patch for side in size]
    whole = all(side % patch == 0 for side in size)
    return whole and min(units) >= FEWEST and math.prod(units) <= MOST


def _depth(config: Config) -> int:
    """Blocks of the encoder: as written, or as timm's model has them."""
    written = parse(config.model.name)[1].get("depth")
    if isinstance(written, int):
        return written
    from unmask.runs.run import make_encoder

    return make_encoder(config).num_blocks
