"""What a model card says besides figures: code that prepares images, and what the exported files reveal.

The code needs only NumPy and Pillow. Its pixels differ by at most one of 256 levels from those that the model was
evaluated on: Pillow rounds between the two passes of an antialiased resize, torch after both.
"""

from unmask.data.modality import IMAGE
from unmask.export.exportable import Exportable


def preparation(subject: Exportable, normalized: bool) -> str:
    """Source code of a function `prepare(path)`, from an image file to a batch of one, 1 c h w, float32.

    normalized: mean subtracted, divided by the standard deviation; otherwise raw, 0 to 255 for images of 8 bits.
    """
    channels = subject.encoder.channels
    if subject.encoder.modality != IMAGE:
        return _array(subject)
    height, width = subject.size
    mean, std = ([round(value, 4) for value in side.tolist()] for side in (subject.encoder.mean, subject.encoder.std))
    lines = [*_opened(channels), *(_fitted if subject.detector else _covering)(subject, height, width, mean)]
    if normalized:
        lines.append(f"    pixels = (pixels - np.reshape({mean}, (-1, 1, 1))) / np.reshape({std}, (-1, 1, 1))")
    lines.append("    return pixels[None].astype(np.float32)  # 1 c h w")
    return "\n".join(["import numpy as np", "from PIL import Image, ImageOps", "", "", *lines])


def _array(subject: Exportable) -> str:
    """Code for other data than images, whose decoding takes more than a page."""
    shape = " x ".join(map(str, (subject.encoder.channels, *subject.size)))
    return (
        "import numpy as np\n\n\ndef prepare(path):\n"
        f"    array = np.load(path)  # {shape}, as unmask cuts it for {subject.encoder.modality}: docs/modalities.md\n"
        f"    return array[None].astype(np.float32)  # 1 x {shape}"
    )


def contents(subject: Exportable) -> str:
    """One sentence on what the files of an export reveal."""
    classes = getattr(subject.model, "classes", [])
    names = f", the names of {len(classes)} classes" if classes else ""
    return (
        f"In these files: the weights, the mean and standard deviation of the data{names}; README.md and export.json"
        " add counts and sizes of the data, the settings and the results. There is no image in them, no path of this"
        " machine, and no name of a user or a file."
    )


def _opened(channels: int) -> list[str]:
    """Code that reads a file into `bands`: Pillow images of one channel each, or one image with all channels."""
    if channels not in (1, 3):
        return [
            "def prepare(path):",
            f"    array = np.load(path)  # h w {channels}: the bands in the order and units of training",
            "    bands = [Image.fromarray(band.astype(np.float32)) for band in np.moveaxis(array, 2, 0)]",
        ]
    return [
        "def prepare(path):",
        "    image = ImageOps.exif_transpose(Image.open(path))",
        "    if image.has_transparency_data:  # on white, as in training",
        '        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))',
        f'    bands = [image.convert("{"RGB" if channels == 3 else "L"}")]',
    ]


def _covering(subject: Exportable, height: int, width: int, mean: list[float]) -> list[str]:
    """Code for `WholeImage`: resizes the image until it covers the size, then crops the centre."""
    crop = subject.classifier.eval_crop if subject.classifier else 1.0
    share = "" if crop == 1 else f" / {crop:g}"
    return [
        f"    scale = max({width} / bands[0].width, {height} / bands[0].height){share}",
        f"    size = max({width}, round(bands[0].width * scale)), max({height}, round(bands[0].height * scale))",
        f"    left, top = (size[0] - {width}) // 2, (size[1] - {height}) // 2",
        "    bands = [band.resize(size, Image.Resampling.BICUBIC) for band in bands]",
        f"    bands = [band.crop((left, top, left + {width}, top + {height})) for band in bands]",
        "    pixels = [np.asarray(band, np.float32) for band in bands]",
        f"    pixels = np.concatenate([array.reshape({height}, {width}, -1) for array in pixels], axis=2)",
        "    pixels = pixels.transpose(2, 0, 1)",
    ]


def _fitted(subject: Exportable, height: int, width: int, mean: list[float]) -> list[str]:
    """Code for `Fitted`: the image at the top left, the rest filled with the mean; boxes are in pixels of the resized
    image."""
    return [
        f"    rate = min({width} / bands[0].width, {height} / bands[0].height)",
        f"    sides = (bands[0].width, {width}), (bands[0].height, {height})",
        "    size = tuple(min(most, max(1, round(side * rate))) for side, most in sides)",
        "    shown = [np.asarray(band.resize(size, Image.Resampling.BILINEAR), np.float32) for band in bands]",
        "    shown = np.concatenate([array.reshape(size[1], size[0], -1) for array in shown], axis=2)",
        f"    pixels = np.tile(np.reshape(np.float32({mean}), (-1, 1, 1)), (1, {height}, {width}))",
        "    pixels[:, : size[1], : size[0]] = shown.transpose(2, 0, 1)",
    ]
