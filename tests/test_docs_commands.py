"""Commands that README and docs name: each is one that there is, with options and values that there are; and those of
README's first block run, one after the other, on small made-up images."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
from PIL import Image
from support.boxmaking import draw, write_coco
from support.photos import photo
from support.segmenting import write_pairs
from support.small import SMALL

from unmask.cli.main import PRINT, parse, run

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CONFIG = "--config"  # of a command: reads the file it names


def blocks(page):
    """The code blocks of a page that are not Python, as lists of lines; a line that ends in a backslash goes on."""
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M):
        if language != "python":
            yield re.sub(r"\\\n\s*", "", block).splitlines()


def commands(pattern):
    """Every line of the pages that has the pattern, by page, and its words from there on."""
    lines = [(page, line) for page in PAGES for block in blocks(page) for line in block]
    for page, line in lines:
        if match := re.match(pattern, line):
            yield pytest.param(shlex.split(line[match.end() :], comments=True), id=f"{page.stem}: {line[:90]}")


def mentioned(pattern):
    """Commands within the running text and in the comments that tell how a record was made."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for command in dict.fromkeys(re.findall(rf"[`>] ?{pattern}([^`\n]*)`", text)):
            yield pytest.param(shlex.split(command), id=f"{page.stem}: {command[:90]}")
        for command in dict.fromkeys(re.findall(rf"<!-- record \S+ {pattern}(.*?) -->", text)):
            yield pytest.param(shlex.split(command), id=f"{page.stem}, record: {command[:90]}")


@pytest.mark.parametrize("words", commands(r"(torchrun .* -m |srun .*|\s+--.* -m )?unmask "))
def test_every_command_parses(words):
    words = words[: words.index(">")] if ">" in words else words
    for option in (CONFIG, "--log-to"):  # of which one reads a file, and one needs packages
        if option in words:
            data = ["photos/"] if option == CONFIG else []  # the file names them
            words = words[: words.index(option)] + data + words[words.index(option) + 2 :]
    words = [word for word in words if word != PRINT]  # it would stop there
    parse(words)


def test_what_is_no_command_or_option_does_not_parse(capsys):
    with pytest.raises(ValueError, match="--draws takes a whole number"):
        parse(["evaluate", "run", "--draws", "many"])
    with pytest.raises(ValueError, match="unmask pretrain has no option --no-such-option"):
        parse(["pretrain", "photos/", "--no-such-option", "1"])
    with pytest.raises(ValueError, match="pretrain"):
        parse(["pretrein", "photos/"])
    with pytest.raises(ValueError, match="steps"):
        parse(["pretrain", "photos/", "--steps", "-3"])


@pytest.mark.parametrize("words", [*commands(r"python benchmarks/"), *mentioned(r"python benchmarks/")])
def test_every_benchmark_is_there_with_its_options(words):
    name, *rest = words
    spec = importlib.util.spec_from_file_location(f"benchmark_{Path(name).stem}", ROOT / "benchmarks" / name)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    end = rest.index("--") if "--" in rest else len(rest)
    script.parser().parse_args(rest[:end])
    if rest[end:]:  # options of unmask pretrain
        parse(["pretrain", "data/", *rest[end + 1 :]])


@pytest.mark.parametrize("words", [*commands(r"make "), *mentioned(r"make ")])
def test_every_target_of_make_is_there(words):
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    assert set(words) <= set(targets)


def small(*without):
    """The options of small models on a command line."""
    return [
        word
        for name, value in SMALL.items()
        if name not in without
        for word in (f"--{name.replace('_', '-')}", str(value))
    ]


TINY = {  # what is added to a command of README's first block, by its first words
    "pretrain": [*small(), "--steps", "2"],
    "evaluate": ["--draws", "1", "--labels-per-class", "2", "--device", "cpu"],
    "compare": [*small("decoder"), *"--hours None --images 16 --labels-per-class 2 --points 1".split()]
    + "--evaluators knn --finetune-epochs 1".split(),
    "transfer run --to classify": ["--epochs", "1", "--device", "cpu"],
    "transfer run --to segment": ["--epochs", "1", "--crop-size", "32", "--head", "linear", "--device", "cpu"],
    "transfer run --to detect": ["--epochs", "1", "--input-size", "64", "64", "--width", "16", "--device", "cpu"],
    "distil": ["--steps", "2", "--batch", "4", "--device", "cpu"],
    "labels": ["--labels-per-class", "2", "--draws", "1", "--epochs", "1", "--jobs", "1", "--device", "cpu"],
    "stress": ["--corruptions", "brightness", "--severities", "1", "--device", "cpu"],
    "map": ["--method", "pca", "--device", "cpu"],
    "select": ["--most", "3", "--device", "cpu"],
    "anomaly fit": ["--sets", "1", "--device", "cpu"],
    "anomaly apply": ["--heatmaps", "2", "--device", "cpu"],
}


@pytest.mark.slow
def test_the_first_commands_of_the_readme_run_one_after_the_other(tmp_path, labelled, monkeypatch, capsys):
    lines = [line for line in next(iter(blocks(PAGES[0]))) if line.startswith("unmask ")]
    assert len(lines) >= 15
    monkeypatch.chdir(tmp_path)
    make_data(tmp_path)
    for line in lines:
        words = shlex.split(line, comments=True)[1:]
        text = " ".join(words)
        more = next((more for start, more in TINY.items() if text.startswith(start)), [])
        code = run(words + more)
        assert code == 0 or words[0] == "doctor", f"{line} ended with {code}: {capsys.readouterr().out[-2000:]}"
    written = ["run/encoder.safetensors", "predictions.csv", "features.npz", "map.html", "photos.pack", "finder"]
    written += ["results/results.json", "run/classify", "run/segment", "run/detect"]
    assert not [name for name in written if not (tmp_path / name).exists()]


def make_data(root):
    """What the commands name: photos, a and b, images with boxes and with masks, normal and new ones. `labelled` is
    there."""
    for folder, count in (("photos", 12), ("new", 4), ("normal", 40)):
        (root / folder).mkdir()
        for seed in range(count):
            Image.fromarray(photo(seed)).save(root / folder / f"{seed:03d}.png")
    for seed, name in enumerate(("a.jpg", "b.jpg")):
        Image.fromarray(photo(seed)).save(root / name, quality=95)
    for first, (split, count) in zip((0, 6, 9), (("train", 6), ("val", 3), ("test", 3))):
        write_pairs(root / "scenes", count, split, first)
    made = draw(root / "boxes" / "images", 8)
    for split, scenes in (("train", made[:4]), ("val", made[4:6]), ("test", made[6:])):
        write_coco(root / "boxes", split, scenes)
