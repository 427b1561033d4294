"""Images of drawn boxes and discs, and the same annotations in the forms of COCO, VOC and YOLO."""

import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

CLASSES = ["box", "disc"]
IDS = {"box": 7, "disc": 3}  # COCO's numbers need not follow each other, nor the order of names


def draw(folder: Path, count: int = 5, size: int = 64, seed: int = 0, ending: str = "png") -> list[dict]:
    """Square images with a red box on the left and a blue disc on the right; what they hold, by image."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    scenes = []
    for number in range(count):
        image = Image.new("RGB", (size, size), tuple(int(v) for v in rng.integers(60, 120, 3)))
        pen, objects = ImageDraw.Draw(image), []
        for place, name in enumerate(CLASSES):
            width, height = (int(v) for v in rng.integers(18, 30, 2))
            left = int(rng.integers(1 + place * size // 2, size // 2 * (place + 1) - width + 1))
            top = int(rng.integers(1, size - height - 1))
            box = (left, top, left + width, top + height)
            shape = pen.rectangle if name == "box" else pen.ellipse
            shape((left, top, left + width - 1, top + height - 1), fill=[(220, 40, 40), (40, 60, 230)][place])
            objects.append((name, box))
        image.save(folder / f"{number}.{ending}")
        scenes.append({"file": f"{number}.{ending}", "size": (size, size), "objects": objects})
    return scenes


def polygon(box) -> list[float]:
    left, top, right, bottom = box
    return [left, top, right, top, right, bottom, left, bottom]


def write_coco(root: Path, split: str, scenes: list[dict], masks: bool = False, more: dict | None = None) -> Path:
    """root/annotations/instances_<split>.json; the images lie in root/images. more: entries to add by kind."""
    images, annotations = [], []
    for number, scene in enumerate(scenes, 11):
        height, width = scene["size"]
        images.append({"id": number, "file_name": scene["file"], "height": height, "width": width})
        for name, (left, top, right, bottom) in scene["objects"]:
            entry = {"id": len(annotations) + 1, "image_id": number, "category_id": IDS[name], "iscrowd": 0}
            entry |= {"bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top)}
            annotations.append(entry | ({"segmentation": [polygon((left, top, right, bottom))]} if masks else {}))
    table = {"images": images, "annotations": annotations}
    for kind, entries in (more or {}).items():
        table[kind] += entries
    table["categories"] = [{"id": id_, "name": name} for name, id_ in IDS.items()]
    path = root / "annotations" / f"instances_{split}2017.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(table), encoding="utf-8")
    return path


def write_voc(root: Path, split: str, scenes: list[dict]) -> None:
    """root/Annotations, root/ImageSets/Main; the images lie in root/JPEGImages. Pixels count from 1."""
    (root / "Annotations").mkdir(parents=True, exist_ok=True)
    (root / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
    for scene in scenes:
        write_xml(root / "Annotations", scene)
    stems = [Path(scene["file"]).stem for scene in scenes]
    (root / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(stems) + "\n", encoding="utf-8")


def write_xml(folder: Path, scene: dict) -> None:
    objects = ""
    for name, (left, top, right, bottom) in scene["objects"]:
        sides = {"xmin": left + 1, "ymin": top + 1, "xmax": right, "ymax": bottom}
        box = "".join(f"<{side}>{value}</{side}>" for side, value in sides.items())
        objects += f"<object><name>{name}</name><bndbox>{box}</bndbox></object>"
    size = f"<size><width>{scene['size'][1]}</width><height>{scene['size'][0]}</height></size>"
    text = f"<annotation><filename>{scene['file']}</filename>{size}{objects}</annotation>"
    (folder / f"{Path(scene['file']).stem}.xml").write_text(text, encoding="utf-8")


def write_yolo(root: Path, split: str, scenes: list[dict], masks: bool = False) -> None:
    """root/labels/<split>; the images lie in root/images/<split>."""
    (root / "labels" / split).mkdir(parents=True, exist_ok=True)
    for scene in scenes:
        height, width = scene["size"]
        lines = []
        for name, box in scene["objects"]:
            left, top, right, bottom = box
            shares = [(left + right) / 2 / width, (top + bottom) / 2 / height]
            shares += [(right - left) / width, (bottom - top) / height]
            if masks:
                shares = [v / (width, height)[i % 2] for i, v in enumerate(polygon(box))]
            lines.append(" ".join([str(CLASSES.index(name)), *(f"{v:.8f}" for v in shares)]))
        path = root / "labels" / split / f"{Path(scene['file']).stem}.txt"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_yaml(root: Path, **entries: str) -> None:
    lines = [f"{key}: {value}" for key, value in entries.items()]
    (root / "data.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
