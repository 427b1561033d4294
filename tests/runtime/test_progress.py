"""What a terminal shows while something takes long: it fits the width, and moves; elsewhere there are plain lines."""

import fcntl
import io
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time

import pytest
from rich.console import Console
from support.photos import photo
from support.small import SMALL

from unmask.runtime import progress as shown
from unmask.runtime.progress import TrainingBar, doing, make_console, progress, stage, working

ESCAPES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")
QUIET = 4.0  # seconds of its own work that a process may go without a sign, on a slow and busy machine


def drawn(bar, width):
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    console.print(bar)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [40, 80, 120])
@pytest.mark.parametrize(
    ("step", "steps", "loss", "speed", "left"),
    [(3, 20, "", "", ""), (120, 2000, "0.4213", "812", "3:12"), (150_000, 1_000_000, "12.4213", "12345", "120:10:11")],
)
def test_the_line_of_a_training_fits_and_says_what_matters(step, steps, loss, speed, left, width):
    bar = TrainingBar(steps, step)
    bar.loss, bar.speed, bar.left = loss, speed, left
    (line,) = drawn(bar, width)
    assert len(line) < width
    wanted = [f"{100 * step // steps}%", loss, left] + ([speed] if len(left) < 9 or width > 40 else [])
    assert all(part in line for part in wanted), line
    assert width == 40 or f"step {step:,}/{steps:,}" in line
    if width == 120:
        assert "━" in line


def test_a_bar_and_the_words_of_what_is_done_take_turns(monkeypatch):
    file = io.StringIO()
    terminal = Console(file=file, width=60, force_terminal=True, color_system=None)
    monkeypatch.setattr(shown, "Lines", lambda **options: terminal)
    with working("loading PyTorch"):
        assert make_console() is terminal
        doing("measuring a few steps")
        with progress(terminal, "looking at the images", 10) as update:
            assert len(terminal._live_stack) == 1
            update(5)
        with stage(terminal, "placing images") as say:
            say("placing them again")
    assert shown._Terminal.status is None
    text = file.getvalue()
    for words in ("measuring a few steps", "looking at the images", "50%", "placing them again"):
        assert words in text, words
    assert max(len(line) for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\n", text).splitlines()) <= 60


def test_elsewhere_nothing_moves(capsys):
    with working("loading PyTorch"):
        doing("measuring")
        with progress(make_console(), "looking at the images", 10) as update:
            update(3)
        with stage(make_console(), "judging"):
            make_console().print("a line")
    assert capsys.readouterr().out.split("\n") == ["a line", "", ""] or "\x1b" not in capsys.readouterr().out


def on_terminal(words, columns, folder):
    """Runs a command on a terminal of so many columns: exit code, text, and its longest silence in seconds of work."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    env = {**os.environ, "TERM": "xterm-256color"} | {"OMP_NUM_THREADS": "1"}
    env = {name: value for name, value in env.items() if name not in ("COLUMNS", "LINES", "CI", "NO_COLOR")}
    command = [sys.executable, "-m", "unmask", *words]
    process = subprocess.Popen(command, stdin=child, stdout=child, stderr=child, cwd=folder, env=env)
    os.close(child)
    text, silence, before, until = b"", 0.0, 0.0, time.monotonic() + 300
    while time.monotonic() < until:
        ready, _, _ = select.select([parent], [], [], 0.1)
        try:
            part = os.read(parent, 65536) if ready else b""
        except OSError:
            break
        if part:
            worked = work_of(process.pid, before)
            silence, before, text = max(silence, worked - before), worked, text + part
        elif process.poll() is not None:
            break
    os.close(parent)
    return process.wait(30), ESCAPES.sub(b"", text).decode(), silence


def work_of(pid, otherwise):
    """CPU seconds of a process so far, which other programs on the machine do not lengthen."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return otherwise
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("columns", [40, 120])
def test_pretraining_on_a_terminal_is_never_silent_and_fits(columns, tmp_path):
    from PIL import Image

    (tmp_path / "photos").mkdir()
    for seed in range(12):
        Image.fromarray(photo(seed)).save(tmp_path / "photos" / f"{seed}.png")
    small = ["--model", SMALL["model"], "--image-size", "32", "--patch-size", "8", "--batch", "4", "--log-every", "5"]
    words = ["pretrain", "photos", "--out", "run", "--steps", "60", "--decoder", "full(dim=32, depth=1, heads=2)"]
    code, text, silence = on_terminal([*words, *small, "--device", "cpu", "--precision", "32"], columns, tmp_path)
    assert code == 0, text
    assert silence < QUIET, silence
    frames = [line.strip() for line in re.split(r"[\r\n]+", text)]
    bars = [line for line in frames if "100%" in line and "loss" in line]
    assert bars
    assert all(len(line) <= columns for line in bars), bars
    for words in ("loading PyTorch", "measuring a few steps", "writing the report"):
        assert any(words in line for line in frames), words
    table = text[text.index("Plan for") : text.index("Expected:")]
    assert max(len(line) for line in re.split(r"[\r\n]+", table)) <= columns


@pytest.mark.slow
def test_pretraining_into_a_pipe_prints_plain_lines(tmp_path):
    from PIL import Image

    (tmp_path / "photos").mkdir()
    for seed in range(12):
        Image.fromarray(photo(seed)).save(tmp_path / "photos" / f"{seed}.png")
    words = ["pretrain", "photos", "--out", "run", "--steps", "10", "--model", SMALL["model"], "--image-size", "32"]
    words += ["--patch-size", "8", "--batch", "4", "--log-every", "5", "--device", "cpu", "--precision", "32"]
    done = subprocess.run([sys.executable, "-m", "unmask", *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert "\r" not in done.stdout
    assert len(re.findall(r"^step \d+/10 · .* images/s .* left$", done.stdout, re.M)) == 2


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    from PIL import Image

    import unmask

    root = tmp_path_factory.mktemp("quiet")
    for seed in range(40):
        place = root / "images" / "ab"[seed % 2] / f"{seed}.png"
        place.parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(photo(seed)).save(place)
    unmask.pretrain(root / "images", out=root / "run", steps=2, **SMALL)
    return root


ON_CPU = ["--device", "cpu"]
COMMANDS = {  # words, and what its terminal says meanwhile
    "transfer": (
        ["run", "--on", "images", "--to", "classify", "--epochs", "2", "--workers", "0", *ON_CPU],
        ["looking at the labelled images", "measuring a few steps", "testing the model"],
    ),
    "evaluate": (
        ["run", "--on", "images", "--draws", "2", *ON_CPU],
        ["looking at the labelled data", "drawing the results"],
    ),
    "labels": (
        ["run", "--on", "images", "--draws", "1", "--fractions", "0.5", "--epochs", "1", *ON_CPU],
        ["trainings of the label curve", "drawing the curve"],
    ),
    "embed": (["run", "images", *ON_CPU], ["embedding"]),
    "search": (
        ["run", "images", "--query", "images/a/0.png", "--duplicates", *ON_CPU],
        ["indexing the images", "drawing the nearest images", "comparing all with all"],
    ),
    "map": (["run", "images", *ON_CPU], ["placing 40 images", "drawing the map"]),
    "anomaly": (
        ["fit", "run", "images/a", "--false-alarms", "0.2", *ON_CPU],
        ["learning what is normal", "calibrating the threshold"],
    ),
    "export": (
        ["run", "--to", "timm,onnx"],
        ["opening the model", "measuring the model's speed", "writing and checking timm", "writing and checking onnx"],
    ),
}


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_is_silent_on_a_terminal(name, small_run):
    words, stages = COMMANDS[name]
    code, text, silence = on_terminal([name, *words], 80, small_run)
    assert code == 0, text
    assert silence < QUIET, (silence, text)
    assert [stage for stage in ["loading PyTorch", *stages] if stage not in text] == [], text
