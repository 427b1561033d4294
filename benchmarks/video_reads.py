"""Whether reading clips leaks, and how fast frames come: resident memory over many reads, and core time per frame.

    python benchmarks/video_reads.py                             # 10,000 reads of clips made here
    python benchmarks/video_reads.py --data FOLDER --reads 1000  # your own, any container

Each read opens a clip, counts its frames and decodes 8 of them; every third reads from bytes, every third at random
times without counting, and every tenth is of a file cut short, whose refusal must not leak either. Memory is what the
process holds after a garbage collection; growth is measured after the first fifth of the reads, in which pools fill.
"""

import argparse
import gc
import json
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import smoke
from records import RESULTS, machine

from unmask.data.codecs.image import BadImage
from unmask.data.codecs.video import open_clip

FRAMES, SIDE, MARKS = 8, 112, 20
ENDINGS = {".mp4", ".mov", ".avi", ".mkv", ".webm", ".gif", ".flv", ".ts", ".wmv"}
KINDS = (("a.mp4", "libx264"), ("b.mkv", "libx265"), ("c.webm", "libvpx-vp9"), ("d.avi", "mpeg4"), ("e.gif", "gif"))


def make_clips(folder: Path, count: int = 48) -> list[Path]:
    """One clip of each container: a window that moves over smooth colours."""
    import av

    photograph = np.asarray(smoke.image(0, 4 * SIDE))
    paths = []
    for name, codec in KINDS:
        with av.open(str(folder / name), "w") as media:
            video = media.add_stream(
                codec, rate=24, options={"x265-params": "log-level=none"} if "265" in codec else {}
            )
            video.width = video.height = SIDE
            video.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
            for number in range(count):
                window = photograph[4 * number : 4 * number + SIDE, 3 * number : 3 * number + SIDE]
                media.mux(video.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(window), "rgb24")))
            media.mux(video.encode(None))
        paths.append(folder / name)
    return paths


def read_often(paths: list[Path], reads: int, max_side: int | None) -> dict[str, object]:
    """Reads clips in turn; returns memory in MiB along the way and seconds of the core per decoded frame."""
    process, rng = psutil.Process(), random.Random(0)
    frames, refused, seconds, memory = 0, 0, 0.0, []
    for read in range(reads):
        path = paths[read % len(paths)]
        start = time.process_time()
        try:
            if read % 10 == 9:
                content = path.read_bytes()
                open_clip(content[: len(content) * 2 // 3])
            elif read % 3 == 2:
                clip = open_clip(str(path), count=False)
                frames += clip.at(sorted(rng.uniform(0, clip.duration or 0) for _ in range(FRAMES)), max_side).shape[1]
            else:
                clip = open_clip(path.read_bytes() if read % 3 else str(path))
                first = rng.randrange(max(1, clip.num_frames - FRAMES))
                frames += clip.frames(range(first, min(first + FRAMES, clip.num_frames)), max_side).shape[1]
        except BadImage:
            refused += 1
        seconds += time.process_time() - start
        if (read + 1) % max(1, reads // MARKS) == 0:
            gc.collect()
            memory.append((read + 1, round(process.memory_info().rss / 2**20, 2)))
    later = memory[len(memory) // 5 :]
    slope = np.polyfit([count for count, _ in later], [mib for _, mib in later], 1)[0] if len(later) > 1 else 0.0
    return {
        "reads": reads,
        "refused": refused,
        "frames": frames,
        "ms_per_frame": round(1000 * seconds / max(1, frames), 3),
        "ms_per_read": round(1000 * seconds / reads, 3),
        "memory_mib": memory,
        "growth_bytes_per_read": round(float(slope) * 2**20, 1),
    }


def text(record: dict) -> str:
    measured = record["measured"]
    lines = [
        f"{measured['reads']:,} reads of {record['clips']} clips ({measured['refused']:,} refused as cut short),"
        f" {measured['frames']:,} frames",
        f"{measured['ms_per_frame']} ms of one core per frame, {measured['ms_per_read']} ms per read",
        f"resident memory grows by {measured['growth_bytes_per_read']:,} bytes per read after the first fifth:",
        "  ".join(f"{count:,}: {mib} MiB" for count, mib in measured["memory_mib"]),
    ]
    return "\n".join(lines) + "\n"


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with clips, at any depth; by default, some are made")
    parser.add_argument("--reads", type=int, default=10_000)
    parser.add_argument("--max-side", type=int, help="pixels; where the shorter side is longer, frames shrink")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the record")
    parser.add_argument("--smoke", action="store_true", help=smoke.HELP)
    return parser


def main() -> None:
    options = parser().parse_args()
    with tempfile.TemporaryDirectory() as place:
        if options.data:
            paths = [path for path in sorted(options.data.rglob("*")) if path.suffix.lower() in ENDINGS]
        else:
            paths = make_clips(Path(place))
        measured = read_often(paths, options.reads, options.max_side)
    record = {"name": "video_reads", "machine": machine(), "clips": len(paths), "measured": measured}
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "video_reads.json").write_text(json.dumps(record, indent=1) + "\n")
    (options.out / "video_reads.txt").write_text(text(record))
    print(text(record))


def smoke_commands(folder: Path, out: Path) -> Iterator[list[str]]:
    yield ["--reads", "30", "--out", str(out)]


if __name__ == "__main__":
    smoke.start(main, smoke_commands)
