"""What pretraining on clips is worth for telling motions apart, and whether a single frame could have told them.

    python benchmarks/video_motion.py video_motion/ --out video-motion -- --image-size 64 --patch-size 8 --batch 32 \\
        --flip off --epochs 50

For each seed an encoder is pretrained on the training clips without labels, and `unmask labels` compares it with the
same network from scratch, on the same draws of so many labels per class. The same is done with the middle frame of each
clip as an image: what that reaches can be seen without time. What comes after -- are options of `unmask pretrain`, for
both. It goes on where it was interrupted. Writes video_motion.json, .md and .png, and leaves the runs with their pages.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import few_labels
import numpy as np
import smoke
from PIL import Image

from unmask.data.source import open_source


def main() -> None:
    options, given = few_labels.parsed(parser())
    stills = frames(options.data, options.out / "frames")
    kinds = {
        "clips": {"modality": options.modality, "data": options.data / "train", "on": options.data},
        "middle frames": {"modality": "image", "data": stills / "train", "on": stills},
    }
    few_labels.compare(kinds, options, given, "video_motion")


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="clips with folders train and test, labelled by folders or labels.csv")
    parser.add_argument("--modality", default="video(frames=8, step=2)", help="of the clips")
    parser.add_argument("--out", type=Path, default=Path("video-motion"))
    few_labels.add_options(parser, "5", "10", "60")
    return parser


def frames(data: Path, out: Path) -> Path:
    """The middle frame of each clip as an image, in folders of splits and classes."""
    source = open_source(data, "video")
    for index, item in enumerate(source.items):
        path = (out / str(item.split) / str(item.label) / item.name.replace("/", "_")).with_suffix(".png")
        if path.exists():
            continue
        clip = source.modality.decode(source.raw(index)).content
        pixels = clip.frames([clip.num_frames // 2])[:, 0].permute(1, 2, 0).numpy()
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0]).save(path)
    return out


def smoke_commands(folder: Path, out: Path) -> Iterator[list[str]]:
    """Small animations, since every machine can write those."""
    for split, count in (("train", 6), ("test", 3)):
        for label, name in enumerate(("left", "right")):
            (folder / "data" / split / name).mkdir(parents=True)
            for number in range(count):
                picture = np.asarray(smoke.image(100 * label + number + len(split), 48))
                shifted = [np.roll(picture, (2 * label - 1) * 2 * step, axis=1)[:32, 8:40] for step in range(8)]
                images = [Image.fromarray(pixels) for pixels in shifted]
                path = folder / "data" / split / name / f"{number}.gif"
                images[0].save(path, save_all=True, append_images=images[1:], duration=100, loop=0)
    words = "--labels-per-class 2 --draws 1 --seeds 0 --epochs 1 --protocols full --out"
    given = "--image-size 16 --patch-size 8 --steps 2 --flip off --decoder"
    own = [str(folder / "data"), *words.split(), str(out), "--", *given.split(), smoke.DECODER]
    yield [*own, "--model", smoke.MODEL]


if __name__ == "__main__":
    smoke.start(main, smoke_commands)
