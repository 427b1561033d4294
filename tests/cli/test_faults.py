"""What may go wrong around a command: names with brackets, terminals without Unicode, readers that leave, folders and
data that move or vanish, disks and memory that end. Each is a sentence, or nothing at all, and never a traceback."""

import errno
import io
import os
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from rich.table import Table
from support.photos import photo
from support.small import SMALL

import unmask
from unmask.cli import main as command_line
from unmask.cli.continue_run import own, own_file, refuse_other_settings
from unmask.cli.foreign_errors import in_our_words
from unmask.data.datasets.images import Samples
from unmask.data.loaders.map_style import in_one_line
from unmask.data.source import open_source
from unmask.errors import DataError, Lost, Unsaved, UserError
from unmask.files import MARK, write_atomically, write_json
from unmask.models import sizes
from unmask.models.encoder import create_encoder
from unmask.runtime.progress import Lines, progress, settle_streams
from unmask.training.rollback import wrecked


def run(*arguments):
    """The exit code of a command in this process."""
    with pytest.raises(SystemExit) as caught:
        command_line.main([str(argument) for argument in arguments])
    return caught.value.code


def test_names_with_brackets_and_colons_are_printed_as_they_are():
    console = Lines(width=100)
    console.file = io.StringIO()
    for name in ("a[/red].png", "[bold]x.jpg", ":smile:.png", "[link=x]y"):
        console.print(name)
        with progress(console, name) as update:
            update(1, words=name)
    assert console.file.getvalue().split() == ["a[/red].png", "[bold]x.jpg", ":smile:.png", "[link=x]y"]


def test_control_characters_in_names_do_nothing_to_the_terminal():
    console = Lines(width=100)
    console.file = io.StringIO()
    table = Table("name")
    table.add_row("c\x1b[2Jd.png")
    console.print("a\x1b[31mred\x07.png\t\x9b2J", soft_wrap=True)
    console.print(table)
    printed = console.file.getvalue()
    assert r"a\x1b[31mred\x07.png" in printed
    assert r"c\x1b[2Jd.png" in printed
    assert not {"\x1b", "\x07", "\x9b"} & set(printed)


def test_a_terminal_without_unicode_gets_signs_that_it_has(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    settle_streams()
    stream.write("step 1 · 4 ≥ 3 → größe \udcff")
    stream.flush()
    assert stream.buffer.getvalue() == rb"step 1 - 4 >= 3 -> gr\xf6\xdfe \udcff"


def test_a_reader_that_leaves_does_not_end_the_work(monkeypatch):
    class Gone(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    console = Lines()
    console.file = Gone()
    monkeypatch.setattr("unmask.runtime.progress.drop_output", lambda: None)
    console.print("one")
    console.print("two")
    assert console.quiet


@pytest.mark.parametrize(("code", "exit_code"), [(errno.ENOSPC, 6), (errno.EDQUOT, 6), (errno.EACCES, 2)])
def test_a_full_disk_is_exit_code_six(monkeypatch, capsys, code, exit_code):
    def full(arguments):
        raise OSError(code, os.strerror(code), "place/file")

    monkeypatch.setattr(command_line, "run", full)
    assert run("doctor") == exit_code
    assert capsys.readouterr().err == f"unmask: place/file: {os.strerror(code)}\n"


class Full(io.RawIOBase):
    """A file on a disk that fills up."""

    def write(self, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def rust(part):
    raise Exception("Error while serializing: I/O error: No space left on device (os error 28)")


def written_by_torch(part):
    part.write_bytes(b"half")
    torch.save({"a": torch.zeros(10_000)}, Full())


@pytest.mark.parametrize("write", [rust, written_by_torch])
def test_a_full_disk_is_an_os_error_whatever_a_library_makes_of_it_and_nothing_stays(tmp_path, write):
    with pytest.raises(OSError, match="No space left") as caught:
        write_atomically(tmp_path / "last.ckpt", write)
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


def test_json_can_hold_names_that_are_no_text(tmp_path):
    write_json(tmp_path / "a.json", {"path": "x\udcff.jpg"})
    assert b"udcff" in (tmp_path / "a.json").read_bytes()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate"), UserError),
        (MemoryError(), UserError),
        (RuntimeError("can't start new thread"), UserError),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), UserError),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. "), Lost),
        (Exception("Error while serializing: I/O error: No space left on device (os error 28)"), Unsaved),
        (RecursionError("maximum recursion depth exceeded while decoding a JSON array"), UserError),
        (RecursionError("maximum recursion depth exceeded"), type(None)),
        (RuntimeError("a bug"), type(None)),
        (Lost("out of memory is a word of mine"), type(None)),
        (UserError("out of memory is a word of mine"), type(None)),
    ],
)
def test_what_a_machine_refuses_is_told_in_a_line(error, kind):
    ours = in_our_words(error)
    assert type(ours) is kind
    assert "\n" not in str(ours)


def test_sizes_that_cannot_fit_are_refused_before_anything_is_allocated(monkeypatch):
    monkeypatch.setattr(sizes, "memory_here", lambda: 12 * 2**30)
    tiny = "vit_tiny_patch16_224(depth=2, embed_dim=48, num_heads=3)"
    for model, size, reason in (
        (tiny, 100_000, "one image of 100,000 x 100,000 pixels, in 156,250,000 patches, takes at least"),
        ("vit_tiny_patch16_224(depth=9999, embed_dim=192)", 32, "with depth 9,999, width 192 takes at least"),
        ("vit_tiny_patch16_224(depth=100000)", 32, "depth must be at most 10,000, got 100,000"),
        ("vit_tiny_patch16_224(embed_dim=1000000)", 32, "takes at least"),
        ("vit_tiny_patch16_224(embed_dim=0)", 32, "embed_dim of vit_tiny_patch16_224 is a whole number, 1 or more"),
        ("vit_tiny_patch16_224(embed_dim=50, num_heads=3)", 32, "cannot be shared by num_heads=3"),
        ("vit_tiny_patch16_224(depth='a')", 32, "depth of vit_tiny_patch16_224 is a whole number"),
    ):
        with pytest.raises(UserError, match=reason):
            create_encoder(model, image_size=(size, size), patch_size=8)


@pytest.fixture
def classes(tmp_path):
    """Two class folders of 12 images each."""
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for seed in range(12):
            Image.fromarray(photo(seed)).save(tmp_path / "data" / name / f"{seed:02d}.png")
    return tmp_path / "data"


def test_what_a_worker_raises_is_said_in_one_line():
    def batches():
        raise DataError(
            "Caught DataError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  File x\n"
            "unmask.errors.DataError: no image of 24 can be used any more\n"
        )
        yield {}

    with pytest.raises(DataError) as caught:
        next(in_one_line(batches()))
    assert str(caught.value) == "no image of 24 can be used any more"


def test_a_list_with_a_nul_byte_has_bad_images_and_no_traceback(tmp_path):
    (tmp_path / "x.txt").write_bytes(b"a\0b.jpg\nc.jpg\n")
    samples = Samples(open_source(str(tmp_path / "x.txt")), range(2), channels=3)
    with pytest.raises(DataError, match="no path of a file"):
        samples.image(0)


def test_a_run_among_its_own_images_is_no_data(classes):
    (classes / "run" / "film").mkdir(parents=True)
    Image.fromarray(photo(0)).save(classes / "run" / "film" / "1.png")
    assert len(open_source(str(classes)).items) == 25
    (classes / "run" / MARK).touch()
    source = open_source(str(classes))
    assert len(source.items) == 24
    assert source.remarks == ["the folder run was written by unmask and is no part of the data"]
    assert len(open_source(str(classes / "run")).items) == 1  # whoever names it means it


def test_results_are_not_written_into_the_data_or_over_what_is_read(classes):
    with pytest.raises(UserError, match="is the data itself"):
        own(classes, "search", [str(classes)])
    for place in (classes, classes / "a" / "00.png"):
        with pytest.raises(UserError, match="is what is read"):
            own_file(classes / "a" / "00.png", "show", [place])
    own_file(classes / "a" / "new.png", "show", [classes])


def test_data_that_moved_is_gone_on_with_and_data_that_is_still_there_is_not(tmp_path):
    (tmp_path / "new").mkdir()
    then, now = {"data": [str(tmp_path / "old")], "lr": 1}, {"data": [str(tmp_path / "new")], "lr": 1}
    (sentence,) = refuse_other_settings(now, then, {}, tmp_path, ["data"])
    assert sentence == f"{tmp_path / 'old'} is now {tmp_path / 'new'}: the run goes on with it"
    (tmp_path / "old").mkdir()
    with pytest.raises(UserError, match="other settings"):
        refuse_other_settings(now, then, {}, tmp_path, ["data"])


@pytest.mark.slow
def test_a_run_goes_on_where_it_and_its_data_moved_and_writes_a_report_that_is_missing(classes, tmp_path, capsys):
    unmask.pretrain(classes, out=tmp_path / "run", steps=2, **SMALL)
    shutil.move(tmp_path / "run", tmp_path / "moved run")
    shutil.move(classes, tmp_path / "moved data")
    for name in ("summary.json", "report.html"):
        (tmp_path / "moved run" / name).unlink()
    for _ in range(2):
        unmask.pretrain(tmp_path / "moved data", out=tmp_path / "moved run", steps=2, **SMALL)
        said = capsys.readouterr().out
    assert "is now" not in said  # it was written down the first time
    (tmp_path / "moved run" / "report.html").unlink()
    unmask.pretrain(tmp_path / "moved data", out=tmp_path / "moved run", steps=2, **SMALL)
    assert "finished; nothing to do" in capsys.readouterr().out
    assert (tmp_path / "moved run" / "report.html").exists()
    (tmp_path / "moved run" / "encoder.safetensors").unlink()
    unmask.pretrain(tmp_path / "moved data", out=tmp_path / "moved run", steps=2, **SMALL)
    assert "nothing to do" not in capsys.readouterr().out
    assert (tmp_path / "moved run" / "encoder.safetensors").exists()


def test_what_a_killed_beginning_left_is_no_reason_to_refuse(classes, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    for name in (".config.json.part", MARK):
        (out / name).write_text("{")
    unmask.pretrain(classes, out=out, steps=1, **SMALL)
    assert not (out / ".config.json.part").exists()


@pytest.mark.parametrize(("weights", "words"), [(1.0, None), (1e29, "are as large as 1e+29"), (np.nan, "not finite")])
def test_wrecked_weights_are_not_called_good(weights, words):
    layer = torch.nn.Linear(2, 2)
    torch.nn.init.constant_(layer.weight, weights)
    said = wrecked(layer)
    assert said == words or words in said


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"task": "classify", "settings": null}', "is no configuration of a run"),
        (b'{"task": "classify", "settings": {"batch": "abc"}}', "batch is 'abc', which --batch cannot be"),
        (b'{"task": "classify", "settings": {"epochs": [1]}}', r"epochs is \[1\], which --epochs cannot be"),
        (b'{"task": "classify", "settings": {"relative": 1}}', "relative is 1"),
        (b'{"task": "classify", "settings": {"betas": "x"}}', "betas is 'x'"),
        (b'{"task": "classify", "settings": {"flip": "maybe"}}', "flip is 'maybe'"),
        (b"\xd6\xff", "is no configuration of a run"),
        (b"[" * 100_000, "is no configuration of a run"),
        (b"[1]", "is no configuration of a run|is damaged"),
        (b"null", "is no configuration of a run|is damaged"),
        (b"", "is no configuration of a run"),
    ],
)
def test_a_configuration_with_values_of_other_types_is_refused_by_name(tmp_path, content, reason):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(UserError, match=reason):
        unmask.transfer("run", on="data", config=tmp_path / "config.json")
