"""Hostile tables and folders: nested or swollen JSON, YAML and XML, deep folders. Each is refused in a line."""

import os
import subprocess
import sys
import textwrap

import pytest
from support.hostile import little, png

import unmask
from unmask.data.annotations.coco_tables import read_table
from unmask.data.annotations.formats.voc import Voc
from unmask.data.annotations.formats.yolo import Yolo
from unmask.data.annotations.legend import parse_yaml, read_legend
from unmask.data.annotations.objects import walk
from unmask.data.source import open_source
from unmask.errors import DataError, UserError
from unmask.files import parse_json, read_json


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, '{"images": ' + "[" * 100_000])
def test_nested_json_is_refused(text, tmp_path):
    (tmp_path / "x.json").write_text(text)
    with little():
        with pytest.raises(ValueError, match="nested too deeply"):
            parse_json(text)
        with pytest.raises(ValueError, match="nested too deeply"):
            read_table(str(tmp_path / "x.json"))
        for read in (read_json, read_legend):
            with pytest.raises(UserError, match="nested too deeply"):
                read(tmp_path / "x.json")


def test_no_json_is_read_elsewhere():
    """Every file is read by `parse_json`: json's own error for deep nesting is caught by nobody."""
    root = unmask.__file__.rpartition("/")[0]
    files = subprocess.run(["grep", "-rlE", r"json\.loads?\(", root, "--include=*.py"], capture_output=True, text=True)
    assert sorted(os.path.relpath(path, root) for path in files.stdout.split()) == [
        "files.py",
        "studies/ablation/axes.py",  # a file of the package itself
    ]


LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [*{a}, *{a}, *{a}, *{a}, *{a}, *{a}]\n" for a, b in zip("abcdefghi", "bcdefghij")
)


@pytest.mark.parametrize("text", [LAUGHS + "names: *j\n", "[" * 5000, "names: [" + "a, " * 600_000 + "]"])
def test_yaml_that_stands_for_far_more_is_refused(text, tmp_path):
    (tmp_path / "data.yaml").write_text(text + "\ntrain: images\n")
    with little():
        with pytest.raises(ValueError, match=r"aliases|nested too deeply|characters of YAML"):
            parse_yaml(text)
        with pytest.raises(DataError):
            Yolo.read(str(tmp_path), [str(tmp_path / "data.yaml")], None)


def test_a_yaml_of_a_billion_classes_is_refused(tmp_path):
    (tmp_path / "data.yaml").write_text("nc: 1000000000\ntrain: images\n")
    with little(), pytest.raises(DataError, match="nc is 1000000000"):
        Yolo.read(str(tmp_path), [str(tmp_path / "data.yaml")], None)


ENTITIES = '<!DOCTYPE x [<!ENTITY a "ha">' + "".join(
    f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi")
)


@pytest.mark.parametrize(
    "xml",
    [
        ENTITIES + "]><annotation><filename>&i;</filename></annotation>",
        '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><annotation><filename>&a;</filename></annotation>',
        "<annotation>" + "<a>" * 6_000_000 + "</annotation>",
    ],
)
def test_xml_with_entities_or_of_great_size_loses_that_image_only(xml, tmp_path):
    (tmp_path / "bad.xml").write_text(xml)
    box = "<object><name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox></object>"
    (tmp_path / "good.xml").write_text(f"<annotation><filename>good.png</filename>{box}</annotation>")
    for name in ("good", "bad"):
        (tmp_path / f"{name}.png").write_bytes(png())
    with little():
        annotated = Voc.read(str(tmp_path), [str(tmp_path)], None)
    assert [scene.name for scene in annotated.scenes] == ["good.png"]
    assert [fault.kind for fault in annotated.faults] == ["unreadable file"]
    assert "root:" not in str(annotated.faults)


def test_deep_folders_and_links_in_circles_end(tmp_path):
    (tmp_path / "1.png").write_bytes(png())
    here = os.getcwd()
    try:
        os.chdir(tmp_path)
        for _ in range(1500):  # far longer than any path may be
            os.mkdir("deep")
            os.chdir("deep")
    finally:
        os.chdir(here)
    for number in range(12):
        (tmp_path / f"link{number}").symlink_to(tmp_path)
    with little():
        source = open_source(tmp_path)
        assert [item.name for item in source.items] == ["1.png"]
        assert any("cannot be listed" in remark for remark in source.remarks)
        assert list(walk(str(tmp_path), lambda name: name.endswith(".png"))) == [str(tmp_path / "1.png")]
    subprocess.run(["rm", "-rf", str(tmp_path / "deep")], check=True)  # shutil would recurse


@pytest.mark.slow
def test_the_command_says_it_in_one_line(tmp_path):
    for number in range(20):
        (tmp_path / f"{number}.png").write_bytes(png((64, 64)))
    (tmp_path / "instances_train.json").write_text('{"images":' + "[" * 100_000)
    script = textwrap.dedent(
        f"""
        import resource
        resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
        from unmask.cli.main import main
        main(["transfer", "vit_tiny_patch16_224", "--init", "none", "--to", "detect", "--on", {str(tmp_path)!r}])
        """
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert "Traceback" not in done.stderr
    assert done.returncode in (2, 3)
