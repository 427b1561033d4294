"""What a study trains and judges, in words."""

from unmask.data.modality import IMAGE, make_modality
from unmask.runs.config import Config


def encoder_words(config: Config) -> str:
    """The model, and the sizes of what it sees."""
    pixels = " px" if config.data.modality == IMAGE else ""
    size, patch = (" x ".join(map(str, sides)) for sides in (config.data.image_size, _sides(config)))
    return f"{config.model.name} at {size}{pixels}, patch {patch}"


def _sides(config: Config) -> tuple[int, ...]:
    patch = config.model.patch_size
    unit = make_modality(config.data.modality).unit(patch, config.data.image_size)
    return (unit,) if isinstance(unit, int) else unit
