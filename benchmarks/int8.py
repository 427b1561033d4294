"""What int8 costs: features of ONNX files with weights of 8 and of 7 bits beside float32, and their speed.

    python benchmarks/int8.py RUN [RUN ...] --images IMAGES    # runs of unmask pretrain, images to read
    python benchmarks/int8.py --smoke                            # a tiny encoder without training, in seconds

x86 CPUs without VNNI add two products of bytes in 16 bits, which saturate with weights of 8 bits
(unmask.export.quantization).
The column "without VNNI" is computed as such a CPU would, in numpy, whatever this CPU is, on the first 8 images,
and in brackets stands what this CPU gives on them; for static files, which hold no integer products before
onnxruntime joins them, it is left out. Errors are relative: the norm of the difference of the features over the norm
of what varies in the float32 features from image to image. "Same neighbour" is the share of images whose
nearest other image, by cosine, stays the same. Times are medians for one image, one thread; the files take turns.
"""

import argparse
import contextlib
import io
import statistics
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from unmask import registry
from unmask.export import quantization
from unmask.export import subject as subjects
from unmask.export.exportable import Exportable
from unmask.models.encoder import create_encoder
from unmask.runs.run import Run
from unmask.tasks.open import load

SLOW = 8  # images of the numpy computation
CALIBRATED = subjects.IMAGES  # as many images give an export its static scales


class MatMulInteger(OpRun):
    """Products of unsigned by signed bytes as x86 CPUs without VNNI form them: pairs are added in 16 bits."""

    op_domain = ""

    def _run(self, a: Any, b: Any, a_zero_point: Any = 0, b_zero_point: Any = 0) -> tuple[np.ndarray]:
        """a: ... m k, uint8; b: k n, int8 with zero points 0. The zero point of a is taken off after the sums."""
        assert a.dtype == np.uint8
        assert b.dtype == np.int8
        assert not np.any(b_zero_point)
        taken_off = np.int32(a_zero_point) * b.sum(axis=0, dtype=np.int32)
        return (pairwise(a, b) - taken_off,)


def pairwise(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The product of a (... m k, uint8) and b (k n, int8), int32; sums of two neighbouring products saturate."""
    a, b = a.astype(np.int32), b.astype(np.int32)
    total = np.zeros((*a.shape[:-1], b.shape[1]), np.int32)
    for k in range(0, len(b), 2):
        pair = a[..., k, None] * b[k]
        if k + 1 < len(b):
            pair += a[..., k + 1, None] * b[k + 1]
        total += pair.clip(-32768, 32767)
    return total


@contextmanager
def bits(number: int) -> Any:
    """Weights are quantised to 8 or 7 bits within."""
    before = dict(quantization.SCHEME)
    quantization.SCHEME["reduce_range"] = number == 7
    try:
        yield
    finally:
        quantization.SCHEME.update(before)


def written(subject: Exportable, folder: Path) -> dict[str, Path]:
    """The files to compare, by name; 7 bits, dynamic is what `unmask export` writes."""
    registry.find("export", "onnx")().write(subject, folder)
    source = folder / "model-fp32.onnx"
    paths = {"float32": source}
    for scales in ("dynamic", "static"):
        for number in (8, 7):
            name = f"{number} bits, {scales}"
            paths[name] = folder / f"{name.replace(', ', '-').replace(' ', '-')}.onnx"
            other = Exportable(subject.model, subject.config, subject.images[:CALIBRATED], quantize=scales)
            with bits(number):
                quantization.quantize(source, paths[name], other, "pixels", large=False)
    return paths


def latencies(sessions: dict[str, onnxruntime.InferenceSession], image: np.ndarray, rounds: int) -> dict[str, float]:
    """Milliseconds for one image by name: medians of rounds in which all take their turn."""
    times: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(rounds):
        for name, session in sessions.items():
            start = time.perf_counter()
            session.run(None, {"pixels": image})
            times[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(values[len(values) // 10 :]) for name, values in times.items()}


def features(session: Any, images: np.ndarray) -> np.ndarray:
    """Mean patch tokens, n d; output 1 of an encoder's file."""
    return np.concatenate([session.run(["features"], {"pixels": images[i : i + 1]})[0] for i in range(len(images))])


def error(got: np.ndarray, right: np.ndarray, mean: np.ndarray) -> float:
    return float(np.linalg.norm(got - right) / np.linalg.norm(right - mean))


def neighbours(x: np.ndarray, mean: np.ndarray) -> np.ndarray:
    x = (x - mean) / np.linalg.norm(x - mean, axis=1, keepdims=True)
    likeness = x @ x.T
    np.fill_diagonal(likeness, -2)
    return likeness.argmax(axis=1)


def measure(name: str, subject: Exportable, rounds: int) -> None:
    """Prints a table of Markdown."""
    images = subject.images.numpy()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        paths = written(subject, Path(folder))
        sessions = {n: onnxruntime.InferenceSession(p, options) for n, p in paths.items()}
        right = features(sessions["float32"], images)
        mean = right.mean(axis=0)
        times = latencies(sessions, images[:1], rounds)
        print(f"\n{name}, {len(images)} images of {subject.size[0]} x {subject.size[1]}\n")
        print("| weights | relative error | without VNNI (here) | same neighbour | median |\n|---|---|---|---|---|")
        for file, session in sessions.items():
            got, slow = features(session, images), ""
            if "dynamic" in file:
                evaluator = ReferenceEvaluator(onnx.load(paths[file]), new_ops=[MatMulInteger])
                without = error(features(evaluator, images[:SLOW]), right[:SLOW], mean)
                slow = f"{without:.3f} ({error(got[:SLOW], right[:SLOW], mean):.3f})"
            same = (neighbours(got, mean) == neighbours(right, mean)).mean()
            print(f"| {file} | {error(got, right, mean):.3f} | {slow} | {100 * same:.0f} % | {times[file]:.2f} ms |")


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", help="folders of unmask pretrain")
    parser.add_argument("--images", default="demo", help="images to read")
    parser.add_argument("--count", type=int, default=128, help="images that errors are measured on")
    parser.add_argument("--rounds", type=int, default=50, help="turns of each file")
    parser.add_argument("--smoke", action="store_true", help="a tiny encoder without training")
    parser.add_argument("--out", type=Path, help="folder for int8.txt, what is printed")
    return parser


def main() -> None:
    given = parser().parse_args()
    torch.set_num_threads(1)
    if given.out is None:
        return run(given)
    given.out.mkdir(parents=True, exist_ok=True)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            run(given)
    finally:
        print(printed.getvalue(), end="")
        (given.out / "int8.txt").write_text(printed.getvalue(), encoding="utf-8")


def run(given: argparse.Namespace) -> None:
    subjects.IMAGES = given.count  # of its check, otherwise
    if given.smoke:
        print("smoke run, the figures mean nothing")
        torch.manual_seed(0)
        model = "vit_tiny_patch16_224(depth=1, embed_dim=48, num_heads=3)"
        encoder = create_encoder(model, image_size=(32, 32), patch_size=8, mean=(120.0,) * 3, std=(60.0,) * 3).eval()
        measure("smoke", Exportable(encoder, {}, torch.rand(8, 3, 32, 32) * 255), rounds=3)
    elif not given.runs:
        parser().error("name a run, or --smoke")
    for path in given.runs if not given.smoke else ():
        options = {"normalize": "inside", "quantize": "dynamic", "precision": ("fp32", "int8"), "seed": 0}
        opened, _ = subjects.open_subject(Run(Path(path)), load(path), (given.images,), **options)
        measure(Path(path).name, opened, given.rounds)


if __name__ == "__main__":
    main()
