"""The data that `same_numbers.py` trains on: small drawn images, in every form that a case reads."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

SPLITS = {"train": 12, "val": 4, "test": 6}  # labelled images in each; of classification, per class
SHAPES = ("disc", "box")


def write_data(folder: Path) -> None:
    """photos/ (48 PNG files), photos.npz, shards/s-00.tar to s-02.tar, classes/, masks/, boxes/, normal/, odd/."""
    photos = [smooth(seed) for seed in range(48)]
    for number, photo in enumerate(photos):
        save(photo, folder / "photos" / f"{number:03d}.png")
    np.savez(folder / "photos.npz", images=np.stack([smooth(seed, 32, 32) for seed in range(100, 148)]))
    write_shards(folder / "shards", photos)
    write_classes(folder / "classes")
    write_masks(folder / "masks")
    write_boxes(folder / "boxes")
    for seed in range(24):
        save(smooth(500 + seed), folder / "normal" / f"{seed:02d}.png")
    for seed in range(6):
        spoiled = smooth(700 + seed)
        spoiled[20:30, 24:34] = (255, 0, 255)
        save(smooth(600 + seed), folder / "odd" / "good" / f"{seed}.png")
        save(spoiled, folder / "odd" / "square" / f"{seed}.png")


def smooth(seed: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A random image without edges, uint8 h w 3: a coarse grid of colors, enlarged."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def save(image: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def write_shards(folder: Path, images: list[np.ndarray], per_shard: int = 16) -> None:
    """WebDataset tar files: a PNG and a class for each sample."""
    folder.mkdir(parents=True)
    for shard, first in enumerate(range(0, len(images), per_shard)):
        with tarfile.open(folder / f"s-{shard:02d}.tar", "w") as archive:
            for number, image in enumerate(images[first : first + per_shard], first):
                png = io.BytesIO()
                Image.fromarray(image).save(png, "PNG")
                for suffix, content in (("png", png.getvalue()), ("cls", str(number % 3).encode())):
                    member = tarfile.TarInfo(f"{number:05d}.{suffix}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))


def write_classes(folder: Path) -> None:
    """<split>/<class>/: images with a tint of their class, faint enough that not all are told apart."""
    for place, (split, count) in enumerate(SPLITS.items()):
        for channel, name in enumerate(("red", "green", "blue")):
            for number in range(count):
                image = smooth(1000 * (place + 1) + 100 * channel + number) // 2
                image[..., channel] += 30
                save(image, folder / split / name / f"{number:02d}.png")


def scene(seed: int, side: int = 64) -> tuple[np.ndarray, np.ndarray, list[tuple[int, int, int, int]]]:
    """An image (h w 3) of a disc on the left and a box on the right, its mask (h w; 0 ground, 1 disc, 2 box), and the
    boxes of both as left, top, width, height in pixels."""
    rng = np.random.default_rng(seed)
    image = rng.integers(20, 90, (side, side, 3)).astype(np.uint8)
    mask, boxes = np.zeros((side, side), np.uint8), []
    for place, color in enumerate(((220, 60, 40), (40, 90, 230))):
        width, height = (int(v) for v in rng.integers(14, 26, 2))
        left, top = int(rng.integers(2, 4)) + place * side // 2, int(rng.integers(2, side - height - 2))
        rows, columns = np.mgrid[:side, :side]
        shape = (rows >= top) & (rows < top + height) & (columns >= left) & (columns < left + width)
        if place == 0:
            y, x = (rows - top + 0.5) / height - 0.5, (columns - left + 0.5) / width - 0.5
            shape &= y**2 + x**2 <= 0.25
        image[shape], mask[shape] = color, place + 1
        boxes.append((left, top, width, height))
    return image, mask, boxes


def write_masks(folder: Path) -> None:
    """images/<split>/ and masks/<split>/ with a PNG for each, and the names of the classes."""
    for place, (split, count) in enumerate(SPLITS.items()):
        for number in range(count):
            image, mask, _ = scene(100 * (place + 1) + number)
            save(image, folder / "images" / split / f"{place}{number:02d}.png")
            save(mask, folder / "masks" / split / f"{place}{number:02d}.png")
    (folder / "classes.json").write_text(json.dumps(["ground", *SHAPES]), encoding="utf-8")


def write_boxes(folder: Path) -> None:
    """COCO: annotations/instances_<split>2017.json with boxes and outlines, and images/."""
    for place, (split, count) in enumerate(SPLITS.items()):
        images, annotations = [], []
        for number in range(count):
            image, _, boxes = scene(100 * (place + 1) + number)
            name = f"{place}{number:02d}.png"
            save(image, folder / "images" / name)
            images.append({"id": number, "file_name": name, "height": image.shape[0], "width": image.shape[1]})
            for category, (left, top, width, height) in enumerate(boxes, 1):
                right, bottom = left + width, top + height
                outline = [left, top, right, top, right, bottom, left, bottom]
                entry = {"id": len(annotations) + 1, "image_id": number, "category_id": category, "iscrowd": 0}
                entry |= {"bbox": [left, top, width, height], "area": width * height, "segmentation": [outline]}
                annotations.append(entry)
        categories = [{"id": number, "name": name} for number, name in enumerate(SHAPES, 1)]
        path = folder / "annotations" / f"instances_{split}2017.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {"images": images, "annotations": annotations, "categories": categories}
        path.write_text(json.dumps(content), encoding="utf-8")
